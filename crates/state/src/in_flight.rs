//! Elements that an unaligned barrier overtook, as a snapshot keeps them: the marks of each channel in the manifest, its
//! records as one page of the snapshot's objects.
//!
//! Layout: [`InFlightChannel`] is what the manifest says of a channel; [`in_flight_chunk`] hands its records to the writer,
//! [`InFlightChannel::elements`] puts both together again. Non-goals: what is captured and when, who gets what back.

use crate::StateError;
use crate::image::{EncodedPage, ImageChunk, RowEncoder, StateId, StateKind};
use crate::page_memory::PageMemory;
use rivermark_data::{Activity, Batch, EdgeType, Element};
use rivermark_types::{Failure, KeyGroup, Timestamp, Uid};
use serde::{Deserialize, Serialize};
use std::any::Any;
use std::sync::Arc;

/// A channel into a subtask, with what was in flight in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InFlightChannel {
    /// The operator's input that it feeds.
    pub input: u8,
    /// The name of the operator that sends.
    pub from: Uid,
    /// Its output port.
    pub port: u8,
    /// Its subtask.
    pub index: u32,
    /// Whether records found it by key.
    pub by_key: bool,
    /// The channel's watermark at the cut: that of the last mark before what is in flight.
    pub watermark: Timestamp,
    /// Whether the channel was idle at the cut.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub idle: bool,
    /// Records in flight.
    pub rows: u64,
    /// About how many bytes of memory they held.
    #[serde(default)]
    pub bytes: u64,
    /// Marks in flight, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<InFlightMark>,
}

/// A mark among the records in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InFlightMark {
    /// How many of the channel's records in flight come before it.
    pub after: u64,
    /// The mark.
    #[serde(flatten)]
    pub mark: Mark,
}

/// A mark that can be in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mark {
    /// The channel's watermark rose.
    Watermark(Timestamp),
    /// The channel went idle, or came back.
    Idle(bool),
}

impl InFlightChannel {
    /// Notes elements, in order; their batches are kept in order by whoever calls.
    pub fn note(&mut self, elements: &[Element]) {
        for element in elements {
            let mark = match element {
                Element::Batch(batch) => {
                    self.rows += batch.len() as u64;
                    self.bytes += batch.bytes() as u64;
                    continue;
                }
                Element::Watermark(watermark) => Mark::Watermark(*watermark),
                Element::Status(activity) => Mark::Idle(*activity == Activity::Idle),
                // A channel that ends is not there after a restore, and barriers are no part of what they cut.
                Element::End | Element::Barrier(_) => continue,
            };
            let after = self.rows;
            self.marks.push(InFlightMark { after, mark });
        }
    }

    /// The name under which its records are kept, for subtask `to` of an operator.
    pub fn state(&self, operator: &Uid, to: u32) -> StateId {
        let InFlightChannel {
            input,
            from,
            port,
            index,
            ..
        } = self;
        StateId {
            operator: operator.clone(),
            name: format!("in flight from {from}.{port}/{index} to {input}/{to}"),
            kind: StateKind::InFlight,
        }
    }

    /// Whether its marks are in order and lie among its records.
    pub fn marks_fit(&self) -> bool {
        let mut last = 0;
        self.marks
            .iter()
            .all(|mark| std::mem::replace(&mut last, mark.after) <= mark.after && mark.after <= self.rows)
    }

    /// What was in flight, in order, from its records.
    pub fn elements(&self, rows: Option<Batch>) -> Result<Vec<Element>, StateError> {
        let found = rows.as_ref().map_or(0, Batch::len) as u64;
        if found != self.rows || !self.marks_fit() {
            return Err(StateError::Page(format!(
                "the channel from {}.{}/{} has {found} records in flight, and its marks do not fit {} of them",
                self.from, self.port, self.index, self.rows
            )));
        }
        let mut elements = vec![];
        let mut done = 0;
        let mut rows_up_to = |end: u64, elements: &mut Vec<Element>| {
            if let Some(rows) = rows.as_ref().filter(|_| end > done) {
                elements.push(Element::Batch(rows.copy_of(done as usize..end as usize)));
                done = end;
            }
        };
        for InFlightMark { after, mark } in &self.marks {
            rows_up_to(*after, &mut elements);
            elements.push(match mark {
                Mark::Watermark(watermark) => Element::Watermark(*watermark),
                Mark::Idle(true) => Element::Status(Activity::Idle),
                Mark::Idle(false) => Element::Status(Activity::Active),
            });
        }
        rows_up_to(self.rows, &mut elements);
        Ok(elements)
    }
}

