//! `dashmap` with `Weak` values, which take themselves out when they die: what one writes without a crate for it.
//!
//! A hit looks the borrowed string up below a shard's read lock, and allocates nothing. A miss goes through
//! `entry`, the one atomic way to find or insert. The key and the value share one string. The hasher is foldhash,
//! as hapax has it; the number of shards is the default.

use std::sync::{Arc, LazyLock, Weak};

use dashmap::{DashMap, Entry};
use foldhash::fast::RandomState;

use super::Peer;

static TABLE: LazyLock<DashMap<Arc<str>, Weak<Shared>, RandomState>> =
    LazyLock::new(DashMap::default);

pub struct Dashmap;

pub struct Shared {
    text: Arc<str>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Another thread may have put a live one in its place.
        TABLE.remove_if(&*self.text, |_, shared| shared.strong_count() == 0);
    }
}

impl Peer for Dashmap {
    type Handle = Arc<Shared>;

    const NAME: &'static str = "dashmap+weak";
    const PACKAGE: &'static str = "dashmap";

    fn open() -> Self {
        Self
    }

    fn intern(&self, text: &str) -> Arc<Shared> {
        if let Some(shared) = TABLE.get(text).and_then(|shared| shared.upgrade()) {
            return shared;
        }
        let text: Arc<str> = Arc::from(text);
        let new = Arc::new(Shared { text: text.clone() });
        match TABLE.entry(text) {
            Entry::Vacant(place) => {
                place.insert(Arc::downgrade(&new));
                new
            }
            Entry::Occupied(mut place) => match place.get().upgrade() {
                Some(shared) => {
                    // First the shard's lock, then `new`, whose destructor takes it.
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

    #[cfg(test)]
    fn text(handle: &Arc<Shared>) -> &str {
        &handle.text
    }

    #[cfg(test)]
    fn address(handle: &Arc<Shared>) -> usize {
        Arc::as_ptr(handle).addr()
    }

    #[cfg(test)]
    fn len() -> Option<usize> {
        Some(TABLE.len())
    }
}
