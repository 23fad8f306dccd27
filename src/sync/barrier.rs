//! `Barrier`: threads that wait for each other.
//!
//! Those who have come stand in a queue, which the last one takes, and answers. If there is something to be done before,
//! the barrier is *acting* meanwhile: who comes waits at the door until that is over, and so does who wants to pass it
//! again. To break the barrier is to refuse those in the queue and at the door. Those whose action is running are answered
//! when it is over: they are refused if it has panicked, or the barrier was aborted or reset meanwhile.

use std::error::Error;
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cancel::{Cancelled, NoAnswer, check_cancelled};
use super::patience::Patience;
use super::waiter::{Answer, Queue, Waiter, wake_all};
use crate::table::primitive::{Mutex, MutexGuard, lock};

/// A number of threads that wait for each other, again and again: Python's `Barrier`.
///
/// It *breaks* when somebody's time is over before all have come, when the action panics, and by [`abort`](Self::abort):
/// then all who wait get an error, and all who come, until it is [`reset`](Self::reset). Those who are complete, and whose
/// action is running, pass in spite of others that lose patience behind them, but not in spite of an `abort` or a `reset`.
/// Waits for it are no part of what
/// is looked at for deadlocks.
///
/// # Examples
///
/// ```
/// use std::thread;
///
/// use hapax::sync::Barrier;
///
/// let barrier = Barrier::new(3)?;
/// let mut places = thread::scope(|scope| {
///     let threads = [(); 3].map(|()| scope.spawn(|| barrier.wait()));
///     threads.map(|thread| thread.join().unwrap().unwrap())
/// });
/// places.sort();
/// assert_eq!(places, [0, 1, 2]);
/// # Ok::<_, hapax::sync::BarrierError>(())
/// ```
#[doc(alias = "threading.Barrier")]
pub struct Barrier {
    parties: usize,
    time: Option<Duration>,
    /// Locked by the one who acts.
    action: Option<Mutex<Action>>,
    state: Mutex<State>,
}

type Action = Box<dyn FnMut() + Send>;

struct State {
    /// Those who wait for others to come. Always fewer than all.
    queue: Queue<()>,
    /// Those who have come while the last ones' action runs.
    door: Queue<()>,
    is_acting: bool,
    is_broken: bool,
    /// How often those who wait have been refused by [`Barrier::abort`] and [`Barrier::reset`].
    refusals: u64,
}

impl Barrier {
    /// A barrier for so many threads.
    ///
    /// # Errors
    ///
    /// [`BarrierError::NoParties`] for none.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::{Barrier, BarrierError};
    ///
    /// assert_eq!(Barrier::new(1)?.wait(), Ok(0));
    /// assert_eq!(Barrier::new(0).unwrap_err(), BarrierError::NoParties);
    /// # Ok::<_, BarrierError>(())
    /// ```
    pub fn new(parties: usize) -> Result<Self, BarrierError> {
        if parties == 0 {
            return Err(BarrierError::NoParties);
        }
        Ok(Self {
            parties,
            time: None,
            action: None,
            state: Mutex::new(State {
                queue: Queue::new(),
                door: Queue::new(),
                is_acting: false,
                is_broken: false,
                refusals: 0,
            }),
        })
    }

    /// With something that the last one does, each time, before the others go on. If it panics the barrier breaks, and
    /// the panic goes on there. It must not wait for the barrier itself: that would last for ever.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::Barrier;
    ///
    /// let barrier = Barrier::new(1)?.with_action(|| println!("all are here"));
    /// barrier.wait()?;
    /// # Ok::<_, hapax::sync::BarrierError>(())
    /// ```
    #[must_use]
    pub fn with_action(mut self, action: impl FnMut() + Send + 'static) -> Self {
        self.action = Some(Mutex::new(Box::new(action)));
        self
    }

    /// With a time after which a [`wait`](Self::wait) breaks the barrier if not all have come. The action isn't limited by
    /// it.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use hapax::sync::{Barrier, BarrierError};
    ///
    /// let barrier = Barrier::new(2)?.with_timeout(Duration::from_millis(1));
    /// assert_eq!(barrier.wait(), Err(BarrierError::TimedOut));
    /// # Ok::<_, BarrierError>(())
    /// ```
    #[must_use]
    pub fn with_timeout(mut self, time: Duration) -> Self {
        self.time = Some(time);
        self
    }

