//! `finalize`: finalizers on a thread of their own.
//!
//! The scenarios of python-safethread's `test_sharedmodule` come first, under their own names; then each guarantee of the
//! module, in its order; then the rest of the API.

mod common;

use std::any::Any;
use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::io;
use std::mem::{self, ManuallyDrop};
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::sync::{Arc, Mutex, Weak};
use std::thread::{self, Builder};
use std::time::{Duration, Instant};

use common::{Census, Counted, Rng, SeedOnFailure, panic_of, scaled, seed};
use hapax::finalize::{
    Bound, BoxError, Deferred, DrainError, Finalize, FinalizeError, Finalized, Finalizer, Live,
    Refusal, Refused, Running, bind,
};
use hapax::{Interned, Interner, WeakMap};

const SHORT: Duration = Duration::from_millis(50);
const LONG: Duration = Duration::from_secs(60);

/// What is done with a core.
type Job = Box<dyn FnOnce() -> Result<(), BoxError> + Send + Sync>;

/// A body that is compared by its number, with a core that does what a test wants.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Body(u32);

impl Finalize for Body {
    type Core = Job;

    fn finalize(job: Job) -> Result<(), BoxError> {
        job()
    }
}

/// A body whose destructor does what a test wants.
struct Loud(Box<dyn Fn() + Send + Sync>);

impl Drop for Loud {
    fn drop(&mut self) {
        (self.0)();
    }
}

impl Finalize for Loud {
    type Core = Job;

    fn finalize(job: Job) -> Result<(), BoxError> {
        job()
    }
}

fn job(f: impl FnOnce() + Send + Sync + 'static) -> Job {
    Box::new(|| {
        f();
        Ok(())
    })
}

fn value(
    finalizer: &Finalizer,
    number: u32,
    f: impl FnOnce() + Send + Sync + 'static,
) -> Finalized<Body> {
    Finalized::new_in(finalizer, Body(number), job(f))
}

fn new() -> Finalizer {
    Finalizer::new().unwrap()
}

/// Numbers in the order in which they came.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u32>>>);

impl Log {
    fn push(&self, number: u32) {
        self.0.lock().unwrap().push(number);
    }

    fn take(&self) -> Vec<u32> {
        mem::take(&mut self.0.lock().unwrap())
    }

    /// A value whose finalizer notes its number.
    fn value(&self, finalizer: &Finalizer, number: u32) -> Finalized<Body> {
        let log = self.clone();
        value(finalizer, number, move || log.push(number))
    }
}

/// Keeps the thread busy until what this returns is dropped.
#[must_use]
fn hold(finalizer: &Finalizer) -> Sender<()> {
    let (release, released) = mpsc::channel();
    let (begin, begun) = mpsc::channel();
    let released = Mutex::new(released);
    drop(value(finalizer, 0, move || {
        begin.send(()).unwrap();
        // Nobody sends anything.
        let _ = released.lock().unwrap().recv();
    }));
    begun.recv().unwrap();
    release
}

/// Is told the messages of errors, and is disconnected when the thread ends.
fn errors(finalizer: &Finalizer) -> Receiver<String> {
    let (send, errors) = mpsc::channel();
    finalizer.on_error(move |error| send.send(error.to_string()).unwrap());
    errors
}

/// Waits for the end of the thread, without an error.
fn wait_for_end(errors: &Receiver<String>) {
    assert_eq!(
        errors.recv_timeout(LONG),
        Err(RecvTimeoutError::Disconnected)
    );
}

/// A payload of a panic that panics when it is dropped.
struct Bomb(Sender<()>);

impl Drop for Bomb {
    fn drop(&mut self) {
        self.0.send(()).unwrap();
        panic!("the payload has panicked");
    }
}

fn hash(value: &impl Hash) -> u64 {
    let mut state = DefaultHasher::new();
    value.hash(&mut state);
    state.finish()
}

// python-safethread, test_sharedmodule.

/// The finalizer runs when the object is gone, on another thread.
#[test]
fn test_finalize() {
    let (finalizer, (send, receive)) = (new(), mpsc::channel());
    let core = job(move || send.send(thread::current().id()).unwrap());
    drop(Finalized::new_in(&finalizer, Body(1), core));
    finalizer.drain().unwrap();
    assert_ne!(receive.try_recv().unwrap(), thread::current().id());
    // The core is gone, so it was no more than this once.
    assert_eq!(receive.try_recv(), Err(TryRecvError::Disconnected));
}

/// A finalizer that is called by hand runs then, and not again.
#[test]
fn test_finalize_manual() {
    let (finalizer, log) = (new(), Log::default());
    let first = log.value(&finalizer, 1);
    let busy = hold(&finalizer);
    Finalized::close(first).unwrap();
    assert_eq!(log.take(), [1]);
    drop(busy);
    finalizer.drain().unwrap();
    assert_eq!(log.take(), []);
    assert_eq!((finalizer.pending(), finalizer.live()), (0, vec![]));
}

/// What a deathqueue was told to watch is cancelled, with what came with it.
#[test]
fn test_deathqueue_cancel() {
    let (finalizer, log) = (new(), Log::default());
    let (Body(number), core) = Finalized::cancel(log.value(&finalizer, 1));
    finalizer.drain().unwrap();
    assert_eq!((number, log.take()), (1, vec![]));
    assert!(finalizer.live().is_empty());
    core().unwrap();
    assert_eq!(log.take(), [1]);
}

/// A value lives exactly as long as its key, and is cleared with it.
#[test]
fn test_bind() {
    let (names, census) = (Interner::<str>::new(), Census::new());
    let key = names.intern("alpha");
    let bound = bind(&key, Counted::new(5, &census));
    let other = key.clone();
    drop(key);
    assert_eq!(bound.get().unwrap().key, 5);
    assert_eq!(census.live(), 1);
    drop(other);
    assert!(bound.get().is_none());
    assert_eq!((census.made(), census.died()), (1, 1));
    // A next key of the same content has nothing of it.
    let _key = names.intern("alpha");
    assert!(bound.get().is_none());
}

