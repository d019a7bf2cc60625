//! Developer commands: `cargo xtask setup | check | fix | test | matrix | demo | bench | package`.
//!
//! They bring what the tests need (a CRIU that works on this kernel, runc, docker, podman, redis) into a cache folder outside
//! the checkout, and run what CI runs. Refuses: changing the host's apt configuration, starting
//! services of packages, and, for `check`, writing anything into the checkout.

mod bench;
mod cache;
mod check;
mod command;
mod containers;
mod demo;
mod fix;
mod matrix;
mod package;
mod prepare;
mod setup;
mod test;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  setup    bring CRIU, runc, docker, podman, redis-server, etcd, chromium, nft/iptables and a Debian with systemd to this host (once; root, network)
  check    everything CI checks without running tests; never writes into the checkout
  fix      format, apply lints' suggestions, write generated documents anew
  test     set-up, then all tests; more arguments go to the test runner
  matrix   set-up, then what can be checkpointed in which runtime; writes docs/compatibility.md
  demo     set-up, then the demonstration: kill, hang and damage, and the state survives
  bench    set-up, then the measurements
  package  a Debian package and a tarball, in target/package

environment:
  SUPERVISOR_CACHE_DIR   where set-up keeps what it built (root: /var/cache/supervisor-dev)
  SUPERVISOR_CRIU        a CRIU of yours to use instead, if it passes `criu check`";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    let done = match command.as_str() {
        "setup" => setup::run(),
        "check" => check::run(),
        "fix" => fix::run(),
        "test" => test::run(&rest),
        "matrix" => matrix::run(),
        "demo" => demo::run(&rest),
        "bench" => bench::run(&rest),
        "package" => package::run(&rest),
        containers::KEEPER => containers::keep(),
        "help" | "--help" | "-h" => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cargo xtask {command}: {error:#}");
            ExitCode::FAILURE
        }
    }
}
