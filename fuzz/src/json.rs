//! Texts that are deserialised into handles.
//!
//! For each type of handle there is a twin with boxes in the place of handles. Both accept the same texts, with the
//! same error messages, come to equal values, and are written as the same text. What equal handles were read from is
//! one value. When all is dropped, nothing is left in the global interners, and neither after an error.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fmt::Debug;
use std::hash::Hash;
use std::path::Path;
use std::sync::Mutex;

use hapax::{Global, Internable, Interned, Interner, global_interner};
use serde::de::{DeserializeOwned, DeserializeSeed};
use serde::{Deserialize, Serialize};

use super::program::lock;

/// The same types, with one pointer or another.
macro_rules! shapes {
    ($name:ident, $pointer:ident) => {
        mod $name {
            use super::*;

            #[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
            pub struct Point {
                x: i32,
                y: Option<u8>,
            }

            /// Owns pointers to its own type.
            #[derive(Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
            pub struct Tree {
                n: $pointer<str>,
                #[serde(default)]
                c: Vec<$pointer<Tree>>,
            }

            #[derive(Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
            pub enum Choice {
                Word($pointer<str>),
                Pair($pointer<[u8]>, $pointer<Point>),
                Named { path: $pointer<Path> },
                Nothing,
            }

            #[derive(Debug, PartialEq, Serialize, Deserialize)]
            pub struct Document {
                t: $pointer<str>,
                #[serde(default)]
                a: Option<$pointer<str>>,
                #[serde(default)]
                w: Vec<$pointer<str>>,
                #[serde(default)]
                p: BTreeMap<$pointer<str>, $pointer<Point>>,
                #[serde(default)]
                f: HashMap<$pointer<str>, ($pointer<Path>, $pointer<[u8]>)>,
                #[serde(default)]
                r: Option<$pointer<Tree>>,
                #[serde(default)]
                e: Vec<Choice>,
                #[serde(flatten)]
                more: BTreeMap<String, $pointer<str>>,
            }
        }
    };
}

shapes!(shared, Interned);
shapes!(plain, Box);

global_interner!(shared::Point);
global_interner!(shared::Tree);

/// The global interners belong to the whole process; their lengths can be compared by one thread only.
static ALONE: Mutex<()> = Mutex::new(());

fn lengths() -> [usize; 6] {
    [
        str::interner().len(),
        <[u8]>::interner().len(),
        Path::interner().len(),
        OsStr::interner().len(),
        shared::Point::interner().len(),
        shared::Tree::interner().len(),
    ]
}

/// Reads a text in all ways.
pub fn run(text: &[u8]) {
    let _alone = lock(&ALONE);
    let before = lengths();
    handle::<str>(text);
    handle::<[u8]>(text);
    handle::<Path>(text);
    handle::<OsStr>(text);
    compare::<Interned<shared::Point>, Box<plain::Point>>(text);
    compare::<Interned<shared::Tree>, Box<plain::Tree>>(text);
    compare::<shared::Choice, plain::Choice>(text);
    compare::<shared::Document, plain::Document>(text);
    compare::<Vec<Interned<str>>, Vec<Box<str>>>(text);
    compare::<HashMap<Interned<Path>, Interned<[u8]>>, HashMap<Box<Path>, Box<[u8]>>>(text);
    assert_eq!(lengths(), before, "what is left in the global interners");
    seeds(text);
    assert_eq!(lengths(), before, "what a seed has put there");
}

/// A handle of one value: its text, and the value itself.
fn handle<T>(text: &[u8])
where
    T: ?Sized + Global + Serialize + Debug,
    Interned<T>: DeserializeOwned + Serialize,
    Box<T>: DeserializeOwned,
{
    compare::<Interned<T>, Box<T>>(text);
    let (Ok(handle), Ok(value)) = (
        serde_json::from_slice::<Interned<T>>(text),
        serde_json::from_slice::<Box<T>>(text),
    ) else {
        return;
    };
    assert_eq!(*handle, *value);
    assert_eq!(T::interner().get(&*value), Some(handle), "the one instance");
}

/// Two types that differ in their pointers only.
fn compare<T, Twin>(text: &[u8])
where
    T: DeserializeOwned + Serialize + PartialEq + Debug,
    Twin: DeserializeOwned + Serialize + PartialEq + Debug,
{
    let twin = serde_json::from_slice::<Twin>(text);
    let value = match serde_json::from_slice::<T>(text) {
        Ok(value) => value,
        Err(error) => {
            let expected = twin.expect_err("the twin is an error too");
            assert_eq!(error.to_string(), expected.to_string());
            return;
        }
    };
    let twin = twin.expect("the twin can be read too");
    // From a reader, which lends nothing.
    let again: T = serde_json::from_reader(text).expect("what was read is read again");
    // Handles are compared by address.
    assert_eq!(value, again, "the same instances");
    // As trees, since hash maps have no order.
    let tree = serde_json::to_value(&value).expect("what was read can be written");
    assert_eq!(tree, serde_json::to_value(&twin).expect("the twin too"));
    let written = serde_json::to_string(&value).expect("what was read can be written");
    let back: T = serde_json::from_str(&written).expect("what was written can be read");
    assert_eq!(value, back, "the same instances");
}

/// Interners of one's own, as seeds.
fn seeds(text: &[u8]) {
    seed(&Interner::<str>::new(), text);
    seed(&Interner::<[u8]>::new(), text);
    seed(&Interner::<[plain::Point]>::new(), text);
    seed(&Interner::<Path>::new(), text);
    seed(&Interner::<OsStr>::new(), text);
    seed(&Interner::<plain::Point>::new(), text);
}

fn seed<'a, T>(interner: &'a Interner<T>, text: &'a [u8])
where
    T: ?Sized + Internable + Hash + Eq,
    &'a Interner<T>: DeserializeSeed<'a, Value = Interned<T>>,
{
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let Ok(handle) = interner.deserialize(&mut deserializer) else {
        assert!(interner.is_empty(), "an error leaves a value");
        return;
    };
    assert_eq!(interner.len(), 1);
    assert!(interner.get(&*handle) == Some(handle));
    assert_eq!(interner.len(), 0);
}
