//! What else takes part in circles: tracked semaphores, joins, threads that are named. And circles that are only reported.

use hapax::sync::deadlock::{self, Policy, Wanted};
use hapax::sync::{JoinError, spawn};

use super::*;

#[test]
fn permits_come_and_go() {
    let semaphore = Semaphore::tracked(3);
    let (one, two) = (
        semaphore.acquire().unwrap(),
        semaphore.acquire_many(2).unwrap(),
    );
    assert_eq!(semaphore.available_permits(), 0);
    on_thread(|| {
        assert_eq!(
            semaphore.try_acquire().unwrap_err(),
            AcquireError::WouldBlock
        );
        assert_eq!(
            semaphore.try_acquire_for(SHORT).unwrap_err(),
            AcquireError::TimedOut
        );
    });
    assert_eq!(
        semaphore.acquire_many(4).unwrap_err(),
        AcquireError::TooMany { max: 3 }
    );
    drop(two);
    assert!(semaphore.try_acquire_many(2).is_ok());
    drop(one);
    assert!(format!("{semaphore:?}").contains("permits: 3, of: 3"));
}

/// Who wants many holds nobody up who wants few: so nobody waits for somebody in front of it.
#[test]
fn the_queue_is_no_part_of_a_circle() {
    in_time(|| {
        let semaphore = Semaphore::tracked(2);
        let waits = AtomicUsize::new(0);
        thread::scope(|scope| {
            let first = semaphore.acquire().unwrap();
            let many = scope.spawn(|| {
                waits.fetch_add(1, SeqCst);
                semaphore.acquire_many(2).map(drop)
            });
            until(|| waits.load(SeqCst) == 1);
            thread::sleep(SHORT);
            let second = semaphore.acquire().unwrap();
            drop((first, second));
            many.join().unwrap().unwrap();
        });
    });
}

/// As many holders of one permit each as there are permits want another one. One of them is refused, not before all wait,
/// and the others get on by what it gives back.
#[test]
fn holders_who_want_more_have_one_victim() {
    for size in [2, 3, 8] {
        let refused = in_time(move || {
            let semaphore = Semaphore::tracked_named("permits", size);
            let all_hold = Barrier::new(size);
            thread::scope(|scope| {
                let threads: Vec<_> = (0..size)
                    .map(|_| {
                        scope.spawn(|| {
                            let _own = semaphore.acquire().unwrap();
                            all_hold.wait();
                            let more = semaphore.acquire();
                            if let Err(AcquireError::Deadlock(report)) = &more {
                                // All others are in the same place; the report names one of them.
                                assert_eq!(report.steps().len(), 2);
                                let wanted = report.steps()[0].wanted;
                                let name = Some("permits");
                                assert!(
                                    matches!(wanted, Wanted::Permits { name: n, permits: 1, .. } if n == name)
                                );
                            }
                            is_deadlock(&more)
                        })
                    })
                    .collect();
                let refused = threads.into_iter().map(|thread| thread.join().unwrap());
                refused.filter(|is_refused| *is_refused).count()
            })
        });
        assert_eq!(refused, 1, "of {size}");
    }
}

/// A permit that somebody has who runs isn't lost, whatever the others do.
#[test]
fn one_holder_who_runs_is_enough() {
    in_time(|| {
        let (semaphore, mutex) = (Semaphore::tracked(2), Mutex::new(()));
        let (is_held, go, waits) = (Event::new(), Event::new(), Event::new());
        thread::scope(|scope| {
            let holder = scope.spawn(|| {
                let _permit = semaphore.acquire().unwrap();
                is_held.set();
                go.wait().unwrap();
            });
            is_held.wait().unwrap();
            let guard = mutex.lock().unwrap();
            let other = scope.spawn(|| {
                let _permit = semaphore.acquire().unwrap();
                waits.set();
                mutex.lock().map(drop)
            });
            waits.wait().unwrap();
            thread::sleep(SHORT);
            // One permit is with a thread that waits for us, the other with one that runs.
            scope.spawn(|| {
                thread::sleep(SHORT);
                go.set();
            });
            assert!(semaphore.acquire().is_ok());
            holder.join().unwrap();
            drop(guard);
            other.join().unwrap().unwrap();
        });
    });
}

