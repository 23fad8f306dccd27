//! One process of Redis: how it is started, reached and ended.

use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::caretaker::caretaker;
use super::resp::Connection;
use super::{PATIENCE, until};

/// Ports that no system gives to outgoing connections, so that a server that is started again finds its own one free.
const PORTS: std::ops::Range<u16> = 12_000..22_000;

/// Where the other nodes of a cluster reach the one with that port.
pub(super) fn bus_port(port: u16) -> u16 {
    port + 10_000
}

pub(super) struct Process {
    directory: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(&'static str, PathBuf)>,
    password: Option<String>,
    port: u16,
    child: Mutex<Option<Child>>,
}

impl Process {
    /// One on a free port, whose configuration is made from its directory and its port.
    pub(super) fn start(
        arguments: &[&str],
        environment: impl FnOnce(&Path) -> Vec<(&'static str, PathBuf)>,
        password: Option<&str>,
        mut configuration: impl FnMut(&Path, u16) -> String,
    ) -> Self {
        let directory = caretaker().directory();
        let mut process = Self {
            environment: environment(&directory),
            directory,
            arguments: arguments.iter().map(|&argument| argument.into()).collect(),
            password: password.map(Into::into),
            port: 0,
            child: Mutex::new(None),
        };
        // Somebody else may take the port before the server does.
        for _ in 0..20 {
            process.port = free_port();
            let text = configuration(&process.directory, process.port);
            std::fs::write(process.file("configuration"), text).unwrap();
            match process.try_launch() {
                Ok(()) => return process,
                Err(log) if log.contains("bind: Address already in use") => {}
                Err(log) => panic!("the server doesn't start:\n{log}"),
            }
        }
        panic!("no port is free");
    }

    /// Starts it again.
    pub(super) fn launch(&self) {
        until("the port is free", || match self.try_launch() {
            Ok(()) => true,
            Err(log) if log.contains("bind: Address already in use") => false,
            Err(log) => panic!("the server doesn't start:\n{log}"),
        });
    }

    /// Returns when it answers. Otherwise what it has written into its log.
    fn try_launch(&self) -> Result<(), String> {
        let _ = std::fs::remove_file(self.file("log"));
        let mut child = self.spawn();
        caretaker().has_started(child.id());
        let end = Instant::now() + PATIENCE;
        loop {
            let answer = self.connect().and_then(|mut connection| {
                let answer = connection.command(&["PING"]);
                answer.map_err(std::io::Error::other)
            });
            let ended = child.try_wait().unwrap();
            match answer {
                Ok(_) if ended.is_none() => break,
                // It may be loading its data.
                Err(_) if ended.is_none() && Instant::now() < end => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                _ => {
                    caretaker().has_ended(child.id());
                    let _ = child.kill();
                    child.wait().unwrap();
                    return Err(self.log());
                }
            }
        }
        *self.child.lock().unwrap() = Some(child);
        Ok(())
    }

    fn spawn(&self) -> Child {
        for program in ["redis-server", "valkey-server"] {
            let child = Command::new(program)
                .arg(self.file("configuration"))
                .args(&self.arguments)
                .envs(self.environment.iter().cloned())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn();
            match child {
                Ok(child) => return child,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => panic!("{program} can't be started: {error}"),
            }
        }
        panic!(
            "these tests need a Redis server, and neither redis-server nor valkey-server is there: \
             install the package redis-server (Debian), redis (others) or valkey, or run ci/test.sh"
        );
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.lock().unwrap().as_ref().expect("it runs").id()
    }

    /// By its socket in the file system, which it has whatever its port is like.
    pub(super) fn connect(&self) -> std::io::Result<Connection> {
        let mut connection = Connection::new(UnixStream::connect(self.file("socket"))?);
        if let Some(password) = &self.password {
            let answer = connection.command(&["AUTH", password]);
            answer.map_err(std::io::Error::other)?;
        }
        Ok(connection)
    }

    pub(super) fn signal(&self, signal: Signal) {
        let child = self.child.lock().unwrap();
        let pid = Pid::from_child(child.as_ref().expect("it runs"));
        kill_process(pid, signal).unwrap();
    }

    pub(super) fn kill(&self) {
        if let Some(mut child) = self.child.lock().unwrap().take() {
            child.kill().unwrap();
            caretaker().has_ended(child.id());
            child.wait().unwrap();
        }
    }

    /// Of a process that doesn't run.
    pub(super) fn remove_data(&self) {
        let _ = std::fs::remove_file(self.file("dump.rdb"));
        let _ = std::fs::remove_dir_all(self.file("appendonlydir"));
    }

    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(self.file("log")).unwrap_or_else(|_| {
            let configuration = std::fs::read_to_string(self.file("configuration"));
            format!(
                "it has written no log; its configuration:\n{}",
                configuration.unwrap()
            )
        })
    }
}

impl Drop for Process {
    /// Of a test that fails one sees what the servers had to say.
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("log of the server on port {}:\n{}", self.port, self.log());
        }
        self.kill();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn free_port() -> u16 {
    loop {
        let port = fastrand::u16(PORTS);
        let is_free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if is_free(port) && is_free(bus_port(port)) {
            return port;
        }
    }
}
