//! Sessions: one pin for many calls.

use std::cell::Cell;
use std::fmt;
use std::hash::{BuildHasher, Hash};

use equivalent::Equivalent;

use crate::table::{Guard, Internable, pin};
use crate::{Intern, InternAll, Interned, Interner, RandomState};

/// A session on an interner, from [`Interner::pin`].
///
/// Its calls do what those of the interner do, faster. It holds a pin of the thread, which delays the memory
/// of dead entries in the whole process, and nothing else; every sixteenth call lets go of what came before
/// (thirty-two values of [`intern_all`](Self::intern_all) are one call).
/// Don't keep it while the thread sleeps. It can't leave its thread.
///
/// # Examples
///
/// ```
/// use hapax::Interner;
///
/// let names = Interner::<str>::new();
/// let pinned = names.pin();
/// let alpha = pinned.intern("alpha");
/// assert_eq!(pinned.get("alpha"), Some(alpha));
/// ```
pub struct Pinned<'a, T: ?Sized + Internable, S = RandomState> {
    interner: &'a Interner<T, S>,
    guard: Cell<Option<Guard>>,
    /// Calls since the thread was pinned anew.
    calls: Cell<u32>,
}

/// Calls under one pin.
const CALLS: u32 = if cfg!(any(loom, shuttle, miri)) {
    1
} else {
    16
};

impl<'a, T: ?Sized + Internable, S> Pinned<'a, T, S> {
    pub(crate) fn new(interner: &'a Interner<T, S>) -> Self {
        Self {
            interner,
            guard: Cell::new(Some(pin())),
            calls: Cell::new(0),
        }
    }

    /// Counts a call.
    #[inline]
    pub(crate) fn renew(&self) -> &'a Interner<T, S> {
        match self.calls.get() {
            CALLS => self.let_go(),
            calls => self.calls.set(calls + 1),
        }
        self.interner
    }

    /// Lets go of what earlier calls saw.
    ///
    /// By a new pin: the collector's `repin` brings no fence along, so that a later load might be performed
    /// before it, and read what the epoch no longer protects.
    #[cold]
    fn let_go(&self) {
        self.guard.set(None);
        self.guard.set(Some(pin()));
        self.calls.set(1);
    }

    /// The interner.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::Interner;
    /// let names = Interner::<str>::new();
    /// assert!(names.pin().interner().is_empty());
    /// ```
    pub fn interner(&self) -> &'a Interner<T, S> {
        self.interner
    }
}

impl<T: ?Sized + Internable + Hash + Eq, S: BuildHasher> Pinned<'_, T, S> {
    /// As [`Interner::intern`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::Interner;
    /// let names = Interner::<str>::new();
    /// assert_eq!(names.pin().intern("alpha"), *"alpha");
    /// ```
    #[inline]
    pub fn intern<Q: Intern<T>>(&self, value: Q) -> Interned<T> {
        self.renew().intern(value)
    }

    /// As [`Interner::intern_all`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::Interner;
    /// let names = Interner::<str>::new();
    /// let pinned = names.pin();
    /// let handles: Vec<_> = pinned.intern_all(["alpha", "beta"]).collect();
    /// assert_eq!(names.len(), 2);
    /// ```
    pub fn intern_all<I>(&self, values: I) -> InternAll<'_, T, S, I::IntoIter>
    where
        I: IntoIterator<Item: Intern<T>>,
    {
        InternAll::new(self.interner, Some(self), values.into_iter())
    }

    /// As [`Interner::intern_hashed`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::Interner;
    /// let names = Interner::<str>::new();
    /// let hash = names.hash_of("alpha");
    /// assert_eq!(names.pin().intern_hashed(hash, "alpha"), *"alpha");
    /// ```
    #[inline]
    pub fn intern_hashed<Q: Intern<T>>(&self, hash: u64, value: Q) -> Interned<T> {
        self.renew().intern_hashed(hash, value)
    }

    /// As [`Interner::intern_with`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::Interner;
    /// let names = Interner::<str>::new();
    /// assert_eq!(names.pin().intern_with("alpha", str::to_owned), *"alpha");
    /// ```
    pub fn intern_with<Q, V, F>(&self, key: &Q, build: F) -> Interned<T>
    where
        Q: ?Sized + Hash + Equivalent<T>,
        V: Intern<T>,
        F: FnOnce(&Q) -> V,
    {
        self.renew().intern_with(key, build)
    }

    /// As [`Interner::get`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::Interner;
    /// let names = Interner::<str>::new();
    /// assert_eq!(names.pin().get("alpha"), None);
    /// ```
    #[inline]
    pub fn get<Q: ?Sized + Hash + Equivalent<T>>(&self, key: &Q) -> Option<Interned<T>> {
        self.renew().get(key)
    }

    /// As [`Interner::get_hashed`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::Interner;
    /// let names = Interner::<str>::new();
    /// assert_eq!(names.pin().get_hashed(names.hash_of("alpha"), "alpha"), None);
    /// ```
    #[inline]
    pub fn get_hashed<Q: ?Sized + Equivalent<T>>(&self, hash: u64, key: &Q) -> Option<Interned<T>> {
        self.renew().get_hashed(hash, key)
    }
}

impl<T: ?Sized + Internable, S> fmt::Debug for Pinned<'_, T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pinned").finish_non_exhaustive()
    }
}
