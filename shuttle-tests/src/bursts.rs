//! Schedules in bursts: a thread goes on for a while, then any other one.
//!
//! They lie between shuttle's two. One of these switches at each step, and so leaves no thread where it stands for
//! long; the other hardly ever switches, and so leaves few of them in the middle of something.

use std::hash::{BuildHasher, Hasher, RandomState};

use shuttle::scheduler::{DataSource, RandomDataSource, Schedule, Scheduler, Task, TaskId};

/// Steps of a burst, on an average. Each execution has one of them.
const LENGTHS: [u64; 4] = [4, 16, 64, 256];

pub(crate) struct BurstScheduler {
    executions: usize,
    /// What the scenario draws. A replay makes the same of the schedule's seed.
    data: RandomDataSource,
    choices: RandomDataSource,
    length: u64,
}

impl BurstScheduler {
    pub(crate) fn new(executions: usize) -> Self {
        let seed = RandomState::new().build_hasher().finish();
        Self {
            executions,
            data: RandomDataSource::initialize(seed),
            choices: RandomDataSource::initialize(!seed),
            length: 1,
        }
    }

    fn choose(&mut self, bound: u64) -> u64 {
        self.choices.next_u64() % bound
    }
}

impl Scheduler for BurstScheduler {
    fn new_execution(&mut self) -> Option<Schedule> {
        self.executions = self.executions.checked_sub(1)?;
        self.length = LENGTHS[self.choose(LENGTHS.len() as u64) as usize];
        Some(Schedule::new(self.data.reinitialize()))
    }

    fn next_task(&mut self, threads: &[&Task], current: Option<TaskId>, _: bool) -> Option<TaskId> {
        let ends = self.choose(self.length) == 0;
        let current = threads.iter().find(|thread| Some(thread.id()) == current);
        let next = match current {
            Some(current) if !ends => current,
            _ => threads[self.choose(threads.len() as u64) as usize],
        };
        Some(next.id())
    }

    fn next_u64(&mut self) -> u64 {
        self.data.next_u64()
    }
}
