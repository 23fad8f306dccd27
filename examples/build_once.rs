//! An index that is expensive to build, and that four programs want at the same time, each on four threads.
//!
//! It is built once. A single flight that processes share lets one of them build it while the others wait, and an interning
//! map lets one thread of each process ask for it, and shares it among the threads. When nobody there uses it any more it goes.
//!
//! `cargo run --features coord-sqlite --example build_once`

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{env, fs, process, thread};

use hapax::coord::{LockGuard, SingleFlight, SqliteStore};
use hapax::sync::Barrier;
use hapax::{Cached, WeakMap};

/// Which words stand in which lines.
type Index = BTreeMap<String, Vec<usize>>;

const PROCESSES: usize = 4;
const THREADS: usize = 4;
const TEXT: &str = "the quick brown fox\njumps over\nthe lazy dog";

fn main() {
    match env::args_os().nth(1) {
        Some(folder) => work(Path::new(&folder)),
        None => start(),
    }
}

/// The first process: starts the others, and counts what they have done.
fn start() {
    let folder = env::temp_dir().join(format!("hapax-build-once-{}", process::id()));
    fs::create_dir(&folder).expect("a new folder");
    let programs: Vec<_> = (0..PROCESSES)
        .map(|_| {
            let mut program = Command::new(env::current_exe().expect("this program"));
            program
                .arg(&folder)
                .stdout(Stdio::piped())
                .spawn()
                .expect("a process")
        })
        .collect();
    let (mut built, mut read) = (0, 0);
    for program in programs {
        let output = program.wait_with_output().expect("it runs");
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).expect("text");
        built += text.matches("built").count();
        read += text.matches("read").count();
    }
    println!("{PROCESSES} processes of {THREADS} threads: built {built} times, read {read} times");
    fs::remove_dir_all(&folder).expect("the folder is there");
}

/// Another one: its threads use the index.
fn work(folder: &Path) {
    let store = SqliteStore::open(folder.join("locks.db")).expect("a store");
    let indexes = WeakMap::new();
    let threads_done = Barrier::new(THREADS).expect("there are some");
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let index = index(&indexes, folder.join("index"), &store);
                assert_eq!(index["the"], [0, 2]);
                // Who comes later than the last one that uses it would read it again.
                threads_done.wait().expect("nobody breaks it");
            });
        }
    });
    assert!(indexes.is_empty());
}

/// The index in that file: this process's only one.
fn index(
    indexes: &WeakMap<PathBuf, Index>,
    file: PathBuf,
    store: &SqliteStore,
) -> Cached<PathBuf, Index> {
    indexes.get_or_init(file, |file| {
        let flight = SingleFlight::new(store, &file.to_string_lossy());
        let index = flight.get(|| read(file), |guard| write(file, guard));
        index.expect("the index")
    })
}

/// What another process has built, which is never over.
fn read(file: &Path) -> Result<Option<(Index, Duration)>, Box<dyn Error>> {
    if !file.try_exists()? {
        return Ok(None);
    }
    println!("read");
    Ok(Some((parse(&fs::read_to_string(file)?), Duration::MAX)))
}

fn write(file: &Path, guard: &LockGuard) -> Result<Index, Box<dyn Error>> {
    println!("built by token {}", guard.fencing_token());
    let index = build();
    // Whole or not at all: somebody may be killed while he writes.
    let new = file.with_extension("new");
    fs::write(&new, format(&index))?;
    fs::rename(&new, file)?;
    Ok(index)
}

/// That takes its time.
fn build() -> Index {
    thread::sleep(Duration::from_millis(200));
    let mut index = Index::new();
    for (number, line) in TEXT.lines().enumerate() {
        for word in line.split(' ') {
            index.entry(word.to_owned()).or_default().push(number);
        }
    }
    index
}

fn format(index: &Index) -> String {
    let line = |(word, lines): (&String, &Vec<usize>)| {
        let lines: Vec<_> = lines.iter().map(usize::to_string).collect();
        format!("{word} {}\n", lines.join(" "))
    };
    index.iter().map(line).collect()
}

fn parse(text: &str) -> Index {
    let line = |line: &str| {
        let mut words = line.split(' ');
        let word = words.next().unwrap_or_default().to_owned();
        (
            word,
            words.filter_map(|number| number.parse().ok()).collect(),
        )
    };
    text.lines().map(line).collect()
}
