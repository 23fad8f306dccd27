//! `Local`: a value for each thread.

use std::convert::Infallible;
use std::fmt;
use std::marker::PhantomData;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::ptr::NonNull;
use std::sync::Arc;

use super::key::Key;
use super::slots::{self, Initialising};
use super::values::Values;
use super::{LocalError, in_use};
use crate::table::FirstPanic;

/// A value for each thread that uses it, made by an initialiser on the thread's first use, as `threading.local` does
/// in Python.
///
/// It may lie anywhere: in a field, an `Arc`, a `static` [`LazyLock`](std::sync::LazyLock). A thread's value is dropped when the thread ends, before its
/// [`join`](std::thread::JoinHandle::join) returns; all values are dropped with the `Local`, at once, on the thread
/// that drops it. No thread ever sees the value of another one, except through [`for_each`](Self::for_each),
/// [`fold`](Self::fold) and [`total`](Self::total).
///
/// `A` is what the values of dead threads come to, see [`retire`](Local::retire), and `E` what the initialiser may fail
/// with: `Local<T>` for most, `Local<T, A>` with totals, `Local<T, (), E>` with errors.
///
/// # User code
///
/// The initialiser, the closures and the destructors of values run with no lock held. They may use this local and
/// others, and panic. A panic of what runs because a thread ends is reported by the panic hook and goes no further; one
/// of a destructor goes to whoever drops the value: who drops the local, or a visitor. All other values are dropped all
/// the same.
///
/// A global allocator may use locals as well, by [`try_with`](Self::try_with), if it keeps itself from doing so within
/// its own use of them.
///
/// # Complexity
///
/// [`with`](Self::with) on a value that is there reads and writes a few words of the thread's own, whatever the number
/// of locals and threads is; nothing of that is shared. A thread's first use takes the local's lock for a moment, in
/// O(log threads), and so do [`take`](Self::take), [`replace`](Self::replace), each step of a visit, and the end of the
/// thread.
///
/// A thread that uses a local has a table of 16 bytes for each place up to that of the local, twice that at most. A new
/// local gets the first place that is free. Tables go with their threads, and don't shrink before.
///
/// # Examples
///
/// ```
/// use std::cell::Cell;
/// use std::thread;
///
/// use hapax::local::Local;
///
/// let calls = Local::new(|| Cell::new(0));
/// thread::scope(|scope| {
///     for _ in 0..2 {
///         scope.spawn(|| {
///             calls.with(|calls| calls.set(calls.get() + 1));
///             assert_eq!(calls.with(Cell::get), 1);
///         });
///     }
/// });
/// assert_eq!(calls.with(Cell::get), 0);
/// ```
pub struct Local<T, A = (), E = Infallible> {
    owned: Owned<T, E>,
    /// Invariant in `A`: what was stored as one type is looked for as that type.
    _total: PhantomData<fn(A) -> A>,
}

type Init<T, E> = dyn Fn() -> Result<T, E> + Send + Sync;

/// What ends with the local. Apart, so that `retire` can change the type around it.
struct Owned<T, E> {
    key: Key,
    values: Arc<Values<T>>,
    /// There until the end.
    init: Option<Box<Init<T, E>>>,
}

impl<T, E> Drop for Owned<T, E> {
    fn drop(&mut self) {
        self.key.give_back();
        let mut panics = FirstPanic::default();
        self.values.clear(&mut panics);
        panics.catch(|| drop(self.init.take()));
        panics.resume();
    }
}

// The values are reached by shared references only, which closures that panic have had as well.
impl<T: Send + RefUnwindSafe, A, E> UnwindSafe for Local<T, A, E> {}
impl<T: Send + RefUnwindSafe, A, E> RefUnwindSafe for Local<T, A, E> {}

impl<T: Send + 'static> Local<T> {
    /// A local whose values `init` makes: on first use in each thread, with what it has captured. Python's
    /// `__init__` of a subclass of `threading.local` runs like this.
    ///
    /// If `init` panics, the panic goes to the caller who needed the value, nothing is left behind, and the next use
    /// tries again.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::local::Local;
    ///
    /// let greeting = String::from("hello");
    /// let buffer = Local::new(move || greeting.clone());
    /// assert_eq!(buffer.with(String::len), 5);
    /// ```
    pub fn new(init: impl Fn() -> T + Send + Sync + 'static) -> Self {
        Self::try_new(move || Ok(init()))
    }
}

impl<T: Default + Send + 'static> Default for Local<T> {
    fn default() -> Self {
        Self::new(T::default)
    }
}

