//! The table: a lock-free hash table of weak links, and the protocol that everything else stands on.
//!
//! # Goals
//!
//! In order: no value is used after its end, and none is kept beyond it. Nobody waits for anybody. A hit
//! costs one shared write, the count's, and allocates nothing. A value that comes and goes costs few
//! read-modify-writes. Growing moves nothing. Given up for this: the table doesn't shrink under sharing, and
//! the memory of dead nodes waits for pinned readers.
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
//! | `splice.rs` | linking bucket words, unlinking them, taking the list apart |
//! | `close.rs` | the last release, and what runs then |
//! | `side.rs`, `hook.rs` | weak handles and callbacks; the drop hook |
//! | `retire.rs`, `pool.rs` | when memory is used again: nodes, tables |
//! | `counter.rs` | the number of entries |
//! | `primitive.rs` | the only switch between `std` and loom |
//!
//! The **order key** of a value is its hash times an odd constant: a bijection, so that equal keys mean equal
//! hashes, and top bits that are good enough to choose a bucket by, whatever the hasher. Nodes with equal
//! keys form a *run*. A word sorts before the nodes with its key.
//!
//! The table itself has no type parameter. `LazyTable<T>`, below, is what an interner or a map owns: a
//! pointer to a table, made when the first value comes, and the type of its values.
//!
//! # An entry's life
//!
//! *Linked*, with one handle, at the end of its key's run. *Live* while it has handles. At zero handles it is
//! *dying*: a finder may still revive it. *Closed* when somebody has moved its count from zero to DEAD, which
//! it never leaves. Then MARKed, unlinked, destroyed, retired, and freed when no pin can see it. The table in
//! `count.rs` has all states.
//!
//! # Operations
//!
//! **Find** (`LazyTable::search`). 1. Pin. 2. Begin at the bucket's word and walk to the first node with the
//! key. 3. Take a count on it, by addition. What comes back says what it is worth: live, hidden, building, or
//! dead. 4. If dead: MARK it, walk on (which unlinks it). Nobody waits for the dying one. 5. Otherwise unpin,
//! and only then compare contents: no reader looks at a value that it doesn't own, and no pin is held while
//! user code runs. 6. Not the one: pin again and go on *behind* it. It is held, so it is linked and its place
//! is still in the run. Then give its count back.
//!
//! **Insert** (`LazyTable::search_or_insert`). As find; where the run ends, make the node. If that runs user
//! code, unpin before, and look again behind what was held. Where the run ends, link the node with one
//! compare-exchange on the last link. Whoever links an equal
//! key does so at the end of the run, so two of them meet at the same link, and the second finds the first.
//! What was seen earlier in the run stays no match: contents don't change, DEAD and HIDDEN are for ever.
//!
//! **Walk** (`Walk::seek`). Harris's rule: a holder is MARKed before it is unlinked, and nobody changes a
//! marked link, so nothing can be linked behind what is going. Every walk unlinks what it finds marked. A
//! compare-exchange that fails shows what the link says instead; if that is marked, the walk begins again.
//! A walk may stop at a word, without touching it, if it has met its key (words sort before their key's
//! nodes), or if it began at its own bucket's word and the table's level, read again after the link, is what
//! it was: then no deeper word is linked in between. In all other cases the word's address says what it
//! sorts before. A walk never begins at a word that is BUSY or MARKed, but at an ancestor.
//!
//! **Release** (`Ref::drop`). 1. Read key, table and generation, while the count is held. 2. Subtract. Not the
//! last: done, without a pin. 3. The last: *the node must not be touched*. Before the next instruction another
//! thread may have revived it, released it, closed it and freed it. 4. Pin; if the table's generation is
//! another, its teardown has closed the node, or left it to somebody. 5. Search for the address (comparing
//! pointers, not looking through them) in the key's run. Not there: somebody else has closed it. 6. Compare and
//! exchange 0 for DEAD on what is there. If that fails, somebody has revived it and owes the next release.
//! If it succeeds, this thread is the *closer*. It may be closing another node than the one that it released,
//! which came to lie at the same address with the same key: then that had no handles either, and its own
//! dropper will find nothing. 7. The closer MARKs and unlinks; if its compare-exchange fails, it walks past
//! the place once more, which unlinks. 8. It takes drop hook and side record, unpins, and runs hook,
//! destructor and callbacks, each even if one before it panicked. The table's header is not touched any more:
//! the destructor may drop the interner. 9. The memory is retired.
//!
//! A destructor may drop other last handles. Their entries go at once. Their values too, except those of a
//! table of which this thread is destroying a value already: they queue on that frame. So the stack is as deep
//! as there are tables, and no value outlives the frame it might borrow from.
//!
//! **Remove** (maps). Sets HIDDEN, holding a count. The node stays linked until its last handle goes, because
//! that release will search for it. Finders give their count back in the ordinary way and look on.
//!
//! **Build** (`WeakMap::get_or_init`). The key is linked in a node that is BUILDING. Finders skip it or wait
//! (`builds.rs`). An inserter of the key doesn't wait (`WeakMap::get_or_insert`): 1. It links its own node, HELD_BACK. 2. It
//! gives the other one up: BUILDING to BUILDING and HIDDEN, one compare-exchange against the builder's, which
//! clears BUILDING. 3. If it won, it publishes its own. If it lost, its own gives way. In this order, a builder
//! that was given up finds the node that came instead, and publishes it if its owner hasn't yet; so does
//! anybody else who meets it and no BUILDING node before it. There is no moment at which both count.
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
//! **Tear down** (exclusive; droppers and weak handles may be there). Take the first item off the list until
//! there is none: MARK, unlink, then set DETACHED. If that found a count of zero that is not DEAD, its dropper
//! will find nothing in the list, and the teardown closes it. Nodes with handles live on; the release that
//! takes a detached count to zero closes without pin or search, because nobody else can: weak handles refuse
//! to revive it. When the list is empty, raise the generation, and give the table back after a grace period.
//!
//! # Orderings
//!
//! | field | written | read | makes visible |
//! |---|---|---|---|
//! | link | `swing` Release, `clear_busy` Release, `mark` Acquire | `load` Acquire, failed `swing` Acquire | the item that is linked, and all it leads to |
//! | count, up | `take` Acquire, `upgrade` Acquire, `clone_handle` Relaxed | | a value that was built after its node was linked (with `finish_building` Release) |
//! | count, down | `release` Release | `try_close`, `unwrap`, `detach`, detached `release`: Acquire | all uses of the value, to its destructor |
//! | count, flags | `finish_building` Release; `detach` AcqRel; the others Relaxed | | the value; the node's being unlinked |
//! | `owner` | `install_side` Release | Acquire | the filled side record |
//! | `level` | `grow`, `lower`, `end_shrink` Release | Acquire | the level's segments; that deeper words are gone |
//! | segment | `install` Release | Acquire | zeroed words |
//! | `generation` | `end_generation` Release | Acquire, pinned | nodes detached |
//! | `Side::node` | `take` Release | Acquire, pinned | |
//! | `callbacks` | `push` Release | swap, Acquire | the callback's record |
//! | batch state | swaps AcqRel | `poll` Acquire | what the other one did with the batch |
//!
//! No `SeqCst` and no fence of ours: the only store-then-load races are those of pinning, which are
//! crossbeam-epoch's.
//!
//! # Reclamation
//!
//! A node is retired by its closer, once, after it was unlinked. A thread that can still reach it was pinned
//! when it was linked: either it read a link to it, or it stands on an item that was unlinked later than it
//! was pinned, whose frozen link leads here. So the epoch that crossbeam-epoch waits for covers every reader.
//! A handle needs no pin: its count keeps the node from being closed.
//! Nothing that is dead stays: the closer doesn't rest before its node is unlinked, and every last release
//! either closes, or has met somebody who closed or revived.
//!
//! Tables are never freed. A dropper that comes late reads the generation, pinned, of a table that may serve
//! another owner by now. If it is still its own, then the table can't change hands before the pin ends.
//!
//! # User code
//!
//! `Hash`, `Eq`, constructors, hooks, destructors and callbacks run with no pin of ours and nothing else held.
//! They may call anything here. While contents are compared the finder holds a count on the entry.
//!
//! # Not guaranteed
//!
//! - That a destructor has run when the drop that took the count to zero returns: another thread may have
//!   revived the value, or be closing it at this moment. When *all* drops of handles of that key have returned,
//!   it has run.
//! - That `len` counts an entry at the very moment it can be found.
//! - That finds are wait-free: a walk begins again when an item that it stands on is unlinked. Each time
//!   somebody else has got on.

