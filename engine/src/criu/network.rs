//! Established connections of a service that is in an image: their peers must hear nothing until it is back, least of all that nobody is there.
//!
//! CRIU keeps packets away with a table of nftables, named after the run that made it (cut to what fits, and noted in the image); the
//! restore removes it. In a network namespace of the service's own that table goes with the namespace, and the new one has an address before it
//! has sockets: there a table of ours holds the connections, in our namespace, through which they go.
//!
//! Whoever does not restore must [`Hold::release`]: the rules would block the service's successor, and stay on the host.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::Path;

use procfs::net::TcpState;
use procfs::process::{FDTarget, Process};
use serde::{Deserialize, Serialize};

use super::file;
use crate::error::{Error, Report, Result};
use crate::process::command::Command;

const NAME: &str = "inventory.img";
const MAGICS: [u32; 1] = [0x5831_3116];
const FAMILY: &str = "inet";
const OF_CRIU: &str = "CRIU-";
/// What is left of a run's name in a table's.
const NAME_MIN: usize = 12;

/// What holds connections on this host. It lasts as long as the rules do: until they are released, or the host is started anew.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hold {
    /// CRIU's run.
    run: Option<String>,
    /// Our own table.
    table: Option<String>,
}

/// `inventory_entry`.
#[derive(Clone, PartialEq, prost::Message)]
struct Inventory {
    #[prost(string, optional, tag = "13")]
    run: Option<String>,
}

impl Hold {
    /// What holds the connections of a dumped process, which still stands still, or will: `table` is the name for rules of ours.
    pub(crate) fn plan(images: &Path, pid: i32, table: &str) -> Self {
        let run = file::read::<Inventory>(&images.join(NAME), &MAGICS).and_then(|inventory| inventory.run);
        let table = has_own_network(pid).then(|| table.to_owned());
        Self { run: run.filter(|run| run.len() >= NAME_MIN), table }
    }

    /// Whether there is anything to release.
    pub(crate) fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// Puts our own rules in place, if they are needed.
    pub(crate) async fn take(&self, pid: i32) -> Result<()> {
        let Some(table) = &self.table else { return Ok(()) };
        hold(table, &connections(pid)?).await
    }

    /// Rules of ours, that will be.
    pub(crate) fn of_table(table: &str) -> Self {
        Self { run: None, table: Some(table.to_owned()) }
    }

    /// Holds these connections, whoever their ends are.
    pub(crate) async fn take_all(&self, connections: &[(SocketAddr, SocketAddr)]) -> Result<()> {
        match &self.table {
            Some(table) => hold(table, connections).await,
            None => Ok(()),
        }
    }

    /// Removes the rules from our network namespace, as far as they are there.
    pub(crate) async fn release(&self) -> Result<()> {
        // Without nft there are no rules of it.
        let Ok(tables) = nft(&["list", "tables"]).run().await else { return Ok(()) };
        for name in tables.stdout.lines().filter_map(|line| self.names(line)) {
            let deleted = nft(&["delete", "table", FAMILY, name]).run().await?;
            if !deleted.success() {
                let report = Report::new(format!("remove the packet filter's table {name}"));
                return Err(Error::Unavailable(report.output(deleted.stderr.lines().map(str::to_owned))));
            }
        }
        Ok(())
    }

    /// The table of a line of the list, if it is one of these.
    fn names<'a>(&self, line: &'a str) -> Option<&'a str> {
        let name = line.trim().strip_prefix("table inet ")?;
        let of_run = |run: &String| {
            let rest = name.strip_prefix(OF_CRIU).unwrap_or_default();
            rest.len() >= NAME_MIN && run.starts_with(rest)
        };
        (self.table.as_deref() == Some(name) || self.run.as_ref().is_some_and(of_run)).then_some(name)
    }
}

async fn hold(table: &str, connections: &[(SocketAddr, SocketAddr)]) -> Result<()> {
    if connections.is_empty() {
        return Ok(());
    }
    let done = nft(&[&rules(table, connections)]).run().await?;
    if done.success() {
        return Ok(());
    }
    let report = Report::new(format!("hold {} connections with the packet filter", connections.len()))
        .output(done.stderr.lines().map(str::to_owned))
        .remedy("install nftables, or set checkpoint.tcp = \"close\"");
    Err(Error::Refused(report))
}

/// The connections in our network of which both ends belong to these processes, one end first.
pub(crate) fn between(pids: &[i32]) -> Vec<(SocketAddr, SocketAddr)> {
    let Ok(own) = Process::myself() else { return Vec::new() };
    // What cannot be read any more has no connections.
    let held: HashSet<u64> = pids.iter().flat_map(|pid| sockets_of(*pid)).collect();
    let tables = [own.tcp().unwrap_or_default(), own.tcp6().unwrap_or_default()];
    let theirs = tables.into_iter().flatten();
    let theirs = theirs.filter(|c| c.state == TcpState::Established && held.contains(&c.inode));
    let ends: HashSet<_> = theirs.map(|c| (plain(c.local_address), plain(c.remote_address))).collect();
    ends.iter().filter(|(one, other)| one < other && ends.contains(&(*other, *one))).copied().collect()
}

fn sockets_of(pid: i32) -> Vec<u64> {
    let Ok(descriptors) = Process::new(pid).and_then(|process| process.fd()) else { return Vec::new() };
    let socket = |target: FDTarget| match target {
        FDTarget::Socket(inode) => Some(inode),
        _ => None,
    };
    descriptors.flatten().filter_map(|descriptor| socket(descriptor.target)).collect()
}

