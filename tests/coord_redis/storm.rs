//! Many processes, few keys, and one of them killed every now and then.
//!
//! It lasts four seconds, or as many as `HAPAX_STORM_SECONDS` says, and two more when nobody is killed any more. Each process says when it has got a lock and when it is
//! about to give it back, by the machine's clock, and the test looks at all of it together:
//!
//! - no two hold a key at the same time, unless both share it: each says when, and holds it if it finds after that
//!   that its grant is valid; who was killed has held it until right before that;
//! - tokens grow in the order in which a key was held, and none is granted twice;
//! - all go on to the end, so nobody has slept through its turn;
//! - nothing is left behind.
//!
//! In a rough storm the server forgets its scripts and cuts connections as well. In others it is killed and started again,
//! forgets everything, or a replica takes its place that may lack the last writes; or processes are stopped for longer than
//! their leases last.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::Duration;

use hapax::coord::{CoordError, Lock, Semaphore, Store};
use rustix::process::Signal;
use rustix::time::{ClockId, clock_gettime};

use crate::agent::Agent;
use crate::place::Place;
use crate::redis_server::{Proxy, Server, until};

crate::trials! {
    a_storm,
    a_strict_storm,
    a_rough_storm,
    a_storm_of_restarts,
    a_storm_of_flushes,
    a_storm_of_fail_overs,
    a_storm_of_permits,
    a_storm_of_readers,
    a_storm_of_stops,
}

const PROCESSES: usize = 6;
const KEYS: u64 = 3;
const PERMITS: u32 = 2;
/// In nanoseconds: so long it goes on when all is well again.
const CALM: u64 = 2_000_000_000;
const LEASE: Duration = Duration::from_millis(600);

/// The variable that tells a process until when there is a storm.
const UNTIL: &str = "HAPAX_STORM_UNTIL";

/// What one process of a storm does, until then or until it is killed.
pub(crate) fn run(place: &str, kind: &str) {
    let place = Place::from_text(place);
    let mut opened = None;
    // The server may be just gone.
    until("there is a server", || {
        opened = place.try_open().ok();
        opened.is_some()
    });
    let store = opened.unwrap();
    println!("open");
    let mut random = fastrand::Rng::with_seed(std::process::id().into());
    let end: u64 = std::env::var(UNTIL).unwrap().parse().unwrap();
    while now() < end {
        let key = random.u64(..KEYS);
        let name = format!("key {key}");
        if kind == "permits" {
            let semaphore = Semaphore::new(&store, &name, PERMITS);
            let permit = match random.u8(..8) {
                0 => semaphore.try_acquire(),
                1..5 => semaphore.try_acquire_for(patience(&mut random)),
                _ => semaphore.acquire(),
            };
            if let Some(permit) = taken(permit) {
                let place = key * u64::from(PERMITS) + u64::from(permit.slot());
                let (token, is_valid) = (permit.fencing_token(), || permit.is_valid());
                let gave = hold(&mut random, &format!("{place} {token} alone"), is_valid);
                give_back(permit.release(), kind, gave);
            }
            continue;
        }
        let lock = Lock::new(&store, &name);
        let (lock, how) = match kind {
            "strict" => (lock.strict(), "alone"),
            "readers" if random.u8(..4) > 0 => (lock.shared(), "shared"),
            _ => (lock, "alone"),
        };
        let guard = match random.u8(..8) {
            // Some give up, or all would soon wait for the dead.
            0 => lock.try_lock(),
            1..5 => lock.try_lock_for(patience(&mut random)),
            _ => lock.lock(),
        };
        if let Some(guard) = taken(guard) {
            let (token, is_valid) = (guard.fencing_token(), || guard.is_valid());
            let gave = hold(&mut random, &format!("{key} {token} {how}"), is_valid);
            give_back(guard.release(), kind, gave);
        }
    }
    println!("done");
}

fn patience(random: &mut fastrand::Rng) -> Duration {
    Duration::from_micros(1 << random.u32(8..18))
}

