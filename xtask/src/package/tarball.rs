//! The tarball: the same files for hosts without dpkg, to be unpacked at `/`.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::program::Program;
use crate::command;

/// Packs the tree. Who packs leaves no trace in it.
pub(super) fn make(tree: &Path, program: &Program, into: &Path) -> Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    let name = format!("supervisor-{version}-{}-linux-{}.tar.gz", std::env::consts::ARCH, program.library);
    let file = into.join(name);
    let mut tar = Command::new("tar");
    tar.args(["--create", "--gzip", "--sort=name", "--owner=0", "--group=0", "--numeric-owner"]);
    tar.arg("--file").arg(&file).arg("--directory").arg(tree).args(["etc", "usr"]);
    command::output(&mut tar)?;
    println!("package: {}", file.display());
    Ok(())
}
