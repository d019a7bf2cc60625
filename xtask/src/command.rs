//! Running other programs: shown before they run, and named with their last lines when they fail.
//!
//! Refuses to give them our standard input: a developer command never waits for an answer.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// How many of a failed command's last lines its error carries.
const LAST_LINES: usize = 15;

/// Says what is run, runs it with its output on ours, and fails when it does.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let line = line(command);
    println!("+ {line}");
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("can't run `{line}`"))?;
    if !status.success() {
        bail!("`{line}` failed: {status}");
    }
    Ok(())
}

/// Runs it with all output in `log`; the error carries the last lines.
pub(crate) fn logged(command: &mut Command, log: &Path) -> Result<()> {
    let line = line(command);
    let out = File::options()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("can't write log {}", log.display()))?;
    let err = out.try_clone().with_context(|| format!("can't write log {}", log.display()))?;
    let status = command
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .status()
        .with_context(|| format!("can't run `{line}`"))?;
    if !status.success() {
        let text = std::fs::read(log).unwrap_or_default();
        bail!("`{line}` failed: {status}\n{}", last_lines(&String::from_utf8_lossy(&text)));
    }
    Ok(())
}

/// Runs it and gives what it printed; the error carries the last lines of its standard error.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let line = line(command);
    let out = command.stdin(Stdio::null()).output().with_context(|| format!("can't run `{line}`"))?;
    if !out.status.success() {
        bail!("`{line}` failed: {}\n{}", out.status, last_lines(&String::from_utf8_lossy(&out.stderr)));
    }
    String::from_utf8(out.stdout).with_context(|| format!("`{line}` printed something that isn't UTF-8"))
}

/// Cargo, the one that runs us.
pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

fn line(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let from = lines.len().saturating_sub(LAST_LINES);
    lines[from..].iter().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_command_is_named_with_its_status_and_last_lines() {
        let error = output(Command::new("sh").args(["-c", "echo first >&2; echo last >&2; exit 3"]))
            .expect_err("the command fails");
        let text = format!("{error:#}");
        assert!(text.contains("`sh -c"), "{text}");
        assert!(text.contains("exit status: 3"), "{text}");
        assert!(text.ends_with("    first\n    last"), "{text}");
    }

    #[test]
    fn logged_command_leaves_its_output_in_the_log_and_the_end_of_it_in_the_error() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let log = folder.path().join("log");
        logged(Command::new("sh").args(["-c", "echo kept"]), &log).expect("the command succeeds");
        let error = logged(Command::new("sh").args(["-c", "seq 1 40; exit 1"]), &log)
            .expect_err("the command fails")
            .to_string();
        assert!(std::fs::read_to_string(&log).expect("the log").starts_with("kept\n1\n"));
        assert!(
            error.contains("    40") && error.contains("    26\n") && !error.contains("    25\n"),
            "{error}"
        );
    }
}
