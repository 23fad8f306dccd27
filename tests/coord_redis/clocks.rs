//! Servers whose clocks are set.

use std::time::{Duration, Instant};

use hapax::coord::{Averager, Lease, Lock, RateLimiter, RedisStore, Semaphore, Store};

use crate::agent::Agent;
use crate::place::{Place, assert_lost, is_timed_out, succeed, until_wait};
use crate::redis_server::{Proxy, Server, until};
use crate::task;

crate::trials! {
    set_back_while_something_is_held,
    set_back_while_somebody_waits,
    set_back_after_a_holder_has_died,
    set_back_after_a_waiter_has_died,
    set_back_during_the_grace,
    set_back_with_values,
    set_forward,
    set_forward_with_values,
}

const HOUR: Duration = Duration::from_secs(3600);

fn two() -> (Server, Place, RedisStore, RedisStore) {
    let server = Server::options().clock().start();
    let place = Place::on(&server);
    let (one, other) = (place.open(), place.open());
    (server, place, one, other)
}

fn set_back(server: &Server) {
    let before: u64 = time(server);
    server.set_clock(Duration::ZERO, HOUR);
    assert!(time(server) < before);
}

fn time(server: &Server) -> u64 {
    server.command(&["TIME"]).list()[0].text().parse().unwrap()
}

/// It goes on, is renewed, and tokens grow.
fn set_back_while_something_is_held() {
    let (server, place, one, other) = two();
    let session = Lock::new(&one, "session").lock().unwrap();
    let lease = Lease::Renewed(place.lease);
    let renewed = Lock::new(&one, "renewed").lease(lease).lock().unwrap();
    let permit = Semaphore::new(&one, "permits", 1).acquire().unwrap();
    set_back(&server);
    let end = Instant::now() + 2 * place.lease;
    while Instant::now() < end {
        assert!(session.is_valid() && renewed.is_valid() && permit.is_valid());
        assert!(is_timed_out(&Lock::new(&other, "session").try_lock()));
        std::thread::sleep(Duration::from_millis(20));
    }
    let token = permit.fencing_token();
    for guard in [session, renewed] {
        guard.release().unwrap();
    }
    permit.release().unwrap();
    assert!(
        Lock::new(&other, "session")
            .try_lock()
            .unwrap()
            .fencing_token()
            > token
    );
}

fn set_back_while_somebody_waits() {
    let (server, _place, one, other) = two();
    let guard = Lock::new(&one, "k").lock().unwrap();
    let lock = Lock::new(&other, "k");
    let waiter = task(move || lock.lock().unwrap());
    until_wait(&one, "k", 1);
    set_back(&server);
    let late = Lock::new(&one, "k").strict();
    let late = task(move || late.lock().unwrap());
    until_wait(&other, "k", 2);
    let token = guard.fencing_token();
    let released = Instant::now();
    guard.release().unwrap();
    // In the order in which they came.
    let first = waiter.answer();
    assert!(first.fencing_token() > token);
    let token = first.fencing_token();
    assert!(late.is_running());
    first.release().unwrap();
    assert!(late.answer().fencing_token() > token);
    assert!(
        released.elapsed() < Duration::from_secs(4),
        "{:?}",
        released.elapsed()
    );
}

/// Its lease doesn't last for an hour and a second.
fn set_back_after_a_holder_has_died() {
    let (server, place, _one, other) = two();
    let proxy = Proxy::to(&server);
    let far = place.by(&proxy.url()).open();
    let guard = Lock::new(&far, "k").lock().unwrap();
    let lease = Lease::Fixed(Duration::from_secs(1));
    let fixed = Lock::new(&far, "fixed").lease(lease).lock().unwrap();
    proxy.stall();
    set_back(&server);
    let began = Instant::now();
    for guard in [guard, fixed] {
        let successor = succeed(&other, &guard);
        assert!(successor.is_valid());
        assert!(!guard.is_valid());
    }
    // From the moment on when somebody looks at the key, and two seconds at least.
    assert!(
        began.elapsed() < Duration::from_secs(9),
        "{:?}",
        began.elapsed()
    );
    proxy.heal();
}

