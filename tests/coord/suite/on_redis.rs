//! The suite on a Redis server. Each test has a namespace of its own; two stores are two sessions, whether or not they are
//! in one process.

use std::time::Duration;

use hapax::coord::RedisStore;

use super::{World, suite};
use crate::redis_server::{namespace, shared};

struct Redis(String);

impl World for Redis {
    type Session = RedisStore;

    const SESSION_LEASES_END: bool = true;

    fn new() -> Self {
        Self(namespace())
    }

    fn session(&self) -> RedisStore {
        // The server has just been started.
        let options = RedisStore::options()
            .namespace(&self.0)
            .grace(Duration::ZERO);
        options.open(&shared().url()).unwrap()
    }
}

suite!(crate::suite::on_redis::Redis);
