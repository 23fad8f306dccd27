//! `sync` among more threads than loom can explore: circles of all kinds, queues of threads and tasks, barriers,
//! scopes.

use std::error::Error;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Waker};
use std::time::Duration;

use hapax::model::{end_locks, pass_time};
use hapax::sync::{
    AcquireError, Barrier, BarrierError, Cancelled, Condition, Event, Monitor, Mutex, RLock,
    RwLock, ScopeError, Semaphore, TrackedSemaphore, WaitError, check_cancelled, deadlock, scope,
    sleep,
};
use hapax_shuttle_tests::{below, explore};
use shuttle::thread::{self, JoinHandle};

fn spawn(f: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    thread::spawn(move || {
        f();
        end_locks();
    })
}

fn scenario(executions: usize, f: impl Fn() + Send + Sync + 'static) {
    explore(executions, move || {
        deadlock::set_check_after(Duration::ZERO);
        f();
        assert_eq!(deadlock::registered_waits(), 0, "of waits that are over");
        end_locks();
    });
}

/// What one thread at a time is in. Not seen by shuttle: to look is no step.
#[derive(Default)]
struct Inside(AtomicUsize);

impl Inside {
    /// shuttle may switch to others while the caller is in.
    fn enter(&self, most: usize) {
        assert!(self.0.fetch_add(1, Relaxed) < most);
        thread::yield_now();
        self.0.fetch_sub(1, Relaxed);
    }
}

enum Thing {
    Mutex(Mutex<()>),
    RLock(RLock<()>),
    RwLock(RwLock<()>),
    Permits(TrackedSemaphore),
}

impl Thing {
    fn with<R>(&self, f: impl FnOnce() -> Result<R, AcquireError>) -> Result<R, AcquireError> {
        match self {
            Self::Mutex(mutex) => mutex.lock().and_then(|_guard| f()),
            Self::RLock(lock) => lock.lock().and_then(|_guard| f()),
            Self::RwLock(lock) => lock.write().and_then(|_guard| f()),
            Self::Permits(semaphore) => semaphore.acquire().and_then(|_permit| f()),
        }
    }
}

/// Four threads take things of all kinds in any order.
///
/// Would catch: a circle that nobody breaks; two at a time that have a thing; a thread that is refused for nothing, again
/// and again.
#[test]
fn anything_in_any_order() {
    scenario(30_000, || {
        let things = Arc::new([
            (Thing::Mutex(Mutex::new(())), Inside::default()),
            (Thing::RLock(RLock::new(())), Inside::default()),
            (Thing::RwLock(RwLock::new(())), Inside::default()),
            (Thing::Permits(Semaphore::tracked(1)), Inside::default()),
        ]);
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let things = things.clone();
                spawn(move || {
                    for _ in 0..2 {
                        let first = below(4);
                        let second = (first + 1 + below(3)) % 4;
                        let take = || {
                            things[first].0.with(|| {
                                things[second].0.with(|| {
                                    things[first].1.enter(1);
                                    things[second].1.enter(1);
                                    Ok(())
                                })
                            })
                        };
                        while let Err(error) = take() {
                            let AcquireError::Deadlock(report) = error else {
                                panic!("{error}")
                            };
                            let steps = report.steps();
                            assert!(steps.len() > 1);
                            for (step, next) in steps.iter().zip(steps.iter().cycle().skip(1)) {
                                assert_eq!(step.holder, next.thread);
                            }
                            thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
    });
}

/// The same things, in order: nobody is refused.
#[test]
fn anything_in_order() {
    scenario(30_000, || {
        let things = Arc::new([
            Thing::Permits(Semaphore::tracked(1)),
            Thing::Mutex(Mutex::new(())),
            Thing::RwLock(RwLock::new(())),
            Thing::Permits(Semaphore::tracked(2)),
        ]);
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let things = things.clone();
                spawn(move || {
                    for _ in 0..2 {
                        let first = below(3);
                        let second = first + 1 + below(3 - first);
                        let take = || things[first].with(|| things[second].with(|| Ok(())));
                        take().expect("there is no circle");
                    }
                })
            })
            .collect();
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
    });
}

/// Threads and tasks want one to three permits; some futures are dropped, some waits time out.
///
/// Would catch: permits that are lost or made; somebody who sleeps beside permits that are free.
#[test]
fn permits_come_and_go() {
    scenario(30_000, || {
        let is_barging = below(2) == 1;
        let semaphore = if is_barging {
            Semaphore::barging(3)
        } else {
            Semaphore::new(3)
        };
        let shared = Arc::new((semaphore, Inside::default()));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let shared = shared.clone();
                spawn(move || {
                    for _ in 0..3 {
                        let wanted = 1 + below(3);
                        if below(3) == 0 {
                            let mut wait = pin!(shared.0.acquire_many_async(wanted));
                            let mut context = Context::from_waker(Waker::noop());
                            let _ = wait.as_mut().poll(&mut context);
                            thread::yield_now();
                            continue;
                        }
                        let hour = Duration::from_secs(3600);
                        let permit = match below(2) {
                            0 => shared.0.acquire_many(wanted),
                            _ => shared.0.try_acquire_many_for(wanted, hour),
                        };
                        match permit {
                            Ok(permit) => {
                                shared.1.enter(3);
                                drop(permit);
                            }
                            Err(error) => assert_eq!(error, AcquireError::TimedOut),
                        }
                    }
                })
            })
            .collect();
        thread::yield_now();
        pass_time();
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        assert_eq!(shared.0.available_permits(), 3);
    });
}

