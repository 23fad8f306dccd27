//! A cache of parsed documents, each with a temporary file, whose last handle may go on any worker: once its tree is
//! freed and its file removed on that worker, and once on the thread of a finalizer.
//!
//! ```text
//! cargo run --release --example finalizer -- [WORKERS [ROUNDS [LINES]]]
//! ```
//!
//! Each worker asks for ROUNDS documents of LINES lines, and keeps the last few. Printed is how long the workers waited
//! in dropping handles. Then it shows what `main` can ask of a finalizer at its end: what is pending, what is alive and
//! who keeps it, what has gone wrong.

use std::collections::VecDeque;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::iter::Peekable;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};
use std::{env, fs, io, mem, process, thread};

use hapax::WeakMap;
use hapax::finalize::{BoxError, Finalize, FinalizeError, Finalized, Finalizer};

/// So many documents are there to ask for, and so many a worker keeps.
const DOCUMENTS: u64 = 100;
const KEPT: usize = 8;

/// What users of a document see. The body of a value is dropped where its last handle is, so it has nothing that takes
/// long.
struct Document {
    number: u64,
    sections: usize,
}

/// What must be put away: the core of a document. It moves to the finalizer's thread.
#[derive(Default)]
struct Parts {
    sections: Vec<Section>,
    file: PathBuf,
}

struct Section {
    title: String,
    below: Vec<Section>,
}

impl Parts {
    fn put_away(self) -> Result<(), BoxError> {
        let Self { sections, file } = self;
        drop(sections);
        fs::remove_file(&file).map_err(|error| format!("{}: {error}", name(&file)).into())
    }
}

/// With a finalizer: it gets the core, and may fail.
impl Finalize for Document {
    type Core = Parts;

    fn finalize(parts: Parts) -> Result<(), BoxError> {
        parts.put_away()
    }
}

/// Without one: a destructor, which runs on the thread that drops the last handle.
struct Plain {
    document: Document,
    parts: Parts,
}

impl Deref for Plain {
    type Target = Document;

    fn deref(&self) -> &Document {
        &self.document
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        if let Err(error) = mem::take(&mut self.parts).put_away() {
            eprintln!("finalizer: {error}");
        }
    }
}

/// Where the files lie, gone in the end.
struct Folder {
    path: PathBuf,
    files: AtomicUsize,
}

impl Folder {
    fn new() -> io::Result<Self> {
        let path = env::temp_dir().join(format!("hapax-finalizer-{}", process::id()));
        fs::create_dir(&path)?;
        let files = AtomicUsize::new(0);
        Ok(Self { path, files })
    }

    /// Fetches a document into a file of its own and parses it. The file of an earlier one with the same number may not
    /// have been removed yet: a finalizer runs after the entry is gone, so the number can't be the name.
    fn fetch(&self, number: u64, lines: usize) -> io::Result<(Document, Parts)> {
        let name = format!("{number}-{}", self.files.fetch_add(1, Relaxed));
        let file = self.path.join(name);
        let text: String = (0..lines)
            .map(|line| format!("{:1$}line {line} of document {number}\n", "", line % 4))
            .collect();
        fs::write(&file, text)?;
        let text = fs::read_to_string(&file)?;
        let sections = parse(&mut text.lines().peekable(), 0);
        let document = Document {
            number,
            sections: count(&sections),
        };
        Ok((document, Parts { sections, file }))
    }

