//! `hapax completions` and `hapax man`: what is made from the definition of the command line.

use std::io::{self, Write};
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::args::Args;
use crate::exit::{self, Exit, Failure};

pub(crate) fn completions(shell: Shell) -> Result<Exit, Failure> {
    // To write to stdout directly would be to panic if nobody reads it.
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "hapax", &mut text);
    exit::output(io::stdout().write_all(&text))
}

pub(crate) fn man(directory: Option<&Path>) -> Result<Exit, Failure> {
    match directory {
        Some(directory) => exit::output(clap_mangen::generate_to(Args::command(), directory)),
        None => exit::output(print()),
    }
}

/// All pages, one after the other: `man -l -` shows them.
fn print() -> io::Result<()> {
    let mut command = Args::command().disable_help_subcommand(true);
    command.build();
    let mut text = Vec::new();
    Man::new(command.clone()).render(&mut text)?;
    for command in command.get_subcommands() {
        Man::new(command.clone()).render(&mut text)?;
    }
    io::stdout().write_all(&text)
}
