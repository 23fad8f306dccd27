//! Redis servers of the tests' own: alone, with a replica, as a cluster, behind a sentinel, behind a [proxy](Proxy).
//!
//! Each server is a process with a directory and a port of its own. It ends with its [`Server`], and also when the test
//! program is killed ([`caretaker`]). Tests that don't harm it use [`shared`], each in a namespace of its own.
//!
//! The program is `redis-server`, or `valkey-server` where that is what the distribution has.

#![allow(dead_code, reason = "each test file uses a part of this one")]
#![allow(
    unreachable_pub,
    reason = "shared by several crates, each of which is a test file"
)]
#![allow(
    unused_imports,
    reason = "shared by several crates, each of which is a test file"
)]

mod caretaker;
mod certificates;
mod clock;
mod cluster;
mod process;
mod proxy;
mod resp;
mod sentinel;

pub use certificates::Certificates;
pub use cluster::{Cluster, Move};
pub use proxy::Proxy;
pub use resp::Value;
pub use sentinel::Sentinel;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use clock::Clock;
use process::Process;
use resp::Connection;

/// For how long something may take that is expected to come about.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server that all tests of a program use which don't harm it. It ends with the program.
pub fn shared() -> &'static Server {
    static SHARED: OnceLock<Server> = OnceLock::new();
    SHARED.get_or_init(Server::start)
}

/// A namespace that no other test has, of this run or of another one.
pub fn namespace() -> String {
    format!("test-{:016x}", fastrand::u64(..))
}

/// A server, which is killed when this is dropped.
pub struct Server {
    process: Process,
    setup: Setup,
    certificates: Option<Certificates>,
    clock: Option<Clock>,
}

/// What a server is to be like.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    lines: Vec<String>,
    password: Option<String>,
    has_tls: bool,
    has_clock: bool,
    is_cluster_node: bool,
}

impl Setup {
    /// Adds a line to its configuration file.
    pub fn config(mut self, line: &str) -> Self {
        self.lines.push(line.to_owned());
        self
    }

    /// The default user has this password.
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self.config(&format!("requirepass {password}"))
    }

    /// There is one more user, who may do what those rules of an access control list say.
    pub fn user(self, name: &str, password: &str, rules: &str) -> Self {
        self.config(&format!("user {name} on >{password} {rules}"))
    }

    /// It speaks TLS and nothing else.
    pub fn tls(mut self) -> Self {
        self.has_tls = true;
        self
    }

    /// Every write is on disk before it is answered, so that a restart loses nothing.
    pub fn kept(self) -> Self {
        self.config("appendonly yes").config("appendfsync always")
    }

    /// Its wall clock can be set.
    pub fn clock(mut self) -> Self {
        self.has_clock = true;
        self
    }

    fn cluster_node(mut self) -> Self {
        self.is_cluster_node = true;
        self.config("cluster-enabled yes")
            .config("cluster-node-timeout 2000")
    }

    pub fn start(self) -> Server {
        let (mut certificates, mut clock) = (None, None);
        let environment = |directory: &Path| match self.has_clock {
            true => clock.insert(Clock::make(directory)).environment(),
            false => Vec::new(),
        };
        let password = self.password.as_deref();
        let process = Process::start(&[], environment, password, |directory, port| {
            let mut text = common(directory);
            match self.has_tls {
                false => writeln!(text, "port {port}").unwrap(),
                true => {
                    let made = Certificates::make(directory);
                    writeln!(text, "port 0\ntls-port {port}\ntls-auth-clients no").unwrap();
                    writeln!(text, "tls-cert-file {}", made.certificate.display()).unwrap();
                    writeln!(text, "tls-key-file {}", made.key.display()).unwrap();
                    writeln!(text, "tls-ca-cert-file {}", made.authority.display()).unwrap();
                    certificates = Some(made);
                }
            }
            if self.is_cluster_node {
                writeln!(text, "cluster-port {}", process::bus_port(port)).unwrap();
            }
            for line in &self.lines {
                writeln!(text, "{line}").unwrap();
            }
            text
        });
        Server {
            process,
            setup: self,
            certificates,
            clock,
        }
    }
}

