//! `many`: what the supervisor itself costs with many small services: processor time and memory of the daemon, of the shims beside the
//! services, and whether checkpoints come when they are due.
//!
//! Real processes (`examples/counter`), each with an http probe, under one real daemon. First nothing is due; then every service is checkpointed at a
//! cadence. It refuses to count what the services themselves use.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use system_tests::{Event, Host, Node, Runtime};

#[path = "cpu.rs"]
mod cpu;
#[path = "statistics.rs"]
mod statistics;

use statistics::Summary;

/// What the supervisor itself costs with many small services.
#[derive(Debug, Parser)]
#[command(name = "many")]
struct Options {
    /// How many services
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    services: u16,
    /// How long each part is looked at
    #[arg(long, default_value = "60s", value_parser = humantime::parse_duration)]
    time: Duration,
    /// How often each service is checkpointed in the second part
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    cadence: Duration,
    /// How often each service is probed
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    probe: Duration,
    /// Only the first part
    #[arg(long)]
    idle_only: bool,
    /// What of one core the idle daemon may use, in percent
    #[arg(long, default_value_t = 1.0)]
    cpu_limit: f64,
    /// What memory of its own the idle daemon may use, in MiB
    #[arg(long, default_value_t = 50.0)]
    memory_limit: f64,
    /// Fail if it uses more
    #[arg(long)]
    enforce: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let Some(host) = Host::or_skip(Runtime::Process) else { return ExitCode::FAILURE };
    let idle = idle(host, &options);
    if !options.idle_only {
        checkpointed(host, &options);
    }
    let missed = idle.cpu > options.cpu_limit || idle.memory > options.memory_limit;
    if missed {
        println!(
            "! the idle daemon may use {} % of a core and {} MiB",
            options.cpu_limit, options.memory_limit
        );
    }
    if missed && options.enforce { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// What some processes used, over a time.
#[derive(Debug, Clone, Copy)]
struct Cost {
    /// Percent of one core.
    cpu: f64,
    /// Proportional set size, MiB.
    memory: f64,
    /// Resident, MiB: what is shared counts in each.
    resident: f64,
}

fn node(host: &'static Host, options: &Options, interval: &str) -> Node {
    let mut node = Node::new(host);
    for number in 0..options.services {
        let name = format!("s{number:04}");
        node.add_counter(&name, Runtime::Process, &[]);
        node.set(&name, "checkpoint.interval", interval);
        let probe = humantime::format_duration(options.probe);
        for (key, value) in [("interval", format!("{probe}")), ("timeout", "1s".to_owned())] {
            node.set(&name, &format!("probe.health.{key}"), &format!("{value:?}"));
        }
    }
    node
}

/// Waits until all run, by one question at a time for all of them.
fn start(node: &mut Node, options: &Options) {
    let begun = Instant::now();
    node.start_only();
    loop {
        let status = node.json(&["status"]);
        let services = status["services"].as_array().cloned().unwrap_or_default();
        let well = services.iter().filter(|s| s["state"] == "running" && s["verdict"] == "healthy").count();
        if well == usize::from(options.services) {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(300), "only {well} of {} run", options.services);
        std::thread::sleep(Duration::from_millis(100));
    }
    println!("{} services run after {:.1} s", options.services, begun.elapsed().as_secs_f64());
}

fn idle(host: &'static Host, options: &Options) -> Cost {
    println!("\nidle: nothing is due");
    let mut node = node(host, options, "\"never\"");
    start(&mut node, options);
    // What the start itself has set in motion is over.
    std::thread::sleep(Duration::from_secs(5));
    let daemon = [node.supervisor_pid()];
    let shims: Vec<i32> = node.traces().shims().into_iter().collect();
    let costs = costs(&[("supervisor", &daemon), ("shims and fences", &shims)], options.time);
    costs[0]
}

fn checkpointed(host: &'static Host, options: &Options) {
    println!("\ncheckpointed: every {}", humantime::format_duration(options.cadence));
    let cadence = humantime::format_duration(options.cadence);
    let mut node = node(host, options, &format!("\"{cadence}\""));
    start(&mut node, options);
    let mark = node.mark();
    let daemon = [node.supervisor_pid()];
    costs(&[("supervisor", &daemon)], options.time);
    report_checkpoints(&node.events_since(mark), options);
}

fn report_checkpoints(events: &[Event], options: &Options) {
    let taken: Vec<&Event> = events.iter().filter(|event| event.kind == "checkpoint-taken").collect();
    let failed = events.iter().filter(|event| event.kind == "checkpoint-failed").count();
    let durable = events.iter().filter(|event| event.kind == "image-durable").count();
    let (mut last, mut late, mut missed) = (BTreeMap::new(), Vec::new(), 0);
    for event in &taken {
        let Ok(at) = humantime::parse_rfc3339(&event.at) else { continue };
        if let Some(before) = last.insert(event.service.clone(), at) {
            let gap: Duration = at.duration_since(before).unwrap_or_default();
            late.push((gap.as_secs_f64() - options.cadence.as_secs_f64()) * 1e3);
            // A whole cadence without one.
            missed += (gap.as_secs_f64() / options.cadence.as_secs_f64()).round().max(1.0) as u64 - 1;
        }
    }
    println!(
        "  {} checkpoints ({failed} failed, {durable} durable) of {} services; {missed} cadences missed",
        taken.len(),
        last.len()
    );
    line("pause, ms", taken.iter().filter_map(|event| event.pause_ms).collect());
    line("from command to hot, ms", taken.iter().filter_map(|event| event.took_ms).collect());
    line("later than the cadence, ms", late);
}

fn line(name: &str, samples: Vec<f64>) {
    let count = samples.len();
    if let Some(of) = Summary::of(samples) {
        println!(
            "  {name:<28} median {:>8.1}   min {:>8.1}   max {:>8.1}   ({count})",
            of.median, of.min, of.max
        );
    }
}

/// Looks at groups of processes over a time.
fn costs(groups: &[(&str, &[i32])], time: Duration) -> Vec<Cost> {
    let (begun, before) =
        (Instant::now(), groups.iter().map(|(_, pids)| cpu::used(pids)).collect::<Vec<_>>());
    std::thread::sleep(time);
    let over = begun.elapsed().as_secs_f64();
    let cost = |((name, pids), before): (&(&str, &[i32]), Duration)| {
        let seconds = cpu::used(pids).saturating_sub(before).as_secs_f64();
        let sum = |field: &str| pids.iter().filter_map(|pid| kib(*pid, field)).sum::<u64>() as f64 / 1024.0;
        let cost = Cost { cpu: 100.0 * seconds / over, memory: sum("Pss:"), resident: sum("Rss:") };
        println!(
            "  {name:<16} {:>6.2} % of a core   {:>7.1} MiB (PSS)   {:>7.1} MiB (RSS)   {} processes",
            cost.cpu,
            cost.memory,
            cost.resident,
            pids.len()
        );
        cost
    };
    groups.iter().zip(before).map(cost).collect()
}

fn kib(pid: i32, field: &str) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    text.lines().find_map(|line| line.strip_prefix(field))?.split_whitespace().next()?.parse().ok()
}
