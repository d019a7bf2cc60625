//! What holds when nothing is written, and what each written thing becomes.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use config::{
    Address, CheckpointPlan, Cluster, ClusterTls, Compression, Config, CriuOptions, Docker, ExecProbe,
    GrpcProbe, HostShutdown, Hot, HttpTarget, Isolation, Lease, NetworkLock, Node, Output, Podman, ProbeKind,
    ProbeTls, Process, Recipe, Replica, ReplicaPlace, Runc, Runtime, StartFrom, Store, Systemd, Tcp, Tls,
};
use policies::failover::Preference;
use policies::id::ServiceName;

fn parse(text: &str) -> Config {
    Config::parse(text, "test.toml", &|name| (name == "HOME").then(|| "/home/db".to_owned()))
        .unwrap_or_else(|errors| panic!("{errors}"))
}

fn service(config: &Config, name: &str) -> config::Service {
    config.services[&ServiceName::try_from(name).unwrap()].clone()
}

#[test]
fn an_empty_file_has_the_nodes_defaults() {
    let config = parse("");
    let node = Node {
        name: None,
        state_dir: "/var/lib/supervisor".into(),
        run_dir: "/run/supervisor".into(),
        on_stop: None,
        on_host_shutdown: HostShutdown::Leave,
    };
    assert_eq!(config.node, node);
    let store = Store {
        path: "/var/lib/supervisor/images".into(),
        compression: Compression::Zstd,
        min_free: 256 << 20,
        max_total_size: None,
        hot: Hot::Memory,
        hot_max_size: None,
        encryption: None,
        old_keys: Vec::new(),
        replicas: Vec::new(),
    };
    assert_eq!(config.store, store);
    assert_eq!(config.api.socket, PathBuf::from("/run/supervisor/api.sock"));
    assert_eq!((config.api.listen, config.api.tls), (None, None));
    assert!(config.services.is_empty());
}

#[test]
fn a_replica_is_read_with_its_defaults() {
    let text = "[[store.replica]]\nurl = 's3://bucket/a/'\n[[store.replica]]\nurl = 'peer://beta:7443'\n\
                services = ['a']\nrate_limit = '1MB'\n[api]\nlisten = '[::]:7443'\n\
                tls = { ca = '/a', cert = '/c', key = '/k' }\n[service.a]\nprocess.command = ['a']\n";
    let config = parse(text);
    let tls = Tls { ca: "/a".into(), cert: "/c".into(), key: "/k".into() };
    assert_eq!(config.api.tls, Some(tls));
    assert_eq!(config.api.listen.map(|address| address.to_string()).as_deref(), Some("[::]:7443"));
    let [bucket, peer] = config.store.replicas.as_slice() else { panic!("two replicas") };
    let expected = Replica {
        place: ReplicaPlace::S3("s3://bucket/a".to_owned()),
        endpoint: None,
        region: None,
        credentials_file: None,
        services: None,
        rate_limit: None,
        timeout: Duration::from_secs(30),
        retention: policies::retention::Settings::default(),
        tls: None,
    };
    assert_eq!(*bucket, expected);
    assert_eq!((peer.place.to_string().as_str(), peer.rate_limit), ("peer://beta:7443", Some(1_000_000)));
    assert_eq!(peer.services.iter().flatten().map(|name| name.as_str()).collect::<Vec<_>>(), ["a"]);
}

#[test]
fn folders_follow_the_nodes() {
    let config = parse("[node]\nstate_dir = '/s/'\nrun_dir = '/r'\n[service.a]\nprocess.command = ['a']\n");
    assert_eq!(config.store.path, PathBuf::from("/s/images"));
    assert_eq!(config.api.socket, PathBuf::from("/r/api.sock"));
    let Runtime::Process(process) = service(&config, "a").runtime else { panic!("a process was written") };
    assert_eq!(process.stdout, Output::File("/s/logs/a.log".into()));
    assert_eq!(process.stderr, Output::File("/s/logs/a.log".into()));
}

