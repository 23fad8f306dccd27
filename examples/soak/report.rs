//! What the user sees: progress, and the totals.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::time::Duration;

use indicatif::{BinaryBytes, HumanCount, ProgressBar, ProgressStyle};

use crate::memory::Measured;
use crate::operations::OPERATIONS;
use crate::posts::Post;
use crate::request::Plan;
use crate::tally::{
    BORN, BURST, CANCELLED, DEADLOCKS, DESTROYED, FAILED, HOOKED, MADE, RAN, REGISTERED, SHRUNK,
    STALLED, TABLES, Tally,
};

/// Rounds between two lines where there is no terminal.
const LINES: u64 = 10;

/// A line on standard error that is kept up to date, or one now and then.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    seconds: u64,
}

impl Progress {
    pub(crate) fn new(seconds: u64) -> Self {
        let template = "{wide_bar} {pos} of {len} s: {msg}";
        let style = ProgressStyle::with_template(template).expect("the template is valid");
        let bar = || ProgressBar::new(seconds).with_style(style);
        Self {
            bar: io::stderr().is_terminal().then(bar),
            seconds,
        }
    }

    pub(crate) fn show(&self, round: u64, elapsed: Duration, live: u64, resident: Option<u64>) {
        let values = HumanCount(MADE.sum());
        let memory = resident.map_or("unknown".into(), |bytes| BinaryBytes(bytes).to_string());
        let line = format!(
            "{values} values, {} alive, memory {memory}",
            HumanCount(live)
        );
        let elapsed = elapsed.as_secs();
        match &self.bar {
            Some(bar) => {
                bar.set_position(elapsed);
                bar.set_message(line);
            }
            None if round.is_multiple_of(LINES) => {
                eprintln!("soak: {elapsed} of {} s: {line}", self.seconds)
            }
            None => {}
        }
    }

    pub(crate) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// The totals, as a table.
pub(crate) fn totals(
    plan: Plan,
    took: Duration,
    rounds: u64,
    measured: &Measured,
    posts: &[Arc<Post>],
) -> String {
    let mut table = Table::default();
    table.title("No violation");
    table.count("seconds", took.as_secs());
    table.count("threads", plan.threads as u64);
    table.line("seed", &plan.seed.to_string());
    table.count("censuses", rounds + measured.times as u64);

    table.title("Values and callbacks");
    let tallies: [(&str, &Tally); 13] = [
        ("values made", &MADE),
        ("values destroyed", &DESTROYED),
        ("of these in bursts", &BURST),
        ("values that met a drop hook", &HOOKED),
        ("callbacks registered", &REGISTERED),
        ("callbacks that ran", &RAN),
        ("callbacks cancelled", &CANCELLED),
        ("builders that failed or panicked", &FAILED),
        ("deadlocks answered with an error", &DEADLOCKS),
        ("threads started", &BORN),
        ("interners and maps made", &TABLES),
        ("tables shrunk", &SHRUNK),
        ("stalls", &STALLED),
    ];
    for (label, tally) in tallies {
        table.count(label, tally.sum());
    }

    table.title("Operations");
    let mut all = 0;
    for (number, operation) in OPERATIONS.iter().enumerate() {
        let done = posts.iter().map(|post| post.done(number)).sum();
        table.count(operation.name, done);
        all += done;
    }
    table.count("all", all);

    table.title("Resident memory");
    table.memory(measured, plan);
    table.0
}

/// The text of a table.
#[derive(Default)]
struct Table(String);

impl Table {
    fn title(&mut self, title: &str) {
        self.0 += &format!("\n{title}\n");
    }

    fn count(&mut self, label: &str, count: u64) {
        self.line(label, &HumanCount(count).to_string());
    }

    fn bytes(&mut self, label: &str, bytes: u64) {
        self.line(label, &BinaryBytes(bytes).to_string());
    }

    fn line(&mut self, label: &str, value: &str) {
        self.0 += &format!("  {label:<40}{value:>20}\n");
    }

    fn memory(&mut self, measured: &Measured, plan: Plan) {
        if measured.times == 0 {
            return self.line("not measured on this system", "");
        }
        self.bytes("most at a census", measured.peak);
        self.count("times measured with nothing held", measured.times as u64);
        self.bytes("first of these, without tables", measured.first);
        self.bytes("most, while it warmed up", measured.warm);
        self.bytes("most of all", measured.most);
        self.bytes("last", measured.last);
        match measured.bound() {
            Some(bound) if plan.judge_memory => self.bytes("bound", bound),
            Some(_) => self.line("bound", "ignored"),
            None => self.line("bound", "the run was too short"),
        }
    }
}
