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

    /// Its turn came, and was over before its thread ran. It sees that, or if the grant isn't there any more, waits for
    /// the next one.
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
            let newcomer = Lock::new(&store, "a").try_lock().unwrap();
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
}

mod order {
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
}

mod deadlocks {
    use super::*;

    fn lock(store: &MemoryStore, key: &str, owner: Owner) -> Lock {
        Lock::new(store, key).owned_by(owner)
    }

    /// So many owners in a circle: exactly one is told, and the others go on when it lets go.
    #[test]
    fn exactly_one_is_told() {
        for count in [2, 3, 5] {
            let store = MemoryStore::with_virtual_clock();
            let key = |at: usize| (at % count).to_string();
            let owners: Vec<_> = (0..count).map(|_| Owner::new()).collect();
            let sessions: Vec<_> = owners.iter().map(|_| store.new_session()).collect();
            let guards: Vec<_> = (0..count)
                .map(|at| lock(&sessions[at], &key(at), owners[at]).lock().unwrap())
                .collect();
            let tasks: Vec<_> = guards
                .into_iter()
                .enumerate()
                .map(|(at, guard)| {
                    // They begin in any order.
                    let lock = lock(&sessions[at], &key(at + 1), owners[at]);
                    task(move || {
                        let answer = lock.lock().map(drop);
                        drop(guard);
                        answer
                    })
                })
                .collect();
            let answers = tasks
                .into_iter()
                .map(|task| task.answer_while(|| pass(&store, SECOND)));
            let told = answers.filter(is_deadlock).count();
            assert_eq!(told, 1);
            assert!(store.list().unwrap().is_empty());
        }
    }

    /// However long it lasts: the first waits with a time limit for the second, or one of them in nobody's name, or what
    /// the first waits for ends by itself.
    #[test]
    fn no_false_alarm() {
        type Change = fn(Lock) -> Lock;
        let same: Change = |lock| lock;
        let fixed: Change = |lock| lock.lease(Lease::Fixed(1_000 * SECOND));
        let limited: fn(&Lock) -> _ = |lock| lock.try_lock_for(1_000 * SECOND);
        let [one, other] = [(); 2].map(|()| Owner::new());
        let cases = [
            (Some(one), Some(other), same, limited),
            (Some(one), None, same, Lock::lock),
            (None, Some(other), same, Lock::lock),
            (None, None, same, Lock::lock),
            (Some(one), Some(other), fixed, Lock::lock),
        ];
        for (number, (one, other, change, wait)) in cases.into_iter().enumerate() {
            let store = MemoryStore::with_virtual_clock();
            let lock = |key, owner| {
                let lock = Lock::new(&store.new_session(), key);
                match owner {
                    Some(owner) => lock.owned_by(owner),
                    None => lock,
                }
            };
            let a = change(lock("a", one)).lock().unwrap();
            let b = lock("b", other).lock().unwrap();
            let wanted = lock("b", one);
            let first = task(move || wait(&wanted));
            until_queued(&store, "b", 1);
            let second = queued(&store, lock("a", other));
            pass(&store, 5 * SECOND);
            pass(&store, 5 * SECOND);
            assert!(first.is_running() && second.is_running(), "{number}");
            drop(b);
            drop(first.answer().unwrap());
            drop(a);
            drop(second.answer().unwrap());
        }
    }

    #[test]
    fn a_lasso_is_no_circle() {
        let store = MemoryStore::with_virtual_clock();
        let [first, second, outside] = [(); 3].map(|()| Owner::new());
        let held = lock(&store, "a", first).lock().unwrap();
        let other = lock(&store, "b", second).lock().unwrap();
        let one = queued(&store, lock(&store, "b", first));
        let late = queued(&store, lock(&store, "b", outside));
        let two = queued(&store, lock(&store, "a", second));
        let later = queued(&store, lock(&store, "a", outside));
        let told = two.answer_while(|| pass(&store, SECOND));
        assert!(is_deadlock(&told));
        pass(&store, 5 * SECOND);
        assert!(one.is_running() && late.is_running() && later.is_running());
        drop(other);
        drop(one.answer().unwrap());
        drop(late.answer().unwrap());
        drop(held);
        drop(later.answer().unwrap());
    }