/// Design, section 9.
#[test]
fn a_service_has_the_designs_defaults() {
    let config = parse("[service.a]\nprocess = { command = ['a', 'b'] }\n");
    assert_eq!(config.warnings(), []);
    let service = service(&config, "a");
    let process = Process {
        command: vec!["a".to_owned(), "b".to_owned()],
        env: [].into(),
        cwd: "/".into(),
        user: None,
        isolation: Isolation::Pid,
        stdout: Output::File("/var/lib/supervisor/logs/a.log".into()),
        stderr: Output::File("/var/lib/supervisor/logs/a.log".into()),
    };
    assert_eq!(service.runtime, Runtime::Process(process));
    assert_eq!(service.stop_signal, 15);
    assert_eq!(service.policy.stop_timeout, Duration::from_secs(10));
    assert_eq!(service.policy.success_exit_codes, [0]);
    assert_eq!(service.policy.cadence.interval, Some(Duration::from_secs(30)));
    assert_eq!(service.policy.cadence.timeout, Duration::from_secs(30));
    assert_eq!(service.retention.max_checkpoints, 10);
    assert_eq!(service.policy.ladder.max_attempts, 5);
    assert_eq!(service.policy.ladder.window, Duration::from_secs(600));
    let plan = CheckpointPlan {
        enabled: true,
        volumes: Vec::new(),
        rootfs: true,
        tcp: Tcp::SkipInFlight,
        criu: CriuOptions::default(),
    };
    assert_eq!(service.checkpoint, plan);
    assert!(service.depends_on.is_empty() && service.probes.is_empty());
    assert_eq!(service.start_from, StartFrom::Scratch);
}

#[test]
fn a_container_that_exists_needs_its_name_only() {
    let config = parse("[service.a]\ndocker.container = 'web'\n[service.b]\npodman.container = 'w'\n");
    assert_eq!(config.warnings(), []);
    let docker = Docker { container: "web".to_owned(), recipe: None, socket: "/var/run/docker.sock".into() };
    assert_eq!(service(&config, "a").runtime, Runtime::Docker(docker));
    let podman =
        Podman { container: "w".to_owned(), recipe: None, program: "podman".into(), options: Vec::new() };
    assert_eq!(service(&config, "b").runtime, Runtime::Podman(podman));
    for name in ["a", "b"] {
        let plan = service(&config, name).checkpoint;
        assert_eq!((plan.enabled, plan.rootfs, plan.tcp), (true, true, Tcp::SkipInFlight));
    }
}

#[test]
fn a_container_is_created_as_it_is_written() {
    let config = parse(
        r#"
        [service.a.docker]
        container = "web_1.x-y"
        image = "registry.example.org:5000/team/web@sha256:0123"
        create_args = ["--restart", "no", "-v/srv:/srv", "--env=A=b c", "-e", "--rm", "--tty=false", "-iPe", "-t", "-h", "web"]
        command = ["./run", "--rm", ""]
        socket = "${HOME}/docker.sock"
        [service.b.podman]
        container = "web"
        image = "sha256:0123"
        create_args = ["--init", "--restart=no", "--replace=false", "--health-on-failure=kill"]
        program = "/opt/podman"
        options = ["--root", "${HOME}"]
        "#,
    );
    assert_eq!(config.warnings(), []);
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let create_args = [
        "--restart",
        "no",
        "-v/srv:/srv",
        "--env=A=b c",
        "-e",
        "--rm",
        "--tty=false",
        "-iPe",
        "-t",
        "-h",
        "web",
    ];
    let docker = Docker {
        container: "web_1.x-y".to_owned(),
        recipe: Some(Recipe {
            image: "registry.example.org:5000/team/web@sha256:0123".to_owned(),
            create_args: texts(&create_args),
            command: texts(&["./run", "--rm", ""]),
        }),
        socket: "/home/db/docker.sock".into(),
    };
    assert_eq!(service(&config, "a").runtime, Runtime::Docker(docker));
    let podman = Podman {
        container: "web".to_owned(),
        recipe: Some(Recipe {
            image: "sha256:0123".to_owned(),
            create_args: texts(&["--init", "--restart=no", "--replace=false", "--health-on-failure=kill"]),
            command: Vec::new(),
        }),
        program: "/opt/podman".into(),
        options: texts(&["--root", "/home/db"]),
    };
    assert_eq!(service(&config, "b").runtime, Runtime::Podman(podman));
}

/// What leads from inside a container may be the same in all of them, but one container is one service.
#[test]
fn containers_may_be_alike_but_not_the_same() {
    let config = parse(
        "[service.a]\ndocker.container = 'web'\ncheckpoint.volumes = ['/data']\n\
         [service.b]\ndocker = { container = 'web', socket = '/run/other.sock' }\n\
         checkpoint.volumes = ['/data/deep']\n\
         [service.c]\npodman.container = 'web'\n\
         [service.d]\npodman = { container = 'web', options = ['--root', '/srv/d'] }\n\
         [service.e]\nrunc.bundle = '/srv/e'\ncheckpoint.volumes = ['/data']\n",
    );
    assert_eq!((config.warnings(), config.services.len()), (&[][..], 5));
}

