//! We: the real daemon, asked by the real command line, with checkpoints on demand only.
//!
//! Everything but that is as a user gets it by default. What happened is read from the daemon's journal of events.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use engine::durable::Log;
use serde::Deserialize;
use serde_json::Value;

use super::engine::Engine;
use super::{Checkpoint, Session};
use crate::ground::{Folders, Ground, Load};
use crate::processes::{self, Watched, check_interrupted};
use crate::service::Service;
use crate::tool::{LIMIT, Running, Tool};
use crate::{bundle, cgroups};

const NAME: &str = "memhog";
/// How often the journal of events is looked at, and the daemon asked while it starts.
const GLANCE: Duration = Duration::from_millis(5);

/// Events after which nothing more is to be waited for.
const GAVE_UP: [&str; 3] = ["gave-up", "start-failed", "commit-failed"];

/// An attempt that came to nothing; another may follow.
const RUNG_FAILED: &str = "rung-failed";

/// What runs the workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Runtime {
    /// A plain process.
    Process,
    /// A container.
    Runc,
    /// A container that an engine keeps.
    Engine(Engine),
}

struct Supervisor<'a> {
    /// The engine's command line, for taking its container away.
    engine: Option<Tool<'a>>,
    /// The command line, with the daemon's socket.
    tool: Tool<'a>,
    daemon: Option<Running>,
    service: Service,
    restoring: Option<Running>,
    /// How many events had happened when what is under way was begun.
    mark: usize,
    folders: Folders,
}

/// What of an event is of interest here.
#[derive(Debug, Deserialize)]
struct Event {
    at: String,
    kind: String,
    text: String,
    image: Option<String>,
}

/// Starts the daemon, and with it the workload.
pub(super) fn start(ground: &Ground, runtime: Runtime, load: Load) -> Result<Box<dyn Session + '_>> {
    let folders = ground.folders()?;
    let service = Service::new()?;
    let config = folders.disk.join("bench.toml");
    let text = configuration(ground, &runtime, load, service, &folders)?;
    let engine = match &runtime {
        Runtime::Engine(engine) => Some(engine.tool(ground, &folders)?),
        Runtime::Process | Runtime::Runc => None,
    };
    std::fs::write(&config, text).with_context(|| format!("write {}", config.display()))?;
    let mut tool = ground.tool(&ground.supervisor, None, &folders)?;
    let daemon = tool.start("supervisor", ["--config".into(), config])?;
    tool.arguments = vec!["--socket".into(), folders.disk.join("run/api.sock").into()];
    let daemon = Some(daemon);
    let mut session = Supervisor { engine, tool, daemon, service, restoring: None, mark: 0, folders };
    service.wait_until_up(|| session.check())?;
    session.wait_until_healthy()?;
    Ok(Box::new(session))
}

fn configuration(
    ground: &Ground,
    runtime: &Runtime,
    load: Load,
    service: Service,
    folders: &Folders,
) -> Result<String> {
    let arguments = load.arguments(service.address());
    let runs = match runtime {
        Runtime::Process => {
            let program = ground.memhog.display().to_string();
            let command: Vec<String> = std::iter::once(program).chain(arguments).collect();
            format!("process = {{ command = {command:?} }}")
        }
        Runtime::Runc => {
            let folder = folders.disk.join("bundle");
            let program = ground.runc.as_ref().context("runc is not installed")?;
            bundle::make(program, &folder, &ground.root(), &arguments)?;
            format!("runc = {{ bundle = {folder:?} }}")
        }
        Runtime::Engine(engine) => {
            let image = engine.image(ground, folders)?;
            let (table, place) = match engine {
                Engine::Docker(socket) => ("docker", format!("socket = {socket:?}")),
                Engine::Podman(program) => ("podman", format!("program = {program:?}")),
            };
            let command: Vec<String> = std::iter::once(bundle::PROGRAM.to_owned()).chain(arguments).collect();
            format!(
                "{table} = {{ container = {:?}, image = {image:?}, command = {command:?}, \
                 create_args = [\"--network\", \"host\"], {place} }}",
                folders.mark
            )
        }
    };
    Ok(format!(
        r#"[node]
name = {mark:?}
state_dir = {state:?}
run_dir = {run:?}
[store]
compression = {compression:?}
[service.{NAME}]
{runs}
[service.{NAME}.checkpoint]
interval = "never"
trial = false
timeout = "2m"
[service.{NAME}.probe.health]
http = {{ url = "http://{address}/health" }}
interval = "2s"
start_period = "1m"
[service.{NAME}.restart]
ladder = ["restore-latest"]
"#,
        mark = folders.mark,
        state = folders.disk.join("state"),
        run = folders.disk.join("run"),
        compression = ground.compression,
        address = service.address(),
    ))
}

