//! What can go wrong with what spans processes, and where.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::deadlock::Circle;
use super::store::{Place, Rate, Want};
use super::trace;
use crate::finalize::BoxError;

/// Why something that spans processes can't be done.
///
/// Every variant says where: [`key`](Self::key) and [`operation`](Self::operation).
///
/// # Examples
///
/// ```
/// use hapax::coord::{CoordError, Lock, MemoryStore, Operation};
///
/// let store = MemoryStore::new();
/// let reports = Lock::new(&store, "reports");
/// let _guard = reports.lock()?;
/// let error = reports.try_lock().unwrap_err();
/// assert!(matches!(error, CoordError::TimedOut { .. }));
/// assert_eq!(error.key(), Some("reports"));
/// assert_eq!(error.operation(), Operation::Acquire);
/// # Ok::<_, CoordError>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum CoordError {
    /// It wasn't free before the time was over, or, where the caller doesn't want to wait, it isn't free.
    TimedOut {
        /// Where.
        at: At,
    },
    /// The lease has ended before it was given back, or somebody has taken it away. Somebody else may hold it.
    Lost {
        /// Where.
        at: At,
        /// The fencing token of the grant that is lost.
        fencing_token: u64,
    },
    /// Nobody holds it by that fencing token.
    NotHeld {
        /// Where.
        at: At,
        /// That token.
        fencing_token: u64,
    },
    /// The key is in use as something else.
    KindMismatch {
        /// Where.
        at: At,
        /// What it is in use as.
        found: Kind,
        /// What was asked for.
        wanted: Kind,
    },
    /// The key is in use as a semaphore with another number of permits, or as a rate limit with another rate.
    LimitMismatch {
        /// Where.
        at: At,
        /// The limit that it is in use with.
        found: Limit,
        /// The limit that was asked for.
        wanted: Limit,
    },
    /// The rate limit leaves no room at the moment, or not before the time is over.
    RateLimited {
        /// Where.
        at: At,
        /// After that time it does, if nobody else comes first.
        retry_after: Duration,
    },
    /// A number that is none or is infinite has no place in an average, and neither has one with which the sum would be
    /// infinite. Nothing was changed.
    NotFinite {
        /// Where.
        at: At,
        /// The number that was to be added.
        number: f64,
    },
    /// To wait would be to wait for oneself: the owners of the circle wait for each other, and this wait has closed it.
    /// They go on when this one lets go of what they want.
    Deadlock {
        /// Where.
        at: At,
        /// The circle.
        circle: Arc<Circle>,
    },
    /// The process was forked from one that had a store open. It can neither use that one nor open one: what is to use a
    /// store has to be forked before the first is opened, or to be started as a program.
    ForkedChild {
        /// Where.
        at: At,
    },
    /// The file of the store was removed or replaced while it was open. All that was held is lost.
    StoreReplaced {
        /// Where.
        at: At,
    },
    /// The store was closed.
    Closed {
        /// Where.
        at: At,
    },
    /// The thread was cancelled while it waited: something has failed in the [`Scope`](crate::sync::Scope) that it is in.
    Cancelled {
        /// Where.
        at: At,
    },
    /// Others kept the store to themselves for longer than this one waits for that; a process may have been stopped in
    /// the middle of a transaction. Nothing was changed.
    Busy {
        /// Where.
        at: At,
    },
    /// There was no answer of the store in time, so nobody can tell whether it was done. It is sent only once what would count
    /// twice.
    OutcomeUnknown {
        /// Where.
        at: At,
        /// Why there was none.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// The store can't do it: it is full, read-only, damaged, of another version, or not there.
    Store {
        /// Where.
        at: At,
        /// What it says.
        source: Arc<dyn Error + Send + Sync>,
    },
}

/// Where an error has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At {
    pub(super) key: Option<Arc<str>>,
    pub(super) operation: Operation,
}

/// What was being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// To open the store.
    Open,
    /// To get a lock or a permit.
    Acquire,
    /// To give one back.
    Release,
    /// To extend a lease.
    Extend,
    /// To look whether it is still held.
    Check,
    /// To list who holds and who waits.
    List,
    /// To take it away from its holder.
    ForceUnlock,
    /// To close the store.
    Close,
    /// To add to an average.
    Add,
    /// To read an average.
    Get,
    /// To take an average out.
    Pop,
    /// To take out all that has a tag; the tag is in the place of the key.
    Evict,
}

