//! Handles, strong and weak, of interners; and of maps where `map.rs` doesn't look.
//!
//! - One pointer wide, for every type of value, and so is `Option` of them.
//! - Equality and hash go by pointer, order by value and then by address.
//! - They are shown and compared as their values.
//! - A handle that was given away as a pointer comes back, for every type of value.
//! - `try_unwrap` moves the value out of the only handle: weak handles die, callbacks run, the hook doesn't.
//! - Weak handles belong to one instance, and outlive it and its interner.
//! - Callbacks run once, the most recent first, unless they were cancelled before, also by one another.
//! - `Send`, `Sync`, `UnwindSafe` and variance of every public type.

mod common;

use std::borrow::Cow;
use std::cell::{Cell, RefCell, UnsafeCell};
use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::error::Error;
use std::ffi::{CStr, CString, OsStr, OsString};
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering as Memory};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use common::{Census, Counted, panic_of, scaled};
use hapax::{
    ById, Cached, InitError, Intern, Internable, Interned, Interner, LocalInterned, LocalInterner,
    MapIter, MemoryUsage, Pinned, RandomState, WeakCached, WeakInterned, WeakMap,
};

// Width.

#[test]
fn a_handle_is_one_pointer_wide() {
    #[repr(align(256))]
    struct Aligned;

    fn check<H>() {
        assert_eq!(size_of::<H>(), size_of::<*const ()>());
        assert_eq!(size_of::<Option<H>>(), size_of::<*const ()>());
        assert_eq!(align_of::<H>(), align_of::<*const ()>());
    }
    check::<Interned<u8>>();
    check::<Interned<()>>();
    check::<Interned<[u64; 100]>>();
    check::<Interned<Aligned>>();
    check::<Interned<str>>();
    check::<Interned<[u8]>>();
    check::<Interned<[Aligned]>>();
    check::<Interned<Path>>();
    check::<Interned<OsStr>>();
    check::<Interned<CStr>>();
    check::<Interned<Box<dyn Error>>>();
    check::<LocalInterned<str>>();
    check::<LocalInterned<Aligned>>();
    check::<Cached<u8, u8>>();
    check::<Cached<(), ()>>();
    check::<Cached<String, Aligned>>();
    check::<Cached<&str, Box<dyn Error>>>();
}

// Equality, hash, order.

#[test]
fn equality_and_hash_go_by_pointer() {
    let (here, there) = (Interner::<str>::new(), Interner::<str>::new());
    let (a, b, other) = (here.intern("a"), here.intern("b"), there.intern("a"));
    assert_eq!(a, a.clone());
    assert_ne!(a, b);
    assert_ne!(a, other, "equal, but of another interner");
    assert!(!Interned::ptr_eq(&a, &other));
    let hasher = RandomState;
    assert_eq!(hasher.hash_one(&a), hasher.hash_one(a.clone()));
    assert_ne!(hasher.hash_one(&a), hasher.hash_one(&other));
    assert_ne!(hasher.hash_one(&a), hasher.hash_one("a"));
    let mut map = HashMap::from([(a.clone(), 1), (other.clone(), 2)]);
    map.insert(b.clone(), 3);
    assert_eq!((map[&a], map[&other], map[&b]), (1, 2, 3));
    assert_eq!(map.get(&here.get("b").unwrap()), Some(&3));
    assert_eq!(HashSet::from([a.clone(), a.clone(), a]).len(), 1);

    /// Nobody may compare or hash it once it is interned.
    #[derive(Debug)]
    struct Shy<'a>(&'a Cell<bool>);
    impl PartialEq for Shy<'_> {
        fn eq(&self, _: &Self) -> bool {
            assert!(!self.0.get(), "compared by value");
            true
        }
    }
    impl Eq for Shy<'_> {}
    impl Hash for Shy<'_> {
        fn hash<H: std::hash::Hasher>(&self, _: &mut H) {
            assert!(!self.0.get(), "hashed by value");
        }
    }
    let interned = Cell::new(false);
    let values = Interner::new();
    let value = values.intern(Shy(&interned));
    interned.set(true);
    assert_eq!(value, value.clone());
    hasher.hash_one(&value);
}

