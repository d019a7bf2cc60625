//! `[service.NAME.checkpoint]` and CRIU's own options.

use super::service::{PATHS, TEXTS};
use super::{Key, Kind, Section, words};
use crate::raw::Occasion;
use crate::settings::{CgroupMode, CpuCap, NetworkLock, Tcp};

pub(super) static CHECKPOINT: Section = Section {
    title: "service.NAME.checkpoint",
    doc: "When checkpoints are taken, what belongs to them, and which images are kept.",
    keys: KEYS,
};

pub(super) static GROUP_CHECKPOINT: Section = Section {
    title: "group.NAME.checkpoint",
    doc: "When checkpoints of the whole group are taken, what belongs to them, and which images are kept. CRIU's options and `tcp` are those \
    of every member.",
    keys: KEYS,
};

const KEYS: &[Key] = &[
    Key::default(
        "enabled",
        Kind::Flag,
        "true",
        "Whether checkpoints are taken at all; without, recovery is by cold start.",
    ),
    Key::default(
        "interval",
        Kind::DurationOrNever,
        "\"30s\"",
        "Time between two checkpoints; `never` takes them on demand only.",
    ),
    Key::default(
        "jitter",
        Kind::Number { min: 0.0, max: 1.0 },
        "0.1",
        "Part of the interval by which it varies, so that services do not stand still together.",
    ),
    Key::default(
        "timeout",
        Kind::Duration,
        "\"30s\"",
        "How long one checkpoint may take altogether before it is given up and the service thawed.",
    ),
    Key::default(
        "require_healthy",
        Kind::Flag,
        "true",
        "Take checkpoints on the cadence only while the probes say healthy.",
    ),
    Key::default(
        "trial",
        Kind::Flag,
        "true",
        "Try a checkpoint soon after the first start, so that a service that cannot be checkpointed \
            is known before it crashes.",
    ),
    Key::default(
        "on",
        Kind::List(&Kind::Choice(words::<Occasion>)),
        "[\"shutdown\", \"drain\"]",
        "Further occasions: `shutdown` of the supervisor, `drain` of the node.",
    ),
    Key::default(
        "max_checkpoints",
        Kind::Whole { min: 2, max: 100_000 },
        "10",
        "How many images are kept; at least 2, so that there is always an older one.",
    ),
    Key::optional(
        "max_age",
        Kind::Duration,
        "no limit",
        "\"7days\"",
        "Images older than this go, but never the newest good one.",
    ),
    Key::optional(
        "max_total_size",
        Kind::Size,
        "no limit",
        "\"5GB\"",
        "Space that this service's images may take; the newest good one stays in any case.",
    ),
    Key::default(
        "rootfs",
        Kind::Flag,
        "true",
        "Whether the container's writable layer belongs to the image (a plain process has none).",
    ),
    Key::default(
        "volumes",
        PATHS,
        "[]",
        "Folders whose content belongs to the image, taken at the same instant as the memory. Of a docker or \
            podman container, named volumes belong to the image by themselves, and bind mounts when their \
            path on the host or in the container is listed.",
    ),
    Key::default(
        "tcp",
        Kind::Choice(words::<Tcp>),
        "\"skip_in_flight\"",
        "TCP connections: kept but for those still being set up (`skip_in_flight`), kept, with no \
            checkpoint while one is being set up (`established`), or restored closed (`close`). What is kept \
            lives on through suspend, resume and moves. An image after which the service ran on, as those of the \
            cadence, keeps only connections within the service (or its group): the others have gone on, too. docker \
            passes no such option on to a restore: there, connections are kept only if the host's \
            `/etc/criu/runc.conf` has a line `tcp-established`.",
    ),
    Key::table("criu", &CRIU),
];

const BY_TCP: &str = "write `tcp = \"established\" | \"close\" | \"skip_in_flight\"` beside `criu`";
const BY_US: &str = "leave it out: the supervisor sets it for each checkpoint and restore";

