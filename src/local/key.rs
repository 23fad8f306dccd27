//! Which local is meant: an id that no other one ever has, and a place in the table of each thread.

#![allow(
    clippy::borrow_deref_ref,
    reason = "the registry is a reference here and an `Arc` under shuttle"
)]

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::table::primitive::{Mutex, global, lock};

/// What a local is known by.
#[derive(Clone, Copy)]
pub(super) struct Key {
    /// Never 0, below 2^63, and never used again.
    pub(super) id: u64,
    /// Where it has its slot in the table of each thread. Used again, the least first, so that tables stay short.
    pub(super) index: usize,
}

struct Registry {
    last_id: u64,
    /// Indices below this one were handed out.
    handed_out: usize,
    free: BinaryHeap<Reverse<usize>>,
}

global! {
    fn registry() -> Mutex<Registry> = Mutex::new(Registry {
        last_id: 0,
        handed_out: 0,
        free: BinaryHeap::new(),
    })
}

impl Key {
    pub(super) fn take() -> Self {
        let registry = registry();
        let mut registry = lock(&*registry);
        registry.last_id += 1;
        let index = match registry.free.pop() {
            Some(Reverse(index)) => index,
            None => {
                registry.handed_out += 1;
                registry.handed_out - 1
            }
        };
        Self {
            id: registry.last_id,
            index,
        }
    }

    /// Gives the index back. The id stays used.
    pub(super) fn give_back(self) {
        lock(&*registry()).free.push(Reverse(self.index));
    }
}
