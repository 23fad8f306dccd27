//! Axes, lines and their names.

use crate::figures::OURS;
use crate::picture::{Anchor, LEADING, Picture};

/// Places values between two edges, in pixels.
pub struct Axis {
    values: (f64, f64),
    edges: (f64, f64),
    scale: Scale,
}

#[derive(Clone, Copy)]
pub enum Scale {
    Linear,
    Logarithmic,
}

impl Axis {
    pub fn new(scale: Scale, values: (f64, f64), edges: (f64, f64)) -> Self {
        Self {
            values,
            edges,
            scale,
        }
    }

    /// Values beyond the ends are placed at the ends.
    pub fn place(&self, value: f64) -> f64 {
        let part = |value: f64| match self.scale {
            Scale::Linear => value,
            Scale::Logarithmic => value.ln(),
        };
        let (from, to) = (part(self.values.0), part(self.values.1));
        let share = ((part(value) - from) / (to - from)).clamp(0.0, 1.0);
        self.edges.0 + share * (self.edges.1 - self.edges.0)
    }
}

/// A line with its name.
pub struct Curve<'a> {
    pub name: &'a str,
    pub class: String,
    pub points: Vec<(f64, f64)>,
}

impl Curve<'_> {
    fn is_ours(&self) -> bool {
        self.name == OURS
    }
}

/// A place on an axis that has a name.
pub type Tick = (f64, String);

/// A plot between two axes.
pub struct Chart {
    pub x: Axis,
    pub y: Axis,
}

impl Chart {
    pub fn grid(&self, picture: &mut Picture, x_ticks: &[Tick], y_ticks: &[Tick]) {
        let ((left, right), (bottom, top)) = (self.x.edges, self.y.edges);
        for (value, name) in y_ticks {
            let y = self.y.place(*value);
            picture.line((left, y), (right, y), "grid");
            picture.text((left - 8.0, y + 4.0), "dim", Anchor::End, name);
        }
        for (value, name) in x_ticks {
            let x = self.x.place(*value);
            picture.line((x, bottom), (x, top), "grid");
            picture.text((x, bottom + LEADING), "dim", Anchor::Middle, name);
        }
    }

    /// Draws the curves, ours last and so above all others, and their names to the right.
    pub fn curves(&self, picture: &mut Picture, curves: &[Curve]) {
        for curve in curves.iter().filter(|curve| !curve.is_ours()) {
            self.curve(picture, curve, "");
        }
        for curve in curves.iter().filter(|curve| curve.is_ours()) {
            self.curve(picture, curve, "wide ");
        }
        self.names(picture, curves);
    }

    fn curve(&self, picture: &mut Picture, curve: &Curve, weight: &str) {
        let place = |&(x, y): &(f64, f64)| (self.x.place(x), self.y.place(y));
        let points: Vec<_> = curve.points.iter().map(place).collect();
        picture.curve(&points, &format!("{weight}{}", curve.class));
    }

    /// Each name beside the end of its curve, or as near as the others leave room.
    fn names(&self, picture: &mut Picture, curves: &[Curve]) {
        let end = |curve: &Curve| curve.points.last().map_or(0.0, |&(_, y)| self.y.place(y));
        let mut ordered: Vec<_> = curves.iter().map(|curve| (end(curve), curve)).collect();
        ordered.sort_by(|a, b| a.0.total_cmp(&b.0));
        let wanted: Vec<_> = ordered.iter().map(|&(y, _)| y).collect();
        let places = apart(&wanted, (self.y.edges.1, self.y.edges.0));
        let x = self.x.edges.1;
        for ((end, curve), y) in ordered.into_iter().zip(places) {
            let weight = if curve.is_ours() { "wide " } else { "" };
            picture.curve(
                &[(x, end), (x + 8.0, y), (x + 18.0, y)],
                &format!("{weight}{}", curve.class),
            );
            let text = if curve.is_ours() { "ours-text" } else { "" };
            picture.text((x + 23.0, y + 4.0), text, Anchor::Start, curve.name);
        }
    }
}

/// Moves places that are too near to each other apart, downwards, then up again from the lower end.
fn apart(wanted: &[f64], (top, bottom): (f64, f64)) -> Vec<f64> {
    let mut places = wanted.to_vec();
    let mut least = top;
    for place in &mut places {
        *place = place.max(least);
        least = *place + LEADING - 2.0;
    }
    let mut most = bottom;
    for place in places.iter_mut().rev() {
        *place = place.min(most);
        most = *place - LEADING + 2.0;
    }
    places
}
