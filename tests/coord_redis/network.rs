//! Replies and messages that get lost, connections that are cut, stalled and slow.

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hapax::coord::{CoordError, Lease, Lock, RedisStore, Semaphore, Store};

use crate::place::{Place, assert_lost, is_lost, is_timed_out, succeed, until_wait};
use crate::redis_server::{Proxy, Server, shared, until};
use crate::{Task, task};

crate::trials! {
    the_reply_of_an_acquire_is_lost,
    the_reply_of_an_acquire_that_is_refused_is_lost,
    the_replies_of_permits_are_lost,
    the_reply_of_a_release_is_lost,
    the_reply_of_an_extension_is_lost,
    all_replies_of_an_extension_are_lost,
    a_lease_that_was_shortened_ends_in_silence,
    the_reply_of_who_unlocks_by_force_is_lost,
    the_replies_of_renewals_are_lost,
    the_replies_of_a_waiter_are_lost,
    the_reply_of_who_gives_up_is_lost,
    the_replies_of_who_begins_to_listen_are_lost,
    an_acquire_that_gets_no_answer_is_withdrawn,
    a_release_that_gets_no_answer_is_done_later,
    a_storm_of_losses,
    a_message_wakes,
    a_message_is_dropped,
    connections_are_cut_again_and_again,
    a_partition_ends_a_grant,
    a_partition_ends_a_fixed_lease,
    a_waiter_behind_a_partition_costs_little,
    a_network_that_refuses,
    time_limits_hold_behind_a_partition,
    tasks_behind_a_partition_wait_together,
    guards_are_dropped_behind_a_partition,
    a_store_is_closed_behind_a_partition,
    a_store_is_closed_while_somebody_acquires,
    a_store_is_closed_though_one_key_is_broken,
    idle_connections_are_closed,
    no_more_connections,
    a_slow_network,
    many_leases_on_a_slow_network,
    many_waiters_of_one_session,
}

/// A place, a store that has it open through a proxy, and one that has it open without.
fn two() -> (Place, Proxy, RedisStore, RedisStore) {
    let place = Place::new();
    let proxy = Proxy::to(shared());
    let (far, near) = (place.by(&proxy.url()).open(), place.open());
    (place, proxy, far, near)
}

/// The next request about this key is heard, and the answer isn't.
const KEY: &str = "the-key";

fn the_reply_of_an_acquire_is_lost() {
    let (_place, proxy, far, near) = two();
    for round in 1..=5 {
        proxy.lose_replies(KEY, 1);
        let guard = Lock::new(&far, KEY).lock().unwrap();
        assert_eq!(proxy.lost(), round);
        assert!(guard.is_valid());
        let list = near.list().unwrap();
        let tokens: Vec<_> = list[0]
            .holders
            .iter()
            .map(|holder| holder.fencing_token)
            .collect();
        assert_eq!(tokens, [guard.fencing_token()]);
        assert!(list[0].waiters.is_empty());
        assert!(is_timed_out(&Lock::new(&near, KEY).try_lock()));
        assert!(is_timed_out(&Lock::new(&far, KEY).try_lock()));
        guard.release().unwrap();
        assert!(near.list().unwrap().is_empty());
    }
    // The one that doesn't wait doesn't take itself for somebody else.
    proxy.lose_replies(KEY, 1);
    let guard = Lock::new(&far, KEY).try_lock().unwrap();
    assert_eq!(proxy.lost(), 6);
    guard.release().unwrap();
    assert!(Lock::new(&near, KEY).try_lock().is_ok());
}

fn the_reply_of_an_acquire_that_is_refused_is_lost() {
    let (_place, proxy, far, near) = two();
    let guard = Lock::new(&near, KEY).lock().unwrap();
    proxy.lose_replies(KEY, 1);
    assert!(is_timed_out(&Lock::new(&far, KEY).try_lock()));
    assert_eq!(proxy.lost(), 1);
    // It may have been queued.
    assert!(near.list().unwrap()[0].waiters.is_empty());
    guard.release().unwrap();
    assert!(near.list().unwrap().is_empty());
}

