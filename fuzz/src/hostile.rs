//! Values whose `Hash`, `Eq`, `Clone` and `Drop` do as the program says, and closures that do so too.
//!
//! Each step brings a script. Whenever user code runs within the step, it takes the next word of the script: it
//! answers honestly, lies, panics, or comes back in: interns, looks up, removes, drops handles, sets hooks, and so
//! on, in which user code runs again. Without a script everybody is honest.
//!
//! Some values are honest always. They keep to the rules whatever goes on beside them: a held one is found, under
//! its own address. All values, honest or not, die once, when their last handle goes, and no table keeps anything.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{Hash, Hasher};
use std::panic::{self, AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Once, RwLock};
use std::thread;

use hapax::{Cached, InitError, Interned, Interner, WeakInterned, WeakMap};

use super::common::{Census, Counted};
use super::program::{self, Change, Game, Program, Setup, lock};
use super::subject::Hashing;

/// Bytes of a script; each is two words.
const SCRIPT: usize = 6;

/// How deep user code may come back in.
const DEEPEST: usize = 4;

/// One step: a deed, and the script of the user code that runs in it.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    deed: Deed,
    key: u8,
    script: [u8; SCRIPT],
}

impl program::Operation for Operation {
    const ARGUMENTS: usize = 1 + SCRIPT;

    fn decode(kind: u8, arguments: &[u8], _: &Setup) -> Self {
        let (key, script) = arguments.split_first().expect("a record has a key");
        Self {
            deed: Deed::decode(kind),
            key: *key,
            script: script.try_into().expect("the rest is the script"),
        }
    }
}

/// What is done with the tables, by a step or by user code within it.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Intern,
    InternHonest,
    InternRef,
    InternWith,
    InternSlice,
    Get,
    Insert,
    InsertHonest,
    Build,
    Init,
    Find,
    Remove,
    Drop,
    TryUnwrap,
    /// Registers a callback.
    Watch,
    Upgrade,
    SetHook,
    ClearHook,
    Iterate,
    Flush,
}

impl Deed {
    fn decode(kind: u8) -> Self {
        match kind % 32 {
            0 => Self::Flush,
            1..=3 => Self::Intern,
            4..=5 => Self::InternHonest,
            6..=7 => Self::InternRef,
            8 => Self::InternWith,
            9..=10 => Self::InternSlice,
            11..=12 => Self::Get,
            13..=14 => Self::Insert,
            15 => Self::InsertHonest,
            16..=17 => Self::Build,
            18..=19 => Self::Init,
            20 => Self::Find,
            21 => Self::Remove,
            22..=25 => Self::Drop,
            26 => Self::TryUnwrap,
            27 => Self::Watch,
            28 => Self::Upgrade,
            29 => Self::SetHook,
            30 => Self::ClearHook,
            _ => Self::Iterate,
        }
    }
}

// Scripts.

/// What user code does.
enum Word {
    Honest,
    Lie,
    Panic,
    /// With the key that the next word says.
    Deed(Deed, u8),
}

/// What the thread's user code does next.
#[derive(Default)]
struct Script {
    words: Vec<u8>,
}

impl Script {
    fn new(bytes: &[u8]) -> Self {
        // The first comes last, to be taken first.
        let words = bytes.iter().rev();
        Self {
            words: words.flat_map(|byte| [byte & 15, byte >> 4]).collect(),
        }
    }

    fn next(&mut self) -> Word {
        let Some(word) = self.words.pop() else {
            return Word::Honest;
        };
        let deed = match word {
            0..=3 => return Word::Honest,
            4 | 5 => return Word::Lie,
            6 | 7 => return Word::Panic,
            8 => Deed::Intern,
            9 => Deed::InternHonest,
            10 | 11 => Deed::Drop,
            12 => Deed::Remove,
            13 => Deed::Insert,
            14 => Deed::Init,
            // Any.
            _ => Deed::decode(self.words.pop().unwrap_or(0) << 1),
        };
        Word::Deed(deed, self.words.pop().unwrap_or(0))
    }
}

/// Where the thread's user code finds itself.
struct Scene {
    stage: Arc<Stage>,
    pocket: Arc<Pocket>,
}

