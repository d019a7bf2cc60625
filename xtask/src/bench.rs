//! `cargo xtask bench`: the paper's tables, for criu, runc and us (docs/benchmarks.md).
//!
//! Refuses to measure anything but release binaries.

use std::process::Command;

use anyhow::Result;

use crate::containers::Containers;
use crate::{command, prepare};

/// Set-up, release binaries, then the measurements; `arguments` are theirs.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    // Help needs no root, no set-up and no network.
    if arguments.iter().any(|word| word == "--help" || word == "-h") {
        let mut help = command::cargo();
        help.args(["run", "--quiet", "--package", "benches", "--bin", "bench", "--"]).args(arguments);
        return command::run(&mut help);
    }
    let prepared = prepare::release(&["supervisor", "memhog", "benches"])?;
    let program = prepared.binaries.join("bench");
    let mut bench = match Containers::start(&prepared.environment) {
        Ok(containers) => {
            // Where docker and podman are, so that all are measured in the same place.
            let mut bench = containers.inside(&program);
            containers.apply(&mut bench);
            let done = command::run(prepared.environment.apply(bench.args(arguments)));
            drop(containers);
            return done;
        }
        Err(error) => {
            println!("bench: without docker and podman: {error:#}");
            Command::new(program)
        }
    };
    command::run(prepared.environment.apply(bench.args(arguments)))
}
