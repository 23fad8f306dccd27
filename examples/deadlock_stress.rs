//! Looks for what the locks of `sync` must never do: hang, refuse two threads of one circle, or refuse one where there is
//! no circle. The figures of docs/SYNC.md are from here.
//!
//! ```text
//! cargo run --release --features sync --example deadlock_stress -- SECONDS
//! ```
//!
//! It fails at the first thing that is wrong, and says so if nobody gets on.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Barrier, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use hapax::sync::{AcquireError, Mutex, RLock, RwLock, Semaphore, TrackedSemaphore, deadlock};

const THREADS: usize = 8;

/// Something that one thread at a time has.
enum Thing {
    Mutex(Mutex<()>),
    RLock(RLock<()>),
    RwLock(RwLock<()>),
    Permit(TrackedSemaphore),
}

impl Thing {
    /// Of the kinds in turn, or all of the first kind.
    fn new(number: usize, is_mixed: bool) -> Self {
        match number % 4 {
            1 if is_mixed => Self::RLock(RLock::new(())),
            2 if is_mixed => Self::RwLock(RwLock::new(())),
            3 if is_mixed => Self::Permit(Semaphore::tracked(1)),
            _ => Self::Mutex(Mutex::new(())),
        }
    }

    fn with<R>(&self, f: impl FnOnce() -> Result<R, AcquireError>) -> Result<R, AcquireError> {
        // Each guard lives as long as `f` runs.
        match self {
            Self::Mutex(mutex) => mutex.lock().and_then(|_guard| f()),
            Self::RLock(lock) => lock.lock().and_then(|_guard| f()),
            Self::RwLock(lock) => lock.write().and_then(|_guard| f()),
            Self::Permit(semaphore) => semaphore.acquire().and_then(|_permit| f()),
        }
    }
}

/// Threads, each of which has a lock and wants the next one's. Returns how many were refused, and how long it took from
/// the moment when all had one until the last was done.
fn ring(size: usize) -> (usize, Duration) {
    let locks: Vec<_> = (0..size).map(|_| Mutex::new(())).collect();
    let all_have_one = Barrier::new(size + 1);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..size)
            .map(|first| {
                let (locks, all_have_one) = (&locks, &all_have_one);
                scope.spawn(move || {
                    let _own = locks[first].lock();
                    all_have_one.wait();
                    let next = locks[(first + 1) % size].lock();
                    matches!(next, Err(AcquireError::Deadlock(_)))
                })
            })
            .collect();
        all_have_one.wait();
        let start = Instant::now();
        let refused = threads.into_iter().map(|thread| thread.join().unwrap());
        (
            refused.filter(|is_refused| *is_refused).count(),
            start.elapsed(),
        )
    })
}

fn rings(size: usize) {
    const ROUNDS: usize = 200;
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let (refused, time) = ring(size);
        assert_eq!(refused, 1, "of a ring of {size}");
        times.push(time);
    }
    times.sort();
    let (median, longest) = (times[ROUNDS / 2], times[ROUNDS - 1]);
    println!(
        "| ring of {size} | {ROUNDS} rounds | {ROUNDS} | median {median:.1?}, longest {longest:.1?} |"
    );
}

/// Threads that take three of a few things, in order or in any.
fn locking(title: &str, is_ordered: bool, is_mixed: bool, time: Duration) {
    const THINGS: usize = 8;
    let things: Vec<_> = (0..THINGS)
        .map(|number| Thing::new(number, is_mixed))
        .collect();
    let (taken, refused) = (AtomicU64::new(0), AtomicU64::new(0));
    let is_over = AtomicBool::new(false);
    let longest = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    let mut longest = Duration::ZERO;
                    while !is_over.load(Relaxed) {
                        let mut wanted = [(); 3].map(|()| fastrand::usize(..THINGS));
                        if is_ordered {
                            wanted.sort();
                        }
                        let [a, b, c] = wanted;
                        if a == b || b == c || a == c {
                            continue;
                        }
                        let start = Instant::now();
                        let done = deadlock::retry(|| {
                            let all = things[a].with(|| {
                                things[b].with(|| {
                                    // Somebody else may run while they are held.
                                    if fastrand::u8(..16) == 0 {
                                        thread::yield_now();
                                    }
                                    things[c].with(|| Ok(()))
                                })
                            });
                            all.inspect_err(|_| {
                                refused.fetch_add(1, Relaxed);
                            })
                        });
                        done.expect("there are only circles");
                        longest = longest.max(start.elapsed());
                        taken.fetch_add(1, Relaxed);
                    }
                    longest
                })
            })
            .collect();
        thread::sleep(time);
        is_over.store(true, Relaxed);
        let longest = threads.into_iter().map(|thread| thread.join().unwrap());
        longest.max().expect("there are some")
    });
    let (taken, refused) = (3 * taken.into_inner(), refused.into_inner());
    assert!(!is_ordered || refused == 0, "a false alarm");
    println!("| {title} | {taken} locks | {refused} | longest {longest:.1?} |");
}

fn main() {
    let seconds = std::env::args()
        .nth(1)
        .map_or(Ok(5), |seconds| seconds.parse());
    let time = Duration::from_secs(seconds.expect("a number of seconds"));
    let (alive, watch) = mpsc::channel();
    // A hang is a failure, not a wait.
    thread::spawn(move || {
        while watch
            .recv_timeout(10 * time + Duration::from_secs(60))
            .is_ok()
        {}
        eprintln!("nobody gets on");
        std::process::abort();
    });
    println!(
        "| {THREADS} threads, or as many as the ring | done | refused | time |\n|---|---|---|---|"
    );
    let check_after = [Duration::from_millis(1), Duration::ZERO];
    for size in [2, 3, 8, 32] {
        rings(size);
        alive.send(()).expect("somebody watches");
    }
    for (after, when) in check_after.into_iter().zip(["after 1 ms", "at once"]) {
        deadlock::set_check_after(after);
        for (is_ordered, order) in [(true, "in order"), (false, "in any order")] {
            for (is_mixed, kind) in [(false, "mutexes"), (true, "of four kinds")] {
                let title = format!("{kind}, {order}, looking {when}");
                locking(&title, is_ordered, is_mixed, time);
                alive.send(()).expect("somebody watches");
            }
        }
    }
}
