//! After our own restart: what was journaled and what is found, and what follows from both. A total function.
//!
//! Fail closed: what is not surely whole is killed, and a service that was asked to stop is never taken back. A kill
//! is sent before the thaw, so that nothing of a service that must die runs on.

use crate::service::RestartPolicy;
use crate::word::words;

/// What was journaled last, before the act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Intent {
    /// It was to be started.
    Starting,
    /// It ran.
    Running,
    /// It ran, and a checkpoint was being taken.
    Checkpointing,
    /// It was to be restored.
    Restoring,
    /// It was being killed to be recovered.
    Recovering,
    /// It was to be stopped.
    Stopping,
    /// It was stopped, or done.
    Stopped,
    /// It was to be put into an image and ended. The image is durable before it ends.
    Suspending,
    /// It was in an image and did not run.
    Suspended,
    /// It was being ended with the supervisor, which takes its services with it.
    Ending,
    /// It has ended so.
    Ended,
    /// It was given up.
    Failed,
}

words!(Intent {
    Starting = "starting",
    Running = "running",
    Checkpointing = "checkpointing",
    Restoring = "restoring",
    Recovering = "recovering",
    Stopping = "stopping",
    Stopped = "stopped",
    Suspending = "suspending",
    Suspended = "suspended",
    Ending = "ending",
    Ended = "ended",
    Failed = "failed",
});

/// What is found by the journaled handle (process and its start time, cgroup, the runtime's id).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Found {
    /// It runs.
    Alive,
    /// It is whole and frozen.
    Frozen,
    /// Some of it is there: a start or restore that was not finished.
    HalfRestored,
    /// The handle is known and what it names is gone.
    Dead,
    /// There is no handle, or the host was started anew.
    Absent,
}

words!(Found {
    Alive = "alive",
    Frozen = "frozen",
    HalfRestored = "half-restored",
    Dead = "dead",
    Absent = "absent",
});

/// What follows once thawed and killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Then {
    /// Take it back as it runs (event `Adopted`).
    Adopt,
    /// Bring its state back (event `FoundDead`).
    Recover,
    /// Start it as if for the first time (event `StartRequested`).
    StartFresh,
    /// Start it from its newest image (event `ImageStartRequested`).
    StartFromImage,
    /// Leave it.
    StayStopped,
    /// Leave it in its image (event `FoundSuspended`), if that exists; else bring its state back.
    StaySuspended,
}

words!(Then {
    Adopt = "adopt",
    Recover = "recover",
    StartFresh = "start-fresh",
    StartFromImage = "start-from-image",
    StayStopped = "stay-stopped",
    StaySuspended = "stay-suspended",
});

/// What to do with a service after our own restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Plan {
    /// Thaw it, after the kill if there is one.
    pub thaw: bool,
    /// Kill it.
    pub kill: bool,
    /// And then.
    pub then: Then,
}

/// What to do, from what was meant and what is.
#[must_use]
pub const fn plan(intent: Intent, found: Found, policy: RestartPolicy) -> Plan {
    match intent {
        Intent::Stopping | Intent::Stopped | Intent::Failed => end(found),
        Intent::Suspended => Plan { then: Then::StaySuspended, ..end(found) },
        Intent::Ending => take_back(found, Then::StartFromImage),
        Intent::Ended => Plan { then: Then::StartFromImage, ..end(found) },
        Intent::Suspending => take_back(found, Then::StaySuspended),
        Intent::Running | Intent::Checkpointing => take_back(found, back(policy)),
        Intent::Starting => take_back(found, Then::StartFresh),
        Intent::Restoring => match found {
            // Frozen in the middle of a restore: nobody knows how much of it is there.
            Found::Frozen => Plan { thaw: true, kill: true, then: Then::Recover },
            Found::Alive | Found::HalfRestored | Found::Dead | Found::Absent => {
                take_back(found, Then::Recover)
            }
        },
        // It had been found faulty: what is left of it is not worth taking back.
        Intent::Recovering => Plan { then: Then::Recover, ..end(found) },
    }
}

const fn end(found: Found) -> Plan {
    match found {
        Found::Alive | Found::HalfRestored => Plan { thaw: false, kill: true, then: Then::StayStopped },
        Found::Frozen => Plan { thaw: true, kill: true, then: Then::StayStopped },
        Found::Dead | Found::Absent => Plan { thaw: false, kill: false, then: Then::StayStopped },
    }
}

