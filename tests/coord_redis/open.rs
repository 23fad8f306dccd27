//! What can't be opened, and what is said about that.

use std::error::Error;
use std::time::{Duration, Instant};

use hapax::coord::{CoordError, Lease, Lock, Operation, RedisStore, Store};

use crate::place::Place;
use crate::redis_server::{Proxy, Server, shared};

crate::trials! {
    a_server_that_evicts_is_refused,
    a_password_is_never_shown,
    a_password_is_given_in_both_ways,
    a_wrong_password_is_said_to_be_wrong,
    a_user_who_may_not_is_told,
    a_user_who_may_do_enough,
    urls_that_are_none,
    namespaces_that_are_none,
    odd_options,
    several_addresses,
    an_address_that_is_silent,
    a_socket_of_this_machine,
    settings_follow_the_url,
    the_third_version_of_the_protocol,
    a_server_that_is_not_there,
    a_server_that_does_not_answer,
}

fn error(answer: Result<RedisStore, CoordError>) -> CoordError {
    match answer {
        Ok(_) => panic!("it was opened"),
        Err(error) => error,
    }
}

/// All that an error says, in all ways.
fn all_of(error: &CoordError) -> String {
    let mut text = format!("{error} {error:?} {error:#?}");
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(" {error} {error:?}");
        source = error.source();
    }
    text
}

fn lower(error: &CoordError) -> String {
    all_of(error).to_lowercase()
}

/// It would throw locks away when its memory is full.
fn a_server_that_evicts_is_refused() {
    for policy in [
        "allkeys-lru",
        "allkeys-random",
        "volatile-ttl",
        "volatile-lru",
    ] {
        let server = Server::options()
            .config("maxmemory 100mb")
            .config(&format!("maxmemory-policy {policy}"))
            .start();
        let place = Place::on(&server);
        let error = error(place.try_open());
        assert!(matches!(error, CoordError::Store { .. }), "{error:?}");
        assert_eq!(error.operation(), Operation::Open);
        let text = error.to_string();
        assert!(
            text.contains(policy) && text.contains("noeviction"),
            "{text}"
        );
        let store = place
            .options()
            .allow_eviction(true)
            .open(&place.url)
            .unwrap();
        Lock::new(&store, "k").lock().unwrap().release().unwrap();
    }
}

/// As the command leaves them in `HAPAX_STORE`.
fn settings_follow_the_url() {
    let place = Place::new();
    let url = format!("{}?namespace={}&grace=0", place.url, place.namespace);
    let held = Lock::new(&place.open(), "k").lock().unwrap();
    let store = RedisStore::open(&url).unwrap();
    assert!(Lock::new(&store, "k").try_lock().is_err());
    assert!(Lock::new(&store, "other").try_lock().is_ok());
    // What the program says counts more.
    let other = Place::new();
    let store = other.options().open(&url).unwrap();
    assert!(Lock::new(&store, "k").try_lock().is_ok());
    drop(held);
    for wrong in [
        "namespase=x",
        "grace=soon",
        "grace=-1",
        "namespace={x}",
        "namespace=%ff",
    ] {
        let error = error(RedisStore::open(&format!("{}?{wrong}", place.url)));
        assert!(matches!(error, CoordError::Store { .. }), "{error}");
    }
}

fn a_socket_of_this_machine() {
    let server = Server::start();
    let socket = format!("unix://{}", server.socket().display());
    let (by_port, by_socket) = (Place::on(&server), socket);
    let store = by_port.options().open(&by_socket).unwrap();
    let guard = Lock::new(&store, "k").lock().unwrap();
    assert!(Lock::new(&by_port.open(), "k").try_lock().is_err());
    guard.release().unwrap();
    let error = error(
        by_port
            .options()
            .open("unix:///nowhere/redis.sock?pass=xyzzy"),
    );
    assert!(error.to_string().contains("/nowhere/redis.sock"), "{error}");
    assert!(!all_of(&error).contains("xyzzy"));
}

