//! Scripts of restarts: `restarts STRATEGY key=value..`, then `MS attempt`, `MS decided` and
//! `MS fail KIND PLACE [row=DIGEST [give-up]]` (of operator 1).

use super::{Parsed, number};
use rivermark_protocol::restart::{FailedRow, FailurePolicy, JobFailure, RestartStrategy, Verdict};
use rivermark_types::{ErrorKind, Millis, NodeId};
use std::str::FromStr;
use std::time::Duration;

pub fn policy(words: &[&str]) -> Parsed<FailurePolicy> {
    let [kind, settings @ ..] = words else {
        return Err("a strategy is missing".into());
    };
    let ms = |key| setting(settings, key).map(Duration::from_millis);
    let strategy = match *kind {
        "none" => RestartStrategy::None,
        "fixed-delay" => RestartStrategy::FixedDelay {
            attempts: setting(settings, "attempts")?,
            delay: ms("delay")?,
        },
        "failure-rate" => RestartStrategy::FailureRate {
            max_failures: setting(settings, "max-failures")?,
            interval: ms("interval")?,
            delay: ms("delay")?,
        },
        "exponential-delay" => RestartStrategy::ExponentialDelay {
            initial: ms("initial")?,
            max: ms("max")?,
            multiplier: setting(settings, "multiplier")?,
            reset_threshold: ms("reset")?,
            jitter: 0.0,
            attempts: setting(settings, "attempts").ok(),
        },
        other => return Err(format!("no strategy `{other}`")),
    };
    Ok(FailurePolicy::new(strategy))
}

fn setting<T: FromStr>(settings: &[&str], key: &str) -> Parsed<T> {
    let mut values = settings.iter().filter_map(|setting| setting.split_once('='));
    let (_, value) = values
        .find(|(name, _)| *name == key)
        .ok_or(format!("`{key}` is missing"))?;
    number(value)
}

pub fn answer(policy: &mut FailurePolicy, now: u64, words: &[&str]) -> Parsed<Vec<String>> {
    match words {
        ["attempt"] => {
            let careful = policy.careful();
            policy.attempt_started();
            Ok(careful
                .iter()
                .map(|(node, rows)| format!("operator {node} runs carefully, gives up {rows:?}"))
                .collect())
        }
        ["restarts"] => Ok(vec![format!("{} so far", policy.restarts())]),
        ["decided"] => {
            policy.checkpoint_decided();
            Ok(vec![])
        }
        ["fail", kind, place, row @ ..] => {
            let verdict = policy.failed(&JobFailure {
                kind: kind_of(kind)?,
                place: (*place).to_owned(),
                node: Some(NodeId(1)),
                row: row_of(row)?,
                now: Millis(now),
                random: 0,
            });
            Ok(vec![match verdict {
                Verdict::Restart { at } => format!("restart at {}", at.0),
                Verdict::End { reason } => format!("end: {reason}"),
            }])
        }
        other => Err(format!("no event {other:?}")),
    }
}

fn row_of(words: &[&str]) -> Parsed<Option<FailedRow>> {
    let [row, rest @ ..] = words else { return Ok(None) };
    let digest = row.strip_prefix("row=").ok_or("a row is written row=1")?;
    Ok(Some(FailedRow {
        digest: number(digest)?,
        may_be_given_up: rest == ["give-up"],
    }))
}

fn kind_of(word: &str) -> Parsed<ErrorKind> {
    Ok(match word {
        "retry" => ErrorKind::Retry,
        "external" => ErrorKind::External,
        "data" => ErrorKind::Data,
        "bug" => ErrorKind::Bug,
        "invalid" => ErrorKind::Invalid,
        other => return Err(format!("no kind `{other}`")),
    })
}
