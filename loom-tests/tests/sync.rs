//! `sync`: who gets a lock, a permit or a notification when several want it, give up, or end.
//!
//! Threads look for deadlocks at once, and time passes when a model says so. What a lock protects is a cell of loom's,
//! which reports two threads that get at it without an order between them.

use std::mem;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::time::Duration;

use hapax::model::{Cancellation, end_locks, pass_time};
use hapax::sync::{
    AcquireError, Barrier, BarrierError, Condition, Event, Lock, Monitor, Mutex, RLock,
    ReleaseError, RwLock, Semaphore, WaitError, check_cancelled, deadlock,
};
use hapax_loom_tests::{block_on, model as explore, poll_once};
use loom::cell::UnsafeCell;
use loom::thread::{self, JoinHandle};

/// Longer than any model.
const LONG: Duration = Duration::from_secs(3600);

fn model(preemptions: usize, f: impl Fn() + Send + Sync + 'static) {
    explore(preemptions, move || {
        deadlock::set_check_after(Duration::ZERO);
        f();
        loom::skip_branch();
        assert_eq!(deadlock::registered_waits(), 0, "of waits that are over");
        end_locks();
    });
}

/// What one thread at a time may get at.
#[derive(Debug, Default)]
struct Data(UnsafeCell<u64>);

// SAFETY: loom reports accesses that aren't in order.
unsafe impl Send for Data {}
// SAFETY: as above.
unsafe impl Sync for Data {}

impl Data {
    fn add(&self) {
        // SAFETY: loom reports concurrent accesses.
        self.0.with_mut(|data| unsafe { *data += 1 });
    }

    fn get(&self) -> u64 {
        // SAFETY: as above.
        self.0.with(|data| unsafe { *data })
    }
}

fn spawn<R: 'static>(f: impl FnOnce() -> R + 'static) -> JoinHandle<R> {
    thread::spawn(move || {
        let result = f();
        end_locks();
        result
    })
}

fn is_deadlock<T>(answer: &Result<T, AcquireError>) -> bool {
    matches!(answer, Err(AcquireError::Deadlock(_)))
}

// Locks with owners.

/// Three threads want one mutex.
///
/// Would catch: two that have it; an owner that is forgotten, or stays, so that somebody is refused.
#[test]
fn mutex_is_handed_over() {
    model(2, || {
        let mutex = Arc::new(Mutex::new(Data::default()));
        let add = |mutex: &Mutex<Data>| mutex.lock().unwrap().add();
        let others = [mutex.clone(), mutex.clone()].map(|mutex| spawn(move || add(&mutex)));
        add(&mutex);
        others.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(mutex.lock().unwrap().get(), 3);
    });
}

/// Two threads take two locks, in opposite orders.
///
/// Would catch: a deadlock that nobody sees; two victims; a victim without a deadlock.
#[test]
fn opposite_orders() {
    model(3, || {
        let locks = Arc::new([Mutex::new(()), Mutex::new(())]);
        let both = |first: &Mutex<()>, second: &Mutex<()>| {
            let _first = first.lock().unwrap();
            second.lock().map(drop)
        };
        let theirs = locks.clone();
        let other = spawn(move || both(&theirs[1], &theirs[0]));
        let here = both(&locks[0], &locks[1]);
        let there = other.join().unwrap();
        assert!(here.is_ok() || there.is_ok());
        assert!(here.is_ok() || is_deadlock(&here));
        assert!(there.is_ok() || is_deadlock(&there));
        assert!(locks.iter().all(|lock| !lock.is_locked()));
    });
}

/// Two threads take two locks, in one order: registrations against grants.
///
/// Would catch: a false alarm, by an owner that has just let go or a wait that has just been granted.
#[test]
fn one_order() {
    model(3, || {
        let locks = Arc::new([Mutex::new(Data::default()), Mutex::new(Data::default())]);
        let both = |locks: &[Mutex<Data>; 2]| {
            let first = locks[0].lock().unwrap();
            first.add();
            locks[1].lock().unwrap().add();
            drop(first);
            locks[1].lock().unwrap().add();
        };
        let theirs = locks.clone();
        let other = spawn(move || both(&theirs));
        both(&locks);
        other.join().unwrap();
        assert_eq!(locks[1].lock().unwrap().get(), 4);
    });
}

