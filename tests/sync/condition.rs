//! `Condition`: CPython's ConditionTests, and what its `Condition` gets wrong.

use hapax::sync::{RLockGuard, WaitError, deadlock};

use super::*;

#[derive(Default)]
struct State {
    /// How many waits have begun.
    begun: usize,
    phase: u32,
    /// In which phases the first waits ended, and the second ones.
    first: Vec<u32>,
    second: Vec<u32>,
}

/// `notify(n)` wakes exactly n, and those that have waited longest.
#[test]
fn test_notify() {
    for _ in 0..2 {
        in_time(|| {
            let (state, condition) = (Mutex::new(State::default()), Condition::new());
            let wait_twice = || {
                let mut guard = state.lock().unwrap();
                guard.begun += 1;
                let mut guard = condition.wait(guard).unwrap();
                let phase = guard.phase;
                guard.first.push(phase);
                guard.begun += 1;
                let mut guard = condition.wait(guard).unwrap();
                let phase = guard.phase;
                guard.second.push(phase);
            };
            let notify = |threads: usize, phase: u32| {
                let mut guard = state.lock().unwrap();
                guard.phase = phase;
                condition.notify(&guard, threads).unwrap()
            };
            let begun = |number: usize| until(|| state.lock().unwrap().begun == number);
            thread::scope(|scope| {
                for _ in 0..5 {
                    scope.spawn(wait_twice);
                }
                begun(5);
                assert_eq!(notify(0, 0), 0);
                assert_eq!(notify(3, 1), 3);
                begun(8);
                // Nobody else wakes.
                thread::sleep(SHORT);
                assert_eq!(state.lock().unwrap().first, [1; 3]);
                // The other two, and three for the second time.
                assert_eq!(notify(5, 2), 5);
                begun(10);
                until(|| state.lock().unwrap().second.len() == 3);
                assert_eq!(state.lock().unwrap().first[3..], [2; 2]);
                assert_eq!(state.lock().unwrap().second, [2; 3]);
                assert_eq!(notify(usize::MAX, 3), 2);
            });
            assert_eq!(state.lock().unwrap().second[3..], [3; 2]);
            // Nothing is kept for those that come later.
            assert_eq!(notify(1, 4), 0);
        });
    }
}

#[test]
fn test_timeout() {
    in_time(|| {
        let (mutex, condition) = (Mutex::new(()), Condition::new());
        for _ in 0..3 {
            let start = Instant::now();
            let guard = mutex.lock().unwrap();
            let (guard, result) = condition.wait_for(guard, SHORT).unwrap();
            assert!(result.timed_out());
            assert!(start.elapsed() >= SHORT);
            drop(guard);
        }
        let guard = mutex.lock().unwrap();
        assert!(
            condition
                .wait_for(guard, Duration::ZERO)
                .unwrap()
                .1
                .timed_out()
        );
    });
}

#[test]
fn test_waitfor() {
    in_time(|| {
        let (state, condition) = (Mutex::new(0), Condition::new());
        thread::scope(|scope| {
            scope.spawn(|| {
                let guard = state.lock().unwrap();
                let guard = condition.wait_while(guard, |state| **state < 4).unwrap();
                assert_eq!(*guard, 4);
            });
            for _ in 0..4 {
                thread::sleep(Duration::from_millis(5));
                let mut guard = state.lock().unwrap();
                *guard += 1;
                condition.notify_one(&guard).unwrap();
            }
        });
    });
}

/// The condition is never true, but looked at each time, and once more when the time is over.
#[test]
fn test_waitfor_timeout() {
    in_time(|| {
        let (state, condition) = (Mutex::new(0), Condition::new());
        thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..3 {
                    let mut guard = state.lock().unwrap();
                    *guard += 1;
                    condition.notify_one(&guard).unwrap();
                    drop(guard);
                    thread::sleep(Duration::from_millis(5));
                }
            });
            let (start, mut looks) = (Instant::now(), 0);
            let guard = state.lock().unwrap();
            let end = condition.wait_timeout_while(guard, 2 * SHORT, |state| {
                looks += 1;
                **state < 4
            });
            assert!(end.unwrap().1.timed_out());
            assert!(start.elapsed() >= 2 * SHORT);
            assert!(looks >= 2);
        });
        let guard = state.lock().unwrap();
        let (guard, result) = condition
            .wait_timeout_while(guard, Duration::ZERO, |state| **state < 3)
            .unwrap();
        assert_eq!((*guard, result.timed_out()), (3, false));
    });
}

