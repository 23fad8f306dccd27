//! A lock-free weak interning cache: one shared instance of every equal value, gone with its last handle.
//!
//! Programs hold the same value thousands of times: identifiers in a compiler, labels in a metrics store,
//! paths, types, configuration, objects built over shared data. An [`Interner`] holds each once and hands
//! out cheap handles to it. It holds only weak links itself: a value lives as long as somebody has a
//! handle, and its entry goes with the last one, at once.
//!
//! ```
//! use hapax::{Interned, Interner};
//!
//! static NAMES: Interner<str> = Interner::new();
//!
//! let a: Interned<str> = NAMES.intern("alpha");
//! let b = NAMES.intern(String::from("alpha"));
//! assert_eq!(a, b);                  // one comparison of pointers
//! assert_eq!(NAMES.len(), 1);
//!
//! drop((a, b));
//! assert_eq!(NAMES.len(), 0);
//! assert_eq!(NAMES.get("alpha"), None);
//! ```
//!
//! # What is here
//!
//! - [`Interner`]: a cache keyed by content. [`Interned`] and [`WeakInterned`] are its handles, [`Pinned`]
//!   is a session for many calls, [`Interner::intern_all`] takes many values at once. [`global_interner!`]
//!   gives a type one interner for the whole program.
//! - [`LocalInterner`]: the front of an interner on one thread, whose handles, [`LocalInterned`], and hits write
//!   nothing that threads share.
//! - [`WeakMap`]: a cache from keys to values, with [`Cached`] and [`WeakCached`] as handles.
//!   [`WeakMap::get_or_init`] builds a value exactly once, [`WeakMap::get_or_init_async`] for tasks.
//! - [`IdentityMap`]: a map keyed by *which* object it is, not by what it contains.
//! - [`local`]: thread-local storage as a dict of dicts, as `threading.local` is in Python.
//! - [`finalize`]: finalizers on a thread of their own, and values that live as long as a key.
//! - `sync`, with the feature of that name: Python's threading primitives and python-safethread's monitors and scopes, which
//!   break deadlocks instead of hanging.
//! - `coord`, with the feature `coord-sqlite`: locks, semaphores and rate limits that the processes of a machine share, and
//!   what one of them computes for all; with `coord-redis` those of many machines.
//!
//! # Guarantees
//!
//! 1. Look-up, insert, drop and growth are lock-free, the allocator aside: none of them waits for another
//!    thread. Only [`WeakMap::get_or_init`] and its other forms wait, for the builder of their own key.
//! 2. At any instant there is at most one live entry for a key: two handles of one interner hold equal values
//!    if and only if they are the same pointer.
//! 3. The entry is gone before the [drop hook](Interner::on_drop), the destructor and the
//!    [callbacks](Interned::downgrade_with) run, in this order. Each runs at most once, on a thread that is
//!    dropping a handle of that key, with no lock and no pin of ours, but that of an open [`Pinned`]. When all
//!    drops of that key's handles have returned, they have run: of drops that overlap, an earlier one may do it for
//!    a later one, which then returns before. Iterators, and look-ups of a key with the same hash, hold handles
//!    too, for a moment. They may intern, drop handles and panic. Values that die inside of a destructor of the
//!    same interner die after it, the last one first: a chain of a million handles, each owned by the value before,
//!    needs no deep stack.
//! 4. A hit allocates nothing and a miss at most once, apart from a thread's first use, growth, the builders' registry
//!    of `get_or_init`, and the bookkeeping of reclamation: 6 KiB for 256 dead entries, which are used again.
//! 5. A `Hash` or `Eq` that lies, a poor hasher, a panic in a constructor, comparison, callback or
//!    destructor: no undefined behaviour, no hang, no leak of other entries.
//! 6. Handles work in thread-local destructors, and after their interner is gone.
//! 7. `T` need not be `'static`. Interners and maps are invariant in their parameters, handles covariant.
//!    All are `Send` and `Sync` only where their parameters are both.
//!
//! # Consistency
//!
//! A hit is an entry that was live at some moment of the call. A miss is a key that had no live entry at
//! some moment of the call. [`Interner::len`] is exact whenever nothing else runs. An iteration yields every
//! entry that was alive throughout exactly once, and others perhaps.
//!
//! # Trade-offs
//!
//! - The memory of a dead entry waits until no thread can still be reading it. Reclamation is
//!   [crossbeam-epoch]'s, in a collector of this crate's own: a thread that keeps a session ([`Pinned`]) open, or
//!   sleeps inside a call, delays that memory, and nothing else; what others do with crossbeam-epoch doesn't.
//!   Values are destroyed at once in any case.
//! - A thread keeps the memory of at most four times 256 dead entries, 40 KiB each time, until it drops more, and
//!   puts new entries there; [`Interner::flush`] gives it back.
//! - An interner or map that ever held a value takes 1.6 KiB for its table, and up to 7.5 KiB more, in steps of 0.5
//!   to 4 KiB, when threads beyond the first four of the process add to it or take from it. When it is dropped,
//!   that is kept for the next one, and never returned to the allocator.
//! - The table doesn't shrink by itself: after a peak, 4 to 32 bytes for each entry of the peak stay until
//!   [`Interner::shrink_to_fit`], which needs exclusive access. A `static` keeps them.
//! - Each value costs 32 bytes for its header, unsized ones 40, and 4 to 32 for its share of the
//!   table, the less the more there are.
//! - On a key that all threads want at once they share its count: a clone or hit writes one shared word. Those of
//!   a [`LocalInterner`] don't, nor those of a value that is [immortal](Interned::immortalize).
//!
//! # Features
//!
//! - `arc-swap` (default): `arc_swap::RefCnt` for the handles, so that `ArcSwapAny<Interned<T>>` works.
//! - `sync`: locks, monitors and scopes that break deadlocks instead of hanging.
//! - `coord-sqlite`: locks and semaphores that processes share, on a SQLite file; SQLite is bundled. `coord-redis`: among many
//!   machines, on a Redis server; `coord-redis-tls`: over TLS, with rustls. `coord`: the same in memory, for tests. `tracing`:
//!   events of them.
//! - `serde`: handles are serialised as their values, and deserialised into an interner.
//!
//! # How it works
//!
//! A split-ordered list of nodes with intrusive, sticky counts. `src/table/mod.rs` begins with an essay on the
//! protocol; `docs/TESTING.md` says what was done to break it.
//!
//! # What doesn't compile
//!
//! Handles are covariant, interners and maps are not:
//!
//! ```
//! use hapax::Interned;
//! fn shorten<'a>(handle: Interned<&'static str>) -> Interned<&'a str> { handle }
//! ```
//!
//! ```compile_fail
//! use hapax::Interner;
//! fn shorten<'a>(interner: &'a Interner<&'static str>) -> &'a Interner<&'a str> { interner }
//! ```
//!
//! ```compile_fail
//! use hapax::WeakMap;
//! fn shorten<'a>(map: &'a WeakMap<&'static str, u8>) -> &'a WeakMap<&'a str, u8> { map }
//! ```
//!
//! So are the handles of a [`LocalInterner`], and the front isn't:
//!
//! ```
//! use hapax::LocalInterned;
//! fn shorten<'a>(handle: LocalInterned<&'static str>) -> LocalInterned<&'a str> { handle }
//! ```
//!
//! ```
//! use hapax::{Interner, LocalInterner};
//! type Front<'a, 'b> = LocalInterner<&'a Interner<&'b str>>;
//! fn same<'a>(front: &'a Front<'a, 'static>) -> &'a Front<'a, 'static> { front }
//! ```
//!
//! ```compile_fail
//! use hapax::{Interner, LocalInterner};
//! type Front<'a, 'b> = LocalInterner<&'a Interner<&'b str>>;
//! fn shorten<'a>(front: &'a Front<'a, 'static>) -> &'a Front<'a, 'a> { front }
//! ```
//!
//! A value doesn't outlive what it borrows:
//!
//! ```
//! let text = String::from("alpha");
//! let words = hapax::Interner::<&str>::new();
//! let word = words.intern(&text[..]);
//! drop(words);
//! assert_eq!(**word, *"alpha");
//! ```
//!
//! ```compile_fail,E0505
//! let text = String::from("alpha");
//! let words = hapax::Interner::<&str>::new();
//! let word = words.intern(&text[..]);
//! drop(words);
//! drop(text);
//! assert_eq!(**word, *"alpha");
//! ```
//!
//! A front doesn't outlive its interner. Its handles do:
//!
//! ```
//! let names = hapax::Interner::<str>::new();
//! let local = hapax::LocalInterner::new(&names);
//! let alpha = local.intern("alpha");
//! drop(local);
//! drop(names);
//! assert_eq!(alpha, *"alpha");
//! ```
//!
//! ```compile_fail,E0505
//! let names = hapax::Interner::<str>::new();
//! let local = hapax::LocalInterner::new(&names);
//! drop(names);
//! assert!(local.is_empty());
//! ```
//!
//! A reference doesn't outlive the handle that it came from:
//!
//! ```compile_fail,E0505
//! let names = hapax::Interner::<str>::new();
//! let alpha = names.intern("alpha");
//! let text: &str = &alpha;
//! drop(alpha);
//! assert_eq!(text, "alpha");
//! ```
//!
//! Interners, maps and handles are `Send` and `Sync` where the values are both, and nowhere else:
//!
//! ```
//! fn both<T: Send + Sync>() {}
//! both::<hapax::Interner<String>>();
//! both::<hapax::Interned<String>>();
//! both::<hapax::WeakInterned<String>>();
//! both::<hapax::WeakMap<String, String>>();
//! both::<hapax::Cached<String, String>>();
//! both::<hapax::WeakCached<String, String>>();
//! ```
//!
//! ```compile_fail,E0277
//! fn send<T: Send>() {}
//! send::<hapax::Interned<std::cell::Cell<u8>>>();
//! ```
//!
//! ```compile_fail,E0277
//! fn sync<T: Sync>() {}
//! sync::<hapax::Interner<std::rc::Rc<String>>>();
//! ```
//!
//! ```compile_fail,E0277
//! fn send<T: Send>() {}
//! send::<hapax::WeakInterned<std::cell::Cell<u8>>>();
//! ```
//!
//! ```compile_fail,E0277
//! fn send<T: Send>() {}
//! send::<hapax::Cached<u8, std::cell::Cell<u8>>>();
//! ```
//!
//! ```compile_fail,E0277
//! fn send<T: Send>() {}
//! send::<hapax::Pinned<'static, str>>();
//! ```
//!
//! A [`local`](local::Local) is both where its values are `Send`: whoever drops it drops them. References to them don't
//! leave the closures that get them.
//!
//! ```
//! fn both<T: Send + Sync>() {}
//! both::<hapax::local::Local<std::cell::Cell<u8>>>();
//! let name = hapax::local::Local::new(|| String::from("alpha"));
//! let length = name.with(|name| name.len());
//! ```
//!
//! ```compile_fail,E0277
//! hapax::local::Local::new(|| std::rc::Rc::new(5));
//! ```
//!
//! ```compile_fail
//! let name = hapax::local::Local::new(|| String::from("alpha"));
//! let name: &String = name.with(|name| name);
//! ```
//!
//! A front and its handles stay on their thread, whatever the values are. What they [share](LocalInterned::share)
//! doesn't:
//!
//! ```
//! let names = hapax::Interner::<str>::new();
//! let local = hapax::LocalInterner::new(&names);
//! let alpha = local.intern("alpha");
//! let alpha = hapax::LocalInterned::share(&alpha);
//! std::thread::scope(|scope| { scope.spawn(move || drop(alpha)); });
//! ```
//!
//! ```compile_fail,E0277
//! let names = hapax::Interner::<str>::new();
//! let local = hapax::LocalInterner::new(&names);
//! let alpha = local.intern("alpha");
//! std::thread::scope(|scope| { scope.spawn(move || drop(alpha)); });
//! ```
//!
//! ```compile_fail,E0277
//! let names = hapax::Interner::<str>::new();
//! let local = hapax::LocalInterner::new(&names);
//! let alpha = local.intern("alpha");
//! std::thread::scope(|scope| { scope.spawn(|| alpha.len()); });
//! ```
//!
//! ```compile_fail,E0277
//! let names = hapax::Interner::<str>::new();
//! let local = hapax::LocalInterner::new(&names);
//! std::thread::scope(|scope| { scope.spawn(move || drop(local)); });
//! ```
//!
//! ```compile_fail,E0277
//! let names = hapax::Interner::<str>::new();
//! let local = hapax::LocalInterner::new(&names);
//! std::thread::scope(|scope| { scope.spawn(|| local.len()); });
//! ```
//!
//! [crossbeam-epoch]: https://docs.rs/crossbeam-epoch