impl Supervisor<'_> {
    fn ask(&self, verb: &str) -> Result<Value> {
        let finished = self.tool.run(verb, ["--output", "json", verb, NAME])?;
        let text = finished.stdout()?;
        serde_json::from_str(&text).with_context(|| format!("`supervisor {verb}` printed no JSON: {text}"))
    }

    /// The service as the daemon publishes it.
    fn status(&self) -> Result<Value> {
        let text = self.tool.run("status", ["--output", "json", "status"])?.stdout()?;
        let node: Value = serde_json::from_str(&text).context("`supervisor status` printed no JSON")?;
        let found = node["services"].as_array().and_then(|all| all.iter().find(|one| one["name"] == NAME));
        found.cloned().with_context(|| format!("no service {NAME} in {text}"))
    }

    fn wait_until_healthy(&mut self) -> Result<()> {
        let begun = Instant::now();
        loop {
            // The socket is there a little later than the service.
            let status = self.status();
            if status.as_ref().is_ok_and(|s| s["state"] == "running" && s["verdict"] == "healthy") {
                return Ok(());
            }
            if begun.elapsed() > LIMIT {
                bail!("{NAME} did not become healthy: {status:?}");
            }
            check_interrupted()?;
            self.check()?;
            std::thread::sleep(GLANCE);
        }
    }

    fn events(&self) -> Result<Vec<Event>> {
        let path = self.folders.disk.join("state/events.log");
        let replay = Log::read_all(&path).context("read the daemon's events")?;
        Ok(replay.records.iter().filter_map(|record| serde_json::from_slice(record).ok()).collect())
    }

    /// The first event since the mark that is the one.
    fn wait_for(&mut self, wanted: impl Fn(&Event) -> bool) -> Result<Event> {
        let begun = Instant::now();
        loop {
            let mut events = self.events()?;
            if let Some(at) = events.iter().skip(self.mark).position(&wanted) {
                return Ok(events.swap_remove(self.mark + at));
            }
            if begun.elapsed() > LIMIT {
                bail!("what was waited for did not happen; the last: {:?}", events.last());
            }
            check_interrupted()?;
            self.check()?;
            std::thread::sleep(GLANCE);
        }
    }

    fn image_size(&self, id: &str) -> Result<u64> {
        let text = self.tool.run("images", ["--output", "json", "images", NAME])?.stdout()?;
        let images: Value = serde_json::from_str(&text).context("`supervisor images` printed no JSON")?;
        let images = images.as_array().or_else(|| images["images"].as_array());
        let found = images.and_then(|all| all.iter().find(|image| image["id"] == id));
        found
            .and_then(|image| image["size_bytes"].as_u64())
            .with_context(|| format!("no image {id} in {text}"))
    }

    /// One checkpoint, hot and then durable.
    fn take(&mut self) -> Result<Checkpoint> {
        let counter = self.service.before_checkpoint()?;
        self.mark = self.events()?.len();
        let (begun, clock) = (Instant::now(), SystemTime::now());
        let answer = self.ask("checkpoint")?;
        let to_memory = begun.elapsed();
        let pause = self.service.pause()?;
        let id = answer["image"].as_str().with_context(|| format!("no image in {answer}"))?.to_owned();
        let is_durable =
            |event: &Event| event.kind == "image-durable" && event.image.as_deref() == Some(id.as_str());
        let durable = self.wait_for(is_durable)?;
        let at = humantime::parse_rfc3339(&durable.at).context("read an event's time")?;
        // The event's time has milliseconds only; it cannot have been before the image was hot.
        let to_disk = at.duration_since(clock).unwrap_or_default().max(to_memory);
        // Until then a recovery would take the image before it.
        self.wait_for(|event| event.kind == "image-judged" && event.image.as_deref() == Some(id.as_str()))?;
        let image = self.image_size(&id)?;
        Ok(Checkpoint { to_memory, pause, to_disk, pause_to_disk: pause, image, counter })
    }

    fn remove_container(&self) -> Result<()> {
        let Some(engine) = &self.engine else { return Ok(()) };
        engine.run("remove", ["rm", "--force", &self.folders.mark]).map(drop)
    }

    /// What an abrupt end leaves: cgroups, which hold frozen processes perhaps, and the hot images.
    fn clear(&mut self) -> Result<()> {
        drop(self.restoring.take());
        // What it has begun it brings to its end; if not, the rest is cleared all the same.
        let ended = self.daemon.take().map_or(Ok(()), Running::terminate);
        cgroups::thaw(&self.folders.mark);
        processes::end_descendants()?;
        cgroups::remove(&self.folders.mark);
        self.remove_container()?;
        remove_hot(&self.folders.disk.join("state"))?;
        ended
    }
}

