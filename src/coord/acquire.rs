//! Waiting until something is granted: the same whatever the store is.
//!
//! [`Waiting::step`] looks how it stands, watches the sessions ahead, claims where that is needed, and says until when to sleep.
//! Between it only reads, unless somebody has died or stands still, or it is on a Redis server. docs/COORD.md has the protocol,
//! and why nobody sleeps through its turn.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::CoordError;
use super::deadlock;
use super::error::{At, Fault, Operation};
use super::hold::Hold;
use super::keeper::{Keeper, Late};
use super::store::line::{PATIENCE, Room};
use super::store::{
    Ask, Engine, Entered, Extension, Heard, Holder, Otherwise, Place, Sleeper, Standing,
};
use super::time::Time;
use super::trace;
use crate::sync::check_cancelled;

/// After how long a wait it is looked for a deadlock.
const CHECK_AFTER: Duration = Duration::from_millis(100);
/// How long a waiter sleeps at most.
const SAFETY: Duration = Duration::from_secs(1);

/// How long somebody wants to wait.
#[derive(Clone, Copy, Debug)]
pub(super) enum Limit {
    None,
    For(Duration),
    Endless,
}

impl Limit {
    pub(super) fn until(moment: Instant) -> Self {
        Self::of(moment.saturating_duration_since(Instant::now()))
    }

    pub(super) fn of(time: Duration) -> Self {
        if time.is_zero() {
            Self::None
        } else {
            Self::For(time)
        }
    }
}

/// Gets what is asked for.
pub(super) fn acquire(
    keeper: &Arc<Keeper>,
    ask: Ask,
    limit: Limit,
) -> Result<Arc<Hold>, CoordError> {
    let holder = match begin(keeper, ask, limit)? {
        Begun::Granted(holder) => holder,
        Begun::Waiting(waiting) => wait(waiting)?,
    };
    hold(keeper, holder)
}

/// How far one comes without to wait.
pub(super) enum Begun {
    Granted(Holder),
    Waiting(Box<Waiting>),
}

/// Gets what is asked for, or a place in the queue.
pub(super) fn begin(keeper: &Arc<Keeper>, mut ask: Ask, limit: Limit) -> Result<Begun, CoordError> {
    ask.is_endless = matches!(limit, Limit::Endless);
    let engine = keeper.engine();
    let (deadline, otherwise) = match limit {
        Limit::None => (None, Otherwise::Refuse),
        Limit::For(time) => (Some(engine.now().after(time)), Otherwise::Queue),
        Limit::Endless => (None, Otherwise::Queue),
    };
    ask.gives_up = answered_by(engine, deadline).or(ask.gives_up);
    match enter(keeper, &ask, otherwise)? {
        Entered::Granted(holder) => Ok(Begun::Granted(holder)),
        Entered::Queued(place, standing) => {
            let keeper = Arc::clone(keeper);
            let waiting = Waiting::at(place, standing, keeper, ask, deadline);
            Ok(Begun::Waiting(Box::new(waiting)))
        }
        Entered::Refused(ahead) => try_again(keeper, &ask, ahead).map(Begun::Granted),
    }
}

/// Until when somebody waits for answers who waits until then: one may be on its way.
fn answered_by(engine: &dyn Engine, deadline: Option<Time>) -> Option<Time> {
    deadline.map(|deadline| deadline.after(engine.answer_time()))
}

/// Enters the line of the key. If only dead sessions use it as something else, takes them out and tries again.
fn enter(keeper: &Arc<Keeper>, ask: &Ask, otherwise: Otherwise) -> Result<Entered, CoordError> {
    let engine = keeper.engine();
    let mut dead = Vec::new();
    loop {
        let answer = engine.enter(ask, otherwise, &dead);
        if let Err(Fault::Unanswered(what)) = &answer {
            keeper.give_back_late(Late::Place(what.0.clone()));
        }
        if let Err(Fault::Kind { by, .. } | Fault::Limit { by, .. }) = &answer {
            let found = engine.watch(by).dead;
            if !found.is_empty() {
                // A store may have taken back that it has taken out the ones before.
                dead.extend(found);
                continue;
            }
        }
        return answer.map_err(|fault| at(fault, &ask.key));
    }
}

fn at(fault: Fault, key: &Arc<str>) -> CoordError {
    fault.at(Some(key), Operation::Acquire)
}

fn place_of(key: &Arc<str>) -> At {
    At {
        key: Some(Arc::clone(key)),
        operation: Operation::Acquire,
    }
}

fn timed_out(key: &Arc<str>) -> CoordError {
    CoordError::TimedOut { at: place_of(key) }
}

