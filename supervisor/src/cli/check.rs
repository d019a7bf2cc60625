//! `check`: every mistake of the configuration, or what it would do.

use std::path::Path;

use config::{Config, HttpTarget, Output, ProbeKind, Recipe, Runtime, Service, Severity};
use policies::health::Role;
use policies::id::ServiceName;
use serde::Serialize;

use super::failure::Failure;
use super::screen::Screen;
use super::{cert, words};
use crate::assemble;

/// Reads and checks a file.
pub(crate) fn read(file: &Path) -> Result<Config, Failure> {
    let (text, origin) = (load(file)?, file.display().to_string());
    parse(&text, &origin).map_err(|errors| Failure::Invalid(errors.to_string()))
}

/// Says what is wrong, or what would be done.
pub(crate) async fn check(screen: &Screen, file: Option<&Path>) -> Result<(), Failure> {
    let file =
        file.ok_or_else(|| Failure::Invalid("name the file: supervisor check --config FILE".to_owned()))?;
    let (text, origin) = (load(file)?, file.display().to_string());
    let errors = match parse(&text, &origin) {
        Ok(config) => return usable(screen, &origin, &config).await,
        Err(errors) => errors,
    };
    if screen.is_json() {
        screen.json(&Report::new(false, &errors.mistakes))?;
    } else {
        screen.line(&errors.to_string())?;
    }
    Err(Failure::Invalid(format!("{origin} cannot be used")))
}

/// The text has no mistakes; the keys that it names may be absent, open to others, or no keys, and its watchdog none.
async fn usable(screen: &Screen, origin: &str, config: &Config) -> Result<(), Failure> {
    let keys = assemble::keys(&config.store).map(drop).map_err(|e| e.to_string());
    let watchdog = assemble::watchdog(&config.cluster).map_or(Ok(()), |wanted| wanted.examine());
    let watchdog = watchdog.map_err(|e| e.to_string());
    let units = units(config).await;
    if screen.is_json() {
        let report = Report::new(keys.is_ok() && watchdog.is_ok(), config.warnings());
        let (keys, watchdog) = (keys.as_ref().err().cloned(), watchdog.as_ref().err().cloned());
        screen.json(&Report { keys, watchdog, units, ..report })?;
    } else if keys.is_ok() && watchdog.is_ok() {
        let units: String = units.iter().map(|doubt| format!("\nnote: {doubt}\n")).collect();
        screen.print(&(shown(origin, config) + &certificates(config) + &units))?;
    }
    keys.and(watchdog).map_err(|why| Failure::Invalid(format!("{origin} cannot be used: {why}")))
}

/// What is doubtful about units, where there is a systemd to be asked.
async fn units(config: &Config) -> Vec<String> {
    let systemd = engine::systemd::Systemd::new();
    let mut doubts = Vec::new();
    for service in config.services.values() {
        if let Runtime::Systemd(of) = &service.runtime {
            doubts.extend(engine::runtime::systemd::doubts(&systemd, &of.unit).await);
        }
    }
    doubts
}

fn load(file: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(file)
        .map_err(|e| Failure::Invalid(format!("cannot read the configuration {}: {e}", file.display())))
}

fn parse(text: &str, origin: &str) -> Result<Config, config::Errors> {
    Config::parse(text, origin, &|name| std::env::var(name).ok())
}

/// The same for programs.
#[derive(Debug, Serialize)]
struct Report<'a> {
    usable: bool,
    mistakes: Vec<Mistake<'a>>,
    /// What is wrong with the keys of images, which are not in the file.
    keys: Option<String>,
    /// What is wrong with the watchdog.
    watchdog: Option<String>,
    /// What is doubtful about units of systemd.
    units: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Mistake<'a> {
    severity: &'static str,
    line: usize,
    column: usize,
    message: &'a str,
    hint: Option<&'a str>,
}

