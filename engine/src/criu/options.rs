//! What may be asked of CRIU for one service, under CRIU's own names.

use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::message::Opts;

/// What becomes of established TCP connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tcp {
    /// Restored as closed: after a crash the peers have seen them close anyway.
    #[default]
    Close,
    /// Restored as they were. Their peers must not have noticed anything, which only a deliberate stop achieves.
    Established,
    /// As `established`, but connections still being made are left out.
    SkipInFlight,
}

/// How CRIU keeps packets away while it looks at sockets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// Not at all while the service runs on afterwards: the lock would cost 20 to 50 ms of pause, and connections of a crashed
    /// service are lost in any case. Rules of nftables where it ends with established connections, which are to live on.
    #[default]
    AsNeeded,
    /// Not at all.
    Skip,
    /// Rules of nftables.
    Nftables,
    /// Rules of iptables.
    Iptables,
}

/// What becomes of a service after its dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Afterwards {
    /// It runs on.
    RunOn,
    /// It ends, in the state that the image has.
    End,
}

/// CRIU's options for one service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// What becomes of established TCP connections.
    pub tcp: Tcp,
    /// How packets are kept away meanwhile.
    pub network_lock: Network,
    /// Dump file locks.
    pub file_locks: bool,
    /// Keep removed but open files by a link.
    pub link_remap: bool,
    /// Bytes up to which a removed but open file is kept in the image. CRIU's own default: 1 MiB.
    pub ghost_limit: Option<u32>,
    /// Allow a controlling terminal of the outside.
    pub shell_job: bool,
    /// Allow unix connections to the outside.
    pub ext_unix_sk: bool,
    /// Resources of the outside, in CRIU's notation.
    pub external: Vec<String>,
    /// Find inotify targets by scanning.
    pub force_irmap: bool,
    /// Take any path of a device that is open by another name.
    pub evasive_devices: bool,
    /// Where `force_irmap` scans.
    pub irmap_scan_paths: Vec<String>,
    /// Mount points left out.
    pub skip_mnt: Vec<String>,
    /// File systems beyond those CRIU knows.
    pub enable_fs: Vec<String>,
    /// Find external mounts by itself.
    pub auto_ext_mnt: bool,
    /// Allow mounts shared with the outside.
    pub ext_sharing: bool,
    /// Allow mounts that are slaves of outside ones.
    pub ext_masters: bool,
    /// The older way to restore mount namespaces.
    pub mntns_compat_mode: bool,
    /// Skip sysctls that the kernel does not have.
    pub weak_sysctls: bool,
    /// Restore terminals whose master end is outside.
    pub orphan_pts_master: bool,
    /// Don't check the r/w/x bits of files on restore.
    pub skip_file_rwx_check: bool,
    /// Controllers whose properties are dumped.
    pub cgroup_dump_controller: Vec<String>,
    /// How cgroups are restored, by CRIU's number; `None`: as the runtime needs it.
    pub manage_cgroups_mode: Option<i32>,
    /// What of the processor must agree, in CRIU's bits.
    pub cpu_cap: Option<u32>,
    /// LSM profile on restore.
    pub lsm_profile: Option<String>,
    /// LSM context of mounts on restore.
    pub lsm_mount_context: Option<String>,
    /// CRIU's log level, 0 to 4.
    pub log_level: Option<i32>,
}

/// The options of a service, which a reload may replace while it runs. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct SharedOptions {
    inner: Arc<Mutex<Options>>,
}

impl SharedOptions {
    /// These options, until they are replaced.
    pub fn new(options: Options) -> Self {
        Self { inner: Arc::new(Mutex::new(options)) }
    }

    /// As they are now.
    pub fn get(&self) -> Options {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces them.
    pub fn replace(&self, options: Options) {
        *self.inner.lock().unwrap_or_else(PoisonError::into_inner) = options;
    }
}

impl Options {
    pub(super) fn common(&self) -> Opts {
        Opts {
            images_dir_fd: -1,
            file_locks: Some(self.file_locks),
            shell_job: Some(self.shell_job),
            ext_unix_sk: Some(self.ext_unix_sk),
            link_remap: Some(self.link_remap),
            force_irmap: Some(self.force_irmap),
            evasive_devices: Some(self.evasive_devices),
            ghost_limit: self.ghost_limit,
            irmap_scan_paths: self.irmap_scan_paths.clone(),
            skip_mnt: self.skip_mnt.clone(),
            enable_fs: self.enable_fs.clone(),
            auto_ext_mnt: Some(self.auto_ext_mnt),
            ext_sharing: Some(self.ext_sharing),
            ext_masters: Some(self.ext_masters),
            mntns_compat_mode: Some(self.mntns_compat_mode),
            weak_sysctls: Some(self.weak_sysctls),
            orphan_pts_master: Some(self.orphan_pts_master),
            skip_file_rwx_check: Some(self.skip_file_rwx_check),
            cgroup_dump_controller: self.cgroup_dump_controller.clone(),
            cpu_cap: self.cpu_cap,
            lsm_profile: self.lsm_profile.clone(),
            lsm_mount_context: self.lsm_mount_context.clone(),
            external: self.external.clone(),
            tcp_close: (self.tcp == Tcp::Close).then_some(true),
            tcp_established: (self.tcp != Tcp::Close).then_some(true),
            // What is still being set up is closed with the rest.
            tcp_skip_in_flight: (self.tcp != Tcp::Established).then_some(true),
            log_level: Some(self.log_level.unwrap_or(2)),
            ..Opts::default()
        }
    }

    pub(super) fn network_lock_number(&self, afterwards: Afterwards) -> i32 {
        match (self.network_lock, self.tcp, afterwards) {
            (Network::Iptables, _, _) => 1,
            (Network::Nftables, _, _)
            | (Network::AsNeeded, Tcp::Established | Tcp::SkipInFlight, Afterwards::End) => 2,
            (Network::Skip, _, _)
            | (Network::AsNeeded, Tcp::Close, Afterwards::End)
            | (Network::AsNeeded, _, Afterwards::RunOn) => 3,
        }
    }
}
