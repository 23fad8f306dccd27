//! From a history to the steps of one key.
//!
//! Keys don't know of each other, so the object is their product, and each is checked by itself: a history is
//! linearizable if its part of every key is (Herlihy and Wing 1990, *locality*; Horn and Kroening, *Faster
//! Linearizability Checking via P-Compositionality*, 2015).

use std::collections::BTreeMap;

use super::history::{Answer, Call, History, Id, Record, Span, Stamp};
use super::program::{Key, Kind, Look};
use super::spec::{Action, Inserter, Subject};

/// A step that the search has to find a place for, within its span.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    pub action: Action,
    pub subject: Subject,
    pub span: Span,
    /// An earlier step that belongs to the same call.
    pub after: Option<usize>,
    /// When a release must have settled.
    pub deadline: Stamp,
    /// The call, as a place in the history.
    pub record: usize,
}

/// What the rules look up in a history again and again.
pub struct Index<'a> {
    pub history: &'a History,
    /// The calls that brought the instances.
    makers: BTreeMap<Id, usize>,
    /// Whether an entry may be linked and not be seen by a look-up of its key.
    hides: bool,
}

impl<'a> Index<'a> {
    pub fn new(history: &'a History) -> Self {
        let makers = history.records.iter().enumerate();
        let makers = makers.filter_map(|(place, record)| Some((record.own?, place)));
        let hides = history.kind == Kind::Map
            && history.records.iter().any(|record| {
                record
                    .look()
                    .is_some_and(|(look, _)| look.waits() || look == Look::Remove)
            });
        Self {
            history,
            makers: makers.collect(),
            hides,
        }
    }

    pub fn keys(&self) -> Vec<Key> {
        let looks = self.history.records.iter().filter_map(Record::look);
        let mut keys: Vec<_> = looks.map(|(_, key)| key).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// The call that made an instance.
    pub fn maker(&self, id: Id) -> Option<&'a Record> {
        Some(&self.history.records[*self.makers.get(&id)?])
    }

    /// The key of an instance; `None` if there is no such instance.
    pub fn key_of(&self, id: Id) -> Option<Key> {
        self.maker(id)?.look().map(|(_, key)| key)
    }

    pub fn instances(&self) -> impl Iterator<Item = Id> {
        self.makers.keys().copied()
    }

    /// Whether a call may hold an entry of the key for a moment, on its way to what it looks for.
    pub fn passes(&self, record: &Record, key: Key) -> bool {
        record.look().is_some_and(|(_, wanted)| {
            if wanted == key {
                self.hides
            } else {
                self.history.one_hash
            }
        })
    }

    /// Until when what is due on a key at some time may be put off: to the end of the last call in a chain of
    /// those that pass by.
    pub fn at_the_latest(&self, key: Key, due: Stamp) -> Stamp {
        let mut due = due;
        loop {
            let helpers = self.history.records.iter();
            let later = helpers
                .filter(|record| record.span.call <= due && record.span.answer > due)
                .filter(|record| self.passes(record, key))
                .map(|record| record.span.answer)
                .max();
            match later {
                Some(later) => due = later,
                None => return due,
            }
        }
    }

    /// When an entry has certainly been counted. Another thread may have published it, and count later.
    pub fn counted_in(&self, maker: &Record) -> Stamp {
        match maker.look() {
            Some((_, key)) if self.hides => self.at_the_latest(key, maker.span.answer),
            _ => maker.span.answer,
        }
    }

    /// Whether a `get_or_init` that answers its own value may have lost its place to another call.
    pub fn may_be_displaced(&self, record: &Record) -> bool {
        record.look().is_some_and(|(look, key)| {
            look.waits()
                && self.history.records.iter().any(|other| {
                    other.inserted()
                        && other.span.overlaps(record.span)
                        && other
                            .look()
                            .is_some_and(|(look, of)| look.displaces() && of == key)
                })
        })
    }

    /// The steps of a key.
    pub fn steps_of(&self, key: Key) -> Vec<Step> {
        let mut steps = Steps {
            index: self,
            key,
            steps: Vec::new(),
            subjects: Vec::new(),
        };
        for (place, record) in self.history.records.iter().enumerate() {
            steps.add_call(place, record);
        }
        steps.steps
    }
}

