//! The interner: a weak cache keyed by content.

use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::iter::FusedIterator;

use equivalent::Equivalent;

use crate::table::primitive::maybe_const_fn;
use crate::table::{Entries, Found, GROUP, Guard, Internable, LazyTable, Pending, Ref, pin};
use crate::{Intern, InternAll, Interned, MemoryUsage, Pinned, RandomState};

/// A lock-free weak interning cache: one live instance of every equal value.
///
/// [`intern`](Self::intern) returns a handle to the value that is already there, or makes the given one the
/// one that is. The interner itself holds only weak links: when the last [`Interned`] handle of a value goes, the
/// entry goes at once, then the value.
///
/// An interner can be a `static`, be shared by reference or in an `Arc`, or live in one function. Handles
/// outlive it. It allocates nothing until the first value comes.
///
/// # User code
///
/// `Hash` and `Eq` of the values, constructors, the [drop hook](Self::on_drop) and destructors run without any lock
/// or pin held, but that of an open [`Pinned`]. They may intern, drop handles, and panic. A `Hash` or `Eq` that
/// lies, or a value that changes its hash through interior mutability, makes values be interned twice or not found;
/// it never does worse.
///
/// There is deliberately no `contains`: its result would be out of date. Hold on to what [`get`](Self::get)
/// returns.
///
/// # Examples
///
/// ```
/// use hapax::{Interned, Interner};
///
/// static NAMES: Interner<str> = Interner::new();
///
/// let a: Interned<str> = NAMES.intern("alpha");
/// let b = NAMES.intern(String::from("alpha"));
/// assert!(Interned::ptr_eq(&a, &b));
/// assert_eq!(NAMES.len(), 1);
///
/// drop((a, b));
/// assert_eq!(NAMES.len(), 0);
/// ```
pub struct Interner<T: ?Sized + Internable, S = RandomState> {
    table: LazyTable<T>,
    hasher: S,
}

impl<T: ?Sized + Internable> Interner<T> {
    maybe_const_fn! {
        /// An empty interner with the default hasher.
        ///
        /// # Examples
        ///
        /// ```
        /// # use hapax::Interner;
        /// static PATHS: Interner<std::path::Path> = Interner::new();
        /// assert!(PATHS.is_empty());
        /// ```
        pub const fn new() -> Self {
            Self::with_hasher(RandomState)
        }
    }

    /// An interner with room for at least `entries` values before it grows.
    ///
    /// # Panics
    ///
    /// As [`reserve`](Self::reserve).
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::Interner;
    /// let names = Interner::<str>::with_capacity(10_000);
    /// assert!(names.capacity() >= 10_000);
    /// ```
    pub fn with_capacity(entries: usize) -> Self {
        Self::with_capacity_and_hasher(entries, RandomState)
    }
}

impl<T: ?Sized + Internable, S> Interner<T, S> {
    maybe_const_fn! {
        /// An empty interner with another hasher. Any will do that has as many different hashes as there are
        /// values, also one that is the identity.
        ///
        /// A hasher without a constant constructor, such as [`std::hash::RandomState`], needs a
        /// [`LazyLock`](std::sync::LazyLock) in a `static`.
        ///
        /// # Examples
        ///
        /// ```
        /// # use hapax::Interner;
        /// let ids = Interner::<u64, _>::with_hasher(std::hash::RandomState::new());
        /// assert_eq!(*ids.intern(7), 7);
        /// ```
        pub const fn with_hasher(hasher: S) -> Self {
            Self { table: LazyTable::new(), hasher }
        }
    }

    /// An interner with another hasher and room for at least `entries` values before it grows.
    ///
    /// # Panics
    ///
    /// As [`reserve`](Self::reserve).
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::Interner;
    /// let ids = Interner::<u64, _>::with_capacity_and_hasher(100, std::hash::RandomState::new());
    /// assert!(ids.capacity() >= 100);
    /// ```
    pub fn with_capacity_and_hasher(entries: usize, hasher: S) -> Self {
        let interner = Self {
            table: LazyTable::new(),
            hasher,
        };
        interner.table.reserve(entries);
        interner
    }

