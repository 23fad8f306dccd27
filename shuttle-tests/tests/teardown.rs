//! The end of an interner or map, while its handles live on.

use std::cell::RefCell;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use hapax::{Interned, Interner};
use hapax_shuttle_tests::mix::{Callbacks, assert_gone};
use hapax_shuttle_tests::{
    Census, Identity, Key, Life, Map, Value, Values, below, chance, explore, key, together,
};

/// What a thread still has when the interner goes.
type Left = Vec<Interned<Value>>;

/// The interner goes, and its table serves the next one, while threads drop handles, upgrade weak ones, and hold
/// values that own others.
///
/// Would catch: a value that nobody closes, because its table is gone; one that is revived after it was closed; a
/// late drop that takes the next owner's value for its own; a callback that is lost.
#[test]
fn an_interner_goes_before_its_handles() {
    explore(24_000, || {
        let census = Census::default();
        let callbacks = Arc::<Callbacks>::default();
        let values = Values::with_hasher(Identity);
        if chance(2) {
            values.on_drop(|value| value.touch());
        }
        let mut handles: Left = (0..4)
            .map(|n| values.intern(census.value(key(n))))
            .collect();
        handles.push(values.intern(census.nested(key(5), handles[0].clone())));
        let drop_all = |_| {
            let mut mine: Left = (0..3)
                .map(|_| handles[below(handles.len())].clone())
                .collect();
            let weak = Interned::downgrade_with(&mine[0], callbacks.register());
            move || {
                let next = Values::with_hasher(Identity);
                while !mine.is_empty() {
                    mine.swap_remove(below(mine.len())).touch();
                    if chance(3) {
                        next.flush();
                    }
                    if chance(3) {
                        mine.extend(weak.upgrade().filter(|_| chance(2)));
                    }
                }
                if let Some(value) = weak.upgrade() {
                    value.touch();
                }
            }
        };
        let threads: Vec<_> = (0..4).map(drop_all).map(shuttle::thread::spawn).collect();
        drop(handles);
        drop(values);
        // The table is given back after a grace period; the values' keys are the same.
        let next = Values::with_hasher(Identity);
        next.flush();
        let value = next.intern(census.value(key(below(4))));
        value.touch();
        assert_eq!(next.get(&value.key).as_ref(), Some(&value));
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!((next.len(), census.alive()), (1, 1));
        drop((value, next));
        assert_gone(&census, &callbacks);
    });
}

/// The interner is gone. Its last handles go while weak ones are upgraded.
///
/// Would catch: an upgrade that counts first and looks afterwards, which another one takes for a handle.
#[test]
fn weak_handles_outlive_their_interner() {
    explore(16_000, || {
        let census = Census::default();
        let callbacks = Arc::<Callbacks>::default();
        let values = Values::with_hasher(Identity);
        let strong = values.intern(census.value(key(0)));
        let weak = Interned::downgrade_with(&strong, callbacks.register());
        drop(values);
        let upgrades = vec![weak; 4].into_iter().map(|weak| {
            shuttle::thread::spawn(move || {
                let found: Vec<_> = (0..3).filter_map(|_| weak.upgrade()).collect();
                found.iter().for_each(|value| value.touch());
            })
        });
        let upgrades: Vec<_> = upgrades.collect();
        together(
            vec![strong; 2]
                .into_iter()
                .map(|strong| move || drop(strong)),
        );
        for thread in upgrades {
            thread.join().unwrap();
        }
        assert_gone(&census, &callbacks);
    });
}

/// Maps of several threads go while entries are removed, built and dropped.
#[test]
fn maps_go_before_their_entries() {
    explore(16_000, || {
        let census = Census::default();
        together((0..4).map(|_| {
            let census = census.clone();
            move || {
                let map = Arc::new(Map::with_hasher(Identity));
                let one = map.get_or_insert(key(0), census.life());
                let two = map.get_or_init(key(1), |_| census.life());
                let (there, again) = (map.clone(), one.clone());
                let other = shuttle::thread::spawn(move || {
                    drop(there.remove(&key(below(2))));
                    drop((there, again));
                });
                if chance(2) {
                    drop((one, map, two));
                } else {
                    drop((map, two, one));
                }
                other.join().unwrap();
            }
        }));
        assert_eq!(census.alive(), 0);
    });
}

/// A value that keeps the interner it is in.
struct Owner {
    key: Key,
    life: Life,
    _interner: RefCell<Option<Arc<Interner<Owner, Identity>>>>,
}

// SAFETY: the cell is filled before the value is shared.
unsafe impl Sync for Owner {}

impl Hash for Owner {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}

impl PartialEq for Owner {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for Owner {}

/// Destructors drop the interner that held their values, while other values die.
///
/// Would catch: a closer that touches the table after it began to destroy.
#[test]
fn destructors_drop_their_interner() {
    explore(16_000, || {
        let census = Census::default();
        let owners = Arc::new(Interner::<Owner, Identity>::with_hasher(Identity));
        let owner = |number, keeps: bool| Owner {
            key: key(number),
            life: census.life(),
            _interner: RefCell::new(keeps.then(|| owners.clone())),
        };
        let handles = [0, 1, 2, 3].map(|number| owners.intern(owner(number, number < 2)));
        drop(owners);
        together(handles.map(|handle| {
            move || {
                handle.life.touch();
                drop(handle);
            }
        }));
        assert_eq!(census.alive(), 0);
    });
}
