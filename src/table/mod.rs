//! The table: a lock-free hash table of weak links, and the protocol that everything else stands on.
//!
//! # Goals
//!
//! In order: no value is used after its end, and none is kept beyond it. Nobody waits for anybody. A hit costs one
//! shared write, the count's, and allocates nothing. A value that comes and goes costs few read-modify-writes, and
//! lies where another one lay before. Growing moves nothing. Given up for this: the table doesn't shrink under
//! sharing, and the memory of dead nodes waits for pinned readers.
//!
//! # Layout
//!
//! All nodes of a table hang in one list, ordered by key. A *bucket word* is a shortcut into it: a link that
//! hangs in the list itself, in front of the nodes of its bucket (Shalev and Shavit, *Split-Ordered Lists:
//! Lock-Free Extensible Hash Tables*, 2006; the list is Michael's, *High Performance Dynamic Lock-Free Hash
//! Tables and List-Based Sets*, 2002).
//!
//! ```text
//!  root ──▶ node ──▶ node ──▶ word ──▶ node ──▶ word ──▶ word ──▶ node ──▶ node ──▶ end
//!  bucket 0                   bucket 1          bucket 2 bucket 3
//! ```
//!
//! | file | concept |
//! |---|---|
//! | `link.rs` | the packed link word: target, MARK, BUCKET, BUSY |
//! | `count.rs` | the packed count word and its state table |
//! | `node.rs` | the heap node: header, and behind it the value |
//! | `buckets.rs` | where bucket words lie, which of them there are |
//! | `walk.rs` | the one loop that goes through the list |
//! | `splice.rs` | linking bucket words, unlinking them |
//! | `glance.rs` | what nearly every look-up comes to, of one key or of several side by side |
//! | `lazy.rs` | an owner's table and its type: search, insert, iterate |
//! | `reference.rs` | the counted reference that handles are made of |
//! | `close.rs` | the last release, and what runs then |
//! | `teardown.rs` | taking a table apart, and giving it back |
//! | `side.rs`, `hook.rs` | weak handles and callbacks; the drop hook |
//! | `retire.rs`, `pool.rs` | when memory is used again: nodes, tables |
//! | `key.rs` | order keys |
//! | `counter.rs`, `slot.rs` | the number of entries; a number for each thread |
//! | `prefetch.rs` | asking for memory ahead |
//! | `panics.rs` | going on after a panic, and passing the first one on |
//! | `primitive/` | the only switch of primitives between `std`, loom and shuttle; some sizes differ in place |
//!
//! The **order key** of a value is its hash times an odd constant: a bijection, so that equal keys mean equal
//! hashes, and top bits that are good enough to choose a bucket by, whatever the hasher. Nodes with equal
//! keys form a *run*. A word sorts before the nodes with its key.
//!
//! The table itself has no type parameter. `LazyTable<T>` is what an interner or a map owns: a
//! pointer to a table, made when the first value comes, and the type of its values.
//!
//! # An entry's life
//!
//! *Linked*, with one handle, at the end of its key's run. *Live* while it has handles. At zero handles it is
//! *dying*: a finder may still revive it. *Closed* when somebody has moved its count to DEAD, which it never
//! leaves: from zero, or from the one handle that `try_unwrap` has. Then MARKed, unlinked, destroyed, retired, and
//! freed when no pin can see it. The table in `count.rs` has all states.
//!
//! # Operations
//!
//! **Find** (`LazyTable::search`; `LazyTable::glance` is its first round without the exceptions). 1. Pin. 2. Begin
//! at the bucket's word and walk to the first node with the key. 3. Take a count on it, by addition. What comes
//! back says what it is worth: live, hidden, building, or dead. 4. If dead: MARK it, walk on (which unlinks it).
//! Nobody waits for the dying one. 5. Otherwise unpin, and only then compare contents: no reader looks at a value
//! that it doesn't own, and no pin is held while user code runs; what a search holds is dropped after its pin, too.
//! A glance that finds nothing leaves its pin to the search or insert that follows. 6. Not the one: pin again and
//! go on *behind* it. It is held, so it is linked and its place is still in the run. Then give its count back.
//!
//! **Insert** (`LazyTable::search_or_insert`). As find; where the run ends, make the node. If that runs user
//! code, unpin before, and look again behind what was held. Link the node with one compare-exchange on the
//! last link. Whoever links an equal key does so at the end of the run, so two of them meet at the same link,
//! and the second finds the first. What was seen earlier in the run stays no match: contents don't change,
//! DEAD and HIDDEN are for ever, and who met something unpublished looks again (below).
//!
//! **Walk** (`Walk::seek`). Harris's rule: a holder is MARKed before it is unlinked, and nobody changes a
//! marked link, so nothing can be linked behind what is going. Every walk unlinks what it finds marked. A
//! compare-exchange that fails shows what the link says instead; if that is marked, the walk begins again.
//! A walk may stop at a word, without touching it, if it has met its key (words sort before their key's
//! nodes), or if it began at its own bucket's word and the table's level, read again after the link, is what
//! it was: then no deeper word is linked in between. In all other cases the word's address says what it
//! sorts before. A walk never begins at a word that is BUSY or MARKed, but at an ancestor.
//!
//! **Release** (`Ref::drop`):
//!
//! 1. Subtract. Not the last: done. Nothing else of the node was read, so that threads which share a value take its
//!    line from each other once, not twice. (A tagged reference holds no count: done before.)
//! 2. The last makes its thread the node's *closer* (`release_last`). Nobody else closes the node before the closer
//!    has looked at it again, so it is there to be looked at, whatever others do with it meanwhile.
//! 3. Pin, and look (`AtomicCount::close`): one compare-exchange. If the count is zero still: to DEAD. If somebody
//!    has revived the node, the closer *resigns*: it toggles CLOSING and leaves.
//! 4. If the node isn't DETACHED, find its place, MARK it and unlink it (`Table::take_out`); if that fails, walk
//!    past the place once more, which unlinks. Finders that met it dead, or the teardown, may have been faster.
//! 5. Take drop hook and side record, unpin, and run hook, destructor and callbacks, each even if one before
//!    it panicked (`Dying::run`). The table is not touched any more: the destructor may drop the interner.
//! 6. Retire the memory.
//!
//! A reviver, who takes the count up from zero, toggles CLOSING as well, unless it is set. So the second of reviver
//! and resigning closer clears what the first has set. Until the reviver has done that, it holds its count. So a
//! release that takes the count to zero again sees by CLOSING whether that closer is still to come: then it leaves
//! the zero to it. There is one closer at a time. The one exception: `try_unwrap` closes a node by its only handle,
//! which needs no closer; but it does not if one is to come.
//!
//! A destructor may drop other last handles. Their entries go at once. Their values too, except those of a
//! table of which this thread is destroying a value already: they queue on that frame. So the stack is as deep
//! as there are tables, and no value outlives the frame it might borrow from.
//!
//! **Immortalize** (`Ref::immortalize`). Exchanges a count that is held for a bias that no number of handles comes
//! near. From here on the count never comes to zero. Whoever sees the bias needs no count: the reference that it gets
//! is tagged, and its clones and drops touch nothing. References from before go on counting.
//!
//! **Find many** (`Table::glance_all`). The glances of several keys under one pin, a step of each in turn, so that what
//! each is going to touch is asked for while the others have theirs. Whatever isn't simply there is searched for by
//! itself. Words that are about to be spliced find their places in the same way.
//!
//! **Tear down** (exclusive; droppers and weak handles may be there). Take the first item off the list until there
//! is none: MARK, unlink, then set DETACHED. Nodes with handles live on, and end by their closers as others do, who
//! leave the list alone if they see DETACHED. Who doesn't see it was pinned before it was set, and the table waits.
//! When the list is empty, raise the generation, and give the table back after a grace period.
//!
//! **Remove** (maps). Sets HIDDEN, holding a count. The node stays linked until its last handle goes, because
//! that release will search for it. Finders give their count back in the ordinary way and look on. So the
//! look-ups of a key pass all its removed entries that still have handles.
//!
//! **Build** (`WeakMap::get_or_init`). The key is linked in a node that is BUILDING. Finders skip it or wait
//! (`builds.rs`). An inserter of the key doesn't wait (`WeakMap::get_or_insert`): 1. It links its own node,
//! HELD_BACK. 2. It gives the other one up: BUILDING to BUILDING and HIDDEN, one compare-exchange against the
//! builder's, which clears BUILDING. 3. If it won, it publishes its own. If it lost, its own gives way. In this
//! order, a builder that was given up finds the node that came instead, and publishes it if its owner hasn't yet;
//! so does anybody else who meets it and no BUILDING node before it. There is no moment at which both count. Those
//! who wait for the builder learn of it when the builder ends: an inserter takes no lock to wake them.
//!
//! **Grow**. Install the next segment, zeroed; then raise the level. **Splice** a word: claim it, 0 to BUSY; walk
//! to its place from an ancestor; let it lead to what comes there; link it by compare-exchange; clear BUSY, by
//! a read-modify-write, since others may have linked something behind it meanwhile. Nobody waits for the
//! claimer. Readers don't splice.
//!
//! **Shrink** (exclusive; only droppers may be there). Lower the level by one, SHRINKING: from here on no walk
//! trusts the level. MARK and unlink the words of the deeper level, as if they were nodes. So on until it fits;
//! then clear SHRINKING, and retire the segments. The level counts its shrinks, so that no walk takes a later
//! level for its own.
//!
//! # Orderings
//!
//! | field | written | read | makes visible |
//! |---|---|---|---|
//! | link | `swing` Release, `clear_busy` Release, `mark` Acquire | `load` Acquire, failed `swing` Acquire | the item that is linked, and all it leads to |
//! | count, up | `take`, `take_unless` Acquire, `clone_handle` Relaxed | | a value that was built after its node was linked (with `finish_building` Release) |
//! | count, down | `release` Release | `close`, `close_sole` Acquire | all uses of the value, to its destructor |
//! | | | `take`, `read` Acquire | the value of an entry that was given up, which `finish_hidden` carries on |
//! | count, flags | `finish_building` Release | `take`, `give_up`, `read` Acquire | the value that was built |
//! | | `give_up` Release | `take` Acquire | the node that was linked instead |
//! | | `detach` Release | `close`, `close_sole` Acquire | that the node is unlinked |
//! | `owner` | `install_side` Release | Acquire | the filled side record |
//! | `level` | `end_shrink` Release | Acquire | that deeper words are gone |
//! | segment | `install` Release | Acquire | zeroed words; zeroed places of a counter |
//! | slots taken | `give_back` Release | `take` Acquire | what the slot's last owner counted |
//! | `callbacks` | `push` Release | swap, Acquire | the callback's record |
//! | batch state | swaps AcqRel | `poll` Acquire | what the other one did with the batch |
//! | `LazyTable::table` | `make` Release | Acquire | the table |
//! | `Pool::top` | `put` Release | `take` Acquire | the table, reset |
//! | `Side::holders` | AcqRel | | all uses of the record, to its end |
//!
//! Everything else is Relaxed: counters, hints, and flags that decide who owns something that was published
//! with something else.
//!
//! No `SeqCst` and no fence of ours: the only store-then-load races are those of pinning, which are
//! crossbeam-epoch's.
//!
//! # Reclamation
//!
//! A node is retired by its closer, once, after it was unlinked. A thread that can still reach it was pinned when
//! it was linked: either it read a link to it, or it stands on an item that was unlinked later than it was pinned,
//! whose frozen link leads here. So the epoch that crossbeam-epoch waits for covers every reader. A handle needs no
//! pin: its count keeps the node from being closed. Nor does a closer from its decrement to its look: nobody else
//! closes the node. It pins before it looks, because its look may be what lets another one be the closer. Nothing
//! that is dead stays: the closer doesn't rest before its node is unlinked, and every zero has a closer.
//!
//! Tables are never freed. A closer that comes late touches its table only if it has closed its node before that
//! was DETACHED, under a pin for which the table waits before it serves another owner. The generation tells a
//! thread which destroys a value of one owner that the next value is of another one. The link to a node in a side
//! record needs no ordering of its own: what was written before something was deferred is seen by whoever pins and
//! isn't waited for, as with the links of the list.
//!
//! # User code
//!
//! `Hash`, `Eq`, constructors, hooks, destructors and callbacks run with no pin of ours and nothing else held, unless
//! the thread has a session open, which is a pin.
//! They may call anything here. While contents are compared the finder holds a count on the entry.
//!
//! # Not guaranteed
//!
//! - That a destructor has run when the drop that took the count to zero returns: another thread may have revived
//!   the value, or be closing it at this moment, or be the closer that has still to look. When *all* drops of
//!   handles of that key have returned, it has run.
//! - That `len` counts an entry at the very moment it can be found.
//! - That finds are wait-free: a walk begins again when an item that it stands on is unlinked. Each time
//!   somebody else has got on.

