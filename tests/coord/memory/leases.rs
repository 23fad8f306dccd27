//! When leases end, to the nanosecond.

use super::*;

#[test]
fn renewal_through_ten_times() {
    let store = MemoryStore::with_virtual_clock();
    let other = store.new_session();
    let time = 30 * SECOND;
    let lease = Lease::Renewed(time);
    let guard = Lock::new(&store, "a").lease(lease).lock().unwrap();
    let permit = Semaphore::new(&store, "b", 1)
        .lease(lease)
        .acquire()
        .unwrap();
    for _ in 0..100 {
        store.advance(3 * SECOND);
        for remaining in [
            guard.remaining(),
            permit.remaining(),
            holders(&other, "a")[0].remaining,
        ] {
            let remaining = remaining.unwrap();
            assert!(
                remaining > time * 2 / 3 - SECOND && remaining <= time,
                "{remaining:?}"
            );
        }
        assert!(is_timed_out(&Lock::new(&other, "a").try_lock()));
    }
    // In one step as well.
    store.advance(10 * time);
    guard.check().unwrap();
    guard.release().unwrap();
    permit.release().unwrap();
}

#[test]
fn a_fixed_lease_ends_at_its_time() {
    let store = MemoryStore::with_virtual_clock();
    let other = store.new_session();
    let time = 10 * SECOND;
    let nanosecond = Duration::from_nanos(1);
    let guard = Lock::new(&store, "a")
        .lease(Lease::Fixed(time))
        .lock()
        .unwrap();
    store.advance(time - nanosecond);
    assert_eq!(guard.remaining(), Some(nanosecond));
    assert!(guard.is_valid() && !guard.lost().is_set());
    assert!(is_timed_out(&Lock::new(&other, "a").try_lock()));
    store.advance(nanosecond);
    assert!(!guard.is_valid() && guard.lost().is_set());
    let successor = Lock::new(&other, "a").try_lock().unwrap();
    assert_lost(guard, &successor);
}

#[test]
fn extended_it_ends_at_the_new_time() {
    let store = MemoryStore::with_virtual_clock();
    let other = store.new_session();
    let guard = Lock::new(&store, "a")
        .lease(Lease::Fixed(10 * SECOND))
        .lock()
        .unwrap();
    let waiter = queued(&other, Lock::new(&other, "a"));
    for _ in 0..3 {
        store.advance(9 * SECOND);
        guard.extend(10 * SECOND).unwrap();
    }
    pass(&store, 9 * SECOND);
    assert!(guard.is_valid() && waiter.is_running());
    guard.extend(3 * SECOND).unwrap();
    store.advance(2 * SECOND);
    assert!(guard.is_valid());
    store.advance(SECOND);
    let successor = waiter.answer_while(|| pass(&store, SECOND)).unwrap();
    assert_lost(guard, &successor);
}

#[test]
fn taken_again_it_ends_no_later() {
    let store = MemoryStore::with_virtual_clock();
    let lock = RLock::new(&store, "a").lease(Lease::Fixed(10 * SECOND));
    let outer = lock.lock().unwrap();
    store.advance(9 * SECOND);
    let inner = lock.lock().unwrap();
    assert_eq!(inner.remaining(), Some(SECOND));
    assert_eq!(holders(&store, "a")[0].remaining, Some(SECOND));
    drop(inner);
    assert_eq!(outer.remaining(), Some(SECOND));
    store.advance(SECOND);
    assert!(is_lost(&lock.lock()));
    assert!(is_lost(&lock.try_lock()));
    let theirs = Lock::new(&store.new_session(), "a").try_lock().unwrap();
    assert!(is_lost(&outer.release()));
    assert!(theirs.is_valid());
}

#[test]
fn the_first_gets_it_when_a_lease_ends() {
    let store = MemoryStore::with_virtual_clock();
    for is_strict in [false, true] {
        let lock = |lease| {
            let lock = Lock::new(&store.new_session(), "a").lease(lease);
            if is_strict { lock.strict() } else { lock }
        };
        // Shorter than a waiter sleeps at most.
        let time = SECOND / 5;
        let mut held = lock(Lease::Fixed(time)).lock().unwrap();
        let tasks = [(); 3].map(|()| queued(&store, lock(Lease::Fixed(time))));
        for task in tasks {
            until_asleep(&store, "a", waiters(&store, "a").len());
            store.advance(time);
            // No more time goes by.
            let next = task.answer().unwrap();
            assert_lost(held, &next);
            held = next;
        }
    }
}

#[test]
fn permits_end_one_by_one() {
    let store = MemoryStore::with_virtual_clock();
    let times = [3, 1, 2];
    let permits = times.map(|time| {
        let lease = Lease::Fixed(time * SECOND);
        let semaphore = Semaphore::new(&store.new_session(), "a", 3).lease(lease);
        semaphore.acquire().unwrap()
    });
    let newcomer = Semaphore::new(&store, "a", 3);
    let mut taken = Vec::new();
    for passed in 1..=3 {
        assert!(is_timed_out(&newcomer.try_acquire()));
        store.advance(SECOND);
        for (permit, time) in permits.iter().zip(times) {
            assert_eq!(permit.is_valid(), time > passed);
        }
        let next = newcomer.try_acquire().unwrap();
        let valid = permits
            .iter()
            .filter(|permit| permit.is_valid())
            .chain(&taken);
        let mut slots: BTreeSet<_> = valid.map(Permit::slot).collect();
        assert!(slots.insert(next.slot()));
        assert_eq!(slots.len(), 3);
        taken.push(next);
    }
}

/// Its turn came, and was over before its thread ran, or right after. It comes once more, or has a guard that is lost.
#[test]
fn an_end_before_the_waiter_wakes() {
    let store = MemoryStore::with_virtual_clock();
    for _ in 0..50 {
        let guard = Lock::new(&store, "a").lock().unwrap();
        let lock = Lock::new(&store.new_session(), "a")
            .strict()
            .lease(Lease::Fixed(SECOND));
        let waiter = queued(&store, lock);
        drop(guard);
        store.advance(SECOND);
        let Ok(newcomer) = Lock::new(&store, "a").try_lock() else {
            // It has come once more before.
            assert!(waiter.answer().unwrap().is_valid());
            continue;
        };
        until(|| !waiter.is_running() || waiters(&store, "a").len() == 1);
        assert!(newcomer.is_valid());
        if waiters(&store, "a").len() == 1 {
            drop(newcomer);
            assert!(waiter.answer().unwrap().is_valid());
        } else {
            assert_lost(waiter.answer().unwrap(), &newcomer);
        }
    }
}
