//! The packed link word: where the list goes on, and in which state the link's holder is.
//!
//! A link is held by a node (its `next`) or by a bucket word (which is nothing but a link). Two of its
//! parts speak of the target, two of the holder:
//!
//! ```text
//! pointer | BUCKET | meaning
//!  node   |   -    | the next item is this node
//!  word   |   x    | the next item is this bucket word
//!  null   |   x    | the list ends here
//!  null   |   -    | bucket word that nobody has claimed (never in a node)
//!
//! MARK    the holder is deleted; the link is frozen and the holder is about to be unlinked
//! BUSY    the holder is a bucket word that a thread has claimed and not yet linked: nobody starts there
//! ```
//!
//! MARK is never cleared. BUSY is cleared once, by the claimer. Every other change of a link is a
//! compare-exchange that replaces the target, keeps BUSY, and fails on a link that is marked.

use std::ptr::NonNull;

use super::node::{Node, NodeRef};
use super::prefetch::{LINE, prefetch};
use super::primitive::{AtomicPtr, Ordering, Zeroed, fetch_and, fetch_or};

const MARK: usize = 1;
const BUCKET: usize = 2;
const BUSY: usize = 4;
const BITS: usize = MARK | BUCKET | BUSY;

const _: () = assert!(align_of::<Node>() > BITS);
const _: () = assert!(align_of::<AtomicLink>() > BITS);

/// What a link word said at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link(*mut ());

