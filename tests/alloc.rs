//! What is allocated, when it is given back, and how much an entry takes: tests over an allocator that
//! counts.
//!
//! - An interner that holds nothing allocates nothing.
//! - A hit allocates nothing, by whatever way. While others fill the table and empty it, it allocates no
//!   more than the bookkeeping of what it collects for them.
//! - A miss allocates once. The bookkeeping of dead entries adds one block for dozens of them.
//! - Interning copies exactly the key, and keeps nothing of the buffer around it.
//! - Callbacks that were cancelled, and weak handles that went, don't pile up on a value that stays.
//! - What a thread keeps of a burst is bounded, whatever the size of the values; `flush` gives it back.
//!   Large blocks go without a flush, also if the thread that dropped them falls asleep.
//! - A thread that only drops and interns fresh keys keeps bounded memory, and so do two.
//! - An entry takes 44 bytes beside a string of 30, and 55 of resident memory.
//! - A value with a finalizer allocates once when it is made, and nothing when it is dropped.
//! - `MemoryUsage` says what the allocator says.
//!
//! Allocations are counted by thread. One test runs at a time, because a thread may free what another one
//! has dropped.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::borrow::Cow;
use std::cell::Cell;
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::thread;

use common::scaled;
use hapax::{Cached, IdentityMap, Interned, Interner, LocalInterned, LocalInterner, WeakMap};

// The allocator.

/// What a thread has done so far.
#[derive(Clone, Copy)]
struct Counts {
    allocations: usize,
    frees: usize,
    /// Bytes that it allocated, less those that it freed.
    live: isize,
    /// The most that `live` was since `mark_peak`.
    peak: isize,
}

thread_local! {
    static COUNTS: Cell<Counts> = const {
        Cell::new(Counts { allocations: 0, frees: 0, live: 0, peak: 0 })
    };
}

/// Bytes of live blocks of this size or more, of all threads.
static LARGE_BYTES: AtomicIsize = AtomicIsize::new(0);
const LARGE: usize = 1 << 20;

struct Counting;

fn count(allocations: usize, frees: usize, bytes: isize) {
    let mut counts = COUNTS.get();
    counts.allocations += allocations;
    counts.frees += frees;
    counts.live += bytes;
    counts.peak = counts.peak.max(counts.live);
    COUNTS.set(counts);
    if bytes.unsigned_abs() >= LARGE {
        LARGE_BYTES.fetch_add(bytes, Ordering::SeqCst);
    }
}

// SAFETY: everything is left to the system. The counters allocate nothing and need no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, 0, layout.size() as isize);
        // SAFETY: as for the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(1, 0, layout.size() as isize);
        // SAFETY: as for the caller.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(1, 0, size as isize);
        count(0, 1, -(layout.size() as isize));
        // SAFETY: as for the caller.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(0, 1, -(layout.size() as isize));
        // SAFETY: as for the caller.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn live() -> isize {
    COUNTS.get().live
}

fn mark_peak() {
    let mut counts = COUNTS.get();
    counts.peak = counts.live;
    COUNTS.set(counts);
}

/// What `f` answers, how often it allocates on this thread, and how often it frees.
fn counted<R>(f: impl FnOnce() -> R) -> (R, usize, usize) {
    let before = COUNTS.get();
    let result = f();
    let after = COUNTS.get();
    (
        result,
        after.allocations - before.allocations,
        after.frees - before.frees,
    )
}

fn allocations<R>(f: impl FnOnce() -> R) -> usize {
    let (result, allocations, _) = counted(f);
    drop(result);
    allocations
}

// Quiet.

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Gives back what can be given back. Each flush advances the epoch a little.
fn settle() {
    for _ in 0..8 {
        Interner::<u8>::new().flush();
    }
}

/// Runs while no other test does, on a thread that has used an interner before.
fn alone(f: impl FnOnce()) {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let warm = Interner::<u64>::new();
    for number in 0..scaled(500, 5) as u64 {
        drop(warm.intern(number));
    }
    drop((warm, WeakMap::new().get_or_init(7, |&key: &u64| key)));
    settle();
    f();
    settle();
}