/// Gives the session something to look after.
pub(super) fn hold(keeper: &Arc<Keeper>, mut holder: Holder) -> Result<Arc<Hold>, CoordError> {
    let engine = keeper.engine();
    let now = engine.now();
    if let Some(time) = holder.ask.lease.time()
        && holder.expires.is_none()
    {
        // Whoever has granted it has another clock.
        let key = Arc::clone(&holder.ask.key);
        match engine.extend(&key, holder.token, time, Extension::Renewal) {
            Ok(Some(ends)) => holder.expires = Some(ends),
            Ok(None) => return Err(CoordError::lost(&key, Operation::Acquire, holder.token)),
            Err(fault) => {
                keeper.give_back_late(Late::Grant(key, holder.token));
                return Err(at(fault, &holder.ask.key));
            }
        }
    }
    let renews_for = engine.renews_for(holder.ask.lease);
    let hold = Arc::new(Hold::of(holder, renews_for, now));
    keeper.add(&hold);
    Ok(hold)
}

/// Once more for somebody who doesn't wait, as long as somebody in the way is dead.
#[cold]
fn try_again(keeper: &Arc<Keeper>, ask: &Ask, mut ahead: Vec<u64>) -> Result<Holder, CoordError> {
    let engine = keeper.engine();
    loop {
        let dead = engine.watch(&ahead).dead;
        if dead.is_empty() {
            return Err(timed_out(&ask.key));
        }
        match engine
            .enter(ask, Otherwise::Refuse, &dead)
            .map_err(|fault| at(fault, &ask.key))?
        {
            Entered::Granted(holder) => return Ok(holder),
            Entered::Refused(next) => ahead = next,
            Entered::Queued(..) => unreachable!("it wants to be refused"),
        }
    }
}

/// Waits in the queue, on this thread.
#[cold]
fn wait(mut waiting: Box<Waiting>) -> Result<Holder, CoordError> {
    loop {
        match waiting.step() {
            Ok(Step::Granted(holder)) => return Ok(holder),
            Ok(Step::Sleep) if check_cancelled().is_err() => {
                let at = place_of(&waiting.ask.key);
                return waiting.leave().ok_or(CoordError::Cancelled { at });
            }
            Ok(Step::Sleep) => {
                let until = waiting.until;
                let heard = waiting.keeper.engine().sleep(&[waiting.sleeper()], until);
                // If it can't sleep any more it will find out why.
                if let Ok([heard]) = heard.as_deref() {
                    waiting.hear(*heard);
                }
            }
            Err(error) => return waiting.leave_after(&error).ok_or(error),
        }
    }
}

/// Somebody in a queue.
pub(super) struct Waiting {
    keeper: Arc<Keeper>,
    ask: Ask,
    place: Place,
    /// How it stands, if that was found just now.
    standing: Option<Standing>,
    began: Time,
    deadline: Option<Time>,
    /// When it looks for a deadlock.
    check_at: Option<Time>,
    last_room: Room,
    /// The sessions that it watches.
    ahead: Vec<u64>,
    /// When it has looked last.
    looked_at: Time,
    /// When it looks at the latest.
    pub(super) until: Time,
    /// That it has waited for long.
    has_told: bool,
}

/// How it goes on with a waiter.
pub(super) enum Step {
    Granted(Holder),
    /// It is to sleep, until it is rung or it is late.
    Sleep,
}

impl Waiting {
    fn at(
        place: Place,
        standing: Standing,
        keeper: Arc<Keeper>,
        ask: Ask,
        deadline: Option<Time>,
    ) -> Self {
        let began = keeper.engine().now();
        let mut waiting = Self {
            keeper,
            ask,
            place,
            standing: Some(standing),
            began,
            deadline,
            check_at: None,
            last_room: Room::No,
            ahead: Vec::new(),
            looked_at: began,
            until: began,
            has_told: false,
        };
        waiting.check_at = waiting.first_check();
        waiting
    }

    /// Until when it waits for an answer of the store, if it has no limit of its own.
    pub(super) fn give_up_at(&mut self, moment: Option<Time>) {
        let gives_up = answered_by(self.keeper.engine(), self.deadline).or(moment);
        self.ask.gives_up = gives_up;
        self.place.ask.gives_up = gives_up;
    }