mod buckets;
mod close;
mod count;
mod counter;
mod hook;
mod link;
mod node;
mod pool;
pub(crate) mod primitive;
mod retire;
mod side;
mod splice;
mod walk;

use std::marker::PhantomData;
use std::ops::ControlFlow;
use std::ptr::{self, NonNull};

use buckets::Buckets;
use close::FirstPanic;
use counter::Counter;
use hook::{Hook, HookSlot};
use node::Owner;
use primitive::{AtomicPtr, AtomicU32, Ordering, maybe_const_fn};
use splice::Spliced;
use walk::Walk;

pub(crate) use close::Ref;
pub(crate) use count::Found;
pub use node::Internable;
pub(crate) use node::{Building, NewNode, Node, Payload, Seat};
#[cfg(loom)]
pub(crate) use retire::end_thread;
pub(crate) use retire::{Guard, flush, pin};
pub(crate) use side::{Registration, SideRef};

/// Entries a bucket holds on average before the table grows.
const LOAD: usize = if cfg!(any(loom, miri)) { 1 } else { 2 };

/// An odd constant, so that multiplying by it is a bijection; 2^64 over the golden ratio, so that it
/// spreads its input over the top bits.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// `SPREAD * UNSPREAD == 1`.
const UNSPREAD: u64 = {
    // Newton's iteration doubles the number of right bits each time, from the three of any odd number.
    let mut inverse = SPREAD;
    let mut round = 0;
    while round < 5 {
        inverse = inverse.wrapping_mul(2u64.wrapping_sub(SPREAD.wrapping_mul(inverse)));
        round += 1;
    }
    inverse
};

