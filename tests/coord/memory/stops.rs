//! Processes that are stopped, and go on.

use super::*;

/// It was stopped for longer than its lease, and goes on in the middle of what it does.
#[test]
fn past_the_lease() {
    let store = MemoryStore::with_virtual_clock();
    let other = store.new_session();
    let lease = Lease::Renewed(30 * SECOND);
    let guard = Lock::new(&other, "a").lease(lease).lock().unwrap();
    let mut gate = FencingGate::default();
    gate.admit(guard.fencing_token()).unwrap();
    other.stop();
    store.advance(29 * SECOND);
    assert!(guard.is_valid());
    assert!(is_timed_out(&Lock::new(&store, "a").try_lock()));
    store.advance(SECOND);
    assert!(!guard.is_valid());
    let successor = Lock::new(&store, "a").try_lock().unwrap();
    gate.admit(successor.fencing_token()).unwrap();
    // It isn't told before it runs.
    assert!(!guard.lost().is_set());
    other.resume();
    assert!(guard.lost().is_set());
    assert!(gate.admit(guard.fencing_token()).is_err());
    assert_lost(guard, &successor);
    store.advance(60 * SECOND);
    assert!(successor.is_valid());
}

#[test]
fn within_the_lease() {
    let store = MemoryStore::with_virtual_clock();
    let other = store.new_session();
    let lease = Lease::Renewed(30 * SECOND);
    let guard = Lock::new(&other, "a").lease(lease).lock().unwrap();
    for _ in 0..5 {
        other.stop();
        store.advance(19 * SECOND);
        assert!(guard.is_valid());
        other.resume();
        assert_eq!(guard.remaining(), Some(30 * SECOND));
    }
    guard.release().unwrap();
}

/// A lease of the session asks no clock.
#[test]
fn a_session_lease_lasts() {
    let store = MemoryStore::with_virtual_clock();
    let other = store.new_session();
    let guard = Lock::new(&other, "a").lock().unwrap();
    other.stop();
    store.advance(100_000 * SECOND);
    assert!(is_timed_out(&Lock::new(&store, "a").try_lock()));
    other.resume();
    assert!(guard.is_valid());
    guard.release().unwrap();
}

/// Whoever waits gets it by the end of the lease, without anybody's help.
#[test]
fn the_first_waiter_takes_over() {
    let store = MemoryStore::with_virtual_clock();
    let other = store.new_session();
    let guard = Lock::new(&other, "a")
        .lease(Lease::Renewed(30 * SECOND))
        .lock()
        .unwrap();
    let first = queued(&store, Lock::new(&store, "a"));
    let second = queued(&store, Lock::new(&store, "a"));
    pass(&store, 60 * SECOND);
    assert!(first.is_running() && guard.is_valid());
    other.stop();
    store.advance(30 * SECOND);
    let successor = first.answer().unwrap();
    other.resume();
    assert_lost(guard, &successor);
    assert!(second.is_running());
    drop(successor);
    drop(second.answer().unwrap());
}

#[test]
#[should_panic(expected = "goes by itself")]
fn not_with_a_real_clock() {
    MemoryStore::new().stop();
}
