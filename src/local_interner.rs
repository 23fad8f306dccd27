//! The front of an interner on one thread, whose hits write nothing that threads share.
//!
//! # Layout
//!
//! ```text
//!               counts               holds
//! LocalInterned ──────▶ LocalNode<T> ─────▶ the shared node, and its value
//!                        │        ▲
//!                  holds ▼        │ lists
//! LocalInterner<I> ──▶ Nodes ─────┘
//! ```
//!
//! A `LocalNode` owns one shared handle, and stands for it on this thread, as long as it has local handles. `Nodes`
//! lists the nodes that are alive, and owns none of them. It belongs to the front and to the nodes together, so that
//! handles may outlive the front. It has no type parameter: handles lead to it, and are covariant in `T`, while the
//! front is not.
//!
//! # A node's life
//!
//! 1. A look-up that doesn't find its key here asks the shared interner, and makes a node for what that answers.
//!    It looks for one of that shared node before: user code may have been here meanwhile, and a key may share its
//!    tag with another one (see Cost).
//! 2. It is listed as long as it has handles.
//! 3. The last handle unlists it before anything else happens, and drops the shared one, perhaps the last of the
//!    value. Values that die from that wait for their turn in `table/close.rs`, so that chains of local handles
//!    need no deep stack either.
//!
//! # User code
//!
//! `Hash`, `Eq`, constructors and destructors run while nothing is borrowed. A handle is held on what they look at.
//!
//! # Cost
//!
//! A hit is a hash, a tag, an entry, a count that nobody else knows, and a comparison. A key at the address of
//! the last one, such as a literal in a loop, is compared first, and on a hit not even hashed.
//!
//! Of keys with one tag, 31 bits of the hash, only the first one is found so. The others take the way over the
//! interner each time: of a million keys, some two hundred.

mod handle;
mod nodes;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::ptr::NonNull;
use std::rc::Rc;

use equivalent::Equivalent;

use crate::table::{FirstPanic, Ref};
use crate::{Intern, Internable, Interned, Interner};
use nodes::{Address, Nodes};

pub use handle::LocalInterned;

/// The front of an [`Interner`] on one thread: the same values, through handles that are counted without atomics.
///
/// What this thread holds a [`LocalInterned`] of, from this front, it finds without writing anything that threads
/// share, so that threads which want the same keys don't slow each other down. Other keys come from the interner,
/// and take longer than without a front. It is for threads that hold on to what they intern, and look it up or
/// clone it often. Keep one in a thread-local, or hand it around on its thread.
///
/// `I` is anything that leads to the interner: a reference, an `Arc`.
///
/// The front holds one shared handle of a key exactly while there are local ones. So the value dies when it would
/// die without a front: with its last handle, at once. [`lingering`](Self::lingering) keeps the last few keys.
/// Handles outlive their front. Several fronts of an interner, also on one thread, know nothing of each other.
///
/// # User code
///
/// It runs as in an [`Interner`], with nothing held: it may intern here, drop handles, and panic. A key at the same
/// address as the one before is compared with that one's value before it is hashed.
///
/// # Memory
///
/// 24 bytes a key, and 40 to 80 for its place in the table, which shrinks by
/// [`shrink_to_fit`](Self::shrink_to_fit) only.
///
/// # Examples
///
/// ```
/// use hapax::{Interned, Interner, LocalInterned, LocalInterner};
///
/// static NAMES: Interner<str> = Interner::new();
/// thread_local! {
///     static LOCAL: LocalInterner<&'static Interner<str>> = LocalInterner::new(&NAMES);
/// }
///
/// let alpha: LocalInterned<str> = LOCAL.with(|local| local.intern("alpha"));
/// let again = LOCAL.with(|local| local.intern("alpha"));
/// assert_eq!(alpha, again);
/// assert_eq!(alpha, NAMES.intern("alpha"));
///
/// // To another thread goes a shared handle.
/// let shared: Interned<str> = LocalInterned::share(&alpha);
/// std::thread::spawn(move || assert_eq!(shared, *"alpha")).join().unwrap();
///
/// drop((alpha, again));
/// assert_eq!(NAMES.len(), 0);
/// ```
pub struct LocalInterner<I: Deref<Target: sealed::AnyInterner>> {
    interner: I,
    /// Invariant: they list nodes for the interner's type of values, to the lifetime: the front is invariant in it.
    nodes: Rc<Nodes>,
    /// The oldest first.
    lingering: RefCell<VecDeque<LocalInterned<<I::Target as sealed::AnyInterner>::Value>>>,
    /// How many may linger.
    limit: usize,
}

mod sealed {
    use crate::{Internable, Interner};

    /// Every interner, by the type of its values.
    pub trait AnyInterner {
        type Value: ?Sized + Internable;
    }

    impl<T: ?Sized + Internable, S> AnyInterner for Interner<T, S> {
        type Value = T;
    }
}

