//! What is published about the node and its services: the words of the API, plain and serializable.
//!
//! Times are RFC 3339 in UTC; durations name their unit.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::tenure::LeaseStatus;

/// One node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub(crate) struct NodeStatus {
    /// Its name.
    pub(crate) node: String,
    /// The supervisor's version.
    pub(crate) version: String,
    /// The supervisor's own pid.
    pub(crate) pid: u32,
    /// CRIU's version, or why there is none.
    pub(crate) criu: String,
    /// When the supervisor started.
    pub(crate) started_at: String,
    /// The file it was configured by.
    pub(crate) config_file: String,
    /// When that was read last, and what was wrong with a later version of it.
    pub(crate) config_error: Option<String>,
    /// Its services, by name.
    pub(crate) services: Vec<ServiceStatus>,
}

/// One service.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub(crate) struct ServiceStatus {
    /// Its name.
    pub(crate) name: String,
    /// `process` or `runc`.
    pub(crate) runtime: String,
    /// `stopped`, `starting`, `running`, `recovering`, `held`, `stopping`, `suspending`, `suspended`, `failed`, `shutting-down`, `idle`.
    pub(crate) state: String,
    /// `starting`, `healthy`, `unhealthy`; none without a run.
    pub(crate) verdict: Option<String>,
    /// It can serve.
    pub(crate) ready: bool,
    /// Policies are held.
    pub(crate) paused: bool,
    /// The main process as the host sees it.
    pub(crate) pid: Option<i32>,
    /// What it says of itself, by sd_notify's `STATUS=`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) says: Option<String>,
    /// Since when this run runs, seconds.
    pub(crate) running_seconds: Option<f64>,
    /// Why it cannot be checkpointed.
    pub(crate) degraded: Option<String>,
    /// The image that it is in while it does not run.
    pub(crate) suspended_in: Option<String>,
    /// Why it was given up.
    pub(crate) failed: Option<String>,
    /// The last effect that failed.
    pub(crate) last_failure: Option<String>,
    /// Which services it waits for before it is started.
    pub(crate) waiting_for: Vec<String>,
    /// How often it was recovered since the supervisor started.
    pub(crate) restarts: u64,
    /// The last recovery that worked.
    pub(crate) last_recovery: Option<RecoveryStatus>,
    /// The main processes of a group's members, by their names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) members: BTreeMap<String, i32>,
    /// Its probes.
    pub(crate) probes: Vec<ProbeStatus>,
    /// Its lease, if other nodes may run it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) lease: Option<LeaseStatus>,
    /// Its checkpoints.
    pub(crate) checkpoint: CheckpointStatus,
    /// Its replicas: what would be left if this host were lost.
    #[serde(default)]
    pub(crate) replicas: Vec<ReplicaStatus>,
}

/// One service's recovery point at one replica.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub(crate) struct ReplicaStatus {
    /// Where it is.
    pub(crate) url: String,
    /// The newest image that it has acknowledged.
    pub(crate) newest: Option<String>,
    /// When that was taken.
    pub(crate) taken_at: Option<String>,
    /// Seconds since.
    pub(crate) age_seconds: Option<f64>,
    /// How many images it has; none if it was not asked yet.
    pub(crate) images: Option<usize>,
    /// Durable images here that are newer than the newest there.
    pub(crate) behind: usize,
    /// The image that is being sent.
    pub(crate) sending: Option<String>,
    /// Why it does not work, as long as it does not.
    pub(crate) last_error: Option<String>,
}

/// A recovery.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub(crate) struct RecoveryStatus {
    /// What had happened.
    pub(crate) cause: String,
    /// The rung that worked.
    pub(crate) rung: String,
    /// The image it came back from.
    pub(crate) image: Option<String>,
    /// From the notice of the fault to the first good answer, milliseconds.
    pub(crate) took_ms: f64,
}

/// One probe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub(crate) struct ProbeStatus {
    /// Its name.
    pub(crate) name: String,
    /// Its verdict.
    pub(crate) verdict: String,
    /// How often it was answered well since the supervisor started, or the probe was changed.
    #[serde(default)]
    pub(crate) passed: u64,
    /// How often it was not.
    #[serde(default)]
    pub(crate) failed: u64,
}

/// Checkpoints of one service.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub(crate) struct CheckpointStatus {
    /// One is being taken.
    pub(crate) in_flight: bool,
    /// When the next is due, seconds from now.
    pub(crate) next_seconds: Option<f64>,
    /// How long the service stood still for the last one, milliseconds.
    pub(crate) last_pause_ms: Option<f64>,
    /// How many images there are.
    pub(crate) images: usize,
    /// Bytes that they take on disk.
    #[serde(default)]
    pub(crate) stored_bytes: u64,
    /// The newest image that can be restored on this host.
    pub(crate) newest: Option<NewestImage>,
    /// The newest one that lies ready, uncompressed.
    #[serde(default)]
    pub(crate) newest_hot: Option<NewestImage>,
    /// The newest one that is on disk.
    pub(crate) newest_durable: Option<NewestImage>,
}

