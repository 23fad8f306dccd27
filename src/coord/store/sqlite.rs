//! A store that is a SQLite file, for the processes of one machine.
//!
//! Each call is one transaction: `BEGIN IMMEDIATE`, so that it is the only writer from its first look on. Where a key is
//! free and nobody waits, or is given back and nobody is due, it looks at one row and writes two, or one; otherwise it loads
//! the rows of the key, lets the rules of the [line](super::line) decide, and writes what is different. Bells are rung when it
//! is committed.
//!
//! Each open store has one connection, and threads take turns. Before a transaction is committed it is checked that the file
//! is still the one that its path names, or was so within the last millisecond.

mod database;
mod presence;
mod rows;
mod values;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, params};

use self::database::{Database, Haste};
use self::presence::{Directory, Presence, Sign};
use self::rows::{Loaded, SqliteMoment};
use super::clock;
use super::fork::OpenDatabase;
use super::line::{Line, Moment, Ring, may_be_passed};
use super::sealed::HasSession;
use super::{
    Ask, Bell, Engine, Entered, Extension, Heard, Holder, Listing, Mean, OfAverage, Otherwise,
    Place, Rate, Sleeper, Standing, Store, Turn, Want, Watch,
};
use crate::coord::CoordError;
use crate::coord::error::{Fault, Operation};
use crate::coord::session::Session;
use crate::coord::time::{Time, wall_clock};

/// A store that is a SQLite file, for the processes of one machine.
///
/// The file is for this alone. Beside it are SQLite's own two (`-wal`, `-shm`), one that is locked while the store is
/// opened (`-init`), and a directory with the files of those who have it open (`-sessions`). All are readable by
/// their owner alone, unless [`shared_group`](SqliteOptions::shared_group) says otherwise. It must be on a local disk:
/// network file systems are refused where they can be told.
///
/// A process opens it once and clones it: what is opened twice is two, which keep each other out.
///
/// # Examples
///
/// ```
/// use hapax::coord::{Lock, SqliteStore};
///
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("locks.db");
/// let store = SqliteStore::open(&path)?;
/// let guard = Lock::new(&store, "reports").lock()?;
/// println!("token {}", guard.fencing_token());
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct SqliteStore {
    session: Arc<Session>,
    engine: Arc<SqliteEngine>,
}

/// How a [`SqliteStore`] is opened.
///
/// # Examples
///
/// ```
/// use hapax::coord::SqliteStore;
/// use std::time::Duration;
///
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("locks.db");
/// let options = SqliteStore::options().label("nightly").busy_for(Duration::from_secs(1));
/// let store = options.open(&path)?;
/// assert!(SqliteStore::options().create(false).open("nowhere.db").is_err());
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct SqliteOptions {
    create: bool,
    label: Option<String>,
    command: Option<String>,
    busy_for: Duration,
    shared_group: bool,
}

impl SqliteStore {
    /// Opens the store in that file, which is made if it isn't there.
    ///
    /// # Errors
    ///
    /// - [`Store`](CoordError::Store) if it isn't a store, or one of another version; if it can't be made or opened; if it
    ///   belongs to somebody else, or lies on a network file system.
    /// - [`Busy`](CoordError::Busy) if others keep it busy for more than five seconds.
    /// - [`ForkedChild`](CoordError::ForkedChild) in a child that was forked while its parent had a store open.
    /// - [`StoreReplaced`](CoordError::StoreReplaced) if it is removed meanwhile.
    ///
    /// # Examples
    ///
    /// See [`SqliteStore`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, CoordError> {
        Self::options().open(path)
    }

    /// Options to open one with.
    ///
    /// # Examples
    ///
    /// See [`SqliteOptions`].
    pub fn options() -> SqliteOptions {
        SqliteOptions {
            create: true,
            label: None,
            command: None,
            busy_for: Duration::from_secs(5),
            shared_group: false,
        }
    }

    /// Descriptors that keep this session alive as long as any process has them, to be inherited by a program that is
    /// started: if this process is killed, what it holds stays held until that program has ended as well, and whatever that
    /// has started and given them to. They aren't closed when a program is executed; so they are to be made right before
    /// the program is started, and dropped right after.
    ///
    /// # Errors
    ///
    /// What can be wrong with a store.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::coord::{Lock, SqliteStore};
    /// use std::process::Command;
    ///
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("locks.db");
    /// let store = SqliteStore::open(&path)?;
    /// let guard = Lock::new(&store, "reports").lock()?;
    /// let inherited = store.inheritable()?;
    /// let mut child = Command::new("true").spawn()?;
    /// drop(inherited);
    /// child.wait()?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn inheritable(&self) -> Result<Vec<OwnedFd>, CoordError> {
        let presence = self
            .engine
            .presence()
            .and_then(|presence| Ok(presence.inheritable()?));
        presence.map_err(|fault| fault.at(None, Operation::Open))
    }
}

