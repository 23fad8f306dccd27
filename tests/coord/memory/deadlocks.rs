//! Circles, and what only looks like one.

use super::*;

fn lock(store: &MemoryStore, key: &str, owner: &Owner) -> Lock {
    Lock::new(store, key).owned_by(owner)
}

/// So many owners in a circle: exactly one is told, and the others go on when it lets go.
#[test]
fn exactly_one_is_told() {
    for count in [2, 3, 5] {
        let store = MemoryStore::with_virtual_clock();
        let key = |at: usize| (at % count).to_string();
        let owners: Vec<_> = (0..count).map(|_| Owner::new()).collect();
        let sessions: Vec<_> = owners.iter().map(|_| store.new_session()).collect();
        let guards: Vec<_> = (0..count)
            .map(|at| lock(&sessions[at], &key(at), &owners[at]).lock().unwrap())
            .collect();
        let tasks: Vec<_> = guards
            .into_iter()
            .enumerate()
            .map(|(at, guard)| {
                // They begin in any order.
                let lock = lock(&sessions[at], &key(at + 1), &owners[at]);
                task(move || {
                    let answer = lock.lock().map(drop);
                    drop(guard);
                    answer
                })
            })
            .collect();
        let answers = tasks
            .into_iter()
            .map(|task| task.answer_while(|| pass(&store, SECOND)));
        let told = answers.filter(is_deadlock).count();
        assert_eq!(told, 1);
        assert!(store.list().unwrap().is_empty());
    }
}

/// However long it lasts: the first waits with a time limit for the second, or one of them in nobody's name, or what
/// the first waits for ends by itself.
#[test]
fn no_false_alarm() {
    type Change = fn(Lock) -> Lock;
    let same: Change = |lock| lock;
    let fixed: Change = |lock| lock.lease(Lease::Fixed(1_000 * SECOND));
    let limited: fn(&Lock) -> _ = |lock| lock.try_lock_for(1_000 * SECOND);
    let [one, other] = &[(); 2].map(|()| Owner::new());
    let cases = [
        (Some(one), Some(other), same, limited),
        (Some(one), None, same, Lock::lock),
        (None, Some(other), same, Lock::lock),
        (None, None, same, Lock::lock),
        (Some(one), Some(other), fixed, Lock::lock),
    ];
    for (number, (one, other, change, wait)) in cases.into_iter().enumerate() {
        let store = MemoryStore::with_virtual_clock();
        let lock = |key, owner| {
            let lock = Lock::new(&store.new_session(), key);
            match owner {
                Some(owner) => lock.owned_by(owner),
                None => lock,
            }
        };
        let a = change(lock("a", one)).lock().unwrap();
        let b = lock("b", other).lock().unwrap();
        let wanted = lock("b", one);
        let first = task(move || wait(&wanted));
        until_queued(&store, "b", 1);
        let second = queued(&store, lock("a", other));
        pass(&store, 5 * SECOND);
        pass(&store, 5 * SECOND);
        assert!(first.is_running() && second.is_running(), "{number}");
        drop(b);
        drop(first.answer().unwrap());
        drop(a);
        drop(second.answer().unwrap());
    }
}

#[test]
fn a_lasso_is_no_circle() {
    let store = MemoryStore::with_virtual_clock();
    let [first, second, outside] = &[(); 3].map(|()| Owner::new());
    let held = lock(&store, "a", first).lock().unwrap();
    let other = lock(&store, "b", second).lock().unwrap();
    let one = queued(&store, lock(&store, "b", first));
    let late = queued(&store, lock(&store, "b", outside));
    let two = queued(&store, lock(&store, "a", second));
    let later = queued(&store, lock(&store, "a", outside));
    let told = two.answer_while(|| pass(&store, SECOND));
    assert!(is_deadlock(&told));
    pass(&store, 5 * SECOND);
    assert!(one.is_running() && late.is_running() && later.is_running());
    drop(other);
    drop(one.answer().unwrap());
    drop(late.answer().unwrap());
    drop(held);
    drop(later.answer().unwrap());
}

