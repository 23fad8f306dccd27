//! Random operations of several threads on one interner and one map, and what must hold whenever the threads
//! stand still. `tests/common/mixed.rs` does the same in real time.
//!
//! - Every value that was made is dead, or somebody holds it.
//! - All handles that are held for a key of the interner lead to one value, and `get` answers it.
//! - An entry of the map that nobody removed is the one that `get` answers.
//! - `len` is exact, and an iteration yields just as many entries, each once.
//! - Every callback has run, was cancelled, or waits for a value that lives; none ran twice.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, Weak};

use hapax::{Cached, InitError, Interned, WeakCached, WeakInterned};

use crate::{Census, Identity, Life, Map, Value, Values, below, chance, key};

/// What has become of the callbacks.
#[derive(Debug, Default)]
pub struct Callbacks {
    registered: AtomicUsize,
    ran: AtomicUsize,
    dropped: AtomicUsize,
}

impl Callbacks {
    /// A callback that says when it is called and when it is dropped.
    pub fn register(self: &Arc<Self>) -> impl FnOnce() + Send + 'static {
        self.registered.fetch_add(1, Relaxed);
        let token = Token(self.clone());
        move || {
            token.0.ran.fetch_add(1, Relaxed);
            crate::step();
        }
    }

    pub fn ran(&self) -> usize {
        self.ran.load(Relaxed)
    }

    /// Those that were neither called nor cancelled.
    pub fn waiting(&self) -> usize {
        let (ran, dropped) = (self.ran(), self.dropped.load(Relaxed));
        assert!(ran <= dropped, "a callback was called and not dropped");
        self.registered.load(Relaxed) - dropped
    }
}

/// Owned by a callback.
struct Token(Arc<Callbacks>);

impl Drop for Token {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, Relaxed);
    }
}

/// What the threads share.
pub struct Stage {
    pub values: Values,
    pub map: Map,
    pub census: Census,
    pub callbacks: Arc<Callbacks>,
    /// Keys that are used.
    keys: usize,
    /// Whether the operations may wait for builders.
    waits: bool,
    /// Handles on their way from one thread to another. Never locked for longer than a move.
    exchange: Mutex<Vec<Interned<Value>>>,
    /// Serial numbers of entries that were removed from the map, or may have been given up. As above.
    removed: Mutex<BTreeSet<usize>>,
}

impl Stage {
    pub fn new(keys: usize) -> Arc<Self> {
        Self::make(keys, true)
    }

    /// None of whose operations waits for another thread.
    pub fn without_waits(keys: usize) -> Arc<Self> {
        Self::make(keys, false)
    }

    fn make(keys: usize, waits: bool) -> Arc<Self> {
        Arc::new(Self {
            values: Values::with_hasher(Identity),
            map: Map::with_hasher(Identity),
            census: Census::default(),
            callbacks: Arc::default(),
            keys,
            waits,
            exchange: Mutex::default(),
            removed: Mutex::default(),
        })
    }

    /// Calls what users may call when a value dies; now and then that interns.
    pub fn set_hooks(self: &Arc<Self>) {
        let stage = Arc::downgrade(self);
        self.values.on_drop(move |value| {
            value.touch();
            if let Some(stage) = Weak::upgrade(&stage)
                && chance(4)
            {
                let key = key(below(stage.keys));
                drop(stage.values.intern(stage.census.value(key)));
            }
        });
        self.map.on_drop(|_, life| life.touch());
    }

    fn exchange(&self, given: Option<Interned<Value>>) -> Option<Interned<Value>> {
        let mut exchange = self.exchange.lock().unwrap();
        let taken = exchange.pop();
        exchange.extend(given);
        taken
    }

    fn note_removed(&self, life: &Life) {
        self.removed.lock().unwrap().insert(life.serial);
    }
}

/// What a thread holds.
#[derive(Default)]
pub struct Held {
    pub values: Vec<Interned<Value>>,
    pub entries: Vec<Cached<crate::Key, Life>>,
    pub weak: Vec<WeakInterned<Value>>,
    pub weak_entries: Vec<WeakCached<crate::Key, Life>>,
}

/// Takes a random element.
fn pick<T>(from: &mut Vec<T>) -> Option<T> {
    (!from.is_empty()).then(|| from.swap_remove(below(from.len())))
}

impl Held {
    /// One random operation.
    pub fn operate(&mut self, stage: &Stage) {
        match below(9) {
            0 | 1 => self.intern(stage),
            2 => self.look_up(stage),
            3 | 4 => self.let_go(stage),
            5 => self.weaken(stage),
            6 => self.insert_entry(stage),
            7 => self.remove_entry(stage),
            _ => self.walk(stage),
        }
    }

    fn intern(&mut self, stage: &Stage) {
        let key = key(below(stage.keys));
        let value = match (below(4), self.values.last()) {
            (0, Some(inner)) => stage.census.nested(key, inner.clone()),
            _ => stage.census.value(key),
        };
        let interned = if chance(4) {
            stage.values.intern_with(&key, |_| value)
        } else {
            stage.values.intern(value)
        };
        assert_eq!(interned.key, key);
        self.hold(interned);
    }

    fn look_up(&mut self, stage: &Stage) {
        let key = key(below(stage.keys));
        let held = self.values.iter().find(|value| value.key == key).cloned();
        let found = stage.values.get(&key);
        if let Some(held) = held {
            assert_eq!(found, Some(held), "a held value is not found");
        }
        if let Some(found) = found {
            assert_eq!(found.key, key);
            self.hold(found);
        }
    }

    /// Takes a handle in. It is the only one of its key, whoever made it.
    fn hold(&mut self, value: Interned<Value>) {
        value.touch();
        for other in self.values.iter().filter(|other| other.key == value.key) {
            assert!(Interned::ptr_eq(other, &value), "two values of one key");
        }
        self.values.push(value);
    }