/// The same with an entry of a map: also one that was removed is its key until its last handle goes.
#[test]
fn test_bind_to_an_entry_of_a_map() {
    let (map, census) = (WeakMap::new(), Census::new());
    let key = map.get_or_insert("alpha", 1);
    let bound = bind(&key, Counted::new(5, &census));
    drop(map.remove("alpha"));
    assert!(bound.get().is_some());
    let next = map.get_or_insert("alpha", 2);
    drop(key);
    assert!(bound.get().is_none());
    assert_eq!(census.live(), 0);
    let bound = bind(&next, 5);
    drop(map);
    assert_eq!(bound.get().as_deref(), Some(&5));
    drop(next);
    assert!(bound.get().is_none());
}

/// Any number of values is bound to one key, of which each goes once.
#[test]
fn test_bind_many() {
    let (names, census) = (Interner::<str>::new(), Census::new());
    let count = scaled(1000, 20);
    for _ in 0..3 {
        let key = names.intern("alpha");
        let bound: Vec<_> = (0..count as u64)
            .map(|number| bind(&key, Counted::new(number, &census)))
            .collect();
        for (number, bound) in bound.iter().enumerate() {
            assert_eq!(bound.get().unwrap().key, number as u64);
        }
        assert_eq!(census.live(), count);
        drop(key);
        assert_eq!(census.live(), 0);
        assert!(bound.iter().all(|bound| bound.get().is_none()));
    }
    assert_eq!(names.len(), 0);
}

/// To drop a binding changes nothing, and who has got the value keeps that, and not the key.
#[test]
fn test_bind_handles_keep_nothing() {
    let (names, census) = (Interner::<str>::new(), Census::new());
    let key = names.intern("alpha");
    drop(bind(&key, Counted::new(1, &census)));
    assert_eq!(census.live(), 1);
    let bound = bind(&key, Counted::new(2, &census));
    let (clone, kept) = (bound.clone(), bound.get().unwrap());
    drop(bound);
    assert_eq!(Interned::ref_count(&key), 1);
    drop(key);
    assert_eq!(census.live(), 1);
    assert_eq!(kept.key, 2);
    drop(kept);
    assert!(clone.get().is_none());
    assert_eq!(census.live(), 0);
}

/// A value that leads back to its key, weakly; a key that is moved out; an interner that is gone before.
#[test]
fn test_bind_to_odd_keys() {
    let (numbers, census) = (Interner::<u32>::new(), Census::new());
    let key = numbers.intern(5);
    let weak = Interned::downgrade(&key);
    let bound = bind(&key, (weak.clone(), Counted::new(1, &census)));
    assert_eq!(bound.get().unwrap().0.upgrade().as_deref(), Some(&5));
    drop(key);
    assert!(weak.upgrade().is_none());
    assert_eq!(census.live(), 0);

    let key = numbers.intern(5);
    let bound = bind(&key, Counted::new(1, &census));
    assert_eq!(Interned::try_unwrap(key), Ok(5));
    assert!(bound.get().is_none());
    assert_eq!(census.live(), 0);

    let key = numbers.intern(5);
    let bound = bind(&key, Counted::new(1, &census));
    drop(numbers);
    assert!(bound.get().is_some());
    drop(key);
    assert!(bound.get().is_none());
    assert_eq!((census.made(), census.died()), (3, 3));
}

/// A value whose destructor panics leaves none of the others behind.
#[test]
fn test_bind_with_a_panic() {
    struct Panics;
    impl Drop for Panics {
        fn drop(&mut self) {
            panic!("of the value");
        }
    }
    let (names, census) = (Interner::<str>::new(), Census::new());
    let key = names.intern("alpha");
    let before = bind(&key, Counted::new(1, &census));
    let panics = bind(&key, Panics);
    let after = bind(&key, Counted::new(2, &census));
    assert_eq!(panic_of(|| drop(key)), "of the value");
    assert!(before.get().is_none() && panics.get().is_none() && after.get().is_none());
    assert_eq!((census.live(), names.len()), (0, 0));
}

/// What is deferred and bound is dropped on the finalizer's thread.
#[test]
fn test_bind_deferred() {
    let (names, finalizer, census) = (Interner::<str>::new(), new(), Census::new());
    let key = names.intern("alpha");
    let bound = bind(&key, Deferred::new_in(&finalizer, Counted::new(1, &census)));
    let busy = hold(&finalizer);
    drop(key);
    assert!(bound.get().is_none());
    assert_eq!(census.live(), 1);
    drop(busy);
    finalizer.drain().unwrap();
    assert_eq!(census.live(), 0);
}

// 1. Once, and the value is gone before.

/// Threads drop, close and cancel at random, and keep some: each core comes out once, by one of these ways.
#[test]
fn a_core_is_finalized_once_or_taken_back() {
    let seed = seed();
    let _seed = SeedOnFailure(seed);
    let (threads, count) = (4, scaled(3000, 20));
    let finalizer = new();
    let errors = errors(&finalizer);
    let ends: Arc<Vec<AtomicUsize>> = Arc::new((0..threads * count).map(|_| 0.into()).collect());
    let (queued, closed) = (Arc::new(AtomicUsize::new(0)), AtomicUsize::new(0));
    let (cancelled, dropped) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let kept = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for thread in 0..threads {
            let mut random = Rng(seed ^ thread as u64);
            let (finalizer, ends, queued) = (finalizer.clone(), ends.clone(), queued.clone());
            let (closed, cancelled, dropped, kept) = (&closed, &cancelled, &dropped, &kept);
            scope.spawn(move || {
                let maker = thread::current().id();
                let mut held: Vec<(usize, Finalized<Body>)> = Vec::new();
                for number in thread * count..(thread + 1) * count {
                    let (ends, queued) = (ends.clone(), queued.clone());
                    let new = value(&finalizer, number as u32, move || {
                        ends[number].fetch_add(1, SeqCst);
                        if thread::current().id() != maker {
                            queued.fetch_add(1, SeqCst);
                        }
                    });
                    held.push((number, new));
                    while held.len() > random.below(8) {
                        let (number, value) = held.swap_remove(random.below(held.len()));
                        assert_eq!(value.0, number as u32);
                        match random.below(4) {
                            0 => {
                                closed.fetch_add(1, SeqCst);
                                Finalized::close(value).unwrap();
                            }
                            1 => {
                                cancelled.fetch_add(1, SeqCst);
                                drop(Finalized::cancel(value));
                            }
                            2 => {
                                dropped.fetch_add(1, SeqCst);
                                drop(value);
                            }
                            _ => kept.lock().unwrap().push(value),
                        }
                    }
                }
                dropped.fetch_add(held.len(), SeqCst);
            });
        }
    });
    let kept = kept.into_inner().unwrap();
    let live = finalizer.shutdown().unwrap();
    assert_eq!(live.len(), kept.len());
    assert!(live.is_sorted_by_key(|live| live.since));
    assert_eq!(queued.load(SeqCst), dropped.load(SeqCst));
    let came = |ends: &[AtomicUsize]| ends.iter().map(|end| end.load(SeqCst)).sum::<usize>();
    let expected = dropped.load(SeqCst) + closed.load(SeqCst);
    assert_eq!(came(&ends), expected);
    assert!(
        kept.iter()
            .all(|value| ends[value.0 as usize].load(SeqCst) == 0)
    );
    let all = expected + cancelled.load(SeqCst) + kept.len();
    assert_eq!(all, threads * count);
    let rest = kept.len();
    drop((kept, finalizer));
    wait_for_end(&errors);
    assert_eq!(came(&ends), expected + rest);
    assert!(ends.iter().all(|end| end.load(SeqCst) <= 1));
}

