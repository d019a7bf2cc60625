//! All services, a note on the chosen one, the latest events.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, HighlightSpacing, Row, Table, TableState};

use super::super::super::screen::Mood;
use super::super::super::{status, words};
use super::super::model::Model;
use super::{Paint, draw_events, one_line};
use crate::status::ServiceStatus;

/// From this width on a recovery is shown with its rung beside a lease.
const WIDE: u16 = 96;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, model: &Model, paint: &Paint) {
    let services = &model.node.services;
    let wanted = u16::try_from(services.len() + 1).unwrap_or(u16::MAX);
    let table = wanted.min(area.height / 2).max(2);
    let parts = [
        Constraint::Length(1),
        Constraint::Length(table),
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(0),
    ];
    let [_, list, note, _, events] = Layout::vertical(parts).areas(area);
    draw_list(frame, list, model, paint);
    frame.render_widget(note_on(model, paint), note);
    draw_events(frame, events, model.events.iter(), paint);
}

fn draw_list(frame: &mut Frame<'_>, area: Rect, model: &Model, paint: &Paint) {
    let services = &model.node.services;
    let leases = services.iter().any(|service| service.lease.is_some());
    let rungs = !leases || area.width >= WIDE;
    let mut header = vec!["SERVICE", "STATE", "HEALTH", "POINT", "PAUSE", "LAST RECOVERY"];
    let recovery = if rungs { 22 } else { 13 };
    let mut widths: Vec<_> = [13, 9, 8, 8, recovery].map(Constraint::Length).into();
    widths.insert(0, Constraint::Fill(1));
    if leases {
        header.push("LEASE");
        widths.push(Constraint::Length(12));
    }
    let row = |service: &ServiceStatus| {
        let mood = paint.mood(status::mood(service));
        let mut cells = vec![
            Cell::new(service.name.clone()),
            Cell::new(state(service)).style(mood),
            Cell::new(words::or_dash(service.verdict.clone())).style(mood),
            Cell::new(point(service)),
            Cell::new(words::or_dash(service.checkpoint.last_pause_ms.map(words::milliseconds))),
            Cell::new(last_recovery(service, rungs)),
        ];
        if leases {
            cells.push(Cell::new(lease(service)));
        }
        Row::new(cells)
    };
    let table = Table::new(services.iter().map(row), widths)
        .header(Row::new(header).style(paint.title()))
        .column_spacing(1)
        .highlight_symbol("> ")
        .highlight_spacing(HighlightSpacing::Always)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let chosen = (!services.is_empty()).then_some(model.selected);
    frame.render_stateful_widget(table, area, &mut TableState::new().with_selected(chosen));
}

/// Held policies matter more than the state that they hold.
fn state(service: &ServiceStatus) -> String {
    match (service.paused, service.degraded.is_some()) {
        (true, _) => "paused".to_owned(),
        (false, true) if service.state == "running" => "degraded".to_owned(),
        (false, _) => service.state.clone(),
    }
}

/// The age of what could be gone back to.
fn point(service: &ServiceStatus) -> String {
    words::or_dash(service.checkpoint.newest.as_ref().map(|image| words::span(image.age_seconds)))
}

fn last_recovery(service: &ServiceStatus, with_rung: bool) -> String {
    let told = service.last_recovery.as_ref().map(|last| {
        let took = words::milliseconds(last.took_ms);
        if with_rung { format!("{} {took}", last.rung) } else { took }
    });
    words::or_dash(told)
}

fn lease(service: &ServiceStatus) -> String {
    words::or_dash(service.lease.as_ref().map(|lease| format!("{} {}", lease.role, lease.epoch)))
}

/// The first of what is to be known of the chosen service; its own page says all of it.
fn note_on<'a>(model: &Model, paint: &Paint) -> Line<'a> {
    let Some(service) = model.chosen() else { return Line::raw("no services") };
    let Some((mood, what, why)) = status::notes_on(service).into_iter().next() else { return Line::raw("") };
    let why = one_line(&why).into_owned();
    Line::from(vec![
        Span::raw(format!("{}: ", service.name)),
        Span::styled(
            what,
            match mood {
                Mood::Plain => Style::new(),
                mood => paint.mood(mood),
            },
        ),
        Span::raw(format!(": {why}")),
    ])
}
