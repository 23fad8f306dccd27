//! Ephemerons: values that live as long as a key that knows nothing of them.
//!
//! A value hangs in a callback of its key's death. The callback keeps its own registration, so that nobody cancels it; when
//! it runs, or is dropped with a key that was moved out, both go.

use std::fmt;
use std::sync::{Arc, OnceLock, Weak};

use crate::table::Internable;
use crate::{Cached, Interned, WeakCached, WeakInterned};

/// Lets a value live exactly as long as its key: it is dropped when the key's last handle goes, after the key's destructor,
/// on the same thread. The key knows nothing of it, and any number of values may be bound to one key.
///
/// The key is a handle of an interner or a map; the clones of a handle are one key. A value that has a handle on its own
/// key keeps both alive for ever: give it a weak one. For a value whose destructor takes long, bind a
/// [`Deferred`](super::Deferred).
///
/// # Examples
///
/// ```
/// use hapax::Interner;
/// use hapax::finalize::bind;
///
/// let names = Interner::<str>::new();
/// let alpha = names.intern("alpha");
/// let length = bind(&alpha, 5);
/// assert_eq!(length.get().as_deref(), Some(&5));
/// drop(alpha);
/// assert!(length.get().is_none());
/// ```
#[doc(alias = "ephemeron")]
#[doc(alias = "WeakKeyDictionary")]
pub fn bind<K: Key, V: Send + Sync + 'static>(key: &K, value: V) -> Bound<V> {
    let value = Arc::new(value);
    let weak = Arc::downgrade(&value);
    let own = Arc::new(OnceLock::new());
    let kept = own.clone();
    // In this order, so that the value goes before what may be the key's last trace.
    let registration = key.at_death(move || drop((value, kept)));
    if own.set(registration).is_err() {
        unreachable!("nobody else has it");
    }
    Bound(weak)
}

/// What a value can be [bound](bind) to: [`Interned`] and [`Cached`]. Not to be implemented elsewhere.
///
/// # Examples
///
/// ```
/// use hapax::finalize::{Bound, Key, bind};
///
/// fn label<K: Key>(key: &K) -> Bound<String> {
///     bind(key, String::from("label"))
/// }
/// let map = hapax::WeakMap::new();
/// let five = map.get_or_insert("five", 5);
/// assert_eq!(*label(&five).get().unwrap(), "label");
/// ```
pub trait Key: sealed::Key {}

mod sealed {
    pub trait Key {
        /// What cancels the callback when it is dropped.
        type Registration: Send + Sync + 'static;

        fn at_death(&self, f: impl FnOnce() + Send + 'static) -> Self::Registration;
    }
}

impl<T: ?Sized + Internable + Send + Sync + 'static> Key for Interned<T> {}

impl<T: ?Sized + Internable + Send + Sync + 'static> sealed::Key for Interned<T> {
    type Registration = WeakInterned<T>;

    fn at_death(&self, f: impl FnOnce() + Send + 'static) -> WeakInterned<T> {
        Self::downgrade_with(self, f)
    }
}

impl<K: Send + Sync + 'static, V: Send + Sync + 'static> Key for Cached<K, V> {}

impl<K: Send + Sync + 'static, V: Send + Sync + 'static> sealed::Key for Cached<K, V> {
    type Registration = WeakCached<K, V>;

    fn at_death(&self, f: impl FnOnce() + Send + 'static) -> WeakCached<K, V> {
        Self::downgrade_with(self, f)
    }
}

/// A value that is [bound](bind) to a key. This handle keeps neither alive, and to drop it changes nothing.
///
/// # Examples
///
/// See [`bind`].
pub struct Bound<V>(Weak<V>);

impl<V> Bound<V> {
    /// The value, or `None` if the key is gone. Whoever keeps what this returns keeps the value, but not the key.
    ///
    /// # Examples
    ///
    /// See [`bind`].
    pub fn get(&self) -> Option<Arc<V>> {
        self.0.upgrade()
    }
}

impl<V> Clone for Bound<V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<V: fmt::Debug> fmt::Debug for Bound<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Bound").field(&self.get()).finish()
    }
}
