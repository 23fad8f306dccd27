//! Keys whose place in the list a test chooses. `shuttle-tests` shares this file.

use std::hash::{BuildHasher, Hash, Hasher};

/// The inverse of the constant by which a table multiplies hashes.
const UNSPREAD: u64 = {
    // Newton's iteration doubles the number of right bits each time, from the three of any odd number.
    let spread: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut inverse = spread;
    let mut round = 0;
    while round < 5 {
        inverse = inverse.wrapping_mul(2u64.wrapping_sub(spread.wrapping_mul(inverse)));
        round += 1;
    }
    assert!(spread.wrapping_mul(inverse) == 1);
    inverse
};

/// The hash whose order key is `order`.
pub fn key_at(order: u64) -> u64 {
    order.wrapping_mul(UNSPREAD)
}

/// What a value is looked up by: its place in the list, and what distinguishes it from others there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    order: u64,
    content: u64,
}

impl Key {
    /// A key in one of sixteen equal parts of the list. With 2^k buckets, bucket *i* begins at `i << 4 - k`.
    pub fn at(sixteenth: u64) -> Self {
        Self {
            order: sixteenth << 60,
            content: 0,
        }
    }

    /// A key at this place of the list.
    pub fn of_order(order: u64) -> Self {
        Self { order, content: 0 }
    }

    /// A key at the next place behind.
    pub fn next(self) -> Self {
        Self {
            order: self.order + 1,
            ..self
        }
    }

    /// Another key with the same hash.
    pub fn twin(self) -> Self {
        Self {
            content: self.content + 1,
            ..self
        }
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(key_at(self.order));
    }
}

/// Hashes an integer to itself, so that a test chooses its buckets and collisions.
#[derive(Clone, Copy, Debug, Default)]
pub struct Identity;

pub struct IdentityHasher(u64);

impl BuildHasher for Identity {
    type Hasher = IdentityHasher;

    fn build_hasher(&self) -> IdentityHasher {
        IdentityHasher(0)
    }
}

impl Hasher for IdentityHasher {
    fn write(&mut self, _: &[u8]) {
        unreachable!("keys are integers")
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
