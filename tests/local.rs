//! `local`: what each thread has for itself.
//!
//! The scenarios of CPython's `test_threading_local` and of the tests of the `thread_local` crate come first, under
//! their own names; then what is promised here besides; then bugs that others had:
//!
//! | what happened elsewhere | here |
//! |---|---|
//! | pure-Python local: values outlive their thread with its `Thread` object; the last thread's stay | `test_local_refs` |
//! | pure-Python local: a failing `__init__` leaves an empty dict, and is never run again | `an_init_that_fails_is_tried_again` |
//! | bpo-3088: a switch of threads within `__init__` | `test_derived` |
//! | bpo-6990: an address is used again, and a new local shows an old one's values | `test_derived_cycle_dealloc`, `a_local_at_an_old_place_has_no_old_values` |
//! | bpo-1522237: arguments of `__init__` | `test_arguments` |
//! | gh-100892, gh-67753, gh-118490, gh-120973: thread states die while a local walks them | `test_threading_local_clear_race`, `locals_and_threads_die_at_once` |
//! | gh-128691: threads contend for the local's count | a hit writes nothing shared: `benches/peers` |
//! | thread_local 37: values stay when their thread ends | `test_local_refs`, `thread_memory.rs` |
//! | thread_local 65, 79: a new thread gets the values of an old one | `a_new_thread_never_sees_old_values` |
//! | thread_local 75: a reference outlives the thread whose value it is | references don't leave closures: a documentation test that does not compile |

mod common;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Mutex, OnceLock, Weak, mpsc};
use std::thread::{self, ThreadId};
use std::time::Duration;

use common::{Census, Counted, scaled};
use hapax::local::{Local, LocalCell, LocalDict, LocalError};

/// Runs `f` when it is dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

type Action = Box<dyn FnMut() + Send + Sync>;

/// Runs `f` on a thread of its own, to the end of that.
fn on_thread<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    thread::scope(|scope| scope.spawn(f).join().unwrap())
}

// CPython, test_threading_local.

/// Of n threads that have ended, n values are gone.
#[test]
fn test_local_refs() {
    for threads in [20, 50, 100].map(|n| scaled(n, 3)) {
        let census = Census::new();
        let local = Local::new({
            let census = census.clone();
            move || Counted::new(0, &census)
        });
        for _ in 0..threads {
            on_thread(|| local.with(|_| ()));
        }
        assert_eq!((census.made(), census.died()), (threads, threads));
        assert!(local.is_empty());
    }
}

/// While one thread's initialiser sleeps, others run theirs.
#[test]
fn test_derived() {
    let next = AtomicU64::new(0);
    let local = Local::new(move || {
        thread::sleep(Duration::from_millis(10));
        Cell::new(next.fetch_add(1, SeqCst))
    });
    thread::scope(|scope| {
        for number in 100..100 + scaled(10, 3) as u64 {
            let local = &local;
            scope.spawn(move || {
                local.with(|value| value.set(number));
                thread::sleep(Duration::from_millis(10));
                assert_eq!(local.with(Cell::get), number);
            });
        }
    });
}

