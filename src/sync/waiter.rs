//! Those who wait in a queue: threads, which sleep, and tasks, which are polled.
//!
//! Each is *answered* once, by whoever takes it out under the lock of the queue, and woken when that lock is free again.
//! Who gives up takes itself out, under the same lock; if it isn't there any more, it was answered, and that counts. (A
//! barrier takes waiters out before it knows the answer, and a monitor before it gives it: who gives up then waits for that.)

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use super::cancel::{NoAnswer, Watch};
use super::primitive::Parker;
use crate::table::primitive::{AtomicU8, Mutex, Ordering, lock};
use crate::table::wake_tasks;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Granted,
    Refused,
}

const NONE: u8 = 0;
const GRANTED: u8 = 1;
const REFUSED: u8 = 2;

/// Somebody who waits, and what for.
pub(super) struct Waiter<W> {
    pub(super) wish: W,
    /// Changed once, by whoever has taken it out of the queue.
    answer: AtomicU8,
    sleeper: Sleeper,
}

enum Sleeper {
    Thread(Parker),
    /// By whom the task was last polled, if it was.
    Task(Mutex<Option<Waker>>),
}

/// Somebody who sleeps.
pub(super) trait Unpark: Send + Sync {
    /// Lets it look whether it is to sleep on.
    fn unpark(&self);
}

impl<W: Send + Sync> Unpark for Waiter<W> {
    fn unpark(&self) {
        if let Sleeper::Thread(parker) = &self.sleeper {
            parker.unpark();
        }
    }
}

impl<W> Waiter<W> {
    /// The calling thread.
    pub(super) fn thread(wish: W) -> Arc<Self> {
        Self::new(wish, Sleeper::Thread(Parker::new()))
    }

    pub(super) fn task(wish: W) -> Arc<Self> {
        Self::new(wish, Sleeper::Task(Mutex::new(None)))
    }

    fn new(wish: W, sleeper: Sleeper) -> Arc<Self> {
        Arc::new(Self {
            wish,
            answer: AtomicU8::new(NONE),
            sleeper,
        })
    }

    /// Once, by whoever has taken it out of the queue.
    pub(super) fn answer(&self, answer: Answer) {
        let answer = match answer {
            Answer::Granted => GRANTED,
            Answer::Refused => REFUSED,
        };
        // Release: pairs with the Acquire in `answered`; what came before is seen.
        self.answer.store(answer, Ordering::Release);
    }

    pub(super) fn answered(&self) -> Option<Answer> {
        // Acquire: pairs with the Release in `answer`.
        match self.answer.load(Ordering::Acquire) {
            GRANTED => Some(Answer::Granted),
            REFUSED => Some(Answer::Refused),
            _ => None,
        }
    }

    /// Sleeps until there is an answer, whatever happens. The calling thread must be the one that waits.
    pub(super) fn sleep_on(&self) -> Answer {
        loop {
            if let Some(answer) = self.answered() {
                return answer;
            }
            self.parker().park(None);
        }
    }

    fn parker(&self) -> &Parker {
        match &self.sleeper {
            Sleeper::Thread(parker) => parker,
            Sleeper::Task(_) => unreachable!("tasks don't sleep"),
        }
    }

    /// As [`sleep`](Self::sleep), for a task.
    pub(super) fn poll(&self, cx: &Context<'_>) -> Poll<Answer> {
        if let Some(answer) = self.answered() {
            return Poll::Ready(answer);
        }
        let Sleeper::Task(waker) = &self.sleeper else {
            unreachable!("threads aren't polled");
        };
        let is_known = lock(waker)
            .as_ref()
            .is_some_and(|known| known.will_wake(cx.waker()));
        if !is_known {
            // Cloned and dropped without the lock: it is user code.
            let new = cx.waker().clone();
            let old = lock(waker).replace(new);
            drop(old);
        }
        // Whoever has answered meanwhile may have come for the waker before it was there.
        self.answered().map_or(Poll::Pending, Poll::Ready)
    }
}

