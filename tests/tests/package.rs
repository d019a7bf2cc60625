//! The Debian package, on a Debian with systemd: installed, upgraded over running services, removed, purged. And the tarball of the static
//! program, in a folder with nothing else in it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use system_tests::bad_days::program;
use system_tests::{CONFIG, Machine};

const UNIT: &str = "supervisor.service";
const PACKAGE: &str = "supervisor-ha";
const COUNTER: &str = "\
[service.counter]
process = { command = [\"/usr/local/bin/counter\", \"--listen\", \"127.0.0.1:8080\"] }
[service.counter.checkpoint]
interval = \"never\"
[service.counter.probe.health]
http = { url = \"http://127.0.0.1:8080/health\" }
";

/// What `cargo xtask package` makes of a program: the files.
fn packed(program_under_test: &Path, into: &Path, revision: &str) -> Vec<PathBuf> {
    let mut pack = Command::new(program("xtask"));
    pack.args(["package", "--quick", "--revision", revision, "--program"]).arg(program_under_test);
    let output = pack.arg("--into").arg(into).stdin(Stdio::null()).output().expect("xtask can be run");
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.lines().filter_map(|line| line.strip_prefix("package: ")).map(PathBuf::from).collect()
}

fn debian_package(into: &Path, revision: &str) -> PathBuf {
    let made = packed(&program("supervisor"), into, revision);
    made.into_iter().find(|file| file.extension().is_some_and(|e| e == "deb")).expect("a package")
}

/// Installs it as an administrator who keeps what was edited; gives what was said.
fn install(machine: &Machine, package: &Path) -> String {
    machine.bring(package, "/root");
    let name = package.file_name().expect("a file has a name").to_string_lossy();
    machine.done(&["dpkg", "--force-confold", "--install", &format!("/root/{name}")])
}

#[test]
fn installed_upgraded_over_running_services_removed_and_purged() {
    let Some(machine) = Machine::or_skip() else { return };
    machine.bring_counter();
    let folder = tempfile::tempdir().expect("a folder");
    let edited =
        std::fs::read_to_string(machine.path("/etc/default/supervisor")).expect("CRIU is named there");

    let said = install(&machine, &debian_package(folder.path(), "1"));
    assert!(said.contains("nothing is started yet: supervisor init"), "{said}");
    assert_eq!(machine.property(UNIT, "ActiveState"), "inactive");
    assert_eq!(machine.run(&["systemctl", "is-enabled", UNIT]).stdout.trim(), "disabled");
    is_whole(&machine);

    machine.write(CONFIG, COUNTER);
    machine.done(&["systemctl", "enable", "--now", UNIT]);
    let service = machine.healthy("counter");
    let counter = machine.counter(8080);
    counter.count_to(4);
    let supervisor = machine.property(UNIT, "MainPID");

    install(&machine, &debian_package(folder.path(), "2"));
    assert_ne!(machine.property(UNIT, "MainPID"), supervisor, "the new version runs");
    assert_eq!(machine.healthy("counter"), service, "the service never stopped");
    assert_eq!(counter.value(), 4);
    // A shim of the version before serves the new one.
    let taken = machine.json(&["checkpoint", "counter"]);
    assert_eq!(taken["outcome"], "done", "{taken}");

    let said = machine.done(&["dpkg", "--remove", PACKAGE]);
    assert!(said.contains("services run on without a supervisor"), "{said}");
    assert_eq!(machine.property(UNIT, "ActiveState"), "inactive");
    assert_eq!(machine.property(UNIT, "LoadState"), "not-found");
    assert!(!machine.path("/usr/bin/supervisor").exists());
    assert_eq!(counter.value(), 4, "the service runs on");
    let kept = std::fs::read_to_string(machine.path("/etc/default/supervisor")).expect("it is a conffile");
    assert_eq!(kept, edited, "as it was edited");

    machine.done(&["dpkg", "--purge", PACKAGE]);
    assert!(!machine.path("/etc/default/supervisor").exists());
    assert!(machine.path(CONFIG).exists(), "no package has written it");
    assert!(machine.path("/var/lib/supervisor/images/counter").is_dir(), "images are not the package's");
}

/// What is installed is there and fits together.
fn is_whole(machine: &Machine) {
    let doc = format!("/usr/share/doc/{PACKAGE}");
    let said = machine.done(&["supervisor", "--config", &format!("{doc}/examples/ha.toml"), "check"]);
    assert!(said.contains("no mistakes, 2 services"), "{said}");
    let unit = "/usr/lib/systemd/system/supervisor.service";
    // The pages of its Documentation= are there; the program that would show them is not, on a Debian this small.
    let verified = machine.run(&["systemd-analyze", "--man=no", "verify", unit]);
    assert_eq!((verified.code, verified.stderr.as_str()), (Some(0), ""));
    for page in ["supervisor", "supervisor-checkpoint", "supervisor-install-unit", "supervisor-cert-issue"] {
        let page = machine.done(&["zcat", &format!("/usr/share/man/man1/{page}.1.gz")]);
        assert!(page.contains(".SH NAME"), "{page}");
    }
    let completions = "/usr/share/bash-completion/completions/supervisor";
    let script = format!(
        ". {completions}; COMP_WORDS=(supervisor check); COMP_CWORD=1; \
         _supervisor supervisor check supervisor; echo ${{COMPREPLY[*]}}"
    );
    assert_eq!(machine.done(&["bash", "-c", &script]), "check checkpoint");
}

/// A folder that is all of the file system to the program in it.
struct Alone(tempfile::TempDir);

impl Alone {
    /// Of the tarball nothing but the program.
    fn with(tarball: &Path) -> Self {
        let root = tempfile::tempdir().expect("a folder");
        let mut tar = Command::new("tar");
        tar.arg("--extract").arg("--file").arg(tarball).arg("--directory").arg(root.path());
        let unpacked = tar.arg("usr/bin/supervisor").status().expect("tar can be run");
        assert!(unpacked.success(), "{unpacked}");
        Self(root)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        std::fs::create_dir_all(path.parent().expect("it lies in a folder")).expect("room");
        std::fs::write(path, text).expect("room");
    }

    /// Nobody but its owner may read it.
    fn close(&self, path: &str) {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(self.0.path().join(path), mode).expect("it is ours");
    }

    fn supervisor(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let mut command = Command::new("chroot");
        command.arg(self.0.path()).arg("/usr/bin/supervisor").args(arguments).stdin(Stdio::null());
        let output = command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).output();
        let output = output.expect("chroot can be run");
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    }
}

#[test]
fn the_static_program_needs_nothing_but_itself() {
    let Some(built) = std::env::var_os("SUPERVISOR_STATIC").map(PathBuf::from) else {
        assert!(std::env::var_os("CI").is_none(), "`cargo xtask test` builds it");
        return eprintln!("SKIPPED: no static program; `cargo xtask test` builds one");
    };
    if !nix::unistd::geteuid().is_root() {
        return eprintln!("SKIPPED: only root can change its root");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let made = packed(&built, folder.path(), "1");
    let name = |file: &&PathBuf| file.to_string_lossy().ends_with("-linux-static.tar.gz");
    let alone = Alone::with(made.iter().find(name).expect("a tarball that says so"));
    let program = alone.0.path().join("usr/bin/supervisor");
    let asked = Command::new("ldd").arg(&program).output().expect("ldd can be run");
    assert!(String::from_utf8_lossy(&asked.stdout).contains("statically linked"), "{asked:?}");

    assert_eq!(
        alone.supervisor(&["--version"]),
        (Some(0), format!("supervisor {}\n", env!("CARGO_PKG_VERSION")))
    );
    alone.write("etc/ha.toml", "[service.shop]\nprocess = { command = [\"/shop\"] }\n");
    let (code, said) = alone.supervisor(&["--config", "/etc/ha.toml", "check"]);
    assert!(code == Some(0) && said.contains("no mistakes, 1 service"), "{code:?}: {said}");
    alone.write("etc/ha.toml", "[service.shop]\n");
    let (code, said) = alone.supervisor(&["--config", "/etc/ha.toml", "check"]);
    assert!(code == Some(2) && said.contains("error"), "{code:?}: {said}");
}

/// Modules of the host's for names would be of another C library.
#[test]
fn the_static_program_looks_names_up_by_itself() {
    let Some(built) = std::env::var_os("SUPERVISOR_STATIC").map(PathBuf::from) else {
        return eprintln!("SKIPPED: no static program; `cargo xtask test` builds one");
    };
    if !nix::unistd::geteuid().is_root() {
        return eprintln!("SKIPPED: only root can change its root");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let made = packed(&built, folder.path(), "1");
    let alone =
        Alone::with(made.iter().find(|file| file.extension().is_some_and(|e| e == "gz")).expect("a tarball"));
    alone.write("etc/nsswitch.conf", "hosts: mdns4_minimal resolve [!UNAVAIL=return]\n");
    alone.write("etc/hosts", "127.0.0.1 shop.test\n");
    alone.write("token", &"t".repeat(40));
    alone.close("token");
    let ask = |host: &str| {
        let url = format!("https://{host}:1");
        alone.supervisor(&["--url", &url, "--token-file", "/token", "status"]).1
    };
    assert!(ask("shop.test").contains("refused"), "the name is found: {}", ask("shop.test"));
    let unknown = ask("nowhere.test");
    assert!(!unknown.contains("refused") && unknown.contains("nowhere.test"), "{unknown}");
}
