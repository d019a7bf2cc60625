//! Standard output: tables, JSON, colours only where somebody sees them.

use std::io::{self, IsTerminal, Write};

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use super::Output;
use super::failure::Failure;

/// Where results go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Screen {
    output: Output,
    terminal: bool,
    colour: bool,
}

/// What a word means to whoever looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    /// As it should be.
    Good,
    /// Worth a look.
    Doubtful,
    /// Somebody has to act.
    Bad,
    /// Neither.
    Plain,
}

impl Screen {
    /// Standard output as it is.
    pub(crate) fn new(output: Output) -> Self {
        let terminal = io::stdout().is_terminal();
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self { output, terminal, colour: terminal && !set("NO_COLOR") && !dumb }
    }

    #[cfg(test)]
    pub(crate) fn plain() -> Self {
        Self { output: Output::Table, terminal: false, colour: false }
    }

    #[cfg(test)]
    pub(crate) fn coloured() -> Self {
        Self { output: Output::Table, terminal: true, colour: true }
    }

    /// Whether a program reads.
    pub(crate) fn is_json(&self) -> bool {
        self.output == Output::Json
    }

    /// Whether a person looks at a terminal.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Whether it shows colours.
    pub(crate) fn is_coloured(&self) -> bool {
        self.colour
    }

    /// Prints text that has its own line ends.
    pub(crate) fn print(&self, text: &str) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(unwritten)
    }

    /// Prints one line.
    pub(crate) fn line(&self, text: &str) -> Result<(), Failure> {
        self.print(&format!("{text}\n"))
    }

    /// Prints a document for programs.
    pub(crate) fn json(&self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(value).map_err(|e| Failure::Failed(e.to_string()))?;
        self.line(&text)
    }

    /// Prints a document for programs on one line.
    pub(crate) fn json_line(&self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(value).map_err(|e| Failure::Failed(e.to_string()))?;
        self.line(&text)
    }

    /// A word in its mood's colour.
    pub(crate) fn paint(&self, mood: Mood, text: &str) -> String {
        let code = match mood {
            Mood::Good => "32",
            Mood::Doubtful => "33",
            Mood::Bad => "31",
            Mood::Plain => return text.to_owned(),
        };
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// A table without lines. `moods` colours a column: its place, and the mood of each row.
    pub(crate) fn table(&self, header: &[&str], rows: &[Vec<String>], moods: (usize, &[Mood])) -> String {
        let mut table = Table::new();
        table.load_style(NOTHING).set_header(header.iter().copied());
        for row in rows {
            // A cell with several lines would tear the row apart.
            table.add_row(row.iter().map(|cell| cell.replace('\n', " ")));
        }
        for (column, name) in table.column_iter_mut().zip(header) {
            column.set_padding((0, 2));
            if NUMBERS.contains(name) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let (place, moods) = moods;
        let mut text = String::new();
        for (number, line) in table.lines().enumerate() {
            let row =
                number.checked_sub(1).and_then(|row| Some((rows.get(row)?.get(place)?, moods.get(row)?)));
            let line = match row {
                Some((word, mood)) => self.paint_after(&line, &rows[number - 1][..place], word, *mood),
                None => line,
            };
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    /// Paints a cell of a finished line: colours inside of cells would count as their width.
    fn paint_after(&self, line: &str, before: &[String], word: &str, mood: Mood) -> String {
        let mut at = 0;
        for cell in before {
            at += line[at..].find(cell.as_str()).map_or(0, |found| found + cell.len());
        }
        match line[at..].find(word) {
            Some(found) if !word.is_empty() => {
                let (left, right) = line.split_at(at + found);
                format!("{left}{}{}", self.paint(mood, word), &right[word.len()..])
            }
            _ => line.to_owned(),
        }
    }
}

/// Columns whose cells stand at the right.
const NUMBERS: [&str; 9] = ["PID", "UP", "RESTARTS", "IMAGES", "PAUSE", "NEXT", "SIZE", "STORED", "AGE"];

/// Output that could not be written.
pub(crate) fn unwritten(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::Unread,
        _ => Failure::Failed(format!("cannot write the output: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_line_up_and_only_the_word_is_coloured() {
        let rows = [
            vec!["running".to_owned(), "running".to_owned(), "3 s".to_owned()],
            vec!["b".to_owned(), "failed".to_owned(), "120 s".to_owned()],
        ];
        let moods = [Mood::Good, Mood::Bad];
        let header = ["SERVICE", "STATE", "AGE"];
        let plain = Screen::plain().table(&header, &rows, (1, &moods));
        assert_eq!(plain, "SERVICE  STATE      AGE\nrunning  running    3 s\nb        failed   120 s\n");
        let coloured = Screen::coloured().table(&header, &rows, (1, &moods));
        let expected = "SERVICE  STATE      AGE\nrunning  \x1b[32mrunning\x1b[0m    3 s\n\
                        b        \x1b[31mfailed\x1b[0m   120 s\n";
        assert_eq!(coloured, expected);
    }

    #[test]
    fn a_cell_stays_on_its_line() {
        let rows = [vec!["a\nb".to_owned()]];
        assert_eq!(Screen::plain().table(&["X"], &rows, (0, &[])), "X\na b\n");
    }
}
