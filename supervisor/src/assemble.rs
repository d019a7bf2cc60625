//! From the words of the configuration to the parts that run: the only place that names concrete types.

mod cluster;
mod criu;
mod hooks;
mod probes;
mod runtimes;
mod store;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use config as words;
use engine::criu::{Criu, SharedOptions};
use engine::error::{Error, Report};
use engine::freeze::Hierarchies;
use engine::probe::Probe;
use engine::runtime::{Place, Runtime, docker, group, podman, process, runc, systemd};
use engine::systemd::Systemd;
use policies::id::ServiceName;

use self::criu::criu_options;
use self::runtimes::{docker_spec, podman_spec, process_spec};

pub(crate) use self::cluster::{cluster, replicas, tls, watchdog};
pub(crate) use self::hooks::{Way, ways};
pub(crate) use self::probes::probe;
pub(crate) use self::store::{hot_folder, keys, store};

/// Everything that one service's task needs.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    /// What decides.
    pub(crate) policy: policies::service::Settings,
    /// Which images are kept.
    pub(crate) retention: policies::retention::Settings,
    /// Its probes, in the order of the policy's.
    pub(crate) probes: Vec<NamedProbe>,
    /// What runs it.
    pub(crate) runtime: Arc<dyn Runtime>,
    /// CRIU's options, which the runtime looks at anew each time.
    pub(crate) options: SharedOptions,
    /// Folders that belong to its images.
    pub(crate) volumes: Vec<PathBuf>,
    /// Whether its root's changes do.
    pub(crate) rootfs: bool,
    /// What asks it to end.
    pub(crate) stop_signal: i32,
    /// What it begins from where nothing is known of it.
    pub(crate) start_from: words::StartFrom,
    /// What must be healthy before it is started.
    pub(crate) depends_on: Vec<ServiceName>,
}

/// One probe with its name and settings.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NamedProbe {
    /// For people.
    pub(crate) name: String,
    /// The member of the group that it asks.
    pub(crate) member: Option<ServiceName>,
    /// Where its results come from.
    pub(crate) source: Source,
    /// How often, and what its results mean.
    pub(crate) settings: policies::health::Settings,
}

/// Where the results of a probe come from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Source {
    /// We ask.
    Asked(Box<Probe>),
    /// Somebody outside says so; each result counts for at most so long.
    Reported(Duration),
}

impl Parts {
    /// The runtime's name.
    pub(crate) fn kind(&self) -> &'static str {
        self.runtime.features().kind
    }

    /// These parts, but run by what runs the service now.
    pub(crate) fn run_by(&self, former: &Self) -> Self {
        former.options.replace(self.options.get());
        Self { runtime: Arc::clone(&former.runtime), options: former.options.clone(), ..self.clone() }
    }
}

/// What all services of a node are put together from.
#[derive(Debug, Clone)]
pub(crate) struct Ground {
    /// The node's name.
    pub(crate) node: String,
    /// Where what must survive lies.
    pub(crate) state_dir: PathBuf,
    /// Where the rest lies.
    pub(crate) run_dir: PathBuf,
    /// Our own binary.
    pub(crate) program: PathBuf,
    /// The CRIU to use.
    pub(crate) criu: Arc<Criu>,
    /// The cgroup hierarchies.
    pub(crate) hierarchies: Hierarchies,
    /// runc and its version, if it is installed.
    pub(crate) runc: Option<(PathBuf, String)>,
    /// Connected when a service is a unit.
    pub(crate) systemd: Systemd,
}

impl Ground {
    /// Puts one service together.
    pub(crate) fn parts(&self, name: &ServiceName, service: &words::Service) -> engine::Result<Parts> {
        let probes = service.probes.iter().map(probe).collect::<engine::Result<Vec<_>>>()?;
        let options = SharedOptions::new(criu_options(service));
        Ok(Parts {
            policy: service.policy.clone(),
            retention: service.retention.clone(),
            probes,
            runtime: self.runtime(name, &service.runtime, service.notify(), options.clone())?,
            options,
            volumes: service.checkpoint.volumes.clone(),
            rootfs: service.checkpoint.rootfs,
            stop_signal: service.stop_signal,
            start_from: service.start_from,
            depends_on: service.depends_on.clone(),
        })
    }

    fn runtime(
        &self,
        name: &ServiceName,
        runtime: &words::Runtime,
        notify: Option<words::Notify>,
        options: SharedOptions,
    ) -> engine::Result<Arc<dyn Runtime>> {
        let run_folder = self.run_dir.join("services").join(name.as_str());
        engine::durable::create_dir_all(&run_folder)?;
        let place = Place {
            service: name.to_string(),
            node: self.node.clone(),
            program: self.program.clone(),
            run_folder,
            hierarchies: self.hierarchies.clone(),
            criu: Arc::clone(&self.criu),
            options,
        };
        Ok(match runtime {
            words::Runtime::Process(spec) => {
                let spec = process::Spec { notify: self.notify(name, notify)?, ..process_spec(name, spec)? };
                Arc::new(process::Process::new(place, spec))
            }
            words::Runtime::Runc(spec) => Arc::new(runc::Runc::new(place, self.runc_spec(name, spec)?)?),
            words::Runtime::Docker(spec) => Arc::new(docker::docker(place, docker_spec(spec))),
            words::Runtime::Podman(spec) => Arc::new(podman::podman(place, podman_spec(spec))),
            words::Runtime::Group(members) => Arc::new(self.group(&place, members)?),
            words::Runtime::Systemd(spec) => {
                let spec = systemd::Spec { unit: spec.unit.clone(), systemd: self.systemd.clone() };
                Arc::new(systemd::SystemdUnit::new(place, spec))
            }
        })
    }

    fn group(&self, place: &Place, members: &[words::Member]) -> engine::Result<group::Group> {
        let member = |member: &words::Member| {
            let options = place.options.clone();
            Ok(group::Member {
                name: member.name.to_string(),
                runtime: self.runtime(&member.name, &member.runtime, member.notify, options)?,
                stop_signal: member.stop_signal,
                stop_timeout: member.stop_timeout,
            })
        };
        let members = members.iter().map(member).collect::<engine::Result<_>>()?;
        let mark = format!("supervisor-{}-{}", place.node, place.service);
        Ok(group::Group::new(members, place.run_folder.clone(), mark))
    }

    /// Its socket lies where also a service of another user than root gets to: all other folders of ours are closed to it.
    fn notify(
        &self,
        name: &ServiceName,
        told: Option<words::Notify>,
    ) -> engine::Result<Option<process::Notify>> {
        let Some(words::Notify { watchdog }) = told else { return Ok(None) };
        let folder = self.run_dir.join("notify");
        engine::durable::create_dir_all(&folder)?;
        for folder in [&self.run_dir, &folder] {
            engine::durable::let_through(folder)?;
        }
        Ok(Some(process::Notify { socket: folder.join(format!("{name}.sock")), watchdog }))
    }

    fn runc_spec(&self, name: &ServiceName, spec: &words::Runc) -> engine::Result<runc::Spec> {
        let (program, version) = self.runc.clone().ok_or_else(|| {
            Error::Refused(
                Report::new("find runc in PATH")
                    .remedy("install runc (Debian: apt-get install runc), then start the supervisor again"),
            )
        })?;
        Ok(runc::Spec {
            bundle: spec.bundle.clone(),
            program,
            version,
            root: self.run_dir.join("runc"),
            log: self.state_dir.join("logs").join(format!("{name}.log")),
        })
    }
}
