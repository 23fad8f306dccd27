//! User code runs without a pin of ours: it may take its time, and nobody's memory waits for it.
//!
//! - A look-up that misses may have become the last one to hold an entry that it compared.
//! - Threads do everything there is to values with few hashes, whose every operation looks for a pin and panics now
//!   and then.

mod common;

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;
use std::thread;

use common::{Rng, scaled, seed};
use hapax::{Interned, Interner, WeakMap};

/// Hashes to one of two values.
#[derive(Clone, Default)]
struct Few(u64);

impl Hasher for Few {
    fn write(&mut self, bytes: &[u8]) {
        self.0 += bytes.iter().map(|&byte| u64::from(byte)).sum::<u64>();
    }

    fn finish(&self) -> u64 {
        self.0 % 2
    }
}

impl BuildHasher for Few {
    type Hasher = Few;

    fn build_hasher(&self) -> Few {
        Few(0)
    }
}

thread_local! {
    /// What this thread is doing.
    static DOING: Cell<&'static str> = const { Cell::new("") };
    static CHANCE: RefCell<Rng> = const { RefCell::new(Rng(1)) };
}

/// What ran pinned.
static PINNED: Mutex<BTreeSet<(&str, &str)>> = Mutex::new(BTreeSet::new());

/// User code is here.
fn user_code(what: &'static str) {
    if hapax::model::is_pinned() {
        PINNED.lock().unwrap().insert((what, DOING.get()));
    }
}

/// A number below the bound, of this thread's own.
fn below(bound: usize) -> usize {
    CHANCE.with_borrow_mut(|chance| chance.below(bound))
}

fn perhaps_panic() {
    if below(400) == 0 && !thread::panicking() {
        // Without a message.
        resume_unwind(Box::new(()));
    }
}

#[derive(Debug)]
struct Value(usize);

impl Clone for Value {
    fn clone(&self) -> Self {
        user_code("clone");
        perhaps_panic();
        Self(self.0)
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        user_code("drop");
        perhaps_panic();
    }
}

impl Hash for Value {
    fn hash<H: Hasher>(&self, state: &mut H) {
        user_code("hash");
        perhaps_panic();
        self.0.hash(state);
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        user_code("eq");
        perhaps_panic();
        self.0 == other.0
    }
}

impl Eq for Value {}

/// One random operation. What it gets it keeps in `held` and `kept`.
fn operate(
    values: &Interner<Value, Few>,
    map: &WeakMap<Value, Value, Few>,
    held: &mut Vec<Interned<Value>>,
    kept: &mut Vec<hapax::Cached<Value, Value>>,
) {
    let value = || Value(below(7));
    let doing = |what| DOING.set(what);
    match below(13) {
        0 => {
            doing("intern");
            held.push(values.intern(value()));
        }
        1 => {
            doing("intern, lent");
            let lent = value();
            held.push(values.intern(&lent));
        }
        2 => {
            doing("get");
            held.extend(values.get(&value()));
        }
        3 => {
            doing("intern_with");
            held.push(values.intern_with(&value(), |value| {
                user_code("build");
                value.clone()
            }));
        }
        4 => {
            doing("intern_all");
            let many: Vec<_> = (0..below(40)).map(|_| value()).collect();
            held.extend(values.intern_all(&many).take(3));
        }
        5 => {
            doing("iter");
            values.iter().for_each(|_| user_code("body"));
        }
        6 => {
            doing("downgrade_with");
            if let Some(handle) = held.pop() {
                let weak = Interned::downgrade_with(&handle, || user_code("callback"));
                drop(handle);
                drop(weak.upgrade());
            }
        }
        7 => {
            doing("try_unwrap");
            drop(held.pop().map(Interned::try_unwrap));
        }
        8 => {
            doing("get_or_insert");
            kept.push(map.get_or_insert(value(), value()));
        }
        9 => {
            doing("get_or_init");
            kept.push(map.get_or_init(value(), |key| {
                user_code("build");
                key.clone()
            }));
        }
        10 => {
            doing("remove");
            drop(map.remove(&value()));
        }
        11 => {
            doing("map.get");
            kept.extend(map.get(&value()));
        }
        _ => {
            doing("release");
            held.truncate(1);
            kept.truncate(1);
        }
    }
}

#[test]
fn nothing_of_the_users_runs_under_a_pin() {
    let values = Interner::<Value, Few>::with_hasher(Few(0));
    let map = WeakMap::<Value, Value, Few>::with_hasher(Few(0));
    values.on_drop(|_| user_code("hook"));
    map.on_drop(|_, _| user_code("hook"));
    let seed = seed();
    thread::scope(|scope| {
        for number in 0..3 {
            let (values, map) = (&values, &map);
            scope.spawn(move || {
                CHANCE.set(Rng(seed + number));
                let (mut held, mut kept) = (Vec::new(), Vec::new());
                for _ in 0..scaled(60_000, 50) {
                    // The panics are ours.
                    let _ = catch_unwind(AssertUnwindSafe(|| {
                        operate(values, map, &mut held, &mut kept);
                    }));
                }
                while !(held.is_empty() && kept.is_empty()) {
                    let _ = catch_unwind(AssertUnwindSafe(|| {
                        held.clear();
                        kept.clear();
                    }));
                }
            });
        }
    });
    let pinned = std::mem::take(&mut *PINNED.lock().unwrap());
    assert!(pinned.is_empty(), "{pinned:?}");
    assert_eq!((values.len(), map.len()), (0, 0));
}

/// Its second comparison lets go of the only other handle.
#[derive(Debug)]
struct Last(u64);

thread_local! {
    static COMPARED: Cell<u32> = const { Cell::new(0) };
    static OTHER: RefCell<Option<Interned<Last>>> = const { RefCell::new(None) };
    static DIED_PINNED: Cell<Option<bool>> = const { Cell::new(None) };
}

impl Drop for Last {
    fn drop(&mut self) {
        DIED_PINNED.set(Some(hapax::model::is_pinned()));
    }
}

impl Hash for Last {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl PartialEq for Last {
    fn eq(&self, other: &Self) -> bool {
        COMPARED.set(COMPARED.get() + 1);
        if COMPARED.get() == 2 {
            let handle = OTHER.take();
            drop(handle);
        }
        self.0 == other.0
    }
}

impl Eq for Last {}

#[test]
fn a_look_up_that_is_left_with_the_last_handle_drops_it_unpinned() {
    let values = Interner::<Last, Few>::with_hasher(Few(0));
    OTHER.set(Some(values.intern(Last(1))));
    let wanted = std::mem::ManuallyDrop::new(Last(2));
    assert!(values.get(&*wanted).is_none());
    assert_eq!(DIED_PINNED.get(), Some(false));
    assert_eq!(values.len(), 0);
}
