//! A store in the memory of this process, for tests: with a clock that the test sets, and sessions that die on command.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::line::{Line, Moment};
use super::sealed::HasSession;
use super::value::Value;
use super::{
    Ask, Bell, Engine, Entered, Extension, Heard, Holder, Listing, Mean, OfAverage, Otherwise,
    Place, Rate, SessionRow, Sleeper, Standing, Store, Turn, Watch,
};
use crate::coord::error::Fault;
use crate::coord::lease::Lease;
use crate::coord::session::Session;
use crate::coord::time::{Time, wall_clock, wall_time};

/// A store in the memory of this process, for tests.
///
/// It does what the others do, by the same rules. What a test needs beyond that: a [second session](Self::new_session)
/// stands for another process, [`crash`](Self::crash) for its end, [`stop`](Self::stop) for one that doesn't run for a
/// while; and with a [virtual clock](Self::with_virtual_clock) leases last until the test [advances](Self::advance) it.
///
/// # Examples
///
/// ```
/// use hapax::coord::{CoordError, Lease, Lock, MemoryStore};
/// use std::time::Duration;
///
/// let store = MemoryStore::with_virtual_clock();
/// let other = store.new_session();
/// let lease = Lease::Renewed(Duration::from_secs(30));
/// let guard = Lock::new(&store, "reports").lease(lease).lock()?;
///
/// store.advance(Duration::from_secs(300));
/// assert!(guard.is_valid());
/// store.stop();
/// store.advance(Duration::from_secs(30));
/// assert!(!guard.is_valid());
/// let successor = Lock::new(&other, "reports").lock()?;
/// assert!(successor.fencing_token() > guard.fencing_token());
/// # Ok::<_, CoordError>(())
/// ```
#[derive(Clone)]
pub struct MemoryStore {
    session: Arc<Session>,
    engine: Arc<MemoryEngine>,
}

/// The store as one session has it open.
struct MemoryEngine {
    id: u64,
    shared: Arc<Shared>,
}

/// What all sessions share.
struct Shared {
    rows: Mutex<Rows>,
    /// Somebody has been rung, a session has ended, or the clock was set.
    changed: Condvar,
    /// When this was made, by the machine's clock, unless the clock is a virtual one.
    began: Option<Instant>,
}

#[derive(Default)]
struct Rows {
    lines: BTreeMap<Arc<str>, Line>,
    values: BTreeMap<Arc<str>, Value>,
    last_number: u64,
    sessions: BTreeMap<u64, State>,
    /// The virtual clock.
    virtual_now: Duration,
    rung: HashSet<Bell>,
    last_bell: u32,
}

struct State {
    session: Weak<Session>,
    is_stopped: bool,
}

impl Rows {
    fn heard(&mut self, sleeper: &Sleeper<'_>) -> Heard {
        let has_ended = |session| !self.sessions.contains_key(session);
        let is_to_look = sleeper.watched.iter().any(has_ended) || self.rung.remove(&sleeper.bell);
        is_to_look.into()
    }
}

impl MemoryStore {
    /// An empty one, whose leases last as long as they say.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::coord::{Lock, MemoryStore};
    ///
    /// let store = MemoryStore::new();
    /// assert!(Lock::new(&store, "reports").try_lock().is_ok());
    /// ```
    #[expect(clippy::new_without_default, reason = "a store is opened")]
    pub fn new() -> Self {
        Self::of(Some(Instant::now()))
    }

    /// An empty one, whose clock stands still until it is [advanced](Self::advance). Time limits of waits are counted by it
    /// as well.
    ///
    /// # Examples
    ///
    /// See [`MemoryStore`].
    pub fn with_virtual_clock() -> Self {
        Self::of(None)
    }

    fn of(began: Option<Instant>) -> Self {
        Self::join(Arc::new(Shared {
            rows: Mutex::default(),
            changed: Condvar::new(),
            began,
        }))
    }

