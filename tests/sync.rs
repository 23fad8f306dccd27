//! `sync`: the scenarios of CPython's `lock_tests`, under their own names, then deadlocks and holders that end.

mod common;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use common::{Rng, SeedOnFailure, scaled, seed};
use hapax::sync::{
    AcquireError, Event, Lock, Mutex, MutexGuard, RLock, ReleaseError, Semaphore, ThreadKey,
    deadlock,
};

const SHORT: Duration = Duration::from_millis(50);

/// Runs `f` on a thread of its own, to the end of that.
fn on_thread<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    thread::scope(|scope| scope.spawn(f).join().unwrap())
}

/// Fails instead of hanging.
fn in_time<R: Send + 'static>(f: impl FnOnce() -> R + Send + 'static) -> R {
    let (sender, receiver) = mpsc::channel();
    let thread = thread::spawn(move || {
        let answer = f();
        // Nobody listens if the time is over.
        let _ = sender.send(answer);
    });
    match receiver.recv_timeout(Duration::from_secs(60)) {
        Ok(answer) => answer,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
        Err(mpsc::RecvTimeoutError::Disconnected) => match thread.join() {
            Ok(()) => unreachable!("it has sent nothing"),
            Err(panic) => std::panic::resume_unwind(panic),
        },
    }
}

fn is_deadlock<T>(answer: &Result<T, AcquireError>) -> bool {
    matches!(answer, Err(AcquireError::Deadlock(_)))
}

// CPython, lock_tests: BaseLockTests, for all three.

macro_rules! base_lock_tests {
    ($module:ident, $new:expr) => {
        mod $module {
            use super::*;

            #[test]
            fn test_constructor() {
                let _ = $new;
            }

            #[test]
            fn test_repr() {
                let lock = $new;
                let free = format!("{lock:?}");
                let _guard = lock.lock().unwrap();
                let held = on_thread(|| format!("{lock:?}"));
                assert_ne!(free, held);
            }

            #[test]
            fn test_acquire_destroy() {
                let lock = $new;
                std::mem::forget(lock.lock());
                let _ = lock;
            }

            #[test]
            fn test_acquire_release() {
                let lock = $new;
                drop(lock.lock().unwrap());
                assert!(!lock.is_locked());
            }

            #[test]
            fn test_try_acquire() {
                let lock = $new;
                assert!(lock.try_lock().is_ok());
            }

            #[test]
            fn test_try_acquire_contended() {
                let lock = $new;
                let _guard = lock.lock().unwrap();
                let answer = on_thread(|| lock.try_lock().map(drop));
                assert_eq!(answer, Err(AcquireError::WouldBlock));
            }

            #[test]
            fn test_acquire_contended() {
                let lock = $new;
                let done = AtomicUsize::new(0);
                thread::scope(|scope| {
                    let guard = lock.lock().unwrap();
                    let threads = [(); 5].map(|()| {
                        scope.spawn(|| {
                            drop(lock.lock().unwrap());
                            done.fetch_add(1, SeqCst);
                        })
                    });
                    thread::sleep(SHORT);
                    assert_eq!(done.load(SeqCst), 0);
                    drop(guard);
                    for thread in threads {
                        thread.join().unwrap();
                    }
                });
                assert_eq!(done.load(SeqCst), 5);
            }

            #[test]
            fn test_with() {
                let lock = $new;
                let panic = catch_unwind(AssertUnwindSafe(|| {
                    let _guard = lock.lock().unwrap();
                    panic!("within the lock");
                }));
                assert!(panic.is_err());
                on_thread(|| drop(lock.try_lock().unwrap()));
            }

            #[test]
            fn test_thread_leak() {
                let lock = $new;
                for _ in 0..15 {
                    on_thread(|| drop(lock.lock().unwrap()));
                }
            }

            #[test]
            fn test_timeout() {
                let lock = $new;
                drop(lock.try_lock_for(Duration::from_secs(5)).unwrap());
                drop(lock.try_lock_for(Duration::MAX).unwrap());
                let _guard = lock.lock().unwrap();
                on_thread(|| {
                    let began = Instant::now();
                    let answer = lock.try_lock_for(SHORT).map(drop);
                    assert_eq!(answer, Err(AcquireError::TimedOut));
                    assert!(began.elapsed() >= SHORT);
                    let answer = lock.try_lock_for(Duration::ZERO).map(drop);
                    assert_eq!(answer, Err(AcquireError::TimedOut));
                });
            }

            #[test]
            fn test_state_after_timeout() {
                let lock = $new;
                let guard = lock.lock().unwrap();
                let answer = on_thread(|| lock.try_lock_for(Duration::from_millis(10)).map(drop));
                assert!(answer.is_err());
                drop(guard);
                assert!(!lock.is_locked());
                assert!(lock.try_lock().is_ok());
            }
        }
    };
}

