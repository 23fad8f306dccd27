//! `Lock`: DiskCache's scenario, then who has it, for how long, and by which token.

use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

pub(super) fn one_at_a_time<W: World>() {
    let (_world, one, other) = two::<W>();
    let (mine, theirs) = (Lock::new(&one, "a"), Lock::new(&other, "a"));
    let guard = mine.lock().unwrap();
    assert_eq!(guard.key(), "a");
    assert!(guard.is_valid());
    guard.check().unwrap();
    assert!(is_timed_out(&theirs.try_lock()));
    assert!(is_timed_out(&theirs.try_lock_for(Duration::ZERO)));
    let _elsewhere = Lock::new(&other, "b").try_lock().unwrap();
    guard.release().unwrap();
    let guard = theirs.try_lock().unwrap();
    assert!(is_timed_out(&mine.try_lock()));
    drop(guard);
    assert!(mine.try_lock().is_ok());
}

pub(super) fn a_drop_gives_it_back<W: World>() {
    let (_world, one, other) = two::<W>();
    drop(Lock::new(&one, "a").lock().unwrap());
    assert!(one.list().unwrap().is_empty());
    assert!(Lock::new(&other, "a").try_lock().is_ok());
}

pub(super) fn a_session_excludes_itself<W: World>() {
    let world = W::new();
    let store = world.session();
    let lock = Lock::new(&store, "a");
    let guard = lock.clone().lock().unwrap();
    assert!(is_timed_out(&lock.try_lock()));
    let waiter = task(move || lock.lock().map(drop));
    until_queued(&store, "a", 1);
    drop(guard);
    waiter.answer().unwrap();
}

/// DiskCache's `test_lock`.
pub(super) fn a_worker_is_kept_out<W: World>() {
    let (_world, one, other) = two::<W>();
    let state = Arc::new(AtomicU32::new(0));
    let lock = Lock::new(&one, "demo");
    assert!(!lock.is_locked().unwrap());
    let guard = lock.lock().unwrap();
    let worker = task({
        let (state, lock) = (state.clone(), Lock::new(&other, "demo"));
        move || {
            state.fetch_add(1, Ordering::SeqCst);
            let _guard = lock.lock().unwrap();
            assert!(lock.is_locked().unwrap());
            state.fetch_add(1, Ordering::SeqCst);
        }
    });
    until_queued(&one, "demo", 1);
    assert!(lock.is_locked().unwrap());
    thread::sleep(SHORT);
    assert_eq!(state.load(Ordering::SeqCst), 1);
    drop(guard);
    worker.answer();
    assert_eq!(state.load(Ordering::SeqCst), 2);
    assert!(!lock.is_locked().unwrap());
}

/// Who holds a lock is the guard: neither a thread's end gives it back, nor that of the handle and the store.
pub(super) fn a_guard_outlives_its_thread_and_its_store<W: World>() {
    let (_world, one, other) = two::<W>();
    let guard = task(move || Lock::new(&one, "a").lock().unwrap()).answer();
    assert!(guard.is_valid());
    assert!(is_timed_out(&Lock::new(&other, "a").try_lock()));
    task(move || guard.release().unwrap()).answer();
    assert!(Lock::new(&other, "a").try_lock().is_ok());
}

pub(super) fn a_time_limit_is_kept<W: World>() {
    let (_world, one, other) = two::<W>();
    let guard = Lock::new(&one, "a").lock().unwrap();
    let lock = Lock::new(&other, "a");
    let began = Instant::now();
    assert!(is_timed_out(&lock.try_lock_for(SHORT)));
    assert!(began.elapsed() >= SHORT);
    let moment = Instant::now() + SHORT;
    assert!(is_timed_out(&lock.try_lock_until(moment)));
    assert!(Instant::now() >= moment);
    assert!(is_timed_out(&lock.try_lock_until(began)));
    assert!(waiters(&one, "a").is_empty());
    let waiter = task(move || lock.try_lock_for(PATIENCE).map(drop));
    until_queued(&one, "a", 1);
    drop(guard);
    waiter.answer().unwrap();
    // When the time is over doesn't matter for what is free.
    assert!(Lock::new(&one, "a").try_lock_until(began).is_ok());
}

