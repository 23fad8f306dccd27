//! Random mixed operations of several threads on one interner and one map, and what must hold whenever
//! the threads stand still.
//!
//! - Every value that was made is dead, or somebody holds it.
//! - All handles that are held for a key of the interner lead to one value, and `get` answers it.
//! - An entry of the map that nobody removed is the one that `get` answers.
//! - `len` is exact, and an iteration yields just as many entries, each once.
//! - Every callback has run, was cancelled, or waits for a value that lives; none ran twice.
//! - In the end both tables are empty, and everything has died.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;

use hapax::{Cached, Interned, Interner, WeakCached, WeakInterned, WeakMap};

use super::{Census, Counted, Rng, SeedOnFailure};

/// How much is done.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub threads: usize,
    /// Tables that are made, one after the other.
    pub lives: usize,
    /// Standstills in the life of a table.
    pub rounds: usize,
    /// Operations of a thread between two standstills.
    pub operations: usize,
    pub keys: usize,
    /// Entries that a burst adds, so that the tables grow.
    pub burst: usize,
}

/// What has become of the callbacks.
#[derive(Debug, Default)]
struct Callbacks {
    registered: AtomicUsize,
    ran: AtomicUsize,
    dropped: AtomicUsize,
}

/// Owned by a callback: tells when that is dropped.
struct Token(Arc<Callbacks>);

impl Drop for Token {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

struct Stage {
    interner: Interner<Counted>,
    map: WeakMap<u64, Counted>,
    census: Arc<Census>,
    callbacks: Arc<Callbacks>,
    /// Handles on their way from one thread to another.
    exchange: Mutex<Vec<Interned<Counted>>>,
    /// Serial numbers of entries that were removed from the map, or may have been given up.
    removed: Mutex<HashSet<u64>>,
    barrier: Barrier,
    report: Mutex<Report>,
}

/// What the threads hold at a standstill, as keys and serial numbers.
#[derive(Default)]
struct Report {
    interned: Vec<(u64, u64)>,
    cached: Vec<(u64, u64)>,
}

#[derive(Default)]
struct Held {
    interned: Vec<Interned<Counted>>,
    cached: Vec<Cached<u64, Counted>>,
    weak: Vec<WeakInterned<Counted>>,
    weak_cached: Vec<WeakCached<u64, Counted>>,
}

/// Runs it all.
pub fn run(seed: u64, sizes: Sizes) {
    let _seed = SeedOnFailure(seed);
    let mut rng = Rng(seed);
    for _ in 0..sizes.lives {
        live(rng.next(), sizes);
    }
}

/// The life of one interner and one map. Their teardown meets threads that drop what they still hold.
fn live(seed: u64, sizes: Sizes) {
    let census = Census::new();
    let callbacks = Arc::<Callbacks>::default();
    let stage = Arc::new(Stage {
        interner: Interner::new(),
        map: WeakMap::new(),
        census: census.clone(),
        callbacks: callbacks.clone(),
        exchange: Mutex::default(),
        removed: Mutex::default(),
        barrier: Barrier::new(sizes.threads),
        report: Mutex::default(),
    });
    stage.interner.on_drop(Counted::assert_alive);
    stage.map.on_drop(|key, value| {
        value.assert_alive();
        assert_eq!(*key, value.key);
    });
    let threads: Vec<_> = (0..sizes.threads)
        .map(|number| {
            let stage = stage.clone();
            thread::spawn(move || perform(stage, number, Rng(seed ^ number as u64), sizes))
        })
        .collect();
    drop(stage);
    let failed = threads
        .into_iter()
        .map(thread::JoinHandle::join)
        .filter(Result::is_err)
        .count();
    assert_eq!(failed, 0, "threads failed");
    assert_eq!(census.live(), 0, "values were lost");
    assert_eq!(
        callbacks.registered.load(Ordering::SeqCst),
        callbacks.dropped.load(Ordering::SeqCst),
        "callbacks were lost"
    );
}

/// A thread that fails must not leave the others waiting.
struct AbortOnFailure;

impl Drop for AbortOnFailure {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("a thread of a stress test failed; see above");
            std::process::abort();
        }
    }
}

