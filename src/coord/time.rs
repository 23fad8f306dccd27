//! Time as leases count it: nanoseconds of a clock that runs on while the machine sleeps, and that nobody sets.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A moment of a store's clock, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Time(pub(super) i64);

impl Time {
    /// The last moment there is, if that would come later.
    pub(super) fn after(self, time: Duration) -> Self {
        let nanoseconds = i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(nanoseconds))
    }

    /// Zero if that moment isn't past.
    pub(super) fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// The wall clock, in nanoseconds since 1970.
pub(super) fn wall_time() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Time(0).after(since.unwrap_or_default())
}

/// The wall clock, in microseconds since 1970.
pub(super) fn wall_clock() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
