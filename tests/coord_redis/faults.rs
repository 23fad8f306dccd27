//! Servers that are restarted, emptied, full, stopped, failed over, and whose scripts are forgotten.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hapax::coord::{CoordError, Lease, Lock, LockGuard, RedisStore, Store};

use crate::place::{Place, assert_lost, is_lost, is_timed_out, succeed, until_wait};
use crate::redis_server::{Proxy, Sentinel, Server, until};
use crate::task;

crate::trials! {
    scripts_are_forgotten,
    scripts_are_forgotten_all_the_time,
    a_restart_with_its_data,
    a_restart_without_data,
    a_flush,
    a_flush_while_somebody_waits,
    who_comes_after_a_flush,
    a_flush_of_a_server_that_has_run_for_long,
    a_flush_of_a_server_that_nobody_watches,
    a_fail_over_to_a_replica_that_lags,
    a_fail_over_to_a_replica_that_has_everything,
    a_fail_over_by_a_sentinel,
    a_sentinel_that_does_not_know_the_primary,
    a_server_that_became_a_replica,
    a_full_server_gives_back_and_renews,
    a_stopped_server_is_an_error,
    a_stopped_server_ends_grants,
    a_server_that_is_busy_with_something_else,
}

fn scripts_are_forgotten() {
    let server = Server::start();
    let place = Place::on(&server).lease(Duration::from_millis(900));
    let (one, other) = (place.open(), place.open());
    let forget = || server.command(&["SCRIPT", "FLUSH"]);
    let lasting = Lock::new(&one, "lasting").lock().unwrap();
    for _ in 0..3 {
        forget();
        let guard = Lock::new(&one, "k").lock().unwrap();
        forget();
        guard.extend(Duration::from_secs(5)).unwrap();
        forget();
        let lock = Lock::new(&other, "k");
        let waiter = task(move || lock.lock().unwrap());
        until_wait(&one, "k", 1);
        forget();
        guard.release().unwrap();
        forget();
        waiter.answer().release().unwrap();
        forget();
        // A renewal of the other one.
        std::thread::sleep(Duration::from_millis(400));
        forget();
        assert!(is_timed_out(&Lock::new(&other, "lasting").try_lock()));
    }
    lasting.release().unwrap();
}

/// Also between the moment when one is loaded and the one when it is run.
fn scripts_are_forgotten_all_the_time() {
    let server = Server::start();
    let store = Place::on(&server).open();
    let is_over = Arc::new(AtomicBool::new(false));
    let mut connection = server.connect();
    let forgets = task({
        let is_over = Arc::clone(&is_over);
        move || {
            while !is_over.load(Ordering::Relaxed) {
                let _ = connection.command(&["SCRIPT", "FLUSH"]);
            }
        }
    });
    for _ in 0..100 {
        Lock::new(&store, "k").lock().unwrap().release().unwrap();
    }
    is_over.store(true, Ordering::Relaxed);
    forgets.answer();
}

/// Two sessions of a server of its own, where somebody holds something.
fn held(server: &Server) -> (Place, RedisStore, RedisStore, LockGuard) {
    let place = Place::on(server).with_grace().opened();
    let (one, other) = (place.open(), place.open());
    let guard = Lock::new(&one, "k").lock().unwrap();
    (place, one, other, guard)
}