/// A thread ends while it holds a mutex for which another one waits, or will.
///
/// Would catch: a wait that nobody ends; data that somebody gets at.
#[test]
fn owner_death_races_parking() {
    model(3, || {
        let mutex = Arc::new(Mutex::new(Data::default()));
        let theirs = mutex.clone();
        let dying = spawn(move || {
            let guard = theirs.lock();
            let has_it = guard.is_ok();
            mem::forget(guard);
            has_it
        });
        // Before it, or never.
        let here = mutex.lock().map(|data| data.add());
        assert!(here.is_ok() || matches!(here, Err(AcquireError::OwnerDied { .. })));
        assert!(dying.join().unwrap());
        assert!(matches!(mutex.lock(), Err(AcquireError::OwnerDied { .. })));
        assert!(mutex.is_locked());
    });
}

/// A thread ends while it holds a mutex for which two others wait.
///
/// Would catch: one that learns of it, and the other one that doesn't.
#[test]
fn owner_death_reaches_all() {
    model(2, || {
        let mutex = Arc::new(Mutex::new(()));
        mem::forget(mutex.lock());
        let waiters = [mutex.clone(), mutex].map(|mutex| spawn(move || mutex.lock().map(drop)));
        end_locks();
        for waiter in waiters {
            let answer = waiter.join().unwrap();
            assert!(matches!(answer, Err(AcquireError::OwnerDied { .. })));
        }
    });
}

/// The time of a wait is over while the lock comes free.
///
/// Would catch: a lock that nobody has any more.
#[test]
fn time_out_races_unlock() {
    model(3, || {
        let mutex = Arc::new(Mutex::new(Data::default()));
        let guard = mutex.lock().unwrap();
        let theirs = mutex.clone();
        let other = spawn(move || match theirs.try_lock_for(LONG) {
            Ok(data) => data.add(),
            Err(error) => assert_eq!(error, AcquireError::TimedOut),
        });
        let clock = spawn(pass_time);
        guard.add();
        drop(guard);
        clock.join().unwrap();
        other.join().unwrap();
        mutex.try_lock().unwrap().add();
    });
}

/// A guard goes late: its hold has been released by another thread, which has taken the lock again.
///
/// Would catch: a guard that releases a hold which isn't its own.
#[test]
fn holds_have_numbers() {
    model(3, || {
        let lock = Arc::new((Lock::new(), Data::default()));
        let late = lock.0.lock().unwrap();
        let theirs = lock.clone();
        let other = spawn(move || {
            let released = theirs.0.release();
            let guard = theirs.0.lock().unwrap();
            theirs.1.add();
            assert_eq!(guard.release(), Ok(()));
            released
        });
        let ours = late.release();
        let theirs = other.join().unwrap();
        // One of them has released the first hold.
        assert_ne!(ours, theirs);
        assert!([ours, theirs].contains(&Err(ReleaseError::NotHeld)));
    });
}

/// A lock is released by a thread that has only seen that it is held.
///
/// Would catch: a next hold with the number of the last one.
#[test]
fn numbers_are_handed_on() {
    model(3, || {
        let lock = Arc::new(Lock::new());
        let theirs = lock.clone();
        let other = spawn(move || {
            if theirs.release().is_ok() {
                assert_eq!(theirs.lock().unwrap().release(), Ok(()));
            }
        });
        let _ = lock.lock().unwrap().release();
        other.join().unwrap();
        assert!(!lock.is_locked());
    });
}

/// Readers and a writer.
///
/// Would catch: a writer beside a reader; a share that is lost.
#[test]
fn readers_race_a_writer() {
    model(2, || {
        let lock = Arc::new(RwLock::new(Data::default()));
        let (reads, writes) = (lock.clone(), lock.clone());
        let reader = spawn(move || reads.read().unwrap().get());
        let writer = spawn(move || writes.write().unwrap().add());
        let seen = lock.read().unwrap().get();
        assert!(seen <= 1 && reader.join().unwrap() <= 1);
        writer.join().unwrap();
        assert_eq!(lock.write().unwrap().get(), 1);
    });
}

