//! Resident memory: it must not creep.

use crate::kinds::Kind;

/// Measurements up to which the process takes what it needs.
const WARM_UP: usize = 6;

/// What the process may take beyond the most of its warm-up: the allocator doesn't give all back.
const SPARE: u64 = 32 << 20;

/// Calls of `flush` that carry off what has piled up behind a stalled thread.
const FLUSHES: usize = 1000;

/// Gives back the memory of all that is dead. Each call of `flush` gives back a part of what other threads
/// have handed over, the oldest first.
pub(crate) fn flush() {
    for _ in 0..FLUSHES {
        str::shared().flush();
    }
}

/// Lets the allocator return free memory to the system. What it keeps depends on the order of all that
/// was freed, and would hide a leak.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn trim() {
    unsafe extern "C" {
        safe fn malloc_trim(pad: usize) -> std::ffi::c_int;
    }
    malloc_trim(0);
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn trim() {}

/// Bytes that the process has in memory, where the system tells.
#[cfg(target_os = "linux")]
pub(crate) fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}

/// Bytes that the process has in memory: unknown here.
#[cfg(not(target_os = "linux"))]
pub(crate) fn resident() -> Option<u64> {
    None
}

/// What was measured whenever nobody held anything.
#[derive(Default)]
pub(crate) struct Measured {
    /// The most of any standstill, whatever was held.
    pub(crate) peak: u64,
    pub(crate) times: usize,
    pub(crate) first: u64,
    /// The most of the warm-up.
    pub(crate) warm: u64,
    pub(crate) most: u64,
    pub(crate) last: u64,
}

impl Measured {
    pub(crate) fn note(&mut self, bytes: u64) {
        if self.times == 0 {
            self.first = bytes;
        }
        if self.times < WARM_UP {
            self.warm = self.warm.max(bytes);
        }
        self.times += 1;
        self.most = self.most.max(bytes);
        self.last = bytes;
    }

    /// What the process may take, as soon as that is known.
    pub(crate) fn bound(&self) -> Option<u64> {
        (self.times > WARM_UP).then(|| self.warm + SPARE)
    }
}
