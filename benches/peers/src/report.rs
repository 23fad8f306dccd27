//! What is printed: Markdown, with a table for each number of threads.

use std::fmt::Write;

use tabled::builder::Builder;
use tabled::settings::object::{Columns, Object, Rows};
use tabled::settings::{Alignment, Style};

use crate::machine::Machine;
use crate::peers::Kind;
use crate::results::{self, Figure};
use crate::rows::Row;

pub fn markdown(machine: &Machine, figures: &[Figure]) -> String {
    let facts: Vec<_> = machine
        .iter()
        .map(|(fact, value)| format!("{fact}: {value}"))
        .collect();
    let mut text = format!("{}\n", facts.join("; "));
    let mut counts: Vec<_> = figures.iter().map(|figure| figure.threads).collect();
    counts.dedup();
    for threads in counts {
        let part: Vec<_> = figures
            .iter()
            .filter(|figure| figure.threads == threads)
            .cloned()
            .collect();
        let s = if threads == 1 { "" } else { "s" };
        write!(
            text,
            "\n## {threads} thread{s}, median ns per operation\n\n{}\n",
            table(&part, threads)
        )
        .expect("a string takes everything");
    }
    text += "\n▲: longer than some rival, by more than the row allows.\n";
    text
}

/// Peers below each other, rows beside each other; at the end how much of the best rival's time hapax takes.
fn table(figures: &[Figure], threads: usize) -> String {
    let mut rows: Vec<Row> = figures.iter().map(|figure| figure.row).collect();
    rows.sort_unstable();
    rows.dedup();
    let mut peers: Vec<(&str, Kind)> = Vec::new();
    for figure in figures {
        if !peers.contains(&(figure.peer, figure.kind)) {
            peers.push((figure.peer, figure.kind));
        }
    }
    let find = |peer: &str, row: Row| {
        figures
            .iter()
            .find(|figure| figure.peer == peer && figure.row == row)
    };

    let mut table = Builder::new();
    let names = rows.iter().map(|row| row.name());
    table.push_record(std::iter::once("peer".to_owned()).chain(names));
    for &(peer, _) in &peers {
        let cells = rows.iter().map(|&row| match find(peer, row) {
            Some(figure) => format!("{:.1}", figure.summary.median),
            None => "–".to_owned(),
        });
        table.push_record(std::iter::once(peer.to_owned()).chain(cells));
    }
    let best = rows.iter().map(|&row| {
        results::best_rival(figures, row, threads)
            .map_or("–", |best| best.peer)
            .to_owned()
    });
    table.push_record(std::iter::once("*best rival*".to_owned()).chain(best));
    for &(peer, _) in peers.iter().filter(|(_, kind)| *kind == Kind::Ours) {
        let cells = rows.iter().map(|&row| match find(peer, row) {
            Some(figure) => ratio(figures, figure),
            None => "–".to_owned(),
        });
        table.push_record(std::iter::once(format!("*{peer} to it*")).chain(cells));
    }

    let mut table = table.build();
    table.with(Style::markdown()).modify(
        Columns::new(1..).intersect(Rows::new(0..)),
        Alignment::right(),
    );
    table.to_string()
}

/// The ratio to the best rival; in bold with a mark if hapax takes more of some rival's time than it may.
fn ratio(figures: &[Figure], ours: &Figure) -> String {
    let Some(ratio) = ours.ratio else {
        return "–".to_owned();
    };
    let beyond = results::rivals(figures, ours.row, ours.threads).any(|rival| {
        ours.summary.median > rival.summary.median * results::limit(ours.row, rival.peer)
    });
    if beyond {
        format!("**{ratio:.2} ▲**")
    } else {
        format!("{ratio:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::ratio;
    use crate::peers::Kind;
    use crate::results::tests::figure;
    use crate::rows::Row;

    /// What is shown if hapax takes so much of the rival's time.
    fn shown(row: Row, rival: &'static str, part: f64) -> String {
        let mut ours = figure(row, "hapax", Kind::Ours, part);
        ours.ratio = Some(part);
        ratio(&[ours.clone(), figure(row, rival, Kind::Rival, 1.0)], &ours)
    }

    #[test]
    fn what_takes_too_long_is_marked() {
        assert_eq!(shown(Row::Hit, "string_cache", 1.0), "1.00");
        assert_eq!(shown(Row::Hit, "string_cache", 1.01), "**1.01 ▲**");
        assert_eq!(shown(Row::CloneDrop, "internment", 1.05), "1.05");
        assert_eq!(shown(Row::CloneDrop, "internment", 1.06), "**1.06 ▲**");
        assert_eq!(shown(Row::Churn, "string_cache", 1.25), "1.25");
        assert_eq!(shown(Row::Churn, "string_cache", 1.26), "**1.26 ▲**");
        assert_eq!(shown(Row::Churn, "internment", 1.2), "**1.20 ▲**");
        assert_eq!(shown(Row::Churn100k, "string_cache", 1.2), "**1.20 ▲**");
    }

    #[test]
    fn the_best_rival_does_not_hide_another_one() {
        let mut ours = figure(Row::Churn, "hapax", Kind::Ours, 1.2);
        ours.ratio = Some(1.2);
        let figures = [
            ours.clone(),
            figure(Row::Churn, "string_cache", Kind::Rival, 1.0),
            figure(Row::Churn, "internment", Kind::Rival, 1.1),
        ];
        assert_eq!(ratio(&figures, &ours), "**1.20 ▲**");
    }
}
