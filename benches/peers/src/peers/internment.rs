//! `internment::ArcIntern<str>`: a reference count beside the value, in a dashmap with aHash, one for each type
//! and process.
//!
//! `ArcIntern::<str>::from(&str)` looks the borrowed string up and allocates on a miss only; for `str` the crate
//! has a shortcut that spares the search for the type's table.

use internment::ArcIntern;

use super::Peer;

pub struct Internment;

impl Peer for Internment {
    type Handle = ArcIntern<str>;

    const NAME: &'static str = "internment";
    const PACKAGE: &'static str = "internment";

    fn open() -> Self {
        Self
    }

    fn intern(&self, text: &str) -> ArcIntern<str> {
        ArcIntern::from(text)
    }

    #[cfg(test)]
    fn text(handle: &ArcIntern<str>) -> &str {
        handle
    }

    #[cfg(test)]
    fn len() -> Option<usize> {
        Some(ArcIntern::<str>::num_objects_interned())
    }
}
