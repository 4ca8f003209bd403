//! Order, watermark hold, restore; and that each split is in exactly one place whatever happens.

use super::*;
use proptest::prelude::*;

type Tracker = SplitTracker<&'static str, u64>;

fn found(id: &str, lower_bound: Option<i64>) -> Discovered<&'static str> {
    Discovered {
        id: id.into(),
        split: "split",
        lower_bound: lower_bound.map(Timestamp),
    }
}

fn with(ids: &[&str]) -> Tracker {
    let mut tracker = Tracker::new();
    tracker.discovered(ids.iter().map(|id| found(id, None)));
    tracker
}

fn ask(tracker: &mut Tracker, reader: u32) -> Option<String> {
    tracker.next_for(reader).map(|assignment| assignment.id.0)
}

fn waiting(tracker: &Tracker) -> Vec<&str> {
    tracker.unassigned().map(|id| id.0.as_str()).collect()
}

fn back(id: &str, position: u64, watermark: Option<i64>) -> Returned<u64> {
    Returned {
        id: id.into(),
        position,
        watermark: watermark.map(Timestamp),
    }
}

#[test]
fn splits_go_out_in_the_order_of_discovery() {
    let mut tracker = with(&["b", "a"]);
    assert_eq!(
        tracker.discovered([found("a", None), found("c", None), found("c", None)]),
        1
    );
    let given: Vec<_> = (0..4).map(|reader| ask(&mut tracker, reader % 2)).collect();
    assert_eq!(
        given,
        [Some("b".into()), Some("a".into()), Some("c".into()), None]
    );
    let owners: Vec<_> = tracker
        .assigned()
        .map(|(id, reader)| (id.0.as_str(), reader))
        .collect();
    assert_eq!(owners, [("a", 1), ("b", 0), ("c", 0)]);
}

#[test]
fn a_source_ends_when_it_is_exhausted_and_all_is_read() {
    let mut tracker = with(&["a"]);
    tracker.exhausted();
    assert!(!tracker.all_assigned_and_exhausted());
    ask(&mut tracker, 0);
    assert!(tracker.all_assigned_and_exhausted());
    assert!(!tracker.all_finished());
    tracker.finished(0, &"a".into()).unwrap();
    assert!(tracker.all_finished());
    // A second listing of the same directory brings nothing back.
    assert_eq!(tracker.discovered([found("a", None)]), 0);
}

#[test]
fn an_unexhausted_source_does_not_end() {
    assert!(!Tracker::new().all_assigned_and_exhausted());
}

#[test]
fn only_its_reader_finishes_a_split_and_only_once() {
    let mut tracker = with(&["a", "b"]);
    ask(&mut tracker, 0);
    let wrong = |reader, id: &str| {
        Err(SplitError::NotAssigned {
            reader,
            id: id.into(),
        })
    };
    assert_eq!(tracker.finished(1, &"a".into()), wrong(1, "a"));
    assert_eq!(tracker.finished(0, &"b".into()), wrong(0, "b"));
    assert_eq!(tracker.finished(0, &"a".into()), Ok(()));
    assert_eq!(tracker.finished(0, &"a".into()), wrong(0, "a"));
    assert_eq!(tracker.finished_count(), 1);
}

#[test]
fn unread_splits_hold_the_watermark_at_their_bound() {
    let mut tracker = Tracker::new();
    assert_eq!(tracker.watermark_hold(), Timestamp::MAX);
    tracker.discovered([
        found("a", Some(10)),
        found("b", None),
        found("c", Some(30)),
        found("d", Some(20)),
    ]);
    assert_eq!(tracker.watermark_hold(), Timestamp::MIN, "b has no bound");
    ask(&mut tracker, 0);
    assert_eq!(tracker.watermark_hold(), Timestamp::MIN);
    ask(&mut tracker, 0);
    assert_eq!(tracker.watermark_hold(), Timestamp(20));
    tracker.set_undiscovered_bound(Some(Timestamp(15)));
    assert_eq!(tracker.watermark_hold(), Timestamp(15));
    tracker.exhausted();
    assert_eq!(
        tracker.watermark_hold(),
        Timestamp(20),
        "nothing is left to be discovered"
    );
    ask(&mut tracker, 0);
    ask(&mut tracker, 0);
    assert_eq!(tracker.watermark_hold(), Timestamp::MAX);
}

