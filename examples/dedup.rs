//! How much memory interning saves, on files of yours: every word of every file is interned, by all
//! cores, and every handle kept until the sums are done. Then all handles go, and the table is empty.
//!
//! ```text
//! cargo run --release --example dedup -- PATH...
//! ```

use std::cmp::Reverse;
use std::env;
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::iter::Sum;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::Utf8Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hapax::{Interned, Interner, MemoryUsage};
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};

const USAGE: &str = "\
Usage: dedup [PATH]...

Interns every word of every file at or below each PATH, and shows how much memory that
saves against one String a word. A word is what stands between white space. Without a
PATH, the folder of the crate is read.

  -h, --help    show this
  --            what follows is a PATH, also if it begins with a dash

Links to files are read. Links to folders are followed only if they are named as a PATH,
so that loops of links do no harm. Special files (sockets, pipes, devices) are not read.
Links to folders and special files are counted.

Files that can't be read, hold a word of 16 MiB or more, or are not UTF-8 are named and
counted, and so are folders that can't be listed. None of their words counts. What is
named twice is read twice.

Bytes are those requested from the allocator. It adds a few to each String, and to each
distinct value. The rate is that of splitting and interning, without reading.

Exit status: 0, also if some files could not be read; 1 if the result could not be
printed; 2 if an option is unknown or a PATH doesn't exist.
";

/// How much of a file is read at once.
const PIECE: usize = 64 << 10;

/// Words are shorter than this: what a thread's buffer may grow to.
const LONGEST_WORD: usize = 16 << 20;

/// How many of the refused files are named.
const NAMED: usize = 20;

fn main() -> ExitCode {
    match run() {
        Ok(status) => status,
        // Nobody reads any more, as in `dedup | head -1`.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dedup: the result could not be printed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<ExitCode> {
    let paths = match Request::parse(env::args_os().skip(1)) {
        Ok(Request::Help) => return print(USAGE),
        Ok(Request::Read(paths)) => paths,
        Err(problem) => {
            eprintln!("dedup: {problem}");
            return Ok(ExitCode::from(2));
        }
    };
    let mut words = Interner::<str>::new();

    let mut listing = Listing::of(paths);
    let began = Instant::now();
    let mut harvests = intern_files(&words, &listing.files);
    let took = began.elapsed();
    for harvest in &mut harvests {
        listing.refused.append(&mut harvest.refused);
    }
    complain(&mut listing.refused);
    print(&report(&listing, &harvests, &words.memory_usage(), took))?;

    let began = Instant::now();
    drop_all(harvests);
    let took = began.elapsed();

    let (left, usage) = (words.len(), words.memory_usage());
    words.shrink_to_fit();
    print(&report_end(took, left, &usage, &words.memory_usage()))
}

fn print(text: &str) -> io::Result<ExitCode> {
    io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// What the command line asks for.
enum Request {
    Help,
    Read(Vec<PathBuf>),
}

impl Request {
    fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Self, String> {
        let mut paths = Vec::new();
        let mut options = true;
        for argument in arguments {
            match argument.as_encoded_bytes() {
                b"--" if options => options = false,
                b"-h" | b"--help" if options => return Ok(Self::Help),
                [b'-', _, ..] if options => {
                    let option = argument.display();
                    return Err(format!("unknown option '{option}'; see 'dedup --help'"));
                }
                _ => paths.push(PathBuf::from(argument)),
            }
        }
        if paths.is_empty() {
            paths.push(env!("CARGO_MANIFEST_DIR").into());
        }
        for path in &paths {
            fs::metadata(path).map_err(|error| format!("'{}': {error}", path.display()))?;
        }
        Ok(Self::Read(paths))
    }
}

/// A file or folder that could not be read.
struct Refused {
    path: PathBuf,
    why: Refusal,
}

/// Why a file or folder could not be read.
enum Refusal {
    NotUtf8,
    Unreadable(io::Error),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotUtf8 => f.write_str("not UTF-8"),
            Self::Unreadable(error) => error.fmt(f),
        }
    }
}

impl Refused {
    fn unreadable(&self) -> bool {
        matches!(self.why, Refusal::Unreadable(_))
    }
}

/// What lies below the paths.
#[derive(Default)]
struct Listing {
    /// Files and their sizes, the largest first, so that none is begun when the others are done.
    files: Vec<(u64, PathBuf)>,
    folder_links: usize,
    special: usize,
    refused: Vec<Refused>,
}

impl Listing {
    fn of(paths: Vec<PathBuf>) -> Self {
        let style = ProgressStyle::with_template("{human_pos} files found").expect("it is valid");
        let bar = ProgressBar::new_spinner().with_style(style);

        let mut listing = Self::default();
        let mut folders = Vec::new();
        for path in paths {
            listing.add(path, false, &mut folders);
        }
        while let Some(folder) = folders.pop() {
            if let Err(error) = listing.add_folder(&folder, &mut folders) {
                listing.refuse(folder, error);
            }
            bar.set_position(listing.files.len() as u64);
        }
        listing
            .files
            .sort_unstable_by_key(|&(size, _)| Reverse(size));
        bar.finish_and_clear();
        listing
    }

