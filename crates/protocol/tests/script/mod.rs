//! The player of golden scripts: parses a line into an event, and prints what the machine answers.

mod restarts;

use rivermark_protocol::aligner::{AlignEvent, AlignMode, Aligner};
use rivermark_protocol::coordinator::{
    CheckpointCoordinator, CheckpointStatus, CkEvent, Completed, CoordinatorConfig, DecisionOutcome,
    RequestId,
};
use rivermark_protocol::restart::FailurePolicy;
use rivermark_types::{
    Attempt, Barrier, ChannelIndex, CheckpointId, Millis, SnapshotKind, SubtaskId, VertexId,
};
use std::time::Duration;

type Parsed<T> = Result<T, String>;

enum Machine {
    Aligner(Aligner),
    Coordinator(Box<CheckpointCoordinator>),
    Restarts(FailurePolicy),
}

/// The script with its indented lines replaced by what the machine really answers.
pub fn play(script: &str) -> Parsed<String> {
    let mut machine = None;
    let mut played = String::new();
    for (number, line) in script.lines().enumerate() {
        if line.starts_with("    ") {
            continue;
        }
        played += line;
        played.push('\n');
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let answers = match &mut machine {
            None => machine_of(&words).map(|made| {
                machine = Some(made);
                Vec::new()
            }),
            Some(machine) => machine.answer(&words),
        };
        for answer in answers.map_err(|why| format!("line {}: {why}", number + 1))? {
            played += &format!("    {answer}\n");
        }
    }
    Ok(played)
}

fn machine_of(words: &[&str]) -> Parsed<Machine> {
    match words {
        // aligner <mode> <channels> [in-order channel ..]
        ["aligner", mode, channels, in_order @ ..] => {
            let mode = match mode.split_once('=') {
                None if *mode == "exactly-once" => AlignMode::ExactlyOnce,
                None if *mode == "at-least-once" => AlignMode::AtLeastOnce,
                Some(("unaligned", after)) => AlignMode::Unaligned {
                    after: Duration::from_millis(number(after)?),
                },
                _ => return Err(format!("no mode `{mode}`")),
            };
            let mut aligner = Aligner::new(mode, number(channels)?);
            for channel in in_order {
                aligner.keep_order(ChannelIndex(number(channel)?));
            }
            Ok(Machine::Aligner(aligner))
        }
        ["coordinator", settings @ ..] => {
            let mut config = CoordinatorConfig {
                interval: None,
                ..CoordinatorConfig::default()
            };
            let mut completed = Vec::new();
            for setting in settings {
                match setting.strip_prefix("completed=") {
                    Some(list) => completed = list.split(',').map(completed_of).collect::<Parsed<_>>()?,
                    None => set(&mut config, setting)?,
                }
            }
            Ok(Machine::Coordinator(Box::new(CheckpointCoordinator::new(
                config, completed,
            ))))
        }
        ["restarts", strategy @ ..] => Ok(Machine::Restarts(restarts::policy(strategy)?)),
        _ => Err("the first line names a machine".into()),
    }
}

/// `3` is a checkpoint, `4s` a savepoint.
fn completed_of(word: &str) -> Parsed<Completed> {
    let (id_part, kind) = match word.strip_suffix('s') {
        Some(id_part) => (id_part, SnapshotKind::Savepoint),
        None => (word, SnapshotKind::Checkpoint),
    };
    Ok(Completed {
        checkpoint: id(id_part)?,
        kind,
    })
}

fn set(config: &mut CoordinatorConfig, setting: &str) -> Parsed<()> {
    let (key, value) = setting.split_once('=').ok_or("settings are written key=value")?;
    let value = number(value)?;
    let time = Duration::from_millis(value);
    match key {
        "interval" => config.interval = Some(time),
        "min-pause" => config.min_pause = time,
        "timeout" => config.timeout = time,
        "max-concurrent" => config.max_concurrent = value as usize,
        "tolerable" => config.tolerable_failures = Some(value as u32),
        "retained" => config.num_retained = value as usize,
        "max-requests" => config.max_requests = value as usize,
        "retry" => config.decision_retry = time,
        "retry-max" => config.decision_retry_max = time,
        other => return Err(format!("no setting `{other}`")),
    }
    Ok(())
}

