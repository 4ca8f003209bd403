//! Checks any [`Blob`] or [`Cas`] against its contract. A failure says which sentence of the contract is broken.
//!
//! The store under test retries by itself (wrap a faulty one in retries): here a retryable error is a failure. What only
//! a loss of power shows is the simulator's business.

use crate::cut::cut_after;
use crate::{Blob, BlobKey, Cas, CasOutcome, Head, StorageError, StorageErrorKind};
use bytes::Bytes;
use rivermark_types::Failure;
use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

/// More polls than any call needs; a call that needs more is reported.
const MAX_CUTS: u32 = 10_000;
/// How many versions are written to make a store prune.
const MANY_VERSIONS: u64 = 20;

/// Checks a store of objects, which must be empty.
pub async fn check_blob(blob: &dyn Blob) -> Result<(), Failure> {
    expect_eq("an empty store lists nothing", blob.list("").await?, vec![])?;
    check_objects(blob).await?;
    check_write_once(blob).await?;
    check_ranges(blob).await?;
    check_folders(blob).await?;
    check_cut_puts(blob).await?;
    check_concurrent_puts(blob).await?;
    expect_eq(
        "after all deletes the store lists nothing",
        blob.list("").await?,
        vec![],
    )
}

/// Checks a value that is replaced by compare-and-set: two handles, of two writers, of one cell without a value.
pub async fn check_cas(one: &dyn Cas, other: &dyn Cas) -> Result<(), Failure> {
    expect_eq("a new cell has no head", one.head().await?, None)?;
    expect_conflict(
        "nothing is there to replace",
        one.compare_and_set(Some(1), text("x")).await,
        None,
    )?;
    check_succession(one, other).await?;
    check_races(one, other).await?;
    check_cut_sets(one, other).await?;
    check_stale_writer(one, other).await
}

async fn check_objects(blob: &dyn Blob) -> Result<(), Failure> {
    let key = key("objects/a")?;
    expect_kind(
        "a missing object is NotFound",
        blob.get(&key).await,
        StorageErrorKind::NotFound,
    )?;
    expect_kind(
        "a range of a missing object too",
        blob.get_range(&key, 0..1).await,
        StorageErrorKind::NotFound,
    )?;
    blob.delete(&key)
        .await
        .map_err(|e| broken("deleting a missing object is fine", e))?;
    blob.put(&key, vec![text("ab"), text(""), text("c")]).await?;
    expect_eq("parts are joined", blob.get(&key).await?, text("abc"))?;
    blob.delete(&key).await?;
    expect_kind(
        "a deleted object is NotFound",
        blob.get(&key).await,
        StorageErrorKind::NotFound,
    )?;
    blob.put(&key, vec![]).await?;
    expect_eq(
        "an object may be empty, and a deleted key used again",
        blob.get(&key).await?,
        text(""),
    )?;
    expect_eq("an empty object shows", blob.list("objects").await?.len(), 1)?;
    blob.delete(&key).await?;
    Ok(())
}

async fn check_write_once(blob: &dyn Blob) -> Result<(), Failure> {
    let key = key("once/a")?;
    blob.put(&key, vec![text("abc")]).await?;
    let again = blob.put(&key, vec![text("a"), text("bc")]).await;
    again.map_err(|e| broken("the same content in other parts counts as written", e))?;
    for other in ["abd", "ab", "abcd", ""] {
        let put = blob.put(&key, vec![text(other)]).await;
        expect_kind("another content is Taken", put, StorageErrorKind::Taken)?;
        expect_eq("and the first one stays", blob.get(&key).await?, text("abc"))?;
    }
    blob.delete(&key).await?;
    Ok(())
}