#[test]
fn our_defaults_are_those_of_the_policies() {
    let config = parse("[service.a]\nrunc.bundle = '/b'\n[service.a.probe.p]\nexec.command = ['true']\n");
    let service = service(&config, "a");
    assert_eq!(service.retention, policies::retention::Settings::default());
    assert_eq!(service.probes[0].settings, policies::health::Settings::default());
    let policy = policies::service::Settings {
        probes: vec![policies::health::Settings::default()],
        ..policies::service::Settings::default()
    };
    assert_eq!(service.policy, policy);
}

#[test]
fn a_unit_needs_its_name_only() {
    let config = parse("[node]\non_host_shutdown = 'drain'\n[service.a]\nsystemd.unit = 'db@1.service'\n");
    assert_eq!(service(&config, "a").runtime, Runtime::Systemd(Systemd { unit: "db@1.service".to_owned() }));
    assert_eq!((config.node.on_host_shutdown, config.warnings().len()), (HostShutdown::Drain, 0));
}

#[test]
fn a_host_stands_alone_unless_told_otherwise() {
    let config = parse("[service.a]\nrunc.bundle = '/b'\n");
    let alone = Cluster {
        lease: Lease::Local,
        endpoints: Vec::new(),
        bucket: None,
        times: policies::lease::Settings::default(),
        watchdog: None,
        tls: ClusterTls::default(),
    };
    assert_eq!(
        (config.cluster, service(&parse("[service.a]\nrunc.bundle = '/b'\n"), "a").failover),
        (alone, None)
    );
}

#[test]
fn standbys_arrive_as_they_are_written() {
    let config = parse(
        r#"
        [cluster]
        lease = "etcd"
        endpoints = ["https://10.0.0.1:2379", "https://[::1]:2379/"]
        ttl = "20s"
        renew_interval = "4s"
        watchdog = "/dev/watchdog"
        tls = { ca = "/etc/ca.pem", cert = "/etc/node.pem", key = "/etc/node.key" }
        [service.a]
        runc.bundle = "/b"
        restart = { ladder = ["restore-latest", "fail-over"], on_exhausted = "fail-over" }
        failover = { standby = ["beta", "gamma"], address = "fd00::10/64", device = "eth0", fence = ["off"], fence_timeout = "5s", migration_threshold = 3, prefer = "load", apart = ["a"] }
        "#,
    );
    assert_eq!(config.warnings(), []);
    assert_eq!(config.cluster.endpoints, ["https://10.0.0.1:2379", "https://[::1]:2379"]);
    assert_eq!(config.cluster.watchdog.as_deref(), Some(Path::new("/dev/watchdog")));
    let times = &config.cluster.times;
    assert_eq!((times.ttl, times.renew_interval), (Duration::from_secs(20), Duration::from_secs(4)));
    assert_eq!(config.cluster.tls.key.as_deref(), Some(Path::new("/etc/node.key")));
    let failover = service(&config, "a").failover.unwrap();
    let names: Vec<_> = failover.standby.iter().map(|node| node.as_str()).collect();
    assert_eq!((names, failover.migration_threshold), (vec!["beta", "gamma"], Some(3)));
    assert_eq!(service(&config, "a").policy.ladder.migration_threshold, Some(3));
    assert_eq!((failover.prefer, failover.apart[0].as_str()), (Preference::Load, "a"));
    assert_eq!(failover.address.unwrap().to_string(), "fd00::10/64");
    assert_eq!((failover.fence, failover.on_take_over), (Some(vec!["off".to_owned()]), None));
    assert_eq!(failover.fence_timeout, Duration::from_secs(5));
    let bucket = parse("[cluster]\nlease = 'bucket'\nbucket = 's3://b/p'\n[service.a]\nrunc.bundle = '/b'\n");
    assert_eq!((bucket.cluster.lease, bucket.cluster.bucket.as_deref()), (Lease::Bucket, Some("s3://b/p")));
}

