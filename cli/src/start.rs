//! What hapax was started with: which signals were ignored.
//!
//! They stay ignored, in hapax and in its child: that is what `nohup` is for. For most of them it could be looked up at any
//! time before a handler is installed, but std ignores SIGPIPE before `main`. So this looks before std does: in a function
//! that the loader calls. There is no safe way to do either, and this is the only place with code that isn't.

#![expect(
    unsafe_code,
    reason = "what signals do can't be looked up safely, and neither can code run before main"
)]

use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

/// A bit for each signal that was ignored.
static IGNORED: AtomicU64 = AtomicU64::new(0);

/// Those that matter here.
const LOOKED_AT: [i32; 11] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGWINCH,
    libc::SIGCONT,
    libc::SIGTSTP,
    libc::SIGPIPE,
    libc::SIGCHLD,
];

// Both sections are for pointers to functions that the loader calls, with arguments that such a function may ignore.
#[cfg_attr(
    target_vendor = "apple",
    unsafe(link_section = "__DATA,__mod_init_func")
)]
#[cfg_attr(not(target_vendor = "apple"), unsafe(link_section = ".init_array"))]
#[used]
static LOOK: extern "C" fn() = look;

extern "C" fn look() {
    let mut ignored = 0;
    for signal in LOOKED_AT {
        let mut action = MaybeUninit::<libc::sigaction>::uninit();
        // SAFETY: nothing is installed, and there is room for what is there.
        let done = unsafe { libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) };
        // SAFETY: it was filled in if that is what the call says.
        if done == 0 && unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN {
            ignored |= 1 << signal;
        }
    }
    // Relaxed: there is no other thread yet.
    IGNORED.store(ignored, Ordering::Relaxed);
}

/// Whether hapax was started with that signal ignored. Signals that don't matter here never are.
pub(crate) fn was_ignored(signal: i32) -> bool {
    // Relaxed: it was written before there was a second thread.
    IGNORED.load(Ordering::Relaxed) & (1 << signal) != 0
}
