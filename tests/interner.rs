//! `Interner` and its sessions, method by method.
//!
//! - Every type of value and every accepted form of it gives the one instance; forms are moved, or cloned
//!   on a miss only.
//! - `get`, `intern_with` and the calls with a hash: what they find, build and refuse. A wrong hash only
//!   keeps values apart.
//! - Capacity: reserved, refused if absurd, shrunk after a peak, also while others drop handles.
//! - `memory_usage` says what the documentation promises of sizes.
//! - An iteration meets each value that stays exactly once, whatever comes and goes, and ends for good.
//! - Sessions nest, mix, and are used from within `Eq`.
//! - A hook is replaced and removed at any time; every death meets one.

#![allow(
    clippy::needless_borrows_for_generic_args,
    clippy::useless_vec,
    reason = "each form of a value is tested"
)]

mod common;

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashSet};
use std::ffi::{CStr, CString, OsStr, OsString};
use std::fmt::Debug;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, LazyLock};
use std::thread;
use std::time::{Duration, Instant};

use common::{Census, Counted, panic_of, scaled};
use equivalent::Equivalent;
use hapax::{Internable, Interned, Interner, MemoryUsage, Pinned, RandomState};

// Forms.

type Form<T> = fn(&Interner<T>) -> Interned<T>;

/// Each form as the miss, and all of them as hits on that.
fn all_forms_give_one<T>(value: &T, forms: &[Form<T>])
where
    T: ?Sized + Internable + Hash + Eq + Debug,
{
    for (place, miss) in forms.iter().enumerate() {
        let interner = Interner::new();
        let first = miss(&interner);
        assert_eq!(*first, *value, "form {place}");
        for (place, hit) in forms.iter().enumerate() {
            assert_eq!(hit(&interner), first, "form {place}");
        }
        assert_eq!((interner.len(), Interned::ref_count(&first)), (1, 1));
        drop(first);
        assert!(interner.is_empty());
    }
}

#[test]
fn sized_values_are_interned_by_value_and_by_reference() {
    all_forms_give_one(&7_u64, &[|i| i.intern(7), |i| i.intern(&7)]);
    all_forms_give_one(
        &String::from("alpha"),
        &[
            |i| i.intern(String::from("alpha")),
            |i| i.intern(&String::from("alpha")),
        ],
    );
    all_forms_give_one(
        &(1_u8, 2_u128, Some('x')),
        &[
            |i| i.intern((1, 2, Some('x'))),
            |i| i.intern(&(1, 2, Some('x'))),
        ],
    );

    #[derive(Clone, Debug, PartialEq, Eq, Hash)]
    #[repr(align(128))]
    struct Aligned(u8);
    all_forms_give_one(
        &Aligned(3),
        &[|i| i.intern(Aligned(3)), |i| i.intern(&Aligned(3))],
    );
}

#[test]
fn strings_are_interned_in_all_their_forms() {
    for value in [
        "",
        "alpha",
        "ein längerer Text, mit Umläuten, der mehr als einen Block füllt",
    ] {
        thread_local! { static VALUE: Cell<&'static str> = const { Cell::new("") } }
        VALUE.set(value);
        all_forms_give_one(
            value,
            &[
                |i| i.intern(VALUE.get()),
                |i| i.intern(&VALUE.get()),
                |i| i.intern(String::from(VALUE.get())),
                |i| i.intern(&String::from(VALUE.get())),
                |i| i.intern(Box::<str>::from(VALUE.get())),
                |i| i.intern(Rc::<str>::from(VALUE.get())),
                |i| i.intern(Arc::<str>::from(VALUE.get())),
                |i| i.intern(Cow::Borrowed(VALUE.get())),
                |i| i.intern(Cow::<str>::Owned(VALUE.get().into())),
                |i| i.intern(&Cow::Borrowed(VALUE.get())),
                |i| i.intern(&Interner::<str>::new().intern(VALUE.get())),
            ],
        );
    }
}

#[test]
fn slices_are_interned_in_all_their_forms() {
    all_forms_give_one(
        &[1_u32, 2, 3][..],
        &[
            |i| i.intern(&[1, 2, 3][..]),
            |i| i.intern(&[1, 2, 3]),
            |i| i.intern(&vec![1, 2, 3]),
            |i| i.intern(vec![1, 2, 3]),
            |i| i.intern(vec![1, 2, 3].into_boxed_slice()),
            |i| i.intern([1, 2, 3]),
            |i| i.intern(&Interner::<[u32]>::new().intern([1, 2, 3])),
        ],
    );
    let strings = ["a", "b"].map(String::from);
    all_forms_give_one(
        &strings[..],
        &[
            |i| i.intern(&["a", "b"].map(String::from)),
            |i| i.intern(["a", "b"].map(String::from)),
            |i| i.intern(Vec::from(["a", "b"].map(String::from))),
        ],
    );
}

#[test]
fn paths_and_os_and_c_strings_are_interned_in_all_their_forms() {
    fn path() -> &'static Path {
        Path::new("/etc/hosts")
    }
    all_forms_give_one(
        path(),
        &[
            |i| i.intern(path()),
            |i| i.intern("/etc/hosts"),
            |i| i.intern(path().to_owned()),
            |i| i.intern(&PathBuf::from(path())),
            |i| i.intern(Box::<Path>::from(path())),
            |i| i.intern(Rc::<Path>::from(path())),
            |i| i.intern(Arc::<Path>::from(path())),
            |i| i.intern(Cow::Borrowed(path())),
            |i| i.intern(&Cow::<Path>::Owned(path().into())),
        ],
    );
    fn os() -> &'static OsStr {
        OsStr::new("hosts")
    }
    all_forms_give_one(
        os(),
        &[
            |i| i.intern(os()),
            |i| i.intern("hosts"),
            |i| i.intern(os().to_owned()),
            |i| i.intern(&OsString::from(os())),
            |i| i.intern(Box::<OsStr>::from(os())),
            |i| i.intern(Rc::<OsStr>::from(os())),
            |i| i.intern(Arc::<OsStr>::from(os())),
            |i| i.intern(Cow::Borrowed(os())),
            |i| i.intern(&Cow::<OsStr>::Owned(os().into())),
        ],
    );
    all_forms_give_one(
        c"hosts",
        &[
            |i| i.intern(c"hosts"),
            |i| i.intern(c"hosts".to_owned()),
            |i| i.intern(&CString::from(c"hosts")),
            |i| i.intern(Box::<CStr>::from(c"hosts")),
            |i| i.intern(Rc::<CStr>::from(c"hosts")),
            |i| i.intern(Arc::<CStr>::from(c"hosts")),
            |i| i.intern(Cow::Borrowed(c"hosts")),
            |i| i.intern(&Cow::<CStr>::Owned(c"hosts".into())),
        ],
    );
    // The end of the string is a part of it.
    let interned = Interner::<CStr>::new().intern(c"hosts");
    assert_eq!(interned.to_bytes_with_nul(), b"hosts\0");
}

