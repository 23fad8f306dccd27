//! How long a grant lasts if it isn't given back.

use super::*;

pub(super) fn a_fixed_lease_ends<W: World>() {
    let (_world, one, other) = two::<W>();
    let began = Instant::now();
    let guard = Lock::new(&one, "a")
        .lease(Lease::Fixed(SHORT))
        .lock()
        .unwrap();
    assert!(guard.remaining().unwrap() <= SHORT);
    until(|| !guard.is_valid());
    // Its holder may believe in it for a little less than the store does.
    let successor = Lock::new(&other, "a").try_lock_for(PATIENCE).unwrap();
    assert!(began.elapsed() >= SHORT);
    assert_lost(guard, &successor);
    assert!(is_timed_out(&Lock::new(&one, "a").try_lock()));
}

/// The holder does nothing at all: whoever waits finds that its time is over.
pub(super) fn a_lease_hands_over_when_it_ends<W: World>() {
    let (_world, one, other) = two::<W>();
    let lease = Lease::Fixed(Duration::from_millis(150));
    let began = Instant::now();
    let guard = Lock::new(&one, "a").lease(lease).lock().unwrap();
    let successor = task(move || Lock::new(&other, "a").lock().unwrap()).answer();
    assert!(began.elapsed() >= Duration::from_millis(150));
    assert_lost(guard, &successor);
}

/// Who becomes the first is the next to look when the lease of the one before it is over.
pub(super) fn a_strict_queue_hears_of_leases<W: World>() {
    let world = W::new();
    let store = world.session();
    let guard = Lock::new(&store, "a").lock().unwrap();
    // A shorter one may be over before a busy machine has told of it, and then it comes again, as the last one.
    let lease = Lease::Fixed(Duration::from_millis(500));
    let lock = Lock::new(&world.session(), "a").strict().lease(lease);
    let second = task(move || lock.lock().unwrap());
    until_queued(&store, "a", 1);
    let lock = Lock::new(&world.session(), "a").strict();
    let third = task(move || lock.lock().unwrap());
    until_queued(&store, "a", 2);
    drop(guard);
    let second = second.answer();
    let third = third.answer();
    assert_lost(second, &third);
}

pub(super) fn an_extended_lease_lasts<W: World>() {
    let (_world, one, other) = two::<W>();
    let lease = Lease::Fixed(Duration::from_secs(5));
    let guard = Lock::new(&one, "a").lease(lease).lock().unwrap();
    guard.extend(PATIENCE).unwrap();
    let remaining = guard.remaining().unwrap();
    assert!(remaining > Duration::from_secs(5) && remaining <= PATIENCE);
    assert!(is_timed_out(&Lock::new(&other, "a").try_lock()));
    // It ends sooner as well.
    guard.extend(SHORT).unwrap();
    assert!(guard.remaining().unwrap() <= SHORT);
    until(|| !guard.is_valid());
    assert!(is_lost(&guard.extend(PATIENCE)));
    let successor = Lock::new(&other, "a").try_lock_for(PATIENCE).unwrap();
    assert_lost(guard, &successor);
}

pub(super) fn a_renewed_lease_lasts<W: World>() {
    let (_world, one, other) = two::<W>();
    let time = Duration::from_millis(900);
    let guard = Lock::new(&one, "a")
        .lease(Lease::Renewed(time))
        .lock()
        .unwrap();
    let end = Instant::now() + 2 * time + time / 2;
    while Instant::now() < end {
        assert!(guard.is_valid());
        assert!(guard.remaining().unwrap() <= time);
        assert!(is_timed_out(&Lock::new(&other, "a").try_lock_for(SHORT)));
    }
    assert!(!guard.lost().is_set());
    guard.release().unwrap();
    assert!(Lock::new(&other, "a").try_lock().is_ok());
}

/// An end that doesn't move any more, that is.
pub(super) fn a_session_lease_has_no_end_until_extended<W: World>() {
    let (_world, one, other) = two::<W>();
    let guard = Lock::new(&one, "a").lock().unwrap();
    assert_eq!(guard.remaining().is_some(), W::SESSION_LEASES_END);
    assert_eq!(
        holders(&other, "a")[0].remaining.is_some(),
        W::SESSION_LEASES_END
    );
    guard.extend(SHORT).unwrap();
    assert!(guard.remaining().unwrap() <= SHORT);
    until(|| !guard.is_valid());
    let successor = Lock::new(&other, "a").try_lock_for(PATIENCE).unwrap();
    assert_lost(guard, &successor);
}

pub(super) fn loss_is_told<W: World>() {
    let (_world, one, other) = two::<W>();
    let lease = Lease::Fixed(SHORT);
    let short = Lock::new(&one, "a").lease(lease).lock().unwrap();
    let lasting = Lock::new(&one, "b").lock().unwrap();
    assert!(short.lost().wait_for(PATIENCE).unwrap());
    assert!(!short.is_valid());
    assert!(!lasting.lost().is_set());
    other.force_unlock("b", lasting.fencing_token()).unwrap();
    assert!(lasting.lost().wait_for(PATIENCE).unwrap());
    assert!(!lasting.is_valid());
}

/// The waiter that knew a later end hears of it.
pub(super) fn a_lease_that_is_shortened<W: World>() {
    let (_world, one, other) = two::<W>();
    let lease = Lease::Fixed(1000 * PATIENCE);
    let guard = Lock::new(&one, "a").lease(lease).lock().unwrap();
    let lock = Lock::new(&other, "a");
    let waiter = task(move || lock.lock().map(drop));
    until_queued(&one, "a", 1);
    guard.extend(Duration::from_millis(30)).unwrap();
    waiter.answer().unwrap();
    assert!(!guard.is_valid());
    assert!(matches!(guard.release(), Err(CoordError::Lost { .. })));
}
