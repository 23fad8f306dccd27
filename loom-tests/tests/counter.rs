//! The number of entries: whose place is whose.
//!
//! In models the first thread has a place in the table, the second one in a segment; further ones share one.

use hapax_loom_tests::{Key, end_thread, model, quietly, values};

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
                quietly(|| drop(crossbeam_epoch::pin()));
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
