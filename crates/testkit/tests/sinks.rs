//! The operators at the end of a graph: what is visible outside is each row once, whatever happened on the way.

use rivermark_connector::{CollectSink, Collected, CommitNode, DiscardNode};
use rivermark_testkit::{Event, Order, Subject, verify_operator};

#[test]
fn a_two_phase_sink() {
    let rows: Vec<u64> = (0..25).collect();
    for seed in 0..4 {
        let subject = || {
            let collected = Collected::default();
            let node = CommitNode::new(CollectSink::<u64>::new(collected.clone()));
            Subject::made_by("CommitOperator", node).observed_by(move || {
                assert_eq!(collected.open_transactions(), 0);
                collected.rows()
            })
        };
        let watermark = |n: u64| (n % 8 == 7).then(|| Event::watermark(n as i64));
        let input = rows
            .iter()
            .flat_map(|n| [Some(Event::row(*n)), watermark(*n)].into_iter().flatten());
        verify_operator(subject)
            .seed(seed)
            .input(input)
            .expect_outside(Order::Exact, rows.clone())
            .verify();
    }
}

/// 128 kB in line: a sink's queue takes 32 of them.
type Large = [[[u64; 32]; 32]; 16];

#[test]
fn a_two_phase_sink_whose_queue_is_full() {
    let subject = || {
        let collected = Collected::default();
        let node = CommitNode::new(CollectSink::<Large>::new(collected.clone()));
        let numbers = move || collected.rows().iter().map(|row| row[15][31][31]).collect();
        Subject::made_by("CommitOperator", node).observed_by(numbers)
    };
    let large = |n: u64| Event::row::<Large>([[[n; 32]; 32]; 16]);
    verify_operator(subject)
        .input((0..33).map(large))
        .input([Event::watermark(1), large(33)])
        .expect_outside(Order::Exact, 0..34u64)
        .verify();
}

#[test]
fn a_sink_that_drops_everything() {
    verify_operator(|| Subject::made_by("Discard", DiscardNode))
        .input((0..20u64).map(Event::row))
        .verify();
}
