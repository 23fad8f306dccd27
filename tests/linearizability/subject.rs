//! The table under test, and what it holds: values that know their number and tell when they die.

use std::borrow::Borrow;
use std::cell::Cell;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU32, Ordering};

use hapax::{Cached, InitError, Interned, Interner, WeakCached, WeakInterned, WeakMap};

use super::common::Rng;
use super::history::{self, Build, Id};
use super::pause::pause;
use super::program::{Hashing, Key, Kind, Look};

/// What entries are found by.
#[derive(Clone, Copy, Debug, Eq)]
pub struct Name(u32);

/// Names from here on belong to no key.
const OTHERS: u32 = 1 << 16;

impl From<Key> for Name {
    fn from(key: Key) -> Self {
        Self(key.0)
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        pause();
        self.0 == other.0
    }
}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u32(self.0);
    }
}

/// The number of values that aren't followed.
const NOBODY: Id = Id(0);

#[derive(Debug)]
pub struct Value {
    name: Name,
    id: AtomicU32,
}

impl Value {
    fn new(name: Name, id: Id) -> Self {
        Self {
            name,
            id: AtomicU32::new(id.0),
        }
    }

    fn id(&self) -> Id {
        Id(self.id.load(Ordering::Relaxed))
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        let id = self.id();
        if id != NOBODY {
            history::died(id);
            self.id.store(Id::DEAD.0, Ordering::Relaxed);
            pause();
        }
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Value {}

impl Hash for Value {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl Borrow<Name> for Value {
    fn borrow(&self) -> &Name {
        &self.name
    }
}

/// Puts the keys where the program wants them.
impl BuildHasher for Hashing {
    type Hasher = NameHasher;

    fn build_hasher(&self) -> NameHasher {
        NameHasher {
            hashing: *self,
            hash: 0,
        }
    }
}

pub struct NameHasher {
    hashing: Hashing,
    hash: u64,
}

/// The inverse of what the table multiplies hashes by. If that changes, neighbours are merely spread.
const UNSPREAD: u64 = 0xf1de_83e1_9937_733d;

impl Hasher for NameHasher {
    fn write(&mut self, _: &[u8]) {
        unreachable!("names are integers")
    }

    fn write_u32(&mut self, name: u32) {
        let order = 5 << 60;
        self.hash = match self.hashing {
            Hashing::Equal if name < OTHERS => order,
            Hashing::Neighbours if name < OTHERS => {
                (order + u64::from(name)).wrapping_mul(UNSPREAD)
            }
            _ => Rng(u64::from(name)).next(),
        };
    }

    fn finish(&self) -> u64 {
        self.hash
    }
}

/// A value that a call may need, and what became of it.
#[derive(Debug)]
pub struct Own {
    name: Name,
    id: Id,
    made: Cell<bool>,
    build: Cell<Option<Build>>,
}

impl Own {
    pub fn new(name: Name, id: Id) -> Self {
        Self {
            name,
            id,
            made: Cell::new(false),
            build: Cell::new(None),
        }
    }

    fn make(&self) -> Value {
        self.made.set(true);
        Value::new(self.name, self.id)
    }

    /// What `get_or_init` calls; fails if `make` does.
    fn build<R>(&self, make: impl FnOnce() -> R) -> R {
        let began = history::tick();
        pause();
        let result = make();
        let ending = history::now();
        self.build.set(Some(Build { began, ending }));
        result
    }

    /// The instance, if it was made.
    pub fn id(&self) -> Option<Id> {
        self.made.get().then_some(self.id)
    }

    pub fn built(&self) -> Option<Build> {
        self.build.get()
    }
}

/// What a call by a key has answered.
pub enum Looked {
    Found(Handle),
    Nothing,
    Failed,
    Deadlock,
}

impl From<Option<Handle>> for Looked {
    fn from(handle: Option<Handle>) -> Self {
        handle.map_or(Self::Nothing, Self::Found)
    }
}

impl<E> From<Result<Handle, InitError<E>>> for Looked {
    fn from(result: Result<Handle, InitError<E>>) -> Self {
        match result {
            Ok(handle) => Self::Found(handle),
            Err(InitError::Deadlock) => Self::Deadlock,
            Err(_) => Self::Failed,
        }
    }
}

#[derive(Debug)]
pub enum Table {
    Interner(Interner<Value, Hashing>),
    Map(WeakMap<Name, Value, Hashing>),
}

impl Table {
    pub fn new(kind: Kind, hashing: Hashing) -> Self {
        match kind {
            Kind::Interner => Self::Interner(Interner::with_hasher(hashing)),
            Kind::Map => Self::Map(WeakMap::with_hasher(hashing)),
        }
    }

    /// A call by a key.
    pub fn look(&self, look: Look, own: &Own) -> Looked {
        match self {
            Self::Interner(interner) => Self::look_in_interner(interner, look, own),
            Self::Map(map) => Self::look_in_map(map, look, own),
        }
    }

    fn look_in_interner(interner: &Interner<Value, Hashing>, look: Look, own: &Own) -> Looked {
        let interned = match look {
            Look::Get => return interner.get(&own.name).map(Handle::Interned).into(),
            Look::Intern => interner.intern(own.make()),
            Look::InternWith => interner.intern_with(&own.name, |_| own.build(|| own.make())),
            _ => unreachable!("{look} is a map's"),
        };
        Looked::Found(Handle::Interned(interned))
    }

    fn look_in_map(map: &WeakMap<Name, Value, Hashing>, look: Look, own: &Own) -> Looked {
        let build = || own.build(|| own.make());
        let cached = match look {
            Look::Get => return map.get(&own.name).map(Handle::Cached).into(),
            Look::Remove => return map.remove(&own.name).map(Handle::Cached).into(),
            Look::GetOrInsert => map.get_or_insert(own.name, own.make()),
            Look::GetOrInsertWith => map.get_or_insert_with(own.name, |_| build()),
            Look::GetOrInit => {
                return map
                    .try_get_or_init(own.name, |_| Ok::<_, ()>(build()))
                    .map(Handle::Cached)
                    .into();
            }
            Look::FailToInit => {
                return map
                    .try_get_or_init(own.name, |_| own.build(|| Err(())))
                    .map(Handle::Cached)
                    .into();
            }
            Look::Intern | Look::InternWith => unreachable!("{look} is an interner's"),
        };
        Looked::Found(Handle::Cached(cached))
    }

    pub fn iter(&self) -> Box<dyn Iterator<Item = Handle> + '_> {
        match self {
            Self::Interner(interner) => Box::new(interner.iter().map(Handle::Interned)),
            Self::Map(map) => Box::new(map.iter().map(Handle::Cached)),
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Self::Interner(interner) => interner.len(),
            Self::Map(map) => map.len(),
        }
    }

    /// Lets so many other entries come and go. Threads have names of their own for them.
    pub fn burst(&self, thread: usize, entries: u32) {
        let first = OTHERS * (1 + thread as u32);
        let names = (first..first + entries).map(Name);
        match self {
            Self::Interner(interner) => {
                let intern = |name| interner.intern(Value::new(name, NOBODY));
                drop(names.map(intern).collect::<Vec<_>>());
            }
            Self::Map(map) => {
                let insert = |name| map.get_or_insert(name, Value::new(name, NOBODY));
                drop(names.map(insert).collect::<Vec<_>>());
            }
        }
    }
}

#[derive(Debug)]
pub enum Handle {
    Interned(Interned<Value>),
    Cached(Cached<Name, Value>),
}

impl Clone for Handle {
    fn clone(&self) -> Self {
        match self {
            Self::Interned(handle) => Self::Interned(handle.clone()),
            Self::Cached(handle) => Self::Cached(handle.clone()),
        }
    }
}

impl Handle {
    /// The number of the instance.
    pub fn id(&self) -> Id {
        match self {
            Self::Interned(handle) => handle.id(),
            Self::Cached(handle) => handle.id(),
        }
    }

    pub fn downgrade(&self) -> Weak {
        match self {
            Self::Interned(handle) => Weak::Interned(Interned::downgrade(handle)),
            Self::Cached(handle) => Weak::Cached(Cached::downgrade(handle)),
        }
    }

    /// Whether it was the only handle, so that the value could be moved out; it is dropped.
    pub fn try_unwrap(self) -> Result<Id, Self> {
        match self {
            Self::Interned(handle) => Interned::try_unwrap(handle)
                .map(|value| value.id())
                .map_err(Self::Interned),
            Self::Cached(handle) => Cached::try_unwrap(handle)
                .map(|(_, value)| value.id())
                .map_err(Self::Cached),
        }
    }
}

#[derive(Debug)]
pub enum Weak {
    Interned(WeakInterned<Value>),
    Cached(WeakCached<Name, Value>),
}

impl Weak {
    pub fn upgrade(&self) -> Option<Handle> {
        match self {
            Self::Interned(weak) => weak.upgrade().map(Handle::Interned),
            Self::Cached(weak) => weak.upgrade().map(Handle::Cached),
        }
    }
}
