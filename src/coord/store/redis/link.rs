//! Requests, and the connections that they go over.
//!
//! All that belongs to a namespace is in one slot, so also in a cluster there is one server to speak to. Whoever is spoken
//! to says where that is, if it is another one; sentinels are asked; and if a server can't be reached any more all begins
//! anew, with the address that was good before, or the one after it. Each server is looked at when it is connected to: which
//! one it is, so that the scripts learn when it is another one than before, and whether it may lose what it is given.
//!
//! A request is tried again until its time is over. That is harmless, since a script that gets the same request once more
//! answers the same, and since a request says until when it counts: whoever has sent it waits no longer, so that what a
//! server finds late, after it was stopped, is nothing that somebody has given up.

use std::error::Error;
use std::fmt;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redis::{
    Connection, ConnectionInfo, ConnectionLike, ErrorKind, RedisError, RedisResult,
    ServerErrorKind, Value,
};

use super::address::{Address, Watched, elsewhere, says};
use super::rows::micros;
use crate::coord::error::Fault;

/// How many connections stay open that nobody uses.
const MOST_IDLE: usize = 8;
/// A connection that nobody has used for that long may be broken, which one would only learn by what is sent over it.
const UNSURE_AFTER: Duration = Duration::from_millis(10);
/// Between tries, at first and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(100));

pub(super) struct Link {
    address: Address,
    settings: Settings,
    /// Where the server was found last, if not where the address says.
    moved_to: Mutex<Option<ConnectionInfo>>,
    idle: Mutex<Vec<Server>>,
    /// Which address is tried first: not one that was no good before.
    first: Mutex<usize>,
    /// How often it had to begin anew.
    beginnings: Mutex<u64>,
}

#[derive(Clone)]
pub(super) struct Settings {
    /// How long an answer may take.
    pub(super) request_timeout: Duration,
    /// For how long a request is tried again.
    pub(super) busy_for: Duration,
    pub(super) allow_eviction: bool,
}

/// A connection, and what is known of whom it goes to.
pub(super) struct Server {
    pub(super) connection: Connection,
    /// A name that it has until it is started again, or takes the place of another one.
    pub(super) run: String,
    /// It isn't part of a cluster.
    pub(super) is_alone: bool,
    /// Nothing was asked over it yet.
    pub(super) is_new: bool,
    /// Its clock, in microseconds, not later than it was at that moment here.
    clock: (u64, Instant),
    address: String,
    used: Instant,
}

/// One try of a request.
pub(super) struct Try<'a> {
    pub(super) server: &'a mut Server,
    /// By the clock of the server, in microseconds: after that it is nothing any more.
    pub(super) until: u64,
    /// For how long it counts.
    pub(super) left: Duration,
    /// One before may have arrived.
    pub(super) is_again: bool,
}

/// Why a request has come to nothing.
pub(super) enum Failure {
    /// It hasn't been done.
    NotDone(Fault),
    /// Nobody can tell whether it has.
    Unknown(Fault),
}

impl Failure {
    pub(super) fn fault(self) -> Fault {
        match self {
            Self::NotDone(fault) | Self::Unknown(fault) => fault,
        }
    }

    /// The same where it matters which it is.
    pub(super) fn unknown(self) -> Fault {
        match self {
            Self::NotDone(fault) => fault,
            Self::Unknown(fault) => Fault::Unknown(Box::new(fault)),
        }
    }
}

/// An error of a server, and which one.
#[derive(Debug)]
struct ServerFault {
    address: String,
    source: RedisError,
}

impl fmt::Display for ServerFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.source.is_timeout() {
            return write!(f, "Redis at {}: no answer in time", self.address);
        }
        write!(f, "Redis at {}: {}", self.address, self.source)
    }
}

impl Error for ServerFault {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}

/// How it goes on after an error.
pub(super) enum Remedy {
    /// It would be the same again.
    None,
    /// It goes better in a moment, or elsewhere.
    Again,
    /// What was sent may have been done all the same.
    AgainUnsure,
}

