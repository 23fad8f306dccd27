//! How sessions know of each other: a file that is locked as long as one lives, and sockets.
//!
//! Beside the database is a directory. A session has there
//!
//! - `ID.lock`, which it has locked since before its row was there. The kernel gives that lock up when the last process
//!   ends that has the descriptor, so a session is dead if others can lock its file, and it is the one that its row names.
//!   They try that with a *shared* lock, so that they don't take each other for the session. Numbers of processes and start
//!   times decide nothing: containers have their own. A file that isn't there says nothing of its session, unless that is
//!   from another boot or another copy of the database: the power may have gone after the file and before the row;
//! - `ID.sock`, to which others connect that want to hear of its end: the kernel hangs up then;
//! - `ID.1`, `ID.2`, … for its waiters to sleep at: the bells. A ring is a datagram that never blocks and may get lost
//!   without harm. One that says what was granted, and to which ticket, spares its waiter a look into the database, where that is
//!   as well; whatever else wakes a waiter, it looks.
//!
//! Numbers of sessions are random and never come back, so that death is final.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::super::fork::Uninherited;
use super::super::line::Ring;
use super::super::{Bell, Grant, Heard, Sleeper, Watch};
use crate::coord::time::Time;

/// The longest path of a socket that every system takes.
const LONGEST_PATH: usize = 100;
/// How many connections to others are kept.
const MOST_WATCHED: usize = 32;
/// How often somebody who has hung up is looked at until the kernel has given its lock up as well.
const LAST_BREATHS: u32 = 40;

/// Where sessions have their files.
pub(super) struct Directory {
    path: PathBuf,
    /// For paths that would be too long otherwise.
    open: File,
    is_for_group: bool,
}

impl Directory {
    /// It is made if it isn't there.
    pub(super) fn open(path: PathBuf, is_for_group: bool) -> io::Result<Self> {
        // What is made in it belongs to its group.
        let mode = if is_for_group { 0o2770 } else { 0o700 };
        match DirBuilder::new().mode(mode).create(&path) {
            Ok(()) if is_for_group => {
                fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
            }
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let open = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_DIRECTORY)
            .open(&path)?;
        Ok(Self {
            path,
            open,
            is_for_group,
        })
    }

    fn file(&self, session: u64, what: &str) -> PathBuf {
        self.path.join(format!("{session:016x}.{what}"))
    }

    /// The same, short enough for a socket.
    fn socket(&self, session: u64, what: &str) -> PathBuf {
        let path = self.file(session, what);
        if path.as_os_str().len() <= LONGEST_PATH {
            return path;
        }
        let directory = format!("/proc/self/fd/{}", self.open.as_raw_fd());
        Path::new(&directory).join(format!("{session:016x}.{what}"))
    }

    /// Lets the group use what was made for a session, if it may.
    fn share(&self, session: u64, what: &str) -> io::Result<()> {
        if self.is_for_group {
            let path = self.file(session, what);
            fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
        }
        Ok(())
    }

    /// The sessions that have files here, alive or not.
    pub(super) fn sessions(&self) -> io::Result<BTreeSet<u64>> {
        let mut sessions = BTreeSet::new();
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            let id = name.to_str().and_then(|name| name.split('.').next());
            sessions.extend(id.and_then(|id| u64::from_str_radix(id, 16).ok()));
        }
        Ok(sessions)
    }

    /// What the file of a session tells.
    pub(super) fn probe(&self, session: u64) -> Sign {
        let mut open = OpenOptions::new();
        open.read(true).custom_flags(libc::O_NOFOLLOW);
        match open.open(self.file(session, "lock")) {
            Ok(file) if file.try_lock_shared().is_ok() => file
                .metadata()
                .map_or(Sign::Alive, |file| Sign::Unlocked { inode: file.ino() }),
            Err(error) if error.kind() == ErrorKind::NotFound => Sign::Missing,
            // Or it can't be told.
            _ => Sign::Alive,
        }
    }

    /// Removes the files of a session that has ended. Whoever is in the way of that removes the rest another time.
    pub(super) fn remove(&self, session: u64) {
        let prefix = format!("{session:016x}.");
        let Ok(entries) = fs::read_dir(&self.path) else {
            return;
        };
        // The lock last: while that is there the others are found.
        let mut lock = None;
        for entry in entries.flatten() {
            match entry.file_name().to_str() {
                Some(name) if name == format!("{prefix}lock") => lock = Some(entry.path()),
                Some(name) if name.starts_with(&prefix) => drop(fs::remove_file(entry.path())),
                _ => {}
            }
        }
        lock.map(fs::remove_file);
    }
}

