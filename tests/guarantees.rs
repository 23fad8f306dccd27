//! The guarantees that the crate's documentation numbers, each in at least one test.
//!
//! 1. No operation waits for another thread, wherever that is stopped in user code.
//! 2. Threads that intern equal values at once get one instance, and unequal values differ.
//! 3. The entry is gone before hook, destructor and callbacks run, in that order, each once. They may
//!    intern, drop and panic. Long chains and wide trees die without a deep stack.
//! 4. Allocations: see `alloc.rs`.
//! 5. Lies and panics: see `bad_input.rs`.
//! 6. Handles work while thread-locals are destroyed, and when their interner is gone.
//! 7. Values may borrow.

mod common;

use std::cell::{Cell, RefCell};
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;

use common::{Census, Counted, panic_of, scaled};
use hapax::{Cached, Interned, Interner, WeakInterned, WeakMap};

// 1. Nobody waits.

/// A place where a thread stops until another one has done its work.
struct Stop {
    arrived: Sender<()>,
    resume: Receiver<()>,
}

impl Stop {
    fn here(&self) {
        self.arrived.send(()).expect("the test waits");
        self.resume.recv().expect("the test goes on");
    }
}

thread_local! { static STOP: RefCell<Option<Stop>> = const { RefCell::new(None) } }

/// Stops the thread if this is the place it was told of.
fn place(name: &str) {
    if PLACE.get() == name
        && let Some(stop) = STOP.take()
    {
        stop.here();
    }
}

thread_local! { static PLACE: Cell<&'static str> = const { Cell::new("") } }

/// A value whose methods are places.
#[derive(Debug)]
struct Placed(u32);

impl Clone for Placed {
    fn clone(&self) -> Self {
        place("clone");
        Self(self.0)
    }
}

impl Hash for Placed {
    fn hash<H: Hasher>(&self, state: &mut H) {
        place("hash");
        self.0.hash(state);
    }
}

impl PartialEq for Placed {
    fn eq(&self, other: &Self) -> bool {
        place("eq");
        self.0 == other.0
    }
}

impl Eq for Placed {}

impl Drop for Placed {
    fn drop(&mut self) {
        place("drop");
    }
}

/// While a thread is stopped anywhere in its own code, others intern, find and drop the very same key,
/// grow the table, and empty it.
#[test]
fn a_thread_stopped_in_user_code_holds_nobody_up() {
    for name in ["hash", "eq", "clone", "build", "hook", "drop", "callback"] {
        let interner = Interner::<Placed>::new();
        let hook = |_: &Placed| place("hook");
        interner.on_drop(hook);
        let known = (name == "eq").then(|| interner.intern(Placed(1)));
        let (arrived, arrival) = channel();
        let (go_on, resume) = channel();
        thread::scope(|scope| {
            let interner = &interner;
            let stopped = scope.spawn(move || {
                let lent = Placed(1);
                PLACE.set(name);
                STOP.set(Some(Stop { arrived, resume }));
                let value = match name {
                    "build" => interner.intern_with(&1, |_| {
                        place("build");
                        Placed(1)
                    }),
                    "clone" => interner.intern(&lent),
                    _ => interner.intern(Placed(1)),
                };
                let weak = Interned::downgrade_with(&value, || place("callback"));
                drop(value);
                drop(weak);
            });
            arrival.recv().expect("the thread stops");
            drop(known);
            let held: Vec<_> = (0..scaled(300, 20) as u32)
                .map(|number| interner.intern(Placed(number)))
                .collect();
            assert_eq!(interner.get(&1).map(|value| value.0), Some(1), "{name}");
            assert_eq!(interner.iter().count(), held.len());
            drop(held);
            // A thread that compares holds what it compares with.
            assert_eq!(interner.len(), usize::from(name == "eq"), "{name}");
            go_on.send(()).expect("the thread waits");
            stopped.join().expect("the thread ends");
        });
        assert_eq!(interner.len(), 0, "{name}");
    }
}

impl std::borrow::Borrow<u32> for Placed {
    fn borrow(&self) -> &u32 {
        &self.0
    }
}

#[test]
fn a_builder_holds_up_nobody_but_those_who_wait_for_its_key() {
    let map = WeakMap::<u32, u32>::new();
    let (arrived, arrival) = channel();
    let (go_on, resume) = channel();
    thread::scope(|scope| {
        let builder = scope.spawn(|| {
            let stop = Stop { arrived, resume };
            map.get_or_init(1, |_| {
                stop.here();
                1
            })
        });
        arrival.recv().expect("the builder stops");
        assert!(map.get(&1).is_none());
        let others: Vec<_> = (2..scaled(300, 20) as u32)
            .map(|key| map.get_or_init(key, |&key| key))
            .collect();
        assert_eq!(map.len(), others.len());
        assert!(map.remove(&1).is_none());
        assert_eq!(map.len(), others.len());
        let own = map.get_or_insert(1, 100);
        assert_eq!(*own, 100);
        go_on.send(()).expect("the builder waits");
        assert_eq!(*builder.join().expect("the builder ends"), 100);
    });
}

// 2. One instance.

#[test]
fn threads_that_intern_at_once_get_one_instance() {
    const THREADS: usize = 4;
    let interner = Interner::<u64>::new();
    let keys = scaled(200, 8) as u64;
    let barrier = Barrier::new(THREADS);
    for _ in 0..scaled(100, 2) {
        let held: Vec<Vec<Interned<u64>>> = thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        (0..keys).map(|key| interner.intern(key)).collect()
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().expect("a thread ends"))
                .collect()
        });
        assert_eq!(interner.len() as u64, keys);
        for others in &held[1..] {
            assert_eq!(others, &held[0]);
        }
        let mut pointers: Vec<_> = held[0].iter().map(Interned::as_ptr).collect();
        pointers.sort();
        pointers.dedup();
        assert_eq!(pointers.len() as u64, keys);
        drop(held);
        assert_eq!(interner.len(), 0);
    }
}

