//! CRIU's options for a container of docker's: what docker's restore would lose is refused before the dump.

use crate::criu::{Options, Tcp};
use crate::error::{Error, Report, Result};

/// Where CRIU, run by runc, looks for options that docker does not pass.
const RUNC_OPTIONS: &str = "/etc/criu/runc.conf";

/// The options for a dump that docker's restore will understand.
pub(super) fn for_docker(options: Options) -> Result<Options> {
    understood(options, &std::fs::read_to_string(RUNC_OPTIONS).unwrap_or_default())
}

/// docker passes no options on, so that whatever needs one at the restore must stand in CRIU's own configuration for runc, which
/// is `told`.
fn understood(options: Options, told: &str) -> Result<Options> {
    let is_told = |option: &str| told.lines().any(|line| line.trim() == option);
    let refused = |what: &str, lost: &str, option: &str, or: &str| {
        Err(Error::Refused(
            Report::new(format!("checkpoint with {what}: docker's restore would not {lost}"))
                .remedy(format!("add a line `{option}` to {RUNC_OPTIONS}, or {or}")),
        ))
    };
    if options.file_locks && !is_told("file-locks") {
        // CRIU would restore the service without its locks and say nothing.
        return refused("file_locks = true", "bring locks back", "file-locks", "run it with podman");
    }
    match options.tcp {
        Tcp::Established if is_told("tcp-established") => Ok(options),
        Tcp::Established => {
            refused("tcp = \"established\"", "keep connections", "tcp-established", "set tcp = \"close\"")
        }
        Tcp::Close | Tcp::SkipInFlight => Ok(Options { tcp: Tcp::Close, ..options }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_restore_would_lose_is_refused_unless_crius_own_configuration_helps() {
        let asked = |tcp, file_locks, told: &str| {
            understood(Options { tcp, file_locks, ..Options::default() }, told).map(|options| options.tcp)
        };
        assert!(matches!(asked(Tcp::SkipInFlight, false, ""), Ok(Tcp::Close)));
        assert!(matches!(asked(Tcp::Established, false, "tcp-established\n"), Ok(Tcp::Established)));
        assert!(matches!(asked(Tcp::Close, true, "# locks\nfile-locks\n"), Ok(Tcp::Close)));
        for (refused, remedy) in [
            (asked(Tcp::Established, false, "file-locks"), "`tcp-established`"),
            (asked(Tcp::Close, true, "tcp-established"), "`file-locks`"),
        ] {
            let why = refused.expect_err("it would be lost").to_string();
            assert!(why.contains("/etc/criu/runc.conf") && why.contains(remedy), "{why}");
        }
    }
}
