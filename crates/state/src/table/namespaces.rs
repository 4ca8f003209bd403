//! Tables by namespace under one freeze and one walk: a window's end, or a bucket of timers.

use super::Stored;
use super::directory::Directory;
use super::image::{Image, KeySpace, Origin, Walk};
use crate::image::ImageSink;
use rivermark_data::{Data, Key};
use rivermark_types::KeyHash;
use std::collections::BTreeMap;

/// Rows of one state, by namespace. A namespace appears with its first row and goes when it is dropped.
pub struct Tables<K: Key, V: Data> {
    places: Vec<Option<Directory<K, V>>>,
    free: Vec<usize>,
    by_namespace: BTreeMap<i64, usize>,
    /// The namespace used last and its place: neighbouring records mostly share it.
    last: Option<(i64, usize)>,
    image: Image<K, V>,
    walked_places: usize,
    walked_pages: usize,
}

impl<K: Key, V: Data> Tables<K, V> {
    /// No rows yet.
    pub fn new(origin: Origin, keys: KeySpace) -> Self {
        Tables {
            places: Vec::new(),
            free: Vec::new(),
            by_namespace: BTreeMap::new(),
            last: None,
            image: Image::new(origin, keys),
            walked_places: 0,
            walked_pages: 0,
        }
    }

    /// How this state's keys are hashed.
    pub fn keys(&self) -> KeySpace {
        self.image.keys
    }

    #[inline]
    fn find(&self, namespace: i64) -> Option<usize> {
        match self.last {
            Some((last, place)) if last == namespace => Some(place),
            _ => self.by_namespace.get(&namespace).copied(),
        }
    }

    fn directory(&self, namespace: i64) -> Option<&Directory<K, V>> {
        self.places.get(self.find(namespace)?)?.as_ref()
    }

    #[inline]
    fn directory_mut(&mut self, namespace: i64) -> Option<(&mut Directory<K, V>, &mut Image<K, V>)> {
        let place = self.find(namespace)?;
        self.last = Some((namespace, place));
        Some((self.places.get_mut(place)?.as_mut()?, &mut self.image))
    }

    #[inline]
    fn place_or_new(&mut self, namespace: i64) -> usize {
        let place = self.find(namespace).unwrap_or_else(|| self.open(namespace));
        self.last = Some((namespace, place));
        place
    }

