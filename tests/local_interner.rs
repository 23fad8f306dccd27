//! `LocalInterner` and its handles.
//!
//! - A front holds one shared handle of a key exactly while there are local ones, whatever comes, goes, collides
//!   and lies. A hit, a clone and a drop that isn't the last touch no shared count.
//! - What it answers is what the interner would answer, in every form.
//! - A value dies with its last handle, at once. Lingering keys live longer, as long as documented.
//! - Handles outlive front and interner, and die in thread-locals in any order.
//! - User code comes back to the front from anywhere, and panics anywhere.
//! - Local handles inside of values need no deep stack.

#![allow(
    clippy::needless_borrows_for_generic_args,
    clippy::op_ref,
    reason = "each form of a key is tested"
)]

mod common;

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::ffi::{CStr, CString, OsStr, OsString};
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher};
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use common::{Census, Counted, Rng, SeedOnFailure, panic_of, scaled, seed};
use equivalent::Equivalent;
use hapax::{Internable, Interned, Interner, LocalInterned, LocalInterner, RandomState};

/// How many shared handles there are.
fn shared_count<T: ?Sized + Internable>(local: &LocalInterned<T>) -> usize {
    Interned::ref_count(LocalInterned::as_shared(local))
}

/// One hash for all.
#[derive(Default)]
struct OneHash;

impl Hasher for OneHash {
    fn finish(&self) -> u64 {
        7
    }
    fn write(&mut self, _: &[u8]) {}
}

type Colliding = BuildHasherDefault<OneHash>;

// Counts.

#[test]
fn a_front_holds_one_shared_handle_while_there_are_local_ones() {
    let names = Interner::<str>::new();
    let local = LocalInterner::new(&names);
    assert!(local.is_empty() && names.is_empty());
    let alpha = local.intern("alpha");
    let shared = names.intern("alpha");
    let count = || Interned::ref_count(&shared);
    assert_eq!((count(), local.len()), (2, 1));
    let more: Vec<_> = (0..100)
        .map(|number| match number % 4 {
            0 => alpha.clone(),
            1 => local.intern("alpha"),
            2 => local.get("alpha").unwrap(),
            _ => local.intern_with("alpha", |_| -> String { unreachable!("it is here") }),
        })
        .collect();
    assert_eq!((count(), local.len()), (2, 1));
    assert!(
        more.iter()
            .all(|handle| *handle == alpha && **handle == *shared)
    );
    drop(alpha);
    drop(more);
    assert_eq!((count(), local.len()), (1, 0));
    // Found in the interner, as long as somebody else holds it.
    let alpha = local.get("alpha").unwrap();
    assert_eq!((count(), local.len()), (2, 1));
    assert!(local.get("beta").is_none());
    drop((alpha, shared));
    assert!(local.get("alpha").is_none());
    assert!(local.is_empty() && names.is_empty());
}

#[test]
fn fronts_know_nothing_of_each_other() {
    let names = Interner::<str>::new();
    let (one, other) = (LocalInterner::new(&names), LocalInterner::new(&names));
    let (mine, yours) = (one.intern("alpha"), other.intern("alpha"));
    assert_eq!((shared_count(&mine), one.len(), other.len()), (2, 1, 1));
    assert_eq!(mine, yours);
    assert!(LocalInterned::ptr_eq(&mine, &yours));
    drop(mine);
    assert_eq!((shared_count(&yours), one.len(), other.len()), (1, 0, 1));
    // Interners, neither.
    let elsewhere = Interner::<str>::new();
    let third = LocalInterner::new(&elsewhere);
    assert_ne!(third.intern("alpha"), yours);
    assert!(third.get("beta").is_none());
}

#[test]
fn the_interner_is_one_that_is_borrowed_or_shared() {
    let names = Arc::new(Interner::<str>::new());
    let borrowing = LocalInterner::new(&*names);
    let owning = LocalInterner::new(names.clone());
    let counted = LocalInterner::new(Rc::new(Interner::<str, _>::with_hasher(Colliding::new())));
    let handles = [
        borrowing.intern("alpha"),
        owning.intern("alpha"),
        counted.intern("alpha"),
    ];
    assert_eq!(handles[0], handles[1]);
    assert_ne!(handles[1], handles[2]);
    assert_eq!(
        (borrowing.interner().len(), counted.interner().len()),
        (1, 1)
    );
    // An `Arc` keeps the interner.
    drop(borrowing);
    let weak = Arc::downgrade(&names);
    drop(names);
    assert_eq!(owning.get("alpha").unwrap(), handles[1]);
    drop(owning);
    assert!(weak.upgrade().is_none());
    assert!(handles.iter().all(|handle| *handle == *"alpha"));
}

/// A handle that is leaked keeps its value, and nothing is wrong with the front.
#[test]
fn a_handle_that_is_forgotten_stays_listed() {
    let names = Interner::<str>::new();
    let local = LocalInterner::new(&names);
    let forgotten = ManuallyDrop::new(local.intern("alpha"));
    assert_eq!((local.len(), names.len()), (1, 1));
    let alpha = local.intern("alpha");
    assert_eq!(shared_count(&alpha), 1);
    drop((alpha, local));
    assert_eq!(names.len(), 1);
    // For the sake of leak checkers.
    drop(ManuallyDrop::into_inner(forgotten));
    assert!(names.is_empty());
}

// Forms.

type Form<T> = fn(&LocalInterner<&Interner<T>>) -> LocalInterned<T>;

/// Each form as the first one, and all of them after that.
fn all_forms_give_one<T>(forms: &[Form<T>])
where
    T: ?Sized + Internable + Hash + Eq + std::fmt::Debug,
{
    for first in forms {
        let interner = Interner::new();
        let local = LocalInterner::new(&interner);
        let held = first(&local);
        for (place, form) in forms.iter().enumerate() {
            assert_eq!(form(&local), held, "form {place}");
            assert_eq!(local.len(), 1);
        }
        assert_eq!(local.get(&*held), Some(held.clone()));
        assert_eq!(interner.get(&*held).unwrap(), held);
        drop(held);
        assert!(local.is_empty() && interner.is_empty());
    }
}

