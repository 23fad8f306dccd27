//! Panics of user code that must not stop what comes after it.

use std::any::Any;
use std::panic::{self, AssertUnwindSafe};

/// The first of several panics. The others are reported by the panic hook and dropped.
#[derive(Default)]
pub(crate) struct FirstPanic(Option<Box<dyn Any + Send>>);

impl FirstPanic {
    pub(crate) fn catch(&mut self, f: impl FnOnce()) {
        let Err(panic) = catch(f) else { return };
        if self.0.is_none() {
            self.0 = Some(panic);
        } else if let Err(nested) = catch(|| drop(panic)) {
            // The destructor of a panic's payload panicked: there is nobody left to tell.
            std::mem::forget(nested);
        }
    }

    pub(crate) fn resume(self) {
        if let Some(panic) = self.0 {
            panic::resume_unwind(panic);
        }
    }
}

fn catch(f: impl FnOnce()) -> Result<(), Box<dyn Any + Send>> {
    panic::catch_unwind(AssertUnwindSafe(f))
}
