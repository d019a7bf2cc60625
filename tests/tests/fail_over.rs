//! Two hosts and one service: it runs on one of them at most, and comes up on the other with its state when the one is lost, cut off
//! from the store of leases, or told to hand it over. The hosts are two supervisors with nothing in common but etcd and a folder of images.
#![allow(missing_docs)]

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use nix::sys::signal::Signal;
use system_tests::pair::{Leases, Pair, lose, quoted, runs};
use system_tests::{Etcd, LIMIT, Network, Node, Segment, wait_for, wait_until};

#[test]
fn a_lost_host_is_followed_by_its_standby_and_stands_by_when_it_is_back() {
    let Some(mut pair) = Pair::running() else { return };
    let image = pair.replicate(7);
    assert!(!runs(&pair.other), "one runs, the other does not");
    let mark = pair.other.mark();

    lose(&mut pair.one);

    let back = pair.other.wait_for_event(mark, "recovered", |_| true);
    assert_eq!(back.image.as_deref(), Some(image.as_str()), "{}", back.text);
    assert_eq!(pair.counter.value(), 7);
    pair.counter.assert_whole();
    let lease = pair.other.status("counter")["lease"].clone();
    assert_eq!((lease["role"].as_str(), lease["epoch"].as_u64()), (Some("holder"), Some(2)), "{lease}");

    pair.one.start_only();
    wait_until(LIMIT, "the first stands by", || {
        let lease = pair.one.status("counter")["lease"].clone();
        lease["role"] == "standby" && lease["holder"] == pair.other.name()
    });
    assert!(!runs(&pair.one), "there is no automatic fail-back");
    pair.counter.count_to(9);
    let newer = pair.other.checkpoint("counter");
    let taken = pair.other.json(&["images", "counter"]);
    assert!(taken.as_array().is_some_and(|all| all.iter().any(|i| i["id"] == newer.as_str())), "{taken}");
}

#[test]
fn cut_off_from_the_store_it_is_stopped_before_another_may_run_it() {
    let Some(pair) = Pair::running() else { return };
    pair.replicate(3);
    let (one, other) = (pair.one.mark(), pair.other.mark());

    pair.etcd().freeze();
    pair.one.wait_for_event(one, "fenced", |_| true);
    wait_until(LIMIT, "it is dead", || !runs(&pair.one));
    assert!(!runs(&pair.other), "nobody may run it while the store is away");
    pair.etcd().thaw();

    wait_until(LIMIT, "one of them runs it again", || {
        let recovered = |node: &Node, mark| node.events_since(mark).iter().any(|e| e.kind == "recovered");
        recovered(&pair.one, one) || recovered(&pair.other, other)
    });
    assert!(runs(&pair.one) != runs(&pair.other), "one, not two");
    assert_eq!(pair.counter.value(), 3);
}

#[test]
fn a_supervisor_that_is_killed_leaves_it_running_and_the_next_one_goes_on_with_its_lease() {
    let Some(mut pair) = Pair::running() else { return };
    pair.replicate(2);
    let pid = pair.one.pid("counter");
    pair.one.kill();
    pair.one.start_only();
    pair.one.wait_healthy("counter");
    assert_eq!(pair.one.pid("counter"), pid, "it was not touched");
    let lease = pair.one.status("counter")["lease"].clone();
    assert_eq!((lease["role"].as_str(), lease["epoch"].as_u64()), (Some("holder"), Some(1)), "{lease}");
    assert!(!runs(&pair.other));
}