#[test]
fn all_forms_of_a_value_give_one_instance() {
    all_forms_give_one::<str>(&[
        |local| local.intern("word"),
        |local| local.intern(&String::from("word")),
        |local| local.intern(String::from("word")),
        |local| local.intern(Box::<str>::from("word")),
        |local| local.intern(Arc::<str>::from("word")),
        |local| local.intern(Cow::Borrowed("word")),
        |local| local.intern(LocalInterned::as_shared(&local.intern("word"))),
        |local| local.intern_with("word", |word| word.to_owned()),
        |local| local.get("word").unwrap_or_else(|| local.intern("word")),
    ]);
    all_forms_give_one::<[u16]>(&[
        |local| local.intern([1, 2]),
        |local| local.intern(&[1, 2]),
        |local| local.intern(vec![1, 2]),
        |local| local.intern_with(&[1, 2][..], |slice| slice.to_vec()),
    ]);
    all_forms_give_one::<Path>(&[
        |local| local.intern("a/b"),
        |local| local.intern(PathBuf::from("a/b")),
    ]);
    all_forms_give_one::<OsStr>(&[
        |local| local.intern("word"),
        |local| local.intern(OsString::from("word")),
    ]);
    all_forms_give_one::<CStr>(&[
        |local| local.intern(c"word"),
        |local| local.intern(CString::from(c"word")),
    ]);
    all_forms_give_one::<(u8, String)>(&[
        |local| local.intern((1, String::from("word"))),
        |local| local.intern(&(1, String::from("word"))),
    ]);
    all_forms_give_one::<()>(&[|local| local.intern(()), |local| local.intern(&())]);
    #[derive(Clone, Debug, PartialEq, Eq, Hash)]
    #[repr(align(128))]
    struct Aligned([u64; 32]);
    all_forms_give_one::<Aligned>(&[
        |local| local.intern(Aligned([7; 32])),
        |local| local.intern(&Aligned([7; 32])),
    ]);
}

#[test]
fn what_is_built_is_built_once_and_fits() {
    /// Looks up numbers.
    #[derive(Hash)]
    struct Key(u64);
    impl Equivalent<u64> for Key {
        fn equivalent(&self, number: &u64) -> bool {
            self.0 == *number
        }
    }
    let numbers = Interner::<u64>::new();
    let local = LocalInterner::new(&numbers);
    let built = Cell::new(0);
    let build = |key: &Key| {
        built.set(built.get() + 1);
        key.0
    };
    let seven = local.intern_with(&Key(7), build);
    assert_eq!(*seven, 7);
    assert_eq!(local.intern_with(&Key(7), build), seven);
    assert_eq!(local.get(&Key(7)), Some(seven));
    assert_eq!((built.get(), local.get(&Key(7))), (1, None));
    let elsewhere = numbers.intern(7);
    assert_eq!(local.intern_with(&Key(7), build), elsewhere);
    assert_eq!(built.get(), 1);
    drop(elsewhere);
    let message = panic_of(|| local.intern_with(&Key(7), |_| 8));
    assert!(message.contains("not equivalent"), "{message}");
    assert!(local.is_empty() && numbers.is_empty());
}

/// Keys at one address, one after the other: that it is where the last one was means nothing.
#[test]
fn a_buffer_that_is_used_again_is_another_key() {
    let names = Interner::<str>::new();
    let local = LocalInterner::new(&names);
    let mut held = Vec::new();
    let mut buffer = String::with_capacity(20);
    for turn in 0..3 {
        for number in 0..10 {
            use std::fmt::Write;
            buffer.clear();
            write!(buffer, "key {number}").unwrap();
            for _ in 0..3 {
                held.push(local.intern(&buffer));
                assert_eq!(held.last().unwrap(), &buffer);
                assert_eq!(local.get(&buffer[..]).unwrap(), buffer);
            }
        }
        assert_eq!((local.len(), held.len()), (10, 30 * (turn + 1)));
    }
    buffer.clear();
    buffer.push_str("key 9");
    assert_eq!(local.intern(&buffer), held[89]);
    // Gone, though it was the last one found.
    held.clear();
    assert!(local.get(&buffer[..]).is_none());
    assert_eq!(local.intern(&buffer), buffer);
    // By value, all keys are at one place of the stack.
    let numbers = Interner::<u64>::new();
    let local = LocalInterner::new(&numbers);
    let held: Vec<_> = (0..10u64)
        .flat_map(|number| [local.intern(number), local.intern(number)])
        .collect();
    assert!(
        held.iter()
            .map(|number| **number)
            .eq((0..20).map(|place| place / 2))
    );
}

/// A literal in a loop.
#[test]
fn a_key_where_the_last_one_was_is_compared_and_not_hashed() {
    #[derive(Clone, PartialEq, Eq)]
    struct Name<'a>(&'static str, &'a Cell<usize>);
    impl Hash for Name<'_> {
        fn hash<H: Hasher>(&self, state: &mut H) {
            self.1.set(self.1.get() + 1);
            self.0.hash(state);
        }
    }
    let hashed = Cell::new(0);
    let names = Interner::<Name>::new();
    let local = LocalInterner::new(&names);
    let (alpha, beta) = (Name("alpha", &hashed), Name("beta", &hashed));
    let held = [local.intern(&alpha), local.intern(&beta)];
    for turn in 1..10 {
        for (name, handle) in [&alpha, &beta].into_iter().zip(&held) {
            for _ in 0..10 {
                assert!(local.intern(name) == *handle);
            }
        }
        assert_eq!(hashed.get(), 2 + 2 * turn);
    }
}

// Handles.

fn hash_of(value: &impl Hash) -> u64 {
    RandomState.hash_one(value)
}