/// One key dies and is interned again, by threads that never hold it long.
#[test]
fn a_key_that_dies_all_the_time_has_one_instance() {
    let census = Census::new();
    let interner = Interner::<Counted>::new();
    let barrier = Barrier::new(2);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                barrier.wait();
                for _ in 0..scaled(30_000, 50) {
                    let first = interner.intern(Counted::new(1, &census));
                    let second = interner.intern(Counted::new(1, &census));
                    assert!(Interned::ptr_eq(&first, &second));
                    first.assert_alive();
                }
            });
        }
    });
    assert_eq!((interner.len(), census.live()), (0, 0));
}

// 3. The end of a value.

/// A value that tells of its death.
struct Mortal {
    key: u32,
    died: Box<dyn Fn(u32) + Send + Sync>,
}

impl PartialEq for Mortal {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for Mortal {}

impl Hash for Mortal {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}

impl Drop for Mortal {
    fn drop(&mut self) {
        (self.died)(self.key);
    }
}

impl std::borrow::Borrow<u32> for Mortal {
    fn borrow(&self) -> &u32 {
        &self.key
    }
}

#[test]
fn the_entry_is_gone_before_hook_destructor_and_callbacks_run() {
    let interner = Arc::new(Interner::<Mortal>::new());
    let events = Arc::new(Mutex::new(Vec::new()));
    let weak_slot = Arc::new(Mutex::new(None::<WeakInterned<Mortal>>));
    let tell = {
        let (interner, events, weak_slot) = (interner.clone(), events.clone(), weak_slot.clone());
        move |event: &'static str| {
            // By whatever way, there is nothing.
            assert!(interner.get(&1).is_none(), "{event}");
            assert_eq!(interner.len(), 0, "{event}");
            assert_eq!(interner.iter().count(), 0, "{event}");
            let weak = weak_slot.lock().unwrap();
            assert!(weak.as_ref().is_none_or(|weak| weak.upgrade().is_none()));
            assert_eq!(weak.as_ref().map_or(0, WeakInterned::strong_count), 0);
            events.lock().unwrap().push(event);
        }
    };
    let hook = tell.clone();
    interner.on_drop(move |_| hook("hook"));
    let died = tell.clone();
    let value = interner.intern(Mortal {
        key: 1,
        died: Box::new(move |_| died("destructor")),
    });
    let [first, second] = ["first callback", "second callback"].map(|event| {
        let tell = tell.clone();
        Interned::downgrade_with(&value, move || tell(event))
    });
    *weak_slot.lock().unwrap() = Some(Interned::downgrade(&value));
    let clone = value.clone();
    drop(value);
    assert!(events.lock().unwrap().is_empty());
    drop(clone);
    let expected = ["hook", "destructor", "second callback", "first callback"];
    assert_eq!(*events.lock().unwrap(), expected);
    drop((first, second));
    assert_eq!(*events.lock().unwrap(), expected);
    interner.clear_on_drop();
}