fn the_replies_of_permits_are_lost() {
    let (_place, proxy, far, near) = two();
    let semaphore = Semaphore::new(&far, KEY, 3);
    let mut permits = Vec::new();
    for count in 1..=3 {
        proxy.lose_replies(KEY, 1);
        permits.push(semaphore.acquire().unwrap());
        assert_eq!(near.list().unwrap()[0].holders.len(), count);
    }
    assert_eq!(proxy.lost(), 3);
    let mut slots: Vec<_> = permits.iter().map(|permit| permit.slot()).collect();
    slots.sort();
    assert_eq!(slots, [0, 1, 2]);
    proxy.lose_replies(KEY, 1);
    permits.pop().unwrap().release().unwrap();
    assert_eq!(near.list().unwrap()[0].holders.len(), 2);
    assert!(Semaphore::new(&near, KEY, 3).try_acquire().is_ok());
}

fn the_reply_of_a_release_is_lost() {
    let (_place, proxy, far, near) = two();
    let guard = Lock::new(&far, KEY).lock().unwrap();
    proxy.lose_replies(KEY, 1);
    guard.release().unwrap();
    assert_eq!(proxy.lost(), 1);
    let successor = Lock::new(&near, KEY).try_lock().unwrap();
    // Also when somebody else has it before the release is tried again.
    let lock = Lock::new(&far, KEY);
    let waiter = task(move || lock.lock().unwrap());
    until_wait(&near, KEY, 1);
    successor.release().unwrap();
    let guard = waiter.answer();
    let lock = Lock::new(&near, KEY);
    let waiter = task(move || lock.lock().unwrap());
    until_wait(&near, KEY, 1);
    proxy.lose_replies(KEY, 1);
    guard.release().unwrap();
    assert_eq!(proxy.lost(), 2);
    let successor = waiter.answer();
    assert!(successor.is_valid());
    // By a drop as well.
    successor.release().unwrap();
    let guard = Lock::new(&far, KEY).lock().unwrap();
    proxy.lose_replies(KEY, 1);
    drop(guard);
    until("it is given back", || {
        Lock::new(&near, KEY).try_lock().is_ok()
    });
}

fn the_reply_of_an_extension_is_lost() {
    let (_place, proxy, far, near) = two();
    let lock = Lock::new(&far, KEY).lease(Lease::Fixed(Duration::from_secs(2)));
    let guard = lock.lock().unwrap();
    proxy.lose_replies(KEY, 1);
    guard.extend(Duration::from_secs(60)).unwrap();
    assert_eq!(proxy.lost(), 1);
    assert!(guard.remaining().unwrap() > Duration::from_secs(50));
    let status = near.list().unwrap();
    assert!(status[0].holders[0].remaining.unwrap() > Duration::from_secs(50));
    guard.release().unwrap();
}

/// It is held until the earlier of both ends: the server may have done it.
fn all_replies_of_an_extension_are_lost() {
    let (_place, proxy, far, near) = two();
    for is_shortened in [true, false] {
        let lease = Duration::from_secs(if is_shortened { 60 } else { 3 });
        let lock = Lock::new(&far, KEY).lease(Lease::Fixed(lease));
        let guard = lock.lock().unwrap();
        proxy.lose_replies(KEY, 1000);
        let time = Duration::from_secs(if is_shortened { 3 } else { 60 });
        let answer = guard.extend(time);
        assert!(
            matches!(answer, Err(CoordError::OutcomeUnknown { .. })),
            "{answer:?}"
        );
        assert!(guard.remaining().unwrap() < Duration::from_secs(3));
        proxy.heal();
        if is_shortened {
            let successor = succeed(&near, &guard);
            assert_lost(guard, &successor);
        } else {
            guard.release().unwrap();
        }
    }
    // One that certainly wasn't done has changed nothing.
    let lock = Lock::new(&far, KEY).lease(Lease::Fixed(Duration::from_secs(60)));
    let guard = lock.lock().unwrap();
    proxy.refuse();
    assert!(guard.extend(Duration::from_secs(40)).is_err());
    let answer = guard.extend(Duration::from_secs(20));
    assert!(
        matches!(answer, Err(CoordError::Store { .. })),
        "{answer:?}"
    );
    assert!(guard.remaining().unwrap() > Duration::from_secs(25));
    proxy.heal();
    guard.release().unwrap();
}

