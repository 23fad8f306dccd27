//! `scc::HashMap` with `Weak` values, which take themselves out when they die.
//!
//! Its README recommends this map "for highly parallel write-heavy workloads"; see `scc_index.rs` for the other
//! one. A hit is `read_sync` with the borrowed string, below a bucket's read lock, and allocates nothing. A miss
//! goes through `entry_sync`. The key and the value share one string. The hasher is foldhash, as hapax has it.

use std::sync::{Arc, LazyLock, Weak};

use foldhash::fast::RandomState;
use scc::HashMap;
use scc::hash_map::Entry;

use super::Peer;

static TABLE: LazyLock<HashMap<Arc<str>, Weak<Shared>, RandomState>> =
    LazyLock::new(HashMap::default);

pub struct SccMap;

pub struct Shared {
    text: Arc<str>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Another thread may have put a live one in its place.
        TABLE.remove_if_sync(&*self.text, |shared| shared.strong_count() == 0);
    }
}

impl Peer for SccMap {
    type Handle = Arc<Shared>;

    const NAME: &'static str = "scc-map+weak";
    const PACKAGE: &'static str = "scc";

    fn open() -> Self {
        Self
    }

    fn intern(&self, text: &str) -> Arc<Shared> {
        if let Some(shared) = TABLE
            .read_sync(text, |_, shared| shared.upgrade())
            .flatten()
        {
            return shared;
        }
        let text: Arc<str> = Arc::from(text);
        let new = Arc::new(Shared { text: text.clone() });
        match TABLE.entry_sync(text) {
            Entry::Vacant(place) => {
                place.insert_entry(Arc::downgrade(&new));
                new
            }
            Entry::Occupied(mut place) => match place.get().upgrade() {
                Some(shared) => {
                    // First the bucket's lock, then `new`, whose destructor takes it.
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
