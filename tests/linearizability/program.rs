//! Programs: what a few threads do with one table, and in what state they find it.
//!
//! A program is a choice, not a promise: calls on handles name one of those that the thread happens to hold,
//! and are left out if it holds none.

use std::fmt;

/// What the table under test is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Interner,
    Map,
}

/// One of the few keys of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub u32);

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", char::from(b'a' + self.0 as u8))
    }
}

/// Where the keys lie in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hashing {
    /// Anywhere.
    Spread,
    /// One behind the other, so that threads meet at the same links.
    Neighbours,
    /// All have one hash, and so are in one run.
    Equal,
}

/// A call that goes by a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    Get,
    // Interners.
    Intern,
    InternWith,
    // Maps.
    GetOrInsert,
    GetOrInsertWith,
    GetOrInit,
    /// `try_get_or_init` with a function that fails.
    FailToInit,
    Remove,
}

impl Look {
    /// Whether it waits for another thread that builds.
    pub fn waits(self) -> bool {
        matches!(self, Self::GetOrInit | Self::FailToInit)
    }

    /// Whether it displaces an entry that is being built.
    pub fn displaces(self) -> bool {
        matches!(self, Self::GetOrInsert | Self::GetOrInsertWith)
    }
}

impl fmt::Display for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Get => "get",
            Self::Intern => "intern",
            Self::InternWith => "intern_with",
            Self::GetOrInsert => "get_or_insert",
            Self::GetOrInsertWith => "get_or_insert_with",
            Self::GetOrInit => "get_or_init",
            Self::FailToInit => "try_get_or_init, failing",
            Self::Remove => "remove",
        })
    }
}

/// One operation. Numbers choose among the handles that the thread holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Look(Look, Key),
    Clone(u8),
    Drop(u8),
    Downgrade(u8),
    Upgrade(u8),
    TryUnwrap(u8),
    Iterate,
    Len,
    Burst(u8),
    /// From here on the thread doesn't have the table.
    Leave,
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Look(look, key) => write!(f, "{look}({key})"),
            Self::Clone(n) => write!(f, "clone({n})"),
            Self::Drop(n) => write!(f, "drop({n})"),
            Self::Downgrade(n) => write!(f, "downgrade({n})"),
            Self::Upgrade(n) => write!(f, "upgrade({n})"),
            Self::TryUnwrap(n) => write!(f, "try_unwrap({n})"),
            Self::Iterate => f.write_str("iter"),
            Self::Len => f.write_str("len"),
            Self::Burst(n) => write!(f, "burst({n})"),
            Self::Leave => f.write_str("leave"),
        }
    }
}

/// A set of threads, as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threads(pub u8);

impl Threads {
    /// Racing threads count from 1.
    pub fn has(self, thread: usize) -> bool {
        self.0 >> (thread - 1) & 1 != 0
    }

    /// The set without a thread; those behind it move up.
    pub fn without(self, thread: usize) -> Self {
        let below = (1 << (thread - 1)) - 1;
        Self(self.0 & below | self.0 >> 1 & !below)
    }
}

/// An entry that exists before the race.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    pub key: Key,
    /// Who gets a handle. If it is nobody, the entry is dead when the race begins.
    pub held_by: Threads,
    /// Who gets a weak handle.
    pub weakly_by: Threads,
    /// Whether it was removed from its map.
    pub removed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    pub kind: Kind,
    pub hashing: Hashing,
    /// Whether the table outlives the race, and serves the next program as well.
    pub lasts: bool,
    pub starts: Vec<Start>,
    pub threads: Vec<Vec<Op>>,
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lasts = if self.lasts {
            "lasts"
        } else {
            "goes with the last thread"
        };
        writeln!(
            f,
            "  {:?}, hashes {:?}, the table {lasts}",
            self.kind, self.hashing
        )?;
        for start in &self.starts {
            let threads = |set: Threads| {
                let names: Vec<_> = (1..=self.threads.len())
                    .filter(|&thread| set.has(thread))
                    .map(|thread| thread.to_string())
                    .collect();
                format!("[{}]", names.join(", "))
            };
            writeln!(
                f,
                "  start: {}{}, held by {}, weakly by {}",
                start.key,
                if start.removed { ", removed" } else { "" },
                threads(start.held_by),
                threads(start.weakly_by)
            )?;
        }
        for (thread, ops) in self.threads.iter().enumerate() {
            let ops: Vec<_> = ops.iter().map(Op::to_string).collect();
            writeln!(f, "  thread {}: {}", thread + 1, ops.join("; "))?;
        }
        Ok(())
    }
}
