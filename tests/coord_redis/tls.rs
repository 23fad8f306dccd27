//! Servers that speak TLS.

use std::time::{Duration, Instant};

use hapax::coord::{CoordError, Lock};

use crate::place::{Place, until_wait};
use crate::redis_server::Server;
use crate::task;

crate::trials! {
    a_server_with_certificates,
}

fn a_server_with_certificates() {
    let server = Server::options().tls().password("secret").start();
    let place = Place::on(&server);
    // Nobody has signed it whom the system knows.
    let error = place.try_open().expect_err("it isn't trusted");
    assert!(matches!(error, CoordError::Store { .. }), "{error:?}");
    let open = || {
        let authority = std::fs::read(&server.certificates().authority).unwrap();
        let options = place.options().root_certificate(&authority);
        options.open(&place.url).unwrap()
    };
    let (one, other) = (open(), open());
    let guard = Lock::new(&one, "k").lock().unwrap();
    let lock = Lock::new(&other, "k");
    let waiter = task(move || lock.lock().map(drop));
    until_wait(&one, "k", 1);
    guard.release().unwrap();
    waiter.answer().unwrap();
    // Without TLS that server isn't understood, and says so soon.
    let plain = place.by(&place.url.replace("rediss", "redis"));
    let began = Instant::now();
    assert!(plain.try_open().is_err());
    assert!(began.elapsed() < Duration::from_secs(5));
}