#[test]
fn after_a_restore_returned_splits_go_first_with_their_positions() {
    let mut tracker = with(&["a", "b", "c", "d"]);
    (0..3).for_each(|reader| drop(ask(&mut tracker, reader)));
    tracker.finished(0, &"a".into()).unwrap();
    let snapshot = tracker.snapshot();
    // Readers answer in any order; b was finished after the snapshot of the tracker, before that of its reader.
    let mut restored = Tracker::restore(snapshot.clone(), [back("c", 7, Some(70))]).unwrap();
    assert_eq!(waiting(&restored), ["c", "d"]);
    assert_eq!(restored.finished_count(), 2);
    let first = restored.next_for(9).unwrap();
    assert_eq!((first.position, first.watermark), (Some(7), Some(Timestamp(70))));
    assert_eq!(restored.next_for(9).unwrap().position, None);

    let both = Tracker::restore(snapshot, [back("c", 7, None), back("b", 3, None)]).unwrap();
    assert_eq!(waiting(&both), ["b", "c", "d"]);
}

#[test]
fn a_returned_split_keeps_its_position_over_a_second_restore() {
    let mut tracker = with(&["a"]);
    ask(&mut tracker, 0);
    let once = Tracker::restore(tracker.snapshot(), [back("a", 5, Some(50))]).unwrap();
    let mut twice = Tracker::restore(once.snapshot(), []).unwrap();
    assert_eq!(twice.watermark_hold(), Timestamp(50));
    assert_eq!(twice.next_for(0).unwrap().position, Some(5));
}

#[test]
fn a_returned_split_holds_at_the_later_of_bound_and_watermark() {
    let mut tracker = Tracker::new();
    tracker.discovered([found("a", Some(10)), found("b", Some(20))]);
    ask(&mut tracker, 0);
    ask(&mut tracker, 1);
    let snapshot = tracker.snapshot();
    let hold = |a, b| {
        let returned = [back("a", 1, a), back("b", 1, b)];
        Tracker::restore(snapshot.clone(), returned)
            .unwrap()
            .watermark_hold()
            .0
    };
    assert_eq!(hold(None, None), 10);
    assert_eq!(hold(Some(15), None), 15);
    assert_eq!(hold(Some(5), None), 10);
    assert_eq!(hold(Some(25), None), 20);
}

#[test]
fn a_split_in_two_snapshots_is_an_error() {
    let mut tracker = with(&["a", "b"]);
    ask(&mut tracker, 0);
    let restore = |returned: Vec<Returned<u64>>| Tracker::restore(tracker.snapshot(), returned).unwrap_err();
    for (returned, id) in [
        (vec![back("b", 0, None)], "b"),
        (vec![back("x", 0, None)], "x"),
        (vec![back("a", 0, None), back("a", 1, None)], "a"),
    ] {
        assert_eq!(restore(returned), SplitError::Misplaced { id: id.into() });
    }
    // "a" is assigned and "b" waits; each once more in a second place.
    let snapshot = tracker.snapshot();
    type Doubling = fn(&mut SplitSnapshot<&'static str, u64>);
    let doublings: [(&str, Doubling); 5] = [
        ("a", |s| s.finished.push("a".into())),
        ("b", |s| s.finished.push("b".into())),
        ("a", |s| s.assigned.extend(s.assigned.clone())),
        ("b", |s| s.unassigned.extend(s.unassigned.clone())),
        ("a", |s| s.unassigned.extend(s.assigned.clone())),
    ];
    for (id, double) in doublings {
        let mut doubled = snapshot.clone();
        double(&mut doubled);
        assert_eq!(
            Tracker::restore(doubled, []).unwrap_err(),
            SplitError::Doubled { id: id.into() }
        );
    }
}

#[derive(Clone, Debug)]
enum Step {
    Discover(u8),
    Ask(u32),
    Finish(prop::sample::Index),
    /// Fails over to the state of now, after one in so many readers' splits was finished unseen.
    Restore(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0u8..20).prop_map(Step::Discover),
        4 => (0u32..3).prop_map(Step::Ask),
        3 => any::<prop::sample::Index>().prop_map(Step::Finish),
        1 => (2u64..5).prop_map(Step::Restore),
    ]
}

/// What a plain list of all places would say.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Waiting,
    With(u32),
    Finished,
}

fn places(tracker: &Tracker) -> BTreeMap<String, Place> {
    let waiting = tracker.unassigned().map(|id| (id, Place::Waiting));
    let assigned = tracker.assigned().map(|(id, reader)| (id, Place::With(reader)));
    let finished = tracker.finished.iter().map(|id| (id, Place::Finished));
    let all: Vec<_> = waiting
        .chain(assigned)
        .chain(finished)
        .map(|(id, place)| (id.0.clone(), place))
        .collect();
    let by_id: BTreeMap<_, _> = all.iter().cloned().collect();
    assert_eq!(all.len(), by_id.len(), "a split in two places: {all:?}");
    by_id
}

