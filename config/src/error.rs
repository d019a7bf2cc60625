//! Mistakes: what is wrong, where, and how to mend it.
//!
//! A [`Mistake`] is drawn once, with the line it is about, and then is plain data. Values of the environment
//! never get into one: only the file's own text is shown. It refuses to stop at the first.

use std::fmt;
use std::ops::Range;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet, normalize_untrusted_str};

/// How bad a mistake is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// The file can be used, though hardly as meant.
    Warning,
}

/// One mistake in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// How to mend it.
    pub hint: Option<String>,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The whole of it with the marked lines, for a terminal or a log; no colours, no final newline.
    pub excerpt: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.excerpt)
    }
}

/// All mistakes of a file that cannot be used, warnings among them, in the order of their places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errors {
    /// The file's name as given to the parser.
    pub origin: String,
    /// At least one of them is an error.
    pub mistakes: Vec<Mistake>,
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for mistake in &self.mistakes {
            writeln!(f, "{mistake}\n")?;
        }
        let errors = self.mistakes.iter().filter(|mistake| mistake.severity == Severity::Error).count();
        let plural = if errors == 1 { "" } else { "s" };
        write!(f, "{}: {errors} error{plural}", self.origin)
    }
}

impl std::error::Error for Errors {}

/// A mistake before it is drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Draft {
    severity: Severity,
    span: Range<usize>,
    message: String,
    label: Option<String>,
    also: Option<(Range<usize>, String)>,
    hint: Option<String>,
}

impl Draft {
    pub(crate) fn error(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, span, message: message.into(), label: None, also: None, hint: None }
    }

    pub(crate) fn warning(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(span, message) }
    }

    /// Words under the marked place.
    pub(crate) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// A second place that belongs to the mistake.
    pub(crate) fn also(mut self, span: Range<usize>, label: impl Into<String>) -> Self {
        self.also = Some((span, label.into()));
        self
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Draws all of them, in the order of their places; the same mistake twice is drawn once.
pub(crate) fn draw(origin: &str, source: &str, mut drafts: Vec<Draft>) -> Vec<Mistake> {
    drafts.sort_by_key(|draft| (draft.span.start, draft.severity));
    drafts.dedup();
    let lines = Lines::of(source);
    drafts.iter().map(|draft| draw_one(origin, source, &lines, draft)).collect()
}

fn draw_one(origin: &str, source: &str, lines: &Lines, draft: &Draft) -> Mistake {
    let span = lines.within_one_line(source, &draft.span);
    let also = draft.also.as_ref().map(|(span, label)| (lines.within_one_line(source, span), label));
    let (line, column) = lines.position(source, span.start);

    // Only the lines concerned are handed over, so that a thousand mistakes cost a thousand lines, not a
    // thousand files.
    let others = also.as_ref().map(|(span, _)| lines.number(span.start));
    let first = others.map_or(line, |other| other.min(line));
    let last = others.map_or(line, |other| other.max(line));
    let window = lines.start(first)..lines.end(source, last);
    let shift = |span: &Range<usize>| span.start - window.start..span.end - window.start;

    let mut snippet = Snippet::source(&source[window.clone()]).path(origin).line_start(first).annotation(
        AnnotationKind::Primary.span(shift(&span)).label(draft.label.as_deref().map(normalize_untrusted_str)),
    );
    if let Some((span, label)) = &also {
        snippet = snippet
            .annotation(AnnotationKind::Context.span(shift(span)).label(normalize_untrusted_str(label)));
    }
    let level = match draft.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let group: Group<'_> = level.primary_title(normalize_untrusted_str(&draft.message)).element(snippet);
    let group = match &draft.hint {
        Some(hint) => group.element(Level::HELP.message(normalize_untrusted_str(hint))),
        None => group,
    };
    Mistake {
        severity: draft.severity,
        message: draft.message.clone(),
        hint: draft.hint.clone(),
        line,
        column,
        excerpt: Renderer::plain().decor_style(DecorStyle::Ascii).render(&[group]),
    }
}

/// Where the lines of a text begin.
struct Lines {
    starts: Vec<usize>,
}

impl Lines {
    fn of(source: &str) -> Self {
        let starts = std::iter::once(0).chain(source.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { starts }
    }

    /// The number, from 1, of the line that holds this byte.
    fn number(&self, at: usize) -> usize {
        self.starts.partition_point(|start| *start <= at)
    }

    fn start(&self, number: usize) -> usize {
        self.starts[number - 1]
    }

    /// Where the line ends, its newline excluded.
    fn end(&self, source: &str, number: usize) -> usize {
        let end = self.starts.get(number).map_or(source.len(), |next| next - 1);
        let line = &source[self.start(number)..end];
        self.start(number) + line.trim_end_matches('\r').len()
    }

    fn position(&self, source: &str, at: usize) -> (usize, usize) {
        let number = self.number(at);
        (number, source[self.start(number)..at].chars().count() + 1)
    }

    /// The part of the span on its first line, moved onto whole characters of the text.
    fn within_one_line(&self, source: &str, span: &Range<usize>) -> Range<usize> {
        let start = floor_boundary(source, span.start.min(source.len()));
        let end_of_line = self.end(source, self.number(start));
        let start = start.min(end_of_line);
        let end = floor_boundary(source, span.end.min(end_of_line));
        start..end.max(start)
    }
}

fn floor_boundary(source: &str, mut at: usize) -> usize {
    while !source.is_char_boundary(at) {
        at -= 1;
    }
    at
}
