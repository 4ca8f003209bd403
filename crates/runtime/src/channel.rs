//! A bounded queue of elements between two subtasks of one process: batches move, nothing is serialised.
//!
//! One producer, one consumer. The bound is a credit in rows and bytes that the producer asks for *before* it produces
//! ([`Sender::room`]); sending never fails and never blocks, so that marks always pass. What is asked for goes into batches
//! together with what the producer has begun already, so room for one more batch is kept in reserve: the bytes stay within
//! the credit, unless one batch is larger than half of it.

use crate::metrics::HighWater;
use crate::waker::SlotWaker;
use rivermark_data::Element;
use rivermark_types::{Barrier, CheckpointId};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// How much may lie in a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credit {
    /// Records.
    pub rows: usize,
    /// Bytes of memory, about.
    pub bytes: usize,
}

struct Shared {
    queue: Mutex<VecDeque<Element>>,
    rows: AtomicUsize,
    bytes: AtomicUsize,
    /// The bytes of a row in the newest batch, and of the largest batch.
    row_bytes: AtomicUsize,
    batch_bytes: AtomicUsize,
    /// The producer found no room and waits to be woken.
    starved: AtomicBool,
    credit: Credit,
    /// Barriers sent so far.
    barriers: AtomicUsize,
    announcements: Announcements,
    producer: SlotWaker,
    consumer: SlotWaker,
}

/// Counts the barriers that were put into any channel of one task: a look tells that there is something to look for.
#[derive(Clone, Debug, Default)]
pub struct Announcements(Arc<AtomicUsize>);

impl Announcements {
    /// How many there have been.
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }
}

impl Shared {
    fn queue(&self) -> std::sync::MutexGuard<'_, VecDeque<Element>> {
        // Nothing inside the lock can panic half-way: a poisoned queue is a whole one.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn room(&self) -> usize {
        // In one order with `starved` for both ends: either the producer sees what was taken, or the consumer the flag.
        let (rows, bytes) = (
            self.rows.load(Ordering::SeqCst),
            self.bytes.load(Ordering::SeqCst),
        );
        let reserve = self
            .batch_bytes
            .load(Ordering::Relaxed)
            .min(self.credit.bytes / 2);
        let bytes_left = self.credit.bytes.saturating_sub(bytes.saturating_add(reserve));
        let by_bytes = bytes_left / self.row_bytes.load(Ordering::Relaxed).max(1);
        // A row that is larger than the credit passes alone.
        let by_bytes = by_bytes.max(usize::from(rows == 0));
        let by_rows = self.credit.rows.saturating_sub(rows);
        // Room for a few rows would only make small batches: better none, until there is more.
        if by_rows < self.credit.rows / 8 {
            0
        } else {
            by_rows.min(by_bytes)
        }
    }

    /// Whether a producer that waits for room had better go on: not for every row that leaves.
    fn has_enough_room(&self) -> bool {
        let (rows, bytes) = (
            self.rows.load(Ordering::Acquire),
            self.bytes.load(Ordering::Acquire),
        );
        rows == 0 || (rows <= self.credit.rows / 2 && bytes <= self.credit.bytes / 2 && self.room() > 0)
    }
}

/// The most there ever was in any channel of a job.
#[derive(Debug, Default)]
pub struct ChannelPeaks {
    /// Records queued in one channel.
    pub rows: HighWater,
    /// Bytes queued in one channel, about.
    pub bytes: HighWater,
    /// Bytes of one batch, by which a channel may pass its credit.
    pub batch_bytes: HighWater,
}

/// The producer's end.
pub struct Sender {
    shared: Arc<Shared>,
    peaks: Arc<ChannelPeaks>,
}

/// The consumer's end.
pub struct Receiver(Arc<Shared>);

/// A channel between the slots that the wakers belong to.
pub fn channel(credit: Credit, producer: SlotWaker, consumer: SlotWaker) -> (Sender, Receiver) {
    watched_channel(
        credit,
        producer,
        consumer,
        Arc::default(),
        Announcements::default(),
    )
}