#[test]
fn handles_equal_and_hash_as_shared_ones() {
    let (here, there) = (Interner::<str>::new(), Interner::<str>::new());
    let (local, other) = (LocalInterner::new(&here), LocalInterner::new(&there));
    let (a, b, foreign) = (local.intern("a"), local.intern("b"), other.intern("a"));
    assert_eq!(a, a.clone());
    assert!(a != b && a != foreign);
    let shared = LocalInterned::share(&a);
    assert_eq!(a, shared);
    assert_eq!(shared, a);
    for other in [&b, &foreign] {
        assert_ne!(*other, shared);
        assert_ne!(shared, *other);
    }
    assert_eq!(hash_of(&a), hash_of(&shared));
    assert_ne!(hash_of(&a), hash_of(&foreign));
    assert_eq!(
        HashSet::from([a.clone(), a.clone(), foreign.clone()]).len(),
        2
    );

    assert!(a < b && foreign < b);
    assert_ne!(a.cmp(&foreign), std::cmp::Ordering::Equal);
    assert_eq!(
        a.cmp(&foreign),
        shared.cmp(LocalInterned::as_shared(&foreign))
    );
    assert_eq!(a.partial_cmp(&foreign), Some(foreign.cmp(&a).reverse()));
    let sorted: BTreeSet<_> = ["c", "a", "b", "a"].map(|name| local.intern(name)).into();
    assert!(sorted.iter().map(|name| &**name).eq(["a", "b", "c"]));
}

#[test]
fn handles_are_shown_as_their_values() {
    let names = Interner::<str>::new();
    let local = LocalInterner::new(&names);
    let name = local.intern("a\"b");
    assert_eq!(
        format!("{name}|{name:?}|{name:>5}|{name:.1}"),
        "a\"b|\"a\\\"b\"|  a\"b|a"
    );
    assert_eq!(format!("{name:p}"), format!("{:p}", name.as_ptr()));
    assert_eq!(format!("{local:?}"), "LocalInterner { len: 1, .. }");
    let text: &str = name.as_ref();
    assert_eq!(text, "a\"b");
}

#[test]
fn handles_are_compared_with_values() {
    /// Both directions, equal and unequal.
    macro_rules! compares {
        ($handle:expr, $($equal:expr, $unequal:expr;)*) => {{
            let handle = $handle;
            $(
                assert!(handle == $equal && $equal == handle, "{}", stringify!($equal));
                assert!(handle != $unequal && $unequal != handle, "{}", stringify!($unequal));
            )*
        }};
    }
    let names = Interner::<str>::new();
    compares! {
        LocalInterner::new(&names).intern("a"),
        *"a", *"b";
        "a", "b";
        String::from("a"), String::from("b");
        Box::<str>::from("a"), Box::<str>::from("b");
        Arc::<str>::from("a"), Arc::<str>::from("b");
        Cow::Borrowed("a"), Cow::Borrowed("b");
    }
    let paths = Interner::<Path>::new();
    compares! {
        LocalInterner::new(&paths).intern("a"),
        *Path::new("a"), *Path::new("b");
        Path::new("a"), Path::new("b");
        PathBuf::from("a"), PathBuf::from("b");
    }
    let words = Interner::<OsStr>::new();
    compares! {
        LocalInterner::new(&words).intern("a"),
        *OsStr::new("a"), *OsStr::new("b");
        OsStr::new("a"), OsStr::new("b");
        OsString::from("a"), OsString::from("b");
    }
    let texts = Interner::<CStr>::new();
    compares! {
        LocalInterner::new(&texts).intern(c"a"),
        *c"a", *c"b";
        c"a", c"b";
        CString::from(c"a"), CString::from(c"b");
    }
    let slices = Interner::<[u8]>::new();
    let slice = LocalInterner::new(&slices).intern([1, 2]);
    assert!(slice == [1, 2][..] && slice != [1][..]);
    assert!(slice == &[1, 2][..] && slice != &[1][..]);
    assert!(slice == vec![1, 2] && slice != vec![1]);
    assert!(slice == [1, 2] && slice != [2, 1]);
}

#[test]
fn a_shared_handle_goes_to_another_thread_and_keeps_the_value() {
    let census = Census::new();
    let values = Interner::<Counted>::new();
    let local = LocalInterner::new(&values);
    let value = local.intern(Counted::new(1, &census));
    let shared = LocalInterned::share(&value);
    assert_eq!(shared_count(&value), 2);
    drop(value);
    assert_eq!((local.len(), values.len()), (0, 1));
    thread::scope(|scope| {
        scope.spawn(|| {
            let local = LocalInterner::new(&values);
            let value = local.intern(Counted::new(1, &census));
            assert_eq!(value, shared);
            drop(shared);
            value.assert_alive();
        });
    });
    assert_eq!((values.len(), census.live()), (0, 0));
    let value = local.intern(Counted::new(2, &census));
    let shared: Interned<Counted> = value.into();
    assert_eq!((local.len(), Interned::ref_count(&shared)), (0, 1));
    // It is the only handle.
    assert_eq!(Interned::try_unwrap(shared).unwrap().key, 2);
}

// Ends.

#[test]
fn handles_outlive_front_and_interner() {
    let census = Census::new();
    for front_first in [true, false] {
        let values = Arc::new(Interner::<Counted>::new());
        let local = LocalInterner::new(values.clone()).lingering(1);
        let one = local.intern(Counted::new(1, &census));
        let two = local.intern(Counted::new(2, &census));
        if front_first {
            drop(local);
            drop(values);
        } else {
            drop(values);
            drop(local);
        }
        let again = one.clone();
        drop(one);
        again.assert_alive();
        assert_eq!((again.key, shared_count(&again), census.live()), (1, 1, 2));
        assert_ne!(again, two);
        drop(again);
        assert_eq!(census.live(), 1);
        drop(two);
        assert_eq!(census.live(), 0);
    }
}

/// What a thread-local keeps. Its destructor uses all of it.
struct Late {
    front: Option<Rc<LocalInterner<Arc<Interner<Counted>>>>>,
    handles: Vec<LocalInterned<Counted>>,
    census: Arc<Census>,
}

