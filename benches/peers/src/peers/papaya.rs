//! `papaya::HashMap` with `Weak` values, which take themselves out when they die.
//!
//! A hit is `get` with the borrowed string, which takes no lock and allocates nothing. A miss goes through
//! `compute`, which its documentation names in place of std's entries ("Atomic Operations"). The key and the
//! value share one string. The hasher is foldhash, as hapax has it. One pin serves for a whole call, as its
//! documentation encourages, but not for several: a thread that stays pinned holds back the memory of all.

use std::sync::{Arc, LazyLock, Weak};

use foldhash::fast::RandomState;
use papaya::{Compute, HashMap, Operation};

use super::Peer;

static TABLE: LazyLock<HashMap<Arc<str>, Weak<Shared>, RandomState>> =
    LazyLock::new(HashMap::default);

pub struct Papaya;

pub struct Shared {
    text: Arc<str>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Another thread may have put a live one in its place; that is no error.
        let _ = TABLE
            .pin()
            .remove_if(&*self.text, |_, shared| shared.strong_count() == 0);
    }
}

impl Peer for Papaya {
    type Handle = Arc<Shared>;

    const NAME: &'static str = "papaya + Weak";
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
        let done = table.compute(text, |entry| {
            match entry.and_then(|(_, shared)| shared.upgrade()) {
                Some(shared) => Operation::Abort(shared),
                None => Operation::Insert(Arc::downgrade(&new)),
            }
        });
        match done {
            Compute::Aborted(shared) => shared,
            _ => new,
        }
    }

    #[cfg(test)]
    fn text(handle: &Arc<Shared>) -> &str {
        &handle.text
    }

    #[cfg(test)]
    fn len() -> Option<usize> {
        Some(TABLE.len())
    }
}
