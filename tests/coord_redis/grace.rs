//! Servers that have forgotten something, and what is granted after that: nothing, for as long as others may hold it.
//!
//! The store can't know in which way a server has forgotten, so each of these is one more way.

use std::time::Duration;

use hapax::coord::{CoordError, Lease, Lock, Owner, RedisStore, Semaphore, Store};

use crate::place::{Place, is_timed_out};
use crate::redis_server::{Cluster, Proxy, Server, until};
use crate::task;

crate::trials! {
    a_fresh_server_grants_nothing_at_first,
    the_grace_of_one_is_not_that_of_another,
    an_old_connection_knows_no_better,
    back_to_the_first_server,
    a_slot_without_its_keys,
    a_lease_without_an_end_counts_as_a_day,
    tokens_grow_across_a_failover_though_the_clock_was_ahead,
    nobody_waits_for_the_dead,
    a_permit_that_is_passed_is_no_lock,
    a_user_who_may_not_publish,
}

/// Twice, since the second request isn't the one that finds it fresh.
fn a_fresh_server_grants_nothing_at_first() {
    let server = Server::start();
    let place = Place::on(&server).with_grace();
    let store = place.open();
    let lock = Lock::new(&store, "k");
    for _ in 0..3 {
        assert!(is_timed_out(&lock.try_lock()));
    }
    let began = std::time::Instant::now();
    lock.lock().unwrap().release().unwrap();
    assert!(began.elapsed() > place.lease / 2);
    assert!(lock.try_lock().is_ok());
}

fn the_grace_of_one_is_not_that_of_another() {
    let server = Server::options().kept().start();
    let hasty = Place::on(&server).lease(Duration::from_secs(20));
    let patient = hasty.clone().with_grace();
    hasty.open();
    server.restart();
    let (hasty, patient) = (hasty.open(), patient.open());
    assert!(is_timed_out(&Lock::new(&patient, "k").try_lock()));
    Lock::new(&hasty, "other")
        .lock()
        .unwrap()
        .release()
        .unwrap();
    assert!(is_timed_out(&Lock::new(&patient, "k").try_lock()));
    Lock::new(&hasty, "k").lock().unwrap().release().unwrap();
}

/// A holder that hears of nothing, and a server that was emptied behind it.
#[track_caller]
fn assert_alone(place: &Place, url: &str, held: &hapax::coord::LockGuard) {
    let other = place.by(url).open();
    let answer = Lock::new(&other, "k").try_lock();
    assert!(answer.is_err() || !held.is_valid(), "two holders");
    let answer = Lock::new(&other, "k").try_lock_for(3 * place.lease);
    let token = answer.unwrap().fencing_token();
    assert!(!held.is_valid(), "{:?}", held.remaining());
    assert!(token > held.fencing_token(), "{token}, {held:?}");
}

/// That was opened when the server had everything.
fn an_old_connection_knows_no_better() {
    let server = Server::start();
    let place = Place::on(&server).with_grace().opened();
    let proxy = Proxy::to(&server);
    let (far, near) = (place.by(&proxy.url()).open(), place.open());
    Lock::new(&near, "other").lock().unwrap().release().unwrap();
    let held = Lock::new(&far, "k").lock().unwrap();
    proxy.stall();
    server.command(&["FLUSHALL"]);
    let answer = Lock::new(&near, "k").try_lock();
    assert!(answer.is_err() || !held.is_valid(), "two holders");
    assert_alone(&place, &server.url(), &held);
    proxy.heal();
}

/// One takes the place of the other, and that becomes its replica, and takes the place back: it has the same process as before,
/// and has forgotten what it hadn't told the other one.
fn back_to_the_first_server() {
    let one = Server::start();
    let place = Place::on(&one).with_grace().opened();
    let replica = Server::replica_of(&one);
    replica.cut_off();
    let proxy = Proxy::to(&one);
    let held = Lock::new(&place.by(&proxy.url()).open(), "k")
        .lock()
        .unwrap();
    proxy.stall();
    replica.promote();
    let port = replica.port().to_string();
    one.command(&["REPLICAOF", "127.0.0.1", &port]);
    until("it is its replica", || {
        one.info("replication", "master_link_status") == "up"
    });
    one.promote();
    assert_alone(&place, &one.url(), &held);
    proxy.heal();
}

/// The node is lost, and another one gets the slot, as `redis-cli --cluster fix` does it.
fn a_slot_without_its_keys() {
    let cluster = Cluster::start(2);
    let place = Place::at(&cluster.nodes()[0].url()).with_grace();
    let slot = cluster.slot(&format!("hapax:{{{}}}:meta", place.namespace));
    let owner = cluster.owner(slot);
    let (from, to) = (&cluster.nodes()[owner], &cluster.nodes()[1 - owner]);
    let place = place.by(&from.url()).opened();
    let proxy = Proxy::to(from);
    let held = Lock::new(&place.by(&proxy.url()).open(), "k")
        .lock()
        .unwrap();
    proxy.stall();
    let id = to.command(&["CLUSTER", "MYID"]).text();
    from.command(&["FLUSHALL"]);
    for node in [to, from] {
        node.command(&["CLUSTER", "SETSLOT", &slot.to_string(), "NODE", &id]);
    }
    assert_alone(&place, &to.url(), &held);
    proxy.heal();
}