base_lock_tests!(lock, Lock::new());
base_lock_tests!(owned_lock, Lock::owned());
base_lock_tests!(mutex, Mutex::new(()));
base_lock_tests!(rlock, RLock::new(()));

// LockTests.

#[test]
fn test_reacquire() {
    in_time(|| {
        let lock = Arc::new(Lock::new());
        let phase = Arc::new(AtomicUsize::new(0));
        let thread = thread::spawn({
            let (lock, phase) = (lock.clone(), phase.clone());
            move || {
                std::mem::forget(lock.lock().unwrap());
                phase.store(1, SeqCst);
                std::mem::forget(lock.lock().unwrap());
                phase.store(2, SeqCst);
            }
        });
        thread::sleep(SHORT);
        assert_eq!(phase.load(SeqCst), 1);
        lock.release().unwrap();
        thread.join().unwrap();
        assert_eq!(phase.load(SeqCst), 2);
    });
}

#[test]
fn test_different_thread() {
    let lock = Lock::new();
    let guard = lock.lock().unwrap();
    on_thread(|| lock.release().unwrap());
    assert!(!lock.is_locked());
    assert_eq!(lock.release(), Err(ReleaseError::NotHeld));
    assert_eq!(guard.release(), Err(ReleaseError::NotHeld));
}

#[test]
fn a_guard_releases_its_own_hold_only() {
    let lock = Lock::new();
    let first = lock.lock().unwrap();
    lock.release().unwrap();
    let second = lock.lock().unwrap();
    drop(first);
    assert!(lock.is_locked());
    second.release().unwrap();
    assert!(!lock.is_locked());
}

#[test]
fn an_owned_lock_is_released_by_its_owner() {
    let lock = Lock::owned_named("printer");
    assert_eq!(lock.release(), Err(ReleaseError::NotHeld));
    let guard = lock.lock().unwrap();
    let me = Some(ThreadKey::current());
    assert_eq!(
        on_thread(|| lock.release()),
        Err(ReleaseError::NotOwner { owner: me })
    );
    on_thread(|| drop(guard));
    assert!(lock.is_locked());
    lock.release().unwrap();
    assert!(!lock.is_locked());
}

// RLockTests.

#[test]
fn test_rlock_reacquire() {
    let lock = RLock::new(());
    let first = lock.lock().unwrap();
    let second = lock.lock().unwrap();
    drop(first);
    let third = lock.lock().unwrap();
    drop((second, third));
    assert!(!lock.is_locked());
}

#[test]
fn test_recursion_count() {
    let lock = RLock::new(());
    assert_eq!(lock.recursion_count(), 0);
    let mut guards = vec![lock.lock().unwrap()];
    assert_eq!(lock.recursion_count(), 1);
    guards.extend([lock.lock().unwrap(), lock.try_lock().unwrap()]);
    assert_eq!(lock.recursion_count(), 3);
    on_thread(|| {
        assert_eq!(lock.recursion_count(), 0);
        assert!(lock.is_locked() && !lock.is_owned());
    });
    guards.pop();
    assert_eq!(lock.recursion_count(), 2);
    guards.clear();
    assert!(!lock.is_owned() && lock.recursion_count() == 0);
}

// EventTests.

