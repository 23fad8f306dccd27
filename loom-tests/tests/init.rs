//! Builders of one key, beside inserters, and beside tasks that wait or give up.

use hapax::{Cached, WeakMap};
use hapax_loom_tests::{Identity, Key, block_on, meet, model, poll_once, spawn};
use std::sync::Arc;

/// Two threads insert the key that a third is building; each may be anywhere when the other goes on for it.
///
/// Would catch: a builder that was given up and doesn't find what was linked instead; an inserter that gives
/// way to an entry which was given up; an entry that nobody publishes; one that is counted twice.
#[test]
fn build_races_two_inserts() {
    model(3, || {
        let map = Arc::new(WeakMap::<Key, u64, Identity>::with_hasher(Identity));
        let (here, there) = (map.clone(), map.clone());
        let mut others = None;
        let built = map.get_or_init(Key::at(1), |_| {
            others = Some([
                spawn(move || here.get_or_insert(Key::at(1), 20)),
                spawn(move || there.get_or_insert(Key::at(1), 30)),
            ]);
            10
        });
        let [a, b] = others.unwrap().map(|thread| thread.join().unwrap());
        loom::skip_branch();
        assert!(Cached::ptr_eq(&a, &b) && Cached::ptr_eq(&a, &built));
        assert!(Cached::ptr_eq(&a, &map.get(&Key::at(1)).unwrap()));
        assert_eq!(map.len(), 1);
        drop((a, b, built));
        assert_eq!(map.len(), 0);
    });
}

/// A task waits for what a thread builds.
///
/// Would catch: a waker that is left behind; a value whose making isn't seen.
#[test]
fn waiting_task_races_builder() {
    model(3, || {
        let map = Arc::new(WeakMap::<Key, u64, Identity>::with_hasher(Identity));
        let here = map.clone();
        let (task, built) = meet(
            || block_on(map.get_or_init_async(Key::at(1), async |_| 5)),
            move || here.get_or_init(Key::at(1), |_| 5),
        );
        loom::skip_branch();
        assert_eq!((*task, *built), (5, 5));
    });
}

/// A task that builds is dropped, while a thread waits for it, or comes.
///
/// Would catch: a claim that is never given up, or a thread that nobody wakes.
#[test]
fn cancelled_builder_races_waiting() {
    model(3, || {
        let map = Arc::new(WeakMap::<Key, u64, Identity>::with_hasher(Identity));
        let theirs = map.clone();
        let mut task = Box::pin(async move {
            theirs
                .get_or_init_async(Key::at(1), async |_| std::future::pending().await)
                .await
        });
        assert!(poll_once(&mut task).is_pending());
        let theirs = map.clone();
        let ((), built) = meet(
            move || drop(task),
            move || theirs.get_or_init(Key::at(1), |_| 5),
        );
        loom::skip_branch();
        assert_eq!(*built, 5);
        assert_eq!(map.len(), 1);
    });
}
