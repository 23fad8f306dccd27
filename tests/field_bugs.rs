//! The bugs that others in this field had, each with the test that would find it here. The rows are those of
//! the list of field bugs; what is named `bNN_…` is in this file.
//!
//! | row | what happened elsewhere | here |
//! |---|---|---|
//! | B1 | a revived entry is removed by the one who dropped it before | `stress.rs`, `same_address.rs`, `guarantees::a_key_that_dies_all_the_time_has_one_instance`, loom `list` |
//! | B2 | two last handles go at once and neither removes the entry | `b02_…`, `guarantees::hook_and_callbacks_run_once_on_the_thread_of_the_last_drop` |
//! | B3 | handles were `Sync` without condition | `b03_…`, which doesn't compile otherwise |
//! | B4 | a destructor that drops a handle waits for itself | `guarantees::the_dying_value_is_interned_again_from_within`, `…::a_chain_of_a_million_handles_dies_without_a_deep_stack` |
//! | B5 | thread-locals and statics die in an unlucky order | `b05_…`, `guarantees::handles_are_dropped_in_thread_local_destructors` |
//! | B6 | the fix of such a race had a race | as B1 |
//! | B7 | a count overflows | unit test in `src/handle.rs` |
//! | B8 | an assertion looks at what others write | review; loom runs with assertions |
//! | B9 | an entry is removed by its key, and a newer one goes | `b09_…`, and as B1 |
//! | B10 | `contains`, then `get` | there is no `contains` |
//! | B11 | an entry is visible to one operation and not to another | `b11_…` |
//! | B12 | a look-up raises a count and leaves it | `b12_…`, census of `stress.rs` |
//! | B13 | a queue that keeps the dead for a while | there is none |
//! | B14 | growing frees what others read | `stress::four_threads_on_many_keys_with_growth`, loom `growth` |
//! | B15 | a live entry can't be found for a moment of growth | `b15_…` |
//! | B16 | a table's version is read before the pin; tags in high bits | as B14; tags are in low bits |
//! | B17 | an insertion is lost in growth | `b17_…` |
//! | B18 | deferred functions call each other | `b18_…`; what is deferred only frees |
//! | B19 | an epoch of one's own is read too early | crossbeam-epoch's is used |
//! | B20 | a null pointer is shown | crossbeam-epoch >= 0.9.20 in `Cargo.toml` |
//! | B21 | nested handles go one level at a time | `guarantees::a_chain_*` |
//! | B22 | producers are faster than who clears up | `alloc::a_producer_of_garbage_keeps_bounded_memory` |
//! | B23 | keys without a size | `bad_input::a_value_without_a_size_is_one_value` |
//! | B24 | a piece keeps the buffer that it is of | `alloc::interning_a_piece_copies_the_piece` |
//! | B25 | a value that owns its own handle | `b25_…` |
//! | B26 | pointers made from integers | strict provenance throughout; Miri, where there is one |
//! | B27 | a cleanup calls what calls the cleanup | as B4 |
//! | B28 | many keys with one hash | `bad_input::a_constant_hasher_is_slow_but_right` |
//! | B29 | a key that changed can't be found when it dies | `bad_input::a_value_that_changes_its_hash_is_dropped_all_the_same` |
//! | B30 | a count of links overflows in a busy bucket | `b30_…` |
//! | B31 | a look-up gives up and says that there is nothing | `b15_…`, loom `list` |
//! | B32 | memory that is used again is taken for the old | `same_address.rs` |
//! | B33 | a reader's count comes after the writer's look at it | loom `list`, `map` |
//! | B34 | threads get two instances of one value | `guarantees::threads_that_intern_at_once_get_one_instance` |
//! | B35 | who loses the race to insert leaks, or frees too much | `map::losers_are_dropped_once_without_a_hook` |
//! | B36 | a reference is used after the guard that protected it | no guard but `Pinned` is public, and none lends references; doctests that don't compile |
//! | B37 | an upgrade fails although the value lives | `b37_…` |
//! | B38 | references outlive their lock | as B36 |
//! | B39 | a deep structure overflows the stack | as B21 |
//! | B40 | `entry` and `contains` disagree | `b40_…` |
//! | B41 | fences are misread by the thread sanitiser | no fences: review, loom |
//! | B42 | a panic leaves half of something | `bad_input::a_panic_anywhere_*` |
//! | B43 | a guard in a thread-local outlives its thread's registration | `b43_…`; `Pinned` isn't `Send` |
//! | B44 | counting on in a dead count spills into other bits | state table and unit tests of `src/table/count.rs` |

mod common;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use common::{Census, Counted, Rng, SeedOnFailure, scaled, seed};
use hapax::{Cached, Interned, Interner, Pinned, WeakCached, WeakInterned, WeakMap};

/// All keys collide.
#[derive(Clone, Default)]
struct Constant;

impl Hasher for Constant {
    fn finish(&self) -> u64 {
        42
    }

    fn write(&mut self, _: &[u8]) {}
}

type Colliding = BuildHasherDefault<Constant>;

/// Threads begin together, as closely as they can.
struct Start(AtomicUsize);

impl Start {
    fn new(threads: usize) -> Self {
        Self(AtomicUsize::new(threads))
    }

    fn wait(&self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
        while self.0.load(Ordering::SeqCst) != 0 {
            thread::yield_now();
        }
    }
}

// B2

