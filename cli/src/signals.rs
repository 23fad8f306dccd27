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
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
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
    flags: Flags,
    /// Whether SIGTSTP came after SIGCONT. Those who are received together have lost their order.
    is_to_stop: Arc<AtomicUsize>,
}

/// For each signal that ends what doesn't catch it, whether it was received. They are set in the handler: the thread that
/// receives signals may come to it later than a child is made.
#[derive(Default)]
struct Flags(Vec<(c_int, Arc<AtomicBool>)>);

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
        let mut flags = Flags::default();
        // Before the thread hears of it, so that nothing is received of which there is no flag.
        first.clone().try_for_each(|signal| flags.add(signal))?;
        let mut signals = SignalsInfo::<WithOrigin>::new(first)?;
        if start::was_ignored(SIGCHLD) {
            // Otherwise nobody would learn how the child has ended.
            signal_hook::flag::register(SIGCHLD, Arc::default())?;
        }
        let stage = Arc::new(Mutex::new(Stage::Waiting(Some(Box::new(leave)))));
        let this = Self {
            handle: signals.handle(),
            stage: Arc::clone(&stage),
            flags,
            is_to_stop: Arc::default(),
        };
        thread::Builder::new().spawn(move || {
            for origin in signals.forever() {
                receive(
                    &stage,
                    Received {
                        number: origin.signal,
                        is_from_terminal: matches!(origin.cause, Cause::Kernel),
                    },
                );
            }
        })?;
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
    pub(crate) fn begin(mut self, is_alone_with_terminal: bool) -> io::Result<Running> {
        let stop = is_alone_with_terminal.then_some(SIGTSTP);
        let more = LATER.into_iter().chain(stop);
        for signal in more.filter(|&signal| is_wanted(signal)) {
            if ENDING.contains(&signal) {
                self.flags.add(signal)?;
            }
            if let SIGTSTP | SIGCONT = signal {
                let is_stop = usize::from(signal == SIGTSTP);
                let is_to_stop = Arc::clone(&self.is_to_stop);
                signal_hook::flag::register_usize(signal, is_to_stop, is_stop)?;
            }
            self.handle.add_signal(signal)?;
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
            flags: self.flags,
            is_to_stop: self.is_to_stop,
        })
    }
}

/// Signals while there is a child, or nearly so.
pub(crate) struct Running {
    /// For other events.
    pub(crate) sender: Sender<Event>,
    pub(crate) events: Receiver<Event>,
    flags: Flags,
    is_to_stop: Arc<AtomicUsize>,
}

impl Running {
    /// Whether hapax has to stop for a SIGTSTP that was received: it wasn't continued since.
    pub(crate) fn is_to_stop(&self) -> bool {
        // Relaxed: nothing but the flag is read.
        self.is_to_stop.load(Ordering::Relaxed) != 0
    }

    /// A signal that ends hapax, and was received by now. Called before there is a child.
    pub(crate) fn ending(&self) -> Option<c_int> {
        self.flags.received().next()
    }

    /// Those that were received by now, although there were none before there was a child. Called right after that: what a
    /// terminal has sent meanwhile may not have reached it.
    pub(crate) fn early(&self) -> Vec<c_int> {
        self.flags.received().collect()
    }
}

impl Flags {
    fn add(&mut self, signal: c_int) -> io::Result<()> {
        let is_received = Arc::default();
        signal_hook::flag::register(signal, Arc::clone(&is_received))?;
        self.0.push((signal, is_received));
        Ok(())
    }

    fn received(&self) -> impl Iterator<Item = c_int> {
        // Relaxed: nothing but the flag is read.
        let flags = self.0.iter();
        let received = flags.filter(|(_, is_received)| is_received.load(Ordering::Relaxed));
        received.map(|&(signal, _)| signal)
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
