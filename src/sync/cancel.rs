//! Telling threads that nobody wants what they do any more.
//!
//! A *token* can be cancelled, for good. A thread has the tokens of the scopes that it is in, as a child or as the one that has
//! opened it, and of the scopes that those are in. It is cancelled if one of them is.
//!
//! Who is about to sleep leaves its waiter with each of its tokens, under the token's lock, and looks afterwards whether it is
//! cancelled; who cancels says so, and takes the waiters that are there, under the same lock, and wakes them. So either it
//! finds the waiter, or that one sees it: nobody who is cancelled sleeps on. Who is woken takes itself out of whatever queue
//! it is in, and if it was answered meanwhile that counts.
//!
//! The raw locks are parking_lot's, from which nobody can be woken. Who waits for one looks from time to time: after 10 ms,
//! and then each time after twice as long, up to a second, since each look costs the place in the queue.

use std::cell::RefCell;
use std::error::Error;
use std::fmt;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::patience::Patience;
use super::primitive::Raw;
use super::waiter::{Answer, Unpark, Waiter};
use crate::table::primitive::{AtomicBool, Mutex, Ordering, local, lock};

/// The thread is in a [`Scope`](super::Scope) in which something has failed: so nobody wants what it does any more, and
/// waits of this module end.
///
/// # Examples
///
/// See [`check_cancelled`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cancelled;

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the thread was cancelled, since its scope has failed")
    }
}

impl Error for Cancelled {}

/// Whether the calling thread was cancelled: for what takes long and doesn't wait.
///
/// # Errors
///
/// [`Cancelled`] if it is in a [`Scope`](super::Scope), as a child or within the call that has opened it, in which a child
/// has failed, or that call's closure; or in such a one within such a one. What was done before that failure is seen.
///
/// # Examples
///
/// ```
/// use hapax::sync::{check_cancelled, scope};
///
/// let answer = scope::<(), _>(|scope| {
///     scope.spawn(|| loop {
///         check_cancelled()?;
///     });
///     Err("something else".into())
/// });
/// assert_eq!(answer.unwrap_err().to_string(), "something else");
/// ```
pub fn check_cancelled() -> Result<(), Cancelled> {
    if with_tokens(any_is_cancelled) {
        Err(Cancelled)
    } else {
        Ok(())
    }
}

/// Sleeps for so long, as [`std::thread::sleep`] does, unless the thread is cancelled.
///
/// # Errors
///
/// [`Cancelled`] as for [`check_cancelled`], at once when that happens.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use hapax::sync::{scope, sleep};
///
/// let answer = scope(|scope| {
///     scope.spawn(|| Ok(sleep(Duration::from_secs(3600))?));
///     Err("something else".into())
/// });
/// assert_eq!(answer.unwrap_err().to_string(), "something else");
/// ```
pub fn sleep(time: Duration) -> Result<(), Cancelled> {
    match Waiter::thread(()).sleep(Patience::lasting(time).end()) {
        Err(NoAnswer::Cancelled) => Err(Cancelled),
        Err(NoAnswer::TimedOut) | Ok(Answer::Granted | Answer::Refused) => Ok(()),
    }
}

/// Why nobody has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoAnswer {
    TimedOut,
    Cancelled,
}

#[derive(Default)]
pub(crate) struct Token {
    /// Set under the lock, once.
    is_cancelled: AtomicBool,
    sleepers: Mutex<Vec<Arc<dyn Unpark>>>,
}

impl Token {
    pub(super) fn is_cancelled(&self) -> bool {
        // Acquire: pairs with the Release in `cancel`; what came before is seen.
        self.is_cancelled.load(Ordering::Acquire)
    }

    pub(crate) fn cancel(&self) {
        let mut sleepers = lock(&self.sleepers);
        // Release: pairs with the Acquire in `is_cancelled`.
        self.is_cancelled.store(true, Ordering::Release);
        let woken = mem::take(&mut *sleepers);
        drop(sleepers);
        woken.iter().for_each(|sleeper| sleeper.unpark());
    }
}

