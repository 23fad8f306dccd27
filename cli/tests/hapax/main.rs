//! What `hapax` promises, with real processes.
//!
//! - `usage`: what is refused, what statuses mean, and the pages.
//! - `modes`: locks, shared locks, permits, and the store they lie in.
//! - `waiting`: how it is waited, and how a wait ends.
//! - `inheritance`: what the command gets from whoever has started hapax, and from hapax.
//! - `signals`, `terminal`: who gets which signal, without a terminal and with one.
//! - `lease`: the command has ended before somebody else gets the lock.
//! - `end`: what becomes of the lock when the command or hapax ends.
//! - `deadlock`: waits for each other.
//! - `others`: `hapax ps` and `hapax force-unlock`.
//!
//! Nothing here relies on a fixed time to be enough: what is to happen is waited for, with a limit that only a failure
//! reaches. Commands that are to run until they are ended do so for forty seconds at most, so that none is left behind.

mod common;
mod deadlock;
mod end;
mod inheritance;
mod lease;
mod modes;
mod others;
mod signals;
mod terminal;
mod usage;
mod waiting;
