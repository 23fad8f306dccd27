//! Lock-freedom: one thread is stopped at each shared access of an operation, at every one of its steps. All
//! others still finish theirs, on the same keys and the same table. See `src/freeze.rs`.
//!
//! Only those who want the value of a key that a stopped thread builds wait for it. Those who build something
//! else wait, at most, until the stopped thread has left the builders' registry.

use std::sync::Arc;

use hapax::{Cached, Interned, WeakInterned};
use hapax_shuttle_tests::freeze::{Freezer, stop_everywhere};
use hapax_shuttle_tests::mix::{Held, Stage, assert_gone, look_at};
use hapax_shuttle_tests::{Census, Identity, Key, Life, Value, Values, key, step};
use shuttle::thread::JoinHandle;

/// Keys that the others use; the operations use the first few of them.
const KEYS: usize = 6;

/// A key that the others don't use.
const OWN: usize = 20;

/// Steps of a builder: more than of any critical section.
const BUILDING: usize = 30;

/// An interner and a map with hooks, and something in them.
fn stage() -> Arc<Stage> {
    let stage = Stage::without_waits(KEYS);
    stage.set_hooks();
    // What the process makes at the first use of everything is no part of any operation.
    drop(stage.map.get_or_init(key(KEYS), |_| stage.census.life()));
    drop(stage.values.intern(stage.census.value(key(KEYS))));
    stage.values.flush();
    stage
}

fn intern(stage: &Stage, number: usize) -> Interned<Value> {
    stage.values.intern(stage.census.value(key(number)))
}

fn insert(stage: &Stage, number: usize) -> Cached<Key, Life> {
    stage.map.get_or_insert(key(number), stage.census.life())
}

/// Threads that do everything but wait.
fn crowd(freezer: &Freezer, stage: &Arc<Stage>) -> Vec<JoinHandle<()>> {
    let mixed = |_| {
        let (stage, mut held) = (stage.clone(), Held::default());
        freezer.other(move || (0..8).for_each(|_| held.operate(&stage)))
    };
    let same_keys = {
        let stage = stage.clone();
        move || {
            for number in 0..3 {
                let value = intern(&stage, number);
                value.touch();
                let weak = Interned::downgrade_with(&value, stage.callbacks.register());
                drop(value);
                drop(stage.values.get(&key(number)));
                drop(weak.upgrade());
                let entry = insert(&stage, number);
                entry.touch();
                drop(stage.map.get(&key(number)));
                drop(stage.map.remove(&key(number)));
            }
        }
    };
    let grow = {
        let stage = stage.clone();
        move || {
            let many: Vec<_> = (0..16).map(|number| intern(&stage, number)).collect();
            stage.values.reserve(4);
            assert_eq!(stage.values.get(&key(9)).as_ref(), Some(&many[9]));
            many.iter().for_each(|value| value.touch());
            drop(many);
            stage.values.flush();
        }
    };
    let build = {
        let stage = stage.clone();
        move || {
            let entry = stage
                .map
                .get_or_init(key(KEYS + 1), |_| stage.census.life());
            entry.touch();
        }
    };
    let mut crowd: Vec<_> = (0..2).map(mixed).collect();
    crowd.push(freezer.other(same_keys));
    crowd.push(freezer.other(grow));
    crowd.push(freezer.brief_waiter(build));
    crowd
}

/// Stops an operation everywhere. `prepare` makes what it needs.
fn stop<V: Send + 'static, R: Send + 'static>(
    prepare: fn(&Arc<Stage>) -> V,
    operate: fn(&Stage, V) -> R,
) {
    stop_among(prepare, operate, |_, _| Vec::new());
}

/// As `stop`, with some others beside the crowd.
fn stop_among<V: Send + 'static, R: Send + 'static>(
    prepare: fn(&Arc<Stage>) -> V,
    operate: fn(&Stage, V) -> R,
    others: fn(&Freezer, &Arc<Stage>) -> Vec<JoinHandle<()>>,
) {
    stop_everywhere(move |freezer| {
        let stage = stage();
        let (census, callbacks) = (stage.census.clone(), stage.callbacks.clone());
        let prepared = prepare(&stage);
        let mut crowd = crowd(freezer, &stage);
        crowd.extend(others(freezer, &stage));
        let there = stage.clone();
        let victim = freezer.victim(move || operate(&there, prepared));
        drop(freezer.join(victim, crowd));
        look_at(&stage, &[]);
        drop(stage);
        assert_gone(&census, &callbacks);
    });
}

