//! `Barrier`: CPython's BarrierTests.

use hapax::sync::{Barrier, BarrierError};

use super::*;

const THREADS: usize = 5;

/// Runs `f` on so many threads, and returns what they return.
fn on_threads<R: Send>(threads: usize, f: impl Fn() -> R + Sync) -> Vec<R> {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(&f)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    })
}

#[test]
fn test_constructor() {
    assert_eq!(Barrier::new(0).unwrap_err(), BarrierError::NoParties);
    let barrier = Barrier::new(3).unwrap();
    assert_eq!(
        (barrier.parties(), barrier.waiting(), barrier.is_broken()),
        (3, 0, false)
    );
}

/// Nobody is a round ahead of the others.
fn lockstep(rounds: usize) {
    let barrier = Arc::new(Barrier::new(THREADS).unwrap());
    in_time(move || {
        let passed = AtomicUsize::new(0);
        on_threads(THREADS, || {
            for round in 0..rounds {
                assert!(passed.load(SeqCst) >= round * THREADS);
                passed.fetch_add(1, SeqCst);
                barrier.wait().unwrap();
                assert!(passed.load(SeqCst) >= (round + 1) * THREADS);
                assert!(passed.load(SeqCst) < (round + 2) * THREADS);
                barrier.wait().unwrap();
            }
        });
        assert_eq!((barrier.waiting(), barrier.is_broken()), (0, false));
    });
}

#[test]
fn test_barrier() {
    lockstep(1);
}

#[test]
fn test_barrier_10() {
    lockstep(10);
}

#[test]
fn test_wait_return() {
    let mut places = in_time(|| {
        let barrier = Barrier::new(THREADS).unwrap();
        on_threads(THREADS, || barrier.wait().unwrap())
    });
    places.sort();
    assert_eq!(places, [0, 1, 2, 3, 4]);
}

#[test]
fn test_action() {
    let done = Arc::new(AtomicUsize::new(0));
    let count = done.clone();
    let barrier = Barrier::new(THREADS).unwrap().with_action(move || {
        count.fetch_add(1, SeqCst);
    });
    in_time(move || {
        on_threads(THREADS, || {
            barrier.wait().unwrap();
            assert_eq!(done.load(SeqCst), 1);
        });
    });
}

/// So many threads wait, then something is done.
fn while_waiting(
    barrier: &Barrier,
    threads: usize,
    f: impl FnOnce(),
) -> Vec<Result<usize, BarrierError>> {
    thread::scope(|scope| {
        let waits: Vec<_> = (0..threads)
            .map(|_| scope.spawn(|| barrier.wait()))
            .collect();
        until(|| barrier.waiting() == threads);
        f();
        waits.into_iter().map(|wait| wait.join().unwrap()).collect()
    })
}

#[test]
fn test_abort() {
    in_time(|| {
        let barrier = Barrier::new(THREADS).unwrap();
        let answers = while_waiting(&barrier, THREADS - 1, || barrier.abort());
        assert_eq!(answers, [Err(BarrierError::Broken); THREADS - 1]);
        assert!(barrier.is_broken());
        assert_eq!(barrier.wait(), Err(BarrierError::Broken));
    });
}

#[test]
fn test_reset() {
    in_time(|| {
        let barrier = Barrier::new(THREADS).unwrap();
        let answers = while_waiting(&barrier, THREADS - 1, || barrier.reset());
        assert_eq!(answers, [Err(BarrierError::Broken); THREADS - 1]);
        assert!(!barrier.is_broken());
        on_threads(THREADS, || barrier.wait().unwrap());
    });
}

#[test]
fn test_abort_and_reset() {
    in_time(|| {
        let barrier = Barrier::new(THREADS).unwrap();
        while_waiting(&barrier, 2, || barrier.abort());
        barrier.reset();
        for _ in 0..2 {
            on_threads(THREADS, || barrier.wait().unwrap());
        }
        assert_eq!((barrier.waiting(), barrier.is_broken()), (0, false));
    });
}

/// Who loses patience breaks it for all.
#[test]
fn test_timeout() {
    in_time(|| {
        let barrier = Barrier::new(THREADS).unwrap();
        let answers = while_waiting(&barrier, THREADS - 2, || {
            assert_eq!(barrier.wait_for(SHORT), Err(BarrierError::TimedOut));
        });
        assert_eq!(answers, [Err(BarrierError::Broken); THREADS - 2]);
        assert_eq!(barrier.wait(), Err(BarrierError::Broken));
    });
}

#[test]
fn test_default_timeout() {
    in_time(|| {
        let barrier = Barrier::new(2).unwrap().with_timeout(SHORT);
        let start = Instant::now();
        assert_eq!(barrier.wait(), Err(BarrierError::TimedOut));
        assert!(start.elapsed() >= SHORT);
    });
}

#[test]
fn test_single_thread() {
    let barrier = Barrier::new(1).unwrap();
    assert_eq!([barrier.wait(), barrier.wait()], [Ok(0); 2]);
}

#[test]
fn test_repr() {
    in_time(|| {
        let barrier = Barrier::new(3).unwrap();
        assert!(format!("{barrier:?}").contains("waiting: 0, parties: 3, broken: false"));
        while_waiting(&barrier, 2, || {
            assert!(format!("{barrier:?}").contains("waiting: 2, parties: 3"));
            barrier.abort();
        });
        assert!(format!("{barrier:?}").contains("broken: true"));
    });
}

