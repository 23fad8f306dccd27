//! Who holds a key, who waits for it, and who is next: the rules, apart from where the rows lie.
//!
//! A *line* is all rows of one key at one moment. The store loads it, calls one of the methods here, writes what is
//! different, and, once that is there for all, [rings](Bell) those who are to look again. Nothing here asks a clock
//! or waits.
//!
//! - *Order.* Waiters stand in the order of their tickets. When something comes free the first one gets it, and then the
//!   next, as long as there is room.
//! - *Barging.* Who comes when there is room takes it, though others wait, until the first of those has been the first for
//!   [`PATIENCE`]: from then on it is *due*, nobody passes it, and whoever lets go hands over to it. So a key that is taken
//!   and let go all the time stays with one process for a while, and isn't handed to and fro, and each waiter gets its
//!   turn. A waiter that asked for a strict order is due at once. One that isn't due and finds that there is room takes that
//!   if nobody else comes within a tenth of that time.
//!
//! Who is rung, and why that is enough: docs/COORD.md.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::{Entered, Place};
use crate::coord::error::{Fault, Kind};
use crate::coord::lease::Lease;
use crate::coord::owner::Owner;
use crate::coord::time::{Time, wall_clock};

/// For how long the first waiter lets others pass.
pub(in crate::coord) const PATIENCE: Duration = Duration::from_millis(1);
/// How old a grant may be for its waiter to take it without a look.
const NEWS: Duration = Duration::from_millis(10);

/// What is asked for, and in whose name.
#[derive(Clone, Debug)]
pub(in crate::coord) struct Ask {
    pub(in crate::coord) key: Arc<str>,
    pub(in crate::coord) want: Want,
    pub(in crate::coord) lease: Lease,
    pub(in crate::coord) owner: Option<Owner>,
    pub(in crate::coord) tag: Option<Arc<str>>,
    /// Nobody may pass it.
    pub(in crate::coord) is_strict: bool,
    /// It waits for as long as it takes.
    pub(in crate::coord) is_endless: bool,
    /// When whoever asks gives up. Only that one knows.
    pub(in crate::coord) gives_up: Option<Time>,
}

impl Ask {
    /// For as long as the session, and in the name of nobody.
    pub(in crate::coord) fn of(key: &str, want: Want) -> Self {
        Self {
            key: Arc::from(key),
            want,
            lease: Lease::default(),
            owner: None,
            tag: None,
            is_strict: false,
            is_endless: true,
            gives_up: None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::coord) enum Want {
    Exclusive,
    Shared,
    /// One of so many.
    Permit {
        limit: u32,
    },
}

/// Where a waiter hears that it is to look again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::coord) struct Bell {
    pub(in crate::coord) session: u64,
    pub(in crate::coord) number: u32,
}

#[derive(Clone, Debug)]
pub(in crate::coord) struct Holder {
    pub(in crate::coord) token: u64,
    /// What it had as a waiter.
    pub(in crate::coord) ticket: Option<u64>,
    pub(in crate::coord) session: u64,
    pub(in crate::coord) ask: Ask,
    pub(in crate::coord) slot: u32,
    /// By the clock of its session. A lease with a time and without this one hasn't begun.
    pub(in crate::coord) expires: Option<Time>,
    /// How often it was renewed.
    pub(in crate::coord) renewals: u64,
    /// By the wall clock, in microseconds, for people.
    pub(in crate::coord) since: u64,
}

#[derive(Clone, Debug)]
pub(in crate::coord) struct Waiter {
    pub(in crate::coord) ticket: u64,
    pub(in crate::coord) session: u64,
    pub(in crate::coord) bell: Bell,
    pub(in crate::coord) ask: Ask,
    /// From when on nobody may pass it, if it is the first.
    pub(in crate::coord) due: Option<Time>,
    /// By the wall clock, in microseconds, for people.
    pub(in crate::coord) since: u64,
}

/// A bell that is to be rung, and what is told with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::coord) struct Ring {
    pub(in crate::coord) bell: Bell,
    pub(in crate::coord) grant: Option<Grant>,
}

