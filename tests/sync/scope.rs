//! `scope` and cancellation: python-safethread's `branch` scenarios under their own names, then each wait that there is,
//! failures of all kinds, and deadlocks with the one who waits for children.

use std::error::Error;
use std::fmt;
use std::sync::LazyLock;
use std::thread::Builder;

use hapax::sync::deadlock::{self, Wanted};
use hapax::sync::{
    self, BarrierError, BoxError, Cancelled, Failure, JoinError, Monitor, RwLock, Scope,
    ScopeError, WaitError, check_cancelled, sleep, spawn,
};

use super::*;

/// As the crate's, for a closure whose error is of any type.
pub(super) fn scope<'env, T, E, F>(f: F) -> Result<Vec<T>, ScopeError>
where
    T: Send,
    E: Into<BoxError>,
    F: for<'scope> FnOnce(&Scope<'scope, 'env, T>) -> Result<(), E>,
{
    sync::scope(|scope| f(scope).map_err(Into::into))
}

/// As `spawn`, for children whose errors are of any type.
pub(super) trait Begin<'scope, T> {
    fn begin<E: Into<BoxError>>(&self, f: impl FnOnce() -> Result<T, E> + Send + 'scope) {
        self.begin_with(Builder::new(), f);
    }

    fn begin_with<E: Into<BoxError>>(
        &self,
        builder: Builder,
        f: impl FnOnce() -> Result<T, E> + Send + 'scope,
    );
}

impl<'scope, T: Send + 'scope> Begin<'scope, T> for Scope<'scope, '_, T> {
    fn begin_with<E: Into<BoxError>>(
        &self,
        builder: Builder,
        f: impl FnOnce() -> Result<T, E> + Send + 'scope,
    ) {
        self.spawn_with(builder, || f().map_err(Into::into));
    }
}

/// Longer than any test.
const LONG: Duration = Duration::from_secs(3600);

/// The error of who is cancelled, which only a scope can make.
static CANCELLED: LazyLock<Cancelled> = LazyLock::new(|| {
    let mut error = None;
    let end = scope::<(), _, _>(|scope| {
        scope.begin(|| Err("enough"));
        error = sleep(LONG).err();
        Ok::<_, &str>(())
    });
    assert!(end.is_err());
    error.expect("a child has failed")
});

/// safethread's `readloop`: works until it is cancelled.
fn work() -> Result<(), Cancelled> {
    loop {
        check_cancelled()?;
        thread::yield_now();
    }
}

fn messages(error: &ScopeError) -> Vec<String> {
    error.failures().iter().map(Failure::to_string).collect()
}

/// What a wait answers that begins before its thread is cancelled, and then another one. Nobody else ends them.
fn cancelled<R: Send>(wait: impl Fn() -> R + Sync) -> [R; 2] {
    let answers = std::sync::Mutex::new(Vec::new());
    let begins = Event::new();
    let end = scope(|scope| {
        scope.begin(|| {
            begins.set();
            let first = wait();
            assert_eq!(check_cancelled(), Err(*CANCELLED));
            let second = wait();
            answers.lock().unwrap().extend([first, second]);
            Ok::<_, &str>(())
        });
        begins.wait().unwrap();
        // For it to sleep by then, mostly. If it doesn't the answer is the same.
        thread::sleep(SHORT);
        Err("enough")
    });
    assert_eq!(messages(&end.unwrap_err()), ["enough"]);
    match <[R; 2]>::try_from(answers.into_inner().unwrap()) {
        Ok(answers) => answers,
        Err(_) => unreachable!("there are two"),
    }
}

/// Runs something on a thread that is cancelled already.
fn when_cancelled<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    let answer = std::sync::Mutex::new(None);
    let end = scope(|scope| {
        scope.begin(|| {
            assert_eq!(sleep(LONG), Err(*CANCELLED));
            *answer.lock().unwrap() = Some(f());
            Ok::<_, &str>(())
        });
        Err("enough")
    });
    assert_eq!(messages(&end.unwrap_err()), ["enough"]);
    answer.into_inner().unwrap().unwrap()
}

// python-safethread's `test_sharedmodule`.

/// `branch` with `add`: there are no results. With `addresult`: there are, once, and in the order of adding.
#[test]
fn test_branch_results() {
    in_time(|| {
        let none: Vec<()> = scope(|_| Ok::<_, Cancelled>(())).unwrap();
        assert_eq!(none, []);
        let one = scope(|scope| {
            scope.begin(|| Ok::<_, Cancelled>(42));
            Ok::<_, Cancelled>(())
        });
        assert_eq!(one.unwrap(), [42]);
    });
}

/// Each child ends only when the one behind it has ended.
#[test]
fn results_come_in_the_order_of_adding() {
    in_time(|| {
        const CHILDREN: usize = 10;
        let ended: Vec<_> = (0..=CHILDREN).map(|_| Event::new()).collect();
        ended[CHILDREN].set();
        let results = scope(|scope| {
            for number in 0..CHILDREN {
                let ended = &ended;
                scope.begin(move || {
                    ended[number + 1].wait()?;
                    ended[number].set();
                    Ok::<_, Cancelled>(number)
                });
            }
            Ok::<_, Cancelled>(())
        });
        assert_eq!(results.unwrap(), Vec::from_iter(0..CHILDREN));
    });
}

/// The error of a child, and that of the closure.
#[test]
fn test_branch_errors() {
    in_time(|| {
        let child = scope(|scope| {
            scope.begin(|| Err::<(), _>("moo"));
            Ok::<_, &str>(())
        });
        assert_eq!(messages(&child.unwrap_err()), ["moo"]);
        let own = scope::<(), _, _>(|_| Err("division by zero"));
        assert_eq!(messages(&own.unwrap_err()), ["division by zero"]);
    });
}

/// `Counter.tick` by 15 children, and `test_condition_wait`: the opener waits for what they do.
#[test]
fn test_condition_wait() {
    in_time(|| {
        let counter = Monitor::new(10);
        scope(|scope| {
            for _ in 0..15 {
                scope.begin(|| counter.enter().map(|mut counter| *counter += 1));
            }
            let guard = counter.enter()?.wait_while(|counter| *counter < 25)?;
            assert_eq!(*guard, 25);
            Ok::<_, AcquireError>(())
        })
        .unwrap();
    });
}

#[test]
fn test_main_and_child() {
    in_time(|| {
        let has_failed = Event::new();
        let error = scope::<(), _, _>(|scope| {
            scope.begin(|| {
                has_failed.set();
                Err("child")
            });
            // Its error may come first or last, but is no less an error.
            has_failed.wait().unwrap();
            Err("main")
        });
        let mut failed = messages(&error.unwrap_err());
        failed.sort();
        assert_eq!(failed, ["child", "main"]);
    });
}

