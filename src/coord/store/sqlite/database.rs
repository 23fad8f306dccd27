//! The file: how it is made, opened, and kept from being used wrongly.
//!
//! # Tables
//!
//! | table | rows |
//! |---|---|
//! | `meta` | one: the name of this database, which is random, and the last number that was given out |
//! | `boot` | the last boots that it was opened in, and as which file |
//! | `session` | those that have held or waited for something, until they are closed or found dead |
//! | `holder` | who holds a key: by key and token |
//! | `waiter` | who waits for a key: by key and ticket |
//! | `value` | averages and rate limits, by key |
//!
//! Tokens and tickets are drawn from one number: the last one and one more, or the microseconds of the wall clock and what
//! the number is *ahead* of that, if those are more. So they grow whatever the clock does, and in a file that was restored as
//! far as the clock can be trusted. The first time that a file is opened in a boot, or under another number of the file system,
//! the number is moved ahead by 2^32, and that is written through to the disk: what else is committed can be lost with the
//! power (`synchronous=NORMAL`), the last tokens with it.
//!
//! A file of version 1, which has no table of values, gets one when it is opened, and can't be opened any more by programs
//! that know that version only. Those that have it open go on.
//!
//! Pages are small, 512 bytes: a grant changes two of them, giving it back one, and each is written to the log whole.

use std::cell::Cell;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rusqlite::config::DbConfig;
use rusqlite::functions::FunctionFlags;
use rusqlite::hooks::Wal;
use rusqlite::wal::CheckpointMode;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::super::clock;
use super::SqliteOptions;
use crate::coord::error::Fault;
use crate::coord::time::{wall_clock, wall_time};

/// What tells a store from other databases: "hapx".
const APPLICATION: i64 = 0x6861_7078;
/// The version of the tables.
const VERSION: i64 = 2;
/// Before it, commits can be lost in the mode that is used here (<https://sqlite.org/wal.html#walresetbug>).
const OLDEST_SQLITE: i32 = 3_051_003;
/// How far the numbers are moved ahead for each boot.
const BOOT_STEP: i64 = 1 << 32;
/// For how long the files are believed to be those that were opened, once they were looked at.
const BELIEVED_FOR: Duration = Duration::from_millis(1);
/// For how long a directory has to be unchanged to tell by its times whether it changes.
const SETTLED: Duration = Duration::from_millis(100);
/// How many pages the log may have, about: four megabytes.
const LONGEST_LOG: i32 = 8192;
/// How long a checkpoint waits for those who read.
const CHECKPOINT_PATIENCE: Duration = Duration::from_millis(20);
/// How often who is in haste lets others run before it sleeps.
const YIELDS: i32 = 4;
/// How many boots are remembered.
const BOOTS: i64 = 100;