impl Drop for Late {
    fn drop(&mut self) {
        for handle in &self.handles {
            handle.assert_alive();
            assert_eq!(handle.clone(), *handle);
        }
        if let Some(front) = &self.front {
            for key in 10..200 {
                let value = front.intern(Counted::new(key, &self.census));
                assert_eq!(front.get(&key), Some(value));
            }
            let others = self.handles.split_off(self.handles.len() / 2);
            for handle in others {
                let found = front.get(&handle.key).unwrap();
                assert!(found.key == handle.key);
            }
        }
    }
}

thread_local! {
    static EARLY: RefCell<Option<Late>> = const { RefCell::new(None) };
    static LATER: RefCell<Option<Late>> = const { RefCell::new(None) };
    static LAST: RefCell<Option<Late>> = const { RefCell::new(None) };
}

/// Fronts and handles in thread-locals, of which some are made before those of this crate and of crossbeam.
#[test]
fn a_thread_ends_with_fronts_and_handles_in_thread_locals() {
    for turn in 0..scaled(60, 6) {
        let census = Census::new();
        let values = Arc::new(Interner::<Counted>::new());
        let (interner, counts) = (values.clone(), census.clone());
        let run = move || {
            EARLY.set(None);
            if turn % 2 == 0 {
                drop(interner.intern(Counted::new(0, &counts)));
            }
            LATER.set(None);
            let front = Rc::new(LocalInterner::new(interner).lingering(turn % 3));
            let late =
                |front: Option<&Rc<LocalInterner<_>>>,
                 of: &Rc<LocalInterner<Arc<Interner<Counted>>>>| Late {
                    front: front.cloned(),
                    handles: (0..6)
                        .map(|key| of.intern(Counted::new(key, &counts)))
                        .collect(),
                    census: counts.clone(),
                };
            // The front in each of the three in turn; handles in all.
            EARLY.set(Some(late((turn % 3 == 0).then_some(&front), &front)));
            LAST.set(Some(late((turn % 3 == 1).then_some(&front), &front)));
            LATER.set(Some(late((turn % 3 == 2).then_some(&front), &front)));
        };
        // Joined by hand: a scope doesn't wait for the destructors of thread-locals.
        thread::spawn(run).join().expect("the thread ends");
        assert_eq!((values.len(), census.live()), (0, 0), "turn {turn}");
    }
}

// Lingering.

#[test]
fn the_keys_that_were_taken_last_linger() {
    let names = Interner::<str>::new();
    let local = LocalInterner::new(&names).lingering(3);
    let alive = |expected: &str| {
        let found: String = "abcdefg"
            .matches(|name: char| names.get(&*name.to_string()).is_some())
            .collect();
        assert_eq!(found, expected);
        assert_eq!(local.len(), expected.len());
    };
    for name in ["a", "b", "c"] {
        drop(local.intern(name));
    }
    alive("abc");
    // Found here: nothing is taken.
    let calls = names.len();
    for _ in 0..10 {
        drop((local.intern("a"), local.get("b")));
    }
    assert_eq!(names.len(), calls);
    alive("abc");
    let held = local.intern("a");
    assert_eq!(shared_count(&held), 1);
    drop(local.intern("d"));
    alive("abcd");
    // It was pushed out, but somebody has it. Then it isn't there any more.
    drop(held);
    alive("bcd");
    // Found in the interner: that is taking as well.
    let shared = names.intern("e");
    assert!(local.get("e").is_some() && local.get("g").is_none());
    drop(shared);
    alive("cde");
    drop(local.intern_with("f", |name| name.to_owned()));
    alive("def");
    let held = local.intern("e");
    local.clear();
    alive("e");
    drop(held);
    alive("");
    drop(local.intern("a"));
    alive("a");
    drop(local);
    assert!(names.is_empty());
}

#[test]
fn lingering_is_turned_on_and_off() {
    let names = Interner::<str>::new();
    let local = LocalInterner::new(&names);
    drop(local.intern("a"));
    assert!(local.is_empty());
    let local = local.lingering(usize::MAX);
    for name in ["a", "b", "c", "d"] {
        drop(local.intern(name));
    }
    assert_eq!(names.len(), 4);
    let local = local.lingering(2);
    assert_eq!(
        (
            names.len(),
            names.get("b").is_some(),
            names.get("c").is_some()
        ),
        (2, false, true)
    );
    let local = local.lingering(0);
    assert!(names.is_empty());
    drop(local.intern("a"));
    assert!(names.is_empty() && local.is_empty());
    local.clear();
}

/// One that interns others when it dies.
struct Phoenix {
    key: u64,
    ash: Rc<Ash>,
}

type Nest = LocalInterner<Rc<Interner<Phoenix>>>;

#[derive(Default)]
struct Ash {
    front: RefCell<Option<Rc<Nest>>>,
    born: Cell<u64>,
}

