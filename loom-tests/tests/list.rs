//! The list: neighbours unlinked and inserted, equal hashes, iteration, values that own values.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use hapax::{Interned, Interner};
use hapax_loom_tests::{
    Identity, Key, Ledger, Life, assert_empty, key_at, model, race, race3, values,
};

/// An entry is unlinked while another one is inserted behind it.
///
/// Would catch: an insert behind a node that is already out of the list, which is lost.
#[test]
fn unlink_races_insert_behind() {
    model(3, || {
        let (values, ledger) = values();
        let there = values.clone();
        let a = values.intern(ledger.value(Key::at(1)));
        let new = ledger.value(Key::at(1).next());
        let ((), b) = race(move || drop(a), move || there.intern(new));
        assert_eq!(values.get(&b.key).as_ref(), Some(&b));
        assert_eq!(values.iter().count(), 1);
        drop(b);
        assert_empty(&values, &ledger);
    });
}

/// Two neighbours are unlinked at once.
///
/// Would catch: the second one linked again by the unlinking of the first.
#[test]
fn unlink_races_unlink_of_its_neighbour() {
    model(3, || {
        let (values, ledger) = values();
        let a = values.intern(ledger.value(Key::at(1)));
        let b = values.intern(ledger.value(Key::at(1).next()));
        race(move || drop(a), move || drop(b));
        assert_empty(&values, &ledger);
    });
}

/// Two neighbours are unlinked while a third entry is inserted between them.
///
/// Would catch: an insert that is lost, a dead neighbour that stays linked.
#[test]
fn two_unlinks_race_insert_between() {
    model(2, || {
        let (values, ledger) = values();
        let there = values.clone();
        let a = values.intern(ledger.value(Key::at(1)));
        let c = values.intern(ledger.value(Key::at(1).next().next()));
        let new = ledger.value(Key::at(1).next());
        let ((), (), b) = race3(move || drop(a), move || drop(c), move || there.intern(new));
        assert_eq!(values.get(&b.key).as_ref(), Some(&b));
        assert_eq!(values.iter().count(), 1);
        drop(b);
        assert_empty(&values, &ledger);
    });
}

/// Two neighbours are unlinked while a third entry is inserted behind them.
///
/// Would catch: as above.
#[test]
fn two_unlinks_race_insert_behind() {
    model(1, || {
        let (values, ledger) = values();
        let there = values.clone();
        let a = values.intern(ledger.value(Key::at(1)));
        let b = values.intern(ledger.value(Key::at(1).next()));
        let new = ledger.value(Key::at(1).next().next());
        let ((), (), c) = race3(move || drop(a), move || drop(b), move || there.intern(new));
        assert_eq!(values.get(&c.key).as_ref(), Some(&c));
        assert_eq!(values.iter().count(), 1);
        drop(c);
        assert_empty(&values, &ledger);
    });
}

/// Two threads intern the same value, whose hash another live value has as well.
///
/// Would catch: two instances, because the inserters didn't meet at the end of the run.
#[test]
fn intern_races_intern_beside_collision() {
    model(3, || {
        let (values, ledger) = values();
        let (here, there) = (values.clone(), values.clone());
        let x = values.intern(ledger.value(Key::at(1)));
        let (one, two) = (
            ledger.value(Key::at(1).twin()),
            ledger.value(Key::at(1).twin()),
        );
        let (a, b) = race(move || here.intern(one), move || there.intern(two));
        assert!(Interned::ptr_eq(&a, &b));
        assert_eq!((values.len(), values.iter().count()), (2, 2));
        drop((x, a, b));
        assert_empty(&values, &ledger);
    });
}

/// A value dies while another one with its hash is interned behind it.
///
/// Would catch: a walk that goes on from a node that was unlinked under it; an insert that is lost.
#[test]
fn last_drop_races_intern_of_collision() {
    model(3, || {
        let (values, ledger) = values();
        let there = values.clone();
        let a = values.intern(ledger.value(Key::at(1)));
        let new = ledger.value(Key::at(1).twin());
        let ((), b) = race(move || drop(a), move || there.intern(new));
        b.touch();
        assert_eq!(values.get(&b.key).as_ref(), Some(&b));
        assert_eq!(values.iter().count(), 1);
        drop(b);
        assert_empty(&values, &ledger);
    });
}