/// Producers and consumers of a bounded queue, over an `RLock` that they hold twice.
///
/// Would catch: a notification that is lost, so that somebody sleeps on.
#[test]
fn a_queue_gets_on() {
    scenario(30_000, || {
        let queue = Arc::new((
            RLock::new(AtomicUsize::new(0)),
            Condition::new(),
            Condition::new(),
        ));
        let producers = (0..2).map(|_| {
            let queue = queue.clone();
            spawn(move || {
                let (items, not_empty, not_full) = &*queue;
                for _ in 0..3 {
                    let _outer = items.lock().unwrap();
                    let guard = items.lock().unwrap();
                    let guard = not_full.wait_while(guard, |items| items.load(Relaxed) == 1);
                    let guard = guard.unwrap();
                    guard.fetch_add(1, Relaxed);
                    not_empty.notify_one(&guard).unwrap();
                }
            })
        });
        let consumers = (0..2).map(|_| {
            let queue = queue.clone();
            spawn(move || {
                let (items, not_empty, not_full) = &*queue;
                for _ in 0..3 {
                    let guard = items.lock().unwrap();
                    let guard = not_empty.wait_while(guard, |items| items.load(Relaxed) == 0);
                    let guard = guard.unwrap();
                    guard.fetch_sub(1, Relaxed);
                    not_full.notify_one(&guard).unwrap();
                }
            })
        });
        let threads: Vec<_> = producers.chain(consumers).collect();
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        assert!(!queue.0.is_locked());
    });
}

/// Three threads pass a barrier three times, each round together.
///
/// Would catch: a thread that passes too early, or with the place of another one; two generations in one.
#[test]
fn a_barrier_keeps_rounds_apart() {
    scenario(30_000, || {
        const THREADS: usize = 3;
        let rounds = Arc::new((
            Barrier::new(THREADS).unwrap(),
            AtomicUsize::new(0),
            AtomicUsize::new(0),
        ));
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                let rounds = rounds.clone();
                spawn(move || {
                    let (barrier, arrived, places) = &*rounds;
                    for round in 1..=3 {
                        arrived.fetch_add(1, Relaxed);
                        let place = barrier.wait().unwrap();
                        assert!(arrived.load(Relaxed) >= round * THREADS);
                        places.fetch_add(place, Relaxed);
                    }
                })
            })
            .collect();
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        assert_eq!(rounds.2.load(Relaxed), 3 * (1 + 2));
        assert_eq!((rounds.0.waiting(), rounds.0.is_broken()), (0, false));
    });
}

// Scopes and cancellation.

type Fallible = Result<(), Box<dyn Error + Send + Sync>>;

/// A scope whose threads end as the other ones do. Some time it fails, if it isn't done by then.
fn failing_scope<'env>(
    children: Vec<Box<dyn FnOnce() -> Fallible + Send + 'env>>,
) -> Result<Vec<()>, ScopeError> {
    scope(|scope| {
        for child in children {
            scope.spawn(move || {
                let answer = child();
                end_locks();
                answer
            });
        }
        (0..below(20)).for_each(|_| thread::yield_now());
        Err("enough")
    })
}

