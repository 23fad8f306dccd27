//! Tables out of use. A table's memory is never given back to the allocator, so that its address and a generation
//! name one owner for ever.

use std::ptr;

use super::Table;
use super::primitive::{AtomicPtr, Ordering, global};
use super::retire::{Guard, pin};

global! { fn pool() -> Pool = Pool::new() }

/// A stack of tables.
///
/// A table comes back only after a grace period, and is taken under a pin. So a table that a taker sees
/// on top can't leave and come back under it, and its `below` is what it was.
struct Pool {
    top: AtomicPtr<Table>,
}

impl Pool {
    super::primitive::maybe_const_fn! {
        const fn new() -> Self {
            Self { top: AtomicPtr::new(ptr::null_mut()) }
        }
    }

    /// Takes the table on top.
    fn take(&self, _guard: &Guard) -> Option<&'static Table> {
        // Acquire: pairs with the Release in `put`; who takes a table sees it reset.
        let mut top = self.top.load(Ordering::Acquire);
        loop {
            // SAFETY: tables live for ever.
            let table: &'static Table = unsafe { top.as_ref()? };
            // Relaxed: written before the Release in `put`.
            let below = table.below.load(Ordering::Relaxed);
            // Relaxed on success: the table was read with Acquire. The new top was put by a thread whose Release
            // this chain of read-modify-writes carries on. Acquire on failure: as above.
            match self
                .top
                .compare_exchange(top, below, Ordering::Relaxed, Ordering::Acquire)
            {
                Ok(_) => return Some(table),
                Err(now) => top = now,
            }
        }
    }

    #[cfg(any(loom, shuttle))]
    fn take_exclusive(&mut self) -> Option<&'static Table> {
        // Relaxed: exclusive access.
        let top = self.top.load(Ordering::Relaxed);
        // SAFETY: tables live until their pool ends.
        let table: &'static Table = unsafe { top.as_ref()? };
        self.top
            .store(table.below.load(Ordering::Relaxed), Ordering::Relaxed);
        Some(table)
    }

    fn put(&self, table: &'static Table) {
        // Relaxed: the compare-exchange decides.
        let mut top = self.top.load(Ordering::Relaxed);
        loop {
            // Relaxed: published by the compare-exchange.
            table.below.store(top, Ordering::Relaxed);
            let new = ptr::from_ref(table).cast_mut();
            // Release: pairs with the Acquire in `take`. Relaxed on failure: only compared.
            match self
                .top
                .compare_exchange_weak(top, new, Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) => return,
                Err(now) => top = now,
            }
        }
    }
}

/// Models and scenarios make their tables by the million.
#[cfg(any(loom, shuttle))]
impl Drop for Pool {
    fn drop(&mut self) {
        while let Some(table) = self.take_exclusive() {
            // SAFETY: `take` got it from a box, and the run is over.
            drop(unsafe { Box::from_raw(ptr::from_ref(table).cast_mut()) });
        }
    }
}

/// A table that nobody uses: an old one, or a new one.
pub(super) fn take() -> &'static Table {
    if let Some(table) = pool().take(&pin()) {
        return table;
    }
    let table: &'static Table = Box::leak(Box::new(Table::new()));
    table.buckets.lay_out();
    table
}

/// Gives a table back that nobody has used.
pub(super) fn put_back(table: &'static Table) {
    let pool = pool();
    after_grace(move || pool.put(table));
}

/// Gives an empty table back whose owner is gone. Closers may still be looking around in it.
pub(super) fn recycle(table: &'static Table) {
    let pool = pool();
    after_grace(move || {
        table.reset();
        pool.put(table);
    });
}

/// As `recycle`, for a table whose generations are used up: it stays unused for ever. That is one in a
/// million.
pub(super) fn abandon(table: &'static Table) {
    after_grace(move || table.reset());
}

/// Calls `f` when nobody is left who closed a node of the table before it was detached.
fn after_grace(f: impl FnOnce() + Send + 'static) {
    let guard = pin();
    // SAFETY: the function may run on any thread, at any time.
    unsafe { guard.defer(f) };
    // Not to wait in a bag of this thread: the table's segments may be large.
    guard.flush();
}