    /// The number of live values: exact whenever nothing else runs. Each of those that come meanwhile may be missing,
    /// and each that goes may be taken off before what came instead is seen. O(1).
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::Interner;
    /// let names = Interner::<str>::new();
    /// let alpha = names.intern("alpha");
    /// assert_eq!(names.len(), 1);
    /// ```
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether [`len`](Self::len) is zero.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::Interner;
    /// assert!(Interner::<str>::new().is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of entries from which on the table grows. It isn't a limit, and growing stops nobody.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::Interner;
    /// assert_eq!(Interner::<str>::new().capacity(), 0);
    /// ```
    pub fn capacity(&self) -> usize {
        self.table.capacity()
    }

    /// Makes room for at least `additional` values more. If the memory can't be had, the table stays as it
    /// is, and look-ups take longer. O(capacity).
    ///
    /// # Panics
    ///
    /// If that is more than any table can be made for, some 2^33 entries (2^25 on 32-bit targets).
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::Interner;
    /// let names = Interner::<str>::new();
    /// names.reserve(1000);
    /// assert!(names.capacity() >= 1000);
    /// ```
    pub fn reserve(&self, additional: usize) {
        self.table.reserve(self.len().saturating_add(additional));
    }

    /// Gives back the table's memory that the present entries don't need: 8 bytes for each bucket of a
    /// higher peak. The memory of dead entries goes back without this.
    ///
    /// Handles on other threads may be dropped meanwhile. O(buckets). A `static` interner has no exclusive
    /// access to give, and so never shrinks.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::Interner;
    /// let mut names = Interner::<str>::with_capacity(10_000);
    /// names.shrink_to_fit();
    /// assert!(names.capacity() < 100);
    /// ```
    pub fn shrink_to_fit(&mut self) {
        self.table.shrink();
        self.flush();
    }

    /// All live values, in no particular order: those alive during the whole walk exactly once, those that
    /// come or go meanwhile perhaps.
    ///
    /// Each step is a walk of its own: between steps nothing is held but a handle.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::Interner;
    /// let names = Interner::<str>::new();
    /// let held = [names.intern("alpha"), names.intern("beta")];
    /// let mut seen: Vec<_> = names.iter().collect();
    /// seen.sort();
    /// assert_eq!(seen, held);
    /// ```
    pub fn iter(&self) -> Iter<'_, T> {
        Iter {
            entries: self.table.entries(),
        }
    }

    /// Gives the memory of dead entries back that this thread still keeps: at most four times 256 of them, or
    /// 40 KiB each time, which otherwise wait for the next ones. What pinned threads may still read stays.
    ///
    /// It is the calling thread's, from all interners and maps. Other threads keep theirs.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::Interner;
    /// let names = Interner::<str>::new();
    /// drop(names.intern("alpha"));
    /// names.flush();
    /// ```
    pub fn flush(&self) {
        crate::table::flush();
    }

    /// How much memory the table and its live entries take. Walks the table: O(n).
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::Interner;
    /// let names = Interner::<str>::new();
    /// let alpha = names.intern("alpha");
    /// let usage = names.memory_usage();
    /// assert_eq!((usage.entries, usage.values), (1, 5));
    /// ```
    pub fn memory_usage(&self) -> MemoryUsage {
        MemoryUsage::of(&self.table)
    }

    /// Calls a function with every value that dies, before its destructor, when its entry has gone from
    /// the interner. Replaces the one that was set before. A call to `on_drop` and
    /// running functions don't wait for each other.
    ///
    /// It runs on the thread that drops a last handle, with nothing held: it may intern (also an equal
    /// value: that is a new one), drop handles and panic; the panic comes out of that drop when all is
    /// done. It doesn't run for values that [`Interned::try_unwrap`] moves out, and not for those that
    /// outlive the interner. A value that dies while the function is replaced meets the one or the other.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::atomic::{AtomicUsize, Ordering};
    /// # use hapax::Interner;
    /// static GONE: AtomicUsize = AtomicUsize::new(0);
    ///
    /// let names = Interner::<str>::new();
    /// names.on_drop(|name: &str| { GONE.fetch_add(name.len(), Ordering::Relaxed); });
    /// drop(names.intern("alpha"));
    /// assert_eq!(GONE.load(Ordering::Relaxed), 5);
    /// ```
    pub fn on_drop(&self, f: impl Fn(&T) + Send + Sync + 'static) {
        self.table.set_hook(f);
    }

    /// Removes the function that [`on_drop`](Self::on_drop) has set.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::Interner;
    /// let names = Interner::<str>::new();
    /// names.on_drop(|_| unreachable!("removed again"));
    /// names.clear_on_drop();
    /// drop(names.intern("alpha"));
    /// ```
    pub fn clear_on_drop(&self) {
        self.table.clear_hook();
    }

    /// The hasher.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::{Interner, RandomState};
    /// assert_eq!(*Interner::<str>::new().hasher(), RandomState);
    /// ```
    pub fn hasher(&self) -> &S {
        &self.hasher
    }

    /// A session for many calls on this thread, which pins the epoch once instead of in each call: a
    /// quarter faster or more.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::Interner;
    /// let names = Interner::<str>::new();
    /// let pinned = names.pin();
    /// let words: Vec<_> = "to be or not to be".split(' ').map(|word| pinned.intern(word)).collect();
    /// assert_eq!(names.len(), 4);
    /// ```
    pub fn pin(&self) -> Pinned<'_, T, S> {
        Pinned::new(self)
    }
}

