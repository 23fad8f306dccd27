//! What user code may do wrong, and values of unusual shapes.
//!
//! - `Hash` and `Eq` that lie, poor hashers, and values that change their hash: equal values may be
//!   interned twice, and nothing worse. Nothing hangs, and nothing is lost.
//! - One panic at every place where user code runs (`Hash`, `Eq`, `Clone`, constructors, hooks,
//!   callbacks, destructors, and the destructors of hooks and callbacks): no value is lost, none dies
//!   twice, and the table works as before.
//! - Values and slices without a size, empty strings, and values with large alignments.
//! - An interner that is dropped inside the destructor of its own value.

mod common;

use std::cell::{Cell, RefCell};
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use common::{Census, Counted, Rng, panic_of, scaled};
use hapax::{Cached, InitError, Interned, Interner, WeakMap};

// Lies.

thread_local! { static LIES: RefCell<Rng> = const { RefCell::new(Rng(42)) } }

fn lie(bound: usize) -> usize {
    LIES.with_borrow_mut(|rng| rng.below(bound))
}

/// Hash and equality are random.
#[derive(Debug)]
struct Liar(Counted);

impl Hash for Liar {
    fn hash<H: Hasher>(&self, state: &mut H) {
        lie(3).hash(state);
    }
}

impl PartialEq for Liar {
    fn eq(&self, other: &Self) -> bool {
        self.0.assert_alive();
        other.0.assert_alive();
        lie(2) == 0
    }
}

impl Eq for Liar {}

#[test]
fn random_hash_and_equality_lose_nothing() {
    let census = Census::new();
    let interner = Interner::<Liar>::new();
    let map = WeakMap::<Liar, Counted>::new();
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (interner, map, census) = (&interner, &map, &census);
            scope.spawn(move || {
                LIES.set(Rng(thread));
                let liar = || Liar(Counted::new(0, census));
                let value = || Counted::new(0, census);
                let mut held = Vec::new();
                let mut entries = Vec::new();
                for _ in 0..scaled(3000, 50) {
                    match lie(8) {
                        0..=2 => held.push(interner.intern(liar())),
                        3 => held.extend(interner.get(&liar())),
                        4 => entries.push(map.get_or_insert(liar(), value())),
                        5 => drop(map.remove(&liar())),
                        6 => match map.try_get_or_init(liar(), |_| Ok::<_, ()>(value())) {
                            Ok(entry) => entries.push(entry),
                            Err(error) => assert_eq!(error, InitError::Deadlock),
                        },
                        _ => {
                            held.truncate(lie(held.len() + 1));
                            entries.truncate(lie(entries.len() + 1));
                        }
                    }
                }
            });
        }
    });
    assert_eq!((interner.len(), map.len()), (0, 0));
    assert_eq!(census.live(), 0);
}

/// Says that nothing is equal to anything, itself included.
#[derive(Debug)]
struct Unequal(u8);

