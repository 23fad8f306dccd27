//! Some rows over the number of threads: what all threads together do in a second.

use crate::chart::{Axis, Chart, Curve, Scale, Tick};
use crate::figures::{Figure, Kind, Sheet, peers, thread_counts};
use crate::picture::{Anchor, LEADING, MARGIN, Picture, WIDTH, colour};

/// The rows that are drawn, and what is done there.
const ROWS: [(&str, &str); 4] = [
    ("hit", "a random one of 10 000 live values"),
    ("hot", "the same live value, over and over"),
    ("churn", "a value that comes and goes"),
    ("window", "kept until 256 others came"),
];

const COLUMNS: usize = 2;
const PANEL: f64 = (WIDTH - 2.0 * MARGIN) / COLUMNS as f64;
const HEIGHT: f64 = 200.0;

/// Room for the numbers at the left, and for the names of peers.
const NUMBERS: f64 = 36.0;
const PEERS: f64 = 128.0;

/// `None` if so few numbers of threads were measured that there is no line to draw.
pub fn draw(sheet: &Sheet<Figure>) -> Option<Picture> {
    let counts = thread_counts(sheet);
    if counts.len() < 3 {
        return None;
    }
    let mut picture = Picture::new("Million operations per second, all threads together");
    let panels: Vec<_> = ROWS
        .iter()
        .map(|&(row, what)| (row, what, curves(sheet, row)))
        .collect();
    let panels: Vec<_> = panels
        .iter()
        .filter(|(.., curves)| !curves.is_empty())
        .collect();
    for line in panels.chunks(COLUMNS) {
        let mut left = MARGIN;
        for (row, what, curves) in line {
            draw_panel(&mut picture, left, (row, what), curves, &counts);
            left += PANEL;
        }
        picture.take(HEIGHT + 4.0 * LEADING);
    }
    picture.notes(&sheet.notes);
    Some(picture)
}

fn curves<'a>(sheet: &'a Sheet<Figure>, row: &str) -> Vec<Curve<'a>> {
    let shown = || {
        sheet
            .lines
            .iter()
            .filter(|figure| figure.kind != Kind::Floor)
    };
    // The number of its colour belongs to the peer, in all rows.
    let names = peers(shown().map(|figure| figure.peer.as_str()));
    let curve = |(number, name)| {
        let own: Vec<_> = shown()
            .filter(|figure| figure.row == row && figure.peer == name)
            .collect();
        let dashed = if own.first()?.kind == Kind::Other {
            " dashed"
        } else {
            ""
        };
        let point = |figure: &&Figure| {
            let threads = f64::from(figure.threads);
            (threads, threads * 1e3 / figure.median_ns)
        };
        // What has one number of threads only is no line.
        (own.len() > 1).then(|| Curve {
            name,
            class: colour(number) + dashed,
            points: own.iter().map(point).collect(),
        })
    };
    names.into_iter().enumerate().filter_map(curve).collect()
}

fn draw_panel(
    picture: &mut Picture,
    left: f64,
    (row, what): (&str, &str),
    curves: &[Curve],
    counts: &[u32],
) {
    let top = picture.below();
    picture.text((left + NUMBERS, top), "title", Anchor::Start, row);
    picture.text((left + NUMBERS + 58.0, top), "dim", Anchor::Start, what);
    let top = top + 12.0;
    let most = curves
        .iter()
        .flat_map(|curve| &curve.points)
        .map(|&(_, y)| y)
        .fold(1.0, f64::max);
    let step = step(most);
    let most = (most / step).ceil() * step;
    let chart = Chart {
        x: Axis::new(
            Scale::Logarithmic,
            (f64::from(counts[0]), f64::from(counts[counts.len() - 1])),
            (left + NUMBERS, left + PANEL - PEERS),
        ),
        y: Axis::new(Scale::Linear, (0.0, most), (top + HEIGHT, top)),
    };
    let x_ticks: Vec<Tick> = counts
        .iter()
        .map(|&count| (f64::from(count), count.to_string()))
        .collect();
    let steps = (most / step).round() as u32;
    let y_ticks: Vec<Tick> = (0..=steps)
        .map(|number| f64::from(number) * step)
        .map(|value| (value, value.to_string()))
        .collect();
    chart.grid(picture, &x_ticks, &y_ticks);
    chart.curves(picture, curves);
    let middle = (left + NUMBERS + left + PANEL - PEERS) / 2.0;
    picture.text(
        (middle, top + HEIGHT + 2.0 * LEADING),
        "dim",
        Anchor::Middle,
        "threads",
    );
}

/// A round number, some five of which make the whole.
fn step(whole: f64) -> f64 {
    let power = 10_f64.powf((whole / 5.0).log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
    steps
        .into_iter()
        .find(|step| whole / step <= 5.0)
        .unwrap_or(10.0 * power)
}
