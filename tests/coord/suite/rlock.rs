//! `RLock`: a thread that takes it again, and all others.

use super::*;

pub(super) fn taken_again_by_its_thread<W: World>() {
    let (_world, one, other) = two::<W>();
    let lock = RLock::new(&one, "a");
    let outer = lock.lock().unwrap();
    let inner = lock.clone().lock().unwrap();
    let innermost = lock.try_lock().unwrap();
    assert_eq!(outer.fencing_token(), innermost.fencing_token());
    assert_eq!(holders(&other, "a").len(), 1);
    let theirs = Lock::new(&other, "a");
    innermost.release().unwrap();
    drop(inner);
    assert!(is_timed_out(&theirs.try_lock()));
    outer.release().unwrap();
    assert!(theirs.try_lock().is_ok());
}

/// DiskCache's `test_rlock`.
pub(super) fn other_threads_and_processes_are_kept_out<W: World>() {
    let (_world, one, other) = two::<W>();
    let lock = RLock::new(&one, "a");
    let outer = lock.lock().unwrap();
    let inner = lock.lock().unwrap();
    let (send, timed_out) = mpsc::channel();
    let tasks = [lock.clone(), RLock::new(&other, "a")].map(|lock| {
        let send = send.clone();
        task(move || {
            assert!(is_timed_out(&lock.try_lock()));
            assert!(is_timed_out(&lock.try_lock_for(SHORT)));
            assert!(is_timed_out(&lock.try_lock_until(Instant::now())));
            send.send(()).unwrap();
            let _outer = lock.lock().unwrap();
            lock.lock().map(drop).unwrap();
        })
    });
    for _ in 0..2 {
        timed_out.recv_timeout(PATIENCE).unwrap();
    }
    until_queued(&one, "a", 2);
    drop(outer);
    thread::sleep(SHORT);
    assert_eq!(holders(&one, "a")[0].fencing_token, inner.fencing_token());
    drop(inner);
    tasks.into_iter().for_each(Task::answer);
    assert!(one.list().unwrap().is_empty());
}

pub(super) fn any_order_of_release<W: World>() {
    let (_world, one, other) = two::<W>();
    let lock = RLock::new(&one, "a");
    let (outer, inner) = (lock.lock().unwrap(), lock.lock().unwrap());
    drop(outer);
    let theirs = Lock::new(&other, "a");
    assert!(is_timed_out(&theirs.try_lock()));
    let again = lock.lock().unwrap();
    assert_eq!(inner.fencing_token(), again.fencing_token());
    drop(inner);
    drop(again);
    drop(theirs.try_lock().unwrap());
    // What was given back counts for nothing.
    assert_eq!(lock.lock().unwrap().key(), "a");
    assert!(theirs.try_lock().is_ok());
}

pub(super) fn taken_again_it_ends_no_later<W: World>() {
    let world = W::new();
    let store = world.session();
    let lock = RLock::new(&store, "a").lease(Lease::Fixed(PATIENCE));
    let outer = lock.lock().unwrap();
    let before = outer.remaining().unwrap();
    thread::sleep(SHORT);
    let inner = lock.lock().unwrap();
    assert!(inner.remaining().unwrap() <= before - SHORT);
    assert!(outer.remaining().unwrap() <= before - SHORT);
    inner.extend(2 * PATIENCE).unwrap();
    assert!(outer.remaining().unwrap() > PATIENCE);
}

pub(super) fn once_lost_it_is_not_taken_again<W: World>() {
    let (_world, one, other) = two::<W>();
    let lock = RLock::new(&one, "a").lease(Lease::Fixed(SHORT));
    let (outer, inner) = (lock.lock().unwrap(), lock.lock().unwrap());
    until(|| !inner.is_valid());
    let theirs = Lock::new(&other, "a").lock().unwrap();
    assert!(is_lost(&lock.lock()));
    inner.release().unwrap();
    assert!(is_lost(&outer.release()));
    assert!(theirs.is_valid());
    drop(theirs);
    assert!(lock.lock().unwrap().is_valid());
}

pub(super) fn another_rlock_of_the_thread_is_a_deadlock<W: World>() {
    let (_world, one, other) = two::<W>();
    let _guard = RLock::new(&one, "a").lock().unwrap();
    assert!(is_deadlock(&RLock::new(&one, "a").lock()));
    assert!(is_deadlock(&RLock::new(&other, "a").lock()));
    assert!(waiters(&one, "a").is_empty());
}
