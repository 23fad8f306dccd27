//! The heap node: a header, and behind it the value, in one allocation that isn't padded at its end.
//!
//! ```text
//! offset  0      8     16     24      32     36      (sizes of a 64-bit target)
//!       | count | key | next | owner | value …      a sized type, at its alignment
//!       | count | key | next | owner | len | bytes … `str`, slices and their kin
//! ```
//!
//! The header has no type parameter: lists, counts and unlinking know nothing of the value. A pointer to
//! a node is one word also for values without a size, because their length stands in the node.

use std::alloc::Layout;
use std::ffi::{CStr, OsStr};
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ops::Deref;
use std::path::Path;
use std::ptr::{self, NonNull};

use super::Table;
use super::count::AtomicCount;
use super::key::hash_of_key;
use super::link::{AtomicLink, Link};
use super::primitive::{AtomicPtr, Liveness, Ordering};
use super::retire;
use super::side::Side;

/// The header of a node. Its address is the identity of the value.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Node {
    pub(super) count: AtomicCount,
    /// The order key. Invariant: never changes.
    pub(super) key: u64,
    pub(super) next: AtomicLink,
    /// The table, or the side record, tagged. See [`Owner`].
    owner: AtomicPtr<()>,
    pub(super) liveness: Liveness,
}

/// How far the value of a map's entry has come.
pub(crate) enum Building {
    UnderWay,
    /// Look-ups will not see it: another entry has the key.
    GivenUp,
    Done,
}

/// A node that a pin or a count keeps readable.
///
/// It has the provenance of the whole allocation, which a reference to the header hasn't: handles made from it
/// lead to the value, and in the end to the memory that is freed.
#[derive(Clone, Copy)]
pub(super) struct NodeRef<'g> {
    node: NonNull<Node>,
    readable: PhantomData<&'g Node>,
}

impl<'g> NodeRef<'g> {
    /// # Safety
    ///
    /// The pointer came from `NewNode`, and the node is readable for `'g`.
    #[inline]
    pub(super) unsafe fn new(node: NonNull<Node>) -> Self {
        Self {
            node,
            readable: PhantomData,
        }
    }

    #[inline]
    pub(super) fn get(self) -> &'g Node {
        // SAFETY: by the promise of `new`.
        unsafe { self.node.as_ref() }
    }

    #[inline]
    pub(super) fn as_ptr(self) -> NonNull<Node> {
        self.node
    }
}

impl Deref for NodeRef<'_> {
    type Target = Node;

    #[inline]
    fn deref(&self) -> &Node {
        self.get()
    }
}

/// Tag of an owner word that leads to a side record.
const SIDE: usize = 1;

const _: () = assert!(align_of::<Table>() > SIDE && align_of::<Side>() > SIDE);

/// What the owner word says: the table itself until somebody needs a weak handle, then a record that
/// names the table and outlives the node.
#[derive(Clone, Copy)]
pub(super) enum Owner {
    Table(&'static Table),
    Side(NonNull<Side>),
}

impl Node {
    fn new(key: u64, table: &'static Table) -> Self {
        Self {
            count: AtomicCount::new(table.generation()),
            key,
            next: AtomicLink::new(Link::end()),
            owner: AtomicPtr::new(ptr::from_ref(table).cast_mut().cast()),
            liveness: Liveness::new(),
        }
    }

    #[inline]
    pub(super) fn owner(&self) -> Owner {
        // Acquire: pairs with the Release in `install_side`; who sees the record sees it filled.
        Self::decode(self.owner.load(Ordering::Acquire))
    }

    #[inline]
    fn decode(word: *mut ()) -> Owner {
        if word.addr() & SIDE == 0 {
            // SAFETY: an owner word without tag is the table that `new` put there; tables are never
            // given back to the allocator.
            Owner::Table(unsafe { &*word.cast::<Table>() })
        } else {
            let side = word.map_addr(|addr| addr & !SIDE).cast::<Side>();
            // SAFETY: a tagged owner word is a record that `install_side` put there, never null.
            Owner::Side(unsafe { NonNull::new_unchecked(side) })
        }
    }

