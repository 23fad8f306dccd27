//! Stops one thread, the *victim*, at each step of an operation, and requires all others to finish theirs.
//!
//! A scenario is run again and again. In its n-th execution the victim is stopped right before the n-th shared
//! access of its operation, wherever that lies: in the table, in a hook, in a destructor. It isn't scheduled
//! again before all others are done. Then it goes on, and the scenario takes its census. When the operation has
//! come to its end without an n-th access, there is nothing more to stop.
//!
//! The collector's own steps and the allocator's aren't among them: shuttle doesn't see these.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use shuttle::scheduler::{Schedule, Scheduler, Task, TaskId};
use shuttle::thread::{self, JoinHandle};

/// Steps in which the victim has to finish if it isn't stopped. The longest operation takes a few hundred.
const LONGEST: usize = 2_000;

/// Steps in which the others have to finish, however they are scheduled. They take five thousand at most.
const PATIENCE: usize = 30_000;

/// Schedules under which the others get into the victim's way before it is stopped.
const CONTENDED: u64 = 20;

/// Steps that the victim may be let go on for those who wait briefly: the longest critical section has fewer,
/// building a value has more.
const BRIEFLY: usize = 12;

/// The thread that makes the others.
const FIRST: usize = 0;

/// Where an execution stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The first thread makes the others.
    Setup,
    /// The victim may begin.
    Ready,
    /// The victim is in its operation.
    Running,
    /// The victim is stopped.
    Frozen,
    /// It has finished without being stopped, or goes on after it was.
    Over,
}

/// What a thread beside the victim may do while the victim is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Patience {
    /// Wait for nobody.
    None,
    /// Wait until the victim has left a critical section.
    Brief,
    /// Wait until the victim is done.
    Endless,
}

struct Plan {
    phase: Phase,
    victim: Option<TaskId>,
    /// Steps that the victim has begun in its operation.
    steps: usize,
    /// The step before which it is stopped.
    stop: usize,
    /// Threads that haven't finished, by their patience.
    busy: [usize; 3],
    /// Whether the thread that made the others is one of them.
    first_is_busy: bool,
    /// Steps of the others since the victim was stopped.
    waited: usize,
    /// Steps that the victim was let go on since.
    crept: usize,
}

impl Plan {
    fn new(stop: usize) -> Self {
        Self {
            phase: Phase::Setup,
            victim: None,
            steps: 0,
            stop,
            busy: [0; 3],
            first_is_busy: false,
            waited: 0,
            crept: 0,
        }
    }

    fn busy(&mut self, patience: Patience) -> &mut usize {
        &mut self.busy[patience as usize]
    }

    fn was_frozen(&self) -> bool {
        self.stop != 0 && self.steps >= self.stop
    }

    /// A thread has come to its next shared access.
    fn count_step(&mut self, current: Option<TaskId>) {
        if self.phase == Phase::Running && current == self.victim {
            self.steps += 1;
            if self.steps == self.stop {
                self.phase = Phase::Frozen;
            }
        }
    }

    /// Fails if the others don't get on. Ends the stop if they have all done what they can.
    fn check_patience(&mut self, all_wait: bool) {
        let stop = self.stop;
        if !all_wait {
            self.waited += 1;
            assert!(
                self.waited < PATIENCE,
                "others don't finish while a thread stands before step {stop}"
            );
            return;
        }
        let waiting = *self.busy(Patience::None);
        assert!(
            waiting == 0,
            "{waiting} others wait for a thread that stands before step {stop}"
        );
        if *self.busy(Patience::Brief) == 0 {
            self.phase = Phase::Over;
        } else {
            self.crept += 1;
            assert!(
                self.crept < BRIEFLY,
                "others wait for long for a thread that stood before step {stop}"
            );
        }
    }
}

/// Makes the threads of a scenario.
#[derive(Clone)]
pub struct Freezer(Arc<Mutex<Plan>>);

