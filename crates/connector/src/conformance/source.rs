//! The promises of sources: splits cover all rows once, and a position means the same to every reader.

use crate::conformance::{Violation, equal, must, subtask_info};
use crate::source::{Peek, ReadPoll, ReadRows, ReaderCx, Source, SplitEnumerator, SplitIndex, SplitReader};
use rivermark_env::Env;
use rivermark_runtime::SlotWaker;
use rivermark_types::{Failure, Result};
use std::fmt::Debug;

/// Checks a bounded source that has exactly these rows (in any order over its splits). Reads it about as often as a split
/// has rows, so a few dozen rows are right.
pub async fn check_source<S: Source>(env: &Env, source: &S, expected: &[S::Row]) -> Result<(), Violation>
where
    S::Row: Debug + PartialEq,
{
    for parallelism in [1, 3] {
        let splits = found(env, source, parallelism).await?;
        for most in [1, 7, 4096] {
            let mut rows = Vec::new();
            for split in &splits {
                rows.extend(
                    read_from(env, source, split, 0, most)
                        .await?
                        .into_iter()
                        .map(|(row, _)| row),
                );
            }
            equal("all splits together", "rows", &sorted(&rows), &sorted(expected))?;
        }
        for split in &splits {
            check_positions(env, source, split).await?;
        }
    }
    Ok(())
}

/// Every position of a split resumes exactly behind its row, and `peek` sees the first row.
async fn check_positions<S: Source>(env: &Env, source: &S, split: &S::Split) -> Result<(), Violation>
where
    S::Row: Debug + PartialEq,
{
    let whole = read_from(env, source, split, 0, 1).await?;
    for (read, (_, position)) in whole.iter().enumerate() {
        let rest = read_from(env, source, split, *position, 7).await?;
        let rest: Vec<_> = rest.into_iter().map(|(row, _)| row).collect();
        let expected: Vec<_> = whole[read + 1..].iter().map(|(row, _)| row.clone()).collect();
        equal(
            &format!("{split} from position {position}"),
            "rows",
            &rest,
            &expected,
        )?;
    }
    let peek = must("peek", source.peek(env, split).await)?;
    match (peek, whole.first()) {
        (Peek::Unknown, _) | (Peek::Empty, None) => Ok(()),
        (Peek::First(row), Some((first, _))) => equal(&format!("peek at {split}"), "row", &row, first),
        (peek, first) => Err(Violation::new(
            "peek",
            format!("saw {peek:?}, but the first row is {first:?}"),
        )),
    }
}

/// The splits of a new enumerator; a restored one must not find them again.
async fn found<S: Source>(env: &Env, source: &S, parallelism: u32) -> Result<Vec<S::Split>, Violation> {
    let mut enumerator = must("enumerator", source.enumerator(env))?;
    let found = must("discover", enumerator.discover(parallelism).await)?;
    if !found.exhausted {
        return Err(Violation::new("discover", "the source is not bounded"));
    }
    let state = must("snapshot", enumerator.snapshot())?;
    let mut restored = must("enumerator", source.enumerator(env))?;
    must("restore", restored.restore(state))?;
    let again = must("discover", restored.discover(parallelism).await)?;
    equal(
        "a restored enumerator",
        "number of splits found again",
        &again.splits.len(),
        &0,
    )?;
    let round_trip = |split: S::Split| {
        let json = serde_json::to_value(&split).and_then(serde_json::from_value);
        json.map_err(|error| Violation::new("a split as JSON", error))
    };
    found.splits.into_iter().map(round_trip).collect()
}

async fn read_from<S: Source>(
    env: &Env,
    source: &S,
    split: &S::Split,
    position: u64,
    most: usize,
) -> Result<Vec<(S::Row, u64)>, Violation> {
    let cx = |waker| ReaderCx {
        env: env.clone(),
        info: subtask_info(1, 1, 0, 1),
        waker,
    };
    must(
        &format!("read {split} from {position}"),
        read_split(source, cx, split, position, most).await,
    )
}

/// The rows of a split from a position on, at most so many a read, each with the position behind the read that brought it.
pub async fn read_split<S: Source>(
    source: &S,
    cx: impl FnOnce(SlotWaker) -> ReaderCx,
    split: &S::Split,
    position: u64,
    most: usize,
) -> Result<Vec<(S::Row, u64)>> {
    let waker = SlotWaker::default();
    let mut reader = source.reader(cx(waker.clone()))?;
    let index = SplitIndex(3);
    reader.assign(index, split.clone(), position)?;
    let (mut rows, mut out) = (Vec::new(), ReadRows::default());
    loop {
        out.clear();
        match reader.next(most, &mut out)? {
            ReadPoll::Pending => waker.woken().await,
            ReadPoll::Rows(of) if of == index && out.len() <= most => {
                if let Some(bad) = out.undecodable().next() {
                    return Err(Failure::data(bad.error.clone()));
                }
                let resume = out.resume();
                rows.extend(out.take_values().into_iter().map(|row| (row, resume)));
            }
            ReadPoll::Rows(of) => {
                let what = format!(
                    "{} rows of split {of:?} where at most {most} of {index:?} fit",
                    out.len()
                );
                return Err(Failure::bug(what));
            }
            ReadPoll::Done(of) if of == index => return Ok(rows),
            ReadPoll::Done(of) => {
                return Err(Failure::bug(format!("{of:?} is done, but was never assigned")));
            }
        }
    }
}

fn sorted<T: Debug>(rows: &[T]) -> Vec<String> {
    let mut texts: Vec<String> = rows.iter().map(|row| format!("{row:?}")).collect();
    texts.sort();
    texts
}