/// What a key is in use as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A [`Lock`](super::Lock), shared or not, or an [`RLock`](super::RLock).
    Lock,
    /// A [`Semaphore`](super::Semaphore).
    Semaphore,
    /// An [`Averager`](super::Averager).
    Average,
    /// A [`RateLimiter`](super::RateLimiter).
    RateLimit,
}

/// How much of something there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Limit {
    /// So many at a time, of a [`Semaphore`](super::Semaphore).
    Permits(u32),
    /// So many in a time, of a [`RateLimiter`](super::RateLimiter).
    Rate {
        /// So many.
        count: u32,
        /// In that time.
        per: Duration,
    },
}

impl CoordError {
    /// The key that it is about, unless it is about the whole store.
    ///
    /// # Examples
    ///
    /// See [`CoordError`].
    pub fn key(&self) -> Option<&str> {
        self.at().key.as_deref()
    }

    /// What was being done.
    ///
    /// # Examples
    ///
    /// See [`CoordError`].
    pub fn operation(&self) -> Operation {
        self.at().operation
    }

    pub(super) fn lost(key: &Arc<str>, operation: Operation, fencing_token: u64) -> Self {
        Self::Lost {
            at: At {
                key: Some(Arc::clone(key)),
                operation,
            },
            fencing_token,
        }
    }

    pub(super) fn not_held(key: &Arc<str>, fencing_token: u64) -> Self {
        let at = At {
            key: Some(Arc::clone(key)),
            operation: Operation::ForceUnlock,
        };
        Self::NotHeld { at, fencing_token }
    }

    fn at(&self) -> &At {
        match self {
            Self::TimedOut { at }
            | Self::Lost { at, .. }
            | Self::NotHeld { at, .. }
            | Self::KindMismatch { at, .. }
            | Self::LimitMismatch { at, .. }
            | Self::RateLimited { at, .. }
            | Self::NotFinite { at, .. }
            | Self::Deadlock { at, .. }
            | Self::ForkedChild { at }
            | Self::StoreReplaced { at }
            | Self::Closed { at }
            | Self::Cancelled { at }
            | Self::Busy { at }
            | Self::OutcomeUnknown { at, .. }
            | Self::Store { at, .. } => at,
        }
    }
}

impl fmt::Display for CoordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "can't {}: ", self.at())?;
        match self {
            Self::TimedOut { .. } => f.write_str("it isn't free, or wasn't before the time was over"),
            Self::Lost { fencing_token, .. } => {
                write!(f, "grant {fencing_token} is lost: its lease has ended, or it was taken away")
            }
            Self::NotHeld { fencing_token, .. } => write!(f, "nobody holds it by token {fencing_token}"),
            Self::KindMismatch { found, wanted, .. } => {
                write!(f, "it is in use as {}, not as {}", found.with_article(), wanted.with_article())
            }
            Self::LimitMismatch { found, wanted, .. } => {
                write!(f, "it is in use with {found}, not with {wanted}")
            }
            Self::RateLimited { retry_after, .. } => {
                write!(f, "the rate leaves room for one after {retry_after:?}")
            }
            Self::NotFinite { number, .. } if number.is_finite() => {
                write!(f, "with {number:e} the sum would be infinite")
            }
            Self::NotFinite { number, .. } => write!(f, "{number} isn't a finite number"),
            Self::Deadlock { circle, .. } => write!(f, "the wait would be a deadlock: {circle}"),
            Self::ForkedChild { .. } => {
                f.write_str("this process was forked from one that had a store open: fork before that, or start a program")
            }
            Self::StoreReplaced { .. } => f.write_str("the file of the store was removed or replaced"),
            Self::Closed { .. } => f.write_str("the store is closed"),
            Self::Cancelled { .. } => f.write_str("the thread was cancelled"),
            Self::Busy { .. } => f.write_str("others keep the store busy"),
            Self::OutcomeUnknown { source, .. } => write!(f, "nobody knows whether it was done: {source}"),
            Self::Store { source, .. } => source.fmt(f),
        }
    }
}

