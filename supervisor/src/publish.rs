//! From a policy's status to the published one.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use policies::image::ImageFacts;
use policies::service::Status;
use policies::time::Instant;

use crate::assemble::Parts;
use crate::status::{CheckpointStatus, NewestImage, ProbeStatus, RecoveryStatus, ServiceStatus};

/// What is published of a service.
pub(crate) fn status(
    name: &str,
    runtime: &str,
    status: &Status,
    images: &[ImageFacts],
    now: Instant,
    parts: &Parts,
) -> ServiceStatus {
    let probes = parts.probes.iter().zip(&status.probes);
    ServiceStatus {
        name: name.to_owned(),
        runtime: runtime.to_owned(),
        state: status.state.to_string(),
        verdict: status.verdict.map(|v| v.to_string()),
        ready: status.ready,
        paused: status.paused,
        pid: None,
        says: None,
        running_seconds: status.running_since.map(|since| now.since(since).as_secs_f64()),
        degraded: status.degraded.clone(),
        suspended_in: status.suspended_in.as_ref().map(ToString::to_string),
        failed: status.failed.as_ref().map(ToString::to_string),
        last_failure: status.last_failure.as_ref().map(ToString::to_string),
        waiting_for: Vec::new(),
        restarts: status.restarts,
        last_recovery: status.last_recovery.as_ref().map(|back| RecoveryStatus {
            cause: back.cause.to_string(),
            rung: back.rung.to_string(),
            image: back.image.as_ref().map(ToString::to_string),
            took_ms: back.took().as_secs_f64() * 1e3,
        }),
        members: BTreeMap::new(),
        probes: probes
            .map(|(probe, verdict)| ProbeStatus {
                name: probe.name.clone(),
                verdict: verdict.to_string(),
                passed: 0,
                failed: 0,
            })
            .collect(),
        checkpoint: checkpoint(status, images, now),
        replicas: Vec::new(),
        lease: None,
    }
}

fn checkpoint(status: &Status, images: &[ImageFacts], now: Instant) -> CheckpointStatus {
    let newest = |of: fn(&ImageFacts) -> bool| {
        images.iter().filter(|i| i.usable() && of(i)).max_by_key(|i| i.taken_at).map(newest_image)
    };
    CheckpointStatus {
        in_flight: status.checkpointing.is_some(),
        next_seconds: status.next_checkpoint.map(|due| due.since(now).as_secs_f64()),
        last_pause_ms: None,
        images: images.len(),
        // What lies on disk has its size there.
        stored_bytes: images.iter().filter(|i| i.durable).map(|i| i.size).sum(),
        newest: newest(|_| true),
        newest_hot: newest(|i| i.hot),
        newest_durable: newest(|i| i.durable),
    }
}

fn newest_image(facts: &ImageFacts) -> NewestImage {
    let taken_at = SystemTime::UNIX_EPOCH + Duration::from_nanos(facts.taken_at.as_unix_nanos());
    NewestImage {
        id: facts.id.to_string(),
        taken_at: humantime::format_rfc3339_millis(taken_at).to_string(),
        age_seconds: taken_at.elapsed().unwrap_or_default().as_secs_f64(),
        verdict: facts.verdict.to_string(),
        hot: facts.hot,
        durable: facts.durable,
    }
}
