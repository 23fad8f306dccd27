//! Waits of processes for each other that would never end.
//!
//! The rows of a store are a wait-for graph: an owner that waits for a key waits for all who hold it and who stand before it
//! there, as far as they are in its way, or for one permit. The walker of [`sync::deadlock`](crate::sync::deadlock) looks
//! for a circle in it. Leases that aren't renewed end by themselves, and so do waits with a time limit: they keep nobody.
//! What is held or wanted in the name of no owner keeps nobody either, as far as one can tell. The ancestors of an owner wait
//! for it, as long as it waits itself.
//!
//! The owner whose wait has closed the circle is told, which is the one with the greatest ticket, and the others aren't.
//! Everybody looks at one snapshot of all rows, so whoever waits last finds the circle, if nobody has before.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;

use super::lease::Lease;
use super::owner::Owner;
use super::status::ProcessStatus;
use super::store::{Holder, Listing, Waiter, Want};
use crate::sync::deadlock::Waits;

/// Owners that wait for each other.
///
/// # Examples
///
/// ```
/// use hapax::coord::{CoordError, Lock, MemoryStore, Owner};
///
/// let store = MemoryStore::new();
/// let me = Owner::new();
/// let lock = Lock::new(&store, "reports").owned_by(&me);
/// let _guard = lock.lock()?;
/// let Err(CoordError::Deadlock { circle, .. }) = lock.lock() else { unreachable!() };
/// assert_eq!(circle.steps().len(), 1);
/// assert_eq!(circle.steps()[0].owner, me);
/// assert_eq!(circle.steps()[0].key, "reports");
/// # Ok::<_, CoordError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Circle {
    steps: Vec<CircleStep>,
}

/// An owner of a [`Circle`], and what it waits for.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CircleStep {
    /// The owner that waits.
    pub owner: Owner,
    /// A process that waits in its name.
    pub process: ProcessStatus,
    /// The key that it waits for, which the owner of the next step holds or waits for before it; that of the last step
    /// is the one of the first.
    pub key: String,
}

impl Circle {
    /// The circle. It begins with the owner whose wait was refused.
    ///
    /// # Examples
    ///
    /// See [`Circle`].
    pub fn steps(&self) -> &[CircleStep] {
        &self.steps
    }
}

impl fmt::Display for Circle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, step) in self.steps.iter().enumerate() {
            let then = if number == 0 {
                ""
            } else {
                ", which one has or wants before that waits for "
            };
            write!(f, "{then}`{}`", step.key.escape_debug())?;
        }
        f.write_str(if self.steps.len() == 1 {
            ", held in its own name or that of an ancestor"
        } else {
            ", which the first has or wants before"
        })
    }
}

impl Error for Circle {}

/// The circle that a waiter has closed, if it has.
pub(super) fn find(listing: &Listing, ticket: u64) -> Option<Circle> {
    let graph = Graph::of(listing);
    let waiter = listing
        .waiters
        .iter()
        .find(|waiter| waiter.ticket == ticket)?;
    let owner = owner_of_waiter(waiter)?;
    let nodes = graph.waits.circle_of(graph.number(owner))?;
    let next = nodes.iter().cycle().skip(1);
    let edges = nodes
        .iter()
        .zip(next)
        .map(|(&from, &to)| graph.edges.get(&(from, to)));
    // Those of ancestors for what is done for them are waits for no key.
    let waits: Vec<_> = edges.filter_map(|edge| edge.copied().flatten()).collect();
    let last = waits.iter().map(|waiter| waiter.ticket).max();
    (last == Some(ticket)).then(|| Circle {
        steps: waits
            .into_iter()
            .map(|waiter| step(listing, waiter))
            .collect(),
    })
}

fn step(listing: &Listing, waiter: &Waiter) -> CircleStep {
    let owner = waiter.ask.owner.clone();
    let session = listing.sessions.iter().find(|row| row.id == waiter.session);
    CircleStep {
        owner: owner.expect("only owners wait for each other"),
        process: super::session::process(session),
        key: waiter.ask.key.as_ref().to_owned(),
    }
}

struct Graph<'a> {
    /// By the numbers of owners.
    nodes: BTreeMap<u128, u64>,
    waits: Waits,
    /// By which wait for a key one waits for another, if by one.
    edges: BTreeMap<(u64, u64), Option<&'a Waiter>>,
}