#[test]
fn order_goes_by_value_and_then_by_address() {
    let (here, there) = (Interner::<str>::new(), Interner::<str>::new());
    let words = ["b", "", "c", "a", "ab"];
    let mut handles: Vec<_> = words.map(|word| here.intern(word)).into();
    handles.sort();
    assert!(handles.iter().eq(["", "a", "ab", "b", "c"]));

    let (mine, other) = (here.intern("a"), there.intern("a"));
    assert_eq!(mine.cmp(&mine.clone()), Ordering::Equal);
    let order = mine.cmp(&other);
    assert_ne!(order, Ordering::Equal, "they are not equal either");
    assert_eq!(other.cmp(&mine), order.reverse());
    assert_eq!(mine.partial_cmp(&other), Some(order));
    let (low, high) = (here.intern(""), here.intern("b"));
    // Values first, whatever the address.
    for word in [&mine, &other] {
        assert!(low < *word && *word < high);
    }
    let mut all: Vec<_> = handles.clone();
    all.extend(words.map(|word| there.intern(word)));
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 10);
    let largest = all.iter().max().unwrap();
    assert_eq!(*largest, *"c");
}

// Shown and compared.

#[derive(Debug, PartialEq, Eq, Hash)]
struct Fault(Option<fmt::Error>);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("a fault")
    }
}

impl Error for Fault {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.as_ref().map(|cause| cause as _)
    }
}

#[test]
fn handles_are_shown_as_their_values() {
    let name = Interner::<str>::new().intern("a\"b");
    assert_eq!(
        format!("{name}|{name:?}|{name:>5}|{name:.1}"),
        "a\"b|\"a\\\"b\"|  a\"b|a"
    );
    let bytes = Interner::<[u8]>::new().intern([1, 20]);
    assert_eq!(format!("{bytes:?} {bytes:02x?}"), "[1, 20] [01, 14]");
    assert_eq!(format!("{bytes:#?}"), "[\n    1,\n    20,\n]");
    let path = Interner::<Path>::new().intern(Path::new("/a"));
    assert_eq!(format!("{path:?} {}", path.display()), "\"/a\" /a");
    assert_eq!(
        format!("{:?}", Interner::<CStr>::new().intern(c"x")),
        "\"x\""
    );
    assert_eq!(
        format!("{name:p}"),
        format!("{:p}", Interned::as_ptr(&name).cast::<u8>())
    );
    let pi = Interner::<u64>::new().intern(314);
    assert_eq!(format!("{pi:>6}{pi:?}"), "   314314");
    assert_eq!(format!("{pi:p}"), format!("{:p}", &raw const *pi));

    let fault = Interner::new().intern(Fault(Some(fmt::Error)));
    let error: &dyn Error = &fault;
    assert_eq!(format!("{error:>8}"), " a fault");
    assert!(error.source().is_some_and(|cause| cause.is::<fmt::Error>()));
    let fault: Box<dyn Error> = Box::new(Interner::new().intern(Fault(None)));
    assert!(fault.source().is_none());

    let weak = Interned::downgrade(&name);
    assert_eq!(format!("{weak:?}"), "(WeakInterned)");
    let text: &str = name.as_ref();
    assert_eq!(text, "a\"b");
    assert_eq!(String::from(name.clone()), text);
    assert_eq!(*Arc::<str>::from(name.clone()), *text);
}

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

#[test]
fn handles_are_compared_with_values() {
    compares!(
        Interner::<str>::new().intern("a"),
        *"a", *"b";
        "a", "b";
        String::from("a"), String::from("b");
        Box::<str>::from("a"), Box::<str>::from("ab");
        Arc::<str>::from("a"), Arc::<str>::from("");
        Cow::Borrowed("a"), Cow::Borrowed("A");
        Cow::<str>::Owned("a".into()), Cow::<str>::Owned("b".into());
    );
    compares!(
        Interner::<Path>::new().intern(Path::new("a/b")),
        *Path::new("a/b"), *Path::new("a");
        Path::new("a//b"), Path::new("/a/b");
        PathBuf::from("a/b/"), PathBuf::from("b");
    );
    compares!(
        Interner::<OsStr>::new().intern(OsStr::new("a")),
        *OsStr::new("a"), *OsStr::new("b");
        OsStr::new("a"), OsStr::new("b");
        OsString::from("a"), OsString::from("b");
    );
    compares!(
        Interner::<CStr>::new().intern(c"a"),
        *c"a", *c"b";
        c"a", c"b";
        CString::from(c"a"), CString::from(c"b");
    );
    let slice = Interner::<[u8]>::new().intern([1, 2]);
    assert!(slice == [1, 2] && slice == [1_u8, 2][..]);
    assert!(slice != [1, 3] && slice != [1] && slice != [1_u8][..]);
    let (equal, unequal) = (&[1_u8, 2][..], &[2_u8, 1][..]);
    assert!(slice == equal && slice == equal.to_vec());
    assert!(slice != unequal && slice != unequal.to_vec());
}

// Pointers.

