//! `Semaphore`: how many at once, which permit is whose, and that each is given back by itself.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

/// DiskCache's `test_semaphore`.
pub(super) fn three_permits<W: World>() {
    let (_world, one, other) = two::<W>();
    let semaphore = Semaphore::new(&one, "a", 3);
    let first = semaphore.acquire().unwrap();
    let second = semaphore.acquire().unwrap();
    let third = semaphore.try_acquire().unwrap();
    let theirs = Semaphore::new(&other, "a", 3);
    assert!(is_timed_out(&theirs.try_acquire()));
    assert!(is_timed_out(&theirs.try_acquire_for(SHORT)));
    assert!(is_timed_out(&theirs.try_acquire_until(Instant::now())));
    let worker = task(move || theirs.acquire());
    until_queued(&one, "a", 1);
    assert!(worker.is_running());
    second.release().unwrap();
    let permit = worker.answer().unwrap();
    assert!(is_timed_out(&semaphore.try_acquire()));
    drop((first, third, permit));
    assert!(one.list().unwrap().is_empty());
}

pub(super) fn slots_are_distinct<W: World>() {
    let (_world, one, other) = two::<W>();
    let mut permits: Vec<_> = (0..5)
        .map(|at| {
            let store = if at % 2 == 0 { &one } else { &other };
            Semaphore::new(store, "a", 5).acquire().unwrap()
        })
        .collect();
    let slots: BTreeSet<_> = permits.iter().map(Permit::slot).collect();
    assert_eq!(slots, (0..5).collect());
    let slot = permits.remove(2).slot();
    // It is the only one that is free.
    assert_eq!(
        Semaphore::new(&other, "a", 5).acquire().unwrap().slot(),
        slot
    );
    let listed: BTreeSet<_> = holders(&one, "a")
        .iter()
        .map(|holder| holder.slot)
        .collect();
    assert_eq!(listed, permits.iter().map(Permit::slot).collect());
}

pub(super) fn a_permit_goes_to_the_waiter<W: World>() {
    let (_world, one, other) = two::<W>();
    let semaphore = Semaphore::new(&one, "a", 2);
    let (first, _second) = (semaphore.acquire().unwrap(), semaphore.acquire().unwrap());
    let slot = first.slot();
    let waiter = task({
        let semaphore = Semaphore::new(&other, "a", 2).strict();
        move || semaphore.acquire().unwrap()
    });
    until_queued(&one, "a", 1);
    first.release().unwrap();
    assert!(is_timed_out(&semaphore.try_acquire()));
    assert_eq!(waiter.answer().slot(), slot);
}

pub(super) fn never_more_than_the_limit<W: World>() {
    let world = W::new();
    let inside = Arc::new([(); 2].map(|()| AtomicU32::new(0)));
    let tasks = [(); 5].map(|()| {
        let (semaphore, inside) = (Semaphore::new(&world.session(), "a", 2), inside.clone());
        task(move || {
            for _ in 0..30 {
                let permit = semaphore.acquire().unwrap();
                let slot = &inside[permit.slot() as usize];
                assert_eq!(slot.fetch_add(1, Ordering::SeqCst), 0);
                thread::yield_now();
                slot.fetch_sub(1, Ordering::SeqCst);
            }
        })
    });
    tasks.into_iter().for_each(Task::answer);
}

pub(super) fn a_lease_ends_alone<W: World>() {
    let (_world, one, other) = two::<W>();
    let semaphore = Semaphore::new(&one, "a", 2);
    let lasting = semaphore.acquire().unwrap();
    let short = semaphore
        .clone()
        .lease(Lease::Fixed(SHORT))
        .acquire()
        .unwrap();
    let next = Semaphore::new(&other, "a", 2).acquire().unwrap();
    assert!(!short.is_valid());
    assert!(lasting.is_valid());
    assert_eq!(next.slot(), short.slot());
    assert!(is_lost(&short.release()));
    assert!(is_timed_out(&semaphore.try_acquire()));
    assert!(next.is_valid());
}
