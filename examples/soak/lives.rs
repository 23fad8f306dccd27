//! What takes long: threads that are born and die, guests, bursts that make tables grow, chains.

use std::cell::RefCell;
use std::thread::{self, JoinHandle};

use hapax::{Cached, Interner};

use crate::counted::{Counted, Item};
use crate::guests::Guest;
use crate::hand::{Hand, Shelf};
use crate::kinds::{BURST_KEYS, Kind, Term};
use crate::maps;
use crate::operations::stopping;
use crate::tally::{BORN, BURST, SHRUNK, TABLES};
use crate::verdict::{check, violation};

/// Steps of a short-lived thread, at most.
const CHILD_STEPS: usize = 400;

/// Starts a thread.
pub(crate) fn start(name: String, life: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    BORN.add();
    match thread::Builder::new().name(name).spawn(life) {
        Ok(thread) => thread,
        Err(error) => violation(format_args!("no thread could be started: {error}")),
    }
}

pub(crate) fn visit(hand: &mut Hand) {
    let old = hand.guest.replace(Guest::welcome());
    old.into_iter().for_each(Guest::leave);
}

pub(crate) fn replace(_: &mut Hand) {
    Guest::replace();
}

thread_local! {
    /// What a thread holds when it ends. The crate's own thread-locals may be gone by then.
    static KEPT: RefCell<Option<Hand>> = const { RefCell::new(None) };
}

/// Starts a thread, with some of what this one holds, after the last one has ended.
pub(crate) fn bear(hand: &mut Hand) {
    let Some(post) = hand.child_post.clone() else {
        return;
    };
    hand.join_child();
    let mut child = Hand::new(hand.rng.fork(), hand.growth, post, None);
    child.guest = hand.guest.clone();
    give(&mut hand.names, &mut child.names);
    give(&mut hand.values, &mut child.values);
    give(&mut hand.terms, &mut child.terms);
    child.entries = hand.entries.split_off(hand.entries.len() / 2);

    BORN.add();
    let name = thread::current()
        .name()
        .map(|name| format!("child of {name}"));
    let builder = thread::Builder::new().name(name.unwrap_or_default());
    match builder.spawn(move || live(child)) {
        Ok(handle) => hand.child = Some(handle),
        Err(error) => violation(format_args!("no thread could be started: {error}")),
    }
}

fn give<T: Kind + ?Sized>(from: &mut Shelf<T>, to: &mut Shelf<T>) {
    to.strong = from.strong.split_off(from.strong.len() / 2);
    to.weak = from.weak.split_off(from.weak.len() / 2);
}

fn live(mut hand: Hand) {
    // Before or after the crate's own, which are made in the first step.
    let early = hand.rng.one_in(2);
    if early {
        KEPT.with(|_| ());
    }
    for _ in 0..hand.rng.below(CHILD_STEPS) {
        hand.step();
    }
    if early || hand.rng.one_in(2) {
        KEPT.set(Some(hand));
    }
}

/// Keys of a burst, which nobody else has. They end early when it is time for a standstill.
fn burst_keys(hand: &mut Hand) -> impl Iterator<Item = u64> + use<> {
    let len = hand.growth / (1 + hand.rng.below(4));
    let first = hand.rng.next() % (BURST_KEYS - len as u64);
    let post = hand.post.clone();
    let offsets = (0..len as u64).take_while(|_| !stopping());
    offsets.map(move |offset| {
        post.tick();
        BURST.add();
        BURST_KEYS + first + offset
    })
}

/// Lets go of values in an order that isn't the one in which they came, and sometimes in it.
fn scatter<X>(hand: &mut Hand, mut held: Vec<X>) {
    match hand.rng.below(3) {
        0 => drop(held),
        1 => held.into_iter().rev().for_each(drop),
        _ => {
            let mut chance = hand.rng.next() as usize;
            while !held.is_empty() {
                chance = chance.wrapping_mul(5).wrapping_add(1);
                held.swap_remove(chance % held.len());
            }
        }
    }
}

pub(crate) fn burst<T: Kind + ?Sized>(hand: &mut Hand) {
    let keys = burst_keys(hand);
    let pinned = T::shared().pin();
    let held: Vec<_> = keys.map(|key| pinned.intern(T::make(key))).collect();
    drop(pinned);
    if let Some(value) = held.last() {
        let found = T::shared().get(&**value);
        check!(found.as_ref() == Some(value), "a held value is not found");
    }
    scatter(hand, held);
}

pub(crate) fn burst_map(hand: &mut Hand) {
    let keys = burst_keys(hand);
    let held: Vec<_> = keys
        .map(|key| maps::shared().get_or_insert(Counted::new(key), Item::new(key)))
        .collect();
    if let Some(entry) = held.last() {
        let found = maps::shared().get(Cached::key(entry));
        let same = found.is_some_and(|found| Cached::ptr_eq(&found, entry));
        check!(same, "a held entry is not found");
    }
    scatter(hand, held);
}

/// Shrinks an interner again and again, and drops it, while another thread drops handles.
pub(crate) fn shrink(hand: &mut Hand) {
    TABLES.add();
    let mut values = Interner::<Counted>::new();
    let keys = burst_keys(hand);
    let mut held: Vec<_> = keys.map(|key| values.intern(Counted::new(key))).collect();
    let given = held.split_off(held.len() / 2);
    let post = hand.post.clone();
    let name = format!("helper of {}", post.name());
    let other = start(name, move || {
        for value in given {
            value.key();
            post.tick();
        }
    });
    for _ in 0..6 {
        held.truncate(held.len() / 4 * 3);
        values.shrink_to_fit();
        SHRUNK.add();
        for value in held.iter().rev().take(100) {
            let found = values.get(&**value);
            check!(found.as_ref() == Some(value), "a held value is not found");
        }
        drop(values.intern(Counted::new(hand.rng.key())));
        hand.post.tick();
    }
    check!(
        values.len() >= held.len(),
        "{} of {} are there",
        values.len(),
        held.len()
    );
    drop(values);
    scatter(hand, held);
    // A panic of the other thread has ended the program.
    let _ = other.join();
}

/// Values each of which owns the handle of the one before, and that die with the last one.
pub(crate) fn chain(hand: &mut Hand) {
    let name = str::shared().intern(str::make(7));
    let mut last = None;
    for key in burst_keys(hand) {
        last = Some(Term::shared().intern(Term {
            counted: Counted::new(key),
            name: name.clone(),
            below: last,
        }));
    }
    drop(last);
}
