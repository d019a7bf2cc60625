//! Containers of docker, by its Engine API.
//!
//! docker has no way to restore from images that are not its own, so it is shown ours as a checkpoint of its own: a folder
//! of symbolic links. What it does with a checkpoint's files (it packs and unpacks them several times) it then does
//! with links only; CRIU follows them to the image. They are relative, because CRIU may open them from inside the container.

mod options;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant as Clock};

use bollard::models::ContainerInspectResponse;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::sync::OnceCell;

use super::container::{Container, Engine, ExitNote, Known, Mounted, Traces, program_of};
use super::{Effect, Place, Recipe, RestoreFrom, Runtime, links};
use crate::checkpoint::WhileFrozen;
use crate::criu::{Options, Tcp, close_connections};
use crate::durable;
use crate::error::{Error, Report, Result};
use crate::process::command::Command;

/// What is to be run.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The container's name.
    pub container: String,
    /// How it is created; `None`: it must exist.
    pub recipe: Option<Recipe>,
    /// The Engine API's socket.
    pub socket: PathBuf,
}

/// How long docker may be away (it is being restarted) before that is a failure.
const AWAY_MAX: Duration = Duration::from_secs(30);
/// How often it is looked for meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long one request may take.
const REQUEST_MAX: Duration = Duration::from_secs(30);

/// A service that is a container of docker.
pub fn docker(place: Place, spec: Spec) -> impl Runtime {
    Container::new(place, Docker { spec, client: OnceCell::new() })
}

#[derive(Debug)]
struct Docker {
    spec: Spec,
    client: OnceCell<bollard::Docker>,
}

impl Docker {
    async fn client(&self) -> Result<bollard::Docker> {
        let client = self.client.get_or_try_init(|| self.connect()).await;
        client.cloned().map_err(|e| self.failed("reach docker", &e))
    }

