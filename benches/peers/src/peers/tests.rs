//! Each peer is what it is taken for: equal values have one instance, which is freed with its last handle.

use std::collections::BTreeSet;
use std::sync::{Barrier, Mutex};

use clap::ValueEnum;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use super::Peer;
use crate::keys::{Keys, Source};
use crate::rows::{self, Row};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<std::alloc::System> = &INSTRUMENTED_SYSTEM;

/// One peer at a time, since what is allocated is counted for the whole process.
static TURN: Mutex<()> = Mutex::new(());

const COUNT: usize = 20_000;

fn keys(stream: u64) -> Keys {
    Keys::new(COUNT, Source { round: 0, stream })
}

fn equal_values_have_one_instance<P: Peer>() {
    let peer = P::open();
    let key = String::from("a key that is not inside of it");
    let (first, second) = (peer.intern(&key), peer.intern(&key.clone()));
    assert_eq!(P::text(&first), key);
    assert_eq!(P::address(&first), P::address(&second));
    assert_eq!(P::address(&first), P::address(&first.clone()));
    assert_ne!(P::address(&first), key.as_ptr().addr());
    let other = peer.intern("a key that is not inside of ix");
    assert_ne!(P::address(&first), P::address(&other));
}

fn a_value_lives_as_long_as_a_handle<P: Peer>() {
    let peer = P::open();
    let keys = keys(1);
    let there = P::len();
    let first = peer.intern(keys.get(0));
    let place = P::address(&first);
    let last = first.clone();
    drop(first);
    drop(peer.intern(keys.get(0)));
    assert_eq!(P::text(&last), keys.get(0));
    assert_eq!(place, P::address(&peer.intern(keys.get(0))));
    assert_eq!(P::len(), there.map(|there| there + 1));
    drop(last);
    assert_eq!(P::len(), there);
}

fn what_nobody_holds_is_freed<P: Peer>() {
    let peer = P::open();
    let keys = keys(2);
    // What is allocated once: the table, the collector's lists.
    for key in 0..COUNT / 4 {
        peer.intern(keys.get(key));
    }
    let region = Region::new(ALLOCATOR);
    for key in COUNT / 4..COUNT {
        peer.intern(keys.get(key));
    }
    let change = region.change();
    let kept = change.bytes_allocated as isize - change.bytes_deallocated as isize;
    let all = (COUNT - COUNT / 4) as isize * 30;
    assert!(kept < all / 4, "{kept} bytes of {all} are still there");
    assert!(P::len().is_none_or(|left| left == 0), "{:?}", P::len());
}

/// Two threads intern the same values, in the same order at the same time, so that they meet.
fn threads_share_instances<P: Peer>() {
    let barrier = Barrier::new(2);
    let keys = keys(3);
    let both = || {
        let peer = P::open();
        barrier.wait();
        let held: Vec<_> = (0..COUNT).map(|key| peer.intern(keys.get(key))).collect();
        barrier.wait();
        let places: Vec<_> = held.iter().map(P::address).collect();
        // Nobody lets go until both have looked.
        barrier.wait();
        places
    };
    let (first, second) = std::thread::scope(|scope| {
        let other = scope.spawn(both);
        (both(), other.join().expect("the other thread failed"))
    });
    assert_eq!(first, second);
    assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), COUNT);
    assert!(P::len().is_none_or(|left| left == 0), "{:?}", P::len());
}

/// A hundredth of each row, after which nothing is left.
fn each_row_is_measured<P: Peer>() {
    for &row in Row::value_variants() {
        for threads in (1..=2).filter(|&threads| P::takes_part(row, threads)) {
            let figures = rows::sample::<P>(row, threads, row.operations() / 100, 0);
            assert!(figures.contains_key(&row));
            assert!(figures.values().all(|&nanoseconds| nanoseconds > 0.0));
            assert!(
                P::len().is_none_or(|left| left == 0),
                "{row:?} leaves {:?}",
                P::len()
            );
        }
    }
}

macro_rules! check {
    ($($name:ident: $peer:ty, $threads:literal;)*) => {$(
        #[test]
        fn $name() {
            let _turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            equal_values_have_one_instance::<$peer>();
            a_value_lives_as_long_as_a_handle::<$peer>();
            what_nobody_holds_is_freed::<$peer>();
            if $threads > 1 {
                threads_share_instances::<$peer>();
            }
            each_row_is_measured::<$peer>();
        }
    )*};
}

/// What is immortal has one instance as well.
#[test]
fn hapax_immortal() {
    use super::hapax_fronts::Immortal;

    let _turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let key = keys(4);
    let first = Immortal::open().hold(key.get(0));
    let place = Immortal::address(&first);
    drop(first);
    assert_eq!(
        place,
        Immortal::address(&Immortal::open().intern(key.get(0)))
    );
    each_row_is_measured::<Immortal>();
}

check! {
    hapax_local: super::hapax_fronts::Local, 2;
    hapax_batch: super::hapax_fronts::Batch, 2;
    hapax: super::hapax::Hapax, 2;
    internment: super::internment::Internment, 2;
    rust_analyzer: super::rust_analyzer::RustAnalyzer, 2;
    string_cache: super::string_cache::StringCache, 2;
    flyweights: super::flyweights::Flyweights, 2;
    dashmap: super::dashmap::Dashmap, 2;
    scc_map: super::scc_map::SccMap, 2;
    scc_index: super::scc_index::SccIndex, 2;
    papaya: super::papaya::Papaya, 2;
    single_thread: super::single_thread::SingleThread, 1;
}
