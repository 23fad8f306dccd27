//! The handles: strong and weak.

use std::borrow::Cow;
use std::cmp;
use std::error::Error;
use std::ffi::{CStr, CString, OsStr, OsString};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::ops::Deref;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::Arc;

use crate::LocalInterned;
use crate::table::{Internable, Node, Payload, Ref, Registration, SideRef};

/// A strong handle to the one instance of a value.
///
/// One pointer wide, also for `str` and slices; `Option` of it too. Equality and hash go by the pointer,
/// which is what interning is for: of one interner, two handles are equal if and only if their values are.
/// Order goes by value. When the last handle of a value goes, the value goes, at once, on a thread that drops one;
/// see [`Interner`](crate::Interner).
///
/// It is `Send` and `Sync` exactly when `T` is both, covariant in `T`, and outlives its interner.
///
/// There is no `Borrow<T>`: a handle doesn't hash as its value does. In a `HashMap<Interned<str>, V>`, look
/// up by handle, which [`get`](crate::Interner::get) returns without allocating: if there is none, the map
/// can't have it either.
///
/// A value must not own a handle to itself: it would never die.
///
/// # Examples
///
/// ```
/// use hapax::{Interned, Interner};
/// use std::collections::HashMap;
///
/// let names = Interner::<str>::new();
/// let alpha = names.intern("alpha");
/// assert_eq!(alpha.len(), 5);
/// assert_eq!(alpha, *"alpha");
///
/// let mut ages = HashMap::new();
/// ages.insert(alpha.clone(), 30);
/// let age = names.get("alpha").and_then(|name| ages.get(&name));
/// assert_eq!(age, Some(&30));
/// ```
pub struct Interned<T: ?Sized + Internable>(pub(crate) Ref<T>);

impl<T: ?Sized + Internable> Interned<T> {
    #[inline]
    pub(crate) fn from_ref(entry: Ref<T>) -> Self {
        Self(entry)
    }

    /// Whether two handles lead to the same instance. The same as `==`.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::{Interned, Interner};
    /// let names = Interner::<str>::new();
    /// assert!(Interned::ptr_eq(&names.intern("alpha"), &names.intern("alpha")));
    /// ```
    #[inline]
    pub fn ptr_eq(this: &Self, other: &Self) -> bool {
        this.0.as_node_ptr() == other.0.as_node_ptr()
    }

    /// The address of the value, which stays as long as a handle does.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::{Interned, Interner};
    /// let numbers = Interner::<u64>::new();
    /// let seven = numbers.intern(7);
    /// assert!(std::ptr::eq(Interned::as_ptr(&seven), &*seven));
    /// ```
    pub fn as_ptr(this: &Self) -> *const T {
        this.0.as_ptr()
    }

    /// The number of strong handles, this one included, at some moment during the call; `usize::MAX` of a value that
    /// is [immortal](Self::immortalize).
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::{Interned, Interner};
    /// let names = Interner::<str>::new();
    /// let alpha = names.intern("alpha");
    /// let again = alpha.clone();
    /// assert_eq!(Interned::ref_count(&alpha), 2);
    /// ```
    pub fn ref_count(this: &Self) -> usize {
        usize::try_from(this.0.node().ref_count()).unwrap_or(usize::MAX)
    }

    /// The hash under which the value was interned. Nothing is hashed.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::{Interned, Interner};
    /// let names = Interner::<str>::new();
    /// let alpha = names.intern("alpha");
    /// assert_eq!(Interned::hash_value(&alpha), names.hash_of("alpha"));
    /// ```
    pub fn hash_value(this: &Self) -> u64 {
        this.0.node().hash_value()
    }

    /// A weak handle to this very instance.
    ///
    /// The first one of a value allocates a small record, which lives until the last one goes.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::{Interned, Interner};
    /// let names = Interner::<str>::new();
    /// let alpha = names.intern("alpha");
    /// let weak = Interned::downgrade(&alpha);
    /// assert_eq!(weak.upgrade(), Some(alpha));
    /// assert_eq!(weak.upgrade(), None);
    /// ```
    pub fn downgrade(this: &Self) -> WeakInterned<T> {
        WeakInterned::new(WeakRef::new(this.0.downgrade()))
    }

