//! Waits of tasks, on a thread of its own.
//!
//! A task must not block, and a store does: so a task hands in what it asks for, and is woken when there is an answer. One
//! thread of the session stands in all the queues for all of its tasks. It sleeps at their bells, and at one of its own that
//! is rung when something is handed in. It also waits until permits of rate limits come in, which tasks have taken.
//!
//! Nothing is lost when a task goes away: its slip says so, and the clerk leaves the queue, or gives back what was
//! granted meanwhile.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;

use super::CoordError;
use super::acquire::{Begun, Limit, Step, Waiting, begin, hold};
use super::error::{Fault, Operation};
use super::hold::Hold;
use super::keeper::Keeper;
use super::rate_limiter::{Ahead, Turns};
use super::session;
use super::store::{Ask, Bell, Engine, Heard, Sleeper};
use super::time::Time;
use crate::table::contain;

/// How long the clerk sleeps when there is nothing to do.
const LONG: Duration = Duration::from_secs(1 << 30);
/// An error that comes after so long is one of a store that doesn't answer.
const SLOW: Duration = Duration::from_millis(100);
/// How long the rest is tried then.
const HURRY: Duration = Duration::from_millis(100);

pub(super) struct Clerk {
    keeper: Arc<Keeper>,
    desk: Mutex<Desk>,
}

#[derive(Default)]
struct Desk {
    handed_in: Vec<Request>,
    has_clerk: bool,
    /// Where the clerk sleeps, once it does.
    bell: Option<Bell>,
    is_closed: bool,
}

enum Request {
    Acquire(Ask, Arc<Slip<Arc<Hold>>>),
    Release(Arc<Hold>, Arc<Slip<()>>),
    Turn(Turns, Arc<Slip<()>>),
    /// Somebody has gone away.
    Look,
}

/// What a task has in its hands.
struct Slip<T>(Mutex<State<T>>);

enum State<T> {
    Waiting(Option<Waker>),
    Answered(Result<T, CoordError>),
    /// The answer was taken, or nobody wants it any more.
    Over,
}

impl Clerk {
    pub(super) fn of(keeper: Arc<Keeper>) -> Arc<Self> {
        let desk = Mutex::default();
        Arc::new(Self { keeper, desk })
    }

    /// Gets what is asked for. If the task goes away before, that is as if it had never asked.
    pub(super) fn acquire(
        self: &Arc<Self>,
        ask: Ask,
    ) -> impl Future<Output = Result<Arc<Hold>, CoordError>> + Send + use<> {
        let clerk = Arc::clone(self);
        async move {
            let slip = Arc::new(Slip::new());
            let request = Request::Acquire(ask.clone(), Arc::clone(&slip));
            clerk
                .hand_in(request)
                .map_err(|fault| fault.at(Some(&ask.key), Operation::Acquire))?;
            Answer { clerk, slip }.await
        }
    }

    /// Gives it back. That happens also if the task goes away.
    pub(super) fn release(
        self: &Arc<Self>,
        hold: Arc<Hold>,
    ) -> impl Future<Output = Result<(), CoordError>> + Send + use<> {
        let clerk = Arc::clone(self);
        async move {
            let slip = Arc::new(Slip::new());
            let request = Request::Release(Arc::clone(&hold), Arc::clone(&slip));
            if clerk.hand_in(request).is_err() {
                return session::release(&clerk.keeper, &hold);
            }
            Answer { clerk, slip }.await
        }
    }

    /// The same for somebody who doesn't wait for it.
    pub(super) fn let_go(self: &Arc<Self>, hold: Arc<Hold>) {
        let request = Request::Release(Arc::clone(&hold), Arc::new(Slip::new()));
        if self.hand_in(request).is_err() {
            session::let_go(&self.keeper, &hold);
        }
    }

    /// Takes a permit of a rate limit, and waits until it comes in. If the task goes away before, it is put back.
    pub(super) fn turn(
        self: &Arc<Self>,
        turns: Turns,
    ) -> impl Future<Output = Result<(), CoordError>> + Send + use<> {
        let clerk = Arc::clone(self);
        async move {
            let slip = Arc::new(Slip::new());
            let request = Request::Turn(turns.clone(), Arc::clone(&slip));
            clerk.hand_in(request).map_err(|fault| turns.fault(fault))?;
            Answer { clerk, slip }.await
        }
    }

