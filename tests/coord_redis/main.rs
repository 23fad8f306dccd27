//! Locks on Redis: what servers, networks and processes can do to them.
//!
//! What every store promises is in the suite of `tests/coord`. Here:
//!
//! - `servers`: that the servers of these tests do what the tests think they do;
//! - `open`: what can't be opened, and what is said about that;
//! - `keys`: keys and namespaces of all kinds, and what is left of them;
//! - `network`: replies and messages that get lost, connections that are cut, stalled and slow;
//! - `faults`: servers that are restarted, emptied, full, stopped, failed over, and whose scripts are forgotten;
//! - `grace`: servers that have forgotten something, in all ways, and what may be granted then;
//! - `cluster`: namespaces on several nodes, and slots that move;
//! - `clocks`: servers whose clocks are set;
//! - `processes`: holders and waiters that are killed, stopped and forked;
//! - `tls`: servers that speak TLS;
//! - `values`: averages and rate limits among faults;
//! - `storm`: many processes that are killed at random.
//!
//! The test program starts itself as an *agent* (`agent`), which does what it reads and says what came of it.

#[path = "../redis_server/mod.rs"]
mod redis_server;

mod agent;
mod clocks;
mod cluster;
mod faults;
mod grace;
mod keys;
mod network;
mod open;
mod place;
mod processes;
mod servers;
mod storm;
#[cfg(feature = "coord-redis-tls")]
mod tls;
mod values;

use std::sync::mpsc::{self, Receiver};
use std::thread::JoinHandle;
use std::time::Duration;

use libtest_mimic::{Arguments, Trial};

fn main() {
    let args: Vec<_> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [servers::ROLE] => return servers::run(),
        [agent::ROLE, place] => return agent::run(place),
        ["storm", kind, agent::ROLE, place] => return storm::run(place, kind),
        _ => {}
    }
    let mut trials = Vec::new();
    trials.extend(servers::trials());
    trials.extend(open::trials());
    trials.extend(keys::trials());
    trials.extend(network::trials());
    trials.extend(faults::trials());
    trials.extend(grace::trials());
    trials.extend(cluster::trials());
    trials.extend(clocks::trials());
    trials.extend(processes::trials());
    #[cfg(feature = "coord-redis-tls")]
    trials.extend(tls::trials());
    trials.extend(values::trials());
    trials.extend(storm::trials());
    let mut arguments = Arguments::from_args();
    // Most of the time they wait for a lease to end.
    arguments.test_threads.get_or_insert(8);
    libtest_mimic::run(&arguments, trials).exit();
}

/// A test that fails by a panic.
fn trial(name: &str, test: impl FnOnce() + Send + 'static) -> Trial {
    Trial::test(name, move || {
        test();
        Ok(())
    })
}

/// Trials of the functions of these names.
macro_rules! trials {
    ($($test:ident),* $(,)?) => {
        pub(crate) fn trials() -> Vec<libtest_mimic::Trial> {
            vec![$(crate::trial(stringify!($test), $test)),*]
        }
    };
}

use trials;

/// What a thread answers, which is waited for, but not forever.
struct Task<R>(Receiver<R>, JoinHandle<()>);

fn task<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> Task<R> {
    let (send, answer) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        // Nobody listens if the time is over.
        let _ = send.send(work());
    });
    Task(answer, thread)
}

impl<R> Task<R> {
    #[track_caller]
    fn answer(self) -> R {
        self.answer_within(Duration::from_secs(30))
    }

    #[track_caller]
    fn answer_within(self, time: Duration) -> R {
        let answer = self.0.recv_timeout(time);
        answer.unwrap_or_else(|error| panic!("no answer: {error}"))
    }

    /// Whether it has no answer yet.
    fn is_running(&self) -> bool {
        !self.1.is_finished()
    }
}
