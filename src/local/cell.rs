//! `LocalCell`: a value for each thread, which its thread changes.

use std::cell::RefCell;
use std::convert::Infallible;
use std::fmt;
use std::mem;
use std::sync::Arc;

use super::{Local, LocalError};

/// A value for each thread that uses it, to which that thread has `&mut` access.
///
/// What `thread_local! { static X: RefCell<T> }` is, wherever it may lie, and with the guarantees of [`Local`]. Other
/// threads don't see the values. What they leave behind goes to [`on_thread_exit`](Self::on_thread_exit) and
/// [`retire`](Self::retire).
///
/// When a closure further up the stack has borrowed the value already, in a way that excludes another use of it, the
/// `try_…` functions answer [`LocalError::Reentrant`], and the others panic.
///
/// There is no `total` as [`Local`] has it: others don't see a value before its thread ends.
///
/// # Examples
///
/// ```
/// use hapax::local::LocalCell;
///
/// let words = LocalCell::new(Vec::new);
/// words.with_borrow_mut(|words| words.push("alpha"));
/// assert_eq!(words.with_borrow(Vec::len), 1);
/// ```
pub struct LocalCell<T, A = (), E = Infallible>(Local<Shell<T>, A, E>);

/// Invariant: `None` only on its way out, when `try_take` has emptied it.
type Shell<T> = RefCell<Option<T>>;

impl<T: Send + 'static> LocalCell<T> {
    /// A cell whose values `init` makes, on first use in each thread: see [`Local::new`].
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::local::LocalCell;
    ///
    /// let words = LocalCell::new(|| vec!["alpha"]);
    /// assert_eq!(words.with_borrow(Vec::len), 1);
    /// ```
    pub fn new(init: impl Fn() -> T + Send + Sync + 'static) -> Self {
        Self::try_new(move || Ok(init()))
    }
}

impl<T: Default + Send + 'static> Default for LocalCell<T> {
    fn default() -> Self {
        Self::new(T::default)
    }
}

impl<T, A, E> fmt::Debug for LocalCell<T, A, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalCell")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

impl<T: Send + 'static, E> LocalCell<T, (), E> {
    /// As [`LocalCell::new`], with an initialiser that may fail: see [`Local::try_new`].
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::local::LocalCell;
    ///
    /// let port = LocalCell::try_new(|| "x".parse::<u16>());
    /// assert!(port.try_with_borrow(|port| *port).is_err());
    /// ```
    pub fn try_new(init: impl Fn() -> Result<T, E> + Send + Sync + 'static) -> Self {
        Self(Local::try_new(move || {
            init().map(|value| RefCell::new(Some(value)))
        }))
    }

    /// What the values of dead threads come to: see [`Local::retire`].
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::local::LocalCell;
    ///
    /// let words = LocalCell::new(|| 0).retire(0, |total, words| *total += words);
    /// std::thread::scope(|scope| {
    ///     scope.spawn(|| words.with_borrow_mut(|words| *words += 3)).join().unwrap();
    /// });
    /// assert_eq!(*words.retired(), 3);
    /// ```
    pub fn retire<A: Clone + Send + Sync + 'static>(
        self,
        initial: A,
        merge: impl Fn(&mut A, &T) + Send + Sync + 'static,
    ) -> LocalCell<T, A, E> {
        LocalCell(self.0.retire(initial, move |total, shell: &Shell<T>| {
            // Borrowed if the process was ended by a closure that changes it.
            if let Ok(value) = shell.try_borrow()
                && let Some(value) = &*value
            {
                merge(total, value);
            }
        }))
    }
}

