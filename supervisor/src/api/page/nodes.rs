//! The nodes of the cluster, as this one sees them.

use maud::{Markup, html};

use crate::cli::words;
use crate::tenure::{NodeSeen, ServiceSaid};

/// Each node with what it says of each service.
pub(super) fn table(nodes: &[NodeSeen]) -> Markup {
    html! {
        h2 { "Nodes" }
        div.scroll { table {
            thead { tr { th { "node" } th { "heard" } th { "load" } th { "services" } } }
            tbody { @for seen in nodes { (row(seen)) } }
        } }
    }
}

fn row(seen: &NodeSeen) -> Markup {
    let heard = match (seen.there, seen.silent_seconds) {
        (true, _) if seen.said.draining => ("doubt", "drains".to_owned()),
        (true, _) => ("good", "there".to_owned()),
        (false, Some(seconds)) => ("bad", format!("silent for {}", words::span(seconds))),
        (false, None) => ("bad", "silent".to_owned()),
    };
    html! {
        tr id={ "node-" (seen.node) } {
            td { (seen.node) }
            td class=(heard.0) { (heard.1) }
            td { (seen.said.load / 10) " %" }
            td { @for (name, said) in &seen.said.services { div { b { (name) } " " (part(seen.there, said)) } } }
        }
    }
}

/// A node that is silent says nothing any more.
fn part(there: bool, said: &ServiceSaid) -> Markup {
    html! {
        @if !there { span.soft { "was " (said.role) } }
        @else if let Some(why) = &said.not_ready { (said.role) ", " span.doubt { "not ready: " (why) } }
        @else if said.role == "standby" { span.good { "standby, ready" } }
        @else { (said.role) ", " (said.state) ", epoch " (said.epoch) }
    }
}