    async fn await_daemon(&self) -> Result<()> {
        let begun = Clock::now();
        let mut told = false;
        loop {
            let error = match self.client.get_or_try_init(|| self.connect()).await {
                Ok(client) => match client.ping().await {
                    Ok(_) => return Ok(()),
                    Err(error) => error,
                },
                Err(error) => error,
            };
            if begun.elapsed() > AWAY_MAX {
                return Err(self.failed("reach docker", &error));
            }
            if !told {
                tracing::warn!(%error, socket = %self.spec.socket.display(), "docker is away; waiting for it");
                told = true;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn connect(&self) -> std::result::Result<bollard::Docker, bollard::errors::Error> {
        let socket = self.spec.socket.display().to_string();
        let client =
            bollard::Docker::connect_with_unix(&socket, REQUEST_MAX.as_secs(), bollard::API_DEFAULT_VERSION)?;
        client.negotiate_version().await
    }

    fn failed(&self, what: &str, error: &bollard::errors::Error) -> Error {
        let name = &self.spec.container;
        match error {
            bollard::errors::Error::DockerResponseServerError { message, .. } => Error::Unavailable(
                Report::new(format!("{what} for the container {name}: docker says: {message}")),
            ),
            other => Error::Unavailable(
                Report::new(format!("{what} over {}", self.spec.socket.display()))
                    .because(other)
                    .remedy("is docker running, and is docker.socket the path of its socket?"),
            ),
        }
    }

    async fn find_now(&self) -> Result<Option<Known>> {
        let client = self.client().await?;
        let found = client
            .inspect_container(
                &self.spec.container,
                None::<bollard::query_parameters::InspectContainerOptions>,
            )
            .await;
        match found {
            Ok(found) => Ok(Some(known(found))),
            Err(bollard::errors::Error::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
            Err(error) => Err(self.failed("inspect", &error)),
        }
    }

    async fn create_now(&self, recipe: &Recipe) -> Result<()> {
        let mut argv = vec!["docker".to_owned()];
        argv.extend(recipe.arguments(&self.spec.container));
        let host = format!("unix://{}", self.spec.socket.display());
        let created = Command::new(argv).env("DOCKER_HOST", host).timeout(REQUEST_MAX).run().await?;
        if created.success() {
            return Ok(());
        }
        let lines = created.stderr.lines().map(str::to_owned);
        Err(Error::Refused(
            Report::new(format!("create the container {}", self.spec.container)).output(lines).remedy(
                "try the same `docker create` by hand; image and create_args are handed to it as they are",
            ),
        ))
    }

    async fn start_now(&self) -> Result<()> {
        let client = self.client().await?;
        let none = None::<bollard::query_parameters::StartContainerOptions>;
        client.start_container(&self.spec.container, none).await.map_err(|e| self.failed("start", &e))
    }

    async fn restore_now(&self, known: &Known, from: &RestoreFrom<'_>) -> Result<()> {
        let client = self.client().await?;
        let name = "supervisor";
        let folder = if known.folder.ends_with(&known.id) {
            known.folder.clone()
        } else {
            // A container in another's network has that one's files.
            let info = client.info().await.map_err(|e| self.failed("ask where docker keeps its data", &e))?;
            let data = info.docker_root_dir.unwrap_or_else(|| "/var/lib/docker".to_owned());
            Path::new(&data).join("containers").join(&known.id)
        };
        let folder = folder.join("checkpoints").join(name);
        remove(&folder)?;
        durable::create_dir_all(&folder)?;
        links::to_all(from.images, &folder, |name| Some(name))?;
        // docker refuses a checkpoint whose bytes it has not forgotten yet: no two are alike.
        let unlike =
            format!("attempt-{:?}", crate::clock::wall()).replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        durable::create_dir(&folder.join(unlike))?;
        let started = self.start_from(name, from.limit).await;
        remove(&folder)?;
        started
    }

    /// `docker start --checkpoint`, which the library does not know.
    async fn start_from(&self, checkpoint: &str, limit: Duration) -> Result<()> {
        let what = format!("restore the container {}", self.spec.container);
        let path = format!("/v1.41/containers/{}/start?checkpoint={checkpoint}", self.spec.container);
        let asked = tokio::time::timeout(limit, self.post(&path)).await;
        let (status, message) = asked.map_err(|_| {
            let limit = humantime::format_duration(limit);
            Error::Unavailable(Report::new(format!("{what}: docker did not finish within {limit}")))
        })??;
        match status {
            StatusCode::NO_CONTENT => Ok(()),
            StatusCode::NOT_MODIFIED => {
                Err(Error::Unavailable(Report::new(format!("{what}: it runs already"))))
            }
            _ if message.contains("experimental") => Err(Error::Refused(
                Report::new(format!("{what}: docker says: {message}"))
                    .remedy("docker restores only with {\"experimental\": true} in /etc/docker/daemon.json"),
            )),
            _ => Err(Error::Unavailable(Report::new(format!("{what}: docker says: {message}")))),
        }
    }

    async fn post(&self, path: &str) -> Result<(StatusCode, String)> {
        let failed = |e: &dyn std::fmt::Display| {
            Error::Unavailable(Report::new(format!("ask docker over {}: {e}", self.spec.socket.display())))
        };
        let stream = tokio::net::UnixStream::connect(&self.spec.socket).await.map_err(|e| failed(&e))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| failed(&e))?;
        let serving = tokio::spawn(connection);
        let request = Request::post(path).header("host", "docker").body(Empty::<Bytes>::new());
        let request = request.map_err(|e| failed(&e))?;
        let answer = sender.send_request(request).await.map_err(|e| failed(&e))?;
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(|e| failed(&e))?.to_bytes();
        serving.abort();
        let text = String::from_utf8_lossy(&body).into_owned();
        let message = serde_json::from_str::<serde_json::Value>(&text)
            .ok()
            .and_then(|value| Some(value.get("message")?.as_str()?.to_owned()));
        Ok((status, message.unwrap_or(text)))
    }
}

impl Engine for Docker {
    fn kind(&self) -> &'static str {
        "docker"
    }

    fn program(&self) -> String {
        let Spec { container, recipe, socket: _ } = &self.spec;
        program_of(container, recipe.as_ref(), &[])
    }

    fn container(&self) -> &str {
        &self.spec.container
    }

    fn recipe(&self) -> Option<&Recipe> {
        self.spec.recipe.as_ref()
    }

    fn ready(&self) -> Effect<'_, ()> {
        Box::pin(self.await_daemon())
    }

    fn find(&self) -> Effect<'_, Option<Known>> {
        Box::pin(self.find_now())
    }

    /// Its daemon is asked in a few milliseconds.
    fn exit_note(&self, _: i32) -> Option<ExitNote> {
        None
    }

    /// What can be seen is there before the daemon knows of it, and until then it refuses.
    fn traces(&self, _: &Known, _: &Path) -> Option<Traces> {
        None
    }

