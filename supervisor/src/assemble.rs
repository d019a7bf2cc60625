//! From the words of the configuration to the parts that run: the only place that names concrete types.

mod hooks;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use config as words;
use engine::criu::{Criu, Network, Options, SharedOptions, Tcp};
use engine::error::{Error, Report};
use engine::fence::watchdog;
use engine::freeze::Hierarchies;
use engine::probe::{Exec, Grpc, Heartbeat, Http, Notify, Probe, Tcp as TcpProbe, Trust};
use engine::replica::bucket::Bucket;
use engine::replica::objects::{Access, Cloud, Folder, Objects, Provider};
use engine::replica::peer::{Address, Peer};
use engine::replica::tls::Files;
use engine::replica::{Pace, Replica};
use engine::runtime::{Place, Recipe, Runtime, docker, group, podman, process, runc, systemd};
use engine::shim::{Isolation, Output, User};
use engine::systemd::Systemd;
use engine::{images, lease};
use policies::health::Role;
use policies::id::{NodeName, ServiceName};

use crate::replicas::Target;
use crate::tenure::Cluster;

pub(crate) use self::hooks::{Way, ways};

/// Certificates and keys are some thousand bytes.
const PEM_LENGTH_MAX: u64 = 1 << 20;

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

/// The replicas, connected to nothing yet.
pub(crate) fn replicas(store: &words::Store, api: &words::Api, node: &str) -> engine::Result<Vec<Target>> {
    let target = |replica: &words::Replica| {
        let url = replica.place.to_string();
        let pace = replica.rate_limit.map_or_else(Pace::unlimited, Pace::limited);
        Ok(Target {
            replica: Arc::new(Replica::new(url, place(replica, api, node)?, pace)),
            services: replica.services.clone(),
            retention: replica.retention.clone(),
        })
    };
    store.replicas.iter().map(target).collect()
}

/// Where leases are kept.
pub(crate) fn cluster(cluster: &words::Cluster, node: NodeName, folder: PathBuf) -> engine::Result<Cluster> {
    let limit = cluster.times.renew_interval;
    let keeper = match cluster.lease {
        words::Lease::Local => lease::local::open(&folder.join("local"), limit)?,
        words::Lease::Bucket => lease::bucket::open(cluster.bucket.as_deref().unwrap_or_default(), limit)?,
        words::Lease::Etcd => lease::etcd::open(&lease::etcd::Settings {
            endpoints: cluster.endpoints.clone(),
            prefix: "supervisor".to_owned(),
            tls: etcd_tls(&cluster.tls)?,
            limit,
        })?,
    };
    Ok(Cluster { keeper, settings: cluster.times.clone(), node, folder })
}

/// The watchdog that is to reset this host before a lease can be taken from it.
pub(crate) fn watchdog(cluster: &words::Cluster) -> Option<watchdog::Wanted> {
    let device = cluster.watchdog.clone()?;
    Some(watchdog::Wanted { device, settings: cluster.times.clone() })
}

fn etcd_tls(files: &words::ClusterTls) -> engine::Result<Option<lease::etcd::Tls>> {
    let Some(ca) = &files.ca else { return Ok(None) };
    let read = |path: &PathBuf| engine::durable::read_limited(path, PEM_LENGTH_MAX);
    let identity = match (&files.certificate, &files.key) {
        (Some(certificate), Some(key)) => Some((read(certificate)?, read(key)?)),
        _ => None,
    };
    Ok(Some(lease::etcd::Tls { ca: read(ca)?, identity }))
}

/// The files of certificates.
pub(crate) fn tls(files: &words::Tls) -> Files {
    Files { ca: files.ca.clone(), cert: files.cert.clone(), key: files.key.clone() }
}

