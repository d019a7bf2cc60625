//! Reading CRIU's logs: the lines that say why, and the known reasons with their remedies.

use std::path::Path;

/// The end of a text, at most `most` lines.
pub fn last_lines(text: &str, most: usize) -> Vec<String> {
    let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(most)..].iter().map(|l| (*l).to_owned()).collect()
}

/// The lines of a log that name errors, else its end.
pub fn telling_lines(path: &Path) -> Vec<String> {
    let text = std::fs::read(path).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default();
    let errors: Vec<String> =
        text.lines().filter(|l| l.contains("Error (") && !is_harmless(l)).map(str::to_owned).collect();
    if errors.is_empty() {
        return last_lines(&text, 4);
    }
    errors[..errors.len().min(8)].to_vec()
}

/// A thing that CRIU cannot do with this service, however often it is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// In a line of CRIU's log.
    pub words: &'static str,
    /// What it is about the service.
    pub reason: &'static str,
    /// What can be done about it.
    pub remedy: &'static str,
}

/// In CRIU's own words, as seen with CRIU 4.
pub const REFUSALS: &[Refusal] = &[
    refusal("anon_inode:[io_uring]", "it uses io_uring", "switch io_uring off in the service"),
    refusal("io_uring", "it uses io_uring", "switch io_uring off in the service"),
    refusal(
        "send_fds failed",
        "it holds a descriptor that cannot be handed over, most likely io_uring",
        "switch io_uring off in the service",
    ),
    refusal(
        "Some file locks are hold by dumping tasks",
        "it holds file locks",
        "set criu = { file_locks = true } in its checkpoint section",
    ),
    refusal(
        "Can't dump ghost file",
        "it keeps a removed file open that is larger than ghost_limit",
        "raise criu.ghost_limit in its checkpoint section",
    ),
    refusal(
        "External socket is used",
        "it is connected to a unix socket of a process outside",
        "set criu = { ext_unix_sk = true } if it can do without that connection, or do not connect",
    ),
    refusal(
        "Dangling connection",
        "it is connected to a unix socket of a process outside",
        "set criu = { ext_unix_sk = true } if it can do without that connection, or do not connect",
    ),
    refusal(
        "unreachable peer",
        "it is connected to a unix socket of a process outside",
        "set criu = { ext_unix_sk = true } if it can do without that connection, or do not connect",
    ),
    refusal(
        "tty: Found slave peer",
        "it uses a terminal of the outside",
        "start it without a terminal, or set criu = { shell_job = true }",
    ),
    refusal("Can't dump tty", "it uses a terminal of the outside", "start it without a terminal"),
    refusal(
        "dangling tty",
        "it uses a terminal of the outside",
        "start it without a terminal, or set criu = { shell_job = true }",
    ),
    refusal(
        "A session leader of",
        "it belongs to a session of the outside",
        "let the supervisor start it, or set criu = { shell_job = true }",
    ),
    refusal("anon_inode:bpf", "it holds BPF objects", "CRIU cannot keep them; switch that feature off"),
    refusal("anon_inode:[perf_event]", "it holds perf events", "CRIU cannot keep them; switch profiling off"),
    refusal(
        "anon_inode:[userfaultfd]",
        "it uses userfaultfd",
        "CRIU cannot keep it; switch that feature off",
    ),
    refusal(
        "Can't dump file",
        "it holds a kind of descriptor that CRIU does not know",
        "the line from CRIU's log names the descriptor; close it or switch the feature off",
    ),
    refusal(
        "fsnotify: \tCan't dump that handle",
        "it watches a file or folder (inotify) whose path CRIU cannot find by itself, as in a container's root",
        "set criu = { force_irmap = true, irmap_scan_paths = [...] } with the folders that it watches",
    ),
    refusal(
        "Can't get rlimit",
        "it does not run as root, and the supervisor lacks CAP_SYS_RESOURCE",
        "run the supervisor with CAP_SYS_RESOURCE, or the service as root",
    ),
    refusal(
        "SysVIPC",
        "it uses SysV shared memory outside an ipc namespace",
        "run it in a container, which has an ipc namespace",
    ),
    refusal(
        "Connected TCP socket",
        "it has TCP connections",
        "set checkpoint.tcp to \"close\" or \"established\"",
    ),
];

const fn refusal(words: &'static str, reason: &'static str, remedy: &'static str) -> Refusal {
    Refusal { words, reason, remedy }
}

/// The first known reason in the lines.
pub fn refusal_in(lines: &[String]) -> Option<&'static Refusal> {
    REFUSALS.iter().find(|r| lines.iter().any(|line| line.contains(r.words)))
}

/// What can be done about a failure that may not be there the next time.
pub fn remedy_in(lines: &[String]) -> Option<&'static str> {
    // In CRIU's words: `Can't fork for 4711: File exists`.
    let taken = |line: &String| line.contains("Can't fork for") && line.contains("File exists");
    lines.iter().any(taken).then_some(
        "another process has one of its pids; with isolation = \"pid\" it would have pids of its own",
    )
}

/// Said as an error by CRIU, but without effect: it raises its own limit of open files if it may.
fn is_harmless(line: &str) -> bool {
    line.contains("rlimit: Can't setup RLIMIT_NOFILE for self")
}
