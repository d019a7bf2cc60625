//! What keeps a unit from being checkpointed, and what about it would fight us: said with what can be done.

use std::collections::HashMap;
use std::path::Path;

use zbus::zvariant::{OwnedValue, Value};

use super::super::Handle;
use super::Spec;
use crate::error::{Error, Report, Result};
use crate::systemd::{Systemd, Unit};

/// Namespaces that a service may have of its own, and what people call them.
const NAMESPACES: [(&str, &str); 6] = [
    ("mnt", "mounts"),
    ("net", "network"),
    ("ipc", "IPC"),
    ("uts", "host name"),
    ("user", "users"),
    ("pid", "processes"),
];

/// Settings that give a service namespaces of its own, with the value that does not.
const SETTINGS: [(&str, &str); 27] = [
    ("PrivateTmp", "no"),
    ("PrivateDevices", "no"),
    ("PrivateMounts", "no"),
    ("PrivateNetwork", "no"),
    ("PrivateIPC", "no"),
    ("PrivateUsers", "no"),
    ("PrivatePIDs", "no"),
    ("ProtectSystem", "no"),
    ("ProtectHome", "no"),
    ("ProtectProc", "default"),
    ("ProcSubset", "all"),
    ("ProtectKernelTunables", "no"),
    ("ProtectKernelModules", "no"),
    ("ProtectKernelLogs", "no"),
    ("ProtectControlGroups", "no"),
    ("ProtectHostname", "no"),
    ("MountAPIVFS", "no"),
    ("ReadOnlyPaths", ""),
    ("ReadWritePaths", ""),
    ("InaccessiblePaths", ""),
    ("NoExecPaths", ""),
    ("BindPaths", ""),
    ("BindReadOnlyPaths", ""),
    ("TemporaryFileSystem", ""),
    ("RootDirectory", ""),
    ("RootImage", ""),
    ("LoadCredential", ""),
];

/// Whether what runs now could be restored.
pub(super) async fn check(spec: &Spec, unit: &Unit, handle: &Handle) -> Result<()> {
    let refused = |why: &str, remedy: &str| {
        let text = format!("the service cannot be checkpointed: {} {why}", spec.unit);
        Err(Error::Refused(Report::new(text).remedy(remedy)))
    };
    if unit.dynamic_user {
        let remedy = "give it a user that stays: DynamicUser=no and User= in a drop-in (`systemctl edit`)";
        return refused("has a user that exists only while it runs (DynamicUser=yes)", remedy);
    }
    if !unit.sockets.is_empty() {
        let why = format!("is started by {}, whose sockets systemd keeps", unit.sockets.join(", "));
        return refused(&why, "let the service open its sockets itself, if it can, and disable that unit");
    }
    let own = own_namespaces(handle.pid);
    if !own.is_empty() {
        let settings = spec.systemd.settings(&spec.unit).await?;
        return refused(
            &format!("has {} of its own{}", own.join(", "), because(&settings)),
            &without(&settings),
        );
    }
    let members = handle.cgroup.members();
    if let Some(stray) = members.iter().find(|pid| !descends(**pid, handle.pid)) {
        let why =
            format!("has a process, {stray}, that does not descend from its main process {}", handle.pid);
        return refused(&why, "let it not put processes into the background twice");
    }
    if let Some(deeper) = members.iter().find(|pid| cgroup_of(**pid).is_some_and(|own| own != unit.cgroup)) {
        let why = format!("keeps cgroups of its own, in which its process {deeper} is");
        return refused(&why, "switch that off in the service; they would not be brought back");
    }
    Ok(())
}

/// Whether a checkpoint may end it: systemd must not start it again meanwhile.
pub(super) fn may_end(name: &str, unit: &Unit) -> Result<()> {
    if unit.restart == "no" {
        return Ok(());
    }
    let text = format!("suspend {name}: systemd would start it again at once (Restart={})", unit.restart);
    Err(Error::Unavailable(Report::new(text).remedy(no_restart(name))))
}

/// Whether nobody has pids that are about to be needed.
pub(super) fn are_free(name: &str, pids: &[i32]) -> Result<()> {
    let Some(taken) = pids.iter().find(|pid| Path::new(&format!("/proc/{pid}")).exists()) else {
        return Ok(());
    };
    let by = std::fs::read_to_string(format!("/proc/{taken}/comm")).unwrap_or_default();
    let text = format!("restore {name}: another process has its pid {taken} ({})", by.trim());
    let remedy = "a plain process with isolation = \"pid\" has pids of its own; a unit has not";
    Err(Error::Unavailable(Report::new(text).remedy(remedy)))
}

