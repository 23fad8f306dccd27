//! The map: a weak cache from keys to shared values.

use std::cell::RefCell;
use std::convert::Infallible;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::iter::FusedIterator;

use equivalent::Equivalent;

use crate::cached::Entry;
use crate::table::primitive::maybe_const_fn;
use crate::table::{Entries, Found, LazyTable, NewNode, Outcome, Pending, Ref, pin};
use crate::{Cached, MemoryUsage, RandomState};

/// A lock-free weak cache: from keys to values that live as long as somebody holds them.
///
/// Python's `WeakValueDictionary`, for threads. An entry holds its key and its value together. The map
/// itself holds only weak links: when the last [`Cached`] handle of an entry goes, the entry goes at once,
/// then key and value.
///
/// What runs where, and what user code may do, is as for [`Interner`](crate::Interner). There is no
/// `contains_key`, for the same reason; no `clear` and no `retain`, because what is in the map is for the
/// holders of its handles to say.
///
/// # Examples
///
/// ```
/// use hapax::{Cached, WeakMap};
///
/// static SQUARES: WeakMap<u32, String> = WeakMap::new();
///
/// let nine = SQUARES.get_or_insert_with(3, |n| (n * n).to_string());
/// assert_eq!(*nine, "9");
/// assert!(Cached::ptr_eq(&nine, &SQUARES.get(&3).unwrap()));
///
/// drop(nine);
/// assert!(SQUARES.get(&3).is_none());
/// ```
pub struct WeakMap<K, V, S = RandomState> {
    pub(crate) table: LazyTable<Entry<K, V>>,
    pub(crate) hasher: S,
}

impl<K, V> WeakMap<K, V> {
    maybe_const_fn! {
        /// An empty map with the default hasher.
        ///
        /// # Examples
        ///
        /// ```
        /// # use hapax::WeakMap;
        /// static MAP: WeakMap<String, Vec<u8>> = WeakMap::new();
        /// assert!(MAP.is_empty());
        /// ```
        pub const fn new() -> Self {
            Self::with_hasher(RandomState)
        }
    }

    /// A map with room for at least `entries` entries before it grows.
    ///
    /// # Panics
    ///
    /// As [`reserve`](Self::reserve).
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::WeakMap;
    /// assert!(WeakMap::<u8, u8>::with_capacity(100).capacity() >= 100);
    /// ```
    pub fn with_capacity(entries: usize) -> Self {
        Self::with_capacity_and_hasher(entries, RandomState)
    }
}

impl<K, V, S> WeakMap<K, V, S> {
    maybe_const_fn! {
        /// An empty map with another hasher.
        ///
        /// # Examples
        ///
        /// ```
        /// # use hapax::WeakMap;
        /// let map = WeakMap::<u8, u8, _>::with_hasher(std::hash::RandomState::new());
        /// assert!(map.get(&1).is_none());
        /// ```
        pub const fn with_hasher(hasher: S) -> Self {
            Self { table: LazyTable::new(), hasher }
        }
    }

    /// A map with another hasher and room for at least `entries` entries before it grows.
    ///
    /// # Panics
    ///
    /// As [`reserve`](Self::reserve).
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::WeakMap;
    /// let hasher = std::hash::RandomState::new();
    /// assert!(WeakMap::<u8, u8, _>::with_capacity_and_hasher(100, hasher).capacity() >= 100);
    /// ```
    pub fn with_capacity_and_hasher(entries: usize, hasher: S) -> Self {
        let map = Self {
            table: LazyTable::new(),
            hasher,
        };
        map.table.reserve(entries);
        map
    }

    /// The number of live entries: exact whenever nothing else runs. Each of those that come meanwhile may be missing,
    /// and each that goes may be taken off before what came instead is seen. O(1).
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::WeakMap;
    /// let map = WeakMap::new();
    /// let one = map.get_or_insert(1, "one");
    /// assert_eq!(map.len(), 1);
    /// ```
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether [`len`](Self::len) is zero.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::WeakMap;
    /// assert!(WeakMap::<u8, u8>::new().is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of entries from which on the table grows.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::WeakMap;
    /// assert_eq!(WeakMap::<u8, u8>::new().capacity(), 0);
    /// ```
    pub fn capacity(&self) -> usize {
        self.table.capacity()
    }

