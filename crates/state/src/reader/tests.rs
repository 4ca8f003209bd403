use super::*;
use crate::image::StateKind;
use proptest::prelude::*;
use rivermark_storage::Digest;
use rivermark_types::KeyGroup;

fn page(offset: u64, len: u64) -> PageEntry {
    PageEntry {
        state: StateId {
            operator: "o".into(),
            name: "s".into(),
            kind: StateKind::List,
        },
        first_group: KeyGroup(0),
        last_group: KeyGroup(0),
        rows: 1,
        offset,
        len,
        checksum: Digest::of(b""),
    }
}

#[test]
fn neighbours_are_fetched_together_and_gaps_are_not_read() {
    let pages = [
        page(0, 5),
        page(5, 0),
        page(5, 5),
        page(11, 1),
        page(12, FETCH_BYTES),
        page(12 + FETCH_BYTES, 1),
    ];
    let pages: Vec<&PageEntry> = pages.iter().collect();
    let lengths: Vec<usize> = runs_of(&pages).map(<[_]>::len).collect();
    assert_eq!(lengths, [3, 1, 1, 1]);
}

proptest! {
    #[test]
    fn every_page_is_in_exactly_one_run(cuts in proptest::collection::vec((0u64..3, 0u64..9_000_000), 0..30)) {
        let mut offset = 0;
        let mut pages = Vec::new();
        for (gap, len) in cuts {
            pages.push(page(offset + gap, len));
            offset += gap + len;
        }
        let pages: Vec<&PageEntry> = pages.iter().collect();
        let runs: Vec<&[&PageEntry]> = runs_of(&pages).collect();
        prop_assert!(runs.iter().all(|run| !run.is_empty()));
        prop_assert_eq!(runs.concat(), pages);
    }
}
