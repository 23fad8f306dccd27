//! The map: a weak cache from keys to shared values.

use std::cell::Cell;
use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::iter::FusedIterator;
use std::ops::ControlFlow;

use equivalent::Equivalent;

use crate::builds::{self, Claim, Waited};
use crate::cached::Entry;
use crate::table::primitive::maybe_const_fn;
use crate::table::{Entries, Found, LazyTable, NewNode, Outcome, Pending, Ref};
use crate::{Cached, MemoryUsage, RandomState};

/// A lock-free weak cache: from keys to values that live as long as somebody holds them.
///
/// Python's `WeakValueDictionary`, for threads. An entry holds its key and its value together. The map
/// itself holds only weak links: when the last [`Cached`] handle of an entry goes, the entry goes at once,
/// then key and value.
///
/// What runs where, and what user code may do, is as for [`Interner`](crate::Interner).
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
    table: LazyTable<Entry<K, V>>,
    hasher: S,
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

    /// A map that holds so many entries before it grows.
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

    /// A map with another hasher that holds so many entries before it grows.
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

    /// The number of live entries: exact whenever nothing else runs, otherwise a recent one. O(1).
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

    /// Grows the table now for so many entries more, if the memory can be had.
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

impl<K, V> Pending<K, Entry<K, V>> {
    /// The key, out of the node if need be.
    fn into_key(self) -> K {
        match self {
            Pending::Seed(key) => key,
            Pending::Node(node) => node.into_value().key,
        }
    }
}

