//! `ById`, `Identity` and `IdentityMap`: keys by which object it is.
//!
//! - Equal objects differ, one object is one key: through clones, vtables, and each kind of pointer; slices
//!   with one beginning differ by their length.
//! - An entry keeps its object alive, so that the address isn't used again; with the last handle both go.
//! - A look-up clones the pointer only if it makes an entry.
//! - The recipe for Python's `setdefault(id(data), …)`: the same object is answered, `a is b`.

mod common;

use std::any::Any;
use std::fmt::Debug;
use std::hash::BuildHasher;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Weak};
use std::thread;

use common::{Census, Counted, panic_of, scaled};
use hapax::{ById, Cached, Identity, IdentityMap, Interned, Interner, RandomState, WeakMap};

/// Whether two pointers are one key, checked in all ways in which that shows.
fn one_key<P: Identity + Clone + Debug>(a: &P, b: &P) -> bool {
    let same = ById(a.clone()) == ById(b.clone());
    assert_eq!(same, ById::from_ref(b) == ById::from_ref(a));
    assert_eq!(same, a.address() == b.address());
    let hash = |pointer| RandomState.hash_one(ById::from_ref(pointer));
    assert_eq!(same, hash(a) == hash(b));

    let map = IdentityMap::<P, u32>::new();
    let one = map.of(a, |_| 1);
    let two = map.of(b, |_| 2);
    assert_eq!(same, Cached::ptr_eq(&one, &two));
    assert_eq!((*one, *two), (1, if same { 1 } else { 2 }));
    assert_eq!(map.len(), if same { 1 } else { 2 });
    same
}

#[test]
fn shared_objects_are_told_apart_though_they_are_equal() {
    let data = Arc::new(String::from("data"));
    assert!(one_key(&data, &data.clone()));
    assert!(!one_key(&data, &Arc::new(String::from("data"))));

    let text: Arc<str> = "data".into();
    assert!(one_key(&text, &text.clone()));
    assert!(!one_key(&text, &"data".into()));
    let empty: [Arc<str>; 2] = ["".into(), "".into()];
    assert!(one_key(&empty[0], &empty[0].clone()));

    let bytes: Arc<[u8]> = Arc::new([1, 2]);
    assert!(one_key(&bytes, &bytes.clone()));
    assert!(!one_key(&bytes, &Arc::from([1, 2])));

    // Of no size, but two objects.
    let units = [Arc::new(()), Arc::new(())];
    assert!(one_key(&units[0], &units[0].clone()));
    assert!(!one_key(&units[0], &units[1]));
}

trait Shape: Debug + Any {
    fn area(&self) -> u32;
}

#[derive(Debug)]
struct Square(u32);

impl Shape for Square {
    fn area(&self) -> u32 {
        self.0 * self.0
    }
}

#[derive(Debug)]
#[repr(transparent)]
struct Tile(Square);

impl Shape for Tile {
    fn area(&self) -> u32 {
        self.0.area() + 1
    }
}

#[test]
fn an_object_seen_through_two_vtables_is_one_key() {
    let square = Arc::new(Square(3));
    let direct: Arc<dyn Shape> = square.clone();
    // The same object as a `Tile`, which has a vtable of its own.
    //
    // SAFETY: `Tile` is a transparent wrapper of `Square`, so that allocation and contents are the same.
    let tile = unsafe { Arc::from_raw(Arc::into_raw(square.clone()).cast::<Tile>()) };
    let other: Arc<dyn Shape> = tile;
    assert_ne!(direct.area(), other.area(), "two vtables");
    assert!(one_key(&direct, &other));
    let equal: Arc<dyn Shape> = Arc::new(Square(3));
    assert!(!one_key(&direct, &equal));
    // Another trait's object, of the same address, has another type, and so another map.
    let any: Arc<dyn Any> = square;
    assert_eq!(any.address(), direct.address());
}

