//! The search for circles, against the definition: graphs with few threads, drawn at random.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::circle;
use super::graph::{Awaited, Held, HeldRef, Limit, State};
use crate::sync::ThreadKey;
use crate::sync::deadlock::{NOBODY, Share, Wanted};

const THREADS: u64 = 5;

struct Lock(Option<u64>);

impl Held for Lock {
    fn name(&self) -> Option<&'static str> {
        None
    }

    fn owner(&self) -> Option<u64> {
        self.0
    }

    fn dead_owner(&self) -> Option<u64> {
        None
    }

    fn abandon(&self, _: u64) {}
}

#[derive(Clone, Debug)]
enum Want {
    Lock(usize),
    Permits(usize, usize),
    Threads(Vec<u64>),
}

#[derive(Clone, Debug)]
struct Plan {
    /// The holder of each lock.
    locks: Vec<Option<u64>>,
    /// The free permits of each pool, and who has how many others.
    pools: Vec<(usize, BTreeMap<u64, usize>)>,
    /// Of each thread.
    waits: BTreeMap<u64, Vec<(Want, bool)>>,
    dead: BTreeSet<u64>,
    /// What the first thread wants besides.
    last: Want,
}

fn thread() -> impl Strategy<Value = u64> {
    1..=THREADS
}

fn want() -> impl Strategy<Value = Want> {
    prop_oneof![
        (0..4_usize).prop_map(Want::Lock),
        (0..2_usize, 1..4_usize).prop_map(|(pool, permits)| Want::Permits(pool, permits)),
        prop::collection::vec(thread(), 0..3).prop_map(Want::Threads),
    ]
}

prop_compose! {
    fn plan()(
        locks in prop::collection::vec(prop::option::weighted(0.8, thread()), 4),
        pools in prop::collection::vec(
            (0..2_usize, prop::collection::btree_map(NOBODY..=THREADS, 1..3_usize, 0..4)), 2
        ),
        waits in prop::collection::btree_map(
            thread(), prop::collection::vec((want(), prop::bool::weighted(0.1)), 0..3), 0..=5
        ),
        // The first one is about to wait, so it lives.
        dead in prop::collection::btree_set(2..=THREADS, 0..2),
        last in want(),
    ) -> Plan {
        let mut waits = waits;
        waits.retain(|thread, _| !dead.contains(thread));
        Plan { locks, pools, waits, dead, last }
    }
}

impl Plan {
    /// What a thread waits for that doesn't end by itself.
    fn wants(&self, thread: u64) -> impl Iterator<Item = &Want> {
        let own = self.waits.get(&thread).into_iter().flatten();
        let endless = own.filter(|(_, is_timed)| !is_timed).map(|(want, _)| want);
        endless.chain((thread == 1).then_some(&self.last))
    }

    /// Whether it comes free once all have let go who aren't stuck.
    fn ends(&self, want: &Want, stuck: &BTreeSet<u64>) -> bool {
        let runs = |thread: &u64| !stuck.contains(thread);
        match want {
            Want::Lock(lock) => self.locks[*lock].is_none_or(|owner| runs(&owner)),
            Want::Threads(threads) => threads.is_empty() || threads.iter().any(runs),
            Want::Permits(pool, permits) => {
                let (free, held) = &self.pools[*pool];
                let coming = held.iter();
                let coming =
                    coming.filter(|(holder, _)| runs(holder) && !self.dead.contains(holder));
                free + coming.map(|(_, held)| held).sum::<usize>() >= *permits
            }
        }
    }

    /// The threads that can't go on, by the definition: all that wait, but for those whose waits all end once the others
    /// have let go.
    fn stuck(&self) -> BTreeSet<u64> {
        let mut stuck: BTreeSet<u64> = (1..=THREADS).collect();
        loop {
            let mut left = stuck.clone();
            left.retain(|&thread| !self.wants(thread).all(|want| self.ends(want, &stuck)));
            if left == stuck {
                return stuck;
            }
            stuck = left;
        }
    }

