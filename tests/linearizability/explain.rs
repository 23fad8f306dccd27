//! What a developer sees of a history that was refused.
//!
//! A history without an order is cut down first, to calls that are in each other's way by themselves. What may
//! be left out without making an order impossible that was possible before:
//!
//! - a call that changes nothing;
//! - all calls on one instance: there is one entry less, and nothing else notices, unless it may have displaced
//!   another one;
//! - one gain and one release of the same instance, if nothing of it hangs on how many handles it has meanwhile:
//!   so its releases needn't settle any more, and unwraps in vain go first. Its end comes after all of its gains
//!   and releases in any order, so that it finds the same number.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::check::Refusal;
use super::history::{History, Record, Stamp};
use super::search::{Stuck, linearize};
use super::spec::{Action, Inserter, Subject};
use super::steps::Step;

/// A report for people.
pub fn explain(history: &History, refusal: &Refusal) -> String {
    let mut text = format!("{refusal}\n");
    if let Refusal::NoOrder { steps, .. } = refusal {
        let core = core_of(steps);
        let places: BTreeSet<_> = core.iter().map(|step| step.record).collect();
        if places.len() < history.records.len() {
            text += "\nthese calls by themselves have none:\n\n";
            text += &table(history, |place| places.contains(&place));
        }
        if let Err(stuck) = linearize(&core) {
            text += &dead_end(history, &core, &stuck);
        }
    }
    text += "\neverything that happened († is the beginning of a destructor):\n\n";
    text += &table(history, |_| true);
    text
}

/// A part of the steps that has no order, and of which nothing more can be left out.
fn core_of(steps: &[Step]) -> Vec<Step> {
    let mut kept = steps.to_vec();
    let mut shrunk = true;
    while shrunk {
        shrunk = false;
        let mut subjects: Vec<_> = kept.iter().map(|step| step.subject).collect();
        subjects.sort_unstable();
        subjects.dedup();
        for subject in subjects {
            shrunk |= leave_out(&mut kept, |steps| without_instance(steps, subject));
        }
        let mut place = 0;
        while place < kept.len() {
            let left_out = leave_out(&mut kept, |steps| without_observer(steps, place))
                || leave_out(&mut kept, |steps| without_handle(steps, place));
            shrunk |= left_out;
            place += usize::from(!left_out);
        }
    }
    kept
}

/// Leaves something out, if there still is no order then.
fn leave_out(kept: &mut Vec<Step>, less: impl FnOnce(&[Step]) -> Option<Vec<Step>>) -> bool {
    match less(kept) {
        Some(less) if linearize(&less).is_err() => {
            *kept = less;
            true
        }
        _ => false,
    }
}

fn without_instance(steps: &[Step], subject: Subject) -> Option<Vec<Step>> {
    let inserts = |inserter, step: &Step| step.action == Action::Insert(inserter);
    let displaces = |step: &Step| step.subject == subject && inserts(Inserter::Displacing, step);
    let displaced = |step: &Step| inserts(Inserter::Displaced, step);
    let matters = steps.iter().any(displaces) && steps.iter().any(displaced);
    (!matters).then(|| {
        retain(steps, |step| {
            steps[step].subject != subject || steps[step].action == Action::Miss
        })
    })
}

fn without_observer(steps: &[Step], place: usize) -> Option<Vec<Step>> {
    let observes = steps[place].action.observes();
    observes.then(|| retain(steps, |step| step != place))
}

/// Without a gain, which isn't the insertion, and the next release.
fn without_handle(steps: &[Step], gain: usize) -> Option<Vec<Step>> {
    let Step {
        action, subject, ..
    } = steps[gain];
    let shares = |step: &Step| step.subject == subject && step.action == Action::Shared;
    if !action.gains() || matches!(action, Action::Insert(_)) || steps.iter().any(shares) {
        return None;
    }
    let releases = (0..steps.len())
        .filter(|&step| steps[step].subject == subject && steps[step].action == Action::Release);
    let release = releases.min_by_key(|&step| steps[step].span.answer)?;
    let mut less = retain(steps, |step| step != gain && step != release);
    for step in less.iter_mut().filter(|step| step.subject == subject) {
        step.deadline = Stamp::MAX;
    }
    Some(less)
}

