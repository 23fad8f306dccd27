//! Values that are interned, in every form in which they can be handed in; and the hashers.

use std::borrow::{Borrow, Cow};
use std::collections::hash_map::DefaultHasher;
use std::fmt::Debug;
use std::hash::{BuildHasher, Hash, Hasher};
use std::rc::Rc;
use std::sync::Arc;

use equivalent::Equivalent;
use hapax::{Intern, Internable, Interned, Interner, Pinned, WeakInterned};

use super::common::{Census, Counted};
use super::hand::{Handle, Name, Strong};

/// A hasher without a random seed, so that a program does the same each time. It may be a poor one.
#[derive(Clone, Copy, Debug)]
pub struct Hashing {
    mask: u64,
}

impl Hashing {
    pub fn new(choice: u8) -> Self {
        let mask = match choice % 5 {
            0 | 1 => !0,
            // A few hashes, close together in the list, or apart.
            2 => 3,
            3 => 3 << 62,
            _ => 0,
        };
        Self { mask }
    }

    /// Whether most hashes collide.
    pub fn is_poor(self) -> bool {
        self.mask != !0
    }
}

impl BuildHasher for Hashing {
    type Hasher = Masked;

    fn build_hasher(&self) -> Masked {
        Masked {
            inner: DefaultHasher::new(),
            mask: self.mask,
        }
    }
}

#[derive(Debug)]
pub struct Masked {
    inner: DefaultHasher,
    mask: u64,
}

impl Hasher for Masked {
    fn write(&mut self, bytes: &[u8]) {
        self.inner.write(bytes);
    }

    fn finish(&self) -> u64 {
        self.inner.finish() & self.mask
    }
}

/// Where calls go: to an interner, or to a session on it.
pub enum Door<'a, T: ?Sized + Internable> {
    Plain(&'a Interner<T, Hashing>),
    Pinned(Pinned<'a, T, Hashing>),
}

impl<T: ?Sized + Internable + Hash + Eq> Door<'_, T> {
    pub fn interner(&self) -> &Interner<T, Hashing> {
        match self {
            Self::Plain(interner) => interner,
            Self::Pinned(pinned) => pinned.interner(),
        }
    }

    fn intern<Q: Intern<T>>(&self, hash: Option<u64>, value: Q) -> Interned<T> {
        match (self, hash) {
            (Self::Plain(interner), None) => interner.intern(value),
            (Self::Plain(interner), Some(hash)) => interner.intern_hashed(hash, value),
            (Self::Pinned(pinned), None) => pinned.intern(value),
            (Self::Pinned(pinned), Some(hash)) => pinned.intern_hashed(hash, value),
        }
    }

    fn intern_with<Q, V>(&self, key: &Q, build: impl FnOnce(&Q) -> V) -> Interned<T>
    where
        Q: ?Sized + Hash + Equivalent<T>,
        V: Intern<T>,
    {
        match self {
            Self::Plain(interner) => interner.intern_with(key, build),
            Self::Pinned(pinned) => pinned.intern_with(key, build),
        }
    }

    fn get<Q>(&self, hash: Option<u64>, key: &Q) -> Option<Interned<T>>
    where
        Q: ?Sized + Hash + Equivalent<T>,
    {
        match (self, hash) {
            (Self::Plain(interner), None) => interner.get(key),
            (Self::Plain(interner), Some(hash)) => interner.get_hashed(hash, key),
            (Self::Pinned(pinned), None) => pinned.get(key),
            (Self::Pinned(pinned), Some(hash)) => pinned.get_hashed(hash, key),
        }
    }
}

/// A value to be interned.
pub struct Order<'a, T: ?Sized + Subject> {
    pub key: u64,
    /// In which form it is handed in.
    pub form: u8,
    /// The hash to intern it under; its own if there is none.
    pub hash: Option<u64>,
    /// A handle for the value to own, if such values do.
    pub inner: Option<Strong<Interned<T>>>,
    pub census: &'a Arc<Census>,
}