fn perform(stage: Arc<Stage>, number: usize, mut rng: Rng, sizes: Sizes) {
    let seed = rng.0;
    let _abort = AbortOnFailure;
    let _seed = SeedOnFailure(seed);
    let mut held = Held::default();
    for round in 0..sizes.rounds {
        for _ in 0..sizes.operations {
            step(&stage, &mut held, &mut rng, sizes);
        }
        // Now and then nobody holds anything.
        if round % 3 == 2 {
            held = Held::default();
            stage.exchange.lock().unwrap().clear();
        }
        standstill(&stage, &held, number);
    }
    // The last of the threads to get here takes the tables down, while the others drop their handles.
    if rng.below(2) == 0 {
        drop(stage);
        drop(held);
    } else {
        let mut handles = held.interned.into_iter();
        drop(handles.by_ref().take(rng.below(20)).collect::<Vec<_>>());
        drop(stage);
        drop(handles);
        // Weak handles find nothing but what somebody still holds.
        for weak in held.weak {
            if let Some(value) = weak.upgrade() {
                value.assert_alive();
            }
        }
    }
}

/// One random operation.
fn step(stage: &Stage, held: &mut Held, rng: &mut Rng, sizes: Sizes) {
    let key = rng.below(sizes.keys) as u64;
    match rng.below(25) {
        0..=4 => {
            let value = stage.interner.intern(Counted::new(key, &stage.census));
            assert_eq!(value.key, key);
            value.assert_alive();
            held.interned.push(value);
        }
        5 => {
            if let Some(value) = stage.interner.get(&key) {
                assert_eq!(value.key, key);
                value.assert_alive();
                held.interned.push(value);
            }
        }
        6 => {
            let value = stage
                .interner
                .intern_with(&key, |&key| Counted::new(key, &stage.census));
            assert_eq!(value.key, key);
        }
        7..=10 => {
            if !held.interned.is_empty() {
                let index = rng.below(held.interned.len());
                held.interned.swap_remove(index).assert_alive();
            }
        }
        11 => {
            if let Some(value) = held.interned.last() {
                let weak = if rng.below(2) == 0 {
                    Interned::downgrade(value)
                } else {
                    let callbacks = stage.callbacks.clone();
                    callbacks.registered.fetch_add(1, Ordering::SeqCst);
                    let token = Token(callbacks);
                    Interned::downgrade_with(value, move || {
                        token.0.ran.fetch_add(1, Ordering::SeqCst);
                    })
                };
                held.weak.push(weak);
            }
        }
        12 => {
            if !held.weak.is_empty() {
                let index = rng.below(held.weak.len());
                if let Some(value) = held.weak[index].upgrade() {
                    value.assert_alive();
                    held.interned.push(value);
                } else {
                    held.weak.swap_remove(index);
                }
            }
        }
        13 => {
            let index = rng.below(held.weak.len() + 1);
            held.weak.truncate(index);
        }
        14 => {
            let mut exchange = stage.exchange.lock().unwrap();
            let taken = exchange.pop();
            if let Some(given) = held.interned.pop() {
                exchange.push(given);
            }
            drop(exchange);
            held.interned.extend(taken);
        }
        15 => {
            if let Some(value) = held.interned.pop() {
                match Interned::try_unwrap(value) {
                    Ok(value) => value.assert_alive(),
                    Err(value) => held.interned.push(value),
                }
            }
        }
        16 => {
            for value in stage.interner.iter().take(5) {
                value.assert_alive();
            }
            for entry in stage.map.iter().take(5) {
                entry.assert_alive();
            }
        }
        17 | 18 => {
            let entry = stage
                .map
                .get_or_insert(key, Counted::new(key, &stage.census));
            assert_eq!((*Cached::key(&entry), entry.key), (key, key));
            entry.assert_alive();
            held.cached.push(entry);
        }
        19 => {
            let entry = stage.map.get_or_init(key, |&key| {
                let value = Counted::new(key, &stage.census);
                // Another thread may publish its own meanwhile; then this one may come to be removed
                // at once.
                stage.removed.lock().unwrap().insert(value.serial);
                value
            });
            assert_eq!((*Cached::key(&entry), entry.key), (key, key));
            entry.assert_alive();
            held.cached.push(entry);
        }
        20 => {
            // The other removers take the lock as well, so that the list is complete at a standstill.
            if let Some(entry) = stage.map.remove(&key) {
                entry.assert_alive();
                stage.removed.lock().unwrap().insert(entry.serial);
            }
        }
        21 | 22 => {
            if !held.cached.is_empty() {
                let index = rng.below(held.cached.len());
                let entry = held.cached.swap_remove(index);
                entry.assert_alive();
                if rng.below(2) == 0 {
                    held.weak_cached.push(Cached::downgrade(&entry));
                }
            }
            if let Some(entry) = held.weak_cached.pop().and_then(|weak| weak.upgrade()) {
                entry.assert_alive();
            }
        }
        23 => {
            let pinned = stage.interner.pin();
            let fresh = rng.next() | 1 << 63;
            let burst: Vec<_> = (0..rng.below(sizes.burst) as u64)
                .map(|offset| pinned.intern(Counted::new(fresh + offset, &stage.census)))
                .collect();
            held.interned.extend(burst.into_iter().take(2));
        }
        _ => match rng.below(8) {
            0 => stage.interner.flush(),
            1 => stage.interner.reserve(rng.below(sizes.burst)),
            2 => stage.interner.on_drop(Counted::assert_alive),
            3 => stage.interner.clear_on_drop(),
            _ => drop(stage.interner.intern(Counted::new(key, &stage.census))),
        },
    }
}

