//! What set-up asks about this host. Refuses to change anything.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Folders that hold system programs, but are often absent from a user's `PATH`.
const SYSTEM_FOLDERS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

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

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|facts| facts.is_file() && facts.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_and_a_plain_file_is_not_one() {
        let shell = find_program("sh").expect("every host has a shell");
        assert!(is_executable(&shell));
        assert!(!is_executable(Path::new("/etc/passwd")));
        assert_eq!(find_program("no-such-program-anywhere"), None);
    }
}