impl SqliteOptions {
    /// Whether the file is made if it isn't there; it is if this isn't called.
    ///
    /// # Examples
    ///
    /// See [`SqliteOptions`].
    #[must_use]
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// What this process calls itself where others [list](Store::list) who holds and waits.
    ///
    /// # Examples
    ///
    /// See [`SqliteOptions`].
    #[must_use]
    pub fn label(mut self, label: &str) -> Self {
        self.label = Some(label.to_owned());
        self
    }

    /// What this process runs, for the same purpose.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::coord::{Lock, SqliteStore, Store};
    ///
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("locks.db");
    /// let store = SqliteStore::options().command("make all").open(&path)?;
    /// let guard = Lock::new(&store, "build").lock()?;
    /// assert_eq!(store.list()?[0].holders[0].process.command.as_deref(), Some("make all"));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn command(mut self, command: &str) -> Self {
        self.command = Some(command.to_owned());
        self
    }

    /// How long others may keep the store busy before a call ends with [`Busy`](CoordError::Busy); five seconds if this
    /// isn't called. A transaction takes some 20 µs, so it is only for who was stopped in the middle of one, or for disks
    /// that hang.
    ///
    /// # Examples
    ///
    /// See [`SqliteOptions`].
    #[must_use]
    pub fn busy_for(mut self, time: Duration) -> Self {
        // Nobody lives to see more, and moments have an end.
        self.busy_for = time.min(Duration::from_secs(1 << 30));
        self
    }

    /// Whether what is made is readable and writable by a group, and may belong to others. The group is that of whoever makes
    /// it, or, where that has the setgid bit, of the directory that the file is in: `chmod g+s` it.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::coord::SqliteStore;
    ///
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("locks.db");
    /// let store = SqliteStore::options().shared_group(true).open(&path)?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn shared_group(mut self, shared_group: bool) -> Self {
        self.shared_group = shared_group;
        self
    }

    /// Opens the store in that file.
    ///
    /// # Errors
    ///
    /// Those of [`SqliteStore::open`].
    ///
    /// # Examples
    ///
    /// See [`SqliteOptions`].
    pub fn open(self, path: impl AsRef<Path>) -> Result<SqliteStore, CoordError> {
        let engine = SqliteEngine::open(path.as_ref(), self)
            .map_err(|fault| fault.at(None, Operation::Open))?;
        let engine = Arc::new(engine);
        let session = Session::of(Arc::<SqliteEngine>::clone(&engine));
        Ok(SqliteStore { session, engine })
    }
}

struct SqliteEngine {
    database: Database,
    directory: Arc<Directory>,
    options: SqliteOptions,
    /// The number of this session, if it comes to that.
    id: u64,
    /// Which clock it has.
    clock: String,
    /// That it is open, in which process.
    open: OpenDatabase,
    /// None when it is closed. A forked child must not close it, so it isn't closed by itself.
    connection: ManuallyDrop<Mutex<Option<Connection>>>,
    presence: Mutex<Seen>,
    /// Leases by other clocks, by their tokens.
    observed: Mutex<HashMap<u64, Observed>>,
    /// The waiter that was told last that it may look.
    last_told: Mutex<u64>,
    /// The value that was looked at last whether it is over.
    last_swept: Mutex<Option<String>>,
}