/// What was true when the time was over counts, though nobody has said so.
#[test]
fn a_condition_is_looked_at_last() {
    in_time(|| {
        let (state, condition) = (Mutex::new(false), Condition::new());
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(SHORT / 2);
                *state.lock().unwrap() = true;
            });
            let guard = state.lock().unwrap();
            let (_, result) = condition
                .wait_timeout_while(guard, 2 * SHORT, |state| !**state)
                .unwrap();
            assert!(!result.timed_out());
        });
    });
}

/// Without the lock it isn't possible, also if another thread has it. Of guards of `Lock` alone the compiler can't see to
/// that.
#[test]
fn test_unacquired_notify() {
    let (lock, condition) = (Lock::new(), Condition::new());
    let guard = lock.lock().unwrap();
    lock.release().unwrap();
    assert_eq!(condition.notify_one(&guard), Err(ReleaseError::NotHeld));
    let _theirs = lock.lock().unwrap();
    assert_eq!(condition.notify_all(&guard), Err(ReleaseError::NotHeld));
}

#[test]
fn test_unacquired_wait() {
    let (lock, condition) = (Lock::new(), Condition::new());
    let guard = lock.lock().unwrap();
    lock.release().unwrap();
    let _theirs = lock.lock().unwrap();
    let error = condition.wait(guard).unwrap_err();
    assert_eq!(error, WaitError::Release(ReleaseError::NotHeld));
    assert!(lock.is_locked());
    assert!(format!("{condition:?}").contains("waiting: 0"));
}

/// All guards give the lock up, and have it again.
#[test]
fn an_rlock_is_given_up_at_all_levels() {
    in_time(|| {
        let (number, condition) = (RLock::new(AtomicUsize::new(0)), Condition::new());
        thread::scope(|scope| {
            let outer = [number.lock().unwrap(), number.lock().unwrap()];
            scope.spawn(|| {
                let guard = number.lock().unwrap();
                assert_eq!(number.recursion_count(), 1);
                guard.store(5, SeqCst);
                assert_eq!(condition.notify_all(&guard), Ok(1));
            });
            let guard = number.lock().unwrap();
            let guard = condition
                .wait_while(guard, |number| number.load(SeqCst) == 0)
                .unwrap();
            assert_eq!(number.recursion_count(), 3);
            assert_eq!(guard.load(SeqCst), 5);
            drop(outer);
            assert!(number.is_owned());
            drop(guard);
            assert!(!number.is_locked());
        });
    });
}

/// Two conditions over one lock have nothing to do with each other; and one over two locks has two queues.
#[test]
fn conditions_and_locks_are_independent() {
    in_time(|| {
        let (a, b) = (Mutex::new(0), Mutex::new(0));
        let (odd, even) = (Condition::new(), Condition::new());
        let wait = |mutex: &Mutex<i32>, condition: &Condition| {
            let mut guard = mutex.lock().unwrap();
            *guard += 1;
            drop(condition.wait(guard).unwrap());
        };
        thread::scope(|scope| {
            let waits = [
                scope.spawn(|| wait(&a, &odd)),
                scope.spawn(|| wait(&a, &even)),
                scope.spawn(|| wait(&b, &odd)),
            ];
            until(|| *a.lock().unwrap() == 2 && *b.lock().unwrap() == 1);
            assert_eq!(even.notify_all(&b.lock().unwrap()), Ok(0));
            assert_eq!(odd.notify_all(&b.lock().unwrap()), Ok(1));
            assert_eq!(odd.notify_all(&a.lock().unwrap()), Ok(1));
            assert_eq!(even.notify_all(&a.lock().unwrap()), Ok(1));
            waits.into_iter().for_each(|wait| wait.join().unwrap());
        });
    });
}

