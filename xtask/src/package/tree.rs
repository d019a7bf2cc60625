//! The files of both packages, where they lie on a host. What the program can say itself, it is asked for.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::NAME;
use super::program::Program;
use crate::command;

const CONFIG: &str = "/etc/supervisor/ha.toml";
/// Shell, and where it looks for completions.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "usr/share/bash-completion/completions/supervisor"),
    ("zsh", "usr/share/zsh/vendor-completions/_supervisor"),
    ("fish", "usr/share/fish/vendor_completions.d/supervisor.fish"),
];
/// Of the checkout, and where they go. `DOC` is the package's folder of documents.
const FILES: [(&str, &str); 5] = [
    ("packaging/default", "etc/default/supervisor"),
    ("packaging/ha.toml", "DOC/examples/ha.toml"),
    ("README.md", "DOC/README.md"),
    ("CHANGELOG.md", "DOC/CHANGELOG.md"),
    ("docs", "DOC/docs"),
];

/// Puts all of it below `root`.
pub(super) fn make(root: &Path, program: &Program) -> Result<PathBuf> {
    let binary = root.join("usr/bin/supervisor");
    put(
        &binary,
        &fs::read(&program.path).with_context(|| format!("can't read {}", program.path.display()))?,
    )?;
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755))?;
    // A release has none; what a test gives us may have a hundred megabytes.
    command::output(Command::new("strip").arg("--strip-debug").arg(&binary))?;
    let ask = |words: &[&str]| command::output(Command::new(&program.path).args(words));
    let unit = ask(&["install-unit", "--print", "--program", "/usr/bin/supervisor", "--config", CONFIG])?;
    put(&root.join("usr/lib/systemd/system/supervisor.service"), unit.as_bytes())?;
    for (shell, place) in COMPLETIONS {
        put(&root.join(place), ask(&["completions", shell])?.as_bytes())?;
    }
    let pages = root.join("usr/share/man/man1");
    fs::create_dir_all(&pages)?;
    ask(&["man", &pages.to_string_lossy()])?;
    // Without its name and time the same page is the same file.
    command::output(Command::new("sh").args(["-c", "gzip -9n *.1"]).current_dir(&pages))?;
    fs::create_dir_all(root.join("etc/supervisor"))?;
    for (from, to) in FILES {
        copy(from, &root.join(to.replace("DOC", &format!("usr/share/doc/{NAME}"))))?;
    }
    Ok(root.to_owned())
}

/// A file or folder of the checkout.
fn copy(from: &str, to: &Path) -> Result<()> {
    let from = checkout()?.join(from);
    to.parent().map_or(Ok(()), fs::create_dir_all)?;
    command::output(Command::new("cp").args(["--recursive", "--no-target-directory"]).arg(from).arg(to))
        .map(drop)
}

/// Writes a file and the folders above.
pub(super) fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    path.parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::write(path, bytes))
        .with_context(|| format!("can't write {}", path.display()))
}

/// Where the sources are.
pub(super) fn checkout() -> Result<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().map(Path::to_path_buf).context("xtask lies in no workspace")
}