    fn join(shared: Arc<Shared>) -> Self {
        let id = {
            let mut rows = shared.rows.lock();
            rows.last_number += 1;
            rows.last_number
        };
        let engine = Arc::new(MemoryEngine { id, shared });
        let session = Session::of(Arc::<MemoryEngine>::clone(&engine));
        let state = State {
            session: Arc::downgrade(&session),
            is_stopped: false,
        };
        engine.shared.rows.lock().sessions.insert(id, state);
        Self { session, engine }
    }

    /// The same store as another process would have it open.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::coord::{Lock, MemoryStore};
    ///
    /// let store = MemoryStore::new();
    /// let other = store.new_session();
    /// let _guard = Lock::new(&store, "reports").lock()?;
    /// assert!(Lock::new(&other, "reports").try_lock().is_err());
    /// # Ok::<_, hapax::coord::CoordError>(())
    /// ```
    pub fn new_session(&self) -> Self {
        Self::join(Arc::clone(&self.engine.shared))
    }

    /// Ends this session as a process ends that is killed: nothing is given back, and others find that it is dead. Its
    /// guards are lost, and what it waits for ends with [`Closed`](crate::coord::CoordError::Closed).
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::coord::{Lock, MemoryStore};
    ///
    /// let store = MemoryStore::new();
    /// let other = store.new_session();
    /// let guard = Lock::new(&store, "reports").lock()?;
    /// store.crash();
    /// assert!(Lock::new(&other, "reports").try_lock().is_ok());
    /// assert!(!guard.is_valid());
    /// # Ok::<_, hapax::coord::CoordError>(())
    /// ```
    pub fn crash(&self) {
        let mut rows = self.engine.shared.rows.lock();
        rows.sessions.remove(&self.engine.id);
        self.engine.shared.changed.notify_all();
        drop(rows);
        self.session.clerk.close();
        self.session.keeper.close();
    }

    /// From now on leases of this session aren't renewed, as if its process were stopped. Only with a virtual clock.
    ///
    /// # Panics
    ///
    /// If the clock isn't a virtual one.
    ///
    /// # Examples
    ///
    /// See [`MemoryStore`].
    pub fn stop(&self) {
        self.set_stopped(true);
    }

    /// Ends what [`stop`](Self::stop) has begun.
    ///
    /// # Panics
    ///
    /// If the clock isn't a virtual one.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::coord::{Lease, Lock, MemoryStore};
    /// use std::time::Duration;
    ///
    /// let store = MemoryStore::with_virtual_clock();
    /// let guard = Lock::new(&store, "a").lease(Lease::Renewed(Duration::from_secs(30))).lock()?;
    /// store.stop();
    /// store.advance(Duration::from_secs(25));
    /// store.resume();
    /// store.advance(Duration::from_secs(25));
    /// assert!(guard.is_valid());
    /// # Ok::<_, hapax::coord::CoordError>(())
    /// ```
    pub fn resume(&self) {
        self.set_stopped(false);
        self.advance(Duration::ZERO);
    }

    fn set_stopped(&self, is_stopped: bool) {
        self.engine.shared.expect_virtual();
        if let Some(state) = self
            .engine
            .shared
            .rows
            .lock()
            .sessions
            .get_mut(&self.engine.id)
        {
            state.is_stopped = is_stopped;
        }
    }

    /// Lets so much time go by, for all sessions. What is to be done on the way is done in its order: leases are renewed,
    /// or end, and [`lost`](crate::coord::LockGuard::lost) is told. Threads whose waits end by that go on after it.
    ///
    /// # Panics
    ///
    /// If the clock isn't a virtual one.
    ///
    /// # Examples
    ///
    /// See [`MemoryStore`].
    pub fn advance(&self, time: Duration) {
        let shared = &self.engine.shared;
        shared.expect_virtual();
        let end = shared.now().after(time);
        loop {
            let keepers = shared.running_keepers();
            let next = keepers
                .iter()
                .filter_map(|session| session.keeper.next())
                .min();
            let now = next.unwrap_or(end).min(end).max(shared.now());
            shared.rows.lock().virtual_now = now.since(Time(0));
            keepers.iter().for_each(|session| session.keeper.work());
            shared.changed.notify_all();
            if now == end && next.is_none_or(|next| next > end) {
                return;
            }
        }
    }
}