impl<W: Send + Sync + 'static> Waiter<W> {
    /// Sleeps until there is an answer, a moment has come, or the thread is cancelled. The calling thread must be the one
    /// that waits.
    pub(super) fn sleep(self: &Arc<Self>, until: Option<Instant>) -> Result<Answer, NoAnswer> {
        let sleeper: Arc<dyn Unpark> = self.clone();
        let watch = Watch::new(&sleeper);
        loop {
            if let Some(answer) = self.answered() {
                return Ok(answer);
            }
            if watch.is_cancelled() {
                return Err(NoAnswer::Cancelled);
            }
            if !self.parker().park(until) {
                return Err(NoAnswer::TimedOut);
            }
        }
    }
}

/// First come, first served. It is to be kept behind a lock.
pub(super) struct Queue<W>(VecDeque<Arc<Waiter<W>>>);

impl<W> Queue<W> {
    pub(super) const fn new() -> Self {
        Self(VecDeque::new())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn push(&mut self, waiter: Arc<Waiter<W>>) {
        self.0.push_back(waiter);
    }

    pub(super) fn head(&self) -> Option<&Waiter<W>> {
        self.0.front().map(|waiter| &**waiter)
    }

    /// Puts one behind all that come before it, which stand in front of all others.
    pub(super) fn insert(&mut self, waiter: Arc<Waiter<W>>, comes_before: impl Fn(&W) -> bool) {
        let place = self.0.partition_point(|other| comes_before(&other.wish));
        self.0.insert(place, waiter);
    }

    /// The first one that hasn't passed yet, if all that have stand in front of it.
    pub(super) fn first_left(&self, has_passed: impl Fn(&W) -> bool) -> Option<&Arc<Waiter<W>>> {
        let first = self.0.partition_point(|waiter| has_passed(&waiter.wish));
        self.0.get(first)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &W> {
        self.0.iter().map(|waiter| &waiter.wish)
    }

    /// Whether that one hasn't been answered.
    pub(super) fn contains(&self, waiter: &Arc<Waiter<W>>) -> bool {
        self.0.iter().any(|other| Arc::ptr_eq(other, waiter))
    }

    /// Answers the first one, and takes it out.
    pub(super) fn answer_head(&mut self, answer: Answer) -> Option<Arc<Waiter<W>>> {
        let head = self.0.pop_front()?;
        head.answer(answer);
        Some(head)
    }

    /// Answers the first ones that are meant, at most so many, and takes them out.
    pub(super) fn answer_some(
        &mut self,
        most: usize,
        answer: Answer,
        mut is_meant: impl FnMut(&W) -> bool,
    ) -> Vec<Arc<Waiter<W>>> {
        let mut answered = Vec::new();
        let mut at = 0;
        while at < self.0.len() && answered.len() < most {
            if is_meant(&self.0[at].wish) {
                let waiter = self.0.remove(at).expect("it is there");
                waiter.answer(answer);
                answered.push(waiter);
            } else {
                at += 1;
            }
        }
        answered
    }

    /// Takes all out, unanswered.
    pub(super) fn take(&mut self) -> Vec<Arc<Waiter<W>>> {
        self.0.drain(..).collect()
    }

    /// Takes one out that gives up. Whether it was there.
    pub(super) fn remove(&mut self, waiter: &Arc<Waiter<W>>) -> bool {
        let at = self.0.iter().position(|other| Arc::ptr_eq(other, waiter));
        at.and_then(|at| self.0.remove(at)).is_some()
    }
}

/// When the lock of the queue is free again. First the threads, since the wakers of tasks are user code.
pub(super) fn wake_all<W>(answered: Vec<Arc<Waiter<W>>>) {
    for waiter in &answered {
        if let Sleeper::Thread(parker) = &waiter.sleeper {
            parker.unpark();
        }
    }
    wake_tasks(answered.iter().filter_map(|waiter| match &waiter.sleeper {
        Sleeper::Task(waker) => lock(waker).take(),
        Sleeper::Thread(_) => None,
    }));
}
