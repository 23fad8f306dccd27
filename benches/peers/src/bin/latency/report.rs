//! Medians over rounds, the tables that are printed, the files that are written.

use std::error::Error;
use std::fmt;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use serde::Serialize;

use crate::growth::Round;

pub struct Report {
    entries: u32,
    peers: Vec<Measured>,
}

struct Measured {
    title: &'static str,
    /// By the slowest call, so that the one in the middle speaks for all.
    rounds: Vec<Round>,
    figures: Figures,
}

/// A row of `latency.csv`: medians over the rounds.
#[derive(Serialize)]
struct Figures {
    peer: &'static str,
    p50_ns: u64,
    p99_ns: u64,
    p9999_ns: u64,
    max_ns: u64,
    max_unswitched_ns: u64,
    max_on_processor_ns: u64,
}

/// A row of `latency.growth.csv`.
#[derive(Serialize)]
struct Growth {
    peer: &'static str,
    entries: u32,
    slowest_ns: u64,
}

impl Measured {
    fn new(title: &'static str, mut rounds: Vec<Round>) -> Self {
        rounds.sort_by_key(Round::max_on_processor);
        let figures = Figures {
            peer: title,
            p50_ns: median(&rounds, |round| round.p50),
            p99_ns: median(&rounds, |round| round.p99),
            p9999_ns: median(&rounds, |round| round.p9999),
            max_ns: median(&rounds, |round| round.max),
            max_unswitched_ns: median(&rounds, |round| round.max_unswitched),
            max_on_processor_ns: median(&rounds, Round::max_on_processor),
        };
        Self {
            title,
            rounds,
            figures,
        }
    }

    fn growth(&self) -> impl Iterator<Item = Growth> {
        (0..self.rounds[0].parts.len()).map(|part| Growth {
            peer: self.title,
            entries: self.rounds[0].parts[part].entries,
            slowest_ns: median(&self.rounds, |round| round.parts[part].slowest),
        })
    }
}

fn median<'a>(rounds: impl IntoIterator<Item = &'a Round>, figure: impl Fn(&Round) -> u64) -> u64 {
    let mut figures: Vec<_> = rounds.into_iter().map(figure).collect();
    figures.sort_unstable();
    let middle = figures.len() / 2;
    if figures.len() % 2 == 1 {
        figures[middle]
    } else {
        (figures[middle - 1] + figures[middle]) / 2
    }
}

impl Report {
    pub fn new(entries: u32, peers: Vec<(&'static str, Vec<Round>)>) -> Self {
        let peers = peers
            .into_iter()
            .map(|(title, rounds)| Measured::new(title, rounds))
            .collect();
        Self { entries, peers }
    }

    /// Writes both files, each of which says where its figures come from.
    pub fn write(&self, path: &Path) -> Result<(), Box<dyn Error>> {
        self.write_rows(path, self.peers.iter().map(|peer| &peer.figures))?;
        let growth = self.peers.iter().flat_map(Measured::growth);
        self.write_rows(&path.with_extension("growth.csv"), growth)
    }

    fn write_rows<R: Serialize>(
        &self,
        path: &Path,
        rows: impl Iterator<Item = R>,
    ) -> Result<(), Box<dyn Error>> {
        let mut file = File::create(path)?;
        for line in self.origin().lines() {
            writeln!(file, "# {line}")?;
        }
        let mut writer = csv::Writer::from_writer(file);
        rows.into_iter().try_for_each(|row| writer.serialize(row))?;
        Ok(writer.flush()?)
    }

    /// Machine, versions, and how it was measured.
    fn origin(&self) -> String {
        let rounds = self.peers.iter().flat_map(|peer| &peer.rounds);
        let clock = median(rounds, |round| round.clock);
        let versions = ["hapax", "dashmap", "scc", "papaya"]
            .map(|package| format!("{package} {}", version(package)))
            .join(", ");
        [
            machine(),
            versions,
            format!("one thread, {} strings of 30 bytes, all kept", self.entries),
            format!("rounds: {}, medians", self.peers[0].rounds.len()),
            format!("every figure contains two readings of the clock, {clock} ns"),
            "the growth: without the time that the processor was away".to_owned(),
        ]
        .join("\n")
    }
}

/// The processor's name, and how many cores there are.
fn machine() -> String {
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = processors
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("a processor without a name", |(_, name)| name.trim());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{name}, {cores} cores")
}

/// The version of a package that this one was built with: the latest in the lock file, since a rival of the other
/// benchmarks may use an earlier one.
fn version(package: &str) -> String {
    let lock = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.lock"));
    let lock = lock.unwrap_or_default();
    let version = lock
        .rsplit_once(&format!("name = \"{package}\"\nversion = \""))
        .and_then(|(_, rest)| rest.split_once('"'))
        .map_or("of unknown version", |(version, _)| version);
    version.to_owned()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.origin())?;
        let titles = [
            "",
            "p50",
            "p99",
            "p99.99",
            "slowest",
            "not switched",
            "on the processor",
            "of hapax's",
        ];
        row(f, titles)?;
        row(f, titles.map(|_| "---"))?;
        let least = self.peers[0].figures.max_on_processor_ns as f64;
        for Measured { title, figures, .. } in &self.peers {
            let times = figures.max_on_processor_ns as f64 / least;
            row(
                f,
                [
                    title,
                    &time(figures.p50_ns),
                    &time(figures.p99_ns),
                    &time(figures.p9999_ns),
                    &time(figures.max_ns),
                    &time(figures.max_unswitched_ns),
                    &time(figures.max_on_processor_ns),
                    &format!("{times:.2} times"),
                ],
            )?;
        }
        writeln!(
            f,
            "\nThe calls that took most themselves, in the round in the middle:\n"
        )?;
        row(
            f,
            [
                "",
                "on the processor",
                "in all",
                "at entries",
                "page faults",
            ],
        )?;
        row(f, ["---"; 5])?;
        for Measured { title, rounds, .. } in &self.peers {
            for slow in &rounds[rounds.len() / 2].slow {
                let (entries, faults) = (slow.entries.to_string(), slow.faults.to_string());
                row(
                    f,
                    [title, &time(slow.own()), &time(slow.ns), &entries, &faults],
                )?;
            }
        }
        Ok(())
    }
}

/// A row of a Markdown table.
fn row<const N: usize>(f: &mut fmt::Formatter<'_>, cells: [&str; N]) -> fmt::Result {
    writeln!(f, "| {} |", cells.join(" | "))
}

/// Three digits and a unit.
fn time(ns: u64) -> String {
    let ns = ns as f64;
    let (figure, unit) = match ns {
        ..1e3 => (ns, "ns"),
        1e3..1e6 => (ns / 1e3, "µs"),
        _ => (ns / 1e6, "ms"),
    };
    let decimals = if unit == "ns" || figure >= 100.0 {
        0
    } else if figure >= 10.0 {
        1
    } else {
        2
    };
    format!("{figure:.decimals$} {unit}")
}
