//! `init`: a configuration to begin with, of the containers that run on this host.
//!
//! It says in comments what a person has to decide, refuses to write over any file, and starts nothing.

use std::collections::BTreeSet;
use std::path::Path;

use engine::durable::{self, NewFile};
use engine::host::containers::{self, Container};
use policies::id::{SERVICE_NAME_LEN_MAX, ServiceName};
use serde_json::json;

use super::failure::Failure;
use super::screen::Screen;
use super::words;

/// Where it is written if nothing else is said.
const FILE: &str = "/etc/supervisor/ha.toml";

const HEAD: &str = "\
# What supervisor keeps alive. `supervisor init` began this file; it is yours now.
# What is left out has a default. `supervisor check --config FILE` finds mistakes and says what would be done.
";

const NOTHING: &str = r#"
# No containers of docker or podman run here. A plain process would be:
#
# [service.web]
# process = { command = ["/usr/local/bin/web", "--listen", "127.0.0.1:8080"] }
#
# [service.web.checkpoint]
# interval = "30s"
# volumes = ["/srv/web"]                # files that belong to the same instant as its memory
#
# [service.web.probe.health]            # without a probe only its end is noticed, not a hang
# http = { url = "http://127.0.0.1:8080/health" }
"#;

/// Looks for containers and writes the file.
pub(crate) async fn init(screen: &Screen, file: Option<&Path>) -> Result<(), Failure> {
    let file = file.unwrap_or(Path::new(FILE));
    if file.symlink_metadata().is_ok() {
        let text =
            format!("{} is there already, and is left as it is; --config names another", file.display());
        return Err(Failure::Denied(text));
    }
    let found = containers::running().await;
    let socket =
        std::env::var("DOCKER_HOST").ok().and_then(|host| Some(host.strip_prefix("unix://")?.to_owned()));
    write(file, &text(&found, socket.as_deref())).map_err(|e| Failure::Failed(e.to_string()))?;
    if screen.is_json() {
        let names: Vec<_> = found.iter().map(|container| &container.name).collect();
        return screen.json(&json!({ "file": file, "containers": names }));
    }
    let shown = file.display();
    screen.line(&format!("{shown}: {}", words::count(found.len(), "container")))?;
    screen.line(&format!(
        "next: look through it; supervisor check --config {shown}; supervisor doctor; \
         supervisor install-unit --config {shown}"
    ))
}

/// Under its name only when it is whole; never in the place of another.
fn write(file: &Path, text: &str) -> engine::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    durable::create_dir_all(folder)?;
    let mut new = NewFile::create(file)?;
    let written = new.write(text.as_bytes()).and_then(|()| new.finish());
    match written {
        Ok(()) => durable::sync_dir(folder),
        Err(error) => {
            // It is ours: we created it.
            durable::remove_file(file)?;
            Err(error)
        }
    }
}

/// `socket`: docker's, if it is not at its usual place.
fn text(containers: &[Container], socket: Option<&str>) -> String {
    let mut text = HEAD.to_owned();
    if containers.is_empty() {
        text.push_str(NOTHING);
    }
    let mut taken = BTreeSet::new();
    for container in containers {
        let name = name(&container.name, &taken);
        text.push_str(&service(&name, container, socket));
        taken.insert(name);
    }
    text
}

fn service(name: &str, container: &Container, socket: Option<&str>) -> String {
    let Container { engine, name: own, image, .. } = container;
    let socket = socket.filter(|_| *engine == "docker");
    let socket = socket.map(|path| format!(", socket = {}", quoted(path))).unwrap_or_default();
    let mut text = format!(
        "\n# {}, taken over as it runs\n[service.{name}]\n{engine} = {{ container = {}{socket} }}\n",
        plain(image),
        quoted(own)
    );
    if let Some(policy) = &container.restart {
        text.push_str(&format!(
            "# Its own restart policy is {}: two that restart one container get into each other's way. Before the start:\n\
             #     {engine} update --restart=no {own}\n",
            plain(policy)
        ));
    }
    if container.terminal {
        text.push_str("# It has a terminal, which CRIU cannot dump: without checkpoints, unless it is made anew without --tty.\n");
    }
    text.push_str(&format!("\n[service.{name}.checkpoint]\ninterval = \"30s\"\n"));
    if !container.binds.is_empty() {
        let binds: Vec<_> = container.binds.iter().map(|path| quoted(&path.to_string_lossy())).collect();
        text.push_str(&format!(
            "# Of its mounts these go back to the image's instant only if they are named:\n# volumes = [{}]\n",
            binds.join(", ")
        ));
    }
    text.push_str(&probes(name, container));
    text
}

fn probes(name: &str, container: &Container) -> String {
    match container.ports.first() {
        Some(port) => format!(
            "\n# A port that is open says little: http, grpc, exec and heartbeat probes say more.\n\
             [service.{name}.probe.port]\ntcp = {{ address = \"{port}\" }}\n"
        ),
        None => format!(
            "\n# It publishes no port, so only its end is noticed, not a hang. A probe could be:\n\
             # [service.{name}.probe.health]\n\
             # exec = {{ command = [\"{}\", \"exec\", {}, \"true\"] }}\n",
            container.engine,
            quoted(&container.name)
        ),
    }
}