fn nothing(_: &Arc<Stage>) {}

fn one(stage: &Arc<Stage>) -> Interned<Value> {
    intern(stage, 0)
}

/// A value of which the crowd knows nothing.
fn own(stage: &Arc<Stage>) -> Interned<Value> {
    intern(stage, OWN)
}

#[test]
fn intern_hit() {
    stop(one, |stage, held| (intern(stage, 0), held));
}

#[test]
fn intern_miss() {
    stop(nothing, |stage, ()| intern(stage, OWN));
}

#[test]
fn intern_of_what_comes_and_goes() {
    stop(nothing, |stage, ()| intern(stage, 0));
}

#[test]
fn intern_behind_its_twin() {
    stop(one, |stage, held| (intern(stage, 1), held));
}

#[test]
fn intern_with_a_builder() {
    stop(nothing, |stage, ()| {
        stage.values.intern_with(&key(0), |_| {
            step();
            stage.census.value(key(0))
        })
    });
}

#[test]
fn intern_in_a_session() {
    stop(nothing, |stage, ()| {
        let pinned = stage.values.pin();
        [0, 3].map(|number| pinned.intern(stage.census.value(key(number))))
    });
}

#[test]
fn get() {
    stop(one, |stage, held| {
        (stage.values.get(&key(0)), stage.values.get(&key(4)), held)
    });
}

#[test]
fn clone() {
    stop(own, |_, held| (held.clone(), held));
}

#[test]
fn drop_of_one_of_two() {
    stop(own, |_, held| {
        drop(held.clone());
        held
    });
}

#[test]
fn last_drop() {
    stop(own, |_, held| drop(held));
}

#[test]
fn last_drop_of_what_others_intern() {
    stop(one, |_, held| drop(held));
}

#[test]
fn last_drop_with_callbacks_and_inner_values() {
    stop(
        |stage| {
            let inner = stage.values.intern(stage.census.nested(key(7), one(stage)));
            let outer = stage.values.intern(stage.census.nested(key(8), inner));
            let callback = |_| Interned::downgrade_with(&outer, stage.callbacks.register());
            let weak: Vec<_> = (0..3).map(callback).collect();
            (outer, weak)
        },
        |_, (outer, weak)| {
            drop(outer);
            weak
        },
    );
}

#[test]
fn downgrade() {
    stop(one, |_, held| (Interned::downgrade(&held), held));
}

#[test]
fn downgrade_with_a_callback() {
    stop(one, |stage, held| {
        let weak = Interned::downgrade_with(&held, stage.callbacks.register());
        (weak, held)
    });
}

/// A value, and weak handles of it.
type Weakened = (Interned<Value>, Vec<WeakInterned<Value>>);

fn weakened(stage: &Arc<Stage>) -> Weakened {
    let held = one(stage);
    let callback = |_| Interned::downgrade_with(&held, stage.callbacks.register());
    let weak = (0..4).map(callback).collect();
    (held, weak)
}

#[test]
fn upgrade() {
    stop(weakened, |_, (held, weak)| (weak[0].upgrade(), held));
}

#[test]
fn upgrade_of_what_nobody_holds() {
    stop(
        |stage| weakened(stage).1,
        |_, weak| (weak[0].upgrade(), weak),
    );
}

#[test]
fn cancelling() {
    stop(weakened, |_, (held, weak)| {
        drop(weak);
        held
    });
}

#[test]
fn registering_where_most_were_cancelled() {
    stop(
        |stage| {
            let (held, mut weak) = weakened(stage);
            weak.truncate(1);
            (held, weak)
        },
        |stage, (held, weak)| {
            let new = Interned::downgrade_with(&held, stage.callbacks.register());
            (held, weak, new)
        },
    );
}

#[test]
fn last_weak_drop() {
    stop(
        |stage| Interned::downgrade(&own(stage)),
        |_, weak| drop(weak),
    );
}

#[test]
fn try_unwrap() {
    stop(own, |_, held| Interned::try_unwrap(held).is_ok());
}

