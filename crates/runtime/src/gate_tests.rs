//! The watermark and the activity of a gate, from those of its channels.

use super::*;
use crate::channel::{Credit, Sender, channel};
use crate::seams::NoSeams;
use crate::waker::SlotWaker;
use rivermark_data::TypedEdge;
use rivermark_state::batch_rows;
use rivermark_types::{Uid, VertexId};

struct Bench {
    gate: Gate,
    senders: Vec<Sender>,
}

impl Bench {
    fn new(channels: usize, watermark: Timestamp) -> Bench {
        let credit = Credit {
            rows: 10,
            bytes: 1_000,
        };
        let (senders, inputs) = (0..channels)
            .map(|at| {
                let (sender, receiver) = channel(credit, SlotWaker::default(), SlotWaker::default());
                let wired = InputChannel {
                    input: InputId(0),
                    from: format!("source/{at}"),
                    producer: None,
                    receiver,
                    origin: ChannelOrigin {
                        operator: Uid::from("source"),
                        port: 0,
                        index: at as u32,
                        edge: Arc::new(TypedEdge::<u64>::new(batch_rows::<u64>())),
                        by_key: false,
                        keeps_order: false,
                    },
                };
                (sender, wired)
            })
            .unzip();
        let subtask = SubtaskId {
            vertex: VertexId(1),
            index: 0,
        };
        let gate = Gate::new(
            AlignMode::ExactlyOnce,
            inputs,
            watermark,
            subtask,
            Arc::new(NoSeams),
        );
        Bench { gate, senders }
    }

    /// What the task hears when a channel says this.
    fn says(&mut self, channel: usize, element: Element) -> Vec<String> {
        self.senders[channel].send(element);
        let mut heard = vec![];
        while let Some(delivery) = self.gate.poll(Millis(0)) {
            match delivery {
                Delivery::Watermark(watermark) => heard.push(watermark.0.to_string()),
                Delivery::Status(activity) => heard.push(format!("{activity:?}")),
                _ => {}
            }
        }
        heard
    }

    fn rises(&mut self, channel: usize, to: i64) -> Vec<String> {
        self.says(channel, Element::Watermark(Timestamp(to)))
    }

    fn idle(&mut self, channel: usize) -> Vec<String> {
        self.says(channel, Element::Status(Activity::Idle))
    }

    fn active(&mut self, channel: usize) -> Vec<String> {
        self.says(channel, Element::Status(Activity::Active))
    }
}

#[test]
fn idle_channels_are_left_out_and_the_last_one_lets_the_highest_through() {
    let mut bench = Bench::new(3, Timestamp::MIN);
    assert!(bench.rises(0, 10).is_empty());
    assert!(bench.rises(1, 30).is_empty());
    assert!(bench.idle(1).is_empty(), "the third has promised nothing");
    assert_eq!(bench.idle(2), ["10"]);
    assert_eq!(bench.rises(0, 20), ["20"]);
    assert_eq!(bench.idle(0), ["30", "Idle"], "nobody is left to wait for");
    assert_eq!(bench.active(0), ["Active"]);
    assert!(bench.rises(0, 25).is_empty());
    assert_eq!(bench.rises(0, 35), ["35"]);
}

#[test]
fn one_that_comes_back_behind_the_watermark_counts_when_it_has_caught_up() {
    let mut bench = Bench::new(2, Timestamp::MIN);
    bench.rises(0, 10);
    bench.rises(1, 10);
    assert!(bench.idle(1).is_empty());
    assert_eq!(bench.rises(0, 50), ["50"]);
    assert!(bench.active(1).is_empty());
    assert_eq!(
        bench.rises(0, 60),
        ["60"],
        "it does not wait for the one that lags"
    );
    assert!(bench.rises(1, 55).is_empty());
    assert_eq!(bench.rises(0, 70), ["70"]);
    assert!(bench.rises(1, 80).is_empty());
    assert_eq!(bench.rises(0, 90), ["80"], "now it does");
}

#[test]
fn a_channel_at_its_end_is_not_waited_for_and_does_not_end_the_idle_ones() {
    let mut bench = Bench::new(2, Timestamp::MIN);
    bench.rises(0, 10);
    bench.rises(1, 20);
    assert_eq!(bench.idle(0), ["20"]);
    assert_eq!(
        bench.rises(1, i64::MAX),
        ["Idle"],
        "the watermark is not the end yet"
    );
    assert_eq!(bench.active(0), ["Active"]);
    assert_eq!(bench.rises(0, 40), ["40"]);
    assert_eq!(bench.rises(0, i64::MAX), [i64::MAX.to_string()]);
}

#[test]
fn after_a_restore_every_channel_is_waited_for_until_it_says_otherwise() {
    let mut bench = Bench::new(2, Timestamp(100));
    assert!(
        bench.rises(0, 150).is_empty(),
        "the other may still bring rows of 101"
    );
    assert_eq!(bench.rises(1, 120), ["120"]);
}

#[test]
fn the_watermark_of_the_checkpoint_is_told_once_more() {
    let mut bench = Bench::new(2, Timestamp(100));
    assert!(bench.rises(0, 100).is_empty());
    assert!(bench.rises(1, 90).is_empty());
    assert_eq!(bench.rises(1, 100), ["100"], "those behind start from nothing");
    assert!(bench.idle(1).is_empty());
    let mut at_the_end = Bench::new(1, Timestamp::MAX);
    assert_eq!(at_the_end.rises(0, i64::MAX), [i64::MAX.to_string()]);
}
