//! Two producers and two workers with bounded channels of batches between them. Used-up batches go back to their producer.

use super::threads::{Control, Threads};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

/// Records of a batch.
pub const BATCH: usize = 4096;
/// Batches and marks that may lie before a worker.
const BOUND: usize = 8;
/// Producers, and as many workers.
pub const WORKERS: usize = 2;

/// What a worker takes.
enum Message<T> {
    Batch(usize, Vec<T>),
    Watermark(usize, i64),
}

/// A producer's end.
pub struct Outlet<T> {
    producer: usize,
    channels: Vec<SyncSender<Message<T>>>,
    pending: Vec<Vec<T>>,
    returned: Receiver<Vec<T>>,
    control: Control,
}

impl<T> Outlet<T> {
    /// Puts a record into a worker's batch. False when everything is over.
    #[inline(always)]
    pub fn push(&mut self, worker: usize, record: T) {
        let pending = &mut self.pending[worker];
        pending.push(record);
        if pending.len() == BATCH {
            self.send(worker);
        }
    }

    #[inline(never)]
    fn send(&mut self, worker: usize) {
        let empty = self.returned.try_recv();
        let empty = empty.unwrap_or_else(|_| Vec::with_capacity(BATCH));
        let full = std::mem::replace(&mut self.pending[worker], empty);
        // Nobody takes it any more only at the end.
        let _ = self.channels[worker].send(Message::Batch(self.producer, full));
    }

    /// Tells all workers how far time has come, behind all records so far.
    pub fn watermark(&mut self, time: i64) {
        for worker in 0..self.channels.len() {
            self.send(worker);
            let _ = self.channels[worker].send(Message::Watermark(self.producer, time));
        }
    }

    /// Whether to end.
    pub fn is_over(&self) -> bool {
        self.control.is_over()
    }
}

/// What a worker does.
pub trait Worker<T>: Send + 'static {
    /// Takes the records of a batch.
    fn batch(&mut self, records: &[T]);
    /// The lowest watermark of all producers has risen.
    fn watermark(&mut self, _time: i64) {}
}

fn work<T, W: Worker<T>>(
    mut worker: W,
    inlet: Receiver<Message<T>>,
    returns: Vec<Sender<Vec<T>>>,
    control: Control,
) {
    let (mut watermarks, mut lowest) = ([i64::MIN; WORKERS], i64::MIN);
    for message in inlet {
        match message {
            Message::Batch(producer, mut records) => {
                worker.batch(&records);
                control.done(records.len());
                records.clear();
                let _ = returns[producer].send(records);
            }
            Message::Watermark(producer, time) => {
                watermarks[producer] = time;
                let now_lowest = watermarks.iter().copied().min().unwrap_or(i64::MIN);
                if now_lowest > lowest {
                    lowest = now_lowest;
                    worker.watermark(lowest);
                }
            }
        }
    }
}

/// Starts two producers and two workers.
pub fn start<T, W>(
    produce: impl Fn(usize, &mut Outlet<T>) + Clone + Send + 'static,
    worker: impl Fn() -> W,
) -> Result<Threads, String>
where
    T: Send + 'static,
    W: Worker<T>,
{
    let mut threads = Threads::default();
    let (channels, inlets): (Vec<_>, Vec<_>) = (0..WORKERS).map(|_| sync_channel(BOUND)).unzip();
    let (returns, returned): (Vec<_>, Vec<_>) = (0..WORKERS).map(|_| channel()).unzip();
    for inlet in inlets {
        let (worker, returns) = (worker(), returns.clone());
        threads.start(move |control| work(worker, inlet, returns, control))?;
    }
    for (producer, returned) in returned.into_iter().enumerate() {
        let (channels, produce) = (channels.clone(), produce.clone());
        threads.start(move |control| {
            let mut outlet = Outlet {
                producer,
                channels,
                pending: (0..WORKERS).map(|_| Vec::with_capacity(BATCH)).collect(),
                returned,
                control,
            };
            produce(producer, &mut outlet);
        })?;
    }
    Ok(threads)
}