/// A local that is part of a cycle, which is broken in another thread; new locals there are empty.
#[test]
fn test_derived_cycle_dealloc() {
    struct Node(Mutex<Option<Arc<Node>>>, LocalDict<&'static str, u32>);
    let passed = on_thread(|| {
        let locals: Vec<_> = (0..2)
            .map(|_| Arc::new(Node(Mutex::new(None), LocalDict::new())))
            .collect();
        *locals[0].0.lock().unwrap() = Some(locals[1].clone());
        *locals[1].0.lock().unwrap() = Some(locals[0].clone());
        locals.iter().for_each(|node| drop(node.1.set("foo", 1)));
        let weak = Arc::downgrade(&locals[0]);
        locals[0].0.lock().unwrap().take();
        drop(locals);
        assert!(weak.upgrade().is_none());
        (0..10).all(|_| !LocalDict::<&str, u32>::new().contains("foo"))
    });
    assert!(passed);
}

/// Arguments are for an initialiser, and each thread's gets the same.
#[test]
fn test_arguments() {
    let (a, b) = (1, String::from("b"));
    let local = LocalDict::with_init(move || [("a", a.to_string()), ("b", b.clone())]);
    for _ in 0..3 {
        on_thread(|| {
            assert_eq!(local.get("a").unwrap().as_str(), "1");
            assert_eq!(local.get("b").unwrap().as_str(), "b");
            assert_eq!(local.get("c"), None);
        });
    }
}

fn one_class(local: &LocalDict<&'static str, u32>) {
    let (set, deleted) = (Barrier::new(2), Barrier::new(2));
    thread::scope(|scope| {
        scope.spawn(|| {
            local.set("x", 4);
            assert_eq!(local.remove("x").as_deref(), Some(&4));
            set.wait();
            deleted.wait();
        });
        scope.spawn(|| {
            set.wait();
            assert_eq!(local.get("x"), None);
            assert_eq!(local.remove("x"), None);
            deleted.wait();
        });
    });
}

/// What one thread has set and deleted another one has never seen.
#[test]
fn test_one_class() {
    one_class(&LocalDict::new());
    one_class(&LocalDict::with_init(|| [("y", 1)]));
}

fn dict_attribute(local: &LocalDict<&'static str, u32>) {
    local.set("x", 5);
    let mut snapshot = local.snapshot();
    assert_eq!(snapshot, HashMap::from([("x", Arc::new(5))]));
    snapshot.clear();
    assert_eq!(local.get("x").as_deref(), Some(&5));
    assert!(on_thread(|| !local.snapshot().contains_key("x")));
}

/// The namespace as it is; changing that changes nothing.
#[test]
fn test_dict_attribute() {
    dict_attribute(&LocalDict::new());
    dict_attribute(&LocalDict::with_init(|| []));
}

/// A value that leads back to its local, weakly on one side.
#[test]
fn test_cycle_collection() {
    struct X(Arc<Census>, OnceLock<Weak<Local<X>>>);
    impl Drop for X {
        fn drop(&mut self) {
            self.0.died.fetch_add(1, SeqCst);
        }
    }
    let census = Census::new();
    let local = Arc::new(Local::new({
        let census = census.clone();
        move || X(census.clone(), OnceLock::new())
    }));
    local.with(|x| x.1.set(Arc::downgrade(&local)).unwrap());
    let weak = Arc::downgrade(&local);
    drop(local);
    assert!(weak.upgrade().is_none());
    assert_eq!(census.died(), 1);
}

/// Locals come and go while threads that have used them end.
#[test]
fn test_threading_local_clear_race() {
    let census = Census::new();
    let rounds = scaled(1000, 3);
    for _ in 0..rounds {
        let local = Local::new({
            let census = census.clone();
            move || Counted::new(0, &census)
        });
        let local = Arc::new(local);
        let (used, drops) = mpsc::channel();
        let thread = thread::spawn({
            let local = local.clone();
            move || {
                local.with(|_| ());
                drop(local);
                used.send(()).unwrap();
            }
        });
        drops.recv().unwrap();
        drop(local);
        thread.join().unwrap();
    }
    assert_eq!((census.made(), census.died()), (rounds, rounds));
}

/// Python's doctest: defaults of the class, arguments of `__init__`, and what all threads share.
#[test]
fn test_doctest() {
    struct MyLocal {
        names: LocalDict<&'static str, String>,
        /// Python's `__slots__`: one for all threads.
        shared: Mutex<u32>,
    }
    let runs = Arc::new(AtomicUsize::new(0));
    let data = MyLocal {
        names: LocalDict::with_init({
            let runs = runs.clone();
            move || {
                runs.fetch_add(1, SeqCst);
                [("color", String::from("red"))]
            }
        }),
        shared: Mutex::new(1),
    };
    data.names.set_default("number", String::from("2"));
    let seen = |name: &str| data.names.get(name).map(|value| value.as_str().to_owned());
    assert_eq!(seen("number").as_deref(), Some("2"));
    data.names.set("number", String::from("42"));
    data.names.remove("color");
    on_thread(|| {
        assert_eq!(seen("color").as_deref(), Some("red"));
        assert_eq!(seen("number").as_deref(), Some("2"));
        *data.shared.lock().unwrap() = 7;
    });
    assert_eq!(seen("color"), None);
    assert_eq!(seen("number").as_deref(), Some("42"));
    assert_eq!(*data.shared.lock().unwrap(), 7);
    assert_eq!(runs.load(SeqCst), 2);
}

// The `thread_local` crate.

fn counter() -> impl Fn() -> usize + Send + Sync {
    let next = AtomicUsize::new(0);
    move || next.fetch_add(1, SeqCst)
}

#[test]
fn same_thread() {
    let local = Local::new(counter());
    assert_eq!(local.get(), None);
    assert_eq!(local.with(|n| *n), 0);
    assert_eq!(local.get().as_deref(), Some(&0));
    assert_eq!(local.with(|n| *n), 0);
    assert_eq!(local.take().as_deref(), Some(&0));
    assert_eq!(local.get(), None);
    assert_eq!(local.with(|n| *n), 1);
}

#[test]
fn different_thread() {
    let local = Local::new(counter());
    assert_eq!(local.with(|n| *n), 0);
    on_thread(|| {
        assert_eq!(local.get(), None);
        assert_eq!(local.with(|n| *n), 1);
        assert_eq!(local.get().as_deref(), Some(&1));
    });
    assert_eq!(local.with(|n| *n), 0);
}

#[test]
fn reentrant_get_or() {
    static LOCAL: OnceLock<Local<u32>> = OnceLock::new();
    let local = LOCAL.get_or_init(|| {
        Local::new(|| {
            let local = LOCAL.get().unwrap();
            assert_eq!(local.try_with(|_| ()), Err(LocalError::Reentrant));
            assert_eq!(local.get(), None);
            assert_eq!(local.take(), None);
            assert_eq!(local.try_replace(7), Err((LocalError::Reentrant, 7)));
            5
        })
    });
    assert_eq!(local.with(|n| *n), 5);
}

#[test]
fn iter() {
    let local = Local::new(|| AtomicUsize::new(0));
    local.with(|n| n.store(1, SeqCst));
    let (set, seen) = (Barrier::new(3), Barrier::new(3));
    thread::scope(|scope| {
        for number in [2, 3] {
            let (local, set, seen) = (&local, &set, &seen);
            scope.spawn(move || {
                local.with(|n| n.store(number, SeqCst));
                set.wait();
                seen.wait();
            });
        }
        set.wait();
        let mut all = local.fold(Vec::new(), |mut all, n| {
            all.push(n.load(SeqCst));
            all
        });
        all.sort_unstable();
        assert_eq!(all, [1, 2, 3]);
        assert_eq!(local.len(), 3);
        seen.wait();
    });
}

#[test]
fn drops() {
    let census = Census::new();
    let local = Local::new({
        let census = census.clone();
        move || Counted::new(0, &census)
    });
    local.with(|_| ());
    assert_eq!(census.died(), 0);
    drop(local);
    assert_eq!(census.died(), 1);
}

#[test]
fn is_sync() {
    fn both<T: Send + Sync>() {}
    both::<Local<String>>();
    both::<Local<Cell<String>>>();
    both::<Local<Cell<u8>, u64, std::io::Error>>();
    both::<LocalCell<Cell<String>>>();
    both::<LocalDict<String, String>>();
}

// The end of a thread.

#[test]
fn a_new_thread_never_sees_old_values() {
    let local = Local::new(|| Cell::new(0));
    for round in 1..=scaled(200, 5) {
        on_thread(|| {
            assert!(local.get().is_none());
            assert_eq!(local.with(|n| n.replace(round)), 0);
        });
    }
}

#[test]
fn values_die_on_their_own_thread_before_its_join_returns() {
    static DIED: Mutex<Vec<ThreadId>> = Mutex::new(Vec::new());
    struct Value;
    impl Drop for Value {
        fn drop(&mut self) {
            thread::sleep(Duration::from_millis(5));
            DIED.lock().unwrap().push(thread::current().id());
        }
    }
    let local = Arc::new(Local::new(|| Value));
    let thread = thread::spawn({
        let local = local.clone();
        move || local.with(|_| thread::current().id())
    });
    let id = thread.join().unwrap();
    assert_eq!(*DIED.lock().unwrap(), [id]);
}

/// Two thread-locals, of which one is made before those of this crate, use a local in their destructors.
#[test]
fn use_during_thread_local_teardown_answers_destroyed() {
    static LOCAL: OnceLock<Local<Counted>> = OnceLock::new();
    static ANSWERS: Mutex<Vec<Result<(), LocalError>>> = Mutex::new(Vec::new());
    struct Late;
    impl Drop for Late {
        fn drop(&mut self) {
            let local = LOCAL.get().unwrap();
            let answer = local.try_with(|_| ());
            ANSWERS.lock().unwrap().push(answer);
            if answer.is_err() {
                assert!(local.get().is_none());
                assert!(local.take().is_none());
                let census = Census::new();
                let (error, _) = local.try_replace(Counted::new(0, &census)).err().unwrap();
                assert_eq!(error, LocalError::Destroyed);
            }
        }
    }
    thread_local! {
        static BEFORE: Late = const { Late };
        static AFTER: Late = const { Late };
    }
    let census = Census::new();
    let local = LOCAL.get_or_init(|| {
        let census = census.clone();
        Local::new(move || Counted::new(0, &census))
    });
    on_thread(|| {
        BEFORE.with(|_| ());
        local.with(|_| ());
        AFTER.with(|_| ());
    });
    // A thread that hasn't used any before.
    on_thread(|| BEFORE.with(|_| ()));
    let answers = std::mem::take(&mut *ANSWERS.lock().unwrap());
    assert_eq!(answers.len(), 3);
    assert!(answers.contains(&Err(LocalError::Destroyed)), "{answers:?}");
    assert_eq!(census.made(), census.died());
    assert!(local.is_empty());
}

/// Values of one thread use each other in their destructors: those that are there can be used, others aren't made.
#[test]
fn destructors_of_values_use_other_values() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let plain = Arc::new(Local::new(|| 5));
    let unused = Arc::new(Local::new(|| 6));
    let looking: Local<OnDrop<Action>> = Local::new({
        let (seen, plain, unused) = (seen.clone(), plain.clone(), unused.clone());
        move || {
            let (seen, plain, unused) = (seen.clone(), plain.clone(), unused.clone());
            OnDrop(Box::new(move || {
                let mut seen = seen.lock().unwrap();
                seen.push((plain.try_with(|n| *n), unused.try_with(|n| *n)));
            }) as Action)
        }
    });
    on_thread(|| {
        plain.with(|_| ());
        // The last one that was made goes first.
        looking.with(|_| ());
    });
    on_thread(|| {
        looking.with(|_| ());
        plain.with(|_| ());
    });
    let gone = Err(LocalError::Destroyed);
    assert_eq!(*seen.lock().unwrap(), [(Ok(5), gone), (gone, gone)]);
}