/// Who runs the action has its panic, the others an error.
#[test]
fn an_action_that_panics_breaks_the_barrier() {
    in_time(|| {
        let barrier = Barrier::new(3)
            .unwrap()
            .with_action(|| std::panic::resume_unwind(Box::new(5)));
        let answers = while_waiting(&barrier, 2, || {
            let last = catch_unwind(AssertUnwindSafe(|| barrier.wait()));
            assert_eq!(last.unwrap_err().downcast_ref(), Some(&5));
        });
        assert_eq!(answers, [Err(BarrierError::Broken); 2]);
        assert!(barrier.is_broken());
    });
}

/// CPython waits without a time limit for those who leave: who comes with one can be late by any time.
#[test]
fn nobody_waits_for_those_who_leave() {
    in_time(|| {
        let (barrier, go, is_acting) = acting();
        thread::scope(|scope| {
            let first = [(); 2].map(|()| scope.spawn(|| barrier.wait()));
            is_acting.wait().unwrap();
            // The others are still about to leave.
            assert_eq!(barrier.wait_for(SHORT), Err(BarrierError::TimedOut));
            go.set();
            for thread in first {
                assert!(thread.join().unwrap().is_ok());
            }
        });
        assert!(barrier.is_broken());
    });
}

/// A barrier for two whose action says that it runs, and waits for a word.
fn acting() -> (Arc<Barrier>, Arc<Event>, Arc<Event>) {
    let (go, is_acting) = (Arc::new(Event::new()), Arc::new(Event::new()));
    let (theirs, signal) = (go.clone(), is_acting.clone());
    let barrier = Barrier::new(2).unwrap().with_action(move || {
        signal.set();
        theirs.wait().unwrap();
    });
    (Arc::new(barrier), go, is_acting)
}

/// Who is complete passes, however long the action takes.
#[test]
fn the_action_may_outlast_the_time() {
    in_time(|| {
        let (barrier, go, is_acting) = acting();
        thread::scope(|scope| {
            let threads = [(); 2].map(|()| scope.spawn(|| barrier.wait_for(SHORT)));
            is_acting.wait().unwrap();
            thread::sleep(3 * SHORT);
            go.set();
            let mut places = threads.map(|thread| thread.join().unwrap().unwrap());
            places.sort();
            assert_eq!(places, [0, 1]);
        });
        assert!(!barrier.is_broken());
    });
}

/// Who is at the door comes in when the action is over.
#[test]
fn the_next_round_begins_after_the_action() {
    in_time(|| {
        let (barrier, go, is_acting) = acting();
        thread::scope(|scope| {
            let first = [(); 2].map(|()| scope.spawn(|| barrier.wait()));
            is_acting.wait().unwrap();
            let second = [(); 2].map(|()| scope.spawn(|| barrier.wait()));
            thread::sleep(SHORT);
            assert_eq!(barrier.waiting(), 0);
            go.set();
            for thread in first.into_iter().chain(second) {
                assert!(thread.join().unwrap().is_ok());
            }
        });
    });
}

/// To abort or reset a barrier while its action runs refuses all, those at the door included.
#[test]
fn an_action_is_overtaken() {
    in_time(|| {
        for is_reset in [false, true] {
            let (barrier, go, is_acting) = acting();
            thread::scope(|scope| {
                let first = [(); 2].map(|()| scope.spawn(|| barrier.wait()));
                is_acting.wait().unwrap();
                let late = scope.spawn(|| barrier.wait());
                thread::sleep(SHORT);
                if is_reset {
                    barrier.reset()
                } else {
                    barrier.abort()
                }
                assert_eq!(late.join().unwrap(), Err(BarrierError::Broken));
                go.set();
                for thread in first {
                    assert_eq!(thread.join().unwrap(), Err(BarrierError::Broken));
                }
            });
            assert_eq!(barrier.is_broken(), !is_reset);
        }
    });
}

/// Who is at the door when an action panics is refused as well.
#[test]
fn nobody_passes_after_an_action_that_panics() {
    in_time(|| {
        let (go, is_acting) = (Arc::new(Event::new()), Arc::new(Event::new()));
        let (theirs, signal) = (go.clone(), is_acting.clone());
        let barrier = Barrier::new(2).unwrap().with_action(move || {
            signal.set();
            theirs.wait().unwrap();
            std::panic::resume_unwind(Box::new(5));
        });
        let wait = || catch_unwind(AssertUnwindSafe(|| barrier.wait())).unwrap_or(Ok(5));
        thread::scope(|scope| {
            let first = [(); 2].map(|()| scope.spawn(wait));
            is_acting.wait().unwrap();
            let second = [(); 2].map(|()| scope.spawn(wait));
            thread::sleep(SHORT);
            go.set();
            let first = first.map(|thread| thread.join().unwrap());
            assert!(first.contains(&Ok(5)) && first.contains(&Err(BarrierError::Broken)));
            for thread in second {
                assert_eq!(thread.join().unwrap(), Err(BarrierError::Broken));
            }
        });
    });
}