/// Nobody has to ask the server for that.
fn a_lease_that_was_shortened_ends_in_silence() {
    let (_place, proxy, far, _near) = two();
    let lock = Lock::new(&far, KEY).lease(Lease::Fixed(Duration::from_secs(60)));
    let guard = lock.lock().unwrap();
    std::thread::sleep(Duration::from_millis(100));
    guard.extend(Duration::from_millis(1500)).unwrap();
    let extended = Instant::now();
    proxy.stall();
    assert!(guard.lost().wait_for(Duration::from_secs(20)).unwrap());
    let told = extended.elapsed();
    assert!(told < Duration::from_millis(1700), "{told:?}");
    proxy.heal();
}

/// Nobody can tell then whether there was something.
fn the_reply_of_who_unlocks_by_force_is_lost() {
    let (_place, proxy, far, near) = two();
    let guard = Lock::new(&near, KEY).lock().unwrap();
    for token in [1, guard.fencing_token()] {
        proxy.lose_replies(KEY, 1);
        let answer = far.force_unlock(KEY, token);
        assert!(
            matches!(answer, Err(CoordError::OutcomeUnknown { .. })),
            "{answer:?}"
        );
        assert!(matches!(
            far.force_unlock(KEY, token),
            Err(CoordError::NotHeld { .. }),
        ));
    }
    assert!(Lock::new(&near, KEY).try_lock().is_ok());
}

fn the_replies_of_renewals_are_lost() {
    let (place, proxy, far, near) = two();
    let session = Lock::new(&far, "session").lock().unwrap();
    let lease = Lease::Renewed(place.lease);
    let renewed = Lock::new(&far, "renewed").lease(lease).lock().unwrap();
    for count in 1..=4 {
        proxy.lose_replies("", 1);
        until("a reply is lost", || proxy.lost() == count);
    }
    proxy.heal();
    let end = Instant::now() + place.lease;
    while Instant::now() < end {
        assert!(session.is_valid() && renewed.is_valid());
        assert!(
            Lock::new(&near, "session")
                .try_lock_for(Duration::from_millis(20))
                .is_err()
        );
        assert!(
            Lock::new(&near, "renewed")
                .try_lock_for(Duration::from_millis(20))
                .is_err()
        );
    }
    assert!(!session.lost().is_set() && !renewed.lost().is_set());
    session.release().unwrap();
    renewed.release().unwrap();
}

/// When it queues, when it looks, and when it claims what it was granted.
fn the_replies_of_a_waiter_are_lost() {
    let (_place, proxy, far, near) = two();
    let guard = Lock::new(&near, KEY).lock().unwrap();
    proxy.lose_replies(KEY, 1);
    let lock = Lock::new(&far, KEY);
    let waiter = task(move || lock.lock().unwrap());
    until_wait(&near, KEY, 1);
    until("a reply is lost", || proxy.lost() == 1);
    until_wait(&near, KEY, 1);
    proxy.lose_replies("", 2);
    guard.release().unwrap();
    let guard = waiter.answer();
    proxy.heal();
    let list = near.list().unwrap();
    assert!(list[0].waiters.is_empty());
    assert_eq!(list[0].holders.len(), 1);
    assert_eq!(list[0].holders[0].fencing_token, guard.fencing_token());
    guard.release().unwrap();
    assert!(Lock::new(&near, KEY).try_lock().is_ok());
}

fn the_reply_of_who_gives_up_is_lost() {
    let (_place, proxy, far, near) = two();
    let guard = Lock::new(&near, KEY).lock().unwrap();
    let lock = Lock::new(&far, KEY);
    let waiter = task(move || lock.try_lock_for(Duration::from_millis(300)));
    until_wait(&near, KEY, 1);
    proxy.lose_replies("", 1);
    assert!(is_timed_out(&waiter.answer()));
    proxy.heal();
    until_wait(&near, KEY, 0);
    guard.release().unwrap();
    let successor = Lock::new(&near, KEY).lock().unwrap();
    assert!(successor.is_valid());
}

