//! systemd, by its D-Bus interface: what a unit is and does, and the few things that are asked of it.
//!
//! Every question is asked anew, so that nothing is known that is not so any more; waiting is looking again. It refuses to decide, and to
//! write units.

mod facts;
pub mod logind;
mod proxies;
mod word;

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant as Clock};

use tokio::sync::Mutex;
use zbus::proxy::CacheProperties;
use zbus::zvariant::{OwnedObjectPath, OwnedValue};
use zbus::{Connection, connection};

pub use self::facts::{JobKind, Load, Unit};
pub use self::word::{is_plain, word};

use self::proxies::{JobProxy, ManagerProxy, ServiceProxy, UnitProxy};
use crate::error::{Error, Report, Result};

/// How long one question may take. A reload of all units of a large host takes seconds.
const CALL_MAX: Duration = Duration::from_secs(30);
/// How often a unit is read until nothing has changed meanwhile.
const READS_MAX: usize = 3;
/// How often a unit is looked at that is being started or stopped.
const LOOK_EVERY: Duration = Duration::from_millis(5);
const SERVICE: &str = "org.freedesktop.systemd1.Service";
const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";

/// Whether this host is run by a systemd (sd_booted(3)).
pub fn is_booted() -> bool {
    std::path::Path::new("/run/systemd/system").is_dir()
}

/// A handle on this host's systemd, connected when it is first asked something. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Systemd {
    bus: Bus,
}

/// A connection to the system bus, made when it is first needed and again when it was lost. Clones are the same.
#[derive(Debug, Clone, Default)]
struct Bus {
    known: Arc<Mutex<Option<Connection>>>,
}

impl Bus {
    async fn connection(&self) -> Result<Connection> {
        let mut known = self.known.lock().await;
        if let Some(connection) = known.as_ref() {
            return Ok(connection.clone());
        }
        let made = within(CALL_MAX, async { connection::Builder::system()?.build().await }).await;
        let made = made.map_err(|error| failed("reach the system's D-Bus", &error))?;
        *known = Some(made.clone());
        Ok(made)
    }

    /// Asks; a connection that was lost since the last time is made again, once.
    async fn ask<T, F>(&self, what: &str, question: impl Fn(Connection) -> F) -> Result<T>
    where
        F: Future<Output = zbus::Result<T>>,
    {
        let mut error = match within(CALL_MAX, question(self.connection().await?)).await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        if is_lost(&error) {
            *self.known.lock().await = None;
            match within(CALL_MAX, question(self.connection().await?)).await {
                Ok(answer) => return Ok(answer),
                Err(again) => error = again,
            }
        }
        Err(failed(what, &error))
    }
}

impl Systemd {
    /// Not connected yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A unit as it is now. One that does not exist is one that is not loaded.
    ///
    /// # Errors
    /// `Unavailable` if systemd cannot be asked.
    pub async fn unit(&self, name: &str) -> Result<Unit> {
        let ask = |connection| async move {
            let path = manager(&connection).await?.load_unit(name).await?;
            read(&connection, &path).await
        };
        self.bus.ask(&format!("ask systemd about {name}"), ask).await
    }

    /// The settings of a unit that its processes run under, as systemd calls them.
    ///
    /// # Errors
    /// As [`Systemd::unit`].
    pub async fn settings(&self, name: &str) -> Result<HashMap<String, OwnedValue>> {
        let ask = |connection: Connection| async move {
            let path = manager(&connection).await?.load_unit(name).await?;
            let properties = zbus::fdo::PropertiesProxy::builder(&connection)
                .destination("org.freedesktop.systemd1")?
                .path(path)?
                .cache_properties(CacheProperties::No)
                .build()
                .await?;
            let service = zbus::names::InterfaceName::try_from(SERVICE)?;
            Ok(properties.get_all(service).await?)
        };
        self.bus.ask(&format!("ask systemd for the settings of {name}"), ask).await
    }

