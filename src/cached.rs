//! The entries of a map, and the handles to them.

use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::ptr::{self, NonNull};

use crate::handle::WeakRef;
use crate::table::{Node, Ref};

/// A key and its value: what a node of a map holds.
pub(crate) struct Entry<K, V> {
    pub(crate) key: K,
    /// Empty while the entry is built. Invariant: written only by the holder of its `Claim`, before the
    /// count says that it is built; read only after.
    pub(crate) value: UnsafeCell<Option<V>>,
}

// SAFETY: the cell is written by one thread before others read it, and never again.
unsafe impl<K: Sync, V: Sync> Sync for Entry<K, V> {}

impl<K, V> Entry<K, V> {
    pub(crate) fn new(key: K, value: Option<V>) -> Self {
        Self {
            key,
            value: UnsafeCell::new(value),
        }
    }

    /// # Safety
    ///
    /// The entry is built.
    #[inline]
    pub(crate) unsafe fn value(&self) -> &V {
        // SAFETY: nobody writes the cell of an entry that is built.
        let value = unsafe { &*self.value.get() };
        debug_assert!(value.is_some());
        // SAFETY: an entry that is built has a value.
        unsafe { value.as_ref().unwrap_unchecked() }
    }
}

/// A strong handle to an entry of a [`WeakMap`](crate::WeakMap): derefs to the value, and keeps the key too.
///
/// One pointer wide. `Send` and `Sync` exactly when key and value are both; covariant; outlives its map. It has
/// no `Eq`: by entry or by value, each would surprise somebody. Use [`ptr_eq`](Self::ptr_eq), or compare values.
///
/// # Examples
///
/// ```
/// use hapax::{Cached, WeakMap};
///
/// let map = WeakMap::new();
/// let one = map.get_or_insert("one", 1);
/// assert_eq!((*Cached::key(&one), *one), ("one", 1));
/// ```
#[repr(transparent)]
pub struct Cached<K, V> {
    /// Invariant: what a `Ref<Entry<K, V>>` is, and nothing else. That type is invariant, because of the
    /// cell that it leads to, which nobody writes any more.
    entry: NonNull<Node>,
    value: PhantomData<(K, V)>,
}

// SAFETY:
// - `Send`, because the last of the handles drops key and value, on whatever thread it is.
// - `Sync`, because handles on other threads lead to the same key and value.
unsafe impl<K: Send + Sync, V: Send + Sync> Send for Cached<K, V> {}
// SAFETY: as above; a shared handle can be cloned.
unsafe impl<K: Send + Sync, V: Send + Sync> Sync for Cached<K, V> {}

impl<K, V> Cached<K, V> {
    /// The entry must be built.
    pub(crate) fn from_ref(entry: Ref<Entry<K, V>>) -> Self {
        let entry = ManuallyDrop::new(entry);
        Self {
            entry: entry.as_node_ptr(),
            value: PhantomData,
        }
    }

    #[inline]
    pub(crate) fn entry(&self) -> &Ref<Entry<K, V>> {
        // SAFETY: by the invariant; both types are transparent wrappers of the pointer.
        unsafe { &*ptr::from_ref(self).cast() }
    }

    /// The key.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::{Cached, WeakMap};
    /// let map = WeakMap::new();
    /// assert_eq!(*Cached::key(&map.get_or_insert("one", 1)), "one");
    /// ```
    pub fn key(this: &Self) -> &K {
        &this.entry().value().key
    }

    /// Whether two handles lead to the same entry.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::{Cached, WeakMap};
    /// let map = WeakMap::new();
    /// let one = map.get_or_insert("one", 1);
    /// assert!(Cached::ptr_eq(&one, &map.get("one").unwrap()));
    /// ```
    pub fn ptr_eq(this: &Self, other: &Self) -> bool {
        this.entry == other.entry
    }

    /// The number of strong handles, this one included, at some moment during the call.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::{Cached, WeakMap};
    /// let map = WeakMap::new();
    /// assert_eq!(Cached::ref_count(&map.get_or_insert("one", 1)), 1);
    /// ```
    pub fn ref_count(this: &Self) -> usize {
        usize::try_from(this.entry().node().ref_count()).unwrap_or(usize::MAX)
    }

    /// Moves key and value out if this is the entry's only strong handle, otherwise gives the handle back: also while the
    /// drop of another one, or a look-up that passes by, hasn't returned on its thread.
    ///
    /// The entry is gone then, weak handles find nothing, and their callbacks have run; the drop hook has not.
    ///
    /// # Panics
    ///
    /// If a callback panics; key and value are dropped then.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::{Cached, WeakMap};
    /// let map = WeakMap::new();
    /// let one = map.get_or_insert("one", 1);
    /// let again = one.clone();
    /// let one = Cached::try_unwrap(one).unwrap_err();
    /// drop(again);
    /// assert_eq!(Cached::try_unwrap(one).unwrap(), ("one", 1));
    /// assert!(map.is_empty());
    /// ```
    pub fn try_unwrap(this: Self) -> Result<(K, V), Self> {
        let this = ManuallyDrop::new(this);
        // SAFETY: by the invariant; the count that we hold moves to it.
        let entry = unsafe { Ref::<Entry<K, V>>::from_counted(this.entry) };
        let Entry { key, value } = entry.try_unwrap().map_err(Self::from_ref)?;
        Ok((key, value.into_inner().expect("it was built")))
    }