impl<T: ?Sized + Internable, S: BuildHasher> Interner<T, S> {
    /// The hash under which this interner looks a value up. To be computed once for several calls of
    /// [`get_hashed`](Self::get_hashed) and [`intern_hashed`](Self::intern_hashed).
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::{Interned, Interner};
    /// let names = Interner::<str>::new();
    /// let alpha = names.intern("alpha");
    /// assert_eq!(names.hash_of("alpha"), Interned::hash_value(&alpha));
    /// ```
    #[inline]
    pub fn hash_of<Q: ?Sized + Hash>(&self, value: &Q) -> u64 {
        self.hasher.hash_one(value)
    }
}

impl<T: ?Sized + Internable + Hash + Eq, S: BuildHasher> Interner<T, S> {
    /// The one instance of a value: the live one, or this one.
    ///
    /// A hit allocates nothing, a miss at most once. Amortised O(1); lock-free.
    ///
    /// # Panics
    ///
    /// If `Hash`, `Eq` or `Clone` of the value panics; nothing is changed then. If a slice or string has
    /// more than 2^32 - 1 elements or bytes, or can't be allocated.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::Interner;
    /// #[derive(Debug, Hash, PartialEq, Eq)]
    /// struct Point { x: i32, y: i32 }
    ///
    /// let points = Interner::<Point>::new();
    /// let p = points.intern(Point { x: 1, y: 2 });
    /// assert_eq!(p, points.intern(Point { x: 1, y: 2 }));
    ///
    /// let slices = Interner::<[u8]>::new();
    /// assert_eq!(slices.intern([1, 2]), slices.intern(vec![1, 2]));
    /// ```
    #[inline]
    pub fn intern<Q: Intern<T>>(&self, value: Q) -> Interned<T> {
        let hash = self.hash_of(value.as_value());
        self.intern_hashed(hash, value)
    }

    /// As [`intern`](Self::intern), with a hash from [`hash_of`](Self::hash_of).
    ///
    /// With another hash the value is interned apart from its equals; that is all.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::Interner;
    /// let names = Interner::<str>::new();
    /// let hash = names.hash_of("alpha");
    /// assert_eq!(names.intern_hashed(hash, "alpha"), names.intern("alpha"));
    /// ```
    #[inline]
    pub fn intern_hashed<Q: Intern<T>>(&self, hash: u64, value: Q) -> Interned<T> {
        let entry = match self
            .table
            .glance(hash, |entry| value.as_value() == entry.value())
        {
            Ok(entry) => entry,
            Err(guard) => return self.intern_slow(hash, guard, value),
        };
        // User code, perhaps, before there is a result that a panic would lose.
        drop(value);
        Interned::from_ref(entry)
    }

    /// The first entry with each of at most `GROUP` hashes.
    pub(crate) fn glance_all(&self, hashes: &[u64]) -> [Option<(Ref<T>, Found)>; GROUP] {
        self.table.glance_all(hashes)
    }