impl Session for Supervisor<'_> {
    fn service(&self) -> Service {
        self.service
    }

    fn checkpoint(&mut self) -> Result<Checkpoint> {
        // The peers' dump to memory follows one to the disk; ours is measured at its second time as well.
        self.take()?;
        self.take()
    }

    fn kill(&mut self) -> Result<()> {
        let pid = self.status()?["pid"].as_i64().context("the service has a pid")?;
        let main = Watched::open(i32::try_from(pid).context("a pid")?)?;
        self.mark = self.events()?.len();
        main.kill()
    }

    /// The daemon does it.
    fn begin_recovery(&mut self) -> Result<()> {
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        self.ask("stop").map(drop)
    }

    fn begin_restore(&mut self) -> Result<()> {
        self.mark = self.events()?.len();
        self.restoring = Some(self.tool.start("restore", ["--output", "json", "restore", NAME])?);
        Ok(())
    }

    fn check(&mut self) -> Result<()> {
        // The journal is there a little later than the daemon.
        let events = self.events().unwrap_or_default();
        let since = events.get(self.mark..).unwrap_or_default();
        let gave_up = |event: &&Event| GAVE_UP.contains(&event.kind.as_str());
        if since.iter().any(|event| gave_up(&event)) {
            let told = since.iter().filter(|event| event.kind == RUNG_FAILED || gave_up(event));
            let told: Vec<String> = told.map(|event| format!("{}: {}", event.kind, event.text)).collect();
            bail!("{}", told.join("; "));
        }
        self.daemon.as_mut().map_or(Ok(()), Running::check)?;
        self.restoring.as_mut().map_or(Ok(()), Running::check)
    }

    fn finish(&mut self) -> Result<()> {
        match self.restoring.take() {
            Some(restoring) => restoring.finish().map(drop)?,
            None => self.wait_for(|event| event.kind == "recovered").map(drop)?,
        }
        // Its time counts, for that is what a user would see; but it should not go unnoticed.
        for event in self.events()?.iter().skip(self.mark).filter(|event| event.kind == RUNG_FAILED) {
            eprintln!("bench: more than one attempt was needed: {}", event.text);
        }
        Ok(())
    }

    fn end(mut self: Box<Self>) -> Result<()> {
        self.ask("stop")?;
        if let Some(daemon) = self.daemon.take() {
            daemon.terminate()?;
        }
        self.remove_container()?;
        match processes::wait_for_descendants()?.as_slice() {
            [] => Ok(()),
            left => bail!("the supervisor left processes {left:?} behind"),
        }
    }
}

impl Drop for Supervisor<'_> {
    fn drop(&mut self) {
        processes::clear_up(|| self.clear());
    }
}

/// Hot images lie in a folder that is named after the state folder.
fn remove_hot(state: &Path) -> Result<()> {
    let state = state.display().to_string();
    let mark: String = state.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let hot = PathBuf::from(format!("/dev/shm/supervisor{mark}"));
    match std::fs::remove_dir_all(&hot) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", hot.display()))
        }
        _ => Ok(()),
    }
}