    /// Waits until all have come. Returns how many had come before: each thread gets another number, and 0 is the first.
    ///
    /// # Errors
    ///
    /// - [`BarrierError::Broken`] if the barrier is broken, or breaks before all have come;
    /// - [`BarrierError::TimedOut`] if it breaks because the time is over that it was [made
    ///   with](Self::with_timeout);
    /// - [`BarrierError::Cancelled`] if it breaks because the thread is cancelled.
    ///
    /// # Panics
    ///
    /// If the action does, for the last thread.
    ///
    /// # Examples
    ///
    /// See [`Barrier`].
    ///
    /// ```
    /// use hapax::sync::{Barrier, BarrierError};
    ///
    /// let barrier = Barrier::new(2)?;
    /// barrier.abort();
    /// assert_eq!(barrier.wait(), Err(BarrierError::Broken));
    /// # Ok::<_, BarrierError>(())
    /// ```
    pub fn wait(&self) -> Result<usize, BarrierError> {
        self.wait_with(self.time.map_or(Patience::Forever, Patience::lasting))
    }

    /// As [`wait`](Self::wait), but breaks the barrier if not all have come after so long.
    ///
    /// # Errors
    ///
    /// As for [`wait`](Self::wait).
    ///
    /// # Panics
    ///
    /// As for [`wait`](Self::wait).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use hapax::sync::{Barrier, BarrierError};
    ///
    /// let barrier = Barrier::new(2)?;
    /// assert_eq!(barrier.wait_for(Duration::from_millis(1)), Err(BarrierError::TimedOut));
    /// assert!(barrier.is_broken());
    /// # Ok::<_, BarrierError>(())
    /// ```
    pub fn wait_for(&self, time: Duration) -> Result<usize, BarrierError> {
        self.wait_with(Patience::lasting(time))
    }

    /// As [`wait_for`](Self::wait_for), until a moment.
    ///
    /// # Errors
    ///
    /// As for [`wait`](Self::wait).
    ///
    /// # Panics
    ///
    /// As for [`wait`](Self::wait).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Instant;
    ///
    /// use hapax::sync::Barrier;
    ///
    /// assert_eq!(Barrier::new(1)?.wait_until(Instant::now()), Ok(0));
    /// # Ok::<_, hapax::sync::BarrierError>(())
    /// ```
    pub fn wait_until(&self, moment: Instant) -> Result<usize, BarrierError> {
        self.wait_with(Patience::Until(moment))
    }

    fn wait_with(&self, patience: Patience) -> Result<usize, BarrierError> {
        let end = patience.end();
        let mut state = self.enter(end)?;
        let place = state.queue.len();
        if place + 1 < self.parties {
            let waiter = Waiter::thread(());
            state.queue.push(waiter.clone());
            drop(state);
            return self.sleep(&waiter, end).map(|()| place);
        }
        let others = state.queue.take();
        match &self.action {
            None => {
                drop(state);
                answer_all(others, Answer::Granted);
            }
            Some(action) => self.act(action, state, others)?,
        }
        Ok(place)
    }

