//! `hapax lock`: waits for a lock, runs a command, and gives the lock back.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, IsTerminal};
use std::mem;
use std::time::Instant;

use hapax::coord::{CoordError, Lease, Owner};

use crate::args::LockArgs;
use crate::child::Child;
use crate::exit::{Exit, Failure, LOST, STORE, say};
use crate::lease::Deadlines;
use crate::secret;
use crate::signals::Signals;
use crate::store::{self, Grant, Store, Url};
use crate::watch::Watch;

/// The variable by which a process takes part in the name of the one that has started it.
const OWNER: &str = "HAPAX_OWNER";
/// How much of a command the store shows, in characters.
const SHOWN: usize = 1000;

pub(crate) fn run(args: &LockArgs) -> Result<Exit, Failure> {
    let url = Url::of(&args.store)?;
    let lease = url.lease(args.ttl);
    let deadlines = Deadlines::of(lease, args.kill_after)?;
    let owner = owner()?;
    let argv = args.argv();
    if argv.is_empty() {
        return Err(Failure::usage("no command"));
    }
    let failure = |error: CoordError| Failure::of(&error, args.conflict_exit_code);
    let no_signals = |error| Failure::new(STORE, format_args!("can't catch signals: {error}"));

    let store = url.open(lease, "hapax lock", &shown(&argv))?;
    let left = store.clone();
    let leave = move || {
        // If this fails, others find out that hapax is gone.
        let _ = left.close();
    };
    let signals = Signals::catch(leave).map_err(no_signals)?;

    let key = args.key.escape_debug();
    note(args, format_args!("waiting for `{key}`"));
    let began = Instant::now();
    let grant = acquire(&store, args, &owner).map_err(|error| {
        signals.check();
        note(args, &error);
        failure(error)
    })?;
    let (token, time) = (grant.fencing_token(), began.elapsed());
    note(
        args,
        format_args!("got `{key}` by token {token} after {time:.3?}"),
    );

    let shares_terminal = io::stdin().is_terminal();
    let signals = signals.begin(!shares_terminal).map_err(no_signals)?;
    // Inherited by whoever is started until it is dropped, and so by the child alone.
    let inherited = if args.close {
        Vec::new()
    } else {
        store.inheritable().map_err(failure)?
    };
    if let Some(signal) = signals.ending() {
        return Ok(Exit::Signal(signal));
    }
    let (token, owner) = (token.to_string(), owner.to_string());
    let variables = [
        ("HAPAX_KEY", OsStr::new(&args.key)),
        ("HAPAX_FENCING_TOKEN", OsStr::new(&token)),
        (store::VARIABLE, url.text()),
        (OWNER, OsStr::new(&owner)),
    ];
    let child = Child::spawn(&argv, &variables, !shares_terminal, !store.survives_hapax());
    drop(inherited);
    let child = child.map_err(|error| Failure::cant_execute(argv.first(), error))?;

    let watch = Watch {
        child: &child,
        grant: &grant,
        deadlines,
        signals: &signals,
        shares_terminal,
        is_verbose: args.verbose,
    };
    let was_lost = watch.run();
    let ended = child.reap();
    if was_lost {
        if grant.is_valid() {
            // What can't be renewed can't be given back either. Others see that hapax has ended, or that the lease has.
            mem::forget((grant, store));
        }
        return Ok(Exit::Status(LOST));
    }
    match grant.release() {
        Ok(()) => {}
        // Nobody had noticed, but it was lost before the command ended.
        Err(error @ (CoordError::Lost { .. } | CoordError::StoreReplaced { .. })) => {
            return Err(Failure::new(LOST, error));
        }
        Err(error) => {
            say(format_args!("warning: {error}"));
            // To close the store would be to wait for it once more.
            mem::forget(store);
        }
    }
    Ok(ended)
}

/// In whose name the lock is held: its own, which is a child of that of an outer `hapax lock`, since that waits for this one.
fn owner() -> Result<Owner, Failure> {
    let Some(text) = env::var_os(OWNER) else {
        return Ok(Owner::new());
    };
    let outer = text.to_string_lossy().parse::<Owner>();
    outer
        .map(|outer| outer.child())
        .map_err(|error| Failure::usage(format_args!("{OWNER} isn't valid: {error}")))
}

fn acquire(store: &Store, args: &LockArgs, owner: &Owner) -> Result<Grant, CoordError> {
    let lease = args.ttl.map_or(Lease::Session, Lease::Renewed);
    // To wait for no time is not to wait.
    let wait = if args.nonblock {
        Some(std::time::Duration::ZERO)
    } else {
        args.wait
    };
    if let Some(permits) = args.permits {
        let mut semaphore = store
            .semaphore(&args.key, permits)
            .lease(lease)
            .owned_by(owner);
        if let Some(tag) = &args.tag {
            semaphore = semaphore.tag(tag);
        }
        let permit = match wait {
            Some(time) => semaphore.try_acquire_for(time),
            None => semaphore.acquire(),
        };
        return permit.map(Grant::Permit);
    }
    let mut lock = store.lock(&args.key).lease(lease).owned_by(owner);
    if args.shared {
        lock = lock.shared();
    }
    if let Some(tag) = &args.tag {
        lock = lock.tag(tag);
    }
    let guard = match wait {
        Some(time) => lock.try_lock_for(time),
        None => lock.lock(),
    };
    guard.map(Grant::Lock)
}

/// A command as one would type it, or nearly so: for people.
fn shown(argv: &[OsString]) -> String {
    let words = argv.iter().map(|word| {
        let word = word.to_string_lossy();
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./=:,+@%".contains(&byte);
        if !word.is_empty() && word.bytes().all(is_plain) {
            word.into_owned()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    });
    let text: Vec<_> = words.collect();
    secret::hide(&text.join(" ")).chars().take(SHOWN).collect()
}

fn note(args: &LockArgs, message: impl fmt::Display) {
    if args.verbose {
        say(message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_one_would_type_it() {
        let shown = |words: &[&str]| shown(&words.iter().map(OsString::from).collect::<Vec<_>>());
        assert_eq!(shown(&["ls", "-l", "/tmp"]), "ls -l /tmp");
        assert_eq!(shown(&["echo", "it's", ""]), r"echo 'it'\''s' ''");
        assert_eq!(shown(&[&"x".repeat(2000)]).len(), SHOWN);
        let nested = ["hapax", "ps", "--store", "redis://:secret@host"];
        assert_eq!(shown(&nested), "hapax ps --store redis://:***@host");
    }
}
