//! What threads, locals, locks and finalizers leave behind: nothing, however many come and go.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Mutex;
use std::sync::atomic::{AtomicIsize, Ordering::Relaxed};
use std::thread;

use hapax::Interner;
use hapax::local::Local;

/// Bytes that are allocated.
static LIVE: AtomicIsize = AtomicIsize::new(0);

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: the system's allocator does the work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size() as isize, Relaxed);
        // SAFETY: as for the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as isize, Relaxed);
        // SAFETY: as for the caller.
        unsafe { System.dealloc(at, layout) }
    }
}

/// One test at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// What is allocated when nothing waits for readers any more.
fn live() -> isize {
    Interner::<u8>::new().flush();
    LIVE.load(Relaxed)
}

const SLACK: isize = 8 << 10;

fn use_all(locals: &[Local<Vec<u8>>]) {
    for local in locals {
        local.with(|value| {
            drop(local.take());
            assert_eq!(value.len(), 1000);
        });
        local.with(|value| assert_eq!(value.len(), 1000));
    }
}

#[test]
fn ten_thousand_short_threads_leave_nothing() {
    let (rounds, threads) = if cfg!(miri) { (2, 2) } else { (10, 1_000) };
    let _alone = ALONE.lock();
    let locals: Vec<_> = (0..10).map(|_| Local::new(|| vec![0_u8; 1000])).collect();
    let mut after = Vec::new();
    for _ in 0..rounds {
        for _ in 0..threads {
            thread::scope(|scope| scope.spawn(|| use_all(&locals)).join().unwrap());
        }
        after.push(live());
        assert!(locals.iter().all(Local::is_empty));
    }
    assert!(after[rounds - 1] - after[0] < SLACK, "{after:?}");
}

#[test]
fn locals_that_come_and_go_leave_nothing_in_a_thread_that_stays() {
    let (rounds, count) = if cfg!(miri) { (2, 10) } else { (5, 1_000) };
    let _alone = ALONE.lock();
    let mut after = Vec::new();
    for _ in 0..rounds {
        let locals: Vec<_> = (0..count)
            .map(|_| Local::new(|| vec![0_u8; 1000]))
            .collect();
        use_all(&locals);
        drop(locals);
        after.push(live());
    }
    assert!(after[rounds - 1] - after[0] < SLACK, "{after:?}");
}

/// Threads that take locks and permits, wait for each other, are refused, time out, and end with what they hold.
#[cfg(feature = "sync")]
#[test]
fn threads_that_wait_leave_nothing() {
    use std::time::Duration;

    use hapax::sync::{Condition, Event, Mutex, Semaphore, deadlock};

    let (rounds, times) = if cfg!(miri) { (2, 2) } else { (10, 200) };
    let _alone = ALONE.lock();
    deadlock::set_check_after(Duration::ZERO);
    let once = || {
        let (a, b) = (Mutex::new(()), Semaphore::tracked(1));
        let (condition, event, semaphore) = (Condition::new(), Event::new(), Semaphore::new(0));
        let leaked = Mutex::new(());
        thread::scope(|scope| {
            scope.spawn(|| {
                let _a = a.lock();
                let _ = b.acquire().map(drop);
            });
            scope.spawn(|| {
                let _b = b.acquire();
                let _ = a.lock().map(drop);
            });
            scope.spawn(|| {
                let _ = condition.wait_for(a.lock().unwrap(), Duration::from_micros(50));
                let was_set = event.wait_for(Duration::from_micros(50)).unwrap();
                assert!(was_set || !event.is_set());
                let _ = semaphore
                    .try_acquire_for(Duration::from_micros(50))
                    .map(drop);
                event.set();
                std::mem::forget(leaked.lock());
                std::mem::forget(b.acquire());
            });
            event.wait().unwrap();
            semaphore.add_permits(1).unwrap();
        });
        assert!(leaked.lock().is_err() && b.acquire().is_err());
    };
    let mut after = Vec::new();
    for _ in 0..rounds {
        (0..times).for_each(|_| once());
        after.push(live());
    }
    assert_eq!(deadlock::registered_waits(), 0);
    assert!(after[rounds - 1] - after[0] < SLACK, "{after:?}");
}

