//! `docs/compatibility.md`: the table of what is expected, which the cells show, CRIU's refusals as the engine knows them, and what
//! the last run of the cells has said.

use std::collections::BTreeMap;
use std::fmt::Write;

use engine::criu::log;

use super::report::{self, Line};
use super::{Expected, PLACES, Place, ROWS};

const HEAD: &str = "\
<!-- Made of the rows in tests/src/matrix/table.rs by `cargo xtask matrix` and `cargo xtask fix`; changes made here are lost. -->

# What can be checkpointed

Each cell is a test (`tests/tests/matrix.rs`): a real service under a real supervisor is given a number by its own protocol, checkpointed while a
client holds a connection, given another number, and ended by SIGKILL. **works** means that the supervisor has brought it back from the image, that it has the first
number again, and that it takes and gives numbers over fresh connections. **refused** means that the trial soon after the start has found that it cannot be
dumped: it runs on as `degraded`, `status` says why and what helps, and a crash is answered by a cold start. Services of
the table come from Debian 12's packages; in containers they run in a root made of those.

";

const AFTER_THE_TABLE: &str = "
Every service of the table listens on TCP, and a client's connection is open at the checkpoint. What becomes of it after a crash: the kernel has closed it.

## What does not work, and why

The words are those of `status`, whole under the last run below.

";

const REFUSALS: &str = "
## CRIU's refusals

What CRIU says in its log, what it means, and what helps. A refusal that is not in this list is shown in CRIU's own words.

| CRIU says | it means | what helps |
| --- | --- | --- |
";

const NOT_SHOWN: &str = "
## Not shown by the matrix

* **PostgreSQL.** As a plain process it would be refused for its segment of System V shared memory (row `sysv`). In a container it has an ipc
  namespace of its own, but it will not run as root, and a service of another user is dumped only by a supervisor with CAP_SYS_RESOURCE, which the hosts
  of these tests lack. On hosts that have it: not tried here.
* **Services that are not root** in general, for the same reason.
* **Connections that survive** a deliberate stop and restore: a crash closes them, and these cells crash.
* **arm64**, and kernels and CRIU versions but those of the last run below.

## Timers

A timer of `timerfd_create` whose period is shorter than the pause has always expired unread by the time of the dump, and CRIU would restore it stopped. The
supervisor mends the image so that it ticks on. A timer that fires once and has expired unread comes back as expired.

";

const MEASURED: &str = "## The last run\n";

/// The document as it should be, with the last run of the cells if the environment names its folder, else with that of the document
/// as it is.
#[must_use]
pub fn written(present: &str) -> String {
    let mut text = HEAD.to_owned();
    text.push_str("| | process | runc | docker | podman |\n| --- | --- | --- | --- | --- |\n");
    for row in ROWS {
        let cells: Vec<&str> = row.expected.iter().map(word).collect();
        let _ = writeln!(text, "| **{}**: {} | {} |", row.name, row.what, cells.join(" | "));
    }
    text.push_str(AFTER_THE_TABLE);
    for row in ROWS {
        for (places, why) in reasons(row.expected) {
            let _ = writeln!(text, "* **{}** in {places}: {why}", row.name);
        }
    }
    text.push_str(REFUSALS);
    for refusal in log::REFUSALS {
        let (words, reason, remedy) = (refusal.words.replace('\t', " "), refusal.reason, refusal.remedy);
        let _ = writeln!(text, "| `{words}` | {reason} | {remedy} |");
    }
    text.push_str(NOT_SHOWN);
    text.push_str(MEASURED);
    match report::lines() {
        Some(lines) => text.push_str(&last_run(&lines)),
        None => text.push_str(present.split_once(MEASURED).map_or("", |(_, last)| last)),
    }
    text
}

/// Cells that the last run has not shown as the table has them; none if the environment names no run.
#[must_use]
pub fn differences() -> Vec<String> {
    let Some(lines) = report::lines() else { return Vec::new() };
    let mut found = Vec::new();
    for (row, (place, expected)) in
        ROWS.iter().flat_map(|row| PLACES.iter().zip(&row.expected).map(move |cell| (row, cell)))
    {
        let line = lines.iter().find(|line| line.row == row.name && line.place == *place);
        match (expected, line) {
            (Expected::Absent(_), None) => {}
            (expected, Some(line)) if word(expected) == line.outcome => {}
            (expected, line) => {
                found.push(format!("{} in {}: {expected:?}, and {line:?}", row.name, place.word()))
            }
        }
    }
    found
}

fn word(expected: &Expected) -> &'static str {
    match expected {
        Expected::Works => "works",
        Expected::Loses(..) => "loses",
        Expected::Refused(_) => "refused",
        Expected::Absent(_) => "-",
    }
}

/// What is to be said of a row that does not simply work, the same of several places once.
fn reasons(expected: [Expected; 4]) -> Vec<(String, String)> {
    let mut reasons: Vec<(Vec<&str>, String)> = Vec::new();
    for (place, expected) in PLACES.iter().zip(expected) {
        let why = match expected {
            Expected::Works => continue,
            Expected::Loses(words, why) => format!("{why} (the service sees `{words}`)."),
            Expected::Absent(why) => format!("{why}."),
            Expected::Refused(words) => format!("refused: {}.", words.join("; ")),
        };
        match reasons.iter_mut().find(|(_, known)| *known == why) {
            Some((places, _)) => places.push(place.word()),
            None => reasons.push((vec![place.word()], why)),
        }
    }
    reasons.into_iter().map(|(places, why)| (places.join(", "), why)).collect()
}

fn last_run(lines: &[Line]) -> String {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut versions: BTreeMap<Place, &str> = BTreeMap::new();
    for line in lines {
        versions.insert(line.place, line.version.as_str());
    }
    let versions: Vec<String> =
        versions.iter().map(|(place, version)| format!("{}: {version}", place.word())).collect();
    let mut text = format!(
        "\n{} cells on Linux {} ({}); {}. What `status` says of those that are refused:\n",
        lines.len(),
        kernel.trim(),
        std::env::consts::ARCH,
        versions.join("; ")
    );
    for line in lines {
        if let Some(said) = line.said.as_ref().filter(|_| line.outcome == "refused") {
            let _ = write!(
                text,
                "\n{} in {}:\n\n```text\n{}\n```\n",
                line.row,
                line.place.word(),
                said.trim_end()
            );
        }
    }
    text
}