thread_local! {
    static THE_SCRIPT: RefCell<Script> = const { RefCell::new(Script { words: Vec::new() }) };
    static THE_SCENE: RefCell<Option<Arc<Scene>>> = const { RefCell::new(None) };
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// What user code panics with.
struct Thrown;

/// The end of the user code's part.
struct Curtain;

impl Drop for Curtain {
    fn drop(&mut self) {
        THE_SCRIPT.take();
        THE_SCENE.take();
        DEPTH.take();
    }
}

/// User code runs. Whether it is to lie.
fn meddle() -> bool {
    // None of the thread-locals is there any more when the thread ends: then there is no script either.
    let word = THE_SCRIPT
        .try_with(|script| script.borrow_mut().next())
        .unwrap_or(Word::Honest);
    match word {
        Word::Honest => false,
        Word::Lie => true,
        Word::Panic => {
            // A second panic would abort, as anywhere.
            if !thread::panicking() {
                resume_unwind(Box::new(Thrown));
            }
            false
        }
        Word::Deed(deed, key) => {
            let scene = THE_SCENE.with_borrow(Option::clone);
            if let Some(scene) = scene
                && DEPTH.get() < DEEPEST
            {
                DEPTH.set(DEPTH.get() + 1);
                scene.perform(deed, key);
                DEPTH.set(DEPTH.get() - 1);
            }
            false
        }
    }
}

/// What an assertion of the library says when a builder answers something else.
const REFUSAL: &str = "not equivalent to the key it was built for";

/// Does something that may panic, and returns what comes of it before anything else is dropped.
fn attempt<R>(f: impl FnOnce() -> R) -> Option<R> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(result) => Some(result),
        Err(thrown) => {
            let message = thrown.downcast_ref::<&str>();
            let expected =
                thrown.is::<Thrown>() || message.is_some_and(|text| text.contains(REFUSAL));
            if !expected {
                resume_unwind(thrown);
            }
            None
        }
    }
}

/// Keeps the process's panic hook from reporting, or from ending the process, when a panic is part of the play.
pub fn expect_refusals() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let report = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !panic
                .payload_as_str()
                .is_some_and(|text| text.contains(REFUSAL))
            {
                report(panic);
            }
        }));
    });
}

// Values.

#[derive(Debug)]
struct Value {
    honest: bool,
    counted: Counted,
}

impl Hash for Value {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.counted.assert_alive();
        let lie = !self.honest && meddle();
        (self.counted.key ^ u64::from(lie)).hash(state);
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        let equal = self.counted == other.counted && self.honest == other.honest;
        if self.honest && other.honest {
            return equal;
        }
        let lie = meddle();
        // Who looks for an honest value isn't lied to, but may be panicked at.
        if self.honest { equal } else { equal != lie }
    }
}

impl Eq for Value {}

impl Clone for Value {
    fn clone(&self) -> Self {
        let mut counted = self.counted.clone();
        if !self.honest && meddle() {
            counted.key ^= 1;
        }
        Self {
            honest: self.honest,
            counted,
        }
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        self.counted.assert_alive();
        if !self.honest {
            meddle();
        }
    }
}

type Entry = Cached<Value, Value>;

/// A handle of any kind.
enum Held {
    Value(Interned<Value>),
    Slice(Interned<[Value]>),
    Entry(Entry),
}

impl Held {
    /// Distinguishes what is alive at one time.
    fn address(&self) -> usize {
        match self {
            Self::Value(value) => Interned::as_ptr(value).addr(),
            Self::Slice(slice) => Interned::as_ptr(slice).cast::<()>().addr(),
            Self::Entry(entry) => std::ptr::from_ref::<Value>(entry).addr(),
        }
    }

    fn count(&self) -> usize {
        match self {
            Self::Value(value) => Interned::ref_count(value),
            Self::Slice(slice) => Interned::ref_count(slice),
            Self::Entry(entry) => Cached::ref_count(entry),
        }
    }

    fn population(&self) -> usize {
        match self {
            Self::Value(_) => 1,
            Self::Slice(slice) => slice.len(),
            Self::Entry(_) => 2,
        }
    }
}

/// What an actor holds.
#[derive(Default)]
pub struct Pocket {
    /// Handles, and which of the stages that came one after the other they are from.
    held: Mutex<Vec<(Held, usize)>>,
    weak: Mutex<Vec<(WeakInterned<Value>, usize)>>,
}

impl Pocket {
    /// Takes a handle out; whoever drops it runs user code, and nothing is locked then.
    fn remove(&self, slot: u8) -> Option<(Held, usize)> {
        let mut held = lock(&self.held);
        let index = usize::from(slot).checked_rem(held.len())?;
        Some(held.swap_remove(index))
    }
}

/// The tables.
struct Stage {
    values: Interner<Value, Hashing>,
    slices: Interner<[Value], Hashing>,
    map: WeakMap<Value, Value, Hashing>,
    generation: usize,
    ledger: Arc<Ledger>,
}

