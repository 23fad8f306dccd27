//! What can't be had, and what is said of it.

use hapax::sync;

use super::*;

pub(super) fn a_lock_is_no_semaphore<W: World>() {
    let (_world, one, other) = two::<W>();
    let (lock, semaphore) = (Lock::new(&one, "a"), Semaphore::new(&other, "a", 1));
    let guard = lock.lock().unwrap();
    for answer in [semaphore.try_acquire(), semaphore.acquire()] {
        let Err(CoordError::KindMismatch { found, wanted, .. }) = answer else {
            panic!("{answer:?}")
        };
        assert_eq!((found, wanted), (Kind::Lock, Kind::Semaphore));
    }
    drop(guard);
    let permit = semaphore.try_acquire().unwrap();
    let shared = lock.clone().shared();
    for answer in [lock.try_lock(), lock.lock(), shared.try_lock_for(SHORT)] {
        let Err(CoordError::KindMismatch { found, wanted, .. }) = answer else {
            panic!("{answer:?}")
        };
        assert_eq!((found, wanted), (Kind::Semaphore, Kind::Lock));
    }
    drop(permit);
    assert!(lock.try_lock().is_ok());
}

pub(super) fn a_semaphore_has_one_limit<W: World>() {
    let (_world, one, other) = two::<W>();
    let permit = Semaphore::new(&one, "a", 2).acquire().unwrap();
    let three = Semaphore::new(&other, "a", 3);
    for answer in [three.try_acquire(), three.acquire()] {
        let Err(CoordError::LimitMismatch { found, wanted, .. }) = answer else {
            panic!("{answer:?}")
        };
        assert_eq!((found, wanted), (Limit::Permits(2), Limit::Permits(3)));
    }
    drop(permit);
    assert!(three.try_acquire().is_ok());
}

pub(super) fn errors_say_where<W: World>() {
    let world = W::new();
    let store = world.session();
    let lock = Lock::new(&store, "a\nb");
    let guard = lock.lock().unwrap();
    let check = |error: CoordError, key, operation, text: &str| {
        assert_eq!((error.key(), error.operation()), (key, operation));
        let said = error.to_string();
        assert!(said.contains(text), "{said}");
        assert!(!said.contains('\n'), "{said}");
    };
    let key = Some("a\nb");
    check(
        lock.try_lock().unwrap_err(),
        key,
        Operation::Acquire,
        "can't acquire `a\\nb`",
    );
    let semaphore = Semaphore::new(&store, "a\nb", 1);
    check(
        semaphore.try_acquire().unwrap_err(),
        key,
        Operation::Acquire,
        "in use as a lock",
    );
    let not_held = store.force_unlock("a\nb", 1).unwrap_err();
    check(
        not_held,
        key,
        Operation::ForceUnlock,
        "can't force-unlock `a\\nb`",
    );
    store.force_unlock("a\nb", guard.fencing_token()).unwrap();
    check(
        guard.extend(SHORT).unwrap_err(),
        key,
        Operation::Extend,
        "is lost",
    );
    check(guard.check().unwrap_err(), key, Operation::Check, "is lost");
    check(
        guard.release().unwrap_err(),
        key,
        Operation::Release,
        "is lost",
    );
    let mine = lock.owned_by(&Owner::new());
    let _guard = mine.lock().unwrap();
    check(
        mine.lock().unwrap_err(),
        key,
        Operation::Acquire,
        "held in its own name",
    );
    store.close().unwrap();
    check(
        mine.lock().unwrap_err(),
        key,
        Operation::Acquire,
        "is closed",
    );
    check(
        store.list().unwrap_err(),
        None,
        Operation::List,
        "can't list the store",
    );
}

/// It leaves the queue as well.
pub(super) fn who_is_cancelled_leaves<W: World>() {
    let (_world, one, other) = two::<W>();
    let guard = Lock::new(&one, "a").lock().unwrap();
    let failed = task(move || {
        sync::scope::<(), _>(|scope| {
            let lock = Lock::new(&other, "a");
            scope.spawn(move || match lock.lock() {
                Err(CoordError::Cancelled { at }) => {
                    assert_eq!(at, at.clone());
                    Ok(())
                }
                other => panic!("{other:?}"),
            });
            until_queued(&other, "a", 1);
            scope.spawn(|| Err("enough".into()));
            Ok(())
        })
        .is_err()
    });
    assert!(failed.answer());
    assert!(waiters(&one, "a").is_empty());
    drop(guard);
    assert!(one.list().unwrap().is_empty());
}

pub(super) fn no_permits_at_all<W: World>() {
    let world = W::new();
    let store = world.session();
    let message = common::panic_of(|| Semaphore::new(&store, "a", 0));
    assert!(message.contains("has no permits"), "{message}");
}