/// A writer ends, while somebody waits to read.
///
/// Would catch: a reader that nobody wakes, or that gets at the data.
#[test]
fn writer_death_races_a_reader() {
    model(3, || {
        let lock = Arc::new(RwLock::new(Data::default()));
        let theirs = lock.clone();
        let dying = spawn(move || mem::forget(theirs.write()));
        let here = lock.read().map(|data| data.get());
        assert!(here.is_ok() || matches!(here, Err(AcquireError::OwnerDied { .. })));
        dying.join().unwrap();
        assert!(matches!(lock.write(), Err(AcquireError::OwnerDied { .. })));
        assert!(matches!(lock.read(), Err(AcquireError::OwnerDied { .. })));
    });
}

// Semaphores.

/// Three threads want one permit.
///
/// Would catch: a permit that lies there while somebody waits for it; two that have it; a hand-over without an order.
#[test]
fn permit_is_handed_over() {
    model(2, || hand_over(Semaphore::new(1)));
}

/// As `permit_is_handed_over`, where who comes may pass who waits.
#[test]
fn permit_is_handed_over_barging() {
    model(2, || hand_over(Semaphore::barging(1)));
}

fn hand_over(semaphore: Semaphore) {
    let semaphore = Arc::new((semaphore, Data::default()));
    let add = |semaphore: &(Semaphore, Data)| {
        let permit = semaphore.0.acquire().unwrap();
        semaphore.1.add();
        drop(permit);
    };
    let others = [semaphore.clone(), semaphore.clone()].map(|it| spawn(move || add(&it)));
    add(&semaphore);
    others.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(semaphore.0.available_permits(), 1);
    assert_eq!(semaphore.1.get(), 3);
}

/// Permits are taken, all at once, from whoever gives them back.
///
/// Would catch: permits that come without what was done before.
#[test]
fn draining_races_giving() {
    model(3, || {
        let semaphore = Arc::new((Semaphore::new(0), Data::default()));
        let theirs = semaphore.clone();
        let giver = spawn(move || {
            theirs.1.add();
            theirs.0.add_permits(1).unwrap();
        });
        if semaphore.0.drain_permits() == 1 {
            assert_eq!(semaphore.1.get(), 1);
        }
        giver.join().unwrap();
    });
}

/// The time of a wait is over while a permit is given back.
///
/// Would catch: a permit that is granted to nobody, or twice.
#[test]
fn time_out_races_grant() {
    model(3, || {
        let semaphore = Arc::new(Semaphore::new(0));
        let theirs = semaphore.clone();
        let other = spawn(move || theirs.try_acquire_for(LONG).map(|permit| permit.forget()));
        let clock = spawn(pass_time);
        semaphore.add_permits(1).unwrap();
        clock.join().unwrap();
        let left = match other.join().unwrap() {
            Ok(()) => 0,
            Err(error) => {
                assert_eq!(error, AcquireError::TimedOut);
                1
            }
        };
        assert_eq!(semaphore.available_permits(), left);
    });
}

/// Who wants many gives up, in front of who wants one.
///
/// Would catch: a permit that lies there while somebody waits for it.
#[test]
fn who_gives_up_lets_others_pass() {
    model(3, || {
        let semaphore = Arc::new(Semaphore::new(1));
        let theirs = semaphore.clone();
        let mut many = Box::pin(async move { theirs.acquire_many_async(2).await.map(drop) });
        assert!(poll_once(&mut many).is_pending());
        let theirs = semaphore.clone();
        let one = spawn(move || theirs.acquire().map(drop));
        drop(many);
        one.join().unwrap().unwrap();
        assert_eq!(semaphore.available_permits(), 1);
    });
}

/// A future is dropped while it is granted a permit.
#[test]
fn cancellation_races_grant() {
    model(3, || {
        let semaphore = Arc::new(Semaphore::new(0));
        let theirs = semaphore.clone();
        let mut future = Box::pin(async move { theirs.acquire_async().await.map(drop) });
        assert!(poll_once(&mut future).is_pending());
        let theirs = semaphore.clone();
        let giver = spawn(move || theirs.add_permits(1).unwrap());
        drop(future);
        giver.join().unwrap();
        assert_eq!(semaphore.available_permits(), 1);
    });
}

/// A task goes to sleep while it is granted a permit, having been polled by another waker before.
///
/// Would catch: a waker that is stored too late, or taken too early; a grant without an order.
#[test]
fn polling_races_grant() {
    model(3, || {
        let semaphore = Arc::new((Semaphore::new(0), Data::default()));
        let theirs = semaphore.clone();
        let mut future = Box::pin(async move {
            let permit = theirs.0.acquire_async().await.unwrap();
            theirs.1.add();
            drop(permit);
        });
        let is_done = poll_once(&mut future).is_ready();
        assert!(!is_done);
        let theirs = semaphore.clone();
        let giver = spawn(move || {
            theirs.1.add();
            theirs.0.add_permits(1).unwrap();
        });
        block_on(future);
        giver.join().unwrap();
        assert_eq!(semaphore.0.available_permits(), 1);
    });
}

