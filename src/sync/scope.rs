//! `Scope`: threads that begin and end together.
//!
//! The threads are those of `std::thread::scope`, which waits for all of them in any case. Before that the one that has opened
//! the scope waits here, where that is seen: it has an edge in the wait-for graph to each child that isn't done. Such a wait
//! can't be refused, since it can't go on without its children. So if it would never end the scope fails instead: that
//! cancels the children, and those that are in the circle end by that.
//!
//! A child is done when its closure has returned, with all that it has taken with it; what the destructors of its
//! thread-locals wait for concerns nobody here. So it says under the lock of the scope that it is done, and takes the edge to
//! itself off the graph; and the opener looks under that lock whether it is done, and draws the edge. So there is an edge to
//! children only that aren't done. Children may begin further ones while the opener waits: that wakes it, to draw an edge to
//! those. Whichever is drawn last, that edge or a child's own wait, sees the rest of the circle.
//!
//! Failures are written down under one lock, which says who was first. One cancels the scope only after it is written down:
//! so those that come of that stand behind it. They are left out of what is told, unless there is nothing else: then an
//! outer scope has failed, or somebody has brought such an error from elsewhere.

use std::fmt;
use std::mem;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;

use super::cancel::{Token, Within, tokens};
use super::deadlock::{Registered, wait_for_child};
use super::failure::{Failure, ScopeError};
use crate::finalize::BoxError;
use crate::table::FirstPanic;
use crate::table::primitive::{
    Condvar, Mutex, become_thread, lock, new_thread_number, spawn_scoped, thread, wait,
};

/// Runs threads that may borrow, and waits for all of them: python-safethread's `branch`.
///
/// `f` gets a [`Scope`], by which it begins threads, the *children*. When it has returned and all children are done their
/// results are returned, in the order in which the children were begun. They are all of one type; unlike children return `()`
/// and leave what they have in a [`Monitor`](super::Monitor), say. Each child is a thread of the system: for many small pieces
/// of work begin a few that share them.
///
/// # Failures
///
/// The first failure cancels the rest. A failure is an error that a child or `f` returns, a panic of a child, or a child that
/// can't be begun. Whoever is in the scope then, the children and `f`, and those of scopes within it, is *cancelled*: its waits
/// in [`sync`](crate::sync) end with an error, those that have begun and those to come, and
/// [`check_cancelled`](super::check_cancelled) says so to who doesn't wait. So whoever passes such errors on, by `?`, ends
/// soon. What can be had without a wait is given also to who is cancelled.
///
/// Who waits for a lock looks whether it is cancelled after 10 ms, and then after 20, 40 and so on, at last each second; all
/// other waits end at once. Not cancelled are waits of other libraries, those within
/// [`blocking_on`](super::deadlock::blocking_on), and those for builders of [`get_or_init`](crate::WeakMap::get_or_init).
///
/// Threads take part in the search for [deadlocks](super#deadlocks): to wait for children is to wait for each of them.
///
/// # Errors
///
/// [`ScopeError`] with all that has failed, the first one first. It doesn't say which child an error is of: add to errors
/// what it takes to know. Errors that say that the thread was [cancelled](super::Cancelled) are left out if there are others:
/// those that are that, or have it among their [sources](std::error::Error::source). (One that was made with `format!` has
/// none, so it counts as a failure of its own.) If to wait for the children would be a deadlock,
/// [`AcquireError::Deadlock`](super::AcquireError::Deadlock) is among the errors.
///
/// # Panics
///
/// If `f` does: when all children are done, which are cancelled. Their failures are lost then.
///
/// # Examples
///
/// ```
/// use hapax::sync::{BoxError, Monitor, scope};
///
/// let texts = ["one two", "three", "four five six"];
/// let longest = Monitor::new(0);
/// let counts = scope(|scope| {
///     for text in texts {
///         let longest = &longest;
///         scope.spawn(move || {
///             let count = text.split(' ').count();
///             let mut longest = longest.enter()?;
///             *longest = count.max(*longest);
///             Ok(count)
///         });
///     }
///     Ok(())
/// })?;
/// assert_eq!(counts, [2, 1, 3]);
/// assert_eq!(longest.into_inner(), 3);
/// # Ok::<_, BoxError>(())
/// ```
///
/// An error of one ends all:
///
/// ```
/// use hapax::sync::{Event, scope};
///
/// let never = Event::new();
/// let answer = scope(|scope| {
///     scope.spawn(|| Ok(never.wait()?));
///     scope.spawn(|| Err("a child has failed".into()));
///     Ok(never.wait()?)
/// });
/// assert_eq!(answer.unwrap_err().to_string(), "a child has failed");
/// ```
#[doc(alias = "branch")]
#[doc(alias = "nursery")]
#[doc(alias = "TaskGroup")]
pub fn scope<'env, T, F>(f: F) -> Result<Vec<T>, ScopeError>
where
    T: Send,
    F: for<'scope> FnOnce(&Scope<'scope, 'env, T>) -> Result<(), BoxError>,
{
    let family = Arc::new(Family::new());
    let panic = thread::scope(|threads| {
        let scope = Scope {
            threads,
            family: family.clone(),
        };
        let within = Within::new(vec![family.token.clone()]);
        let answer = panic::catch_unwind(AssertUnwindSafe(|| f(&scope)));
        drop(within);
        let panic = match answer {
            Ok(Ok(())) => None,
            Ok(Err(error)) => {
                family.fail(Failure::Error(error));
                None
            }
            Err(panic) => {
                family.token.cancel();
                Some(panic)
            }
        };
        family.wait();
        panic
    });
    match panic {
        None => family.results(),
        Some(panic) => {
            let (failures, children) = family.take();
            // Their destructors may panic as well.
            let mut panics = FirstPanic::default();
            failures
                .into_iter()
                .for_each(|failure| panics.catch(|| drop(failure)));
            children
                .into_iter()
                .for_each(|child| panics.catch(|| drop(child)));
            panics.discard();
            panic::resume_unwind(panic)
        }
    }
}