    /// Those before it in the queue are in the way as well.
    #[test]
    fn through_a_queue() {
        let store = MemoryStore::with_virtual_clock();
        let [first, second, third] = [(); 3].map(|()| Owner::new());
        let free = lock(&store, "a", first).shared().lock().unwrap();
        let held = lock(&store, "b", third).lock().unwrap();
        // A writer waits for readers, and the third reads behind it what it could read otherwise.
        let writer = queued(&store, lock(&store, "a", second));
        let reads = queued(&store, lock(&store, "b", first));
        store.advance(HEAD_START);
        let closes = queued(&store, lock(&store, "a", third).shared());
        assert!(is_deadlock(&closes.answer_while(|| pass(&store, SECOND))));
        drop(held);
        drop(reads.answer().unwrap());
        drop(free);
        drop(writer.answer().unwrap());
    }

    /// A circle that somebody else's end has closed, after all have begun to wait.
    #[test]
    fn closed_by_a_grant() {
        let store = MemoryStore::with_virtual_clock();
        let [first, second] = [(); 2].map(|()| Owner::new());
        let a = lock(&store, "a", first).lock().unwrap();
        let b = Lock::new(&store, "b").lock().unwrap();
        let other = lock(&store.new_session(), "b", second);
        let gets = task(move || {
            let b = other.lock().unwrap();
            (other, b)
        });
        until_queued(&store, "b", 1);
        let waits = queued(&store, lock(&store, "b", first));
        drop(b);
        let (other, b) = gets.answer();
        pass(&store, 2 * SECOND);
        assert!(waits.is_running());
        let closes = queued(&store, lock(&store, "a", second));
        assert!(is_deadlock(&closes.answer_while(|| pass(&store, SECOND))));
        drop((other, b));
        drop(waits.answer().unwrap());
        drop(a);
    }

    /// A process of an owner has died in a queue, where nobody has noticed it yet. Its owner lives on in another process.
    #[test]
    fn the_dead_wait_for_nobody() {
        let store = MemoryStore::with_virtual_clock();
        let [parent, other] = [(); 2].map(|()| Owner::new());
        let a = lock(&store, "a", other).lock().unwrap();
        let b = lock(&store.new_session(), "b", parent).lock().unwrap();
        let child = store.new_session();
        let dies = queued(&store, lock(&child, "a", parent));
        child.crash();
        assert!(is_closed(&dies.answer()));
        let waits = queued(&store, lock(&store, "b", other));
        pass(&store, 5 * SECOND);
        assert!(waits.is_running());
        drop(b);
        drop(waits.answer().unwrap());
        drop(a);
    }

    /// All permits are held by those who wait for more; one more would do.
    #[test]
    fn semaphores_in_a_circle() {
        let store = MemoryStore::with_virtual_clock();
        let owners = [(); 3].map(|()| Owner::new());
        let semaphore = |key, owner| Semaphore::new(&store.new_session(), key, 3).owned_by(owner);
        let held = owners.map(|owner| {
            let [a, b] = ["a", "b"].map(|key| semaphore(key, owner).acquire().unwrap());
            (a, b)
        });
        let mut tasks = Vec::new();
        for (at, owner) in owners.into_iter().enumerate() {
            let key = ["a", "b"][at % 2];
            let semaphore = semaphore(key, owner);
            let before = waiters(&store, key).len();
            tasks.push(task(move || semaphore.acquire()));
            if at < 2 {
                until_queued(&store, key, before + 1);
                pass(&store, 2 * SECOND);
                assert!(tasks.iter().all(Task::is_running));
            }
        }
        let told = tasks.pop().unwrap().answer_while(|| pass(&store, SECOND));
        assert!(is_deadlock(&told.map(drop)));
        let [.., last] = held;
        drop(last);
        for task in tasks {
            drop(task.answer().unwrap());
        }
    }
}