/// Does what any thread does that uses interners, and drops nothing.
fn use_interners() {
    let names = Interner::<str>::new();
    let _held = names.intern("alpha");
    for _ in 0..scaled(4096, 20) {
        assert!(names.get("alpha").is_some());
    }
}

#[test]
fn the_allocator_counts() {
    alone(|| {
        let before = live();
        let (block, allocated, freed) = counted(|| Vec::<u8>::with_capacity(2 * LARGE));
        assert_eq!((allocated, freed), (1, 0));
        assert_eq!(live() - before, 2 * LARGE as isize);
        let large = LARGE_BYTES.load(Ordering::SeqCst);
        let ((), allocated, freed) = counted(|| drop(block));
        assert_eq!((allocated, freed, live()), (0, 1, before));
        let large = large - LARGE_BYTES.load(Ordering::SeqCst);
        assert_eq!(large, 2 * LARGE as isize);
        mark_peak();
        drop(vec![0u8; 5000]);
        assert_eq!(COUNTS.get().peak - before, 5000);
    });
}

// Hits and misses.

#[test]
fn what_holds_nothing_allocates_nothing() {
    alone(|| {
        let allocated = allocations(|| {
            let names = Interner::<str>::new();
            let map = WeakMap::<u64, u64>::new();
            assert_eq!((names.get("alpha"), names.len()), (None, 0));
            assert_eq!(names.pin().get("alpha"), None);
            assert!(map.get(&1).is_none() && map.remove(&1).is_none());
            assert!(names.iter().next().is_none() && map.iter().next().is_none());
            assert_eq!(names.memory_usage().total(), 0);
        });
        assert_eq!(allocated, 0);
    });
}

/// Asserts that each of the operations allocates nothing, often.
macro_rules! allocate_nothing {
    ($($operation:expr;)*) => {$(
        let allocated = allocations(|| {
            for _ in 0..scaled(1000, 3) {
                let _ = $operation;
            }
        });
        assert_eq!(allocated, 0, "{}", stringify!($operation));
    )*};
}

#[test]
fn a_hit_in_an_interner_allocates_nothing() {
    alone(|| {
        let names = Interner::<str>::new();
        let held: Vec<_> = (0..100)
            .map(|number| names.intern(number.to_string()))
            .collect();
        let owned = String::from("7");
        let shared = Arc::<str>::from("7");
        let hash = names.hash_of("7");
        let weak = Interned::downgrade(&held[7]);
        let pinned = names.pin();
        allocate_nothing! {
            names.intern("7");
            names.intern(&owned);
            names.intern(shared.clone());
            names.intern(Cow::Borrowed("7"));
            names.intern(&held[7]);
            names.intern_hashed(hash, "7");
            names.intern_with("7", |_| -> String { unreachable!("it is there") });
            names.get("7").expect("it is there");
            names.get_hashed(hash, "7").expect("it is there");
            pinned.intern("7");
            pinned.intern_hashed(hash, "7");
            pinned.intern_with("7", |_| -> String { unreachable!("it is there") });
            pinned.get("7").expect("it is there");
            pinned.get_hashed(hash, "7").expect("it is there");
            names.pin().intern("7");
            weak.upgrade().expect("it lives");
            Interned::downgrade(&held[7]);
            held[7].clone();
            // Not hits, but nothing to allocate either.
            names.get("not there");
            names.iter().count();
        }
        drop(pinned);

        let local = LocalInterner::new(&names);
        let here: Vec<_> = held.iter().map(|name| local.intern(&**name)).collect();
        allocate_nothing! {
            local.intern("7");
            local.intern(&owned);
            local.intern(Cow::Borrowed("8"));
            local.intern_with("9", |_| -> String { unreachable!("it is there") });
            local.get("7").expect("it is there");
            local.get("not there");
            here[7].clone();
            LocalInterned::share(&here[7]);
        }

        let globals = Interned::<str>::new("alloc.rs");
        let slices = Interner::<[u64]>::new();
        let slice = slices.intern([1, 2, 3]);
        let numbers = Interner::<u64>::new();
        let number = numbers.intern(7);
        let lent = &7;
        allocate_nothing! {
            assert_eq!(Interned::<str>::new("alloc.rs"), globals);
            assert_eq!(slices.intern([1, 2, 3]), slice);
            assert_eq!(slices.intern(&[1, 2, 3][..]), slice);
            assert_eq!(numbers.intern(7), number);
            assert_eq!(numbers.intern(lent), number);
        }
    });
}