    /// Makes room for at least `additional` entries more, if the memory can be had. O(capacity).
    ///
    /// # Panics
    ///
    /// As [`Interner::reserve`](crate::Interner::reserve).
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::WeakMap;
    /// let map = WeakMap::<u8, u8>::new();
    /// map.reserve(100);
    /// assert!(map.capacity() >= 100);
    /// ```
    pub fn reserve(&self, additional: usize) {
        self.table.reserve(self.len().saturating_add(additional));
    }

    /// Gives back the table's memory that the present entries don't need.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::WeakMap;
    /// let mut map = WeakMap::<u8, u8>::with_capacity(10_000);
    /// map.shrink_to_fit();
    /// assert!(map.capacity() < 100);
    /// ```
    pub fn shrink_to_fit(&mut self) {
        self.table.shrink();
        self.flush();
    }

    /// As [`Interner::flush`](crate::Interner::flush).
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::WeakMap;
    /// WeakMap::<u8, u8>::new().flush();
    /// ```
    pub fn flush(&self) {
        crate::table::flush();
    }

    /// How much memory the table and its live entries take. Walks the table: O(n).
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::WeakMap;
    /// let map = WeakMap::new();
    /// let one = map.get_or_insert(1, "one");
    /// assert_eq!(map.memory_usage().entries, 1);
    /// ```
    pub fn memory_usage(&self) -> MemoryUsage {
        MemoryUsage::of(&self.table)
    }

    /// All live entries, in no particular order: those alive during the whole walk exactly once, those that
    /// come or go meanwhile perhaps. Between steps nothing is held but a handle.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::{Cached, WeakMap};
    /// let map = WeakMap::new();
    /// let one = map.get_or_insert(1, "one");
    /// let keys: Vec<_> = map.iter().map(|entry| *Cached::key(&entry)).collect();
    /// assert_eq!(keys, [1]);
    /// ```
    pub fn iter(&self) -> MapIter<'_, K, V> {
        MapIter {
            entries: self.table.entries(),
        }
    }

    /// Calls a function with key and value of every entry that dies, as
    /// [`Interner::on_drop`](crate::Interner::on_drop) does.
    ///
    /// It runs for removed entries too, when their last handle goes, but not for values that lost a race
    /// to become an entry.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::WeakMap;
    /// let map = WeakMap::new();
    /// map.on_drop(|key: &i32, value: &&str| assert_eq!((*key, *value), (1, "one")));
    /// drop(map.get_or_insert(1, "one"));
    /// ```
    pub fn on_drop(&self, f: impl Fn(&K, &V) + Send + Sync + 'static) {
        self.table.set_hook(move |entry: &Entry<K, V>| {
            // SAFETY: the hook runs for entries that were built.
            f(&entry.key, unsafe { entry.value() });
        });
    }

    /// Removes the function that [`on_drop`](Self::on_drop) has set.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::WeakMap;
    /// let map = WeakMap::<u8, u8>::new();
    /// map.on_drop(|_, _| unreachable!("removed again"));
    /// map.clear_on_drop();
    /// drop(map.get_or_insert(1, 2));
    /// ```
    pub fn clear_on_drop(&self) {
        self.table.clear_hook();
    }

    /// The hasher.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::{RandomState, WeakMap};
    /// assert_eq!(*WeakMap::<u8, u8>::new().hasher(), RandomState);
    /// ```
    pub fn hasher(&self) -> &S {
        &self.hasher
    }
}

/// What is being looked for: the key itself, or the node that it went into.
pub(crate) fn wanted<'a, K, V, X>(
    pending: &'a Pending<X, Entry<K, V>>,
    key: impl FnOnce(&'a X) -> &'a K,
) -> &'a K {
    match pending {
        Pending::Seed(seed) => key(seed),
        Pending::Node(node) => &node.value().key,
    }
}

