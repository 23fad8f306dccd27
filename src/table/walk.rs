//! Walking the list: the one loop that finds, inserts, unlinks and splices stand on.

use super::Table;
use super::buckets::Level;
use super::link::{AtomicLink, Link, Target};
use super::node::{NewNode, Node, NodeRef, Payload};
use super::retire::Guard;

/// Where a walk stands: `link` said `next` when it was read.
///
/// A walk goes towards the run of nodes with one key and stops where that run ends. What is deleted on
/// its way it unlinks. When `seek` has returned `None`, everything in front of the place sorts before the
/// key or has it, everything behind sorts after it, and nothing can come in between without changing `link`.
pub(super) struct Walk<'g> {
    table: &'g Table,
    guard: &'g Guard,
    key: u64,
    origin: Option<NodeRef<'g>>,
    link: &'g AtomicLink,
    next: Link,
    horizon: Horizon,
}

/// Which bucket words end the walk.
#[derive(Clone, Copy)]
enum Horizon {
    /// Any: the walk has met a node with its key, and words sort before the nodes with their key.
    Any,
    /// Any, while the table is at this level: the walk began at the word of its own bucket, and the
    /// next word of that level lies behind the bucket.
    Level(Level),
    /// Those that sort after the key. The walk began at an ancestor and may pass its own bucket.
    Order,
}

impl<'g> Walk<'g> {
    /// Begins at the nearest shortcut.
    #[inline]
    pub(super) fn new(table: &'g Table, key: u64, guard: &'g Guard) -> Self {
        let level = table.buckets.level();
        let start = table.buckets.start(key, level);
        let horizon = if start.own && !level.is_shrinking() {
            Horizon::Level(level)
        } else {
            Horizon::Order
        };
        Self {
            table,
            guard,
            key,
            origin: None,
            link: start.word,
            next: start.link,
            horizon,
        }
    }

    /// Begins behind a node that the caller holds a count on, and so is linked.
    pub(super) fn behind(table: &'g Table, node: NodeRef<'g>, guard: &'g Guard) -> Self {
        let link = &node.get().next;
        let next = link.load();
        debug_assert!(
            !next.is_marked(),
            "a held node of a living table is not deleted"
        );
        let origin = Some(node);
        Self {
            table,
            guard,
            key: node.key,
            origin,
            link,
            next,
            horizon: Horizon::Any,
        }
    }

    #[cold]
    fn restart(&mut self) {
        *self = match self.origin {
            Some(node) => Self::behind(self.table, node, self.guard),
            None => Self::new(self.table, self.key, self.guard),
        };
    }

