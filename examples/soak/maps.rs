//! Operations on maps.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hapax::{ById, Cached, IdentityMap, InitError, WeakMap};
use parking_lot::Mutex;

use crate::callbacks::{Token, Watched};
use crate::counted::{Counted, Item};
use crate::failures::{Refused, survive, throw, unless_failed};
use crate::guests::{Guest, shared_key};
use crate::hand::{Entry, Hand, keep, take};
use crate::tally::DEADLOCKS;
use crate::verdict::check;

/// Keys from this one on are only built within builds, by `init_nested`.
const NESTED_KEYS: u64 = 1 << 30;

/// How many objects the identity map is asked for at any time.
const OBJECTS: usize = 32;

pub(crate) type Map = WeakMap<Counted, Item>;
pub(crate) type Wrappers = IdentityMap<Arc<Counted>, Counted>;

/// The map that all threads share.
pub(crate) fn shared() -> &'static Map {
    static MAP: Map = WeakMap::new();
    &MAP
}

pub(crate) fn wrappers() -> &'static Wrappers {
    static WRAPPERS: Wrappers = IdentityMap::new();
    &WRAPPERS
}

/// Objects that have, or get, an entry in the identity map.
pub(crate) static PRESENT: Mutex<Vec<Arc<Counted>>> = Mutex::new(Vec::new());

pub(crate) fn forget_objects() {
    let objects = std::mem::take(&mut *PRESENT.lock());
    drop(objects);
}

/// A map for the next operation: the one that all share, or a guest's.
enum Home {
    Shared,
    Guest(Arc<Guest>),
}

impl Deref for Home {
    type Target = Map;

    fn deref(&self) -> &Map {
        match self {
            Self::Shared => shared(),
            Self::Guest(guest) => &guest.map,
        }
    }
}

/// A map, and a key for it.
fn home(hand: &mut Hand) -> (Home, u64) {
    let key = hand.rng.key();
    match hand.visit() {
        None => (Home::Shared, key),
        Some(guest) => {
            let first_key = guest.first_key();
            (Home::Guest(guest), first_key + key)
        }
    }
}

/// Keeps an entry, which must be the one of its key.
fn hold(hand: &mut Hand, entry: Entry, key: u64) {
    let found = (Cached::key(&entry).key(), entry.counted.key());
    check!(
        found == (key, key),
        "{key:x} was asked for, {found:x?} was found"
    );
    let chance = hand.rng.next();
    keep(&mut hand.entries, entry, chance);
}

pub(crate) fn insert(hand: &mut Hand) {
    let (map, key) = home(hand);
    let entry = map.get_or_insert(Counted::new(key), Item::new(key));
    hold(hand, entry, key);
}

pub(crate) fn insert_with(hand: &mut Hand) {
    let (map, key) = home(hand);
    let (by, build) = (Counted::new(key), |_: &Counted| Item::new(key));
    let entry = match hand.rng.below(5) {
        0 => Some(map.get_or_insert_with(by, build)),
        1 => Some(map.get_or_insert_with_ref(&by, build)),
        2 => survive(|| map.get_or_insert_with(by, |_| throw())),
        3 => unless_failed(map.try_get_or_insert_with(by, |_| Err(Refused))),
        _ => unless_failed(map.try_get_or_insert_with(by, |key| Ok::<_, Refused>(build(key)))),
    };
    if let Some(entry) = entry {
        hold(hand, entry, key);
    }
}

pub(crate) fn init(hand: &mut Hand) {
    let (map, key) = home(hand);
    let build = |_: &Counted| Item::built(key);
    let entry = match hand.rng.below(2) {
        0 => map.get_or_init(Counted::new(key), build),
        _ => map.get_or_init_ref(&Counted::new(key), build),
    };
    hold(hand, entry, key);
}

pub(crate) fn init_failing(hand: &mut Hand) {
    let (map, key) = home(hand);
    let by = Counted::new(key);
    let entry = match hand.rng.below(3) {
        0 => survive(|| map.get_or_init(by, |_| throw())),
        1 => unless_failed(map.try_get_or_init(by, |_| Err(Refused))),
        _ => unless_failed(map.try_get_or_init(by, |_| Ok::<_, Refused>(Item::built(key)))),
    };
    if let Some(entry) = entry {
        hold(hand, entry, key);
    }
}

