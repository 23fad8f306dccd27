//! Many processes, few keys, and one of them killed every now and then.
//!
//! It lasts two seconds, or as many as `HAPAX_STORM_SECONDS` says, of eight processes over three keys, or as many as
//! `HAPAX_STORM_PROCESSES` and `HAPAX_STORM_KEYS` say. Each process says when it has got a lock and when it is
//! about to give it back, by the machine's clock, and the test looks at all of it together:
//!
//! - no two hold a key at the same time: who was killed has held it until right before that;
//! - tokens grow in the order in which a key was held, and none is granted twice;
//! - all go on to the end, so nobody has slept through its turn;
//! - nothing is left behind.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hapax::coord::{Lock, SqliteStore, Store};
use rustix::time::{ClockId, clock_gettime};

use crate::agent::Agent;
use crate::processes::place;

crate::trials! { a_storm, a_strict_storm }

fn seconds() -> u64 {
    setting("SECONDS", 2)
}

fn processes() -> usize {
    setting("PROCESSES", 8) as usize
}

fn keys() -> u64 {
    setting("KEYS", 3)
}

fn setting(name: &str, otherwise: u64) -> u64 {
    let name = format!("HAPAX_STORM_{name}");
    let value = std::env::var(&name).ok();
    value.map_or(otherwise, |value| {
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name} is a number"))
    })
}

/// What one process of a storm does, until it is killed or has no more input.
pub(crate) fn run(path: &str, kind: &str) {
    let store = SqliteStore::open(path).unwrap();
    println!("open");
    let mut random = fastrand::Rng::with_seed(std::process::id().into());
    let (end, keys) = (now() + seconds() * 1_000_000_000, keys());
    while now() < end {
        let key = random.u64(..keys);
        let lock = Lock::new(&store, &format!("key {key}"));
        let lock = if kind == "strict" {
            lock.strict()
        } else {
            lock
        };
        let guard = match random.u8(..8) {
            // Some give up.
            0 => lock.try_lock_for(Duration::from_micros(random.u64(..2000))),
            1 => lock.try_lock(),
            _ => lock.lock(),
        };
        let Ok(guard) = guard else { continue };
        let token = guard.fencing_token();
        println!("got {key} {token} {}", now());
        if random.u8(..4) == 0 {
            std::thread::sleep(Duration::from_micros(random.u64(..1500)));
        }
        println!("gave {key} {token} {}", now());
        guard.release().unwrap();
    }
    println!("done");
}

fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    (now.tv_sec * 1_000_000_000 + now.tv_nsec).cast_unsigned()
}

/// That a key was held, from and until.
#[derive(Debug)]
struct Span {
    from: u64,
    until: u64,
    token: u64,
}

fn a_storm() {
    storm("barging");
}

fn a_strict_storm() {
    storm("strict");
}

fn storm(kind: &str) {
    let (directory, path) = place();
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut agents: Vec<_> = (0..processes()).map(|_| start(&path, kind)).collect();
    let mut spans = Vec::new();
    let end = Instant::now() + Duration::from_secs(seconds());
    while Instant::now() < end {
        std::thread::sleep(Duration::from_millis(random.u64(20..200)));
        let victim = random.usize(..agents.len());
        let killed = now();
        agents[victim].kill();
        read(&mut agents[victim], killed, &mut spans);
        agents[victim] = start(&path, kind);
    }
    for agent in &mut agents {
        assert!(read(agent, u64::MAX, &mut spans), "one has hung");
        agent.child.wait().unwrap();
    }
    check(spans);
    nothing_is_left(directory.path(), &path);
}

fn start(path: &Path, kind: &str) -> Agent {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.arg("storm").arg(kind);
    Agent::by(command, path)
}

/// Reads what a process has said until its end. True if it has come to that by itself.
fn read(agent: &mut Agent, killed: u64, spans: &mut Vec<(u64, Span)>) -> bool {
    let mut open = None;
    while let Some(line) = agent.next() {
        let words: Vec<_> = line.split(' ').collect();
        let number = |at: usize| words.get(at).and_then(|word: &&str| word.parse().ok());
        match (words[0], number(1), number(2), number(3)) {
            ("got", Some(key), Some(token), Some(from)) => open = Some((key, token, from)),
            ("gave", Some(_), Some(_), Some(until)) => {
                let (key, token, from) = open.take().unwrap();
                spans.push((key, Span { from, until, token }));
            }
            ("done", ..) => return true,
            _ => {}
        }
    }
    if let Some((key, token, from)) = open {
        spans.push((
            key,
            Span {
                from,
                until: killed.max(from),
                token,
            },
        ));
    }
    false
}

fn check(spans: Vec<(u64, Span)>) {
    let tokens: BTreeSet<_> = spans.iter().map(|(_, span)| span.token).collect();
    assert_eq!(tokens.len(), spans.len(), "a token was granted twice");
    let mut by_key: BTreeMap<u64, Vec<Span>> = BTreeMap::new();
    for (key, span) in spans {
        by_key.entry(key).or_default().push(span);
    }
    for spans in by_key.values_mut() {
        spans.sort_by_key(|span| span.from);
        assert!(spans.len() > 20, "little was done: {}", spans.len());
        for pair in spans.windows(2) {
            assert!(pair[0].until <= pair[1].from, "two at once: {pair:?}");
            assert!(pair[0].token < pair[1].token, "a token went back: {pair:?}");
        }
    }
}

fn nothing_is_left(directory: &Path, path: &PathBuf) {
    let store = SqliteStore::open(path).unwrap();
    for key in 0..keys() {
        Lock::new(&store, &format!("key {key}"))
            .try_lock()
            .unwrap()
            .release()
            .unwrap();
    }
    assert!(store.list().unwrap().is_empty());
    drop(store);
    let left = std::fs::read_dir(directory.join("locks.db-sessions")).unwrap();
    assert_eq!(left.count(), 0);
}