impl<I, T, S> LocalInterner<I>
where
    I: Deref<Target = Interner<T, S>>,
    T: ?Sized + Internable,
{
    /// A front that holds nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::{Interner, LocalInterner};
    /// use std::sync::Arc;
    ///
    /// let names = Interner::<str>::new();
    /// let borrowing = LocalInterner::new(&names);
    /// let owning = LocalInterner::new(Arc::new(Interner::<str>::new()));
    /// assert_ne!(borrowing.intern("alpha"), owning.intern("alpha"));
    /// ```
    pub fn new(interner: I) -> Self {
        Self {
            interner,
            nodes: Rc::new(Nodes::new()),
            lingering: RefCell::default(),
            limit: 0,
        }
    }

    /// Keeps the last `keys` keys that this front took from the interner, also when nobody has handles on them, so
    /// that they are found again without it. 0, which it is at first, turns it off.
    ///
    /// Keys are counted when they are taken, not when they are found here. The one that was taken first is let go
    /// first; that ends it, if there are no other handles. So do [`clear`](Self::clear) and the end of the front.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::{Interner, LocalInterner};
    /// let names = Interner::<str>::new();
    /// let local = LocalInterner::new(&names).lingering(2);
    /// for name in ["alpha", "beta", "alpha", "gamma"] {
    ///     drop(local.intern(name));
    /// }
    /// assert_eq!(names.get("alpha"), None);
    /// assert_eq!(names.len(), 2);
    /// ```
    #[must_use]
    pub fn lingering(mut self, keys: usize) -> Self {
        self.limit = keys;
        let lingering = self.lingering.get_mut();
        let oldest = lingering.len().saturating_sub(keys);
        let_go(lingering.drain(..oldest).collect());
        self
    }

    /// Lets the [lingering](Self::lingering) keys go. Those with other handles live on.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::{Interner, LocalInterner};
    /// let names = Interner::<str>::new();
    /// let local = LocalInterner::new(&names).lingering(100);
    /// drop(local.intern("alpha"));
    /// assert_eq!(names.len(), 1);
    /// local.clear();
    /// assert_eq!(names.len(), 0);
    /// ```
    pub fn clear(&self) {
        let_go(self.lingering.take());
    }

    /// The number of keys that this front holds: those with local handles that came from it, and the lingering
    /// ones.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::{Interner, LocalInterner};
    /// let names = Interner::<str>::new();
    /// let elsewhere = names.intern("beta");
    /// let local = LocalInterner::new(&names);
    /// let handles = [local.intern("alpha"), local.intern("alpha")];
    /// assert_eq!((local.len(), names.len()), (1, 2));
    /// ```
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether [`len`](Self::len) is zero.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::{Interner, LocalInterner};
    /// let names = Interner::<str>::new();
    /// assert!(LocalInterner::new(&names).is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The interner.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::{Interner, LocalInterner};
    /// let names = Interner::<str>::new();
    /// let local = LocalInterner::new(&names);
    /// let alpha = local.intern("alpha");
    /// assert_eq!(local.interner().len(), 1);
    /// ```
    pub fn interner(&self) -> &Interner<T, S> {
        &self.interner
    }

    /// Gives back the memory of the front's table that its present keys don't need. O(keys).
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::{Interner, LocalInterner};
    /// let numbers = Interner::<u64>::new();
    /// let local = LocalInterner::new(&numbers);
    /// drop((0..1000).map(|number| local.intern(number)).collect::<Vec<_>>());
    /// local.shrink_to_fit();
    /// ```
    pub fn shrink_to_fit(&self) {
        self.nodes.shrink();
    }

    /// A local handle for a shared one.
    fn adopt(&self, shared: Interned<T>) -> LocalInterned<T> {
        let hash = Interned::hash_value(&shared);
        if let Some(entry) = self.nodes.of(shared.0.as_node_ptr(), hash) {
            // SAFETY: listed by these nodes, by their invariant for `T`.
            return unsafe { LocalInterned::from_listed(entry.local) };
        }
        let local = LocalInterned::new(shared, &self.nodes);
        if self.limit > 0 {
            self.linger(local.clone());
        }
        local
    }

    fn linger(&self, local: LocalInterned<T>) {
        let mut lingering = self.lingering.borrow_mut();
        let oldest = if lingering.len() < self.limit {
            None
        } else {
            lingering.pop_front()
        };
        lingering.push_back(local);
        drop(lingering);
        // User code, perhaps.
        drop(oldest);
    }
}

