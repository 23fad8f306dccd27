//! Looking keys up as nearly all look-ups end: the first node with the key is met on a way without anything out of the
//! ordinary. A walk in small, which changes nothing: one key, or several side by side.

use super::Table;
use super::link::{Link, Target};
use super::node::NodeRef;
use super::prefetch::{LINE, prefetch};
use super::retire::Guard;

/// Keys that are looked up side by side. More gained nothing.
pub(crate) const GROUP: usize = if cfg!(any(loom, shuttle)) { 2 } else { 32 };

impl Table {
    /// The first node with a key, unless there is something out of the ordinary on the way to it. A walk in
    /// small, which changes nothing.
    #[inline]
    pub(super) fn glance<'g>(&'g self, key: u64, _guard: &'g Guard) -> Option<NodeRef<'g>> {
        let mut next = self.buckets.start(key, self.buckets.level()).link;
        loop {
            // SAFETY: read with Acquire from a holder that was reached under the pin.
            let Target::Node(node) = (unsafe { next.target() }) else {
                return None;
            };
            // Its value, which is compared next.
            prefetch(node.as_ptr().as_ptr().wrapping_byte_add(LINE));
            if node.key >= key {
                return (node.key == key).then_some(node);
            }
            next = node.get().next.load();
        }
    }

    /// As `glance`, for each of at most `GROUP` keys, so that what one look-up waits for, all wait for together.
    pub(super) fn glance_all<'g>(
        &'g self,
        keys: &[u64],
        _guard: &'g Guard,
    ) -> [Option<NodeRef<'g>>; GROUP] {
        let level = self.buckets.level();
        for &key in keys {
            self.buckets.prefetch_start(key, level);
        }
        let mut ways = [Link::end(); GROUP];
        for (way, &key) in ways.iter_mut().zip(keys) {
            *way = self.buckets.start(key, level).link;
            way.prefetch();
        }
        let mut found = [None; GROUP];
        let mut on_the_way = true;
        while on_the_way {
            on_the_way = false;
            for ((way, &key), found) in ways.iter_mut().zip(keys).zip(&mut found) {
                // SAFETY: read with Acquire from a holder that was reached under the pin.
                let Target::Node(node) = (unsafe { way.target() }) else {
                    continue;
                };
                if node.key >= key {
                    *found = (node.key == key).then_some(node);
                    *way = Link::end();
                } else {
                    *way = node.get().next.load();
                    way.prefetch();
                    on_the_way = true;
                }
            }
        }
        found
    }
}