/// First come, first served; a wait that timed out is in nobody's way. CPython's waiters starve (gh-90968): whoever is
/// notified has to win a race for the lock, and the notifications of a busy loop go to newcomers.
#[test]
fn notifications_are_dealt_out_in_turn() {
    in_time(|| {
        let (order, condition) = (Mutex::new((0, Vec::new())), Condition::new());
        thread::scope(|scope| {
            for number in 0..6 {
                let (order, condition) = (&order, &condition);
                scope.spawn(move || {
                    let mut guard = order.lock().unwrap();
                    guard.0 += 1;
                    if number == 2 {
                        let wait = condition.wait_for(guard, Duration::from_millis(1));
                        let (mut guard, _) = wait.unwrap();
                        guard.0 += 1;
                    } else {
                        condition.wait(guard).unwrap().1.push(number);
                    }
                });
                // The one that gives up counts twice.
                let begun = number + 1 + usize::from(number >= 2);
                until(|| order.lock().unwrap().0 == begun);
            }
            for woken in 1..=5 {
                assert_eq!(condition.notify_one(&order.lock().unwrap()), Ok(1));
                until(|| order.lock().unwrap().1.len() == woken);
            }
        });
        assert_eq!(order.into_inner().1, [0, 1, 3, 4, 5]);
    });
}

/// Producers and consumers over a bounded queue, some of which lose patience: nothing is lost, nobody sleeps on.
#[test]
fn a_queue_gets_on() {
    const CAPACITY: usize = 3;
    let each = scaled(5_000, 50) as u64;
    let sum = in_time(move || {
        let queue = Mutex::new(Vec::new());
        let (not_empty, not_full) = (Condition::new(), Condition::new());
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for number in 1..=each {
                        let guard = queue.lock().unwrap();
                        let mut guard = not_full
                            .wait_while(guard, |queue| queue.len() == CAPACITY)
                            .unwrap();
                        guard.push(number);
                        not_empty.notify_one(&guard).unwrap();
                    }
                });
            }
            let consumers = [Duration::from_micros(20), Duration::from_secs(60)].map(|patience| {
                let (queue, not_empty, not_full) = (&queue, &not_empty, &not_full);
                scope.spawn(move || {
                    let (mut sum, mut got) = (0, 0);
                    while got < each {
                        let guard = queue.lock().unwrap();
                        let wait =
                            not_empty.wait_timeout_while(guard, patience, |it| it.is_empty());
                        let (mut guard, _) = wait.unwrap();
                        if let Some(number) = guard.pop() {
                            sum += number;
                            got += 1;
                            not_full.notify_one(&guard).unwrap();
                        }
                    }
                    sum
                })
            });
            consumers
                .map(|consumer| consumer.join().unwrap())
                .iter()
                .sum::<u64>()
        })
    });
    assert_eq!(sum, each * (each + 1));
}

