//! The order key of a value: its hash, spread over the top bits.

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
pub(crate) fn key_of_hash(hash: u64) -> u64 {
    hash.wrapping_mul(SPREAD)
}

/// The hash that has this order key.
pub(super) fn hash_of_key(key: u64) -> u64 {
    key.wrapping_mul(UNSPREAD)
}
