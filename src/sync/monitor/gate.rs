//! The way into a monitor, and the queue of those inside who wait for a condition.
//!
//! # Actors
//!
//! The way in is a lock with an owner (`owned`): who enters takes it, and whoever waits for that is seen by those who look
//! for deadlocks. A thread that is inside may *wait*: it goes into the queue, with its condition, and then leaves. Nobody gets
//! into the queue who isn't inside.
//!
//! *Who leaves* looks at the conditions in the queue, those that have waited for longest first, and calls each with no
//! lock of ours held but the monitor itself. The first one that has come about gets the monitor from it: its name is
//! written into the owner word, and the raw lock stays locked. So nobody is inside between the look and the waiter, for
//! whom the condition is as it was seen. If none has come about the lock is given back. Who wants to enter meanwhile
//! waits, and can neither change anything nor queue up: so nothing that happens inside is missed.
//!
//! # The conditions
//!
//! A condition is a closure in the frame of the one who waits, with whatever it borrows, and it is called by others. That is
//! sound because the one who waits doesn't return before it is out of the queue *and* its condition isn't being looked at.
//! `looking_at`, under the lock of the queue, says at whose condition somebody is looking; one look at a time, since who
//! looks is inside. Who takes a waiter out of the queue answers it, and whoever looks keeps the one that it looks at: so who
//! gives up meanwhile (the time is over, the thread is cancelled) leaves a note, and waits for the end of that look.
//!
//! | queued | looked at | left by |
//! |---|---|---|
//! | yes | no | a look; the waiter, which gives up; the end of who is inside, with an answer |
//! | yes | yes | who looks: with an answer if the condition has come about or panicked, if the waiter has left a note, or if the thread inside has ended; otherwise back |
//! | no | no, it is to enter by itself | who has looked, with an answer, when the lock is given back; the waiter waits for that, whatever happens |
//! | no | no, answered | the waiter |
//!
//! A condition runs in the place of the one who waits. So it isn't cancelled with the thread that calls it.
//!
//! # Turns
//!
//! If those who wait hand the monitor to and fro, nobody else gets in. So after some turns in a row the next one isn't handed
//! the monitor: the lock is given back, and then it is woken, to enter like everybody else, behind those who want that already.
//! Then it looks at its condition itself, and goes on waiting, in its old place, if that isn't so any more.
//!
//! Nobody has looked at those behind it. It does, when it leaves or waits on. If it can't enter (it is cancelled, or that
//! would be a deadlock) somebody was inside when it tried, who has come after the lock was given back, and looks when it
//! leaves.
//!
//! # Owners that end
//!
//! If the thread inside ends, those who wait for conditions are told so like those who want to enter: after `check_after`
//! they are registered with the graph, as waits that are part of no circle, since others may make the condition come about.
//! `abandon` answers the whole queue, but for the one that is looked at, whom the one that looks answers: that is a thread
//! whose end was told, and which leaves only now.
//!
//! # Orderings
//!
//! What happens inside is handed on by the raw lock, or by the answer (see `waiter`). The rest is Relaxed: the number of those
//! who wait is changed under the lock of the queue, and only thereby, and read by who is inside: each that is queued was
//! counted by a thread that was inside before.

use std::any::Any;
use std::mem;
use std::panic::{self, AssertUnwindSafe};
use std::ptr::NonNull;
use std::sync::Arc;

use crate::sync::AcquireError;
use crate::sync::cancel::{NoAnswer, uncancelled};
use crate::sync::deadlock::{Held, died, wait_for_lock, wait_for_oneself};
use crate::sync::owned::Owned;
use crate::sync::patience::Patience;
use crate::sync::primitive::RawMutex;
use crate::sync::thread::me;
use crate::sync::waiter::{Answer, Queue, Waiter, wake_all};
use crate::table::primitive::{
    AtomicU32, AtomicUsize, Mutex, Ordering::Relaxed, lock, maybe_const_fn,
};

/// How often in a row a monitor is handed over before the lock is given back for once, so that others get in.
const MOST_TURNS: u32 = if cfg!(any(loom, shuttle)) { 1 } else { 32 };

pub(super) struct Gate {
    lock: Owned<RawMutex>,
    /// How often in a row it was handed over. Changed by who is inside.
    turns: AtomicU32,
    /// How many wait for conditions. Changed under the lock of the queue.
    waiting: AtomicUsize,
    state: Mutex<State>,
}

struct State {
    queue: Queue<Wish>,
    /// How many waits have begun.
    begun: u64,
    looking_at: Option<Look>,
}

struct Look {
    /// The number of the wait.
    number: u64,
    /// Who waits has done so meanwhile, and waits for the end of the look.
    has_given_up: bool,
}

