//! What is interned: texts, paths, values with a size, slices, nested values. Each kind is made from a key
//! and can prove that it is what was made.

use std::borrow::{Borrow, Cow};
use std::hash::{Hash, Hasher};
use std::mem;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hapax::{Global, Intern, Internable, Interned, Interner};
use parking_lot::Mutex;

use crate::counted::Counted;
use crate::guests::Guest;
use crate::hand::{Hand, Shelf};
use crate::verdict::check;

/// In how many ways a value can be handed in, at most.
pub(crate) const FORMS: usize = 5;

/// Keys from this one on come in bursts.
pub(crate) const BURST_KEYS: u64 = 1 << 31;

/// Handles on their way from one thread to another.
pub(crate) type Exchange<T> = Mutex<Vec<Interned<T>>>;

/// A type of value that is interned.
pub(crate) trait Kind: Internable + Hash + Eq + Send + Sync + 'static {
    type Owned: Intern<Self> + Send;
    type Home: Deref<Target = Interner<Self>>;

    /// The interner that all threads share.
    fn shared() -> &'static Interner<Self>;

    fn exchange() -> &'static Exchange<Self>;

    /// An interner for the next operation, and what is added to its keys.
    fn home(hand: &mut Hand) -> (Self::Home, u64);

    fn shelf(hand: &mut Hand) -> &mut Shelf<Self>;

    fn make(key: u64) -> Self::Owned;

    /// Interns the value of a key, handed in one way or another.
    fn intern(home: &Interner<Self>, key: u64, form: usize) -> Interned<Self>;

    /// The key. Looks at the whole value and doesn't return if that isn't what was made.
    fn key(&self) -> u64;

    /// What tells the values of a key apart, as far as they can be told.
    fn mark(&self) -> u64 {
        self.key()
    }

    /// What a drop hook does.
    fn meet_hook(&self) {
        self.key();
    }
}

/// Lets go of what is on its way between threads. Drop hooks may send more.
pub(crate) fn drain_exchanges() {
    fn drain<T: Kind + ?Sized>() -> bool {
        // Nothing is dropped under the lock.
        let handles = mem::take(&mut *T::exchange().lock());
        !handles.is_empty()
    }
    let kinds = [
        drain::<str>,
        drain::<Path>,
        drain::<Counted>,
        drain::<[Counted]>,
        drain::<Term>,
    ];
    while kinds.iter().filter(|drain| drain()).count() > 0 {}
}

/// The text of a key: sixteen digits, again and again; now and then more than a page.
fn text(key: u64) -> String {
    let times = if key % 257 == 256 { 600 } else { 1 + key % 4 };
    format!("{key:016x}").repeat(times as usize)
}

fn key_of_text(text: &str) -> u64 {
    let digits = text.get(..16).unwrap_or_default();
    let key = u64::from_str_radix(digits, 16);
    let whole = key.is_ok()
        && text
            .as_bytes()
            .chunks(16)
            .all(|part| part == digits.as_bytes());
    check!(whole, "a text has become {text:?}");
    key.unwrap_or_default()
}

impl Kind for str {
    type Owned = String;
    type Home = &'static Interner<str>;

    fn shared() -> &'static Interner<str> {
        <str as Global>::interner()
    }

    fn exchange() -> &'static Exchange<str> {
        static EXCHANGE: Exchange<str> = Mutex::new(Vec::new());
        &EXCHANGE
    }

    fn home(_: &mut Hand) -> (Self::Home, u64) {
        (Self::shared(), 0)
    }

    fn shelf(hand: &mut Hand) -> &mut Shelf<str> {
        &mut hand.names
    }

    fn make(key: u64) -> String {
        text(key)
    }

    fn intern(home: &Interner<str>, key: u64, form: usize) -> Interned<str> {
        let text = text(key);
        match form {
            0 => home.intern(&*text),
            1 => home.intern(text),
            2 => home.intern(text.into_boxed_str()),
            3 => home.intern(Cow::from(text)),
            _ => Interned::new(text),
        }
    }

    fn key(&self) -> u64 {
        key_of_text(self)
    }
}

impl Kind for Path {
    type Owned = PathBuf;
    type Home = &'static Interner<Path>;

    fn shared() -> &'static Interner<Path> {
        <Path as Global>::interner()
    }

    fn exchange() -> &'static Exchange<Path> {
        static EXCHANGE: Exchange<Path> = Mutex::new(Vec::new());
        &EXCHANGE
    }

    fn home(_: &mut Hand) -> (Self::Home, u64) {
        (Self::shared(), 0)
    }

    fn shelf(hand: &mut Hand) -> &mut Shelf<Path> {
        &mut hand.paths
    }

    fn make(key: u64) -> PathBuf {
        Path::new("soak").join(text(key))
    }

    fn intern(home: &Interner<Path>, key: u64, form: usize) -> Interned<Path> {
        let path = Self::make(key);
        match form {
            0 => home.intern(&*path),
            1 => home.intern(path),
            2 => home.intern(path.into_boxed_path()),
            3 => home.intern(Arc::<Path>::from(path)),
            _ => home.intern(&path),
        }
    }

    fn key(&self) -> u64 {
        let name = self.strip_prefix("soak").ok().and_then(Path::to_str);
        check!(name.is_some(), "a path has become {self:?}");
        key_of_text(name.unwrap_or_default())
    }
}

/// The interner of values: the one that all share, or a guest's.
pub(crate) enum ValuesHome {
    Shared,
    Guest(Arc<Guest>),
}

