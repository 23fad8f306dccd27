//! Would a wait ever end? If not, the circle that it closes.
//!
//! First all threads that it would wait for, directly or through others, are collected, as far as they wait in turn, and
//! taken for stuck. Then those are set free whose waits end once the threads that run have let go of everything, and
//! those whose waits end by that, until nothing changes. If the thread itself is still stuck, a shortest way from it to
//! itself, among those that are stuck, is the report.
//!
//! Each wait is looked at once, and each permit that a thread has; so it takes as many steps as there are waits and
//! holders, times the logarithm of that.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::graph::{Awaited, State};
use super::pool::Pool;
use super::{DeadlockReport, Step};
use crate::sync::ThreadKey;

/// The circle that a thread closes by its registered waits and one more, if one is given.
pub(super) fn find(
    state: &State,
    thread: u64,
    awaited: Option<&Awaited>,
) -> Option<DeadlockReport> {
    let mut search = Search {
        state,
        thread,
        waits: Vec::new(),
        stuck: BTreeMap::new(),
        pools: BTreeMap::new(),
    };
    search.add(thread, awaited);
    search.collect();
    search.set_free();
    search.report()
}

struct Search<'a> {
    state: &'a State,
    thread: u64,
    waits: Vec<Edge<'a>>,
    /// The threads that are taken for stuck.
    stuck: BTreeMap<u64, Stuck>,
    /// The pools that some of them want permits of.
    pools: BTreeMap<u64, Supply<'a>>,
}

struct Edge<'a> {
    waiter: u64,
    awaited: &'a Awaited,
    /// Any of whom could end it, unless it is for permits.
    holders: Vec<u64>,
    /// It would end.
    ends: bool,
}

#[derive(Default)]
struct Stuck {
    /// Its waits, by their places in `waits`.
    waits: Vec<usize>,
    /// How many of them aren't known to end.
    open: usize,
    /// The waits of others for it.
    wanted_by: Vec<usize>,
    /// The pools that it has permits of, and others want some of.
    pools: Vec<u64>,
}

struct Supply<'a> {
    pool: &'a Pool,
    /// The permits that are free, or will be when all threads have let go that aren't stuck.
    coming: usize,
    /// Waits for its permits; those that want fewest last.
    waits: Vec<usize>,
}

impl<'a> Search<'a> {
    /// Takes a thread for stuck, if it waits.
    fn add(&mut self, thread: u64, awaited: Option<&'a Awaited>) {
        if self.stuck.contains_key(&thread) {
            return;
        }
        let first = self.waits.len();
        for awaited in self.state.endless_waits(thread).chain(awaited) {
            self.waits.push(Edge {
                waiter: thread,
                awaited,
                holders: Vec::new(),
                ends: false,
            });
        }
        let waits: Vec<_> = (first..self.waits.len()).collect();
        if !waits.is_empty() {
            let open = waits.len();
            let waiter = Stuck {
                waits,
                open,
                ..Default::default()
            };
            self.stuck.insert(thread, waiter);
        }
    }

    /// Adds everybody who is waited for.
    fn collect(&mut self) {
        let mut at = 0;
        while at < self.waits.len() {
            let holders = match self.waits[at].awaited {
                Awaited::Permits { pool: number, .. } => {
                    let pool = &self.state.pools[number];
                    let is_new = !self.pools.contains_key(number);
                    let supply = self.pools.entry(*number).or_insert(Supply {
                        pool,
                        coming: pool.free,
                        waits: Vec::new(),
                    });
                    supply.waits.push(at);
                    if is_new {
                        for &holder in pool.held.keys() {
                            self.add(holder, None);
                            if let Some(stuck) = self.stuck.get_mut(&holder) {
                                stuck.pools.push(*number);
                            }
                        }
                    }
                    Vec::new()
                }
                // Once: who runs may let go of it at any moment.
                Awaited::Lock(held) => held.get().owner().into_iter().collect(),
                Awaited::Threads(threads, _) => threads.clone(),
            };
            for &holder in &holders {
                self.add(holder, None);
            }
            self.waits[at].holders = holders;
            at += 1;
        }
    }

