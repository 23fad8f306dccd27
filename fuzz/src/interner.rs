//! Operations on an interner of `str`, of sized values that may own handles of their own kind, or of slices.
//!
//! Beyond what `hand.rs` checks: all handles of one value are one pointer, also when they are taken out of a look-up
//! or an iteration; a look-up finds what is held; `len` and an iteration know what is held, and nothing else; the
//! drop hook is called with each value that dies in its interner, once; every value that was made is dropped once.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use hapax::{Interned, Interner};

use super::common::{Census, Counted};
use super::hand::{Action, Desk, Hand, Handle, Holdings, Hook, Name, Strong};
use super::program::{self, Change, Game, MOST_KEYS, Program, Setup, lock};
use super::subject::{Door, Hashing, Order, Subject, Value};

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
    Intern(Ask),
    Get(Ask),
    InternHandle {
        slot: u8,
    },
    /// Interns, and lets go at once, several times.
    Pass(Ask, u8),
    /// Interns many values, and keeps some.
    Burst {
        first: u64,
        count: u64,
        kept: u64,
    },
    /// Does several calls in one session.
    Session {
        ask: Ask,
        slot: u8,
    },
    TryUnwrap {
        slot: u8,
    },
    /// Makes a pointer of a handle, and a handle of that.
    Raw {
        slot: u8,
    },
    Hand(Action, u8),
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    key: u64,
    form: u8,
    /// Whether another hash than the value's own is used.
    astray: bool,
    /// Which handle the value owns, if it can own one.
    inner: Option<u8>,
}

impl program::Operation for Operation {
    const ARGUMENTS: usize = 3;

    fn decode(kind: u8, arguments: &[u8], setup: &Setup) -> Self {
        let &[key, slot, detail] = arguments else {
            unreachable!("a record has three arguments")
        };
        let ask = Ask {
            key: setup.key(key),
            form: detail % 32,
            astray: detail & 0x80 != 0,
            inner: (detail & 0x40 != 0).then_some(slot),
        };
        match kind {
            0 => Self::Flush,
            1 => Self::Look,
            2 => Self::Reserve {
                entries: usize::from(key) * 4,
            },
            3 => Self::SetHook,
            4 => Self::ClearHook,
            5 | 6 => Self::Iterate { steps: slot },
            7..=18 => Self::Intern(ask),
            19..=22 => Self::Get(ask),
            23..=25 => Self::InternHandle { slot },
            26..=28 => Self::Pass(ask, slot % 32),
            29..=30 => Self::Burst {
                first: 256 + 128 * u64::from(key % 4),
                count: setup.burst(slot),
                kept: u64::from(detail) / 2,
            },
            31..=33 => Self::Session { ask, slot },
            34..=36 => Self::TryUnwrap { slot },
            37..=38 => Self::Raw { slot },
            _ => Self::Hand(Action::decode(kind - 39), slot),
        }
    }
}

/// What is known beforehand, where one thread does everything.
#[derive(Default)]
struct Expected {
    /// Where the values are that live in the present interner.
    live: HashMap<Name, usize>,
    /// Calls of the hook.
    hooked: usize,
    /// Values that came and went within the last step.
    passed: usize,
    /// Values that were moved out in the last step.
    unwrapped: usize,
}

struct Play<T: ?Sized + Subject> {
    /// Shared by those who do operations, exclusive between phases.
    interner: RwLock<Interner<T, Hashing>>,
    generation: AtomicUsize,
    hashing: Hashing,
    census: Arc<Census>,
    desk: Desk<Interned<T>>,
    hook: Hook,
    expected: Option<Mutex<Expected>>,
}

/// Decodes a program.
pub fn decode(bytes: &[u8]) -> Program<Operation> {
    Program::decode(bytes)
}

/// Runs a program.
pub fn run(program: &Program<Operation>) {
    let setup = &program.setup;
    match setup.subject % 3 {
        0 => program::run(Play::<Value>::new(setup), program),
        1 => program::run(Play::<str>::new(setup), program),
        _ => program::run(Play::<[Counted]>::new(setup), program),
    }
}

