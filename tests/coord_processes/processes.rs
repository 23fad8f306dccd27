//! Processes that are killed, stopped and forked.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hapax::coord::{CoordError, Lock, SqliteStore, Status, Store};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::agent::{Agent, until};

crate::trials! {
    a_killed_holder_is_succeeded_at_once,
    killed_waiters_are_skipped,
    a_chain_of_killed_waiters_and_their_holder,
    a_killed_holder_of_a_permit_is_succeeded,
    who_does_not_wait_sees_that_the_holder_is_dead,
    a_stopped_holder_loses_a_lease_and_keeps_a_session,
    waiters_are_served_in_order,
    waiters_write_nothing,
    a_ring_for_another_grants_nothing,
    a_forked_child_keeps_nothing_alive,
    a_child_that_was_forked_before_anything_was_held,
    a_long_session_among_many_short_ones,
    too_many_open_files_are_an_error_that_passes,
    an_inherited_session_outlives_its_process,
    killed_sessions_leave_nothing_behind,
    a_broken_grant_is_noticed,
    eight_processes_open_a_new_file,
}

/// A place for a store.
pub(crate) fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("locks.db");
    (directory, path)
}

/// Waits until so many wait for a key, and answers with what is known of it.
pub(crate) fn until_wait(store: &SqliteStore, key: &str, waiters: usize) -> Status {
    let mut found = None;
    until("they wait", || {
        let list = store.list().unwrap();
        found = list.into_iter().find(|status| status.key == key);
        found
            .as_ref()
            .is_some_and(|status| status.waiters.len() == waiters)
    });
    found.unwrap()
}

fn a_killed_holder_is_succeeded_at_once() {
    let (_directory, path) = place();
    let store = SqliteStore::open(&path).unwrap();
    let mut times: Vec<_> = (0..10)
        .map(|_| {
            let mut holder = Agent::open(&path);
            let token = holder.get("lock k");
            let (lock, store) = (Lock::new(&store, "k"), &store);
            std::thread::scope(|scope| {
                let waiter = scope.spawn(|| (lock.lock().unwrap().fencing_token(), Instant::now()));
                until_wait(store, "k", 1);
                let killed = Instant::now();
                holder.kill();
                let (successor, got) = waiter.join().unwrap();
                assert!(successor > token);
                got - killed
            })
        })
        .collect();
    times.sort();
    // The safety check comes after a second: it isn't what wakes them.
    assert!(times[5] < Duration::from_millis(500), "{times:?}");
}

fn killed_waiters_are_skipped() {
    let (_directory, path) = place();
    let store = SqliteStore::open(&path).unwrap();
    let guard = Lock::new(&store, "k").lock().unwrap();
    let mut agents: Vec<_> = (1..=3)
        .map(|number| {
            let mut agent = Agent::open(&path);
            agent.tell("strict k");
            until_wait(&store, "k", number);
            agent
        })
        .collect();
    agents[1].kill();
    // The one behind takes it out of the queue.
    until_wait(&store, "k", 2);
    agents[0].kill();
    until_wait(&store, "k", 1);
    let token = guard.fencing_token();
    guard.release().unwrap();
    assert!(agents[2].token() > token);
}

/// The last one hears of it though it watches none of them but the one before it.
fn a_chain_of_killed_waiters_and_their_holder() {
    let (_directory, path) = place();
    let store = SqliteStore::open(&path).unwrap();
    let mut holder = Agent::open(&path);
    let token = holder.get("lock k");
    let mut agents: Vec<_> = (1..=4)
        .map(|number| {
            let mut agent = Agent::open(&path);
            agent.tell("lock k");
            until_wait(&store, "k", number);
            agent
        })
        .collect();
    holder.signal(Signal::STOP);
    for agent in &agents[..3] {
        agent.signal(Signal::STOP);
    }
    holder.kill();
    agents[..3].iter_mut().for_each(Agent::kill);
    assert!(agents[3].token() > token);
}

fn a_killed_holder_of_a_permit_is_succeeded() {
    let (_directory, path) = place();
    let store = SqliteStore::open(&path).unwrap();
    let mut agents: Vec<_> = (0..3).map(|_| Agent::open(&path)).collect();
    let first = agents[0].get("permit k 2");
    let second = agents[1].get("permit k 2");
    agents[2].tell("permit k 2");
    until_wait(&store, "k", 1);
    agents[1].kill();
    assert!(agents[2].token() > first.max(second));
    let status = until_wait(&store, "k", 0);
    let slots: Vec<_> = status.holders.iter().map(|holder| holder.slot).collect();
    assert_eq!(slots, [0, 1]);
}

fn who_does_not_wait_sees_that_the_holder_is_dead() {
    let (_directory, path) = place();
    let store = SqliteStore::open(&path).unwrap();
    let mut holder = Agent::open(&path);
    let token = holder.get("lock k");
    let lock = Lock::new(&store, "k");
    assert!(matches!(lock.try_lock(), Err(CoordError::TimedOut { .. })));
    holder.kill();
    assert!(lock.try_lock().unwrap().fencing_token() > token);
}

