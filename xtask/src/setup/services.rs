//! A root file system with real services for the matrix of `docs/compatibility.md`: redis, nginx, python, node.
//!
//! It is whole: Debian's packages with everything that they load, the C library included, unpacked into the cache folder and
//! trimmed of what no service reads. Containers have it as their root; plain processes are started from it by its own loader.
//! Refuses to run the packages' scripts, so there are no users and no settings in it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::apt;
use crate::cache::Cache;
use crate::command;

/// With what each depends on.
const PACKAGES: [&str; 5] = ["redis-server", "nginx", "python3-minimal", "libpython3-stdlib", "nodejs"];
/// What must be there in the end, as a part of its path.
const PROGRAMS: [&str; 4] = ["usr/bin/redis-server", "usr/sbin/nginx", "usr/bin/python3", "usr/bin/node"];
/// Folders of the root that are links into `usr` on every host of today; packages still bring some as folders.
const MERGED: [&str; 4] = ["bin", "sbin", "lib", "lib64"];
/// Half of it: what people read, and perl.
const TRIMMED: [&str; 9] = [
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/i18n",
    "usr/share/perl",
    "usr/share/perl5",
    "usr/share/nodejs/@types",
    "usr/lib/*/perl",
    "usr/lib/*/perl-base",
];

/// Unpacks it unless it is there.
pub(crate) fn bring(cache: &Cache) -> Result<()> {
    let place = cache.unpacked("services");
    if is_whole(&place) {
        println!("setup: services for the matrix: {}", place.display());
        return Ok(());
    }
    println!(
        "setup: services for the matrix: unpacking Debian's packages into the cache folder (not installing them)"
    );
    let work = cache.work("services")?;
    let root = apt::unpack_whole(&PACKAGES, &work)?;
    for name in MERGED {
        merge(&root, name)?;
    }
    for pattern in TRIMMED {
        // A pattern for the shell; nothing of it may be there.
        command::output(Command::new("sh").args(["-c", &format!("rm -rf -- {pattern}")]).current_dir(&root))?;
    }
    if !is_whole(&root) {
        bail!("not everything is in the unpacked packages: {}", PROGRAMS.join(", "));
    }
    let root = cache.keep(&root, "services")?;
    println!("setup: services for the matrix: {}", root.display());
    Ok(())
}

fn is_whole(root: &Path) -> bool {
    PROGRAMS.iter().all(|program| root.join(program).exists())
}

/// Moves what is in `root/NAME` to `root/usr/NAME`, and puts a link in its place.
fn merge(root: &Path, name: &str) -> Result<()> {
    let (from, to) = (root.join(name), root.join("usr").join(name));
    let failed = || format!("can't merge {} into usr", from.display());
    fs::create_dir_all(&to).with_context(failed)?;
    if from.is_dir() && !from.is_symlink() {
        command::output(Command::new("cp").args(["--archive", "--"]).arg(from.join(".")).arg(&to))?;
        fs::remove_dir_all(&from).with_context(failed)?;
    }
    if !from.is_symlink() {
        symlink(Path::new("usr").join(name), &from).with_context(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_merged_into_usr_and_found_by_their_old_names() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let file = |path: &str| root.path().join(path);
        fs::create_dir_all(file("lib/deep")).expect("made");
        fs::create_dir_all(file("usr/lib/deep")).expect("made");
        fs::write(file("lib/deep/old"), "old").expect("written");
        fs::write(file("usr/lib/deep/new"), "new").expect("written");
        for _ in 0..2 {
            merge(root.path(), "lib").expect("merged, however often");
        }
        assert!(file("lib").is_symlink());
        assert_eq!(fs::read_to_string(file("lib/deep/old")).expect("there"), "old");
        assert_eq!(fs::read_to_string(file("lib/deep/new")).expect("there"), "new");
    }
}
