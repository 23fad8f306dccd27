//! Bucket words: shortcuts into the list, in segments that never move.
//!
//! With 2^k buckets, bucket *i* covers the keys whose top k bits are *i*. Its word sorts before all of
//! them. When k grows, the words that are there stay where they are and new ones come in between:
//!
//! ```text
//! k = 1   0 ───────────────────── 1 ─────────────────────      root, segment 1
//! k = 2   0 ───────── 1 ───────── 2 ───────── 3 ─────────      segment 2 holds 1 and 3
//! k = 3   0 ── 1 ──── 2 ── 3 ──── 4 ── 5 ──── 6 ── 7 ────      segment 3 holds 1, 3, 5 and 7
//! ```
//!
//! So bucket *i* of 2^k, with t trailing zeros, has its word in segment k - t at position i >> t >> 1,
//! whatever k will be. Segment *l* holds 2^(l-1) words. Bucket 0 has no segment: its word is the root.
//! In one running number, the *index*, word 0 is the root, and segment *l* takes the indices from
//! 2^(l-1) up to 2^l.
//!
//! The first levels' words lie in the table and are linked from the start. Any other word is *unclaimed* (zero),
//! then BUSY while one thread links it into the list (`splice.rs`), then a
//! place to begin for ever, until `shrink` takes its segment away.

use std::ptr::{self, NonNull};

use crossbeam_utils::CachePadded;

use super::link::{AtomicLink, Link};
use super::prefetch::prefetch;
use super::primitive::{AtomicPtr, AtomicU64, Ordering, Zeroed, free_slice, zeroed_slice};
use super::room;

/// The levels whose words lie in the table's header.
const INLINE_LEVELS: u32 = if cfg!(any(loom, shuttle)) {
    1
} else if cfg!(miri) {
    2
} else {
    6
};
pub(super) const INLINE_WORDS: usize = 1 << INLINE_LEVELS;

/// The last level; a bucket holds more entries beyond.
const MAX_LEVEL: u32 = if cfg!(shuttle) {
    // No scenario has so many entries, and looking for a segment that isn't there is a step too.
    8
} else if cfg!(target_pointer_width = "64") {
    32
} else {
    24
};

/// How many buckets there are, as a power of two, together with the number of times the table shrank:
/// two equal levels mean that no segment came or went in between.
///
/// ```text
/// 63 ........ 9      8       7 .. 0
///    shrinks     SHRINKING     k
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Level(u64);

const BITS: u64 = 0xff;
const SHRINKING: u64 = 0x100;
const ONE_SHRINK: u64 = 0x200;

impl Level {
    /// The k of 2^k buckets.
    #[inline]
    fn bits(self) -> u32 {
        (self.0 & BITS) as u32
    }

    /// The number of buckets.
    pub(super) fn words(self) -> usize {
        1 << self.bits()
    }

    /// Whether words of deeper levels may be linked all the same.
    #[inline]
    pub(super) fn is_shrinking(self) -> bool {
        self.0 & SHRINKING != 0
    }
}

/// A bucket word at which a walk may begin.
pub(super) struct Start<'g> {
    pub(super) word: &'g AtomicLink,
    pub(super) link: Link,
    /// Whether this is the key's own bucket rather than an ancestor of it.
    pub(super) own: bool,
}

#[derive(Debug)]
pub(super) struct Buckets {
    level: AtomicU64,
    /// Segment *l* of 2^(l-1) words, null until the table has grown to 2^l buckets. Invariant: those of
    /// the inline levels lead into `inline`.
    segments: [AtomicPtr<AtomicLink>; MAX_LEVEL as usize + 1],
    /// Apart from what is only read.
    inline: CachePadded<[AtomicLink; INLINE_WORDS]>,
}

/// A segment that was taken out of use.
pub(super) struct Segment {
    words: NonNull<AtomicLink>,
    len: usize,
}

impl Segment {
    /// # Safety
    ///
    /// Nobody can reach a word of the segment any more.
    pub(super) unsafe fn free(self) {
        // SAFETY: `install` got it from `zeroed_slice` with this length.
        unsafe { free_slice(self.words, self.len) };
    }
}

impl Buckets {
    /// The most words there can be.
    pub(super) const MAX_WORDS: usize = 1 << MAX_LEVEL;