/// A store that is away is no reason to end a service: the lease may still be ours.
#[test]
fn a_supervisor_that_is_killed_while_the_store_is_away_goes_on_when_it_is_back() {
    let Some(etcd) = Etcd::or_skip() else { return };
    let Some(mut pair) = Pair::with(Leases::Etcd(etcd), |node| node.set_in("cluster", "ttl", "\"60s\""))
    else {
        return;
    };
    pair.replicate(5);
    let (pid, mark) = (pair.one.pid("counter"), pair.one.mark());
    pair.etcd().freeze();
    pair.one.kill();
    pair.one.start_only();
    wait_until(LIMIT, "it waits for the store", || pair.one.state("counter") == "standby");
    assert!(runs(&pair.one));
    pair.etcd().thaw();

    pair.one.wait_for_event(mark, "lease-held", |_| true);
    pair.one.wait_healthy("counter");
    assert_eq!(pair.one.pid("counter"), pid, "it was not touched");
    assert_eq!(pair.counter.value(), 5);
    assert!(!runs(&pair.other));
}

/// One member of three is not missed; with two away nobody may run the service, and it comes back when they are.
#[test]
fn an_etcd_of_three_may_lose_one_member_and_not_two() {
    let Some(members) = Etcd::three_or_skip() else { return };
    // Long enough for the election of another leader.
    let longer = |node: &mut Node| node.set_in("cluster", "ttl", "\"8s\"");
    let Some(pair) = Pair::with(Leases::ThreeMembers(Box::new(members)), longer) else { return };
    pair.replicate(6);
    let pid = pair.one.pid("counter");
    let (one, other) = (pair.one.mark(), pair.other.mark());

    pair.members()[0].freeze();
    let begun = std::time::Instant::now();
    wait_until(LIMIT, "more than a lease's time", || begun.elapsed() > Duration::from_secs(12));
    assert_eq!(pair.one.pid("counter"), pid, "it was not touched: {:?}", pair.one.events_since(one));
    assert_eq!(pair.one.status("counter")["lease"]["epoch"], 1);

    pair.members()[1].freeze();
    pair.one.wait_for_event(one, "fenced", |_| true);
    wait_until(LIMIT, "it is dead", || !runs(&pair.one));
    assert!(!runs(&pair.other), "nobody may run it");
    pair.members()[0].thaw();

    wait_until(LIMIT, "one of them runs it again", || {
        let recovered = |node: &Node, mark| node.events_since(mark).iter().any(|e| e.kind == "recovered");
        recovered(&pair.one, one) || recovered(&pair.other, other)
    });
    assert!(runs(&pair.one) != runs(&pair.other), "one, not two");
    assert_eq!(pair.counter.value(), 6);
}

/// The limit is kept by the service's shim: the supervisor need not live for it.
#[test]
fn a_supervisor_that_is_stopped_takes_its_service_with_it_in_time() {
    let Some(pair) = Pair::running() else { return };
    let image = pair.replicate(6);
    let mark = pair.other.mark();
    pair.one.signal_supervisor(Signal::SIGSTOP);

    let taken = pair.other.wait_for_event(mark, "taken-over", |_| true);
    assert!(!runs(&pair.one), "it had ended before: {}", taken.text);
    let back = pair.other.wait_for_event(mark, "recovered", |_| true);
    assert_eq!(back.image.as_deref(), Some(image.as_str()));
    assert_eq!(pair.counter.value(), 6);

    pair.one.signal_supervisor(Signal::SIGCONT);
    wait_until(LIMIT, "the first stands by", || {
        let lease = pair.one.status("counter")["lease"].clone();
        lease["role"] == "standby" && lease["holder"] == pair.other.name()
    });
    assert!(!runs(&pair.one));
    assert_eq!(pair.counter.value(), 6, "and the other runs on");
}

#[test]
fn handed_over_by_hand_nothing_is_lost() {
    let Some(pair) = Pair::running() else { return };
    pair.replicate(4);
    pair.counter.count_to(11);
    let mark = pair.other.mark();

    let said = pair.one.command(&["fail-over", "counter"]);
    assert_eq!(said.code, Some(0), "{said:?}");

    assert!(pair.other.events_since(mark).iter().any(|event| event.kind == "recovered"));
    assert_eq!(pair.counter.value(), 11, "the image of the last moment, not of the last cadence");
    assert!(!runs(&pair.one));
    wait_until(LIMIT, "the first stands by", || {
        pair.one.status("counter")["lease"]["holder"] == pair.other.name()
    });
}

