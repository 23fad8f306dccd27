//! Where the rows lie, and how one waits for them to change.

#[cfg(any(feature = "coord-redis", feature = "coord-sqlite"))]
mod clock;
#[cfg(any(feature = "coord-redis", feature = "coord-sqlite"))]
#[cfg_attr(
    not(feature = "coord-sqlite"),
    expect(
        dead_code,
        reason = "files and sockets that a child must not keep are those of a `SqliteStore`"
    )
)]
mod fork;
pub(super) mod line;
mod memory;
#[cfg(feature = "coord-redis")]
mod redis;
#[cfg(feature = "coord-sqlite")]
mod sqlite;
mod value;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::error::Fault;
use super::lease::Lease;
use super::session::Session;
use super::status::Status;
use super::time::Time;

pub(super) use line::{Ask, Bell, Grant, Holder, Standing, Waiter, Want};
pub use memory::MemoryStore;
#[cfg(feature = "coord-redis")]
pub use redis::{RedisOptions, RedisStore};
#[cfg(feature = "coord-sqlite")]
pub use sqlite::{SqliteOptions, SqliteStore};
pub(super) use value::{Mean, OfAverage, Rate, Turn};

/// A place where locks, semaphores, rate limits and averages lie: a [`MemoryStore`], with the feature `coord-sqlite` a
/// `SqliteStore`, with `coord-redis` a `RedisStore`.
///
/// A clone of a store is the same one, and with the last of them and of all that was made with it the store is closed.
/// Nobody else can implement this.
///
/// # Examples
///
/// ```
/// use hapax::coord::{CoordError, Lock, MemoryStore, Store};
///
/// fn count(store: &impl Store) -> Result<usize, CoordError> {
///     Ok(store.list()?.len())
/// }
///
/// let store = MemoryStore::new();
/// let _guard = Lock::new(&store, "reports").lock()?;
/// assert_eq!(count(&store)?, 1);
/// # Ok::<_, CoordError>(())
/// ```
pub trait Store: sealed::HasSession {
    /// Who holds and who waits, by key, as of one moment. Nothing is changed, and who has died meanwhile may still be there.
    ///
    /// # Errors
    ///
    /// What can be wrong with a store.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::coord::{Lock, MemoryStore, Store};
    ///
    /// let store = MemoryStore::new();
    /// let guard = Lock::new(&store, "reports").lock()?;
    /// let list = store.list()?;
    /// assert_eq!(list[0].key, "reports");
    /// assert_eq!(list[0].holders[0].fencing_token, guard.fencing_token());
    /// # Ok::<_, hapax::coord::CoordError>(())
    /// ```
    fn list(&self) -> Result<Vec<Status>, super::CoordError> {
        self.session().list()
    }

    /// Takes a grant away from whoever holds it, and gives it to the next one. The holder learns within about a second
    /// that it has [lost](super::LockGuard::lost) it, and can't be stopped from what it does until then.
    ///
    /// # Errors
    ///
    /// - [`NotHeld`](super::CoordError::NotHeld) if nobody holds the key by that token, so that a later holder is never harmed.
    /// - [`OutcomeUnknown`](super::CoordError::OutcomeUnknown) if a Redis server has got it, perhaps, and there was no answer.
    /// - What can be wrong with a store.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::coord::{CoordError, Lock, MemoryStore, Store};
    ///
    /// let store = MemoryStore::new();
    /// let lock = Lock::new(&store, "reports");
    /// let first = lock.lock()?;
    /// store.force_unlock("reports", first.fencing_token())?;
    /// let second = lock.lock()?;
    /// assert!(matches!(first.release(), Err(CoordError::Lost { .. })));
    /// assert!(second.is_valid());
    /// # Ok::<_, CoordError>(())
    /// ```
    fn force_unlock(&self, key: &str, fencing_token: u64) -> Result<(), super::CoordError> {
        self.session().force_unlock(key, fencing_token)
    }

    /// Takes away all that has that tag, in one step, or on a Redis server key by key: locks and permits from whoever holds them, as
    /// [`force_unlock`](Self::force_unlock) does, and averages and rate limits. Who waits by that tag goes on waiting. Answers how
    /// many there were.
    ///
    /// # Errors
    ///
    /// What can be wrong with a store. Where others have the key, the error has the tag.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::coord::{Averager, CoordError, Lock, MemoryStore, Store};
    ///
    /// let store = MemoryStore::new();
    /// let guard = Lock::new(&store, "reports").tag("nightly").lock()?;
    /// let duration = Averager::new(&store, "report duration").tag("nightly");
    /// duration.add(3.5)?;
    /// assert_eq!(store.evict("nightly")?, 2);
    /// assert!(matches!(guard.release(), Err(CoordError::Lost { .. })));
    /// assert_eq!(duration.get()?, None);
    /// # Ok::<_, CoordError>(())
    /// ```
    #[doc(alias = "force_unlock_tag")]
    fn evict(&self, tag: &str) -> Result<usize, super::CoordError> {
        self.session().evict(tag)
    }

