//! Operations on a weak map, keyed by content or by identity.
//!
//! Beyond what `hand.rs` checks: an entry that nobody removed is the one that `get` finds, and one that was removed
//! is never found again; an entry is removed by one caller; builders run when there is no entry, and what comes of
//! them when they fail, panic, insert the same key or wait for themselves is what the documentation says; the
//! object of an identity has one pointer for each of its entries; the drop hook is called with each entry that dies;
//! every key and value that was made is dropped once.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use hapax::{ById, Cached, IdentityMap, InitError, WeakCached, WeakMap};

use super::common::{Census, Counted};
use super::hand::{Action, Desk, Hand, Handle, Holdings, Hook, Name};
use super::program::{self, Change, Game, MOST_KEYS, Program, Setup, lock};
use super::subject::Hashing;

/// Keys of a burst, behind those of other operations: enough for a table to grow.
const BURST: u64 = 128;

/// One step.
#[derive(Clone, Copy, Debug)]
pub enum Operation {
    Flush,
    /// Asks for numbers, and formats.
    Look,
    Reserve {
        entries: usize,
    },
    SetHook,
    ClearHook,
    /// Steps of an iteration; from 128 on it goes to its end.
    Iterate {
        steps: u8,
    },
    Get {
        key: u64,
    },
    /// Inserts a value that is there already.
    Insert {
        key: u64,
    },
    /// Inserts, and lets go at once, several times.
    Pass {
        key: u64,
        times: u8,
    },
    /// Builds a value if there is none.
    Build {
        key: u64,
        way: Way,
        act: Act,
    },
    Remove {
        key: u64,
    },
    /// Inserts many entries, and keeps some.
    Burst {
        count: u8,
        kept: u8,
    },
    Hand(Action, u8),
}

/// By which method a value is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Several may build; `get_or_insert_with` and its kin.
    Insert,
    /// The same, by a borrowed key: what identity maps have `of` for.
    InsertRef,
    /// One builds; `get_or_init` and its kin.
    Init,
    InitRef,
}

/// What a builder does before it returns a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Nothing,
    /// Returns an error instead.
    Fail,
    /// Panics instead.
    Panic,
    Get,
    Remove,
    /// Inserts the key that is being built, and keeps the entry or lets go of it.
    Insert {
        kept: bool,
    },
    /// Asks for the key that is being built to be built.
    Init,
    /// Asks for another key to be built.
    InitOther {
        key: u64,
    },
    Drop {
        slot: u8,
    },
}

impl Act {
    fn decode(detail: u8, slot: u8, setup: &Setup) -> Self {
        match detail % 16 {
            0..=3 => Self::Nothing,
            4 => Self::Fail,
            5 => Self::Panic,
            6 => Self::Get,
            7 => Self::Remove,
            8 | 9 => Self::Insert { kept: true },
            10 | 11 => Self::Insert { kept: false },
            12 => Self::Init,
            13 | 14 => Self::InitOther {
                key: setup.key(slot),
            },
            _ => Self::Drop { slot },
        }
    }
}

impl program::Operation for Operation {
    const ARGUMENTS: usize = 3;

    fn decode(kind: u8, arguments: &[u8], setup: &Setup) -> Self {
        let &[first, slot, detail] = arguments else {
            unreachable!("a record has three arguments")
        };
        let key = setup.key(first);
        match kind {
            0 => Self::Flush,
            1 => Self::Look,
            2 => Self::Reserve {
                entries: usize::from(first) * 4,
            },
            3 => Self::SetHook,
            4 => Self::ClearHook,
            5 | 6 => Self::Iterate { steps: slot },
            7..=11 => Self::Get { key },
            12..=16 => Self::Insert { key },
            17..=18 => Self::Pass {
                key,
                times: slot % 32,
            },
            19..=32 => Self::Build {
                key,
                way: match detail >> 6 {
                    0 => Way::Insert,
                    1 => Way::InsertRef,
                    2 => Way::Init,
                    _ => Way::InitRef,
                },
                act: Act::decode(detail, slot, setup),
            },
            33..=36 => Self::Remove { key },
            37 | 38 => Self::Burst {
                count: setup.burst(slot) as u8,
                kept: detail / 2,
            },
            _ => Self::Hand(Action::decode(kind - 39), slot),
        }
    }
}

/// What a builder panics with.
struct Thrown;