const fn take_back(found: Found, otherwise: Then) -> Plan {
    match found {
        Found::Alive => Plan { thaw: false, kill: false, then: Then::Adopt },
        Found::Frozen => Plan { thaw: true, kill: false, then: Then::Adopt },
        Found::HalfRestored => Plan { thaw: false, kill: true, then: otherwise },
        Found::Dead | Found::Absent => Plan { thaw: false, kill: false, then: otherwise },
    }
}

/// A service that ran and is gone is brought back, unless it is never to be restarted.
const fn back(policy: RestartPolicy) -> Then {
    match policy {
        RestartPolicy::Always | RestartPolicy::OnFailure | RestartPolicy::UnlessStopped => Then::Recover,
        RestartPolicy::Never => Then::StayStopped,
    }
}

#[cfg(test)]
mod tests {
    use super::{Found, Intent, Plan, Then, plan};
    use crate::service::RestartPolicy;

    /// Rows: intents; columns: alive, frozen, half restored, dead, absent. `T` thaw, `K` kill, then what follows.
    const TABLE: &[(Intent, [&str; 5])] = &[
        (Intent::Starting, ["adopt", "T adopt", "K start-fresh", "start-fresh", "start-fresh"]),
        (Intent::Running, ["adopt", "T adopt", "K recover", "recover", "recover"]),
        (Intent::Checkpointing, ["adopt", "T adopt", "K recover", "recover", "recover"]),
        (Intent::Restoring, ["adopt", "TK recover", "K recover", "recover", "recover"]),
        (Intent::Recovering, ["K recover", "TK recover", "K recover", "recover", "recover"]),
        (
            Intent::Stopping,
            ["K stay-stopped", "TK stay-stopped", "K stay-stopped", "stay-stopped", "stay-stopped"],
        ),
        (
            Intent::Stopped,
            ["K stay-stopped", "TK stay-stopped", "K stay-stopped", "stay-stopped", "stay-stopped"],
        ),
        (Intent::Suspending, ["adopt", "T adopt", "K stay-suspended", "stay-suspended", "stay-suspended"]),
        (
            Intent::Suspended,
            ["K stay-suspended", "TK stay-suspended", "K stay-suspended", "stay-suspended", "stay-suspended"],
        ),
        (Intent::Ending, ["adopt", "T adopt", "K start-from-image", "start-from-image", "start-from-image"]),
        (
            Intent::Ended,
            [
                "K start-from-image",
                "TK start-from-image",
                "K start-from-image",
                "start-from-image",
                "start-from-image",
            ],
        ),
        (
            Intent::Failed,
            ["K stay-stopped", "TK stay-stopped", "K stay-stopped", "stay-stopped", "stay-stopped"],
        ),
    ];

    fn show(plan: Plan) -> String {
        let marks = format!("{}{}", if plan.thaw { "T" } else { "" }, if plan.kill { "K" } else { "" });
        format!("{marks} {}", plan.then).trim().to_owned()
    }

    #[test]
    fn the_whole_table() {
        assert_eq!(TABLE.len(), Intent::ALL.len());
        for (intent, row) in TABLE {
            for (found, wanted) in Found::ALL.iter().zip(row) {
                let got = show(plan(*intent, *found, RestartPolicy::Always));
                assert_eq!(got, *wanted, "{intent} and {found}");
            }
        }
    }

    #[test]
    fn never_leaves_what_died_but_takes_back_what_lives() {
        for found in Found::ALL {
            let never = plan(Intent::Running, *found, RestartPolicy::Never);
            let always = plan(Intent::Running, *found, RestartPolicy::Always);
            let wanted = if always.then == Then::Recover { Then::StayStopped } else { always.then };
            assert_eq!(never, Plan { then: wanted, ..always }, "{found}");
        }
    }

    #[test]
    fn nothing_is_left_frozen_and_nothing_half_restored_lives() {
        for intent in Intent::ALL {
            for policy in RestartPolicy::ALL {
                assert!(plan(*intent, Found::Frozen, *policy).thaw, "{intent} {policy}");
                assert!(plan(*intent, Found::HalfRestored, *policy).kill, "{intent} {policy}");
            }
        }
    }
}
