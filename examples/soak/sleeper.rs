//! A thread that stands still at the worst moments: with a pin, so that no memory of dead values goes back,
//! or in the midst of an iteration.

use std::collections::HashMap;

use hapax::{Interned, Iter, Pinned};

use crate::counted::Counted;
use crate::hand::Hand;
use crate::kinds::Kind;
use crate::meeting::Phase;
use crate::memory;
use crate::tally::STALLED;
use crate::verdict::check;

/// Keys that nobody else uses.
const OWN_KEYS: u64 = 1 << 29;

/// Values that the thread holds while it iterates.
const OWN: u64 = 16;

/// What the thread does in the midst of.
#[derive(Default)]
pub(crate) struct Sleeper {
    pinned: Option<Pinned<'static, str>>,
    walk: Option<Walk>,
}

struct Walk {
    iter: Iter<'static, Counted>,
    /// How often the value at an address came. Those that are held throughout have theirs to themselves.
    met: HashMap<*const Counted, u32>,
}

impl Walk {
    fn step(&mut self) -> Option<Interned<Counted>> {
        let value = self.iter.next()?;
        value.key();
        *self.met.entry(Interned::as_ptr(&value)).or_default() += 1;
        Some(value)
    }
}

impl Sleeper {
    pub(crate) fn serve(&mut self, hand: &mut Hand, phase: Phase) {
        self.wake(hand);
        match phase {
            Phase::Work(round) if round % 4 == 1 => self.pin(hand),
            Phase::Work(round) if round % 4 == 3 => self.walk(hand),
            Phase::LetGo => hand.empty(),
            Phase::Flush => memory::flush(),
            _ => {}
        }
    }

    /// Pins, for this round and the standstill after it.
    fn pin(&mut self, hand: &mut Hand) {
        let pinned = str::shared().pin();
        let key = hand.rng.key();
        hand.names.strong.push(pinned.intern(str::make(key)));
        self.pinned = Some(pinned);
        STALLED.add();
    }

    /// Begins an iteration, and leaves it at some value for this round and the standstill after it.
    fn walk(&mut self, hand: &mut Hand) {
        let own = (0..OWN).map(|number| Counted::shared().intern(Counted::new(OWN_KEYS + number)));
        hand.values.strong = own.collect();
        let mut walk = Walk {
            iter: Counted::shared().iter(),
            met: HashMap::new(),
        };
        for _ in 0..1 + hand.rng.below(100) {
            hand.stands_on = walk.step();
        }
        self.walk = Some(walk);
        STALLED.add();
    }

    /// Ends what was begun.
    fn wake(&mut self, hand: &mut Hand) {
        self.pinned = None;
        let Some(mut walk) = self.walk.take() else {
            return;
        };
        hand.stands_on = None;
        while walk.step().is_some() {
            hand.post.tick();
        }
        for value in &hand.values.strong {
            let times = walk
                .met
                .get(&Interned::as_ptr(value))
                .copied()
                .unwrap_or_default();
            check!(times == 1, "an iteration met a held value {times} times");
        }
        hand.values.strong.clear();
    }
}