/// A lock and a semaphore in one circle.
#[test]
fn locks_and_permits_in_one_circle() {
    let answers = in_time(|| {
        let (semaphore, mutex, both_hold) =
            (Semaphore::tracked(1), Mutex::new(()), Barrier::new(2));
        thread::scope(|scope| {
            let one = scope.spawn(|| {
                let _own = semaphore.acquire().unwrap();
                both_hold.wait();
                mutex.lock().map(drop)
            });
            let other = scope.spawn(|| {
                let _own = mutex.lock().unwrap();
                both_hold.wait();
                semaphore.acquire().map(drop)
            });
            [one, other].map(|thread| thread.join().unwrap())
        })
    });
    assert_eq!(
        answers.iter().filter(|answer| is_deadlock(answer)).count(),
        1
    );
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
}

/// CPython's `test_default_value`, which is no deadlock: somebody else gives the permit back. Of an untracked one it isn't
/// known who will.
#[test]
fn a_wait_for_ones_own_permit() {
    in_time(|| {
        let tracked = Semaphore::tracked(1);
        let _permit = tracked.acquire().unwrap();
        assert!(is_deadlock(&tracked.acquire()));
        let semaphore = Semaphore::new(1);
        let _permit = semaphore.acquire().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(SHORT);
                semaphore.add_permits(1).unwrap();
            });
            assert!(semaphore.acquire().is_ok());
        });
    });
}

/// A thread ends with a permit: before others wait, and after.
#[test]
fn permits_go_with_their_threads() {
    in_time(|| {
        for late in [Duration::ZERO, 2 * SHORT] {
            let (semaphore, is_held) = (Semaphore::tracked(2), Event::new());
            thread::scope(|scope| {
                let dying = scope.spawn(|| {
                    std::mem::forget(semaphore.acquire());
                    is_held.set();
                    thread::sleep(late);
                    ThreadKey::current()
                });
                is_held.wait().unwrap();
                // One is left, and two will never be.
                assert!(semaphore.acquire().is_ok());
                let answer = semaphore.acquire_many(2).map(drop);
                let owner = dying.join().unwrap();
                assert_eq!(answer, Err(AcquireError::OwnerDied { owner }));
                assert!(semaphore.acquire().is_ok());
            });
        }
    });
}

/// What a thread has taken with it won't come, though its other holder would.
#[test]
fn a_lost_permit_and_ones_own() {
    in_time(|| {
        let semaphore = Semaphore::tracked(2);
        on_thread(|| std::mem::forget(semaphore.acquire()));
        let _own = semaphore.acquire().unwrap();
        assert!(is_deadlock(&semaphore.acquire()));
    });
}

/// A thread ends with a permit that two others, which wait for each other, could have got on by.
#[test]
fn an_end_may_close_a_circle() {
    in_time(|| {
        let (semaphore, mutex) = (Semaphore::tracked(2), Mutex::new(()));
        let (all_hold, go) = (Barrier::new(3), Event::new());
        thread::scope(|scope| {
            let dying = scope.spawn(|| {
                std::mem::forget(semaphore.acquire());
                all_hold.wait();
                go.wait().unwrap();
            });
            let other = scope.spawn(|| {
                let _permit = semaphore.acquire().unwrap();
                all_hold.wait();
                mutex.lock().map(drop)
            });
            let guard = mutex.lock().unwrap();
            all_hold.wait();
            let later = scope.spawn(|| {
                thread::sleep(SHORT);
                go.set();
            });
            assert!(is_deadlock(&semaphore.acquire()));
            drop(guard);
            other.join().unwrap().unwrap();
            dying.join().unwrap();
            later.join().unwrap();
        });
    });
}

