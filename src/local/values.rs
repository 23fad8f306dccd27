//! A local's side: the values of all threads, what dead ones have left, and what is called when one ends.
//!
//! Everything is behind one lock, which is held for a few steps and never while user code runs: no initialiser,
//! visitor, destructor or merge. Nobody takes it on the way of a hit.

use std::any::Any;
use std::collections::BTreeMap;
use std::iter;
use std::mem;
use std::ops::Bound::{Excluded, Included};
use std::ops::Deref;
use std::sync::Arc;

use super::key::Key;
use super::{in_use, sentinel, slots};
use crate::WeakInterned;
use crate::table::FirstPanic;
use crate::table::primitive::{Mutex, lock, thread_number};

/// A thread's value, in the hands of all.
struct Held<T>(Arc<T>);

// SAFETY: only its own thread looks at a value that isn't `Sync`. Others move such a reference about and drop it, and
// with it perhaps the value, which is `Send`.
unsafe impl<T: Send> Send for Held<T> {}

impl<T> Clone for Held<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Deref for Held<T> {
    type Target = Arc<T>;

    fn deref(&self) -> &Arc<T> {
        &self.0
    }
}

struct Entry<T> {
    value: Held<T>,
    /// Cancelled with the entry.
    _at_thread_end: WeakInterned<u64>,
}

/// What dead threads have left. Its type is only known to `Local`, because `retire` may change it when there are values,
/// whose callbacks know theirs by then.
type Total = Arc<dyn Any + Send + Sync>;

/// Merges values into one copy of the total.
type Merge<T> =
    dyn Fn(&(dyn Any + Send + Sync), &mut dyn Iterator<Item = Held<T>>) -> Total + Send + Sync;

type OnExit<T> = dyn Fn(&T) + Send + Sync;

struct State<T> {
    /// By the number of the thread, which is never 0 and which no other one ever has; in order, so that `iter` can let
    /// go of the lock between two values.
    by_thread: BTreeMap<u64, Entry<T>>,
    on_exit: Option<Arc<OnExit<T>>>,
    /// What the values of dead threads came to, and how it came to it.
    total: Total,
    merge: Option<Arc<Merge<T>>>,
}

/// The values of one local.
pub(super) struct Values<T> {
    key: Key,
    state: Mutex<State<T>>,
}