/// Everybody stops, and one thread looks at what there is.
fn standstill(stage: &Stage, held: &Held, number: usize) {
    {
        let mut report = stage.report.lock().unwrap();
        let interned = held.interned.iter().map(|value| (value.key, value.serial));
        let cached = held.cached.iter().map(|entry| (entry.key, entry.serial));
        report.interned.extend(interned);
        report.cached.extend(cached);
    }
    stage.barrier.wait();
    if number == 0 {
        look_at(stage);
    }
    stage.barrier.wait();
}

fn look_at(stage: &Stage) {
    let mut report = std::mem::take(&mut *stage.report.lock().unwrap());
    for value in &*stage.exchange.lock().unwrap() {
        report.interned.push((value.key, value.serial));
    }

    // One value for each key.
    let mut of_key = HashMap::new();
    for (key, serial) in &report.interned {
        let first = *of_key.entry(*key).or_insert(*serial);
        assert_eq!(first, *serial, "two values of one key");
    }
    for (key, serial) in &of_key {
        let found = stage.interner.get(key).expect("a held value is found");
        assert_eq!(found.serial, *serial);
    }
    assert_eq!(
        stage.interner.len(),
        of_key.len(),
        "the length of the interner"
    );
    let mut met: Vec<_> = stage.interner.iter().map(|value| value.serial).collect();
    let entries = met.len();
    met.sort_unstable();
    met.dedup();
    assert_eq!((met.len(), entries), (of_key.len(), of_key.len()));

    // Entries of the map that were not removed are what `get` answers.
    let removed = stage.removed.lock().unwrap();
    let serials: HashSet<_> = report.cached.iter().copied().collect();
    let mut live = 0;
    for (key, serial) in &serials {
        let found = stage.map.get(key).map(|entry| entry.serial);
        if found == Some(*serial) {
            live += 1;
        } else {
            assert!(removed.contains(serial), "a held entry is not found");
        }
    }
    drop(removed);
    assert_eq!(stage.map.len(), live, "the length of the map");
    assert_eq!(stage.map.iter().count(), live);

    assert_eq!(
        stage.census.live(),
        of_key.len() + serials.len(),
        "values that are neither dead nor held"
    );
    let ran = stage.callbacks.ran.load(Ordering::SeqCst);
    let dropped = stage.callbacks.dropped.load(Ordering::SeqCst);
    let registered = stage.callbacks.registered.load(Ordering::SeqCst);
    assert!(ran <= dropped && dropped <= registered);
}