/// What of a unit's settings is at odds with being supervised. Empty also if systemd cannot be asked.
pub async fn doubts(systemd: &Systemd, name: &str) -> Vec<String> {
    let Ok(unit) = systemd.unit(name).await else { return Vec::new() };
    let mut doubts = Vec::new();
    if !matches!(unit.restart.as_str(), "" | "no") {
        doubts.push(format!(
            "systemd restarts {name} by itself (Restart={}), which takes it out of our hands: {}",
            unit.restart,
            no_restart(name)
        ));
    }
    if matches!(unit.unit_file.as_str(), "enabled" | "enabled-runtime") {
        doubts.push(format!(
            "systemd starts {name} at boot, before us and without its state: `systemctl disable {name}`"
        ));
    }
    if unit.kind == "oneshot" {
        doubts.push(format!("{name} is Type=oneshot: there is no main process to be supervised"));
    }
    doubts
}

fn no_restart(name: &str) -> String {
    format!("set Restart=no in its [Service] section (`systemctl edit {name}`)")
}

/// The namespaces of a process that are not ours.
fn own_namespaces(pid: i32) -> Vec<&'static str> {
    let link = |of: &str, kind: &str| std::fs::read_link(format!("/proc/{of}/ns/{kind}")).ok();
    let differs =
        |kind: &str| link(&pid.to_string(), kind).is_some_and(|own| Some(own) != link("self", kind));
    NAMESPACES.iter().filter(|(kind, _)| differs(kind)).map(|(_, name)| *name).collect()
}

/// Those of the known settings that are set otherwise.
fn set(settings: &HashMap<String, OwnedValue>) -> Vec<(&'static str, String)> {
    let of = |name: &str, harmless: &str| {
        let value = settings.get(name).map(|value| said(value))?;
        (value != harmless).then_some(value)
    };
    SETTINGS.iter().filter_map(|(name, harmless)| Some((*name, of(name, harmless)?))).collect()
}

fn because(settings: &HashMap<String, OwnedValue>) -> String {
    let set: Vec<_> = set(settings).into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    if set.is_empty() { String::new() } else { format!(" ({})", set.join(", ")) }
}

fn without(settings: &HashMap<String, OwnedValue>) -> String {
    let harmless =
        |name: &str| SETTINGS.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| *value);
    let lines: Vec<_> =
        set(settings).into_iter().map(|(name, _)| format!("{name}={}", harmless(name))).collect();
    match lines.is_empty() {
        true => "run it without that, or in a container".to_owned(),
        false => {
            format!("in its [Service] section (`systemctl edit`), if it can do without: {}", lines.join(" "))
        }
    }
}

/// As it stands in a unit's file, as far as that matters here.
fn said(value: &Value<'_>) -> String {
    match value {
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Str(text) => text.to_string(),
        Value::Array(array) if array.is_empty() => String::new(),
        Value::Array(_) => "...".to_owned(),
        other => other.to_string(),
    }
}

/// Whether a process is the ancestor of another, or that itself. One that has ended descends from whatever is asked.
fn descends(pid: i32, ancestor: i32) -> bool {
    let mut next = pid;
    while next != ancestor {
        match parent(next) {
            None => return true,
            Some(parent) if parent <= 1 => return false,
            Some(parent) => next = parent,
        }
    }
    true
}

fn parent(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; the state follows, then the parent.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

fn cgroup_of(pid: i32) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_sets_a_unit_apart_is_named_with_what_does_not() {
        let owned = |value: Value<'static>| OwnedValue::try_from(value).expect("no descriptors");
        let settings = HashMap::from([
            ("PrivateTmp".to_owned(), owned(true.into())),
            ("PrivateDevices".to_owned(), owned(false.into())),
            ("ProtectSystem".to_owned(), owned("full".into())),
            ("ProtectHome".to_owned(), owned("no".into())),
            ("ReadOnlyPaths".to_owned(), owned(Value::from(Vec::<String>::new()))),
            ("InaccessiblePaths".to_owned(), owned(Value::from(vec!["/home".to_owned()]))),
        ]);
        assert_eq!(because(&settings), " (PrivateTmp=yes, ProtectSystem=full, InaccessiblePaths=...)");
        let remedy = without(&settings);
        assert!(remedy.ends_with("PrivateTmp=no ProtectSystem=no InaccessiblePaths="), "{remedy}");
        assert_eq!(because(&HashMap::new()), "");
        assert_eq!(without(&HashMap::new()), "run it without that, or in a container");
    }

    #[test]
    fn own_processes_descend_and_others_do_not() {
        let own = i32::try_from(std::process::id()).expect("a pid");
        let parent = parent(own).expect("a parent");
        assert!(descends(own, own) && descends(own, parent));
        assert!(!descends(1, own), "the first process is nobody's child");
        assert!(own_namespaces(own).is_empty());
    }

    #[test]
    fn a_taken_pid_is_named_with_who_has_it() {
        let own = i32::try_from(std::process::id()).expect("a pid");
        let error = are_free("a.service", &[own]).expect_err("it is ours");
        assert!(error.to_string().contains(&format!("another process has its pid {own} (")), "{error}");
        are_free("a.service", &[i32::MAX]).expect("no such process");
    }
}
