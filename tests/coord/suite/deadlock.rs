//! Circles of owners across processes: who closes one is told, and nobody else.

use super::*;

/// Who takes part, in the order in which they begin to wait.
fn owners<const N: usize>() -> [Owner; N] {
    [(); N].map(|()| Owner::new())
}

/// Each of so many owners holds a key of its own and waits for that of the next one. The last one is told, and the others
/// go on one after the other once it has let go.
fn circle_of<W: World, const N: usize>() {
    let world = W::new();
    let owners = owners::<N>();
    let sessions = [(); N].map(|()| world.session());
    let key = |at: usize| format!("{}", at % N);
    let guards: Vec<_> = (0..N)
        .map(|at| {
            Lock::new(&sessions[at], &key(at))
                .owned_by(&owners[at])
                .lock()
                .unwrap()
        })
        .collect();
    let mut tasks: Vec<_> = guards
        .into_iter()
        .enumerate()
        .map(|(at, guard)| {
            let lock = Lock::new(&sessions[at], &key(at + 1)).owned_by(&owners[at]);
            let waiter = task(move || {
                let answer = lock.lock();
                drop(guard);
                answer
            });
            if at < N - 1 {
                until_queued(&sessions[0], &key(at + 1), 1);
            }
            waiter
        })
        .collect();
    let told = tasks.pop().unwrap().answer();
    let Err(CoordError::Deadlock { circle, .. }) = told else {
        panic!("{told:?}")
    };
    let steps: Vec<_> = circle
        .steps()
        .iter()
        .map(|step| (step.owner.clone(), step.key.clone()))
        .collect();
    let expected: Vec<_> = (0..N)
        .map(|at| (at + N - 1) % N)
        .map(|at| (owners[at].clone(), key(at + 1)))
        .collect();
    assert_eq!(steps, expected);
    // The others get what they wait for, from the one before the victim back to the first.
    while let Some(waiter) = tasks.pop() {
        drop(waiter.answer().unwrap());
    }
    assert!(sessions[0].list().unwrap().is_empty());
}

pub(super) fn of_oneself<W: World>() {
    let (_world, one, other) = two::<W>();
    let [me] = &owners();
    let _guard = Lock::new(&one, "a").owned_by(me).lock().unwrap();
    for store in [&one, &other] {
        let Err(CoordError::Deadlock { circle, .. }) = Lock::new(store, "a").owned_by(me).lock()
        else {
            panic!("it is mine")
        };
        let [CircleStep { owner, key, .. }] = circle.steps() else {
            panic!("{circle}")
        };
        assert_eq!((owner, key.as_str()), (me, "a"));
    }
    assert!(waiters(&one, "a").is_empty());
    assert!(is_timed_out(&Lock::new(&one, "a").owned_by(me).try_lock()));
}

pub(super) fn of_two<W: World>() {
    circle_of::<W, 2>();
}

pub(super) fn of_three<W: World>() {
    circle_of::<W, 3>();
}

/// Each of them reads what the other one wants to write.
pub(super) fn of_readers<W: World>() {
    let (_world, one, other) = two::<W>();
    let [first, second] = &owners();
    let lock = |store: &W::Session, key, owner| Lock::new(store, key).owned_by(owner);
    let my_guard = lock(&one, "a", first).shared().lock().unwrap();
    let their_guard = lock(&other, "b", second).shared().lock().unwrap();
    let waiter = task({
        let lock = lock(&one, "b", first);
        move || lock.lock()
    });
    until_queued(&one, "b", 1);
    // To read what the other one reads is possible, unless somebody waits to write it.
    assert!(is_timed_out(
        &lock(&one, "b", first).shared().strict().try_lock()
    ));
    let wanted = lock(&other, "a", second);
    assert!(wanted.clone().shared().try_lock().is_ok());
    assert!(is_deadlock(&task(move || wanted.lock()).answer()));
    assert!(waiter.is_running());
    drop(their_guard);
    drop(waiter.answer().unwrap());
    drop(my_guard);
}

