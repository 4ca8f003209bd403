use super::*;
use proptest::prelude::*;
use serde_json::json;

fn manifest() -> Manifest {
    let lists = Lists::from([("committables".into(), vec![json!({"file": "a"}), json!(7)])]);
    let subtask = |index| SubtaskEntry {
        index,
        watermark: Timestamp(i64::MIN + i64::from(index)),
        lists: if index == 0 { lists.clone() } else { Lists::new() },
        in_flight: vec![],
    };
    Manifest {
        format: MANIFEST_FORMAT,
        job: "flights".into(),
        checkpoint: CheckpointId(7),
        kind: SnapshotKind::Checkpoint,
        generation: Generation(2),
        attempt: Attempt(3),
        seed: u64::MAX,
        taken_at: Timestamp(1_700_000_000_000),
        operators: vec![OperatorEntry {
            uid: "count".into(),
            name: "Count".into(),
            max_parallelism: MaxParallelism::default_for(2),
            parallelism: 2,
            keyed: true,
            subtasks: vec![subtask(0), subtask(1)],
        }],
        sources: vec![SourceEntry {
            uid: "files".into(),
            enumerator: json!({"pending": []}),
        }],
        objects: vec![ObjectRef {
            key: BlobKey::new("g2/a3/chk-7/part-0.rows").unwrap(),
            len: 100,
            index_offset: 50,
            index_len: 20,
            index_checksum: Digest::of(b"index"),
        }],
        written: Written { bytes: 100, rows: 3 },
    }
}

#[test]
fn a_manifest_round_trips_and_finds_its_entries() {
    let manifest = manifest();
    let (bytes, digest) = manifest.encode().unwrap();
    let back = Manifest::decode("m", &bytes, Some(digest)).unwrap();
    assert_eq!(back, manifest);
    assert_eq!(back.operator(&"count".into()).unwrap().subtasks.len(), 2);
    assert!(back.operator(&"other".into()).is_none());
    assert_eq!(
        back.source(&"files".into()).unwrap().enumerator,
        json!({"pending": []})
    );
    assert_eq!(back.referenced_keys(), [back.objects[0].key.clone()]);
}

#[test]
fn people_can_read_it() {
    let (bytes, _) = manifest().encode().unwrap();
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.contains("\"job\": \"flights\""), "{text}");
    assert!(text.contains("g2/a3/chk-7/part-0.rows"), "{text}");
}

#[test]
fn another_manifest_than_the_decided_one_is_refused_by_name() {
    let (bytes, _) = manifest().encode().unwrap();
    let error = Manifest::decode("g2/a3/chk-7/manifest", &bytes, Some(Digest::of(b"other"))).unwrap_err();
    assert!(error.to_string().contains("g2/a3/chk-7/manifest"), "{error}");
}

#[test]
fn a_newer_format_is_named_and_none_is_damage() {
    for format in [0, MANIFEST_FORMAT + 1] {
        let (bytes, _) = Manifest { format, ..manifest() }.encode().unwrap();
        let error = Manifest::decode("m", &bytes, None).unwrap_err();
        let newer = matches!(error, StateError::NewerFormat { .. });
        assert_eq!(newer, format > MANIFEST_FORMAT, "{error}");
    }
}

#[test]
fn a_manifest_that_contradicts_itself_is_refused() {
    for spoil in [
        |m: &mut Manifest| m.operators[0].subtasks[1].index = 2,
        |m: &mut Manifest| m.operators[0].subtasks[1].index = 0,
        |m: &mut Manifest| m.operators[0].parallelism = 0,
        |m: &mut Manifest| m.operators[0].parallelism = 129,
        |m: &mut Manifest| m.operators.push(m.operators[0].clone()),
        |m: &mut Manifest| m.objects.push(m.objects[0].clone()),
        |m: &mut Manifest| m.operators[0].max_parallelism = serde_json::from_str("0").unwrap(),
        |m: &mut Manifest| m.operators[0].max_parallelism = serde_json::from_str("40000").unwrap(),
    ] {
        let mut manifest = manifest();
        spoil(&mut manifest);
        let (bytes, digest) = manifest.encode().unwrap();
        assert!(
            Manifest::decode("m", &bytes, Some(digest)).is_err(),
            "{manifest:?}"
        );
    }
}

#[test]
fn no_byte_can_be_damaged_unnoticed_even_without_the_digest() {
    let (bytes, _) = manifest().encode().unwrap();
    for place in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[place] ^= 0x20;
        assert!(Manifest::decode("m", &damaged, None).is_err(), "byte {place}");
        assert!(
            Manifest::decode("m", &bytes[..place], None).is_err(),
            "cut at {place}"
        );
    }
}

proptest! {
    #[test]
    fn foreign_bytes_are_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Manifest::decode("m", &bytes, None).is_err());
    }

    #[test]
    fn foreign_json_with_a_right_checksum_is_an_error(text in "[\\[\\]{}\",:0-9a-z]{0,60}") {
        let mut bytes = text.into_bytes();
        let digest = Digest::of(&bytes);
        bytes.extend_from_slice(format!("\n\"{digest}\"\n").as_bytes());
        prop_assert!(Manifest::decode("m", &bytes, None).is_err());
    }
}