/// Nobody is blamed who has nothing.
#[test]
fn no_permits_are_nobodys() {
    in_time(|| {
        let semaphore = Semaphore::tracked(1);
        on_thread(|| std::mem::forget(semaphore.acquire_many(0)));
        let owner = on_thread(|| {
            std::mem::forget(semaphore.acquire());
            ThreadKey::current()
        });
        assert_eq!(
            semaphore.acquire().map(drop),
            Err(AcquireError::OwnerDied { owner })
        );
    });
}

/// Two threads have one of two permits each, and want another one. One of them tries again.
#[test]
fn permits_may_be_tried_again() {
    in_time(|| {
        let (semaphore, both_hold) = (Semaphore::tracked(2), Barrier::new(2));
        let take_two = || {
            let mut is_first = true;
            deadlock::retry(|| {
                let _one = semaphore.acquire()?;
                if std::mem::take(&mut is_first) {
                    both_hold.wait();
                }
                semaphore.acquire().map(drop)
            })
        };
        thread::scope(|scope| {
            let threads = [(); 2].map(|()| scope.spawn(take_two));
            threads
                .into_iter()
                .for_each(|thread| thread.join().unwrap().unwrap());
        });
        assert_eq!(semaphore.available_permits(), 2);
    });
}

/// A wait that was granted is over, also for those who look at what its thread waits for next.
#[test]
fn granted_waits_are_over() {
    in_time(|| {
        let (semaphore, mutex) = (Semaphore::tracked(1), Mutex::new(()));
        let both = Barrier::new(2);
        thread::scope(|scope| {
            let permit = semaphore.acquire().unwrap();
            let other = scope.spawn(|| {
                // For long enough to be registered.
                let _permit = semaphore.acquire().unwrap();
                both.wait();
                mutex.lock().map(drop)
            });
            thread::sleep(SHORT);
            drop(permit);
            let guard = mutex.lock().unwrap();
            both.wait();
            thread::sleep(SHORT);
            assert!(is_deadlock(&semaphore.acquire()));
            drop(guard);
            other.join().unwrap().unwrap();
            assert!(semaphore.acquire().is_ok());
        });
    });
}

/// A time-out beside a circle that never was: nothing of the wait is left.
#[test]
fn waits_that_are_over_are_forgotten() {
    in_time(|| {
        let (semaphore, mutex) = (Semaphore::tracked(1), Mutex::new(()));
        let (timed_out, go) = (Event::new(), Event::new());
        thread::scope(|scope| {
            let permit = semaphore.acquire().unwrap();
            scope.spawn(|| {
                let _own = mutex.lock().unwrap();
                assert!(semaphore.try_acquire_for(SHORT).is_err());
                timed_out.set();
                go.wait().unwrap();
            });
            timed_out.wait().unwrap();
            scope.spawn(|| {
                thread::sleep(SHORT);
                go.set();
            });
            // Its holder runs.
            assert!(mutex.lock().is_ok());
            drop(permit);
        });
    });
}

/// A join through a lock: whoever comes last is refused.
#[test]
fn joins_take_part() {
    for child_is_late in [false, true] {
        in_time(move || {
            let mutex = Arc::new(Mutex::new(()));
            let guard = mutex.lock().unwrap();
            let theirs = mutex.clone();
            let child = spawn(move || {
                if child_is_late {
                    thread::sleep(SHORT);
                }
                theirs.lock().map(drop)
            });
            let child = child.unwrap();
            if !child_is_late {
                thread::sleep(SHORT);
            }
            match child.join() {
                Ok(answer) => {
                    assert!(child_is_late && is_deadlock(&answer));
                    let Err(AcquireError::Deadlock(report)) = answer else {
                        unreachable!()
                    };
                    assert!(report.to_string().contains("waits for the end of thread"));
                }
                Err(JoinError::Deadlock { report, handle }) => {
                    assert!(!child_is_late);
                    assert_eq!(report.steps()[0].wanted, Wanted::End);
                    assert_eq!(report.steps()[0].holder, handle.key());
                    drop(guard);
                    assert_eq!(handle.join().unwrap(), Ok(()));
                }
                Err(error) => panic!("{error}"),
            }
        });
    }
}

