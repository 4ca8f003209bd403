//! The engine of one process: operators in chains, chains in tasks, tasks in slots, channels between them.
//!
//! Layout, from the outside in: [`program`] (what is to run), [`deploy`] (one attempt of it, started), [`messages`] (what
//! master and slots say to each other), [`slot`] (a thread's loop), [`task`] (one subtask: gate, chain, outboxes, snapshot),
//! [`build`] (a task as data, and its making), [`chain`] (operators one behind the other), [`gate`], [`outbox`] and [`channel`] (how rows get in and out),
//! [`operator`], [`source`], [`cursor`] (what an operator is and sees), [`side`] (side outputs), [`lists`] (state without a key), [`careful`] (rows that operators fail at), [`operators`] (those of the DataStream API), [`metrics`], [`seams`] (for tests).
//! Non-goals: it decides nothing about checkpoints or restarts (`protocol` does), and talks to no foreign system.

pub mod build;
pub mod careful;
pub mod chain;
pub mod channel;
pub mod cursor;
pub mod deploy;
pub mod gate;
pub mod in_flight;
pub mod lists;
pub mod messages;
pub mod metrics;
pub mod operator;
pub mod operators;
pub mod outbox;
pub mod program;
pub mod seams;
pub mod side;
pub mod slot;
pub mod source;
pub mod task;
pub mod waker;

pub use careful::{Care, FailedRow};
pub use cursor::{RowCursor, TypedRows};
pub use lists::{OperatorList, is_union_list};
pub use messages::{OperatorEvent, OperatorReport, SinkPhase, SourceAssignment, TaskCommand, TaskEvent};
pub use operator::{Cx, Flow, Lists, OpenCx, Operator, Reporter, SubtaskInfo};
pub use program::{NodeBody, OperatorFactory, Program, SourceFactory};
pub use side::{OutputTag, SideOutput, TakenOutput, TakenOutputs};
pub use source::{DiscoveredSplit, Discovery, SourceDriver, SourceEnumerator, SourcePoll};
pub use waker::SlotWaker;