/// What the file of a session tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// It is locked.
    Alive,
    /// It isn't, and this is its number in the file system.
    Unlocked {
        inode: u64,
    },
    Missing,
}

/// What shows others that this session is there, and what it sees of them.
pub(super) struct Presence {
    pub(super) session: u64,
    directory: Arc<Directory>,
    lock: Uninherited<File>,
    listener: Uninherited<UnixListener>,
    /// Rings others.
    ringer: UnixDatagram,
    bells: Mutex<Bells>,
    /// Those whose end is told to this one.
    watched: Mutex<HashMap<u64, Arc<OwnedFd>>>,
    /// Those to whom the end of this one is told. They are kept open for that.
    watchers: Mutex<Vec<Uninherited<OwnedFd>>>,
}

#[derive(Default)]
struct Bells {
    sockets: HashMap<u32, Arc<UnixDatagram>>,
    free: Vec<u32>,
}

impl Presence {
    /// Of a new session. Nobody may clear away dead ones meanwhile.
    pub(super) fn new(directory: &Arc<Directory>, session: u64) -> io::Result<Self> {
        // What is left of a try that failed halfway, for want of descriptors perhaps.
        directory.remove(session);
        let directory = Arc::clone(directory);
        let lock = Uninherited::make(|| {
            let lock = OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW)
                .open(directory.file(session, "lock"))?;
            lock.try_lock().map_err(|error| match error {
                TryLockError::Error(error) => error,
                TryLockError::WouldBlock => ErrorKind::WouldBlock.into(),
            })?;
            Ok(lock)
        })?;
        let listener = Uninherited::make(|| UnixListener::bind(directory.socket(session, "sock")))?;
        listener.get().set_nonblocking(true)?;
        directory.share(session, "lock")?;
        directory.share(session, "sock")?;
        let ringer = ringer()?;
        Ok(Self {
            session,
            directory,
            lock,
            listener,
            ringer,
            bells: Mutex::default(),
            watched: Mutex::default(),
            watchers: Mutex::default(),
        })
    }

    /// Descriptors that keep the session alive, for a program that is to be started.
    pub(super) fn inheritable(&self) -> io::Result<Vec<OwnedFd>> {
        Ok(vec![
            rustix::io::dup(&self.lock)?,
            rustix::io::dup(&self.listener)?,
        ])
    }

    /// Whether others still see it: its file is where it was.
    pub(super) fn is_seen(&self) -> bool {
        let there = fs::symlink_metadata(self.directory.file(self.session, "lock"));
        let own = self.lock.get().metadata();
        match (there, own) {
            (Ok(there), Ok(own)) => (there.dev(), there.ino()) == (own.dev(), own.ino()),
            _ => false,
        }
    }

    pub(super) fn take_bell(&self) -> io::Result<Bell> {
        let mut bells = self.bells.lock();
        let number = match bells.free.pop() {
            Some(number) => number,
            None => {
                let number = bells.sockets.len() as u32 + 1;
                let name = number.to_string();
                let socket = UnixDatagram::bind(self.directory.socket(self.session, &name))?;
                self.directory.share(self.session, &name)?;
                socket.set_nonblocking(true)?;
                bells.sockets.insert(number, Arc::new(socket));
                number
            }
        };
        Ok(Bell {
            session: self.session,
            number,
        })
    }

    pub(super) fn put_bell(&self, bell: Bell) {
        let mut bells = self.bells.lock();
        if let Some(socket) = bells.sockets.get(&bell.number) {
            // What isn't read counts against whoever has rung.
            silence(socket);
        }
        bells.free.push(bell.number);
    }

    /// Wakes all who wait here.
    pub(super) fn ring_all(&self) {
        let numbers: Vec<_> = self.bells.lock().sockets.keys().copied().collect();
        self.ring(numbers.into_iter().map(|number| {
            let session = self.session;
            Bell { session, number }.into()
        }));
    }

    /// Wakes waiters. Those that can't be reached look by themselves.
    pub(super) fn ring(&self, to_ring: impl IntoIterator<Item = Ring>) {
        for Ring { bell, grant } in to_ring {
            let path = self
                .directory
                .socket(bell.session, &bell.number.to_string());
            let message = grant.map(written);
            let message = message.as_ref().map_or(&[][..], |message| message);
            let rung = self.ringer.send_to(message, &path);
            if rung.is_err_and(|error| error.kind() == ErrorKind::WouldBlock) {
                // Perhaps not because that bell is full, but because too many others haven't read what this one has sent.
                let _ = ringer().and_then(|ringer| ringer.send_to(message, path));
            }
        }
    }

    /// The number of its file in the file system.
    pub(super) fn inode(&self) -> io::Result<u64> {
        Ok(self.lock.get().metadata()?.ino())
    }

    /// Looks after sessions from now on.
    pub(super) fn watch(&self, sessions: &[u64], is_dead: impl Fn(u64) -> bool) -> Watch {
        let mut watch = Watch::default();
        for &session in sessions {
            if self.is_watched(session) {
                continue;
            }
            match self.connect(session) {
                Ok(stream) => {
                    self.trim_watched();
                    self.watched.lock().insert(session, Arc::new(stream));
                    watch.is_new = true;
                }
                Err(Errno::CONNREFUSED | Errno::NOENT) if is_dying(|| is_dead(session)) => {
                    watch.dead.push(session);
                }
                // It can't be watched; who waits looks by himself.
                Err(_) => {}
            }
        }
        watch
    }

    /// Connections to sessions that have ended, or that nobody asks for any more, don't stay for ever.
    fn trim_watched(&self) {
        let mut watched = self.watched.lock();
        let streams: Vec<_> = watched.values().cloned().collect();
        let sessions: Vec<_> = watched.keys().copied().collect();
        let mut fds: Vec<_> = streams
            .iter()
            .map(|one| PollFd::new(one, PollFlags::IN))
            .collect();
        if poll(&mut fds, Some(&Timespec::default())).is_ok() {
            for (fd, session) in fds.iter().zip(&sessions) {
                if !fd.revents().is_empty() {
                    watched.remove(session);
                }
            }
        }
        if watched.len() >= MOST_WATCHED {
            // Those who sleep at one keep it. It is connected to again when it is asked for.
            watched.clear();
        }
    }

    /// Whether it is, and hasn't hung up.
    fn is_watched(&self, session: u64) -> bool {
        let mut watched = self.watched.lock();
        let Some(stream) = watched.get(&session) else {
            return false;
        };
        let mut fds = [PollFd::new(stream, PollFlags::IN)];
        let is_silent = poll(&mut fds, Some(&Timespec::default())).is_ok_and(|count| count == 0);
        if !is_silent {
            watched.remove(&session);
        }
        is_silent
    }

    fn connect(&self, session: u64) -> rustix::io::Result<OwnedFd> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let stream = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        let address = SocketAddrUnix::new(self.directory.socket(session, "sock"))?;
        connect(&stream, &address)?;
        Ok(stream)
    }

    /// Sleeps until a bell is rung or one of the sessions ends that its sleeper watches, for so long at most. Answers what each
    /// of them has heard.
    pub(super) fn sleep(&self, sleepers: &[Sleeper<'_>], time: Duration) -> Vec<Heard> {
        self.receive_watchers();
        // Which of the sleepers each descriptor is for, and whose end it tells.
        let mut what = Vec::new();
        let mut sockets = Vec::new();
        let mut streams = Vec::new();
        {
            let (bells, watched) = (self.bells.lock(), self.watched.lock());
            for (at, sleeper) in sleepers.iter().enumerate() {
                sockets.extend(bells.sockets.get(&sleeper.bell.number).cloned());
                for session in sleeper.watched {
                    if let Some(stream) = watched.get(session) {
                        streams.push(Arc::clone(stream));
                        what.push((at, *session));
                    }
                }
            }
        }
        if sockets.len() < sleepers.len() {
            // A bell of another session would be.
            return vec![Heard::Something; sleepers.len()];
        }
        let sockets_first = sockets
            .iter()
            .map(|socket| PollFd::new(socket, PollFlags::IN));
        let streams = streams
            .iter()
            .map(|stream| PollFd::new(stream, PollFlags::IN));
        let mut fds: Vec<_> = sockets_first.chain(streams).collect();
        let timeout = Timespec::try_from(time).ok();
        let mut heard = vec![Heard::Nothing; sleepers.len()];
        if poll(&mut fds, timeout.as_ref()).is_err() {
            return heard;
        }
        for (at, socket) in sockets.iter().enumerate() {
            if !fds[at].revents().is_empty() {
                heard[at] = silence(socket);
            }
        }
        for (fd, (at, session)) in fds[sockets.len()..].iter().zip(what) {
            if !fd.revents().is_empty() {
                self.watched.lock().remove(&session);
                if heard[at] == Heard::Nothing {
                    heard[at] = Heard::Something;
                }
            }
        }
        heard
    }

    /// Lets those in who have connected, and those go who have left.
    pub(super) fn receive_watchers(&self) {
        let mut watchers = self.watchers.lock();
        let listener = PollFd::new(&self.listener, PollFlags::IN);
        let others = watchers.iter().map(|one| PollFd::new(one, PollFlags::IN));
        let mut fds: Vec<_> = std::iter::once(listener).chain(others).collect();
        if poll(&mut fds, Some(&Timespec::default())).is_ok_and(|count| count == 0) {
            return;
        }
        let has_left: Vec<_> = fds[1..].iter().map(|fd| !fd.revents().is_empty()).collect();
        let mut has_left = has_left.into_iter();
        watchers.retain(|_| !has_left.next().unwrap_or(false));
        let accept = || {
            self.listener
                .get()
                .accept()
                .map(|(stream, _)| OwnedFd::from(stream))
        };
        while let Ok(stream) = Uninherited::make(accept) {
            watchers.push(stream);
        }
    }
}