#[test]
fn the_dying_value_is_interned_again_from_within() {
    for place in ["hook", "destructor", "callback"] {
        let interner = Arc::new(Interner::<Mortal>::new());
        let reborn = Arc::new(Mutex::new(None::<Interned<Mortal>>));
        let rebirth: Arc<dyn Fn() + Send + Sync> = {
            let (interner, reborn) = (interner.clone(), reborn.clone());
            Arc::new(move || {
                let again = interner.intern(Mortal {
                    key: 1,
                    died: Box::new(|_| {}),
                });
                assert_eq!(interner.len(), 1);
                *reborn.lock().unwrap() = Some(again);
            })
        };
        if place == "hook" {
            let rebirth = rebirth.clone();
            interner.on_drop(move |_| rebirth());
        }
        let in_destructor = (place == "destructor").then(|| rebirth.clone());
        let value = interner.intern(Mortal {
            key: 1,
            died: Box::new(move |_| in_destructor.iter().for_each(|rebirth| rebirth())),
        });
        let address = Interned::as_ptr(&value);
        let in_callback = (place == "callback").then(|| rebirth.clone());
        let weak = Interned::downgrade_with(&value, move || {
            in_callback.iter().for_each(|rebirth| rebirth());
        });
        drop(value);
        let again = reborn.lock().unwrap().take().expect("it is reborn");
        assert_ne!(Interned::as_ptr(&again), address, "a new instance");
        assert!(weak.upgrade().is_none());
        assert_eq!(
            interner.get(&1).as_ref().map(Interned::as_ptr),
            Some(Interned::as_ptr(&again))
        );
        interner.clear_on_drop();
        drop(again);
        assert_eq!(interner.len(), 0, "{place}");
    }
}

/// Each step runs even if the one before panicked, and it is the first panic that comes out.
#[test]
fn every_step_runs_though_all_of_them_panic() {
    let interner = Interner::<Mortal>::new();
    let steps = Arc::new(AtomicUsize::new(0));
    let step = {
        let steps = steps.clone();
        move |name: &str| {
            steps.fetch_add(1, Ordering::SeqCst);
            panic!("{name}");
        }
    };
    let (hook, died) = (step.clone(), step.clone());
    interner.on_drop(move |_| hook("hook"));
    let value = interner.intern(Mortal {
        key: 1,
        died: Box::new(move |_| died("destructor")),
    });
    let _weak = [1, 2].map(|_| {
        let step = step.clone();
        Interned::downgrade_with(&value, move || step("callback"))
    });
    assert_eq!(panic_of(|| drop(value)), "hook");
    assert_eq!(steps.load(Ordering::SeqCst), 4);
    assert_eq!(interner.len(), 0);
}

#[test]
fn hook_and_callbacks_run_once_on_the_thread_of_the_last_drop() {
    for _ in 0..scaled(500, 5) {
        let interner = Interner::<u32>::new();
        let events = Arc::new(Mutex::new(Vec::new()));
        let hook = events.clone();
        interner.on_drop(move |_| hook.lock().unwrap().push(thread::current().id()));
        let value = interner.intern(1);
        let callback = events.clone();
        let _weak = Interned::downgrade_with(&value, move || {
            callback.lock().unwrap().push(thread::current().id());
        });
        let barrier = Barrier::new(3);
        let threads = thread::scope(|scope| {
            let threads: Vec<_> = (0..3)
                .map(|_| {
                    let (value, barrier) = (value.clone(), &barrier);
                    scope.spawn(move || {
                        barrier.wait();
                        drop(value);
                    })
                })
                .collect();
            drop(value);
            threads.iter().map(|t| t.thread().id()).collect::<Vec<_>>()
        });
        // All drops have returned, so everything has run.
        let events = events.lock().unwrap();
        assert_eq!(events.len(), 2);
        assert_eq!(events[0], events[1]);
        assert!(threads.contains(&events[0]) || events[0] == thread::current().id());
        assert_eq!(interner.len(), 0);
    }
}

