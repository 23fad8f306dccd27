//! Growth and shrinking: levels, bucket words, early stops.
//!
//! In models a table begins with two buckets, whose words stand before the sixteenths 0 and 8. Its third entry
//! makes it four: then words for 4 and 12 are linked, the first of them by that very insert.

use std::sync::Arc;

use hapax::Interned;
use hapax_loom_tests::{
    Identity, Key, Ledger, Value, Values, assert_empty, meet, model, pinned, race, values,
};

/// A table with entries in sixteenths 1 and 5 that grows with its next entry. The word for 4 will come
/// between them.
fn about_to_grow() -> (Arc<Values>, Ledger, Interned<Value>, Interned<Value>) {
    let (values, ledger) = values();
    let low = values.intern(ledger.value(Key::at(1)));
    let high = values.intern(ledger.value(Key::at(5)));
    (values, ledger, low, high)
}

/// The first value comes to an interner, and its table with it, while a pinned thread looks the value up.
///
/// Would catch: a table that is seen before it is made.
#[test]
fn making_of_table_races_pinned_get() {
    model(3, || {
        let (values, ledger) = values();
        let there = values.clone();
        let new = ledger.value(Key::at(13));
        let (a, found) = race(
            || values.intern(new),
            move || pinned(|| there.get(&Key::at(13))),
        );
        assert!(found.is_none_or(|found| found == a));
        drop(a);
        assert_empty(&values, &ledger);
    });
}

/// A value is looked up while the table grows and a word is linked in front of it.
///
/// Would catch: a look-up that stops early at a word which is new, or which it reached from an ancestor.
#[test]
fn growth_races_get() {
    model(3, || {
        let (values, ledger, low, high) = about_to_grow();
        let (here, there) = (values.clone(), values.clone());
        let new = ledger.value(Key::at(2));
        let (c, found) = race(move || here.intern(new), move || there.get(&Key::at(5)));
        assert_eq!(found.as_ref(), Some(&high));
        drop((low, high, c, found));
        assert_empty(&values, &ledger);
    });
}

/// A value comes after the table has grown, and a word is linked in front of it, while a pinned thread looks it
/// up.
///
/// Would catch: a walk that begins at a word and doesn't see what follows.
#[test]
fn splice_races_pinned_get_behind_its_word() {
    model(3, || {
        let (values, ledger, low, high) = about_to_grow();
        let (here, there) = (values.clone(), values.clone());
        let (new, next) = (ledger.value(Key::at(2)), ledger.value(Key::at(13)));
        let (added, found) = race(
            move || [here.intern(new), here.intern(next)],
            move || pinned(|| there.get(&Key::at(13))),
        );
        assert!(found.is_none_or(|found| found == added[1]));
        drop((low, high, added));
        assert_empty(&values, &ledger);
    });
}

/// A value is interned again while the table grows and a word is linked in front of it.
///
/// Would catch: a second instance of a live value.
#[test]
fn growth_races_intern_of_live_value() {
    model(3, || {
        let (values, ledger, low, high) = about_to_grow();
        let (here, there) = (values.clone(), values.clone());
        let new = ledger.value(Key::at(2));
        let again = ledger.value(Key::at(5));
        let (c, found) = race(move || here.intern(new), move || there.intern(again));
        assert!(Interned::ptr_eq(&found, &high));
        assert_eq!(values.len(), 3);
        drop((low, high, c, found));
        assert_empty(&values, &ledger);
    });
}

/// A value dies while the table grows and a word is linked in front of it.
///
/// Would catch: a closer's walk that stops early, so that the node is freed while it is linked.
#[test]
fn growth_races_last_drop() {
    model(3, || {
        let (values, ledger, low, high) = about_to_grow();
        let here = values.clone();
        let new = ledger.value(Key::at(2));
        let (c, ()) = race(move || here.intern(new), move || drop(high));
        assert_eq!((values.len(), ledger.alive()), (2, 2));
        drop((low, c));
        assert_empty(&values, &ledger);
    });
}

/// An entry is inserted right behind a word that is being linked.
///
/// Would catch: a walk that begins at a word which isn't linked yet, and an insert there.
#[test]
fn splice_races_insert_behind_its_word() {
    model(3, || {
        let (values, ledger, low, high) = about_to_grow();
        let (here, there) = (values.clone(), values.clone());
        let (one, two) = (ledger.value(Key::at(2)), ledger.value(Key::at(4)));
        let (c, d) = race(move || here.intern(one), move || there.intern(two));
        for entry in [&low, &high, &c, &d] {
            assert_eq!(values.get(&entry.key).as_ref(), Some(entry));
        }
        assert_eq!(values.iter().count(), 4);
        drop((low, high, c, d));
        assert_empty(&values, &ledger);
    });
}

/// An entry is inserted right behind a word that is linked and about to be opened.
///
/// Would catch: an insert that the opening of the word overwrites.
#[test]
fn opening_of_word_races_insert_behind_it() {
    model(1, || {
        let (values, ledger, low, high) = about_to_grow();
        let (here, there) = (values.clone(), values.clone());
        let (one, two) = (ledger.value(Key::at(2)), ledger.value(Key::at(4)));
        let (c, d) = meet(move || here.intern(one), move || there.intern(two));
        assert_eq!(values.get(&d.key).as_ref(), Some(&d));
        loom::skip_branch();
        drop((low, high, c, d));
        assert_empty(&values, &ledger);
    });
}