/// What this session has seen of a lease by another clock.
struct Observed {
    renewals: u64,
    /// When it saw that first.
    since: Time,
    last_look: Time,
}

/// Whether others see this session.
enum Seen {
    /// It has never held anything or waited.
    NotYet,
    Here(Arc<Presence>),
    /// Its file isn't where it was.
    Hidden(Arc<Presence>),
    Closed,
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Store(Box::new(error))
    }
}

impl SqliteEngine {
    fn open(path: &Path, options: SqliteOptions) -> Result<Self, Fault> {
        let open = OpenDatabase::new()?;
        let (database, connection) = Database::open(path, &options)?;
        let directory = Directory::open(database.sessions(), options.shared_group)?;
        let mut random = [0; 8];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
            .map_err(io::Error::from)?;
        // SQLite's numbers have a sign.
        let id = u64::from_ne_bytes(random) >> 1;
        Ok(Self {
            database,
            directory: Arc::new(directory),
            options,
            id,
            clock: clock::domain(id),
            open,
            connection: ManuallyDrop::new(Mutex::new(Some(connection))),
            presence: Mutex::new(Seen::NotYet),
            observed: Mutex::default(),
            last_told: Mutex::default(),
            last_swept: Mutex::default(),
        })
    }

    /// This session, as others see it. The first call makes it.
    fn presence(&self) -> Result<Arc<Presence>, Fault> {
        self.open.check()?;
        let mut seen = self.presence.lock();
        match &*seen {
            Seen::Here(presence) => Ok(Arc::clone(presence)),
            Seen::Hidden(_) => Err(Fault::Replaced),
            Seen::Closed => Err(Fault::Closed),
            Seen::NotYet => {
                let presence = self.appear()?;
                *seen = Seen::Here(Arc::clone(&presence));
                Ok(presence)
            }
        }
    }

