//! The limits: the same work by hand, without any engine. No state survives, nothing can be taken out or resumed.
//!
//! Layout: [`threads`] (loops that run until they are told to stop), [`exchange`] (bounded channels of batches between
//! producers and workers), [`stateless`], [`keyed`], [`window`](mod@window), [`hop`].

pub mod exchange;
pub mod hop;
pub mod keyed;
pub mod stateless;
pub mod threads;
pub mod window;
