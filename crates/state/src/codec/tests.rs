use super::*;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Debug;

fn encode<K: Key, V: Data>(codec: &RowCodec<K, V>, rows: Vec<ImageRow<K, V>>) -> Vec<EncodedPage> {
    codec.encode(vec![Box::new(ImageRows::from(rows))]).unwrap()
}

fn row<K, V>(group: u32, key: K, value: V) -> ImageRow<K, V> {
    ImageRow {
        group: KeyGroup(group),
        namespace: i64::from(group) - 2,
        key,
        value,
    }
}

/// All rows come back, in order of key group, whatever chunks they came in.
fn round_trip<K: Key + Debug, V: Data + PartialEq + Debug>(mut rows: Vec<ImageRow<K, V>>, cut: usize) {
    let codec = row_codec::<K, V>();
    let tail = rows.split_off(cut.min(rows.len()));
    let chunks: Vec<Box<dyn Any + Send>> = vec![
        Box::new(ImageRows::from(rows.clone())),
        Box::new(ImageRows::from(tail.clone())),
    ];
    let pages = codec.encode(chunks).unwrap();
    let mut expected = rows;
    expected.extend(tail);
    expected.sort_by_key(|row| row.group);
    let mut found = Vec::new();
    for page in pages {
        let rows = codec.decode(&page.bytes).unwrap();
        assert_eq!(rows.len() as u64, page.rows);
        assert_eq!(rows.first().unwrap().group, page.first_group);
        assert_eq!(rows.last().unwrap().group, page.last_group);
        found.extend(rows);
    }
    assert_eq!(found, expected);
}