/// The paths that Rust takes for equal are one, whatever their bytes; the first one stays.
#[test]
fn equal_paths_are_one_though_their_bytes_differ() {
    let paths = Interner::<Path>::new();
    let first = paths.intern(Path::new("a//b/."));
    assert_eq!(paths.intern(Path::new("a/b")), first);
    assert_eq!(first.as_os_str(), "a//b/.");
}

#[test]
fn what_is_moved_is_not_cloned_and_what_is_lent_is_cloned_on_a_miss_only() {
    let census = Census::new();
    let values = Interner::<Counted>::new();
    let lent = Counted::new(1, &census);
    let held = values.intern(&lent);
    assert_eq!((census.made(), census.died()), (2, 0));
    assert_ne!(held.serial, lent.serial);
    let hit = values.intern(&lent);
    assert_eq!((census.made(), census.died()), (2, 0));
    drop((held, hit));
    assert_eq!((census.made(), census.died()), (2, 1));
    let serial = lent.serial;
    let moved = values.intern(lent);
    assert_eq!((moved.serial, census.made()), (serial, 2));
    // A value that isn't needed dies at once.
    let hit = values.intern(Counted::new(1, &census));
    assert_eq!((hit.serial, census.live()), (serial, 1));
    drop((hit, moved));
    assert_eq!(census.live(), 0);

    let slices = Interner::<[Counted]>::new();
    let new = || [1, 2, 3].map(|key| Counted::new(key, &census));
    let forms: [&dyn Fn() -> Interned<[Counted]>; 3] = [
        &|| slices.intern(new()),
        &|| slices.intern(Vec::from(new())),
        &|| slices.intern(Vec::from(new()).into_boxed_slice()),
    ];
    for form in forms {
        let before = census.made();
        let held = form();
        assert_eq!((census.made() - before, census.live()), (3, 3));
        let hit = form();
        assert_eq!((census.made() - before, census.live()), (6, 3));
        assert_eq!(held, hit);
        let lent = new();
        let before = census.made();
        assert_eq!(slices.intern(&lent), held);
        assert_eq!(slices.intern(&lent[..]), held);
        assert_eq!(census.made(), before);
        drop((held, hit));
        assert_eq!(census.live(), 3);
        drop(slices.intern(&lent));
        assert_eq!((census.made(), census.live()), (before + 3, 3));
    }
    assert_eq!((slices.len(), census.live()), (0, 0));
}

// Looking up and building.

/// Equivalent to a pair, hashed alike.
#[derive(Hash)]
struct PairRef<'a>(&'a str, u32);

impl Equivalent<(String, u32)> for PairRef<'_> {
    fn equivalent(&self, pair: &(String, u32)) -> bool {
        self.0 == pair.0 && self.1 == pair.1
    }
}

#[test]
fn a_key_needs_only_be_equivalent() {
    let pairs = Interner::<(String, u32)>::new();
    assert_eq!(pairs.get(&PairRef("a", 1)), None);
    let built = Cell::new(0);
    let first = pairs.intern_with(&PairRef("a", 1), |key| {
        built.set(built.get() + 1);
        (key.0.to_owned(), key.1)
    });
    assert_eq!((*first).clone(), (String::from("a"), 1));
    let again = pairs.intern_with(&PairRef("a", 1), |_| -> (String, u32) { unreachable!() });
    assert_eq!((first == again, built.get(), pairs.len()), (true, 1, 1));
    assert_eq!(pairs.get(&PairRef("a", 1)).as_ref(), Some(&first));
    assert_eq!(pairs.get(&PairRef("a", 2)), None);
    let hash = pairs.hash_of(&PairRef("a", 1));
    assert_eq!(hash, Interned::hash_value(&first));
    assert_eq!(
        pairs.get_hashed(hash, &PairRef("a", 1)).as_ref(),
        Some(&first)
    );
    // What `Borrow` makes of an owned value is equivalent too.
    let names = Interner::<String>::new();
    let alpha = names.intern_with("alpha", |key| key.to_owned());
    assert_eq!(names.get("alpha"), Some(alpha));
}