    fn add_folder(&mut self, folder: &Path, folders: &mut Vec<PathBuf>) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let link = entry.file_type()?.is_symlink();
            self.add(entry.path(), link, folders);
        }
        Ok(())
    }

    /// Finds out what a path is. Links lead to what they point at, except that a folder behind a `link`
    /// is not entered.
    fn add(&mut self, path: PathBuf, link: bool, folders: &mut Vec<PathBuf>) {
        match fs::metadata(&path) {
            Ok(data) if data.is_file() => self.files.push((data.len(), path)),
            Ok(data) if data.is_dir() && link => self.folder_links += 1,
            Ok(data) if data.is_dir() => folders.push(path),
            Ok(_) => self.special += 1,
            Err(error) => self.refuse(path, error),
        }
    }

    fn refuse(&mut self, path: PathBuf, error: io::Error) {
        let why = Refusal::Unreadable(error);
        self.refused.push(Refused { path, why });
    }
}

/// Sums of one thread, or of all.
#[derive(Clone, Copy, Default)]
struct Tally {
    files: usize,
    file_bytes: usize,
    /// Words of the files that could be read to their ends. There is a handle for each.
    words: usize,
    /// Bytes of these words.
    text: usize,
    /// Words interned, also those of files that turned out not to be UTF-8.
    interned: usize,
    /// The time of splitting and interning.
    busy: Duration,
}

impl Sum for Tally {
    fn sum<I: Iterator<Item = Self>>(tallies: I) -> Self {
        tallies.fold(Self::default(), |a, b| Self {
            files: a.files + b.files,
            file_bytes: a.file_bytes + b.file_bytes,
            words: a.words + b.words,
            text: a.text + b.text,
            interned: a.interned + b.interned,
            busy: a.busy + b.busy,
        })
    }
}

/// What one thread brings home.
#[derive(Default)]
struct Harvest {
    tally: Tally,
    handles: Vec<Interned<str>>,
    refused: Vec<Refused>,
}

impl Harvest {
    /// Interns the words of a file. Those of a file that can't be read to its end are let go of again,
    /// and with them go the values that nobody else holds.
    fn read(
        &mut self,
        words: &Interner<str>,
        (size, path): &(u64, PathBuf),
        buffer: &mut Vec<u8>,
        bar: &ProgressBar,
    ) {
        let mut bytes = 0;
        let before = (self.handles.len(), self.tally.text);
        let outcome = read_pieces(path, buffer, |read, piece| {
            bytes += read;
            bar.inc(read as u64);

            let began = Instant::now();
            let known = self.handles.len();
            // One pin for all words of the piece; none while the file is read.
            let words = words.pin();
            for word in piece.split_whitespace() {
                self.handles.push(words.intern(word));
                self.tally.text += word.len();
            }
            self.tally.interned += self.handles.len() - known;
            self.tally.busy += began.elapsed();
        });
        match outcome {
            Ok(()) => {
                self.tally.files += 1;
                self.tally.file_bytes += bytes;
            }
            Err(why) => {
                self.handles.truncate(before.0);
                self.tally.text = before.1;
                // Its rest won't be read.
                bar.dec_length(size.saturating_sub(bytes as u64));
                let path = path.clone();
                self.refused.push(Refused { path, why });
            }
        }
        self.tally.words = self.handles.len();
    }
}

/// Interns the words of all files, with one thread a core.
fn intern_files(words: &Interner<str>, files: &[(u64, PathBuf)]) -> Vec<Harvest> {
    let template = "{wide_bar} {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}";
    let style = ProgressStyle::with_template(template).expect("the template is valid");
    let bar = ProgressBar::new(files.iter().map(|(size, _)| size).sum()).with_style(style);
    let threads = thread::available_parallelism().map_or(1, NonZero::get);

    let next = AtomicUsize::new(0);
    let work = || {
        let mut harvest = Harvest::default();
        let mut buffer = vec![0; PIECE];
        while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            harvest.read(words, file, &mut buffer, &bar);
        }
        // So that there are 8 bytes a handle and no spare room.
        harvest.handles.shrink_to_fit();
        harvest
    };
    let harvests = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let harvests = threads.into_iter().map(|thread| thread.join().unwrap());
        harvests.collect()
    });
    bar.finish_and_clear();
    harvests
}

/// Reads a file and calls `each` for every piece: with the bytes read, and the text that they complete. No
/// word is cut in two.
fn read_pieces(
    path: &Path,
    buffer: &mut Vec<u8>,
    mut each: impl FnMut(usize, &str),
) -> Result<(), Refusal> {
    let mut file = File::open(path)?;
    // The beginning of a word, which waits in the buffer for its rest.
    let mut filled = 0;
    loop {
        if filled == buffer.len() {
            if filled >= LONGEST_WORD {
                return Err(io::Error::other("a word of 16 MiB or more").into());
            }
            buffer.resize(2 * filled, 0);
        }
        let read = match file.read(&mut buffer[filled..]) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            read => read?,
        };
        let last = buffer[filled..][..read]
            .iter()
            .rposition(u8::is_ascii_whitespace);
        let whole = match last {
            _ if read == 0 => filled,
            Some(last) => filled + last + 1,
            None => 0,
        };
        filled += read;
        each(read, str::from_utf8(&buffer[..whole])?);
        if read == 0 {
            return Ok(());
        }
        buffer.copy_within(whole..filled, 0);
        filled -= whole;
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Unreadable(error)
    }
}