#[test]
fn a_hit_in_a_map_allocates_nothing() {
    alone(|| {
        let map = WeakMap::<u64, u64>::new();
        let held: Vec<_> = (0..100).map(|key| map.get_or_insert(key, key)).collect();
        let weak = Cached::downgrade(&held[7]);
        let objects = IdentityMap::<Arc<str>, u64>::new();
        let object = Arc::<str>::from("object");
        let _of_object = objects.of(&object, |_| 1);
        allocate_nothing! {
            map.get(&7).expect("it is there");
            map.get_or_insert(7, 8);
            map.get_or_insert_with(7, |_| unreachable!("it is there"));
            map.try_get_or_insert_with(7, |_| Err(())).expect("it is there");
            map.get_or_init(7, |_| unreachable!("it is there"));
            map.try_get_or_init(7, |_| Err(())).expect("it is there");
            weak.upgrade().expect("it lives");
            held[7].clone();
            objects.of(&object, |_| unreachable!("it is there"));
            map.get(&1000);
        }
    });
}

/// An owned buffer is freed on a hit, and nothing is allocated for it.
#[test]
fn a_hit_frees_the_buffer_that_came_with_it() {
    alone(|| {
        let names = Interner::<str>::new();
        let _held = names.intern("alpha");
        let buffer = String::from("alpha");
        let (_value, allocated, freed) = counted(|| names.intern(buffer));
        assert_eq!((allocated, freed), (0, 1));
    });
}

/// Hits on one thread, while another one lets thousands of entries come and go.
#[test]
fn hits_among_a_thread_that_churns_allocate_next_to_nothing() {
    alone(|| {
        let numbers = Interner::<u64>::new();
        let _held: Vec<_> = (0..100).map(|number| numbers.intern(number)).collect();
        let barrier = Barrier::new(2);
        thread::scope(|scope| {
            scope.spawn(|| {
                barrier.wait();
                for number in 0..scaled(30_000, 50) as u64 {
                    drop(numbers.intern(1000 + number));
                }
            });
            // The first use of this thread was in `alone`.
            barrier.wait();
            let hits = scaled(60_000, 100);
            let allocated = allocations(|| {
                for number in 0..hits as u64 {
                    assert!(numbers.get(&(number % 100)).is_some());
                }
            });
            assert!(allocated <= hits / 512 + 4, "{allocated} allocations");
        });
    });
}

/// Asserts that so many operations allocate once each. What they answer is held meanwhile.
fn allocate_once<R>(name: &str, mut operation: impl FnMut(u64) -> R) {
    let misses = scaled(4000, 20);
    let mut held = Vec::with_capacity(misses);
    // Nothing is left of dead values that these could use again.
    Interner::<u64>::new().flush();
    let allocated = allocations(|| {
        for number in 0..misses as u64 {
            held.push(operation(number));
        }
    });
    assert_eq!(allocated, misses, "{name}");
}

/// Values that come and go lie where others lay before. Checkers of memory get to see an allocation for each.
#[test]
fn values_that_come_and_go_allocate_next_to_nothing() {
    if cfg!(any(miri, hapax_no_reuse)) {
        return;
    }
    alone(|| {
        let numbers = Interner::<u64>::new();
        let rounds = scaled(20_000, 0);
        let allocated = allocations(|| {
            for number in 0..rounds as u64 {
                drop(numbers.intern(number));
            }
        });
        assert!(allocated <= rounds / 10, "{allocated} allocations");
    });
}

