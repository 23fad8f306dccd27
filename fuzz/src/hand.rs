//! What an actor holds: strong and weak handles of one kind, and what it knows from them.
//!
//! The model of a weak cache is short: a value lives as long as somebody holds a handle. So the handles that all
//! actors hold at a standstill are the model, and `Desk::census` compares the library with it:
//!
//! - each value's count is the number of its handles;
//! - a weak handle finds its value while that has a handle, and never again afterwards;
//! - a callback has run once if its value died before it was cancelled; its closure is gone as soon as it has
//!   run or was cancelled, and not before.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use super::common::{Census, Counted};
use super::program::lock;

/// Which entry it is, among those of one table that are visible at one time.
pub type Name = (u64, u64);

/// A strong handle of some kind.
pub trait Handle: Clone + Send + 'static {
    type Weak: Clone + Send + 'static;

    fn name(&self) -> Name;
    /// Distinguishes values that are alive at one time.
    fn address(&self) -> usize;
    fn assert_alive(&self);
    fn count(&self) -> usize;
    /// A handle that the value owns.
    fn inner(&self) -> Option<&Strong<Self>> {
        None
    }

    fn downgrade(&self) -> Self::Weak;
    fn downgrade_with(&self, callback: impl FnOnce() + Send + 'static) -> Self::Weak;
    fn upgrade(weak: &Self::Weak) -> Option<Self>;
    fn strong_count(weak: &Self::Weak) -> usize;
    fn same(weak: &Self::Weak, other: &Self::Weak) -> bool;
}

/// A strong handle, and which of the tables that came one after the other it is from.
#[derive(Clone, Debug)]
pub struct Strong<H> {
    pub handle: H,
    pub generation: usize,
}

struct Weak<H: Handle> {
    weak: H::Weak,
    name: Name,
    generation: usize,
    callback: Option<Arc<Callback>>,
    /// Its value was found dead.
    dead: bool,
}

impl<H: Handle> Clone for Weak<H> {
    fn clone(&self) -> Self {
        Self {
            weak: self.weak.clone(),
            callback: self.callback.clone(),
            ..*self
        }
    }
}

impl<H: Handle> Weak<H> {
    fn belongs_to(&self, handle: &H) -> bool {
        handle.name() == self.name && H::same(&self.weak, &handle.downgrade())
    }
}

/// What has become of a callback.
#[derive(Debug, Default)]
struct Callback {
    ran: AtomicUsize,
    dropped: AtomicUsize,
    /// How often it had run when it was first seen cancelled.
    settled: OnceLock<usize>,
}

/// Owned by a callback's closure.
struct Token(Arc<Callback>);

