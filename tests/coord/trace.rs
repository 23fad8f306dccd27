//! The events for `tracing`.

use std::fmt::{Debug, Write};
use std::sync::Mutex;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use super::*;

static HEARD: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Hears all events of all threads.
struct Listener;

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "hapax::coord"
    }

    fn event(&self, event: &Event<'_>) {
        struct Text(String);
        impl Visit for Text {
            fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
                write!(self.0, " {field}={value:?}").unwrap();
            }
        }
        let mut text = Text(event.metadata().level().to_string());
        event.record(&mut text);
        assert!(!text.0.contains(POISON), "told of poison");
        HEARD.lock().unwrap().push(text.0);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// Whoever hears of this key panics.
const POISON: &str = "poison";

/// Whichever test comes first begins.
fn listen() {
    let _ = tracing::subscriber::set_global_default(Listener);
}

/// How many were heard that say that. The keys of this test are in none of the others.
fn heard(texts: &[&str]) -> usize {
    let heard = HEARD.lock().unwrap();
    let says = |event: &&String| texts.iter().all(|text| event.contains(text));
    heard.iter().filter(says).count()
}

#[test]
fn what_is_worth_a_line_in_a_log() {
    listen();
    let store = MemoryStore::with_virtual_clock();
    let other = store.new_session();
    let key = "told of a wait";
    let guard = Lock::new(&store, key).lock().unwrap();
    let waiter = task({
        let lock = Lock::new(&other, key);
        move || lock.lock().map(drop)
    });
    until_queued(&store, key, 1);
    assert_eq!(heard(&[key]), 0);
    until(|| {
        store.advance(Duration::from_millis(600));
        heard(&[key]) > 0
    });
    store.advance(Duration::from_secs(5));
    thread::sleep(SHORT);
    store.advance(Duration::from_secs(5));
    thread::sleep(SHORT);
    drop(guard);
    waiter.answer().unwrap();
    assert_eq!(heard(&["INFO", "still waits", "key=\"told of a wait\""]), 1);
    assert_eq!(heard(&[key]), 1);

    let lock = Lock::new(&store, "told of a loss").tag("told of");
    let lease = Lease::Fixed(Duration::from_secs(1));
    let guard = lock.clone().lease(lease).lock().unwrap();
    let token = format!("token={}", guard.fencing_token());
    for _ in 0..3 {
        store.advance(Duration::from_secs(1));
    }
    assert_eq!(
        heard(&["WARN", "a grant is lost", "told of a loss", &token]),
        1
    );

    let guard = lock.lock().unwrap();
    let token = format!("token={}", guard.fencing_token());
    other
        .force_unlock(lock.key(), guard.fencing_token())
        .unwrap();
    assert_eq!(heard(&["WARN", "a grant was taken away", &token]), 1);
    store.advance(Duration::from_secs(2));
    assert_eq!(heard(&["WARN", "a grant is lost", &token]), 1);

    let _guard = lock.lock().unwrap();
    other.evict("told of").unwrap();
    assert_eq!(heard(&["WARN", "tag=\"told of\" count=1"]), 1);
}

/// Leases are looked after all the same.
#[test]
fn a_listener_that_panics_ends_nothing() {
    listen();
    let store = MemoryStore::new();
    let lease = Lease::Fixed(Duration::from_millis(20));
    let poison = Lock::new(&store, POISON).lease(lease).lock().unwrap();
    let lease = Lease::Renewed(Duration::from_millis(200));
    let guard = Lock::new(&store, "told of nothing").lease(lease);
    let guard = guard.lock().unwrap();
    until(|| poison.lost().is_set());
    thread::sleep(Duration::from_millis(600));
    assert!(guard.is_valid());
    guard.release().unwrap();
}

#[cfg(feature = "coord-sqlite")]
#[test]
fn a_busy_store_is_worth_a_line_as_well() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("locks.db");
    let store = hapax::coord::SqliteStore::options()
        .busy_for(SHORT)
        .open(&path)
        .unwrap();
    let guard = Lock::new(&store, "told of being busy").lock().unwrap();
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    listen();
    drop(guard);
    assert_eq!(
        heard(&["WARN", "the store is busy", "release `told of being busy`"]),
        1
    );
    let late = ["WARN", "it is given back later", "told of being busy"];
    assert_eq!(heard(&late), 1);
}