mod buckets;
mod close;
mod count;
mod counter;
mod glance;
mod hook;
mod key;
mod lazy;
mod link;
mod node;
mod panics;
mod pool;
mod prefetch;
pub(crate) mod primitive;
mod reference;
mod retire;
mod side;
mod slot;
mod splice;
mod teardown;
mod walk;

use std::ptr;

use buckets::Buckets;
use count::Count;
use counter::Counter;
use hook::HookSlot;
use primitive::{AtomicPtr, AtomicU32, Ordering};
use splice::Spliced;

#[cfg(test)]
pub(crate) use count::expect_overflow;
pub(crate) use count::{Found, overflow};
pub(crate) use glance::GROUP;
pub(crate) use key::key_of_hash;
pub(crate) use lazy::{Entries, LazyTable, Outcome, Pending};
pub use node::Internable;
pub(crate) use node::{Building, NewNode, Node, Payload, Seat};
#[cfg(feature = "coord")]
pub(crate) use panics::contain;
pub(crate) use panics::{FirstPanic, wake_tasks};
pub(crate) use reference::Ref;
#[cfg(loom)]
pub(crate) use retire::end_thread;
pub(crate) use retire::{Guard, flush, is_pinned, pin};
pub(crate) use side::{Registration, SideRef};
#[cfg(loom)]
pub(crate) use slot::begin_thread;

