//! CRIU: is it there, which is it, does it get along with this kernel?
//!
//! It refuses to make CRIU's feature cache: that is for the supervisor that will use it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Fact;
use crate::criu::log::last_lines;
use crate::process::command::Command;

const CHECK_MAX: Duration = Duration::from_secs(30);
const INSTALL: &str =
    "install CRIU 4.1 or newer (Debian: apt-get install criu), or name one in SUPERVISOR_CRIU";

/// The CRIU that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) program: PathBuf,
    pub(super) version: String,
}

pub(super) async fn examine(program: &Path) -> (Option<Found>, Vec<Fact>) {
    let Some(program) = find_program(program) else {
        let text = format!("not found: {}", program.display());
        return (None, vec![Fact::lack("criu", text, INSTALL)]);
    };
    let shown = program.display().to_string();
    let output = Command::new(vec![shown.clone(), "--version".to_owned()]).run().await;
    let output = match output {
        Ok(output) => output,
        Err(error) => return (None, vec![Fact::lack("criu", error.to_string(), INSTALL)]),
    };
    let Some(version) = version_in(&output.stdout) else {
        return (None, vec![Fact::lack("criu", format!("{shown} does not say its version"), INSTALL)]);
    };
    let check = check(&shown, &version).await;
    let fact = Fact::ok("criu", format!("{version} at {shown}"));
    (Some(Found { program, version }), vec![fact, check])
}

async fn check(program: &str, version: &str) -> Fact {
    let output = Command::new(vec![program.to_owned(), "check".to_owned()]).timeout(CHECK_MAX).run().await;
    match output {
        Ok(output) if output.success() => Fact::ok("criu check", "this kernel has what CRIU needs"),
        Ok(output) => {
            let lines: Vec<String> = last_lines(&output.stderr, 4).into_iter().collect();
            let text = format!("CRIU {version} fails on this kernel:\n{}", lines.join("\n"));
            let remedy =
                "run as root, with a CRIU that knows this kernel (4.1 or newer for Linux 6.12 and later)";
            Fact::lack("criu check", text, remedy)
        }
        Err(error) => {
            Fact::lack("criu check", error.to_string(), "look for what holds CRIU up, then try again")
        }
    }
}

/// A program by its path, or by its name in `PATH`.
pub(super) fn find_program(program: &Path) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let executable = |path: &PathBuf| {
        std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    if program.components().count() > 1 {
        return Some(program.to_owned()).filter(executable);
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(executable)
}

fn version_in(text: &str) -> Option<String> {
    text.lines().find_map(|line| line.strip_prefix("Version:")).map(|version| version.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_by_name_and_by_path() {
        let shell = find_program(Path::new("sh")).expect("every host has one");
        assert!(shell.is_absolute());
        assert_eq!(find_program(&shell), Some(shell));
        assert_eq!(find_program(Path::new("/etc/passwd")), None, "it cannot be executed");
        assert_eq!(find_program(Path::new("no-such-program")), None);
    }

    #[tokio::test]
    async fn a_missing_or_strange_criu_is_a_lack() {
        for program in ["/nonexistent/criu", "/bin/true"] {
            let (found, facts) = examine(Path::new(program)).await;
            assert_eq!((found, facts.len()), (None, 1));
            assert!(facts[0].remedy.as_deref().is_some_and(|remedy| remedy.contains("SUPERVISOR_CRIU")));
        }
    }

    #[test]
    fn its_version_stands_in_its_own_line() {
        assert_eq!(version_in("Version: 4.2.1\nGitID: v4.2\n"), Some("4.2.1".to_owned()));
        assert_eq!(version_in("hello"), None);
    }
}