/// The first wait of a session has a connection made.
fn the_replies_of_who_begins_to_listen_are_lost() {
    let (place, proxy, _far, near) = two();
    for (count, text) in (1..).zip(["INFO", "TIME", "SUBSCRIBE"]) {
        let far = place.by(&proxy.url()).open();
        let guard = Lock::new(&near, KEY).lock().unwrap();
        proxy.lose_replies(text, 1);
        let lock = Lock::new(&far, KEY);
        let waiter = task(move || lock.lock());
        until("a reply is lost", || proxy.lost() == count);
        std::thread::sleep(Duration::from_millis(50));
        guard.release().unwrap();
        let answer = waiter.answer();
        assert!(answer.is_ok(), "{text}: {answer:?}");
    }
}

/// Nobody has that guard, and its lease is long.
fn an_acquire_that_gets_no_answer_is_withdrawn() {
    let place = Place::new().lease(Duration::from_secs(60));
    let proxy = Proxy::to(shared());
    let hasty = place.by(&proxy.url()).busy_for(Duration::from_millis(300));
    let (far, near) = (hasty.open(), place.open());
    for _ in 0..3 {
        let lost = proxy.lost();
        proxy.lose_replies(KEY, 1000);
        let answer = Lock::new(&far, KEY).lock();
        assert!(
            matches!(answer, Err(CoordError::Store { .. })),
            "{answer:?}"
        );
        assert!(proxy.lost() > lost);
        proxy.heal();
        let healed = Instant::now();
        let guard = Lock::new(&near, KEY).lock().unwrap();
        assert!(
            healed.elapsed() < Duration::from_secs(4),
            "{:?}",
            healed.elapsed()
        );
        // The same with who waits: it doesn't stand in the line any more.
        proxy.lose_replies(KEY, 1000);
        let answer = Lock::new(&far, KEY).strict().lock();
        assert!(
            matches!(answer, Err(CoordError::Store { .. })),
            "{answer:?}"
        );
        proxy.heal();
        until("it has left", || near.list().unwrap()[0].waiters.is_empty());
        guard.release().unwrap();
    }
}

fn a_release_that_gets_no_answer_is_done_later() {
    let place = Place::new().lease(Duration::from_secs(60));
    let proxy = Proxy::to(shared());
    let hasty = place.by(&proxy.url()).busy_for(Duration::from_millis(300));
    let (far, near) = (hasty.open(), place.open());
    for is_dropped in [false, true] {
        let guard = Lock::new(&far, KEY).lock().unwrap();
        proxy.refuse();
        if is_dropped {
            drop(guard);
        } else {
            let answer = guard.release();
            assert!(
                matches!(answer, Err(CoordError::Store { .. })),
                "{answer:?}"
            );
        }
        assert!(is_timed_out(&Lock::new(&near, KEY).try_lock()));
        proxy.heal();
        let healed = Instant::now();
        Lock::new(&near, KEY).lock().unwrap().release().unwrap();
        assert!(
            healed.elapsed() < Duration::from_secs(4),
            "{:?}",
            healed.elapsed()
        );
    }
}

