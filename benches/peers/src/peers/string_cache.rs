//! `string_cache::DefaultAtom`, which Servo's parsers use: a reference count and the string behind it, in lists
//! below 4096 buckets, each with a lock. The hash is SipHash and can't be chosen.
//!
//! `Atom::from(&str)` allocates on a miss only. Strings of up to seven bytes would lie inside of the handle; those
//! of the rows are longer.
//!
//! The number of buckets is fixed, so that a million strings make lists of 250. The rows over a million values
//! would take minutes, and aren't what the crate is made for: it takes no part in them.

use string_cache::DefaultAtom;

use super::Peer;
use crate::rows::Row;

pub struct StringCache;

impl Peer for StringCache {
    type Handle = DefaultAtom;

    const NAME: &'static str = "string_cache";
    const PACKAGE: &'static str = "string_cache";

    fn open() -> Self {
        Self
    }

    fn intern(&self, text: &str) -> DefaultAtom {
        DefaultAtom::from(text)
    }

    fn takes_part(row: Row, _threads: usize) -> bool {
        !matches!(row, Row::Grow | Row::HitBig | Row::Drop)
    }

    #[cfg(test)]
    fn text(handle: &DefaultAtom) -> &str {
        handle
    }
}