impl<'a> Report<'a> {
    fn new(usable: bool, mistakes: &'a [config::Mistake]) -> Self {
        let mistakes = mistakes.iter().map(|mistake| Mistake {
            severity: match mistake.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            },
            line: mistake.line,
            column: mistake.column,
            message: &mistake.message,
            hint: mistake.hint.as_deref(),
        });
        Self { usable, mistakes: mistakes.collect(), keys: None, watchdog: None, units: Vec::new() }
    }
}

fn shown(origin: &str, config: &Config) -> String {
    let mut text = String::new();
    for warning in config.warnings() {
        text.push_str(&format!("{warning}\n\n"));
    }
    text.push_str(&format!("{origin}: no mistakes, {}\n", words::count(config.services.len(), "service")));
    text.push_str(&format!(
        "images in {}{}, API on {}\n",
        config.store.path.display(),
        if config.store.encryption.is_some() { ", encrypted" } else { "" },
        config.api.socket.display()
    ));
    text.push_str(&replicas(config));
    for (name, service) in &config.services {
        text.push_str(&format!("\n{}", described(name, service)));
    }
    text
}

/// What is doubtful about the certificates; the files may be made later, so it is no mistake.
fn certificates(config: &Config) -> String {
    cert::doubts(config).iter().map(|doubt| format!("\nnote: {doubt}\n")).collect()
}

/// One line for each place that images are sent to.
fn replicas(config: &Config) -> String {
    let line = |replica: &config::Replica| {
        let whose = replica.services.as_ref().map_or_else(
            || "of all services".to_owned(),
            |services| {
                format!("of {}", services.iter().map(ServiceName::as_str).collect::<Vec<_>>().join(", "))
            },
        );
        let rate =
            replica.rate_limit.map(|rate| format!(", at most {}/s", words::size(rate))).unwrap_or_default();
        let kept = words::count(replica.retention.max_checkpoints, "image");
        format!("images {whose} go to {}, {kept} kept there{rate}\n", replica.place)
    };
    let listen = config.api.listen.as_ref().map(|listen| format!("peers bring images to {listen}\n"));
    let https = config.api.https.as_ref();
    let https = https.map(|https| format!("whoever has the token is let in at https://{}\n", https.listen));
    config.store.replicas.iter().map(line).chain(listen).chain(https).collect()
}

fn described(name: &ServiceName, service: &Service) -> String {
    let mut lines = vec![format!("{name}"), format!("runs         {}", runtime(&service.runtime))];
    if !service.depends_on.is_empty() {
        let names: Vec<_> = service.depends_on.iter().map(ServiceName::to_string).collect();
        lines.push(format!("waits for    {}", names.join(", ")));
    }
    lines.push(format!("checkpoints  {}", checkpoints(service)));
    if service.probes.is_empty() {
        lines.push("probes       none: only its exit is noticed, not a hang".to_owned());
    }
    lines.extend(service.probes.iter().map(|probe| format!("probe        {}", self::probe(probe))));
    lines.push(format!("recovery     {}", recovery(service)));
    lines.join("\n    ") + "\n"
}

fn runtime(runtime: &Runtime) -> String {
    match runtime {
        Runtime::Runc(runc) => format!("runc, the bundle {}", runc.bundle.display()),
        Runtime::Docker(docker) => {
            format!("docker, {}", container(&docker.container, docker.recipe.as_ref()))
        }
        Runtime::Podman(podman) => {
            format!("podman, {}", container(&podman.container, podman.recipe.as_ref()))
        }
        Runtime::Systemd(systemd) => format!("systemd, the unit {}", systemd.unit),
        Runtime::Group(members) => {
            let members: Vec<_> = members
                .iter()
                .map(|member| format!("{} ({})", member.name, self::runtime(&member.runtime)))
                .collect();
            format!("a group, as one: {}", members.join("; "))
        }
        Runtime::Process(process) => {
            let user = process.user.as_ref().map(|user| format!(" as {user}")).unwrap_or_default();
            let to = match &process.stdout {
                Output::File(path) => path.display().to_string(),
                Output::Journal => "the journal".to_owned(),
            };
            format!("process: {}{user}, output to {to}", process.command.join(" "))
        }
    }
}