/// A semaphore is closed while somebody comes to wait.
#[test]
fn closing_races_waiting() {
    model(3, || {
        let semaphore = Arc::new(Semaphore::new(0));
        let theirs = semaphore.clone();
        let other = spawn(move || theirs.acquire().map(drop));
        semaphore.close();
        assert_eq!(other.join().unwrap(), Err(AcquireError::Closed));
    });
}

/// Two threads take permits of two tracked semaphores, in opposite orders.
#[test]
fn tracked_opposite_orders() {
    model(3, || {
        let semaphores = Arc::new([Semaphore::tracked(1), Semaphore::tracked(1)]);
        let theirs = semaphores.clone();
        let other = spawn(move || {
            let _first = theirs[1].acquire().unwrap();
            theirs[0].acquire().map(drop)
        });
        let here = {
            let _first = semaphores[0].acquire().unwrap();
            semaphores[1].acquire().map(drop)
        };
        let there = other.join().unwrap();
        assert!(here.is_ok() || there.is_ok());
        assert!(here.is_ok() || is_deadlock(&here));
        assert!(there.is_ok() || is_deadlock(&there));
        assert!(
            semaphores
                .iter()
                .all(|semaphore| semaphore.available_permits() == 1)
        );
    });
}

/// The time of a wait for tracked permits is over while some are given back.
///
/// Would catch: permits that are granted to nobody; a wait that stays registered.
#[test]
fn tracked_time_out_races_grant() {
    model(3, || {
        let semaphore = Arc::new(Semaphore::tracked(2));
        let permit = semaphore.acquire().unwrap();
        let theirs = semaphore.clone();
        let other = spawn(move || {
            let one = theirs.acquire().unwrap();
            let two = theirs.try_acquire_for(LONG);
            drop(one);
            two.map(drop)
        });
        let clock = spawn(pass_time);
        drop(permit);
        clock.join().unwrap();
        let two = other.join().unwrap();
        assert!(matches!(two, Ok(()) | Err(AcquireError::TimedOut)));
        assert_eq!(semaphore.available_permits(), 2);
    });
}

/// Two threads want both of two tracked permits; one asks for both at once, the other for one after the other.
///
/// Would catch: a wait that was granted and stays registered, so that somebody is refused for it.
#[test]
fn tracked_grants_race_registrations() {
    model(2, || {
        let semaphore = Arc::new(Semaphore::tracked(2));
        let theirs = semaphore.clone();
        let other = spawn(move || {
            drop(theirs.acquire_many(2).unwrap());
            drop(theirs.acquire().unwrap());
        });
        let one = semaphore.acquire().unwrap();
        let two = semaphore.acquire().unwrap();
        drop((one, two));
        other.join().unwrap();
        assert_eq!(semaphore.available_permits(), 2);
    });
}

/// A thread ends with a tracked permit for which another one waits, or will.
#[test]
fn tracked_owner_death() {
    model(3, || {
        let semaphore = Arc::new(Semaphore::tracked(1));
        let theirs = semaphore.clone();
        let dying = spawn(move || mem::forget(theirs.acquire()));
        let here = semaphore.acquire().map(drop);
        assert!(here.is_ok() || matches!(here, Err(AcquireError::OwnerDied { .. })));
        dying.join().unwrap();
        assert!(matches!(
            semaphore.acquire(),
            Err(AcquireError::OwnerDied { .. })
        ));
    });
}

// Events and conditions.

/// An event is set, and cleared at once, while somebody waits, who has a second one to fall back on.
///
/// Would catch: a wait that sleeps through; what came before isn't seen.
#[test]
fn setting_races_waiting() {
    model(3, || {
        let event = Arc::new((Event::new(), Data::default()));
        let theirs = event.clone();
        let other = spawn(move || {
            theirs.0.wait().unwrap();
            theirs.1.get()
        });
        event.1.add();
        event.0.set();
        assert_eq!(other.join().unwrap(), 1);
    });
}

