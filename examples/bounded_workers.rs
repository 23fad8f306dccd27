//! A pool of workers over a bounded queue, as one writes it in Python with `threading.Condition` and
//! `BoundedSemaphore`: producers wait when the queue is full, workers when it is empty, and only so many of the workers
//! may do the expensive part at a time.
//!
//! ```text
//! cargo run --release --features sync --example bounded_workers -- PATH…
//! ```
//!
//! The job is to count the words of files; without arguments, those of this crate's own sources.

use std::collections::VecDeque;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io, thread};

use hapax::sync::{Condition, Mutex, Semaphore, WaitError, spawn};

/// A queue that holds at most so many items: Python's `queue.Queue`.
struct BoundedQueue<T> {
    state: Mutex<State<T>>,
    not_full: Condition,
    not_empty: Condition,
    capacity: usize,
}

struct State<T> {
    items: VecDeque<T>,
    is_closed: bool,
}

impl<T> BoundedQueue<T> {
    fn new(capacity: usize) -> Self {
        let state = State {
            items: VecDeque::new(),
            is_closed: false,
        };
        Self {
            state: Mutex::named("queue", state),
            not_full: Condition::new(),
            not_empty: Condition::new(),
            capacity,
        }
    }

    /// Waits until there is room.
    fn put(&self, item: T) -> Result<(), WaitError> {
        let state = self.state.lock()?;
        let mut state = self
            .not_full
            .wait_while(state, |state| state.items.len() == self.capacity)?;
        state.items.push_back(item);
        self.not_empty.notify_one(&state)?;
        Ok(())
    }

    /// Waits until there is an item; none comes any more when the queue is closed.
    fn take(&self) -> Result<Option<T>, WaitError> {
        let state = self.state.lock()?;
        let mut state = self
            .not_empty
            .wait_while(state, |state| state.items.is_empty() && !state.is_closed)?;
        let item = state.items.pop_front();
        self.not_full.notify_one(&state)?;
        Ok(item)
    }

    fn close(&self) -> Result<(), WaitError> {
        let mut state = self.state.lock()?;
        state.is_closed = true;
        self.not_empty.notify_all(&state)?;
        Ok(())
    }
}

fn put_files(path: &Path, queue: &BoundedQueue<PathBuf>) -> Result<(), Box<dyn Error>> {
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            put_files(&entry?.path(), queue)?;
        }
    } else {
        queue.put(path.to_owned())?;
    }
    Ok(())
}

fn count_words(path: &Path) -> io::Result<usize> {
    let text = fs::read(path)?;
    Ok(String::from_utf8_lossy(&text).split_whitespace().count())
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut paths: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    if paths.is_empty() {
        paths.push(Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    }
    let queue = Arc::new(BoundedQueue::<PathBuf>::new(4));
    // However many workers there are, two read at a time.
    let readers = Arc::new(Semaphore::bounded(2));
    let workers: Vec<_> = (0..thread::available_parallelism()?.get() + 2)
        .map(|_| {
            let (queue, readers) = (queue.clone(), readers.clone());
            spawn(move || {
                let (mut files, mut words) = (0, 0);
                while let Some(path) = queue.take()? {
                    let permit = readers.acquire()?;
                    match count_words(&path) {
                        Ok(count) => words += count,
                        Err(error) => eprintln!("{}: {error}", path.display()),
                    }
                    drop(permit);
                    files += 1;
                }
                Ok::<_, WaitError>((files, words))
            })
        })
        .collect::<Result<_, _>>()?;
    for path in &paths {
        put_files(path, &queue)?;
    }
    queue.close()?;
    let (mut files, mut words) = (0, 0);
    for (number, worker) in workers.into_iter().enumerate() {
        let (own_files, own_words) = worker.join().map_err(|error| error.to_string())??;
        println!("worker {number}: {own_files} files");
        files += own_files;
        words += own_words;
    }
    println!("{words} words in {files} files");
    Ok(())
}