fn place(
    replica: &words::Replica,
    api: &words::Api,
    node: &str,
) -> engine::Result<Box<dyn engine::replica::Place>> {
    let cloud = |provider, url: &str| {
        let access = Access {
            provider,
            url: url.to_owned(),
            endpoint: replica.endpoint.clone(),
            region: replica.region.clone(),
            credentials_file: replica.credentials_file.clone(),
            timeout: replica.timeout,
        };
        Cloud::new(&access)
    };
    let objects: Arc<dyn Objects> = match &replica.place {
        words::ReplicaPlace::S3(url) => Arc::new(cloud(Provider::S3, url)?),
        words::ReplicaPlace::Google(url) => Arc::new(cloud(Provider::Google, url)?),
        words::ReplicaPlace::Azure(url) => Arc::new(cloud(Provider::Azure, url)?),
        words::ReplicaPlace::Folder(folder) => Arc::new(Folder::new(folder.clone())),
        words::ReplicaPlace::Peer(address) => {
            let files = replica.tls.as_ref().or(api.tls.as_ref()).map(tls).ok_or_else(|| {
                Error::Invalid(Report::new(format!("there are no certificates for {}", replica.place)))
            })?;
            let (host, port) = (address.host.clone(), address.port);
            return Ok(Box::new(Peer::new(Address { host, port, files, timeout: replica.timeout })));
        }
    };
    Ok(Box::new(Bucket::new(objects, replica.place.to_string(), node)))
}

/// The store's settings. Reads the keys of its images.
pub(crate) fn store(store: &words::Store, hot_folder: Option<PathBuf>) -> engine::Result<images::Settings> {
    Ok(images::Settings {
        path: store.path.clone(),
        hot: hot_folder,
        hot_max_size: store.hot_max_size,
        keep_hot: 1,
        codec: match store.compression {
            words::Compression::Zstd => images::Codec::Zstd,
            words::Compression::Lz4 => images::Codec::Lz4,
            words::Compression::None => images::Codec::None,
        },
        keys: keys(store)?,
        min_free: store.min_free,
        max_total_size: store.max_total_size,
    })
}

/// The keys of a store's images.
pub(crate) fn keys(store: &words::Store) -> engine::Result<images::Keyring> {
    let old: Vec<_> = store.old_keys.iter().map(key_source).collect();
    images::Keyring::load(store.encryption.as_ref().map(key_source).as_ref(), &old)
}

fn key_source(file: &words::KeyFile) -> images::KeySource {
    match file {
        words::KeyFile::Key(path) => images::KeySource::File(path.clone()),
        words::KeyFile::Passphrase(path) => images::KeySource::Passphrase(path.clone()),
    }
}

/// Where hot images lie: in memory, if there is a tmpfs for it; a state folder has its own.
pub(crate) fn hot_folder(config: &words::Config) -> Option<PathBuf> {
    if config.store.hot == words::Hot::Disk {
        return None;
    }
    let shm = Path::new("/dev/shm");
    let is_memory =
        nix::sys::statfs::statfs(shm).is_ok_and(|fs| fs.filesystem_type() == nix::sys::statfs::TMPFS_MAGIC);
    if !is_memory {
        tracing::warn!("/dev/shm is no tmpfs: hot images are kept on disk, and restores will be slower");
        return None;
    }
    let state = config.node.state_dir.display().to_string();
    let mark: String = state.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    Some(shm.join(format!("supervisor{mark}")))
}

fn process_spec(name: &ServiceName, spec: &words::Process) -> engine::Result<process::Spec> {
    Ok(process::Spec {
        command: spec.command.clone(),
        env: spec.env.clone().into_iter().collect(),
        cwd: Some(spec.cwd.clone()),
        user: spec.user.as_deref().map(user).transpose()?,
        isolation: match spec.isolation {
            words::Isolation::Pid => Isolation::Pid,
            words::Isolation::None => Isolation::None,
        },
        stdout: output(name, &spec.stdout),
        stderr: output(name, &spec.stderr),
        notify: None,
    })
}