/// A hundred thousand values that were dropped, taken back, refused, bound; and ten thousand finalizers, with their threads.
#[test]
fn finalizers_and_their_values_leave_nothing() {
    use std::sync::mpsc;

    use hapax::finalize::{Deferred, Finalizer, bind};

    let (rounds, finalizers, values) = if cfg!(miri) {
        (2, 2, 4)
    } else {
        (10, 1_000, 10)
    };
    let _alone = ALONE.lock();
    let once = || {
        let finalizer = Finalizer::new().unwrap();
        // Is disconnected when the thread ends.
        let (send, end) = mpsc::channel::<()>();
        finalizer.on_error(move |_| send.send(()).unwrap());
        let make = || Deferred::new_in(&finalizer, vec![0_u8; 1000]);
        let names = Interner::<str>::new();
        let name = names.intern("alpha");
        for _ in 0..values {
            drop(make());
            assert_eq!(Deferred::into_inner(make()).len(), 1000);
            drop(bind(&name, make()));
        }
        let last = make();
        finalizer.shutdown().unwrap();
        assert!(Deferred::try_new_in(&finalizer, vec![0_u8; 1000]).is_err());
        drop((finalizer, name));
        drop(last);
        assert!(end.recv().is_err());
    };
    let mut after = Vec::new();
    for _ in 0..rounds {
        (0..finalizers).for_each(|_| once());
        // The threads give back their own a little later.
        let mut least = live();
        for _ in 0..100 {
            thread::sleep(std::time::Duration::from_millis(1));
            least = least.min(live());
        }
        after.push(least);
    }
    assert!(after[rounds - 1] - after[0] < SLACK, "{after:?}");
}

/// Threads that wait for conditions, time out, get panics of theirs, and end inside.
#[cfg(feature = "sync")]
#[test]
fn threads_that_wait_in_monitors_leave_nothing() {
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
    use std::time::Duration;

    use hapax::sync::{AcquireError, Monitor, deadlock};

    let (rounds, times) = if cfg!(miri) { (2, 2) } else { (10, 200) };
    let _alone = ALONE.lock();
    deadlock::set_check_after(Duration::ZERO);
    let once = || {
        let (monitor, leaked) = (Monitor::new(0), Monitor::new(vec![0_u8; 1000]));
        thread::scope(|scope| {
            scope.spawn(|| {
                let inside = monitor.enter().unwrap();
                let inside = inside.wait_while(|number| *number == 0);
                *inside.unwrap() += 1;
            });
            scope.spawn(|| {
                let inside = monitor.enter().unwrap();
                let short = Duration::from_micros(50);
                drop(inside.wait_timeout_while(short, |_| true).unwrap());
            });
            scope.spawn(|| {
                let panic = catch_unwind(AssertUnwindSafe(|| {
                    let inside = monitor.enter().unwrap();
                    inside.wait_while(|number| match *number {
                        0 => true,
                        _ => resume_unwind(Box::new(vec![0_u8; 1000])),
                    })
                }));
                assert!(panic.is_err());
            });
            scope.spawn(|| {
                let answer = leaked
                    .enter()
                    .and_then(|inside| inside.wait_while(|_| true));
                assert!(matches!(answer, Err(AcquireError::OwnerDied { .. })));
            });
            scope.spawn(|| std::mem::forget(leaked.enter()));
            *monitor.enter().unwrap() = 1;
        });
        assert!(leaked.enter().is_err());
        assert_eq!(monitor.into_inner(), 2);
    };
    let mut after = Vec::new();
    for _ in 0..rounds {
        (0..times).for_each(|_| once());
        after.push(live());
    }
    assert_eq!(deadlock::registered_waits(), 0);
    assert!(after[rounds - 1] - after[0] < SLACK, "{after:?}");
}

/// A scope lasts, while a child of it goes to sleep again and again.
#[cfg(feature = "sync")]
#[test]
fn waits_leave_nothing_with_their_scope() {
    use std::time::Duration;

    use hapax::sync::{scope, sleep};

    let times = if cfg!(miri) { 10 } else { 1_000 };
    let _alone = ALONE.lock();
    let results = scope(|scope| {
        scope.spawn(|| {
            let wait = || (0..times).try_for_each(|_| sleep(Duration::ZERO));
            wait()?;
            let before = live();
            for _ in 0..10 {
                wait()?;
            }
            Ok(live() - before)
        });
        Ok(())
    });
    let more = results.unwrap()[0];
    assert!(more < SLACK, "{more}");
}
