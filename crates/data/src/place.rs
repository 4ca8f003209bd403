//! Records that go where a user's partitioner says.

use crate::batch::{Batch, Typed};
use crate::edge::{Emit, Scatter};
use crate::record::Data;
use crate::router::Router;
use rivermark_types::Failure;

/// Asks a function for the channel of every record.
pub(crate) struct PlaceScatter<T, F> {
    place: F,
    channels: Vec<Typed<T>>,
    router: Router,
}

impl<T, F> PlaceScatter<T, F> {
    pub(crate) fn new(place: F, router: Router) -> PlaceScatter<T, F> {
        PlaceScatter {
            place,
            channels: (0..router.channels).map(|_| Typed::default()).collect(),
            router,
        }
    }
}

impl<T: Data, F: Fn(&T, u32) -> u32> Scatter for PlaceScatter<T, F> {
    fn push(&mut self, batch: Batch, emit: &mut Emit<'_>) -> Result<(), Failure> {
        let Typed { values, times } = batch.take::<T>()?;
        let mut times = times.map(Vec::into_iter);
        let count = self.router.channels as u32;
        for value in values {
            let time = times.as_mut().and_then(Iterator::next);
            let channel = (self.place)(&value, count);
            let Some(pending) = self.channels.get_mut(channel as usize) else {
                return Err(Failure::invalid(format!(
                    "a partitioner sent a record to subtask {channel} of {count}: it must give a number below the one that \
                     it is told"
                )));
            };
            pending.push(value, time);
            if pending.len() >= self.router.batch_rows {
                emit(channel as usize, Batch::new(pending.take()));
            }
        }
        Ok(())
    }

    fn flush(&mut self, emit: &mut Emit<'_>) {
        for (channel, pending) in self.channels.iter_mut().enumerate() {
            if !pending.is_empty() {
                emit(channel, Batch::new(pending.take()));
            }
        }
    }

    fn pending(&self) -> usize {
        self.channels.iter().map(Typed::len).sum()
    }
}