/// What is known of all stages.
#[derive(Default)]
struct Ledger {
    census: Arc<Census>,
    /// Of the closures that were handed in.
    closures: Arc<Census>,
    /// Serial numbers of the entries that the map may have forgotten.
    forgotten: Mutex<HashSet<u64>>,
}

impl Ledger {
    fn value(&self, key: u8, honest: bool) -> Value {
        Value {
            honest,
            counted: Counted::new(u64::from(key % 8), &self.census),
        }
    }

    fn hostile(&self, key: u8) -> Value {
        self.value(key, false)
    }

    fn honest(&self, key: u8) -> Value {
        self.value(key, true)
    }

    fn slice(&self, key: u8) -> Vec<Value> {
        (0..key % 4)
            .map(|offset| self.hostile(key % 8 + offset))
            .collect()
    }

    /// A closure that runs user code.
    fn closure(&self) -> impl Fn() + Send + Sync + 'static {
        let owned = Counted::new(0, &self.closures);
        move || {
            owned.assert_alive();
            meddle();
        }
    }
}

impl Stage {
    fn new(hashing: Hashing, generation: usize, ledger: Arc<Ledger>) -> Self {
        Self {
            values: Interner::with_hasher(hashing),
            slices: Interner::with_hasher(hashing),
            map: WeakMap::with_hasher(hashing),
            generation,
            ledger,
        }
    }
}

impl Scene {
    fn hold(&self, held: Option<Held>) {
        let generation = self.stage.generation;
        lock(&self.pocket.held).extend(held.map(|held| (held, generation)));
    }

    /// Looks something up with a key whose own destructor may panic later.
    fn look_up<R>(&self, key: Value, f: impl FnOnce(&Value) -> R) -> Option<R> {
        let result = attempt(|| f(&key));
        attempt(|| drop(key));
        result
    }

    fn perform(&self, deed: Deed, key: u8) {
        let Stage {
            values,
            slices,
            map,
            ledger,
            ..
        } = &*self.stage;
        match deed {
            Deed::Intern => {
                let handle = attempt(|| values.intern(ledger.hostile(key)));
                self.hold(handle.map(Held::Value));
            }
            Deed::InternHonest => {
                let handle = attempt(|| values.intern(ledger.honest(key)));
                self.check_honest(handle.as_ref(), key);
                self.hold(handle.map(Held::Value));
            }
            Deed::InternRef => {
                let handle = self.look_up(ledger.hostile(key), |value| values.intern(value));
                self.hold(handle.map(Held::Value));
            }
            Deed::InternWith => {
                let handle = self.look_up(ledger.hostile(key), |value| {
                    values.intern_with(value, |_| ledger.hostile(key ^ u8::from(meddle())))
                });
                self.hold(handle.map(Held::Value));
            }
            Deed::InternSlice => self.intern_slice(slices, key),
            Deed::Get => {
                let found = self.look_up(ledger.hostile(key), |value| values.get(value));
                self.hold(found.flatten().map(Held::Value));
                let found = self.look_up(ledger.honest(key), |value| values.get(value));
                let found = found.flatten();
                self.check_honest(found.as_ref(), key);
                self.hold(found.map(Held::Value));
            }
            Deed::Insert => {
                let entry = attempt(|| map.get_or_insert(ledger.hostile(key), ledger.hostile(key)));
                self.hold(entry.map(Held::Entry));
            }
            Deed::InsertHonest => {
                let entry = attempt(|| map.get_or_insert(ledger.honest(key), ledger.hostile(key)));
                if let Some(entry) = &entry {
                    let found = Cached::key(entry);
                    assert!(found.honest && found.counted.key == u64::from(key % 8));
                }
                self.hold(entry.map(Held::Entry));
            }
            Deed::Build => {
                let entry = attempt(|| {
                    map.try_get_or_insert_with(ledger.value(key, key >= 128), |_| {
                        self.build(key, false)
                    })
                });
                self.hold(entry.and_then(Result::ok).map(Held::Entry));
            }
            Deed::Init => {
                let entry = attempt(|| {
                    map.try_get_or_init(ledger.value(key, key >= 128), |_| self.build(key, true))
                });
                let entry = entry.and_then(|entry: Result<_, InitError<()>>| entry.ok());
                self.hold(entry.map(Held::Entry));
            }
            Deed::Find => {
                let found = self.look_up(ledger.value(key, key >= 128), |key| map.get(key));
                self.hold(found.flatten().map(Held::Entry));
            }
            Deed::Remove => {
                let removed = self.look_up(ledger.value(key, key >= 128), |key| map.remove(key));
                if let Some(entry) = removed.flatten() {
                    lock(&ledger.forgotten).insert(entry.counted.serial);
                    self.hold(Some(Held::Entry(entry)));
                }
            }
            Deed::Drop => {
                let removed = self.pocket.remove(key);
                attempt(|| drop(removed));
            }
            Deed::TryUnwrap => self.try_unwrap(key),
            Deed::Watch => self.watch(key),
            Deed::Upgrade => {
                let weak = lock(&self.pocket.weak).pop();
                if let Some((weak, generation)) = weak {
                    let upgraded = weak.upgrade().map(|value| (Held::Value(value), generation));
                    lock(&self.pocket.held).extend(upgraded);
                    attempt(|| drop(weak));
                }
            }
            Deed::SetHook => {
                let closure = ledger.closure();
                attempt(|| {
                    values.on_drop(move |value| {
                        value.counted.assert_alive();
                        closure();
                    });
                });
                let closure = ledger.closure();
                attempt(|| {
                    map.on_drop(move |key, value| {
                        key.counted.assert_alive();
                        value.counted.assert_alive();
                        closure();
                    });
                });
            }
            Deed::ClearHook => {
                attempt(|| values.clear_on_drop());
                attempt(|| map.clear_on_drop());
            }
            Deed::Iterate => {
                self.iterate(values.iter().map(Held::Value));
                self.iterate(map.iter().map(Held::Entry));
            }
            Deed::Flush => values.flush(),
        }
    }