impl Hash for Unequal {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl PartialEq for Unequal {
    fn eq(&self, _: &Self) -> bool {
        false
    }
}

impl Eq for Unequal {}

#[test]
fn what_equals_nothing_is_interned_each_time() {
    let interner = Interner::<Unequal>::new();
    let held: Vec<_> = (0..100).map(|_| interner.intern(Unequal(1))).collect();
    assert_eq!(interner.len(), 100);
    assert!(interner.get(&Unequal(1)).is_none());
    drop(held);
    assert_eq!(interner.len(), 0);
}

#[test]
fn a_value_that_changes_its_hash_is_dropped_all_the_same() {
    struct Fickle(
        AtomicU64,
        #[expect(dead_code, reason = "counted when it dies")] Counted,
    );
    impl Hash for Fickle {
        fn hash<H: Hasher>(&self, state: &mut H) {
            self.0.load(Ordering::Relaxed).hash(state);
        }
    }
    impl PartialEq for Fickle {
        fn eq(&self, other: &Self) -> bool {
            self.0.load(Ordering::Relaxed) == other.0.load(Ordering::Relaxed)
        }
    }
    impl Eq for Fickle {}

    let census = Census::new();
    let interner = Interner::<Fickle>::new();
    let fickle = |number| Fickle(AtomicU64::new(number), Counted::new(0, &census));
    let held: Vec<_> = (0..200).map(|n| interner.intern(fickle(n))).collect();
    for value in &held {
        value.0.fetch_add(1000, Ordering::Relaxed);
    }
    assert!(interner.get(&fickle(1000)).is_none());
    let again: Vec<_> = (0..200).map(|n| interner.intern(fickle(n))).collect();
    assert_eq!(interner.len(), 400);
    drop((held, again));
    assert_eq!((interner.len(), census.live()), (0, 0));
}

/// One hash for everything.
#[derive(Default)]
struct Constant(u64);

impl Hasher for Constant {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {}
}

/// The integer itself, or its last bits moved to the top.
#[derive(Default)]
struct Identity<const SHIFT: u32>(u64);

impl<const SHIFT: u32> Hasher for Identity<SHIFT> {
    fn finish(&self) -> u64 {
        self.0 << SHIFT
    }
    fn write(&mut self, _: &[u8]) {
        unreachable!("only integers are hashed");
    }
    fn write_u64(&mut self, word: u64) {
        self.0 = word;
    }
}

fn works_with<H: BuildHasher + Default + Sync>(keys: u64) {
    let interner = Interner::<u64, H>::default();
    let held: Vec<_> = (0..keys).map(|key| interner.intern(key)).collect();
    assert_eq!(interner.len() as u64, keys);
    for (key, value) in held.iter().enumerate() {
        assert_eq!(**value, key as u64);
        assert_eq!(interner.get(&(key as u64)).as_ref(), Some(value));
    }
    assert!(interner.get(&keys).is_none());
    // From both ends and from the middle, by two threads.
    let (even, odd): (Vec<_>, Vec<_>) = held.into_iter().partition(|value| **value % 2 == 0);
    std::thread::scope(|scope| {
        scope.spawn(move || drop(even));
        scope.spawn(move || odd.into_iter().rev().for_each(drop));
    });
    assert_eq!(interner.len(), 0);
    assert_eq!(interner.iter().count(), 0);
}

#[test]
fn a_constant_hasher_is_slow_but_right() {
    works_with::<BuildHasherDefault<Constant>>(scaled(2000, 30) as u64);
}

#[test]
fn a_hasher_that_is_the_identity_works() {
    works_with::<BuildHasherDefault<Identity<0>>>(scaled(20_000, 100) as u64);
}

#[test]
fn a_hasher_with_nothing_in_its_low_bits_works() {
    works_with::<BuildHasherDefault<Identity<40>>>(scaled(20_000, 100) as u64);
}

/// The extreme order keys lie beside the first and the last bucket word.
#[test]
fn extreme_hashes_work() {
    let interner = Interner::<u64>::new();
    let _growth: Vec<_> = (0..scaled(1000, 20) as u64)
        .map(|n| interner.intern(n + 1000))
        .collect();
    let hashes = [0, 1, u64::MAX, u64::MAX - 1, 1 << 63, (1 << 63) - 1];
    let held: Vec<_> = hashes
        .iter()
        .map(|&hash| interner.intern_hashed(hash, hash % 100))
        .collect();
    for (&hash, value) in hashes.iter().zip(&held) {
        assert_eq!(Interned::hash_value(value), hash);
        assert_eq!(
            interner.get_hashed(hash, &(hash % 100)).as_ref(),
            Some(value)
        );
    }
    drop(held);
    for hash in hashes {
        assert!(interner.get_hashed(hash, &(hash % 100)).is_none());
    }
}

#[test]
#[cfg(target_pointer_width = "64")]
fn a_slice_that_is_too_long_is_refused_with_a_message() {
    let slices = Interner::<[()]>::new();
    let empty = slices.intern_hashed(1, &[][..]);
    let refused = std::panic::catch_unwind(|| slices.intern_hashed(0, &[(); 1 << 32][..]));
    let message = *refused.unwrap_err().downcast::<String>().unwrap();
    assert_eq!(
        message,
        "a slice of 4294967296 elements is too long for a node"
    );
    assert_eq!((slices.len(), empty.len()), (1, 0));
}

// One panic, at every place in turn.

thread_local! {
    /// How many more times user code runs before it panics once.
    static FUSE: Cell<Option<usize>> = const { Cell::new(None) };
}

/// A place where user code runs.
fn spark(place: &str) {
    match FUSE.get() {
        Some(0) => {
            FUSE.set(None);
            std::panic::panic_any(format!("spark in {place}"));
        }
        Some(left) => FUSE.set(Some(left - 1)),
        None => {}
    }
}

/// A value whose every method may panic. May own another one.
#[derive(Debug)]
struct Touchy {
    counted: Counted,
    inner: Option<Interned<Touchy>>,
}

impl Touchy {
    fn new(key: u64, census: &Arc<Census>) -> Self {
        let counted = Counted::new(key, census);
        spark("a constructor");
        Self {
            counted,
            inner: None,
        }
    }
}

impl Clone for Touchy {
    fn clone(&self) -> Self {
        spark("clone");
        let clone = Self {
            counted: self.counted.clone(),
            inner: self.inner.clone(),
        };
        spark("clone, at its end");
        clone
    }
}

impl Hash for Touchy {
    fn hash<H: Hasher>(&self, state: &mut H) {
        spark("hash");
        self.counted.hash(state);
    }
}

impl PartialEq for Touchy {
    fn eq(&self, other: &Self) -> bool {
        spark("eq");
        self.counted == other.counted
    }
}

impl Eq for Touchy {}

impl Drop for Touchy {
    fn drop(&mut self) {
        self.counted.assert_alive();
        // A panic while another one unwinds would abort, as anywhere.
        if !std::thread::panicking() {
            spark("drop");
        }
    }
}

/// A closure owns it, and its destructor may panic.
struct Owned(Arc<Census>);

impl Owned {
    fn new(census: &Arc<Census>) -> Self {
        census.made.fetch_add(1, Ordering::SeqCst);
        Self(census.clone())
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.died.fetch_add(1, Ordering::SeqCst);
        if !std::thread::panicking() {
            spark("the drop of a closure");
        }
    }
}

/// Runs a scenario with the panic at the first place, the second, and so on, until it comes to its end
/// without one.
fn at_every_place(scenario: impl Fn(&Arc<Census>)) {
    let mut places = 0;
    loop {
        let census = Census::new();
        FUSE.set(Some(places));
        scenario(&census);
        assert_eq!(census.live(), 0, "something is lost, place {places}");
        if FUSE.take().is_some() {
            break;
        }
        places += 1;
    }
    assert!(places > 3, "the scenario has {places} places");
}

/// Does something that may panic, once in a scenario.
fn attempt<R>(f: impl FnOnce() -> R) -> Option<R> {
    let armed = FUSE.get().is_some();
    // What `f` answers must come out of it before anything of its own is dropped: Rust forgets the result
    // of a function whose locals panic when they are dropped.
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(result) => Some(result),
        Err(payload) => {
            let message = payload.downcast::<String>().expect("a message");
            assert!(armed && message.starts_with("spark in"), "{message}");
            None
        }
    }
}

