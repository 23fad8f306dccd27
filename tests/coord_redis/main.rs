//! What only servers of Redis can do to locks.

#[path = "../redis_server/mod.rs"]
mod redis_server;

mod servers;

use libtest_mimic::{Arguments, Trial};

fn main() {
    if std::env::args().nth(1).as_deref() == Some(servers::ROLE) {
        return servers::run();
    }
    let mut trials = Vec::new();
    trials.extend(servers::trials());
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
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
