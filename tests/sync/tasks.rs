//! Tasks, on whatever executor: tokio's threads, or one thread that is blocked.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Wake, Waker};

use pollster::block_on;

use super::*;

fn tokio() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(3)
        .build()
        .unwrap()
}

fn poll<F: Future + ?Sized>(future: &mut Pin<Box<F>>) -> Poll<F::Output> {
    future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
}

fn is_send<T: Send>(it: T) -> T {
    it
}

/// Threads and tasks share permits: none is lost, none made, also when futures are dropped at any time.
#[test]
fn permits_go_to_threads_and_tasks() {
    let times = scaled(4_000, 50);
    in_time(move || {
        let semaphore = Arc::new(Semaphore::new(2));
        let inside = Arc::new(AtomicUsize::new(0));
        let enter = |inside: &AtomicUsize| {
            assert!(inside.fetch_add(1, SeqCst) < 2);
            inside.fetch_sub(1, SeqCst);
        };
        let runtime = tokio();
        let tasks: Vec<_> = (0..4)
            .map(|number| {
                let (semaphore, inside) = (semaphore.clone(), inside.clone());
                runtime.spawn(is_send(async move {
                    for time in 0..times {
                        if (time + number) % 3 == 0 {
                            // Polled at most once, then dropped.
                            let mut wait = Box::pin(semaphore.acquire_many_async(2));
                            let _ = poll(&mut wait);
                            tokio::task::yield_now().await;
                        }
                        let permit = semaphore.acquire_async().await.unwrap();
                        enter(&inside);
                        drop(permit);
                    }
                }))
            })
            .collect();
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..times {
                        let permit = semaphore.acquire().unwrap();
                        enter(&inside);
                        drop(permit);
                    }
                });
            }
        });
        for task in tasks {
            runtime.block_on(task).unwrap();
        }
        assert_eq!(semaphore.available_permits(), 2);
    });
}

#[test]
fn a_future_keeps_its_place() {
    let semaphore = Arc::new(Semaphore::new(0));
    let mut first = Box::pin(semaphore.acquire_many_async(2));
    assert!(poll(&mut first).is_pending());
    let mut second = Box::pin(semaphore.clone().acquire_many_owned_async(1));
    assert!(poll(&mut second).is_pending());
    semaphore.add_permits(1).unwrap();
    assert!(poll(&mut second).is_pending());
    assert_eq!(
        semaphore.try_acquire().unwrap_err(),
        AcquireError::WouldBlock
    );
    // The second one wants less.
    drop(first);
    let Poll::Ready(permit) = poll(&mut second) else {
        panic!("it stands in nobody's shadow")
    };
    drop(permit.unwrap());
    assert_eq!(semaphore.available_permits(), 1);
}

#[test]
fn a_future_gives_its_grant_back() {
    let semaphore = Semaphore::new(0);
    let mut wait = Box::pin(semaphore.acquire_async());
    assert!(poll(&mut wait).is_pending());
    semaphore.add_permits(1).unwrap();
    assert_eq!(semaphore.available_permits(), 0);
    drop(wait);
    assert_eq!(semaphore.available_permits(), 1);
    let mut wait = Box::pin(semaphore.acquire_many_async(2));
    assert!(poll(&mut wait).is_pending());
    semaphore.close();
    assert!(matches!(
        poll(&mut wait),
        Poll::Ready(Err(AcquireError::Closed))
    ));
    assert!(matches!(
        block_on(semaphore.acquire_async()),
        Err(AcquireError::Closed)
    ));
}

/// The last waker counts.
#[test]
fn a_future_may_move_to_another_task() {
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    let wakers = [(); 2].map(|()| Arc::new(Count(AtomicUsize::new(0))));
    let semaphore = Semaphore::new(0);
    let mut wait = pin!(semaphore.acquire_async());
    for waker in &wakers {
        let waker = Waker::from(waker.clone());
        for _ in 0..2 {
            assert!(
                wait.as_mut()
                    .poll(&mut Context::from_waker(&waker))
                    .is_pending()
            );
        }
    }
    semaphore.add_permits(1).unwrap();
    assert_eq!(wakers.map(|count| count.0.load(SeqCst)), [0, 1]);
}