/// Those before it in the queue are in the way as well.
#[test]
fn through_a_queue() {
    let store = MemoryStore::with_virtual_clock();
    let [first, second, third] = &[(); 3].map(|()| Owner::new());
    let free = lock(&store, "a", first).shared().lock().unwrap();
    let held = lock(&store, "b", third).lock().unwrap();
    // A writer waits for readers, and the third reads behind it what it could read otherwise.
    let writer = queued(&store, lock(&store, "a", second));
    let reads = queued(&store, lock(&store, "b", first));
    store.advance(HEAD_START);
    let closes = queued(&store, lock(&store, "a", third).shared());
    assert!(is_deadlock(&closes.answer_while(|| pass(&store, SECOND))));
    drop(held);
    drop(reads.answer().unwrap());
    drop(free);
    drop(writer.answer().unwrap());
}

/// A circle that somebody else's end has closed, after all have begun to wait.
#[test]
fn closed_by_a_grant() {
    let store = MemoryStore::with_virtual_clock();
    let [first, second] = &[(); 2].map(|()| Owner::new());
    let a = lock(&store, "a", first).lock().unwrap();
    let b = Lock::new(&store, "b").lock().unwrap();
    let other = lock(&store.new_session(), "b", second);
    let gets = task(move || {
        let b = other.lock().unwrap();
        (other, b)
    });
    until_queued(&store, "b", 1);
    let waits = queued(&store, lock(&store, "b", first));
    drop(b);
    let (other, b) = gets.answer();
    pass(&store, 2 * SECOND);
    assert!(waits.is_running());
    let closes = queued(&store, lock(&store, "a", second));
    assert!(is_deadlock(&closes.answer_while(|| pass(&store, SECOND))));
    drop((other, b));
    drop(waits.answer().unwrap());
    drop(a);
}

/// A process of an owner has died in a queue, where nobody has noticed it yet. Its owner lives on in another process.
#[test]
fn the_dead_wait_for_nobody() {
    let store = MemoryStore::with_virtual_clock();
    let [parent, other] = &[(); 2].map(|()| Owner::new());
    let a = lock(&store, "a", other).lock().unwrap();
    let b = lock(&store.new_session(), "b", parent).lock().unwrap();
    let child = store.new_session();
    let dies = queued(&store, lock(&child, "a", parent));
    child.crash();
    assert!(is_closed(&dies.answer()));
    let waits = queued(&store, lock(&store, "b", other));
    pass(&store, 5 * SECOND);
    assert!(waits.is_running());
    drop(b);
    drop(waits.answer().unwrap());
    drop(a);
}

/// All permits are held by those who wait for more; one more would do.
#[test]
fn semaphores_in_a_circle() {
    let store = MemoryStore::with_virtual_clock();
    let owners = [(); 3].map(|()| Owner::new());
    let semaphore =
        |key, owner: &Owner| Semaphore::new(&store.new_session(), key, 3).owned_by(owner);
    let held = owners.each_ref().map(|owner| {
        let [a, b] = ["a", "b"].map(|key| semaphore(key, owner).acquire().unwrap());
        (a, b)
    });
    let mut tasks = Vec::new();
    for (at, owner) in owners.iter().enumerate() {
        let key = ["a", "b"][at % 2];
        let semaphore = semaphore(key, owner);
        let before = waiters(&store, key).len();
        tasks.push(task(move || semaphore.acquire()));
        if at < 2 {
            until_queued(&store, key, before + 1);
            pass(&store, 2 * SECOND);
            assert!(tasks.iter().all(Task::is_running));
        }
    }
    let told = tasks.pop().unwrap().answer_while(|| pass(&store, SECOND));
    assert!(is_deadlock(&told.map(drop)));
    let [.., last] = held;
    drop(last);
    for task in tasks {
        drop(task.answer().unwrap());
    }
}