fn taken<G>(answer: Result<G, CoordError>) -> Option<G> {
    match answer {
        Ok(guard) => return Some(guard),
        Err(CoordError::TimedOut { .. }) => {}
        Err(error) => println!("failed {error}"),
    }
    None
}

/// Says when something was got and when it was about to be given back. Answers the latter.
fn hold(random: &mut fastrand::Rng, what: &str, is_valid: impl Fn() -> bool) -> u64 {
    let say = |event: &str| {
        // Whatever is valid now was so then.
        let now = now();
        println!("{event} {what} {now} {}", is_valid());
        now
    };
    say("got");
    if random.u8(..4) == 0 {
        std::thread::sleep(Duration::from_micros(random.u64(..1500)));
    }
    say("gave")
}

fn give_back(answer: Result<(), CoordError>, kind: &str, gave: u64) {
    match answer {
        Ok(()) => {}
        Err(CoordError::Lost { .. }) if may_lose(kind, gave) => {}
        Err(error) => println!("failed {error}"),
    }
}

/// Whether it is no failure that something is lost which was valid at that time.
fn may_lose(kind: &str, then: u64) -> bool {
    matches!(kind, "flushes" | "fail-overs" | "stops") || now() - then > LEASE.as_nanos() as u64 / 2
}

fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    (now.tv_sec * 1_000_000_000 + now.tv_nsec).cast_unsigned()
}

fn seconds() -> u64 {
    let seconds = std::env::var("HAPAX_STORM_SECONDS").ok();
    seconds.map_or(4, |seconds| {
        seconds.parse().expect("HAPAX_STORM_SECONDS is a number")
    })
}

/// That a key was held, from and until.
#[derive(Debug)]
struct Span {
    from: u64,
    until: u64,
    token: u64,
    is_shared: bool,
}

/// What was seen of a storm.
#[derive(Default)]
struct Record {
    spans: Vec<(u64, Span)>,
    failures: Vec<String>,
}

fn a_storm() {
    storm("barging");
}

fn a_strict_storm() {
    storm("strict");
}

fn a_rough_storm() {
    storm("rough");
}

fn a_storm_of_restarts() {
    storm("restarts");
}

fn a_storm_of_flushes() {
    storm("flushes");
}

fn a_storm_of_fail_overs() {
    storm("fail-overs");
}

/// Each permit is looked at by itself.
fn a_storm_of_permits() {
    storm("permits");
}

fn a_storm_of_readers() {
    storm("readers");
}

fn a_storm_of_stops() {
    storm("stops");
}

fn storm(kind: &str) {
    let mut server = Server::options().kept().start();
    let mut replica = (kind == "fail-overs").then(|| Server::replica_of(&server));
    let proxy = Proxy::to(&server);
    let url = match replica {
        Some(_) => proxy.url(),
        None => server.url(),
    };
    let place = Place::at(&url)
        .lease(LEASE)
        .with_grace()
        .busy_for(Duration::from_secs(10));
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let end = now() + seconds() * 1_000_000_000;
    let start = || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .env(UNTIL, (end + CALM).to_string())
            .arg("storm")
            .arg(kind);
        Agent::by(command, &place)
    };
    let mut agents: Vec<_> = (0..PROCESSES).map(|_| start()).collect();
    let mut record = Record::default();
    while now() < end {
        std::thread::sleep(Duration::from_millis(random.u64(200..800)));
        match (kind, random.u8(..3)) {
            ("rough", 0) => drop(server.command(&["SCRIPT", "FLUSH"])),
            ("rough", 1) => drop(server.command(&["CLIENT", "KILL", "TYPE", "normal"])),
            ("rough", _) => drop(server.command(&["CLIENT", "KILL", "TYPE", "pubsub"])),
            ("restarts", 0) => server.restart(),
            ("flushes", 0) => drop(server.command(&["FLUSHALL"])),
            ("fail-overs", 0) => {
                server.kill();
                let promoted = replica.take().unwrap();
                promoted.promote();
                proxy.redirect(&promoted);
                server = promoted;
                replica = Some(Server::replica_of(&server));
            }
            _ => {}
        }
        let victim = random.usize(..PROCESSES);
        if kind == "stops" {
            agents[victim].signal(Signal::STOP);
            std::thread::sleep(Duration::from_millis(random.u64(..1500)));
            agents[victim].signal(Signal::CONT);
            continue;
        }
        let killed = now();
        agents[victim].kill();
        record.read(&mut agents[victim], killed);
        agents[victim] = start();
    }
    for agent in &mut agents {
        assert!(record.read(agent, u64::MAX), "one has hung");
        agent.child.wait().unwrap();
    }
    assert!(record.failures.is_empty(), "{:#?}", record.failures);
    println!("{} spans", record.spans.len());
    check(record.spans);
    nothing_is_left(&server, &place);
}

