//! `[service.NAME.checkpoint]` and CRIU's own options.

use policies::{cadence, retention};

use crate::read::{Cell, Table};
use crate::settings::{CheckpointPlan, CriuOptions, Tcp};
use crate::values::{
    choice, count, duration, duration_or_never, flag, number, path, size, small, text, word,
};

/// When a checkpoint is taken beside the cadence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Occasion {
    /// The supervisor stops.
    Shutdown,
    /// The node is emptied.
    Drain,
}

/// The table's content, by who needs it.
pub(super) struct Checkpoint {
    pub(super) cadence: cadence::Settings,
    pub(super) trial: bool,
    pub(super) retention: retention::Settings,
    pub(super) plan: CheckpointPlan,
}

pub(super) fn checkpoint(table: Table<'_>) -> Checkpoint {
    let enabled = table.get("enabled", flag).unwrap_or_default();
    let on: Vec<Occasion> = table.get("on", |cell| cell.list(choice)).unwrap_or_default();
    let interval = table.get("interval", duration_or_never).flatten();
    let trial = table.get("trial", flag).unwrap_or_default();
    let checkpoint = Checkpoint {
        cadence: cadence::Settings {
            interval: interval.filter(|_| enabled),
            jitter: table.get("jitter", number).unwrap_or_default(),
            timeout: table.get("timeout", duration).unwrap_or_default(),
            require_healthy: table.get("require_healthy", flag).unwrap_or_default(),
            on_shutdown: enabled && on.contains(&Occasion::Shutdown),
            on_drain: enabled && on.contains(&Occasion::Drain),
        },
        trial: enabled && trial,
        retention: retention::Settings {
            max_checkpoints: table.get("max_checkpoints", count).unwrap_or_default() as usize,
            max_age: table.get("max_age", duration),
            max_total_size: table.get("max_total_size", size),
        },
        plan: CheckpointPlan {
            enabled,
            volumes: table.get("volumes", |cell| cell.list(path)).unwrap_or_default(),
            rootfs: table.get("rootfs", flag).unwrap_or_default(),
            tcp: table.get("tcp", choice).unwrap_or(Tcp::SkipInFlight),
            criu: criu(table.table("criu")),
        },
    };
    table.done();
    checkpoint
}

fn criu(table: Table<'_>) -> CriuOptions {
    let flag = |name| table.get(name, flag).unwrap_or_default();
    let texts = |name| table.get(name, |cell| cell.list(word)).unwrap_or_default();
    let paths = |name| table.get(name, |cell| cell.list(path)).unwrap_or_default();
    let options = CriuOptions {
        ext_unix_sk: flag("ext_unix_sk"),
        shell_job: flag("shell_job"),
        file_locks: flag("file_locks"),
        link_remap: flag("link_remap"),
        evasive_devices: flag("evasive_devices"),
        force_irmap: flag("force_irmap"),
        irmap_scan_paths: paths("irmap_scan_paths"),
        ghost_limit: table.get("ghost_limit", ghost_limit),
        external: texts("external"),
        skip_mnt: paths("skip_mnt"),
        enable_fs: texts("enable_fs"),
        auto_ext_mnt: flag("auto_ext_mnt"),
        ext_sharing: flag("ext_sharing"),
        ext_masters: flag("ext_masters"),
        mntns_compat_mode: flag("mntns_compat_mode"),
        network_lock: table.get("network_lock", choice),
        cpu_cap: table.get("cpu_cap", |cell| cell.list(choice)).unwrap_or_default(),
        manage_cgroups_mode: table.get("manage_cgroups_mode", choice),
        cgroup_dump_controller: texts("cgroup_dump_controller"),
        weak_sysctls: flag("weak_sysctls"),
        orphan_pts_master: flag("orphan_pts_master"),
        skip_file_rwx_check: flag("skip_file_rwx_check"),
        allow_uprobes: flag("allow_uprobes"),
        lsm_profile: table.get("lsm_profile", lsm_profile),
        lsm_mount_context: table.get("lsm_mount_context", word),
        log_level: table.get("log_level", small),
    };
    table.done();
    options
}

/// CRIU's protocol has 32 bits for it.
fn ghost_limit(cell: &Cell<'_>) -> Option<u32> {
    let bytes = size(cell)?;
    u32::try_from(bytes).ok().or_else(|| cell.fault("the size is out of range", "write less than `4GiB`"))
}

fn lsm_profile(cell: &Cell<'_>) -> Option<String> {
    let profile = text(cell)?;
    match profile.split_once(':') {
        Some(("apparmor" | "selinux", name)) if !name.is_empty() => Some(profile),
        Some(_) | None => {
            cell.fault("this is not an LSM profile", "write `\"apparmor:NAME\"` or `\"selinux:LABEL\"`")
        }
    }
}