fn set_back_after_a_waiter_has_died() {
    let (server, place, one, other) = two();
    let place = place.lease(Duration::from_secs(60));
    for kind in ["lock", "strict"] {
        let guard = Lock::new(&one, "k").lock().unwrap();
        let mut agent = Agent::open(&place);
        agent.tell(&format!("{kind} k"));
        until_wait(&one, "k", 1);
        agent.kill();
        set_back(&server);
        let lock = Lock::new(&other, "k");
        let waiter = task(move || lock.lock().unwrap());
        until_wait(&one, "k", 2);
        let released = Instant::now();
        guard.release().unwrap();
        waiter.answer().release().unwrap();
        assert!(
            released.elapsed() < Duration::from_secs(7),
            "{kind}: {:?}",
            released.elapsed()
        );
        server.set_clock(Duration::ZERO, Duration::ZERO);
    }
}

fn set_back_during_the_grace() {
    let server = Server::options().clock().start();
    let place = Place::on(&server).with_grace().opened();
    let (one, other) = (place.open(), place.open());
    let guard = Lock::new(&one, "k").lock().unwrap();
    server.command(&["FLUSHALL"]);
    assert!(is_timed_out(&Lock::new(&other, "k").try_lock()));
    set_back(&server);
    let began = Instant::now();
    let lock = Lock::new(&other, "k");
    let waiter = task(move || lock.lock().unwrap());
    while waiter.is_running() && guard.is_valid() {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(waiter.is_running() && !guard.is_valid(), "two hold it");
    // Without a record of the last token, and with a clock that is wrong, tokens can't grow.
    let successor = waiter.answer();
    assert!(began.elapsed() < 4 * place.lease, "{:?}", began.elapsed());
    assert_lost(guard, &successor);
}

fn set_back_with_values() {
    let (server, _place, one, _other) = two();
    let average = Averager::new(&one, "average").expire(Duration::from_secs(2));
    average.add(1.0).unwrap();
    let limit = RateLimiter::new(&one, "limit", 2, Duration::from_secs(1));
    (0..2).for_each(|_| limit.acquire().unwrap());
    set_back(&server);
    assert_eq!(average.get().unwrap(), Some(1.0));
    let began = Instant::now();
    (0..3).for_each(|_| limit.acquire().unwrap());
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "{:?}",
        began.elapsed()
    );
    // Reading doesn't write it anew, so it may last twice as long, but not for an hour.
    average.add(3.0).unwrap();
    until("it is over", || average.get().unwrap().is_none());
}

/// Leases end early: that isn't promised to be otherwise. Nobody hangs, holders learn of it, tokens grow.
fn set_forward() {
    let (server, place, one, other) = two();
    let guard = Lock::new(&one, "k").lock().unwrap();
    let lock = Lock::new(&other, "k");
    let waiter = task(move || lock.lock().unwrap());
    until_wait(&one, "k", 1);
    server.set_clock(HOUR, Duration::ZERO);
    let successor = waiter.answer_within(Duration::from_secs(5));
    assert!(successor.fencing_token() > guard.fencing_token());
    assert!(guard.lost().wait_for(Duration::from_secs(3)).unwrap());
    assert_lost(guard, &successor);
    let end = Instant::now() + place.lease;
    while Instant::now() < end {
        assert!(successor.is_valid());
        assert!(is_timed_out(&Lock::new(&one, "k").try_lock()));
        std::thread::sleep(Duration::from_millis(20));
    }
    let token = successor.fencing_token();
    successor.release().unwrap();
    // And back again.
    server.set_clock(Duration::ZERO, Duration::ZERO);
    let guard = Lock::new(&one, "k").lock().unwrap();
    assert!(guard.fencing_token() > token);
    assert!(is_timed_out(&Lock::new(&other, "k").try_lock()));
    guard.release().unwrap();
    assert!(one.list().unwrap().is_empty());
}

fn set_forward_with_values() {
    let (server, _place, one, _other) = two();
    let average = Averager::new(&one, "average").expire(Duration::from_secs(60));
    average.add(1.0).unwrap();
    let limit = RateLimiter::new(&one, "limit", 2, Duration::from_secs(600));
    (0..2).for_each(|_| limit.acquire().unwrap());
    server.set_clock(HOUR, Duration::ZERO);
    assert_eq!(average.get().unwrap(), None);
    (0..2).for_each(|_| limit.try_acquire().unwrap());
    assert!(limit.try_acquire().is_err());
}
