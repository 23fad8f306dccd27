//! `LocalDict`: a namespace for each thread.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::mem;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::{LocalCell, LocalError};

type Dict<K, V> = HashMap<K, Arc<V>>;

/// A dictionary for each thread, over defaults that all threads share: Python's `threading.local` with its attributes,
/// and those of its class.
///
/// A look-up finds what the calling thread has set, or else the default. What a thread sets no other thread sees, and
/// it goes with the thread, as a value of [`Local`](super::Local) does. Values are shared, as objects are by Python's
/// names: for state that its thread changes use a [`LocalCell`].
///
/// # Panics
///
/// Where the calling thread's dictionary is being made or changed further up the stack, by the initialiser or for the
/// `Hash` and `Eq` of a key, and can't be asked. [`try_get`](Self::try_get) and [`try_set`](Self::try_set) say so
/// instead, as it should be in a panic hook.
///
/// # Examples
///
/// ```
/// use hapax::local::LocalDict;
///
/// let request = LocalDict::new();
/// request.set_default("user", "nobody");
/// request.set("user", "alice");
/// std::thread::scope(|scope| {
///     scope.spawn(|| assert_eq!(request.get("user").as_deref(), Some(&"nobody")));
/// });
/// assert_eq!(request.get("user").as_deref(), Some(&"alice"));
/// ```
pub struct LocalDict<K, V> {
    dicts: LocalCell<Dict<K, V>>,
    defaults: ArcSwap<Dict<K, V>>,
}

