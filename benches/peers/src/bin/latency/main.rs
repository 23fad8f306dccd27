//! How long does a single call take while a table grows from nothing to ten million entries?
//!
//! A mean hides what growing costs: the one call that moves everything. So each call is timed, by itself. The calls
//! intern strings of 30 bytes that nobody has had before, on one thread, and all handles are kept. Each peer has a
//! fresh process, and figures are medians over some rounds of all peers.
//!
//! ```text
//! cargo run --release --manifest-path benches/peers/Cargo.toml --bin latency
//! ```
//!
//! The machine takes the processor away from a thread now and then, which is no peer's fault. A call during which
//! that happened is *switched*: the kernel has counted it, or a good part of the time is missing, as where a virtual
//! machine doesn't get its processor. On a busy machine there is no long call that isn't switched, so that the slowest
//! of the others flatters whoever has the longest ones. What compares peers is the time of a call *on the processor*.
//! It contains what the kernel did for the call, page faults above all, and interrupts; also what the host of a virtual
//! machine did without its knowledge, such as finding memory that the machine hadn't used before.
//!
//! | file | concept |
//! |---|---|
//! | `peers.rs` | the interners |
//! | `growth.rs` | what a child process does: grow one table, time each call |
//! | `usage.rs` | what the kernel knows of a thread |
//! | `report.rs` | medians over rounds, the tables, the files |

mod growth;
mod peers;
mod report;
mod usage;

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use clap::{Parser, ValueEnum};

use growth::Round;
use peers::{Dashmap, Hapax, Papaya, Scc};
use report::Report;

/// Times each call that interns a new string while a table grows, for this crate and its rivals.
#[derive(Parser)]
struct Arguments {
    /// Entries that the tables grow to.
    #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(u32).range(1_000..=100_000_000))]
    entries: u32,
    /// Times that each peer is measured; the figures are medians.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Where the figures go; those of the growth go into a file beside it.
    #[arg(long, value_name = "PATH", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/latency.csv"))]
    csv: PathBuf,
    /// What a child process does: one round of this peer, printed as JSON.
    #[arg(long, hide = true)]
    child: Option<Name>,
}

/// The peers, in the order of the tables.
#[derive(Clone, Copy, ValueEnum)]
enum Name {
    Hapax,
    Dashmap,
    Scc,
    Papaya,
}

impl Name {
    /// As it stands in tables and files.
    fn title(self) -> &'static str {
        match self {
            Self::Hapax => "hapax",
            Self::Dashmap => "dashmap+weak",
            Self::Scc => "scc-map+weak",
            Self::Papaya => "papaya+weak",
        }
    }

    fn grow(self, entries: u32) -> Round {
        match self {
            Self::Hapax => growth::grow::<Hapax>(entries),
            Self::Dashmap => growth::grow::<Dashmap>(entries),
            Self::Scc => growth::grow::<Scc>(entries),
            Self::Papaya => growth::grow::<Papaya>(entries),
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    if let Some(name) = arguments.child {
        serde_json::to_writer(io::stdout(), &name.grow(arguments.entries))?;
        // Ends here and now: taking ten million entries apart is no part of the question.
        std::process::exit(0);
    }
    let names = Name::value_variants();
    let mut rounds = vec![Vec::new(); names.len()];
    for round in 1..=arguments.rounds {
        for (name, rounds) in names.iter().zip(&mut rounds) {
            eprintln!("round {round} of {}: {}", arguments.rounds, name.title());
            rounds.push(in_a_child(*name, arguments.entries)?);
        }
    }
    let titles = names.iter().map(|name| name.title());
    let report = Report::new(arguments.entries, titles.zip(rounds).collect());
    report.write(&arguments.csv)?;
    print!("{report}");
    Ok(())
}

/// One round in a process of its own: with an allocator that nobody has used and memory that nobody has touched.
fn in_a_child(name: Name, entries: u32) -> Result<Round, Box<dyn Error>> {
    let value = name.to_possible_value().expect("all names are values");
    let child = Command::new(std::env::current_exe()?)
        .args(["--child", value.get_name()])
        .args(["--entries", &entries.to_string()])
        .stderr(Stdio::inherit())
        .output()?;
    if !child.status.success() {
        return Err(format!("{}: {}", name.title(), child.status).into());
    }
    Ok(serde_json::from_slice(&child.stdout)?)
}