impl Freezer {
    /// The thread that is stopped.
    pub fn victim<R: Send + 'static>(
        &self,
        operation: impl FnOnce() -> R + Send + 'static,
    ) -> JoinHandle<R> {
        let freezer = self.clone();
        self.spawn_victim(move || {
            let result = operation();
            freezer.plan().phase = Phase::Over;
            result
        })
    }

    /// As `victim`; the operation goes on with what the thread does at its end.
    pub fn exiting_victim(&self, operation: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
        self.spawn_victim(operation)
    }

    fn spawn_victim<R: Send + 'static>(
        &self,
        operation: impl FnOnce() -> R + Send + 'static,
    ) -> JoinHandle<R> {
        let freezer = self.clone();
        let victim = thread::spawn(move || {
            freezer.plan().phase = Phase::Running;
            operation()
        });
        self.plan().victim = Some(usize::from(victim.thread().id()).into());
        victim
    }

    /// A thread that never waits. What it does it does again and again, and once more when the victim is
    /// stopped.
    pub fn other(&self, operation: impl FnMut() + Send + 'static) -> JoinHandle<()> {
        self.spawn(Patience::None, operation)
    }

    /// A thread that waits, at most, until the victim has left a critical section.
    pub fn brief_waiter(&self, operation: impl FnMut() + Send + 'static) -> JoinHandle<()> {
        self.spawn(Patience::Brief, operation)
    }

    /// A thread that may wait until the victim is done.
    pub fn waiter(&self, operation: impl FnMut() + Send + 'static) -> JoinHandle<()> {
        self.spawn(Patience::Endless, operation)
    }

    fn spawn(
        &self,
        patience: Patience,
        mut operation: impl FnMut() + Send + 'static,
    ) -> JoinHandle<()> {
        *self.plan().busy(patience) += 1;
        let freezer = self.clone();
        thread::spawn(move || {
            loop {
                let last = matches!(freezer.plan().phase, Phase::Frozen | Phase::Over);
                operation();
                if last {
                    break;
                }
                // Not to keep the others from running when there is nothing left to do.
                crate::step();
            }
            *freezer.plan().busy(patience) -= 1;
        })
    }

    /// Lets the victim begin before `join`. The calling thread, which has made all others, goes on, and waits, at
    /// most, until the victim has left a critical section.
    pub fn start(&self) {
        let mut plan = self.plan();
        plan.phase = Phase::Ready;
        plan.first_is_busy = true;
        *plan.busy(Patience::Brief) += 1;
    }

    /// Waits for all threads.
    pub fn join<R>(&self, victim: JoinHandle<R>, others: Vec<JoinHandle<()>>) -> R {
        let mut plan = self.plan();
        if std::mem::take(&mut plan.first_is_busy) {
            *plan.busy(Patience::Brief) -= 1;
        }
        drop(plan);
        let result = victim.join().unwrap();
        self.plan().phase = Phase::Over;
        for other in others {
            other.join().unwrap();
        }
        result
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs a scenario under several schedules, and under each as often as the victim has steps.
///
/// The first schedule lets the victim run alone until it is stopped; then the others. Under the next ones they
/// get into each other's way before. They are the same in each run; `HAPAX_SHUTTLE_TIMES` multiplies them.
pub fn stop_everywhere(scenario: impl Fn(&Freezer) + Send + Sync + 'static) {
    let start = Instant::now();
    let freezer = Freezer(Arc::new(Mutex::new(Plan::new(0))));
    let scheduler = FreezingScheduler {
        freezer: freezer.clone(),
        schedules: 1 + CONTENDED * crate::times() as u64,
        schedule: 0,
        random: 0,
    };
    let executions = crate::run(scheduler, move || scenario(&freezer));
    crate::report(executions, start);
}

struct FreezingScheduler {
    freezer: Freezer,
    /// How many there are, and which one it is.
    schedules: u64,
    schedule: u64,
    /// The state of the random numbers.
    random: u64,
}

impl FreezingScheduler {
    /// Any of the threads; under every other schedule mostly the one that is running.
    fn any(&mut self, threads: &[TaskId], current: Option<TaskId>) -> TaskId {
        let sticks = self.schedule.is_multiple_of(2) && self.below(8) != 0;
        match current.filter(|current| sticks && threads.contains(current)) {
            Some(current) => current,
            None => threads[self.below(threads.len())],
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next_u64() % bound as u64) as usize
    }
}

impl Scheduler for FreezingScheduler {
    fn new_execution(&mut self) -> Option<Schedule> {
        let mut plan = self.freezer.plan();
        let was_frozen = plan.was_frozen();
        if plan.stop != 0 && !was_frozen {
            assert!(plan.stop > 1, "the operation has no step");
            self.schedule += 1;
        }
        let stop = if was_frozen { plan.stop + 1 } else { 1 };
        assert!(stop < LONGEST, "the operation doesn't come to its end");
        *plan = Plan::new(stop);
        self.random = self.schedule;
        (self.schedule < self.schedules).then(|| Schedule::new(self.schedule))
    }

    fn next_task(
        &mut self,
        runnable: &[&Task],
        current: Option<TaskId>,
        _: bool,
    ) -> Option<TaskId> {
        let freezer = self.freezer.clone();
        let mut plan = freezer.plan();
        plan.count_step(current);
        let all: Vec<_> = runnable.iter().map(|task| task.id()).collect();
        let is_runnable = |wanted: TaskId| all.contains(&wanted).then_some(wanted);
        let first = is_runnable(FIRST.into());
        let victim = plan.victim.and_then(is_runnable);
        Some(match plan.phase {
            Phase::Setup => first.or(victim).expect("somebody makes the threads"),
            Phase::Ready => victim.expect("the victim can begin"),
            Phase::Running if self.schedule == 0 => match victim.or(first) {
                Some(alone) => alone,
                None => self.any(&all, current),
            },
            Phase::Running | Phase::Over => self.any(&all, current),
            Phase::Frozen => {
                let others: Vec<_> = all.into_iter().filter(|&id| Some(id) != victim).collect();
                plan.check_patience(others.is_empty());
                match victim {
                    Some(victim) if others.is_empty() => victim,
                    _ => self.any(&others, current),
                }
            }
        })
    }

    fn next_u64(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.random;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }
}