impl<T: Send + 'static, A> LocalCell<T, A> {
    /// Calls `f` with the calling thread's value, which is made first if it isn't there.
    ///
    /// # Panics
    ///
    /// Where [`try_with_borrow`](Self::try_with_borrow) fails.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::local::LocalCell;
    ///
    /// assert_eq!(LocalCell::new(|| 5).with_borrow(|number| *number), 5);
    /// ```
    #[inline]
    #[track_caller]
    pub fn with_borrow<R>(&self, f: impl FnOnce(&T) -> R) -> R {
        match self.try_with_borrow(f) {
            Ok(result) => result,
            Err(error) => error.panic(),
        }
    }

    /// As [`with_borrow`](Self::with_borrow), to change the value.
    ///
    /// # Panics
    ///
    /// Where [`try_with_borrow_mut`](Self::try_with_borrow_mut) fails.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::local::LocalCell;
    ///
    /// let number = LocalCell::new(|| 5);
    /// number.with_borrow_mut(|number| *number += 1);
    /// assert_eq!(number.get(), Some(6));
    /// ```
    #[inline]
    #[track_caller]
    pub fn with_borrow_mut<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        match self.try_with_borrow_mut(f) {
            Ok(result) => result,
            Err(error) => error.panic(),
        }
    }

    /// Makes the calling thread's value now: see [`Local::eager`].
    ///
    /// # Panics
    ///
    /// As [`with_borrow`](Self::with_borrow).
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::local::LocalCell;
    ///
    /// assert_eq!(LocalCell::new(|| 5).eager().len(), 1);
    /// ```
    #[must_use]
    #[track_caller]
    pub fn eager(self) -> Self {
        Self(self.0.eager())
    }

    /// As [`try_get`](Self::try_get).
    ///
    /// # Panics
    ///
    /// Where that fails.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::local::LocalCell;
    ///
    /// assert_eq!(LocalCell::new(|| 5).eager().get(), Some(5));
    /// ```
    #[track_caller]
    pub fn get(&self) -> Option<T>
    where
        T: Clone,
    {
        match self.try_get() {
            Ok(value) => value,
            Err(error) => error.panic(),
        }
    }

    /// As [`try_take`](Self::try_take).
    ///
    /// # Panics
    ///
    /// Where that fails.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::local::LocalCell;
    ///
    /// assert_eq!(LocalCell::new(|| 5).eager().take(), Some(5));
    /// ```
    #[track_caller]
    pub fn take(&self) -> Option<T> {
        match self.try_take() {
            Ok(value) => value,
            Err(error) => error.panic(),
        }
    }

    /// As [`try_replace`](Self::try_replace).
    ///
    /// # Panics
    ///
    /// Where that fails.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::local::LocalCell;
    ///
    /// assert_eq!(LocalCell::new(|| 5).eager().replace(6), Some(5));
    /// ```
    #[track_caller]
    pub fn replace(&self, value: T) -> Option<T> {
        match self.try_replace(value) {
            Ok(old) => old,
            Err((error, _)) => error.panic(),
        }
    }
}

