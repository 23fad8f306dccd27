//! Feature `arc-swap`: handles in an `ArcSwapAny`.
//!
//! - Handles of interners, `Option`s of them, and handles of maps are loaded, stored, swapped, compared and
//!   replaced by a function, as an `Arc` is.
//! - Counts come out right: nothing leaks, nothing dies early, also among threads and after the interner.
#![cfg(feature = "arc-swap")]

mod common;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use arc_swap::{ArcSwapAny, Guard, RefCnt};
use common::{Census, Counted, scaled};
use hapax::{Cached, Interned, Interner, Pointee, WeakMap};

type Names = ArcSwapAny<Interned<str>>;

#[test]
fn a_handle_is_loaded_stored_and_swapped() {
    let names = Interner::<str>::new();
    let alpha = names.intern("alpha");
    let current = Names::new(alpha.clone());
    assert_eq!(Interned::ref_count(&alpha), 2);
    let guard = current.load();
    assert_eq!(**guard, *"alpha");
    assert_eq!(current.load_full(), alpha);

    current.store(names.intern("beta"));
    assert_eq!(*current.load(), *"beta");
    // What was loaded stays what it is.
    assert_eq!(*guard, alpha);
    drop(guard);
    assert_eq!(Interned::ref_count(&alpha), 1);
    drop(alpha);
    assert_eq!((names.get("alpha"), names.len()), (None, 1));

    let beta = current.swap(names.intern("gamma"));
    assert_eq!((&*beta, Interned::ref_count(&beta)), ("beta", 1));
    assert_eq!(Guard::into_inner(current.load()), *"gamma");
    drop(beta);
    assert_eq!(names.len(), 1);
    let gamma = current.into_inner();
    assert_eq!((&*gamma, Interned::ref_count(&gamma)), ("gamma", 1));
    drop(gamma);
    assert_eq!(names.len(), 0);
}

#[test]
fn a_handle_is_compared_and_swapped_by_identity() {
    let (names, others) = (Interner::<str>::new(), Interner::<str>::new());
    let current = Names::new(names.intern("alpha"));
    // The one instance, whichever handle leads to it.
    let before = current.compare_and_swap(&names.intern("alpha"), names.intern("beta"));
    assert_eq!(**before, *"alpha");
    drop(before);
    assert_eq!((names.get("alpha"), &**current.load()), (None, "beta"));
    // Equal, but another instance; and one that isn't current any more.
    for stranger in [others.intern("beta"), names.intern("alpha")] {
        let before = current.compare_and_swap(&stranger, names.intern("gamma"));
        assert_eq!(**before, *"beta");
        assert_eq!(names.get("gamma"), None, "what isn't stored is dropped");
    }
    let guard = current.load();
    let before = current.compare_and_swap(&guard, names.intern("gamma"));
    assert!(Interned::ptr_eq(&before, &guard));
    drop((before, guard));
    assert_eq!((names.len(), &**current.load()), (1, "gamma"));
    drop(current);
    assert_eq!((names.len(), others.len()), (0, 0));
}

#[test]
fn an_option_of_a_handle_is_swapped() {
    let names = Interner::<str>::new();
    let current = ArcSwapAny::<Option<Interned<str>>>::new(None);
    assert!(current.load().is_none());
    current.store(Some(names.intern("alpha")));
    assert_eq!(current.load().as_deref(), Some("alpha"));
    let none = None::<Interned<str>>;
    let before = current.compare_and_swap(&none, Some(names.intern("beta")));
    assert_eq!(before.as_deref(), Some("alpha"));
    drop(before);
    assert_eq!(names.len(), 1);
    let alpha = current.load_full();
    let before = current.compare_and_swap(&alpha, None);
    assert_eq!(*before, alpha);
    drop((before, alpha));
    assert_eq!((names.len(), current.swap(None)), (0, None));
    let before = current.rcu(|now| match now {
        None => Some(names.intern("gamma")),
        Some(name) => Some(name.clone()),
    });
    assert_eq!((before, names.len()), (None, 1));
    drop(current);
    assert_eq!(names.len(), 0);
    assert!(
        ArcSwapAny::<Option<Interned<str>>>::default()
            .load()
            .is_none()
    );
}