/// On hosts of their own: the address is where the service is, and a third host that asks nobody finds it there.
#[test]
fn the_address_goes_with_the_service() {
    let Some((mut pair, hosts)) = with_address() else { return };

    hosts.cut_off(1);
    wait_until(LIMIT, "the first has stopped it", || !runs(&pair.one));
    assert_eq!(client(&hosts, "/counter"), "5", "at the same address, on the other host");
    assert!(runs(&pair.other));
    wait_until(LIMIT, "the first has let it go", || !holds(&hosts, 1));
    assert!(holds(&hosts, 2));
    pair.other.stop();
    pair.one.stop();
}

/// Whatever keeps the limit then takes the address off, too: the other host could not have it otherwise.
#[test]
fn the_address_leaves_a_host_whose_supervisor_stands_still() {
    let Some((mut pair, hosts)) = with_address() else { return };

    pair.one.signal_supervisor(Signal::SIGSTOP);
    wait_until(LIMIT, "the first has let it go", || !holds(&hosts, 1));
    assert_eq!(client(&hosts, "/counter"), "5", "at the same address, on the other host");
    assert!(runs(&pair.other) && !runs(&pair.one) && holds(&hosts, 2));
    pair.one.signal_supervisor(Signal::SIGCONT);
    wait_until(LIMIT, "the first stands by", || pair.one.status("counter")["lease"]["role"] == "standby");
    assert!(!holds(&hosts, 1), "and has not taken it back");
    pair.other.stop();
    pair.one.stop();
}

/// Two hosts, a service that counted to 5 at its address, and a standby that has it.
fn with_address() -> Option<(Pair, Segment)> {
    let hosts = Segment::or_skip(4)?;
    let etcd = Etcd::on_or_skip(hosts.host(3), "10.77.0.3")?;
    let mut number = 0;
    let pair = Pair::with(Leases::Etcd(etcd), |node| {
        number += 1;
        node.move_to(hosts.host(number));
        let program = node.host().counter.display().to_string();
        let command = format!("[{}, \"--listen\", \"0.0.0.0:{PORT}\"]", quoted(&program));
        node.set("counter", "probe.health.http.url", &quoted(&format!("http://127.0.0.1:{PORT}/health")));
        node.set("counter", "process.command", &command);
        node.set("counter", "failover.address", &format!("\"{ADDRESS}/24\""));
    })?;
    for _ in 0..5 {
        client(&hosts, "/increment");
    }
    let image = pair.one.checkpoint("counter");
    wait_until(LIMIT, "the standby is ready with it", || {
        pair.other.status("counter")["lease"]["prepared"] == image.as_str()
    });
    Some((pair, hosts))
}

fn client(hosts: &Segment, path: &str) -> String {
    let address: IpAddr = ADDRESS.parse().expect("an address");
    ask(hosts.host(4), (address, PORT).into(), path)
}

fn holds(hosts: &Segment, number: usize) -> bool {
    hosts.ask(number, "addr show").contains(ADDRESS)
}

/// What the service says to a client on a host, as soon as it says anything.
fn ask(from: &Network, address: SocketAddr, path: &str) -> String {
    let once = || -> std::io::Result<String> {
        let mut stream = from.connect(address, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: counter\r\nConnection: close\r\n\r\n")?;
        let mut said = String::new();
        stream.read_to_string(&mut said)?;
        Ok(said)
    };
    wait_for(LIMIT, &format!("{address} answers {path}"), || {
        let said = once().ok()?;
        Some(said.split_once("\r\n\r\n")?.1.trim().to_owned())
    })
}

const ADDRESS: &str = "10.77.0.100";
const PORT: u16 = 7000;
