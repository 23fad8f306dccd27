//! `Finalized`: a value whose core is finalized when the value is gone.

use std::any::type_name;
use std::borrow::Borrow;
use std::cmp;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::{Deref, DerefMut};
use std::panic::{RefUnwindSafe, UnwindSafe};

use super::error::Refused;
use super::job::{Job, JobRef};
use super::{BoxError, Finalize, Finalizer};

/// A value whose core is finalized when the value is gone.
///
/// It is used as its body, to which it dereferences, and by whose content it is compared and hashed; [`core`](Self::core)
/// leads to the core. It is dropped when the last handle on it goes, of an [`Interner`](crate::Interner), a
/// [`WeakMap`](crate::WeakMap), an [`Arc`](std::sync::Arc), or itself. Then
///
/// 1. the body's destructor runs on that thread;
/// 2. the core is queued, also if that destructor has panicked: that takes no lock, allocates nothing and runs no code of
///    the user's, so it is safe under any lock;
/// 3. [`Finalize::finalize`] gets the core by value, on the finalizer's thread, after those of all values that have died
///    before.
///
/// Nobody has a handle then and nobody gets one, so there is nothing to resurrect; and it is finalized once, whatever
/// happens. What is [leaked](std::mem::forget) isn't finalized; [`Finalizer::live`] shows it.
///
/// # Examples
///
/// ```
/// use hapax::WeakMap;
/// use hapax::finalize::{BoxError, Finalize, Finalized, Finalizer};
///
/// /// What users of a spool file see of it.
/// struct Spool { lines: usize }
///
/// impl Finalize for Spool {
///     /// Its path.
///     type Core = std::path::PathBuf;
///
///     fn finalize(path: Self::Core) -> Result<(), BoxError> {
///         Ok(std::fs::remove_file(path)?)
///     }
/// }
///
/// # let dir = std::env::temp_dir().join(format!("hapax-{}", std::process::id()));
/// # std::fs::create_dir_all(&dir)?;
/// // A name of its own: the next value of the key may be there before this one's file is removed.
/// let path = dir.join("alpha.1");
/// std::fs::write(&path, "one\ntwo\n")?;
/// let spools = WeakMap::new();
/// let spool = spools.get_or_insert_with("alpha", |_| Finalized::new(Spool { lines: 2 }, path.clone()));
/// assert_eq!(spool.lines, 2);
/// assert_eq!(*Finalized::core(&spool), path);
/// drop(spool);
/// Finalizer::global().drain()?;
/// assert!(!path.exists());
/// # std::fs::remove_dir(dir)?;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
///
/// A core goes to another thread, so it is [`Send`]:
///
/// ```
/// # use hapax::finalize::{BoxError, Finalize};
/// struct Window;
/// impl Finalize for Window {
///     type Core = std::sync::Arc<str>;
///     fn finalize(_: Self::Core) -> Result<(), BoxError> {
///         Ok(())
///     }
/// }
/// ```
///
/// ```compile_fail,E0277
/// # use hapax::finalize::{BoxError, Finalize};
/// struct Window;
/// impl Finalize for Window {
///     type Core = std::rc::Rc<str>;
///     fn finalize(_: Self::Core) -> Result<(), BoxError> {
///         Ok(())
///     }
/// }
/// ```
///
/// The body stays where it is, so it needn't be; the value is `Send` if the body is, and `Sync` if both are, for it leads to
/// both:
///
/// ```
/// # use std::cell::Cell;
/// # use hapax::finalize::{BoxError, Finalize, Finalized};
/// # struct Body<B, C>(std::marker::PhantomData<(B, fn(C))>);
/// # impl<B: 'static, C: Send + 'static> Finalize for Body<B, C> {
/// #     type Core = C;
/// #     fn finalize(_: C) -> Result<(), BoxError> { Ok(()) }
/// # }
/// # fn sent<T: Send>() {}
/// # fn shared<T: Sync>() {}
/// sent::<Finalized<Body<Cell<u8>, Cell<u8>>>>();
/// shared::<Finalized<Body<u8, u8>>>();
/// ```
///
/// ```compile_fail,E0277
/// # use std::rc::Rc;
/// # use hapax::finalize::{BoxError, Finalize, Finalized};
/// # struct Body<B, C>(std::marker::PhantomData<(B, fn(C))>);
/// # impl<B: 'static, C: Send + 'static> Finalize for Body<B, C> {
/// #     type Core = C;
/// #     fn finalize(_: C) -> Result<(), BoxError> { Ok(()) }
/// # }
/// # fn sent<T: Send>() {}
/// sent::<Finalized<Body<Rc<u8>, u8>>>();
/// ```
///
/// ```compile_fail,E0277
/// # use std::cell::Cell;
/// # use hapax::finalize::{BoxError, Finalize, Finalized};
/// # struct Body<B, C>(std::marker::PhantomData<(B, fn(C))>);
/// # impl<B: 'static, C: Send + 'static> Finalize for Body<B, C> {
/// #     type Core = C;
/// #     fn finalize(_: C) -> Result<(), BoxError> { Ok(()) }
/// # }
/// # fn shared<T: Sync>() {}
/// shared::<Finalized<Body<u8, Cell<u8>>>>();
/// ```
///
/// ```compile_fail,E0277
/// # use std::cell::Cell;
/// # use hapax::finalize::{BoxError, Finalize, Finalized};
/// # struct Body<B, C>(std::marker::PhantomData<(B, fn(C))>);
/// # impl<B: 'static, C: Send + 'static> Finalize for Body<B, C> {
/// #     type Core = C;
/// #     fn finalize(_: C) -> Result<(), BoxError> { Ok(()) }
/// # }
/// # fn shared<T: Sync>() {}
/// shared::<Finalized<Body<Cell<u8>, u8>>>();
/// ```
pub struct Finalized<T: Finalize> {
    body: T,
    /// Dropped after the body, also if the destructor of that panics: then the core is queued.
    job: JobRef<T>,
}