/// Nothing leads to a value whose finalizer runs, and a next one of the same content is another.
#[test]
fn a_value_is_gone_before_its_finalizer_runs() {
    let finalizer = new();
    let bodies = Arc::new(Interner::new());
    let map = Arc::new(WeakMap::new());
    let (send, seen) = mpsc::channel();
    let core = {
        let (bodies, map) = (Arc::downgrade(&bodies), Arc::downgrade(&map));
        move |send: Sender<(usize, usize)>| {
            let bodies: Weak<Interner<Finalized<Body>>> = bodies.clone();
            let map: Weak<WeakMap<u32, Finalized<Body>>> = map.clone();
            move || {
                let (bodies, map) = (bodies.upgrade().unwrap(), map.upgrade().unwrap());
                assert!(bodies.get(&Body(1)).is_none() && map.get(&1).is_none());
                send.send((bodies.len(), map.len())).unwrap();
            }
        }
    };
    let value = |send: &Sender<_>| value(&finalizer, 1, core(send.clone()));
    let interned = bodies.intern(value(&send));
    let cached = map.get_or_insert_with(1, |_| value(&send));
    let shared = Arc::new(value(&send));
    let weak = (
        Interned::downgrade(&interned),
        hapax::Cached::downgrade(&cached),
        Arc::downgrade(&shared),
    );
    let busy = hold(&finalizer);
    drop((interned, cached, shared));
    assert!(weak.0.upgrade().is_none());
    assert!(weak.1.upgrade().is_none());
    assert!(weak.2.upgrade().is_none());
    assert_eq!((bodies.len(), map.len(), finalizer.pending()), (0, 0, 4));
    drop(busy);
    finalizer.drain().unwrap();
    drop(send);
    assert_eq!(seen.iter().collect::<Vec<_>>(), [(0, 0); 3]);
}

/// A value that is interned already comes to nothing, and so its core is finalized.
#[test]
fn the_core_of_a_duplicate_is_finalized() {
    let (finalizer, log, bodies) = (new(), Log::default(), Interner::new());
    let first = bodies.intern(log.value(&finalizer, 1));
    let second = bodies.intern(log.value(&finalizer, 1));
    assert!(Interned::ptr_eq(&first, &second));
    finalizer.drain().unwrap();
    assert_eq!(log.take(), [1]);
    drop((first, second));
    finalizer.drain().unwrap();
    assert_eq!(log.take(), [1]);
}

// 2. What a drop does.

/// The body's destructor runs where the value is dropped, the core's work on the finalizer's thread, after that.
#[test]
fn the_body_goes_here_and_the_core_there() {
    let finalizer = new();
    let (send, events) = mpsc::channel();
    let note = move |what: &'static str| {
        let send = send.clone();
        move || {
            let thread = thread::current();
            let name = thread.name().map(str::to_owned);
            send.send((what, thread.id(), name)).unwrap();
        }
    };
    let value = Finalized::new_in(&finalizer, Loud(Box::new(note("body"))), job(note("core")));
    drop(value);
    finalizer.drain().unwrap();
    let (what, body_thread, _) = events.try_recv().unwrap();
    assert_eq!((what, body_thread), ("body", thread::current().id()));
    let (what, core_thread, name) = events.try_recv().unwrap();
    assert_eq!((what, name.as_deref()), ("core", Some("hapax-finalizer")));
    assert_ne!(core_thread, body_thread);
}

/// A core is finalized though its body's destructor has panicked.
#[test]
fn a_body_whose_destructor_panics_leaves_its_core() {
    let (finalizer, log) = (new(), Log::default());
    let of_core = log.clone();
    let loud = Loud(Box::new(|| panic!("of the body")));
    let value = Finalized::new_in(&finalizer, loud, job(move || of_core.push(1)));
    assert_eq!(panic_of(|| drop(value)), "of the body");
    finalizer.drain().unwrap();
    assert_eq!(log.take(), [1]);
    assert!(finalizer.live().is_empty());
}

/// The same when it is closed: then the core is left to the thread, for `close` doesn't get there.
#[test]
fn close_with_a_body_whose_destructor_panics_leaves_its_core() {
    let finalizer = new();
    let (send, receive) = mpsc::channel();
    let loud = Loud(Box::new(|| panic!("of the body")));
    let core = job(move || send.send(thread::current().id()).unwrap());
    let value = Finalized::new_in(&finalizer, loud, core);
    assert_eq!(panic_of(|| Finalized::close(value)), "of the body");
    finalizer.drain().unwrap();
    assert_ne!(receive.recv().unwrap(), thread::current().id());
    assert!(receive.recv().is_err());
    assert!(finalizer.live().is_empty());
}