impl<T: Send + 'static, E> Local<T, (), E> {
    /// As [`Local::new`], with an initialiser that may fail: then nothing is left behind, and the next use tries
    /// again.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::fs::File;
    /// use std::io;
    ///
    /// use hapax::local::{Local, LocalError};
    ///
    /// let log: Local<File, (), io::Error> = Local::try_new(|| File::open("no such file"));
    /// assert!(matches!(log.try_with(|_| ()), Err(LocalError::Init(_))));
    /// ```
    pub fn try_new(init: impl Fn() -> Result<T, E> + Send + Sync + 'static) -> Self {
        let key = Key::take();
        let values = Arc::new(Values::new(key));
        Self {
            owned: Owned {
                key,
                values,
                init: Some(Box::new(init)),
            },
            _total: PhantomData,
        }
    }

    /// What the values of dead threads come to, so that none of their counts is lost: `merge` adds the value of a
    /// thread that ends to a total, which is `initial` at first.
    ///
    /// [`retired`](Self::retired) is the present total, [`total`](Self::total) that and what the living threads have.
    /// At any moment each value is in one of the two and in one only. Values that are [taken](Self::take) or
    /// [replaced](Self::replace), or dropped with the local, aren't merged.
    ///
    /// `merge` runs on the thread that ends, after [`on_thread_exit`](Self::on_thread_exit), and on those that ask for
    /// the total, to which its panics go. It should be short and do nothing else: each thread merges into a copy of the
    /// total, and if another one was faster it merges again. So none waits for another one that sleeps, and one always
    /// gets on; but a thread whose merge takes longer than the time between the ends of others may merge for as long as
    /// those keep coming. If `merge` panics at the end of a thread, or takes the value away, the value isn't counted;
    /// nor are those of threads that ended before this was called.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::LazyLock;
    /// use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    /// use std::thread;
    ///
    /// use hapax::local::Local;
    ///
    /// static WORDS: LazyLock<Local<AtomicU64, u64>> = LazyLock::new(|| {
    ///     Local::new(AtomicU64::default).retire(0, |total, words| *total += words.load(Relaxed))
    /// });
    ///
    /// thread::spawn(|| WORDS.with(|words| words.fetch_add(7, Relaxed))).join().unwrap();
    /// assert_eq!(*WORDS.retired(), 7);
    ///
    /// WORDS.with(|words| words.fetch_add(1, Relaxed));
    /// assert_eq!((*WORDS.retired(), WORDS.total()), (7, 8));
    /// ```
    pub fn retire<A: Clone + Send + Sync + 'static>(
        self,
        initial: A,
        merge: impl Fn(&mut A, &T) + Send + Sync + 'static,
    ) -> Local<T, A, E> {
        self.owned.values.set_merge(initial, merge);
        Local {
            owned: self.owned,
            _total: PhantomData,
        }
    }
}

impl<T: Send + 'static, A> Local<T, A> {
    /// Calls `f` with the calling thread's value, which is made first if it isn't there.
    ///
    /// # Panics
    ///
    /// Where [`try_with`](Self::try_with) fails: if the thread is ending and its values were dropped, or if the
    /// initialiser calls this.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::local::Local;
    ///
    /// let number = Local::new(|| 5);
    /// assert_eq!(number.with(|number| *number), 5);
    /// ```
    #[inline]
    #[track_caller]
    pub fn with<R>(&self, f: impl FnOnce(&T) -> R) -> R {
        match self.try_with(f) {
            Ok(result) => result,
            Err(error) => error.panic(),
        }
    }

    /// Makes the calling thread's value now, as Python does with the thread that creates the object.
    ///
    /// # Panics
    ///
    /// As [`with`](Self::with).
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::local::Local;
    ///
    /// let number = Local::new(|| 5).eager();
    /// assert_eq!(number.get().as_deref(), Some(&5));
    /// ```
    #[must_use]
    #[track_caller]
    pub fn eager(self) -> Self {
        self.with(|_| ());
        self
    }
}

