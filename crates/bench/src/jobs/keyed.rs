//! A running value for each key, one output an input.

use super::records::{Account, Payment, key_text, splitmix64};
use rivermark::prelude::*;

/// Counts the records of each number.
#[derive(Default)]
struct CountNumbers {
    count: ValueState<u64, u64>,
}

impl KeyedOp<u64, u64, (u64, u64)> for CountNumbers {
    fn open(&mut self, cx: &mut KeyedOpenCx<'_, u64>) -> Result<()> {
        self.count = cx.value("count")?;
        Ok(())
    }
    fn row(&mut self, key: &Key<u64>, _: Timed<u64>, out: &mut Out<(u64, u64)>) -> Result<()> {
        let count = self.count.update(key);
        *count += 1;
        out.emit((**key, *count));
        Ok(())
    }
}

/// Counts by a number.
pub fn by_number(env: &StreamEnv, keys: u64) {
    env.from_source(endless_sequence(), WatermarkStrategy::none())
        .uid("numbers")
        .map(move |number| splitmix64(number) % keys)
        .key_by(|key| *key)
        .process(CountNumbers::default)
        .uid("count")
        .discard();
}

/// The type of text keys.
pub type Name = Text;

/// Counts the records of each name.
#[derive(Default)]
struct CountNames {
    count: ValueState<Name, u64>,
}

impl KeyedOp<Name, Name, (Name, u64)> for CountNames {
    fn open(&mut self, cx: &mut KeyedOpenCx<'_, Name>) -> Result<()> {
        self.count = cx.value("count")?;
        Ok(())
    }
    fn row(&mut self, key: &Key<Name>, name: Timed<Name>, out: &mut Out<(Name, u64)>) -> Result<()> {
        let count = self.count.update(key);
        *count += 1;
        out.emit((name.value, *count));
        Ok(())
    }
}

/// The name with a number: 24 letters.
#[inline(always)]
fn name(number: u64) -> Name {
    let text = key_text(number);
    Name::from(std::str::from_utf8(&text).unwrap_or_default())
}

/// Counts by a text of 24 letters.
pub fn by_text(env: &StreamEnv, keys: u64) {
    env.from_source(endless_sequence(), WatermarkStrategy::none())
        .uid("numbers")
        .map(move |number| name(splitmix64(number) % keys))
        .key_by(|name| name.clone())
        .process(CountNames::default)
        .uid("count")
        .discard();
}

/// Keeps the books of each account.
#[derive(Default)]
struct Books {
    account: ValueState<u64, Account>,
}

impl KeyedOp<u64, Payment, (u64, u64)> for Books {
    fn open(&mut self, cx: &mut KeyedOpenCx<'_, u64>) -> Result<()> {
        self.account = cx.value("account")?;
        Ok(())
    }
    fn row(&mut self, key: &Key<u64>, payment: Timed<Payment>, out: &mut Out<(u64, u64)>) -> Result<()> {
        let account = self.account.update(key);
        account.add(&payment.value);
        out.emit((**key, account.payments));
        Ok(())
    }
}

/// Books payments of 40 bytes to accounts of 64 bytes.
pub fn by_struct(env: &StreamEnv, keys: u64) {
    let payments = GeneratorSource::endless(move |number| Payment::number(number, keys));
    env.from_source(payments, WatermarkStrategy::none())
        .uid("payments")
        .key_by(|payment| payment.account)
        .process(Books::default)
        .uid("books")
        .discard();
}
