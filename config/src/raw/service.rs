//! `[service.NAME]` and its runtimes.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use policies::id::ServiceName;
use policies::ladder;
use policies::service::Settings;

use super::{checkpoint, cluster, container, hooks, probe, restart};
use crate::read::{Cell, Table};
use crate::settings::{Isolation, Node, Output, Process, Runc, Runtime, Service, StartFrom, Systemd};
use crate::values::{choice, command, duration, path, service_name, signal, small, text, unit, user};

const RUNTIMES: [&str; 5] = ["process", "runc", "docker", "podman", "systemd"];

/// A service, and the group that it names.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) service: Service,
    pub(crate) group: Option<ServiceName>,
}

pub(super) fn service(table: Table<'_>, name: &str, node: &Node) -> Written {
    let runtime = runtime(&table, name, node);
    let plan = checkpoint::checkpoint(table.table("checkpoint"));
    let recovery = restart::restart(table.table("restart"));
    let probes: Vec<_> = table
        .named_tables("probe")
        .into_iter()
        .map(|named| probe::probe(named, probe::Of::Service))
        .collect();
    // A table that is not there is no standby, not one whose `standby` is missing.
    let failover = table.table_if_written("failover").map(cluster::failover);
    let migration_threshold = failover.as_ref().and_then(|failover| failover.migration_threshold);
    let policy = Settings {
        backoff: recovery.backoff,
        cadence: plan.cadence,
        probes: probes.iter().map(|probe| probe.settings.clone()).collect(),
        ladder: ladder::Settings { migration_threshold, ..recovery.ladder },
        restart_policy: recovery.policy,
        success_exit_codes: table.get("success_exit_codes", |cell| cell.list(small)).unwrap_or_default(),
        stop_timeout: table.get("stop_timeout", duration).unwrap_or_default(),
        start_timeout: table.get("start_timeout", duration).unwrap_or_default(),
        restore_timeout: table.get("restore_timeout", duration).unwrap_or_default(),
        trial_dump: plan.trial,
    };
    let service = Service {
        runtime,
        policy,
        retention: plan.retention,
        probes,
        checkpoint: plan.plan,
        stop_signal: table.get("stop_signal", signal).unwrap_or_default(),
        start_from: table.get("start_from", choice).unwrap_or(StartFrom::Scratch),
        depends_on: table.get("depends_on", |cell| cell.list(service_name)).unwrap_or_default(),
        failover,
        hooks: table.table_if_written("hooks").map(hooks::hooks),
    };
    let group = table.get("group", service_name);
    table.done();
    Written { service, group }
}

/// Every runtime that is written is read, so that its mistakes are told even if there are too many of them.
fn runtime(table: &Table<'_>, name: &str, node: &Node) -> Runtime {
    let hint = "write one of `process = { command = [\"...\"] }`, `runc = { bundle = \"/...\" }`, \
    `docker = { container = \"...\" }`, `podman = { container = \"...\" }` and `systemd = { unit = \"...\" }`";
    let chosen = table.exactly_one_of("runtime", &RUNTIMES, hint);
    let log = node.state_dir.join("logs").join(format!("{name}.log"));
    let process = table.has("process").then(|| process(table.table("process"), log));
    let runc = table.has("runc").then(|| runc(table.table("runc")));
    let docker = table.has("docker").then(|| container::docker(table.table("docker")));
    let podman = table.has("podman").then(|| container::podman(table.table("podman")));
    let systemd = table.has("systemd").then(|| systemd(table.table("systemd")));
    let runtime = match chosen {
        Some("runc") => runc.map(Runtime::Runc),
        Some("docker") => docker.map(Runtime::Docker),
        Some("podman") => podman.map(Runtime::Podman),
        Some("systemd") => systemd.map(Runtime::Systemd),
        Some(_) | None => process.map(Runtime::Process),
    };
    runtime.unwrap_or_else(|| Runtime::Runc(Runc { bundle: PathBuf::new() }))
}

fn process(table: Table<'_>, log: PathBuf) -> Process {
    let process = Process {
        command: table.get("command", command).unwrap_or_default(),
        env: table.get("env", env).unwrap_or_default(),
        cwd: table.get("cwd", path).unwrap_or_default(),
        user: table.get("user", user),
        isolation: table.get("isolation", choice).unwrap_or(Isolation::Pid),
        stdout: table.get("stdout", output).unwrap_or_else(|| Output::File(log.clone())),
        stderr: table.get("stderr", output).unwrap_or(Output::File(log)),
    };
    table.done();
    process
}

fn runc(table: Table<'_>) -> Runc {
    let runc = Runc { bundle: table.get("bundle", path).unwrap_or_default() };
    table.done();
    runc
}

fn systemd(table: Table<'_>) -> Systemd {
    let systemd = Systemd { unit: table.get("unit", unit).unwrap_or_default() };
    table.done();
    systemd
}

fn env(cell: &Cell<'_>) -> Option<BTreeMap<String, String>> {
    cell.by_name(|name: &str, span: Range<usize>, cell: &Cell<'_>| {
        let value = text(cell);
        if name.is_empty() || name.contains(['=', '\0']) {
            let draft = crate::error::Draft::error(span, "this cannot be the name of a variable");
            cell.context.note(draft.hint("a name has at least one character, and no `=`"));
            return None;
        }
        value
    })
}

fn output(cell: &Cell<'_>) -> Option<Output> {
    match cell.value().as_str() {
        Some("journal") => Some(Output::Journal),
        Some(_) | None => path(cell).map(Output::File),
    }
}
