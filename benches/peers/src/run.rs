//! Takes all samples, each in a child process.
//!
//! Round by round: in each of them every figure gets one sample, so that a machine that slows down meets all alike.
//! The peers of a row follow each other at once, and a different one begins in each round.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::Comparison;
use crate::contestants::Contestant;
use crate::rows::Row;

/// What a figure is of. The peer is a number in the list of contestants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Of {
    pub threads: usize,
    pub row: Row,
    pub peer: usize,
}

/// Nanoseconds per operation, one number for each round.
pub type Samples = BTreeMap<Of, Vec<f64>>;

/// Runs the whole comparison.
pub fn compare(comparison: &Comparison, contestants: &[Contestant]) -> Result<Samples> {
    let rows = comparison.rows();
    let tasks = tasks(contestants, &rows, &comparison.threads());
    let count: usize = tasks.iter().map(|task| task.peers.len()).sum();
    ensure!(
        count > 0,
        "none of these peers takes part in these rows with so many threads"
    );

    let bar = ProgressBar::new((count * comparison.rounds()) as u64).with_style(
        ProgressStyle::with_template("{bar:30} {pos}/{len} samples, {eta} to go  {msg}")?,
    );
    let mut samples = Samples::new();
    for round in 0..comparison.rounds() {
        for &Task {
            row,
            threads,
            ref peers,
        } in &tasks
        {
            let operations = comparison.operations(row);
            let first = round % peers.len();
            for &peer in peers[first..].iter().chain(&peers[..first]) {
                let contestant = &contestants[peer];
                bar.set_message(format!("{}, {}", row.name(), contestant.name));
                for (row, figure) in contestant.sample(row, threads, operations, round)? {
                    if rows.contains(&row) {
                        let of = Of { threads, row, peer };
                        samples.entry(of).or_default().push(figure);
                    }
                }
                bar.inc(1);
            }
        }
    }
    bar.finish_and_clear();
    Ok(samples)
}

/// A row, perhaps with others that are sampled together with it, and the contestants that take part in it.
struct Task {
    row: Row,
    threads: usize,
    peers: Vec<usize>,
}

fn tasks(contestants: &[Contestant], rows: &[Row], threads: &[usize]) -> Vec<Task> {
    let mut rows: Vec<Row> = rows.iter().map(|row| row.sampled_with()).collect();
    rows.sort_unstable();
    rows.dedup();
    let all = threads
        .iter()
        .flat_map(|&threads| rows.iter().map(move |&row| (row, threads)));
    all.map(|(row, threads)| Task {
        row,
        threads,
        peers: (0..contestants.len())
            .filter(|&peer| contestants[peer].takes_part(row, threads))
            .collect(),
    })
    .filter(|task| !task.peers.is_empty())
    .collect()
}