    /// The table that the node was made for. The caller holds a count, or has closed the node and not
    /// yet taken its record.
    #[inline]
    pub(super) fn table(&self) -> &'static Table {
        match self.owner() {
            Owner::Table(table) => table,
            // SAFETY: the node holds a count on its record until whoever has closed it takes that, which hasn't
            // happened yet.
            Owner::Side(side) => unsafe { side.as_ref() }.table(),
        }
    }

    /// Makes `side` the node's record, unless it has one: then answers that.
    pub(super) fn install_side(
        &self,
        table: &'static Table,
        side: NonNull<Side>,
    ) -> Result<(), NonNull<Side>> {
        let bare = ptr::from_ref(table).cast_mut().cast::<()>();
        let tagged = side.as_ptr().cast::<()>().map_addr(|addr| addr | SIDE);
        // Release: pairs with the Acquire in `owner`. Acquire on failure: as in `owner`.
        match self
            .owner
            .compare_exchange(bare, tagged, Ordering::Release, Ordering::Acquire)
        {
            Ok(_) => Ok(()),
            Err(now) => match Self::decode(now) {
                Owner::Side(side) => Err(side),
                Owner::Table(_) => unreachable!("only a side record replaces the table"),
            },
        }
    }

    /// The hash that the value was interned under.
    pub(crate) fn hash_value(&self) -> u64 {
        hash_of_key(self.key)
    }

    /// The number of strong handles; of an immortal value, the greatest number.
    pub(crate) fn ref_count(&self) -> u64 {
        self.count.read().handles()
    }

    /// Whether the value never dies.
    pub(super) fn is_immortal(&self) -> bool {
        self.count.read().is_immortal()
    }

    /// Makes the value immortal. The caller gives the count up that it holds.
    pub(super) fn immortalize(&self) {
        self.count.immortalize();
    }

    /// How far the value of a map's entry has come.
    pub(crate) fn building(&self) -> Building {
        let count = self.count.read();
        match (count.is_building(), count.is_hidden()) {
            (true, false) => Building::UnderWay,
            (true, true) => Building::GivenUp,
            (false, _) => Building::Done,
        }
    }

    /// Publishes the value that the caller built into this node; `false` if the entry was given up.
    pub(crate) fn finish_building(&self) -> bool {
        self.count.finish_building()
    }

    /// As `finish_building`, for an entry that was given up: its handles get the value, look-ups don't.
    pub(crate) fn finish_hidden(&self) {
        self.count.finish_hidden();
    }

    /// Lets an entry be seen that was held back, unless it gave way. `true` for the one who did it.
    pub(super) fn publish(&self) -> bool {
        self.count.publish()
    }

    /// Gives way with an entry that is held back. `false` if somebody has published it.
    pub(crate) fn give_way(&self) -> bool {
        self.count.give_way()
    }

    /// Whether look-ups see the entry.
    pub(crate) fn is_visible(&self) -> bool {
        self.count.read().was_visible()
    }

    /// Gives an entry up that has no value yet. `false` if it has one by now, and look-ups see it.
    pub(crate) fn give_up(&self) -> bool {
        self.count.give_up()
    }

    #[cfg(test)]
    pub(crate) fn peek_count(&self) -> u64 {
        self.count.peek()
    }

    #[cfg(test)]
    pub(crate) fn poke_handles(&self, handles: u64) {
        self.count.poke_handles(handles);
    }
}

/// Types that can be interned: every sized type, `str`, `[U]`, [`OsStr`], [`Path`] and [`CStr`].
///
/// Not trait objects: nothing could compare their contents. This trait is sealed; there is nothing to
/// implement.
///
/// # Examples
///
/// ```
/// use hapax::{Internable, Interner};
///
/// fn count<T: ?Sized + Internable + std::hash::Hash + Eq>(interner: &Interner<T>) -> usize {
///     interner.len()
/// }
/// assert_eq!(count(&Interner::<str>::new()), 0);
/// ```
// SAFETY (of implementations): see `Payload`.
pub trait Internable: sealed::Payload {}

impl<T: ?Sized + sealed::Payload> Internable for T {}

pub(crate) mod sealed {
    use super::{Layout, NonNull};