#[test]
fn b02_two_last_handles_go_at_once_and_leave_nothing() {
    let census = Census::new();
    let interner = Interner::<Counted>::new();
    let map = WeakMap::<u64, Counted>::new();
    let rounds = scaled(15_000, 30);
    let barrier = Start::new(2);
    let turn = AtomicUsize::new(0);
    let given = Mutex::new(None);
    // Turns are taken by the number: even ones belong to the giver.
    let wait_for = |number: usize| {
        while turn.load(Ordering::SeqCst) < number {
            thread::yield_now();
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            barrier.wait();
            for round in 0..rounds {
                let value = interner.intern(Counted::new(1, &census));
                let entry = map.get_or_insert(1, Counted::new(1, &census));
                *given.lock().unwrap() = Some((value.clone(), entry.clone()));
                turn.store(4 * round + 1, Ordering::SeqCst);
                wait_for(4 * round + 2);
                drop(value);
                drop(entry);
                // Both have dropped theirs; the later one looks.
                wait_for(4 * round + 3);
                assert_eq!((interner.len(), map.len(), census.live()), (0, 0, 0));
            }
        });
        scope.spawn(|| {
            barrier.wait();
            for round in 0..rounds {
                wait_for(4 * round + 1);
                let taken = given.lock().unwrap().take().expect("it was given");
                turn.store(4 * round + 2, Ordering::SeqCst);
                drop(taken);
                turn.store(4 * round + 3, Ordering::SeqCst);
            }
        });
    });
    assert_eq!(census.made(), census.died());
}

// B3

/// Compiles only if the type does not have the trait: otherwise two implementations answer.
macro_rules! assert_not {
    ($trait:ident: $($type:ty),* $(,)?) => {$({
        trait Ambiguous<Which> {
            fn answer() {}
        }
        impl<T: ?Sized> Ambiguous<()> for T {}
        struct Has;
        impl<T: ?Sized + $trait> Ambiguous<Has> for T {}
        <$type as Ambiguous<_>>::answer();
    })*};
}

