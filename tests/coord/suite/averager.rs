//! `Averager`: DiskCache's scenarios under their names, what is no number, and what threads and time do to it.

use super::*;

/// DiskCache's `test_averager`.
pub(super) fn test_averager<W: World>() {
    let (_world, one, other) = two::<W>();
    let (mine, theirs) = (Averager::new(&one, "nums"), Averager::new(&other, "nums"));
    for number in 0..10 {
        mine.add(f64::from(number)).unwrap();
    }
    assert_eq!(theirs.get().unwrap(), Some(4.5));
    assert_eq!(theirs.pop().unwrap(), Some(4.5));
    for number in 0..20 {
        theirs.add(f64::from(number)).unwrap();
    }
    assert_eq!(mine.get().unwrap(), Some(9.5));
    assert_eq!(mine.pop().unwrap(), Some(9.5));
    assert_eq!((mine.get().unwrap(), theirs.pop().unwrap()), (None, None));
}

/// That of its documentation.
pub(super) fn test_averager_docstring<W: World>() {
    let world = W::new();
    let average = Averager::new(&world.session(), "latency");
    average.add(0.080).unwrap();
    average.add(0.120).unwrap();
    assert_eq!(average.get().unwrap(), Some(0.1));
    let mean = average.add(0.160).unwrap();
    assert!((mean - 0.12).abs() < 1e-15);
    assert_eq!(average.pop().unwrap(), Some(mean));
    assert_eq!(average.get().unwrap(), None);
}

/// What is there stays, and what isn't there stays away.
pub(super) fn numbers_that_are_none_are_refused<W: World>() {
    let world = W::new();
    let average = Averager::new(&world.session(), "a");
    let refuse = |number: f64| {
        let error = average.add(number).unwrap_err();
        assert!(matches!(error, CoordError::NotFinite { .. }), "{error:?}");
        assert_eq!(
            (error.key(), error.operation()),
            (Some("a"), Operation::Add)
        );
        error.to_string()
    };
    for number in [f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        refuse(number);
    }
    assert_eq!(average.get().unwrap(), None);
    average.add(3.0).unwrap();
    assert_eq!(
        refuse(f64::NAN),
        "can't add to `a`: NaN isn't a finite number"
    );
    assert_eq!(average.get().unwrap(), Some(3.0));
    for number in [0.0, -0.0, f64::MIN_POSITIVE, 5e-324] {
        average.add(number).unwrap();
    }
    assert_eq!(average.get().unwrap(), Some(3.0 / 5.0));
}

pub(super) fn a_sum_stays_finite<W: World>() {
    let world = W::new();
    let average = Averager::new(&world.session(), "a");
    assert_eq!(average.add(f64::MAX).unwrap(), f64::MAX);
    let error = average.add(f64::MAX).unwrap_err();
    assert!(
        matches!(error, CoordError::NotFinite { number, .. } if number == f64::MAX),
        "{error:?}"
    );
    assert!(error.to_string().contains("the sum would be infinite"));
    // Nothing is lost, and it goes on.
    assert_eq!(average.get().unwrap(), Some(f64::MAX));
    assert_eq!(average.add(-f64::MAX).unwrap(), 0.0);
    assert_eq!(average.add(-f64::MAX).unwrap(), -f64::MAX / 3.0);
    assert!(average.add(-f64::MAX).is_err());
    assert_eq!(average.pop().unwrap(), Some(-f64::MAX / 3.0));
}

pub(super) fn each_addition_starts_the_time_anew<W: World>() {
    let world = W::new();
    let time = Duration::from_millis(400);
    let average = Averager::new(&world.session(), "a").expire(time);
    let mut last = Instant::now();
    let end = last + 2 * time;
    let mut count = 0;
    while Instant::now() < end {
        let before = Instant::now();
        let mean = average.add(f64::from(count)).unwrap();
        // The machine may be busy.
        if last.elapsed() < time {
            count += 1;
            assert_eq!(mean, f64::from(count - 1) / 2.0);
        } else {
            count = 0;
            average.pop().unwrap();
        }
        last = before;
        thread::sleep(SHORT);
    }
    until(|| average.get().unwrap().is_none());
    assert!(last.elapsed() >= time);
    assert_eq!(average.pop().unwrap(), None);
    assert_eq!(average.add(7.0).unwrap(), 7.0);
    until(|| average.pop().unwrap().is_none());
}

