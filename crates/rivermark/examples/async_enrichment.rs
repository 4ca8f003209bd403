//! Each order beside what a slow service says of its customer, many calls at once. `cargo run --example async_enrichment`

use rivermark::prelude::*;
use std::io;
use std::process::ExitCode;

/// Number and customer.
type Order = (u32, u32);

/// Stands for a client of another service. It knows no customer 3.
async fn name_of(customer: u32) -> Result<String, io::Error> {
    let names = ["Ann", "Bob", "Cid"];
    let name = names.get(customer as usize).map(|name| (*name).to_owned());
    name.ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::NotFound,
            format!("there is no customer {customer}"),
        )
    })
}

/// What to say of an order, whoever has it.
async fn enrich((number, customer): Order) -> Result<String, io::Error> {
    match name_of(customer).await {
        Ok(name) => Ok(format!("order {number} is {name}'s")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(format!("order {number}: {error}")),
        // Others fail the attempt, after the retries.
        Err(error) => Err(error),
    }
}

fn main() -> ExitCode {
    rivermark::run(|env| {
        let orders: Vec<Order> = vec![(1, 2), (2, 0), (3, 3), (4, 2)];
        env.from_collection(orders)
            .uid("orders")
            .async_map(AsyncMode::ordered(), enrich)
            .capacity(100)
            .timeout(Duration::from_secs(5))
            .on_timeout(|(number, _)| format!("order {number}: the service did not answer"))
            .retry(AsyncRetry::fixed_delay(3, Duration::from_millis(100)))
            .uid("names")
            .sink_to(PrintSink::new(String::clone));
        Ok(())
    })
}
