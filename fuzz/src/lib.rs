//! Programs against `hapax`, decoded from bytes: what they do, how they run, and what must hold meanwhile.
//!
//! The fuzz targets beside this file run them, and so does `tests/operations.rs`, which includes this file as
//! a module. So whatever libFuzzer finds is replayed by the ordinary test suite, without it.
//!
//! | file | concept |
//! |---|---|
//! | `program.rs` | a program's bytes, its phases, its two ways to run: one thread in a fixed order, or real threads |
//! | `hand.rs` | the handles that an actor holds, and the model: what lives is what somebody holds |
//! | `subject.rs` | the values that are interned, in all forms that `intern` takes; the hashers |
//! | `interner.rs` | operations on an interner |
//! | `map.rs` | operations on a weak map, and on one that is keyed by identity |
//! | `hostile.rs` | values whose `Hash`, `Eq`, `Clone` and `Drop` do as the program says: lie, panic, come back in |
//! | `json.rs` | texts that are deserialised into handles |

#![allow(
    dead_code,
    reason = "each user of this file uses a part of what it shares with others"
)]
#![allow(
    unreachable_pub,
    reason = "a library here, a module of a test elsewhere"
)]

#[path = "../../tests/common/mod.rs"]
mod common;

mod hand;
pub mod hostile;
pub mod interner;
#[cfg(feature = "serde")]
pub mod json;
pub mod map;
pub mod program;
mod subject;
