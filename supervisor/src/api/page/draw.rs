//! What all pages are made of, and the overview.

use maud::{DOCTYPE, Markup, html};

use super::nodes;
use crate::cli::words;
use crate::status::{EventRecord, NodeStatus, RecoveryStatus, ServiceStatus};
use crate::tenure::NodeSeen;

/// A page that stays as it is.
pub(super) fn frame(title: &str, body: &Markup) -> Markup {
    whole(title, &html! { main { (body) } })
}

/// A page that is drawn anew when something happens.
pub(super) fn live(title: &str, body: &Markup) -> Markup {
    whole(title, &html! { main data-live { (body) } })
}

fn whole(title: &str, main: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) " · supervisor" }
                link rel="stylesheet" href="/page.css";
                script src="/page.js" defer {}
            }
            body {
                header { strong { a href="/" { "supervisor" } } span.live role="status" {} }
                (main)
            }
        }
    }
}

/// One button that changes something.
pub(super) fn form(action: &str, label: &str, class: &str) -> Markup {
    html! { form method="post" action=(action) { button class=(class) { (label) } } }
}

/// The node and its services.
pub(super) fn overview(node: &NodeStatus, nodes: &[NodeSeen], recent: &[EventRecord]) -> Markup {
    let body = html! {
        h1 { (node.node) }
        p.soft { "supervisor " (node.version) ", CRIU " (node.criu) ", " (node.config_file) }
        @if let Some(error) = &node.config_error {
            p.bad { "The configuration file as it is now cannot be used:" }
            pre { (error) }
        }
        @if node.services.is_empty() { p { "no services" } }
        div.cards { @for service in &node.services { (card(service)) } }
        @if !nodes.is_empty() { (nodes::table(nodes)) }
        h2 { "Lately" }
        (timeline(recent.iter()))
    };
    live(&node.node, &body)
}

fn card(service: &ServiceStatus) -> Markup {
    html! {
        section.card id={ "service-" (service.name) } {
            h2 { a href={ "/services/" (service.name) } { (service.name) } }
            (facts(service))
        }
    }
}

/// State, verdict, recovery point, last recovery.
pub(super) fn facts(service: &ServiceStatus) -> Markup {
    let newest = service.checkpoint.newest.as_ref();
    html! {
        dl {
            dt { "state" } dd class={ "state " (mood_of_state(&service.state)) } { (service.state) @if service.paused { ", policies held" } }
            dt { "health" } dd class=(mood_of_verdict(service.verdict.as_deref())) { (service.verdict.as_deref().unwrap_or("-")) }
            dt { "runtime" } dd { (service.runtime) }
            @if let Some(lease) = &service.lease {
                dt { "lease" } dd { (lease.role) ", epoch " (lease.epoch) @if lease.role != "holder" && let Some(holder) = &lease.holder { ", held by " (holder) } }
            }
            @if !service.members.is_empty() {
                dt { "members" } dd { (service.members.keys().map(String::as_str).collect::<Vec<_>>().join(", ")) }
            }
            dt { "newest image" } dd { @if let Some(newest) = newest { (words::span(newest.age_seconds)) " old" ", " (newest.verdict) } @else { "none" } }
            dt { "last recovery" } dd { (recovery(service.last_recovery.as_ref())) }
            @if let Some(says) = &service.says { dt { "says" } dd { (says) } }
            @for (name, text) in troubles(service) { dt { (name) } dd.doubt { (text) } }
        }
    }
}

fn recovery(last: Option<&RecoveryStatus>) -> Markup {
    html! {
        @if let Some(last) = last { (last.rung) " after " (last.cause) ", " (words::milliseconds(last.took_ms)) }
        @else { "none" }
    }
}

fn troubles(service: &ServiceStatus) -> Vec<(&'static str, &str)> {
    let all = [
        ("degraded", &service.degraded),
        ("given up", &service.failed),
        ("suspended in", &service.suspended_in),
    ];
    all.into_iter().filter_map(|(name, text)| Some((name, text.as_deref()?))).collect()
}

/// What happened, newest first.
pub(super) fn timeline<'a>(records: impl DoubleEndedIterator<Item = &'a EventRecord>) -> Markup {
    html! {
        ol.timeline {
            @for record in records.rev() {
                li class=(mood(&record.kind)) data-kind=(record.kind) {
                    time datetime=(record.at) { (record.at.get(..19).unwrap_or_default().replace('T', " ")) }
                    @if let Some(service) = &record.service { b { (service) } " " }
                    (record.text)
                }
            }
        }
    }
}

fn mood(kind: &str) -> &'static str {
    match kind {
        "noticed" | "gave-up" => "bad",
        "recovered" | "started" | "adopted" => "good",
        "degraded" => "doubt",
        failed if failed.ends_with("-failed") => "doubt",
        _ => "",
    }
}

fn mood_of_state(state: &str) -> &'static str {
    match state {
        "running" => "good",
        "failed" => "bad",
        "recovering" | "held" | "starting" => "doubt",
        _ => "soft",
    }
}

fn mood_of_verdict(verdict: Option<&str>) -> &'static str {
    match verdict {
        Some("healthy") => "good",
        Some("unhealthy") => "bad",
        _ => "soft",
    }
}
