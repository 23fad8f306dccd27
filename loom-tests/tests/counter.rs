//! The number of entries: whose place is whose.
//!
//! In models the first thread has a place in the table, the second one in a segment; further ones share one.

use std::sync::Arc;

use hapax_loom_tests::{
    Identity, Key, Values, collect, end_thread, meet, model, pinned, quietly, values,
};

/// A thread counts an entry and ends, while another one counts its first.
///
/// Would catch: a place whose next owner doesn't see what its last one wrote, or that has two owners at a time;
/// a segment that is seen before its places are zeroed.
#[test]
fn place_changes_hands() {
    model(2, || {
        let (values, ledger) = values();
        // This thread's place is free again.
        quietly(end_thread);
        let threads = [1, 2].map(|key| {
            let value = ledger.value(Key::at(key));
            let values = values.clone();
            loom::thread::spawn(move || {
                quietly(|| pinned(|| ()));
                let entry = values.intern(value);
                end_thread();
                entry
            })
        });
        let entries = threads.map(|thread| thread.join().unwrap());
        assert_eq!(values.len(), 2);
        loom::skip_branch();
        drop(entries);
    });
}

/// A last handle goes late, while the table of its interner is given up and comes to serve another one.
///
/// Would catch: an entry that is counted out of a table which it wasn't counted into.
#[test]
fn late_drop_races_recycling() {
    model(2, || {
        let (values, ledger) = values();
        let late = values.intern(ledger.value(Key::at(1)));
        let value = ledger.value(Key::at(2));
        let ((fresh, entry), ()) = meet(
            move || {
                drop(values);
                quietly(|| (0..4).for_each(|_| collect()));
                let fresh = Arc::new(Values::with_hasher(Identity));
                let entry = fresh.intern(value);
                (fresh, entry)
            },
            move || drop(late),
        );
        assert_eq!(fresh.len(), 1);
        loom::skip_branch();
        drop(entry);
    });
}
