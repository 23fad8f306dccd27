//! Shapes, text and colours. Text stays text. A picture brings its background along and follows the reader's choice
//! of light or dark.

use std::path::Path;

use svg::node::element::{Group, Line, Polyline, Rectangle, Style, Text, Title};
use svg::{Document, Node};

/// The width of all pictures: what a page on GitHub has room for.
pub const WIDTH: f64 = 880.0;

/// What is left free around.
pub const MARGIN: f64 = 24.0;

/// The distance of two lines of text.
pub const LEADING: f64 = 17.0;

/// Characters of a note that surely fit into the width of a picture.
const NOTE: usize = 135;

/// The colours are Okabe and Ito's, lighter where the background is dark: people who see few colours tell them apart.
const STYLE: &str = "
text { font: 13px system-ui, 'Segoe UI', Helvetica, Arial, sans-serif; fill: #1f2328 }
.heading { font-size: 17px; font-weight: 600 }
.title, .ours-text { font-weight: 600 }
.dim { fill: #59636e }
.note { fill: #59636e; font-size: 11.5px }
.ours-text { fill: #b04a00 }
/* Readable across a line. */
.figure { paint-order: stroke; stroke: #ffffff; stroke-width: 4px }
.paper { fill: #ffffff }
.grid { stroke: #d1d9e0; stroke-width: 1 }
.mark { stroke: #1f2328; stroke-width: 1 }
.gap { stroke: #ffffff; stroke-width: 3 }
.ours { fill: #d55e00 }
.rival { fill: #5b9bc9 }
.floor { fill: #c5ccd3 }
.other { fill: #8c959f }
.curve { fill: none; stroke-width: 1.6; stroke-linejoin: round }
.wide { stroke-width: 3 }
.c0 { stroke: #d55e00 } .c1 { stroke: #0072b2 } .c2 { stroke: #009e73 } .c3 { stroke: #cc79a7 } .c4 { stroke: #e69f00 }
.c5 { stroke: #56b4e9 } .c6 { stroke: #882255 } .c7 { stroke: #6b7280 } .c8 { stroke: #999933 }
.dashed { stroke-dasharray: 6 3 }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc }
.dim, .note { fill: #9198a1 }
.ours-text { fill: #ff9b57 }
.paper { fill: #0d1117 }
.figure { stroke: #0d1117 }
.grid { stroke: #3d444d }
.mark { stroke: #f0f6fc }
.gap { stroke: #0d1117 }
.ours { fill: #f0803c }
.rival { fill: #3f78a8 }
.floor { fill: #4b535d }
.other { fill: #7d8590 }
.c0 { stroke: #f0803c } .c1 { stroke: #4c9fe0 } .c2 { stroke: #2bbd93 } .c3 { stroke: #e09ac4 } .c6 { stroke: #c9608f }
.c7 { stroke: #9198a1 } .c8 { stroke: #bdbd55 }
}
";

/// The class of a line's colour: 0 is ours, the others may come again.
pub fn colour(number: usize) -> String {
    match number {
        0 => "c0".to_owned(),
        _ => format!("c{}", 1 + (number - 1) % 8),
    }
}

/// Where a text stands in relation to its place.
#[derive(Clone, Copy)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

/// A picture that grows downwards.
pub struct Picture {
    title: String,
    shapes: Group,
    /// Where the free space begins.
    height: f64,
}

impl Picture {
    /// An empty picture with a heading.
    pub fn new(title: &str) -> Self {
        let mut picture = Self {
            title: title.to_owned(),
            shapes: Group::new(),
            height: 0.0,
        };
        picture.text((MARGIN, MARGIN + 12.0), "heading", Anchor::Start, title);
        picture.height = MARGIN + 20.0 + LEADING;
        picture
    }

    /// Where the free space begins.
    pub fn below(&self) -> f64 {
        self.height
    }

    /// Takes so much of the free space.
    pub fn take(&mut self, height: f64) {
        self.height += height;
    }

    /// A text on its base line.
    pub fn text(&mut self, (x, y): (f64, f64), class: &str, anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = Text::new(text)
            .set("x", tenths(x))
            .set("y", tenths(y))
            .set("text-anchor", anchor);
        self.add(if class.is_empty() {
            text
        } else {
            text.set("class", class)
        });
    }

    pub fn bar(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), class: &str) {
        let bar = Rectangle::new()
            .set("x", tenths(x))
            .set("y", tenths(y))
            .set("class", class);
        self.add(
            bar.set("width", tenths(width))
                .set("height", tenths(height)),
        );
    }

    pub fn line(&mut self, from: (f64, f64), to: (f64, f64), class: &str) {
        let line = Line::new()
            .set("x1", tenths(from.0))
            .set("y1", tenths(from.1))
            .set("class", class);
        self.add(line.set("x2", tenths(to.0)).set("y2", tenths(to.1)));
    }

    pub fn curve(&mut self, points: &[(f64, f64)], class: &str) {
        let points: Vec<_> = points
            .iter()
            .map(|&(x, y)| format!("{},{}", tenths(x), tenths(y)))
            .collect();
        let class = format!("curve {class}");
        self.add(
            Polyline::new()
                .set("points", points.join(" "))
                .set("class", class),
        );
    }

    /// Small print, as many to a line as fit.
    pub fn notes<S: AsRef<str>>(&mut self, notes: &[S]) {
        let mut line = String::new();
        for note in notes.iter().map(AsRef::as_ref) {
            if !line.is_empty() && line.chars().count() + note.chars().count() + 3 > NOTE {
                self.note(&line);
                line.clear();
            }
            if !line.is_empty() {
                line.push_str(" · ");
            }
            line.push_str(note);
        }
        self.note(&line);
    }

    fn note(&mut self, line: &str) {
        self.text((MARGIN, self.height), "note", Anchor::Start, line);
        self.height += LEADING;
    }

    fn add(&mut self, shape: impl Into<Box<dyn Node>>) {
        self.shapes.append(shape);
    }

    pub fn save(self, path: &Path) -> std::io::Result<()> {
        let height = self.height + MARGIN - LEADING;
        let paper = Rectangle::new()
            .set("width", WIDTH)
            .set("height", tenths(height));
        let document = Document::new()
            .set("viewBox", (0, 0, WIDTH, tenths(height)))
            .set("width", WIDTH)
            .set("height", tenths(height))
            .set("role", "img")
            .add(Title::new(self.title))
            .add(Style::new(STYLE))
            .add(paper.set("rx", 6).set("class", "paper"))
            .add(self.shapes);
        svg::save(path, &document)
    }
}

/// Nobody sees more, and the files stay small.
fn tenths(length: f64) -> f64 {
    (length * 10.0).round() / 10.0
}
