//! Runtimes: which are installed, and whether each can checkpoint under this version of the supervisor.

use std::path::Path;

use super::Fact;
use super::criu::{Found, find_program};
use crate::freeze::Cgroup;
use crate::process::command::Command;
use crate::systemd::Systemd;

/// What `runc` gives us from `CRIU` 3 on.
const CRIU_MAJOR_MIN: u32 = 3;

/// Looks.
pub(super) async fn examine(criu: Option<&Found>) -> Vec<Fact> {
    let process = match criu {
        Some(_) => Fact::ok("process", "plain processes: checkpoint and restore"),
        None => Fact::lack("process", "plain processes: cold starts only, without CRIU", "install CRIU"),
    };
    let runc = version("runc").await;
    vec![
        process,
        self::runc(runc.as_deref(), criu),
        podman(version("podman").await.as_deref(), said("podman", &PODMAN_RUNTIME).await.as_deref()),
        docker(version("docker").await.as_deref(), said("docker", &DOCKER_DAEMON).await.as_deref()),
        crun(version("crun").await.as_deref()),
        systemd(Systemd::new().is_stopping().await.is_ok()),
    ]
}

/// Which OCI runtime podman uses.
const PODMAN_RUNTIME: [&str; 3] = ["info", "--format", "{{.Host.OCIRuntime.Name}}"];
/// Whether docker's daemon restores.
const DOCKER_DAEMON: [&str; 3] = ["info", "--format", "{{.ServerVersion}} {{.ExperimentalBuild}}"];

async fn version(name: &str) -> Option<String> {
    let said = said(name, &["--version"]).await?;
    Some(format!("{} at {}", number_in(&said), find_program(Path::new(name))?.display()))
}

/// The first line of what a program says, if it is there and succeeds.
async fn said(name: &str, arguments: &[&str]) -> Option<String> {
    let answer = answer(name, arguments).await?;
    Some(answer.lines().next()?.trim().to_owned()).filter(|line| !line.is_empty())
}

/// All that a program says, if it is there and succeeds.
pub(super) async fn answer(name: &str, arguments: &[&str]) -> Option<String> {
    let program = find_program(Path::new(name))?.display().to_string();
    let argv = std::iter::once(program).chain(arguments.iter().map(|a| (*a).to_owned()));
    let output = Command::new(argv.collect()).run().await.ok()?;
    output.success().then_some(output.stdout)
}

/// `Docker version 28.2.2, build x` says `28.2.2`; a line without a number is taken as it is.
fn number_in(line: &str) -> &str {
    let words = line.split([' ', ',']);
    words.into_iter().find(|word| word.starts_with(|c: char| c.is_ascii_digit())).unwrap_or(line)
}

fn systemd(answers: bool) -> Fact {
    const TOPIC: &str = "systemd";
    if !answers {
        return Fact::note(TOPIC, "it does not answer over D-Bus: no services that are units");
    }
    match Cgroup::of_unit("/") {
        Ok(_) => Fact::ok(TOPIC, "units: checkpoint and restore"),
        Err(error) => Fact::note(TOPIC, format!("no services that are units: {error}")),
    }
}

fn runc(version: Option<&str>, criu: Option<&Found>) -> Fact {
    const TOPIC: &str = "runc";
    let Some(version) = version else {
        return Fact::note(TOPIC, "not found: no services of this runtime")
            .remedy("install runc (Debian: apt-get install runc)");
    };
    let Some(criu) = criu else {
        return Fact::lack(TOPIC, format!("{version}: cold starts only, without CRIU"), "install CRIU");
    };
    let major = criu.version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_some_and(|major| major < CRIU_MAJOR_MIN) {
        let text = format!("{version}: does not work with CRIU {}", criu.version);
        return Fact::lack(TOPIC, text, "install CRIU 4.1 or newer");
    }
    // runc looks for that name in the PATH that we give it.
    if criu.program.file_name().is_none_or(|name| name != "criu") {
        let text = format!("{version}: cannot restore, it looks for a program called criu");
        return Fact::lack(TOPIC, text, format!("give {} the name criu", criu.program.display()));
    }
    Fact::ok(TOPIC, format!("{version}: checkpoint and restore"))
}