    /// What isn't done will end with an error.
    pub(super) fn close(&self) {
        self.desk.lock().is_closed = true;
    }

    fn hand_in(self: &Arc<Self>, request: Request) -> Result<(), Fault> {
        self.keeper.engine().check()?;
        let mut desk = self.desk.lock();
        if desk.is_closed {
            return Err(Fault::Closed);
        }
        if !desk.has_clerk {
            let clerk = Arc::clone(self);
            let builder = std::thread::Builder::new().name("hapax-clerk".to_owned());
            builder
                .spawn(move || clerk.begin_work())
                .map_err(|error| Fault::Store(Box::new(error)))?;
            desk.has_clerk = true;
        }
        desk.handed_in.push(request);
        let bell = desk.bell;
        drop(desk);
        if let Some(bell) = bell {
            // If that fails the clerk has heard it, or there is none any more.
            let _ = self.keeper.engine().ring(bell);
        }
        Ok(())
    }

    fn begin_work(&self) {
        match self.keeper.engine().take_bell() {
            Ok(bell) => {
                self.desk.lock().bell = Some(bell);
                self.work(bell);
            }
            // Whoever comes later finds another one.
            Err(fault) => self.refuse(fault),
        }
    }

    /// Everything that was handed in fails by that, or for the same reason.
    fn refuse(&self, fault: Fault) {
        let handed_in = {
            let mut desk = self.desk.lock();
            desk.has_clerk = false;
            std::mem::take(&mut desk.handed_in)
        };
        let mut fault = Some(fault);
        let mut fault = || {
            let again = || Fault::Store("the store couldn't be waited for".into());
            fault.take().unwrap_or_else(again)
        };
        for request in handed_in {
            match request {
                Request::Acquire(ask, slip) => {
                    let error = fault().at(Some(&ask.key), Operation::Acquire);
                    self.answer(&slip, Err(error));
                }
                Request::Turn(turns, slip) => drop(slip.answer(Err(turns.fault(fault())))),
                Request::Release(hold, slip) => {
                    drop(slip.answer(session::release(&self.keeper, &hold)));
                }
                Request::Look => {}
            }
        }
    }

    /// Until the store is closed, or can't be used any more, and everybody has an answer.
    fn work(&self, bell: Bell) {
        let engine = self.keeper.engine();
        let mut queues: Vec<Queued> = Vec::new();
        let mut turns: Vec<Due> = Vec::new();
        let mut is_over = false;
        loop {
            let handed_in = {
                let mut desk = self.desk.lock();
                desk.is_closed |= is_over;
                is_over = desk.is_closed;
                std::mem::take(&mut desk.handed_in)
            };
            // First what waits for nobody, and who has waited.
            let (releases, handed_in): (Vec<_>, Vec<_>) = handed_in
                .into_iter()
                .partition(|request| matches!(request, Request::Release(..)));
            let mut haste = Haste::default();
            for request in releases {
                if let Request::Release(hold, slip) = request {
                    let longest = haste.longest();
                    let release = || session::release_within(&self.keeper, &hold, longest);
                    drop(slip.answer(haste.watch(engine, release)));
                }
            }
            queues.retain_mut(|queued| self.go_on(queued, &mut haste));
            for request in handed_in {
                match request {
                    Request::Acquire(ask, slip) => {
                        queues.extend(self.begin(ask, slip, &mut haste));
                    }
                    Request::Turn(asked, slip) => {
                        turns.extend(self.take_turn(asked, slip, &mut haste))
                    }
                    Request::Release(..) | Request::Look => {}
                }
            }
            queues.retain_mut(|queued| self.go_on(queued, &mut haste));
            // The last one first: one can be put back only if nobody has come after it.
            turns.reverse();
            turns.retain(|due| self.is_to_come(due, is_over, &mut haste));
            turns.reverse();
            if is_over && queues.is_empty() && self.desk.lock().handed_in.is_empty() {
                return;
            }
            let own = Sleeper { bell, watched: &[] };
            let others = queues.iter().map(|queued| queued.waiting.sleeper());
            let sleepers: Vec<_> = std::iter::once(own).chain(others).collect();
            let latest = engine.now().after(LONG);
            let until = queues.iter().map(|queued| queued.waiting.until);
            let until = until.chain(turns.iter().map(|due| due.at)).min();
            let heard = engine.sleep(&sleepers, until.unwrap_or(latest));
            let now = engine.now();
            match heard {
                Ok(heard) => {
                    for (queued, heard) in queues.iter_mut().zip(&heard[1..]) {
                        let is_woken = *heard != Heard::Nothing;
                        queued.is_to_look = is_woken || queued.waiting.until <= now || is_over;
                        queued.waiting.hear(*heard);
                    }
                }
                // They find out why.
                Err(_) => {
                    is_over = true;
                    queues
                        .iter_mut()
                        .for_each(|queued| queued.is_to_look = true);
                }
            }
        }
    }

