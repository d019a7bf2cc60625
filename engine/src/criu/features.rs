//! CRIU's cache of what the kernel can do, kept where CRIU itself cannot keep it.
//!
//! CRIU writes `/run/criu.kdat` only if `/run` is a tmpfs, and else probes the kernel anew at every dump and
//! restore (50 to 60 ms, much of it in the way of a recovery). It reads the file wherever it lies. So where `/run` is
//! no tmpfs we let CRIU make the file once per boot, in a mount namespace with a tmpfs there, and shims show
//! it to their CRIU.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::statfs::{TMPFS_MAGIC, statfs};

use crate::process::command::Command;

/// The cache's file, if one is needed and could be made. Without it CRIU is slower, not wrong.
pub(super) async fn cache(criu: &Path, run_dir: &Path) -> Option<PathBuf> {
    if statfs("/run").is_ok_and(|fs| fs.filesystem_type() == TMPFS_MAGIC) {
        return None;
    }
    let file = run_dir.join(format!("criu-{}.kdat", key(criu)?));
    if file.exists() {
        return Some(file);
    }
    // The file is opened before /run is covered: our own folder may lie below it.
    let script = "exec 3>\"$1.part\" && chmod 0600 \"$1.part\" && mount -t tmpfs -o size=1m none /run && \
                  \"$2\" check >/dev/null 2>&1; cat /run/criu.kdat >&3 && umount /run && mv \"$1.part\" \"$1\"";
    let argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"];
    let mut argv: Vec<String> = argv.iter().map(|a| (*a).to_owned()).collect();
    argv.extend([file.display().to_string(), criu.display().to_string()]);
    let output = Command::new(argv).timeout(Duration::from_secs(30)).run().await;
    match output {
        Ok(output) if output.success() => Some(file),
        Ok(output) => {
            tracing::warn!(
                stderr = output.stderr,
                "CRIU's feature cache could not be made; CRIU will be slower"
            );
            None
        }
        Err(error) => {
            tracing::warn!(%error, "CRIU's feature cache could not be made; CRIU will be slower");
            None
        }
    }
}

/// A cache is true for one CRIU on one boot.
fn key(criu: &Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let found = std::fs::metadata(criu).ok()?;
    let facts = format!("{boot}{}{}{}{}", criu.display(), found.len(), found.mtime(), found.ino());
    Some(blake3::hash(facts.as_bytes()).to_hex()[..16].to_owned())
}
