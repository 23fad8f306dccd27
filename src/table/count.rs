//! The packed count word of a node.
//!
//! One word carries the number of strong handles, six flags, and the generation of the table that the
//! node was made for:
//!
//! ```text
//!   63     62        61       60        59         58      57 ........ 20   19 ....... 0
//!  DEAD  DETACHED  HIDDEN  BUILDING  HELD_BACK  CLOSING    strong handles    generation
//! ```
//!
//! An *immortal* entry has 2^37 handles more than count. That is above any real number, and below the flags, so that
//! handles which don't know that they needn't count go on counting, up and down. Those that know don't touch the
//! word: each has given its count back, or never took one.
//!
//! The release that takes the count to zero makes its thread the node's *closer*: it looks at the node once more,
//! and nobody else closes it before, so that there is a node to look at. If the count is zero still, it closes. If
//! somebody has revived the node, it *resigns*. CLOSING tells the others that a closer is still to come. Reviver
//! and resigning closer each toggle it: the second of them clears what the first has set. The reviver holds a count
//! until then, so whoever takes the count to zero again finds the flag settled.
//!
//! The word is born with one handle. Every combination that occurs (`?`: set or not):
//!
//! ```text
//! flags               handles | meaning                                   | left by
//! -                      > 0  | live: `find` may take a count             | last release; `remove`; `try_unwrap`
//! -                        0  | dying: its closer is about to look        | its closer, to DEAD; a find or
//!                             |                                           |   a weak upgrade revives it
//! CLOSING, ?             > 0  | revived, and its closer hasn't looked yet | its closer resigns; last release
//!                             |   (or has, and its reviver is about to    |
//!                             |   clear the flag)                         |
//! CLOSING, ?               0  | as without: that closer sees to it        | as without
//! BUILDING               any  | key without value: finders of the key     | its builder clears it;
//!                             |   skip it or wait                         |   `get_or_insert` hides it
//! BUILDING, HIDDEN       any  | given up for another entry of the key     | last release; its builder may
//!                             |                                           |   complete it: BUILDING goes
//! HELD_BACK              any  | value, not published: an entry before it  | anybody who sees that one given
//!                             |   is BUILDING, or was                     |   up clears it; its owner hides it
//! HELD_BACK, HIDDEN      any  | gave way to that entry                    | last release
//! HIDDEN                 any  | removed: its handles live on, look-ups    | last release
//!                             |   skip it                                 |
//! ?                 immortal  | lives for ever                            | -
//! DETACHED, ?            any  | its table is gone: the handles live on by | as without
//!                             |   themselves                              |
//! DEAD, ?                any  | dead for ever; the number counts finders  | the epoch (freed)
//!                             |   that came too late                      |
//! ```
//!
//! Only `BUILDING`, `HELD_BACK` and `CLOSING` are ever cleared. The generation never changes.

use super::primitive::{AtomicU64, Ordering};

const GENERATION_BITS: u32 = 20;
const GENERATION: u64 = (1 << GENERATION_BITS) - 1;

/// One strong handle.
const ONE: u64 = 1 << GENERATION_BITS;

/// A count from here on has run away: handles were leaked in a loop. As much room again is left to threads that
/// race past the check.
const LIMIT: u64 = 1 << 56;

/// What is added to the count of an entry to make it immortal.
const IMMORTAL: u64 = 1 << 57;

const CLOSING: u64 = 1 << 58;
const HELD_BACK: u64 = 1 << 59;
const BUILDING: u64 = 1 << 60;
const HIDDEN: u64 = 1 << 61;
const DETACHED: u64 = 1 << 62;
const DEAD: u64 = 1 << 63;

const HANDLES: u64 = CLOSING - ONE;

/// Flags of entries that look-ups must not answer.
const INVISIBLE: u64 = HIDDEN | BUILDING | HELD_BACK;

/// Generations are compared in the room that a count has for them.
pub(super) const GENERATIONS: u32 = 1 << GENERATION_BITS;

/// What a count word said at one moment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Count(u64);

impl Count {
    /// The number of handles; of a dead node's, 0; of an immortal one's, the greatest number.
    pub(super) fn handles(self) -> u64 {
        if self.is_dead() {
            0
        } else if self.is_immortal() {
            u64::MAX
        } else {
            (self.0 & HANDLES) >> GENERATION_BITS
        }
    }

    pub(super) fn generation(self) -> u32 {
        (self.0 & GENERATION) as u32
    }

    pub(super) fn is_hidden(self) -> bool {
        self.0 & HIDDEN != 0
    }

