//! `cargo xtask test`: set-up, every program built once, then all tests.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::command;
use crate::containers::Containers;
use crate::package::{self, Profile};
use crate::prepare::target_folder;
use crate::setup::{self, Environment};

/// Tests and the programs they start are built with these alike, or cargo would build them twice.
const WORKSPACE: [&str; 4] = ["--workspace", "--locked", "--features", "supervisor/failpoints"];

/// Runs them; `arguments` go to the test runner.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    run_with(arguments, &[])
}

/// The same with further variables in the tests' environment.
pub(crate) fn run_with(arguments: &[String], variables: &[(&str, &Path)]) -> Result<()> {
    let environment = environment()?;
    command::run(environment.apply(command::cargo().arg("build").args(WORKSPACE)))?;
    let binaries = target_folder()?.join("debug");

    let nextest = command::output(command::cargo().args(["nextest", "--version"])).is_ok();
    // nextest runs no examples of documentation. They come first: the tests' last lines shall be ours as well.
    let examples = if nextest && arguments.is_empty() {
        command::run(with(
            &environment,
            &binaries,
            command::cargo().args(["test", "--quiet", "--doc"]).args(WORKSPACE),
        ))
    } else {
        Ok(())
    };
    let packed = program_for_packages(arguments)?;
    let containers = containers(&environment);
    // One failure says less than all of them.
    let mut tests = runner(nextest);
    tests.arg("--no-fail-fast").args(WORKSPACE).args(arguments).envs(variables.iter().copied());
    tests.envs(packed.iter().map(|program| ("SUPERVISOR_STATIC", program)));
    if let Some(containers) = &containers {
        containers.apply(&mut tests);
    }
    command::run(with(&environment, &binaries, &mut tests)).and(examples)
}

/// The static program, which takes minutes to build the first time, where the tests of packages are run.
fn program_for_packages(arguments: &[String]) -> Result<Option<PathBuf>> {
    let wanted = arguments.is_empty() || arguments.iter().any(|word| word.contains("package"));
    match package::lacks_for_static()? {
        None if wanted => package::build_static(Profile::Dev).map(Some),
        None => Ok(None),
        Some(lack) => {
            println!("test: no static program: {lack}");
            Ok(None)
        }
    }
}

/// Without root there is no set-up and no CRIU; tests that need them say so and skip.
fn environment() -> Result<Environment> {
    if setup::is_root() {
        return setup::set_up();
    }
    println!("test: not root: no set-up; tests that dump or restore processes will say so and be skipped");
    Environment::as_found()
}

/// Taken down when dropped, whatever the tests came to. Hosts that are containers themselves often can't have any; the
/// other tests say something there too.
fn containers(environment: &Environment) -> Option<Containers> {
    if !setup::is_root() {
        return None;
    }
    match Containers::start(environment) {
        Ok(containers) => Some(containers),
        Err(error) => {
            println!(
                "test: {error:#}; tests that need them will say so and be skipped, or fail where CI=true"
            );
            None
        }
    }
}

fn runner(nextest: bool) -> Command {
    let mut cargo = command::cargo();
    if nextest {
        cargo.args(["nextest", "run"]);
    } else {
        println!("test: cargo-nextest is not installed, using cargo test");
        cargo.arg("test");
    }
    cargo
}

fn with<'a>(environment: &Environment, binaries: &Path, command: &'a mut Command) -> &'a mut Command {
    environment.apply(command).env("SUPERVISOR_BIN_DIR", binaries)
}
