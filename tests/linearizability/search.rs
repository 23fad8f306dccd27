//! The search: is there an order of a key's steps that the specification allows and that respects real time?
//!
//! Herlihy and Wing, *Linearizability: A Correctness Condition for Concurrent Objects*, 1990, is what is checked:
//! every call appears to take effect at one moment between its beginning and its end. Wing and Gong, *Testing and
//! Verifying Concurrent Objects*, 1993, is how: try as next each step that no other one, still to come, has ended
//! before; go back where none fits. Lowe, *Testing for linearizability*, 2017, is why it ends soon: what was
//! tried in vain is remembered by the set of steps that were taken and the state they led to; and the
//! step that must come soonest is tried first, so that others are taken just in time.
//!
//! Two things come off the search. A step that changes nothing is taken as soon as it is allowed, since
//! that can't be in the way of any other. So is the settling of a release.

use std::collections::HashSet;

use super::history::Stamp;
use super::spec::{Spec, State, steps_of};
use super::steps::Step;

/// How far the search got when there is no order.
#[derive(Clone, Debug)]
pub struct Stuck {
    /// One of the longest orders, as numbers of steps.
    pub order: Vec<usize>,
    /// The steps that could have come next as far as real time goes.
    pub next: Vec<usize>,
    /// Releases that were in time, but after which nobody closed or revived what they left.
    pub owing: Vec<usize>,
}

/// Looks for an order.
pub fn linearize(steps: &[Step]) -> Result<(), Stuck> {
    let spec = Spec::new(
        steps
            .iter()
            .map(|step| (step.action, step.subject))
            .collect(),
    );
    let mut soonest: Vec<_> = (0..steps.len()).collect();
    soonest.sort_unstable_by_key(|&step| steps[step].span.answer);
    let mut search = Search {
        steps,
        spec,
        soonest,
        refuted: HashSet::new(),
        order: Vec::new(),
        longest: None,
    };
    if search.goes_on_from(State::default()) {
        return Ok(());
    }
    Err(search.longest.expect("the search began somewhere"))
}

struct Search<'a> {
    steps: &'a [Step],
    spec: Spec,
    /// All steps, the one that must come soonest first.
    soonest: Vec<usize>,
    /// States from which no order goes to the end.
    refuted: HashSet<State>,
    order: Vec<usize>,
    longest: Option<Stuck>,
}

impl Search<'_> {
    /// Whether an order that has led to this state goes on to the end.
    fn goes_on_from(&mut self, mut state: State) -> bool {
        let taken = self.order.len();
        self.observe(&mut state);
        if self.refuted.contains(&state) {
            self.order.truncate(taken);
            return false;
        }
        if self.is_complete(&state) {
            return true;
        }
        let horizon = self.horizon(&state);
        for turn in 0..self.soonest.len() {
            let step = self.soonest[turn];
            if !self.may_come(&state, step, horizon) || !self.spec.allows(&state, step) {
                continue;
            }
            self.order.push(step);
            let at_once = self.spec.after_at_once(&state, step);
            if self.goes_on_from(self.spec.after(&state, step))
                || at_once.is_some_and(|state| self.goes_on_from(state))
            {
                return true;
            }
            self.order.pop();
        }
        self.remember(&state, horizon);
        self.refuted.insert(state);
        self.order.truncate(taken);
        false
    }

    /// Takes all steps that change nothing and are allowed, and settles what can be settled.
    fn observe(&mut self, state: &mut State) {
        for release in steps_of(self.spec.owing(state)) {
            *state = self.spec.settled(state, release).unwrap_or(*state);
        }
        let horizon = self.horizon(state);
        for step in 0..self.steps.len() {
            if self.steps[step].action.observes()
                && self.may_come(state, step, horizon)
                && self.spec.allows(state, step)
            {
                self.order.push(step);
                *state = self.spec.after(state, step);
            }
        }
    }

    fn is_complete(&self, state: &State) -> bool {
        (0..self.steps.len()).all(|step| state.has_done(step)) && self.spec.owing(state) == 0
    }

    /// The time by which something that is still to come must have come.
    fn horizon(&self, state: &State) -> Stamp {
        let steps = (0..self.steps.len()).filter(|&step| !state.has_done(step));
        let answers = steps.map(|step| self.steps[step].span.answer);
        let deadlines = steps_of(self.spec.owing(state)).map(|step| self.steps[step].deadline);
        answers.chain(deadlines).min().unwrap_or(Stamp::MAX)
    }

    /// Whether a step may come next as far as real time and its own call go.
    fn may_come(&self, state: &State, step: usize, horizon: Stamp) -> bool {
        let Step { span, after, .. } = self.steps[step];
        !state.has_done(step)
            && span.call <= horizon
            && after.is_none_or(|after| state.has_done(after))
    }

    /// Keeps the longest order.
    fn remember(&mut self, state: &State, horizon: Stamp) {
        let longest = self.longest.as_ref().map(|stuck| stuck.order.len());
        if longest.is_none_or(|longest| self.order.len() > longest) {
            self.longest = Some(Stuck {
                order: self.order.clone(),
                next: (0..self.steps.len())
                    .filter(|&step| self.may_come(state, step, horizon))
                    .collect(),
                owing: steps_of(self.spec.owing(state)).collect(),
            });
        }
    }
}
