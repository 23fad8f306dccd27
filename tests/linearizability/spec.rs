//! The sequential specification: what one key's calls would do if they came one at a time.
//!
//! The state of a key is
//!
//! - which instance is its *entry*, if one is: at most one at any moment;
//! - for each instance, how many handles it has, and whether it is *closed*.
//!
//! | step | allowed if | effect |
//! |---|---|---|
//! | insert *x* | there is no entry | *x* is the entry, with one handle |
//! | hit *x* | *x* is the entry | one handle more |
//! | miss | there is no entry | |
//! | remove *x* | *x* is the entry | there is no entry; one handle more |
//! | take *x*: a clone | | one handle more |
//! | revive *x*: an upgrade | *x* isn't closed | one handle more |
//! | gone *x*: an upgrade in vain | *x* is closed | |
//! | release *x* | | one handle less |
//! | settle *x*: a release that is about to return | *x* is closed, or has handles | |
//! | close *x* | *x* has no handles, and isn't closed | *x* is closed, and not the entry |
//! | unwrap *x* | *x* has one handle, and isn't closed | none; *x* is closed, and not the entry |
//! | shared *x*: an unwrap in vain | *x* has more handles than one | |
//!
//! **A last drop isn't the end.** An entry without handles is still the entry: who finds it revives it. It ends
//! when somebody closes it, which is a step of its own. That isn't a call, but it is observed: it comes before
//! the destructor, on the same thread. So it takes place between the call in which the destructor runs
//! and the beginning of the destructor. Once closed, an instance is never answered again.
//!
//! **Who owes the end.** A drop that isn't the last can't be told from nothing; the last one owes the end,
//! until somebody has closed or revived the entry. Hence the settling, which a drop must come to before it
//! returns: when all drops have returned, the value has died. But look-ups that pass by on their way to another
//! entry with the same hash, or to one behind an entry that was removed or is being built, hold
//! handles for a moment, which nobody sees. A drop may leave the end to them, and they to each other. So the deadline of a drop is the last answer in such a chain of calls,
//! each of which overlaps the one before it.
//!
//! **Removed at once.** `get_or_init` may build a value, find its place taken by `get_or_insert`, and the other
//! one gone: then it answers its own as an entry that was removed at once. Those who waited for it may
//! answer the same one. So after the insertion by a `get_or_insert`, one by a `get_or_init` that overlaps it may
//! leave no entry.

/// A set of steps.
pub type Set = u128;

/// How many steps a set has room for.
const ROOM: usize = Set::BITS as usize;

const fn only(step: usize) -> Set {
    1 << step
}

/// The steps of a set.
pub fn steps_of(mut set: Set) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let step = set.trailing_zeros() as usize;
        set &= set.wrapping_sub(1);
        (step < ROOM).then_some(step)
    })
}

/// The instances of a key, numbered.
pub type Subject = u8;

/// How an inserter gets along with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserter {
    Plain,
    /// `get_or_insert`, which takes the place of an entry that is being built.
    Displacing,
    /// `get_or_init`, at the same time as one of those.
    Displaced,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Insert(Inserter),
    Hit {
        /// Whether it may have waited for an entry that was removed at once.
        waits: bool,
    },
    Miss,
    Remove,
    Take,
    Revive,
    Gone,
    Release,
    Close,
    Unwrap,
    Shared,
}

impl Action {
    /// Whether it makes a handle.
    pub fn gains(self) -> bool {
        matches!(
            self,
            Self::Insert(_) | Self::Hit { .. } | Self::Remove | Self::Take | Self::Revive
        )
    }

    /// Whether it changes nothing.
    pub fn observes(self) -> bool {
        matches!(self, Self::Miss | Self::Gone | Self::Shared)
    }
}

/// How a sequence of steps has left a key.
///
/// Numbers of handles follow from which steps were done, because each step's answer is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct State {
    done: Set,
    /// Releases that owe nothing any more.
    settled: Set,
    entry: Option<Subject>,
    /// Instances that were removed at once.
    at_once: u64,
}

impl State {
    pub fn has_done(&self, step: usize) -> bool {
        self.done & only(step) != 0
    }
}

