//! How long a thread waits, for whatever it is.

use std::time::{Duration, Instant};

use super::deadlock::check_after;

/// Until when a thread waits.
#[derive(Clone, Copy)]
pub(super) enum Patience {
    None,
    Until(Instant),
    Forever,
}

impl Patience {
    /// A time that is too far away to be told is thirty years, not forever: it ends by itself.
    pub(super) fn lasting(time: Duration) -> Self {
        const FAR_AWAY: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);
        let now = Instant::now();
        Self::Until(now.checked_add(time).unwrap_or_else(|| now + FAR_AWAY))
    }

    /// When to look for a deadlock, at the latest when it ends; and when it ends, if that is ever.
    pub(super) fn look_and_end(self) -> (Instant, Option<Instant>) {
        let (look, end) = (Instant::now() + check_after(), self.end());
        (end.map_or(look, |end| look.min(end)), end)
    }

    /// Until when it lasts, if that is ever.
    pub(super) fn end(self) -> Option<Instant> {
        match self {
            Self::None => Some(Instant::now()),
            Self::Until(end) => Some(end),
            Self::Forever => None,
        }
    }
}