#[test]
fn test_multiple_child() {
    in_time(|| {
        let all_run = Barrier::new(3);
        let error = scope::<(), _, _>(|scope| {
            for _ in 0..3 {
                scope.begin(|| {
                    all_run.wait();
                    Err("child")
                });
            }
            Ok::<_, &str>(())
        });
        assert_eq!(messages(&error.unwrap_err()), ["child"; 3]);
    });
}

#[test]
fn test_main_and_cancelled_child() {
    in_time(|| {
        let error = scope(|scope| {
            scope.begin(work);
            Err("main")
        });
        let error = error.unwrap_err();
        assert_eq!(messages(&error), ["main"]);
        assert!(!error.is_cancelled());
    });
}

/// The inner scope's child is cancelled, since the outer scope fails.
#[test]
fn test_nested_branch_failing_outer() {
    in_time(|| {
        let inner_end = Mutex::new(None);
        let error = scope::<(), _, _>(|outer| {
            let inner = scope(|inner| {
                inner.begin(work);
                outer.begin(|| Err("outer child"));
                Ok::<_, &str>(())
            });
            let error = inner.unwrap_err();
            *inner_end.lock().unwrap() = Some(error.is_cancelled());
            Err(error)
        });
        assert_eq!(messages(&error.unwrap_err()), ["outer child"]);
        assert_eq!(inner_end.into_inner(), Some(true));
    });
}

/// The inner scope's closure is cancelled.
#[test]
fn test_nested_branch_failing_outer_direct() {
    in_time(|| {
        let error = scope::<(), _, _>(|outer| {
            scope::<(), _, _>(|_| {
                outer.begin(|| Err("outer child"));
                work()
            })
            .map(drop)
        });
        assert_eq!(messages(&error.unwrap_err()), ["outer child"]);
    });
}

#[test]
fn test_cancelled_sleep() {
    in_time(|| {
        let error = scope(|scope| {
            scope.begin(|| sleep(LONG));
            Err("main")
        });
        assert_eq!(messages(&error.unwrap_err()), ["main"]);
        assert_eq!(cancelled(|| sleep(LONG)), [Err(*CANCELLED); 2]);
    });
}

/// safethread's `Checkpoint` is a monitor with a condition.
#[test]
fn test_condition_cancellation() {
    in_time(|| {
        let checkpoint = Monitor::new(false);
        let error = scope(|scope| {
            scope.begin(|| {
                let guard = checkpoint.enter()?;
                guard.wait_while(|is_set| !*is_set).map(drop)
            });
            Err("main")
        });
        assert_eq!(messages(&error.unwrap_err()), ["main"]);
        assert!(!checkpoint.is_locked());
    });
}

/// Two children, each inside a monitor, want to enter the other one's.
#[test]
fn test_paired_deadlock() {
    in_time(|| {
        let monitors = [Monitor::new(()), Monitor::new(())];
        let both_are_inside = Barrier::new(2);
        let error = scope(|scope| {
            for first in 0..2 {
                let (monitors, both_are_inside) = (&monitors, &both_are_inside);
                scope.begin(move || {
                    let _inside = monitors[first].enter()?;
                    both_are_inside.wait();
                    monitors[1 - first].enter().map(drop)
                });
            }
            Ok::<_, AcquireError>(())
        });
        let failures = error.unwrap_err().into_failures();
        assert!(matches!(&failures[..], [Failure::Error(error)] if is_a_deadlock(&**error)));
    });
}

/// The opener is inside a monitor that its child wants to enter: whoever comes last is refused.
#[test]
fn test_branched_deadlock() {
    for child_is_late in [false, true] {
        in_time(move || {
            let monitor = Monitor::named("monitor", ());
            let inside = monitor.enter().unwrap();
            let error = scope(|scope| {
                scope.begin(|| {
                    if child_is_late {
                        thread::sleep(SHORT);
                    }
                    monitor.enter().map(drop)
                });
                if !child_is_late {
                    thread::sleep(SHORT);
                }
                Ok::<_, AcquireError>(())
            });
            let failures = error.unwrap_err().into_failures();
            let [Failure::Error(error)] = &failures[..] else {
                panic!("{failures:?}")
            };
            let report = report(&**error).unwrap();
            let wanted = report.steps().iter().map(|step| step.wanted);
            let wanted: Vec<_> = wanted.collect();
            assert_eq!(wanted.len(), 2);
            assert!(wanted.contains(&Wanted::End));
            drop(inside);
            assert!(monitor.try_enter().is_ok());
        });
    }
}

fn report<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a sync::DeadlockReport> {
    match error.downcast_ref() {
        Some(AcquireError::Deadlock(report)) => Some(report),
        _ => None,
    }
}