/// The same; what is in it at most is noted, and its barriers are announced to its consumer.
pub fn watched_channel(
    credit: Credit,
    producer: SlotWaker,
    consumer: SlotWaker,
    peaks: Arc<ChannelPeaks>,
    announcements: Announcements,
) -> (Sender, Receiver) {
    let shared = Arc::new(Shared {
        queue: Mutex::default(),
        rows: AtomicUsize::new(0),
        bytes: AtomicUsize::new(0),
        row_bytes: AtomicUsize::new(0),
        batch_bytes: AtomicUsize::new(0),
        starved: AtomicBool::new(false),
        credit,
        barriers: AtomicUsize::new(0),
        announcements,
        producer,
        consumer,
    });
    let sender = Sender {
        shared: shared.clone(),
        peaks,
    };
    (sender, Receiver(shared))
}

impl Sender {
    /// How many rows may be sent before the credit is used up. On 0 the producer is woken when there is room again.
    pub fn room(&self) -> usize {
        let room = self.shared.room();
        if room > 0 {
            return room;
        }
        self.shared.starved.store(true, Ordering::SeqCst);
        // Looked at again, lest the consumer made room between the look and the flag.
        self.shared.room()
    }

    /// Queues an element, whatever the credit.
    pub fn send(&self, element: Element) {
        if let Element::Batch(batch) = &element {
            let (rows, bytes) = (batch.len(), batch.bytes());
            let row_bytes = bytes.checked_div(rows).unwrap_or_default();
            self.shared.row_bytes.store(row_bytes, Ordering::Relaxed);
            self.shared.batch_bytes.fetch_max(bytes, Ordering::Relaxed);
            let rows_before = self.shared.rows.fetch_add(rows, Ordering::AcqRel);
            let bytes_before = self.shared.bytes.fetch_add(bytes, Ordering::AcqRel);
            self.peaks.rows.reach(rows_before + rows);
            self.peaks.bytes.reach(bytes_before + bytes);
            self.peaks.batch_bytes.reach(bytes);
        }
        let is_barrier = matches!(element, Element::Barrier(_));
        let was_empty = {
            let mut queue = self.shared.queue();
            queue.push_back(element);
            queue.len() == 1
        };
        if is_barrier {
            self.shared.barriers.fetch_add(1, Ordering::Release);
            self.shared.announcements.0.fetch_add(1, Ordering::Release);
        }
        // A barrier may overtake: its consumer hears of it although there is something else to do first.
        if was_empty || is_barrier {
            self.shared.consumer.wake();
        }
    }
}

impl Receiver {
    /// The next element; its credit returns to the producer.
    pub fn pop(&self) -> Option<Element> {
        let element = self.0.queue().pop_front()?;
        if let Element::Batch(batch) = &element {
            self.0.rows.fetch_sub(batch.len(), Ordering::SeqCst);
            self.0.bytes.fetch_sub(batch.bytes(), Ordering::SeqCst);
            if self.0.starved.load(Ordering::SeqCst) && self.0.has_enough_room() {
                self.0.starved.store(false, Ordering::SeqCst);
                self.0.producer.wake();
            }
        }
        Some(element)
    }

    /// Whether nothing is queued.
    pub fn is_empty(&self) -> bool {
        self.0.queue().is_empty()
    }

    /// How many barriers were put into it so far.
    pub fn barriers_sent(&self) -> usize {
        self.0.barriers.load(Ordering::Acquire)
    }

    /// The barriers that are queued, in order.
    pub fn queued_barriers(&self) -> Vec<Barrier> {
        let queue = self.0.queue();
        let barriers = queue.iter().filter_map(|element| match element {
            Element::Barrier(barrier) => Some(*barrier),
            _ => None,
        });
        barriers.collect()
    }

