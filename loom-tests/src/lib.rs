//! What the models share.

use std::hash::{BuildHasher, Hasher};

/// Explores all interleavings of a model, up to a number of preemptions.
///
/// The model runs on a thread of its own: loom ends its statics before the thread-locals of its main
/// thread.
pub fn model(preemptions: usize, f: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    let f = std::sync::Arc::new(f);
    let runs = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = runs.clone();
    let start = std::time::Instant::now();
    builder.check(move || {
        count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let f = f.clone();
        spawn(move || f()).join().unwrap();
    });
    println!("{} interleavings in {:?}", runs.load(std::sync::atomic::Ordering::Relaxed), start.elapsed());
}

/// A thread of a model.
pub fn spawn<R: 'static>(f: impl FnOnce() -> R + 'static) -> loom::thread::JoinHandle<R> {
    loom::thread::spawn(move || {
        let result = f();
        #[cfg(loom)]
        hapax::model::end_thread();
        result
    })
}

/// Hashes an integer to itself, so that a model chooses its buckets and collisions.
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
        unimplemented!("keys of models are integers")
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
