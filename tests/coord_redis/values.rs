//! Averages and rate limits among faults.

use std::time::{Duration, Instant};

use hapax::coord::{Averager, CoordError, Lock, RateLimiter, RedisStore, Store};

use crate::place::Place;
use crate::redis_server::{Proxy, Server, Value, shared, until};
use crate::task;

crate::trials! {
    the_reply_of_an_addition_is_lost,
    the_reply_of_a_permit_is_lost,
    additions_that_do_not_arrive,
    an_addition_after_idle_connections_were_closed,
    an_addition_after_a_restart,
    what_is_over_does_not_stay,
    what_has_a_tag_goes_together,
    values_of_a_full_server,
    additions_of_several_sessions,
    permits_of_several_sessions,
}

fn two() -> (Proxy, RedisStore, RedisStore) {
    let place = Place::new();
    let proxy = Proxy::to(shared());
    let far = place.by(&proxy.url()).open();
    (proxy, far, place.open())
}

const KEY: &str = "the-key";

/// It is counted once, and who has added doesn't know it.
fn the_reply_of_an_addition_is_lost() {
    let (proxy, far, near) = two();
    let (average, seen) = (Averager::new(&far, KEY), Averager::new(&near, KEY));
    average.add(1.0).unwrap();
    proxy.lose_replies(KEY, 1);
    let answer = average.add(4.0);
    assert!(
        matches!(answer, Err(CoordError::OutcomeUnknown { .. })),
        "{answer:?}"
    );
    assert_eq!(seen.get().unwrap(), Some(2.5));
    proxy.lose_replies(KEY, 1);
    assert_eq!(average.get().unwrap(), Some(2.5));
    proxy.lose_replies(KEY, 1);
    let answer = average.pop();
    assert!(
        matches!(answer, Err(CoordError::OutcomeUnknown { .. })),
        "{answer:?}"
    );
    assert_eq!(seen.get().unwrap(), None);
    assert_eq!(proxy.lost(), 3);
}

/// One is lost, and nobody is let through who shouldn't be.
fn the_reply_of_a_permit_is_lost() {
    let (proxy, far, near) = two();
    let limit = |store| RateLimiter::new(store, KEY, 4, Duration::from_secs(600));
    proxy.lose_replies(KEY, 1);
    limit(&far).try_acquire().unwrap();
    assert_eq!(proxy.lost(), 1);
    let let_through = (0..4)
        .filter(|_| limit(&near).try_acquire().is_ok())
        .count();
    assert!((2..=3).contains(&let_through), "{let_through}");
    let answer = limit(&far).try_acquire();
    assert!(
        matches!(answer, Err(CoordError::RateLimited { .. })),
        "{answer:?}"
    );
}

/// Then it is known that they weren't done.
fn additions_that_do_not_arrive() {
    let (proxy, far, near) = two();
    let average = Averager::new(&far, KEY);
    average.add(1.0).unwrap();
    proxy.refuse();
    // By a connection that breaks with it, and then by one that isn't made.
    let _ = average.add(2.0);
    let answer = average.add(2.0);
    assert!(
        matches!(answer, Err(CoordError::Store { .. })),
        "{answer:?}"
    );
    proxy.heal();
    assert_eq!(Averager::new(&near, KEY).get().unwrap(), Some(1.0));
    assert_eq!(average.add(2.0).unwrap(), 1.5);
}

/// That is no reason for not knowing.
fn an_addition_after_idle_connections_were_closed() {
    let server = Server::options().config("timeout 1").start();
    let store = Place::on(&server).open();
    let average = Averager::new(&store, KEY);
    for number in [1.0, 2.0, 3.0] {
        average.add(number).unwrap();
        let clients = || server.command(&["CLIENT", "LIST", "TYPE", "normal"]).text();
        until("nobody is connected", || clients().lines().count() == 1);
    }
    assert_eq!(average.get().unwrap(), Some(2.0));
}