/// An event is set and cleared while a wait for it times out.
#[test]
fn setting_races_time_out() {
    model(3, || {
        let event = Arc::new((Event::new(), Data::default()));
        let theirs = event.clone();
        let other = spawn(move || {
            if theirs.0.wait_for(LONG) == Ok(true) {
                assert_eq!(theirs.1.get(), 1);
            }
        });
        let clock = spawn(pass_time);
        event.1.add();
        event.0.set();
        event.0.clear();
        clock.join().unwrap();
        other.join().unwrap();
    });
}

/// Somebody waits for a change that another thread makes.
///
/// Would catch: a notification that comes before the wait, and is missed.
#[test]
fn notifying_races_waiting() {
    model(3, || {
        let shared = Arc::new((Mutex::new(false), Condition::new()));
        let theirs = shared.clone();
        let other = spawn(move || {
            let guard = theirs.0.lock().unwrap();
            drop(theirs.1.wait_while(guard, |is_ready| !**is_ready).unwrap());
        });
        let mut guard = shared.0.lock().unwrap();
        *guard = true;
        shared.1.notify_one(&guard).unwrap();
        drop(guard);
        other.join().unwrap();
    });
}

/// A wait times out while it is notified.
///
/// Would catch: a notification that was counted, and has come to nobody.
#[test]
fn notifying_races_time_out() {
    model(3, || {
        let shared = Arc::new((Mutex::new(()), Condition::new()));
        let theirs = shared.clone();
        let other = spawn(move || {
            let guard = theirs.0.lock().unwrap();
            let (_, result) = theirs.1.wait_for(guard, LONG).unwrap();
            result.timed_out()
        });
        let clock = spawn(pass_time);
        let guard = shared.0.lock().unwrap();
        let notified = shared.1.notify_one(&guard).unwrap();
        drop(guard);
        clock.join().unwrap();
        assert_eq!(other.join().unwrap(), notified == 0);
    });
}

/// A future that waits in front of another one is dropped while it is notified.
///
/// Would catch: a notification that isn't passed on.
#[test]
fn notifying_races_cancellation() {
    model(3, || {
        let shared = Arc::new((Mutex::new(()), Condition::new()));
        let wait = || {
            let shared = shared.clone();
            let mut wait = Box::pin(async move {
                let notified = shared.1.notified(shared.0.lock().unwrap()).unwrap();
                notified.await;
            });
            assert!(poll_once(&mut wait).is_pending());
            wait
        };
        let (first, second) = (wait(), wait());
        let theirs = shared.clone();
        let notifier = spawn(move || {
            let guard = theirs.0.lock().unwrap();
            assert_eq!(theirs.1.notify_one(&guard), Ok(1));
        });
        drop(first);
        block_on(second);
        notifier.join().unwrap();
    });
}

/// A thread gives up an `RLock` that it holds twice, to wait, while another one takes it.
///
/// Would catch: a count that two threads get at; a lock that isn't given back, or not taken again.
#[test]
fn waiting_gives_all_levels_up() {
    model(3, || {
        let shared = Arc::new((RLock::new(Data::default()), Condition::new()));
        let outer = shared.0.lock().unwrap();
        let theirs = shared.clone();
        let other = spawn(move || {
            let guard = theirs.0.lock().unwrap();
            guard.add();
            theirs.1.notify_all(&guard).unwrap();
        });
        let inner = shared.0.lock().unwrap();
        let inner = shared.1.wait_while(inner, |data| data.get() == 0).unwrap();
        assert_eq!(shared.0.recursion_count(), 2);
        drop(inner);
        outer.add();
        drop(outer);
        other.join().unwrap();
        assert!(!shared.0.is_locked());
    });
}

/// Two threads meet at a barrier; one of them loses patience.
///
/// Would catch: a thread that passes alone, or that nobody wakes when it can't pass any more.
#[test]
fn barrier_races_time_out() {
    model(2, || {
        let barrier = Arc::new(Barrier::new(2).unwrap().with_action(|| ()));
        let [first, second] = [barrier.clone(), barrier.clone()];
        let first = spawn(move || first.wait_for(LONG));
        let second = spawn(move || second.wait());
        let clock = spawn(pass_time);
        clock.join().unwrap();
        let answers = [first.join().unwrap(), second.join().unwrap()];
        let passed = answers.iter().filter(|answer| answer.is_ok()).count();
        assert!(passed == 0 || passed == 2);
        assert_eq!(barrier.is_broken(), passed == 0);
    });
}

