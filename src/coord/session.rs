//! A store as one process has it open.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::CoordError;
use super::clerk::Clerk;
use super::error::{Fault, Operation};
use super::hold::Hold;
use super::keeper::{Keeper, Late};
use super::status::{HolderStatus, Mode, ProcessStatus, Status, WaiterStatus};
use super::store::{Engine, Extension, Listing, SessionRow, Want};
use super::trace;

/// What all handles of a store share. With the last of them it is closed.
pub struct Session {
    engine: Arc<dyn Engine>,
    pub(super) keeper: Arc<Keeper>,
    pub(super) clerk: Arc<Clerk>,
}

impl Session {
    pub(super) fn of(engine: Arc<dyn Engine>) -> Arc<Self> {
        let keeper = Keeper::of(Arc::clone(&engine));
        let clerk = Clerk::of(Arc::clone(&keeper));
        Arc::new(Self {
            engine,
            keeper,
            clerk,
        })
    }

    pub(super) fn engine(&self) -> &dyn Engine {
        &*self.engine
    }

    pub(super) fn extend(&self, hold: &Hold, time: Duration) -> Result<(), CoordError> {
        match extend(&self.keeper, hold, time) {
            Ok(true) => Ok(()),
            Ok(false) => {
                hold.lose();
                Err(CoordError::lost(&hold.key, Operation::Extend, hold.token))
            }
            Err(fault) => Err(fault.at(Some(&hold.key), Operation::Extend)),
        }
    }

    pub(super) fn force_unlock(&self, key: &str, fencing_token: u64) -> Result<(), CoordError> {
        let key = Arc::from(key);
        match self.engine.force_unlock(&key, fencing_token) {
            Ok(true) => {
                trace::force_unlocked(&key, fencing_token);
                Ok(())
            }
            Ok(false) => Err(CoordError::not_held(&key, fencing_token)),
            Err(fault) => Err(fault.at(Some(&key), Operation::ForceUnlock)),
        }
    }

    pub(super) fn evict(&self, tag: &str) -> Result<usize, CoordError> {
        let evicted = self.engine.evict(tag);
        let count = evicted.map_err(|fault| fault.at(Some(&Arc::from(tag)), Operation::Evict))?;
        trace::evicted(tag, count);
        Ok(count)
    }

    pub(super) fn close(&self) -> Result<(), CoordError> {
        let closed = self.engine.check().and_then(|()| {
            self.clerk.close();
            self.keeper.close();
            self.engine.close()
        });
        closed.map_err(|fault| fault.at(None, Operation::Close))
    }

    pub(super) fn list(&self) -> Result<Vec<Status>, CoordError> {
        let listing = self
            .engine
            .list()
            .map_err(|fault| fault.at(None, Operation::List))?;
        Ok(by_key(&listing))
    }
}

/// Gives it back. What can't be done now is done later all the same.
pub(super) fn release(keeper: &Arc<Keeper>, hold: &Hold) -> Result<(), CoordError> {
    release_within(keeper, hold, Duration::MAX)
}

/// The same, but it isn't tried for much longer than that.
pub(super) fn release_within(
    keeper: &Arc<Keeper>,
    hold: &Hold,
    longest: Duration,
) -> Result<(), CoordError> {
    let lost = || CoordError::lost(&hold.key, Operation::Release, hold.token);
    let fault = |fault: Fault| fault.at(Some(&hold.key), Operation::Release);
    keeper.engine().check().map_err(fault)?;
    // Who closes the store takes all of them.
    if !keeper.remove(hold) {
        return Err(lost());
    }
    let released = keeper.engine().release(&hold.key, hold.token, longest);
    match released {
        Ok(true) => Ok(()),
        Ok(false) => Err(lost()),
        Err(Fault::Unsure) if hold.is_valid(keeper.engine().now()) => Ok(()),
        Err(Fault::Unsure) => Err(lost()),
        Err(error) => {
            if let Fault::Busy | Fault::Store(_) = error {
                keeper.give_back_late(Late::Grant(Arc::clone(&hold.key), hold.token));
            }
            Err(fault(error))
        }
    }
}

