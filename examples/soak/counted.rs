//! Values that are counted when they are made and when they are destroyed.

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::hint;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::tally::{DESTROYED, HOOKED, MADE};
use crate::verdict::check;

const ALIVE: u64 = 0x0a11_7e57_0a11_7e57;
const GONE: u64 = 0xdead_0b1e_dead_0b1e;

/// A value that notices a second death, and a use after the first one. Equality and hash go by the key.
#[derive(Debug)]
pub(crate) struct Counted {
    key: u64,
    serial: u64,
    /// Not atomic, so that ThreadSanitizer sees a use that nothing orders before the end.
    state: u64,
    hooked: AtomicBool,
}

impl Counted {
    pub(crate) fn new(key: u64) -> Self {
        Self {
            key,
            serial: MADE.add(),
            state: ALIVE,
            hooked: AtomicBool::new(false),
        }
    }

    /// The key of a value that lives.
    pub(crate) fn key(&self) -> u64 {
        let (key, state) = (self.key, *hint::black_box(&self.state));
        check!(state == ALIVE, "a value is in use that is {state:x}");
        key
    }

    /// No two values have the same.
    pub(crate) fn serial(&self) -> u64 {
        self.serial
    }

    /// What a drop hook does: it meets each value once, and alive.
    pub(crate) fn meet_hook(&self) {
        let key = self.key();
        let again = self.hooked.swap(true, Ordering::Relaxed);
        check!(!again, "the drop hook met value {key:x} twice");
        HOOKED.add();
    }
}

impl Clone for Counted {
    fn clone(&self) -> Self {
        Self::new(self.key())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let (key, state) = (self.key, self.state);
        check!(state == ALIVE, "value {key:x} is {state:x} when it dies");
        self.state = GONE;
        // The write isn't left out because nobody will read it.
        hint::black_box(&mut self.state);
        DESTROYED.add();
    }
}

impl PartialEq for Counted {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Counted {}

impl Hash for Counted {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl Borrow<u64> for Counted {
    fn borrow(&self) -> &u64 {
        &self.key
    }
}

/// What a map leads to.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) counted: Counted,
    /// It was removed from its map. Set when `remove` has returned it, so true only at a standstill.
    pub(crate) removed: AtomicBool,
    /// It was built by `get_or_init`, which may find that another entry has come and gone meanwhile. Then
    /// it never was in the map.
    pub(crate) built: bool,
}

impl Item {
    pub(crate) fn new(key: u64) -> Self {
        Self {
            counted: Counted::new(key),
            removed: AtomicBool::new(false),
            built: false,
        }
    }

    pub(crate) fn built(key: u64) -> Self {
        let built = true;
        Self {
            built,
            ..Self::new(key)
        }
    }
}
