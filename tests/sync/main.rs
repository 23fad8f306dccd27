//! `sync`: the scenarios of CPython's `lock_tests`, under their own names, then deadlocks, holders that end,
//! tasks, and scopes.

#[path = "../common/mod.rs"]
mod common;

mod barrier;
mod condition;
mod deadlock;
mod event;
mod locks;
mod monitor;
mod rwlock;
mod scope;
mod semaphore;
mod tasks;
mod tracked;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use common::{Rng, SeedOnFailure, scaled, seed};
use hapax::sync::{
    AcquireError, Condition, Event, Lock, Mutex, MutexGuard, RLock, ReleaseError, Semaphore,
    ThreadKey,
};

const SHORT: Duration = Duration::from_millis(50);

/// Runs `f` on a thread of its own, to the end of that.
fn on_thread<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    thread::scope(|scope| scope.spawn(f).join().unwrap())
}

/// Fails instead of hanging.
fn in_time<R: Send + 'static>(f: impl FnOnce() -> R + Send + 'static) -> R {
    let (sender, receiver) = mpsc::channel();
    let thread = thread::spawn(move || {
        let answer = f();
        // Nobody listens if the time is over.
        let _ = sender.send(answer);
    });
    match receiver.recv_timeout(Duration::from_secs(60)) {
        Ok(answer) => answer,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
        Err(mpsc::RecvTimeoutError::Disconnected) => match thread.join() {
            Ok(()) => unreachable!("it has sent nothing"),
            Err(panic) => std::panic::resume_unwind(panic),
        },
    }
}

/// Runs a test in a process of its own, since what it looks at is of the whole process.
fn alone(test: &str, f: impl FnOnce() + Send + 'static) {
    const CHILD: &str = "HAPAX_TEST_ALONE";
    if std::env::var_os(CHILD).is_some() {
        return in_time(f);
    }
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    assert!(
        child.status.success(),
        "{}",
        String::from_utf8_lossy(&child.stderr)
    );
}

fn is_deadlock<T>(answer: &Result<T, AcquireError>) -> bool {
    matches!(answer, Err(AcquireError::Deadlock(_)))
}

/// Looks again and again until something is so; fails if that lasts too long.
fn until(mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < end, "it doesn't come about");
        thread::sleep(Duration::from_millis(1));
    }
}