// SAFETY:
// - the body, and the core, are sent with the value; the core is `Send` anyway.
// - the worker is shared among threads.
unsafe impl<T: Finalize + Send> Send for Finalized<T> {}
// SAFETY: a shared value leads to a shared body and a shared core.
unsafe impl<T: Finalize + Sync> Sync for Finalized<T> where T::Core: Sync {}

// A panic leaves nothing half done but, perhaps, the body and the core.
impl<T: Finalize + UnwindSafe> UnwindSafe for Finalized<T> where T::Core: UnwindSafe {}
impl<T: Finalize + RefUnwindSafe> RefUnwindSafe for Finalized<T> where T::Core: RefUnwindSafe {}

impl<T: Finalize> Finalized<T> {
    /// A value of the [global](Finalizer::global) finalizer.
    ///
    /// # Panics
    ///
    /// If that was shut down, or its thread can't begin.
    ///
    /// # Examples
    ///
    /// See [`Finalized`].
    #[cfg(not(any(loom, shuttle)))]
    pub fn new(body: T, core: T::Core) -> Self {
        Self::new_in(Finalizer::global(), body, core)
    }

    /// A value of that finalizer. Allocates the place in the queue that it will take.
    ///
    /// # Panics
    ///
    /// If the finalizer takes no value: see [`try_new_in`](Self::try_new_in).
    ///
    /// # Examples
    ///
    /// See [`Finalizer`].
    pub fn new_in(finalizer: &Finalizer, body: T, core: T::Core) -> Self {
        Self::try_new_in(finalizer, body, core).unwrap_or_else(|refused| refused.panic())
    }

    /// As [`new_in`](Self::new_in), without a panic.
    ///
    /// # Errors
    ///
    /// [`ShutDown`](super::Refusal::ShutDown) if the finalizer was shut down, [`QueueFull`](super::Refusal::QueueFull) if it
    /// is [bounded](Finalizer::bounded) and too many values are pending; with body and core.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::finalize::{BoxError, Finalize, Finalized, Finalizer};
    ///
    /// #[derive(Debug)]
    /// struct Name(&'static str);
    /// impl Finalize for Name {
    ///     type Core = u32;
    ///     fn finalize(_: u32) -> Result<(), BoxError> {
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let finalizer = Finalizer::bounded(0)?;
    /// let refused = Finalized::try_new_in(&finalizer, Name("alpha"), 5).unwrap_err();
    /// let (name, number) = refused.value;
    /// assert_eq!((name.0, number), ("alpha", 5));
    /// # Ok::<_, std::io::Error>(())
    /// ```
    pub fn try_new_in(
        finalizer: &Finalizer,
        body: T,
        core: T::Core,
    ) -> Result<Self, Refused<(T, T::Core)>> {
        match Self::register(finalizer, type_name::<T>(), core) {
            Ok(job) => Ok(Self::with(body, job)),
            Err(Refused { why, value: core }) => Err(Refused::new(why, (body, core))),
        }
    }

    pub(super) fn with(body: T, job: JobRef<T>) -> Self {
        Self { body, job }
    }

    pub(super) fn register(
        finalizer: &Finalizer,
        type_name: &'static str,
        core: T::Core,
    ) -> Result<JobRef<T>, Refused<T::Core>> {
        let worker = finalizer.worker();
        let job = Job::<T>::allocate(worker.clone(), type_name, core);
        // SAFETY: it is new, and stays until the value is gone.
        match unsafe { worker.enter(job.cast()) } {
            Ok(()) => Ok(JobRef::new(job)),
            // SAFETY: it wasn't entered, so nobody else has it.
            Err(why) => Err(Refused::new(why, unsafe { Job::free(job) })),
        }
    }

