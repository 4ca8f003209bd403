//! Reads splits: an I/O task keeps a few pieces of bytes ready, the slot makes rows of them.

use crate::bytes::{Beginning, SplitBytes};
use crate::records::{Next, Records};
use crate::source::FileSplit;
use rivermark_connector::{ReadPoll, ReadRows, ReaderCx, SplitIndex, SplitReader};
use rivermark_env::{Env, TaskHandle};
use rivermark_format::Decode;
use rivermark_runtime::SlotWaker;
use rivermark_types::{Failure, Result};
use std::collections::VecDeque;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;

/// Pieces read ahead.
const AHEAD: usize = 4;

/// Reads the splits it is given one after the other.
pub struct FileReader<F: Decode> {
    format: F,
    env: Env,
    waker: SlotWaker,
    waiting: VecDeque<(SplitIndex, FileSplit, u64)>,
    current: Option<Reading<F>>,
}

/// A split that is being read.
struct Reading<F: Decode> {
    index: SplitIndex,
    split: FileSplit,
    position: u64,
    pieces: mpsc::Receiver<Piece>,
    task: TaskHandle,
    records: Option<Records<F>>,
}

/// From the I/O task to the slot.
enum Piece {
    Beginning(Beginning),
    Bytes(Vec<u8>),
    End,
    Failed(Failure),
}

impl<F: Decode> FileReader<F> {
    pub(crate) fn new(format: F, cx: ReaderCx) -> FileReader<F> {
        FileReader {
            format,
            env: cx.env,
            waker: cx.waker,
            waiting: VecDeque::new(),
            current: None,
        }
    }

    /// The split being read; begins the next one if there is none.
    fn current(&mut self) -> Option<&mut Reading<F>> {
        if self.current.is_none() {
            let (index, split, position) = self.waiting.pop_front()?;
            let (sender, pieces) = mpsc::channel(AHEAD);
            let (env, format, waker) = (self.env.clone(), self.format.clone(), self.waker.clone());
            let of = split.clone();
            let read = async move {
                if let Err(failure) = read_ahead(&env, &of, position, &format, &sender, &waker).await {
                    send(&sender, Piece::Failed(failure), &waker).await;
                }
            };
            let task = self.env.spawn_io(&format!("read {split}"), read);
            self.current = Some(Reading {
                index,
                split,
                position,
                pieces,
                task,
                records: None,
            });
        }
        self.current.as_mut()
    }
}

impl<F: Decode> Drop for Reading<F> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Sends the bytes of a split, until all are sent or nobody wants them.
async fn read_ahead<F: Decode>(
    env: &Env,
    split: &FileSplit,
    position: u64,
    format: &F,
    pieces: &mpsc::Sender<Piece>,
    waker: &SlotWaker,
) -> Result<()> {
    let mut bytes = SplitBytes::open(env.files(), split, position, format).await?;
    if !send(pieces, Piece::Beginning(bytes.beginning()), waker).await {
        return Ok(());
    }
    while let Some(more) = bytes.next().await? {
        if !send(pieces, Piece::Bytes(more), waker).await {
            return Ok(());
        }
    }
    send(pieces, Piece::End, waker).await;
    Ok(())
}

async fn send(pieces: &mpsc::Sender<Piece>, piece: Piece, waker: &SlotWaker) -> bool {
    let wanted = pieces.send(piece).await.is_ok();
    waker.wake();
    wanted
}

impl<F: Decode> Reading<F> {
    /// Takes in the next piece; false if there is none yet.
    fn refill(&mut self, format: &F) -> Result<bool> {
        match (self.pieces.try_recv(), &mut self.records) {
            (Ok(Piece::Beginning(beginning)), records) => {
                *records = Some(Records::new(
                    format.clone(),
                    &self.split,
                    self.position,
                    beginning,
                ));
            }
            (Ok(Piece::Bytes(bytes)), Some(records)) => records.push(&bytes),
            (Ok(Piece::End), Some(records)) => records.end(),
            (Ok(Piece::Failed(failure)), _) => return Err(failure),
            (Ok(_), None) => return Err(Failure::bug("bytes of a file came before its beginning")),
            (Err(TryRecvError::Empty), _) => return Ok(false),
            (Err(TryRecvError::Disconnected), _) => {
                return Err(Failure::bug(format!(
                    "the task that reads {} ended: {:?}",
                    self.split,
                    self.task.exit()
                )));
            }
        }
        Ok(true)
    }

    fn next_row(&mut self) -> Result<Next<F::Row>> {
        self.records.as_mut().map_or(Ok(Next::NeedsBytes), Records::next)
    }
}

impl<F: Decode> SplitReader for FileReader<F> {
    type Split = FileSplit;
    type Row = F::Row;

    fn assign(&mut self, index: SplitIndex, split: FileSplit, position: u64) -> Result<()> {
        self.waiting.push_back((index, split, position));
        Ok(())
    }

    fn next(&mut self, max_rows: usize, out: &mut ReadRows<F::Row>) -> Result<ReadPoll> {
        let format = self.format.clone();
        let Some(reading) = self.current() else {
            return Ok(ReadPoll::Pending);
        };
        let index = reading.index;
        while out.len() < max_rows {
            match reading.next_row() {
                Ok(Next::Row {
                    row,
                    position,
                    resume,
                }) => out.push(row, position, resume),
                Ok(Next::Undecodable {
                    record,
                    position,
                    resume,
                }) => out.push_undecodable(record, position, resume),
                Ok(Next::Done) if out.is_empty() => {
                    self.current = None;
                    return Ok(ReadPoll::Done(index));
                }
                Ok(Next::Done) => break,
                // The rows before it go out first; then it comes again.
                Err(_) if !out.is_empty() => break,
                Err(failure) => return Err(failure),
                Ok(Next::NeedsBytes) if !out.is_empty() => break,
                Ok(Next::NeedsBytes) => {
                    if !reading.refill(&format)? {
                        return Ok(ReadPoll::Pending);
                    }
                }
            }
        }
        Ok(ReadPoll::Rows(index))
    }
}