/// DiskCache's counters under threads, with means.
pub(super) fn no_addition_is_lost<W: World>() {
    let world = W::new();
    let tasks = [(); 4].map(|()| {
        let average = Averager::new(&world.session(), "a");
        task(move || {
            for number in 0..50 {
                average.add(f64::from(number)).unwrap();
            }
        })
    });
    tasks.into_iter().for_each(Task::answer);
    let average = Averager::new(&world.session(), "a");
    assert_eq!(average.get().unwrap(), Some(24.5));
    // It was 200 numbers.
    assert_eq!(average.add(24.5 + 201.0).unwrap(), 25.5);
}

/// Sums are told by powers of two, so it can be seen who has got which numbers.
pub(super) fn each_number_is_popped_once<W: World>() {
    let world = W::new();
    let adders = [0, 1].map(|which| {
        let average = Averager::new(&world.session(), "a");
        task(move || {
            for _ in 0..100 {
                average.add(f64::from(which)).unwrap();
            }
        })
    });
    let poppers = [(); 2].map(|()| {
        let average = Averager::new(&world.session(), "a");
        task(move || {
            let mut popped = 0;
            for _ in 0..50 {
                if let Some(mean) = average.pop().unwrap() {
                    assert!((0.0..=1.0).contains(&mean));
                    popped += 1;
                }
            }
            popped
        })
    });
    adders.into_iter().for_each(Task::answer);
    let popped: u32 = poppers.map(Task::answer).into_iter().sum();
    let rest = Averager::new(&world.session(), "a").pop().unwrap();
    assert!(popped > 0 || rest == Some(0.5));
}

pub(super) fn averages_outlive_sessions<W: World>() {
    let (_world, one, other) = two::<W>();
    Averager::new(&one, "a").add(1.0).unwrap();
    one.close().unwrap();
    let average = Averager::new(&other, "a");
    assert_eq!(average.add(2.0).unwrap(), 1.5);
    // It is nobody's, and in nobody's way.
    assert!(other.list().unwrap().is_empty());
    let guard = Lock::new(&other, "a").try_lock().unwrap();
    assert_eq!(average.get().unwrap(), Some(1.5));
    drop(guard);
}

pub(super) fn a_time_that_never_ends<W: World>() {
    let world = W::new();
    let average = Averager::new(&world.session(), "a");
    average.clone().expire(Duration::MAX).add(1.0).unwrap();
    assert_eq!(average.get().unwrap(), Some(1.0));
    average.clone().expire(Duration::MAX).add(2.0).unwrap();
    average.add(3.0).unwrap();
    assert_eq!(average.get().unwrap(), Some(2.0));
    // What was added last says how long.
    average.clone().expire(Duration::ZERO).add(4.0).unwrap();
    assert_eq!(average.get().unwrap(), None);
}

pub(super) fn a_closed_store_has_no_averages<W: World>() {
    let world = W::new();
    let store = world.session();
    let average = Averager::new(&store, "a");
    average.add(1.0).unwrap();
    store.close().unwrap();
    assert!(is_closed(&average.add(1.0)));
    assert!(is_closed(&average.get()));
    assert!(is_closed(&average.pop()));
    assert!(is_closed(&store.evict("a")));
    assert_eq!(
        Averager::new(&world.session(), "a").get().unwrap(),
        Some(1.0)
    );
}

/// DiskCache's `test_expire`: those whose time is over are gone, and no others.
pub(super) fn many_averages_that_expire<W: World>() {
    let world = W::new();
    let store = world.session();
    let average = |at: u32, time| {
        let average = Averager::new(&store, &format!("{at}")).tag("all");
        average.expire(time).add(f64::from(at)).unwrap();
        Averager::new(&store, &format!("{at}"))
    };
    let short: Vec<_> = (0..50).map(|at| average(2 * at, SHORT)).collect();
    let lasting: Vec<_> = (0..50).map(|at| average(2 * at + 1, PATIENCE)).collect();
    until(|| short.iter().all(|average| average.get().unwrap().is_none()));
    assert!(
        lasting
            .iter()
            .all(|average| average.get().unwrap().is_some())
    );
    assert_eq!(store.evict("all").unwrap(), 50);
}
