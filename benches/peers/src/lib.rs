//! Weak interners of strings, each written as its own documentation advises.

use std::sync::{Arc, OnceLock, Weak};

use dashmap::{DashMap, Entry};
use hapax::{Interned, Interner};
use internment::ArcIntern;

/// An interner that frees what nobody holds.
pub trait Peer: Sync {
    type Handle: Send + Clone;

    const NAME: &'static str;

    fn fresh() -> Self;

    fn intern(&self, text: &str) -> Self::Handle;
}

/// This crate, through the plain shared handle.
pub struct Hapax(Interner<str>);

impl Peer for Hapax {
    type Handle = Interned<str>;

    const NAME: &'static str = "hapax";

    fn fresh() -> Self {
        Self(Interner::new())
    }

    fn intern(&self, text: &str) -> Interned<str> {
        self.0.intern(text)
    }
}

/// `internment::ArcIntern`. It has one table per type for the whole process; `from` looks a `&str` up without
/// an allocation.
pub struct Internment;

impl Peer for Internment {
    type Handle = ArcIntern<str>;

    const NAME: &'static str = "internment";

    fn fresh() -> Self {
        Self
    }

    fn intern(&self, text: &str) -> ArcIntern<str> {
        ArcIntern::from(text)
    }
}

type Map = DashMap<Arc<str>, Weak<Shared>, foldhash::fast::RandomState>;

/// `dashmap` with `Weak` values, which take themselves out when they die: what one writes without a crate
/// for it. It hashes with foldhash, as this crate does.
pub struct Dashmap;

fn map() -> &'static Map {
    static MAP: OnceLock<Map> = OnceLock::new();
    MAP.get_or_init(Map::default)
}

pub struct Shared {
    text: Arc<str>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Another thread may have put a live one in its place.
        map().remove_if(&self.text, |_, shared| shared.strong_count() == 0);
    }
}

impl Peer for Dashmap {
    type Handle = Arc<Shared>;

    const NAME: &'static str = "dashmap + Weak";

    fn fresh() -> Self {
        Self
    }

    fn intern(&self, text: &str) -> Arc<Shared> {
        if let Some(shared) = map().get(text).and_then(|shared| shared.upgrade()) {
            return shared;
        }
        let text: Arc<str> = Arc::from(text);
        let new = Arc::new(Shared { text: text.clone() });
        match map().entry(text) {
            Entry::Vacant(place) => {
                place.insert(Arc::downgrade(&new));
                new
            }
            Entry::Occupied(mut place) => match place.get().upgrade() {
                Some(shared) => {
                    // Dropped when the shard's lock is free again: its destructor takes it.
                    drop(place);
                    shared
                }
                None => {
                    place.insert(Arc::downgrade(&new));
                    new
                }
            },
        }
    }
}