/// Compares without regard to case, but is hashed as it is.
#[derive(Hash)]
struct Caseless<'a>(&'a str);

impl Equivalent<str> for Caseless<'_> {
    fn equivalent(&self, other: &str) -> bool {
        self.0.eq_ignore_ascii_case(other)
    }
}

#[test]
fn a_builder_whose_value_has_another_hash_changes_nothing() {
    let names = Interner::<str>::new();
    let hooks = Arc::new(AtomicUsize::new(0));
    let count = hooks.clone();
    names.on_drop(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
    });
    let alpha = names.intern("alpha");
    for pinned in [false, true] {
        let message = panic_of(|| match pinned {
            false => names.intern_with(&Caseless("BETA"), |_| "beta"),
            true => names.pin().intern_with(&Caseless("BETA"), |_| "beta"),
        });
        assert!(message.contains("not equivalent"), "{message}");
        assert_eq!((names.len(), names.iter().count()), (1, 1));
        assert_eq!((names.get("beta"), names.get("BETA")), (None, None));
    }
    // Its own hash is fine.
    let beta = names.intern_with(&Caseless("beta"), |_| String::from("beta"));
    assert_eq!(beta, *"beta");
    assert_eq!(hooks.load(Ordering::SeqCst), 0);
    drop((alpha, beta));
    assert_eq!((names.len(), hooks.load(Ordering::SeqCst)), (0, 2));
}

/// The builder interns what it was asked for itself: that instance is it, and its own value is dropped.
#[test]
fn a_builder_that_is_overtaken_gives_its_value_up() {
    let census = Census::new();
    let values = Interner::<Counted>::new();
    let hooks = Arc::new(AtomicUsize::new(0));
    let count = hooks.clone();
    values.on_drop(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
    });
    let mut faster = None;
    let got = values.intern_with(&1_u64, |_| {
        faster = Some(values.intern(Counted::new(1, &census)));
        Counted::new(1, &census)
    });
    assert_eq!(Some(&got), faster.as_ref());
    assert_eq!((census.made(), census.live(), values.len()), (2, 1, 1));
    assert_eq!(hooks.load(Ordering::SeqCst), 0);
    // It lets go of it at once: then its own value is the one.
    drop((got, faster));
    let got = values.intern_with(&1_u64, |_| {
        drop(values.intern(Counted::new(1, &census)));
        Counted::new(1, &census)
    });
    got.assert_alive();
    assert_eq!((census.live(), hooks.load(Ordering::SeqCst)), (1, 2));
}

#[test]
fn a_wrong_hash_keeps_equal_values_apart() {
    let names = Interner::<str>::new();
    let right = names.hash_of("alpha");
    let wrong = [right ^ 1, right ^ (1 << 63), !right, 0, u64::MAX];
    let first = names.intern("alpha");
    let mut apart: Vec<_> = wrong
        .iter()
        .map(|&hash| names.intern_hashed(hash, "alpha"))
        .collect();
    assert_eq!(names.len(), 1 + wrong.len());
    let instances: HashSet<_> = apart.iter().chain([&first]).cloned().collect();
    assert_eq!(instances.len(), 1 + wrong.len());
    drop(instances);
    for (&hash, value) in wrong.iter().zip(&apart) {
        assert_eq!(names.get_hashed(hash, "alpha").as_ref(), Some(value));
        assert_eq!(names.pin().intern_hashed(hash, "alpha"), *value);
        assert_eq!(
            (&**value, Interned::hash_value(value)),
            ("alpha", hash),
            "kept as it was given"
        );
    }
    assert_eq!(names.get("alpha"), Some(first.clone()));
    assert_eq!(names.get_hashed(right ^ 2, "alpha"), None);
    // The table grows around them.
    let growth: Vec<_> = (0..scaled(5000, 50))
        .map(|n| names.intern(n.to_string()))
        .collect();
    assert_eq!(names.get_hashed(wrong[0], "alpha"), Some(apart[0].clone()));
    drop(first);
    assert_eq!(names.get("alpha"), None);
    apart.reverse();
    drop(apart);
    assert_eq!(names.len(), growth.len());
    drop(growth);
    assert_eq!((names.len(), names.iter().count()), (0, 0));
}

// Capacity.

#[test]
fn nothing_is_reserved_before_it_is_asked_for() {
    let names = Interner::<str>::new();
    names.reserve(0);
    assert_eq!((names.capacity(), names.memory_usage().total()), (0, 0));
    assert_eq!(names.get("alpha"), None);
    assert_eq!((names.iter().count(), names.len()), (0, 0));
    names.clear_on_drop();
    names.flush();
    assert_eq!(names.memory_usage(), MemoryUsage::default());
    assert_eq!(Interner::<str>::with_capacity(0).capacity(), 0);
}

#[test]
fn reserving_counts_from_what_is_there() {
    let numbers = Interner::<u64>::new();
    let held: Vec<_> = (0..1000).map(|n| numbers.intern(n)).collect();
    numbers.reserve(1000);
    let capacity = numbers.capacity();
    assert!(capacity >= 2000, "{capacity}");
    // It is there already.
    numbers.reserve(1000);
    numbers.reserve(0);
    assert_eq!(numbers.capacity(), capacity);
    let more: Vec<_> = (1000..2000).map(|n| numbers.intern(n)).collect();
    assert_eq!(numbers.capacity(), capacity);
    for (n, value) in held.iter().chain(&more).enumerate() {
        assert_eq!(numbers.get(&(n as u64)).as_ref(), Some(value));
    }
}

