//! A service's address on hosts of their own: neighbours and clients find the new holder, and nothing is left of the former.
#![allow(missing_docs)]

use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, Command, Output, Stdio};

use system_tests::{LIMIT, Segment, wait_until};
use tempfile::TempDir;

const V4: &str = "10.77.0.100/24";
const V6: &str = "fd77::100/64";
const PORT: u16 = 7000;

/// One node's part, on host N: its records, and the process that holds the address.
struct Holder<'a> {
    segment: &'a Segment,
    number: usize,
    folder: TempDir,
    process: Option<Child>,
}

impl<'a> Holder<'a> {
    fn new(segment: &'a Segment, number: usize) -> Self {
        Self { segment, number, folder: tempfile::tempdir().expect("a folder"), process: None }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.segment.host(self.number).command(env!("CARGO_BIN_EXE_hold_address"));
        command.arg(self.folder.path()).args(words);
        command
    }

    fn ask(&self, words: &[&str]) -> Output {
        self.command(words).stdin(Stdio::null()).output().expect("it runs")
    }

    /// What a failed attempt said.
    fn refused(&self, words: &[&str]) -> String {
        let done = self.ask(words);
        assert!(!done.status.success(), "{words:?} was not refused: {done:?}");
        String::from_utf8(done.stderr).expect("text")
    }

    /// Says what it said once it had the address.
    fn take(&mut self, address: &str) -> String {
        let mut process = self
            .command(&["take", address])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it runs");
        let mut said = String::new();
        let stdout = process.stdout.take().expect("it is a pipe");
        BufReader::new(stdout).read_line(&mut said).expect("it speaks");
        self.process = Some(process);
        said.trim_end().to_owned()
    }

    fn release(&mut self) {
        let mut process = self.process.take().expect("it has taken something");
        drop(process.stdin.take());
        assert!(process.wait().expect("it ends").success());
    }

    fn kill(&mut self) {
        let mut process = self.process.take().expect("it has taken something");
        process.kill().expect("SIGKILL");
        process.wait().expect("it ends");
    }

    fn holds(&self, address: &str) -> bool {
        let said = self.ask(&["holds", address]);
        let said = String::from_utf8(said.stdout).expect("text");
        let holds = said.trim().parse().expect("a yes or a no");
        assert_eq!(self.on_devices(address) == 1, holds, "{said}");
        holds
    }

    /// On how many devices the kernel says that it is.
    fn on_devices(&self, address: &str) -> usize {
        let shown = self.segment.ask(self.number, &format!("-oneline address show to {}", ip(address)));
        shown.lines().count()
    }

    fn records(&self) -> usize {
        std::fs::read_dir(self.folder.path()).expect("the folder").count()
    }
}

impl Drop for Holder<'_> {
    fn drop(&mut self) {
        if self.process.is_some() {
            self.kill();
        }
    }
}

fn ip(address: &str) -> IpAddr {
    address.split('/').next().expect("an address").parse().expect("an address")
}

/// Which hardware address a host believes in.
fn believed(segment: &Segment, number: usize, address: &str) -> String {
    let shown = segment.ask(number, &format!("neighbour show {}", ip(address)));
    shown.split_whitespace().skip_while(|word| *word != "lladdr").nth(1).unwrap_or_default().to_owned()
}

fn answered(segment: &Segment, address: &str) -> usize {
    segment.answered(3, SocketAddr::new(ip(address), PORT)).expect("an answer")
}

/// Host 1 has the address and is lost; host 2 takes it; host 3, which has spoken with host 1, asks nobody and yet knows.
fn clients_follow(address: &str) {
    let Some(segment) = Segment::or_skip(3) else { return };
    segment.serve(1, PORT);
    segment.serve(2, PORT);
    let (mut first, mut second) = (Holder::new(&segment, 1), Holder::new(&segment, 2));
    assert_eq!(first.take(address), "added eth0");
    assert_eq!(answered(&segment, address), 1);
    assert_eq!(believed(&segment, 3, address), segment.hardware(1));

    segment.cut_off(1);
    assert_eq!(second.take(address), "added eth0");

    // No frame of host 3's asks for the address meanwhile.
    wait_until(LIMIT, "the neighbour knows the new holder", || {
        believed(&segment, 3, address) == segment.hardware(2)
    });
    assert_eq!(answered(&segment, address), 2);
}

#[test]
fn clients_follow_to_the_new_holder_of_an_ipv4_address() {
    clients_follow(V4);
}

#[test]
fn clients_follow_to_the_new_holder_of_an_ipv6_address() {
    clients_follow(V6);
}

/// As a deliberate move does it: there and back.
fn moves(address: &str) {
    let Some(segment) = Segment::or_skip(3) else { return };
    segment.serve(1, PORT);
    segment.serve(2, PORT);
    let mut holders = [Holder::new(&segment, 1), Holder::new(&segment, 2)];
    for turn in [0, 1, 0] {
        let holder = &mut holders[turn];
        assert_eq!(holder.take(address), "added eth0");
        assert!(holder.holds(address));
        assert_eq!(answered(&segment, address), turn + 1);
        let holder = &mut holders[turn];
        holder.release();
        assert!(!holder.holds(address));
        assert_eq!(holder.records(), 0);
    }
}