/// What entries hold.
type Value = Counted;
type Map<K> = WeakMap<K, Value, Hashing>;

/// What keys are made from.
struct Source {
    census: Arc<Census>,
    /// One for each key, which may be its identity.
    objects: Vec<Arc<Counted>>,
}

impl Source {
    fn new() -> Self {
        let objects = Census::new();
        Self {
            census: Census::new(),
            objects: (0..MOST_KEYS + BURST)
                .map(|number| Arc::new(Counted::new(number, &objects)))
                .collect(),
        }
    }

    fn object(&self, number: u64) -> &Arc<Counted> {
        &self.objects[number as usize]
    }
}

/// A type of keys.
trait Key: Hash + Eq + Clone + Send + Sync + std::fmt::Debug + 'static {
    fn make(source: &Source, number: u64) -> Self;
    fn number(&self) -> u64;
    /// Counted values that belong to one key.
    const POPULATION: usize;

    fn get(map: &Map<Self>, source: &Source, number: u64) -> Option<Cached<Self, Value>>;
    fn remove(map: &Map<Self>, source: &Source, number: u64) -> Option<Cached<Self, Value>>;
    fn build_by_ref(
        map: &Map<Self>,
        source: &Source,
        number: u64,
        build: impl FnOnce() -> Value,
    ) -> Cached<Self, Value>;
    /// Compares the objects' counts with the number of keys that stand for each.
    fn check(_source: &Source, _numbers: impl Iterator<Item = u64>) {}
}

impl Key for Counted {
    const POPULATION: usize = 1;

    fn make(source: &Source, number: u64) -> Self {
        Counted::new(number, &source.census)
    }

    fn number(&self) -> u64 {
        self.assert_alive();
        self.key
    }

    fn get(map: &Map<Self>, _: &Source, number: u64) -> Option<Cached<Self, Value>> {
        map.get(&number)
    }

    fn remove(map: &Map<Self>, _: &Source, number: u64) -> Option<Cached<Self, Value>> {
        map.remove(&number)
    }

    fn build_by_ref(
        map: &Map<Self>,
        source: &Source,
        number: u64,
        build: impl FnOnce() -> Value,
    ) -> Cached<Self, Value> {
        map.get_or_insert_with_ref(&Self::make(source, number), |_| build())
    }
}

impl Key for ById<Arc<Counted>> {
    const POPULATION: usize = 0;

    fn make(source: &Source, number: u64) -> Self {
        ById(source.object(number).clone())
    }

    fn number(&self) -> u64 {
        self.0.assert_alive();
        self.0.key
    }

    fn get(map: &Map<Self>, source: &Source, number: u64) -> Option<Cached<Self, Value>> {
        map.get(ById::from_ref(source.object(number)))
    }

    fn remove(map: &Map<Self>, source: &Source, number: u64) -> Option<Cached<Self, Value>> {
        map.remove(ById::from_ref(source.object(number)))
    }

    fn build_by_ref(
        map: &IdentityMap<Arc<Counted>, Value, Hashing>,
        source: &Source,
        number: u64,
        build: impl FnOnce() -> Value,
    ) -> Cached<Self, Value> {
        map.of(source.object(number), |_| build())
    }

    fn check(source: &Source, numbers: impl Iterator<Item = u64>) {
        let mut keys = vec![0; source.objects.len()];
        for number in numbers {
            keys[number as usize] += 1;
        }
        for (object, keys) in source.objects.iter().zip(keys) {
            assert_eq!(Arc::strong_count(object), 1 + keys, "keys of an object");
        }
    }
}

impl<K: Key> Handle for Cached<K, Value> {
    type Weak = WeakCached<K, Value>;

    fn name(&self) -> Name {
        (0, Self::key(self).number())
    }

    fn address(&self) -> usize {
        std::ptr::from_ref::<Value>(self).addr()
    }

    fn assert_alive(&self) {
        Value::assert_alive(self);
        assert_eq!(
            Self::key(self).number(),
            self.key,
            "a value under another key"
        );
    }

    fn count(&self) -> usize {
        Self::ref_count(self)
    }

    fn downgrade(&self) -> WeakCached<K, Value> {
        Self::downgrade(self)
    }

    fn downgrade_with(&self, callback: impl FnOnce() + Send + 'static) -> WeakCached<K, Value> {
        Self::downgrade_with(self, callback)
    }