/// What somebody waits for.
struct Wish {
    /// Counted from 1.
    number: u64,
    /// Who is to own the monitor then.
    thread: u64,
    condition: NonNull<Condition<'static>>,
    /// What has become of it. Written before the answer.
    verdict: Mutex<Option<Verdict>>,
}

/// Whether to wait on.
pub(super) type Condition<'a> = dyn FnMut() -> bool + Send + 'a;

// SAFETY: the condition is `Send`, and called by one thread at a time: see "The conditions".
unsafe impl Send for Wish {}
// SAFETY: as above.
unsafe impl Sync for Wish {}

/// What has become of a wait.
enum Verdict {
    /// The condition has come about, and the waiter is inside.
    Inside,
    /// The condition has come about, and the waiter is to enter by itself.
    Enter,
    /// It has given up.
    GivenUp,
    Panicked(Box<dyn Any + Send>),
    /// That thread has ended inside.
    Died(u64),
}

/// What follows a look.
enum AfterLook {
    LookOn,
    /// The one that was looked at is inside.
    Inside,
    /// This one is to be told that it may enter, when the lock is free.
    Enter(Arc<Waiter<Wish>>),
}

impl Gate {
    maybe_const_fn! {
        pub(super) const fn new(name: Option<&'static str>) -> Self {
            Self {
                lock: Owned::new(RawMutex::new(), name),
                turns: AtomicU32::new(0),
                waiting: AtomicUsize::new(0),
                state: Mutex::new(State {
                    queue: Queue::new(),
                    begun: 0,
                    looking_at: None,
                }),
            }
        }
    }

    #[inline]
    pub(super) fn enter(&self, patience: Patience) -> Result<(), AcquireError> {
        if matches!(patience, Patience::Until(_)) && self.lock.is_mine() {
            // It would end by itself, but in vain.
            return Err(wait_for_oneself(&self.lock));
        }
        self.lock.lock(patience)?;
        if self.turns.load(Relaxed) != 0 {
            self.turns.store(0, Relaxed);
        }
        Ok(())
    }

    pub(super) fn is_locked(&self) -> bool {
        self.lock.is_locked()
    }

    /// Hands the monitor to somebody whose condition has come about, or leaves it free.
    ///
    /// # Safety
    ///
    /// The calling thread is inside, and behaves as one that isn't from now on.
    #[inline]
    pub(super) unsafe fn leave(&self) {
        // SAFETY: as for the caller.
        unsafe { self.leave_but(0) };
    }

    /// As `leave`, without a look at that wait.
    ///
    /// # Safety
    ///
    /// As for `leave`.
    #[inline]
    unsafe fn leave_but(&self, own: u64) {
        if self.waiting.load(Relaxed) == 0 {
            // SAFETY: as for the caller.
            unsafe { self.lock.unlock() };
        } else {
            // SAFETY: as for the caller.
            unsafe { self.look_and_leave(own) };
        }
    }

    /// Looks at all waits but that one, and leaves.
    ///
    /// # Safety
    ///
    /// As for `leave`.
    #[cold]
    unsafe fn look_and_leave(&self, own: u64) {
        // SAFETY: as for the caller.
        let next = match unsafe { self.look(own) } {
            AfterLook::Inside => return,
            AfterLook::Enter(waiter) => Some(waiter),
            AfterLook::LookOn => None,
        };
        // SAFETY: as for the caller; it wasn't handed over.
        unsafe { self.lock.unlock() };
        // Not before: see "Turns".
        if let Some(next) = next {
            next.tell(Verdict::Enter);
            wake_all(vec![next]);
        }
    }

    /// Looks at one wait after the other, but not at that one. `LookOn` if there is none any more.
    ///
    /// # Safety
    ///
    /// As for `leave`.
    unsafe fn look(&self, own: u64) -> AfterLook {
        let mut last = 0;
        loop {
            let mut state = lock(&self.state);
            // They stand in the order of their numbers.
            let next = state.queue.first_left(|wish| wish.number <= last).cloned();
            let Some(waiter) = next else {
                return AfterLook::LookOn;
            };
            last = waiter.wish.number;
            if last == own {
                continue;
            }
            state.looking_at = Some(Look {
                number: last,
                has_given_up: false,
            });
            drop(state);

            // With nothing locked but the monitor: it is user code.
            //
            // SAFETY: who waits stays in its frame as long as somebody looks, and this thread is inside.
            let condition = || unsafe { (*waiter.wish.condition.as_ptr())() };
            let is_to_wait = panic::catch_unwind(AssertUnwindSafe(|| uncancelled(condition)));
            // SAFETY: as for the caller.
            match unsafe { self.end_look(waiter, is_to_wait) } {
                AfterLook::LookOn => {}
                then => return then,
            }
        }
    }