    /// A weak handle with a callback, as `weakref.ref(object, callback)` in Python.
    ///
    /// `f` runs once, after the value died, on the thread that dropped the last strong handle; of several
    /// the last registered first. It runs with nothing held: it may intern, drop handles and panic. Clones
    /// of the weak handle share it. When the last of them goes first, `f` is dropped and doesn't run; if
    /// it is running already, nobody waits.
    ///
    /// `f` must not own a strong handle of the same value, which would then never die.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::{Interned, Interner};
    /// use std::sync::mpsc;
    ///
    /// let names = Interner::<str>::new();
    /// let (sender, receiver) = mpsc::channel();
    /// let alpha = names.intern("alpha");
    /// let weak = Interned::downgrade_with(&alpha, move || sender.send("gone").unwrap());
    /// drop(alpha);
    /// assert_eq!(receiver.recv(), Ok("gone"));
    /// ```
    pub fn downgrade_with(this: &Self, f: impl FnOnce() + Send + 'static) -> WeakInterned<T> {
        WeakInterned::new(WeakRef::with_callback(this.0.downgrade_with(f)))
    }

    /// Gives the handle away as a pointer to its value, which stays readable, and goes on counting, until
    /// [`from_raw`](Self::from_raw) takes it back: on any thread that may have the handle, also when the interner is
    /// gone. It is the address of [`as_ptr`](Self::as_ptr), which alone keeps nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::{Interned, Interner};
    /// let names = Interner::<str>::new();
    /// let raw = Interned::into_raw(names.intern("alpha"));
    /// // SAFETY: `raw` came from `into_raw`, and is taken back once.
    /// let alpha = unsafe { Interned::from_raw(raw) };
    /// assert_eq!(alpha, *"alpha");
    /// ```
    #[must_use = "the value leaks if the pointer is lost"]
    pub fn into_raw(this: Self) -> *const T {
        let value = Self::as_ptr(&this);
        this.0.into_counted();
        value
    }

    /// Takes back a handle that was given away. It is one of an [immortal](Self::immortalize) value if the value is
    /// immortal by now.
    ///
    /// # Safety
    ///
    /// - `pointer` came from [`into_raw`](Self::into_raw) of a handle of the same type.
    /// - It is taken back at most once for each time it was given away.
    ///
    /// # Examples
    ///
    /// See [`into_raw`](Self::into_raw).
    pub unsafe fn from_raw(pointer: *const T) -> Self {
        // SAFETY: the value lies that far behind its node.
        let node = unsafe { pointer.cast::<Node>().byte_sub(T::OFFSET) };
        // SAFETY: `into_raw` let go of one count on a node, which is never null.
        let entry = unsafe { Ref::from_counted(NonNull::new_unchecked(node.cast_mut())) };
        Self(if entry.is_immortal() {
            entry.immortalize()
        } else {
            entry
        })
    }

    /// Makes the value immortal: it stays in its interner for ever, and its memory is never given back, also when
    /// the interner is gone.
    ///
    /// Hits on it write nothing that threads share, and to clone or drop the handles that come of them, or of this
    /// one, touches no memory at all. So it is for what all threads use all the time: keywords, common labels.
    /// Handles that were there before go on counting, as do those that come out of an `ArcSwapAny`; to immortalize
    /// them again teaches them. Costs one read-modify-write. The value counts in `len` and is iterated as all others.
    /// Its destructor will never run, and no hook or callback, and [`try_unwrap`](Self::try_unwrap)
    /// gives the handle back.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::{Interned, Interner};
    /// let names = Interner::<str>::new();
    /// let alpha = Interned::immortalize(names.intern("alpha"));
    /// assert_eq!(alpha, names.intern("alpha"));
    /// drop(alpha);
    /// assert_eq!(names.len(), 1);
    /// ```
    #[must_use = "the handles that were there before go on counting"]
    pub fn immortalize(this: Self) -> Self {
        Self(this.0.immortalize())
    }