impl<I, T, S> LocalInterner<I>
where
    I: Deref<Target = Interner<T, S>>,
    T: ?Sized + Internable + Hash + Eq,
    S: BuildHasher,
{
    /// The one instance of a value, as [`Interner::intern`] has it.
    ///
    /// Where there is a local handle of it already, this allocates nothing, and writes nothing that threads share.
    ///
    /// # Panics
    ///
    /// As [`Interner::intern`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::{Interner, LocalInterner};
    /// let names = Interner::<str>::new();
    /// let local = LocalInterner::new(&names);
    /// assert_eq!(local.intern("alpha"), local.intern(String::from("alpha")));
    /// ```
    #[inline]
    pub fn intern<Q: Intern<T>>(&self, value: Q) -> LocalInterned<T> {
        match self.find(value.as_value()) {
            Ok(local) => {
                // User code, perhaps, which may panic.
                drop(value);
                local
            }
            Err(hash) => self.intern_slow(hash, value),
        }
    }

    #[inline(never)]
    fn intern_slow<Q: Intern<T>>(&self, hash: u64, value: Q) -> LocalInterned<T> {
        self.adopt(self.interner.intern_hashed(hash, value))
    }

    /// The one instance of what is equivalent to `key`, as [`Interner::intern_with`] has it; built only if no thread
    /// has one.
    ///
    /// # Panics
    ///
    /// As [`Interner::intern_with`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::{Interner, LocalInterner};
    /// let names = Interner::<str>::new();
    /// let local = LocalInterner::new(&names);
    /// assert_eq!(local.intern_with("alpha", str::to_owned), *"alpha");
    /// ```
    pub fn intern_with<Q, V, F>(&self, key: &Q, build: F) -> LocalInterned<T>
    where
        Q: ?Sized + Hash + Equivalent<T>,
        V: Intern<T>,
        F: FnOnce(&Q) -> V,
    {
        self.find(key)
            .unwrap_or_else(|hash| self.adopt(self.interner.build_hashed(hash, key, build)))
    }

    /// The live instance of what is equivalent to `key`, as [`Interner::get`] has it; `None` if no thread has one.
    ///
    /// # Panics
    ///
    /// If `Hash` or `Eq` panics.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::{Interner, LocalInterner};
    /// let names = Interner::<str>::new();
    /// let local = LocalInterner::new(&names);
    /// assert_eq!(local.get("alpha"), None);
    /// let alpha = names.intern("alpha");
    /// assert_eq!(local.get("alpha").unwrap(), alpha);
    /// ```
    #[inline]
    pub fn get<Q: ?Sized + Hash + Equivalent<T>>(&self, key: &Q) -> Option<LocalInterned<T>> {
        match self.find(key) {
            Ok(local) => Some(local),
            Err(hash) => self.get_slow(hash, key),
        }
    }

    #[inline(never)]
    fn get_slow<Q: ?Sized + Equivalent<T>>(&self, hash: u64, key: &Q) -> Option<LocalInterned<T>> {
        let shared = self.interner.get_hashed(hash, key)?;
        Some(self.adopt(shared))
    }

    /// What there is here, or else the key's hash. There may be more of that hash, which the interner knows.
    ///
    /// Apart, so that a loop around it has its registers for itself.
    #[inline(never)]
    fn find<Q: ?Sized + Hash + Equivalent<T>>(&self, key: &Q) -> Result<LocalInterned<T>, u64> {
        let place: Address = NonNull::from(key).cast();
        if let Some(latest) = self.nodes.latest(place) {
            // SAFETY: listed by these nodes, by their invariant for `T`.
            let local = unsafe { LocalInterned::<T>::from_listed(latest) };
            if key.equivalent(&local) {
                return Ok(local);
            }
        }
        let hash = self.interner.hash_of(key);
        let Some(entry) = self.nodes.candidate(hash) else {
            return Err(hash);
        };
        self.nodes.set_latest(place, entry.local);
        // SAFETY: listed by these nodes, by their invariant for `T`.
        let local = unsafe { LocalInterned::from_listed(entry.local) };
        // SAFETY: the local handle keeps the shared one, and nobody gives this one's count back.
        let shared = ManuallyDrop::new(Interned::<T>(unsafe { Ref::from_counted(entry.shared) }));
        if key.equivalent(&shared) {
            return Ok(local);
        }
        Err(hash)
    }
}

/// Drops handles, each even if a destructor of one before panicked.
fn let_go<T: ?Sized + Internable>(handles: VecDeque<LocalInterned<T>>) {
    let mut panics = FirstPanic::default();
    for handle in handles {
        panics.catch(|| drop(handle));
    }
    panics.resume();
}

impl<I: Deref<Target: sealed::AnyInterner>> Drop for LocalInterner<I> {
    fn drop(&mut self) {
        let_go(self.lingering.take());
    }
}

impl<I: Deref<Target: sealed::AnyInterner>> fmt::Debug for LocalInterner<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalInterner")
            .field("len", &self.nodes.len())
            .finish_non_exhaustive()
    }
}

// A panic leaves nothing half done here.
impl<I: Deref<Target: sealed::AnyInterner> + UnwindSafe> UnwindSafe for LocalInterner<I> {}
impl<I: Deref<Target: sealed::AnyInterner> + RefUnwindSafe> RefUnwindSafe for LocalInterner<I> {}