    fn create<'a>(&'a self, recipe: &'a Recipe) -> Effect<'a, ()> {
        Box::pin(self.create_now(recipe))
    }

    fn start(&self) -> Effect<'_, ()> {
        Box::pin(self.start_now())
    }

    fn dump_options(&self, options: Options) -> Result<Options> {
        options::for_docker(options)
    }

    fn complete<'a>(&'a self, _: &'a Known, options: &'a Options, dump: &'a Path) -> Effect<'a, ()> {
        Box::pin(async move {
            match options.tcp {
                Tcp::Close => close_connections(dump),
                Tcp::Established | Tcp::SkipInFlight => Ok(()),
            }
        })
    }

    fn while_frozen(&self, _: &Known, _: &Path) -> WhileFrozen {
        None
    }

    fn restore<'a>(&'a self, known: &'a Known, from: &'a RestoreFrom<'a>, _: &'a Options) -> Effect<'a, ()> {
        Box::pin(self.restore_now(known, from))
    }
}

fn known(found: ContainerInspectResponse) -> Known {
    let state = found.state.unwrap_or_default();
    let running = state.running == Some(true);
    let pid = state.pid.and_then(|pid| i32::try_from(pid).ok()).filter(|pid| running && *pid > 0);
    let host = found.host_config.unwrap_or_default();
    let policy = host.restart_policy.and_then(|policy| policy.name).map(|name| name.to_string());
    let folder = found.hostname_path.and_then(|path| Some(Path::new(&path).parent()?.to_owned()));
    let changes = found.graph_driver.and_then(|driver| driver.data.get("UpperDir").cloned());
    let mounted = |mount: bollard::models::MountPoint| Mounted {
        volume: mount.name.filter(|_| mount.typ.as_deref() == Some("volume")),
        source: mount.source.unwrap_or_default().into(),
        destination: mount.destination.unwrap_or_default().into(),
    };
    Known {
        id: found.id.unwrap_or_default(),
        image: found.image.unwrap_or_default(),
        pid,
        at_rest: !running && state.restarting != Some(true),
        exit_code: state.exit_code.and_then(|code| i32::try_from(code).ok()).unwrap_or(0),
        out_of_memory: state.oom_killed == Some(true),
        changes: changes.map(PathBuf::from),
        mounts: found.mounts.unwrap_or_default().into_iter().map(mounted).collect(),
        restart_policy: policy.unwrap_or_default(),
        folder: folder.unwrap_or_default(),
        tty: found.config.and_then(|config| config.tty) == Some(true),
        ..Known::default()
    }
}

fn remove(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::Unavailable(Report::new(format!("remove {}", folder.display())).because(e)))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inspected(state: serde_json::Value) -> ContainerInspectResponse {
        serde_json::from_value(serde_json::json!({
            "Id": "a791", "Image": "sha256:f0af", "State": state, "HostnamePath": "/d/containers/a791/hostname",
            "HostConfig": { "RestartPolicy": { "Name": "unless-stopped" } }, "Config": { "Tty": true },
            "GraphDriver": { "Name": "overlay2", "Data": { "UpperDir": "/d/overlay2/x/diff" } },
            "Mounts": [
                { "Type": "volume", "Name": "vol", "Source": "/d/volumes/vol/_data", "Destination": "/data" },
                { "Type": "bind", "Source": "/srv/here", "Destination": "/there" },
            ],
        }))
        .expect("what docker 20.10 says")
    }

    #[test]
    fn what_docker_says_is_understood() {
        let running = known(inspected(serde_json::json!({ "Running": true, "Pid": 77 })));
        assert_eq!((running.pid, running.at_rest, running.tty), (Some(77), false, true));
        let ended = serde_json::json!({ "Running": false, "Pid": 0, "ExitCode": 137, "OOMKilled": true });
        let ended = known(inspected(ended));
        assert_eq!((ended.pid, ended.at_rest, ended.exit_code), (None, true, 137));
        assert!(ended.out_of_memory && ended.folder.ends_with("containers/a791"));
        assert_eq!(ended.changes, Some("/d/overlay2/x/diff".into()));
        let volumes: Vec<_> = ended.mounts.iter().map(|mount| mount.volume.as_deref()).collect();
        assert_eq!(volumes, [Some("vol"), None]);
        assert_eq!(ended.restart_policy, "unless-stopped");
    }
}