fn retain(steps: &[Step], keep: impl Fn(usize) -> bool) -> Vec<Step> {
    let kept: Vec<_> = (0..steps.len()).filter(|&step| keep(step)).collect();
    let renumbered = |old: usize| kept.iter().position(|&step| step == old);
    kept.iter()
        .map(|&step| Step {
            after: steps[step].after.and_then(renumbered),
            ..steps[step]
        })
        .collect()
}

/// Says where the longest order ends.
fn dead_end(history: &History, steps: &[Step], stuck: &Stuck) -> String {
    let name = |&step: &usize| {
        let Step { action, record, .. } = steps[step];
        let record = &history.records[record];
        let what = match action {
            Action::Close => format!("end of the value that dies in \"{}\"", record.call),
            _ => format!("{} → {}", record.call, record.answer),
        };
        format!("    thread {}: {what}\n", record.thread)
    };
    let mut text = String::from("\nthe order that gets furthest:\n");
    text.extend(stuck.order.iter().map(name));
    if !stuck.next.is_empty() {
        text += "  then none of these is allowed:\n";
        text.extend(stuck.next.iter().map(name));
    }
    if !stuck.owing.is_empty() {
        text += "  and nobody has ended or revived in time what this left without a handle:\n";
        text.extend(stuck.owing.iter().map(name));
    }
    text
}

/// A line for each event, a column for each thread. A call and its answer are one line if nothing comes between.
fn table(history: &History, chosen: impl Fn(usize) -> bool) -> String {
    let records = history.records.iter().enumerate();
    let records = records.filter(|&(place, _)| chosen(place));
    let mut events: Vec<_> = records.flat_map(|(_, record)| events_of(record)).collect();
    // A call that has read a time came after the answer that moved the clock to it.
    events.sort_by_key(|event| (event.at, event.part != Part::Call));
    let events = joined(&events);
    let width_of = |thread| {
        let own = events.iter().filter(|event| event.thread == thread);
        own.map(|event| event.text.chars().count().max(TITLE)).max()
    };
    let threads = events.iter().map(|event| event.thread + 1).max();
    let columns: Vec<_> = (0..threads.unwrap_or(0))
        .filter_map(|thread| Some((thread, width_of(thread)?)))
        .collect();
    let title = |thread| match thread {
        0 => String::from("before, after"),
        thread => format!("thread {thread}"),
    };
    let mut text = line("time", &columns, title);
    for event in &events {
        let cell = |thread| match thread == event.thread {
            true => event.text.clone(),
            false => String::new(),
        };
        text += &line(&event.at.to_string(), &columns, cell);
    }
    text
}

/// The width of a title.
const TITLE: usize = "before, after".len();

fn line(time: &str, columns: &[(usize, usize)], cell: impl Fn(usize) -> String) -> String {
    let mut text = format!("{time:>10}");
    for &(thread, width) in columns {
        let _ = write!(text, " │ {:<width$}", cell(thread));
    }
    text.truncate(text.trim_end().len());
    text + "\n"
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Call,
    Death,
    Answer,
}

#[derive(Clone)]
struct Event {
    at: Stamp,
    part: Part,
    thread: usize,
    text: String,
}

fn events_of(record: &Record) -> Vec<Event> {
    let event = |at, part, text| Event {
        at,
        part,
        thread: record.thread,
        text,
    };
    let brings = record.own.map(|own| format!(" with {own}"));
    let call = format!("{}{}", record.call, brings.unwrap_or_default());
    let mut events = vec![event(record.span.call, Part::Call, call)];
    let deaths = record.deaths.iter();
    events.extend(deaths.map(|death| event(death.at, Part::Death, format!("  † {}", death.id))));
    let answer = format!("→ {}", record.answer);
    events.push(event(record.span.answer, Part::Answer, answer));
    events
}

fn joined(events: &[Event]) -> Vec<Event> {
    let mut lines: Vec<Event> = Vec::new();
    for event in events {
        match lines.last_mut() {
            Some(last)
                if (last.part, event.part) == (Part::Call, Part::Answer)
                    && last.thread == event.thread =>
            {
                last.text = format!("{} {}", last.text, event.text);
                last.part = Part::Answer;
            }
            _ => lines.push(event.clone()),
        }
    }
    lines
}
