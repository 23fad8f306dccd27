//! What each thread is doing, and how often it has done it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::operations::OPERATIONS;

/// Where a thread says what it does.
#[derive(Debug)]
pub(crate) struct Post {
    name: String,
    doing: Mutex<&'static str>,
    ticks: AtomicU64,
    /// By the number of the operation.
    done: [AtomicU64; OPERATIONS.len()],
}

impl Post {
    pub(crate) fn new(name: String) -> Arc<Self> {
        Arc::new(Self {
            name,
            doing: Mutex::new("nothing"),
            ticks: AtomicU64::new(0),
            done: [const { AtomicU64::new(0) }; OPERATIONS.len()],
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The thread begins something, and gets on.
    pub(crate) fn doing(&self, what: &'static str) -> Busy<'_> {
        self.tick();
        let before = std::mem::replace(&mut *self.doing.lock(), what);
        Busy { post: self, before }
    }

    /// The thread gets on with something that takes long.
    pub(crate) fn tick(&self) {
        self.ticks.fetch_add(1, Ordering::Relaxed);
    }

    /// The thread is done with an operation.
    pub(crate) fn count(&self, operation: usize) {
        self.done[operation].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn ticks(&self) -> u64 {
        self.ticks.load(Ordering::Relaxed)
    }

    pub(crate) fn done(&self, operation: usize) -> u64 {
        self.done[operation].load(Ordering::Relaxed)
    }

    pub(crate) fn describe(&self) -> String {
        format!("{}: {}", self.name, self.doing.lock())
    }
}

/// Says what the thread did before when this is dropped.
pub(crate) struct Busy<'a> {
    post: &'a Post,
    before: &'static str,
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        *self.post.doing.lock() = self.before;
    }
}