#[test]
fn a_destructor_that_panics_at_thread_exit_stops_nothing() {
    let census = Census::new();
    let counted = |census: &Arc<Census>| {
        let census = census.clone();
        Local::new(move || Counted::new(0, &census))
    };
    let (before, after) = (counted(&census), counted(&census));
    let panics = Local::new(|| OnDrop(|| panic!("a destructor panics")));
    on_thread(|| {
        before.with(|_| ());
        panics.with(|_| ());
        after.with(|_| ());
    });
    assert_eq!((census.made(), census.died()), (2, 2));
    assert!(panics.is_empty());
}

#[test]
fn on_thread_exit_sees_the_value_while_the_thread_has_it() {
    static LOCAL: OnceLock<Local<Cell<u32>>> = OnceLock::new();
    static SEEN: Mutex<Vec<(u32, u32, ThreadId)>> = Mutex::new(Vec::new());
    let local = LOCAL.get_or_init(|| {
        Local::new(|| Cell::new(0)).on_thread_exit(|value| {
            let again = LOCAL.get().unwrap().with(Cell::get);
            let id = thread::current().id();
            SEEN.lock().unwrap().push((value.get(), again, id));
        })
    });
    local.with(|n| n.set(1));
    let id = on_thread(|| {
        local.with(|n| n.set(2));
        thread::current().id()
    });
    local.take();
    assert_eq!(*SEEN.lock().unwrap(), [(2, 2, id)]);
}