fn container(name: &str, recipe: Option<&Recipe>) -> String {
    match recipe {
        Some(recipe) => format!("the container {name}, created of {} if it does not exist", recipe.image),
        None => format!("the container {name}, which must exist"),
    }
}

fn checkpoints(service: &Service) -> String {
    if !service.checkpoint.enabled {
        return "never: it is only ever started from scratch".to_owned();
    }
    let cadence = &service.policy.cadence;
    let mut text = match cadence.interval {
        Some(interval) => {
            format!("every {} (jitter {:.0} %)", words::duration(interval), cadence.jitter * 100.0)
        }
        None => "on demand only".to_owned(),
    };
    text.push_str(&format!(", at most {}", words::duration(cadence.timeout)));
    if cadence.require_healthy {
        text.push_str(", while healthy");
    }
    text.push_str(&format!(", {} kept", words::count(service.retention.max_checkpoints, "image")));
    if let Some(age) = service.retention.max_age {
        text.push_str(&format!(" for at most {}", words::duration(age)));
    }
    let volumes = &service.checkpoint.volumes;
    if !volumes.is_empty() {
        let paths: Vec<_> = volumes.iter().map(|path| path.display().to_string()).collect();
        text.push_str(&format!(", with {}", paths.join(" ")));
    }
    text
}

fn probe(probe: &config::Probe) -> String {
    let settings = &probe.settings;
    let kind = match &probe.kind {
        ProbeKind::Http(http) => match &http.target {
            HttpTarget::Tcp(address) => format!("{}://{address}{}", scheme(http), http.path),
            HttpTarget::Unix(socket) => format!("{} over {}, {}", scheme(http), socket.display(), http.path),
        },
        ProbeKind::Tcp(address) => format!("tcp {address}"),
        ProbeKind::Exec(exec) => {
            format!("exec{} {}", if exec.inside { " inside" } else { "" }, exec.command.join(" "))
        }
        ProbeKind::Grpc(grpc) if grpc.service.is_empty() => format!("grpc {}", grpc.address),
        ProbeKind::Grpc(grpc) => format!("grpc {}, {}", grpc.address, grpc.service),
        ProbeKind::Heartbeat(file) => format!("heartbeat {}", file.display()),
        ProbeKind::Notify => "notify".to_owned(),
        ProbeKind::Report(_) => "reports of a sidecar".to_owned(),
    };
    let outcome = match settings.role {
        Role::Liveness => "recovered",
        Role::Readiness => "reported as not ready",
        Role::Startup => "not up",
    };
    let failures = words::count(usize::try_from(settings.failure_threshold).unwrap_or(usize::MAX), "failure");
    let interval = words::duration(settings.interval);
    let timeout = words::duration(settings.timeout);
    let (name, role) = (&probe.name, settings.role);
    if let ProbeKind::Report(max_age) = &probe.kind {
        let most = words::duration(*max_age);
        return format!(
            "{name}, {role}: {kind}, each for at most {most}; after {failures} in a row {outcome}"
        );
    }
    format!("{name}, {role}: {kind} every {interval}, limit {timeout}; after {failures} in a row {outcome}")
}

fn scheme(http: &config::HttpProbe) -> &'static str {
    if http.tls.is_some() { "https" } else { "http" }
}