const _: () = assert!(SPREAD.wrapping_mul(UNSPREAD) == 1);

/// The order key of a hash: equal only for equal hashes, and good in its top bits also for a hasher that
/// isn't.
#[inline]
fn key_of_hash(hash: u64) -> u64 {
    hash.wrapping_mul(SPREAD)
}

/// The hash that has this order key.
fn hash_of_key(key: u64) -> u64 {
    key.wrapping_mul(UNSPREAD)
}

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
        // Acquire: pairs with the Release in `end_generation`; who sees that an owner is gone sees its
        // nodes detached.
        self.generation.load(Ordering::Acquire)
    }

    /// Says that the owner is gone. `false` if the table can't have another one.
    fn end_generation(&self) -> bool {
        // Relaxed: only the owner changes it.
        let next = self.generation.load(Ordering::Relaxed) + 1;
        // Release: pairs with the Acquire in `generation`.
        self.generation.store(next, Ordering::Release);
        next < count::GENERATIONS
    }

    /// Makes the table new again. Nobody else looks at more than its generation.
    fn reset(&self) {
        for level in Buckets::all_levels() {
            if let Some(segment) = self.buckets.take_segment(level) {
                // SAFETY: nobody looks at the words.
                unsafe { segment.free() };
            }
        }
        self.buckets.reset();
        self.spliced.lower(0);
        self.entries.reset();
    }

    /// Counts a new entry, and does what the table needs from its writers: grows it, links bucket words.
    #[inline]
    fn admit(&self, guard: &Guard) {
        if self.entries.add() {
            self.tend(guard);
        }
    }

    #[cold]
    fn tend(&self, guard: &Guard) {
        let level = self.buckets.level();
        if self.entries.sum() > level.words() * LOAD {
            self.buckets.grow(level);
        }
        self.splice_ahead(guard);
    }
}

