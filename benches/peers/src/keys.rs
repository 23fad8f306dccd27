//! Strings to intern, and in which order.
//!
//! All of it is made before the clock starts, so that next to nothing of it is in a figure: a key is a piece of a
//! long random text, and a choice is a number in a list.

use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Zipf};

/// Of each key, in bytes.
const LENGTH: usize = 30;

/// So skewed is the choice of words in a text.
const EXPONENT: f64 = 0.99;

/// So many choices come before they repeat, at least.
const CHOICES: usize = 1 << 16;

/// Keys of 30 bytes, no two of them alike: each begins one letter later in a random text. They take one byte each,
/// so that it is the peers who fill the caches.
pub struct Keys {
    text: String,
}

impl Keys {
    /// So many keys. Other sources give other keys.
    pub fn new(count: usize, source: Source) -> Self {
        const LETTERS: &[u8; 64] =
            b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
        let mut random = source.random();
        let letter = || char::from(LETTERS[random.random_range(0..LETTERS.len())]);
        Self {
            text: std::iter::repeat_with(letter)
                .take(count + LENGTH)
                .collect(),
        }
    }

    pub fn get(&self, index: usize) -> &str {
        &self.text[index..index + LENGTH]
    }
}

/// Where random numbers come from: all peers have the same ones in the same round.
#[derive(Clone, Copy)]
pub struct Source {
    pub round: u64,
    pub stream: u64,
}

impl Source {
    fn random(self) -> SmallRng {
        SmallRng::seed_from_u64(self.round << 32 | self.stream)
    }
}

/// Each of `count` as likely as the others; `choices` before they repeat.
pub fn uniform(count: usize, choices: usize, source: Source) -> Vec<u32> {
    let mut random = source.random();
    (0..choices)
        .map(|_| random.random_range(0..count as u32))
        .collect()
}

/// A few of `count` often, most of them seldom: Zipf's law. Which ones are frequent has nothing to do with when
/// they were interned.
pub fn zipf(count: usize, source: Source) -> Vec<u32> {
    let mut random = source.random();
    let mut ranked: Vec<u32> = (0..count as u32).collect();
    // The same for all threads, whose choices differ.
    ranked.shuffle(
        &mut Source {
            stream: 0,
            ..source
        }
        .random(),
    );
    let ranks = Zipf::new(count as f64, EXPONENT).expect("a valid distribution");
    (0..CHOICES)
        .map(|_| ranked[ranks.sample(&mut random) as usize - 1])
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Keys, LENGTH, Source, uniform, zipf};

    const OWN: Source = Source {
        round: 3,
        stream: 1,
    };

    #[test]
    fn no_two_keys_are_alike() {
        let others = Keys::new(1000, Source { stream: 2, ..OWN });
        let keys = Keys::new(1000, OWN);
        let all: BTreeSet<&str> = (0..1000)
            .flat_map(|key| [keys.get(key), others.get(key)])
            .collect();
        assert_eq!(all.len(), 2000);
        assert!(all.iter().all(|key| key.len() == LENGTH));
    }

    /// How often the most frequent one, and the hundredth, are among a thousand.
    fn shares(choices: &[u32]) -> (usize, usize) {
        let mut counts = vec![0; 10_000];
        choices
            .iter()
            .for_each(|&choice| counts[choice as usize] += 1);
        counts.sort_unstable_by(|a, b| b.cmp(a));
        (
            counts[0] * 1000 / choices.len(),
            counts[99] * 1000 / choices.len(),
        )
    }

    #[test]
    fn choices_are_distributed_as_they_say() {
        assert_eq!(shares(&uniform(10_000, 1_000_000, OWN)), (0, 0));
        // The sum of n^-0.99 up to 10 000 is 10.2.
        let (first, hundredth) = shares(&zipf(10_000, OWN));
        assert!((93..=103).contains(&first), "{first}");
        assert!((0..=2).contains(&hundredth), "{hundredth}");
    }
}