/// A value dies under a lock that its finalizer wants as well.
#[test]
fn a_value_is_dropped_under_the_lock_that_its_finalizer_wants() {
    let finalizer = new();
    let shared = Arc::new(Mutex::new(0));
    for round in 1..=scaled(100, 5) {
        let theirs = shared.clone();
        let value = value(&finalizer, 1, move || *theirs.lock().unwrap() += 1);
        let guard = shared.lock().unwrap();
        drop(value);
        // It waits for this one.
        assert_eq!(finalizer.pending(), 1);
        assert_eq!(*guard, round - 1);
        drop(guard);
        finalizer.drain().unwrap();
        assert_eq!(*shared.lock().unwrap(), round);
    }
}

/// Each of thousands makes the next one and drops it, on the finalizer's thread; who drains waits for all.
#[test]
fn a_chain_of_finalizers_is_drained() {
    fn link(finalizer: Finalizer, left: u32, log: Log) -> Finalized<Body> {
        let of_core = finalizer.clone();
        value(&finalizer, left, move || {
            log.push(left);
            if left > 0 {
                drop(link(of_core, left - 1, log));
            }
        })
    }
    let (finalizer, log) = (new(), Log::default());
    let length = scaled(5000, 50) as u32;
    drop(link(finalizer.clone(), length, log.clone()));
    finalizer.drain().unwrap();
    assert_eq!(log.take(), (0..=length).rev().collect::<Vec<_>>());
    assert_eq!((finalizer.pending(), finalizer.live()), (0, vec![]));
}

/// Values that have each other as cores: each is finalized by the end of the one before, without recursion.
#[test]
fn a_chain_of_cores_needs_no_stack() {
    let (finalizer, census) = (new(), Census::new());
    let mut chain: Box<dyn Any + Send> = Box::new(());
    let length = scaled(100_000, 50);
    for number in 0..length as u64 {
        let link = (Counted::new(number, &census), chain);
        chain = Box::new(Deferred::new_in(&finalizer, link));
    }
    drop(chain);
    finalizer.drain().unwrap();
    assert_eq!((census.made(), census.died()), (length, length));
}

/// Values that thread-locals have die with the thread, and destructors of thread-locals make some and wait for them.
#[test]
fn values_are_dropped_in_thread_local_destructors() {
    struct AtExit(Finalizer, Log);
    impl Drop for AtExit {
        fn drop(&mut self) {
            drop(self.1.value(&self.0, 2));
            self.0.drain().unwrap();
            self.1.push(3);
        }
    }
    thread_local! {
        static HELD: RefCell<Vec<Box<dyn Any>>> = const { RefCell::new(Vec::new()) };
    }
    let (finalizer, log) = (new(), Log::default());
    let (theirs, their_log) = (finalizer.clone(), log.clone());
    let thread = thread::spawn(move || {
        HELD.with_borrow_mut(|held| {
            held.push(Box::new(their_log.value(&theirs, 1)));
            held.push(Box::new(AtExit(theirs, their_log)));
        });
    });
    thread.join().unwrap();
    finalizer.drain().unwrap();
    assert_eq!(log.take(), [1, 2, 3]);
    // On the finalizer's own thread as well, which goes on until somebody takes it from there.
    let errors = errors(&finalizer);
    let (theirs, their_log) = (finalizer.clone(), log.clone());
    drop(value(&finalizer, 0, move || {
        HELD.with_borrow_mut(|held| held.push(Box::new(their_log.value(&theirs, 4))));
    }));
    let takes = value(&finalizer, 0, || HELD.with_borrow_mut(Vec::clear));
    // Otherwise the value might come too late, and be refused.
    finalizer.drain().unwrap();
    assert_eq!(finalizer.shutdown().unwrap().len(), 2);
    assert_eq!(log.take(), []);
    drop(takes);
    wait_for_end(&errors);
    assert_eq!(log.take(), [4]);
}

// 3. The order.

/// Of one thread's values those that die first are finalized first, however they were made.
#[test]
fn cores_are_finalized_in_the_order_of_the_deaths() {
    let (finalizer, log) = (new(), Log::default());
    let mut random = Rng(seed());
    let _seed = SeedOnFailure(random.0);
    for _ in 0..3 {
        let mut values: Vec<_> = (0..scaled(1000, 20) as u32)
            .map(|number| log.value(&finalizer, number))
            .collect();
        let mut order = Vec::new();
        while !values.is_empty() {
            let value = values.swap_remove(random.below(values.len()));
            order.push(value.0);
            drop(value);
        }
        finalizer.drain().unwrap();
        assert_eq!(log.take(), order);
    }
}

/// Among several threads, each one's values keep their order.
#[test]
fn each_threads_cores_keep_their_order() {
    let (finalizer, log) = (new(), Log::default());
    let count = scaled(2000, 20) as u32;
    thread::scope(|scope| {
        for thread in 0..4 {
            let (finalizer, log) = (&finalizer, &log);
            scope.spawn(move || {
                (0..count).for_each(|number| drop(log.value(finalizer, thread * count + number)));
            });
        }
    });
    finalizer.drain().unwrap();
    let all = log.take();
    assert_eq!(all.len(), 4 * count as usize);
    for thread in 0..4 {
        let of_thread: Vec<_> = all
            .iter()
            .filter(|number| *number / count == thread)
            .collect();
        assert!(of_thread.is_sorted());
        assert_eq!(of_thread.len(), count as usize);
    }
}

/// A death that is seen by another thread comes before what dies there afterwards.
#[test]
fn deaths_that_are_ordered_across_threads_keep_their_order() {
    let (finalizer, log) = (new(), Log::default());
    let rounds = scaled(500, 10) as u32;
    let (send, receive) = mpsc::channel();
    let (back, answer) = mpsc::channel();
    thread::scope(|scope| {
        let (theirs, their_log) = (&finalizer, &log);
        scope.spawn(move || {
            for number in receive {
                drop(their_log.value(theirs, number));
                back.send(()).unwrap();
            }
        });
        for round in 0..rounds {
            drop(log.value(&finalizer, 2 * round));
            send.send(2 * round + 1).unwrap();
            answer.recv().unwrap();
        }
        drop(send);
    });
    finalizer.drain().unwrap();
    assert_eq!(log.take(), (0..2 * rounds).collect::<Vec<_>>());
}

