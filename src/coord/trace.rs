//! What somebody may want to know of afterwards, as events of `tracing`, target `hapax::coord`. Without the feature of that name
//! nothing is left of it.
#![cfg_attr(
    not(feature = "tracing"),
    expect(unused_variables, reason = "nobody hears of them")
)]

use std::time::Duration;

use super::error::At;

#[cfg(feature = "tracing")]
macro_rules! event {
    ($level:ident, $($rest:tt)*) => {
        // Who listens is the program's code, and the thread may be one of ours.
        crate::table::contain(|| tracing::$level!(target: "hapax::coord", $($rest)*))
    };
}

#[cfg(not(feature = "tracing"))]
macro_rules! event {
    ($level:ident, $($rest:tt)*) => {};
}

/// Somebody has waited for long. Once for each wait.
pub(super) fn waits(key: &str, time: Duration) {
    event!(info, key, waited = ?time, "still waits");
}

/// A guard isn't valid any more.
pub(super) fn lost(key: &str, token: u64) {
    event!(warn, key, token, "a grant is lost");
}

/// Somebody has taken a grant away from another one.
pub(super) fn force_unlocked(key: &str, token: u64) {
    event!(warn, key, token, "a grant was taken away");
}

/// The same by its tag.
pub(super) fn evicted(tag: &str, count: usize) {
    event!(warn, tag, count, "what has the tag was taken away");
}

/// Others keep the store busy, and a call has failed by that.
pub(super) fn busy(at: &At) {
    event!(warn, %at, "the store is busy");
}

/// What couldn't be given back is to be given back later.
pub(super) fn gives_back_late(key: &str) {
    event!(warn, key, "it is given back later");
}
