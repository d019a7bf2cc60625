//! One scene: a service with images, a supervisor that dies at a point, what must hold then, and what must
//! hold after the next start.

use std::fs;
use std::path::Path;
use std::time::Duration;

use engine::images::{Codec, Keyring, Settings, Store, Swept};
use nix::sys::signal::Signal;
use system_tests::{Counter, Host, LIMIT, Node, Runtime, wait_until};

/// What leads to the fail point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trigger {
    /// The first start of a service.
    FirstStart,
    /// A checkpoint, its commit, and the removal of an older image.
    Checkpoint,
    /// The same; then the service dies too, before the next start.
    CheckpointThenCrash,
    /// The service is killed.
    Crash,
    /// The service is killed, and its image lies on disk only.
    CrashWithoutHotCopy,
    /// The service hangs.
    Hang,
    /// Somebody asks for a stop.
    Stop,
    /// Somebody wants it suspended, and it has not ended yet.
    Suspend,
    /// Somebody wants it suspended, and it has ended.
    Suspended,
}

pub(crate) struct Scene {
    node: Node,
    counter: Counter,
    trigger: Trigger,
    pid: i32,
    /// The number of the newest durable image, and the number that was reached.
    floor: u64,
    top: u64,
}

/// How long a service may stand still after its supervisor has died: CRIU has to notice and to withdraw first.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(2);

impl Scene {
    /// Two images, of 3 and 5; the number 8; no supervisor.
    pub(crate) fn set(runtime: Runtime, trigger: Trigger) -> Option<Self> {
        let host = Host::or_skip(runtime)?;
        let (mut node, counter) = Node::with_counter(host, runtime, &[]);
        node.set("counter", "checkpoint.max_checkpoints", "2");
        if trigger == Trigger::FirstStart {
            return Some(Self { node, counter, trigger, pid: 0, floor: 0, top: 0 });
        }
        node.start();
        let pid = node.pid("counter").expect("it runs");
        for number in [3, 5] {
            counter.count_to(number);
            node.checkpoint("counter");
        }
        counter.count_to(8);
        node.stop();
        Some(Self { node, counter, trigger, pid, floor: 5, top: 8 })
    }

    pub(crate) fn play(mut self, point: &str) {
        if self.trigger == Trigger::CrashWithoutHotCopy {
            fs::remove_dir_all(self.node.traces().hot_folder()).expect("there was a hot copy");
        }
        let mark = self.node.mark();
        self.node.start_to_die_at(point);
        if self.trigger != Trigger::FirstStart {
            self.node.wait_for_event(mark, "adopted", |_| true);
        }
        self.pull();
        self.node.wait_dead_at_fail_point();
        self.between();
        self.node.start_only();
        match self.trigger {
            Trigger::Stop => self.assert_stopped(),
            Trigger::Suspended => self.assert_suspended(),
            _ => self.assert_healthy(),
        }
        self.assert_works_on();
        self.assert_store_whole();
    }

    fn pull(&self) {
        match self.trigger {
            Trigger::FirstStart => {}
            // The answer is lost with the supervisor.
            Trigger::Checkpoint | Trigger::CheckpointThenCrash => {
                let _ = self.node.command(&["checkpoint", "counter"]);
            }
            Trigger::Stop => {
                let _ = self.node.command(&["stop", "counter"]);
            }
            Trigger::Suspend | Trigger::Suspended => {
                let _ = self.node.command(&["suspend", "counter"]);
            }
            Trigger::Crash | Trigger::CrashWithoutHotCopy => {
                self.node.signal_service("counter", Signal::SIGKILL);
            }
            Trigger::Hang => self.counter.tell("/hang"),
        }
    }

    /// No supervisor runs: a service that lives is not left standing still.
    fn between(&self) {
        match self.trigger {
            Trigger::Checkpoint | Trigger::CheckpointThenCrash | Trigger::Stop | Trigger::Suspend => {
                wait_until(FORGOTTEN_AFTER, "it is thawed without a supervisor", || {
                    frozen(&self.node).is_empty() && self.counter.get("/counter").is_ok()
                });
                assert_eq!(self.counter.value(), self.top, "and as it was");
                self.counter.assert_whole();
            }
            Trigger::FirstStart
            | Trigger::Crash
            | Trigger::CrashWithoutHotCopy
            | Trigger::Hang
            | Trigger::Suspended => {
                wait_until(FORGOTTEN_AFTER, "nothing is frozen", || frozen(&self.node).is_empty());
            }
        }
        if self.trigger == Trigger::CheckpointThenCrash {
            self.node.signal_service("counter", Signal::SIGKILL);
            wait_until(LIMIT, "it is dead", || self.node.pid("counter").is_none());
        }
    }

