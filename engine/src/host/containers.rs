//! Which containers run on this host, as docker and podman say on their own command lines: for a configuration to begin with.
//!
//! It refuses to fail: an engine that is absent or does not answer runs nothing.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde_json::Value;

use super::runtimes::answer;

/// One that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Whose it is: `docker` or `podman`.
    pub engine: &'static str,
    /// Its name.
    pub name: String,
    /// What it was made of.
    pub image: String,
    /// Where its TCP ports are reached from this host.
    pub ports: Vec<SocketAddr>,
    /// Folders and files of this host that are mounted into it.
    pub binds: Vec<PathBuf>,
    /// Its own restart policy, if it has one.
    pub restart: Option<String>,
    /// Whether it has a terminal, which CRIU cannot dump.
    pub terminal: bool,
}

/// Looks. Asks each engine once, and once more for every container.
pub async fn running() -> Vec<Container> {
    let mut found = Vec::new();
    for engine in ["docker", "podman"] {
        let names = answer(engine, &["ps", "--format", "{{.Names}}"]).await.unwrap_or_default();
        for name in names.lines() {
            let facts = answer(engine, &["container", "inspect", name]).await;
            let facts = facts.and_then(|text| serde_json::from_str::<Value>(&text).ok());
            found.extend(facts.and_then(|facts| container(engine, facts.get(0)?)));
        }
    }
    found
}

/// What both engines call alike. A pod's infrastructure is podman's own matter.
fn container(engine: &'static str, facts: &Value) -> Option<Container> {
    if facts["IsInfra"] == true {
        return None;
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let restart = text(&facts["HostConfig"]["RestartPolicy"]["Name"]);
    Some(Container {
        engine,
        name: facts["Name"].as_str()?.trim_start_matches('/').to_owned(),
        image: text(&facts["Config"]["Image"]),
        ports: ports(&facts["NetworkSettings"]["Ports"]),
        binds: binds(&facts["Mounts"]),
        restart: Some(restart).filter(|policy| !policy.is_empty() && policy != "no"),
        terminal: facts["Config"]["Tty"] == true,
    })
}

fn ports(published: &Value) -> Vec<SocketAddr> {
    let published = published.as_object().into_iter().flatten().filter(|(port, _)| port.ends_with("/tcp"));
    let bindings = published.flat_map(|(_, bindings)| bindings.as_array().into_iter().flatten());
    let mut found: Vec<SocketAddr> = bindings.filter_map(address).collect();
    found.sort();
    found.dedup();
    found
}

/// What listens everywhere is reached by loopback.
fn address(binding: &Value) -> Option<SocketAddr> {
    let port = binding["HostPort"].as_str()?.parse().ok()?;
    let address: Option<IpAddr> = binding["HostIp"].as_str().and_then(|text| text.parse().ok());
    let address = address.filter(|address| !address.is_unspecified());
    Some(SocketAddr::new(address.unwrap_or(Ipv4Addr::LOCALHOST.into()), port))
}

fn binds(mounts: &Value) -> Vec<PathBuf> {
    let mounts = mounts.as_array().into_iter().flatten().filter(|mount| mount["Type"] == "bind");
    mounts.filter_map(|mount| mount["Source"].as_str().map(PathBuf::from)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_engines_say_is_read() {
        let facts = json!({
            "Name": "/cache",
            "Config": { "Image": "redis:7", "Tty": true },
            "HostConfig": { "RestartPolicy": { "Name": "always" } },
            "Mounts": [
                { "Type": "bind", "Source": "/srv/cache" },
                { "Type": "volume", "Source": "/var/lib/docker/volumes/x" },
            ],
            "NetworkSettings": { "Ports": {
                "6379/tcp": [
                    { "HostIp": "0.0.0.0", "HostPort": "6379" },
                    { "HostIp": "::", "HostPort": "6379" },
                    { "HostIp": "10.0.0.7", "HostPort": "7000" },
                ],
                "53/udp": [{ "HostIp": "", "HostPort": "53" }],
                "80/tcp": null,
            } },
        });
        let expected = Container {
            engine: "docker",
            name: "cache".to_owned(),
            image: "redis:7".to_owned(),
            ports: vec!["10.0.0.7:7000".parse().expect("one"), "127.0.0.1:6379".parse().expect("one")],
            binds: vec!["/srv/cache".into()],
            restart: Some("always".to_owned()),
            terminal: true,
        };
        assert_eq!(container("docker", &facts), Some(expected));
    }

    #[test]
    fn little_is_enough_and_infrastructure_is_nothing() {
        let found = container("podman", &json!({ "Name": "a" })).expect("a name is enough");
        assert!(found.ports.is_empty() && found.binds.is_empty() && found.restart.is_none());
        assert_eq!(container("podman", &json!({ "Name": "a", "IsInfra": true })), None);
        assert_eq!(container("podman", &json!({})), None);
    }
}