impl From<Utf8Error> for Refusal {
    fn from(_: Utf8Error) -> Self {
        Self::NotUtf8
    }
}

/// Names what was refused, on standard error: the first few, what could not be read before what isn't
/// UTF-8.
fn complain(refused: &mut [Refused]) {
    refused.sort_by(|a, b| (b.unreadable(), &a.path).cmp(&(a.unreadable(), &b.path)));
    for Refused { path, why } in refused.iter().take(NAMED) {
        eprintln!("dedup: {}: {why}", path.display());
    }
    if refused.len() > NAMED {
        eprintln!("dedup: and {} more", refused.len() - NAMED);
    }
}

/// Lets go of all handles, with as many threads as have collected them.
fn drop_all(harvests: Vec<Harvest>) {
    thread::scope(|scope| {
        for harvest in harvests {
            scope.spawn(move || drop(harvest));
        }
    });
}

/// The text of a table.
#[derive(Default)]
struct Table(String);

impl Table {
    fn title(&mut self, title: &str) {
        self.0 += &format!("\n{title}\n");
    }

    fn count(&mut self, label: &str, count: usize) {
        self.line(label, &HumanCount(count as u64).to_string(), "");
    }

    fn bytes(&mut self, label: &str, bytes: usize) {
        let human = HumanBytes(bytes as u64).to_string();
        self.line(label, &HumanCount(bytes as u64).to_string(), &human);
    }

    fn seconds(&mut self, label: &str, time: Duration) {
        self.line(label, &format!("{:.3}", time.as_secs_f64()), "");
    }

    fn line(&mut self, label: &str, value: &str, unit: &str) {
        let line = format!("  {label:<42}{value:>18}  {unit:>10}");
        self.0 += line.trim_end();
        self.0.push('\n');
    }
}

/// What was read, and what it takes as strings and as handles.
fn report(listing: &Listing, harvests: &[Harvest], usage: &MemoryUsage, took: Duration) -> String {
    let total: Tally = harvests.iter().map(|harvest| harvest.tally).sum();
    let (unreadable, not_utf8): (Vec<_>, Vec<_>) =
        listing.refused.iter().partition(|file| file.unreadable());
    let mut table = Table::default();

    table.title("What was read");
    table.count("files read", total.files);
    table.bytes("bytes in them", total.file_bytes);
    table.count("files that are not UTF-8", not_utf8.len());
    table.count("files and folders that can't be read", unreadable.len());
    table.count("links to folders, not followed", listing.folder_links);
    table.count("special files, not read", listing.special);
    table.count("tokens", total.words);
    table.count("distinct values", usage.entries);

    table.title("Bytes, if every token were a String");
    let each = size_of::<String>();
    let headers = total.words * each;
    let strings = headers + total.text;
    table.bytes(&format!("headers, {each} each"), headers);
    table.bytes("text on the heap", total.text);
    table.bytes("all strings", strings);

    table.title("Bytes, as every token is a handle");
    let each = size_of::<Interned<str>>();
    let handles = total.words * each;
    let held = handles + usage.total();
    table.bytes(&format!("handles, {each} each"), handles);
    table.bytes("text of the distinct values", usage.values);
    table.bytes("headers of the distinct values", usage.nodes - usage.values);
    table.bytes("the interner's table", usage.table);
    table.bytes("handles and interner", held);
    let factor = quotient(strings as f64, held as f64);
    let factor = factor.map_or("-".into(), |factor| format!("{factor:.2}"));
    table.line("factor saved", &factor, "");

    table.title("Speed");
    table.count("threads", harvests.len());
    table.seconds("seconds of reading and interning", took);
    let rate = quotient(total.interned as f64, total.busy.as_secs_f64());
    let rate = rate.map_or("-".into(), |rate| HumanCount(rate as u64).to_string());
    table.line("interns per second and thread", &rate, "");
    table.0
}

/// What is left when all handles are gone.
fn report_end(took: Duration, left: usize, usage: &MemoryUsage, shrunk: &MemoryUsage) -> String {
    let mut table = Table::default();
    table.title("All handles dropped");
    table.seconds("seconds of dropping", took);
    table.count("values left", left);
    table.bytes("bytes left, the interner's table", usage.total());
    table.bytes("bytes left after shrink_to_fit", shrunk.total());
    table.0
}

/// `None` if there is nothing to divide by.
fn quotient(a: f64, b: f64) -> Option<f64> {
    (b > 0.0).then(|| a / b)
}
