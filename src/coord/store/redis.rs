//! A store that is a Redis server, for the processes of many machines.
//!
//! Each call is one script, which the server runs alone, so it is one round trip, except to list, to evict, to close, and to
//! enter for somebody who has to subscribe first. The rules of the [line](super::line) are
//! there once more, in Lua (`line.lua`), with what is different where nobody sees who dies: every lease has an end, what
//! is granted to somebody who sleeps is to be taken within two seconds, and who waits shows every second that it is there.
//!
//! Times are those of the server. A holder believes in its lease for a little less than the server does, as of the moment
//! before it has sent the request.

mod address;
mod bells;
mod link;
mod options;
mod rows;
mod values;

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use redis::{Script, ToRedisArgs, Value};

use self::address::{Address, says};
use self::bells::Bells;
use self::link::{Failure, Link, Settings, Try};
pub use self::options::RedisOptions;
use self::rows::{Reply, Row, about, given, kind, micros, mode, want};
use super::clock;
use super::fork::Process;
use super::line::Room;
use super::sealed::HasSession;
use super::{
    Ask, Bell, Engine, Entered, Extension, Heard, Holder, Listing, Mean, OfAverage, Otherwise,
    Place, Rate, Renewal, SessionRow, Sleeper, Standing, Store, Turn, Watch,
};
use crate::coord::CoordError;
use crate::coord::error::Fault;
use crate::coord::lease::Lease;
use crate::coord::session::Session;
use crate::coord::time::Time;

/// A store that is a Redis server, for the processes of many machines.
///
/// It needs Redis 7 or Valkey 7.2, or later, as one server, one with replicas and sentinels, or a cluster, which must not be
/// told to throw things away when its memory is full. All that it writes begins with `hapax:{NAMESPACE}:`, and lies in one
/// slot of a cluster.
///
/// A server doesn't see processes end, so here every grant has a lease: what is asked for as long as the
/// [session](Lease::Session) is renewed while the process runs, and ends some time after that, thirty seconds if
/// [`session_lease`](RedisOptions::session_lease) doesn't say otherwise.
///
/// # What it can't promise
///
/// Redis doesn't wait for its disk or its replicas. What is granted can be forgotten when a server is started again or another
/// one takes its place; therefore nothing is granted then [for a while](RedisOptions::grace). A primary that was cut
/// off from the rest can still grant what its successor grants as well, until it learns of that. The
/// [tokens](super::super::LockGuard::fencing_token) grow all the same, as far as clocks are right: what must not be done by
/// two is to be guarded by them.
///
/// # The first half minute
///
/// Nothing is granted in a namespace that the server doesn't know, and nothing after it was started again or emptied, for thirty
/// seconds (the [lease of a session](RedisOptions::session_lease), or the longest that may not have ended): `lock` waits, and
/// `try_lock` fails as if somebody held it; so do semaphores and [`SingleFlight::get`](crate::coord::SingleFlight::get). Rate
/// limits and averages don't wait. In tests, and where nobody can hold anything yet, open it with a
/// [`grace`](RedisOptions::grace) of zero.
///
/// # Examples
///
/// ```no_run
/// use hapax::coord::{Lock, RedisStore};
///
/// let store = RedisStore::open("redis://localhost")?;
/// let guard = Lock::new(&store, "reports").lock()?;
/// println!("token {}", guard.fencing_token());
/// # Ok::<_, hapax::coord::CoordError>(())
/// ```
#[derive(Clone)]
pub struct RedisStore {
    session: Arc<Session>,
    engine: Arc<RedisEngine>,
}

