//! `bench`: how long checkpoints, pauses, restores and recoveries take, for bare `criu`, bare `runc` and us.
//!
//! One workload (`examples/memhog`), one run, rounds in turn, so that whatever else the host does disturbs all alike.
//! It refuses to run without root, and to leave anything behind: processes, containers, cgroups, mounts, folders.

mod bundle;
mod cgroups;
mod contenders;
mod ground;
mod measure;
mod namespace;
mod options;
mod processes;
mod report;
mod results;
mod service;
mod statistics;
mod tables;
mod tool;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;

use ground::Ground;
use options::Options;
use report::Report;

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<ExitCode> {
    if !nix::unistd::geteuid().is_root() {
        bail!("only root can dump and restore processes: run `sudo -E cargo xtask bench`");
    }
    processes::keep_inherited_descriptors();
    processes::listen_for_interrupts()?;
    processes::adopt_orphans()?;
    let ground = Ground::prepare(options)?;
    let contenders = options.contenders(&ground)?;
    let results = measure::all(options, &ground, &contenders)?;
    let report = Report::new(options, &ground, &results);
    drop(ground);
    println!("\n{}", tables::text(&report));
    if let Some(path) = &options.json {
        let json = serde_json::to_vec_pretty(&report).context("write the results as JSON")?;
        std::fs::write(path, json).with_context(|| format!("write {}", path.display()))?;
        println!("all samples: {}", path.display());
    }
    let missed = options.enforce && !report.missed.is_empty();
    Ok(if missed || !report.failures.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