    pub(super) fn sleeper(&self) -> Sleeper<'_> {
        Sleeper {
            bell: self.place.bell,
            watched: &self.ahead,
        }
    }

    /// It needn't look if it was told what was granted to it.
    pub(super) fn hear(&mut self, heard: Heard) {
        if let Heard::Granted(grant) = heard {
            let now = self.keeper.engine().now();
            self.standing = grant.taken(&self.place, now).map(Standing::Granted);
        }
    }

    /// Goes on until it is granted, or there is nothing to do but to sleep.
    pub(super) fn step(&mut self) -> Result<Step, CoordError> {
        let keeper = Arc::clone(&self.keeper);
        let engine = keeper.engine();
        let key = Arc::clone(&self.ask.key);
        let fault = |fault| at(fault, &key);
        // Nobody has rung for as long as one sleeps at most: the first waiter may have been stopped.
        let mut is_late = self.looked_at.after(SAFETY) <= engine.now();
        let mut standing = match self.standing.take() {
            Some(standing) => standing,
            None => engine.look(&self.place).map_err(fault)?,
        };
        loop {
            let (ahead, held_by, room, look_at) = match standing {
                Standing::Granted(holder)
                    if holder.expires.is_none_or(|ends| engine.now() < ends) =>
                {
                    return Ok(Step::Granted(holder));
                }
                // What it was granted was over, or was taken away, before it has heard of it: it comes once more.
                Standing::Granted(_) | Standing::Gone => {
                    match enter(&keeper, &self.ask, Otherwise::Queue)? {
                        Entered::Granted(holder) => return Ok(Step::Granted(holder)),
                        Entered::Queued(place, next) => {
                            self.move_to(place);
                            standing = next;
                        }
                        Entered::Refused(_) => unreachable!("it wants to wait"),
                    }
                    continue;
                }
                Standing::Waiting {
                    ahead,
                    held_by,
                    room,
                    look_at,
                } => (ahead, held_by, room, look_at),
            };
            let mut watch = engine.watch(&ahead);
            if std::mem::take(&mut is_late) && watch.dead.is_empty() {
                // Also those that are watched, if somebody else keeps a connection open that should have gone.
                watch.dead = engine.find_dead(&[&*ahead, &*held_by].concat());
            }
            let is_free = match room {
                Room::No => false,
                // Where time stands still nobody can wait for others to come, and whose time is over doesn't.
                Room::UntilOthersCome(_) => {
                    room == self.last_room || engine.is_driven() || self.is_over(engine.now())
                }
                Room::Yes => true,
            };
            if is_free || !watch.dead.is_empty() {
                standing = engine.claim(&self.place, &watch.dead).map_err(fault)?;
                continue;
            }
            let now = engine.now();
            if self.is_over(now) {
                return Err(timed_out(&key));
            }
            if self.check_at.is_some_and(|check| check <= now) {
                self.look_for_deadlock()?;
                let is_first = now < self.began.after(CHECK_AFTER);
                self.check_at = Some(now.after(if is_first { CHECK_AFTER } else { SAFETY }));
            }
            if watch.is_new {
                standing = engine.look(&self.place).map_err(fault)?;
                continue;
            }
            let look_at = match room {
                Room::UntilOthersCome(_) => Some(now.after(PATIENCE / 10)),
                _ => look_at,
            };
            if !self.has_told && self.began.after(SAFETY) <= now {
                self.has_told = true;
                trace::waits(&key, now.since(self.began));
            }
            let limits = [self.deadline, self.check_at, look_at];
            let until = limits.into_iter().flatten().min();
            self.until = until.map_or(now.after(SAFETY), |until| until.min(now.after(SAFETY)));
            (self.last_room, self.ahead, self.looked_at) = (room, ahead, now);
            return Ok(Step::Sleep);
        }
    }

    fn is_over(&self, now: Time) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }

    fn move_to(&mut self, place: Place) {
        let left = std::mem::replace(&mut self.place, place);
        self.keeper.engine().put_bell(left.bell);
    }

    /// A wait that ends by itself, or in nobody's name, is never part of a deadlock. One that would be for oneself is
    /// found at once.
    fn first_check(&self) -> Option<Time> {
        let is_checked = self.ask.owner.is_some() && self.ask.is_endless;
        let first = if self.place.waits_for_itself {
            self.began
        } else {
            self.began.after(CHECK_AFTER)
        };
        is_checked.then_some(first)
    }

    #[cold]
    fn look_for_deadlock(&self) -> Result<(), CoordError> {
        let engine = self.keeper.engine();
        let (key, ticket) = (&self.ask.key, self.place.ticket);
        if self.keeper.is_late() {
            // What was given back, or left, is still there.
            return Ok(());
        }
        let mut listing = engine.list().map_err(|fault| at(fault, key))?;
        if deadlock::find(&listing, ticket).is_none() {
            return Ok(());
        }
        // The dead keep nobody, but may not have been taken out yet.
        let mut sessions = listing.sessions();
        sessions.remove(&self.place.bell.session);
        let sessions: Vec<_> = sessions.into_iter().collect();
        listing.remove(&engine.watch(&sessions).dead);
        match deadlock::find(&listing, ticket) {
            None => Ok(()),
            Some(circle) => Err(CoordError::Deadlock {
                at: place_of(key),
                circle: Arc::new(circle),
            }),
        }
    }

    /// Takes it out of the queue, after it has got no further by that error.
    pub(super) fn leave_after(&self, error: &CoordError) -> Option<Holder> {
        if let CoordError::Store { .. } = error
            && self.keeper.engine().may_stall()
        {
            // The store would be waited for once more.
            self.keeper.give_back_late(Late::Place(self.place.clone()));
            return None;
        }
        self.leave()
    }

    /// Takes it out of the queue. Answers with what it was granted before, if it was.
    pub(super) fn leave(&self) -> Option<Holder> {
        let left = self.keeper.engine().leave(&self.place);
        if let Err(Fault::Busy | Fault::Store(_)) = left {
            // Otherwise it would be granted what nobody gives back.
            self.keeper.give_back_late(Late::Place(self.place.clone()));
        }
        left.ok().flatten()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.keeper.engine().put_bell(self.place.bell);
    }
}