impl RedisStore {
    /// Opens the store at that address, with the namespace `hapax`:
    ///
    /// - `redis://[user[:password]@]host[:port][/database]`, or with `rediss` for TLS (feature `coord-redis-tls`). Of a
    ///   cluster, or where a server has several names, any number of `host[:port]`, with commas between.
    /// - `unix:///path[?db=database]`: a socket on this machine.
    /// - `redis+sentinel://[user[:password]@]host[:port][,…]/name[/database]`, or `rediss+sentinel`: the sentinels
    ///   are asked for the server that they call by that name.
    ///
    /// `valkey` is as good as `redis`. After a `?` there may be settings, as in what the command `hapax` leaves in
    /// `HAPAX_STORE`: `namespace=NAME`, `grace=SECONDS`, and `cacert`, `cert` and `key`, which are files, with `&` between them.
    ///
    /// # Errors
    ///
    /// - [`Store`](CoordError::Store) if that isn't such an address; if nobody is there, or it refuses who connects; if it is a
    ///   replica, older than version 7, or may throw locks away.
    ///
    /// # Examples
    ///
    /// See [`RedisStore`].
    pub fn open(url: &str) -> Result<Self, CoordError> {
        Self::options().open(url)
    }

    /// Options to open one with.
    ///
    /// # Examples
    ///
    /// See [`RedisOptions`].
    pub fn options() -> RedisOptions {
        RedisOptions::default()
    }
}

struct RedisEngine {
    process: Process,
    link: Arc<Link>,
    bells: Arc<Bells>,
    /// What the names of all rows begin with.
    prefix: String,
    me: SessionRow,
    session_lease: Duration,
    grace: Option<Duration>,
    /// Keys where this session may have rows, and how many.
    used: Mutex<BTreeMap<Arc<str>, usize>>,
    /// Read by those who are asking for something, so that who closes the store takes out what they get.
    entering: RwLock<()>,
}

/// A script twice: as one that a server with a full memory runs all the same, for what gives back or must not end, and as
/// one that it refuses.
struct Scripts {
    for_all: Script,
    for_new: Script,
}

impl Scripts {
    fn of(text: &str) -> Self {
        Self {
            for_all: Script::new(&format!("#!lua flags=allow-oom\n{text}")),
            for_new: Script::new(&format!("#!lua\n{text}")),
        }
    }
}

static LINE: LazyLock<Scripts> = LazyLock::new(|| Scripts::of(include_str!("redis/line.lua")));
static LIST: LazyLock<Script> = LazyLock::new(|| read_only(include_str!("redis/list.lua")));
static HELD: LazyLock<Script> = LazyLock::new(|| read_only(include_str!("redis/held.lua")));

fn read_only(text: &str) -> Script {
    Script::new(&format!("#!lua flags=no-writes\n{text}"))
}

/// How the scripts call a session.
fn session_name(id: u64) -> String {
    format!("{id:016x}")
}

/// How much less a holder believes to have of a lease than the server: clocks don't run the same.
fn margin(time: Duration) -> Duration {
    time / 100 + Duration::from_millis(2)
}

impl RedisEngine {
    fn open(url: &str, options: RedisOptions) -> Result<Self, Fault> {
        let process = Process::current();
        let namespace = options.namespace.as_deref().unwrap_or("hapax");
        if namespace.is_empty() || namespace.contains(['{', '}']) {
            let text = format!("{namespace:?} is no namespace: it is a text without braces");
            return Err(says(text));
        }
        let address = Address::parse(url, &options.credentials)?;
        let link = Arc::new(Link::new(
            address,
            Settings {
                request_timeout: options.request_timeout.max(Duration::from_millis(1)),
                busy_for: options.busy_for,
                allow_eviction: options.allow_eviction,
            },
        ));
        link.open()?;
        let id = RandomState::new().hash_one(std::process::id());
        let prefix = format!("hapax:{{{namespace}}}:");
        let bells = Bells::new(id, format!("{prefix}bell:{}", session_name(id)), &link);
        let me = SessionRow {
            id,
            host: super::host(),
            process: std::process::id(),
            label: options.label,
            command: options.command,
            same_clock: true,
        };
        Ok(Self {
            process,
            link,
            bells,
            prefix,
            me,
            session_lease: options.session_lease,
            grace: options.grace,
            used: Mutex::default(),
            entering: RwLock::default(),
        })
    }

