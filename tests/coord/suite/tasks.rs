//! Tasks: they wait as threads do, and lose nothing when they go away.

use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Wake, Waker};

use super::*;

/// A task that is polled once.
macro_rules! polled {
    ($future:ident) => {
        let mut $future = Box::pin($future);
        let mut nobody = Context::from_waker(Waker::noop());
        assert!($future.as_mut().poll(&mut nobody).is_pending());
    };
}

pub(super) fn a_task_waits_its_turn<W: World>() {
    let (_world, one, other) = two::<W>();
    let guard = Lock::new(&one, "a").lock().unwrap();
    let token = guard.fencing_token();
    let lock = Lock::new(&other, "a");
    let waiter = task(move || {
        pollster::block_on(async {
            let guard = lock.lock_async().await.unwrap();
            let token = guard.fencing_token();
            guard.release_async().await.unwrap();
            token
        })
    });
    until_queued(&one, "a", 1);
    guard.release().unwrap();
    assert!(waiter.answer() > token);
    assert!(one.list().unwrap().is_empty());
}

pub(super) fn a_task_that_goes_away_leaves_the_queue<W: World>() {
    let (_world, one, other) = two::<W>();
    let guard = Lock::new(&one, "a").lock().unwrap();
    let lock = Lock::new(&other, "a");
    let future = async { lock.lock_async().await };
    polled!(future);
    until_queued(&one, "a", 1);
    drop(future);
    until(|| one.list().unwrap()[0].waiters.is_empty());
    drop(guard);
    assert!(Lock::new(&one, "a").try_lock().is_ok());
}

pub(super) fn what_a_task_did_not_take_goes_back<W: World>() {
    let (_world, one, other) = two::<W>();
    let lock = Lock::new(&other, "a");
    let future = async { lock.lock_async().await };
    polled!(future);
    until(|| !one.list().unwrap().is_empty());
    drop(future);
    until(|| one.list().unwrap().is_empty());
}

pub(super) fn a_task_drops_its_guard<W: World>() {
    let (_world, one, other) = two::<W>();
    let lock = Lock::new(&one, "a");
    drop(pollster::block_on(lock.lock_async()).unwrap());
    let lock = Lock::new(&other, "a");
    assert!(lock.try_lock_for(PATIENCE).is_ok());
}

pub(super) fn many_tasks_of_few_threads<W: World>() {
    const TASKS: u32 = 40;
    let (_world, one, other) = two::<W>();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    let inside = Arc::new(AtomicU32::new(0));
    let tasks: Vec<_> = (0..TASKS)
        .map(|number| {
            let store = if number % 2 == 0 { &one } else { &other };
            let (semaphore, inside) = (Semaphore::new(store, "a", 3), Arc::clone(&inside));
            runtime.spawn(async move {
                let permit = semaphore.acquire_async().await.unwrap();
                assert!(inside.fetch_add(1, Ordering::Relaxed) < 3);
                tokio::task::yield_now().await;
                inside.fetch_sub(1, Ordering::Relaxed);
                permit.release_async().await.unwrap();
            })
        })
        .collect();
    let all = async {
        for one in tasks {
            one.await.unwrap();
        }
    };
    let done = task(move || runtime.block_on(all));
    done.answer();
    assert!(one.list().unwrap().is_empty());
}

/// The next task is served all the same.
pub(super) fn a_waker_that_panics_harms_nobody<W: World>() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("that was it");
        }
    }
    let (_world, one, other) = two::<W>();
    let guard = Lock::new(&one, "a").lock().unwrap();
    let lock = Lock::new(&other, "a");
    let mut first = Box::pin(lock.lock_async());
    let waker = Arc::new(Panics).into();
    let mut context = Context::from_waker(&waker);
    assert!(first.as_mut().poll(&mut context).is_pending());
    until_queued(&one, "a", 1);
    drop(guard);
    let lock = lock.clone();
    let second = task(move || pollster::block_on(lock.lock_async()).map(|_| ()));
    until_queued(&one, "a", 1);
    drop(first);
    second.answer().unwrap();
}

pub(super) fn a_task_of_a_closed_store<W: World>() {
    let (_world, one, other) = two::<W>();
    let _guard = Lock::new(&one, "a").lock().unwrap();
    let lock = Lock::new(&other, "a");
    let waiter = task(move || {
        let answer = pollster::block_on(lock.lock_async()).map(drop);
        (answer, pollster::block_on(lock.lock_async()).map(drop))
    });
    until_queued(&one, "a", 1);
    other.close().unwrap();
    let (first, second) = waiter.answer();
    assert!(matches!(first, Err(CoordError::Closed { .. })), "{first:?}");
    assert!(
        matches!(second, Err(CoordError::Closed { .. })),
        "{second:?}"
    );
}

pub(super) fn a_task_is_told_of_a_deadlock<W: World>() {
    let (_world, one, other) = two::<W>();
    let (mine, theirs) = (Owner::new(), Owner::new());
    let a = Lock::new(&one, "a").owned_by(&mine).lock().unwrap();
    let _b = Lock::new(&other, "b").owned_by(&theirs).lock().unwrap();
    let waits = Lock::new(&one, "b").owned_by(&mine);
    let first = task(move || waits.lock().map(drop));
    until_queued(&one, "b", 1);
    let lock = Lock::new(&other, "a").owned_by(&theirs);
    let second = task(move || pollster::block_on(lock.lock_async()).map(drop));
    let answer = second.answer();
    assert!(
        matches!(answer, Err(CoordError::Deadlock { .. })),
        "{answer:?}"
    );
    drop(_b);
    first.answer().unwrap();
    drop(a);
}
