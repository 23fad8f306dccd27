//! Looks after what a session holds: renews leases, notices what is lost, and gives back late what couldn't be given back.
//!
//! A thread does that, from the first grant on until the store is closed. It sleeps when there is nothing to look after and
//! there was nothing within the last second. Where the clock is a virtual one, whoever sets it does it instead. Where an
//! answer of the store may take longer than leases last, a second thread says which have ended, and asks nobody.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::error::Fault;
use super::hold::Hold;
use super::store::{Engine, Extension, Place, Renewal};
use super::time::Time;
use super::trace;

/// How often it is checked what is still held.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// How often it is tried to give back what couldn't be given back.
const RETRY_EVERY: Duration = Duration::from_millis(100);
/// How many are renewed in one request, if the store can do that.
const TOGETHER: usize = 128;
/// How often it is looked for ends while something isn't renewed that should be.
const SHORT: Duration = Duration::from_millis(5);
/// How long the thread sleeps when there is nothing to do.
const LONG: Duration = Duration::from_secs(1 << 30);

pub(super) struct Keeper {
    engine: Arc<dyn Engine>,
    state: Mutex<State>,
    wake: Condvar,
    /// For the second thread: there is a lease that may end sooner than the others.
    wake_to_look: Condvar,
}

/// What couldn't be given back.
pub(super) enum Late {
    Grant(Arc<str>, u64),
    Place(Place),
}

impl Late {
    fn key(&self) -> &str {
        match self {
            Self::Grant(key, _) => key,
            Self::Place(place) => &place.ask.key,
        }
    }
}

#[derive(Default)]
struct State {
    holds: HashMap<u64, Arc<Hold>>,
    late: Vec<Late>,
    /// When it will be looked after the rest, if it is to be.
    next_check: Option<Time>,
    /// Something was held since the last check.
    is_busy: bool,
    has_thread: bool,
    /// Until when the thread sleeps.
    sleeps_until: Option<Time>,
    is_closed: bool,
}

impl Keeper {
    pub(super) fn of(engine: Arc<dyn Engine>) -> Arc<Self> {
        Arc::new(Self {
            engine,
            state: Mutex::default(),
            wake: Condvar::new(),
            wake_to_look: Condvar::new(),
        })
    }

    pub(super) fn engine(&self) -> &dyn Engine {
        &*self.engine
    }

    pub(super) fn add(self: &Arc<Self>, hold: &Arc<Hold>) {
        let now = self.engine.now();
        let mut state = self.state.lock();
        if state.is_closed {
            // It was granted, and taken away by the end, before this one came to know of it.
            drop(state);
            return hold.lost.set();
        }
        state.holds.insert(hold.token, Arc::clone(hold));
        state.is_busy = true;
        let check = *state.next_check.get_or_insert(now.after(CHECK_EVERY));
        let next = hold.next().map_or(check, |next| next.min(check));
        self.wake_by(next, state);
    }

    /// True if it was there.
    pub(super) fn remove(&self, hold: &Hold) -> bool {
        self.state.lock().holds.remove(&hold.token).is_some()
    }

    /// To be given back as soon as that is possible.
    pub(super) fn give_back_late(self: &Arc<Self>, mut late: Late) {
        if let Late::Place(place) = &mut late {
            // Nobody waits for that any more.
            place.ask.gives_up = None;
        }
        trace::gives_back_late(late.key());
        let next = self.engine.now().after(RETRY_EVERY);
        let mut state = self.state.lock();
        state.late.push(late);
        state.next_check = Some(state.next_check.map_or(next, |check| check.min(next)));
        self.wake_by(next, state);
    }

    /// Whether there is something that couldn't be given back yet.
    pub(super) fn is_late(&self) -> bool {
        !self.state.lock().late.is_empty()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state.lock().is_closed
    }

