//! The protocols as pure state machines: events in, actions out. Production, tests and simulation run the same code.
//!
//! Layout: [`aligner`] (barriers at one task's gates), [`coordinator`] (the life of checkpoints), [`restart`] (failures and
//! what follows), [`graph`] and [`plan`] (operators → tasks → subtasks → slots), [`splits`] (who reads which split).
//! Non-goals: no async, no clock, no I/O, no randomness: time and random bits come in with the events.

pub mod aligner;
pub mod coordinator;
pub mod graph;
pub mod plan;
pub mod restart;
pub mod splits;
