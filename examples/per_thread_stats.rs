//! Counts of each thread's own, merged when threads end: what lines, words and bytes the files of some folders have,
//! read by a pool of threads, while the main thread shows how far they are.
//!
//! ```text
//! cargo run --release --example per_thread_stats -- PATH...
//! ```
//!
//! A thread adds to its own counts, which nobody else writes. `Local::total` adds up what all of them have now and
//! what those have left that are done: no count is missing, and none is there twice, whenever it is called.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::ops::AddAssign;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use hapax::local::Local;

/// What one thread has counted.
#[derive(Default)]
struct Counts {
    files: AtomicU64,
    unreadable: AtomicU64,
    lines: AtomicU64,
    words: AtomicU64,
    bytes: AtomicU64,
}

/// What all threads have counted.
#[derive(Clone, Copy, Default)]
struct Total {
    files: u64,
    unreadable: u64,
    lines: u64,
    words: u64,
    bytes: u64,
}

impl AddAssign<&Counts> for Total {
    fn add_assign(&mut self, counts: &Counts) {
        self.files += counts.files.load(Relaxed);
        self.unreadable += counts.unreadable.load(Relaxed);
        self.lines += counts.lines.load(Relaxed);
        self.words += counts.words.load(Relaxed);
        self.bytes += counts.bytes.load(Relaxed);
    }
}

impl fmt::Display for Total {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            files,
            unreadable,
            lines,
            words,
            bytes,
        } = self;
        write!(
            f,
            "{files} files, {lines} lines, {words} words, {bytes} bytes; {unreadable} unreadable"
        )
    }
}

impl Counts {
    fn count(&self, path: &Path) {
        let counted = match self.read(path) {
            Ok(()) => &self.files,
            Err(error) => {
                eprintln!("{}: {error}", path.display());
                &self.unreadable
            }
        };
        counted.fetch_add(1, Relaxed);
    }

    /// Counts what is in a file, line by line.
    fn read(&self, path: &Path) -> io::Result<()> {
        let mut file = BufReader::new(File::open(path)?);
        let mut line = Vec::new();
        loop {
            line.clear();
            let bytes = file.read_until(b'\n', &mut line)?;
            if bytes == 0 {
                return Ok(());
            }
            let words = line.split(u8::is_ascii_whitespace);
            let words = words.filter(|word| !word.is_empty()).count();
            self.lines.fetch_add(1, Relaxed);
            self.words.fetch_add(words as u64, Relaxed);
            self.bytes.fetch_add(bytes as u64, Relaxed);
        }
    }
}

/// The files at or below a path. Links are left alone, except the path itself.
fn list(path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            list(&entry.path(), files)?;
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    let mut paths: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    if paths.is_empty() {
        paths.push(concat!(env!("CARGO_MANIFEST_DIR"), "/src").into());
    }
    let mut files = Vec::new();
    for path in &paths {
        if let Err(error) = list(path, &mut files) {
            eprintln!("{}: {error}", path.display());
            return ExitCode::FAILURE;
        }
    }
    let listed = files.len();

    let counts = Local::new(Counts::default)
        .on_thread_exit(|counts| {
            let mut own = Total::default();
            own += counts;
            println!("a thread has counted {own}");
        })
        .retire(Total::default(), |total, counts| *total += counts);
    let files = Mutex::new(files);
    let next = || files.lock().unwrap().pop();

    let total = thread::scope(|scope| {
        let (done, all_done) = mpsc::channel::<()>();
        let workers: Vec<_> = (0..thread::available_parallelism().map_or(2, usize::from))
            .map(|_| {
                let (counts, done) = (&counts, done.clone());
                scope.spawn(move || {
                    while let Some(path) = next() {
                        counts.with(|counts| counts.count(&path));
                    }
                    drop(done);
                })
            })
            .collect();
        drop(done);
        let pause = Duration::from_millis(100);
        while all_done.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
            println!("so far {}", counts.total());
        }
        // A thread's end is after its closure's.
        for worker in workers {
            worker.join().unwrap();
        }
        counts.total()
    });
    println!("in all {total}");
    assert_eq!(total.files + total.unreadable, listed as u64);
    ExitCode::SUCCESS
}