#[test]
fn test_is_set() {
    let event = Event::new();
    assert!(!event.is_set());
    let clear = format!("{event:?}");
    for _ in 0..2 {
        event.set();
        assert!(event.is_set());
    }
    assert_ne!(format!("{event:?}"), clear);
    for _ in 0..2 {
        event.clear();
        assert!(!event.is_set());
    }
}

/// Five threads wait twice, and one `set` ends both waits of all.
#[test]
fn test_notify() {
    in_time(|| {
        let event = Event::new();
        for _ in 0..2 {
            let (first, second) = (AtomicUsize::new(0), AtomicUsize::new(0));
            thread::scope(|scope| {
                for _ in 0..5 {
                    scope.spawn(|| {
                        event.wait();
                        first.fetch_add(1, SeqCst);
                        event.wait();
                        second.fetch_add(1, SeqCst);
                    });
                }
                thread::sleep(SHORT);
                assert_eq!(first.load(SeqCst), 0);
                event.set();
            });
            assert_eq!((first.into_inner(), second.into_inner()), (5, 5));
            event.set();
            event.clear();
        }
    });
}

#[test]
fn test_event_timeout() {
    let event = Event::new();
    assert!(!event.wait_for(Duration::ZERO));
    let began = Instant::now();
    assert!(!event.wait_for(SHORT));
    assert!(began.elapsed() >= SHORT);
    event.set();
    assert!(event.wait_for(Duration::ZERO));
    assert!(event.wait_for(Duration::MAX));
    assert!(event.wait_until(Instant::now()));
}

/// It is cleared at once, and all who waited learn that it was set.
#[test]
fn test_set_and_clear() {
    in_time(|| {
        let event = Event::new();
        let waiting = AtomicUsize::new(0);
        thread::scope(|scope| {
            let threads = [(); 5].map(|()| {
                scope.spawn(|| {
                    waiting.fetch_add(1, SeqCst);
                    event.wait_for(Duration::from_secs(50))
                })
            });
            while waiting.load(SeqCst) < 5 {
                thread::yield_now();
            }
            thread::sleep(SHORT);
            event.set();
            event.clear();
            for thread in threads {
                assert!(thread.join().unwrap());
            }
        });
    });
}

// SemaphoreTests. Negative numbers, and a time together with a mere try, don't compile.

#[test]
fn test_semaphore_constructor() {
    let semaphore = Semaphore::new(0);
    assert_eq!(
        semaphore.try_acquire().map(drop),
        Err(AcquireError::WouldBlock)
    );
    assert_eq!(Semaphore::new(usize::MAX).available_permits(), usize::MAX);
}

#[test]
fn test_semaphore_acquire() {
    let one = Semaphore::new(1);
    drop(one.acquire().unwrap());
    let two = Semaphore::new(2);
    let permits = (two.acquire().unwrap(), two.acquire().unwrap());
    assert!(two.try_acquire().is_err());
    drop(permits);
    assert_eq!(two.available_permits(), 2);
    // Dropped while acquired.
    two.acquire().unwrap().forget();
}

/// Ten threads and seven permits: seven get one, then as many as are added.
#[test]
fn test_acquire_contended_by_phases() {
    for release_many in [false, true] {
        in_time(move || {
            let semaphore = Semaphore::new(7);
            semaphore.acquire().unwrap().forget();
            let got = AtomicUsize::new(0);
            let reaches = |goal: usize| {
                while got.load(SeqCst) < goal {
                    thread::yield_now();
                }
                thread::sleep(Duration::from_millis(10));
                assert_eq!(got.load(SeqCst), goal);
            };
            let add = |permits: usize| {
                if release_many {
                    semaphore.add_permits(permits).unwrap();
                } else {
                    (0..permits).for_each(|_| semaphore.add_permits(1).unwrap());
                }
            };
            thread::scope(|scope| {
                for _ in 0..10 {
                    scope.spawn(|| {
                        for _ in 0..2 {
                            semaphore.acquire().unwrap().forget();
                            got.fetch_add(1, SeqCst);
                        }
                    });
                }
                reaches(6);
                add(7);
                reaches(13);
                add(6);
                reaches(19);
                assert!(semaphore.try_acquire().is_err());
                add(1);
            });
            assert_eq!(semaphore.available_permits(), 0);
        });
    }
}