    fn let_go(&mut self, stage: &Stage) {
        let Some(value) = pick(&mut self.values) else {
            return;
        };
        value.touch();
        match below(6) {
            0 => drop(stage.exchange(Some(value)).map(|taken| self.hold(taken))),
            1 => match Interned::try_unwrap(value) {
                Ok(value) => value.touch(),
                Err(value) => self.values.push(value),
            },
            _ => drop(value),
        }
    }

    fn weaken(&mut self, stage: &Stage) {
        match (below(4), self.values.last()) {
            (0, Some(value)) => self.weak.push(Interned::downgrade(value)),
            (1, Some(value)) => {
                let callback = stage.callbacks.register();
                self.weak.push(Interned::downgrade_with(value, callback));
            }
            (2, _) => self.weak.truncate(below(self.weak.len() + 1)),
            _ => match pick(&mut self.weak).and_then(|weak| weak.upgrade()) {
                Some(value) => self.hold(value),
                None => self.upgrade_entry(),
            },
        }
    }

    fn upgrade_entry(&mut self) {
        if let Some(entry) = pick(&mut self.weak_entries).and_then(|weak| weak.upgrade()) {
            entry.touch();
            self.entries.push(entry);
        }
    }

    fn insert_entry(&mut self, stage: &Stage) {
        let key = key(below(stage.keys));
        let build = || {
            let life = stage.census.life();
            // Another thread may publish its own meanwhile; then this one may come to be removed at once.
            stage.note_removed(&life);
            crate::step();
            life
        };
        let entry = match below(if stage.waits { 4 } else { 2 }) {
            0 | 1 => stage.map.get_or_insert(key, stage.census.life()),
            2 => stage.map.get_or_init(key, |_| build()),
            _ => match stage.map.try_get_or_init(key, |_| Err(build())) {
                Ok(entry) => entry,
                Err(InitError::Init(failed)) => return failed.touch(),
                Err(error) => panic!("nobody waits for itself: {error:?}"),
            },
        };
        entry.touch();
        assert_eq!(*Cached::key(&entry), key);
        if chance(3) {
            self.weak_entries.push(Cached::downgrade(&entry));
        }
        self.entries.push(entry);
    }

    fn remove_entry(&mut self, stage: &Stage) {
        if chance(2)
            && let Some(removed) = stage.map.remove(&key(below(stage.keys)))
        {
            removed.touch();
            stage.note_removed(&removed);
        } else if let Some(entry) = pick(&mut self.entries) {
            entry.touch();
        }
    }

    fn walk(&mut self, stage: &Stage) {
        match below(6) {
            0 => stage.values.iter().for_each(|value| value.touch()),
            1 => stage.map.iter().for_each(|entry| entry.touch()),
            2 => stage.values.flush(),
            3 => stage.values.reserve(below(8)),
            4 => {
                let pinned = stage.values.pin();
                let first = below(24);
                let some = (first..first + below(6)).map(|number| stage.census.value(key(number)));
                drop(some.map(|value| pinned.intern(value)).collect::<Vec<_>>());
            }
            _ => drop(pick(&mut self.values).map(|value| self.hold(value.clone()))),
        }
    }
}

/// Looks at everything while nothing else runs.
pub fn look_at(stage: &Stage, held: &[Held]) {
    let exchange = mem::take(&mut *stage.exchange.lock().unwrap());
    let interned = held.iter().flat_map(|held| &held.values).chain(&exchange);
    let mut values = BTreeMap::new();
    for value in interned {
        // Values hold others.
        let mut next = Some(value);
        while let Some(value) = next {
            values.insert(value.life.serial, value.clone());
            next = value.inner.as_ref();
        }
    }
    for value in values.values() {
        let found = stage.values.get(&value.key).expect("a held value is found");
        assert!(Interned::ptr_eq(&found, value), "two values of one key");
    }
    assert_eq!(
        stage.values.len(),
        values.len(),
        "the length of the interner"
    );
    let mut met: Vec<_> = stage.values.iter().map(|value| value.life.serial).collect();
    met.sort_unstable();
    assert!(met.iter().eq(values.keys()), "an iteration of the interner");

    let entries = held.iter().flat_map(|held| &held.entries);
    let entries: BTreeMap<_, _> = entries.map(|entry| (entry.serial, entry)).collect();
    let is_found = |entry: &Cached<crate::Key, Life>| {
        let found = stage.map.get(Cached::key(entry));
        found.is_some_and(|found| Cached::ptr_eq(&found, entry))
    };
    let removed = mem::take(&mut *stage.removed.lock().unwrap());
    let (found, missing): (Vec<_>, Vec<_>) =
        entries.into_values().partition(|entry| is_found(entry));
    for entry in &missing {
        assert!(removed.contains(&entry.serial), "a held entry is not found");
    }
    assert_eq!(stage.map.len(), found.len(), "the length of the map");
    let mut met: Vec<_> = stage.map.iter().map(|entry| entry.serial).collect();
    met.sort_unstable();
    let found_serials = found.iter().map(|entry| entry.serial);
    assert!(met.into_iter().eq(found_serials), "an iteration of the map");
    *stage.removed.lock().unwrap() = removed;

    let alive = values.len() + found.len() + missing.len();
    assert_eq!(
        stage.census.alive(),
        alive,
        "values that are neither dead nor held"
    );
    drop(values);
    stage.exchange.lock().unwrap().extend(exchange);
}

/// Nobody holds anything any more, and the tables are gone.
pub fn assert_gone(census: &Census, callbacks: &Callbacks) {
    assert_eq!(census.alive(), 0, "values were lost");
    assert_eq!(callbacks.waiting(), 0, "callbacks were lost");
}