fn an_addition_after_a_restart() {
    let server = Server::options().kept().start();
    let store = Place::on(&server).open();
    let average = Averager::new(&store, KEY);
    average.add(1.0).unwrap();
    server.restart();
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(average.add(2.0).unwrap(), 1.5);
}

/// New values take others out that are over.
fn what_is_over_does_not_stay() {
    let server = Server::start();
    let place = Place::on(&server).opened();
    let store = place.open();
    let before = server.keys("");
    let expire = Duration::from_millis(1);
    for key in 0..200 {
        Averager::new(&store, &format!("{key}"))
            .expire(expire)
            .add(1.0)
            .unwrap();
        RateLimiter::new(
            &store,
            &format!("rate {key}"),
            1000,
            Duration::from_millis(1),
        )
        .acquire()
        .unwrap();
    }
    std::thread::sleep(Duration::from_millis(5));
    for key in 0..100 {
        let average = Averager::new(&store, &format!("other {key}"));
        average.add(1.0).unwrap();
        average.pop().unwrap();
    }
    let left = server
        .keys("")
        .into_iter()
        .filter(|key| !before.contains(key));
    let left: i64 = left
        .filter(|key| server.command(&["TYPE", key]) == Value::Text("hash".into()))
        .map(|key| server.command(&["HLEN", &key]).integer())
        .sum();
    assert!(left < 20, "{left} are left");
}

fn what_has_a_tag_goes_together() {
    let (_proxy, far, near) = two();
    let _guard = Lock::new(&far, "lock").tag("t").lock().unwrap();
    let other = Lock::new(&far, "other").tag("u").lock().unwrap();
    for key in 0..2000 {
        let average = Averager::new(&far, &format!("{key}"));
        let tag = if key % 2 == 0 { "t" } else { "u" };
        average.tag(tag).add(1.0).unwrap();
    }
    assert_eq!(near.evict("t").unwrap(), 1001);
    assert_eq!(near.evict("t").unwrap(), 0);
    assert!(Lock::new(&near, "lock").try_lock().is_ok());
    assert!(other.is_valid());
    assert_eq!(near.evict("u").unwrap(), 1001);
}

/// What is there can be read and taken, and nothing is added.
fn values_of_a_full_server() {
    let server = Server::start();
    let store = Place::on(&server).open();
    let average = Averager::new(&store, KEY);
    average.add(1.0).unwrap();
    server.command(&["CONFIG", "SET", "maxmemory", "1"]);
    for answer in [
        average.add(2.0).map(drop),
        RateLimiter::new(&store, "rate", 1, Duration::from_secs(1)).try_acquire(),
    ] {
        assert!(
            matches!(answer, Err(CoordError::Store { .. })),
            "{answer:?}"
        );
    }
    assert_eq!(average.get().unwrap(), Some(1.0));
    assert_eq!(average.pop().unwrap(), Some(1.0));
}

fn additions_of_several_sessions() {
    let place = Place::new();
    let adding: Vec<_> = (0..4)
        .map(|_| {
            let store = place.open();
            task(move || {
                for number in 0..100 {
                    Averager::new(&store, KEY)
                        .add(f64::from(number) / 3.0)
                        .unwrap();
                }
            })
        })
        .collect();
    adding.into_iter().for_each(crate::Task::answer);
    let mean = Averager::new(&place.open(), KEY).pop().unwrap().unwrap();
    assert!((mean - 16.5).abs() < 1e-9, "{mean}");
}

fn permits_of_several_sessions() {
    let place = Place::new();
    let began = Instant::now();
    let taking: Vec<_> = (0..4)
        .map(|_| {
            let store = place.open();
            task(move || {
                let limit = RateLimiter::new(&store, KEY, 10, Duration::from_millis(500));
                (0..10).for_each(|_| limit.acquire().unwrap());
            })
        })
        .collect();
    taking.into_iter().for_each(crate::Task::answer);
    // Ten at once, and thirty that come one each twentieth of a second.
    assert!(
        began.elapsed() >= Duration::from_millis(1500),
        "{:?}",
        began.elapsed()
    );
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "{:?}",
        began.elapsed()
    );
}