#[test]
fn an_ipv4_address_moves_and_nothing_of_it_stays() {
    moves(V4);
}

#[test]
fn an_ipv6_address_moves_and_nothing_of_it_stays() {
    moves(V6);
}

fn is_refused_while_another_host_has_it(address: &str) {
    let Some(segment) = Segment::or_skip(2) else { return };
    let (mut first, mut second) = (Holder::new(&segment, 1), Holder::new(&segment, 2));
    assert_eq!(first.take(address), "added eth0");

    let said = second.refused(&["take", address]);

    assert!(said.starts_with("unavailable: "), "{said}");
    assert!(said.contains(&segment.hardware(1)), "{said}");
    assert!(said.contains("remedy: remove "), "{said}");
    assert!(!second.holds(address));
    assert_eq!(second.records(), 0);
    first.release();
    assert_eq!(second.take(address), "added eth0");
}

#[test]
fn an_ipv4_address_is_refused_while_another_host_has_it() {
    is_refused_while_another_host_has_it(V4);
}

#[test]
fn an_ipv6_address_is_refused_while_another_host_has_it() {
    is_refused_while_another_host_has_it(V6);
}

/// A service outlives its supervisor, and so does its address; unless the service is not to run here any more.
#[test]
fn what_a_killed_supervisor_has_left_is_kept_or_swept() {
    let Some(segment) = Segment::or_skip(1) else { return };
    for address in [V4, V6] {
        let mut holder = Holder::new(&segment, 1);
        assert_eq!(holder.take(address), "added eth0");
        holder.kill();
        assert!(holder.holds(address));

        assert!(holder.ask(&["sweep", address]).stdout.is_empty());
        assert!(holder.holds(address));
        assert_eq!(holder.take(address), "held eth0");
        assert_eq!(holder.on_devices(address), 1);
        holder.kill();

        let swept = holder.ask(&["sweep"]);
        assert_eq!(String::from_utf8_lossy(&swept.stdout).trim(), ip(address).to_string());
        assert!(!holder.holds(address));
        assert_eq!(holder.records(), 0);
        assert!(holder.ask(&["sweep"]).stdout.is_empty());
    }
}

/// Between the record and the act, too.
#[test]
fn a_record_without_its_address_is_swept() {
    let Some(segment) = Segment::or_skip(1) else { return };
    let mut holder = Holder::new(&segment, 1);
    assert_eq!(holder.take(V4), "added eth0");
    holder.kill();
    segment.tell(1, &format!("address delete {V4} dev eth0"));
    assert_eq!(holder.records(), 1);

    assert!(holder.ask(&["sweep"]).status.success());

    assert_eq!(holder.records(), 0);
}

#[test]
fn a_device_that_cannot_serve_is_named_with_a_remedy() {
    let Some(segment) = Segment::or_skip(1) else { return };
    segment.tell(1, "link add other type veth peer name end");
    let holder = Holder::new(&segment, 1);
    let refused = |words: &[&str], kind: &str, remedy: &str| {
        let said = holder.refused(&[&["take"], words].concat());
        assert!(said.starts_with(kind) && said.contains(remedy), "{words:?}: {said}");
        assert_eq!(holder.records(), 0);
    };
    refused(&[V4, "eth7"], "refused: ", "ip -brief link");
    refused(&[V4, "a-name-that-no-device-has"], "refused: ", "ip -brief link");
    refused(&[V4, "other"], "refused: ", "ip link set other up");
    refused(&["192.0.2.1/24"], "invalid: ", "name the device");
    segment.tell(1, "link set other up");
    refused(&[V6, "other"], "unavailable: ", "cable");
    segment.tell(1, &format!("address add {V4} dev other"));
    refused(&[V4, "eth0"], "refused: ", "remove the address from it");
}

/// Frames get lost: there are five rounds, of which the caller waits for the first only.
fn is_announced_again_and_again(address: &str, frames: usize) {
    let Some(segment) = Segment::or_skip(2) else { return };
    let heard = segment.listen(2);
    let mut holder = Holder::new(&segment, 1);
    assert_eq!(holder.take(address), "added eth0");
    let octets = match ip(address) {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let sender = if ip(address).is_ipv4() { 28 } else { 22 };
    let announces = |frame: &Vec<u8>| frame.get(sender..).is_some_and(|rest| rest.starts_with(&octets));
    let announced = std::iter::repeat_with(|| heard.next()).take(200).filter(announces).take(frames).count();
    assert_eq!(announced, frames);
}

#[test]
fn an_ipv4_address_is_announced_again_and_again() {
    is_announced_again_and_again(V4, 10);
}

#[test]
fn an_ipv6_address_is_announced_again_and_again() {
    is_announced_again_and_again(V6, 5);
}