    /// The one instance of each value, in order: as [`intern`](Self::intern) of one after the other, but faster where
    /// the table doesn't fit into the caches. What one look-up waits for, thirty-two wait for together.
    ///
    /// The iterator takes thirty-two values at a time from `values` and hashes them, then compares, clones or inserts
    /// them; meanwhile it holds what it found for them. It is lazy: what isn't asked
    /// for isn't interned, but for the rest of the thirty-two, whose handles are dropped with the iterator.
    ///
    /// # Panics
    ///
    /// As `intern`, and if `values` panics. The others of the thirty-two are left out with the one that panics; handles
    /// on them go with the next call, or the iterator. It goes on with those that come after them.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::{Interned, Interner};
    /// let names = Interner::<str>::new();
    /// let words: Vec<Interned<str>> = names.intern_all("to be or not to be".split(' ')).collect();
    /// assert_eq!((words.len(), names.len()), (6, 4));
    /// assert_eq!(words[0], words[4]);
    /// ```
    pub fn intern_all<I>(&self, values: I) -> InternAll<'_, T, S, I::IntoIter>
    where
        I: IntoIterator<Item: Intern<T>>,
    {
        InternAll::new(self, None, values.into_iter())
    }

    /// Searches again, and inserts the value if it isn't there.
    #[inline(never)]
    pub(crate) fn intern_slow<Q: Intern<T>>(
        &self,
        hash: u64,
        guard: Guard,
        value: Q,
    ) -> Interned<T> {
        let outcome = self.table.search_or_insert(
            hash,
            guard,
            value,
            |pending, entry, found| {
                let wanted = match pending {
                    Pending::Seed(value) => value.as_value(),
                    Pending::Node(node) => node.value(),
                };
                found.is_live() && wanted == entry.value()
            },
            Q::RUNS_USER_CODE,
            Q::into_node,
        );
        Interned::from_ref(outcome.into_entry())
    }

    /// As [`intern`](Self::intern), of a value that then never dies: see [`Interned::immortalize`]. The value is
    /// copied, cloned or moved as always.
    ///
    /// # Panics
    ///
    /// As `intern`.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::{Interned, Interner};
    /// static NAMES: Interner<str> = Interner::new();
    ///
    /// let main = NAMES.intern_static("main");
    /// assert!(Interned::is_immortal(&main));
    /// drop(main);
    /// assert!(NAMES.get("main").is_some());
    /// ```
    pub fn intern_static<Q: Intern<T>>(&self, value: Q) -> Interned<T> {
        Interned::immortalize(self.intern(value))
    }

    /// The one instance of what is equivalent to `key`; built on a miss only.
    ///
    /// `key` is what [`get`](Self::get) takes.
    ///
    /// `build` runs at most once, with nothing held. Its value is dropped, without a hook, if another
    /// thread is faster.
    ///
    /// # Panics
    ///
    /// If what `build` returns isn't equivalent to `key`, or has another hash: it would never be found
    /// again. And if `Hash`, `Eq` or `build` panics. Nothing is changed then.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::Interner;
    /// let names = Interner::<str>::new();
    /// let key: &str = "alpha";
    /// let alpha = names.intern_with(key, |key| key.to_owned());
    /// assert_eq!(alpha, names.intern_with(key, |_| -> String { unreachable!("it is there") }));
    /// ```
    pub fn intern_with<Q, V, F>(&self, key: &Q, build: F) -> Interned<T>
    where
        Q: ?Sized + Hash + Equivalent<T>,
        V: Intern<T>,
        F: FnOnce(&Q) -> V,
    {
        self.build_hashed(self.hash_of(key), key, build)
    }

    /// As `intern_with`, with the key's hash.
    pub(crate) fn build_hashed<Q, V, F>(&self, hash: u64, key: &Q, build: F) -> Interned<T>
    where
        Q: ?Sized + Equivalent<T>,
        V: Intern<T>,
        F: FnOnce(&Q) -> V,
    {
        let outcome = self.table.search_or_insert(
            hash,
            pin(),
            key,
            |_, entry, found| found.is_live() && key.equivalent(entry.value()),
            true,
            |key, seat| {
                let value = build(key);
                let fits =
                    key.equivalent(value.as_value()) && self.hash_of(value.as_value()) == hash;
                assert!(
                    fits,
                    "the value that was built is not equivalent to the key it was built for"
                );
                value.into_node(seat)
            },
        );
        Interned::from_ref(outcome.into_entry())
    }

