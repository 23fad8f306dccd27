//! Waiting until something is granted: the same whatever the store is.
//!
//! One transaction enters the queue, and one leaves it; whoever lets go grants to the next one within its own, and rings.
//! Between, a waiter only reads, each time that it wakes:
//!
//! 1. It *looks* how it stands.
//! 2. It *watches* the sessions ahead of it: the one of the waiter before it, or, if it is the first, those of all holders.
//!    If one wasn't watched before it looks again: from then on it hears of its end, but not of an earlier one.
//! 3. If one of them is dead, or if it is the first and there is room, it *claims*: a transaction that takes out what the
//!    dead have left, and grants what can be granted. While others may pass it, it does so only if none has come since it
//!    has looked before.
//! 4. Otherwise it sleeps, until it is rung, one of them ends, a lease or its patience does, or a second is over.
//!
//! Nobody is forgotten: whatever can make a waiter the next one to be granted is done by a transaction that rings it; or is
//! the end of a session that it watches; or a lease's end that the first one waits for. If the one that should have rung is
//! killed before it does, its end is seen in the same way, as it was a holder, or stood before it. The second is there for
//! what can't be watched.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::CoordError;
use super::deadlock::{self, Circle};
use super::error::{At, Fault, Operation};
use super::hold::Hold;
use super::keeper::Late;
use super::session::Session;
use super::store::line::{PATIENCE, Room};
use super::store::{Ask, Entered, Holder, Otherwise, Place, Standing};
use super::time::Time;
use crate::sync::check_cancelled;

/// After how long a wait it is looked for a deadlock.
const CHECK_AFTER: Duration = Duration::from_millis(100);
/// How long a waiter sleeps at most.
const SAFETY: Duration = Duration::from_secs(1);

/// How long somebody wants to wait.
#[derive(Clone, Copy, Debug)]
pub(super) enum Patience {
    None,
    For(Duration),
    Endless,
}

impl Patience {
    pub(super) fn until(moment: Instant) -> Self {
        Self::For(moment.saturating_duration_since(Instant::now()))
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
    session: &Arc<Session>,
    mut ask: Ask,
    patience: Patience,
) -> Result<Arc<Hold>, CoordError> {
    ask.is_endless = matches!(patience, Patience::Endless);
    let engine = session.engine();
    let (deadline, otherwise) = match patience {
        Patience::None => (None, Otherwise::Refuse),
        Patience::For(time) => (Some(engine.now().after(time)), Otherwise::Queue),
        Patience::Endless => (None, Otherwise::Queue),
    };
    let entered = enter(session, &ask, otherwise)?;
    let holder = match entered {
        Entered::Granted(holder) => holder,
        Entered::Queued(place) => wait(session, &ask, place, deadline)?,
        Entered::Refused(ahead) => try_again(session, &ask, ahead)?,
    };
    hold(session, holder)
}

/// Enters the line of the key, which isn't in use as something else if that is only by the dead.
fn enter(session: &Session, ask: &Ask, otherwise: Otherwise) -> Result<Entered, CoordError> {
    let engine = session.engine();
    let mut dead = Vec::new();
    loop {
        let answer = engine.enter(ask, otherwise, &dead);
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

fn timed_out(key: &Arc<str>) -> CoordError {
    CoordError::TimedOut {
        at: At {
            key: Some(Arc::clone(key)),
            operation: Operation::Acquire,
        },
    }
}

/// Gives the session something to look after.
fn hold(session: &Arc<Session>, mut holder: Holder) -> Result<Arc<Hold>, CoordError> {
    let engine = session.engine();
    let now = engine.now();
    if let Some(time) = holder.ask.lease.time()
        && holder.expires.is_none()
    {
        // Whoever has granted it has another clock.
        let key = Arc::clone(&holder.ask.key);
        match engine.extend(&key, holder.token, time) {
            Ok(Some(ends)) => holder.expires = Some(ends),
            Ok(None) => return Err(CoordError::lost(&key, Operation::Acquire, holder.token)),
            Err(fault) => {
                session
                    .keeper
                    .give_back_late(Late::Grant(key, holder.token));
                return Err(at(fault, &holder.ask.key));
            }
        }
    }
    let hold = Arc::new(Hold::of(holder, now));
    session.keeper.add(&hold);
    Ok(hold)
}

/// Once more for somebody who doesn't wait, as long as somebody in the way is dead.
#[cold]
fn try_again(session: &Session, ask: &Ask, mut ahead: Vec<u64>) -> Result<Holder, CoordError> {
    let engine = session.engine();
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
            Entered::Queued(_) => unreachable!("it wants to be refused"),
        }
    }
}

/// Waits in the queue.
#[cold]
fn wait(
    session: &Session,
    ask: &Ask,
    mut place: Place,
    deadline: Option<Time>,
) -> Result<Holder, CoordError> {
    loop {
        let waiting = Waiting {
            session,
            ask,
            place,
        };
        match waiting.sleep(deadline) {
            Ok(Some(holder)) => return Ok(holder),
            // What it was granted was over, or was taken away, before it has heard of it: it comes once more.
            Ok(None) => {}
            Err(error) => return waiting.leave().ok_or(error),
        }
        match enter(session, ask, Otherwise::Queue)? {
            Entered::Granted(holder) => return Ok(holder),
            Entered::Queued(next) => place = next,
            Entered::Refused(_) => unreachable!("it wants to wait"),
        }
    }
}

/// Somebody in a queue.
struct Waiting<'a> {
    session: &'a Session,
    ask: &'a Ask,
    place: Place,
}

