//! The one place where what a sink wrote is prepared, committed, committed again after a restore, and aborted.
//!
//! Layout: [`CommitNode`] (the factory), [`CommitOperator`] (the slot's side: rows in, committables in the snapshot),
//! `actor` (the I/O side, which owns the sink's writer and makes one call at a time), `lineage` (a new writer starts only
//! when the writers of earlier attempts in this process have stopped).
//!
//! The order that exactly-once rests on: a barrier passes only when everything before it is prepared, and its committables
//! are in the snapshot; they stay there until their commit is *done*; they are committed when a checkpoint that lists them
//! is decided, in id order; after a restore those of the checkpoint are committed before anything else. An aborted
//! checkpoint's and a savepoint's committables wait for the next decided checkpoint, which lists them too.

mod actor;
mod lineage;
mod operator;

pub use operator::{COMMITTABLES, CommitOperator};

use crate::sink::Sink;
use lineage::Lineage;
use rivermark_runtime::{Operator, OperatorFactory};
use rivermark_types::Result;
use std::sync::Arc;

/// A sink as the graph holds it.
pub struct CommitNode<S: Sink> {
    sink: Arc<S>,
    lineage: Lineage,
}

impl<S: Sink> CommitNode<S> {
    /// A node that writes with this sink. It needs a `uid`: its committables are state.
    pub fn new(sink: S) -> CommitNode<S> {
        CommitNode {
            sink: Arc::new(sink),
            lineage: Lineage::default(),
        }
    }

    /// The sink's name for people.
    pub fn name(&self) -> String {
        self.sink.name()
    }
}

impl<S: Sink> OperatorFactory for CommitNode<S> {
    fn create(&self) -> Result<Box<dyn Operator>> {
        Ok(Box::new(CommitOperator::new(
            self.sink.clone(),
            self.lineage.clone(),
        )))
    }
}
