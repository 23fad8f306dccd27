//! Building the value of a map's entry exactly once.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::future;
use std::hash::{BuildHasher, Hash};

use equivalent::Equivalent;

use crate::builds::{self, Claim, TaskWait, Waited, Who};
use crate::cached::Entry;
use crate::map::wanted;
use crate::table::{Found, NewNode, Outcome, Pending, Ref, pin};
use crate::{Cached, WeakMap};

impl<K: Hash + Eq, V, S: BuildHasher> WeakMap<K, V, S> {
    /// The live entry of the key, or one that is built for it, by exactly one thread.
    ///
    /// Others of that key wait and get that very value, also if the builder lets go of it at once; those of
    /// other keys aren't held up. If `build` panics, the next one who waits builds. While it runs, other
    /// methods don't see the entry.
    ///
    /// [`get_or_insert`](Self::get_or_insert) and its kin don't wait. If one of them inserts the key
    /// meanwhile, its value counts: this call and those that wait return that, and what was built is dropped.
    /// If it has died again by then, this call returns its own value as an entry that was removed at once.
    ///
    /// # Panics
    ///
    /// If `build` panics, on this thread only. If this thread would wait for itself: when it is called from
    /// within `build` for the same key, or for one whose builder waits for this thread, through any number
    /// of keys, maps and threads. [`try_get_or_init`](Self::try_get_or_init) returns an error instead.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::WeakMap;
    /// let map = WeakMap::new();
    /// std::thread::scope(|scope| {
    ///     for _ in 0..4 {
    ///         scope.spawn(|| assert_eq!(*map.get_or_init(3, |n| n * n), 9));
    ///     }
    /// });
    /// ```
    pub fn get_or_init(&self, key: K, build: impl FnOnce(&K) -> V) -> Cached<K, V> {
        match self.try_get_or_init(key, |key| Ok::<V, Infallible>(build(key))) {
            Ok(entry) => entry,
            Err(InitError::Init(never)) => match never {},
            Err(InitError::Deadlock) => panic!("{}", InitError::<Infallible>::Deadlock),
        }
    }

    /// As [`get_or_init`](Self::get_or_init), by a borrowed key, which is cloned on a miss only.
    ///
    /// # Panics
    ///
    /// As `get_or_init`.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::WeakMap;
    /// let lengths = WeakMap::<String, usize>::new();
    /// assert_eq!(*lengths.get_or_init_ref("alpha", |key| key.len()), 5);
    /// ```
    pub fn get_or_init_ref<Q>(&self, key: &Q, build: impl FnOnce(&K) -> V) -> Cached<K, V>
    where
        Q: ?Sized + Hash + Equivalent<K> + ToOwned<Owned = K>,
    {
        match self.get(key) {
            Some(entry) => {
                drop(build);
                entry
            }
            None => self.get_or_init(key.to_owned(), build),
        }
    }

    /// As [`get_or_init`](Self::get_or_init), if building may fail.
    ///
    /// # Errors
    ///
    /// - [`InitError::Init`] with what this call's own `build` returned. Others that wait build in turn.
    /// - [`InitError::Deadlock`] if this thread would wait for itself.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::{InitError, WeakMap};
    /// let map = WeakMap::<&str, i32>::new();
    /// let outer = map.try_get_or_init("a", |_| match map.try_get_or_init("a", |_| Ok::<_, ()>(1)) {
    ///     Err(InitError::Deadlock) => Ok::<_, ()>(2),
    ///     _ => unreachable!("this thread builds it"),
    /// });
    /// assert_eq!(*outer.unwrap(), 2);
    /// ```
    pub fn try_get_or_init<E>(
        &self,
        key: K,
        build: impl FnOnce(&K) -> Result<V, E>,
    ) -> Result<Cached<K, V>, InitError<E>> {
        let hash = self.hasher.hash_one(&key);
        let mut sought = self.seek(hash, key, Who::Thread);
        loop {
            match sought {
                Sought::Built(entry, key) => {
                    // User code, which may panic, before there is a result that a panic would lose.
                    drop((key, build));
                    return Ok(Cached::from_ref(entry));
                }
                Sought::Ours(under_way) => return self.build(under_way, hash, build),
                Sought::UnderWay(entry, key) => {
                    let waited = builds::wait_for(entry.node());
                    sought = self.go_on(waited, entry, key, hash, Who::Thread)?;
                }
            }
        }
    }

