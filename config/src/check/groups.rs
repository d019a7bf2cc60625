//! Groups: known names, members, and what is the group's and not a member's.

use policies::id::ServiceName;

use super::Rules;
use crate::near::nearest;
use crate::raw::Raw;
use crate::settings::Runtime;

/// What a group has one of.
const OF_THE_GROUP: [&str; 8] = [
    "checkpoint",
    "restart",
    "failover",
    "hooks",
    "start_timeout",
    "start_from",
    "restore_timeout",
    "success_exit_codes",
];

pub(super) fn check(raw: &Raw, rules: &mut Rules<'_>) {
    for (name, member) in &raw.members {
        let Some(group) = &member.group else { continue };
        if rules.places.written(&format!("group/{group}")).is_none() {
            unknown(raw, name, group, rules);
        }
        if matches!(member.service.runtime, Runtime::Systemd(_)) {
            let hint = "leave `group` out: systemd starts and ends units by itself";
            rules.error(
                &format!("service/{name}/systemd"),
                &[],
                "a unit cannot be a member of a group",
                hint,
            );
        }
        for key in OF_THE_GROUP {
            misplaced(name, group, key, rules);
        }
    }
    for (name, service) in &raw.services {
        if matches!(&service.runtime, Runtime::Group(members) if members.is_empty()) {
            let hint = format!("write `group = \"{name}\"` in its services, or leave it out");
            rules.warning(&format!("group/{name}"), &[], "no service is in this group", &hint);
        }
        let (group, alone) = (format!("group/{name}"), format!("service/{name}"));
        if rules.places.written(&group).is_some() && rules.places.written(&alone).is_some() {
            let message = format!("`{name}` is the name of a service, too");
            rules.error(&group, &[&alone], message, "give the group another name: commands name both alike");
        }
    }
}

fn unknown(raw: &Raw, member: &ServiceName, group: &ServiceName, rules: &mut Rules<'_>) {
    let is_group = |name: &&ServiceName| raw.place(name).starts_with("group/");
    let groups = raw.services.keys().filter(is_group).map(ServiceName::as_str);
    let hint = match nearest(group.as_str(), groups) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("add `[group.{group}]`"),
    };
    rules.error(&format!("service/{member}/group"), &[], format!("there is no group `{group}`"), &hint);
}

fn misplaced(member: &ServiceName, group: &ServiceName, key: &str, rules: &mut Rules<'_>) {
    let at = format!("service/{member}/{key}");
    if rules.places.written(&at).is_none() {
        return;
    }
    let (message, hint) = match key {
        "failover" => (
            "a member of a group cannot be taken over by another node".to_owned(),
            "leave it out: groups stay on their node".to_owned(),
        ),
        "success_exit_codes" => (
            "the end of a member is a fault of its group, whatever the code".to_owned(),
            "leave it out".to_owned(),
        ),
        _ => (format!("`{key}` of a member is its group's"), format!("write it in `[group.{group}]`")),
    };
    rules.error(&at, &[], message, &hint);
}
