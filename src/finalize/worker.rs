//! The *worker*: what a finalizer, its values and its thread share, and what the thread does.
//!
//! # Actors
//!
//! - *Who makes a value* allocates its job and enters it into the register, under the lock. It is refused there if the
//!   finalizer is closed.
//! - *Who drops the last handle* runs the body's destructor, counts the value as pending, notes that it is dead, and pushes
//!   the job to the queue (`queue`), also if that destructor has panicked. It takes no lock, and allocates nothing. From then
//!   on the job is the thread's.
//! - *Who takes the core back* takes the job out of the register, and has it alone. If that was the last one of a finalizer
//!   that is closed, it nudges the thread.
//! - *The thread* takes all jobs from the queue. Of each it takes the job out of the register, finalizes the core, frees
//!   the job, and counts it as done. When nothing is queued it looks at the list of those who drain, tells them if nothing is
//!   pending, and decides whether it ends, all under the lock; then it sleeps, or ends.
//! - *Who drains* puts itself on the list, under the lock, unless the thread has ended, nudges the thread, and sleeps.
//! - *Who closes* says so, under the lock, and nudges the thread.
//!
//! # Why it is right
//!
//! - *Each core is finalized once, or taken back*: a value has its job alone, and gives it up once, by the one or the other,
//!   which take it by value. A job is queued once, and the thread takes each out of the queue once.
//! - *Nothing is left behind at the end.* The thread ends only if the finalizer is closed and the register is empty. A job
//!   is in the register from before its value is there until the thread has it, and none is entered once it is closed: both
//!   under the lock. So when the thread ends there is no value, none comes, and nothing is queued.
//! - *Who drains misses nothing.* The thread reads the count under the lock by which the caller has put itself on the list; so it sees
//!   the counts of all drops that had returned before the caller's call. If none is pending, all those were done. A drop that has counted itself and not
//!   pushed yet is waited for: it wakes the thread.
//! - *No nudge is lost*: it writes the word of the queue, if need be with what was there. The thread has taken the word before
//!   it looks at the list, so a nudge that comes after that keeps it from falling asleep; and one that came before is seen, or
//!   what came before that, since both are read-modify-writes.
//! - *Nobody finds the worker gone*: who drops might, when it has pushed, since the thread may be through with the job, and
//!   with itself. So it takes the worker out of the job before that. All others hold it by something else. It may be the last
//!   to have the worker then; so the thread drops the hook, which is user code, when it ends.
//! - *A value is alive or pending*, or both for a moment, for who asks in this order: it is counted before it is dead, and
//!   until it is finalized. If it isn't in the register any more the thread has taken it out, which has seen the count.
//!
//! # User code
//!
//! Finalizers, destructors and the hook run with no lock held. A panic of one is caught, and the next one runs.
//!
//! # Orderings
//!
//! The count of pending jobs is Relaxed. Who drops counts before it pushes; what the thread must see of it comes to it by the
//! queue or by the lock. Who finds a value dead, or gone, sees it counted, by `is_dead` or by the lock. The thread's handle
//! is set by whoever begins it, before there is a value: so no order is needed to wake it.

use std::mem;
use std::ptr::NonNull;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use super::error::{DrainError, FinalizeError, Hook, Refusal, Running};
use super::job::Header;
use super::queue::{Queue, Then};
use super::register::{Live, Register};
use crate::panic::Panic;
use crate::table::FirstPanic;
use crate::table::primitive::{AtomicUsize, Mutex, Ordering, Parker, lock, thread, thread_number};

pub(super) struct Worker {
    queue: Queue,
    /// How many values have died whose cores haven't been finalized yet.
    pending: AtomicUsize,
    /// No value is made while so many are pending.
    bound: usize,
    /// Its number, and how to wake it. Set before there is anybody who would.
    thread: OnceLock<(u64, thread::Thread)>,
    state: Mutex<State>,
    /// Until the thread ends.
    hook: Mutex<Option<Hook>>,
}

struct State {
    register: Register,
    /// No value is made any more.
    is_closed: bool,
    /// What the thread has begun last, if it isn't idle.
    running: Option<Running>,
    /// Those who wait until nothing is pending.
    draining: Vec<Arc<Parker>>,
    has_ended: bool,
}

impl Worker {
    pub(super) fn new(bound: usize, hook: Hook) -> Self {
        Self {
            queue: Queue::new(),
            pending: AtomicUsize::new(0),
            bound,
            thread: OnceLock::new(),
            state: Mutex::new(State {
                register: Register::new(),
                is_closed: false,
                running: None,
                draining: Vec::new(),
                has_ended: false,
            }),
            hook: Mutex::new(Some(hook)),
        }
    }

    // For those who have values.

    /// Enters a job into the register.
    ///
    /// # Safety
    ///
    /// If it is entered it stays until it is forgotten or queued.
    pub(super) unsafe fn enter(&self, job: NonNull<Header>) -> Result<(), Refusal> {
        let pending = self.pending();
        let mut state = lock(&self.state);
        if state.is_closed {
            return Err(Refusal::ShutDown);
        }
        if pending >= self.bound {
            let bound = self.bound;
            return Err(Refusal::QueueFull { bound });
        }
        // SAFETY: as for the caller; it is new.
        unsafe { state.register.add(job) };
        Ok(())
    }

    /// # Safety
    ///
    /// The caller has the job, which is in the register and was never queued, and lets go of it.
    pub(super) unsafe fn enqueue(&self, job: NonNull<Header>) {
        // Relaxed: see "Orderings".
        self.pending.fetch_add(1, Ordering::Relaxed);
        // Release: pairs with the Acquire in `Register::live`; who finds it dead finds it pending, or done.
        //
        // SAFETY: the caller has the job.
        unsafe { job.as_ref() }
            .is_dead
            .store(true, Ordering::Release);
        // SAFETY: as for the caller.
        let then = unsafe { self.queue.push(job) };
        self.wake(then);
    }

