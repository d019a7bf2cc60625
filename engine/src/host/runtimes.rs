//! Runtimes: which are installed, and whether each can checkpoint under this version of the supervisor.

use std::path::Path;

use super::Fact;
use super::criu::{Found, find_program};
use crate::process::command::Command;

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
        podman(version("podman").await.as_deref(), runc.is_some()),
        docker(version("docker").await.as_deref()),
        crun(version("crun").await.as_deref()),
    ]
}

/// The first line of what it says to `--version`.
async fn version(name: &str) -> Option<String> {
    let program = find_program(Path::new(name))?;
    let output = Command::new(vec![program.display().to_string(), "--version".to_owned()]).run().await;
    let said = output.ok().filter(crate::process::command::Output::success)?.stdout;
    let line = said.lines().next().unwrap_or_default();
    Some(format!("{} at {}", number_in(line), program.display()))
}

/// `Docker version 28.2.2, build x` says `28.2.2`; a line without a number is taken as it is.
fn number_in(line: &str) -> &str {
    let words = line.split([' ', ',']);
    words.into_iter().find(|word| word.starts_with(|c: char| c.is_ascii_digit())).unwrap_or(line)
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

const NOT_YET: &str = "not supported by this version of supervisor";

fn podman(version: Option<&str>, runc: bool) -> Fact {
    let Some(version) = version else { return Fact::note("podman", format!("not found; {NOT_YET}")) };
    let able = if runc {
        "could checkpoint with --runtime runc"
    } else {
        "can checkpoint with runc, which is not here"
    };
    Fact::note("podman", format!("{version}: {able}; {NOT_YET}"))
        .remedy("run the container's bundle with the runc runtime")
}

fn docker(version: Option<&str>) -> Fact {
    let Some(version) = version else { return Fact::note("docker", format!("not found; {NOT_YET}")) };
    Fact::note("docker", format!("{version}: can checkpoint if its daemon is experimental; {NOT_YET}"))
        .remedy("run the container's bundle with the runc runtime")
}

fn crun(version: Option<&str>) -> Fact {
    let version = version.unwrap_or("not found");
    Fact::note("crun", format!("{version}; {NOT_YET}"))
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
    fn what_is_not_supported_is_said() {
        for fact in [podman(Some("4.3"), true), podman(None, false), docker(Some("20.10")), crun(None)] {
            assert!(fact.text.contains(NOT_YET) && fact.standing == Note, "{fact:?}");
        }
    }
}
