//! What the simulator hands to the engine: the wire codec forced on random edges, eyes for the report, and planted bugs.

use super::book::Book;
use super::copies::Spoiler;
use super::planted::Plant;
use crate::Draw;
use rivermark_connector::commit::COMMITTABLES;
use rivermark_data::{Batch, EdgeType, Element};
use rivermark_protocol::aligner::AlignEvent;
use rivermark_protocol::coordinator::CkAction;
use rivermark_protocol::graph::Graph;
use rivermark_runtime::gate::InputChannel;
use rivermark_runtime::in_flight::{RestoredChannel, RestoredInput};
use rivermark_runtime::seams::{ForcedCodec, Seams};
use rivermark_runtime::{Lists, TaskCommand};
use rivermark_state::RestoredState;
use rivermark_types::{Attempt, Result, SnapshotKind, SubtaskId, Uid};
use std::sync::{Arc, Mutex, PoisonError};

/// The seams of one run, handed to all of its processes.
pub(crate) struct SimSeams {
    book: Arc<Book>,
    codecs: Mutex<Draw>,
    plant: Option<Arc<Plant>>,
    decided: Option<Box<dyn Fn() + Send + Sync>>,
    spoiler: Option<Spoiler>,
}

impl SimSeams {
    pub(crate) fn new(book: Arc<Book>, codecs: Draw, plant: Option<Arc<Plant>>) -> SimSeams {
        SimSeams {
            book,
            codecs: Mutex::new(codecs),
            plant,
            decided: None,
            spoiler: None,
        }
    }

    /// The same, and local copies are spoilt.
    pub(crate) fn with_spoiler(self, spoiler: Spoiler) -> SimSeams {
        SimSeams {
            spoiler: Some(spoiler),
            ..self
        }
    }

    /// The same, and this is called when a checkpoint is decided, before anybody else hears of it.
    pub(crate) fn when_decided(self, call: impl Fn() + Send + Sync + 'static) -> SimSeams {
        SimSeams {
            decided: Some(Box::new(call)),
            ..self
        }
    }

    /// A process of this graph is started.
    pub(crate) fn started(&self, graph: &Graph) {
        let parallelism = graph.nodes.iter().map(|node| node.parallelism);
        self.book.entries().started(parallelism.collect());
    }
}

/// Encodes and decodes every batch of an edge.
struct ThroughTheWire(Arc<dyn EdgeType>);

impl ForcedCodec for ThroughTheWire {
    fn pass(&self, batch: Batch) -> Result<Batch> {
        let mut bytes = Vec::new();
        self.0.wire().encode(&batch, &mut bytes)?;
        self.0.wire().decode(&bytes)
    }
}

impl Seams for SimSeams {
    fn codec(&self, edge: &Arc<dyn EdgeType>) -> Option<Arc<dyn ForcedCodec>> {
        let forced = self
            .codecs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .one_in(3);
        forced.then(|| Arc::new(ThroughTheWire(edge.clone())) as Arc<dyn ForcedCodec>)
    }

    fn align(&self, subtask: SubtaskId, event: AlignEvent, deliver: &mut dyn FnMut(AlignEvent)) {
        match &self.plant {
            Some(plant) => plant.align(subtask, event, deliver),
            None => deliver(event),
        }
    }

    fn coordinate(&self, action: &CkAction) -> Option<TaskCommand> {
        match action {
            CkAction::NotifyComplete(_) => {
                self.book.entries().decided();
                self.decided.iter().for_each(|call| call());
            }
            CkAction::SnapshotEnumerators {
                kind: SnapshotKind::Final,
                ..
            } => self.book.entries().late_store_faults = 0,
            _ => {}
        }
        if !matches!(
            action,
            CkAction::KeepAck { .. } | CkAction::RequestAnswered { .. }
        ) {
            Book::count(&self.book.orders);
        }
        self.plant.as_ref().and_then(|plant| plant.coordinate(action))
    }

    fn attempt(&self, next: Attempt) -> Attempt {
        self.book.entries().attempt(next == Attempt(1));
        if let (Some(spoiler), true) = (&self.spoiler, next != Attempt(1)) {
            spoiler.between_attempts();
        }
        self.plant.as_ref().map_or(next, |plant| plant.attempt(next))
    }

    fn overtaken(&self, elements: &mut Vec<Element>) {
        if elements
            .iter()
            .any(|element| matches!(element, Element::Batch(_)))
        {
            self.book.entries().overtook();
        }
        if let Some(plant) = &self.plant {
            plant.overtaken(elements);
        }
    }

    fn fetch(&self, channel: &mut RestoredChannel) {
        self.book
            .entries()
            .restored_in_flight(channel.channel.rows, channel.part.is_some());
        if let Some(plant) = &self.plant {
            plant.fetch(channel);
        }
    }

    fn resume(&self, in_flight: &mut Vec<RestoredInput>, channels: &mut Vec<InputChannel>) {
        if let Some(plant) = &self.plant {
            plant.resume(in_flight, channels);
        }
    }

    fn restore(&self, operator: &Uid, lists: &mut Lists, keyed: &mut RestoredState) {
        let committables = lists.get(COMMITTABLES).is_some_and(|list| !list.is_empty());
        let has_rows = keyed.states().next().is_some();
        self.book.entries().restored(has_rows, committables);
        self.book.entries().restored_local |= keyed.local_bytes() > 0;
        if let Some(plant) = &self.plant {
            plant.restore(operator, lists, keyed);
        }
    }
}