/// Three children want permits, and are cancelled at some time; two other threads want some as well.
///
/// Would catch: a permit that is granted to who is cancelled, and lost; somebody who sleeps on though it was cancelled, or
/// beside permits that are free; an answer that is overlooked.
#[test]
fn cancellation_races_grants() {
    scenario(30_000, || {
        let semaphore = if below(2) == 1 {
            Semaphore::barging(2)
        } else {
            Semaphore::new(2)
        };
        let shared = Arc::new((semaphore, Inside::default(), Semaphore::tracked(2)));
        let take = |(semaphore, inside, tracked): &(Semaphore, Inside, TrackedSemaphore)| {
            for _ in 0..2 {
                if below(3) == 0 {
                    drop(tracked.acquire_many(1 + below(2))?);
                }
                let permit = semaphore.acquire_many(1 + below(2))?;
                inside.enter(2);
                drop(permit);
            }
            Ok::<_, AcquireError>(())
        };
        let others = [shared.clone(), shared.clone()]
            .map(|shared| spawn(move || take(&shared).expect("nobody cancels it")));
        let children = (0..3).map(|_| {
            let shared = &shared;
            Box::new(move || take(shared).map_err(Into::into)) as Box<_>
        });
        let end = failing_scope(children.collect()).unwrap_err();
        // All others were only cancelled.
        assert_eq!(end.to_string(), "enough");
        others.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(shared.0.available_permits(), 2);
        assert_eq!(shared.2.available_permits(), 2);
    });
}

/// Two children and two other threads wait for turns, of which there is one for each of the latter.
///
/// Would catch: a notification that was for who is cancelled, and isn't passed on.
#[test]
fn cancellation_races_notifications() {
    scenario(30_000, || {
        let shared = Arc::new((Mutex::new(0), Condition::new()));
        let take = |(turns, changed): &(Mutex<u32>, Condition)| {
            let mut turns = changed.wait_while(turns.lock()?, |turns| **turns == 0)?;
            *turns -= 1;
            Ok::<_, WaitError>(())
        };
        let others = [shared.clone(), shared.clone()]
            .map(|shared| spawn(move || take(&shared).expect("nobody cancels it")));
        let taken = AtomicUsize::new(0);
        let children = (0..2).map(|_| {
            let (shared, taken) = (&shared, &taken);
            Box::new(move || {
                take(shared)?;
                taken.fetch_add(1, Relaxed);
                Ok(())
            }) as Box<_>
        });
        let theirs = shared.clone();
        let giver = spawn(move || {
            for _ in 0..2 {
                let mut turns = theirs.0.lock().unwrap();
                *turns += 1;
                theirs.1.notify_one(&turns).unwrap();
            }
        });
        let end = failing_scope(children.collect()).unwrap_err();
        assert_eq!(end.to_string(), "enough");
        giver.join().unwrap();
        // What they have taken the others don't get.
        for _ in 0..taken.into_inner() {
            let mut turns = shared.0.lock().unwrap();
            *turns += 1;
            shared.1.notify_one(&turns).unwrap();
        }
        others.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(*shared.0.lock().unwrap(), 0);
    });
}

/// Children wait for an event, a barrier, a monitor's condition, a lock that the opener has, and the end of their time, when
/// the scope fails, or when some of that comes about.
///
/// Would catch: somebody who sleeps on; a lock that stays held, or data that two threads get at; an opener that is told of a
/// deadlock with who is cancelled; a failure that stands before the one that it came of; a wait that stays registered.
#[test]
fn cancellation_ends_all_waits() {
    scenario(30_000, || {
        let (event, barrier) = (Event::new(), Barrier::new(3).unwrap());
        let monitor = Monitor::new(0);
        let (mutex, inside) = (Mutex::new(()), Inside::default());
        let is_broken = |error| match error {
            BarrierError::Cancelled => Fallible::Err(error.into()),
            // By another one who was cancelled.
            _ => Ok(()),
        };
        let guard = mutex.lock().unwrap();
        let children: Vec<Box<dyn FnOnce() -> Fallible + Send + '_>> = vec![
            Box::new(|| Ok(event.wait()?)),
            Box::new(|| barrier.wait().map_or_else(is_broken, |_| Ok(()))),
            Box::new(|| barrier.wait().map_or_else(is_broken, |_| Ok(()))),
            Box::new(|| {
                let guard = monitor.enter()?.wait_while(|number| *number == 0)?;
                inside.enter(1);
                drop(guard);
                Ok(())
            }),
            Box::new(|| {
                let mut guard = monitor.enter()?;
                inside.enter(1);
                *guard += below(2);
                Ok(())
            }),
            Box::new(|| Ok(mutex.lock().map(drop)?)),
            Box::new(|| {
                sleep(Duration::from_secs(3600)).unwrap_err();
                Err("then".into())
            }),
            Box::new(|| {
                if below(2) == 0 {
                    event.set();
                }
                Ok(())
            }),
        ];
        let end = failing_scope(children).unwrap_err();
        assert_eq!(end.to_string(), "enough; then");
        drop(guard);
        assert!(!mutex.is_locked() && !monitor.is_locked());
        assert_eq!(barrier.waiting(), 0);
    });
}