    /// How a value lies behind the header of its node.
    ///
    /// # Safety
    ///
    /// `value` answers a pointer to `Self` within the allocation that `layout` describes, for a node
    /// that `NewNode` built for this type; `offset` is its distance from the node. None of them reads
    /// anything but the length, which never changes.
    pub unsafe trait Payload {
        /// Distance of the value from its node.
        const OFFSET: usize;

        /// The value behind a node, with the provenance of `node`.
        ///
        /// # Safety
        ///
        /// `node` leads to memory of a node that was built for this type, whose value needn't be alive.
        #[doc(hidden)]
        unsafe fn value(node: NonNull<()>) -> *mut Self;

        /// The allocation of a node.
        ///
        /// # Safety
        ///
        /// As for `value`.
        #[doc(hidden)]
        unsafe fn layout(node: NonNull<()>) -> Layout;
    }
}

pub(crate) use sealed::Payload;

const HEADER: usize = size_of::<Node>();

/// The length of a value without a size. What is longer is refused.
type Length = u32;

/// Where the length of a value without a size stands, and where its first element may.
const LEN: usize = HEADER.next_multiple_of(align_of::<Length>());
const TAIL: usize = LEN + size_of::<Length>();

const fn max(a: usize, b: usize) -> usize {
    if a > b { a } else { b }
}

// SAFETY: the offset is behind the header and a multiple of the alignment; the layout ends with the
// value.
unsafe impl<T> Payload for T {
    const OFFSET: usize = HEADER.next_multiple_of(align_of::<T>());

    #[inline]
    unsafe fn value(node: NonNull<()>) -> *mut T {
        // SAFETY: the offset is within the allocation, by the caller's promise.
        unsafe { node.as_ptr().byte_add(Self::OFFSET).cast() }
    }

    #[inline]
    unsafe fn layout(_: NonNull<()>) -> Layout {
        const { sized_layout::<T>() }
    }
}

const fn sized_layout<T>() -> Layout {
    let size = <T as Payload>::OFFSET + size_of::<T>();
    match Layout::from_size_align(size, max(align_of::<Node>(), align_of::<T>())) {
        Ok(layout) => layout,
        Err(_) => panic!("the value is too large for a node"),
    }
}

/// The allocation of a node with `len` elements of `U`; `None` if there is no such size or length.
fn slice_layout<U>(len: usize) -> Option<Layout> {
    Length::try_from(len).ok()?;
    let bytes = len.checked_mul(size_of::<U>())?;
    let size = <[U]>::OFFSET.checked_add(bytes)?;
    Layout::from_size_align(size, max(align_of::<Node>(), align_of::<U>())).ok()
}

// SAFETY: the elements begin behind the length at a multiple of their alignment; the layout ends with
// the last one.
unsafe impl<U> Payload for [U] {
    const OFFSET: usize = TAIL.next_multiple_of(align_of::<U>());

    #[inline]
    unsafe fn value(node: NonNull<()>) -> *mut [U] {
        // SAFETY: the caller promises a node of this type; its length was written before anybody else
        // saw it and never changes.
        let len = unsafe { node.byte_add(LEN).cast::<Length>().read() } as usize;
        // SAFETY: the offset is within the allocation.
        let first = unsafe { node.as_ptr().byte_add(Self::OFFSET) };
        ptr::slice_from_raw_parts_mut(first.cast(), len)
    }

    unsafe fn layout(node: NonNull<()>) -> Layout {
        // SAFETY: as for the caller.
        let len = unsafe { Self::value(node) }.len();
        slice_layout::<U>(len).expect("the node was allocated with it")
    }
}

macro_rules! bytes_payload {
    ($($type:ty),*) => {$(
        // SAFETY: the type is a wrapper of bytes with the same pointer metadata, and delegates.
        unsafe impl Payload for $type {
            const OFFSET: usize = <[u8]>::OFFSET;

            #[inline]
            unsafe fn value(node: NonNull<()>) -> *mut Self {
                // SAFETY: as for the caller.
                unsafe { <[u8]>::value(node) as *mut Self }
            }

            #[inline]
            unsafe fn layout(node: NonNull<()>) -> Layout {
                // SAFETY: as for the caller.
                unsafe { <[u8]>::layout(node) }
            }
        }
    )*};
}

bytes_payload!(str, OsStr, Path, CStr);

