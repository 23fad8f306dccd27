//! Feature `serde`: handles are serialised as their values, and deserialised into an interner.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::path::{Path, PathBuf};

use serde::de::{DeserializeSeed, Deserializer, Error, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::{Global, Internable, Interned, Interner};

/// As the value. A [`Path`] that isn't UTF-8 is an error that says so, as it is in serde itself.
impl<T: ?Sized + Internable + Serialize> Serialize for Interned<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (**self).serialize(serializer)
    }
}

/// Through the type's [global](Global) interner. For another interner use that as a `DeserializeSeed`.
impl<'de, T: Global + Deserialize<'de>> Deserialize<'de> for Interned<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::interner().deserialize(deserializer)
    }
}

/// Interns what is deserialised.
impl<'de, T, S> DeserializeSeed<'de> for &Interner<T, S>
where
    T: Internable + Hash + Eq + Deserialize<'de>,
    S: BuildHasher,
{
    type Value = Interned<T>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Interned<T>, D::Error> {
        T::deserialize(deserializer).map(|value| self.intern(value))
    }
}

/// Through the slice type's [global](Global) interner.
impl<'de, U> Deserialize<'de> for Interned<[U]>
where
    [U]: Global,
    U: Hash + Eq + Deserialize<'de>,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <[U]>::interner().deserialize(deserializer)
    }
}

/// As a sequence, which is how slices are serialised, bytes too.
impl<'de, U, S> DeserializeSeed<'de> for &Interner<[U], S>
where
    U: Hash + Eq + Deserialize<'de>,
    S: BuildHasher,
{
    type Value = Interned<[U]>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Interned<[U]>, D::Error> {
        Vec::deserialize(deserializer).map(|values| self.intern(values))
    }
}

/// Both ways of deserialising a type without a size, by one method of the deserializer and a visitor.
macro_rules! deserialize {
    ($type:ty, |$interner:ident, $deserializer:ident| $deserialize:expr) => {
        impl<'de, S: BuildHasher> DeserializeSeed<'de> for &Interner<$type, S> {
            type Value = Interned<$type>;

            fn deserialize<D: Deserializer<'de>>(
                self,
                $deserializer: D,
            ) -> Result<Interned<$type>, D::Error> {
                let $interner = self;
                $deserialize
            }
        }

        impl<'de> Deserialize<'de> for Interned<$type> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                <$type as Global>::interner().deserialize(deserializer)
            }
        }
    };
}

deserialize!(str, |interner, deserializer| deserializer
    .deserialize_str(StrVisitor(interner)));
deserialize!(Path, |interner, deserializer| {
    PathBuf::deserialize(deserializer).map(|path| interner.intern(path))
});
deserialize!(OsStr, |interner, deserializer| {
    OsString::deserialize(deserializer).map(|string| interner.intern(string))
});

/// Looks strings up where they lie, so that a hit allocates nothing.
struct StrVisitor<'a, S>(&'a Interner<str, S>);

impl<S: BuildHasher> Visitor<'_> for StrVisitor<'_, S> {
    type Value = Interned<str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Interned<str>, E> {
        Ok(self.0.intern(value))
    }
}