#[test]
fn absurd_capacities_are_refused_with_a_message() {
    let numbers = Interner::<u64>::new();
    let mut held = Vec::new();
    for _ in 0..2 {
        for entries in [
            usize::MAX,
            usize::MAX - 1,
            isize::MAX as usize,
            usize::MAX >> 8,
        ] {
            for message in [
                panic_of(|| numbers.reserve(entries)),
                panic_of(|| Interner::<u64>::with_capacity(entries)),
                panic_of(|| {
                    let hasher = std::hash::RandomState::new();
                    Interner::<u64, _>::with_capacity_and_hasher(entries, hasher)
                }),
            ] {
                assert!(message.starts_with("capacity overflow"), "{message}");
            }
        }
        // It goes on as if nothing had been asked, also with entries to be added to the number.
        let seven = numbers.intern(7);
        assert_eq!(numbers.get(&7), Some(seven.clone()));
        held.push(seven);
    }
    assert!(numbers.capacity() < 1000);
}

#[test]
fn a_peak_is_given_back_and_everything_found_afterwards() {
    let mut numbers = Interner::<u64>::new();
    for round in 0..2 {
        let peak = scaled(100_000, 300);
        let mut held: Vec<_> = (0..peak as u64).map(|n| numbers.intern(n)).collect();
        let (capacity, usage) = (numbers.capacity(), numbers.memory_usage());
        // The capacity is the number of entries from which on it grows.
        assert!(capacity >= peak - peak / 10, "{capacity}");
        held.truncate(peak / 100);
        let begin = Instant::now();
        numbers.shrink_to_fit();
        // A linear one takes far less than a second; one that is quadratic minutes.
        if !cfg!(miri) {
            assert!(begin.elapsed() < Duration::from_secs(20));
        }
        assert!(numbers.capacity() < capacity / 8, "{}", numbers.capacity());
        assert!(numbers.capacity() >= held.len());
        assert!(numbers.memory_usage().table < usage.table);
        for (n, value) in held.iter().enumerate() {
            assert_eq!(numbers.get(&(n as u64)).as_ref(), Some(value), "{round}");
        }
        assert_eq!(numbers.get(&(peak as u64 - 1)), None);
        assert_eq!(numbers.iter().count(), held.len());
        // Again, with nothing left to be given back.
        let capacity = numbers.capacity();
        numbers.shrink_to_fit();
        assert_eq!(numbers.capacity(), capacity);
    }
    assert_eq!(numbers.len(), 0);
    numbers.shrink_to_fit();
    assert!(numbers.capacity() < 100);
}

/// Threads drop handles and upgrade weak ones while the table is grown and shrunk. They never see the
/// interner itself.
#[test]
fn shrinking_goes_on_while_others_drop_handles() {
    let census = Census::new();
    let mut numbers = Interner::<Counted>::new();
    for round in 0..scaled(20, 2) {
        let peak = scaled(6000, 60) as u64;
        let mut held: Vec<_> = (0..peak)
            .map(|n| Some(numbers.intern(Counted::new(n, &census))))
            .collect();
        let begin = Barrier::new(3);
        thread::scope(|scope| {
            for part in 1..3 {
                let (mine, weak): (Vec<_>, Vec<_>) = held
                    .iter_mut()
                    .skip(part)
                    .step_by(3)
                    .map(|value| {
                        let value = value.take().expect("each is taken once");
                        let weak = Interned::downgrade(&value);
                        (value, weak)
                    })
                    .unzip();
                let begin = &begin;
                scope.spawn(move || {
                    begin.wait();
                    for (value, weak) in mine.into_iter().zip(&weak) {
                        weak.upgrade().expect("it is held").assert_alive();
                        drop(value);
                        assert!(weak.upgrade().is_none());
                    }
                });
            }
            begin.wait();
            loop {
                numbers.shrink_to_fit();
                if numbers.len() as u64 <= peak / 3 {
                    break;
                }
                thread::yield_now();
            }
        });
        let held: Vec<_> = held.into_iter().flatten().collect();
        assert_eq!((numbers.len(), census.live()), (held.len(), held.len()));
        for value in &held {
            assert_eq!(numbers.get(&value.key).as_ref(), Some(value), "{round}");
        }
        assert_eq!(numbers.iter().count(), held.len());
    }
    assert_eq!((numbers.len(), census.live()), (0, 0));
}

#[test]
fn flushing_is_possible_anywhere() {
    let numbers = Arc::new(Interner::<u64>::new());
    let flushed = Arc::new(AtomicUsize::new(0));
    let (weak, count) = (Arc::downgrade(&numbers), flushed.clone());
    numbers.on_drop(move |_| {
        weak.upgrade().expect("the test holds it").flush();
        count.fetch_add(1, Ordering::SeqCst);
    });
    let keep = numbers.intern(u64::MAX);
    let session = numbers.pin();
    for number in 0..scaled(300, 20) as u64 {
        drop(session.intern(number));
        if number % 10 == 0 {
            numbers.flush();
            session.interner().flush();
        }
    }
    drop(session);
    numbers.flush();
    assert_eq!(flushed.load(Ordering::SeqCst), scaled(300, 20));
    assert_eq!((numbers.len(), numbers.get(&u64::MAX)), (1, Some(keep)));
}

