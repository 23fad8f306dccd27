//! What `hapax` promises, with real processes.
//!
//! - `usage`: what is refused, what statuses mean, and the pages.
//! - `modes`: locks, shared locks, permits, and the store they lie in.
//! - `waiting`: how it is waited, and how a wait ends.
//! - `inheritance`: what the command gets from whoever has started hapax, and from hapax.
//! - `signals`, `terminal`: who gets which signal, without a terminal and with one.
//! - `lease`: the command has ended before somebody else gets the lock.
//! - `end`: what becomes of the lock when the command or hapax ends.
//! - `deadlock`: waits for each other.
//! - `others`: `hapax ps` and `hapax force-unlock`.
//! - `redis`: what is different where the store is a server.
//!
//! Most tests run twice: on a file, and on a Redis server.
//!
//! Nothing here relies on a fixed time to be enough: what is to happen is waited for, with a limit that only a failure
//! reaches. Commands that are to run until they are ended do so for forty seconds at most, so that none is left behind.

mod common;
mod deadlock;
mod end;
mod inheritance;
mod lease;
mod modes;
mod others;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "redis")]
#[path = "../../../tests/redis_server/mod.rs"]
mod redis_server;
mod signals;
mod terminal;
mod usage;
mod waiting;

use common::Place;
use libtest_mimic::{Arguments, Trial};

/// How many tests run at a time if nothing else is said. Most of them sleep most of the time.
const AT_A_TIME: usize = 6;

fn main() {
    listen_to_signals();
    let mut arguments = Arguments::from_args();
    arguments.test_threads = arguments.test_threads.or(Some(AT_A_TIME));
    let modules = [
        usage::trials(),
        modes::trials(),
        waiting::trials(),
        inheritance::trials(),
        signals::trials(),
        terminal::trials(),
        lease::trials(),
        end::trials(),
        deadlock::trials(),
        others::trials(),
        #[cfg(feature = "redis")]
        redis::trials(),
    ];
    let trials = modules.into_iter().flatten().collect();
    libtest_mimic::run(&arguments, trials).exit();
}

/// What is started here inherits what signals do, and under `nohup` some do nothing, which is not what most tests are about.
#[allow(unsafe_code, reason = "no safe interface sets what a signal does")]
fn listen_to_signals() {
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT] {
        // SAFETY: that is what signals do at first; no handler is set.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// A test that fails by a panic, at a place of that kind.
fn trial(kind: &str, name: &str, place: fn() -> Place, test: fn(Place)) -> Trial {
    Trial::test(format!("{name} ({kind})"), move || {
        test(place());
        Ok(())
    })
}

/// Trials of the functions of these names: of `all` one for each kind of store.
macro_rules! trials {
    ($(all: $($all:ident),*;)? $(sqlite: $($sqlite:ident),*;)? $(redis: $($redis:ident),*;)?) => {
        pub(crate) fn trials() -> Vec<libtest_mimic::Trial> {
            use crate::{common::Place, trial};
            vec![
                $($(
                    trial("sqlite", stringify!($all), Place::with_file, $all),
                    #[cfg(feature = "redis")]
                    trial("redis", stringify!($all), Place::with_server, $all),
                )*)?
                $($(trial("sqlite", stringify!($sqlite), Place::with_file, $sqlite),)*)?
                $($(trial("redis", stringify!($redis), Place::with_server, $redis),)*)?
            ]
        }
    };
}

use trials;
