//! The report for people: the paper's two tables, then us against each peer.

use comfy_table::{CellAlignment, Table, presets};

use crate::contenders::Contender;
use crate::ground::Memory;
use crate::report::{Ratio, Report, Row};
use crate::results::Figure;
use crate::statistics::Summary;

/// What is in a table, by its title.
type Column = (&'static str, Figure);

const DIRTIED: [Column; 7] = [
    ("image MiB", Figure::ImageBytes),
    ("to memory", Figure::ToMemoryMs),
    ("to disk", Figure::ToDiskMs),
    ("pause", Figure::PauseMs),
    ("pause, to disk", Figure::PauseToDiskMs),
    ("restore", Figure::RestoreMs),
    ("MTTR", Figure::MttrMs),
];
const MAPPED: [Column; 5] = [
    ("image MiB", Figure::ImageBytes),
    ("to memory", Figure::ToMemoryMs),
    ("to disk", Figure::ToDiskMs),
    ("pause", Figure::PauseMs),
    ("pause, to disk", Figure::PauseToDiskMs),
];
const RATIOS: [Column; 5] = [
    ("pause", Figure::PauseMs),
    ("MTTR", Figure::MttrMs),
    ("restore", Figure::RestoreMs),
    ("to memory", Figure::ToMemoryMs),
    ("to disk", Figure::ToDiskMs),
];

/// All of it.
pub(crate) fn text(report: &Report) -> String {
    let host = &report.host;
    let runc = host.runc.as_deref().map_or(String::new(), |version| format!(", runc {version}"));
    let mut parts = vec![format!(
        "Linux {}, {} cores, criu {}{runc}; {} rounds; {}; load {}",
        host.kernel, host.cores, host.criu, report.rounds, host.at, host.load
    )];
    parts.push("Milliseconds: median (smallest - largest)".to_owned());
    for (title, memory, columns) in [
        ("Changed memory (all of it written)", Memory::Dirtied, &DIRTIED[..]),
        ("Untouched memory (mapped only)", Memory::Mapped, &MAPPED[..]),
    ] {
        let rows: Vec<&Row> = report.rows.iter().filter(|row| row.memory == memory).collect();
        if !rows.is_empty() {
            parts.push(format!("{title}\n{}", measured(&rows, columns)));
        }
    }
    if !report.ratios.is_empty() {
        parts
            .push(format!("We against the bare command: median of the rounds' ratios\n{}", compared(report)));
    }
    parts.extend(promises(report));
    for failure in &report.failures {
        let (name, size) = (failure.contender.name(), failure.mebibytes);
        let (memory, round) = (of(failure.memory), failure.round + 1);
        parts.push(format!("failed: {size} MiB {memory}, round {round}, {name}: {}", failure.error));
    }
    parts.join("\n\n")
}

fn measured(rows: &[&Row], columns: &[Column]) -> String {
    let mut table = table(["MiB", "by"].into_iter().chain(columns.iter().map(|(title, _)| *title)));
    for row in rows {
        let figures = columns.iter().map(|(_, figure)| match row.figures.get(figure) {
            None => "-".to_owned(),
            Some(summary) if *figure == Figure::ImageBytes => format!("{:.1}", summary.median / 1_048_576.0),
            Some(summary) => milliseconds(summary),
        });
        table
            .add_row([row.mebibytes.to_string(), row.contender.name().to_owned()].into_iter().chain(figures));
    }
    aligned(table)
}

fn compared(report: &Report) -> String {
    let mut table =
        table(["MiB", "memory", "by", "against"].into_iter().chain(RATIOS.map(|(title, _)| title)));
    for ratio in &report.ratios {
        let figures = RATIOS.map(|(_, figure)| shown(report, ratio, figure));
        let names = [ratio.ours, ratio.peer].map(|contender: Contender| contender.name().to_owned());
        let first = [ratio.mebibytes.to_string(), of(ratio.memory).to_owned()];
        table.add_row(first.into_iter().chain(names).chain(figures));
    }
    aligned(table)
}

fn shown(report: &Report, ratio: &Ratio, figure: Figure) -> String {
    let Some(summary) = ratio.figures.get(&figure) else { return "-".to_owned() };
    let missed = report.missed.iter().any(|missed| {
        (missed.mebibytes, missed.memory, missed.ours, missed.peer, missed.figure)
            == (ratio.mebibytes, ratio.memory, ratio.ours, ratio.peer, figure)
    });
    let mark = if missed { " !" } else { "" };
    format!("{:.2} ({:.2} - {:.2}){mark}", summary.median, summary.min, summary.max)
}

fn promises(report: &Report) -> Option<String> {
    if report.ratios.is_empty() {
        return None;
    }
    let limit = report.limit;
    Some(match report.missed.len() {
        0 => {
            format!(
                "All promises were kept (pause and MTTR at most {limit} times those of the bare commands)."
            )
        }
        count => format!("{count} ratios are above what is promised; they are marked with `!`."),
    })
}

fn table<'a>(titles: impl Iterator<Item = &'a str>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(titles);
    table
}

fn aligned(mut table: Table) -> String {
    for column in table.column_iter_mut() {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

fn milliseconds(summary: &Summary) -> String {
    let digits = if summary.median < 100.0 { 1 } else { 0 };
    format!("{:.digits$} ({:.digits$} - {:.digits$})", summary.median, summary.min, summary.max)
}

const fn of(memory: Memory) -> &'static str {
    match memory {
        Memory::Mapped => "untouched",
        Memory::Dirtied => "changed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_are_as_fine_as_they_are_worth() {
        let shown = |samples: [f64; 3]| milliseconds(&Summary::of(samples).expect("samples"));
        assert_eq!(shown([4.04, 3.5, 9.0]), "4.0 (3.5 - 9.0)");
        assert_eq!(shown([400.4, 350.0, 1000.0]), "400 (350 - 1000)");
    }
}