/// Threads and sessions among replies that get lost and connections that are cut: nobody is alone less than it thinks, and
/// nobody loses what it holds.
fn a_storm_of_losses() {
    let place = Place::new();
    let proxies = [0, 1].map(|_| Proxy::to(shared()));
    let inside = Arc::new(AtomicUsize::new(0));
    let end = Instant::now() + Duration::from_secs(4);
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let store = place.by(&proxies[thread % 2].url()).open();
            let inside = Arc::clone(&inside);
            task(move || {
                let mut tokens = Vec::new();
                while Instant::now() < end {
                    let lock = Lock::new(&store, KEY);
                    let guard = match thread {
                        0 => lock.strict().lock(),
                        1 => lock.try_lock_for(Duration::from_millis(30)),
                        _ => lock.lock(),
                    };
                    let guard = match guard {
                        Ok(guard) => guard,
                        Err(CoordError::TimedOut { .. }) => continue,
                        // Its time was over before an answer came through.
                        Err(CoordError::Store { .. }) if thread == 1 => continue,
                        Err(error) => panic!("{error:?}"),
                    };
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two are inside");
                    tokens.push(guard.fencing_token());
                    std::thread::yield_now();
                    assert_eq!(inside.fetch_sub(1, Ordering::SeqCst), 1, "two are inside");
                    assert!(guard.is_valid());
                    guard.release().unwrap();
                }
                tokens
            })
        })
        .collect();
    while Instant::now() < end {
        let proxy = &proxies[fastrand::usize(..2)];
        match fastrand::u8(..8) {
            0 => proxy.cut(),
            _ => proxy.lose_replies("", 1),
        }
        std::thread::sleep(Duration::from_millis(fastrand::u64(1..30)));
    }
    proxies.iter().for_each(Proxy::heal);
    let mut tokens: Vec<_> = threads.into_iter().flat_map(Task::answer).collect();
    let count = tokens.len();
    assert!(count > 20, "little was done: {count}");
    tokens.sort();
    tokens.dedup();
    assert_eq!(tokens.len(), count, "a token was granted twice");
    let store = place.open();
    until("all is given back", || store.list().unwrap().is_empty());
}

fn a_message_wakes() {
    let place = Place::new();
    let (one, other) = (place.open(), place.open());
    let mut times = Vec::new();
    for _ in 0..10 {
        let guard = Lock::new(&one, KEY).lock().unwrap();
        let lock = Lock::new(&other, KEY);
        let waiter = task(move || {
            let guard = lock.lock().unwrap();
            (Instant::now(), guard.release().unwrap())
        });
        until_wait(&one, KEY, 1);
        let released = Instant::now();
        guard.release().unwrap();
        times.push(waiter.answer().0 - released);
    }
    times.sort();
    // Without one it would be as late as it looks by itself: in half a second, on average.
    assert!(times[4] < Duration::from_millis(150), "{times:?}");
}

fn a_message_is_dropped() {
    let (_place, proxy, far, near) = two();
    proxy.drop_messages();
    for _ in 0..2 {
        let dropped = proxy.dropped();
        let guard = Lock::new(&near, KEY).lock().unwrap();
        let lock = Lock::new(&far, KEY);
        let waiter = task(move || lock.lock().unwrap());
        until_wait(&near, KEY, 1);
        let released = Instant::now();
        guard.release().unwrap();
        waiter.answer().release().unwrap();
        assert!(
            released.elapsed() < Duration::from_secs(3),
            "{:?}",
            released.elapsed()
        );
        assert!(proxy.dropped() > dropped, "nobody was told");
    }
}

fn connections_are_cut_again_and_again() {
    let (place, proxy, far, near) = two();
    let held = Lock::new(&far, "held").lock().unwrap();
    let guard = Lock::new(&near, KEY).lock().unwrap();
    let lock = Lock::new(&far, KEY);
    let waiter = task(move || lock.lock().unwrap());
    until_wait(&near, KEY, 1);
    let end = Instant::now() + 2 * place.lease;
    while Instant::now() < end {
        proxy.cut();
        std::thread::sleep(Duration::from_millis(100));
        assert!(held.is_valid());
        assert!(is_timed_out(&Lock::new(&near, "held").try_lock()));
    }
    let released = Instant::now();
    guard.release().unwrap();
    let token = waiter.answer().fencing_token();
    assert!(token > held.fencing_token());
    assert!(
        released.elapsed() < Duration::from_secs(3),
        "{:?}",
        released.elapsed()
    );
    assert!(!held.lost().is_set());
    held.release().unwrap();
}