    /// The core. It is an associated function, since the body may have a method of that name.
    ///
    /// # Examples
    ///
    /// See [`Finalized`].
    pub fn core(this: &Self) -> &T::Core {
        this.job.core()
    }

    /// The core, to be changed.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::finalize::{BoxError, Finalize, Finalized};
    ///
    /// struct Log;
    /// impl Finalize for Log {
    ///     type Core = Vec<String>;
    ///     fn finalize(lines: Self::Core) -> Result<(), BoxError> {
    ///         Ok(lines.iter().for_each(|line| println!("{line}")))
    ///     }
    /// }
    ///
    /// let mut log = Finalized::new(Log, vec![]);
    /// Finalized::core_mut(&mut log).push(String::from("the end"));
    /// assert_eq!(Finalized::core(&log).len(), 1);
    /// ```
    pub fn core_mut(this: &mut Self) -> &mut T::Core {
        this.job.core_mut()
    }

    /// Drops the body and finalizes the core now, on this thread, and answers with what came of it. It won't be finalized
    /// again, and doesn't wait for what is queued.
    ///
    /// Of a handle it takes [`Interned::try_unwrap`](crate::Interned::try_unwrap),
    /// [`Cached::try_unwrap`](crate::Cached::try_unwrap) or [`Arc::into_inner`](std::sync::Arc::into_inner) before: there must
    /// be no other.
    ///
    /// # Errors
    ///
    /// That of [`Finalize::finalize`].
    ///
    /// # Panics
    ///
    /// If the body's destructor does, or `finalize`. In the first case the core is queued as if the value was dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::Interner;
    /// use hapax::{Interned, finalize::{BoxError, Finalize, Finalized}};
    ///
    /// #[derive(Debug, PartialEq, Eq, Hash)]
    /// struct File(&'static str);
    /// impl Finalize for File {
    ///     type Core = u32;
    ///     fn finalize(lines: u32) -> Result<(), BoxError> {
    ///         Err(format!("{lines} lines couldn't be written").into())
    ///     }
    /// }
    ///
    /// let files = Interner::new();
    /// let file = files.intern(Finalized::new(File("alpha"), 5));
    /// let file = Interned::try_unwrap(file).expect("it is the only handle");
    /// let error = Finalized::close(file).unwrap_err();
    /// assert_eq!(error.to_string(), "5 lines couldn't be written");
    /// ```
    pub fn close(this: Self) -> Result<(), BoxError> {
        let Self { body, job } = this;
        drop(body);
        T::finalize(job.take())
    }

    /// Takes body and core back. Nothing is finalized.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::finalize::{BoxError, Finalize, Finalized};
    ///
    /// struct Name(&'static str);
    /// impl Finalize for Name {
    ///     type Core = u32;
    ///     fn finalize(_: u32) -> Result<(), BoxError> {
    ///         unreachable!()
    ///     }
    /// }
    ///
    /// let (name, number) = Finalized::cancel(Finalized::new(Name("alpha"), 5));
    /// assert_eq!((name.0, number), ("alpha", 5));
    /// ```
    pub fn cancel(this: Self) -> (T, T::Core) {
        let Self { body, job } = this;
        (body, job.take())
    }
}

impl<T: Finalize> Deref for Finalized<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.body
    }
}

impl<T: Finalize> DerefMut for Finalized<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.body
    }
}

/// So that a map or an interner of values is asked with a body.
impl<T: Finalize> Borrow<T> for Finalized<T> {
    fn borrow(&self) -> &T {
        self
    }
}

impl<T: Finalize> AsRef<T> for Finalized<T> {
    fn as_ref(&self) -> &T {
        self
    }
}

impl<T: Finalize + PartialEq> PartialEq for Finalized<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Finalize + Eq> Eq for Finalized<T> {}

impl<T: Finalize + PartialOrd> PartialOrd for Finalized<T> {
    fn partial_cmp(&self, other: &Self) -> Option<cmp::Ordering> {
        (**self).partial_cmp(other)
    }
}

impl<T: Finalize + Ord> Ord for Finalized<T> {
    fn cmp(&self, other: &Self) -> cmp::Ordering {
        (**self).cmp(other)
    }
}

impl<T: Finalize + Hash> Hash for Finalized<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl<T: Finalize + fmt::Debug> fmt::Debug for Finalized<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: Finalize + fmt::Display> fmt::Display for Finalized<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
