//! What set-up asks about this host. Refuses to change anything.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Folders that hold system programs, but are often absent from a user's `PATH`.
pub(crate) const SYSTEM_FOLDERS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Whether we may install packages and dump processes.
pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// The program as a shell would find it, system folders included.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(SYSTEM_FOLDERS.iter().map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|program| is_executable(program))
}

/// The first "major.minor" of a line such as `podman version 4.3.1`.
pub(crate) fn first_version(line: &str) -> Option<(u32, u32)> {
    line.split(|c: char| !c.is_ascii_digit() && c != '.').find_map(|word| {
        let mut numbers = word.split('.').map(str::parse::<u32>);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    })
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|facts| facts.is_file() && facts.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_found_in_what_programs_say() {
        assert_eq!(first_version("Docker version 20.10.24+dfsg1, build 5d6db84"), Some((20, 10)));
        assert_eq!(first_version("podman version 4.3.1"), Some((4, 3)));
        assert_eq!(first_version("no version 7"), None);
    }

    #[test]
    fn a_program_is_found_and_a_plain_file_is_not_one() {
        let shell = find_program("sh").expect("every host has a shell");
        assert!(is_executable(&shell));
        assert!(!is_executable(Path::new("/etc/passwd")));
        assert_eq!(find_program("no-such-program-anywhere"), None);
    }
}