/// Two threads wait at a barrier for three; one of them loses patience.
///
/// Would catch: a thread that nobody wakes when the barrier breaks.
#[test]
fn breaking_races_waiting() {
    model(2, || {
        let barrier = Arc::new(Barrier::new(3).unwrap());
        let theirs = barrier.clone();
        let other = spawn(move || theirs.wait());
        let clock = spawn(pass_time);
        let here = barrier.wait_for(LONG);
        clock.join().unwrap();
        assert_eq!(here, Err(BarrierError::TimedOut));
        assert_eq!(other.join().unwrap(), Err(BarrierError::Broken));
    });
}

// Monitors.

/// The time of a wait is over while its condition comes about.
///
/// Would catch: a monitor that is handed to who has given up; a result that says otherwise than what is there.
#[test]
fn monitor_hand_over_races_time_out() {
    model(3, || {
        let monitor = Arc::new(Monitor::new(Data::default()));
        let theirs = monitor.clone();
        let waiter = spawn(move || {
            let inside = theirs.enter().unwrap();
            let answer = inside.wait_timeout_while(LONG, |data| data.get() == 0);
            let (inside, result) = answer.unwrap();
            assert_eq!(result.timed_out(), inside.get() == 0);
        });
        let clock = spawn(pass_time);
        monitor.enter().unwrap().add();
        clock.join().unwrap();
        waiter.join().unwrap();
        assert_eq!(monitor.try_enter().unwrap().get(), 1);
    });
}

/// The time of a wait is over while another thread calls its condition, which lies in the frame of the one that waits. It can't
/// enter again: the end of the other one was told already.
///
/// Would catch: a wait that returns before the call does; a call of a condition that is gone.
#[test]
fn monitor_time_out_races_a_look() {
    model(3, || {
        let monitor = Arc::new(Monitor::new(()));
        let theirs = monitor.clone();
        let leaver = spawn(move || {
            let inside = theirs.enter().unwrap();
            end_locks();
            drop(inside);
        });
        let frame = Data::default();
        let answer = monitor.enter().and_then(|inside| {
            let answer = inside.wait_timeout_while(Duration::ZERO, |()| frame.get() == 0);
            // It may be used for something else now.
            frame.add();
            answer.map(|(_, result)| result.timed_out())
        });
        assert!(matches!(
            answer,
            Ok(true) | Err(AcquireError::OwnerDied { .. })
        ));
        leaver.join().unwrap();
    });
}

/// A monitor is left to who waits for a condition, while somebody comes who changes the data back.
///
/// Would catch: somebody who is inside between the look and the waiter.
#[test]
fn monitor_hand_over_races_entering() {
    model(2, || {
        let monitor = Arc::new(Monitor::new(Data::default()));
        let [waits, changes] = [monitor.clone(), monitor.clone()];
        let waiter = spawn(move || {
            let inside = waits.enter().unwrap();
            // Odd.
            let inside = inside.wait_while(|data| data.get() % 2 == 0).unwrap();
            assert_eq!(inside.get() % 2, 1);
        });
        let other = spawn(move || {
            let inside = changes.enter().unwrap();
            if inside.get() == 1 {
                inside.add();
                inside.add();
            }
        });
        monitor.enter().unwrap().add();
        waiter.join().unwrap();
        other.join().unwrap();
        assert!(!monitor.is_locked());
    });
}

/// One waits for what another one does, who waits for a third one. Each leaves once.
///
/// Would catch: one who isn't looked at because another one is.
#[test]
fn monitor_forgets_nobody() {
    model(2, || {
        let monitor = Arc::new(Monitor::new(Data::default()));
        let waiters = [2, 1].map(|least| {
            let monitor = monitor.clone();
            spawn(move || {
                let inside = monitor.enter().unwrap();
                let inside = inside.wait_while(|data| data.get() < least).unwrap();
                inside.add();
            })
        });
        monitor.enter().unwrap().add();
        waiters
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        assert_eq!(monitor.try_enter().unwrap().get(), 3);
    });
}