#[test]
fn a_thread_doesnt_wait_for_its_own_end() {
    in_time(|| {
        let (send, receive) = mpsc::channel::<hapax::sync::JoinHandle<()>>();
        let (answer, is_refused) = mpsc::channel();
        let thread = spawn(move || {
            let own = receive.recv().unwrap();
            answer
                .send(matches!(own.join(), Err(JoinError::Deadlock { .. })))
                .unwrap();
        });
        send.send(thread.unwrap()).unwrap();
        assert_eq!(is_refused.recv(), Ok(true));
    });
}

#[test]
fn joins_return_results_and_panics() {
    assert_eq!(spawn(|| 5).unwrap().join().unwrap(), 5);
    let thread = spawn(|| -> u32 { std::panic::resume_unwind(Box::new("no")) }).unwrap();
    let Err(JoinError::Panicked(panic)) = thread.join() else {
        unreachable!()
    };
    assert_eq!(panic.into_payload().downcast_ref(), Some(&"no"));
}

/// A wait for a channel, whose sender wants a lock that the receiver has.
#[test]
fn foreign_waits_take_part() {
    in_time(|| {
        let mutex = Mutex::new(());
        let (send, receive) = mpsc::channel();
        let (send_key, key) = mpsc::channel();
        thread::scope(|scope| {
            let guard = mutex.lock().unwrap();
            let sender = scope.spawn(|| {
                send_key.send(ThreadKey::current()).unwrap();
                thread::sleep(SHORT);
                let answer = mutex.lock().map(drop);
                send.send(()).unwrap();
                answer
            });
            let key = key.recv().unwrap();
            deadlock::blocking_on(&[key], || receive.recv())
                .unwrap()
                .unwrap();
            assert!(is_deadlock(&sender.join().unwrap()));
            // It has ended, so it runs as far as anybody knows.
            assert!(deadlock::blocking_on(&[key], || ()).is_ok());
            assert!(deadlock::blocking_on(&[], || ()).is_ok());
            let oneself = deadlock::blocking_on(&[ThreadKey::current()], || ());
            assert!(is_deadlock(&oneself));
            drop(guard);
        });
    });
}

/// A thread that waits within a wait waits for both: the inner one ends, and the outer one would not.
#[test]
fn outer_waits_count() {
    in_time(|| {
        let (outer, inner) = (Mutex::new(()), Mutex::new(()));
        let (send_key, key) = mpsc::channel();
        let (send, receive) = mpsc::channel();
        let (holds, go) = (Event::new(), Event::new());
        thread::scope(|scope| {
            let _guard = outer.lock().unwrap();
            let sender = scope.spawn(|| {
                send_key.send(ThreadKey::current()).unwrap();
                go.wait().unwrap();
                // While the other one still waits for the inner lock.
                thread::sleep(SHORT);
                let answer = outer.lock().map(drop);
                send.send(()).unwrap();
                answer
            });
            scope.spawn(|| {
                let _guard = inner.lock().unwrap();
                holds.set();
                thread::sleep(4 * SHORT);
            });
            holds.wait().unwrap();
            let wait = deadlock::blocking_on(&[key.recv().unwrap()], || {
                go.set();
                drop(inner.lock().unwrap());
                receive.recv().unwrap();
            });
            wait.unwrap();
            assert!(is_deadlock(&sender.join().unwrap()));
        });
    });
}

