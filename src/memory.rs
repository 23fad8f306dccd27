//! How much memory a table takes.

use crate::table::{Internable, LazyTable};

/// What [`Interner::memory_usage`](crate::Interner::memory_usage) returns, in bytes as requested from the
/// allocator. It counts the live values themselves, not what they own elsewhere,
/// and not the memory of dead ones that waits for its readers.
///
/// # Examples
///
/// ```
/// use hapax::Interner;
///
/// let names = Interner::<str>::new();
/// let alpha = names.intern("alpha");
/// let usage = names.memory_usage();
/// assert_eq!(usage.total(), usage.nodes + usage.table);
/// assert!(usage.nodes > usage.values);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryUsage {
    /// Live entries.
    pub entries: usize,
    /// Bytes of their values.
    pub values: usize,
    /// Bytes of their nodes: values with their headers.
    pub nodes: usize,
    /// Bytes of the table around them.
    pub table: usize,
}

impl MemoryUsage {
    pub(crate) fn of<T: ?Sized + Internable>(table: &LazyTable<T>) -> Self {
        let mut usage = Self {
            table: table.bytes(),
            ..Self::default()
        };
        for entry in table.entries() {
            usage.entries += 1;
            usage.values += size_of_val(entry.value());
            usage.nodes += T::OFFSET + size_of_val(entry.value());
        }
        usage
    }

    /// Bytes in all.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::Interner;
    /// assert_eq!(Interner::<str>::new().memory_usage().total(), 0);
    /// ```
    pub fn total(&self) -> usize {
        self.nodes + self.table
    }
}