impl<T: Send + 'static, A, E> LocalCell<T, A, E> {
    /// As [`eager`](LocalCell::eager), for an initialiser that may fail.
    ///
    /// # Errors
    ///
    /// As [`try_with_borrow`](Self::try_with_borrow).
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::local::LocalCell;
    ///
    /// let port = LocalCell::try_new(|| "x".parse::<u16>());
    /// assert!(port.try_eager().is_err());
    /// ```
    pub fn try_eager(self) -> Result<Self, LocalError<E>> {
        self.0.try_eager().map(Self)
    }

    /// Has `f` called with each value whose thread ends: see [`Local::on_thread_exit`]. The value is borrowed
    /// meanwhile.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::mpsc;
    ///
    /// use hapax::local::LocalCell;
    ///
    /// let (sender, receiver) = mpsc::channel();
    /// let words = LocalCell::new(|| vec!["alpha"])
    ///     .on_thread_exit(move |words| sender.send(std::mem::take(words)).unwrap());
    /// std::thread::scope(|scope| { scope.spawn(|| words.with_borrow(|_| ())); });
    /// assert_eq!(receiver.recv(), Ok(vec!["alpha"]));
    /// ```
    #[must_use]
    pub fn on_thread_exit(self, f: impl Fn(&mut T) + Send + Sync + 'static) -> Self {
        Self(self.0.on_thread_exit(move |shell| {
            // Borrowed if the process was ended by a closure that uses it.
            if let Ok(mut value) = shell.try_borrow_mut()
                && let Some(value) = &mut *value
            {
                f(value);
            }
        }))
    }

    /// Calls `f` with the calling thread's value, which is made first if it isn't there.
    ///
    /// # Errors
    ///
    /// As [`Local::try_with`]; and [`LocalError::Reentrant`] if a closure further up the stack changes the value.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::local::{LocalCell, LocalError};
    ///
    /// let number = LocalCell::new(|| 5);
    /// number.with_borrow_mut(|_| {
    ///     assert_eq!(number.try_with_borrow(|number| *number), Err(LocalError::Reentrant));
    /// });
    /// ```
    #[inline]
    pub fn try_with_borrow<R>(&self, f: impl FnOnce(&T) -> R) -> Result<R, LocalError<E>> {
        self.0.try_with(|shell| {
            let value = shell.try_borrow().map_err(|_| LocalError::Reentrant)?;
            value.as_ref().map(f).ok_or(LocalError::Reentrant)
        })?
    }

    /// As [`try_with_borrow`](Self::try_with_borrow), to change the value.
    ///
    /// # Errors
    ///
    /// As [`Local::try_with`]; and [`LocalError::Reentrant`] if a closure further up the stack sees the value.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::local::{LocalCell, LocalError};
    ///
    /// let number = LocalCell::new(|| 5);
    /// number.with_borrow(|_| {
    ///     assert_eq!(number.try_with_borrow_mut(|_| ()), Err(LocalError::Reentrant));
    /// });
    /// ```
    #[inline]
    pub fn try_with_borrow_mut<R>(&self, f: impl FnOnce(&mut T) -> R) -> Result<R, LocalError<E>> {
        self.0.try_with(|shell| {
            let mut value = shell.try_borrow_mut().map_err(|_| LocalError::Reentrant)?;
            value.as_mut().map(f).ok_or(LocalError::Reentrant)
        })?
    }

    /// A clone of the calling thread's value, if it has one. It isn't made.
    ///
    /// # Errors
    ///
    /// [`LocalError::Reentrant`] if a closure further up the stack changes the value.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::local::LocalCell;
    ///
    /// let number = LocalCell::new(|| 5);
    /// assert_eq!(number.try_get(), Ok(None));
    /// number.with_borrow(|_| ());
    /// assert_eq!(number.try_get(), Ok(Some(5)));
    /// ```
    pub fn try_get(&self) -> Result<Option<T>, LocalError<E>>
    where
        T: Clone,
    {
        let clone = self.0.with_present(|shell| match shell.try_borrow() {
            Ok(value) => Ok(value.clone()),
            Err(_) => Err(LocalError::Reentrant),
        });
        clone.unwrap_or(Ok(None))
    }

    /// Takes the calling thread's value away, if it has one. The next use makes another one.
    ///
    /// # Errors
    ///
    /// [`LocalError::Reentrant`] if a closure further up the stack has borrowed the value.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::local::LocalCell;
    ///
    /// let words = LocalCell::new(|| vec!["alpha"]).eager();
    /// assert_eq!(words.try_take(), Ok(Some(vec!["alpha"])));
    /// assert_eq!(words.try_take(), Ok(None));
    /// ```
    pub fn try_take(&self) -> Result<Option<T>, LocalError<E>> {
        let taken = self.0.with_present(|shell| match shell.try_borrow_mut() {
            Ok(mut value) => Ok(value.take()),
            Err(_) => Err(LocalError::Reentrant),
        });
        if let Some(Ok(_)) = taken {
            drop(self.0.take());
        }
        taken.unwrap_or(Ok(None))
    }

    /// Gives the calling thread a value, without the initialiser, and returns the one that it had.
    ///
    /// # Errors
    ///
    /// Hands the value back: with [`LocalError::Destroyed`] if the thread is ending, and its values were dropped; with
    /// [`LocalError::Reentrant`] if the initialiser calls this, or a closure further up the stack has borrowed the old
    /// value.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::local::LocalCell;
    ///
    /// let number = LocalCell::new(|| 5);
    /// assert_eq!(number.try_replace(6), Ok(None));
    /// number.with_borrow(|_| assert_eq!(number.try_replace(7).unwrap_err().1, 7));
    /// ```
    pub fn try_replace(&self, value: T) -> Result<Option<T>, (LocalError<E>, T)> {
        let mut new = Some(value);
        let old = self.0.with_present(|shell| match shell.try_borrow_mut() {
            Ok(mut value) => Ok(mem::replace(&mut *value, new.take())),
            Err(_) => Err(LocalError::Reentrant),
        });
        let refused = match old {
            Some(Ok(old)) => return Ok(old),
            Some(Err(error)) => (error, new),
            None => match self.0.try_replace(RefCell::new(new)) {
                Ok(_) => return Ok(None),
                Err((error, shell)) => (error, shell.into_inner()),
            },
        };
        Err((refused.0, refused.1.expect("it was not stored")))
    }
}

impl<T, A, E> LocalCell<T, A, E> {
    /// How many threads have a value.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::local::LocalCell;
    ///
    /// assert_eq!(LocalCell::new(|| 5).len(), 0);
    /// ```
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no thread has a value.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::local::LocalCell;
    ///
    /// assert!(LocalCell::new(|| 5).is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T: Send + 'static, A: Clone + Send + Sync + 'static, E> LocalCell<T, A, E> {
    /// What the values of dead threads have come to: see [`retire`](LocalCell::retire).
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::local::LocalCell;
    ///
    /// let words = LocalCell::new(|| 0).retire(0, |total, words| *total += words);
    /// assert_eq!(*words.retired(), 0);
    /// ```
    pub fn retired(&self) -> Arc<A> {
        self.0.retired()
    }
}