const TABLES: &str = "
    CREATE TABLE meta(
        id INTEGER PRIMARY KEY CHECK (id = 1),
        name BLOB NOT NULL,
        number INTEGER NOT NULL,
        ahead INTEGER NOT NULL
    );
    INSERT INTO meta VALUES (1, randomblob(16), 0, 0);
    CREATE TABLE boot(id TEXT PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE session(
        id INTEGER PRIMARY KEY,
        inode INTEGER NOT NULL,
        origin TEXT NOT NULL,
        clock TEXT NOT NULL,
        host TEXT NOT NULL,
        process INTEGER NOT NULL,
        label TEXT,
        command TEXT
    );
    CREATE TABLE holder(
        key TEXT NOT NULL,
        token INTEGER NOT NULL,
        ticket INTEGER,
        session INTEGER NOT NULL,
        owner BLOB,
        mode INTEGER NOT NULL,
        permits INTEGER,
        slot INTEGER NOT NULL,
        lease INTEGER,
        renews INTEGER NOT NULL,
        tag TEXT,
        expires INTEGER,
        renewals INTEGER NOT NULL,
        since INTEGER NOT NULL,
        PRIMARY KEY (key, token)
    ) WITHOUT ROWID;
    CREATE TABLE waiter(
        key TEXT NOT NULL,
        ticket INTEGER NOT NULL,
        session INTEGER NOT NULL,
        bell INTEGER NOT NULL,
        owner BLOB,
        mode INTEGER NOT NULL,
        permits INTEGER,
        lease INTEGER,
        renews INTEGER NOT NULL,
        tag TEXT,
        strict INTEGER NOT NULL,
        endless INTEGER NOT NULL,
        due INTEGER,
        since INTEGER NOT NULL,
        PRIMARY KEY (key, ticket)
    ) WITHOUT ROWID;
";

/// What has come with version 2.
const VALUES: &str = "
    CREATE TABLE value(
        key TEXT PRIMARY KEY,
        kind INTEGER NOT NULL,
        total REAL,
        count INTEGER NOT NULL,
        per INTEGER,
        since INTEGER NOT NULL,
        ends INTEGER,
        tag TEXT
    ) WITHOUT ROWID;
";

/// An open file.
pub(super) struct Database {
    path: PathBuf,
    /// The database, its log and the index of that, as they were when it was opened.
    files: Files,
    seen: Mutex<Seen>,
    /// This boot, and this copy of the file.
    origin: String,
    init: Arc<File>,
    busy_for: Duration,
}

/// Device and number in the file system.
type Identity = (u64, u64);
type Files = [Option<Identity>; 3];

/// Which directory it is, and when it has changed, in seconds and nanoseconds.
type Changed = (Identity, i64, i64);

/// That the files were those that were opened.
#[derive(Clone, Copy, Default)]
struct Seen {
    at: Option<Instant>,
    /// When their directory had changed last, unless that was just then.
    changed: Option<Changed>,
}

impl Database {
    pub(super) fn open(path: &Path, options: &SqliteOptions) -> Result<(Self, Connection), Fault> {
        if rusqlite::version_number() < OLDEST_SQLITE {
            let version = rusqlite::version();
            return Err(says(format!(
                "SQLite {version} can lose commits; 3.51.3 or later is needed"
            )));
        }
        let path = absolute(path)?;
        refuse_network(&path)?;
        let init = open_init(&path, options)?;
        let init = lock(init, options.busy_for)?;
        let connection = connect(&path, options)?;
        // Nobody else makes one at the same time.
        let (_, inode) = identify(&path)?.ok_or(Fault::Replaced)?;
        let origin = format!("{} {inode}", clock::boot().unwrap_or_default());
        prepare(&connection, &origin)?;
        let files = files(&path)?;
        let init = Arc::new(init.unlock()?);
        let (seen, busy_for) = (Mutex::default(), options.busy_for);
        let database = Self {
            path,
            files,
            seen,
            origin,
            init,
            busy_for,
        };
        Ok((database, connection))
    }

    /// This boot, and this copy of the file.
    pub(super) fn origin(&self) -> &str {
        &self.origin
    }

    /// Where the files of sessions are.
    pub(super) fn sessions(&self) -> PathBuf {
        beside(&self.path, "-sessions")
    }

    /// An error unless the files are still those that were opened, or were until a moment ago: to look at them each time would
    /// be a tenth of what a lock takes.
    pub(super) fn check(&self) -> Result<(), Fault> {
        let Seen { at, changed } = *self.seen.lock();
        if at.is_none_or(|at| at.elapsed() >= BELIEVED_FOR) {
            let now = Instant::now();
            let changed = self.look(changed)?;
            let at = Some(now);
            *self.seen.lock() = Seen { at, changed };
        }
        Ok(())
    }

    /// They are still those if their directory hasn't changed since they were looked at. How a directory has changed within the
    /// last moments its times don't tell.
    fn look(&self, seen: Option<Changed>) -> Result<Option<Changed>, Fault> {
        let parent = fs::metadata(self.path.parent().unwrap_or(Path::new("/")))?;
        let identity = (parent.dev(), parent.ino());
        let changed = (identity, parent.mtime(), parent.mtime_nsec());
        if seen == Some(changed) {
            return Ok(seen);
        }
        if files(&self.path)? != self.files {
            return Err(Fault::Replaced);
        }
        let is_settled = parent
            .modified()?
            .elapsed()
            .is_ok_and(|time| time > SETTLED);
        Ok(is_settled.then_some(changed))
    }

    /// Does something while nobody else makes a file or clears one away.
    pub(super) fn while_alone<R>(&self, f: impl FnOnce() -> Result<R, Fault>) -> Result<R, Fault> {
        // One more descriptor, since all threads of this process share the lock of the first.
        let init = match OpenOptions::new()
            .read(true)
            .write(true)
            .open(beside(&self.path, "-init"))
        {
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(Fault::Replaced),
            init => init?,
        };
        if init.metadata()?.ino() != self.init.metadata()?.ino() {
            return Err(Fault::Replaced);
        }
        let locked = lock(init, self.busy_for)?;
        let answer = f();
        drop(locked);
        answer
    }

    pub(super) fn begin_to_write(
        &self,
        connection: &Connection,
        haste: Haste,
    ) -> Result<(), Fault> {
        self.begin(connection, "BEGIN IMMEDIATE", haste)
    }

    pub(super) fn begin_to_read(&self, connection: &Connection) -> Result<(), Fault> {
        self.begin(connection, "BEGIN", Haste::No)
    }

    /// For a statement that is a transaction by itself.
    pub(super) fn expect_others(&self) {
        expect_others(self.busy_for, Haste::No);
    }

    fn begin(&self, connection: &Connection, begin: &str, haste: Haste) -> Result<(), Fault> {
        expect_others(self.busy_for, haste);
        connection.prepare_cached(begin)?.execute([])?;
        Ok(())
    }
}

/// How one waits while another process writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Haste {
    No,
    /// For who lets go, as all others wait for that: lets others run a few times before it sleeps. Who comes doesn't, so
    /// that it is less often in the way.
    Yes,
}

