//! Namespaces on several nodes, and slots that move.

use std::time::{Duration, Instant};

use hapax::coord::{CoordError, Lease, Lock, Owner, RedisStore, Semaphore, Store};

use crate::place::{Place, is_timed_out, until_wait};
use crate::redis_server::{Cluster, Server, namespace};
use crate::task;

crate::trials! {
    a_cluster,
}

/// One after the other on one cluster, which takes long to start.
fn a_cluster() {
    let cluster = Cluster::start(3);
    let places: Vec<_> = (0..3).map(|node| place_on(&cluster, node)).collect();
    let stores: Vec<_> = places
        .iter()
        .map(|place| (place.open(), place.open()))
        .collect();
    each_namespace_is_on_one_node(&cluster, &places, &stores);
    for (one, other) in &stores {
        all_kinds(one, other);
    }
    a_slot_moves_while_locks_are_held(&cluster, &places[0], &stores[0]);
    a_slot_is_on_its_way(&cluster, &places[1], &stores[1]);
    a_node_that_has_no_part(&cluster, &places[2]);
}

/// It says that the cluster is down, and others know more.
fn a_node_that_has_no_part(cluster: &Cluster, place: &Place) {
    let alone = Server::options().config("cluster-enabled yes").start();
    let hosts = format!("{},{}", alone.address(), cluster.nodes()[0].address());
    let store = place.by(&format!("redis://{hosts}")).open();
    Lock::new(&store, "alone")
        .lock()
        .unwrap()
        .release()
        .unwrap();
}

/// A namespace that lies on that node.
fn place_on(cluster: &Cluster, node: usize) -> Place {
    let mut place = Place::at(&cluster.url());
    while cluster.owner(cluster.slot(&format!("{{{}}}", place.namespace))) != node {
        place.namespace = namespace();
    }
    place
}

fn each_namespace_is_on_one_node(
    cluster: &Cluster,
    places: &[Place],
    stores: &[(RedisStore, RedisStore)],
) {
    let _guards: Vec<_> = (stores
        .iter()
        .flat_map(|(store, _)| ["a", "{b}", "}"].map(|key| Lock::new(store, key))))
    .map(|lock| lock.lock().unwrap())
    .collect();
    for (node, server) in cluster.nodes().iter().enumerate() {
        let keys = server.keys("");
        assert!(!keys.is_empty());
        for key in keys {
            assert!(key.contains(&places[node].namespace), "{key}");
        }
    }
}

fn all_kinds(one: &RedisStore, other: &RedisStore) {
    let guard = Lock::new(one, "k").tag("tag").lock().unwrap();
    let lock = Lock::new(other, "k");
    assert!(is_timed_out(&lock.try_lock()));
    let waiter = task(move || lock.lock().map(drop));
    until_wait(one, "k", 1);
    let released = Instant::now();
    guard.extend(Duration::from_secs(30)).unwrap();
    guard.release().unwrap();
    waiter.answer().unwrap();
    // It was told.
    assert!(
        released.elapsed() < Duration::from_millis(600),
        "{:?}",
        released.elapsed()
    );
    let permits = [0, 1].map(|_| Semaphore::new(one, "s", 2).acquire().unwrap());
    assert!(is_timed_out(&Semaphore::new(other, "s", 2).try_acquire()));
    drop(permits);
    let (first, second) = (Owner::new(), Owner::new());
    let lock = |store, key, owner| Lock::new(store, key).owned_by(owner);
    let held = lock(one, "a", &first).lock().unwrap();
    let wanted = lock(other, "b", &second).lock().unwrap();
    let waiting = lock(one, "b", &first);
    let waiter = task(move || waiting.lock().map(drop));
    until_wait(one, "b", 1);
    let told = lock(other, "a", &second).lock();
    assert!(matches!(told, Err(CoordError::Deadlock { .. })), "{told:?}");
    drop(wanted);
    waiter.answer().unwrap();
    other.force_unlock("a", held.fencing_token()).unwrap();
    assert!(held.lost().wait_for(Duration::from_secs(10)).unwrap());
    assert!(one.list().unwrap().is_empty());
}

fn slot(cluster: &Cluster, place: &Place) -> (u16, usize) {
    let slot = cluster.slot(&format!("{{{}}}", place.namespace));
    (slot, (cluster.owner(slot) + 1) % 3)
}

fn a_slot_moves_while_locks_are_held(
    cluster: &Cluster,
    place: &Place,
    (one, other): &(RedisStore, RedisStore),
) {
    let guard = Lock::new(one, "k").lock().unwrap();
    let lock = Lock::new(other, "k");
    let waiter = task(move || lock.lock().unwrap());
    until_wait(one, "k", 1);
    let (slot, to) = slot(cluster, place);
    cluster.move_slot(slot, to);
    let end = Instant::now() + 2 * place.lease;
    while Instant::now() < end {
        assert!(guard.is_valid());
        assert!(waiter.is_running(), "two hold it");
        std::thread::sleep(Duration::from_millis(20));
    }
    let token = guard.fencing_token();
    let released = Instant::now();
    guard.release().unwrap();
    let guard = waiter.answer();
    assert!(
        released.elapsed() < Duration::from_secs(3),
        "{:?}",
        released.elapsed()
    );
    assert!(guard.fencing_token() > token);
    guard.release().unwrap();
    all_kinds(one, other);
}

/// While some keys are here and some there, nobody gets an answer, and nothing is granted twice.
fn a_slot_is_on_its_way(cluster: &Cluster, place: &Place, (one, other): &(RedisStore, RedisStore)) {
    let lease = Lease::Fixed(Duration::from_secs(60));
    let guards: Vec<_> = (0..5)
        .map(|key| {
            Lock::new(one, &format!("key {key}"))
                .lease(lease)
                .lock()
                .unwrap()
        })
        .collect();
    let hasty = place.clone().busy_for(Duration::from_millis(50)).open();
    let (slot, to) = slot(cluster, place);
    let moving = cluster.begin_move(slot, to);
    for key in moving.left() {
        moving.key(&key);
        for guard in &guards[..2] {
            let answer = Lock::new(&hasty, guard.key()).try_lock();
            assert!(answer.is_err(), "{answer:?}");
        }
    }
    moving.keys();
    moving.finish();
    for guard in guards {
        assert!(guard.is_valid());
        let lock = Lock::new(other, guard.key());
        assert!(is_timed_out(&lock.try_lock()));
        guard.release().unwrap();
        lock.try_lock().unwrap().release().unwrap();
    }
}