async fn check_ranges(blob: &dyn Blob) -> Result<(), Failure> {
    let key = key("ranges/big")?;
    let content: Bytes = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
    let len = content.len() as u64;
    blob.put(
        &key,
        content.chunks(700_001).map(Bytes::copy_from_slice).collect(),
    )
    .await?;
    expect_eq(
        "a large object comes back whole",
        blob.get(&key).await? == content,
        true,
    )?;
    for range in [0..0, 0..1, 5..2_500_000, len - 1..len, len..len, 0..len] {
        let expected = content.slice(range.start as usize..range.end as usize);
        let found = blob.get_range(&key, range.clone()).await?;
        expect_eq(
            &format!("the range {range:?} holds what was written"),
            found == expected,
            true,
        )?;
    }
    for range in [0..len + 1, len..len + 1, len + 5..len + 5] {
        let found = blob.get_range(&key, range).await;
        expect_kind(
            "an object that ends before the range is Damaged",
            found,
            StorageErrorKind::Damaged,
        )?;
    }
    let (start, end) = (2, 1);
    let reversed = blob.get_range(&key, start..end).await;
    expect_kind("a reversed range is Invalid", reversed, StorageErrorKind::Invalid)?;
    blob.delete(&key).await?;
    Ok(())
}

async fn check_folders(blob: &dyn Blob) -> Result<(), Failure> {
    let names = ["g1/a0/x", "g1/a0/y-2", "g1/b", "g10/a0/x", "g2/a"];
    for name in names.iter().rev() {
        blob.put(&key(name)?, vec![text(name)]).await?;
    }
    let cases: [(&str, &[&str]); 6] = [
        ("", &names),
        ("g1", &names[..3]),
        ("g1/a0", &names[..2]),
        ("g10", &names[3..4]),
        ("g", &[]),
        ("g3", &[]),
    ];
    for (folder, expected) in cases {
        let found = blob.list(folder).await?;
        let keys: Vec<&str> = found.iter().map(|entry| entry.key.as_str()).collect();
        expect_eq(
            &format!("the folder {folder:?} shows its objects in order"),
            keys.as_slice(),
            expected,
        )?;
        let lengths = found
            .iter()
            .all(|entry| entry.len == entry.key.as_str().len() as u64);
        expect_eq("with their lengths", lengths, true)?;
    }
    for folder in ["/", "../x", "g1/", "g1//a0"] {
        expect_kind(
            "a bad folder is Invalid",
            blob.list(folder).await,
            StorageErrorKind::Invalid,
        )?;
    }
    for name in names {
        blob.delete(&key(name)?).await?;
    }
    Ok(())
}

/// Drops a put after every number of polls it can have.
async fn check_cut_puts(blob: &dyn Blob) -> Result<(), Failure> {
    let key = key("cut/a")?;
    for polls in 0..MAX_CUTS {
        let done = cut_after(polls, blob.put(&key, vec![text("one"), text("two")])).await;
        match blob.get(&key).await {
            Ok(found) => expect_eq(
                "a dropped put leaves the whole object or none",
                found,
                text("onetwo"),
            )?,
            Err(error) if error.kind() == StorageErrorKind::NotFound => {
                expect_eq("an acknowledged object is there", done.is_none(), true)?;
            }
            Err(error) => return Err(broken("a dropped put leaves the whole object or none", error)),
        }
        let shown = blob.list("cut").await?;
        expect_eq(
            "nothing unfinished shows",
            shown.iter().all(|entry| entry.key == key && entry.len == 6),
            true,
        )?;
        blob.put(&key, vec![text("onetwo")])
            .await
            .map_err(|e| broken("a dropped put can be repeated", e))?;
        blob.delete(&key).await?;
        if let Some(done) = done {
            return done.map_err(Failure::from);
        }
    }
    Err(broken(
        "a put ends",
        format!("it did not within {MAX_CUTS} polls"),
    ))
}