    fn upgrade(weak: &WeakCached<K, Value>) -> Option<Self> {
        weak.upgrade()
    }

    fn strong_count(weak: &WeakCached<K, Value>) -> usize {
        weak.strong_count()
    }

    fn same(weak: &WeakCached<K, Value>, other: &WeakCached<K, Value>) -> bool {
        weak.ptr_eq(other)
    }
}

/// What is known beforehand, where one thread does everything.
#[derive(Default)]
struct Expected {
    /// Serial numbers of the entries that look-ups find, by key.
    visible: HashMap<u64, u64>,
    /// Serial numbers of all entries of the present map that live.
    live: HashSet<u64>,
    /// Calls of the hook.
    hooked: usize,
    /// Entries that came and went within the last step.
    passed: usize,
}

/// What an actor holds and knows.
struct Actor<K: Key> {
    hand: Hand<Cached<K, Value>>,
    /// Serial numbers of the entries that it removed.
    removed: HashSet<u64>,
}

impl<K: Key> Default for Actor<K> {
    fn default() -> Self {
        Self {
            hand: Hand::default(),
            removed: HashSet::new(),
        }
    }
}

struct Play<K: Key> {
    /// Shared by those who do operations, exclusive between phases.
    map: RwLock<Map<K>>,
    generation: AtomicUsize,
    hashing: Hashing,
    source: Source,
    desk: Desk<Cached<K, Value>>,
    hook: Hook,
    /// Serial numbers of the entries that were removed.
    removed: Mutex<HashSet<u64>>,
    /// Serial numbers of values that one thread built while others may have inserted theirs: they may have come to
    /// be removed at once.
    doubtful: Mutex<HashSet<u64>>,
    expected: Option<Mutex<Expected>>,
}

/// What a builder did.
#[derive(Debug, Default)]
struct Built {
    /// The serial number of its value.
    serial: Option<u64>,
    /// The entry of the same key that it inserted, and whether that lives on.
    inserted: Option<(u64, bool)>,
}

/// What a builder fails with.
#[derive(Debug)]
struct Failed;

/// Decodes a program.
pub fn decode(bytes: &[u8]) -> Program<Operation> {
    Program::decode(bytes)
}

/// Runs a program.
pub fn run(program: &Program<Operation>) {
    let setup = &program.setup;
    match setup.subject % 2 {
        0 => program::run(Play::<Counted>::new(setup), program),
        _ => program::run(Play::<ById<Arc<Counted>>>::new(setup), program),
    }
}

impl<K: Key> Play<K> {
    fn new(setup: &Setup) -> Self {
        let hashing = setup.hashing;
        Self {
            map: RwLock::new(WeakMap::with_capacity_and_hasher(setup.capacity, hashing)),
            generation: AtomicUsize::new(0),
            hashing,
            source: Source::new(),
            desk: Desk::default(),
            hook: Hook::default(),
            removed: Mutex::default(),
            doubtful: Mutex::default(),
            expected: (!setup.threads).then(Mutex::default),
        }
    }

    fn map(&self) -> RwLockReadGuard<'_, Map<K>> {
        self.map.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn generation(&self) -> usize {
        self.generation.load(Ordering::SeqCst)
    }

    /// The serial number of what a look-up finds, if anything and if that is known.
    fn expected(&self, number: u64) -> Option<Option<u64>> {
        let expected = lock(self.expected.as_ref()?);
        Some(expected.visible.get(&number).copied())
    }

    fn value(&self, number: u64) -> Value {
        Value::new(number, &self.source.census)
    }

    fn key(&self, number: u64) -> K {
        K::make(&self.source, number)
    }

    /// Lets go of a new entry, unless it is not new.
    fn pass(&self, number: u64, entry: Cached<K, Value>) {
        drop(entry);
        if let Some(expected) = &self.expected {
            let mut expected = lock(expected);
            expected.passed += usize::from(!expected.visible.contains_key(&number));
        }
    }

    fn check(&self, actor: &Actor<K>, entry: &Cached<K, Value>, number: u64) {
        entry.assert_alive();
        assert_eq!(entry.name(), (0, number));
        assert!(
            !actor.removed.contains(&entry.serial),
            "an entry is found that was removed"
        );
        if let Some(Some(serial)) = self.expected(number) {
            assert_eq!(entry.serial, serial, "a second entry");
        }
    }