    pub(super) fn is_building(self) -> bool {
        self.0 & BUILDING != 0
    }

    pub(super) fn is_detached(self) -> bool {
        self.0 & DETACHED != 0
    }

    pub(super) fn is_immortal(self) -> bool {
        self.0 & IMMORTAL != 0
    }

    fn is_dead(self) -> bool {
        self.0 & DEAD != 0
    }

    /// Whether the entry was never published: it is, or was given up while it was, on its way there.
    pub(super) fn is_unpublished(self) -> bool {
        self.0 & (BUILDING | HELD_BACK) != 0
    }

    /// Whether the entry was visible in its table when the count said this.
    pub(super) fn was_visible(self) -> bool {
        self.0 & INVISIBLE == 0
    }
}

/// What a finder got for the count it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A count on a live entry.
    Live,
    /// An entry that needs no count.
    Immortal,
    /// A count on an entry that look-ups must not see: removed, or given up while it was built.
    Hidden,
    /// A count on a key whose value is still being built.
    Building,
    /// A count on an entry that isn't published yet.
    HeldBack,
    /// Nothing: the entry is dead and the count doesn't matter any more.
    Dead,
}

impl Found {
    /// Whether look-ups answer the entry.
    #[inline]
    pub(crate) fn is_live(self) -> bool {
        matches!(self, Self::Live | Self::Immortal)
    }
}

/// The count word itself.
#[derive(Debug)]
pub(super) struct AtomicCount(AtomicU64);

impl AtomicCount {
    /// One handle, in a table of the given generation.
    pub(super) fn new(generation: u32) -> Self {
        debug_assert!(generation < GENERATIONS);
        Self(AtomicU64::new(ONE | u64::from(generation)))
    }

    /// Declares that the value of a node which nobody else knows is still to come.
    pub(super) fn start_building(&self) {
        // Relaxed: published with the node.
        self.0.fetch_or(BUILDING, Ordering::Relaxed);
    }

    /// Takes a count for a finder that met the node in its table, and says what it is worth.
    ///
    /// An unconditional addition is cheaper than a compare-exchange loop and doesn't collapse on a hot
    /// key. It may take the count up from zero: that revives an entry whose last handle has gone but
    /// which nobody has closed yet.
    #[inline]
    pub(super) fn take(&self) -> Found {
        // Relaxed: an entry is published before it is made immortal, and whoever doesn't see that yet counts.
        if Count(self.0.load(Ordering::Relaxed)).is_immortal() {
            return Found::Immortal;
        }
        // Acquire: pairs with the Release in `finish_building`; a finder that sees BUILDING gone sees
        // the value.
        let old = self.0.fetch_add(ONE, Ordering::Acquire);
        // No flags, and no number out of the ordinary; zero is one.
        if old.wrapping_sub(ONE) < LIMIT - ONE {
            Found::Live
        } else {
            self.take_slow(Count(old))
        }
    }

    #[cold]
    fn take_slow(&self, old: Count) -> Found {
        if old.is_dead() {
            // The number on a dead node means nothing, and the room up to the flags is out of reach: each
            // finder helps to unlink the node before it looks again.
            return Found::Dead;
        }
        if old.0 & (HANDLES | CLOSING) == 0 {
            // Relaxed: all that the flag says is said to those who change the same word. If the closer has resigned
            // meanwhile, this clears what it has set.
            self.0.fetch_xor(CLOSING, Ordering::Relaxed);
        }
        if old.0 & HANDLES >= LIMIT {
            // An immortal one, which the finder has counted all the same.
            check(old);
            Found::Live
        } else if old.is_hidden() {
            Found::Hidden
        } else if old.is_building() {
            Found::Building
        } else if old.0 & HELD_BACK != 0 {
            Found::HeldBack
        } else {
            debug_assert!(
                !old.is_detached(),
                "look-ups borrow the table, so none meets a detached node"
            );
            Found::Live
        }
    }

    /// Takes a count for a further handle of a caller that already holds one.
    #[inline]
    pub(super) fn clone_handle(&self) {
        // Relaxed: the caller's own count keeps the node as it is; nothing is published.
        let old = self.0.fetch_add(ONE, Ordering::Relaxed);
        if old & HANDLES >= LIMIT {
            check(Count(old));
        }
    }

