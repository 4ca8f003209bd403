//! Which channels exist between subtasks, and in which order each side counts them. Both sides compute it, so that no
//! process has to tell another.

use super::{Exchange, Plan};
use crate::graph::Partitioning;
use rivermark_types::{ChannelIndex, EdgeId, InputId, SubtaskId};
use serde::{Deserialize, Serialize};

/// A channel as its receiver sees it; its place in the list is its [`ChannelIndex`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputChannel {
    /// The exchange it is part of.
    pub exchange: EdgeId,
    /// The input of the task's head that it feeds.
    pub input: InputId,
    /// Who sends.
    pub from: SubtaskId,
}

/// A channel as its sender sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputChannel {
    /// Who receives.
    pub to: SubtaskId,
    /// Which of the receiver's channels it is.
    pub index: ChannelIndex,
}

/// All channels of one exchange out of one subtask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputExchange {
    /// The exchange (its sending operator, port and partitioning).
    pub exchange: Exchange,
    /// By receiving subtask; the one and only for forward.
    pub channels: Vec<OutputChannel>,
}

impl Plan {
    /// Whether subtask `from` of an exchange's sender has a channel to subtask `to` of its receiver.
    pub fn has_channel(&self, exchange: &Exchange, from: u32, to: u32) -> bool {
        let (senders, receivers) = self.widths(exchange);
        exchange.partitioning.connects(from, senders, to, receivers)
    }

    /// How many subtasks send and how many receive.
    fn widths(&self, exchange: &Exchange) -> (u32, u32) {
        let width = |id| self.vertex(id).map_or(0, |vertex| vertex.parallelism);
        (width(exchange.from), width(exchange.to))
    }

    /// The channels into a subtask: by exchange, then by sending subtask.
    pub fn inputs_of(&self, subtask: SubtaskId) -> Vec<InputChannel> {
        let into = self
            .exchanges
            .iter()
            .filter(|exchange| exchange.to == subtask.vertex);
        into.flat_map(|exchange| {
            let senders = self
                .vertex(exchange.from)
                .into_iter()
                .flat_map(|vertex| vertex.subtasks());
            let connected = senders.filter(|from| self.has_channel(exchange, from.index, subtask.index));
            connected.map(|from| InputChannel {
                exchange: exchange.id,
                input: exchange.to_input,
                from,
            })
        })
        .collect()
    }

    /// The exchanges out of a subtask, each with its channels by receiving subtask.
    pub fn outputs_of(&self, subtask: SubtaskId) -> Vec<OutputExchange> {
        let out = self
            .exchanges
            .iter()
            .filter(|exchange| exchange.from == subtask.vertex);
        out.map(|exchange| {
            let receivers = self
                .vertex(exchange.to)
                .into_iter()
                .flat_map(|vertex| vertex.subtasks());
            let connected = receivers.filter(|to| self.has_channel(exchange, subtask.index, to.index));
            let channels = connected
                .map(|to| OutputChannel {
                    to,
                    index: self.channel_index(exchange, subtask.index, to.index),
                })
                .collect();
            OutputExchange {
                exchange: *exchange,
                channels,
            }
        })
        .collect()
    }

    /// How many channels an exchange has.
    pub fn channel_count(&self, exchange: &Exchange) -> u64 {
        let (senders, receivers) = self.widths(exchange);
        match exchange.partitioning {
            Partitioning::Forward => u64::from(senders),
            Partitioning::Rescale => u64::from(senders.max(receivers)),
            _ => u64::from(senders) * u64::from(receivers),
        }
    }

    /// The place of the channel `from → to` in the list that [`Plan::inputs_of`] gives for the receiver.
    fn channel_index(&self, exchange: &Exchange, from: u32, to: u32) -> ChannelIndex {
        let before = self.exchanges.iter().take_while(|other| other.id != exchange.id);
        let before = before
            .filter(|other| other.to == exchange.to)
            .map(|other| self.fan_in(other, to));
        ChannelIndex(before.sum::<u32>() + self.senders_below(exchange, from, to))
    }

    fn fan_in(&self, exchange: &Exchange, to: u32) -> u32 {
        let (senders, _) = self.widths(exchange);
        self.senders_below(exchange, senders, to)
    }

    /// How many of the senders before this one have a channel to `to`.
    fn senders_below(&self, exchange: &Exchange, from: u32, to: u32) -> u32 {
        match exchange.partitioning {
            Partitioning::Forward | Partitioning::Rescale => (0..from)
                .filter(|from| self.has_channel(exchange, *from, to))
                .count() as u32,
            _ => from,
        }
    }
}