thread_local! {
    /// When this thread's wait for others ends, once that has begun, how long it is, and how it waits.
    static BUSY_UNTIL: Cell<(Option<Instant>, Duration, Haste)> =
        const { Cell::new((None, Duration::from_secs(5), Haste::No)) };
}

/// Before this thread does what others may be in the way of.
fn expect_others(budget: Duration, haste: Haste) {
    BUSY_UNTIL.set((None, budget, haste));
}

/// Waits while another process writes: short times, since a transaction here takes some 10 µs, and not all the same, so
/// that those who wait don't meet again.
fn wait_for_others(calls: i32) -> bool {
    let (until, budget, haste) = BUSY_UNTIL.get();
    let now = Instant::now();
    let until = until.filter(|_| calls > 0).unwrap_or(now + budget);
    BUSY_UNTIL.set((Some(until), budget, haste));
    if now >= until {
        return false;
    }
    if haste == Haste::Yes && calls < YIELDS {
        std::thread::yield_now();
        return true;
    }
    let longest = 50 << (calls / 8).min(5);
    let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), calls);
    let time = Duration::from_micros(longest / 2 + random % longest);
    std::thread::sleep(time.min(until - now));
    true
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy,
            _ => Self::Store(Box::new(error)),
        }
    }
}

fn says(text: String) -> Fault {
    Fault::Store(text.into())
}

fn beside(path: &Path, what: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(what);
    path.into()
}

/// The program may change its directory.
fn absolute(path: &Path) -> Result<PathBuf, Fault> {
    let path = std::path::absolute(path).map_err(|error| says(format!("{error}")))?;
    let name = path
        .file_name()
        .ok_or_else(|| says(format!("{} is no file", path.display())))?;
    let parent = path.parent().unwrap_or(Path::new("/"));
    let parent = parent
        .canonicalize()
        .map_err(|error| says(format!("{}: {error}", parent.display())))?;
    Ok(parent.join(name))
}

