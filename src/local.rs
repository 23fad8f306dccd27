//! Thread-local storage as a dict of dicts: [`Local`], [`LocalCell`], [`LocalDict`].
//!
//! Python's `threading.local` is one big dictionary of small ones, `{thread: {name: value}}`, with two weak callbacks:
//! when a thread ends its small dictionary goes, and when the object goes all of them do. Rust's `thread_local!` is
//! for statics only, and nobody else can see or drop its values. Here a local is a value like any other: it lies in a
//! field, an `Arc` or a `static`, its values go with their threads or with it, whichever comes first, and other
//! threads may visit them.
//!
//! | you want | use |
//! |---|---|
//! | a value for each thread, which others may visit | [`Local`] |
//! | a value for each thread, which its thread changes | [`LocalCell`] |
//! | names for each thread, over defaults for all | [`LocalDict`] |
//! | the counts of all threads, dead ones included | [`Local::retire`], and [`Local::total`] if they are atomics |
//! | one static that is nobody else's business | [`std::thread_local!`], which is faster |
//!
//! # Python, and here
//!
//! <table>
//! <tr><td>
//!
//! ```python
//! data = threading.local()
//! data.number = 42
//!
//! def f():
//!     print(hasattr(data, "number"))
//!
//! thread = threading.Thread(target=f)
//! thread.start(); thread.join()  # False
//! ```
//!
//! </td><td>
//!
//! ```
//! # use hapax::local::LocalDict;
//! let data = LocalDict::new();
//! data.set("number", 42);
//!
//! let f = || println!("{}", data.contains("number"));
//!
//! std::thread::scope(|scope| {
//!     scope.spawn(f);            // false
//! });
//! # std::thread::scope(|scope| scope.spawn(|| assert!(!data.contains("number"))).join().unwrap());
//! ```
//!
//! </td></tr><tr><td>
//!
//! ```python
//! class MyLocal(threading.local):
//!     number = 2
//!     def __init__(self, /, **kw):
//!         self.__dict__.update(kw)
//!
//! data = MyLocal(color="red")
//! # in each thread:
//! data.number, data.color  # 2, "red"
//! ```
//!
//! </td><td>
//!
//! ```
//! # use hapax::local::LocalDict;
//! let color = "red";
//! let data = LocalDict::with_init(move || [("color", color)]);
//! data.set_default("number", "2");
//!
//!
//!
//! // in each thread:
//! assert_eq!(*data.get("number").unwrap(), "2");
//! assert_eq!(*data.get("color").unwrap(), "red");
//! ```
//!
//! </td></tr><tr><td>
//!
//! ```python
//! class Connection(threading.local):
//!     def __init__(self, path):
//!         self.file = open(path)
//!
//! connection = Connection("Cargo.toml")
//! connection.file.read()
//! ```
//!
//! </td><td>
//!
//! ```
//! # use std::{fs::File, io, io::Read};
//! # use hapax::local::LocalCell;
//! let path = "Cargo.toml";
//! let file = LocalCell::try_new(move || File::open(path));
//!
//!
//! let mut text = String::new();
//! file.try_with_borrow_mut(|file| file.read_to_string(&mut text))??;
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! </td></tr></table>
//!
//! What Python doesn't have: [`Local::for_each`] and [`Local::fold`], [`Local::on_thread_exit`], [`Local::retire`].
//!
//! # Guarantees
//!
//! 1. A thread's values are dropped when that thread ends, on that thread, before its
//!    [`join`](std::thread::JoinHandle::join) returns. (`std::thread::scope` itself returns when the closures of its
//!    threads have: join those whose ends matter.) Who holds an `Arc` on a value, from [`Local::get`] or
//!    [`Local::take`], or visits it, drops it last. When the main thread ends the process does, and whether its values
//!    are dropped is up to the platform: [`Local::take`] drops them surely.
//! 2. Dropping a local drops the values of all threads at once, on the dropping thread, those aside on which somebody
//!    holds an `Arc`. What a thread that is just ending has begun to drop, that thread drops.
//! 3. Threads are told apart by numbers that are never used again: no thread sees a value of one before it.
//! 4. An initialiser that fails or panics leaves nothing behind, and the next use calls it again. One that uses its
//!    own local gets [`LocalError::Reentrant`].
//! 5. While a thread's thread-locals are destroyed its values can be used until they are dropped themselves, also by
//!    the destructors of each other; after that the `try_…` functions answer [`LocalError::Destroyed`]. None is made
//!    then.
//! 6. No user code runs under a lock, the global allocator aside. The end of a thread never waits for user code of
//!    others: a value that is being visited then is dropped by its visitor, as soon as that has returned from it; and
//!    of threads that merge at the same time one always gets on, see [`Local::retire`].
//! 7. A value that holds its local weakly, or the local of another value, keeps nothing alive for longer.
//!
//! # How it works
//!
//! A local owns its values, in a map from thread numbers. A thread has a table that leads to its values, and a
//! *sentinel*: a handle of an interner of this crate, which goes with the thread-locals. Each entry of a local's map
//! holds a value, and a [weak handle with a callback](crate::Interned::downgrade_with) on the sentinel of its thread.
//! So the end of a thread is the death of an interned value, and the crate's own machinery tells everybody who wanted
//! to know of it, and nobody who has been dropped since. CPython does it in the same way, since version 3.13. When a
//! local goes, no thread needs to be told: the slots that it leaves in their tables are of an id that nobody asks for
//! any more.
//!
//! [`LocalInterner`](crate::LocalInterner) doesn't stand on this. Its handles count without atomics, so they can't go
//! to other threads, while the values of a `Local` must: whoever drops it drops them.

mod cell;
mod dict;
mod error;
mod in_use;
mod key;
mod per_thread;
mod sentinel;
mod slots;
mod values;

pub use cell::LocalCell;
pub use dict::LocalDict;
pub use error::LocalError;
pub use per_thread::Local;