    /// Keeps the first handle, and drops the others: some of them are the last, or the iteration itself has it.
    fn iterate(&self, mut handles: impl Iterator<Item = Held>) {
        self.hold(handles.next());
        while let Some(Some(held)) = attempt(|| handles.next()) {
            attempt(|| drop(held));
        }
        attempt(|| drop(handles));
    }

    fn check_honest(&self, handle: Option<&Interned<Value>>, key: u8) {
        if let Some(handle) = handle {
            handle.counted.assert_alive();
            assert!(handle.honest && handle.counted.key == u64::from(key % 8));
        }
    }

    fn intern_slice(&self, slices: &Interner<[Value], Hashing>, key: u8) {
        let ledger = &self.stage.ledger;
        if key < 128 {
            let handle = attempt(|| slices.intern(ledger.slice(key)));
            self.hold(handle.map(Held::Slice));
        } else {
            let slice = ledger.slice(key);
            let handle = attempt(|| slices.intern(&slice));
            self.hold(handle.map(Held::Slice));
            for value in slice {
                attempt(|| drop(value));
            }
        }
    }

    /// What the builder of a map's entry does.
    fn build(&self, key: u8, init: bool) -> Result<Value, ()> {
        let ledger = &self.stage.ledger;
        if meddle() {
            return Err(());
        }
        let value = ledger.hostile(key);
        if init {
            // If another one is inserted meanwhile, and dies, it comes to be removed at once.
            lock(&ledger.forgotten).insert(value.counted.serial);
        }
        Ok(value)
    }

    fn try_unwrap(&self, slot: u8) {
        match self.pocket.remove(slot) {
            Some((Held::Value(handle), generation)) => {
                let outcome = attempt(|| Interned::try_unwrap(handle));
                match outcome {
                    Some(Ok(value)) => drop(attempt(|| drop(value))),
                    Some(Err(handle)) => {
                        lock(&self.pocket.held).push((Held::Value(handle), generation));
                    }
                    None => {}
                }
            }
            other => lock(&self.pocket.held).extend(other),
        }
    }

    fn watch(&self, slot: u8) {
        let removed = self.pocket.remove(slot);
        if let Some((Held::Value(handle), generation)) = &removed {
            let closure = self.stage.ledger.closure();
            let weak = Interned::downgrade_with(handle, closure);
            lock(&self.pocket.weak).push((weak, *generation));
        }
        lock(&self.pocket.held).extend(removed);
    }
}

// The play.

/// Decodes a program.
pub fn decode(bytes: &[u8]) -> Program<Operation> {
    Program::decode(bytes)
}

/// Runs a program.
pub fn run(program: &Program<Operation>) {
    program::run(Play::new(&program.setup), program);
}

struct Play {
    stage: RwLock<Arc<Stage>>,
    hashing: Hashing,
    generations: AtomicUsize,
    ledger: Arc<Ledger>,
    threads: bool,
}

impl Play {
    fn new(setup: &Setup) -> Self {
        let (hashing, ledger) = (setup.hashing, Arc::<Ledger>::default());
        Self {
            stage: RwLock::new(Arc::new(Stage::new(hashing, 0, ledger.clone()))),
            hashing,
            generations: AtomicUsize::new(0),
            ledger,
            threads: setup.threads,
        }
    }