/// What a new node has to know before its value is there.
#[derive(Clone, Copy)]
pub(crate) struct Seat {
    pub(super) table: &'static Table,
    pub(super) key: u64,
}

/// A node that is filled but not yet in its table. Dropping it destroys the value; no hook runs.
pub(crate) struct NewNode<T: ?Sized + Payload> {
    node: NonNull<Node>,
    value: PhantomData<T>,
}

impl<T: ?Sized + Payload> NewNode<T> {
    pub(super) fn as_ptr(&self) -> NonNull<Node> {
        self.node
    }

    /// The node's address, which it keeps.
    pub(crate) fn address(&self) -> usize {
        self.node.addr().get()
    }

    /// Declares that the value is incomplete: finders must not read it before `finish_building`.
    pub(crate) fn building(self) -> Self {
        // SAFETY: the node was allocated by us, and nobody else knows it.
        unsafe { self.node.as_ref() }.count.start_building();
        self
    }

    /// Whether finders will see the entry as soon as it is linked.
    pub(super) fn is_visible(&self) -> bool {
        // SAFETY: the node was allocated by us, and nobody else knows it.
        unsafe { self.node.as_ref() }.is_visible()
    }

    /// Declares that finders must not answer the node before it is published.
    pub(crate) fn hold_back(&self) {
        // SAFETY: the node was allocated by us, and nobody else knows it.
        unsafe { self.node.as_ref() }.count.hold_back();
    }

    pub(crate) fn value(&self) -> &T {
        // SAFETY: the value was written when the node was made, and this is its only owner.
        unsafe { &*T::value(self.node.cast()) }
    }

    /// Hands the node over to the table.
    pub(super) fn into_ptr(self) -> NonNull<Node> {
        ManuallyDrop::new(self).node
    }
}

impl<T: ?Sized + Payload> Drop for NewNode<T> {
    fn drop(&mut self) {
        /// Frees the memory also when the value's destructor panics.
        struct Free(NonNull<Node>, Layout);
        impl Drop for Free {
            fn drop(&mut self) {
                // SAFETY: the node was allocated with this layout and nobody else knows it.
                unsafe { std::alloc::dealloc(self.0.as_ptr().cast(), self.1) };
            }
        }
        // SAFETY: the node was built for `T`.
        let _free = Free(self.node, unsafe { T::layout(self.node.cast()) });
        // SAFETY: the value is alive, this is its only owner, and it is not used again.
        unsafe { ptr::drop_in_place(T::value(self.node.cast())) };
    }
}

/// Finds memory for a node and writes its header.
fn allocate(seat: Seat, layout: Layout) -> NonNull<Node> {
    let node = retire::spare(layout).unwrap_or_else(|| {
        // SAFETY: every layout has room for the header, so its size isn't zero.
        NonNull::new(unsafe { std::alloc::alloc(layout) }.cast())
            .unwrap_or_else(|| std::alloc::handle_alloc_error(layout))
    });
    // SAFETY: memory of nobody else's, aligned for and large enough for the header.
    unsafe { node.write(Node::new(seat.key, seat.table)) };
    node
}

impl<T> NewNode<T> {
    pub(crate) fn sized(seat: Seat, value: T) -> Self {
        let node = allocate(seat, const { sized_layout::<T>() });
        // SAFETY: the layout has room for the value at this place.
        unsafe { T::value(node.cast()).write(value) };
        Self {
            node,
            value: PhantomData,
        }
    }
}

impl<T> NewNode<T> {
    /// Takes the value back out.
    pub(crate) fn into_value(self) -> T {
        let node = self.into_ptr();
        // SAFETY: the value is alive, and this was its only owner.
        let value = unsafe { T::value(node.cast()).read() };
        // SAFETY: allocated with this layout, and nobody else knows it.
        unsafe { std::alloc::dealloc(node.as_ptr().cast(), const { sized_layout::<T>() }) };
        value
    }
}

/// A node whose elements are being filled in. Dropping it destroys those that are there.
struct Filling<U> {
    node: NonNull<Node>,
    layout: Layout,
    filled: usize,
    elements: PhantomData<U>,
}