impl PartialEq for Phoenix {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for Phoenix {}

impl Hash for Phoenix {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}

impl std::borrow::Borrow<u64> for Phoenix {
    fn borrow(&self) -> &u64 {
        &self.key
    }
}

impl Drop for Phoenix {
    fn drop(&mut self) {
        let front = self.ash.front.borrow().clone();
        if let Some(front) = front.filter(|_| self.key > 0) {
            // Its own entry is gone, here and there.
            assert!(front.get(&self.key).is_none());
            for key in [self.key / 2, self.key] {
                let born = self.ash.born.get();
                if key < self.key || born < 50 {
                    self.ash.born.set(born + 1);
                    let ash = self.ash.clone();
                    drop(front.intern(Phoenix { key, ash }));
                }
            }
            front.clear();
        }
    }
}

#[test]
fn destructors_come_back_to_the_front() {
    for lingering in [0, 1, 3] {
        let ash = Rc::<Ash>::default();
        let values = Rc::new(Interner::<Phoenix>::new());
        let front = Rc::new(LocalInterner::new(values.clone()).lingering(lingering));
        *ash.front.borrow_mut() = Some(front.clone());
        let new = |key| Phoenix {
            key,
            ash: ash.clone(),
        };
        for key in [20, 21, 22, 23] {
            drop(front.intern(new(key)));
        }
        front.clear();
        assert!(ash.born.get() >= 50);
        assert_eq!((front.len(), values.len()), (0, 0));
        let held = [front.intern(new(8)), front.intern(new(9))];
        *ash.front.borrow_mut() = None;
        drop(front);
        assert_eq!(values.len(), 2);
        drop(held);
        assert_eq!((values.len(), Rc::strong_count(&ash)), (0, 1));
    }
}

/// A destructor that panics stops no other one, and none runs while the panic unwinds: it may panic as well.
#[test]
fn all_lingering_keys_are_let_go_though_some_panic() {
    #[derive(PartialEq, Eq)]
    struct Bomb<'a>(u64, &'a Cell<bool>);
    impl Hash for Bomb<'_> {
        fn hash<H: Hasher>(&self, state: &mut H) {
            self.0.hash(state);
        }
    }
    impl Drop for Bomb<'_> {
        fn drop(&mut self) {
            if thread::panicking() {
                self.1.set(true);
            } else {
                assert!(!self.0.is_multiple_of(3), "bomb {}", self.0);
            }
        }
    }
    let unwinding = Cell::new(false);
    let bombs = Interner::<Bomb>::new();
    let local = LocalInterner::new(&bombs).lingering(10);
    let new = |number| Bomb(number, &unwinding);
    let fill = || (0..10).for_each(|number| drop(local.intern(new(number))));
    fill();
    assert_eq!(panic_of(|| local.clear()), "bomb 0");
    assert!(bombs.is_empty() && local.is_empty());
    fill();
    // Pushed out: nothing else is lost.
    assert_eq!(panic_of(|| local.intern(new(10))), "bomb 0");
    assert_eq!((bombs.len(), local.len()), (10, 10));
    assert_eq!(panic_of(|| drop(local)), "bomb 3");
    assert!(bombs.is_empty() && !unwinding.get());
}

// User code.

thread_local! {
    /// What `Eq` and `Hash` of a `Busy` do.
    static DO: RefCell<Option<Box<dyn Fn()>>> = const { RefCell::new(None) };
}

/// Lets its `Eq` and `Hash` do things, but not within themselves.
#[derive(Debug)]
struct Busy(Counted);

fn act() {
    let Some(f) = DO.take() else { return };
    f();
    DO.set(Some(f));
}

impl PartialEq for Busy {
    fn eq(&self, other: &Self) -> bool {
        act();
        self.0 == other.0
    }
}

impl Eq for Busy {}

impl Hash for Busy {
    fn hash<H: Hasher>(&self, state: &mut H) {
        act();
        self.0.hash(state);
    }
}

/// `Eq` and `Hash` intern, drop what is being compared, let lingering keys go, and make the table grow.
#[test]
fn comparisons_come_back_to_the_front() {
    fn check<S: BuildHasher + Default + 'static>(lingering: usize) {
        let census = Census::new();
        let values = Rc::new(Interner::<Busy, S>::default());
        let local = Rc::new(LocalInterner::new(values.clone()).lingering(lingering));
        let held = Rc::new(RefCell::new(Vec::new()));
        let calls = Rc::new(Cell::new(0));
        let act = {
            let (local, held, calls, census) =
                (local.clone(), held.clone(), calls.clone(), census.clone());
            move || {
                calls.set(calls.get() + 1);
                let turn = calls.get();
                let new = |key| Busy(Counted::new(key, &census));
                // Also what the call under way is about.
                for key in [turn % 5, 100 + turn] {
                    let value = local.intern(new(key));
                    assert_eq!(value.0.key, key);
                    if turn % 3 == 0 {
                        held.borrow_mut().push(value);
                    }
                }
                if turn % 4 == 0 {
                    let dropped: Vec<_> = held.borrow_mut().drain(..).collect();
                    drop(dropped);
                    local.clear();
                }
                if turn % 16 == 0 {
                    local.shrink_to_fit();
                }
            }
        };
        DO.set(Some(Box::new(act)));
        for turn in 0..scaled(500, 20) as u64 {
            let key = Busy(Counted::new(turn % 5, &census));
            let value = match turn % 3 {
                0 => local.intern(key),
                1 => local.intern_with(&key, |key| Busy(key.0.clone())),
                _ => {
                    let found = local.get(&key);
                    drop(key);
                    found.unwrap_or_else(|| local.intern(Busy(Counted::new(turn % 5, &census))))
                }
            };
            assert_eq!(value.0.key, turn % 5);
            value.0.assert_alive();
            assert_eq!(Interned::ref_count(LocalInterned::as_shared(&value)), 1);
            held.borrow_mut().push(value);
        }
        DO.set(None);
        assert!(calls.get() > 500 || cfg!(miri));
        held.borrow_mut().clear();
        local.clear();
        assert_eq!((local.len(), values.len(), census.live()), (0, 0, 0));
    }
    for lingering in [0, 2] {
        check::<RandomState>(lingering);
        check::<Colliding>(lingering);
    }
}

/// The comparison drops the last handle of what it compares. Its end comes afterwards.
#[test]
fn what_is_compared_is_held() {
    for panics in [false, true] {
        let census = Census::new();
        let values = Interner::<Busy>::new();
        let local = LocalInterner::new(&values);
        let held = Rc::new(RefCell::new(Some(
            local.intern(Busy(Counted::new(1, &census))),
        )));
        let calls = Rc::new(Cell::new(0));
        let (slot, counts, hashes) = (held.clone(), census.clone(), calls.clone());
        DO.set(Some(Box::new(move || {
            hashes.set(hashes.get() + 1);
            // The first is `Hash`, the second `Eq`.
            if hashes.get() == 2 {
                drop(slot.take().expect("it was held"));
                assert_eq!(counts.live(), 2);
                assert!(!panics, "in Eq");
            }
        })));
        if panics {
            let message = panic_of(|| local.intern(Busy(Counted::new(1, &census))));
            assert_eq!(message, "in Eq");
            // The candidate had one more handle, which has gone.
            assert_eq!((census.live(), local.len(), values.len()), (0, 0, 0));
        } else {
            let value = local.intern(Busy(Counted::new(1, &census)));
            assert_eq!(
                (census.live(), local.len(), shared_count(&value)),
                (1, 1, 1)
            );
        }
        assert_eq!(calls.get(), 2);
        DO.set(None);
        assert_eq!(census.live(), 0);
    }
}