#[test]
fn test_semaphore_try_acquire() {
    let semaphore = Semaphore::new(2);
    let permits = [semaphore.try_acquire(), semaphore.try_acquire()].map(Result::unwrap);
    assert!(semaphore.try_acquire().is_err());
    drop(permits);
    assert!(semaphore.try_acquire().is_ok());
}

#[test]
fn test_semaphore_try_acquire_contended() {
    let semaphore = Semaphore::new(4);
    let _permit = semaphore.acquire().unwrap();
    let got = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..5 {
            scope.spawn(|| {
                for _ in 0..2 {
                    if let Ok(permit) = semaphore.try_acquire() {
                        permit.forget();
                        got.fetch_add(1, SeqCst);
                    }
                }
            });
        }
    });
    assert_eq!(got.into_inner(), 3);
}

#[test]
fn test_semaphore_acquire_timeout() {
    let semaphore = Semaphore::new(2);
    let soon = Duration::from_millis(5);
    let first = semaphore.try_acquire_for(soon).unwrap();
    let _second = semaphore.try_acquire_for(soon).unwrap();
    assert_eq!(
        semaphore.try_acquire_for(soon).map(drop),
        Err(AcquireError::TimedOut)
    );
    drop(first);
    let _third = semaphore.try_acquire_for(soon).unwrap();
    let began = Instant::now();
    assert!(semaphore.try_acquire_for(SHORT).is_err());
    assert!(began.elapsed() >= SHORT);
    assert!(semaphore.try_acquire_until(Instant::now()).is_err());
}

#[test]
fn test_default_value() {
    in_time(|| {
        let semaphore = Arc::new(Semaphore::new(1));
        semaphore.acquire().unwrap().forget();
        let other = thread::spawn({
            let semaphore = semaphore.clone();
            move || semaphore.acquire().unwrap().forget()
        });
        thread::sleep(Duration::from_millis(10));
        assert!(!other.is_finished());
        semaphore.add_permits(1).unwrap();
        other.join().unwrap();
    });
}

#[test]
fn test_semaphore_with() {
    let semaphore = Semaphore::new(2);
    let panic = catch_unwind(AssertUnwindSafe(|| {
        let _first = semaphore.acquire().unwrap();
        let _second = semaphore.acquire().unwrap();
        assert!(semaphore.try_acquire().is_err());
        panic!("with all permits");
    }));
    assert!(panic.is_err());
    assert_eq!(semaphore.available_permits(), 2);
}

#[test]
fn test_release_unacquired() {
    let unbounded = Semaphore::new(1);
    unbounded.add_permits(2).unwrap();
    assert_eq!(unbounded.available_permits(), 3);
    assert!(format!("{unbounded:?}").contains("permits: 3"));
    let bounded = Semaphore::bounded(1);
    let over = Err(ReleaseError::OverRelease { max: 1 });
    assert_eq!(bounded.add_permits(1), over);
    drop(bounded.acquire().unwrap());
    assert_eq!(bounded.add_permits(1), over);
    let huge = Semaphore::new(usize::MAX);
    assert_eq!(
        huge.add_permits(1),
        Err(ReleaseError::OverRelease { max: usize::MAX })
    );
}

#[test]
fn test_bounded_semaphore_limit() {
    for limit in 1..10 {
        let semaphore = Semaphore::bounded(limit);
        thread::scope(|scope| {
            for _ in 0..limit {
                scope.spawn(|| drop(semaphore.acquire().unwrap()));
            }
        });
        assert!(semaphore.add_permits(1).is_err());
        // Too many at once: none is added.
        let permit = semaphore.acquire().unwrap();
        assert!(semaphore.add_permits(2).is_err());
        assert_eq!(semaphore.available_permits(), limit - 1);
        drop(permit);
        assert!(format!("{semaphore:?}").contains(&format!("limit: {limit}")));
    }
}