fn is_a_deadlock(error: &(dyn Error + 'static)) -> bool {
    report(error).is_some()
}

// Each wait.

#[test]
fn a_wait_for_an_event_is_cancelled() {
    in_time(|| {
        let never = Event::new();
        assert_eq!(cancelled(|| never.wait()), [Err(*CANCELLED); 2]);
        assert_eq!(cancelled(|| never.wait_for(LONG)), [Err(*CANCELLED); 2]);
        let moment = Instant::now() + LONG;
        assert_eq!(cancelled(|| never.wait_until(moment)), [Err(*CANCELLED); 2]);
        never.set();
        assert_eq!(never.wait(), Ok(()));
    });
}

/// The guard is gone, and the lock is free.
#[test]
fn a_wait_for_a_condition_is_cancelled() {
    in_time(|| {
        let (mutex, condition) = (Mutex::new(()), Condition::new());
        let answers = cancelled(|| {
            let answer = condition.wait(mutex.lock().unwrap()).map(drop);
            assert!(!mutex.is_locked());
            answer
        });
        let is_cancelled = Err(WaitError::Acquire(AcquireError::Cancelled));
        assert_eq!(answers, [is_cancelled.clone(), is_cancelled.clone()]);
        let rlock = RLock::new(());
        let answers = cancelled(|| {
            let _outer = rlock.lock().unwrap();
            let guard = rlock.lock().unwrap();
            let answer = condition.wait_for(guard, LONG).map(drop);
            assert!(!rlock.is_locked());
            answer
        });
        assert_eq!(answers, [is_cancelled.clone(), is_cancelled.clone()]);
        let lock = Lock::new();
        let wait = || {
            let guard = lock.lock().unwrap();
            condition.wait_while(guard, |_| true).map(drop)
        };
        assert_eq!(cancelled(wait), [is_cancelled.clone(), is_cancelled]);
        let guard = mutex.lock().unwrap();
        assert_eq!(condition.notify_all(&guard), Ok(0));
    });
}

/// Somebody is notified, and cancelled before it gets the lock. So the notification is for the next one.
#[test]
fn a_notification_to_who_is_cancelled_is_passed_on() {
    in_time(|| {
        let (waiting, condition) = (Mutex::new(0), Condition::new());
        let wait = || {
            let mut waiting = waiting.lock()?;
            *waiting += 1;
            condition.wait(waiting).map(drop)
        };
        let are_waiting = |number| until(|| *waiting.lock().unwrap() == number);
        thread::scope(|threads| {
            let (mut guard, mut second) = (None, None);
            let end = scope(|scope| {
                scope.begin(wait);
                are_waiting(1);
                second = Some(threads.spawn(wait));
                are_waiting(2);
                // Until the child has ended.
                guard = Some(waiting.lock().unwrap());
                assert_eq!(condition.notify_one(guard.as_ref().unwrap()), Ok(1));
                Err("enough")
            });
            assert_eq!(messages(&end.unwrap_err()), ["enough"]);
            drop(guard);
            second.unwrap().join().unwrap().unwrap();
        });
    });
}

/// What was notified before it was cancelled, and finds the lock free, has not been cancelled.
#[test]
fn a_notification_counts_that_comes_first() {
    in_time(|| {
        let (waiting, condition) = (Mutex::new(false), Condition::new());
        let has_it = Event::new();
        let end = scope(|scope| {
            scope.begin(|| {
                let mut guard = waiting.lock()?;
                *guard = true;
                drop(condition.wait(guard)?);
                has_it.set();
                Ok::<_, WaitError>(())
            });
            until(|| *waiting.lock().unwrap());
            condition.notify_one(&waiting.lock().unwrap()).unwrap();
            // So that it finds the lock free.
            has_it.wait().unwrap();
            Err("enough")
        });
        assert_eq!(messages(&end.unwrap_err()), ["enough"]);
    });
}

#[test]
fn a_wait_for_permits_is_cancelled() {
    in_time(|| {
        let is_cancelled = Err(AcquireError::Cancelled);
        for semaphore in [Semaphore::new(2), Semaphore::barging(2)] {
            let semaphore = Arc::new(semaphore);
            let many = || semaphore.acquire_many(3).map(drop);
            assert_eq!(
                cancelled(many),
                [is_cancelled.clone(), is_cancelled.clone()]
            );
            let owned = || semaphore.clone().acquire_many_owned(3).map(drop);
            assert_eq!(
                cancelled(owned),
                [is_cancelled.clone(), is_cancelled.clone()]
            );
            let _both = semaphore.acquire_many(2).unwrap();
            let one = || semaphore.acquire().map(drop);
            assert_eq!(cancelled(one), [is_cancelled.clone(), is_cancelled.clone()]);
            let one = || semaphore.try_acquire_for(LONG).map(drop);
            assert_eq!(cancelled(one), [is_cancelled.clone(), is_cancelled.clone()]);
            drop(_both);
            assert_eq!(semaphore.available_permits(), 2);
            assert!(semaphore.try_acquire_many(2).is_ok());
        }
    });
}

/// A permit that was granted before its thread was cancelled is that thread's.
#[test]
fn a_grant_counts_that_comes_first() {
    for _ in 0..scaled(100, 5) {
        in_time(|| {
            let semaphore = Semaphore::new(0);
            let begins = Event::new();
            let end = scope(|scope| {
                scope.begin(|| {
                    begins.set();
                    semaphore.acquire().map(|permit| permit.forget())
                });
                begins.wait().unwrap();
                semaphore.add_permits(1).unwrap();
                Err("enough")
            });
            assert_eq!(messages(&end.unwrap_err()), ["enough"]);
            assert_eq!(semaphore.available_permits(), 0);
        });
    }
}

/// Who is cancelled in front of others, having wanted many permits, lets them pass.
#[test]
fn who_is_cancelled_lets_others_pass() {
    in_time(|| {
        let semaphore = Semaphore::new(1);
        thread::scope(|threads| {
            let mut behind = None;
            let end = scope(|scope| {
                scope.begin(|| semaphore.acquire_many(2).map(drop));
                // It has a place in the queue when nobody else gets a permit.
                until(|| semaphore.try_acquire().is_err());
                behind = Some(threads.spawn(|| semaphore.acquire().map(drop)));
                Err("enough")
            });
            assert_eq!(messages(&end.unwrap_err()), ["enough"]);
            behind.unwrap().join().unwrap().unwrap();
        });
    });
}

#[test]
fn a_wait_for_tracked_permits_is_cancelled() {
    in_time(|| {
        let semaphore = Semaphore::tracked(2);
        let _one = semaphore.acquire().unwrap();
        let is_cancelled = Err(AcquireError::Cancelled);
        let two = || semaphore.acquire_many(2).map(drop);
        assert_eq!(cancelled(two), [is_cancelled.clone(), is_cancelled.clone()]);
        let _two = semaphore.acquire().unwrap();
        let one = || semaphore.try_acquire_for(LONG).map(drop);
        assert_eq!(cancelled(one), [is_cancelled.clone(), is_cancelled]);
        drop((_one, _two));
        assert_eq!(semaphore.available_permits(), 2);
    });
}

/// Which breaks it, for the others as well.
#[test]
fn a_wait_at_a_barrier_is_cancelled() {
    in_time(|| {
        let barrier = sync::Barrier::new(3).unwrap();
        thread::scope(|threads| {
            let other = threads.spawn(|| barrier.wait());
            until(|| barrier.waiting() == 1);
            let answers = cancelled(|| barrier.wait());
            assert_eq!(
                answers,
                [Err(BarrierError::Cancelled), Err(BarrierError::Broken)]
            );
            assert_eq!(other.join().unwrap(), Err(BarrierError::Broken));
        });
        barrier.reset();
        let answer = when_cancelled(|| barrier.wait_for(LONG));
        assert_eq!(answer, Err(BarrierError::Cancelled));
        assert!(barrier.is_broken());
    });
}

/// The opener of the scope holds them, so that its wait for the child would be a deadlock if the child weren't cancelled.
#[test]
fn a_wait_for_a_lock_is_cancelled() {
    let mutex = Mutex::new(());
    let rlock = RLock::new(());
    let (to_read, to_write) = (RwLock::new(()), RwLock::new(()));
    let (owned, unowned) = (Lock::owned(), Lock::new());
    let monitor = Monitor::new(());
    let waits: [&(dyn Fn() -> Result<(), AcquireError> + Sync); 10] = [
        &|| mutex.lock().map(drop),
        &|| mutex.try_lock_for(LONG).map(drop),
        &|| rlock.lock().map(drop),
        &|| to_write.read().map(drop),
        &|| to_write.write().map(drop),
        &|| to_read.write().map(drop),
        &|| owned.lock().map(drop),
        &|| unowned.lock().map(drop),
        &|| monitor.enter().map(drop),
        &|| monitor.try_enter_for(LONG).map(drop),
    ];
    let guards = (
        mutex.lock().unwrap(),
        rlock.lock().unwrap(),
        to_write.write().unwrap(),
        to_read.read().unwrap(),
        owned.lock().unwrap(),
        unowned.lock().unwrap(),
        monitor.enter().unwrap(),
    );
    for (number, wait) in waits.into_iter().enumerate() {
        let is_cancelled = Err(AcquireError::Cancelled);
        assert_eq!(
            cancelled(wait),
            [is_cancelled.clone(), is_cancelled.clone()],
            "{number}"
        );
        let late = when_cancelled(|| {
            // The opener waits for this thread by then, mostly.
            thread::sleep(SHORT);
            wait()
        });
        assert_eq!(late, is_cancelled, "{number}");
    }
    drop(guards);
    for wait in waits {
        assert_eq!(wait(), Ok(()));
    }
}

/// Also if it is for a condition. It is outside then.
#[test]
fn a_wait_within_a_monitor_is_cancelled() {
    in_time(|| {
        let monitor = Monitor::new(());
        let answers = cancelled(|| {
            let answer = monitor.enter().unwrap().wait_while(|()| true).map(drop);
            assert!(!monitor.is_locked());
            answer
        });
        let is_cancelled = Err(AcquireError::Cancelled);
        assert_eq!(answers, [is_cancelled.clone(), is_cancelled.clone()]);
        let answer = when_cancelled(|| {
            let guard = monitor.enter().unwrap();
            guard.wait_timeout_while(LONG, |()| true).map(drop)
        });
        assert_eq!(answer, is_cancelled);
    });
}

/// The handle comes back, and the thread goes on.
#[test]
fn a_join_is_cancelled() {
    in_time(|| {
        let (send, receive) = mpsc::channel();
        let thread = spawn(move || receive.recv()).unwrap();
        let thread = std::sync::Mutex::new(Some(thread));
        let answers = cancelled(|| {
            let mut place = thread.lock().unwrap();
            match place.take().unwrap().join() {
                Err(error) => {
                    assert!(error.source().unwrap().is::<Cancelled>());
                    let JoinError::Cancelled { handle } = error else {
                        panic!("{error:?}")
                    };
                    *place = Some(handle);
                }
                Ok(_) => unreachable!("it hasn't ended"),
            }
        });
        assert_eq!(answers, [(), ()]);
        send.send(5).unwrap();
        let thread = thread.into_inner().unwrap().unwrap();
        assert_eq!(thread.join().unwrap(), Ok(5));
    });
}

/// Of a thread that wants what the opener holds: that one waits for who is cancelled.
#[test]
fn who_is_cancelled_joins_nobody() {
    in_time(|| {
        let mutex = Arc::new(Mutex::new(()));
        let guard = mutex.lock().unwrap();
        let theirs = mutex.clone();
        let thread = spawn(move || theirs.lock().map(drop)).unwrap();
        let answer = when_cancelled(|| {
            thread::sleep(SHORT);
            thread.join().map_err(|error| match error {
                JoinError::Cancelled { handle } => handle,
                error => panic!("{error:?}"),
            })
        });
        drop(guard);
        assert_eq!(answer.unwrap_err().join().unwrap(), Ok(()));
    });
}

#[test]
fn what_can_be_had_without_a_wait_is_given() {
    in_time(|| {
        let set = Event::new();
        set.set();
        let semaphore = Semaphore::new(2);
        let tracked = Semaphore::tracked(2);
        let (mutex, rlock, rwlock) = (Mutex::new(()), RLock::new(()), RwLock::new(()));
        let (owned, unowned, monitor) = (Lock::owned(), Lock::new(), Monitor::new(()));
        let condition = Condition::new();
        let barrier = sync::Barrier::new(1).unwrap();
        let thread = spawn(|| 5).unwrap();
        until(|| thread.is_finished());
        when_cancelled(|| {
            assert_eq!(set.wait(), Ok(()));
            assert_eq!(set.wait_for(LONG), Ok(true));
            drop(semaphore.acquire_many(2).unwrap());
            drop(tracked.acquire_many(2).unwrap());
            drop(mutex.lock().unwrap());
            let outer = rlock.lock().unwrap();
            drop((rlock.lock().unwrap(), outer));
            drop((rwlock.read().unwrap(), rwlock.read().unwrap()));
            drop(rwlock.write().unwrap());
            drop((owned.lock().unwrap(), unowned.lock().unwrap()));
            let guard = monitor.enter().unwrap();
            drop(guard.wait_while(|()| false).unwrap());
            let guard = mutex.lock().unwrap();
            drop(condition.wait_while(guard, |_| false).unwrap());
            assert_eq!(barrier.wait(), Ok(0));
            assert_eq!(thread.join().unwrap(), 5);
            // And it is cancelled all the same.
            assert_eq!(check_cancelled(), Err(*CANCELLED));
        });
    });
}

/// A child's failure ends whatever all others wait for, and the opener as well.
#[test]
fn one_failure_ends_all_waits() {
    in_time(|| {
        let never = Event::new();
        let (mutex, condition) = (Mutex::new(()), Condition::new());
        let semaphore = Semaphore::new(0);
        let monitor = Monitor::new(());
        let (send, all) = mpsc::channel();
        let is_ready = || send.send(()).unwrap();
        let ended = AtomicUsize::new(0);
        let error = scope(|scope| {
            for _ in 0..3 {
                let begin: [Box<dyn FnOnce() -> bool + Send>; 5] = [
                    Box::new(|| never.wait().is_err()),
                    Box::new(|| semaphore.acquire().is_err()),
                    Box::new(|| condition.wait(mutex.lock().unwrap()).is_err()),
                    Box::new(|| monitor.enter().unwrap().wait_while(|()| true).is_err()),
                    Box::new(|| sleep(LONG).is_err()),
                ];
                for wait in begin {
                    let ended = &ended;
                    scope.begin(move || {
                        is_ready();
                        assert!(wait());
                        ended.fetch_add(1, SeqCst);
                        Err::<(), _>(*CANCELLED)
                    });
                }
            }
            (0..15).for_each(|_| all.recv().unwrap());
            scope.begin(|| Err::<(), _>("enough"));
            never.wait()
        });
        assert_eq!(messages(&error.unwrap_err()), ["enough"]);
        assert_eq!(ended.into_inner(), 15);
    });
}

// Who is cancelled, and who isn't.

#[test]
fn outside_of_scopes_nobody_is_cancelled() {
    in_time(|| {
        assert_eq!(check_cancelled(), Ok(()));
        let never = Event::new();
        // A thread that was begun by somebody who is cancelled is no child.
        let (thread, other) = when_cancelled(|| {
            let other = spawn(move || (check_cancelled(), sleep(SHORT), never.wait_for(SHORT)));
            (spawn(check_cancelled).unwrap(), other.unwrap())
        });
        assert_eq!(thread.join().unwrap(), Ok(()));
        assert_eq!(other.join().unwrap(), (Ok(()), Ok(()), Ok(false)));
    });
}

/// A scope that has failed, or panicked, is over: its opener goes on as before.
#[test]
fn the_opener_waits_normally_afterwards() {
    in_time(|| {
        let never = Event::new();
        let error = scope(|scope| {
            scope.begin(|| Err::<(), _>("enough"));
            never.wait()
        });
        assert!(error.is_err());
        assert_eq!(never.wait_for(SHORT), Ok(false));
        let panic =
            catch_unwind(|| scope::<(), Cancelled, _>(|_| std::panic::resume_unwind(Box::new(5))));
        assert!(panic.is_err());
        assert_eq!((check_cancelled(), sleep(SHORT)), (Ok(()), Ok(())));
    });
}

/// A child whose inner scope fails isn't cancelled, nor is the outer scope if it doesn't pass the error on.
#[test]
fn a_scope_in_a_child_of_a_scope() {
    in_time(|| {
        let never = Event::new();
        let results = scope(|outer| {
            for fails in [false, true] {
                let never = &never;
                outer.begin(move || {
                    let inner = scope(|inner| {
                        inner.begin(move || if fails { Err("inner") } else { Ok(5) });
                        if fails {
                            assert_eq!(never.wait(), Err(*CANCELLED));
                        }
                        Ok::<_, &str>(())
                    });
                    assert_eq!(never.wait_for(SHORT), Ok(false));
                    Ok::<_, Cancelled>(inner.map_err(|error| messages(&error)))
                });
            }
            never.wait_for(SHORT).map(drop)
        });
        let results = results.unwrap();
        assert_eq!(results, [Ok(vec![5]), Err(vec!["inner".to_owned()])]);
    });
}

/// The outer scope fails with that, and says why: the inner error is its source.
#[test]
fn an_inner_failure_reaches_the_outer_scope() {
    in_time(|| {
        let never = Event::new();
        let error = scope::<(), _, _>(|outer| {
            outer.begin(|| {
                let inner = scope::<(), _, _>(|inner| {
                    inner.begin(|| Err(Own(None)));
                    Ok::<_, &str>(())
                });
                inner.map(drop)
            });
            never.wait()
        });
        let error = error.unwrap_err();
        assert_eq!(messages(&error), ["own"]);
        assert!(!error.is_cancelled());
        let inner = error.source().unwrap();
        let inner = inner.downcast_ref::<ScopeError>().unwrap();
        assert!(inner.source().unwrap().is::<Own>());
    });
}

/// Three scopes deep: it is who waits in the innermost one that ends at once.
#[test]
fn the_innermost_is_cancelled_by_the_outermost() {
    fn nest(depth: usize, never: &Event, begins: &Event) -> Result<(), ScopeError> {
        scope::<(), _, _>(|scope| {
            scope.begin(move || {
                if depth > 0 {
                    return nest(depth - 1, never, begins).map_err(Into::into);
                }
                begins.set();
                Err::<_, Box<dyn Error + Send + Sync>>(never.wait().unwrap_err().into())
            });
            Ok::<_, Cancelled>(())
        })
        .map(drop)
    }
    in_time(|| {
        let (never, begins) = (Event::new(), Event::new());
        let error = scope(|scope| {
            scope.begin(|| nest(2, &never, &begins));
            begins.wait().unwrap();
            Err("enough")
        });
        assert_eq!(messages(&error.unwrap_err()), ["enough"]);
    });
}

// Failures.

/// The first one comes first. Those that others have by being cancelled are no failures.
#[test]
fn the_first_failure_comes_first() {
    in_time(|| {
        let (never, all_are_begun) = (Event::new(), Event::new());
        let (send, order) = mpsc::channel();
        let error = scope(|scope| {
            for number in 0..4 {
                let (never, all_are_begun, send) = (&never, &all_are_begun, send.clone());
                scope.begin(move || {
                    if number == 2 {
                        all_are_begun.wait().unwrap();
                        return Err::<(), _>("first".to_owned());
                    }
                    never.wait().unwrap_err();
                    send.send(number).unwrap();
                    Err(format!("then {number}"))
                });
            }
            all_are_begun.set();
            never.wait()
        });
        let error = error.unwrap_err();
        let failed = messages(&error);
        assert_eq!(failed.len(), 4);
        assert_eq!(failed[0], "first");
        assert_eq!(error.to_string(), failed.join("; "));
        assert_eq!(order.try_iter().count(), 3);
    });
}

#[test]
fn children_panic() {
    in_time(|| {
        let (first, second) = (Event::new(), Event::new());
        let error = scope::<(), _, _>(|scope| {
            scope.begin(|| -> Result<_, &str> { std::panic::resume_unwind(Box::new("no")) });
            assert_eq!(first.wait(), Err(*CANCELLED));
            Ok::<_, &str>(())
        });
        assert_eq!(messages(&error.unwrap_err()), ["a thread has panicked: no"]);
        let error = scope::<(), _, _>(|scope| {
            scope.begin(|| -> Result<_, &str> {
                second.wait().unwrap_err();
                std::panic::resume_unwind(Box::new(5))
            });
            scope.begin(|| -> Result<_, &str> {
                std::panic::resume_unwind(Box::new("so".to_owned()))
            });
            Ok::<_, &str>(())
        });
        let error = error.unwrap_err();
        assert!(error.source().is_none());
        let [Failure::Panicked(first), Failure::Panicked(second)] =
            <[_; 2]>::try_from(error.into_failures()).unwrap()
        else {
            panic!()
        };
        assert_eq!(first.message(), Some("so"));
        assert_eq!(second.message(), None);
        assert_eq!(second.into_payload().downcast_ref(), Some(&5));
    });
}

/// All children are cancelled, and have ended before the panic goes on.
#[test]
fn the_closure_panics() {
    in_time(|| {
        let (never, ended) = (Event::new(), AtomicUsize::new(0));
        let panic = catch_unwind(AssertUnwindSafe(|| {
            scope::<(), Cancelled, _>(|scope| {
                for _ in 0..5 {
                    scope.begin(|| {
                        let answer = never.wait();
                        thread::sleep(SHORT);
                        ended.fetch_add(1, SeqCst);
                        answer
                    });
                }
                std::panic::resume_unwind(Box::new(5))
            })
        }));
        assert_eq!(ended.into_inner(), 5);
        assert_eq!(panic.unwrap_err().downcast_ref(), Some(&5));
    });
}

#[test]
fn a_child_of_a_scope_that_has_failed_is_not_begun() {
    in_time(|| {
        let (never, began) = (Event::new(), AtomicBool::new(false));
        let dropped = Arc::new(());
        let error = scope(|scope| {
            scope.begin(|| Err("enough"));
            never.wait().unwrap_err();
            let (began, dropped) = (&began, dropped.clone());
            scope.begin(move || {
                began.store(true, SeqCst);
                drop(dropped);
                Ok::<_, &str>(())
            });
            Ok::<_, &str>(())
        });
        assert_eq!(messages(&error.unwrap_err()), ["enough"]);
        assert!(!began.into_inner());
        assert_eq!(Arc::strong_count(&dropped), 1);
    });
}

/// The system has no such stack; a name has no zero in it, for which `std` panics.
#[test]
fn a_child_that_cannot_be_begun_is_a_failure() {
    in_time(|| {
        let never = Event::new();
        let cannot = |builder: fn() -> Builder| {
            let began = AtomicBool::new(false);
            let error = scope(|scope| {
                scope.begin(|| never.wait());
                scope.begin_with(builder(), || {
                    began.store(true, SeqCst);
                    Ok::<_, Cancelled>(())
                });
                never.wait()
            });
            assert!(!began.into_inner());
            error.unwrap_err().into_failures()
        };
        let failures = cannot(|| Builder::new().stack_size(1 << 50));
        assert!(matches!(&failures[..], [Failure::Error(error)] if error.is::<std::io::Error>()));
        let failures = cannot(|| Builder::new().name("a\0b".to_owned()));
        assert!(matches!(&failures[..], [Failure::Panicked(_)]));
    });
}

/// Those that say that the thread was cancelled, as they are or as a source of others.
#[test]
fn errors_of_who_is_cancelled_are_left_out() {
    in_time(|| {
        let never = Event::new();
        let error = scope::<(), _, _>(|children| {
            type Boxed = Box<dyn Error + Send + Sync>;
            let errors: [Boxed; 9] = [
                (*CANCELLED).into(),
                AcquireError::Cancelled.into(),
                WaitError::Acquire(AcquireError::Cancelled).into(),
                BarrierError::Cancelled.into(),
                Own(Some((*CANCELLED).into())).into(),
                Own(Some(Own(Some(WaitError::from(*CANCELLED).into())).into())).into(),
                Box::new(Own(Some(Boxed::from(*CANCELLED)))),
                scope::<(), _, _>(|_| Err(*CANCELLED)).unwrap_err().into(),
                scope::<(), _, _>(|_| {
                    scope::<(), _, _>(|_| Err(BarrierError::Cancelled)).map(drop)
                })
                .unwrap_err()
                .into(),
            ];
            for error in errors {
                let never = &never;
                children.begin(move || {
                    never.wait().unwrap_err();
                    Err(error)
                });
            }
            children.begin(|| {
                never.wait().unwrap_err();
                Err(Own(Some(BarrierError::Broken.into())))
            });
            Err(Own(None))
        });
        let error = error.unwrap_err();
        assert_eq!(messages(&error), ["own", "own"]);
        assert!(!error.is_cancelled());
        let Failure::Error(second) = &error.failures()[1] else {
            panic!()
        };
        assert!(second.source().unwrap().is::<BarrierError>());
    });
}

/// If there is nothing else one of them is told.
#[test]
fn who_is_only_cancelled_is_told_so() {
    in_time(|| {
        let error = scope(|scope| {
            scope.begin(|| Err::<(), _>(AcquireError::Cancelled));
            scope.begin(|| Err(Own(Some((*CANCELLED).into()))));
            Err(*CANCELLED)
        });
        let error = error.unwrap_err();
        assert_eq!(error.failures().len(), 1);
        assert!(error.is_cancelled());
    });
}

/// An error type of a user, perhaps with a source.
#[derive(Debug)]
struct Own(Option<Box<dyn Error + Send + Sync>>);

impl fmt::Display for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("own")
    }
}