    /// Makes this session known, and clears away what dead ones have left.
    #[cold]
    fn appear(&self) -> Result<Arc<Presence>, Fault> {
        self.database.while_alone(|| {
            let presence = Presence::new(&self.directory, self.id)?;
            let mut others = self.directory.sessions()?;
            others.extend(self.read(|connection| {
                let sessions = rows::sessions(connection, &self.clock)?;
                Ok(sessions.into_iter().map(|row| row.id))
            })?);
            others.remove(&self.id);
            let others: Vec<_> = others.into_iter().collect();
            let dead = self.find_dead(&others);
            let to_ring = self.write(|connection| {
                let mut insert = connection.prepare_cached(
                    "INSERT INTO session VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                )?;
                insert.execute(params![
                    self.id,
                    presence.inode()?,
                    self.database.origin(),
                    self.clock,
                    super::host(),
                    std::process::id(),
                    self.options.label,
                    self.options.command,
                ])?;
                self.clear_away(connection, &dead)
            })?;
            presence.ring(to_ring);
            dead.iter().for_each(|dead| self.directory.remove(*dead));
            Ok(Arc::new(presence))
        })
    }

    /// Whether it is certain that the session has ended.
    fn is_dead(&self, session: u64) -> bool {
        let sign = self.directory.probe(session);
        if sign == Sign::Alive {
            return false;
        }
        let row = self.read(|connection| {
            let mut select =
                connection.prepare_cached("SELECT inode, origin FROM session WHERE id = ?1")?;
            let row = select.query_row([session], |row| {
                Ok((row.get::<_, u64>(0)?, row.get::<_, String>(1)?))
            });
            Ok(row.optional()?)
        });
        match (row, sign) {
            (Ok(Some((inode, _))), Sign::Unlocked { inode: found }) => inode == found,
            (Ok(Some((_, origin))), Sign::Missing) => origin != self.database.origin(),
            // Nothing is left of it but files.
            (Ok(None), _) => true,
            _ => false,
        }
    }

    /// Takes out all that belongs to these sessions.
    fn clear_away(&self, connection: &Connection, sessions: &[u64]) -> Result<Vec<Ring>, Fault> {
        let mut to_ring = Vec::new();
        for session in sessions {
            let mut select = connection.prepare_cached(
                "SELECT key FROM holder WHERE session = ?1 UNION SELECT key FROM waiter WHERE session = ?1",
            )?;
            let keys: rusqlite::Result<Vec<String>> =
                select.query_map([session], |row| row.get(0))?.collect();
            for key in keys? {
                let (_, rung) = self.change(connection, &key, sessions, |_, _| Ok(()))?;
                to_ring.extend(rung);
            }
            connection
                .prepare_cached("DELETE FROM session WHERE id = ?1")?
                .execute([session])?;
        }
        Ok(to_ring)
    }

    /// One transaction that may write.
    fn write<R>(&self, f: impl FnOnce(&Connection) -> Result<R, Fault>) -> Result<R, Fault> {
        self.write_in(Haste::No, f)
    }

    fn write_in<R>(
        &self,
        haste: Haste,
        f: impl FnOnce(&Connection) -> Result<R, Fault>,
    ) -> Result<R, Fault> {
        self.open.check()?;
        let connection = self.connection.lock();
        let connection = connection.as_ref().ok_or(Fault::Closed)?;
        self.database.begin_to_write(connection, haste)?;
        let transaction = OpenTransaction(connection);
        let answer = f(connection)?;
        self.database.check()?;
        transaction.commit()?;
        Ok(answer)
    }

    /// One transaction that only reads.
    fn read<R>(&self, f: impl FnOnce(&Connection) -> Result<R, Fault>) -> Result<R, Fault> {
        self.open.check()?;
        let connection = self.connection.lock();
        let connection = connection.as_ref().ok_or(Fault::Closed)?;
        self.database.begin_to_read(connection)?;
        let transaction = OpenTransaction(connection);
        let answer = f(connection)?;
        transaction.commit()?;
        Ok(answer)
    }

    /// One transaction on the line of a key, after what doesn't count any more was taken out, and the rings that follow.
    fn transact<R>(
        &self,
        key: &str,
        dead: &[u64],
        f: impl FnOnce(&mut Line, &mut SqliteMoment) -> Result<R, Fault>,
    ) -> Result<R, Fault> {
        let (answer, to_ring) = self.write(|connection| self.change(connection, key, dead, f))?;
        self.ring_all(to_ring);
        Ok(answer)
    }

    /// The same within a transaction. Answers with the bells that are to be rung after it.
    fn change<R>(
        &self,
        connection: &Connection,
        key: &str,
        dead: &[u64],
        f: impl FnOnce(&mut Line, &mut SqliteMoment) -> Result<R, Fault>,
    ) -> Result<(R, Vec<Ring>), Fault> {
        let mut moment = SqliteMoment::load(connection, self.id)?;
        let before = self.load(connection, key, &mut moment)?;
        let mut line = before.clone();
        let now = moment.now();
        if line.remove(now, |session| dead.contains(&session)) {
            line.settle(&mut moment);
        }
        let answer = f(&mut line, &mut moment)?;
        rows::store(connection, &before, &line)?;
        moment.store(connection)?;
        Ok((answer, line.to_ring))
    }

    fn load(
        &self,
        connection: &Connection,
        key: &str,
        moment: &mut SqliteMoment,
    ) -> Result<Line, Fault> {
        rows::load(connection, &self.clock, key, moment, |holder, now| {
            self.observe(holder, now)
        })
    }

    /// A lease by another clock ends, for this one, when it has seen it unrenewed for as long as it lasts.
    fn observe(&self, holder: Loaded<Holder>, now: Time) -> Holder {
        let Loaded {
            row: mut holder,
            same_clock,
        } = holder;
        // One that this session doesn't know of yet begins when it does.
        let is_known = same_clock && holder.expires.is_some() || holder.session == self.id;
        if let Some(time) = holder.ask.lease.time()
            && !is_known
        {
            let mut observed = self.observed.lock();
            let renewals = holder.renewals;
            let first = Observed {
                renewals,
                since: now,
                last_look: now,
            };
            let seen = observed.entry(holder.token).or_insert(first);
            if seen.renewals != renewals {
                (seen.renewals, seen.since) = (renewals, now);
            }
            seen.last_look = now;
            holder.expires = Some(seen.since.after(time));
            // Nobody has asked for those for a day.
            observed.retain(|_, seen| now.since(seen.last_look) < Duration::from_secs(86_400));
        }
        holder
    }

    fn ring_all(&self, to_ring: Vec<Ring>) {
        if to_ring.is_empty() {
            return;
        }
        // Who doesn't take part can ring as well.
        if let Ok(presence) = self.presence() {
            presence.ring(to_ring);
        }
    }

    fn standing(&self, place: &Place, line: &Line, moment: &SqliteMoment) -> Standing {
        line.standing(place.ticket, self.id, moment)
    }

    /// Grants what was asked for if nobody has it and nobody is due. One look, two rows.
    fn enter_freely(&self, connection: &Connection, ask: &Ask) -> Result<Option<Holder>, Fault> {
        let mut select = connection.prepare_cached(
            "SELECT number, ahead, EXISTS (SELECT 1 FROM holder WHERE key = ?1),
                (SELECT coalesce(due, 0) FROM waiter WHERE key = ?1 ORDER BY ticket LIMIT 1),
                (SELECT mode FROM waiter WHERE key = ?1 ORDER BY ticket LIMIT 1)
            FROM meta WHERE id = 1",
        )?;
        let (number, ahead, is_held, due, mode) = select.query_row([&*ask.key], |row| {
            Ok((
                row.get(0)?,
                row.get(1)?,
                row.get(2)?,
                row.get::<_, Option<i64>>(3)?.map(Time),
                row.get::<_, Option<u8>>(4)?,
            ))
        })?;
        let mut moment = SqliteMoment::of(number, ahead, self.id);
        let may_pass = due.is_none() || !ask.is_strict && may_be_passed(due, moment.now());
        // Who waits may want something else.
        let is_plain = mode.is_none() || ask.want == Want::Exclusive && rows::is_lock(mode);
        if is_held || !may_pass || !is_plain {
            return Ok(None);
        }
        let holder = Holder {
            token: moment.next_number(),
            ticket: None,
            session: self.id,
            ask: ask.clone(),
            slot: 0,
            expires: moment.expiry(self.id, ask.lease),
            renewals: 0,
            since: wall_clock(),
        };
        rows::insert_holder(connection, &holder)?;
        moment.store(connection)?;
        Ok(Some(holder))
    }

    /// Gives back if nobody waits, or who waits isn't due. One look, one row.
    fn release_freely(
        &self,
        connection: &Connection,
        key: &str,
        token: u64,
    ) -> Result<Freely, Fault> {
        let mut select = connection.prepare_cached(
            "SELECT ticket, session, bell, due,
                EXISTS (SELECT 1 FROM session WHERE id = waiter.session AND clock = ?2)
            FROM waiter WHERE key = ?1 ORDER BY ticket LIMIT 1",
        )?;
        let head = select
            .query_row([key, &self.clock], |row| {
                Ok(Head {
                    ticket: row.get(0)?,
                    bell: Bell {
                        session: row.get(1)?,
                        number: row.get(2)?,
                    },
                    due: row.get::<_, Option<i64>>(3)?.map(Time),
                    same_clock: row.get(4)?,
                })
            })
            .optional()?;
        let now = clock::now();
        if let Some(head) = &head
            && !may_be_passed(head.due, now)
        {
            return Ok(Freely::NotSo);
        }
        let mut delete = connection.prepare_cached(
            "DELETE FROM holder
            WHERE key = ?1 AND token = ?2 AND (expires IS NULL OR expires > ?3)",
        )?;
        let was_there = delete.execute(params![key, token, now.0])? > 0;
        Ok(Freely::Released { was_there, head })
    }

    /// Tells the first waiter that it may look, after that was committed, unless it will by itself: it was told before, so
    /// it knows when it is due, and that is still to come, by its clock as well.
    fn tell(&self, head: Head) {
        let was_told = std::mem::replace(&mut *self.last_told.lock(), head.ticket) == head.ticket;
        let is_due = head.due.is_none_or(|due| due <= clock::now());
        if !was_told || !head.same_clock || is_due {
            self.ring_all(vec![head.bell.into()]);
        }
    }
}

/// The first waiter of a key.
struct Head {
    ticket: u64,
    bell: Bell,
    due: Option<Time>,
    /// Its session's clock is this one.
    same_clock: bool,
}

/// How it went to give back without a look at the whole line.
enum Freely {
    Released { was_there: bool, head: Option<Head> },
    NotSo,
}

/// Taken back unless it is committed.
struct OpenTransaction<'a>(&'a Connection);

