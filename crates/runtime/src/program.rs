//! A program: the graph, and what its nodes and edges are made of. Data travels, code does not: every process builds it.

use crate::operator::Operator;
use crate::source::{SourceDriver, SourceEnumerator};
use rivermark_data::EdgeType;
use rivermark_env::Env;
use rivermark_protocol::graph::Graph;
use rivermark_types::Result;
use std::sync::Arc;

/// Makes an operator for every attempt and subtask; called on the slot's thread.
pub trait OperatorFactory: Send + Sync {
    /// A fresh operator.
    fn create(&self) -> Result<Box<dyn Operator>>;
}

impl<F: Fn() -> Result<Box<dyn Operator>> + Send + Sync> OperatorFactory for F {
    fn create(&self) -> Result<Box<dyn Operator>> {
        self()
    }
}

/// Makes the two sides of a source.
pub trait SourceFactory: Send + Sync {
    /// The driver of one subtask, for one attempt; called on the slot's thread.
    fn driver(&self) -> Result<Box<dyn SourceDriver>>;
    /// The enumerator, for one attempt.
    fn enumerator(&self, env: &Env) -> Result<Box<dyn SourceEnumerator>>;
}

/// What a node is made of.
#[derive(Clone)]
pub enum NodeBody {
    /// A source.
    Source(Arc<dyn SourceFactory>),
    /// Any other operator, sinks too.
    Operator(Arc<dyn OperatorFactory>),
}

/// A job as it is to run.
#[derive(Clone)]
pub struct Program {
    /// Its operators and how they hang together.
    pub graph: Graph,
    /// What each node is made of, by `NodeId`.
    pub nodes: Vec<NodeBody>,
    /// The type of each edge, in the order of `graph.edges`.
    pub edges: Vec<Arc<dyn EdgeType>>,
}