// 4. Errors and panics.

/// The hook is told that a finalizer has failed, and with what.
#[test]
fn a_finalizer_that_fails_is_reported_and_the_next_one_runs() {
    let (finalizer, log) = (new(), Log::default());
    let (send, errors) = mpsc::channel();
    finalizer.on_error(move |error| send.send(error).unwrap());
    let fails: Job = Box::new(|| Err(io::Error::other("the disk is full").into()));
    drop(Finalized::new_in(&finalizer, Body(1), fails));
    drop(log.value(&finalizer, 2));
    finalizer.drain().unwrap();
    assert_eq!(log.take(), [2]);
    let error = errors.try_recv().unwrap();
    let message = error.to_string();
    assert!(message.starts_with("the finalizer of ") && message.contains("::Body has failed"));
    assert!(std::error::Error::source(&error).unwrap().is::<io::Error>());
    let FinalizeError::Failed { type_name, error } = error else {
        panic!("{error}");
    };
    assert_eq!(type_name, std::any::type_name::<Body>());
    assert_eq!(error.to_string(), "the disk is full");
    assert!(errors.try_recv().is_err());
}

/// The hook is told that a finalizer has panicked, and with what.
#[test]
fn a_finalizer_that_panics_is_reported_and_the_next_one_runs() {
    struct Panics;
    impl Drop for Panics {
        fn drop(&mut self) {
            panic_any(6);
        }
    }
    let (finalizer, log) = (new(), Log::default());
    let (send, errors) = mpsc::channel();
    finalizer.on_error(move |error| send.send(error).unwrap());
    drop(value(&finalizer, 1, || panic_any(5)));
    drop(Deferred::new_in(&finalizer, Panics));
    drop(log.value(&finalizer, 2));
    assert_eq!(finalizer.drain_for(LONG), Ok(()));
    assert_eq!(log.take(), [2]);
    for (name, number) in [
        (std::any::type_name::<Body>(), 5),
        (std::any::type_name::<Panics>(), 6),
    ] {
        match errors.try_recv().unwrap() {
            FinalizeError::Panicked { type_name, panic } => {
                assert_eq!(type_name, name);
                assert_eq!(panic.into_payload().downcast_ref(), Some(&number));
            }
            error => panic!("{error}"),
        }
    }
    assert_eq!((finalizer.pending(), finalizer.live()), (0, vec![]));
}

/// Neither a hook that panics nor a payload whose destructor does stops what comes next.
#[test]
fn a_hook_that_panics_does_no_harm() {
    let (finalizer, log) = (new(), Log::default());
    let calls = Arc::new(AtomicUsize::new(0));
    let theirs = calls.clone();
    finalizer.on_error(move |error| {
        theirs.fetch_add(1, SeqCst);
        drop(error);
        panic!("of the hook");
    });
    let (send, dropped) = mpsc::channel();
    drop(value(&finalizer, 1, || panic!("of the finalizer")));
    drop(value(&finalizer, 2, {
        let send = send.clone();
        move || panic_any(Bomb(send))
    }));
    drop(log.value(&finalizer, 3));
    finalizer.drain().unwrap();
    assert_eq!((calls.load(SeqCst), log.take()), (2, vec![3]));
    assert!(dropped.try_recv().is_ok());
    // A hook whose own panic is such a payload.
    finalizer.on_error(move |_| panic_any(Bomb(send.clone())));
    drop(value(&finalizer, 4, || panic!("of the finalizer")));
    drop(log.value(&finalizer, 5));
    finalizer.drain().unwrap();
    assert_eq!(log.take(), [5]);
    assert!(dropped.try_recv().is_ok());
}

/// A hook may make values, drop them and replace itself; and it may not wait.
#[test]
fn a_hook_is_user_code_like_any_other() {
    let (finalizer, log) = (new(), Log::default());
    let (theirs, their_log) = (finalizer.clone(), log.clone());
    finalizer.on_error(move |_| {
        assert_eq!(theirs.drain(), Err(DrainError::WouldDeadlock));
        drop(their_log.value(&theirs, 2));
        let log = their_log.clone();
        theirs.on_error(move |_| log.push(4));
        their_log.push(1);
    });
    drop(value(&finalizer, 0, || panic!("the first")));
    finalizer.drain().unwrap();
    drop(log.value(&finalizer, 3));
    drop(value(&finalizer, 0, || panic!("the second")));
    finalizer.drain().unwrap();
    assert_eq!(log.take(), [1, 2, 3, 4]);
}

/// A hook whose destructor panics goes with the thread, or goes at once when the thread has ended.
#[test]
fn a_hook_goes_with_the_thread() {
    let (finalizer, log) = (new(), Log::default());
    let (send, dropped) = mpsc::channel();
    let bomb = Bomb(send);
    finalizer.on_error(move |_| {
        let _bomb = &bomb;
    });
    assert_eq!(finalizer.shutdown(), Ok(vec![]));
    dropped.recv_timeout(LONG).unwrap();
    assert!(dropped.recv_timeout(LONG).is_err());
    let (send, dropped) = mpsc::channel::<()>();
    finalizer.on_error(move |_| send.send(()).unwrap());
    assert_eq!(dropped.try_recv(), Err(TryRecvError::Disconnected));
    assert_eq!(finalizer.drain(), Ok(()));
    assert_eq!(log.take(), []);
}

// 5. Draining, shutting down, the end.

