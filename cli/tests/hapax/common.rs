//! A directory, a store, and hapax with both.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, TransactionBehavior};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;
use tempfile::TempDir;

#[cfg(feature = "redis")]
use crate::redis_server::{self, Proxy, Server};

/// Only a failure takes that long.
pub(crate) const LIMIT: Duration = Duration::from_secs(40);

/// A directory, and a store.
pub(crate) struct Place {
    directory: TempDir,
    /// If the store isn't a file in the directory.
    #[cfg(feature = "redis")]
    pub(crate) redis: Option<Redis>,
}

/// A namespace of a server, and the way to it.
#[cfg(feature = "redis")]
pub(crate) struct Redis {
    pub(crate) proxy: Proxy,
    pub(crate) namespace: String,
}

#[cfg(feature = "redis")]
impl Redis {
    pub(crate) fn url(&self) -> String {
        let Self { proxy, namespace } = self;
        // It doesn't matter what others have held there before.
        format!("{}/0?namespace={namespace}&grace=0", proxy.url())
    }
}

impl Place {
    pub(crate) fn with_file() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            #[cfg(feature = "redis")]
            redis: None,
        }
    }

    /// With a server that others use as well.
    #[cfg(feature = "redis")]
    pub(crate) fn with_server() -> Self {
        Self::with(redis_server::shared())
    }

    #[cfg(feature = "redis")]
    pub(crate) fn with(server: &Server) -> Self {
        let (proxy, namespace) = (Proxy::to(server), redis_server::namespace());
        Self {
            redis: Some(Redis { proxy, namespace }),
            ..Self::with_file()
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// If the store is a file.
    pub(crate) fn file(&self) -> PathBuf {
        self.path("locks.db")
    }

    /// What hapax calls the store.
    pub(crate) fn store(&self) -> OsString {
        #[cfg(feature = "redis")]
        if let Some(redis) = &self.redis {
            return redis.url().into();
        }
        self.file().into()
    }

    /// What is in a file; nothing if it isn't there.
    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// The number in a file, as soon as there is one.
    #[track_caller]
    pub(crate) fn number(&self, name: &str) -> i32 {
        // The line has to be whole.
        until(|| self.read(name).strip_suffix('\n')?.parse().ok())
    }

    /// Waits until a file has that many lines.
    #[track_caller]
    pub(crate) fn wait_for_lines(&self, name: &str, number: usize) {
        until(|| (self.read(name).matches('\n').count() >= number).then_some(()));
    }

    /// Any program, in this directory and with this store.
    pub(crate) fn program(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.directory.path())
            .env("HAPAX", HAPAX)
            .env("PLACE", self.directory.path())
            .env("HAPAX_STORE", self.store())
            .env_remove("HAPAX_OWNER")
            .env_remove("REDISCLI_AUTH")
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn hapax<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = self.program(HAPAX);
        command.args(args);
        command
    }

    /// `hapax lock` with these options, for the key `k`, and a script.
    pub(crate) fn lock(&self, options: &[&str], script: &str) -> Command {
        let mut command = self.hapax(["lock"]);
        command.args(options).args(["k", "--", "sh", "-c", script]);
        command
    }

    /// Starts `hapax lock` with a script, and waits until that runs. Its number is in the file `pid`.
    #[track_caller]
    pub(crate) fn hold(&self, options: &[&str], script: &str) -> Running {
        let _ = fs::remove_file(self.path("pid"));
        let running =
            Running::start(&mut self.lock(options, &format!("{script}\necho $$ > pid\n{LOOP}")));
        self.number("pid");
        running
    }

    /// Whether the key `k` is free.
    #[track_caller]
    pub(crate) fn is_free(&self) -> bool {
        let status = self.hapax(["lock", "-n", "k", "true"]).status().unwrap();
        match status.code() {
            Some(0) => true,
            Some(1) => false,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn wait_until_free(&self) {
        until(|| self.is_free().then_some(()));
    }

    /// What `hapax ps --json` says of each key.
    #[track_caller]
    pub(crate) fn list(&self) -> Vec<Value> {
        let output = output(&mut self.hapax(["ps", "--json"]));
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let lines = text.lines().map(serde_json::from_str);
        lines.collect::<Result<_, _>>().unwrap()
    }

    /// How many wait.
    pub(crate) fn waiters(&self) -> usize {
        let list = self.list();
        let waiters = list
            .iter()
            .map(|line| line["waiters"].as_array().unwrap().len());
        waiters.sum()
    }

    #[track_caller]
    pub(crate) fn wait_for_waiters(&self, number: usize) {
        until(|| (self.waiters() == number).then_some(()));
    }

    /// The token by which the key `k` is held.
    pub(crate) fn token(&self) -> u64 {
        self.list()[0]["holders"][0]["token"].as_u64().unwrap()
    }
}

/// A script that runs until the file `end` is there, or the whole directory isn't any more. A signal to its group ends no
/// more than one turn.
pub(crate) const LOOP: &str = r#"i=0
while [ -e "$PLACE" ] && [ ! -e end ] && [ $i -lt 800 ]; do sleep 0.05; i=$((i + 1)); done"#;

const HAPAX: &str = env!("CARGO_BIN_EXE_hapax");

/// A process that is killed when this is dropped.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }

    /// With what it says to be read.
    pub(crate) fn piped(command: &mut Command) -> Self {
        Self::start(command.stdout(Stdio::piped()).stderr(Stdio::piped()))
    }

    pub(crate) fn pid(&self) -> i32 {
        self.0.id().try_into().unwrap()
    }

    pub(crate) fn send(&self, signal: Signal) {
        send(self.pid(), signal);
    }

    /// Writes to its stdin, and closes that.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.0.stdin.take().unwrap().write_all(bytes).unwrap();
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }

    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        until(|| self.0.try_wait().unwrap())
    }

    /// Its status, or none if a signal has ended it.
    #[track_caller]
    pub(crate) fn code(&mut self) -> Option<i32> {
        self.wait().code()
    }

    /// The signal that has ended it.
    #[track_caller]
    pub(crate) fn signal(&mut self) -> Option<i32> {
        self.wait().signal()
    }

    /// What it has said, stdout and stderr. It has to be little.
    #[track_caller]
    pub(crate) fn said(&mut self) -> (String, String) {
        self.wait();
        let (mut stdout, mut stderr) = (String::new(), String::new());
        self.0
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut stdout)
            .unwrap();
        self.0
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut stderr)
            .unwrap();
        (stdout, stderr)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Stops hapax, and the whole group if it is by SIGTSTP.