    fn name(&self, what: &str) -> String {
        format!("{}{what}", self.prefix)
    }

    fn check_open(&self) -> Result<(), Fault> {
        self.process.check()?;
        if self.bells.is_closed() {
            return Err(Fault::Closed);
        }
        Ok(())
    }

    /// What an operation of `line.lua` touches.
    fn names(&self, key: &str) -> [String; 4] {
        ["meta", "held", &format!("line:{key}"), "seen"].map(|what| self.name(what))
    }

    /// What each of them is told first.
    fn terms(&self, one: &Try<'_>) -> [String; 8] {
        [
            one.server.run.clone(),
            u8::from(one.server.is_new).to_string(),
            u8::from(one.server.is_alone).to_string(),
            micros(self.session_lease).to_string(),
            self.grace
                .map_or(String::new(), |grace| micros(grace).to_string()),
            one.until.to_string(),
            micros(one.left).to_string(),
            session_name(self.me.id),
        ]
    }

    /// Runs an operation of `line.lua`. Answers also with a moment before it was run.
    fn run(
        &self,
        operation: &LineOperation<'_>,
        key: &str,
        arguments: impl Fn(&mut redis::ScriptInvocation<'_>, bool),
    ) -> Result<(Time, Value), Failure> {
        self.process.check().map_err(Failure::NotDone)?;
        let names = self.names(key);
        let sent = std::cell::Cell::new(Time::default());
        let value = self.link.request(operation.longest, |one| {
            let mut call = operation.script.prepare_invoke();
            call.key(&names).arg(&self.terms(one));
            call.arg(operation.name).arg(key);
            arguments(&mut call, one.is_again);
            sent.set(clock::now());
            call.invoke(&mut one.server.connection)
        })?;
        Ok((sent.get(), value))
    }

    /// Extends all of those, by what [`run`](Self::run) would send for each of them, one after the other without waiting for
    /// answers between.
    fn renew_together(
        &self,
        renewals: &[Renewal<'_>],
    ) -> Result<Vec<Result<Option<Time>, Fault>>, Fault> {
        self.check_open()?;
        let shortest = renewals.iter().map(|renewal| renewal.time).min();
        let sent = std::cell::Cell::new(Time::default());
        let longest = shortest.unwrap_or_default() / 3;
        let value = self.link.request(longest, |one| {
            let mut calls = redis::Pipeline::with_capacity(renewals.len());
            let terms = self.terms(one);
            for Renewal { key, token, time } in renewals {
                let call = calls.cmd("EVALSHA").arg(LINE.for_all.get_hash());
                call.arg(4).arg(&self.names(key)).arg(&terms);
                call.arg("extend").arg(key.as_bytes());
                call.arg(*token).arg(micros(*time)).arg(1);
            }
            sent.set(clock::now());
            let connection = &mut one.server.connection;
            link::send_all(connection, &calls, renewals.len(), &LINE.for_all)
        });
        let value = value.map_err(Failure::unknown)?;
        let answers = Reply::of(&value)?.numbers().zip(renewals);
        Ok(answers
            .map(|(extended, renewal)| {
                let ends = sent.get().after(self.believed(renewal.time));
                Ok((extended? == 1).then_some(ends))
            })
            .collect())
    }

    /// The same where it doesn't matter whether what has failed was done: it can be done again.
    fn run_again(
        &self,
        operation: &LineOperation<'_>,
        key: &str,
        arguments: &[impl ToRedisArgs],
    ) -> Result<(Time, Value), Fault> {
        let answer = self.run(operation, key, |call, _| {
            call.arg(arguments);
        });
        answer.map_err(Failure::fault)
    }

    /// The same for a waiter, who doesn't wait for the server for long after it would give up.
    fn run_for(
        &self,
        name: &'static str,
        place: &Place,
        arguments: &[u64],
    ) -> Result<(Time, Value), Fault> {
        let operation = LineOperation {
            longest: self.patience(&place.ask),
            ..LineOperation::of(name)
        };
        self.run_again(&operation, &place.ask.key, arguments)
    }

    /// Takes a grant out by its token. False if it isn't there. If it was asked for before it may have been.
    fn take_back(
        &self,
        operation: &LineOperation<'_>,
        key: &str,
        token: u64,
    ) -> Result<Result<bool, Fault>, Failure> {
        let was_again = std::cell::Cell::new(false);
        let (_, value) = self.run(operation, key, |call, is_again| {
            was_again.set(is_again);
            call.arg(token);
        })?;
        Ok(match (value, was_again.get()) {
            (Value::Int(1), _) => Ok(true),
            (_, true) => Err(Fault::Unsure),
            (_, false) => Ok(false),
        })
    }

    /// How long somebody waits for the server.
    fn patience(&self, ask: &Ask) -> Duration {
        ask.gives_up
            .map_or(Duration::MAX, |end| end.since(clock::now()))
    }

    fn enter_once(&self, ask: &Ask, otherwise: Otherwise) -> Result<Entered, Fault> {
        let _entering = self.entering.read();
        self.check_open()?;
        let bell = self.bells.take();
        let (mode, permits) = mode(ask.want);
        let lease = micros(ask.lease.time().unwrap_or(self.session_lease));
        let about = about(ask, &self.me);
        *self.used.lock().entry(Arc::clone(&ask.key)).or_default() += 1;
        let operation = LineOperation {
            script: &LINE.for_new,
            longest: self.patience(ask),
            ..LineOperation::of("enter")
        };
        let entered = self.run(&operation, &ask.key, |call, is_again| {
            call.arg(bell.number)
                .arg(mode)
                .arg(permits)
                .arg(lease)
                .arg(u8::from(ask.is_strict))
                .arg(u8::from(otherwise == Otherwise::Queue))
                .arg(u8::from(is_again))
                .arg(kind(ask.lease))
                .arg(given(ask.tag.as_deref()))
                .arg(&about);
        });
        let place = Place {
            ask: ask.clone(),
            ticket: 0,
            bell,
            waits_for_itself: false,
        };
        let (sent, value) = match entered {
            Ok(answer) => answer,
            Err(Failure::NotDone(fault)) => {
                self.forget(&ask.key);
                self.bells.put(bell);
                return Err(fault);
            }
            Err(Failure::Unknown(fault)) => {
                self.bells.put(bell);
                if self.bells.is_closed() {
                    self.withdraw_late(&ask.key);
                }
                return Err(Fault::Unanswered(Box::new((place, fault))));
            }
        };
        if self.bells.is_closed() {
            // Whoever has closed it may have been here before.
            self.withdraw_late(&ask.key);
            return Err(Fault::Closed);
        }
        let entered = self.entered(place.clone(), sent, &value);
        if !matches!(entered, Ok(Entered::Queued(..))) {
            self.bells.put(bell);
        }
        entered.map_err(|fault| match fault {
            // Whatever it has got, nobody knows by what to give it back.
            Fault::Store(_) => Fault::Unanswered(Box::new((place, fault))),
            other => other,
        })
    }

    /// What came of entering.
    fn entered(&self, mut place: Place, sent: Time, value: &Value) -> Result<Entered, Fault> {
        let ask = &place.ask;
        let mut reply = Reply::of(value)?;
        match reply.text()? {
            "other" => {
                self.forget(&ask.key);
                let found = want(reply.text()?, reply.number()?)?;
                Err(Fault::other_use(found, ask.want, Vec::new()))
            }
            "refused" => {
                self.forget(&ask.key);
                // Nobody can tell who has ended, if it isn't the grace.
                Ok(Entered::Refused(Vec::new()))
            }
            "waiting" => {
                let standing = self.standing(ask, sent, value)?;
                place.ticket = reply.number()?;
                Ok(Entered::Queued(place, standing))
            }
            _ => match self.standing(ask, sent, value)? {
                Standing::Granted(holder) => Ok(Entered::Granted(holder)),
                _ => Err(says("a script has answered what it never does".to_owned())),
            },
        }
    }

    /// Takes out what this session has of a key, as far as that can be done at once, after it was closed.
    #[cold]
    fn withdraw_late(&self, key: &str) {
        // Otherwise it ends with its lease.
        let _ = self.run_again(&LineOperation::of("withdraw"), key, &[] as &[u64]);
    }

    /// What a script says of how somebody stands who has asked for that.
    fn standing(&self, ask: &Ask, sent: Time, value: &Value) -> Result<Standing, Fault> {
        let mut reply = Reply::of(value)?;
        let answer = reply.text()?;
        let number: u64 = match answer {
            "gone" => return Ok(Standing::Gone),
            _ => reply.number()?,
        };
        match answer {
            "granted" => {
                let ticket = reply.number()?;
                let slot = reply.number()?;
                let left = Duration::from_micros(reply.number()?);
                Ok(Standing::Granted(Holder {
                    token: number,
                    ticket: (ticket > 0).then_some(ticket),
                    session: self.me.id,
                    ask: ask.clone(),
                    slot,
                    expires: Some(sent.after(left.saturating_sub(margin(left)))),
                    renewals: reply.number()?,
                    since: reply.number()?,
                }))
            }
            _ => {
                let others_after = reply.number()?;
                let look_in: u64 = reply.number()?;
                let room = match others_after {
                    0 => Room::No,
                    number => Room::UntilOthersCome(number),
                };
                // Its own clock may be a little slower.
                let in_time = |micros| clock::now().after(Duration::from_micros(micros + 500));
                Ok(Standing::Waiting {
                    ahead: Vec::new(),
                    held_by: Vec::new(),
                    room,
                    look_at: (look_in > 0).then(|| in_time(look_in)),
                })
            }
        }
    }

    fn look_or_claim(&self, place: &Place, takes: bool) -> Result<Standing, Fault> {
        self.check_open()?;
        let arguments = [u64::from(place.bell.number), place.ticket, u64::from(takes)];
        let (sent, value) = self.run_for("look", place, &arguments)?;
        self.standing(&place.ask, sent, &value)
    }

    /// All rows that there are when they are read, of keys that were there a moment before.
    fn listing(&self) -> Result<Listing, Fault> {
        self.check_open()?;
        let held = self.name("held");
        let keys = self.link.request(Duration::MAX, |Try { server, .. }| {
            redis::cmd("HKEYS").arg(&held).query(&mut server.connection)
        });
        let keys = keys.map_err(Failure::fault)?;
        let mut reply = Reply::of(&keys)?;
        let mut keys = Vec::new();
        while let Ok(key) = reply.text() {
            keys.push(key);
        }
        let mut names = vec![held, self.name("seen")];
        names.extend(keys.iter().map(|key| self.name(&format!("line:{key}"))));
        let now = clock::now();
        let value = self.link.request(Duration::MAX, |Try { server, .. }| {
            LIST.key(&names).arg(&keys).invoke(&mut server.connection)
        });
        let value = value.map_err(Failure::fault)?;
        let mut listing = Listing {
            now,
            ..Listing::default()
        };
        let mut sessions = BTreeMap::new();
        for line in Reply::of(&value)?.lists() {
            let mut line = line?;
            let key: Arc<str> = Arc::from(line.text()?);
            for row in line.list()?.lists() {
                let row = Row::read(row?, &key)?;
                sessions.insert(row.session.id, row.session.clone());
                listing.holders.push(row.holder(now));
            }
            for row in line.list()?.lists() {
                let row = Row::read(row?, &key)?;
                sessions.insert(row.session.id, row.session.clone());
                listing.waiters.push(row.waiter());
            }
        }
        listing.sessions = sessions.into_values().collect();
        Ok(listing)
    }

    /// There is one row less of this session.
    fn forget(&self, key: &Arc<str>) {
        let mut used = self.used.lock();
        if let Some(count) = used.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                used.remove(key);
            }
        }
    }
}