impl<K: Hash + Eq, V, S: BuildHasher> WeakMap<K, V, S> {
    /// The live entry of a key; `None` if there is none, also while it is still being built. Changes
    /// nothing. Amortised O(1); lock-free; allocates nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::WeakMap;
    /// let map = WeakMap::new();
    /// let one = map.get_or_insert(String::from("one"), 1);
    /// assert_eq!(map.get("one").as_deref(), Some(&1));
    /// assert!(map.get("two").is_none());
    /// ```
    #[inline]
    pub fn get<Q: ?Sized + Hash + Equivalent<K>>(&self, key: &Q) -> Option<Cached<K, V>> {
        let hash = self.hasher.hash_one(key);
        let wanted = |entry: &Ref<Entry<K, V>>| key.equivalent(&entry.value().key);
        self.table.find(hash, wanted).map(Cached::from_ref)
    }

    /// Python's `setdefault`: the live entry of the key, or this one. Never waits: an entry that is still
    /// being built gives way to this one.
    ///
    /// What isn't needed of key and value is dropped, without a hook.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::WeakMap;
    /// let map = WeakMap::new();
    /// let first = map.get_or_insert(1, "first");
    /// let again = map.get_or_insert(1, "second");
    /// assert_eq!(*again, "first");
    /// ```
    pub fn get_or_insert(&self, key: K, value: V) -> Cached<K, V> {
        // The entry of this key, met last, that was being built; by now it may have a value.
        let building = RefCell::new(None);
        let mut built = None;
        let outcome = self.table.search_or_insert(
            self.hasher.hash_one(&key),
            pin(),
            (key, value),
            |pending, entry, found| {
                if found == Found::Hidden || wanted(pending, |seed| &seed.0) != &entry.value().key {
                    return false;
                }
                match found {
                    Found::Building => {
                        if let Pending::Node(new) = pending {
                            new.hold_back();
                        }
                        building.replace(Some(entry.clone()));
                        false
                    }
                    // Another inserter's, who may be at any point of what we would do next: we do it.
                    Found::HeldBack => {
                        built = self.settle(building.take(), entry);
                        built.is_some() || entry.node().is_visible()
                    }
                    _ => true,
                }
            },
            false,
            |(key, value), seat| {
                let new = NewNode::sized(seat, Entry::new(key, Some(value)));
                if building.borrow().is_some() {
                    new.hold_back();
                }
                new
            },
        );
        if let Outcome::Inserted(entry) = &outcome {
            built = self
                .settle(building.take(), entry)
                // Unless somebody has published ours: then the other one has been removed since.
                .filter(|_| entry.node().give_way());
        }
        drop(building);
        let entry = outcome.into_entry();
        match built {
            None => Cached::from_ref(entry),
            Some(built) => {
                drop(entry);
                Cached::from_ref(built)
            }
        }
    }

    /// Decides between an entry that is still being built, if there is one, and one that is held back
    /// behind it: gives the former up and publishes the latter. If it has a value that look-ups see
    /// by now, returns it and publishes nothing.
    fn settle(
        &self,
        building: Option<Ref<Entry<K, V>>>,
        held_back: &Ref<Entry<K, V>>,
    ) -> Option<Ref<Entry<K, V>>> {
        if let Some(building) = building
            && !building.node().give_up()
        {
            return Some(building);
        }
        self.table.publish(held_back);
        None
    }

    /// The live entry of the key, or one that is built for it. Never waits: several threads may build, one
    /// of them wins, and the values of the others are dropped, without a hook.
    ///
    /// `build` runs at most once, with nothing held.
    ///
    /// # Panics
    ///
    /// If `Hash`, `Eq` or `build` panics; nothing is changed then.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::WeakMap;
    /// let map = WeakMap::new();
    /// let nine = map.get_or_insert_with(3, |n| n * n);
    /// assert_eq!(*map.get_or_insert_with(3, |_| unreachable!("it is there")), 9);
    /// ```
    pub fn get_or_insert_with(&self, key: K, build: impl FnOnce(&K) -> V) -> Cached<K, V> {
        match self.try_get_or_insert_with(key, |key| Ok::<V, Infallible>(build(key))) {
            Ok(entry) => entry,
            Err(never) => match never {},
        }
    }

