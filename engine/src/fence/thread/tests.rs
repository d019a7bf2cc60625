//! With real processes in a real cgroup. Needs root; without it a test says so and is skipped.
#![allow(clippy::disallowed_methods, reason = "a test starts the process that is fenced")]

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use policies::lease::Moment;
use policies::time::Instant;

use super::{Standing, Thread};
use crate::clock;
use crate::error::Error;
use crate::freeze::{Cgroup, Hierarchies};

const LIMIT: Duration = Duration::from_secs(30);

/// A process in a cgroup of its own, both gone afterwards.
struct Scene {
    cgroup: Cgroup,
    process: Child,
}

impl Scene {
    fn or_skip(test: &str) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED {test}: only root may make cgroups");
            return None;
        }
        let cgroup =
            Hierarchies::find().unwrap().make(&format!("test-{}", std::process::id()), test).unwrap();
        let process = Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();
        for file in cgroup.procs_files() {
            std::fs::write(file, process.id().to_string()).unwrap();
        }
        Some(Self { cgroup, process })
    }

    fn is_running(&mut self) -> bool {
        self.process.try_wait().unwrap().is_none()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = self.cgroup.kill(LIMIT);
        let _ = self.cgroup.remove();
    }
}

async fn fired(fence: &Thread) {
    let mut standing = fence.standing();
    let waiting = standing.wait_for(|standing| *standing == Standing::Fired);
    tokio::time::timeout(LIMIT, waiting).await.expect("the fence acts").unwrap();
}

const SOON: Duration = Duration::from_millis(50);
const LATE: Duration = Duration::from_secs(1000);

#[tokio::test]
async fn at_its_limit_the_service_dies_and_the_fence_cannot_be_armed_again() {
    let Some(mut scene) = Scene::or_skip("limit") else { return };
    let fence = Thread::start(scene.cgroup.clone()).unwrap();
    fence.arm(clock::now().unwrap().after(LATE)).unwrap();
    fence.arm(clock::now().unwrap().after(SOON)).unwrap();
    fired(&fence).await;
    assert!(scene.cgroup.members().is_empty() && !scene.is_running());
    let late = clock::now().unwrap().after(LATE);
    assert!(matches!(fence.arm(late), Err(Error::Fenced(_))));
    assert!(matches!(fence.disarm(), Err(Error::Fenced(_))));
}

/// Both clocks are waited for: a limit far away on one does not help.
#[tokio::test]
async fn either_clock_is_enough() {
    for (name, boottime_is_soon) in [("boottime", true), ("monotonic", false)] {
        let Some(scene) = Scene::or_skip(name) else { return };
        let fence = Thread::start(scene.cgroup.clone()).unwrap();
        let now = clock::now().unwrap();
        let (soon, late) = (now.after(SOON), now.after(LATE));
        let limit = if boottime_is_soon {
            Moment { boottime: soon.boottime, ..late }
        } else {
            Moment { monotonic: soon.monotonic, ..late }
        };
        fence.arm(limit).unwrap();
        fired(&fence).await;
        assert!(scene.cgroup.members().is_empty(), "{name}");
    }
}

/// The one thread of the runtime that armed the fence does nothing but wait for the process to be dead.
#[test]
fn a_blocked_runtime_does_not_hold_the_fence() {
    let Some(mut scene) = Scene::or_skip("blocked") else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let fence = Thread::start(scene.cgroup.clone()).unwrap();
        fence.arm(clock::now().unwrap().after(SOON)).unwrap();
        scene.process.wait().unwrap();
    });
    assert!(!scene.is_running());
}

/// The keeper beside the shim has the limit; a thread that nobody holds any more would keep an old one.
#[tokio::test]
async fn a_thread_that_was_let_go_does_nothing() {
    let (Some(mut spared), Some(other)) = (Scene::or_skip("let-go"), Scene::or_skip("held")) else { return };
    let (first, second) =
        (Thread::start(spared.cgroup.clone()).unwrap(), Thread::start(other.cgroup.clone()).unwrap());
    let limit = clock::now().unwrap().after(Duration::from_millis(200));
    first.arm(limit).unwrap();
    drop(first);
    second.arm(limit).unwrap();
    fired(&second).await;
    assert!(spared.is_running());
}

#[tokio::test]
async fn a_frozen_service_dies_too_and_at_once_if_asked() {
    let Some(scene) = Scene::or_skip("frozen") else { return };
    let frozen = scene.cgroup.freeze(LIMIT).unwrap();
    let fence = Thread::start(scene.cgroup.clone()).unwrap();
    fence.fire().unwrap();
    assert!(matches!(fence.disarm(), Err(Error::Fenced(_))));
    fired(&fence).await;
    assert!(scene.cgroup.members().is_empty());
    drop(frozen);
}

/// The limit is disarmed, then its time passes: another fence, armed later for the same instant, shows that it has.
#[tokio::test]
async fn a_disarmed_fence_does_nothing() {
    let (Some(mut spared), Some(other)) = (Scene::or_skip("spared"), Scene::or_skip("other")) else { return };
    let (first, second) =
        (Thread::start(spared.cgroup.clone()).unwrap(), Thread::start(other.cgroup.clone()).unwrap());
    let limit = clock::now().unwrap().after(Duration::from_millis(200));
    first.arm(limit).unwrap();
    first.disarm().unwrap();
    second.arm(limit).unwrap();
    fired(&second).await;
    assert_eq!(*first.standing().borrow(), Standing::Disarmed);
    assert!(spared.is_running());
}

#[test]
fn a_limit_that_has_passed_is_final_even_before_the_thread_has_seen_it() {
    let Some(mut scene) = Scene::or_skip("passed") else { return };
    let fence = Thread::start(scene.cgroup.clone()).unwrap();
    fence.arm(Moment { monotonic: Instant::from_nanos(1), boottime: Instant::from_nanos(1) }).unwrap();
    assert!(matches!(fence.arm(clock::now().unwrap().after(LATE)), Err(Error::Fenced(_))));
    scene.process.wait().unwrap();
}
