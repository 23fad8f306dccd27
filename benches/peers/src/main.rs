//! Compares hapax with other weak interners. The README beside says how to read what it prints.
//!
//! This program runs itself: each sample is taken by a child process (`sample`), because several peers have one
//! table per process that can't be emptied, and so that no peer works in memory that another has torn up.

mod cli;
mod keys;
mod machine;
mod peers;
mod report;
mod results;
mod rows;
mod run;
mod stats;
mod team;

use anyhow::Result;
use clap::Parser;

use cli::{Arguments, Command};

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(Command::Sample(sample)) = arguments.command {
        return cli::take(&sample);
    }
    let comparison = arguments.comparison;
    let machine = machine::describe()?;
    let samples = run::compare(&comparison)?;
    let results = results::summarise(&samples);
    print!("{}", report::markdown(&machine, &results));
    results::save(&comparison.csv, &machine, &results)
}