impl<T: ?Sized + Subject> Play<T> {
    fn new(setup: &Setup) -> Self {
        let hashing = setup.hashing;
        let interner = Interner::with_capacity_and_hasher(setup.capacity, hashing);
        Self {
            interner: RwLock::new(interner),
            generation: AtomicUsize::new(0),
            hashing,
            census: Census::new(),
            desk: Desk::default(),
            hook: Hook::default(),
            expected: (!setup.threads).then(Mutex::default),
        }
    }

    fn generation(&self) -> usize {
        self.generation.load(Ordering::SeqCst)
    }

    /// Where the value with that name lives, if anywhere and if that is known.
    fn expected(&self, name: Name) -> Option<Option<usize>> {
        let expected = lock(self.expected.as_ref()?);
        Some(expected.live.get(&name).copied())
    }

    /// Notes that values have come and gone, unless they lived before.
    fn note_passed(&self, names: impl Iterator<Item = Name>) {
        if let Some(expected) = &self.expected {
            let mut expected = lock(expected);
            expected.passed += names
                .filter(|name| !expected.live.contains_key(name))
                .count();
        }
    }

    /// The name under which a value is to be found, and the hash to be handed in.
    fn name(&self, interner: &Interner<T, Hashing>, ask: &Ask) -> (Name, Option<u64>) {
        let key = T::normal(ask.key);
        let hash = T::hash_of(interner, key, &self.census);
        if ask.astray {
            ((!hash, key), Some(!hash))
        } else if ask.form & 1 == 0 {
            ((hash, key), None)
        } else {
            ((hash, key), Some(hash))
        }
    }

    fn intern(&self, door: &Door<'_, T>, hand: &Hand<Interned<T>>, ask: &Ask) -> Interned<T> {
        let (name, hash) = self.name(door.interner(), ask);
        let order = Order {
            key: name.1,
            form: ask.form / 2,
            hash,
            inner: ask.inner.and_then(|slot| hand.at(slot)).cloned(),
            census: &self.census,
        };
        let handle = T::intern(door, order);
        self.check(hand, &handle, name);
        handle
    }

    fn get(&self, door: &Door<'_, T>, hand: &mut Hand<Interned<T>>, ask: &Ask) {
        let (name, hash) = self.name(door.interner(), ask);
        let found = T::get(door, hash, name.1, &self.census);
        if let Some(lives) = self.expected(name) {
            assert_eq!(found.as_ref().map(Handle::address), lives, "found");
        }
        match found {
            Some(handle) => {
                self.check(hand, &handle, name);
                hand.hold(handle, self.generation());
            }
            None => assert!(
                !hand.of(self.generation()).any(|held| held.name() == name),
                "a held value isn't found"
            ),
        }
    }

    /// Whether a handle is the one for that name, as far as its owner can know.
    fn check(&self, hand: &Hand<Interned<T>>, handle: &Interned<T>, name: Name) {
        handle.assert_alive();
        assert_eq!(handle.name(), name);
        if let Some(Some(lives)) = self.expected(name) {
            assert_eq!(handle.address(), lives, "a second instance");
        }
        for held in hand.of(self.generation()) {
            assert_eq!(held.name() == name, held == handle, "a second instance");
        }
    }

