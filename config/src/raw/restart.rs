//! `[service.NAME.restart]`.

use policies::ladder::OnExhausted;
use policies::service::RestartPolicy;
use policies::{backoff, ladder};

use crate::read::Table;
use crate::values::{choice, count, duration, duration_or_zero, number};

/// The table's content, by who needs it.
pub(super) struct Recovery {
    pub(super) policy: RestartPolicy,
    pub(super) backoff: backoff::Settings,
    pub(super) ladder: ladder::Settings,
}

pub(super) fn restart(table: Table<'_>) -> Recovery {
    let recovery = Recovery {
        policy: table.get("policy", choice).unwrap_or(RestartPolicy::Always),
        backoff: backoff::Settings {
            initial: table.get("backoff_initial", duration).unwrap_or_default(),
            max: table.get("backoff_max", duration).unwrap_or_default(),
            factor: table.get("backoff_factor", number).unwrap_or_default(),
            jitter: table.get("jitter", number).unwrap_or_default(),
        },
        ladder: ladder::Settings {
            rungs: table.get("ladder", |cell| cell.list(choice)).unwrap_or_default(),
            attempts_per_image: table.get("attempts_per_image", count).unwrap_or_default(),
            max_attempts: table.get("max_attempts", count).unwrap_or_default(),
            window: table.get("window", duration).unwrap_or_default(),
            stable_after: table.get("stable_after", duration_or_zero).unwrap_or_default(),
            on_exhausted: table.get("on_exhausted", choice).unwrap_or(OnExhausted::Stop),
            // Written where the standbys are.
            migration_threshold: None,
        },
    };
    table.done();
    recovery
}
