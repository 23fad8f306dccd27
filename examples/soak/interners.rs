//! Operations on interners, with values of any kind.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use hapax::{Intern, Interned, WeakInterned};

use crate::callbacks::{Token, Watched};
use crate::failures::{survive, throw};
use crate::guests::{guest_of, shared_key};
use crate::hand::{Hand, keep, take};
use crate::kinds::{FORMS, Kind};
use crate::verdict::check;

/// Handles of one kind that are on their way to another thread.
const EXCHANGED: usize = 50;

/// Whether a drop hook goes on: what dies of that meets a hook in turn.
fn one_hook_in_eight() -> bool {
    static HOOKS: AtomicU64 = AtomicU64::new(0);
    HOOKS.fetch_add(1, Ordering::Relaxed).is_multiple_of(8)
}

/// A value must be the one of its key.
fn expect<T: Kind + ?Sized>(value: Interned<T>, key: u64) -> Interned<T> {
    let found = value.key();
    check!(found == key, "{key:x} was asked for, {found:x} was found");
    value
}

/// Keeps a handle.
fn hold<T: Kind + ?Sized>(hand: &mut Hand, value: Interned<T>) {
    let chance = hand.rng.next();
    keep(&mut T::shelf(hand).strong, value, chance);
}

/// Takes one of the handles that are held.
fn pick<T: Kind + ?Sized>(hand: &mut Hand) -> Option<Interned<T>> {
    let chance = hand.rng.next();
    take(&mut T::shelf(hand).strong, chance)
}

pub(crate) fn intern<T: Kind + ?Sized>(hand: &mut Hand) {
    let (home, base) = T::home(hand);
    let key = base + hand.rng.key();
    let value = expect(T::intern(&home, key, hand.rng.below(FORMS)), key);
    hold(hand, value);
}

pub(crate) fn get<T: Kind + ?Sized>(hand: &mut Hand) {
    let (home, base) = T::home(hand);
    let key = base + hand.rng.key();
    if let Some(value) = home.get(T::make(key).as_value()) {
        hold(hand, expect(value, key));
    }
}

pub(crate) fn intern_with<T: Kind + ?Sized>(hand: &mut Hand) {
    let (home, base) = T::home(hand);
    let key = base + hand.rng.key();
    let throws = hand.rng.one_in(4);
    let sample = T::make(key);
    let build = |_: &T| if throws { throw() } else { T::make(key) };
    if let Some(value) = survive(|| home.intern_with(sample.as_value(), build)) {
        hold(hand, expect(value, key));
    }
}

pub(crate) fn intern_hashed<T: Kind + ?Sized>(hand: &mut Hand) {
    let (home, base) = T::home(hand);
    let key = base + hand.rng.key();
    let value = T::make(key);
    let hash = home.hash_of(value.as_value());
    let found = home.get_hashed(hash, value.as_value());
    let value = expect(home.intern_hashed(hash, value), key);
    check!(
        Interned::hash_value(&value) == hash,
        "{key:x} has another hash"
    );
    if let Some(found) = found {
        check!(found == value, "there are two values of {key:x}");
    }
    hold(hand, value);
}

pub(crate) fn session<T: Kind + ?Sized>(hand: &mut Hand) {
    let (home, base) = T::home(hand);
    let pinned = home.pin();
    for _ in 0..hand.rng.below(40) {
        let key = base + hand.rng.key();
        let value = T::make(key);
        let hash = home.hash_of(value.as_value());
        let value = match hand.rng.below(4) {
            0 => pinned.get(value.as_value()),
            1 => pinned.get_hashed(hash, value.as_value()),
            2 => Some(pinned.intern_hashed(hash, value)),
            _ => Some(pinned.intern(value)),
        };
        if let Some(value) = value {
            hold(hand, expect(value, key));
        }
    }
}

pub(crate) fn clone<T: Kind + ?Sized>(hand: &mut Hand) {
    if let Some(value) = pick::<T>(hand) {
        value.key();
        hold(hand, value.clone());
        hold(hand, value);
    }
}

pub(crate) fn drop_one<T: Kind + ?Sized>(hand: &mut Hand) {
    if let Some(value) = pick::<T>(hand) {
        value.key();
    }
}

pub(crate) fn drop_many<T: Kind + ?Sized>(hand: &mut Hand) {
    let share = 2 + hand.rng.below(9);
    let strong = &mut T::shelf(hand).strong;
    strong.truncate(strong.len() / share);
}

pub(crate) fn exchange<T: Kind + ?Sized>(hand: &mut Hand) {
    let given = pick::<T>(hand);
    // Nothing is dropped under the lock.
    let taken = {
        let mut exchange = T::exchange().lock();
        let enough = exchange.len() > hand.rng.below(EXCHANGED);
        let taken = enough.then(|| take(&mut exchange, hand.rng.next()));
        exchange.extend(given);
        taken.flatten()
    };
    if let Some(value) = taken {
        value.key();
        hold(hand, value);
    }
}