impl OpenTransaction<'_> {
    fn commit(self) -> Result<(), Fault> {
        self.0.prepare_cached("COMMIT")?.execute([])?;
        std::mem::forget(self);
        Ok(())
    }
}

impl Drop for OpenTransaction<'_> {
    fn drop(&mut self) {
        // SQLite has taken some back by itself; then there is none any more.
        if !self.0.is_autocommit() {
            let _ = self.0.execute_batch("ROLLBACK");
        }
    }
}

impl Engine for SqliteEngine {
    fn now(&self) -> Time {
        clock::now()
    }

    fn check(&self) -> Result<(), Fault> {
        self.open.check()
    }

    fn enter(&self, ask: &Ask, otherwise: Otherwise, dead: &[u64]) -> Result<Entered, Fault> {
        let presence = self.presence()?;
        let mut taken = None;
        let bell = || {
            let bell = presence.take_bell()?;
            taken = Some(bell);
            Ok(bell)
        };
        let entered = self.write(|connection| {
            if let Some(holder) = self.enter_freely(connection, ask)? {
                return Ok((Entered::Granted(holder), Vec::new()));
            }
            self.change(connection, &ask.key, dead, |line, moment| {
                let bell = (otherwise == Otherwise::Queue).then_some(bell);
                line.enter(ask, self.id, bell, moment)
            })
        });
        if entered.is_err() {
            taken.into_iter().for_each(|bell| presence.put_bell(bell));
        }
        let (entered, to_ring) = entered?;
        self.ring_all(to_ring);
        Ok(entered)
    }

