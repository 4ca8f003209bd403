//! For tests of operators: [`verify_operator`] runs one operator under every condition that the engine may put it in, and
//! panics with the condition, the position and a diff if what it does differs anywhere.
//!
//! ```
//! use rivermark_runtime::operators::{FusedOperator, Identity, Map};
//! use rivermark_testkit::{Event, Order, Subject, verify_operator};
//!
//! let double = || Subject::operator(|| FusedOperator::<u64, _>::new(Map(Identity, |n: u64| 2 * n)));
//! verify_operator(double)
//!     .input((0..20u64).map(|n| Event::row(n).at(n as i64)))
//!     .input([Event::watermark(i64::MAX)])
//!     .expect(Order::Exact, (0..20u64).map(|n| 2 * n))
//!     .verify();
//! ```
//!
//! Layout: [`verify`] (what is expected, and the cases), [`event`] (the input), [`subject`] (the operator under test, made
//! afresh for each case), `conditions` (sizes and limits), `fleet` (instances of it at work: the engine's chain, backend,
//! snapshot pages and lists; only the gate before and the outboxes behind are the test's), `output` (what came out, and how
//! it is compared). All of it runs in a `SimWorld`, so operators may wait for I/O tasks, and one that waits for ever is found.
//! Non-goals: graphs of several operators, sources (the connectors' conformance kit has them), failing I/O (the simulator's).

mod conditions;
pub mod event;
mod fleet;
mod instance;
mod output;
pub mod subject;
pub mod verify;

pub use event::Event;
pub use output::Order;
pub use subject::Subject;
pub use verify::{Verification, verify_operator};
