//! Chaos, then healing: three hosts on a segment of their own, each with a member of a real etcd, a supervisor, and the other two as replicas. A
//! client on a fourth host writes numbers to the service's address all the while. Faults come in an order that a seed gives
//! (`CHAOS_SEED`; it is printed). After each of them:
//!
//! * the service is back, with no number lost that was in an image which a replica had acknowledged;
//! * its own log, which is one for all hosts, shows it on the hosts that held the lease, in their order: never on two at once.
//!
//! A clock that is set back stays so until the end: it is the supervisor's own idea of it, since no namespace has one.
#![allow(missing_docs)]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use system_tests::bad_days::Tmpfs;
use system_tests::pair::{lose, quoted, runs, seen};
use system_tests::pki::{certificates_at, tls};
use system_tests::{Etcd, Host, Network, Node, Runtime, Segment, wait_for, wait_until};

const ADDRESS: &str = "10.77.0.100";
const PORT: u16 = 7000;
const PEERS: u16 = 7443;
const HOSTS: [&str; 3] = ["10.77.0.1", "10.77.0.2", "10.77.0.3"];
/// Long enough for the election of another leader of etcd.
const TTL: Duration = Duration::from_secs(6);
/// A host is lost, an etcd elects, a lease ends, an image is restored: on two busy cores.
const BACK_MAX: Duration = Duration::from_secs(90);
const SERVICE: &str = "register";

/// What goes wrong. `holder` and `standby` are numbers of hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// All processes of the holder's host end at once, its etcd stands still.
    HostLost,
    /// The holder's cable is out.
    CutOff,
    /// Nobody hears the holder.
    Mute,
    /// The holder hears nobody.
    Deaf,
    /// The holder's supervisor stands still for longer than the lease.
    SupervisorStopped,
    /// The holder's clock is set back by an hour, and an image is taken; then the host is lost.
    ClockSetBack,
    /// One member of etcd stands still, not the holder's.
    MemberAway,
    /// Two of them.
    MajorityAway,
    /// The disk of one standby is full; then the holder is lost.
    StandbyFull,
    /// One standby's images rot; then the holder is lost.
    StandbyRotten,
}

impl Fault {
    const ALL: [Self; 10] = [
        Self::HostLost,
        Self::CutOff,
        Self::Mute,
        Self::Deaf,
        Self::SupervisorStopped,
        Self::ClockSetBack,
        Self::MemberAway,
        Self::MajorityAway,
        Self::StandbyFull,
        Self::StandbyRotten,
    ];
}

struct Cluster {
    nodes: [Node; 3],
    disks: [Tmpfs; 3],
    members: [Etcd; 3],
    log: PathBuf,
    _folder: tempfile::TempDir,
    hosts: Arc<Segment>,
}

impl Cluster {
    fn or_skip() -> Option<Self> {
        let host = Host::or_skip(Runtime::Process)?;
        let hosts = Arc::new(Segment::or_skip(4)?);
        let members =
            Etcd::three_on_or_skip([1, 2, 3].map(|number| (hosts.host(number), HOSTS[number - 1])))?;
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("log");
        let mut nodes = [(); 3].map(|()| Node::new(host));
        let names = nodes.each_ref().map(|node| node.name().to_owned());
        let named: Vec<_> = names.iter().map(String::as_str).zip(HOSTS).collect();
        let pki = folder.path().join("pki");
        certificates_at(&nodes[0], &pki, &named);
        let mut disks = Vec::new();
        for (place, node) in nodes.iter_mut().enumerate() {
            let disk = Tmpfs::mount(&folder.path().join(format!("disk-{place}")), "96m")?;
            configure(node, place, &names, &pki, (host, &log));
            node.set_in("store", "path", &quoted(&disk.path().join("images").display().to_string()));
            node.move_to(hosts.host(place + 1));
            disks.push(disk);
        }
        let disks = disks.try_into().ok()?;
        let mut cluster = Self { nodes, disks, members, log, _folder: folder, hosts };
        cluster.nodes.iter_mut().for_each(Node::start_only);
        cluster.wait_whole();
        Some(cluster)
    }