#[test]
#[cfg(target_pointer_width = "64")]
fn memory_is_what_the_documentation_says() {
    let numbers = Interner::<u64>::new();
    let count = scaled(50_000, 100);
    let held: Vec<_> = (0..count as u64).map(|n| numbers.intern(n)).collect();
    let usage = numbers.memory_usage();
    assert_eq!(
        (usage.entries, usage.values, usage.nodes),
        (count, 8 * count, (32 + 8) * count)
    );
    assert_eq!(usage.total(), usage.nodes + usage.table);
    if !cfg!(miri) {
        let share = usage.table as f64 / count as f64;
        assert!((3.9..16.5).contains(&share), "{share} bytes for each");
    }
    drop(held);
    let usage = numbers.memory_usage();
    assert_eq!((usage.entries, usage.values, usage.nodes), (0, 0, 0));

    let names = Interner::<str>::new();
    let _held = ["", "a", "alpha"].map(|name| names.intern(name));
    let usage = names.memory_usage();
    assert_eq!(
        (usage.entries, usage.values, usage.nodes),
        (3, 6, 3 * 36 + 6)
    );
    let words = Interner::<[u32]>::new();
    let _held = words.intern([1, 2, 3]);
    assert_eq!(words.memory_usage().values, 12);
}

// Iterations.

#[test]
fn an_iteration_yields_each_value_once() {
    let numbers = Interner::<u64>::new();
    for count in [0, 1, 2, 3, 10, scaled(5000, 60)] {
        let held: Vec<_> = (0..count as u64).map(|n| numbers.intern(n)).collect();
        let mut seen: Vec<_> = numbers.iter().map(|value| *value).collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..count as u64).collect::<Vec<_>>());
        // What it yields are handles as all others.
        let yielded: Vec<_> = (&numbers).into_iter().collect();
        drop(held);
        assert_eq!((numbers.len(), yielded.len()), (count, count));
        assert!(yielded.iter().all(|value| Interned::ref_count(value) == 1));
        drop(yielded);
        assert_eq!(numbers.len(), 0);
    }
}

/// Would catch: an iteration over an interner that has no table yet, which finds one later.
#[test]
fn an_iteration_that_has_ended_stays_at_its_end() {
    for before in [0, 1, 5] {
        let numbers = Interner::<u64>::new();
        let held: Vec<_> = (0..before).map(|n| numbers.intern(n)).collect();
        let mut iteration = numbers.iter();
        assert_eq!(iteration.by_ref().count() as u64, before);
        let later: Vec<_> = (10..30).map(|n| numbers.intern(n)).collect();
        assert_eq!(iteration.next(), None, "{before} entries before");
        assert_eq!(iteration.next(), None);
        drop((held, later));
        // It holds nothing either.
        assert_eq!(numbers.len(), 0);
        assert_eq!(format!("{iteration:?}"), "Iter { .. }");
    }
}

#[test]
fn what_dies_during_an_iteration_is_yielded_no_more() {
    let census = Census::new();
    let numbers = Interner::<Counted>::new();
    let count = scaled(1000, 30) as u64;
    let mut held: BTreeMap<_, _> = (0..count)
        .map(|n| (n, numbers.intern(Counted::new(n, &census))))
        .collect();
    let mut seen = HashSet::new();
    for value in &numbers {
        value.assert_alive();
        assert!(seen.insert(value.key), "{} twice", value.key);
        assert!(held.contains_key(&value.key), "{} is dead", value.key);
        // It goes itself, and one that may be before or behind it.
        held.remove(&value.key);
        held.pop_first();
    }
    assert!(held.is_empty(), "each was yielded or died before");
    assert!(seen.len() as u64 >= count / 2);
    assert_eq!((numbers.len(), census.live()), (0, 0));

    // An iteration that is given up holds nothing.
    drop(numbers.intern(Counted::new(1, &census)));
    let value = numbers.intern(Counted::new(2, &census));
    let mut iteration = numbers.iter();
    assert_eq!(iteration.next(), Some(value.clone()));
    drop((value, iteration));
    assert_eq!(census.live(), 0);
}

#[test]
fn what_comes_during_an_iteration_disturbs_nothing() {
    let numbers = Interner::<u64>::new();
    let count = scaled(300, 20) as u64;
    let held: Vec<_> = (0..count).map(|n| numbers.intern(n)).collect();
    let mut new = Vec::new();
    let mut seen = BTreeMap::<u64, usize>::new();
    for value in numbers.iter() {
        *seen.entry(*value).or_default() += 1;
        // The table grows several times over.
        if new.len() < 40 * held.len() {
            let next = count + new.len() as u64;
            new.extend((next..next + 40).map(|n| numbers.intern(n)));
        }
    }
    for n in 0..count {
        assert_eq!(seen.get(&n), Some(&1), "{n}");
    }
    assert!(seen.values().all(|&times| times == 1));
    assert_eq!(numbers.iter().count(), held.len() + new.len());
}

