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

#[test]
fn a_sink_that_drops_everything() {
    verify_operator(|| Subject::made_by("Discard", DiscardNode))
        .input((0..20u64).map(Event::row))
        .verify();
}