/// What the callback takes or puts there is dropped all the same.
#[test]
fn on_thread_exit_may_take_and_replace_the_value() {
    static LOCAL: OnceLock<Local<Counted>> = OnceLock::new();
    static ROUND: AtomicUsize = AtomicUsize::new(0);
    let census = Census::new();
    let local = LOCAL.get_or_init(|| {
        let (census, other) = (census.clone(), census.clone());
        Local::new(move || Counted::new(0, &census)).on_thread_exit(move |_| {
            let local = LOCAL.get().unwrap();
            match ROUND.fetch_add(1, SeqCst) {
                0 => assert!(local.take().is_some()),
                1 => assert!(local.replace(Counted::new(0, &other)).is_some()),
                _ => panic!("the callback panics"),
            }
        })
    });
    for _ in 0..3 {
        on_thread(|| local.with(|_| ()));
        assert!(local.is_empty());
    }
    assert_eq!((census.made(), census.died()), (4, 4));
}

// The end of a local.

#[test]
fn values_of_all_threads_die_with_the_local_on_the_dropping_thread() {
    static DIED: Mutex<Vec<ThreadId>> = Mutex::new(Vec::new());
    struct Value;
    impl Drop for Value {
        fn drop(&mut self) {
            DIED.lock().unwrap().push(thread::current().id());
        }
    }
    let local = Arc::new(Local::new(|| Value).eager());
    let (used, dropped) = (Barrier::new(3), Barrier::new(3));
    thread::scope(|scope| {
        for _ in 0..2 {
            let (local, used, dropped) = (local.clone(), &used, &dropped);
            scope.spawn(move || {
                local.with(|_| ());
                drop(local);
                used.wait();
                dropped.wait();
            });
        }
        used.wait();
        drop(Arc::into_inner(local).unwrap());
        assert_eq!(*DIED.lock().unwrap(), [thread::current().id(); 3]);
        dropped.wait();
    });
    assert_eq!(DIED.lock().unwrap().len(), 3);
}

#[test]
fn what_the_closures_have_captured_dies_with_the_local() {
    let census = Census::new();
    let (init, exit, merge) = (
        Counted::new(0, &census),
        Counted::new(0, &census),
        Counted::new(0, &census),
    );
    let local = Local::new(move || init.clone().serial)
        .on_thread_exit(move |_| exit.assert_alive())
        .retire(0, move |total, _| *total += merge.clone().key);
    on_thread(|| local.with(|_| ()));
    let before = census.live();
    drop(local);
    assert_eq!((before, census.live()), (3, 0));
}

#[test]
fn a_destructor_that_panics_with_its_local_keeps_no_other_value_alive() {
    let census = Census::new();
    let local: Local<(Counted, OnDrop<Action>)> = Local::new({
        let census = census.clone();
        move || {
            let action: Action = Box::new(|| panic!("a destructor panics"));
            (Counted::new(0, &census), OnDrop(action))
        }
    });
    let (used, dropped) = (Barrier::new(2), Barrier::new(2));
    thread::scope(|scope| {
        let local = Arc::new(local.eager());
        scope.spawn({
            let (local, used, dropped) = (local.clone(), &used, &dropped);
            move || {
                local.with(|_| ());
                drop(local);
                used.wait();
                dropped.wait();
            }
        });
        used.wait();
        let panic = catch_unwind(AssertUnwindSafe(|| drop(local))).unwrap_err();
        assert_eq!(panic.downcast_ref(), Some(&"a destructor panics"));
        assert_eq!((census.made(), census.died()), (2, 2));
        dropped.wait();
    });
}

#[test]
fn a_local_at_an_old_place_has_no_old_values() {
    for round in 0..scaled(1000, 10) {
        let local = Local::new(|| Cell::new(usize::MAX));
        assert!(local.get().is_none());
        assert_eq!(local.with(|n| n.replace(round)), usize::MAX);
    }
}

#[test]
fn many_locals_keep_their_values_apart() {
    let count = scaled(10_000, 50);
    let mut locals: Vec<_> = (0..count).map(|n| Local::new(move || n)).collect();
    for _ in 0..2 {
        on_thread(|| {
            // The last one first: the table grows to it at once.
            for (n, local) in locals.iter().enumerate().rev() {
                assert_eq!(local.with(|value| *value), n);
            }
        });
        assert!(locals.iter().all(Local::is_empty));
        for (n, local) in locals.iter_mut().enumerate().step_by(3) {
            *local = Local::new(move || n);
        }
    }
}

/// The dropping of locals, the exits of threads, visits and new uses, all at once.
#[test]
fn locals_and_threads_die_at_once() {
    let census = Census::new();
    let new = || {
        let census = census.clone();
        Arc::new(Local::new(move || Counted::new(0, &census)))
    };
    let shared: Vec<_> = (0..4).map(|_| Mutex::new(new())).collect();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let dropper = scope.spawn(|| {
            while !done.load(SeqCst) {
                for at in &shared {
                    let old = std::mem::replace(&mut *at.lock().unwrap(), new());
                    drop(old);
                }
            }
        });
        let visitor = scope.spawn(|| {
            while !done.load(SeqCst) {
                for at in &shared {
                    let local = at.lock().unwrap().clone();
                    local.for_each(Counted::assert_alive);
                }
            }
        });
        for _ in 0..scaled(500, 3) {
            let threads: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        for at in &shared {
                            let local = at.lock().unwrap().clone();
                            local.with(Counted::assert_alive);
                        }
                    })
                })
                .collect();
            threads
                .into_iter()
                .for_each(|thread| thread.join().unwrap());
        }
        done.store(true, SeqCst);
        dropper.join().unwrap();
        visitor.join().unwrap();
    });
    drop(shared);
    assert_eq!(census.made(), census.died());
}