const PASSWORD: &str = "xyzzy-pa55word";

fn a_password_is_never_shown() {
    let server = Server::options()
        .password(PASSWORD)
        .user("alice", "alice-pa55word", "~* &* +@all")
        .start();
    let place = Place::on(&server);
    let alice = format!("redis://alice:alice-pa55word@{}", server.address());
    for url in [&place.url, &alice] {
        let options = place.options().password("plugh-pa55word");
        assert!(!format!("{options:?}").contains("pa55word"));
        let place = place.by(url);
        let store = place.open();
        assert!(!format!("{store:?}").contains("pa55word"));
        let guard = Lock::new(&store, "k").lock().unwrap();
        assert!(!format!("{guard:?}").contains("pa55word"));
        assert!(!format!("{:?}", store.list().unwrap()).contains("pa55word"));
        guard.release().unwrap();
    }
    // With a server that answers otherwise, one that isn't there, and URLs that are none.
    let (address, other) = (server.address(), shared().address());
    for url in [
        format!("redis://:{PASSWORD}-2@{address}"),
        format!("redis://bob:{PASSWORD}@{address}"),
        format!("redis://alice:{PASSWORD}@{address}/99999"),
        format!("redis://:{PASSWORD}@{other}"),
        format!("redis://:{PASSWORD}@127.0.0.1:1"),
        format!("redis://:{PASSWORD}@127.0.0.1:99999"),
        format!("redis://:{PASSWORD}@no.such.host.invalid"),
        format!("redis://:{PASSWORD}@{address}/not-a-number"),
        format!("redis://:{PASSWORD}@"),
        format!("redis:// :{PASSWORD}@{address}"),
        format!("redis://:{PASSWORD}%@[::1"),
        format!("http://:{PASSWORD}@{address}"),
        format!("rediss://:{PASSWORD}@{address}"),
        format!("redis+sentinel://:{PASSWORD}@{address}"),
        format!(":{PASSWORD}@{address}"),
        format!("redis://:abc/{PASSWORD}@localhost"),
        format!("redis://:1/{PASSWORD}@localhost"),
        format!("redis://:{PASSWORD}/abc@localhost"),
        format!("redis://user:abc#{PASSWORD}@{address}"),
        format!("redis://user:{PASSWORD}#abc@{address}"),
        format!("redis://user:abc?{PASSWORD}@{address}"),
        format!("redis://user:{PASSWORD}?abc@{address}"),
        format!("redis://user:abc,/{PASSWORD}@{address}"),
        format!("redis://user:{PASSWORD}@/0"),
        format!("redis://user:{PASSWORD}"),
        format!("redis+sentinel://user:{PASSWORD}/x@one,two/main"),
        format!("redis+sentinel://user:{PASSWORD}@one"),
        format!("user:{PASSWORD}://{address}"),
        format!("redis://{address}/0?password={PASSWORD}&protocol=9"),
        format!("redis://{address}/{PASSWORD}"),
        format!("unix://{PASSWORD}@x?db=y"),
    ] {
        if let Err(error) = place.by(&url).try_open() {
            let text = all_of(&error);
            assert!(!text.contains("pa55word"), "{text}");
        }
    }
    let store = place.open();
    server.pause();
    let error = Lock::new(&store, "k").lock().unwrap_err();
    assert!(!all_of(&error).contains("pa55word"));
    server.resume();
}

fn a_password_is_given_in_both_ways() {
    let server = Server::options()
        .password("se:c/r@t%?#")
        .user("alice", "hid/den", "~* &* +@all")
        .start();
    let place = Place::at(&format!("redis://{}", server.address()));
    place
        .options()
        .password("se:c/r@t%?#")
        .open(&place.url)
        .unwrap();
    let alice = place.options().username("alice").password("hid/den");
    alice.open(&place.url).unwrap();
    let default = format!("redis://:se%3Ac%2Fr%40t%25%3F%23@{}", server.address());
    place.by(&default).open();
    place
        .by(&format!("redis://alice:hid%2Fden@{}", server.address()))
        .open();
}

