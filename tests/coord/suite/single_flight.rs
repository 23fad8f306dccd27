//! `SingleFlight`: DiskCache's scenarios under their names, who computes, who waits, and who gets the error.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::*;

/// Where the tests keep their values, with the moments until which those are fresh.
#[derive(Default)]
struct Shelf {
    values: Mutex<HashMap<String, (u64, Instant)>>,
    computed: AtomicU32,
}

type Answer = Result<u64, Box<dyn std::error::Error + Send + Sync>>;

impl Shelf {
    fn put(&self, key: &str, value: u64, fresh_for: Duration) {
        let value = (value, Instant::now() + fresh_for);
        self.values.lock().unwrap().insert(key.to_owned(), value);
    }

    fn read(&self, key: &str) -> Option<(u64, Duration)> {
        let (value, ends) = *self.values.lock().unwrap().get(key)?;
        Some((value, ends.saturating_duration_since(Instant::now())))
    }

    /// The value of a key, made by that if it is to be.
    fn get(
        &self,
        store: &impl Store,
        key: &str,
        fresh_for: Duration,
        make: impl FnOnce(&LockGuard) -> Answer,
    ) -> Answer {
        SingleFlight::new(store, key).get(
            || Ok(self.read(key)),
            |guard| {
                self.computed.fetch_add(1, Ordering::SeqCst);
                let value = make(guard)?;
                self.put(key, value, fresh_for);
                Ok(value)
            },
        )
    }

    fn computed(&self) -> u32 {
        self.computed.load(Ordering::SeqCst)
    }
}

/// Eight threads of DiskCache's compute eight times.
pub(super) fn a_cold_miss_is_computed_once<W: World>() {
    let world = W::new();
    let shelf = Arc::new(Shelf::default());
    let tasks = [(); 8].map(|()| {
        let (store, shelf) = (world.session(), shelf.clone());
        task(move || {
            let slowly = |_: &_| {
                thread::sleep(2 * SHORT);
                Ok(7)
            };
            shelf.get(&store, "a", PATIENCE, slowly).unwrap()
        })
    });
    assert_eq!(tasks.map(Task::answer), [7; 8]);
    assert_eq!(shelf.computed(), 1);
    let store = world.session();
    // Nothing is held any more, and it is remembered how long it has taken.
    assert!(store.list().unwrap().is_empty());
    let duration = Averager::new(&store, "a (single flight)").get().unwrap();
    assert!(duration.unwrap() >= 2.0 * SHORT.as_secs_f64());
}

pub(super) fn an_old_value_is_taken_at_once<W: World>() {
    let (_world, one, other) = two::<W>();
    let shelf = Arc::new(Shelf::default());
    shelf.put("a", 1, Duration::ZERO);
    let (go_on, wait) = mpsc::channel::<()>();
    let computes = task({
        let shelf = shelf.clone();
        move || {
            let make = |_: &_| {
                wait.recv().unwrap();
                Ok(2)
            };
            shelf.get(&one, "a", PATIENCE, make).unwrap()
        }
    });
    until(|| shelf.computed() == 1);
    for _ in 0..3 {
        let answer = shelf.get(&other, "a", PATIENCE, |_| panic!("another one is at it"));
        assert_eq!(answer.unwrap(), 1);
    }
    go_on.send(()).unwrap();
    assert_eq!(computes.answer(), 2);
    let answer = shelf.get(&other, "a", PATIENCE, |_| panic!("it is there"));
    assert_eq!(answer.unwrap(), 2);
}

/// DiskCache's `test_memoize_stampede`: what is fresh for a while is computed anew again and again, and nobody waits for that but
/// who computes.
pub(super) fn test_memoize_stampede<W: World>() {
    let world = W::new();
    let fresh_for = Duration::from_millis(60);
    let shelf = Arc::new(Shelf::default());
    shelf.put("a", 0, fresh_for);
    let end = Instant::now() + 6 * fresh_for;
    let computing = Arc::new(AtomicBool::new(false));
    let tasks = [(); 3].map(|()| {
        let (store, shelf, computing) = (world.session(), shelf.clone(), computing.clone());
        task(move || {
            let mut last = 0;
            while Instant::now() < end {
                let answer = shelf.get(&store, "a", fresh_for, |_| {
                    assert!(!computing.swap(true, Ordering::SeqCst), "two at once");
                    thread::sleep(Duration::from_millis(10));
                    computing.store(false, Ordering::SeqCst);
                    Ok(u64::from(shelf.computed()))
                });
                let answer = answer.unwrap();
                assert!(answer >= last);
                last = answer;
                thread::sleep(Duration::from_millis(1));
            }
        })
    });
    tasks.into_iter().for_each(Task::answer);
    assert!(shelf.computed() >= 1);
}

