//! The search against one without any cleverness, on histories that were played and then spoilt.
//!
//! The search remembers what failed, and takes what changes nothing as soon as it can. This one tries everything.
//! Where the search is wrong, it is in its cleverness; where the specification is wrong, both are, and
//! `by_hand.rs` is there for that.

use super::common::{Rng, SeedOnFailure, scaled, seed};
use super::generate;
use super::history::{Answer, Call, History, Id};
use super::program::Kind;
use super::search::linearize;
use super::spec::{Spec, State, steps_of};
use super::steps::{Index, Step};
use super::team;

/// Steps up to which trying everything comes to an end.
const STEPS: usize = 11;

struct BruteForce<'a> {
    steps: &'a [Step],
    spec: Spec,
}

impl BruteForce<'_> {
    fn goes_on_from(&self, state: &State) -> bool {
        let owing = self.spec.owing(state);
        if owing == 0 && (0..self.steps.len()).all(|step| state.has_done(step)) {
            return true;
        }
        let settled = steps_of(owing).filter_map(|release| self.spec.settled(state, release));
        let taken = (0..self.steps.len())
            .filter(|&step| self.may_come(state, step) && self.spec.allows(state, step))
            .flat_map(|step| {
                let at_once = self.spec.after_at_once(state, step);
                std::iter::once(self.spec.after(state, step)).chain(at_once)
            });
        settled.chain(taken).any(|state| self.goes_on_from(&state))
    }

    /// Whether nothing that is still to come, or to settle, had to do so before the step's call.
    fn may_come(&self, state: &State, step: usize) -> bool {
        let Step { span, after, .. } = self.steps[step];
        let late =
            |other: usize| !state.has_done(other) && self.steps[other].span.answer < span.call;
        let owing = |release: usize| self.steps[release].deadline < span.call;
        !state.has_done(step)
            && after.is_none_or(|after| state.has_done(after))
            && !(0..self.steps.len()).any(late)
            && !steps_of(self.spec.owing(state)).any(owing)
    }
}

/// Changes an answer, or moves a death or a call in time.
fn spoil(history: &mut History, rng: &mut Rng) {
    let ids: Vec<_> = history
        .records
        .iter()
        .filter_map(|record| record.own)
        .collect();
    let place = rng.below(history.records.len());
    let record = &mut history.records[place];
    match rng.below(4) {
        0 => record.span.call = record.span.call.saturating_sub(rng.next() % 8),
        1 => record.span.answer += rng.next() % 8,
        2 if !record.deaths.is_empty() => record.deaths[0].at += rng.next() % 8,
        _ => match record.call {
            Call::Look(..) if ids.len() > 1 && rng.below(2) == 0 => {
                record.answer = Answer::Found(ids[rng.below(ids.len())]);
            }
            Call::Look(..) | Call::Upgrade(_) | Call::TryUnwrap(_) => {
                record.answer = match record.answer {
                    Answer::Nothing => Answer::Found(ids.first().copied().unwrap_or(Id(0))),
                    _ => Answer::Nothing,
                };
            }
            _ => {}
        },
    }
}

#[test]
fn the_search_agrees_with_brute_force() {
    let seed = seed();
    let _seed = SeedOnFailure(seed);
    let mut rng = Rng(seed);
    let mut verdicts = [0, 0];
    while verdicts.iter().any(|&count| count < scaled(400, 4)) {
        let kind = [Kind::Interner, Kind::Map][rng.below(2)];
        let programs: Vec<_> = (0..scaled(64, 4))
            .map(|_| generate::program(kind, 2, &mut rng))
            .collect();
        for mut history in team::play(&programs, rng.next()).histories {
            for _ in 0..rng.below(3) {
                spoil(&mut history, &mut rng);
            }
            let index = Index::new(&history);
            for key in index.keys() {
                let steps = index.steps_of(key);
                if steps.len() > STEPS {
                    continue;
                }
                let actions = steps.iter().map(|step| (step.action, step.subject));
                let brute = BruteForce {
                    steps: &steps,
                    spec: Spec::new(actions.collect()),
                };
                let accepted = brute.goes_on_from(&State::default());
                let found = linearize(&steps).is_ok();
                assert_eq!(found, accepted, "{key} of {history:#?}");
                verdicts[usize::from(accepted)] += 1;
            }
        }
    }
}
