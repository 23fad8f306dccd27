//! Interning many values: a few at a time, side by side.

use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::iter::{Fuse, FusedIterator};

use crate::table::{GROUP, Internable, pin};
use crate::{Intern, Interned, Interner, Pinned};

/// The handles of many values; see [`Interner::intern_all`].
///
/// # Examples
///
/// ```
/// # use hapax::Interner;
/// let names = Interner::<str>::new();
/// for (name, text) in names.intern_all(["alpha", "beta"]).zip(["alpha", "beta"]) {
///     assert_eq!(name, *text);
/// }
/// ```
#[must_use = "iterators are lazy: nothing is interned yet"]
pub struct InternAll<'a, T: ?Sized + Internable, S, I: Iterator> {
    interner: &'a Interner<T, S>,
    session: Option<&'a Pinned<'a, T, S>>,
    values: Fuse<I>,
    /// Handles that were not asked for yet: those from `next` on.
    ready: [Option<Interned<T>>; GROUP],
    next: usize,
}

impl<'a, T, S, I> InternAll<'a, T, S, I>
where
    T: ?Sized + Internable + Hash + Eq,
    S: BuildHasher,
    I: Iterator<Item: Intern<T>>,
{
    pub(crate) fn new(
        interner: &'a Interner<T, S>,
        session: Option<&'a Pinned<'a, T, S>>,
        values: I,
    ) -> Self {
        Self {
            interner,
            session,
            values: values.fuse(),
            ready: [const { None }; GROUP],
            next: GROUP,
        }
    }

    /// Interns the next values.
    fn fill(&mut self) {
        // A panic may have left some of an earlier group.
        self.ready = [const { None }; GROUP];
        let mut values = [const { None }; GROUP];
        let mut hashes = [0; GROUP];
        let mut number = 0;
        for (value, hash) in values.iter_mut().zip(&mut hashes) {
            let Some(next) = self.values.next() else {
                break;
            };
            *hash = self.interner.hash_of(next.as_value());
            *value = Some(next);
            number += 1;
        }
        if let Some(session) = self.session {
            session.renew();
        }
        let found = self.interner.glance_all(&hashes[..number]);
        let together = values.into_iter().flatten().zip(hashes).zip(found);
        for (ready, ((value, hash), found)) in self.ready.iter_mut().zip(together) {
            *ready = Some(match found {
                Some((entry, found)) if found.is_live() && value.as_value() == entry.value() => {
                    Interned::from_ref(entry)
                }
                other => {
                    drop(other);
                    self.interner.intern_slow(hash, pin(), value)
                }
            });
        }
        self.next = 0;
    }
}

impl<T, S, I> Iterator for InternAll<'_, T, S, I>
where
    T: ?Sized + Internable + Hash + Eq,
    S: BuildHasher,
    I: Iterator<Item: Intern<T>>,
{
    type Item = Interned<T>;

    #[inline]
    fn next(&mut self) -> Option<Interned<T>> {
        if self.next == GROUP {
            self.fill();
        }
        // Where the values end, there is nothing, and the place isn't left.
        let next = self.ready[self.next].take()?;
        self.next += 1;
        Some(next)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let ready = self.ready[self.next..].iter().flatten().count();
        let (least, most) = self.values.size_hint();
        (
            least.saturating_add(ready),
            most.and_then(|most| most.checked_add(ready)),
        )
    }
}

impl<T, S, I> FusedIterator for InternAll<'_, T, S, I>
where
    T: ?Sized + Internable + Hash + Eq,
    S: BuildHasher,
    I: Iterator<Item: Intern<T>>,
{
}

impl<T: ?Sized + Internable, S, I: Iterator> fmt::Debug for InternAll<'_, T, S, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InternAll").finish_non_exhaustive()
    }
}
