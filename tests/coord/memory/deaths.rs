//! Processes that are killed: with what they hold, in a queue, all together, and at the moment of a grant.

use super::*;

/// Nobody waits yet: whoever comes finds out.
#[test]
fn a_holder_dies() {
    let store = MemoryStore::with_virtual_clock();
    let other = store.new_session();
    let guard = Lock::new(&other, "a").lock().unwrap();
    let permit = Semaphore::new(&other, "b", 1).acquire().unwrap();
    let reader = Lock::new(&other, "c").shared().lock().unwrap();
    other.crash();
    assert!(guard.lost().is_set() && !guard.is_valid());
    let successor = Lock::new(&store, "a").try_lock().unwrap();
    assert!(Semaphore::new(&store, "b", 1).try_acquire().is_ok());
    assert!(Lock::new(&store, "c").try_lock_for(SECOND).is_ok());
    assert!(is_lost(&permit.release()) && is_lost(&reader.release()));
    drop(guard);
    assert!(successor.is_valid());
    assert!(is_timed_out(&Lock::new(&store, "a").try_lock()));
}

/// The waiter sleeps, and no time goes by.
#[test]
fn a_holder_dies_while_others_wait() {
    let store = MemoryStore::with_virtual_clock();
    for _ in 0..50 {
        let other = store.new_session();
        let guard = Lock::new(&other, "a").lock().unwrap();
        let first = queued(&store, Lock::new(&store, "a"));
        let second = queued(&store, Lock::new(&store.new_session(), "a"));
        other.crash();
        let successor = first.answer().unwrap();
        assert_lost(guard, &successor);
        assert!(second.is_running());
        drop(successor);
        drop(second.answer().unwrap());
    }
    assert!(store.list().unwrap().is_empty());
}

#[test]
fn waiters_die_in_the_queue() {
    let store = MemoryStore::with_virtual_clock();
    for dead in [&[0][..], &[1], &[3], &[0, 1], &[1, 2], &[0, 2], &[0, 1, 2]] {
        let guard = Lock::new(&store, "a").lock().unwrap();
        let sessions = [(); 4].map(|()| store.new_session());
        let tasks: Vec<_> = sessions
            .iter()
            .map(|session| queued(&store, Lock::new(session, "a").strict()))
            .collect();
        thread::sleep(Duration::from_millis(2));
        dead.iter().for_each(|&at| sessions[at].crash());
        drop(guard);
        for (at, task) in tasks.into_iter().enumerate() {
            let answer = task.answer();
            if dead.contains(&at) {
                assert!(is_closed(&answer), "{at} of {dead:?}");
            } else {
                drop(answer.unwrap());
            }
        }
        // Who died last is still there, as nobody stands behind it.
        drop(Lock::new(&store, "a").lock().unwrap());
        assert!(store.list().unwrap().is_empty());
    }
}

/// The holder and those who stand first, and not in that order.
#[test]
fn all_die_but_the_last() {
    let store = MemoryStore::with_virtual_clock();
    for rotation in 0..4 {
        let sessions = [(); 4].map(|()| store.new_session());
        let guard = Lock::new(&sessions[0], "a").lock().unwrap();
        let tasks: Vec<_> = sessions[1..]
            .iter()
            .map(|session| queued(&store, Lock::new(session, "a")))
            .collect();
        let last = queued(&store, Lock::new(&store, "a"));
        for at in 0..4 {
            sessions[(at + rotation) % 4].crash();
            if at < 3 {
                assert!(last.is_running());
            }
        }
        let successor = last.answer().unwrap();
        assert_lost(guard, &successor);
        // Some of them had it for a moment.
        for task in tasks {
            match task.answer() {
                Ok(guard) => assert_lost(guard, &successor),
                Err(error) => assert!(matches!(error, CoordError::Closed { .. }), "{error}"),
            }
        }
    }
}

#[test]
fn all_die() {
    let store = MemoryStore::with_virtual_clock();
    let sessions = [(); 3].map(|()| store.new_session());
    let guards = sessions.each_ref().map(|session| {
        let lock = Lock::new(session, "a").shared();
        lock.lock().unwrap()
    });
    let tasks = sessions.each_ref().map(|session| {
        let lock = Lock::new(session, "a");
        queued(&store, lock)
    });
    sessions.iter().for_each(MemoryStore::crash);
    for task in tasks {
        assert!(is_closed(&task.answer()));
    }
    let successor = Lock::new(&store, "a").try_lock().unwrap();
    guards
        .into_iter()
        .for_each(|guard| assert_lost(guard, &successor));
    drop(successor);
    assert!(store.list().unwrap().is_empty());
}

/// The key isn't in use any more, whatever the dead have used it as.
#[test]
fn the_dead_do_not_say_what_a_key_is() {
    let store = MemoryStore::with_virtual_clock();
    for is_waited_for in [false, true] {
        let other = store.new_session();
        let held = Semaphore::new(&other, "a", 2).acquire().unwrap();
        let waiting = is_waited_for.then(|| {
            let _other_permit = Semaphore::new(&other, "a", 2).acquire().unwrap();
            let semaphore = Semaphore::new(&other, "a", 2);
            let task = task(move || semaphore.acquire().map(drop));
            thread::sleep(Duration::from_millis(1));
            task
        });
        other.crash();
        assert!(!held.is_valid());
        drop(Semaphore::new(&store, "a", 3).try_acquire().unwrap());
        let third = store.new_session();
        let _held = Semaphore::new(&third, "a", 2).acquire().unwrap();
        third.crash();
        drop(Lock::new(&store, "a").lock().unwrap());
        let answer = waiting.map(Task::answer);
        assert!(answer.is_none_or(|answer| answer.is_ok() || is_closed(&answer)));
    }
}

/// Its threads run on, but nothing of what they get counts.
#[test]
fn the_dead_get_nothing() {
    let store = MemoryStore::with_virtual_clock();
    let other = store.new_session();
    other.crash();
    assert!(is_closed(&Lock::new(&other, "a").try_lock()));
    assert!(is_closed(&Lock::new(&other, "a").lock()));
    assert!(is_closed(&other.list()));
    other.close().unwrap();
    assert!(store.list().unwrap().is_empty());
}

/// A store that is closed at the moment at which something is granted keeps no valid guard.
#[test]
fn a_grant_races_the_end() {
    for round in 0..scaled(500, 5) {
        let store = MemoryStore::new();
        let other = store.new_session();
        let start = Arc::new(Barrier::new(2));
        let grant = task({
            let (lock, start) = (Lock::new(&other, "a"), start.clone());
            move || {
                start.wait();
                lock.lock()
            }
        });
        start.wait();
        if round % 2 == 0 {
            other.close().unwrap();
        } else {
            other.crash();
        }
        let successor = Lock::new(&store, "a").try_lock().unwrap();
        match grant.answer() {
            Ok(guard) => assert_lost(guard, &successor),
            Err(error) => assert!(matches!(error, CoordError::Closed { .. }), "{error}"),
        }
    }
}
