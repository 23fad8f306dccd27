//! How fast are locks, averages and rate limits that span processes, beside DiskCache?
//!
//! Contestants, on files of their own in one directory: `hapax` and `hapax, strict` with a `SqliteStore`; `diskcache` with
//! its `Lock`, `Averager` and `throttle`, if `HAPAX_PYTHON` names a Python that has it. Each process does one thing with one key
//! all the time.
//!
//! - *pairs*: of lock and unlock a second, all processes together, for 1, 2, 4 and 8 of them.
//! - *additions*: to one average; *permits*: of one rate limit that never lets anybody wait. For 1 and 4 processes.
//! - *hand-over*: from the release (its call, not its end) until another process has the lock that has waited for 20 ms.
//! - *after a kill*: the same from the moment when the holder was killed.
//!
//! Contestants take turns, and the median over the turns is shown, with the least and the greatest.
//! `cargo bench --features coord-sqlite --bench coord -- [TURNS [SECONDS]]`

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hapax::coord::{Averager, Lock, RateLimiter, SqliteStore};

const PYTHON: &str = "
import sys, time, diskcache
cache = diskcache.Cache(sys.argv[1])
work, begin, end = sys.argv[2], float(sys.argv[3]), float(sys.argv[4])
lock = diskcache.Lock(cache, 'lock')
averager = diskcache.Averager(cache, 'average')
def pair():
    with lock:
        pass
def addition():
    averager.add(1.5)
@diskcache.throttle(cache, 10**9, 1)
def permit():
    pass
step = {'pairs': pair, 'additions': addition, 'permits': permit}[work]
time.sleep(max(0, begin - time.time()))
steps = 0
while time.time() < end:
    for _ in range(10):
        step()
    steps += 10
print(steps)
";

fn main() {
    // `cargo bench` adds an option of its own.
    let args: Vec<_> = env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with("--"))
        .collect();
    match args.first().map(String::as_str) {
        Some("contest") => contest(&args[1], &args[2], number(&args[3]), number(&args[4])),
        Some("wait") => wait(&args[1]),
        Some("hold") => hold(&args[1]),
        turns => {
            let turns = turns.map_or(5.0, number) as usize;
            let seconds = args.get(1).map_or(1.0, |seconds| number(seconds));
            compare(turns, seconds);
        }
    }
}

fn number(text: &str) -> f64 {
    text.parse().expect("a number")
}

fn lock(path: &str, kind: &str) -> Lock {
    let lock = Lock::new(&SqliteStore::open(path).unwrap(), "key");
    if kind == "strict" {
        lock.strict()
    } else {
        lock
    }
}

fn now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs_f64()
}

/// One process of a contest.
fn contest(path: &str, work: &str, begin: f64, end: f64) {
    let store = SqliteStore::open(path).unwrap();
    match work {
        "additions" => {
            let averager = Averager::new(&store, "average");
            count(begin, end, || assert!(averager.add(1.5).is_ok()));
        }
        "permits" => {
            // It is never full again, and never empty.
            let per = Duration::from_secs(1_000_000);
            let limiter = RateLimiter::new(&store, "rate", 1_000_000_000, per);
            count(begin, end, || limiter.acquire().unwrap());
        }
        kind => {
            let lock = lock(path, kind);
            count(begin, end, || lock.lock().unwrap().release().unwrap());
        }
    }
}

/// Says how often something was done in that time.
fn count(begin: f64, end: f64, mut step: impl FnMut()) {
    std::thread::sleep(Duration::from_secs_f64((begin - now()).max(0.0)));
    let mut steps = 0;
    while now() < end {
        for _ in 0..10 {
            step();
        }
        steps += 10;
    }
    println!("{steps}");
}

/// Waits for the lock, says when it has got it, and once more for each line that it reads.
fn wait(path: &str) {
    let lock = lock(path, "barging");
    for line in std::io::stdin().lines() {
        line.unwrap();
        let guard = lock.lock().unwrap();
        println!("{}", now());
        guard.release().unwrap();
    }
}

/// Takes the lock, says so, and says when it has begun to give it back, after it has read a line.
fn hold(path: &str) {
    let lock = lock(path, "barging");
    let mut lines = std::io::stdin().lines();
    while lines.next().is_some() {
        let guard = lock.lock().unwrap();
        println!("held");
        if lines.next().is_none() {
            return;
        }
        let before = now();
        guard.release().unwrap();
        println!("{before}");
    }
}

