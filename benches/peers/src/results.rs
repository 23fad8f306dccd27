//! What comes out: a summary of each figure, its ratio to the best rival, and the files that hold them.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::contestants::Contestant;
use crate::machine::Machine;
use crate::peers::Kind;
use crate::rows::Row;
use crate::run::Samples;
use crate::stats::Summary;

/// One peer in one row.
#[derive(Clone, Debug)]
pub struct Figure {
    pub row: Row,
    pub threads: usize,
    pub peer: &'static str,
    pub kind: Kind,
    pub summary: Summary,
    /// Of its median to that of the best rival, if there is a rival.
    pub ratio: Option<f64>,
}

/// By threads, then row, then peer.
pub fn summarise(contestants: &[Contestant], samples: &Samples) -> Vec<Figure> {
    let mut figures: Vec<Figure> = samples
        .iter()
        .map(|(of, nanoseconds)| Figure {
            row: of.row,
            threads: of.threads,
            peer: contestants[of.peer].name,
            kind: contestants[of.peer].kind,
            summary: Summary::of(nanoseconds),
            ratio: None,
        })
        .collect();
    let ratios: Vec<_> = figures
        .iter()
        .map(|figure| {
            let best = best_rival(&figures, figure.row, figure.threads)?;
            Some(figure.summary.median / best.summary.median)
        })
        .collect();
    for (figure, ratio) in figures.iter_mut().zip(ratios) {
        figure.ratio = ratio;
    }
    figures
}

/// The rival with the least median.
pub fn best_rival(figures: &[Figure], row: Row, threads: usize) -> Option<&Figure> {
    rivals(figures, row, threads)
        .min_by(|a, b| f64::total_cmp(&a.summary.median, &b.summary.median))
}

pub fn rivals(figures: &[Figure], row: Row, threads: usize) -> impl Iterator<Item = &Figure> {
    figures.iter().filter(move |figure| {
        figure.kind == Kind::Rival && figure.row == row && figure.threads == threads
    })
}

/// How much of a rival's time hapax may take.
pub fn limit(row: Row, rival: &str) -> f64 {
    match (row, rival) {
        (Row::CloneDrop, _) => 1.05,
        (Row::Churn, "string_cache") => 1.25,
        _ => 1.0,
    }
}

/// A line of the file.
#[derive(Serialize)]
struct Line {
    row: Row,
    threads: usize,
    peer: &'static str,
    kind: Kind,
    rounds: usize,
    median_ns: String,
    q1_ns: String,
    q3_ns: String,
    min_ns: String,
    max_ns: String,
    ratio: Option<String>,
}

impl From<&Figure> for Line {
    fn from(figure: &Figure) -> Self {
        let rounded = |nanoseconds: f64| format!("{nanoseconds:.2}");
        let Summary {
            count,
            min,
            first_quartile,
            median,
            third_quartile,
            max,
        } = figure.summary;
        Self {
            row: figure.row,
            threads: figure.threads,
            peer: figure.peer,
            kind: figure.kind,
            rounds: count,
            median_ns: rounded(median),
            q1_ns: rounded(first_quartile),
            q3_ns: rounded(third_quartile),
            min_ns: rounded(min),
            max_ns: rounded(max),
            ratio: figure.ratio.map(|ratio| format!("{ratio:.3}")),
        }
    }
}

/// Finds out now what would go wrong when all samples are taken.
pub fn check(path: &Path) -> Result<()> {
    for path in [path, &machine_path(path)] {
        let open = OpenOptions::new().append(true).create(true).open(path);
        open.with_context(|| format!("can't write {}", path.display()))?;
    }
    Ok(())
}

fn machine_path(path: &Path) -> PathBuf {
    path.with_extension("machine.csv")
}

/// Writes the figures, and beside them the machine: `results.csv` and `results.machine.csv`.
pub fn save(path: &Path, machine: &Machine, figures: &[Figure]) -> Result<()> {
    write(path, figures.iter().map(Line::from))?;
    let facts = machine.iter().map(|(fact, value)| Fact { fact, value });
    write(&machine_path(path), facts)
}

#[derive(Serialize)]
struct Fact<'a> {
    fact: &'a str,
    value: &'a str,
}

fn write(path: &Path, lines: impl Iterator<Item = impl Serialize>) -> Result<()> {
    let all = || -> csv::Result<()> {
        let mut file = csv::Writer::from_path(path)?;
        for line in lines {
            file.serialize(line)?;
        }
        Ok(file.flush()?)
    };
    all().with_context(|| format!("can't write {}", path.display()))
}

#[cfg(test)]
pub mod tests {
    use super::{Figure, best_rival};
    use crate::peers::Kind;
    use crate::rows::Row;
    use crate::stats::Summary;

    pub fn figure(row: Row, peer: &'static str, kind: Kind, nanoseconds: f64) -> Figure {
        Figure {
            row,
            threads: 1,
            peer,
            kind,
            summary: Summary::of(&[nanoseconds]),
            ratio: None,
        }
    }

    #[test]
    fn only_rivals_are_the_best_rival() {
        let figures = [
            figure(Row::Hit, "hapax", Kind::Ours, 1.0),
            figure(Row::Hit, "slow", Kind::Rival, 9.0),
            figure(Row::Hit, "quick", Kind::Rival, 8.0),
            figure(Row::Hit, "floor", Kind::Floor, 2.0),
            figure(Row::Hit, "other", Kind::Other, 3.0),
            figure(Row::Hot, "elsewhere", Kind::Rival, 4.0),
        ];
        let best = best_rival(&figures, Row::Hit, 1).map(|best| best.peer);
        assert_eq!(best, Some("quick"));
        assert!(best_rival(&figures, Row::Hit, 2).is_none());
    }
}