///
/// Whoever is stopped in the middle of a transaction keeps others from a file, and nothing could be tested then.
#[track_caller]
pub(crate) fn stop(place: &Place, hapax: &Running, signal: Signal) {
    until(|| {
        hapax.send(signal);
        until(|| (state(hapax.pid()) == 'T').then_some(()));
        #[cfg(feature = "redis")]
        if place.redis.is_some() {
            return Some(());
        }
        let mut connection = Connection::open(place.file()).unwrap();
        connection.busy_timeout(Duration::from_millis(100)).unwrap();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate);
        if transaction.is_ok() {
            return Some(());
        }
        hapax.send(Signal::CONT);
        None
    });
}

/// Keeps everybody from the store for as long as that takes.
pub(crate) fn block(place: &Place, then: impl FnOnce()) {
    #[cfg(feature = "redis")]
    if let Some(redis) = &place.redis {
        redis.proxy.stall();
        then();
        redis.proxy.heal();
        return;
    }
    let mut connection = Connection::open(place.file()).unwrap();
    connection.busy_timeout(LIMIT).unwrap();
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .unwrap();
    then();
    drop(transaction);
}

/// Runs it to its end.
pub(crate) fn output(command: &mut Command) -> Output {
    command.output().unwrap()
}

/// Its status, or none if a signal has ended it; and what it said on stderr.
pub(crate) fn code(command: &mut Command) -> (Option<i32>, String) {
    let output = output(command);
    let stderr = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), stderr)
}

pub(crate) fn send(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

/// Whether that process is there, and hasn't ended.
pub(crate) fn is_alive(pid: i32) -> bool {
    let is_there = test_kill_process(Pid::from_raw(pid).unwrap()).is_ok();
    is_there && !matches!(state(pid), 'Z' | 'X')
}

#[track_caller]
pub(crate) fn wait_until_gone(pid: i32) {
    until(|| (!is_alive(pid)).then_some(()));
}

/// The letter for what a process does. X if there is none.
pub(crate) fn state(pid: i32) -> char {
    field(pid, 0)
        .and_then(|text| text.chars().next())
        .unwrap_or('X')
}

/// The process group of a process.
pub(crate) fn group(pid: i32) -> i32 {
    field(pid, 2).unwrap().parse().unwrap()
}

/// A field of the file `stat`, counted from the state on.
fn field(pid: i32, number: usize) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split_ascii_whitespace().nth(number).map(String::from)
}

/// Waits until there is an answer.
#[track_caller]
pub(crate) fn until<T>(mut answer: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = answer() {
            return answer;
        }
        assert!(began.elapsed() < LIMIT, "it has never happened");
        thread::sleep(Duration::from_millis(10));
    }
}
