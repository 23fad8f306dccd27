//! `finalize`: who drops, cancels, drains or closes, against the thread that finalizes.
//!
//! The thread is a thread of the model. If it sleeps on, somebody waits for ever, which loom reports: each model waits for
//! the thread's end, and sees it by the thread's hook, which goes then. What a core leads to is a cell of loom's, which
//! reports two threads that get at it without an order between them.

use std::sync::Arc;
use std::time::Duration;

use hapax::finalize::{BoxError, Deferred, DrainError, Finalize, Finalized, Finalizer, Refusal};
use hapax::model::pass_time;
use hapax_loom_tests::{Ledger, Life, model, quietly};
use loom::cell::UnsafeCell;
use loom::sync::{Condvar, Mutex};
use loom::thread::{self, ThreadId};

/// Longer than any model.
const LONG: Duration = Duration::from_secs(3600);

/// A number that a thread waits for.
#[derive(Default)]
struct Counter(Mutex<usize>, Condvar);

impl Counter {
    fn add(&self) {
        *self.0.lock().unwrap() += 1;
        self.1.notify_all();
    }

    fn get(&self) -> usize {
        *self.0.lock().unwrap()
    }

    fn wait_for(&self, number: usize) {
        let mut count = self.0.lock().unwrap();
        while *count < number {
            count = self.1.wait(count).unwrap();
        }
    }
}

/// What was finalized, in order. Nothing that loom sees, so that it orders nothing.
type Log = Arc<std::sync::Mutex<Vec<u32>>>;

struct Core {
    name: u32,
    log: Log,
    life: Life,
    data: UnsafeCell<u32>,
    done: Option<Arc<Counter>>,
}

// SAFETY: loom reports accesses that aren't in order.
unsafe impl Send for Core {}
// SAFETY: as above.
unsafe impl Sync for Core {}

impl Core {
    fn write(&self) {
        // SAFETY: loom reports concurrent accesses.
        self.data.with_mut(|data| unsafe { *data = self.name });
    }
}

struct Body;

impl Finalize for Body {
    type Core = Core;

    fn finalize(core: Core) -> Result<(), BoxError> {
        // SAFETY: loom reports concurrent accesses.
        let data = core.data.with(|data| unsafe { *data });
        assert_eq!(data, core.name, "what was written before isn't there");
        if let Some(done) = &core.done {
            done.add();
        }
        core.log.lock().unwrap().push(core.name);
        Ok(())
    }
}

/// Goes with the thread.
struct Hook {
    end: Arc<Counter>,
    made_by: ThreadId,
}

impl Drop for Hook {
    fn drop(&mut self) {
        let here = thread::current().id();
        assert_ne!(here, self.made_by, "the hook went elsewhere");
        self.end.add();
    }
}

struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// What a run of a model has.
struct Run {
    finalizer: Finalizer,
    end: Arc<Counter>,
    log: Log,
    ledger: Ledger,
}

impl Run {
    fn new() -> Self {
        let finalizer = Finalizer::new().unwrap();
        let end = Arc::new(Counter::default());
        let hook = Hook {
            end: end.clone(),
            made_by: thread::current().id(),
        };
        quietly(|| {
            finalizer.on_error(move |error| {
                let _hook = &hook;
                unreachable!("{error}")
            })
        });
        Self {
            finalizer,
            end,
            log: Log::default(),
            ledger: Ledger::new(),
        }
    }

    fn core(&self, name: u32) -> Core {
        Core {
            name,
            log: self.log.clone(),
            life: self.ledger.life(),
            data: UnsafeCell::new(0),
            done: None,
        }
    }

    /// A value whose data was written.
    fn value(&self, name: u32) -> Finalized<Body> {
        quietly(|| {
            let value = Finalized::new_in(&self.finalizer, Body, self.core(name));
            Finalized::core(&value).write();
            value
        })
    }

    fn log(&self) -> Vec<u32> {
        self.log.lock().unwrap().clone()
    }

    /// Waits for the end of the thread, the race being over. What was finalized.
    fn end(self) -> Vec<u32> {
        loom::skip_branch();
        let Self {
            finalizer,
            end,
            log,
            ledger,
        } = self;
        drop(finalizer);
        end.wait_for(1);
        assert_eq!(ledger.alive(), 0, "a core was leaked");
        let log = log.lock().unwrap();
        log.clone()
    }
}

/// A value dies, and its core is finalized, while somebody asks what is alive, and then how many are pending.
///
/// Would catch: a value that is neither, at its end or when its finalizer begins; a job that is freed while somebody looks
/// at it.
#[test]
fn last_drop_races_live() {
    model(3, || {
        let run = Run::new();
        let done = Arc::new(Counter::default());
        let mut value = run.value(1);
        Finalized::core_mut(&mut value).done = Some(done.clone());
        let dropper = thread::spawn(move || drop(value));
        let live = run.finalizer.live().len();
        let pending = run.finalizer.pending();
        // Asked for by a lock: who sees it pending no more sees it done.
        let done = done.get();
        assert!(live + pending + done >= 1, "it is nowhere");
        assert!(live <= 1 && pending <= 1);
        dropper.join().unwrap();
        assert!(run.finalizer.live().is_empty());
        assert_eq!(run.end(), [1]);
    });
}