impl<T: Send + 'static, A, E> Local<T, A, E> {
    /// As [`eager`](Local::eager), for an initialiser that may fail.
    ///
    /// # Errors
    ///
    /// As [`try_with`](Self::try_with).
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::local::Local;
    ///
    /// let port = Local::try_new(|| "x".parse::<u16>());
    /// assert!(port.try_eager().is_err());
    /// ```
    pub fn try_eager(self) -> Result<Self, LocalError<E>> {
        self.try_with(|_| ())?;
        Ok(self)
    }

    /// Has `f` called with each value whose thread ends, on that thread, before the value is dropped: while it runs
    /// the thread still has it. Values that go in another way aren't shown to it. Called again it replaces `f`.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::mpsc;
    /// use std::thread;
    ///
    /// use hapax::local::Local;
    ///
    /// let (sender, receiver) = mpsc::channel();
    /// let number = Local::new(|| 5).on_thread_exit(move |number| sender.send(*number).unwrap());
    /// thread::scope(|scope| { scope.spawn(|| number.with(|_| ())); });
    /// assert_eq!(receiver.recv(), Ok(5));
    /// ```
    #[must_use]
    pub fn on_thread_exit(self, f: impl Fn(&T) + Send + Sync + 'static) -> Self {
        self.owned.values.set_on_exit(f);
        self
    }

    /// Calls `f` with the calling thread's value, which is made first if it isn't there.
    ///
    /// # Errors
    ///
    /// - [`LocalError::Destroyed`] if the thread is ending, and its value was dropped, or never made;
    /// - [`LocalError::Reentrant`] if the initialiser of this local calls this;
    /// - [`LocalError::Init`] if it fails.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::local::Local;
    ///
    /// let port = Local::try_new(|| "80".parse::<u16>());
    /// assert_eq!(port.try_with(|port| *port), Ok(80));
    /// ```
    #[inline]
    pub fn try_with<R>(&self, f: impl FnOnce(&T) -> R) -> Result<R, LocalError<E>> {
        let value = match slots::find(self.owned.key) {
            Some(value) => value,
            None => self.init_slow()?,
        };
        // SAFETY: it is the one of our key.
        Ok(unsafe { self.use_value(value, f) })
    }

    /// As `with`, if the calling thread has a value.
    pub(super) fn with_present<R>(&self, f: impl FnOnce(&T) -> R) -> Option<R> {
        let value = slots::find(self.owned.key)?;
        // SAFETY: it is the one of our key.
        Some(unsafe { self.use_value(value, f) })
    }

    /// # Safety
    ///
    /// The slot of our key leads to the value.
    #[inline]
    unsafe fn use_value<R>(&self, value: NonNull<()>, f: impl FnOnce(&T) -> R) -> R {
        let f = move || {
            // SAFETY: a slot with our id leads to a value in `values`, which is of type `T`. It stays there, or is kept
            // because it is in use, until the local is dropped, and we borrow that.
            f(unsafe { value.cast::<T>().as_ref() })
        };
        in_use::using(self.owned.key, f)
    }

    /// Makes the calling thread's value.
    #[cold]
    fn init_slow(&self) -> Result<NonNull<()>, LocalError<E>> {
        let initialising = Initialising::begin(self.owned.key)?;
        let init = self.owned.init.as_ref().expect("it goes with the local");
        let value = init().map_err(LocalError::Init)?;
        self.insert(initialising, Arc::new(value))
            .ok_or(LocalError::Destroyed)
    }

    fn insert(&self, initialising: Initialising, value: Arc<T>) -> Option<NonNull<()>> {
        let at = address(&value);
        self.owned.values.insert(value)?;
        initialising.finish(at);
        Some(at)
    }

    /// The calling thread's value, if it has one. It isn't made.
    ///
    /// The value lives at least as long as what this returns.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::local::Local;
    ///
    /// let number = Local::new(|| 5);
    /// assert_eq!(number.get(), None);
    /// number.with(|_| ());
    /// assert_eq!(number.get().as_deref(), Some(&5));
    /// ```
    pub fn get(&self) -> Option<Arc<T>> {
        let value = slots::find(self.owned.key)?.cast::<T>().as_ptr();
        // SAFETY: a slot with our id leads to a value of type `T` for which `values` has an `Arc`, at this moment.
        unsafe {
            Arc::increment_strong_count(value);
            Some(Arc::from_raw(value))
        }
    }

    /// Takes the calling thread's value away, if it has one. The next use makes another one.
    ///
    /// [`Arc::into_inner`] makes it the caller's own, unless somebody is using it: another thread in
    /// [`for_each`](Self::for_each), or a closure of [`with`](Self::with) further up the stack, for which the value is
    /// kept until it has returned.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use hapax::local::Local;
    ///
    /// let name = Local::new(|| String::from("alpha")).eager();
    /// let taken: String = Arc::into_inner(name.take().unwrap()).unwrap();
    /// assert_eq!(taken, "alpha");
    /// assert!(name.get().is_none());
    /// ```
    pub fn take(&self) -> Option<Arc<T>> {
        slots::find(self.owned.key)?;
        self.owned.values.take()
    }

    /// Gives the calling thread a value, without the initialiser. Returns the one that it had, as [`take`](Self::take)
    /// does.
    ///
    /// # Errors
    ///
    /// Hands the value back, with [`LocalError::Destroyed`] or [`LocalError::Reentrant`] as
    /// [`try_with`](Self::try_with).
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::local::Local;
    ///
    /// let number = Local::new(|| 5).eager();
    /// assert_eq!(number.try_replace(6).unwrap().as_deref(), Some(&5));
    /// assert_eq!(number.with(|number| *number), 6);
    /// ```
    pub fn try_replace(&self, value: T) -> Result<Option<Arc<T>>, (LocalError<E>, T)> {
        if slots::find(self.owned.key).is_none() {
            return match Initialising::begin(self.owned.key) {
                Ok(initialising) => {
                    let inserted = self.insert(initialising, Arc::new(value));
                    debug_assert!(inserted.is_some(), "`initialising` has looked");
                    Ok(None)
                }
                Err(error) => Err((error, value)),
            };
        }
        let value = Arc::new(value);
        let at = address(&value);
        let Some(old) = self.owned.values.replace(value) else {
            unreachable!("a slot leads to a value of ours");
        };
        slots::set(self.owned.key, at);
        in_use::keep(self.owned.key, &old);
        Ok(Some(old))
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
    /// use hapax::local::Local;
    ///
    /// let number = Local::new(|| 5);
    /// assert_eq!(number.replace(6), None);
    /// assert_eq!(number.with(|number| *number), 6);
    /// ```
    #[track_caller]
    pub fn replace(&self, value: T) -> Option<Arc<T>> {
        match self.try_replace(value) {
            Ok(old) => old,
            Err((error, _)) => error.panic(),
        }
    }

    /// Calls `f` with the value of each thread that has one.
    ///
    /// Values that were there from the beginning of the call to its end are seen exactly once. Of others some may be
    /// missing, but none is seen twice. When a thread ends while its value is visited it doesn't wait: the visitor
    /// drops the value, as soon as `f` has returned.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::local::Local;
    ///
    /// let number = Local::new(|| 5).eager();
    /// number.for_each(|number| assert_eq!(*number, 5));
    /// ```
    pub fn for_each(&self, mut f: impl FnMut(&T))
    where
        T: Sync,
    {
        self.fold((), |(), value| f(value));
    }

    /// What the values of all threads come to, visited as by [`for_each`](Self::for_each). Of threads that have ended
    /// nothing is counted; that is what [`total`](Self::total) is for.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::local::Local;
    ///
    /// let number = Local::new(|| 5).eager();
    /// assert_eq!(number.fold(0, |sum, number| sum + number), 5);
    /// ```
    pub fn fold<B>(&self, initial: B, mut f: impl FnMut(B, &T) -> B) -> B
    where
        T: Sync,
    {
        self.owned
            .values
            .iter()
            .fold(initial, |folded, value| f(folded, &value))
    }
}