fn fibonacci(store: &impl Store, shelf: &Shelf, number: u64) -> Answer {
    shelf.get(store, &format!("{number}"), PATIENCE, |_| {
        if number < 2 {
            return Ok(number);
        }
        Ok(fibonacci(store, shelf, number - 1)? + fibonacci(store, shelf, number - 2)?)
    })
}

/// Computations that need others.
pub(super) fn test_memoize_stampede_fibonacci<W: World>() {
    let world = W::new();
    let shelf = Shelf::default();
    let answer = fibonacci(&world.session(), &shelf, 60).unwrap();
    assert_eq!(answer, 1_548_008_755_920);
    assert_eq!(shelf.computed(), 61);
    // The key of a value can be removed, as any other.
    shelf.values.lock().unwrap().remove("60");
    assert_eq!(fibonacci(&world.session(), &shelf, 60).unwrap(), answer);
    assert_eq!(shelf.computed(), 62);
}

/// Whether a value that is fresh for that long is computed anew where a computation takes a second.
fn is_early(flight: &SingleFlight, left: Duration) -> bool {
    let mut is_early = false;
    let answer = flight.get(
        || Ok::<_, CoordError>(Some((1, left))),
        |_| {
            is_early = true;
            Ok(2)
        },
    );
    assert_eq!(answer.unwrap(), 1 + i32::from(is_early));
    is_early
}

pub(super) fn nearly_over_means_early<W: World>() {
    let (_world, one, other) = two::<W>();
    let flight = SingleFlight::new(&one, "a");
    // As long as nobody knows how long it takes nobody is early.
    assert!(!is_early(&flight, Duration::from_nanos(1)));
    let durations = Averager::new(&other, "b (single flight)");
    durations.add(1000.0).unwrap();
    let flight = SingleFlight::new(&one, "b");
    assert!(!is_early(&flight, Duration::MAX));
    assert!(!is_early(
        &flight.clone().beta(0.0),
        Duration::from_nanos(1)
    ));
    assert!(!is_early(&flight, Duration::from_secs(1_000_000)));
    // One of a million isn't.
    assert!(is_early(&flight, Duration::from_millis(1)));
    // That has taken no time, so it is half as long now, of which the handle knows.
    assert!(durations.get().unwrap().unwrap() < 501.0);
}

pub(super) fn who_fails_early_gets_what_is_fresh<W: World>() {
    let (_world, one, other) = two::<W>();
    Averager::new(&other, "a (single flight)").add(1e9).unwrap();
    let flight = SingleFlight::new(&one, "a");
    let get = |left, time| {
        let mut tries = 0;
        let answer: Answer = flight.get(
            || Ok(Some((1, left))),
            |_| {
                tries += 1;
                thread::sleep(time);
                Err("no".into())
            },
        );
        assert_eq!(tries, 1);
        answer
    };
    let moment = Duration::from_millis(20);
    assert_eq!(get(Duration::from_secs(60), Duration::ZERO).unwrap(), 1);
    // By the time that it has failed the value isn't fresh any more.
    assert!(get(moment, moment).is_err());
    assert!(get(Duration::ZERO, Duration::ZERO).is_err());
    // Nor does it take a store that works.
    one.close().unwrap();
    let answer: Answer = flight.get(|| Ok(Some((1, PATIENCE))), |_| Ok(2));
    assert_eq!(answer.unwrap(), 1);
}

/// By the share of those that the exponential distribution says.
pub(super) fn as_early_as_the_dice_say<W: World>() {
    let world = W::new();
    let store = world.session();
    for (beta, left, share) in [(1.0, 1.0_f64, 0.368), (2.0, 1.0, 0.607), (1.0, 2.0, 0.135)] {
        let mut early = 0;
        for _ in 0..400 {
            // It takes a second again.
            let durations = Averager::new(&store, "a (single flight)");
            durations.pop().unwrap();
            durations.add(1.0).unwrap();
            let flight = SingleFlight::new(&store, "a").beta(beta);
            early += u32::from(is_early(&flight, Duration::from_secs_f64(left)));
        }
        // Five times the standard deviation.
        let found = f64::from(early) / 400.0;
        assert!((found - share).abs() < 0.125, "{found} for {share}");
    }
}

pub(super) fn who_computes_gets_the_error<W: World>() {
    let world = W::new();
    let (one, other) = (world.session(), world.session());
    let shelf = Arc::new(Shelf::default());
    let (go_on, wait) = mpsc::channel::<()>();
    let fails = task({
        let shelf = shelf.clone();
        move || {
            let make = |_: &_| {
                wait.recv().unwrap();
                Err("no".into())
            };
            shelf
                .get(&one, "a", PATIENCE, make)
                .unwrap_err()
                .to_string()
        }
    });
    until(|| shelf.computed() == 1);
    let waiters = [(); 3].map(|()| {
        let (store, shelf) = (world.session(), shelf.clone());
        task(move || shelf.get(&store, "a", PATIENCE, |_| Ok(3)).unwrap())
    });
    until_queued(&other, "a", 3);
    go_on.send(()).unwrap();
    assert_eq!(fails.answer(), "no");
    assert_eq!(waiters.map(Task::answer), [3; 3]);
    assert_eq!(shelf.computed(), 2);
}

