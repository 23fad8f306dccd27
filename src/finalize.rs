//! Finalizers, on a thread of their own.
//!
//! A destructor runs on whatever thread drops the last handle, in the middle of what that is doing: under its locks, within
//! its time. Here a value gives up its *core* when it dies, and the core is finalized elsewhere, once, in order:
//! python-safethread's `__finalize__` and `__finalizeattrs__`.
//!
//! - [`Deferred`] drops a value on the thread of a finalizer.
//! - [`Finalized`] has a core that is finalized when the value is gone, by [`Finalize`].
//! - [`Finalizer`] is that thread: the [global](Finalizer::global) one, or one's own. It can be drained and shut down, and
//!   says what is alive.
//! - [`bind`] lets a value live as long as its key.
//!
//! They serve the values of [`Interner`](crate::Interner) and [`WeakMap`](crate::WeakMap), whose entries are gone before
//! the finalizer runs, and of [`Arc`](std::sync::Arc).
//!
//! # python-safethread, and here
//!
//! <table>
//! <tr><td>
//!
//! ```python
//! class Connection(object):
//!     __finalizeattrs__ = "socket"
//!
//!     def __init__(self, host):
//!         self.host = host
//!         self.socket = connect(host)
//!
//!     def __finalize__(self):
//!         self.socket.send("QUIT")
//!         self.socket.close()
//!         super(Connection, self).__finalize__()
//!
//! connection = Connection("alpha")
//! del connection
//! # some time later, on the finalizer thread
//! ```
//!
//! </td><td>
//!
//! ```
//! # use hapax::finalize::{BoxError, Finalize, Finalized, Finalizer};
//! # #[derive(Default)] struct Socket;
//! # impl Socket { fn send(&mut self, _: &str) -> Result<(), BoxError> { Ok(()) } }
//! # fn connect(_: &str) -> Socket { Socket }
//! struct Connection {
//!     host: &'static str,
//! }
//!
//! impl Finalize for Connection {
//!     type Core = Socket;
//!
//!     fn finalize(mut socket: Socket) -> Result<(), BoxError> {
//!         socket.send("QUIT")
//!     }
//! }
//!
//! let host = "alpha";
//! let connection = Finalized::new(Connection { host }, connect(host));
//! assert_eq!(connection.host, "alpha");
//! drop(connection);
//! Finalizer::global().drain()?;
//! # Ok::<_, BoxError>(())
//! ```
//!
//! </td></tr><tr><td>
//!
//! ```python
//! connection.__finalize__()  # now, and not again
//! ```
//!
//! </td><td>
//!
//! ```
//! # use hapax::finalize::{BoxError, Finalize, Finalized};
//! # struct Connection; impl Finalize for Connection {
//! #     type Core = (); fn finalize(_: ()) -> Result<(), BoxError> { Ok(()) }
//! # }
//! # let connection = Finalized::new(Connection, ());
//! Finalized::close(connection)?;
//! # Ok::<_, BoxError>(())
//! ```
//!
//! </td></tr><tr><td>
//!
//! ```python
//! queue = deathqueue()
//! handle = queue.watch(connection, payload)
//! queue.cancel(handle)
//! ```
//!
//! </td><td>
//!
//! ```
//! # use hapax::finalize::{BoxError, Finalize, Finalized, Finalizer};
//! # struct Connection; impl Finalize for Connection {
//! #     type Core = u32; fn finalize(_: u32) -> Result<(), BoxError> { Ok(()) }
//! # }
//! # let payload = 5;
//! let finalizer = Finalizer::new()?;
//! let connection = Finalized::new_in(&finalizer, Connection, payload);
//! let (connection, payload) = Finalized::cancel(connection);
//! # Ok::<_, BoxError>(())
//! ```
//!
//! </td></tr><tr><td>
//!
//! ```python
//! binding = bind(key, value)
//! binding()  # the value, or None
//! ```
//!
//! </td><td>
//!
//! ```
//! # let names = hapax::Interner::<str>::new();
//! # let (key, value) = (names.intern("alpha"), 5);
//! let bound = hapax::finalize::bind(&key, value);
//! assert_eq!(bound.get().as_deref(), Some(&5));
//! ```
//!
//! </td></tr></table>
//!
//! # Guarantees
//!
//! 1. A core is finalized once, by the finalizer or by [`Finalized::close`], or taken back by [`Finalized::cancel`]. The value
//!    is gone before: nothing leads to it, and it can't come back.
//! 2. To drop a value runs the body's destructor, and otherwise no code of the user's. It takes no lock, allocates nothing,
//!    and waits for nobody; but to wake a thread that sleeps takes some microseconds. So it may be dropped under any lock, and by a finalizer.
//! 3. The finalizer takes cores one after the other, in the order in which their values have died.
//! 4. A finalizer that fails or panics is reported to a [hook](Finalizer::on_error), and the next one runs.
//! 5. What dies after [`shutdown`](Finalizer::shutdown), or after the last [`Finalizer`] was dropped, is finalized all the
//!    same: the thread ends with the last of its values. What lives at the end of the process isn't finalized, nor is what is
//!    pending then; [`drain`](Finalizer::drain) and [`live`](Finalizer::live) are for the end of `main`.
//!
//! # What it is not for
//!
//! - Memory that must be given back before more is taken: what is pending is still there. A [bounded](Finalizer::bounded)
//!   finalizer takes no further values while too much is.
//! - Cheap destructors: who drops gains from one of about 0.3 µs (ten strings) on while the finalizer is at work, and of
//!   about 15 µs (several hundred) if it sleeps. The program as a whole loses: `docs/PERFORMANCE.md` says how much.
//! - What is found again by the name of a key: its entry is gone before its core is finalized, so the next value of the same
//!   key may be there already. A finalizer that removes a file, say, wants one that no other value has.
//! - Deadlines of single finalizers: one that hangs keeps all others waiting. [`drain_for`](Finalizer::drain_for) says which.

