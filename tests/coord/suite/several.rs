//! `LockSet`: several locks at once.

use std::future::Future;

use super::*;

fn locks(store: &impl Store, keys: &str) -> LockSet {
    LockSet::new(keys.split(' ').map(|key| Lock::new(store, key)))
}

pub(super) fn all_or_nothing<W: World>() {
    let (_world, one, other) = two::<W>();
    let guards = locks(&one, "c a b").lock().unwrap();
    let keys: Vec<_> = guards.iter().map(LockGuard::key).collect();
    assert_eq!(keys, ["a", "b", "c"]);
    for key in keys {
        assert!(is_timed_out(&Lock::new(&other, key).try_lock()));
    }
    drop(guards);
    let guard = Lock::new(&one, "b").lock().unwrap();
    for answer in [
        locks(&other, "a b c").try_lock(),
        locks(&other, "a b c").try_lock_for(SHORT),
        locks(&other, "a b c").try_lock_until(Instant::now()),
    ] {
        assert!(is_timed_out(&answer));
        assert_eq!(answer.unwrap_err().key(), Some("b"));
    }
    assert!(holders(&one, "a").is_empty() && holders(&one, "c").is_empty());
    let waiter = task(move || locks(&other, "c b a").lock().map(|guards| guards.len()));
    until_queued(&one, "b", 1);
    // It holds what comes before.
    assert_eq!(holders(&one, "a").len(), 1);
    assert!(holders(&one, "c").is_empty());
    drop(guard);
    assert_eq!(waiter.answer().unwrap(), 3);
}

pub(super) fn opposite_orders_are_no_deadlock<W: World>() {
    let world = W::new();
    let tasks = ["a b c", "c b a", "b c", "c a"].map(|keys| {
        let locks = locks(&world.session(), keys);
        task(move || {
            for _ in 0..15 {
                drop(locks.lock().unwrap());
            }
        })
    });
    tasks.into_iter().for_each(Task::answer);
    assert!(world.session().list().unwrap().is_empty());
}

pub(super) fn a_key_that_is_there_twice<W: World>() {
    let (_world, one, other) = two::<W>();
    let (a, theirs) = (Lock::new(&one, "a"), Lock::new(&other, "a").shared());
    let set = |first: Lock, second: Lock| LockSet::new([first, second]);
    for (set, is_shared) in [
        (set(a.clone(), a.clone()), false),
        (set(a.clone().shared(), a.clone()), false),
        (set(a.clone(), a.clone().shared()), false),
        (set(a.clone().shared(), a.clone().shared()), true),
    ] {
        let guards = set.lock().unwrap();
        assert_eq!(guards.len(), 1);
        assert_eq!(theirs.try_lock().is_ok(), is_shared);
    }
}

pub(super) fn the_time_is_that_of_all<W: World>() {
    let (_world, one, other) = two::<W>();
    let time = Duration::from_millis(200);
    let first = Lock::new(&one, "a").lease(Lease::Fixed(time / 2));
    let (_first, _second) = (first.lock().unwrap(), Lock::new(&one, "b").lock().unwrap());
    let began = Instant::now();
    let answer = locks(&other, "a b").try_lock_for(time);
    assert!(is_timed_out(&answer));
    assert_eq!(answer.unwrap_err().key(), Some("b"));
    assert!(began.elapsed() >= time);
}

pub(super) fn a_task_takes_several<W: World>() {
    let (_world, one, other) = two::<W>();
    let guard = Lock::new(&one, "b").lock().unwrap();
    let set = locks(&other, "b a");
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let mut wait = Box::pin(set.lock_async());
    until(|| {
        assert!(wait.as_mut().poll(&mut context).is_pending());
        waiters(&one, "b").len() == 1
    });
    assert_eq!(holders(&one, "a").len(), 1);
    // It gives back what it has got.
    drop(wait);
    until(|| holders(&one, "a").is_empty() && waiters(&one, "b").is_empty());
    drop(guard);
    assert_eq!(pollster::block_on(set.lock_async()).unwrap().len(), 2);
}

pub(super) fn of_several_stores<W: World>() {
    let (_world, one, other) = two::<W>();
    let set = || LockSet::new([Lock::new(&one, "a"), Lock::new(&other, "b")]);
    let message = common::panic_of(set);
    assert!(message.contains("different stores"), "{message}");
    // A clone is the same one.
    LockSet::new([Lock::new(&one, "a"), Lock::new(&one.clone(), "b")])
        .try_lock()
        .unwrap();
}

pub(super) fn none_at_all<W: World>() {
    let none = LockSet::new([]);
    assert!(none.lock().unwrap().is_empty());
    assert!(none.try_lock().unwrap().is_empty());
    assert!(none.try_lock_for(SHORT).unwrap().is_empty());
    let world = W::new();
    assert_eq!(
        format!("{:?}", locks(&world.session(), "b a")),
        r#"{"a", "b"}"#
    );
}