/// A table of values of type `T` that is made when the first one comes.
pub(crate) struct LazyTable<T: ?Sized + Payload> {
    table: AtomicPtr<Table>,
    /// Invariant in `T`: values go in and come out.
    values: PhantomData<fn(&T) -> &T>,
    owned: PhantomData<*const T>,
}

// SAFETY:
// - `T: Send`, because teardown drops values wherever it runs.
// - `T: Sync`, because handles on other threads may lead to the same values.
unsafe impl<T: ?Sized + Payload + Send + Sync> Send for LazyTable<T> {}
// SAFETY: as above; who shares the table gets handles from it.
unsafe impl<T: ?Sized + Payload + Send + Sync> Sync for LazyTable<T> {}

/// What a visitor of `search` says of an entry: that the search is over, or to go on behind it.
pub(crate) type Verdict<R, T> = ControlFlow<R, Ref<T>>;

/// What a search that may insert brings along: the seed of an entry, or the node made from it.
pub(crate) enum Pending<V, T: ?Sized + Payload> {
    Seed(V),
    Node(NewNode<T>),
}

/// How a search that may insert ended.
pub(crate) enum Outcome<V, R, T: ?Sized + Payload> {
    /// The visitor had what it wanted. What was brought along is left over.
    Met(R, Pending<V, T>),
    Inserted(Ref<T>),
}

impl<T: ?Sized + Payload> LazyTable<T> {
    maybe_const_fn! {
        pub(crate) const fn new() -> Self {
            Self {
                table: AtomicPtr::new(ptr::null_mut()),
                values: PhantomData,
                owned: PhantomData,
            }
        }
    }

