//! What all guards have in common.

use std::sync::Arc;
use std::time::Duration;

use super::CoordError;
use super::error::Operation;
use super::hold::Hold;
use super::session::{Session, let_go, release};

/// Something that is held, and given back when this is dropped.
pub(super) struct Guard {
    session: Arc<Session>,
    pub(super) hold: Arc<Hold>,
    by: By,
}

/// Who gives it back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    ThisThread,
    /// A task got it, which must not block.
    Clerk,
    /// That was done.
    Nobody,
}

impl Guard {
    pub(super) fn of(session: &Arc<Session>, hold: Arc<Hold>, by: By) -> Self {
        let session = Arc::clone(session);
        Self { session, hold, by }
    }

    pub(super) fn is_valid(&self) -> bool {
        self.session.engine().check().is_ok() && self.hold.is_valid(self.session.engine().now())
    }

    pub(super) fn check(&self, operation: Operation) -> Result<(), CoordError> {
        let Hold { key, token, .. } = &*self.hold;
        let usable = self.session.engine().check();
        usable.map_err(|fault| fault.at(Some(key), operation))?;
        if self.is_valid() {
            Ok(())
        } else {
            Err(CoordError::lost(key, operation, *token))
        }
    }

    pub(super) fn remaining(&self) -> Option<Duration> {
        if self.session.engine().check().is_err() {
            return Some(Duration::ZERO);
        }
        self.hold.remaining(self.session.engine().now())
    }

    pub(super) fn extend(&self, time: Duration) -> Result<(), CoordError> {
        self.session.extend(&self.hold, time)
    }

    pub(super) fn release(mut self) -> Result<(), CoordError> {
        self.by = By::Nobody;
        release(&self.session.keeper, &self.hold)
    }

    pub(super) async fn release_async(mut self) -> Result<(), CoordError> {
        self.by = By::Nobody;
        self.session.clerk.release(Arc::clone(&self.hold)).await
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        match self.by {
            By::ThisThread => let_go(&self.session.keeper, &self.hold),
            By::Clerk => self.session.clerk.let_go(Arc::clone(&self.hold)),
            By::Nobody => {}
        }
    }
}

/// The methods of a guard, for a tuple struct around a [`Guard`].
macro_rules! forward {
    ($guard:ident) => {
        impl $guard {
            /// The key.
            ///
            /// # Examples
            ///
            /// See [`Lock`](crate::coord::Lock).
            pub fn key(&self) -> &str {
                &self.0.hold.key
            }

            /// The number of this grant: greater than those of all grants before it, of this key and of others.
            ///
            /// It has at most 53 bits, so that it survives languages that count in doubles.
            ///
            /// # Examples
            ///
            /// See [`FencingGate`](crate::coord::FencingGate).
            pub fn fencing_token(&self) -> u64 {
                self.0.hold.token
            }

            /// Whether it is still held, as far as this process knows: its lease hasn't ended by a clock that is asked
            /// now, and nobody has heard that it was taken away.
            ///
            /// # Examples
            ///
            /// See [`MemoryStore`](crate::coord::MemoryStore).
            pub fn is_valid(&self) -> bool {
                self.0.is_valid()
            }

            /// The same as an error.
            ///
            /// # Errors
            ///
            /// [`Lost`](crate::coord::CoordError::Lost) if it isn't [valid](Self::is_valid).
            ///
            /// # Examples
            ///
            /// ```
            /// use hapax::coord::{Lock, MemoryStore};
            ///
            /// let store = MemoryStore::new();
            /// let guard = Lock::new(&store, "reports").lock()?;
            /// guard.check()?;
            /// # Ok::<_, hapax::coord::CoordError>(())
            /// ```
            pub fn check(&self) -> Result<(), crate::coord::CoordError> {
                self.0.check(crate::coord::Operation::Check)
            }

            /// For how long yet if it isn't renewed or extended; zero if it is lost. None if its lease is that of the session, wasn't
            /// extended, and the store sees when the session ends, as all do but a Redis server.
            ///
            /// # Examples
            ///
            /// See [`Lease`](crate::coord::Lease).
            pub fn remaining(&self) -> Option<std::time::Duration> {
                self.0.remaining()
            }

            /// An event that is set when this process learns that it is lost: when the lease has ended, or within about a
            /// second after it was taken away. It is set by another thread, so a [look](Self::is_valid) may say so before.
            ///
            /// # Examples
            ///
            /// ```
            /// use hapax::coord::{Lease, Lock, MemoryStore};
            /// use std::time::Duration;
            ///
            /// let store = MemoryStore::with_virtual_clock();
            /// let lease = Lease::Fixed(Duration::from_secs(1));
            /// let guard = Lock::new(&store, "reports").lease(lease).lock()?;
            /// assert!(!guard.lost().is_set());
            /// store.advance(Duration::from_secs(1));
            /// assert_eq!(guard.lost().wait_for(Duration::ZERO), Ok(true));
            /// # Ok::<_, hapax::coord::CoordError>(())
            /// ```
            pub fn lost(&self) -> &crate::sync::Event {
                &self.0.hold.lost
            }

            /// Lets the lease end so long after now, whether it would end sooner or later otherwise; one that renews itself is
            /// renewed as soon as less than two thirds of its own time are left. A lease of the
            /// session gets an end by that, so that it doesn't count for deadlocks any more.
            ///
            /// # Errors
            ///
            /// - [`Lost`](crate::coord::CoordError::Lost) if it isn't held any more.
            /// - [`OutcomeUnknown`](crate::coord::CoordError::OutcomeUnknown) if a Redis server has got it, perhaps, and there
            ///   was no answer: it is held until the earlier of both ends.
            /// - What else can be wrong with a store. Nothing has changed then.
            ///
            /// # Examples
            ///
            /// ```
            /// use hapax::coord::{Lease, Lock, MemoryStore};
            /// use std::time::Duration;
            ///
            /// let store = MemoryStore::with_virtual_clock();
            /// let lease = Lease::Fixed(Duration::from_secs(10));
            /// let guard = Lock::new(&store, "reports").lease(lease).lock()?;
            /// store.advance(Duration::from_secs(9));
            /// guard.extend(Duration::from_secs(10))?;
            /// store.advance(Duration::from_secs(9));
            /// assert!(guard.is_valid());
            /// # Ok::<_, hapax::coord::CoordError>(())
            /// ```
            pub fn extend(
                &self,
                time: std::time::Duration,
            ) -> Result<(), crate::coord::CoordError> {
                self.0.extend(time)
            }

            /// Gives it back. To drop the guard does the same, but nobody hears whether it was still held.
            ///
            /// # Errors
            ///
            /// - [`Lost`](crate::coord::CoordError::Lost) if it wasn't held any more. Whoever holds it now isn't harmed.
            /// - What can be wrong with a store. It is tried again later, by a thread of the store.
            ///
            /// # Examples
            ///
            /// See [`Lock`](crate::coord::Lock).
            pub fn release(self) -> Result<(), crate::coord::CoordError> {
                self.0.release()
            }

            /// The same for a task: another thread does it, also if this is dropped before it is ready.
            ///
            /// # Errors
            ///
            /// Those of [`release`](Self::release).
            ///
            /// # Examples
            ///
            /// See [`Lock::lock_async`](crate::coord::Lock::lock_async).
            pub async fn release_async(self) -> Result<(), crate::coord::CoordError> {
                self.0.release_async().await
            }
        }

        impl std::fmt::Debug for $guard {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($guard))
                    .field("key", &self.key())
                    .field("fencing_token", &self.fencing_token())
                    .finish_non_exhaustive()
            }
        }
    };
}

pub(super) use forward;
