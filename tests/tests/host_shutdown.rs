//! The host stops: a real systemd-logind is held up until services are safe.

use system_tests::{CONFIG, LIMIT, Machine, wait_until};

const COUNTER: &str = "\
[node]
on_host_shutdown = \"checkpoint\"
[service.counter]
process = { command = [\"/usr/local/bin/counter\", \"--listen\", \"127.0.0.1:8080\"] }
[service.counter.checkpoint]
interval = \"never\"
trial = false
on = [\"shutdown\"]
[service.counter.probe.health]
http = { url = \"http://127.0.0.1:8080/health\" }
[service.other]
process = { command = [\"/usr/local/bin/counter\", \"--listen\", \"127.0.0.1:8081\"] }
[service.other.checkpoint]
interval = \"never\"
trial = false
on = []
";

/// Logind waits for so long.
const DELAY: &str = "[Login]\nInhibitDelayMaxSec=60\n";

/// A node of two that have the same service; `more` goes into its own section.
fn node(name: &str, more: &str) -> String {
    format!(
        "[node]\nname = \"{name}\"\nstate_dir = \"/var/lib/{name}\"\nrun_dir = \"/run/{name}\"\n{more}\n\
         [cluster]\nlease = \"bucket\"\nbucket = \"file:///srv/leases\"\nttl = \"5s\"\nrenew_interval = \"500ms\"\n\
         [[store.replica]]\nurl = \"file:///srv/images\"\n\
         [service.counter]\n\
         process = {{ command = [\"/usr/local/bin/counter\", \"--listen\", \"127.0.0.1:8080\"] }}\n\
         failover = {{ standby = [\"beta\"] }}\n\
         checkpoint = {{ interval = \"never\", trial = false, on = [] }}\n\
         probe.health = {{ http = {{ url = \"http://127.0.0.1:8080/health\" }}, interval = \"500ms\", timeout = \"500ms\", \
         start_period = \"15s\" }}\n"
    )
}

fn counter_of(machine: &Machine, name: &str) -> serde_json::Value {
    let said = machine.run(&[
        "supervisor",
        "--socket",
        &format!("/run/{name}/api.sock"),
        "--output",
        "json",
        "status",
    ]);
    let status: serde_json::Value = serde_json::from_str(&said.stdout).unwrap_or_default();
    status["services"][0].clone()
}

/// Both nodes are on one host here, whose end is held up for as long as the test looks.
#[test]
fn services_move_to_another_node_before_the_host_stops() {
    let Some(machine) = Machine::or_skip() else { return };
    machine.write("/etc/systemd/logind.conf.d/delay.conf", DELAY);
    machine.done(&["systemctl", "restart", "systemd-logind"]);
    machine.bring_programs();
    machine.done(&["mkdir", "/srv/leases", "/srv/images"]);
    let run = |name: &str, more: &str| {
        let file = format!("/etc/supervisor/{name}.toml");
        machine.write(&file, &node(name, more));
        let unit = format!("--unit={name}");
        let under =
            ["systemd-run", "--quiet", &unit, "--property=KillMode=process", "--property=Delegate=yes"];
        let criu = "--property=EnvironmentFile=/etc/default/supervisor";
        machine.done(&[&under[..], &[criu, "/usr/local/bin/supervisor", "run", "--config", &file]].concat());
    };
    run("alpha", "on_host_shutdown = \"drain\"");
    wait_until(LIMIT, "it runs on alpha", || counter_of(&machine, "alpha")["verdict"] == "healthy");
    run("beta", "");
    let alpha = ["supervisor", "--socket", "/run/alpha/api.sock"];
    machine.done(&[&alpha[..], &["checkpoint", "counter"]].concat());
    wait_until(LIMIT, "beta is ready", || counter_of(&machine, "beta")["lease"]["prepared"].is_string());
    wait_until(LIMIT, "and alpha knows it", || {
        let said = machine.done(&[&alpha[..], &["status", "--cluster"]].concat());
        said.lines().any(|line| line.contains("beta") && line.contains("yes"))
    });
    machine.counter(8080).count_to(6);

    power_off_held_up(&machine);
    let left = || {
        let events = machine.done(&[&alpha[..], &["--output", "json", "events"]].concat());
        events.lines().find(|line| line.contains("host-left")).map(str::to_owned)
    };
    wait_until(LIMIT, "all is done", || left().is_some());
    let left = left().unwrap_or_default();
    assert!(left.contains("counter: the service serves on node beta"), "{left}");
    assert_eq!(machine.counter(8080).value(), 6, "the state of its last moment");
    wait_until(LIMIT, "the lock is let go", || !locks(&machine).contains("services are brought to safety"));
    // After the next boot it takes over again.
    assert!(!machine.path("/var/lib/alpha/draining").exists());
}

/// With a lock of our own, so that there is a host to look at afterwards.
fn power_off_held_up(machine: &Machine) {
    wait_until(LIMIT, "the lock is taken", || locks(machine).contains("services are brought to safety"));
    let hold = [
        "systemd-run",
        "--quiet",
        "--unit=hold",
        "systemd-inhibit",
        "--what=shutdown",
        "--mode=delay",
        "--who=test",
    ];
    machine.done(&[&hold[..], &["sleep", "infinity"]].concat());
    wait_until(LIMIT, "the other lock is taken", || locks(machine).contains("test"));
    machine.done(&["systemctl", "poweroff"]);
}

fn locks(machine: &Machine) -> String {
    machine.done(&["systemd-inhibit", "--list", "--no-pager"])
}

#[test]
fn services_are_on_disk_before_the_host_stops() {
    let Some(machine) = Machine::or_skip() else { return };
    machine.write("/etc/systemd/logind.conf.d/delay.conf", DELAY);
    machine.done(&["systemctl", "restart", "systemd-logind"]);
    machine.bring_programs();
    machine.write(CONFIG, COUNTER);
    machine.done(&["supervisor", "--config", CONFIG, "install-unit", "--enable"]);
    let _ = machine.healthy("counter");
    wait_until(LIMIT, "the lock is taken", || locks(&machine).contains("services are brought to safety"));
    let log = machine.done(&["journalctl", "--no-pager", "--unit=supervisor.service"]);
    assert!(log.contains("a shutdown of this host is held up for at most 1m"), "{log}");
    machine.counter(8080).count_to(5);

    power_off_held_up(&machine);
    wait_until(LIMIT, "all is done", || machine.count("host-left") == 1);
    wait_until(LIMIT, "the lock is let go", || !locks(&machine).contains("services are brought to safety"));
    let events = machine.events();
    let told = |kind: &str| events.iter().find(|event| event.kind == kind).expect("it was said").text.clone();
    assert!(told("host-stopping").contains("59s"), "{}", told("host-stopping"));
    let left = told("host-left");
    assert!(left.contains("counter: it stays; image ") && left.contains("other: it stays"), "{left}");
    assert_eq!(machine.count("image-durable"), 1, "{events:?}");
    let images = machine.json(&["images", "counter"]);
    assert_eq!(images.as_array().map(Vec::len), Some(1), "{images}");
}