impl<T, A, E> Local<T, A, E> {
    /// How many threads have a value.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::local::Local;
    ///
    /// assert_eq!(Local::new(|| 5).eager().len(), 1);
    /// ```
    pub fn len(&self) -> usize {
        self.owned.values.len()
    }

    /// Whether no thread has a value.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::local::Local;
    ///
    /// assert!(Local::new(|| 5).is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T: Send + 'static, A: Clone + Send + Sync + 'static, E> Local<T, A, E> {
    /// What the values of dead threads have come to: see [`retire`](Local::retire).
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::local::Local;
    ///
    /// let number = Local::new(|| 5).retire(0, |total, number| *total += number);
    /// std::thread::scope(|scope| scope.spawn(|| number.with(|_| ())).join().unwrap());
    /// assert_eq!(*number.retired(), 5);
    /// ```
    pub fn retired(&self) -> Arc<A> {
        self.owned.values.retired()
    }

    /// What the values of all threads come to, living and dead, each counted once: see [`retire`](Local::retire).
    /// Without that it is `()`.
    ///
    /// It holds all present values until they are merged. Those whose threads end meanwhile are dropped here.
    ///
    /// # Panics
    ///
    /// If the merge does.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::local::Local;
    ///
    /// let number = Local::new(|| 5).retire(0, |total, number| *total += number).eager();
    /// std::thread::scope(|scope| { scope.spawn(|| number.with(|_| ())); });
    /// assert_eq!(number.total(), 10);
    /// ```
    pub fn total(&self) -> A
    where
        T: Sync,
    {
        self.owned.values.total()
    }
}

fn address<T>(value: &Arc<T>) -> NonNull<()> {
    // Not from a reference to the value: what it leads to may be more than that.
    NonNull::new(Arc::as_ptr(value).cast_mut().cast()).expect("it points to a value")
}

impl<T, A, E> fmt::Debug for Local<T, A, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
