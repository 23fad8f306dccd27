//! Feature `serde`: handles are written as their values, and read into an interner.
//!
//! - Round trips through JSON of every type of value, alone and in structs, maps and sequences, give the one
//!   instance.
//! - An interner, and nothing global, is read into as a `DeserializeSeed`.
//! - What doesn't fit gives an error that says so, and interns nothing.
//! - A string that is there already is found where it lies: nothing is allocated.
#![cfg(feature = "serde")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fmt::{self, Debug};
use std::marker::PhantomData;
use std::path::Path;

use hapax::{Global, Internable, Interned, Interner, global_interner};
use serde::Serialize;
use serde::de::{Deserialize, DeserializeOwned, DeserializeSeed, Deserializer, SeqAccess, Visitor};
use serde_json::{from_str, json, to_string};

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, serde::Deserialize)]
struct Point {
    x: i32,
    y: i32,
}

global_interner!(Point);

/// Written as `text`, and read back as the same instance.
fn round_trip<T>(handle: &Interned<T>, text: &str)
where
    T: ?Sized + Internable + Serialize + Debug,
    Interned<T>: DeserializeOwned,
{
    assert_eq!(to_string(handle).unwrap(), text);
    assert_eq!(to_string(handle).unwrap(), to_string(&**handle).unwrap());
    let tree = serde_json::to_value(handle).unwrap();
    let back: [Interned<T>; 3] = [
        from_str(text).unwrap(),
        // From a reader, which lends nothing, and from owned parts.
        serde_json::from_reader(text.as_bytes()).unwrap(),
        serde_json::from_value(tree).unwrap(),
    ];
    for back in &back {
        assert_eq!(back, handle, "the one instance");
    }
    assert_eq!(Interned::ref_count(handle), 1 + back.len());
}

#[test]
fn every_type_makes_the_round_trip() {
    round_trip(&Interned::<str>::new("alpha"), "\"alpha\"");
    round_trip(&Interned::<str>::new(""), "\"\"");
    round_trip(&Interned::<str>::new("\"ä\n\u{0}"), r#""\"ä\n\u0000""#);
    round_trip(&Interned::<[u8]>::new([1, 2, 255]), "[1,2,255]");
    round_trip(&Interned::<[u8]>::new([]), "[]");
    round_trip(&Interned::<Path>::new(Path::new("/a b/ä")), "\"/a b/ä\"");
    round_trip(&Interned::new(Point { x: 1, y: -2 }), r#"{"x":1,"y":-2}"#);
}

#[test]
#[cfg(unix)]
fn os_strings_make_the_round_trip() {
    use std::os::unix::ffi::OsStrExt;
    round_trip(
        &Interned::<OsStr>::new(OsStr::new("ab")),
        r#"{"Unix":[97,98]}"#,
    );
    // One that isn't UTF-8 too: it is written as bytes.
    round_trip(
        &Interned::<OsStr>::new(OsStr::from_bytes(b"\xff\x00")),
        r#"{"Unix":[255,0]}"#,
    );
}

#[test]
#[cfg(unix)]
fn a_path_that_is_not_utf8_is_an_error_that_says_so() {
    use std::os::unix::ffi::OsStrExt;
    let path = Interned::<Path>::new(Path::new(OsStr::from_bytes(b"/a/\xff")));
    let message = to_string(&path).unwrap_err().to_string();
    assert!(
        message.contains("path") && message.contains("UTF-8"),
        "{message}"
    );
}

// Nested.

#[derive(Debug, PartialEq, Serialize, serde::Deserialize)]
struct Document {
    title: Interned<str>,
    author: Option<Interned<str>>,
    words: Vec<Interned<str>>,
    places: BTreeMap<Interned<str>, Interned<Point>>,
    files: HashMap<Interned<str>, File>,
    root: Interned<Tree>,
}

type File = (Interned<Path>, Interned<[u8]>);

/// Owns handles of its own type.
#[derive(Debug, PartialEq, Eq, Hash, Serialize, serde::Deserialize)]
struct Tree {
    name: Interned<str>,
    children: Vec<Interned<Tree>>,
}

global_interner!(Tree);

#[test]
fn handles_are_nested_in_anything() {
    let text = json!({
        "title": "to be",
        "author": null,
        "words": ["to", "be", "or", "not", "to", "be"],
        "places": {"here": {"x": 10, "y": 20}, "there": {"x": 10, "y": 20}},
        "files": {"to": ["/tmp/x", [1, 2]]},
        "root": {
            "name": "to",
            "children": [{"name": "be", "children": []}, {"name": "be", "children": []}],
        },
    })
    .to_string();
    let document: Document = from_str(&text).unwrap();
    assert_eq!(document.words[0], document.words[4]);
    assert_eq!(document.words[0], document.root.name);
    let (to, _) = document.files.iter().next().unwrap();
    assert_eq!(*to, document.words[0]);
    let places: Vec<_> = document.places.values().collect();
    assert!(Interned::ptr_eq(places[0], places[1]));
    assert!(Interned::ptr_eq(
        &document.root.children[0],
        &document.root.children[1]
    ));
    assert_eq!(document.author, None);
    let again: Document = from_str(&to_string(&document).unwrap()).unwrap();
    assert_eq!(again, document, "equality of handles is identity");
    drop((document, again));
    assert_eq!(Tree::interner().len(), 0);
}

// Into a given interner.

/// Reads a sequence with one seed for all its elements.
struct Each<'a, T: ?Sized + Internable>(&'a Interner<T>);

impl<'a, 'de, T> DeserializeSeed<'de> for Each<'a, T>
where
    T: ?Sized + Internable,
    &'a Interner<T>: DeserializeSeed<'de, Value = Interned<T>>,
{
    type Value = Vec<Interned<T>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        struct Elements<'a, T: ?Sized + Internable>(&'a Interner<T>, PhantomData<T>);
        impl<'a, 'de, T> Visitor<'de> for Elements<'a, T>
        where
            T: ?Sized + Internable,
            &'a Interner<T>: DeserializeSeed<'de, Value = Interned<T>>,
        {
            type Value = Vec<Interned<T>>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a sequence")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut elements = Vec::new();
                while let Some(element) = seq.next_element_seed(self.0)? {
                    elements.push(element);
                }
                Ok(elements)
            }
        }
        deserializer.deserialize_seq(Elements(self.0, PhantomData))
    }
}