impl Machine {
    fn answer(&mut self, words: &[&str]) -> Parsed<Vec<String>> {
        let mut lines: Vec<String> = match (self, words) {
            (Machine::Coordinator(coordinator), ["show", what @ ..]) => return show(coordinator, what),
            (Machine::Aligner(aligner), ["show", "stats"]) => return Ok(vec![aligner_stats(aligner)]),
            (Machine::Aligner(aligner), ["show", "overtaking"]) => return Ok(overtaking(aligner)),
            (Machine::Aligner(aligner), [now, event @ ..]) => {
                let mut out = Vec::new();
                aligner.handle(Millis(number(now)?), align_event(event)?, &mut out);
                aligner.check()?;
                out.iter().map(ToString::to_string).collect()
            }
            (Machine::Coordinator(coordinator), [now, event @ ..]) => {
                let mut out = Vec::new();
                coordinator.handle(Millis(number(now)?), coordinator_event(event)?, &mut out);
                coordinator.check()?;
                out.iter().map(ToString::to_string).collect()
            }
            (Machine::Restarts(policy), [now, event @ ..]) => restarts::answer(policy, number(now)?, event)?,
            (_, []) => Vec::new(),
        };
        if lines.is_empty() {
            lines.push("(nothing)".into());
        }
        Ok(lines)
    }
}

fn aligner_stats(aligner: &Aligner) -> String {
    match aligner.stats() {
        None => "no snapshot yet".into(),
        Some(stats) => {
            format!(
                "{} {} from {} for {} ms",
                stats.checkpoint,
                if stats.overtook { "overtook" } else { "aligned" },
                stats.started,
                stats.duration.as_millis()
            )
        }
    }
}

fn overtaking(aligner: &Aligner) -> Vec<String> {
    let at = aligner.overtake_at();
    let mut lines = vec![at.map_or("not by itself".into(), |at| format!("from {at} on"))];
    lines.extend(
        aligner
            .waits_in_order()
            .map(|channel| format!("waits for {channel}")),
    );
    lines
}

fn show(coordinator: &CheckpointCoordinator, what: &[&str]) -> Parsed<Vec<String>> {
    Ok(match what {
        ["deadline"] => vec![
            coordinator
                .next_deadline()
                .map_or("no deadline".into(), |at| format!("deadline {at}")),
        ],
        ["decision"] => vec![
            if coordinator.is_decision_pending() {
                "pending"
            } else {
                "none pending"
            }
            .into(),
        ],
        ["fenced"] => vec![
            if coordinator.is_fenced() {
                "fenced"
            } else {
                "not fenced"
            }
            .into(),
        ],
        ["restored"] => vec![
            coordinator
                .restored()
                .map_or("from the beginning".into(), |id| format!("restored from {id}")),
        ],
        ["counts"] => {
            let counts = coordinator.counts();
            vec![format!(
                "{} triggered, {} completed, {} failed",
                counts.triggered, counts.completed, counts.failed
            )]
        }
        ["latest"] => vec![
            coordinator
                .latest()
                .map_or("no checkpoint".into(), |id| format!("latest {id}")),
        ],
        ["completed"] => {
            let line = |c: &Completed| format!("{} ({:?})", c.checkpoint, c.kind);
            coordinator.completed().iter().map(line).collect()
        }
        ["history", now] => {
            let stats = coordinator.stats(Millis(number(now)?));
            stats
                .iter()
                .map(|s| {
                    let status = match &s.status {
                        CheckpointStatus::InProgress => "in progress".to_owned(),
                        CheckpointStatus::Completed => "completed".to_owned(),
                        CheckpointStatus::Failed(reason) => format!("failed: {reason}"),
                    };
                    let (acks, subtasks, took) = (s.acks, s.subtasks, s.duration.as_millis());
                    format!(
                        "{} ({:?}) at {}, {took} ms, {acks}/{subtasks} acks, {status}",
                        s.id, s.kind, s.triggered
                    )
                })
                .collect()
        }
        other => return Err(format!("cannot show {other:?}")),
    })
}