/// A value that holds its own local strongly goes with its thread, and the local with it.
#[test]
fn a_strong_cycle_ends_with_the_thread() {
    struct Value(Counted, OnceLock<Arc<Local<Value>>>);
    let census = Census::new();
    on_thread(|| {
        let local = Arc::new(Local::new({
            let census = census.clone();
            move || Value(Counted::new(0, &census), OnceLock::new())
        }));
        local.with(|value| {
            value.0.assert_alive();
            assert!(value.1.set(local.clone()).is_ok());
        });
    });
    assert_eq!(census.died(), 1);
}

// Initialisers.

#[test]
fn an_init_that_fails_is_tried_again() {
    let runs = Arc::new(AtomicUsize::new(0));
    let local = Local::try_new({
        let runs = runs.clone();
        move || match runs.fetch_add(1, SeqCst) {
            0 => Err("not yet"),
            1 => panic!("the initialiser panics"),
            n => Ok(n),
        }
    });
    assert_eq!(local.try_with(|n| *n), Err(LocalError::Init("not yet")));
    assert!(local.is_empty() && local.get().is_none());
    assert!(catch_unwind(|| local.try_with(|n| *n)).is_err());
    assert!(local.is_empty() && local.get().is_none());
    assert_eq!(local.try_with(|n| *n), Ok(2));
    assert_eq!(local.try_with(|n| *n), Ok(2));
    assert_eq!(runs.load(SeqCst), 3);
}

#[test]
fn an_init_may_use_other_locals() {
    let base = Arc::new(Local::new(|| 5));
    let derived = Local::new({
        let base = base.clone();
        move || base.with(|n| n + 1)
    });
    assert_eq!(derived.with(|n| *n), 6);
    assert_eq!(base.len(), 1);
}

#[test]
fn eager_makes_the_value_of_the_creating_thread() {
    let local = Local::new(|| thread::current().id()).eager();
    assert_eq!(local.get().as_deref(), Some(&thread::current().id()));
    assert_eq!(on_thread(|| local.get()), None);
    let failing = Local::try_new(|| Err::<u8, _>("no"));
    assert_eq!(failing.try_eager().err(), Some(LocalError::Init("no")));
}

// Values that are taken away while somebody looks at them.

#[test]
fn a_value_that_is_taken_within_with_lives_until_that_returns() {
    let census = Census::new();
    let local = Local::new({
        let census = census.clone();
        move || Counted::new(0, &census)
    });
    local.with(|outer| {
        drop(local.take());
        assert_eq!(census.died(), 0);
        local.with(|inner| {
            assert!(!std::ptr::eq(outer, inner));
            drop(local.replace(Counted::new(0, &census)));
            assert_eq!(census.died(), 0);
        });
        outer.assert_alive();
    });
    assert_eq!((census.made(), census.died()), (3, 2));
    // Nobody is looking now.
    drop(local.take());
    assert_eq!(census.died(), 3);
}

#[test]
fn closures_of_several_locals_keep_what_each_looks_at() {
    let census = Census::new();
    let new = || {
        let census = census.clone();
        Local::new(move || Counted::new(0, &census))
    };
    let (a, b, c) = (new(), new(), new());
    a.with(|first| {
        b.with(|second| {
            drop((a.take(), b.take()));
            first.assert_alive();
            second.assert_alive();
            b.with(|third| {
                drop((a.replace(Counted::new(0, &census)), b.take()));
                third.assert_alive();
            });
            // The third is used no more, but its local is.
            assert_eq!(census.died(), 0);
            // Nobody uses what c has.
            for _ in 0..10 {
                drop(c.replace(Counted::new(0, &census)));
            }
            assert_eq!((census.died(), c.len()), (9, 1));
        });
        assert_eq!(census.died(), 11);
        first.assert_alive();
    });
    assert_eq!(census.died(), 12);
    drop((a, b, c));
    assert_eq!(census.live(), 0);
}

#[test]
fn a_closure_that_panics_leaves_nobody_looking() {
    let local = Local::new(|| 5);
    assert!(catch_unwind(|| local.with(|_| panic!("the closure panics"))).is_err());
    assert_eq!(Arc::into_inner(local.take().unwrap()), Some(5));
}

#[test]
fn what_get_returns_outlives_thread_and_local() {
    let local = Local::new(|| String::from("alpha"));
    let value = on_thread(|| {
        local.with(|_| ());
        local.get().unwrap()
    });
    drop(local);
    assert_eq!(*value, "alpha");
}

// Visits.

/// The thread ends at once, the value when its visitor has returned.
#[test]
fn a_value_that_is_visited_when_its_thread_ends_is_dropped_by_the_visitor() {
    static DIED_ON: Mutex<Option<ThreadId>> = Mutex::new(None);
    struct Value;
    impl Drop for Value {
        fn drop(&mut self) {
            *DIED_ON.lock().unwrap() = Some(thread::current().id());
        }
    }
    let local = Arc::new(Local::new(|| Value));
    let (visited, visiting) = mpsc::channel();
    let thread = thread::spawn({
        let local = local.clone();
        move || {
            local.with(|_| ());
            visiting.recv().unwrap();
        }
    });
    while local.is_empty() {
        thread::yield_now();
    }
    let mut thread = Some(thread);
    local.for_each(|_| {
        visited.send(()).unwrap();
        // It doesn't wait for us.
        thread.take().unwrap().join().unwrap();
        assert!(local.is_empty());
        assert_eq!(*DIED_ON.lock().unwrap(), None);
    });
    assert_eq!(*DIED_ON.lock().unwrap(), Some(thread::current().id()));
}

