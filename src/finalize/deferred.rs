//! `Deferred`: a value whose destructor runs elsewhere.

use std::any::type_name;
use std::borrow::Borrow;
use std::cmp;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use super::error::Refused;
use super::finalized::Finalized;
use super::{BoxError, Finalize, Finalizer};

/// A value whose destructor runs on the thread of a finalizer: so whoever drops it, or the last handle on it, doesn't wait for
/// that. It is a [`Finalized`] without a body: its core is the value, and to finalize it is to drop it.
///
/// It is used as the value, to which it dereferences, and by whose content it is compared and hashed. To make one takes an
/// allocation, for the value and its place in the queue.
///
/// # Examples
///
/// ```
/// use hapax::Interner;
/// use hapax::finalize::Deferred;
///
/// let documents: Interner<Deferred<Vec<String>>> = Interner::new();
/// let lines = vec![String::from("alpha"); 1000];
/// // Only on a miss is there anything to be made.
/// let document = documents.intern_with(&lines, |lines| Deferred::new(lines.clone()));
/// assert_eq!(document.len(), 1000);
/// assert!(documents.get(&lines).is_some());
/// // Its entry is gone at once; the thousand strings are freed elsewhere.
/// drop(document);
/// assert_eq!(documents.len(), 0);
/// ```
pub struct Deferred<T: Send + 'static>(Finalized<Drops<T>>);

/// A body for nothing but the destructor of its core.
struct Drops<T>(PhantomData<fn(T)>);

impl<T: Send + 'static> Finalize for Drops<T> {
    type Core = T;

    fn finalize(value: T) -> Result<(), BoxError> {
        drop(value);
        Ok(())
    }
}

impl<T: Send + 'static> Deferred<T> {
    /// A value of the [global](Finalizer::global) finalizer.
    ///
    /// # Panics
    ///
    /// If that was shut down, or its thread can't begin.
    ///
    /// # Examples
    ///
    /// See [`Deferred`].
    #[cfg(not(any(loom, shuttle)))]
    pub fn new(value: T) -> Self {
        Self::new_in(Finalizer::global(), value)
    }

    /// A value of that finalizer.
    ///
    /// # Panics
    ///
    /// If the finalizer takes no value: see [`try_new_in`](Self::try_new_in).
    ///
    /// # Examples
    ///
    /// See [`Finalizer::pending`].
    pub fn new_in(finalizer: &Finalizer, value: T) -> Self {
        Self::try_new_in(finalizer, value).unwrap_or_else(|refused| refused.panic())
    }

    /// As [`new_in`](Self::new_in), without a panic.
    ///
    /// # Errors
    ///
    /// As for [`Finalized::try_new_in`], with the value.
    ///
    /// # Examples
    ///
    /// See [`Refused`], [`Finalizer::bounded`].
    pub fn try_new_in(finalizer: &Finalizer, value: T) -> Result<Self, Refused<T>> {
        let job = Finalized::register(finalizer, type_name::<T>(), value)?;
        Ok(Self(Finalized::with(Drops(PhantomData), job)))
    }

    /// Takes the value back.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::finalize::Deferred;
    ///
    /// assert_eq!(Deferred::into_inner(Deferred::new(5)), 5);
    /// ```
    pub fn into_inner(this: Self) -> T {
        Finalized::cancel(this.0).1
    }
}

impl<T: Send + 'static> Deref for Deferred<T> {
    type Target = T;

    fn deref(&self) -> &T {
        Finalized::core(&self.0)
    }
}

impl<T: Send + 'static> DerefMut for Deferred<T> {
    fn deref_mut(&mut self) -> &mut T {
        Finalized::core_mut(&mut self.0)
    }
}

/// So that a map or an interner of values is asked with one that isn't deferred.
impl<T: Send + 'static> Borrow<T> for Deferred<T> {
    fn borrow(&self) -> &T {
        self
    }
}

impl<T: Send + 'static> AsRef<T> for Deferred<T> {
    fn as_ref(&self) -> &T {
        self
    }
}

impl<T: Send + PartialEq + 'static> PartialEq for Deferred<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Send + Eq + 'static> Eq for Deferred<T> {}

impl<T: Send + PartialOrd + 'static> PartialOrd for Deferred<T> {
    fn partial_cmp(&self, other: &Self) -> Option<cmp::Ordering> {
        (**self).partial_cmp(other)
    }
}

impl<T: Send + Ord + 'static> Ord for Deferred<T> {
    fn cmp(&self, other: &Self) -> cmp::Ordering {
        (**self).cmp(other)
    }
}

impl<T: Send + Hash + 'static> Hash for Deferred<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl<T: Send + fmt::Debug + 'static> fmt::Debug for Deferred<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: Send + fmt::Display + 'static> fmt::Display for Deferred<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
