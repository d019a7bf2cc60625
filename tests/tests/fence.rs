//! A service ends at the limit of its fence whatever becomes of its supervisor and its shim, and not before.

#[path = "fence/scene.rs"]
mod scene;

use std::time::Duration;

use engine::clock;
use engine::error::Error;
use engine::freeze::Hierarchies;
use engine::runtime::Attached;
use engine::shim::protocol::{FenceOrder, FenceState};
use engine::shim::{Isolation, Shim};
use nix::sys::signal::Signal;
use policies::lease::Moment;
use scene::{Holder, Kind, Scene, dead_after, lives, order_to_arm};
use system_tests::{Containers, Engine, LIMIT, wait_until};

const SOON: Duration = Duration::from_millis(1500);
const LATE: Duration = Duration::from_secs(1000);
const SLEEP: [&str; 2] = ["sleep", "1000"];
const KINDS: [Kind; 3] = [Kind::Pid, Kind::None, Kind::Runc];

#[test]
fn a_supervisor_that_is_killed_is_not_needed() {
    for kind in KINDS {
        let Some(scene) = Scene::or_skip() else { return };
        let mut holder = Holder::start(&scene, "once", SOON, kind);
        let (pid, limit) = holder.armed();
        holder.signal(Signal::SIGKILL);
        dead_after(pid, limit);
    }
}

/// What it says when it goes on is an answer of its fence, too.
#[test]
fn a_supervisor_that_is_stopped_finds_its_service_fenced() {
    for kind in KINDS {
        let Some(scene) = Scene::or_skip() else { return };
        let mut holder = Holder::start(&scene, "renew", SOON, kind);
        let (pid, limit) = holder.armed();
        holder.signal(Signal::SIGSTOP);
        dead_after(pid, limit);
        holder.signal(Signal::SIGCONT);
        assert_eq!(holder.last_word(), "fenced");
    }
}

/// It lives beyond the first limit, and ends by a later one.
#[test]
fn arming_again_keeps_it_alive() {
    let Some(scene) = Scene::or_skip() else { return };
    let mut holder = Holder::start(&scene, "renew", 2 * SOON, Kind::Pid);
    let (pid, first) = holder.armed();
    let mut last = first;
    while !clock::now().expect("it works here").has_passed(first) {
        last = holder.armed().1;
    }
    assert!(lives(pid));
    holder.signal(Signal::SIGKILL);
    dead_after(pid, last);
}

#[tokio::test]
async fn a_shim_that_is_stopped_or_killed_is_not_needed() {
    for signal in [Signal::SIGSTOP, Signal::SIGKILL] {
        let Some(scene) = Scene::or_skip() else { return };
        // In a pid namespace of its own the service would die with its shim at once.
        let service = scene.process(Isolation::None, &SLEEP, "log").await;
        let instance = service.start().await.expect("it works here");
        let shim = Shim::connect(&scene.ground.shim_socket()).await.expect("it works here");
        let (limit, order) = order_to_arm(SOON, &instance.handle);
        shim.fence(&order).await.expect("it works here");
        scene.signal_shim(signal);
        dead_after(instance.handle.pid, limit);
        scene.end_shim();
    }
}

/// A shim that reads without end.
#[tokio::test]
async fn a_shim_that_is_busy_is_not_needed() {
    let Some(scene) = Scene::or_skip() else { return };
    let service = scene.process(Isolation::Pid, &["yes"], "/dev/null").await;
    let instance = service.start().await.expect("it works here");
    let shim = Shim::connect(&scene.ground.shim_socket()).await.expect("it works here");
    let (limit, order) = order_to_arm(SOON, &instance.handle);
    shim.fence(&order).await.expect("it works here");
    dead_after(instance.handle.pid, limit);
}

/// The disk that the output goes to does not answer: here, a pipe that nobody reads.
#[tokio::test]
async fn a_shim_that_hangs_is_not_needed() {
    let Some(scene) = Scene::or_skip() else { return };
    let log = scene.ground.run_folder.join("pipe");
    nix::unistd::mkfifo(&log, nix::sys::stat::Mode::S_IRWXU).expect("it works here");
    // It writes when it is told to, so that the fence is armed before.
    let go = scene.ground.run_folder.join("go");
    let script = format!("until test -e {}; do sleep 0.01; done; echo; exec sleep 1000", go.display());
    let service = scene.process(Isolation::Pid, &["sh", "-c", &script], "pipe").await;
    let instance = service.start().await.expect("it works here");
    let shim = Shim::connect(&scene.ground.shim_socket()).await.expect("it works here");
    let (limit, order) = order_to_arm(SOON, &instance.handle);
    shim.fence(&order).await.expect("it works here");
    std::fs::write(go, "").expect("it works here");
    dead_after(instance.handle.pid, limit);
    scene.end_shim();
}