/// Two hand a monitor to and fro, as a third one comes. The second time in a row it isn't handed over.
///
/// Would catch: somebody whom the one that begins to wait looks past; one who is told to enter, and sleeps on.
#[test]
fn monitor_takes_turns() {
    model(2, || {
        let monitor = Arc::new(Monitor::new(Data::default()));
        let theirs = monitor.clone();
        let other = spawn(move || {
            let inside = theirs.enter().unwrap();
            let inside = inside.wait_while(|data| data.get() != 1).unwrap();
            inside.add();
            drop(inside.wait_while(|data| data.get() != 3).unwrap());
        });
        let theirs = monitor.clone();
        let third = spawn(move || drop(theirs.enter().unwrap()));
        let inside = monitor.enter().unwrap();
        inside.add();
        let inside = inside.wait_while(|data| data.get() != 2).unwrap();
        inside.add();
        drop(inside);
        other.join().unwrap();
        third.join().unwrap();
        assert!(!monitor.is_locked());
    });
}

/// A thread ends inside, while another one comes to wait for a condition.
///
/// Would catch: a wait that nobody ends; data that somebody gets at.
#[test]
fn monitor_owner_death_races_waiting() {
    model(3, || {
        let monitor = Arc::new(Monitor::new(Data::default()));
        let theirs = monitor.clone();
        let dying = spawn(move || {
            let inside = theirs.enter().unwrap();
            inside.add();
            mem::forget(inside);
        });
        let enters = monitor.enter();
        let here = enters.and_then(|inside| inside.wait_while(|data| data.get() == 0).map(drop));
        assert!(matches!(here, Err(AcquireError::OwnerDied { .. })));
        dying.join().unwrap();
        assert!(matches!(
            monitor.enter(),
            Err(AcquireError::OwnerDied { .. })
        ));
        assert!(monitor.is_locked());
    });
}

/// A thread leaves when its end was told already, while another one comes, who gives the monitor up in its place.
///
/// Would catch: a monitor that is handed over and given up; one who is looked at, and is told by nobody, or too early.
#[test]
fn monitor_owner_death_races_a_late_hand_over() {
    model(2, || {
        let monitor = Arc::new(Monitor::new(Data::default()));
        let [waits, leaves] = [monitor.clone(), monitor.clone()];
        let waiter = spawn(move || {
            let frame = Data::default();
            let answer = waits.enter()?.wait_while(|data| {
                assert_eq!(frame.get(), 0);
                data.get() == 0
            });
            frame.add();
            answer.map(drop)
        });
        let dying = spawn(move || {
            let inside = leaves.enter().unwrap();
            inside.add();
            end_locks();
            drop(inside);
        });
        let here = monitor.enter().map(drop);
        let there = waiter.join().unwrap();
        dying.join().unwrap();
        for answer in [&here, &there] {
            assert!(matches!(
                answer,
                Ok(()) | Err(AcquireError::OwnerDied { .. })
            ));
        }
        let is_left = monitor.enter().map(drop);
        assert_eq!(is_left.is_ok(), here.is_ok() && there.is_ok());
        assert_eq!(is_left.is_ok(), !monitor.is_locked());
    });
}

/// As above, with a condition that panics. What it has panicked with goes to nobody if the end of who leaves was told
/// meanwhile; it is dropped by user code, which waits here for the one whose condition it was.
///
/// Would catch: user code under the lock of the queue.
#[test]
fn monitor_owner_death_races_a_panic() {
    struct Payload(Arc<Event>);
    impl Drop for Payload {
        fn drop(&mut self) {
            self.0.wait().unwrap();
        }
    }
    model(2, || {
        let monitor = Arc::new(Monitor::new(Data::default()));
        let is_told = Arc::new(Event::new());
        let [waits, leaves] = [monitor.clone(), monitor.clone()];
        let waiter = spawn(move || {
            let inside = waits.enter();
            let answer = panic::catch_unwind(AssertUnwindSafe(|| {
                inside?.wait_while(|data| {
                    if data.get() > 0 {
                        panic::resume_unwind(Box::new(Payload(is_told.clone())));
                    }
                    true
                })
            }));
            is_told.set();
            if let Ok(answer) = answer {
                assert!(matches!(answer, Err(AcquireError::OwnerDied { .. })));
            }
        });
        let dying = spawn(move || {
            let inside = leaves.enter().unwrap();
            inside.add();
            end_locks();
            drop(inside);
        });
        let here = monitor.enter().map(drop);
        assert!(matches!(here, Ok(()) | Err(AcquireError::OwnerDied { .. })));
        waiter.join().unwrap();
        dying.join().unwrap();
    });
}

