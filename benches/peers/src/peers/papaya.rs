//! `papaya::HashMap` with `Weak` values, which take themselves out when they die.
//!
//! A hit is `get` with the borrowed string, which takes no lock and allocates nothing. A miss is `try_insert`, one
//! of the atomic operations that its documentation names in place of std's entries. `compute`, which it names as
//! well, would need no loop here, but tables that `compute` has filled have long probe sequences (0.2.5): every
//! look-up would take several times as long. The key and the value share one string. The hasher is foldhash, as
//! hapax has it. One pin serves for a whole call, as its documentation encourages, but not for several: a thread
//! that stays pinned holds back the memory of all.

use std::sync::{Arc, LazyLock, Weak};

use foldhash::fast::RandomState;
use papaya::HashMap;

use super::Peer;

static TABLE: LazyLock<HashMap<Arc<str>, Weak<Shared>, RandomState>> =
    LazyLock::new(HashMap::default);

pub struct Papaya;

pub struct Shared {
    text: Arc<str>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        remove_dead(&self.text);
    }
}

/// Leaves the live one alone that another thread may have put in its place.
fn remove_dead(text: &str) {
    let _ = TABLE
        .pin()
        .remove_if(text, |_, shared| shared.strong_count() == 0);
}

impl Peer for Papaya {
    type Handle = Arc<Shared>;

    const NAME: &'static str = "papaya+weak";
    const PACKAGE: &'static str = "papaya";

    fn open() -> Self {
        Self
    }

    fn intern(&self, text: &str) -> Arc<Shared> {
        let table = TABLE.pin();
        if let Some(shared) = table.get(text).and_then(Weak::upgrade) {
            return shared;
        }
        let text: Arc<str> = Arc::from(text);
        let new = Arc::new(Shared { text: text.clone() });
        loop {
            match table.try_insert(text.clone(), Arc::downgrade(&new)) {
                Ok(_) => return new,
                Err(taken) => {
                    if let Some(shared) = taken.current.upgrade() {
                        return shared;
                    }
                }
            }
            // That one has just died, and its thread is about to do the same.
            remove_dead(&text);
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