    /// Whether the value never dies, because somebody has made it [immortal](Self::immortalize).
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::{Interned, Interner};
    /// let names = Interner::<str>::new();
    /// let alpha = names.intern("alpha");
    /// assert!(!Interned::is_immortal(&alpha));
    /// let immortal = Interned::immortalize(alpha.clone());
    /// assert!(Interned::is_immortal(&alpha) && Interned::is_immortal(&immortal));
    /// ```
    pub fn is_immortal(this: &Self) -> bool {
        this.0.is_immortal()
    }
}

impl<T: Internable> Interned<T> {
    /// Moves the value out if this is its only strong handle, otherwise gives the handle back: also while the drop of
    /// another one, or a look-up that passes by, hasn't returned on its thread.
    ///
    /// The entry is gone then, weak handles find nothing, and their callbacks have run; the drop hook has
    /// not.
    ///
    /// # Panics
    ///
    /// If a callback panics; the value is dropped then.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::{Interned, Interner};
    /// let numbers = Interner::<u64>::new();
    /// let seven = numbers.intern(7);
    /// let again = seven.clone();
    /// let seven = Interned::try_unwrap(seven).unwrap_err();
    /// drop(again);
    /// assert_eq!(Interned::try_unwrap(seven), Ok(7));
    /// ```
    pub fn try_unwrap(this: Self) -> Result<T, Self> {
        this.0.try_unwrap().map_err(Self)
    }
}

impl<T: ?Sized + Internable> Clone for Interned<T> {
    #[inline]
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: ?Sized + Internable> Deref for Interned<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.0.value()
    }
}

impl<T: ?Sized + Internable> AsRef<T> for Interned<T> {
    fn as_ref(&self) -> &T {
        self
    }
}

impl<T: ?Sized + Internable> PartialEq for Interned<T> {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        Self::ptr_eq(self, other)
    }
}

impl<T: ?Sized + Internable> Eq for Interned<T> {}

impl<T: ?Sized + Internable> Hash for Interned<T> {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.as_node_ptr().hash(state);
    }
}

/// By value; by address, where values of several interners are equal.
impl<T: ?Sized + Internable + Ord> Ord for Interned<T> {
    fn cmp(&self, other: &Self) -> cmp::Ordering {
        if Self::ptr_eq(self, other) {
            return cmp::Ordering::Equal;
        }
        (**self)
            .cmp(&**other)
            .then_with(|| self.0.as_node_ptr().cmp(&other.0.as_node_ptr()))
    }
}

impl<T: ?Sized + Internable + Ord> PartialOrd for Interned<T> {
    fn partial_cmp(&self, other: &Self) -> Option<cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T: ?Sized + Internable + fmt::Debug> fmt::Debug for Interned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + Internable + fmt::Display> fmt::Display for Interned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// The address of the value.
impl<T: ?Sized + Internable> fmt::Pointer for Interned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Pointer::fmt(&Self::as_ptr(self).cast::<()>(), f)
    }
}

impl<T: ?Sized + Internable + Error> Error for Interned<T> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        (**self).source()
    }
}

/// Compares handles with values, in both directions.
macro_rules! compare {
    ($($handle:ident<$type:ty>: $($other:ty),*;)*) => {$($(
        impl PartialEq<$other> for $handle<$type> {
            fn eq(&self, other: &$other) -> bool {
                let other: &$type = other.as_ref();
                **self == *other
            }
        }

        impl PartialEq<$handle<$type>> for $other {
            fn eq(&self, other: &$handle<$type>) -> bool {
                other == self
            }
        }
    )*)*};
}

compare! {
    Interned<str>: str, &str, String, Box<str>, Arc<str>, Cow<'_, str>;
    Interned<Path>: Path, &Path, PathBuf;
    Interned<OsStr>: OsStr, &OsStr, OsString;
    Interned<CStr>: CStr, &CStr, CString;
    LocalInterned<str>: str, &str, String, Box<str>, Arc<str>, Cow<'_, str>;
    LocalInterned<Path>: Path, &Path, PathBuf;
    LocalInterned<OsStr>: OsStr, &OsStr, OsString;
    LocalInterned<CStr>: CStr, &CStr, CString;
}

