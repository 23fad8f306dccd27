//! Locks between real processes: killed, stopped, forked, in containers, on files that are replaced or broken.
//!
//! The test program starts itself as an *agent* (`agent`), which does what it reads and says what came of it.

mod agent;
mod containers;
mod files;
mod processes;
mod storm;
mod values;

use libtest_mimic::{Arguments, Trial};

fn main() {
    let args: Vec<_> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [agent::ROLE, path] => return agent::run(path),
        ["storm", kind, agent::ROLE, path] => return storm::run(path, kind),
        _ => {}
    }
    let mut trials = Vec::new();
    trials.extend(processes::trials());
    trials.extend(files::trials());
    trials.extend(containers::trials());
    trials.extend(values::trials());
    trials.extend(storm::trials());
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