    /// # Safety
    ///
    /// The job is in the register and was never queued.
    pub(super) unsafe fn forget(&self, job: NonNull<Header>) {
        let mut state = lock(&self.state);
        // SAFETY: as for the caller.
        unsafe { state.register.remove(job) };
        let may_end = state.may_end();
        drop(state);
        if may_end {
            self.wake(self.queue.nudge());
        }
    }

    fn wake(&self, then: Then) {
        if then == Then::Wake {
            let (_, thread) = self.thread.get().expect("it was set at the beginning");
            thread.unpark();
        }
    }

    // For those who have the finalizer.

    /// To be called once, before anybody has the finalizer.
    pub(super) fn set_thread(&self, number: u64, thread: thread::Thread) {
        let this = (number, thread);
        self.thread.set(this).expect("there is one thread");
    }

    pub(super) fn pending(&self) -> usize {
        // Relaxed: a number to look at.
        self.pending.load(Ordering::Relaxed)
    }

    pub(super) fn live(&self) -> Vec<Live> {
        let mut live = lock(&self.state).register.live();
        // They are nearly: who makes a value looks at the clock before it takes the lock.
        live.sort_by_key(|live| live.since);
        live
    }

    pub(super) fn set_hook(&self, hook: Hook) {
        let mut place = lock(&self.hook);
        // When the thread has ended nobody needs it.
        let old = match &mut *place {
            Some(old) => mem::replace(old, hook),
            None => hook,
        };
        drop(place);
        // Without the lock: it is user code.
        drop(old);
    }

    pub(super) fn close(&self) {
        lock(&self.state).is_closed = true;
        self.wake(self.queue.nudge());
    }

    /// Waits until nothing is pending, at most until a moment.
    pub(super) fn drain(&self, until: Option<Instant>) -> Result<(), DrainError> {
        if self.is_mine() {
            return Err(DrainError::WouldDeadlock);
        }
        let mut state = lock(&self.state);
        if state.has_ended {
            return Ok(());
        }
        let parker = Arc::new(Parker::new());
        state.draining.push(parker.clone());
        drop(state);
        self.wake(self.queue.nudge());
        if parker.park(until) {
            return Ok(());
        }
        let mut state = lock(&self.state);
        let place = state
            .draining
            .iter()
            .position(|other| Arc::ptr_eq(other, &parker));
        let Some(place) = place else {
            // It was told just now.
            return Ok(());
        };
        state.draining.swap_remove(place);
        Err(DrainError::TimedOut {
            pending: self.pending(),
            running: state.running,
        })
    }

    /// Whether the calling thread is the one that finalizes.
    fn is_mine(&self) -> bool {
        let thread = self.thread.get();
        thread.is_some_and(|(number, _)| *number == thread_number())
    }

    // The thread.

    /// Finalizes what dies, until the finalizer is closed and nothing is left.
    pub(super) fn work(&self) {
        loop {
            let mut is_idle = true;
            for job in self.queue.take() {
                // SAFETY: it was in the queue, and so it is ours.
                unsafe { self.run(job) };
                is_idle = false;
            }
            if is_idle {
                if self.settle() {
                    return self.end();
                }
                self.queue.park();
            }
        }
    }

    /// # Safety
    ///
    /// The job was taken from the queue.
    unsafe fn run(&self, job: NonNull<Header>) {
        // SAFETY: as for the caller: it is there, and in the register.
        let type_name = unsafe { job.as_ref() }.type_name;
        let since = Instant::now();
        let mut state = lock(&self.state);
        state.running = Some(Running { type_name, since });
        // SAFETY: as above.
        unsafe { state.register.remove(job) };
        drop(state);
        // SAFETY: nobody else has it any more.
        let outcome = unsafe { Header::run(job) };
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.report(FinalizeError::Failed { type_name, error }),
            Err(panic) => {
                let panic = Panic::new(panic);
                self.report(FinalizeError::Panicked { type_name, panic });
            }
        }
        // Relaxed: who waits for it is told by the lock.
        self.pending.fetch_sub(1, Ordering::Relaxed);
    }

    #[cold]
    fn report(&self, error: FinalizeError) {
        let hook = lock(&self.hook).clone();
        let hook = hook.expect("the thread hasn't ended");
        let mut panics = FirstPanic::default();
        panics.catch(|| hook(error));
        panics.catch(|| drop(hook));
        panics.discard();
    }

    /// Nothing is queued: tells those who wait for that. Whether the thread is to end.
    fn settle(&self) -> bool {
        let mut state = lock(&self.state);
        state.running = None;
        let mut drained = Vec::new();
        // Under the lock: see "Why it is right".
        if self.pending() == 0 {
            drained = mem::take(&mut state.draining);
        }
        state.has_ended = state.may_end();
        let has_ended = state.has_ended;
        debug_assert!(!has_ended || state.draining.is_empty(), "nothing is left");
        drop(state);
        drained.iter().for_each(|parker| parker.unpark());
        has_ended
    }

    /// Drops the hook here: it would go with the worker otherwise, which may go with the last value.
    fn end(&self) {
        let hook = lock(&self.hook).take();
        let mut panics = FirstPanic::default();
        panics.catch(|| drop(hook));
        panics.discard();
    }
}

impl State {
    fn may_end(&self) -> bool {
        self.is_closed && self.register.is_empty()
    }
}
