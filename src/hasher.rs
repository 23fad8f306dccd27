//! The default hasher.

use std::hash::BuildHasher;

use foldhash::SharedSeed;
use foldhash::fast::FoldHasher;

/// The default hasher: [foldhash], seeded at random once per process.
///
/// It is zero-sized and made at compile time, so that an interner can be a `static`. Two of them hash
/// alike within one process, and differently in another process. It resists collisions that somebody
/// prepared beforehand; where an attacker can observe the hashes or the timing of the running process,
/// use [`std::hash::RandomState`] instead, in a `static` inside of a [`LazyLock`](std::sync::LazyLock).
///
/// [foldhash]: https://docs.rs/foldhash
///
/// # Examples
///
/// ```
/// use std::hash::BuildHasher;
///
/// let hasher = hapax::RandomState;
/// assert_eq!(hasher.hash_one("alpha"), hapax::RandomState.hash_one("alpha"));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RandomState;

/// Distinguishes this crate's hashes from those of other users of foldhash in the same process.
const SEED: u64 = 0x6861_7061_785f_3031;

impl BuildHasher for RandomState {
    type Hasher = FoldHasher<'static>;

    #[inline]
    fn build_hasher(&self) -> Self::Hasher {
        FoldHasher::with_seed(SEED, SharedSeed::global_random())
    }
}
