//! `hosts`: how long a service is away when its host is lost, and while it is moved to another; beside podman's way of moving one
//! (`checkpoint --export`, a copy, `restore --import`), in one run.
//!
//! Two supervisors, a real etcd of one member, one counter with a block of memory of random bytes; images lie in a folder that both see when
//! the host is lost, and the nodes are each other's peers when the service is moved. The client asks all the while; what is reported is the
//! time without an answer. It refuses to compare with a copy over a network: loopback and the disk are the network here.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use system_tests::pair::{Leases, Pair, lose, quoted};
use system_tests::{Containers, Counter, Engine, Etcd, Node};

#[path = "statistics.rs"]
mod statistics;

use statistics::Summary;

/// The time without an answer when a host is lost, and when a service is moved.
#[derive(Debug, Parser)]
#[command(name = "hosts")]
struct Options {
    /// Memory of the service, MiB
    #[arg(long, default_value_t = 1024)]
    size: u64,
    /// How often each is measured
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// The lease's time to live
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration)]
    ttl: Duration,
    /// Where podman's archives and our images lie
    #[arg(long, default_value = "/var/tmp")]
    folder: std::path::PathBuf,
}

fn main() {
    let options = Options::parse();
    let mut away = [const { Vec::new() }; 3];
    for round in 0..options.rounds {
        let ways: [fn(&Options) -> Option<Duration>; 3] = [lost, moved, by_podman];
        for (place, measure) in ways.into_iter().enumerate() {
            let Some(time) = measure(&options) else { continue };
            println!("round {round}: {}: {:.0} ms", NAMES[place], time.as_secs_f64() * 1e3);
            away[place].push(time.as_secs_f64() * 1e3);
        }
    }
    let summaries = away.map(Summary::of);
    println!(
        "\n{} MiB, ttl {}, {} rounds; ms without an answer",
        options.size,
        humantime::format_duration(options.ttl),
        options.rounds
    );
    for (name, summary) in NAMES.iter().zip(&summaries) {
        if let Some(of) = summary {
            println!("{name:<22} median {:>6.0}   min {:>6.0}   max {:>6.0}", of.median, of.min, of.max);
        }
    }
    if let [Some(lost), Some(moved), podman] = &summaries {
        println!("lost / (ttl + 1 s)     {:.2}", lost.median / (options.ttl.as_secs_f64() * 1e3 + 1e3));
        if let Some(podman) = podman {
            println!("moved / podman         {:.2}", moved.median / podman.median);
        }
    }
}

const NAMES: [&str; 3] = ["host lost", "migrate", "podman export, import"];

fn etcd() -> Option<Leases> {
    Etcd::or_skip().map(Leases::Etcd)
}

fn configure(options: &Options, node: &mut Node) {
    let ttl = humantime::format_duration(options.ttl).to_string();
    node.set_in("cluster", "ttl", &quoted(&ttl));
    node.set_in("cluster", "renew_interval", "\"500ms\"");
    let memory = (options.size << 20).to_string();
    let command = [&command_of(node)[..], &["--memory".to_owned(), memory]].concat();
    let command: Vec<_> = command.iter().map(|word| quoted(word)).collect();
    node.set("counter", "process.command", &format!("[{}]", command.join(", ")));
}

/// Its program and where it listens.
fn command_of(node: &Node) -> Vec<String> {
    let counter = node.counter("counter");
    vec![node.host().counter.display().to_string(), "--listen".to_owned(), counter.address().to_string()]
}

/// From the loss of all processes of a host to the first answer from the other.
fn lost(options: &Options) -> Option<Duration> {
    let mut pair = Pair::with(etcd()?, |node| configure(options, node))?;
    pair.replicate(3);
    let begun = Instant::now();
    lose(&mut pair.one);
    Some(first_answer(pair.counter, begun))
}

/// The longest time between two answers while the service is moved to a peer.
fn moved(options: &Options) -> Option<Duration> {
    let pair = Pair::of_peers(etcd()?, |node| configure(options, node))?;
    pair.replicate(3);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| longest_gap(pair.counter, &done));
        let moved = pair.one.command(&["migrate", "counter", pair.other.name()]);
        assert_eq!(moved.code, Some(0), "{moved:?}");
        first_answer(pair.counter, Instant::now());
        done.store(true, Ordering::SeqCst);
        asking.join().ok()
    })
}

/// From the command that stops it to the first answer after it was imported under the same name.
fn by_podman(options: &Options) -> Option<Duration> {
    let containers = Containers::or_skip(Engine::Podman)?;
    let memory = (options.size << 20).to_string();
    let container = containers.create("moved", &[], &["--memory", &memory, "--listen", "0.0.0.0:8080"]);
    container.start();
    container.counter().count_to(3);
    let counter = container.counter();
    let [here, there] =
        ["here.tar", "there.tar"].map(|name| options.folder.join(format!("{}-{name}", container.name())));
    let text = |path: &Path| path.display().to_string();
    let begun = Instant::now();
    containers.done(&["container", "checkpoint", "--export", &text(&here), container.name()]);
    std::fs::copy(&here, &there).expect("the archive can be copied");
    containers.remove(container.name());
    containers.done(&["container", "restore", "--import", &text(&there)]);
    let away = first_answer(counter, begun);
    for archive in [here, there] {
        std::fs::remove_file(archive).expect("the archive is ours");
    }
    containers.remove(container.name());
    Some(away)
}

fn first_answer(counter: Counter, begun: Instant) -> Duration {
    loop {
        if matches!(counter.get("/counter"), Ok((200, _))) {
            return begun.elapsed();
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "it never answers again");
        std::thread::yield_now();
    }
}

fn longest_gap(counter: Counter, done: &AtomicBool) -> Duration {
    let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
    while !done.load(Ordering::SeqCst) {
        if matches!(counter.get("/counter"), Ok((200, _))) {
            longest = longest.max(last.elapsed());
            last = Instant::now();
        }
        std::thread::yield_now();
    }
    longest
}
