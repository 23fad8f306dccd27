//! What must hold while the threads stand still.
//!
//! - Every value that was made is destroyed, or somebody holds it.
//! - The handles of a key of an interner lead to one value, which `get` answers. Its count says how many
//!   handles there are.
//! - An entry of a map is the one that `get` answers, unless it was removed.
//! - `len` is the number of these values and entries, and an iteration meets each of them once.
//! - Callbacks of live values wait, those of dead ones have run, and the rest was cancelled.
//! - Weak handles that led to nothing once lead to nothing.

use std::collections::HashMap;
use std::path::Path;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hapax::{ById, Cached, Interned, Interner};
use parking_lot::MutexGuard;

use crate::callbacks::{Outcome, Watched, Weak};
use crate::counted::{Counted, Item};
use crate::guests::{self, Guest, guest_of};
use crate::hand::{Entry, Hand};
use crate::kinds::{Kind, Term};
use crate::maps::{self, Map};
use crate::tally::{CANCELLED, DESTROYED, MADE, RAN, REGISTERED};
use crate::verdict::check;

/// What the threads hold.
type Hands<'a> = Vec<MutexGuard<'a, Hand>>;

/// How many handles lead to a value, beside the one that stands here.
type Handles<T> = HashMap<Interned<T>, u64>;

/// Callbacks that wait for a death.
type Waiting = HashMap<*const Outcome, Arc<Outcome>>;

/// Looks at everything, and answers how many values live.
pub(crate) fn take(mut hands: Hands<'_>) -> u64 {
    let waiting = inspect_callbacks(&mut hands);
    let mut names = gather::<str>(&mut hands);
    for luggage in waiting.values().filter_map(|waiting| waiting.luggage()) {
        add(&mut names, &luggage);
    }
    let terms = gather_terms(&mut hands, &mut names);
    let slices = gather::<[Counted]>(&mut hands);
    verify(Some(Term::shared()), &terms);
    verify(Some(<[Counted]>::shared()), &slices);
    verify(Some(Path::shared()), &gather::<Path>(&mut hands));
    verify(Some(str::shared()), &names);

    let in_slices: usize = slices.keys().map(|slice| slice.len()).sum();
    let live = terms.len()
        + in_slices
        + count_values(&mut hands)
        + count_entries(&hands)
        + count_wrappers(&hands);
    let (made, destroyed) = (MADE.sum(), DESTROYED.sum());
    check!(
        made == destroyed + live as u64,
        "{made} values were made, {destroyed} destroyed, {live} are held"
    );
    live as u64
}

fn inspect_callbacks(hands: &mut Hands<'_>) -> Waiting {
    let mut waiting = Waiting::new();
    for hand in hands {
        inspect(&mut hand.names.weak, &mut waiting);
        inspect(&mut hand.paths.weak, &mut waiting);
        inspect(&mut hand.values.weak, &mut waiting);
        inspect(&mut hand.slices.weak, &mut waiting);
        inspect(&mut hand.terms.weak, &mut waiting);
        inspect(&mut hand.weak_entries, &mut waiting);
    }
    let (registered, ran, cancelled) = (REGISTERED.sum(), RAN.sum(), CANCELLED.sum());
    let waits = waiting.len();
    check!(
        registered == ran + cancelled + waits as u64,
        "of {registered} callbacks {ran} have run, {cancelled} were cancelled, {waits} wait"
    );
    waiting
}

fn inspect<W: Weak>(weak: &mut [Watched<W>], waiting: &mut Waiting) {
    for watched in weak {
        if let Some(outcome) = watched.inspect() {
            waiting.insert(Arc::as_ptr(outcome), outcome.clone());
        }
    }
}

/// Notes a handle. Whether it is the first one of its value.
fn add<T: Kind + ?Sized>(handles: &mut Handles<T>, handle: &Interned<T>) -> bool {
    let count = handles.entry(handle.clone()).or_default();
    *count += 1;
    *count == 1
}

/// The handles of a kind that threads hold, or hand to each other.
fn gather<T: Kind + ?Sized>(hands: &mut Hands<'_>) -> Handles<T> {
    let mut handles = Handles::new();
    for hand in hands {
        for handle in &T::shelf(hand).strong {
            add(&mut handles, handle);
        }
    }
    for handle in &*T::exchange().lock() {
        add(&mut handles, handle);
    }
    handles
}

/// As `gather`, with what terms own themselves.
fn gather_terms(hands: &mut Hands<'_>, names: &mut Handles<str>) -> Handles<Term> {
    let mut terms = gather::<Term>(hands);
    let mut new: Vec<_> = terms.keys().cloned().collect();
    while let Some(term) = new.pop() {
        add(names, &term.name);
        if let Some(below) = &term.below
            && add(&mut terms, below)
        {
            new.push(below.clone());
        }
    }
    terms
}

/// Compares the handles to values of an interner with what it says itself. It is `None` if it has gone.
fn verify<T: Kind + ?Sized>(interner: Option<&Interner<T>>, handles: &Handles<T>) {
    let mut of_key = HashMap::new();
    for (value, &count) in handles {
        let key = value.key();
        let first = of_key.insert(key, value).is_none();
        check!(first, "there are two values of {key:x}");
        let counted = Interned::ref_count(value) as u64 - 1;
        check!(
            counted == count,
            "{count} handles of {key:x} are counted as {counted}"
        );
        if let Some(interner) = interner {
            let found = interner.get(&**value);
            check!(found.as_ref() == Some(value), "{key:x} is not found");
        }
    }
    let Some(interner) = interner else { return };
    let (held, len) = (handles.len(), interner.len());
    check!(len == held, "{held} values are held, the length is {len}");
    let usage = interner.memory_usage();
    check!(
        usage.entries == held,
        "{held} values are held, {} take memory",
        usage.entries
    );
    let mut met = 0;
    for value in interner {
        met += 1;
        let known = of_key.remove(&value.key());
        check!(
            known == Some(&value),
            "an iteration meets {:x} again, or too late",
            value.key()
        );
    }
    check!(
        met == held,
        "{held} values are held, an iteration meets {met}"
    );
}