/// Who wants many isn't passed over for those who want few.
#[test]
fn permits_are_dealt_out_in_turn() {
    in_time(|| {
        let semaphore = Semaphore::new(1);
        let order = std::sync::Mutex::new(Vec::new());
        thread::scope(|scope| {
            for wanted in [3, 1, 2] {
                let (semaphore, order) = (&semaphore, &order);
                scope.spawn(move || {
                    let permits = semaphore.acquire_many(wanted).unwrap();
                    order.lock().unwrap().push(wanted);
                    permits.forget();
                });
                thread::sleep(SHORT);
            }
            // There is one, but somebody waits.
            assert_eq!(
                semaphore.try_acquire().map(drop),
                Err(AcquireError::WouldBlock)
            );
            for _ in 0..5 {
                semaphore.add_permits(1).unwrap();
                thread::sleep(Duration::from_millis(10));
            }
        });
        assert_eq!(order.into_inner().unwrap(), [3, 1, 2]);
        let barging = Semaphore::barging(1);
        thread::scope(|scope| {
            scope.spawn(|| barging.acquire_many(2).unwrap().forget());
            thread::sleep(SHORT);
            barging.try_acquire().unwrap().forget();
            barging.add_permits(2).unwrap();
        });
    });
}

/// Somebody who wants many gives up, and those behind go on.
#[test]
fn a_wait_that_times_out_stands_in_nobodys_way() {
    in_time(|| {
        let semaphore = Semaphore::new(1);
        thread::scope(|scope| {
            let greedy = scope.spawn(|| semaphore.try_acquire_many_for(5, SHORT * 2).map(drop));
            thread::sleep(SHORT);
            let modest = scope.spawn(|| semaphore.acquire().map(drop));
            assert_eq!(greedy.join().unwrap(), Err(AcquireError::TimedOut));
            assert_eq!(modest.join().unwrap(), Ok(()));
        });
    });
}

#[test]
fn a_semaphore_that_is_closed_refuses_all() {
    in_time(|| {
        let semaphore = Semaphore::new(1);
        let permit = semaphore.acquire().unwrap();
        thread::scope(|scope| {
            let waits = [(); 3].map(|()| scope.spawn(|| semaphore.acquire().map(drop)));
            thread::sleep(SHORT);
            semaphore.close();
            for wait in waits {
                assert_eq!(wait.join().unwrap(), Err(AcquireError::Closed));
            }
        });
        drop(permit);
        assert_eq!(
            (semaphore.available_permits(), semaphore.is_closed()),
            (1, true)
        );
        assert_eq!(semaphore.try_acquire().map(drop), Err(AcquireError::Closed));
    });
}

/// Permits that come and go, among waits that give up: none is lost, and there are never too many.
#[test]
fn permits_are_neither_lost_nor_made() {
    let seed = seed();
    let _seed = SeedOnFailure(seed);
    in_time(move || {
        let semaphore = Arc::new(Semaphore::bounded(3));
        let out = Arc::new(AtomicUsize::new(0));
        thread::scope(|scope| {
            for number in 0..4 {
                let (semaphore, out, mut rng) = (&semaphore, &out, Rng(seed + number));
                scope.spawn(move || {
                    for _ in 0..scaled(5_000, 20) {
                        let wanted = 1 + rng.below(3);
                        let short = Duration::from_micros(rng.below(100) as u64);
                        let permits = match rng.below(3) {
                            0 => semaphore.try_acquire_many(wanted).ok(),
                            1 => semaphore.acquire_many(wanted).ok(),
                            _ => {
                                let one = semaphore.try_acquire_for(short).ok();
                                assert!(out.load(SeqCst) <= 3);
                                drop(one);
                                continue;
                            }
                        };
                        if let Some(permits) = permits {
                            assert!(out.fetch_add(wanted, SeqCst) + wanted <= 3);
                            thread::yield_now();
                            out.fetch_sub(wanted, SeqCst);
                            drop(permits);
                        }
                    }
                });
            }
        });
        assert_eq!(semaphore.available_permits(), 3);
    });
}

// Deadlocks.