    fn look(&self, place: &Place) -> Result<Standing, Fault> {
        self.read(|connection| {
            let mut moment = SqliteMoment::load(connection, self.id)?;
            let line = self.load(connection, &place.ask.key, &mut moment)?;
            Ok(self.standing(place, &line, &moment))
        })
    }

    fn claim(&self, place: &Place, dead: &[u64]) -> Result<Standing, Fault> {
        self.transact(&place.ask.key, dead, |line, moment| {
            line.settle(moment);
            Ok(self.standing(place, line, moment))
        })
    }

    fn leave(&self, place: &Place) -> Result<Option<Holder>, Fault> {
        self.transact(&place.ask.key, &[], |line, moment| {
            Ok(line.leave(place.ticket, moment))
        })
    }

    fn release(&self, key: &Arc<str>, token: u64, _longest: Duration) -> Result<bool, Fault> {
        let (was_there, head, to_ring) = self.write_in(Haste::Yes, |connection| {
            match self.release_freely(connection, key, token)? {
                Freely::Released { was_there, head } => Ok((was_there, head, Vec::new())),
                Freely::NotSo => {
                    let release = |line: &mut Line, moment: &mut _| Ok(line.release(token, moment));
                    let (was_there, to_ring) = self.change(connection, key, &[], release)?;
                    Ok((was_there, None, to_ring))
                }
            }
        })?;
        self.ring_all(to_ring);
        if let Some(head) = head {
            self.tell(head);
        }
        Ok(was_there)
    }

    fn extend(
        &self,
        key: &Arc<str>,
        token: u64,
        time: Duration,
        _: Extension,
    ) -> Result<Option<Time>, Fault> {
        self.transact(
            key,
            &[],
            |line, moment| Ok(line.extend(token, time, moment)),
        )
    }