/// What is being looked for: the key itself, or the node that it went into.
fn wanted<'a, K, V, X>(
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
    /// nothing.
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
        let entry = self
            .table
            .search(self.hasher.hash_one(key), |entry, found| {
                if found == Found::Live && key.equivalent(&entry.value().key) {
                    ControlFlow::Break(entry)
                } else {
                    ControlFlow::Continue(entry)
                }
            });
        entry.map(Cached::from_ref)
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
        // The entry of this key, met last, that was still being built.
        let building = Cell::new(None);
        let outcome = self.table.search_or_insert(
            self.hasher.hash_one(&key),
            (key, value),
            |pending, entry, found| {
                if found == Found::Hidden || wanted(pending, |seed| &seed.0) != &entry.value().key {
                    return ControlFlow::Continue(entry);
                }
                match found {
                    Found::Building => {
                        if let Pending::Node(new) = pending {
                            new.hold_back();
                        }
                        building.set(Some(entry.clone()));
                        ControlFlow::Continue(entry)
                    }
                    // Another inserter's, who may be at any point of what we would do next: we do it.
                    Found::HeldBack => match self.settle(building.take(), &entry) {
                        Some(built) => ControlFlow::Break(built),
                        None if entry.node().is_visible() => ControlFlow::Break(entry),
                        None => ControlFlow::Continue(entry),
                    },
                    _ => ControlFlow::Break(entry),
                }
            },
            false,
            |(key, value), seat| {
                let new = NewNode::sized(seat, Entry::new(key, Some(value)));
                let met = building.take();
                if met.is_some() {
                    new.hold_back();
                }
                building.set(met);
                new
            },
        );
        match outcome {
            Outcome::Met(entry, rest) => {
                // What wasn't needed goes before there is a result that a panic would lose.
                drop((building, rest));
                Cached::from_ref(entry)
            }
            Outcome::Inserted(entry) => match building.take() {
                None => Cached::from_ref(entry),
                Some(building) => match self.settle(Some(building), &entry) {
                    // Unless somebody has published it: then the other one has been removed since.
                    Some(built) if entry.node().give_way() => {
                        drop(entry);
                        Cached::from_ref(built)
                    }
                    _ => Cached::from_ref(entry),
                },
            },
        }
    }

    /// Decides between an entry that is still being built, if there is one, and one that is held back
    /// behind it: gives the former up and publishes the latter. If it has a value by now, answers it and
    /// publishes nothing.
    #[cold]
    fn settle(
        &self,
        building: Option<Ref<Entry<K, V>>>,
        held_back: &Ref<Entry<K, V>>,
    ) -> Option<Ref<Entry<K, V>>> {
        if let Some(building) = building
            && !building.node().hide_building()
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
    /// What `build` answers; nothing is changed then.
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

    /// The live entry of the key, or one that is built for it, by exactly one thread.
    ///
    /// Others of that key wait and get that very value, also if the builder lets go of it at once; those of
    /// other keys aren't held up. If `build` panics, the next one who waits builds.
    ///
    /// # Panics
    ///
    /// If `build` panics, on this thread only. If this thread would wait for itself: when it is called from
    /// within `build` for the same key, or for one whose builder waits for this thread, through any number
    /// of keys, maps and threads. [`try_get_or_init`](Self::try_get_or_init) answers an error instead.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::WeakMap;
    /// let map = WeakMap::new();
    /// std::thread::scope(|scope| {
    ///     for _ in 0..4 {
    ///         scope.spawn(|| assert_eq!(*map.get_or_init(3, |n| n * n), 9));
    ///     }
    /// });
    /// ```
    pub fn get_or_init(&self, key: K, build: impl FnOnce(&K) -> V) -> Cached<K, V> {
        match self.try_get_or_init(key, |key| Ok::<V, Infallible>(build(key))) {
            Ok(entry) => entry,
            Err(InitError::Init(never)) => match never {},
            Err(InitError::Deadlock) => panic!("{}", InitError::<Infallible>::Deadlock),
        }
    }

    /// As [`get_or_init`](Self::get_or_init), if building may fail.
    ///
    /// # Errors
    ///
    /// - [`InitError::Init`] with what this call's own `build` answered. Others that wait build in turn.
    /// - [`InitError::Deadlock`] if this thread would wait for itself.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::{InitError, WeakMap};
    /// let map = WeakMap::<&str, i32>::new();
    /// let outer = map.try_get_or_init("a", |_| match map.try_get_or_init("a", |_| Ok::<_, ()>(1)) {
    ///     Err(InitError::Deadlock) => Ok::<_, ()>(2),
    ///     _ => unreachable!("this thread builds it"),
    /// });
    /// assert_eq!(*outer.unwrap(), 2);
    /// ```
    pub fn try_get_or_init<E>(
        &self,
        key: K,
        build: impl FnOnce(&K) -> Result<V, E>,
    ) -> Result<Cached<K, V>, InitError<E>> {
        let hash = self.hasher.hash_one(&key);
        let mut seed = key;
        loop {
            let mut claim = None;
            let outcome = self.table.search_or_insert(
                hash,
                seed,
                |pending, entry, found| {
                    if found == Found::Hidden || wanted(pending, |key| key) != &entry.value().key {
                        return ControlFlow::Continue(entry);
                    }
                    if found != Found::HeldBack {
                        return ControlFlow::Break((entry, found));
                    }
                    // What was being built before it has been given up, or we would wait for that.
                    self.table.publish(&entry);
                    if entry.node().is_visible() {
                        ControlFlow::Break((entry, Found::Live))
                    } else {
                        ControlFlow::Continue(entry)
                    }
                },
                false,
                |key, seat| {
                    let node = NewNode::sized(seat, Entry::new(key, None)).building();
                    // Before others can see it: who finds it finds its builder.
                    claim = Some(Claim::of_new(node.address()));
                    node
                },
            );
            let (entry, found, rest) = match outcome {
                Outcome::Met((entry, found), rest) => (entry, found, rest),
                Outcome::Inserted(entry) => {
                    let claim = claim.expect("a node is claimed when it is made");
                    return self.build(Build { claim, entry }, hash, build);
                }
            };
            // A node of our own that came too late is nobody's business any more.
            drop(claim);
            let waited = match found {
                Found::Building => builds::wait_for(entry.node()),
                _ => Waited::Built,
            };
            match waited {
                Waited::Built => {
                    // What wasn't needed goes before there is a result that a panic would lose.
                    drop((rest, build));
                    return Ok(Cached::from_ref(entry));
                }
                Waited::Claimed(claim) => {
                    drop(rest);
                    return self.build(Build { claim, entry }, hash, build);
                }
                Waited::Deadlock => return Err(InitError::Deadlock),
                Waited::GivenUp => seed = rest.into_key(),
            }
        }
    }

    /// Builds an entry that this thread has claimed.
    fn build<E>(
        &self,
        under_way: Build<K, V>,
        hash: u64,
        build: impl FnOnce(&K) -> Result<V, E>,
    ) -> Result<Cached<K, V>, InitError<E>> {
        let entry = &under_way.entry;
        let key = &entry.value().key;
        let value = build(key).map_err(InitError::Init)?;
        // SAFETY: this thread has the claim, and the entry isn't built yet.
        unsafe { *entry.value().value.get() = Some(value) };
        if self.table.publish_built(entry) {
            return Ok(Cached::from_ref(under_way.finish()));
        }
        // `get_or_insert` has linked another value of the key. It counts, if it is still there.
        let other = self.table.search(hash, |other, found| {
            if found == Found::Hidden || other.value().key != *key {
                return ControlFlow::Continue(other);
            }
            self.table.publish(&other);
            if other.node().is_visible() {
                ControlFlow::Break(other)
            } else {
                ControlFlow::Continue(other)
            }
        });
        if let Some(other) = other {
            // SAFETY: this thread has the claim, and the entry will never be built.
            let lost = unsafe { (*entry.value().value.get()).take() };
            drop(under_way.finish());
            drop(lost);
            return Ok(Cached::from_ref(other));
        }
        // It has come and gone, so ours comes after it, as an entry that was removed at once.
        entry.node().finish_hidden();
        Ok(Cached::from_ref(under_way.finish()))
    }

    /// Removes the live entry of a key and answers it; `None` if there is none. Its handles stay what they
    /// are; the map forgets it, and may have another one at once. O(1).
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

/// An entry that this thread builds. Dropping it lets others build.
struct Build<K, V> {
    // The claim goes first: the registry must not know the node when our count is gone.
    claim: Claim,
    entry: Ref<Entry<K, V>>,
}

impl<K, V> Build<K, V> {
    /// Lets those who wait look at what has become of the entry.
    fn finish(self) -> Ref<Entry<K, V>> {
        let Self { claim, entry } = self;
        drop(claim);
        entry
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

/// Why an entry could not be had.
///
/// # Examples
///
/// ```
/// use hapax::InitError;
///
/// let error: InitError<std::num::ParseIntError> = InitError::Init("x".parse::<i32>().unwrap_err());
/// assert_eq!(error.to_string(), "the value could not be built: invalid digit found in string");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InitError<E> {
    /// The calling thread would wait for itself, directly or through other builders.
    Deadlock,
    /// What the caller's own builder answered.
    Init(E),
}

impl<E: fmt::Display> fmt::Display for InitError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deadlock => f.write_str("the builder of this key waits for the calling thread"),
            Self::Init(error) => write!(f, "the value could not be built: {error}"),
        }
    }
}

impl<E: Error + 'static> Error for InitError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Deadlock => None,
            Self::Init(error) => Some(error),
        }
    }
}