    fn begin(&self, mut ask: Ask, slip: Arc<Slip<Arc<Hold>>>, haste: &mut Haste) -> Option<Queued> {
        if slip.is_over() {
            return None;
        }
        let engine = self.keeper.engine();
        ask.gives_up = haste.gives_up(engine);
        match haste.watch(engine, || begin(&self.keeper, ask, Limit::Endless)) {
            Ok(Begun::Granted(holder)) => self.answer(&slip, hold(&self.keeper, holder)),
            Ok(Begun::Waiting(waiting)) => {
                let is_to_look = true;
                return Some(Queued {
                    waiting,
                    slip,
                    is_to_look,
                });
            }
            Err(error) => self.answer(&slip, Err(error)),
        }
        None
    }

    fn take_turn(&self, turns: Turns, slip: Arc<Slip<()>>, haste: &mut Haste) -> Option<Due> {
        if slip.is_over() {
            return None;
        }
        let engine = self.keeper.engine();
        if haste.0 {
            let fault = Fault::Store("the store doesn't answer".into());
            drop(slip.answer(Err(turns.fault(fault))));
            return None;
        }
        match haste.watch(engine, || turns.take(engine, Duration::MAX)) {
            Ok(Some(ahead)) => {
                let at = engine.now().after(ahead.wait);
                return Some(Due {
                    at,
                    turns,
                    ahead,
                    slip,
                });
            }
            Ok(None) => drop(slip.answer(Ok(()))),
            Err(error) => drop(slip.answer(Err(error))),
        }
        None
    }

    /// False if it is done.
    fn is_to_come(&self, due: &Due, is_over: bool, haste: &mut Haste) -> bool {
        let engine = self.keeper.engine();
        let answer = if due.slip.is_over() {
            // What can't be put back, or has come in, is as if somebody had come after.
            if !haste.0 && engine.now() < due.at {
                due.turns.put_back(engine, &due.ahead);
            }
            return false;
        } else if due.at <= engine.now() {
            Ok(())
        } else if is_over {
            Err(due.turns.fault(Fault::Closed))
        } else {
            return true;
        };
        drop(due.slip.answer(answer));
        false
    }

    /// False if it is done.
    fn go_on(&self, queued: &mut Queued, haste: &mut Haste) -> bool {
        let engine = self.keeper.engine();
        let gives_up = haste.gives_up(engine);
        queued.waiting.give_up_at(gives_up);
        if queued.slip.is_over() {
            if let Some(holder) = queued.waiting.leave() {
                self.answer(&queued.slip, hold(&self.keeper, holder));
            }
            return false;
        }
        if !queued.is_to_look {
            return true;
        }
        let answer = match haste.watch(engine, || queued.waiting.step()) {
            Ok(Step::Sleep) => {
                queued.is_to_look = false;
                return true;
            }
            Ok(Step::Granted(holder)) => hold(&self.keeper, holder),
            Err(error) => match queued.waiting.leave_after(&error) {
                Some(holder) => hold(&self.keeper, holder),
                None => Err(error),
            },
        };
        self.answer(&queued.slip, answer);
        false
    }