impl Shared {
    fn expect_virtual(&self) {
        assert!(
            self.began.is_none(),
            "the clock of this store goes by itself"
        );
    }

    fn now(&self) -> Time {
        self.now_in(&self.rows.lock())
    }

    fn now_in(&self, rows: &Rows) -> Time {
        Time(0).after(self.began.map_or(rows.virtual_now, |began| began.elapsed()))
    }

    /// The wall clock. A virtual one shows the same as the other virtual one.
    fn wall_time_in(&self, rows: &Rows) -> Time {
        self.began
            .map_or_else(|| self.now_in(rows), |_| wall_time())
    }

    fn new_bell(&self, session: u64) -> Bell {
        let mut rows = self.rows.lock();
        rows.last_bell += 1;
        let number = rows.last_bell;
        Bell { session, number }
    }

    fn running_keepers(&self) -> Vec<Arc<Session>> {
        let rows = self.rows.lock();
        let running = rows.sessions.values().filter(|state| !state.is_stopped);
        running
            .filter_map(|state| state.session.upgrade())
            .collect()
    }
}

struct MemoryMoment<'a> {
    now: Time,
    last_number: &'a mut u64,
}

impl Moment for MemoryMoment<'_> {
    fn now(&self) -> Time {
        self.now
    }

    fn last_number(&self) -> u64 {
        *self.last_number
    }

    fn next_number(&mut self) -> u64 {
        *self.last_number = (*self.last_number + 1).max(wall_clock());
        *self.last_number
    }

    fn expiry(&self, _session: u64, lease: Lease) -> Option<Time> {
        lease.time().map(|time| self.now.after(time))
    }
}

impl MemoryEngine {
    /// Does something with the line of a key, after what doesn't count any more was taken out.
    fn transact<R>(
        &self,
        key: &Arc<str>,
        dead: &[u64],
        f: impl FnOnce(&mut Line, &mut MemoryMoment) -> R,
    ) -> Result<R, Fault> {
        Ok(self.change(&mut *self.rows()?, key, dead, f))
    }

    /// All rows, as long as this session hasn't ended.
    fn rows(&self) -> Result<MutexGuard<'_, Rows>, Fault> {
        let rows = self.shared.rows.lock();
        if rows.sessions.contains_key(&self.id) {
            Ok(rows)
        } else {
            Err(Fault::Closed)
        }
    }

    fn change<R>(
        &self,
        rows: &mut Rows,
        key: &Arc<str>,
        dead: &[u64],
        f: impl FnOnce(&mut Line, &mut MemoryMoment) -> R,
    ) -> R {
        let now = self.shared.now_in(rows);
        let mut moment = MemoryMoment {
            now,
            last_number: &mut rows.last_number,
        };
        let mut line = rows.lines.remove(key).unwrap_or_default();
        let is_dead = |session| dead.contains(&session);
        if line.remove(now, is_dead) {
            line.settle(&mut moment);
        }
        let answer = f(&mut line, &mut moment);
        let to_ring = std::mem::take(&mut line.to_ring);
        if !line.holders.is_empty() || !line.waiters.is_empty() {
            rows.lines.insert(Arc::clone(key), line);
        }
        if !to_ring.is_empty() {
            // Whatever it is, they look: a test sees at once what was taken away.
            rows.rung.extend(to_ring.into_iter().map(|ring| ring.bell));
            self.shared.changed.notify_all();
        }
        answer
    }

    /// Does something with the value of a key, which is taken out of where it lies, after what is over was taken out.
    fn with_value<R>(
        &self,
        key: &Arc<str>,
        f: impl FnOnce(&mut Option<Value>, Time) -> R,
    ) -> Result<R, Fault> {
        let mut rows = self.rows()?;
        let now = self.shared.wall_time_in(&rows);
        let mut value = rows.values.remove(key).and_then(|value| value.at(now));
        if value.is_none() {
            rows.values.retain(|_, value| !value.is_over(now));
        }
        let answer = f(&mut value, now);
        if let Some(value) = value {
            rows.values.insert(Arc::clone(key), value);
        }
        Ok(answer)
    }

    fn standing(&self, place: &Place, line: &Line, moment: &MemoryMoment) -> Standing {
        line.standing(place.ticket, self.id, moment)
    }
}