#[test]
fn an_entry_of_a_map_is_swapped() {
    let census = Census::new();
    let map = WeakMap::<u32, Counted>::new();
    let entry = |key| map.get_or_init(key, |&key| Counted::new(key.into(), &census));
    let current = ArcSwapAny::<Cached<u32, Counted>>::new(entry(1));
    let guard = current.load();
    current.store(entry(2));
    assert_eq!((guard.key, *Cached::key(&guard), map.len()), (1, 1, 2));
    drop(guard);
    assert_eq!((map.len(), census.live()), (1, 1));
    let before = current.rcu(|now| entry(Cached::key(now) + 1));
    assert_eq!((before.key, current.load().key), (2, 3));
    // It isn't current any more.
    let now = current.compare_and_swap(&before, entry(9));
    assert_eq!((now.key, map.len()), (3, 2));
    drop((before, now));
    assert_eq!((map.len(), census.live()), (1, 1));
    let before = current.swap(entry(4));
    before.assert_alive();
    drop(map);
    current.load().assert_alive();
    drop((current, before));
    assert_eq!(census.live(), 0);
    let none = ArcSwapAny::<Option<Cached<u32, Counted>>>::default();
    assert!(none.load().is_none());
}

/// The pointer is the same for all handles of an instance, and differs between instances also if their
/// values have no size.
#[test]
fn the_pointer_of_a_handle_is_its_instances_own() {
    fn check<R: RefCnt<Base = Pointee> + Clone>(one: R, other: R) {
        let pointer = R::as_ptr(&one);
        assert!(!pointer.is_null());
        assert_eq!(R::as_ptr(&one.clone()), pointer);
        assert_ne!(R::as_ptr(&other), pointer);
        assert_eq!(R::into_ptr(one), pointer);
        // SAFETY: given away just now, and taken back once.
        assert_eq!(R::as_ptr(&unsafe { R::from_ptr(pointer) }), pointer);
    }
    #[derive(PartialEq, Eq, Hash)]
    #[repr(align(1024))]
    struct Aligned(u8);
    let (units, others) = (Interner::<()>::new(), Interner::<()>::new());
    let (aligned, names) = (Interner::<Aligned>::new(), Interner::<str>::new());
    check(units.intern(()), others.intern(()));
    check(aligned.intern(Aligned(1)), aligned.intern(Aligned(2)));
    check(names.intern(""), names.intern("a"));
    check(Some(names.intern("")), Some(names.intern("a")));
    let map = WeakMap::new();
    check(map.get_or_insert(1, ()), map.get_or_insert(2, ()));
    assert_eq!(
        (units.len(), aligned.len(), names.len(), map.len()),
        (0, 0, 0, 0)
    );
}

// Threads.

/// Each thread adds, and none of the sums is lost.
#[test]
fn nothing_is_lost_when_threads_replace_by_a_function() {
    let numbers = Interner::<u64>::new();
    let current = ArcSwapAny::<Interned<u64>>::new(numbers.intern(0));
    let turns = scaled(3000, 20) as u64;
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..turns {
                    let before = current.rcu(|now| numbers.intern(**now + 1));
                    assert!(*before < 3 * turns);
                }
            });
        }
    });
    assert_eq!((**current.load(), numbers.len()), (3 * turns, 1));
    drop(current);
    assert_eq!(numbers.len(), 0);
}