fn align_event(words: &[&str]) -> Parsed<AlignEvent> {
    Ok(match words {
        ["ready"] => AlignEvent::Ready,
        [what @ ("barrier" | "announced"), channel, checkpoint, rest @ ..] => {
            let kind = rest
                .first()
                .map_or(Ok(SnapshotKind::Checkpoint), |word| kind(word))?;
            let barrier = Barrier {
                checkpoint: id(checkpoint)?,
                kind,
            };
            let channel = ChannelIndex(number(channel)?);
            match *what {
                "barrier" => AlignEvent::Barrier { channel, barrier },
                _ => AlignEvent::Announced { channel, barrier },
            }
        }
        ["ended", channel] => AlignEvent::ChannelEnded {
            channel: ChannelIndex(number(channel)?),
        },
        ["aborted", checkpoint] => AlignEvent::CheckpointAborted {
            checkpoint: id(checkpoint)?,
        },
        other => return Err(format!("no event {other:?}")),
    })
}

fn coordinator_event(words: &[&str]) -> Parsed<CkEvent> {
    Ok(match words {
        // start <attempt> <v/i,v/i,..> [restored=N] [next=N] [random=N]
        ["start", attempt, subtasks, rest @ ..] => {
            let (mut restored, mut next_id, mut random) = (None, CheckpointId(1), 0);
            for word in rest {
                match word.split_once('=') {
                    Some(("restored", value)) => restored = Some(id(value)?),
                    Some(("next", value)) => next_id = id(value)?,
                    Some(("random", value)) => random = number(value)?,
                    _ => return Err(format!("no such detail of a start: `{word}`")),
                }
            }
            let subtasks = subtasks.split(',').map(subtask).collect::<Parsed<_>>()?;
            CkEvent::AttemptStarted {
                attempt: Attempt(number(attempt)?),
                subtasks,
                restored,
                next_id,
                random,
            }
        }
        ["attempt", "ended"] => CkEvent::AttemptEnded,
        ["tick"] => CkEvent::Tick,
        ["request", request, what] => CkEvent::Requested {
            kind: kind(what)?,
            request: RequestId(number(request)?),
        },
        ["enumerators", checkpoint] => CkEvent::EnumeratorsSnapshotted {
            checkpoint: id(checkpoint)?,
        },
        ["enumerator-failed", checkpoint, reason @ ..] => CkEvent::EnumeratorFailed {
            checkpoint: id(checkpoint)?,
            reason: reason.join(" "),
        },
        // ack <attempt> <checkpoint> <v/i>
        ["ack", attempt, checkpoint, who] => CkEvent::Ack {
            attempt: Attempt(number(attempt)?),
            checkpoint: id(checkpoint)?,
            subtask: subtask(who)?,
        },
        ["decline", attempt, checkpoint, who, reason @ ..] => CkEvent::Declined {
            attempt: Attempt(number(attempt)?),
            checkpoint: id(checkpoint)?,
            subtask: subtask(who)?,
            reason: reason.join(" "),
        },
        ["decision", checkpoint, outcome @ ..] => CkEvent::Decision {
            checkpoint: id(checkpoint)?,
            outcome: decision(outcome)?,
        },
        other => return Err(format!("no event {other:?}")),
    })
}

fn decision(words: &[&str]) -> Parsed<DecisionOutcome> {
    Ok(match words {
        ["committed"] => DecisionOutcome::Committed,
        ["unknown"] => DecisionOutcome::Unknown,
        ["fenced", by @ ..] => DecisionOutcome::Fenced(by.join(" ")),
        ["not-written", reason @ ..] => DecisionOutcome::NotWritten(reason.join(" ")),
        other => return Err(format!("no outcome {other:?}")),
    })
}

fn kind(word: &str) -> Parsed<SnapshotKind> {
    Ok(match word {
        "checkpoint" => SnapshotKind::Checkpoint,
        "savepoint" => SnapshotKind::Savepoint,
        "final" => SnapshotKind::Final,
        other => return Err(format!("no kind `{other}`")),
    })
}

fn subtask(word: &str) -> Parsed<SubtaskId> {
    let (vertex, index) = word
        .trim_start_matches('v')
        .split_once('/')
        .ok_or("a subtask is written v0/1")?;
    Ok(SubtaskId {
        vertex: VertexId(number(vertex)?),
        index: number(index)?,
    })
}

fn id(word: &str) -> Parsed<CheckpointId> {
    number(word).map(CheckpointId)
}

fn number<T: std::str::FromStr>(word: &str) -> Parsed<T> {
    word.parse().map_err(|_| format!("`{word}` is not a number"))
}