/// Guests that are there.
fn guests(hands: &Hands<'_>) -> HashMap<u64, Arc<Guest>> {
    let known = hands.iter().filter_map(|hand| hand.guest.clone());
    let all = known.chain(guests::present());
    all.map(|guest| (guest.number(), guest)).collect()
}

fn count_values(hands: &mut Hands<'_>) -> usize {
    let mut values = gather::<Counted>(hands);
    for value in hands.iter().filter_map(|hand| hand.stands_on.as_ref()) {
        // The one that the thread has, and its iteration's own.
        add(&mut values, value);
        add(&mut values, value);
    }
    let live = values.len();

    let mut of_guest: HashMap<_, Handles<Counted>> = HashMap::new();
    for (value, count) in values {
        let guest = guest_of(value.key());
        of_guest.entry(guest).or_default().insert(value, count);
    }
    verify(
        Some(Counted::shared()),
        &of_guest.remove(&0).unwrap_or_default(),
    );
    for (number, guest) in guests(hands) {
        verify(
            Some(&guest.values),
            &of_guest.remove(&number).unwrap_or_default(),
        );
    }
    for gone in of_guest.values() {
        verify(None, gone);
    }
    live
}

/// The entries that a map has, or had, by address, with the number of handles beside the one that stands here.
type Entries = HashMap<*const Item, (Entry, u64)>;

fn count_entries(hands: &Hands<'_>) -> usize {
    let mut of_guest: HashMap<_, Entries> = HashMap::new();
    for entry in hands.iter().flat_map(|hand| &hand.entries) {
        let guest = guest_of(entry.counted.key());
        let entries = of_guest.entry(guest).or_default();
        entries
            .entry(ptr::from_ref(&**entry))
            .or_insert_with(|| (entry.clone(), 0))
            .1 += 1;
    }
    let live: usize = of_guest.values().map(HashMap::len).sum();
    verify_entries(
        Some(maps::shared()),
        of_guest.remove(&0).unwrap_or_default(),
    );
    for (number, guest) in guests(hands) {
        verify_entries(
            Some(&guest.map),
            of_guest.remove(&number).unwrap_or_default(),
        );
    }
    for gone in of_guest.into_values() {
        verify_entries(None, gone);
    }
    // Key and value.
    2 * live
}

/// As `verify`, for a map.
fn verify_entries(map: Option<&Map>, mut entries: Entries) {
    for (entry, count) in entries.values() {
        let key = entry.counted.key();
        check!(
            Cached::key(entry).key() == key,
            "an entry has the key of another one"
        );
        let counted = Cached::ref_count(entry) as u64 - 1;
        check!(
            counted == *count,
            "{count} handles of entry {key:x} are counted as {counted}"
        );
    }
    let Some(map) = map else { return };
    entries.retain(|_, (entry, _)| {
        let key = entry.counted.key();
        let found = map
            .get(&key)
            .is_some_and(|found| Cached::ptr_eq(&found, entry));
        let removed = entry.removed.load(Ordering::Relaxed);
        check!(
            found || removed || entry.built,
            "entry {key:x} is not found"
        );
        check!(
            !(found && removed),
            "entry {key:x} is found, though it was removed"
        );
        found
    });
    let (held, len) = (entries.len(), map.len());
    check!(len == held, "{held} entries are held, the length is {len}");
    let mut met = 0;
    for entry in map {
        met += 1;
        let known = entries.remove(&ptr::from_ref(&*entry)).is_some();
        check!(
            known,
            "an iteration of a map meets {:x} again, or too late",
            entry.counted.key()
        );
    }
    check!(
        met == held,
        "{held} entries are held, an iteration meets {met}"
    );
}

/// Wrappers of objects, and objects.
fn count_wrappers(hands: &Hands<'_>) -> usize {
    let mut wrappers = HashMap::new();
    for wrapper in hands.iter().flat_map(|hand| &hand.wrappers) {
        let known = wrappers
            .entry(ptr::from_ref(&**wrapper))
            .or_insert((wrapper, 0));
        known.1 += 1;
    }
    let mut objects: HashMap<_, _> = HashMap::new();
    for (wrapper, count) in wrappers.values() {
        let object = &Cached::key(wrapper).0;
        objects.insert(Arc::as_ptr(object), object.clone());
        check!(
            Cached::ref_count(wrapper) == *count,
            "handles of a wrapper are counted wrong"
        );
        let found = maps::wrappers().get(ById::from_ref(object));
        let same = found.is_some_and(|found| Cached::ptr_eq(&found, wrapper));
        check!(same, "an object has another wrapper");
    }
    let (held, len) = (wrappers.len(), maps::wrappers().len());
    check!(len == held, "{held} wrappers are held, the length is {len}");
    check!(objects.len() == held, "an object has two wrappers");
    let met = maps::wrappers().iter().count();
    check!(
        met == held,
        "{held} wrappers are held, an iteration meets {met}"
    );
    for object in &*maps::PRESENT.lock() {
        objects.insert(Arc::as_ptr(object), object.clone());
    }
    held + objects.len()
}