pub(super) fn a_panic_lets_the_next_one_in<W: World>() {
    let (_world, one, other) = two::<W>();
    let shelf = Shelf::default();
    let message = common::panic_of(|| {
        let _ = shelf.get(&one, "a", PATIENCE, |_| panic!("that was it"));
    });
    assert!(message.contains("that was it"));
    let answer = shelf.get(&other, "a", PATIENCE, |guard| Ok(guard.fencing_token()));
    assert!(answer.unwrap() > 0);
}

pub(super) fn errors_of_reads_come_through<W: World>() {
    let world = W::new();
    let flight = SingleFlight::new(&world.session(), "a");
    let answer: Answer = flight.get(|| Err("unreadable".into()), |_| Ok(1));
    assert_eq!(answer.unwrap_err().to_string(), "unreadable");
    // Also under the lock, which is given back.
    let mut reads = 0;
    let answer: Answer = flight.get(
        || {
            reads += 1;
            if reads == 1 {
                Ok(None)
            } else {
                Err("unreadable".into())
            }
        },
        |_| Ok(1),
    );
    assert_eq!(answer.unwrap_err().to_string(), "unreadable");
    assert!(world.session().list().unwrap().is_empty());
}

/// The look before the lock and that under it may differ.
pub(super) fn who_was_forestalled_computes_nothing<W: World>() {
    let world = W::new();
    let flight = SingleFlight::new(&world.session(), "a");
    for first in [None, Some((1, Duration::ZERO))] {
        let mut reads = 0;
        let answer: Answer = flight.get(
            || {
                reads += 1;
                Ok(if reads == 1 {
                    first
                } else {
                    Some((2, PATIENCE))
                })
            },
            |_| panic!("it is there"),
        );
        assert_eq!(answer.unwrap(), 2);
    }
    // An old one that comes up meanwhile is none.
    let mut reads = 0;
    let answer: Answer = flight.get(
        || {
            reads += 1;
            Ok((reads > 1).then_some((1, Duration::ZERO)))
        },
        |_| Ok(2),
    );
    assert_eq!(answer.unwrap(), 2);
}

/// Each computes what the other one waits for: one of them hears of it, and then both get on.
pub(super) fn two_that_need_each_other<W: World>() {
    let world = W::new();
    let shelf = Arc::new(Shelf::default());
    let barrier = Arc::new(Barrier::new(2));
    let tasks = [("a", "b"), ("b", "a")].map(|(mine, theirs)| {
        let (store, shelf, barrier) = (world.session(), shelf.clone(), barrier.clone());
        task(move || {
            shelf.get(&store, mine, PATIENCE, |_| {
                barrier.wait();
                shelf.get(&store, theirs, PATIENCE, |_| Ok(1))
            })
        })
    });
    let answers = tasks.map(Task::answer);
    let deadlocks = answers.iter().filter(|answer| {
        let error = answer.as_ref().err();
        let error = error.and_then(|error| error.downcast_ref::<CoordError>());
        matches!(error, Some(CoordError::Deadlock { .. }))
    });
    assert_eq!(deadlocks.count(), 1, "{answers:?}");
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
}

pub(super) fn of_itself_it_is_a_deadlock<W: World>() {
    let world = W::new();
    let (store, shelf) = (world.session(), Shelf::default());
    let answer = shelf.get(&store, "a", PATIENCE, |_| {
        shelf.get(&store, "a", PATIENCE, |_| Ok(1))
    });
    let error = answer.unwrap_err();
    let error = error.downcast_ref::<CoordError>().unwrap();
    assert!(matches!(error, CoordError::Deadlock { .. }), "{error:?}");
}

pub(super) fn a_closed_store_computes_nothing<W: World>() {
    let world = W::new();
    let (store, shelf) = (world.session(), Shelf::default());
    store.close().unwrap();
    let answer = shelf.get(&store, "a", PATIENCE, |_| Ok(1));
    let error = answer.unwrap_err();
    let error = error.downcast_ref::<CoordError>().unwrap();
    assert!(matches!(error, CoordError::Closed { .. }), "{error:?}");
    // What is there needs no store.
    shelf.put("a", 1, PATIENCE);
    assert_eq!(shelf.get(&store, "a", PATIENCE, |_| Ok(2)).unwrap(), 1);
    assert_eq!(shelf.computed(), 0);
}

pub(super) fn a_beta_that_means_nothing<W: World>() {
    let world = W::new();
    let store = world.session();
    for beta in [-1.0, f64::NAN, f64::INFINITY] {
        let message = common::panic_of(|| SingleFlight::new(&store, "a").beta(beta));
        assert!(message.contains("means nothing"), "{message}");
    }
}