mod builds;
mod cached;
#[cfg(all(feature = "coord", not(any(loom, shuttle))))]
pub mod coord;
pub mod finalize;
// Under loom and shuttle there are no statics that outlive a run.
#[cfg(not(any(loom, shuttle)))]
mod global;
mod handle;
mod hasher;
mod identity;
mod init;
mod intern;
mod intern_all;
mod interner;
pub mod local;
mod local_interner;
mod map;
mod memory;
mod panic;
mod pinned;
#[cfg(all(feature = "serde", not(any(loom, shuttle))))]
mod serde;
#[cfg(feature = "arc-swap")]
mod swap;
#[cfg(feature = "sync")]
pub mod sync;
mod table;

pub use cached::{Cached, WeakCached};
#[cfg(not(any(loom, shuttle)))]
pub use global::Global;
pub use handle::{Interned, WeakInterned};
pub use hasher::RandomState;
pub use identity::{ById, Identity, IdentityMap};
pub use init::InitError;
pub use intern::Intern;
pub use intern_all::InternAll;
pub use interner::{Interner, Iter};
pub use local_interner::{LocalInterned, LocalInterner};
pub use map::{MapIter, WeakMap};
pub use memory::MemoryUsage;
pub use pinned::Pinned;
#[cfg(feature = "arc-swap")]
pub use swap::Pointee;
pub use table::Internable;