    /// Lets a queued barrier overtake everything in front of it: what that is (it stays queued), in order and without other
    /// barriers. `None` if the barrier is not queued.
    pub fn overtake(&self, checkpoint: CheckpointId) -> Option<Vec<Element>> {
        let mut queue = self.0.queue();
        let is_it = |element: &Element| matches!(element, Element::Barrier(b) if b.checkpoint == checkpoint);
        let at = queue.iter().position(is_it)?;
        queue.remove(at);
        let overtaken = queue.iter().take(at);
        let overtaken = overtaken.filter(|element| !matches!(element, Element::Barrier(_)));
        Some(overtaken.cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rivermark_data::{Batch, Typed};
    use rivermark_types::Timestamp;

    fn batch(rows: usize) -> Element {
        Element::Batch(Batch::new(Typed::untimed(vec![0u64; rows])))
    }

    #[test]
    fn a_barrier_is_announced_and_overtakes_what_stays_queued() {
        let announcements = Announcements::default();
        let barrier = |id| Barrier {
            checkpoint: CheckpointId(id),
            kind: rivermark_types::SnapshotKind::Checkpoint,
        };
        let credit = Credit { rows: 10, bytes: 400 };
        let wakers = [SlotWaker::default(), SlotWaker::default()];
        let [producer, consumer] = wakers;
        let (tx, rx) = watched_channel(credit, producer, consumer, Arc::default(), announcements.clone());
        tx.send(batch(1));
        tx.send(Element::Barrier(barrier(1)));
        tx.send(Element::Watermark(Timestamp(3)));
        tx.send(batch(2));
        assert_eq!(announcements.count(), 1);
        assert!(rx.overtake(CheckpointId(2)).is_none(), "it is not there yet");
        tx.send(Element::Barrier(barrier(2)));
        tx.send(batch(3));
        assert_eq!((announcements.count(), rx.barriers_sent()), (2, 2));
        assert_eq!(rx.queued_barriers(), [barrier(1), barrier(2)]);
        let overtaken = rx.overtake(CheckpointId(2)).unwrap();
        assert!(
            matches!(&overtaken[..], [Element::Batch(a), Element::Watermark(Timestamp(3)), Element::Batch(b)]
                if a.len() == 1 && b.len() == 2),
            "{overtaken:?}"
        );
        assert_eq!(rx.queued_barriers(), [barrier(1)]);
        let left = std::iter::from_fn(|| rx.pop()).count();
        assert_eq!(left, 5, "all but the barrier are still delivered");
    }

    #[test]
    fn credit_bounds_rows_and_bytes_and_one_larger_batch_passes_alone() {
        let peaks = Arc::new(ChannelPeaks::default());
        let (tx, rx) = watched_channel(
            Credit { rows: 10, bytes: 400 },
            SlotWaker::default(),
            SlotWaker::default(),
            peaks.clone(),
            Announcements::default(),
        );
        assert_eq!(tx.room(), 10);
        tx.send(batch(4));
        assert_eq!(tx.room(), 6);
        tx.send(batch(60));
        assert_eq!(tx.room(), 0, "a larger batch passes, then nothing");
        tx.send(Element::Watermark(Timestamp(1)));
        assert!(matches!(rx.pop(), Some(Element::Batch(b)) if b.len() == 4));
        assert_eq!(tx.room(), 0);
        assert!(matches!(rx.pop(), Some(Element::Batch(b)) if b.len() == 60));
        assert_eq!(tx.room(), 10, "credit returns when consumed");
        assert!(matches!(rx.pop(), Some(Element::Watermark(_))));
        assert!(rx.pop().is_none() && rx.is_empty());
        tx.send(batch(20));
        assert_eq!(tx.room(), 0, "rows");
        let (tx, _rx) = channel(
            Credit {
                rows: 1_000,
                bytes: 400,
            },
            SlotWaker::default(),
            SlotWaker::default(),
        );
        tx.send(batch(10));
        assert_eq!(
            tx.room(),
            30,
            "bytes: those that are there, and a batch that may have begun"
        );
        let [rows, bytes, batch] = [&peaks.rows, &peaks.bytes, &peaks.batch_bytes].map(HighWater::get);
        assert_eq!((rows, batch), (64, 60 * 8));
        assert_eq!(bytes, 64 * 8, "the first batch is counted too");
    }
}