impl<K, V> LocalDict<K, V>
where
    K: Eq + Hash + Send + 'static,
    V: Send + Sync + 'static,
{
    /// Dictionaries that are empty at first.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::local::LocalDict;
    ///
    /// let dict = LocalDict::new();
    /// dict.set("x", 5);
    /// assert!(dict.contains("x"));
    /// ```
    #[must_use]
    pub fn new() -> Self {
        Self::with_init(|| [])
    }

    /// Dictionaries that begin with what `init` returns, called on first use in each thread with what it has
    /// captured: the `__init__` of a subclass, which Python runs again in each thread with the same arguments.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::local::LocalDict;
    ///
    /// let color = "red";
    /// let dict = LocalDict::with_init(move || [("color", color)]);
    /// assert_eq!(dict.get("color").as_deref(), Some(&"red"));
    /// ```
    pub fn with_init<I: IntoIterator<Item = (K, V)>>(
        init: impl Fn() -> I + Send + Sync + 'static,
    ) -> Self {
        Self {
            dicts: LocalCell::new(move || {
                let pairs = init().into_iter();
                pairs.map(|(key, value)| (key, Arc::new(value))).collect()
            }),
            defaults: ArcSwap::default(),
        }
    }

    /// Sets a key for the calling thread, and returns what it had set before.
    ///
    /// # Panics
    ///
    /// Where [`try_set`](Self::try_set) fails.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::local::LocalDict;
    ///
    /// let dict = LocalDict::new();
    /// assert_eq!(dict.set("x", 5), None);
    /// assert_eq!(dict.set("x", 6).as_deref(), Some(&5));
    /// ```
    #[track_caller]
    pub fn set(&self, key: K, value: V) -> Option<Arc<V>> {
        match self.try_set(key, value) {
            Ok(old) => old,
            Err((error, ..)) => error.panic(),
        }
    }

    /// As [`set`](Self::set).
    ///
    /// # Errors
    ///
    /// Hands key and value back: with [`LocalError::Destroyed`] if the thread is ending, and its dictionary was dropped;
    /// with [`LocalError::Reentrant`] if it is being made or used further up the stack.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::local::LocalDict;
    ///
    /// assert_eq!(LocalDict::new().try_set("x", 5), Ok(None));
    /// ```
    pub fn try_set(&self, key: K, value: V) -> Result<Option<Arc<V>>, (LocalError, K, V)> {
        let mut pair = Some((key, value));
        let set = self.dicts.try_with_borrow_mut(|dict| {
            let (key, value) = pair.take()?;
            let value = Arc::new(value);
            if let Some(at) = dict.get_mut(&key) {
                // The second key is dropped outside.
                return Some((mem::replace(at, value), key));
            }
            dict.insert(key, value);
            None
        });
        match (set, pair) {
            (Ok(old), _) => Ok(old.map(|(value, _)| value)),
            (Err(error), Some((key, value))) => Err((error, key, value)),
            (Err(_), None) => unreachable!("the pair is taken where nothing fails any more"),
        }
    }

    /// What the calling thread has set, or else the default.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::local::LocalDict;
    ///
    /// let dict = LocalDict::<&str, u32>::new();
    /// assert_eq!(dict.get("x"), None);
    /// dict.set_default("x", 5);
    /// assert_eq!(dict.get("x").as_deref(), Some(&5));
    /// ```
    #[track_caller]
    pub fn get<Q>(&self, key: &Q) -> Option<Arc<V>>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        match self.try_get(key) {
            Ok(value) => value,
            Err(error) => error.panic(),
        }
    }

    /// As [`get`](Self::get).
    ///
    /// # Errors
    ///
    /// [`LocalError::Reentrant`] if the calling thread's dictionary is being made or changed further up the stack.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::local::LocalDict;
    ///
    /// assert_eq!(LocalDict::<&str, u32>::new().try_get("x"), Ok(None));
    /// ```
    pub fn try_get<Q>(&self, key: &Q) -> Result<Option<Arc<V>>, LocalError>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        match self.dicts.try_with_borrow(|dict| dict.get(key).cloned()) {
            Err(LocalError::Reentrant) => Err(LocalError::Reentrant),
            Ok(Some(own)) => Ok(Some(own)),
            _ => Ok(self.get_default(key)),
        }
    }

    /// Whether [`get`](Self::get) finds something.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::local::LocalDict;
    ///
    /// assert!(!LocalDict::<&str, u32>::new().contains("x"));
    /// ```
    #[track_caller]
    pub fn contains<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.own(|dict| dict.contains_key(key)).unwrap_or(false)
            || self.defaults.load().contains_key(key)
    }

    /// Removes what the calling thread has set, and returns it. A default comes to light again.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::local::LocalDict;
    ///
    /// let dict = LocalDict::new();
    /// dict.set_default("x", 5);
    /// dict.set("x", 6);
    /// assert_eq!(dict.remove("x").as_deref(), Some(&6));
    /// assert_eq!(dict.remove("x"), None);
    /// assert_eq!(dict.get("x").as_deref(), Some(&5));
    /// ```
    #[track_caller]
    pub fn remove<Q>(&self, key: &Q) -> Option<Arc<V>>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        // The key is dropped outside.
        let removed = match self
            .dicts
            .try_with_borrow_mut(|dict| dict.remove_entry(key))
        {
            Err(error @ LocalError::Reentrant) => error.panic(),
            answer => answer.ok().flatten(),
        };
        removed.map(|(_, value)| value)
    }

    /// Removes all that the calling thread has set, as at the end of a request. Its initialiser doesn't run again.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::local::LocalDict;
    ///
    /// let dict = LocalDict::new();
    /// dict.set("x", 5);
    /// dict.clear();
    /// assert_eq!(dict.get("x"), None);
    /// ```
    #[track_caller]
    pub fn clear(&self) {
        // Keys and values are dropped outside.
        match self.dicts.try_with_borrow_mut(mem::take) {
            Err(error @ LocalError::Reentrant) => error.panic(),
            answer => drop(answer),
        }
    }

    /// The keys that the calling thread has set, in no order.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::local::LocalDict;
    ///
    /// let dict = LocalDict::new();
    /// dict.set("x", 5);
    /// assert_eq!(dict.keys(), ["x"]);
    /// ```
    #[track_caller]
    pub fn keys(&self) -> Vec<K>
    where
        K: Clone,
    {
        self.own(|dict| dict.keys().cloned().collect())
            .unwrap_or_default()
    }

    /// What the calling thread has set, as it is now: Python's `__dict__`. To change the copy changes nothing here.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::collections::HashMap;
    /// use std::sync::Arc;
    ///
    /// use hapax::local::LocalDict;
    ///
    /// let dict = LocalDict::new();
    /// dict.set_default("y", 6);
    /// dict.set("x", 5);
    /// assert_eq!(dict.snapshot(), HashMap::from([("x", Arc::new(5))]));
    /// ```
    #[track_caller]
    pub fn snapshot(&self) -> HashMap<K, Arc<V>>
    where
        K: Clone,
    {
        self.own(Dict::clone).unwrap_or_default()
    }

    /// What threads see that haven't set the key: an attribute of the class, in Python.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::local::LocalDict;
    ///
    /// let dict = LocalDict::new();
    /// dict.set_default("x", 5);
    /// dict.set("x", 6);
    /// assert_eq!(dict.get_default("x").as_deref(), Some(&5));
    /// ```
    pub fn get_default<Q>(&self, key: &Q) -> Option<Arc<V>>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.defaults.load().get(key).cloned()
    }

    /// Sets a default, which all threads see that haven't set the key themselves. The defaults are copied for it: they
    /// are meant to be few, and to be read often.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::local::LocalDict;
    ///
    /// let dict = LocalDict::new();
    /// dict.set_default("x", 5);
    /// assert_eq!(dict.get("x").as_deref(), Some(&5));
    /// ```
    pub fn set_default(&self, key: K, value: V)
    where
        K: Clone,
    {
        let value = Arc::new(value);
        self.defaults.rcu(|defaults| {
            let mut defaults = Dict::clone(defaults);
            defaults.insert(key.clone(), value.clone());
            defaults
        });
    }

    /// Removes a default, and returns it.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::local::LocalDict;
    ///
    /// let dict = LocalDict::new();
    /// dict.set_default("x", 5);
    /// assert_eq!(dict.remove_default("x").as_deref(), Some(&5));
    /// assert_eq!(dict.get("x"), None);
    /// ```
    pub fn remove_default<Q>(&self, key: &Q) -> Option<Arc<V>>
    where
        K: Borrow<Q> + Clone,
        Q: Eq + Hash + ?Sized,
    {
        let before = self.defaults.rcu(|defaults| {
            let mut defaults = Dict::clone(defaults);
            defaults.remove(key);
            defaults
        });
        before.get(key).cloned()
    }

    /// The calling thread's dictionary, or `None` if it was dropped with the thread.
    #[track_caller]
    fn own<R>(&self, f: impl FnOnce(&Dict<K, V>) -> R) -> Option<R> {
        match self.dicts.try_with_borrow(f) {
            Err(error @ LocalError::Reentrant) => error.panic(),
            answer => answer.ok(),
        }
    }
}

impl<K, V> LocalDict<K, V> {
    /// How many threads have a dictionary, perhaps an empty one.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::local::LocalDict;
    ///
    /// let dict = LocalDict::new();
    /// dict.set("x", 5);
    /// assert_eq!(dict.len(), 1);
    /// ```
    pub fn len(&self) -> usize {
        self.dicts.len()
    }

    /// Whether no thread has a dictionary.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::local::LocalDict;
    ///
    /// assert!(LocalDict::<&str, u32>::new().is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.dicts.is_empty()
    }
}

impl<K, V> Default for LocalDict<K, V>
where
    K: Eq + Hash + Send + 'static,
    V: Send + Sync + 'static,
{
    fn default() -> Self {
        Self::new()
    }
}

impl<K, V> fmt::Debug for LocalDict<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalDict")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