    /// Answers the one that was looked at, or lets it wait on.
    ///
    /// # Safety
    ///
    /// As for `leave`.
    unsafe fn end_look(
        &self,
        waiter: Arc<Waiter<Wish>>,
        is_to_wait: Result<bool, Box<dyn Any + Send>>,
    ) -> AfterLook {
        let mut state = lock(&self.state);
        let look = state.looking_at.take().expect("this thread looks");
        // What nobody gets of it, if a condition has panicked, is dropped when nothing is locked: it is user code.
        let outcome = (self.lock.dead_owner(), is_to_wait);
        let (verdict, then) = match outcome {
            // This thread's end was told. Who has come for the others hasn't touched this one.
            (Some(owner), _) => (Verdict::Died(owner), AfterLook::LookOn),
            (None, Err(panic)) => (Verdict::Panicked(panic), AfterLook::LookOn),
            (None, Ok(true)) if look.has_given_up => (Verdict::GivenUp, AfterLook::LookOn),
            (None, Ok(true)) => return AfterLook::LookOn,
            (None, Ok(false)) if self.turns.load(Relaxed) >= MOST_TURNS => {
                self.take(&mut state, &waiter);
                return AfterLook::Enter(waiter);
            }
            // SAFETY: as for the caller.
            (None, Ok(false)) => match unsafe { self.lock.hand_over(waiter.wish.thread) } {
                Ok(()) => {
                    // Relaxed: changed by who is inside, and it is the waiter's turn only when it is answered.
                    self.turns.store(self.turns.load(Relaxed) + 1, Relaxed);
                    (Verdict::Inside, AfterLook::Inside)
                }
                Err(owner) => (Verdict::Died(owner), AfterLook::LookOn),
            },
        };
        self.take(&mut state, &waiter);
        waiter.tell(verdict);
        drop(state);
        wake_all(vec![waiter]);
        then
    }

    /// Takes the one that was looked at out of the queue.
    fn take(&self, state: &mut State, waiter: &Arc<Waiter<Wish>>) {
        let was_there = state.queue.remove(waiter);
        debug_assert!(was_there, "nobody else takes the one that is looked at");
        self.count(state);
    }

    /// To be called by who was to enter and doesn't try: see "Turns".
    fn pass_on(&self) {
        // Relaxed: who is behind this thread in the queue was counted before this thread was woken.
        if self.waiting.load(Relaxed) != 0 && self.enter(Patience::None).is_ok() {
            // SAFETY: this thread has just entered.
            unsafe { self.leave() };
        }
    }

    fn count(&self, state: &State) {
        self.waiting.store(state.queue.len(), Relaxed);
    }

    /// Waits as long as the condition is true, and answers whether it was so even when the time was over.
    ///
    /// # Errors
    ///
    /// If the thread that is inside ends, the calling one is cancelled, or it can't enter again. It is outside then.
    ///
    /// # Panics
    ///
    /// If the condition does, on whatever thread. The calling one is outside then.
    ///
    /// # Safety
    ///
    /// The calling thread is inside, and from now on behaves as one that isn't, until it is told that it is.
    pub(super) unsafe fn wait_while(
        &self,
        condition: &mut Condition<'_>,
        patience: Patience,
    ) -> Result<bool, AcquireError> {
        let mut number = 0;
        loop {
            if !self.ask(condition) {
                return Ok(false);
            }
            // SAFETY: as for the caller.
            let (verdict, answer) = unsafe { self.wait(&mut number, condition, patience) };
            match (verdict, answer) {
                (Verdict::Inside, _) => return Ok(false),
                (Verdict::Enter, _) => self.enter(Patience::Forever)?,
                (Verdict::GivenUp, Err(NoAnswer::Cancelled)) => {
                    return Err(AcquireError::Cancelled);
                }
                (Verdict::GivenUp, _) => {
                    self.enter(Patience::Forever)?;
                    return Ok(self.ask(condition));
                }
                (Verdict::Panicked(panic), _) => panic::resume_unwind(panic),
                (Verdict::Died(owner), _) => return Err(died(owner)),
            }
        }
    }

    /// Whether to wait on. The thread is inside, and leaves if the condition panics.
    fn ask(&self, condition: &mut Condition<'_>) -> bool {
        let inside = Inside(self);
        let is_to_wait = condition();
        mem::forget(inside);
        is_to_wait
    }

    /// Leaves, and waits until there is a verdict, which only `Inside` brings inside again. Who waits on for the same
    /// condition gives the number that it had; 0 is none yet.
    ///
    /// # Safety
    ///
    /// As for `leave`.
    unsafe fn wait(
        &self,
        number: &mut u64,
        condition: &mut Condition<'_>,
        patience: Patience,
    ) -> (Verdict, Result<Answer, NoAnswer>) {
        // SAFETY: a change of the lifetime only: the place keeps this frame until nobody calls the condition any more.
        let condition = unsafe {
            mem::transmute::<NonNull<Condition<'_>>, NonNull<Condition<'static>>>(NonNull::from(
                condition,
            ))
        };
        let place = self.enqueue(number, condition);
        // SAFETY: as for the caller.
        unsafe { self.leave_but(*number) };
        let answer = self.sleep(&place.waiter, patience);
        (place.leave(answer), answer)
    }

