//! A bounded queue of elements between two subtasks of one process: batches move, nothing is serialised.
//!
//! One producer, one consumer. The bound is a credit in rows and bytes that the producer asks for *before* it produces
//! ([`Sender::room`]); sending never fails and never blocks, so that marks always pass. What is asked for goes into batches
//! together with what the producer has begun already, so room for one more batch is kept in reserve: the bytes stay within
//! the credit, unless one batch is larger than half of it.

use crate::metrics::HighWater;
use crate::waker::SlotWaker;
use rivermark_data::Element;
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
    producer: SlotWaker,
    consumer: SlotWaker,
}

impl Shared {
    fn queue(&self) -> std::sync::MutexGuard<'_, VecDeque<Element>> {
        // Nothing inside the lock can panic half-way: a poisoned queue is a whole one.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn room(&self) -> usize {
        let (rows, bytes) = (
            self.rows.load(Ordering::Acquire),
            self.bytes.load(Ordering::Acquire),
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
    watched_channel(credit, producer, consumer, Arc::default())
}

/// The same; what is in it at most is noted.
pub fn watched_channel(
    credit: Credit,
    producer: SlotWaker,
    consumer: SlotWaker,
    peaks: Arc<ChannelPeaks>,
) -> (Sender, Receiver) {
    let shared = Arc::new(Shared {
        queue: Mutex::default(),
        rows: AtomicUsize::new(0),
        bytes: AtomicUsize::new(0),
        row_bytes: AtomicUsize::new(0),
        batch_bytes: AtomicUsize::new(0),
        starved: AtomicBool::new(false),
        credit,
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
        let was_empty = {
            let mut queue = self.shared.queue();
            queue.push_back(element);
            queue.len() == 1
        };
        if was_empty {
            self.shared.consumer.wake();
        }
    }
}

impl Receiver {
    /// The next element; its credit returns to the producer.
    pub fn pop(&self) -> Option<Element> {
        let element = self.0.queue().pop_front()?;
        if let Element::Batch(batch) = &element {
            self.0.rows.fetch_sub(batch.len(), Ordering::AcqRel);
            self.0.bytes.fetch_sub(batch.bytes(), Ordering::AcqRel);
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
    fn credit_bounds_rows_and_bytes_and_one_larger_batch_passes_alone() {
        let peaks = Arc::new(ChannelPeaks::default());
        let (tx, rx) = watched_channel(
            Credit { rows: 10, bytes: 400 },
            SlotWaker::default(),
            SlotWaker::default(),
            peaks.clone(),
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
