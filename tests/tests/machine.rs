//! Under a real systemd: the unit as `install-unit` writes it, and that services survive whatever happens to it.

use system_tests::{CONFIG, Counter, LIMIT, Machine, wait_for, wait_until};

const UNIT: &str = "supervisor.service";
const PORT: u16 = 8080;
/// A file of the counter's volume.
const NOTE: &str = "/srv/counter/note";
const COUNTER: &str = "\
[service.counter]
process = { command = [\"/usr/local/bin/counter\", \"--listen\", \"127.0.0.1:8080\"] }
[service.counter.checkpoint]
interval = \"never\"
trial = false
on = []
volumes = [\"/srv/counter\"]
[service.counter.probe.health]
http = { url = \"http://127.0.0.1:8080/health\" }
interval = \"500ms\"
timeout = \"500ms\"
start_period = \"15s\"
[service.counter.restart]
backoff_initial = \"50ms\"
";

/// A machine whose supervisor runs as a unit, with a counter under it.
fn installed() -> Option<(Machine, Counter)> {
    let machine = Machine::or_skip()?;
    machine.bring_programs();
    machine.write(CONFIG, COUNTER);
    machine.write(NOTE, "first");
    let said = machine.done(&["supervisor", "--config", CONFIG, "install-unit", "--enable"]);
    assert_eq!(
        said,
        "done:  write /etc/systemd/system/supervisor.service\n\
         done:  systemctl daemon-reload\n\
         done:  systemctl enable --now supervisor.service"
    );
    assert_eq!(machine.property(UNIT, "ActiveState"), "active");
    assert_eq!(machine.done(&["systemctl", "is-enabled", UNIT]), "enabled");
    let counter = machine.counter(PORT);
    let _ = machine.healthy("counter");
    Some((machine, counter))
}

/// Waits until a newer supervisor than that is up; gives its pid.
fn newer(machine: &Machine, former: &str) -> String {
    wait_for(LIMIT, "another supervisor is up", || {
        let pid = machine.property(UNIT, "MainPID");
        let is_up = machine.property(UNIT, "ActiveState") == "active";
        (is_up && pid != "0" && pid != former).then_some(pid)
    })
}

#[test]
fn services_survive_crash_restart_and_stop_of_the_unit_and_are_taken_back() {
    let Some((machine, counter)) = installed() else { return };
    let service = machine.healthy("counter");
    counter.count_to(7);

    let first = machine.property(UNIT, "MainPID");
    machine.signal(&first, "KILL");
    let second = newer(&machine, &first);
    assert_eq!(machine.healthy("counter"), service, "after a crash of the supervisor");
    assert_eq!(machine.property(UNIT, "NRestarts"), "1");

    machine.done(&["systemctl", "restart", UNIT]);
    let third = machine.property(UNIT, "MainPID");
    assert_ne!(third, second);
    assert_eq!(machine.healthy("counter"), service, "after a restart of the unit");

    machine.done(&["systemctl", "stop", UNIT]);
    assert_eq!(machine.property(UNIT, "ActiveState"), "inactive");
    assert_eq!(counter.value(), 7, "the service runs on without a supervisor");
    machine.done(&["systemctl", "start", UNIT]);
    assert_eq!(machine.healthy("counter"), service, "after a stop and a start");

    assert_eq!(counter.value(), 7);
    assert_eq!(machine.count("adopted"), 3, "{:?}", machine.events());
}

#[test]
fn a_supervisor_that_hangs_is_killed_by_the_watchdog() {
    let Some((machine, counter)) = installed() else { return };
    let drop_in = format!("/etc/systemd/system/{UNIT}.d/quick.conf");
    machine.write(&drop_in, "[Service]\nWatchdogSec=3s\n");
    machine.done(&["systemctl", "daemon-reload"]);
    machine.done(&["systemctl", "restart", UNIT]);
    let service = machine.healthy("counter");
    let hung = machine.property(UNIT, "MainPID");
    machine.signal(&hung, "STOP");
    let _ = newer(&machine, &hung);
    assert_eq!(machine.healthy("counter"), service);
    assert!(counter.answers());
    let log = machine.done(&["journalctl", "--no-pager", "--unit", UNIT]);
    assert!(log.contains("Watchdog timeout"), "{log}");
    assert!(log.contains("Failed with result 'watchdog'"), "{log}");
}

#[test]
fn a_reload_of_the_unit_reads_the_configuration_anew() {
    let Some((machine, counter)) = installed() else { return };
    let service = machine.healthy("counter");
    let supervisor = machine.property(UNIT, "MainPID");
    let second = COUNTER.replace("service.counter", "service.second").replace("8080", "8081");
    let second = second.replace("/srv/counter", "/srv/second");
    machine.write("/srv/second/note", "");
    machine.write(CONFIG, &format!("{COUNTER}\n{second}"));
    machine.done(&["systemctl", "reload", UNIT]);
    let _ = machine.healthy("second");
    assert!(machine.counter(8081).answers() && counter.answers());
    assert_eq!(machine.healthy("counter"), service, "it was not touched");
    assert_eq!(machine.property(UNIT, "MainPID"), supervisor);
    wait_until(LIMIT, "the unit is active again", || machine.property(UNIT, "ActiveState") == "active");
    // A change of the file is noticed without a word, so it is the signal that shows that it was asked.
    let log = machine.done(&["journalctl", "--no-pager", "--unit", UNIT]);
    assert!(log.contains("signal received") && log.contains("1 added, 0 changed"), "{log}");
}

#[test]
fn a_service_is_restored_by_criu_under_the_unit() {
    let Some((machine, counter)) = installed() else { return };
    counter.count_to(5);
    let taken = machine.json(&["checkpoint", "counter"]);
    assert_eq!(taken["outcome"], "done", "{taken}");
    wait_until(LIMIT, "the image is good", || {
        machine.events().iter().any(|e| e.kind == "image-judged" && e.text.ends_with("is good"))
    });
    counter.count_to(9);
    machine.write(NOTE, "second");
    machine.signal(&machine.healthy("counter").to_string(), "KILL");
    wait_until(LIMIT, "it is restored", || machine.count("recovered") == 1);
    let _ = machine.healthy("counter");
    assert_eq!(counter.value(), 5, "as it was at the checkpoint");
    counter.assert_whole();
    let note = std::fs::read_to_string(machine.path(NOTE)).expect("the volume's file");
    assert_eq!(note, "first", "its files too, held still by the freezer of a pure cgroup v2");

    // What was restored is adopted like what was started.
    let restored = machine.healthy("counter");
    machine.done(&["systemctl", "restart", UNIT]);
    assert_eq!(machine.healthy("counter"), restored);
}

#[test]
fn the_unit_is_sound_and_is_not_written_over() {
    let Some((machine, _)) = installed() else { return };
    let file = format!("/etc/systemd/system/{UNIT}");
    assert_eq!(machine.done(&["systemd-analyze", "--man=no", "verify", &file]), "");
    let install = ["supervisor", "--config", CONFIG, "install-unit"];
    assert!(machine.done(&install).starts_with(&format!("{file} is so already")));
    machine.done(&["sed", "-i", "s/WatchdogSec=30s/WatchdogSec=7s/", &file]);
    let refused = machine.run(&install);
    assert!(refused.code == Some(4) && refused.stderr.contains("-WatchdogSec=7s"), "{refused:?}");
    machine.done(&["grep", "WatchdogSec=7s", &file]);
}
