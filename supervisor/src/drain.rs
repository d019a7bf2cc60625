//! Bringing a service to safety before this node, or its whole host, goes away: to another node if one may run it, else into an image.
//!
//! It refuses to end a service that stays.

use std::time::Duration;

use policies::id::ServiceName;
use tokio::time::{Instant, sleep};

use crate::carry_out::blocking;
use crate::control::Control;
use crate::notices::answer;
use crate::status::{Action, Answer, ServiceStatus};

/// How often it is looked whether an image is on disk.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Occasion {
    /// The node is drained: it takes nothing over, and runs on.
    Drain,
    /// The host stops; services that can go elsewhere do.
    HostLeft,
    /// The host stops; every service stays.
    HostStops,
}

/// Does it; the answer says what became of the service.
pub(crate) async fn bring_to_safety(
    control: &Control,
    service: &ServiceStatus,
    occasion: Occasion,
    limit: Duration,
) -> Answer {
    let held = service.lease.as_ref().map(|lease| lease.role == "holder");
    match (held, occasion) {
        (Some(false), _) => answer("done", "not held by this node"),
        (Some(true), Occasion::Drain | Occasion::HostLeft) => {
            let moved = control.move_to(&service.name, None, limit).await;
            moved.unwrap_or_else(|unknown| answer("failed", unknown.to_string()))
        }
        (Some(true), Occasion::HostStops) | (None, _) => kept(control, service, occasion, limit).await,
    }
}

/// If it is so configured, an image is taken that survives whatever comes.
async fn kept(control: &Control, service: &ServiceStatus, occasion: Occasion, limit: Duration) -> Answer {
    let begun = Instant::now();
    let stays = match occasion {
        Occasion::Drain => "no other node may run it: it has no `failover`",
        Occasion::HostLeft | Occasion::HostStops => "it stays",
    };
    let Ok(name) = ServiceName::try_from(service.name.as_str()) else { return answer("stays", stays) };
    if !is_wanted(control, &name, occasion).await || service.state != "running" {
        return answer("stays", stays);
    }
    match control.ask(&service.name, Action::Checkpoint, limit).await {
        Ok(Answer { outcome, image: Some(image), .. }) if outcome == "done" => {
            if occasion == Occasion::Drain || is_durable(control, &name, &image, begun + limit).await {
                answer("stays", format!("{stays}; image {image} was taken"))
            } else {
                answer("accepted", format!("{stays}; image {image} is not on disk yet"))
            }
        }
        Ok(failed) => answer(&failed.outcome, format!("{stays}; {}", failed.text)),
        Err(unknown) => answer("failed", unknown.to_string()),
    }
}

async fn is_wanted(control: &Control, name: &ServiceName, occasion: Occasion) -> bool {
    let Ok(parts) = control.parts(name).await else { return false };
    let cadence = &parts.policy.cadence;
    match occasion {
        Occasion::Drain => cadence.on_drain,
        Occasion::HostLeft => cadence.on_drain || cadence.on_shutdown,
        Occasion::HostStops => cadence.on_shutdown,
    }
}

/// What is in memory only is gone with the host.
async fn is_durable(control: &Control, name: &ServiceName, image: &str, deadline: Instant) -> bool {
    while Instant::now() < deadline {
        let (store, name) = (control.store().clone(), name.clone());
        let listed = blocking(move || store.list(&name)).await.unwrap_or_default();
        if listed.iter().any(|record| record.facts.id.as_str() == image && record.facts.durable) {
            return true;
        }
        sleep(LOOK_EVERY).await;
    }
    false
}