async fn check_concurrent_puts(blob: &dyn Blob) -> Result<(), Failure> {
    let (a, b, same) = (key("races/a")?, key("races/b")?, key("races/same")?);
    for _ in 0..20 {
        let (one, two) = both(blob.put(&a, vec![text("a")]), blob.put(&b, vec![text("b")])).await;
        one.and(two)
            .map_err(|e| broken("two objects are written at once", e))?;
        let (one, two) = both(blob.put(&same, vec![text("x")]), blob.put(&same, vec![text("y")])).await;
        expect_eq(
            "of two contents for a key one wins",
            one.is_ok() != two.is_ok(),
            true,
        )?;
        let winner = if one.is_ok() { "x" } else { "y" };
        expect_eq(
            "and it is the one that was acknowledged",
            blob.get(&same).await?,
            text(winner),
        )?;
        blob.delete(&a).await?;
        // The last object of the folder goes while another comes.
        let (gone, made) = both(blob.delete(&b), blob.put(&a, vec![text("a")])).await;
        gone.and(made)
            .map_err(|e| broken("a delete does not disturb a put beside it", e))?;
        let (gone, made) = both(blob.delete(&same), blob.put(&b, vec![text("b")])).await;
        gone.and(made)
            .map_err(|e| broken("a delete does not disturb a put beside it", e))?;
        expect_eq(
            "and what was put is there",
            blob.get(&a).await? == "a" && blob.get(&b).await? == "b",
            true,
        )?;
        let (one, two) = both(blob.delete(&a), blob.delete(&b)).await;
        one.and(two)
            .map_err(|e| broken("two objects are deleted at once", e))?;
    }
    Ok(())
}

async fn check_succession(one: &dyn Cas, other: &dyn Cas) -> Result<(), Failure> {
    expect_committed(
        "the first value gets version 1",
        one.compare_and_set(None, text("a")).await,
        1,
    )?;
    expect_committed(
        "a repeated call is committed again",
        one.compare_and_set(None, text("a")).await,
        1,
    )?;
    expect_eq("both handles see it", other.head().await?, head(1, "a"))?;
    let same = other.compare_and_set(None, text("a")).await;
    expect_conflict(
        "equal bytes of another writer are another value",
        same,
        head(1, "a"),
    )?;
    let changed = one.compare_and_set(None, text("b")).await;
    expect_conflict("other bytes for the same version conflict", changed, head(1, "a"))?;
    expect_committed(
        "the other writer may follow",
        other.compare_and_set(Some(1), text("")).await,
        2,
    )?;
    let replaced = one.compare_and_set(None, text("a")).await;
    expect_conflict("a replaced value is not the head", replaced, head(2, ""))?;
    let early = one.compare_and_set(Some(3), text("x")).await;
    expect_conflict("a version that is not there yet conflicts", early, head(2, ""))?;
    let last = one.compare_and_set(Some(u64::MAX), text("x")).await;
    expect_eq(
        "there is no version after the last",
        matches!(last, CasOutcome::NotWritten(_)),
        true,
    )
}

async fn check_races(one: &dyn Cas, other: &dyn Cas) -> Result<(), Failure> {
    for round in 0..20 {
        let expected = version(one).await?;
        // In every other round both propose the same bytes, as two starts of one job do.
        let (a, b) = if round % 2 == 0 {
            ("same", "same")
        } else {
            ("a", "b")
        };
        let (first, second) = both(
            one.compare_and_set(expected, text(a)),
            other.compare_and_set(expected, text(b)),
        )
        .await;
        let (winner, won, lost) = match &first {
            CasOutcome::Committed { .. } => (a, first, second),
            _ => (b, second, first),
        };
        let next = expected.unwrap_or(0) + 1;
        expect_committed("of two writers one is committed", won, next)?;
        expect_conflict("and the other sees its value", lost, head(next, winner))?;
        expect_eq("which is the head", one.head().await?, head(next, winner))?;
    }
    Ok(())
}

/// Drops a compare-and-set after every number of polls it can have, and repeats it: at once, and after another writer.
async fn check_cut_sets(one: &dyn Cas, other: &dyn Cas) -> Result<(), Failure> {
    for polls in 0..MAX_CUTS {
        let expected = version(one).await?;
        let next = expected.unwrap_or(0) + 1;
        let done = cut_after(polls, one.compare_and_set(expected, text("cut"))).await;
        let repeated = one.compare_and_set(expected, text("cut")).await;
        expect_committed("a dropped call, repeated, is committed", repeated, next)?;

        let dropped = cut_after(polls, one.compare_and_set(Some(next), text("mine"))).await;
        let theirs = other.compare_and_set(Some(next), text("theirs")).await;
        let mine = one.compare_and_set(Some(next), text("mine")).await;
        let mine_won = matches!(mine, CasOutcome::Committed { .. });
        let theirs_won = matches!(theirs, CasOutcome::Committed { .. });
        expect_eq(
            "of a dropped call and another's one is committed",
            mine_won != theirs_won,
            true,
        )?;
        let winner = head(next + 1, if mine_won { "mine" } else { "theirs" });
        expect_eq("and it is the head", other.head().await?, winner.clone())?;
        expect_conflict(
            "which the loser sees",
            if mine_won { theirs } else { mine },
            winner,
        )?;
        if done.is_some() && dropped.is_some() {
            return Ok(());
        }
    }
    Err(broken(
        "a compare-and-set ends",
        format!("it did not within {MAX_CUTS} polls"),
    ))
}