impl Error for Own {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.as_ref().map(|source| &**source as _)
    }
}

// Children.

/// They borrow what lives longer, and change it one by one.
#[test]
fn children_borrow() {
    in_time(|| {
        let mut numbers = vec![1, 2, 3];
        let names = ["alpha".to_owned(), "beta".to_owned()];
        let results = scope(|scope| {
            for number in &mut numbers {
                scope.begin(|| {
                    *number *= 2;
                    Ok::<&str, Cancelled>(&names[*number % 2])
                });
            }
            Ok::<_, Cancelled>(())
        });
        assert_eq!(results.unwrap(), ["alpha"; 3]);
        assert_eq!(numbers, [2, 4, 6]);
    });
}

/// Those of children as well: all have ended when the scope has, and the opener waits for those that come late.
#[test]
fn children_begin_children() {
    fn begin<'scope>(scope: &Scope<'scope, '_, usize>, depth: usize, ended: &'scope AtomicUsize) {
        let within = scope.clone();
        scope.begin(move || {
            thread::sleep(SHORT / 10);
            for _ in 0..2 * depth.min(1) {
                begin(&within, depth - 1, ended);
            }
            ended.fetch_add(1, SeqCst);
            Ok::<_, Cancelled>(depth)
        });
    }
    in_time(|| {
        let ended = AtomicUsize::new(0);
        let results = scope(|scope| {
            begin(scope, 5, &ended);
            Ok::<_, Cancelled>(())
        });
        assert_eq!(ended.into_inner(), 63);
        let mut results = results.unwrap();
        // A child was begun before its own children.
        assert_eq!(results[0], 5);
        results.sort_unstable();
        let of = |depth| results.iter().filter(|other| **other == depth).count();
        assert_eq!([5, 4, 3, 2, 1, 0].map(of), [1, 2, 4, 8, 16, 32]);
    });
}