#[test]
fn probes_stand_in_the_order_of_their_settings() {
    let config = parse(
        "[service.a]\nrunc.bundle = '/b'\n[service.a.probe]\n\
         z = { tcp = { address = '[::1]:6379' }, interval = '2s' }\n\
         a = { http = { url = 'http://localhost:8080/x?y=1' }, interval = '3s', role = 'readiness' }\n\
         m = { http = { address = '10.0.0.1:80', host = 'example.org', status = [204, '300-302'] } }\n",
    );
    let service = service(&config, "a");
    let names: Vec<_> = service.probes.iter().map(|probe| probe.name.as_str()).collect();
    assert_eq!(names, ["a", "m", "z"]);
    for (probe, settings) in service.probes.iter().zip(&service.policy.probes) {
        assert_eq!(probe.settings, *settings);
    }
    let ProbeKind::Http(by_url) = &service.probes[0].kind else { panic!("http was written") };
    assert_eq!(by_url.target, HttpTarget::Tcp(Address { host: "localhost".to_owned(), port: 8080 }));
    assert_eq!(by_url.body, None);
    assert_eq!((by_url.path.as_str(), by_url.host.as_str()), ("/x?y=1", "localhost:8080"));
    assert_eq!(by_url.status, [200..=399]);
    let ProbeKind::Http(by_address) = &service.probes[1].kind else { panic!("http was written") };
    assert_eq!((by_address.path.as_str(), by_address.host.as_str()), ("/", "example.org"));
    assert_eq!(by_address.status, [204..=204, 300..=302]);
    assert_eq!(service.probes[2].kind, ProbeKind::Tcp(Address { host: "::1".to_owned(), port: 6379 }));
}

#[test]
fn every_kind_of_probe_is_read() {
    let config = parse(
        "[service.a]\nrunc.bundle = '/b'\n[service.a.probe]\n\
         a = { http = { socket = '/run/api.sock', path = '/livez', body = 'ok' } }\n\
         b = { grpc = { address = '127.0.0.1:50051' } }\n\
         c = { grpc = { address = '127.0.0.1:50051', service = 'shop.Cart' } }\n\
         d = { heartbeat = { file = '/run/shop/alive' } }\n\
         e = { exec = { command = ['ping'], inside = true } }\n\
         [service.b]\nprocess.command = ['b']\n[service.b.probe]\n\
         up = { notify = {}, role = 'startup' }\n\
         [service.c]\nprocess.command = ['c']\n[service.c.probe]\n\
         slow = { notify = {}, interval = '20s' }\n\
         quick = { notify = {}, interval = '2s' }\n",
    );
    let kinds: Vec<_> = service(&config, "a").probes.into_iter().map(|probe| probe.kind).collect();
    let ProbeKind::Http(http) = &kinds[0] else { panic!("http was written") };
    assert_eq!(http.target, HttpTarget::Unix("/run/api.sock".into()));
    assert_eq!(
        (http.path.as_str(), http.host.as_str(), http.body.as_deref()),
        ("/livez", "localhost", Some("ok"))
    );
    let grpc = |service: &str| {
        let address = Address { host: "127.0.0.1".to_owned(), port: 50051 };
        ProbeKind::Grpc(GrpcProbe { address, service: service.to_owned() })
    };
    let exec = ProbeKind::Exec(ExecProbe { command: vec!["ping".to_owned()], inside: true });
    let heartbeat = ProbeKind::Heartbeat("/run/shop/alive".into());
    assert_eq!(kinds[1..], [grpc(""), grpc("shop.Cart"), heartbeat, exec]);
    let told = |name: &str| service(&config, name).notify().map(|notify| notify.watchdog);
    assert_eq!(told("a"), None);
    assert_eq!(told("b"), Some(None), "whether it is up says nothing of a watchdog");
    assert_eq!(told("c"), Some(Some(Duration::from_secs(2))), "the strictest counts");
}

#[test]
fn a_probe_by_tls_believes_whom_it_is_told_to() {
    let config = parse(
        "[service.a]\nrunc.bundle = '/b'\n[service.a.probe]\n\
         a = { http = { url = 'http://localhost/' } }\n\
         b = { http = { url = 'https://localhost/' } }\n\
         c = { http = { address = '10.0.0.1:443', tls = true, ca = '/ca.crt' } }\n\
         d = { http = { socket = '/run/api.sock', tls = true, verify = false } }\n",
    );
    let asked = |probe: config::Probe| match probe.kind {
        ProbeKind::Http(http) => (http.target, http.tls),
        other => panic!("http was written: {other:?}"),
    };
    let found: Vec<_> = service(&config, "a").probes.into_iter().map(asked).collect();
    let at = |host: &str, port| HttpTarget::Tcp(Address { host: host.to_owned(), port });
    let expected = [
        (at("localhost", 80), None),
        (at("localhost", 443), Some(ProbeTls::Host)),
        (at("10.0.0.1", 443), Some(ProbeTls::Authority("/ca.crt".into()))),
        (HttpTarget::Unix("/run/api.sock".into()), Some(ProbeTls::Unverified)),
    ];
    assert_eq!(found, expected);
}