fn ringer() -> io::Result<UnixDatagram> {
    let ringer = UnixDatagram::unbound()?;
    ringer.set_nonblocking(true)?;
    Ok(ringer)
}

/// Reads all rings. Answers with the last grant of which they say something.
fn silence(bell: &UnixDatagram) -> Heard {
    let mut heard = Heard::Something;
    // One more than there is to read, so that what is too long isn't taken for it.
    let mut message = [0; GRANT + 1];
    while let Ok(length) = bell.recv(&mut message) {
        heard = read(&message[..length]).map_or(heard, Heard::Granted);
    }
    heard
}

/// The length of a ring that says what was granted: five numbers.
const GRANT: usize = 40;

/// In the place of a moment, of which none is before the clock began.
const NEVER: i64 = i64::MIN;

fn written(grant: Grant) -> [u8; GRANT] {
    let ends = grant.expires.map_or(NEVER, |expires| expires.0);
    let numbers = [
        grant.ticket,
        grant.token,
        grant.slot.into(),
        ends.cast_unsigned(),
        grant.at.0.cast_unsigned(),
    ];
    let mut message = [0; GRANT];
    for (place, number) in message.as_chunks_mut().0.iter_mut().zip(numbers) {
        *place = number.to_ne_bytes();
    }
    message
}

