//! Who gets what was in flight at the checkpoint: every record goes to exactly one subtask, and every channel's watermark to
//! whoever reads rows of it.

use rivermark_protocol::graph::{Graph, Node, Partitioning};
use rivermark_runtime::deploy::{InFlightShare, Share};
use rivermark_state::in_flight::{InFlightMark, Mark};
use rivermark_state::{InFlightChannel, OperatorEntry};
use rivermark_types::{Failure, InputId, NodeId, Result, Timestamp};
use std::collections::BTreeMap;

/// Adds to each subtask's share the channels that it reads before all others.
pub(crate) fn deal_in_flight(
    graph: &Graph,
    node: &Node,
    operators: &[OperatorEntry],
    entry: &OperatorEntry,
    shares: &mut [Share],
) -> Result<()> {
    if entry.subtasks.iter().all(|subtask| subtask.in_flight.is_empty()) {
        return Ok(());
    }
    let most = Promises::new(graph, operators).of_those_before(node.id);
    for subtask in &entry.subtasks {
        for channel in &subtask.in_flight {
            let channel = &held_back(channel, most);
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

/// A channel whose watermarks say no more than this.
fn held_back(channel: &InFlightChannel, most: Timestamp) -> InFlightChannel {
    let mark = |noted: &InFlightMark| InFlightMark {
        mark: match noted.mark {
            Mark::Watermark(watermark) => Mark::Watermark(watermark.min(most)),
            Mark::Idle(_) => noted.mark,
        },
        ..*noted
    };
    InFlightChannel {
        watermark: channel.watermark.min(most),
        marks: channel.marks.iter().map(mark).collect(),
        ..channel.clone()
    }
}

/// The event times up to which nothing comes out of operators any more that go on from a checkpoint. A subtask that has read
/// what was in flight to it gets more from every subtask of those before it, and these may have changed places: another
/// subtask of a source reads the split now, and at another parallelism the channel is another. So what was in flight
/// promises no more than the lowest of them.
struct Promises<'a> {
    graph: &'a Graph,
    operators: &'a [OperatorEntry],
    known: BTreeMap<NodeId, Timestamp>,
}

impl<'a> Promises<'a> {
    fn new(graph: &'a Graph, operators: &'a [OperatorEntry]) -> Promises<'a> {
        Promises {
            graph,
            operators,
            known: BTreeMap::new(),
        }
    }

    /// The lowest of all operators that send to this one.
    fn of_those_before(&mut self, id: NodeId) -> Timestamp {
        let graph = self.graph;
        let before = graph.edges.iter().filter(|edge| edge.to == id);
        let lowest = before.map(|edge| self.of(edge.from)).min();
        lowest.unwrap_or(Timestamp::MIN)
    }

    fn of(&mut self, id: NodeId) -> Timestamp {
        if let Some(known) = self.known.get(&id) {
            return *known;
        }
        let promise = self.work_out(id);
        self.known.insert(id, promise);
        promise
    }

    fn work_out(&mut self, id: NodeId) -> Timestamp {
        let name = self.graph.stable_name(id);
        let entry = self.operators.iter().find(|entry| entry.uid == name);
        let subtasks = || entry.into_iter().flat_map(|entry| &entry.subtasks);
        // Only of operators with a uid is the watermark in the checkpoint; the others pass on what they are told.
        let has_uid = self.graph.node(id).is_some_and(|node| node.uid.is_some());
        if has_uid && let Some(lowest) = subtasks().map(|subtask| subtask.watermark).min() {
            return lowest;
        }
        let in_flight = subtasks().flat_map(|subtask| &subtask.in_flight);
        let in_flight = in_flight.map(|channel| channel.watermark).min();
        let before = self.of_those_before(id);
        in_flight.map_or(before, |lowest| lowest.min(before))
    }
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
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;
    use rivermark_state::SubtaskEntry;
    use rivermark_stream::{DataStream, StreamEnv};
    use rivermark_types::{MaxParallelism, Uid};

    fn operator(keyed: bool, parallelism: u32) -> OperatorEntry {
        OperatorEntry {
            uid: Uid::from("op"),
            name: "op".to_owned(),
            max_parallelism: MaxParallelism::default_for(1),
            parallelism,
            keyed,
            subtasks: vec![],
        }
    }

    fn in_flight(by_key: bool) -> InFlightChannel {
        InFlightChannel {
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
        }
    }

    fn part(partitioning: Partitioning, by_key: bool, then: u32, now: u32) -> Vec<Vec<Option<bool>>> {
        let (entry, channel) = (operator(by_key, then), in_flight(by_key));
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

    /// Two sources; the second's rows are dealt out in turns to an operator without a uid, then both go by key.
    fn graph() -> Graph {
        let env = StreamEnv::new();
        env.set_parallelism(2);
        let keyed = |stream: DataStream<u64>| stream.key_by(|row: &u64| *row);
        let first = env.sequence(9).uid("first");
        let second = env.sequence(9).uid("second").rebalance().map(|row| row + 1);
        let both = first.set_parallelism(2).union(second.set_parallelism(2));
        keyed(both).reduce(|_, row| row).uid("last").discard();
        env.build().unwrap().graph
    }

    #[test]
    fn what_was_in_flight_promises_no_more_than_those_behind_it() {
        let graph = graph();
        let id = |uid: &str| {
            let node = graph
                .nodes
                .iter()
                .find(|node| node.uid.as_ref() == Some(&Uid::from(uid)));
            node.unwrap().id
        };
        let channel = |from: &Uid, watermark| InFlightChannel {
            from: from.clone(),
            watermark: Timestamp(watermark),
            marks: vec![InFlightMark {
                after: 1,
                mark: Mark::Watermark(Timestamp(watermark + 50)),
            }],
            ..in_flight(true)
        };
        let entry = |uid: &Uid, watermarks: [i64; 2], channels: Vec<InFlightChannel>| OperatorEntry {
            uid: uid.clone(),
            subtasks: (0..)
                .zip(watermarks)
                .map(|(index, watermark)| SubtaskEntry {
                    index,
                    watermark: Timestamp(watermark),
                    lists: Default::default(),
                    in_flight: if index == 0 { channels.clone() } else { vec![] },
                })
                .collect(),
            ..operator(true, 2)
        };
        let last = graph.node(id("last")).unwrap();
        let [first, second] = ["first", "second"].map(Uid::from);
        let between = graph
            .edges
            .iter()
            .find(|edge| edge.from == id("second"))
            .unwrap()
            .to;
        let between = graph.stable_name(between);
        // The lowest watermarks of the sources, and of what is in flight between them: each in turn is the lowest of all.
        for (of_first, of_second, on_the_way, most) in [
            (100, 200, 300, 100),
            (200, 100, 300, 100),
            (300, 200, 100, 100),
            (900, 900, 900, 550),
        ] {
            let to_last = vec![channel(&first, 500)];
            let operators = vec![
                entry(&first, [of_first, 1_000], vec![]),
                entry(&second, [1_000, of_second], vec![]),
                // Without a uid its own watermark is not known.
                entry(&between, [i64::MIN; 2], vec![channel(&second, on_the_way)]),
                entry(&Uid::from("last"), [0; 2], to_last),
            ];
            let share = Share {
                lists: Default::default(),
                watermark: Timestamp(0),
                in_flight: vec![],
            };
            let mut shares = vec![share; 2];
            deal_in_flight(&graph, last, &operators, &operators[3], &mut shares).unwrap();
            let dealt = &shares[0].in_flight[0].channel;
            assert_eq!(dealt.watermark, Timestamp(most.min(500)));
            assert_eq!(dealt.marks[0].mark, Mark::Watermark(Timestamp(most)));
        }
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
