//! Draws what the benchmarks have measured: SVG pictures for the documentation.
//!
//! ```text
//! cargo run --release --manifest-path benches/peers/Cargo.toml --bin draw
//! ```
//!
//! Figures of which there is no file aren't drawn.
//!
//! | file | concept |
//! |---|---|
//! | `figures.rs` | the files that are read |
//! | `bars.rs` | `peers-N.svg`: all rows and peers with N threads |
//! | `growth.rs` | `latency.svg`: the slowest calls while a table grows |
//! | `scaling.rs` | `scaling.svg`: some rows over the number of threads |
//! | `chart.rs` | axes, lines and their names, for the latter two |
//! | `picture.rs` | shapes, text, colours |

mod bars;
mod chart;
mod figures;
mod growth;
mod picture;
mod scaling;

use std::error::Error;
use std::path::{Path, PathBuf};

use clap::Parser;

use figures::Sheet;
use picture::Picture;

/// Draws SVG pictures of what the benchmarks have measured.
#[derive(Parser)]
struct Arguments {
    /// What the comparison of peers has written.
    #[arg(long, value_name = "PATH", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/results.csv"))]
    peers: PathBuf,
    /// What `latency` has written beside its figures.
    #[arg(long, value_name = "PATH", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/latency.growth.csv"))]
    growth: PathBuf,
    /// The folder for the pictures.
    #[arg(long, value_name = "PATH", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs"))]
    docs: PathBuf,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let mut pictures = Vec::new();
    if let Some(sheet) = Sheet::<figures::Figure>::read(&arguments.peers)? {
        for threads in figures::thread_counts(&sheet) {
            pictures.push((format!("peers-{threads}.svg"), bars::draw(&sheet, threads)));
        }
        pictures.extend(scaling::draw(&sheet).map(|picture| ("scaling.svg".to_owned(), picture)));
    }
    if let Some(sheet) = Sheet::<figures::Growth>::read(&arguments.growth)? {
        pictures.push(("latency.svg".to_owned(), growth::draw(&sheet)));
    }
    if pictures.is_empty() {
        return Err("there is nothing to draw".into());
    }
    for (name, picture) in pictures {
        save(&arguments.docs.join(name), picture)?;
    }
    Ok(())
}

fn save(path: &Path, picture: Picture) -> Result<(), Box<dyn Error>> {
    picture.save(path)?;
    println!("{}", path.display());
    Ok(())
}
