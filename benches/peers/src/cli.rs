//! The command line.

use std::io;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::peers::{self, Entry};
use crate::rows::Row;
use crate::{contestants, machine};

/// Compares hapax with other weak interners
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub comparison: Comparison,
}

#[derive(Subcommand)]
pub enum Command {
    /// Take one sample and print it as JSON: what the comparison calls for each of its samples
    #[command(hide = true)]
    Sample(Sample),
}

/// What to compare.
#[derive(Args)]
pub struct Comparison {
    /// Measure these rows only
    #[arg(long, value_delimiter = ',', value_name = "ROW,…")]
    pub rows: Vec<Row>,
    /// Measure with so many threads; 1, 2, 4, 8 and so on up to the number of cores if nothing is said
    #[arg(long, value_delimiter = ',', value_name = "NUMBER,…")]
    pub threads: Vec<NonZeroUsize>,
    /// Measure these peers only
    #[arg(long, value_delimiter = ',', value_name = "PEER,…",
        value_parser = PossibleValuesParser::new(contestants::names()))]
    pub peers: Vec<String>,
    /// Samples of each figure
    #[arg(long, value_name = "NUMBER", default_value = "11")]
    pub rounds: NonZeroUsize,
    /// Where the results go; the machine is described in a file beside it
    #[arg(long, value_name = "PATH", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/results.csv"))]
    pub csv: PathBuf,
    /// Three rounds of a tenth of the work, to see that all is well: figures that nobody should cite
    #[arg(long, conflicts_with = "rounds")]
    pub quick: bool,
}

impl Comparison {
    pub fn rows(&self) -> Vec<Row> {
        if self.rows.is_empty() {
            Row::value_variants().to_vec()
        } else {
            self.rows.clone()
        }
    }

    pub fn threads(&self) -> Vec<usize> {
        if self.threads.is_empty() {
            doubled_up_to(machine::cores())
        } else {
            self.threads.iter().map(|threads| threads.get()).collect()
        }
    }

    pub fn rounds(&self) -> usize {
        if self.quick { 3 } else { self.rounds.get() }
    }

    pub fn operations(&self, row: Row) -> usize {
        row.operations() / if self.quick { 10 } else { 1 }
    }
}

/// One, two, four and so on, and all.
fn doubled_up_to(cores: usize) -> Vec<usize> {
    let doubled = std::iter::successors(Some(1), |threads| Some(threads * 2));
    doubled
        .take_while(|&threads| threads < cores)
        .chain([cores])
        .collect()
}

/// One sample.
#[derive(Args)]
pub struct Sample {
    #[arg(long, value_parser = peer())]
    pub peer: Entry,
    #[arg(long)]
    pub row: Row,
    #[arg(long, default_value = "1")]
    pub threads: NonZeroUsize,
    /// How often each thread does it; as often as in a comparison if nothing is said
    #[arg(long)]
    pub operations: Option<NonZeroUsize>,
    /// Random numbers depend on it
    #[arg(long, default_value = "0")]
    pub round: u64,
}

/// Takes the sample and prints it.
pub fn take(sample: &Sample) -> Result<()> {
    let operations = sample
        .operations
        .map_or(sample.row.operations(), NonZeroUsize::get);
    let figures = (sample.peer.sample)(sample.row, sample.threads.get(), operations, sample.round);
    serde_json::to_writer(io::stdout(), &figures).context("can't print the sample")
}

fn peer() -> impl TypedValueParser<Value = Entry> {
    PossibleValuesParser::new(peers::ALL.iter().map(|peer| peer.name))
        .map(|name| *peers::find(&name).expect("the parser knows the names"))
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::{Arguments, doubled_up_to};

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn lists_are_separated_by_commas() {
        let arguments = [
            "peers",
            "--rows",
            "hit,clone+drop",
            "--peers",
            "hapax,papaya+weak",
        ];
        let comparison = Arguments::parse_from(arguments).comparison;
        assert_eq!(comparison.rows().len(), 2);
        assert_eq!(comparison.peers, ["hapax", "papaya+weak"]);
    }

    #[test]
    fn all_cores_are_used_in_the_end() {
        assert_eq!(doubled_up_to(1), [1]);
        assert_eq!(doubled_up_to(2), [1, 2]);
        assert_eq!(doubled_up_to(6), [1, 2, 4, 6]);
        assert_eq!(doubled_up_to(8), [1, 2, 4, 8]);
    }
}