    /// Buckets that have to be `laid_out` where they will stay before they are used.
    pub(super) fn new() -> Self {
        Self {
            level: AtomicU64::new(0),
            segments: std::array::from_fn(|_| AtomicPtr::new(ptr::null_mut())),
            inline: CachePadded::new(std::array::from_fn(|_| AtomicLink::zeroed())),
        }
    }

    /// Makes an empty list of the inline words. Nobody else can see the table.
    pub(super) fn lay_out(&'static self) {
        // Relaxed throughout: the table is published afterwards.
        self.level.store(INLINE_LEVELS.into(), Ordering::Relaxed);
        for level in 1..=INLINE_LEVELS {
            // SAFETY: 2^(level-1) < 2^INLINE_LEVELS. From the whole array: the pointer leads on to the
            // others of its level.
            let first = unsafe { self.inline.as_ptr().add(1 << (level - 1)) }.cast_mut();
            self.segments[level as usize].store(first, Ordering::Relaxed);
        }
        let mut next = Link::end();
        for bucket in (0..INLINE_WORDS as u64).rev() {
            let word = self
                .word(bucket, INLINE_LEVELS)
                .expect("inline segments are there");
            word.prepare(next);
            next = Link::to_word(word);
        }
    }

    /// The word before all others.
    pub(super) fn root(&self) -> &AtomicLink {
        &self.inline[0]
    }

    #[inline]
    pub(super) fn level(&self) -> Level {
        // Acquire: pairs with the Release in `end_shrink`; who sees a level without SHRINKING doesn't see words
        // beyond it. (The second reading of an early stop is ordered by the Acquire of the link that the walk
        // stopped at, see `walk.rs`.)
        Level(self.level.load(Ordering::Acquire))
    }

    /// The segment of a level, null if there is none.
    #[inline]
    fn segment(&self, level: u32) -> *mut AtomicLink {
        // Acquire: pairs with the Release in `install`; who sees a segment sees its words zeroed.
        self.segments[level as usize].load(Ordering::Acquire)
    }

    /// The word of bucket `bucket` of 2^`bits`; `None` if the table shrank meanwhile.
    #[inline]
    fn word(&self, bucket: u64, bits: u32) -> Option<&AtomicLink> {
        if bucket == 0 {
            return Some(self.root());
        }
        let zeros = bucket.trailing_zeros();
        let position = (bucket >> zeros >> 1) as usize;
        let segment = NonNull::new(self.segment(bits - zeros))?;
        // SAFETY: segment l = bits - zeros has 2^(l-1) words, and bucket < 2^bits, so that
        // position = bucket / 2^(zeros+1) < 2^(bits-zeros-1). The caller is pinned, so that a segment
        // that is taken away under it stays readable, or has the table to itself.
        Some(unsafe { segment.add(position).as_ref() })
    }

