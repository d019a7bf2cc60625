//! `[hooks]` and `[service.NAME.hooks]`.

use super::probe::headers;
use crate::error::Draft;
use crate::read::Table;
use crate::settings::{Hooks, Webhook};
use crate::values::{command, count, duration, event_kind, path, web_url};

pub(super) fn hooks(table: Table<'_>) -> Hooks {
    let on_event = table.get("on_event", command);
    let headers =
        table.get("webhook_headers", headers("it is taken from `webhook`: leave it out")).unwrap_or_default();
    let ca = table.get("webhook_ca", path);
    let attempts = table.get("webhook_attempts", count).unwrap_or_default();
    let webhook = table.get("webhook", web_url).map(|url| Webhook { url, headers, ca, attempts });
    refuse_nobody(&table);
    let kinds = table.get("kinds", |cell| cell.list(event_kind)).unwrap_or_default();
    let timeout = table.get("timeout", duration).unwrap_or_default();
    table.done();
    Hooks { on_event, webhook, kinds: kinds.into_iter().collect(), timeout }
}

/// That somebody is told, and that what is said of a webhook is said of one.
fn refuse_nobody(table: &Table<'_>) {
    let missing = |name| !table.has(name) && !table.is_misspelled(name);
    if missing("on_event") && missing("webhook") && !table.is_no_table() {
        let draft = Draft::error(table.span.clone(), "there is nobody to be told");
        table.context.note(draft.hint("add `on_event = [\"...\"]` or `webhook = \"https://...\"`"));
    }
    for name in ["webhook_headers", "webhook_ca", "webhook_attempts"] {
        if let (Some(span), true) = (table.key_span(name), missing("webhook")) {
            let draft = Draft::error(span, format!("`{name}` does nothing without `webhook`"));
            table.context.note(draft.hint("add `webhook = \"https://...\"`, or leave it out"));
        }
    }
}
