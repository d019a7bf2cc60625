//! What a checked configuration says, as plain data.
//!
//! Everything here has passed every rule of the crate: paths are absolute, numbers lie in their ranges,
//! names are known. Nothing here can be wrong on its own, so nothing here has methods that may fail.
//! It refuses to know how any of it is carried out.

mod cluster;
mod hooks;
mod probe;
mod replica;
mod sidecar;
mod telemetry;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use policies::id::ServiceName;

pub use cluster::{Cluster, ClusterTls, Failback, Failover, Lease, NetworkAddress};
pub use hooks::{Hooks, Webhook};
pub use probe::{Address, ExecProbe, GrpcProbe, HttpProbe, HttpTarget, Notify, Probe, ProbeKind, ProbeTls};
pub use replica::{Replica, ReplicaPlace, Tls};
pub use sidecar::{Report, Sidecar};
pub use telemetry::Otlp;

/// `[node]`: this host's supervisor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The node's name; `None` means the host's own name, which a parser cannot know.
    pub name: Option<String>,
    /// What must survive a reboot: journal, logs, and by default the images.
    pub state_dir: PathBuf,
    /// What must not: sockets, locks, work folders.
    pub run_dir: PathBuf,
    /// What becomes of the services when the supervisor is asked to stop; `None`: as is usual where it runs.
    pub on_stop: Option<OnStop>,
    /// What is done when the host is about to stop.
    pub on_host_shutdown: HostShutdown,
}

/// What becomes of the services when the supervisor is asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnStop {
    /// They run on.
    Leave,
    /// They are stopped.
    Stop,
    /// They are put into an image.
    Suspend,
}

/// What is done when the host is about to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostShutdown {
    /// Nothing.
    Leave,
    /// Images are taken.
    Checkpoint,
    /// Services go to other nodes; of those that cannot, images are taken.
    Drain,
}

/// `[store]`: where images are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// The store's folder.
    pub path: PathBuf,
    /// How the segments of durable images are compressed.
    pub compression: Compression,
    /// Bytes of the disk that images may not take.
    pub min_free: u64,
    /// Bytes that all images together may take; `None`: what `min_free` leaves.
    pub max_total_size: Option<u64>,
    /// Where the newest image of each service is kept ready.
    pub hot: Hot,
    /// Bytes of memory that hot images may take together; `None`: the engine decides by the host's memory.
    pub hot_max_size: Option<u64>,
    /// What durable images are encrypted under; `None`: they are not.
    pub encryption: Option<KeyFile>,
    /// What older images may be encrypted under.
    pub old_keys: Vec<KeyFile>,
    /// Where durable images are sent.
    pub replicas: Vec<Replica>,
}

/// Where a key of images comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyFile {
    /// A file of 32 bytes.
    Key(PathBuf),
    /// A file with a passphrase.
    Passphrase(PathBuf),
}

/// The codec of durable images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// zstd: smallest.
    Zstd,
    /// lz4: fastest to read back.
    Lz4,
    /// As it is.
    None,
}

/// Where the newest image is kept ready to be restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hot {
    /// In memory, uncompressed: restored soonest.
    Memory,
    /// On disk only: no memory taken.
    Disk,
}

/// `[api]`: how commands reach the running supervisor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Api {
    /// The control socket (mode 0600).
    pub socket: PathBuf,
    /// Where peers are let in; `None`: nowhere.
    pub listen: Option<Address>,
    /// How this node and its peers know each other; there if `listen` is.
    pub tls: Option<Tls>,
    /// The API over HTTPS; `None`: it is on the socket only.
    pub https: Option<Https>,
}

