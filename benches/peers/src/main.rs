//! Compares hapax with other weak interners. The README beside says how to read what it prints.
//!
//! This program runs itself: each sample is taken by a child process (`sample`), because several peers have one
//! table per process that can't be emptied, and so that no peer works in memory that another has torn up.

mod cli;
mod contestants;
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
    results::check(&comparison.csv)?;
    let contestants = contestants::prepare(&comparison.peers)?;
    let before = machine::busy();
    if before > 10.0 {
        eprintln!("others use {before:.0} % of this machine: don't trust the figures");
    }
    let samples = run::compare(&comparison, &contestants)?;
    let after = machine::busy();

    let mut machine = machine::describe();
    machine.push((
        "used by others before and after",
        format!("{before:.0} % and {after:.0} %"),
    ));
    machine.extend(
        contestants
            .iter()
            .map(|peer| (peer.name, peer.version.clone())),
    );
    let results = results::summarise(&contestants, &samples);
    print!("{}", report::markdown(&machine, &results));
    results::save(&comparison.csv, &machine, &results)
}