mod deferred;
mod ephemeron;
mod error;
mod finalized;
mod finalizer;
mod job;
mod queue;
mod register;
mod worker;

pub use deferred::Deferred;
pub use ephemeron::{Bound, Key, bind};
pub use error::{DrainError, FinalizeError, Refusal, Refused, Running};
pub use finalized::Finalized;
pub use finalizer::Finalizer;
pub use register::Live;

pub use crate::panic::Panic;

/// What a finalizer, or a child of a scope, may fail with: `?` makes it of every error that can be sent and shared, and `into` of
/// a string. A `main` that passes it on by `?` returns `Result<(), BoxError>`, since a `Box<dyn Error>` isn't made of it.
///
/// # Examples
///
/// ```
/// use hapax::finalize::BoxError;
///
/// let error: BoxError = "the disk is full".into();
/// assert_eq!(error.to_string(), "the disk is full");
/// ```
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A body whose core is finalized when the body is gone: see [`Finalized`].
///
/// # Examples
///
/// ```
/// use hapax::finalize::{BoxError, Finalize, Finalized, Finalizer};
///
/// struct Session { user: &'static str }
///
/// impl Finalize for Session {
///     /// What it takes to end a session, and no more: the rest is gone.
///     type Core = u64;
///
///     fn finalize(number: u64) -> Result<(), BoxError> {
///         println!("session {number} has ended");
///         Ok(())
///     }
/// }
///
/// let session = Finalized::new(Session { user: "alpha" }, 5);
/// assert_eq!(session.user, "alpha");
/// drop(session);
/// Finalizer::global().drain()?;
/// # Ok::<_, hapax::finalize::DrainError>(())
/// ```
pub trait Finalize: Sized + 'static {
    /// What is needed to finalize a value, and moves to the finalizer's thread for that; and what is costly to drop, since the
    /// body is dropped where the last handle is. If there is nothing but that, a [`Deferred`] will do.
    type Core: Send + 'static;

    /// Finalizes a core, on the finalizer's thread, with no lock held; or, by [`Finalized::close`], on the caller's, with
    /// whatever that holds. It may do anything: make values and drop them, block, panic. Those that come after it wait. It may
    /// not wait for its own finalizer, which refuses that.
    ///
    /// # Errors
    ///
    /// Whatever has gone wrong. It is told to the [hook](Finalizer::on_error), or returned by [`Finalized::close`].
    fn finalize(core: Self::Core) -> Result<(), BoxError>;
}