fn docker_spec(spec: &words::Docker) -> docker::Spec {
    docker::Spec {
        container: spec.container.clone(),
        recipe: spec.recipe.as_ref().map(recipe),
        socket: spec.socket.clone(),
    }
}

fn podman_spec(spec: &words::Podman) -> podman::Spec {
    podman::Spec {
        container: spec.container.clone(),
        recipe: spec.recipe.as_ref().map(recipe),
        program: spec.program.clone(),
        options: spec.options.clone(),
    }
}

fn recipe(recipe: &words::Recipe) -> Recipe {
    let words::Recipe { image, create_args, command } = recipe.clone();
    Recipe { image, create_args, command }
}

fn output(name: &ServiceName, output: &words::Output) -> Output {
    match output {
        words::Output::File(path) => Output::File(path.clone()),
        words::Output::Journal => Output::Journal(name.to_string()),
    }
}

/// `name`, `uid` or `uid:gid`.
fn user(text: &str) -> engine::Result<User> {
    let unknown = || {
        Error::Invalid(
            Report::new(format!("find the user {text}"))
                .remedy("name an existing user, a uid, or uid:gid in process.user"),
        )
    };
    if let Some((uid, gid)) = text.split_once(':') {
        let (uid, gid) = (uid.parse().map_err(|_| unknown())?, gid.parse().map_err(|_| unknown())?);
        return Ok(User { uid, gid, groups: Vec::new() });
    }
    let found = match text.parse() {
        Ok(uid) => nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid)),
        Err(_) => nix::unistd::User::from_name(text),
    };
    match (found.ok().flatten(), text.parse()) {
        (Some(user), _) => {
            let name = std::ffi::CString::new(user.name).map_err(|_| unknown())?;
            let groups = nix::unistd::getgrouplist(&name, user.gid).unwrap_or_default();
            let groups = groups.into_iter().map(nix::unistd::Gid::as_raw).collect();
            Ok(User { uid: user.uid.as_raw(), gid: user.gid.as_raw(), groups })
        }
        (None, Ok(uid)) => Ok(User { uid, gid: uid, groups: Vec::new() }),
        (None, Err(_)) => Err(unknown()),
    }
}

/// A probe as it is run.
pub(crate) fn probe(probe: &words::Probe) -> engine::Result<NamedProbe> {
    let kind = match &probe.kind {
        words::ProbeKind::Http(http) => Probe::Http(http_probe(http)?),
        words::ProbeKind::Tcp(address) => Probe::Tcp(TcpProbe::new(address.host.clone(), address.port)),
        words::ProbeKind::Exec(exec) if exec.inside => Probe::Exec(Exec::new(&exec.command).inside()),
        words::ProbeKind::Exec(exec) => Probe::Exec(Exec::new(&exec.command)),
        words::ProbeKind::Grpc(grpc) => {
            Probe::Grpc(Grpc::new(grpc.address.host.clone(), grpc.address.port, grpc.service.clone())?)
        }
        words::ProbeKind::Heartbeat(file) => Probe::Heartbeat(Heartbeat::new(file)?),
        words::ProbeKind::Notify => Probe::Notify(match probe.settings.role {
            Role::Liveness => Notify::life(),
            Role::Readiness | Role::Startup => Notify::ready(),
        }),
        words::ProbeKind::Report(max_age) => return Ok(named(probe, Source::Reported(*max_age))),
    };
    Ok(named(probe, Source::Asked(Box::new(kind))))
}

fn named(probe: &words::Probe, source: Source) -> NamedProbe {
    NamedProbe {
        name: match &probe.member {
            Some(member) => format!("{member}/{}", probe.name),
            None => probe.name.clone(),
        },
        member: probe.member.clone(),
        source,
        settings: probe.settings.clone(),
    }
}

