//! A program: what several actors do with one table, decoded from bytes, and how it is run.
//!
//! The first bytes are the setup. Each record behind them is one step of one actor, and all records of a game
//! have the same size: who mutates or shrinks bytes, mutates or shrinks operations. Any bytes are a program.
//!
//! A program is a sequence of phases. Within a phase the actors do their steps; at its end they stand still, and
//! there is a census. Then one of them may have the table for itself, to shrink or to replace it, while the others
//! drop handles.
//!
//! It runs in two ways. On *one thread* the steps are done in the order of the program, with a census after each:
//! then the model knows everything beforehand. With *threads*, each actor has one, and between two standstills
//! only what an actor knows from its own handles can be checked.

use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::subject::Hashing;

/// Bytes of the setup.
pub const SETUP: usize = 4;

/// Steps of a program, beyond which its bytes are ignored.
pub const MOST_STEPS: usize = 256;

const MOST_ACTORS: usize = 4;

/// Keys that most operations choose from, at most.
pub const MOST_KEYS: u64 = 16;

/// Handles that all actors together have before a step, or before a round of steps, so that a census stays cheap.
const MOST_HANDLES: usize = 160;

/// The kind of a record that ends a phase.
const END_OF_PHASE: u8 = 63;

/// No program takes that long: one of its threads waits for ever.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a program says before its first step.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    pub actors: usize,
    /// Whether each actor has a thread.
    pub threads: bool,
    pub ending: Ending,
    pub hashing: Hashing,
    /// What the table is about: each game has some choice.
    pub subject: u8,
    /// Entries that the table is made for.
    pub capacity: usize,
    /// How many keys most operations choose from: fewer, and the actors meet more often.
    pub keys: u64,
    /// How often threads go through the steps of a phase, so that they meet.
    pub rounds: usize,
}

/// How the handles go that are still held behind the last phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All at once, by their actors.
    BeforeTheTable,
    /// While the table is taken apart, and afterwards.
    WithTheTable,
    /// When the actors' threads destroy their thread-locals.
    WithTheThreads,
}

/// What one actor alone does to the table between two phases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Nothing,
    Shrink,
    /// Drops the table, and makes another one.
    Renew,
}

impl Setup {
    pub fn key(&self, byte: u8) -> u64 {
        u64::from(byte) % self.keys
    }

    /// How many entries a burst brings: enough for a table to grow, unless they all collide.
    pub fn burst(&self, byte: u8) -> u64 {
        u64::from(byte) % if self.hashing.is_poor() { 16 } else { 161 }
    }
}

/// An operation of a game.
pub trait Operation: fmt::Debug {
    /// Bytes of a record behind its first.
    const ARGUMENTS: usize;

    /// `kind` is below 63.
    fn decode(kind: u8, arguments: &[u8], setup: &Setup) -> Self;
}

/// Steps up to a standstill, and what is done there.
struct Phase<O> {
    /// Actors, and what they do.
    steps: Vec<(usize, O)>,
    change: Change,
    /// How many handles each of the others drops meanwhile.
    let_go: usize,
}

impl<O> Phase<O> {
    fn new() -> Self {
        Self {
            steps: Vec::new(),
            change: Change::Nothing,
            let_go: 0,
        }
    }

    fn of(&self, actor: usize) -> impl Iterator<Item = &O> {
        self.steps
            .iter()
            .filter(move |(number, _)| *number == actor)
            .map(|(_, operation)| operation)
    }
}

/// A decoded program.
pub struct Program<O> {
    pub setup: Setup,
    phases: Vec<Phase<O>>,
}

/// A line for each step.
impl<O: fmt::Debug> fmt::Debug for Program<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?}", self.setup)?;
        for phase in &self.phases {
            for (actor, operation) in &phase.steps {
                writeln!(f, "    {actor}: {operation:?}")?;
            }
            let Phase { change, let_go, .. } = phase;
            writeln!(f, "    standstill: {change:?}, let go of {let_go}")?;
        }
        Ok(())
    }
}

