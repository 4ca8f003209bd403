//! What the operating system says of a process: memory, threads, open files.

use std::fs;

/// One look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    /// Resident memory, in kilobytes.
    pub(super) rss_kb: u64,
    pub(super) threads: u64,
    pub(super) files: u64,
}

impl Look {
    /// Looks at a process; `None` if it is gone.
    pub(super) fn at(process: u32) -> Option<Look> {
        let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        Some(Look {
            rss_kb: number("VmRSS:")?,
            threads: number("Threads:")?,
            files: fs::read_dir(format!("/proc/{process}/fd")).ok()?.count() as u64,
        })
    }
}

/// A minute of a process: what was seen in its second half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Minute {
    /// Which one of the whole run, from 1.
    pub(super) number: u64,
    /// The process's age at its end, in minutes.
    pub(super) age: u64,
    /// The mean.
    pub(super) rss_kb: u64,
    /// The least: what is there all the time.
    pub(super) threads: u64,
    pub(super) files: u64,
}

impl Minute {
    pub(super) fn of(number: u64, age: u64, looks: &[Look]) -> Option<Minute> {
        let least = |of: fn(&Look) -> u64| looks.iter().map(of).min();
        Some(Minute {
            number,
            age,
            rss_kb: looks.iter().map(|look| look.rss_kb).sum::<u64>() / (looks.len() as u64).max(1),
            threads: least(|look| look.threads)?,
            files: least(|look| look.files)?,
        })
    }
}

/// Minutes at the beginning and at the end that are comparable, and how much more there was at the end.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Growth {
    /// What was compared, for people.
    pub(super) what: String,
    /// In per cent.
    pub(super) rss: f64,
    /// How many more.
    pub(super) threads: i64,
    pub(super) files: i64,
}

/// Compares the first half of some minutes with their last half, at most three of each: one minute alone says little, by chance it
/// has one snapshot more under way than another.
fn growth(what: &str, minutes: &[Minute]) -> Option<Growth> {
    let some = (minutes.len() / 2).clamp(1, 3);
    if minutes.len() < 2 {
        return None;
    }
    let (first, last) = (&minutes[..some], &minutes[minutes.len() - some..]);
    let mean = |of: &[Minute]| of.iter().map(|minute| minute.rss_kb).sum::<u64>() as f64 / some as f64;
    let least =
        |of: &[Minute], what: fn(&Minute) -> u64| of.iter().map(what).min().unwrap_or_default() as i64;
    let numbers = |of: &[Minute]| {
        let numbers: Vec<String> = of.iter().map(|minute| minute.number.to_string()).collect();
        numbers.join(", ")
    };
    Some(Growth {
        what: format!("{what}: minutes {} against {}", numbers(last), numbers(first)),
        rss: (mean(last) / mean(first).max(1.0) - 1.0) * 100.0,
        threads: least(last, |minute| minute.threads) - least(first, |minute| minute.threads),
        files: least(last, |minute| minute.files) - least(first, |minute| minute.files),
    })
}

/// How things grew after the warm-up: over restarts of the process, at the same age each, and inside of the last process.
pub(super) fn growths(minutes: &[Minute], warm_up: u64) -> Vec<Growth> {
    let warm: Vec<Minute> = minutes
        .iter()
        .copied()
        .filter(|minute| minute.number > warm_up)
        .collect();
    let of_age = |age: u64| -> Vec<Minute> {
        let same = warm.iter().copied();
        same.filter(|minute| minute.age == age).collect()
    };
    let last_start = minutes.last().map_or(0, |minute| minute.number - minute.age);
    let last: Vec<Minute> = warm
        .iter()
        .copied()
        .filter(|minute| minute.number > last_start && minute.age > warm_up)
        .collect();
    let mut growths = vec![
        growth("processes of one minute", &of_age(1)),
        growth("processes of two minutes", &of_age(2)),
    ];
    growths.push(growth("the last process", &last));
    growths.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minutes(of: &[(u64, u64, u64)]) -> Vec<Minute> {
        let minute = |&(number, age, rss_kb): &(u64, u64, u64)| Minute {
            number,
            age,
            rss_kb,
            threads: 9,
            files: 20 + number,
        };
        of.iter().map(minute).collect()
    }

    #[test]
    fn like_is_compared_with_like() {
        let run = [(1, 1, 10), (2, 2, 90), (3, 1, 100), (4, 2, 200)];
        let later = [
            (5, 1, 110),
            (6, 2, 220),
            (7, 1, 120),
            (8, 2, 200),
            (9, 3, 300),
            (10, 4, 303),
        ];
        let all = minutes(&[run.as_slice(), &later].concat());
        let found = growths(&all, 2);
        let rss: Vec<i64> = found.iter().map(|growth| growth.rss.round() as i64).collect();
        assert_eq!(rss, [20, 0, 1]);
        assert_eq!(found[2].what, "the last process: minutes 10 against 9");
        assert_eq!((found[2].threads, found[2].files), (0, 1));
    }

    #[test]
    fn this_process_can_be_looked_at_and_one_that_is_gone_cannot() {
        let look = Look::at(std::process::id()).unwrap();
        assert!(look.rss_kb > 0 && look.threads > 0 && look.files > 0);
        assert_eq!(Look::at(u32::MAX), None);
    }
}