    /// Starts a unit and waits until it has, or has not.
    ///
    /// # Errors
    /// `Unavailable` if it does not run then.
    pub async fn start(&self, name: &str, limit: Duration) -> Result<Unit> {
        let what = format!("start {name}");
        self.bus
            .ask(&what, |c| async move { manager(&c).await?.start_unit(name, "replace").await.map(drop) })
            .await?;
        let unit = self.settled(name, limit).await?;
        if unit.is_active() {
            return Ok(unit);
        }
        let report = Report::new(format!("{what}: it is {}, its result is {}", unit.active, unit.result));
        Err(Error::Unavailable(report.remedy(format!("`systemctl status {name}` says more"))))
    }

    /// Stops a unit and waits until it has.
    ///
    /// # Errors
    /// `Unavailable` if it has not within the limit.
    pub async fn stop(&self, name: &str, limit: Duration) -> Result<()> {
        let what = format!("stop {name}");
        let ask = |connection| async move {
            unless_unloaded(manager(&connection).await?.stop_unit(name, "replace").await.map(drop))
        };
        self.bus.ask(&what, ask).await?;
        let unit = self.settled(name, limit).await?;
        if unit.is_active() {
            let report = Report::new(format!("{what}: it is {} again", unit.active));
            return Err(Error::Unavailable(report));
        }
        Ok(())
    }