    /// Which host holds the lease and runs the service.
    fn holder(&self) -> usize {
        wait_for(BACK_MAX, "one node holds it, and it is healthy", || {
            let holds = |node: &&Node| {
                let status = node.status(SERVICE);
                status["lease"]["role"] == "holder" && status["verdict"] == "healthy"
            };
            let mut holders = self.nodes.iter().enumerate().filter(|(_, node)| holds(node));
            let (place, _) = holders.next()?;
            holders.next().is_none().then_some(place)
        })
    }

    /// Every node is there, and every standby could take the service over.
    fn wait_whole(&self) {
        let holder = self.holder();
        let image = fresh_image(&self.nodes[holder]);
        for (place, node) in self.nodes.iter().enumerate().filter(|(place, _)| *place != holder) {
            wait_until(BACK_MAX, &format!("host {} is ready again", place + 1), || {
                let lease = node.status(SERVICE)["lease"].clone();
                let is_there =
                    seen(&self.nodes[holder], node.name()).is_some_and(|said| said["there"] == true);
                is_there && lease["prepared"].as_str().is_some_and(|prepared| prepared >= image.as_str())
            });
        }
    }

    /// An image that counts as replicated, and a number that is in it.
    fn replicate(&self, client: &Client) -> (String, u64) {
        let holder = &self.nodes[self.holder()];
        let least = client.value();
        let image = fresh_image(holder);
        wait_until(BACK_MAX, "a replica has it, and the lease says so", || {
            let said = holder.status(SERVICE)["lease"]["replicated"].clone();
            said.as_str().is_some_and(|newest| newest >= image.as_str())
        });
        (image, least)
    }

    fn epoch(&self, place: usize) -> u64 {
        self.nodes[place].status(SERVICE)["lease"]["epoch"].as_u64().unwrap_or_default()
    }

    /// Goes wrong, is waited for, is mended.
    fn suffer(&mut self, fault: Fault, client: &Client) {
        let holder = self.holder();
        let others: Vec<_> = (0..3).filter(|place| *place != holder).collect();
        match fault {
            Fault::StandbyFull => self.disks[others[0]].fill(),
            Fault::StandbyRotten => rot(self.disks[others[0]].path()),
            Fault::ClockSetBack => self.nodes[holder].step_clock(-3600),
            _ => {}
        }
        let epoch = self.epoch(holder);
        let (image, least) = self.replicate(client);
        let marks = self.nodes.each_ref().map(Node::mark);
        println!("{fault:?} on host {}, epoch {epoch}, {image} has {least}", holder + 1);
        match fault {
            Fault::HostLost | Fault::StandbyFull | Fault::StandbyRotten | Fault::ClockSetBack => {
                self.members[holder].freeze();
                lose_service(&mut self.nodes[holder]);
            }
            Fault::CutOff => self.hosts.cut_off(holder + 1),
            Fault::Mute => self.hosts.half_cut_off(holder + 1, "output"),
            Fault::Deaf => self.hosts.half_cut_off(holder + 1, "input"),
            Fault::SupervisorStopped => self.nodes[holder].signal_supervisor(Signal::SIGSTOP),
            Fault::MemberAway => self.members[others[0]].freeze(),
            Fault::MajorityAway => others.iter().for_each(|place| self.members[*place].freeze()),
        }
        match fault {
            Fault::MemberAway => {
                let begun = Instant::now();
                wait_until(BACK_MAX, "more than a lease's time", || begun.elapsed() > TTL + TTL / 2);
                assert_eq!((self.holder(), self.epoch(holder)), (holder, epoch), "nothing has happened");
            }
            Fault::MajorityAway => {
                wait_until(BACK_MAX, "nobody runs it", || !self.nodes.iter().any(runs));
            }
            _ => {
                wait_until(BACK_MAX, "another runs it", || {
                    let came_back = |place: &usize| {
                        let events = self.nodes[*place].events_since(marks[*place]);
                        events.iter().any(|event| event.kind == "recovered")
                    };
                    others.iter().any(came_back)
                });
                assert!(!runs(&self.nodes[holder]), "and the former does not");
            }
        }
        self.mend(fault, holder, &others);
        self.holder();
        let value = client.value();
        assert!(value >= least, "{value} numbers are there, {least} were in {image}, which a replica had");
        self.wait_whole();
    }