#[test]
fn a_miss_in_an_interner_allocates_once() {
    const CAPACITY: usize = 10_000;
    alone(|| {
        let numbers = Interner::<u64>::with_capacity(CAPACITY);
        allocate_once("a number", |number| numbers.intern(number));
        allocate_once("a number, lent", |number| {
            let lent = &number;
            numbers.intern(lent)
        });
        allocate_once("a number, built", |n| numbers.intern_with(&n, |&n| n));
        let pinned = numbers.pin();
        allocate_once("a number, pinned", |number| pinned.intern(number));
        drop(pinned);

        let names = Interner::<str>::new();
        names.reserve(CAPACITY);
        let texts: Vec<_> = (0..scaled(4000, 20))
            .map(|number| format!("name {number}"))
            .collect();
        allocate_once("a string", |number| names.intern(&texts[number as usize]));

        let slices = Interner::<[u64]>::with_capacity(CAPACITY);
        allocate_once("a slice", |number| slices.intern(&[number; 10][..]));
        allocate_once("an array", |number| slices.intern([number; 10]));

        // The buffer is the caller's: one block more, and freed.
        let mut buffers: Vec<_> = (0..scaled(4000, 20) as u64)
            .map(|number| vec![number; 3])
            .collect();
        let count = buffers.len();
        let (held, allocated, freed) = counted(|| {
            let mut held = Vec::with_capacity(count);
            held.extend(buffers.drain(..).map(|buffer| slices.intern(buffer)));
            held
        });
        assert_eq!((allocated, freed), (count + 1, count));
        drop(held);
    });
}

/// The table of a front grows, stays, and is given back when that is asked for.
#[test]
fn a_key_that_a_front_takes_allocates_once() {
    alone(|| {
        let numbers = Interner::<u64>::new();
        let count = scaled(4000, 20);
        let _held: Vec<_> = (0..count as u64).map(|key| numbers.intern(key)).collect();
        let local = LocalInterner::new(&numbers);
        let take = || {
            let mut taken = Vec::with_capacity(count);
            taken.extend((0..count as u64).map(|key| local.intern(key)));
            taken
        };
        let before = live();
        drop(take());
        // Under a pin the collector doesn't come by to free what threads that have ended left to it.
        let session = numbers.pin();
        let (taken, allocated, freed) = counted(take);
        assert_eq!((allocated, freed), (count + 1, 0));
        drop(session);
        let each = (live() - before) as usize / count - size_of_val(&taken[0]);
        assert!((64..=104).contains(&each), "{each} bytes a key");
        let ((), allocated, freed) = counted(|| drop(taken));
        assert_eq!((allocated, freed), (0, count + 1));
        local.shrink_to_fit();
        let left = live() - before;
        assert!(left <= 8 * 20, "{left} bytes are left");
    });
}

#[test]
fn a_miss_in_a_map_allocates_once() {
    alone(|| {
        let map = WeakMap::<u64, u64>::with_capacity(10_000);
        allocate_once("inserted", |key| map.get_or_insert(key, key));
        allocate_once("built", |key| map.get_or_insert_with(key, |&key| key));
        allocate_once("built once", |key| map.get_or_init(key, |&key| key));
    });
}

/// What comes and goes at once: a miss and a death each.
#[test]
fn a_death_allocates_next_to_nothing() {
    alone(|| {
        let churn = scaled(20_000, 64);
        let bound = churn + churn / 32 + 8;
        let numbers = Interner::<u64>::with_capacity(100);
        let allocated = allocations(|| {
            for number in 0..churn as u64 {
                drop(numbers.intern(number));
            }
        });
        assert!(cfg!(miri) || allocated <= bound, "{allocated} for {churn}");

        let map = WeakMap::<u64, u64>::with_capacity(100);
        let allocated = allocations(|| {
            for key in 0..churn as u64 {
                drop(map.get_or_init(key, |&key| key));
            }
        });
        assert!(cfg!(miri) || allocated <= bound, "{allocated} for {churn}");

        // A drop on its own.
        let held: Vec<_> = (0..churn as u64).map(|n| numbers.intern(n)).collect();
        let allocated = allocations(|| drop(held));
        let bound = churn / 32 + 8;
        assert!(cfg!(miri) || allocated <= bound, "{allocated} for {churn}");
    });
}

