//! All operations of the crate, on all cores, for as long as one likes. Every second the threads stand
//! still, and what must hold then is checked; the first violation ends the program.
//!
//! ```text
//! cargo run --release --example soak -- --minutes 30
//! ```
//!
//! | file | concept |
//! |---|---|
//! | `request.rs` | the command line |
//! | `stage.rs`, `meeting.rs` | the threads, and where they meet |
//! | `operations.rs` | what they do, and how often |
//! | `interners.rs`, `maps.rs`, `lives.rs`, `failures.rs` | how it is done |
//! | `sleeper.rs` | one that stalls |
//! | `hand.rs` | what a thread holds |
//! | `kinds.rs`, `counted.rs`, `callbacks.rs`, `guests.rs` | values, callbacks and tables that can be checked |
//! | `census.rs`, `memory.rs` | what must hold at a standstill |
//! | `watchdog.rs`, `posts.rs` | who gets on, with what |
//! | `verdict.rs`, `report.rs`, `tally.rs`, `rng.rs` | violations; what is shown; counters; random numbers |

mod callbacks;
mod census;
mod counted;
mod failures;
mod guests;
mod hand;
mod interners;
mod kinds;
mod lives;
mod maps;
mod meeting;
mod memory;
mod operations;
mod posts;
mod report;
mod request;
mod rng;
mod sleeper;
mod stage;
mod tally;
mod verdict;
mod watchdog;

use std::env;
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use counted::Counted;
use kinds::{Kind, Term};
use memory::Measured;
use report::Progress;
use request::{Plan, Request, USAGE};
use stage::Stage;
use verdict::check;

/// Rounds after which everybody lets go of everything.
const CLEARED: u64 = 10;

fn main() -> ExitCode {
    let printed = match Request::parse(env::args_os().skip(1)) {
        Ok(Request::Help) => print(USAGE),
        Ok(Request::Run(plan)) => print(&run(plan)),
        Err(problem) => {
            eprintln!("soak: {problem}");
            return ExitCode::from(2);
        }
    };
    match printed {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            eprintln!("soak: the result could not be printed: {error}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

fn print(text: &str) -> io::Result<()> {
    io::stdout().write_all(text.as_bytes())
}

/// Runs as planned, and answers the totals. Doesn't return if something is wrong.
fn run(plan: Plan) -> String {
    verdict::prepare(plan);
    // The collector is made here, not by several threads at once: how std orders these, ThreadSanitizer
    // can't see.
    drop(str::shared().pin());
    let stage = Stage::new(plan);
    watchdog::start(stage.posts().to_vec());
    let progress = Progress::new(plan.seconds);
    let mut measured = Measured::default();

    let began = Instant::now();
    let time = Duration::from_secs(plan.seconds);
    let mut rounds = 0;
    while let Some(left) = time
        .checked_sub(began.elapsed())
        .filter(|left| !left.is_zero())
    {
        stage.round(rounds, left.min(Duration::from_secs(1)));
        let live = stage.census();
        rounds += 1;
        let resident = memory::resident();
        measured.peak = measured.peak.max(resident.unwrap_or_default());
        progress.show(rounds, began.elapsed(), live, resident);
        if rounds % CLEARED == 0 {
            clear(&stage, &mut measured, plan);
        }
        stage.relieve(rounds);
    }
    clear(&stage, &mut measured, plan);
    stage.end();
    progress.end();
    report::totals(plan, began.elapsed(), rounds, &measured, stage.posts())
}

/// Everybody lets go of everything: then nothing lives, and the memory is measured.
fn clear(stage: &Arc<Stage>, measured: &mut Measured, plan: Plan) {
    stage.clear();
    let live = stage.census();
    check!(live == 0, "{live} values live, though nobody holds any");
    memory::trim();
    if let Some(bytes) = memory::resident() {
        let bytes = bytes.saturating_sub(tables());
        measured.note(bytes);
        if let Some(bound) = measured.bound().filter(|_| plan.judge_memory) {
            check!(
                bytes <= bound,
                "{bytes} bytes are resident, {bound} would do"
            );
        }
    }
}

/// Bytes of the tables that live as long as the program. They don't shrink, and have grown with the largest
/// burst so far.
fn tables() -> u64 {
    let interners = [
        str::shared().memory_usage(),
        Path::shared().memory_usage(),
        Counted::shared().memory_usage(),
        <[Counted]>::shared().memory_usage(),
        Term::shared().memory_usage(),
    ];
    let maps = [
        maps::shared().memory_usage(),
        maps::wrappers().memory_usage(),
    ];
    let usages = interners.iter().chain(&maps);
    usages.map(|usage| usage.table as u64).sum()
}
