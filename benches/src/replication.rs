//! `replication`: how fast an image that is on disk here reaches another host, and what of the processors both ends need for it; beside CRIU's
//! own way, `criu dump` to a `criu page-server`, in one run.
//!
//! Both go over loopback, with a block of memory of random bytes, which nothing can compress. Ours is encrypted (mutual TLS), compared with its
//! checksums and synced by the receiver before it counts; a page server does nothing of that, and its time has the dump itself in it. It refuses
//! to say anything about a real network: it is the programs that are measured.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clap::Parser;
use nix::sys::resource::{UsageWho, getrusage};
use system_tests::pair::quoted;
use system_tests::pki::{certificates, tls};
use system_tests::{Counter, Host, Node, Runtime, wait_for, wait_until};

#[path = "cpu.rs"]
mod cpu;
#[path = "statistics.rs"]
mod statistics;

use statistics::Summary;

/// How fast an image reaches another host.
#[derive(Debug, Parser)]
#[command(name = "replication")]
struct Options {
    /// Memory of the service, MiB
    #[arg(long, default_value_t = 512)]
    size: u64,
    /// How often each is measured
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Where the page server writes
    #[arg(long, default_value = "/var/tmp")]
    folder: std::path::PathBuf,
}

/// One transfer.
#[derive(Debug, Clone, Copy)]
struct Transfer {
    time: Duration,
    /// Of all processors, at both ends.
    processors: Duration,
}

const NAMES: [&str; 2] = ["to a peer's supervisor", "criu dump to a page server"];
const LIMIT: Duration = Duration::from_secs(120);

fn main() {
    let options = Options::parse();
    let Some(host) = Host::or_skip(Runtime::Process) else { return };
    let mut all = [const { Vec::new() }; 2];
    for round in 0..options.rounds {
        for (place, measured) in
            [ours(host, &options), by_page_server(host, &options)].into_iter().enumerate()
        {
            println!("round {round}: {}: {}", NAMES[place], shown(options.size, measured));
            all[place].push(measured);
        }
    }
    let rates = |of: fn(&Transfer) -> Duration| {
        all.each_ref().map(|transfers| {
            Summary::of(transfers.iter().map(|transfer| options.size as f64 / of(transfer).as_secs_f64()))
        })
    };
    println!("\n{} MiB, {} rounds", options.size, options.rounds);
    for (what, rates) in
        [("MiB a second", rates(|t| t.time)), ("MiB a core's second", rates(|t| t.processors))]
    {
        for (name, rate) in NAMES.iter().zip(&rates) {
            if let Some(of) = rate {
                println!(
                    "{what:<20} {name:<28} median {:>6.0}   min {:>6.0}   max {:>6.0}",
                    of.median, of.min, of.max
                );
            }
        }
        if let [Some(ours), Some(theirs)] = rates {
            println!("{what:<20} ours / theirs                {:.2}", ours.median / theirs.median);
        }
    }
}

fn shown(size: u64, Transfer { time, processors }: Transfer) -> String {
    let rate = |time: Duration| size as f64 / time.as_secs_f64();
    format!("{:.0} MiB a second, {:.0} MiB a core's second", rate(time), rate(processors))
}

fn ours(host: &'static Host, options: &Options) -> Transfer {
    let pki = tempfile::tempdir().expect("a folder");
    let (mut there, mut here) = (Node::new(host), Node::new(host));
    certificates(&there, pki.path(), &["here", "there"]);
    let port = there.take_port();
    there.set_in("api", "listen", &quoted(&format!("127.0.0.1:{port}")));
    there.set_in("api", "tls", &tls(pki.path(), "there"));
    there.start_only();
    let memory = (options.size << 20).to_string();
    here.add_counter("counter", Runtime::Process, &["--memory", &memory]);
    here.set_in("store.replica#0", "url", &quoted(&format!("peer://127.0.0.1:{port}")));
    here.set_in("api", "tls", &tls(pki.path(), "here"));
    here.start();
    let daemons = [here.supervisor_pid(), there.supervisor_pid()];
    let mark = here.mark();
    here.checkpoint("counter");
    let happened = |kind: &str| {
        wait_for(LIMIT, kind, || here.events_since(mark).into_iter().find(|event| event.kind == kind))
    };
    happened("image-durable");
    let before = cpu::used(&daemons);
    let replicated = happened("image-replicated");
    let processors = cpu::used(&daemons).saturating_sub(before);
    let time = Duration::from_secs_f64(replicated.took_ms.expect("it says how long it took") / 1e3);
    Transfer { time, processors }
}

fn by_page_server(host: &'static Host, options: &Options) -> Transfer {
    let folder = tempfile::tempdir_in(&options.folder).expect("a folder");
    let [pages, images] = ["pages", "images"].map(|name| folder.path().join(name));
    [&pages, &images].into_iter().for_each(|folder| std::fs::create_dir(folder).expect("a folder"));
    let mut node = Node::new(host);
    let [service, server] = [(); 2].map(|()| node.take_port());
    let mut process = service_of(host, service, options.size << 20);
    let pid = process.id().to_string();
    let (before, begun) = (children(), Instant::now());
    let port = server.to_string();
    let mut page_server = criu(host, &["page-server", "--address", "127.0.0.1", "--port", &port], &pages);
    wait_until(LIMIT, "the page server listens", || listens(server));
    let remote = ["--page-server", "--address", "127.0.0.1", "--port", &port];
    let dump = [
        &["dump", "--tree", &pid, "--leave-running", "--tcp-established", "--network-lock", "skip"],
        &remote[..],
    ];
    let dumped = criu(host, &dump.concat(), &images).wait().expect("it is ours");
    let served = page_server.wait().expect("it is ours");
    let transfer = Transfer { time: begun.elapsed(), processors: children().saturating_sub(before) };
    assert!(
        dumped.success() && served.success(),
        "{}",
        std::fs::read_to_string(images.join("log")).unwrap_or_default()
    );
    process.kill().expect("it is ours");
    process.wait().expect("it is ours");
    transfer
}

/// The counter, by itself.
fn service_of(host: &Host, port: u16, memory: u64) -> Child {
    let address = format!("127.0.0.1:{port}");
    let mut command = Command::new(&host.counter);
    command.args(["--listen", &address, "--memory", &memory.to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // SAFETY: it only calls setsid: a dump of a process that shares a session with us would want us, too.
    unsafe {
        command.pre_exec(|| nix::unistd::setsid().map(drop).map_err(Into::into));
    }
    let process = command.spawn().expect("the counter can be run");
    wait_until(LIMIT, "it answers", || Counter::at(port).answers());
    process
}

fn criu(host: &Host, arguments: &[&str], images: &Path) -> Child {
    let mut command = Command::new(&host.criu);
    command.args(arguments).arg("--images-dir").arg(images).args(["--log-file", "log"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("criu can be run")
}

/// Without connecting: it takes one connection only.
fn listens(port: u16) -> bool {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    table.contains(&format!("0100007F:{port:04X} 00000000:0000 0A"))
}

/// What children that were waited for have used.
fn children() -> Duration {
    let used = getrusage(UsageWho::RUSAGE_CHILDREN).expect("the kernel counts");
    let of = |time: nix::sys::time::TimeVal| {
        Duration::new(time.tv_sec().unsigned_abs(), 0) + Duration::from_micros(time.tv_usec().unsigned_abs())
    };
    of(used.user_time()) + of(used.system_time())
}