/// A thread whose thread-locals wait for what the joining one has.
#[test]
fn a_finished_thread_may_still_wait() {
    static LOCK: Mutex<()> = Mutex::new(());

    struct Waits(mpsc::Sender<bool>);

    impl Drop for Waits {
        fn drop(&mut self) {
            thread::sleep(3 * SHORT);
            self.0.send(is_deadlock(&LOCK.lock())).unwrap();
        }
    }

    thread_local!(static WAITS: RefCell<Option<Waits>> = const { RefCell::new(None) });
    in_time(|| {
        let (send, was_refused) = mpsc::channel();
        let guard = LOCK.lock().unwrap();
        let thread = spawn(move || {
            // Before ours, so that it is destroyed when ours is gone; and after: then it isn't late.
            drop(Lock::owned().lock().unwrap());
            WAITS.with(|waits| *waits.borrow_mut() = Some(Waits(send)));
        });
        let thread = thread.unwrap();
        thread::sleep(SHORT);
        assert!(thread.is_finished());
        thread.join().unwrap();
        assert!(was_refused.recv().unwrap());
        drop(guard);
    });
}

/// One of several threads that could end the wait runs.
#[test]
fn a_foreign_wait_for_one_of_several() {
    in_time(|| {
        let mutex = Mutex::new(());
        let (send_key, keys) = mpsc::channel();
        let done = Event::new();
        thread::scope(|scope| {
            let guard = mutex.lock().unwrap();
            let stuck = scope.spawn(|| {
                send_key.send(ThreadKey::current()).unwrap();
                mutex.lock().map(drop)
            });
            scope.spawn(|| {
                send_key.send(ThreadKey::current()).unwrap();
                thread::sleep(2 * SHORT);
                done.set();
            });
            let keys = [keys.recv().unwrap(), keys.recv().unwrap()];
            thread::sleep(SHORT);
            deadlock::blocking_on(&keys, || done.wait())
                .unwrap()
                .unwrap();
            drop(guard);
            stuck.join().unwrap().unwrap();
        });
    });
}

/// In a process of its own: the policy is for the whole of it.
#[test]
fn circles_may_be_reported_only() {
    alone("tracked::circles_may_be_reported_only", || {
        static REPORTS: std::sync::Mutex<Vec<String>> = std::sync::Mutex::new(Vec::new());
        deadlock::set_policy(Policy::ReportOnly(|report| {
            REPORTS.lock().unwrap().push(report.to_string());
        }));
        let locks = Arc::new([Mutex::named("a", ()), Mutex::named("b", ())]);
        let both_hold = Arc::new(Barrier::new(2));
        for first in 0..2 {
            let (locks, both_hold) = (locks.clone(), both_hold.clone());
            // These two hang.
            thread::spawn(move || {
                let _own = locks[first].lock();
                both_hold.wait();
                locks[1 - first].lock().map(drop)
            });
        }
        until(|| !REPORTS.lock().unwrap().is_empty());
        thread::sleep(SHORT);
        let reports = REPORTS.lock().unwrap().clone();
        assert_eq!(reports.len(), 1);
        assert!(reports[0].contains("waits for a") && reports[0].contains("waits for b"));
        assert!(locks.iter().all(Mutex::is_locked));
        // A listener that panics: nothing is taken, nothing is left.
        deadlock::set_policy(Policy::ReportOnly(|_| {
            std::panic::resume_unwind(Box::new(5))
        }));
        let semaphore = Semaphore::tracked(1);
        let permit = semaphore.acquire().unwrap();
        let wait = catch_unwind(AssertUnwindSafe(|| semaphore.acquire().map(drop)));
        assert!(wait.is_err());
        assert_eq!(semaphore.available_permits(), 0);
        drop(permit);
        assert_eq!(semaphore.available_permits(), 1);
        // The two that hang.
        assert_eq!(deadlock::registered_waits(), 2);
        // Who comes to them is part of no circle, and hangs as well, but for those who can wait no longer.
        assert_eq!(
            locks[0].try_lock_for(SHORT).unwrap_err(),
            AcquireError::TimedOut
        );
        assert_eq!(REPORTS.lock().unwrap().len(), 1);
    });
}