    /// As [`get_or_init`](Self::get_or_init), for a task: it waits without blocking its thread, on any executor, for
    /// builders that are threads or tasks. A future that is dropped waits, or builds, no longer; the next one who waits
    /// builds then.
    ///
    /// Nobody looks for circles of tasks: one that awaits its own key within `build` sleeps for ever, and so does a thread
    /// that waits for a task which needs it to go on.
    ///
    /// # Panics
    ///
    /// If `build` panics, in this task only.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::task::{Context, Poll, Waker};
    /// use hapax::{Cached, WeakMap};
    ///
    /// # async fn fetch(id: u32) -> String { id.to_string() }
    /// async fn page(pages: &WeakMap<u32, String>, id: u32) -> Cached<u32, String> {
    ///     pages.get_or_init_async(id, async |&id| fetch(id).await).await
    /// }
    /// # let pages = WeakMap::new();
    /// # let mut page = std::pin::pin!(page(&pages, 5));
    /// # let Poll::Ready(page) = page.as_mut().poll(&mut Context::from_waker(Waker::noop())) else { unreachable!() };
    /// # assert_eq!(*page, "5");
    /// ```
    pub async fn get_or_init_async(
        &self,
        key: K,
        build: impl AsyncFnOnce(&K) -> V,
    ) -> Cached<K, V> {
        let build = async |key: &K| Ok::<V, Infallible>(build(key).await);
        match self.try_get_or_init_async(key, build).await {
            Ok(entry) => entry,
            Err(InitError::Init(never)) => match never {},
            Err(InitError::Deadlock) => unreachable!("nobody looks for it"),
        }
    }

    /// As [`get_or_init_async`](Self::get_or_init_async), if building may fail.
    ///
    /// # Errors
    ///
    /// [`InitError::Init`] with what this call's own `build` returned. Others that wait build in turn.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::task::{Context, Poll, Waker};
    /// use hapax::{InitError, WeakMap};
    ///
    /// let map = WeakMap::<&str, u32>::new();
    /// let mut entry = Box::pin(map.try_get_or_init_async("a", async |_| Err("no such file")));
    /// # let mut context = Context::from_waker(Waker::noop());
    /// # let Poll::Ready(entry) = entry.as_mut().poll(&mut context) else { unreachable!() };
    /// # assert_eq!(entry.unwrap_err(), InitError::Init("no such file"));
    /// ```
    pub async fn try_get_or_init_async<E>(
        &self,
        key: K,
        build: impl AsyncFnOnce(&K) -> Result<V, E>,
    ) -> Result<Cached<K, V>, InitError<E>> {
        let hash = self.hasher.hash_one(&key);
        let mut sought = self.seek(hash, key, Who::Task);
        let under_way = loop {
            match sought {
                Sought::Built(entry, key) => {
                    // As in `try_get_or_init`.
                    drop((key, build));
                    return Ok(Cached::from_ref(entry));
                }
                Sought::Ours(under_way) => break under_way,
                Sought::UnderWay(entry, key) => {
                    let wait = TaskWait::new(entry.node());
                    let waited = future::poll_fn(|cx| wait.poll(entry.node(), cx)).await;
                    drop(wait);
                    sought = self.go_on(waited, entry, key, hash, Who::Task)?;
                }
            }
        };
        let value = build(&under_way.entry.value().key).await;
        let value = value.map_err(InitError::Init)?;
        Ok(self.finish(under_way, hash, value))
    }

    /// Finds the entry, or begins to build one.
    fn seek(&self, hash: u64, seed: K, who: Who) -> Sought<K, V> {
        let mut claim = None;
        let outcome = self.table.search_or_insert(
            hash,
            pin(),
            seed,
            |pending, entry, found| {
                wanted(pending, |key| key) == &entry.value().key
                    && match found {
                        Found::Live | Found::Immortal | Found::Building => true,
                        Found::HeldBack => self.publish(entry),
                        Found::Hidden | Found::Dead => false,
                    }
            },
            // Claiming takes a lock.
            true,
            |key, seat| {
                let node = NewNode::sized(seat, Entry::new(key, None)).building();
                // Before others can see it: who finds it finds its builder.
                claim = Some(Claim::of_new(node.address(), who));
                node
            },
        );
        // A claim of our own that came too late is nobody's business any more.
        match outcome {
            Outcome::Inserted(entry) => {
                let claim = claim.expect("a node is claimed when it is made");
                Sought::Ours(Build { claim, entry })
            }
            Outcome::Met(entry, Found::Building, rest) => {
                drop(claim);
                Sought::UnderWay(entry, rest.into_key())
            }
            Outcome::Met(entry, _, rest) => {
                drop(claim);
                Sought::Built(entry, rest.into_key())
            }
        }
    }