    fn step(&self, map: &Map<K>, actor: &mut Actor<K>, operation: &Operation) {
        let generation = self.generation();
        match *operation {
            Operation::Flush => map.flush(),
            Operation::Look => self.look(map),
            Operation::Reserve { entries } => {
                map.reserve(entries);
                assert!(map.capacity() >= entries);
            }
            Operation::SetHook => {
                let note = self.hook.function();
                map.on_drop(move |key: &K, value: &Value| {
                    value.assert_alive();
                    assert_eq!(key.number(), value.key);
                    note(Some(value.serial));
                });
            }
            Operation::ClearHook => {
                map.clear_on_drop();
                self.hook.unset();
            }
            Operation::Iterate { steps } => Self::iterate(map, steps),
            Operation::Get { key } => {
                let found = K::get(map, &self.source, key);
                if let Some(serial) = self.expected(key) {
                    assert_eq!(found.as_ref().map(|entry| entry.serial), serial, "found");
                }
                if let Some(entry) = found {
                    self.check(actor, &entry, key);
                    actor.hand.hold(entry, generation);
                }
            }
            Operation::Insert { key } => {
                let value = self.value(key);
                let serial = value.serial;
                let entry = map.get_or_insert(self.key(key), value);
                self.check(actor, &entry, key);
                assert!(self.expected(key) != Some(None) || entry.serial == serial);
                actor.hand.hold(entry, generation);
            }
            Operation::Pass { key, times } => {
                for _ in 0..times {
                    let entry = map.get_or_insert(self.key(key), self.value(key));
                    self.check(actor, &entry, key);
                    self.pass(key, entry);
                }
            }
            Operation::Build { key, way, act } => self.build(map, actor, key, way, act),
            Operation::Remove { key } => {
                let removed = K::remove(map, &self.source, key);
                if let Some(serial) = self.expected(key) {
                    assert_eq!(removed.as_ref().map(|entry| entry.serial), serial);
                }
                if let Some(entry) = removed {
                    self.check(actor, &entry, key);
                    self.note_removed(actor, entry.serial);
                    actor.hand.hold(entry, generation);
                }
            }
            Operation::Burst { count, kept } => self.burst(map, actor, count, kept),
            Operation::Hand(action, slot) => actor.hand.act(action, slot, &self.desk),
        }
    }

    fn look(&self, map: &Map<K>) {
        let (len, usage) = (map.len(), map.memory_usage());
        let shown = format!("{map:?}");
        if let Some(expected) = &self.expected {
            let visible = lock(expected).visible.len();
            assert_eq!((len, usage.entries), (visible, visible));
            assert_eq!((shown == "{}", map.is_empty()), (len == 0, len == 0));
        }
    }

    fn iterate(map: &Map<K>, steps: u8) {
        let whole = steps >= 128;
        let steps = if whole { usize::MAX } else { steps.into() };
        let met: Vec<_> = map.iter().take(steps).collect();
        met.iter().for_each(Handle::assert_alive);
        let distinct: HashSet<_> = met.iter().map(|entry| entry.serial).collect();
        assert_eq!(met.len(), distinct.len(), "an entry is yielded twice");
    }

    fn note_removed(&self, actor: &mut Actor<K>, serial: u64) {
        actor.removed.insert(serial);
        let new = lock(&self.removed).insert(serial);
        assert!(new, "an entry was removed twice");
    }

    fn burst(&self, map: &Map<K>, actor: &mut Actor<K>, count: u8, kept: u8) {
        let mut burst: Vec<_> = (MOST_KEYS..MOST_KEYS + BURST)
            .take(count.into())
            .map(|key| (key, map.get_or_insert(self.key(key), self.value(key))))
            .collect();
        let rest = burst.split_off(burst.len().min(kept.into()));
        for (key, entry) in burst {
            self.check(actor, &entry, key);
            actor.hand.hold(entry, self.generation());
        }
        for (key, entry) in rest {
            self.check(actor, &entry, key);
            self.pass(key, entry);
        }
    }

