//! Interners and maps that come and go, while threads use them and hold what came from them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hapax::{Interner, WeakMap};
use parking_lot::Mutex;

use crate::counted::{Counted, Item};
use crate::tally::{SHRUNK, TABLES};
use crate::verdict::check;

/// The low part of a key. What lies above is the number of the guest.
const KEY_BITS: u32 = 32;

/// An interner and a map for a while.
#[derive(Debug)]
pub(crate) struct Guest {
    number: u64,
    pub(crate) values: Interner<Counted>,
    pub(crate) map: WeakMap<Counted, Item>,
}

static PRESENT: Mutex<Option<Arc<Guest>>> = Mutex::new(None);

/// The guest whose values have such a key; 0 for those that have none.
pub(crate) fn guest_of(key: u64) -> u64 {
    key >> KEY_BITS
}

/// The key without the guest.
pub(crate) fn shared_key(key: u64) -> u64 {
    key & ((1 << KEY_BITS) - 1)
}

/// The guest of the moment, if there is one.
pub(crate) fn present() -> Option<Arc<Guest>> {
    PRESENT.lock().clone()
}

impl Guest {
    fn new() -> Arc<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        TABLES.add();
        TABLES.add();
        Arc::new(Self {
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            values: Interner::new(),
            map: WeakMap::new(),
        })
    }

    /// The guest of the moment; one comes if there is none.
    pub(crate) fn welcome() -> Arc<Self> {
        PRESENT.lock().get_or_insert_with(Self::new).clone()
    }

    /// Lets another one come. The old one goes with the last thread that uses it.
    pub(crate) fn replace() {
        let old = PRESENT.lock().replace(Self::new());
        old.into_iter().for_each(Self::leave);
    }

    /// As `replace`, with nobody coming.
    pub(crate) fn dismiss() {
        let old = PRESENT.lock().take();
        old.into_iter().for_each(Self::leave);
    }

    /// The last one to leave has the tables to itself, but for those who drop handles. It shrinks them
    /// before they go.
    pub(crate) fn leave(this: Arc<Self>) {
        let Some(mut guest) = Arc::into_inner(this) else {
            return;
        };
        guest.values.shrink_to_fit();
        guest.map.shrink_to_fit();
        let (room, len) = (guest.values.capacity(), guest.values.len());
        check!(
            room <= 64.max(4 * len),
            "room for {room} values, with {len}"
        );
        SHRUNK.add();
        SHRUNK.add();
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// What is added to the keys of its values.
    pub(crate) fn first_key(&self) -> u64 {
        self.number << KEY_BITS
    }
}