// What is kept.

/// The largest that a node around a few bytes may be.
const SMALL: isize = 48;

/// A small piece of a large buffer doesn't keep the buffer, and copies no more than the piece.
#[test]
fn interning_a_piece_copies_the_piece() {
    alone(|| {
        let names = Interner::<str>::with_capacity(100);
        let bytes = Interner::<[u8]>::with_capacity(100);
        drop((names.intern("warm"), bytes.intern(b"warm")));
        settle();

        let before = live();
        let text = "x".repeat(LARGE);
        mark_peak();
        let with_text = live();
        let piece = names.intern(&text[..3]);
        assert!(live() - with_text <= SMALL);
        assert_eq!(COUNTS.get().peak, live(), "nothing else on the way");
        drop(text);
        assert!(live() - before <= SMALL, "{}", live() - before);
        assert_eq!(*piece, *"xxx");

        // Nor does a buffer stay that is handed in, with the room that it has.
        let before = live();
        let mut roomy = String::with_capacity(LARGE);
        roomy.push_str("abc");
        let _roomy = names.intern(roomy);
        let mut roomy = Vec::with_capacity(LARGE);
        roomy.extend_from_slice(b"abc");
        let _bytes = bytes.intern(roomy);
        let _built = names.intern_with("def", |name| {
            let mut roomy = String::with_capacity(LARGE);
            roomy.push_str(name);
            roomy
        });
        assert!(live() - before <= 3 * SMALL, "{}", live() - before);
    });
}

#[test]
fn cancelled_callbacks_and_weak_handles_do_not_pile_up() {
    alone(|| {
        let numbers = Interner::<u64>::with_capacity(100);
        let long_lived = numbers.intern(7);
        let ran = Arc::new(AtomicUsize::new(0));
        let register = {
            let (ran, long_lived) = (ran.clone(), long_lived.clone());
            move || {
                let ran = ran.clone();
                let cargo = [1u8; 500];
                Interned::downgrade_with(&long_lived, move || {
                    ran.fetch_add(cargo[0].into(), Ordering::SeqCst);
                })
            }
        };
        let kept = register();
        let before = live();
        mark_peak();
        for _ in 0..scaled(50_000, 50) {
            drop(register());
            drop(Interned::downgrade(&long_lived));
        }
        let peak = COUNTS.get().peak - before;
        assert!(peak <= 4 << 10, "one at a time: {peak} bytes");
        assert!(live() - before <= 1 << 10);

        // A window of them.
        let mut window = std::collections::VecDeque::with_capacity(32);
        let before = live();
        mark_peak();
        for _ in 0..scaled(50_000, 50) {
            window.push_back(register());
            if window.len() == 20 {
                window.pop_front();
            }
        }
        let peak = COUNTS.get().peak - before;
        assert!(peak <= 32 << 10, "twenty at a time: {peak} bytes");

        // Only those that were not cancelled run.
        drop(register);
        drop(long_lived);
        assert_eq!(ran.load(Ordering::SeqCst), window.len() + 1);
        drop((kept, window));
    });
}

/// The most that a thread may keep of its dead entries, as the crate's documentation says, and the shells
/// around them.
const KEPT: isize = 4 * (40 << 10);
const SHELLS: isize = 32 << 10;

/// Makes so many values of a size, and drops them.
fn burst(slices: &Interner<[u8]>, values: usize, size: usize) {
    let mut buffer = vec![0; size];
    let held: Vec<_> = (0..values)
        .map(|number| {
            buffer[..8].copy_from_slice(&number.to_ne_bytes());
            slices.intern(&buffer[..])
        })
        .collect();
    drop(held);
}