fn files(path: &Path) -> Result<Files, Fault> {
    Ok([
        identify(path)?,
        identify(&beside(path, "-wal"))?,
        identify(&beside(path, "-shm"))?,
    ])
}

fn identify(path: &Path) -> Result<Option<Identity>, Fault> {
    match fs::symlink_metadata(path) {
        Ok(file) => Ok(Some((file.dev(), file.ino()))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(says(format!("{}: {error}", path.display()))),
    }
}

/// Locks and shared memory work on one machine only.
fn refuse_network(path: &Path) -> Result<(), Fault> {
    #[cfg(target_os = "linux")]
    if let Some(parent) = path.parent()
        && let Ok(system) = rustix::fs::statfs(parent)
    {
        let name = match system.f_type as u32 {
            0x0000_6969 => "NFS",
            0xff53_4d42 | 0xfe53_4d42 | 0x0000_517b => "SMB",
            0x0102_1997 => "9P",
            0x5346_414f => "AFS",
            0x00c3_6400 => "Ceph",
            _ => return Ok(()),
        };
        let path = path.display();
        return Err(says(format!(
            "{path} is on a network file system ({name}), where locks don't work"
        )));
    }
    #[cfg(not(target_os = "linux"))]
    let _ = path;
    Ok(())
}

/// The file that is locked while the database is made.
fn open_init(path: &Path, options: &SqliteOptions) -> Result<File, Fault> {
    if !options.create && identify(path)?.is_none() {
        return Err(says(format!("{}: there is no such file", path.display())));
    }
    let path = beside(path, "-init");
    open_file(&path, options).map_err(|error| says(format!("{}: {error}", path.display())))
}

fn open_file(path: &Path, options: &SqliteOptions) -> io::Result<File> {
    let mode = if options.shared_group { 0o660 } else { 0o600 };
    let mut open = OpenOptions::new();
    open.read(true)
        .write(true)
        .custom_flags(libc::O_NOFOLLOW)
        .mode(mode);
    let made = open.clone().create_new(true).open(path);
    match made {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => open.open(path),
        made => {
            let made = made?;
            if options.shared_group {
                // Whatever the mask is.
                made.set_permissions(fs::Permissions::from_mode(mode))?;
            }
            Ok(made)
        }
    }
}

fn lock(file: File, busy_for: Duration) -> Result<Locked, Fault> {
    expect_others(busy_for, Haste::No);
    let mut calls = 0;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Locked(Some(file))),
            Err(fs::TryLockError::WouldBlock) if wait_for_others(calls) => calls += 1,
            Err(fs::TryLockError::WouldBlock) => return Err(Fault::Busy),
            Err(fs::TryLockError::Error(error)) => return Err(error.into()),
        }
    }
}

/// A locked file. It is unlocked, and not only closed: a child that was forked meanwhile has a descriptor of it as well.
struct Locked(Option<File>);

impl Locked {
    fn unlock(mut self) -> io::Result<File> {
        let file = self.0.take().expect("it is there until it is unlocked");
        file.unlock()?;
        Ok(file)
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        if let Some(file) = &self.0 {
            // If that fails it goes with the descriptor.
            let _ = file.unlock();
        }
    }
}

