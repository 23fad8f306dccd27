//! Keys and namespaces of all kinds, and what is left of them.

use std::time::Duration;

use hapax::coord::{Lock, RLock, Semaphore, Store};

use crate::place::{Place, is_timed_out, until_wait};
use crate::redis_server::{Server, Value};
use crate::task;

crate::trials! {
    keys_are_any_text,
    namespaces_are_any_text,
    namespaces_do_not_see_each_other,
    nothing_is_left_behind,
    all_keys_of_a_namespace_are_in_one_slot,
    databases_are_apart,
}

fn odd_keys() -> Vec<String> {
    let texts = [
        "",
        " ",
        "{",
        "}",
        "{}",
        "{}x",
        "}x",
        "{a}",
        "a{b}c",
        "a:b",
        "a:",
        ":a",
        "a",
        "A",
        "a|b",
        "a\nb",
        "a\r\nb",
        "\0",
        "a\0b",
        "*",
        "[a]",
        "?",
        "\\",
        "%7B",
        "%",
        "\"",
        "'",
        "ä",
        "\u{1F512}",
        "h",
        "w",
        "meta",
        "nil",
        "0",
        "-1",
        "1e3",
    ];
    let mut keys: Vec<_> = texts.map(str::to_owned).into();
    keys.push("k".repeat(1 << 16));
    keys.push(format!("{}l", "k".repeat((1 << 16) - 1)));
    keys
}

fn keys_are_any_text() {
    let place = Place::new();
    let (one, other) = (place.open(), place.open());
    let keys = odd_keys();
    let guards: Vec<_> = keys
        .iter()
        .map(|key| Lock::new(&one, key).try_lock().unwrap())
        .collect();
    let mut listed: Vec<_> = one
        .list()
        .unwrap()
        .into_iter()
        .map(|status| status.key)
        .collect();
    listed.sort();
    let mut expected = keys.clone();
    expected.sort();
    assert_eq!(listed, expected);
    for (key, guard) in keys.iter().zip(guards) {
        let lock = Lock::new(&other, key);
        assert!(is_timed_out(&lock.try_lock()), "{key:?}");
        let token = guard.fencing_token();
        let waiter = task(move || lock.lock().map(|guard| guard.fencing_token()));
        until_wait(&one, key, 1);
        guard.release().unwrap();
        assert!(waiter.answer().unwrap() > token, "{key:?}");
    }
}

fn namespaces_are_any_text() {
    let server = Server::start();
    let names = [
        "a:b", "a", "a:", ":", "a\n", "\0", " ", "*", "ä", "%7B", "hapax", "line",
    ];
    let places = names.map(|name| {
        let mut place = Place::on(&server);
        place.namespace = name.to_owned();
        place
    });
    let stores = places.each_ref().map(Place::open);
    let keys = ["k", "b:k", ":k", "", "}k", "{a}"];
    let locks = stores
        .iter()
        .flat_map(|store| keys.map(|key| Lock::new(store, key)));
    let guards: Vec<_> = locks.map(|lock| lock.try_lock().unwrap()).collect();
    for place in &places {
        let store = place.open();
        for key in keys {
            assert!(
                is_timed_out(&Lock::new(&store, key).try_lock()),
                "{place:?}, {key:?}"
            );
        }
        assert_eq!(store.list().unwrap().len(), keys.len());
    }
    drop(guards);
}

fn namespaces_do_not_see_each_other() {
    let (place, neighbour) = (Place::new(), Place::new());
    let (one, other) = (place.open(), neighbour.open());
    let first = Lock::new(&one, "k").lock().unwrap();
    let second = Lock::new(&other, "k").try_lock().unwrap();
    assert!(Semaphore::new(&other, "s", 2).try_acquire().is_ok());
    assert!(Semaphore::new(&one, "s", 3).try_acquire().is_ok());
    assert!(
        other.force_unlock("k", first.fencing_token()).is_err()
            || first.fencing_token() == second.fencing_token()
    );
    assert_eq!(one.list().unwrap().len(), 1);
    other.close().unwrap();
    assert!(first.is_valid());
    first.release().unwrap();
    assert!(one.list().unwrap().is_empty());
}

/// Whatever was done, the keys in the database are those that are there when a store was opened and closed.
fn nothing_is_left_behind() {
    let server = Server::start();
    let place = Place::on(&server);
    let place = place.opened();
    let before = server.keys("");
    let (one, other) = (place.open(), place.open());
    for key in odd_keys() {
        let guard = Lock::new(&one, &key).tag("tag").lock().unwrap();
        assert!(
            Lock::new(&other, &key)
                .try_lock_for(Duration::from_millis(1))
                .is_err()
        );
        guard.release().unwrap();
    }
    let permits: Vec<_> = (0..3)
        .map(|_| Semaphore::new(&one, "s", 3).acquire().unwrap())
        .collect();
    let waiter = Semaphore::new(&other, "s", 3);
    let waiter = task(move || waiter.acquire().map(drop));
    until_wait(&one, "s", 1);
    drop(permits);
    waiter.answer().unwrap();
    let twice = RLock::new(&one, "r");
    drop((twice.lock().unwrap(), twice.lock().unwrap()));
    let shared = [&one, &other].map(|store| Lock::new(store, "shared").shared().lock().unwrap());
    drop(shared);
    // And what is still held when it is closed.
    let _guard = Lock::new(&one, "last").lock().unwrap();
    let waiting = Lock::new(&other, "last");
    let waiting = task(move || waiting.lock().map(drop));
    until_wait(&one, "last", 1);
    other.close().unwrap();
    assert!(waiting.answer().is_err());
    one.close().unwrap();
    assert_eq!(server.keys(""), before);
    assert!(before.len() <= 3, "{before:?}");
}

fn all_keys_of_a_namespace_are_in_one_slot() {
    let server = Server::start();
    let place = Place::on(&server);
    let (one, other) = (place.open(), place.open());
    let keys = odd_keys();
    let _guards: Vec<_> = keys
        .iter()
        .map(|key| Lock::new(&one, key).lock().unwrap())
        .collect();
    let _permit = Semaphore::new(&one, "s", 3).acquire().unwrap();
    let waiting = Lock::new(&other, "a");
    let waiting = task(move || waiting.lock().map(drop));
    until_wait(&one, "a", 1);
    // A server that is no cluster doesn't compute slots: what is in the first braces decides.
    for key in server.keys("") {
        let tag = key
            .split_once('{')
            .and_then(|(_, rest)| rest.split_once('}'));
        assert_eq!(tag.map(|(tag, _)| tag), Some(&place.namespace[..]), "{key}");
    }
    other.close().unwrap();
    assert!(waiting.answer().is_err());
}

fn databases_are_apart() {
    let server = Server::start();
    let place = Place::on(&server);
    let other = place.by(&format!("{}/7", server.url()));
    let (one, other) = (place.open(), other.open());
    let _first = Lock::new(&one, "k").lock().unwrap();
    let second = Lock::new(&other, "k");
    let guard = second.try_lock().unwrap();
    let waiter = task(move || second.lock().map(drop));
    until_wait(&other, "k", 1);
    guard.release().unwrap();
    waiter.answer().unwrap();
    let spaces = server.command(&["INFO", "keyspace"]);
    assert!(matches!(spaces, Value::Text(_)) && spaces.text().contains("db7"));
}
