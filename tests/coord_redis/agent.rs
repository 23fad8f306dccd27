//! A process that does what it is told.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use hapax::coord::{CoordError, Lease, Lock, LockGuard, RedisStore};
use rustix::process::{Pid, Signal, kill_process};

use crate::place::Place;

/// The argument that makes this program an agent.
pub(crate) const ROLE: &str = "agent";

/// Reads commands until there are no more: each is answered with one line.
pub(crate) fn run(place: &str) {
    let store = match Place::from_text(place)
        .options()
        .label("agent")
        .open(&Place::from_text(place).url)
    {
        Ok(store) => store,
        Err(error) => return println!("error {}", name(&error)),
    };
    println!("open");
    let mut held: Option<LockGuard> = None;
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let words: Vec<_> = line.split(' ').collect();
        let answer = match *words {
            ["lock", key] => take(&mut held, Lock::new(&store, key).lock()),
            ["strict", key] => take(&mut held, Lock::new(&store, key).strict().lock()),
            ["renewed", key, ms] => {
                let lease = Lease::Renewed(Duration::from_millis(ms.parse().unwrap()));
                take(&mut held, Lock::new(&store, key).lease(lease).lock())
            }
            ["release"] => {
                let released = held.take().expect("something is held").release();
                released.map_or_else(|error| error_line(&error), |()| "released".to_owned())
            }
            ["valid"] => held
                .as_ref()
                .expect("something is held")
                .is_valid()
                .to_string(),
            ["lost"] => {
                let lost = held.as_ref().expect("something is held").lost();
                lost.wait_for(Duration::from_secs(20)).unwrap().to_string()
            }
            ["fork", key] => fork(&store, place, key),
            _ => panic!("what is {line:?}?"),
        };
        println!("{answer}");
    }
}

fn take(held: &mut Option<LockGuard>, new: Result<LockGuard, CoordError>) -> String {
    match new {
        Ok(new) => {
            let token = new.fencing_token();
            *held = Some(new);
            format!("held {token}")
        }
        Err(error) => error_line(&error),
    }
}

fn error_line(error: &CoordError) -> String {
    format!("error {}", name(error))
}

/// The name of the variant.
fn name(error: &CoordError) -> String {
    let debug = format!("{error:?}");
    debug.split([' ', '{']).next().unwrap().to_owned()
}

/// Forks, and says what the child was told when it tried to use the store.
fn fork(store: &RedisStore, place: &str, key: &str) -> String {
    let (mut reader, mut writer) = std::io::pipe().unwrap();
    // SAFETY: the child only uses what a fork leaves usable: it is what this test is about.
    match unsafe { libc::fork() } {
        0 => {
            let held = Lock::new(store, key).try_lock();
            let held = held.map_or_else(|error| name(&error), |_| "held".to_owned());
            let opened = Place::from_text(place).try_open();
            let opened = opened.map_or_else(|error| name(&error), |_| "open".to_owned());
            let answer = format!("{held} {opened}");
            writer.write_all(answer.as_bytes()).unwrap();
            // SAFETY: nothing of the parent's is to be dropped here.
            unsafe { libc::_exit(0) }
        }
        _ => {
            drop(writer);
            let mut answer = String::new();
            std::io::Read::read_to_string(&mut reader, &mut answer).unwrap();
            answer
        }
    }
}

/// An agent as the test sees it. It is killed when this is dropped.
pub(crate) struct Agent {
    pub(crate) child: Child,
    lines: Receiver<String>,
}

impl Agent {
    /// One that has opened the store.
    #[track_caller]
    pub(crate) fn open(place: &Place) -> Self {
        let mut agent = Self::by(Command::new(std::env::current_exe().unwrap()), place);
        assert_eq!(agent.answer(), "open");
        agent
    }

    /// The same by a command that has arguments of its own.
    pub(crate) fn by(mut command: Command, place: &Place) -> Self {
        command
            .arg(ROLE)
            .arg(place.to_text())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = lines(child.stdout.take().unwrap());
        Self { child, lines }
    }

    pub(crate) fn tell(&mut self, command: &str) {
        let stdin = self.child.stdin.as_mut().unwrap();
        stdin.write_all(format!("{command}\n").as_bytes()).unwrap();
    }

    /// What it says next. It has half a minute for that: the machine may be busy.
    #[track_caller]
    pub(crate) fn answer(&mut self) -> String {
        self.next().expect("it goes on")
    }

    /// The same, or nothing when it has ended.
    #[track_caller]
    pub(crate) fn next(&mut self) -> Option<String> {
        match self.lines.recv_timeout(Duration::from_secs(30)) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("it says nothing"),
        }
    }

    #[track_caller]
    pub(crate) fn ask(&mut self, command: &str) -> String {
        self.tell(command);
        self.answer()
    }

    /// The token of what it gets.
    #[track_caller]
    pub(crate) fn get(&mut self, command: &str) -> u64 {
        self.tell(command);
        self.token()
    }

    #[track_caller]
    pub(crate) fn token(&mut self) -> u64 {
        let answer = self.answer();
        let token = answer.strip_prefix("held ");
        let token = token.unwrap_or_else(|| panic!("it says {answer:?}"));
        token.parse().unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn lines(stdout: ChildStdout) -> Receiver<String> {
    let (send, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