#[test]
fn a_thousand_children() {
    in_time(|| {
        const CHILDREN: usize = scaled(1000, 20);
        let go = Event::new();
        let results = scope(|scope| {
            for number in 0..CHILDREN {
                let go = &go;
                scope.begin(move || go.wait().map(|()| number));
            }
            assert!(format!("{scope:?}").contains(&format!("running: {CHILDREN}")));
            go.set();
            Ok::<_, Cancelled>(())
        });
        assert_eq!(results.unwrap(), Vec::from_iter(0..CHILDREN));
        let error = scope(|scope| {
            for _ in 0..CHILDREN {
                scope.begin(|| sleep(LONG));
            }
            Err("enough")
        });
        assert_eq!(messages(&error.unwrap_err()), ["enough"]);
    });
}

// Deadlocks with who waits for children.

/// Through a third thread, which is no child. Whoever comes last is refused, and all end.
#[test]
fn the_opener_is_part_of_circles_of_others() {
    for late in 0..3 {
        in_time(move || {
            let (ours, theirs) = (Mutex::new(()), Mutex::new(()));
            let wait_if_late = |number| {
                if number == late {
                    thread::sleep(SHORT);
                }
            };
            let holds = Event::new();
            thread::scope(|threads| {
                let guard = ours.lock().unwrap();
                let third = threads.spawn(|| {
                    let _own = theirs.lock().unwrap();
                    holds.set();
                    wait_if_late(0);
                    ours.lock().map(drop)
                });
                holds.wait().unwrap();
                let end = scope(|scope| {
                    scope.begin(|| {
                        wait_if_late(1);
                        theirs.lock().map(drop)
                    });
                    wait_if_late(2);
                    Ok::<_, AcquireError>(())
                });
                drop(guard);
                let third = third.join().unwrap();
                let ours = match end {
                    Ok(_) => 0,
                    Err(error) => {
                        assert_eq!(error.failures().len(), 1);
                        assert!(is_a_deadlock(error.source().unwrap()));
                        1
                    }
                };
                assert!(is_deadlock(&third) || third.is_ok());
                assert_eq!(ours + usize::from(is_deadlock(&third)), 1);
            });
        });
    }
}