impl<T: Send + 'static> Values<T> {
    pub(super) fn new(key: Key) -> Self {
        Self {
            key,
            state: Mutex::new(State {
                by_thread: BTreeMap::new(),
                on_exit: None,
                total: Arc::new(()),
                merge: None,
            }),
        }
    }

    pub(super) fn set_on_exit(&self, f: impl Fn(&T) + Send + Sync + 'static) {
        let old = lock(&self.state).on_exit.replace(Arc::new(f));
        drop(old);
    }

    pub(super) fn set_merge<A: Clone + Send + Sync + 'static>(
        &self,
        initial: A,
        merge: impl Fn(&mut A, &T) + Send + Sync + 'static,
    ) {
        let merge = move |total: &(dyn Any + Send + Sync),
                          values: &mut dyn Iterator<Item = Held<T>>| {
            let mut next = downcast::<A>(total).clone();
            values.for_each(|value| merge(&mut next, &value));
            Arc::new(next) as Total
        };
        let mut state = lock(&self.state);
        let old = (
            mem::replace(&mut state.total, Arc::new(initial)),
            state.merge.replace(Arc::new(merge)),
        );
        drop(state);
        drop(old);
    }

    /// Gives the calling thread its first value. `None` if that is ending, and its values were dropped.
    pub(super) fn insert(self: &Arc<Self>, value: Arc<T>) -> Option<()> {
        let thread = thread_number();
        let values = Arc::downgrade(self);
        let at_thread_end = sentinel::at_thread_end(move || {
            if let Some(values) = values.upgrade() {
                values.leave(thread);
            }
        })?;
        let entry = Entry {
            value: Held(value),
            _at_thread_end: at_thread_end,
        };
        let old = lock(&self.state).by_thread.insert(thread, entry);
        debug_assert!(old.is_none(), "a thread has one value");
        Some(())
    }

    fn value_of(&self, thread: u64) -> Option<Arc<T>> {
        let state = lock(&self.state);
        Some(state.by_thread.get(&thread)?.value.0.clone())
    }

    /// Replaces the calling thread's value, if it has one.
    pub(super) fn replace(&self, value: Arc<T>) -> Option<Arc<T>> {
        let mut state = lock(&self.state);
        let entry = state.by_thread.get_mut(&thread_number())?;
        Some(mem::replace(&mut entry.value, Held(value)).0)
    }

    /// Takes the calling thread's value away.
    pub(super) fn take(&self) -> Option<Arc<T>> {
        self.take_of(thread_number())
    }

    /// As `take`, for the calling thread's number, which it may not be able to find any more.
    fn take_of(&self, thread: u64) -> Option<Arc<T>> {
        let entry = lock(&self.state).by_thread.remove(&thread)?;
        Some(self.let_go(entry))
    }

    /// The calling thread has given its entry up.
    fn let_go(&self, entry: Entry<T>) -> Arc<T> {
        slots::clear(self.key);
        in_use::keep(self.key, &entry.value);
        entry.value.0
    }

    /// The values of all threads that have one now. One at a time, so that a value whose thread ends is held for one
    /// step only.
    pub(super) fn iter(&self) -> impl Iterator<Item = Arc<T>>
    where
        T: Sync,
    {
        let last = lock(&self.state).by_thread.keys().next_back().copied();
        let mut seen = 0;
        iter::from_fn(move || {
            let state = lock(&self.state);
            let rest = (Excluded(seen), Included(last?));
            let (&thread, entry) = state.by_thread.range(rest).next()?;
            seen = thread;
            Some(entry.value.0.clone())
        })
    }

    /// What dead threads have left.
    pub(super) fn retired<A: Send + Sync + 'static>(&self) -> Arc<A> {
        let total = lock(&self.state).total.clone();
        total.downcast().expect("`set_merge` had the same type")
    }

    /// What dead threads have left and what all others have now, each value once.
    pub(super) fn total<A: Clone + Send + Sync + 'static>(&self) -> A
    where
        T: Sync,
    {
        let mut values = Vec::new();
        let mut state = lock(&self.state);
        // Not under the lock: the allocator might use this local.
        while values.capacity() < state.by_thread.len() {
            let len = state.by_thread.len();
            drop(state);
            values.reserve(len);
            state = lock(&self.state);
        }
        values.extend(state.by_thread.values().map(|entry| entry.value.clone()));
        let (mut total, merge) = (state.total.clone(), state.merge.clone());
        drop(state);
        if let Some(merge) = merge {
            total = merge(&*total, &mut values.into_iter());
        }
        downcast::<A>(&*total).clone()
    }

    /// The calling thread, which has that number, ends.
    fn leave(&self, thread: u64) {
        let mut panics = FirstPanic::default();
        panics.catch(|| self.tell_exit(thread));
        panics.catch(|| self.retire(thread));
        // If there is no merge, or it has panicked, or the value isn't that which was merged.
        panics.catch(|| drop(self.take_of(thread)));
        // They were reported, and there is nobody to pass them on to.
        panics.discard();
    }

    fn tell_exit(&self, thread: u64) {
        let on_exit = lock(&self.state).on_exit.clone();
        if let Some(on_exit) = on_exit
            && let Some(value) = self.value_of(thread)
        {
            on_exit(&value);
        }
    }

    /// Merges the value of the calling thread into the total and removes it in the same moment: whoever looks at
    /// both finds it in one of them, and in one only.
    ///
    /// The total is replaced, never changed. If another thread has replaced it meanwhile, we merge again.
    fn retire(&self, thread: u64) {
        loop {
            let state = lock(&self.state);
            let (Some(merge), Some(entry)) = (&state.merge, state.by_thread.get(&thread)) else {
                return;
            };
            let (merge, value, total) = (merge.clone(), entry.value.clone(), state.total.clone());
            drop(state);

            let next = merge(&*total, &mut iter::once(value.clone()));

            let mut state = lock(&self.state);
            let entry = state.by_thread.get(&thread);
            if !entry.is_some_and(|entry| Arc::ptr_eq(&entry.value, &value)) {
                // The merge itself has taken the value away.
                return;
            }
            if Arc::ptr_eq(&state.total, &total) {
                state.total = next;
                let entry = state.by_thread.remove(&thread);
                drop(state);
                let mut panics = FirstPanic::default();
                panics.catch(|| drop(value));
                panics.catch(|| drop(entry.map(|entry| self.let_go(entry))));
                panics.catch(|| drop(total));
                return panics.resume();
            }
        }
    }
}

impl<T> Values<T> {
    /// How many threads have a value.
    pub(super) fn len(&self) -> usize {
        lock(&self.state).by_thread.len()
    }

    /// Drops everything. The local itself goes.
    pub(super) fn clear(&self, panics: &mut FirstPanic) {
        let mut state = lock(&self.state);
        let values = mem::take(&mut state.by_thread);
        let on_exit = state.on_exit.take();
        let merge = state.merge.take();
        let total = mem::replace(&mut state.total, Arc::new(()));
        drop(state);
        for entry in values.into_values() {
            panics.catch(|| drop(entry));
        }
        panics.catch(|| drop(on_exit));
        panics.catch(|| drop(merge));
        panics.catch(|| drop(total));
    }
}

fn downcast<A: 'static>(total: &(dyn Any + Send + Sync)) -> &A {
    total.downcast_ref().expect("`set_merge` had the same type")
}