/// `[api.https]`: the API for whoever has the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Https {
    /// Where.
    pub listen: Address,
    /// The file with the token.
    pub token_file: PathBuf,
    /// The certificate that is shown.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// `[service.NAME]`, one supervised service; or `[group.NAME]`, several that are supervised as one.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// What runs it.
    pub runtime: Runtime,
    /// All that decisions about it need.
    pub policy: policies::service::Settings,
    /// Which of its images are kept.
    pub retention: policies::retention::Settings,
    /// Its probes in the order of `policy.probes`: the verdict on `probes[i]` belongs to `policy.probes[i]`.
    pub probes: Vec<Probe>,
    /// How a checkpoint of it is taken.
    pub checkpoint: CheckpointPlan,
    /// The signal that asks it to end.
    pub stop_signal: i32,
    /// What it begins from where nothing is known of it.
    pub start_from: StartFrom,
    /// Services and groups that must be healthy before it is started; there are no cycles.
    pub depends_on: Vec<ServiceName>,
    /// Who may take it over; `None`: nobody.
    pub failover: Option<Failover>,
    /// Who is told of its events, beside those who are told of all.
    pub hooks: Option<Hooks>,
}

/// What a service begins from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartFrom {
    /// Nothing.
    Scratch,
    /// Its newest image, if there is one.
    Image,
}

/// What runs a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Runtime {
    /// A plain process that we start.
    Process(Process),
    /// An OCI bundle run by runc.
    Runc(Runc),
    /// A container of docker's.
    Docker(Docker),
    /// A container of podman's.
    Podman(Podman),
    /// A unit of systemd's.
    Systemd(Systemd),
    /// Several services as one, in the order of their start.
    Group(Vec<Member>),
}

/// A service that is a member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name, which no other service has.
    pub name: ServiceName,
    /// What runs it; never a group.
    pub runtime: Runtime,
    /// What it is told to say how it is; `None`: it has no such probe.
    pub notify: Option<Notify>,
    /// The signal that asks it to end.
    pub stop_signal: i32,
    /// How long it may take to.
    pub stop_timeout: Duration,
}

/// `process = { ... }`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Program and arguments, never empty; the program is an absolute path or a name to be found in `PATH`.
    pub command: Vec<String>,
    /// The environment, complete: nothing is inherited but what the supervisor always sets.
    pub env: BTreeMap<String, String>,
    /// The working folder.
    pub cwd: PathBuf,
    /// `name`, `uid` or `uid:gid`; `None`: the supervisor's own.
    pub user: Option<String>,
    /// What it is kept apart from.
    pub isolation: Isolation,
    /// Where its standard output goes.
    pub stdout: Output,
    /// Where its standard error goes.
    pub stderr: Output,
}

/// What a plain process is kept apart from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// An own pid namespace: its PIDs are free again whenever it is restored.
    Pid,
    /// Nothing: a restore fails when another process has taken one of its PIDs.
    None,
}

/// Where a process's output goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Appended to this file.
    File(PathBuf),
    /// To the systemd journal.
    Journal,
}

/// `runc = { ... }`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runc {
    /// The OCI bundle: a folder with `config.json`.
    pub bundle: PathBuf,
}

/// `docker = { ... }`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Docker {
    /// The container's name.
    pub container: String,
    /// How it is created; `None`: it must exist.
    pub recipe: Option<Recipe>,
    /// The socket of docker's daemon.
    pub socket: PathBuf,
}

/// `podman = { ... }`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Podman {
    /// The container's name.
    pub container: String,
    /// How it is created; `None`: it must exist.
    pub recipe: Option<Recipe>,
    /// podman itself: an absolute path or a name to be found in `PATH`.
    pub program: PathBuf,
    /// Its global options, which stand before its command.
    pub options: Vec<String>,
}

/// `systemd = { ... }`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Systemd {
    /// The unit's name.
    pub unit: String,
}

/// How a container is created that does not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// Name or id of its image; never begins with `-`.
    pub image: String,
    /// Options of `create`, none of which is at odds with being supervised; no other arguments are among them.
    pub create_args: Vec<String>,
    /// What runs in it; empty: what the image says.
    pub command: Vec<String>,
}

