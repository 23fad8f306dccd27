//! What the threads do, and how often.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::counted::Counted;
use crate::hand::Hand;
use crate::kinds::Term;
use crate::{interners, lives, maps};

/// Something that a thread does again and again.
pub(crate) struct Operation {
    pub(crate) name: &'static str,
    /// How often, compared with the others. 0: it takes long, and is done once in some seconds.
    weight: usize,
    run: fn(&mut Hand),
}

const fn often(name: &'static str, weight: usize, run: fn(&mut Hand)) -> Operation {
    Operation { name, weight, run }
}

const fn seldom(name: &'static str, run: fn(&mut Hand)) -> Operation {
    often(name, 0, run)
}

/// An operation on values of any kind.
macro_rules! any {
    ($($operation:ident)::+) => {
        |hand| match hand.rng.below(6) {
            0 => $($operation)::+::<str>(hand),
            1 => $($operation)::+::<Path>(hand),
            2 => $($operation)::+::<[Counted]>(hand),
            3 => $($operation)::+::<Term>(hand),
            _ => $($operation)::+::<Counted>(hand),
        }
    };
}

pub(crate) const OPERATIONS: &[Operation] = &[
    often("intern", 300, any!(interners::intern)),
    often("get", 80, any!(interners::get)),
    often("intern with a builder", 40, any!(interners::intern_with)),
    often(
        "intern with a known hash",
        40,
        any!(interners::intern_hashed),
    ),
    often("session of many calls", 10, any!(interners::session)),
    often("clone a handle", 80, any!(interners::clone)),
    often("drop a handle", 250, any!(interners::drop_one)),
    often("drop many handles", 5, any!(interners::drop_many)),
    often("hand to another thread", 60, any!(interners::exchange)),
    often("round trip as a pointer", 20, any!(interners::raw)),
    often("weak handle", 40, any!(interners::downgrade)),
    often(
        "weak handle with callback",
        40,
        any!(interners::downgrade_with),
    ),
    often("upgrade", 60, any!(interners::upgrade)),
    often("drop weak handles", 10, any!(interners::drop_weak)),
    often("part of an iteration", 10, any!(interners::iterate)),
    often("drop hook", 5, any!(interners::hook)),
    often("flush and reserve", 3, any!(interners::tend)),
    often("take the value out", 40, |hand| match hand.rng.below(3) {
        0 => interners::unwrap::<Term>(hand),
        _ => interners::unwrap::<Counted>(hand),
    }),
    often("map: insert", 80, maps::insert),
    often("map: insert with a builder", 40, maps::insert_with),
    often("map: build once", 40, maps::init),
    often("map: build, with failures", 20, maps::init_failing),
    often("map: build within a build", 10, maps::init_nested),
    often("map: get", 40, maps::get),
    often("map: remove", 20, maps::remove),
    often("map: drop", 80, maps::drop_entries),
    often("map: weak handles", 30, maps::weak),
    often("map: part of an iteration", 5, maps::iterate),
    often("map: drop hook", 2, maps::hook),
    often("identity map", 40, maps::wrap),
    often("visit the guests", 5, lives::visit),
    often("replace the guests", 1, lives::replace),
    often("thread", 1, lives::bear),
    seldom("burst", any!(lives::burst)),
    seldom("burst in a map", lives::burst_map),
    seldom("burst and shrink", lives::shrink),
    seldom("chain of values", lives::chain),
    seldom("whole iteration", any!(interners::walk)),
];

/// Set when the threads are to come to a standstill.
pub(crate) static STOP: AtomicBool = AtomicBool::new(false);

pub(crate) fn stopping() -> bool {
    STOP.load(Ordering::Relaxed)
}

const fn total_weight() -> usize {
    let mut total = 0;
    let mut number = 0;
    while number < OPERATIONS.len() {
        total += OPERATIONS[number].weight;
        number += 1;
    }
    total
}

impl Hand {
    /// Does something.
    pub(crate) fn step(&mut self) {
        let mut choice = self.rng.below(const { total_weight() });
        for (number, operation) in OPERATIONS.iter().enumerate() {
            if choice < operation.weight {
                return self.perform(number);
            }
            choice -= operation.weight;
        }
    }

    /// Does something that takes long.
    pub(crate) fn long_step(&mut self) {
        let seldom = OPERATIONS.iter().filter(|operation| operation.weight == 0);
        let first = OPERATIONS.len() - seldom.count();
        let number = first + self.rng.below(OPERATIONS.len() - first);
        self.perform(number);
    }

    fn perform(&mut self, number: usize) {
        let operation = &OPERATIONS[number];
        let post = self.post.clone();
        let _busy = post.doing(operation.name);
        (operation.run)(self);
        post.count(number);
    }
}