    fn held(&self, _: &[(&str, u64)], _longest: Duration) -> Result<Vec<u64>, Fault> {
        let presence = self.presence()?;
        presence.receive_watchers();
        self.database.check()?;
        if !presence.is_seen() {
            // What it is granted from now on others would keep for ever.
            *self.presence.lock() = Seen::Hidden(presence);
            return Err(Fault::Replaced);
        }
        self.read(|connection| {
            let mut select =
                connection.prepare_cached("SELECT token FROM holder WHERE session = ?1")?;
            let tokens: rusqlite::Result<_> =
                select.query_map([self.id], |row| row.get(0))?.collect();
            Ok(tokens?)
        })
    }

    fn list(&self) -> Result<Listing, Fault> {
        self.open.check()?;
        self.database.check()?;
        self.read(|connection| {
            let holders = rows::holders(connection, &self.clock, None)?;
            let waiters = rows::waiters(connection, &self.clock, None)?;
            Ok(Listing {
                holders: holders.into_iter().map(|holder| holder.row).collect(),
                waiters: waiters.into_iter().map(|waiter| waiter.row).collect(),
                sessions: rows::sessions(connection, &self.clock)?,
                now: clock::now(),
            })
        })
    }

    fn force_unlock(&self, key: &Arc<str>, token: u64) -> Result<bool, Fault> {
        self.transact(key, &[], |line, moment| {
            let is_there = line.release(token, moment);
            line.settle(moment);
            Ok(is_there)
        })
    }

    fn close(&self) -> Result<(), Fault> {
        self.open.check()?;
        let seen = std::mem::replace(&mut *self.presence.lock(), Seen::Closed);
        let (Seen::Here(presence) | Seen::Hidden(presence)) = seen else {
            self.connection.lock().take();
            return Ok(());
        };
        let cleared = self.write(|connection| self.clear_away(connection, &[self.id]));
        self.connection.lock().take();
        // Its own waiters find it closed.
        presence.ring_all();
        presence.ring(cleared?);
        // Otherwise they stay, and others find them unlocked.
        self.directory.remove(self.id);
        Ok(())
    }

    fn put_bell(&self, bell: Bell) {
        if let Ok(presence) = self.presence() {
            presence.put_bell(bell);
        }
    }

    fn find_dead(&self, sessions: &[u64]) -> Vec<u64> {
        let is_dead = |session: &&u64| self.is_dead(**session);
        sessions.iter().filter(is_dead).copied().collect()
    }

    fn watch(&self, sessions: &[u64]) -> Watch {
        self.presence().map_or_else(
            |_| Watch::default(),
            |presence| presence.watch(sessions, |session| self.is_dead(session)),
        )
    }

    fn take_bell(&self) -> Result<Bell, Fault> {
        Ok(self.presence()?.take_bell()?)
    }

    fn ring(&self, bell: Bell) -> Result<(), Fault> {
        self.presence()?.ring([bell.into()]);
        Ok(())
    }

    fn sleep(&self, sleepers: &[Sleeper<'_>], until: Time) -> Result<Vec<Heard>, Fault> {
        let presence = self.presence()?;
        Ok(presence.sleep(sleepers, until.since(clock::now())))
    }

    fn average(&self, key: &Arc<str>, step: OfAverage<'_>) -> Result<Option<Mean>, Fault> {
        self.average_value(key, step)
    }

    fn take_turn(
        &self,
        key: &Arc<str>,
        rate: Rate,
        longest: Duration,
        tag: Option<&str>,
    ) -> Result<Turn, Fault> {
        self.take_turn_of_value(key, rate, longest, tag)
    }

    fn put_back_turn(&self, key: &Arc<str>, rate: Rate, number: i64) -> Result<(), Fault> {
        self.write(|connection| values::put_back(connection, key, rate, number))
    }

    fn evict(&self, tag: &str) -> Result<usize, Fault> {
        self.evict_all(tag)
    }
}

impl Drop for SqliteEngine {
    fn drop(&mut self) {
        if self.open.check().is_ok() {
            // SAFETY: it isn't used after this.
            unsafe { ManuallyDrop::drop(&mut self.connection) };
        }
    }
}

impl HasSession for SqliteStore {
    fn session(&self) -> &Arc<Session> {
        &self.session
    }
}

impl Store for SqliteStore {}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore")
            .field("session", &self.engine.id)
            .finish_non_exhaustive()
    }
}