/// Others intern and drop all the time; what stays is met exactly once by each iteration. Most values
/// have the hash of another one.
#[test]
fn an_iteration_among_threads_meets_once_what_stays() {
    let numbers = Interner::<u64, BuildHasherDefault<Few>>::default();
    let stay: Vec<_> = (0..scaled(500, 20) as u64)
        .map(|n| numbers.intern(n))
        .collect();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for thread in 1..3 {
            let (numbers, stop) = (&numbers, &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let base = thread * 1_000_000;
                    let come: Vec<_> = (base..base + 100).map(|n| numbers.intern(n)).collect();
                    drop(come);
                }
            });
        }
        for _ in 0..scaled(60, 2) {
            let mut seen: Vec<_> = numbers.iter().filter(|value| **value < 1_000_000).collect();
            seen.sort();
            assert!(seen == stay, "{} of {}", seen.len(), stay.len());
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(numbers.len(), stay.len());
}

/// So many hashes, and no more.
#[derive(Default)]
struct Few(u64);

impl Hasher for Few {
    fn finish(&self) -> u64 {
        self.0 % 37
    }
    fn write(&mut self, _: &[u8]) {
        unreachable!("only integers are hashed");
    }
    fn write_u64(&mut self, word: u64) {
        self.0 = word;
    }
}

// Traits.

#[test]
fn collections_traits_do_what_they_say() {
    let mut names = Interner::<str>::new();
    let seen = Arc::new(AtomicUsize::new(0));
    let count = seen.clone();
    names.on_drop(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
    });
    let alpha = names.intern("alpha");
    names.extend(["alpha", "beta", "beta"]);
    names.extend(vec![String::from("gamma"), String::from("alpha")]);
    // Nobody held the others.
    assert_eq!((names.len(), seen.load(Ordering::SeqCst)), (1, 3));
    assert_eq!(format!("{names:?}"), "{\"alpha\"}");
    drop(alpha);
    assert_eq!(format!("{names:?}"), "{}");

    let names: Interner<str> = ["alpha"; 500].into_iter().collect();
    assert!(names.is_empty() && names.capacity() >= 500);
    let hashed: Interner<u64, std::hash::RandomState> = (0..100_u64).collect();
    assert!(hashed.is_empty() && hashed.capacity() >= 100);
    let none: Interner<u64> = std::iter::empty::<u64>().collect();
    assert_eq!(none.memory_usage().total(), 0);

    let default = Interner::<u64, BuildHasherDefault<Few>>::default();
    assert_eq!(default.hash_of(&40_u64), 3);
    assert_eq!(*Interner::<str>::default().hasher(), RandomState);
    assert_eq!(format!("{:?}", default.pin()), "Pinned { .. }");
}

// Sessions.

#[test]
fn sessions_do_what_the_interner_does() {
    let names = Interner::<str>::new();
    let outer = names.pin();
    let alpha = outer.intern("alpha");
    let inner = names.pin();
    assert_eq!(inner.get("alpha").as_ref(), Some(&alpha));
    assert_eq!(inner.intern(String::from("alpha")), alpha);
    assert_eq!(
        outer.intern_with("alpha", |_| -> &str { unreachable!() }),
        alpha
    );
    let hash = names.hash_of("alpha");
    assert_eq!(outer.get_hashed(hash, "alpha").as_ref(), Some(&alpha));
    assert_eq!(inner.intern_hashed(hash, "alpha"), alpha);
    // In the order in which they began, and not the other way round.
    drop(outer);
    assert_eq!(inner.get("beta"), None);
    drop(alpha);
    assert_eq!(inner.get("alpha"), None);
    assert!(inner.interner().is_empty());
}

#[test]
fn sessions_of_two_interners_are_mixed() {
    let names = Interner::<str>::new();
    let numbers = Interner::<u64, _>::with_hasher(std::hash::RandomState::new());
    let (some, others) = (names.pin(), numbers.pin());
    let mut held = Vec::new();
    for n in 0..scaled(2000, 30) as u64 {
        held.push((some.intern(n.to_string()), others.intern(n)));
        drop((some.intern("come and go"), others.intern(n + 1_000_000)));
    }
    for (n, (name, number)) in held.iter().enumerate() {
        assert_eq!(some.get(&n.to_string()[..]).as_ref(), Some(name));
        assert_eq!(others.get(&(n as u64)).as_ref(), Some(number));
    }
    assert_eq!((names.len(), numbers.len()), (held.len(), held.len()));
    drop(held);
    assert_eq!((names.len(), numbers.len()), (0, 0));
}

#[test]
fn threads_with_sessions_get_one_instance() {
    let census = Census::new();
    let numbers = Interner::<Counted>::new();
    let barrier = Barrier::new(3);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let session = numbers.pin();
                barrier.wait();
                for turn in 0..scaled(5000, 30) as u64 {
                    let one = session.intern(Counted::new(turn % 5, &census));
                    let two = session.intern(Counted::new(turn % 5, &census));
                    assert_eq!(one, two);
                    one.assert_alive();
                }
            });
        }
    });
    assert_eq!((numbers.len(), census.live()), (0, 0));
}

static TERMS: Interner<Term> = Interner::new();

thread_local! {
    static SESSION: RefCell<Option<Pinned<'static, Term>>> = const { RefCell::new(None) };
    static WITHIN: Cell<usize> = const { Cell::new(0) };
}

/// Hash and equality of an outer term use the interner that is at work, by itself and by a session.
#[derive(Debug)]
enum Term {
    Leaf(u32),
    Outer(u32),
}

impl Term {
    fn number(&self) -> u32 {
        match self {
            Self::Leaf(n) | Self::Outer(n) => *n,
        }
    }