/// Looks something up with a key whose own destructor may panic later.
fn look_up<R>(key: impl FnOnce() -> Touchy, f: impl FnOnce(&Touchy) -> R) -> Option<R> {
    let key = attempt(key)?;
    let result = attempt(|| f(&key));
    attempt(|| drop(key));
    result
}

/// Each of many values can be interned, found and dropped.
fn assert_works(interner: &Interner<Touchy>, census: &Arc<Census>) {
    let fuse = FUSE.take();
    let before = interner.len();
    let held: Vec<_> = (1000..1010)
        .map(|key| interner.intern(Touchy::new(key, census)))
        .collect();
    assert_eq!(interner.len(), before + 10);
    for value in &held {
        assert_eq!(interner.get(&**value).as_ref(), Some(value));
    }
    drop(held);
    assert_eq!(interner.len(), before);
    FUSE.set(fuse);
}

#[test]
fn a_panic_anywhere_in_an_interner() {
    at_every_place(|census| {
        let interner = Interner::<Touchy>::new();
        let mut held = Vec::new();
        for key in [1, 2, 1] {
            held.extend(attempt(|| interner.intern(Touchy::new(key, census))));
        }
        let new = |key| move || Touchy::new(key, census);
        held.extend(look_up(new(3), |value| interner.intern(value)));
        held.extend(look_up(new(4), |value| {
            interner.intern_with(value, |value| Touchy::new(value.counted.key, census))
        }));
        held.extend(look_up(new(1), |value| interner.get(value)).flatten());
        assert_works(&interner, census);
        if let Some(value) = held.pop() {
            attempt(|| drop(Interned::try_unwrap(value)));
        }
        while let Some(value) = held.pop() {
            attempt(|| drop(value));
        }
        assert_eq!((interner.len(), census.live()), (0, 0));
        assert_works(&interner, census);
    });
}

