//! The allocator of the scenarios. It spoils memory that is given back, and decides when that is used again: at
//! once, so that whoever still believes in an address meets a new object there; or not before the execution
//! ends, so that whoever touches it meets nothing but spoiled memory. A scenario runs both ways.
//!
//! Each thread of the system has free blocks of its own, and so has each execution, which runs on one of them.
//! So the addresses that an execution meets again are the same when it is replayed.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr::{self, NonNull};

/// What becomes of memory that is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// It goes back to the system, as anywhere else.
    System,
    /// The next one who wants a block of its size gets it.
    AtOnce,
    /// It stays as it is until the execution ends.
    Never,
}

/// What stands in spoiled memory. To a cell of shuttle's atomics that means: already borrowed.
const SPOILED: u8 = 0xa5;

/// Blocks of so many sizes are used again at once; larger ones go back to the system.
const CLASSES: usize = 128;
const GRAIN: usize = 16;

/// The stack of the blocks that are not used again, behind those of the classes.
const KEPT: usize = CLASSES;

/// What stands in front of each block.
#[derive(Clone, Copy)]
struct Header {
    /// The block that was given back before this one.
    below: *mut Header,
    /// As the system was asked for it.
    whole: Layout,
    /// Between the beginning of the whole and the block.
    front: usize,
}

/// Blocks that were given back, the last one on top.
struct Stack(Cell<*mut Header>);

impl Stack {
    const fn new() -> Self {
        Self(Cell::new(ptr::null_mut()))
    }

    /// # Safety
    ///
    /// The block was given back, and is on no stack.
    unsafe fn push(&self, block: *mut Header) {
        // SAFETY: a block has its header, and this one is ours.
        unsafe { (*block).below = self.0.replace(block) };
    }

    fn pop(&self) -> Option<NonNull<Header>> {
        let top = NonNull::new(self.0.get())?;
        // SAFETY: a block on a stack has its header.
        self.0.set(unsafe { top.as_ref() }.below);
        Some(top)
    }
}

struct Freed {
    reuse: Cell<Reuse>,
    stacks: [Stack; CLASSES + 1],
}

thread_local! {
    static FREED: Freed = const {
        Freed {
            reuse: Cell::new(Reuse::System),
            stacks: [const { Stack::new() }; CLASSES + 1],
        }
    };
}

/// Gives back what the last execution on this thread has left, and says how the next one uses memory.
pub fn begin(reuse: Reuse) {
    FREED.with(|freed| {
        freed.reuse.set(Reuse::System);
        for stack in &freed.stacks {
            while let Some(block) = stack.pop() {
                // SAFETY: the block was given back, and is on no stack any more.
                unsafe {
                    assert!(
                        is_spoiled(block),
                        "memory was written after it was given back"
                    );
                    release(block);
                }
            }
        }
        freed.reuse.set(reuse);
    });
}

/// The block behind a header.
///
/// # Safety
///
/// `allocate` made the header.
unsafe fn block_of(header: NonNull<Header>) -> *mut u8 {
    // SAFETY: the block begins right behind its header.
    unsafe { header.add(1) }.as_ptr().cast()
}

/// # Safety
///
/// The block was given back.
unsafe fn is_spoiled(header: NonNull<Header>) -> bool {
    // SAFETY: the header is alive, and the rest of the whole lies behind it.
    let block = unsafe {
        let Header { whole, front, .. } = header.read();
        std::slice::from_raw_parts(block_of(header), whole.size() - front)
    };
    block.iter().all(|&byte| byte == SPOILED)
}

/// # Safety
///
/// The block was given back, and is on no stack.
unsafe fn release(header: NonNull<Header>) {
    // SAFETY: the whole begins so far in front of the block, and was allocated with this layout.
    unsafe {
        let Header { whole, front, .. } = header.read();
        System.dealloc(block_of(header).sub(front), whole);
    }
}

/// A block of a layout, with a header in front of it.
fn allocate(layout: Layout) -> Option<NonNull<Header>> {
    let align = layout.align().max(align_of::<Header>());
    let front = size_of::<Header>().next_multiple_of(align);
    let size = layout.size().next_multiple_of(GRAIN).checked_add(front)?;
    let whole = Layout::from_size_align(size, align).ok()?;
    // SAFETY: the layout has room for the header, so its size isn't zero.
    let begin = NonNull::new(unsafe { System.alloc(whole) })?;
    // SAFETY: there is room for the header in front of the block, and the block is aligned for it.
    unsafe {
        let header = begin.add(front).cast::<Header>().sub(1);
        header.write(Header {
            below: ptr::null_mut(),
            whole,
            front,
        });
        Some(header)
    }
}

/// Where freed blocks of a layout wait, if they are used again.
fn class_of(layout: Layout) -> Option<usize> {
    let class = layout.size().div_ceil(GRAIN);
    (layout.align() <= GRAIN && class < CLASSES).then_some(class)
}

struct Allocator;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

// SAFETY: blocks come from the system, as large and aligned as asked for, and have one owner at a time.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let freed = FREED.with(|freed| match freed.reuse.get() {
            Reuse::AtOnce => freed.stacks[class_of(layout)?].pop(),
            Reuse::System | Reuse::Never => None,
        });
        match freed.or_else(|| allocate(layout)) {
            // SAFETY: made by `allocate`, now or for the former owner.
            Some(header) => unsafe { block_of(header) },
            None => ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: `alloc` answered the block, so there is a header in front of it; it is ours now.
        let header = unsafe {
            let header = NonNull::new_unchecked(block.cast::<Header>()).sub(1);
            block.write_bytes(
                SPOILED,
                header.as_ref().whole.size() - header.as_ref().front,
            );
            header
        };
        let stack = |freed: &Freed| match freed.reuse.get() {
            Reuse::System => None,
            Reuse::AtOnce => class_of(layout),
            Reuse::Never => Some(KEPT),
        };
        FREED.with(|freed| match stack(freed) {
            // SAFETY: given back just now.
            Some(stack) => unsafe { freed.stacks[stack].push(header.as_ptr()) },
            // SAFETY: as above.
            None => unsafe { release(header) },
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn freed() -> *const [u64; 9] {
        let block = Box::into_raw(Box::new([1; 9]));
        // SAFETY: made from a box just now.
        drop(unsafe { Box::from_raw(block) });
        block
    }

    #[test]
    fn a_block_is_used_again_at_once() {
        begin(Reuse::AtOnce);
        let first = freed();
        assert_eq!(freed(), first);
        begin(Reuse::System);
    }

    #[test]
    fn a_block_is_kept_and_spoiled() {
        begin(Reuse::Never);
        let first = freed();
        assert_ne!(freed(), first);
        // SAFETY: the block stays until the next `begin`.
        assert_eq!(
            unsafe { first.cast::<u64>().read_volatile() },
            0xa5a5_a5a5_a5a5_a5a5
        );
        begin(Reuse::System);
    }

    #[test]
    #[should_panic = "memory was written after it was given back"]
    fn a_late_write_is_noticed() {
        begin(Reuse::Never);
        // SAFETY: the block stays until the next `begin`.
        unsafe { freed().cast_mut().cast::<u64>().write_volatile(1) };
        begin(Reuse::System);
    }
}
