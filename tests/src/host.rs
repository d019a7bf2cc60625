//! What this host can do, and where the programs under test are.
//!
//! Without root, CRIU or runc a test cannot say anything: it says so aloud and is skipped. Where `CI=true` stands in
//! the environment that is a failure, so that a broken set-up is never taken for a success.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::Runtime;

const HOW_TO_BUILD: &str =
    "run `cargo xtask test`, or `cargo build --workspace --features supervisor/failpoints` first";

/// The programs, found and tried.
#[derive(Debug)]
pub struct Host {
    /// The supervisor, built with fail points.
    pub supervisor: PathBuf,
    /// The service with a counter.
    pub counter: PathBuf,
    /// The service that holds memory.
    pub memhog: PathBuf,
    /// A CRIU that passes its own check here.
    pub criu: PathBuf,
}

impl Host {
    /// The host, or nothing after having said why this test is skipped.
    ///
    /// # Panics
    /// Where nothing may be skipped (`CI=true`), and when our own programs are not built.
    #[must_use]
    pub fn or_skip(runtime: Runtime) -> Option<&'static Self> {
        static FOUND: OnceLock<Result<Host, String>> = OnceLock::new();
        let found = FOUND.get_or_init(Self::look).as_ref().map_err(String::clone);
        let lacks = match (found, runtime) {
            (Ok(_), Runtime::Runc) if in_path("runc").is_none() => "runc is not in PATH".to_owned(),
            (Ok(host), _) => return Some(host),
            (Err(lacks), _) => lacks,
        };
        skip(&lacks);
        None
    }

    fn look() -> Result<Self, String> {
        if !nix::unistd::geteuid().is_root() {
            return Err("only root can dump and restore processes".to_owned());
        }
        let host = Self {
            supervisor: built("supervisor"),
            counter: built("counter"),
            memhog: built("memhog"),
            criu: criu().ok_or("no CRIU is found; `cargo xtask setup` brings one")?,
        };
        let checked = Command::new(&host.criu).arg("check").stdin(Stdio::null()).output();
        match checked {
            Ok(output) if output.status.success() => Ok(host),
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr);
                Err(format!("{} check fails: {}", host.criu.display(), said.trim()))
            }
            Err(error) => Err(format!("{} cannot be run: {error}", host.criu.display())),
        }
    }
}

/// Says why a test is skipped.
///
/// # Panics
/// Where nothing may be skipped (`CI=true`).
pub(crate) fn skip(lacks: &str) {
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "in CI nothing is skipped: {lacks}");
    eprintln!("SKIPPED: {lacks}");
}

/// Beside the test's own executable (`target/<profile>/deps/<test>`), unless the environment names the folder.
fn built(name: &str) -> PathBuf {
    let beside = || {
        let own = std::env::current_exe().expect("a process knows its executable");
        let folder = own.parent().and_then(Path::parent).expect("tests lie in target/<profile>/deps");
        folder.to_owned()
    };
    let folder = std::env::var_os("SUPERVISOR_BIN_DIR").map_or_else(beside, PathBuf::from);
    let program = folder.join(name);
    assert!(program.is_file(), "{} is not there: {HOW_TO_BUILD}", program.display());
    program
}

fn criu() -> Option<PathBuf> {
    let brought = cache_folder().join("bin/criu");
    set("SUPERVISOR_CRIU").or(brought.is_file().then_some(brought)).or_else(|| in_path("criu"))
}

/// Where set-up keeps what it brought.
pub(crate) fn cache_folder() -> PathBuf {
    set("SUPERVISOR_CACHE_DIR").unwrap_or_else(|| "/var/cache/supervisor-dev".into())
}

fn set(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn in_path(name: &str) -> Option<PathBuf> {
    let path: OsString = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|program| program.is_file())
}