#[test]
fn iteration() {
    stop(one, |stage, held| {
        let met: Vec<_> = stage.values.iter().take(3).collect();
        (met, held)
    });
}

#[test]
fn growth() {
    stop(nothing, |stage, ()| {
        stage.values.reserve(7);
        [7, 8, 9].map(|number| intern(stage, number))
    });
}

#[test]
fn retiring_batches() {
    stop(
        |stage| [7, 8, 9, 10, 11].map(|number| intern(stage, number)),
        |stage, handles| {
            drop(handles);
            stage.values.flush();
        },
    );
}

#[test]
fn replacing_the_hook() {
    stop(one, |stage, held| {
        stage.values.on_drop(|value| value.touch());
        drop(held);
        stage.values.clear_on_drop();
    });
}

#[test]
fn remove() {
    stop(
        |stage| insert(stage, 0),
        |stage, entry| (stage.map.remove(&key(0)), entry),
    );
}

#[test]
fn last_drop_of_a_removed_entry() {
    stop(
        |stage| {
            let entry = insert(stage, 0);
            drop(stage.map.remove(&key(0)));
            entry
        },
        |_, entry| drop(entry),
    );
}

#[test]
fn get_or_insert() {
    stop(nothing, |stage, ()| insert(stage, 0));
}

#[test]
fn get_or_insert_with() {
    stop(
        |stage| insert(stage, 3),
        |stage, entry| {
            let build = |_: &Key| {
                step();
                stage.census.life()
            };
            let new = stage.map.get_or_insert_with(key(0), build);
            (new, stage.map.get_or_insert_with(key(3), build), entry)
        },
    );
}

/// Builds a value in many steps.
fn build(stage: &Stage, number: usize) -> Cached<Key, Life> {
    stage.map.get_or_init(key(number), |_| {
        (0..BUILDING).for_each(|_| step());
        stage.census.life()
    })
}

/// Threads that want the values of two keys built.
fn builders(freezer: &Freezer, stage: &Arc<Stage>) -> Vec<JoinHandle<()>> {
    let builder = |number| {
        let stage = stage.clone();
        move || build(&stage, number).touch()
    };
    vec![
        freezer.waiter(builder(0)),
        freezer.waiter(builder(0)),
        freezer.brief_waiter(builder(4)),
    ]
}

#[test]
fn get_or_init() {
    stop_among(nothing, |stage, ()| build(stage, 0), builders);
}

#[test]
fn failing_get_or_init() {
    stop_among(
        nothing,
        |stage, ()| {
            stage
                .map
                .try_get_or_init(key(0), |_| {
                    step();
                    Err(())
                })
                .is_ok()
        },
        builders,
    );
}

/// Stops an operation on a key that another thread is building.
fn stop_while_built<R: Send + 'static>(operate: fn(&Stage, usize) -> R) {
    stop_everywhere(move |freezer| {
        let stage = stage();
        let (census, callbacks) = (stage.census.clone(), stage.callbacks.clone());
        let mut threads = None;
        let entry = stage.map.get_or_init(key(OWN), |_| {
            let crowd = crowd(freezer, &stage);
            let there = stage.clone();
            let victim = freezer.victim(move || operate(&there, OWN));
            threads = Some((victim, crowd));
            freezer.start();
            (0..BUILDING).for_each(|_| step());
            stage.census.life()
        });
        entry.touch();
        let (victim, crowd) = threads.expect("nobody else builds it");
        drop((freezer.join(victim, crowd), entry));
        drop(stage);
        assert_gone(&census, &callbacks);
    });
}

#[test]
fn waiting_for_a_builder() {
    stop_while_built(build);
}

#[test]
fn get_or_insert_of_what_is_built() {
    stop_while_built(insert);
}

#[test]
fn get_and_remove_of_what_is_built() {
    stop_while_built(|stage, number| {
        (
            stage.map.get(&key(number)),
            stage.map.remove(&key(number)),
            stage.map.iter().count(),
        )
    });
}