    fn step(
        &self,
        interner: &Interner<T, Hashing>,
        hand: &mut Hand<Interned<T>>,
        operation: &Operation,
    ) {
        let generation = self.generation();
        let door = Door::Plain(interner);
        match operation {
            Operation::Flush => interner.flush(),
            Operation::Look => self.look(interner),
            Operation::Reserve { entries } => {
                interner.reserve(*entries);
                assert!(interner.capacity() >= *entries);
            }
            Operation::SetHook => {
                let note = self.hook.function();
                interner.on_drop(move |value: &T| {
                    value.assert_alive();
                    note(value.serial());
                });
            }
            Operation::ClearHook => {
                interner.clear_on_drop();
                self.hook.unset();
            }
            Operation::Iterate { steps } => self.iterate(interner, hand, *steps),
            Operation::Intern(ask) => {
                let handle = self.intern(&door, hand, ask);
                hand.hold(handle, generation);
            }
            Operation::Get(ask) => self.get(&door, hand, ask),
            Operation::InternHandle { slot } => {
                if let Some(strong) = hand.at(*slot) {
                    let handle = T::intern_handle(&door, &strong.handle);
                    let name = (interner.hash_of(&*handle), strong.handle.name().1);
                    self.check(hand, &handle, name);
                    hand.hold(handle, generation);
                }
            }
            Operation::Pass(ask, times) => {
                for _ in 0..*times {
                    let name = self.intern(&door, hand, ask).name();
                    self.note_passed(std::iter::once(name));
                }
            }
            Operation::Burst { first, count, kept } => {
                self.burst(&door, hand, *first, *count, *kept);
            }
            Operation::Session { ask, slot } => self.session(interner, hand, ask, *slot),
            Operation::TryUnwrap { slot } => self.try_unwrap(hand, *slot),
            Operation::Raw { slot } => {
                if let Some(Strong { handle, generation }) = hand.remove(*slot) {
                    let raw = Interned::into_raw(handle);
                    // SAFETY: `raw` came from `into_raw`, and is taken back once.
                    let handle = unsafe { Interned::from_raw(raw) };
                    assert!(std::ptr::addr_eq(raw, Interned::as_ptr(&handle)));
                    hand.hold(handle, generation);
                }
            }
            Operation::Hand(action, slot) => hand.act(*action, *slot, &self.desk),
        }
    }

    fn look(&self, interner: &Interner<T, Hashing>) {
        let (len, usage) = (interner.len(), interner.memory_usage());
        let shown = format!("{interner:?}");
        if let Some(expected) = &self.expected {
            let live = lock(expected).live.len();
            assert_eq!((len, usage.entries), (live, live));
            assert_eq!((shown == "{}", interner.is_empty()), (live == 0, live == 0));
        }
    }

    fn iterate(&self, interner: &Interner<T, Hashing>, hand: &Hand<Interned<T>>, steps: u8) {
        if steps < 128 {
            interner
                .iter()
                .take(steps.into())
                .for_each(|handle| handle.assert_alive());
            return;
        }
        // Whoever holds all of them at once meets no name twice.
        let all: Vec<_> = interner.iter().collect();
        let names: HashSet<_> = all.iter().map(Handle::name).collect();
        assert_eq!(
            names.len(),
            all.len(),
            "an iteration yields an entry twice, or two instances"
        );
        for held in hand.of(self.generation()) {
            assert!(
                names.contains(&held.name()),
                "an iteration leaves a held value out"
            );
        }
    }

    fn burst(
        &self,
        door: &Door<'_, T>,
        hand: &mut Hand<Interned<T>>,
        first: u64,
        count: u64,
        kept: u64,
    ) {
        let mut burst: Vec<_> = (first..first + count)
            .map(|key| {
                let ask = Ask {
                    key,
                    form: 0,
                    astray: false,
                    inner: None,
                };
                self.intern(door, &Hand::default(), &ask)
            })
            .collect();
        let rest = burst.split_off(burst.len().min(kept as usize));
        let held: HashSet<_> = burst.iter().map(Handle::name).collect();
        for handle in burst {
            hand.hold(handle, self.generation());
        }
        let names: HashSet<_> = rest.iter().map(Handle::name).collect();
        drop(rest);
        self.note_passed(names.difference(&held).copied());
    }

    fn session(
        &self,
        interner: &Interner<T, Hashing>,
        hand: &mut Hand<Interned<T>>,
        ask: &Ask,
        slot: u8,
    ) {
        let door = Door::Pinned(interner.pin());
        for round in 0..4 {
            let ask = Ask {
                key: (ask.key + round) % MOST_KEYS,
                form: ask.form + round as u8,
                ..*ask
            };
            self.get(&door, hand, &ask);
            let handle = self.intern(&door, hand, &ask);
            hand.hold(handle, self.generation());
            if round == 2 {
                hand.act(Action::Give, slot, &self.desk);
            }
        }
    }

