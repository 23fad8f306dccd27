//! Random numbers from a seed: SplitMix64.

#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    /// The stream of random numbers that belongs to a seed and some numbers.
    pub(crate) fn of(seed: u64, numbers: &[u64]) -> Self {
        let mut rng = Self(seed);
        for number in numbers {
            rng.0 = rng.next() ^ number;
        }
        rng
    }

    /// Another stream.
    pub(crate) fn fork(&mut self) -> Self {
        Self(self.next())
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// Whether the one case of so many has come.
    pub(crate) fn one_in(&mut self, cases: usize) -> bool {
        self.below(cases) == 0
    }

    /// A key: often one that all threads want, sometimes one that nobody else has.
    pub(crate) fn key(&mut self) -> u64 {
        let range = match self.below(10) {
            0..=3 => 8,
            4..=8 => 500,
            _ => 20_000,
        };
        self.next() % range
    }
}
