//! A container's definition as podman keeps it in its database and writes it into checkpoint archives (`config.dump`).
//!
//! podman hands it out only in an archive of its own making, which costs a checkpoint of its own; so it is put together from what
//! `podman container inspect` says. What podman fills in by itself at an import (folders, lock, cgroup, `/dev/shm`) is left
//! out. Names of fields: podman's `libpod/container_config.go`; those not given keep podman's defaults.

use std::collections::BTreeMap;

use nix::sys::signal::Signal;
use serde_json::{Map, Value, json};

/// The definition of the container of which podman says this.
pub(super) fn of(said: &Value) -> Value {
    let (config, host) = (&said["Config"], &said["HostConfig"]);
    let mut definition = Map::new();
    let mut put = |name: &str, value: Value| {
        // podman reads a missing field as its default, an empty one not always.
        let says_nothing = matches!(&value, Value::Null)
            || value.as_str() == Some("")
            || value.as_array().is_some_and(Vec::is_empty)
            || value.as_object().is_some_and(Map::is_empty);
        if !says_nothing {
            definition.insert(name.to_owned(), value);
        }
    };
    for (name, value) in identity(said) {
        put(name, value);
    }
    for (name, value) in network(said) {
        put(name, value);
    }
    put("namedVolumes", named_volumes(&said["Mounts"]));
    put(
        "userVolumes",
        said["Mounts"].as_array().into_iter().flatten().map(|m| m["Destination"].clone()).collect(),
    );
    for (name, key) in [
        ("CreateCommand", "CreateCommand"),
        ("command", "Cmd"),
        ("healthcheck", "Healthcheck"),
        ("labels", "Labels"),
        ("passwd", "Passwd"),
        ("sdnotifyMode", "sdNotifyMode"),
        ("stdin", "OpenStdin"),
        ("stopTimeout", "StopTimeout"),
        ("timeout", "Timeout"),
        ("timezone", "Timezone"),
        ("umask", "Umask"),
        ("user", "User"),
    ] {
        put(name, config[key].clone());
    }
    for (name, key) in [
        ("cgroupParent", "CgroupParent"),
        ("dnsOption", "DnsOptions"),
        ("dnsSearch", "DnsSearch"),
        ("dnsServer", "Dns"),
        ("groups", "GroupAdd"),
        ("hostsAdd", "ExtraHosts"),
        ("privileged", "Privileged"),
        ("shmSize", "ShmSize"),
    ] {
        put(name, host[key].clone());
    }
    put("entrypoint", words(&config["Entrypoint"]));
    put("stopSignal", signal(&config["StopSignal"]));
    put("restart_policy", host["RestartPolicy"]["Name"].clone());
    put("logDriver", host["LogConfig"]["Type"].clone());
    put("labelopts", label_options(&host["SecurityOpt"]));
    definition.into()
}

