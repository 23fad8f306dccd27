//! Which signals hapax catches, and what they mean before there is a child.
//!
//! A thread receives them, and there are three stages:
//!
//! 1. *Waiting* for the lock, a signal that ends hapax makes it leave the queue first. Then hapax ends by that signal, which
//!    is how a shell learns that Ctrl-C has ended it. A second one doesn't wait for that.
//! 2. *Running*, all go to whoever watches over the child, who passes them on.
//! 3. *Leaving* never ends but with the process.
//!
//! Signals that were ignored when hapax was started aren't caught, and so they are ignored by the child as well.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use libc::{
    SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2, SIGWINCH, c_int,
};
use rustix::process::{Signal, getpid, kill_process};
use signal_hook::iterator::Handle;
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::origin::WithOrigin;
use signal_hook::low_level::siginfo::Cause;

use crate::exit::Exit;
use crate::start;
use crate::watch::Event;

/// Those that end the wait.
const FIRST: [c_int; 3] = [SIGINT, SIGTERM, SIGHUP];
/// Those that are for the child only, and do what they do by default as long as there is none.
const LATER: [c_int; 5] = [SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH, SIGCONT];
/// Those of both that end what doesn't catch them.
const ENDING: [c_int; 6] = [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2];
/// Those that a terminal sends to all of a group, and that nobody should miss.
const FROM_TERMINALS: [c_int; 3] = [SIGINT, SIGQUIT, SIGHUP];

/// A signal that was received.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received {
    pub(crate) number: c_int,
    /// The kernel has sent it, as it does for a terminal, and so to all of the process group.
    pub(crate) is_from_terminal: bool,
}

impl Received {
    pub(crate) fn ends(self) -> bool {
        ENDING.contains(&self.number)
    }
}

/// Catches signals.
pub(crate) struct Signals {
    handle: Handle,
    stage: Arc<Mutex<Stage>>,
}

enum Stage {
    /// With what is to be done before a signal ends hapax.
    Waiting(Option<Box<dyn FnOnce() + Send>>),
    Running(Sender<Event>),
    Leaving,
}

impl Signals {
    /// From now on a signal that ends hapax calls `leave` before.
    pub(crate) fn catch(leave: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let first = FIRST.into_iter().filter(|&signal| is_wanted(signal));
        let mut signals = SignalsInfo::<WithOrigin>::new(first)?;
        if start::was_ignored(SIGCHLD) {
            // Otherwise nobody would learn how the child has ended.
            signal_hook::flag::register(SIGCHLD, Arc::default())?;
        }
        let stage = Arc::new(Mutex::new(Stage::Waiting(Some(Box::new(leave)))));
        let this = Self {
            handle: signals.handle(),
            stage: Arc::clone(&stage),
        };
        thread::spawn(move || {
            for origin in signals.forever() {
                receive(
                    &stage,
                    Received {
                        number: origin.signal,
                        is_from_terminal: matches!(origin.cause, Cause::Kernel),
                    },
                );
            }
        });
        Ok(this)
    }

    /// If a signal has ended the wait this doesn't return, but the process ends.
    pub(crate) fn check(&self) {
        if matches!(*lock(&self.stage), Stage::Leaving) {
            loop {
                thread::park();
            }
        }
    }

    /// The wait is over: from now on all signals go to whoever watches over the child.
    ///
    /// Where the child shares the terminal with hapax, Ctrl-Z stops both, and hapax needs no handler for that.
    pub(crate) fn begin(self, is_alone_with_terminal: bool) -> io::Result<Running> {
        let stop = is_alone_with_terminal.then_some(SIGTSTP);
        let more = LATER.into_iter().chain(stop);
        for signal in more.filter(|&signal| is_wanted(signal)) {
            self.handle.add_signal(signal)?;
        }
        let mut early = Vec::new();
        for signal in FROM_TERMINALS
            .into_iter()
            .filter(|&signal| is_wanted(signal))
        {
            let is_received = Arc::new(AtomicBool::new(false));
            signal_hook::flag::register(signal, Arc::clone(&is_received))?;
            early.push((signal, is_received));
        }
        let (sender, events) = channel();
        let mut stage = lock(&self.stage);
        if let Stage::Waiting(_) = *stage {
            *stage = Stage::Running(sender.clone());
        }
        drop(stage);
        self.check();
        Ok(Running {
            sender,
            events,
            early,
        })
    }
}

/// Signals while there is a child, or nearly so.
pub(crate) struct Running {
    /// For other events.
    pub(crate) sender: Sender<Event>,
    pub(crate) events: Receiver<Event>,
    /// Set in the handler, and so without any delay.
    early: Vec<(c_int, Arc<AtomicBool>)>,
}

impl Running {
    /// A signal that came before there was a child, and ends hapax.
    pub(crate) fn ending(&self) -> Option<c_int> {
        let signals = self.events.try_iter().filter_map(|event| match event {
            Event::Signal(received) if received.ends() => Some(received.number),
            _ => None,
        });
        signals.last()
    }

    /// Those that came before this moment and weren't noticed by then. Called right after the child was started: what a
    /// terminal has sent before there was a child hasn't reached it.
    pub(crate) fn early(&self) -> Vec<c_int> {
        let early = self.early.iter();
        // Relaxed: nothing but the flag is read.
        let early = early.filter(|(_, is_received)| is_received.load(Ordering::Relaxed));
        early.map(|&(signal, _)| signal).collect()
    }
}

/// Whether that signal does something at all.
fn is_wanted(signal: c_int) -> bool {
    !start::was_ignored(signal)
}

fn receive(stage: &Mutex<Stage>, received: Received) {
    let mut stage = lock(stage);
    match &mut *stage {
        Stage::Running(sender) => {
            // Nobody listens any more when the child has ended.
            let _ = sender.send(Event::Signal(received));
        }
        Stage::Leaving => Exit::Signal(received.number).leave(),
        Stage::Waiting(_) if received.number == SIGTSTP => stop(),
        Stage::Waiting(_) if !received.ends() => {}
        Stage::Waiting(leave) => {
            let leave = leave.take();
            *stage = Stage::Leaving;
            drop(stage);
            // Not by this thread, which has to receive a second one.
            thread::spawn(move || {
                if let Some(leave) = leave {
                    leave();
                }
                Exit::Signal(received.number).leave()
            });
        }
    }
}

/// Stops this process until it is continued.
pub(crate) fn stop() {
    // A process can always be stopped by itself.
    let _ = kill_process(getpid(), Signal::STOP);
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