    /// Waits until nothing is under way with a unit.
    ///
    /// # Errors
    /// `Unavailable` if something still is when the limit is over.
    pub async fn settled(&self, name: &str, limit: Duration) -> Result<Unit> {
        let begun = Clock::now();
        loop {
            let unit = self.unit(name).await?;
            if unit.is_settled() {
                return Ok(unit);
            }
            if begun.elapsed() > limit {
                let (state, limit) = (&unit.active, humantime::format_duration(limit));
                let text = format!("wait for {name}: it is still {state} after {limit}");
                return Err(Error::Unavailable(Report::new(text)));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Lets a unit that has failed, or was started too often, be started again.
    ///
    /// # Errors
    /// As [`Systemd::unit`].
    pub async fn forgive(&self, name: &str) -> Result<()> {
        let ask = |connection| async move {
            unless_unloaded(manager(&connection).await?.reset_failed_unit(name).await)
        };
        self.bus.ask(&format!("reset the failed state of {name}"), ask).await
    }

    /// Has systemd remember how a unit ended, as long as we are connected: it forgets those that nobody wants at once.
    ///
    /// # Errors
    /// As [`Systemd::unit`].
    pub async fn remember(&self, name: &str) -> Result<()> {
        let ask = |connection| async move { manager(&connection).await?.ref_unit(name).await };
        self.bus.ask(&format!("have systemd remember {name}"), ask).await
    }

    /// Has all units read anew.
    ///
    /// # Errors
    /// As [`Systemd::unit`].
    pub async fn reload(&self) -> Result<()> {
        let ask = |connection| async move { manager(&connection).await?.reload().await };
        self.bus.ask("have systemd read its units anew", ask).await
    }

    /// Whether the host is being shut down.
    ///
    /// # Errors
    /// As [`Systemd::unit`].
    pub async fn is_stopping(&self) -> Result<bool> {
        let ask = |connection| async move { manager(&connection).await?.system_state().await };
        Ok(self.bus.ask("ask systemd how the host is", ask).await? == "stopping")
    }
}

async fn manager(connection: &Connection) -> zbus::Result<ManagerProxy<'_>> {
    ManagerProxy::builder(connection).cache_properties(CacheProperties::No).build().await
}

/// All that is asked is answered one after the other. What ended in between makes the rest old: then it is asked again.
async fn read(connection: &Connection, path: &OwnedObjectPath) -> zbus::Result<Unit> {
    for _ in 1..READS_MAX {
        if let (unit, Reading::Present) = read_once(connection, path).await? {
            return Ok(unit);
        }
    }
    Ok(read_once(connection, path).await?.0)
}

/// Whether what was under way with a unit as it was read still is.
enum Reading {
    Present,
    /// It has ended meanwhile.
    Outdated,
}

async fn read_once(connection: &Connection, path: &OwnedObjectPath) -> zbus::Result<(Unit, Reading)> {
    let unit = UnitProxy::builder(connection).path(path.clone())?;
    let unit = unit.cache_properties(CacheProperties::No).build().await?;
    let service = ServiceProxy::builder(connection).path(path.clone())?;
    let service = service.cache_properties(CacheProperties::No).build().await?;
    let load = Load::of(&unit.load_state().await?);
    if load != Load::Loaded {
        return Ok((Unit { load, ..Unit::default() }, Reading::Present));
    }
    let (active, job, file, triggered_by, left, entered) = tokio::try_join!(
        unit.active_state(),
        unit.job(),
        unit.unit_file_state(),
        unit.triggered_by(),
        unit.active_exit(),
        unit.active_enter(),
    )?;
    let (main, last_main, ended, code, status, result) = tokio::try_join!(
        service.main_pid(),
        service.exec_main_pid(),
        service.exec_main_exit(),
        service.exec_main_code(),
        service.exec_main_status(),
        service.result(),
    )?;
    let (cgroup, restart, restarts, kind, dynamic_user, log_name, commands) = tokio::try_join!(
        service.control_group(),
        service.restart(),
        service.n_restarts(),
        service.kind(),
        service.dynamic_user(),
        service.syslog_identifier(),
        service.exec_start(),
    )?;
    let (job, reading) = job_kind(connection, job).await;
    let unit = Unit {
        load,
        active,
        job,
        unit_file: file,
        sockets: triggered_by.into_iter().filter(|unit| unit.ends_with(".socket")).collect(),
        entered,
        left,
        main: pid(main),
        last_main: pid(last_main),
        ended,
        wait_status: facts::wait_status(code, status),
        result,
        cgroup,
        restart,
        restarts,
        kind,
        dynamic_user,
        log_name,
        command: commands.into_iter().next().map(|command| command.1).unwrap_or_default(),
    };
    Ok((unit, reading))
}

/// What is under way with a unit, if anything.
async fn job_kind(connection: &Connection, (id, path): (u32, OwnedObjectPath)) -> (Option<JobKind>, Reading) {
    if id == 0 {
        return (None, Reading::Present);
    }
    let kind = async {
        let job = JobProxy::builder(connection).path(path)?;
        job.cache_properties(CacheProperties::No).build().await?.job_type().await
    };
    match kind.await {
        Ok(kind) => (Some(JobKind::of(&kind)), Reading::Present),
        Err(_) => (None, Reading::Outdated),
    }
}

/// What is not even loaded has neither a state nor processes.
fn unless_unloaded(done: zbus::Result<()>) -> zbus::Result<()> {
    match done {
        Err(zbus::Error::MethodError(name, ..)) if name.as_str() == NO_SUCH_UNIT => Ok(()),
        other => other,
    }
}

fn pid(pid: u32) -> Option<i32> {
    i32::try_from(pid).ok().filter(|pid| *pid > 0)
}

/// A question that is not answered in time is a lost connection.
async fn within<T>(limit: Duration, asked: impl Future<Output = zbus::Result<T>>) -> zbus::Result<T> {
    let late = || zbus::Error::InputOutput(Arc::new(std::io::ErrorKind::TimedOut.into()));
    tokio::time::timeout(limit, asked).await.unwrap_or_else(|_| Err(late()))
}

fn is_lost(error: &zbus::Error) -> bool {
    matches!(error, zbus::Error::InputOutput(_))
}

fn failed(what: &str, error: &zbus::Error) -> Error {
    match error {
        zbus::Error::MethodError(name, text, _) => {
            let text = text.clone().unwrap_or_else(|| name.to_string());
            Error::Unavailable(Report::new(format!("{what}: {text}")))
        }
        other => Error::Unavailable(
            Report::new(what)
                .because(other)
                .remedy("is this host run by systemd, and is D-Bus (dbus.service) running?"),
        ),
    }
}