thread_local! {
    /// How many more times user code runs before it panics once.
    static FUSE: Cell<Option<usize>> = const { Cell::new(None) };
}

/// A value whose every method may panic once. It may own another one.
struct Touchy {
    counted: Counted,
    inner: Option<LocalInterned<Touchy>>,
}

fn spark() {
    match FUSE.get() {
        Some(0) => {
            FUSE.set(None);
            panic!("spark");
        }
        Some(left) => FUSE.set(Some(left - 1)),
        None => {}
    }
}

impl Touchy {
    fn new(key: u64, census: &Arc<Census>) -> Self {
        Self {
            counted: Counted::new(key, census),
            inner: None,
        }
    }
}

impl Clone for Touchy {
    fn clone(&self) -> Self {
        spark();
        let clone = Self {
            counted: self.counted.clone(),
            inner: self.inner.clone(),
        };
        spark();
        clone
    }
}

impl Hash for Touchy {
    fn hash<H: Hasher>(&self, state: &mut H) {
        spark();
        self.counted.hash(state);
    }
}

impl PartialEq for Touchy {
    fn eq(&self, other: &Self) -> bool {
        spark();
        self.counted == other.counted
    }
}

impl Eq for Touchy {}

impl Drop for Touchy {
    fn drop(&mut self) {
        self.counted.assert_alive();
        // A panic while another one unwinds would abort, as anywhere.
        if !thread::panicking() {
            spark();
        }
    }
}

/// Does something that may panic, once in a scenario.
fn attempt<R>(f: impl FnOnce() -> R) -> Option<R> {
    let armed = FUSE.get().is_some();
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(result) => Some(result),
        Err(payload) => {
            assert!(armed && payload.is::<&str>());
            None
        }
    }
}

/// One panic, at the first place where user code runs, the second, and so on.
#[test]
fn a_panic_anywhere_leaves_nothing_behind() {
    fn scenario<S: BuildHasher + Default>(census: &Arc<Census>, lingering: usize) {
        let values = Interner::<Touchy, S>::default();
        let local = LocalInterner::new(&values).lingering(lingering);
        let mut held = Vec::new();
        let new = |key| Touchy::new(key, census);
        for key in [1, 2, 1, 3] {
            held.extend(attempt(|| local.intern(new(key))));
        }
        let inner = held.first().cloned();
        let mut outer = new(4);
        outer.inner = inner;
        held.extend(attempt(|| local.intern(outer)));
        for key in [3, 5] {
            let key = new(key);
            held.extend(attempt(|| local.intern(&key)));
            held.extend(attempt(|| local.intern_with(&key, |key| key.clone())));
            held.extend(attempt(|| local.get(&key)).flatten());
            attempt(|| drop(key));
        }
        attempt(|| local.clear());
        for handle in held.drain(..) {
            attempt(|| drop(handle));
        }
        attempt(|| local.clear());
        assert_eq!((local.len(), values.len(), census.live()), (0, 0, 0));
        let fuse = FUSE.take();
        let again = [1, 2, 3].map(|key| local.intern(new(key)));
        assert_eq!((local.len(), values.len()), (3, 3));
        drop(again);
        FUSE.set(fuse);
        attempt(|| drop(local));
        assert_eq!((values.len(), census.live()), (0, 0));
    }
    for lingering in [0, 2] {
        for colliding in [false, true] {
            let mut places = 0;
            loop {
                let census = Census::new();
                FUSE.set(Some(places));
                if colliding {
                    scenario::<Colliding>(&census, lingering);
                } else {
                    scenario::<RandomState>(&census, lingering);
                }
                if FUSE.take().is_some() {
                    break;
                }
                places += 1;
            }
            assert!(places > 20, "{places} places");
        }
    }
}

// Values.

#[test]
fn values_that_stay_on_their_thread() {
    let names = Interner::<Rc<str>>::new();
    let local = LocalInterner::new(&names).lingering(1);
    let alpha = Rc::<str>::from("alpha");
    let handle = local.intern(alpha.clone());
    assert!(Rc::ptr_eq(&handle, &local.intern(Rc::from("alpha"))));
    assert_eq!(Rc::strong_count(&alpha), 2);
    drop((handle, local));
    assert_eq!(Rc::strong_count(&alpha), 1);
}

#[test]
fn values_that_borrow() {
    let text = String::from("to be or not to be");
    let words = Interner::<&str>::new();
    let handles: Vec<_>;
    {
        let local = LocalInterner::new(&words);
        handles = text.split(' ').map(|word| local.intern(word)).collect();
        assert_eq!(local.len(), 4);
        assert!(std::ptr::eq(*handles[4], *handles[0]));
    }
    assert_eq!(words.len(), 4);
    drop(words);
    assert!(handles.iter().map(|word| **word).eq(text.split(' ')));
}

/// A value that owns others.
struct Tree {
    number: usize,
    branches: Vec<LocalInterned<Tree>>,
    died: Rc<Cell<usize>>,
}

impl PartialEq for Tree {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number && self.branches == other.branches
    }
}

impl Eq for Tree {}

impl Hash for Tree {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.number.hash(state);
        self.branches.hash(state);
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        self.died.set(self.died.get() + 1);
    }
}

