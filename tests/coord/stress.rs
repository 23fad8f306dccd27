//! Threads of several sessions on a few keys, while sessions die. Counters beside the store say who is inside.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use super::*;

const SESSIONS: usize = 4;
const THREADS: usize = 2;
const PERMITS: u32 = 2;

/// Who is inside of what a key protects.
#[derive(Default)]
struct Inside {
    alone: AtomicU32,
    together: AtomicU32,
    slots: [AtomicU32; PERMITS as usize],
    gates: [Mutex<FencingGate>; PERMITS as usize],
    greatest: AtomicU64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    Alone,
    Together,
    Slot(usize),
}

impl Inside {
    fn enter(&self, entry: Entry, token: u64) {
        match entry {
            Entry::Alone => {
                assert_eq!(
                    self.alone.fetch_add(1, Ordering::SeqCst),
                    0,
                    "two are alone"
                );
                assert_eq!(self.together.load(Ordering::SeqCst), 0, "somebody reads");
                self.gates[0].lock().unwrap().admit(token).unwrap();
            }
            Entry::Together => {
                self.together.fetch_add(1, Ordering::SeqCst);
                assert_eq!(self.alone.load(Ordering::SeqCst), 0, "somebody writes");
            }
            Entry::Slot(slot) => {
                let others = self.slots[slot].fetch_add(1, Ordering::SeqCst);
                assert_eq!(others, 0, "two have that slot");
                self.gates[slot].lock().unwrap().admit(token).unwrap();
            }
        }
        self.greatest.fetch_max(token, Ordering::SeqCst);
    }

    fn leave(&self, entry: Entry) {
        let counter = match entry {
            Entry::Alone => &self.alone,
            Entry::Together => &self.together,
            Entry::Slot(slot) => &self.slots[slot],
        };
        assert!(counter.fetch_sub(1, Ordering::SeqCst) > 0);
    }
}

/// A process: its store, and what its threads are inside of.
struct Process {
    store: MemoryStore,
    /// None once it is dead.
    inside: Mutex<Option<Vec<(usize, Entry)>>>,
}

impl Process {
    fn of(store: &MemoryStore) -> Arc<Self> {
        Arc::new(Self {
            store: store.new_session(),
            inside: Mutex::new(Some(Vec::new())),
        })
    }

    /// False if it has died meanwhile.
    fn enter(&self, keys: &[Inside], key: usize, entry: Entry, token: u64) -> bool {
        let mut inside = self.inside.lock().unwrap();
        let Some(inside) = &mut *inside else {
            return false;
        };
        keys[key].enter(entry, token);
        inside.push((key, entry));
        true
    }

    fn leave(&self, keys: &[Inside], key: usize, entry: Entry) -> bool {
        let mut inside = self.inside.lock().unwrap();
        let Some(inside) = &mut *inside else {
            return false;
        };
        let at = inside
            .iter()
            .position(|other| *other == (key, entry))
            .unwrap();
        inside.swap_remove(at);
        keys[key].leave(entry);
        true
    }

    /// Its threads run on, but do nothing any more.
    fn die(&self, keys: &[Inside]) {
        let mut inside = self.inside.lock().unwrap();
        for (key, entry) in inside.take().into_iter().flatten() {
            keys[key].leave(entry);
        }
        self.store.crash();
    }
}