    /// As [`get_or_insert_with`](Self::get_or_insert_with), if building may fail.
    ///
    /// # Errors
    ///
    /// What `build` returns; nothing is changed then.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::WeakMap;
    /// let map = WeakMap::<&str, i32>::new();
    /// assert!(map.try_get_or_insert_with("x", |text| text.parse()).is_err());
    /// let seven = map.try_get_or_insert_with("7", |text| text.parse()).unwrap();
    /// assert_eq!(*seven, 7);
    /// ```
    pub fn try_get_or_insert_with<E>(
        &self,
        key: K,
        build: impl FnOnce(&K) -> Result<V, E>,
    ) -> Result<Cached<K, V>, E> {
        if let Some(entry) = self.get(&key) {
            drop((key, build));
            return Ok(entry);
        }
        let value = build(&key)?;
        Ok(self.get_or_insert(key, value))
    }

    /// As [`get_or_insert_with`](Self::get_or_insert_with), by a borrowed key, which is cloned on a miss only.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::WeakMap;
    /// let lengths = WeakMap::<String, usize>::new();
    /// let five = lengths.get_or_insert_with_ref("alpha", |key| key.len());
    /// assert_eq!(lengths.get("alpha").as_deref(), Some(&5));
    /// ```
    pub fn get_or_insert_with_ref<Q>(&self, key: &Q, build: impl FnOnce(&K) -> V) -> Cached<K, V>
    where
        Q: ?Sized + Hash + Equivalent<K> + ToOwned<Owned = K>,
    {
        match self.get(key) {
            Some(entry) => {
                drop(build);
                entry
            }
            None => self.get_or_insert_with(key.to_owned(), build),
        }
    }

    /// Removes the live entry of a key and returns it; `None` if there is none, also while it is still being
    /// built. Its handles stay what they are; the map forgets it, and may have another one at once. Look-ups of the
    /// key pass over removed entries as long as these have handles.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::WeakMap;
    /// let map = WeakMap::new();
    /// let old = map.get_or_insert(1, "old");
    /// assert_eq!(map.remove(&1).as_deref(), Some(&"old"));
    /// let new = map.get_or_insert(1, "new");
    /// assert_eq!((*old, *new), ("old", "new"));
    /// ```
    pub fn remove<Q: ?Sized + Hash + Equivalent<K>>(&self, key: &Q) -> Option<Cached<K, V>> {
        // Another thread may remove it first; then there may be a next one.
        while let Some(entry) = self.get(key) {
            if entry.entry().hide() {
                return Some(entry);
            }
        }
        None
    }
}

impl<K, V, S: Default> Default for WeakMap<K, V, S> {
    fn default() -> Self {
        Self::with_hasher(S::default())
    }
}

impl<K: fmt::Debug, V: fmt::Debug, S> fmt::Debug for WeakMap<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for entry in self {
            let key: &K = Cached::key(&entry);
            map.entry(key, &*entry);
        }
        map.finish()
    }
}

impl<'a, K, V, S> IntoIterator for &'a WeakMap<K, V, S> {
    type Item = Cached<K, V>;
    type IntoIter = MapIter<'a, K, V>;

    fn into_iter(self) -> MapIter<'a, K, V> {
        self.iter()
    }
}

/// All live entries of a map; see [`WeakMap::iter`].
///
/// # Examples
///
/// ```
/// assert!(hapax::WeakMap::<u8, u8>::new().iter().next().is_none());
/// ```
pub struct MapIter<'a, K, V> {
    entries: Entries<'a, Entry<K, V>>,
}

impl<K, V> Iterator for MapIter<'_, K, V> {
    type Item = Cached<K, V>;

    fn next(&mut self) -> Option<Cached<K, V>> {
        self.entries.next().map(Cached::from_ref)
    }
}

impl<K, V> FusedIterator for MapIter<'_, K, V> {}

impl<K, V> fmt::Debug for MapIter<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapIter").finish_non_exhaustive()
    }
}