/// Builds an entry while another one is built. Threads that do so wait for each other, until one of them
/// is told that it would wait for itself.
pub(crate) fn init_nested(hand: &mut Hand) {
    let map = shared();
    let keys = [(); 2].map(|()| NESTED_KEYS + hand.rng.below(3) as u64);
    let [outer, inner] = keys;
    let entry = map.try_get_or_init(Counted::new(outer), |_| {
        let within = map.try_get_or_init(Counted::new(inner), |_| Ok(Item::built(inner)));
        match within {
            Err(InitError::Deadlock) => drop(DEADLOCKS.add()),
            Err(error) => return Err(error),
            // Nobody inserts such a key, so that this thread builds it until it returns.
            Ok(_) => check!(inner != outer, "{outer:x} was built while it was built"),
        }
        Ok::<_, InitError<Refused>>(Item::built(outer))
    });
    match entry {
        Ok(entry) => hold(hand, entry, outer),
        // This thread builds nothing else.
        Err(_) => check!(false, "a thread without a build would wait for itself"),
    }
}

pub(crate) fn get(hand: &mut Hand) {
    let (map, key) = home(hand);
    if let Some(entry) = map.get(&key) {
        hold(hand, entry, key);
    }
}

pub(crate) fn remove(hand: &mut Hand) {
    let (map, key) = home(hand);
    if let Some(entry) = map.remove(&key) {
        let again = entry.removed.swap(true, Ordering::Relaxed);
        check!(!again, "an entry of {key:x} was removed twice");
        hold(hand, entry, key);
    }
}

pub(crate) fn drop_entries(hand: &mut Hand) {
    if hand.rng.one_in(20) {
        let rest = hand.entries.len() / 4;
        hand.entries.truncate(rest);
        hand.wrappers.truncate(rest);
    }
    let chance = hand.rng.next();
    if let Some(entry) = take(&mut hand.entries, chance) {
        entry.counted.key();
    }
    drop(take(&mut hand.wrappers, chance));
}

pub(crate) fn weak(hand: &mut Hand) {
    let chance = hand.rng.next();
    if let Some(watched) = take(&mut hand.weak_entries, chance).as_mut()
        && let Some(entry) = watched.look()
    {
        let key = entry.counted.key();
        hold(hand, entry, key);
    }
    let Some(entry) = take(&mut hand.entries, chance) else {
        return;
    };
    let watched = if hand.rng.one_in(2) {
        Watched::new(Cached::downgrade(&entry), &entry, None)
    } else {
        let (token, outcome) = Token::new(None);
        let weak = Cached::downgrade_with(&entry, || token.run());
        Watched::new(weak, &entry, Some(outcome))
    };
    keep(&mut hand.weak_entries, watched, chance);
}

pub(crate) fn iterate(hand: &mut Hand) {
    let (map, _) = home(hand);
    let steps = hand.rng.below(30);
    for entry in map.iter().take(steps) {
        let key = entry.counted.key();
        if hand.rng.one_in(10) {
            hold(hand, entry, key);
        }
    }
}

pub(crate) fn hook(hand: &mut Hand) {
    let (map, key) = home(hand);
    match hand.rng.below(3) {
        0 => map.clear_on_drop(),
        1 => map.on_drop(|_, item| item.counted.meet_hook()),
        _ => map.on_drop(move |_, item| {
            item.counted.meet_hook();
            if item.counted.serial() % 7 == 0 {
                let again = Counted::new(shared_key(key));
                shared().get_or_insert_with(again, |again| Item::new(again.key()));
            }
        }),
    }
}

/// The one wrapper of an object, whoever asks for it.
pub(crate) fn wrap(hand: &mut Hand) {
    let object = some_object(hand);
    let wrapper = wrappers().of(&object, |object| Counted::new(object.key()));
    let again = wrappers().get(ById::from_ref(&object));
    let same = again.is_some_and(|again| Cached::ptr_eq(&again, &wrapper));
    check!(same, "an object has another wrapper");
    let own = Arc::ptr_eq(&Cached::key(&wrapper).0, &object) && wrapper.key() == object.key();
    check!(own, "an object has the wrapper of another one");
    let chance = hand.rng.next();
    keep(&mut hand.wrappers, wrapper, chance);
}

/// An object that all threads know, or a new one in its place.
fn some_object(hand: &mut Hand) -> Arc<Counted> {
    let place = hand.rng.below(OBJECTS);
    let new = hand
        .rng
        .one_in(20)
        .then(|| Arc::new(Counted::new(place as u64)));
    let mut objects = PRESENT.lock();
    match (objects.get_mut(place), new) {
        (Some(object), None) => object.clone(),
        (Some(object), Some(new)) => {
            let old = std::mem::replace(object, new.clone());
            drop(objects);
            drop(old);
            new
        }
        (None, new) => {
            let new = new.unwrap_or_else(|| Arc::new(Counted::new(place as u64)));
            objects.push(new.clone());
            new
        }
    }
}
