//! Playing random programs until one is refused, and then looking for a smaller one that is.

use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::check::{Refusal, check};
use super::common::Rng;
use super::explain::explain;
use super::generate;
use super::history::History;
use super::program::{Hashing, Kind, Op, Program, Start, Threads};
use super::team::{self, Played};

/// Programs that one team plays.
const BATCH: usize = 256;

/// How long a smaller program is sought, in all and for each.
const SHRINKING: Duration = Duration::from_secs(30);
const EACH: Duration = Duration::from_secs(2);

/// One hunt at a time, so that its threads have the processors.
static ALONE: Mutex<()> = Mutex::new(());

/// A program that has failed.
struct Failure {
    program: Program,
    cause: Cause,
}

enum Cause {
    Panic,
    Refused(Box<(History, Refusal)>),
}

impl Failure {
    fn has_history(&self) -> bool {
        matches!(self.cause, Cause::Refused(_))
    }

    fn report(&self) -> String {
        let cause = match &self.cause {
            Cause::Panic => String::from("a thread panicked, see above\n"),
            Cause::Refused(refused) => explain(&refused.0, &refused.1),
        };
        format!("{cause}\nthe program:\n{}", self.program)
    }
}

/// Plays so many programs, and panics with a report if one fails.
pub fn hunt(kind: Kind, seed: u64, histories: usize) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut rng = Rng(seed);
    let mut left = histories;
    let mut races = 0;
    while left > 0 {
        let count = left.min(BATCH);
        let threads = [2, 2, 2, 3, 4][rng.below(5)];
        let programs: Vec<_> = (0..count)
            .map(|_| generate::program(kind, threads, &mut rng))
            .collect();
        let played = team::play(&programs, rng.next());
        races += played
            .histories
            .iter()
            .filter(|history| history.is_a_race())
            .count();
        if let Some(failure) = first_failure(&programs, &played) {
            // In case that what comes next ends the process.
            eprintln!("before it is made smaller: {}", failure.report());
            panic!("{}", shrink(failure, &mut rng).report());
        }
        left -= count;
    }
    println!("{histories} histories of {kind:?}, {races} of them with calls at the same time");
    assert!(histories < 1000 || races > 0, "the threads never met");
}

/// Checks what programs did, and returns the first one that fails.
fn first_failure(programs: &[Program], played: &Played) -> Option<Failure> {
    let refused = first_refused(&played.histories).map(|(number, history, refusal)| Failure {
        program: programs[number].clone(),
        cause: Cause::Refused(Box::new((history.clone(), refusal))),
    });
    refused.or_else(|| {
        played.panicked.then(|| Failure {
            program: programs[played.histories.len()].clone(),
            cause: Cause::Panic,
        })
    })
}

/// Checks histories on all processors.
fn first_refused(histories: &[History]) -> Option<(usize, &History, Refusal)> {
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let share = histories.len().div_ceil(workers).max(1);
    thread::scope(|scope| {
        let shares = histories
            .chunks(share)
            .enumerate()
            .map(|(worker, share_of)| {
                scope.spawn(move || {
                    let mut refusals = share_of.iter().enumerate();
                    refusals.find_map(|(number, history)| {
                        let refusal = check(history).err()?;
                        Some((worker * share + number, history, refusal))
                    })
                })
            });
        let shares: Vec<_> = shares.collect();
        let mut results = shares
            .into_iter()
            .map(|share| share.join().expect("checks don't panic"));
        // All are joined, whatever the first says.
        results.by_ref().fold(None, Option::or)
    })
}

/// Leaves out what isn't needed for the failure, as far as it shows again soon.
fn shrink(mut failure: Failure, rng: &mut Rng) -> Failure {
    if !failure.has_history() {
        return failure;
    }
    let end = Instant::now() + SHRINKING;
    'smaller: loop {
        for program in smaller(&failure.program) {
            let patience = EACH.min(end.saturating_duration_since(Instant::now()));
            if patience.is_zero() {
                return failure;
            }
            if let Some(found) = fails_again(&program, patience, rng) {
                failure = found;
                continue 'smaller;
            }
        }
        return failure;
    }
}

/// Plays one program again and again.
fn fails_again(program: &Program, patience: Duration, rng: &mut Rng) -> Option<Failure> {
    let copies = vec![program.clone(); BATCH];
    let start = Instant::now();
    while start.elapsed() < patience {
        let failure = first_failure(&copies, &team::play(&copies, rng.next()));
        // A panic says less than a history does.
        if failure.as_ref().is_some_and(Failure::has_history) {
            return failure;
        }
    }
    None
}

/// Programs with one thing less, the larger things first.
fn smaller(program: &Program) -> Vec<Program> {
    let mut smaller = Vec::new();
    let mut with = |change: &dyn Fn(&mut Program)| {
        let mut changed = program.clone();
        change(&mut changed);
        if changed != *program {
            smaller.push(changed);
        }
    };
    for thread in 1..=program.threads.len() {
        if program.threads.len() > 1 {
            with(&|program| {
                program.threads.remove(thread - 1);
                for start in &mut program.starts {
                    start.held_by = start.held_by.without(thread);
                    start.weakly_by = start.weakly_by.without(thread);
                }
            });
        }
    }
    for number in 0..program.starts.len() {
        with(&|program| {
            program.starts.remove(number);
        });
    }
    for (thread, ops) in program.threads.iter().enumerate() {
        for number in 0..ops.len() {
            with(&|program| {
                program.threads[thread].remove(number);
            });
        }
    }
    for number in 0..program.starts.len() {
        let mut with_start = |change: &dyn Fn(&mut Start)| {
            with(&|program| change(&mut program.starts[number]));
        };
        with_start(&|start| start.removed = false);
        with_start(&|start| start.weakly_by = Threads(0));
        for thread in 0..program.threads.len() {
            with_start(&|start| start.held_by.0 &= !(1 << thread));
        }
    }
    with(&|program| program.hashing = Hashing::Spread);
    with(&|program| {
        program.lasts = true;
        for ops in &mut program.threads {
            ops.retain(|op| *op != Op::Leave);
        }
    });
    smaller
}
