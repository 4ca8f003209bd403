//! What only the local stores do: temporaries, pruning, damage, the order of their calls.
#![allow(clippy::unwrap_used, reason = "test helpers fail their test")]

use bytes::Bytes;
use rivermark_env::{Env, RealEnv};
use rivermark_storage::{Blob, BlobKey, Cas, CasOutcome, LocalBlob, LocalCas, StorageErrorKind};
use std::fs;
use std::path::Path;

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn in_directory<F: Future<Output = ()>>(test: impl FnOnce(Env, std::path::PathBuf) -> F) {
    let world = RealEnv::start().unwrap();
    let dir = tempfile::tempdir().unwrap();
    world.block_on(test(world.env(), dir.path().to_owned()));
}

async fn commit(cas: &LocalCas, expected: Option<u64>, value: &str) {
    let outcome = cas
        .compare_and_set(expected, Bytes::copy_from_slice(value.as_bytes()))
        .await;
    assert!(matches!(outcome, CasOutcome::Committed { .. }), "{outcome:?}");
}

#[test]
fn leftovers_never_show_and_are_swept() {
    in_directory(|env, root| async move {
        let blob = LocalBlob::open(&env, &root).await.unwrap();
        let cas = LocalCas::open(&env, &root).await.unwrap();
        let key = BlobKey::new("g1/a0/x").unwrap();
        blob.put(&key, vec![Bytes::from_static(b"x")]).await.unwrap();
        commit(&cas, None, "head").await;
        fs::create_dir_all(root.join("g1/a1")).unwrap();
        for leftover in [
            ".tmp-00000000000000aa-0",
            "g1/.tmp-00000000000000aa-1",
            "g1/a1/.tmp-00000000000000aa-2",
        ] {
            fs::write(root.join(leftover), b"half").unwrap();
        }
        assert_eq!(blob.list("").await.unwrap().len(), 1);
        assert_eq!(blob.sweep_temporaries().await.unwrap(), 2);
        assert_eq!(cas.sweep_temporaries().await.unwrap(), 1);
        assert_eq!(names(&root), ["decision-00000000000000000001", "g1"]);
        assert_eq!(names(&root.join("g1")), ["a0"], "the empty folder stayed");
        assert_eq!(blob.get(&key).await.unwrap(), "x");
        assert_eq!(blob.sweep_temporaries().await.unwrap(), 0);
    });
}

#[test]
fn a_folder_goes_with_its_last_object() {
    in_directory(|env, root| async move {
        let blob = LocalBlob::open(&env, &root).await.unwrap();
        let keys = ["g1/a0/x", "g1/a0/y"].map(|key| BlobKey::new(key).unwrap());
        for key in &keys {
            blob.put(key, vec![]).await.unwrap();
        }
        blob.delete(&keys[0]).await.unwrap();
        assert_eq!(names(&root.join("g1/a0")), ["y"]);
        blob.delete(&keys[1]).await.unwrap();
        assert_eq!(names(&root), Vec::<String>::new());
    });
}

#[test]
fn only_the_newest_decisions_are_kept_and_a_stray_old_one_is_no_head() {
    in_directory(|env, root| async move {
        let cas = LocalCas::open(&env, &root).await.unwrap();
        for version in 0..12 {
            commit(
                &cas,
                (version > 0).then_some(version),
                &format!("value {version}"),
            )
            .await;
        }
        let kept = names(&root);
        assert_eq!(kept.len(), 8);
        assert_eq!(kept[0], "decision-00000000000000000005");
        // What a writer leaves that was stopped between its link and its second look.
        fs::copy(root.join(&kept[0]), root.join("decision-00000000000000000002")).unwrap();
        assert_eq!(cas.head().await.unwrap().unwrap().version, 12);
        commit(&cas, Some(12), "value 12").await;
        assert!(!names(&root).contains(&"decision-00000000000000000002".to_owned()));
    });
}

#[test]
fn a_damaged_head_is_an_error_that_names_the_file() {
    in_directory(|env, root| async move {
        let cas = LocalCas::open(&env, &root).await.unwrap();
        commit(&cas, None, "first").await;
        commit(&cas, Some(1), "second").await;
        let path = root.join("decision-00000000000000000002");
        let whole = fs::read(&path).unwrap();
        for damaged in [&whole[..whole.len() - 1], &[], &[&whole[..], b"x"].concat()] {
            fs::write(&path, damaged).unwrap();
            let error = cas.head().await.unwrap_err();
            assert_eq!(error.kind(), StorageErrorKind::Damaged);
            assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        }
        fs::write(&path, whole).unwrap();
        assert_eq!(cas.head().await.unwrap().unwrap().bytes, "second");
    });
}