    /// The next node with the key, in front of which the walk then stands; `None` at the end of the
    /// run.
    #[inline]
    pub(super) fn seek(&mut self) -> Option<NodeRef<'g>> {
        loop {
            // The holder of `link` was deleted under us; what we read may be gone.
            if self.next.is_marked() {
                self.restart();
                continue;
            }
            // SAFETY: `next` was read with Acquire from a holder that we reached under `guard`.
            let target = unsafe { self.next.target() };
            let behind = match target {
                Target::Node(node) => &node.get().next,
                Target::Word(word) if !self.ends_at(word) => word,
                Target::Word(_) | Target::End => return None,
            };
            let beyond = behind.load();
            // The item is deleted: help to unlink it, and look at what comes after.
            if beyond.is_marked() {
                self.swing(beyond);
                continue;
            }
            if let Target::Node(node) = target
                && node.key >= self.key
            {
                return if node.key == self.key {
                    Some(node)
                } else {
                    None
                };
            }
            self.link = behind;
            self.next = beyond;
        }
    }

    /// Goes on behind the node that `seek` answered.
    pub(super) fn pass(&mut self, node: NodeRef<'g>) {
        debug_assert!(self.next.leads_to(node.as_ptr().as_ptr()));
        self.link = &node.get().next;
        self.next = self.link.load();
        self.horizon = Horizon::Any;
    }

    /// The next node with this very address; `None` if the run holds it no more.
    pub(super) fn seek_address(&mut self, address: *const Node) -> Option<NodeRef<'g>> {
        loop {
            let node = self.seek()?;
            if std::ptr::eq(node.as_ptr().as_ptr(), address) {
                return Some(node);
            }
            self.pass(node);
        }
    }

    /// Whether the word sorts after the key, so that the run ends before it.
    #[inline]
    fn ends_at(&mut self, word: &AtomicLink) -> bool {
        match self.horizon {
            Horizon::Any => true,
            // A word of a deeper level can only have been linked by a thread that saw that level. We
            // read the link that leads to it with Acquire, so we would see that level here as well.
            Horizon::Level(level) if self.table.buckets.level() == level => true,
            Horizon::Level(_) => {
                self.horizon = Horizon::Order;
                self.sorts_after(word)
            }
            Horizon::Order => self.sorts_after(word),
        }
    }

    #[cold]
    fn sorts_after(&self, word: &AtomicLink) -> bool {
        // A word whose segment is gone was unlinked meanwhile: it is MARKed, and going on to it makes
        // the walk notice.
        self.table
            .buckets
            .order(word)
            .is_some_and(|order| order > self.key)
    }

    /// Lets `link` lead to the target of `to`. If it has changed, the walk sees what it says instead.
    fn swing(&mut self, to: Link) -> bool {
        match self.link.swing(self.next, to) {
            Ok(next) => {
                self.next = next;
                true
            }
            Err(next) => {
                self.next = next;
                false
            }
        }
    }

    /// Links a node at the end of the run, where `seek` has just answered `None`. Gives it back if
    /// something changed there: then seek again.
    pub(super) fn insert<T: ?Sized + Payload>(
        &mut self,
        new: NewNode<T>,
    ) -> Result<NodeRef<'g>, NewNode<T>> {
        let node = new.as_ptr();
        // SAFETY: the node is ours until the swing.
        unsafe { node.as_ref() }.next.prepare(self.next);
        if !self.swing(Link::to_node(node.as_ptr())) {
            return Err(new);
        }
        // SAFETY: linked just now, so the pin protects it.
        Ok(unsafe { NodeRef::new(new.into_ptr()) })
    }

    /// Links a BUSY bucket word here. `false` if something changed: then seek again.
    pub(super) fn insert_word(&mut self, word: &AtomicLink) -> bool {
        word.prepare_busy(self.next);
        self.swing(Link::to_word(word))
    }

    /// Unlinks a node that was MARKed, if the walk stands in front of it. `false` if it doesn't, or
    /// something changed: then a walk has to pass its place.
    pub(super) fn unlink(&mut self, node: &Node, frozen: Link) -> bool {
        self.next.leads_to(node) && self.swing(frozen)
    }
}

impl Table {
    /// The first node of the list, whatever its key.
    pub(super) fn first_node<'g>(&'g self, guard: &'g Guard) -> Option<NodeRef<'g>> {
        next_behind(self.buckets.root(), guard)
    }
}

/// The node behind one that the caller holds, or has met under this pin, whatever its key.
///
/// Items that are deleted are passed, not unlinked: a frozen link leads forward, and what was linked in front
/// of its target since is younger than the caller's visit.
pub(super) fn next_node<'g>(node: NodeRef<'g>, guard: &'g Guard) -> Option<NodeRef<'g>> {
    next_behind(&node.get().next, guard)
}

fn next_behind<'g>(mut link: &'g AtomicLink, _guard: &'g Guard) -> Option<NodeRef<'g>> {
    loop {
        // SAFETY: read with Acquire from a holder that was reached under the pin, or is held.
        match unsafe { link.load().target() } {
            Target::Node(node) => return Some(node),
            Target::Word(word) => link = word,
            Target::End => return None,
        }
    }
}