/// A process, and what it says.
struct Process {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Process {
    fn start(command: &mut Command) -> Self {
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = piped.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn own(role: &str, path: &Path) -> Self {
        Self::start(
            Command::new(env::current_exe().unwrap())
                .arg(role)
                .arg(path),
        )
    }

    fn tell(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    fn line(&mut self) -> String {
        self.lines.next().unwrap().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Contestant {
    Hapax,
    Strict,
    DiskCache,
}

impl Contestant {
    const ALL: [Self; 3] = [Self::Hapax, Self::Strict, Self::DiskCache];

    fn name(self) -> &'static str {
        match self {
            Self::Hapax => "hapax",
            Self::Strict => "hapax, strict",
            Self::DiskCache => "diskcache",
        }
    }

    fn process(self, directory: &Path, work: &str, begin: f64, end: f64) -> Process {
        let times = [begin.to_string(), end.to_string()];
        let (mut command, work) = match self {
            Self::DiskCache => {
                let mut python = Command::new(env::var("HAPAX_PYTHON").unwrap());
                python.args(["-c", PYTHON]).arg(directory.join("diskcache"));
                (python, work)
            }
            _ => {
                let mut command = Command::new(env::current_exe().unwrap());
                command.arg("contest").arg(directory.join("locks.db"));
                let is_strict = self == Self::Strict && work == "pairs";
                (command, if is_strict { "strict" } else { work })
            }
        };
        Process::start(command.arg(work).args(times))
    }

    /// Steps a second.
    fn contest(self, directory: &Path, work: &str, processes: usize, seconds: f64) -> f64 {
        let begin = now() + 0.4;
        let mut processes: Vec<_> = (0..processes)
            .map(|_| self.process(directory, work, begin, begin + seconds))
            .collect();
        let steps = processes.iter_mut().map(|process| number(&process.line()));
        steps.sum::<f64>() / seconds
    }
}

fn compare(turns: usize, seconds: f64) {
    let directory = tempfile::tempdir_in(
        env::var_os("HAPAX_BENCH_DIR").map_or_else(env::temp_dir, PathBuf::from),
    )
    .unwrap();
    let directory = directory.path();
    let has_python = env::var_os("HAPAX_PYTHON").is_some();
    if !has_python {
        println!("without diskcache: HAPAX_PYTHON names no Python that has it");
    }
    let contests = [1, 2, 4, 8].map(|processes| ("pairs", processes));
    let values = [1, 4].map(|processes| [("additions", processes), ("permits", processes)]);
    for (work, processes) in contests.into_iter().chain(values.into_iter().flatten()) {
        let mut results: Vec<(Contestant, Vec<f64>)> = Contestant::ALL
            .into_iter()
            .filter(|contestant| has_python || *contestant != Contestant::DiskCache)
            .filter(|contestant| work == "pairs" || *contestant != Contestant::Strict)
            .map(|contestant| (contestant, Vec::new()))
            .collect();
        for _ in 0..turns {
            for (contestant, results) in &mut results {
                results.push(contestant.contest(directory, work, processes, seconds));
            }
        }
        for (contestant, results) in results {
            report(
                &format!("{work}/s, {processes} processes, {}", contestant.name()),
                results,
                1.0,
            );
        }
    }
    hand_over(directory, turns * 40);
    kills(directory, turns * 8);
}

fn hand_over(directory: &Path, times: usize) {
    let path = directory.join("locks.db");
    let (mut holder, mut waiter) = (Process::own("hold", &path), Process::own("wait", &path));
    let mut results = Vec::new();
    for _ in 0..times {
        holder.tell();
        holder.line();
        waiter.tell();
        std::thread::sleep(Duration::from_millis(20));
        holder.tell();
        let released = number(&holder.line());
        results.push((number(&waiter.line()) - released) * 1e6);
    }
    report("hand-over, µs", results, 0.1);
}

fn kills(directory: &Path, times: usize) {
    let path = directory.join("locks.db");
    let mut waiter = Process::own("wait", &path);
    let mut results = Vec::new();
    for _ in 0..times {
        let mut holder = Process::own("hold", &path);
        holder.tell();
        holder.line();
        waiter.tell();
        std::thread::sleep(Duration::from_millis(20));
        let killed = now();
        holder.child.kill().unwrap();
        results.push((number(&waiter.line()) - killed) * 1e6);
    }
    report("after a kill, µs", results, 0.1);
}

fn report(what: &str, mut results: Vec<f64>, unit: f64) {
    results.sort_by(f64::total_cmp);
    let round = |value: f64| (value / unit).round() * unit;
    let (least, most) = (round(results[0]), round(results[results.len() - 1]));
    let median = round(results[results.len() / 2]);
    println!(
        "{what}: {median:.*} ({least:.0} to {most:.0})",
        usize::from(unit < 1.0)
    );
}
