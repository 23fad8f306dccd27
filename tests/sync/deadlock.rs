//! Deadlocks, and holders that end.

use hapax::sync::deadlock;

use super::*;

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

/// A guard of a thread that has ended is dropped by a thread-local that is destroyed late, after somebody has waited: the lock
/// was given up in its place, once, and nobody gets at the data.
#[test]
fn a_lock_that_was_given_up_stays_so() {
    static LOCK: Mutex<u32> = Mutex::new(0);

    struct Late(Option<MutexGuard<'static, u32>>, Arc<Event>);

    impl Drop for Late {
        fn drop(&mut self) {
            // The thread's end has been told. Somebody waits meanwhile.
            self.1.set();
            thread::sleep(2 * SHORT);
            drop(self.0.take());
        }
    }

    thread_local!(static LATE: RefCell<Option<Late>> = const { RefCell::new(None) });
    in_time(|| {
        let is_late = Arc::new(Event::new());
        let theirs = is_late.clone();
        let owner = thread::spawn(move || {
            // Before the lock is taken for the first time, so it is destroyed after that was told.
            LATE.with(|late| *late.borrow_mut() = Some(Late(None, theirs)));
            let guard = LOCK.lock().unwrap();
            LATE.with(|late| late.borrow_mut().as_mut().unwrap().0 = Some(guard));
        });
        is_late.wait().unwrap();
        let waits = [(); 2].map(|()| thread::spawn(|| LOCK.lock().map(drop)));
        for wait in waits {
            assert!(matches!(
                wait.join().unwrap(),
                Err(AcquireError::OwnerDied { .. })
            ));
        }
        owner.join().unwrap();
        for _ in 0..2 {
            assert!(matches!(LOCK.lock(), Err(AcquireError::OwnerDied { .. })));
            assert!(matches!(
                LOCK.try_lock_for(SHORT),
                Err(AcquireError::OwnerDied { .. })
            ));
        }
        assert!(LOCK.is_locked());
    });
}

/// The first who comes, with little time, learns of the owner's end all the same.
#[test]
fn a_short_wait_learns_of_the_end() {
    in_time(|| {
        hear_of_a_dead_owner(|mutex| mutex.try_lock_for(Duration::from_micros(10)).map(drop));
        hear_of_a_dead_owner(|mutex| mutex.try_lock_for(SHORT).map(drop));
        hear_of_a_dead_owner(|mutex| mutex.lock().map(drop));
    });
}

/// What `f` gets to hear of a mutex whose owner has ended unnoticed.
fn hear_of_a_dead_owner(f: impl FnOnce(&Mutex<()>) -> Result<(), AcquireError>) {
    let mutex = Mutex::new(());
    on_thread(|| std::mem::forget(mutex.lock()));
    // `std` doesn't wait for the thread-locals of scoped threads.
    thread::sleep(SHORT);
    assert!(matches!(f(&mutex), Err(AcquireError::OwnerDied { .. })));
}