#[test]
fn statics_are_told_apart_by_place_and_length() {
    static NUMBERS: [u32; 4] = [7, 7, 7, 7];
    assert!(one_key(&&NUMBERS[0], &&NUMBERS[0]));
    assert!(!one_key(&&NUMBERS[0], &&NUMBERS[1]));

    assert!(one_key(&&NUMBERS[..2], &&NUMBERS[..2]));
    assert!(!one_key(&&NUMBERS[..2], &&NUMBERS[..3]));
    assert!(!one_key(&&NUMBERS[..2], &&NUMBERS[2..]));
    assert!(!one_key(&&NUMBERS[..0], &&NUMBERS[..1]));

    static TEXT: &str = "alphabet";
    assert!(one_key(&&TEXT[..5], &&TEXT[..5]));
    assert!(!one_key(&&TEXT[..5], &TEXT));
    assert!(!one_key(&&TEXT[..1], &&TEXT[5..6]));

    let leaked: [&'static String; 2] =
        [0, 1].map(|_| &*Box::leak(Box::new(String::from("leaked"))));
    assert!(one_key(&leaked[0], &leaked[0]));
    assert!(!one_key(&leaked[0], &leaked[1]));
    for leaked in leaked {
        // SAFETY: nobody has it any more.
        drop(unsafe { Box::from_raw(std::ptr::from_ref(leaked).cast_mut()) });
    }
}

#[test]
fn an_interned_value_is_its_own_identity() {
    let (here, there) = (Interner::<str>::new(), Interner::<str>::new());
    let alpha = here.intern("alpha");
    assert!(one_key(&alpha, &here.intern("alpha")));
    assert!(!one_key(&alpha, &here.intern("beta")));
    assert!(!one_key(&alpha, &there.intern("alpha")));
    let units = Interner::<[()]>::new();
    assert!(!one_key(&units.intern([]), &units.intern([()])));

    let lengths = IdentityMap::<Interned<str>, usize>::new();
    let length = lengths.of(&alpha, |name| name.len());
    assert_eq!(Interned::ref_count(&alpha), 2);
    drop(alpha);
    // The entry keeps the value in its interner.
    let alpha = here.get("alpha").expect("the entry has it");
    assert_eq!(*lengths.of(&alpha, |_| unreachable!()), 5);
    drop((alpha, length));
    assert_eq!((here.len(), lengths.len()), (0, 0));
}

#[test]
fn a_key_is_its_pointer_and_is_shown_as_it() {
    assert_eq!(size_of::<ById<Arc<str>>>(), size_of::<Arc<str>>());
    let data = Arc::new(7);
    let key = ById(data.clone());
    assert_eq!(format!("{key:?}"), "ById(7)");
    assert!(std::ptr::eq(&*key.0, &*data));
    let copy = ById(&7);
    let again = copy;
    assert!(std::ptr::eq(copy.0, again.0));
    assert_eq!(
        data.address(),
        (Arc::as_ptr(&data).addr(), size_of::<i32>())
    );
}

// Lives.

#[test]
fn an_entry_keeps_its_object_alive() {
    let census = Census::new();
    let map = IdentityMap::<Arc<Counted>, u64>::new();
    let data = Arc::new(Counted::new(1, &census));
    let weak = Arc::downgrade(&data);
    let address = Arc::as_ptr(&data).addr();
    let entry = map.of(&data, |data| data.serial);
    drop(data);
    // The address isn't free for another one.
    for n in 0..scaled(200, 20) {
        let other = Arc::new(Counted::new(1, &census));
        assert_ne!(Arc::as_ptr(&other).addr(), address);
        let none = map.get(ById::from_ref(&other));
        assert!(none.is_none(), "after {n} others");
    }
    let data = weak.upgrade().expect("the entry keeps it");
    data.assert_alive();
    assert_eq!((*entry, census.live()), (data.serial, 1));
    let again = map.of(&data, |_| unreachable!("it is there"));
    assert!(Cached::ptr_eq(&again, &entry));
    drop((data, again));
    assert_eq!((weak.strong_count(), map.len()), (1, 1));
    drop(entry);
    assert_eq!((weak.strong_count(), map.len(), census.live()), (0, 0, 0));
    assert!(weak.upgrade().is_none());
}

/// Objects come to lie where dead ones lay, and never meet a value that was made for those.
#[test]
fn an_address_that_is_used_again_has_a_new_entry() {
    let map = IdentityMap::<Arc<usize>, usize>::new();
    thread::scope(|scope| {
        for thread in 0..2 {
            let map = &map;
            scope.spawn(move || {
                for n in 0..scaled(5000, 50) {
                    let number = 2 * n + thread;
                    let data = Arc::new(number);
                    let entry = map.of(&data, |data| **data);
                    assert_eq!(*entry, number);
                    // Either goes first.
                    if n % 3 == 0 {
                        drop(entry);
                        assert!(map.get(ById::from_ref(&data)).is_none());
                    } else {
                        drop(data);
                        assert_eq!(*Cached::key(&entry).0, number);
                    }
                }
            });
        }
    });
    assert_eq!(map.len(), 0);
}

#[test]
fn a_value_that_owns_its_object_frees_it_too() {
    struct Wrapper(Arc<Counted>);
    let census = Census::new();
    let map = IdentityMap::<Arc<Counted>, Wrapper>::new();
    let data = Arc::new(Counted::new(1, &census));
    let wrapper = map.of(&data, |data| Wrapper(data.clone()));
    // Its own, the value's, and the caller's.
    assert_eq!(Arc::strong_count(&data), 3);
    assert!(Arc::ptr_eq(&wrapper.0, &Cached::key(&wrapper).0));
    drop(data);
    wrapper.0.assert_alive();
    drop(wrapper);
    assert_eq!((map.len(), census.live()), (0, 0));
}

#[test]
fn a_pointer_is_cloned_only_for_a_new_entry() {
    let map = IdentityMap::<Arc<str>, usize>::new();
    let data: Arc<str> = "data".into();
    let count = || Arc::strong_count(&data);
    assert!(map.get(ById::from_ref(&data)).is_none());
    assert_eq!(count(), 1);
    // A builder that fails leaves nothing.
    let failing = AssertUnwindSafe(|| map.of(&data, |_| panic!("a builder")));
    assert_eq!(panic_of(failing), "a builder");
    assert_eq!((count(), map.len()), (1, 0));
    let entry = map.of(&data, |data| data.len());
    assert_eq!(count(), 2);
    let hits = [
        map.get(ById::from_ref(&data)).unwrap(),
        map.of(&data, |_| unreachable!()),
        map.of(&data, |_| unreachable!()),
    ];
    assert_eq!((count(), Cached::ref_count(&entry)), (2, 4));
    let removed = map.remove(ById::from_ref(&data)).unwrap();
    assert_eq!(count(), 2);
    drop((hits, removed));
    assert_eq!(count(), 2);
    drop(entry);
    assert_eq!(count(), 1);
}

/// What `of` is given on a hit may own something: it goes.
#[test]
fn a_builder_that_is_not_needed_is_dropped() {
    let map = IdentityMap::<Arc<u32>, u32>::new();
    let data = Arc::new(1);
    let _entry = map.of(&data, |_| 1);
    let owned = Arc::new(());
    let inner = owned.clone();
    let hit = map.of(&data, move |_| {
        drop(inner);
        unreachable!()
    });
    assert_eq!((*hit, Arc::strong_count(&owned)), (1, 1));
}

/// `cache.setdefault(id(data), Wrapper(data))`: all who come with one object get one wrapper.
#[test]
fn all_threads_get_one_wrapper_of_one_object() {
    struct Wrapper {
        number: usize,
        data: Arc<Vec<u8>>,
    }
    static WRAPPERS: IdentityMap<Arc<Vec<u8>>, Wrapper> = IdentityMap::new();
    let made = AtomicUsize::new(0);
    let wrapper = |data: &Arc<Vec<u8>>| {
        WRAPPERS.of(data, |data| Wrapper {
            number: made.fetch_add(1, Ordering::SeqCst),
            data: data.clone(),
        })
    };
    let data = Arc::new(vec![1, 2, 3]);
    let (a, b) = (wrapper(&data), wrapper(&data));
    assert!(Cached::ptr_eq(&a, &b) && std::ptr::eq(&*a, &*b));
    let equal = Arc::new(vec![1, 2, 3]);
    let c = wrapper(&equal);
    assert!(!Cached::ptr_eq(&a, &c) && a.number != c.number);
    assert!(Arc::ptr_eq(&a.data, &data) && Arc::ptr_eq(&c.data, &equal));
    drop((a, b, c));
    assert!(WRAPPERS.is_empty());

    for _ in 0..scaled(300, 3) {
        let objects: Vec<_> = (0..8).map(|n| Arc::new(vec![n])).collect();
        let barrier = Barrier::new(3);
        let wrappers: Vec<Vec<_>> = thread::scope(|scope| {
            let threads: Vec<_> = (0..3)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        objects.iter().map(wrapper).collect()
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        assert_eq!(WRAPPERS.len(), objects.len());
        for others in &wrappers[1..] {
            for (one, other) in wrappers[0].iter().zip(others) {
                assert!(Cached::ptr_eq(one, other));
            }
        }
        drop(wrappers);
        assert!(WRAPPERS.is_empty());
        let weak: Vec<Weak<_>> = objects.iter().map(Arc::downgrade).collect();
        drop(objects);
        assert!(weak.iter().all(|weak| weak.strong_count() == 0));
    }
}

/// The ordinary methods of a map work with such keys, with another hasher too.
#[test]
fn an_identity_map_is_a_map() {
    let map = WeakMap::<ById<Arc<str>>, u32, _>::with_hasher(std::hash::RandomState::new());
    let data: [Arc<str>; 2] = ["data".into(), "data".into()];
    let one = map.get_or_insert(ById(data[0].clone()), 1);
    let two = map.get_or_init(ById(data[1].clone()), |key| {
        assert!(Arc::ptr_eq(&key.0, &data[1]));
        2
    });
    assert_eq!((*one, *two, map.len()), (1, 2, 2));
    assert_eq!(*map.of(&data[0], |_| unreachable!()), 1);
    let mut all: Vec<_> = map.iter().map(|entry| *entry).collect();
    all.sort_unstable();
    assert_eq!(all, [1, 2]);
}