/// A ring of threads, each of which holds a lock and wants the next one's. As often as it is tried one of them, and one
/// only, is refused.
#[test]
fn a_ring_has_one_victim() {
    for size in [2, 3, 8, 32].map(|size| scaled(size, 2)) {
        for _ in 0..scaled(20, 2) {
            let refused = in_time(move || {
                let locks: Vec<_> = (0..size).map(Mutex::new).collect();
                let all_hold = Barrier::new(size);
                let ring = |first: usize| {
                    let own = locks[first].lock().unwrap();
                    all_hold.wait();
                    let next = locks[(first + 1) % size].lock();
                    if let Err(AcquireError::Deadlock(report)) = &next {
                        let steps = report.steps();
                        assert_eq!(steps.len(), size);
                        assert_eq!(steps[0].thread, ThreadKey::current());
                        for (step, next) in steps.iter().zip(steps.iter().cycle().skip(1)) {
                            assert_eq!(step.holder, next.thread);
                        }
                    }
                    drop(own);
                    usize::from(is_deadlock(&next))
                };
                thread::scope(|scope| {
                    let ring = &ring;
                    let threads: Vec<_> = (0..size).map(|n| scope.spawn(move || ring(n))).collect();
                    threads
                        .into_iter()
                        .map(|thread| thread.join().unwrap())
                        .sum::<usize>()
                })
            });
            assert_eq!(refused, 1, "of {size}");
        }
    }
}

/// Different kinds of locks in one circle.
#[test]
fn all_kinds_of_locks_take_part() {
    let refused = in_time(|| {
        let (mutex, rlock, lock) = (
            Mutex::named("mutex", ()),
            RLock::named("rlock", ()),
            Lock::owned_named("lock"),
        );
        let all_hold = Barrier::new(3);
        thread::scope(|scope| {
            let threads = [
                scope.spawn(|| {
                    let _own = mutex.lock().unwrap();
                    all_hold.wait();
                    rlock.lock().map(drop)
                }),
                scope.spawn(|| {
                    let _own = rlock.lock().unwrap();
                    all_hold.wait();
                    lock.lock().map(drop)
                }),
                scope.spawn(|| {
                    let _own = lock.lock().unwrap();
                    all_hold.wait();
                    mutex.lock().map(drop)
                }),
            ];
            threads.map(|thread| thread.join().unwrap())
        })
    });
    let reports: Vec<_> = refused
        .iter()
        .filter_map(|answer| answer.as_ref().err())
        .collect();
    assert_eq!(reports.len(), 1);
    let text = reports[0].to_string();
    for name in ["mutex", "rlock", "lock"] {
        assert!(
            text.contains(&format!(" waits for {name}, held by thread ")),
            "{text}"
        );
    }
}

#[test]
fn to_wait_for_oneself_is_a_deadlock() {
    let mutex = Mutex::new(());
    let guard = mutex.lock().unwrap();
    assert!(is_deadlock(&mutex.lock()));
    // It would be one again.
    assert!(is_deadlock(&deadlock::retry(|| mutex.lock().map(drop))));
    assert_eq!(
        mutex.try_lock_for(SHORT).map(drop),
        Err(AcquireError::TimedOut)
    );
    drop(guard);
    assert!(mutex.lock().is_ok());
}

/// Waits that end by themselves are no deadlock, and no part of one.
#[test]
fn waits_with_a_limit_are_left_alone() {
    in_time(|| {
        let (a, b) = (Mutex::new(()), Mutex::new(()));
        let both_hold = Barrier::new(2);
        thread::scope(|scope| {
            let timed = scope.spawn(|| {
                let _a = a.lock().unwrap();
                both_hold.wait();
                b.try_lock_for(SHORT * 4).map(drop)
            });
            let patient = scope.spawn(|| {
                let _b = b.lock().unwrap();
                both_hold.wait();
                a.lock().map(drop)
            });
            assert_eq!(timed.join().unwrap(), Err(AcquireError::TimedOut));
            assert_eq!(patient.join().unwrap(), Ok(()));
        });
    });
}

