//! `Mutex`, `RLock`, `Lock`: CPython's BaseLockTests, LockTests and RLockTests.

use super::*;

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

/// RLockTests. To release what isn't held, or what another thread holds, doesn't compile: that is for guards, which stay on
/// their thread.
mod rlock_tests {
    use super::*;

    #[test]
    fn test_reacquire() {
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

    #[test]
    fn test_locked() {
        let lock = RLock::new(());
        assert!(!lock.is_locked());
        let first = lock.lock().unwrap();
        let second = lock.lock().unwrap();
        assert!(on_thread(|| lock.is_locked()));
        drop(second);
        assert!(lock.is_locked());
        drop(first);
        assert!(!lock.is_locked());
    }

    #[test]
    #[allow(non_snake_case, reason = "CPython's name")]
    fn test__is_owned() {
        let lock = RLock::new(());
        assert!(!lock.is_owned());
        let _guard = lock.lock().unwrap();
        assert!(lock.is_owned());
        assert!(!on_thread(|| lock.is_owned()));
    }
}

/// Guards of parts, and guards that keep their mutex, give it back once, and are refused as others are.
#[test]
fn guards_of_all_kinds_give_the_mutex_back() {
    let pair = Arc::new(Mutex::new((1, String::from("one"))));
    let mut name = MutexGuard::map(pair.lock().unwrap(), |pair| &mut pair.1);
    name.push('s');
    assert_eq!(&*name, "ones");
    assert!(is_deadlock(&pair.lock()));
    drop(name);
    assert!(!pair.is_locked());
    let panic = catch_unwind(AssertUnwindSafe(|| {
        let guard = pair.lock().unwrap();
        drop(MutexGuard::map(guard, |_| -> &mut i32 {
            std::panic::resume_unwind(Box::new(5))
        }));
    }));
    assert!(panic.is_err() && !pair.is_locked());
    let weak = Arc::downgrade(&pair);
    let mut guard = pair.lock_arc().unwrap();
    drop(pair);
    guard.0 += 1;
    assert_eq!((guard.0, &*guard.1), (2, "ones"));
    let pair = weak.upgrade().unwrap();
    assert_eq!(pair.try_lock_arc().unwrap_err(), AcquireError::WouldBlock);
    drop(guard);
    assert!(pair.try_lock_arc().is_ok());
    drop(pair);
    assert!(weak.upgrade().is_none());
}
