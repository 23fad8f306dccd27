//! A process that does what it is told.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use hapax::coord::{CoordError, Lease, Lock, LockGuard, Permit, Semaphore, SqliteStore};

/// The argument that makes this program an agent.
pub(crate) const ROLE: &str = "agent";

enum Held {
    Lock(LockGuard),
    Permit(Permit),
}

/// Reads commands until there are no more: each is answered with one line.
pub(crate) fn run(path: &str) {
    let store = match SqliteStore::options().label("agent").open(path) {
        Ok(store) => store,
        Err(error) => return println!("error {}", name(&error)),
    };
    println!("open");
    let mut held: Option<Held> = None;
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let words: Vec<_> = line.split(' ').collect();
        let answer = match *words {
            ["lock", key] => take(&mut held, Lock::new(&store, key).lock().map(Held::Lock)),
            ["strict", key] => take(
                &mut held,
                Lock::new(&store, key).strict().lock().map(Held::Lock),
            ),
            ["try", key] => take(&mut held, Lock::new(&store, key).try_lock().map(Held::Lock)),
            ["renewed", key, ms] => {
                let lock = Lock::new(&store, key).lease(Lease::Renewed(milliseconds(ms)));
                take(&mut held, lock.lock().map(Held::Lock))
            }
            ["fixed", key, ms] => {
                let lock = Lock::new(&store, key).lease(Lease::Fixed(milliseconds(ms)));
                take(&mut held, lock.lock().map(Held::Lock))
            }
            ["permit", key, permits] => {
                let semaphore = Semaphore::new(&store, key, permits.parse().unwrap());
                take(&mut held, semaphore.acquire().map(Held::Permit))
            }
            ["release"] => {
                let released = match held.take().expect("something is held") {
                    Held::Lock(guard) => guard.release(),
                    Held::Permit(permit) => permit.release(),
                };
                released.map_or_else(|error| error_line(&error), |()| "released".to_owned())
            }
            ["valid"] => guard(&held).is_valid().to_string(),
            ["lost"] => guard(&held)
                .lost()
                .wait_for(Duration::from_secs(20))
                .unwrap()
                .to_string(),
            ["fork", key] => fork(&store, path, key),
            ["limited", count, key] => limited(&store, count, key),
            ["start"] => start(&store),
            ["full", key] => full(&store, path, key),
            _ => crate::values::answer(&store, &words),
        };
        println!("{answer}");
    }
}

fn milliseconds(text: &str) -> Duration {
    Duration::from_millis(text.parse().unwrap())
}

fn take(held: &mut Option<Held>, new: Result<Held, CoordError>) -> String {
    match new {
        Ok(new) => {
            let token = match &new {
                Held::Lock(guard) => guard.fencing_token(),
                Held::Permit(permit) => permit.fencing_token(),
            };
            *held = Some(new);
            format!("held {token}")
        }
        Err(error) => error_line(&error),
    }
}