impl Engine for MemoryEngine {
    fn now(&self) -> Time {
        self.shared.now()
    }

    fn check(&self) -> Result<(), Fault> {
        Ok(())
    }

    fn enter(&self, ask: &Ask, otherwise: Otherwise, dead: &[u64]) -> Result<Entered, Fault> {
        let bell = (otherwise == Otherwise::Queue).then(|| self.shared.new_bell(self.id));
        let entered = self.transact(&ask.key, dead, |line, moment| {
            line.enter(ask, self.id, bell.map(|bell| move || Ok(bell)), moment)
        })?;
        if let (Some(bell), Err(_) | Ok(Entered::Granted(_))) = (bell, &entered) {
            self.put_bell(bell);
        }
        entered
    }

    fn look(&self, place: &Place) -> Result<Standing, Fault> {
        let mut rows = self.rows()?;
        let rows = &mut *rows;
        let now = self.shared.now_in(rows);
        let Some(line) = rows.lines.get(&place.ask.key) else {
            return Ok(Standing::Gone);
        };
        let last_number = &mut rows.last_number;
        Ok(self.standing(place, line, &MemoryMoment { now, last_number }))
    }

    fn claim(&self, place: &Place, dead: &[u64]) -> Result<Standing, Fault> {
        self.transact(&place.ask.key, dead, |line, moment| {
            line.settle(moment);
            self.standing(place, line, moment)
        })
    }

    fn leave(&self, place: &Place) -> Result<Option<Holder>, Fault> {
        self.transact(&place.ask.key, &[], |line, moment| {
            line.leave(place.ticket, moment)
        })
    }

    fn release(&self, key: &Arc<str>, token: u64, _longest: Duration) -> Result<bool, Fault> {
        self.transact(key, &[], |line, moment| line.release(token, moment))
    }

    fn extend(
        &self,
        key: &Arc<str>,
        token: u64,
        time: Duration,
        _: Extension,
    ) -> Result<Option<Time>, Fault> {
        self.transact(key, &[], |line, moment| line.extend(token, time, moment))
    }

    fn held(&self, _: &[(&str, u64)], _longest: Duration) -> Result<Vec<u64>, Fault> {
        let rows = self.shared.rows.lock();
        let holders = rows.lines.values().flat_map(|line| &line.holders);
        Ok(holders
            .filter(|holder| holder.session == self.id)
            .map(|holder| holder.token)
            .collect())
    }

    fn list(&self) -> Result<Listing, Fault> {
        let rows = self.rows()?;
        let row = |&id: &u64| SessionRow {
            id,
            host: String::new(),
            process: std::process::id(),
            label: None,
            command: None,
            same_clock: true,
        };
        Ok(Listing {
            holders: rows
                .lines
                .values()
                .flat_map(|line| line.holders.clone())
                .collect(),
            waiters: rows
                .lines
                .values()
                .flat_map(|line| line.waiters.clone())
                .collect(),
            sessions: rows.sessions.keys().map(row).collect(),
            now: self.shared.now_in(&rows),
        })
    }

    fn force_unlock(&self, key: &Arc<str>, token: u64) -> Result<bool, Fault> {
        self.transact(key, &[], |line, moment| {
            let is_there = line.release(token, moment);
            line.settle(moment);
            is_there
        })
    }

    fn close(&self) -> Result<(), Fault> {
        let keys: Vec<_> = self.shared.rows.lock().lines.keys().cloned().collect();
        for key in keys {
            match self.transact(&key, &[self.id], |_, _| ()) {
                Ok(()) => {}
                Err(Fault::Closed) => return Ok(()),
                Err(fault) => return Err(fault),
            }
        }
        let mut rows = self.shared.rows.lock();
        rows.sessions.remove(&self.id);
        self.shared.changed.notify_all();
        Ok(())
    }

