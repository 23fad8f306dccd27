//! The peers: every interner that is measured, each in a file of its own, which says how it is configured and
//! where its documentation advises so.
//!
//! A peer is *ours*, a *rival*, the *floor* or an *other*. Rivals do the same job: they work from several
//! threads, give equal values one instance, and free it when its last handle goes. Ratios are taken over the
//! best of them.
//!
//! # Looked at and left out
//!
//! - `intern-arc` 0.6: one lock over a `HashSet` of std, SipHash. `flyweights` has the same plan, is quicker at
//!   it and maintained.
//! - `arc-interner` 0.7: the code that `internment` came to replace, over dashmap 4. It takes values, not
//!   references, so that each hit would allocate a string.
//! - `interned-string` 0.3: frees when the next new string comes, and counts through a queue. A new string waits
//!   for all readers.
//! - `hstr` 4, `hashconsing` 1.8, `refcount-interner` 0.2, `weak-table` 0.4: free only when somebody calls for a
//!   sweep of the whole table, or when it grows.
//! - `str-intern` 0.0.2, `lasso`, `ustr`, `string-interner`, `symbol_table`: free nothing, or all at once.
//! - `moka`, `quick_cache`: evict by size or time, which is something else.
//! - `flurry` 0.5, `dashmap` 7: a fourth concurrent map, with its last release years ago; a release candidate.

mod dashmap;
mod flyweights;
mod hapax;
mod hapax_fronts;
mod internment;
mod papaya;
mod rust_analyzer;
mod scc_index;
mod scc_map;
mod single_thread;
mod string_cache;
#[cfg(test)]
mod tests;

use crate::rows::{self, Figures, Row};

/// An interner of strings, as one thread sees it: its way to a table that the whole process has.
pub trait Peer {
    /// Keeps the value alive.
    type Handle: Clone;

    /// How tables and the command line call it.
    const NAME: &'static str;

    /// What it is to hapax.
    const KIND: Kind = Kind::Rival;

    /// The package whose version is reported.
    const PACKAGE: &'static str;

    /// Each thread opens its own.
    fn open() -> Self;

    /// Finds the value, or adds it.
    fn intern(&self, text: &str) -> Self::Handle;

    /// Finds or adds many values, where the row has them at hand.
    fn intern_each<'a>(
        &self,
        texts: impl Iterator<Item = &'a str>,
        mut sink: impl FnMut(Self::Handle),
    ) {
        for text in texts {
            sink(self.intern(text));
        }
    }

    /// Finds or adds a value that the row holds while it is measured.
    fn hold(&self, text: &str) -> Self::Handle {
        self.intern(text)
    }

    /// Whether it can do a row on so many threads, or would take minutes.
    fn takes_part(_row: Row, _threads: usize) -> bool {
        true
    }

    /// The value.
    #[cfg(test)]
    fn text(handle: &Self::Handle) -> &str;

    /// Which instance it is.
    #[cfg(test)]
    fn address(handle: &Self::Handle) -> usize {
        Self::text(handle).as_ptr().addr()
    }

    /// The number of values in the table, where it can be asked.
    #[cfg(test)]
    fn len() -> Option<usize> {
        None
    }
}

/// What a peer is to hapax.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// hapax itself.
    Ours,
    /// Does the same job.
    Rival,
    /// What the job costs without threads.
    Floor,
    /// Does a job like it, under other conditions.
    Other,
}

/// A peer whose type is forgotten.
#[derive(Clone, Copy)]
pub struct Entry {
    pub name: &'static str,
    pub kind: Kind,
    pub package: &'static str,
    pub takes_part: fn(Row, usize) -> bool,
    pub sample: fn(Row, usize, usize, u64) -> Figures,
}

impl Entry {
    const fn of<P: Peer>() -> Self {
        Self {
            name: P::NAME,
            kind: P::KIND,
            package: P::PACKAGE,
            takes_part: P::takes_part,
            sample: rows::sample::<P>,
        }
    }
}

/// All peers, in the order of the tables.
pub const ALL: &[Entry] = &[
    Entry::of::<hapax::Hapax>(),
    Entry::of::<hapax_fronts::Local>(),
    Entry::of::<hapax_fronts::Batch>(),
    Entry::of::<hapax_fronts::Immortal>(),
    Entry::of::<internment::Internment>(),
    Entry::of::<rust_analyzer::RustAnalyzer>(),
    Entry::of::<string_cache::StringCache>(),
    Entry::of::<flyweights::Flyweights>(),
    Entry::of::<dashmap::Dashmap>(),
    Entry::of::<scc_map::SccMap>(),
    Entry::of::<scc_index::SccIndex>(),
    Entry::of::<papaya::Papaya>(),
    Entry::of::<single_thread::SingleThread>(),
];

/// The peer of that name.
pub fn find(name: &str) -> Option<&'static Entry> {
    ALL.iter().find(|peer| peer.name == name)
}