impl Link {
    pub(super) fn new(address: Address, settings: Settings) -> Self {
        Self {
            address,
            settings,
            moved_to: Mutex::default(),
            idle: Mutex::default(),
            first: Mutex::default(),
            beginnings: Mutex::default(),
        }
    }

    /// Sees whether there is a server that can be used, at once.
    pub(super) fn open(&self) -> Result<(), Fault> {
        let server = self.connect(self.settings.request_timeout);
        self.idle.lock().push(server.map_err(|(_, fault)| fault)?);
        Ok(())
    }

    /// Sends something, and again if there is no answer, for so long at most.
    pub(super) fn request(
        &self,
        longest: Duration,
        send: impl Fn(&mut Try<'_>) -> RedisResult<Value>,
    ) -> Result<Value, Failure> {
        self.request_times(longest, true, send)
    }

    /// The same, but only once if it may have arrived.
    pub(super) fn request_once(
        &self,
        send: impl Fn(&mut Try<'_>) -> RedisResult<Value>,
    ) -> Result<Value, Failure> {
        self.request_times(Duration::MAX, false, send)
    }

    fn request_times(
        &self,
        longest: Duration,
        goes_on: bool,
        send: impl Fn(&mut Try<'_>) -> RedisResult<Value>,
    ) -> Result<Value, Failure> {
        let end = Instant::now() + self.settings.busy_for.min(longest);
        let mut pause = PAUSES.0;
        let mut is_again = false;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let time = left
                .min(self.settings.request_timeout)
                .max(Duration::from_millis(1));
            let (remedy, fault) = match self.try_once(time, is_again, goes_on, &send) {
                Ok(value) => return Ok(value),
                Err(trouble) => trouble,
            };
            is_again |= matches!(remedy, Remedy::AgainUnsure);
            let is_over = Instant::now() + pause >= end || is_again && !goes_on;
            if is_over || matches!(remedy, Remedy::None) {
                return Err(if is_again {
                    Failure::Unknown(fault)
                } else {
                    Failure::NotDone(fault)
                });
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    fn try_once(
        &self,
        time: Duration,
        is_again: bool,
        goes_on: bool,
        send: impl Fn(&mut Try<'_>) -> RedisResult<Value>,
    ) -> Result<Value, (Remedy, Fault)> {
        let began = Instant::now();
        let mut idle = self.idle.lock().pop();
        if !goes_on && idle.as_mut().is_some_and(|server| !server.is_sound(time)) {
            // Nobody could tell later that the request hasn't arrived.
            idle = None;
        }
        let mut server = match idle {
            Some(server) => server,
            None => self.connect(time)?,
        };
        let left = time
            .saturating_sub(began.elapsed())
            .max(Duration::from_millis(1));
        let until = server.now() + micros(left);
        let end = Instant::now() + left;
        let mut send_now = || {
            limit(&server.connection, end)?;
            send(&mut Try {
                server: &mut server,
                until,
                left,
                is_again,
            })
        };
        let mut answer = send_now();
        // It was loaded, and somebody has emptied the server's memory of scripts again.
        while Instant::now() < end && answer.as_ref().is_err_and(is_no_script) {
            answer = send_now();
        }
        match answer {
            // It was too late, the server's clock was set, or it isn't the server that it was. Nothing was done.
            Ok(answer) if is_not_done(&answer) => {
                self.idle.lock().clear();
                let fault = says(format!(
                    "Redis at {} has got a request too late",
                    server.address
                ));
                Err((Remedy::Again, fault))
            }
            Ok(value) => {
                server.is_new = false;
                self.keep(server);
                Ok(value)
            }
            Err(error) => {
                let remedy = self.remedy(&error, &server);
                let address = server.address.clone();
                if matches!(remedy, Remedy::None) {
                    self.keep(server);
                }
                let fault = ServerFault {
                    address,
                    source: error,
                };
                Err((remedy, Fault::Store(Box::new(fault))))
            }
        }
    }

    /// For whoever needs a connection next.
    fn keep(&self, mut server: Server) {
        server.used = Instant::now();
        let mut idle = self.idle.lock();
        if idle.len() < MOST_IDLE {
            idle.push(server);
        }
    }

    fn remedy(&self, error: &RedisError, server: &Server) -> Remedy {
        match error.kind() {
            ErrorKind::Server(ServerErrorKind::Moved) => {
                self.follow(error, server);
                Remedy::Again
            }
            // It has no part in the cluster, or has lost its primary: others may know more.
            ErrorKind::Server(ServerErrorKind::ClusterDown | ServerErrorKind::MasterDown) => {
                self.forget();
                let first = *self.first.lock();
                self.go_past(first);
                Remedy::Again
            }
            // It isn't the primary any more.
            ErrorKind::Server(ServerErrorKind::ReadOnly) => {
                self.forget();
                Remedy::Again
            }
            ErrorKind::Io | ErrorKind::Parse => {
                self.forget();
                Remedy::AgainUnsure
            }
            _ => remedy_of_answer(error),
        }
    }

    /// Goes where a cluster says that the slot is.
    fn follow(&self, error: &RedisError, server: &Server) {
        let place = error.redirect_node().and_then(|(place, _)| {
            let (host, port) = place.rsplit_once(':')?;
            Some((host.trim_matches(['[', ']']).to_owned(), port.parse().ok()?))
        });
        if let Some((host, port)) = place {
            let here = server.address.rsplit_once(':').map_or("", |(host, _)| host);
            let host = if host.is_empty() {
                here.to_owned()
            } else {
                host
            };
            *self.moved_to.lock() = Some(elsewhere(&self.address.nodes[0], &host, port));
            self.idle.lock().clear();
            *self.beginnings.lock() += 1;
        }
    }

    /// Looks for the server anew.
    fn forget(&self) {
        *self.moved_to.lock() = None;
        self.idle.lock().clear();
        *self.beginnings.lock() += 1;
    }

    /// Begins with the address after that one.
    fn go_past(&self, node: usize) {
        let next = (node + 1) % self.address.nodes.len();
        *self.first.lock() = next;
    }

    /// A number that is another one when the server had to be looked for anew.
    pub(super) fn beginnings(&self) -> u64 {
        *self.beginnings.lock()
    }

    /// A connection for whoever needs one of its own.
    pub(super) fn separate(&self) -> Result<Connection, (Remedy, Fault)> {
        let server = self.connect(self.settings.request_timeout)?;
        Ok(server.connection)
    }

    /// How long an answer may take.
    pub(super) fn request_timeout(&self) -> Duration {
        self.settings.request_timeout
    }

    /// For how long something is tried.
    pub(super) fn busy_for(&self) -> Duration {
        self.settings.busy_for
    }

    /// Connects to the server, as far as its address is known.
    fn connect(&self, time: Duration) -> Result<Server, (Remedy, Fault)> {
        let moved_to = self.moved_to.lock().clone();
        if let Some(info) = moved_to {
            return self.connect_to(&info, time).inspect_err(|_| self.forget());
        }
        let end = Instant::now() + time;
        let left_until = |end: Instant| end.saturating_duration_since(Instant::now());
        let count = self.address.nodes.len();
        let first = *self.first.lock();
        let mut trouble = None;
        for tried in 0..count {
            let at = (first + tried) % count;
            let node = &self.address.nodes[at];
            // One that is silent leaves time for the others.
            let left = left_until(end) / u32::try_from(count - tried).unwrap_or(u32::MAX);
            if left.is_zero() {
                break;
            }
            let connected = match &self.address.watched {
                None => self.connect_to(node, left),
                Some(watched) => {
                    let end = Instant::now() + left;
                    ask_sentinel(node, watched, left / 2)
                        .and_then(|info| self.connect_to(&info, left_until(end)))
                }
            };
            match connected {
                Ok(server) => {
                    *self.first.lock() = at;
                    return Ok(server);
                }
                Err(error) => {
                    self.go_past(at);
                    trouble = Some(error);
                }
            }
        }
        Err(trouble.unwrap_or_else(|| {
            (
                Remedy::Again,
                says("there was no time to connect".to_owned()),
            )
        }))
    }

    fn connect_to(&self, info: &ConnectionInfo, time: Duration) -> Result<Server, (Remedy, Fault)> {
        let address = info.addr().to_string();
        let trouble = |source: RedisError| {
            let remedy = remedy_of_connecting(&source);
            let address = address.clone();
            (
                remedy,
                Fault::Store(Box::new(ServerFault { address, source })),
            )
        };
        let end = Instant::now() + time;
        let mut connection = connection(info, time).map_err(trouble)?;
        limit(&connection, end).map_err(trouble)?;
        let (seconds, microseconds): (u64, u64) =
            redis::cmd("TIME").query(&mut connection).map_err(trouble)?;
        let clock = (seconds * 1_000_000 + microseconds, Instant::now());
        limit(&connection, end).map_err(trouble)?;
        let info: redis::InfoDict = redis::cmd("INFO")
            .arg(&["server", "memory", "replication"])
            .query(&mut connection)
            .map_err(trouble)?;
        let said = |remedy, text: &str| (remedy, says(format!("Redis at {address} {text}")));
        let version: String = info.get("redis_version").unwrap_or_default();
        let major = version
            .split('.')
            .next()
            .and_then(|major| major.parse::<u32>().ok());
        if major.is_none_or(|major| major < 7) {
            return Err(said(
                Remedy::None,
                &format!("is of version {version}; 7 or later is needed"),
            ));
        }
        let is_in_cluster = info
            .get::<String>("redis_mode")
            .is_some_and(|mode| mode == "cluster");
        if !is_in_cluster
            && info
                .get::<String>("role")
                .is_some_and(|role| role != "master")
        {
            return Err(said(
                Remedy::Again,
                "is a replica, where nothing can be written",
            ));
        }
        let policy: String = info.get("maxmemory_policy").unwrap_or_default();
        if policy != "noeviction" && !self.settings.allow_eviction {
            let text = format!(
                "throws away what it holds when its memory is full (maxmemory-policy {policy}), and locks with it; \
                 noeviction is needed"
            );
            return Err(said(Remedy::None, &text));
        }
        let Some(run) = info.get::<String>("run_id") else {
            return Err(said(Remedy::None, "doesn't tell its run_id"));
        };
        // What it is since it was a replica in between.
        let was_replica = info
            .get::<i64>("second_repl_offset")
            .is_some_and(|at| at >= 0);
        let history: Option<String> = info.get("master_replid").filter(|_| was_replica);
        let history = history.unwrap_or_default();
        Ok(Server {
            connection,
            is_alone: !is_in_cluster,
            run: format!("{run}:{history}"),
            is_new: true,
            clock,
            address,
            used: Instant::now(),
        })
    }

    /// Closes what isn't in use.
    pub(super) fn close(&self) {
        self.idle.lock().clear();
    }
}

impl Server {
    /// Whether something that is sent over the connection arrives, as far as that can be told.
    fn is_sound(&mut self, time: Duration) -> bool {
        self.used.elapsed() < UNSURE_AFTER
            || self.connection.set_read_timeout(Some(time)).is_ok()
                && self.connection.check_connection()
    }

    /// What its clock shows at least, in microseconds.
    fn now(&self) -> u64 {
        let (then, at) = self.clock;
        then + u64::try_from(at.elapsed().as_micros()).unwrap_or(0)
    }
}

/// Sends so many calls of a script, and then waits for their answers. If one has failed all have: each can be made again.
pub(super) fn send_all(
    connection: &mut Connection,
    calls: &redis::Pipeline,
    count: usize,
    script: &redis::Script,
) -> RedisResult<Value> {
    connection.send_packed_command(&calls.get_packed_pipeline())?;
    let mut answers = Vec::with_capacity(count);
    let mut error = None;
    for _ in 0..count {
        match connection.recv_response().and_then(Value::extract_error) {
            Ok(answer) => answers.push(answer),
            // No more will come, or nobody knows for whom.
            Err(broken) if matches!(broken.kind(), ErrorKind::Io | ErrorKind::Parse) => {
                return Err(broken);
            }
            // The other answers are on their way.
            Err(refused) => error = Some(refused),
        }
    }
    if let Some(error) = error {
        if is_no_script(&error) {
            script.load(connection)?;
        }
        return Err(error);
    }
    match answers.iter().position(is_not_done) {
        Some(at) => Ok(answers.swap_remove(at)),
        None => Ok(Value::Array(answers)),
    }
}

/// Whether a script has refused to do anything.
fn is_not_done(answer: &Value) -> bool {
    matches!(answer, Value::SimpleString(word) if word == "LATE" || word == "LOOK")
}

fn is_no_script(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

/// Connects, for so long at most.
fn connection(info: &ConnectionInfo, time: Duration) -> RedisResult<Connection> {
    let settings = info.redis_settings();
    let logs_in =
        settings.password().is_some() || settings.protocol() == redis::ProtocolVersion::RESP3;
    // Each of the answers at the beginning is waited for as long as that.
    let answers = u32::from(logs_in) + u32::from(settings.db() != 0);
    let time = (time / answers.max(1)).max(Duration::from_millis(1));
    redis::Client::open(info.clone())?.get_connection_with_timeout(time)
}

/// The next answer is waited for until then.
fn limit(connection: &Connection, end: Instant) -> RedisResult<()> {
    let left = end.saturating_duration_since(Instant::now());
    let left = Some(left.max(Duration::from_millis(1)));
    connection.set_read_timeout(left)?;
    connection.set_write_timeout(left)
}

/// Asks a sentinel where the server is.
fn ask_sentinel(
    sentinel: &ConnectionInfo,
    watched: &Watched,
    time: Duration,
) -> Result<ConnectionInfo, (Remedy, Fault)> {
    let address = sentinel.addr().to_string();
    let trouble = |source: RedisError| {
        let remedy = remedy_of_connecting(&source);
        let address = format!("{address} (a sentinel)");
        (
            remedy,
            Fault::Store(Box::new(ServerFault { address, source })),
        )
    };
    let end = Instant::now() + time;
    let mut connection = connection(sentinel, time).map_err(trouble)?;
    limit(&connection, end).map_err(trouble)?;
    let place: Option<(String, u16)> = redis::cmd("SENTINEL")
        .arg(&["GET-MASTER-ADDR-BY-NAME", &watched.name])
        .query(&mut connection)
        .map_err(trouble)?;
    let Some((host, port)) = place else {
        let text = format!(
            "the sentinel at {address} knows no server that is called `{}`",
            watched.name
        );
        return Err((Remedy::None, says(text)));
    };
    Ok(elsewhere(&watched.server, &host, port))
}

pub(super) fn remedy_of_connecting(error: &RedisError) -> Remedy {
    match error.kind() {
        ErrorKind::Io | ErrorKind::Parse => Remedy::Again,
        _ => remedy_of_answer(error),
    }
}

/// How it goes on after an error that a server has answered with, and then has done nothing.
fn remedy_of_answer(error: &RedisError) -> Remedy {
    match error.kind() {
        ErrorKind::Server(
            ServerErrorKind::Ask
            | ServerErrorKind::BusyLoading
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::MasterDown
            | ServerErrorKind::NoScript
            | ServerErrorKind::TryAgain,
        ) => Remedy::Again,
        // Another script takes long.
        ErrorKind::Extension if error.code() == Some("BUSY") => Remedy::Again,
        // There may be room in a moment.
        _ if error.to_string().contains("max number of clients") => Remedy::Again,
        _ => Remedy::None,
    }
}
