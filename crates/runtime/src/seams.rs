//! Where the simulator may reach in: what is wrapped here is identity in production, and a planted bug or a forced codec in
//! a test. Nothing else in the engine knows that there are tests.

use crate::gate::InputChannel;
use crate::in_flight::{RestoredChannel, RestoredInput};
use crate::messages::TaskCommand;
use crate::operator::Lists;
use rivermark_data::{Batch, EdgeType, Element};
use rivermark_protocol::aligner::AlignEvent;
use rivermark_protocol::coordinator::CkAction;
use rivermark_state::RestoredState;
use rivermark_types::{Attempt, CheckpointId, Result, SubtaskId, Uid};
use std::sync::Arc;

/// Sends batches through a codec although both ends are in one process: what a network would do to them.
pub trait ForcedCodec: Send + Sync {
    /// The batch as the other end would see it.
    fn pass(&self, batch: Batch) -> Result<Batch>;
}

/// The wrappers. Every default is the identity.
pub trait Seams: Send + Sync {
    /// A codec for the channels of an exchange.
    fn codec(&self, _edge: &Arc<dyn EdgeType>) -> Option<Arc<dyn ForcedCodec>> {
        None
    }
    /// What a gate tells its aligner.
    fn align(&self, _subtask: SubtaskId, event: AlignEvent, deliver: &mut dyn FnMut(AlignEvent)) {
        deliver(event);
    }
    /// Something the coordinator told the master to do, just before the master does it. What is returned goes to every
    /// task first.
    fn coordinate(&self, _action: &CkAction) -> Option<TaskCommand> {
        None
    }
    /// Every subtask of every sink has committed a checkpoint.
    fn committed(&self, _checkpoint: CheckpointId) {}
    /// The number of the next attempt.
    fn attempt(&self, next: Attempt) -> Attempt {
        next
    }
    /// What barriers have overtaken in the queue of one channel: it will be part of the checkpoint.
    fn overtaken(&self, _elements: &mut Vec<Element>) {}
    /// A channel of the checkpoint from which a subtask is about to fetch what was in flight.
    fn fetch(&self, _channel: &mut RestoredChannel) {}
    /// What was in flight to a subtask at the checkpoint, and the channels that are read behind it.
    fn resume(&self, _in_flight: &mut Vec<RestoredInput>, _channels: &mut Vec<InputChannel>) {}
    /// What an operator gets back from a checkpoint.
    fn restore(&self, _operator: &Uid, _lists: &mut Lists, _keyed: &mut RestoredState) {}
}

/// Production: the identity.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSeams;
impl Seams for NoSeams {}