    #[inline]
    pub(crate) fn get(&self) -> Option<&'static Table> {
        // Acquire: pairs with the Release in `make`; who sees the table sees it ready.
        //
        // SAFETY: tables live for ever.
        unsafe { self.table.load(Ordering::Acquire).as_ref() }
    }

    #[inline]
    fn get_or_make(&self) -> &'static Table {
        match self.get() {
            Some(table) => table,
            None => self.make(),
        }
    }

    #[cold]
    fn make(&self) -> &'static Table {
        let table = pool::take();
        let new = ptr::from_ref(table).cast_mut();
        // Release: pairs with the Acquire in `get`. Acquire on failure: as in `get`.
        match self.table.compare_exchange(
            ptr::null_mut(),
            new,
            Ordering::Release,
            Ordering::Acquire,
        ) {
            Ok(_) => table,
            Err(other) => {
                pool::put_back(table);
                // SAFETY: somebody else's table, which lives for ever.
                unsafe { &*other }
            }
        }
    }

    /// Visits the entries with a hash, until the visitor has what it wants.
    ///
    /// The visitor runs without a pin of ours, and owns a count on what it sees. It may run user code.
    #[inline]
    pub(crate) fn search<R>(
        &self,
        hash: u64,
        mut visit: impl FnMut(Ref<T>, Found) -> Verdict<R, T>,
    ) -> Option<R> {
        let table = self.get()?;
        let key = key_of_hash(hash);
        let mut held = None;
        loop {
            let (entry, found) = table.next_entry(key, held.as_ref(), &pin()).ok()?;
            match visit(entry, found) {
                ControlFlow::Continue(entry) => held = Some(entry),
                ControlFlow::Break(result) => {
                    // Before there is a result that a panic in here would lose.
                    drop(held);
                    return Some(result);
                }
            }
        }
    }

    /// As `search`; if the visitor never has what it wants, `make` turns the seed into a node, which is
    /// inserted.
    ///
    /// `make` is called at most once, without a pin of ours if it runs `user_code`. Its node is dropped if
    /// another thread inserts something meanwhile that satisfies the visitor.
    #[inline]
    pub(crate) fn search_or_insert<V, R>(
        &self,
        hash: u64,
        seed: V,
        mut visit: impl FnMut(&Pending<V, T>, Ref<T>, Found) -> Verdict<R, T>,
        user_code: bool,
        make: impl FnOnce(V, Seat) -> NewNode<T>,
    ) -> Outcome<V, R, T> {
        let table = self.get_or_make();
        let key = key_of_hash(hash);
        let mut held: Option<Ref<T>> = None;
        let mut make = Some(make);
        let mut pending = Pending::Seed(seed);
        loop {
            let guard = pin();
            let mut end = match table.next_entry(key, held.as_ref(), &guard) {
                Err(end) => end,
                Ok((entry, found)) => {
                    drop(guard);
                    match visit(&pending, entry, found) {
                        ControlFlow::Continue(entry) => held = Some(entry),
                        ControlFlow::Break(result) => {
                            // Before there is a result that a panic in here would lose.
                            drop((held, make));
                            return Outcome::Met(result, pending);
                        }
                    }
                    continue;
                }
            };
            let new = match pending {
                Pending::Node(new) => new,
                Pending::Seed(seed) => {
                    let make = make.take().expect("a seed becomes a node once");
                    let seat = Seat { table, key };
                    if !user_code {
                        make(seed, seat)
                    } else {
                        // Not under our pin. Then look again, from where we were.
                        drop(guard);
                        pending = Pending::Node(make(seed, seat));
                        continue;
                    }
                }
            };
            // Nothing can come in between: whoever links an equal key does it here.
            match end.insert(new) {
                Err(new) => pending = Pending::Node(new),
                Ok(node) => {
                    // Others count when they are published.
                    if node.count.read().was_visible() {
                        table.admit(&guard);
                    }
                    // SAFETY: a new node has one count, which is ours.
                    let entry = unsafe { Ref::from_counted(NonNull::from(node)) };
                    drop(guard);
                    drop(held);
                    return Outcome::Inserted(entry);
                }
            }
        }
    }
}

impl Table {
    /// The next entry with this key behind `held`, or from the beginning, with a count taken on it; or
    /// the place where such entries end.
    #[inline]
    fn next_entry<'g, T: ?Sized + Payload>(
        &'static self,
        key: u64,
        held: Option<&'g Ref<T>>,
        guard: &'g Guard,
    ) -> Result<(Ref<T>, Found), Walk<'g>> {
        let mut walk = match held {
            None => Walk::new(self, key, guard),
            Some(held) => Walk::behind(self, held.node(), guard),
        };
        while let Some(node) = walk.seek() {
            match node.count.take() {
                // Its closer may be far from unlinking it. Whoever finds it dead marks it, so that the
                // walk unlinks it and goes on.
                Found::Dead => {
                    node.next.mark();
                }
                // SAFETY: we have taken a count, and the table's nodes are of type `T`.
                found => return Ok((unsafe { Ref::from_counted(NonNull::from(node)) }, found)),
            }
        }
        Err(walk)
    }

    /// The next live entry behind `held`, or the first one, in the order of the list.
    fn next_live<T: ?Sized + Payload>(&'static self, held: Option<&Ref<T>>) -> Option<Ref<T>> {
        let guard = pin();
        let mut node = Walk::first_behind(self, held.map(Ref::node), &guard);
        while let Some(met) = node {
            if met.count.upgrade(true) {
                // SAFETY: we have taken a count, and the table's nodes are of type `T`.
                return Some(unsafe { Ref::from_counted(NonNull::from(met)) });
            }
            node = Walk::first_behind(self, Some(met), &guard);
        }
        None
    }
}