    fn build(&self, map: &Map<K>, actor: &mut Actor<K>, key: u64, way: Way, act: Act) {
        let expected = self.expected(key);
        let built = Cell::new(None);
        let outcome = {
            let mut build = || self.builder(map, actor, key, way, act, &built);
            let outcome = catch_unwind(AssertUnwindSafe(|| match way {
                Way::Insert => map
                    .try_get_or_insert_with(self.key(key), |_| build())
                    .map_err(InitError::Init),
                Way::Init => map.try_get_or_init(self.key(key), |_| build()),
                Way::InsertRef => Ok(K::build_by_ref(
                    map,
                    &self.source,
                    key,
                    || or_throw(build()),
                )),
                Way::InitRef => Ok(map.get_or_init_ref(&self.key(key), |_| or_throw(build()))),
            }));
            match outcome {
                Ok(outcome) => outcome,
                Err(thrown) if thrown.is::<Thrown>() => Err(InitError::Init(Failed)),
                Err(failure) => resume_unwind(failure),
            }
        };
        let built: Option<Built> = built.into_inner();
        match outcome {
            Ok(entry) => {
                self.check(actor, &entry, key);
                self.check_built(actor, &entry, way, expected, built.as_ref());
                actor.hand.hold(entry, self.generation());
            }
            Err(InitError::Init(Failed)) => {
                assert!(matches!(act, Act::Fail | Act::Panic));
                assert!(built.is_some(), "a builder didn't run and failed");
            }
            Err(error) => panic!("this thread builds nothing, so nobody waits for it: {error:?}"),
        }
        if let Some(Some(_)) = expected {
            assert!(built.is_none(), "a builder ran though there was an entry");
        }
    }

    /// Whether the right entry came of it, as far as that is known.
    fn check_built(
        &self,
        actor: &mut Actor<K>,
        entry: &Cached<K, Value>,
        way: Way,
        expected: Option<Option<u64>>,
        built: Option<&Built>,
    ) {
        let Some(&Built { serial, inserted }) = built else {
            assert_ne!(expected, Some(None), "a builder didn't run");
            return;
        };
        let init = matches!(way, Way::Init | Way::InitRef);
        if expected.is_none() {
            if init {
                lock(&self.doubtful).extend(serial);
            }
            return;
        }
        let counts = match inserted {
            Some((inserted, true)) => Some(inserted),
            _ => serial,
        };
        assert_eq!(Some(entry.serial), counts, "whose entry counts");
        if init && matches!(inserted, Some((_, false))) {
            self.note_removed(actor, entry.serial);
        }
    }

    /// What a builder does.
    fn builder(
        &self,
        map: &Map<K>,
        actor: &mut Actor<K>,
        number: u64,
        way: Way,
        act: Act,
        built: &Cell<Option<Built>>,
    ) -> Result<Value, Failed> {
        built.set(Some(Built::default()));
        let init = matches!(way, Way::Init | Way::InitRef);
        let alone = self.expected.is_some();
        let mut inserted = None;
        match act {
            Act::Nothing => {}
            Act::Fail => return Err(Failed),
            Act::Panic => resume_unwind(Box::new(Thrown)),
            Act::Get => {
                let found = K::get(map, &self.source, number);
                assert!(!alone || found.is_none(), "an entry is found unbuilt");
            }
            Act::Remove => {
                let removed = K::remove(map, &self.source, number);
                assert!(!alone || removed.is_none(), "an entry is removed unbuilt");
                if let Some(entry) = removed {
                    self.note_removed(actor, entry.serial);
                }
            }
            Act::Insert { kept } => {
                let entry = map.get_or_insert(self.key(number), self.value(number));
                self.check(actor, &entry, number);
                inserted = Some((entry.serial, kept));
                if kept {
                    actor.hand.hold(entry, self.generation());
                } else {
                    self.pass(number, entry);
                }
            }
            Act::Init => inserted = self.init_within(map, actor, number, init),
            Act::InitOther { key } if key == number => {
                inserted = self.init_within(map, actor, number, init);
            }
            Act::InitOther { key } => {
                let deadlock = self.init_within(map, actor, key, false).is_none();
                assert!(init && !alone || !deadlock, "a deadlock without a cycle");
            }
            Act::Drop { slot } => actor.hand.act(Action::Drop, slot, &self.desk),
        }
        let value = self.value(number);
        built.set(Some(Built {
            serial: Some(value.serial),
            inserted,
        }));
        Ok(value)
    }