fn a_wrong_password_is_said_to_be_wrong() {
    let server = Server::options().password("right").start();
    let place = Place::at(&format!("redis://{}", server.address()));
    let wrong = lower(&error(place.options().password("wrong").open(&place.url)));
    assert!(wrong.contains("password"), "{wrong}");
    let none = lower(&error(place.try_open()));
    assert!(
        none.contains("password") || none.contains("authentication"),
        "{none}"
    );
}

fn a_user_who_may_not_is_told() {
    let server = Server::options()
        .user("reader", "r", "~* &* +@read +@connection +info")
        .start();
    let place = Place::at(&format!("redis://reader:r@{}", server.address()));
    let answer = place
        .try_open()
        .and_then(|store| Lock::new(&store, "k").lock());
    let error = answer.unwrap_err();
    assert!(matches!(error, CoordError::Store { .. }), "{error:?}");
    assert!(error.to_string().contains("permission"), "{error}");
}

/// Without the right to read the configuration, and with its own keys and channels only.
fn a_user_who_may_do_enough() {
    let server = Server::options()
        .user(
            "hapax",
            "h",
            "resetchannels ~hapax:{mine}:* &hapax:{mine}:* +@all -@admin -@dangerous +info",
        )
        .start();
    let mut place = Place::at(&format!("redis://hapax:h@{}", server.address()));
    place.namespace = "mine".to_owned();
    let (one, other) = (place.open(), place.open());
    let guard = Lock::new(&one, "k").lock().unwrap();
    let lock = Lock::new(&other, "k");
    let waiter = crate::task(move || lock.lock().map(drop));
    crate::place::until_wait(&one, "k", 1);
    guard.release().unwrap();
    waiter.answer().unwrap();
}

fn urls_that_are_none() {
    for url in [
        "",
        "locks.db",
        "127.0.0.1:6379",
        "redis:",
        "redis://",
        "http://127.0.0.1:6379",
        "postgres://127.0.0.1",
        "redis://127.0.0.1:port",
        "redis://127.0.0.1:99999",
        "redis://127.0.0.1/database",
    ] {
        let began = Instant::now();
        // That one is the system's own server, if it has one.
        if matches!(url, "redis:" | "redis://") {
            let _ = RedisStore::open(url).map(|store| store.close());
            continue;
        }
        let error = error(RedisStore::open(url));
        assert!(
            matches!(error, CoordError::Store { .. }),
            "{url:?}: {error:?}"
        );
        assert_eq!(error.operation(), Operation::Open);
        assert!(error.to_string().len() > 30, "{url:?}: {error}");
        assert!(
            began.elapsed() < Duration::from_secs(2),
            "{url:?}: it was tried"
        );
    }
}

fn namespaces_that_are_none() {
    for name in ["", "{", "}", "{}", "a{b", "a}b"] {
        let error = error(RedisStore::options().namespace(name).open(&shared().url()));
        assert!(
            matches!(error, CoordError::Store { .. }),
            "{name:?}: {error:?}"
        );
        assert!(error.to_string().contains("namespace"), "{error}");
    }
}