/// Compares handles of slices with what contains their elements.
macro_rules! compare_slices {
    ($($handle:ident: $([$($len:tt)*] $other:ty),*;)*) => {$($(
        impl<U: PartialEq, $($len)*> PartialEq<$other> for $handle<[U]> {
            fn eq(&self, other: &$other) -> bool {
                let other: &[U] = other.as_ref();
                **self == *other
            }
        }
    )*)*};
}

compare_slices! {
    Interned: [] [U], [] &[U], [] Vec<U>, [const N: usize] [U; N];
    LocalInterned: [] [U], [] &[U], [] Vec<U>, [const N: usize] [U; N];
}

/// A copy of the text.
impl From<Interned<str>> for String {
    fn from(text: Interned<str>) -> Self {
        (*text).to_owned()
    }
}

/// A copy of the text.
impl From<Interned<str>> for Arc<str> {
    fn from(text: Interned<str>) -> Self {
        Arc::from(&*text)
    }
}

/// What a weak handle is, whatever it leads to, with its callback, if it has one.
#[derive(Clone)]
pub(crate) struct WeakRef {
    side: SideRef,
    /// Cancels the callback when its last clone goes.
    _registration: Option<Arc<Registration>>,
}

impl WeakRef {
    pub(crate) fn new(side: SideRef) -> Self {
        Self {
            _registration: None,
            side,
        }
    }

    pub(crate) fn with_callback((side, registration): (SideRef, Arc<Registration>)) -> Self {
        Self {
            _registration: Some(registration),
            side,
        }
    }

    /// # Safety
    ///
    /// It was made from a handle to a `T`.
    pub(crate) unsafe fn upgrade<T: ?Sized + Payload>(&self) -> Option<Ref<T>> {
        // SAFETY: as for the caller.
        unsafe { Ref::upgrade(&self.side) }
    }

    pub(crate) fn strong_count(&self) -> usize {
        usize::try_from(self.side.strong_count()).unwrap_or(usize::MAX)
    }

    pub(crate) fn ptr_eq(&self, other: &Self) -> bool {
        self.side.address() == other.side.address()
    }
}

/// A weak handle: leads to the value as long as somebody has a strong handle.
///
/// It belongs to one instance. When that has died it stays dead, also when an equal value was interned
/// since. It keeps neither the value nor its memory, and works when the interner is gone.
///
/// # Examples
///
/// ```
/// use hapax::{Interned, Interner};
///
/// let names = Interner::<str>::new();
/// let alpha = names.intern("alpha");
/// let weak = Interned::downgrade(&alpha);
/// drop(alpha);
/// let alpha = names.intern("alpha");
/// assert_eq!(weak.upgrade(), None);
/// ```
pub struct WeakInterned<T: ?Sized + Internable> {
    /// Invariant: leads to a `T`.
    weak: WeakRef,
    value: PhantomData<T>,
}

// SAFETY: an upgraded handle may be sent and shared; callbacks are `Send`, and called or dropped by one
// thread.
unsafe impl<T: ?Sized + Internable + Send + Sync> Send for WeakInterned<T> {}
// SAFETY: as above.
unsafe impl<T: ?Sized + Internable + Send + Sync> Sync for WeakInterned<T> {}

impl<T: ?Sized + Internable> WeakInterned<T> {
    fn new(weak: WeakRef) -> Self {
        Self {
            weak,
            value: PhantomData,
        }
    }

    /// A strong handle, if the value hasn't died.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::{Interned, Interner};
    /// let names = Interner::<str>::new();
    /// let alpha = names.intern("alpha");
    /// assert!(Interned::downgrade(&alpha).upgrade().is_some());
    /// ```
    pub fn upgrade(&self) -> Option<Interned<T>> {
        // SAFETY: by the invariant.
        unsafe { self.weak.upgrade() }.map(Interned::from_ref)
    }