/// The item that a link leads to.
pub(super) enum Target<'g> {
    Node(NodeRef<'g>),
    Word(&'g AtomicLink),
    End,
}

impl Link {
    /// The end of the list: a bucket word behind all others. Not zero, so that it differs from a word
    /// that nobody has claimed.
    pub(super) fn end() -> Self {
        Self(std::ptr::without_provenance_mut(BUCKET))
    }

    pub(super) fn to_node(node: *mut Node) -> Self {
        Self(node.cast())
    }

    pub(super) fn to_word(word: &AtomicLink) -> Self {
        Self(
            (&raw const *word)
                .cast_mut()
                .cast::<()>()
                .map_addr(|addr| addr | BUCKET),
        )
    }

    /// The same target, as a fresh holder would keep it.
    pub(super) fn clean(self) -> Self {
        Self(self.0.map_addr(|addr| addr & !(MARK | BUSY)))
    }

    /// The target of `to`, in the state of this link's holder.
    fn retarget(self, to: Link) -> Self {
        let busy = self.0.addr() & BUSY;
        Self(to.clean().0.map_addr(|addr| addr | busy))
    }

    pub(super) fn is_marked(self) -> bool {
        self.0.addr() & MARK != 0
    }

    pub(super) fn is_node(self) -> bool {
        self.0.addr() & BUCKET == 0
    }

    /// Whether a walk may begin at the bucket word that says this.
    pub(super) fn is_start(self) -> bool {
        !self.0.is_null() && self.0.addr() & (MARK | BUSY) == 0
    }

    fn pointer(self) -> *mut () {
        self.0.map_addr(|addr| addr & !BITS)
    }

    /// Whether this leads to the node at that address.
    pub(super) fn leads_to(self, node: *const Node) -> bool {
        self.is_node() && std::ptr::eq(self.pointer().cast(), node)
    }

    /// Asks for the item that this leads to; of a node, for the beginning of its value too.
    #[inline]
    pub(super) fn prefetch(self) {
        let item = self.pointer();
        prefetch(item);
        prefetch(item.wrapping_byte_add(LINE));
    }

    /// The item that this leads to.
    ///
    /// # Safety
    ///
    /// The link was read, with Acquire, from a holder of this table after the caller pinned the epoch,
    /// and the pin outlives `'g`.
    #[inline]
    pub(super) unsafe fn target<'g>(self) -> Target<'g> {
        let pointer = self.pointer();
        if self.is_node() {
            // SAFETY: a holder's link without BUCKET leads to a node, which is reclaimed only after the pins
            // that could see it linked are gone. The caller's is one.
            let node = unsafe { NodeRef::new(NonNull::new_unchecked(pointer.cast())) };
            node.liveness.touch();
            Target::Node(node)
        } else if pointer.is_null() {
            Target::End
        } else {
            // SAFETY: a link with BUCKET leads to a bucket word, whose segment is reclaimed as nodes
            // are.
            Target::Word(unsafe { &*pointer.cast::<AtomicLink>() })
        }
    }
}

/// The link word itself.
#[derive(Debug)]
#[repr(align(8))]
pub(super) struct AtomicLink(AtomicPtr<()>);

// SAFETY: a null pointer is all zeroes on every supported target, and means "unclaimed".
unsafe impl Zeroed for AtomicLink {
    fn zeroed() -> Self {
        Self(AtomicPtr::new(std::ptr::null_mut()))
    }
}

impl AtomicLink {
    pub(super) fn new(link: Link) -> Self {
        Self(AtomicPtr::new(link.0))
    }

    /// Follows the link.
    #[inline]
    pub(super) fn load(&self) -> Link {
        // Acquire: pairs with the Release in `swing` and `clear_busy`; who sees an item sees it
        // initialised.
        Link(self.0.load(Ordering::Acquire))
    }

    /// Sets the link of an item that nobody else can see yet.
    pub(super) fn prepare(&self, link: Link) {
        // Relaxed: published by the `swing` that links the item.
        self.0.store(link.clean().0, Ordering::Relaxed);
    }

    /// As `prepare`, for a bucket word, which others see, but leave alone while it is BUSY.
    pub(super) fn prepare_busy(&self, link: Link) {
        // Relaxed: published by the `swing` that links the word, and by `clear_busy`.
        self.0.store(
            link.clean().0.map_addr(|addr| addr | BUSY),
            Ordering::Relaxed,
        );
    }

    /// Lets the link lead to the target of `to` instead, if it still says `seen`. Answers what it says
    /// then, or what it said instead.
    pub(super) fn swing(&self, seen: Link, to: Link) -> Result<Link, Link> {
        debug_assert!(!seen.is_marked());
        let new = seen.retarget(to);
        // Release: pairs with the Acquire in `load`; it publishes the item that is linked, or the
        // items behind the one that is unlinked. Acquire on failure: the walk goes on from what it
        // found instead.
        match self
            .0
            .compare_exchange(seen.0, new.0, Ordering::Release, Ordering::Acquire)
        {
            Ok(_) => Ok(new),
            Err(now) => Err(Link(now)),
        }
    }

    /// Freezes the link of a deleted holder. Answers what it said; safe to repeat.
    pub(super) fn mark(&self) -> Link {
        // Acquire: the item behind becomes the target of the predecessor, whose reader must see it
        // initialised through our `swing`. The mark itself publishes nothing.
        Link(fetch_or(&self.0, MARK, Ordering::Acquire))
    }

    /// Claims an unclaimed bucket word.
    pub(super) fn claim(&self) -> bool {
        // Relaxed: BUSY keeps everybody else from the word; its content is published later.
        let busy = std::ptr::without_provenance_mut(BUSY);
        let free = std::ptr::null_mut();
        self.0
            .compare_exchange(free, busy, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }

    /// Whether nobody has claimed this bucket word.
    pub(super) fn is_unclaimed(&self) -> bool {
        // Relaxed: only a hint; `claim` decides.
        self.0.load(Ordering::Relaxed).is_null()
    }

    /// Opens a linked bucket word as a place to begin.
    ///
    /// A read-modify-write, because others may have inserted behind the word since it was linked.
    pub(super) fn clear_busy(&self) {
        // Release: pairs with the Acquire in `load`; who begins here sees the item that follows. If
        // another thread linked that item, this continues the release sequence of its `swing`.
        fetch_and(&self.0, !BUSY, Ordering::Release);
    }
}