fn rows_of<K: Debug, V: Debug>(
    key: impl Strategy<Value = K>,
    value: impl Strategy<Value = V>,
) -> impl Strategy<Value = Vec<ImageRow<K, V>>> {
    vec((0u32..200, any::<i64>(), key, value), 0..40).prop_map(|rows| {
        let row = |(group, namespace, key, value)| ImageRow {
            group: KeyGroup(group),
            namespace,
            key,
            value,
        };
        rows.into_iter().map(row).collect()
    })
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Colour {
    Red,
    Green,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Nothing,
    Point(i32, i32),
    Named { name: String },
    Only(Option<u8>),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Inner {
    tags: Vec<String>,
    bytes: [u8; 3],
    letter: char,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Account {
    total: i64,
    note: Option<String>,
    inner: Option<Inner>,
    colour: Colour,
    shape: Shape,
    ratio: f64,
    seen: bool,
    lists: Vec<Vec<Option<u16>>>,
    by_name: BTreeMap<String, i32>,
}

fn shape() -> impl Strategy<Value = Shape> {
    prop_oneof![
        Just(Shape::Nothing),
        any::<(i32, i32)>().prop_map(|(x, y)| Shape::Point(x, y)),
        ".{0,5}".prop_map(|name| Shape::Named { name }),
        any::<Option<u8>>().prop_map(Shape::Only),
    ]
}

fn account() -> impl Strategy<Value = Account> {
    let inner = (vec(".{0,4}", 0..3), any::<[u8; 3]>(), any::<char>())
        .prop_map(|(tags, bytes, letter)| Inner { tags, bytes, letter });
    (
        (any::<i64>(), any::<Option<String>>(), proptest::option::of(inner)),
        (prop_oneof![Just(Colour::Red), Just(Colour::Green)], shape()),
        (
            -1e9..1e9,
            any::<bool>(),
            vec(vec(any::<Option<u16>>(), 0..3), 0..3),
        ),
        btree_map("[a-c]{0,3}", any::<i32>(), 0..3),
    )
        .prop_map(
            |((total, note, inner), (colour, shape), (ratio, seen, lists), by_name)| Account {
                total,
                note,
                inner,
                colour,
                shape,
                ratio,
                seen,
                lists,
                by_name,
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn numbers_round_trip(rows in rows_of(any::<u64>(), any::<i64>()), cut in 0usize..40) {
        round_trip(rows, cut);
    }

    #[test]
    fn text_and_tuples_round_trip(rows in rows_of(any::<(String, u8)>(), any::<(Option<f32>, String)>()), cut in 0usize..40) {
        round_trip(rows, cut);
    }

    #[test]
    fn structs_round_trip(rows in rows_of(any::<Option<u32>>(), account()), cut in 0usize..40) {
        round_trip(rows, cut);
    }

    #[test]
    fn units_and_lists_round_trip(rows in rows_of(any::<[i8; 2]>(), Just(())), cut in 0usize..40) {
        round_trip(rows, cut);
    }

    #[test]
    fn what_columns_would_lose_round_trips(
        rows in rows_of(Just(Colour::Red), (any::<Option<Option<u8>>>(), proptest::option::of(shape()), any::<u128>())),
        cut in 0usize..40,
    ) {
        round_trip(rows, cut);
    }

    #[test]
    fn damaged_pages_never_panic(rows in rows_of(any::<String>(), account()), place in any::<prop::sample::Index>(), with in 1u8.., cut in any::<bool>()) {
        prop_assume!(!rows.is_empty());
        let codec = row_codec::<String, Account>();
        let mut bytes = encode(&codec, rows).remove(0).bytes.to_vec();
        let place = place.index(bytes.len());
        if cut {
            bytes.truncate(place);
            prop_assert!(codec.decode(&bytes).is_err(), "cut at {}", place);
        } else {
            // A flip in a value is another value: the object's checksum is there for that.
            bytes[place] ^= with;
            let _ = codec.decode(&bytes);
        }
    }

    #[test]
    fn foreign_bytes_are_an_error(bytes in vec(any::<u8>(), 0..300)) {
        prop_assert!(row_codec::<u64, u64>().decode(&bytes).is_err());
    }
}

#[test]
fn every_single_byte_may_be_damaged() {
    let codec = row_codec::<String, (Option<u64>, Vec<u16>, Shape)>();
    let value = |n: u16| (Some(u64::from(n)), vec![n, 2], Shape::Named { name: "x".into() });
    let rows = (0..5u16)
        .map(|n| row(u32::from(n), format!("k{n}"), value(n)))
        .collect();
    let page = encode(&codec, rows).remove(0).bytes.to_vec();
    for place in 0..page.len() {
        for with in [0x01, 0x80, 0xFF, page[place]] {
            let mut bytes = page.clone();
            bytes[place] ^= with;
            let _ = codec.decode(&bytes);
        }
        assert!(codec.decode(&page[..place]).is_err(), "cut at {place}");
    }
}

#[test]
fn ordinary_types_are_columns_and_only_the_others_are_opaque() {
    assert!(!ColumnCodec::<u64>::new().is_opaque());
    assert!(!ColumnCodec::<String>::new().is_opaque());
    assert!(!ColumnCodec::<(String, Option<i8>)>::new().is_opaque());
    assert!(!ColumnCodec::<Inner>::new().is_opaque());
    assert!(!ColumnCodec::<Colour>::new().is_opaque());
    assert!(!ColumnCodec::<Shape>::new().is_opaque());
    assert!(!ColumnCodec::<Account>::new().is_opaque());
    assert!(!ColumnCodec::<rivermark_types::Timestamp>::new().is_opaque());
    assert!(ColumnCodec::<Option<Option<u8>>>::new().is_opaque());
    assert!(ColumnCodec::<Option<Shape>>::new().is_opaque());
    assert!(ColumnCodec::<Recursive>::new().is_opaque());
    assert!(ColumnCodec::<serde_json::Value>::new().is_opaque());
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Recursive {
    name: String,
    next: Option<Box<Recursive>>,
}

#[test]
fn a_recursive_value_round_trips() {
    let leaf = Recursive {
        name: "leaf".into(),
        next: None,
    };
    let tree = Recursive {
        name: "tree".into(),
        next: Some(Box::new(leaf)),
    };
    round_trip(vec![row(1, tree.clone(), tree)], 0);
}

#[test]
fn a_value_that_only_json_can_hold_round_trips() {
    let value = serde_json::json!({"a": [1, null, {"b": "c"}]});
    round_trip(vec![row(1, 5u8, value), row(2, 6u8, serde_json::Value::Null)], 1);
}

#[test]
fn one_opaque_column_leaves_the_other_readable() {
    let codec = row_codec::<String, Option<Option<u8>>>();
    let page = encode(&codec, vec![row(3, "k".to_string(), Some(None))]).remove(0);
    let batch = page::read(page.bytes.clone()).unwrap().remove(0);
    let (key, _) = column(&batch, KEY).unwrap();
    let (value, _) = column(&batch, VALUE).unwrap();
    assert!(key.metadata().get(ENCODING_KEY).is_none());
    assert_eq!(value.metadata().get(ENCODING_KEY).unwrap(), "postcard");
}

mod evolution {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Old {
        count: u64,
        gone: Inner,
        name: String,
        colour: Colour,
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum MoreColours {
        Blue,
        Green,
        Red,
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct New {
        #[serde(alias = "name")]
        title: String,
        added: Option<u32>,
        #[serde(default)]
        defaulted: Vec<u8>,
        colour: MoreColours,
        count: u64,
    }

    #[test]
    fn fields_are_added_removed_renamed_and_reordered() {
        let inner = Inner {
            tags: vec!["t".into()],
            bytes: [1, 2, 3],
            letter: 'x',
        };
        let old = Old {
            count: 7,
            gone: inner,
            name: "n".into(),
            colour: Colour::Green,
        };
        let page = encode(&row_codec::<u64, Old>(), vec![row(1, 5, old)]).remove(0);
        let rows = row_codec::<u64, New>().decode(&page.bytes).unwrap();
        let new = New {
            title: "n".into(),
            added: None,
            defaulted: vec![],
            colour: MoreColours::Green,
            count: 7,
        };
        assert_eq!(rows, [row(1, 5, new)]);
    }

    #[test]
    fn a_variant_keeps_its_name_when_others_come_before_it() {
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        enum Newer {
            First { x: u8 },
            Named { name: String },
            Point(i32, i32),
        }
        let page = encode(&row_codec::<u8, Shape>(), vec![row(1, 5, Shape::Point(3, 4))]).remove(0);
        let rows = row_codec::<u8, Newer>().decode(&page.bytes).unwrap();
        assert_eq!(rows, [row(1, 5, Newer::Point(3, 4))]);
    }

    #[test]
    fn a_number_may_grow_wider_but_is_never_cut() {
        let page = encode(&row_codec::<u32, u32>(), vec![row(1, 5, 300)]).remove(0);
        assert_eq!(
            row_codec::<u64, i64>().decode(&page.bytes).unwrap(),
            [row(1, 5, 300)]
        );
        assert!(row_codec::<u32, u8>().decode(&page.bytes).is_err());
    }

    #[test]
    fn what_cannot_be_evolved_is_an_error_that_names_the_column() {
        let page = encode(&row_codec::<u64, String>(), vec![row(1, 5, "x".to_string())]).remove(0);
        let error = row_codec::<u64, u64>()
            .decode(&page.bytes)
            .unwrap_err()
            .to_string();
        assert!(error.contains("\"value\"") && error.contains("u64"), "{error}");
    }
}

#[test]
fn a_large_state_becomes_several_pages_of_whole_key_groups() {
    let codec = row_codec::<u64, [u64; 8]>();
    let rows: Vec<_> = (0..40_000u64)
        .map(|key| row((key % 64) as u32, key, [key; 8]))
        .collect();
    let pages = encode(&codec, rows);
    assert!((8..=MAX_PAGES).contains(&pages.len()), "{} pages", pages.len());
    assert!(
        pages
            .windows(2)
            .all(|pair| pair[0].last_group < pair[1].first_group)
    );
    assert_eq!(pages.iter().map(|page| page.rows).sum::<u64>(), 40_000);
}

#[test]
fn no_rows_make_no_page_and_strange_chunks_are_refused() {
    let codec = row_codec::<u64, u64>();
    assert!(encode(&codec, vec![]).is_empty());
    assert!(codec.encode(vec![Box::new(17u8)]).is_err());
}
