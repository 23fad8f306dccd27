//! The end of an interner, while its handles live on.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use hapax::{Interned, Interner};
use hapax_loom_tests::{
    Identity, Key, Ledger, Life, Value, Values, collect, end_thread, key_at, model, pinned,
    quietly, race, race3, spawn, values,
};

fn one_value() -> (Values, Ledger, Interned<Value>) {
    let ledger = Ledger::new();
    let values = Values::with_hasher(Identity);
    let a = values.intern(ledger.value(Key::at(1)));
    (values, ledger, a)
}

/// The interner goes while the last handle of a value goes.
///
/// Would catch: a value that isn't closed, because its table is gone; a destructor that isn't ordered after the
/// last use.
#[test]
fn teardown_races_last_drop() {
    model(2, || {
        let (values, ledger, a) = one_value();
        race(
            move || drop(values),
            move || {
                a.touch();
                drop(a);
            },
        );
        assert_eq!(ledger.alive(), 0);
    });
}

/// The interner goes while two handles of a value go.
///
/// Would catch: as above; a count that reaches zero twice.
#[test]
fn teardown_races_two_drops() {
    model(1, || {
        let (values, ledger, a) = one_value();
        let b = a.clone();
        race3(
            move || drop(values),
            move || {
                a.touch();
                drop(a);
            },
            move || {
                b.touch();
                drop(b);
            },
        );
        assert_eq!(ledger.alive(), 0);
    });
}

/// The interner goes while two neighbours die.
///
/// Would catch: a dropper's unlinking that puts back what the teardown has taken out.
#[test]
fn teardown_races_drops_of_neighbours() {
    model(1, || {
        let (values, ledger, a) = one_value();
        let b = values.intern(ledger.value(Key::at(1).next()));
        race3(move || drop(values), move || drop(a), move || drop(b));
        assert_eq!(ledger.alive(), 0);
    });
}

/// The interner goes while one value dies, whose memory is given back at once, and another one's dropper is
/// on its way through the list.
///
/// Would catch: a node that is retired while it is still linked.
#[test]
fn teardown_races_reclamation_and_walk() {
    model(2, || {
        let ledger = Ledger::new();
        let values = Values::with_hasher(Identity);
        let a = values.intern(ledger.value(Key::at(1)));
        let b = values.intern(ledger.value(Key::at(2)));
        let began = Arc::new(loom::sync::Notify::new());
        let begin = began.clone();
        let teardown = spawn(move || {
            begin.notify();
            drop(values);
            quietly(collect);
        });
        // What this thread retires is older than what the teardown's pin protects.
        began.wait();
        drop(a);
        quietly(|| {
            end_thread();
            collect();
        });
        let walk = spawn(move || drop(b));
        teardown.join().unwrap();
        walk.join().unwrap();
        loom::skip_branch();
        assert_eq!(ledger.alive(), 0);
    });
}

/// The interner goes while the last handle goes and a weak one is upgraded.
///
/// Would catch: a value revived after its closer has closed it; a closer that misses one of revival and teardown.
#[test]
fn teardown_races_last_drop_and_upgrade() {
    model(1, || {
        let (values, ledger, a) = one_value();
        let weak = Interned::downgrade(&a);
        let ((), (), strong) = race3(
            move || drop(values),
            move || drop(a),
            move || {
                let strong = weak.upgrade();
                if let Some(strong) = &strong {
                    strong.touch();
                }
                strong
            },
        );
        assert_eq!(ledger.alive(), strong.iter().count());
        drop(strong);
        assert_eq!(ledger.alive(), 0);
    });
}

/// The interner is gone. The last handle goes while two weak ones are upgraded.
///
/// Would catch: a value that two close, or none, because there is no table to agree by.
#[test]
fn detached_last_drop_races_two_upgrades() {
    model(2, || {
        let (values, ledger, a) = one_value();
        let weak = Interned::downgrade(&a);
        let weak2 = weak.clone();
        drop(values);
        let ((), one, two) = race3(
            move || drop(a),
            move || weak.upgrade().inspect(|strong| strong.touch()),
            move || weak2.upgrade().inspect(|strong| strong.touch()),
        );
        assert_eq!(ledger.alive(), usize::from(one.is_some() || two.is_some()));
        for strong in [&one, &two].into_iter().flatten() {
            strong.touch();
        }
        drop((one, two));
        assert_eq!(ledger.alive(), 0);
    });
}

/// Another type's value.
struct Other {
    key: Key,
    life: Life,
}

impl Other {
    fn of(ledger: &Ledger) -> Self {
        Self {
            key: Key::at(1),
            life: ledger.life(),
        }
    }
}

/// An interner that gets the table of another one, which goes.
fn next_owner(former: Values) -> Interner<Other, Identity> {
    drop(former);
    let next = Interner::with_hasher(Identity);
    next.flush();
    next
}

impl Hash for Other {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}