fn a_partition_ends_a_grant() {
    let (place, proxy, far, near) = two();
    let guard = Lock::new(&far, KEY).lock().unwrap();
    let began = Instant::now();
    proxy.stall();
    let (told, successor) = std::thread::scope(|scope| {
        let told = scope.spawn(|| {
            assert!(guard.lost().wait_for(Duration::from_secs(30)).unwrap());
            Instant::now()
        });
        let successor = succeed(&near, &guard);
        (told.join().unwrap(), successor)
    });
    assert!(
        told - began < place.lease + Duration::from_millis(700),
        "{:?}",
        told - began
    );
    proxy.heal();
    assert_lost(guard, &successor);
    successor.release().unwrap();
    assert!(Lock::new(&far, KEY).lock().is_ok());
}

fn a_partition_ends_a_fixed_lease() {
    let (_place, proxy, far, near) = two();
    let lease = Lease::Fixed(Duration::from_millis(500));
    let guard = Lock::new(&far, KEY).lease(lease).lock().unwrap();
    proxy.refuse();
    let successor = succeed(&near, &guard);
    // It knows that without the network.
    assert!(guard.lost().wait_for(Duration::from_secs(5)).unwrap());
    assert!(is_lost(&guard.check()));
    proxy.heal();
    assert_lost(guard, &successor);
}

fn a_waiter_behind_a_partition_costs_little() {
    let (place, proxy, far, near) = two();
    let guard = Lock::new(&near, KEY).lock().unwrap();
    let lock = Lock::new(&far, KEY).strict();
    let waiter = task(move || lock.lock());
    until_wait(&near, KEY, 1);
    let next = place.open();
    let lock = Lock::new(&next, KEY).strict();
    let second = task(move || lock.lock().unwrap());
    until_wait(&near, KEY, 2);
    proxy.stall();
    let released = Instant::now();
    guard.release().unwrap();
    let second = second.answer();
    assert!(
        released.elapsed() < Duration::from_secs(6),
        "{:?}",
        released.elapsed()
    );
    proxy.heal();
    second.release().unwrap();
    // It has waited on, or was told that it couldn't.
    match waiter.answer() {
        Ok(guard) => guard.release().unwrap(),
        Err(error) => assert!(matches!(error, CoordError::Store { .. }), "{error:?}"),
    }
    assert!(Lock::new(&near, KEY).lock().is_ok());
}

fn a_network_that_refuses() {
    let (_place, proxy, far, near) = two();
    proxy.refuse();
    for answer in [
        Lock::new(&far, KEY).lock().map(drop),
        Lock::new(&far, KEY).try_lock().map(drop),
        Lock::new(&far, KEY)
            .try_lock_for(Duration::from_secs(1))
            .map(drop),
        Semaphore::new(&far, KEY, 2).acquire().map(drop),
        far.list().map(drop),
    ] {
        assert!(
            matches!(answer, Err(CoordError::Store { .. })),
            "{answer:?}"
        );
    }
    proxy.heal();
    let guard = Lock::new(&far, KEY).lock().unwrap();
    assert!(is_timed_out(&Lock::new(&near, KEY).try_lock()));
    guard.release().unwrap();
}

/// Both of who asks and of who waits already, and nothing is left behind.
fn time_limits_hold_behind_a_partition() {
    let (place, proxy, far, near) = two();
    let guard = Lock::new(&near, KEY).lock().unwrap();
    let lock = Lock::new(&far, KEY);
    let began = Instant::now();
    let waiter = task(move || lock.try_lock_for(Duration::from_millis(900)).map(drop));
    until_wait(&near, KEY, 1);
    proxy.stall();
    let asked = Instant::now();
    let lock = Lock::new(&far, "other").lease(Lease::Fixed(Duration::from_secs(3600)));
    assert!(lock.try_lock_for(Duration::from_millis(50)).is_err());
    let took = asked.elapsed();
    assert!(took < place.busy_for, "{took:?}");
    assert!(waiter.answer().is_err());
    let took = began.elapsed();
    assert!(took < 2 * place.busy_for, "{took:?}");
    proxy.heal();
    until_wait(&near, KEY, 0);
    guard.release().unwrap();
    assert!(Lock::new(&near, "other").lock().is_ok());
}