    fn mend(&mut self, fault: Fault, holder: usize, others: &[usize]) {
        match fault {
            Fault::HostLost | Fault::StandbyFull | Fault::StandbyRotten | Fault::ClockSetBack => {
                self.members[holder].thaw();
                if fault == Fault::StandbyFull {
                    self.disks[others[0]].empty();
                }
                self.nodes[holder].start_only();
            }
            Fault::CutOff => self.hosts.join(holder + 1),
            Fault::Mute | Fault::Deaf => self.hosts.mend(holder + 1),
            Fault::SupervisorStopped => self.nodes[holder].signal_supervisor(Signal::SIGCONT),
            Fault::MemberAway => self.members[others[0]].thaw(),
            Fault::MajorityAway => others.iter().for_each(|place| self.members[*place].thaw()),
        }
    }

    /// Who held the lease, one after the other, as the nodes say.
    fn holders(&self) -> Vec<String> {
        let mut all = BTreeMap::new();
        for (place, node) in self.nodes.iter().enumerate() {
            let network = std::fs::metadata(self.hosts.host(place + 1).path()).expect("it is there");
            let network = format!("net:[{}]", std::os::unix::fs::MetadataExt::ino(&network));
            for event in node.events().into_iter().filter(|event| event.kind == "lease-acquired") {
                let epoch = event.text.rsplit(' ').next().and_then(|word| word.parse::<u64>().ok());
                all.insert(epoch.expect("an epoch"), network.clone());
            }
        }
        let mut holders: Vec<_> = all.into_values().collect();
        holders.dedup();
        holders
    }

    /// Where the service was, one after the other, as it says itself.
    fn places(&self) -> Vec<String> {
        let log = std::fs::read_to_string(&self.log).expect("it has run");
        let places = log.lines().filter_map(|line| line.split(' ').next());
        let mut places: Vec<_> = places.map(str::to_owned).collect();
        places.dedup();
        places
    }
}

/// Numbers, written one after the other to the service's address, as long as the test goes on.
struct Client {
    over: Arc<AtomicBool>,
    from: Network,
}

