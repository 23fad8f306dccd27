//! Who is rung: whoever has to look, and nobody else, since each ring wakes a process.

use super::*;

/// Time that stands still until it is set.
struct Still {
    now: i64,
    number: u64,
}

impl Moment for Still {
    fn now(&self) -> Time {
        Time(self.now)
    }

    fn last_number(&self) -> u64 {
        self.number
    }

    fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    fn expiry(&self, _: u64, lease: Lease) -> Option<Time> {
        lease.time().map(|time| self.now().after(time))
    }
}

fn ask(want: Want, is_strict: bool) -> Ask {
    Ask {
        is_strict,
        ..Ask::of("a", want)
    }
}

/// A line with one holder for each of `held`, and one waiter of session and bell 1, 2, … for each of `wanted`.
fn line(held: &[Want], wanted: &[Want], is_strict: bool) -> (Line, Still, Vec<u64>) {
    let mut moment = Still { now: 0, number: 0 };
    let mut line = Line::default();
    let enter = |line: &mut Line, want, session: u32, moment: &mut Still| {
        let bell = || {
            Ok(Bell {
                session: session.into(),
                number: session,
            })
        };
        line.enter(&ask(want, is_strict), session.into(), Some(bell), moment)
            .unwrap()
    };
    let tokens = held
        .iter()
        .map(|want| match enter(&mut line, *want, 100, &mut moment) {
            Entered::Granted(holder) => holder.token,
            _ => panic!("it is free"),
        });
    let tokens = tokens.collect();
    for (at, want) in wanted.iter().enumerate() {
        let entered = enter(&mut line, *want, at as u32 + 1, &mut moment);
        assert!(matches!(entered, Entered::Queued(..)));
    }
    assert!(line.to_ring.is_empty());
    (line, moment, tokens)
}

fn rung(line: &mut Line) -> Vec<u32> {
    std::mem::take(&mut line.to_ring)
        .into_iter()
        .map(|ring| ring.bell.number)
        .collect()
}

const EXCLUSIVE: Want = Want::Exclusive;
const SHARED: Want = Want::Shared;

#[test]
fn a_strict_hand_over_wakes_one() {
    let (mut line, mut moment, tokens) = line(&[EXCLUSIVE], &[EXCLUSIVE; 3], true);
    assert!(line.release(tokens[0], &mut moment));
    assert_eq!(rung(&mut line), [1]);
}

#[test]
fn a_ring_says_what_was_granted() {
    let (mut line, mut moment, tokens) = line(&[EXCLUSIVE], &[EXCLUSIVE; 2], true);
    let head = line.waiters[0].clone();
    let mut place = Place {
        ask: head.ask,
        ticket: head.ticket,
        bell: head.bell,
        waits_for_itself: false,
    };
    assert!(line.release(tokens[0], &mut moment));
    let grant = line.to_ring[0].grant.unwrap();
    let now = moment.now();
    let (told, holder) = (grant.taken(&place, now).unwrap(), &line.holders[0]);
    assert_eq!(
        (told.token, told.ticket, told.session, told.slot),
        (holder.token, holder.ticket, holder.session, holder.slot),
    );
    // Late, or by a clock that is ahead.
    assert!(grant.taken(&place, now.after(NEWS)).is_none());
    assert!(grant.taken(&place, Time(now.0 - 1)).is_none());
    // A lease that has no end by the clock of who has granted it.
    place.ask.lease = Lease::Renewed(PATIENCE);
    assert!(grant.taken(&place, now).is_none());
    let expires = Some(now.after(PATIENCE));
    let leased = Grant { expires, ..grant };
    assert_eq!(leased.taken(&place, now).unwrap().expires, expires);
    // To another one.
    place.ticket += 1;
    assert!(leased.taken(&place, now).is_none());
}

/// The next one has a patience that runs from now on.
#[test]
fn a_hand_over_wakes_the_next_one_as_well() {
    let (mut line, mut moment, tokens) = line(&[EXCLUSIVE], &[EXCLUSIVE; 3], false);
    moment.now = 2_000_000;
    assert!(line.release(tokens[0], &mut moment));
    assert_eq!(rung(&mut line), [1, 2]);
}

#[test]
fn who_is_not_due_is_told() {
    let (mut line, mut moment, tokens) = line(&[EXCLUSIVE], &[EXCLUSIVE; 2], false);
    assert!(line.release(tokens[0], &mut moment));
    assert_eq!(rung(&mut line), [1]);
    assert!(line.holders.is_empty());
}

/// It watches those that it has seen.
#[test]
fn who_waits_for_several_is_told_of_each() {
    let (mut line, mut moment, tokens) = line(&[SHARED; 2], &[EXCLUSIVE; 2], true);
    assert!(line.release(tokens[0], &mut moment));
    assert_eq!(rung(&mut line), [1]);
    assert_eq!(line.waiters.len(), 2);
}

#[test]
fn who_loses_the_one_before_is_told() {
    let (mut line, mut moment, _) = line(&[EXCLUSIVE], &[EXCLUSIVE; 3], true);
    let second = line.waiters[1].ticket;
    assert!(line.leave(second, &mut moment).is_none());
    assert_eq!(rung(&mut line), [3]);
    assert!(line.remove(moment.now(), |session| session == 1));
    assert_eq!(rung(&mut line), [3]);
}

#[test]
fn all_that_have_room_are_told() {
    let (mut line, mut moment, tokens) = line(&[EXCLUSIVE], &[SHARED, SHARED, EXCLUSIVE], true);
    assert!(line.release(tokens[0], &mut moment));
    // The last one has to watch two.
    assert_eq!(rung(&mut line), [1, 2, 3]);
    assert_eq!(line.holders.len(), 2);
}
