//! The words of all closed choices: those of `policies` as they are named there, and ours.

use policies::failover::Preference;
use policies::health::Role;
use policies::ladder::{OnExhausted, Rung};
use policies::service::RestartPolicy;

use crate::keys::Words;
use crate::raw::Occasion;
use crate::settings::{
    CgroupMode, Compression, CpuCap, Failback, HostShutdown, Hot, Isolation, Lease, NetworkLock, OnStop,
    StartFrom, Tcp,
};

macro_rules! named_by_policies {
    ($($choice:ident),+) => {
        $(impl Words for $choice {
            const ALL: &'static [Self] = $choice::ALL;

            fn word(self) -> &'static str {
                self.name()
            }
        })+
    };
}

macro_rules! named_here {
    ($($choice:ident { $($variant:ident = $word:literal),+ })+) => {
        $(impl Words for $choice {
            const ALL: &'static [Self] = &[$(Self::$variant),+];

            fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),+
                }
            }
        })+
    };
}

named_by_policies!(Role, RestartPolicy, Rung, OnExhausted, Preference);

named_here! {
    Compression { Zstd = "zstd", Lz4 = "lz4", None = "none" }
    Hot { Memory = "memory", Disk = "disk" }
    OnStop { Leave = "leave", Stop = "stop", Suspend = "suspend" }
    StartFrom { Scratch = "scratch", Image = "image" }
    HostShutdown { Leave = "leave", Checkpoint = "checkpoint", Drain = "drain" }
    Isolation { Pid = "pid", None = "none" }
    Lease { Local = "local", Etcd = "etcd", Bucket = "bucket" }
    Failback { Never = "never" }
    Occasion { Shutdown = "shutdown", Drain = "drain" }
    Tcp { Established = "established", Close = "close", SkipInFlight = "skip_in_flight" }
    NetworkLock { Iptables = "iptables", Nftables = "nftables", Skip = "skip" }
    CpuCap { None = "none", Cpu = "cpu", Fpu = "fpu", Ins = "ins", All = "all" }
    CgroupMode {
        Ignore = "ignore", None = "none", Props = "props", Soft = "soft", Full = "full", Strict = "strict"
    }
}