/// How a checkpoint of a service is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointPlan {
    /// Whether checkpoints are taken at all; if not, `policy` holds no cadence and no trial either.
    pub enabled: bool,
    /// Folders whose content belongs to the image.
    pub volumes: Vec<PathBuf>,
    /// Whether the container's writable layer belongs to the image.
    pub rootfs: bool,
    /// What becomes of established TCP connections.
    pub tcp: Tcp,
    /// Passed on to CRIU.
    pub criu: CriuOptions,
}

/// What becomes of TCP connections in an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tcp {
    /// Kept with the image (CRIU's `tcp_established`).
    Established,
    /// Restored closed (CRIU's `tcp_close`).
    Close,
    /// Kept, but those still being set up are left out (CRIU's `tcp_established` and `tcp_skip_in_flight`).
    SkipInFlight,
}

/// CRIU's own options, under CRIU's own names. `None`, `false` and empty mean CRIU's default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CriuOptions {
    /// Dump one end of a unix connection whose other end is outside the service.
    pub ext_unix_sk: bool,
    /// The service may share its session and terminal with something outside it.
    pub shell_job: bool,
    /// Dump and restore file locks.
    pub file_locks: bool,
    /// Link deleted files back into the file system to dump them.
    pub link_remap: bool,
    /// Use any path that leads to a device file if its own is gone.
    pub evasive_devices: bool,
    /// Look for the paths of inotify watches by scanning the disk.
    pub force_irmap: bool,
    /// Where `force_irmap` looks.
    pub irmap_scan_paths: Vec<PathBuf>,
    /// Largest deleted file, in bytes, that is put into an image.
    pub ghost_limit: Option<u32>,
    /// Resources outside the service (`mnt[/etc/hosts]:name`, `tty[...]`, ...).
    pub external: Vec<String>,
    /// Mount points left out.
    pub skip_mnt: Vec<PathBuf>,
    /// File systems beyond those CRIU knows.
    pub enable_fs: Vec<String>,
    /// Find external mounts by itself.
    pub auto_ext_mnt: bool,
    /// Allow mounts shared with the outside.
    pub ext_sharing: bool,
    /// Allow mounts that are slaves of outside ones.
    pub ext_masters: bool,
    /// Use the older way to restore mount namespaces.
    pub mntns_compat_mode: bool,
    /// How established connections are held still; `None`: the supervisor decides.
    pub network_lock: Option<NetworkLock>,
    /// Which CPU features must agree; empty: CRIU's default.
    pub cpu_cap: Vec<CpuCap>,
    /// How cgroups are restored.
    pub manage_cgroups_mode: Option<CgroupMode>,
    /// Controllers whose properties are dumped.
    pub cgroup_dump_controller: Vec<String>,
    /// Skip sysctls that the kernel does not have.
    pub weak_sysctls: bool,
    /// Restore terminals whose master end is outside.
    pub orphan_pts_master: bool,
    /// Don't check the r/w/x bits of files on restore.
    pub skip_file_rwx_check: bool,
    /// Dump processes that have uprobes.
    pub allow_uprobes: bool,
    /// LSM profile on restore (`TYPE:NAME`).
    pub lsm_profile: Option<String>,
    /// LSM context of mounts on restore.
    pub lsm_mount_context: Option<String>,
    /// How much CRIU writes to its log, 0 to 4; `None`: the supervisor decides.
    pub log_level: Option<i32>,
}

/// CRIU's network locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkLock {
    /// iptables rules.
    Iptables,
    /// nftables rules.
    Nftables,
    /// No lock.
    Skip,
}

/// Which CPU features CRIU compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuCap {
    /// None.
    None,
    /// All features of the processor.
    Cpu,
    /// The floating point unit's.
    Fpu,
    /// Those that instructions need.
    Ins,
    /// All of these.
    All,
}

/// How CRIU restores cgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupMode {
    /// Leaves them alone.
    Ignore,
    /// Uses what is there.
    None,
    /// Properties only.
    Props,
    /// Creates what is missing.
    Soft,
    /// Restores all.
    Full,
    /// Fails if there is something already.
    Strict,
}
