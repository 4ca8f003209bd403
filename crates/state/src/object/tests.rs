use super::*;
use crate::image::StateKind;
use proptest::prelude::*;
use rivermark_storage::MemoryBlob;
use std::task::{Context, Poll, Waker};

/// The memory store never waits.
fn now<T>(future: impl Future<Output = T>) -> T {
    match Box::pin(future)
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the memory store waited"),
    }
}

fn pages() -> Vec<(PageEntry, Vec<u8>)> {
    let page = |name: &str, first: u32, last: u32, bytes: &[u8]| {
        let state = StateId {
            operator: "count".into(),
            name: name.into(),
            kind: StateKind::Value,
        };
        let entry = PageEntry {
            state,
            first_group: KeyGroup(first),
            last_group: KeyGroup(last),
            rows: 3,
            offset: 0,
            len: bytes.len() as u64,
            checksum: Digest::of(bytes),
        };
        (entry, bytes.to_vec())
    };
    vec![
        page("total", 0, 4, b"first page"),
        page("total", 5, 9, b"second"),
        page("seen", 2, 2, b"x"),
    ]
}

fn object() -> (ObjectRef, Vec<u8>) {
    let (entries, bodies): (Vec<_>, Vec<_>) = pages().into_iter().unzip();
    let (object, tail) = pack(BlobKey::new("g1/a1/chk-1/part-0.rows").unwrap(), entries).unwrap();
    let mut bytes = bodies.concat();
    bytes.extend_from_slice(&tail);
    assert_eq!(bytes.len() as u64, object.len);
    (object, bytes)
}

/// Reads all there is to an object, as a tool without a manifest does.
fn read_all(key: &BlobKey, bytes: Vec<u8>) -> Result<(ObjectRef, ObjectIndex), StateError> {
    let blob = MemoryBlob::new();
    let len = bytes.len() as u64;
    now(blob.put(key, vec![Bytes::from(bytes)])).unwrap();
    let object = now(find_object(&blob, key, len))?;
    let index = now(ObjectIndex::load(&blob, &object))?;
    for page in &index.pages {
        let bytes = now(blob.get_range(key, page.offset..page.offset + page.len))?;
        check_page(key, page, &bytes)?;
    }
    Ok((object, index))
}

#[test]
fn an_object_is_found_by_its_footer_and_has_its_pages() {
    let (object, bytes) = object();
    let (found, index) = read_all(&object.key, bytes).unwrap();
    assert_eq!(found, object);
    let expected: Vec<_> = pages().into_iter().map(|(page, _)| page).collect();
    let found: Vec<_> = index
        .pages
        .into_iter()
        .map(|page| PageEntry { offset: 0, ..page })
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn no_byte_can_be_damaged_unnoticed_and_the_error_names_the_object() {
    let (object, bytes) = object();
    for place in 0..bytes.len() {
        for with in [0x01, 0x80] {
            let mut damaged = bytes.clone();
            damaged[place] ^= with;
            let error = read_all(&object.key, damaged)
                .expect_err("damage is noticed")
                .to_string();
            assert!(error.contains(object.key.as_str()), "byte {place}: {error}");
        }
        let error = read_all(&object.key, bytes[..place].to_vec()).expect_err("a cut is noticed");
        assert!(
            error.to_string().contains(object.key.as_str()),
            "cut at {place}: {error}"
        );
    }
}

#[test]
fn an_index_whose_checksum_is_right_may_still_lie() {
    for spoil in [
        |pages: &mut Vec<PageEntry>| pages[1].offset += 1,
        |pages: &mut Vec<PageEntry>| pages[0].len = u64::MAX,
        |pages: &mut Vec<PageEntry>| pages[0].first_group = KeyGroup(7),
        |pages: &mut Vec<PageEntry>| drop(pages.pop()),
    ] {
        let (mut object, bytes) = object();
        let blob = MemoryBlob::new();
        now(blob.put(&object.key, vec![Bytes::from(bytes)])).unwrap();
        let mut index = now(ObjectIndex::load(&blob, &object)).unwrap();
        spoil(&mut index.pages);
        let lie = serde_json::to_vec(&index).unwrap();
        object.index_len = lie.len() as u64;
        object.index_checksum = Digest::of(&lie);
        object.len = object.index_offset + object.index_len;
        let mut bytes = vec![0; object.index_offset as usize];
        bytes.extend_from_slice(&lie);
        let other = MemoryBlob::new();
        now(other.put(&object.key, vec![Bytes::from(bytes)])).unwrap();
        assert!(now(ObjectIndex::load(&other, &object)).is_err());
    }
}

proptest! {
    #[test]
    fn foreign_bytes_are_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let (object, _) = object();
        prop_assert!(read_all(&object.key, bytes).is_err());
    }

    #[test]
    fn an_impossible_place_of_the_index_is_an_error(offset in any::<u64>(), len in any::<u64>()) {
        let (mut object, bytes) = object();
        prop_assume!((offset, len) != (object.index_offset, object.index_len));
        object.index_offset = offset;
        object.index_len = len;
        let blob = MemoryBlob::new();
        now(blob.put(&object.key, vec![Bytes::from(bytes)])).unwrap();
        prop_assert!(now(ObjectIndex::load(&blob, &object)).is_err());
    }
}