/// The same where nobody hears of an error, so that what can't be reached for one isn't waited for by all.
pub(super) fn let_go(keeper: &Arc<Keeper>, hold: &Hold) {
    if keeper.is_late() && keeper.engine().check().is_ok() {
        if keeper.remove(hold) {
            keeper.give_back_late(Late::Grant(Arc::clone(&hold.key), hold.token));
        }
    } else {
        let _ = release(keeper, hold);
    }
}

/// Lets a lease end so long after now. False if it has ended before, or was taken away.
///
/// If it will end sooner than it would have, this process believes so before others can, and goes on to if nobody can tell
/// whether that was done.
fn extend(keeper: &Keeper, hold: &Hold, time: Duration) -> Result<bool, Fault> {
    let why = Extension::ByHolder;
    let engine = keeper.engine();
    engine.check()?;
    let _one_at_a_time = hold.changing.lock();
    let now = engine.now();
    if !hold.is_valid(now) {
        return Ok(false);
    }
    let before = hold.doubt(now.after(engine.believed(time)));
    keeper.look_for_ends();
    match engine.extend(&hold.key, hold.token, time, why) {
        Ok(Some(ends)) => hold.set_end(ends, why, now),
        Ok(None) => return Ok(false),
        Err(fault) => {
            if !matches!(fault, Fault::Unknown(_)) {
                hold.trust(before);
            }
            return Err(fault);
        }
    }
    keeper.look_for_ends();
    Ok(true)
}

impl Drop for Session {
    fn drop(&mut self) {
        // Who holds something that couldn't be given back finds that this process has closed its store.
        let _ = self.close();
    }
}

fn by_key(listing: &Listing) -> Vec<Status> {
    let sessions: BTreeMap<_, _> = listing.sessions.iter().map(|row| (row.id, row)).collect();
    let mut keys: BTreeMap<&str, Status> = BTreeMap::new();
    for holder in &listing.holders {
        let session = sessions.get(&holder.session).copied();
        let same_clock = session.is_some_and(|session| session.same_clock);
        if same_clock && holder.is_over(listing.now) {
            continue;
        }
        let ends = holder.expires.filter(|_| same_clock);
        status(&mut keys, &holder.ask.key, holder.ask.want)
            .holders
            .push(HolderStatus {
                mode: holder.ask.want.mode(),
                fencing_token: holder.token,
                slot: holder.slot,
                since: wall_time(holder.since),
                remaining: ends.map(|ends| ends.since(listing.now)),
                tag: holder.ask.tag.as_deref().map(str::to_owned),
                owner: holder.ask.owner.clone(),
                process: process(session),
            });
    }
    for waiter in &listing.waiters {
        status(&mut keys, &waiter.ask.key, waiter.ask.want)
            .waiters
            .push(WaiterStatus {
                mode: waiter.ask.want.mode(),
                ticket: waiter.ticket,
                since: wall_time(waiter.since),
                owner: waiter.ask.owner.clone(),
                process: process(sessions.get(&waiter.session).copied()),
            });
    }
    keys.into_values().collect()
}

fn status<'a, 'k>(
    keys: &'a mut BTreeMap<&'k str, Status>,
    key: &'k str,
    want: Want,
) -> &'a mut Status {
    keys.entry(key).or_insert_with(|| Status {
        key: key.to_owned(),
        kind: want.kind(),
        holders: Vec::new(),
        waiters: Vec::new(),
    })
}

pub(super) fn process(session: Option<&SessionRow>) -> ProcessStatus {
    session
        .cloned()
        .map_or_else(ProcessStatus::default, |session| ProcessStatus {
            host: session.host,
            id: session.process,
            label: session.label,
            command: session.command,
        })
}

fn wall_time(microseconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(microseconds)
}

impl Want {
    fn mode(self) -> Mode {
        match self {
            Self::Exclusive => Mode::Exclusive,
            Self::Shared => Mode::Shared,
            Self::Permit { limit } => Mode::Permit { of: limit },
        }
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}
