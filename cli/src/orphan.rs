//! A command that is told when hapax is killed.
//!
//! Where nothing keeps the lock for the command, that gets SIGTERM when hapax dies: Linux sends it to a process that has asked
//! for it, and the wish outlasts `execve`. But the process has to ask by itself, and `posix_spawn` can't make it. So hapax
//! starts itself once more, which asks and then becomes the command. All that a command inherits goes through it.
//!
//! Linux means the *thread* that has made the process when it says parent. That is the main thread of hapax, which is the
//! last one to end.
//!
//! It reaches the command and not what that has started; and a program that changes its user, as `sudo` does, loses the wish.

use std::env;
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use libc::SIGPIPE;
use nix::errno::Errno;
use nix::unistd::execv;
use rustix::process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal};

use crate::exit::{Exit, Failure};
use crate::start;

/// The program that runs.
pub(crate) const SELF: &str = "/proc/self/exe";
/// Stands before the number of the parent and the command.
const SIGN: &str = "--become";

/// What [`SELF`] is to be started with to become that command.
pub(crate) fn argv(command: &[OsString]) -> Vec<OsString> {
    let parent = getpid().as_raw_pid().to_string();
    let before = ["hapax", SIGN, &parent].map(OsString::from);
    before.into_iter().chain(command.iter().cloned()).collect()
}

/// Becomes the command if this process was started for that. Otherwise, or if that fails, it comes back.
pub(crate) fn run() -> Option<Exit> {
    let mut args = env::args_os().skip(1);
    if args.next()? != SIGN {
        return None;
    }
    let parent = args
        .next()?
        .to_str()?
        .parse()
        .ok()
        .and_then(Pid::from_raw)?;
    let argv: Vec<_> = args.collect();
    let asked = set_parent_process_death_signal(Some(Signal::TERM));
    if asked.is_ok() && getppid() != Some(parent) {
        // It has died before it was asked to tell.
        return Some(Exit::Signal(Signal::TERM.as_raw()));
    }
    if !start::was_ignored(SIGPIPE) {
        // Ignored by every program in Rust. What has a handler does what it does by default after `execve`.
        let _ = signal_hook::flag::register(SIGPIPE, std::sync::Arc::default());
    }
    let error = execute(&argv);
    Some(Failure::cant_execute(argv.first(), error).report())
}

/// Searches as `posix_spawnp` does. It doesn't return but for an error.
fn execute(argv: &[OsString]) -> Errno {
    let Some(program) = argv.first().filter(|program| !program.is_empty()) else {
        return Errno::ENOENT;
    };
    let words: Vec<_> = argv.iter().map(|word| c_string(word.as_bytes())).collect();
    let start = |path: &OsStr| match execv(&c_string(path.as_bytes()), &words) {
        Err(error) => error,
    };
    if program.as_bytes().contains(&b'/') {
        return start(program);
    }
    let path = env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
    let mut found = Errno::ENOENT;
    for directory in env::split_paths(&path) {
        // Empty, it is this one.
        let directory = if directory.as_os_str().is_empty() {
            Path::new(".")
        } else {
            &directory
        };
        match start(directory.join(program).as_os_str()) {
            Errno::EACCES => found = Errno::EACCES,
            Errno::ENOENT | Errno::ENOTDIR | Errno::ENODEV | Errno::ESTALE | Errno::ETIMEDOUT => {}
            error => return error,
        }
    }
    found
}

/// What comes from a command line has no zeros.
fn c_string(text: &[u8]) -> CString {
    CString::new(text).unwrap_or_default()
}
