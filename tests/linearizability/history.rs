//! What happened: calls and answers, in the order that real time gives them.
//!
//! Each thread writes a log of its own. All that the logs share is a clock: a call *reads* it, an answer and
//! the beginning of a destructor *move* it. A call's stamp is read before the call, an answer's is drawn after
//! it. So if the stamp of an answer is below the one of another call, that call has read what the answer, or
//! one after it, has written. The answer moves the clock with Release and the call reads it with Acquire: the
//! first call as a whole happened before the second one, in the sense of the memory model, and the table must
//! treat it so. All rules here conclude from stamps of an answer below those of a call, and from nothing else.
//! A call that reads an old time is merely taken to be concurrent with more than it was.
//!
//! The clock orders the threads a little more than they would be without it: one word that they all write, once
//! for each call, outside of what is tested. A call begins with a load, which orders nothing after it but
//! itself.

use std::cell::RefCell;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

use super::program::{Key, Kind, Look};

pub type Stamp = u64;

static CLOCK: CachePadded<AtomicU64> = CachePadded::new(AtomicU64::new(0));

/// The stamp of something that begins.
pub fn now() -> Stamp {
    CLOCK.load(Ordering::Acquire)
}

/// The stamp of something that has ended.
pub fn tick() -> Stamp {
    CLOCK.fetch_add(1, Ordering::Release)
}

/// The time in which something took place: its first moment isn't before the call, its last one not after the
/// answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub call: Stamp,
    pub answer: Stamp,
}

impl Span {
    /// Whether this has ended before the other one began.
    pub fn precedes(self, other: Self) -> bool {
        self.answer < other.call
    }

    pub fn overlaps(self, other: Self) -> bool {
        !self.precedes(other) && !other.precedes(self)
    }
}

/// When a building function ran. It has certainly begun at the first moment, and not yet ended at the second.
#[derive(Clone, Copy, Debug)]
pub struct Build {
    pub began: Stamp,
    pub ending: Stamp,
}

impl Build {
    /// Whether both certainly ran at some moment.
    pub fn meets(self, other: Self) -> bool {
        self.began < other.ending && other.began < self.ending
    }
}

/// The number of an instance: of every value that is made, a different one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(pub u32);

impl Id {
    /// What a value says that was destroyed.
    pub const DEAD: Self = Self(u32::MAX);

    /// The `count`-th value that a thread makes.
    pub fn of(thread: usize, count: u32) -> Self {
        Self(thread as u32 * 100 + count)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::DEAD => f.write_str("a dead value"),
            Self(number) => write!(f, "#{number:03}"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// A call that goes by a key.
    Look(Look, Key),
    /// Calls on handles, by the instance that they lead to.
    Clone(Id),
    Drop(Id),
    Downgrade(Id),
    Upgrade(Id),
    TryUnwrap(Id),
    /// A step of the iteration with this number. It lets go of what the step before has answered.
    Next(u32, Option<Id>),
    Len,
    /// Many other keys come and go, so that the table grows.
    Burst,
    /// The thread lets go of the table. The last one takes it down.
    Leave,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Done,
    Found(Id),
    Nothing,
    Failed,
    Deadlock,
    Number(usize),
}

/// An instance's destructor, at its beginning.
#[derive(Clone, Copy, Debug)]
pub struct Death {
    pub id: Id,
    pub at: Stamp,
}

/// One call, with all that happened within.
#[derive(Clone, Debug)]
pub struct Record {
    pub thread: usize,
    pub call: Call,
    pub answer: Answer,
    pub span: Span,
    /// The instance that the call brought along or built.
    pub own: Option<Id>,
    /// When its building function ran.
    pub build: Option<Build>,
    pub deaths: Vec<Death>,
}

impl Record {
    /// The instance that was answered.
    pub fn found(&self) -> Option<Id> {
        match self.answer {
            Answer::Found(id) => Some(id),
            _ => None,
        }
    }

    /// What kind of look-up this is, if it is one.
    pub fn look(&self) -> Option<(Look, Key)> {
        match self.call {
            Call::Look(look, key) => Some((look, key)),
            _ => None,
        }
    }

    /// Whether the instance that was brought along became the entry.
    pub fn inserted(&self) -> bool {
        self.own.is_some() && self.found() == self.own
    }
}

/// Everything that a program did with one table. Thread 0 does what comes before and after.
#[derive(Clone, Debug)]
pub struct History {
    pub kind: Kind,
    /// All keys have one hash.
    pub one_hash: bool,
    /// Those of one thread in their order.
    pub records: Vec<Record>,
}

impl History {
    /// Whether threads met: whether there were two calls at the same time.
    pub fn is_a_race(&self) -> bool {
        self.records.iter().enumerate().any(|(place, one)| {
            let mut others = self.records[..place].iter();
            others.any(|other| one.thread != other.thread && one.span.overlaps(other.span))
        })
    }
}

thread_local! { static DEATHS: RefCell<Vec<Death>> = const { RefCell::new(Vec::new()) } }

/// Called by the destructor of an instance, first thing.
pub fn died(id: Id) {
    let at = tick();
    DEATHS.with_borrow_mut(|deaths| deaths.push(Death { id, at }));
}

/// The instances that died on this thread since it was last asked.
pub fn deaths() -> Vec<Death> {
    DEATHS.take()
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Look(look, key) => write!(f, "{look}({key})"),
            Self::Clone(id) => write!(f, "clone {id}"),
            Self::Drop(id) => write!(f, "drop {id}"),
            Self::Downgrade(id) => write!(f, "downgrade {id}"),
            Self::Upgrade(id) => write!(f, "upgrade {id}"),
            Self::TryUnwrap(id) => write!(f, "try_unwrap {id}"),
            Self::Next(walk, None) => write!(f, "iter {walk}: first"),
            Self::Next(walk, Some(last)) => write!(f, "iter {walk}: next, drop {last}"),
            Self::Len => f.write_str("len"),
            Self::Burst => f.write_str("burst of other keys"),
            Self::Leave => f.write_str("let go of the table"),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Done => f.write_str("done"),
            Self::Found(id) => write!(f, "{id}"),
            Self::Nothing => f.write_str("none"),
            Self::Failed => f.write_str("error"),
            Self::Deadlock => f.write_str("deadlock"),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}