/// How an operation of `line.lua` is run.
struct LineOperation<'a> {
    name: &'static str,
    script: &'a Script,
    longest: Duration,
}

impl LineOperation<'_> {
    fn of(name: &'static str) -> Self {
        Self {
            name,
            script: &LINE.for_all,
            longest: Duration::MAX,
        }
    }
}

impl Engine for RedisEngine {
    fn now(&self) -> Time {
        clock::now()
    }

    fn check(&self) -> Result<(), Fault> {
        self.process.check()
    }

    fn renews_for(&self, lease: Lease) -> Option<Duration> {
        match lease {
            Lease::Session => Some(self.session_lease),
            Lease::Renewed(time) => Some(time),
            Lease::Fixed(_) => None,
        }
    }

    fn answer_time(&self) -> Duration {
        self.link.request_timeout()
    }

    fn may_stall(&self) -> bool {
        true
    }

    fn enter(&self, ask: &Ask, otherwise: Otherwise, _dead: &[u64]) -> Result<Entered, Fault> {
        self.check_open()?;
        if otherwise == Otherwise::Queue && !self.bells.is_heard() {
            // Perhaps it needn't wait, and then it needn't listen.
            match self.enter_once(ask, Otherwise::Refuse)? {
                Entered::Refused(_) => self.bells.listen(self.patience(ask))?,
                entered => return Ok(entered),
            }
        }
        self.enter_once(ask, otherwise)
    }

