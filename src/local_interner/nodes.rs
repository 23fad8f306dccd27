//! The list of a front's nodes: a hash table of addresses, which runs nobody's code.
//!
//! Linear probing, at most half full, without tombstones. A slot is a *tag*, half a key, and an entry. They lie
//! apart, so that the tags stay in the cache. A look-up takes the first entry with its tag, and leaves it to its
//! caller to see whether it is the one.
//!
//! The address of the shared node stands beside that of the local one, so that the processor needn't wait for the
//! one to get at the other.

use std::cell::{Cell, UnsafeCell};
use std::mem;
use std::ptr::NonNull;

use crate::table::{Node, key_of_hash};

/// The address of anything. That of a local node stands for one of a type that only the front knows.
pub(super) type Address = NonNull<()>;

/// A local node, and the shared one that it stands for.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    pub(super) local: Address,
    pub(super) shared: NonNull<Node>,
}

impl Entry {
    /// What stands where no entry is.
    const NONE: Self = Self {
        local: NonNull::dangling(),
        shared: NonNull::dangling(),
    };
}

/// What a front and its nodes share: which nodes are alive.
pub(super) struct Nodes {
    /// Invariant: nobody has a reference to it but a method of this type, and none while anything is called that
    /// isn't of this file.
    table: UnsafeCell<Table>,
    latest: Cell<Latest>,
}

/// The node that a look-up came to last, if it is still listed, and where its key was.
#[derive(Clone, Copy)]
struct Latest {
    place: Option<Address>,
    local: Address,
}

impl Latest {
    const NONE: Self = Self {
        place: None,
        local: NonNull::dangling(),
    };
}

impl Nodes {
    pub(super) fn new() -> Self {
        Self {
            table: UnsafeCell::new(Table::with_slots(0)),
            latest: Cell::new(Latest::NONE),
        }
    }

    #[inline]
    fn table(&self) -> &Table {
        // SAFETY: by the invariant, nobody has it exclusively, nor comes to have it before our caller is done.
        unsafe { &*self.table.get() }
    }

    fn change<R>(&self, f: impl FnOnce(&mut Table) -> R) -> R {
        // SAFETY: by the invariant, nobody has a reference to it; callers are in this type and call nobody else.
        f(unsafe { &mut *self.table.get() })
    }

    pub(super) fn len(&self) -> usize {
        self.table().len
    }

    /// An entry that perhaps has this hash. `None` if there is none with it.
    #[inline]
    pub(super) fn candidate(&self, hash: u64) -> Option<Entry> {
        self.table().candidate(tag_of_hash(hash))
    }

    /// The entry of a shared node, which has this hash.
    pub(super) fn of(&self, shared: NonNull<Node>, hash: u64) -> Option<Entry> {
        let table = self.table();
        let place = table.search(tag_of_hash(hash), |entry| entry.shared == shared)?;
        Some(table.entries[place])
    }

    /// Lists a node.
    pub(super) fn insert(&self, hash: u64, entry: Entry) {
        let len = self.len() + 1;
        if 2 * len > self.table().tags.len() {
            self.resize(len);
        }
        self.change(|table| table.insert(tag_of_hash(hash), entry));
    }

    /// Unlists a node, if it is listed.
    pub(super) fn remove(&self, hash: u64, local: Address) {
        if self.latest.get().local == local {
            self.latest.set(Latest::NONE);
        }
        self.change(|table| {
            if let Some(place) = table.search(tag_of_hash(hash), |entry| entry.local == local) {
                table.remove(place);
            }
        });
    }

    /// Gives back what the present nodes don't need.
    pub(super) fn shrink(&self) {
        self.resize(self.len());
    }

    /// Makes as many slots as so many nodes need.
    fn resize(&self, len: usize) {
        // The allocator is called while nothing is borrowed.
        let mut table = Table::with_slots((2 * len).next_power_of_two().max(8));
        self.change(|present| {
            for (&tag, &entry) in present.tags.iter().zip(&present.entries) {
                if tag != Table::VACANT {
                    table.insert(tag, entry);
                }
            }
            mem::swap(present, &mut table);
        });
        drop(table);
    }

    /// The node that the last look-up came to, if its key was at this place.
    #[inline]
    pub(super) fn latest(&self, place: Address) -> Option<Address> {
        let latest = self.latest.get();
        (latest.place == Some(place)).then_some(latest.local)
    }

    #[inline]
    pub(super) fn set_latest(&self, place: Address, local: Address) {
        let place = Some(place);
        self.latest.set(Latest { place, local });
    }
}

/// The upper half of the order key, which is never that of a vacant slot.
#[inline]
fn tag_of_hash(hash: u64) -> u32 {
    (key_of_hash(hash) >> 32) as u32 | 1
}

struct Table {
    /// Invariant: none, or a power of two of them, more than there are entries; as many as `entries`.
    tags: Box<[u32]>,
    entries: Box<[Entry]>,
    len: usize,
    /// By how much a tag is shifted to become a place.
    shift: u32,
}

impl Table {
    const VACANT: u32 = 0;

    fn with_slots(slots: usize) -> Self {
        Self {
            tags: vec![Self::VACANT; slots].into_boxed_slice(),
            entries: vec![Entry::NONE; slots].into_boxed_slice(),
            len: 0,
            shift: u32::BITS.saturating_sub(slots.max(2).ilog2()),
        }
    }

    /// Where the search for a tag begins.
    #[inline]
    fn home(&self, tag: u32) -> usize {
        (tag >> self.shift) as usize
    }