/// A wait that is over before names the finalizer that runs, and what is pending goes on.
#[test]
fn drain_with_a_deadline_names_what_runs() {
    let (finalizer, log) = (new(), Log::default());
    let before = Instant::now();
    let busy = hold(&finalizer);
    drop(log.value(&finalizer, 1));
    let check = |answer| {
        let Err(DrainError::TimedOut { pending, running }) = answer else {
            panic!("{answer:?}");
        };
        let Running {
            type_name, since, ..
        } = running.unwrap();
        assert_eq!((pending, type_name), (2, std::any::type_name::<Body>()));
        assert!(since >= before && since <= Instant::now());
        let message = answer.unwrap_err().to_string();
        assert!(message.starts_with("2 values weren't finalized before the time was over; "));
        assert!(message.contains("::Body has run for "));
    };
    check(finalizer.drain_for(SHORT));
    check(finalizer.drain_for(Duration::ZERO));
    check(finalizer.drain_until(before));
    check(finalizer.shutdown_for(SHORT).map(drop));
    check(finalizer.shutdown_until(before).map(drop));
    assert_eq!(log.take(), []);
    drop(busy);
    // As long as it takes.
    assert_eq!(finalizer.drain_for(Duration::MAX), Ok(()));
    assert_eq!(log.take(), [1]);
    assert_eq!(finalizer.pending(), 0);
}

/// What has died before a drain is done after it, whoever drops meanwhile; several wait at once.
#[test]
fn drain_waits_for_what_has_died() {
    let (finalizer, log) = (new(), Log::default());
    let rounds = scaled(500, 10) as u32;
    thread::scope(|scope| {
        for thread in 0..3 {
            let (finalizer, log) = (&finalizer, &log);
            scope.spawn(move || {
                for round in 0..rounds {
                    let number = thread * rounds + round;
                    drop(log.value(finalizer, number));
                    finalizer.drain().unwrap();
                    assert!(log.0.lock().unwrap().contains(&number));
                }
            });
        }
    });
    assert_eq!(log.take().len(), 3 * rounds as usize);
}

/// A finalizer may wait for another one, not for its own, which goes on nevertheless.
#[test]
fn a_finalizer_may_not_wait_for_itself() {
    let (finalizer, other) = (new(), new());
    let (send, answers) = mpsc::channel();
    let (mine, others) = (finalizer.clone(), other.clone());
    let log = Log::default();
    let their_log = log.clone();
    drop(value(&finalizer, 1, move || {
        drop(their_log.value(&others, 1));
        others.drain().unwrap();
        their_log.push(2);
        send.send(mine.drain()).unwrap();
        send.send(mine.drain_for(LONG)).unwrap();
        send.send(mine.drain_until(Instant::now() + LONG)).unwrap();
        send.send(mine.shutdown().map(drop)).unwrap();
        send.send(mine.shutdown_for(LONG).map(drop)).unwrap();
    }));
    let answers: Vec<_> = answers.iter().collect();
    assert_eq!(answers, [Err(DrainError::WouldDeadlock); 5]);
    assert_eq!(log.take(), [1, 2]);
    assert_eq!(finalizer.drain(), Ok(()));
    // It was closed all the same.
    let refused = Deferred::try_new_in(&finalizer, 1).unwrap_err();
    assert_eq!((refused.why, refused.value), (Refusal::ShutDown, 1));
}

/// A finalizer that is shut down takes nothing, says what is alive, and finalizes that when it dies.
#[test]
fn shutdown_lists_what_is_alive_the_oldest_first() {
    let (finalizer, log) = (new(), Log::default());
    let errors = errors(&finalizer);
    let clone = finalizer.clone();
    let first = log.value(&finalizer, 1);
    let dead = log.value(&finalizer, 2);
    let second = Deferred::new_in(&finalizer, vec![1]);
    let cancelled = log.value(&finalizer, 3);
    let third = Deferred::new_in(&finalizer, "third");
    drop(dead);
    drop(Finalized::cancel(cancelled));
    let live = finalizer.shutdown().unwrap();
    let names: Vec<_> = live.iter().map(|live: &Live| live.type_name).collect();
    let body = std::any::type_name::<Body>();
    assert_eq!(names, [body, "alloc::vec::Vec<i32>", "&str"]);
    assert!(live.is_sorted_by_key(|live| live.since));
    assert_eq!(log.take(), [2]);
    // Of all clones.
    let refused = Finalized::try_new_in(&clone, Body(5), job(|| {})).unwrap_err();
    assert_eq!((refused.why, refused.value.0), (Refusal::ShutDown, Body(5)));
    assert!(panic_of(|| log.value(&clone, 5)).contains("was shut down"));
    assert!(panic_of(|| Deferred::new_in(&clone, 5)).contains("was shut down"));
    // What dies later, in any order.
    drop(second);
    drop(first);
    assert_eq!(finalizer.drain(), Ok(()));
    assert_eq!(log.take(), [1]);
    assert_eq!(finalizer.live().len(), 1);
    assert_eq!(clone.shutdown().unwrap().len(), 1);
    assert!(
        errors.try_recv() == Err(TryRecvError::Empty),
        "it has ended before"
    );
    drop(third);
    wait_for_end(&errors);
    assert_eq!(finalizer.drain(), Ok(()));
    assert_eq!(finalizer.shutdown(), Ok(vec![]));
}

/// The thread ends when its finalizer was shut down and the last core is taken back, or closed.
#[test]
fn the_thread_ends_with_the_last_core_whatever_becomes_of_that() {
    for way in 0..3 {
        let (finalizer, log) = (new(), Log::default());
        let errors = errors(&finalizer);
        let value = log.value(&finalizer, way);
        drop(finalizer);
        assert_eq!(errors.try_recv(), Err(TryRecvError::Empty));
        match way {
            0 => drop(value),
            1 => drop(Finalized::cancel(value)),
            _ => Finalized::close(value).unwrap(),
        }
        wait_for_end(&errors);
        assert_eq!(log.take().len(), usize::from(way != 1));
    }
}

/// Values outlive the last `Finalizer`, and are finalized all the same, on the same thread.
#[test]
fn values_outlive_their_finalizer() {
    let (finalizer, log) = (new(), Log::default());
    let errors = errors(&finalizer);
    let values: Vec<_> = (0..10)
        .map(|number| log.value(&finalizer, number))
        .collect();
    let clone = finalizer.clone();
    drop(finalizer);
    assert!(Deferred::try_new_in(&clone, 5).is_ok());
    drop(clone);
    drop(values);
    wait_for_end(&errors);
    assert_eq!(log.take(), (0..10).collect::<Vec<_>>());
}