impl PartialEq for Other {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for Other {}

impl Drop for Other {
    fn drop(&mut self) {
        self.life.touch();
        OTHERS.with(|others| others.set(others.get() + 1));
    }
}

loom::thread_local! {
    /// Destroyed by this thread.
    static OTHERS: std::cell::Cell<usize> = std::cell::Cell::new(0);
}

/// A last drop sleeps after its decrement. Meanwhile its interner goes; another one, of another type, gets
/// the same header and puts a value with the same key there, whose last drop is under way as well.
///
/// Would catch: a late drop that looks for its node among the new owner's, or takes it out of their number.
#[test]
fn late_drop_races_next_owner_of_the_table() {
    static LATE: AtomicUsize = AtomicUsize::new(0);
    model(2, || {
        let (values, ledger, a) = one_value();
        let life = ledger.clone();
        let others = Ledger::new();
        let new = Other::of(&others);
        race(
            move || drop(a),
            move || {
                let values = next_owner(values);
                let b = values.intern(new);
                LATE.fetch_add(life.alive(), Relaxed);
                assert_eq!(values.len(), 1);
                drop(b);
                assert_eq!(values.len(), 0);
                // Nobody else has a handle of it.
                assert_eq!(OTHERS.with(|others| others.get()), 1);
            },
        );
        assert_eq!((ledger.alive(), others.alive()), (0, 0));
    });
    assert_ne!(LATE.load(Relaxed), 0, "no drop was late");
}

/// As before, and the new owner has a drop hook, which takes what it is shown for its own type.
///
/// Would catch: a late drop that shows its value to the new owner's hook.
#[test]
fn late_drop_races_hook_of_the_next_owner() {
    static LATE: AtomicUsize = AtomicUsize::new(0);
    model(2, || {
        let (values, ledger, a) = one_value();
        let life = ledger.clone();
        race(
            move || drop(a),
            move || {
                let values = next_owner(values);
                values.on_drop(|_| unreachable!("nothing of the new owner's has died"));
                LATE.fetch_add(life.alive(), Relaxed);
            },
        );
        assert_eq!(ledger.alive(), 0);
    });
    assert_ne!(LATE.load(Relaxed), 0, "no drop was late");
}

/// The only handle takes its value out, while its interner goes and another one gets the table.
///
/// Would catch: a value that is moved out of a table which has another owner by then.
#[test]
fn try_unwrap_races_next_owner_of_the_table() {
    model(2, || {
        let (values, ledger, a) = one_value();
        let others = Ledger::new();
        let new = Other::of(&others);
        race(
            move || drop(Interned::try_unwrap(a)),
            move || {
                let values = next_owner(values);
                let b = values.intern(new);
                assert_eq!(values.len(), 1);
                drop(b);
                assert_eq!(values.len(), 0);
            },
        );
        assert_eq!((ledger.alive(), others.alive()), (0, 0));
    });
}

/// A table comes back from its former owner while another interner asks for one.
///
/// Would catch: a table that is taken before it is reset; a new owner that sees an old generation, so that no
/// last drop finds its way back.
#[test]
fn recycling_races_next_owner() {
    model(2, || {
        let used = used_tables(1);
        race(move || recycle(used), || pinned(use_a_table));
    });
}

/// As before, with two tables and two that ask.
///
/// Would catch: as above; one table with two owners.
#[test]
fn recycling_races_two_next_owners() {
    model(2, || {
        let used = used_tables(2);
        race(
            move || {
                recycle(used);
                use_a_table();
            },
            || pinned(use_a_table),
        );
    });
}

/// Tables with four buckets each, which don't all fit into the header.
fn used_tables(number: usize) -> Vec<Values> {
    (0..number)
        .map(|_| Values::with_capacity_and_hasher(4, Identity))
        .collect()
}

/// Gives the tables up, and carries the collector on until they are in the pool.
fn recycle(used: Vec<Values>) {
    quietly(|| drop(used));
    collect();
}

/// Takes a table from the pool, or a new one, and uses it.
fn use_a_table() {
    let (values, ledger) = values();
    let a = values.intern(ledger.value(Key::at(13)));
    assert_eq!(values.get(&Key::at(13)).as_ref(), Some(&a));
    drop(a);
    assert_eq!(ledger.alive(), 0, "a value was leaked");
}

/// A value's destructor drops the interner that held it, while another value's last handle goes.
///
/// Would catch: a closer that touches the table after it began to destroy.
#[test]
fn destructor_that_drops_its_interner_races_last_drop() {
    struct Owner {
        life: Life,
        key: u64,
        _interner: std::cell::RefCell<Option<Arc<Interner<Owner, Identity>>>>,
    }
    // SAFETY: the cell is filled before the value is shared.
    unsafe impl Sync for Owner {}
    impl Hash for Owner {
        fn hash<H: Hasher>(&self, state: &mut H) {
            state.write_u64(key_at(self.key));
        }
    }
    impl PartialEq for Owner {
        fn eq(&self, other: &Self) -> bool {
            self.key == other.key
        }
    }
    impl Eq for Owner {}

    model(2, || {
        let ledger = Ledger::new();
        let owners = Arc::new(Interner::<Owner, Identity>::with_hasher(Identity));
        let owner = |key, interner| Owner {
            life: ledger.life(),
            key,
            _interner: std::cell::RefCell::new(interner),
        };
        let a = owners.intern(owner(1, Some(owners.clone())));
        let b = owners.intern(owner(2, None));
        drop(owners);
        race(
            move || drop(a),
            move || {
                b.life.touch();
                drop(b);
            },
        );
        assert_eq!(ledger.alive(), 0);
    });
}
