//! Thread-local values: threads end, locals go, others visit and merge, all at once.
//!
//! A value may be looked at for several steps; whoever looks at one that is dead notices it, and so does who drops
//! one twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use hapax::local::{Local, LocalError};
use hapax_shuttle_tests::{Census, Life, below, chance, explore, step, together};

/// Nobody leaves a value behind.
#[track_caller]
fn assert_nobody(census: &Census) {
    assert_eq!(census.alive(), 0, "a value was leaked");
}

fn lives(census: &Census) -> Local<Life> {
    let census = census.clone();
    Local::new(move || census.life())
}

/// Something that a thread does with its value, perhaps while it looks at it already.
fn use_somehow(local: &Local<Life>, census: &Census, depth: usize) {
    match below(6) {
        0 => drop(local.take()),
        1 => drop(local.replace(census.life())),
        2 => drop(local.get().inspect(|life| life.touch())),
        _ => local.with(|life| {
            life.touch();
            if depth > 0 {
                use_somehow(local, census, depth - 1);
            }
            life.assert_alive();
        }),
    }
}

/// Threads end while the local goes: with the last of them, or before, or by the thread that made it.
///
/// Would catch: a value that both drop, or neither; one that is dropped while its thread looks at it.
#[test]
fn thread_death_races_local_death() {
    explore(12_000, || {
        let census = Census::default();
        let local = Arc::new(lives(&census));
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let (local, census) = (local.clone(), census.clone());
                shuttle::thread::spawn(move || {
                    for _ in 0..below(3) {
                        use_somehow(&local, &census, 2);
                    }
                })
            })
            .collect();
        let weak = Arc::downgrade(&local);
        drop(local);
        let mut ended = 0;
        for thread in threads {
            thread.join().unwrap();
            ended += 1;
            if let Some(local) = weak.upgrade() {
                assert!(local.len() <= 3 - ended, "a thread has left its value");
            }
        }
        assert!(weak.upgrade().is_none());
        assert_nobody(&census);
    });
}

/// The next local gets the place of the last one, in threads that have used that, and that are ending.
///
/// Would catch: a thread that finds the old one's value; the end of a thread that takes the new one's away.
#[test]
fn places_change_hands() {
    explore(12_000, || {
        let census = Census::default();
        let threads = (0..3).map(|_| {
            let census = census.clone();
            move || {
                for _ in 0..3 {
                    let local = Arc::new(lives(&census));
                    assert!(local.get().is_none());
                    let other = {
                        let local = local.clone();
                        shuttle::thread::spawn(move || local.with(|life| life.serial))
                    };
                    let serial = local.with(|life| life.serial);
                    if chance(2) {
                        drop(local);
                        assert_ne!(other.join().unwrap(), serial);
                    } else {
                        assert_ne!(other.join().unwrap(), serial);
                        assert_eq!(local.len(), 1);
                        local.with(|life| assert_eq!(life.serial, serial));
                    }
                }
            }
        });
        together(threads);
        assert_nobody(&census);
    });
}

/// Threads visit all values while others begin and end, take theirs away and put others there, and the local goes.
///
/// Would catch: a visitor that looks at a value which its thread has dropped; one that sees a value twice; a value
/// that stays because it was visited.
#[test]
fn visits_race_both() {
    explore(12_000, || {
        let census = Census::default();
        let local = Arc::new(lives(&census));
        let visitors = (0..2).map(|_| {
            let local = local.clone();
            shuttle::thread::spawn(move || {
                for _ in 0..2 {
                    let mut seen = Vec::new();
                    local.for_each(|life| {
                        life.touch();
                        seen.push(life.serial);
                    });
                    let visits = seen.len();
                    seen.sort_unstable();
                    seen.dedup();
                    assert_eq!(seen.len(), visits, "a value was seen twice");
                }
            })
        });
        let visitors: Vec<_> = visitors.collect();
        let users = (0..3).map(|_| {
            let (local, census) = (local.clone(), census.clone());
            shuttle::thread::spawn(move || {
                use_somehow(&local, &census, 1);
                use_somehow(&local, &census, 1);
            })
        });
        let users: Vec<_> = users.collect();
        drop(local);
        for thread in visitors.into_iter().chain(users) {
            thread.join().unwrap();
        }
        assert_nobody(&census);
    });
}

/// Threads count and end, while another one adds up what there is.
///
/// Would catch: a count that is lost when two threads end at once; one that is missing from the total while its thread
/// ends, or is there twice.
#[test]
fn retirement_races_totals() {
    explore(12_000, || {
        const THREADS: u64 = 4;
        let local = Local::new(|| AtomicU64::new(0));
        let local = Arc::new(local.retire(0, |total, count| {
            step();
            *total += count.load(Relaxed);
        }));
        let watcher = {
            let local = local.clone();
            shuttle::thread::spawn(move || {
                let mut last = 0;
                for _ in 0..4 {
                    let total = local.total();
                    assert!(last <= total && total <= THREADS, "{last}, then {total}");
                    last = total;
                }
            })
        };
        together((0..THREADS).map(|_| {
            let local = local.clone();
            move || {
                local.with(|count| {
                    step();
                    count.fetch_add(1, Relaxed);
                });
            }
        }));
        watcher.join().unwrap();
        assert_eq!(*local.retired(), THREADS);
        assert_eq!((local.total(), local.len()), (THREADS, 0));
    });
}

/// A value's destructor uses another local of the thread, which may be gone by then.
///
/// Would catch: a value that is found after it was dropped.
#[test]
fn destructors_use_values_of_an_ending_thread() {
    struct Asking(Life, Arc<Local<Life>>);
    impl Drop for Asking {
        fn drop(&mut self) {
            self.0.touch();
            let answer = self.1.try_with(Life::touch);
            assert!(matches!(answer, Ok(()) | Err(LocalError::Destroyed)));
        }
    }
    explore(6_000, || {
        let census = Census::default();
        let plain = Arc::new(lives(&census));
        let asking = Arc::new(Local::new({
            let (census, plain) = (census.clone(), plain.clone());
            move || Asking(census.life(), plain.clone())
        }));
        together((0..3).map(|_| {
            let (plain, asking) = (plain.clone(), asking.clone());
            move || {
                if chance(2) {
                    plain.with(Life::touch);
                }
                asking.with(|value| value.0.touch());
                if chance(2) {
                    plain.with(Life::touch);
                }
            }
        }));
        assert_eq!((plain.len(), asking.len()), (0, 0));
        drop((plain, asking));
        assert_nobody(&census);
    });
}
