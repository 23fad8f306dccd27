//! A *job*: the core of one value, from the value's beginning until it is finalized, and what the finalizer has to know
//! for that. It is allocated with the value, so that a death allocates nothing.

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::mem::ManuallyDrop;
use std::panic::{self, AssertUnwindSafe};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::time::Instant;

use super::Finalize;
use super::worker::Worker;
use crate::table::primitive::{AtomicBool, Liveness};

/// What a finalizer knows of a job, whatever its type.
pub(super) struct Header {
    /// The job that was queued before. Written by who queues it, before it is in the queue; then it is the worker's.
    pub(super) next: Cell<*mut Header>,
    /// The neighbours in the register, which were made before and after. Touched under its lock.
    pub(super) older: Cell<*mut Header>,
    pub(super) newer: Cell<*mut Header>,
    /// The value is gone. The register holds the job until the worker has done it.
    pub(super) is_dead: AtomicBool,
    pub(super) since: Instant,
    pub(super) type_name: &'static str,
    /// Finalizes the core and frees the job; see [`Job::run`].
    run: unsafe fn(NonNull<Header>) -> Outcome,
    pub(super) liveness: Liveness,
}

/// What has become of a core.
pub(super) type Outcome = Result<Result<(), super::BoxError>, Box<dyn Any + Send>>;

#[repr(C)]
pub(super) struct Job<T: Finalize> {
    /// First, so that a pointer to it is one to the job.
    header: Header,
    /// Until the job is queued, or the core is taken back.
    worker: ManuallyDrop<Arc<Worker>>,
    core: UnsafeCell<ManuallyDrop<T::Core>>,
}

impl<T: Finalize> Job<T> {
    pub(super) fn allocate(
        worker: Arc<Worker>,
        type_name: &'static str,
        core: T::Core,
    ) -> NonNull<Self> {
        let job = Box::new(Self {
            header: Header {
                next: Cell::new(ptr::null_mut()),
                older: Cell::new(ptr::null_mut()),
                newer: Cell::new(ptr::null_mut()),
                is_dead: AtomicBool::new(false),
                since: Instant::now(),
                type_name,
                run: Self::run,
                liveness: Liveness::new(),
            },
            worker: ManuallyDrop::new(worker),
            core: UnsafeCell::new(ManuallyDrop::new(core)),
        });
        // SAFETY: a box isn't null.
        unsafe { NonNull::new_unchecked(Box::into_raw(job)) }
    }

    /// Frees it, but for the core.
    ///
    /// # Safety
    ///
    /// The job came from `allocate`, wasn't queued, and nobody else has it.
    pub(super) unsafe fn free(job: NonNull<Self>) -> T::Core {
        // SAFETY: as for the caller.
        let Self {
            header,
            worker,
            core,
        } = *unsafe { Box::from_raw(job.as_ptr()) };
        header.liveness.end();
        drop(ManuallyDrop::into_inner(worker));
        ManuallyDrop::into_inner(core.into_inner())
    }

    /// # Safety
    ///
    /// The header is that of a job for `T` whose worker was taken. Nobody else has the job.
    unsafe fn run(header: NonNull<Header>) -> Outcome {
        // SAFETY: as for the caller; `allocate` makes boxes.
        let job = unsafe { Box::from_raw(header.cast::<Self>().as_ptr()) };
        job.header.liveness.end();
        let core = ManuallyDrop::into_inner(job.core.into_inner());
        panic::catch_unwind(AssertUnwindSafe(|| T::finalize(core)))
    }
}

/// The one value's hold on its job.
pub(super) struct JobRef<T: Finalize>(NonNull<Job<T>>);

impl<T: Finalize> JobRef<T> {
    /// A job that the worker has in its register.
    pub(super) fn new(job: NonNull<Job<T>>) -> Self {
        Self(job)
    }

    pub(super) fn worker(&self) -> &Arc<Worker> {
        // SAFETY: the job is there as long as the value has it.
        unsafe { &(*self.0.as_ptr()).worker }
    }

    pub(super) fn core(&self) -> &T::Core {
        // SAFETY: as above; only this borrows the core, and only `core_mut` writes it.
        unsafe { &*(*self.0.as_ptr()).core.get() }
    }

    pub(super) fn core_mut(&mut self) -> &mut T::Core {
        // SAFETY: as above, and the value is borrowed exclusively.
        unsafe { &mut *(*self.0.as_ptr()).core.get() }
    }

    /// Takes the core back: it won't be finalized.
    pub(super) fn take(self) -> T::Core {
        let this = ManuallyDrop::new(self);
        // SAFETY: the value has the job, which is in the worker's register and hasn't been queued, nor will be.
        unsafe { this.worker().forget(this.0.cast()) };
        // SAFETY: the register has forgotten it, so nobody else has it.
        unsafe { Job::free(this.0) }
    }
}

impl<T: Finalize> Drop for JobRef<T> {
    /// Leaves the core to the worker. Runs no code of the user's, waits for nobody.
    fn drop(&mut self) {
        // SAFETY: the job is there until it is queued, and nobody else takes its worker, which is needed when the job is
        // gone perhaps.
        let worker = unsafe { ptr::read(&raw const (*self.0.as_ptr()).worker) };
        // SAFETY: the value has the job, and lets go of it.
        unsafe { worker.enqueue(self.0.cast()) };
        drop(ManuallyDrop::into_inner(worker));
    }
}

impl Header {
    /// Finalizes the core, and frees the job.
    ///
    /// # Safety
    ///
    /// The job was queued, is out of the register, and nobody else has it.
    pub(super) unsafe fn run(job: NonNull<Self>) -> Outcome {
        // SAFETY: as for the caller.
        let run = unsafe { job.as_ref() }.run;
        // SAFETY: each header has the `run` of its own type; who queues a job takes its worker.
        unsafe { run(job) }
    }
}