struct Steps<'a> {
    index: &'a Index<'a>,
    key: Key,
    steps: Vec<Step>,
    subjects: Vec<Id>,
}

impl Steps<'_> {
    fn add_call(&mut self, place: usize, record: &Record) {
        let answered = record.found();
        let mut release = None;
        match record.call {
            Call::Look(look, key) if key == self.key => {
                let action = self.look(look, record);
                self.add(place, action, answered, None);
            }
            Call::Clone(id) => self.add_if_mine(place, Action::Take, id),
            Call::Upgrade(id) => match answered {
                Some(_) => self.add_if_mine(place, Action::Revive, id),
                None => self.add_if_mine(place, Action::Gone, id),
            },
            Call::TryUnwrap(id) => match answered {
                Some(_) => self.add_if_mine(place, Action::Unwrap, id),
                None if self.is_passed_during(record) => {}
                None => self.add_if_mine(place, Action::Shared, id),
            },
            Call::Drop(id) => release = self.release(place, id, None),
            Call::Next(_, last) => {
                let hit = answered
                    .filter(|&id| self.is_mine(id))
                    .map(|id| self.add(place, Action::Hit { waits: false }, Some(id), None));
                if let Some(last) = last {
                    release = self.release(place, last, hit);
                }
            }
            Call::Look(..) | Call::Downgrade(_) | Call::Len | Call::Burst | Call::Leave => {}
        }
        self.add_ends(place, record, release);
    }

    /// The ends of instances whose destructors ran in this call.
    fn add_ends(&mut self, place: usize, record: &Record, release: Option<usize>) {
        for death in &record.deaths {
            let moved_out =
                matches!(record.call, Call::TryUnwrap(_)) && record.found() == Some(death.id);
            let was_entry = self.index.maker(death.id).is_some_and(Record::inserted);
            if self.is_mine(death.id) && was_entry && !moved_out {
                let step = self.add(place, Action::Close, Some(death.id), release);
                self.steps[step].span.answer = death.at;
            }
        }
    }

    fn look(&self, look: Look, record: &Record) -> Action {
        match record.answer {
            Answer::Found(_) if record.inserted() => {
                Action::Insert(if self.index.may_be_displaced(record) {
                    Inserter::Displaced
                } else if look.displaces() {
                    Inserter::Displacing
                } else {
                    Inserter::Plain
                })
            }
            Answer::Found(_) if look == Look::Remove => Action::Remove,
            Answer::Found(_) => Action::Hit {
                waits: look.waits(),
            },
            _ => Action::Miss,
        }
    }

    fn is_mine(&self, id: Id) -> bool {
        self.index.key_of(id) == Some(self.key)
    }

    /// Whether somebody who passes by may have held a handle during a call.
    fn is_passed_during(&self, call: &Record) -> bool {
        self.index.history.records.iter().any(|other| {
            other.thread != call.thread
                && other.span.overlaps(call.span)
                && self.index.passes(other, self.key)
        })
    }

    fn add_if_mine(&mut self, place: usize, action: Action, id: Id) {
        if self.is_mine(id) {
            self.add(place, action, Some(id), None);
        }
    }

    fn release(&mut self, place: usize, id: Id, after: Option<usize>) -> Option<usize> {
        self.is_mine(id)
            .then(|| self.add(place, Action::Release, Some(id), after))
    }

    /// Adds a step, and answers its number. Steps on no instance are on number 0, which doesn't matter.
    fn add(&mut self, place: usize, action: Action, id: Option<Id>, after: Option<usize>) -> usize {
        let span = self.index.history.records[place].span;
        let subject = id.map_or(0, |id| self.number(id));
        let deadline = match action {
            Action::Release => self.index.at_the_latest(self.key, span.answer),
            _ => span.answer,
        };
        self.steps.push(Step {
            action,
            subject,
            span,
            after,
            deadline,
            record: place,
        });
        self.steps.len() - 1
    }

    fn number(&mut self, id: Id) -> Subject {
        let known = self.subjects.iter().position(|&known| known == id);
        let number = known.unwrap_or_else(|| {
            self.subjects.push(id);
            self.subjects.len() - 1
        });
        number as Subject
    }
}