/// Reads `text` with a seed, to its end.
fn read<'de, S: DeserializeSeed<'de>>(seed: S, text: &'de str) -> serde_json::Result<S::Value> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = seed.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

#[test]
fn an_interner_is_a_seed() {
    let names = Interner::<str>::new();
    let alpha = read(&names, "\"seed alpha\"").unwrap();
    assert_eq!(names.get("seed alpha").as_ref(), Some(&alpha));
    // Nothing went elsewhere.
    assert_eq!(str::interner().get("seed alpha"), None);
    let list = read(Each(&names), r#"["seed alpha", "b", "\u0062"]"#).unwrap();
    assert_eq!((&list[0], names.len()), (&alpha, 2));
    assert_eq!(list[1], list[2]);

    let points = Interner::<Point>::new();
    let list = read(Each(&points), r#"[{"x":7,"y":8},{"y":8,"x":7}]"#).unwrap();
    assert_eq!((list[0] == list[1], points.len()), (true, 1));
    assert_eq!(Point::interner().get(&Point { x: 7, y: 8 }), None);

    let bytes = Interner::<[u8]>::new();
    assert_eq!(read(&bytes, "[7, 8]").unwrap(), bytes.intern([7, 8]));
    let lists = Interner::<[Point]>::new();
    let list = read(&lists, r#"[{"x":7,"y":8},{"y":8,"x":7}]"#).unwrap();
    assert_eq!(
        (
            list.len(),
            list == lists.intern(vec![Point { x: 7, y: 8 }; 2])
        ),
        (2, true)
    );
    let paths = Interner::<Path>::new();
    assert_eq!(
        read(&paths, "\"/seed\"").unwrap(),
        paths.intern(Path::new("/seed"))
    );
    let strings = Interner::<OsStr>::new();
    let text = to_string(OsStr::new("seed")).unwrap();
    assert_eq!(
        read(&strings, &text).unwrap(),
        strings.intern(OsStr::new("seed"))
    );
}

#[test]
fn an_interner_with_another_hasher_is_a_seed() {
    type Other = std::hash::RandomState;
    let names = Interner::<str, Other>::default();
    assert_eq!(read(&names, "\"a\"").unwrap(), names.intern("a"));
    let points = Interner::<Point, Other>::default();
    let point = read(&points, r#"{"x":1,"y":1}"#).unwrap();
    assert_eq!(point, points.intern(Point { x: 1, y: 1 }));
    let bytes = Interner::<[u8], Other>::default();
    assert_eq!(read(&bytes, "[1]").unwrap(), bytes.intern([1]));
}

/// A sized value may borrow from what is read.
#[test]
fn values_borrow_from_the_text() {
    let text = String::from(r#"["a", "b", "a"]"#);
    let words = Interner::<&str>::new();
    let list = read(Each(&words), &text).unwrap();
    assert_eq!((list[0] == list[2], words.len()), (true, 2));
    assert!(text.as_bytes().as_ptr_range().contains(&list[1].as_ptr()));
}

// Errors.

#[test]
fn what_does_not_fit_is_an_error_that_says_so() {
    fn error<'de, T: ?Sized + Internable>(text: &'de str) -> String
    where
        Interned<T>: Deserialize<'de> + Debug,
    {
        from_str::<Interned<T>>(text).unwrap_err().to_string()
    }
    for (message, parts) in [
        (error::<str>("7"), ["integer `7`", "expected a string"]),
        (error::<str>("null"), ["null", "expected a string"]),
        (error::<str>("[\"a\"]"), ["sequence", "expected a string"]),
        (error::<[u8]>("7"), ["integer `7`", "expected a sequence"]),
        (
            error::<[u8]>("\"a\""),
            ["string \"a\"", "expected a sequence"],
        ),
        (error::<[u8]>("[1, 256]"), ["integer `256`", "expected u8"]),
        (error::<[u8]>("[1, \"a\"]"), ["string \"a\"", "expected u8"]),
        (error::<Path>("{}"), ["map", "expected path string"]),
        (error::<OsStr>("\"a\""), ["unknown variant `a`", "Unix"]),
        (error::<Point>(r#"{"x":1}"#), ["missing field", "`y`"]),
        (error::<Point>("[1,2,3]"), ["trailing characters", "line 1"]),
        (error::<str>("\"a"), ["EOF", "string"]),
    ] {
        assert!(
            parts.iter().all(|part| message.contains(part)),
            "{message}: {parts:?}"
        );
    }
}

#[test]
fn what_fails_leaves_nothing() {
    let names = Interner::<str>::new();
    assert!(read(Each(&names), r#"["a", "b", 7]"#).is_err());
    assert!(read(&names, "\"a\" and more").is_err());
    let bytes = Interner::<[u8]>::new();
    assert!(read(&bytes, "[1, 2, -1]").is_err());
    let points = Interner::<Point>::new();
    assert!(read(&points, r#"{"x":1,"y":"2"}"#).is_err());
    assert_eq!((names.len(), bytes.len(), points.len()), (0, 0, 0));
}

// Allocations.

struct Counting;

thread_local! { static ALLOCATIONS: Cell<usize> = const { Cell::new(0) } }

fn count() {
    ALLOCATIONS.set(ALLOCATIONS.get() + 1);
}

// SAFETY: everything is the system allocator's; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as for the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as for the caller.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as for the caller.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as for the caller.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often this thread allocates in a call.
fn allocations<R>(f: impl FnOnce() -> R) -> (R, usize) {
    let before = ALLOCATIONS.get();
    let result = f();
    (result, ALLOCATIONS.get() - before)
}

#[test]
fn a_string_that_is_there_is_read_without_an_allocation() {
    let names = Interner::<str>::new();
    let local = names.intern("hit");
    let global = Interned::<str>::new("hit");
    let read_local = || read(&names, "\"hit\"").unwrap();
    let read_global = || from_str::<Interned<str>>("\"hit\"").unwrap();
    // The first use of a thread allocates.
    drop((read_local(), read_global()));
    for _ in 0..3 {
        assert_eq!(allocations(read_local), (local.clone(), 0));
        assert_eq!(allocations(read_global), (global.clone(), 0));
    }
    // The counter counts: a miss is one allocation, for the entry.
    let (miss, count) = allocations(|| read(&names, "\"miss\"").unwrap());
    assert_eq!((&*miss, count), ("miss", 1));
    assert_eq!(allocations(|| from_str::<String>("\"hit\"").unwrap()).1, 1);
}
