//! Chromium and its driver, for the test of the status page.
//!
//! A browser has no business on a host that only runs tests, so it is unpacked into the cache folder with the libraries that are missing
//! here and one font, not installed, and started through two-line scripts.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::{apt, launcher};
use crate::cache::Cache;
use crate::command;

const PACKAGES: [&str; 3] = ["chromium", "chromium-driver", "fonts-dejavu-core"];
const PROGRAMS: [&str; 2] = ["usr/lib/chromium/chromium", "usr/bin/chromedriver"];
/// A library that its users look for in a folder of its own.
const APART: &str = "pulseaudio";

/// Unpacks them unless they are there and start.
pub(crate) fn bring(cache: &Cache) -> Result<()> {
    let ours = PROGRAMS
        .map(|program| cache.bin().join(Path::new(program).file_name().expect("a program has a name")));
    if ours.iter().all(|program| version(program).is_ok()) {
        println!("setup: chromium: {}", ours[0].display());
        return Ok(());
    }
    println!("setup: chromium: unpacking Debian's packages into the cache folder (not installing them)");
    let work = cache.work("chromium")?;
    let root = apt::unpack(&PACKAGES, &work)?;
    link_apart(&root)?;
    let root = cache.keep(&root, "chromium")?;
    for program in PROGRAMS {
        launcher::install(cache, &root.join(program), &root)?;
    }
    for program in &ours {
        println!("setup: {}", version(program).context("what was unpacked")?.trim());
    }
    Ok(())
}

/// Links what lies in that folder into the one that the loader is told of.
fn link_apart(root: &Path) -> Result<()> {
    let libraries = apt::library_path(root)?;
    for folder in std::env::split_paths(&libraries) {
        let Ok(entries) = fs::read_dir(folder.join(APART)) else { continue };
        for entry in entries {
            let name = entry.with_context(|| format!("can't read {}", folder.display()))?.file_name();
            symlink(Path::new(APART).join(&name), folder.join(&name))
                .with_context(|| format!("can't link {}", name.to_string_lossy()))?;
        }
    }
    Ok(())
}

fn version(program: &Path) -> Result<String> {
    command::output(Command::new(program).arg("--version"))
}
