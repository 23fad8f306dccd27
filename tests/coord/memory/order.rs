//! Who is next, who may pass, and whose time is over at that moment.

use super::*;

/// Whoever comes may pass the first one, until that has been the first for a millisecond.
#[test]
fn barging_is_bounded() {
    let store = MemoryStore::with_virtual_clock();
    let newcomer = Lock::new(&store, "a");
    let guard = newcomer.lock().unwrap();
    // No time goes by, so the first one is never due; and the one who passes is too quick for it sometimes.
    let waiter = task({
        let lock = Lock::new(&store.new_session(), "a");
        move || lock.lock()
    });
    until_asleep(&store, "a", 1);
    let passed = (|| {
        let mut guard = guard;
        for passed in 0.. {
            drop(guard);
            match newcomer.try_lock() {
                Ok(next) => guard = next,
                Err(_) => return passed,
            }
            if passed == 5 {
                store.advance(HEAD_START);
            }
        }
        unreachable!()
    })();
    assert!(passed <= 6, "{passed}");
    drop(waiter.answer().unwrap());
}

/// The same without a race: the one who is passed sleeps soundly, since nothing rings it.
#[test]
fn who_is_not_due_is_passed() {
    let store = MemoryStore::with_virtual_clock();
    let semaphore = Semaphore::new(&store, "a", 2);
    let mut was_passed = false;
    for _ in 0..100 {
        let permits = [(); 2].map(|()| semaphore.acquire().unwrap());
        let waiter = task({
            let semaphore = Semaphore::new(&store.new_session(), "a", 2);
            move || semaphore.acquire().map(drop)
        });
        until_queued(&store, "a", 1);
        drop(permits);
        // There are two permits, and the waiter gets no more than one of them.
        let first = semaphore.try_acquire();
        let second = semaphore.try_acquire();
        assert!(first.is_ok() || second.is_ok());
        was_passed |= first.is_ok() && second.is_ok();
        drop((first, second));
        waiter.answer().unwrap();
        if was_passed {
            return;
        }
    }
    panic!("nobody was passed");
}

#[test]
fn who_is_due_is_not_passed() {
    let store = MemoryStore::with_virtual_clock();
    let newcomer = Lock::new(&store, "a");
    for _ in 0..50 {
        let guard = newcomer.lock().unwrap();
        let waiter = queued(&store, Lock::new(&store.new_session(), "a"));
        store.advance(HEAD_START);
        drop(guard);
        assert!(is_timed_out(&newcomer.try_lock()));
        let guard = waiter.answer().unwrap();
        guard.release().unwrap();
    }
}

#[test]
fn who_is_strict_is_not_passed() {
    let store = MemoryStore::with_virtual_clock();
    let newcomer = Lock::new(&store, "a");
    for _ in 0..50 {
        let guard = newcomer.lock().unwrap();
        let waiter = queued(&store, Lock::new(&store.new_session(), "a").strict());
        drop(guard);
        assert!(is_timed_out(&newcomer.try_lock()));
        drop(waiter.answer().unwrap());
    }
}

/// Nor does it pass anybody, even one who may be passed.
#[test]
fn who_is_strict_passes_nobody() {
    let store = MemoryStore::with_virtual_clock();
    for _ in 0..50 {
        let reader = Lock::new(&store, "a").shared().lock().unwrap();
        let writer = queued(&store, Lock::new(&store.new_session(), "a"));
        let newcomer = Lock::new(&store, "a").shared();
        assert!(is_timed_out(&newcomer.clone().strict().try_lock()));
        // Another one may, as no time has gone by.
        drop(newcomer.try_lock().unwrap());
        store.advance(HEAD_START);
        assert!(is_timed_out(&newcomer.try_lock()));
        drop(reader);
        drop(writer.answer().unwrap());
    }
}

/// Its head start begins when it becomes the first, and not when it comes.
#[test]
fn the_head_start_begins_at_the_head() {
    let store = MemoryStore::with_virtual_clock();
    let newcomer = Lock::new(&store, "a").shared();
    let reader = newcomer.lock().unwrap();
    let first = task({
        let lock = Lock::new(&store.new_session(), "a");
        move || lock.try_lock_for(SECOND).map(drop)
    });
    until_queued(&store, "a", 1);
    let second = queued(&store, Lock::new(&store.new_session(), "a"));
    store.advance(SECOND);
    assert!(is_timed_out(&first.answer()));
    until_queued(&store, "a", 1);
    drop(newcomer.try_lock().unwrap());
    store.advance(HEAD_START);
    assert!(is_timed_out(&newcomer.try_lock()));
    drop(reader);
    drop(second.answer().unwrap());
}

/// A thousand of them, whose order is that of their tokens as well.
#[test]
fn strict_is_first_come_first_served() {
    let store = MemoryStore::with_virtual_clock();
    let guard = Lock::new(&store, "a").lock().unwrap();
    let tasks: Vec<_> = (0..30)
        .map(|_| queued(&store, Lock::new(&store.new_session(), "a").strict()))
        .collect();
    let mut last = guard.fencing_token();
    drop(guard);
    for task in tasks {
        let guard = task.answer().unwrap();
        assert!(guard.fencing_token() > last);
        last = guard.fencing_token();
    }
}

/// Either the guard or the error, and in no case a grant that nobody has.
#[test]
fn a_time_out_races_a_grant() {
    let mut granted = 0;
    let rounds = scaled(400, 4);
    for round in 0..rounds {
        let store = MemoryStore::with_virtual_clock();
        let guard = Lock::new(&store, "a").lock().unwrap();
        let tasks = [(); 2].map(|()| {
            let lock = Lock::new(&store.new_session(), "a").strict();
            let before = waiters(&store, "a").len();
            let task = task(move || lock.try_lock_for(SECOND).map(drop));
            until_queued(&store, "a", before + 1);
            task
        });
        let start = Arc::new(Barrier::new(2));
        let clock = task({
            let (store, start) = (store.clone(), start.clone());
            move || {
                start.wait();
                store.advance(SECOND);
            }
        });
        start.wait();
        if round % 2 == 0 {
            thread::yield_now();
        }
        drop(guard);
        for task in tasks {
            let answer = task.answer();
            granted += usize::from(answer.is_ok());
            assert!(answer.is_ok() || is_timed_out(&answer));
        }
        clock.answer();
        assert!(store.list().unwrap().is_empty());
        Lock::new(&store, "a")
            .try_lock()
            .unwrap()
            .release()
            .unwrap();
    }
    assert!(granted > 0 && granted <= 2 * rounds);
}

/// What is taken away is handed over, and a waiter's place can't be taken away like that.
#[test]
fn force_unlock_hands_over_to_the_first() {
    let store = MemoryStore::with_virtual_clock();
    let other = store.new_session();
    let guard = Lock::new(&other, "a").lock().unwrap();
    let first = queued(&store, Lock::new(&store, "a"));
    let second = queued(&store, Lock::new(&store, "a"));
    let ticket = waiters(&store, "a")[0].ticket;
    assert!(store.force_unlock("a", ticket).is_err());
    store.force_unlock("a", guard.fencing_token()).unwrap();
    let successor = first.answer().unwrap();
    store.advance(2 * SECOND);
    assert!(guard.lost().is_set());
    assert_lost(guard, &successor);
    assert!(second.is_running());
    drop(successor);
    drop(second.answer().unwrap());
}