fn http_probe(http: &words::HttpProbe) -> engine::Result<Http> {
    let url = format!("http://{}{}", http.host, http.path);
    let mut probe = match &http.target {
        words::HttpTarget::Tcp(address) => Http::new(&url)?.connecting_to(address.host.clone(), address.port),
        words::HttpTarget::Unix(socket) => Http::over_socket(socket, &url)?,
    };
    if let Some(tls) = &http.tls {
        probe = probe.over_tls(match tls {
            words::ProbeTls::Host => Trust::Host,
            words::ProbeTls::Authority(file) => Trust::Authority(file.clone()),
            words::ProbeTls::Unverified => Trust::Anybody,
        });
    }
    if let Some(text) = &http.body {
        probe = probe.wanting(text);
    }
    for (name, value) in &http.headers {
        probe = probe.header(name, value)?;
    }
    Ok(http.status.iter().fold(probe, |probe, range| probe.passing(range.clone())))
}

fn criu_options(service: &words::Service) -> Options {
    let (plan, criu) = (&service.checkpoint, &service.checkpoint.criu);
    let texts = |paths: &[PathBuf]| paths.iter().map(|p: &PathBuf| text(p)).collect();
    Options {
        tcp: match plan.tcp {
            words::Tcp::Established => Tcp::Established,
            words::Tcp::Close => Tcp::Close,
            words::Tcp::SkipInFlight => Tcp::SkipInFlight,
        },
        network_lock: match criu.network_lock {
            Some(words::NetworkLock::Iptables) => Network::Iptables,
            Some(words::NetworkLock::Nftables) => Network::Nftables,
            Some(words::NetworkLock::Skip) => Network::Skip,
            None => Network::AsNeeded,
        },
        file_locks: criu.file_locks,
        link_remap: criu.link_remap,
        ghost_limit: criu.ghost_limit,
        shell_job: criu.shell_job,
        // It may hold a connection to the socket that it was given.
        ext_unix_sk: criu.ext_unix_sk || service.notify().is_some(),
        external: criu.external.clone(),
        force_irmap: criu.force_irmap,
        irmap_scan_paths: texts(&criu.irmap_scan_paths),
        evasive_devices: criu.evasive_devices,
        skip_mnt: texts(&criu.skip_mnt),
        enable_fs: criu.enable_fs.clone(),
        auto_ext_mnt: criu.auto_ext_mnt,
        ext_sharing: criu.ext_sharing,
        ext_masters: criu.ext_masters,
        mntns_compat_mode: criu.mntns_compat_mode,
        weak_sysctls: criu.weak_sysctls,
        orphan_pts_master: criu.orphan_pts_master,
        skip_file_rwx_check: criu.skip_file_rwx_check,
        cgroup_dump_controller: criu.cgroup_dump_controller.clone(),
        manage_cgroups_mode: criu.manage_cgroups_mode.map(cgroup_mode),
        cpu_cap: cpu_cap(&criu.cpu_cap),
        lsm_profile: criu.lsm_profile.clone(),
        lsm_mount_context: criu.lsm_mount_context.clone(),
        log_level: criu.log_level,
    }
}

/// CRIU's numbers for its cgroup modes.
fn cgroup_mode(mode: words::CgroupMode) -> i32 {
    match mode {
        words::CgroupMode::Ignore => 0,
        words::CgroupMode::None => 1,
        words::CgroupMode::Props => 2,
        words::CgroupMode::Soft => 3,
        words::CgroupMode::Full => 4,
        words::CgroupMode::Strict => 5,
    }
}

/// CRIU's bits for what of the processor must agree; none: CRIU's default.
fn cpu_cap(caps: &[words::CpuCap]) -> Option<u32> {
    let bit = |cap: &words::CpuCap| match cap {
        words::CpuCap::None => 0,
        words::CpuCap::Fpu => 1,
        words::CpuCap::Cpu => 2,
        words::CpuCap::Ins => 4,
        words::CpuCap::All => 7,
    };
    (!caps.is_empty()).then(|| caps.iter().map(bit).fold(0, |all, b| all | b))
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
