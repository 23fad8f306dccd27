//! The child: how it is started, signalled, and reaped.
//!
//! It is started by `posix_spawn` and not by std, which would reset SIGPIPE and the mask of signals: a child has to find both
//! as hapax did. While it is made all signals are blocked, so that none of them runs a handler of hapax in the child.
//!
//! It isn't reaped before the last signal was sent, so that its number never means somebody else.

use std::env;
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::mpsc::Sender;
use std::thread;

use libc::SIGPIPE;
use nix::errno::Errno;
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawnp};
use nix::sys::signal::{SigSet, Signal as NixSignal};
use rustix::io;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid,
};

use crate::exit::Exit;
use crate::start;
use crate::watch::Event;

/// A child that isn't reaped yet.
#[derive(Debug)]
pub(crate) struct Child {
    pid: Pid,
    leads_group: bool,
}

impl Child {
    /// Starts it, with some variables beside those of hapax. If it is to end with hapax it learns of that on systems that can
    /// tell; then it is hapax itself for a moment, and what can't be executed ends with the status for that. Otherwise it is
    /// what was to be executed when this returns.
    pub(crate) fn spawn(
        argv: &[OsString],
        variables: &[(&str, &OsStr)],
        leads_group: bool,
        ends_with_hapax: bool,
    ) -> nix::Result<Self> {
        let told = ends_with_hapax.then(|| told_of_death(argv)).flatten();
        let (program, argv) = match &told {
            Some((program, argv)) => (*program, argv.as_slice()),
            None => (argv.first().ok_or(Errno::ENOENT)?.as_os_str(), argv),
        };
        let program = c_string(program.as_bytes());
        let argv: Vec<_> = argv.iter().map(|text| c_string(text.as_bytes())).collect();
        let kept =
            env::vars_os().filter(|(name, _)| variables.iter().all(|(other, _)| name != other));
        let kept = kept.map(|(name, value)| variable(&name, &value));
        let set = variables
            .iter()
            .map(|(name, value)| variable(name.as_ref(), value));
        let environment: Vec<_> = kept.chain(set).collect();

        let mut attributes = PosixSpawnAttr::init()?;
        let mut flags = PosixSpawnFlags::empty();
        if leads_group {
            flags |= PosixSpawnFlags::POSIX_SPAWN_SETPGROUP;
            // Zero: its own number.
            attributes.set_pgroup(nix::unistd::Pid::from_raw(0))?;
        }
        if !start::was_ignored(SIGPIPE) {
            // Ignored by hapax, as by every program in Rust. What has a handler is reset anyway.
            flags |= PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF;
            attributes.set_sigdefault(&SigSet::from(NixSignal::SIGPIPE))?;
        }
        attributes.set_flags(flags)?;
        let actions = PosixSpawnFileActions::init()?;
        let pid = posix_spawnp(&program, &actions, &attributes, &argv, &environment)?;
        Ok(Self {
            pid: Pid::from_raw(pid.as_raw()).ok_or(Errno::ESRCH)?,
            leads_group,
        })
    }

    /// Sends it a signal, and to all of its group if it leads one.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        let sent = if self.leads_group {
            kill_process_group(self.pid, signal)
        } else {
            kill_process(self.pid, signal)
        };
        match sent {
            // On some systems a process that has ended isn't there, even if it isn't reaped.
            Err(io::Errno::SRCH) => Ok(()),
            sent => sent,
        }
    }

    /// Lets a thread report what becomes of it, until it has ended.
    pub(crate) fn report_to(&self, events: Sender<Event>) {
        let pid = self.pid;
        thread::spawn(move || {
            // SIGCHLD isn't asked: it may be blocked, and comes once for many.
            while let Some(event) = next_event(pid) {
                if events.send(event).is_err() {
                    return;
                }
            }
            let _ = events.send(Event::Ended);
        });
    }

    /// Whether its group has members beside it. Where that can't be known, yes.
    pub(crate) fn has_group(&self) -> bool {
        self.leads_group && others_in_group(self.pid)
    }

    /// Waits until it has ended, and answers how.
    pub(crate) fn reap(self) -> Exit {
        loop {
            match waitid(WaitId::Pid(self.pid), WaitIdOptions::EXITED) {
                Ok(Some(status)) => {
                    return match (status.exit_status(), status.terminating_signal()) {
                        // It has eight bits, of which the type knows nothing.
                        (Some(status), _) => Exit::Status(status as u8),
                        (None, signal) => Exit::ended_by(signal.unwrap_or_default()),
                    };
                }
                Ok(None) | Err(io::Errno::INTR) => {}
                // Somebody else has reaped it: a library that was preloaded, perhaps.
                Err(_) => return Exit::Status(1),
            }
        }
    }
}

/// The program that becomes the command, and hears of the death of hapax, with its arguments.
#[cfg(all(target_os = "linux", feature = "redis"))]
fn told_of_death(argv: &[OsString]) -> Option<(&'static OsStr, Vec<OsString>)> {
    use crate::orphan;

    // Without /proc it isn't there.
    let program = OsStr::new(orphan::SELF);
    std::fs::exists(program)
        .unwrap_or(false)
        .then(|| (program, orphan::argv(argv)))
}

#[cfg(not(all(target_os = "linux", feature = "redis")))]
fn told_of_death(_: &[OsString]) -> Option<(&'static OsStr, Vec<OsString>)> {
    None
}

/// Waits until it is stopped or continued. None when it has ended.
fn next_event(pid: Pid) -> Option<Event> {
    let changes = WaitIdOptions::STOPPED | WaitIdOptions::CONTINUED;
    loop {
        let all = changes | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let event = match waitid(WaitId::Pid(pid), all) {
            Ok(Some(status)) if status.stopped() => {
                Event::Stopped(status.stopping_signal().unwrap_or_default())
            }
            Ok(Some(status)) if status.continued() => Event::Continued,
            Ok(None) | Err(io::Errno::INTR) => continue,
            Ok(Some(_)) | Err(_) => return None,
        };
        // It would be reported again and again.
        let _ = waitid(WaitId::Pid(pid), changes | WaitIdOptions::NOHANG);
        return Some(event);
    }
}

#[cfg(target_os = "linux")]
fn others_in_group(group: Pid) -> bool {
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return true;
    };
    let group = group.as_raw_pid().to_string();
    processes.flatten().any(|process| {
        // One that has ended meanwhile has no file.
        let stat = std::fs::read_to_string(process.path().join("stat")).unwrap_or_default();
        // The name is in brackets, and may have some itself. State, parent and group come after it.
        let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let mut fields = rest.split_ascii_whitespace();
        let is_alive = !matches!(fields.next(), None | Some("Z" | "X"));
        is_alive && fields.nth(1) == Some(&group) && process.file_name() != *group
    })
}

#[cfg(not(target_os = "linux"))]
fn others_in_group(_: Pid) -> bool {
    true
}

fn variable(name: &OsStr, value: &OsStr) -> CString {
    let mut text = name.to_owned();
    text.push("=");
    text.push(value);
    c_string(&text.into_vec())
}

/// What comes from the command line and the environment has no zeros.
fn c_string(text: &[u8]) -> CString {
    let text: Vec<_> = text.iter().copied().take_while(|&byte| byte != 0).collect();
    CString::new(text).unwrap_or_default()
}
