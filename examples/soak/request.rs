//! What the command line asks for.

use std::ffi::OsString;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(crate) const USAGE: &str = "\
Usage: soak [OPTION]...

Runs all operations of the crate on all cores, and looks every second, at a standstill,
for a violation of what the crate guarantees. Ends with 1 at the first one.

  --minutes N      how long; together with --seconds their sum; 1 minute unless told
  --seconds N
  --threads N      working threads; the number of cores, at least 4, unless told
  --seed S         what the threads do follows from this number; printed if there is a
                   violation. It repeats their choices, not their interleaving
  --growth N       values of the largest burst of growth; 300000 unless told
  --ignore-memory  for tools that keep freed memory: doesn't ask whether resident memory
                   is flat
  -h, --help       show this

Resident memory is read on Linux only. It is judged after a minute: up to there the
process takes what it needs. While a thread stalls, the memory of what dies stays: some
hundred MiB a core.

Exit status: 0 if all was well; 1 at a violation, a panic, or if no thread got on for
30 seconds; 2 if the command line is wrong.
";

/// What to do.
pub(crate) enum Request {
    Help,
    Run(Plan),
}

/// How to run.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) seconds: u64,
    pub(crate) threads: usize,
    pub(crate) seed: u64,
    pub(crate) growth: usize,
    pub(crate) judge_memory: bool,
}

/// A longer run is a typing error.
const LONGEST: u64 = 10 * 365 * 24 * 3600;

/// More threads than this are a typing error.
const MOST_THREADS: u64 = 4096;

/// More would not fit into the keys.
const LARGEST_GROWTH: u64 = 1 << 28;

impl Request {
    pub(crate) fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Self, String> {
        let mut arguments = arguments;
        let mut plan = Plan {
            seconds: 0,
            threads: thread::available_parallelism().map_or(4, |cores| cores.get().max(4)),
            seed: fresh_seed(),
            growth: 300_000,
            judge_memory: true,
        };
        while let Some(option) = arguments.next() {
            let option = option.to_string_lossy();
            let mut value = |least, most| number(&option, arguments.next(), least, most);
            match &*option {
                "-h" | "--help" => return Ok(Self::Help),
                "--minutes" => plan.seconds += 60 * value(1, LONGEST / 60)?,
                "--seconds" => plan.seconds += value(1, LONGEST)?,
                "--threads" => plan.threads = value(1, MOST_THREADS)? as usize,
                "--seed" => plan.seed = value(0, u64::MAX)?,
                "--growth" => plan.growth = value(1, LARGEST_GROWTH)? as usize,
                "--ignore-memory" => plan.judge_memory = false,
                _ => return Err(format!("unknown argument '{option}'; see 'soak --help'")),
            }
        }
        if plan.seconds == 0 {
            plan.seconds = 60;
        }
        Ok(Self::Run(plan))
    }
}

/// The number that follows an option.
fn number(option: &str, value: Option<OsString>, least: u64, most: u64) -> Result<u64, String> {
    let value = value.ok_or_else(|| format!("'{option}' needs a number"))?;
    let value = value.to_string_lossy();
    let number: u64 = value
        .parse()
        .map_err(|error| format!("'{option} {value}': {error}"))?;
    if (least..=most).contains(&number) {
        Ok(number)
    } else {
        Err(format!("'{option} {value}': not from {least} to {most}"))
    }
}

fn fresh_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(1, |now: Duration| now.as_nanos() as u64)
}
