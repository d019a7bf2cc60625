//! Programs of packages that are unpacked, not installed: each is started through a two-line script that names the
//! libraries beside it. Refuses to touch the loader's configuration.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};

use super::apt;
use crate::cache::Cache;

/// Puts a script for `program`, which lies in the unpacked tree `root`, into `bin/` under the same name.
///
/// `exec`, so that the service is one process and not a shell with a child.
pub(crate) fn install(cache: &Cache, program: &Path, root: &Path) -> Result<()> {
    let name = program.file_name().and_then(|name| name.to_str()).context("a program has a name")?;
    let libraries = apt::library_path(root)?;
    let libraries = libraries.to_string_lossy();
    // An empty entry would mean the current folder.
    let set = if libraries.is_empty() { String::new() } else { format!("LD_LIBRARY_PATH='{libraries}' ") };
    let script = format!("#!/bin/sh\n{set}exec '{}' \"$@\"\n", program.display());
    let work = cache.work("script")?;
    let draft = work.join(name);
    fs::write(&draft, script)
        .and_then(|()| fs::set_permissions(&draft, fs::Permissions::from_mode(0o755)))
        .with_context(|| format!("can't write {}", draft.display()))?;
    cache.install(&draft, name).map(drop)
}
