//! Rows of several chunks in the order of their key groups: references only, by counting.

use crate::image::{Groups, ImageRows, namespaces_of};
use rivermark_data::Key;
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

impl<'a, K: Key, V> Sorted<'a, K, V> {
    pub(super) fn new(chunks: &'a [ImageRows<K, V>]) -> Self {
        let groups = groups_of(chunks);
        let mut places = vec![0usize; groups.iter().max().map_or(0, |group| *group as usize + 1)];
        groups.iter().for_each(|group| places[*group as usize] += 1);
        let (mut ends, mut end) = (Vec::new(), 0);
        for (group, place) in places.iter_mut().enumerate() {
            let count = std::mem::replace(place, end);
            if count > 0 {
                end += count;
                ends.push((group as u32, end));
            }
        }
        let has_namespaces = chunks.iter().any(|chunk| !chunk.namespaces.is_empty());
        let mut namespaces = has_namespaces.then(|| vec![0; groups.len()]);
        let mut rows = Vec::new();
        if let Some(first) = chunks.iter().find_map(|chunk| chunk.rows.first()) {
            rows.resize(groups.len(), first);
        }
        let mut groups = groups.iter();
        for chunk in chunks {
            let all = chunk
                .rows
                .iter()
                .zip(namespaces_of(&chunk.namespaces, chunk.rows.len()));
            for ((row, namespace), group) in all.zip(&mut groups) {
                let place = &mut places[*group as usize];
                rows[*place] = row;
                if let Some(namespaces) = &mut namespaces {
                    namespaces[*place] = namespace;
                }
                *place += 1;
            }
        }
        Sorted {
            rows,
            namespaces,
            ends,
            bytes: chunks.iter().map(|chunk| chunk.bytes).sum(),
        }
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

fn groups_of<K: Key, V>(chunks: &[ImageRows<K, V>]) -> Vec<u32> {
    let mut groups = Vec::with_capacity(chunks.iter().map(|chunk| chunk.rows.len()).sum());
    for chunk in chunks {
        match &chunk.groups {
            Groups::Of(keys) => groups.extend(chunk.rows.iter().map(|(key, _)| keys.group(key).0)),
            Groups::Known(known) => groups.extend(known.iter().map(|group| group.0)),
        }
    }
    groups
}