/// As the above, where all keys have one hash, so that the comparison of one key meets the others.
#[test]
fn a_panic_anywhere_among_collisions() {
    at_every_place(|census| {
        let interner = Interner::<Touchy>::new();
        let mut held = Vec::new();
        for key in [1, 2, 3, 2] {
            held.extend(attempt(|| {
                interner.intern_hashed(7, Touchy::new(key, census))
            }));
        }
        let new = || Touchy::new(3, census);
        held.extend(look_up(new, |value| interner.get_hashed(7, value)).flatten());
        while !held.is_empty() {
            let value = held.remove(0);
            attempt(|| drop(value));
        }
        assert_eq!((interner.len(), census.live()), (0, 0));
    });
}

#[test]
fn a_panic_anywhere_in_the_death_of_a_value() {
    at_every_place(|census| {
        let interner = Arc::new(Interner::<Touchy>::new());
        let hooks = Arc::new(AtomicUsize::new(0));
        let ran = Arc::new(AtomicUsize::new(0));
        let owned = Owned::new(census);
        let count = hooks.clone();
        interner.on_drop(move |value| {
            let _owned = &owned;
            value.counted.assert_alive();
            count.fetch_add(1, Ordering::SeqCst);
            spark("a hook");
        });
        // A value that owns a value that owns a value, each with two callbacks.
        let mut outer: Option<Interned<Touchy>> = None;
        let mut weak = Vec::new();
        let fuse = FUSE.take();
        for key in 0..3 {
            let mut value = Touchy::new(key, census);
            value.inner = outer.take();
            let value = interner.intern(value);
            for _ in 0..2 {
                let (owned, ran) = (Owned::new(census), ran.clone());
                weak.push(Interned::downgrade_with(&value, move || {
                    let _owned = owned;
                    ran.fetch_add(1, Ordering::SeqCst);
                    spark("a callback");
                }));
            }
            outer = Some(value);
        }
        FUSE.set(fuse);
        attempt(|| drop(outer));
        assert_eq!(hooks.load(Ordering::SeqCst), 3);
        assert_eq!(ran.load(Ordering::SeqCst), 6);
        assert_eq!(interner.len(), 0);
        assert_works(&interner, census);
        attempt(|| interner.clear_on_drop());
        assert_works(&interner, census);
        attempt(|| drop(weak));
    });
}

/// A hook that removes or replaces itself is kept alive by the very call, and dies at its end.
///
/// Would catch: the panic of its destructor leaving this thread in the middle of a value's death, with
/// what is queued there lost, and later values lost or worse.
#[test]
fn a_panic_anywhere_while_a_hook_removes_itself() {
    at_every_place(|census| {
        let interner = Arc::new(Interner::<Touchy>::new());
        let owned = Owned::new(census);
        let itself = Arc::downgrade(&interner);
        interner.on_drop(move |_| {
            let _owned = &owned;
            spark("a hook");
            if let Some(interner) = itself.upgrade() {
                interner.clear_on_drop();
            }
        });
        let fuse = FUSE.take();
        let inner = interner.intern(Touchy::new(1, census));
        let mut outer = Touchy::new(2, census);
        outer.inner = Some(inner);
        let outer = interner.intern(outer);
        FUSE.set(fuse);
        attempt(|| drop(outer));
        assert_works(&interner, census);
        attempt(|| interner.clear_on_drop());
        attempt(|| drop(interner));
    });
}