    fn try_unwrap(&self, hand: &mut Hand<Interned<T>>, slot: u8) {
        let Some(Strong { handle, generation }) = hand.remove(slot) else {
            return;
        };
        let name = handle.name();
        let sole = Interned::ref_count(&handle) == 1;
        match T::try_unwrap(handle) {
            Ok(()) => {
                assert!(
                    !hand.of(generation).any(|held| held.name() == name),
                    "a value was moved away from under a handle"
                );
                if let Some(expected) = &self.expected {
                    assert!(sole);
                    lock(expected).unwrapped += usize::from(generation == self.generation());
                }
            }
            Err(handle) => {
                assert!(!T::MOVES || self.expected.is_none() || !sole);
                handle.assert_alive();
                hand.hold(handle, generation);
            }
        }
    }

    /// Compares the interner with what is held.
    fn compare(&self, holdings: &Holdings<'_, Interned<T>>) -> HashMap<Name, usize> {
        let interner = self.interner.read().unwrap_or_else(PoisonError::into_inner);
        let mut live = HashMap::new();
        for (address, handle) in holdings.of(self.generation()) {
            let other = live.insert(handle.name(), address);
            assert_eq!(other, None, "two instances of {:?}", handle.name());
            let found = interner.get_hashed(Interned::hash_value(handle), &**handle);
            assert_eq!(
                found.as_ref(),
                Some(handle),
                "what is found for a held value"
            );
        }
        assert_eq!(interner.len(), live.len(), "the length");
        let met: Vec<_> = interner.iter().map(|handle| handle.address()).collect();
        let distinct: HashSet<_> = met.iter().copied().collect();
        assert_eq!(met.len(), distinct.len(), "an entry is yielded twice");
        assert_eq!(
            distinct,
            live.values().copied().collect(),
            "what an iteration yields"
        );
        let alive = holdings.all().map(|instance| instance.handle.population());
        assert_eq!(
            self.census.live(),
            alive.sum::<usize>(),
            "values that are neither dead nor held"
        );
        self.hook
            .check(holdings.all().filter_map(|one| one.handle.serial()));
        live
    }

    /// Compares what the hook saw with what happened since the last census.
    fn compare_hook(&self, expected: &mut Expected, live: HashMap<Name, usize>) {
        let died = expected
            .live
            .iter()
            .filter(|(name, address)| live.get(name) != Some(address))
            .count();
        if self.hook.is_set() {
            expected.hooked += died + expected.passed - expected.unwrapped;
        }
        assert_eq!(self.hook.calls(), expected.hooked, "calls of the hook");
        expected.passed = 0;
        expected.unwrapped = 0;
        expected.live = live;
    }
}

impl<T: ?Sized + Subject> Game for Play<T> {
    type Operation = Operation;
    type Actor = Hand<Interned<T>>;

    fn perform<'a>(
        &self,
        actor: &mut Self::Actor,
        operations: impl Iterator<Item = &'a Operation>,
    ) {
        let interner = self.interner.read().unwrap_or_else(PoisonError::into_inner);
        for operation in operations {
            self.step(&interner, actor, operation);
        }
    }

    fn census(&self, actors: &[&Self::Actor]) {
        let live = self.desk.census(actors, |holdings| self.compare(holdings));
        if let Some(expected) = &self.expected {
            self.compare_hook(&mut lock(expected), live);
        }
    }

    fn change(&self, change: Change) {
        let mut interner = self
            .interner
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        match change {
            Change::Nothing => {}
            Change::Shrink => interner.shrink_to_fit(),
            Change::Renew => {
                *interner = Interner::with_hasher(self.hashing);
                self.generation.fetch_add(1, Ordering::SeqCst);
                self.hook.unset();
                if let Some(expected) = &self.expected {
                    lock(expected).live.clear();
                }
            }
        }
    }

    fn let_go(&self, actor: &mut Self::Actor, count: usize) {
        actor.let_go(count);
    }

    fn handles(&self, actor: &Self::Actor) -> usize {
        actor.handles()
    }

    fn end(self) {
        let interner = self
            .interner
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        self.desk.end();
        assert_eq!((interner.len(), interner.iter().count()), (0, 0), "the end");
        drop(interner);
        assert_eq!(self.census.live(), 0, "values that were lost");
        self.hook.end();
    }
}