/// What the models of `loom-tests` and other tests of this crate need, and nobody else.
#[doc(hidden)]
pub mod model {
    /// Whether the calling thread is pinned.
    pub fn is_pinned() -> bool {
        crate::table::is_pinned()
    }

    /// Does what the first pin of a thread does, and the first entry that it makes. To be called at the beginning of
    /// each thread of a model that isn't about it.
    #[cfg(loom)]
    pub fn begin_thread() {
        drop(pin());
        crate::table::begin_thread();
    }

    /// Pins the calling thread.
    #[cfg(loom)]
    pub fn pin() -> impl Sized {
        crate::table::pin()
    }

    /// Carries the collector on by one step, and runs what is due then.
    #[cfg(loom)]
    pub fn collect() {
        crate::table::pin().flush();
    }

    /// From now on the time is over for all waits that have a limit.
    #[cfg(any(loom, shuttle))]
    pub fn pass_time() {
        crate::table::primitive::pass_time();
    }

    /// Does what thread exit does with the locks that the thread has. To be called at the end of each thread of a model
    /// that takes some.
    #[cfg(all(feature = "sync", any(loom, shuttle)))]
    pub fn end_locks() {
        crate::sync::tell_end();
    }

    /// In the place of a scope, of which loom has none: what cancels threads that are within it.
    #[cfg(all(feature = "sync", loom))]
    #[derive(Clone, Default)]
    #[allow(missing_debug_implementations, reason = "nobody prints it")]
    pub struct Cancellation(std::sync::Arc<crate::sync::Token>);

    #[cfg(all(feature = "sync", loom))]
    impl Cancellation {
        pub fn cancel(&self) {
            self.0.cancel();
        }

        /// Runs `f` as a child of the scope.
        pub fn with<R>(&self, f: impl FnOnce() -> R) -> R {
            let within = crate::sync::Within::new(vec![self.0.clone()]);
            let result = f();
            drop(within);
            result
        }
    }

    /// Does what thread exit does. To be called at the end of each thread of a model.
    #[cfg(loom)]
    pub fn end_thread() {
        crate::table::end_thread();
    }
}

/// The examples of the README run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
