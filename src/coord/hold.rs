//! Something that is held: what a guard knows of it.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::lease::Lease;
use super::store::{Extension, Holder};
use super::time::Time;
use super::trace;
use crate::sync::Event;
use crate::table::contain;

/// A grant, as its session knows it.
pub(super) struct Hold {
    pub(super) key: Arc<str>,
    pub(super) token: u64,
    pub(super) slot: u32,
    pub(super) lease: Lease,
    /// Set when it is known to be lost.
    pub(super) lost: Event,
    /// Locked by whoever changes its lease in the store, so that what is known of it here isn't from before another change.
    pub(super) changing: Mutex<()>,
    term: Mutex<Term>,
}

/// How long it lasts, by the clock of the store.
#[derive(Clone, Copy)]
struct Term {
    ends: Option<Time>,
    /// For how long it lasts from each renewal on, if it renews itself.
    renews_for: Option<Duration>,
    /// When it is to be renewed.
    renew: Option<Time>,
}

impl Hold {
    /// Of something whose lease has begun, at that moment at the latest, and is renewed for so long, if it is.
    pub(super) fn of(holder: Holder, renews_for: Option<Duration>, now: Time) -> Self {
        let Holder {
            token,
            slot,
            ask,
            expires,
            ..
        } = holder;
        Self {
            key: ask.key,
            token,
            slot,
            lease: ask.lease,
            lost: Event::new(),
            changing: Mutex::new(()),
            term: Mutex::new(Term {
                ends: expires,
                renews_for,
                renew: renewal(renews_for, expires, now),
            }),
        }
    }

    /// Now it is known.
    pub(super) fn lose(&self) {
        if !self.lost.is_set() {
            trace::lost(&self.key, self.token);
        }
        // It may wake tasks of others, which is their executors' code.
        contain(|| self.lost.set());
    }

    pub(super) fn is_valid(&self, now: Time) -> bool {
        !self.lost.is_set() && self.term.lock().ends.is_none_or(|ends| now < ends)
    }

    pub(super) fn remaining(&self, now: Time) -> Option<Duration> {
        if self.lost.is_set() {
            return Some(Duration::ZERO);
        }
        self.term.lock().ends.map(|ends| ends.since(now))
    }

    /// For how long it is renewed, if it is.
    pub(super) fn renews_for(&self) -> Option<Duration> {
        self.term.lock().renews_for
    }

    /// For how long it is to be renewed by now, if it is.
    pub(super) fn is_to_be_renewed_for(&self, now: Time) -> Option<Duration> {
        let Term {
            renews_for, renew, ..
        } = *self.term.lock();
        renews_for.filter(|_| renew.is_some_and(|renew| renew <= now))
    }

    /// It lasts until then, as the store says, as of now.
    pub(super) fn set_end(&self, ends: Time, why: Extension, now: Time) {
        let mut term = self.term.lock();
        if why == Extension::ByHolder && self.lease == Lease::Session {
            term.renews_for = None;
        }
        term.ends = Some(ends);
        term.renew = renewal(term.renews_for, term.ends, now);
    }

    /// It may end sooner from now on. Answers with what was before, for the case that it doesn't.
    pub(super) fn doubt(&self, ends: Time) -> Option<Time> {
        let mut term = self.term.lock();
        let before = term.ends;
        term.ends = Some(before.map_or(ends, |before| before.min(ends)));
        before
    }

    /// It doesn't.
    pub(super) fn trust(&self, ends: Option<Time>) {
        self.term.lock().ends = ends;
    }

    /// To be tried again a little later.
    pub(super) fn put_off(&self, now: Time) {
        let mut term = self.term.lock();
        let wait = term.renews_for.unwrap_or_default() / 20;
        term.renew = Some(now.after(wait.max(Duration::from_millis(1))));
    }

    /// When it is to be looked after next.
    pub(super) fn next(&self) -> Option<Time> {
        if self.lost.is_set() {
            return None;
        }
        let Term { ends, renew, .. } = *self.term.lock();
        ends.into_iter().chain(renew).min()
    }
}

/// When two thirds of the time are left, and not all the time if that is short.
fn renewal(renews_for: Option<Duration>, ends: Option<Time>, now: Time) -> Option<Time> {
    let left = ends?.since(now).saturating_sub(renews_for? / 3 * 2);
    Some(now.after(left.max(Duration::from_millis(1))))
}