impl From<Bell> for Ring {
    /// Who hears it is to look.
    fn from(bell: Bell) -> Self {
        Self { bell, grant: None }
    }
}

/// What a waiter was granted, as far as it doesn't know that itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::coord) struct Grant {
    pub(in crate::coord) ticket: u64,
    pub(in crate::coord) token: u64,
    pub(in crate::coord) slot: u32,
    pub(in crate::coord) expires: Option<Time>,
    /// When it was granted. Moments are by the clock of whoever has granted it.
    pub(in crate::coord) at: Time,
}

impl Grant {
    /// What that makes of who has waited there. Nothing if it was for somebody else; if it was told late, since it may have been
    /// taken away meanwhile; or by another clock, by which its lease hasn't begun.
    pub(in crate::coord) fn taken(self, place: &Place, now: Time) -> Option<Holder> {
        let is_new = self.at <= now && now < self.at.after(NEWS);
        let has_begun = self.expires.is_some() || place.ask.lease.time().is_none();
        (self.ticket == place.ticket && is_new && has_begun).then(|| Holder {
            token: self.token,
            ticket: Some(self.ticket),
            session: place.bell.session,
            ask: place.ask.clone(),
            slot: self.slot,
            expires: self.expires,
            renewals: 0,
            since: wall_clock(),
        })
    }
}

/// What the rules must know of the moment.
pub(in crate::coord) trait Moment {
    fn now(&self) -> Time;

    /// The last number that was given out, of this key or of another.
    fn last_number(&self) -> u64;

    /// A number greater than all that came before, of this key and of others.
    fn next_number(&mut self) -> u64;

    /// When a lease ends that begins now, if the clock of its holder's session says so.
    fn expiry(&self, session: u64, lease: Lease) -> Option<Time>;
}

/// How a waiter stands.
#[derive(Clone, Debug)]
pub(in crate::coord) enum Standing {
    Granted(Holder),
    Waiting {
        /// The sessions whose end may be what it waits for.
        ahead: Vec<u64>,
        /// Others whose end the first waiter looks after, unless it was stopped.
        held_by: Vec<u64>,
        room: Room,
        /// There may be room for it by then, if it isn't told.
        look_at: Option<Time>,
    },
    /// It isn't there any more.
    Gone,
}

/// Whether there is room for the first waiter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::coord) enum Room {
    No,
    /// That isn't due: others may come by. This was the last number that was given out.
    UntilOthersCome(u64),
    Yes,
}

/// The rows of a key.
#[derive(Clone, Debug, Default)]
pub(in crate::coord) struct Line {
    /// In the order of their tokens.
    pub(in crate::coord) holders: Vec<Holder>,
    /// In the order of their tickets.
    pub(in crate::coord) waiters: Vec<Waiter>,
    pub(in crate::coord) to_ring: Vec<Ring>,
}

impl Holder {
    /// By the clock of who has loaded it.
    pub(in crate::coord) fn is_over(&self, now: Time) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

impl Line {
    /// Whether somebody holds it in that name, or that of an ancestor, who doesn't let go by himself.
    fn is_held_by(&self, owner: Option<&Owner>) -> bool {
        let Some(owner) = owner else {
            return false;
        };
        self.holders.iter().any(|holder| {
            let held_by = holder.ask.owner.as_ref().map(Owner::number);
            let is_own = held_by.is_some_and(|number| owner.lineage().contains(&number));
            is_own && !matches!(holder.ask.lease, Lease::Fixed(_))
        })
    }

