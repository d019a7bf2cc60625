//! The one table of metrics: names, types, labels, words for people.
//!
//! What is encoded, `docs/metrics.md` and the check of `docs/grafana.json` and `docs/alerts.yml` take theirs from here. It refuses to
//! hold code.

use prometheus_client::metrics::MetricType;

/// One metric.
#[derive(Debug)]
pub(crate) struct Metric {
    /// As it is scraped; a counter's ends in `_total`.
    pub(crate) name: &'static str,
    pub(crate) kind: MetricType,
    #[cfg(test)]
    pub(crate) labels: &'static [&'static str],
    /// Without a full stop, which the encoder adds.
    pub(crate) help: &'static str,
}

/// Declares metrics, and the list of all of them in the same order.
macro_rules! metrics {
    ($($constant:ident: $kind:ident $name:literal [$($label:literal),*] $help:literal;)+) => {
        $(pub(crate) const $constant: Metric = Metric {
            name: $name,
            kind: MetricType::$kind,
            #[cfg(test)]
            labels: &[$($label),*],
            help: $help,
        };)+

        /// Every metric, in the order of the documentation.
        #[cfg(test)]
        pub(crate) const ALL: &[Metric] = &[$($constant),+];
    };
}

metrics! {
    STATE: Gauge "supervisor_service_state" ["service", "state"]
        "1 for the state that the service is in, 0 for the others";
    VERDICT: Gauge "supervisor_service_verdict" ["service", "verdict"]
        "1 for the judgement of the service's probes, 0 for the others; all 0 without a run";
    READY: Gauge "supervisor_service_ready" ["service"]
        "Whether the service can serve";
    PAUSED: Gauge "supervisor_service_policies_paused" ["service"]
        "Whether the service's policies are held: it is neither checkpointed nor recovered";
    DEGRADED: Gauge "supervisor_service_degraded" ["service"]
        "Whether the service cannot be checkpointed, so that only cold starts are left";
    FAULTS: Counter "supervisor_faults_total" ["service", "cause"]
        "Faults that were noticed, by kind of cause";
    RECOVERIES: Counter "supervisor_recoveries_total" ["service", "cause", "rung"]
        "Times the service was brought back, by cause and by the rung that worked";
    RUNGS_FAILED: Counter "supervisor_rungs_failed_total" ["service", "rung"]
        "Rungs of the ladder that were tried and did not work";
    GIVEN_UP: Counter "supervisor_given_up_total" ["service"]
        "Times the service was given up";
    RECOVERY_SECONDS: Histogram "supervisor_recovery_seconds" ["service", "rung"]
        "From the notice of a fault to the first good answer (MTTR); without restores that were asked for";
    CHECKPOINTS: Counter "supervisor_checkpoints_total" ["service", "reason"]
        "Checkpoints that were taken, by why they were";
    CHECKPOINTS_FAILED: Counter "supervisor_checkpoints_failed_total" ["service", "reason"]
        "Checkpoints that failed, by why they were to be taken";
    PAUSE_SECONDS: Histogram "supervisor_checkpoint_pause_seconds" ["service"]
        "How long the service stood still for a checkpoint";
    CHECKPOINT_SECONDS: Histogram "supervisor_checkpoint_seconds" ["service"]
        "A checkpoint from its command until its image is hot";
    COMMIT_SECONDS: Histogram "supervisor_commit_seconds" ["service"]
        "Making a hot image durable";
    RECOVERY_POINT: Gauge "supervisor_recovery_point_age_seconds" ["service", "kind"]
        "Age of the newest image that is `hot`, `durable` or `replicated`; absent while there is none";
    IMAGE_SIZE: Gauge "supervisor_image_size_bytes" ["service"]
        "Bytes of the files of the image that was made durable last";
    IMAGE_STORED: Gauge "supervisor_image_stored_bytes" ["service"]
        "Bytes on disk of the image that was made durable last";
    IMAGES: Gauge "supervisor_images" ["service"]
        "Images of the service on this host";
    STORED: Gauge "supervisor_store_images_bytes" ["service"]
        "Bytes that the service's images take on disk";
    STORE_FREE: Gauge "supervisor_store_free_bytes" []
        "Free space of the disk that the store is on";
    STORE_MIN_FREE: Gauge "supervisor_store_min_free_bytes" []
        "Space of it that images never take (`store.min_free`)";
    STORE_MAX: Gauge "supervisor_store_max_bytes" []
        "Space that all images may take (`store.max_total_size`); absent without a limit";
    PROBES: Counter "supervisor_probe_results_total" ["service", "probe", "result"]
        "Answers of a probe, `passed` or `failed`";
    PROBE_VERDICT: Gauge "supervisor_probe_verdict" ["service", "probe", "verdict"]
        "1 for the judgement of this probe, 0 for the others; absent without a run";
    REPLICA_POINT: Gauge "supervisor_replica_recovery_point_age_seconds" ["service", "replica"]
        "Age of the newest image that this replica has acknowledged; absent while there is none";
    REPLICA_BEHIND: Gauge "supervisor_replica_behind_images" ["service", "replica"]
        "Durable images here that are newer than the newest there";
    REPLICA_FAILING: Gauge "supervisor_replica_failing" ["service", "replica"]
        "Whether images cannot be sent there at present";
    REPLICATION_SECONDS: Histogram "supervisor_replication_seconds" ["service", "replica"]
        "Sending an image, until it is acknowledged";
    LEASE_ROLE: Gauge "supervisor_lease_role" ["service", "role"]
        "1 for this node's part in who runs the service, 0 for the others; absent for services of this node alone";
    LEASE_EPOCH: Gauge "supervisor_lease_epoch" ["service"]
        "The epoch of the present or last holder";
    NODE_THERE: Gauge "supervisor_node_there" ["node"]
        "Whether a node of the cluster has said something within a lease's time; absent for a node that stands alone";
    NODE_DRAINING: Gauge "supervisor_node_draining" ["node"]
        "Whether a node takes no services over";
    STANDBY_READY: Gauge "supervisor_standby_ready" ["node", "service"]
        "Whether a standby could take the service over now; absent for nodes that are not there";
    ERRORS: Counter "supervisor_errors_total" ["service", "event", "kind"]
        "Effects that failed: what, and the kind of error; without a service for the node's own";
    EVENTS: Counter "supervisor_events_total" ["event"]
        "Events of every kind";
    SPANS_DROPPED: Counter "supervisor_telemetry_spans_dropped_total" []
        "Spans that no collector got: it was away for too long, or would not have them";
    CONFIG_GOOD: Gauge "supervisor_config_last_reload_successful" []
        "Whether the configuration file, as it is now, could be used";
    BUILD: Gauge "supervisor_build_info" ["version", "node", "criu"]
        "1; what runs here";
    CPU: Counter "process_cpu_seconds_total" []
        "Processor time of the supervisor itself, user and system";
    RESIDENT: Gauge "process_resident_memory_bytes" []
        "Memory of the supervisor itself";
    VIRTUAL: Gauge "process_virtual_memory_bytes" []
        "Virtual memory of the supervisor itself";
    STARTED: Gauge "process_start_time_seconds" []
        "When the supervisor started, since the epoch";
    FDS: Gauge "process_open_fds" []
        "Open file descriptors of the supervisor itself";
    FDS_MAX: Gauge "process_max_fds" []
        "How many it may open";
}