/// The last `Finalizer` goes on its own thread, with a core.
#[test]
fn a_core_has_the_last_finalizer() {
    let (finalizer, log) = (new(), Log::default());
    let errors = errors(&finalizer);
    let own = finalizer.clone();
    let their_log = log.clone();
    let value = value(&finalizer, 1, move || {
        drop(their_log.value(&own, 2));
        drop(own);
        their_log.push(1);
    });
    drop(finalizer);
    drop(value);
    wait_for_end(&errors);
    assert_eq!(log.take(), [1, 2]);
}

/// What nobody drops is alive, and its thread waits for it.
#[test]
fn what_is_leaked_is_alive() {
    let (finalizer, log) = (new(), Log::default());
    let errors = errors(&finalizer);
    let mut leaked = ManuallyDrop::new(log.value(&finalizer, 1));
    let live = finalizer.shutdown().unwrap();
    assert_eq!(live[0].type_name, std::any::type_name::<Body>());
    assert!(live[0].age() <= live[0].since.elapsed());
    drop(finalizer);
    assert_eq!(errors.try_recv(), Err(TryRecvError::Empty));
    // SAFETY: it isn't used any more.
    unsafe { ManuallyDrop::drop(&mut leaked) };
    wait_for_end(&errors);
    assert_eq!(log.take(), [1]);
}

/// Who asks what is alive, and then what is pending, misses nothing, whoever drops meanwhile.
#[test]
fn a_value_is_alive_or_pending_until_it_is_finalized() {
    let finalizer = new();
    for _ in 0..scaled(20, 2) {
        // Not an atomic: who sees less pending must see more done.
        let done = Arc::new(Mutex::new(0));
        let count = scaled(400, 10);
        let values: Vec<Vec<_>> = (0..2)
            .map(|_| {
                (0..count / 2)
                    .map(|_| {
                        let done = done.clone();
                        value(&finalizer, 0, move || *done.lock().unwrap() += 1)
                    })
                    .collect()
            })
            .collect();
        thread::scope(|scope| {
            values.into_iter().for_each(|values| {
                scope.spawn(move || drop(values));
            });
            loop {
                let live = finalizer.live().len();
                let pending = finalizer.pending();
                let done = *done.lock().unwrap();
                assert!(live + pending + done >= count, "{live} {pending} {done}");
                assert!(live <= count && pending <= count);
                if done == count {
                    break;
                }
            }
        });
        assert!(finalizer.live().is_empty());
    }
}

// Bounds.

/// Values are refused while too many are pending; to drop one never is.
#[test]
fn a_bounded_finalizer_refuses_values_and_no_drop() {
    let finalizer = Finalizer::bounded(3).unwrap();
    let log = Log::default();
    let many: Vec<_> = (1..=10)
        .map(|number| log.value(&finalizer, number))
        .collect();
    let busy = hold(&finalizer);
    let mut many = many.into_iter();
    drop(many.next());
    let next = log.value(&finalizer, 11);
    drop(many.next());
    assert_eq!(finalizer.pending(), 3);
    let core = job(|| {});
    let refused = Finalized::try_new_in(&finalizer, Body(12), core).unwrap_err();
    let message = refused.to_string();
    assert!(message.contains("takes no further value"));
    assert!(std::error::Error::source(&refused).unwrap().is::<Refusal>());
    let Refused {
        why,
        value: (body, core),
        ..
    } = refused;
    assert_eq!((why, body), (Refusal::QueueFull { bound: 3 }, Body(12)));
    core().unwrap();
    let refused = Deferred::try_new_in(&finalizer, String::from("x")).unwrap_err();
    assert_eq!(refused.why, Refusal::QueueFull { bound: 3 });
    assert_eq!(refused.value, "x");
    assert!(
        panic_of(|| log.value(&finalizer, 12)).contains("no further value: 3 values or more wait")
    );
    assert!(
        panic_of(|| Deferred::new_in(&finalizer, 12))
            .contains("no further value: 3 values or more wait")
    );
    drop((many, next));
    assert_eq!(finalizer.pending(), 12);
    drop(busy);
    finalizer.drain().unwrap();
    assert_eq!(log.take(), (1..=11).collect::<Vec<_>>());
    assert!(Deferred::try_new_in(&finalizer, 5).is_ok());
}

/// What was refused leaves nothing behind.
#[test]
fn a_refusal_drops_nothing_and_keeps_nothing() {
    let census = Census::new();
    let finalizer = Finalizer::bounded(0).unwrap();
    let errors = errors(&finalizer);
    let refused = Deferred::try_new_in(&finalizer, Counted::new(1, &census)).unwrap_err();
    let counted = refused.value;
    let full = Refusal::QueueFull { bound: 0 };
    assert_eq!((refused.why, census.live()), (full, 1));
    counted.assert_alive();
    drop(counted);
    assert_eq!(census.live(), 0);
    assert!(finalizer.live().is_empty());
    drop(finalizer);
    wait_for_end(&errors);
}

// The rest of the API.

/// The finalizer of the process is one, and serves what names no other.
#[test]
fn all_have_one_global_finalizer() {
    let log = Log::default();
    let of_core = log.clone();
    let value = Finalized::new(Body(1), job(move || of_core.push(1)));
    let deferred = Deferred::new(String::from("a"));
    let live = Finalizer::global().live();
    let names: Vec<_> = live.iter().map(|live| live.type_name).collect();
    assert_eq!(
        names,
        [std::any::type_name::<Body>(), "alloc::string::String"]
    );
    drop((deferred, value));
    Finalizer::global().clone().drain().unwrap();
    assert_eq!(log.take(), [1]);
    assert!(Finalizer::global().live().is_empty());
}

/// A thread of another name and stack; one of a name that there can't be.
#[test]
fn a_thread_is_built_as_one_likes() {
    let builder = Builder::new()
        .name(String::from("closing"))
        .stack_size(1 << 20);
    let finalizer = Finalizer::bounded_with(builder, usize::MAX).unwrap();
    let (send, name) = mpsc::channel();
    drop(value(&finalizer, 1, move || {
        send.send(thread::current().name().map(str::to_owned))
            .unwrap();
    }));
    assert_eq!(name.recv().unwrap().as_deref(), Some("closing"));
    assert!(format!("{finalizer:?}").starts_with("Finalizer { pending: "));
    let builder = Builder::new().name(String::from("a\0b"));
    let message = panic_of(|| Finalizer::bounded_with(builder, 5));
    assert!(message.contains("null"), "{message}");
}

