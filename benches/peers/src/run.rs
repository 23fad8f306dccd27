//! Takes all samples, each in a child process.
//!
//! Round by round: in each of them every figure gets one sample, so that a machine that slows down meets all alike.
//! The peers of a row follow each other at once, and a different one begins in each round.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::Comparison;
use crate::peers::Entry;
use crate::rows::{Figures, Row};

/// What a figure is of. The peer is a number in the list of all peers that were compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Of {
    pub threads: usize,
    pub row: Row,
    pub peer: usize,
}

/// All samples, and whose they are.
pub struct Samples {
    pub peers: Vec<Entry>,
    pub nanoseconds: BTreeMap<Of, Vec<f64>>,
}

/// Runs the whole comparison.
pub fn compare(comparison: &Comparison) -> Result<Samples> {
    let peers = comparison.peers();
    let rows = comparison.rows();
    let tasks = tasks(&peers, &rows, &comparison.threads());
    let length: usize = tasks.iter().map(|task| task.peers.len()).sum();
    ensure!(
        length > 0,
        "none of these peers takes part in these rows with so many threads"
    );

    let bar = ProgressBar::new((length * comparison.rounds()) as u64).with_style(
        ProgressStyle::with_template("{bar:30} {pos}/{len} samples, {eta} to go  {msg}")?,
    );
    let mut nanoseconds: BTreeMap<Of, Vec<f64>> = BTreeMap::new();
    for round in 0..comparison.rounds() {
        for task in &tasks {
            let first = round % task.peers.len();
            for &peer in task.peers[first..].iter().chain(&task.peers[..first]) {
                let name = peers[peer].name;
                bar.set_message(format!("{}, {name}", task.row.name()));
                let figures = sample(name, task, comparison.operations(task.row), round)?;
                for (row, figure) in figures.into_iter().filter(|(row, _)| rows.contains(row)) {
                    let threads = task.threads;
                    nanoseconds
                        .entry(Of { threads, row, peer })
                        .or_default()
                        .push(figure);
                }
                bar.inc(1);
            }
        }
    }
    bar.finish_and_clear();
    Ok(Samples { peers, nanoseconds })
}

/// A row, perhaps with others that are sampled together with it, and the peers that take part in it.
struct Task {
    row: Row,
    threads: usize,
    peers: Vec<usize>,
}

fn tasks(peers: &[Entry], rows: &[Row], threads: &[usize]) -> Vec<Task> {
    let mut rows: Vec<Row> = rows.iter().map(|row| row.sampled_with()).collect();
    rows.sort_unstable();
    rows.dedup();
    let all = threads
        .iter()
        .flat_map(|&threads| rows.iter().map(move |&row| (row, threads)));
    all.map(|(row, threads)| Task {
        row,
        threads,
        peers: (0..peers.len())
            .filter(|&peer| (peers[peer].takes_part)(row, threads))
            .collect(),
    })
    .filter(|task| !task.peers.is_empty())
    .collect()
}

/// Takes one sample in a process of its own.
fn sample(peer: &str, task: &Task, operations: usize, round: usize) -> Result<Figures> {
    let row = task.row.name();
    let threads = task.threads;
    let program = std::env::current_exe().context("can't find this program")?;
    let child = Command::new(program)
        .args(["sample", "--peer", peer, "--row", &row])
        .args(["--threads", &threads.to_string()])
        .args(["--operations", &operations.to_string()])
        .args(["--round", &round.to_string()])
        .stderr(Stdio::inherit())
        .output()
        .context("can't start a child process")?;
    ensure!(
        child.status.success(),
        "{peer} fails in row {row} with {threads} threads: {}",
        child.status
    );
    serde_json::from_slice(&child.stdout)
        .with_context(|| format!("{peer} prints no sample in row {row}"))
}