    /// Gives back all that is held through this store, leaves all queues, and closes it. Waits end with
    /// [`Closed`](super::CoordError::Closed), guards are lost.
    ///
    /// # Errors
    ///
    /// What can be wrong with a store. It counts as closed all the same, and others find that its holder is gone.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::coord::{CoordError, Lock, MemoryStore, Store};
    ///
    /// let store = MemoryStore::new();
    /// let guard = Lock::new(&store, "reports").lock()?;
    /// store.close()?;
    /// assert!(!guard.is_valid());
    /// assert!(matches!(Lock::new(&store, "x").lock(), Err(CoordError::Closed { .. })));
    /// # Ok::<_, CoordError>(())
    /// ```
    fn close(&self) -> Result<(), super::CoordError> {
        self.session().close()
    }
}

pub(super) mod sealed {
    use super::{Arc, Session};

    pub trait HasSession {
        #[doc(hidden)]
        fn session(&self) -> &Arc<Session>;
    }
}

/// What a store can do, for one session of it. All of it may be called by several threads at once.
///
/// Each call is atomic with those of other sessions. None of them waits for a lock to come free, except [`sleep`](Self::sleep).
pub(super) trait Engine: Send + Sync {
    fn now(&self) -> Time;

    /// An error in a child that was forked, where locks that threads had which aren't there any more stay locked. Takes none.
    fn check(&self) -> Result<(), Fault>;

    /// For how long such a lease is renewed, if it is.
    fn renews_for(&self, lease: Lease) -> Option<Duration> {
        match lease {
            Lease::Renewed(time) => Some(time),
            Lease::Session | Lease::Fixed(_) => None,
        }
    }

    /// Grants it, or queues or refuses the caller, after it has taken out what belongs to the dead. Whoever is queued leaves,
    /// or is granted it, and puts the bell of its place back.
    fn enter(&self, ask: &Ask, otherwise: Otherwise, dead: &[u64]) -> Result<Entered, Fault>;

    /// How a waiter stands. Changes nothing, except on a Redis server: there it shows that it is there, and takes what it was
    /// granted, after what has ended was taken out and what is due was granted.
    fn look(&self, place: &Place) -> Result<Standing, Fault>;

    /// The same, after it has taken out what belongs to the dead, and granted what can be granted.
    fn claim(&self, place: &Place, dead: &[u64]) -> Result<Standing, Fault>;

    /// Takes a waiter out. If it was granted something before, that is what comes back.
    fn leave(&self, place: &Place) -> Result<Option<Holder>, Fault>;

    /// False if it wasn't there. It needn't be tried for longer than that.
    fn release(&self, key: &Arc<str>, token: u64, longest: Duration) -> Result<bool, Fault>;

    /// How much of a lease of that length a holder may believe in.
    fn believed(&self, time: Duration) -> Duration {
        time
    }

    /// From now on the lease lasts for that long. Answers when it ends then, and not at all if it isn't there. After an error
    /// nothing has changed, unless it is [`Unknown`](Fault::Unknown).
    fn extend(
        &self,
        key: &Arc<str>,
        token: u64,
        time: Duration,
        why: Extension,
    ) -> Result<Option<Time>, Fault>;