/// A thread that waits for somebody in a circle, without being part of it, isn't refused.
#[test]
fn who_waits_for_a_circle_is_not_part_of_it() {
    in_time(|| {
        let (a, b) = (Mutex::new(()), Mutex::new(()));
        let all = Barrier::new(3);
        thread::scope(|scope| {
            let circle = [(&a, &b), (&b, &a)].map(|(own, other)| {
                let all = &all;
                scope.spawn(move || {
                    let _own = own.lock().unwrap();
                    all.wait();
                    let refused = is_deadlock(&other.lock());
                    // It holds on for a while.
                    thread::sleep(SHORT);
                    refused
                })
            });
            let beside = scope.spawn(|| {
                all.wait();
                a.lock().map(drop)
            });
            assert_eq!(beside.join().unwrap(), Ok(()));
            let refused = circle.map(|thread| thread.join().unwrap());
            assert_eq!(refused.iter().filter(|&&refused| refused).count(), 1);
        });
    });
}

/// Locks that all threads take in one order.
#[test]
fn ordered_locking_gives_no_false_alarm() {
    in_time(|| {
        let locks: Vec<_> = (0..4).map(|_| Mutex::new(0_u64)).collect();
        let times = scaled(30_000, 30) as u64;
        thread::scope(|scope| {
            for number in 0..4 {
                let (locks, mut rng) = (&locks, Rng(number));
                scope.spawn(move || {
                    for _ in 0..times {
                        let first = rng.below(3);
                        let second = first + 1 + rng.below(3 - first);
                        let mut one = locks[first].lock().unwrap();
                        if rng.below(500) == 0 {
                            // Long enough for others to look for a circle.
                            thread::sleep(Duration::from_millis(2));
                        }
                        let mut other = locks[second].lock().unwrap();
                        *one += 1;
                        *other += 1;
                    }
                });
            }
        });
        let sum: u64 = locks.into_iter().map(Mutex::into_inner).sum();
        assert_eq!(sum, 4 * times * 2);
    });
}

/// Locks that threads take in any order, again when they are refused.
#[test]
fn locking_in_any_order_gets_on() {
    let seed = seed();
    let _seed = SeedOnFailure(seed);
    in_time(move || {
        let accounts: Vec<_> = (0..3).map(|_| Mutex::new(100_i64)).collect();
        let refused = AtomicUsize::new(0);
        thread::scope(|scope| {
            for number in 0..4 {
                let (accounts, refused, mut rng) = (&accounts, &refused, Rng(seed + number));
                scope.spawn(move || {
                    for _ in 0..scaled(300, 5) {
                        let from = rng.below(3);
                        let to = (from + 1 + rng.below(2)) % 3;
                        deadlock::retry(|| {
                            let mut from = accounts[from].lock()?;
                            thread::yield_now();
                            let mut to = accounts[to].lock().inspect_err(|_| {
                                refused.fetch_add(1, SeqCst);
                            })?;
                            *from -= 1;
                            *to += 1;
                            Ok(())
                        })
                        .unwrap();
                    }
                });
            }
        });
        let sum: i64 = accounts.into_iter().map(Mutex::into_inner).sum();
        assert_eq!(sum, 300);
    });
}

// Holders that end.

#[test]
fn waits_for_a_thread_that_has_ended_end() {
    let mut mutex = Mutex::new(5);
    let dead = on_thread(|| {
        std::mem::forget(mutex.lock());
        ThreadKey::current()
    });
    let died = Err(AcquireError::OwnerDied { owner: dead });
    assert_eq!(mutex.lock().map(drop), died);
    assert_eq!(mutex.lock().map(drop), died);
    assert_eq!(mutex.try_lock().map(drop), died);
    assert_eq!(mutex.try_lock_for(SHORT).map(drop), died);
    assert!(mutex.is_locked());
    *mutex.get_mut() += 1;
    assert_eq!(mutex.into_inner(), 6);
}