    fn look(&self, place: &Place) -> Result<Standing, Fault> {
        self.look_or_claim(place, false)
    }

    fn claim(&self, place: &Place, _dead: &[u64]) -> Result<Standing, Fault> {
        self.look_or_claim(place, true)
    }

    fn leave(&self, place: &Place) -> Result<Option<Holder>, Fault> {
        self.check_open()?;
        let arguments = [u64::from(place.bell.number), place.ticket];
        let (sent, value) = self.run_for("leave", place, &arguments)?;
        match self.standing(&place.ask, sent, &value)? {
            Standing::Granted(holder) => Ok(Some(holder)),
            _ => {
                self.forget(&place.ask.key);
                Ok(None)
            }
        }
    }

    fn release(&self, key: &Arc<str>, token: u64, longest: Duration) -> Result<bool, Fault> {
        self.check_open()?;
        let operation = LineOperation {
            longest,
            ..LineOperation::of("release")
        };
        let released = self.take_back(&operation, key, token);
        let released = released.map_err(Failure::fault)?;
        self.forget(key);
        released
    }

    fn believed(&self, time: Duration) -> Duration {
        time.saturating_sub(margin(time))
    }

    fn extend(
        &self,
        key: &Arc<str>,
        token: u64,
        time: Duration,
        why: Extension,
    ) -> Result<Option<Time>, Fault> {
        self.check_open()?;
        let operation = LineOperation {
            longest: time / 3,
            ..LineOperation::of("extend")
        };
        let extended = self.run(&operation, key, |call, _| {
            call.arg(token)
                .arg(micros(time))
                .arg(u8::from(why == Extension::Renewal));
        });
        let (sent, value) = extended.map_err(Failure::unknown)?;
        let ends = sent.after(self.believed(time));
        Ok((value == Value::Int(1)).then_some(ends))
    }