impl<'a> Graph<'a> {
    fn of(listing: &'a Listing) -> Self {
        let held = listing.holders.iter().filter_map(owner_of_holder);
        let wanted = listing.waiters.iter().filter_map(owner_of_waiter);
        let mut nodes = BTreeMap::new();
        for number in held.chain(wanted).flat_map(Owner::lineage) {
            let next = nodes.len() as u64 + 1;
            nodes.entry(*number).or_insert(next);
        }
        // One more stands for all who go on by themselves.
        let waits = Waits::among(nodes.len() as u64 + 1);
        let edges = BTreeMap::new();
        let mut graph = Self {
            nodes,
            waits,
            edges,
        };
        let mut permits = BTreeMap::new();
        for (at, waiter) in listing.waiters.iter().enumerate() {
            let Some(owner) = owner_of_waiter(waiter) else {
                continue;
            };
            let node = graph.number(owner);
            graph.add_ancestors(owner);
            match waiter.ask.want {
                Want::Permit { limit } => {
                    graph.add_permit(listing, waiter, node, limit, &mut permits);
                }
                Want::Exclusive | Want::Shared => graph.add_lock(listing, at, waiter, node),
            }
        }
        graph
    }

    fn add_ancestors(&mut self, owner: &Owner) {
        for pair in owner.lineage().windows(2) {
            let (child, parent) = (self.nodes[&pair[0]], self.nodes[&pair[1]]);
            if self.edges.insert((parent, child), None).is_none() {
                self.waits.wait_for(parent, child);
            }
        }
    }

    fn add_lock(&mut self, listing: &'a Listing, at: usize, waiter: &'a Waiter, node: u64) {
        let is_in_the_way = |key: &str, want| {
            key == &*waiter.ask.key
                && (want == Want::Exclusive || waiter.ask.want == Want::Exclusive)
        };
        for holder in &listing.holders {
            if is_in_the_way(&holder.ask.key, holder.ask.want) {
                self.add(waiter, node, owner_of_holder(holder));
            }
        }
        for before in &listing.waiters[..at] {
            if is_in_the_way(&before.ask.key, before.ask.want) {
                self.add(waiter, node, owner_of_waiter(before));
            }
        }
    }

    fn add(&mut self, waiter: &'a Waiter, node: u64, owner: Option<&Owner>) {
        let holder = self.number_of(owner);
        self.waits.wait_for(node, holder);
        self.edges.entry((node, holder)).or_insert(Some(waiter));
    }

    fn add_permit(
        &mut self,
        listing: &'a Listing,
        waiter: &'a Waiter,
        node: u64,
        limit: u32,
        pools: &mut BTreeMap<&'a str, u64>,
    ) {
        let holders = listing
            .holders
            .iter()
            .filter(|holder| holder.ask.key == waiter.ask.key);
        let holders: Vec<_> = holders
            .map(|holder| self.number_of(owner_of_holder(holder)))
            .collect();
        let pool = *pools.entry(&waiter.ask.key).or_insert_with(|| {
            let pool = self
                .waits
                .add_permits((limit as usize).saturating_sub(holders.len()));
            holders
                .iter()
                .for_each(|holder| self.waits.hold_permit(pool, *holder));
            pool
        });
        self.waits.wait_for_permit(node, pool);
        for holder in holders {
            self.edges.entry((node, holder)).or_insert(Some(waiter));
        }
    }

    fn number(&self, owner: &Owner) -> u64 {
        self.nodes[&owner.number()]
    }

    /// The same, or the number of all who go on by themselves.
    fn number_of(&self, owner: Option<&Owner>) -> u64 {
        owner.map_or(self.nodes.len() as u64 + 1, |owner| self.number(owner))
    }
}

/// Who has to let go, unless the lease ends by itself.
fn owner_of_holder(holder: &Holder) -> Option<&Owner> {
    let ends = matches!(holder.ask.lease, Lease::Fixed(_));
    holder.ask.owner.as_ref().filter(|_| !ends)
}

/// Who has to be granted it, unless the wait ends by itself.
fn owner_of_waiter(waiter: &Waiter) -> Option<&Owner> {
    waiter.ask.owner.as_ref().filter(|_| waiter.ask.is_endless)
}