/// One thread asks for all of them.
fn tasks_behind_a_partition_wait_together() {
    let (place, proxy, far, near) = two();
    let guard = pollster::block_on(Lock::new(&far, KEY).lock_async()).unwrap();
    proxy.stall();
    let began = Instant::now();
    let tasks: Vec<_> = (0..8)
        .map(|key| {
            let lock = Lock::new(&far, &format!("{key}"));
            task(move || pollster::block_on(lock.lock_async()).map(drop))
        })
        .collect();
    for task in tasks {
        assert!(task.answer().is_err());
    }
    let took = began.elapsed();
    assert!(
        took < 2 * place.busy_for + Duration::from_secs(2),
        "{took:?}"
    );
    proxy.heal();
    drop(guard);
    until("all is given back", || near.list().unwrap().is_empty());
}

/// They are many, and together they don't wait much longer than one.
fn guards_are_dropped_behind_a_partition() {
    let (place, proxy, far, near) = two();
    let guards: Vec<_> = (0..8)
        .map(|key| Lock::new(&far, &format!("{key}")).lock().unwrap())
        .collect();
    proxy.refuse();
    let began = Instant::now();
    drop(guards);
    assert!(
        began.elapsed() < 3 * place.busy_for,
        "{:?}",
        began.elapsed()
    );
    proxy.heal();
    until("they are given back", || near.list().unwrap().is_empty());
}

fn a_store_is_closed_behind_a_partition() {
    let (place, proxy, far, near) = two();
    let guards: Vec<_> = (0..8)
        .map(|key| Lock::new(&far, &format!("{key}")).lock().unwrap())
        .collect();
    let lock = Lock::new(&far, "0");
    let waiter = task(move || lock.lock().map(drop));
    until_wait(&near, "0", 1);
    proxy.stall();
    let began = Instant::now();
    assert!(far.close().is_err());
    // It may just have looked, without an answer.
    match waiter.answer() {
        Err(CoordError::Closed { .. } | CoordError::Store { .. }) => {}
        other => panic!("{other:?}"),
    }
    assert!(guards.iter().all(|guard| !guard.is_valid()));
    drop((guards, far));
    assert!(
        began.elapsed() < 2 * place.busy_for,
        "{:?}",
        began.elapsed()
    );
    // Their leases end.
    let lock = Lock::new(&near, "0");
    lock.lock().unwrap().release().unwrap();
}

/// Its request arrives after the store was closed.
fn a_store_is_closed_while_somebody_acquires() {
    let (_place, proxy, far, near) = two();
    proxy.refuse();
    let lock = Lock::new(&far, KEY).lease(Lease::Fixed(Duration::from_secs(3600)));
    let acquires = task(move || lock.try_lock().map(drop));
    std::thread::sleep(Duration::from_millis(700));
    let (closing, _) = (task(move || far.close()), proxy.heal());
    let answer = acquires.answer();
    assert!(
        matches!(answer, Err(CoordError::Closed { .. })) || answer.is_ok(),
        "{answer:?}"
    );
    closing.answer().unwrap();
    assert!(Lock::new(&near, KEY).try_lock().is_ok());
}

/// What is wrong with one key keeps nothing else.
fn a_store_is_closed_though_one_key_is_broken() {
    let server = Server::start();
    let place = Place::on(&server);
    let (one, other) = (place.open(), place.open());
    let guards = ["a", "b", "c"].map(|key| Lock::new(&one, key).lock().unwrap());
    let line = format!("hapax:{{{}}}:line:b", place.namespace);
    server.command(&["SET", &line, "no line"]);
    let answer = one.close();
    assert!(
        matches!(answer, Err(CoordError::Store { .. })),
        "{answer:?}"
    );
    for key in ["a", "c"] {
        assert!(Lock::new(&other, key).try_lock().is_ok(), "{key}");
    }
    drop(guards);
}

fn idle_connections_are_closed() {
    let server = Server::options().config("timeout 1").start();
    let place = Place::on(&server).lease(Duration::from_secs(60));
    let (one, other) = (place.open(), place.open());
    for _ in 0..2 {
        let guard = Lock::new(&one, KEY).lock().unwrap();
        std::thread::sleep(Duration::from_millis(2200));
        assert!(is_timed_out(&Lock::new(&other, KEY).try_lock()));
        assert!(guard.is_valid());
        guard.release().unwrap();
        assert!(Lock::new(&other, KEY).try_lock().is_ok());
    }
}