/// They are taken as they are, or refused, and nothing panics.
fn odd_options() {
    let times = [
        Duration::ZERO,
        Duration::from_nanos(1),
        Duration::from_secs(1 << 40),
        Duration::MAX,
    ];
    let place = Place::new();
    for time in times {
        let options = [
            place.options().session_lease(time),
            place.options().request_timeout(time),
            place.options().busy_for(time),
        ];
        for options in options {
            if let Ok(store) = options.open(&place.url)
                && let Ok(guard) = Lock::new(&store, "k").try_lock()
            {
                let _ = (guard.is_valid(), guard.remaining());
                let _ = store.list();
                let _ = guard.release();
            }
        }
        let store = place.open();
        for lease in [Lease::Fixed(time), Lease::Renewed(time)] {
            let key = format!("{lease:?}");
            if let Ok(guard) = Lock::new(&store, &key).lease(lease).try_lock() {
                let is_long = time > Duration::from_secs(1);
                assert_eq!(guard.is_valid(), is_long, "{lease:?}");
                assert_eq!(
                    guard.remaining().unwrap() > Duration::from_secs(1),
                    is_long,
                    "{lease:?}"
                );
                let _ = guard.extend(time);
                assert_eq!(guard.release().is_ok(), is_long, "{lease:?}");
            }
        }
        let _ = Lock::new(&store, "k").try_lock_for(time).map(drop);
        let server = Server::start();
        let store = place.options().grace(time).open(&server.url()).unwrap();
        let is_long = time > Duration::from_secs(1);
        assert_eq!(
            Lock::new(&store, "k")
                .try_lock_for(Duration::from_millis(5))
                .is_err(),
            is_long,
            "{time:?}"
        );
    }
    // All that was left there is still understood.
    place.open().list().unwrap();
}

/// Any of them that is there will do.
fn several_addresses() {
    let (gone, server) = (Server::start(), Server::start());
    gone.kill();
    let port = server.port();
    for hosts in [
        format!("127.0.0.1:{},127.0.0.1:{port}", gone.port()),
        format!("127.0.0.1:{port},127.0.0.1:{}", gone.port()),
        format!("no.such.host.invalid:{port},localhost:{port}"),
    ] {
        let place = Place::at(&format!("redis://{hosts}"));
        Lock::new(&place.open(), "k")
            .lock()
            .unwrap()
            .release()
            .unwrap();
    }
}

/// The others are tried all the same, also when it was the one before.
fn an_address_that_is_silent() {
    let server = Server::start();
    let proxy = Proxy::to(&server);
    proxy.stall();
    let hosts = format!("{},{}", proxy.address(), server.address());
    let place = Place::at(&format!("redis://{hosts}"));
    place.open();
    proxy.heal();
    let store = place.open();
    proxy.stall();
    drop(Lock::new(&store, "k").try_lock().unwrap());
    // It isn't asked again first.
    let began = Instant::now();
    let opened = proxy.opened();
    drop(Lock::new(&store, "k").try_lock().unwrap());
    assert!(began.elapsed() < Duration::from_millis(300));
    assert_eq!(proxy.opened(), opened);
    proxy.heal();
}

fn the_third_version_of_the_protocol() {
    let place = Place::new();
    let place = place.by(&format!("{}/?protocol=resp3", place.url));
    let (one, other) = (place.open(), place.open());
    let guard = Lock::new(&one, "k").lock().unwrap();
    guard.extend(Duration::from_secs(5)).unwrap();
    let lock = Lock::new(&other, "k");
    let waiter = crate::task(move || lock.lock());
    crate::place::until_wait(&one, "k", 1);
    let released = Instant::now();
    guard.release().unwrap();
    let guard = waiter.answer().unwrap();
    assert!(
        released.elapsed() < Duration::from_millis(700),
        "nobody was told"
    );
    one.force_unlock("k", guard.fencing_token()).unwrap();
    assert!(guard.lost().wait_for(Duration::from_secs(5)).unwrap());
}

fn a_server_that_is_not_there() {
    let server = Server::start();
    server.kill();
    let place = Place::on(&server);
    let error = error(place.try_open());
    assert!(matches!(error, CoordError::Store { .. }), "{error:?}");
    assert!(error.to_string().contains(&server.address()), "{error}");
    server.restart();
    Lock::new(&place.open(), "k")
        .lock()
        .unwrap()
        .release()
        .unwrap();
}

fn a_server_that_does_not_answer() {
    let server = Server::start();
    let proxy = Proxy::to(&server);
    proxy.stall();
    let place = Place::at(&proxy.url());
    let began = Instant::now();
    error(place.try_open());
    assert!(began.elapsed() < Duration::from_secs(5));
    proxy.heal();
    place.open();
}