fn identity(said: &Value) -> [(&'static str, Value); 11] {
    let ids = json!({ "HostUIDMapping": true, "HostGIDMapping": true, "UIDMap": null, "GIDMap": null });
    [
        ("id", said["Id"].clone()),
        ("name", said["Name"].clone()),
        ("pod", said["Pod"].clone()),
        ("Dependencies", said["Dependencies"].clone()),
        ("RawImageName", said["ImageName"].clone()),
        ("rootfsImageID", said["Image"].clone()),
        ("rootfsImageName", said["ImageName"].clone()),
        ("rootfs", said["Rootfs"].clone()),
        ("createdTime", said["Created"].clone()),
        ("runtime", said["OCIRuntime"].clone()),
        ("idMappingsOptions", ids),
    ]
}

fn network(said: &Value) -> [(&'static str, Value); 4] {
    let host = &said["HostConfig"];
    let mode = host["NetworkMode"].as_str().unwrap_or_default();
    let own = ["bridge", "slirp4netns", "pasta"].iter().any(|kind| mode.starts_with(kind));
    [
        ("createNetNS", own.into()),
        ("networkMode", mode.into()),
        ("newNetworks", if own { networks(said) } else { Value::Null }),
        ("newPortMappings", ports(&host["PortBindings"])),
    ]
}

/// podman knows a container's interfaces by their order.
fn networks(said: &Value) -> Value {
    let short: String = said["Id"].as_str().unwrap_or_default().chars().take(12).collect();
    let found: BTreeMap<&String, &Value> =
        said["NetworkSettings"]["Networks"].as_object().into_iter().flatten().collect();
    let network = |(number, (name, network)): (usize, (&String, &Value))| {
        // Its own short name is given anew.
        let aliases = network["Aliases"].as_array().into_iter().flatten();
        let aliases: Vec<&Value> = aliases.filter(|alias| alias.as_str() != Some(short.as_str())).collect();
        (name.clone(), json!({ "interface_name": format!("eth{number}"), "aliases": aliases }))
    };
    found.into_iter().enumerate().map(network).collect::<Map<_, _>>().into()
}

/// `"8080/tcp": [{ "HostIp": "127.0.0.1", "HostPort": "9999" }]`, one mapping each.
fn ports(bindings: &Value) -> Value {
    let mapping = |port: &String, binding: &Value| {
        let (inside, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
        let number = |text: &str| text.parse::<u16>().unwrap_or_default();
        json!({
            "host_ip": binding["HostIp"].as_str().unwrap_or_default(),
            "container_port": number(inside),
            "host_port": number(binding["HostPort"].as_str().unwrap_or_default()),
            "range": 1,
            "protocol": protocol,
        })
    };
    let all = bindings.as_object().into_iter().flatten();
    all.flat_map(|(port, bound)| bound.as_array().into_iter().flatten().map(move |one| mapping(port, one)))
        .collect()
}

fn named_volumes(mounts: &Value) -> Value {
    let volume = |mount: &Value| {
        let access = if mount["RW"].as_bool() == Some(false) { "ro" } else { "rw" };
        let given = mount["Options"].as_array().into_iter().flatten().cloned();
        let options: Vec<Value> = [access.into(), mount["Propagation"].clone()]
            .into_iter()
            .chain(given)
            .filter(|o| *o != "")
            .collect();
        json!({ "volumeName": mount["Name"], "dest": mount["Destination"], "options": options })
    };
    mounts.as_array().into_iter().flatten().filter(|mount| mount["Type"] == "volume").map(volume).collect()
}

/// Older podmans say the words of a command as one text.
fn words(said: &Value) -> Value {
    match said.as_str() {
        Some("") | None => said.clone(),
        Some(text) => text.split(' ').collect(),
    }
}

/// Older podmans say its number, newer ones its name.
fn signal(said: &Value) -> Value {
    let name = said.as_str().and_then(|name| name.parse::<Signal>().ok());
    name.map_or_else(
        || if said.is_u64() { said.clone() } else { Value::Null },
        |signal| (signal as i32).into(),
    )
}

fn label_options(security: &Value) -> Value {
    let all = security.as_array().into_iter().flatten().filter_map(Value::as_str);
    all.filter_map(|option| option.strip_prefix("label=").or_else(|| option.strip_prefix("label:"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said() -> Value {
        json!({
            "Id": "16bf31b37a2b8eb2", "Name": "one", "Pod": "", "Dependencies": [], "Rootfs": "",
            "Image": "92d5", "ImageName": "localhost/one:latest", "Created": "2026-11-25T21:33:47Z", "OCIRuntime": "runc",
            "Mounts": [
                { "Type": "volume", "Name": "cache", "Destination": "/data", "RW": true,
                  "Propagation": "rprivate", "Options": ["nosuid", "nodev", "rbind"] },
                { "Type": "bind", "Source": "/srv", "Destination": "/bound", "RW": true },
            ],
            "NetworkSettings": { "Networks": { "podman": { "Aliases": ["16bf31b37a2b", "db"] } } },
            "Config": { "Entrypoint": "/bin/one", "Cmd": ["--now"], "StopSignal": 15, "StopTimeout": 10, "Labels": null },
            "HostConfig": {
                "NetworkMode": "bridge", "ShmSize": 65_536_000, "Dns": [], "LogConfig": { "Type": "k8s-file" },
                "PortBindings": { "8080/tcp": [{ "HostIp": "127.0.0.1", "HostPort": "9999" }] },
                "RestartPolicy": { "Name": "" }, "SecurityOpt": ["label=disable"], "Privileged": false,
            },
        })
    }

    #[test]
    fn it_is_what_podman_writes_itself() {
        let definition = of(&said());
        let wanted = json!({
            "id": "16bf31b37a2b8eb2", "name": "one", "RawImageName": "localhost/one:latest",
            "rootfsImageID": "92d5", "rootfsImageName": "localhost/one:latest", "runtime": "runc",
            "createdTime": "2026-11-25T21:33:47Z",
            "idMappingsOptions": { "HostUIDMapping": true, "HostGIDMapping": true, "UIDMap": null, "GIDMap": null },
            "namedVolumes": [{ "volumeName": "cache", "dest": "/data", "options": ["rw", "rprivate", "nosuid", "nodev", "rbind"] }],
            "userVolumes": ["/data", "/bound"],
            "createNetNS": true, "networkMode": "bridge",
            "newNetworks": { "podman": { "interface_name": "eth0", "aliases": ["db"] } },
            "newPortMappings": [
                { "host_ip": "127.0.0.1", "container_port": 8080, "host_port": 9999, "range": 1, "protocol": "tcp" },
            ],
            "entrypoint": ["/bin/one"], "command": ["--now"], "stopSignal": 15, "stopTimeout": 10,
            "shmSize": 65_536_000, "logDriver": "k8s-file", "labelopts": ["disable"], "privileged": false,
        });
        assert_eq!(definition, wanted);
    }

    #[test]
    fn newer_podmans_are_understood_too() {
        let mut said = said();
        said["Config"]["Entrypoint"] = json!(["/bin/a b", "c"]);
        said["Config"]["StopSignal"] = json!("SIGQUIT");
        said["HostConfig"]["NetworkMode"] = json!("host");
        let definition = of(&said);
        assert_eq!(
            (&definition["entrypoint"], &definition["stopSignal"]),
            (&json!(["/bin/a b", "c"]), &json!(3))
        );
        assert_eq!((&definition["createNetNS"], &definition["newNetworks"]), (&json!(false), &Value::Null));
    }
}
