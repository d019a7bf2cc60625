//! What podman says of a container, and what of it we take.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Value, json};

use super::super::container::{Known, Mounted};

/// `podman container inspect`, as far as we need it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Inspected {
    id: String,
    image: String,
    state: State,
    #[serde(default)]
    mounts: Vec<Mount>,
    graph_driver: Option<GraphDriver>,
    static_dir: PathBuf,
    pid_file: Option<PathBuf>,
    host_config: HostConfig,
    config: Config,
    network_settings: Option<NetworkSettings>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    status: String,
    pid: i32,
    exit_code: i32,
    #[serde(rename = "OOMKilled", default)]
    out_of_memory: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Mount {
    #[serde(rename = "Type")]
    kind: String,
    name: Option<String>,
    source: PathBuf,
    destination: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GraphDriver {
    data: std::collections::BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HostConfig {
    restart_policy: Option<RestartPolicy>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RestartPolicy {
    name: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    tty: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkSettings {
    #[serde(default)]
    networks: std::collections::BTreeMap<String, Network>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Network {
    #[serde(rename = "IPAddress")]
    address: String,
    #[serde(rename = "IPPrefixLen")]
    prefix: u8,
    gateway: String,
    mac_address: String,
}

impl From<Inspected> for Known {
    fn from(found: Inspected) -> Self {
        let mounted = |mount: Mount| Mounted {
            volume: mount.name.filter(|_| mount.kind == "volume"),
            source: mount.source,
            destination: mount.destination,
        };
        let layers = found.graph_driver.map(|driver| driver.data).unwrap_or_default();
        let changes = layers.get("UpperDir").map(PathBuf::from);
        let lower = layers.get("LowerDir").map(|list| list.split(':').map(PathBuf::from).collect());
        let lower = lower.unwrap_or_default();
        let networks = found.network_settings.map(|settings| settings.networks).unwrap_or_default();
        Known {
            id: found.id,
            image: found.image,
            pid: Some(found.state.pid).filter(|pid| *pid > 0 && found.state.status == "running"),
            at_rest: matches!(found.state.status.as_str(), "created" | "configured" | "exited"),
            exit_code: found.state.exit_code,
            out_of_memory: found.state.out_of_memory,
            changes,
            lower,
            mounts: found.mounts.into_iter().map(mounted).collect(),
            restart_policy: found.host_config.restart_policy.map(|policy| policy.name).unwrap_or_default(),
            tty: found.config.tty,
            folder: found.static_dir,
            pid_file: found.pid_file.filter(|path| !path.as_os_str().is_empty()),
            network: addresses(&networks),
            definition: Value::Null,
        }
    }
}

/// The addresses in the notation that podman reads at a restore; it knows a container's interfaces by their order.
fn addresses(networks: &std::collections::BTreeMap<String, Network>) -> Value {
    let status = |(number, (name, network)): (usize, (&String, &Network))| {
        let subnet = json!({
            "ipnet": format!("{}/{}", network.address, network.prefix),
            "gateway": network.gateway,
        });
        let interface = json!({ "subnets": [subnet], "mac_address": network.mac_address });
        (name.clone(), json!({ "interfaces": { format!("eth{number}"): interface } }))
    };
    let known = networks.iter().filter(|(_, network)| !network.address.is_empty());
    known.enumerate().map(status).collect::<serde_json::Map<_, _>>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inspected(status: &str, pid: i32) -> Inspected {
        serde_json::from_value(json!({
            "Id": "d3e1", "Image": "f0af",
            "State": { "Status": status, "Pid": pid, "ExitCode": 137, "OOMKilled": true, "Running": false },
            "Mounts": [
                { "Type": "volume", "Name": "cache", "Source": "/v/cache/_data", "Destination": "/data" },
                { "Type": "bind", "Source": "/srv/here", "Destination": "/there" },
            ],
            "GraphDriver": { "Name": "overlay", "Data": { "UpperDir": "/o/diff", "LowerDir": "/o/lower" } },
            "StaticDir": "/s/userdata", "PidFile": "/r/userdata/pidfile",
            "HostConfig": { "RestartPolicy": { "Name": "always", "MaximumRetryCount": 0 } },
            "Config": { "Tty": false },
            "NetworkSettings": { "Networks": { "podman": {
                "IPAddress": "10.88.0.8", "IPPrefixLen": 16, "Gateway": "10.88.0.1", "MacAddress": "fa:d4:0f:af:d7:dc",
            } } },
        }))
        .expect("what podman 4.3 says")
    }

    #[test]
    fn what_podman_says_is_understood() {
        let running = Known::from(inspected("running", 77));
        assert_eq!((running.pid, running.at_rest), (Some(77), false));
        // Between the end and podman's own clearing up nothing can be started.
        let ending = Known::from(inspected("stopped", 0));
        assert_eq!((ending.pid, ending.at_rest), (None, false));
        let rested = Known::from(inspected("exited", 0));
        assert_eq!((rested.pid, rested.at_rest), (None, true));
        assert_eq!(rested.changes, Some("/o/diff".into()));
        assert_eq!(rested.pid_file, Some("/r/userdata/pidfile".into()));
        let volumes: Vec<_> = rested.mounts.iter().map(|mount| mount.volume.as_deref()).collect();
        assert_eq!(volumes, [Some("cache"), None]);
        assert_eq!((rested.restart_policy.as_str(), rested.exit_code), ("always", 137));
        assert!(rested.out_of_memory);
    }

    #[test]
    fn addresses_are_in_podmans_own_notation() {
        let subnet = json!({ "ipnet": "10.88.0.8/16", "gateway": "10.88.0.1" });
        let interface = json!({ "subnets": [subnet], "mac_address": "fa:d4:0f:af:d7:dc" });
        let expected = json!({ "podman": { "interfaces": { "eth0": interface } } });
        assert_eq!(Known::from(inspected("running", 1)).network, expected);
    }
}
