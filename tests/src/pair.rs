//! Two hosts and one service that may run on either: two supervisors with nothing in common but a store of leases and a folder of images.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::pki::{certificates, tls};
use crate::{Counter, Etcd, Host, LIMIT, Node, Runtime, wait_until};

/// Where their leases are.
pub enum Leases {
    /// In a real etcd.
    Etcd(Etcd),
    /// In three members of one.
    ThreeMembers(Box<[Etcd; 3]>),
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
    _certificates: Option<tempfile::TempDir>,
}

impl Pair {
    /// The service runs on `one`; `other` stands by.
    pub fn running() -> Option<Self> {
        Self::with(Leases::Etcd(Etcd::or_skip()?), |_| {})
    }

    /// The same with more in the configuration of each.
    pub fn with(leases: Leases, mut more: impl FnMut(&mut Node)) -> Option<Self> {
        let host = Host::or_skip(Runtime::Process)?;
        let (one, counter) = Node::with_counter(host, Runtime::Process, &[]);
        let mut other = Node::new(host);
        other.share_counter("counter", &one);
        Some(Self::of(leases, (one, other), counter, &mut more))
    }

    /// Two that are each other's peers: no folder and no bucket has their images.
    pub fn of_peers(leases: Leases, mut more: impl FnMut(&mut Node)) -> Option<Self> {
        let host = Host::or_skip(Runtime::Process)?;
        let pki = tempfile::tempdir().expect("a folder");
        let (mut one, counter) = Node::with_counter(host, Runtime::Process, &[]);
        let mut other = Node::new(host);
        other.share_counter("counter", &one);
        certificates(&one, pki.path(), &["alpha", "beta"]);
        let ports = [one.take_port(), other.take_port()];
        let mut number = 0;
        let pair = Self::of(leases, (one, other), counter, &mut |node| {
            node.set_in("api", "listen", &quoted(&format!("127.0.0.1:{}", ports[number])));
            node.set_in("api", "tls", &tls(pki.path(), ["alpha", "beta"][number]));
            let peer = format!("peer://127.0.0.1:{}", ports[1 - number]);
            node.set_in("store.replica#0", "url", &quoted(&peer));
            number += 1;
            more(node);
        });
        Some(Self { _certificates: Some(pki), ..pair })
    }

    /// Two nodes that have the service already.
    pub fn of(
        leases: Leases,
        (mut one, mut other): (Node, Node),
        counter: Counter,
        more: &mut dyn FnMut(&mut Node),
    ) -> Self {
        let images = tempfile::tempdir().expect("a folder");
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
        Self { one, other, counter, leases, _images: images, _certificates: None }
    }

    /// The store of leases, if it is etcd.
    pub fn etcd(&self) -> &Etcd {
        match &self.leases {
            Leases::Etcd(etcd) => etcd,
            Leases::ThreeMembers(_) | Leases::Bucket(_) => panic!("there is no one etcd"),
        }
    }

    /// Its members, if it is an etcd of three.
    pub fn members(&self) -> &[Etcd; 3] {
        match &self.leases {
            Leases::ThreeMembers(members) => members,
            Leases::Etcd(_) | Leases::Bucket(_) => panic!("there are no three members"),
        }
    }

    /// An image of this number, which the standby has ready.
    pub fn replicate(&self, number: u64) -> String {
        self.counter.count_to(number);
        let image = self.one.checkpoint("counter");
        wait_until(LIMIT, "the standby is ready with it", || {
            self.other.status("counter")["lease"]["prepared"] == image.as_str()
        });
        wait_ready(&self.one, &self.other, &image);
        image
    }
}

impl Leases {
    fn configure(&self, node: &mut Node) {
        match self {
            Self::Etcd(etcd) => Self::endpoints(node, &[etcd]),
            Self::ThreeMembers(members) => Self::endpoints(node, &members.each_ref()),
            Self::Bucket(folder) => {
                node.set_in("cluster", "lease", "\"bucket\"");
                node.set_in("cluster", "bucket", &quoted(&format!("file://{}", folder.path().display())));
            }
        }
    }
}

impl Leases {
    fn endpoints(node: &mut Node, members: &[&Etcd]) {
        let urls: Vec<_> = members.iter().map(|member| quoted(member.url())).collect();
        node.set_in("cluster", "lease", "\"etcd\"");
        node.set_in("cluster", "endpoints", &format!("[{}]", urls.join(", ")));
    }
}

/// What the node says of another.
#[must_use]
pub fn seen(from: &Node, node: &str) -> Option<Value> {
    let all = from.json(&["status", "--cluster"]);
    all.as_array()?.iter().find(|seen| seen["node"] == node).cloned()
}

/// Waits until a node knows that another could take the service over from this image.
pub fn wait_ready(from: &Node, node: &Node, image: &str) {
    wait_until(LIMIT, "the other is ready and that is known", || {
        seen(from, node.name())
            .is_some_and(|said| said["there"] == true && said["services"]["counter"]["prepared"] == image)
    });
}

/// As TOML has it.
pub fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// All of a host's processes at once: supervisor, shims, services.
pub fn lose(node: &mut Node) {
    let shims = node.traces().shims();
    node.kill();
    // A shim is pid 1 of a plain process' namespace: everything in it goes with it. A container has a namespace of its own.
    for pid in shims.into_iter().chain(node.pid("counter")) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    wait_until(LIMIT, "nothing of it runs", || node.traces().members().is_empty());
}

/// Whether anything of a service runs there.
pub fn runs(node: &Node) -> bool {
    !node.traces().members().is_empty()
}