    /// Waits until nobody acts.
    fn enter(&self, end: Option<Instant>) -> Result<MutexGuard<'_, State>, BarrierError> {
        loop {
            let mut state = lock(&self.state);
            if state.is_broken {
                return Err(BarrierError::Broken);
            }
            if !state.is_acting {
                return Ok(state);
            }
            let waiter = Waiter::thread(());
            state.door.push(waiter.clone());
            drop(state);
            self.sleep(&waiter, end)?;
        }
    }

    /// Waits in the queue, or at the door.
    fn sleep(&self, waiter: &Arc<Waiter<()>>, end: Option<Instant>) -> Result<(), BarrierError> {
        let answer = waiter.sleep(end).or_else(|why| {
            let mut state = lock(&self.state);
            if state.queue.remove(waiter) || state.door.remove(waiter) {
                state.is_broken = true;
                refuse(state);
                return Err(why);
            }
            drop(state);
            // All have come in time, or it has broken.
            Ok(waiter.sleep_on())
        });
        match answer {
            Ok(Answer::Granted) => Ok(()),
            // Perhaps by a sibling that was cancelled as well.
            Ok(Answer::Refused) if check_cancelled().is_err() => Err(BarrierError::Cancelled),
            Ok(Answer::Refused) => Err(BarrierError::Broken),
            Err(NoAnswer::TimedOut) => Err(BarrierError::TimedOut),
            Err(NoAnswer::Cancelled) => Err(BarrierError::Cancelled),
        }
    }

    /// All have come, and the last one is here.
    fn act(
        &self,
        action: &Mutex<Action>,
        mut state: MutexGuard<'_, State>,
        others: Vec<Arc<Waiter<()>>>,
    ) -> Result<(), BarrierError> {
        state.is_acting = true;
        let refusals = state.refusals;
        drop(state);
        let action = panic::catch_unwind(AssertUnwindSafe(|| lock(action)()));
        let mut state = lock(&self.state);
        state.is_acting = false;
        state.is_broken |= action.is_err();
        let passes = action.is_ok() && state.refusals == refusals;
        let answer = if passes {
            Answer::Granted
        } else {
            Answer::Refused
        };
        let door = state.door.take();
        drop(state);
        answer_all(others, answer);
        // They look again.
        answer_all(door, Answer::Granted);
        match action {
            Ok(()) if passes => Ok(()),
            Ok(()) => Err(BarrierError::Broken),
            Err(panic) => panic::resume_unwind(panic),
        }
    }

    /// Breaks the barrier.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::Barrier;
    ///
    /// let barrier = Barrier::new(2)?;
    /// barrier.abort();
    /// assert!(barrier.is_broken());
    /// # Ok::<_, hapax::sync::BarrierError>(())
    /// ```
    pub fn abort(&self) {
        let mut state = lock(&self.state);
        state.is_broken = true;
        state.refusals += 1;
        refuse(state);
    }

    /// Makes it as it was at first. Those who wait get [`BarrierError::Broken`].
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::Barrier;
    ///
    /// let barrier = Barrier::new(1)?;
    /// barrier.abort();
    /// barrier.reset();
    /// assert_eq!(barrier.wait(), Ok(0));
    /// # Ok::<_, hapax::sync::BarrierError>(())
    /// ```
    pub fn reset(&self) {
        let mut state = lock(&self.state);
        state.is_broken = false;
        state.refusals += 1;
        refuse(state);
    }

    /// How many threads it is for.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::Barrier;
    ///
    /// assert_eq!(Barrier::new(3)?.parties(), 3);
    /// # Ok::<_, hapax::sync::BarrierError>(())
    /// ```
    pub fn parties(&self) -> usize {
        self.parties
    }

    /// How many wait for others to come.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::Barrier;
    ///
    /// assert_eq!(Barrier::new(3)?.waiting(), 0);
    /// # Ok::<_, hapax::sync::BarrierError>(())
    /// ```
    #[doc(alias = "n_waiting")]
    pub fn waiting(&self) -> usize {
        lock(&self.state).queue.len()
    }

    /// Whether it is broken.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::Barrier;
    ///
    /// assert!(!Barrier::new(3)?.is_broken());
    /// # Ok::<_, hapax::sync::BarrierError>(())
    /// ```
    #[doc(alias = "broken")]
    pub fn is_broken(&self) -> bool {
        lock(&self.state).is_broken
    }
}

/// Refuses those who wait for others to come, and those at the door.
fn refuse(mut state: MutexGuard<'_, State>) {
    let mut refused = state.queue.take();
    refused.extend(state.door.take());
    drop(state);
    answer_all(refused, Answer::Refused);
}

fn answer_all(waiters: Vec<Arc<Waiter<()>>>, answer: Answer) {
    waiters.iter().for_each(|waiter| waiter.answer(answer));
    wake_all(waiters);
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = lock(&self.state);
        f.debug_struct("Barrier")
            .field("waiting", &state.queue.len())
            .field("parties", &self.parties)
            .field("broken", &state.is_broken)
            .finish_non_exhaustive()
    }
}

/// Why a thread can't pass a [`Barrier`].
///
/// # Examples
///
/// ```
/// use hapax::sync::{Barrier, BarrierError};
///
/// assert_eq!(Barrier::new(0).unwrap_err(), BarrierError::NoParties);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BarrierError {
    /// It is broken, or was reset.
    #[doc(alias = "BrokenBarrierError")]
    Broken,
    /// This thread's time was over before all had come. So it has broken the barrier.
    TimedOut,
    /// This thread was cancelled before all had come: something has failed in the [`Scope`](super::Scope) that it is in. So the
    /// barrier is broken.
    Cancelled,
    /// It would be a barrier for nobody.
    NoParties,
}

impl fmt::Display for BarrierError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Broken => "the barrier is broken",
            Self::TimedOut => "the time was over before all had come to the barrier",
            Self::Cancelled => "the thread was cancelled before all had come to the barrier",
            Self::NoParties => "a barrier for no threads",
        })
    }
}

impl Error for BarrierError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Cancelled => Some(&Cancelled),
            _ => None,
        }
    }
}
