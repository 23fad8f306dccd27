//! Holders and waiters that are killed, stopped and forked.

use std::time::{Duration, Instant};

use hapax::coord::{Lock, Store};
use rustix::process::Signal;

use crate::agent::Agent;
use crate::place::{Place, is_timed_out, until_wait};
use crate::redis_server::Server;
use crate::task;

crate::trials! {
    a_killed_holder_is_succeeded_after_its_lease,
    a_holder_that_ends_is_succeeded_at_once,
    killed_waiters_cost_little,
    a_killed_waiter_that_was_granted_it,
    a_stopped_holder_loses_it,
    a_stopped_waiter_is_passed,
    waiters_are_served_in_order,
    a_forked_child_is_refused,
    killed_sessions_leave_nothing_behind,
    eight_processes_open_an_empty_server,
}

/// Longer than any test.
const LONG: Duration = Duration::from_secs(60);

fn a_killed_holder_is_succeeded_after_its_lease() {
    let place = Place::new();
    let store = place.open();
    let mut holder = Agent::open(&place);
    let token = holder.get("lock k");
    let lock = Lock::new(&store, "k");
    let waiter = task(move || (lock.lock().unwrap().fencing_token(), Instant::now()));
    until_wait(&store, "k", 1);
    let killed = Instant::now();
    holder.kill();
    let (successor, got) = waiter.answer();
    assert!(successor > token);
    // Its last renewal was a third of the lease ago, or a little more.
    assert!(got - killed > place.lease / 2, "{:?}", got - killed);
    assert!(
        got - killed < place.lease + Duration::from_secs(1),
        "{:?}",
        got - killed
    );
}

fn a_holder_that_ends_is_succeeded_at_once() {
    let place = Place::new().lease(LONG);
    let store = place.open();
    let mut holder = Agent::open(&place);
    holder.get("lock k");
    let lock = Lock::new(&store, "k");
    let waiter = task(move || lock.lock().map(drop));
    until_wait(&store, "k", 1);
    drop(holder.child.stdin.take());
    waiter.answer_within(Duration::from_secs(5)).unwrap();
}

/// Whatever their leases: nobody listens any more where they would be told.
fn killed_waiters_cost_little() {
    for kind in ["lock", "strict"] {
        let place = Place::new().lease(LONG);
        let store = place.open();
        let guard = Lock::new(&store, "k").lock().unwrap();
        let mut agents: Vec<_> = (1..=3)
            .map(|number| {
                let mut agent = Agent::open(&place);
                agent.tell(&format!("{kind} k"));
                until_wait(&store, "k", number);
                agent
            })
            .collect();
        agents[0].kill();
        agents[1].kill();
        let token = guard.fencing_token();
        let released = Instant::now();
        guard.release().unwrap();
        assert!(agents[2].token() > token);
        assert!(
            released.elapsed() < Duration::from_secs(1),
            "{kind}: {:?}",
            released.elapsed()
        );
    }
}

/// It was the next one when it was stopped, so it gets the grant, and never takes it.
fn a_killed_waiter_that_was_granted_it() {
    let place = Place::new().lease(LONG);
    let store = place.open();
    let guard = Lock::new(&store, "k").strict().lock().unwrap();
    let mut agents = [0, 1].map(|number| {
        let mut agent = Agent::open(&place);
        agent.tell("strict k");
        until_wait(&store, "k", number + 1);
        agent
    });
    agents[0].signal(Signal::STOP);
    let released = Instant::now();
    guard.release().unwrap();
    std::thread::sleep(Duration::from_millis(100));
    agents[0].kill();
    agents[1].token();
    assert!(
        released.elapsed() < Duration::from_secs(7),
        "{:?}",
        released.elapsed()
    );
}

fn a_stopped_holder_loses_it() {
    let place = Place::new();
    let store = place.open();
    for command in ["lock a", "renewed b 1200"] {
        let mut holder = Agent::open(&place);
        let token = holder.get(command);
        let lock = Lock::new(&store, command.split(' ').nth(1).unwrap());
        // It renews itself.
        assert!(is_timed_out(&lock.try_lock_for(2 * place.lease)));
        holder.signal(Signal::STOP);
        let successor = lock.lock().unwrap();
        assert!(successor.fencing_token() > token);
        holder.signal(Signal::CONT);
        assert_eq!(holder.ask("valid"), "false");
        assert_eq!(holder.ask("lost"), "true");
        assert_eq!(holder.ask("release"), "error Lost");
        assert!(successor.is_valid());
        assert!(is_timed_out(&lock.try_lock()));
        successor.release().unwrap();
        holder.get(command);
        assert_eq!(holder.ask("release"), "released");
    }
}

fn a_stopped_waiter_is_passed() {
    let place = Place::new().lease(LONG);
    let store = place.open();
    let guard = Lock::new(&store, "k").lock().unwrap();
    let mut stopped = Agent::open(&place);
    stopped.tell("lock k");
    until_wait(&store, "k", 1);
    let mut next = Agent::open(&place);
    next.tell("lock k");
    until_wait(&store, "k", 2);
    stopped.signal(Signal::STOP);
    let released = Instant::now();
    guard.release().unwrap();
    let token = next.token();
    assert!(
        released.elapsed() < Duration::from_secs(7),
        "{:?}",
        released.elapsed()
    );
    stopped.signal(Signal::CONT);
    assert_eq!(next.ask("valid"), "true");
    assert_eq!(next.ask("release"), "released");
    assert!(stopped.token() > token);
}

fn waiters_are_served_in_order() {
    let place = Place::new();
    let store = place.open();
    let guard = Lock::new(&store, "k").lock().unwrap();
    let mut agents: Vec<_> = (1..=4)
        .map(|number| {
            let mut agent = Agent::open(&place);
            agent.tell("strict k");
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

fn a_forked_child_is_refused() {
    let place = Place::new();
    let store = place.open();
    let mut parent = Agent::open(&place);
    parent.get("lock k");
    assert_eq!(parent.ask("fork k").split(' ').next(), Some("ForkedChild"));
    assert_eq!(parent.ask("valid"), "true");
    assert!(is_timed_out(&Lock::new(&store, "k").try_lock()));
    assert_eq!(parent.ask("release"), "released");
    assert!(Lock::new(&store, "k").try_lock().is_ok());
}

fn killed_sessions_leave_nothing_behind() {
    let server = Server::start();
    let place = Place::on(&server);
    let place = place.opened();
    let before = server.keys("");
    let mut agents: Vec<_> = (0..4).map(|_| Agent::open(&place)).collect();
    agents[0].get("lock a");
    agents[1].tell("lock a");
    agents[2].get("renewed b 500");
    agents[3].get("lock c");
    until_wait(&place.open(), "a", 1);
    agents.iter_mut().for_each(Agent::kill);
    let store = place.open();
    place.forget_who_waits(&server);
    for key in ["a", "b", "c"] {
        Lock::new(&store, key).lock().unwrap().release().unwrap();
    }
    assert!(store.list().unwrap().is_empty());
    store.close().unwrap();
    assert_eq!(server.keys(""), before);
}

fn eight_processes_open_an_empty_server() {
    let server = Server::start();
    let place = Place::on(&server).with_grace();
    let opening: Vec<_> = (0..8)
        .map(|_| {
            let place = place.clone();
            task(move || Agent::open(&place).get("lock k"))
        })
        .collect();
    let mut tokens: Vec<_> = opening.into_iter().map(crate::Task::answer).collect();
    tokens.sort();
    tokens.dedup();
    assert_eq!(tokens.len(), 8);
}
