//! One interner per type for the whole program.
//!
//! - `Interned::new`, `From` in all its forms and `FromStr` lead to the interner of the type.
//! - Types have interners of their own, also if they have one name or one content.
//! - The built-in ones: `str`, `[u8]`, `OsStr`, `Path`.
//!
//! Global interners are shared by all tests here: values differ from test to test, and nobody counts all.

use std::borrow::Cow;
use std::collections::HashSet;
use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::thread;

use hapax::{Global, Internable, Interned, Interner, global_interner};

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Point {
    x: i32,
    y: i32,
}

global_interner!(Point);

/// All are one instance, which is in the type's interner and goes with the last of them.
fn are_one<T: ?Sized + Global + Debug, const N: usize>(value: &T, handles: [Interned<T>; N]) {
    let (first, others) = handles.split_first().expect("there are some");
    assert_eq!(**first, *value);
    for (place, other) in others.iter().enumerate() {
        assert!(Interned::ptr_eq(first, other), "form {}", place + 1);
    }
    assert_eq!(T::interner().get(value).as_ref(), Some(first));
    assert_eq!(Interned::ref_count(first), N);
    drop(handles);
    assert_eq!(T::interner().get(value), None);
}

#[test]
fn a_type_of_ones_own_is_interned() {
    let point = Point { x: 1, y: 2 };
    are_one(
        &point,
        [
            Interned::new(point.clone()),
            Interned::new(&point),
            Interned::from(point.clone()),
            Interned::from(&point),
            point.clone().into(),
            (&point).into(),
            Point::interner().intern(&point),
            Point::interner().pin().intern(&point),
        ],
    );
}

#[test]
fn strings_are_interned() {
    let owned = String::from("strings");
    are_one(
        "strings",
        [
            Interned::new("strings"),
            Interned::new(String::from("strings")),
            Interned::new(&owned),
            Interned::from("strings"),
            Interned::from(String::from("strings")),
            Interned::from(Box::<str>::from("strings")),
            Interned::from(Cow::Borrowed("strings")),
            Interned::from(Cow::<str>::Owned("strings".into())),
            "strings".parse().unwrap(),
            str::interner().intern("strings"),
        ],
    );
    let Ok::<Interned<str>, Infallible>(empty) = "".parse();
    assert_eq!(empty, Interned::default());
    assert_eq!(empty, "");
}

#[test]
fn defaults_are_interned() {
    let origin = Interned::<Point>::default();
    assert_eq!(origin, Interned::new(Point { x: 0, y: 0 }));
    #[derive(Default)]
    struct Named {
        name: Interned<str>,
        place: Interned<Point>,
    }
    let named = Named::default();
    assert_eq!((&*named.name, named.place), ("", origin));
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Pair<T>(T, T);

global_interner!(Pair<u32>);
global_interner!(Pair<String>);

/// Each instance of a generic type is a type.
#[test]
fn instances_of_generic_types_are_interned() {
    let (numbers, names) = (
        Interned::new(Pair(1, 2)),
        Interned::new(Pair(String::from("a"), String::new())),
    );
    assert_eq!(numbers, Interned::from(Pair(1, 2)));
    assert_eq!((numbers.1, &names.0[..]), (2, "a"));
    assert_eq!(<Pair<u32>>::interner().len(), 1);
}

#[test]
fn bytes_are_interned() {
    are_one(
        &b"bytes"[..],
        [
            Interned::new(b"bytes"),
            Interned::new(*b"bytes"),
            Interned::new(b"bytes".to_vec()),
            Interned::from(&b"bytes"[..]),
            Interned::from(b"bytes".to_vec()),
            Interned::from(b"bytes".to_vec().into_boxed_slice()),
        ],
    );
}

#[test]
fn paths_and_os_strings_are_interned() {
    let path = Path::new("/paths");
    are_one(
        path,
        [
            Interned::new(path),
            Interned::new("/paths"),
            Interned::from(path),
            Interned::from(PathBuf::from(path)),
            Interned::from(Box::<Path>::from(path)),
            Interned::from(Cow::Borrowed(path)),
            Interned::from(Cow::<Path>::Owned(path.into())),
        ],
    );
    let os = OsStr::new("os strings");
    are_one(
        os,
        [
            Interned::new(os),
            Interned::from(os),
            Interned::from(OsString::from(os)),
            Interned::from(Box::<OsStr>::from(os)),
            Interned::from(Cow::Borrowed(os)),
            Interned::from(Cow::<OsStr>::Owned(os.into())),
        ],
    );
}

#[test]
fn iterators_and_functions_take_the_conversions() {
    let names: Vec<Interned<str>> = ["from one", "from two", "from one"].map(Into::into).into();
    assert_eq!(names[0], names[2]);
    let set: HashSet<Interned<str>> = "from three,from one,from three"
        .split(',')
        .map(Interned::new)
        .collect();
    assert!(set.len() == 2 && set.contains(&names[0]));
    let parsed: Result<Vec<Interned<str>>, _> =
        "from two,from one".split(',').map(str::parse).collect();
    assert_eq!(parsed.unwrap(), [names[1].clone(), names[0].clone()]);

    fn generic<T: Global + Clone>(value: &T) -> Interned<T> {
        T::interner().intern(value)
    }
    let point = Point { x: 3, y: 4 };
    assert_eq!(generic(&point), Interned::new(point));
}

mod one {
    #[derive(Debug, PartialEq, Eq, Hash)]
    pub(super) struct Name(pub(super) &'static str);
    hapax::global_interner!(Name);
}

mod other {
    #[derive(Debug, PartialEq, Eq, Hash)]
    pub(super) struct Name(pub(super) &'static str);
    hapax::global_interner!(Name);
}

/// Two crates may have types of one name, and wrap what has an interner already.
#[test]
fn types_do_not_mix() {
    fn place<T: ?Sized + Internable>(interner: &'static Interner<T>) -> usize {
        std::ptr::from_ref(interner).addr()
    }
    let places = HashSet::from([
        place(one::Name::interner()),
        place(other::Name::interner()),
        place(Point::interner()),
        place(str::interner()),
        place(<[u8]>::interner()),
        place(OsStr::interner()),
        place(Path::interner()),
    ]);
    assert_eq!(places.len(), 7);
    assert_eq!(place(str::interner()), place(<str as Global>::interner()));

    let a = Interned::new(one::Name("a"));
    assert_eq!(other::Name::interner().get(&other::Name("a")), None);
    let b = Interned::new(other::Name("a"));
    assert_eq!((a.0, b.0), ("a", "a"));
    assert_eq!(one::Name::interner().len(), 1);
    assert_eq!(other::Name::interner().len(), 1);
    // A value of one type's bytes isn't found in another's interner.
    let _name = Interned::<str>::new("not mixed");
    assert_eq!(<[u8]>::interner().get(&b"not mixed"[..]), None);
    assert_eq!(OsStr::interner().get(OsStr::new("not mixed")), None);
    assert_eq!(Path::interner().get(Path::new("not mixed")), None);
    drop((a, b));
    assert_eq!(
        one::Name::interner().len() + other::Name::interner().len(),
        0
    );
}

#[test]
fn all_threads_meet_in_one_interner() {
    let threads: Vec<_> = (0..3)
        .map(|_| {
            thread::spawn(|| {
                (0..50)
                    .map(|n| Interned::new(Point { x: 1000, y: n }))
                    .collect::<Vec<_>>()
            })
        })
        .collect();
    let held: Vec<_> = threads
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .collect();
    assert!(held.iter().all(|others| *others == held[0]));
}