impl Waiting<'_> {
    /// Until it is granted. None if it isn't in the queue any more.
    fn sleep(&self, deadline: Option<Time>) -> Result<Option<Holder>, CoordError> {
        let engine = self.session.engine();
        let place = &self.place;
        let fault = |fault| at(fault, &self.ask.key);
        let began = engine.now();
        let mut check_at = self.first_check(place, began);
        let mut last_room = Room::No;
        let mut standing = engine.look(place).map_err(fault)?;
        loop {
            let (ahead, room, mut look_at) = match standing {
                Standing::Granted(holder) => {
                    let is_over = holder.expires.is_some_and(|ends| ends <= engine.now());
                    return Ok((!is_over).then_some(holder));
                }
                Standing::Gone => return Ok(None),
                Standing::Waiting {
                    ahead,
                    room,
                    look_at,
                } => (ahead, room, look_at),
            };
            let watch = engine.watch(&ahead);
            let is_free = match room {
                Room::No => false,
                // Where time stands still nobody can wait for others to come.
                Room::UntilOthersCome(_) => room == last_room || engine.is_driven(),
                Room::Yes => true,
            };
            if is_free || !watch.dead.is_empty() {
                standing = engine.claim(place, &watch.dead).map_err(fault)?;
                continue;
            }
            let now = engine.now();
            if deadline.is_some_and(|deadline| deadline <= now) {
                return Err(timed_out(&self.ask.key));
            }
            if check_cancelled().is_err() {
                let at = At {
                    key: Some(Arc::clone(&self.ask.key)),
                    operation: Operation::Acquire,
                };
                return Err(CoordError::Cancelled { at });
            }
            if check_at.is_some_and(|check| check <= now) {
                self.look_for_deadlock(place)?;
                let is_first = now < began.after(CHECK_AFTER);
                check_at = Some(now.after(if is_first { CHECK_AFTER } else { SAFETY }));
            }
            if let Room::UntilOthersCome(_) = room {
                look_at = Some(now.after(PATIENCE / 10));
            }
            last_room = room;
            if !watch.is_new {
                let limits = [deadline, check_at, look_at, Some(now.after(SAFETY))];
                let until = limits.into_iter().flatten().min().expect("one is there");
                engine.sleep(place.bell, &ahead, until);
            }
            standing = engine.look(place).map_err(fault)?;
        }
    }

    /// A wait that ends by itself, or in nobody's name, is never part of a deadlock. One that would be for oneself is
    /// found at once.
    fn first_check(&self, place: &Place, now: Time) -> Option<Time> {
        let is_checked = self.ask.owner.is_some() && self.ask.is_endless;
        let first = if place.waits_for_itself {
            now
        } else {
            now.after(CHECK_AFTER)
        };
        is_checked.then_some(first)
    }

    #[cold]
    fn look_for_deadlock(&self, place: &Place) -> Result<(), CoordError> {
        let engine = self.session.engine();
        let mut listing = engine.list().map_err(|fault| at(fault, &self.ask.key))?;
        if deadlock::find(&listing, place.ticket).is_none() {
            return Ok(());
        }
        // The dead keep nobody, but may not have been taken out yet.
        let mut sessions = listing.sessions();
        sessions.remove(&place.bell.session);
        let sessions: Vec<_> = sessions.into_iter().collect();
        listing.remove(&engine.watch(&sessions).dead);
        match deadlock::find(&listing, place.ticket) {
            None => Ok(()),
            Some(circle) => Err(self.deadlock(circle)),
        }
    }

    fn deadlock(&self, circle: Circle) -> CoordError {
        let at = At {
            key: Some(Arc::clone(&self.ask.key)),
            operation: Operation::Acquire,
        };
        CoordError::Deadlock {
            at,
            circle: Arc::new(circle),
        }
    }

    /// Takes it out of the queue. Answers with what it was granted before, if it was.
    fn leave(&self) -> Option<Holder> {
        let left = self.session.engine().leave(&self.place);
        if let Err(Fault::Busy | Fault::Store(_)) = left {
            // Otherwise it would be granted what nobody gives back.
            self.session
                .keeper
                .give_back_late(Late::Place(self.place.clone()));
        }
        left.ok().flatten()
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.session.engine().put_bell(self.place.bell);
    }
}
