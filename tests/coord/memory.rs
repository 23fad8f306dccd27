//! Faults, under a clock that the test sets: processes that die or are stopped wherever it hurts, time that is over at the
//! wrong moment, and everything that shall *not* come about however long one waits.

use std::collections::BTreeSet;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
/// For how long the first waiter may be passed.
const HEAD_START: Duration = Duration::from_millis(1);

/// Lets that much time go by in steps, with a moment for the threads after each.
fn pass(store: &MemoryStore, time: Duration) {
    const STEPS: u32 = 20;
    for _ in 0..STEPS {
        store.advance(time / STEPS);
        thread::sleep(Duration::from_millis(1));
    }
}

/// Whoever waits has seen where it stands, and sleeps.
fn until_asleep(store: &MemoryStore, key: &str, count: usize) {
    until_queued(store, key, count);
    thread::sleep(Duration::from_millis(5));
}

/// A waiter in a queue, whose guard comes back.
fn queued(store: &MemoryStore, lock: Lock) -> Task<Result<LockGuard, CoordError>> {
    let before = waiters(store, lock.key()).len();
    let key = lock.key().to_owned();
    let task = task(move || lock.lock());
    until_queued(store, &key, before + 1);
    task
}

mod deaths {
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
}

mod stops {
    use super::*;

    /// It was stopped for longer than its lease, and goes on in the middle of what it does.
    #[test]
    fn past_the_lease() {
        let store = MemoryStore::with_virtual_clock();
        let other = store.new_session();
        let lease = Lease::Renewed(30 * SECOND);
        let guard = Lock::new(&other, "a").lease(lease).lock().unwrap();
        let mut gate = FencingGate::default();
        gate.admit(guard.fencing_token()).unwrap();
        other.stop();
        store.advance(29 * SECOND);
        assert!(guard.is_valid());
        assert!(is_timed_out(&Lock::new(&store, "a").try_lock()));
        store.advance(SECOND);
        assert!(!guard.is_valid());
        let successor = Lock::new(&store, "a").try_lock().unwrap();
        gate.admit(successor.fencing_token()).unwrap();
        // It isn't told before it runs.
        assert!(!guard.lost().is_set());
        other.resume();
        assert!(guard.lost().is_set());
        assert!(gate.admit(guard.fencing_token()).is_err());
        assert_lost(guard, &successor);
        store.advance(60 * SECOND);
        assert!(successor.is_valid());
    }

    #[test]
    fn within_the_lease() {
        let store = MemoryStore::with_virtual_clock();
        let other = store.new_session();
        let lease = Lease::Renewed(30 * SECOND);
        let guard = Lock::new(&other, "a").lease(lease).lock().unwrap();
        for _ in 0..5 {
            other.stop();
            store.advance(19 * SECOND);
            assert!(guard.is_valid());
            other.resume();
            assert_eq!(guard.remaining(), Some(30 * SECOND));
        }
        guard.release().unwrap();
    }

    /// A lease of the session asks no clock.
    #[test]
    fn a_session_lease_lasts() {
        let store = MemoryStore::with_virtual_clock();
        let other = store.new_session();
        let guard = Lock::new(&other, "a").lock().unwrap();
        other.stop();
        store.advance(100_000 * SECOND);
        assert!(is_timed_out(&Lock::new(&store, "a").try_lock()));
        other.resume();
        assert!(guard.is_valid());
        guard.release().unwrap();
    }

    /// Whoever waits gets it by the end of the lease, without anybody's help.
    #[test]
    fn the_first_waiter_takes_over() {
        let store = MemoryStore::with_virtual_clock();
        let other = store.new_session();
        let guard = Lock::new(&other, "a")
            .lease(Lease::Renewed(30 * SECOND))
            .lock()
            .unwrap();
        let first = queued(&store, Lock::new(&store, "a"));
        let second = queued(&store, Lock::new(&store, "a"));
        pass(&store, 60 * SECOND);
        assert!(first.is_running() && guard.is_valid());
        other.stop();
        store.advance(30 * SECOND);
        let successor = first.answer().unwrap();
        other.resume();
        assert_lost(guard, &successor);
        assert!(second.is_running());
        drop(successor);
        drop(second.answer().unwrap());
    }

    #[test]
    #[should_panic(expected = "goes by itself")]
    fn not_with_a_real_clock() {
        MemoryStore::new().stop();
    }
}

mod leases {
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

    /// Its turn came, and was over before its thread ran. It has been granted nothing that it could use.
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
            let newcomer = Lock::new(&store, "a").try_lock();
            let waiter = waiter.answer_while(|| store.advance(Duration::ZERO));
            match (&waiter, &newcomer) {
                (Ok(guard), Ok(newcomer)) => {
                    assert!(!guard.is_valid() && newcomer.is_valid());
                }
                (answer, _) => panic!("{answer:?} {newcomer:?}"),
            }
        }
    }
}
