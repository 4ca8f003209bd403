//! Rows of several chunks in the order of their key groups: references only, by counting.

use crate::image::{Groups, ImageRows, namespaces_of};
use crate::page_memory::PageMemory;
use rivermark_data::{Data, Key};
use std::ops::Range;

/// The rows of some chunks, sorted by key group; those of one group are in the order in which they came.
pub(super) struct Sorted<'a, K, V> {
    rows: Vec<&'a (K, V)>,
    /// `None` if all are 0.
    namespaces: Option<Vec<i64>>,
    /// The groups that have rows, in order, and where the rows of each end.
    ends: Vec<(u32, usize)>,
    bytes: usize,
}

impl<'a, K: Key, V: Data> Sorted<'a, K, V> {
    pub(super) fn new(chunks: &'a [ImageRows<K, V>], memory: &PageMemory) -> Self {
        let mut groups: Vec<u32> = memory.scratch();
        let mut places = counted(chunks, &mut groups);
        let (mut ends, mut end) = (Vec::new(), 0);
        for (group, place) in places.iter_mut().enumerate() {
            let count = std::mem::replace(place, end);
            if count > 0 {
                end += count;
                ends.push((group as u32, end));
            }
        }
        let has_namespaces = chunks.iter().any(|chunk| !chunk.namespaces.is_empty());
        let namespaces = has_namespaces.then(|| {
            let namespaces = |chunk: &'a ImageRows<K, V>| namespaces_of(&chunk.namespaces, chunk.rows.len());
            let mut sorted = vec![0; groups.len()];
            scatter(
                &groups,
                &mut places.clone(),
                chunks.iter().flat_map(namespaces),
                &mut sorted,
            );
            sorted
        });
        let mut rows = emptied(memory.scratch::<Vec<&'static (K, V)>>());
        if let Some(first) = chunks.iter().find_map(|chunk| chunk.rows.first()) {
            rows.resize(groups.len(), first);
        }
        let mut left = groups.as_slice();
        for chunk in chunks {
            let (of_chunk, others) = left.split_at(chunk.rows.len());
            scatter(of_chunk, &mut places, &chunk.rows, &mut rows);
            left = others;
        }
        groups.clear();
        memory.keep(groups);
        Sorted {
            rows,
            namespaces,
            ends,
            bytes: chunks.iter().map(|chunk| chunk.bytes).sum(),
        }
    }

    /// Gives its memory back.
    pub(super) fn end(self, memory: &PageMemory) {
        memory.keep::<Vec<&'static (K, V)>>(emptied(self.rows));
    }

    /// Cuts the rows into ranges of about equal length, at most so many and not much larger than so many bytes, never
    /// inside a key group.
    pub(super) fn pages(
        &self,
        bytes: usize,
        most: usize,
    ) -> impl Iterator<Item = Range<usize>> + use<'_, K, V> {
        let pages = (self.bytes / bytes).clamp(1, most);
        let target = self.rows.len().div_ceil(pages).max(1);
        let mut start = 0;
        let mut ends = self.ends.iter().map(|(_, end)| *end).peekable();
        std::iter::from_fn(move || {
            while let Some(end) = ends.next() {
                if end - start >= target || ends.peek().is_none() {
                    return Some(std::mem::replace(&mut start, end)..end);
                }
            }
            None
        })
    }

    pub(super) fn rows(&self, range: Range<usize>) -> &[&'a (K, V)] {
        &self.rows[range]
    }

    /// The key group of each row of a range.
    pub(super) fn groups(&self, range: Range<usize>) -> Vec<u32> {
        let mut groups = Vec::with_capacity(range.len());
        let first = self.ends.partition_point(|(_, end)| *end <= range.start);
        for (group, end) in &self.ends[first..] {
            let left = (*end).min(range.end) - range.start;
            groups.resize(left, *group);
            if *end >= range.end {
                break;
            }
        }
        groups
    }

    /// The namespace of each row of a range; `None` if all are 0.
    pub(super) fn namespaces(&self, range: Range<usize>) -> Option<Vec<i64>> {
        Some(self.namespaces.as_ref()?[range].to_vec())
    }
}

/// Works out the group of each row, and how many rows each group has.
fn counted<K: Key, V>(chunks: &[ImageRows<K, V>], groups: &mut Vec<u32>) -> Vec<usize> {
    let mut counts = Vec::new();
    groups.reserve(chunks.iter().map(|chunk| chunk.rows.len()).sum());
    for chunk in chunks {
        let start = groups.len();
        match &chunk.groups {
            Groups::Of(keys) => groups.extend(chunk.rows.iter().map(|(key, _)| keys.group(key).0)),
            Groups::Known(known) => groups.extend(known.iter().map(|group| group.0)),
        }
        // By the chunk: its groups are still near.
        let new = &groups[start..];
        let most = new.iter().max().map_or(0, |group| *group as usize + 1);
        counts.resize(most.max(counts.len()), 0);
        new.iter().for_each(|group| counts[*group as usize] += 1);
    }
    counts
}

/// Puts each item to the next place of its group.
fn scatter<T>(groups: &[u32], places: &mut [usize], items: impl IntoIterator<Item = T>, to: &mut [T]) {
    for (group, item) in groups.iter().zip(items) {
        let place = &mut places[*group as usize];
        to[*place] = item;
        *place += 1;
    }
}

/// No reference any more, and the memory that they were in.
fn emptied<'a, T>(mut references: Vec<&T>) -> Vec<&'a T> {
    references.clear();
    references.into_iter().map_while(|_| None).collect()
}