    /// The live instance of what is equivalent to `key`; `None` if there is none. Changes nothing.
    ///
    /// `key` is a `&T`, or a reference to anything that is [`Equivalent`] to `T`: `&*string` for a `String`,
    /// `&vec[..]` for a `Vec`, `Path::new("a")`. Amortised O(1); lock-free; allocates nothing.
    ///
    /// # Panics
    ///
    /// If `Hash` or `Eq` panics.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::Interner;
    /// let names = Interner::<str>::new();
    /// assert_eq!(names.get("alpha"), None);
    /// let alpha = names.intern("alpha");
    /// assert_eq!(names.get("alpha"), Some(alpha));
    /// ```
    #[inline]
    pub fn get<Q: ?Sized + Hash + Equivalent<T>>(&self, key: &Q) -> Option<Interned<T>> {
        self.get_hashed(self.hash_of(key), key)
    }

    /// As [`get`](Self::get), with a hash from [`hash_of`](Self::hash_of). With another hash
    /// it finds what was interned under that.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::Interner;
    /// let names = Interner::<str>::new();
    /// let alpha = names.intern("alpha");
    /// assert_eq!(names.get_hashed(names.hash_of("alpha"), "alpha"), Some(alpha));
    /// ```
    #[inline]
    pub fn get_hashed<Q: ?Sized + Equivalent<T>>(&self, hash: u64, key: &Q) -> Option<Interned<T>> {
        let equivalent = |entry: &Ref<T>| key.equivalent(entry.value());
        self.table.find(hash, equivalent).map(Interned::from_ref)
    }
}

impl<T: ?Sized + Internable, S: Default> Default for Interner<T, S> {
    fn default() -> Self {
        Self::with_hasher(S::default())
    }
}

impl<T: ?Sized + Internable + fmt::Debug, S> fmt::Debug for Interner<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self).finish()
    }
}

impl<'a, T: ?Sized + Internable, S> IntoIterator for &'a Interner<T, S> {
    type Item = Interned<T>;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

/// Interns each value and lets go of it: what nobody else holds is gone again afterwards. Collect handles
/// into a `Vec` to keep them.
impl<T, Q, S> Extend<Q> for Interner<T, S>
where
    T: ?Sized + Internable + Hash + Eq,
    Q: Intern<T>,
    S: BuildHasher,
{
    fn extend<I: IntoIterator<Item = Q>>(&mut self, values: I) {
        for value in values {
            self.intern(value);
        }
    }
}

/// An interner sized for as many values as the iterator announces, after each was interned and let go of.
/// It holds nothing: collect handles into a `Vec` to keep them.
impl<T, Q, S> FromIterator<Q> for Interner<T, S>
where
    T: ?Sized + Internable + Hash + Eq,
    Q: Intern<T>,
    S: BuildHasher + Default,
{
    fn from_iter<I: IntoIterator<Item = Q>>(values: I) -> Self {
        let values = values.into_iter();
        let mut interner = Self::with_capacity_and_hasher(values.size_hint().0, S::default());
        interner.extend(values);
        interner
    }
}

/// All live values of an interner; see [`Interner::iter`].
///
/// # Examples
///
/// ```
/// # use hapax::Interner;
/// let names = Interner::<str>::new();
/// assert!(names.iter().next().is_none());
/// ```
pub struct Iter<'a, T: ?Sized + Internable> {
    entries: Entries<'a, T>,
}

impl<T: ?Sized + Internable> Iterator for Iter<'_, T> {
    type Item = Interned<T>;

    fn next(&mut self) -> Option<Interned<T>> {
        self.entries.next().map(Interned::from_ref)
    }
}

impl<T: ?Sized + Internable> FusedIterator for Iter<'_, T> {}

impl<T: ?Sized + Internable> fmt::Debug for Iter<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter").finish_non_exhaustive()
    }
}