    /// The nearest place to begin a walk towards `key`.
    #[inline]
    pub(super) fn start(&self, key: u64, level: Level) -> Start<'_> {
        let bits = level.bits();
        // Invariant: bits >= 1, so the shift stays below 64.
        let bucket = key >> (64 - bits);
        if let Some(word) = self.word(bucket, bits) {
            let link = word.load();
            if link.is_start() {
                return Start {
                    word,
                    link,
                    own: true,
                };
            }
        }
        self.start_at_ancestor(bucket, bits)
    }

    /// Asks for the word at which a walk towards `key` begins.
    #[inline]
    pub(super) fn prefetch_start(&self, key: u64, level: Level) {
        let bits = level.bits();
        if let Some(word) = self.word(key >> (64 - bits), bits) {
            prefetch(word);
        }
    }

    /// Begins further up: clearing the lowest bit of a bucket gives its parent, whose range begins
    /// before.
    #[cold]
    fn start_at_ancestor(&self, mut bucket: u64, bits: u32) -> Start<'_> {
        while bucket != 0 {
            bucket &= bucket - 1;
            if let Some(word) = self.word(bucket, bits) {
                let link = word.load();
                if link.is_start() {
                    return Start {
                        word,
                        link,
                        own: false,
                    };
                }
            }
        }
        // The root is never claimed, BUSY or MARKed.
        Start {
            word: self.root(),
            link: self.root().load(),
            own: false,
        }
    }

    /// The least key that a linked word sorts before; `None` if its segment was taken away.
    #[cold]
    pub(super) fn order(&self, word: &AtomicLink) -> Option<u64> {
        let address = ptr::from_ref(word).addr();
        // The deepest segments hold the most words, so they come first.
        for level in (1..=MAX_LEVEL).rev() {
            let first = self.segment(level).addr();
            let len = 1usize << (level - 1);
            let offset = address.wrapping_sub(first);
            if first != 0 && offset < len * size_of::<AtomicLink>() {
                return Some(order(level, offset / size_of::<AtomicLink>()));
            }
        }
        (address == ptr::from_ref(self.root()).addr()).then_some(0)
    }

    /// The word with a running number, and its order; `None` for the root, and if there is none.
    pub(super) fn indexed(&self, index: usize) -> Option<(&AtomicLink, u64)> {
        if index == 0 {
            return None;
        }
        let level = usize::BITS - index.leading_zeros();
        let position = index - (1 << (level - 1));
        let segment = NonNull::new(self.segment(level))?;
        // SAFETY: segment `level` has 2^(level-1) words, and index < 2^level.
        Some((
            unsafe { segment.add(position).as_ref() },
            order(level, position),
        ))
    }

    /// Doubles the number of buckets, if it still is what `level` says. Words are linked later.
    ///
    /// If the memory can't be had, the table keeps its level and goes on with longer buckets.
    pub(super) fn grow(&self, level: Level) {
        let bits = level.bits() + 1;
        if bits > MAX_LEVEL || !self.install(bits) {
            return;
        }
        // Relaxed: who sees the level and not yet its segment begins at an ancestor. A failure means that
        // somebody else grew.
        let _ =
            self.level
                .compare_exchange(level.0, level.0 + 1, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Makes sure that a segment is there.
    fn install(&self, level: u32) -> bool {
        if !self.segment(level).is_null() {
            return true;
        }
        let len = 1 << (level - 1);
        let Some(words) = zeroed_slice::<AtomicLink>(len) else {
            return false;
        };
        let slot = &self.segments[level as usize];
        // Release: pairs with the Acquire in `segment`. Relaxed on failure: only the fact matters.
        let installed = slot.compare_exchange(
            ptr::null_mut(),
            words.as_ptr(),
            Ordering::Release,
            Ordering::Relaxed,
        );
        if installed.is_err() {
            // SAFETY: nobody else has seen this one.
            unsafe { Segment { words, len }.free() };
        }
        true
    }

    /// Lowers the level by one, if a lower one has room for the entries, and returns the level that was. New
    /// walks begin at words that stay, and trust the order of the others only, until `end_shrink`.
    ///
    /// Not while others insert: only droppers may walk the list meanwhile.
    pub(super) fn lower(&self, entries: usize) -> Option<u32> {
        let level = self.level();
        if level.bits() == INLINE_LEVELS || room(level.words() / 2) < entries {
            return None;
        }
        let lower = (level.0 | SHRINKING) + ONE_SHRINK - 1;
        // Relaxed: who doesn't see it yet trusts a level all of whose words were linked, or are passed.
        self.level.store(lower, Ordering::Relaxed);
        Some(level.bits())
    }

    /// Declares that all words beyond the level are unlinked.
    pub(super) fn end_shrink(&self) {
        // Relaxed: nobody else writes while the table shrinks.
        let level = self.level.load(Ordering::Relaxed) & !SHRINKING;
        // Release: pairs with the Acquire in `level`; who sees this level doesn't see deeper words.
        self.level.store(level, Ordering::Release);
    }

    /// Takes a segment beyond the current level out of use, after its words were unlinked.
    pub(super) fn take_segment(&self, level: u32) -> Option<Segment> {
        // Relaxed: whoever installed the segment had done so before the owner got exclusive access. The words
        // are unlinked, and the epoch orders the rest.
        let words = self.segments[level as usize].swap(ptr::null_mut(), Ordering::Relaxed);
        NonNull::new(words).map(|words| Segment {
            words,
            len: 1 << (level - 1),
        })
    }

    /// All levels that have a segment of their own.
    pub(super) fn all_levels() -> impl Iterator<Item = u32> {
        INLINE_LEVELS + 1..=MAX_LEVEL
    }

    /// Bytes of all segments outside the header.
    pub(super) fn bytes(&self) -> usize {
        (INLINE_LEVELS + 1..=MAX_LEVEL)
            .filter(|&level| !self.segment(level).is_null())
            .map(|level| size_of::<AtomicLink>() << (level - 1))
            .sum()
    }
}

/// The order of the word at a position of a segment: the least key of its bucket.
fn order(level: u32, position: usize) -> u64 {
    (2 * position as u64 + 1) << (64 - level)
}