/// The number of entries from which on a table with so many bucket words grows.
///
/// The smaller a table, the less its words cost, and the more a step through the list does beside a line that is in
/// the cache. So small ones have half an entry a bucket, larger ones one, and large ones two.
const fn room(words: usize) -> usize {
    if cfg!(any(loom, shuttle, miri)) {
        return words;
    }
    match words {
        ..SMALL => words / 2,
        SMALL..LARGE => words,
        LARGE.. => 2 * words,
    }
}

/// Bucket words from which on a table isn't small any more: 256 KiB of them.
const SMALL: usize = 1 << 15;

/// Bucket words of a table that is large: 2 MiB of them.
const LARGE: usize = 1 << 18;

/// The part of a table that knows nothing of its values' type. Lives for ever, serves one owner after the
/// other.
#[derive(Debug)]
pub(crate) struct Table {
    buckets: Buckets,
    /// How many owners this table has had. Invariant: below `GENERATIONS` while it has one.
    generation: AtomicU32,
    spliced: Spliced,
    hook: HookSlot,
    /// The next table in the pool.
    below: AtomicPtr<Table>,
    entries: Counter,
}

impl Table {
    fn new() -> Self {
        Self {
            buckets: Buckets::new(),
            generation: AtomicU32::new(0),
            spliced: Spliced::new(),
            hook: HookSlot::new(),
            below: AtomicPtr::new(ptr::null_mut()),
            entries: Counter::new(),
        }
    }

    #[inline]
    fn generation(&self) -> u32 {
        // Relaxed: only owners ask, and each got the table after the one before had changed it.
        self.generation.load(Ordering::Relaxed)
    }

    /// Counts a new entry, and does what the table needs from its writers: grows it, links bucket words.
    #[inline]
    fn admit(&self, guard: &Guard) {
        if self.entries.add() {
            self.tend(guard);
        }
    }

    /// Counts an entry out that was closed, if it was counted.
    fn discount(&self, closed: Count) {
        if closed.was_visible() {
            self.entries.subtract();
        }
    }

    #[cold]
    fn tend(&self, guard: &Guard) {
        let level = self.buckets.level();
        if self.entries.sum() > room(level.words()) {
            self.buckets.grow(level);
        }
        self.splice_ahead(guard);
    }
}