/// As when the machine has slept: boot time is over, the monotonic clock is not. And the other way round.
#[tokio::test]
async fn either_clock_is_enough_for_the_keeper() {
    for boottime_is_soon in [true, false] {
        let Some(scene) = Scene::or_skip() else { return };
        let service = scene.process(Isolation::Pid, &SLEEP, "log").await;
        let instance = service.start().await.expect("it works here");
        let now = clock::now().expect("it works here");
        let (soon, late) = (now.after(Duration::from_millis(200)), now.after(LATE));
        let limit = if boottime_is_soon {
            Moment { boottime: soon.boottime, ..late }
        } else {
            Moment { monotonic: soon.monotonic, ..late }
        };
        let shim = Shim::connect(&scene.ground.shim_socket()).await.expect("it works here");
        let order =
            FenceOrder::Arm { limit: limit.into(), cgroup: instance.handle.cgroup.clone(), address: None };
        shim.fence(&order).await.expect("it works here");
        dead_after(instance.handle.pid, limit);
    }
}

/// Where v1's freezer is not there, v2's serves alone.
#[tokio::test]
async fn a_cgroup_of_v2_is_enough() {
    let found = Hierarchies::find().expect("it works here");
    let Some(unified) = found.unified else {
        eprintln!("SKIPPED: no cgroup v2 is mounted");
        return;
    };
    let Some(scene) = Scene::or_skip() else { return };
    let service = scene.process(Isolation::Pid, &SLEEP, "log").await;
    let instance = service.start().await.expect("it works here");
    let only = Hierarchies { freezer: None, memory: None, unified: Some(unified) };
    let cgroup = only.cgroup(&format!("supervisor-{}/fenced", scene.ground.node));
    assert_eq!(cgroup.members(), [instance.handle.pid]);
    let shim = Shim::connect(&scene.ground.shim_socket()).await.expect("it works here");
    let limit = clock::now().expect("it works here").after(Duration::from_millis(200));
    shim.fence(&FenceOrder::Arm { limit: limit.into(), cgroup, address: None }).await.expect("it works here");
    dead_after(instance.handle.pid, limit);
}

/// Past its limit a fence is over for everybody: whoever armed it, the next supervisor, and who brings the service back past us. A
/// start by the runtime begins anew.
#[tokio::test]
async fn what_has_fired_is_final_until_a_new_start() {
    let Some(scene) = Scene::or_skip() else { return };
    let service = scene.process(Isolation::Pid, &SLEEP, "log").await;
    let instance = service.start().await.expect("it works here");
    let fence = instance.fence().await.expect("it works here");
    let late = clock::now().expect("it works here").after(LATE);
    fence.arm(late).await.expect("it works here");
    let next = instance.fence().await.expect("it works here");
    assert_eq!(*next.standing().borrow(), engine::fence::Standing::Armed(late), "it is found armed");
    next.fire().await.expect("it works here");
    assert!(instance.ended().await.expect("it works here").fenced);
    assert!(matches!(fence.arm(late).await, Err(Error::Fenced(_))));
    assert!(matches!(next.disarm().await, Err(Error::Fenced(_))));

    let again = scene.process(Isolation::Pid, &SLEEP, "log").await;
    let Attached::Gone(ended) = again.attach(&instance.handle).await.expect("it works here") else {
        panic!("it is dead")
    };
    assert!(ended.fenced);

    let mut intruder = std::process::Command::new("sleep").arg("1000").spawn().expect("it works here");
    for file in instance.handle.cgroup.procs_files() {
        std::fs::write(file, intruder.id().to_string()).expect("it works here");
    }
    intruder.wait().expect("it works here");

    let anew = again.start().await.expect("it works here");
    let shim = Shim::connect(&scene.ground.shim_socket()).await.expect("it works here");
    assert_eq!(shim.fence(&FenceOrder::Ask).await.expect("it works here"), FenceState::Disarmed);
    assert!(lives(anew.handle.pid));
}

/// Without its keeper a shim keeps no limit, says so, and makes way at the next start.
#[tokio::test]
async fn a_keeper_that_is_gone_is_said() {
    let Some(scene) = Scene::or_skip() else { return };
    let service = scene.process(Isolation::Pid, &SLEEP, "log").await;
    let instance = service.start().await.expect("it works here");
    let fence = instance.fence().await.expect("it works here");
    scene.kill_keeper();
    let refused = fence.arm(clock::now().expect("it works here").after(LATE)).await;
    assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
    assert!(lives(instance.handle.pid));
    service.kill().await.expect("it works here");
    wait_until(LIMIT, "it is dead", || !lives(instance.handle.pid));
    let anew = service.start().await.expect("it works here");
    anew.fence()
        .await
        .expect("it works here")
        .arm(clock::now().expect("it works here").after(LATE))
        .await
        .expect("it works here");
}

system_tests::engines! {
    a_container_that_was_adopted_ends_too => super::container;
}

fn container(engine: Engine) {
    let (Some(scene), Some(containers)) = (Scene::or_skip(), Containers::or_skip(engine)) else { return };
    let container = containers.create("fenced", &[], &["--listen", "0.0.0.0:8080"]);
    container.start();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime can be had");
    runtime.block_on(async {
        let service = scene.container(&containers, container.name()).await;
        let instance = service.start().await.expect("it is adopted");
        let shim = Shim::connect(&scene.ground.shim_socket()).await.expect("its shim listens");
        let (limit, order) = order_to_arm(SOON, &instance.handle);
        shim.fence(&order).await.expect("it keeps the limit");
        dead_after(instance.handle.pid, limit);
    });
    wait_until(LIMIT, "the engine has noticed", || container.state() == "exited");
}