/// Gives handles away and takes them back, in an order of their own.
fn comes_back<T>(interner: &Interner<T>, first: Interned<T>)
where
    T: ?Sized + Internable + Hash + Eq + fmt::Debug,
{
    let address = Interned::as_ptr(&first);
    assert!(std::ptr::addr_eq(address, &raw const *first));
    let raw = [
        Interned::into_raw(first.clone()),
        Interned::into_raw(first.clone()),
    ];
    assert!(raw.iter().all(|&raw| std::ptr::eq(raw, address)));
    assert_eq!((Interned::ref_count(&first), interner.len()), (3, 1));
    // SAFETY: a handle that was given away keeps the value.
    assert_eq!(unsafe { &*raw[0] }, &*first);
    drop(first);
    assert_eq!(interner.len(), 1);
    // SAFETY: each came from `into_raw`, and is taken back once.
    let [one, two] = raw.map(|raw| unsafe { Interned::from_raw(raw) });
    assert_eq!(one, two);
    assert_eq!(interner.get(&*one), Some(two));
    assert_eq!(Interned::ref_count(&one), 1);
    drop(one);
    assert_eq!(interner.len(), 0);
}

#[test]
fn a_handle_given_away_as_a_pointer_comes_back() {
    fn check<T, Q>(value: Q)
    where
        T: ?Sized + Internable + Hash + Eq + fmt::Debug,
        Q: Intern<T>,
    {
        let interner = Interner::<T>::new();
        comes_back(&interner, interner.intern(value));
    }
    #[derive(Debug, PartialEq, Eq, Hash)]
    #[repr(align(512))]
    struct Aligned(u16);

    check::<u8, _>(1);
    check::<(), _>(());
    check::<u128, _>(7);
    check::<String, _>(String::from("alpha"));
    check::<Aligned, _>(Aligned(3));
    check::<[Aligned], _>([Aligned(3), Aligned(4)]);
    check::<[Aligned], _>(Vec::new());
    check::<str, _>("alpha");
    check::<str, _>("");
    check::<[u8], _>([1, 2, 3]);
    check::<[String], _>(vec![String::from("a"), String::from("b")]);
    check::<[()], _>([(), ()]);
    check::<OsStr, _>(OsStr::new("alpha"));
    check::<Path, _>(Path::new("/alpha"));
    check::<CStr, _>(c"alpha");
}

/// The pointer is enough to be kept elsewhere, for example in a foreign structure, on another thread, and
/// after the interner.
#[test]
fn a_pointer_is_taken_back_elsewhere() {
    let census = Census::new();
    let values = Interner::<Counted>::new();
    let pointers: Vec<_> = (0..scaled(1000, 20) as u64)
        .map(|n| {
            AtomicPtr::new(Interned::into_raw(values.intern(Counted::new(n, &census))).cast_mut())
        })
        .collect();
    assert_eq!(values.len(), pointers.len());
    drop(values);
    thread::spawn(move || {
        for (n, pointer) in pointers.into_iter().enumerate() {
            // SAFETY: it came from `into_raw`, and is taken back once.
            let value = unsafe { Interned::from_raw(pointer.into_inner()) };
            assert_eq!(value.key, n as u64);
        }
    })
    .join()
    .unwrap();
    assert_eq!(census.live(), 0);
}

// Moving out.

#[test]
fn the_only_handle_gives_its_value_up() {
    let census = Census::new();
    let values = Interner::<Counted>::new();
    let events = Arc::new(Mutex::new(Vec::new()));
    let hook = events.clone();
    values.on_drop(move |value| hook.lock().unwrap().push(format!("hook {}", value.key)));
    let value = values.intern(Counted::new(1, &census));
    let serial = value.serial;
    let weak = Interned::downgrade(&value);
    let callbacks = ["first", "second"].map(|name| {
        let events = events.clone();
        Interned::downgrade_with(&value, move || events.lock().unwrap().push(name.into()))
    });

    // Shared: nothing happens, and it is the same handle.
    let clone = value.clone();
    let value = Interned::try_unwrap(value).unwrap_err();
    assert_eq!(value, clone);
    assert_eq!((weak.strong_count(), values.len()), (2, 1));
    let upgraded = weak.upgrade().unwrap();
    drop(value);
    let clone = Interned::try_unwrap(clone).unwrap_err();
    drop(upgraded);
    assert!(events.lock().unwrap().is_empty());

    // The only one.
    let value = Interned::try_unwrap(clone).unwrap();
    assert_eq!((value.serial, census.live()), (serial, 1));
    value.assert_alive();
    assert_eq!(*events.lock().unwrap(), ["second", "first"]);
    assert!(weak.upgrade().is_none() && callbacks.iter().all(|weak| weak.upgrade().is_none()));
    assert_eq!((weak.strong_count(), values.len()), (0, 0));
    assert!(values.get(&1_u64).is_none());
    // It is a value as any other.
    let again = values.intern(value);
    assert_eq!((again.serial, weak.upgrade()), (serial, None));
    drop(again);
    assert_eq!(*events.lock().unwrap(), ["second", "first", "hook 1"]);
    assert_eq!(census.live(), 0);
}

