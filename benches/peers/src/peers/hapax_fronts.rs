//! This crate in other ways than one call per value through the plain handle: for who has many values at hand, some
//! that stay for good, or some that each thread holds for itself. Not every program can use them, so that they are shown beside it, not instead.

use hapax::{Interned, Interner, LocalInterned, LocalInterner};

use super::{Kind, Peer};
use crate::rows::Row;

static TABLE: Interner<str> = Interner::new();

/// Values are handed over many at a time.
pub struct Batch;

impl Peer for Batch {
    type Handle = Interned<str>;

    const NAME: &'static str = "hapax-batch";
    const KIND: Kind = Kind::Ours;
    const PACKAGE: &'static str = "hapax";

    fn open() -> Self {
        Self
    }

    fn intern(&self, text: &str) -> Interned<str> {
        TABLE.intern(text)
    }

    fn intern_each<'a>(
        &self,
        texts: impl Iterator<Item = &'a str>,
        sink: impl FnMut(Interned<str>),
    ) {
        TABLE.intern_all(texts).for_each(sink);
    }

    /// Where there are many at hand.
    fn takes_part(row: Row, _threads: usize) -> bool {
        matches!(
            row,
            Row::Hit | Row::Zipf | Row::Grow | Row::HitBig | Row::Drop
        )
    }

    #[cfg(test)]
    fn text(handle: &Interned<str>) -> &str {
        handle
    }

    #[cfg(test)]
    fn len() -> Option<usize> {
        Some(TABLE.len())
    }
}

/// Each thread has a front of its own.
pub struct Local(LocalInterner<&'static Interner<str>>);

impl Peer for Local {
    type Handle = LocalInterned<str>;

    const NAME: &'static str = "hapax-local";
    const KIND: Kind = Kind::Ours;
    const PACKAGE: &'static str = "hapax";

    fn open() -> Self {
        Self(LocalInterner::new(&TABLE))
    }

    fn intern(&self, text: &str) -> LocalInterned<str> {
        self.0.intern(text)
    }

    #[cfg(test)]
    fn text(handle: &LocalInterned<str>) -> &str {
        handle
    }

    #[cfg(test)]
    fn len() -> Option<usize> {
        Some(TABLE.len())
    }
}

static IMMORTAL: Interner<str> = Interner::new();

/// What is looked up was made immortal before.
pub struct Immortal;

impl Peer for Immortal {
    type Handle = Interned<str>;

    const NAME: &'static str = "hapax-immortal";
    const KIND: Kind = Kind::Ours;
    const PACKAGE: &'static str = "hapax";

    fn open() -> Self {
        Self
    }

    fn intern(&self, text: &str) -> Interned<str> {
        IMMORTAL.intern(text)
    }

    fn hold(&self, text: &str) -> Interned<str> {
        IMMORTAL.intern_static(text)
    }

    /// Where nothing comes and goes.
    fn takes_part(row: Row, _threads: usize) -> bool {
        matches!(row, Row::Hit | Row::Zipf | Row::Hot | Row::CloneDrop)
    }

    #[cfg(test)]
    fn text(handle: &Interned<str>) -> &str {
        handle
    }
}