/// The lines of a configuration that all processes have.
fn common(directory: &Path) -> String {
    let directory = directory.display();
    format!(
        "bind 127.0.0.1\nunixsocket {directory}/socket\ndir {directory}\nlogfile {directory}/log\n\
         save \"\"\nenable-debug-command local\nrepl-diskless-sync-delay 0\nrepl-ping-replica-period 1\n"
    )
}

impl Server {
    pub fn start() -> Self {
        Setup::default().start()
    }

    pub fn options() -> Setup {
        Setup::default()
    }

    /// A replica, which has got all that the other one has.
    pub fn replica_of(primary: &Server) -> Self {
        let mut setup = primary.setup.clone();
        setup.lines.retain(|line| !line.starts_with("replicaof "));
        let setup = setup.config(&format!("replicaof 127.0.0.1 {}", primary.port()));
        let setup = match setup.password.clone() {
            Some(password) => setup.config(&format!("masterauth {password}")),
            None => setup,
        };
        let replica = setup.start();
        until("the replica has got everything", || {
            replica.info("replication", "master_link_status") == "up"
        });
        replica
    }

    pub fn port(&self) -> u16 {
        self.process.port()
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port())
    }

    /// How a client of the default user opens it.
    pub fn url(&self) -> String {
        let scheme = if self.setup.has_tls {
            "rediss"
        } else {
            "redis"
        };
        match &self.setup.password {
            Some(password) => format!("{scheme}://:{password}@{}", self.address()),
            None => format!("{scheme}://{}", self.address()),
        }
    }

    /// If it speaks TLS.
    pub fn certificates(&self) -> &Certificates {
        self.certificates.as_ref().expect("it speaks TLS")
    }

    /// Sets its wall clock, if that can be set: as far ahead of the right time, or as far behind.
    pub fn set_clock(&self, ahead: Duration, behind: Duration) {
        self.clock
            .as_ref()
            .expect("it has a clock")
            .set(ahead, behind);
    }

    /// Where it listens on this machine, also for the tests themselves.
    pub fn socket(&self) -> PathBuf {
        self.process.file("socket")
    }

    /// Its number as a process.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// A connection past everything that stands between clients and the server: TLS, proxies.
    pub fn connect(&self) -> Connection {
        self.process.connect().unwrap()
    }

    /// What it answers. Fails if that is an error.
    #[track_caller]
    pub fn command(&self, words: &[&str]) -> Value {
        match self.try_command(words) {
            Ok(value) => value,
            Err(error) => panic!("{words:?}: {error}"),
        }
    }

    /// What it answers, or its error.
    pub fn try_command(&self, words: &[&str]) -> Result<Value, String> {
        self.connect().command(words)
    }

    /// All keys that begin with that.
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        let keys = self.command(&["KEYS", "*"]).list();
        let mut keys: Vec<_> = keys.iter().map(Value::text).collect();
        keys.retain(|key| key.starts_with(prefix));
        keys.sort();
        keys
    }

    /// A line of what it says of itself, or nothing.
    pub fn info(&self, section: &str, name: &str) -> String {
        let info = self.command(&["INFO", section]).text();
        info.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .unwrap_or_default()
            .to_owned()
    }

    /// Stops the process. Connections stay, and nobody gets an answer.
    pub fn pause(&self) {
        self.process.signal(rustix::process::Signal::STOP);
    }

    pub fn resume(&self) {
        self.process.signal(rustix::process::Signal::CONT);
    }

    /// Kills the process. Its data stays in its directory, as far as it was on disk.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// Kills the process if it runs, and starts it on the same port, with the data that was on disk.
    pub fn restart(&self) {
        self.process.kill();
        self.process.launch();
    }

    /// The same without data.
    pub fn restart_empty(&self) {
        self.process.kill();
        self.process.remove_data();
        self.process.launch();
    }

    /// A replica gets nothing more from its primary.
    pub fn cut_off(&self) {
        // Nobody listens there.
        self.command(&["REPLICAOF", "127.0.0.1", "1"]);
        until("the replica is cut off", || {
            self.info("replication", "master_link_status") == "down"
        });
    }

    /// A replica becomes a primary.
    pub fn promote(&self) {
        self.command(&["REPLICAOF", "NO", "ONE"]);
    }
}

/// Waits until something is so; fails if that lasts too long.
#[track_caller]
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "it took too long until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