impl<T: ?Sized + Payload> LazyTable<T> {
    /// Publishes an entry that was held back, unless it gave way or somebody else has published it.
    pub(crate) fn publish(&self, entry: &Ref<T>) {
        if entry.node().publish()
            && let Some(table) = self.get()
        {
            table.admit(&pin());
        }
    }

    /// Publishes an entry whose value its caller has just built; `false` if it was given up meanwhile.
    pub(crate) fn publish_built(&self, entry: &Ref<T>) -> bool {
        let published = entry.node().finish_building();
        if published && let Some(table) = self.get() {
            table.admit(&pin());
        }
        published
    }

    /// The live entries.
    pub(crate) fn entries(&self) -> Entries<'_, T> {
        Entries {
            table: self,
            place: Place::Start,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.get().map_or(0, |table| table.entries.sum())
    }

    /// Entries that the buckets are meant for.
    pub(crate) fn capacity(&self) -> usize {
        self.get()
            .map_or(0, |table| table.buckets.level().words() * LOAD)
    }

    /// Grows the table for so many entries in all, and links its bucket words.
    pub(crate) fn reserve(&self, entries: usize) {
        if entries == 0 {
            return;
        }
        assert!(
            entries <= Buckets::MAX_WORDS * LOAD,
            "capacity overflow: {entries} entries"
        );
        let table = self.get_or_make();
        loop {
            let level = table.buckets.level();
            if level.words() * LOAD >= entries {
                break;
            }
            table.buckets.grow(level);
            // The memory can't be had, or the level is the last one.
            if table.buckets.level() == level {
                break;
            }
        }
        table.splice_all();
    }

    /// Gives bucket words back that the present entries don't need.
    pub(crate) fn shrink(&mut self) {
        let Some(table) = self.get() else { return };
        // Exclusive access: no one looks up or inserts.
        for segment in table.unsplice(table.entries.sum().div_ceil(LOAD)) {
            // SAFETY: nobody can reach the words once the present pins are gone; the memory may be
            // freed anywhere.
            unsafe { pin().defer(move || segment.free()) };
        }
    }

    /// Bytes of the table without its entries.
    pub(crate) fn bytes(&self) -> usize {
        self.get()
            .map_or(0, |table| size_of::<Table>() + table.buckets.bytes())
    }

    pub(crate) fn set_hook(&self, f: impl Fn(&T) + Send + Sync + 'static) {
        // SAFETY: the table calls it with its own nodes, while their values are alive.
        let hook = unsafe { Hook::new::<T>(f) };
        self.get_or_make().hook.store(Some(hook));
    }

    pub(crate) fn clear_hook(&self) {
        if let Some(table) = self.get() {
            table.hook.store(None);
        }
    }
}

impl<T: ?Sized + Payload> Drop for LazyTable<T> {
    fn drop(&mut self) {
        let Some(table) = self.get() else { return };
        let mut panics = FirstPanic::default();
        // SAFETY: the table was made for `T`; exclusive access.
        unsafe { table.tear_down::<T>(&mut panics) };
        panics.catch(|| table.hook.store(None));
        pool::recycle(table);
        panics.resume();
    }
}

/// The live entries of a table, one after the other. Between two steps it holds nothing but a handle.
pub(crate) struct Entries<'a, T: ?Sized + Payload> {
    table: &'a LazyTable<T>,
    place: Place<T>,
}

/// How far an iteration has come.
enum Place<T: ?Sized + Payload> {
    Start,
    /// Behind this entry. Our own count on it keeps it linked.
    Behind(Ref<T>),
    End,
}

impl<T: ?Sized + Payload> Iterator for Entries<'_, T> {
    type Item = Ref<T>;

    fn next(&mut self) -> Option<Ref<T>> {
        let table = self.table.get()?;
        let next = match &self.place {
            Place::Start => table.next_live(None),
            Place::Behind(entry) => table.next_live(Some(entry)),
            Place::End => None,
        };
        // The entry before goes here, which may run user code.
        self.place = next.clone().map_or(Place::End, Place::Behind);
        next
    }
}
