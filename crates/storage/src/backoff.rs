//! How long to wait before a call to a store is repeated.

use std::time::Duration;

/// The wait before try `tries + 1`: `first`, doubled with every try up to `longest`, of which `random` takes up to a half, so
/// that those who were refused at the same time do not come back at the same time.
pub fn backoff(first: Duration, longest: Duration, tries: u32, random: u64) -> Duration {
    let whole = first.saturating_mul(1 << tries.min(20)).min(longest);
    let half = u64::try_from(whole.as_micros() / 2).unwrap_or(u64::MAX - 1);
    whole - Duration::from_micros(random % (half + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FIRST: Duration = Duration::from_millis(20);
    const LONGEST: Duration = Duration::from_secs(5);

    proptest! {
        #[test]
        fn a_wait_is_at_least_half_of_what_it_may_be(tries in 0u32..100, random: u64) {
            let wait = backoff(FIRST, LONGEST, tries, random);
            let whole = backoff(FIRST, LONGEST, tries, 0);
            prop_assert!(whole / 2 <= wait && wait <= whole);
        }
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let waits = [0, 1, 2, 7, 8, 40, u32::MAX].map(|tries| backoff(FIRST, LONGEST, tries, 0).as_millis());
        assert_eq!(waits, [20, 40, 80, 2560, 5000, 5000, 5000]);
    }
}
