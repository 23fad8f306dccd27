//! Pauses of random length, between the calls of a program and in the midst of them: wherever user code runs (while
//! a finder holds a count, while a value is built, while it dies), and in the allocator.

use std::cell::RefCell;
use std::thread;

use super::common::Rng;

// Without a destructor, so that it works while thread-locals are destroyed.
thread_local! { static PAUSES: RefCell<Option<Rng>> = const { RefCell::new(None) } }

/// From here on, this thread pauses now and then; if `None`, no more.
pub fn pause_by(rng: Option<Rng>) {
    PAUSES.set(rng);
}

/// Perhaps a pause: mostly none, often about as long as a call takes; and now and then another thread's turn,
/// without which threads that share a processor would do all of their part at once.
pub fn pause() {
    PAUSES.with_borrow_mut(|rng| {
        let Some(rng) = rng else { return };
        match rng.below(32) {
            0 => thread::yield_now(),
            1..8 => (0..1 << rng.below(7)).for_each(|_| std::hint::spin_loop()),
            _ => {}
        }
    });
}
