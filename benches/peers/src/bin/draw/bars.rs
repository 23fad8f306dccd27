//! All rows and peers with one number of threads: a panel for each row, a bar for each peer.
//!
//! Rows differ by a factor of 50, so the bars of a row show times of its best rival's. What it is in nanoseconds
//! stands beside them.

use crate::figures::{Figure, Kind, Sheet, distinct};
use crate::picture::{Anchor, LEADING, MARGIN, Picture, WIDTH};

const COLUMNS: usize = 2;
const GUTTER: f64 = 36.0;
const PANEL: f64 = (WIDTH - 2.0 * MARGIN - GUTTER) / COLUMNS as f64;

/// Room for a peer's name, and for its figure.
const NAME: f64 = 116.0;
const FIGURE: f64 = 54.0;
const BARS: f64 = PANEL - NAME - FIGURE;

const BAR: f64 = 11.0;

/// Bars end here, in times of the best rival's; longer ones are broken.
const LONGEST: f64 = 2.5;

pub fn draw(sheet: &Sheet<Figure>, threads: u32) -> Picture {
    let s = if threads == 1 { "" } else { "s" };
    let mut picture = Picture::new(&format!("Nanoseconds per operation, {threads} thread{s}"));
    legend(&mut picture);
    let rows = distinct(sheet.lines.iter().map(|figure| figure.row.as_str()));
    let panels: Vec<_> = rows
        .iter()
        .map(|row| Panel::new(sheet, threads, row))
        .collect();
    let panels: Vec<_> = panels.into_iter().flatten().collect();
    for line in panels.chunks(COLUMNS) {
        let mut left = MARGIN;
        for panel in line {
            panel.draw(&mut picture, left);
            left += PANEL + GUTTER;
        }
        picture.take(line.iter().map(Panel::height).fold(0.0, f64::max));
    }
    picture.notes(&sheet.notes);
    picture
}

/// What the colours and lines mean.
fn legend(picture: &mut Picture) {
    let y = picture.below();
    let kinds = [
        (Kind::Ours, "hapax", 56.0),
        (Kind::Rival, "rival", 46.0),
        (Kind::Other, "under other conditions", 156.0),
        (Kind::Floor, "without threads", 112.0),
    ];
    let mut x = MARGIN;
    for (kind, text, width) in kinds {
        picture.bar((x, y - 9.0), (10.0, 10.0), class(kind));
        picture.text((x + 16.0, y), "dim", Anchor::Start, text);
        x += 16.0 + width;
    }
    picture.line((x + 4.0, y - 10.0), (x + 4.0, y + 2.0), "mark");
    picture.text((x + 12.0, y), "dim", Anchor::Start, "the best rival");
    picture.text((x + 116.0, y), "ours-text", Anchor::Start, "0.50");
    picture.text(
        (x + 150.0, y),
        "dim",
        Anchor::Start,
        "hapax takes half of its time",
    );
    picture.take(LEADING + 14.0);
}

fn class(kind: Kind) -> &'static str {
    match kind {
        Kind::Ours => "ours",
        Kind::Rival => "rival",
        Kind::Floor => "floor",
        Kind::Other => "other",
    }
}

/// One row.
struct Panel<'a> {
    row: &'a str,
    /// Ours, then the rivals, the fastest first, then the others.
    figures: Vec<&'a Figure>,
    best_rival: Option<f64>,
}

impl<'a> Panel<'a> {
    /// `None` if the row wasn't measured with so many threads.
    fn new(sheet: &'a Sheet<Figure>, threads: u32, row: &'a str) -> Option<Self> {
        let mut figures: Vec<_> = sheet
            .lines
            .iter()
            .filter(|figure| figure.row == row && figure.threads == threads)
            .collect();
        figures.sort_by(|a, b| {
            a.kind
                .cmp(&b.kind)
                .then(a.median_ns.total_cmp(&b.median_ns))
        });
        let best_rival = figures
            .iter()
            .find(|figure| figure.kind == Kind::Rival)
            .map(|rival| rival.median_ns);
        (!figures.is_empty()).then_some(Self {
            row,
            figures,
            best_rival,
        })
    }