/// There is no way from reading to writing but to let go: whoever tries it waits for itself.
pub(super) fn of_a_reader_that_writes<W: World>() {
    let (_world, one, other) = two::<W>();
    let tasks = owners::<2>().map(|owner| {
        let store = if holders(&one, "a").is_empty() {
            &one
        } else {
            &other
        };
        let lock = Lock::new(store, "a").owned_by(&owner);
        let guard = lock.clone().shared().lock().unwrap();
        task(move || {
            let answer = lock.lock();
            drop(guard);
            answer
        })
    });
    for task in tasks {
        assert!(is_deadlock(&task.answer()));
    }
    assert!(one.list().unwrap().is_empty());
}

/// The permits of a semaphore are held by those who wait for the permit of another one.
pub(super) fn of_semaphores<W: World>() {
    let (_world, one, other) = two::<W>();
    let [first, second, third] = &owners();
    let a = |store: &W::Session, owner| Semaphore::new(store, "a", 2).owned_by(owner);
    let b = |store: &W::Session, owner| Semaphore::new(store, "b", 1).owned_by(owner);
    let held = [
        a(&one, first).acquire().unwrap(),
        a(&other, second).acquire().unwrap(),
    ];
    let last = b(&other, third).acquire().unwrap();
    let waiters = [(&one, first, 1), (&other, second, 2)].map(|(store, owner, count)| {
        let semaphore = b(store, owner);
        let task = task(move || semaphore.acquire());
        until_queued(&one, "b", count);
        task
    });
    let told = a(&other, third).acquire();
    assert!(is_deadlock(&told.map(drop)));
    drop(last);
    for waiter in waiters {
        drop(waiter.answer().unwrap());
    }
    drop(held);
}

/// Who waits for a circle without being in it isn't told.
pub(super) fn a_lasso_waits<W: World>() {
    let (world, one, other) = two::<W>();
    let [first, second, third] = &owners();
    let a = Lock::new(&one, "a").owned_by(first).lock().unwrap();
    let b = Lock::new(&other, "b").owned_by(second).lock().unwrap();
    let waiter = task({
        let lock = Lock::new(&one, "b").owned_by(first);
        move || lock.lock()
    });
    until_queued(&one, "b", 1);
    let closes = Lock::new(&other, "a").owned_by(second);
    let told = task(move || {
        let answer = closes.lock().map(drop);
        (answer, b)
    });
    until_queued(&one, "a", 1);
    let session = world.session();
    let third = third.clone();
    let outside = task(move || Lock::new(&session, "a").owned_by(&third).lock().map(drop));
    let (told, b) = told.answer();
    assert!(is_deadlock(&told));
    until_queued(&one, "a", 1);
    thread::sleep(Duration::from_millis(150));
    assert!(outside.is_running());
    drop(b);
    drop(waiter.answer().unwrap());
    drop(a);
    outside.answer().unwrap();
}

/// One of the permits is held by somebody who waits for nobody.
pub(super) fn a_free_permit_is_no_deadlock<W: World>() {
    let (_world, one, other) = two::<W>();
    let [first, second, third] = &owners();
    let semaphore = |store: &W::Session, owner| Semaphore::new(store, "a", 2).owned_by(owner);
    let _permit = semaphore(&one, first).acquire().unwrap();
    let other_permit = semaphore(&other, third).acquire().unwrap();
    let lock = Lock::new(&other, "b").owned_by(second).lock().unwrap();
    let waiter = task({
        let lock = Lock::new(&one, "b").owned_by(first);
        move || lock.lock().map(drop)
    });
    until_queued(&one, "b", 1);
    let closes = task({
        let semaphore = semaphore(&other, second);
        move || semaphore.acquire().map(drop)
    });
    until_queued(&one, "a", 1);
    thread::sleep(Duration::from_millis(150));
    assert!(closes.is_running());
    drop(other_permit);
    closes.answer().unwrap();
    drop(lock);
    waiter.answer().unwrap();
}

