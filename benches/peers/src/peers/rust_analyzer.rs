//! `Symbol` of rust-analyzer's crate `intern`, published as `ra_ap_intern`: its interner of strings. An `Arc` in a
//! dashmap with FxHash, taken out when a handle goes that sees only itself and the table.
//!
//! `Symbol::intern(&str)` is the only way in, and allocates on a miss only. `Interned<Box<str>>`, of the same
//! crate, takes a value, so that a hit would allocate. The table holds a few hundred names of Rust's from the
//! start, which no row uses.
//!
//! Two handles that go at the same moment may each see the other, and then the value stays in the table until it
//! is interned again. That makes it cheaper, not dearer, and no row depends on it.

use ra_ap_intern::Symbol;

use super::Peer;

pub struct RustAnalyzer;

impl Peer for RustAnalyzer {
    type Handle = Symbol;

    const NAME: &'static str = "rust-analyzer";
    const PACKAGE: &'static str = "ra_ap_intern";

    fn open() -> Self {
        Self
    }

    fn intern(&self, text: &str) -> Symbol {
        Symbol::intern(text)
    }

    #[cfg(test)]
    fn text(handle: &Symbol) -> &str {
        handle.as_str()
    }
}
