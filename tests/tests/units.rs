//! Services that are units of a real systemd: restored by it, watched, stopped by it and past it.

use system_tests::bad_days::program;
use system_tests::{CONFIG, Counter, LIMIT, Machine, wait_for, wait_until};

const SUPERVISOR: &str = "supervisor.service";
const UNIT: &str = "tally.service";
const TALLY: &str = "\
[Unit]
Description=A counter
[Service]
ExecStart=/usr/local/bin/counter --listen 127.0.0.1:8080
";
const COUNTER: &str = "\
[service.counter]
systemd = { unit = \"tally.service\" }
[service.counter.checkpoint]
interval = \"never\"
trial = false
on = []
[service.counter.probe.health]
http = { url = \"http://127.0.0.1:8080/health\" }
interval = \"500ms\"
timeout = \"500ms\"
start_period = \"15s\"
[service.counter.restart]
backoff_initial = \"50ms\"
";
/// What a service without probes is told of.
const TICKER: &str = "\
[service.ticker]
systemd = { unit = \"ticker.service\" }
[service.ticker.checkpoint]
interval = \"never\"
trial = false
on = []
";

/// A machine whose supervisor runs these services.
fn installed(units: &[(&str, &str)], config: &str) -> Option<Machine> {
    Some(installed_on(Machine::or_skip()?, units, config))
}

fn installed_on(machine: Machine, units: &[(&str, &str)], config: &str) -> Machine {
    machine.bring_programs();
    for (name, text) in units {
        machine.write(&format!("/etc/systemd/system/{name}"), text);
    }
    machine.done(&["systemctl", "daemon-reload"]);
    machine.write(CONFIG, config);
    machine.done(&["supervisor", "--config", CONFIG, "install-unit", "--enable"]);
    machine
}

/// With a counter that is healthy.
fn with_counter(unit: &str, config: &str) -> Option<(Machine, Counter)> {
    let machine = installed(&[(UNIT, unit)], config)?;
    let counter = machine.counter(8080);
    let _ = machine.healthy("counter");
    Some((machine, counter))
}

/// An image that is worth restoring.
fn checkpoint(machine: &Machine, service: &str) -> String {
    let judged = machine.count("image-judged");
    let taken = machine.json(&["checkpoint", service]);
    assert_eq!(taken["outcome"], "done", "{taken}");
    wait_until(LIMIT, "the image is judged", || machine.count("image-judged") > judged);
    taken["image"].as_str().expect("an image").to_owned()
}

/// The unit's main process as systemd knows it.
fn main_process(machine: &Machine, unit: &str) -> String {
    machine.property(unit, "MainPID")
}

fn kill_and_recover(machine: &Machine, service: &str, unit: &str) -> String {
    let before = machine.count("recovered");
    machine.signal(&main_process(machine, unit), "KILL");
    wait_until(LIMIT, &format!("{service} is back"), || machine.count("recovered") > before);
    let events = machine.events();
    let back = events.iter().rev().find(|event| event.kind == "recovered").expect("it was waited for");
    back.text.clone()
}

fn state(machine: &Machine, service: &str) -> String {
    let status = machine.json(&["status"]);
    let services = status["services"].as_array().expect("services");
    let found = services.iter().find(|found| found["name"] == service).expect("it is configured");
    found["state"].as_str().unwrap_or_default().to_owned()
}

/// What a restore writes for systemd is gone, from the folder and from its memory.
fn nothing_is_left(machine: &Machine, unit: &str) {
    wait_until(LIMIT, "systemd has forgotten the drop-in", || {
        machine.property(unit, "DropInPaths").is_empty() && machine.property(unit, "Type") == "simple"
    });
    assert!(!machine.path(&format!("/run/systemd/system/{unit}.d")).exists());
    assert_eq!(machine.property(unit, "NeedDaemonReload"), "no");
}

#[test]
fn a_unit_that_was_killed_is_restored_and_systemd_agrees() {
    let Some((machine, counter)) = with_counter(TALLY, COUNTER) else { return };
    assert_eq!(machine.property(UNIT, "ActiveState"), "active", "the supervisor has started it");
    let first = main_process(&machine, UNIT);
    assert_eq!(machine.healthy("counter").to_string(), first);
    counter.count_to(5);
    checkpoint(&machine, "counter");
    counter.count_to(9);

    let back = kill_and_recover(&machine, "counter", UNIT);
    assert!(back.contains("restore-latest") && back.contains("signal 9"), "{back}");
    assert_eq!(counter.value(), 5, "as it was at the checkpoint");
    counter.assert_whole();
    assert_eq!(main_process(&machine, UNIT), first, "the restored process is the unit's main process");
    assert_eq!(machine.property(UNIT, "ActiveState"), "active");
    machine.done(&["systemctl", "status", UNIT]);
    let cgroup = machine.done(&["cat", &format!("/proc/{first}/cgroup")]);
    assert!(cgroup.lines().any(|line| line == format!("0::/system.slice/{UNIT}")), "{cgroup}");
    let parent = machine.done(&["sed", "-n", "s/^PPid:\\t//p", &format!("/proc/{first}/status")]);
    assert_eq!(parent, "1", "systemd's child, so that it knows how it ends");
    nothing_is_left(&machine, UNIT);

    // Again, from an image of what was restored.
    counter.count_to(12);
    checkpoint(&machine, "counter");
    let back = kill_and_recover(&machine, "counter", UNIT);
    assert!(back.contains("restore-latest"), "{back}");
    assert_eq!(counter.value(), 12);
    nothing_is_left(&machine, UNIT);

    // And systemd stops what was restored.
    machine.done(&["supervisor", "stop", "counter"]);
    assert_eq!(machine.property(UNIT, "ActiveState"), "inactive");
    assert!(!counter.answers());
    machine.done(&["supervisor", "start", "counter"]);
    let _ = machine.healthy("counter");
    assert_eq!(counter.value(), 0, "from scratch, as asked for");
    assert_eq!(machine.count("stopped-outside"), 0, "{:?}", machine.events());
}

#[test]
fn a_restored_unit_still_writes_to_the_journal() {
    let unit =
        "[Service]\nExecStart=/bin/sh -c 'n=0; while :; do n=$$((n+1)); echo tick $$n; sleep 0.1; done'\n";
    let Some(machine) = installed(&[("ticker.service", unit)], TICKER) else { return };
    let ticks = || -> Vec<u64> {
        let by_name =
            ["journalctl", "--no-pager", "--output=cat", "--unit=ticker.service", "--identifier=sh"];
        let log = machine.run(&by_name).stdout;
        log.lines().filter_map(|line| line.strip_prefix("tick ")?.parse().ok()).collect()
    };
    let last = || ticks().last().copied().unwrap_or_default();
    wait_until(LIMIT, "it ticks", || last() > 3);
    checkpoint(&machine, "ticker");
    let kept = last();
    wait_until(LIMIT, "it goes on", || last() > kept + 5);
    let back = kill_and_recover(&machine, "ticker", "ticker.service");
    assert!(back.contains("restore-latest"), "{back}");
    let again = wait_for(LIMIT, "it ticks again", || {
        let ticks = ticks();
        let at = ticks.windows(2).position(|pair| pair[1] < pair[0])?;
        Some(ticks[at + 1])
    });
    assert!((2..=kept + 2).contains(&again), "from the image of tick {kept} on, not from {again}");
    wait_until(LIMIT, "and on", || last() > kept + 10);
}

#[test]
fn what_somebody_does_with_systemctl_is_respected_and_said() {
    let Some((machine, counter)) = with_counter(TALLY, COUNTER) else { return };
    counter.count_to(4);
    checkpoint(&machine, "counter");

    machine.done(&["systemctl", "stop", UNIT]);
    wait_until(LIMIT, "it is stopped", || state(&machine, "counter") == "stopped");
    assert_eq!(machine.count("stopped-outside"), 1);
    assert_eq!(machine.property(UNIT, "ActiveState"), "inactive");
    assert_eq!(machine.count("recovered"), 0, "{:?}", machine.events());
    machine.done(&["supervisor", "start", "counter"]);
    let first = machine.healthy("counter");
    counter.count_to(6);

    machine.done(&["systemctl", "restart", UNIT]);
    wait_until(LIMIT, "that is said", || machine.count("restarted-outside") == 1);
    let second = wait_for(LIMIT, "the new process is watched", || {
        Some(machine.healthy("counter")).filter(|pid| *pid != first)
    });
    assert_eq!(second.to_string(), main_process(&machine, UNIT), "taken over as it is");
    assert_eq!((counter.value(), machine.count("recovered")), (0, 0), "{:?}", machine.events());
    // And it is watched.
    counter.count_to(3);
    checkpoint(&machine, "counter");
    kill_and_recover(&machine, "counter", UNIT);
    assert_eq!(counter.value(), 3);

    // While no supervisor runs, too.
    machine.done(&["systemctl", "stop", SUPERVISOR]);
    machine.done(&["systemctl", "stop", UNIT]);
    machine.done(&["systemctl", "start", SUPERVISOR]);
    wait_until(LIMIT, "it is left stopped", || state(&machine, "counter") == "stopped");
    assert_eq!(machine.count("stopped-outside"), 2);
    machine.done(&["systemctl", "restart", SUPERVISOR]);
    wait_until(LIMIT, "it is left stopped", || state(&machine, "counter") == "stopped");
    assert!(!counter.answers());
}

#[test]
fn a_unit_outlives_its_supervisor_and_is_taken_back() {
    let Some((machine, counter)) = with_counter(TALLY, COUNTER) else { return };
    counter.count_to(7);
    checkpoint(&machine, "counter");
    let service = machine.healthy("counter");
    let supervisor = machine.property(SUPERVISOR, "MainPID");
    machine.signal(&supervisor, "KILL");
    wait_until(LIMIT, "it is taken back", || machine.count("adopted") == 1);
    assert_eq!(machine.healthy("counter"), service);
    assert_eq!(counter.value(), 7);
    kill_and_recover(&machine, "counter", UNIT);
    assert_eq!(counter.value(), 7);

    // It dies while nobody watches.
    machine.done(&["systemctl", "stop", SUPERVISOR]);
    machine.signal(&main_process(&machine, UNIT), "KILL");
    wait_until(LIMIT, "systemd sees it", || machine.property(UNIT, "ActiveState") == "failed");
    machine.done(&["systemctl", "start", SUPERVISOR]);
    wait_until(LIMIT, "it is back", || machine.count("recovered") == 2);
    let _ = machine.healthy("counter");
    assert_eq!(counter.value(), 7);
    assert_eq!(machine.count("stopped-outside"), 0, "{:?}", machine.events());
}

#[test]
fn a_pid_that_is_taken_is_said_and_a_cold_start_follows() {
    let once = format!("{COUNTER}attempts_per_image = 1\n");
    let Some((machine, counter)) = with_counter(TALLY, &once) else { return };
    machine.bring(&program("hold_pid"), "/usr/local/bin");
    counter.count_to(8);
    checkpoint(&machine, "counter");
    // Held, so that there is time to take the pid.
    machine.done(&["supervisor", "pause", "counter"]);
    let pid = main_process(&machine, UNIT);
    machine.signal(&pid, "KILL");
    wait_until(LIMIT, "it is held", || machine.count("held") == 1);
    let hold = format!("sleep infinity | hold_pid {pid}");
    machine.done(&["systemd-run", "--quiet", "--unit=thief", "/bin/sh", "-c", &hold]);
    wait_until(LIMIT, "the pid is taken", || {
        machine.run(&["cat", &format!("/proc/{pid}/comm")]).stdout.trim() == "hold_pid"
    });
    machine.done(&["supervisor", "unpause", "counter"]);
    wait_until(LIMIT, "it is back", || machine.count("recovered") == 1);
    let events = machine.events();
    let failed = events.iter().find(|event| event.kind == "rung-failed").expect("a restore was tried");
    assert!(
        failed.text.contains(&format!("another process has its pid {pid} (hold_pid)")),
        "{}",
        failed.text
    );
    let back = events.iter().find(|event| event.kind == "recovered").expect("it was waited for");
    assert!(back.text.contains("cold-start"), "{}", back.text);
    assert_eq!(counter.value(), 0);
    assert_eq!(machine.property(UNIT, "ActiveState"), "active");
    nothing_is_left(&machine, UNIT);
}

#[test]
fn doctor_says_what_keeps_a_unit_from_being_checkpointed() {
    let apart = format!("{TALLY}PrivateTmp=yes\nProtectSystem=full\n");
    let Some((machine, counter)) = with_counter(&apart, COUNTER) else { return };
    let refused = machine.run(&["supervisor", "doctor", "counter"]);
    assert_ne!(refused.code, Some(0), "{refused:?}");
    for expected in
        ["mounts of its own", "PrivateTmp=yes, ProtectSystem=full", "PrivateTmp=no ProtectSystem=no"]
    {
        assert!(refused.stderr.contains(expected), "{expected}: {refused:?}");
    }
    assert!(counter.answers());

    // As the remedy says.
    let drop_in = format!("/etc/systemd/system/{UNIT}.d/plain.conf");
    machine.write(&drop_in, "[Service]\nPrivateTmp=no\nProtectSystem=no\n");
    machine.done(&["systemctl", "daemon-reload"]);
    machine.done(&["systemctl", "restart", UNIT]);
    wait_until(LIMIT, "it is taken over", || machine.count("restarted-outside") == 1);
    wait_until(LIMIT, "it can be checkpointed", || {
        machine.run(&["supervisor", "doctor", "counter"]).code == Some(0)
    });

    let dynamic = format!("{drop_in}2.conf");
    machine.write(&dynamic, "[Service]\nDynamicUser=yes\n");
    machine.done(&["systemctl", "daemon-reload"]);
    machine.done(&["systemctl", "restart", UNIT]);
    wait_until(LIMIT, "it is taken over", || machine.count("restarted-outside") == 2);
    let _ = machine.healthy("counter");
    let refused = machine.run(&["supervisor", "doctor", "counter"]);
    assert!(refused.stderr.contains("DynamicUser=yes"), "{refused:?}");
}

#[test]
fn a_unit_that_systemd_restarts_by_itself_is_said_and_still_restored() {
    let eager = format!("{TALLY}Restart=always\nRestartSec=100ms\n[Install]\nWantedBy=multi-user.target\n");
    let Some((machine, counter)) = with_counter(&eager, COUNTER) else { return };
    machine.done(&["systemctl", "enable", UNIT]);
    let checked = machine.done(&["supervisor", "--config", CONFIG, "check"]);
    for expected in ["(Restart=always), which takes it out of our hands", "systemctl disable tally.service"] {
        assert!(checked.contains(expected), "{expected} is not in {checked}");
    }
    let log = machine.done(&["journalctl", "--no-pager", "--unit", SUPERVISOR]);
    assert!(log.contains("takes it out of our hands"), "{log}");

    counter.count_to(5);
    checkpoint(&machine, "counter");
    let suspended = machine.run(&["supervisor", "suspend", "counter"]);
    assert!(suspended.stderr.contains("systemd would start it again at once"), "{suspended:?}");
    assert!(counter.answers());
    counter.count_to(6);
    let back = kill_and_recover(&machine, "counter", UNIT);
    assert!(back.contains("restore-latest"), "{back}");
    assert_eq!(counter.value(), 5);
}

#[test]
fn a_unit_is_suspended_and_resumed() {
    let Some((machine, counter)) = with_counter(TALLY, COUNTER) else { return };
    counter.count_to(11);
    machine.done(&["supervisor", "suspend", "counter"]);
    assert_eq!(machine.property(UNIT, "ActiveState"), "inactive");
    assert!(!counter.answers());
    machine.done(&["systemctl", "restart", SUPERVISOR]);
    wait_until(LIMIT, "it is left in its image", || state(&machine, "counter") == "suspended");
    machine.done(&["supervisor", "resume", "counter"]);
    let _ = machine.healthy("counter");
    assert_eq!(counter.value(), 11);
    assert_eq!(machine.count("stopped-outside"), 0, "{:?}", machine.events());
}

#[test]
fn a_unit_that_does_not_exist_or_does_not_stay_is_refused() {
    let once = "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n";
    let ticker = TICKER.replace("ticker.service", "nowhere.service");
    let once_config =
        TICKER.replace("service.ticker", "service.once").replace("ticker.service", "once.service");
    let config = format!("{ticker}\n{once_config}");
    let Some(machine) = installed(&[("once.service", once)], &config) else { return };
    let said = |service: &str, expected: &str| {
        wait_until(LIMIT, expected, || {
            let events = machine.events();
            events.iter().any(|e| {
                e.kind == "start-failed" && e.service.as_deref() == Some(service) && e.text.contains(expected)
            })
        });
    };
    said("ticker", "find the unit nowhere.service");
    said("once", "not Type=oneshot");
}

/// The configuration of one of two hosts that may run the counter.
fn of_two(node: &str) -> String {
    format!(
        "[node]\nname = \"{node}\"\n\
         [cluster]\nlease = \"bucket\"\nbucket = \"file:///srv/leases\"\nttl = \"4s\"\nrenew_interval = \"500ms\"\n\
         [[store.replica]]\nurl = \"file:///srv/images\"\n\
         {COUNTER}\n[service.counter.failover]\nstandby = [\"beta\"]\n"
    )
}

/// A machine with pids that the other's processes do not have: those of an image must be free.
fn one_of_two(node: &str, shared: &std::path::Path, pids_above: u32) -> Option<Machine> {
    let machine = Machine::sharing_or_skip(shared)?;
    machine.done(&["mkdir", "-p", "/srv/leases", "/srv/images"]);
    machine.done(&["sh", "-c", &format!("echo {pids_above} > /proc/sys/kernel/ns_last_pid")]);
    Some(installed_on(machine, &[(UNIT, TALLY)], &of_two(node)))
}

#[test]
fn a_unit_is_taken_over_when_its_host_is_lost() {
    let shared = tempfile::tempdir().expect("a folder");
    let Some(alpha) = one_of_two("alpha", shared.path(), 10_000) else { return };
    let _ = alpha.healthy("counter");
    let Some(beta) = one_of_two("beta", shared.path(), 20_000) else { return };
    alpha.counter(8080).count_to(6);
    let image = checkpoint(&alpha, "counter");
    wait_until(LIMIT, "the standby is ready with it", || {
        beta.json(&["status"])["services"][0]["lease"]["prepared"] == image.as_str()
    });
    assert_eq!(beta.property(UNIT, "ActiveState"), "inactive");

    drop(alpha);

    wait_until(LIMIT, "it is taken over", || beta.count("recovered") == 1);
    let events = beta.events();
    let back = events.iter().find(|event| event.kind == "recovered").expect("it was waited for");
    assert_eq!(back.image.as_ref(), Some(&image), "{}", back.text);
    assert_eq!(beta.counter(8080).value(), 6);
    assert_eq!(beta.healthy("counter").to_string(), main_process(&beta, UNIT), "systemd agrees");
    nothing_is_left(&beta, UNIT);
}

#[test]
fn a_unit_ends_with_its_lease_though_the_supervisor_stands_still() {
    let shared = tempfile::tempdir().expect("a folder");
    let Some(alpha) = one_of_two("alpha", shared.path(), 10_000) else { return };
    let _ = alpha.healthy("counter");

    alpha.signal(&main_process(&alpha, SUPERVISOR), "STOP");

    wait_until(LIMIT, "systemd has seen its end", || alpha.property(UNIT, "ActiveState") == "failed");
    assert_eq!(alpha.property(UNIT, "ExecMainStatus"), "9");
}
