//! This crate, through the plain shared handle: a `static` interner with the default hasher, one call per value,
//! as in its README.

use hapax::{Interned, Interner};

use super::{Kind, Peer};

static TABLE: Interner<str> = Interner::new();

pub struct Hapax;

impl Peer for Hapax {
    type Handle = Interned<str>;

    const NAME: &'static str = "hapax";
    const KIND: Kind = Kind::Ours;
    const PACKAGE: &'static str = "hapax";

    fn open() -> Self {
        Self
    }

    fn intern(&self, text: &str) -> Interned<str> {
        TABLE.intern(text)
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