impl Client {
    fn start(from: &Network) -> Self {
        let client = Self { over: Arc::default(), from: from.clone() };
        let (over, from) = (client.over.clone(), from.clone());
        std::thread::spawn(move || {
            while !over.load(SeqCst) {
                // No answer: the service is not there, or not any more. It is asked how far it is.
                let Some(last) = ask(&from, "/get").and_then(|text| text.parse::<u64>().ok()) else {
                    continue;
                };
                let _ = ask(&from, &format!("/put/{}", last + 1));
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        client
    }

    fn value(&self) -> u64 {
        wait_for(BACK_MAX, "the service answers at its address", || ask(&self.from, "/get")?.parse().ok())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.over.store(true, SeqCst);
    }
}

fn ask(from: &Network, path: &str) -> Option<String> {
    let address: IpAddr = ADDRESS.parse().expect("an address");
    let once = || -> std::io::Result<String> {
        let mut stream = from.connect(SocketAddr::new(address, PORT), Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: register\r\nConnection: close\r\n\r\n")?;
        let mut said = String::new();
        stream.read_to_string(&mut said)?;
        Ok(said)
    };
    let said = once().ok()?;
    said.strip_prefix("HTTP/1.1 200 ")?.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
}

fn configure(node: &mut Node, place: usize, names: &[String; 3], pki: &Path, (host, log): (&Host, &Path)) {
    let others = || names.iter().zip(HOSTS).enumerate().filter(move |(other, _)| *other != place);
    let table = format!("service.{SERVICE}");
    let program = host.counter.with_file_name("register");
    let command = [program.display().to_string(), format!("0.0.0.0:{PORT}"), log.display().to_string()];
    let command: Vec<_> = command.iter().map(|word| quoted(word)).collect();
    let standby: Vec<_> = others().map(|(_, (name, _))| quoted(name)).collect();
    let endpoints: Vec<_> = HOSTS.iter().map(|host| quoted(&format!("http://{host}:2379"))).collect();
    let (listen, renew) = (format!("{}:{PEERS}", HOSTS[place]), TTL / 8);
    let mut set = |table: &str, key: &str, value: &str| node.set_in(table, key, value);
    set(&table, "process.command", &format!("[{}]", command.join(", ")));
    set(&table, "failover.standby", &format!("[{}]", standby.join(", ")));
    set(&table, "failover.address", &quoted(&format!("{ADDRESS}/24")));
    set(&table, "probe.health.http.url", &quoted(&format!("http://127.0.0.1:{PORT}/health")));
    set(&table, "probe.health.interval", "\"500ms\"");
    set(&table, "probe.health.timeout", "\"500ms\"");
    set(&table, "probe.health.start_period", "\"15s\"");
    // More often than images can be sent: replicas are behind.
    set(&table, "checkpoint.interval", "\"700ms\"");
    set(&table, "checkpoint.max_checkpoints", "4");
    set(&table, "checkpoint.trial", "false");
    set("cluster", "lease", "\"etcd\"");
    set("cluster", "endpoints", &format!("[{}]", endpoints.join(", ")));
    set("cluster", "ttl", &quoted(&format!("{}s", TTL.as_secs())));
    set("cluster", "renew_interval", &quoted(&format!("{}ms", renew.as_millis())));
    set("api", "listen", &quoted(&listen));
    set("api", "tls", &tls(pki, &names[place]));
    for (number, (_, (_, host))) in others().enumerate() {
        let replica = format!("store.replica#{number}");
        set(&replica, "url", &quoted(&format!("peer://{host}:{PEERS}")));
        set(&replica, "rate_limit", "\"1MiB\"");
    }
}

/// One that was begun after this was called: the cadence takes them, and one may be under way.
fn fresh_image(node: &Node) -> String {
    let newest = || node.status(SERVICE)["checkpoint"]["newest"]["id"].as_str().map(str::to_owned);
    let mut last = newest();
    for _ in 0..2 {
        last = Some(wait_for(BACK_MAX, "another image is taken", || {
            newest().filter(|id| last.as_ref() != Some(id))
        }));
    }
    last.unwrap_or_default()
}

/// As `lose`, for this service.
fn lose_service(node: &mut Node) {
    let pid = node.pid(SERVICE);
    lose(node);
    assert!(pid.is_some(), "it ran there");
}

/// Every byte of the middle of each segment is another one.
fn rot(disk: &Path) {
    let mut folders = vec![disk.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "seg")
                && let Ok(mut bytes) = std::fs::read(&path)
            {
                let (from, to) = (bytes.len() / 3, bytes.len() * 2 / 3);
                bytes[from..to].iter_mut().for_each(|byte| *byte = !*byte);
                // It may have been pruned meanwhile.
                let _ = std::fs::write(&path, bytes);
            }
        }
    }
}

/// Each fault once, in an order of the seed's.
fn order(mut seed: u64) -> Vec<Fault> {
    let mut left = Fault::ALL.to_vec();
    let mut ordered = Vec::new();
    while !left.is_empty() {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ordered.push(left.swap_remove((seed >> 33) as usize % left.len()));
    }
    ordered
}

#[test]
fn whatever_happens_it_runs_once_and_nothing_replicated_is_lost() {
    let seed = std::env::var("CHAOS_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    println!("CHAOS_SEED={seed}");
    let Some(mut cluster) = Cluster::or_skip() else { return };
    let client = Client::start(cluster.hosts.host(4));
    for fault in order(seed) {
        cluster.suffer(fault, &client);
    }
    let (holders, places) = (cluster.holders(), cluster.places());
    let mut expected = holders.iter();
    for place in &places {
        assert!(
            expected.any(|holder| holder == place),
            "it was at {place} out of turn: at {places:?}, the lease was held by {holders:?}"
        );
    }
    assert!(places.len() > 3, "it has been moved about: {places:?}");
    cluster.nodes.iter_mut().for_each(Node::stop);
}