/// It waits for all children, though it could have gone on without one of them.
#[test]
fn one_of_many_children_may_be_stuck() {
    in_time(|| {
        let mutex = Mutex::new(());
        let (never, stuck) = (Event::new(), Event::new());
        let guard = mutex.lock().unwrap();
        let error = scope(|scope| {
            for _ in 0..3 {
                scope.begin(|| never.wait());
            }
            scope.begin(|| {
                stuck.set();
                mutex.lock().map(drop)
            });
            for _ in 0..3 {
                scope.begin(|| never.wait());
            }
            stuck.wait().unwrap();
            thread::sleep(SHORT);
            Ok::<_, Cancelled>(())
        });
        drop(guard);
        let error = error.unwrap_err();
        assert_eq!(error.failures().len(), 1);
        assert!(is_a_deadlock(error.source().unwrap()));
    });
}

/// A child begins another one while the opener waits for it already, and that one wants what the opener has.
#[test]
fn the_opener_waits_for_children_of_children() {
    in_time(|| {
        let (monitor, opener_waits) = (Monitor::new(()), Event::new());
        let inside = monitor.enter().unwrap();
        let answer = scope(|scope| {
            let within = scope.clone();
            let (monitor, opener_waits) = (&monitor, &opener_waits);
            scope.begin(move || {
                // For this one, and nobody else.
                opener_waits.wait()?;
                thread::sleep(SHORT);
                within.begin(move || monitor.enter().map(drop));
                Ok::<_, Cancelled>(())
            });
            opener_waits.set();
            Ok::<_, Cancelled>(())
        });
        drop(inside);
        assert!(is_a_deadlock(answer.unwrap_err().source().unwrap()));
        assert!(!monitor.is_locked());
    });
}