/// Chains through one front and through two of them, the front alive or not.
#[test]
fn a_chain_of_local_handles_dies_without_a_deep_stack() {
    let run = || {
        let length = scaled(300_000, 60);
        for (fronts, keep) in [(1, true), (1, false), (2, true)] {
            let died = Rc::new(Cell::new(0));
            let trees = Interner::new();
            let fronts: Vec<_> = (0..fronts).map(|_| LocalInterner::new(&trees)).collect();
            let mut top: Option<LocalInterned<Tree>> = None;
            for number in 0..length {
                let tree = Tree {
                    number,
                    branches: top.into_iter().collect(),
                    died: died.clone(),
                };
                top = Some(fronts[number % fronts.len()].intern(tree));
            }
            assert_eq!((trees.len(), died.get()), (length, 0));
            let fronts = keep.then_some(fronts);
            drop(top);
            assert_eq!((trees.len(), died.get()), (0, length));
            drop(fronts);
        }
        // A value that lingers, and what is below it.
        let died = Rc::new(Cell::new(0));
        let trees = Interner::new();
        let local = LocalInterner::new(&trees).lingering(10);
        let mut below = Vec::new();
        for number in 0..length {
            let tree = Tree {
                number,
                branches: below,
                died: died.clone(),
            };
            below = vec![local.intern(tree)];
        }
        drop(below);
        assert_eq!(died.get(), 0);
        local.clear();
        assert_eq!((trees.len(), local.len(), died.get()), (0, 0, length));
    };
    let small = thread::Builder::new().stack_size(256 << 10);
    small.spawn(run).unwrap().join().expect("the thread ends");
}

// Lies.

thread_local! { static LIES: RefCell<Rng> = const { RefCell::new(Rng(42)) } }

/// Hash and equality that change their mind all the time.
struct Liar(Counted);

impl Hash for Liar {
    fn hash<H: Hasher>(&self, state: &mut H) {
        LIES.with_borrow_mut(|rng| rng.below(8)).hash(state);
    }
}

impl PartialEq for Liar {
    fn eq(&self, other: &Self) -> bool {
        self.0.assert_alive();
        other.0.assert_alive();
        LIES.with_borrow_mut(|rng| rng.below(2) == 0)
    }
}

impl Eq for Liar {}

#[test]
fn random_hash_and_equality_lose_nothing() {
    for lingering in [0, 3] {
        let census = Census::new();
        let values = Interner::<Liar>::new();
        let local = LocalInterner::new(&values).lingering(lingering);
        let mut held = Vec::new();
        let mut rng = Rng(7);
        for _ in 0..scaled(5000, 50) {
            let key = rng.below(10) as u64;
            match rng.below(4) {
                0 | 1 => held.push(local.intern(Liar(Counted::new(key, &census)))),
                2 => held.extend(local.get(&Liar(Counted::new(key, &census)))),
                _ if !held.is_empty() => drop(held.swap_remove(rng.below(held.len()))),
                _ => {}
            }
            held.iter().for_each(|value| value.0.assert_alive());
            let instances: HashSet<_> = held.iter().cloned().collect();
            assert!(instances.iter().all(|value| shared_count(value) == 1));
            assert!(local.len() <= instances.len() + lingering);
        }
        drop((held, local));
        assert_eq!((values.len(), census.live()), (0, 0));
    }
}

/// Of keys with one hash only one is found without the interner. All are held once.
#[test]
fn keys_with_one_hash_are_held_once() {
    let values = Interner::<u64, Colliding>::default();
    let local = LocalInterner::new(&values);
    let mut held: Vec<_> = (0..50).map(|key| local.intern(key)).collect();
    for key in (0..50).rev() {
        assert_eq!(local.intern(key), held[key as usize]);
        assert_eq!(local.get(&key).unwrap(), held[key as usize]);
    }
    assert_eq!((local.len(), values.len()), (50, 50));
    assert!(held.iter().all(|value| shared_count(value) == 1));
    // The first one goes, then some in the middle.
    for place in [0, 20, 20, 46, 10] {
        held.remove(place);
        let again: Vec<_> = held.iter().map(|value| local.intern(**value)).collect();
        assert_eq!(again, held);
        assert!(held.iter().all(|value| shared_count(value) == 1));
    }
    drop(held);
    assert!(local.is_empty() && values.is_empty());
}

/// An `I` that leads to another interner each time: nothing is promised, and nothing goes wrong.
#[test]
fn a_pointer_that_changes_its_mind() {
    struct Fickle<'a>(&'a [Interner<Counted>; 2], Cell<usize>);
    impl std::ops::Deref for Fickle<'_> {
        type Target = Interner<Counted>;
        fn deref(&self) -> &Interner<Counted> {
            self.1.set(self.1.get() + 1);
            &self.0[self.1.get() / 3 % 2]
        }
    }
    let census = Census::new();
    let values = [Interner::new(), Interner::new()];
    let local = LocalInterner::new(Fickle(&values, Cell::new(0))).lingering(2);
    let held: Vec<_> = (0..100)
        .map(|turn| local.intern(Counted::new(turn % 7, &census)))
        .collect();
    for (turn, value) in held.iter().enumerate() {
        value.assert_alive();
        assert_eq!((value.key, shared_count(value)), (turn as u64 % 7, 1));
    }
    drop((local, held));
    assert_eq!((values[0].len(), values[1].len(), census.live()), (0, 0, 0));
}

// Many.

#[test]
fn many_keys_come_and_go() {
    let values = Interner::<u64>::new();
    let local = LocalInterner::new(&values);
    let many = scaled(20_000, 100) as u64;
    let mut held: Vec<_> = (0..many).map(|key| local.intern(key)).collect();
    assert!((0..many).all(|key| local.get(&key).unwrap() == held[key as usize]));
    assert!(held.iter().all(|value| shared_count(value) == 1));
    // Every other one goes, in an order of their own.
    let mut rng = Rng(11);
    for place in (0..held.len()).rev() {
        held.swap(place, rng.below(place + 1));
    }
    held.truncate(many as usize / 2);
    local.shrink_to_fit();
    assert_eq!((local.len(), values.len()), (held.len(), held.len()));
    let left: HashSet<u64> = held.iter().map(|value| **value).collect();
    assert!((0..many).all(|key| local.get(&key).is_some() == left.contains(&key)));
    drop(held);
    assert!(local.is_empty() && values.is_empty());
    local.shrink_to_fit();
    assert_eq!(*local.intern(7), 7);
}

/// What a front should hold.
#[derive(Default)]
struct Model {
    handles: HashMap<u64, usize>,
    lingering: VecDeque<u64>,
    limit: usize,
}

impl Model {
    fn holds(&self, key: u64) -> bool {
        self.handles.get(&key).is_some_and(|&handles| handles > 0) || self.lingering.contains(&key)
    }