/// What is deferred is found by what it is, in interners and maps, and is compared by content.
#[test]
fn deferred_values_are_found_by_content() {
    let (finalizer, census) = (new(), Census::new());
    let texts: Interner<Deferred<Vec<u32>>> = Interner::new();
    let text = texts.intern(Deferred::new_in(&finalizer, vec![1, 2]));
    let same = texts.intern(Deferred::new_in(&finalizer, vec![1, 2]));
    assert!(Interned::ptr_eq(&text, &same));
    assert!(Interned::ptr_eq(&text, &texts.get(&vec![1, 2]).unwrap()));
    assert!(texts.get(&vec![1]).is_none());
    drop((text, same));
    assert_eq!(texts.len(), 0);

    let map: WeakMap<Vec<u32>, Deferred<Counted>> = WeakMap::new();
    let make = |_: &Vec<u32>| Deferred::new_in(&finalizer, Counted::new(5, &census));
    let entry = map.get_or_insert_with(vec![1], make);
    assert_eq!(map.get(&vec![1]).unwrap().key, 5);
    let busy = hold(&finalizer);
    drop(entry);
    assert!(map.get(&vec![1]).is_none());
    let next = map.get_or_insert_with(vec![1], make);
    assert_eq!((census.made(), census.live()), (2, 2));
    drop(busy);
    finalizer.drain().unwrap();
    assert_eq!(census.live(), 1);
    next.assert_alive();
}

/// Equality, order, hash and text are those of the content.
#[test]
fn values_are_compared_by_content() {
    let finalizer = new();
    let [small, same, large] = [1, 1, 2].map(|number| value(&finalizer, number, || {}));
    assert!(small == same && small != large && small < large);
    assert_eq!(small.cmp(&large), Ordering::Less);
    assert_eq!(hash(&small), hash(&Body(1)));
    assert_eq!(format!("{small:?}"), "Body(1)");
    assert_eq!(small.as_ref(), &Body(1));
    let deferred = |text: &str| Deferred::new_in(&finalizer, String::from(text));
    let [small, same, large] = ["a", "a", "b"].map(deferred);
    assert!(small == same && small != large && small < large);
    assert_eq!(small.cmp(&large), Ordering::Less);
    assert_eq!(hash(&small), hash(&"a"));
    assert_eq!(
        (format!("{small:?}"), small.to_string()),
        (String::from("\"a\""), String::from("a"))
    );
    assert_eq!(small.as_ref(), "a");
    let mut map = HashMap::new();
    map.insert(small, 1);
    assert_eq!(map.get(&String::from("a")), Some(&1));
}

/// Body and core are changed by who has the value alone; what comes last is finalized.
#[test]
fn a_value_is_changed_until_it_dies() {
    let (finalizer, log) = (new(), Log::default());
    let mut value = log.value(&finalizer, 1);
    value.0 = 2;
    let of_core = log.clone();
    *Finalized::core_mut(&mut value) = job(move || of_core.push(3));
    assert_eq!(*value, Body(2));
    drop(value);
    let mut numbers = Deferred::new_in(&finalizer, vec![1]);
    numbers.push(2);
    assert_eq!(Deferred::into_inner(numbers), [1, 2]);
    finalizer.drain().unwrap();
    assert_eq!(log.take(), [3]);
}

/// What `close` answers is the finalizer's answer, and its panic is the caller's.
#[test]
fn close_passes_everything_on() {
    let finalizer = new();
    let errors = errors(&finalizer);
    let fails: Job = Box::new(|| Err("it fails".into()));
    let value = Finalized::new_in(&finalizer, Body(1), fails);
    let error = Finalized::close(value).unwrap_err();
    assert_eq!(error.to_string(), "it fails");
    let panics = self::value(&finalizer, 2, || panic!("it panics"));
    assert_eq!(panic_of(|| Finalized::close(panics)), "it panics");
    assert!(finalizer.live().is_empty());
    drop(finalizer);
    // The hook was told nothing.
    wait_for_end(&errors);
}

/// Without the time being up, a panicking thread drops its values as any other one.
#[test]
fn values_are_dropped_while_a_thread_panics() {
    let (finalizer, log) = (new(), Log::default());
    let value = log.value(&finalizer, 1);
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        let _value = value;
        panic!("on the way");
    }));
    assert!(unwound.is_err());
    finalizer.drain().unwrap();
    assert_eq!(log.take(), [1]);
}

/// Everything is shared among threads as what is inside of it is.
#[test]
fn handles_are_send_and_sync() {
    fn shared<T: Send + Sync>() {}
    fn sent<T: Send>() {}
    struct Unsync;
    impl Finalize for Unsync {
        type Core = std::cell::Cell<u32>;
        fn finalize(_: Self::Core) -> Result<(), BoxError> {
            Ok(())
        }
    }
    shared::<Finalizer>();
    shared::<Finalized<Body>>();
    shared::<Deferred<String>>();
    shared::<Bound<String>>();
    shared::<(DrainError, Refusal, Live, Running)>();
    sent::<FinalizeError>();
    sent::<Refused<Body>>();
    sent::<Finalized<Unsync>>();
    sent::<Deferred<std::cell::Cell<u32>>>();
}

/// At compile time: values cross a panic, as their contents do.
#[test]
fn values_cross_panics() {
    use std::panic::{RefUnwindSafe, UnwindSafe};

    struct Plain;
    impl Finalize for Plain {
        type Core = String;

        fn finalize(_: String) -> Result<(), BoxError> {
            Ok(())
        }
    }

    fn crosses<T: UnwindSafe + RefUnwindSafe>(_: T) {}
    let finalizer = new();
    crosses(Finalized::new_in(&finalizer, Plain, String::new()));
    crosses(Deferred::new_in(&finalizer, String::new()));
    crosses(finalizer);
}
