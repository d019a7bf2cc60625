//! One service: what it is, its pauses and sizes, its images, its events.

use std::collections::VecDeque;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Sparkline, Table};

use super::super::super::{images, status, words};
use super::super::model::Model;
use super::{Paint, draw_events, one_line};
use crate::status::{ImageStatus, ServiceStatus};

/// Lines of notes that are shown at most.
const NOTES_MAX: usize = 4;
const PLOT_HEIGHT: u16 = 4;

pub(super) fn draw(
    frame: &mut Frame<'_>,
    area: Rect,
    model: &Model,
    (name, first): (&str, usize),
    paint: &Paint,
) {
    let Some(service) = model.service(name) else {
        return frame.render_widget(Paragraph::new(format!("{name} is not configured any more")), area);
    };
    let facts = facts(service, paint);
    let listed = model.images_of(name);
    let images_height = u16::try_from(listed.len() + 1).unwrap_or(u16::MAX);
    let parts = [
        Constraint::Length(u16::try_from(facts.len()).unwrap_or(0)),
        Constraint::Length(PLOT_HEIGHT),
        Constraint::Max(images_height.max(2)),
        Constraint::Min(5),
    ];
    let [head, plots, list, events] = Layout::vertical(parts).areas(area);
    frame.render_widget(Paragraph::new(facts), head);
    draw_plots(frame, plots, model, name, paint);
    draw_images(frame, list, listed, first, paint);
    let own = model.events.iter().filter(|record| record.service.as_deref() == Some(name));
    draw_events(frame, events, own, paint);
}

fn facts<'a>(service: &ServiceStatus, paint: &Paint) -> Vec<Line<'a>> {
    let checkpoint = &service.checkpoint;
    let point = match &checkpoint.newest {
        Some(image) => {
            let place = if image.durable { "on disk" } else { "in memory only" };
            format!("{} ago ({}, {place})", words::span(image.age_seconds), image.verdict)
        }
        None => "none".to_owned(),
    };
    let next = match (checkpoint.in_flight, checkpoint.next_seconds) {
        (true, _) => "now".to_owned(),
        (false, next) => words::or_dash(next.map(words::span)),
    };
    let stored = words::size(checkpoint.stored_bytes);
    let mut lines = vec![
        Line::from(vec![
            Span::styled(service.name.clone(), paint.title()),
            Span::raw(format!("  {}  ", service.runtime)),
            Span::styled(status::state(service), paint.mood(status::mood(service))),
            Span::raw(format!(
                "  {}  pid {}  up {}  restarts {}",
                words::or_dash(service.verdict.clone()),
                words::or_dash(service.pid.map(|pid| pid.to_string())),
                words::or_dash(service.running_seconds.map(words::span)),
                service.restarts
            )),
        ]),
        Line::raw(format!(
            "recovery point {point}  next {next}  {}, {stored}",
            words::count(checkpoint.images, "image")
        )),
    ];
    if let Some(lease) = &service.lease {
        let holder = words::or_dash(lease.holder.clone());
        lines.push(Line::raw(format!("lease: {}, held by {holder}, epoch {}", lease.role, lease.epoch)));
    }
    for (mood, what, why) in status::notes_on(service).into_iter().take(NOTES_MAX) {
        let why = one_line(&why).into_owned();
        lines.push(Line::from(vec![Span::styled(what, paint.mood(mood)), Span::raw(format!(": {why}"))]));
    }
    lines.push(Line::raw(""));
    lines
}

/// Bars of the last checkpoints, oldest first.
fn draw_plots(frame: &mut Frame<'_>, area: Rect, model: &Model, name: &str, paint: &Paint) {
    let [left, _, right] =
        Layout::horizontal([Constraint::Fill(1), Constraint::Length(2), Constraint::Fill(1)]).areas(area);
    let nothing = VecDeque::new();
    let plots = model.plots_of(name);
    let pauses = plots.map_or(&nothing, |plots| &plots.pauses);
    let sizes = plots.map_or(&nothing, |plots| &plots.sizes);
    draw_plot(frame, left, ("PAUSE", pauses, &|us| words::milliseconds(us as f64 / 1e3)), paint);
    draw_plot(frame, right, ("SIZE", sizes, &words::size), paint);
}

/// A title, the values, and how a value is said.
type Plot<'a> = (&'a str, &'a VecDeque<u64>, &'a dyn Fn(u64) -> String);

fn draw_plot(frame: &mut Frame<'_>, area: Rect, (title, values, said): Plot<'_>, paint: &Paint) {
    let [head, plot, _] =
        Layout::vertical([Constraint::Length(1), Constraint::Min(1), Constraint::Length(1)]).areas(area);
    let surplus = values.len().saturating_sub(usize::from(area.width));
    let shown: Vec<u64> = values.iter().copied().skip(surplus).collect();
    let about = match (shown.last(), shown.iter().max()) {
        (Some(last), Some(most)) => format!("  last {}, most {}", said(*last), said(*most)),
        _ => "  no checkpoint in the last hour".to_owned(),
    };
    let head_line = Line::from(vec![Span::styled(title.to_owned(), paint.title()), Span::raw(about)]);
    frame.render_widget(head_line, head);
    frame.render_widget(Sparkline::default().data(shown), plot);
}

fn draw_images(frame: &mut Frame<'_>, area: Rect, listed: &[ImageStatus], first: usize, paint: &Paint) {
    if listed.is_empty() {
        return frame.render_widget(Paragraph::new("no images"), area);
    }
    let row = |image: &ImageStatus| {
        let [id, _, age, verdict, place, size, _, pause, note] = images::row(image);
        let verdict = Cell::new(verdict).style(paint.mood(images::mood(image)));
        let plain = |text: String| Cell::new(one_line(&text).into_owned());
        Row::new([plain(id), plain(age), verdict, plain(place), plain(size), plain(pause), plain(note)])
    };
    let widths = [
        Constraint::Length(28),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Length(9),
        Constraint::Length(9),
        Constraint::Length(7),
        Constraint::Fill(1),
    ];
    let header = ["IMAGE", "AGE", "VERDICT", "WHERE", "SIZE", "PAUSE", "NOTE"];
    let shown = listed.iter().skip(first).map(row);
    let table = Table::new(shown, widths).header(Row::new(header).style(paint.title())).column_spacing(1);
    frame.render_widget(table, area);
}