fn a_stopped_holder_loses_a_lease_and_keeps_a_session() {
    let (_directory, path) = place();
    let store = SqliteStore::open(&path).unwrap();
    let (mut leased, mut session) = (Agent::open(&path), Agent::open(&path));
    let token = leased.get("renewed leased 300");
    session.get("lock session");
    // It renews itself, each tenth of a second. It isn't to be stopped in the middle of that, which would stop all.
    let lock = Lock::new(&store, "leased");
    assert!(lock.try_lock_for(Duration::from_millis(950)).is_err());
    leased.signal(Signal::STOP);
    session.signal(Signal::STOP);
    let successor = lock.lock().unwrap();
    assert!(successor.fencing_token() > token);
    assert!(
        Lock::new(&store, "session")
            .try_lock_for(Duration::from_millis(300))
            .is_err()
    );
    leased.signal(Signal::CONT);
    session.signal(Signal::CONT);
    assert_eq!(leased.ask("valid"), "false");
    assert_eq!(leased.ask("lost"), "true");
    assert_eq!(leased.ask("release"), "error Lost");
    assert!(successor.is_valid());
    successor.release().unwrap();
    assert_eq!(session.ask("valid"), "true");
    assert_eq!(session.ask("release"), "released");
}

fn waiters_are_served_in_order() {
    let (_directory, path) = place();
    let store = SqliteStore::open(&path).unwrap();
    let guard = Lock::new(&store, "k").lock().unwrap();
    let mut agents: Vec<_> = (1..=4)
        .map(|number| {
            let mut agent = Agent::open(&path);
            agent.tell("lock k");
            until_wait(&store, "k", number);
            agent
        })
        .collect();
    let mut last = guard.fencing_token();
    guard.release().unwrap();
    for agent in &mut agents {
        let token = agent.token();
        assert!(token > last);
        last = token;
        assert_eq!(agent.ask("release"), "released");
    }
}

/// They sleep: nothing is added to the log, which would change its length or its first page.
fn waiters_write_nothing() {
    let (_directory, path) = place();
    let store = SqliteStore::open(&path).unwrap();
    let _guard = Lock::new(&store, "k").lock().unwrap();
    let mut agents: Vec<_> = (0..3).map(|_| Agent::open(&path)).collect();
    agents.iter_mut().for_each(|agent| agent.tell("lock k"));
    until_wait(&store, "k", 3);
    // Whoever has just come may still have to look.
    std::thread::sleep(Duration::from_millis(300));
    let log = || std::fs::read(Path::new(&format!("{}-wal", path.display()))).unwrap();
    let before = log();
    std::thread::sleep(Duration::from_millis(1500));
    assert!(before == log(), "somebody has written");
}

/// A ring says to which ticket something was granted. One that was late, or is of another version, is for nobody.
fn a_ring_for_another_grants_nothing() {
    let (_directory, path) = place();
    let store = SqliteStore::open(&path).unwrap();
    let guard = Lock::new(&store, "k").lock().unwrap();
    let token = guard.fencing_token();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let other = SqliteStore::open(&path).unwrap();
            let guard = Lock::new(&other, "k").lock().unwrap();
            guard.check().unwrap();
            guard.fencing_token()
        });
        until_wait(&store, "k", 1);
        let ringer = UnixDatagram::unbound().unwrap();
        let sessions = path.with_file_name("locks.db-sessions");
        let mut rung = 0;
        for entry in fs::read_dir(sessions).unwrap() {
            let socket = entry.unwrap().path();
            if socket.extension().is_some_and(|end| end == "1") {
                // With zeros it is understood, and for no ticket.
                for message in [[1; 41], [0; 41]] {
                    for length in [0, 39, 40, 41] {
                        rung += ringer.send_to(&message[..length], &socket).is_ok() as u32;
                        std::thread::sleep(Duration::from_millis(20));
                        assert!(!waiter.is_finished());
                    }
                }
            }
        }
        assert_eq!(rung, 8);
        guard.release().unwrap();
        assert!(waiter.join().unwrap() > token);
    });
}

fn a_forked_child_keeps_nothing_alive() {
    let (_directory, path) = place();
    let store = SqliteStore::open(&path).unwrap();
    let mut holder = Agent::open(&path);
    let token = holder.get("lock k");
    // A watcher of the holder, whose end of the connection the child has a copy of.
    let mut waiter = Agent::open(&path);
    waiter.tell("lock k");
    until_wait(&store, "k", 1);
    std::thread::sleep(Duration::from_millis(1200));
    let answer = holder.ask("fork k");
    let (told, child) = answer.rsplit_once(' ').unwrap();
    assert_eq!(told, "ForkedChild ForkedChild");
    assert_eq!(holder.ask("valid"), "true");
    holder.kill();
    let killed = Instant::now();
    assert!(waiter.token() > token);
    // By the end of the connection, or by the safety check at the latest.
    assert!(killed.elapsed() < Duration::from_secs(10));
    let child = rustix::process::Pid::from_raw(child.parse().unwrap()).unwrap();
    rustix::process::kill_process(child, Signal::KILL).unwrap();
}