    #[inline(never)]
    fn open(&mut self, namespace: i64) -> usize {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() - 1
        });
        self.by_namespace.insert(namespace, place);
        place
    }

    /// The directory of a namespace, new if there is none. A new one counts as captured: its rows are born after any freeze.
    #[inline]
    fn directory_or_new(&mut self, namespace: i64) -> (&mut Directory<K, V>, &mut Image<K, V>) {
        let place = self.place_or_new(namespace);
        let image = &mut self.image;
        (
            self.places[place].get_or_insert_with(|| Directory::new(namespace, image)),
            image,
        )
    }

    /// The value of a key in a namespace.
    #[inline]
    pub fn get(&self, namespace: i64, key: &K, hash: KeyHash) -> Option<&V> {
        self.directory(namespace)?.get(key, hash)
    }

    /// The value of a key in a namespace, to be changed; made first if there is none.
    #[inline]
    pub fn update_or_else(
        &mut self,
        namespace: i64,
        key: &K,
        hash: KeyHash,
        make: impl FnOnce() -> V,
    ) -> &mut V {
        let (directory, image) = self.directory_or_new(namespace);
        directory.update_or_else(image, key, hash, make)
    }

    /// The value of a key in a namespace, to be changed, if there is one.
    #[inline]
    pub fn get_mut_existing(&mut self, namespace: i64, key: &K, hash: KeyHash) -> Option<&mut V> {
        let (directory, image) = self.directory_mut(namespace)?;
        directory.get_mut(image, key, hash)
    }

    /// Sets the value of a key in a namespace; returns the old one.
    pub fn insert(&mut self, namespace: i64, key: K, hash: KeyHash, value: V) -> Option<V> {
        let (directory, image) = self.directory_or_new(namespace);
        directory.insert(image, key, hash, value)
    }

    /// Removes a key from a namespace. The namespace stays, even if it is empty.
    pub fn remove(&mut self, namespace: i64, key: &K, hash: KeyHash) -> Option<V> {
        let (directory, image) = self.directory_mut(namespace)?;
        directory.remove(image, key, hash)
    }

    /// Takes up to `most` rows out of a namespace, in no order of meaning; returns how many.
    pub fn drain_slice(&mut self, namespace: i64, most: usize, take: impl FnMut(K, V)) -> usize {
        match self.directory_mut(namespace) {
            Some((directory, image)) => directory.drain_slice(image, most, take),
            None => 0,
        }
    }

    /// Drops a whole namespace; what the image does not have yet is captured first. Returns how many rows went.
    pub fn drop_namespace(&mut self, namespace: i64) -> usize {
        let Some(place) = self.by_namespace.remove(&namespace) else {
            return 0;
        };
        self.last = None;
        self.free.push(place);
        let Some(mut directory) = self.places.get_mut(place).and_then(Option::take) else {
            return 0;
        };
        directory.walk(&mut 0, &mut { usize::MAX }, &mut self.image);
        let rows = directory.len();
        directory.retire(&mut self.image);
        rows
    }

    /// Sees all rows of a namespace, in no order of meaning.
    pub fn for_each_in(&self, namespace: i64, see: impl FnMut(&K, &V)) {
        if let Some(directory) = self.directory(namespace) {
            directory.for_each(see);
        }
    }

    /// Sees all rows, in no order of meaning.
    pub fn for_each(&self, mut see: impl FnMut(i64, &K, &V)) {
        for directory in self.places.iter().flatten() {
            directory.for_each(|key, value| see(directory.namespace(), key, value));
        }
    }

    /// The namespaces, in order.
    pub fn namespaces(&self) -> impl Iterator<Item = i64> + '_ {
        self.by_namespace.keys().copied()
    }

    /// The first namespace.
    pub fn first_namespace(&self) -> Option<i64> {
        self.by_namespace
            .first_key_value()
            .map(|(namespace, _)| *namespace)
    }

    /// The number of rows in a namespace.
    pub fn len_of(&self, namespace: i64) -> usize {
        self.directory(namespace).map_or(0, Directory::len)
    }
}

impl<K: Key, V: Data> Stored for Tables<K, V> {
    fn freeze(&mut self, unfinished: &mut dyn ImageSink) {
        if self.is_walking() {
            self.walk(&mut { usize::MAX }, unfinished);
        }
        (self.walked_places, self.walked_pages) = (0, 0);
        self.image.freeze();
    }
    fn walk(&mut self, budget: &mut usize, sink: &mut dyn ImageSink) -> Walk {
        if !self.is_walking() {
            return Walk::Done;
        }
        while let Some(place) = self.places.get_mut(self.walked_places) {
            if let Some(directory) = place
                && !directory.walk(&mut self.walked_pages, budget, &mut self.image)
            {
                return self.image.flush(false, sink);
            }
            self.walked_places += 1;
            self.walked_pages = 0;
        }
        self.image.flush(true, sink)
    }
    fn is_walking(&self) -> bool {
        self.image.is_walking()
    }
    fn prefetch(&self, hashes: &[KeyHash]) {
        // In the namespace used last: what comes next is mostly of the same.
        if let Some(directory) = self.last.and_then(|(_, place)| self.places.get(place)?.as_ref()) {
            directory.prefetch(hashes);
        }
    }
    fn rows(&self) -> usize {
        self.places.iter().flatten().map(Directory::len).sum()
    }
    fn bytes(&self) -> usize {
        self.places.iter().flatten().map(Directory::bytes).sum()
    }
}
