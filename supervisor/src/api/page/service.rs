//! One service: what it is, how it went, its images.

use maud::{Markup, PreEscaped, html};

use super::{draw, plots};
use crate::cli::words;
use crate::status::{EventRecord, ImageStatus, ServiceStatus};

/// The page.
pub(super) fn page(
    node: &str,
    service: &ServiceStatus,
    images: &[ImageStatus],
    history: &[EventRecord],
) -> Markup {
    let body = html! {
        h1 { (service.name) " " span.soft { "on " (node) } }
        section.card { (draw::facts(service)) }
        h2 { "Checkpoints" }
        div.plots {
            @for plot in plots::of(history) {
                figure { figcaption { (plot.title) } (PreEscaped(&plot.svg)) }
            }
        }
        h2 { "Images" }
        (table(images))
        h2 { "Timeline" }
        (draw::timeline(history.iter().filter(|record| record.kind != "image-durable")))
    };
    draw::live(&service.name, &body)
}

fn table(images: &[ImageStatus]) -> Markup {
    html! {
        div.scroll { table {
            thead { tr { th { "taken" } th { "verdict" } th { "where" } th { "size" } th { "pause" } th { "image" } th { "" } } }
            tbody { @for image in images { (row(image)) } }
        } }
    }
}

fn row(image: &ImageStatus) -> Markup {
    let places = [
        ("hot", image.hot),
        ("durable", image.durable),
        ("replicated", image.replicated),
        ("pinned", image.pinned),
    ];
    let places: Vec<_> = places.into_iter().filter(|(_, is)| *is).map(|(name, _)| name).collect();
    let act = |act: &str| format!("/images/{}/{act}", image.id);
    html! {
        tr {
            td { (words::span(image.age_seconds)) " ago" }
            td { @if image.damaged.is_some() { span.bad { "damaged" } } @else { (image.verdict) } }
            td { (places.join(", ")) }
            td { (words::size(image.size_bytes)) }
            td { @if let Some(pause) = image.pause_ms { (words::milliseconds(pause)) } @else { "-" } }
            td { code { (image.id) } }
            td {
                @if image.pinned { (draw::form(&act("unpin"), "unpin", "")) } @else { (draw::form(&act("pin"), "pin", "")) }
                " "
                @if image.durable { (draw::form(&act("verify"), "verify", "")) }
                " "
                @if image.damaged.is_none() && image.incompatible.is_none() { a.button href=(act("restore")) { "restore…" } }
            }
        }
    }
}