/// A wait that can't have the lock again passes its notification on, and its guards are harmless.
#[test]
fn a_lost_lock_is_told() {
    in_time(|| {
        let (lock, condition) = (RLock::new(()), Condition::new());
        let (victim, waits) = (Mutex::new(None), AtomicUsize::new(0));
        let (is_refused, is_over) = (Event::new(), Event::new());
        thread::scope(|scope| {
            scope.spawn(|| {
                let outer = lock.lock().unwrap();
                let inner = lock.lock().unwrap();
                *victim.lock().unwrap() = Some(ThreadKey::current());
                waits.fetch_add(1, SeqCst);
                let error = condition.wait(inner).map(drop).unwrap_err();
                assert!(matches!(
                    error,
                    WaitError::Acquire(AcquireError::Deadlock(_))
                ));
                is_refused.set();
                // Otherwise this thread would be one that the other one waits for.
                is_over.wait().unwrap();
                // Another hold, beside a guard that holds nothing.
                let again = lock.lock().unwrap();
                assert_eq!(lock.recursion_count(), 1);
                assert_eq!(condition.notify_one(&outer), Err(ReleaseError::NotHeld));
                drop(outer);
                assert_eq!(lock.recursion_count(), 1);
                drop(again);
                assert!(!lock.is_owned());
            });
            until(|| waits.load(SeqCst) == 1);
            let next = scope.spawn(|| {
                let guard: RLockGuard<'_, ()> = lock.lock().unwrap();
                waits.fetch_add(1, SeqCst);
                condition.wait(guard).map(drop)
            });
            until(|| waits.load(SeqCst) == 2);
            let guard = lock.lock().unwrap();
            let victim = victim.lock().unwrap().unwrap();
            // From here on the victim would wait for a thread that waits for it.
            let wait = deadlock::blocking_on(&[victim], || {
                assert_eq!(condition.notify_one(&guard), Ok(1));
                is_refused.wait().unwrap();
            });
            wait.unwrap();
            drop(guard);
            is_over.set();
            next.join().unwrap().unwrap();
        });
    });
}

/// Nobody is notified who doesn't wait, having come with a guard that holds nothing.
#[test]
fn a_guard_that_holds_nothing_is_never_counted() {
    let times = scaled(20_000, 100);
    in_time(move || {
        let (lock, condition) = (Lock::new(), Condition::new());
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(SeqCst) {
                    // Where nobody else can come in between.
                    let Ok(guard) = lock.try_lock() else { continue };
                    lock.release().unwrap();
                    let wait = condition.wait_for(guard, Duration::ZERO);
                    assert_eq!(
                        wait.map(drop),
                        Err(WaitError::Release(ReleaseError::NotHeld))
                    );
                }
            });
            for _ in 0..times {
                // Another thread may have released it.
                if let Ok(notified) = condition.notify_one(&lock.lock().unwrap()) {
                    assert_eq!(notified, 0);
                }
            }
            is_over.store(true, SeqCst);
        });
    });
}

/// What an `RLock`'s other guards are while their thread waits, and afterwards.
#[test]
fn other_guards_hold_nothing_meanwhile() {
    let (number, condition) = (RLock::new(0), Condition::new());
    let outer = number.lock().unwrap();
    let notified = condition.notified(number.lock().unwrap()).unwrap();
    assert!(!number.is_locked());
    assert_eq!(number.recursion_count(), 0);
    assert_eq!(condition.notify_one(&outer), Err(ReleaseError::NotHeld));
    // Also if another hold has begun: by this thread, or by another one.
    let again = number.lock().unwrap();
    assert_eq!(condition.notify_one(&outer), Err(ReleaseError::NotHeld));
    assert_eq!(condition.notify_one(&again), Ok(1));
    drop(again);
    let error = WaitError::Release(ReleaseError::NotHeld);
    assert_eq!(condition.wait(outer).map(drop), Err(error));
    assert!(!number.is_locked());
    drop(notified);
}

/// A notification is passed on to those who waited when it was sent, and nobody else.
#[test]
fn nothing_is_passed_on_to_those_who_come_later() {
    let (mutex, condition) = (Mutex::new(()), Condition::new());
    let wait = || Box::pin(condition.notified(mutex.lock().unwrap()).unwrap());
    let poll = |wait: &mut std::pin::Pin<Box<hapax::sync::Notified<'_>>>| {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        std::future::Future::poll(wait.as_mut(), &mut context).is_ready()
    };
    let (first, mut second) = (wait(), wait());
    assert_eq!(condition.notify_one(&mutex.lock().unwrap()), Ok(1));
    let mut late = wait();
    drop(first);
    assert!(poll(&mut second));
    assert!(!poll(&mut late));
    let all = wait();
    assert_eq!(condition.notify_all(&mutex.lock().unwrap()), Ok(2));
    let mut late = wait();
    drop(all);
    assert!(!poll(&mut late));
}
