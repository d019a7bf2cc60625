//! The program that is packed: built for release, for this host's C library and, where the tools for that are here, static.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::prepare::target_folder;
use crate::setup::find_program;
use crate::{command, setup};

/// The target of a program that needs no libraries, and the compiler for its parts in C.
const STATIC_TARGET: &str = "x86_64-unknown-linux-musl";
const STATIC_COMPILER: &str = "musl-gcc";

/// One that is built.
#[derive(Debug)]
pub(super) struct Program {
    /// Where it is.
    pub(super) path: PathBuf,
    /// The C library it is for, as in names of targets.
    pub(super) library: &'static str,
}

impl Program {
    /// One that somebody else has built, for this host.
    pub(super) fn given(path: &Path) -> Program {
        Program { path: path.to_owned(), library: "gnu" }
    }

    /// The newest version of the C library that it asks for; none for a static one.
    pub(super) fn library_version(&self) -> Result<Option<String>> {
        let symbols = command::output(Command::new("objdump").arg("-T").arg(&self.path))?;
        Ok(newest(&symbols).map(|(major, minor)| format!("{major}.{minor}")))
    }
}

/// The one for this host first.
pub(super) fn build() -> Result<Vec<Program>> {
    let mut programs = vec![build_for(None)?];
    match lacks_for_static() {
        None => programs.push(build_for(Some(STATIC_TARGET))?),
        Some(lack) => println!("package: no static program: {lack}; the tarball's needs glibc"),
    }
    Ok(programs)
}

fn build_for(target: Option<&str>) -> Result<Program> {
    let mut build = command::cargo();
    build.args(["build", "--release", "--locked", "--package", "supervisor"]);
    let mut folder = target_folder()?;
    if let Some(target) = target {
        build.args(["--target", target]).env("CC_x86_64_unknown_linux_musl", STATIC_COMPILER);
        folder.push(target);
    }
    command::run(&mut build)?;
    let library = if target.is_some() { "musl" } else { "gnu" };
    Ok(Program { path: folder.join("release/supervisor"), library })
}

fn lacks_for_static() -> Option<String> {
    let libraries =
        command::output(Command::new("rustc").args(["--print", "target-libdir", "--target", STATIC_TARGET]));
    let is_there = libraries.is_ok_and(|folder| Path::new(folder.trim()).is_dir());
    if !is_there {
        return Some(format!("Rust's {STATIC_TARGET} is not here (rustup target add {STATIC_TARGET})"));
    }
    let compiler = find_program(STATIC_COMPILER);
    compiler.is_none().then(|| format!("{STATIC_COMPILER} is not here (apt-get install musl-tools)"))
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
}
