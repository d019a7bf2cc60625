//! `nft` and `iptables`: CRIU locks a service's network with them, and leftovers of its rules are looked for.
//!
//! Refuses to touch any rule.

use anyhow::{Context, Result};

use super::{apt, host};

/// Program, and the package that has it.
const PROGRAMS: [(&str, &str); 2] = [("nft", "nftables"), ("iptables", "iptables")];

/// Installs those that are missing.
pub(crate) fn bring() -> Result<()> {
    for (program, package) in PROGRAMS {
        if host::find_program(program).is_none() {
            apt::install(&[package], "the network lock of criu")?;
        }
        let found = host::find_program(program)
            .with_context(|| format!("{program} is still missing after the installation of {package}"))?;
        println!("setup: {program}: {}", found.display());
    }
    Ok(())
}
