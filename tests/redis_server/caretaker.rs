//! Ends what a test program has left behind, however that has ended.
//!
//! It is a shell that reads the numbers of servers which were started and ended. When the test program ends, also when it
//! is killed, there is nothing more to read; then the shell kills those that are left and removes their directories.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

const SCRIPT: &str = r#"
trap '' HUP INT TERM
pids=
while read -r sign pid; do
    if [ "$sign" = + ]; then
        pids="$pids $pid"
    else
        left=
        for one in $pids; do
            [ "$one" = "$pid" ] || left="$left $one"
        done
        pids=$left
    fi
done
[ -z "$pids" ] || kill -9 $pids
rm -rf "$0" || { sleep 1; rm -rf "$0"; }
"#;

pub(super) struct Caretaker {
    directory: PathBuf,
    /// It outlives this program.
    shell: Mutex<Child>,
    directories: AtomicUsize,
}

/// That of this program.
pub(super) fn caretaker() -> &'static Caretaker {
    static CARETAKER: OnceLock<Caretaker> = OnceLock::new();
    CARETAKER.get_or_init(|| {
        let directory = tempfile::Builder::new().prefix("hapax-redis-").tempdir();
        let directory = directory.unwrap().keep();
        let shell = Command::new("sh")
            .arg("-c")
            .arg(SCRIPT)
            .arg(&directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // What ends a group of processes is not to end this one.
            .process_group(0)
            .spawn()
            .unwrap();
        Caretaker {
            directory,
            shell: Mutex::new(shell),
            directories: AtomicUsize::new(0),
        }
    })
}

impl Caretaker {
    /// A new directory.
    pub(super) fn directory(&self) -> PathBuf {
        let number = self.directories.fetch_add(1, Ordering::Relaxed);
        let directory = self.directory.join(number.to_string());
        std::fs::create_dir(&directory).unwrap();
        directory
    }

    pub(super) fn has_started(&self, pid: u32) {
        self.tell("+", pid);
    }

    /// To be told while the process can still be waited for, so that its number isn't somebody else's.
    pub(super) fn has_ended(&self, pid: u32) {
        self.tell("-", pid);
    }

    fn tell(&self, sign: &str, pid: u32) {
        let mut shell = self.shell.lock().unwrap();
        let lines = shell.stdin.as_mut().unwrap();
        let written = lines.write_all(format!("{sign} {pid}\n").as_bytes());
        written.unwrap();
    }
}
