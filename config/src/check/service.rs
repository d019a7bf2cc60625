//! Rules within one service.

use std::collections::BTreeMap;

use policies::health::Role;
use policies::id::ServiceName;
use policies::ladder::Rung;
use policies::service::RestartPolicy;

use super::{Rules, human};
use crate::keys::Words;
use crate::raw::Raw;
use crate::settings::{Probe, ProbeKind, Runtime, Service};

pub(super) fn check(name: &ServiceName, service: &Service, raw: &Raw, rules: &mut Rules<'_>) {
    let place = raw.place(name);
    let at = |rest: &str| format!("{place}/{rest}");
    probes(&service.probes, rules, &at);
    reports(service, rules, &at);
    notify(service, rules, &at);
    signal(service, rules, &at);
    checkpoints(service, raw, rules, &at);
    backoff(service, rules, &at);
    ladder(service, rules, &at);
    exhaustion(service, rules, &at);
}

/// Rules of probes, whoever has them.
pub(super) fn probes(probes: &[Probe], rules: &mut Rules<'_>, at: &dyn Fn(&str) -> String) {
    for probe in probes {
        let place = place_of(probe, at);
        let (timeout, interval) = (format!("{place}/timeout"), format!("{place}/interval"));
        if probe.settings.reported || probe.settings.timeout <= probe.settings.interval {
            continue;
        }
        let (timeout_text, interval_text) = (human(probe.settings.timeout), human(probe.settings.interval));
        rules.error(
            super::later(rules.places, [&timeout, &interval]),
            &[&timeout, &interval],
            format!("a check may take {timeout_text}, but one begins every {interval_text}"),
            "make `timeout` at most `interval`",
        );
    }
}

/// Where a probe is written: with the service, or with the member of the group that it asks.
fn place_of(probe: &Probe, at: &dyn Fn(&str) -> String) -> String {
    match &probe.member {
        Some(member) => format!("service/{member}/probe/{}", probe.name),
        None => at(&format!("probe/{}", probe.name)),
    }
}

/// Whoever may fall silent must not decide whether the others are asked.
fn reports(service: &Service, rules: &mut Rules<'_>, at: &dyn Fn(&str) -> String) {
    let startup = |probe: &&Probe| probe.settings.reported && probe.settings.role == Role::Startup;
    for probe in service.probes.iter().filter(startup) {
        rules.error(
            &format!("{}/role", place_of(probe, at)),
            &[],
            "a `report` probe cannot be `startup`: nothing waits for somebody who may never report",
            "make it `liveness` or `readiness`",
        );
    }
}

/// The socket is the supervisor's, on the host, and who may speak there is told by pids of the shim's namespace: containers have other ones.
fn notify(service: &Service, rules: &mut Rules<'_>, at: &dyn Fn(&str) -> String) {
    let mut told = BTreeMap::new();
    for probe in service.probes.iter().filter(|probe| probe.kind == ProbeKind::Notify) {
        let (place, runtime) = match (&probe.member, &service.runtime) {
            (Some(member), Runtime::Group(members)) => {
                let found = members.iter().find(|one| one.name == *member);
                (format!("service/{member}"), found.map(|one| &one.runtime))
            }
            (_, runtime) => (at("").trim_end_matches('/').to_owned(), Some(runtime)),
        };
        if let Some(Runtime::Process(process)) = runtime {
            told.insert(place, process);
        } else {
            let message = match runtime {
                Some(Runtime::Systemd(_)) => "a unit says how it is to systemd, not to a `notify` probe",
                _ => "a container does not see the socket that a `notify` probe listens at",
            };
            let hint =
                "use `http`, `tcp`, `exec`, `grpc` or `heartbeat`; `notify` is for services of `process`";
            rules.error(&format!("{place}/probe/{}/notify", probe.name), &[], message, hint);
        }
    }
    for (place, process) in told {
        for variable in ["NOTIFY_SOCKET", "WATCHDOG_USEC"].iter().filter(|v| process.env.contains_key(**v)) {
            let message = format!("`{variable}` is set here, and by the service's `notify` probe");
            rules.error(&format!("{place}/process/env"), &[], message, "leave it out, or the probe");
        }
    }
}

fn signal(service: &Service, rules: &mut Rules<'_>, at: &dyn Fn(&str) -> String) {
    let signal = at("stop_signal");
    if matches!(service.runtime, Runtime::Systemd(_)) && rules.places.written(&signal).is_some() {
        let hint = "leave it out; `KillSignal=` and `ExecStop=` of the unit say how it ends";
        rules.warning(&signal, &[], "`stop_signal` does nothing for a unit: systemd stops it", hint);
    }
}