/// The records of a channel on their way to the writer: by reference, encoded there.
pub fn in_flight_chunk(state: StateId, batches: Vec<Batch>, edge: Arc<dyn EdgeType>) -> ImageChunk {
    ImageChunk {
        state: Arc::new(state),
        rows: batches.iter().map(Batch::len).sum(),
        bytes: batches.iter().map(Batch::bytes).sum(),
        content: Box::new(batches),
        encoder: Arc::new(InFlightEncoder(edge)),
    }
}

/// Makes one page of all records of a channel.
struct InFlightEncoder(Arc<dyn EdgeType>);

impl RowEncoder for InFlightEncoder {
    fn encode_in(
        &self,
        chunks: Vec<Box<dyn Any + Send>>,
        _: &Arc<PageMemory>,
    ) -> Result<Vec<EncodedPage>, String> {
        let mut batches = vec![];
        for chunk in chunks {
            let chunk = chunk.downcast::<Vec<Batch>>();
            batches.extend(*chunk.map_err(|_| "records in flight are not batches".to_owned())?);
        }
        let joined = Batch::join(&batches).map_err(|failure| failure.to_string())?;
        let Some(joined) = joined else { return Ok(vec![]) };
        let bytes = self.0.rows().encode(&joined);
        Ok(vec![EncodedPage {
            first_group: KeyGroup(0),
            last_group: KeyGroup(u16::MAX.into()),
            rows: joined.len() as u64,
            bytes: bytes.map_err(|failure| failure.to_string())?.into(),
        }])
    }
}

/// The records of a channel back from its page; `None` if it had none.
pub fn in_flight_rows(pages: &[bytes::Bytes], edge: &dyn EdgeType) -> Result<Option<Batch>, Failure> {
    let decoded: Result<Vec<Batch>, Failure> = pages.iter().map(|page| edge.rows().decode(page)).collect();
    Batch::join(&decoded?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch_rows;
    use rivermark_data::{Typed, TypedEdge};

    fn channel() -> InFlightChannel {
        InFlightChannel {
            input: 0,
            from: Uid::from("source"),
            port: 0,
            index: 3,
            by_key: true,
            watermark: Timestamp(10),
            idle: false,
            rows: 0,
            bytes: 0,
            marks: vec![],
        }
    }

    fn rows(range: std::ops::Range<u64>) -> Batch {
        Batch::new(Typed::untimed(range.collect()))
    }

    fn show(elements: Vec<Element>) -> Vec<String> {
        let show = |element| match element {
            Element::Batch(batch) => format!("{:?}", batch.take::<u64>().unwrap().values),
            other => format!("{other:?}"),
        };
        elements.into_iter().map(show).collect()
    }

    #[test]
    fn what_was_in_flight_comes_back_in_order() {
        let elements = [
            Element::Watermark(Timestamp(11)),
            Element::Batch(rows(0..2)),
            Element::Batch(rows(2..3)),
            Element::Status(Activity::Idle),
            Element::Status(Activity::Active),
            Element::Batch(rows(3..5)),
            Element::End,
        ];
        let mut channel = channel();
        channel.note(&elements);
        let edge: Arc<dyn EdgeType> = Arc::new(TypedEdge::<u64>::new(batch_rows::<u64>()));
        let batches = elements.into_iter().filter_map(|element| match element {
            Element::Batch(batch) => Some(batch),
            _ => None,
        });
        let state = channel.state(&Uid::from("count"), 2);
        let chunk = in_flight_chunk(state, batches.collect(), edge.clone());
        assert_eq!(chunk.rows, 5);
        let pages = chunk.encoder.encode(vec![chunk.content]).unwrap();
        assert_eq!(pages.len(), 1);
        let page = pages[0].bytes.clone();
        let read = in_flight_rows(&[page], &*edge).unwrap();
        let json = serde_json::to_string(&channel).unwrap();
        let channel: InFlightChannel = serde_json::from_str(&json).unwrap();
        assert_eq!(
            show(channel.elements(read).unwrap()),
            [
                "Watermark(Timestamp(11))",
                "[0, 1, 2]",
                "Status(Idle)",
                "Status(Active)",
                "[3, 4]"
            ]
        );
    }

    #[test]
    fn a_channel_that_does_not_fit_its_records_is_damage() {
        let mut channel = channel();
        channel.note(&[Element::Batch(rows(0..2)), Element::Watermark(Timestamp(1))]);
        assert!(channel.elements(Some(rows(0..2))).is_ok());
        assert!(channel.elements(Some(rows(0..3))).is_err());
        assert!(channel.elements(None).is_err());
        channel.marks[0].after = 3;
        assert!(channel.elements(Some(rows(0..2))).is_err());
    }
}
