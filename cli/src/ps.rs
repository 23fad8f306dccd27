//! `hapax ps`: who holds what, and who waits for it.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::time::{Duration, SystemTime};

use hapax::coord::{HolderStatus, Kind, Mode, ProcessStatus, Status, WaiterStatus};
use serde::Serialize;

use crate::args::PsArgs;
use crate::exit::{self, Exit, Failure, STORE};
use crate::store::Url;

/// Changed when what is there already gets another meaning.
const VERSION: u32 = 1;

pub(crate) fn run(args: &PsArgs) -> Result<Exit, Failure> {
    let failure = |error| Failure::of(&error, STORE);
    let store = Url::of(&args.store)?.open_existing()?;
    let list = store.list().map_err(failure)?;
    let text = if args.json {
        lines(&list).map_err(|error| Failure::new(1, error))?
    } else {
        table(&list, SystemTime::now())
    };
    exit::output(io::stdout().write_all(text.as_bytes()))
}

/// A key, for programs.
#[derive(Serialize)]
struct Line<'a> {
    version: u32,
    key: &'a str,
    kind: String,
    holders: Vec<HolderLine<'a>>,
    /// The next one first.
    waiters: Vec<WaiterLine<'a>>,
}

#[derive(Serialize)]
struct HolderLine<'a> {
    mode: &'static str,
    permits: Option<u32>,
    slot: Option<u32>,
    token: u64,
    since: String,
    /// In seconds.
    remaining: Option<f64>,
    tag: Option<&'a str>,
    owner: Option<String>,
    #[serde(flatten)]
    process: ProcessLine<'a>,
}

#[derive(Serialize)]
struct WaiterLine<'a> {
    mode: &'static str,
    permits: Option<u32>,
    ticket: u64,
    since: String,
    owner: Option<String>,
    #[serde(flatten)]
    process: ProcessLine<'a>,
}

#[derive(Serialize)]
struct ProcessLine<'a> {
    host: &'a str,
    pid: u32,
    label: Option<&'a str>,
    command: Option<&'a str>,
}

fn lines(list: &[Status]) -> serde_json::Result<String> {
    let mut text = String::new();
    for status in list {
        let line = Line {
            version: VERSION,
            key: &status.key,
            kind: status.kind.to_string(),
            holders: status.holders.iter().map(HolderLine::of).collect(),
            waiters: status.waiters.iter().map(WaiterLine::of).collect(),
        };
        text += &serde_json::to_string(&line)?;
        text.push('\n');
    }
    Ok(text)
}

impl<'a> HolderLine<'a> {
    fn of(holder: &'a HolderStatus) -> Self {
        let (mode, permits) = mode(holder.mode);
        Self {
            mode,
            permits,
            slot: permits.map(|_| holder.slot),
            token: holder.fencing_token,
            since: date(holder.since),
            remaining: holder.remaining.as_ref().map(Duration::as_secs_f64),
            tag: holder.tag.as_deref(),
            owner: holder.owner.as_ref().map(|owner| owner.to_string()),
            process: ProcessLine::of(&holder.process),
        }
    }
}

impl<'a> WaiterLine<'a> {
    fn of(waiter: &'a WaiterStatus) -> Self {
        let (mode, permits) = mode(waiter.mode);
        Self {
            mode,
            permits,
            ticket: waiter.ticket,
            since: date(waiter.since),
            owner: waiter.owner.as_ref().map(|owner| owner.to_string()),
            process: ProcessLine::of(&waiter.process),
        }
    }
}

impl<'a> ProcessLine<'a> {
    fn of(process: &'a ProcessStatus) -> Self {
        Self {
            host: &process.host,
            pid: process.id,
            label: process.label.as_deref(),
            command: process.command.as_deref(),
        }
    }
}

/// For people: a line for each holder and each waiter.
fn table(list: &[Status], now: SystemTime) -> String {
    let mut rows =
        vec![["KEY", "MODE", "TOKEN", "SINCE", "REMAINING", "PROCESS"].map(String::from)];
    for status in list {
        // Said once, so that one sees where the next begins.
        let mut key = Some(visible(&status.key));
        let mut key = || key.take().unwrap_or_default();
        for holder in &status.holders {
            let remaining = holder.remaining.map_or_else(|| "-".to_owned(), length);
            let tag = holder.tag.as_deref();
            rows.push([
                key(),
                shown_mode(holder.mode, status.kind),
                holder.fencing_token.to_string(),
                age(holder.since, now),
                remaining,
                shown_process(&holder.process, tag),
            ]);
        }
        for (place, waiter) in status.waiters.iter().enumerate() {
            rows.push([
                key(),
                shown_mode(waiter.mode, status.kind),
                format!("waits: {}", place + 1),
                age(waiter.since, now),
                "-".to_owned(),
                shown_process(&waiter.process, None),
            ]);
        }
    }
    let width = |column: usize| {
        let widths = rows.iter().map(|row| row[column].chars().count());
        widths.max().unwrap_or_default()
    };
    let widths: [usize; 6] = std::array::from_fn(width);
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            // To write into a text can't fail.
            let _ = write!(line, "{cell:width$}  ");
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

fn mode(mode: Mode) -> (&'static str, Option<u32>) {
    match mode {
        Mode::Exclusive => ("exclusive", None),
        Mode::Shared => ("shared", None),
        Mode::Permit { of } => ("permit", Some(of)),
        _ => ("unknown", None),
    }
}

fn shown_mode(of: Mode, kind: Kind) -> String {
    match mode(of) {
        (mode, None) => mode.to_owned(),
        (mode, Some(permits)) if kind == Kind::Semaphore => format!("{mode} of {permits}"),
        (mode, Some(_)) => mode.to_owned(),
    }
}

fn shown_process(process: &ProcessStatus, tag: Option<&str>) -> String {
    let mut text = format!("{} {}", process.host, process.id);
    for (before, part, after) in [
        (" (", process.label.as_deref(), ")"),
        (" [", tag, "]"),
        (": ", process.command.as_deref(), ""),
    ] {
        if let Some(part) = part {
            text = text + before + part + after;
        }
    }
    visible(&text)
}

/// Others have written this, and it goes to a terminal.
fn visible(text: &str) -> String {
    let escape = |letter: char| {
        let is_shown = !letter.is_control();
        let (shown, escaped) = (
            is_shown.then_some(letter),
            (!is_shown).then(|| letter.escape_debug()),
        );
        shown.into_iter().chain(escaped.into_iter().flatten())
    };
    text.chars().flat_map(escape).collect()
}

/// With a date far away, for clocks that are wrong.
fn date(moment: SystemTime) -> String {
    humantime::format_rfc3339_millis(moment).to_string()
}

fn age(since: SystemTime, now: SystemTime) -> String {
    length(now.duration_since(since).unwrap_or_default())
}

/// In seconds; those that aren't over don't count.
fn length(time: Duration) -> String {
    humantime::format_duration(Duration::from_secs(time.as_secs())).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_have_written_does_nothing_to_the_terminal() {
        assert_eq!(visible("a\x1b[2Jb\nü'\u{9b}"), "a\\u{1b}[2Jb\\nü'\\u{9b}");
    }
}