/// A value dies and its equal is interned, beside a live value with the same hash, whose handle goes too.
///
/// Would catch: a dead entry removed by its content instead of its address.
#[test]
fn last_drops_race_intern_in_one_run() {
    model(1, || {
        let (values, ledger) = values();
        let there = values.clone();
        let a = values.intern(ledger.value(Key::at(1)));
        let x = values.intern(ledger.value(Key::at(1).twin()));
        let new = ledger.value(Key::at(1));
        let ((), b, ()) = race3(move || drop(a), move || there.intern(new), move || drop(x));
        b.touch();
        assert_eq!(values.get(&b.key).as_ref(), Some(&b));
        assert_eq!(values.iter().count(), 1);
        drop(b);
        assert_empty(&values, &ledger);
    });
}

/// A thread iterates while entries die.
///
/// Would catch: a dead value handed out, a live one left out, an iteration that stands on freed memory.
#[test]
fn iter_races_last_drops() {
    model(2, || {
        let (values, ledger) = values();
        let there = values.clone();
        let a = values.intern(ledger.value(Key::at(1)));
        let b = values.intern(ledger.value(Key::at(2)));
        let c = values.intern(ledger.value(Key::at(3)));
        let c_key = c.key;
        race(
            move || {
                drop(a);
                drop(b);
            },
            move || {
                let met: Vec<_> = there.iter().collect();
                met.iter().for_each(|value| value.touch());
                assert_eq!(met.iter().filter(|value| value.key == c_key).count(), 1);
            },
        );
        drop(c);
        assert_empty(&values, &ledger);
    });
}

/// A thread iterates while an entry comes and another one dies, whose memory is given back.
///
/// Would catch: an iteration that stands on freed memory, or loses what was alive throughout.
#[test]
fn iter_races_insert_and_reclamation() {
    model(2, || {
        let (values, ledger) = values();
        let (here, there) = (values.clone(), values.clone());
        let a = values.intern(ledger.value(Key::at(1)));
        let c = values.intern(ledger.value(Key::at(3)));
        let new = ledger.value(Key::at(2));
        let c_key = c.key;
        race(
            move || {
                for (place, value) in here.iter().enumerate() {
                    value.touch();
                    assert!(place < 3);
                    if value.key == c_key {
                        return;
                    }
                }
                unreachable!("it is alive");
            },
            move || {
                drop(a);
                there.flush();
                drop(there.intern(new));
            },
        );
        drop(c);
        assert_empty(&values, &ledger);
    });
}

/// A value that owns a handle of its own table.
struct Nest {
    key: u64,
    life: Life,
    _inner: Option<Interned<Nest>>,
}

impl Hash for Nest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(key_at(self.key << 60));
    }
}

impl PartialEq for Nest {
    fn eq(&self, other: &Self) -> bool {
        self.life.touch();
        other.life.touch();
        self.key == other.key
    }
}

impl Eq for Nest {}

/// A value that owns a handle dies, while the inner value is interned again.
///
/// Would catch: an inner value that is queued and found, destroyed twice, or never.
#[test]
fn nested_drop_races_intern_of_inner() {
    model(3, || {
        let ledger = Ledger::new();
        let nests = Arc::new(Interner::<Nest, Identity>::with_hasher(Identity));
        let there = nests.clone();
        let inner = nests.intern(Nest {
            key: 2,
            life: ledger.life(),
            _inner: None,
        });
        let outer = nests.intern(Nest {
            key: 1,
            life: ledger.life(),
            _inner: Some(inner),
        });
        let again = Nest {
            key: 2,
            life: ledger.life(),
            _inner: None,
        };
        let ((), inner) = race(
            move || drop(outer),
            move || {
                let inner = there.intern(again);
                inner.life.touch();
                inner
            },
        );
        inner.life.touch();
        assert_eq!((nests.len(), ledger.alive()), (1, 1));
        drop(inner);
        assert_eq!((nests.len(), ledger.alive()), (0, 0));
    });
}

/// A thread looks two keys up side by side, while the other one drops the last handles of both.
///
/// Would catch: a node that is read without a pin, or is answered without a count.
#[test]
fn batch_races_last_drops() {
    model(2, || {
        let (values, ledger) = values();
        let two = [1, 2].map(|key| values.intern(ledger.value(Key::at(key))));
        let wanted = [1, 2].map(|key| ledger.value(Key::at(key)));
        race(
            {
                let values = values.clone();
                move || {
                    for (found, key) in values.intern_all(wanted).zip(1..) {
                        found.touch();
                        assert_eq!(found.key, Key::at(key));
                    }
                }
            },
            move || drop(two),
        );
        assert_empty(&values, &ledger);
    });
}
