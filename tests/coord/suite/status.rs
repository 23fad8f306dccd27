//! Who looks on: lists, taking away, and closing.

use super::*;

pub(super) fn an_empty_list<W: World>() {
    let world = W::new();
    let store = world.session();
    assert!(store.list().unwrap().is_empty());
    drop(Lock::new(&store, "a").lock().unwrap());
    drop(Semaphore::new(&store, "b", 2).acquire().unwrap());
    assert!(store.list().unwrap().is_empty());
}

pub(super) fn holders_and_waiters_are_listed<W: World>() {
    let (_world, one, other) = two::<W>();
    let owner = Owner::new();
    let lease = Lease::Fixed(PATIENCE);
    let first = Lock::new(&one, "b")
        .shared()
        .tag("one")
        .lease(lease)
        .lock()
        .unwrap();
    let second = Lock::new(&other, "b")
        .shared()
        .owned_by(&owner)
        .lock()
        .unwrap();
    let permit = Semaphore::new(&one, "a", 3)
        .tag("images")
        .acquire()
        .unwrap();
    let writer = task({
        let lock = Lock::new(&other, "b").owned_by(&owner).strict();
        move || lock.try_lock_for(PATIENCE).map(drop)
    });
    until_queued(&one, "b", 1);
    let reader = task({
        let lock = Lock::new(&one, "b").shared();
        move || lock.lock().map(drop)
    });
    until_queued(&one, "b", 2);

    let list = other.list().unwrap();
    let keys: Vec<_> = list
        .iter()
        .map(|status| (status.key.as_str(), status.kind))
        .collect();
    assert_eq!(keys, [("a", Kind::Semaphore), ("b", Kind::Lock)]);
    let [permits, locks] = <[Status; 2]>::try_from(list).unwrap();
    assert_eq!(permits.holders[0].mode, Mode::Permit { of: 3 });
    assert_eq!(permits.holders[0].fencing_token, permit.fencing_token());
    assert_eq!(permits.holders[0].slot, permit.slot());
    assert_eq!(permits.holders[0].tag.as_deref(), Some("images"));
    assert!(permits.waiters.is_empty());
    let tokens: Vec<_> = locks
        .holders
        .iter()
        .map(|holder| holder.fencing_token)
        .collect();
    assert_eq!(tokens, [first.fencing_token(), second.fencing_token()]);
    let [one_holder, other_holder] = &locks.holders[..] else {
        panic!("{locks:?}")
    };
    assert_eq!(one_holder.tag.as_deref(), Some("one"));
    assert_eq!(
        (&one_holder.owner, &other_holder.owner),
        (&None, &Some(owner.clone()))
    );
    assert!(one_holder.remaining.unwrap() <= PATIENCE);
    assert_eq!(other_holder.remaining.is_some(), W::SESSION_LEASES_END);
    assert_eq!(other_holder.tag, None);
    assert_eq!(one_holder.process.id, std::process::id());
    let modes: Vec<_> = locks
        .waiters
        .iter()
        .map(|waiter| (waiter.mode, waiter.owner.clone()))
        .collect();
    assert_eq!(
        modes,
        [(Mode::Exclusive, Some(owner)), (Mode::Shared, None)]
    );
    assert!(locks.waiters.iter().map(|waiter| waiter.ticket).is_sorted());

    drop((first, second));
    writer.answer().unwrap();
    reader.answer().unwrap();
}

pub(super) fn force_unlock_hands_over<W: World>() {
    let (_world, one, other) = two::<W>();
    let guard = Lock::new(&one, "a").lock().unwrap();
    let waiter = task({
        let lock = Lock::new(&other, "a");
        move || lock.lock().unwrap()
    });
    until_queued(&one, "a", 1);
    other.force_unlock("a", guard.fencing_token()).unwrap();
    let successor = waiter.answer();
    assert!(guard.lost().wait_for(PATIENCE).unwrap());
    let token = guard.fencing_token();
    assert_lost(guard, &successor);
    // Somebody who is late with the same decision harms nobody.
    assert!(matches!(
        one.force_unlock("a", token),
        Err(CoordError::NotHeld { fencing_token, .. }) if fencing_token == token
    ));
    assert!(successor.is_valid());
}

pub(super) fn force_unlock_of_what_is_not_held<W: World>() {
    let (_world, one, other) = two::<W>();
    let is_not_held = |answer| matches!(answer, Err(CoordError::NotHeld { .. }));
    assert!(is_not_held(one.force_unlock("a", 1)));
    let guard = Lock::new(&one, "a").lock().unwrap();
    let token = guard.fencing_token();
    assert!(is_not_held(other.force_unlock("b", token)));
    assert!(is_not_held(other.force_unlock("a", token - 1)));
    assert!(is_not_held(other.force_unlock("a", token + 1)));
    assert!(is_not_held(other.force_unlock("a", u64::MAX)));
    assert!(is_timed_out(&Lock::new(&other, "a").try_lock()));
    guard.release().unwrap();
    assert!(is_not_held(other.force_unlock("a", token)));
}

pub(super) fn closing_ends_waits_and_frees<W: World>() {
    let (world, one, other) = two::<W>();
    let guard = Lock::new(&one, "a").lock().unwrap();
    let permit = Semaphore::new(&one, "b", 1).acquire().unwrap();
    let foreign = Lock::new(&other, "c").lock().unwrap();
    let waiter = task({
        let lock = Lock::new(&one, "c");
        move || lock.lock().map(drop)
    });
    until_queued(&other, "c", 1);
    let next = world.session();
    let heir = task({
        let next = next.clone();
        move || Lock::new(&next, "a").lock().unwrap()
    });
    until_queued(&other, "a", 1);
    one.close().unwrap();
    assert!(is_closed(&waiter.answer()));
    assert!(guard.lost().is_set() && permit.lost().is_set());
    assert!(!permit.is_valid());
    assert_lost(guard, &heir.answer());
    assert!(Semaphore::new(&other, "b", 1).try_acquire().is_ok());
    assert!(waiters(&other, "c").is_empty());
    assert!(foreign.is_valid());
    assert!(is_lost(&permit.release()));
}

pub(super) fn nothing_works_once_closed<W: World>() {
    let (_world, one, other) = two::<W>();
    let twin = one.clone();
    let (lock, rlock) = (Lock::new(&twin, "a"), RLock::new(&twin, "a"));
    let semaphore = Semaphore::new(&twin, "b", 1);
    one.close().unwrap();
    one.close().unwrap();
    assert!(is_closed(&lock.lock()));
    assert!(is_closed(&lock.try_lock()));
    assert!(is_closed(&lock.is_locked()));
    assert!(is_closed(&rlock.try_lock_for(SHORT)));
    assert!(is_closed(&semaphore.acquire()));
    assert!(is_closed(&twin.list()));
    assert!(is_closed(&twin.force_unlock("a", 1)));
    assert!(Lock::new(&other, "a").try_lock().is_ok());
}

/// Guards are handles of it as well.
pub(super) fn a_guard_keeps_the_store_open<W: World>() {
    let (_world, one, other) = two::<W>();
    let lock = Lock::new(&one, "a");
    let guard = lock.lock().unwrap();
    drop(one);
    drop(lock);
    assert!(guard.is_valid());
    assert!(is_timed_out(&Lock::new(&other, "a").try_lock()));
    drop(guard);
    assert!(other.list().unwrap().is_empty());
}