impl<U> Filling<U> {
    fn new(seat: Seat, len: usize) -> Self {
        let layout = slice_layout::<U>(len)
            .unwrap_or_else(|| panic!("a slice of {len} elements is too long for a node"));
        let node = allocate(seat, layout);
        // SAFETY: the layout has room for the length at this place, and there is none of a longer one.
        unsafe { node.byte_add(LEN).cast::<Length>().write(len as Length) };
        Self {
            node,
            layout,
            filled: 0,
            elements: PhantomData,
        }
    }

    /// The place of the first element.
    fn first(&mut self) -> *mut U {
        // SAFETY: the offset is within the allocation.
        unsafe { self.node.as_ptr().byte_add(<[U]>::OFFSET).cast() }
    }

    fn push(&mut self, element: U) {
        // SAFETY: callers push no more elements than the length they asked for.
        unsafe { self.first().add(self.filled).write(element) };
        self.filled += 1;
    }

    fn finish(self) -> NewNode<[U]> {
        NewNode {
            node: ManuallyDrop::new(self).node,
            value: PhantomData,
        }
    }
}

impl<U> Drop for Filling<U> {
    fn drop(&mut self) {
        let filled = ptr::slice_from_raw_parts_mut(self.first(), self.filled);
        // SAFETY: these elements were written and nobody else knows them.
        unsafe { ptr::drop_in_place(filled) };
        // SAFETY: allocated with this layout.
        unsafe { std::alloc::dealloc(self.node.as_ptr().cast(), self.layout) };
    }
}

impl<U> NewNode<[U]> {
    /// Clones the elements. If a clone panics, those made before it are dropped.
    pub(crate) fn cloned(seat: Seat, elements: &[U]) -> Self
    where
        U: Clone,
    {
        let mut filling = Filling::new(seat, elements.len());
        for element in elements {
            filling.push(element.clone());
        }
        filling.finish()
    }

    /// Moves the elements out of a vector.
    pub(crate) fn moved(seat: Seat, mut elements: Vec<U>) -> Self {
        let mut filling = Filling::<U>::new(seat, elements.len());
        // SAFETY: the node has room for all elements; the vector forgets them before it can drop them.
        unsafe {
            ptr::copy_nonoverlapping(elements.as_ptr(), filling.first(), elements.len());
            elements.set_len(0);
        }
        filling.finish()
    }

    /// Moves the elements out of an array.
    pub(crate) fn array<const N: usize>(seat: Seat, elements: [U; N]) -> Self {
        // It panics if there are too many.
        let mut filling = Filling::<U>::new(seat, N);
        let elements = MaybeUninit::new(elements);
        // SAFETY: the node has room for all elements, and `elements` never drops them.
        unsafe { ptr::copy_nonoverlapping(elements.as_ptr().cast(), filling.first(), N) };
        filling.finish()
    }
}

impl NewNode<[u8]> {
    /// Copies bytes.
    pub(crate) fn bytes(seat: Seat, bytes: &[u8]) -> Self {
        let mut filling = Filling::<u8>::new(seat, bytes.len());
        // SAFETY: the node has room for all bytes.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), filling.first(), bytes.len()) };
        filling.finish()
    }

    /// Declares the bytes to be a `T`.
    ///
    /// # Safety
    ///
    /// They are the bytes of a valid `T`, which is one of the types of `bytes_payload`.
    unsafe fn cast<T: ?Sized + Payload>(self) -> NewNode<T> {
        NewNode {
            node: self.into_ptr(),
            value: PhantomData,
        }
    }
}

macro_rules! copied_bytes {
    ($($type:ty: $bytes:ident),*) => {$(
        impl NewNode<$type> {
            /// Copies the value.
            pub(crate) fn copied(seat: Seat, value: &$type) -> Self {
                // SAFETY: these are the bytes of a value of that type.
                unsafe { NewNode::bytes(seat, value.$bytes()).cast() }
            }
        }
    )*};
}

copied_bytes!(str: as_bytes, OsStr: as_encoded_bytes, CStr: to_bytes_with_nul);

impl NewNode<Path> {
    /// Copies the value.
    pub(crate) fn copied(seat: Seat, value: &Path) -> Self {
        // SAFETY: these are the bytes of a path.
        unsafe { NewNode::bytes(seat, value.as_os_str().as_encoded_bytes()).cast() }
    }
}
