//! `WeakMap::get_or_init_async`: tasks and threads that want one key, wait for each other, give up.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Waker};
use std::thread;

use hapax::{Cached, InitError, WeakMap};
use pollster::block_on;

fn poll<F: Future + ?Sized>(future: &mut Pin<Box<F>>) -> Poll<F::Output> {
    future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
}

fn is_send<T: Send>(it: T) -> T {
    it
}

/// Something that isn't ready when it is polled for the first time.
async fn pause() {
    let mut is_ready = false;
    std::future::poll_fn(|cx| {
        cx.waker().wake_by_ref();
        if std::mem::replace(&mut is_ready, true) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

const KEYS: usize = 3;

/// How many build each key: the one at a time.
#[derive(Default)]
struct Builders([AtomicUsize; KEYS]);

struct Building<'a>(&'a AtomicUsize);

impl Builders {
    fn begin(&self, key: usize) -> Building<'_> {
        assert_eq!(self.0[key].fetch_add(1, SeqCst), 0, "two build {key}");
        Building(&self.0[key])
    }
}

impl Drop for Building<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// Tasks of four threads, threads, and tasks that give up at any point want few keys. One at a time builds each, and
/// nobody sleeps on.
#[test]
fn keys_are_built_by_one_at_a_time() {
    let times = if cfg!(debug_assertions) {
        2_000
    } else {
        20_000
    };
    let map = Arc::new(WeakMap::<usize, usize>::new());
    let builders = Arc::new(Builders::default());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .build()
        .unwrap();
    let tasks: Vec<_> = (0..6)
        .map(|task| {
            let (map, builders) = (map.clone(), builders.clone());
            runtime.spawn(is_send(async move {
                let build = async |&key: &usize| {
                    let _building = builders.begin(key);
                    pause().await;
                    key
                };
                for time in 0..times {
                    let key = (time * 7 + task) % KEYS;
                    let mut wait = Box::pin(map.get_or_init_async(key, build));
                    if (time + task) % 4 == 0 {
                        // Dropped while it waits, while it builds, or when it is done.
                        let _ = poll(&mut wait);
                    } else {
                        assert_eq!(*wait.await, key);
                    }
                }
            }))
        })
        .collect();
    thread::scope(|scope| {
        for thread in 0..2 {
            let (map, builders) = (&map, &builders);
            scope.spawn(move || {
                for time in 0..times {
                    let key = (time + thread) % KEYS;
                    let entry = map.get_or_init(key, |&key| {
                        let _building = builders.begin(key);
                        key
                    });
                    assert_eq!(*entry, key);
                }
            });
        }
    });
    tasks
        .into_iter()
        .for_each(|task| runtime.block_on(task).unwrap());
    assert!(map.is_empty());
}

#[test]
fn a_task_that_waits_builds_if_the_builder_gives_up() {
    let map = WeakMap::<&str, u32>::new();
    let mut first = Box::pin(map.get_or_init_async("a", async |_| std::future::pending().await));
    assert!(poll(&mut first).is_pending());
    let mut second = Box::pin(map.get_or_init_async("a", async |_| 2));
    let mut third = Box::pin(map.get_or_init_async("a", async |_| 3));
    assert!(poll(&mut second).is_pending());
    assert!(poll(&mut third).is_pending());
    // Whether it waits or builds.
    drop(second);
    drop(first);
    let Poll::Ready(entry) = poll(&mut third) else {
        panic!("nobody builds it")
    };
    assert_eq!(*entry, 3);
    assert_eq!(*block_on(map.get_or_init_async("a", async |_| 4)), 3);
    drop(entry);
    assert!(map.is_empty());
}

#[test]
fn errors_and_panics_are_ones_own() {
    let map = WeakMap::<&str, u32>::new();
    let fails = map.try_get_or_init_async("a", async |_| Err::<u32, _>("no such file"));
    assert_eq!(
        block_on(fails).unwrap_err(),
        InitError::Init("no such file")
    );
    let panics = map.get_or_init_async("a", async |_| std::panic::resume_unwind(Box::new(5)));
    let panic = catch_unwind(AssertUnwindSafe(|| drop(block_on(panics)))).unwrap_err();
    assert_eq!(panic.downcast_ref(), Some(&5));
    assert!(map.is_empty());
    let entry = block_on(map.try_get_or_init_async("a", async |key| Ok::<_, ()>(key.len() as u32)));
    assert_eq!(*entry.unwrap(), 1);
}

/// An insertion that doesn't wait counts, also for tasks.
#[test]
fn an_insertion_goes_before() {
    let map = WeakMap::<&str, u32>::new();
    let mut slow = Box::pin(map.get_or_init_async("a", async |_| {
        pause().await;
        1
    }));
    assert!(poll(&mut slow).is_pending());
    let mut waits = Box::pin(map.get_or_init_async("a", async |_| unreachable!("there is one")));
    assert!(poll(&mut waits).is_pending());
    let inserted = map.get_or_insert("a", 2);
    let Poll::Ready(built) = poll(&mut slow) else {
        panic!("it pauses once")
    };
    let Poll::Ready(awaited) = poll(&mut waits) else {
        panic!("nobody has woken it")
    };
    assert!(Cached::ptr_eq(&inserted, &built) && Cached::ptr_eq(&inserted, &awaited));
}

/// A thread waits for what a task builds.
#[test]
fn a_thread_waits_for_a_task() {
    let map = WeakMap::<&str, u32>::new();
    let mut slow = Box::pin(map.get_or_init_async("a", async |_| {
        pause().await;
        1
    }));
    assert!(poll(&mut slow).is_pending());
    thread::scope(|scope| {
        let thread = scope.spawn(|| *map.get_or_init("a", |_| unreachable!("there is one")));
        thread::sleep(std::time::Duration::from_millis(20));
        let entry = poll(&mut slow);
        assert_eq!(thread.join().unwrap(), 1);
        drop(entry);
    });
}