#[test]
fn what_a_thread_keeps_of_a_burst_is_bounded_and_flush_gives_it_back() {
    for (values, size) in [(20_000, 30), (4000, 1000), (2000, 5000), (100, 70_000)] {
        alone(|| {
            let slices = Interner::<[u8]>::with_capacity(scaled(values, 20));
            drop(slices.intern(&[0][..]));
            settle();
            let before = live();
            burst(&slices, scaled(values, 20), size);
            // Not at once: the epoch has to advance, which any use brings about.
            use_interners();
            let kept = live() - before;
            assert!(kept <= KEPT + SHELLS, "{kept} bytes of values of {size}");
            for _ in 0..4 {
                slices.flush();
            }
            let kept = live() - before;
            assert!(kept <= 8 << 10, "{kept} bytes after `flush`, of {size}");
        });
    }
}

/// A large value's memory goes soon, without a flush.
#[test]
fn a_huge_value_does_not_stay() {
    alone(|| {
        let huge = scaled(64 << 20, 2 << 20);
        let slices = Interner::<[u8]>::new();
        let before = LARGE_BYTES.load(Ordering::SeqCst);
        let value = slices.intern(vec![0; huge]);
        assert!(LARGE_BYTES.load(Ordering::SeqCst) - before >= huge as isize);
        drop(value);
        use_interners();
        assert_eq!(LARGE_BYTES.load(Ordering::SeqCst), before);

        let value = slices.intern(vec![1; huge]);
        drop(value);
        slices.flush();
        assert_eq!(LARGE_BYTES.load(Ordering::SeqCst), before);
    });
}

/// The thread that drops it does nothing else any more; others go on.
#[test]
fn a_huge_value_does_not_stay_with_a_thread_that_sleeps() {
    alone(|| {
        let slices = Interner::<[u8]>::new();
        let before = LARGE_BYTES.load(Ordering::SeqCst);
        let value = slices.intern(vec![0; LARGE]);
        let (dropped, drop_seen) = channel();
        let (wake, awoken) = channel::<()>();
        thread::scope(|scope| {
            scope.spawn(move || {
                drop(value);
                dropped.send(()).expect("the test waits");
                awoken.recv().expect("the test goes on");
            });
            drop_seen.recv().expect("the thread drops it");
            use_interners();
            let large = LARGE_BYTES.load(Ordering::SeqCst);
            wake.send(()).expect("the thread sleeps");
            assert_eq!(large, before);
        });
    });
}

/// The table of an interner that is gone, or shrinks, goes soon.
#[test]
fn a_large_table_does_not_stay() {
    alone(|| {
        let before = LARGE_BYTES.load(Ordering::SeqCst);
        let entries = scaled(1 << 20, 1 << 18);
        let numbers = Interner::<u64>::with_capacity(entries);
        drop(numbers.intern(7));
        assert!(LARGE_BYTES.load(Ordering::SeqCst) > before);
        drop(numbers);
        use_interners();
        assert_eq!(LARGE_BYTES.load(Ordering::SeqCst), before, "dropped");

        let mut numbers = Interner::<u64>::with_capacity(entries);
        let seven = numbers.intern(7);
        numbers.shrink_to_fit();
        use_interners();
        assert_eq!(LARGE_BYTES.load(Ordering::SeqCst), before, "shrunk");
        assert_eq!(numbers.get(&7), Some(seven));

        let map = WeakMap::<u64, u64>::with_capacity(entries);
        drop(map.get_or_insert(1, 2));
        drop(map);
        use_interners();
        assert_eq!(LARGE_BYTES.load(Ordering::SeqCst), before, "a map");
    });
}

