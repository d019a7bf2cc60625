//! The program that is packed: built for release, for this host's C library and, where that can be linked into it, static.
//!
//! The static one has the same C library (glibc) in it: nothing beyond what any build needs has to be installed. Only the program itself is built so;
//! what runs during the build is not.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::prepare::target_folder;
use crate::{command, setup};

/// The library of a program that needs none.
const STATIC: &str = "static";
/// Links the C library in, instead of asking for it.
const STATIC_FLAGS: &str = "-C target-feature=+crt-static";

/// One that is built.
#[derive(Debug)]
pub(super) struct Program {
    /// Where it is.
    pub(super) path: PathBuf,
    /// The C library that it asks for, as in names of targets, or that it is static.
    pub(super) library: &'static str,
}

/// How carefully it is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// To be used.
    Release,
    /// To be looked at: quickly.
    Dev,
}

impl Program {
    /// One that somebody else has built, for this host.
    pub(super) fn given(path: &Path) -> Result<Program> {
        let headers = command::output(Command::new("objdump").arg("-p").arg(path))?;
        let library = if is_static(&headers) { STATIC } else { "gnu" };
        Ok(Program { path: path.to_owned(), library })
    }

    /// The newest version of the C library that it asks for; none for a static one.
    pub(super) fn library_version(&self) -> Result<Option<String>> {
        if self.library == STATIC {
            return Ok(None);
        }
        let symbols = command::output(Command::new("objdump").arg("-T").arg(&self.path))?;
        Ok(newest(&symbols).map(|(major, minor)| format!("{major}.{minor}")))
    }
}

/// The one for this host first.
pub(super) fn build() -> Result<Vec<Program>> {
    command::run(command::cargo().args(["build", "--release", "--locked", "--package", "supervisor"]))?;
    let mut programs = vec![Program { path: target_folder()?.join("release/supervisor"), library: "gnu" }];
    match lacks_for_static()? {
        None => programs.push(Program { path: build_static(Profile::Release)?, library: STATIC }),
        Some(lack) => println!("package: no static program: {lack}; the tarball's needs glibc"),
    }
    Ok(programs)
}

/// Builds the static one; it lies in a folder of its target, beside what is built for this host.
pub(crate) fn build_static(profile: Profile) -> Result<PathBuf> {
    let target = host_target()?;
    let mut build = command::cargo();
    build.args(["build", "--locked", "--package", "supervisor", "--target", &target]);
    let folder = match profile {
        Profile::Release => {
            build.arg("--release");
            "release"
        }
        // Nobody looks for a line in it.
        Profile::Dev => {
            build.args(["--config", "profile.dev.debug=false"]);
            "debug"
        }
    };
    // With a target of its own, these are not for build scripts and macros, which cannot be static.
    let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    build.env("RUSTFLAGS", format!("{flags} {STATIC_FLAGS}").trim()).env_remove("CARGO_ENCODED_RUSTFLAGS");
    command::run(&mut build)?;
    Ok(target_folder()?.join(target).join(folder).join("supervisor"))
}

/// What is not here that a static program needs.
pub(crate) fn lacks_for_static() -> Result<Option<String>> {
    let target = host_target()?;
    if !target.ends_with("-linux-gnu") {
        return Ok(Some(format!("only glibc is linked in, and this host's Rust is for {target}")));
    }
    // It answers with the bare name if it finds none.
    let library = command::output(Command::new("cc").arg("-print-file-name=libc.a"))?;
    let is_there = Path::new(library.trim()).is_absolute();
    Ok((!is_there).then(|| "libc.a is not here (apt-get install libc6-dev)".to_owned()))
}

/// What Rust calls this host.
fn host_target() -> Result<String> {
    let said = command::output(Command::new("rustc").arg("-vV"))?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc says which host it is for")?.to_owned())
}

/// `objdump -p`: whoever needs others names them and who loads them.
fn is_static(headers: &str) -> bool {
    let first = |line: &str| line.split_whitespace().next().unwrap_or_default().to_owned();
    !headers.lines().any(|line| ["INTERP", "NEEDED"].contains(&first(line).as_str()))
}

/// `objdump -T` names a version beside each symbol: `(GLIBC_2.34)`.
fn newest(symbols: &str) -> Option<(u32, u32)> {
    let versions = symbols.split("GLIBC_").skip(1);
    versions.filter_map(|rest| setup::first_version(rest.split([')', ' ', '\n']).next()?)).max()
}

/// What Debian calls this machine.
pub(super) fn architecture() -> Result<String> {
    let said = command::output(Command::new("dpkg").arg("--print-architecture"));
    Ok(said.context("a Debian package is made on a Debian")?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_of_the_library_counts() {
        let symbols = "\
            0000 DF *UND* 0000 (GLIBC_2.4)  x\n\
            0000 DF *UND* 0000 (GLIBC_2.34) y\n\
            0000 DF *UND* 0000 (GLIBC_2.9)  z\n\
            0000 DF *UND* 0000 (GCC_3.0)    w\n";
        assert_eq!(newest(symbols), Some((2, 34)));
        assert_eq!(newest("0000 DF .text"), None);
    }

    #[test]
    fn whoever_names_a_library_or_a_loader_is_not_static() {
        let header = |line: &str| format!("Program Header:\n    LOAD off    0x0 INTERPRET\n{line}\n");
        assert!(is_static(&header(" DYNAMIC off 0x1")));
        assert!(!is_static(&header("  INTERP off    0x0000000000000318")));
        assert!(!is_static(&header("  NEEDED               libc.so.6")));
    }
}