fn a_restart_with_its_data() {
    let server = Server::options().kept().start();
    let (place, one, other, guard) = held(&server);
    let lock = Lock::new(&other, "k");
    let waiter = task(move || lock.lock().unwrap());
    until_wait(&one, "k", 1);
    server.restart();
    let end = Instant::now() + 2 * place.lease;
    while Instant::now() < end {
        assert!(guard.is_valid());
        assert!(waiter.is_running());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(!guard.lost().is_set());
    let token = guard.fencing_token();
    guard.release().unwrap();
    assert!(waiter.answer().fencing_token() > token);
}

fn a_restart_without_data() {
    let server = Server::start();
    let (_place, one, other, guard) = held(&server);
    server.restart_empty();
    let successor = succeed(&other, &guard);
    assert_lost(guard, &successor);
    successor.release().unwrap();
    Lock::new(&one, "k").lock().unwrap().release().unwrap();
}

fn a_flush() {
    for command in ["FLUSHALL", "FLUSHDB"] {
        let server = Server::start();
        let (place, one, other, guard) = held(&server);
        server.command(&[command]);
        let flushed = Instant::now();
        let successor = succeed(&other, &guard);
        assert!(
            flushed.elapsed() < 4 * place.lease,
            "{:?}",
            flushed.elapsed()
        );
        assert_lost(guard, &successor);
        successor.release().unwrap();
        Lock::new(&one, "k").lock().unwrap().release().unwrap();
    }
}

/// Who waited is queued again, or told.
fn a_flush_while_somebody_waits() {
    let server = Server::start();
    let (_place, one, other, guard) = held(&server);
    let lock = Lock::new(&other, "k");
    let waiter = task(move || lock.lock());
    until_wait(&one, "k", 1);
    server.command(&["FLUSHALL"]);
    let token = guard.fencing_token();
    let answer = waiter.answer();
    assert!(!guard.is_valid(), "two hold it");
    match answer {
        Ok(successor) => {
            assert!(successor.fencing_token() > token);
            assert_lost(guard, &successor);
        }
        Err(error) => panic!("{error:?}"),
    }
}

/// A process that has seen nothing of what was there before.
fn who_comes_after_a_flush() {
    let server = Server::start();
    let (place, _one, _other, guard) = held(&server);
    server.command(&["FLUSHALL"]);
    let new = place.open();
    let successor = succeed(&new, &guard);
    assert_lost(guard, &successor);
}

/// Long enough that nothing from before its start can be held any more.
fn a_flush_of_a_server_that_has_run_for_long() {
    let server = Server::start();
    let (place, one, other, guard) = held(&server);
    let long = place.lease.as_secs() + 3;
    until("it has run for long", || {
        let uptime: u64 = server.info("server", "uptime_in_seconds").parse().unwrap();
        uptime >= long
    });
    // All of them have connections from that time.
    assert!(is_timed_out(&Lock::new(&other, "k").try_lock()));
    let new = place.open();
    assert!(is_timed_out(&Lock::new(&new, "k").try_lock()));
    server.command(&["FLUSHALL"]);
    let successor = succeed(&new, &guard);
    assert_lost(guard, &successor);
    drop(one);
}

/// The holder is behind a partition, so nobody who is there when the server is emptied knows that something was held.
fn a_flush_of_a_server_that_nobody_watches() {
    let server = Server::start();
    let place = Place::on(&server).with_grace().opened();
    let proxy = Proxy::to(&server);
    let far = place.by(&proxy.url()).open();
    let guard = Lock::new(&far, "k").lock().unwrap();
    proxy.stall();
    server.restart_empty();
    let new = place.open();
    let successor = succeed(&new, &guard);
    proxy.heal();
    assert_lost(guard, &successor);
}

/// A primary, its replica, and a proxy to the primary, where both sessions are.
fn two_servers() -> (Server, Server, Proxy, Place) {
    let primary = Server::start();
    let replica = Server::replica_of(&primary);
    let proxy = Proxy::to(&primary);
    let place = Place::at(&proxy.url()).with_grace().opened();
    (primary, replica, proxy, place)
}

fn a_fail_over_to_a_replica_that_lags() {
    let (primary, replica, proxy, place) = two_servers();
    let (one, other) = (place.open(), place.open());
    until("it is replicated", || {
        replica.command(&["DBSIZE"]) == primary.command(&["DBSIZE"])
    });
    replica.cut_off();
    // The replica knows neither these grants nor their tokens.
    for _ in 0..50 {
        Lock::new(&one, "k").lock().unwrap().release().unwrap();
    }
    let guard = Lock::new(&one, "k").lock().unwrap();
    primary.kill();
    replica.promote();
    proxy.redirect(&replica);
    let successor = succeed(&other, &guard);
    assert_lost(guard, &successor);
    successor.release().unwrap();
    let guard = Lock::new(&one, "k").lock().unwrap();
    assert!(is_timed_out(&Lock::new(&other, "k").try_lock()));
    guard.release().unwrap();
}

fn a_fail_over_to_a_replica_that_has_everything() {
    let (primary, replica, proxy, place) = two_servers();
    let (one, other) = (place.open(), place.open());
    let guard = Lock::new(&one, "k").lock().unwrap();
    let lock = Lock::new(&other, "k");
    let waiter = task(move || lock.lock().unwrap());
    until_wait(&one, "k", 1);
    let offset = primary.info("replication", "master_repl_offset");
    until("it is replicated", || {
        let behind: u64 = replica
            .info("replication", "slave_repl_offset")
            .parse()
            .unwrap();
        behind >= offset.parse().unwrap()
    });
    primary.kill();
    replica.promote();
    proxy.redirect(&replica);
    let token = guard.fencing_token();
    let end = Instant::now() + place.lease;
    while Instant::now() < end && guard.is_valid() {
        assert!(waiter.is_running(), "two hold it");
        std::thread::sleep(Duration::from_millis(5));
    }
    match guard.release() {
        Ok(()) | Err(CoordError::Lost { .. }) => {}
        other => panic!("{other:?}"),
    }
    assert!(waiter.answer().fencing_token() > token);
}

fn a_fail_over_by_a_sentinel() {
    let primary = Server::options().password("secret").start();
    let replica = Server::replica_of(&primary);
    let sentinel = Sentinel::start(&primary);
    let url = format!(
        "redis+sentinel://:secret@{}/{}",
        sentinel.address(),
        Sentinel::NAME
    );
    let place = Place::at(&url)
        .with_grace()
        .lease(Duration::from_secs(4))
        .busy_for(Duration::from_secs(10))
        .opened();
    let (one, other) = (place.open(), place.open());
    Lock::new(&one, "k").lock().unwrap().release().unwrap();
    let guard = Lock::new(&one, "k").lock().unwrap();
    assert!(is_timed_out(&Lock::new(&other, "k").try_lock()));
    primary.kill();
    sentinel.until_promoted(&replica);
    // It was replicated, and is renewed there.
    let end = Instant::now() + place.lease;
    while Instant::now() < end {
        assert!(guard.is_valid());
        assert!(is_timed_out(&Lock::new(&other, "k").try_lock()));
        std::thread::sleep(Duration::from_millis(20));
    }
    let token = guard.fencing_token();
    guard.release().unwrap();
    let guard = Lock::new(&other, "k").lock().unwrap();
    assert!(guard.fencing_token() > token);
    assert!(is_timed_out(&Lock::new(&place.open(), "k").try_lock()));
}

fn a_sentinel_that_does_not_know_the_primary() {
    let primary = Server::start();
    let sentinel = Sentinel::start(&primary);
    let place = Place::at(&format!("redis+sentinel://{}/nobody", sentinel.address()));
    let error = place.try_open().expect_err("it isn't there");
    assert!(matches!(error, CoordError::Store { .. }), "{error:?}");
    assert!(error.to_string().contains("nobody"), "{error}");
}

/// A fail-over that nobody has told the clients of: their connections stay.
fn a_server_that_became_a_replica() {
    let server = Server::start();
    let (_place, one, _other, guard) = held(&server);
    server.command(&["REPLICAOF", "127.0.0.1", "1"]);
    let answer = Lock::new(&one, "other").try_lock();
    assert!(
        matches!(answer, Err(CoordError::Store { .. })),
        "{answer:?}"
    );
    assert!(guard.lost().wait_for(Duration::from_secs(10)).unwrap());
    server.promote();
    Lock::new(&one, "other").lock().unwrap().release().unwrap();
}

fn a_full_server_gives_back_and_renews() {
    let server = Server::options()
        .config("maxmemory-policy noeviction")
        .start();
    let place = Place::on(&server);
    let (one, other) = (place.open(), place.open());
    let guards = ["a", "b", "c"].map(|key| Lock::new(&one, key).lock().unwrap());
    let [session, extended, waited] = guards;
    let lock = Lock::new(&other, "c");
    let waiter = task(move || lock.lock());
    until_wait(&one, "c", 1);
    server.command(&["CONFIG", "SET", "maxmemory", "1"]);
    let full = server.try_command(&["SET", "k", "v"]);
    assert!(full.unwrap_err().starts_with("OOM"));
    // Nothing new is taken.
    let answer = Lock::new(&other, "new").try_lock();
    let error = answer.unwrap_err();
    assert!(matches!(error, CoordError::Store { .. }), "{error:?}");
    assert!(error.to_string().contains("memory"), "{error}");
    // What is held stays held, and can be given back.
    extended.extend(Duration::from_secs(20)).unwrap();
    let end = Instant::now() + 2 * place.lease;
    while Instant::now() < end {
        assert!(session.is_valid());
        std::thread::sleep(Duration::from_millis(20));
    }
    session.release().unwrap();
    extended.release().unwrap();
    waited.release().unwrap();
    until("they are given back", || {
        let list = one.list().unwrap();
        let keys: Vec<_> = list.iter().map(|status| &status.key[..]).collect();
        keys.iter().all(|&key| key == "c")
    });
    server.command(&["CONFIG", "SET", "maxmemory", "0"]);
    // The waiter had its place already.
    drop(waiter.answer().unwrap());
    assert!(Lock::new(&other, "new").try_lock().is_ok());
}

fn a_stopped_server_is_an_error() {
    let server = Server::start();
    let place = Place::on(&server);
    let (one, other) = (place.open(), place.open());
    let guard = Lock::new(&one, "k").lock().unwrap();
    let lock = Lock::new(&other, "k");
    let waiter = task(move || lock.lock().map(drop));
    until_wait(&one, "k", 1);
    server.pause();
    let limit = Duration::from_secs(4);
    let began = Instant::now();
    for answer in [
        Lock::new(&one, "new").lock().map(drop),
        Lock::new(&one, "new").try_lock().map(drop),
        one.list().map(drop),
        guard.extend(Duration::from_secs(9)),
    ] {
        let is_error = matches!(
            answer,
            Err(CoordError::Store { .. }
                | CoordError::OutcomeUnknown { .. }
                | CoordError::Lost { .. })
        );
        assert!(is_error, "{answer:?}");
    }
    assert!(began.elapsed() < 4 * limit, "{:?}", began.elapsed());
    let began = Instant::now();
    let answer = guard.release();
    assert!(answer.is_err(), "{answer:?}");
    assert!(began.elapsed() < limit, "{:?}", began.elapsed());
    server.resume();
    // Who waited has waited on, or was told that it couldn't.
    match waiter.answer() {
        Ok(()) | Err(CoordError::Store { .. }) => {}
        other => panic!("{other:?}"),
    }
    // What couldn't be given back is given back, or its lease ends.
    Lock::new(&other, "k").lock().unwrap().release().unwrap();
}

fn a_stopped_server_ends_grants() {
    let server = Server::start();
    let place = Place::on(&server);
    let (one, other) = (place.open(), place.open());
    let session = Lock::new(&one, "session").lock().unwrap();
    let lease = Lease::Renewed(place.lease);
    let renewed = Lock::new(&one, "renewed").lease(lease).lock().unwrap();
    server.pause();
    let paused = Instant::now();
    for guard in [&session, &renewed] {
        assert!(guard.lost().wait_for(Duration::from_secs(10)).unwrap());
        assert!(!guard.is_valid());
        assert!(is_lost(&guard.check()));
    }
    let told = paused.elapsed();
    assert!(told < place.lease + Duration::from_millis(500), "{told:?}");
    server.resume();
    for guard in [session, renewed] {
        let successor = succeed(&other, &guard);
        assert_lost(guard, &successor);
    }
    Lock::new(&one, "session")
        .lock()
        .unwrap()
        .release()
        .unwrap();
}

/// It is asked again until it answers.
fn a_server_that_is_busy_with_something_else() {
    let server = Server::start();
    let place = Place::on(&server).lease(Duration::from_secs(6));
    let (store, hasty) = (place.open(), place.clone().busy_for(Duration::ZERO).open());
    let guard = Lock::new(&store, "k").lock().unwrap();
    let mut connection = server.connect();
    let sleeper = task(move || connection.command(&["DEBUG", "SLEEP", "1"]).map(drop));
    until("it sleeps", || {
        Lock::new(&hasty, "other").try_lock().is_err()
    });
    let other = Lock::new(&store, "other").lock().unwrap();
    sleeper.answer().unwrap();
    assert!(guard.is_valid() && other.is_valid());
    guard.release().unwrap();
}