/// One of two waits in a circle, so changed that it is none. It goes on when the other one has let go.
fn no_circle<W: World>(
    hold: impl Fn(Lock) -> Lock,
    wait: impl FnOnce(Lock) -> Result<LockGuard, CoordError> + Send + 'static,
    owners: [Option<&Owner>; 2],
    is_expected: fn(&Result<LockGuard, CoordError>) -> bool,
) {
    let (_world, one, other) = two::<W>();
    let lock = |store: &W::Session, key, owner| {
        let lock = Lock::new(store, key);
        match owner {
            Some(owner) => lock.owned_by(owner),
            None => lock,
        }
    };
    let a = hold(lock(&one, "a", owners[0])).lock().unwrap();
    let b = lock(&other, "b", owners[1]).lock().unwrap();
    let first = task({
        let lock = lock(&one, "b", owners[0]);
        move || wait(lock)
    });
    until_queued(&one, "b", 1);
    let second = task({
        let lock = lock(&other, "a", owners[1]);
        move || lock.lock()
    });
    until_queued(&one, "a", 1);
    thread::sleep(Duration::from_millis(150));
    assert!(second.is_running());
    let answer = if first.is_running() {
        drop(b);
        first.answer()
    } else {
        let answer = first.answer();
        drop(b);
        answer
    };
    assert!(is_expected(&answer), "{answer:?}");
    drop((a, answer));
    drop(second.answer().unwrap());
}

pub(super) fn nothing_is_wrong_with_a_time_limit<W: World>() {
    let [first, second] = &owners();
    no_circle::<W>(
        |lock| lock,
        |lock| lock.try_lock_for(PATIENCE),
        [Some(first), Some(second)],
        Result::is_ok,
    );
}

pub(super) fn nothing_is_wrong_without_owners<W: World>() {
    let [one] = &owners();
    no_circle::<W>(
        |lock| lock,
        |lock| lock.lock(),
        [None, Some(one)],
        Result::is_ok,
    );
    no_circle::<W>(
        |lock| lock,
        |lock| lock.lock(),
        [Some(one), None],
        Result::is_ok,
    );
}

pub(super) fn nothing_is_wrong_with_leases_that_end<W: World>() {
    let [first, second] = &owners();
    no_circle::<W>(
        |lock| lock.lease(Lease::Fixed(PATIENCE)),
        |lock| lock.lock(),
        [Some(first), Some(second)],
        Result::is_ok,
    );
}

/// What is done for somebody who waits for that is done in the name of a child.
pub(super) fn of_a_family<W: World>() {
    let (_world, one, other) = two::<W>();
    let [parent] = &owners();
    let held = Lock::new(&one, "a").owned_by(parent).lock().unwrap();
    // It waits for what its ancestor can't give back before.
    let grandchild = parent.child().child();
    let answer = Lock::new(&other, "a").owned_by(&grandchild).lock();
    assert!(
        matches!(answer, Err(CoordError::Deadlock { .. })),
        "{answer:?}"
    );
    // It waits for another child, which goes on.
    let first = Lock::new(&one, "b")
        .owned_by(&parent.child())
        .lock()
        .unwrap();
    let lock = Lock::new(&other, "b").owned_by(&parent.child());
    let second = task(move || lock.lock().map(drop));
    until_queued(&one, "b", 1);
    thread::sleep(Duration::from_millis(150));
    assert!(second.is_running());
    drop(first);
    second.answer().unwrap();
    drop(held);
}

/// Two hold something, and what is done for each waits for what the other holds.
pub(super) fn of_two_families<W: World>() {
    let (_world, one, other) = two::<W>();
    let [first, second] = &owners();
    let a = Lock::new(&one, "a").owned_by(first).lock().unwrap();
    let b = Lock::new(&other, "b").owned_by(second).lock().unwrap();
    let lock = Lock::new(&one, "b").owned_by(&first.child());
    let waits = task(move || lock.lock().map(drop));
    until_queued(&one, "b", 1);
    let child = second.child();
    let answer = Lock::new(&other, "a").owned_by(&child).lock();
    let Err(CoordError::Deadlock { circle, .. }) = answer else {
        panic!("{answer:?}")
    };
    let keys: Vec<_> = circle
        .steps()
        .iter()
        .map(|step| step.key.as_str())
        .collect();
    assert_eq!(keys, ["a", "b"]);
    assert_eq!(circle.steps()[0].owner, child);
    drop(b);
    waits.answer().unwrap();
    drop(a);
}
