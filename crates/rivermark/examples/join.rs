//! A join of two streams by key: each payment beside the order that it pays, whichever comes first. What waits longer than an
//! hour for the other is forgotten. `cargo run --example join`

use rivermark::prelude::*;
use std::process::ExitCode;

/// Number and item.
type Order = (u32, String);
/// Number of the order and cents.
type Payment = (u32, u64);

/// An order waits for its payment, or a payment for its order.
#[derive(Default)]
struct Pair {
    order: TtlValueState<u32, String>,
    payment: TtlValueState<u32, u64>,
}

impl KeyedOp2<u32, Order, Payment, String> for Pair {
    fn open(&mut self, cx: &mut KeyedOpenCx<'_, u32>) -> Result<()> {
        let an_hour = StateTtl::new(Duration::from_secs(3_600));
        self.order = cx.with_ttl(an_hour).value("order")?;
        self.payment = cx.with_ttl(an_hour).value("payment")?;
        Ok(())
    }
    fn left(&mut self, key: &Key<u32>, order: Timed<Order>, out: &mut Out<String>) -> Result<()> {
        match self.payment.clear(key) {
            Some(cents) => out.emit(paid(key.value, &order.value.1, cents)),
            None => drop(self.order.set(key, order.value.1)),
        }
        Ok(())
    }
    fn right(&mut self, key: &Key<u32>, payment: Timed<Payment>, out: &mut Out<String>) -> Result<()> {
        match self.order.clear(key) {
            Some(item) => out.emit(paid(key.value, &item, payment.value.1)),
            None => drop(self.payment.set(key, payment.value.1)),
        }
        Ok(())
    }
}

fn paid(number: u32, item: &str, cents: u64) -> String {
    format!("order {number}: {item}, paid {}.{:02}", cents / 100, cents % 100)
}

fn main() -> ExitCode {
    rivermark::run(|env| {
        let items = ["tea", "rice", "salt", "soap"].map(str::to_owned);
        let orders = env.from_collection((1..).zip(items).collect::<Vec<Order>>());
        let payments = env.from_collection(vec![(3, 120), (1, 450), (4, 99)]);
        let orders = orders.uid("orders").key_by(|order: &Order| order.0);
        let payments = payments.uid("payments").key_by(|payment: &Payment| payment.0);
        let paid = orders.connect(payments).process(Pair::default).uid("paid");
        paid.sink_to(PrintSink::new(String::clone));
        Ok(())
    })
}
