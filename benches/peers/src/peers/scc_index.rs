//! `scc::HashIndex` with `Weak` values, which take themselves out when they die.
//!
//! Its README calls this map the "read-optimized version" of `scc::HashMap` (`scc_map.rs`). A hit is `peek_with`
//! and the borrowed string, which takes no lock and allocates nothing. A miss goes through `entry_sync`. The key
//! and the value share one string. The hasher is foldhash, as hapax has it. A removed entry keeps its memory until
//! its bucket is used again; its value is dead by then, the string isn't freed.

use std::sync::{Arc, LazyLock, Weak};

use foldhash::fast::RandomState;
use scc::HashIndex;
use scc::hash_index::Entry;

use super::Peer;

static TABLE: LazyLock<HashIndex<Arc<str>, Weak<Shared>, RandomState>> =
    LazyLock::new(HashIndex::default);

pub struct SccIndex;

pub struct Shared {
    text: Arc<str>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Another thread may have put a live one in its place.
        TABLE.remove_if_sync(&*self.text, |shared| shared.strong_count() == 0);
    }
}

impl Peer for SccIndex {
    type Handle = Arc<Shared>;

    const NAME: &'static str = "scc-index+weak";
    const PACKAGE: &'static str = "scc";

    fn open() -> Self {
        Self
    }

    fn intern(&self, text: &str) -> Arc<Shared> {
        if let Some(shared) = TABLE
            .peek_with(text, |_, shared| shared.upgrade())
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
                    place.update(Arc::downgrade(&new));
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