#[test]
fn a_value_that_was_moved_out_lives_beside_the_next_one() {
    let values = Interner::<String>::new();
    let alpha = values.intern(String::from("alpha"));
    let mut mine = Interned::try_unwrap(alpha).unwrap();
    let other = values.intern(String::from("alpha"));
    mine.push('!');
    assert_eq!(
        (&mine[..], &other[..], values.len()),
        ("alpha!", "alpha", 1)
    );
}

/// The value is dropped when a callback panics: it can't be answered.
#[test]
fn a_callback_that_panics_while_a_value_is_moved_out_costs_the_value() {
    let census = Census::new();
    let values = Interner::<Counted>::new();
    let value = values.intern(Counted::new(1, &census));
    let ran = Arc::new(AtomicUsize::new(0));
    let others = ran.clone();
    let _first = Interned::downgrade_with(&value, move || {
        others.fetch_add(1, Memory::SeqCst);
    });
    let _second = Interned::downgrade_with(&value, || panic!("a callback"));
    assert_eq!(panic_of(|| Interned::try_unwrap(value)), "a callback");
    assert_eq!(
        (ran.load(Memory::SeqCst), census.live(), values.len()),
        (1, 0, 0)
    );
}

/// Several threads hold one handle each and all try: at most one gets the value, and it dies once.
#[test]
fn at_most_one_thread_moves_a_value_out() {
    for _ in 0..scaled(500, 5) {
        let census = Census::new();
        let values = Interner::<Counted>::new();
        let value = values.intern(Counted::new(1, &census));
        let handles = [value.clone(), value.clone(), value];
        let unwrapped: usize = thread::scope(|scope| {
            let threads = handles.map(|handle| {
                scope.spawn(|| match Interned::try_unwrap(handle) {
                    Ok(value) => {
                        value.assert_alive();
                        assert!(values.is_empty());
                        1
                    }
                    Err(handle) => {
                        handle.assert_alive();
                        0
                    }
                })
            });
            threads.map(|thread| thread.join().unwrap()).iter().sum()
        });
        assert!(unwrapped <= 1);
        assert_eq!((values.len(), census.live(), census.died()), (0, 0, 1));
    }
}

// Weak handles.

#[test]
fn a_weak_handle_belongs_to_one_instance() {
    let names = Interner::<str>::new();
    let old = names.intern("alpha");
    let weak = Interned::downgrade(&old);
    let clone = weak.clone();
    assert_eq!((weak.strong_count(), Interned::ref_count(&old)), (1, 1));
    assert_eq!(weak.upgrade().as_ref(), Some(&old));
    drop(old);
    for _ in 0..scaled(100, 5) {
        // The memory may be the same again, the instance isn't.
        let new = names.intern("alpha");
        let other = Interned::downgrade(&new);
        assert_eq!((weak.upgrade(), clone.upgrade()), (None, None));
        assert_eq!((weak.strong_count(), other.strong_count()), (0, 1));
        assert!(weak.ptr_eq(&clone) && !weak.ptr_eq(&other));
        assert_eq!(other.upgrade(), Some(new));
        names.flush();
    }
    let beta = names.intern("beta");
    assert!(!Interned::downgrade(&beta).ptr_eq(&weak));
    drop(weak);
    assert_eq!(clone.upgrade(), None);
}

#[test]
fn weak_handles_keep_nothing_alive() {
    let census = Census::new();
    let values = Interner::<Counted>::new();
    let weak: Vec<_> = (0..100)
        .map(|n| {
            let value = values.intern(Counted::new(n, &census));
            [Interned::downgrade(&value), Interned::downgrade(&value)]
        })
        .collect();
    assert_eq!((census.live(), values.len(), weak.len()), (0, 0, 100));
}