    fn files_left(&self) -> io::Result<usize> {
        Ok(fs::read_dir(&self.path)?.count())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// The sections from some depth on: a line that is indented more belongs to the one above.
fn parse<'a>(lines: &mut Peekable<impl Iterator<Item = &'a str>>, depth: usize) -> Vec<Section> {
    let mut sections = Vec::new();
    while let Some(line) = lines.next_if(|line| indent(line) >= depth) {
        sections.push(Section {
            title: line.trim_start().to_owned(),
            below: parse(lines, indent(line) + 1),
        });
    }
    sections
}

fn count(sections: &[Section]) -> usize {
    sections.iter().map(|one| 1 + count(&one.below)).sum()
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

fn name(file: &Path) -> String {
    file.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

struct Sizes {
    workers: usize,
    rounds: usize,
    lines: usize,
}

impl Sizes {
    const USAGE: &str = "Usage: finalizer [WORKERS [ROUNDS [LINES]]]";

    fn from_arguments(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut sizes = [2, 2000, 1000];
        let mut places = sizes.iter_mut();
        for argument in arguments {
            let place = places
                .next()
                .ok_or_else(|| format!("'{argument}' is one argument too many"))?;
            *place = match argument.parse() {
                Ok(size @ 1..=1_000_000) => size,
                _ => return Err(format!("'{argument}' is no number from 1 to 1000000")),
            };
        }
        let [workers, rounds, lines] = sizes;
        Ok(Self {
            workers,
            rounds,
            lines,
        })
    }
}

/// Lets the workers use documents. How long each drop of a handle took, the shortest first.
fn work<V: Deref<Target = Document> + Send + Sync + 'static>(
    sizes: &Sizes,
    fetch: impl Fn(u64) -> io::Result<V> + Sync,
) -> io::Result<Vec<Duration>> {
    let documents = WeakMap::<u64, V>::new();
    let random = BuildHasherDefault::<DefaultHasher>::default();
    let worker = |worker: usize| {
        let mut times = Vec::with_capacity(sizes.rounds);
        let mut kept = VecDeque::with_capacity(KEPT + 1);
        for round in 0..sizes.rounds {
            // At random, so that several workers have the same one at times.
            let number = random.hash_one((worker, round)) % DOCUMENTS;
            let document = documents.try_get_or_insert_with(number, |&number| fetch(number))?;
            assert_eq!((document.number, document.sections), (number, sizes.lines));
            kept.push_back(document);
            if kept.len() > KEPT {
                let oldest = kept.pop_front();
                let start = Instant::now();
                drop(oldest);
                times.push(start.elapsed());
            }
        }
        for document in kept {
            let start = Instant::now();
            drop(document);
            times.push(start.elapsed());
        }
        Ok(times)
    };
    let mut times = Vec::new();
    thread::scope(|scope| {
        let worker = &worker;
        let workers: Vec<_> = (0..sizes.workers)
            .map(|number| scope.spawn(move || worker(number)))
            .collect();
        for worker in workers {
            let of_worker: io::Result<Vec<_>> = worker.join().expect("no worker panics");
            times.extend(of_worker?);
        }
        io::Result::Ok(())
    })?;
    times.sort_unstable();
    Ok(times)
}

fn print(name: &str, times: &[Duration]) {
    let micros = |share: f64| {
        let place = (share * (times.len() - 1) as f64).round() as usize;
        times[place].as_nanos() as f64 / 1000.0
    };
    println!(
        "{name:<12}{:>12.2}{:>12.2}{:>12.2}",
        micros(0.5),
        micros(0.99),
        micros(1.0)
    );
}

fn run(sizes: &Sizes) -> Result<(), BoxError> {
    let folder = Folder::new()?;

    println!("µs a drop         median        99 %     slowest");
    let plain = work(sizes, |number| {
        let (document, parts) = folder.fetch(number, sizes.lines)?;
        Ok(Plain { document, parts })
    })?;
    print("plain", &plain);

    // A finalizer of one's own. `Finalized::new` takes the one of the whole process.
    let finalizer = Finalizer::new()?;
    let fetch = |number| {
        let (document, parts) = folder.fetch(number, sizes.lines)?;
        io::Result::Ok(Finalized::new_in(&finalizer, document, parts))
    };
    print("finalized", &work(sizes, fetch)?);

    // The workers are through; the finalizer isn't, perhaps. An error says what it is at.
    println!("pending after the workers: {}", finalizer.pending());
    finalizer.drain_for(Duration::from_secs(30))?;
    println!("files left: {}", folder.files_left()?);

    // A finalizer that fails doesn't fail whoever dropped the handle: the hook is told.
    finalizer.on_error(|error| match error {
        FinalizeError::Failed { error, .. } => println!("error: {error}"),
        error => println!("error: {error}"),
    });
    let document = fetch(1)?;
    fs::remove_file(&Finalized::core(&document).file)?;
    drop(document);
    finalizer.drain_for(Duration::from_secs(30))?;

    // Somebody keeps a document, which shows at the end.
    let kept = fetch(2)?;
    for live in finalizer.shutdown_for(Duration::from_secs(30))? {
        println!("still alive: {live}");
    }
    let (document, parts) = folder.fetch(3, sizes.lines)?;
    let Err(refused) = Finalized::try_new_in(&finalizer, document, parts) else {
        return Err("a finalizer that was shut down has taken a document".into());
    };
    // It can be put away by hand.
    let (document, parts) = refused.value;
    println!("document {}: {}", document.number, refused.why);
    parts.put_away()?;

    // What was alive is finalized all the same.
    let first = &Finalized::core(&kept).sections[0].title;
    println!("kept: {first:?}, files left: {}", folder.files_left()?);
    drop(kept);
    finalizer.drain_for(Duration::from_secs(30))?;
    println!("files left: {}", folder.files_left()?);
    Ok(())
}

fn main() -> ExitCode {
    if env::args().any(|argument| argument == "-h" || argument == "--help") {
        println!("{}", Sizes::USAGE);
        return ExitCode::SUCCESS;
    }
    let sizes = match Sizes::from_arguments(env::args().skip(1)) {
        Ok(sizes) => sizes,
        Err(error) => {
            eprintln!("finalizer: {error}\n{}", Sizes::USAGE);
            return ExitCode::from(2);
        }
    };
    match run(&sizes) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("finalizer: {error}");
            ExitCode::FAILURE
        }
    }
}