    /// Takes out what doesn't count any more. True if there was something.
    pub(in crate::coord) fn remove(&mut self, now: Time, is_dead: impl Fn(u64) -> bool) -> bool {
        let before = self.holders.len() + self.waiters.len();
        self.holders
            .retain(|holder| !is_dead(holder.session) && !holder.is_over(now));
        let mut lost_the_one_before = false;
        let to_ring = &mut self.to_ring;
        self.waiters.retain(|waiter| {
            let stays = !is_dead(waiter.session);
            if stays && lost_the_one_before {
                to_ring.push(waiter.bell.into());
            }
            lost_the_one_before = !stays;
            stays
        });
        self.holders.len() + self.waiters.len() < before
    }

    /// Is the key in use as something else?
    fn check_kind(&self, want: Want, session: u64) -> Result<(), Fault> {
        let holders = self.holders.iter().map(|holder| holder.ask.want);
        let waiters = self.waiters.iter().map(|waiter| waiter.ask.want);
        let Some(found) = holders.chain(waiters).next() else {
            return Ok(());
        };
        let is_other = match (found, want) {
            (Want::Permit { limit: found }, Want::Permit { limit: wanted }) => found != wanted,
            _ => found.kind() != want.kind(),
        };
        if is_other {
            return Err(Fault::other_use(found, want, self.others(session)));
        }
        Ok(())
    }

    /// The other sessions that hold it or wait for it.
    fn others(&self, session: u64) -> Vec<u64> {
        let holders = self.holders.iter().map(|holder| holder.session);
        let waiters = self.waiters.iter().map(|waiter| waiter.session);
        let others: BTreeSet<_> = holders
            .chain(waiters)
            .filter(|other| *other != session)
            .collect();
        others.into_iter().collect()
    }

    /// Grants it at once, or puts somebody who can get a bell at the end.
    pub(in crate::coord) fn enter(
        &mut self,
        ask: &Ask,
        session: u64,
        bell: Option<impl FnOnce() -> Result<Bell, Fault>>,
        moment: &mut impl Moment,
    ) -> Result<Entered, Fault> {
        self.check_kind(ask.want, session)?;
        // The first one may have been stopped before it could take what it is due.
        if let Some(head) = self.waiters.first()
            && !may_be_passed(head.due, moment.now())
        {
            self.settle(moment);
        }
        if let Some(holder) = self.grant_now(ask, session, moment) {
            return Ok(Entered::Granted(holder));
        }
        let Some(bell) = bell else {
            return Ok(Entered::Refused(self.others(session)));
        };
        let bell = bell()?;
        let place = Place {
            ask: ask.clone(),
            ticket: self.queue(ask, bell, moment),
            bell,
            waits_for_itself: self.is_held_by(ask.owner.as_ref()),
        };
        let standing = self.standing(place.ticket, session, moment);
        Ok(Entered::Queued(place, standing))
    }

    /// Grants it, if that is possible without a wait.
    fn grant_now(&mut self, ask: &Ask, session: u64, moment: &mut impl Moment) -> Option<Holder> {
        let slot = self.room_for(ask.want)?;
        let may_pass = match self.waiters.first() {
            None => true,
            Some(head) => !ask.is_strict && may_be_passed(head.due, moment.now()),
        };
        may_pass.then(|| self.grant(ask.clone(), session, None, slot, moment))
    }

    /// Puts somebody at the end.
    fn queue(&mut self, ask: &Ask, bell: Bell, moment: &mut impl Moment) -> u64 {
        let ticket = moment.next_number();
        let due = self.waiters.is_empty().then(|| due(ask, moment.now()));
        let waiter = Waiter {
            ticket,
            session: bell.session,
            bell,
            ask: ask.clone(),
            due,
            since: wall_clock(),
        };
        self.waiters.push(waiter);
        ticket
    }

