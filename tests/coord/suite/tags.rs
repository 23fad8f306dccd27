//! `Store::evict`: what a tag takes away, and what it leaves. In DiskCache it frees locks, and their holders never know.

use super::*;

pub(super) fn what_has_a_tag_is_taken_away<W: World>() {
    let (_world, one, other) = two::<W>();
    let tags = ["one", "two", "a\nb"];
    let guards: Vec<_> = tags
        .iter()
        .map(|tag| {
            Lock::new(&one, &format!("l {tag}"))
                .tag(tag)
                .lock()
                .unwrap()
        })
        .collect();
    let permits: Vec<_> = (0..2)
        .map(|_| Semaphore::new(&other, "s", 3).tag("one").acquire().unwrap())
        .collect();
    let other_permit = Semaphore::new(&other, "s", 3).acquire().unwrap();
    let averages = tags.map(|tag| {
        let average = Averager::new(&one, &format!("a {tag}")).tag(tag);
        average.add(1.0).unwrap();
        average
    });
    let minute = Duration::from_secs(60);
    let limiter = RateLimiter::new(&one, "r", 1, minute).tag("one");
    limiter.try_acquire().unwrap();
    assert_eq!(other.evict("none").unwrap(), 0);
    assert_eq!(other.evict("one").unwrap(), 5);
    assert_eq!(other.evict("one").unwrap(), 0);
    limiter.try_acquire().unwrap();
    assert_eq!(averages[0].get().unwrap(), None);
    for average in &averages[1..] {
        assert_eq!(average.get().unwrap(), Some(1.0));
    }
    // Those of others are held.
    assert_eq!(holders(&one, "s").len(), 1);
    other_permit.release().unwrap();
    for permit in permits {
        assert!(is_lost(&permit.release()));
    }
    for (guard, tag) in guards.into_iter().zip(tags) {
        assert_eq!(is_lost(&guard.release()), tag == "one");
    }
}

pub(super) fn a_holder_whose_tag_is_taken_away_learns_of_it<W: World>() {
    let (_world, one, other) = two::<W>();
    let guard = Lock::new(&one, "a").tag("t").lock().unwrap();
    let waiter = task({
        let lock = Lock::new(&other, "a");
        move || lock.lock().unwrap()
    });
    until_queued(&one, "a", 1);
    assert_eq!(other.evict("t").unwrap(), 1);
    let successor = waiter.answer();
    assert!(guard.lost().wait_for(PATIENCE).unwrap());
    assert_lost(guard, &successor);
}

/// Also if it is granted by that.
pub(super) fn who_waits_by_a_tag_goes_on<W: World>() {
    let (_world, one, other) = two::<W>();
    let guard = Lock::new(&one, "a").tag("t").lock().unwrap();
    let waiters = [1, 2].map(|count| {
        let lock = Lock::new(&other, "a").tag("t");
        let waiter = task(move || lock.lock().map(|guard| guard.release()));
        until_queued(&one, "a", count);
        waiter
    });
    assert_eq!(one.evict("t").unwrap(), 1);
    for waiter in waiters {
        waiter.answer().unwrap().unwrap();
    }
    assert!(is_lost(&guard.release()));
}

/// DiskCache's throttle drops it with the first call.
pub(super) fn a_tag_stays_with_its_value<W: World>() {
    let world = W::new();
    let store = world.session();
    let average = Averager::new(&store, "a");
    average.clone().tag("t").add(1.0).unwrap();
    average.add(2.0).unwrap();
    let minute = Duration::from_secs(60);
    let limiter = RateLimiter::new(&store, "r", 3, minute);
    limiter.clone().tag("t").try_acquire().unwrap();
    limiter.try_acquire().unwrap();
    assert_eq!(store.evict("t").unwrap(), 2);
    // Another one takes its place.
    average.clone().tag("t").add(1.0).unwrap();
    average.clone().tag("u").add(1.0).unwrap();
    assert_eq!(store.evict("t").unwrap(), 0);
    assert_eq!(store.evict("u").unwrap(), 1);
    assert_eq!(average.get().unwrap(), None);
}

pub(super) fn what_is_over_does_not_count<W: World>() {
    let world = W::new();
    let store = world.session();
    let average = Averager::new(&store, "a").tag("t");
    average.expire(Duration::ZERO).add(1.0).unwrap();
    let guard = Lock::new(&store, "l")
        .tag("t")
        .lease(Lease::Fixed(Duration::from_millis(1)))
        .lock()
        .unwrap();
    until(|| holders(&store, "l").is_empty());
    assert!(!guard.is_valid());
    assert_eq!(store.evict("t").unwrap(), 0);
}