impl Token {
    fn run(&self) {
        self.0.ran.fetch_add(1, Ordering::SeqCst);
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

/// What can be done with handles of any kind.
#[derive(Clone, Copy, Debug)]
pub enum Action {
    Clone,
    Drop,
    Downgrade,
    DowngradeWith,
    CloneWeak,
    DropWeak,
    Upgrade,
    /// Hands a handle over to whoever takes one next.
    Give,
    Take,
}

impl Action {
    /// How many kinds of records `decode` distinguishes.
    pub const KINDS: u8 = 24;

    pub fn decode(kind: u8) -> Self {
        match kind {
            0..=2 => Self::Clone,
            3..=9 => Self::Drop,
            10..=11 => Self::Downgrade,
            12..=13 => Self::DowngradeWith,
            14 => Self::CloneWeak,
            15..=16 => Self::DropWeak,
            17..=19 => Self::Upgrade,
            20..=21 => Self::Give,
            _ => Self::Take,
        }
    }
}

/// The handles of one actor.
pub struct Hand<H: Handle> {
    strong: Vec<Strong<H>>,
    weak: Vec<Weak<H>>,
}

impl<H: Handle> Default for Hand<H> {
    fn default() -> Self {
        Self {
            strong: Vec::new(),
            weak: Vec::new(),
        }
    }
}

fn index(slot: u8, len: usize) -> Option<usize> {
    usize::from(slot).checked_rem(len)
}

impl<H: Handle> Hand<H> {
    pub fn hold(&mut self, handle: H, generation: usize) {
        self.strong.push(Strong { handle, generation });
    }

    pub fn handles(&self) -> usize {
        self.strong.len() + self.weak.len()
    }

    pub fn at(&self, slot: u8) -> Option<&Strong<H>> {
        index(slot, self.strong.len()).map(|index| &self.strong[index])
    }

    pub fn remove(&mut self, slot: u8) -> Option<Strong<H>> {
        index(slot, self.strong.len()).map(|index| self.strong.swap_remove(index))
    }

    /// The handles to values of one table.
    pub fn of(&self, generation: usize) -> impl Iterator<Item = &H> {
        self.strong
            .iter()
            .filter(move |strong| strong.generation == generation)
            .map(|strong| &strong.handle)
    }

    pub fn let_go(&mut self, count: usize) {
        let strong = count.min(self.strong.len());
        self.strong.truncate(self.strong.len() - strong);
        let weak = (count - strong).min(self.weak.len());
        self.weak.truncate(self.weak.len() - weak);
    }

    pub fn act(&mut self, action: Action, slot: u8, desk: &Desk<H>) {
        match action {
            Action::Clone => {
                if let Some(strong) = self.at(slot).cloned() {
                    self.strong.push(strong);
                }
            }
            Action::Drop => {
                if let Some(strong) = self.remove(slot) {
                    strong.handle.assert_alive();
                }
            }
            Action::Downgrade | Action::DowngradeWith => self.downgrade(action, slot, desk),
            Action::CloneWeak => {
                if let Some(index) = index(slot, self.weak.len()) {
                    self.weak.push(self.weak[index].clone());
                }
            }
            Action::DropWeak => {
                if let Some(index) = index(slot, self.weak.len()) {
                    self.weak.swap_remove(index);
                }
            }
            Action::Upgrade => self.upgrade(slot),
            Action::Give => {
                if let Some(strong) = self.remove(slot) {
                    lock(&desk.exchange).push(strong);
                }
            }
            Action::Take => {
                let taken = lock(&desk.exchange).pop();
                if let Some(strong) = taken {
                    strong.handle.assert_alive();
                    self.strong.push(strong);
                }
            }
        }
    }

    fn downgrade(&mut self, action: Action, slot: u8, desk: &Desk<H>) {
        let Some(Strong { handle, generation }) = self.at(slot) else {
            return;
        };
        let callback = matches!(action, Action::DowngradeWith).then(|| desk.callback());
        let weak = match &callback {
            None => handle.downgrade(),
            Some(callback) => {
                let token = Token(callback.clone());
                handle.downgrade_with(move || token.run())
            }
        };
        assert!(
            H::upgrade(&weak).is_some(),
            "a held value isn't found by its weak handle"
        );
        let weak = Weak {
            weak,
            name: handle.name(),
            generation: *generation,
            callback,
            dead: false,
        };
        self.weak.push(weak);
    }

    fn upgrade(&mut self, slot: u8) {
        let Some(index) = index(slot, self.weak.len()) else {
            return;
        };
        let weak = &mut self.weak[index];
        if let Some(handle) = H::upgrade(&weak.weak) {
            handle.assert_alive();
            assert!(!weak.dead, "a dead value is found by its weak handle");
            assert_eq!(handle.name(), weak.name);
            let generation = weak.generation;
            self.hold(handle, generation);
        } else {
            weak.dead = true;
            let weak = &self.weak[index];
            let mut held = self.strong.iter();
            assert!(
                !held.any(|strong| weak.belongs_to(&strong.handle)),
                "a held value isn't found by its weak handle"
            );
        }
    }
}

/// What the actors share about their handles of one kind.
pub struct Desk<H: Handle> {
    /// Handles on their way from one actor to another.
    exchange: Mutex<Vec<Strong<H>>>,
    callbacks: Mutex<Vec<Arc<Callback>>>,
}

impl<H: Handle> Default for Desk<H> {
    fn default() -> Self {
        Self {
            exchange: Mutex::default(),
            callbacks: Mutex::default(),
        }
    }
}

impl<H: Handle> Desk<H> {
    fn callback(&self) -> Arc<Callback> {
        let callback = Arc::<Callback>::default();
        lock(&self.callbacks).push(callback.clone());
        callback
    }

    /// Compares counts, weak handles and callbacks with what is held, and shows that.
    pub fn census<R>(&self, hands: &[&Hand<H>], look: impl FnOnce(&Holdings<'_, H>) -> R) -> R {
        let exchange = lock(&self.exchange);
        let mut holdings = Holdings(BTreeMap::new());
        for strong in hands.iter().flat_map(|hand| &hand.strong).chain(&*exchange) {
            holdings.add(strong);
        }
        holdings.check_counts();
        for weak in hands.iter().flat_map(|hand| &hand.weak) {
            holdings.check_weak(weak);
        }
        self.check_callbacks(hands);
        look(&holdings)
    }

    /// Callbacks whose last weak handle is gone.
    fn check_callbacks(&self, hands: &[&Hand<H>]) {
        let held: HashSet<_> = hands
            .iter()
            .flat_map(|hand| &hand.weak)
            .filter_map(|weak| weak.callback.as_ref().map(Arc::as_ptr))
            .collect();
        for callback in &*lock(&self.callbacks) {
            if held.contains(&Arc::as_ptr(callback)) {
                continue;
            }
            let ran = callback.ran.load(Ordering::SeqCst);
            let dropped = callback.dropped.load(Ordering::SeqCst);
            assert_eq!(dropped, 1, "closures of a cancelled callback dropped");
            assert!(ran <= 1, "a callback ran {ran} times");
            let settled = *callback.settled.get_or_init(|| ran);
            assert_eq!(settled, ran, "a callback ran after it was cancelled");
        }
    }

    /// Nobody holds anything any more.
    pub fn end(self) {
        let Self {
            exchange,
            callbacks,
        } = self;
        drop(exchange);
        for callback in &*lock(&callbacks) {
            assert_eq!(callback.dropped.load(Ordering::SeqCst), 1);
        }
    }
}

/// A value that somebody holds.
pub struct Instance<'a, H> {
    pub handle: &'a H,
    pub generation: usize,
    handles: usize,
}

/// All that is held, by address.
pub struct Holdings<'a, H>(BTreeMap<usize, Instance<'a, H>>);

impl<'a, H: Handle> Holdings<'a, H> {
    /// Counts a handle, and those that its value owns, and so on.
    fn add(&mut self, strong: &'a Strong<H>) {
        let mut next = Some(strong);
        while let Some(Strong { handle, generation }) = next {
            let address = handle.address();
            let instance = self.0.entry(address).or_insert(Instance {
                handle,
                generation: *generation,
                handles: 0,
            });
            assert_eq!(
                instance.generation, *generation,
                "one value in two tables, one after the other"
            );
            instance.handles += 1;
            next = if instance.handles == 1 {
                handle.inner()
            } else {
                None
            };
        }
    }