    fn take_bell(&self) -> Result<Bell, Fault> {
        Ok(self.shared.new_bell(self.id))
    }

    fn put_bell(&self, bell: Bell) {
        self.shared.rows.lock().rung.remove(&bell);
    }

    fn ring(&self, bell: Bell) -> Result<(), Fault> {
        self.shared.rows.lock().rung.insert(bell);
        self.shared.changed.notify_all();
        Ok(())
    }

    fn watch(&self, sessions: &[u64]) -> Watch {
        Watch {
            is_new: false,
            dead: self.find_dead(sessions),
        }
    }

    fn find_dead(&self, sessions: &[u64]) -> Vec<u64> {
        let rows = self.shared.rows.lock();
        let is_dead = |session: &&u64| !rows.sessions.contains_key(session);
        sessions.iter().filter(is_dead).copied().collect()
    }

    fn sleep(&self, sleepers: &[Sleeper<'_>], until: Time) -> Result<Vec<Heard>, Fault> {
        let mut rows = self.shared.rows.lock();
        loop {
            if !rows.sessions.contains_key(&self.id) {
                return Err(Fault::Closed);
            }
            let heard = sleepers.iter().map(|sleeper| rows.heard(sleeper));
            let heard: Vec<_> = heard.collect();
            let now = self.shared.now_in(&rows);
            if now >= until || heard.iter().any(|heard| *heard != Heard::Nothing) {
                return Ok(heard);
            }
            match self.shared.began {
                Some(_) => {
                    self.shared.changed.wait_for(&mut rows, until.since(now));
                }
                None => self.shared.changed.wait(&mut rows),
            }
        }
    }

    fn is_driven(&self) -> bool {
        self.shared.began.is_none()
    }

    fn average(&self, key: &Arc<str>, step: OfAverage<'_>) -> Result<Option<Mean>, Fault> {
        self.with_value(key, |value, now| {
            let found = value.as_ref().map(Value::mean).transpose()?;
            match step {
                OfAverage::Get => Ok(found),
                OfAverage::Pop => {
                    *value = None;
                    Ok(found)
                }
                OfAverage::Add {
                    number,
                    expire,
                    tag,
                } => {
                    let (mean, after) = Value::add(value.clone(), number, expire, tag, now)?;
                    *value = Some(after);
                    Ok(Some(mean))
                }
            }
        })?
    }

    fn take_turn(
        &self,
        key: &Arc<str>,
        rate: Rate,
        longest: Duration,
        tag: Option<&str>,
    ) -> Result<Turn, Fault> {
        self.with_value(key, |value, now| {
            let (turn, after) = Value::take(value.clone(), rate, longest, tag, now)?;
            if after.is_some() {
                *value = after;
            }
            Ok(turn)
        })?
    }

    fn put_back_turn(&self, key: &Arc<str>, rate: Rate, number: i64) -> Result<(), Fault> {
        self.with_value(key, |value, _| {
            if let Some(after) = value.clone().and_then(|value| value.put_back(rate, number)) {
                *value = Some(after);
            }
        })
    }

    fn evict(&self, tag: &str) -> Result<usize, Fault> {
        let mut rows = self.rows()?;
        let keys: Vec<_> = rows.lines.keys().cloned().collect();
        let mut count = 0;
        for key in keys {
            count += self.change(&mut rows, &key, &[], |line, moment| line.evict(tag, moment));
        }
        let now = self.shared.wall_time_in(&rows);
        rows.values.retain(|_, value| !value.is_over(now));
        let before = rows.values.len();
        rows.values
            .retain(|_, value| value.tag.as_deref() != Some(tag));
        Ok(count + before - rows.values.len())
    }
}

impl HasSession for MemoryStore {
    fn session(&self) -> &Arc<Session> {
        &self.session
    }
}

impl Store for MemoryStore {}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("session", &self.engine.id)
            .finish_non_exhaustive()
    }
}
