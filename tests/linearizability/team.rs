//! A team of threads that plays one program after the other.
//!
//! The threads meet before and after each race, spinning, so that they begin within fractions of a microsecond
//! of each other; and play many programs, so that starting them costs nothing.

use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::common::Rng;
use super::history::{History, Record};
use super::player::{Kit, Player};
use super::program::{Hashing, Kind, Program};
use super::subject::Table;

/// What came of the programs.
pub struct Played {
    /// Of those that were played to their end.
    pub histories: Vec<History>,
    /// Whether a thread panicked in the program behind these.
    pub panicked: bool,
}

/// Plays programs, all for the same number of threads. Pauses and stops depend on the seed.
pub fn play(programs: &[Program], seed: u64) -> Played {
    let threads = programs.first().map_or(0, |program| program.threads.len());
    let race = Race {
        programs,
        seed,
        barrier: SpinBarrier::new(threads),
        kits: (0..threads).map(|_| Mutex::default()).collect(),
    };
    let parts: Vec<Part> = thread::scope(|scope| {
        let race = &race;
        let others: Vec<_> = (2..=threads)
            .map(|thread| scope.spawn(move || race.run(thread, |_| {})))
            .collect();
        let mut parts = race.lead();
        parts.extend(
            others
                .into_iter()
                .map(|other| other.join().expect("caught")),
        );
        parts
    });
    let panicked = parts.iter().any(|part| part.panicked);
    let whole = parts.iter().map(|part| part.logs.len()).min().unwrap_or(0);
    let mut logs: Vec<_> = parts
        .into_iter()
        .map(|part| part.logs.into_iter())
        .collect();
    let histories = programs[..whole].iter().map(|program| History {
        kind: program.kind,
        one_hash: program.hashing == Hashing::Equal,
        records: logs
            .iter_mut()
            .filter_map(Iterator::next)
            .flatten()
            .collect(),
    });
    Played {
        histories: histories.collect(),
        panicked,
    }
}

/// The logs of one thread, a program each.
struct Part {
    logs: Vec<Vec<Record>>,
    panicked: bool,
}

struct Race<'a> {
    programs: &'a [Program],
    seed: u64,
    barrier: SpinBarrier,
    /// What each thread begins the next race with.
    kits: Vec<Mutex<Option<Kit>>>,
}

impl Race<'_> {
    /// Thread 1, which also sets the table up, as thread 0.
    fn lead(&self) -> Vec<Part> {
        let mut stage = Stage::default();
        let part = self.run(1, |step| match step {
            Step::Before(program) => {
                let (player, kits) = Player::set_up(program, stage.table_for(program));
                for (slot, kit) in self.kits.iter().zip(kits) {
                    *slot.lock().unwrap() = Some(kit);
                }
                stage.player = Some(player);
            }
            Step::After => {
                let player = stage.player.take().expect("set up before");
                stage.logs.push(player.look_back());
            }
        });
        let zero = Part {
            logs: stage.logs,
            panicked: false,
        };
        vec![zero, part]
    }

    fn run(&self, thread: usize, mut lead: impl FnMut(Step<'_>)) -> Part {
        let mut logs = Vec::new();
        let all = catch_unwind(AssertUnwindSafe(|| {
            for (index, program) in self.programs.iter().enumerate() {
                lead(Step::Before(program));
                self.barrier.wait(program);
                let kit = self.kits[thread - 1].lock().unwrap().take();
                let kit = kit.expect("set up before");
                let rng = Rng(self.seed ^ ((index << 8 | thread) as u64) << 32);
                let log = Player::race(thread, kit, program, rng);
                self.barrier.wait(program);
                lead(Step::After);
                logs.push(log);
            }
        }));
        if all.is_err() {
            self.barrier.give_up();
        }
        Part {
            logs,
            panicked: all.is_err(),
        }
    }
}

/// What the leader does beside its part.
enum Step<'a> {
    Before(&'a Program),
    After,
}

/// What the leader keeps from one program to the next.
#[derive(Default)]
struct Stage {
    /// The table that serves several programs.
    table: Option<(Arc<Table>, (Kind, Hashing))>,
    player: Option<Player>,
    logs: Vec<Vec<Record>>,
}

impl Stage {
    fn table_for(&mut self, program: &Program) -> Arc<Table> {
        let fresh = || Arc::new(Table::new(program.kind, program.hashing));
        if !program.lasts {
            return fresh();
        }
        let sort = (program.kind, program.hashing);
        match &self.table {
            Some((table, is)) if *is == sort => table.clone(),
            _ => self.table.insert((fresh(), sort)).0.clone(),
        }
    }
}

/// Where the threads meet.
struct SpinBarrier {
    threads: usize,
    /// How many turns a thread waits before it yields.
    turns: u32,
    arrived: AtomicUsize,
    round: AtomicUsize,
    broken: AtomicBool,
}

/// Who doesn't come for so long won't come.
const PATIENCE: Duration = Duration::from_secs(60);

impl SpinBarrier {
    fn new(threads: usize) -> Self {
        // Some microseconds if others need the processor, some tens if each thread may have its own: who yields
        // then is away when the race begins.
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let turns = if threads > processors { 100 } else { 2000 };
        Self {
            threads,
            turns,
            arrived: AtomicUsize::new(0),
            round: AtomicUsize::new(0),
            broken: AtomicBool::new(false),
        }
    }

    /// Waits for the others. The program is named if they don't come.
    fn wait(&self, program: &dyn Display) {
        let round = self.round.load(Ordering::Acquire);
        if self.arrived.fetch_add(1, Ordering::AcqRel) + 1 == self.threads {
            self.arrived.store(0, Ordering::Relaxed);
            self.round.store(round + 1, Ordering::Release);
            return;
        }
        let mut turns = 0u32;
        let mut since = None;
        while self.round.load(Ordering::Acquire) == round {
            assert!(
                !self.broken.load(Ordering::Relaxed),
                "another thread panicked"
            );
            turns += 1;
            if turns < self.turns {
                std::hint::spin_loop();
                continue;
            }
            thread::yield_now();
            if turns.is_multiple_of(1 << 12)
                && since.get_or_insert_with(Instant::now).elapsed() > PATIENCE
            {
                // Nobody can end a thread that is stuck.
                eprintln!("a call doesn't return, in this program or its neighbours:\n{program}");
                std::process::abort();
            }
        }
    }

    /// Lets the others stop as well.
    fn give_up(&self) {
        self.broken.store(true, Ordering::Relaxed);
    }
}
