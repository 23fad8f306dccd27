//! What an interner or a map owns: a table, made when the first value comes, and the type of its values.

use std::marker::PhantomData;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::ptr;

use super::buckets::Buckets;
use super::count::Found;
use super::glance::GROUP;
use super::hook::Hook;
use super::key::key_of_hash;
use super::node::{NewNode, Payload, Seat};
use super::primitive::{AtomicPtr, Ordering, maybe_const_fn};
use super::reference::Ref;
use super::retire::{Guard, pin};
use super::walk::{Walk, next_node};
use super::{Table, pool, room, teardown};

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

// A panic leaves nothing half done in a table. What it leaves in a value is seen through a handle.
impl<T: ?Sized + Payload> UnwindSafe for LazyTable<T> {}
impl<T: ?Sized + Payload> RefUnwindSafe for LazyTable<T> {}

/// What a search that may insert brings along: the seed of an entry, or the node made from it.
pub(crate) enum Pending<V, T: ?Sized + Payload> {
    Seed(V),
    Node(NewNode<T>),
}

/// How a search that may insert ended.
pub(crate) enum Outcome<V, T: ?Sized + Payload> {
    /// The visitor accepted this. What was brought along is left over.
    Met(Ref<T>, Found, Pending<V, T>),
    Inserted(Ref<T>),
}