#[test]
fn weak_handles_outlive_the_interner() {
    let names = Interner::<str>::new();
    let (alpha, beta) = (names.intern("alpha"), names.intern("beta"));
    let (live, dies) = (Interned::downgrade(&alpha), Interned::downgrade(&beta));
    let dead = Interned::downgrade(&names.intern("gamma"));
    drop(names);
    let upgraded = live.upgrade().unwrap();
    assert_eq!((&upgraded, live.strong_count()), (&alpha, 2));
    drop(alpha);
    assert_eq!(live.upgrade().as_ref(), Some(&upgraded));
    drop((upgraded, beta));
    for weak in [&live, &dies, &dead] {
        assert_eq!((weak.upgrade(), weak.strong_count()), (None, 0));
    }
    assert!(live.ptr_eq(&live.clone()) && !live.ptr_eq(&dies) && !dies.ptr_eq(&dead));
    thread::spawn(move || drop((live, dies, dead)))
        .join()
        .unwrap();
}

/// The value dies while others upgrade: who gets a handle gets a living value.
#[test]
fn upgrading_and_the_last_drop_meet() {
    for _ in 0..scaled(500, 5) {
        let census = Census::new();
        let values = Interner::<Counted>::new();
        let value = values.intern(Counted::new(1, &census));
        let weak = Interned::downgrade(&value);
        thread::scope(|scope| {
            let upgrade = || {
                while let Some(value) = weak.upgrade() {
                    value.assert_alive();
                }
                // Dead is dead.
                assert!(weak.upgrade().is_none() && weak.strong_count() == 0);
            };
            scope.spawn(upgrade);
            scope.spawn(upgrade);
            drop(value);
        });
        assert_eq!((values.len(), census.live(), census.died()), (0, 0, 1));
    }
}

// Callbacks.

/// Records what happened in which order.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn push(&self, event: impl Into<String>) {
        self.0.lock().unwrap().push(event.into());
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    /// A callback that records.
    fn event(&self, event: impl Into<String>) -> impl FnOnce() + Send + 'static {
        let (log, event) = (self.clone(), event.into());
        move || log.push(event)
    }

    /// Those who hold the log: the test, and closures that weren't dropped.
    fn holders(&self) -> usize {
        Arc::strong_count(&self.0)
    }
}

#[test]
fn callbacks_run_once_after_the_value_died() {
    let census = Census::new();
    let log = Log::default();
    let values = Interner::<Counted>::new();
    let value = values.intern(Counted::new(1, &census));
    let weak: Vec<_> = (0..5)
        .map(|n| {
            let (log, census) = (log.clone(), census.clone());
            Interned::downgrade_with(&value, move || {
                assert_eq!(census.live(), 0, "the value is dead");
                log.push(n.to_string());
            })
        })
        .collect();
    // Each is a weak handle as any other.
    let plain = Interned::downgrade(&value);
    assert!(weak.iter().all(|weak| weak.ptr_eq(&plain)));
    assert!(
        weak.iter()
            .all(|weak| weak.upgrade().as_ref() == Some(&value))
    );
    drop(value);
    assert_eq!(log.take(), ["4", "3", "2", "1", "0"]);
    assert_eq!(log.holders(), 1);
    drop(values.intern(Counted::new(1, &census)));
    drop((weak, values));
    assert!(log.take().is_empty());
}

#[test]
fn clones_share_a_callback_and_the_last_one_cancels_it() {
    let log = Log::default();
    let names = Interner::<str>::new();
    let alpha = names.intern("alpha");
    let shared = Interned::downgrade_with(&alpha, log.event("shared"));
    let clones = [shared.clone(), shared.clone()];
    let cancelled = Interned::downgrade_with(&alpha, log.event("cancelled"));
    let clone = cancelled.clone();
    drop((shared, cancelled));
    assert_eq!(log.holders(), 3);
    drop(clone);
    // The closure is dropped at once, not with the value.
    assert_eq!(log.holders(), 2);
    drop(alpha);
    assert_eq!(log.take(), ["shared"]);
    drop(clones);
    assert_eq!((log.take().len(), log.holders()), (0, 1));
}

/// Would catch: the order or a callback being lost when records of cancelled ones are thrown away.
#[test]
fn the_others_keep_their_order_when_many_are_cancelled() {
    let log = Log::default();
    let names = Interner::<str>::new();
    let alpha = names.intern("alpha");
    let mut kept = Vec::new();
    for n in 0..scaled(500, 60) {
        let weak = Interned::downgrade_with(&alpha, log.event(n.to_string()));
        if n % 10 == 3 {
            kept.push((n, weak));
        }
    }
    assert_eq!(log.holders(), 1 + kept.len());
    drop(alpha);
    let expected: Vec<_> = kept.iter().rev().map(|(n, _)| n.to_string()).collect();
    assert_eq!(log.take(), expected);
}