/// Who waits for what a cancelled child holds: that one ends by itself, when it notices.
#[test]
fn who_is_cancelled_is_in_nobodys_way() {
    in_time(|| {
        let (first, second) = (Mutex::new(()), Mutex::new(()));
        let (holds, failed) = (Event::new(), Event::new());
        let guard = second.lock().unwrap();
        thread::scope(|threads| {
            let (first, second, holds, failed) = (&first, &second, &holds, &failed);
            threads.spawn(move || {
                let end = scope(|scope| {
                    scope.begin(|| {
                        let _first = first.lock()?;
                        holds.set();
                        second.lock().map(drop)
                    });
                    holds.wait().unwrap();
                    // It looks after 10 ms, 30, 70 and so on, and so not for a while.
                    thread::sleep(Duration::from_millis(350));
                    failed.set();
                    Err("enough")
                });
                assert_eq!(messages(&end.unwrap_err()), ["enough"]);
            });
            failed.wait().unwrap();
            thread::sleep(Duration::from_millis(20));
            first.lock().map(drop).unwrap();
        });
        drop(guard);
    });
}

/// The same for the opener of an outer scope, which waits for a child whose own scope has failed.
#[test]
fn an_outer_opener_waits_for_who_is_cancelled() {
    in_time(|| {
        let (mutex, failed) = (Mutex::new(()), Event::new());
        let guard = mutex.lock().unwrap();
        let end = scope(|outer| {
            let (mutex, failed) = (&mutex, &failed);
            outer.begin(move || {
                let inner = scope(|inner| {
                    inner.begin(move || {
                        thread::sleep(Duration::from_millis(350));
                        failed.set();
                        Err::<(), _>("inner")
                    });
                    mutex.lock().map(drop)
                });
                assert_eq!(messages(&inner.unwrap_err()), ["inner"]);
                Ok::<_, Cancelled>(())
            });
            failed.wait()?;
            thread::sleep(Duration::from_millis(20));
            Ok::<_, Cancelled>(())
        });
        drop(guard);
        assert_eq!(end.unwrap(), [()]);
    });
}

/// The opener's wait for a child was refused; it waits all the same, and others see that.
#[test]
fn an_opener_that_was_refused_waits_all_the_same() {
    in_time(|| {
        let (mutex, stuck) = (Mutex::new(()), Event::new());
        let (send_key, key) = mpsc::channel();
        let (go_on, asked) = mpsc::channel::<()>();
        let (send, answer) = mpsc::channel();
        thread::scope(|threads| {
            let guard = mutex.lock().unwrap();
            let mutex = &mutex;
            threads.spawn(move || {
                send_key.send(ThreadKey::current()).unwrap();
                asked.recv().unwrap();
                thread::sleep(SHORT);
                // The child waits for the answer, and the opener, which has the mutex, for the child.
                send.send(is_deadlock(&mutex.lock())).unwrap();
            });
            let other = key.recv().unwrap();
            let end = scope(|scope| {
                let stuck = &stuck;
                scope.begin(move || {
                    stuck.set();
                    let cancelled = mutex.lock().map(drop);
                    let was_refused = deadlock::blocking_on(&[other], || {
                        go_on.send(()).unwrap();
                        answer.recv().unwrap()
                    });
                    assert_eq!(was_refused, Ok(true));
                    cancelled
                });
                stuck.wait().unwrap();
                thread::sleep(SHORT);
                Ok::<_, Cancelled>(())
            });
            drop(guard);
            assert!(is_a_deadlock(end.unwrap_err().source().unwrap()));
        });
    });
}