    /// Everything is lost.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.is_closed = true;
        state.late.clear();
        let holds = std::mem::take(&mut state.holds);
        drop(state);
        self.wake.notify_one();
        self.wake_to_look.notify_one();
        holds.into_values().for_each(|hold| hold.lost.set());
    }

    /// When something is to be done next.
    pub(super) fn next(&self) -> Option<Time> {
        self.state.lock().next()
    }

    /// Does what is to be done by now.
    pub(super) fn work(&self) {
        let now = self.engine.now();
        let holds = self.find_ended(now);
        let mut done = self.renew(&holds, now);
        if self.begins_check(now) {
            self.give_back();
            done = done.and_then(|()| self.check(&holds));
        }
        // Of other errors others hear; here it is tried again as long as leases last.
        if let Err(Fault::Replaced | Fault::ForkedChild) = done {
            holds.iter().for_each(|hold| hold.lose());
        }
    }

    /// A lease may end sooner than it would have.
    pub(super) fn look_for_ends(&self) {
        // Whoever is about to sleep, as of what it has seen before, sleeps after that.
        drop(self.state.lock());
        self.wake_to_look.notify_one();
    }

    /// Says which leases have ended. Answers with all that is held.
    fn find_ended(&self, now: Time) -> Vec<Arc<Hold>> {
        let holds: Vec<_> = self.state.lock().holds.values().cloned().collect();
        for hold in &holds {
            if !hold.is_valid(now) {
                hold.lose();
            }
        }
        holds
    }

    /// Whether it is time to check, and if so when the next time will be.
    fn begins_check(&self, now: Time) -> bool {
        let mut state = self.state.lock();
        if state.next_check.is_none_or(|check| now < check) {
            return false;
        }
        let was_busy = std::mem::take(&mut state.is_busy) || !state.holds.is_empty();
        state.next_check = if !state.late.is_empty() {
            Some(now.after(RETRY_EVERY))
        } else {
            was_busy.then(|| now.after(CHECK_EVERY))
        };
        true
    }

    /// Stops at the first error: what is busy for one is busy for all.
    fn renew(&self, holds: &[Arc<Hold>], now: Time) -> Result<(), Fault> {
        let due = holds.iter().filter_map(|hold| {
            let time = hold.is_to_be_renewed_for(now)?;
            (!hold.lost.is_set()).then_some((&**hold, time))
        });
        let due: Vec<_> = due.collect();
        due.chunks(TOGETHER)
            .try_for_each(|together| self.renew_together(together))
    }

    /// Renews those that nobody else is just extending, in one request if the store can do that.
    fn renew_together(&self, due: &[(&Hold, Duration)]) -> Result<(), Fault> {
        self.engine.check()?;
        let now = self.engine.now();
        let mut renewals = Vec::with_capacity(due.len());
        let mut before = Vec::with_capacity(due.len());
        for &(hold, time) in due {
            let Some(changing) = hold.changing.try_lock() else {
                hold.put_off(now);
                continue;
            };
            if !hold.is_valid(now) {
                self.lose(hold);
                continue;
            }
            let ends = hold.doubt(now.after(self.engine.believed(time)));
            before.push((hold, ends, changing));
            let (key, token) = (&hold.key, hold.token);
            renewals.push(Renewal { key, token, time });
        }
        if renewals.is_empty() {
            return Ok(());
        }
        let mut answers = self.engine.renew_all(&renewals).into_iter();
        let mut done = Ok(());
        for (hold, ends, _changing) in before {
            match answers.next() {
                Some(Ok(Some(ends))) => hold.set_end(ends, Extension::Renewal, now),
                Some(Ok(None)) => self.lose(hold),
                other => {
                    if !matches!(other, Some(Err(Fault::Unknown(_)))) {
                        hold.trust(ends);
                    }
                    hold.put_off(now);
                    if let Some(Err(fault)) = other {
                        done = Err(fault);
                    }
                }
            }
        }
        done
    }

    /// How long something else may take, so that it keeps no lease from its renewal.
    fn pause(&self) -> Duration {
        let state = self.state.lock();
        let leases = state.holds.values().filter_map(|hold| hold.renews_for());
        leases.min().map_or(Duration::MAX, |shortest| shortest / 3)
    }

    /// What was held before the store was asked, and isn't there, is lost.
    fn check(&self, holds: &[Arc<Hold>]) -> Result<(), Fault> {
        if holds.is_empty() {
            return Ok(());
        }
        let asked: Vec<_> = holds.iter().map(|hold| (&*hold.key, hold.token)).collect();
        let held = self.engine.held(&asked, self.pause())?;
        for hold in holds {
            if !held.contains(&hold.token) {
                self.lose(hold);
            }
        }
        Ok(())
    }

    /// Unless it is just being given back.
    fn lose(&self, hold: &Hold) {
        if self.state.lock().holds.contains_key(&hold.token) {
            hold.lose();
        }
    }

    fn give_back(&self) {
        let mut late = std::mem::take(&mut self.state.lock().late).into_iter();
        for thing in late.by_ref() {
            if let Err(Fault::Busy | Fault::Store(_)) = self.give_back_one(&thing) {
                self.state.lock().late.push(thing);
                break;
            }
        }
        self.state.lock().late.extend(late);
    }

    fn give_back_one(&self, thing: &Late) -> Result<(), Fault> {
        let longest = self.pause();
        match thing {
            Late::Grant(key, token) => {
                let released = self.engine.release(key, *token, longest);
                released.map(drop)
            }
            Late::Place(place) => {
                let mut place = place.clone();
                place.ask.gives_up = (longest < LONG).then(|| self.engine.now().after(longest));
                match self.engine.leave(&place)? {
                    Some(holder) => {
                        let (key, token) = (&place.ask.key, holder.token);
                        let released = self.engine.release(key, token, longest);
                        released.map(drop)
                    }
                    None => Ok(()),
                }
            }
        }
    }

    /// Sees to it that it is looked after the rest by then.
    fn wake_by(self: &Arc<Self>, next: Time, mut state: MutexGuard<'_, State>) {
        if self.engine.is_driven() || state.is_closed {
            return;
        }
        self.wake_to_look.notify_one();
        if !std::mem::replace(&mut state.has_thread, true) {
            drop(state);
            if !self.spawn("hapax-keeper", Self::run) {
                // There are no threads to be had: leases end, and their guards say so. The next grant tries again.
                self.state.lock().has_thread = false;
            } else if self.engine.may_stall() {
                // Without it some are told late.
                self.spawn("hapax-leases", Self::run_to_look);
            }
        } else if state.sleeps_until.is_some_and(|until| next < until) {
            drop(state);
            self.wake.notify_one();
        }
    }

    fn spawn(self: &Arc<Self>, name: &str, run: fn(&Self)) -> bool {
        let keeper = Arc::clone(self);
        let builder = std::thread::Builder::new().name(name.to_owned());
        builder.spawn(move || run(&keeper)).is_ok()
    }

    /// Until it is closed.
    fn run(&self) {
        while self.sleep() {
            self.work();
        }
    }

    /// Says which leases have ended, until it is closed.
    fn run_to_look(&self) {
        loop {
            let now = self.engine.now();
            self.find_ended(now);
            let mut state = self.state.lock();
            if state.is_closed {
                return;
            }
            let next = state.holds.values().filter_map(|hold| hold.next()).min();
            // One that is to be renewed ends later, whether or not that is done.
            let time = next.map_or(LONG, |next| next.since(now).clamp(SHORT, LONG));
            self.wake_to_look.wait_for(&mut state, time);
        }
    }

    /// False if it is closed.
    fn sleep(&self) -> bool {
        let now = self.engine.now();
        let mut state = self.state.lock();
        if !state.is_closed {
            let until = state.next().unwrap_or_else(|| now.after(LONG));
            state.sleeps_until = Some(until);
            self.wake.wait_for(&mut state, until.since(now).min(LONG));
            state.sleeps_until = None;
        }
        !state.is_closed
    }
}

impl State {
    fn next(&self) -> Option<Time> {
        let holds = self.holds.values().filter_map(|hold| hold.next());
        holds.chain(self.next_check).min()
    }
}