pub(super) fn any_is_cancelled(tokens: &[Arc<Token>]) -> bool {
    tokens.iter().any(|token| token.is_cancelled())
}

local! { static TOKENS: RefCell<Vec<Arc<Token>>> = RefCell::new(Vec::new()) }

/// Asks the tokens of the calling thread. While thread-locals are destroyed it has none.
fn with_tokens<R: Default>(f: impl FnOnce(&[Arc<Token>]) -> R) -> R {
    let answer = TOKENS.try_with(|tokens| f(&tokens.borrow()));
    answer.unwrap_or_default()
}

/// The tokens of the calling thread, for a thread that it begins.
pub(super) fn tokens() -> Vec<Arc<Token>> {
    with_tokens(<[_]>::to_vec)
}

/// The calling thread has further tokens as long as this is there. The last one that was made goes first.
pub(crate) struct Within(usize);

impl Within {
    pub(crate) fn new(tokens: Vec<Arc<Token>>) -> Self {
        let number = tokens.len();
        let known = TOKENS.try_with(|known| known.borrow_mut().extend(tokens));
        Self(known.map_or(0, |()| number))
    }
}

impl Drop for Within {
    fn drop(&mut self) {
        let _ = TOKENS.try_with(|tokens| {
            let mut tokens = tokens.borrow_mut();
            let left = tokens.len() - self.0;
            tokens.truncate(left);
        });
    }
}

/// Calls `f` as a thread that can't be cancelled: for what it does in another one's place.
pub(super) fn uncancelled<R>(f: impl FnOnce() -> R) -> R {
    /// Gives the tokens back.
    struct SetAside(Vec<Arc<Token>>);

    impl Drop for SetAside {
        fn drop(&mut self) {
            let _ = TOKENS.try_with(|tokens| tokens.replace(mem::take(&mut self.0)));
        }
    }

    let tokens = TOKENS.try_with(RefCell::take).unwrap_or_default();
    let _set_aside = SetAside(tokens);
    f()
}

/// Lets who cancels the calling thread wake a waiter, as long as this is there.
pub(super) struct Watch<'a> {
    tokens: Vec<Arc<Token>>,
    sleeper: &'a Arc<dyn Unpark>,
}

impl<'a> Watch<'a> {
    pub(super) fn new(sleeper: &'a Arc<dyn Unpark>) -> Self {
        let tokens = tokens();
        for token in &tokens {
            lock(&token.sleepers).push(sleeper.clone());
        }
        Self { tokens, sleeper }
    }

    pub(super) fn is_cancelled(&self) -> bool {
        any_is_cancelled(&self.tokens)
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        for token in &self.tokens {
            let mut sleepers = lock(&token.sleepers);
            let place = sleepers
                .iter()
                .position(|other| Arc::ptr_eq(other, self.sleeper));
            place.map(|place| sleepers.swap_remove(place));
        }
    }
}

/// Whether the calling thread may ever be cancelled.
pub(super) fn can_be_cancelled() -> bool {
    with_tokens(|tokens| !tokens.is_empty())
}

/// Waits for a raw lock, at most until a moment, and until the thread is cancelled.
pub(super) fn lock_raw(raw: &impl Raw, until: Option<Instant>) -> Result<(), NoAnswer> {
    /// Under a checker time stands still: there each look is a step.
    const FIRST: Duration = Duration::from_millis(if cfg!(any(loom, shuttle)) { 0 } else { 10 });
    const LONGEST: Duration = Duration::from_secs(1);
    if !can_be_cancelled() {
        return raw.lock(until).then_some(()).ok_or(NoAnswer::TimedOut);
    }
    let mut time = FIRST;
    loop {
        if check_cancelled().is_err() {
            return Err(NoAnswer::Cancelled);
        }
        let look = Instant::now() + time;
        let look = until.map_or(look, |end| look.min(end));
        if raw.lock(Some(look)) {
            return Ok(());
        }
        if until == Some(look) {
            return Err(NoAnswer::TimedOut);
        }
        #[cfg(any(loom, shuttle))]
        crate::table::primitive::thread::yield_now();
        time = (time * 2).min(LONGEST);
    }
}
