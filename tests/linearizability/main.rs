//! Linearizability: whatever a few threads do with a table at the same time, each of their calls answers as if
//! the calls had come one after the other, each at some moment between its beginning and its end.
//!
//! Random programs of two to four threads run on one interner or map (`program.rs`, `generate.rs`, `player.rs`,
//! `team.rs`). All calls and answers are recorded with a clock that gives real-time order (`history.rs`), and so
//! are the deaths of the values, each of which has a number of its own (`subject.rs`). User code and the allocator
//! pause now and then, so that threads meet in the midst of calls (`pause.rs`, `allocator.rs`). Then a search looks
//! for an order of the calls that the sequential specification allows (`spec.rs`, `steps.rs`, `search.rs`);
//! `rules.rs` has what isn't said about single keys. A history that is refused is reduced, as well as its
//! program, and printed (`explain.rs`, `hunt.rs`). The check itself is tested in `by_hand.rs` and
//! `brute_force.rs`.
//!
//! `HAPAX_HISTORIES` says how many histories of each kind are made, `HAPAX_SEED` repeats the choice of programs,
//! not the interleaving of their threads.

#![allow(
    unreachable_pub,
    reason = "nobody reaches into a test, and its modules are read as if they were a library"
)]

#[path = "../common/mod.rs"]
mod common;

mod allocator;
mod brute_force;
mod by_hand;
mod check;
mod explain;
mod generate;
mod history;
mod hunt;
mod pause;
mod player;
mod program;
mod rules;
mod search;
mod spec;
mod steps;
mod subject;
mod team;

use common::{SeedOnFailure, scaled, seed};
use hunt::hunt;
use program::Kind;

/// How many histories of each kind are made.
fn histories() -> usize {
    match std::env::var("HAPAX_HISTORIES") {
        Ok(histories) => histories.parse().expect("HAPAX_HISTORIES is a number"),
        Err(_) => scaled(10_000, 20),
    }
}

fn play_and_check(kind: Kind) {
    let seed = seed();
    let _seed = SeedOnFailure(seed);
    hunt(kind, seed, histories());
}

#[test]
fn histories_of_interners() {
    play_and_check(Kind::Interner);
}

#[test]
fn histories_of_maps() {
    play_and_check(Kind::Map);
}