/// A value that isn't visited at that moment isn't kept for a visit to come.
#[test]
fn a_visit_holds_one_value_at_a_time() {
    let census = Census::new();
    let local = Arc::new(Local::new({
        let census = census.clone();
        move || Counted::new(0, &census)
    }));
    let mut threads: Vec<_> = (0..3)
        .map(|number| {
            let (end, ends) = mpsc::channel::<()>();
            let thread = thread::spawn({
                let local = local.clone();
                move || {
                    local.with(|_| ());
                    let _ = ends.recv();
                }
            });
            while local.len() <= number {
                thread::yield_now();
            }
            (end, thread)
        })
        .collect();
    let mut visits = 0;
    local.for_each(|_| {
        visits += 1;
        for (end, thread) in threads.drain(..) {
            drop(end);
            thread.join().unwrap();
        }
        assert_eq!(census.died(), 2);
    });
    assert_eq!((visits, census.died()), (1, 3));
}

#[test]
fn visitors_may_use_the_local() {
    let local = Local::new(|| AtomicU64::new(1)).eager();
    local.for_each(|value| {
        local.with(|own| assert!(std::ptr::eq(own, value)));
        drop(local.take());
        local.with(|own| own.store(2, SeqCst));
        assert_eq!(value.load(SeqCst), 1);
    });
    assert_eq!(local.fold(0, |sum, n| sum + n.load(SeqCst)), 2);
}

// Retirement.

#[test]
fn no_count_is_lost_when_threads_end() {
    const THREADS: usize = scaled(2_000, 10);
    let hits = Local::new(|| AtomicU64::new(0))
        .retire(0, |total, hits: &AtomicU64| *total += hits.load(SeqCst));
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        // Each value is in the total once: it never falls, and never shows more than there is.
        let watcher = scope.spawn(|| {
            let (mut last, mut looks) = (0, 0);
            while !done.load(SeqCst) {
                let total = hits.total();
                assert!(last <= total && total <= THREADS as u64 * 3);
                (last, looks) = (total, looks + 1);
            }
            looks
        });
        let workers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..THREADS / 2 {
                        on_thread(|| {
                            for _ in 0..3 {
                                hits.with(|hits| hits.fetch_add(1, SeqCst));
                            }
                        });
                    }
                })
            })
            .collect();
        workers
            .into_iter()
            .for_each(|worker| worker.join().unwrap());
        done.store(true, SeqCst);
        assert!(watcher.join().unwrap() > 0);
    });
    assert_eq!(*hits.retired(), THREADS as u64 * 3);
    assert_eq!((hits.total(), hits.len()), (THREADS as u64 * 3, 0));
}

/// One that replaces the value under itself.
#[test]
fn a_merge_that_puts_another_value_there_ends() {
    static LOCAL: OnceLock<Local<u32, u32>> = OnceLock::new();
    let local = LOCAL.get_or_init(|| {
        Local::new(|| 1).retire(0, |total, n| {
            drop(LOCAL.get().unwrap().replace(7));
            *total += n;
        })
    });
    on_thread(|| local.with(|_| ()));
    assert_eq!((*local.retired(), local.len()), (0, 0));
}

/// Destructors that panic wherever a local drops something, each of them once.
#[test]
fn several_destructors_that_panic_at_once_end_no_process() {
    let bomb = || OnDrop(|| panic!("a destructor panics"));
    type Bomb = OnDrop<fn()>;
    #[derive(Default)]
    struct Total {
        _bomb: Option<Bomb>,
    }
    impl Clone for Total {
        fn clone(&self) -> Self {
            Self {
                _bomb: Some(OnDrop(|| panic!("a destructor panics"))),
            }
        }
    }
    let (in_init, in_exit, in_merge) = (bomb(), bomb(), bomb());
    let local = Local::new(move || {
        let _ = &in_init;
        OnDrop((|| panic!("a destructor panics")) as fn())
    })
    .on_thread_exit(move |_| {
        let _ = &in_exit;
    })
    .retire(Total::default(), move |_, _| {
        let _ = &in_merge;
    });
    for _ in 0..2 {
        on_thread(|| local.with(|_| ()));
    }
    let local = local.eager();
    assert!(catch_unwind(AssertUnwindSafe(|| drop(local))).is_err());
}

/// Neither of two ends waits for the other one's merge, and both are counted.
#[test]
fn merges_at_the_same_time_are_both_counted() {
    let meeting = Arc::new(Barrier::new(2));
    let runs = Arc::new(AtomicUsize::new(0));
    let local = Local::new(|| Cell::new(0)).retire(Vec::new(), {
        let (meeting, runs) = (meeting.clone(), runs.clone());
        move |all: &mut Vec<u32>, n: &Cell<u32>| {
            all.push(n.get());
            if runs.fetch_add(1, SeqCst) < 2 {
                meeting.wait();
            }
        }
    });
    thread::scope(|scope| {
        let threads = [1, 2].map(|n| {
            let local = &local;
            scope.spawn(move || local.with(|value| value.set(n)))
        });
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
    });
    let mut all = local.retired().to_vec();
    all.sort_unstable();
    assert_eq!(all, [1, 2]);
    // Whoever came second merged again.
    assert_eq!(runs.load(SeqCst), 3);
}

#[test]
fn a_merge_that_panics_loses_its_own_value_only() {
    let census = Census::new();
    let local = Local::new({
        let census = census.clone();
        move || (Cell::new(0), Counted::new(0, &census))
    })
    .retire(0, |total, (n, _)| {
        assert_ne!(n.get(), 2, "the merge panics");
        *total += n.get();
    });
    for n in 1..=3 {
        on_thread(|| local.with(|value| value.0.set(n)));
    }
    assert_eq!(*local.retired(), 4);
    assert_eq!((census.died(), local.len()), (3, 0));
}

