//! `RateLimiter`: DiskCache's `test_throttle`, who waits how long, and what stays of it. What a bucket answers at each moment
//! is compared with another one in `rates`, under a clock that the test sets.

use std::future::Future;

use hapax::sync;

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

/// The time after which it would come in.
#[track_caller]
fn refused(answer: Result<(), CoordError>) -> Duration {
    match answer {
        Err(CoordError::RateLimited { retry_after, .. }) => retry_after,
        other => panic!("{other:?}"),
    }
}

/// DiskCache's `test_throttle`: two per second for two seconds are six or seven. Here a second has a tenth of one.
pub(super) fn test_throttle<W: World>() {
    let world = W::new();
    let second = Duration::from_millis(100);
    let limiter = RateLimiter::new(&world.session(), "calls", 2, second);
    let began = Instant::now();
    let mut calls = 0;
    while began.elapsed() < 2 * second {
        limiter.acquire().unwrap();
        calls += 1;
        // Never more than the limit says, however busy the machine is.
        let most = 2.0 + began.elapsed().as_secs_f64() / second.as_secs_f64() * 2.0;
        assert!(f64::from(calls) <= most, "{calls} of {most}");
    }
    assert!(calls <= 7, "{calls}");
}

pub(super) fn a_bucket_is_full_at_first<W: World>() {
    let world = W::new();
    let limiter = RateLimiter::new(&world.session(), "a", 5, MINUTE);
    for _ in 0..5 {
        limiter.try_acquire().unwrap();
    }
    let wait = refused(limiter.try_acquire());
    assert!(wait > MINUTE / 10 && wait <= MINUTE / 5, "{wait:?}");
    let error = limiter.try_acquire().unwrap_err();
    assert_eq!(
        (error.key(), error.operation()),
        (Some("a"), Operation::Acquire)
    );
    let text = error.to_string();
    assert!(
        text.starts_with("can't acquire `a`: the rate leaves room"),
        "{text}"
    );
    // Another one isn't touched by that.
    RateLimiter::new(&world.session(), "b", 5, MINUTE)
        .try_acquire()
        .unwrap();
}

pub(super) fn processes_share_a_limit<W: World>() {
    let world = W::new();
    let tasks = [(); 4].map(|()| {
        let limiter = RateLimiter::new(&world.session(), "a", 10, MINUTE);
        task(move || (0..10).filter(|_| limiter.try_acquire().is_ok()).count())
    });
    let taken: usize = tasks.map(Task::answer).into_iter().sum();
    assert_eq!(taken, 10);
}

/// DiskCache's begins with a full bucket each time that a program starts.
pub(super) fn a_limit_outlives_sessions<W: World>() {
    let world = W::new();
    let _one_stays = world.session();
    for at in 0..5 {
        let store = world.session();
        let limiter = RateLimiter::new(&store, "a", 3, MINUTE);
        assert_eq!(limiter.try_acquire().is_ok(), at < 3);
        store.close().unwrap();
    }
}

/// Each sleeps until its own permit has come in.
pub(super) fn waiters_come_one_by_one<W: World>() {
    let world = W::new();
    let interval = Duration::from_millis(30);
    let limiter = RateLimiter::new(&world.session(), "a", 1, interval);
    let began = Instant::now();
    limiter.acquire().unwrap();
    let waiters = [(); 5].map(|()| {
        let limiter = RateLimiter::new(&world.session(), "a", 1, interval);
        task(move || {
            limiter.acquire().unwrap();
            Instant::now()
        })
    });
    let mut came = waiters.map(Task::answer);
    came.sort();
    for (at, came) in came.into_iter().enumerate() {
        let least = interval * (at as u32 + 1);
        assert!(came - began >= least, "{:?} before {least:?}", came - began);
    }
}

pub(super) fn who_cannot_be_served_in_time_does_not_wait<W: World>() {
    let world = W::new();
    let limiter = RateLimiter::new(&world.session(), "a", 1, MINUTE);
    limiter.try_acquire_for(PATIENCE).unwrap();
    let began = Instant::now();
    let wait = refused(limiter.try_acquire_for(PATIENCE));
    assert!(began.elapsed() < PATIENCE / 2);
    assert!(wait > PATIENCE && wait <= MINUTE);
    refused(limiter.try_acquire_until(Instant::now()));
    // It has taken nothing in advance.
    assert!(refused(limiter.try_acquire()) <= wait);
}

