//! `sync` among more threads than loom can explore: circles of all kinds, queues of threads and tasks, barriers.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Waker};
use std::time::Duration;

use hapax::model::{end_locks, pass_time};
use hapax::sync::{
    AcquireError, Barrier, Condition, Monitor, Mutex, RLock, RwLock, Semaphore, TrackedSemaphore,
    deadlock,
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

/// Producers and consumers of a bounded buffer in a monitor. Some waits time out, and are begun anew; others come by, who want to
/// enter only.
///
/// Would catch: an item that is lost, or taken twice; a condition that doesn't hold when the wait returns; somebody who sleeps on.
#[test]
fn a_buffer_loses_nothing() {
    const EACH: u32 = 3;
    struct Buffer {
        items: VecDeque<u32>,
        taken: Vec<u32>,
        inside: Inside,
    }
    fn wait(buffer: &Monitor<Buffer>, condition: fn(&Buffer) -> bool, f: impl FnOnce(&mut Buffer)) {
        let mut inside = buffer.enter().unwrap();
        if below(2) == 0 {
            let hour = Duration::from_secs(3600);
            let (guard, result) = inside.wait_timeout_while(hour, condition).unwrap();
            assert_eq!(result.timed_out(), condition(&guard));
            inside = guard;
        }
        inside = inside.wait_while(condition).unwrap();
        assert!(!condition(&inside));
        inside.inside.enter(1);
        f(&mut inside);
    }
    scenario(30_000, || {
        let most = 1 + below(2);
        let is_full: fn(&Buffer) -> bool = match most {
            1 => |buffer| !buffer.items.is_empty(),
            _ => |buffer| buffer.items.len() == 2,
        };
        let buffer = Arc::new(Monitor::new(Buffer {
            items: VecDeque::new(),
            taken: Vec::new(),
            inside: Inside::default(),
        }));
        let producers = (0..2).map(|producer| {
            let buffer = buffer.clone();
            spawn(move || {
                for item in 0..EACH {
                    wait(&buffer, is_full, |buffer| {
                        buffer.items.push_back(10 * producer + item);
                    });
                }
            })
        });
        let consumers = (0..2).map(|_| {
            let buffer = buffer.clone();
            spawn(move || {
                for _ in 0..EACH {
                    wait(
                        &buffer,
                        |buffer| buffer.items.is_empty(),
                        |buffer| {
                            let item = buffer.items.pop_front();
                            buffer.taken.extend(item);
                        },
                    );
                }
            })
        });
        let mut threads: Vec<_> = producers.chain(consumers).collect();
        let theirs = buffer.clone();
        threads.push(spawn(move || {
            for _ in 0..EACH {
                let inside = theirs.enter().unwrap();
                assert!(inside.items.len() <= most);
                inside.inside.enter(1);
            }
        }));
        thread::yield_now();
        pass_time();
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        let inside = buffer.try_enter().unwrap();
        assert!(inside.items.is_empty());
        for producer in 0..2 {
            let taken = inside.taken.iter().filter(|&item| item / 10 == producer);
            assert!(taken.copied().eq(10 * producer..10 * producer + EACH));
        }
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
