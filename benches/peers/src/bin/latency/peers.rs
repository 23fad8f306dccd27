//! The interners: this crate, and three concurrent maps with `Weak` values that take themselves out when they die,
//! each written as its own documentation advises. All hash with foldhash.

use std::sync::{Arc, LazyLock, Weak};

use foldhash::fast::RandomState;
use hapax::{Interned, Interner};

/// An interner of strings that the process has one of.
pub trait Peer {
    type Handle;

    fn intern(text: &str) -> Self::Handle;
}

pub struct Hapax;

static HAPAX: Interner<str> = Interner::new();

impl Peer for Hapax {
    type Handle = Interned<str>;

    fn intern(text: &str) -> Interned<str> {
        HAPAX.intern(text)
    }
}

/// `DashMap`: a `HashMap` in each of some shards, behind a lock. The entry holds the lock.
pub struct Dashmap;

static DASHMAP: LazyLock<dashmap::DashMap<Arc<str>, Weak<InDashmap>, RandomState>> =
    LazyLock::new(Default::default);

pub struct InDashmap(Arc<str>);

impl Drop for InDashmap {
    fn drop(&mut self) {
        // Another thread may have put a live one in its place; so it is for the others below.
        DASHMAP.remove_if(&self.0, |_, held| held.strong_count() == 0);
    }
}

impl Peer for Dashmap {
    type Handle = Arc<InDashmap>;

    fn intern(text: &str) -> Arc<InDashmap> {
        if let Some(found) = DASHMAP.get(text).and_then(|held| held.upgrade()) {
            return found;
        }
        let text: Arc<str> = text.into();
        let new = Arc::new(InDashmap(text.clone()));
        match DASHMAP.entry(text) {
            dashmap::Entry::Vacant(place) => {
                place.insert(Arc::downgrade(&new));
                new
            }
            dashmap::Entry::Occupied(mut place) => match place.get().upgrade() {
                Some(found) => {
                    // The new one's destructor takes the lock.
                    drop(place);
                    found
                }
                None => {
                    place.insert(Arc::downgrade(&new));
                    new
                }
            },
        }
    }
}

/// `scc::HashMap`: buckets with a lock each, entries that move to a larger array a few at a time. The entry holds
/// its bucket's lock.
pub struct Scc;

static SCC: LazyLock<scc::HashMap<Arc<str>, Weak<InScc>, RandomState>> =
    LazyLock::new(Default::default);

pub struct InScc(Arc<str>);

impl Drop for InScc {
    fn drop(&mut self) {
        SCC.remove_if_sync(&self.0, |held| held.strong_count() == 0);
    }
}

impl Peer for Scc {
    type Handle = Arc<InScc>;

    fn intern(text: &str) -> Arc<InScc> {
        if let Some(found) = SCC.read_sync(text, |_, held| held.upgrade()).flatten() {
            return found;
        }
        let text: Arc<str> = text.into();
        let new = Arc::new(InScc(text.clone()));
        match SCC.entry_sync(text) {
            scc::hash_map::Entry::Vacant(place) => {
                place.insert_entry(Arc::downgrade(&new));
                new
            }
            scc::hash_map::Entry::Occupied(mut place) => match place.get().upgrade() {
                Some(found) => {
                    // The new one's destructor takes the lock.
                    drop(place);
                    found
                }
                None => {
                    place.insert(Arc::downgrade(&new));
                    new
                }
            },
        }
    }
}

/// `papaya::HashMap`: a lock-free table that moves a few entries at a time.
pub struct Papaya;

static PAPAYA: LazyLock<papaya::HashMap<Arc<str>, Weak<InPapaya>, RandomState>> =
    LazyLock::new(Default::default);

pub struct InPapaya(Arc<str>);

impl Drop for InPapaya {
    fn drop(&mut self) {
        // Fails if a live one has come in its place.
        let _ = PAPAYA
            .pin()
            .remove_if(&self.0, |_, held| held.strong_count() == 0);
    }
}

impl Peer for Papaya {
    type Handle = Arc<InPapaya>;

    fn intern(text: &str) -> Arc<InPapaya> {
        let map = PAPAYA.pin();
        if let Some(found) = map.get(text).and_then(Weak::upgrade) {
            return found;
        }
        let text: Arc<str> = text.into();
        let new = Arc::new(InPapaya(text.clone()));
        // First without `compute`, which takes five times as long for a new key.
        if map.try_insert(text.clone(), Arc::downgrade(&new)).is_ok() {
            return new;
        }
        let seen = map.compute(text, |entry| {
            match entry.and_then(|(_, held)| held.upgrade()) {
                Some(found) => papaya::Operation::Abort(found),
                None => papaya::Operation::Insert(Arc::downgrade(&new)),
            }
        });
        match seen {
            papaya::Compute::Aborted(found) => found,
            _ => new,
        }
    }
}
