//! Weak handles that are watched: their callbacks run once or are cancelled, and what is dead stays dead.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use hapax::{Cached, Interned, WeakCached, WeakInterned};
use parking_lot::Mutex;

use crate::counted::{Counted, Item};
use crate::kinds::Kind;
use crate::tally::{CANCELLED, RAN, REGISTERED};
use crate::verdict::check;

const WAITING: u8 = 0;
const DID_RUN: u8 = 1;
const DID_NOT: u8 = 2;

/// What has become of a callback.
#[derive(Debug)]
pub(crate) struct Outcome {
    state: AtomicU8,
    /// A handle that the callback owns. It stands here so that the census can count it.
    luggage: Mutex<Option<Interned<str>>>,
}

impl Outcome {
    pub(crate) fn is_waiting(&self) -> bool {
        self.state.load(Ordering::Relaxed) == WAITING
    }

    pub(crate) fn did_run(&self) -> bool {
        self.state.load(Ordering::Relaxed) == DID_RUN
    }

    pub(crate) fn luggage(&self) -> Option<Interned<str>> {
        self.luggage.lock().clone()
    }

    fn end(&self, state: u8) -> bool {
        let was = self.state.swap(state, Ordering::Relaxed);
        // The lock isn't held while the handle goes.
        let luggage = self.luggage.lock().take();
        drop(luggage);
        was == WAITING
    }
}

/// Owned by a callback: knows whether it was called, and when it is dropped.
pub(crate) struct Token(Arc<Outcome>);

impl Token {
    /// A callback's token, which holds a handle meanwhile.
    pub(crate) fn new(luggage: Option<Interned<str>>) -> (Self, Arc<Outcome>) {
        REGISTERED.add();
        let outcome = Arc::new(Outcome {
            state: AtomicU8::new(WAITING),
            luggage: Mutex::new(luggage),
        });
        (Self(outcome.clone()), outcome)
    }

    /// What the callback does.
    pub(crate) fn run(self) {
        check!(
            self.0.end(DID_RUN),
            "a callback ran twice, or after its end"
        );
        RAN.add();
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        if self.0.is_waiting() {
            check!(self.0.end(DID_NOT), "a callback ran while it was dropped");
            CANCELLED.add();
        }
    }
}

/// A weak handle of any kind.
pub(crate) trait Weak: Clone {
    type Strong;

    fn upgrade(&self) -> Option<Self::Strong>;

    /// What tells the values of a key apart, as far as they can be told.
    fn mark(strong: &Self::Strong) -> u64;
}

impl<T: Kind + ?Sized> Weak for WeakInterned<T> {
    type Strong = Interned<T>;

    fn upgrade(&self) -> Option<Interned<T>> {
        self.upgrade()
    }

    fn mark(strong: &Interned<T>) -> u64 {
        strong.mark()
    }
}

impl Weak for WeakCached<Counted, Item> {
    type Strong = Cached<Counted, Item>;

    fn upgrade(&self) -> Option<Self::Strong> {
        self.upgrade()
    }

    fn mark(strong: &Self::Strong) -> u64 {
        strong.counted.serial()
    }
}

/// A weak handle, and what is known of it.
#[derive(Clone)]
pub(crate) struct Watched<W> {
    weak: W,
    mark: u64,
    /// It was found dead.
    dead: bool,
    outcome: Option<Arc<Outcome>>,
}

impl<W: Weak> Watched<W> {
    pub(crate) fn new(weak: W, strong: &W::Strong, outcome: Option<Arc<Outcome>>) -> Self {
        Self {
            weak,
            mark: W::mark(strong),
            dead: false,
            outcome,
        }
    }

    /// The value, if it lives.
    pub(crate) fn look(&mut self) -> Option<W::Strong> {
        let found = self.weak.upgrade();
        match &found {
            Some(strong) => {
                check!(!self.dead, "a weak handle of a dead value leads to one");
                let same = W::mark(strong) == self.mark;
                check!(same, "a weak handle leads to another value");
            }
            None => self.dead = true,
        }
        found
    }

    /// At a standstill: looks at the value and at what has become of the callback, which is returned if
    /// it still waits.
    pub(crate) fn inspect(&mut self) -> Option<&Arc<Outcome>> {
        let lives = self.look().is_some();
        let outcome = self.outcome.as_ref()?;
        if lives {
            check!(outcome.is_waiting(), "the callback of a live value is gone");
            return Some(outcome);
        }
        check!(outcome.did_run(), "the callback of a dead value hasn't run");
        None
    }
}