fn podman(version: Option<&str>, oci_runtime: Option<&str>) -> Fact {
    const TOPIC: &str = "podman";
    let Some(version) = version else {
        return Fact::note(TOPIC, "not found: no services of this runtime")
            .remedy("install podman (Debian: apt-get install podman runc)");
    };
    match oci_runtime {
        Some("runc") => Fact::ok(TOPIC, format!("{version}, with runc: checkpoint and restore")),
        Some(other) => Fact::note(
            TOPIC,
            format!("{version}, with {other}: only containers run by runc are checkpointed"),
        )
        .remedy("set runtime = \"runc\" in containers.conf, or give podman the option --runtime runc"),
        None => Fact::note(TOPIC, format!("{version}: `podman info` fails"))
            .remedy("run `podman info` to see why"),
    }
}

/// `daemon`: its version, and whether it is experimental.
fn docker(version: Option<&str>, daemon: Option<&str>) -> Fact {
    const TOPIC: &str = "docker";
    let Some(version) = version else {
        return Fact::note(TOPIC, "not found: no services of this runtime").remedy("install docker");
    };
    let Some((server, experimental)) = daemon.and_then(|said| said.split_once(' ')) else {
        return Fact::note(TOPIC, format!("{version}: its daemon does not answer"))
            .remedy("start docker's daemon; DOCKER_HOST names another than /var/run/docker.sock");
    };
    if experimental != "true" {
        return Fact::note(
            TOPIC,
            format!("{version}, daemon {server}: checkpoint, but no restore: it is not experimental"),
        )
        .remedy("set {\"experimental\": true} in /etc/docker/daemon.json and restart docker");
    }
    Fact::ok(TOPIC, format!("{version}, daemon {server}: checkpoint and restore"))
}

fn crun(version: Option<&str>) -> Fact {
    let version = version.unwrap_or("not found");
    Fact::note(
        "crun",
        format!("{version}; its containers cannot be checkpointed by this version of supervisor"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Standing::{Lack, Note, Ok};

    #[test]
    fn runc_needs_a_criu_of_that_name() {
        let criu =
            |program: &str, version: &str| Found { program: program.into(), version: version.to_owned() };
        let table = [
            (None, Some(criu("/bin/criu", "4.2.1")), Note),
            (Some("1.1.5"), None, Lack),
            (Some("1.1.5"), Some(criu("/bin/criu", "2.12")), Lack),
            (Some("1.1.5"), Some(criu("/bin/criu-4.2", "4.2.1")), Lack),
            (Some("1.1.5"), Some(criu("/bin/criu", "4.2.1")), Ok),
        ];
        for (version, criu, standing) in table {
            assert_eq!(runc(version, criu.as_ref()).standing, standing, "{version:?} with {criu:?}");
        }
    }

    #[test]
    fn versions_are_found_in_what_programs_say() {
        let said =
            ["runc version 1.1.5+ds1", "Docker version 28.2.2, build e6534b4", "podman version 4.3.1", "odd"];
        assert_eq!(said.map(number_in), ["1.1.5+ds1", "28.2.2", "4.3.1", "odd"]);
    }

    #[test]
    fn engines_must_be_able_to_restore() {
        let facts = [
            (podman(None, None), Note),
            (podman(Some("4.3"), Some("runc")), Ok),
            (podman(Some("4.3"), Some("crun")), Note),
            (podman(Some("4.3"), None), Note),
            (docker(None, None), Note),
            (docker(Some("20.10"), Some("20.10 true")), Ok),
            (docker(Some("20.10"), Some("20.10 false")), Note),
            (docker(Some("28.2"), None), Note),
        ];
        for (fact, standing) in facts {
            let mended = fact.standing == Ok || fact.remedy.is_some();
            assert!(fact.standing == standing && mended, "{fact:?}");
        }
    }
}
