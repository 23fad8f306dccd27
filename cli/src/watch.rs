//! Watches over the child, the lease and the signals, until the child has ended.

use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender};
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use libc::{SIGCONT, SIGTSTP, c_int};
use rustix::process::Signal;

use crate::child::Child;
use crate::exit::say;
use crate::lease::{Deadlines, Standing, Step};
use crate::signals::{self, Received, Running};
use crate::store::Grant;

/// How often a group is looked at that ought to end.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Something that happens while the child runs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    Signal(Received),
    /// The child was stopped, by that signal.
    Stopped(c_int),
    Continued,
    /// The child has ended. It isn't reaped yet.
    Ended,
    /// The grant is lost.
    Lost,
}

/// Rings when the grant is lost.
struct Bell(Sender<Event>);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        // Nobody listens any more when the child has ended.
        let _ = self.0.send(Event::Lost);
    }
}

/// What is watched.
pub(crate) struct Watch<'a> {
    pub(crate) child: &'a Child,
    pub(crate) grant: &'a Grant,
    pub(crate) deadlines: Deadlines,
    pub(crate) signals: &'a Running,
    /// The child is in the process group of hapax, and gets what the terminal sends by itself.
    pub(crate) shares_terminal: bool,
    pub(crate) is_verbose: bool,
}

impl Watch<'_> {
    /// Returns when the child has ended. True if it was ended for the sake of the lease, or the lease was lost meanwhile.
    pub(crate) fn run(mut self) -> bool {
        let mut missed = self.signals.early();
        self.child.report_to(self.signals.sender.clone());
        let waker = Waker::from(Arc::new(Bell(self.signals.sender.clone())));
        let mut lost = pin!(self.grant.lost().wait_async());
        // If it is ready, a look at the grant says so as well.
        let _ = lost.as_mut().poll(&mut Context::from_waker(&waker));

        let mut is_stopped = false;
        loop {
            let time = self.look_after_lease();
            let event = match time {
                Some(time) => self.signals.events.recv_timeout(time),
                None => self.signals.events.recv().map_err(RecvTimeoutError::from),
            };
            // Whatever happens: hapax may have been stopped, and before it lets the child go on it has to know whether it may.
            let _ = self.look_after_lease();
            match event {
                Ok(Event::Signal(received)) => {
                    let was_missed = missed.contains(&received.number);
                    missed.retain(|&number| number != received.number);
                    self.pass_on(received, was_missed, is_stopped);
                }
                Ok(Event::Stopped(signal)) => {
                    is_stopped = true;
                    self.note(format_args!("the command was stopped by signal {signal}"));
                }
                Ok(Event::Continued) => {
                    is_stopped = false;
                    self.note("the command was continued");
                }
                Ok(Event::Lost) | Err(RecvTimeoutError::Timeout) => {}
                Ok(Event::Ended) | Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.end_group();
        self.deadlines.kill_at().is_some() || !self.grant.is_valid()
    }

    /// Does what is due. Answers when the next look is, if there has to be one.
    fn look_after_lease(&mut self) -> Option<Duration> {
        loop {
            let standing = if !self.grant.is_valid() {
                Standing::Lost
            } else if let Some(remaining) = self.grant.remaining() {
                Standing::HeldFor(remaining)
            } else {
                Standing::Held
            };
            match self.deadlines.step(Instant::now(), standing) {
                Step::Wait(time) => return time,
                Step::Terminate => {
                    say(match standing {
                        Standing::Lost => "the lock was lost, so the command is ended",
                        _ => "the lease of the lock can't be renewed, so the command is ended",
                    });
                    self.signal(Signal::TERM);
                    // Who is stopped can't clean up.
                    self.signal(Signal::CONT);
                }
                Step::Kill => self.signal(Signal::KILL),
            }
        }
    }

    fn pass_on(&self, received: Received, was_missed: bool, is_stopped: bool) {
        let Received {
            number,
            is_from_terminal,
        } = received;
        if self.shares_terminal {
            // A shell continues all of a group as well, and then the child isn't stopped any more.
            let has_it = if number == SIGCONT {
                !is_stopped
            } else {
                is_from_terminal && !was_missed
            };
            if has_it {
                return;
            }
        }
        if number == SIGTSTP && !self.signals.is_to_stop() {
            return;
        }
        if let Some(signal) = Signal::from_named_raw(number) {
            self.signal(signal);
        }
        // It may have been continued meanwhile, and nobody does that twice.
        if number == SIGTSTP && self.signals.is_to_stop() {
            // Continued by SIGCONT, which is passed on as well.
            signals::stop();
        }
    }

    /// Lets the rest of the group have the time that the child was given, if that was ended.
    fn end_group(&self) {
        let Some(kill_at) = self.deadlines.kill_at() else {
            return;
        };
        while self.child.has_group() {
            let now = Instant::now();
            if kill_at <= now {
                self.signal(Signal::KILL);
                return;
            }
            thread::sleep(LOOK_EVERY.min(kill_at - now));
        }
    }

    fn signal(&self, signal: Signal) {
        if let Err(error) = self.child.signal(signal) {
            let number = signal.as_raw();
            say(format_args!(
                "can't send signal {number} to the command: {error}"
            ));
        }
    }

    fn note(&self, message: impl std::fmt::Display) {
        if self.is_verbose {
            say(message);
        }
    }
}