#[test]
fn thread_exit() {
    shuttle::thread_local! {
        static KEPT: std::cell::RefCell<Vec<Interned<Value>>> = std::cell::RefCell::default();
    }
    stop_everywhere(|freezer| {
        let stage = stage();
        let (census, callbacks) = (stage.census.clone(), stage.callbacks.clone());
        let crowd = crowd(freezer, &stage);
        let handles: Vec<_> = [0, 3, 7, 8, 9].map(|number| intern(&stage, number)).into();
        let victim = freezer.exiting_victim(move || {
            // Before the table's own thread-locals: shuttle ends the oldest first.
            KEPT.with(|kept| kept.borrow_mut().extend(handles));
            drop(stage);
        });
        freezer.join(victim, crowd);
        assert_gone(&census, &callbacks);
    });
}

/// Threads that have nothing but handles, of an interner that somebody else owns. They use another one as well.
fn droppers(
    freezer: &Freezer,
    values: &Values,
    census: &Census,
    other: &Arc<Stage>,
) -> Vec<JoinHandle<()>> {
    let dropper = |_| {
        let made = (0..5).map(|number| values.intern(census.value(key(number))));
        let mut handles: Vec<_> = made.collect();
        let other = other.clone();
        let weak = Interned::downgrade_with(&handles[0], other.callbacks.register());
        freezer.other(move || {
            if let Some(handle) = handles.pop() {
                handle.touch();
                drop(handle.clone());
                drop(handle);
            }
            if let Some(value) = weak.upgrade() {
                value.touch();
            }
            // Others come into being and go, and share the pool of tables.
            let next = Values::with_hasher(Identity);
            next.intern(other.census.value(key(0))).touch();
            intern(&other, 0).touch();
        })
    };
    (0..3).map(dropper).collect()
}

/// An interner for one owner, and its census.
fn owned() -> (Values, Census) {
    let values = Values::with_capacity_and_hasher(16, Identity);
    values.on_drop(|value| value.touch());
    (values, Census::default())
}

/// Stops what needs an interner of its own, while handles are dropped and upgraded.
fn stop_owner(operate: fn(Values) -> Option<Values>) {
    stop_everywhere(move |freezer| {
        let (stage, (values, census)) = (stage(), owned());
        let mut crowd = droppers(freezer, &values, &census, &stage);
        crowd.push({
            let stage = stage.clone();
            freezer.other(move || drop([0, 1, 4].map(|number| intern(&stage, number))))
        });
        let victim = freezer.victim(move || operate(values));
        if let Some(values) = freezer.join(victim, crowd) {
            assert_eq!((values.len(), values.iter().count()), (0, 0));
        }
        assert_eq!(census.alive(), 0, "values were lost");
        let (census, callbacks) = (stage.census.clone(), stage.callbacks.clone());
        drop(stage);
        assert_gone(&census, &callbacks);
    });
}

fn tear_down(values: Values) -> Option<Values> {
    drop(values);
    None
}

fn shrink(mut values: Values) -> Option<Values> {
    values.shrink_to_fit();
    Some(values)
}

#[test]
fn teardown() {
    stop_owner(tear_down);
}

#[test]
fn shrinking() {
    stop_owner(shrink);
}

/// Stops what is done with a handle, while the owner of the interner goes on.
fn stop_under_owner<R: Send + 'static>(
    own: fn(Values) -> Option<Values>,
    operate: fn(Interned<Value>) -> R,
) {
    stop_everywhere(move |freezer| {
        let (stage, (values, census)) = (stage(), owned());
        let mut crowd = droppers(freezer, &values, &census, &stage);
        let handle = values.intern(census.value(key(3).next()));
        let mut values = Some(values);
        crowd.push(freezer.other(move || values = values.take().and_then(own)));
        let victim = freezer.victim(move || operate(handle));
        drop(freezer.join(victim, crowd));
        assert_eq!(census.alive(), 0, "values were lost");
    });
}

#[test]
fn last_drop_before_teardown() {
    stop_under_owner(tear_down, drop);
}

#[test]
fn last_drop_while_shrinking() {
    stop_under_owner(shrink, drop);
}

#[test]
fn try_unwrap_before_teardown() {
    stop_under_owner(tear_down, |handle| Interned::try_unwrap(handle).is_ok());
}

#[test]
fn try_unwrap_while_shrinking() {
    stop_under_owner(shrink, |handle| Interned::try_unwrap(handle).is_ok());
}

#[test]
fn upgrade_before_teardown() {
    stop_under_owner(tear_down, |handle| {
        let weak = Interned::downgrade(&handle);
        drop(handle);
        weak.upgrade()
    });
}