pub(super) fn keys_are_any_text<W: World>() {
    let (_world, one, other) = two::<W>();
    let long = "long".repeat(10_000);
    let keys = [
        "", "a", "A", "a ", "a/../b", "a\0b", "{}x", "'; --", "ß", "ss", "%", &long,
    ];
    let guards: Vec<_> = keys
        .iter()
        .map(|key| Lock::new(&one, key).try_lock().unwrap())
        .collect();
    for (key, guard) in keys.iter().zip(guards) {
        assert_eq!(guard.key(), *key);
        assert_eq!(holders(&other, key).len(), 1);
        assert!(is_timed_out(&Lock::new(&other, key).try_lock()));
        drop(guard);
        assert!(Lock::new(&other, key).try_lock().is_ok());
    }
}

/// Over all keys, modes and processes.
pub(super) fn tokens_grow<W: World>() {
    let (_world, one, other) = two::<W>();
    let mut last = 0;
    let mut check = |token: u64| {
        assert!(token > last, "{token} after {last}");
        assert!(token < 1 << 53);
        last = token;
    };
    for round in 0..20 {
        let (mine, theirs) = if round % 2 == 0 {
            (&one, &other)
        } else {
            (&other, &one)
        };
        check(Lock::new(mine, "a").lock().unwrap().fencing_token());
        let first = Lock::new(mine, "b").shared().lock().unwrap();
        check(first.fencing_token());
        let second = Lock::new(theirs, "b").shared().lock().unwrap();
        check(second.fencing_token());
        let semaphore = Semaphore::new(theirs, "c", 2);
        let permits = [(); 2].map(|()| semaphore.acquire().unwrap());
        permits
            .iter()
            .for_each(|permit| check(permit.fencing_token()));
        check(RLock::new(mine, "d").lock().unwrap().fencing_token());
    }
}

/// Four processes add to a number that only the lock protects.
pub(super) fn counts_are_exact<W: World>() {
    let world = W::new();
    let number = Arc::new(AtomicU32::new(0));
    let tasks = [(); 4].map(|()| {
        let (lock, number) = (Lock::new(&world.session(), "a"), number.clone());
        task(move || {
            for _ in 0..50 {
                let _guard = lock.lock().unwrap();
                let found = number.load(Ordering::Relaxed);
                thread::yield_now();
                number.store(found + 1, Ordering::Relaxed);
            }
        })
    });
    tasks.into_iter().for_each(Task::answer);
    assert_eq!(number.load(Ordering::Relaxed), 200);
}

/// DiskCache's `test_barrier`: two workers never overlap.
pub(super) fn test_barrier<W: World>() {
    let world = W::new();
    let inside = Arc::new(AtomicU32::new(0));
    let tasks = [(); 2].map(|()| {
        let (lock, inside) = (Lock::new(&world.session(), "a"), inside.clone());
        task(move || {
            for _ in 0..20 {
                let answer = lock.synchronized(|guard| {
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                    thread::yield_now();
                    inside.fetch_sub(1, Ordering::SeqCst);
                    guard.fencing_token()
                });
                assert!(answer.unwrap() > 0);
            }
        })
    });
    tasks.into_iter().for_each(Task::answer);
}

/// Whatever comes of it, and says so if it was lost.
pub(super) fn what_is_synchronized_gives_back<W: World>() {
    let (_world, one, other) = two::<W>();
    let (mine, theirs) = (Lock::new(&one, "a"), Lock::new(&other, "a"));
    let message = common::panic_of(|| mine.synchronized(|_| panic!("that was it")));
    assert!(message.contains("that was it"));
    let mut done = false;
    let answer = theirs.synchronized(|guard| {
        done = true;
        one.force_unlock("a", guard.fencing_token()).unwrap();
        mine.try_lock().unwrap()
    });
    assert!(done && is_lost(&answer));
    mine.synchronized(|_| assert!(theirs.try_lock().is_err()))
        .unwrap();
}