/// B22: who makes garbage also clears it away.
#[test]
fn a_producer_of_garbage_keeps_bounded_memory() {
    const VALUES: usize = scaled(100_000, 50);
    alone(|| {
        let slices = Interner::<[u8]>::with_capacity(100);
        // Two of them wait for each other now and then: a pin that is preempted delays the other's garbage by all
        // that the other does meanwhile, which is the scheduler's affair. Counted by thread, so that a thread which
        // frees for the other lowers its own number.
        let churn = |first: usize, other: &Barrier| {
            let mut key = [0; 200];
            let before = live();
            mark_peak();
            for number in first..first + VALUES {
                if number % 500 == 0 {
                    other.wait();
                }
                key[..8].copy_from_slice(&number.to_ne_bytes());
                drop(slices.intern(&key[..]));
            }
            COUNTS.get().peak - before
        };
        let peak = churn(0, &Barrier::new(1));
        // Of 24 MB in all.
        assert!(peak <= 256 << 10, "{peak} bytes alone");

        let both = Barrier::new(2);
        thread::scope(|scope| {
            let other = scope.spawn(|| churn(VALUES, &both));
            let peak = churn(2 * VALUES, &both).max(other.join().expect("it ends"));
            assert!(peak <= 1 << 20, "{peak} bytes of two");
        });
    });
}

// How much an entry takes.

const ENTRIES: usize = scaled(1_000_000, 100);
const LENGTH: usize = 30;
const ENTRY: isize = 44;
const RESIDENT: isize = 55;

/// A million strings of 30 bytes, from one buffer, into a `Vec` that has room.
fn fill(names: &Interner<str>, held: &mut Vec<Interned<str>>) {
    let mut buffer = [b'0'; LENGTH];
    let pinned = names.pin();
    for _ in 0..ENTRIES {
        held.push(pinned.intern(str::from_utf8(&buffer).expect("digits")));
        // The next number, from its last digit on.
        for digit in buffer.iter_mut().rev() {
            if *digit != b'9' {
                *digit += 1;
                break;
            }
            *digit = b'0';
        }
    }
    assert_eq!((names.len(), held.len()), (ENTRIES, ENTRIES));
}

#[test]
#[cfg_attr(miri, ignore = "grows by another rule there")]
fn an_entry_takes_44_bytes_beside_a_string_of_30() {
    alone(|| {
        let names = Interner::<str>::new();
        let mut held = Vec::with_capacity(ENTRIES);
        let before = live();
        fill(&names, &mut held);
        let taken = live() - before;
        let payload = (ENTRIES * LENGTH) as isize;
        let entry = (taken - payload) as f64 / ENTRIES as f64;
        assert!(
            taken - payload <= ENTRY * ENTRIES as isize,
            "{entry:.1} bytes"
        );

        let usage = names.memory_usage();
        assert_eq!((usage.entries, usage.values), (ENTRIES, ENTRIES * LENGTH));
        agree(usage.total(), taken);

        // And all of it comes back: before and after, but for the shells.
        drop((held, names));
        settle();
        use_interners();
        let vec = (ENTRIES * size_of::<Interned<str>>()) as isize;
        let left = live() + vec - before;
        assert!(left <= SHELLS, "{left} bytes are left");
    });
}

/// Within some percent, and the table's header, which may have been there before.
#[track_caller]
fn agree(said: usize, counted: isize) {
    let off = said.abs_diff(usize::try_from(counted).expect("it grew"));
    assert!(
        off <= said / 25 + (2 << 10),
        "said {said}, counted {counted}"
    );
}

#[test]
fn memory_usage_says_what_the_allocator_says() {
    alone(|| {
        let count = scaled(20_000, 100) as u64;
        let before = live();
        let numbers = Interner::<u64>::new();
        let mut held = Vec::with_capacity(count as usize);
        let room = held.capacity() * size_of::<Interned<u64>>();
        held.extend((0..count).map(|number| numbers.intern(number)));
        agree(
            numbers.memory_usage().total(),
            live() - before - room as isize,
        );

        let before = live();
        let slices = Interner::<[u32]>::new();
        let mut held = Vec::with_capacity(count as usize);
        let room = held.capacity() * size_of::<Interned<u64>>();
        held.extend((0..count as u32).map(|number| {
            let slice = [number; 50];
            slices.intern(&slice[..1 + number as usize % 50])
        }));
        agree(
            slices.memory_usage().total(),
            live() - before - room as isize,
        );

        let before = live();
        let map = WeakMap::<u64, [u64; 5]>::with_capacity(count as usize * 3);
        let mut held = Vec::with_capacity(count as usize);
        let room = held.capacity() * size_of::<Cached<u64, [u64; 5]>>();
        held.extend((0..count).map(|key| map.get_or_insert(key, [key; 5])));
        agree(map.memory_usage().total(), live() - before - room as isize);
        let usage = map.memory_usage();
        assert_eq!(usage.entries, count as usize);
        assert!(usage.values >= usage.entries * 48 && usage.nodes > usage.values);
    });
}