/// Begins threads of a [`scope`]. Its clones do so as well: children may begin further ones.
///
/// # Examples
///
/// See [`scope`].
///
/// ```
/// use hapax::sync::{Scope, scope};
///
/// let results = scope(|scope| {
///     // The reference ends with the closure, a clone goes along with the child.
///     let within = scope.clone();
///     scope.spawn(move || {
///         within.spawn(|| Ok(2));
///         Ok(1)
///     });
///     Ok(())
/// });
/// assert_eq!(results.unwrap(), [1, 2]);
///
/// fn count_words<'scope>(scope: &Scope<'scope, '_, usize>, text: &'scope str) {
///     scope.spawn(|| Ok(text.split(' ').count()));
/// }
/// let counts = scope(|scope| {
///     count_words(scope, "one two");
///     Ok(())
/// });
/// assert_eq!(counts.unwrap(), [2]);
/// ```
///
/// Children borrow what lives longer than the scope, and nothing else:
///
/// ```compile_fail,E0373
/// # use hapax::sync::scope;
/// scope(|scope| {
///     let number = 5;
///     scope.spawn(|| Ok(number));
///     Ok(())
/// });
/// ```
pub struct Scope<'scope, 'env: 'scope, T> {
    threads: &'scope thread::Scope<'scope, 'env>,
    family: Arc<Family<T>>,
}

impl<'scope, T: Send + 'scope> Scope<'scope, '_, T> {
    /// Begins a child. If the scope has failed already it isn't begun, since it would be cancelled; if the system can't begin
    /// another thread the scope fails. Neither is told here: a long loop wants a
    /// [`check_cancelled`](super::check_cancelled).
    ///
    /// # Examples
    ///
    /// See [`scope`].
    #[doc(alias = "add")]
    #[doc(alias = "addresult")]
    pub fn spawn(&self, f: impl FnOnce() -> Result<T, BoxError> + Send + 'scope) {
        self.spawn_with(thread::Builder::new(), f);
    }

    /// As [`spawn`](Self::spawn), with a name or another stack. If the name contains a zero the scope fails as if the child
    /// had panicked.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::thread::{self, Builder};
    ///
    /// use hapax::sync::scope;
    ///
    /// let names = scope(|scope| {
    ///     let builder = Builder::new().name(String::from("alpha"));
    ///     scope.spawn_with(builder, || Ok(thread::current().name().map(str::to_owned)));
    ///     Ok(())
    /// });
    /// assert_eq!(names.unwrap()[0].as_deref(), Some("alpha"));
    /// ```
    pub fn spawn_with(
        &self,
        builder: thread::Builder,
        f: impl FnOnce() -> Result<T, BoxError> + Send + 'scope,
    ) {
        let number = new_thread_number();
        let Some(place) = self.family.begin(number) else {
            return;
        };
        let family = self.family.clone();
        let child = move || {
            become_thread(number);
            let within = Within::new(family.tokens.clone());
            let answer = panic::catch_unwind(AssertUnwindSafe(f));
            drop(within);
            family.end(place, answer);
        };
        // `std` panics for a name that contains a zero.
        let begun = AssertUnwindSafe(|| spawn_scoped(builder, self.threads, child));
        match panic::catch_unwind(begun) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.family.end(place, Ok(Err(error.into()))),
            Err(panic) => self.family.end(place, Err(panic)),
        }
    }
}

