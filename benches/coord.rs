//! How fast are locks, averages and rate limits that span processes, beside DiskCache and redis-py?
//!
//! Contestants, on files of their own in one directory: `hapax` and `hapax, strict` with a `SqliteStore`; `diskcache` with
//! its `Lock`, `Averager` and `throttle`. On a Redis server, with the feature `coord-redis`: `hapax` and `hapax, strict` with a
//! `RedisStore`; `redis-py` with its `Lock`. The Python is what `HAPAX_PYTHON` names, if it does. Each process does one
//! thing with one key all the time.
//!
//! - *pairs*: of lock and unlock a second, all processes together, for 1, 2, 4 and 8 of them.
//! - *working pairs*: the same where each process holds the lock for a millisecond, and then does something else for one.
//! - *additions*: to one average; *permits*: of one rate limit that never lets anybody wait. For 1 and 4 processes.
//! - *hand-over*: from the release (its call, not its end) until another process has the lock that has waited for 20 ms.
//! - *after a kill*: the same from the moment when the holder was killed.
//!
//! Contestants take turns, and the median over the turns is shown, with the least and the greatest.
//! `cargo bench --features coord-sqlite,coord-redis --bench coord -- [TURNS [SECONDS]]`

#[cfg(feature = "coord-redis")]
#[path = "../tests/redis_server/mod.rs"]
mod redis_server;

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hapax::coord::{Averager, Lock, RateLimiter, SqliteStore, Store};

const DISKCACHE: &str = "
import diskcache
cache = diskcache.Cache(place)
lock = diskcache.Lock(cache, 'lock')
averager = diskcache.Averager(cache, 'average')
def addition():
    averager.add(1.5)
@diskcache.throttle(cache, 10**9, 1)
def permit():
    pass
steps = {'additions': addition, 'permits': permit}
";

const REDIS_PY: &str = "
import redis
lock = redis.Redis.from_url(place).lock('lock', timeout=30)
steps = {}
";

const PYTHON: &str = "
def pair():
    with lock:
        pass
def working_pair():
    with lock:
        time.sleep(0.001)
    time.sleep(0.001)
step = {'pairs': pair, 'working pairs': working_pair, **steps}[work]
time.sleep(max(0, begin - time.time()))
count = 0
while time.time() < end:
    step()
    count += 1
print(count)
";

fn main() {
    // `cargo bench` adds an option of its own.
    let args: Vec<_> = env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with("--"))
        .collect();
    match args.first().map(String::as_str) {
        Some("contest") => contest(
            &args[1],
            &args[2],
            &args[3],
            number(&args[4]),
            number(&args[5]),
        ),
        Some("wait") => wait(&args[1]),
        Some("hold") => hold(&args[1]),
        turns => {
            let turns = turns.map_or(5.0, number) as usize;
            let seconds = args.get(1).map_or(1.0, |seconds| number(seconds));
            compare_on_files(turns, seconds);
            #[cfg(feature = "coord-redis")]
            compare_on_a_server(turns, seconds);
        }
    }
}

fn number(text: &str) -> f64 {
    text.parse().expect("a number")
}

/// A store on that file or server.
fn open(place: &str) -> Box<dyn Store> {
    #[cfg(feature = "coord-redis")]
    if place.starts_with("redis://") {
        let options = hapax::coord::RedisStore::options().grace(Duration::ZERO);
        return Box::new(options.open(place).unwrap());
    }
    Box::new(SqliteStore::open(place).unwrap())
}

fn now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs_f64()
}

/// One process of a contest.
fn contest(place: &str, work: &str, kind: &str, begin: f64, end: f64) {
    let store = open(place);
    let mut lock = Lock::new(&*store, "key");
    if kind == "strict" {
        lock = lock.strict();
    }
    let millisecond = Duration::from_millis(1);
    match work {
        "additions" => {
            let averager = Averager::new(&*store, "average");
            count(begin, end, || assert!(averager.add(1.5).is_ok()));
        }
        "permits" => {
            // It is never full again, and never empty.
            let per = Duration::from_secs(1_000_000);
            let limiter = RateLimiter::new(&*store, "rate", 1_000_000_000, per);
            count(begin, end, || limiter.acquire().unwrap());
        }
        "pairs" => count(begin, end, || lock.lock().unwrap().release().unwrap()),
        _ => count(begin, end, || {
            let guard = lock.lock().unwrap();
            std::thread::sleep(millisecond);
            guard.release().unwrap();
            std::thread::sleep(millisecond);
        }),
    }
}

/// Says how often something was done in that time.
fn count(begin: f64, end: f64, mut step: impl FnMut()) {
    std::thread::sleep(Duration::from_secs_f64((begin - now()).max(0.0)));
    let mut steps = 0;
    while now() < end {
        step();
        steps += 1;
    }
    println!("{steps}");
}

/// Waits for the lock, says when it has got it, and once more for each line that it reads.
fn wait(place: &str) {
    let lock = Lock::new(&*open(place), "key");
    for line in std::io::stdin().lines() {
        line.unwrap();
        let guard = lock.lock().unwrap();
        println!("{}", now());
        guard.release().unwrap();
    }
}