    /// Sets all free that can go on.
    fn set_free(&mut self) {
        let mut free = Vec::new();
        for at in 0..self.waits.len() {
            let Edge {
                awaited, holders, ..
            } = &self.waits[at];
            let is_for_permits = matches!(awaited, Awaited::Permits { .. });
            let holders = holders.clone();
            if !is_for_permits && holders.is_empty()
                || holders
                    .iter()
                    .any(|holder| !self.stuck.contains_key(holder))
            {
                self.end(at, &mut free);
            }
            for holder in holders {
                if let Some(holder) = self.stuck.get_mut(&holder) {
                    holder.wanted_by.push(at);
                }
            }
        }
        let pools: Vec<_> = self.pools.keys().copied().collect();
        for number in &pools {
            let waits = &self.waits;
            let supply = self.pools.get_mut(number).expect("it was collected");
            supply
                .waits
                .sort_by_key(|&at| std::cmp::Reverse(waits[at].permits()));
            for (&holder, permits) in &supply.pool.held {
                if !self.stuck.contains_key(&holder) && self.state.runs_on(holder) {
                    supply.coming += permits;
                }
            }
            self.serve(*number, &mut free);
        }
        while let Some(thread) = free.pop() {
            let waiter = self.stuck.remove(&thread).expect("it is set free once");
            for at in waiter.wanted_by {
                self.end(at, &mut free);
            }
            for number in waiter.pools {
                let supply = self.pools.get_mut(&number).expect("it was collected");
                supply.coming += supply.pool.held[&thread];
                self.serve(number, &mut free);
            }
        }
    }

    /// Ends the waits that the permits which are coming suffice for.
    fn serve(&mut self, number: u64, free: &mut Vec<u64>) {
        let supply = self.pools.get_mut(&number).expect("it was collected");
        let (coming, waits) = (supply.coming, &self.waits);
        let first = supply
            .waits
            .partition_point(|&at| waits[at].permits() > coming);
        for at in supply.waits.split_off(first) {
            self.end(at, free);
        }
    }

    fn end(&mut self, at: usize, free: &mut Vec<u64>) {
        let wait = &mut self.waits[at];
        if !std::mem::replace(&mut wait.ends, true)
            && let Some(waiter) = self.stuck.get_mut(&wait.waiter)
        {
            waiter.open -= 1;
            if waiter.open == 0 {
                free.push(wait.waiter);
            }
        }
    }

    /// The shortest circle through the thread, if it is stuck. One through other threads is preferred to a step of the
    /// thread to itself: of the latter `retry` knows that it would come again.
    fn report(&self) -> Option<DeadlockReport> {
        if !self.stuck.contains_key(&self.thread) {
            return None;
        }
        let mut oneself = None;
        // By which wait each was reached.
        let mut reached_by = BTreeMap::new();
        let mut seen = BTreeSet::new();
        let mut to_visit = VecDeque::from([self.thread]);
        while let Some(waiter) = to_visit.pop_front() {
            for &at in &self.stuck[&waiter].waits {
                let Edge {
                    awaited,
                    holders,
                    ends,
                    ..
                } = &self.waits[at];
                if *ends {
                    continue;
                }
                let holds = match awaited {
                    Awaited::Permits { pool, .. } => {
                        self.pools[pool].pool.held.contains_key(&self.thread)
                    }
                    _ => holders.contains(&self.thread),
                };
                if holds && waiter == self.thread {
                    oneself = Some(at);
                } else if holds {
                    return Some(self.circle(at, &reached_by));
                }
                let permit_holders = match awaited {
                    Awaited::Permits { pool, .. } if seen.insert(pool) => {
                        Some(self.pools[pool].pool.held.keys())
                    }
                    _ => None,
                };
                for &holder in holders.iter().chain(permit_holders.into_iter().flatten()) {
                    if holder != self.thread
                        && self.stuck.contains_key(&holder)
                        && !reached_by.contains_key(&holder)
                    {
                        reached_by.insert(holder, at);
                        to_visit.push_back(holder);
                    }
                }
            }
        }
        oneself.map(|at| self.circle(at, &reached_by))
    }

    /// The circle whose last step is that wait.
    fn circle(&self, last: usize, reached_by: &BTreeMap<u64, usize>) -> DeadlockReport {
        let mut steps = VecDeque::new();
        let (mut at, mut holder) = (last, self.thread);
        loop {
            let Edge {
                waiter, awaited, ..
            } = self.waits[at];
            steps.push_front(Step {
                thread: ThreadKey::of(waiter),
                thread_name: self.state.name(waiter),
                wanted: self.state.wanted(awaited),
                holder: ThreadKey::of(holder),
            });
            if waiter == self.thread {
                let steps = steps.into();
                return DeadlockReport { steps };
            }
            (at, holder) = (reached_by[&waiter], waiter);
        }
    }
}

impl Edge<'_> {
    fn permits(&self) -> usize {
        match self.awaited {
            Awaited::Permits { permits, .. } => *permits,
            _ => 0,
        }
    }
}
