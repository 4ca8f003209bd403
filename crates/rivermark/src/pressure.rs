//! Where a job's time goes, for the live line: the busiest operator, and those that wait for room behind others.
//!
//! Pure: from two snapshots of the numbers that the metrics endpoint shows too. An operator here is a vertex with all that
//! is chained in it; it counts as its subtask with the most.

use rivermark_runtime::metrics::{JobSnapshot, Rates};

/// Milliseconds of a second; less is not worth a word.
const WORTH_TELLING: f64 = 100.0;
/// So many of those held back are named.
const NAMED: usize = 2;
/// Longer names are cut: the line has other things to show.
const LONGEST_NAME: usize = 32;

/// What was busiest and what was held back between two moments. Nothing, if nothing was.
pub(crate) fn pressure(earlier: &JobSnapshot, later: &JobSnapshot) -> Vec<String> {
    let rates = Rates::between(earlier, later);
    let vertices = later.vertices.iter();
    let shares: Vec<_> = vertices.map(|(id, name)| (rates.vertex(*id), name)).collect();
    let busy = shares.iter().map(|((busy, _), name)| (*busy, name.as_str()));
    let held_back = shares.iter().map(|((_, waits), name)| (*waits, name.as_str()));
    let (busy, held_back) = (most_first(busy), most_first(held_back));
    let mut parts = Vec::new();
    if let Some(busiest) = busy.first() {
        parts.push(format!("busiest {busiest}"));
    }
    if !held_back.is_empty() {
        let mut names = held_back;
        let more = names.split_off(names.len().min(NAMED)).len();
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        parts.push(format!("held back {}{more}", names.join(", ")));
    }
    parts
}

/// Names with their shares, without those not worth telling.
fn most_first<'a>(shares: impl Iterator<Item = (f64, &'a str)>) -> Vec<String> {
    let mut shares: Vec<_> = shares.filter(|(share, _)| *share >= WORTH_TELLING).collect();
    shares.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    let told = shares.into_iter();
    told.map(|(share, name)| format!("{} {:.0}%", shortened(name), share / 10.0))
        .collect()
}

fn shortened(name: &str) -> String {
    match name.char_indices().nth(LONGEST_NAME) {
        None => name.to_owned(),
        Some((end, _)) => format!("{}...", &name[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rivermark_runtime::metrics::SubtaskSnapshot;
    use rivermark_runtime::metrics::time::Spent;
    use rivermark_types::{Millis, SubtaskId, VertexId};

    /// A moment of a job: by vertex its name, and what each of its subtasks has spent at work and on waiting.
    fn moment(at: u64, vertices: &[(&str, &[(u64, u64)])]) -> JobSnapshot {
        let mut snapshot = JobSnapshot {
            at: Millis(at),
            ..JobSnapshot::default()
        };
        for (number, (name, subtasks)) in (0..).zip(vertices) {
            let vertex = VertexId(number);
            snapshot.vertices.insert(vertex, (*name).to_owned());
            for (index, (busy_ms, backpressured_ms)) in (0..).zip(*subtasks) {
                let time = Spent {
                    busy_ms: *busy_ms,
                    backpressured_ms: *backpressured_ms,
                    is_backpressured: false,
                };
                let subtask = SubtaskSnapshot {
                    time,
                    ..SubtaskSnapshot::default()
                };
                snapshot.subtasks.insert(SubtaskId { vertex, index }, subtask);
            }
        }
        snapshot
    }

    #[test]
    fn the_busiest_is_told_and_what_waits_behind_it() {
        let earlier = moment(1000, &[("source", &[(7, 7)]), ("windows", &[(0, 0), (0, 0)])]);
        let later = moment(
            3000,
            &[("source", &[(307, 1687)]), ("windows", &[(400, 0), (1940, 0)])],
        );
        assert_eq!(
            pressure(&earlier, &later),
            ["busiest windows 97%", "held back source 84%"]
        );
    }

    #[test]
    fn of_many_that_wait_the_first_are_named_and_long_names_are_cut() {
        let names = ["a", "b", "c", "a name that is a good deal too long for it"];
        let earlier: Vec<_> = names.iter().map(|name| (*name, &[(0, 0)][..])).collect();
        let later = [
            (names[0], &[(0, 300)][..]),
            (names[1], &[(0, 500)][..]),
            (names[2], &[(0, 200)][..]),
            (names[3], &[(900, 0)][..]),
        ];
        assert_eq!(
            pressure(&moment(0, &earlier), &moment(1000, &later)),
            [
                "busiest a name that is a good deal too l... 90%",
                "held back b 50%, a 30% and 1 more"
            ]
        );
    }

    #[test]
    fn a_job_with_nothing_to_do_is_not_talked_about() {
        let earlier = moment(0, &[("source", &[(0, 0)])]);
        let later = moment(1000, &[("source", &[(99, 99)])]);
        assert!(pressure(&earlier, &later).is_empty());
        assert!(pressure(&later, &later).is_empty(), "no time has passed");
    }
}