/// A value that owns others.
#[derive(PartialEq, Eq, Hash)]
struct Tree {
    number: usize,
    branches: Vec<Interned<Tree>>,
}

static TREES_DIED: AtomicUsize = AtomicUsize::new(0);
static ONE_TREE_AT_A_TIME: Mutex<()> = Mutex::new(());

impl Drop for Tree {
    fn drop(&mut self) {
        TREES_DIED.fetch_add(1, Ordering::Relaxed);
    }
}

fn chain(trees: &Interner<Tree>, length: usize) -> Interned<Tree> {
    let leaf = Tree {
        number: 0,
        branches: Vec::new(),
    };
    (1..length).fold(trees.intern(leaf), |below, number| {
        trees.intern(Tree {
            number,
            branches: vec![below],
        })
    })
}

/// Runs with a stack on which no deep recursion fits.
fn on_a_small_stack(f: impl FnOnce() + Send) {
    let _one = ONE_TREE_AT_A_TIME
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    TREES_DIED.store(0, Ordering::SeqCst);
    thread::scope(|scope| {
        thread::Builder::new()
            .stack_size(256 << 10)
            .spawn_scoped(scope, f)
            .expect("a thread starts")
            .join()
            .expect("the thread ends");
    });
}

#[test]
fn a_chain_of_a_million_handles_dies_without_a_deep_stack() {
    on_a_small_stack(|| {
        let trees = Interner::new();
        let length = scaled(1_000_000, 100);
        let top = chain(&trees, length);
        assert_eq!(trees.len(), length);
        drop(top);
        assert_eq!(
            (trees.len(), TREES_DIED.load(Ordering::SeqCst)),
            (0, length)
        );
    });
}

#[test]
fn a_chain_dies_after_its_interner_without_a_deep_stack() {
    on_a_small_stack(|| {
        let trees = Interner::new();
        let length = scaled(100_000, 100);
        let top = chain(&trees, length);
        drop(trees);
        assert_eq!(TREES_DIED.load(Ordering::SeqCst), 0);
        drop(top);
        assert_eq!(TREES_DIED.load(Ordering::SeqCst), length);
    });
}

#[test]
fn a_chain_that_is_unwrapped_dies_without_a_deep_stack() {
    on_a_small_stack(|| {
        let trees = Interner::new();
        let length = scaled(100_000, 100);
        let top = Interned::try_unwrap(chain(&trees, length));
        let Ok(top) = top else {
            panic!("nobody else has it")
        };
        assert_eq!(trees.len(), length - 1);
        drop(top);
        assert_eq!(
            (trees.len(), TREES_DIED.load(Ordering::SeqCst)),
            (0, length)
        );
    });
}

#[test]
fn a_chain_with_hook_and_callbacks_dies_without_a_deep_stack() {
    on_a_small_stack(|| {
        let trees = Interner::new();
        let length = scaled(50_000, 100);
        let events = Arc::new(AtomicUsize::new(0));
        let hook = events.clone();
        trees.on_drop(move |_| {
            hook.fetch_add(1, Ordering::Relaxed);
        });
        let mut weak = Vec::new();
        let mut top = chain(&trees, 1);
        for number in 1..length {
            let events = events.clone();
            weak.push(Interned::downgrade_with(&top, move || {
                events.fetch_add(1, Ordering::Relaxed);
            }));
            top = trees.intern(Tree {
                number,
                branches: vec![top],
            });
        }
        drop(top);
        assert_eq!(trees.len(), 0);
        assert_eq!(events.load(Ordering::SeqCst), 2 * length - 1);
    });
}

