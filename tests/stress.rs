//! Random mixed operations of two to four threads over interner, map, weak handles, callbacks, removal,
//! growth and teardown. What must hold is listed in `common/mixed.rs`.
//!
//! A failure prints the seed. `HAPAX_SEED` repeats the choices of the threads, not their interleaving.

mod common;

use common::mixed::{Sizes, run};
use common::{scaled, seed};

#[test]
fn two_threads_on_few_keys() {
    run(
        seed(),
        Sizes {
            threads: 2,
            lives: scaled(120, 1),
            rounds: scaled(6, 3),
            operations: scaled(400, 40),
            keys: 4,
            burst: 40,
        },
    );
}

#[test]
fn four_threads_on_many_keys_with_growth() {
    run(
        seed(),
        Sizes {
            threads: 4,
            lives: scaled(12, 1),
            rounds: scaled(6, 3),
            operations: scaled(1500, 20),
            keys: 500,
            burst: scaled(400, 10),
        },
    );
}

#[test]
fn three_threads_in_short_lives() {
    run(
        seed(),
        Sizes {
            threads: 3,
            lives: scaled(600, 3),
            rounds: 1,
            operations: scaled(60, 20),
            keys: 10,
            burst: 30,
        },
    );
}
