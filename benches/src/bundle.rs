//! An OCI bundle of the workload, as `runc spec` makes it: only what the measurement needs is changed.
//!
//! Refuses special treatment: bare runc and we get the same one.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// The workload's place in the container.
pub(crate) const PROGRAM: &str = "/memhog";

/// Copies a program and the libraries that it needs into a root folder.
pub(crate) fn make_root(program: &Path, root: &Path) -> Result<()> {
    copy(program, &inside(root, Path::new(PROGRAM)))?;
    for library in libraries(program)? {
        copy(&library, &inside(root, &library))?;
    }
    for folder in ["proc", "sys", "dev"] {
        std::fs::create_dir_all(root.join(folder)).with_context(|| format!("make {folder} in the root"))?;
    }
    Ok(())
}

/// Writes a bundle that runs the workload with these arguments in the host's network.
pub(crate) fn make(runc: &Path, folder: &Path, root: &Path, arguments: &[String]) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    let made =
        Command::new(runc).args(["spec", "--bundle"]).arg(folder).output().context("run `runc spec`")?;
    if !made.status.success() {
        bail!("`runc spec` failed: {}", String::from_utf8_lossy(&made.stderr).trim_end());
    }
    let path = folder.join("config.json");
    let text = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    let spec = serde_json::from_slice(&text).with_context(|| format!("{} is not JSON", path.display()))?;
    let edited = serde_json::to_vec_pretty(&edit(spec, root, arguments)).context("write a bundle")?;
    std::fs::write(&path, edited).with_context(|| format!("write {}", path.display()))
}

fn edit(mut spec: Value, root: &Path, arguments: &[String]) -> Value {
    let program = std::iter::once(PROGRAM).chain(arguments.iter().map(String::as_str));
    spec["process"]["args"] = program.collect::<Value>();
    spec["process"]["terminal"] = json!(false);
    // criu cannot restore a container without a writable folder in its root.
    spec["root"] = json!({ "path": root, "readonly": false });
    // Its port is to be reached as that of a plain process is.
    if let Some(namespaces) = spec["linux"]["namespaces"].as_array_mut() {
        namespaces.retain(|namespace| namespace["type"] != "network");
    }
    spec
}

/// What the dynamic linker would load, itself included.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let listed = Command::new("ldd").arg(program).output().context("run ldd")?;
    if !listed.status.success() {
        bail!("`ldd {}` failed: {}", program.display(), String::from_utf8_lossy(&listed.stderr).trim_end());
    }
    Ok(paths(&String::from_utf8_lossy(&listed.stdout)))
}

/// `name => /path (0x1)` and `/path (0x1)`; others (`linux-vdso`) are no files.
fn paths(listed: &str) -> Vec<PathBuf> {
    let path = |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(PathBuf::from);
    listed.lines().filter_map(path).collect()
}

fn inside(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let folder = to.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    std::fs::copy(from, to).map(drop).with_context(|| format!("copy {} into the root", from.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_found_in_what_ldd_prints() {
        let listed = "\tlinux-vdso.so.1 (0x0007)\n\tlibc.so.6 => /lib/x/libc.so.6 (0x0007)\n\t/lib64/ld.so.2 (0x0008)\n";
        assert_eq!(paths(listed), [PathBuf::from("/lib/x/libc.so.6"), PathBuf::from("/lib64/ld.so.2")]);
    }

    #[test]
    fn a_bundle_differs_from_the_usual_one_in_little() {
        let usual = json!({
            "process": { "args": ["sh"], "terminal": true, "cwd": "/" },
            "root": { "path": "rootfs" },
            "linux": { "namespaces": [{ "type": "pid" }, { "type": "network" }] },
        });
        let edited = edit(usual, Path::new("/root"), &["--ticker".to_owned()]);
        assert_eq!(
            edited,
            json!({
                "process": { "args": ["/memhog", "--ticker"], "terminal": false, "cwd": "/" },
                "root": { "path": "/root", "readonly": false },
                "linux": { "namespaces": [{ "type": "pid" }] },
            })
        );
    }
}