#[test]
fn a_callback_cancels_another_one() {
    let log = Log::default();
    let names = Interner::<str>::new();
    let alpha = names.intern("alpha");
    let slot = Arc::new(Mutex::new(Vec::new()));
    let first = Interned::downgrade_with(&alpha, log.event("first"));
    let second = Interned::downgrade_with(&alpha, log.event("second"));
    let (taken, event) = (slot.clone(), log.clone());
    let third = Interned::downgrade_with(&alpha, move || {
        event.push("third");
        // The one that would be next, and this one itself, which runs already.
        let cancelled: Vec<WeakInterned<str>> = std::mem::take(&mut *taken.lock().unwrap());
        drop(cancelled);
    });
    *slot.lock().unwrap() = vec![second, third];
    drop(alpha);
    assert_eq!(log.take(), ["third", "first"]);
    assert_eq!(log.holders(), 1);
    drop(first);
}

#[test]
fn a_callback_interns_the_same_key_and_registers_again() {
    let log = Log::default();
    let names = Arc::new(Interner::<str>::new());
    let reborn = Arc::new(Mutex::new(None));
    let alpha = names.intern("alpha");
    let _weak = {
        let (log, names, reborn) = (log.clone(), names.clone(), reborn.clone());
        Interned::downgrade_with(&alpha, move || {
            log.push("old");
            let alpha = names.intern("alpha");
            let weak = Interned::downgrade_with(&alpha, log.event("new"));
            *reborn.lock().unwrap() = Some((alpha, weak));
        })
    };
    drop(alpha);
    assert_eq!((log.take(), names.len()), (vec![String::from("old")], 1));
    let (alpha, weak) = reborn.lock().unwrap().take().expect("the callback ran");
    assert_eq!(weak.upgrade().as_ref(), Some(&alpha));
    drop(alpha);
    assert_eq!((log.take(), names.len()), (vec![String::from("new")], 0));
}

/// The first panic comes out of the drop.
#[test]
fn a_callback_that_panics_stops_no_other() {
    let log = Log::default();
    let names = Interner::<str>::new();
    let alpha = names.intern("alpha");
    let mut weak = Vec::new();
    for n in 0..6 {
        let log = log.clone();
        weak.push(Interned::downgrade_with(&alpha, move || {
            log.push(n.to_string());
            assert!(n % 2 == 0, "callback {n}");
        }));
    }
    assert_eq!(panic_of(|| drop(alpha)), "callback 5");
    assert_eq!(log.take(), ["5", "4", "3", "2", "1", "0"]);
    assert_eq!((log.holders(), names.len()), (1, 0));
}

#[test]
fn callbacks_run_after_the_interner_and_for_entries_of_maps() {
    let log = Log::default();
    let names = Interner::<str>::new();
    let alpha = names.intern("alpha");
    let weak = Interned::downgrade_with(&alpha, log.event("alpha"));
    drop(names);
    drop(alpha);
    assert_eq!(
        (log.take(), weak.upgrade()),
        (vec![String::from("alpha")], None)
    );

    let map = WeakMap::<u32, u32>::new();
    let one = map.get_or_insert(1, 10);
    let cancelled = Cached::downgrade_with(&one, log.event("cancelled"));
    let clone = cancelled.clone();
    let runs = Cached::downgrade_with(&one, log.event("runs"));
    drop((cancelled, clone));
    drop(map);
    drop(one);
    assert_eq!((log.take(), log.holders()), (vec![String::from("runs")], 1));
    assert!(runs.upgrade().is_none());
}

/// A callback runs, or was cancelled and is dropped; never both, never neither.
#[test]
fn cancelling_and_dying_meet() {
    for _ in 0..scaled(500, 5) {
        let log = Log::default();
        let names = Interner::<str>::new();
        let alpha = names.intern("alpha");
        let weak = [0, 1, 2].map(|n| Interned::downgrade_with(&alpha, log.event(n.to_string())));
        let [first, second, third] = weak;
        thread::scope(|scope| {
            scope.spawn(move || drop(alpha));
            scope.spawn(move || drop((second, third)));
        });
        assert!(log.holders() == 1);
        let events = log.take();
        assert_eq!(events.last().map(|last| &last[..]), Some("0"));
        assert!(
            events.len() <= 3 && events.is_sorted_by(|a, b| a > b),
            "{events:?}"
        );
        drop(first);
    }
}

// Which threads, which panics.