/// The last value is dropped while the finalizer is shut down.
///
/// Would catch: a thread that ends before, or never; a shut-down that nobody answers, or too early.
#[test]
fn shutdown_races_last_drop() {
    model(2, || {
        let run = Run::new();
        let value = run.value(1);
        let dropper = thread::spawn(move || drop(value));
        let live = run.finalizer.shutdown().unwrap();
        assert!(live.len() <= 1);
        dropper.join().unwrap();
        assert_eq!(run.end(), [1]);
    });
}

/// A value is made while the finalizer is shut down.
///
/// Would catch: a value whose thread has ended; a refusal that keeps the core.
#[test]
fn shutdown_races_creation() {
    model(3, || {
        let run = Run::new();
        let (finalizer, core) = (run.finalizer.clone(), run.core(1));
        core.write();
        let maker = thread::spawn(
            move || match Finalized::try_new_in(&finalizer, Body, core) {
                Ok(value) => {
                    drop(value);
                    true
                }
                Err(refused) => {
                    assert_eq!(refused.why, Refusal::ShutDown);
                    assert_eq!(refused.value.1.name, 1);
                    false
                }
            },
        );
        assert!(run.finalizer.shutdown().unwrap().len() <= 1);
        let was_made = maker.join().unwrap();
        assert_eq!(run.end().len(), usize::from(was_made));
    });
}

/// A core is taken back while its neighbours in the register are finalized.
///
/// Would catch: neighbours that are led to what is gone; a core that is finalized all the same.
#[test]
fn cancel_races_finalizing_of_neighbours() {
    model(3, || {
        let run = Run::new();
        let [first, second, third] = [1, 2, 3].map(|name| run.value(name));
        let dropper = thread::spawn(move || drop((first, third)));
        let (_, core) = Finalized::cancel(second);
        assert_eq!(core.name, 2);
        core.life.touch();
        drop(core);
        dropper.join().unwrap();
        loom::skip_branch();
        assert!(run.finalizer.live().is_empty());
        assert_eq!(run.end(), [1, 3]);
    });
}

/// The last core is taken back when the finalizer is gone, or while it goes.
///
/// Would catch: a thread that sleeps on, because nobody tells it that there is nothing left.
#[test]
fn cancel_races_the_end() {
    model(3, || {
        let run = Run::new();
        let value = run.value(1);
        let (finalizer, end) = (run.finalizer, run.end);
        let closer = thread::spawn(move || drop(finalizer));
        let (_, core) = Finalized::cancel(value);
        core.life.touch();
        closer.join().unwrap();
        end.wait_for(1);
    });
}

/// One waits until nothing is pending; another one drops a value.
///
/// Would catch: an answer before what the caller has dropped is done; one that never comes.
#[test]
fn drain_races_drop() {
    model(2, || {
        let run = Run::new();
        let [mine, other] = [1, 2].map(|name| run.value(name));
        let dropper = thread::spawn(move || drop(other));
        drop(mine);
        run.finalizer.drain().unwrap();
        assert!(run.log().contains(&1), "it is still pending");
        dropper.join().unwrap();
        run.finalizer.drain().unwrap();
        assert_eq!(run.log().len(), 2, "it is still pending");
        assert_eq!(run.finalizer.pending(), 0);
        assert_eq!(run.end().len(), 2);
    });
}

/// Two wait until nothing is pending.
///
/// Would catch: one of them that isn't answered, or too early.
#[test]
fn drain_races_drain() {
    model(2, || {
        let run = Run::new();
        let value = run.value(1);
        let finalizer = run.finalizer.clone();
        let drainer = thread::spawn(move || finalizer.drain().unwrap());
        drop(value);
        run.finalizer.drain().unwrap();
        assert_eq!(run.log(), [1]);
        drainer.join().unwrap();
        assert_eq!(run.end(), [1]);
    });
}

/// One waits until nothing is pending while the finalizer is closed and its thread ends.
///
/// Would catch: a wait for a thread that has ended.
#[test]
fn drain_races_the_end() {
    model(3, || {
        let run = Run::new();
        let finalizer = run.finalizer.clone();
        let closer = thread::spawn(move || finalizer.shutdown().unwrap());
        run.finalizer.drain().unwrap();
        assert!(closer.join().unwrap().is_empty());
        assert!(run.end().is_empty());
    });
}