/// One circle, and one report of it, however many children there are.
#[test]
fn circles_of_openers_are_reported_once() {
    alone("scope::circles_of_openers_are_reported_once", || {
        static REPORTS: AtomicUsize = AtomicUsize::new(0);
        static STUCK: Mutex<()> = Mutex::new(());
        static WAITS: Event = Event::new();
        static NEVER: Event = Event::new();
        deadlock::set_policy(deadlock::Policy::ReportOnly(|_| {
            REPORTS.fetch_add(1, SeqCst);
        }));
        // It hangs.
        thread::spawn(|| {
            let _guard = STUCK.lock().unwrap();
            scope(|scope| {
                scope.begin(|| {
                    WAITS.set();
                    STUCK.lock().map(drop)
                });
                for _ in 0..5 {
                    scope.begin(|| NEVER.wait());
                }
                WAITS.wait()
            })
        });
        // Of all of them, and of the one that waits for the mutex.
        until(|| deadlock::registered_waits() == 7);
        thread::sleep(SHORT);
        assert_eq!(REPORTS.load(SeqCst), 1);
    });
}

/// Whoever formats it may use it.
#[test]
fn a_scope_that_is_shown_begins_children() {
    struct Begins<F>(F);
    impl<F: FnMut()> fmt::Write for Begins<F> {
        fn write_str(&mut self, _: &str) -> fmt::Result {
            (self.0)();
            Ok(())
        }
    }
    in_time(|| {
        let results = scope(|scope| {
            let mut begins = Begins(|| scope.begin(|| Ok::<_, Cancelled>(1)));
            fmt::Write::write_fmt(&mut begins, format_args!("{scope:?}")).unwrap();
            Ok::<_, Cancelled>(())
        });
        assert!(results.unwrap().iter().sum::<u32>() > 0);
    });
}

/// Results die while the panic of the closure is on its way out.
#[test]
fn results_that_panic_while_the_closure_does() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("a result");
        }
    }
    let message = common::panic_of(|| {
        scope(|scope| {
            for _ in 0..2 {
                scope.begin(|| Ok::<_, Cancelled>(Bomb));
            }
            thread::sleep(SHORT);
            if true {
                panic!("the closure");
            }
            Ok::<_, Cancelled>(())
        })
    });
    assert_eq!(message, "the closure");
}

/// Nothing is left of waits that were cancelled, nor of those for children.
#[test]
fn registrations_end_with_their_waits() {
    alone("scope::registrations_end_with_their_waits", || {
        let (mutex, tracked) = (Mutex::new(()), Semaphore::tracked(1));
        let monitor = Monitor::new(());
        let (send, receive) = mpsc::channel::<()>();
        let thread = spawn(move || receive.recv().is_err()).unwrap();
        let handle = std::sync::Mutex::new(Some(thread));
        let join = || {
            let mut handle = handle.lock().unwrap();
            match handle.take().unwrap().join() {
                Err(JoinError::Cancelled { handle: thread }) => *handle = Some(thread),
                other => panic!("{other:?}"),
            }
        };
        let waits: [&(dyn Fn() + Sync); 4] = [
            &|| assert!(mutex.lock().is_err()),
            &|| assert!(tracked.acquire().is_err()),
            &|| assert!(monitor.enter().is_err()),
            &join,
        ];
        let guards = (
            mutex.lock().unwrap(),
            tracked.acquire().unwrap(),
            monitor.enter().unwrap(),
        );
        for wait in waits {
            let end = scope(|scope| {
                scope.begin(|| {
                    wait();
                    wait();
                    // Who waits for this thread may be among them.
                    assert!(deadlock::registered_waits() <= 1);
                    Ok::<_, &str>(())
                });
                until(|| deadlock::registered_waits() == 1);
                Err("enough")
            });
            assert_eq!(messages(&end.unwrap_err()), ["enough"]);
            assert_eq!(deadlock::registered_waits(), 0);
        }
        drop(guards);
        let end = scope(|scope| {
            scope.begin(|| {
                let inside = monitor.enter()?;
                inside.wait_while(|()| true).map(drop)
            });
            until(|| deadlock::registered_waits() == 1);
            Err("enough")
        });
        assert_eq!(messages(&end.unwrap_err()), ["enough"]);
        assert_eq!(deadlock::registered_waits(), 0);
        drop(send);
        assert!(handle.into_inner().unwrap().unwrap().join().unwrap());
    });
}

/// A child is done when its closure has returned. That its thread-locals wait for what the opener has is no deadlock, while
/// that one waits for another child: neither if the opener comes to that only then, nor if it waits for both before.
#[test]
fn destructors_of_a_childs_thread_locals_may_wait() {
    static LOCK: Mutex<()> = Mutex::new(());

    struct Waits(Arc<Event>, mpsc::Sender<Result<(), AcquireError>>);

    impl Drop for Waits {
        fn drop(&mut self) {
            self.0.set();
            self.1.send(LOCK.lock().map(drop)).unwrap();
        }
    }

    thread_local!(static WAITS: RefCell<Option<Waits>> = const { RefCell::new(None) });
    let test = "scope::destructors_of_a_childs_thread_locals_may_wait";
    alone(test, || {
        for opener_is_first in [false, true] {
            let (send, answer) = mpsc::channel();
            let (end, go) = (Event::new(), Event::new());
            let begins = Arc::new(Event::new());
            let theirs = begins.clone();
            let is_registered = |number| until(|| deadlock::registered_waits() == number);
            let guard = LOCK.lock().unwrap();
            thread::scope(|threads| {
                let results = scope(|scope| {
                    scope.begin(|| {
                        // Before ours, so that it is destroyed when ours is gone: then it isn't late.
                        drop(Lock::owned().lock().unwrap());
                        WAITS.with(|waits| *waits.borrow_mut() = Some(Waits(theirs, send)));
                        end.wait()
                    });
                    scope.begin(|| go.wait());
                    if opener_is_first {
                        threads.spawn(|| {
                            is_registered(2);
                            end.set();
                            begins.wait().unwrap();
                            // For long enough to be refused.
                            thread::sleep(SHORT);
                            is_registered(2);
                            go.set();
                        });
                    } else {
                        end.set();
                        is_registered(1);
                        threads.spawn(|| {
                            // For the opener as well, now that it waits for the other child.
                            is_registered(2);
                            go.set();
                        });
                    }
                    Ok::<_, Cancelled>(())
                });
                results.unwrap();
            });
            drop(guard);
            assert_eq!(answer.recv(), Ok(Ok(())));
            is_registered(0);
        }
    });
}
