//! A machine of a test: a real systemd as process 1, on a pure cgroup v2, in namespaces of its own.
//!
//! Its root is what set-up made; what is written to it is in memory and gone with it. Dropped, it is switched off, panic or not; after
//! a panic its log is printed first. Refuses to change the host: its network, its mounts and its settings of the kernel are
//! apart.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use engine::freeze::Hierarchies;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::counter::Counter;
use crate::event::{self, Event};
use crate::host::{Host, cache_folder, skip};
use crate::network::Network;
use crate::node::Exchange;
use crate::settings::Runtime;
use crate::wait::{LIMIT, wait_for, wait_until};

/// Where the configuration is in it.
pub const CONFIG: &str = "/etc/supervisor/ha.toml";
/// A boot starts some dozens of processes.
const BOOT_MAX: Duration = Duration::from_secs(90);
const CRIU: &str = "/usr/local/sbin/criu";
const CGROUP: &str = "supervisor-machine-";

/// One machine.
#[derive(Debug)]
pub struct Machine {
    host: &'static Host,
    outer: Child,
    init: i32,
    cgroup: PathBuf,
    network: &'static Network,
    _folder: TempDir,
}

impl Machine {
    /// One that has booted, or nothing after having said why the test is skipped.
    ///
    /// # Panics
    /// Where nothing may be skipped (`CI=true`), and if it does not boot.
    #[must_use]
    pub fn or_skip() -> Option<Self> {
        Self::sharing_or_skip(Path::new(""))
    }

    /// The same, with this folder as its `/srv`.
    ///
    /// # Panics
    /// As [`Machine::or_skip`].
    #[must_use]
    pub fn sharing_or_skip(shared: &Path) -> Option<Self> {
        let host = Host::or_skip(Runtime::Process)?;
        let root = cache_folder().join("unpacked/machine");
        if !root.is_dir() {
            skip(&format!("{} is not there; `cargo xtask setup` makes it", root.display()));
            return None;
        }
        let Some(cgroups) = Hierarchies::find().ok().and_then(|found| found.unified) else {
            skip("no cgroup v2 is mounted");
            return None;
        };
        let machine = Self::boot(host, &root, &cgroups, shared);
        wait_until(BOOT_MAX, "the machine has booted", || {
            let said = machine.run(&["systemctl", "is-system-running"]).stdout;
            assert_ne!(said.trim(), "degraded", "{}", machine.run(&["systemctl", "--failed"]).stdout);
            said.trim() == "running"
        });
        machine.bring_criu();
        Some(machine)
    }

    fn boot(host: &'static Host, root: &Path, cgroups: &Path, shared: &Path) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        sweep(cgroups);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let cgroup = cgroups.join(format!("{CGROUP}{}-{number}", std::process::id()));
        fs::create_dir(&cgroup).expect("a cgroup for the machine");
        let folder = tempfile::Builder::new().prefix("supervisor-test-").tempdir().expect("a folder");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/machine/boot.sh");
        let mut command = Command::new("sh");
        command.arg(script).arg(root).arg(folder.path()).arg(&cgroup).arg(shared).stdin(Stdio::null());
        // SAFETY: it only calls prctl. A machine does not outlive its test, however that ends.
        unsafe {
            command.pre_exec(|| nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(Into::into));
        }
        let outer = command.spawn().expect("sh can be run");
        let pid = outer.id();
        let children = format!("/proc/{pid}/task/{pid}/children");
        let init = wait_for(LIMIT, "the machine's process 1", || {
            let init: i32 = fs::read_to_string(&children).ok()?.split_whitespace().next()?.parse().ok()?;
            // Until then its namespaces are not what they will be.
            fs::read_to_string(format!("/proc/{init}/comm")).ok().filter(|comm| comm.trim() == "systemd")?;
            Some(init)
        });
        // Counters are `Copy` and know their network for good.
        let network = Box::leak(Box::new(Network::at(format!("/proc/{init}/ns/net").into())));
        Self { host, outer, init, cgroup, network, _folder: folder }
    }

