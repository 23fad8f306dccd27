//! Builders that fail on purpose.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::tally::FAILED;
use crate::verdict::check;

/// What a builder throws.
struct Thrown;

/// Runs something whose builder may throw, and answers what it returned, if it did.
pub(crate) fn survive<R>(f: impl FnOnce() -> R) -> Option<R> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(result) => Some(result),
        Err(payload) => {
            check!(payload.is::<Thrown>(), "somebody else's panic came out");
            FAILED.add();
            None
        }
    }
}

/// Throws without a message on standard error: those are for panics that nobody has planned.
pub(crate) fn throw() -> ! {
    resume_unwind(Box::new(Thrown))
}

/// What a builder answers that doesn't throw.
pub(crate) struct Refused;

/// The result, if the builder hasn't failed.
pub(crate) fn unless_failed<R, E>(result: Result<R, E>) -> Option<R> {
    if result.is_err() {
        FAILED.add();
    }
    result.ok()
}