fn recovery(service: &Service) -> String {
    let ladder = &service.policy.ladder;
    let rungs: Vec<_> = ladder.rungs.iter().map(|rung| rung.name()).collect();
    let backoff = &service.policy.backoff;
    format!(
        "{}: {}; {} in {}, backoff {} to {}",
        service.policy.restart_policy,
        rungs.join(" -> "),
        words::count(usize::try_from(ladder.max_attempts).unwrap_or(usize::MAX), "attempt"),
        words::duration(ladder.window),
        words::duration(backoff.initial),
        words::duration(backoff.max),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
[service.counter]
process = { command = ["/bin/counter", "--listen"] }
[service.counter.checkpoint]
interval = "2s"
max_checkpoints = 5
[service.counter.probe.health]
http = { url = "http://127.0.0.1:8080/health" }
interval = "500ms"
timeout = "250ms"
"#;

    #[test]
    fn what_would_be_done_is_said_in_short() {
        let config = Config::parse(TEXT, "ha.toml", &|_| None).expect("no mistakes");
        let text = shown("ha.toml", &config);
        for expected in [
            "ha.toml: no mistakes, 1 service\n",
            "API on /run/supervisor/api.sock\n",
            "counter\n    runs         process: /bin/counter --listen, output to ",
            "checkpoints  every 2s (jitter 10 %), at most 30s, while healthy, 5 images kept\n",
            "probe        health, liveness: http://127.0.0.1:8080/health every 500ms, limit 250ms; \
             after 3 failures in a row recovered\n",
            ": restore-latest -> restore-older -> cold-start",
        ] {
            assert!(text.contains(expected), "{expected:?} is not in\n{text}");
        }
    }

    #[test]
    fn containers_are_said_to_exist_or_to_be_created() {
        let text = "[service.a]\ndocker.container = 'web'\n\
                    [service.b]\npodman = { container = 'cache', image = 'redis:7' }\n";
        let config = Config::parse(text, "ha.toml", &|_| None).expect("no mistakes");
        let text = shown("ha.toml", &config);
        for expected in [
            "runs         docker, the container web, which must exist\n",
            "runs         podman, the container cache, created of redis:7 if it does not exist\n",
        ] {
            assert!(text.contains(expected), "{expected:?} is not in\n{text}");
        }
    }

    #[tokio::test]
    async fn a_key_that_cannot_be_used_is_found_before_the_supervisor_is_started() {
        let folder = tempfile::tempdir().expect("a folder");
        let (file, key) = (folder.path().join("ha.toml"), folder.path().join("key"));
        let text = format!("[store]\nencryption_key_file = \"{}\"\n{TEXT}", key.display());
        std::fs::write(&file, text).expect("room");
        let screen = Screen::plain();
        let checked = || check(&screen, Some(&file));
        let refused = async |expected: &str| {
            let failure = checked().await.expect_err(expected);
            assert!(failure.exit_code() == 2 && failure.to_string().contains(expected), "{failure}");
        };
        refused("make one: ").await;
        std::fs::write(&key, [7; 31]).expect("room");
        refused("chmod 600").await;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&key, mode).expect("ours");
        refused("must hold 32 bytes").await;
        std::fs::write(&key, [7; 32]).expect("room");
        checked().await.expect("a key");
    }

    #[tokio::test]
    async fn a_watchdog_that_is_none_is_found_before_the_supervisor_is_started() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("ha.toml");
        let cluster = "[cluster]\nlease = 'bucket'\nbucket = 'file:///leases'\nwatchdog = '/dev/null'\n";
        std::fs::write(&file, format!("{cluster}{TEXT}")).expect("room");
        let failure = check(&Screen::plain(), Some(&file)).await.expect_err("no watchdog");
        assert!(
            failure.exit_code() == 2 && failure.to_string().contains("/dev/null is no watchdog"),
            "{failure}"
        );
    }

    #[tokio::test]
    async fn mistakes_are_shown_as_they_are() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("ha.toml");
        std::fs::write(&file, "[servic.a]\n[node]\nnane = 1\n").expect("room");
        let failure = read(&file).expect_err("two mistakes");
        assert_eq!(failure.exit_code(), 2);
        let text = failure.to_string();
        assert!(text.contains("ha.toml: 2 errors") && text.contains("servic"), "{text}");
        assert_eq!(check(&Screen::plain(), Some(&file)).await.expect_err("two mistakes").exit_code(), 2);
        assert_eq!(check(&Screen::plain(), None).await.expect_err("no file").exit_code(), 2);
        assert_eq!(read(Path::new("/nonexistent/ha.toml")).expect_err("no file").exit_code(), 2);
    }
}