#[test]
fn a_merge_may_use_the_local() {
    static LOCAL: OnceLock<Local<u32, u32>> = OnceLock::new();
    let local = LOCAL.get_or_init(|| {
        Local::new(|| 1).retire(0, |total, n| {
            let local = LOCAL.get().unwrap();
            assert_eq!(local.len(), 1);
            assert_eq!(local.with(|own| *own), 1);
            // What is taken away isn't counted.
            if *local.retired() == 2 {
                drop(local.take());
            }
            *total += n;
        })
    });
    for _ in 0..4 {
        on_thread(|| local.with(|_| ()));
    }
    assert_eq!((*local.retired(), local.len()), (2, 0));
}

// Locks.

/// Whatever user code there is uses the local that called it.
#[test]
fn user_code_runs_without_a_lock() {
    type Values = Local<OnDrop<Action>, u32>;
    static LOCAL: OnceLock<Values> = OnceLock::new();
    fn look() {
        let local = LOCAL.get().unwrap();
        let _ = local.len();
        let _ = local.retired();
        local.for_each(|_| ());
        let _ = local.try_with(|_| ());
    }
    let local = LOCAL.get_or_init(|| {
        Local::new(|| {
            look();
            OnDrop(Box::new(look) as Action)
        })
        .on_thread_exit(|_| look())
        .retire(0, |total, _| {
            look();
            *total += 1;
        })
    });
    let (sender, done) = mpsc::channel();
    let thread = thread::spawn(move || {
        on_thread(|| local.with(|_| look()));
        local.with(|_| ());
        let _ = local.total();
        local.for_each(|_| look());
        drop(local.take());
        drop(local.replace(OnDrop(Box::new(look) as Action)));
        drop(local.replace(OnDrop(Box::new(look) as Action)));
        sender.send(()).unwrap();
    });
    done.recv_timeout(Duration::from_secs(20))
        .expect("it waits for itself");
    thread.join().unwrap();
    assert_eq!(*local.retired(), 2);
}

// Cells.

#[test]
fn a_cell_that_is_borrowed_says_so() {
    let cell = LocalCell::new(|| 5);
    cell.with_borrow(|_| {
        assert_eq!(cell.try_with_borrow(|n| *n), Ok(5));
        assert_eq!(cell.try_with_borrow_mut(|_| ()), Err(LocalError::Reentrant));
        assert_eq!(cell.try_take(), Err(LocalError::Reentrant));
        assert_eq!(cell.try_replace(6), Err((LocalError::Reentrant, 6)));
        assert_eq!(cell.get(), Some(5));
    });
    cell.with_borrow_mut(|_| assert_eq!(cell.try_get(), Err(LocalError::Reentrant)));
    assert_eq!(cell.take(), Some(5));
    assert_eq!(cell.len(), 0);
}

/// The process is ended by a closure of `with`: thread-locals are destroyed with the closure on the stack, and what it
/// uses is still there. Nothing is borrowed twice.
#[test]
#[cfg_attr(miri, ignore = "no processes")]
fn the_process_may_end_within_with() {
    const CHILD: &str = "HAPAX_TEST_EXIT_WITHIN_WITH";
    static GONE: AtomicBool = AtomicBool::new(false);
    struct Value;
    impl Drop for Value {
        fn drop(&mut self) {
            GONE.store(true, SeqCst);
        }
    }
    struct Last;
    impl Drop for Last {
        fn drop(&mut self) {
            if GONE.load(SeqCst) {
                eprintln!("a value was dropped that is in use");
                std::process::abort();
            }
        }
    }
    thread_local! { static LAST: Last = const { Last } }
    if std::env::var_os(CHILD).is_some() {
        LAST.with(|_| ());
        let plain = Local::new(|| Value).retire(0, |total, _| *total += 1);
        let cell = LocalCell::new(|| Value)
            .on_thread_exit(|_| std::process::abort())
            .retire(0, |_, _| std::process::abort());
        plain.with(|_| cell.with_borrow_mut(|_| std::process::exit(0)));
    }
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_process_may_end_within_with", "--nocapture"])
        .env(CHILD, "")
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success(), "{}: {errors}", child.status);
    assert!(!errors.contains("panicked"), "{errors}");
}

/// Also when other locals' closures are on the stack.
#[test]
fn a_cell_hands_its_value_over_whatever_is_on_the_stack() {
    let (a, b, cell) = (Local::new(|| 1), Local::new(|| 2), LocalCell::new(|| 5));
    a.with(|_| {
        b.with(|_| {
            assert_eq!(cell.take(), None);
            assert_eq!(cell.replace(6), None);
            assert_eq!(cell.replace(7), Some(6));
            assert_eq!(cell.take(), Some(7));
            assert_eq!(cell.with_borrow(|n| *n), 5);
        });
    });
}

#[test]
fn cells_of_threads_that_end_are_merged_and_shown() {
    let shown = Arc::new(Mutex::new(Vec::new()));
    let cell = LocalCell::new(Vec::new)
        .on_thread_exit({
            let shown = shown.clone();
            move |words: &mut Vec<u32>| shown.lock().unwrap().push(words.pop())
        })
        .retire(Vec::new(), |all: &mut Vec<u32>, words| {
            all.extend_from_slice(words);
        });
    on_thread(|| cell.with_borrow_mut(|words| words.extend([1, 2])));
    assert_eq!(*cell.retired(), [1]);
    assert_eq!(*shown.lock().unwrap(), [Some(2)]);
}

// Dictionaries.