    /// The key is looked up and found.
    fn take(&mut self, key: u64) {
        if !self.holds(key) && self.limit > 0 {
            self.lingering.push_back(key);
            if self.lingering.len() > self.limit {
                self.lingering.pop_front();
            }
        }
        *self.handles.entry(key).or_default() += 1;
    }
}

/// Random operations on fronts of one interner, against a model of the counts.
fn compare_with_a_model<S: BuildHasher + Default>(seed: u64) {
    let _seed = SeedOnFailure(seed);
    let mut rng = Rng(seed);
    let census = Census::new();
    let values = Interner::<Counted, S>::default();
    let mut models: Vec<Model> = [0, 1, 4]
        .map(|limit| Model {
            limit,
            ..Model::default()
        })
        .into();
    let fronts: Vec<_> = models
        .iter()
        .map(|model| LocalInterner::new(&values).lingering(model.limit))
        .collect();
    let mut held: Vec<(usize, LocalInterned<Counted>)> = Vec::new();
    let mut shared: Vec<Interned<Counted>> = Vec::new();
    for _ in 0..scaled(1000, 40) {
        let place = rng.below(fronts.len());
        let (front, model) = (&fronts[place], &mut models[place]);
        let key = rng.below(12) as u64;
        match rng.below(10) {
            0..=2 => {
                held.push((place, front.intern(Counted::new(key, &census))));
                model.take(key);
            }
            3 => {
                held.push((
                    place,
                    front.intern_with(&key, |&key| Counted::new(key, &census)),
                ));
                model.take(key);
            }
            4 => {
                if let Some(value) = front.get(&key) {
                    held.push((place, value));
                    models[place].take(key);
                } else {
                    assert!(models.iter().all(|model| !model.holds(key)));
                    assert!(shared.iter().all(|value| value.key != key));
                }
            }
            5 if !held.is_empty() && held.len() < 50 => {
                let (place, value) = &held[rng.below(held.len())];
                let (place, value) = (*place, value.clone());
                *models[place].handles.get_mut(&value.key).unwrap() += 1;
                held.push((place, value));
            }
            6 | 7 if !held.is_empty() => {
                let (place, value) = held.swap_remove(rng.below(held.len()));
                *models[place].handles.get_mut(&value.key).unwrap() -= 1;
            }
            8 if !held.is_empty() => {
                let (_, value) = &held[rng.below(held.len())];
                shared.push(LocalInterned::share(value));
                if shared.len() > 5 {
                    shared.swap_remove(rng.below(5));
                }
            }
            9 if rng.below(20) == 0 => {
                for (place, value) in held.drain(..) {
                    *models[place].handles.get_mut(&value.key).unwrap() -= 1;
                }
            }
            9 if rng.below(5) == 0 => {
                front.clear();
                model.lingering.clear();
            }
            _ => {}
        }
        for (front, model) in fronts.iter().zip(&models) {
            assert_eq!(front.len(), (0..12).filter(|&key| model.holds(key)).count());
        }
        for (_, value) in &held {
            value.assert_alive();
            let fronts = models.iter().filter(|model| model.holds(value.key)).count();
            let others = shared.iter().filter(|other| *other == value).count();
            assert_eq!(shared_count(value), fronts + others);
        }
        let live = (0..12).filter(|&key| {
            models.iter().any(|model| model.holds(key))
                || shared.iter().any(|value| value.key == key)
        });
        let live = live.count();
        assert_eq!((census.live(), values.len()), (live, live));
    }
    drop(fronts);
    drop((held, shared));
    assert_eq!((values.len(), census.live()), (0, 0));
}

#[test]
fn random_operations_agree_with_a_model() {
    let seed = seed();
    for turn in 0..scaled(3, 1) as u64 {
        compare_with_a_model::<RandomState>(seed + turn);
        compare_with_a_model::<Colliding>(seed + turn);
    }
}

/// Threads with a front each on the same few keys, which come and go, and pass shared handles on.
#[test]
fn threads_with_fronts_hold_each_key_once() {
    let seed = seed();
    let _seed = SeedOnFailure(seed);
    let census = Census::new();
    let values = Interner::<Counted>::new();
    let (threads, rounds) = (4, scaled(20, 2));
    let barrier = Barrier::new(threads);
    let exchange = std::sync::Mutex::new(Vec::new());
    let holding = AtomicUsize::new(0);
    thread::scope(|scope| {
        for thread in 0..threads {
            let (barrier, values, census, exchange, holding) =
                (&barrier, &values, &census, &exchange, &holding);
            scope.spawn(move || {
                let mut rng = Rng(seed ^ thread as u64);
                let front = LocalInterner::new(values).lingering(thread);
                let mut held: Vec<LocalInterned<Counted>> = Vec::new();
                for _ in 0..rounds {
                    for _ in 0..scaled(500, 20) {
                        let key = rng.below(6) as u64;
                        match rng.below(6) {
                            0 | 1 => held.push(front.intern(Counted::new(key, census))),
                            2 => held.extend(front.get(&key)),
                            3 => {
                                if let Some(value) = held.last() {
                                    exchange.lock().unwrap().push(LocalInterned::share(value));
                                }
                            }
                            4 => drop(exchange.lock().unwrap().pop()),
                            _ => held.truncate(rng.below(held.len() + 1)),
                        }
                        held.iter().for_each(|value| value.assert_alive());
                    }
                    // Everybody stops, and counts the first key.
                    let first = front.intern(Counted::new(0, census));
                    if barrier.wait().is_leader() {
                        exchange.lock().unwrap().clear();
                        holding.store(0, Ordering::SeqCst);
                    }
                    barrier.wait();
                    assert_eq!(shared_count(&first), threads);
                    let serial = first.serial;
                    barrier.wait();
                    holding.fetch_max(serial as usize, Ordering::SeqCst);
                    barrier.wait();
                    assert_eq!(
                        holding.load(Ordering::SeqCst),
                        serial as usize,
                        "one instance"
                    );
                    barrier.wait();
                }
            });
        }
    });
    exchange.lock().unwrap().clear();
    assert_eq!((values.len(), census.live()), (0, 0));
}