impl Error for CoordError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Deadlock { circle, .. } => Some(circle),
            // Its text is part of this one's; what is behind it may say more.
            Self::OutcomeUnknown { source, .. } | Self::Store { source, .. } => source.source(),
            _ => None,
        }
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => write!(f, "{} `{}`", self.operation, key.escape_debug()),
            None => write!(f, "{} the store", self.operation),
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Acquire => "acquire",
            Self::Release => "release",
            Self::Extend => "extend",
            Self::Check => "check",
            Self::List => "list",
            Self::ForceUnlock => "force-unlock",
            Self::Close => "close",
            Self::Add => "add to",
            Self::Get => "get",
            Self::Pop => "pop",
            Self::Evict => "evict",
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lock => "lock",
            Self::Semaphore => "semaphore",
            Self::Average => "average",
            Self::RateLimit => "rate limit",
        })
    }
}

impl Kind {
    fn with_article(self) -> String {
        let article = if self == Self::Average { "an" } else { "a" };
        format!("{article} {self}")
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Permits(count) => write!(f, "{count} permits"),
            Self::Rate { count, per } => write!(f, "{count} per {per:?}"),
        }
    }
}

impl From<Rate> for Limit {
    fn from(Rate { count, per }: Rate) -> Self {
        Self::Rate { count, per }
    }
}

/// An error of a store that doesn't know yet where it happens.
#[derive(Debug)]
#[cfg_attr(
    not(all(feature = "coord-redis", feature = "coord-sqlite")),
    allow(
        dead_code,
        reason = "memory is always there, and each store has faults of its own"
    )
)]
pub(super) enum Fault {
    Kind {
        found: Kind,
        wanted: Kind,
        /// The other sessions that use it.
        by: Vec<u64>,
    },
    Limit {
        found: u32,
        wanted: u32,
        /// The other sessions that use it.
        by: Vec<u64>,
    },
    Rate {
        found: Rate,
        wanted: Rate,
    },
    /// That number can't be added.
    NotFinite(f64),
    ForkedChild,
    Replaced,
    Closed,
    Busy,
    Store(BoxError),
    /// It isn't known whether somebody has got a place, or a grant, since there was no answer for that reason.
    Unanswered(Box<(Place, Fault)>),
    /// There was no answer, for that reason.
    Unknown(Box<Fault>),
    /// What was to be given back isn't there. It may have been given back before, without an answer.
    Unsure,
}

impl Fault {
    /// That a key is in use as something else than is wanted.
    pub(super) fn other_use(found: Want, wanted: Want, by: Vec<u64>) -> Self {
        match (found, wanted) {
            (Want::Permit { limit: found }, Want::Permit { limit: wanted }) => {
                Self::Limit { found, wanted, by }
            }
            _ => Self::Kind {
                found: found.kind(),
                wanted: wanted.kind(),
                by,
            },
        }
    }

    /// A value is of another kind.
    pub(super) fn value(found: Kind, wanted: Kind) -> Self {
        let by = Vec::new();
        Self::Kind { found, wanted, by }
    }

    pub(super) fn at(self, key: Option<&Arc<str>>, operation: Operation) -> CoordError {
        let at = At {
            key: key.cloned(),
            operation,
        };
        if let Self::Busy = self {
            trace::busy(&at);
        }
        match self {
            Self::Kind { found, wanted, .. } => CoordError::KindMismatch { at, found, wanted },
            Self::Limit { found, wanted, .. } => CoordError::LimitMismatch {
                at,
                found: Limit::Permits(found),
                wanted: Limit::Permits(wanted),
            },
            Self::Rate { found, wanted } => CoordError::LimitMismatch {
                at,
                found: found.into(),
                wanted: wanted.into(),
            },
            Self::NotFinite(number) => CoordError::NotFinite { at, number },
            Self::ForkedChild => CoordError::ForkedChild { at },
            Self::Replaced => CoordError::StoreReplaced { at },
            Self::Closed => CoordError::Closed { at },
            Self::Busy => CoordError::Busy { at },
            Self::Store(source) => CoordError::Store {
                at,
                source: source.into(),
            },
            Self::Unanswered(what) => what.1.at(key, operation),
            Self::Unknown(fault) => match fault.at(key, operation) {
                CoordError::Store { at, source } => CoordError::OutcomeUnknown { at, source },
                other => other,
            },
            Self::Unsure => CoordError::OutcomeUnknown {
                at,
                source: Arc::from(BoxError::from(
                    "there was no answer, and it isn't there any more",
                )),
            },
        }
    }
}
