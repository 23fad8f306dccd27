//! Random histories of a rate limit beside a bucket that counts its tokens, under a clock that the test sets.
//!
//! The limit has one moment in the store, the bucket as many tokens as are in it, down to what is owed to those who wait. After each
//! call it is checked that
//!
//! - it is granted if, and only if, a token is there or comes in within the time limit, whatever session asks;
//! - the time after which to try again is that until the next token comes in;
//! - who waits goes on at the moment when its token comes in, and not before;
//! - in no span of the time `per` more than twice the count are let by, nor in any span more than one bucket and what comes in.

use std::collections::VecDeque;
use std::future::Future;

use super::*;

const MILLISECOND: Duration = Duration::from_millis(1);

/// Holds `count` tokens, one of which comes in each `interval`.
struct Bucket {
    count: i64,
    interval: u128,
    /// In nanoseconds of tokens: what is in it, less what is owed.
    level: i128,
    last: Duration,
}

impl Bucket {
    fn new(count: u32, per: Duration) -> Self {
        let interval = per.as_nanos().div_ceil(u128::from(count));
        Self {
            count: count.into(),
            interval,
            level: interval as i128 * i128::from(count),
            last: Duration::ZERO,
        }
    }

    /// How long somebody who comes now has to wait.
    fn wait(&mut self, now: Duration) -> Duration {
        let full = self.interval as i128 * i128::from(self.count);
        self.level = (self.level + (now - self.last).as_nanos() as i128).min(full);
        self.last = now;
        let missing = (self.interval as i128 - self.level).max(0);
        Duration::from_nanos(missing as u64)
    }

    fn take(&mut self) {
        self.level -= self.interval as i128;
    }

    /// Of the one that came last.
    fn put_back(&mut self) {
        self.level += self.interval as i128;
    }
}

/// Looks that no span of those moments is too full.
fn check_spans(let_by: &[Duration], count: u32, per: Duration) {
    let mut span = VecDeque::new();
    for &moment in let_by {
        span.push_back(moment);
        while moment - span[0] >= per {
            span.pop_front();
        }
        assert!(span.len() <= 2 * count as usize, "{span:?}");
    }
    let interval = per.as_nanos().div_ceil(count.into());
    for (at, &first) in let_by.iter().enumerate().step_by(7) {
        for (next, &last) in let_by[at..].iter().enumerate() {
            let most = u128::from(count) + (last - first).as_nanos() / interval;
            assert!((next as u128) < most, "{} of {most}", next + 1);
        }
    }
}

#[test]
fn random_rates() {
    let seed = seed();
    let _seed = SeedOnFailure(seed);
    let mut seeds = Rng(seed);
    for _ in 0..scaled(60, 3) {
        let mut rng = Rng(seeds.next());
        let count = [1, 2, 3, 7, 100][rng.below(5)];
        let per = MILLISECOND * [1, 10, 1000, 60_000][rng.below(4)];
        let store = MemoryStore::with_virtual_clock();
        let limiters = [(); 3].map(|()| RateLimiter::new(&store.new_session(), "r", count, per));
        let mut bucket = Bucket::new(count, per);
        let (mut now, mut let_by) = (Duration::ZERO, Vec::new());
        for _ in 0..scaled(300, 50) {
            let limiter = &limiters[rng.below(3)];
            let wait = bucket.wait(now);
            match rng.below(10) {
                0..5 => match limiter.try_acquire() {
                    Ok(()) => {
                        assert_eq!(wait, Duration::ZERO);
                        bucket.take();
                        let_by.push(now);
                    }
                    Err(CoordError::RateLimited { retry_after, .. }) => {
                        assert_eq!(retry_after, wait);
                        assert!(!wait.is_zero());
                    }
                    Err(error) => panic!("{error}"),
                },
                5 => {
                    // As long as that lasts nobody waits.
                    let longest = wait.saturating_sub(Duration::from_nanos(1));
                    if !wait.is_zero() {
                        assert!(limiter.try_acquire_for(longest).is_err());
                    }
                }
                6 if !wait.is_zero() => {
                    let clock = store.clone();
                    let waiter = {
                        let limiter = limiter.clone();
                        task(move || limiter.try_acquire_for(wait))
                    };
                    let others = &limiters[rng.below(3)];
                    // It has taken its token before it comes in.
                    bucket.take();
                    let next = bucket.wait(now);
                    until(|| match others.try_acquire() {
                        Err(CoordError::RateLimited { retry_after, .. }) => retry_after == next,
                        other => panic!("{other:?}"),
                    });
                    thread::sleep(Duration::from_micros(200));
                    assert!(waiter.is_running());
                    clock.advance(wait);
                    now += wait;
                    let_by.push(now);
                    // It may have begun to sleep only now.
                    waiter
                        .answer_while(|| {
                            thread::sleep(MILLISECOND);
                            clock.advance(wait / 2);
                            now += wait / 2;
                        })
                        .unwrap();
                }
                7 if !wait.is_zero() => {
                    // Takes one in advance, and puts it back.
                    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
                    let mut waiter = Box::pin(limiter.acquire_async());
                    assert!(waiter.as_mut().poll(&mut context).is_pending());
                    let looks = &limiters[rng.below(3)];
                    let is_owed = |wait| match looks.try_acquire() {
                        Err(CoordError::RateLimited { retry_after, .. }) => retry_after == wait,
                        other => panic!("{other:?}"),
                    };
                    bucket.take();
                    let next = bucket.wait(now);
                    until(|| is_owed(next));
                    drop(waiter);
                    bucket.put_back();
                    until(|| is_owed(wait));
                }
                _ => {
                    let longest = per.as_micros() as usize;
                    let time = Duration::from_micros(rng.below(longest) as u64);
                    let time = if rng.below(4) == 0 {
                        time * 3
                    } else {
                        time / 8
                    };
                    store.advance(time);
                    now += time;
                }
            }
        }
        check_spans(&let_by, count, per);
    }
}