pub(super) fn who_is_served_in_time_waits<W: World>() {
    let world = W::new();
    let time = Duration::from_millis(50);
    let limiter = RateLimiter::new(&world.session(), "a", 1, time);
    let began = Instant::now();
    limiter.try_acquire().unwrap();
    limiter.try_acquire_for(PATIENCE).unwrap();
    limiter
        .try_acquire_until(Instant::now() + PATIENCE)
        .unwrap();
    assert!(began.elapsed() >= 2 * time);
}

/// A task that waits for a permit of the next minute, and the time that the next one would have to wait.
fn wait_in_advance<W: World>(world: &W) -> RateLimiter {
    let limiter = RateLimiter::new(&world.session(), "a", 1, MINUTE);
    limiter.try_acquire().unwrap();
    assert!(refused(limiter.try_acquire()) <= MINUTE);
    limiter
}

pub(super) fn who_is_cancelled_puts_his_permit_back<W: World>() {
    let world = W::new();
    let limiter = wait_in_advance(&world);
    let waiter = RateLimiter::new(&world.session(), "a", 1, MINUTE);
    let looks = limiter.clone();
    let failed = task(move || {
        sync::scope::<(), _>(|scope| {
            scope.spawn(move || match waiter.acquire() {
                Err(CoordError::Cancelled { .. }) => Ok(()),
                other => panic!("{other:?}"),
            });
            until(|| refused(looks.try_acquire()) > MINUTE);
            scope.spawn(|| Err("enough".into()));
            Ok(())
        })
        .is_err()
    });
    assert!(failed.answer());
    assert!(refused(limiter.try_acquire()) <= MINUTE);
}

pub(super) fn a_permit_is_not_put_back_if_somebody_came_after<W: World>() {
    let world = W::new();
    let limiter = wait_in_advance(&world);
    let store = world.session();
    let second = RateLimiter::new(&store, "a", 1, MINUTE);
    let mut first = Box::pin(limiter.acquire_async());
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(first.as_mut().poll(&mut context).is_pending());
    until(|| refused(limiter.try_acquire()) > MINUTE);
    let mut second = Box::pin(second.acquire_async());
    assert!(second.as_mut().poll(&mut context).is_pending());
    until(|| refused(limiter.try_acquire()) > 2 * MINUTE);
    // That of the first is unused; that of the second goes back.
    drop(first);
    thread::sleep(SHORT);
    assert!(refused(limiter.try_acquire()) > 2 * MINUTE);
    drop(second);
    until(|| refused(limiter.try_acquire()) <= 2 * MINUTE);
    thread::sleep(SHORT);
    assert!(refused(limiter.try_acquire()) > MINUTE);
}

pub(super) fn a_task_waits_for_its_permit<W: World>() {
    let world = W::new();
    let interval = Duration::from_millis(40);
    let limiter = RateLimiter::new(&world.session(), "a", 1, interval);
    let began = Instant::now();
    let tasks = [(); 3].map(|()| {
        let limiter = limiter.clone();
        task(move || pollster::block_on(limiter.acquire_async()))
    });
    // The thread that waits for them does other things as well.
    let guard = pollster::block_on(Lock::new(&world.session(), "l").lock_async()).unwrap();
    drop(guard);
    tasks.into_iter().for_each(|task| task.answer().unwrap());
    assert!(began.elapsed() >= 2 * interval);
}

pub(super) fn a_task_that_goes_away_puts_its_permit_back<W: World>() {
    let world = W::new();
    let limiter = wait_in_advance(&world);
    let mut wait = Box::pin(limiter.acquire_async());
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(wait.as_mut().poll(&mut context).is_pending());
    until(|| refused(limiter.try_acquire()) > MINUTE);
    drop(wait);
    until(|| refused(limiter.try_acquire()) <= MINUTE);
}