#[test]
fn defaults_show_where_a_thread_has_set_nothing() {
    let dict = LocalDict::new();
    dict.set_default("x", 1);
    dict.set("x", 2);
    on_thread(|| {
        assert_eq!(dict.get("x").as_deref(), Some(&1));
        dict.set_default("x", 3);
        assert_eq!(dict.get("x").as_deref(), Some(&3));
        assert!(dict.contains("x") && dict.keys().is_empty());
    });
    assert_eq!(dict.get("x").as_deref(), Some(&2));
    assert_eq!(dict.remove("x").as_deref(), Some(&2));
    assert_eq!(dict.get("x").as_deref(), Some(&3));
    assert_eq!(dict.remove_default("x").as_deref(), Some(&3));
    assert!(!dict.contains("x"));
    dict.clear();
    assert_eq!(dict.len(), 1);
}

#[test]
fn defaults_that_threads_set_at_once_are_all_there() {
    let dict = LocalDict::new();
    let names = scaled(200, 5);
    thread::scope(|scope| {
        for thread in 0..2 {
            let dict = &dict;
            scope.spawn(move || (0..names).for_each(|n| dict.set_default(2 * n + thread, n)));
        }
    });
    assert!((0..2 * names).all(|n| dict.get(&n).as_deref() == Some(&(n / 2))));
}

#[test]
fn a_dictionary_can_be_asked_while_its_thread_ends() {
    static DICT: OnceLock<LocalDict<&str, u32>> = OnceLock::new();
    static SEEN: Mutex<Vec<(Option<u32>, bool)>> = Mutex::new(Vec::new());
    struct Late;
    impl Drop for Late {
        fn drop(&mut self) {
            let dict = DICT.get().unwrap();
            let own = dict.get("own").map(|value| *value);
            assert_eq!(dict.contains("own"), own.is_some());
            assert_eq!(dict.keys().len(), usize::from(own.is_some()));
            assert_eq!(dict.snapshot().len(), usize::from(own.is_some()));
            assert_eq!(dict.get("default").as_deref(), Some(&1));
            let set = dict.try_set("own", 3);
            assert!(matches!(
                set,
                Ok(_) | Err((LocalError::Destroyed, "own", 3))
            ));
            assert_eq!(dict.remove("own").is_some(), set.is_ok());
            SEEN.lock().unwrap().push((own, set.is_ok()));
        }
    }
    thread_local! {
        static BEFORE: Late = const { Late };
        static AFTER: Late = const { Late };
    }
    let dict = DICT.get_or_init(LocalDict::new);
    dict.set_default("default", 1);
    on_thread(|| {
        BEFORE.with(|_| ());
        dict.set("own", 2);
        AFTER.with(|_| ());
    });
    let seen = SEEN.lock().unwrap();
    assert_eq!(seen.len(), 2);
    assert!(seen.contains(&(None, false)), "{seen:?}");
    assert!(dict.is_empty());
}

/// A key whose comparison uses the dictionary.
#[test]
fn a_key_that_uses_its_dictionary_is_told_so() {
    thread_local! { static DICT: RefCell<Option<Arc<LocalDict<Key, u32>>>> = const { RefCell::new(None) } }
    #[derive(Clone)]
    struct Key;
    impl Hash for Key {
        fn hash<H: Hasher>(&self, _: &mut H) {}
    }
    impl PartialEq for Key {
        fn eq(&self, _: &Self) -> bool {
            DICT.with_borrow(|dict| {
                if let Some(dict) = dict {
                    let refused = dict.try_set(Self, 7);
                    assert!(matches!(refused, Err((LocalError::Reentrant, Self, 7))));
                }
            });
            true
        }
    }
    impl Eq for Key {}
    let dict = Arc::new(LocalDict::new());
    dict.set(Key, 1);
    DICT.set(Some(dict.clone()));
    assert_eq!(dict.set(Key, 2).as_deref(), Some(&1));
    assert_eq!(dict.get(&Key).as_deref(), Some(&2));
    DICT.take();
}

/// A panic in an initialiser is reported by a hook that asks the dictionary.
#[test]
fn a_dictionary_that_is_being_made_can_be_asked() {
    static DICT: OnceLock<LocalDict<&str, u32>> = OnceLock::new();
    let dict = DICT.get_or_init(|| {
        LocalDict::with_init(|| {
            let dict = DICT.get().unwrap();
            assert_eq!(dict.try_get("x"), Err(LocalError::Reentrant));
            assert!(catch_unwind(AssertUnwindSafe(|| dict.get("x"))).is_err());
            assert_eq!(dict.get_default("x").as_deref(), Some(&1));
            [("x", 2)]
        })
    });
    dict.set_default("x", 1);
    assert_eq!(dict.try_get("x").unwrap().as_deref(), Some(&2));
}

/// Keys and values that go use the dictionary in their destructors.
#[test]
fn what_a_dictionary_drops_may_use_it() {
    #[derive(Clone)]
    struct Noisy(u32, Weak<LocalDict<Noisy, Noisy>>);
    impl Drop for Noisy {
        fn drop(&mut self) {
            if let Some(dict) = self.1.upgrade() {
                assert!(!dict.contains(&Self(9, Weak::new())));
            }
        }
    }
    impl Hash for Noisy {
        fn hash<H: Hasher>(&self, state: &mut H) {
            self.0.hash(state);
        }
    }
    impl PartialEq for Noisy {
        fn eq(&self, other: &Self) -> bool {
            self.0 == other.0
        }
    }
    impl Eq for Noisy {}
    let dict = Arc::new(LocalDict::new());
    let noisy = |n| Noisy(n, Arc::downgrade(&dict));
    dict.set(noisy(1), noisy(2));
    drop(dict.set(noisy(1), noisy(3)));
    drop(dict.remove(&noisy(1)));
    dict.set(noisy(4), noisy(5));
    dict.clear();
    assert!(dict.keys().is_empty());
}