#[test]
fn what_is_written_arrives() {
    let config = parse(
        r#"
        [store]
        min_free = 4096
        max_total_size = "10GB"
        [service."db.main"]
        stop_signal = "SIGINT"
        depends_on = ["cache"]
        process = { command = ["/bin/db", "${HOME}/data", "$${HOME}", "$HOME"], env = { HOME = "${HOME}" }, user = "0:0", stdout = "journal", stderr = "/var/log/db" }
        [service."db.main".checkpoint]
        interval = "1m 30s"
        volumes = ["${HOME}/data/"]
        on = ["drain"]
        tcp = "close"
        criu = { file_locks = true, ghost_limit = "16MiB", network_lock = "skip", log_level = 0 }
        [service.cache]
        runc.bundle = "/srv/cache"
        checkpoint.interval = "never"
        [service.cold]
        runc.bundle = "/srv/cold"
        checkpoint.enabled = false
        "#,
    );
    assert_eq!((config.store.min_free, config.store.max_total_size), (4096, Some(10_000_000_000)));
    let db = service(&config, "db.main");
    let Runtime::Process(process) = db.runtime else { panic!("a process was written") };
    assert_eq!(process.command, ["/bin/db", "/home/db/data", "${HOME}", "$HOME"]);
    assert_eq!(process.env["HOME"], "/home/db");
    assert_eq!((process.stdout, process.stderr), (Output::Journal, Output::File("/var/log/db".into())));
    assert_eq!((db.stop_signal, process.user.as_deref()), (2, Some("0:0")));
    assert_eq!(db.depends_on, [ServiceName::try_from("cache").unwrap()]);
    assert_eq!(db.policy.cadence.interval, Some(Duration::from_secs(90)));
    assert_eq!((db.policy.cadence.on_shutdown, db.policy.cadence.on_drain), (false, true));
    assert_eq!(
        (db.checkpoint.volumes, db.checkpoint.tcp),
        (vec![PathBuf::from("/home/db/data")], Tcp::Close)
    );
    let criu = CriuOptions {
        file_locks: true,
        ghost_limit: Some(16 << 20),
        network_lock: Some(NetworkLock::Skip),
        log_level: Some(0),
        ..CriuOptions::default()
    };
    assert_eq!(db.checkpoint.criu, criu);
    let cache = service(&config, "cache");
    assert_eq!(cache.runtime, Runtime::Runc(Runc { bundle: "/srv/cache".into() }));
    assert_eq!((cache.policy.cadence.interval, cache.policy.trial_dump), (None, true));
    let cold = service(&config, "cold").policy;
    let cadence = (cold.cadence.interval, cold.cadence.on_shutdown, cold.cadence.on_drain, cold.trial_dump);
    assert_eq!(cadence, (None, false, false, false));
}

#[test]
fn a_group_has_its_members_in_the_order_of_their_start() {
    let config = parse(
        r#"
        [service.front]
        group = "shop"
        process.command = ["front"]
        depends_on = ["back", "cache"]
        probe.up.tcp.address = "127.0.0.1:80"
        stop_timeout = "3s"
        [service.back]
        group = "shop"
        runc.bundle = "/srv/back"
        depends_on = ["cache"]
        probe.up.tcp.address = "127.0.0.1:81"
        stop_signal = "INT"
        [service.cache]
        group = "shop"
        process.command = ["cache"]
        [group.shop]
        depends_on = ["mail"]
        [group.shop.checkpoint]
        interval = "5s"
        volumes = ["/srv/shop"]
        [group.shop.restart]
        max_attempts = 2
        [service.mail]
        process.command = ["mail"]
        "#,
    );
    let names: Vec<_> = config.services.keys().map(ServiceName::as_str).collect();
    assert_eq!(names, ["mail", "shop"], "members are in their group");
    let shop = service(&config, "shop");
    let Runtime::Group(members) = &shop.runtime else { panic!("a group was written") };
    let members: Vec<_> =
        members.iter().map(|it| (it.name.as_str(), it.stop_signal, it.stop_timeout.as_secs())).collect();
    assert_eq!(members, [("cache", 15, 10), ("back", 2, 10), ("front", 15, 3)]);
    let probes: Vec<_> = shop
        .probes
        .iter()
        .map(|probe| (probe.member.as_ref().map(ServiceName::as_str), probe.name.as_str()))
        .collect();
    assert_eq!(probes, [(Some("back"), "up"), (Some("front"), "up")]);
    assert_eq!(shop.policy.probes.len(), 2);
    assert_eq!(shop.policy.cadence.interval, Some(Duration::from_secs(5)));
    assert_eq!((shop.policy.ladder.max_attempts, shop.policy.stop_timeout.as_secs()), (2, 23));
    assert_eq!(shop.checkpoint.volumes, [PathBuf::from("/srv/shop")]);
    assert!(shop.policy.success_exit_codes.is_empty() && shop.failover.is_none());
}