pub(crate) fn raw<T: Kind + ?Sized>(hand: &mut Hand) {
    if let Some(value) = pick::<T>(hand) {
        let pointer = Interned::into_raw(value);
        // SAFETY: `into_raw` has given it away just now, and it is taken back once.
        let value = unsafe { Interned::from_raw(pointer) };
        value.key();
        hold(hand, value);
    }
}

pub(crate) fn downgrade<T: Kind + ?Sized>(hand: &mut Hand) {
    if let Some(value) = pick::<T>(hand) {
        let watched = Watched::new(Interned::downgrade(&value), &value, None);
        watch(hand, watched, value);
    }
}

pub(crate) fn downgrade_with<T: Kind + ?Sized>(hand: &mut Hand) {
    let Some(value) = pick::<T>(hand) else { return };
    let luggage = hand.rng.one_in(2).then(|| pick(hand)).flatten();
    let (token, outcome) = Token::new(luggage);
    let key = hand.rng.key();
    let weak = Interned::downgrade_with(&value, move || {
        token.run();
        expect(T::shared().intern(T::make(key)), key);
    });
    let watched = Watched::new(weak, &value, Some(outcome));
    watch(hand, watched, value);
}

/// Keeps a weak handle, and the value or not.
fn watch<T: Kind + ?Sized>(hand: &mut Hand, watched: Watched<WeakInterned<T>>, value: Interned<T>) {
    let chance = hand.rng.next();
    if chance.is_multiple_of(8) {
        keep(&mut T::shelf(hand).weak, watched.clone(), chance / 8);
    }
    keep(&mut T::shelf(hand).weak, watched, chance);
    if hand.rng.one_in(2) {
        hold(hand, value);
    }
}

pub(crate) fn upgrade<T: Kind + ?Sized>(hand: &mut Hand) {
    let chance = hand.rng.next();
    let weak = &mut T::shelf(hand).weak;
    if !weak.is_empty() {
        let place = chance as usize % weak.len();
        if let Some(value) = weak[place].look() {
            value.key();
            hold(hand, value);
        }
    }
}

pub(crate) fn drop_weak<T: Kind + ?Sized>(hand: &mut Hand) {
    let share = 1 + hand.rng.below(4);
    let weak = &mut T::shelf(hand).weak;
    weak.truncate(weak.len() / share);
}

pub(crate) fn iterate<T: Kind + ?Sized>(hand: &mut Hand) {
    let (home, _) = T::home(hand);
    let steps = hand.rng.below(30);
    for value in home.iter().take(steps) {
        value.key();
        if hand.rng.one_in(10) {
            hold(hand, value);
        }
    }
}

/// Every value that is held throughout comes once.
pub(crate) fn walk<T: Kind + ?Sized>(hand: &mut Hand) {
    let post = hand.post.clone();
    let mut held: HashMap<_, _> = T::shelf(hand)
        .strong
        .iter()
        .filter(|value| T::shared().get(&***value).as_ref() == Some(*value))
        .map(|value| (value.clone(), 0))
        .collect();
    for value in T::shared() {
        value.key();
        if let Some(times) = held.get_mut(&value) {
            *times += 1;
        }
        post.tick();
    }
    let once = held.values().all(|&times| times == 1);
    check!(once, "an iteration missed a held value, or met it twice");
    check!(
        T::shared().memory_usage().entries >= held.len(),
        "entries are missing"
    );
}

/// Sets, replaces or clears the drop hook. Hooks intern themselves.
pub(crate) fn hook<T: Kind + ?Sized>(hand: &mut Hand) {
    let (home, _) = T::home(hand);
    let key = hand.rng.key();
    match hand.rng.below(4) {
        0 => home.clear_on_drop(),
        1 => home.on_drop(T::meet_hook),
        2 => home.on_drop(move |value| {
            value.meet_hook();
            if one_hook_in_eight() {
                expect(T::shared().intern(T::make(key)), key);
            }
        }),
        _ => home.on_drop(move |value| {
            value.meet_hook();
            if one_hook_in_eight() {
                let again = T::shared().intern(T::make(shared_key(value.key())));
                let mut exchange = T::exchange().lock();
                if exchange.len() < EXCHANGED {
                    exchange.push(again);
                }
            }
        }),
    }
}

pub(crate) fn tend<T: Kind + ?Sized>(hand: &mut Hand) {
    let (home, _) = T::home(hand);
    if hand.rng.one_in(4) {
        home.reserve(hand.rng.below(2000));
    } else {
        home.flush();
    }
}

pub(crate) fn unwrap<T: Kind<Owned = T>>(hand: &mut Hand) {
    let Some(value) = pick::<T>(hand) else { return };
    match Interned::try_unwrap(value) {
        Ok(value) => {
            let key = value.key();
            if guest_of(key) == 0 && hand.rng.one_in(2) {
                hold(hand, expect(T::shared().intern(value), key));
            }
        }
        Err(value) => hold(hand, value),
    }
}