/// A type of values.
pub trait Subject: Internable + Hash + Eq + Debug + Send + Sync + 'static {
    /// Different keys may stand for one value.
    fn normal(key: u64) -> u64 {
        key
    }

    fn key(&self) -> u64;
    fn assert_alive(&self) {}
    /// How many counted values this is made of.
    fn population(&self) -> usize;
    fn serial(&self) -> Option<u64> {
        None
    }
    fn inner(&self) -> Option<&Strong<Interned<Self>>> {
        None
    }

    fn intern(door: &Door<'_, Self>, order: Order<'_, Self>) -> Interned<Self>;
    /// Hands in a handle.
    fn intern_handle(door: &Door<'_, Self>, handle: &Interned<Self>) -> Interned<Self>;
    fn get(
        door: &Door<'_, Self>,
        hash: Option<u64>,
        key: u64,
        census: &Arc<Census>,
    ) -> Option<Interned<Self>>;
    fn hash_of(interner: &Interner<Self, Hashing>, key: u64, census: &Arc<Census>) -> u64;
    /// Whether values can be moved out.
    const MOVES: bool = false;
    /// Moves the value out and drops it, if that is possible.
    fn try_unwrap(handle: Interned<Self>) -> Result<(), Interned<Self>> {
        Err(handle)
    }
}

impl<T: ?Sized + Subject> Handle for Interned<T> {
    type Weak = WeakInterned<T>;

    fn name(&self) -> Name {
        (Self::hash_value(self), self.key())
    }

    fn address(&self) -> usize {
        Self::as_ptr(self).cast::<()>().addr()
    }

    fn assert_alive(&self) {
        T::assert_alive(self);
    }

    fn count(&self) -> usize {
        Self::ref_count(self)
    }

    fn inner(&self) -> Option<&Strong<Self>> {
        T::inner(self)
    }

    fn downgrade(&self) -> WeakInterned<T> {
        Self::downgrade(self)
    }

    fn downgrade_with(&self, callback: impl FnOnce() + Send + 'static) -> WeakInterned<T> {
        Self::downgrade_with(self, callback)
    }

    fn upgrade(weak: &WeakInterned<T>) -> Option<Self> {
        weak.upgrade()
    }

    fn strong_count(weak: &WeakInterned<T>) -> usize {
        weak.strong_count()
    }

    fn same(weak: &WeakInterned<T>, other: &WeakInterned<T>) -> bool {
        weak.ptr_eq(other)
    }
}

/// Texts of this key are so long that their memory doesn't wait in a batch.
const LONG: u64 = 15;

fn text(key: u64) -> String {
    let padding = if key == LONG { 9000 } else { 0 };
    format!("{key:x}{:padding$}", "")
}

impl Subject for str {
    fn key(&self) -> u64 {
        let (key, _padding) = self.split_once(' ').unwrap_or((self, ""));
        u64::from_str_radix(key, 16).expect("a text is its key")
    }

    fn assert_alive(&self) {
        assert_eq!(text(self.key()), self);
    }

    fn population(&self) -> usize {
        0
    }

    #[expect(
        clippy::needless_borrows_for_generic_args,
        reason = "a borrowed form is another form"
    )]
    fn intern(door: &Door<'_, str>, order: Order<'_, str>) -> Interned<str> {
        let (text, hash) = (text(order.key), order.hash);
        match order.form % 12 {
            0 => door.intern(hash, text),
            1 => door.intern(hash, &*text),
            2 => door.intern(hash, &text),
            3 => door.intern(hash, &&*text),
            4 => door.intern(hash, text.into_boxed_str()),
            5 => door.intern(hash, Rc::<str>::from(text)),
            6 => door.intern(hash, Arc::<str>::from(text)),
            7 => door.intern(hash, Cow::Borrowed(&*text)),
            8 => door.intern(hash, Cow::<str>::Owned(text)),
            9 => door.intern(hash, &Cow::Borrowed(&*text)),
            10 if hash.is_none() => door.intern_with(&*text, str::to_owned),
            11 if hash.is_none() => door.intern_with(&*text, |text| Box::<str>::from(text)),
            _ => door.intern(hash, &text),
        }
    }

    fn intern_handle(door: &Door<'_, str>, handle: &Interned<str>) -> Interned<str> {
        door.intern(None, handle)
    }

    fn get(
        door: &Door<'_, str>,
        hash: Option<u64>,
        key: u64,
        _: &Arc<Census>,
    ) -> Option<Interned<str>> {
        door.get(hash, &*text(key))
    }

    fn hash_of(interner: &Interner<str, Hashing>, key: u64, _: &Arc<Census>) -> u64 {
        interner.hash_of(&*text(key))
    }
}

