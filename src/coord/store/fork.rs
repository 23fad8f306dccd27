//! What a child that was forked, and runs on as the same program, must not keep.
//!
//! Two things tell others that a session is there: the lock on its file, and its open sockets. Both go with the last
//! descriptor, and a forked child has copies of all of them, so it would keep its parent's session alive. Such descriptors
//! are therefore listed here, and the child's copies are replaced by ones of the null device before `fork` returns there;
//! the numbers stay taken, so that whoever owns them closes nothing else. Nobody forks while one is made or closed.
//!
//! SQLite keeps account of its locks for the whole process, and a child inherits the account, but not the locks. So a child
//! that was forked while a database was open here can't open any: it would take for locked what isn't.
//!
//! Programs that are *started* are not meant: descriptors are closed when a program is executed, unless they were
//! duplicated on purpose (`SqliteStore::inheritable`).

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::coord::error::Fault;
use crate::table::primitive::{AtomicU64, Ordering::Relaxed};

/// How often this process was forked, counted from the first one that has opened a store.
static GENERATION: AtomicU64 = AtomicU64::new(0);

/// What is to be known of a child. A mutex of `std`, which the child can unlock whatever other threads did.
static LIST: Mutex<List> = Mutex::new(List {
    descriptors: Vec::new(),
    databases: 0,
    is_tainted: false,
});

struct List {
    /// Those that a child doesn't keep.
    descriptors: Vec<RawFd>,
    /// How many databases are open.
    databases: usize,
    /// One was when this process was forked.
    is_tainted: bool,
}

thread_local! {
    /// The list, while this thread forks.
    static FORKING: RefCell<Option<MutexGuard<'static, List>>> = const { RefCell::new(None) };
}

fn list() -> MutexGuard<'static, List> {
    LIST.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The number of this process among those that were forked from each other.
fn generation() -> u64 {
    // Relaxed: it changes only in a child, before that has a second thread.
    GENERATION.load(Relaxed)
}

/// The process that something was opened in.
pub(super) struct Process {
    generation: u64,
}

impl Process {
    /// This one. From now on forks are noticed.
    pub(super) fn current() -> Self {
        install();
        let generation = generation();
        Self { generation }
    }

    /// An error in a child that was forked since.
    pub(super) fn check(&self) -> Result<(), Fault> {
        if self.generation == generation() {
            Ok(())
        } else {
            Err(Fault::ForkedChild)
        }
    }
}

/// That a database is open, or is about to be.
pub(super) struct OpenDatabase(Process);

impl OpenDatabase {
    /// Before it is opened.
    pub(super) fn new() -> Result<Self, Fault> {
        let process = Process::current();
        let mut list = list();
        if list.is_tainted {
            return Err(Fault::ForkedChild);
        }
        list.databases += 1;
        Ok(Self(process))
    }

    /// An error in a child that was forked since.
    pub(super) fn check(&self) -> Result<(), Fault> {
        self.0.check()
    }
}

impl Drop for OpenDatabase {
    fn drop(&mut self) {
        // What was open in a parent can't be closed here.
        if self.check().is_ok() {
            list().databases -= 1;
        }
    }
}

/// A descriptor that forked children don't keep.
pub(super) struct Uninherited<T: AsFd>(Option<T>);

impl<T: AsFd> Uninherited<T> {
    /// What `make` makes. Nobody forks meanwhile.
    pub(super) fn make(make: impl FnOnce() -> io::Result<T>) -> io::Result<Self> {
        let mut list = list();
        let thing = make()?;
        list.descriptors.push(thing.as_fd().as_raw_fd());
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
        let mut list = list();
        if let Some(at) = list.descriptors.iter().position(|fd| *fd == raw) {
            list.descriptors.swap_remove(at);
        }
        // Before somebody can fork.
        self.0 = None;
    }
}

/// The null device, once forks are noticed.
static NULL: OnceLock<Option<File>> = OnceLock::new();

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
    let list = list();
    // A thread that has no thread-locals any more gives it up at once: it is about to end.
    let _ = FORKING.try_with(|forking| forking.replace(Some(list)));
}

extern "C" fn parent() {
    let _ = FORKING.try_with(RefCell::take);
}

/// In the child, where only functions may be called that signal handlers may call. Nothing is allocated here or freed, and
/// the mutex is unlocked without another lock.
extern "C" fn child() {
    // Relaxed: there is no other thread yet.
    GENERATION.fetch_add(1, Relaxed);
    let _ = FORKING.try_with(|forking| {
        let Some(mut list) = forking.take() else {
            return;
        };
        list.is_tainted |= list.databases > 0;
        list.databases = 0;
        if let Some(Some(null)) = NULL.get() {
            for &fd in &list.descriptors {
                // SAFETY: `fd` is open: it is listed only while it is. That it refers to something else now is what is
                // wanted: its owner uses it no more in this process. Both functions may be called in signal handlers.
                unsafe {
                    libc::dup2(null.as_raw_fd(), fd);
                    libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
                }
            }
        }
        // The next child has nothing more to replace, and the numbers may come to mean something else.
        list.descriptors.clear();
    });
}