    /// Compares the tables with what is held.
    fn compare(&self, stage: &Stage, held: &[&(Held, usize)]) {
        let mut handles = BTreeMap::new();
        for (one, generation) in held {
            handles
                .entry(one.address())
                .or_insert((one, *generation, 0))
                .2 += 1;
        }
        let mut population = 0;
        let [mut values, mut slices, mut entries] = [const { BTreeSet::new() }; 3];
        for (&address, (one, generation, count)) in &handles {
            assert_eq!(one.count(), *count, "handles of one value");
            population += one.population();
            if *generation == stage.generation {
                match one {
                    Held::Value(_) => values.insert(address),
                    Held::Slice(_) => slices.insert(address),
                    Held::Entry(_) => entries.insert(address),
                };
            }
            self.look_for(stage, one, *generation);
        }
        assert_eq!(self.ledger.census.live(), population, "values");
        assert_eq!(
            (stage.values.len(), stage.slices.len()),
            (values.len(), slices.len())
        );
        let met = stage
            .values
            .iter()
            .map(|value| Held::Value(value).address());
        assert_eq!(met.collect::<BTreeSet<_>>(), values);
        let met = stage
            .slices
            .iter()
            .map(|slice| Held::Slice(slice).address());
        assert_eq!(met.collect::<BTreeSet<_>>(), slices);
        let met: BTreeSet<_> = stage
            .map
            .iter()
            .map(|entry| Held::Entry(entry).address())
            .collect();
        assert_eq!(met.len(), stage.map.len());
        assert!(met.is_subset(&entries));
    }

    /// Honest values are found.
    fn look_for(&self, stage: &Stage, held: &Held, generation: usize) {
        if generation != stage.generation {
            return;
        }
        match held {
            Held::Value(value) if value.honest => {
                assert_eq!(stage.values.get(&**value).as_ref(), Some(value));
            }
            Held::Entry(entry) if Cached::key(entry).honest => {
                let found = stage.map.get(Cached::key(entry));
                let found = found.is_some_and(|found| Cached::ptr_eq(&found, entry));
                let forgotten = lock(&self.ledger.forgotten).contains(&entry.counted.serial);
                assert!(found || forgotten, "an honest entry isn't found");
            }
            _ => {}
        }
    }
}

impl Game for Play {
    type Operation = Operation;
    type Actor = Arc<Pocket>;

    fn perform<'a>(
        &self,
        actor: &mut Arc<Pocket>,
        operations: impl Iterator<Item = &'a Operation>,
    ) {
        let stage = self.stage.read().unwrap_or_else(|error| error.into_inner());
        let scene = Arc::new(Scene {
            stage: stage.clone(),
            pocket: actor.clone(),
        });
        let _curtain = Curtain;
        THE_SCENE.set(Some(scene.clone()));
        for operation in operations {
            THE_SCRIPT.set(Script::new(&operation.script));
            scene.perform(operation.deed, operation.key);
        }
    }

    fn census(&self, actors: &[&Arc<Pocket>]) {
        let stage = self.stage.read().unwrap_or_else(|error| error.into_inner());
        let pockets: Vec<_> = actors.iter().map(|pocket| lock(&pocket.held)).collect();
        let held: Vec<_> = pockets.iter().flat_map(|held| held.iter()).collect();
        self.compare(&stage, &held);
    }

    fn change(&self, change: Change) {
        let mut stage = self
            .stage
            .write()
            .unwrap_or_else(|error| error.into_inner());
        match change {
            Change::Nothing => {}
            Change::Shrink => {
                let stage = Arc::get_mut(&mut stage).expect("no scene is left");
                stage.values.shrink_to_fit();
                stage.slices.shrink_to_fit();
                stage.map.shrink_to_fit();
            }
            Change::Renew => {
                let generation = self.generations.fetch_add(1, Ordering::SeqCst) + 1;
                *stage = Arc::new(Stage::new(self.hashing, generation, self.ledger.clone()));
            }
        }
    }

    fn let_go(&self, actor: &mut Arc<Pocket>, count: usize) {
        for _ in 0..count {
            let held = lock(&actor.held).pop();
            let Some(held) = held else { break };
            drop(held);
        }
    }

    fn handles(&self, actor: &Arc<Pocket>) -> usize {
        lock(&actor.held).len()
    }

    fn end(self) {
        self.compare(
            &self.stage.read().unwrap_or_else(|error| error.into_inner()),
            &[],
        );
        let ledger = self.ledger.clone();
        drop(self);
        assert_eq!(ledger.census.live(), 0, "values that were lost");
        assert_eq!(ledger.closures.live(), 0, "closures that were lost");
    }
}
