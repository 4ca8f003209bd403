//! A channel hop: what an event at its time costs on its way from one thread to another.

use super::threads::Threads;
use crate::clock::{now_ns, pause};
use crate::jobs::scheduled::{Event, Scheduled, TICK};
use std::sync::mpsc::sync_channel;

/// Sends events at their times through a channel; `seen` is told when an event happened that has arrived.
pub fn start(events: Scheduled, seen: impl Fn(u64) + Send + 'static) -> Result<Threads, String> {
    let mut threads = Threads::default();
    let (sender, receiver) = sync_channel::<Vec<Event>>(1024);
    threads.start(move |control| {
        for batch in receiver {
            batch.iter().for_each(|(_, happened)| seen(*happened));
            control.done(batch.len());
        }
    })?;
    threads.start(move |control| {
        let mut number = 0;
        while !control.is_over() {
            pause(TICK);
            let now = now_ns();
            let due = (number..)
                .map(|number| events.event(0, number))
                .take_while(|(_, time)| *time <= now);
            let batch: Vec<Event> = due.collect();
            number += batch.len() as u64;
            if !batch.is_empty() && sender.send(batch).is_err() {
                break;
            }
        }
    })?;
    Ok(threads)
}
