//! What may be asked of CRIU for one service, under CRIU's own names.

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
    /// Not at all. Right while the service runs on afterwards: the lock would cost 20 to 50 ms of pause, and
    /// connections of a crashed service are lost in any case.
    #[default]
    Skip,
    /// Rules of nftables.
    Nftables,
    /// Rules of iptables.
    Iptables,
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
    /// CRIU's log level, 0 to 4.
    pub log_level: Option<i32>,
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
            external: self.external.clone(),
            tcp_close: (self.tcp == Tcp::Close).then_some(true),
            tcp_established: (self.tcp != Tcp::Close).then_some(true),
            tcp_skip_in_flight: (self.tcp == Tcp::SkipInFlight).then_some(true),
            log_level: Some(self.log_level.unwrap_or(2)),
            ..Opts::default()
        }
    }

    pub(super) fn network_lock_number(&self) -> i32 {
        match self.network_lock {
            Network::Iptables => 1,
            Network::Nftables => 2,
            Network::Skip => 3,
        }
    }
}