/// Takes the lock, says so, and says when it has begun to give it back, after it has read a line.
fn hold(place: &str) {
    let lock = Lock::new(&*open(place), "key");
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

    fn own(role: &str, place: &str) -> Self {
        Self::start(
            Command::new(env::current_exe().unwrap())
                .arg(role)
                .arg(place),
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
    #[cfg(feature = "coord-redis")]
    RedisPy,
}

impl Contestant {
    fn name(self) -> &'static str {
        match self {
            Self::Hapax => "hapax",
            Self::Strict => "hapax, strict",
            Self::DiskCache => "diskcache",
            #[cfg(feature = "coord-redis")]
            Self::RedisPy => "redis-py",
        }
    }

    /// What it is made with in Python.
    fn python(self) -> Option<&'static str> {
        match self {
            Self::Hapax | Self::Strict => None,
            Self::DiskCache => Some(DISKCACHE),
            #[cfg(feature = "coord-redis")]
            Self::RedisPy => Some(REDIS_PY),
        }
    }

    fn process(self, place: &str, work: &str, begin: f64, end: f64) -> Process {
        let times = [begin.to_string(), end.to_string()];
        let Some(python) = self.python() else {
            let kind = if self == Self::Strict {
                "strict"
            } else {
                "barging"
            };
            let mut command = Command::new(env::current_exe().unwrap());
            return Process::start(command.args(["contest", place, work, kind]).args(times));
        };
        let arguments = "import sys, time
place, work, begin, end = sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4])";
        let program = [arguments, python, PYTHON].concat();
        let place = if self == Self::DiskCache {
            format!("{place}.diskcache")
        } else {
            place.to_owned()
        };
        let mut command = Command::new(env::var("HAPAX_PYTHON").unwrap());
        Process::start(command.args(["-c", &program, &place, work]).args(times))
    }

    /// Steps a second.
    fn contest(self, place: &str, work: &str, processes: usize, seconds: f64) -> f64 {
        let begin = now() + 0.4;
        let mut processes: Vec<_> = (0..processes)
            .map(|_| self.process(place, work, begin, begin + seconds))
            .collect();
        let steps = processes.iter_mut().map(|process| number(&process.line()));
        steps.sum::<f64>() / seconds
    }
}

fn compare_on_files(turns: usize, seconds: f64) {
    let directory = tempfile::tempdir_in(
        env::var_os("HAPAX_BENCH_DIR").map_or_else(env::temp_dir, PathBuf::from),
    )
    .unwrap();
    let place = directory.path().join("locks.db");
    let place = place.to_str().expect("a path that is a text");
    println!("on files");
    let contestants = [Contestant::Hapax, Contestant::Strict, Contestant::DiskCache];
    compare(place, &contestants, turns, seconds);
    hand_over(place, turns * 40);
    kills(place, turns * 8);
}

#[cfg(feature = "coord-redis")]
fn compare_on_a_server(turns: usize, seconds: f64) {
    let server = redis_server::Server::start();
    println!("on a Redis server");
    let contestants = [Contestant::Hapax, Contestant::Strict, Contestant::RedisPy];
    compare(&server.url(), &contestants, turns, seconds);
    hand_over(&server.url(), turns * 40);
}

fn compare(place: &str, contestants: &[Contestant], turns: usize, seconds: f64) {
    let has_python = env::var_os("HAPAX_PYTHON").is_some();
    if !has_python {
        println!("without rivals: HAPAX_PYTHON names no Python that has them");
    }
    let pairs = [1, 2, 4, 8].map(|processes| ("pairs", processes));
    let working = [2, 4, 8].map(|processes| ("working pairs", processes));
    let values = [1, 4].map(|processes| [("additions", processes), ("permits", processes)]);
    let values = values.into_iter().flatten();
    for (work, processes) in pairs.into_iter().chain(working).chain(values) {
        let is_of_locks = work.ends_with("pairs");
        let mut results: Vec<(Contestant, Vec<f64>)> = contestants
            .iter()
            .filter(|contestant| has_python || contestant.python().is_none())
            .filter(|contestant| is_of_locks || has_values(**contestant))
            .map(|contestant| (*contestant, Vec::new()))
            .collect();
        for _ in 0..turns {
            for (contestant, results) in &mut results {
                results.push(contestant.contest(place, work, processes, seconds));
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
}

/// There is no order in values, and redis-py has none.
fn has_values(contestant: Contestant) -> bool {
    matches!(contestant, Contestant::Hapax | Contestant::DiskCache)
}

fn hand_over(place: &str, times: usize) {
    let (mut holder, mut waiter) = (Process::own("hold", place), Process::own("wait", place));
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

fn kills(place: &str, times: usize) {
    let mut waiter = Process::own("wait", place);
    let mut results = Vec::new();
    for _ in 0..times {
        let mut holder = Process::own("hold", place);
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