/// What could be gone back to: the recovery point.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub(crate) struct NewestImage {
    /// Its id.
    pub(crate) id: String,
    /// When it was taken.
    pub(crate) taken_at: String,
    /// Seconds since.
    pub(crate) age_seconds: f64,
    /// `good`, `unjudged`, `suspect`.
    pub(crate) verdict: String,
    /// It lies ready, uncompressed.
    pub(crate) hot: bool,
    /// It is on disk, complete and synced.
    pub(crate) durable: bool,
}

/// One image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub(crate) struct ImageStatus {
    /// Its id.
    pub(crate) id: String,
    /// Whose.
    pub(crate) service: String,
    /// When it was taken.
    pub(crate) taken_at: String,
    /// Seconds since.
    pub(crate) age_seconds: f64,
    /// `good`, `unjudged`, `suspect`.
    pub(crate) verdict: String,
    /// It lies ready, uncompressed.
    pub(crate) hot: bool,
    /// It is on disk, complete and synced.
    pub(crate) durable: bool,
    /// A replica has acknowledged it.
    #[serde(default)]
    pub(crate) replicated: bool,
    /// Retention leaves it.
    pub(crate) pinned: bool,
    /// Why it is damaged.
    pub(crate) damaged: Option<String>,
    /// Why it does not suit this host.
    pub(crate) incompatible: Option<String>,
    /// The id of the key that it is encrypted under on disk, if it is.
    #[serde(default)]
    pub(crate) key: Option<String>,
    /// Bytes of its files.
    pub(crate) size_bytes: u64,
    /// Bytes on disk.
    pub(crate) stored_bytes: u64,
    /// How long the service stood still for it, milliseconds.
    pub(crate) pause_ms: Option<f64>,
}

/// One entry of the journal of events.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub(crate) struct EventRecord {
    /// Grows by one with each event of this node.
    pub(crate) seq: u64,
    /// When.
    pub(crate) at: String,
    /// Which service, if one.
    pub(crate) service: Option<String>,
    /// What, as one word: `started`, `noticed`, `rung-taken`, `recovered`, ...
    pub(crate) kind: String,
    /// The same for people.
    pub(crate) text: String,
    /// An image, if one is concerned.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) image: Option<String>,
    /// How long it took, milliseconds: a recovery from the notice of the fault to the first good answer.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) took_ms: Option<f64>,
    /// When it ran again, milliseconds from the beginning of what took so long: of a recovery, until the service ran and had to
    /// answer; of a checkpoint, until it was thawed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) ran_after_ms: Option<f64>,
    /// How long the service stood still for a checkpoint, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) pause_ms: Option<f64>,
    /// What kind of cause a fault or recovery has: `crashed`, `hung`, ...
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) cause: Option<String>,
    /// The rung of the ladder that was tried: `restore-latest`, ...
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) rung: Option<String>,
    /// Why a checkpoint was taken: `cadence`, `request`, ...
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) reason: Option<String>,
    /// The kind of failure, told by what can be done about it: `unavailable`, `refused`, `corrupt`, `fenced`, `invalid`, `internal`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) failure: Option<String>,
    /// The URL of the replica that is concerned.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) replica: Option<String>,
    /// Bytes of an image's files.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) size_bytes: Option<u64>,
    /// Bytes of it on disk.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) stored_bytes: Option<u64>,
}

impl EventRecord {
    /// Bears the kind of an error, too.
    pub(crate) fn for_error(mut self, error: &engine::Error) -> Self {
        self.failure = Some(error.kind().to_owned());
        self
    }
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub(crate) struct Answer {
    /// `done`, `already-so`, `accepted` (it goes on; follow the events), `denied`, `failed`.
    pub(crate) outcome: String,
    /// For people.
    pub(crate) text: String,
    /// The image that was taken or restored.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) image: Option<String>,
    /// How long the service stood still, or how long it took to come back, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) took_ms: Option<f64>,
}

/// What a request asks of a service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Action {
    /// Take a checkpoint.
    Checkpoint,
    /// Restore an image, the newest that can be trusted if none is named.
    Restore {
        /// Which.
        image: Option<String>,
    },
    /// Stop it.
    Stop,
    /// Start it.
    Start,
    /// Put it into an image and end it.
    Suspend,
    /// Bring it back from there.
    Resume,
    /// Hold its policies.
    Pause,
    /// Go on.
    Unpause,
}