/// Whether a type has a trait: an inherent constant, if it applies, is preferred to the trait's.
macro_rules! has {
    ($type:ty: $($bound:tt)+) => {{
        #[allow(dead_code, reason = "one of both constants is used")]
        struct Probe<T: ?Sized>(std::marker::PhantomData<T>);
        #[allow(dead_code, reason = "one of both constants is used")]
        impl<T: ?Sized + $($bound)+> Probe<T> {
            const ANSWER: bool = true;
        }
        #[allow(dead_code, reason = "one of both constants is used")]
        trait Otherwise {
            const ANSWER: bool = false;
        }
        impl<T: ?Sized> Otherwise for T {}
        <Probe<$type>>::ANSWER
    }};
}

/// Can be shared, and only be dropped where it was made.
type OnlySync = MutexGuard<'static, u8>;
type OnlySend = Cell<u8>;
type Neither = Rc<u8>;

/// `Send` and `Sync` of a type, with one parameter or another of it.
macro_rules! threads {
    ($($type:ty: $send:literal $sync:literal;)*) => {$(
        assert_eq!(
            (has!($type: Send), has!($type: Sync)),
            ($send, $sync),
            "{}: Send, Sync",
            stringify!($type)
        );
    )*};
}

#[test]
fn types_are_sent_and_shared_where_their_parameters_are_both() {
    // The probe can tell.
    threads! {
        u8: true true;
        OnlySend: true false;
        OnlySync: false true;
        Neither: false false;
    }
    threads! {
        Interned<u8>: true true;
        Interned<str>: true true;
        Interned<[u8]>: true true;
        Interned<Path>: true true;
        Interned<OnlySend>: false false;
        Interned<OnlySync>: false false;
        Interned<Neither>: false false;
        Interned<[OnlySend]>: false false;
        Interned<[OnlySync]>: false false;

        WeakInterned<u8>: true true;
        WeakInterned<str>: true true;
        WeakInterned<OnlySend>: false false;
        WeakInterned<OnlySync>: false false;
        WeakInterned<[Neither]>: false false;

        Interner<u8>: true true;
        Interner<str>: true true;
        Interner<OnlySend>: false false;
        Interner<OnlySync>: false false;
        Interner<[Neither]>: false false;
        Interner<u8, OnlySend>: true false;
        Interner<u8, OnlySync>: false true;
        Interner<u8, Neither>: false false;

        Cached<u8, str_slice>: true true;
        Cached<OnlySend, u8>: false false;
        Cached<OnlySync, u8>: false false;
        Cached<u8, OnlySend>: false false;
        Cached<u8, OnlySync>: false false;
        Cached<Neither, Neither>: false false;

        WeakCached<u8, u8>: true true;
        WeakCached<OnlySend, u8>: false false;
        WeakCached<OnlySync, u8>: false false;
        WeakCached<u8, OnlySend>: false false;
        WeakCached<u8, OnlySync>: false false;

        WeakMap<u8, u8>: true true;
        WeakMap<OnlySend, u8>: false false;
        WeakMap<OnlySync, u8>: false false;
        WeakMap<u8, OnlySend>: false false;
        WeakMap<u8, OnlySync>: false false;
        WeakMap<u8, u8, OnlySend>: true false;
        WeakMap<u8, u8, OnlySync>: false true;

        hapax::Iter<'static, u8>: true true;
        hapax::Iter<'static, str>: true true;
        hapax::Iter<'static, OnlySend>: false false;
        hapax::Iter<'static, OnlySync>: false false;
        MapIter<'static, u8, u8>: true true;
        MapIter<'static, OnlySend, u8>: false false;
        MapIter<'static, u8, OnlySync>: false false;

        // What is local is its thread's, and so is a session.
        LocalInterned<u8>: false false;
        LocalInterned<str>: false false;
        LocalInterner<&'static Interner<u8>>: false false;
        LocalInterner<Arc<Interner<str>>>: false false;
        Pinned<'static, u8>: false false;
        Pinned<'static, str, OnlySync>: false false;

        ById<Arc<u8>>: true true;
        ById<Arc<OnlySend>>: false false;
        ById<Interned<str>>: true true;
        InitError<u8>: true true;
        InitError<OnlySend>: true false;
        MemoryUsage: true true;
        RandomState: true true;
    }
}

#[allow(non_camel_case_types, reason = "stands for a type that borrows")]
type str_slice = &'static str;