/// A sized value, which may own a handle of its own kind.
#[derive(Clone, Debug)]
pub struct Value {
    counted: Counted,
    inner: Option<Strong<Interned<Value>>>,
}

impl Value {
    fn new(key: u64, census: &Arc<Census>) -> Self {
        Self {
            counted: Counted::new(key, census),
            inner: None,
        }
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.counted == other.counted
    }
}

impl Eq for Value {}

impl Hash for Value {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.counted.hash(state);
    }
}

impl Borrow<u64> for Value {
    fn borrow(&self) -> &u64 {
        &self.counted.key
    }
}

impl Subject for Value {
    fn key(&self) -> u64 {
        self.counted.key
    }

    fn assert_alive(&self) {
        self.counted.assert_alive();
    }

    fn population(&self) -> usize {
        1
    }

    fn serial(&self) -> Option<u64> {
        Some(self.counted.serial)
    }

    fn inner(&self) -> Option<&Strong<Interned<Self>>> {
        self.inner.as_ref()
    }

    fn intern(door: &Door<'_, Value>, order: Order<'_, Value>) -> Interned<Value> {
        let mut value = Value::new(order.key, order.census);
        value.inner = order.inner;
        match order.form % 4 {
            0 | 1 => door.intern(order.hash, value),
            2 if order.hash.is_none() => door.intern_with(&order.key, |_| value),
            _ => door.intern(order.hash, &value),
        }
    }

    fn intern_handle(door: &Door<'_, Value>, handle: &Interned<Value>) -> Interned<Value> {
        door.intern(None, handle)
    }

    fn get(
        door: &Door<'_, Value>,
        hash: Option<u64>,
        key: u64,
        _: &Arc<Census>,
    ) -> Option<Interned<Value>> {
        door.get(hash, &key)
    }

    fn hash_of(interner: &Interner<Value, Hashing>, key: u64, _: &Arc<Census>) -> u64 {
        interner.hash_of(&key)
    }

    const MOVES: bool = true;

    fn try_unwrap(handle: Interned<Value>) -> Result<(), Interned<Value>> {
        Interned::try_unwrap(handle).map(|value| value.assert_alive())
    }
}

/// A slice of up to three values; how many depends on its key.
fn slice(key: u64, census: &Arc<Census>) -> Vec<Counted> {
    (0..key % 4)
        .map(|offset| Counted::new(key + offset, census))
        .collect()
}

impl Subject for [Counted] {
    fn normal(key: u64) -> u64 {
        if key.is_multiple_of(4) { 0 } else { key }
    }

    fn key(&self) -> u64 {
        self.first().map_or(0, |first| first.key)
    }

    fn assert_alive(&self) {
        self.iter().for_each(Counted::assert_alive);
    }

    fn population(&self) -> usize {
        self.len()
    }

    fn intern(door: &Door<'_, [Counted]>, order: Order<'_, [Counted]>) -> Interned<[Counted]> {
        let (values, hash) = (slice(order.key, order.census), order.hash);
        match order.form % 8 {
            0 | 1 => door.intern(hash, values),
            2 => door.intern(hash, &values),
            3 => door.intern(hash, &*values),
            4 => door.intern(hash, values.into_boxed_slice()),
            5 if hash.is_none() => door.intern_with(&*values, <[Counted]>::to_vec),
            form => match <[Counted; 2]>::try_from(values) {
                Ok(array) if form == 6 => door.intern(hash, &array),
                Ok(array) => door.intern(hash, array),
                Err(values) => door.intern(hash, values),
            },
        }
    }

    fn intern_handle(
        door: &Door<'_, [Counted]>,
        handle: &Interned<[Counted]>,
    ) -> Interned<[Counted]> {
        door.intern(None, handle)
    }

    fn get(
        door: &Door<'_, [Counted]>,
        hash: Option<u64>,
        key: u64,
        census: &Arc<Census>,
    ) -> Option<Interned<[Counted]>> {
        door.get(hash, &*slice(key, census))
    }

    fn hash_of(interner: &Interner<[Counted], Hashing>, key: u64, census: &Arc<Census>) -> u64 {
        interner.hash_of(&*slice(key, census))
    }
}
