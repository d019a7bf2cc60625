//! The kinds of events that a hook may ask for, each with what it tells.
//!
//! A test of the supervisor holds this list against what it records. It refuses to know what an event looks like.

/// A hook's own failure: no hook is ever told of it, or one that fails would never come to rest.
pub(crate) const UNHEARD: &str = "hook-failed";

/// Every kind, by name, with what it means.
pub const EVENT_KINDS: &[(&str, &str)] = &[
    ("address-failed", "the service's address could not be taken or released"),
    ("address-taken", "the service's address is on this host"),
    ("adopted", "found running by a new supervisor, and taken back"),
    ("checkpoint-failed", "a checkpoint was not taken; the service runs on"),
    ("checkpoint-taken", "there is a new image"),
    ("commit-failed", "the newest image is in memory only"),
    ("config-refused", "the file has mistakes; nothing was changed"),
    ("config-reloaded", "the file was read anew"),
    ("degraded", "the service cannot be checkpointed"),
    ("denied", "a request was not followed after all"),
    ("fenced", "the right to run the service was lost"),
    ("fencing", "the former node is being fenced from outside"),
    ("gave-up", "the service stays down until somebody acts"),
    ("hand-over-failed", "the service stays on this node"),
    ("handed-over", "the service was handed to a standby"),
    ("handing-over", "the service is put into an image for a standby"),
    ("held", "a fault while policies are held; nothing is done"),
    ("hook-failed", "a hook has failed, or missed events; no hook is told"),
    ("host-left", "what was to be done before the host stops is done, or its time is over"),
    ("host-stopping", "the host begins to stop; services are brought to safety"),
    ("image-durable", "an image is on disk, complete and synced"),
    ("image-judged", "an image is good or suspect"),
    ("image-received", "a peer has brought an image"),
    ("image-replicated", "a replica has acknowledged an image"),
    ("image-skipped", "an image is not used, and why"),
    ("images-locked", "images are encrypted under a key that is not configured"),
    ("images-plain", "older images are not encrypted"),
    ("journal-damaged", "what was written of the service could not be read"),
    ("kill-failed", "the service could not be ended"),
    ("lease-acquired", "the right to run the service is ours"),
    ("lease-held", "the right to run the service is still ours"),
    ("lease-lost", "the right to run the service is another node's"),
    ("moved", "the service serves on another node"),
    ("no-longer-degraded", "the service can be checkpointed again"),
    ("node-started", "the supervisor runs"),
    ("node-stopping", "the supervisor stops; what becomes of the services is `node.on_stop`"),
    ("not-configured", "a service runs that is not in the file any more"),
    ("noticed", "a crash or a hang was noticed: recovery begins"),
    ("paused", "policies are held"),
    ("prune-failed", "images could not be removed"),
    ("reclaimed", "what a new supervisor found of the service"),
    ("recovered", "the service is back"),
    ("removed", "the service was taken out of the file, and ended"),
    ("replica-failed", "a replica does not take images"),
    ("replica-mended", "a replica takes images again"),
    ("reported", "a sidecar has reported that the service is not well"),
    ("restarted-outside", "somebody has restarted the service past the supervisor"),
    ("rung-failed", "one way of recovery did not work"),
    ("rung-taken", "one way of recovery is tried"),
    ("start-failed", "the service could not be started"),
    ("started", "the service runs"),
    ("stopped", "the service was stopped"),
    ("stopped-outside", "somebody has stopped the service past the supervisor"),
    ("store-failed", "what images there are could not be read"),
    ("suspended", "the service was put into an image and ended"),
    ("swept", "leftovers of an earlier supervisor were removed"),
    ("take-over-failed", "the service could not be begun here"),
    ("taken-over", "the service runs here now"),
    ("telemetry-failed", "a collector does not take what is sent to it"),
    ("telemetry-mended", "a collector takes what is sent to it again"),
    ("unpaused", "policies are followed again"),
    ("verdict", "the judgement of its probes has changed"),
];

/// The names alone.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    EVENT_KINDS.iter().map(|(name, _)| *name)
}