    pub fn all(&self) -> impl Iterator<Item = &Instance<'a, H>> {
        self.0.values()
    }

    /// Values of one table, by address.
    pub fn of(&self, generation: usize) -> impl Iterator<Item = (usize, &'a H)> {
        self.0
            .iter()
            .filter(move |(_, instance)| instance.generation == generation)
            .map(|(&address, instance)| (address, instance.handle))
    }

    fn check_counts(&self) {
        for instance in self.0.values() {
            instance.handle.assert_alive();
            let (counted, held) = (instance.handle.count(), instance.handles);
            assert_eq!(counted, held, "handles of {:?}", instance.handle.name());
        }
    }

    fn check_weak(&self, weak: &Weak<H>) {
        let lives = self
            .0
            .values()
            .find(|instance| weak.belongs_to(instance.handle));
        let found = H::upgrade(&weak.weak).map(|handle| handle.address());
        assert_eq!(
            found,
            lives.map(|instance| instance.handle.address()),
            "what a weak handle of {:?} finds",
            weak.name
        );
        assert_eq!(
            H::strong_count(&weak.weak),
            lives.map_or(0, |instance| instance.handles)
        );
        assert!(
            !(weak.dead && lives.is_some()),
            "a dead value is alive again"
        );
        if let Some(callback) = &weak.callback {
            let ran = callback.ran.load(Ordering::SeqCst);
            let dropped = callback.dropped.load(Ordering::SeqCst);
            let expected = usize::from(lives.is_none());
            assert_eq!((ran, dropped), (expected, expected), "a callback's runs");
        }
    }
}

/// The drop hook of a table, and what it has seen.
#[derive(Default)]
pub struct Hook {
    log: Arc<Log>,
    /// Whether one was set, where one thread does everything.
    set: AtomicBool,
    /// Of the functions that were set.
    closures: Arc<Census>,
}

#[derive(Debug, Default)]
struct Log {
    calls: AtomicUsize,
    /// Serial numbers of the values that died.
    serials: Mutex<HashSet<u64>>,
}

impl Hook {
    /// A function to be set, which notes a call.
    pub fn function(&self) -> impl Fn(Option<u64>) + Send + Sync + 'static {
        let (log, owned) = (self.log.clone(), Counted::new(0, &self.closures));
        self.set.store(true, Ordering::SeqCst);
        move |serial| {
            owned.assert_alive();
            log.calls.fetch_add(1, Ordering::SeqCst);
            if let Some(serial) = serial {
                let new = lock(&log.serials).insert(serial);
                assert!(new, "the hook was called twice for a value");
            }
        }
    }

    /// The function was removed, or its table is gone.
    pub fn unset(&self) {
        self.set.store(false, Ordering::SeqCst);
    }

    pub fn is_set(&self) -> bool {
        self.set.load(Ordering::SeqCst)
    }

    pub fn calls(&self) -> usize {
        self.log.calls.load(Ordering::SeqCst)
    }

    /// Nobody does anything.
    pub fn check(&self, live: impl Iterator<Item = u64>) {
        let serials = lock(&self.log.serials);
        for serial in live {
            assert!(
                !serials.contains(&serial),
                "the hook was called for a live value"
            );
        }
        let closures = self.closures.live();
        assert!(closures <= 1, "{closures} hooks at one time");
    }

    /// The table is gone.
    pub fn end(self) {
        assert_eq!(self.closures.live(), 0, "a hook was lost");
    }
}