/// Forks are noticed from the moment on when a store is opened.
fn a_child_that_was_forked_before_anything_was_held() {
    let (_directory, path) = place();
    let mut parent = Agent::open(&path);
    let answer = parent.ask("fork k");
    let (told, child) = answer.rsplit_once(' ').unwrap();
    assert_eq!(told, "ForkedChild ForkedChild");
    parent.get("lock k");
    let child = rustix::process::Pid::from_raw(child.parse().unwrap()).unwrap();
    rustix::process::kill_process(child, Signal::KILL).unwrap();
}

/// The sockets to sessions that have ended don't stay.
fn a_long_session_among_many_short_ones() {
    let (_directory, path) = place();
    let store = SqliteStore::open(&path).unwrap();
    let lock = Lock::new(&store, "k");
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    lock.lock().unwrap().release().unwrap();
    let before = descriptors();
    for _ in 0..80 {
        let short = SqliteStore::open(&path).unwrap();
        let _guard = Lock::new(&short, "k").lock().unwrap();
        assert!(lock.try_lock().is_err());
    }
    // Other tests of this process have files open as well.
    let after = descriptors();
    assert!(after < before + 70, "{before} and then {after}");
}

fn too_many_open_files_are_an_error_that_passes() {
    let (_directory, path) = place();
    for count in 0..8 {
        let mut agent = Agent::open(&path);
        let answer = agent.ask(&format!("limited {count} k"));
        assert!(
            answer == "error Store" || answer == "held",
            "{count}: {answer}"
        );
        agent.get("lock k");
    }
}

fn an_inherited_session_outlives_its_process() {
    let (_directory, path) = place();
    let store = SqliteStore::open(&path).unwrap();
    let mut holder = Agent::open(&path);
    let token = holder.get("lock k");
    let answer = holder.ask("start");
    let program = answer.strip_prefix("started ").unwrap().parse().unwrap();
    let program = rustix::process::Pid::from_raw(program).unwrap();
    let mut waiter = Agent::open(&path);
    waiter.tell("lock k");
    until_wait(&store, "k", 1);
    holder.kill();
    // Beyond the safety check.
    assert!(waiter.is_silent_for(Duration::from_millis(1500)));
    assert!(Lock::new(&store, "k").try_lock().is_err());
    rustix::process::kill_process(program, Signal::KILL).unwrap();
    assert!(waiter.token() > token);
}

fn killed_sessions_leave_nothing_behind() {
    let (directory, path) = place();
    let mut agents: Vec<_> = (0..4).map(|_| Agent::open(&path)).collect();
    agents[0].get("lock a");
    agents[1].tell("lock a");
    agents[2].get("permit b 3");
    agents[3].get("lock c");
    agents.iter_mut().for_each(Agent::kill);
    let store = SqliteStore::open(&path).unwrap();
    Lock::new(&store, "d").lock().unwrap().release().unwrap();
    assert!(store.list().unwrap().is_empty());
    drop(store);
    let sessions = directory.path().join("locks.db-sessions");
    let left: Vec<_> = std::fs::read_dir(sessions).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

fn a_broken_grant_is_noticed() {
    let (_directory, path) = place();
    let store = SqliteStore::open(&path).unwrap();
    let mut holder = Agent::open(&path);
    let token = holder.get("lock k");
    let mut waiter = Agent::open(&path);
    waiter.tell("lock k");
    until_wait(&store, "k", 1);
    assert!(matches!(
        store.force_unlock("k", token + 1),
        Err(CoordError::NotHeld { .. })
    ));
    store.force_unlock("k", token).unwrap();
    let successor = waiter.token();
    assert!(successor > token);
    assert_eq!(holder.ask("lost"), "true");
    assert_eq!(holder.ask("release"), "error Lost");
    assert!(matches!(
        store.force_unlock("k", token),
        Err(CoordError::NotHeld { .. })
    ));
    assert_eq!(waiter.ask("valid"), "true");
}

fn eight_processes_open_a_new_file() {
    for _ in 0..5 {
        let (_directory, path) = place();
        let mut agents: Vec<_> = (0..8).map(|_| Agent::start(&path)).collect();
        for agent in &mut agents {
            assert_eq!(agent.answer(), "open");
        }
        let mut tokens: Vec<_> = agents
            .iter_mut()
            .map(|agent| agent.get("permit k 8"))
            .collect();
        tokens.sort();
        tokens.dedup();
        assert_eq!(tokens.len(), 8);
    }
}