// Cancellation.

/// A thread looks whether it is cancelled, without a lock.
///
/// Would catch: what came before isn't seen.
#[test]
fn cancelling_races_a_look() {
    model(3, || {
        let shared = Arc::new((Cancellation::default(), Data::default()));
        let theirs = shared.clone();
        let looker = spawn(move || {
            theirs.0.with(|| {
                if check_cancelled().is_err() {
                    assert_eq!(theirs.1.get(), 1);
                }
            })
        });
        shared.1.add();
        shared.0.cancel();
        looker.join().unwrap();
    });
}

/// A thread goes to sleep while it is cancelled.
///
/// Would catch: one that sleeps on, having looked too early; what came before isn't seen.
#[test]
fn cancelling_races_sleeping() {
    model(3, || {
        let shared = Arc::new((Cancellation::default(), Data::default()));
        let theirs = shared.clone();
        let sleeper = spawn(move || {
            theirs.0.with(|| Event::new().wait().unwrap_err());
            theirs.1.get()
        });
        shared.1.add();
        shared.0.cancel();
        assert_eq!(sleeper.join().unwrap(), 1);
    });
}

/// A thread is cancelled while it is granted a permit.
///
/// Would catch: a permit that nobody has any more, or two; a thread that sleeps on.
#[test]
fn cancelling_races_grant() {
    model(3, || {
        let shared = Arc::new((Semaphore::new(0), Cancellation::default()));
        let [theirs, others] = [shared.clone(), shared.clone()];
        let waiter = spawn(move || {
            let wait = || theirs.0.acquire().map(|permit| permit.forget());
            theirs.1.with(wait)
        });
        let canceller = spawn(move || others.1.cancel());
        shared.0.add_permits(1).unwrap();
        canceller.join().unwrap();
        let left = match waiter.join().unwrap() {
            Ok(()) => 0,
            Err(error) => {
                assert_eq!(error, AcquireError::Cancelled);
                1
            }
        };
        assert_eq!(shared.0.available_permits(), left);
    });
}

/// A thread that waits, perhaps in front of a task, is cancelled while it is notified.
///
/// Would catch: a notification that isn't passed on; a guard without its lock.
#[test]
fn cancelling_races_notifying() {
    model(3, || {
        let shared = Arc::new((Mutex::new(0), Condition::new(), Cancellation::default()));
        let theirs = shared.clone();
        let first = spawn(move || {
            theirs.2.with(|| {
                let guard = theirs.0.lock()?;
                let mut turns = theirs.1.wait_while(guard, |turns| **turns == 0)?;
                *turns -= 1;
                Ok::<_, WaitError>(())
            })
        });
        let theirs = shared.clone();
        let mut second = Box::pin(async move {
            loop {
                let mut turns = theirs.0.lock().unwrap();
                if *turns > 0 {
                    *turns -= 1;
                    return;
                }
                let notified = theirs.1.notified(turns).unwrap();
                notified.await;
            }
        });
        assert!(poll_once(&mut second).is_pending());
        let add = || {
            let mut turns = shared.0.lock().unwrap();
            *turns += 1;
            shared.1.notify_one(&turns).unwrap();
            turns
        };
        let guard = add();
        shared.2.cancel();
        drop(guard);
        if first.join().unwrap().is_ok() {
            drop(add());
        }
        block_on(second);
        assert_eq!(*shared.0.lock().unwrap(), 0);
    });
}

/// Somebody inside a monitor waits for a condition, and is cancelled while it comes about.
///
/// Would catch: a monitor that is handed to who has left, and stays locked; a condition that is called when it is gone.
#[test]
fn cancelling_races_a_condition() {
    model(3, || {
        let shared = Arc::new((Monitor::new(false), Cancellation::default()));
        let theirs = shared.clone();
        let waiter = spawn(move || {
            theirs.1.with(|| {
                let guard = theirs.0.enter()?;
                guard
                    .wait_while(|is_so| !*is_so)
                    .map(|is_so| assert!(*is_so))
            })
        });
        let theirs = shared.clone();
        let canceller = spawn(move || theirs.1.cancel());
        *shared.0.enter().unwrap() = true;
        canceller.join().unwrap();
        let answer = waiter.join().unwrap();
        assert!(matches!(answer, Ok(()) | Err(AcquireError::Cancelled)));
        assert!(!shared.0.is_locked());
    });
}
