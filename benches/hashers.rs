//! What does the hasher cost, and what a poor one?
//!
//! A random one of a million live integers, found by `intern`: with the default hasher, with the identity, and with
//! one that leaves all but 32 bits unused. The table multiplies what it gets, so none of them is a bad choice.

mod common;

use std::hash::{BuildHasher, Hasher};

use common::choices;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hapax::{Interned, Interner};

const NUMBERS: u64 = 1_000_000;

/// Hashes an integer to some of its bits.
#[derive(Clone, Copy)]
struct Bits<const N: u32>;

struct BitsHasher<const N: u32>(u64);

impl<const N: u32> BuildHasher for Bits<N> {
    type Hasher = BitsHasher<N>;

    fn build_hasher(&self) -> BitsHasher<N> {
        BitsHasher(0)
    }
}

impl<const N: u32> Hasher for BitsHasher<N> {
    fn write(&mut self, _: &[u8]) {
        unreachable!("only integers are hashed")
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value & (u64::MAX >> (64 - N));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

fn hashers(criterion: &mut Criterion) {
    hash_with(criterion, "default", hapax::RandomState);
    hash_with(criterion, "identity", Bits::<64>);
    hash_with(criterion, "32 bits", Bits::<32>);
}

fn hash_with<S: BuildHasher>(criterion: &mut Criterion, name: &str, hasher: S) {
    let numbers = Interner::with_hasher(hasher);
    let held: Vec<Interned<u64>> = (0..NUMBERS).map(|number| numbers.intern(number)).collect();
    let chosen = choices(held.len(), 0);
    let mut chosen = chosen.iter().cycle();
    let mut group = criterion.benchmark_group("hashers");
    group.throughput(Throughput::Elements(1));
    group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
        bencher.iter(|| chosen.next().map(|&number| numbers.intern(number as u64)));
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = common::criterion();
    targets = hashers
}
criterion_main!(benches);
