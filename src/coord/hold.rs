//! Something that is held: what a guard knows of it.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::lease::Lease;
use super::store::Holder;
use super::time::Time;
use crate::sync::Event;

/// A grant, as its session knows it.
pub(super) struct Hold {
    pub(super) key: Arc<str>,
    pub(super) token: u64,
    pub(super) slot: u32,
    pub(super) lease: Lease,
    /// Set when it is known to be lost.
    pub(super) lost: Event,
    term: Mutex<Term>,
}

/// How long it lasts, by the clock of the store.
#[derive(Clone, Copy)]
struct Term {
    ends: Option<Time>,
    /// When it is to be renewed.
    renew: Option<Time>,
}

impl Hold {
    /// Of something whose lease has begun, at that moment at the latest.
    pub(super) fn of(holder: Holder, now: Time) -> Self {
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
            term: Mutex::new(Term {
                ends: expires,
                renew: next_renewal(ask.lease, now),
            }),
        }
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

    pub(super) fn is_to_be_renewed(&self, now: Time) -> bool {
        self.term.lock().renew.is_some_and(|renew| renew <= now)
    }

    /// It lasts until then, and was renewed now.
    pub(super) fn extend(&self, ends: Time, now: Time) {
        *self.term.lock() = Term {
            ends: Some(ends),
            renew: next_renewal(self.lease, now),
        };
    }

    /// To be tried again a little later.
    pub(super) fn put_off(&self, now: Time) {
        let wait = self.lease.time().unwrap_or_default() / 20;
        self.term.lock().renew = Some(now.after(wait.max(Duration::from_millis(1))));
    }

    /// When it is to be looked after next.
    pub(super) fn next(&self) -> Option<Time> {
        if self.lost.is_set() {
            return None;
        }
        let Term { ends, renew } = *self.term.lock();
        ends.into_iter().chain(renew).min()
    }
}

fn next_renewal(lease: Lease, now: Time) -> Option<Time> {
    // One that is over at once isn't renewed all the time.
    lease
        .renewal()
        .map(|time| now.after(time.max(Duration::from_millis(1))))
}