    /// Gives one count back, for the knowledge that the node never loses its last one.
    pub(super) fn immortalize(&self) {
        // Relaxed throughout: nothing but the number changes hands. Whoever takes the bias for handles counts, and
        // whoever knows it for what it is got the node as all finders do.
        let mut seen = self.0.load(Ordering::Relaxed);
        loop {
            let bias = if Count(seen).is_immortal() {
                0
            } else {
                IMMORTAL
            };
            match self.0.compare_exchange_weak(
                seen,
                seen - ONE + bias,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
    }

    /// Gives one count back. If that makes the caller the node's closer, which is to call `close` next: `true`.
    /// Otherwise it must not touch the node any more.
    #[inline]
    #[must_use]
    pub(super) fn release(&self) -> bool {
        // Release: pairs with the Acquire of whoever closes (`close`, `close_sole`); it sees all that was done
        // through this handle.
        let old = self.0.fetch_sub(ONE, Ordering::Release);
        old & (HANDLES | CLOSING) == ONE
    }

    /// The closer's look: closes the node if its count still is zero, and answers what it said. If somebody has
    /// revived the node, the closer resigns and must not touch it any more.
    pub(super) fn close(&self) -> Option<Count> {
        // Relaxed: the compare-exchange decides. This thread's own decrement is visible to it.
        let mut seen = self.0.load(Ordering::Relaxed);
        loop {
            debug_assert!(seen & DEAD == 0, "only its closer closes a node");
            let revived = seen & HANDLES != 0;
            let new = if revived { seen ^ CLOSING } else { seen | DEAD };
            // Acquire: pairs with the Release in `release`; the destructor comes after all uses. And with the
            // Release in `detach`; the closer of a detached node sees it unlinked.
            // Relaxed on failure: the value is only compared.
            match self
                .0
                .compare_exchange_weak(seen, new, Ordering::Acquire, Ordering::Relaxed)
            {
                Ok(_) if revived => return None,
                Ok(_) => return Some(Count(seen)),
                Err(now) => seen = now,
            }
        }
    }

    /// Takes a count for a weak handle, unless the node is dead.
    ///
    /// A compare-exchange, not an addition: unlike a finder, a weak handle meets a dead node again and again, until
    /// its closer has got on, and would run the number up into the flags.
    pub(super) fn upgrade(&self) -> Found {
        self.take_unless(|seen| seen & DEAD != 0)
    }

    /// Takes a count for an iterator, which has no use for what look-ups don't see.
    pub(super) fn take_if_visible(&self) -> Found {
        self.take_unless(|seen| seen & (DEAD | INVISIBLE) != 0)
    }

    fn take_unless(&self, refused: impl Fn(u64) -> bool) -> Found {
        // Relaxed: the compare-exchange decides.
        let mut seen = self.0.load(Ordering::Relaxed);
        while !refused(seen) {
            if seen & HANDLES >= LIMIT {
                check(Count(seen));
                return Found::Immortal;
            }
            let revives = seen & HANDLES == 0;
            let closing = if revives { CLOSING } else { 0 };
            // Acquire: as in `take`. Relaxed on failure: the value is only compared.
            match self.0.compare_exchange_weak(
                seen,
                (seen + ONE) | closing,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Found::Live,
                Err(now) => seen = now,
            }
        }
        Found::Dead
    }

    /// Kills the node if the caller's handle is its only one, and no closer is to come.
    pub(super) fn close_sole(&self) -> Option<Count> {
        // Relaxed: the compare-exchange decides.
        let mut seen = self.0.load(Ordering::Relaxed);
        while seen & (HANDLES | CLOSING | DEAD) == ONE {
            // Acquire: pairs with the Release in `release`; the value moves out after all uses.
            // Relaxed on failure: the value is only compared.
            match self.0.compare_exchange_weak(
                seen,
                (seen - ONE) | DEAD,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Some(Count(seen)),
                Err(now) => seen = now,
            }
        }
        None
    }

    /// Says that the node's table is gone, and the node unlinked.
    pub(super) fn detach(&self) {
        // Release: pairs with the Acquire in `close` and `close_sole`; who ends the value sees the node unlinked.
        self.0.fetch_or(DETACHED, Ordering::Release);
    }

    /// Hides a live entry from look-ups. `false` if it was hidden before.
    pub(super) fn hide(&self) -> bool {
        // Relaxed: nothing but the flag changes hands.
        self.0.fetch_or(HIDDEN, Ordering::Relaxed) & HIDDEN == 0
    }

    /// Gives an entry up that has no value yet. `false` if it has one by now, and look-ups see it.
    pub(super) fn give_up(&self) -> bool {
        // Acquire: a failure means that the value is there and the caller goes on to read it; pairs
        // with the Release in `finish_building`.
        let mut seen = self.0.load(Ordering::Acquire);
        while seen & (BUILDING | HIDDEN) == BUILDING {
            // Release: pairs with the Acquire in `take`; a builder that finds its entry given up, or another
            // inserter, finds the one that was linked instead. Acquire on failure: as above.
            match self.0.compare_exchange_weak(
                seen,
                seen | HIDDEN,
                Ordering::Release,
                Ordering::Acquire,
            ) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
        seen & HIDDEN != 0
    }

    /// Declares that a node which nobody else knows isn't to be seen yet.
    pub(super) fn hold_back(&self) {
        // Relaxed: published with the node.
        self.0.fetch_or(HELD_BACK, Ordering::Relaxed);
    }

    /// Lets an entry be seen that was held back, unless it gave way. `true` for the one who did it.
    pub(super) fn publish(&self) -> bool {
        // Relaxed throughout: the value was published with the node, only the flag changes hands.
        let mut seen = self.0.load(Ordering::Relaxed);
        while seen & (HELD_BACK | HIDDEN) == HELD_BACK {
            let published = seen & !HELD_BACK;
            match self.0.compare_exchange_weak(
                seen,
                published,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
        false
    }

    /// Gives way with an entry that is held back. `false` if somebody has published it.
    pub(super) fn give_way(&self) -> bool {
        // Relaxed throughout: as in `publish`.
        let mut seen = self.0.load(Ordering::Relaxed);
        while seen & HELD_BACK != 0 {
            let hidden = seen | HIDDEN;
            match self
                .0
                .compare_exchange_weak(seen, hidden, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
        false
    }

    /// Publishes a value that was just built; `false` if the entry was given up meanwhile.
    pub(super) fn finish_building(&self) -> bool {
        // Relaxed: who finds its entry given up looks for what was linked instead. That lies behind this node,
        // which is met first: `take` sees what `give_up` published.
        let mut seen = self.0.load(Ordering::Relaxed);
        while seen & HIDDEN == 0 {
            // Release: pairs with the Acquire in `take`, `take_unless`, `give_up` and `read`: who sees
            // BUILDING gone sees the value. Relaxed on failure: as above.
            match self.0.compare_exchange_weak(
                seen,
                seen & !BUILDING,
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
        false
    }

    /// Completes an entry that was given up. Its builder has looked for another one since it wrote the value.
    pub(super) fn finish_hidden(&self) {
        // Relaxed: that look met this node, and gave its count back by `release`, which published the value.
        // This read-modify-write carries it on.
        self.0.fetch_and(!BUILDING, Ordering::Relaxed);
    }

    /// What the word says now.
    pub(super) fn read(&self) -> Count {
        // Acquire: pairs with the Release in `finish_building`.
        Count(self.0.load(Ordering::Acquire))
    }

    /// All bits.
    #[cfg(test)]
    pub(super) fn peek(&self) -> u64 {
        // Relaxed: as below.
        self.0.load(Ordering::Relaxed)
    }

    /// Sets the number of handles, so that a test needn't make 2^36 of them.
    #[cfg(test)]
    pub(super) fn poke_handles(&self, handles: u64) {
        // Relaxed: the test has one thread.
        let word = self.0.load(Ordering::Relaxed) & !HANDLES;
        self.0
            .store(word | handles << GENERATION_BITS, Ordering::Relaxed);
    }
}

/// Aborts, as `Arc` does, where going on would free a value that is in use: unless the count is only that of an
/// immortal one.
#[cold]
fn check(count: Count) {
    if count.0 & HANDLES & !IMMORTAL >= LIMIT {
        overflow();
    }
}

/// Aborts: there are more handles of one value than can be counted.
#[cold]
pub(crate) fn overflow() -> ! {
    eprintln!("hapax: too many handles of one value; were they leaked in a loop?");
    std::process::abort()
}

/// For a test of that name: counts too far in each of these ways, each in a process of its own, which has to end by
/// `overflow`.
#[cfg(test)]
pub(crate) fn expect_overflow(test: &str, ways: &[&str], count_too_far: impl FnOnce(&str)) {
    const CHILD: &str = "HAPAX_TEST_OVERFLOW";
    if let Ok(way) = std::env::var(CHILD) {
        return count_too_far(&way);
    }
    for way in ways {
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args([test, "--nocapture"])
            .env(CHILD, way)
            .output()
            .unwrap();
        assert!(!child.status.success(), "{way} went on");
        let errors = String::from_utf8_lossy(&child.stderr);
        assert!(
            errors.contains("too many handles of one value"),
            "{way}: {errors}"
        );
    }
}