#[test]
fn b03_what_is_shared_can_be_shared() {
    fn both<T: Send + Sync>() {}
    fn borrowed<'a>(_: &'a str) {
        both::<Interned<&'a str>>();
        both::<Interner<&'a str>>();
        both::<WeakInterned<&'a str>>();
        both::<Cached<&'a str, &'a str>>();
        both::<WeakCached<&'a str, &'a str>>();
        both::<WeakMap<&'a str, &'a str>>();
    }
    borrowed(&String::from("local"));

    // May move to another thread, but not be shared; and the other way round.
    type Moves = Cell<u32>;
    type Shares = std::sync::MutexGuard<'static, u32>;
    assert_not!(Send: Interned<Moves>, WeakInterned<Moves>, Interner<Moves>);
    assert_not!(Sync: Interned<Moves>, WeakInterned<Moves>, Interner<Moves>);
    assert_not!(Send: Interned<Shares>, WeakInterned<Shares>, Interner<Shares>);
    assert_not!(Sync: Interned<Shares>, WeakInterned<Shares>, Interner<Shares>);
    assert_not!(Send: Cached<Moves, u32>, Cached<u32, Moves>, WeakMap<Moves, u32>, WeakMap<u32, Moves>);
    assert_not!(Sync: Cached<Moves, u32>, Cached<u32, Moves>, WeakMap<Moves, u32>, WeakMap<u32, Moves>);
    assert_not!(Send: Cached<Shares, u32>, Cached<u32, Shares>, WeakMap<u32, Shares>);
    assert_not!(Sync: Cached<Shares, u32>, Cached<u32, Shares>, WeakMap<u32, Shares>);
    assert_not!(Send: WeakCached<Moves, u32>, WeakCached<u32, Shares>);
    assert_not!(Sync: WeakCached<Moves, u32>, WeakCached<u32, Shares>);
    // The hasher counts as well. A session stays on its thread.
    assert_not!(Send: Interner<u32, std::rc::Rc<()>>, WeakMap<u32, u32, std::rc::Rc<()>>);
    assert_not!(Sync: Interner<u32, std::rc::Rc<()>>, WeakMap<u32, u32, std::rc::Rc<()>>);
    assert_not!(Send: Pinned<'static, u32>);
    assert_not!(Sync: Pinned<'static, u32>);
}

// B5

#[cfg(all(target_os = "linux", not(miri)))]
mod main_thread {
    //! What the main thread of a child process has in its thread-locals when `main` returns. The test harness
    //! runs no test on it, so this is set up before `main`.

    use super::*;

    pub(super) const CHILD: &str = "HAPAX_TEST_EXIT_CHILD";
    pub(super) const SAID: &str = "handles work to the very end";

    static NAMES: Interner<str> = Interner::new();
    static MAP: WeakMap<u64, String> = WeakMap::new();
    static KEPT: Mutex<Vec<Interned<str>>> = Mutex::new(Vec::new());
    static DIED: AtomicUsize = AtomicUsize::new(0);
    static LEFT: AtomicUsize = AtomicUsize::new(0);

    struct Late {
        handles: Vec<Interned<str>>,
        entry: Cached<u64, String>,
        weak: WeakInterned<str>,
    }

    impl Late {
        fn new(first: u64) -> Self {
            let handles: Vec<_> = (first..first + 200)
                .map(|number| NAMES.intern(number.to_string()))
                .collect();
            let weak = Interned::downgrade_with(&handles[0], || {
                DIED.fetch_add(1, Ordering::SeqCst);
            });
            Self {
                handles,
                entry: MAP.get_or_insert(first, first.to_string()),
                weak,
            }
        }
    }

    impl Drop for Late {
        fn drop(&mut self) {
            everything_works(Cached::key(&self.entry) + 1_000_000);
            assert!(self.weak.upgrade().is_some());
            self.handles.clear();
            assert!(self.weak.upgrade().is_none());
            LEFT.fetch_sub(1, Ordering::SeqCst);
        }
    }

    thread_local! {
        static EARLY: RefCell<Option<Late>> = const { RefCell::new(None) };
        static LATER: RefCell<Option<Late>> = const { RefCell::new(None) };
    }

    fn everything_works(fresh: u64) {
        for number in fresh..fresh + 500 {
            let name = NAMES.intern(number.to_string());
            assert_eq!(NAMES.get(&*name), Some(name));
        }
        assert_eq!(*MAP.get_or_init(fresh, |_| String::from("fresh")), "fresh");
        assert_eq!(NAMES.pin().intern("kept"), KEPT.lock().unwrap()[0]);
        NAMES.flush();
    }

    unsafe extern "C" {
        fn atexit(f: extern "C" fn()) -> i32;
    }

    /// After the thread-locals of the main thread.
    extern "C" fn at_exit() {
        // A panic in here aborts the process, which the parent sees.
        assert_eq!(LEFT.load(Ordering::SeqCst), 0, "thread-locals were left");
        assert_eq!(DIED.load(Ordering::SeqCst), 2, "callbacks were left");
        everything_works(9_000_000);
        assert_eq!((NAMES.len(), MAP.len()), (1, 0));
        KEPT.lock().unwrap().clear();
        assert_eq!(NAMES.len(), 0);
        eprintln!("{SAID}");
    }

    extern "C" fn before_main() {
        if std::env::var_os(CHILD).is_none() {
            return;
        }
        // SAFETY: the function is one that may be called at exit.
        assert_eq!(unsafe { atexit(at_exit) }, 0);
        LEFT.store(2, Ordering::SeqCst);
        // Destroyed after this crate's thread-locals and crossbeam's, which come to life with the first
        // name.
        EARLY.set(None);
        KEPT.lock().unwrap().push(NAMES.intern("kept"));
        drop(NAMES.intern("other"));
        EARLY.set(Some(Late::new(1000)));
        LATER.set(Some(Late::new(2000)));
    }

    #[used]
    // The section is a list of functions that are called before `main`: sound, as `before_main` needs nothing
    // that `main` sets up.
    #[unsafe(link_section = ".init_array")]
    static BEFORE_MAIN: extern "C" fn() = before_main;
}

/// The main thread ends, and the process, with handles in statics and thread-locals; interners are used
/// meanwhile and after that.
#[test]
#[cfg(all(target_os = "linux", not(miri)))]
fn b05_the_main_thread_ends_with_handles_in_statics_and_thread_locals() {
    let program = std::env::current_exe().expect("a test has a program");
    for _ in 0..3 {
        let child = std::process::Command::new(&program)
            .args(["--exact", "no test has this name"])
            .env(main_thread::CHILD, "1")
            .output()
            .expect("a process starts");
        let said = String::from_utf8_lossy(&child.stderr);
        assert!(child.status.success(), "{}: {said}", child.status);
        assert!(said.contains(main_thread::SAID), "it said: {said}");
    }
}

#[test]
#[cfg(not(all(target_os = "linux", not(miri))))]
#[ignore = "not checked here: needs a process of its own, and .init_array"]
fn b05_the_main_thread_ends_with_handles_in_statics_and_thread_locals() {}

// B9

#[test]
fn b09_an_entry_that_dies_takes_none_with_it_that_has_its_key() {
    let map = WeakMap::<u64, &str, Colliding>::default();
    let old = map.get_or_insert(1, "old");
    let neighbour = map.get_or_insert(2, "neighbour");
    assert!(map.remove(&1).is_some_and(|e| Cached::ptr_eq(&e, &old)));
    let new = map.get_or_insert(1, "new");
    drop(old);
    assert_eq!(map.get(&1).as_deref(), Some(&"new"));
    assert!(Cached::ptr_eq(&new, &map.get_or_insert(1, "newer")));
    assert_eq!((map.len(), *neighbour), (2, "neighbour"));

    // The dying one's own hook and callback intern the next, which stays when they are through.
    let interner = Arc::new(Interner::<u64>::new());
    let next = Arc::new(Mutex::new(Vec::new()));
    let intern = {
        let (interner, next) = (interner.clone(), next.clone());
        move || {
            let value = interner.intern(7);
            next.lock().unwrap().push(value);
        }
    };
    let hook = intern.clone();
    interner.on_drop(move |_| hook());
    let value = interner.intern(7);
    let weak = Interned::downgrade_with(&value, intern);
    drop(value);
    interner.clear_on_drop();
    assert!(weak.upgrade().is_none());
    {
        let next = next.lock().unwrap();
        assert_eq!((next.len(), interner.len()), (2, 1));
        assert_eq!(interner.get(&7).as_ref(), Some(&next[0]));
        assert_eq!(next[0], next[1]);
    }
    next.lock().unwrap().clear();
    assert_eq!(interner.len(), 0);
}

// B11

/// One operation on the key, in the order of a clock that all threads share.
#[derive(Clone, Copy, Debug)]
struct Event {
    start: u64,
    end: u64,
    /// The instance that it answered; none, if there was none.
    serial: Option<u64>,
    /// Of a weak handle's upgrade: the instance that it is a handle of.
    weak_of: Option<u64>,
    /// Between these two the handle was dropped.
    drop_start: u64,
    drop_end: u64,
}

/// One thread's part of a history.
fn record(
    interner: &Interner<Counted>,
    census: &Arc<Census>,
    clock: &AtomicU64,
    operations: usize,
    mut rng: Rng,
) -> Vec<Event> {
    let now = || clock.fetch_add(1, Ordering::SeqCst);
    let mut events = Vec::<Event>::with_capacity(operations);
    let mut held: Vec<(usize, Interned<Counted>)> = Vec::new();
    let mut weak: Option<(u64, WeakInterned<Counted>)> = None;
    let let_go = |events: &mut Vec<Event>, (index, handle): (usize, Interned<Counted>)| {
        events[index].drop_start = now();
        drop(handle);
        events[index].drop_end = now();
    };
    while events.len() < operations {
        let which = rng.below(8);
        // Short lives, so that the key is absent for much of the time.
        if held.len() == 3 || (which < 4 && !held.is_empty()) {
            let handle = held.swap_remove(rng.below(held.len()));
            let_go(&mut events, handle);
            continue;
        }
        let mut weak_of = None;
        let start = now();
        let handle = match which {
            0 => Some(interner.intern(Counted::new(1, census))),
            1 => Some(interner.intern_with(&1, |&key| Counted::new(key, census))),
            2 => interner.iter().next(),
            3 => interner.pin().get(&1),
            4 | 5 => interner.get(&1),
            _ => match &weak {
                Some((serial, weak)) => {
                    weak_of = Some(*serial);
                    weak.upgrade()
                }
                None => interner.get(&1),
            },
        };
        let end = now();
        let serial = handle.as_ref().map(|handle| handle.serial);
        events.push(Event {
            start,
            end,
            serial,
            weak_of,
            drop_start: end,
            drop_end: end,
        });
        if let Some(handle) = handle {
            weak = Some((handle.serial, Interned::downgrade(&handle)));
            held.push((events.len() - 1, handle));
        }
    }
    for handle in held {
        let_go(&mut events, handle);
    }
    events
}

/// Whether there is an order of the operations, each at a moment between its start and its end, in which
/// a look-up answers exactly what then lives. Answers how many times nothing was found.
fn check(events: &[Event]) -> usize {
    // An instance lives from its first answer to its last drop: never twice.
    struct Life {
        serial: u64,
        surely: (u64, u64),
        perhaps: Vec<(u64, u64)>,
    }
    let mut lives = HashMap::<u64, Life>::new();
    for event in events {
        let Some(serial) = event.serial else { continue };
        let life = lives.entry(serial).or_insert(Life {
            serial,
            surely: (event.end, event.drop_start),
            perhaps: Vec::new(),
        });
        life.surely.0 = life.surely.0.min(event.end);
        life.surely.1 = life.surely.1.max(event.drop_start);
        life.perhaps.push((event.start, event.drop_end));
        if let Some(of) = event.weak_of {
            assert_eq!(of, serial, "a weak handle led to another instance");
        }
    }
    // Nobody came back when all handles had surely gone.
    for life in lives.values_mut() {
        life.perhaps.sort_unstable();
        let mut until = life.perhaps[0].1;
        for &(start, end) in &life.perhaps {
            assert!(start <= until, "instance {} came back", life.serial);
            until = until.max(end);
        }
    }
    // No two instances lived at once.
    let mut lives: Vec<_> = lives.into_values().collect();
    lives.sort_unstable_by_key(|life| life.surely);
    for pair in lives.windows(2) {
        assert!(
            pair[0].surely.1 < pair[1].surely.0,
            "instances {} and {} lived at once",
            pair[0].serial,
            pair[1].serial
        );
    }
    // Nothing was found only when nothing lived throughout.
    let mut nothing = 0;
    for event in events.iter().filter(|event| event.serial.is_none()) {
        nothing += 1;
        let after = lives.partition_point(|life| life.surely.0 < event.start);
        let Some(before) = after.checked_sub(1) else {
            continue;
        };
        let life = &lives[before];
        let lived = life.surely.1 > event.end;
        let wanted = event.weak_of.is_none_or(|serial| serial == life.serial);
        assert!(!(lived && wanted), "{event:?} missed {}", life.serial);
    }
    nothing
}

#[test]
fn b11_what_one_operation_sees_no_other_misses() {
    let seed = seed();
    let _seed = SeedOnFailure(seed);
    let mut rng = Rng(seed);
    let census = Census::new();
    let (mut nothing, mut events_in_all) = (0, 0);
    for round in 0.. {
        let interner = Interner::<Counted>::new();
        let clock = AtomicU64::new(0);
        let start = Start::new(3);
        let operations = scaled(1000, 20);
        let events: Vec<Event> = thread::scope(|scope| {
            let threads: Vec<_> = (0..3)
                .map(|_| {
                    let rng = Rng(rng.next());
                    let (interner, census, clock, start) = (&interner, &census, &clock, &start);
                    scope.spawn(move || {
                        start.wait();
                        record(interner, census, clock, operations, rng)
                    })
                })
                .collect();
            let histories = threads.into_iter().map(|thread| thread.join().unwrap());
            histories.flatten().collect()
        });
        nothing += check(&events);
        events_in_all += events.len();
        assert_eq!((interner.len(), census.live()), (0, 0));
        // Histories in which all find something, or nothing, say little; how they turn out is up to the scheduler.
        let enough = nothing.min(events_in_all - nothing) >= scaled(2000, 0);
        if enough && round >= scaled(60, 2) {
            break;
        }
        assert!(
            round < 2000,
            "only {nothing} of {events_in_all} found nothing"
        );
    }
}

/// The check finds what it is for.
#[test]
fn b11_the_check_finds_histories_that_cannot_be() {
    let event = |start, end, serial, drop_start, drop_end| Event {
        start,
        end,
        serial,
        weak_of: None,
        drop_start,
        drop_end,
    };
    let holds = event(0, 1, Some(1), 20, 21);
    assert_eq!(check(&[holds, event(22, 23, None, 23, 23)]), 1);
    assert_eq!(check(&[holds, event(19, 22, None, 22, 22)]), 1);
    let missed = [holds, event(5, 6, None, 6, 6)];
    assert!(common::panic_of(|| check(&missed)).contains("missed"));
    let two = [holds, event(5, 6, Some(2), 30, 31)];
    assert!(common::panic_of(|| check(&two)).contains("at once"));
    let back = [holds, event(22, 23, Some(1), 30, 31)];
    assert!(common::panic_of(|| check(&back)).contains("came back"));
    let mut weak = event(5, 6, None, 6, 6);
    weak.weak_of = Some(2);
    assert_eq!(check(&[holds, weak]), 1);
    weak.weak_of = Some(1);
    assert!(common::panic_of(|| check(&[holds, weak])).contains("missed"));
}

// B12

#[test]
fn b12_looking_leaves_no_count_behind() {
    let interner = Interner::<u64, Colliding>::default();
    let map = WeakMap::<u64, u64, Colliding>::default();
    let values = [1, 2, 3].map(|number| interner.intern(number));
    let entries = [1, 2, 3].map(|number| map.get_or_insert(number, number));
    let weak = Interned::downgrade(&values[1]);
    for _ in 0..scaled(1000, 5) {
        for number in 0..5 {
            drop((interner.get(&number), interner.pin().get(&number)));
            drop((map.get(&number), interner.intern(number)));
            drop((map.get_or_init(number, |&n| n), weak.upgrade()));
        }
        drop((interner.iter().count(), map.iter().nth(1)));
        assert_eq!(interner.memory_usage().entries, 3);
    }
    assert_eq!([1; 3], values.each_ref().map(Interned::ref_count));
    assert_eq!([1; 3], entries.each_ref().map(Cached::ref_count));
    drop((values, entries));
    assert_eq!((interner.len(), map.len()), (0, 0));
}

// B15

/// Says that something is over, also if it panics.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// A writer makes the table grow from nothing; readers look up what it has interned so far and holds.
fn grow_under_readers(seed: u64, entries: usize) {
    let interner = Interner::<u64>::new();
    let published = AtomicUsize::new(0);
    let done = AtomicBool::new(false);
    let looked = AtomicUsize::new(0);
    let start = Start::new(3);
    let held = thread::scope(|scope| {
        for reader in 0..2 {
            let (interner, published, done, looked, start) =
                (&interner, &published, &done, &looked, &start);
            scope.spawn(move || {
                let mut rng = Rng(seed ^ reader);
                let pinned = interner.pin();
                start.wait();
                let mut looks = 0;
                let mut last = false;
                while !last {
                    last = done.load(Ordering::Acquire);
                    let held = published.load(Ordering::Acquire);
                    for _ in 0..16.min(held) {
                        // Half of them among the newest.
                        let window = if rng.below(2) == 0 { held } else { held.min(8) };
                        let key = (held - 1 - rng.below(window)) as u64;
                        let found = if reader == 0 {
                            interner.get(&key)
                        } else {
                            pinned.get(&key)
                        };
                        assert_eq!(found.map(|value| *value), Some(key), "{held} are held");
                        looks += 1;
                    }
                }
                looked.fetch_add(looks, Ordering::SeqCst);
            });
        }
        // Whatever happens here, the readers must come to an end.
        let end = End(&done);
        let mut held = Vec::with_capacity(entries);
        start.wait();
        for key in 0..entries as u64 {
            held.push(interner.intern(key));
            published.store(held.len(), Ordering::Release);
        }
        drop(end);
        // The readers look on until they have seen that; their last look counts as well.
        held
    });
    assert_eq!(interner.len(), entries);
    for (key, value) in held.iter().enumerate() {
        assert_eq!(interner.get(&(key as u64)).as_ref(), Some(value));
    }
    drop(held);
    assert_eq!(interner.len(), 0);
    assert!(looked.load(Ordering::SeqCst) > 0);
}

#[test]
fn b15_what_is_held_is_found_at_every_moment_of_growth() {
    let seed = seed();
    let _seed = SeedOnFailure(seed);
    grow_under_readers(seed, scaled(200_000, 50));
    for turn in 0..scaled(100, 2) as u64 {
        grow_under_readers(seed ^ (turn << 8), scaled(1000, 20));
    }
}

// B17 and B40

/// Random operations on an interner, and on what it should be: a map from keys to the handles that are
/// held.
fn like_a_model<S: BuildHasher + Default>(seed: u64, operations: usize, keys: usize) {
    let _seed = SeedOnFailure(seed);
    let mut rng = Rng(seed);
    let census = Census::new();
    let mut interner = Interner::<Counted, S>::default();
    let mut model = HashMap::<u64, Vec<Interned<Counted>>>::new();
    let mut weak = Vec::<(u64, WeakInterned<Counted>)>::new();
    for _ in 0..operations {
        let key = rng.below(keys) as u64;
        match rng.below(100) {
            0..40 => {
                let value = match rng.below(4) {
                    0 => interner.intern_with(&key, |&key| Counted::new(key, &census)),
                    1 => interner.pin().intern(Counted::new(key, &census)),
                    _ => interner.intern(Counted::new(key, &census)),
                };
                let held = model.entry(key).or_default();
                assert_eq!(value.key, key);
                assert!(held.first().is_none_or(|first| *first == value));
                held.push(value);
            }
            40..55 => {
                let expected = model.get(&key).map(|held| &held[0]);
                assert_eq!(interner.get(&key).as_ref(), expected);
            }
            55..85 => {
                // One handle, or all.
                let all = rng.below(3) == 0;
                let gone = model.get_mut(&key).is_some_and(|held| {
                    held.pop();
                    all || held.is_empty()
                });
                if gone {
                    model.remove(&key);
                    assert_eq!(interner.get(&key), None);
                }
            }
            85..90 => {
                if let Some(held) = model.get(&key) {
                    assert_eq!(Interned::ref_count(&held[0]), held.len());
                    weak.push((held[0].serial, Interned::downgrade(&held[0])));
                }
            }
            90..95 => {
                if !weak.is_empty() {
                    let (serial, weak) = weak.swap_remove(rng.below(weak.len()));
                    let lives = model.values().any(|held| held[0].serial == serial);
                    let found = weak.upgrade().map(|value| value.serial);
                    assert_eq!(found, lives.then_some(serial));
                }
            }
            95 => interner.reserve(rng.below(2 * keys)),
            96 => interner.shrink_to_fit(),
            97 => {
                let serials = |handles: &mut dyn Iterator<Item = u64>| {
                    let mut serials: Vec<_> = handles.collect();
                    serials.sort_unstable();
                    serials
                };
                let expected = serials(&mut model.values().map(|held| held[0].serial));
                let met = serials(&mut interner.iter().map(|value| value.serial));
                assert_eq!(met, expected);
            }
            98 => {
                // A burst that makes the table grow, and goes again.
                let burst: Vec<_> = (0..rng.below(keys) as u64)
                    .map(|number| interner.intern(Counted::new(1 << 40 | number, &census)))
                    .collect();
                assert_eq!(interner.len(), model.len() + burst.len());
            }
            _ => interner.flush(),
        }
        assert_eq!((interner.len(), census.live()), (model.len(), model.len()));
    }
    drop(model);
    assert_eq!((interner.len(), census.live()), (0, 0));
}

/// The same for a map, whose entries can also be removed while somebody holds them.
fn map_like_a_model<S: BuildHasher + Default>(seed: u64, operations: usize, keys: usize) {
    let _seed = SeedOnFailure(seed);
    let mut rng = Rng(seed);
    let census = Census::new();
    let mut map = WeakMap::<u64, Counted, S>::default();
    let mut model = HashMap::<u64, Vec<Cached<u64, Counted>>>::new();
    let mut removed = Vec::<Vec<Cached<u64, Counted>>>::new();
    for _ in 0..operations {
        let key = rng.below(keys) as u64;
        let expected = model.get(&key).map(|held| held[0].serial);
        match rng.below(100) {
            0..40 => {
                let fresh = |&key: &u64| Counted::new(key, &census);
                let entry = match rng.below(4) {
                    0 => map.get_or_insert_with(key, fresh),
                    1 => map.get_or_init(key, fresh),
                    _ => map.get_or_insert(key, fresh(&key)),
                };
                assert_eq!((*Cached::key(&entry), entry.key), (key, key));
                assert!(expected.is_none_or(|serial| serial == entry.serial));
                model.entry(key).or_default().push(entry);
            }
            40..60 => assert_eq!(map.get(&key).map(|entry| entry.serial), expected),
            60..80 => {
                let gone = model.get_mut(&key).is_some_and(|held| {
                    held.pop();
                    held.is_empty()
                });
                if gone {
                    model.remove(&key);
                    assert!(map.get(&key).is_none());
                }
            }
            80..90 => {
                let entry = map.remove(&key);
                assert_eq!(entry.map(|entry| entry.serial), expected);
                removed.extend(model.remove(&key));
                assert!(map.get(&key).is_none());
            }
            90..96 => {
                if !removed.is_empty() {
                    let index = rng.below(removed.len());
                    removed.swap_remove(index);
                }
            }
            96 => map.reserve(rng.below(2 * keys)),
            97 => map.shrink_to_fit(),
            98 => {
                let met: HashSet<_> = map.iter().map(|entry| entry.serial).collect();
                let held: HashSet<_> = model.values().map(|held| held[0].serial).collect();
                assert_eq!((map.iter().count(), met), (held.len(), held));
            }
            _ => map.flush(),
        }
        assert_eq!(map.len(), model.len());
        assert_eq!(census.live(), model.len() + removed.len());
    }
    drop((model, removed));
    assert_eq!((map.len(), census.live()), (0, 0));
}

#[test]
fn b40_random_operations_do_what_a_std_map_does() {
    let seed = seed();
    for (operations, keys) in [(10_000, 12), (10_000, 300), (10_000, 3000)] {
        let operations = scaled(operations, 60);
        like_a_model::<hapax::RandomState>(seed, operations, keys);
        map_like_a_model::<hapax::RandomState>(seed, operations, keys);
    }
    like_a_model::<Colliding>(seed, scaled(5_000, 40), 30);
    map_like_a_model::<Colliding>(seed, scaled(5_000, 40), 30);
}

/// Threads fill a table together, each with keys of its own and keys that all have.
#[test]
fn b17_no_insertion_is_lost_in_a_storm_of_growth() {
    const THREADS: usize = 3;
    for (turns, entries) in [(1, 40_000), (60, 300)] {
        let entries = scaled(entries, 20) as u64;
        for _ in 0..scaled(turns, 1) {
            let census = Census::new();
            let interner = Interner::<Counted>::new();
            let start = Start::new(THREADS);
            let held: Vec<Vec<Interned<Counted>>> = thread::scope(|scope| {
                let threads: Vec<_> = (0..THREADS as u64)
                    .map(|thread| {
                        let (interner, census, start) = (&interner, &census, &start);
                        scope.spawn(move || {
                            start.wait();
                            (0..2 * entries)
                                .map(|number| {
                                    // The shared keys are the even ones, for all in the same order.
                                    let own = (thread + 1) << 32 | number;
                                    let key = if number % 2 == 0 { number } else { own };
                                    interner.intern(Counted::new(key, census))
                                })
                                .collect()
                        })
                    })
                    .collect();
                let held = threads.into_iter().map(|thread| thread.join().unwrap());
                held.collect()
            });
            let distinct = entries as usize * (1 + THREADS);
            assert_eq!((interner.len(), census.live()), (distinct, distinct));
            for handle in held.iter().flatten() {
                assert_eq!(interner.get(&handle.key).as_ref(), Some(handle));
            }
            let met: HashSet<_> = interner.iter().map(|value| value.serial).collect();
            assert_eq!((met.len(), interner.iter().count()), (distinct, distinct));
            drop(held);
            assert_eq!((interner.len(), census.live()), (0, 0));
        }
    }
}

// B18

/// Hundreds of thousands of dead entries, of nested values, wait for one pin; what is freed when that goes
/// is freed without a deep stack.
#[test]
fn b18_a_mountain_of_garbage_is_cleared_on_a_small_stack() {
    #[derive(PartialEq, Eq, Hash)]
    struct Nested(usize, Option<Interned<Nested>>);

    let interner = Interner::<Nested>::new();
    thread::scope(|scope| {
        let work = || {
            // Everything from here on waits for it.
            let session = interner.pin();
            for number in 0..scaled(150_000, 60) {
                let inner = interner.intern(Nested(2 * number, None));
                drop(interner.intern(Nested(2 * number + 1, Some(inner))));
            }
            assert!(interner.is_empty());
            drop(session);
            for _ in 0..20 {
                interner.flush();
            }
            // And at the exit of a thread, together with an interner of its own.
            let short_lived = Interner::<Nested>::new();
            let _session = short_lived.pin();
            for number in 0..scaled(50_000, 20) {
                drop(short_lived.intern(Nested(number, None)));
            }
        };
        let small = thread::Builder::new().stack_size(128 << 10);
        let thread = small.spawn_scoped(scope, work).expect("a thread starts");
        thread.join().expect("the thread ends");
    });
    for number in 0..scaled(20_000, 20) {
        drop(interner.intern(Nested(number, None)));
    }
    interner.flush();
    assert!(interner.is_empty());
}

// B25

/// What can own a handle of itself.
#[derive(Debug)]
struct Cyclic {
    key: u64,
    own: Mutex<Option<Interned<Cyclic>>>,
    own_weak: Mutex<Option<WeakInterned<Cyclic>>>,
    census: Arc<Census>,
}

impl Cyclic {
    fn new(key: u64, census: &Arc<Census>) -> Self {
        census.made.fetch_add(1, Ordering::SeqCst);
        Self {
            key,
            own: Mutex::default(),
            own_weak: Mutex::default(),
            census: census.clone(),
        }
    }
}

impl Drop for Cyclic {
    fn drop(&mut self) {
        self.census.died.fetch_add(1, Ordering::SeqCst);
    }
}

impl PartialEq for Cyclic {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for Cyclic {}

impl std::hash::Hash for Cyclic {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}

/// As with `Arc`: such a value lives until somebody takes its handle away. Nothing else suffers.
#[test]
fn b25_a_value_that_owns_its_own_handle_leaks_and_nothing_else() {
    let census = Census::new();
    let interner = Interner::<Cyclic>::new();
    let value = interner.intern(Cyclic::new(1, &census));
    *value.own.lock().unwrap() = Some(value.clone());
    let weak = Interned::downgrade(&value);
    drop(value);
    // It is alive and can be found.
    assert_eq!((interner.len(), census.live()), (1, 1));
    let again = interner.intern(Cyclic::new(1, &census));
    assert_eq!((Interned::ref_count(&again), census.live()), (2, 1));
    assert_eq!(weak.upgrade().as_ref(), Some(&again));
    // The others die.
    for key in 2..100 {
        drop(interner.intern(Cyclic::new(key, &census)));
    }
    assert_eq!((interner.len(), census.live()), (1, 1));
    // Without the cycle it dies as well.
    let own = again.own.lock().unwrap().take();
    drop(again);
    assert_eq!(census.live(), 1);
    drop(own);
    assert_eq!((interner.len(), census.live()), (0, 0));
    assert!(weak.upgrade().is_none());

    // A weak handle makes no cycle.
    let value = interner.intern(Cyclic::new(1, &census));
    *value.own_weak.lock().unwrap() = Some(Interned::downgrade(&value));
    drop(value);
    assert_eq!((interner.len(), census.live()), (0, 0));

    // An interner goes without its leaked value; that can still be freed.
    let value = interner.intern(Cyclic::new(1, &census));
    *value.own.lock().unwrap() = Some(value.clone());
    let weak = Interned::downgrade(&value);
    let pointer = Interned::as_ptr(&value);
    drop((value, interner));
    assert_eq!(census.live(), 1);
    assert!(weak.upgrade().is_none_or(|value| value.key == 1));
    // SAFETY: the value lives as long as it owns its handle.
    let own = unsafe { &*pointer }.own.lock().unwrap().take();
    drop(own);
    assert_eq!(census.live(), 0);
}

// B30

/// Two keys of one bucket and one hash come and go, each by a thread of its own.
#[test]
fn b30_two_colliding_keys_come_and_go_on_two_threads() {
    let census = Census::new();
    let interner = Interner::<Counted, Colliding>::default();
    let start = Start::new(2);
    let rounds = scaled(150_000, 100);
    thread::scope(|scope| {
        for key in 0..2 {
            let (interner, census, start) = (&interner, &census, &start);
            scope.spawn(move || {
                start.wait();
                for round in 0..rounds {
                    let value = interner.intern(Counted::new(key, census));
                    assert_eq!(value.key, key);
                    // Nobody else has this key, but the other thread may hold it to compare.
                    assert!(Interned::ref_count(&value) <= 2, "round {round}");
                    drop(value);
                    if round % 8 == 0
                        && let Some(value) = interner.get(&key)
                    {
                        value.assert_alive();
                        // So does this one then.
                    }
                }
            });
        }
    });
    assert_eq!((interner.len(), census.live()), (0, 0));
    assert_eq!(census.made(), 2 * rounds);
}

// B37

/// Each of three threads holds a handle while it upgrades, which so never fails, whatever the others do. In
/// between nobody may hold any.
#[test]
fn b37_an_upgrade_fails_only_if_nobody_holds_the_value() {
    let census = Census::new();
    let interner = Interner::<Counted>::new();
    let map = WeakMap::<u64, Counted>::new();
    let start = Start::new(3);
    thread::scope(|scope| {
        for thread in 0..3 {
            let (interner, map, census, start) = (&interner, &map, &census, &start);
            scope.spawn(move || {
                start.wait();
                for round in 0..scaled(15_000, 30) {
                    let value = interner.intern(Counted::new(1, census));
                    let entry = map.get_or_insert(1, Counted::new(1, census));
                    // Its first weak handle is made by several threads at once.
                    let weak = Interned::downgrade(&value);
                    let weak_entry = Cached::downgrade(&entry);
                    for _ in 0..3 {
                        let again = weak.upgrade().expect("the value is held");
                        assert_eq!(again, value);
                        let again = weak_entry.upgrade().expect("the entry is held");
                        assert!(Cached::ptr_eq(&again, &entry));
                    }
                    assert!(weak.strong_count() >= 1 && weak_entry.strong_count() >= 1);
                    if (round + thread) % 16 == 0 && map.remove(&1).is_some() {
                        // A removed entry is still held.
                        assert!(weak_entry.upgrade().is_some());
                    }
                    drop((value, entry));
                    // What an upgrade now answers is alive.
                    if let Some(value) = weak.upgrade() {
                        value.assert_alive();
                    }
                }
            });
        }
    });
    assert_eq!((interner.len(), map.len(), census.live()), (0, 0, 0));
}

// B43

static SESSIONS: Interner<u64> = Interner::new();

/// Uses its session when its thread's locals go.
struct Session(Pinned<'static, u64>, Interned<u64>);

impl Drop for Session {
    fn drop(&mut self) {
        assert_eq!(self.0.get(&*self.1), Some(self.1.clone()));
        for number in 0..scaled(300, 10) as u64 {
            drop(self.0.intern(1000 + number));
        }
        SESSIONS.flush();
        drop(SESSIONS.pin().intern(7));
    }
}

thread_local! {
    static EARLY_SESSION: RefCell<Option<Session>> = const { RefCell::new(None) };
    static LATE_SESSION: RefCell<Option<Session>> = const { RefCell::new(None) };
}

/// One thread-local comes to life before the thread's registration with the collector, and so goes after it.
#[test]
fn b43_a_session_in_a_thread_local_works_to_its_end() {
    for turn in 0..scaled(50, 3) as u64 {
        let threads = [0, 1].map(|thread| {
            thread::spawn(move || {
                let session = |key| Session(SESSIONS.pin(), SESSIONS.intern(key));
                EARLY_SESSION.set(None);
                EARLY_SESSION.set(Some(session(2 * turn + thread)));
                if turn % 2 == 0 {
                    LATE_SESSION.set(Some(session(2 * turn + thread)));
                }
            })
        });
        for thread in threads {
            thread.join().expect("the thread ends");
        }
        assert_eq!(SESSIONS.len(), 0);
    }
}