/// An entry is inserted right in front of a word that is being linked.
///
/// Would catch: an insert, or a word, that is lost.
#[test]
fn splice_races_insert_before_its_word() {
    model(3, || {
        let (values, ledger, low, high) = about_to_grow();
        let (here, there) = (values.clone(), values.clone());
        let (one, two) = (ledger.value(Key::at(2)), ledger.value(Key::at(3)));
        let (c, d) = race(move || here.intern(one), move || there.intern(two));
        for entry in [&low, &high, &c, &d] {
            assert_eq!(values.get(&entry.key).as_ref(), Some(entry));
        }
        assert_eq!(values.iter().count(), 4);
        drop((low, high, c, d));
        assert_empty(&values, &ledger);
    });
}

/// The entry in front of a word dies while the word is linked.
///
/// Would catch: a word linked behind a node that is already out of the list.
#[test]
fn splice_races_unlink_before_its_word() {
    model(3, || {
        let (values, ledger, low, high) = about_to_grow();
        let here = values.clone();
        let new = ledger.value(Key::at(0));
        let (c, ()) = race(move || here.intern(new), move || drop(low));
        let again = values.intern(ledger.value(Key::at(4)));
        assert_eq!(values.get(&Key::at(5)).as_ref(), Some(&high));
        assert_eq!(values.iter().count(), 3);
        drop((high, c, again));
        assert_empty(&values, &ledger);
    });
}

/// A word is linked, while another thread inserts an entry behind it and drops another one there.
///
/// Would catch: a node linked again by the linking of the word; a search that doesn't pass the new word.
#[test]
fn splice_races_insert_and_last_drop() {
    model(2, || {
        let (values, ledger, low, high) = about_to_grow();
        let (here, there) = (values.clone(), values.clone());
        let (one, two) = (ledger.value(Key::at(2)), ledger.value(Key::at(4)));
        let (c, d) = race(
            move || here.intern(one),
            move || {
                let d = there.intern(two);
                drop(high);
                d
            },
        );
        for entry in [&low, &c, &d] {
            assert_eq!(values.get(&entry.key).as_ref(), Some(entry));
        }
        assert_eq!((values.iter().count(), ledger.alive()), (3, 3));
        drop((low, c, d));
        assert_empty(&values, &ledger);
    });
}

/// Two inserts find the table too full.
///
/// Would catch: a level without its segment, a segment that is leaked, or freed while it is used.
#[test]
fn growth_races_growth() {
    model(2, || {
        let (values, ledger, low, high) = about_to_grow();
        let (here, there) = (values.clone(), values.clone());
        let (one, two) = (ledger.value(Key::at(9)), ledger.value(Key::at(13)));
        let (c, d) = race(move || here.intern(one), move || there.intern(two));
        for entry in [&low, &high, &c, &d] {
            assert_eq!(values.get(&entry.key).as_ref(), Some(entry));
        }
        drop((low, high, c, d));
        assert_empty(&values, &ledger);
    });
}

/// A table with four linked words and one entry, behind the word for 4 that it can do without.
fn about_to_shrink(key: Key) -> (Values, Ledger, Interned<Value>) {
    let ledger = Ledger::new();
    let values = Values::with_capacity_and_hasher(4, Identity);
    let a = values.intern(ledger.value(key));
    (values, ledger, a)
}

/// The table shrinks while the last handle of its entry goes, which lies behind the first word that is unlinked.
///
/// Would catch: a closer's walk that stops at a word about to be unlinked, so that the node is freed while it is
/// linked; a word read after its segment was freed.
#[test]
fn shrink_races_last_drop() {
    shrink_races_last_drop_of(Key::at(5));
}

/// As before, with an entry behind the last word that is unlinked.
///
/// Would catch: as above; a level that is seen before all words beyond it are gone.
#[test]
fn shrink_races_last_drop_behind_last_word() {
    shrink_races_last_drop_of(Key::at(13));
}

fn shrink_races_last_drop_of(key: Key) {
    model(2, move || {
        let (mut values, ledger, a) = about_to_shrink(key);
        let (values, ()) = race(
            move || {
                values.shrink_to_fit();
                values
            },
            move || drop(a),
        );
        assert_empty(&values, &ledger);
    });
}

/// As before; the entry in front of the words dies as well.
///
/// Would catch: a word linked again by the unlinking of what stands before it.
#[test]
fn shrink_races_unlink_before_its_word() {
    model(2, || {
        let (mut values, ledger, a) = about_to_shrink(Key::at(5));
        let b = values.intern(ledger.value(Key::at(3)));
        let (values, ()) = race(
            move || {
                values.shrink_to_fit();
                values
            },
            move || drop(b),
        );
        assert_eq!(values.get(&Key::at(5)).as_ref(), Some(&a));
        drop(a);
        assert_empty(&values, &ledger);
    });
}