    /// Runs a command in it, as root.
    ///
    /// # Panics
    /// If there is no `nsenter`.
    #[must_use]
    pub fn run(&self, argv: &[&str]) -> Exchange {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.init.to_string(), "--all", "--wd=/", "--"]).args(argv);
        command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin");
        Exchange::of(&command.stdin(Stdio::null()).output().expect("nsenter can be run"))
    }

    /// The same for one that must succeed; gives what it printed.
    ///
    /// # Panics
    /// If it fails.
    pub fn done(&self, argv: &[&str]) -> String {
        let said = self.run(argv);
        assert_eq!(said.code, Some(0), "{argv:?}: {said:?}");
        said.stdout.trim().to_owned()
    }

    /// A path of it, as this process sees it.
    #[must_use]
    pub fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.init))
    }

    /// Writes a file in it, and the folders above.
    ///
    /// # Panics
    /// If it cannot.
    pub fn write(&self, inside: &str, text: &str) {
        let path = self.path(inside);
        fs::create_dir_all(path.parent().expect("a file is in a folder")).expect("a folder in the machine");
        fs::write(path, text).expect("a file in the machine");
    }

    /// Copies a program of this host into a folder of it.
    ///
    /// # Panics
    /// If it cannot.
    pub fn bring(&self, program: &Path, folder: &str) {
        let name = program.file_name().expect("a program has a name");
        fs::copy(program, self.path(folder).join(name)).expect("a program in the machine");
    }

    /// The supervisor under test and the counter, in `/usr/local/bin`.
    pub fn bring_programs(&self) {
        self.bring(&self.host.supervisor, "/usr/local/bin");
        self.bring_counter();
    }

    /// The counter, in `/usr/local/bin`.
    pub fn bring_counter(&self) {
        self.bring(&self.host.counter, "/usr/local/bin");
    }

    /// What talks to a counter that listens on a port of its loopback.
    #[must_use]
    pub fn counter(&self, port: u16) -> Counter {
        Counter::inside(self.network, ([127, 0, 0, 1], port).into())
    }

    /// What systemd says of a unit.
    #[must_use]
    pub fn property(&self, unit: &str, name: &str) -> String {
        self.done(&["systemctl", "show", "--property", name, "--value", unit])
    }

    /// Sends a signal to a process of it, by the pid that it has there.
    pub fn signal(&self, pid: &str, signal: &str) {
        self.done(&["sh", "-c", &format!("kill -{signal} {pid}")]);
    }

    /// A command of the supervisor that must work; gives its JSON.
    ///
    /// # Panics
    /// If it fails.
    #[must_use]
    pub fn json(&self, arguments: &[&str]) -> Value {
        let said = self.done(&[&["supervisor", "--output", "json"], arguments].concat());
        serde_json::from_str(&said).unwrap_or_else(|e| panic!("supervisor {arguments:?}: {e}: {said}"))
    }

    /// Waits until a service runs and is healthy; gives its pid.
    ///
    /// # Panics
    /// If it does not become so.
    #[must_use]
    pub fn healthy(&self, service: &str) -> i64 {
        wait_for(LIMIT, &format!("{service} is healthy"), || {
            let said = self.run(&["supervisor", "--output", "json", "status"]).stdout;
            let status: Value = serde_json::from_str(&said).ok()?;
            let found = status["services"].as_array()?.iter().find(|s| s["name"] == service)?;
            (found["state"] == "running" && found["verdict"] == "healthy").then(|| found["pid"].as_i64())?
        })
    }

    /// Everything that the supervisor said that happened.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        event::read(&self.path("/var/lib/supervisor/events.log"))
    }

    /// How many events of this kind there were.
    #[must_use]
    pub fn count(&self, kind: &str) -> usize {
        self.events().iter().filter(|event| event.kind == kind).count()
    }

    /// The host's CRIU, the libraries that it needs and the machine lacks, and where the supervisor finds it.
    fn bring_criu(&self) {
        fs::copy(&self.host.criu, self.path(CRIU)).expect("a program in the machine");
        let listed = Command::new("ldd").arg(&self.host.criu).output().expect("ldd can be run");
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        let libraries = listed.lines().filter_map(|line| line.split_once("=> ")?.1.split(' ').next());
        for library in libraries.filter(|library| !self.path(library).exists()) {
            fs::copy(library, self.path(library)).expect("a library in the machine");
        }
        self.write("/etc/default/supervisor", &format!("SUPERVISOR_CRIU={CRIU}\n"));
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.run(&["journalctl", "--no-pager", "--lines=200", "--output=short-precise"]);
            eprintln!("---- the machine's log ----\n{}", log.stdout);
        }
        // Process 1 takes all others with it, and its parent ends after it.
        let _ = kill(Pid::from_raw(self.init), Signal::SIGKILL);
        let _ = self.outer.wait();
        remove_cgroup(&self.cgroup);
    }
}

/// What machines have left whose tests were killed.
fn sweep(cgroups: &Path) {
    let entries = fs::read_dir(cgroups).into_iter().flatten().flatten().map(|entry| entry.path());
    for cgroup in entries {
        let name = cgroup.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let owner = name.strip_prefix(CGROUP).and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            remove_cgroup(&cgroup);
        }
    }
}

/// With all below it, the deepest first. Its members are dead; the kernel may take a moment to see it.
fn remove_cgroup(cgroup: &Path) {
    for below in fs::read_dir(cgroup).into_iter().flatten().flatten().filter(|e| e.path().is_dir()) {
        remove_cgroup(&below.path());
    }
    wait_until(LIMIT, "a cgroup of a machine that is off is empty", || match fs::remove_dir(cgroup) {
        Ok(()) => true,
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    });
}