    /// After a wait for an entry that somebody else was building.
    fn go_on<E>(
        &self,
        waited: Waited,
        entry: Ref<Entry<K, V>>,
        key: K,
        hash: u64,
        who: Who,
    ) -> Result<Sought<K, V>, InitError<E>> {
        match waited {
            Waited::Built => Ok(Sought::Built(entry, key)),
            Waited::Claimed(claim) => {
                let under_way = Build { claim, entry };
                drop(key);
                Ok(Sought::Ours(under_way))
            }
            Waited::Deadlock => Err(InitError::Deadlock),
            Waited::GivenUp => {
                drop(entry);
                Ok(self.seek(hash, key, who))
            }
        }
    }

    /// Publishes an entry that is held back behind one that was given up, unless it gave way. Whether
    /// look-ups see it then.
    fn publish(&self, entry: &Ref<Entry<K, V>>) -> bool {
        self.table.publish(entry);
        entry.node().is_visible()
    }

    /// Builds an entry that this thread has claimed.
    fn build<E>(
        &self,
        under_way: Build<K, V>,
        hash: u64,
        build: impl FnOnce(&K) -> Result<V, E>,
    ) -> Result<Cached<K, V>, InitError<E>> {
        let value = build(&under_way.entry.value().key).map_err(InitError::Init)?;
        Ok(self.finish(under_way, hash, value))
    }

    /// Publishes what was built.
    fn finish(&self, under_way: Build<K, V>, hash: u64, value: V) -> Cached<K, V> {
        let entry = &under_way.entry;
        let key = &entry.value().key;
        // SAFETY: the caller has the claim, and the entry isn't built yet.
        unsafe { *entry.value().value.get() = Some(value) };
        // Published.
        if self.table.publish_built(entry) {
            return Cached::from_ref(under_way.finish());
        }
        // Given up by `get_or_insert`, whose own entry is linked by now, and counts.
        let other = self.table.search(hash, pin(), |other, found| {
            other.value().key == *key
                && match found {
                    Found::Live | Found::Immortal => true,
                    Found::HeldBack => self.publish(other),
                    Found::Building | Found::Hidden | Found::Dead => false,
                }
        });
        if let Some(other) = other {
            // SAFETY: the caller has the claim, and the entry will never be built.
            let lost = unsafe { (*entry.value().value.get()).take() };
            drop(under_way.finish());
            drop(lost);
            return Cached::from_ref(other);
        }
        // That has come and gone. So ours comes after it, as an entry that was removed at once.
        entry.node().finish_hidden();
        Cached::from_ref(under_way.finish())
    }
}

/// What a look-up has come to.
enum Sought<K, V> {
    /// An entry with a value; and the caller's key, which wasn't needed.
    Built(Ref<Entry<K, V>>, K),
    /// An entry that the caller is to build.
    Ours(Build<K, V>),
    /// An entry that somebody else builds, and the caller's key.
    UnderWay(Ref<Entry<K, V>>, K),
}

/// An entry that this thread or task builds. Dropping it lets others build.
struct Build<K, V> {
    // The claim goes first: the registry must not know the node when our count is gone.
    claim: Claim,
    entry: Ref<Entry<K, V>>,
}

impl<K, V> Build<K, V> {
    /// Lets those who wait look at what has become of the entry.
    fn finish(self) -> Ref<Entry<K, V>> {
        let Self { claim, entry } = self;
        drop(claim);
        entry
    }
}

impl<K, V> Pending<K, Entry<K, V>> {
    /// The key, out of the node if need be.
    fn into_key(self) -> K {
        match self {
            Pending::Seed(key) => key,
            Pending::Node(node) => node.into_value().key,
        }
    }
}

/// Why an entry could not be had.
///
/// # Examples
///
/// ```
/// use hapax::InitError;
///
/// let error: InitError<std::num::ParseIntError> = InitError::Init("x".parse::<i32>().unwrap_err());
/// assert_eq!(error.to_string(), "invalid digit found in string");
/// assert!(error.into_init().is_some());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InitError<E> {
    /// The calling thread would wait for itself, directly or through other builders.
    Deadlock,
    /// What the caller's own builder returned.
    Init(E),
}

impl<E> InitError<E> {
    /// Returns what the caller's own builder returned, if that is the error.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::InitError;
    /// assert_eq!(InitError::Init("no such file").into_init(), Some("no such file"));
    /// assert_eq!(InitError::<()>::Deadlock.into_init(), None);
    /// ```
    pub fn into_init(self) -> Option<E> {
        match self {
            Self::Deadlock => None,
            Self::Init(error) => Some(error),
        }
    }
}

/// Says what the builder's error says, and passes on its source.
impl<E: fmt::Display> fmt::Display for InitError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deadlock => f.write_str("the builder of this key waits for the calling thread"),
            Self::Init(error) => error.fmt(f),
        }
    }
}

impl<E: Error> Error for InitError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Deadlock => None,
            Self::Init(error) => error.source(),
        }
    }
}
