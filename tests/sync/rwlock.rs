//! `RwLock`: readers, writers, writers in a circle, and those that end.

use hapax::sync::RwLock;

use super::*;

#[test]
fn readers_share_and_writers_dont() {
    let lock = RwLock::new(5);
    let (one, another) = (lock.read().unwrap(), lock.read().unwrap());
    assert_eq!((*one, *another), (5, 5));
    assert_eq!(
        (lock.is_locked(), lock.is_locked_exclusive()),
        (true, false)
    );
    assert_eq!(lock.try_write().unwrap_err(), AcquireError::WouldBlock);
    assert_eq!(
        lock.try_write_for(SHORT).unwrap_err(),
        AcquireError::TimedOut
    );
    drop((one, another));
    let writer = lock.try_write_until(Instant::now()).unwrap();
    assert!(lock.is_locked_exclusive());
    on_thread(|| {
        assert_eq!(lock.try_read().unwrap_err(), AcquireError::WouldBlock);
        assert_eq!(
            lock.try_read_for(SHORT).unwrap_err(),
            AcquireError::TimedOut
        );
    });
    drop(writer);
    assert!(!lock.is_locked());
    assert!(format!("{lock:?}").contains('5'));
}

/// Two numbers that are always the same.
#[test]
fn readers_see_whole_writes() {
    let times = scaled(20_000, 200);
    in_time(move || {
        let lock = RwLock::new((0, 0));
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..times {
                        let mut numbers = lock.write().unwrap();
                        numbers.0 += 1;
                        numbers.1 += 1;
                    }
                });
                scope.spawn(|| {
                    for _ in 0..times {
                        let numbers = lock.read().unwrap();
                        assert_eq!(numbers.0, numbers.1);
                    }
                });
            }
        });
        assert_eq!(lock.into_inner().0, 2 * times);
    });
}

#[test]
fn a_writer_doesnt_wait_for_itself() {
    let lock = RwLock::named("it", ());
    let _guard = lock.write().unwrap();
    assert!(is_deadlock(&lock.write()));
    let report = lock.read().unwrap_err().to_string();
    assert!(report.contains("waits for it, held by thread"), "{report}");
}

/// A writer waits for a mutex whose holder wants to read.
#[test]
fn writers_take_part_in_circles() {
    let refused = in_time(|| {
        let (lock, mutex, both_hold) = (RwLock::new(()), Mutex::new(()), Barrier::new(2));
        thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let _own = lock.write().unwrap();
                both_hold.wait();
                mutex.lock().map(drop)
            });
            let reader = scope.spawn(|| {
                let _own = mutex.lock().unwrap();
                both_hold.wait();
                lock.read().map(drop)
            });
            [writer, reader].map(|thread| thread.join().unwrap())
        })
    });
    assert_eq!(
        refused.iter().filter(|answer| is_deadlock(answer)).count(),
        1
    );
    assert_eq!(refused.iter().filter(|answer| answer.is_ok()).count(), 1);
}

/// A writer ends: before others wait, and after.
#[test]
fn writers_that_end_keep_the_data_out_of_reach() {
    in_time(|| {
        for late in [Duration::ZERO, 2 * SHORT] {
            let mut lock = RwLock::new(5);
            let is_held = Event::new();
            thread::scope(|scope| {
                scope.spawn(|| {
                    std::mem::forget(lock.write());
                    is_held.set();
                    thread::sleep(late);
                });
                let waits = [
                    scope.spawn(|| {
                        is_held.wait().unwrap();
                        lock.read().map(drop)
                    }),
                    scope.spawn(|| {
                        is_held.wait().unwrap();
                        lock.write().map(drop)
                    }),
                ];
                for wait in waits {
                    let answer = wait.join().unwrap();
                    assert!(matches!(answer, Err(AcquireError::OwnerDied { .. })));
                }
            });
            assert!(lock.is_locked_exclusive() && lock.is_locked());
            assert!(matches!(
                lock.try_read(),
                Err(AcquireError::OwnerDied { .. })
            ));
            assert_eq!(*lock.get_mut(), 5);
        }
    });
}

/// Guards that readers have forgotten are nobody's: writers wait, readers don't.
#[test]
fn readers_that_end_are_not_known() {
    let lock = Arc::new(RwLock::new(()));
    let theirs = lock.clone();
    thread::spawn(move || std::mem::forget(theirs.read()))
        .join()
        .unwrap();
    assert_eq!(
        lock.try_write_for(SHORT).unwrap_err(),
        AcquireError::TimedOut
    );
    assert!(lock.read().is_ok());
}

/// One that waits to write isn't one that writes.
#[test]
fn a_writer_that_waits_doesnt_write() {
    in_time(|| {
        let lock = RwLock::new(());
        let guard = lock.read().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| lock.write().map(drop));
            thread::sleep(SHORT);
            assert!(!lock.is_locked_exclusive());
            drop(guard);
        });
    });
}