#[test]
fn a_panic_anywhere_in_cancelled_callbacks() {
    at_every_place(|census| {
        let interner = Interner::<Touchy>::new();
        let fuse = FUSE.take();
        let value = interner.intern(Touchy::new(1, census));
        FUSE.set(fuse);
        for _ in 0..6 {
            let owned = Owned::new(census);
            let weak = Interned::downgrade_with(&value, move || drop(owned));
            let clone = weak.clone();
            attempt(|| drop(weak));
            assert!(clone.upgrade().is_some());
            attempt(|| drop(clone));
        }
        attempt(|| drop(value));
        assert_works(&interner, census);
    });
}

#[test]
fn a_panic_anywhere_in_a_map() {
    at_every_place(|census| {
        let map = WeakMap::<Touchy, Touchy>::new();
        let key = |key| Touchy::new(key, census);
        let owned = Owned::new(census);
        map.on_drop(move |_, _| {
            let _owned = &owned;
            spark("a hook");
        });
        let mut held = Vec::new();
        held.extend(attempt(|| map.get_or_insert(key(1), key(1))));
        held.extend(attempt(|| map.get_or_insert(key(1), key(2))));
        held.extend(attempt(|| map.get_or_insert_with(key(3), |_| key(3))));
        held.extend(attempt(|| map.get_or_init(key(4), |_| key(4))));
        held.extend(attempt(|| map.get_or_init(key(4), |_| key(5))));
        // An entry that is given up while it is built.
        let mut given_up = None;
        held.extend(attempt(|| {
            map.get_or_init(key(6), |_| {
                given_up = attempt(|| map.get_or_insert(key(6), key(7)));
                key(8)
            })
        }));
        held.extend(given_up);
        // One that is given up, and its successor dies before it is built.
        held.extend(attempt(|| {
            map.get_or_init(key(9), |_| {
                attempt(|| drop(map.get_or_insert(key(9), key(10))));
                key(11)
            })
        }));
        held.extend(look_up(|| key(1), |key| map.remove(key)).flatten());
        held.extend(look_up(|| key(3), |key| map.get(key)).flatten());
        let fuse = FUSE.take();
        let live: Vec<_> = map.iter().collect();
        assert_eq!(map.len(), live.len());
        drop(live);
        FUSE.set(fuse);
        while let Some(entry) = held.pop() {
            attempt(|| drop(entry));
        }
        assert_eq!(map.len(), 0);
        attempt(|| drop(map));
    });
}

#[test]
fn a_panic_anywhere_in_slices() {
    at_every_place(|census| {
        let slices = Interner::<[Touchy]>::new();
        let new = |keys: &[u64]| -> Vec<Touchy> {
            keys.iter().map(|&key| Touchy::new(key, census)).collect()
        };
        let mut held = Vec::new();
        held.extend(attempt(|| slices.intern(new(&[1, 2, 3]))));
        for keys in [&[1, 2, 3][..], &[1, 2]] {
            if let Some(values) = attempt(|| new(keys)) {
                held.extend(attempt(|| slices.intern(&values)));
                attempt(|| drop(values));
            }
        }
        held.extend(attempt(|| slices.intern(new(&[5]).into_boxed_slice())));
        held.extend(attempt(|| {
            slices.intern([Touchy::new(1, census), Touchy::new(9, census)])
        }));
        while let Some(slice) = held.pop() {
            attempt(|| drop(slice));
        }
        assert_eq!((slices.len(), census.live()), (0, 0));
    });
}

/// Every value of a chain panics. The first panic goes on; the others run all the same.
#[test]
fn a_chain_of_panicking_destructors_dies_to_its_end() {
    #[expect(dead_code, reason = "the fields are there to be dropped")]
    struct Angry(u32, Option<Interned<Angry>>, Counted);
    impl PartialEq for Angry {
        fn eq(&self, other: &Self) -> bool {
            self.0 == other.0
        }
    }
    impl Eq for Angry {}
    impl Hash for Angry {
        fn hash<H: Hasher>(&self, state: &mut H) {
            self.0.hash(state);
        }
    }
    impl Drop for Angry {
        fn drop(&mut self) {
            panic!("value {}", self.0);
        }
    }

    let census = Census::new();
    let interner = Interner::<Angry>::new();
    let mut chain = None;
    for number in 0..50 {
        let counted = Counted::new(0, &census);
        chain = Some(interner.intern(Angry(number, chain, counted)));
    }
    assert_eq!(panic_of(|| drop(chain)), "value 49");
    assert_eq!((interner.len(), census.live()), (0, 0));
}