impl Record {
    /// Reads what a process has said until its end. True if it has come to that by itself.
    fn read(&mut self, agent: &mut Agent, killed: u64) -> bool {
        let mut open = None;
        while let Some(line) = agent.next() {
            match *line.split(' ').collect::<Vec<_>>() {
                ["got", key, token, how, from, "true"] => {
                    let from = from.parse().unwrap();
                    let span = Span {
                        from,
                        until: from,
                        token: token.parse().unwrap(),
                        is_shared: how == "shared",
                    };
                    open = Some((key.parse().unwrap(), span));
                }
                ["gave", _, _, _, until, is_valid] => {
                    // Who was slow has lost it meanwhile, and knows it.
                    if let Some((key, mut span)) = open.take() {
                        if is_valid == "true" {
                            span.until = until.parse().unwrap();
                        }
                        self.spans.push((key, span));
                    }
                }
                ["failed", ..] => self.failures.push(line),
                ["done"] => return true,
                _ => {}
            }
        }
        if let Some((key, mut span)) = open {
            // As far as its lease may have gone.
            let end = span.from + LEASE.as_nanos() as u64 / 2;
            span.until = killed.clamp(span.from, end);
            self.spans.push((key, span));
        }
        false
    }
}

fn check(spans: Vec<(u64, Span)>) {
    let tokens: BTreeSet<_> = spans.iter().map(|(_, span)| span.token).collect();
    assert_eq!(tokens.len(), spans.len(), "a token was granted twice");
    let mut by_key: BTreeMap<u64, Vec<Span>> = BTreeMap::new();
    for (key, span) in spans {
        by_key.entry(key).or_default().push(span);
    }
    assert!(by_key.len() as u64 >= KEYS);
    let count: usize = by_key.values().map(Vec::len).sum();
    assert!(count > 10, "little was done: {count}");
    for spans in by_key.values_mut() {
        spans.sort_by_key(|span| span.from);
        for (at, one) in spans.iter().enumerate() {
            for next in spans[at + 1..].iter().take(PROCESSES) {
                // Those who share it may come in any order.
                if !(one.is_shared && next.is_shared) {
                    let pair = format!("{one:?}, {next:?}");
                    assert!(one.until <= next.from, "two at once: {pair}");
                    assert!(one.token < next.token, "a token went back: {pair}");
                }
            }
        }
    }
}

fn nothing_is_left(server: &Server, place: &Place) {
    let store = place.open();
    until("leases have ended", || {
        let list = store.list().unwrap();
        list.iter().all(|status| status.holders.is_empty())
    });
    place.forget_who_waits(server);
    for key in 0..KEYS {
        let lock = Lock::new(&store, &format!("key {key}"));
        lock.lock().unwrap().release().unwrap();
    }
    assert!(store.list().unwrap().is_empty());
    store.close().unwrap();
    let fresh = Server::start();
    place.by(&fresh.url()).opened();
    assert_eq!(server.keys(""), fresh.keys(""));
}
