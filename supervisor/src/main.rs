//! `supervisor`: keeps stateful micro-services alive with their state.

mod api;
mod assemble;
mod carry_out;
mod cli;
mod clock;
mod control;
mod daemon;
mod drain;
mod events;
mod history;
mod hooks;
mod metrics;
mod notices;
mod probes;
mod publish;
mod reclaim;
mod replicas;
mod service;
mod signals;
mod status;
mod telemetry;
mod tenure;

use std::process::ExitCode;

use daemon::Standing;
use engine::process::init::Role;

fn main() -> ExitCode {
    engine::names::look_up_by_ourselves();
    // A shim forks, so it must come before anything that starts a thread.
    if let Some(code) = engine::shim::server::main(std::env::args()) {
        return code;
    }
    if let Some(code) = engine::runtime::systemd::main(std::env::args()) {
        return code;
    }
    if let Some(code) = engine::process::guard::main(std::env::args_os()) {
        return code;
    }
    if let Some(code) = engine::criu::tar::main(std::env::args_os()) {
        return code;
    }
    let cli = cli::parse();
    let mut standing = Standing::Host;
    if cli.lasts() && std::process::id() == 1 {
        // The rest is for its child; it also forks, so it comes before any thread.
        match engine::process::init::become_init() {
            Role::Child => standing = Standing::Container,
            Role::Over(code) => return code,
        }
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("supervisor: start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(cli::execute(cli, standing));
    // A blocking probe of a disk must not hold up the end.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    code
}