/// DiskCache's two semaphores with different values corrupt each other.
pub(super) fn a_limit_has_one_rate<W: World>() {
    let (_world, one, other) = two::<W>();
    RateLimiter::new(&one, "a", 2, MINUTE)
        .try_acquire()
        .unwrap();
    for (count, per) in [(3, MINUTE), (2, 2 * MINUTE)] {
        let limiter = RateLimiter::new(&other, "a", count, per);
        for answer in [limiter.try_acquire(), limiter.acquire()] {
            let Err(CoordError::LimitMismatch { found, wanted, .. }) = &answer else {
                panic!("{answer:?}")
            };
            let expected = Limit::Rate {
                count: 2,
                per: MINUTE,
            };
            assert_eq!(*found, expected);
            assert_eq!(*wanted, Limit::Rate { count, per });
            let text = answer.unwrap_err().to_string();
            assert!(
                text.contains("it is in use with 2 per 60s, not with"),
                "{text}"
            );
        }
        let task = pollster::block_on(limiter.acquire_async());
        assert!(matches!(task, Err(CoordError::LimitMismatch { .. })));
    }
    // As soon as the bucket is full there is no limit any more.
    let short = Duration::from_millis(5);
    RateLimiter::new(&one, "b", 1, short).try_acquire().unwrap();
    let next = RateLimiter::new(&other, "b", 2, MINUTE);
    until(|| next.try_acquire().is_ok());
    next.try_acquire().unwrap();
    refused(next.try_acquire());
}

pub(super) fn an_average_is_no_limit<W: World>() {
    let (_world, one, other) = two::<W>();
    let limiter = RateLimiter::new(&one, "a", 1, MINUTE);
    let average = Averager::new(&other, "a");
    let check = |answer: Result<(), CoordError>, kinds, text: &str| {
        let error = answer.unwrap_err();
        let CoordError::KindMismatch { found, wanted, .. } = error else {
            panic!("{error:?}")
        };
        assert_eq!((found, wanted), kinds);
        assert!(error.to_string().ends_with(text), "{error}");
    };
    average.add(1.0).unwrap();
    let text = "in use as an average, not as a rate limit";
    check(
        limiter.try_acquire(),
        (Kind::Average, Kind::RateLimit),
        text,
    );
    average.pop().unwrap();
    limiter.try_acquire().unwrap();
    let text = "in use as a rate limit, not as an average";
    let kinds = (Kind::RateLimit, Kind::Average);
    check(average.add(1.0).map(drop), kinds, text);
    check(average.get().map(drop), kinds, text);
    check(average.pop().map(drop), kinds, text);
    // It has harmed nothing.
    refused(limiter.try_acquire());
}

pub(super) fn names_of_locks_are_others<W: World>() {
    let world = W::new();
    let store = world.session();
    let guard = Lock::new(&store, "a").try_lock().unwrap();
    let limiter = RateLimiter::new(&store, "a", 1, MINUTE);
    limiter.try_acquire().unwrap();
    guard.release().unwrap();
    refused(limiter.try_acquire());
    assert!(Semaphore::new(&store, "a", 1).try_acquire().is_ok());
}

pub(super) fn closing_ends_a_wait<W: World>() {
    let world = W::new();
    let store = world.session();
    let limiter = wait_in_advance(&world);
    let waiter = RateLimiter::new(&store, "a", 1, MINUTE);
    let tasks = [
        task({
            let waiter = waiter.clone();
            move || waiter.acquire()
        }),
        task({
            let waiter = waiter.clone();
            move || pollster::block_on(waiter.acquire_async())
        }),
    ];
    until(|| refused(limiter.try_acquire()) > 2 * MINUTE);
    store.close().unwrap();
    for task in tasks {
        assert!(is_closed(&task.answer()));
    }
    assert!(is_closed(&waiter.try_acquire()));
}

pub(super) fn nobody_is_let_by<W: World>() {
    let world = W::new();
    let store = world.session();
    let message = common::panic_of(|| RateLimiter::new(&store, "a", 0, MINUTE));
    assert!(message.contains("lets nobody by"), "{message}");
    let message = common::panic_of(|| RateLimiter::new(&store, "a", 1, Duration::ZERO));
    assert!(message.contains("has no time"), "{message}");
    // All that there is between.
    for (count, per) in [
        (1, Duration::MAX),
        (u32::MAX, Duration::MAX),
        (u32::MAX, Duration::from_nanos(1)),
    ] {
        let limiter = RateLimiter::new(&store, &format!("{count} {per:?}"), count, per);
        limiter.try_acquire().unwrap();
        assert_eq!(limiter.try_acquire().is_ok(), count > 1);
    }
}