#[test]
fn a_wide_tree_dies_at_once() {
    on_a_small_stack(|| {
        let trees = Interner::new();
        let width = scaled(300, 5);
        let mut number = 0;
        let mut branches = |depth_below: &mut dyn FnMut() -> Vec<Interned<Tree>>| {
            (0..width)
                .map(|_| {
                    number += 1;
                    let branches = depth_below();
                    trees.intern(Tree { number, branches })
                })
                .collect::<Vec<_>>()
        };
        let leaf = trees.intern(Tree {
            number: usize::MAX,
            branches: Vec::new(),
        });
        let middle = branches(&mut || vec![leaf.clone(); 3]);
        let top = branches(&mut || middle.clone());
        drop((leaf, middle));
        assert_eq!(trees.len(), 2 * width + 1);
        drop(top);
        assert_eq!(
            (trees.len(), TREES_DIED.load(Ordering::SeqCst)),
            (0, 2 * width + 1)
        );
    });
}

/// Two interners whose values own each other's in turn: the depth is the number of tables.
#[test]
fn a_chain_through_two_interners_dies_without_a_deep_stack() {
    #[derive(PartialEq, Eq, Hash)]
    struct Even(usize, Option<Interned<Odd>>);
    #[derive(PartialEq, Eq, Hash)]
    struct Odd(usize, Option<Interned<Even>>);

    on_a_small_stack(|| {
        let evens = Interner::<Even>::new();
        let odds = Interner::<Odd>::new();
        let length = scaled(100_000, 50);
        let mut top = None;
        for number in 0..length {
            let odd = odds.intern(Odd(number, top));
            top = Some(evens.intern(Even(number, Some(odd))));
        }
        assert_eq!((evens.len(), odds.len()), (length, length));
        drop(top);
        assert_eq!((evens.len(), odds.len()), (0, 0));
    });
}