/// What would be a grace of thousands of years.
fn a_lease_without_an_end_counts_as_a_day() {
    let server = Server::start();
    let place = Place::on(&server);
    let lease = Lease::Fixed(Duration::MAX);
    let lock = Lock::new(&place.open(), "k").lease(lease);
    lock.lock().unwrap().release().unwrap();
    let meta = format!("hapax:{{{}}}:meta", place.namespace);
    let longest = server.command(&["HGET", &meta, "longest"]).text();
    assert_eq!(longest, "86400000000");
}

/// As if the clock had been an hour ahead for a moment: the numbers go on one by one from there, and the last ones were
/// told to nobody.
fn tokens_grow_across_a_failover_though_the_clock_was_ahead() {
    let primary = Server::start();
    let place = Place::on(&primary);
    let store = place.open();
    Lock::new(&store, "k").lock().unwrap().release().unwrap();
    let meta = format!("hapax:{{{}}}:meta", place.namespace);
    let number = primary.command(&["HGET", &meta, "number"]).text();
    let ahead = number.parse::<u64>().unwrap() + 3_600_000_000;
    primary.command(&["HSET", &meta, "number", &ahead.to_string()]);
    let replica = Server::replica_of(&primary);
    replica.cut_off();
    let mut last = 0;
    for _ in 0..5 {
        last = Lock::new(&store, "k").lock().unwrap().fencing_token();
    }
    assert!(last > ahead);
    replica.promote();
    let store = place.by(&replica.url()).open();
    assert!(Lock::new(&store, "k").lock().unwrap().fencing_token() > last);
}

fn other_sides(lease: Duration) -> (Proxy, RedisStore, RedisStore) {
    let place = Place::new().lease(lease);
    let proxy = Proxy::to(crate::redis_server::shared());
    let far = place.by(&proxy.url()).open();
    (proxy, far, place.open())
}

#[track_caller]
fn until_waited_for(store: &RedisStore, key: &str) {
    until("it waits", || {
        let list = store.list().unwrap();
        list.iter()
            .any(|one| one.key == key && one.waiters.len() == 1)
    });
}

/// Who holds one and waits for the other may be dead, if it doesn't look any more, and then its lease ends by itself.
fn nobody_waits_for_the_dead() {
    let (proxy, far, near) = other_sides(Duration::from_secs(10));
    let (one, other) = (Owner::new(), Owner::new());
    let _held = Lock::new(&far, "a").owned_by(&one).lock().unwrap();
    let kept = Lock::new(&near, "b").owned_by(&other).lock().unwrap();
    let waits = Lock::new(&far, "b").owned_by(&one);
    let waiter = task(move || waits.lock().map(drop));
    until_waited_for(&near, "b");
    proxy.stall();
    std::thread::sleep(Duration::from_secs(4));
    let answer = Lock::new(&near, "a").owned_by(&other).lock();
    assert!(answer.is_ok(), "{answer:?}");
    drop(kept);
    proxy.heal();
    let _ = waiter.answer();
}

/// Who waits for a permit and is passed still has its place: nobody makes a lock of it.
fn a_permit_that_is_passed_is_no_lock() {
    let (proxy, far, near) = other_sides(Duration::from_secs(30));
    let permits = Semaphore::new(&near, "k", 2);
    let held = (permits.acquire().unwrap(), permits.acquire().unwrap());
    let waits = Semaphore::new(&far, "k", 2);
    let waiter = task(move || waits.acquire());
    until_waited_for(&near, "k");
    proxy.stall();
    std::thread::sleep(Duration::from_millis(3500));
    drop(held);
    let answer = Lock::new(&near, "k").try_lock();
    assert!(
        matches!(
            answer,
            Err(CoordError::KindMismatch { .. } | CoordError::TimedOut { .. })
        ),
        "{answer:?}"
    );
    proxy.heal();
    drop(waiter.answer());
}

/// What is given back is given back, and who waits looks within a second.
fn a_user_who_may_not_publish() {
    let server = Server::options()
        .user("mute", "secret", "+@all ~*")
        .config("acl-pubsub-default resetchannels")
        .start();
    let place = Place::on(&server);
    let mute = place.by(&format!("redis://mute:secret@127.0.0.1:{}", server.port()));
    let (mute, other) = (mute.open(), place.open());
    let held = Lock::new(&mute, "k").lock().unwrap();
    let lock = Lock::new(&other, "k");
    let waiter = task(move || lock.lock().map(drop));
    until_waited_for(&other, "k");
    std::thread::sleep(Duration::from_millis(100));
    held.release().unwrap();
    waiter.answer().unwrap();
}
