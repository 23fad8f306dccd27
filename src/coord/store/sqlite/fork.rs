//! What a child that was forked, and runs on as the same program, must not keep.
//!
//! Two things tell others that a session is there: the lock on its file, and its open sockets. Both go with the last
//! descriptor, and a forked child has copies of all of them, so it would keep its parent's session alive. Such descriptors
//! are therefore listed here, and the child's copies are replaced by ones of the null device before `fork` returns there;
//! the numbers stay taken, so that whoever owns them closes nothing else. The child also learns that it is one.
//!
//! Programs that are *started* are not meant: descriptors are closed when a program is executed, unless they were
//! duplicated on purpose (`SqliteStore::inheritable`).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::OnceLock;

use parking_lot::Mutex;

use crate::table::primitive::{AtomicU64, Ordering::Relaxed};

/// How often this process was forked, counted from the first one that has opened a store.
static GENERATION: AtomicU64 = AtomicU64::new(0);

static LISTED: Mutex<Vec<RawFd>> = Mutex::new(Vec::new());

/// The null device.
static NULL: OnceLock<Option<File>> = OnceLock::new();

/// The number of this process among those that were forked from each other.
pub(super) fn generation() -> u64 {
    // Relaxed: it changes only in a child, before that has a second thread.
    GENERATION.load(Relaxed)
}

/// A descriptor that forked children don't keep.
pub(super) struct Uninherited<T: AsFd>(Option<T>);

impl<T: AsFd> Uninherited<T> {
    /// What `make` makes. Nobody forks meanwhile.
    pub(super) fn make(make: impl FnOnce() -> io::Result<T>) -> io::Result<Self> {
        install();
        let mut listed = LISTED.lock();
        let thing = make()?;
        listed.push(thing.as_fd().as_raw_fd());
        Ok(Self(Some(thing)))
    }

    pub(super) fn get(&self) -> &T {
        self.0.as_ref().expect("it is there until it is dropped")
    }
}

impl<T: AsFd> AsFd for Uninherited<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.get().as_fd()
    }
}

impl<T: AsFd> Drop for Uninherited<T> {
    fn drop(&mut self) {
        let raw = self.as_fd().as_raw_fd();
        let mut listed = LISTED.lock();
        if let Some(at) = listed.iter().position(|fd| *fd == raw) {
            listed.swap_remove(at);
        }
        // Before somebody can fork.
        self.0 = None;
    }
}

fn install() {
    NULL.get_or_init(|| {
        let null = File::open("/dev/null").ok();
        // SAFETY: the three functions may be called at any fork, on the thread that forks. They are never unloaded
        // before the process ends, as far as a static library is concerned; see each for what it does.
        unsafe { libc::pthread_atfork(Some(prepare), Some(parent), Some(child)) };
        null
    });
}

/// Before a fork: nobody changes the list until it is over.
extern "C" fn prepare() {
    std::mem::forget(LISTED.lock());
}

extern "C" fn parent() {
    // SAFETY: this thread has locked it in `prepare`, and forgotten the guard.
    unsafe { LISTED.force_unlock() };
}

/// In the child, where only functions may be called that signal handlers may call.
extern "C" fn child() {
    // Relaxed: there is no other thread yet.
    GENERATION.fetch_add(1, Relaxed);
    // SAFETY: it was locked by the thread that has forked, which this one is a copy of, and that is the only one here.
    let listed = unsafe { &*LISTED.data_ptr() };
    if let Some(Some(null)) = NULL.get() {
        for &fd in listed {
            // SAFETY: `fd` is open: it is listed only while it is. That it refers to something else now is what is
            // wanted: its owner uses it no more in this process. Both functions may be called in signal handlers.
            unsafe {
                libc::dup2(null.as_raw_fd(), fd);
                libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
            }
        }
    }
    // SAFETY: as above.
    unsafe { LISTED.force_unlock() };
}