    /// Interns a leaf in all ways there are, and lets go of most of them.
    fn meddle(&self) {
        let Self::Outer(n) = self else { return };
        WITHIN.set(WITHIN.get() + 1);
        let direct = TERMS.intern(Self::Leaf(*n));
        let pinned = TERMS.pin();
        assert_eq!(pinned.intern(Self::Leaf(*n)), direct);
        SESSION.with_borrow(|session| {
            if let Some(session) = session {
                assert_eq!(session.intern(Self::Leaf(*n)), direct);
                drop(session.intern(Self::Leaf(n + 1000)));
            }
        });
        drop(direct);
        drop(TERMS.intern(Self::Leaf(n + 2000)));
    }
}

impl PartialEq for Term {
    fn eq(&self, other: &Self) -> bool {
        self.meddle();
        matches!(
            (self, other),
            (Self::Leaf(_), Self::Leaf(_)) | (Self::Outer(_), Self::Outer(_))
        ) && self.number() == other.number()
    }
}

impl Eq for Term {}

impl Hash for Term {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.meddle();
        // Few hashes, so that leaves and outer terms are compared.
        (self.number() % 7).hash(state);
    }
}

#[test]
fn hash_and_equality_intern_where_they_are_called_from() {
    thread::scope(|scope| {
        for pinned in [false, true] {
            scope.spawn(move || {
                if pinned {
                    SESSION.set(Some(TERMS.pin()));
                }
                let intern = |n| {
                    SESSION.with_borrow(|session| match session {
                        Some(session) => session.intern(Term::Outer(n)),
                        None => TERMS.intern(Term::Outer(n)),
                    })
                };
                let count = scaled(60, 8) as u32;
                let held: Vec<_> = (0..count).map(intern).collect();
                for (n, value) in held.iter().enumerate() {
                    assert_eq!(TERMS.get(&Term::Outer(n as u32)).as_ref(), Some(value));
                    assert_eq!(intern(n as u32), *value);
                }
                assert!(WITHIN.get() > held.len());
                // The session goes with the thread.
            });
        }
    });
    assert_eq!(TERMS.len(), 0);
}

// Hooks.

/// A hook is replaced and counts; one of them for each death.
#[test]
fn every_death_meets_one_of_the_hooks_that_are_replaced() {
    let numbers = Interner::<u64>::new();
    let calls = Arc::new(AtomicUsize::new(0));
    let sum = Arc::new(AtomicUsize::new(0));
    let set = |turn: usize| {
        let (calls, sum) = (calls.clone(), sum.clone());
        numbers.on_drop(move |&number| {
            calls.fetch_add(1, Ordering::SeqCst);
            sum.fetch_add(number as usize, Ordering::SeqCst);
            std::hint::black_box(turn);
        });
    };
    // Before there is anything.
    set(0);
    let turns = scaled(5000, 30);
    let done = AtomicUsize::new(0);
    thread::scope(|scope| {
        for thread in 0..2 {
            let (numbers, done) = (&numbers, &done);
            scope.spawn(move || {
                for turn in 0..turns {
                    drop(numbers.intern((thread * turns + turn) as u64));
                }
                done.fetch_add(1, Ordering::SeqCst);
            });
        }
        let mut turn = 1;
        while done.load(Ordering::SeqCst) < 2 {
            set(turn);
            turn += 1;
        }
    });
    let deaths = 2 * turns;
    assert_eq!(calls.load(Ordering::SeqCst), deaths);
    assert_eq!(sum.load(Ordering::SeqCst), deaths * (deaths - 1) / 2);
    numbers.clear_on_drop();
    // All that was replaced is gone.
    assert_eq!(Arc::strong_count(&calls), 1);
    drop(numbers.intern(1));
    assert_eq!(calls.load(Ordering::SeqCst), deaths);
}

#[test]
fn a_hook_that_is_removed_and_set_among_threads_runs_at_most_once_for_a_death() {
    let census = Census::new();
    let numbers = Interner::<Counted>::new();
    let calls = Arc::new(AtomicUsize::new(0));
    let turns = scaled(5000, 30);
    let done = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for turn in 0..turns {
                    drop(numbers.intern(Counted::new(turn as u64, &census)));
                }
                done.fetch_add(1, Ordering::SeqCst);
            });
        }
        while done.load(Ordering::SeqCst) < 2 {
            let calls = calls.clone();
            numbers.on_drop(move |value| {
                value.assert_alive();
                calls.fetch_add(1, Ordering::SeqCst);
            });
            numbers.clear_on_drop();
        }
    });
    assert!(calls.load(Ordering::SeqCst) <= 2 * turns);
    assert_eq!((Arc::strong_count(&calls), census.live()), (1, 0));
    let before = calls.load(Ordering::SeqCst);
    drop(numbers.intern(Counted::new(1, &census)));
    assert_eq!(calls.load(Ordering::SeqCst), before);
}

#[test]
fn a_hook_replaces_itself() {
    let numbers = Arc::new(Interner::<u64>::new());
    let events = Arc::new(std::sync::Mutex::new(Vec::new()));
    let (weak, first) = (Arc::downgrade(&numbers), events.clone());
    numbers.on_drop(move |&number| {
        first.lock().unwrap().push(("first", number));
        let second = first.clone();
        let numbers = weak.upgrade().expect("the test holds it");
        numbers.on_drop(move |&number| second.lock().unwrap().push(("second", number)));
        // Meets the new one, from within the old one.
        drop(numbers.intern(2));
    });
    drop(numbers.intern(1));
    drop(numbers.intern(3));
    assert_eq!(
        *events.lock().unwrap(),
        [("first", 1), ("second", 2), ("second", 3)]
    );
    numbers.clear_on_drop();
    assert_eq!(Arc::strong_count(&events), 1);
}

