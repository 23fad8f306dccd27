//! What does it take to reach a thread's own value, and does that depend on how many locals and threads there are?
//!
//! ```text
//! cargo run --release --manifest-path benches/peers/Cargo.toml --bin local
//! ```
//!
//! A value is a `Cell` that is read: to add to it would take longer than to get there. `thread_local` is the crate, with `get_or`; `thread_local!` is a
//! static of `std` with an initialiser that runs on first use, once for values without a destructor and once for those
//! with one. *nothing* is what the loop takes itself. The contestants take turns, each for some milliseconds, and figures are medians over all turns.

#[path = "../stats.rs"]
mod stats;

use std::cell::Cell;
use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use clap::Parser;
use hapax::local::Local;
use tabled::builder::Builder;
use tabled::settings::Style;
use thread_local::ThreadLocal;

use stats::Summary;

/// Times the access to a thread's own values, for this crate and its rivals.
#[derive(Parser)]
struct Arguments {
    /// Turns of each contestant.
    #[arg(long, default_value_t = 101, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

/// One local.
trait Contestant: Sync + Sized {
    /// If there can be any number of them.
    const DYNAMIC: bool = true;

    fn new() -> Self;

    /// Reads the calling thread's value.
    fn read(&self);
}

#[inline]
fn read(value: &Cell<u64>) {
    black_box(value.get());
}

impl Contestant for Local<Cell<u64>> {
    fn new() -> Self {
        Local::new(Cell::default)
    }

    #[inline]
    fn read(&self) {
        self.with(read);
    }
}

impl Contestant for ThreadLocal<Cell<u64>> {
    fn new() -> Self {
        Self::new()
    }

    #[inline]
    fn read(&self) {
        read(self.get_or(Cell::default));
    }
}

thread_local! {
    static PLAIN: Cell<u64> = Cell::from(0);
    static BOXED: Box<Cell<u64>> = Box::default();
}

/// A static of `std`, whose value has no destructor.
struct Plain;

impl Contestant for Plain {
    const DYNAMIC: bool = false;

    fn new() -> Self {
        Self
    }

    #[inline]
    fn read(&self) {
        PLAIN.with(read);
    }
}

/// A static of `std`, whose value has a destructor.
struct Boxed;

impl Contestant for Boxed {
    const DYNAMIC: bool = false;

    fn new() -> Self {
        Self
    }

    #[inline]
    fn read(&self) {
        BOXED.with(|value| read(value));
    }
}

/// What the loops take themselves.
struct Nothing;

impl Contestant for Nothing {
    fn new() -> Self {
        Self
    }

    #[inline]
    fn read(&self) {
        black_box(0_u64);
    }
}

/// What is measured.
#[derive(Clone, Copy)]
enum Row {
    /// One local, beside others that the thread has used as well, on so many threads.
    One { beside: usize, threads: usize },
    /// One local, of which so many other threads have values.
    Crowd { others: usize },
    /// So many locals in turn.
    Turns { locals: usize },
    /// A thread that uses ten locals once, from its start to its end.
    Thread,
}

const ROWS: [(&str, Row); 8] = [
    (
        "one local",
        Row::One {
            beside: 0,
            threads: 1,
        },
    ),
    (
        "beside 99 others",
        Row::One {
            beside: 99,
            threads: 1,
        },
    ),
    (
        "beside 9 999 others",
        Row::One {
            beside: 9_999,
            threads: 1,
        },
    ),
    (
        "two threads",
        Row::One {
            beside: 0,
            threads: 2,
        },
    ),
    ("100 other threads", Row::Crowd { others: 100 }),
    ("100 in turn", Row::Turns { locals: 100 }),
    ("10 000 in turn", Row::Turns { locals: 10_000 }),
    ("a thread that uses 10", Row::Thread),
];

impl Row {
    fn locals(self) -> usize {
        match self {
            Self::One { beside, .. } => beside + 1,
            Self::Crowd { .. } => 1,
            Self::Turns { locals } => locals,
            Self::Thread => 10,
        }
    }
}

const USES: usize = 2_000_000;
const THREADS: usize = 100;

/// One turn of a contestant, in nanoseconds per use.
fn turn<C: Contestant>(row: Row) -> f64 {
    let locals: Vec<C> = (0..row.locals()).map(|_| C::new()).collect();
    let one = &locals[locals.len() / 2];
    match row {
        Row::One { threads, .. } => {
            let ready = Barrier::new(threads);
            let work = || {
                locals.iter().for_each(C::read);
                ready.wait();
                time(USES, || one.read())
            };
            thread::scope(|scope| {
                let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
                let own = work();
                let others = others.into_iter().map(|thread| thread.join().unwrap());
                others.fold(own, f64::max)
            })
        }
        Row::Crowd { others } => {
            let (ready, done) = (Barrier::new(others + 1), Barrier::new(others + 1));
            thread::scope(|scope| {
                for _ in 0..others {
                    scope.spawn(|| {
                        one.read();
                        ready.wait();
                        done.wait();
                    });
                }
                one.read();
                ready.wait();
                let taken = time(USES, || one.read());
                done.wait();
                taken
            })
        }
        Row::Turns { locals: count } => {
            locals.iter().for_each(C::read);
            time(USES / count, || locals.iter().for_each(C::read)) / count as f64
        }
        Row::Thread => {
            let thread = |work: &(dyn Fn() + Sync)| {
                thread::scope(|scope| scope.spawn(work).join().unwrap());
            };
            time(THREADS, || thread(&|| locals.iter().for_each(C::read)))
        }
    }
}

fn time(times: usize, mut f: impl FnMut()) -> f64 {
    let start = Instant::now();
    for _ in 0..times {
        f();
    }
    start.elapsed().as_nanos() as f64 / times as f64
}

/// A contestant's turn, if the row is for it.
type Turn = fn(Row) -> Option<f64>;

fn take_turn<C: Contestant>(row: Row) -> Option<f64> {
    (C::DYNAMIC || row.locals() == 1).then(|| turn::<C>(row))
}

const CONTESTANTS: [(&str, Turn); 5] = [
    ("hapax", take_turn::<Local<Cell<u64>>>),
    ("thread_local", take_turn::<ThreadLocal<Cell<u64>>>),
    ("thread_local!, plain", take_turn::<Plain>),
    ("thread_local!, boxed", take_turn::<Boxed>),
    ("nothing", take_turn::<Nothing>),
];

fn main() {
    let rounds = Arguments::parse().rounds;
    let mut table = Builder::default();
    let names = CONTESTANTS.map(|(name, _)| name.to_owned());
    table.push_record(["ns per use".to_owned()].into_iter().chain(names));
    for (title, row) in ROWS {
        let mut samples = CONTESTANTS.map(|_| Vec::new());
        for _ in 0..rounds {
            for ((_, turn), samples) in CONTESTANTS.iter().zip(&mut samples) {
                samples.extend(turn(row));
            }
        }
        let medians = samples.map(|samples| match samples[..] {
            [] => "–".to_owned(),
            _ => format!("{:.2}", Summary::of(&samples).median),
        });
        table.push_record([title.to_owned()].into_iter().chain(medians));
    }
    println!("{}", table.build().with(Style::markdown()));
}
