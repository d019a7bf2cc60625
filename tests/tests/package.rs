//! The Debian package, on a Debian with systemd: installed, upgraded over running services, removed, purged.

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

/// What `cargo xtask package` makes of the program under test.
fn packed(into: &Path, revision: &str) -> PathBuf {
    let mut pack = Command::new(program("xtask"));
    pack.args(["package", "--quick", "--revision", revision, "--program"]).arg(program("supervisor"));
    let output = pack.arg("--into").arg(into).stdin(Stdio::null()).output().expect("xtask can be run");
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let made = said.lines().filter_map(|line| line.strip_prefix("package: "));
    made.map(PathBuf::from).find(|file| file.extension().is_some_and(|e| e == "deb")).expect("a package")
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

    let said = install(&machine, &packed(folder.path(), "1"));
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

    install(&machine, &packed(folder.path(), "2"));
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