fn no_more_connections() {
    let server = Server::start();
    let place = Place::on(&server).busy_for(Duration::from_millis(300));
    let (one, other) = (place.open(), place.open());
    let guard = Lock::new(&one, KEY).lock().unwrap();
    let limit = server.info("clients", "connected_clients");
    server.command(&["CONFIG", "SET", "maxclients", &limit]);
    let full: Vec<_> = (0..2)
        .map(|_| TcpStream::connect(server.address()))
        .collect();
    until("there are as many as may be", || {
        server.try_command(&["PING"]).is_err()
    });
    let answer = place.try_open().map(drop);
    assert!(
        matches!(answer, Err(CoordError::Store { .. })),
        "{answer:?}"
    );
    // It would have to be told when the lock is free.
    let answer = Lock::new(&other, KEY).lock();
    assert!(
        matches!(answer, Err(CoordError::Store { .. })),
        "{answer:?}"
    );
    assert!(guard.is_valid());
    guard.release().unwrap();
    let guard = Lock::new(&other, KEY).lock().unwrap();
    drop(full);
    until("there is room again", || place.try_open().is_ok());
    assert!(is_timed_out(&Lock::new(&one, KEY).try_lock()));
    guard.release().unwrap();
}

/// They take turns, and don't make connections again and again.
fn many_waiters_of_one_session() {
    let (_place, proxy, far, near) = two();
    let guard = Lock::new(&near, KEY).lock().unwrap();
    let waiters: Vec<_> = (0..48)
        .map(|_| {
            let lock = Lock::new(&far, KEY);
            task(move || lock.lock().unwrap().fencing_token())
        })
        .collect();
    until_wait(&near, KEY, waiters.len());
    std::thread::sleep(Duration::from_millis(1500));
    let opened = proxy.opened();
    let released = Instant::now();
    guard.release().unwrap();
    let mut tokens: Vec<_> = waiters.into_iter().map(Task::answer).collect();
    let time = released.elapsed();
    assert!(time < Duration::from_secs(5), "{time:?}");
    tokens.sort();
    tokens.dedup();
    assert_eq!(tokens.len(), 48);
    assert!(
        proxy.opened() < opened + 100,
        "{} and then {}",
        opened,
        proxy.opened()
    );
}

/// What a grant is worth is counted from before it was asked for.
fn a_slow_network() {
    let (_place, proxy, far, near) = two();
    proxy.delay(Duration::from_millis(50));
    let lock = Lock::new(&far, KEY).lease(Lease::Fixed(Duration::from_secs(2)));
    let guard = lock.lock().unwrap();
    assert!(guard.remaining().unwrap() < Duration::from_millis(1950));
    guard.extend(Duration::from_secs(3)).unwrap();
    assert!(guard.remaining().unwrap() < Duration::from_millis(2950));
    guard.release().unwrap();
    let guard = Lock::new(&near, KEY).lock().unwrap();
    let lock = Lock::new(&far, KEY).lease(Lease::Fixed(Duration::from_millis(600)));
    let waiter = task(move || lock.lock().unwrap());
    until_wait(&near, KEY, 1);
    guard.release().unwrap();
    let guard = waiter.answer();
    assert!(guard.remaining().unwrap() < Duration::from_millis(550));
    let successor = succeed(&near, &guard);
    assert_lost(guard, &successor);
}

/// They are renewed together.
fn many_leases_on_a_slow_network() {
    let (place, proxy, far, _near) = two();
    let guards: Vec<_> = (0..200)
        .map(|key| Lock::new(&far, &format!("{key}")).lock().unwrap())
        .collect();
    proxy.delay(Duration::from_millis(20));
    let end = Instant::now() + 4 * place.lease;
    while Instant::now() < end {
        let lost = guards.iter().filter(|guard| !guard.is_valid()).count();
        assert_eq!(lost, 0);
        std::thread::sleep(Duration::from_millis(50));
    }
    proxy.heal();
}
