//! Who gets what was in flight at the checkpoint: every record goes to exactly one subtask, and every channel's watermark to
//! whoever reads rows of it.

use rivermark_protocol::graph::{Graph, Node, Partitioning};
use rivermark_runtime::deploy::{InFlightShare, Share};
use rivermark_state::{InFlightChannel, OperatorEntry};
use rivermark_types::{Failure, InputId, Result};

/// Adds to each subtask's share the channels that it reads before all others.
pub(crate) fn deal_in_flight(
    graph: &Graph,
    node: &Node,
    entry: &OperatorEntry,
    shares: &mut [Share],
) -> Result<()> {
    for subtask in &entry.subtasks {
        for channel in &subtask.in_flight {
            let input = InputId(channel.input);
            let edge = graph.edge_from(node.id, input, &channel.from, channel.port);
            let edge = edge.ok_or_else(|| gone(node, channel))?;
            let partitioning = graph.edges[edge].partitioning;
            let dealt = Dealt {
                entry,
                channel,
                to: subtask.index,
                partitioning,
                parallelism: shares.len() as u32,
            };
            for (index, share) in (0..).zip(shares.iter_mut()) {
                if let Some(only_own) = dealt.part_of(index) {
                    share.in_flight.push(InFlightShare {
                        channel: channel.clone(),
                        to: subtask.index,
                        edge,
                        only_own,
                    });
                }
            }
        }
    }
    Ok(())
}

fn gone(node: &Node, channel: &InFlightChannel) -> Failure {
    Failure::invalid(format!(
        "{} records from {} were in flight to input {} of {:?} at the checkpoint, and the operator has no such input now: \
         start the job that wrote it, take a checkpoint or savepoint with nothing in flight, and start from that",
        channel.rows, channel.from, channel.input, node.name
    ))
}

/// A channel to be dealt out.
struct Dealt<'a> {
    entry: &'a OperatorEntry,
    channel: &'a InFlightChannel,
    to: u32,
    partitioning: Partitioning,
    parallelism: u32,
}

impl Dealt<'_> {
    /// Whether a subtask reads the channel; if so, whether only the records that the edge leads to it.
    fn part_of(&self, index: u32) -> Option<bool> {
        let rescaled = self.parallelism != self.entry.parallelism;
        match self.partitioning {
            // Whichever subtask it was to: its records are of that one's key groups.
            Partitioning::Key if self.channel.by_key => {
                let range = |index, of| self.entry.max_parallelism.range_of(index, of);
                let (then, now) = (
                    range(self.to, self.entry.parallelism),
                    range(index, self.parallelism),
                );
                (then.start < now.end && now.start < then.end).then_some(rescaled)
            }
            Partitioning::Key => Some(true),
            Partitioning::Custom if rescaled => Some(true),
            // A mark of it is enough: every subtask had the same records.
            Partitioning::Broadcast => (index % self.entry.parallelism == self.to).then_some(false),
            // More hands: each takes a part of every channel, and hears all of its marks.
            Partitioning::Rebalance | Partitioning::Shuffle if self.parallelism > self.entry.parallelism => {
                Some(true)
            }
            _ => (self.to % self.parallelism == index).then_some(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rivermark_types::{MaxParallelism, Timestamp, Uid};

    fn part(partitioning: Partitioning, by_key: bool, then: u32, now: u32) -> Vec<Vec<Option<bool>>> {
        let entry = OperatorEntry {
            uid: Uid::from("op"),
            name: "op".to_owned(),
            max_parallelism: MaxParallelism::default_for(1),
            parallelism: then,
            keyed: by_key,
            subtasks: vec![],
        };
        let channel = InFlightChannel {
            input: 0,
            from: Uid::from("source"),
            port: 0,
            index: 0,
            by_key,
            watermark: Timestamp(0),
            idle: false,
            rows: 1,
            bytes: 8,
            marks: vec![],
        };
        let of = |to| {
            let dealt = Dealt {
                entry: &entry,
                channel: &channel,
                to,
                partitioning,
                parallelism: now,
            };
            (0..now).map(|index| dealt.part_of(index)).collect()
        };
        (0..then).map(of).collect()
    }

    #[test]
    fn keyed_channels_go_to_whoever_has_their_key_groups() {
        let own = Some(true);
        assert_eq!(
            part(Partitioning::Key, true, 2, 3),
            [[own, own, None], [None, own, own]]
        );
        assert_eq!(part(Partitioning::Key, true, 3, 1), [[own], [own], [own]]);
        assert_eq!(
            part(Partitioning::Key, true, 2, 2),
            [[Some(false), None], [None, Some(false)]]
        );
        // It was dealt in turns before: any record may be anybody's now.
        assert_eq!(part(Partitioning::Key, false, 1, 2), [[own, own]]);
    }

    #[test]
    fn what_was_dealt_in_turns_is_divided_among_more_subtasks() {
        let own = Some(true);
        for partitioning in [Partitioning::Rebalance, Partitioning::Shuffle] {
            assert_eq!(
                part(partitioning, false, 2, 3),
                [[own, own, own], [own, own, own]]
            );
        }
    }

    #[test]
    fn the_others_go_to_one_subtask_whole() {
        let whole = Some(false);
        for partitioning in [
            Partitioning::Rebalance,
            Partitioning::Shuffle,
            Partitioning::Global,
            Partitioning::Forward,
        ] {
            assert_eq!(
                part(partitioning, false, 3, 2),
                [[whole, None], [None, whole], [whole, None]]
            );
        }
        for partitioning in [Partitioning::Global, Partitioning::Forward] {
            assert_eq!(part(partitioning, false, 1, 2), [[whole, None]]);
        }
        assert_eq!(
            part(Partitioning::Custom, false, 2, 2),
            [[whole, None], [None, whole]]
        );
        assert_eq!(
            part(Partitioning::Custom, false, 1, 2),
            [[Some(true), Some(true)]]
        );
    }
}
