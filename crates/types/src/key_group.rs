//! Key groups: the unit in which keyed state moves between subtasks. `hash → key group → subtask`, here and nowhere else.

use crate::hash::KeyHash;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A slice of the key space; there are `MaxParallelism` of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyGroup(pub u32);

/// The number of key groups, 1 to 32,768; fixed for the life of a job's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MaxParallelism(u32);

impl MaxParallelism {
    /// The most key groups a job may have (Flink's bound).
    pub const LIMIT: u32 = 32_768;

    /// `groups` key groups; `None` outside 1 to 32,768.
    pub fn new(groups: u32) -> Option<MaxParallelism> {
        (1..=Self::LIMIT)
            .contains(&groups)
            .then_some(MaxParallelism(groups))
    }

    /// Flink's default: one and a half times the parallelism, rounded up to a power of two, from 128 to 32,768.
    pub fn default_for(parallelism: u32) -> MaxParallelism {
        let wanted = u64::from(parallelism) + u64::from(parallelism) / 2;
        let rounded = wanted
            .max(1)
            .next_power_of_two()
            .clamp(128, u64::from(Self::LIMIT));
        MaxParallelism(u32::try_from(rounded).unwrap_or(Self::LIMIT))
    }

    /// The number of key groups.
    pub fn get(self) -> u32 {
        self.0
    }

    /// The key group of a key: the top 32 bits of its hash, scaled.
    #[inline]
    pub fn group_of(self, hash: KeyHash) -> KeyGroup {
        KeyGroup((((hash.0 >> 32) * u64::from(self.0)) >> 32) as u32)
    }

    /// The subtask that owns a key group at a parallelism (Flink's assignment).
    #[inline]
    pub fn subtask_of(self, group: KeyGroup, parallelism: u32) -> u32 {
        (u64::from(group.0) * u64::from(parallelism) / u64::from(self.0)) as u32
    }

    /// The key groups that subtask `index` of `parallelism` owns; empty only if there are more subtasks than groups.
    pub fn range_of(self, index: u32, parallelism: u32) -> KeyGroupRange {
        let start =
            |i: u32| (u64::from(i) * u64::from(self.0)).div_ceil(u64::from(parallelism.max(1))) as u32;
        KeyGroupRange {
            start: start(index),
            end: start(index + 1),
        }
    }
}

/// Key groups `start..end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyGroupRange {
    /// The first group.
    pub start: u32,
    /// One past the last group.
    pub end: u32,
}

impl KeyGroupRange {
    /// Whether the group is in the range.
    #[inline]
    pub fn contains(self, group: KeyGroup) -> bool {
        (self.start..self.end).contains(&group.0)
    }
    /// Whether the ranges share a group.
    pub fn overlaps(self, other: KeyGroupRange) -> bool {
        self.start < other.end && other.start < self.end
    }
}

impl fmt::Display for KeyGroupRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.start, self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_max_parallelism_is_flinks() {
        for (parallelism, groups) in [
            (1, 128),
            (2, 128),
            (64, 128),
            (85, 128),
            (86, 256),
            (170, 256),
            (1000, 2048),
        ] {
            assert_eq!(
                MaxParallelism::default_for(parallelism).get(),
                groups,
                "parallelism {parallelism}"
            );
        }
        assert_eq!(MaxParallelism::default_for(21_845).get(), 32_768);
    }

    #[test]
    fn ranges_agree_with_the_owner_of_each_group() {
        for max in [1, 7, 128, 300] {
            let max = MaxParallelism::new(max).unwrap();
            for parallelism in 1..=max.get().min(40) {
                for group in 0..max.get() {
                    let owner = max.subtask_of(KeyGroup(group), parallelism);
                    assert!(max.range_of(owner, parallelism).contains(KeyGroup(group)));
                }
            }
        }
    }

    #[test]
    fn flinks_example_of_ranges() {
        let max = MaxParallelism::new(128).unwrap();
        let ranges: Vec<_> = (0..3)
            .map(|i| max.range_of(i, 3))
            .map(|r| (r.start, r.end))
            .collect();
        assert_eq!(ranges, [(0, 43), (43, 86), (86, 128)]);
    }
}
