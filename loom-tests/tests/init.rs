//! A builder and two inserters of one key.

use hapax::{Cached, WeakMap};
use hapax_loom_tests::{Identity, Key, model, spawn};
use std::sync::Arc;

/// Two threads insert the key that a third is building; each may be anywhere when the other goes on for it.
///
/// Would catch: a builder that was given up and doesn't find what was linked instead; an inserter that gives
/// way to an entry which was given up; an entry that nobody publishes; one that is counted twice.
#[test]
fn build_races_two_inserts() {
    model(3, || {
        let map = Arc::new(WeakMap::<Key, u64, Identity>::with_hasher(Identity));
        let (here, there) = (map.clone(), map.clone());
        let mut others = None;
        let built = map.get_or_init(Key::at(1), |_| {
            others = Some([
                spawn(move || here.get_or_insert(Key::at(1), 20)),
                spawn(move || there.get_or_insert(Key::at(1), 30)),
            ]);
            10
        });
        let [a, b] = others.unwrap().map(|thread| thread.join().unwrap());
        loom::skip_branch();
        assert!(Cached::ptr_eq(&a, &b) && Cached::ptr_eq(&a, &built));
        assert!(Cached::ptr_eq(&a, &map.get(&Key::at(1)).unwrap()));
        assert_eq!(map.len(), 1);
        drop((a, b, built));
        assert_eq!(map.len(), 0);
    });
}
