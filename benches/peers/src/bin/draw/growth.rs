//! The slowest calls while a table grows. Each point is the slowest since the table had half as many entries: a table
//! that doubles does so once in that time. Both axes are logarithmic, so that calls that move everything draw a
//! straight line upwards.

use crate::chart::{Axis, Chart, Curve, Scale, Tick};
use crate::figures::{Growth, Sheet, peers};
use crate::picture::{Anchor, LEADING, MARGIN, Picture, WIDTH, colour};

const HEIGHT: f64 = 340.0;

/// Room for the names of times, and of peers.
const TIMES: f64 = 56.0;
const PEERS: f64 = 132.0;

pub fn draw(sheet: &Sheet<Growth>) -> Picture {
    let mut picture =
        Picture::new("The slowest call that interns a new string while a table grows");
    let entries = |lines: &[Growth]| lines.iter().map(|line| line.entries).fold(1.0, f64::max);
    let times = || sheet.lines.iter().map(|line| line.slowest_ns.max(1.0));
    let (least, most) = (
        times().fold(f64::MAX, f64::min),
        times().fold(1.0, f64::max),
    );
    let (least, most) = (least.log10().floor() as i32, most.log10().ceil() as i32);
    let top = picture.below();
    let chart = Chart {
        x: Axis::new(
            Scale::Logarithmic,
            (1.0, entries(&sheet.lines)),
            (MARGIN + TIMES, WIDTH - MARGIN - PEERS),
        ),
        y: Axis::new(
            Scale::Logarithmic,
            (10_f64.powi(least), 10_f64.powi(most)),
            (top + HEIGHT, top),
        ),
    };
    let x_ticks: Vec<_> = powers(0, entries(&sheet.lines).log10() as i32, count).collect();
    let y_ticks: Vec<_> = powers(least, most, time).collect();
    chart.grid(&mut picture, &x_ticks, &y_ticks);
    chart.curves(&mut picture, &curves(sheet));
    picture.take(HEIGHT + 2.0 * LEADING);
    let middle = (MARGIN + TIMES + WIDTH - MARGIN - PEERS) / 2.0;
    let y = picture.below();
    picture.text(
        (middle, y),
        "dim",
        Anchor::Middle,
        "entries in the table; each point is the slowest call since there were half as many",
    );
    picture.take(1.6 * LEADING);
    picture.notes(&sheet.notes);
    picture
}

fn curves(sheet: &Sheet<Growth>) -> Vec<Curve<'_>> {
    let names = peers(sheet.lines.iter().map(|line| line.peer.as_str()));
    names
        .into_iter()
        .enumerate()
        .map(|(number, name)| Curve {
            name,
            class: colour(number),
            points: since_half(sheet, name),
        })
        .collect()
}

/// For each part of a peer's growth the slowest call since the table had half as many entries.
fn since_half(sheet: &Sheet<Growth>, peer: &str) -> Vec<(f64, f64)> {
    let own: Vec<_> = sheet
        .lines
        .iter()
        .filter(|line| line.peer == peer)
        .collect();
    let slowest = |entries: f64| {
        let half = |line: &&&Growth| line.entries > entries / 2.0 && line.entries <= entries;
        own.iter()
            .filter(half)
            .map(|line| line.slowest_ns)
            .fold(0.0, f64::max)
    };
    own.iter()
        .map(|line| (line.entries, slowest(line.entries)))
        .collect()
}

fn powers(from: i32, to: i32, name: fn(i32) -> String) -> impl Iterator<Item = Tick> {
    (from..=to).map(move |power| (10_f64.powi(power), name(power)))
}

/// A power of ten.
fn count(power: i32) -> String {
    match power {
        0..=2 => format!("{}", 10_u32.pow(power as u32)),
        3..=5 => format!("{} 000", 10_u32.pow(power as u32 - 3)),
        6.. => format!("{} million", 10_u32.pow(power as u32 - 6)),
        _ => String::new(),
    }
}

/// A power of ten, in nanoseconds.
fn time(power: i32) -> String {
    let (unit, power) = match power {
        ..3 => ("ns", power),
        3..6 => ("µs", power - 3),
        6..9 => ("ms", power - 6),
        _ => ("s", power - 9),
    };
    format!("{} {unit}", 10_u32.pow(power as u32))
}