/// A payload whose own destructor panics.
#[test]
fn a_panic_payload_that_panics_is_survived() {
    struct Payload;
    impl Drop for Payload {
        fn drop(&mut self) {
            panic!("a payload's destructor");
        }
    }
    let interner = Interner::<u32>::new();
    let value = interner.intern(1);
    let weak = [1, 2].map(|_| Interned::downgrade_with(&value, || std::panic::panic_any(Payload)));
    let first = catch_unwind(AssertUnwindSafe(|| drop(value))).expect_err("callbacks panic");
    assert_eq!(panic_of(|| drop(first)), "a payload's destructor");
    assert!(weak.iter().all(|weak| weak.upgrade().is_none()));
    assert_eq!(interner.len(), 0);
}

#[test]
fn a_builder_that_answers_something_else_changes_nothing() {
    let names = Interner::<str>::new();
    let alpha = names.intern("alpha");
    let message = panic_of(|| names.intern_with("beta", |_| "gamma"));
    assert!(message.contains("not equivalent"), "{message}");
    assert_eq!((names.len(), Interned::ref_count(&alpha)), (1, 1));
    assert_eq!(names.get("beta"), None);
    assert_eq!(names.get("gamma"), None);
}

// Unusual shapes.

#[test]
fn a_value_without_a_size_is_one_value() {
    static DIED: AtomicUsize = AtomicUsize::new(0);
    #[derive(Debug, PartialEq, Eq, Hash)]
    struct Unit;
    impl Drop for Unit {
        fn drop(&mut self) {
            DIED.fetch_add(1, Ordering::SeqCst);
        }
    }
    let units = Interner::<Unit>::new();
    let unit = units.intern(Unit);
    assert_eq!(units.intern(Unit), unit);
    assert_eq!(DIED.load(Ordering::SeqCst), 1);
    let raw = Interned::into_raw(unit);
    // SAFETY: `raw` came from `into_raw`, and is taken back once.
    let unit = unsafe { Interned::from_raw(raw) };
    assert_eq!(units.get(&Unit).as_ref(), Some(&unit));
    drop(unit);
    assert_eq!(DIED.load(Ordering::SeqCst), 3);
    assert_eq!(units.len(), 0);

    let map = WeakMap::<(), ()>::new();
    let entry = map.get_or_insert((), ());
    assert!(Cached::ptr_eq(
        &entry,
        &map.get_or_init((), |()| unreachable!())
    ));
}

#[test]
fn slices_of_values_without_a_size_differ_by_length() {
    let slices = Interner::<[()]>::new();
    let held: Vec<_> = [0, 1, 2, 1000]
        .map(|len| slices.intern(vec![(); len]))
        .into();
    assert_eq!(slices.len(), 4);
    assert_eq!(held[3].len(), 1000);
    assert_eq!(slices.intern([(), ()]), held[2]);
    let none: &[(); 0] = &[];
    assert_eq!(slices.intern(none), held[0]);
}

#[test]
fn empty_strings_and_slices_are_values() {
    let names = Interner::<str>::new();
    let empty = names.intern("");
    assert_eq!(empty, names.intern(String::new()));
    assert_eq!(*empty, *"");
    let words = Interner::<[u64]>::new();
    let none = words.intern(Vec::new());
    assert!(none.is_empty());
    assert!(none.as_ptr().is_aligned());
    assert_eq!((names.len(), words.len()), (1, 1));
}