    fn renew_all(&self, renewals: &[Renewal<'_>]) -> Vec<Result<Option<Time>, Fault>> {
        self.renew_together(renewals)
            .unwrap_or_else(|fault| vec![Err(fault)])
    }

    fn held(&self, holds: &[(&str, u64)], longest: Duration) -> Result<Vec<u64>, Fault> {
        self.check_open()?;
        let held = self.name("held");
        let value = self.link.request(longest, |Try { server, .. }| {
            let mut call = HELD.key(&held);
            for (key, token) in holds {
                call.arg(*key).arg(*token);
            }
            call.invoke(&mut server.connection)
        });
        let value = value.map_err(Failure::fault)?;
        let mut reply = Reply::of(&value)?;
        let mut tokens = Vec::new();
        while let Ok(token) = reply.number() {
            tokens.push(token);
        }
        Ok(tokens)
    }

    fn list(&self) -> Result<Listing, Fault> {
        self.listing()
    }

    fn force_unlock(&self, key: &Arc<str>, token: u64) -> Result<bool, Fault> {
        self.check_open()?;
        let unlocked = self.take_back(&LineOperation::of("force_unlock"), key, token);
        unlocked.map_err(Failure::unknown)?
    }

    fn close(&self) -> Result<(), Fault> {
        self.process.check()?;
        if self.bells.is_closed() {
            return Ok(());
        }
        let was_heard = self.bells.is_heard();
        self.bells.close();
        // Whoever is asking gets an answer first, or none in that time.
        drop(self.entering.try_write_for(self.link.request_timeout()));
        let used = std::mem::take(&mut *self.used.lock());
        let mut closed = Ok(());
        // All of them are tried, but what can't be reached for one isn't waited for as long by all.
        let mut end = None;
        let left = |end: Option<Time>| end.map_or(Duration::MAX, |end| end.since(clock::now()));
        for key in used.keys() {
            let operation = LineOperation {
                longest: left(end),
                ..LineOperation::of("withdraw")
            };
            if let Err(failure) = self.run(&operation, key, |_, _| {}) {
                end.get_or_insert_with(|| clock::now().after(self.link.busy_for() / 2));
                closed = closed.and(Err(failure.fault()));
            }
        }
        if was_heard {
            let (seen, channel) = (self.name("seen"), self.bells.channel());
            let session = session_name(self.me.id);
            let gone = self.link.request(left(end), |Try { server, .. }| {
                let connection = &mut server.connection;
                redis::cmd("ZREM")
                    .arg(&seen)
                    .arg(&session)
                    .exec(connection)?;
                // Wakes the thread that listens.
                redis::cmd("PUBLISH").arg(channel).arg(0).query(connection)
            });
            closed = closed.and(gone.map(drop).map_err(Failure::fault));
        }
        self.link.close();
        closed
    }

    fn put_bell(&self, bell: Bell) {
        self.bells.put(bell);
    }

    fn watch(&self, _sessions: &[u64]) -> Watch {
        Watch::default()
    }

    fn find_dead(&self, _sessions: &[u64]) -> Vec<u64> {
        Vec::new()
    }

    fn take_bell(&self) -> Result<Bell, Fault> {
        self.check_open()?;
        Ok(self.bells.take())
    }

    fn ring(&self, bell: Bell) -> Result<(), Fault> {
        self.check_open()?;
        self.bells.ring(bell);
        Ok(())
    }

    fn sleep(&self, sleepers: &[Sleeper<'_>], until: Time) -> Result<Vec<Heard>, Fault> {
        self.bells.sleep(sleepers, until.since(clock::now()))
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
        self.put_back_turn_of_value(key, rate, number)
    }

    fn evict(&self, tag: &str) -> Result<usize, Fault> {
        self.evict_all(tag)
    }
}

impl HasSession for RedisStore {
    fn session(&self) -> &Arc<Session> {
        &self.session
    }
}

impl Store for RedisStore {}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("session", &self.engine.me.id)
            .finish_non_exhaustive()
    }
}
