//! `hapax`: runs commands under locks and semaphores that processes share, and shows who holds them.
//!
//! - `args`: what can be said on the command line.
//! - `store`: which store is meant, and what all kinds of them have in common; `redis_url`: what a URL of a server says.
//! - `lock`: the command `hapax lock`, from the wait to the exit status. It is made of `signals` (who gets which, and what a
//!   signal means before there is a child), `child` (how one is started, signalled and reaped), `orphan` (what one learns of
//!   the death of hapax), `lease` (when it has to be gone), and `watch`, which brings these together while the child runs.
//! - `ps`, `force_unlock`, `pages`: the other commands.
//! - `start`, `exit`: what hapax was started with, and how it ends. `secret`: what it doesn't say.

#[cfg(not(unix))]
compile_error!("hapax needs process groups and signals: it is for Unix only");

mod args;
mod child;
mod exit;
mod force_unlock;
mod lease;
mod lock;
#[cfg(all(target_os = "linux", feature = "redis"))]
mod orphan;
mod pages;
mod ps;
#[cfg(feature = "redis")]
mod redis_url;
mod secret;
mod signals;
mod start;
mod store;
mod watch;

use args::{Args, Command};
use exit::Exit;

fn main() {
    #[cfg(all(target_os = "linux", feature = "redis"))]
    if let Some(exit) = orphan::run() {
        exit.leave();
    }
    run().leave()
}

/// Everything that was held is given back when this returns, so that nothing is left to do but to exit.
fn run() -> Exit {
    let args = match Args::read() {
        Ok(args) => args,
        Err(exit) => return exit,
    };
    let done = match args.command {
        Command::Lock(args) => lock::run(&args),
        Command::Ps(args) => ps::run(&args),
        Command::ForceUnlock(args) => force_unlock::run(&args),
        Command::Completions { shell } => pages::completions(shell),
        Command::Man { directory } => pages::man(directory.as_deref()),
    };
    done.unwrap_or_else(exit::Failure::report)
}