fn guard(held: &Option<Held>) -> &LockGuard {
    match held {
        Some(Held::Lock(guard)) => guard,
        _ => panic!("no lock is held"),
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

/// Forks, and says what the child was told when it tried to use the store. The child stays there, stopped by a pipe.
fn fork(store: &SqliteStore, path: &str, key: &str) -> String {
    let (mut reader, mut writer) = std::io::pipe().unwrap();
    // SAFETY: the child only uses what a fork leaves usable: it is what this test is about.
    match unsafe { libc::fork() } {
        0 => {
            let held = Lock::new(store, key).try_lock();
            let held = held.map_or_else(|error| name(&error), |_| "held".to_owned());
            // SQLite would take its parent's locks for its own.
            let opened = SqliteStore::open(path);
            let opened = opened.map_or_else(|error| name(&error), |_| "open".to_owned());
            writer
                .write_all(format!("{held} {opened}").as_bytes())
                .unwrap();
            drop(writer);
            // Until it is killed: it has copies of everything.
            loop {
                std::thread::sleep(Duration::from_secs(1));
            }
        }
        child => {
            drop(writer);
            let mut answer = String::new();
            std::io::Read::read_to_string(&mut reader, &mut answer).unwrap();
            format!("{answer} {child}")
        }
    }
}

/// Starts a program that inherits what keeps the session alive.
fn start(store: &SqliteStore) -> String {
    let inherited = store.inheritable().unwrap();
    let program = Command::new("sleep")
        .arg("600")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn();
    drop(inherited);
    format!("started {}", program.unwrap().id())
}

/// Says what comes of a lock when only so many more files can be opened.
fn limited(store: &SqliteStore, count: &str, key: &str) -> String {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let before = getrlimit(Resource::Nofile);
    let open = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64 - 1;
    let limit = Rlimit {
        current: Some(open + count.parse::<u64>().unwrap()),
        maximum: before.maximum,
    };
    setrlimit(Resource::Nofile, limit).unwrap();
    let answer = Lock::new(store, key).lock();
    setrlimit(Resource::Nofile, before).unwrap();
    answer.map_or_else(|error| error_line(&error), |_| "held".to_owned())
}

/// Says what comes of a lock with a long name when the log can hardly grow, as on a full disk.
fn full(store: &SqliteStore, path: &str, key: &str) -> String {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    // SAFETY: nobody here has a handler for that signal.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    let before = getrlimit(Resource::Fsize);
    let log = std::fs::metadata(format!("{path}-wal")).unwrap().len();
    let limit = Rlimit {
        current: Some(log + 8192),
        maximum: before.maximum,
    };
    setrlimit(Resource::Fsize, limit).unwrap();
    let answer = Lock::new(store, &key.repeat(20_000)).lock();
    setrlimit(Resource::Fsize, before).unwrap();
    answer.map_or_else(|error| error_line(&error), |_| "held".to_owned())
}

/// An agent as the test sees it. It is killed when this is dropped.
pub(crate) struct Agent {
    pub(crate) child: Child,
    lines: std::sync::mpsc::Receiver<String>,
}

impl Agent {
    /// One that has opened the store.
    pub(crate) fn open(path: &Path) -> Self {
        let mut agent = Self::start(path);
        assert_eq!(agent.answer(), "open");
        agent
    }

    /// One that is about to open the store.
    pub(crate) fn start(path: &Path) -> Self {
        Self::by(Command::new(std::env::current_exe().unwrap()), path)
    }

    /// The same by another program, which runs this one.
    pub(crate) fn by(mut command: Command, path: &Path) -> Self {
        command
            .arg(ROLE)
            .arg(path)
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
    pub(crate) fn answer(&mut self) -> String {
        self.lines
            .recv_timeout(Duration::from_secs(30))
            .expect("an answer in time")
    }

    /// The same, or nothing when it has ended.
    pub(crate) fn next(&mut self) -> Option<String> {
        match self.lines.recv_timeout(Duration::from_secs(30)) {
            Ok(line) => Some(line),
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => None,
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => panic!("it says nothing"),
        }
    }

    pub(crate) fn ask(&mut self, command: &str) -> String {
        self.tell(command);
        self.answer()
    }

    /// The token of what it gets.
    pub(crate) fn get(&mut self, command: &str) -> u64 {
        self.tell(command);
        self.token()
    }

    pub(crate) fn token(&mut self) -> u64 {
        let answer = self.answer();
        let token = answer
            .strip_prefix("held ")
            .unwrap_or_else(|| panic!("it says {answer:?}"));
        token.parse().unwrap()
    }

    /// Whether it says nothing for that long.
    pub(crate) fn is_silent_for(&mut self, time: Duration) -> bool {
        self.lines.recv_timeout(time).is_err()
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn lines(stdout: ChildStdout) -> std::sync::mpsc::Receiver<String> {
    let (send, lines) = std::sync::mpsc::channel();
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

/// Waits until something is so.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < end, "it took too long until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