    #[inline]
    fn next(&self, place: usize) -> usize {
        (place + 1) & (self.tags.len() - 1)
    }

    #[inline]
    fn candidate(&self, tag: u32) -> Option<Entry> {
        let place = self.search(tag, |_| true)?;
        Some(self.entries[place])
    }

    #[inline]
    fn search(&self, tag: u32, accept: impl Fn(&Entry) -> bool) -> Option<usize> {
        let mut place = self.home(tag);
        loop {
            // There is none in a table without slots.
            let found = *self.tags.get(place)?;
            if found == tag && accept(&self.entries[place]) {
                return Some(place);
            }
            if found == Self::VACANT {
                return None;
            }
            place = self.next(place);
        }
    }

    fn insert(&mut self, tag: u32, entry: Entry) {
        let mut place = self.home(tag);
        while self.tags[place] != Self::VACANT {
            place = self.next(place);
        }
        self.tags[place] = tag;
        self.entries[place] = entry;
        self.len += 1;
    }

    /// Takes an entry out, and moves those up that lie behind it for its sake.
    fn remove(&mut self, place: usize) {
        let mut hole = place;
        let mut place = self.next(hole);
        while self.tags[place] != Self::VACANT {
            if self.way(self.home(self.tags[place]), place) >= self.way(hole, place) {
                self.tags[hole] = self.tags[place];
                self.entries[hole] = self.entries[place];
                hole = place;
            }
            place = self.next(place);
        }
        self.tags[hole] = Self::VACANT;
        self.len -= 1;
    }

    /// The number of steps from one place to another.
    fn way(&self, from: usize, to: usize) -> usize {
        to.wrapping_sub(from) & (self.tags.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// An entry that isn't looked through.
    fn entry(number: usize) -> Entry {
        let address = NonNull::without_provenance((number + 1).try_into().unwrap());
        Entry {
            local: address,
            shared: address.cast(),
        }
    }

    fn next(state: &mut u64) -> u64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state
    }

    /// Random insertions and removals of nodes with the given hashes, against a map. The slots are few, so that
    /// runs wrap around the end.
    fn compare_with_a_map(hash_of: impl Fn(u64) -> u64) {
        let mut random = 88_172_645_463_325_252;
        for most in [1, 2, 3, 4, 5, 20, 100] {
            let nodes = Nodes::new();
            let mut model = HashMap::new();
            let mut order = Vec::new();
            for number in 0..if cfg!(miri) { 40 } else { 800 } {
                let added = entry(number);
                let hash = hash_of(next(&mut random));
                nodes.insert(hash, added);
                model.insert(number, hash);
                order.push(number);
                while order.len() > most || next(&mut random).is_multiple_of(3) && !order.is_empty()
                {
                    let removed = order.swap_remove(next(&mut random) as usize % order.len());
                    nodes.remove(model.remove(&removed).unwrap(), entry(removed).local);
                }
                if number % 100 == 99 {
                    nodes.shrink();
                }
                assert_eq!(nodes.len(), model.len());
                for (&number, &hash) in &model {
                    let expected = entry(number);
                    let found = nodes.of(expected.shared, hash).expect("it is listed");
                    assert_eq!(
                        (found.local, found.shared),
                        (expected.local, expected.shared)
                    );
                    let candidate = nodes.candidate(hash).expect("there is one");
                    let of_candidate = model[&(candidate.local.addr().get() - 1)];
                    assert_eq!(tag_of_hash(of_candidate), tag_of_hash(hash));
                }
                assert!(
                    nodes
                        .of(entry(number + 1).shared, hash_of(number as u64))
                        .is_none()
                );
            }
        }
    }

    #[test]
    fn nodes_with_good_hashes_are_found() {
        compare_with_a_map(|random| random);
    }

    #[test]
    fn nodes_with_few_hashes_are_found() {
        compare_with_a_map(|random| random % 4);
    }

    #[test]
    fn nodes_with_one_hash_are_found() {
        compare_with_a_map(|_| 7);
    }

    /// All homes are at the end of the table.
    #[test]
    fn nodes_around_the_end_are_found() {
        let hashes: Vec<u64> = (0..)
            .filter(|&hash| tag_of_hash(hash) >= 0xff00_0000)
            .take(8)
            .collect();
        compare_with_a_map(|random| hashes[random as usize % hashes.len()]);
    }

    #[test]
    fn nothing_is_found_among_nothing() {
        let nodes = Nodes::new();
        assert!(nodes.candidate(0).is_none() && nodes.of(entry(0).shared, 0).is_none());
        nodes.remove(0, entry(0).local);
        nodes.shrink();
        assert!(nodes.candidate(u64::MAX).is_none());
        assert_eq!(nodes.len(), 0);
    }

    #[test]
    fn the_latest_node_is_forgotten_when_it_goes() {
        let nodes = Nodes::new();
        let (place, other) = (entry(7).local, entry(8).local);
        nodes.insert(1, entry(1));
        nodes.insert(2, entry(2));
        assert_eq!(nodes.latest(place), None);
        nodes.set_latest(place, entry(1).local);
        assert_eq!(nodes.latest(place), Some(entry(1).local));
        assert_eq!(nodes.latest(other), None);
        nodes.remove(2, entry(2).local);
        assert_eq!(nodes.latest(place), Some(entry(1).local));
        nodes.remove(1, entry(1).local);
        assert_eq!(nodes.latest(place), None);
    }
}