impl Deref for ValuesHome {
    type Target = Interner<Counted>;

    fn deref(&self) -> &Interner<Counted> {
        match self {
            Self::Shared => Counted::shared(),
            Self::Guest(guest) => &guest.values,
        }
    }
}

impl Kind for Counted {
    type Owned = Counted;
    type Home = ValuesHome;

    fn shared() -> &'static Interner<Counted> {
        static VALUES: Interner<Counted> = Interner::new();
        &VALUES
    }

    fn exchange() -> &'static Exchange<Counted> {
        static EXCHANGE: Exchange<Counted> = Mutex::new(Vec::new());
        &EXCHANGE
    }

    fn home(hand: &mut Hand) -> (ValuesHome, u64) {
        match hand.visit() {
            None => (ValuesHome::Shared, 0),
            Some(guest) => {
                let first_key = guest.first_key();
                (ValuesHome::Guest(guest), first_key)
            }
        }
    }

    fn shelf(hand: &mut Hand) -> &mut Shelf<Counted> {
        &mut hand.values
    }

    fn make(key: u64) -> Counted {
        Counted::new(key)
    }

    fn intern(home: &Interner<Counted>, key: u64, form: usize) -> Interned<Counted> {
        let value = Counted::new(key);
        match form {
            0 => home.intern(&value),
            _ => home.intern(value),
        }
    }

    fn key(&self) -> u64 {
        self.key()
    }

    fn mark(&self) -> u64 {
        self.serial()
    }

    fn meet_hook(&self) {
        self.meet_hook();
    }
}

/// Slices whose elements are counted.
impl Kind for [Counted] {
    type Owned = Vec<Counted>;
    type Home = &'static Interner<[Counted]>;

    fn shared() -> &'static Interner<[Counted]> {
        static SLICES: Interner<[Counted]> = Interner::new();
        &SLICES
    }

    fn exchange() -> &'static Exchange<[Counted]> {
        static EXCHANGE: Exchange<[Counted]> = Mutex::new(Vec::new());
        &EXCHANGE
    }

    fn home(_: &mut Hand) -> (Self::Home, u64) {
        (Self::shared(), 0)
    }

    fn shelf(hand: &mut Hand) -> &mut Shelf<[Counted]> {
        &mut hand.slices
    }

    fn make(key: u64) -> Vec<Counted> {
        let len = if key % 257 == 256 { 300 } else { 1 + key % 5 };
        (0..len).map(|_| Counted::new(key)).collect()
    }

    fn intern(home: &Interner<[Counted]>, key: u64, form: usize) -> Interned<[Counted]> {
        let slice = Self::make(key);
        match form {
            0 => home.intern(&slice),
            1 => home.intern(&slice[..]),
            2 => home.intern(slice.into_boxed_slice()),
            _ => home.intern(slice),
        }
    }

    fn key(&self) -> u64 {
        let key = self.first().map(Counted::key);
        let same = key.is_some() && self.iter().all(|value| Some(value.key()) == key);
        check!(same, "a slice has become {self:?}");
        key.unwrap_or_default()
    }

    fn mark(&self) -> u64 {
        self.first().map_or(0, Counted::serial)
    }

    fn meet_hook(&self) {
        self.iter().for_each(Counted::meet_hook);
    }
}

/// A value that owns handles: of a name, and of another value of its kind.
#[derive(Debug)]
pub(crate) struct Term {
    pub(crate) counted: Counted,
    pub(crate) name: Interned<str>,
    pub(crate) below: Option<Interned<Term>>,
}

impl PartialEq for Term {
    fn eq(&self, other: &Self) -> bool {
        self.counted == other.counted
    }
}

impl Eq for Term {}

impl Hash for Term {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.counted.hash(state);
    }
}

impl Borrow<u64> for Term {
    fn borrow(&self) -> &u64 {
        self.counted.borrow()
    }
}

impl Kind for Term {
    type Owned = Term;
    type Home = &'static Interner<Term>;

    fn shared() -> &'static Interner<Term> {
        static TERMS: Interner<Term> = Interner::new();
        &TERMS
    }

    fn exchange() -> &'static Exchange<Term> {
        static EXCHANGE: Exchange<Term> = Mutex::new(Vec::new());
        &EXCHANGE
    }

    fn home(_: &mut Hand) -> (Self::Home, u64) {
        (Self::shared(), 0)
    }

    fn shelf(hand: &mut Hand) -> &mut Shelf<Term> {
        &mut hand.terms
    }

    /// A term over smaller ones, which share what is below them.
    fn make(key: u64) -> Term {
        Term {
            counted: Counted::new(key),
            name: str::shared().intern(text(key)),
            below: (key > 0).then(|| Self::shared().intern(Self::make(key / 8))),
        }
    }

    fn intern(home: &Interner<Term>, key: u64, _: usize) -> Interned<Term> {
        home.intern_with(&key, |&key| Self::make(key))
    }

    fn key(&self) -> u64 {
        let key = self.counted.key();
        // Those of a burst are a chain under one name.
        if key < BURST_KEYS {
            check!(self.name.key() == key, "a term has the name {}", self.name);
            let below = self.below.as_ref().map(|term| term.counted.key());
            let expected = (key > 0).then_some(key / 8);
            check!(below == expected, "{below:?} is below term {key:x}");
        }
        key
    }

    fn mark(&self) -> u64 {
        self.counted.serial()
    }

    fn meet_hook(&self) {
        self.counted.meet_hook();
    }
}