/// The steps of a key, in the form that the rules need.
#[derive(Debug)]
pub struct Spec {
    actions: Vec<(Action, Subject)>,
    instances: Vec<Instance>,
    /// Insertions that take the place of an entry which is being built.
    displacing: Set,
    releases: Set,
}

/// What is done to one instance.
#[derive(Clone, Copy, Debug, Default)]
struct Instance {
    gains: Set,
    releases: Set,
    closings: Set,
}

impl Spec {
    pub fn new(actions: Vec<(Action, Subject)>) -> Self {
        assert!(actions.len() <= ROOM, "a history with too many steps");
        let subjects = actions.iter().map(|&(_, subject)| usize::from(subject) + 1);
        let mut instances = vec![Instance::default(); subjects.max().unwrap_or(0)];
        assert!(instances.len() <= 64, "a history with too many instances");
        let mut displacing = 0;
        let mut releases = 0;
        for (step, &(action, subject)) in actions.iter().enumerate() {
            if action == Action::Insert(Inserter::Displacing) {
                displacing |= only(step);
            }
            let instance = &mut instances[usize::from(subject)];
            match action {
                Action::Release => {
                    instance.releases |= only(step);
                    releases |= only(step);
                }
                Action::Close | Action::Unwrap => instance.closings |= only(step),
                action if action.gains() => instance.gains |= only(step),
                _ => {}
            }
        }
        Self {
            actions,
            instances,
            displacing,
            releases,
        }
    }

    fn handles(&self, state: &State, subject: Subject) -> u32 {
        let instance = &self.instances[usize::from(subject)];
        let gains = (state.done & instance.gains).count_ones();
        gains.saturating_sub((state.done & instance.releases).count_ones())
    }

    fn is_closed(&self, state: &State, subject: Subject) -> bool {
        state.done & self.instances[usize::from(subject)].closings != 0
    }

    /// Whether a step may come next, as far as the state of its key is concerned.
    pub fn allows(&self, state: &State, step: usize) -> bool {
        let (action, subject) = self.actions[step];
        let is_entry = state.entry == Some(subject);
        let was_removed_at_once = state.at_once >> subject & 1 != 0;
        match action {
            Action::Insert(_) | Action::Miss => state.entry.is_none(),
            Action::Hit { waits: false } | Action::Remove => is_entry,
            Action::Hit { waits: true } => {
                is_entry || was_removed_at_once && !self.is_closed(state, subject)
            }
            Action::Take | Action::Release => true,
            Action::Revive => !self.is_closed(state, subject),
            Action::Gone => self.is_closed(state, subject),
            Action::Close => !self.is_closed(state, subject) && self.handles(state, subject) == 0,
            Action::Unwrap => !self.is_closed(state, subject) && self.handles(state, subject) == 1,
            Action::Shared => self.handles(state, subject) > 1,
        }
    }

    /// Releases that were done and are still to settle.
    pub fn owing(&self, state: &State) -> Set {
        state.done & !state.settled & self.releases
    }

    /// The state after a release has settled, if it may.
    pub fn settled(&self, state: &State, release: usize) -> Option<State> {
        let subject = self.actions[release].1;
        let may = self.is_closed(state, subject) || self.handles(state, subject) != 0;
        may.then(|| State {
            settled: state.settled | only(release),
            ..*state
        })
    }

    /// The state after a step that is allowed.
    pub fn after(&self, state: &State, step: usize) -> State {
        let (action, subject) = self.actions[step];
        let mut next = State {
            done: state.done | only(step),
            ..*state
        };
        match action {
            Action::Insert(_) => next.entry = Some(subject),
            Action::Remove | Action::Close | Action::Unwrap if next.entry == Some(subject) => {
                next.entry = None;
            }
            _ => {}
        }
        next
    }

    /// The state after an insertion that was undone at once, if that is possible.
    pub fn after_at_once(&self, state: &State, step: usize) -> Option<State> {
        let (action, subject) = self.actions[step];
        let displaced = action == Action::Insert(Inserter::Displaced);
        (displaced && state.done & self.displacing != 0).then(|| State {
            done: state.done | only(step),
            at_once: state.at_once | 1 << subject,
            ..*state
        })
    }
}