    /// Grants to the first as long as there is room, and tells the next one that it is the first now.
    pub(in crate::coord) fn settle(&mut self, moment: &mut impl Moment) {
        while let Some(head) = self.waiters.first()
            && let Some(slot) = self.room_for(head.ask.want)
        {
            let Waiter {
                ticket,
                session,
                bell,
                ask,
                ..
            } = self.waiters.remove(0);
            let Holder { token, expires, .. } =
                self.grant(ask, session, Some(ticket), slot, moment);
            let grant = Some(Grant {
                ticket,
                token,
                slot,
                expires,
                at: moment.now(),
            });
            self.to_ring.push(Ring { bell, grant });
        }
        if let Some(head) = self.waiters.first_mut()
            && head.due.is_none()
        {
            let due = due(&head.ask, moment.now());
            head.due = Some(due);
            // It watches the one before it, who is the holder now, and there is no time that it would have to look at.
            let knows = head.ask.is_strict
                && matches!(&self.holders[..], [only] if only.ask.lease.time().is_none());
            if !knows {
                self.to_ring.push(head.bell.into());
            }
        }
    }

    /// Takes a grant back. False if it isn't there.
    pub(in crate::coord) fn release(&mut self, token: u64, moment: &mut impl Moment) -> bool {
        let Some(at) = self.holders.iter().position(|holder| holder.token == token) else {
            return false;
        };
        self.holders.remove(at);
        match self.waiters.first() {
            // It has heard when it became the first, but may sleep until it is due.
            Some(head) if may_be_passed(head.due, moment.now()) => {
                self.to_ring.push(head.bell.into())
            }
            // Others may have come by whom it doesn't watch.
            Some(head) if !self.holders.is_empty() => {
                self.to_ring.push(head.bell.into());
                self.settle(moment);
            }
            _ => self.settle(moment),
        }
        true
    }

    /// Takes all grants back that have that tag, and nobody is asked to be patient. Answers how many there were.
    pub(in crate::coord) fn evict(&mut self, tag: &str, moment: &mut impl Moment) -> usize {
        let has_tag = |holder: &&Holder| holder.ask.tag.as_deref() == Some(tag);
        let tokens = self
            .holders
            .iter()
            .filter(has_tag)
            .map(|holder| holder.token);
        let tokens: Vec<_> = tokens.collect();
        for token in &tokens {
            // Who was granted it meanwhile may have the same tag.
            self.release(*token, moment);
        }
        if !tokens.is_empty() {
            self.settle(moment);
        }
        tokens.len()
    }

    /// The lease of a grant lasts for that long from now on. Answers when it ends, if it is there.
    pub(in crate::coord) fn extend(
        &mut self,
        token: u64,
        time: Duration,
        moment: &impl Moment,
    ) -> Option<Time> {
        let expires = moment.now().after(time);
        let holder = self
            .holders
            .iter_mut()
            .find(|holder| holder.token == token)?;
        holder.ask.lease = match holder.ask.lease {
            Lease::Renewed(_) => Lease::Renewed(time),
            Lease::Session | Lease::Fixed(_) => Lease::Fixed(time),
        };
        let before = holder.expires.replace(expires);
        holder.renewals += 1;
        if before.is_none_or(|before| expires < before)
            && let Some(head) = self.waiters.first()
        {
            // It sleeps until the end that it knows.
            self.to_ring.push(head.bell.into());
        }
        Some(expires)
    }

    /// Takes a waiter out of the line. Answers with its grant if that has come first.
    pub(in crate::coord) fn leave(
        &mut self,
        ticket: u64,
        moment: &mut impl Moment,
    ) -> Option<Holder> {
        if let Some(holder) = self.granted(ticket) {
            return Some(holder.clone());
        }
        let at = self
            .waiters
            .iter()
            .position(|waiter| waiter.ticket == ticket)?;
        self.waiters.remove(at);
        if let Some(next) = self.waiters.get(at) {
            self.to_ring.push(next.bell.into());
        }
        self.settle(moment);
        None
    }

