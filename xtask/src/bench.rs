//! `cargo xtask bench`: the paper's tables, for criu, runc and us; `cargo xtask bench hosts`: what crosses hosts;
//! `cargo xtask bench many`: what the supervisor itself costs with many services; `cargo xtask bench replication`: how fast images reach a peer
//! (docs/benchmarks.md).
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
    let prepared = prepare::release(&["supervisor", "counter", "memhog", "benches", "system-tests"])?;
    let (name, arguments) = match arguments.split_first() {
        Some((first, rest)) if first == "hosts" => ("hosts", rest),
        Some((first, rest)) if first == "many" => ("many", rest),
        Some((first, rest)) if first == "replication" => ("replication", rest),
        Some(_) | None => ("bench", arguments),
    };
    let program = prepared.binaries.join(name);
    let mut bench = match Containers::start(&prepared.environment) {
        Ok(containers) => {
            // Where docker and podman are, so that all are measured in the same place.
            let mut bench = containers.inside(&program);
            containers.apply(&mut bench);
            let done = command::run(
                prepared
                    .environment
                    .apply(bench.args(arguments))
                    .env("SUPERVISOR_BIN_DIR", &prepared.binaries),
            );
            drop(containers);
            return done;
        }
        Err(error) => {
            println!("bench: without docker and podman: {error:#}");
            Command::new(program)
        }
    };
    command::run(
        prepared.environment.apply(bench.args(arguments)).env("SUPERVISOR_BIN_DIR", &prepared.binaries),
    )
}
