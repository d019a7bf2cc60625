//! Starting, signalling and ending the supervisor, and leaving nothing behind.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Mark, Node};
use crate::wait::{LIMIT, wait_for, wait_until};

impl Node {
    /// Starts the supervisor and waits until each of its services runs and is healthy.
    pub fn start(&mut self) {
        self.start_only();
        for service in self.counters.keys() {
            self.wait_healthy(service);
        }
    }

    /// Starts the supervisor and waits until it is up; its services may not be.
    pub fn start_only(&mut self) {
        let mark = self.mark();
        self.launch(None);
        self.wait_up(mark);
    }

    /// Starts a supervisor that dies at this fail point, which it reaches only when it is up.
    pub fn start_to_die_later_at(&mut self, fail_point: &str) {
        let mark = self.mark();
        self.launch(Some(fail_point));
        self.wait_up(mark);
    }

    fn wait_up(&mut self, mark: Mark) {
        wait_for(LIMIT, "the supervisor is up", || {
            if let Some(status) = self.exited() {
                panic!("the supervisor ended as it started: {status}");
            }
            self.events_since(mark).into_iter().find(|event| event.kind == "node-started")
        });
    }

    /// Starts a supervisor that dies at this fail point; waits for nothing.
    pub fn start_to_die_at(&mut self, fail_point: &str) {
        self.launch(Some(fail_point));
    }

    fn launch(&mut self, fail_point: Option<&str>) {
        assert!(self.supervisor.is_none(), "a node has one supervisor");
        self.write_config();
        self.starts += 1;
        let log = File::create(self.log_file(self.starts)).expect("a log for the supervisor");
        let mut command = if self.contained { self.contained_command() } else { self.supervisor_command() };
        command.arg("--config").arg(self.config_file());
        command.env("SUPERVISOR_CRIU", &self.host.criu).env("RUST_LOG", "info").env("NO_COLOR", "1");
        command.env_remove("NOTIFY_SOCKET").env_remove(engine::failpoint::VARIABLE);
        command.env(engine::clock::STEP_VARIABLE, self.clock_file());
        if let Some(point) = fail_point {
            command.env(engine::failpoint::VARIABLE, point);
        }
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a log can be shared")).stderr(log);
        self.supervisor = Some(command.spawn().expect("the supervisor's program can be run"));
    }

    /// Sets its clock forward or back, as an administrator would with `date`.
    ///
    /// # Panics
    /// If the file for it cannot be written.
    pub fn step_clock(&self, seconds: i64) {
        std::fs::write(self.clock_file(), seconds.to_string()).expect("a small file can be written");
    }

    fn contained_command(&self) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child", "--mount-proc", "--"]).arg(&self.host.supervisor);
        command
    }

    /// The supervisor's own pid; process 1 of its namespace if it is contained.
    ///
    /// # Panics
    /// If none was started.
    #[must_use]
    pub fn supervisor_pid(&self) -> i32 {
        let child = self.supervisor.as_ref().expect("a supervisor was started");
        let pid = i32::try_from(child.id()).expect("pids are small");
        if self.contained { wait_for(LIMIT, "process 1", || children(pid).first().copied()) } else { pid }
    }

    /// Sends the supervisor a signal.
    pub fn signal_supervisor(&self, signal: Signal) {
        kill(Pid::from_raw(self.supervisor_pid()), signal).expect("our own child can be signalled");
    }

    /// Asks the supervisor to stop, as systemd does, and waits for it; services run on.
    pub fn stop(&mut self) {
        self.signal_supervisor(Signal::SIGTERM);
        let status = self.wait_dead();
        assert!(status.success(), "a supervisor that is asked to stop ends well: {status}");
    }

    /// Kills the supervisor outright.
    pub fn kill(&mut self) {
        self.signal_supervisor(Signal::SIGKILL);
        self.wait_dead();
    }

    /// Waits for the supervisor's end.
    pub fn wait_dead(&mut self) -> ExitStatus {
        let status = wait_for(LIMIT, "the supervisor ends", || self.exited());
        self.supervisor = None;
        status
    }

    /// Waits for the supervisor to die at its fail point.
    pub fn wait_dead_at_fail_point(&mut self) {
        let status = self.wait_dead();
        assert_eq!(status.signal(), Some(Signal::SIGKILL as i32), "it was to die at a fail point: {status}");
    }

    /// How the supervisor ended, if it has.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        let child = self.supervisor.as_mut().expect("a supervisor was started");
        child.try_wait().expect("our own child can be waited for")
    }

    /// Sends a service's main process a signal; gives its pid.
    pub fn signal_service(&self, service: &str, signal: Signal) -> i32 {
        let pid = self.pid(service).expect("the service runs");
        kill(Pid::from_raw(pid), signal).expect("a service can be signalled");
        pid
    }

    /// Waits until a service runs with another main process than this one, and its probes say that it is well.
    pub fn wait_for_another(&self, service: &str, former: i32) -> i32 {
        let pid = wait_for(LIMIT, &format!("{service} runs again"), || {
            self.pid(service).filter(|pid| *pid != former)
        });
        self.wait_healthy(service);
        pid
    }

    /// Waits until a service runs and its probes say that it is well.
    pub fn wait_healthy(&self, service: &str) {
        wait_until(LIMIT, &format!("{service} runs and is healthy"), || {
            let status = self.status(service);
            status["state"] == "running" && status["verdict"] == "healthy"
        });
    }

    fn log_file(&self, start: u32) -> std::path::PathBuf {
        self.folder().join(format!("supervisor-{start}.log"))
    }

    fn clock_file(&self) -> std::path::PathBuf {
        self.folder().join("clock")
    }

    fn tell_all(&self) {
        eprintln!("---- node {} ----\n{}", self.name, self.settings.toml());
        for start in 1..=self.starts {
            let log = fs::read_to_string(self.log_file(start)).unwrap_or_default();
            eprintln!("---- supervisor, start {start} ----\n{log}");
        }
        for service in self.settings.services() {
            let record = fs::read_to_string(self.state_dir().join(format!("services/{service}.json")));
            eprintln!("---- journal of {service} ----\n{}", record.unwrap_or_default());
            for name in ["criu/dump.log", "criu/restore.log", "runc.log"] {
                let path = self.run_dir().join("services").join(service).join(name);
                if let Ok(text) = fs::read_to_string(path) {
                    let from = text.lines().count().saturating_sub(30);
                    let last: Vec<&str> = text.lines().skip(from).collect();
                    eprintln!("---- {service}: {name} ----\n{}", last.join("\n"));
                }
            }
        }
        let (members, shims) = (self.traces.members(), self.traces.shims());
        eprintln!("---- members {members:?}, shims {shims:?} ----");
    }
}

/// The children of a process that has one thread.
#[must_use]
pub fn children(pid: i32) -> Vec<i32> {
    let listed = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    listed.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tell_all();
        }
        if let Some(mut child) = self.supervisor.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
        self.traces.clear();
        // The folder may be being written to by what has just died; the next removal finds it still.
        let begun = std::time::Instant::now();
        while fs::remove_dir_all(self.root.path()).is_err_and(|e| e.kind() != std::io::ErrorKind::NotFound)
            && begun.elapsed() < Duration::from_secs(2)
        {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
