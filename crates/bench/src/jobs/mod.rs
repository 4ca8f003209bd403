//! The jobs that are measured, as a user writes them: with the prelude and nothing else.
//!
//! Layout: [`records`] (what flows, the same for the limits), [`stateless`], [`keyed`], [`window`](mod@window) (steady work),
//! [`large`] (large state), [`scheduled`] (events at their times), [`paced`] (slow sinks).

pub mod keyed;
pub mod large;
pub mod paced;
pub mod records;
pub mod scheduled;
pub mod stateless;
pub mod window;