async fn check_stale_writer(one: &dyn Cas, other: &dyn Cas) -> Result<(), Failure> {
    let stale = version(other).await?;
    for number in 0..MANY_VERSIONS {
        let expected = version(one).await?;
        let outcome = one.compare_and_set(expected, text(&number.to_string())).await;
        expect_committed("versions grow by one", outcome, expected.unwrap_or(0) + 1)?;
    }
    let newest = one.head().await?;
    for expected in [stale, None, Some(1)] {
        let outcome = other.compare_and_set(expected, text("stale")).await;
        expect_conflict(
            "a writer that slept through many versions conflicts",
            outcome,
            newest.clone(),
        )?;
    }
    expect_eq("and changes nothing", one.head().await?, newest)
}

fn text(content: &str) -> Bytes {
    Bytes::copy_from_slice(content.as_bytes())
}

fn key(name: &str) -> Result<BlobKey, StorageError> {
    BlobKey::new(name)
}

fn head(version: u64, content: &str) -> Option<Head> {
    Some(Head {
        version,
        bytes: text(content),
    })
}

async fn version(cas: &dyn Cas) -> Result<Option<u64>, StorageError> {
    Ok(cas.head().await?.map(|head| head.version))
}

fn broken(sentence: &str, found: impl fmt::Display) -> Failure {
    Failure::bug(format!("the store breaks its contract, {sentence}: {found}"))
}

fn expect_eq<T: PartialEq + fmt::Debug>(sentence: &str, found: T, expected: T) -> Result<(), Failure> {
    if found == expected {
        return Ok(());
    }
    Err(broken(
        sentence,
        format!("found {found:?}, expected {expected:?}"),
    ))
}

fn expect_kind<T: fmt::Debug>(
    sentence: &str,
    found: Result<T, StorageError>,
    kind: StorageErrorKind,
) -> Result<(), Failure> {
    match found {
        Err(error) if error.kind() == kind => Ok(()),
        Err(error) => Err(broken(sentence, format!("found {:?}: {error}", error.kind()))),
        Ok(value) => Err(broken(sentence, format!("found {value:?}"))),
    }
}

fn expect_committed(sentence: &str, outcome: CasOutcome, expected: u64) -> Result<(), Failure> {
    match outcome {
        CasOutcome::Committed { version } => expect_eq(sentence, version, expected),
        other => Err(broken(sentence, format!("found {other:?}"))),
    }
}

fn expect_conflict(sentence: &str, outcome: CasOutcome, expected: Option<Head>) -> Result<(), Failure> {
    match outcome {
        CasOutcome::Conflict(head) => expect_eq(sentence, head, expected),
        other => Err(broken(sentence, format!("found {other:?}"))),
    }
}

/// Runs two futures at the same time on one task.
async fn both<A, B>(one: impl Future<Output = A>, other: impl Future<Output = B>) -> (A, B) {
    let (mut one, mut other) = (pin!(one), pin!(other));
    let (mut first, mut second) = (None, None);
    poll_fn(|cx| {
        if first.is_none()
            && let Poll::Ready(done) = one.as_mut().poll(cx)
        {
            first = Some(done);
        }
        if second.is_none()
            && let Poll::Ready(done) = other.as_mut().poll(cx)
        {
            second = Some(done);
        }
        match (first.take(), second.take()) {
            (Some(a), Some(b)) => Poll::Ready((a, b)),
            (a, b) => {
                (first, second) = (a, b);
                Poll::Pending
            }
        }
    })
    .await
}
