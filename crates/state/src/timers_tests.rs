//! Timers against a set, with freezes in between; restored images give the same timers.

use super::*;
use crate::image::{ImageChunk, ImageRows};
use crate::table::tests::{keys, origin};
use proptest::prelude::*;
use std::collections::BTreeSet;

#[derive(Default)]
struct Rows(Vec<ImageRow<u64, Times>>);
impl ImageSink for Rows {
    fn push(&mut self, chunk: ImageChunk) {
        let rows = chunk.content.downcast::<ImageRows<u64, Times>>().unwrap();
        self.0.extend(rows.into_rows());
    }
}
impl Rows {
    fn timers(&self) -> BTreeSet<(i64, u64)> {
        let timers = self
            .0
            .iter()
            .flat_map(|row| row.value.as_slice().iter().map(|time| (*time, row.key)));
        let count = timers.clone().count();
        let timers: BTreeSet<_> = timers.collect();
        assert_eq!(timers.len(), count, "a timer went out twice");
        timers
    }
}

fn key(value: u64) -> Key<u64> {
    Key::new(value, keys())
}

#[derive(Clone, Debug)]
enum Step {
    Register(u64, i64),
    /// Many keys at times that far apart.
    Fill(u16, i64, i64),
    Delete(u64, i64),
    Fire(i64, usize),
    Freeze,
    Walk(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let time = prop_oneof![
        0..50i64,
        -2_000..3_000i64,
        any::<i64>(),
        Just(i64::MIN),
        Just(i64::MAX)
    ];
    let gap = prop_oneof![Just(0i64), Just(1), Just(17), Just(86_400_000)];
    prop_oneof![
        6 => (0..40u64, time.clone()).prop_map(|(key, time)| Step::Register(key, time)),
        2 => (1..1_500u16, 0..1_000i64, gap).prop_map(|(count, from, gap)| Step::Fill(count, from, gap)),
        3 => (0..40u64, time.clone()).prop_map(|(key, time)| Step::Delete(key, time)),
        5 => (time, 1..800usize).prop_map(|(watermark, most)| Step::Fire(watermark, most)),
        1 => Just(Step::Freeze),
        3 => (1..500usize).prop_map(Step::Walk),
    ]
}

struct Check {
    queue: TimerQueue<u64>,
    /// By time, then hash.
    model: BTreeSet<(i64, KeyHash, u64)>,
    frozen: Option<BTreeSet<(i64, u64)>>,
    image: Rows,
}

impl Check {
    fn register(&mut self, value: u64, time: i64) {
        let key = key(value);
        assert_eq!(
            self.queue.register(&key, time),
            self.model.insert((time, key.hash, value))
        );
    }
    fn apply(&mut self, step: &Step) {
        match *step {
            Step::Register(value, time) => self.register(value, time),
            Step::Fill(count, from, gap) => {
                (0..i64::from(count)).for_each(|i| self.register(1_000 + i as u64 % 700, from + i * gap));
            }
            Step::Delete(value, time) => {
                let key = key(value);
                assert_eq!(
                    self.queue.delete(&key, time),
                    self.model.remove(&(time, key.hash, value))
                );
            }
            Step::Fire(watermark, most) => self.fire(watermark, most),
            Step::Freeze => {
                self.queue.freeze(&mut self.image);
                self.compare();
                self.frozen = Some(self.model.iter().map(|(time, _, key)| (*time, *key)).collect());
            }
            Step::Walk(mut budget) => {
                if self.queue.walk(&mut budget, &mut self.image) == Walk::Done {
                    self.compare();
                }
            }
        }
    }
    fn fire(&mut self, watermark: i64, most: usize) {
        for _ in 0..most {
            let expected = self
                .model
                .first()
                .copied()
                .filter(|(time, ..)| *time <= watermark);
            let due = self.queue.next_due(watermark);
            assert_eq!(due.map(|(key, time)| (time, key.hash, key.value)), expected);
            let Some(fired) = expected else { return };
            self.model.remove(&fired);
        }
    }
    fn compare(&mut self) {
        if let Some(frozen) = self.frozen.take() {
            assert_eq!(std::mem::take(&mut self.image).timers(), frozen);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 1 } else { 60 }, failure_persistence: None, ..Default::default() })]

    #[test]
    fn timers_fire_in_order_and_images_are_exact(steps in prop::collection::vec(step(), 1..if cfg!(miri) { 15 } else { 80 })) {
        let queue = TimerQueue::new(origin(), keys());
        let mut check = Check { queue, model: BTreeSet::new(), frozen: None, image: Rows::default() };
        for step in &steps {
            check.apply(step);
        }
        check.apply(&Step::Freeze);
        check.apply(&Step::Walk(usize::MAX));
        // A restored queue goes on as the one that was snapshotted.
        check.apply(&Step::Freeze);
        check.queue.walk(&mut { usize::MAX }, &mut check.image);
        check.queue = TimerQueue::new(origin(), keys());
        for row in std::mem::take(&mut check.image.0) {
            check.queue.restore(row);
        }
        check.frozen = None;
        check.fire(i64::MAX, usize::MAX);
        assert!(check.model.is_empty());
        assert_eq!(check.queue.tables.rows(), 0);
    }
}

#[test]
fn buckets_follow_the_density_of_timers() {
    const DAY: i64 = 86_400_000;
    let mut queue = TimerQueue::new(origin(), keys());
    // One key with a timer a day for years; many keys at one instant; many a millisecond.
    (0..3_000).for_each(|day| assert!(queue.register(&key(1), day * DAY)));
    (0..3_000).for_each(|n| assert!(queue.register(&key(n), DAY / 2)));
    (0..3_000).for_each(|n| assert!(queue.register(&key(10_000 + n), DAY + n as i64 / 3)));
    assert!((8..=20).contains(&queue.buckets.len()), "{}", queue.buckets.len());
    let fired = std::iter::from_fn(|| queue.next_due(2 * DAY)).count();
    assert_eq!(fired, 3 + 3_000 + 3_000);
    assert!(queue.next_due(2 * DAY).is_none());
}

#[test]
fn a_timer_that_is_moved_with_every_record_keeps_the_agenda_small() {
    let mut queue = TimerQueue::new(origin(), keys());
    for n in 0..20_000 {
        queue.delete(&key(1), n);
        queue.register(&key(1), n + 1);
        assert!(queue.next_due(n).is_none());
    }
    assert_eq!(queue.tables.rows(), 1);
    assert!(
        queue
            .agenda
            .as_ref()
            .is_none_or(|agenda| agenda.due.len() <= 2 * BUCKET_TIMERS + 2)
    );
}

#[test]
fn a_timer_registered_while_others_fire_takes_its_place_among_them() {
    let mut queue = TimerQueue::new(origin(), keys());
    queue.register(&key(1), 10);
    queue.register(&key(2), 30);
    assert_eq!(queue.next_due(100), Some((key(1), 10)));
    queue.register(&key(3), 20);
    queue.register(&key(4), 5);
    let rest: Vec<i64> = std::iter::from_fn(|| queue.next_due(100))
        .map(|(_, time)| time)
        .collect();
    assert_eq!(rest, [5, 20, 30]);
}