    /// How a waiter of that session stands.
    pub(in crate::coord) fn standing(
        &self,
        ticket: u64,
        session: u64,
        moment: &impl Moment,
    ) -> Standing {
        if let Some(holder) = self.granted(ticket) {
            return Standing::Granted(holder.clone());
        }
        let Some(at) = self
            .waiters
            .iter()
            .position(|waiter| waiter.ticket == ticket)
        else {
            return Standing::Gone;
        };
        // Its own session outlives it.
        if at > 0 {
            let before = self.waiters[at - 1].session;
            let ahead = if before == session {
                vec![]
            } else {
                vec![before]
            };
            // The first one has been stopped, or has just been rung.
            let head = &self.waiters[0];
            let lasting = self
                .holders
                .iter()
                .filter(|holder| !holder.is_over(moment.now()));
            let is_overdue = !may_be_passed(head.due, moment.now())
                && self::room(lasting, head.ask.want).is_some();
            let held_by = self.holders.iter().map(|holder| holder.session);
            return Standing::Waiting {
                ahead,
                held_by: held_by.filter(|holder| *holder != session).collect(),
                room: if is_overdue { Room::Yes } else { Room::No },
                look_at: None,
            };
        }
        let (head, now) = (&self.waiters[0], moment.now());
        let lasting = || {
            self.holders
                .iter()
                .filter(|holder| !holder.is_over(moment.now()))
        };
        let ahead: BTreeSet<_> = lasting()
            .map(|holder| holder.session)
            .filter(|holder| *holder != session)
            .collect();
        Standing::Waiting {
            ahead: ahead.into_iter().collect(),
            held_by: Vec::new(),
            room: match room(lasting(), head.ask.want) {
                None => Room::No,
                Some(_) if may_be_passed(head.due, now) => {
                    Room::UntilOthersCome(moment.last_number())
                }
                Some(_) => Room::Yes,
            },
            look_at: lasting()
                .filter_map(|holder| holder.expires)
                .chain(head.due.filter(|due| now < *due))
                .min(),
        }
    }

    fn granted(&self, ticket: u64) -> Option<&Holder> {
        self.holders
            .iter()
            .find(|holder| holder.ticket == Some(ticket))
    }

    fn room_for(&self, want: Want) -> Option<u32> {
        room(self.holders.iter(), want)
    }

    fn grant(
        &mut self,
        ask: Ask,
        session: u64,
        ticket: Option<u64>,
        slot: u32,
        moment: &mut impl Moment,
    ) -> Holder {
        let holder = Holder {
            token: moment.next_number(),
            ticket,
            session,
            expires: moment.expiry(session, ask.lease),
            ask,
            slot,
            renewals: 0,
            since: wall_clock(),
        };
        self.holders.push(holder.clone());
        holder
    }
}

/// The slot that somebody would get beside those holders.
fn room<'a>(mut holders: impl Iterator<Item = &'a Holder>, want: Want) -> Option<u32> {
    match want {
        Want::Exclusive => holders.next().is_none().then_some(0),
        Want::Shared => holders
            .all(|holder| holder.ask.want == Want::Shared)
            .then_some(0),
        Want::Permit { limit } => {
            let taken: BTreeSet<_> = holders.map(|holder| holder.slot).collect();
            (0..limit).find(|slot| !taken.contains(slot))
        }
    }
}

fn due(ask: &Ask, now: Time) -> Time {
    if ask.is_strict {
        now
    } else {
        now.after(PATIENCE)
    }
}

/// Whether the first waiter, who is due at that moment, may be passed. A moment that is further ahead than it can be was
/// told by another clock, and counts for nothing.
pub(in crate::coord) fn may_be_passed(due: Option<Time>, now: Time) -> bool {
    due.is_some_and(|due| now < due && due <= now.after(PATIENCE))
}

impl Want {
    pub(in crate::coord) fn kind(self) -> Kind {
        match self {
            Self::Exclusive | Self::Shared => Kind::Lock,
            Self::Permit { .. } => Kind::Semaphore,
        }
    }
}
