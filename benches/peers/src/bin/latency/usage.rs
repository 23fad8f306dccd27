//! What the kernel has counted for this thread.

use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::time::{ClockId, clock_gettime};

/// Since the thread began, or since another reading.
#[derive(Clone, Copy)]
pub struct Usage {
    /// Times that the processor was taken away.
    pub switches: u64,
    /// Pages of memory that were touched first and had to be found, without reading a disk.
    pub faults: u64,
    /// Time on a processor.
    pub on_processor: Duration,
}

impl Usage {
    pub fn now() -> Self {
        let usage = getrusage(UsageWho::RUSAGE_THREAD).expect("a thread may ask for its own");
        // Not from the usage: that counts ticks, of milliseconds.
        let on_processor =
            clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("each thread has one");
        Self {
            switches: usage.involuntary_context_switches() as u64,
            faults: usage.minor_page_faults() as u64,
            on_processor: on_processor.into(),
        }
    }

    pub fn since(self, earlier: Self) -> Self {
        Self {
            switches: self.switches - earlier.switches,
            faults: self.faults - earlier.faults,
            on_processor: self.on_processor - earlier.on_processor,
        }
    }
}