#[test]
fn a_chain_in_a_map_dies_without_a_deep_stack() {
    struct Link(#[expect(dead_code, reason = "owned")] Option<Cached<usize, Link>>);
    on_a_small_stack(|| {
        let map = WeakMap::<usize, Link>::new();
        let length = scaled(100_000, 50);
        let top = (0..length).fold(None, |below, number| {
            Some(map.get_or_insert(number, Link(below)))
        });
        assert_eq!(map.len(), length);
        drop(top);
        assert_eq!(map.len(), 0);
    });
}

/// The threads of a chain's links drop at once: each link dies once, whoever comes last.
#[test]
fn a_chain_is_dropped_from_all_its_links_at_once() {
    on_a_small_stack(|| {
        for _ in 0..scaled(50, 2) {
            TREES_DIED.store(0, Ordering::SeqCst);
            let trees = Interner::new();
            let length = scaled(400, 20);
            let mut links = vec![chain(&trees, 1)];
            for number in 1..length {
                let below = links[number - 1].clone();
                links.push(trees.intern(Tree {
                    number,
                    branches: vec![below],
                }));
            }
            let second = links.split_off(length / 2);
            thread::scope(|scope| {
                scope.spawn(|| links.into_iter().rev().for_each(drop));
                scope.spawn(|| second.into_iter().for_each(drop));
            });
            assert_eq!(
                (trees.len(), TREES_DIED.load(Ordering::SeqCst)),
                (0, length)
            );
        }
    });
}

// 6. Late handles.

/// What a thread-local keeps, and drops when the thread ends.
struct Late {
    handles: Vec<Interned<Counted>>,
    weak: Vec<WeakInterned<Counted>>,
    interner: Arc<Interner<Counted>>,
    census: Arc<Census>,
    /// A key that no other thread uses.
    own: u64,
}

impl Drop for Late {
    fn drop(&mut self) {
        for handle in &self.handles {
            handle.assert_alive();
        }
        // Everything still works.
        let again = self.interner.intern(Counted::new(self.own, &self.census));
        let weak = Interned::downgrade(&again);
        assert_eq!(weak.upgrade(), Some(again));
        assert_eq!(weak.upgrade(), None);
        assert!(self.weak.iter().all(|weak| weak.upgrade().is_some()));
        let entry = LATE_MAP.get_or_init(7, |_| 8);
        assert_eq!(*entry, 8);
        self.interner.flush();
        for number in 0..200 {
            drop(
                self.interner
                    .intern(Counted::new(number + 2000, &self.census)),
            );
        }
    }
}

static LATE_MAP: WeakMap<u32, u32> = WeakMap::new();

thread_local! {
    static EARLY: RefCell<Option<Late>> = const { RefCell::new(None) };
    static LATER: RefCell<Option<Late>> = const { RefCell::new(None) };
}

/// One thread-local is made before this crate's own and crossbeam's, the other after: whatever the order
/// of destruction is, one of them is dropped after those.
#[test]
fn handles_are_dropped_in_thread_local_destructors() {
    for turn in 0..scaled(50, 3) {
        let census = Census::new();
        let interner = Arc::new(Interner::<Counted>::new());
        thread::scope(|scope| {
            for thread in 0..2 {
                let (census, interner) = (census.clone(), interner.clone());
                let run = move || {
                    let late = |interner: &Arc<Interner<Counted>>, first| {
                        let handles: Vec<_> = (first..first + 5)
                            .map(|key| interner.intern(Counted::new(key, &census)))
                            .collect();
                        let weak = handles.iter().map(Interned::downgrade).collect();
                        let (interner, census) = (interner.clone(), census.clone());
                        Late {
                            handles,
                            weak,
                            interner,
                            census,
                            own: 1000 + thread,
                        }
                    };
                    EARLY.set(None);
                    // The others come to life here.
                    drop(interner.intern(Counted::new(thread, &census)));
                    EARLY.set(Some(late(&interner, 10)));
                    if turn % 2 == 0 {
                        LATER.set(Some(late(&interner, 12)));
                    }
                };
                // Joined by hand: a scope doesn't wait for the destructors of thread-locals.
                let run: Box<dyn FnOnce() + Send> = Box::new(run);
                scope.spawn(move || thread::spawn(run).join().expect("the thread ends"));
            }
        });
        assert_eq!((interner.len(), census.live()), (0, 0));
    }
}

/// An interner, its last reference and the last handles go at the same time, on different threads.
#[test]
fn an_interner_is_dropped_while_others_drop_its_handles() {
    for turn in 0..scaled(3000, 10) {
        let census = Census::new();
        let interner = Interner::<Counted>::new();
        let hooks = Arc::new(AtomicUsize::new(0));
        let count = hooks.clone();
        interner.on_drop(move |value| {
            value.assert_alive();
            count.fetch_add(1, Ordering::SeqCst);
        });
        let values = 1 + turn % 20;
        let handles: Vec<_> = (0..values as u64)
            .map(|key| interner.intern(Counted::new(key, &census)))
            .collect();
        let weak: Vec<_> = handles.iter().map(Interned::downgrade).collect();
        let callbacks = Arc::new(AtomicUsize::new(0));
        let _registrations: Vec<_> = handles
            .iter()
            .map(|handle| {
                let callbacks = callbacks.clone();
                Interned::downgrade_with(handle, move || {
                    callbacks.fetch_add(1, Ordering::SeqCst);
                })
            })
            .collect();
        let barrier = Barrier::new(3);
        thread::scope(|scope| {
            let clones = handles.clone();
            scope.spawn(|| {
                barrier.wait();
                drop(handles);
            });
            scope.spawn(|| {
                barrier.wait();
                for (clone, weak) in clones.into_iter().rev().zip(weak.iter().rev()) {
                    drop(clone);
                    if let Some(value) = weak.upgrade() {
                        value.assert_alive();
                    }
                }
            });
            barrier.wait();
            drop(interner);
        });
        assert_eq!(census.live(), 0);
        assert_eq!(callbacks.load(Ordering::SeqCst), values);
        assert!(hooks.load(Ordering::SeqCst) <= values);
        assert!(weak.iter().all(|weak| weak.upgrade().is_none()));
    }
}

#[test]
fn handles_do_everything_after_their_interner() {
    let names = Interner::<str>::new();
    let alpha = names.intern("alpha");
    let early = Interned::downgrade(&alpha);
    drop(names);
    assert_eq!(*alpha, *"alpha");
    let clone = alpha.clone();
    assert_eq!((clone == alpha, Interned::ref_count(&alpha)), (true, 2));
    let late = Interned::downgrade(&alpha);
    let (sender, receiver) = channel();
    let callback = Interned::downgrade_with(&alpha, move || sender.send(()).unwrap());
    assert_eq!(early.upgrade(), Some(clone));
    assert!(late.ptr_eq(&early) && callback.ptr_eq(&early));
    drop(alpha);
    receiver.try_recv().expect("the callback ran");
    assert!(early.upgrade().is_none() && late.upgrade().is_none());

    let numbers = Interner::<u64>::new();
    let seven = numbers.intern(7);
    drop(numbers);
    assert_eq!(Interned::try_unwrap(seven), Ok(7));
}

#[test]
fn tables_are_reused_by_other_types() {
    let kept: Vec<_> = (0..scaled(300, 10))
        .map(|number| {
            let names = Interner::<str>::new();
            let kept = names.intern(number.to_string());
            let numbers = Interner::<u64>::new();
            let map = WeakMap::<u64, String>::new();
            let _held: Vec<_> = (0..50)
                .map(|n| (numbers.intern(n), map.get_or_insert(n, n.to_string())))
                .collect();
            assert_eq!((names.len(), numbers.len(), map.len()), (1, 50, 50));
            kept
        })
        .collect();
    for (number, kept) in kept.iter().enumerate() {
        assert_eq!(**kept, *number.to_string());
    }
}

// 7. Borrowed values.

#[test]
fn values_borrow_from_a_local() {
    let text = String::from("to be or not to be");
    let words = Interner::<&str>::new();
    let held: Vec<_> = text.split(' ').map(|word| words.intern(word)).collect();
    assert_eq!(words.len(), 4);
    assert_eq!(held[0], held[4]);
    assert!(std::ptr::eq(*held[0], &text[..2]));
    drop(words);
    assert_eq!(**held[3], *"not");
}

/// Counts its end where it borrows.
struct Tally<'a>(u32, &'a AtomicUsize);

