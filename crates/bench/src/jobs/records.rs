//! What flows through jobs and limits alike.

use serde::{Deserialize, Serialize};

/// A well-mixed number from a number: the key of an event.
#[inline(always)]
pub fn splitmix64(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// The text of a key: 24 letters and digits.
#[inline(always)]
pub fn key_text(key: u64) -> [u8; 24] {
    let mut text = *b"account-0000000000000000";
    let spread = |word: u32| {
        // Each half byte into a byte of its own, the highest first.
        let wide = u64::from(word);
        let wide = (wide | (wide << 16)) & 0x0000_FFFF_0000_FFFF;
        let wide = (wide | (wide << 8)) & 0x00FF_00FF_00FF_00FF;
        let wide = (wide | (wide << 4)) & 0x0F0F_0F0F_0F0F_0F0F;
        // 'a' to 'p': a letter a half byte.
        (wide + 0x6161_6161_6161_6161).to_be_bytes()
    };
    text[8..16].copy_from_slice(&spread((key >> 32) as u32));
    text[16..].copy_from_slice(&spread(key as u32));
    text
}

/// A payment: 40 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payment {
    /// From whom: the key.
    pub account: u64,
    /// To whom.
    pub shop: u64,
    /// How much.
    pub cents: u64,
    /// What it cost.
    pub fee: u64,
    /// When, in milliseconds.
    pub at: i64,
}

impl Payment {
    /// Payment number `number`.
    #[inline(always)]
    pub fn number(number: u64, accounts: u64) -> Payment {
        let mixed = splitmix64(number);
        Payment {
            account: mixed % accounts,
            shop: mixed >> 48,
            cents: mixed >> 40 & 0xFFFF,
            fee: mixed >> 60,
            at: number as i64 / 100,
        }
    }
}

/// What is known of an account: 64 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Payments.
    pub payments: u64,
    /// Their sum.
    pub cents: u64,
    /// What they cost.
    pub fees: u64,
    /// The largest.
    pub largest: u64,
    /// The one before the last.
    pub last_but_one: u64,
    /// The last.
    pub last: u64,
    /// The last shop.
    pub shop: u64,
    /// When the last was, in milliseconds.
    pub at: i64,
}

impl Account {
    /// Takes a payment in.
    #[inline(always)]
    pub fn add(&mut self, payment: &Payment) {
        self.payments += 1;
        self.cents += payment.cents;
        self.fees += payment.fee;
        self.largest = self.largest.max(payment.cents);
        self.last_but_one = self.last;
        self.last = payment.cents;
        self.shop = payment.shop;
        self.at = payment.at;
    }
}

/// What a sensor says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// Which sensor: the key.
    pub sensor: u32,
    /// What it measured.
    pub value: u32,
    /// When, in milliseconds.
    pub at: i64,
}

impl Reading {
    /// Reading number `number`: a hundred a millisecond.
    #[inline(always)]
    pub fn number(number: u64, sensors: u64) -> Reading {
        let mixed = splitmix64(number);
        Reading {
            sensor: (mixed % sensors) as u32,
            value: (mixed >> 48) as u32,
            at: (number / 100) as i64,
        }
    }
}

/// The length of the windows, in milliseconds.
pub const WINDOW_MS: i64 = 10_000;
/// Events of all subtasks together between two watermarks.
pub const EVENTS_PER_WATERMARK: u64 = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_have_the_sizes_they_are_measured_at() {
        assert_eq!(size_of::<Payment>(), 40);
        assert_eq!(size_of::<Account>(), 64);
        assert_eq!(size_of::<Reading>(), 16);
    }

    #[test]
    fn texts_of_keys_are_text_and_differ() {
        let texts: std::collections::BTreeSet<_> = (0..10_000).map(key_text).collect();
        assert_eq!(texts.len(), 10_000);
        assert_eq!(
            std::str::from_utf8(&key_text(0xF0)).unwrap(),
            "account-aaaaaaaaaaaaaapa"
        );
    }
}