/// Resident bytes of this process.
fn resident() -> isize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("this is Linux");
    let pages = statm.split(' ').nth(1).expect("a second field");
    pages.parse::<isize>().expect("a number") * PAGE
}

/// What statm counts in, on the machines that these tests run on. Larger pages make the test too easy, not
/// wrong.
const PAGE: isize = 4096;

const CHILD: &str = "HAPAX_TEST_RESIDENT_CHILD";

/// In a process of its own, with what the system's allocator rounds up and keeps.
#[test]
#[cfg_attr(
    any(miri, not(target_os = "linux")),
    ignore = "needs a process of its own, and /proc/self/statm"
)]
fn an_entry_takes_55_bytes_of_resident_memory_beside_a_string_of_30() {
    if std::env::var_os(CHILD).is_some() {
        let names = Interner::<str>::new();
        // Pages that are touched now don't count later.
        let mut held = vec![names.intern("touch"); ENTRIES];
        held.clear();
        drop(names.intern("first use"));
        let before = resident();
        fill(&names, &mut held);
        let taken = resident() - before;
        println!("resident: {taken}");
        return;
    }
    let program = std::env::current_exe().expect("a test has a program");
    let name = "an_entry_takes_55_bytes_of_resident_memory_beside_a_string_of_30";
    let child = std::process::Command::new(program)
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .output()
        .expect("a process starts");
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{child:?}");
    let taken: isize = said
        .split_once("resident: ")
        .and_then(|(_, rest)| rest.lines().next())
        .and_then(|number| number.trim().parse().ok())
        .expect("the child says what it takes");
    let payload = (ENTRIES * LENGTH) as isize;
    let entry = (taken - payload) as f64 / ENTRIES as f64;
    println!("{entry:.1} bytes of resident memory beside the string");
    assert!(taken > payload, "{taken} bytes can't hold them");
    assert!(entry <= RESIDENT as f64, "{entry:.1} bytes");
}

// Finalizers.

/// A value is made with its place in the queue; to drop it allocates nothing, frees nothing, also if the thread is to be
/// woken.
#[test]
fn to_drop_a_value_with_a_finalizer_allocates_nothing() {
    use hapax::finalize::{BoxError, Deferred, Finalize, Finalized, Finalizer};

    struct Body;
    impl Finalize for Body {
        type Core = Vec<u8>;
        fn finalize(_: Vec<u8>) -> Result<(), BoxError> {
            Ok(())
        }
    }
    alone(|| {
        let finalizer = Finalizer::new().unwrap();
        for round in 0..scaled(200, 3) {
            let core = vec![0; round];
            let (value, allocated, freed) = counted(|| Finalized::new_in(&finalizer, Body, core));
            assert_eq!((allocated, freed), (1, 0));
            let text = String::from("a text");
            let (deferred, allocated, freed) = counted(|| Deferred::new_in(&finalizer, text));
            assert_eq!((allocated, freed), (1, 0));
            let (moved, other) = (Deferred::new_in(&finalizer, round), finalizer.clone());
            let ((), allocated, freed) = counted(|| drop((value, deferred)));
            assert_eq!((allocated, freed), (0, 0));
            // What is freed is the place in the queue.
            let (back, allocated, freed) = counted(|| Deferred::into_inner(moved));
            assert_eq!((back, allocated, freed), (round, 0, 1));
            drop(other);
            // Then it sleeps, or is about to.
            finalizer.drain().unwrap();
        }
    });
}
