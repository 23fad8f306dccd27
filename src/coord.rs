//! Locks and semaphores that span processes, after DiskCache's recipes.

mod acquire;
mod deadlock;
mod error;
mod fencing;
mod guard;
mod hold;
mod keeper;
mod lease;
mod lock;
mod owner;
mod rlock;
mod semaphore;
mod session;
mod status;
mod store;
mod time;

pub use deadlock::{Circle, CircleStep};
pub use error::{At, CoordError, Kind, Operation};
pub use fencing::{FencingGate, StaleTokenError};
pub use lease::Lease;
pub use lock::{Lock, LockGuard};
pub use owner::{Owner, ParseOwnerError};
pub use rlock::{RLock, RLockGuard};
pub use semaphore::{Permit, Semaphore};
pub use status::{HolderStatus, Mode, ProcessStatus, Status, WaiterStatus};
pub use store::{MemoryStore, Store};
#[cfg(feature = "coord-sqlite")]
pub use store::{SqliteOptions, SqliteStore};