    /// Has an entry built from within a builder, and lets go of it. `None` if that is refused, because it would
    /// wait for itself.
    fn init_within(
        &self,
        map: &Map<K>,
        actor: &Actor<K>,
        number: u64,
        same: bool,
    ) -> Option<(u64, bool)> {
        let outcome = map.try_get_or_init(self.key(number), |_| {
            let value = self.value(number);
            lock(&self.doubtful).insert(value.serial);
            Ok::<_, Failed>(value)
        });
        match outcome {
            Ok(entry) => {
                assert!(
                    !(same && self.expected.is_some()),
                    "a builder waited for itself"
                );
                self.check(actor, &entry, number);
                let serial = entry.serial;
                self.pass(number, entry);
                Some((serial, false))
            }
            Err(InitError::Deadlock) => None,
            Err(error) => panic!("the builder doesn't fail: {error:?}"),
        }
    }

    /// Compares the map with what is held.
    fn compare(&self, holdings: &Holdings<'_, Cached<K, Value>>) -> Expected {
        let map = self.map();
        let removed = lock(&self.removed);
        let mut now = Expected::default();
        for (_, entry) in holdings.of(self.generation()) {
            now.live.insert(entry.serial);
            let number = entry.name().1;
            let found = K::get(&map, &self.source, number).map(|found| found.serial);
            if found == Some(entry.serial) {
                assert!(
                    !removed.contains(&entry.serial),
                    "an entry is found that was removed"
                );
                now.visible.insert(number, entry.serial);
                continue;
            }
            let doubtful = self.expected.is_none() && lock(&self.doubtful).contains(&entry.serial);
            assert!(
                doubtful || removed.contains(&entry.serial),
                "a held entry isn't found"
            );
        }
        assert_eq!(map.len(), now.visible.len(), "the length");
        let met: Vec<_> = map.iter().map(|entry| entry.serial).collect();
        assert_eq!(met.len(), now.visible.len());
        assert_eq!(
            met.into_iter().collect::<HashSet<_>>(),
            now.visible.values().copied().collect(),
            "what an iteration yields"
        );
        let entries = holdings.all().count();
        assert_eq!(
            self.source.census.live(),
            entries * (1 + K::POPULATION),
            "keys and values that are neither dead nor held"
        );
        K::check(
            &self.source,
            holdings.all().map(|entry| entry.handle.name().1),
        );
        self.hook
            .check(holdings.all().map(|entry| entry.handle.serial));
        now
    }

    /// Compares what the hook saw with what happened since the last census.
    fn compare_hook(&self, expected: &mut Expected, now: Expected) {
        if self.hook.is_set() {
            expected.hooked += expected.live.difference(&now.live).count() + expected.passed;
        }
        assert_eq!(self.hook.calls(), expected.hooked, "calls of the hook");
        *expected = Expected {
            hooked: expected.hooked,
            ..now
        };
    }
}

fn or_throw(built: Result<Value, Failed>) -> Value {
    built.unwrap_or_else(|Failed| resume_unwind(Box::new(Thrown)))
}

impl<K: Key> Game for Play<K> {
    type Operation = Operation;
    type Actor = Actor<K>;

    fn perform<'a>(&self, actor: &mut Actor<K>, operations: impl Iterator<Item = &'a Operation>) {
        let map = self.map();
        for operation in operations {
            self.step(&map, actor, operation);
        }
    }

    fn census(&self, actors: &[&Actor<K>]) {
        let hands: Vec<_> = actors.iter().map(|actor| &actor.hand).collect();
        let now = self.desk.census(&hands, |holdings| self.compare(holdings));
        if let Some(expected) = &self.expected {
            self.compare_hook(&mut lock(expected), now);
        }
    }

    fn change(&self, change: Change) {
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        match change {
            Change::Nothing => {}
            Change::Shrink => map.shrink_to_fit(),
            Change::Renew => {
                *map = WeakMap::with_hasher(self.hashing);
                self.generation.fetch_add(1, Ordering::SeqCst);
                self.hook.unset();
                if let Some(expected) = &self.expected {
                    let mut expected = lock(expected);
                    expected.visible.clear();
                    expected.live.clear();
                }
            }
        }
    }

    fn let_go(&self, actor: &mut Actor<K>, count: usize) {
        actor.hand.let_go(count);
    }

    fn handles(&self, actor: &Actor<K>) -> usize {
        actor.hand.handles()
    }

    fn end(self) {
        let map = self
            .map
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        self.desk.end();
        assert_eq!((map.len(), map.iter().count()), (0, 0), "the end");
        drop(map);
        K::check(&self.source, std::iter::empty());
        assert_eq!(self.source.census.live(), 0, "keys or values were lost");
        self.hook.end();
    }
}