impl<O: Operation> Program<O> {
    pub fn decode(bytes: &[u8]) -> Self {
        let (header, records) = bytes.split_at(bytes.len().min(SETUP));
        let byte = |index| header.get(index).copied().unwrap_or(0);
        let setup = Setup {
            actors: usize::from(byte(0)) % MOST_ACTORS + 1,
            threads: byte(0) & 4 != 0,
            ending: match byte(0) >> 3 & 3 {
                0 | 1 => Ending::BeforeTheTable,
                2 => Ending::WithTheTable,
                _ => Ending::WithTheThreads,
            },
            hashing: Hashing::new(byte(1)),
            subject: byte(2),
            capacity: usize::from(byte(3)),
            keys: [MOST_KEYS, MOST_KEYS, 4, 1][usize::from(byte(2) >> 6)],
            rounds: [1, 2, 8, 32][usize::from(byte(0) >> 6)],
        };
        let mut phases = Vec::new();
        let mut phase = Phase::new();
        for record in records.chunks_exact(1 + O::ARGUMENTS).take(MOST_STEPS) {
            let (&[first], arguments) = record.split_first_chunk().expect("a record isn't empty");
            let (actor, kind) = (usize::from(first >> 6) % setup.actors, first & 63);
            if kind != END_OF_PHASE {
                phase
                    .steps
                    .push((actor, O::decode(kind, arguments, &setup)));
                continue;
            }
            phase.change = match arguments[0] % 4 {
                0 | 1 => Change::Nothing,
                2 => Change::Shrink,
                _ => Change::Renew,
            };
            phase.let_go = usize::from(arguments[1]);
            phases.push(std::mem::replace(&mut phase, Phase::new()));
        }
        phases.push(phase);
        Self { setup, phases }
    }
}

/// A table, what is done with it, and the model of it.
pub trait Game: Sized + Sync {
    type Operation: Operation + Sync;
    /// What an actor holds and knows.
    type Actor: Default + Send + 'static;

    /// Does operations of one actor. The table stays the same meanwhile.
    fn perform<'a>(
        &self,
        actor: &mut Self::Actor,
        operations: impl Iterator<Item = &'a Self::Operation>,
    ) where
        Self::Operation: 'a;

    /// Compares everything with the model. Nobody does anything meanwhile.
    fn census(&self, actors: &[&Self::Actor]);

    /// Changes the table. Nobody uses it, but others may drop handles meanwhile.
    fn change(&self, change: Change);

    /// Drops so many handles, without using the table.
    fn let_go(&self, actor: &mut Self::Actor, count: usize);

    fn handles(&self, actor: &Self::Actor) -> usize;

    /// All actors are gone: so is everything else.
    fn end(self);
}

/// Runs a program the way that it says itself.
pub fn run<G: Game>(game: G, program: &Program<G::Operation>) {
    if program.setup.threads {
        run_on_threads(&game, program);
    } else {
        run_on_one_thread(&game, program);
    }
    game.end();
}

fn run_on_one_thread<G: Game>(game: &G, program: &Program<G::Operation>) {
    let mut actors: Vec<G::Actor> = Vec::new();
    actors.resize_with(program.setup.actors, G::Actor::default);
    let census = |actors: &[G::Actor]| game.census(&actors.iter().collect::<Vec<_>>());
    for phase in &program.phases {
        for (actor, operation) in &phase.steps {
            if make_room(game, &mut actors[*actor], program.setup.actors) {
                census(&actors);
            }
            game.perform(&mut actors[*actor], std::iter::once(operation));
            census(&actors);
        }
        for actor in &mut actors {
            game.let_go(actor, phase.let_go);
        }
        census(&actors);
        game.change(phase.change);
        census(&actors);
    }
    if program.setup.ending == Ending::WithTheTable {
        game.change(Change::Renew);
        census(&actors);
    }
}

/// Lets go of some handles if there are many.
fn make_room<G: Game>(game: &G, actor: &mut G::Actor, actors: usize) -> bool {
    let (handles, most) = (game.handles(actor), MOST_HANDLES / actors);
    if handles > most {
        game.let_go(actor, handles - most / 2);
    }
    handles > most
}

