//! Two hosts and one service that may run on either: two supervisors with nothing in common but a store of leases and a folder of images.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::{Counter, Etcd, Host, LIMIT, Node, Runtime, wait_until};

/// Where their leases are.
pub enum Leases {
    /// In a real etcd.
    Etcd(Etcd),
    /// In a folder that both see, as in a bucket.
    Bucket(tempfile::TempDir),
}

/// The two of them.
pub struct Pair {
    /// Where the service, `counter`, runs at first.
    pub one: Node,
    /// Its standby.
    pub other: Node,
    /// The service, wherever it is.
    pub counter: Counter,
    leases: Leases,
    _images: tempfile::TempDir,
}

impl Pair {
    /// The service runs on `one`; `other` stands by.
    pub fn running() -> Option<Self> {
        Self::with(Leases::Etcd(Etcd::or_skip()?), |_| {})
    }

    /// The same with more in the configuration of each.
    pub fn with(leases: Leases, mut more: impl FnMut(&mut Node)) -> Option<Self> {
        let host = Host::or_skip(Runtime::Process)?;
        let images = tempfile::tempdir().expect("a folder");
        let (mut one, counter) = Node::with_counter(host, Runtime::Process, &[]);
        let mut other = Node::new(host);
        other.share_counter("counter", &one);
        let standby = format!("[{}]", quoted(other.name()));
        for node in [&mut one, &mut other] {
            node.set_in("store.replica#0", "url", &quoted(&format!("file://{}", images.path().display())));
            leases.configure(node);
            node.set_in("cluster", "ttl", "\"3s\"");
            node.set_in("cluster", "renew_interval", "\"500ms\"");
            node.set("counter", "failover.standby", &standby);
            more(node);
        }
        one.start_only();
        one.wait_healthy("counter");
        other.start_only();
        wait_until(LIMIT, "the other stands by", || {
            let lease = other.status("counter")["lease"].clone();
            lease["role"] == "standby" && lease["holder"] == one.name()
        });
        Some(Self { one, other, counter, leases, _images: images })
    }

    /// The store of leases, if it is etcd.
    pub fn etcd(&self) -> &Etcd {
        match &self.leases {
            Leases::Etcd(etcd) => etcd,
            Leases::Bucket(_) => panic!("the leases are in a bucket"),
        }
    }

    /// An image of this number, which the standby has ready.
    pub fn replicate(&self, number: u64) -> String {
        self.counter.count_to(number);
        let image = self.one.checkpoint("counter");
        wait_until(LIMIT, "the standby is ready with it", || {
            self.other.status("counter")["lease"]["prepared"] == image.as_str()
        });
        image
    }
}

impl Leases {
    fn configure(&self, node: &mut Node) {
        match self {
            Self::Etcd(etcd) => {
                node.set_in("cluster", "lease", "\"etcd\"");
                node.set_in("cluster", "endpoints", &format!("[{}]", quoted(etcd.url())));
            }
            Self::Bucket(folder) => {
                node.set_in("cluster", "lease", "\"bucket\"");
                node.set_in("cluster", "bucket", &quoted(&format!("file://{}", folder.path().display())));
            }
        }
    }
}

/// As TOML has it.
pub fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// All of a host's processes at once: supervisor, shims, services.
pub fn lose(node: &mut Node) {
    let shims = node.traces().shims();
    node.kill();
    for shim in shims {
        // Pid 1 of its namespace: everything in it goes with it.
        let _ = kill(Pid::from_raw(shim), Signal::SIGKILL);
    }
    wait_until(LIMIT, "nothing of it runs", || node.traces().members().is_empty());
}

/// Whether anything of a service runs there.
pub fn runs(node: &Node) -> bool {
    !node.traces().members().is_empty()
}
