//! Keys by identity: the same object, not an equal one.

use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use crate::{Cached, Internable, Interned, WeakMap};

/// A pointer to a shared object, compared by where the object lies.
///
/// Two keys are equal if they lead to the same address, and for slices and strings to the same number of
/// bytes. What a trait object's vtable is doesn't matter. As a key in a [`WeakMap`] the pointer keeps its
/// object alive, so that the address isn't used again as long as there is an entry: Python's
/// `cache.setdefault(id(data), …)`, without the pitfall.
///
/// # Examples
///
/// ```
/// use hapax::ById;
/// use std::sync::Arc;
///
/// let data = Arc::new(String::from("data"));
/// let equal = Arc::new(String::from("data"));
/// assert_eq!(ById(data.clone()), ById(data.clone()));
/// assert_ne!(ById(data), ById(equal));
/// ```
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct ById<P>(pub P);

/// A map keyed by the identity of shared objects.
///
/// # Examples
///
/// ```
/// use hapax::{Cached, IdentityMap};
/// use std::sync::Arc;
///
/// struct Wrapper(Arc<Vec<u8>>);
///
/// static WRAPPERS: IdentityMap<Arc<Vec<u8>>, Wrapper> = IdentityMap::new();
///
/// let data = Arc::new(vec![1, 2, 3]);
/// let wrapper = WRAPPERS.of(&data, |data| Wrapper(data.clone()));
/// assert!(Cached::ptr_eq(&wrapper, &WRAPPERS.of(&data, |_| unreachable!("it is there"))));
/// ```
pub type IdentityMap<P, V, S = crate::RandomState> = WeakMap<ById<P>, V, S>;

impl<P: Identity> ById<P> {
    /// A borrowed key, for look-ups that needn't clone the pointer.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::{ById, IdentityMap};
    /// # use std::sync::Arc;
    /// let map = IdentityMap::<Arc<str>, u32>::new();
    /// let data: Arc<str> = "data".into();
    /// assert!(map.get(ById::from_ref(&data)).is_none());
    /// assert_eq!(Arc::strong_count(&data), 1);
    /// ```
    pub fn from_ref(pointer: &P) -> &Self {
        // SAFETY: `ById` is a transparent wrapper.
        unsafe { &*std::ptr::from_ref(pointer).cast::<Self>() }
    }
}

/// Pointers to shared objects whose address is theirs alone for as long as the pointer lives.
///
/// Implemented for [`Arc`], `&'static` references, and [`Interned`].
///
/// Statics without a size have no address of their own; they are refused when the program is compiled:
///
/// ```compile_fail
/// static UNIT: () = ();
/// let map = hapax::IdentityMap::<&'static (), u32>::new();
/// map.of(&&UNIT, |_| 1);
/// ```
///
/// ```
/// static BYTE: u8 = 0;
/// let map = hapax::IdentityMap::<&'static u8, u32>::new();
/// map.of(&&BYTE, |_| 1);
/// ```
///
/// # Safety
///
/// [`address`](Self::address) returns the same for a pointer and its clones as long as one of them lives,
/// and no other live object has that address and length.
///
/// # Examples
///
/// ```
/// use hapax::Identity;
///
/// static BYTES: [u8; 4] = [1, 2, 3, 4];
/// assert_ne!((&BYTES[..2]).address(), (&BYTES[..3]).address());
/// ```
pub unsafe trait Identity {
    /// Where the object lies, and how many bytes it has.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::Identity;
    /// let data = std::sync::Arc::new(7u32);
    /// assert_eq!(data.address(), data.clone().address());
    /// ```
    fn address(&self) -> (usize, usize);
}

fn address_of<D: ?Sized>(object: &D) -> (usize, usize) {
    (
        std::ptr::from_ref(object).cast::<()>().addr(),
        size_of_val(object),
    )
}

// SAFETY: each `Arc` allocation has counters of its own, so that the object's place in it is its own even
// if it has no size.
unsafe impl<D: ?Sized> Identity for Arc<D> {
    fn address(&self) -> (usize, usize) {
        address_of(&**self)
    }
}

// SAFETY: a static with a size shares its address with no other of its type.
unsafe impl<D> Identity for &'static D {
    fn address(&self) -> (usize, usize) {
        const {
            assert!(
                size_of::<D>() != 0,
                "statics without a size have no identity"
            )
        };
        address_of(*self)
    }
}

// SAFETY: as above; slices that begin at the same place and are not the same differ in their length. Empty
// ones are all the same object, or have places of their own.
unsafe impl<U> Identity for &'static [U] {
    fn address(&self) -> (usize, usize) {
        const {
            assert!(
                size_of::<U>() != 0,
                "statics without a size have no identity"
            )
        };
        address_of(*self)
    }
}

// SAFETY: as above.
unsafe impl Identity for &'static str {
    fn address(&self) -> (usize, usize) {
        address_of(*self)
    }
}

// SAFETY: each value has a node of its own.
unsafe impl<T: ?Sized + Internable> Identity for Interned<T> {
    fn address(&self) -> (usize, usize) {
        address_of(&**self)
    }
}

impl<P: Identity> PartialEq for ById<P> {
    fn eq(&self, other: &Self) -> bool {
        self.0.address() == other.0.address()
    }
}

impl<P: Identity> Eq for ById<P> {}

impl<P: Identity> Hash for ById<P> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.address().hash(state);
    }
}

impl<P: fmt::Debug> fmt::Debug for ById<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ById").field(&self.0).finish()
    }
}

impl<P: Identity + Clone, V, S: BuildHasher> WeakMap<ById<P>, V, S> {
    /// The entry of an object, or one that is built for it. Short for
    /// [`get_or_insert_with_ref`](Self::get_or_insert_with_ref): the pointer is cloned on a miss only.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::IdentityMap;
    /// # use std::sync::Arc;
    /// let lengths = IdentityMap::<Arc<str>, usize>::new();
    /// let data: Arc<str> = "data".into();
    /// let length = lengths.of(&data, |data| data.len());
    /// assert_eq!(*length, 4);
    /// assert_eq!(Arc::strong_count(&data), 2);
    /// ```
    pub fn of(&self, pointer: &P, build: impl FnOnce(&P) -> V) -> Cached<ById<P>, V> {
        self.get_or_insert_with_ref(ById::from_ref(pointer), |key| build(&key.0))
    }
}