    /// Renews all of those, each as [`extend`](Self::extend) does it. Answers for each of them, until the first error.
    fn renew_all(&self, renewals: &[Renewal<'_>]) -> Vec<Result<Option<Time>, Fault>> {
        let mut answers = Vec::with_capacity(renewals.len());
        for renewal in renewals {
            let Renewal { key, token, time } = *renewal;
            answers.push(self.extend(key, token, time, Extension::Renewal));
            if answers.last().is_some_and(Result::is_err) {
                break;
            }
        }
        answers
    }

    /// Which of those, by key and token, this session holds. Others that it holds may be among them. It needn't be tried
    /// for longer than that.
    fn held(&self, holds: &[(&str, u64)], longest: Duration) -> Result<Vec<u64>, Fault>;

    fn list(&self) -> Result<Listing, Fault>;

    /// As a release, but nobody is asked to be patient.
    fn force_unlock(&self, key: &Arc<str>, token: u64) -> Result<bool, Fault>;

    /// Takes out all that belongs to this session, and wakes its waiters. Nothing is done twice.
    fn close(&self) -> Result<(), Fault>;

    fn put_bell(&self, bell: Bell);

    /// Looks after sessions, so that [`sleep`](Self::sleep) ends when one of them does.
    fn watch(&self, sessions: &[u64]) -> Watch;

    /// A bell that isn't a waiter's.
    fn take_bell(&self) -> Result<Bell, Fault>;

    fn ring(&self, bell: Bell) -> Result<(), Fault>;

    /// Those of them that have ended, without looking after them.
    fn find_dead(&self, sessions: &[u64]) -> Vec<u64>;

    /// Sleeps until a bell is rung, a session ends that is watched, or it is that late, or for no reason. Answers what each of
    /// them has heard.
    ///
    /// An error if there is nothing to sleep for any more.
    fn sleep(&self, sleepers: &[Sleeper<'_>], until: Time) -> Result<Vec<Heard>, Fault>;

    /// How long an answer may take.
    fn answer_time(&self) -> Duration {
        Duration::ZERO
    }

    /// Whether a call may take longer than leases last.
    fn may_stall(&self) -> bool {
        false
    }

    /// Whether leases are looked after by whoever sets the clock, and not by a thread.
    fn is_driven(&self) -> bool {
        false
    }

    /// Adds to an average, reads it, or takes it out. Answers with what it is after an addition, and otherwise with what was
    /// there, if there was something. An error if the key is a rate limit, or if the sum would be infinite, and then nothing
    /// has changed.
    fn average(&self, key: &Arc<str>, step: OfAverage<'_>) -> Result<Option<Mean>, Fault>;

    /// Takes a permit of a rate limit if that is due within that time. An error if the key is an average, or is limited by
    /// another rate.
    fn take_turn(
        &self,
        key: &Arc<str>,
        rate: Rate,
        longest: Duration,
        tag: Option<&str>,
    ) -> Result<Turn, Fault>;

    /// Gives one back that wasn't used, by the number of it, if nobody has taken one since. Nothing happens otherwise.
    fn put_back_turn(&self, key: &Arc<str>, rate: Rate, number: i64) -> Result<(), Fault>;

    /// Takes out all grants and all values that have that tag, and grants to others what comes free. Answers how many there
    /// were.
    fn evict(&self, tag: &str) -> Result<usize, Fault>;
}

/// What becomes of somebody who can't be granted something at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Otherwise {
    Refuse,
    Queue,
}

/// Why a lease is extended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extension {
    /// It renews itself.
    Renewal,
    ByHolder,
}

/// A grant that is renewed, for so long.
#[derive(Clone, Copy)]
pub(super) struct Renewal<'a> {
    pub(super) key: &'a Arc<str>,
    pub(super) token: u64,
    pub(super) time: Duration,
}

pub(super) enum Entered {
    Granted(Holder),
    /// And how it stands there.
    Queued(Place, Standing),
    /// The sessions that are in the way.
    Refused(Vec<u64>),
}

/// A waiter's place in a queue.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) ask: Ask,
    pub(super) ticket: u64,
    pub(super) bell: Bell,
    /// What it waits for was held in its own name when it came.
    pub(super) waits_for_itself: bool,
}

/// A waiter that sleeps.
pub(super) struct Sleeper<'a> {
    pub(super) bell: Bell,
    /// The sessions that it watches.
    pub(super) watched: &'a [u64],
}

/// What a sleeper has heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Nothing,
    /// It is to look.
    Something,
    /// That was granted to it, or to who slept there before; then it is to look.
    #[cfg_attr(
        not(feature = "coord-sqlite"),
        expect(dead_code, reason = "it is told by a `SqliteStore`")
    )]
    Granted(Grant),
}

impl From<bool> for Heard {
    /// Whether it is to look, where nothing more is told.
    fn from(is_to_look: bool) -> Self {
        if is_to_look {
            Self::Something
        } else {
            Self::Nothing
        }
    }
}

/// What came of watching.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// One of them wasn't watched before: it may have ended since one has looked.
    pub(super) is_new: bool,
    /// Those that have ended.
    pub(super) dead: Vec<u64>,
}

/// All rows, as of one moment.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) holders: Vec<Holder>,
    pub(super) waiters: Vec<Waiter>,
    pub(super) sessions: Vec<SessionRow>,
    /// By the clock of this session.
    pub(super) now: Time,
}

impl Listing {
    /// Those who hold something or wait.
    pub(super) fn sessions(&self) -> BTreeSet<u64> {
        let holders = self.holders.iter().map(|holder| holder.session);
        let waiters = self.waiters.iter().map(|waiter| waiter.session);
        holders.chain(waiters).collect()
    }

    /// Takes out what belongs to them.
    pub(super) fn remove(&mut self, dead: &[u64]) {
        self.holders
            .retain(|holder| !dead.contains(&holder.session));
        self.waiters
            .retain(|waiter| !dead.contains(&waiter.session));
    }
}

/// The name of this machine.
#[cfg(any(feature = "coord-redis", feature = "coord-sqlite"))]
fn host() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// What is known of a session.
#[derive(Clone, Debug, Default)]
pub(super) struct SessionRow {
    pub(super) id: u64,
    pub(super) host: String,
    pub(super) process: u32,
    pub(super) label: Option<String>,
    pub(super) command: Option<String>,
    /// Its clock is this session's clock.
    pub(super) same_clock: bool,
}