/// Readers keep guards and handles while writers store, swap and compare all the time.
#[test]
fn nothing_leaks_and_nothing_dies_early_among_threads() {
    let census = Census::new();
    let values = Interner::<Counted>::new();
    let new = |key| values.intern(Counted::new(key, &census));
    let current = ArcSwapAny::<Interned<Counted>>::new(new(0));
    let writing = AtomicUsize::new(2);
    let barrier = Barrier::new(4);
    thread::scope(|scope| {
        for thread in 0..2 {
            let (current, writing, barrier) = (&current, &writing, &barrier);
            scope.spawn(move || {
                barrier.wait();
                for turn in 0..scaled(4000, 20) as u64 {
                    let key = 1 + (turn + thread) % 5;
                    match turn % 3 {
                        0 => current.store(new(key)),
                        1 => current.swap(new(key)).assert_alive(),
                        _ => {
                            let now = current.load();
                            current.compare_and_swap(&now, new(key)).assert_alive();
                            now.assert_alive();
                        }
                    }
                }
                writing.fetch_sub(1, Ordering::SeqCst);
            });
        }
        for reader in 0..2 {
            let (current, writing, barrier) = (&current, &writing, &barrier);
            scope.spawn(move || {
                barrier.wait();
                let mut guards = Vec::new();
                let mut handles = Vec::new();
                while writing.load(Ordering::SeqCst) > 0 {
                    // More guards at once than arc-swap has fast slots for.
                    if reader == 0 {
                        guards.push(current.load());
                    } else {
                        handles.push(current.load_full());
                    }
                    if guards.len() + handles.len() > 20 {
                        guards.iter().for_each(|value| value.assert_alive());
                        handles.iter().for_each(|value| value.assert_alive());
                        guards.clear();
                        handles.drain(..10.min(handles.len()));
                    }
                }
            });
        }
    });
    assert_eq!((values.len(), census.live()), (1, 1));
    assert_eq!(Interned::ref_count(&current.load_full()), 2);
    drop(current);
    assert_eq!((values.len(), census.live()), (0, 0));
}

#[test]
fn options_and_entries_are_swapped_among_threads() {
    let census = Census::new();
    let names = Interner::<str>::new();
    let map = WeakMap::<u32, Counted>::new();
    let entry = |key| map.get_or_init(key, |&key| Counted::new(key.into(), &census));
    let name = ArcSwapAny::<Option<Interned<str>>>::new(None);
    let cached = ArcSwapAny::<Cached<u32, Counted>>::new(entry(0));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                if let Some(name) = &*name.load() {
                    assert!(name.starts_with("name "), "{name}");
                }
                let guard = cached.load();
                guard.assert_alive();
                assert_eq!(u64::from(*Cached::key(&guard)), guard.key);
            }
        });
        let writers = [0, 1].map(|thread| {
            let (names, name, cached, entry) = (&names, &name, &cached, &entry);
            scope.spawn(move || {
                for turn in 0..scaled(3000, 20) as u32 {
                    match turn % 3 {
                        0 => name.store(None),
                        1 => drop(name.swap(Some(names.intern(format!("name {}", turn % 7))))),
                        _ => drop(name.rcu(|now| now.clone())),
                    }
                    cached.store(entry((turn + thread) % 5));
                }
            })
        });
        for writer in writers {
            writer.join().unwrap();
        }
        stop.store(true, Ordering::SeqCst);
        reader.join().unwrap();
    });
    drop((name, cached));
    assert_eq!((names.len(), map.len(), census.live()), (0, 0, 0));
}

/// The interner goes first, and what is stored stays.
#[test]
fn a_stored_handle_outlives_its_interner() {
    let census = Census::new();
    let values = Interner::<Counted>::new();
    let new = |key| values.intern(Counted::new(key, &census));
    let current = Arc::new(ArcSwapAny::<Interned<Counted>>::new(new(1)));
    let next = new(2);
    let guard = current.load();
    drop(values);
    current.store(next);
    guard.assert_alive();
    drop(guard);
    assert_eq!((current.load().key, census.live()), (2, 1));
    thread::spawn(move || drop(current)).join().unwrap();
    assert_eq!(census.live(), 0);
}
