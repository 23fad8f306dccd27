//! The clock of leases, and who else's clock it is.

#[cfg(feature = "coord-sqlite")]
use std::fs;

use rustix::time::{ClockId, clock_gettime};

use crate::coord::time::Time;

/// Runs on while the machine sleeps, and nobody sets it.
#[cfg(target_os = "linux")]
const CLOCK: ClockId = ClockId::Boottime;
/// On the BSDs and macOS that is what the monotonic one does.
#[cfg(not(target_os = "linux"))]
const CLOCK: ClockId = ClockId::Monotonic;

pub(super) fn now() -> Time {
    let now = clock_gettime(CLOCK);
    Time(now.tv_sec * 1_000_000_000 + now.tv_nsec)
}

/// What distinguishes this boot of this machine from others. Containers may have ones of their own.
#[cfg(feature = "coord-sqlite")]
pub(super) fn boot() -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(boot.trim().to_owned())
}

/// Two processes whose clocks show the same at the same moment say the same here: the boot, and the time namespace, which
/// can offset this clock. Where that can't be told, nobody says the same.
#[cfg(feature = "coord-sqlite")]
pub(super) fn domain(otherwise: u64) -> String {
    let namespace = fs::read_link("/proc/self/ns/time");
    match (boot(), namespace) {
        (Some(boot), Ok(namespace)) => format!("{boot} {}", namespace.display()),
        _ => format!("session {otherwise:016x}"),
    }
}
