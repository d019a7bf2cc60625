//! What systemd says of a unit, and what follows from it alone.

/// A unit as systemd knows it. Times are in microseconds of the monotonic clock; 0: never yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unit {
    /// Whether it exists.
    pub load: Load,
    /// `active`, `inactive`, `failed`, `activating`, `deactivating`, `reloading`.
    pub active: String,
    /// What is under way with it.
    pub job: Option<JobKind>,
    /// `enabled`, `disabled`, `static`, ...; empty for one that is in no file.
    pub unit_file: String,
    /// The sockets that start it.
    pub sockets: Vec<String>,
    /// When it became active last.
    pub entered: u64,
    /// When it ceased to be.
    pub left: u64,
    /// The main process, while it runs.
    pub main: Option<i32>,
    /// The main process that ran last, or runs.
    pub last_main: Option<i32>,
    /// When that ended; 0: it runs.
    pub ended: u64,
    /// Its raw wait status, once it has ended.
    pub wait_status: Option<i32>,
    /// `success`, `exit-code`, `signal`, `oom-kill`, `timeout`, `watchdog`, ...
    pub result: String,
    /// Its cgroup, from the root of the tree on; empty while it does not run.
    pub cgroup: String,
    /// When systemd restarts it by itself: `no`, `on-failure`, ...
    pub restart: String,
    /// How often it has.
    pub restarts: u32,
    /// How it is started: `simple`, `notify`, `oneshot`, ...
    pub kind: String,
    /// Its user exists only while it runs.
    pub dynamic_user: bool,
    /// What its lines in the journal are marked with; empty: the name of its program.
    pub log_name: String,
    /// What it runs.
    pub command: Vec<String>,
}

/// Whether a unit exists.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Load {
    /// It does not.
    #[default]
    NotFound,
    /// It is masked: it must not be started.
    Masked,
    /// It cannot be read.
    Bad,
    /// It does.
    Loaded,
}

/// What is under way with a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobKind {
    /// It is to run: a start, or a restart.
    Run,
    /// It is to stop.
    Stop,
    /// Something else.
    Other,
}

impl Load {
    pub(super) fn of(word: &str) -> Self {
        match word {
            "loaded" => Self::Loaded,
            "masked" => Self::Masked,
            "not-found" => Self::NotFound,
            _ => Self::Bad,
        }
    }
}

impl JobKind {
    pub(super) fn of(word: &str) -> Self {
        match word {
            "start" | "restart" | "try-restart" => Self::Run,
            "stop" => Self::Stop,
            _ => Self::Other,
        }
    }
}

impl Unit {
    /// Whether it is started, and not being stopped.
    pub fn is_active(&self) -> bool {
        matches!(self.active.as_str(), "active" | "reloading")
    }

    /// Whether nothing is under way with it.
    pub fn is_settled(&self) -> bool {
        self.job.is_none() && matches!(self.active.as_str(), "active" | "inactive" | "failed" | "")
    }

    /// Whether somebody had systemd stop it: it ceased to be active before its main process ended, and not for a fault.
    pub fn was_stopped(&self) -> bool {
        let asked = self.entered <= self.left && self.left < self.ended;
        // Its time to stop may have been up, and it was killed: it was stopped all the same.
        asked && matches!(self.result.as_str(), "success" | "timeout")
    }

    /// Whether it runs again, or is to.
    pub fn begins_anew(&self, than: i32) -> bool {
        let others = self.main.is_some_and(|main| main != than);
        others || self.job == Some(JobKind::Run) || self.active == "activating"
    }
}

/// What `waitid` says of an end (`si_code` and `si_status`), as `wait` says it; nothing for a process that has not ended.
pub(super) fn wait_status(code: i32, status: i32) -> Option<i32> {
    match code {
        libc::CLD_EXITED => Some((status & 0xff) << 8),
        libc::CLD_KILLED => Some(status & 0x7f),
        libc::CLD_DUMPED => Some((status & 0x7f) | 0x80),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(entered: u64, left: u64, ended: u64, result: &str) -> Unit {
        let (active, result) = ("inactive".to_owned(), result.to_owned());
        Unit { load: Load::Loaded, active, entered, left, ended, result, ..Unit::default() }
    }

    #[test]
    fn ends_are_told_as_wait_does() {
        let exited = wait_status(libc::CLD_EXITED, 3).expect("known");
        assert!(libc::WIFEXITED(exited) && libc::WEXITSTATUS(exited) == 3);
        let killed = wait_status(libc::CLD_KILLED, 9).expect("known");
        assert!(libc::WIFSIGNALED(killed) && libc::WTERMSIG(killed) == 9);
        let dumped = wait_status(libc::CLD_DUMPED, 11).expect("known");
        assert!(libc::WIFSIGNALED(dumped) && libc::WTERMSIG(dumped) == 11 && libc::WCOREDUMP(dumped));
        assert_eq!(wait_status(0, 0), None, "it has not ended");
    }

    #[test]
    fn a_stop_comes_before_the_end_and_a_crash_after_it() {
        assert!(ended(10, 20, 21, "success").was_stopped());
        assert!(ended(10, 20, 30, "timeout").was_stopped(), "killed, as it did not stop in time");
        assert!(!ended(10, 20, 20, "success").was_stopped(), "it ended by itself");
        assert!(!ended(10, 20, 19, "signal").was_stopped(), "a crash");
        assert!(!ended(10, 20, 30, "watchdog").was_stopped(), "systemd ended it for a fault");
        assert!(!ended(10, 5, 30, "success").was_stopped(), "an earlier run was stopped");
    }

    #[test]
    fn one_that_runs_again_is_told_from_one_that_has_ended() {
        let gone = ended(10, 20, 21, "success");
        assert!(!gone.begins_anew(7));
        assert!(Unit { job: Some(JobKind::Run), ..gone.clone() }.begins_anew(7));
        assert!(!Unit { job: Some(JobKind::Stop), ..gone.clone() }.begins_anew(7));
        assert!(Unit { main: Some(8), ..gone.clone() }.begins_anew(7));
        assert!(!Unit { main: Some(7), ..gone }.begins_anew(7));
    }
}