    /// A weak handle to this very entry.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::{Cached, WeakMap};
    /// let map = WeakMap::new();
    /// let one = map.get_or_insert("one", 1);
    /// let weak = Cached::downgrade(&one);
    /// assert_eq!(weak.upgrade().as_deref(), Some(&1));
    /// drop(one);
    /// assert!(weak.upgrade().is_none());
    /// ```
    pub fn downgrade(this: &Self) -> WeakCached<K, V> {
        WeakCached::new(WeakRef::new(this.entry().downgrade()))
    }

    /// A weak handle with a callback, as [`Interned::downgrade_with`](crate::Interned::downgrade_with).
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::{Cached, WeakMap};
    /// let (sender, receiver) = std::sync::mpsc::channel();
    /// let map = WeakMap::new();
    /// let one = map.get_or_insert("one", 1);
    /// let weak = Cached::downgrade_with(&one, move || sender.send("gone").unwrap());
    /// drop(one);
    /// assert_eq!(receiver.recv(), Ok("gone"));
    /// ```
    pub fn downgrade_with(this: &Self, f: impl FnOnce() + Send + 'static) -> WeakCached<K, V> {
        WeakCached::new(WeakRef::with_callback(this.entry().downgrade_with(f)))
    }
}

impl<K, V> Clone for Cached<K, V> {
    #[inline]
    fn clone(&self) -> Self {
        Self::from_ref(self.entry().clone())
    }
}

impl<K, V> Drop for Cached<K, V> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: by the invariant; the count that we hold is given back once.
        unsafe { drop(Ref::<Entry<K, V>>::from_counted(self.entry)) };
    }
}

impl<K, V> Deref for Cached<K, V> {
    type Target = V;

    #[inline]
    fn deref(&self) -> &V {
        // SAFETY: handles are made for entries that are built.
        unsafe { self.entry().value().value() }
    }
}

impl<K, V> AsRef<V> for Cached<K, V> {
    fn as_ref(&self) -> &V {
        self
    }
}

impl<K, V: fmt::Debug> fmt::Debug for Cached<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<K, V: fmt::Display> fmt::Display for Cached<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// The address of the value.
impl<K, V> fmt::Pointer for Cached<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Pointer::fmt(&std::ptr::from_ref::<V>(self), f)
    }
}

impl<K: RefUnwindSafe, V: RefUnwindSafe> UnwindSafe for Cached<K, V> {}
impl<K: RefUnwindSafe, V: RefUnwindSafe> RefUnwindSafe for Cached<K, V> {}

/// A weak handle to an entry of a [`WeakMap`](crate::WeakMap); what [`WeakInterned`](crate::WeakInterned) is to an
/// interner.
///
/// # Examples
///
/// ```
/// use hapax::{Cached, WeakMap};
///
/// let map = WeakMap::new();
/// let weak = Cached::downgrade(&map.get_or_insert("one", 1));
/// assert!(weak.upgrade().is_none());
/// ```
pub struct WeakCached<K, V> {
    /// Invariant: leads to an `Entry<K, V>`.
    weak: WeakRef,
    value: PhantomData<(K, V)>,
}

// SAFETY: an upgraded handle may be sent and shared; callbacks are `Send`, and called or dropped by one
// thread.
unsafe impl<K: Send + Sync, V: Send + Sync> Send for WeakCached<K, V> {}
// SAFETY: as above.
unsafe impl<K: Send + Sync, V: Send + Sync> Sync for WeakCached<K, V> {}

impl<K, V> WeakCached<K, V> {
    fn new(weak: WeakRef) -> Self {
        Self {
            weak,
            value: PhantomData,
        }
    }

    /// A strong handle, if the entry hasn't died. One that was removed still lives.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::{Cached, WeakMap};
    /// let map = WeakMap::new();
    /// let one = map.get_or_insert("one", 1);
    /// assert!(Cached::downgrade(&one).upgrade().is_some());
    /// ```
    pub fn upgrade(&self) -> Option<Cached<K, V>> {
        // SAFETY: by the invariant.
        unsafe { self.weak.upgrade::<Entry<K, V>>() }.map(Cached::from_ref)
    }

    /// The number of strong handles at some moment during the call; 0 if the entry has died.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::{Cached, WeakMap};
    /// let map = WeakMap::new();
    /// let one = map.get_or_insert("one", 1);
    /// assert_eq!(Cached::downgrade(&one).strong_count(), 1);
    /// ```
    pub fn strong_count(&self) -> usize {
        self.weak.strong_count()
    }

    /// Whether two weak handles belong to the same entry, dead or alive.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::{Cached, WeakMap};
    /// let map = WeakMap::new();
    /// let one = map.get_or_insert("one", 1);
    /// assert!(Cached::downgrade(&one).ptr_eq(&Cached::downgrade(&one)));
    /// ```
    pub fn ptr_eq(&self, other: &Self) -> bool {
        self.weak.ptr_eq(&other.weak)
    }
}

impl<K, V> Clone for WeakCached<K, V> {
    fn clone(&self) -> Self {
        Self::new(self.weak.clone())
    }
}

impl<K, V> fmt::Debug for WeakCached<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(WeakCached)")
    }
}

impl<K: RefUnwindSafe, V: RefUnwindSafe> UnwindSafe for WeakCached<K, V> {}
impl<K: RefUnwindSafe, V: RefUnwindSafe> RefUnwindSafe for WeakCached<K, V> {}