/// Scopes in scopes, any of which may fail, or one of its children.
///
/// Would catch: a child that isn't cancelled with an outer scope, or is with an inner one; a result that is lost; an opener that
/// sleeps on though all are done.
#[test]
fn scopes_in_scopes() {
    fn nest(depth: usize, failures: &AtomicUsize) -> Result<usize, ScopeError> {
        let children = 1 + below(2);
        let results = scope(|scope| {
            for _ in 0..children {
                let within = scope.clone();
                scope.spawn(move || {
                    let answer = match below(4) {
                        0 => {
                            failures.fetch_add(1, Relaxed);
                            Err("failed".into())
                        }
                        1 if failures.load(Relaxed) > 0 => {
                            // One that was begun meanwhile, or isn't.
                            within.spawn(|| {
                                end_locks();
                                Ok::<_, Cancelled>(0)
                            });
                            Ok(1)
                        }
                        _ if depth > 0 => nest(depth - 1, failures).map_err(Into::into),
                        _ => check_cancelled().map(|()| 1).map_err(Into::into),
                    };
                    end_locks();
                    answer as Result<usize, Box<dyn Error + Send + Sync>>
                });
            }
            check_cancelled()
        })?;
        assert!(results.len() >= children);
        Ok(results.into_iter().sum())
    }
    scenario(30_000, || {
        let failures = AtomicUsize::new(0);
        let result = nest(2, &failures);
        match failures.into_inner() {
            0 => assert!(result.unwrap() > 0),
            most => {
                let failures = result.unwrap_err().into_failures();
                assert!(failures.len() <= most);
                assert!(
                    failures
                        .iter()
                        .all(|failure| failure.to_string().contains("failed"))
                );
            }
        }
        assert_eq!(check_cancelled(), Ok(()));
    });
}

/// Children take locks in any order, with the opener, which then waits for them. No circle is left, and the scope fails if one of
/// its threads was refused.
///
/// Would catch: a circle through an opener that nobody sees, whoever comes last; an edge that is left of who is done; a false
/// alarm.
#[test]
fn children_wait_for_each_other() {
    scenario(30_000, || {
        let locks = [Mutex::new(()), Mutex::new(()), Mutex::new(())];
        let in_order = below(2) == 0;
        let mine = below(4);
        let guard = locks.get(mine).map(|lock| lock.lock().unwrap());
        let end = scope(|scope| {
            for _ in 0..3 {
                let locks = &locks;
                scope.spawn(move || {
                    let (first, second) = match below(3) {
                        0 => (0, 1),
                        1 => (1, 2),
                        _ if in_order => (0, 2),
                        _ => (2, 0),
                    };
                    let take = || {
                        let _first = locks[first].lock()?;
                        locks[second].lock().map(drop)
                    };
                    let answer = take();
                    end_locks();
                    answer
                });
            }
            Ok::<_, AcquireError>(())
        });
        drop(guard);
        match end {
            Ok(results) => assert_eq!(results.len(), 3),
            Err(error) => {
                assert!(mine < 3 || !in_order, "there is no circle");
                for failure in error.failures() {
                    assert!(failure.to_string().contains("deadlock"));
                }
            }
        }
        assert!(locks.iter().all(|lock| !lock.is_locked()));
    });
}
