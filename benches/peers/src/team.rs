//! Threads that start together, and the clock of each.

use std::sync::Barrier;
use std::thread;
use std::time::Instant;

/// One of the threads of a sample.
pub struct Member<'a> {
    /// From zero on.
    pub index: usize,
    pub threads: usize,
    barrier: &'a Barrier,
}

impl Member<'_> {
    /// Waits until all are here, does the work, and waits until all have done theirs, so that nobody cleans up
    /// under the others' clocks. Answers the nanoseconds that each operation of this thread took.
    pub fn time(&self, operations: usize, work: impl FnOnce()) -> f64 {
        self.barrier.wait();
        let start = Instant::now();
        work();
        let took = start.elapsed();
        self.barrier.wait();
        took.as_nanos() as f64 / operations as f64
    }
}

/// Does the work on so many threads at once, of which this one is the first, and answers the mean of each of the
/// figures.
pub fn mean<const N: usize>(threads: usize, work: impl Fn(&Member) -> [f64; N] + Sync) -> [f64; N] {
    let barrier = Barrier::new(threads);
    let member = |index| Member {
        index,
        threads,
        barrier: &barrier,
    };
    let figures: Vec<[f64; N]> = thread::scope(|scope| {
        let others: Vec<_> = (1..threads)
            .map(|index| (member(index), &work))
            .map(|(member, work)| scope.spawn(move || work(&member)))
            .collect();
        let first = work(&member(0));
        let others = others.into_iter().map(|other| match other.join() {
            Ok(figures) => figures,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        std::iter::once(first).chain(others).collect()
    });
    std::array::from_fn(|place| {
        figures.iter().map(|figures| figures[place]).sum::<f64>() / threads as f64
    })
}
