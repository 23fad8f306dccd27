//! The check of one history, and what it says when it refuses one.

use std::fmt;

use super::history::History;
use super::program::Key;
use super::rules;
use super::search::linearize;
use super::steps::{Index, Step};

/// Why a history is refused.
#[derive(Clone, Debug)]
pub enum Refusal {
    /// It breaks one of `rules.rs`.
    Rule(String),
    /// The calls of a key have no order that the specification allows.
    NoOrder { key: Key, steps: Vec<Step> },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(what) => f.write_str(what),
            Self::NoOrder { key, .. } => {
                write!(f, "the calls of key {key} have no order that is allowed")
            }
        }
    }
}

/// Whether the table was allowed to do what it did.
pub fn check(history: &History) -> Result<(), Refusal> {
    let index = Index::new(history);
    rules::check(&index).map_err(Refusal::Rule)?;
    for key in index.keys() {
        let steps = index.steps_of(key);
        if linearize(&steps).is_err() {
            return Err(Refusal::NoOrder { key, steps });
        }
    }
    Ok(())
}