/// A waker that panics keeps nobody else from being woken.
#[test]
fn a_waker_may_panic() {
    struct Panics;

    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            std::panic::resume_unwind(Box::new("woken"));
        }
    }

    in_time(|| {
        let event = Event::new();
        let mut wait = Box::pin(event.wait_async());
        let waker = Waker::from(Arc::new(Panics));
        assert!(
            wait.as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_pending()
        );
        let begun = Event::new();
        thread::scope(|scope| {
            let other = scope.spawn(|| {
                begun.set();
                event.wait().unwrap();
            });
            begun.wait().unwrap();
            thread::sleep(SHORT);
            assert!(catch_unwind(AssertUnwindSafe(|| event.set())).is_err());
            other.join().unwrap();
        });
        assert!(poll(&mut wait).is_ready());
    });
}

#[test]
fn events_wake_threads_and_tasks() {
    in_time(|| {
        let event = Arc::new(Event::new());
        let runtime = tokio();
        let tasks: Vec<_> = (0..5)
            .map(|_| {
                let event = event.clone();
                runtime.spawn(is_send(async move { event.wait_async().await }))
            })
            .collect();
        thread::scope(|scope| {
            let thread = scope.spawn(|| block_on(event.wait_async()));
            let other = scope.spawn(|| event.wait());
            thread::sleep(SHORT);
            event.set();
            thread.join().unwrap();
            other.join().unwrap().unwrap();
        });
        for task in tasks {
            runtime.block_on(task).unwrap();
        }
        // Dropped before it is set: nothing is left behind.
        event.clear();
        let mut wait = Box::pin(event.wait_async());
        assert!(poll(&mut wait).is_pending());
        drop(wait);
        event.set();
    });
}

/// Tasks take jobs from a queue, threads put them there; some tasks give up.
#[test]
fn tasks_wait_for_conditions() {
    let jobs = scaled(2_000, 50);
    let done = in_time(move || {
        let shared = Arc::new((Mutex::new((0, false)), Condition::new()));
        let runtime = tokio();
        let workers: Vec<_> = (0..3)
            .map(|_| {
                let shared = shared.clone();
                runtime.spawn(is_send(async move {
                    let (mut done, mut times) = (0, 0);
                    loop {
                        let wait = {
                            let mut queue = shared.0.lock().unwrap();
                            if queue.0 > 0 {
                                queue.0 -= 1;
                                done += 1;
                                continue;
                            }
                            if queue.1 {
                                return done;
                            }
                            shared.1.notified(queue).unwrap()
                        };
                        times += 1;
                        if times % 4 != 0 {
                            wait.await;
                        } else {
                            // It gives up, perhaps with a notification.
                            tokio::task::yield_now().await;
                            drop(wait);
                        }
                    }
                }))
            })
            .collect();
        for _ in 0..jobs {
            let mut queue = shared.0.lock().unwrap();
            queue.0 += 1;
            shared.1.notify_one(&queue).unwrap();
        }
        let mut queue = shared.0.lock().unwrap();
        queue.1 = true;
        shared.1.notify_all(&queue).unwrap();
        drop(queue);
        let done = workers
            .into_iter()
            .map(|worker| runtime.block_on(worker).unwrap());
        done.sum::<usize>()
    });
    assert_eq!(done, jobs);
}

/// A notification that nobody has seen goes to the next one.
#[test]
fn a_dropped_future_passes_its_notification_on() {
    let (mutex, condition) = (Mutex::new(()), Condition::new());
    let wait = || Box::pin(condition.notified(mutex.lock().unwrap()).unwrap());
    let (first, mut second, third) = (wait(), wait(), wait());
    assert_eq!(condition.notify_one(&mutex.lock().unwrap()), Ok(1));
    drop(third);
    assert!(poll(&mut second).is_pending());
    drop(first);
    assert!(poll(&mut second).is_ready());
    drop(second);
    assert_eq!(condition.notify_all(&mutex.lock().unwrap()), Ok(0));
}
