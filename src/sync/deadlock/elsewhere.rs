//! The walker for waits that aren't those of this process's threads.

use super::circle;
use super::graph::{Awaited, Limit, State};
use super::pool::Share;
use crate::sync::deadlock::Wanted;

/// A wait-for graph of whatever waits, by numbers from 1 on. Each is there and lets go of what it has when it can go on.
pub(crate) struct Waits(State);

impl Waits {
    /// Of that many that may wait.
    pub(crate) fn among(count: u64) -> Self {
        let mut state = State::new();
        (1..=count).for_each(|waiter| state.begin_thread(waiter, None));
        Self(state)
    }

    /// One more thing that has to end before the waiter can go on.
    pub(crate) fn wait_for(&mut self, waiter: u64, holder: u64) {
        let awaited = Awaited::Threads(vec![holder], Wanted::Act);
        self.0.push_wait(waiter, awaited, Limit::NEVER);
    }

    /// Permits of which that many are free. Answers with a number for the other calls.
    pub(crate) fn add_permits(&mut self, free: usize) -> u64 {
        self.0.add_pool(None, free)
    }

    /// One of the permits is this one's.
    pub(crate) fn hold_permit(&mut self, pool: u64, holder: u64) {
        let pool = self.0.pool(pool);
        pool.free += 1;
        pool.take(Share { holder, permits: 1 });
    }

    /// The waiter can't go on before it gets one of the permits.
    pub(crate) fn wait_for_permit(&mut self, waiter: u64, pool: u64) {
        self.0
            .push_wait(waiter, Awaited::Permits { pool, permits: 1 }, Limit::NEVER);
    }

    /// The circle of a waiter that would never go on: each waits for the next, and the last one for the first.
    pub(crate) fn circle_of(&self, waiter: u64) -> Option<Vec<u64>> {
        let report = circle::find(&self.0, waiter, None)?;
        Some(
            report
                .steps()
                .iter()
                .map(|step| step.thread.number())
                .collect(),
        )
    }
}