    /// Whether a thread that is stuck waits for another one, directly.
    fn leads(&self, from: u64, to: u64, stuck: &BTreeSet<u64>) -> bool {
        let mut wants = self.wants(from).filter(|want| !self.ends(want, stuck));
        wants.any(|want| match want {
            Want::Lock(lock) => self.locks[*lock] == Some(to),
            Want::Threads(threads) => threads.contains(&to),
            Want::Permits(pool, _) => self.pools[*pool].1.contains_key(&to),
        })
    }

    /// # Safety
    ///
    /// The locks are there as long as it is.
    unsafe fn awaited(&self, want: &Want, locks: &[Lock], pools: &[u64]) -> Awaited {
        match want {
            // SAFETY: as for the caller.
            Want::Lock(lock) => Awaited::Lock(unsafe { HeldRef::to(&locks[*lock]) }),
            Want::Permits(pool, permits) => Awaited::Permits {
                pool: pools[*pool],
                permits: *permits,
            },
            Want::Threads(threads) => Awaited::Threads(threads.clone(), Wanted::Act),
        }
    }
}

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: if cfg!(miri) { 20 } else { 10_000 },
        failure_persistence: None,
        ..Default::default()
    }
}

proptest! {
    #![proptest_config(config())]

    /// A wait is refused if its thread is stuck, and there is a circle to show; and only then.
    #[test]
    fn circles_are_found_by_the_definition(plan in plan()) {
        let locks: Vec<_> = plan.locks.iter().map(|owner| Lock(*owner)).collect();
        let mut state = State::new();
        for thread in (1..=THREADS).filter(|thread| !plan.dead.contains(thread)) {
            state.begin_thread(thread, None);
        }
        let pools: Vec<_> = plan.pools.iter().map(|(free, held)| {
            let number = state.add_pool(None, free + held.values().sum::<usize>());
            for (&holder, &permits) in held {
                assert!(state.pool(number).take(Share { holder, permits }));
            }
            number
        }).collect();
        for (&thread, waits) in &plan.waits {
            for (want, is_timed) in waits {
                // SAFETY: the locks outlive the state.
                let awaited = unsafe { plan.awaited(want, &locks, &pools) };
                let limit = if *is_timed { Limit::Time } else { Limit::NEVER };
                state.push_wait(thread, awaited, limit);
            }
        }
        let stuck = plan.stuck();
        // SAFETY: as above.
        let last = unsafe { plan.awaited(&plan.last, &locks, &pools) };
        // Whom the thread waits for that are stuck, without those that are reached by itself only.
        let mut reached = BTreeSet::new();
        let mut to_visit = vec![1];
        while let Some(from) = to_visit.pop() {
            for to in stuck.iter().copied().filter(|&to| plan.leads(from, to, &stuck)) {
                if to != 1 && reached.insert(to) {
                    to_visit.push(to);
                }
            }
        }
        let comes_back = reached.iter().any(|&other| plan.leads(other, 1, &stuck));
        let Some(report) = circle::find(&state, 1, Some(&last)) else {
            // Or it waits for others that are stuck already, and none of those for it.
            let is_circle = comes_back || plan.leads(1, 1, &stuck);
            prop_assert!(!stuck.contains(&1) || !is_circle, "a circle was missed");
            return Ok(());
        };
        prop_assert!(stuck.contains(&1), "a false alarm");
        let steps = report.steps();
        // What would help nobody to try again is shown only if it is all there is.
        prop_assert_eq!(steps.len() == 1, !comes_back);
        prop_assert_eq!(steps[0].thread, ThreadKey::of(1));
        for (step, next) in steps.iter().zip(steps.iter().cycle().skip(1)) {
            prop_assert_eq!(step.holder, next.thread);
            prop_assert!(stuck.contains(&step.thread.number()));
            prop_assert!(plan.leads(step.thread.number(), step.holder.number(), &stuck));
        }
    }
}
