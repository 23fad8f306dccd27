//! Panics of user code that must not stop what comes after it.

use std::any::Any;
use std::mem;
use std::panic::{self, AssertUnwindSafe};
use std::task::Waker;
use std::thread;

/// The first of several panics. The others are reported by the panic hook and dropped.
#[derive(Default)]
pub(crate) struct FirstPanic(Option<Box<dyn Any + Send>>);

impl FirstPanic {
    pub(crate) fn catch(&mut self, f: impl FnOnce()) {
        match (catch(f), &self.0) {
            (Ok(()), _) => {}
            (Err(panic), None) => self.0 = Some(panic),
            (Err(panic), Some(_)) => discard(panic),
        }
    }

    /// Passes it on, unless that would end the process: in the destructor of something that another panic drops.
    pub(crate) fn resume(self) {
        match self.0 {
            Some(panic) if thread::panicking() => discard(panic),
            Some(panic) => panic::resume_unwind(panic),
            None => {}
        }
    }

    /// Where there is nobody to pass it on to.
    pub(crate) fn discard(self) {
        self.0.into_iter().for_each(discard);
    }
}

/// Wakes tasks: all of them, though a waker may panic. Without any lock, since wakers are user code.
pub(crate) fn wake_tasks(wakers: impl IntoIterator<Item = Waker>) {
    let mut panics = FirstPanic::default();
    for waker in wakers {
        panics.catch(|| waker.wake());
    }
    panics.resume();
}

/// A panic of user code that nobody is there to be told of, but the panic hook.
#[cfg(feature = "coord")]
pub(crate) fn contain(f: impl FnOnce()) {
    let mut panic = FirstPanic::default();
    panic.catch(f);
    panic.discard();
}

fn catch(f: impl FnOnce()) -> Result<(), Box<dyn Any + Send>> {
    panic::catch_unwind(AssertUnwindSafe(f))
}

/// The destructor of a panic's payload may panic in turn.
fn discard(panic: Box<dyn Any + Send>) {
    if let Err(nested) = catch(|| drop(panic)) {
        mem::forget(nested);
    }
}