fn has_own_network(pid: i32) -> bool {
    let network = |of: &str| std::fs::read_link(format!("/proc/{of}/ns/net")).ok();
    network(&pid.to_string()).is_some_and(|theirs| Some(theirs) != network("self"))
}

/// The established connections in a process's network namespace, its own address first.
fn connections(pid: i32) -> Result<Vec<(SocketAddr, SocketAddr)>> {
    let read =
        |e| Error::Unavailable(Report::new(format!("read the connections of process {pid}")).because(e));
    let process = Process::new(pid).map_err(read)?;
    let mut all = process.tcp().map_err(read)?;
    // Absent where the kernel has no IPv6.
    all.extend(process.tcp6().unwrap_or_default());
    let alive = |state: &TcpState| !matches!(state, TcpState::Listen | TcpState::Close | TcpState::TimeWait);
    let outside = |address: &SocketAddr| !address.ip().is_loopback();
    let found = all.into_iter().filter(|c| alive(&c.state) && outside(&c.remote_address));
    Ok(found.map(|c| (plain(c.local_address), plain(c.remote_address))).collect())
}

/// An IPv4 address that is written as one of IPv6 goes over the wire as IPv4.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Packets between the two are dropped, wherever they come from.
fn rules(table: &str, connections: &[(SocketAddr, SocketAddr)]) -> String {
    let mut text = format!("add table {FAMILY} {table};");
    for hook in ["forward", "output", "input"] {
        let chain = format!("{FAMILY} {table} {hook}");
        text.push_str(&format!("add chain {chain} {{ type filter hook {hook} priority 0; }};"));
        for (ours, theirs) in connections {
            let family = if ours.is_ipv4() { "ip" } else { "ip6" };
            for (from, to) in [(ours, theirs), (theirs, ours)] {
                text.push_str(&format!(
                    "add rule {chain} {family} saddr {} tcp sport {} {family} daddr {} tcp dport {} drop;",
                    from.ip(),
                    from.port(),
                    to.ip(),
                    to.port()
                ));
            }
        }
    }
    text
}

fn nft(arguments: &[&str]) -> Command {
    Command::new(std::iter::once("nft").chain(arguments.iter().copied()).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tables_of_the_hold_are_meant() {
        let run = "d0a15638-4e88-486c-ab45-0231c718cd94".to_owned();
        let hold = Hold { run: Some(run), table: Some("supervisor-a".to_owned()) };
        assert_eq!(hold.names("table inet CRIU-d0a15638-4e88-486c-ab"), Some("CRIU-d0a15638-4e88-486c-ab"));
        assert_eq!(hold.names("table inet supervisor-a"), Some("supervisor-a"));
        for other in ["CRIU-d0a15638-4e88-486c-ac", "CRIU-d0a", "supervisor-ab", "supervisor", "CRIU-"] {
            assert_eq!(hold.names(&format!("table inet {other}")), None, "{other}");
        }
        assert_eq!(hold.names("table ip supervisor-a"), None);
        assert_eq!(Hold::default().names("table inet CRIU-d0a15638-4e88-486c-ab"), None);
    }

    #[test]
    fn the_run_stands_in_the_inventory() {
        let folder = tempfile::tempdir().expect("a folder");
        let inventory = include_bytes!("network/inventory.img");
        crate::durable::atomic_write_volatile(&folder.path().join(NAME), inventory, 0o600).expect("written");
        let pid = i32::try_from(std::process::id()).expect("a pid");
        let hold = Hold::plan(folder.path(), pid, "t");
        assert_eq!(hold.run.as_deref(), Some("d0a15638-4e88-486c-ab45-0231c718cd94"));
        assert_eq!(hold.table, None);
    }

    #[test]
    fn connections_of_a_process_are_found() {
        let listener = std::net::TcpListener::bind("0.0.0.0:0").expect("a port");
        let pid = i32::try_from(std::process::id()).expect("a pid");
        // Loopback's do not leave the namespace.
        let port = listener.local_addr().expect("bound").port();
        let _client = std::net::TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        assert!(connections(pid).expect("readable").iter().all(|(ours, _)| ours.port() != port));
        assert!(!has_own_network(pid));
    }

    #[test]
    fn connections_of_ours_with_ourselves_are_found_once() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let server = listener.local_addr().expect("bound");
        let client = std::net::TcpStream::connect(server).expect("it listens");
        let _accepted = listener.accept().expect("it was made");
        let client = client.local_addr().expect("connected");
        let found = between(&[i32::try_from(std::process::id()).expect("a pid")]);
        let of_it: Vec<_> = found.iter().filter(|(one, other)| [*one, *other].contains(&client)).collect();
        assert_eq!(of_it.len(), 1, "{found:?}");
        assert!([of_it[0].0, of_it[0].1].contains(&server));
        assert_eq!(between(&[1]), []);
    }

    #[test]
    fn both_ways_are_closed_in_every_chain() {
        let (ours, theirs) = (SocketAddr::from(([10, 0, 0, 2], 80)), SocketAddr::from(([10, 0, 0, 1], 9)));
        let text = rules("t", &[(ours, theirs)]);
        for way in [
            "ip saddr 10.0.0.2 tcp sport 80 ip daddr 10.0.0.1 tcp dport 9 drop;",
            "ip saddr 10.0.0.1 tcp sport 9 ip daddr 10.0.0.2 tcp dport 80 drop;",
        ] {
            assert_eq!(text.matches(way).count(), 3, "{text}");
        }
    }
}
