//! What whole-system tests stand on: a node with a real supervisor, real CRIU and real services, and nothing
//! of it left on the host afterwards.
//!
//! ```text
//! Host::or_skip   what this host can do; without root or CRIU a test says so aloud and is skipped
//!   Node          one supervisor with folders, ports and cgroups of its own: started, killed, started again
//!     Counter     the service under it: talked to over HTTP, found by the journal, killed by its pid
//!     Etcd        a store of leases, real
//!     Event       what the supervisor says that happened
//!     Scrape      its metrics
//!     Browser     Chromium, for its page
//!     Collector   of OpenTelemetry, for what it sends
//!     Sidecar     a sidecar beside one of its services
//!     Terminal    a pseudo-terminal, for a command that draws on one
//!     Traces      what of the node is on this host; cleared when the node is dropped, panic or not
//!   Containers    docker or podman of our own, apart from the host's; a Container is removed when dropped
//!     Network     the network namespace that they are in; a node or a client can be put there too
//!   Machine       a systemd as process 1, on a pure cgroup v2; switched off when dropped
//!   Pair          two nodes, one service, leases and images that both see
//!   Segment       hosts of their own on one Ethernet: network namespaces at a bridge; removed when dropped
//!   matrix        what can be checkpointed in which runtime: rows as data, cells for real, and the document of them
//! ```
//!
//! It refuses to know anything of the supervisor's inside but its outside formats (command line, journal,
//! store) and its fail points; to sleep as a way of waiting; and to end any process but by its pid.

pub mod bad_days;
mod browser;
pub mod bundle;
pub mod collector;
mod containers;
mod counter;
mod etcd;
mod event;
mod fenced;
mod host;
mod machine;
pub mod matrix;
mod network;
mod node;
pub mod pair;
pub mod pki;
mod port;
mod scrape;
mod segment;
mod settings;
mod sidecar;
mod terminal;
mod traces;
mod wait;
pub mod workload;

pub use browser::Browser;
pub use containers::{Container, Containers, Daemon, Elsewhere, Engine, IMAGE, PORT};
pub use counter::Counter;
pub use etcd::Etcd;
pub use event::{Event, Mark};
pub use fenced::Ground;
pub use host::Host;
pub use machine::{CONFIG, Machine};
pub use network::Network;
pub use node::{Exchange, Node, children};
pub use scrape::Scrape;
pub use segment::Segment;
pub use settings::Runtime;
pub use sidecar::Sidecar;
pub use terminal::Terminal;
pub use traces::Traces;
pub use wait::{LIMIT, wait_for, wait_until};

/// The same scenario for a plain process and for a container: `both! { name => function; }`, where the function takes a
/// [`Runtime`].
#[macro_export]
macro_rules! both {
    ($($name:ident => $scenario:path;)*) => {
        mod process {
            $(#[test] fn $name() { $scenario($crate::Runtime::Process) })*
        }
        mod runc {
            $(#[test] fn $name() { $scenario($crate::Runtime::Runc) })*
        }
    };
}

/// The same scenario for docker and for podman: `engines! { name => function; }`, where the function takes an [`Engine`].
#[macro_export]
macro_rules! engines {
    ($($name:ident => $scenario:path;)*) => {
        mod docker {
            $(#[test] fn $name() { $scenario($crate::Engine::Docker) })*
        }
        mod podman {
            $(#[test] fn $name() { $scenario($crate::Engine::Podman) })*
        }
    };
}
