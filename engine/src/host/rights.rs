//! What we are allowed to do: capabilities, cgroups, and who started us.

use std::path::Path;

use nix::unistd::{AccessFlags, access};

use super::Fact;
use crate::freeze::Hierarchies;

/// Looks.
pub(super) fn examine() -> Vec<Fact> {
    let mut facts = match std::fs::read_to_string("/proc/self/status") {
        Ok(status) => capabilities(&status),
        Err(error) => vec![Fact::note("capabilities", format!("cannot be read: {error}"))],
    };
    facts.push(cgroups());
    facts.push(systemd());
    facts
}

/// A capability: its number, its name, and what is not possible without it.
type Capability = (u32, &'static str, &'static str);

const NEEDED: [Capability; 3] = [
    (12, "CAP_NET_ADMIN", "connections cannot be kept"),
    (19, "CAP_SYS_PTRACE", "no service can be checkpointed"),
    (21, "CAP_SYS_ADMIN", "no pid namespaces, and CRIU cannot restore"),
];
const SYS_RESOURCE: Capability = (24, "CAP_SYS_RESOURCE", "services that are not root cannot be restored");
const CHECKPOINT_RESTORE: Capability = (40, "CAP_CHECKPOINT_RESTORE", "");

fn capabilities(status: &str) -> Vec<Fact> {
    const TOPIC: &str = "capabilities";
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let Some(held) = line.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()) else {
        return vec![Fact::note(TOPIC, "the kernel does not say which")];
    };
    let has = |(number, _, _): &Capability| held & (1 << number) != 0;
    let remedy = "run as root; in a container or unit, grant it too";
    let mut facts = Vec::new();
    for capability in NEEDED.iter().filter(|capability| !has(capability)) {
        let (_, name, without) = capability;
        facts.push(Fact::lack(TOPIC, format!("without {name}: {without}"), remedy));
    }
    // CAP_SYS_ADMIN covers all that CAP_CHECKPOINT_RESTORE allows.
    if !has(&CHECKPOINT_RESTORE) && !has(&NEEDED[2]) {
        facts.push(Fact::lack(
            TOPIC,
            format!("without {}: PIDs cannot be chosen", CHECKPOINT_RESTORE.1),
            remedy,
        ));
    }
    if !has(&SYS_RESOURCE) {
        let (_, name, without) = SYS_RESOURCE;
        facts.push(Fact::note(TOPIC, format!("without {name}: {without}")).remedy(remedy));
    }
    if facts.is_empty() {
        facts.push(Fact::ok(TOPIC, "all that are needed"));
    }
    facts
}

fn cgroups() -> Fact {
    const TOPIC: &str = "cgroups";
    let found = match Hierarchies::find() {
        Ok(found) => found,
        Err(error) => return Fact::lack(TOPIC, error.to_string(), "mount /proc"),
    };
    let Some(folder) = found.freezer.as_deref().or(found.unified.as_deref()) else {
        return Fact::lack(
            TOPIC,
            "no freezer: services cannot be held still",
            "mount cgroup2 at /sys/fs/cgroup",
        );
    };
    let mode = found.mode();
    match access(folder, AccessFlags::W_OK) {
        Ok(()) => Fact::ok(TOPIC, format!("{mode}, ours is {}", folder.display())),
        Err(why) => {
            let text = format!("{mode}, {} cannot be written to: {why}", folder.display());
            Fact::lack(
                TOPIC,
                text,
                "run as root; under systemd the unit needs Delegate=yes; in a container mount it writable",
            )
        }
    }
}

fn systemd() -> Fact {
    const TOPIC: &str = "systemd";
    let booted = Path::new("/run/systemd/system").is_dir();
    let ours = std::env::var_os("INVOCATION_ID").is_some();
    match (booted, ours) {
        (true, true) => Fact::ok(TOPIC, "runs this host, and started us"),
        (true, false) => {
            Fact::ok(TOPIC, "runs this host; a unit of type notify restarts us and watches over us")
        }
        (false, _) => Fact::note(TOPIC, "does not run this host: nobody restarts the supervisor itself")
            .remedy("have something start it again, a container runtime or an init script"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Standing::{Lack, Note, Ok};

    #[test]
    fn capabilities_are_judged_by_what_they_are_for() {
        let all: u64 = (1 << 41) - 1;
        let judged = |held: u64| {
            let facts = capabilities(&format!("Name:\tx\nCapEff:\t{held:016x}\n"));
            facts.iter().map(|fact| (fact.standing, fact.text.clone())).collect::<Vec<_>>()
        };
        let without = |number: u32| judged(all & !(1 << number));
        assert_eq!(judged(all), [(Ok, "all that are needed".to_owned())]);
        assert_eq!(without(40), judged(all), "CAP_SYS_ADMIN covers it");
        let resource = "without CAP_SYS_RESOURCE: services that are not root cannot be restored";
        assert_eq!(without(24), [(Note, resource.to_owned())]);
        assert!(
            without(19)[0] == (Lack, "without CAP_SYS_PTRACE: no service can be checkpointed".to_owned())
        );
        assert_eq!(judged(0).iter().filter(|(standing, _)| *standing == Lack).count(), 4);
        assert_eq!(capabilities("Name:\tx\n")[0].standing, Note);
    }
}