    /// What nobody wants any more goes back.
    fn answer(&self, slip: &Slip<Arc<Hold>>, answer: Result<Arc<Hold>, CoordError>) {
        if let Some(Ok(hold)) = slip.answer(answer) {
            session::let_go(&self.keeper, &hold);
        }
    }
}

/// While a store doesn't answer one after the other would wait for it. So after one has got no answer the rest of the round
/// is tried for a moment only.
#[derive(Default)]
struct Haste(bool);

impl Haste {
    fn longest(&self) -> Duration {
        if self.0 { HURRY } else { Duration::MAX }
    }

    fn gives_up(&self, engine: &dyn Engine) -> Option<Time> {
        self.0.then(|| engine.now().after(HURRY))
    }

    fn watch<R>(
        &mut self,
        engine: &dyn Engine,
        work: impl FnOnce() -> Result<R, CoordError>,
    ) -> Result<R, CoordError> {
        let began = engine.now();
        let answer = work();
        if let Err(CoordError::Store { .. }) = answer {
            self.0 |= engine.may_stall() && began.after(SLOW) <= engine.now();
        }
        answer
    }
}

/// A task that waits in a queue.
struct Queued {
    waiting: Box<Waiting>,
    slip: Arc<Slip<Arc<Hold>>>,
    is_to_look: bool,
}

/// A task that waits until a permit comes in that it has taken.
struct Due {
    at: Time,
    turns: Turns,
    ahead: Ahead,
    slip: Arc<Slip<()>>,
}

impl<T> Slip<T> {
    fn new() -> Self {
        Self(Mutex::new(State::Waiting(None)))
    }

    fn is_over(&self) -> bool {
        matches!(*self.0.lock(), State::Over)
    }

    /// The answer itself if nobody wants it any more.
    fn answer(&self, answer: Result<T, CoordError>) -> Option<Result<T, CoordError>> {
        let mut state = self.0.lock();
        let State::Waiting(waker) = &mut *state else {
            return Some(answer);
        };
        let waker = waker.take();
        *state = State::Answered(answer);
        drop(state);
        if let Some(waker) = waker {
            // It is the executor's code, and the clerk has other tasks.
            contain(|| waker.wake());
        }
        None
    }
}

/// Waits for what a slip says.
struct Answer<T: Unwanted> {
    clerk: Arc<Clerk>,
    slip: Arc<Slip<T>>,
}

impl<T: Unwanted> Future for Answer<T> {
    type Output = Result<T, CoordError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.slip.0.lock();
        match &mut *state {
            State::Waiting(waker) => {
                let known = waker
                    .as_ref()
                    .is_some_and(|waker| waker.will_wake(context.waker()));
                let before = if known {
                    None
                } else {
                    waker.replace(context.waker().clone())
                };
                // A waker is the executor's code.
                drop(state);
                drop(before);
                Poll::Pending
            }
            State::Answered(_) => {
                let State::Answered(answer) = std::mem::replace(&mut *state, State::Over) else {
                    unreachable!("it was answered");
                };
                Poll::Ready(answer)
            }
            State::Over => panic!("it was polled after it was ready"),
        }
    }
}

impl<T: Unwanted> Drop for Answer<T> {
    fn drop(&mut self) {
        let state = std::mem::replace(&mut *self.slip.0.lock(), State::Over);
        match state {
            State::Waiting(_) => {
                let _ = self.clerk.hand_in(Request::Look);
            }
            State::Answered(Ok(answer)) => answer.give_back(&self.clerk),
            State::Answered(Err(_)) | State::Over => {}
        }
    }
}

/// An answer that nobody has taken.
trait Unwanted {
    fn give_back(self, clerk: &Arc<Clerk>);
}

impl Unwanted for Arc<Hold> {
    fn give_back(self, clerk: &Arc<Clerk>) {
        clerk.let_go(self);
    }
}

impl Unwanted for () {
    fn give_back(self, _: &Arc<Clerk>) {}
}