thread_local! { static LEFT_BEHIND: RefCell<Option<Box<dyn Any>>> = const { RefCell::new(None) } }

fn run_on_threads<G: Game>(game: &G, program: &Program<G::Operation>) {
    let actors: Vec<Mutex<G::Actor>> = (0..program.setup.actors)
        .map(|_| Mutex::default())
        .collect();
    let gate = Gate::new(actors.len());
    thread::scope(|scope| {
        let (running, all_done) = mpsc::channel::<()>();
        let threads: Vec<_> = (0..actors.len())
            .map(|number| {
                let (actors, gate, running) = (&actors, &gate, running.clone());
                scope.spawn(move || {
                    let _running = running;
                    let _break = BreakOnFailure(gate);
                    act(game, program, actors, gate, number);
                })
            })
            .collect();
        drop(running);
        if all_done.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            eprintln!("a thread waits for ever: {program:?}");
            std::process::abort();
        }
        let failures = threads.into_iter().filter_map(|thread| thread.join().err());
        if let Some(failure) = failures.into_iter().find(|failure| !failure.is::<Broken>()) {
            resume_unwind(failure);
        }
    });
}

/// The life of one actor's thread.
fn act<G: Game>(
    game: &G,
    program: &Program<G::Operation>,
    actors: &[Mutex<G::Actor>],
    gate: &Gate,
    number: usize,
) {
    gate.meet();
    for phase in &program.phases {
        for _ in 0..program.setup.rounds {
            let mut actor = lock(&actors[number]);
            make_room(game, &mut actor, actors.len());
            game.perform(&mut actor, phase.of(number));
        }
        gate.meet();
        if number == 0 {
            let all: Vec<_> = actors.iter().map(lock).collect();
            game.census(&all.iter().map(|actor| &**actor).collect::<Vec<_>>());
        }
        gate.meet();
        if number == 0 {
            game.change(phase.change);
        } else {
            game.let_go(&mut lock(&actors[number]), phase.let_go);
        }
        gate.meet();
    }
    let held = std::mem::take(&mut *lock(&actors[number]));
    match program.setup.ending {
        Ending::WithTheTable if number == 0 => game.change(Change::Renew),
        Ending::WithTheThreads => LEFT_BEHIND.set(Some(Box::new(held))),
        _ => drop(held),
    }
}

/// A lock whose owner may have failed: its failure is reported anyway.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where threads wait for each other, unless one has failed.
struct Gate {
    threads: usize,
    state: Mutex<GateState>,
    changed: Condvar,
    /// How often a thread has come out.
    out: AtomicUsize,
}

#[derive(Default)]
struct GateState {
    waiting: usize,
    /// How often all have met.
    meetings: usize,
    broken: bool,
}

/// What a thread panics with because another one has.
struct Broken;

impl Gate {
    fn new(threads: usize) -> Self {
        Self {
            threads,
            state: Mutex::default(),
            changed: Condvar::new(),
            out: AtomicUsize::new(0),
        }
    }

    /// Waits for all, and goes on at the same moment as they do.
    fn meet(&self) {
        let mut state = lock(&self.state);
        let meeting = state.meetings + 1;
        state.waiting += 1;
        if state.waiting == self.threads {
            state.waiting = 0;
            state.meetings = meeting;
            self.changed.notify_all();
        }
        let state = self
            .changed
            .wait_while(state, |state| state.meetings < meeting && !state.broken)
            .unwrap_or_else(PoisonError::into_inner);
        let met = state.meetings >= meeting;
        drop(state);
        if !met {
            resume_unwind(Box::new(Broken));
        }
        self.out.fetch_add(1, Ordering::SeqCst);
        while self.out.load(Ordering::SeqCst) < meeting * self.threads {
            thread::yield_now();
        }
    }
}

struct BreakOnFailure<'a>(&'a Gate);

impl Drop for BreakOnFailure<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            lock(&self.0.state).broken = true;
            self.0.changed.notify_all();
        }
    }
}