/// The owner ends when they have been parked for long, some of them with a time limit.
#[test]
fn parked_waits_end_with_the_owner() {
    let answers = in_time(|| {
        let (rlock, held) = (Arc::new(RLock::new(())), Arc::new(Barrier::new(5)));
        let owner = thread::spawn({
            let (rlock, held) = (rlock.clone(), held.clone());
            move || {
                std::mem::forget(rlock.lock());
                held.wait();
                thread::sleep(SHORT * 2);
                ThreadKey::current()
            }
        });
        let waits: Vec<_> = (0..4)
            .map(|number| {
                let (rlock, held) = (rlock.clone(), held.clone());
                thread::spawn(move || {
                    held.wait();
                    match number {
                        0 => rlock.try_lock_for(Duration::from_secs(100)).map(drop),
                        _ => rlock.lock().map(drop),
                    }
                })
            })
            .collect();
        let owner = owner.join().unwrap();
        waits
            .into_iter()
            .map(|wait| wait.join().unwrap() == Err(AcquireError::OwnerDied { owner }))
            .collect::<Vec<_>>()
    });
    assert_eq!(answers, [true; 4]);
}

/// A thread that is ending waits for one that has ended.
#[test]
fn late_waits_end_with_the_owner() {
    static MUTEX: Mutex<()> = Mutex::new(());
    static ANSWER: Mutex<Option<Result<(), AcquireError>>> = Mutex::new(None);
    struct Late;
    impl Drop for Late {
        fn drop(&mut self) {
            let answer = MUTEX.lock().map(drop);
            *ANSWER.lock().unwrap() = Some(answer);
        }
    }
    thread_local! { static LATE: Late = const { Late } }
    let owner = on_thread(|| {
        std::mem::forget(MUTEX.lock());
        ThreadKey::current()
    });
    in_time(|| on_thread(|| LATE.with(|_| ())));
    // Before or after its own end was told.
    let answer = ANSWER.lock().unwrap().take();
    assert_eq!(answer, Some(Err(AcquireError::OwnerDied { owner })));
}

/// A guard that lies in a thread-local is dropped before or after the end of its thread is told. Others never get at the
/// data while it is there.
#[test]
fn guards_in_thread_locals_are_given_back_or_given_up() {
    struct Slot(RefCell<Option<MutexGuard<'static, u32>>>);
    thread_local! {
        static BEFORE: Slot = const { Slot(RefCell::new(None)) };
        static AFTER: Slot = const { Slot(RefCell::new(None)) };
    }
    for after in [false, true] {
        let mutex: &'static Mutex<u32> = Box::leak(Box::new(Mutex::new(0)));
        let (held, waits) = mpsc::channel();
        let waiting = Arc::new(AtomicBool::new(false));
        let owner = thread::spawn({
            let waiting = waiting.clone();
            move || {
                if after {
                    // The crate's thread-locals are made first, and go last.
                    drop(mutex.lock());
                }
                let slot = if after { &AFTER } else { &BEFORE };
                slot.with(|slot| *slot.0.borrow_mut() = Some(mutex.lock().unwrap()));
                held.send(()).unwrap();
                while !waiting.load(SeqCst) {
                    thread::yield_now();
                }
                thread::sleep(SHORT);
            }
        });
        waits.recv().unwrap();
        waiting.store(true, SeqCst);
        match mutex.lock() {
            Ok(mut guard) => *guard += 1,
            Err(error) => assert!(matches!(error, AcquireError::OwnerDied { .. }), "{error}"),
        }
        owner.join().unwrap();
    }
}

/// Locks are usable while thread-locals are destroyed, also again and again.
#[test]
fn threads_that_are_ending_may_lock() {
    static MUTEX: Mutex<u32> = Mutex::new(0);
    static RLOCK: RLock<u32> = RLock::new(0);
    struct Late;
    impl Drop for Late {
        fn drop(&mut self) {
            let mut guard = MUTEX.lock().unwrap();
            assert!(is_deadlock(&MUTEX.lock()));
            *guard += 1;
            let outer = RLOCK.lock().unwrap();
            let inner = RLOCK.lock().unwrap();
            assert_eq!((*outer, *inner, RLOCK.recursion_count()), (0, 0, 2));
        }
    }
    thread_local! {
        static BEFORE: Late = const { Late };
        static AFTER: Late = const { Late };
    }
    in_time(|| {
        on_thread(|| {
            BEFORE.with(|_| ());
            drop(MUTEX.lock());
            AFTER.with(|_| ());
        });
    });
    assert_eq!(*MUTEX.lock().unwrap(), 2);
    assert!(!RLOCK.is_locked());
}