    fn assert_healthy(&self) {
        self.node.wait_healthy("counter");
        assert_eq!(frozen(&self.node), Vec::<String>::new());
        self.counter.assert_whole();
        let (value, pid) = (self.counter.value(), self.node.pid("counter"));
        match self.trigger {
            Trigger::Checkpoint | Trigger::Suspend => {
                assert_eq!((value, pid), (self.top, Some(self.pid)), "it was not touched");
            }
            // The image that was being taken may exist or not; what is durable is the floor.
            _ => assert!((self.floor..=self.top).contains(&value), "{value} is not from a whole image"),
        }
        let one = self.node.traces().members().len();
        assert_eq!(one, 1, "one process of it, not two: {:?}", self.node.traces().members());
    }

    fn assert_suspended(&self) {
        wait_until(LIMIT, "it is suspended", || self.node.state("counter") == "suspended");
        assert!(self.node.traces().members().is_empty(), "nothing of it runs");
        assert_eq!(self.node.json(&["resume", "counter"])["outcome"], "done");
        assert_eq!(self.counter.value(), self.top, "nothing was lost");
        self.counter.assert_whole();
    }

    fn assert_stopped(&self) {
        wait_until(LIMIT, "it is stopped, as it was asked", || self.node.state("counter") == "stopped");
        assert!(self.node.traces().members().is_empty(), "nothing of it runs");
        assert_eq!(self.node.json(&["start", "counter"])["outcome"], "done");
        assert!(self.counter.answers());
    }

    /// What was left by the dead supervisor is in the way of nothing.
    fn assert_works_on(&self) {
        let value = self.counter.value();
        self.counter.count_to(value + 2);
        self.node.checkpoint("counter");
        let mark = self.node.mark();
        let former = self.node.signal_service("counter", Signal::SIGKILL);
        self.node.wait_for_another("counter", former);
        self.node.wait_for_event(mark, "recovered", |_| true);
        assert_eq!(self.counter.value(), value + 2);
    }

    fn assert_store_whole(mut self) {
        let verified = self.node.command(&["verify"]);
        assert_eq!(verified.code, Some(0), "{verified:?}");
        self.node.stop();
        let left: Vec<String> = names(&self.node.images_folder("counter"));
        let half: Vec<&String> =
            left.iter().filter(|name| name.starts_with(".staging-") || name.starts_with(".trash-")).collect();
        assert!(half.is_empty(), "half-written or half-removed: {half:?}");
        for image in left.iter().filter(|name| !name.starts_with('.')) {
            assert!(self.node.images_folder("counter").join(image).join("manifest").exists(), "{image}");
        }
        let settings = Settings {
            path: self.node.state_dir().join("images"),
            hot: Some(self.node.traces().hot_folder().to_owned()),
            hot_max_size: None,
            keep_hot: 1,
            codec: Codec::Lz4,
            keys: Keyring::none(),
            min_free: 0,
            max_total_size: None,
        };
        let (store, swept) = Store::open(settings).expect("the store opens");
        assert_eq!(swept, Swept::default(), "nothing was left to sweep");
        let services = store.services().expect("the store can be read");
        let images = services.iter().flat_map(|service| store.list(service).expect("its images are listed"));
        let durable: Vec<_> = images.filter(|image| image.facts.durable).collect();
        assert!(!durable.is_empty() && durable.len() <= 2, "as retention says: {durable:?}");
        for image in durable {
            store.verify(&image.facts.id).expect("what is listed as durable is whole");
        }
    }
}

/// The cgroups of a node that stand still or are told to.
fn frozen(node: &Node) -> Vec<String> {
    let is = |file: &Path, value: &str| fs::read_to_string(file).is_ok_and(|text| text.trim() == value);
    let cgroups = node.traces().cgroups().into_iter().filter(|folder| {
        let v1 = folder.join("freezer.state");
        (v1.exists() && !is(&v1, "THAWED")) || is(&folder.join("cgroup.freeze"), "1")
    });
    cgroups.map(|folder| folder.display().to_string()).collect()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("the service has images");
    let names = entries.map(|entry| entry.expect("an entry can be read").file_name());
    names.map(|name| name.into_string().expect("names of images are text")).collect()
}
