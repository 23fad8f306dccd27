//! A barrier that also says what is to be done behind it.

use parking_lot::{Condvar, Mutex};

/// What the threads do between two meetings.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// They work until they are stopped. Their choices follow from the seed and the number of the round.
    Work(u64),
    /// Everybody lets go of everything.
    LetGo,
    /// Everybody gives back the memory of what is dead.
    Flush,
    /// The thread with this number ends.
    Leave(usize),
    /// All threads end.
    End,
}

/// Its locks are parking_lot's: ThreadSanitizer sees what they order, other than those of std, which isn't
/// built with it.
pub(crate) struct Meeting {
    parties: usize,
    state: Mutex<State>,
    over: Condvar,
}

struct State {
    phase: Phase,
    arrived: usize,
    /// How many meetings there were.
    number: u64,
}

impl Meeting {
    pub(crate) fn new(parties: usize) -> Self {
        Self {
            parties,
            state: Mutex::new(State {
                phase: Phase::LetGo,
                arrived: 0,
                number: 0,
            }),
            over: Condvar::new(),
        }
    }

    /// Says what is to be done behind the next meeting. Called by one who hasn't come to it yet.
    pub(crate) fn announce(&self, phase: Phase) {
        self.state.lock().phase = phase;
    }

    /// Waits until all are there.
    pub(crate) fn attend(&self) -> Phase {
        let mut state = self.state.lock();
        let number = state.number;
        state.arrived += 1;
        if state.arrived == self.parties {
            state.arrived = 0;
            state.number += 1;
            self.over.notify_all();
        }
        while state.number == number {
            self.over.wait(&mut state);
        }
        state.phase
    }
}