impl<T> Clone for Scope<'_, '_, T> {
    fn clone(&self) -> Self {
        Self {
            threads: self.threads,
            family: self.family.clone(),
        }
    }
}

impl<T> fmt::Debug for Scope<'_, '_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let running = lock(&self.family.state).running;
        f.debug_struct("Scope")
            .field("running", &running)
            .finish_non_exhaustive()
    }
}

/// What a scope and its children share.
struct Family<T> {
    token: Arc<Token>,
    /// Those of the children: of the scope, and of those that it is in.
    tokens: Vec<Arc<Token>>,
    state: Mutex<State<T>>,
    /// There is another child, or all are done.
    changed: Condvar,
}

struct State<T> {
    children: Vec<Child<T>>,
    /// How many of them aren't done.
    running: usize,
    failures: Vec<Failure>,
}

struct Child<T> {
    thread: u64,
    /// Of the opener to the child, if it is drawn.
    edge: Option<Registered>,
    is_done: bool,
    result: Option<T>,
}

impl<T> Family<T> {
    fn new() -> Self {
        let token = Arc::<Token>::default();
        let mut tokens = tokens();
        tokens.push(token.clone());
        Self {
            token,
            tokens,
            state: Mutex::new(State {
                children: Vec::new(),
                running: 0,
                failures: Vec::new(),
            }),
            changed: Condvar::new(),
        }
    }

    /// A place for a child, unless the scope has failed.
    fn begin(&self, thread: u64) -> Option<usize> {
        let mut state = lock(&self.state);
        if self.token.is_cancelled() {
            return None;
        }
        state.running += 1;
        state.children.push(Child {
            thread,
            edge: None,
            is_done: false,
            result: None,
        });
        let place = state.children.len() - 1;
        drop(state);
        // If the opener waits already it is to draw an edge to this one, too.
        self.changed.notify_all();
        Some(place)
    }

    /// To be called by the child, or in its place if it can't begin.
    fn end(&self, place: usize, answer: std::thread::Result<Result<T, BoxError>>) {
        let result = match answer {
            Ok(Ok(result)) => Some(result),
            Ok(Err(error)) => {
                self.fail(Failure::Error(error));
                None
            }
            Err(panic) => {
                self.fail(Failure::panicked(panic));
                None
            }
        };
        let mut state = lock(&self.state);
        let child = &mut state.children[place];
        child.result = result;
        child.is_done = true;
        // Before the opener can go on.
        drop(child.edge.take());
        state.running -= 1;
        let is_last = state.running == 0;
        drop(state);
        if is_last {
            self.changed.notify_all();
        }
    }

    fn fail(&self, failure: Failure) {
        lock(&self.state).failures.push(failure);
        self.token.cancel();
    }

    /// Waits until all children are done.
    fn wait(&self) {
        let mut drawn = 0;
        let mut state = lock(&self.state);
        while state.running > 0 {
            // Children may have begun further ones meanwhile.
            let Some(child) = state.children.get_mut(drawn) else {
                state = wait(&self.changed, state);
                continue;
            };
            drawn += 1;
            if child.is_done {
                continue;
            }
            let (edge, answer) = wait_for_child(child.thread);
            child.edge = Some(edge);
            // Without the lock: who listens to reports is the user's.
            drop(state);
            match answer {
                Ok(complaint) => complaint.make(),
                Err(error) => self.fail(Failure::Error(error.into())),
            }
            state = lock(&self.state);
        }
    }

    fn take(&self) -> (Vec<Failure>, Vec<Child<T>>) {
        let mut state = lock(&self.state);
        (
            mem::take(&mut state.failures),
            mem::take(&mut state.children),
        )
    }

    /// When all children are done.
    fn results(&self) -> Result<Vec<T>, ScopeError> {
        let (failures, children) = self.take();
        match ScopeError::of(failures) {
            Some(error) => Err(error),
            None => Ok(children
                .into_iter()
                .map(|child| child.result.expect("it hasn't failed"))
                .collect()),
        }
    }
}