#[test]
fn a_hook_knows_nothing_of_hits_and_of_what_outlives_the_interner() {
    let calls = Arc::new(AtomicUsize::new(0));
    let names = Interner::<String>::new();
    let count = calls.clone();
    names.on_drop(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
    });
    let alpha = names.intern(String::from("alpha"));
    drop(names.intern(String::from("alpha")));
    drop(names.intern(&String::from("alpha")));
    drop(names.intern_with("alpha", |_| -> String { unreachable!() }));
    assert_eq!(calls.load(Ordering::SeqCst), 0);
    drop(names);
    // The hook went with the interner.
    assert_eq!(Arc::strong_count(&calls), 1);
    drop(alpha);
    assert_eq!(calls.load(Ordering::SeqCst), 0);
}

// Hashers.

/// All that differs is in 32 bits: the low ones, the high ones, or both alike.
#[derive(Clone, Default)]
struct Narrow<const SHIFT: u32>;

impl<const SHIFT: u32> BuildHasher for Narrow<SHIFT> {
    type Hasher = NarrowHasher<SHIFT>;
    fn build_hasher(&self) -> NarrowHasher<SHIFT> {
        NarrowHasher(0x811c_9dc5)
    }
}

/// FNV-1a.
struct NarrowHasher<const SHIFT: u32>(u32);

impl<const SHIFT: u32> Hasher for NarrowHasher<SHIFT> {
    fn finish(&self) -> u64 {
        u64::from(self.0) << SHIFT
    }
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        }
    }
}

#[test]
fn other_hashers_work() {
    fn works<S: BuildHasher>(names: &Interner<str, S>) {
        let count = scaled(5000, 40);
        let held: Vec<_> = (0..count).map(|n| names.intern(n.to_string())).collect();
        assert_eq!(names.len(), count);
        for (n, name) in held.iter().enumerate() {
            assert_eq!(names.get(&n.to_string()[..]).as_ref(), Some(name));
            assert_eq!(Interned::hash_value(name), names.hasher().hash_one(&**name));
        }
        assert_eq!(names.get("none"), None);
        drop(held);
        assert_eq!(names.len(), 0);
    }
    works(&Interner::with_hasher(Narrow::<0>));
    works(&Interner::with_hasher(Narrow::<32>));
    works(&Interner::with_hasher(std::hash::RandomState::new()));
    works(&Interner::with_capacity_and_hasher(
        10,
        std::hash::RandomState::new(),
    ));
    // A hasher that is no constant is in a `static` all the same.
    static NAMES: LazyLock<Interner<str, std::hash::RandomState>> =
        LazyLock::new(Interner::default);
    works(&NAMES);
    static NARROW: Interner<str, Narrow<0>> = Interner::with_hasher(Narrow);
    works(&NARROW);
}

// Places.

#[test]
fn interners_live_anywhere() {
    static NUMBERS: Interner<u64> = Interner::new();
    let local = Interner::new();
    let shared = Arc::new(Interner::new());
    let boxed: Box<[Interner<u64>]> = (0..3).map(|_| Interner::new()).collect();
    let everywhere = || [&NUMBERS, &local, &*shared].into_iter().chain(boxed.iter());
    let held: Vec<_> = everywhere().map(|interner| interner.intern(7)).collect();
    for (place, interner) in everywhere().enumerate() {
        for (other, value) in held.iter().enumerate() {
            // They know nothing of each other.
            assert_eq!(interner.get(&7) == Some(value.clone()), place == other);
        }
    }
    // A local one is moved while it is in use.
    let mut moved = vec![local];
    let local = moved.pop().expect("it was pushed");
    assert_eq!(local.get(&7).as_ref(), Some(&held[1]));
    let clone = shared.clone();
    let elsewhere = thread::spawn(move || clone.intern(7)).join().unwrap();
    assert_eq!(elsewhere, held[2]);
    drop(held);
    assert_eq!((NUMBERS.len(), local.len(), shared.len()), (0, 0, 1));
}

#[test]
fn very_many_entries_come_and_go() {
    let count = scaled(300_000, 400);
    let half = count as u64 / 2;
    let numbers = Interner::<u64>::new();
    let (low, high) = thread::scope(|scope| {
        let fill = |range: std::ops::Range<u64>| {
            let numbers = &numbers;
            scope.spawn(move || {
                let session = numbers.pin();
                range.map(|n| session.intern(n)).collect::<Vec<_>>()
            })
        };
        let (low, high) = (fill(0..half), fill(half..count as u64));
        (low.join().unwrap(), high.join().unwrap())
    });
    assert_eq!(numbers.len(), count);
    for (n, value) in low.iter().chain(&high).enumerate().step_by(7) {
        assert_eq!(**value, n as u64);
        assert_eq!(numbers.get(&(n as u64)).as_ref(), Some(value));
    }
    thread::scope(|scope| {
        scope.spawn(|| drop(low));
        scope.spawn(|| drop(high));
    });
    assert_eq!((numbers.len(), numbers.iter().count()), (0, 0));
}