#[test]
fn handles_go_through_panics_where_their_values_do() {
    macro_rules! unwind {
        ($($type:ty: $both:literal;)*) => {$(
            assert_eq!(
                (has!($type: UnwindSafe), has!($type: RefUnwindSafe)),
                ($both, $both),
                "{}",
                stringify!($type)
            );
        )*};
    }
    unwind! {
        Interned<str>: true;
        Interned<[u8]>: true;
        Interned<Mutex<u8>>: true;
        Interned<UnsafeCell<u8>>: false;
        Interned<Cell<u8>>: false;
        Interned<[RefCell<u8>]>: false;
        WeakInterned<str>: true;
        WeakInterned<Cell<u8>>: false;
        LocalInterned<str>: true;
        LocalInterned<Cell<u8>>: false;
        LocalInterner<Arc<Interner<str>>>: true;
        LocalInterner<&'static Interner<Cell<u8>>>: true;
        Cached<u8, u8>: true;
        Cached<Cell<u8>, u8>: false;
        Cached<u8, Cell<u8>>: false;
        WeakCached<u8, u8>: true;
        WeakCached<Cell<u8>, u8>: false;
        WeakCached<u8, Cell<u8>>: false;
    }
}

// Variance and borrowing.

/// A handle to something that lives long is one to something that lives shorter. That it compiles is the
/// test.
#[allow(clippy::type_complexity, reason = "all handles at once")]
fn shorten<'a>(
    strong: Interned<&'static str>,
    slice: Interned<[&'static str]>,
    weak: WeakInterned<&'static str>,
    cached: Cached<&'static str, &'static u8>,
    weak_cached: WeakCached<&'static str, &'static u8>,
    local: LocalInterned<&'static str>,
) -> (
    Interned<&'a str>,
    Interned<[&'a str]>,
    WeakInterned<&'a str>,
    Cached<&'a str, &'a u8>,
    WeakCached<&'a str, &'a u8>,
    LocalInterned<&'a str>,
) {
    (strong, slice, weak, cached, weak_cached, local)
}

#[test]
fn handles_are_covariant() {
    static BYTE: u8 = 5;
    let names = Interner::<&'static str>::new();
    let lists = Interner::<[&'static str]>::new();
    let map = WeakMap::<&'static str, &'static u8>::new();
    let (alpha, list, entry) = (
        names.intern("alpha"),
        lists.intern(["alpha"]),
        map.get_or_insert("alpha", &BYTE),
    );
    let weak = (Interned::downgrade(&alpha), Cached::downgrade(&entry));
    let (front, text) = (LocalInterner::new(&names), String::from("beta"));
    let local = front.intern("alpha");
    let (alpha, list, weak, entry, weak_entry, local) =
        shorten(alpha, list, weak.0, entry, weak.1, local);
    let longer = |a: &Interned<&str>, b: &str| if a.len() > b.len() { "a" } else { "b" };
    assert_eq!(longer(&alpha, &text), "a");
    // Beside handles that borrow from here.
    let borrowing = Interner::<&str>::new();
    let both = [alpha, borrowing.intern(&text[..])];
    assert_eq!([*both[0], *both[1]], ["alpha", "beta"]);
    let locals = [local, LocalInterner::new(&borrowing).intern(&text[..])];
    assert!(locals.iter().eq(both.iter()));
    assert_eq!(front.len(), 1);
    drop(locals);
    assert_eq!(weak.upgrade().as_ref(), Some(&both[0]));
    assert_eq!(weak_entry.upgrade().as_deref(), Some(&&BYTE));
    drop((both, list, entry));
    assert!(weak.upgrade().is_none() && weak_entry.upgrade().is_none());
    assert_eq!((names.len(), lists.len(), map.len()), (0, 0, 0));
}

/// Values, slices, entries, weak handles, sessions and iterations of what borrows from a local.
#[test]
fn everything_works_with_values_that_borrow() {
    let text = String::from("to be or not to be");
    let words: Vec<&str> = text.split(' ').collect();
    let weak;
    {
        let (singles, pairs) = (Interner::<&str>::new(), Interner::<[&str]>::new());
        let map = WeakMap::<&str, &[&str]>::new();
        let session = singles.pin();
        let single = session.intern(words[0]);
        assert_eq!(session.intern(words[4]), single);
        let pair = pairs.intern(&words[..2]);
        assert_eq!(pairs.intern(&words[4..]), pair);
        assert_eq!(pairs.iter().next(), Some(pair.clone()));
        let entry = map.get_or_init(words[1], |_| &words[2..]);
        assert_eq!((entry.len(), *Cached::key(&entry)), (4, "be"));
        weak = (
            Interned::downgrade(&single),
            Interned::downgrade(&pair),
            Cached::downgrade(&entry),
        );
        assert!(std::ptr::eq(*weak.0.upgrade().unwrap(), words[0]));
        assert_eq!(Interned::try_unwrap(single), Ok("to"));
        thread::scope(|scope| scope.spawn(move || drop((pair, entry))).join().unwrap());
    }
    assert!(weak.0.upgrade().is_none() && weak.1.upgrade().is_none());
    assert!(weak.2.upgrade().is_none());
}
