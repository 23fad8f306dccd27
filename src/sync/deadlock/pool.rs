//! The permits of tracked semaphores: who has them, who waits for them.
//!
//! They lie in the graph, under its lock, so that who holds permits, who waits for some, and what waits there are otherwise
//! are looked at together.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, OnceLock};

use super::graph::{Complaint, State, died};
use super::{Policy, circle, policy};
use crate::sync::AcquireError;
use crate::sync::waiter::{Answer, Queue, Waiter};

/// The permits of a tracked semaphore.
pub(in crate::sync) struct Pool {
    pub(super) name: Option<&'static str>,
    /// Those that nobody has.
    pub(in crate::sync) free: usize,
    /// How many each thread has that has any, also if it has ended.
    pub(super) held: BTreeMap<u64, usize>,
    pub(in crate::sync) queue: Queue<Wish>,
}

/// Permits that somebody has or wants, and in whose name: a thread's, or [`NOBODY`]'s.
#[derive(Clone, Copy, Debug)]
pub(in crate::sync) struct Share {
    pub(in crate::sync) holder: u64,
    pub(in crate::sync) permits: usize,
}

/// Permits that a thread waits for.
pub(in crate::sync) struct Wish {
    pub(in crate::sync) thread: u64,
    pub(in crate::sync) share: Share,
    /// Why it is refused, if it is.
    pub(in crate::sync) refusal: OnceLock<AcquireError>,
}

/// Counts as a thread that runs for ever: what late threads have.
pub(in crate::sync) const NOBODY: u64 = 0;

impl State {
    /// Refuses those who wait for permits that the thread has taken with it, as far as they can't be served any more. They
    /// are to be woken.
    pub(super) fn give_up_permits(
        &mut self,
        thread: u64,
        refused: &mut Vec<Arc<Waiter<Wish>>>,
        complaints: &mut Vec<Complaint>,
    ) {
        let numbers = self
            .pools
            .iter()
            .filter(|(_, pool)| pool.held.contains_key(&thread));
        for number in numbers.map(|(number, _)| *number).collect::<Vec<_>>() {
            let there_may_be = self.there_may_be(number);
            refused.extend(self.refuse(number, usize::MAX, died(thread), |wish| {
                wish.share.permits > there_may_be
            }));
            // Others it has left in a circle. One after the other: with the first the rest can go on, perhaps.
            let threads = self.pool(number).queue.iter().map(|wish| wish.thread);
            for waiter in threads.collect::<Vec<_>>() {
                let Some(report) = circle::find(self, waiter, None) else {
                    continue;
                };
                match policy() {
                    Policy::ReportOnly(listener) => {
                        complaints.push(Complaint(Some((report, listener))));
                    }
                    Policy::Break => {
                        let error = AcquireError::Deadlock(Arc::new(report));
                        let is_meant = |wish: &Wish| wish.thread == waiter;
                        refused.extend(self.refuse(number, 1, error, is_meant));
                    }
                }
            }
        }
    }

    fn refuse(
        &mut self,
        number: u64,
        most: usize,
        error: AcquireError,
        is_meant: impl Fn(&Wish) -> bool,
    ) -> Vec<Arc<Waiter<Wish>>> {
        let queue = &mut self.pool(number).queue;
        let refused = queue.answer_some(most, Answer::Refused, |wish| {
            is_meant(wish) && wish.refusal.set(error.clone()).is_ok()
        });
        for waiter in &refused {
            self.end_wait_for_permits(waiter.wish.thread, number);
        }
        refused
    }

    /// The error of a wait for more permits than there may ever be, because of threads that have ended.
    pub(in crate::sync) fn permits_died(
        &self,
        number: u64,
        permits: usize,
    ) -> Option<AcquireError> {
        if permits <= self.there_may_be(number) {
            return None;
        }
        let mut holders = self.pools[&number].held.keys();
        holders
            .find(|&&thread| !self.runs_on(thread))
            .copied()
            .map(died)
    }

    /// How many permits there may be at some time: those that no thread has taken with it.
    fn there_may_be(&self, number: u64) -> usize {
        let pool = &self.pools[&number];
        let held = pool
            .held
            .iter()
            .filter(|&(&thread, _)| self.runs_on(thread));
        pool.free + held.map(|(_, held)| held).sum::<usize>()
    }

    pub(in crate::sync) fn add_pool(&mut self, name: Option<&'static str>, permits: usize) -> u64 {
        self.last_pool += 1;
        let pool = Pool {
            name,
            free: permits,
            held: BTreeMap::new(),
            queue: Queue::new(),
        };
        self.pools.insert(self.last_pool, pool);
        self.last_pool
    }

    pub(in crate::sync) fn pool(&mut self, number: u64) -> &mut Pool {
        self.pools
            .get_mut(&number)
            .expect("it is there as long as its semaphore")
    }

    /// Nobody waits there, or holds permits otherwise than leaked.
    pub(in crate::sync) fn remove_pool(&mut self, number: u64) {
        self.pools.remove(&number);
    }

    /// Gives permits back, and out to those who wait. They are to be woken.
    pub(in crate::sync) fn give_back(
        &mut self,
        number: u64,
        share: Share,
    ) -> Vec<Arc<Waiter<Wish>>> {
        let pool = self.pool(number);
        pool.put(share);
        let Pool {
            free, held, queue, ..
        } = pool;
        let granted = queue.answer_some(usize::MAX, Answer::Granted, |wish| {
            take(free, held, wish.share)
        });
        for waiter in &granted {
            self.end_wait_for_permits(waiter.wish.thread, number);
        }
        granted
    }
}

/// Takes permits if there are so many.
fn take(free: &mut usize, held: &mut BTreeMap<u64, usize>, share: Share) -> bool {
    if share.permits > *free {
        return false;
    }
    if share.permits > 0 {
        *free -= share.permits;
        *held.entry(share.holder).or_default() += share.permits;
    }
    true
}

impl Pool {
    /// Takes permits if there are so many.
    pub(in crate::sync) fn take(&mut self, share: Share) -> bool {
        take(&mut self.free, &mut self.held, share)
    }

    fn put(&mut self, share: Share) {
        self.free += share.permits;
        if let Entry::Occupied(mut held) = self.held.entry(share.holder) {
            *held.get_mut() -= share.permits;
            if *held.get() == 0 {
                held.remove();
            }
        }
    }
}
