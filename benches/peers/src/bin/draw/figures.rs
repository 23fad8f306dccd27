//! The files that are read.

use std::error::Error;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// A file: its lines, and what it says of where they come from.
pub struct Sheet<L> {
    pub notes: Vec<String>,
    pub lines: Vec<L>,
}

/// One peer in one row of the comparison.
#[derive(Deserialize)]
pub struct Figure {
    pub row: String,
    pub threads: u32,
    pub peer: String,
    pub kind: Kind,
    pub median_ns: f64,
    pub q1_ns: f64,
    pub q3_ns: f64,
}

/// What a peer is in the comparison, in the order in which they are shown.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Ours,
    Rival,
    /// Does less than is asked for, and so can't be beaten.
    Floor,
    Other,
}

/// The slowest call of one peer in a part of its growth.
#[derive(Deserialize)]
pub struct Growth {
    pub peer: String,
    /// In the table after the part.
    pub entries: f64,
    pub slowest_ns: f64,
}

/// What is known of the machine, in a file beside the figures.
#[derive(Deserialize)]
struct Fact {
    fact: String,
    value: String,
}

impl<L: DeserializeOwned> Sheet<L> {
    /// `None` if there is no such file.
    pub fn read(path: &Path) -> Result<Option<Self>, Box<dyn Error>> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                eprintln!("{} isn't there", path.display());
                return Ok(None);
            }
            Err(error) => return Err(format!("{}: {error}", path.display()).into()),
        };
        let lines = parse(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut notes: Vec<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix('#'))
            .map(tidy)
            .collect();
        if let Ok(text) = fs::read_to_string(path.with_extension("machine.csv")) {
            notes.extend(
                parse(&text)?
                    .into_iter()
                    .map(|Fact { fact, value }| format!("{fact} {value}")),
            );
        }
        Ok(Some(Self { notes, lines }))
    }
}

fn tidy(note: &str) -> String {
    note.trim().to_owned()
}

fn parse<L: DeserializeOwned>(text: &str) -> csv::Result<Vec<L>> {
    csv::ReaderBuilder::new()
        .comment(Some(b'#'))
        .from_reader(text.as_bytes())
        .into_deserialize()
        .collect()
}

/// The numbers of threads that were measured, the least first.
pub fn thread_counts(sheet: &Sheet<Figure>) -> Vec<u32> {
    let mut counts: Vec<_> = sheet.lines.iter().map(|figure| figure.threads).collect();
    counts.sort_unstable();
    counts.dedup();
    counts
}

/// Each once, in the order of their first appearance.
pub fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = Vec::new();
    for name in names {
        if !seen.contains(&name) {
            seen.push(name);
        }
    }
    seen
}

/// This crate, among the peers.
pub const OURS: &str = "hapax";

/// Each peer once, ours first.
pub fn peers<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut peers = distinct(names);
    peers.sort_by_key(|&name| name != OURS);
    peers
}