    fn enqueue(&self, number: &mut u64, condition: NonNull<Condition<'static>>) -> Place<'_> {
        let thread = me();
        let mut state = lock(&self.state);
        if *number == 0 {
            state.begun += 1;
            *number = state.begun;
        }
        let number = *number;
        let waiter = Waiter::thread(Wish {
            number,
            thread,
            condition,
            verdict: Mutex::new(None),
        });
        state
            .queue
            .insert(waiter.clone(), |other| other.number < number);
        self.count(&state);
        drop(state);
        Place {
            gate: self,
            waiter,
            is_left: false,
        }
    }

    fn sleep(&self, waiter: &Arc<Waiter<Wish>>, patience: Patience) -> Result<Answer, NoAnswer> {
        let (look, end) = patience.look_and_end();
        let answer = waiter.sleep(Some(look));
        if answer != Err(NoAnswer::TimedOut) || end == Some(look) {
            return answer;
        }
        // Who makes the condition come about isn't known, so this is part of no circle.
        //
        // SAFETY: we have a reference to it, and drop the registration here.
        match unsafe { wait_for_lock(self, true) } {
            Ok(registered) => {
                let answer = waiter.sleep(end);
                drop(registered);
                answer
            }
            Err(_) => {
                let owner = self.lock.dead_owner();
                self.refuse_all(owner.expect("such a wait is refused for nothing else"));
                // By us or by others; or if somebody looks just now, by that one.
                Ok(waiter.sleep_on())
            }
        }
    }

    /// The thread that was inside has ended.
    fn refuse_all(&self, owner: u64) {
        let mut state = lock(&self.state);
        let State {
            queue, looking_at, ..
        } = &mut *state;
        let looked_at = looking_at.as_ref().map(|look| look.number);
        let refused = queue.answer_some(usize::MAX, Answer::Granted, |wish| {
            let is_meant = Some(wish.number) != looked_at;
            if is_meant {
                *lock(&wish.verdict) = Some(Verdict::Died(owner));
            }
            is_meant
        });
        self.count(&state);
        drop(state);
        wake_all(refused);
    }
}

impl Waiter<Wish> {
    fn tell(&self, verdict: Verdict) {
        *lock(&self.wish.verdict) = Some(verdict);
        self.answer(Answer::Granted);
    }
}

impl Held for Gate {
    fn name(&self) -> Option<&'static str> {
        Held::name(&self.lock)
    }

    fn owner(&self) -> Option<u64> {
        self.lock.owner()
    }

    fn dead_owner(&self) -> Option<u64> {
        self.lock.dead_owner()
    }

    fn abandon(&self, thread: u64) {
        self.lock.abandon(thread);
        if let Some(owner) = self.lock.dead_owner() {
            self.refuse_all(owner);
        }
    }
}

/// Leaves when it is dropped: if a condition panics.
struct Inside<'a>(&'a Gate);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        // SAFETY: it is made by a thread that is inside, and forgotten by one that stays there.
        unsafe { self.0.leave() };
    }
}

/// A place in the queue. As long as it is there others may call the condition.
struct Place<'a> {
    gate: &'a Gate,
    waiter: Arc<Waiter<Wish>>,
    is_left: bool,
}

impl Place<'_> {
    fn leave(mut self, answer: Result<Answer, NoAnswer>) -> Verdict {
        self.is_left = true;
        match answer {
            Ok(_) => self.verdict(),
            Err(_) => self.give_up(),
        }
    }

    /// Leaves the queue. If there is a verdict already, or one in the making, it counts.
    fn give_up(&self) -> Verdict {
        let Wish { number, .. } = self.waiter.wish;
        let mut state = lock(&self.gate.state);
        match &mut state.looking_at {
            Some(look) if look.number == number => look.has_given_up = true,
            _ => {
                if state.queue.remove(&self.waiter) {
                    self.gate.count(&state);
                    return Verdict::GivenUp;
                }
            }
        }
        drop(state);
        self.waiter.sleep_on();
        self.verdict()
    }

    fn verdict(&self) -> Verdict {
        let verdict = lock(&self.waiter.wish.verdict).take();
        verdict.expect("who is answered is told what has become of it")
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.is_left {
            return;
        }
        match self.give_up() {
            // SAFETY: it was handed over to this thread, which doesn't want it any more.
            Verdict::Inside => unsafe { self.gate.leave() },
            Verdict::Enter => self.gate.pass_on(),
            Verdict::GivenUp | Verdict::Panicked(_) | Verdict::Died(_) => {}
        }
    }
}
