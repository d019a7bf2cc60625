//! The Debian package, by `dpkg-deb`. Its scripts never stop a service: they restart the supervisor, which takes services back.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::NAME;
use super::program::{Program, architecture};
use super::tree::{checkout, put};
use crate::command;

const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];
/// Files that dpkg asks about before it changes one that somebody edited.
const CONFFILES: &str = "/etc/default/supervisor\n";

/// Adds dpkg's own files to the tree, and packs it.
pub(super) fn make(tree: &Path, program: &Program, into: &Path, revision: u32, quick: bool) -> Result<()> {
    let version = format!("{}-{revision}", env!("CARGO_PKG_VERSION"));
    let architecture = architecture()?;
    let folder = tree.join("DEBIAN");
    put(&tree.join(format!("usr/share/doc/{NAME}/copyright")), COPYRIGHT.as_bytes())?;
    let library = program.library_version()?;
    let control = control(&version, &architecture, library.as_deref(), size_kib(tree)?);
    put(&folder.join("control"), control.as_bytes())?;
    put(&folder.join("conffiles"), CONFFILES.as_bytes())?;
    for script in SCRIPTS {
        let source = checkout()?.join("packaging/deb").join(script);
        let text = fs::read(&source).with_context(|| format!("can't read {}", source.display()))?;
        put(&folder.join(script), &text)?;
        fs::set_permissions(folder.join(script), fs::Permissions::from_mode(0o755))?;
    }
    let file = into.join(format!("{NAME}_{version}_{architecture}.deb"));
    let mut build = Command::new("dpkg-deb");
    if quick {
        build.args(["-Zgzip", "-z1"]);
    }
    build.args(["--root-owner-group", "--build"]).arg(tree).arg(&file);
    command::output(&mut build)?;
    println!("package: {}", file.display());
    Ok(())
}

const COPYRIGHT: &str = "\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: the authors of supervisor
License: Apache-2.0
 On Debian systems the text of the Apache License, version 2.0, is in /usr/share/common-licenses/Apache-2.0.
";

/// CRIU is recommended and not needed: without it services are kept alive by cold starts, and many hosts have a newer one than
/// Debian's. Debian's own `supervisor` has a unit of the same name.
fn control(version: &str, architecture: &str, library: Option<&str>, size_kib: u64) -> String {
    let depends =
        library.map(|library| format!("Depends: libc6 (>= {library}), libgcc-s1\n")).unwrap_or_default();
    format!(
        "Package: {NAME}\n\
         Version: {version}\n\
         Architecture: {architecture}\n\
         Maintainer: the authors of supervisor <supervisor@example.invalid>\n\
         Section: admin\n\
         Priority: optional\n\
         Installed-Size: {size_kib}\n\
         {depends}\
         Recommends: criu\n\
         Suggests: docker.io, podman, runc\n\
         Conflicts: supervisor\n\
         Description: keeps stateful services alive with their state\n \
         Checkpoints services (plain processes and containers of runc, docker and podman)\n \
         with CRIU at a cadence, notices crashes and hangs, and brings services back from\n \
         the newest image that can be trusted.\n"
    )
}

fn size_kib(tree: &Path) -> Result<u64> {
    let said = command::output(Command::new("du").args(["--summarize", "--apparent-size", "-k"]).arg(tree))?;
    said.split_whitespace().next().and_then(|size| size.parse().ok()).context("du gives a size")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dpkg_reads_what_is_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("control");
        for library in [Some("2.36"), None] {
            fs::write(&file, control("0.1.0-1", "amd64", library, 7)).expect("written");
            let mut parse = Command::new("dpkg-deb");
            fs::create_dir_all(folder.path().join("tree/DEBIAN")).expect("made");
            fs::copy(&file, folder.path().join("tree/DEBIAN/control")).expect("copied");
            parse.arg("--build").arg(folder.path().join("tree")).arg(folder.path().join("x.deb"));
            if command::output(Command::new("dpkg-deb").arg("--version")).is_ok() {
                command::output(&mut parse).expect("dpkg-deb takes it");
            } else {
                eprintln!("SKIPPED: no dpkg-deb on this host");
            }
        }
    }
}