    fn height(&self) -> f64 {
        (self.figures.len() + 3) as f64 * LEADING
    }

    /// Pixels of a time.
    fn length(&self, ns: f64) -> f64 {
        let whole = self.best_rival.unwrap_or(self.figures[0].median_ns);
        (ns / whole).min(LONGEST) / LONGEST * BARS
    }

    fn draw(&self, picture: &mut Picture, left: f64) {
        let top = picture.below() + 4.0;
        self.headings(picture, left, top);
        let axis = left + NAME;
        let first = top + 8.0;
        let end = first + self.figures.len() as f64 * LEADING;
        picture.line((axis, first), (axis, end), "grid");
        let bar = |place| (axis, first + place as f64 * LEADING);
        for (place, figure) in self.figures.iter().enumerate() {
            self.bar(picture, bar(place), figure);
        }
        if let Some(best) = self.best_rival {
            let x = axis + self.length(best);
            picture.line((x, first + 2.0), (x, end), "mark");
        }
        for (place, figure) in self.figures.iter().enumerate() {
            self.name(picture, bar(place), figure);
        }
    }

    fn headings(&self, picture: &mut Picture, left: f64, y: f64) {
        let axis = left + NAME;
        picture.text((axis - 8.0, y), "title", Anchor::End, self.row);
        picture.text((axis, y), "dim", Anchor::Start, what(self.row));
        // The plain handle, not one of its fronts.
        let ours = self.figures.iter().find(|figure| figure.peer == "hapax");
        if let (Some(ours), Some(best)) = (ours, self.best_rival) {
            let ratio = format!("{:.2}", ours.median_ns / best);
            picture.text((left + PANEL, y), "ours-text", Anchor::End, &ratio);
        }
    }

    fn bar(&self, picture: &mut Picture, (axis, top): (f64, f64), figure: &Figure) {
        let top = top + (LEADING - BAR) / 2.0;
        let length = self.length(figure.median_ns);
        picture.bar((axis, top), (length, BAR), class(figure.kind));
        if is_broken(length) {
            let x = axis + length - 12.0;
            picture.line((x - 3.0, top + BAR + 2.0), (x + 3.0, top - 2.0), "gap");
        } else {
            // Where the middle half of the samples lie.
            let (from, to) = (self.length(figure.q1_ns), self.length(figure.q3_ns));
            let middle = top + BAR / 2.0;
            picture.line((axis + from, middle), (axis + to, middle), "mark");
        }
    }

    /// The peer's name and its figure.
    fn name(&self, picture: &mut Picture, (axis, top): (f64, f64), figure: &Figure) {
        let base = top + LEADING - 4.0;
        let text = if figure.kind == Kind::Ours {
            "ours-text"
        } else {
            ""
        };
        picture.text((axis - 8.0, base), text, Anchor::End, &figure.peer);
        let length = self.length(figure.median_ns);
        let end = if is_broken(length) {
            length
        } else {
            self.length(figure.q3_ns).max(length)
        };
        let number = nanoseconds(figure.median_ns);
        picture.text(
            (axis + end + 6.0, base),
            &format!("figure {text}"),
            Anchor::Start,
            &number,
        );
    }
}

fn is_broken(length: f64) -> bool {
    length >= BARS
}

fn nanoseconds(ns: f64) -> String {
    if ns < 10.0 {
        format!("{ns:.1}")
    } else {
        format!("{ns:.0}")
    }
}

/// What is done in a row.
fn what(row: &str) -> &'static str {
    match row {
        "hit" => "a random one of 10 000 live values",
        "zipf" => "the same, chosen by Zipf's law",
        "hot" => "the same live value, over and over",
        "clone+drop" => "clone the same handle and drop it",
        "churn" => "a value that comes and goes",
        "churn-100k" => "the same beside 100 000 live ones",
        "window" => "kept until 256 others came",
        "grow" => "new values, kept, up to a million",
        "hit-big" => "a random one of that million",
        "drop" => "drop that million",
        _ => "",
    }
}