    /// The number of strong handles at some moment during the call; 0 if the value has died, `usize::MAX` if it is
    /// immortal.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::{Interned, Interner};
    /// let names = Interner::<str>::new();
    /// let alpha = names.intern("alpha");
    /// assert_eq!(Interned::downgrade(&alpha).strong_count(), 1);
    /// ```
    pub fn strong_count(&self) -> usize {
        self.weak.strong_count()
    }

    /// Whether two weak handles belong to the same instance, dead or alive.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::{Interned, Interner};
    /// let names = Interner::<str>::new();
    /// let alpha = names.intern("alpha");
    /// assert!(Interned::downgrade(&alpha).ptr_eq(&Interned::downgrade(&alpha)));
    /// ```
    pub fn ptr_eq(&self, other: &Self) -> bool {
        self.weak.ptr_eq(&other.weak)
    }
}

impl<T: ?Sized + Internable> Clone for WeakInterned<T> {
    fn clone(&self) -> Self {
        Self::new(self.weak.clone())
    }
}

impl<T: ?Sized + Internable> fmt::Debug for WeakInterned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(WeakInterned)")
    }
}

impl<T: ?Sized + Internable + RefUnwindSafe> UnwindSafe for WeakInterned<T> {}
impl<T: ?Sized + Internable + RefUnwindSafe> RefUnwindSafe for WeakInterned<T> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Interner;
    use crate::table::expect_overflow;

    #[test]
    fn hits_and_handles_of_an_immortal_value_leave_its_count_alone() {
        static NAMES: Interner<str> = Interner::new();
        let alpha = NAMES.intern_static("alpha");
        let count = alpha.0.node().peek_count();
        let weak = Interned::downgrade(&alpha);
        drop((NAMES.intern("alpha"), NAMES.get("alpha"), alpha.clone()));
        drop((
            weak.upgrade(),
            NAMES.iter().next(),
            Interned::immortalize(alpha.clone()),
        ));
        // SAFETY: what came from `into_raw` is taken back once.
        drop(unsafe { Interned::from_raw(Interned::into_raw(alpha.clone())) });
        assert_eq!(alpha.0.node().peek_count(), count);
    }

    /// What counts up counts down as often, or a loop of it would reach the flags in the end.
    #[test]
    fn what_is_done_to_an_immortal_value_leaves_no_count_behind() {
        static NAMES: Interner<str> = Interner::new();
        let counting = NAMES.intern("alpha");
        let knowing = Interned::immortalize(counting.clone());
        let count = counting.0.node().peek_count();
        for handle in [&counting, &knowing] {
            drop(handle.clone());
            drop(Interned::immortalize(handle.clone()));
            // SAFETY: what came from `into_raw` is taken back once.
            drop(unsafe { Interned::from_raw(Interned::into_raw(handle.clone())) });
            #[cfg(feature = "arc-swap")]
            {
                let swap: arc_swap::ArcSwapAny<_> = arc_swap::ArcSwapAny::new(handle.clone());
                swap.store(swap.load_full());
                drop(swap.swap(handle.clone()));
            }
            assert_eq!(counting.0.node().peek_count(), count);
        }
    }

    /// The abort of a count that has run away, in a process of its own.
    #[test]
    #[cfg_attr(miri, ignore = "starts a process")]
    fn too_many_handles_abort_with_a_message() {
        let test = "too_many_handles_abort_with_a_message";
        let ways = ["clone", "intern", "upgrade", "immortal"];
        expect_overflow(test, &ways, |way| {
            let names = Interner::<str>::new();
            let alpha = names.intern("alpha");
            let weak = Interned::downgrade(&alpha);
            alpha.0.node().poke_handles(1 << 36);
            match way {
                "immortal" => {
                    // As often as an immortal value may be counted.
                    alpha.0.node().poke_handles(3 << 36);
                    std::mem::forget(alpha.clone());
                }
                "clone" => std::mem::forget(alpha.clone()),
                "intern" => std::mem::forget(names.intern("alpha")),
                _ => std::mem::forget(weak.upgrade()),
            }
        });
    }
}