impl PartialEq for Tally<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Tally<'_> {}

impl Hash for Tally<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl Drop for Tally<'_> {
    fn drop(&mut self) {
        self.1.fetch_add(1, Ordering::SeqCst);
    }
}

/// The destructor of a value uses what the value borrows.
#[test]
fn destructors_use_what_their_value_borrows() {
    let count = AtomicUsize::new(0);
    {
        let tallies = Interner::new();
        let hooks = Arc::new(AtomicUsize::new(0));
        let hook = hooks.clone();
        tallies.on_drop(move |_| {
            hook.fetch_add(1, Ordering::SeqCst);
        });
        let outlives = tallies.intern(Tally(1, &count));
        thread::scope(|scope| {
            for number in 2..10 {
                let (tallies, count) = (&tallies, &count);
                scope.spawn(move || drop(tallies.intern(Tally(number, count))));
            }
        });
        assert_eq!(count.load(Ordering::SeqCst), 8);
        assert_eq!(hooks.load(Ordering::SeqCst), 8);
        drop(tallies);
        assert_eq!(count.load(Ordering::SeqCst), 8);
        drop(outlives);
    }
    assert_eq!(count.load(Ordering::SeqCst), 9);

    let key = String::from("key");
    let map = WeakMap::<&str, Tally<'_>>::new();
    drop(map.get_or_init(&key[..], |_| Tally(1, &count)));
    assert_eq!(count.load(Ordering::SeqCst), 10);
}

/// A value's destructor has an interner of its own, whose values borrow from its locals.
#[test]
fn a_destructor_outlives_the_values_that_borrow_from_it() {
    #[derive(PartialEq, Eq, Hash)]
    struct Outer;
    impl Drop for Outer {
        fn drop(&mut self) {
            let count = AtomicUsize::new(0);
            drop(Interner::new().intern(Tally(1, &count)));
            assert_eq!(count.load(Ordering::SeqCst), 1);
        }
    }

    drop(Interner::new().intern(Outer));
}