#[test]
fn large_alignments_are_kept() {
    #[derive(Clone, Debug, PartialEq, Eq, Hash)]
    #[repr(align(64))]
    struct Line(u8);
    #[derive(Clone, Debug, PartialEq, Eq, Hash)]
    #[repr(align(4096))]
    struct Page(u8);
    #[derive(Clone, Debug, PartialEq, Eq, Hash)]
    #[repr(align(1024))]
    struct Empty;

    fn check<T: Clone + std::fmt::Debug + Eq + Hash>(values: &[T]) {
        let interner = Interner::<T>::new();
        let slices = Interner::<[T]>::new();
        for value in values {
            let interned = interner.intern(value.clone());
            assert!(Interned::as_ptr(&interned).is_aligned());
            assert_eq!(*interned, *value);
            // SAFETY: given away and taken back once.
            let back = unsafe { Interned::from_raw(Interned::into_raw(interned)) };
            assert_eq!(interner.get(value), Some(back));
        }
        for len in 0..=values.len() {
            let slice = slices.intern(&values[..len]);
            assert!(slice.as_ptr().is_aligned());
            assert_eq!(*slice, values[..len]);
            // SAFETY: given away and taken back once.
            let back = unsafe { Interned::from_raw(Interned::into_raw(slice)) };
            assert_eq!(slices.get(&values[..len]), Some(back));
        }
        let map = WeakMap::<u8, T>::new();
        assert!(std::ptr::from_ref(&*map.get_or_insert(1, values[0].clone())).is_aligned());
        assert_eq!((interner.len(), slices.len()), (0, 0));
    }
    check(&[Line(1), Line(2), Line(3)]);
    check(&[Page(1), Page(2), Page(3)]);
    check(&[Empty]);
    check(&[1u128, 2, 3]);
}

#[test]
fn large_values_are_interned() {
    let interner = Interner::<[u8]>::new();
    let large = vec![7; scaled(3 << 20, 100_000)];
    let interned = interner.intern(&large);
    assert_eq!(*interned, *large);
    drop(interned);
    interner.flush();
    assert_eq!(interner.len(), 0);
}

// An interner that dies inside its own value.

#[test]
fn an_interner_is_dropped_inside_its_own_values_destructor() {
    struct Keeper {
        key: u32,
        keeps: Mutex<Option<Arc<Interner<Keeper>>>>,
        /// Dropped after `keeps`, in a table that is gone.
        others: Mutex<Vec<Interned<Keeper>>>,
        _counted: Counted,
    }
    impl PartialEq for Keeper {
        fn eq(&self, other: &Self) -> bool {
            self.key == other.key
        }
    }
    impl Eq for Keeper {}
    impl Hash for Keeper {
        fn hash<H: Hasher>(&self, state: &mut H) {
            self.key.hash(state);
        }
    }

    for others in [0, 1, 100] {
        let census = Census::new();
        let keeper = |key| Keeper {
            key,
            keeps: Mutex::default(),
            others: Mutex::default(),
            _counted: Counted::new(0, &census),
        };
        let interner = Arc::new(Interner::<Keeper>::new());
        let first = interner.intern(keeper(0));
        let survivor = interner.intern(keeper(1));
        *first.others.lock().unwrap() = (2..others + 2)
            .map(|key| interner.intern(keeper(key)))
            .collect();
        *first.keeps.lock().unwrap() = Some(interner);
        drop(first);
        assert_eq!(census.live(), 1, "with {others} others");
        assert_eq!(survivor.key, 1);
        drop(survivor);
        assert_eq!(census.live(), 0);
    }
}

/// The hook goes with its interner, while it runs.
#[test]
fn an_interner_is_dropped_inside_its_own_hook() {
    let census = Census::new();
    let interner = Arc::new(Interner::<Counted>::new());
    let slot = Arc::new(Mutex::new(Some(interner.clone())));
    let owned = Owned::new(&census);
    interner.on_drop(move |value| {
        let _owned = &owned;
        drop(slot.lock().unwrap().take());
        value.assert_alive();
    });
    let value = interner.intern(Counted::new(1, &census));
    let survivor = interner.intern(Counted::new(2, &census));
    drop(interner);
    drop(value);
    assert_eq!(survivor.key, 2);
    drop(survivor);
    assert_eq!(census.live(), 0);
}