fn checkpoints(service: &Service, raw: &Raw, rules: &mut Rules<'_>, at: &dyn Fn(&str) -> String) {
    let cadence = &service.policy.cadence;
    let (timeout, interval) = (at("checkpoint/timeout"), at("checkpoint/interval"));
    // The default limit is for the worst day, not for the cadence: only one that was written is doubted.
    let written = rules.places.written(&timeout).is_some();
    if let Some(every) = cadence.interval.filter(|every| written && cadence.timeout > *every) {
        rules.warning(
            &timeout,
            &[&interval],
            format!(
                "a checkpoint may take {}, but one is due every {}",
                human(cadence.timeout),
                human(every)
            ),
            "make `timeout` at most `interval`: slow checkpoints push the next ones back",
        );
    }
    let own = at("checkpoint/max_total_size");
    if let (Some(size), Some(all)) = (service.retention.max_total_size, raw.store.max_total_size)
        && size > all
    {
        rules.error(
            &own,
            &["store/max_total_size"],
            "this service may take more space than the whole store",
            "make it at most `store.max_total_size`",
        );
    }
    let without_layer = match &service.runtime {
        Runtime::Process(_) => Some("a plain process"),
        Runtime::Systemd(_) => Some("a unit"),
        Runtime::Runc(_) | Runtime::Docker(_) | Runtime::Podman(_) | Runtime::Group(_) => None,
    };
    if let Some(what) = without_layer.filter(|_| rules.places.written(&at("checkpoint/rootfs")).is_some()) {
        rules.warning(
            &at("checkpoint/rootfs"),
            &[],
            format!("`rootfs` does nothing for {what}, which has no writable layer"),
            "name the folders it writes to in `volumes`",
        );
    }
    if !service.checkpoint.enabled && rules.places.written(&interval).is_some() {
        rules.warning(
            &interval,
            &[&at("checkpoint/enabled")],
            "`interval` does nothing with `enabled = false`",
            "leave one of them out",
        );
    }
}

fn backoff(service: &Service, rules: &mut Rules<'_>, at: &dyn Fn(&str) -> String) {
    let (initial, max) = (at("restart/backoff_initial"), at("restart/backoff_max"));
    let backoff = &service.policy.backoff;
    if backoff.initial > backoff.max {
        let (initial_text, max_text) = (human(backoff.initial), human(backoff.max));
        rules.error(
            super::later(rules.places, [&initial, &max]),
            &[&initial, &max],
            format!("the pause begins at {initial_text} and may not exceed {max_text}"),
            "make `backoff_initial` at most `backoff_max`",
        );
    }
}

fn ladder(service: &Service, rules: &mut Rules<'_>, at: &dyn Fn(&str) -> String) {
    let ladder = at("restart/ladder");
    let rungs = &service.policy.ladder.rungs;
    for (position, rung) in rungs.iter().enumerate() {
        let place = at(&format!("restart/ladder/{position}"));
        if rungs[..position].contains(rung) {
            let message = format!("`{}` is in the ladder already", rung.word());
            rules.error(&place, &[], message, "each rung is climbed once per fault: leave one of them out");
        }
    }
    if rules.places.written(&ladder).is_none() {
        return;
    }
    if service.policy.restart_policy == RestartPolicy::Never {
        let hint = "leave the ladder out, or use another `policy`";
        rules.warning(
            &ladder,
            &[&at("restart/policy")],
            "the ladder does nothing with `policy = \"never\"`",
            hint,
        );
    }
    if service.failover.is_none() && !rungs.iter().any(|rung| *rung != Rung::FailOver) {
        rules.error(
            &ladder,
            &[],
            "the ladder has no rung to recover by",
            "write `policy = \"never\"` if the service is not to be recovered",
        );
    }
    let restores = rungs.iter().any(|rung| matches!(rung, Rung::RestoreLatest | Rung::RestoreOlder));
    if !service.checkpoint.enabled && restores {
        rules.warning(
            &ladder,
            &[&at("checkpoint/enabled")],
            "the ladder restores images, but `checkpoint.enabled = false` takes none",
            "write `ladder = [\"cold-start\"]`, or take checkpoints",
        );
    }
}

fn exhaustion(service: &Service, rules: &mut Rules<'_>, at: &dyn Fn(&str) -> String) {
    let settings = &service.policy.ladder;
    let about = ["window", "max_attempts", "backoff_initial", "backoff_max", "backoff_factor"];
    let about: Vec<_> = about.iter().map(|key| at(&format!("restart/{key}"))).collect();
    let about: Vec<_> = about.iter().map(String::as_str).collect();
    if !pauses_exceed_window(service) {
        return;
    }
    let written = about.iter().filter(|path| rules.places.written(path).is_some());
    let last = written.max_by_key(|path| rules.places.nearest(path).start).copied().unwrap_or(about[0]);
    let window = human(settings.window);
    rules.warning(
        last,
        &about,
        format!("the service is never given up: its pauses add up to more than the window of {window}"),
        "make `window` longer, `max_attempts` smaller or `backoff_max` shorter",
    );
}

/// If the pauses before `max_attempts` recoveries exceed the window, then the attempts never count up to the
/// limit, and the service is retried for ever. The first recovery has no pause.
fn pauses_exceed_window(service: &Service) -> bool {
    let (backoff, ladder) = (&service.policy.backoff, &service.policy.ladder);
    let mut pause = backoff.initial.as_secs_f64();
    let mut sum = 0.0;
    for _ in 1..ladder.max_attempts {
        sum += pause;
        if sum > ladder.window.as_secs_f64() {
            return true;
        }
        pause = (pause * backoff.factor).min(backoff.max.as_secs_f64());
    }
    false
}