proptest! {
    #[test]
    fn each_split_is_in_exactly_one_place(steps in prop::collection::vec(any_step(), 0..80)) {
        let (mut tracker, mut model) = (Tracker::new(), BTreeMap::<String, Place>::new());
        for step in steps {
            match step {
                Step::Discover(n) => {
                    let id = format!("s{n}");
                    tracker.discovered([found(&id, None)]);
                    model.entry(id).or_insert(Place::Waiting);
                }
                Step::Ask(reader) => {
                    let given = ask(&mut tracker, reader);
                    prop_assert_eq!(given.is_some(), model.values().any(|place| *place == Place::Waiting));
                    if let Some(id) = given {
                        prop_assert_eq!(model.insert(id, Place::With(reader)), Some(Place::Waiting));
                        let returned = tracker.unassigned.values().map(|open| open.position.is_some());
                        prop_assert!(returned.is_sorted_by_key(|is_returned| !is_returned), "returned go first");
                    }
                }
                Step::Finish(which) => {
                    let held: Vec<(SplitId, u32)> = tracker.assigned().map(|(id, r)| (id.clone(), r)).collect();
                    if !held.is_empty() {
                        let (id, reader) = which.get(&held);
                        tracker.finished(*reader, id).unwrap();
                        model.insert(id.0.clone(), Place::Finished);
                    }
                }
                Step::Restore(lost) => {
                    let held: Vec<String> = tracker.assigned().map(|(id, _)| id.0.clone()).collect();
                    let mut returned = Vec::new();
                    for (n, id) in held.into_iter().enumerate() {
                        let finished_unseen = n as u64 % lost == 1;
                        model.insert(id.clone(), if finished_unseen { Place::Finished } else { Place::Waiting });
                        if !finished_unseen {
                            returned.push(back(&id, n as u64, None));
                        }
                    }
                    tracker = Tracker::restore(tracker.snapshot(), returned).unwrap();
                }
            }
            prop_assert_eq!(places(&tracker), model.clone());
        }
    }

    #[test]
    fn a_snapshot_brings_back_the_same_order(ids in prop::collection::vec(0u8..30, 0..30), given in 0usize..10) {
        let mut tracker = SplitTracker::<String, u64>::new();
        tracker.discovered(ids.iter().map(|n| {
            let id = SplitId(format!("s{n}"));
            Discovered { split: id.0.clone(), id, lower_bound: Some(Timestamp(i64::from(*n))) }
        }));
        (0..given).for_each(|_| drop(tracker.next_for(0)));
        let returned: Vec<_> = tracker.assigned().map(|(id, _)| back(&id.0, 1, None)).collect();
        let discovery: Vec<SplitId> = {
            let mut seen = BTreeSet::new();
            ids.iter().filter(|n| seen.insert(**n)).map(|n| SplitId(format!("s{n}"))).collect()
        };
        let json = serde_json::to_string(&tracker.snapshot()).unwrap();
        let snapshot: SplitSnapshot<String, u64> = serde_json::from_str(&json).unwrap();
        let restored = SplitTracker::restore(snapshot, returned).unwrap();
        prop_assert_eq!(restored.unassigned().cloned().collect::<Vec<_>>(), discovery);
    }
}

#[test]
fn what_the_enumerator_said_comes_back_from_a_checkpoint() {
    let restored = |tracker: &Tracker| Tracker::restore(tracker.snapshot(), []).unwrap();
    let mut tracker = with(&[]);
    tracker.set_undiscovered_bound(Some(Timestamp(7)));
    let back = restored(&tracker);
    assert!(!back.is_exhausted());
    assert_eq!(back.watermark_hold(), Timestamp(7));
    tracker.exhausted();
    let back = restored(&tracker);
    assert!(back.is_exhausted() && back.all_finished());
    assert_eq!(back.watermark_hold(), Timestamp::MAX);
}

#[test]
fn a_split_is_named_by_its_id() {
    assert_eq!(SplitId::from("a.csv:0").to_string(), "a.csv:0");
}

#[test]
fn a_finished_split_that_is_forgotten_may_be_found_again() {
    let mut tracker = with(&["a"]);
    ask(&mut tracker, 0);
    tracker.finished(0, &"a".into()).unwrap();
    assert_eq!(tracker.discovered([found("a", None)]), 0, "it is known");
    tracker.forget_finished();
    assert_eq!(tracker.discovered([found("a", None)]), 1);
}