impl<V, T: ?Sized + Payload> Outcome<V, T> {
    /// The entry.
    #[inline]
    pub(crate) fn into_entry(self) -> Ref<T> {
        match self {
            Self::Inserted(entry) => entry,
            Self::Met(entry, _, rest) => {
                // User code, which may panic: the entry isn't yet a result that a panic would lose.
                drop(rest);
                entry
            }
        }
    }
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
    fn get(&self) -> Option<&'static Table> {
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
        // Release: pairs with the Acquire in `get`. Relaxed on failure: `get` reads the other one.
        let made =
            self.table
                .compare_exchange(ptr::null_mut(), new, Ordering::Release, Ordering::Relaxed);
        if made.is_err() {
            pool::put_back(table);
        }
        self.get()
            .expect("a table that was made stays until its owner goes")
    }

    /// The live entry with a hash that is accepted, if the first one with that hash is: what nearly every hit
    /// comes to. Otherwise it means nothing: then search, with the pin that comes back.
    #[inline]
    pub(crate) fn glance(
        &self,
        hash: u64,
        accept: impl FnOnce(&Ref<T>) -> bool,
    ) -> Result<Ref<T>, Guard> {
        let guard = pin();
        let Some(table) = self.get() else {
            return Err(guard);
        };
        let Some(node) = table.glance(key_of_hash(hash), &guard) else {
            return Err(guard);
        };
        let found = node.count.take();
        // SAFETY: the table's nodes are of type `T`.
        let Some(entry) = (unsafe { Ref::from_found(node, found) }) else {
            return Err(guard);
        };
        drop(guard);
        if found.is_live() && accept(&entry) {
            Ok(entry)
        } else {
            drop(entry);
            Err(pin())
        }
    }

    /// The first entry with each of at most `GROUP` hashes, if there is nothing out of the ordinary on the way to it.
    pub(crate) fn glance_all(&self, hashes: &[u64]) -> [Option<(Ref<T>, Found)>; GROUP] {
        let Some(table) = self.get() else {
            return [const { None }; GROUP];
        };
        let mut keys = [0; GROUP];
        for (key, &hash) in keys.iter_mut().zip(hashes) {
            *key = key_of_hash(hash);
        }
        let guard = pin();
        table.glance_all(&keys[..hashes.len()], &guard).map(|node| {
            let node = node?;
            let found = node.count.take();
            // SAFETY: the table's nodes are of type `T`.
            Some((unsafe { Ref::from_found(node, found) }?, found))
        })
    }

    /// The live entry with a hash that is accepted.
    #[inline]
    pub(crate) fn find(&self, hash: u64, accept: impl Fn(&Ref<T>) -> bool) -> Option<Ref<T>> {
        match self.glance(hash, &accept) {
            Ok(entry) => Some(entry),
            Err(guard) => self.find_slow(hash, guard, &accept),
        }
    }

    #[inline(never)]
    fn find_slow(
        &self,
        hash: u64,
        guard: Guard,
        accept: &impl Fn(&Ref<T>) -> bool,
    ) -> Option<Ref<T>> {
        self.search(hash, guard, |entry, found| found.is_live() && accept(entry))
    }

    /// Shows the visitor the entries with a hash, and returns the one that it accepts.
    ///
    /// The visitor runs without a pin, and may run user code. A count is held on what it sees.
    #[inline]
    pub(crate) fn search(
        &self,
        hash: u64,
        mut guard: Guard,
        mut accept: impl FnMut(&Ref<T>, Found) -> bool,
    ) -> Option<Ref<T>> {
        let table = self.get()?;
        let key = key_of_hash(hash);
        let mut held = None;
        loop {
            let next = table.next_entry(key, held.as_ref(), &guard).ok();
            // Before `held` goes, which may have become the last handle.
            drop(guard);
            let (entry, found) = next?;
            if accept(&entry, found) {
                drop(held);
                return Some(entry);
            }
            held = Some(entry);
            guard = pin();
        }
    }

    /// As `search`; if the visitor accepts nothing, `make` turns the seed into a node, which is inserted.
    ///
    /// `make` is called at most once, and `unpinned` if it runs user code. Its node is left over if another
    /// thread meanwhile inserts something that the visitor accepts.
    #[inline]
    pub(crate) fn search_or_insert<V>(
        &self,
        hash: u64,
        mut guard: Guard,
        seed: V,
        mut accept: impl FnMut(&Pending<V, T>, &Ref<T>, Found) -> bool,
        unpinned: bool,
        make: impl FnOnce(V, Seat) -> NewNode<T>,
    ) -> Outcome<V, T> {
        let table = self.get_or_make();
        let key = key_of_hash(hash);
        let mut held = None;
        let mut make = Some(make);
        let mut pending = Pending::Seed(seed);
        loop {
            let mut end = match table.next_entry(key, held.as_ref(), &guard) {
                Err(end) => end,
                Ok((entry, found)) => {
                    drop(guard);
                    if accept(&pending, &entry, found) {
                        drop((held, make));
                        return Outcome::Met(entry, found, pending);
                    }
                    held = Some(entry);
                    guard = pin();
                    continue;
                }
            };
            let new = match pending {
                Pending::Node(new) => new,
                Pending::Seed(seed) => {
                    let make = make.take().expect("a seed becomes a node once");
                    let seat = Seat { table, key };
                    if unpinned {
                        // Then look again, from where we were.
                        drop(guard);
                        pending = Pending::Node(make(seed, seat));
                        guard = pin();
                        continue;
                    }
                    make(seed, seat)
                }
            };
            // Nothing can come in between: whoever links an equal key does it here.
            let visible = new.is_visible();
            match end.insert(new) {
                Err(new) => pending = Pending::Node(new),
                Ok(node) => {
                    // Others count when they are published.
                    if visible {
                        table.admit(&guard);
                    }
                    // SAFETY: a new node has one count, which is ours.
                    let entry = unsafe { Ref::from_counted(node.as_ptr()) };
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
            Some(held) => Walk::behind(self, held.node_ref(), guard),
        };
        while let Some(node) = walk.seek() {
            let found = node.count.take();
            // SAFETY: the table's nodes are of type `T`.
            if let Some(entry) = unsafe { Ref::from_found(node, found) } {
                return Ok((entry, found));
            }
            // Its closer may be far from unlinking it. Whoever finds it dead marks it, so that the walk unlinks it
            // and goes on.
            node.next.mark();
        }
        Err(walk)
    }
}

impl<T: ?Sized + Payload> LazyTable<T> {
    /// Publishes an entry that was held back, unless it gave way or somebody else has published it.
    pub(crate) fn publish(&self, entry: &Ref<T>) {
        if entry.node().publish() {
            self.get_or_make().admit(&pin());
        }
    }

    /// Publishes an entry whose value its caller has just built; `false` if it was given up meanwhile.
    pub(crate) fn publish_built(&self, entry: &Ref<T>) -> bool {
        let published = entry.node().finish_building();
        if published {
            self.get_or_make().admit(&pin());
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
            .map_or(0, |table| room(table.buckets.level().words()))
    }

    /// Grows the table for so many entries in all, and links its bucket words.
    pub(crate) fn reserve(&self, entries: usize) {
        if entries == 0 {
            return;
        }
        assert!(
            entries <= room(Buckets::MAX_WORDS),
            "capacity overflow: {entries} entries"
        );
        let table = self.get_or_make();
        let mut level = table.buckets.level();
        while room(level.words()) < entries {
            table.buckets.grow(level);
            let now = table.buckets.level();
            if now == level {
                // The memory can't be had.
                break;
            }
            level = now;
        }
        table.splice_all();
    }

    /// Gives bucket words back that the present entries don't need.
    pub(crate) fn shrink(&mut self) {
        let Some(table) = self.get() else { return };
        // Exclusive access: no one looks up or inserts.
        for segment in table.unsplice(table.entries.sum()) {
            let guard = pin();
            // SAFETY: nobody can reach the words once the present pins are gone; the memory may be
            // freed anywhere.
            unsafe { guard.defer(move || segment.free()) };
        }
    }

    /// Bytes of the table without its entries.
    pub(crate) fn bytes(&self) -> usize {
        self.get().map_or(0, |table| {
            size_of::<Table>() + table.buckets.bytes() + table.entries.bytes()
        })
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
        if let Some(table) = self.get() {
            // SAFETY: this was its owner.
            unsafe { teardown::tear_down(table) };
        }
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

impl<T: ?Sized + Payload> Entries<'_, T> {
    fn next_live(&self) -> Option<Ref<T>> {
        let table = self.table.get()?;
        let guard = pin();
        let mut node = match &self.place {
            Place::Start => table.first_node(&guard),
            Place::Behind(entry) => next_node(entry.node_ref(), &guard),
            Place::End => None,
        };
        while let Some(met) = node {
            // SAFETY: the table's nodes are of type `T`.
            let entry = unsafe { Ref::from_found(met, met.count.take_if_visible()) };
            if entry.is_some() {
                return entry;
            }
            node = next_node(met, &guard);
        }
        None
    }
}

impl<T: ?Sized + Payload> Iterator for Entries<'_, T> {
    type Item = Ref<T>;

    fn next(&mut self) -> Option<Ref<T>> {
        let next = self.next_live();
        // The entry before goes here, which may run user code.
        self.place = next.clone().map_or(Place::End, Place::Behind);
        next
    }
}
