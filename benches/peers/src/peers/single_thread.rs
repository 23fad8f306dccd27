//! What the job costs one thread that shares nothing: `Rc` and `Weak` in a hashbrown table with foldhash, and no
//! atomic operation. No rival, since no other thread can use it: a floor below the figures of one thread.

use std::cell::RefCell;
use std::hash::BuildHasher;
use std::rc::{Rc, Weak};

use hapax::RandomState;
use hashbrown::HashTable;

use super::{Kind, Peer};
use crate::rows::Row;

/// A value's hash and the way to it.
type Link = (u64, Weak<str>);

thread_local! {
    static TABLE: RefCell<HashTable<Link>> = const { RefCell::new(HashTable::new()) };
}

pub struct SingleThread;

#[derive(Clone)]
pub struct Handle(Rc<str>);

impl Drop for Handle {
    fn drop(&mut self) {
        if Rc::strong_count(&self.0) > 1 {
            return;
        }
        TABLE.with_borrow_mut(|table| {
            let this = table.find_entry(RandomState.hash_one(&*self.0), |(_, link)| {
                std::ptr::addr_eq(Weak::as_ptr(link), Rc::as_ptr(&self.0))
            });
            if let Ok(this) = this {
                this.remove();
            }
        });
    }
}

impl Peer for SingleThread {
    type Handle = Handle;

    const NAME: &'static str = "single-thread";
    const KIND: Kind = Kind::Floor;
    const PACKAGE: &'static str = "hashbrown";

    fn open() -> Self {
        Self
    }

    fn intern(&self, text: &str) -> Handle {
        let hash = RandomState.hash_one(text);
        TABLE.with_borrow_mut(|table| {
            // A value leaves the table before it dies, so that each link leads somewhere.
            let there = table.find(hash, |(_, link)| {
                link.upgrade().is_some_and(|there| *there == *text)
            });
            if let Some(there) = there.and_then(|(_, link)| link.upgrade()) {
                return Handle(there);
            }
            let new: Rc<str> = Rc::from(text);
            table.insert_unique(hash, (hash, Rc::downgrade(&new)), |(hash, _)| *hash);
            Handle(new)
        })
    }

    fn takes_part(_row: Row, threads: usize) -> bool {
        threads == 1
    }

    #[cfg(test)]
    fn text(handle: &Handle) -> &str {
        &handle.0
    }

    #[cfg(test)]
    fn len() -> Option<usize> {
        Some(TABLE.with_borrow(HashTable::len))
    }
}
