//! `Semaphore`: CPython's SemaphoreTests and BoundedSemaphoreTests. Negative numbers, and a time together with a mere
//! try, don't compile.

use super::*;

#[test]
fn test_constructor() {
    let semaphore = Semaphore::new(0);
    assert_eq!(
        semaphore.try_acquire().map(drop),
        Err(AcquireError::WouldBlock)
    );
    assert_eq!(
        Semaphore::new(Semaphore::MAX_PERMITS).available_permits(),
        Semaphore::MAX_PERMITS
    );
}

#[test]
fn test_acquire() {
    let one = Semaphore::new(1);
    drop(one.acquire().unwrap());
    let two = Semaphore::new(2);
    let permits = (two.acquire().unwrap(), two.acquire().unwrap());
    assert!(two.try_acquire().is_err());
    drop(permits);
    assert_eq!(two.available_permits(), 2);
}

#[test]
fn test_acquire_destroy() {
    let semaphore = Semaphore::new(1);
    semaphore.acquire().unwrap().forget();
    drop(semaphore);
}

/// Ten threads and seven permits: seven get one, then as many as are added.
#[test]
fn test_acquire_contended() {
    contend(|semaphore, permits| {
        (0..permits).for_each(|_| semaphore.add_permits(1).unwrap());
    });
}

#[test]
fn test_multirelease() {
    contend(|semaphore, permits| semaphore.add_permits(permits).unwrap());
}

fn contend(add: fn(&Semaphore, usize)) {
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
            add(&semaphore, 7);
            reaches(13);
            add(&semaphore, 6);
            reaches(19);
            assert!(semaphore.try_acquire().is_err());
            add(&semaphore, 1);
        });
        assert_eq!(semaphore.available_permits(), 0);
    });
}

#[test]
fn test_try_acquire() {
    let semaphore = Semaphore::new(2);
    let permits = [semaphore.try_acquire(), semaphore.try_acquire()].map(Result::unwrap);
    assert!(semaphore.try_acquire().is_err());
    drop(permits);
    assert!(semaphore.try_acquire().is_ok());
}

#[test]
fn test_try_acquire_contended() {
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
fn test_acquire_timeout() {
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
fn test_with() {
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
    let huge = Semaphore::new(Semaphore::MAX_PERMITS);
    assert_eq!(
        huge.add_permits(1),
        Err(ReleaseError::OverRelease {
            max: Semaphore::MAX_PERMITS
        })
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

/// Who was served from the queue leaves the way free.
#[test]
fn permits_beside_an_empty_queue_are_free() {
    in_time(|| {
        let semaphore = Semaphore::new(0);
        thread::scope(|scope| {
            let waiter = scope.spawn(|| semaphore.acquire().map(|permit| permit.forget()));
            thread::sleep(SHORT);
            semaphore.add_permits(2).unwrap();
            waiter.join().unwrap().unwrap();
            assert!(semaphore.try_acquire().is_ok());
        });
    });
}

/// More than there may ever be is an error, not a wait.
#[test]
fn too_many_are_refused() {
    for semaphore in [Semaphore::bounded(2), Semaphore::bounded(0)] {
        let error = semaphore.acquire_many(3).map(drop);
        assert!(matches!(error, Err(AcquireError::TooMany { max: 0 | 2 })));
    }
    let semaphore = Semaphore::new(0);
    let error = semaphore.acquire_many(usize::MAX).map(drop);
    assert_eq!(
        error,
        Err(AcquireError::TooMany {
            max: Semaphore::MAX_PERMITS
        })
    );
    semaphore.add_permits(Semaphore::MAX_PERMITS).unwrap();
    let error = semaphore.add_permits(1);
    assert_eq!(
        error,
        Err(ReleaseError::OverRelease {
            max: Semaphore::MAX_PERMITS
        })
    );
    assert!(semaphore.add_permits(usize::MAX).is_err());
    assert_eq!(semaphore.drain_permits(), Semaphore::MAX_PERMITS);
}
