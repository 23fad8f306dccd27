//! What several test files share: sizes, random numbers, values that are counted, and the mixed
//! operations of the stress tests.

#![allow(dead_code, reason = "each test file uses a part of this one")]
#![allow(
    unreachable_pub,
    reason = "shared by several crates, each of which is a test file"
)]

pub mod mixed;

use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// A size for real runs and one for Miri.
pub const fn scaled(real: usize, miri: usize) -> usize {
    if cfg!(miri) { miri } else { real }
}

/// Random numbers from a seed: SplitMix64.
#[derive(Clone, Debug)]
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// The seed of a random test: `HAPAX_SEED` if it is set, otherwise a new one.
pub fn seed() -> u64 {
    match std::env::var("HAPAX_SEED") {
        Ok(seed) => seed.parse().expect("HAPAX_SEED is a number"),
        Err(_) if cfg!(miri) => 1,
        Err(_) => std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .expect("the clock is behind 1970")
            .as_nanos() as u64,
    }
}

/// Prints the seed of a test that fails.
pub struct SeedOnFailure(pub u64);

impl Drop for SeedOnFailure {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("to repeat: HAPAX_SEED={}", self.0);
        }
    }
}

/// How many values were made, and how many of them died.
#[derive(Debug, Default)]
pub struct Census {
    pub made: AtomicUsize,
    pub died: AtomicUsize,
}

impl Census {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub fn made(&self) -> usize {
        self.made.load(Ordering::SeqCst)
    }

    pub fn died(&self) -> usize {
        self.died.load(Ordering::SeqCst)
    }

    pub fn live(&self) -> usize {
        self.made() - self.died()
    }
}

const ALIVE: u32 = 0xa11_7e57;
const GONE: u32 = 0xdead_0b1e;

static SERIAL: AtomicU64 = AtomicU64::new(0);

/// A value that is counted when it is made and when it dies. It notices a second death, and a use after
/// the first one. Equality and hash go by the key.
#[derive(Debug)]
pub struct Counted {
    pub key: u64,
    /// No two values have the same.
    pub serial: u64,
    state: AtomicU32,
    census: Arc<Census>,
}

impl Counted {
    pub fn new(key: u64, census: &Arc<Census>) -> Self {
        census.made.fetch_add(1, Ordering::SeqCst);
        Self {
            key,
            serial: SERIAL.fetch_add(1, Ordering::Relaxed),
            state: AtomicU32::new(ALIVE),
            census: census.clone(),
        }
    }

    pub fn assert_alive(&self) {
        assert_eq!(
            self.state.load(Ordering::Relaxed),
            ALIVE,
            "a dead value is in use"
        );
    }
}

impl Clone for Counted {
    fn clone(&self) -> Self {
        self.assert_alive();
        Self::new(self.key, &self.census)
    }
}

impl PartialEq for Counted {
    fn eq(&self, other: &Self) -> bool {
        self.assert_alive();
        other.assert_alive();
        self.key == other.key
    }
}

impl Eq for Counted {}

impl Hash for Counted {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}

impl std::borrow::Borrow<u64> for Counted {
    fn borrow(&self) -> &u64 {
        &self.key
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let was = self.state.swap(GONE, Ordering::SeqCst);
        if was != ALIVE {
            eprintln!("a value died twice");
            std::process::abort();
        }
        self.census.died.fetch_add(1, Ordering::SeqCst);
    }
}

/// The message of a panic that `f` is expected to end in.
pub fn panic_of<R>(f: impl FnOnce() -> R) -> String {
    let payload = match catch_unwind(AssertUnwindSafe(f)) {
        Ok(_) => panic!("nothing panicked"),
        Err(payload) => payload,
    };
    match payload.downcast::<String>() {
        Ok(message) => *message,
        Err(payload) => payload.downcast::<&'static str>().map_or_else(
            |_| String::from("not a message"),
            |message| message.to_string(),
        ),
    }
}
