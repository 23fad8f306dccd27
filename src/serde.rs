//! Feature `serde`: handles are serialised as their values, and deserialised into an interner.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::path::{Path, PathBuf};

use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};
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
deserialize!([u8], |interner, deserializer| deserializer
    .deserialize_bytes(BytesVisitor(interner)));
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

/// As `StrVisitor`; formats without bytes have them as sequences of numbers.
struct BytesVisitor<'a, S>(&'a Interner<[u8], S>);

impl<'de, S: BuildHasher> Visitor<'de> for BytesVisitor<'_, S> {
    type Value = Interned<[u8]>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_bytes<E: Error>(self, value: &[u8]) -> Result<Interned<[u8]>, E> {
        Ok(self.0.intern(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Interned<[u8]>, E> {
        Ok(self.0.intern(value.as_bytes()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut bytes: A) -> Result<Interned<[u8]>, A::Error> {
        let mut collected = Vec::new();
        while let Some(byte) = bytes.next_element::<u8>()? {
            collected.push(byte);
        }
        Ok(self.0.intern(collected))
    }
}
