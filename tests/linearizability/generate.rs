//! Random programs.
//!
//! Each program has only some of the kinds of calls, so that few of them meet often (Groce and others, *Swarm
//! Testing*, 2012); few operations, because long programs let threads drift apart; and one to three keys.

use super::common::Rng;
use super::program::{Hashing, Key, Kind, Look, Op, Program, Start, Threads};

/// Operations of a program at most, so that the search has room.
const OPERATIONS: usize = 16;

/// How often a kind of call is part of a program, in sixteenths, and how often such programs draw it.
type Weighted = (Choice, usize, usize);

/// A kind of call.
#[derive(Clone, Copy)]
enum Choice {
    Look(Look),
    Clone,
    Drop,
    Downgrade,
    Upgrade,
    TryUnwrap,
    Iterate,
    Len,
    Burst,
}

const COMMON: &[Weighted] = &[
    (Choice::Drop, 16, 4),
    (Choice::Look(Look::Get), 8, 2),
    (Choice::Clone, 5, 1),
    (Choice::Downgrade, 6, 1),
    (Choice::TryUnwrap, 4, 2),
    (Choice::Upgrade, 8, 2),
    (Choice::Iterate, 2, 1),
    (Choice::Len, 3, 1),
    (Choice::Burst, 2, 3),
];

const INTERNER: &[Weighted] = &[
    (Choice::Look(Look::Intern), 14, 3),
    (Choice::Look(Look::InternWith), 3, 2),
];

const MAP: &[Weighted] = &[
    (Choice::Look(Look::GetOrInsert), 10, 3),
    (Choice::Look(Look::GetOrInsertWith), 3, 2),
    (Choice::Look(Look::GetOrInit), 8, 3),
    (Choice::Look(Look::FailToInit), 4, 1),
    (Choice::Look(Look::Remove), 7, 2),
];

/// How long the threads of a program have the table.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    Start,
    AnyMoment,
    AfterAll,
}

impl Until {
    fn any(rng: &mut Rng) -> Self {
        match rng.below(8) {
            0 => Self::Start,
            1..4 => Self::AnyMoment,
            _ => Self::AfterAll,
        }
    }
}

/// What is left to do without a table.
const ORPHANS: &[Choice] = &[
    Choice::Drop,
    Choice::Upgrade,
    Choice::Upgrade,
    Choice::Clone,
];

/// A program for so many threads.
pub fn program(kind: Kind, threads: usize, rng: &mut Rng) -> Program {
    let table = Until::any(rng);
    let choices = match table {
        Until::Start => ORPHANS.to_vec(),
        _ => choices(kind, rng),
    };
    let keys = [1, 1, 2, 3][rng.below(4)];
    let most = [2, 3, 6][rng.below(3)].min(OPERATIONS / threads);
    let part = |rng: &mut Rng| {
        let count = 1 + rng.below(most);
        let mut ops: Vec<_> = (0..count).map(|_| operation(&choices, keys, rng)).collect();
        match table {
            Until::Start => ops.insert(0, Op::Leave),
            // Otherwise in the end.
            Until::AnyMoment if rng.below(2) == 0 => ops.insert(rng.below(count + 1), Op::Leave),
            _ => {}
        }
        ops
    };
    Program {
        kind,
        hashing: [Hashing::Spread, Hashing::Neighbours, Hashing::Equal][rng.below(3)],
        lasts: table == Until::AfterAll,
        threads: (0..threads).map(|_| part(rng)).collect(),
        starts: (0..keys)
            .filter_map(|key| start(kind, Key(key as u32), threads, rng))
            .collect(),
    }
}

/// The kinds of calls of one program, each as often as its weight says.
fn choices(kind: Kind, rng: &mut Rng) -> Vec<Choice> {
    let own = match kind {
        Kind::Interner => INTERNER,
        Kind::Map => MAP,
    };
    let mut choices = Vec::new();
    for &(choice, sixteenths, weight) in COMMON.iter().chain(own) {
        if rng.below(16) < sixteenths {
            choices.extend(std::iter::repeat_n(choice, weight));
        }
    }
    choices
}

fn operation(choices: &[Choice], keys: usize, rng: &mut Rng) -> Op {
    let n = rng.next() as u8;
    match choices[rng.below(choices.len())] {
        Choice::Look(look) => Op::Look(look, Key(rng.below(keys) as u32)),
        Choice::Clone => Op::Clone(n),
        Choice::Drop => Op::Drop(n),
        Choice::Downgrade => Op::Downgrade(n),
        Choice::Upgrade => Op::Upgrade(n),
        Choice::TryUnwrap => Op::TryUnwrap(n),
        Choice::Iterate => Op::Iterate,
        Choice::Len => Op::Len,
        Choice::Burst => Op::Burst(80 + n % 80),
    }
}

/// Perhaps an entry to begin with.
fn start(kind: Kind, key: Key, threads: usize, rng: &mut Rng) -> Option<Start> {
    let mut some = || Threads((rng.next() % (1 << threads)) as u8);
    let held_by = some();
    let weakly_by = some();
    (rng.below(4) != 0).then(|| Start {
        key,
        held_by,
        weakly_by,
        removed: kind == Kind::Map && rng.below(6) == 0,
    })
}