/// Gets something, is inside for a moment, and gives it back, or is killed, or has died.
fn visit(process: &Process, keys: &[Inside], rng: &mut Rng) {
    let key = rng.below(keys.len());
    let name = key.to_string();
    let limit = Duration::from_micros(rng.below(2_000) as u64);
    let is_alone = rng.below(2) == 0;
    let is_strict = rng.below(4) == 0;
    let how = rng.below(4);
    let dies = rng.below(60) == 0;
    let yields = rng.below(4);
    let answer = if key == 2 {
        let semaphore = Semaphore::new(&process.store, &name, PERMITS);
        let semaphore = if is_strict {
            semaphore.strict()
        } else {
            semaphore
        };
        let answer = match how {
            0 => semaphore.try_acquire(),
            1 => semaphore.try_acquire_for(limit),
            _ => semaphore.acquire(),
        };
        answer.map(|permit| (Entry::Slot(permit.slot() as usize), Ok(permit)))
    } else {
        let lock = Lock::new(&process.store, &name);
        let lock = if is_strict { lock.strict() } else { lock };
        let lock = if is_alone { lock } else { lock.shared() };
        let answer = match how {
            0 => lock.try_lock(),
            1 => lock.try_lock_for(limit),
            _ => lock.lock(),
        };
        let entry = if is_alone {
            Entry::Alone
        } else {
            Entry::Together
        };
        answer.map(|guard| (entry, Err(guard)))
    };
    let (entry, guard) = match answer {
        Ok((entry, guard)) => (entry, guard),
        Err(CoordError::TimedOut { .. }) if how < 2 => return,
        Err(CoordError::Closed { .. }) => return assert!(process.inside.lock().unwrap().is_none()),
        Err(error) => panic!("{error}"),
    };
    let token = guard
        .as_ref()
        .map_or_else(LockGuard::fencing_token, Permit::fencing_token);
    if !process.enter(keys, key, entry, token) {
        return;
    }
    (0..yields).for_each(|_| thread::yield_now());
    if dies {
        return process.die(keys);
    }
    if process.leave(keys, key, entry) {
        let answer = match guard {
            Ok(permit) => permit.release(),
            Err(guard) => guard.release(),
        };
        // It may have died between the two.
        assert!(
            answer.is_ok() || process.inside.lock().unwrap().is_none(),
            "{answer:?}"
        );
    }
}

#[test]
fn nobody_is_inside_with_who_is_alone() {
    let seed = seed();
    let _seed = SeedOnFailure(seed);
    let store = MemoryStore::new();
    let keys: Arc<[Inside; 3]> = Arc::default();
    let processes: Arc<Vec<_>> = Arc::new(
        (0..SESSIONS)
            .map(|_| Mutex::new(Process::of(&store)))
            .collect(),
    );
    let is_over = Arc::new(AtomicBool::new(false));
    let tasks: Vec<_> = (0..SESSIONS * THREADS)
        .map(|number| {
            let (store, keys, is_over) = (store.clone(), keys.clone(), is_over.clone());
            let processes = processes.clone();
            task(move || {
                let mut rng = Rng(seed.wrapping_add(number as u64));
                let mut visits = 0;
                while !is_over.load(Ordering::Relaxed) {
                    let process = processes[number % SESSIONS].lock().unwrap().clone();
                    visit(&process, &*keys, &mut rng);
                    visits += 1;
                    if process.inside.lock().unwrap().is_none() {
                        let mut current = processes[number % SESSIONS].lock().unwrap();
                        if Arc::ptr_eq(&current, &process) {
                            *current = Process::of(&store);
                        }
                    }
                }
                visits
            })
        })
        .collect();
    thread::sleep(Duration::from_millis(scaled(1_500, 50) as u64));
    is_over.store(true, Ordering::Relaxed);
    let visits: u32 = tasks.into_iter().map(Task::answer).sum();
    assert!(visits > 10);
    for inside in &*keys {
        assert_eq!(inside.alone.load(Ordering::SeqCst), 0);
        assert_eq!(inside.together.load(Ordering::SeqCst), 0);
        assert!(
            inside
                .slots
                .iter()
                .all(|slot| slot.load(Ordering::SeqCst) == 0)
        );
        assert!(inside.greatest.load(Ordering::SeqCst) > 0);
    }
    // The dead have left something at most.
    for key in ["0", "1"] {
        drop(Lock::new(&store, key).try_lock().unwrap());
    }
    let permits =
        [(); PERMITS as usize].map(|()| Semaphore::new(&store, "2", PERMITS).try_acquire());
    drop(permits.map(Result::unwrap));
    assert!(store.list().unwrap().is_empty());
}