static CRIU: Section = Section {
    title: "service.NAME.checkpoint.criu",
    doc: "CRIU's own options, under CRIU's names; see criu(8). What is left out keeps CRIU's default \
    unless said otherwise.",
    keys: &[
        Key::default(
            "ext_unix_sk",
            Kind::Flag,
            "false",
            "Allow unix connections to something outside the service.",
        ),
        Key::default(
            "shell_job",
            Kind::Flag,
            "false",
            "Allow a session or terminal shared with something outside.",
        ),
        Key::default("file_locks", Kind::Flag, "false", "Dump and restore file locks."),
        Key::default(
            "link_remap",
            Kind::Flag,
            "false",
            "Link deleted files that are still open back to dump them.",
        ),
        Key::optional(
            "ghost_limit",
            Kind::Size,
            "CRIU's 1MiB",
            "\"16MiB\"",
            "Largest deleted but open file that is put into an image; below 4GiB.",
        ),
        Key::default(
            "external",
            TEXTS,
            "[]",
            "Resources outside the service, as CRIU writes them: `mnt[/path]:name`, `tty[rdev:dev]`, ...",
        ),
        Key::optional(
            "network_lock",
            Kind::Choice(words::<NetworkLock>),
            "the supervisor's choice",
            "\"nftables\"",
            "How established connections are held still during the dump.",
        ),
        Key::default(
            "cpu_cap",
            Kind::List(&Kind::Choice(words::<CpuCap>)),
            "[]",
            "Which CPU features must agree between dump and restore; empty is CRIU's default.",
        ),
        Key::optional(
            "log_level",
            Kind::Whole { min: 0, max: 4 },
            "the supervisor's choice",
            "4",
            "How much CRIU writes to its log.",
        ),
        Key::default(
            "evasive_devices",
            Kind::Flag,
            "false",
            "Use any path to a device file if its own is gone.",
        ),
        Key::default("force_irmap", Kind::Flag, "false", "Find the paths of inotify watches by scanning."),
        Key::default("irmap_scan_paths", PATHS, "[]", "Where `force_irmap` scans."),
        Key::default("skip_mnt", PATHS, "[]", "Mount points that are left out."),
        Key::default("enable_fs", TEXTS, "[]", "File systems to be treated as known."),
        Key::default("auto_ext_mnt", Kind::Flag, "false", "Find external mounts without being told."),
        Key::default(
            "ext_sharing",
            Kind::Flag,
            "false",
            "Allow external mounts that are shared with the outside.",
        ),
        Key::default("ext_masters", Kind::Flag, "false", "Allow external mounts whose master is outside."),
        Key::default("mntns_compat_mode", Kind::Flag, "false", "Restore mount namespaces in the older way."),
        Key::optional(
            "manage_cgroups_mode",
            Kind::Choice(words::<CgroupMode>),
            "the supervisor's choice",
            "\"soft\"",
            "How cgroups are restored.",
        ),
        Key::default(
            "cgroup_dump_controller",
            TEXTS,
            "[]",
            "Further cgroup controllers whose properties are dumped.",
        ),
        Key::default("weak_sysctls", Kind::Flag, "false", "Skip sysctls that the kernel does not have."),
        Key::default("orphan_pts_master", Kind::Flag, "false", "Restore terminals whose master is outside."),
        Key::default(
            "skip_file_rwx_check",
            Kind::Flag,
            "false",
            "Ignore changed permission bits of files on restore.",
        ),
        Key::default("allow_uprobes", Kind::Flag, "false", "Allow processes with uprobes (CRIU 4.2)."),
        Key::optional(
            "lsm_profile",
            Kind::Text,
            "CRIU's choice",
            "\"apparmor:redis\"",
            "LSM profile on restore, `TYPE:NAME`.",
        ),
        Key::optional(
            "lsm_mount_context",
            Kind::Text,
            "CRIU's choice",
            "\"system_u:object_r:container_file_t:s0\"",
            "LSM context of mounts on restore.",
        ),
        Key::owned("tcp_established", BY_TCP),
        Key::owned("tcp_close", BY_TCP),
        Key::owned("tcp_skip_in_flight", BY_TCP),
        Key::owned(
            "timeout",
            "write `timeout` beside `criu`: it bounds the whole checkpoint, CRIU's only a part of it",
        ),
        Key::owned("pid", BY_US),
        Key::owned("root", BY_US),
        Key::owned("leave_running", BY_US),
        Key::owned("leave_stopped", BY_US),
        Key::owned("images_dir", BY_US),
        Key::owned("log_file", BY_US),
        Key::owned("parent_img", BY_US),
        Key::owned("track_mem", BY_US),
        Key::owned("auto_dedup", BY_US),
        Key::owned("freeze_cgroup", BY_US),
        Key::owned("manage_cgroups", "write `manage_cgroups_mode`"),
        Key::owned("lazy_pages", BY_US),
        Key::owned("rst_sibling", BY_US),
        Key::owned("config_file", BY_US),
    ],
};
