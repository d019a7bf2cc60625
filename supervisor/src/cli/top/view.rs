//! The screen: a pure function of the model. Made for 80 columns and 24 lines; more shows more.
//!
//! Colours say nothing that words do not: without them nothing is lost. Texts of others are cut to one line without control
//! characters, so that no service's words can act on the terminal.

mod service;
mod services;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::super::events::mood;
use super::super::screen::Mood;
use super::super::words;
use super::model::{Model, Outcome, Page};
use crate::status::EventRecord;

/// Less than this shows nothing that helps.
const SMALLEST: (u16, u16) = (40, 10);

const HELP: &str = "\
up, down (k, j)   choose a service; in a service: go through its images
home, end         the first, the last
enter             the service: its images, pauses, sizes
esc               back
c                 a checkpoint of the service now, once it is asked again
ctrl-l            draw everything anew
?                 this, and back
q, ctrl-c         end; services and supervisor are not touched

POINT          age of the newest image that can be restored here: what a crash
               now would lose
PAUSE          how long the service stood still for its last checkpoint
LAST RECOVERY  the rung that worked, and the time from the notice of the fault
               to the first good answer
Times of events are UTC. Everything else: docs/operations.md.";

/// Draws all of it.
pub(super) fn draw(frame: &mut Frame<'_>, model: &Model, coloured: bool) {
    let paint = Paint { coloured };
    let area = frame.area();
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        return frame.render_widget(Paragraph::new("this window is too small"), area);
    }
    let parts = [Constraint::Length(1), Constraint::Min(0), Constraint::Length(1), Constraint::Length(1)];
    let [head, body, said, keys] = Layout::vertical(parts).areas(area);
    frame.render_widget(header(model, &paint, head.width), head);
    match &model.page {
        Page::Services => services::draw(frame, body, model, &paint),
        Page::Service(name, first) => service::draw(frame, body, model, (name, *first), &paint),
        Page::Help => frame.render_widget(Paragraph::new(HELP), below_a_blank_line(body)),
    }
    frame.render_widget(said_last(model, &paint), said);
    frame.render_widget(Line::styled(keys_of(&model.page), paint.quiet()), keys);
}

/// Colours, or none.
struct Paint {
    coloured: bool,
}

impl Paint {
    fn mood(&self, mood: Mood) -> Style {
        let colour = match mood {
            Mood::Good => Color::Green,
            Mood::Doubtful => Color::Yellow,
            Mood::Bad => Color::Red,
            Mood::Plain => return Style::new(),
        };
        if self.coloured { Style::new().fg(colour) } else { Style::new() }
    }

    fn title(&self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    fn quiet(&self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }
}

fn header<'a>(model: &'a Model, paint: &Paint, width: u16) -> Line<'a> {
    let node = &model.node;
    let left = format!("node {}  supervisor {}  CRIU {}", node.node, node.version, one_line(&node.criu));
    let (right, mood) = match model.away {
        None => ("live", Mood::Good),
        Some(_) => ("away", Mood::Bad),
    };
    let room = usize::from(width).saturating_sub(right.len() + 1);
    let left: String = left.chars().take(room).collect();
    let gap = " ".repeat(usize::from(width).saturating_sub(left.chars().count() + right.len()));
    Line::from(vec![Span::styled(left, paint.title()), Span::raw(gap), Span::styled(right, paint.mood(mood))])
}

/// The most urgent thing to say: a question, an answer, what is wrong with the picture.
fn said_last<'a>(model: &'a Model, paint: &Paint) -> Line<'a> {
    if let Some(service) = &model.asked {
        let pause = model.service(service).and_then(|service| service.checkpoint.last_pause_ms);
        let pause = pause.map(|ms| format!(", it stood still {} last time", words::milliseconds(ms)));
        let text = format!("checkpoint {service}{}?  c or y: yes, else: no", pause.unwrap_or_default());
        return Line::styled(text, paint.title());
    }
    let (mood, text) = match (&model.outcome, &model.away, &model.node.config_error) {
        (Some(Outcome::Asked(text)), ..) => (Mood::Plain, text.as_str()),
        (Some(Outcome::Done(text)), ..) => (Mood::Good, text.as_str()),
        (Some(Outcome::Failed(text)), ..) => (Mood::Bad, text.as_str()),
        (None, Some(why), _) => (Mood::Bad, why.as_str()),
        (None, None, Some(_)) => {
            (Mood::Bad, "the configuration has mistakes and is not in force; `supervisor check` shows them")
        }
        (None, None, None) => (Mood::Plain, ""),
    };
    Line::styled(one_line(text), paint.mood(mood))
}

fn keys_of(page: &Page) -> &'static str {
    match page {
        Page::Services => "up/down choose  enter open  c checkpoint  ? help  q quit",
        Page::Service(..) => "up/down images  esc back  c checkpoint  ? help  q quit",
        Page::Help => "? or esc back  q quit",
    }
}

/// The newest events that fit, oldest first, below a title.
fn draw_events<'a>(
    frame: &mut Frame<'_>,
    area: Rect,
    records: impl DoubleEndedIterator<Item = &'a EventRecord>,
    paint: &Paint,
) {
    let room = usize::from(area.height.saturating_sub(1));
    let mut lines: Vec<_> = records.rev().take(room).map(|record| event(record, paint)).collect();
    lines.push(Line::styled("EVENTS", paint.title()));
    lines.reverse();
    frame.render_widget(Paragraph::new(lines), area);
}

fn event<'a>(record: &'a EventRecord, paint: &Paint) -> Line<'a> {
    // Of `2026-11-22T20:00:00.123Z` the time of the day.
    let at = record.at.get(11..19).unwrap_or(&record.at);
    let service: String = record.service.as_deref().unwrap_or("-").chars().take(12).collect();
    let text = one_line(&record.text);
    let took = words::took(&text, record.took_ms);
    Line::from(vec![
        Span::raw(format!("{at}  {service:<12}  ")),
        Span::styled(format!("{:<16}", record.kind), paint.mood(mood(&record.kind))),
        Span::raw(format!("  {text}{took}")),
    ])
}

/// Nothing in it acts on a terminal or begins another line.
fn one_line(text: &str) -> Cow<'_, str> {
    if text.contains(char::is_control) {
        let words = text.split(|c: char| c.is_control() || c == ' ').filter(|word| !word.is_empty());
        Cow::Owned(words.collect::<Vec<_>>().join(" "))
    } else {
        Cow::Borrowed(text)
    }
}

fn below_a_blank_line(area: Rect) -> Rect {
    Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area }
}