/// A name of ours that is near the container's, and not taken.
fn name(container: &str, taken: &BTreeSet<String>) -> String {
    let right =
        |c: char| if c.is_ascii_alphanumeric() || "_.-".contains(c) { c.to_ascii_lowercase() } else { '-' };
    let near: String = container.chars().map(right).take(SERVICE_NAME_LEN_MAX - 4).collect();
    let near = near.trim_start_matches(['_', '.', '-']);
    let near = if ServiceName::try_from(near).is_ok() { near } else { "service" };
    let others = (2..).map(|number| format!("{near}-{number}"));
    let mut candidates = std::iter::once(near.to_owned()).chain(others);
    candidates.find(|name| !taken.contains(name)).unwrap_or_default()
}

/// As TOML writes it; quotes and backslashes are JSON's. `${` would be taken for a variable.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text.replace("${", "$${")).to_string()
}

/// Fit for a comment.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use config::{Config, Runtime};

    use super::*;

    fn container(engine: &'static str, name: &str) -> Container {
        Container {
            engine,
            name: name.to_owned(),
            image: "redis:7\n[store]".to_owned(),
            ports: Vec::new(),
            binds: Vec::new(),
            restart: None,
            terminal: false,
        }
    }

    #[test]
    fn what_is_written_has_no_mistakes() {
        let containers = [
            Container {
                ports: vec!["127.0.0.1:6379".parse().expect("one")],
                ..container("docker", "Cache_1")
            },
            Container {
                binds: vec!["/srv/a \"b\"".into(), "/srv/${x}".into()],
                restart: Some("always".to_owned()),
                terminal: true,
                ..container("podman", "cache_1")
            },
        ];
        let text = text(&containers, Some("/run/my docker.sock"));
        let config = Config::parse(&text, "ha.toml", &|_| None).unwrap_or_else(|e| panic!("{e}\n{text}"));
        assert!(config.warnings().is_empty(), "{:?}", config.warnings());
        let services: Vec<_> =
            config.services.iter().map(|(name, service)| (name.as_str(), service)).collect();
        let [("cache_1", docker), ("cache_1-2", podman)] = services[..] else { panic!("{text}") };
        let Runtime::Docker(spec) = &docker.runtime else { panic!("{text}") };
        assert_eq!(
            (spec.container.as_str(), spec.socket.as_path()),
            ("Cache_1", Path::new("/run/my docker.sock"))
        );
        assert!(docker.probes.len() == 1 && podman.probes.is_empty(), "{text}");
        assert!(
            text.contains("podman update --restart=no cache_1") && text.contains("has a terminal"),
            "{text}"
        );
        // What a person is to decide is right as well, once it is no comment any more.
        let decided =
            text.replace("# volumes", "volumes").replace("# [service", "[service").replace("# exec", "exec");
        let config =
            Config::parse(&decided, "ha.toml", &|_| None).unwrap_or_else(|e| panic!("{e}\n{decided}"));
        let podman = &config.services[&ServiceName::try_from("cache_1-2").expect("a name")];
        assert_eq!(podman.checkpoint.volumes, [Path::new("/srv/a \"b\""), Path::new("/srv/${x}")]);
        assert_eq!(podman.probes.len(), 1);
    }

    #[test]
    fn without_containers_there_is_an_example_that_is_right_when_uncommented() {
        let text = text(&[], None);
        assert!(Config::parse(&text, "ha.toml", &|_| None).expect("no mistakes").services.is_empty());
        let example: String = NOTHING
            .lines()
            .filter_map(|line| line.strip_prefix("# "))
            .filter(|line| !line.starts_with("No containers"))
            .map(|line| format!("{line}\n"))
            .collect();
        let config =
            Config::parse(&example, "ha.toml", &|_| None).unwrap_or_else(|e| panic!("{e}\n{example}"));
        assert_eq!(config.services.len(), 1);
    }

    #[test]
    fn names_are_made_fit_and_differ() {
        let taken = BTreeSet::from(["a".to_owned(), "a-2".to_owned()]);
        assert_eq!(name("A", &taken), "a-3");
        assert_eq!(name("Über", &taken), "ber");
        assert_eq!(name("--", &taken), "service");
        assert!(ServiceName::try_from(name(&"x".repeat(200), &taken).as_str()).is_ok());
    }

    #[tokio::test]
    async fn a_file_is_never_written_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("deep/ha.toml");
        write(&file, "one").expect("room");
        assert!(write(&file, "two").is_err());
        let refused = init(&Screen::plain(), Some(&file)).await.expect_err("it is there");
        assert_eq!(
            (refused.exit_code(), std::fs::read_to_string(&file).expect("there")),
            (4, "one".to_owned())
        );
    }
}