/// Of another length is what another version says, and an empty one says nothing.
fn read(message: &[u8]) -> Option<Grant> {
    let message: [u8; GRANT] = message.try_into().ok()?;
    let numbers: Vec<_> = message
        .as_chunks()
        .0
        .iter()
        .copied()
        .map(u64::from_ne_bytes)
        .collect();
    let &[ticket, token, slot, ends, at] = &numbers[..] else {
        return None;
    };
    Some(Grant {
        ticket,
        token,
        slot: u32::try_from(slot).ok()?,
        expires: Some(Time(ends.cast_signed())).filter(|ends| ends.0 != NEVER),
        at: Time(at.cast_signed()),
    })
}

/// Whether a session is dead that has hung up. When a process ends its sockets may go a moment before its locks.
fn is_dying(is_dead: impl Fn() -> bool) -> bool {
    (0..LAST_BREATHS).any(|breath| {
        if breath > 0 {
            std::thread::sleep(Duration::from_micros(250));
        }
        is_dead()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_ring_says_is_heard() {
        let place = tempfile::tempdir().unwrap();
        let directory = Directory::open(place.path().join("sessions"), false).unwrap();
        let directory = Arc::new(directory);
        let here = Presence::new(&directory, 1).unwrap();
        let there = Presence::new(&directory, 2).unwrap();
        let bell = here.take_bell().unwrap();
        let watched = &[];
        let hear = || here.sleep(&[Sleeper { bell, watched }], Duration::ZERO)[0];
        assert_eq!(hear(), Heard::Nothing);
        there.ring([bell.into()]);
        assert_eq!(hear(), Heard::Something);
        for expires in [None, Some(Time(7)), Some(Time(i64::MAX))] {
            let grant = Grant {
                ticket: u64::MAX,
                token: 1 << 60,
                slot: u32::MAX,
                expires,
                at: Time(5),
            };
            let ring = Ring {
                bell,
                grant: Some(grant),
            };
            there.ring([bell.into(), ring, bell.into()]);
            assert_eq!(hear(), Heard::Granted(grant));
        }
        assert_eq!(hear(), Heard::Nothing);
    }

    #[test]
    fn what_is_not_understood_is_a_ring() {
        for length in [0, 1, GRANT - 1, GRANT + 1] {
            assert_eq!(read(&[1; GRANT + 1][..length]), None);
        }
        // No slot has such a number.
        assert_eq!(read(&[0xff; GRANT]), None);
    }
}