/// Two threads drop values while the thread falls asleep, or before it has begun.
///
/// Would catch: a job that nobody wakes the thread for; one that is lost on the way.
#[test]
fn two_drops_race_parking() {
    model(2, || {
        let run = Run::new();
        let done = Arc::new(Counter::default());
        let [first, second] = [1, 2].map(|name| {
            let mut value = run.value(name);
            Finalized::core_mut(&mut value).done = Some(done.clone());
            value
        });
        let dropper = thread::spawn(move || drop(first));
        drop(second);
        // Nobody nudges it.
        done.wait_for(2);
        dropper.join().unwrap();
        assert_eq!(run.end().len(), 2);
    });
}

/// The last `Finalizer` goes while the last value does.
///
/// Would catch: a core that is left behind; a thread that sleeps on; a worker that is touched when it is gone.
#[test]
fn last_finalizer_races_last_drop() {
    model(3, || {
        let run = Run::new();
        let value = run.value(1);
        let Run {
            finalizer,
            end,
            log,
            ledger,
        } = run;
        let dropper = thread::spawn(move || drop(value));
        drop(finalizer);
        dropper.join().unwrap();
        end.wait_for(1);
        assert_eq!(*log.lock().unwrap(), [1]);
        assert_eq!(ledger.alive(), 0);
    });
}

/// The last value is dropped when the finalizer is gone: then the thread ends, perhaps before the dropper has come back.
///
/// Would catch: a thread that sleeps on; a job or a worker that is touched when it is gone.
#[test]
fn last_drop_races_the_end() {
    model(3, || {
        let run = Run::new();
        let value = run.value(1);
        let Run {
            finalizer,
            end,
            log,
            ..
        } = run;
        drop(finalizer);
        drop(value);
        end.wait_for(1);
        assert_eq!(*log.lock().unwrap(), [1]);
    });
}

/// A hook is given while the thread ends.
///
/// Would catch: a hook that goes with the worker, which may go where a value is dropped.
#[test]
fn new_hook_races_the_end() {
    model(3, || {
        let finalizer = Finalizer::new().unwrap();
        let theirs = finalizer.clone();
        let giver = thread::spawn(move || {
            let end = Arc::new(Counter::default());
            let goes = end.clone();
            let hook = OnDrop(move || goes.add());
            theirs.on_error(move |_| {
                let _hook = &hook;
            });
            // It goes though the finalizer stays.
            end.wait_for(1);
        });
        assert!(finalizer.shutdown().unwrap().is_empty());
        giver.join().unwrap();
    });
}

/// One thread drops two values, another one a third.
///
/// Would catch: two that change places within what the thread takes at once, or between two such.
#[test]
fn drops_of_one_thread_keep_their_order() {
    model(2, || {
        let run = Run::new();
        let [first, second, other] = [1, 2, 3].map(|name| run.value(name));
        let dropper = thread::spawn(move || drop(other));
        drop(first);
        drop(second);
        dropper.join().unwrap();
        let mut log = run.end();
        log.retain(|name| *name != 3);
        assert_eq!(log, [1, 2]);
    });
}

/// A value is written until it is dropped.
///
/// Would catch: a finalizer that doesn't see it.
#[test]
fn writing_comes_before_finalizing() {
    model(3, || {
        let run = Run::new();
        let value = run.value(1);
        let dropper = thread::spawn(move || {
            Finalized::core(&value).write();
            drop(value);
        });
        dropper.join().unwrap();
        assert_eq!(run.end(), [1]);
    });
}

/// The time of one who waits is over while the thread answers.
///
/// Would catch: an answer that is lost, or that comes to the next one; a time-out without a reason.
#[test]
fn time_out_races_answer() {
    model(2, || {
        let run = Run::new();
        let value = run.value(1);
        let clock = thread::spawn(pass_time);
        drop(value);
        match run.finalizer.drain_for(LONG) {
            Ok(()) => assert_eq!(run.log(), [1]),
            Err(DrainError::TimedOut { pending, running }) => {
                assert!(pending <= 1);
                assert!(running.is_none_or(|running| running.type_name.ends_with("Body")));
            }
            Err(error) => unreachable!("{error}"),
        }
        clock.join().unwrap();
        run.finalizer.drain().unwrap();
        assert_eq!(run.log(), [1]);
        assert_eq!(run.end(), [1]);
    });
}

/// A finalizer drops another value of the same finalizer while somebody waits until nothing is pending.
///
/// Would catch: an answer before the first or between the two; a thread that waits for itself.
#[test]
fn drain_races_nested_drop() {
    model(3, || {
        let run = Run::new();
        let inner = run.value(1);
        let outer = quietly(|| Deferred::new_in(&run.finalizer, inner));
        drop(outer);
        run.finalizer.drain().unwrap();
        assert_eq!(run.log(), [1]);
        assert_eq!(run.end(), [1]);
    });
}