fn connect(path: &Path, options: &SqliteOptions) -> Result<Connection, Fault> {
    if identify(path)?.is_none() {
        // SQLite would take the mask for its mode. It isn't open in this process, where to close it would give up
        // the locks that SQLite has on it.
        open_file(path, options).map_err(|error| says(format!("{}: {error}", path.display())))?;
    }
    let file =
        fs::symlink_metadata(path).map_err(|error| says(format!("{}: {error}", path.display())))?;
    if !file.is_file() {
        return Err(says(format!("{} isn't a regular file", path.display())));
    }
    if file.nlink() > 1 {
        // By another name it would have other files beside it, and others would be kept out by other locks.
        return Err(says(format!("{} has more than one name", path.display())));
    }
    let me = rustix::process::geteuid().as_raw();
    if file.uid() != me && !options.shared_group {
        let (path, owner) = (path.display(), file.uid());
        return Err(says(format!(
            "{path} belongs to user {owner}, not to {me}, and isn't opened as one that a group shares"
        )));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    expect_others(options.busy_for, Haste::No);
    connection.busy_handler(Some(wait_for_others))?;
    connection.wal_hook(Some(checkpoint()))?;
    // The log stays for the next one, who would otherwise have to make it again.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // Otherwise some statements would be prepared again for each key.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.set_prepared_statement_cache_capacity(64);
    // A statement that waits for others is to see the time after that.
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DIRECTONLY;
    connection.create_scalar_function("wall_time", 0, flags, |_| Ok(wall_time().0))?;
    Ok(connection)
}

/// Writes what is in the log to where it belongs, once it has grown. SQLite's own way would do that without keeping others
/// out, who would add to the log meanwhile, so that it couldn't begin anew, and from then on with each commit.
///
/// If somebody is reading all the time it can't be done; then it is tried again when there is more of it.
fn checkpoint() -> impl FnMut(&mut Wal, i32) -> rusqlite::Result<()> + Send + 'static {
    let mut next = LONGEST_LOG;
    move |log, pages| {
        if pages < LONGEST_LOG {
            next = LONGEST_LOG;
        } else if pages >= next {
            expect_others(CHECKPOINT_PATIENCE, Haste::No);
            if log.checkpoint_v2(CheckpointMode::RESTART).is_err() {
                next = pages + LONGEST_LOG / 4;
            }
        }
        Ok(())
    }
}

/// Makes the tables if there are none, and sees to it that it is a store of this version.
fn prepare(connection: &Connection, origin: &str) -> Result<(), Fault> {
    let number =
        |pragma: &str| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if tables == 0 && number("application_id")? == 0 {
        connection.pragma_update(None, "page_size", 512)?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.execute_batch(&format!(
            "BEGIN IMMEDIATE; {TABLES} {VALUES} PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {VERSION}; COMMIT;"
        ))?;
    }
    if number("application_id")? != APPLICATION {
        return Err(says("it is a database of another program".to_owned()));
    }
    if number("user_version")? == 1 {
        // Nobody else opens it at the same time, and those who have it open see that the tables have changed.
        connection.execute_batch(&format!(
            "BEGIN IMMEDIATE; {VALUES} PRAGMA user_version = {VERSION}; COMMIT;"
        ))?;
    }
    let version = number("user_version")?;
    if version != VERSION {
        return Err(says(format!(
            "its tables have version {version}, and this program knows those up to version {VERSION} only"
        )));
    }
    let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
    if mode != "wal" {
        return Err(says(format!("its journal mode is {mode}, not wal")));
    }
    move_ahead(connection, origin)?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    Ok(())
}

/// In a boot that the file wasn't opened in yet, the last numbers may have been lost, and in one that is a copy as well.
fn move_ahead(connection: &Connection, origin: &str) -> Result<(), Fault> {
    let is_known = "SELECT EXISTS (SELECT 1 FROM boot WHERE id = ?1)";
    if connection.query_row(is_known, [origin], |row| row.get(0))? {
        return Ok(());
    }
    connection.pragma_update(None, "synchronous", "FULL")?;
    let transaction =
        rusqlite::Transaction::new_unchecked(connection, rusqlite::TransactionBehavior::Immediate)?;
    let now = i64::try_from(wall_clock()).unwrap_or(i64::MAX >> 1);
    transaction.execute(
        "UPDATE meta SET number = max(number, ?1) + ?2, ahead = max(number - ?1, 0) + ?2",
        [now, BOOT_STEP],
    )?;
    transaction.execute(
        "INSERT OR IGNORE INTO boot SELECT ?1, number FROM meta",
        [origin],
    )?;
    transaction.execute(
        "DELETE FROM boot WHERE id NOT IN (SELECT id FROM boot ORDER BY number DESC LIMIT ?1)",
        [BOOTS],
    )?;
    transaction.commit()?;
    Ok(())
}
