//! A process that says how it is by sd_notify: told where to, and heard, over all of its runs.
//!
//! An image remembers whether its process had said that it is ready, since it does not say so again. It refuses images of which that is not
//! known, because it was said just then.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;

use super::{Process, Spec};
use crate::error::{Error, Report, Result};
use crate::freeze::Cgroup;
use crate::runtime::Handle;
use crate::shim::{Isolation, Listen, Said, Shim};

/// What a process finds in its environment to say how it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notify {
    /// Where to (`NOTIFY_SOCKET`); its folder must exist, and let the process's user through.
    pub socket: PathBuf,
    /// How often it must give a sign of life at least (`WATCHDOG_USEC`), if it must.
    pub watchdog: Option<Duration>,
}

/// Whether a run that begins has said that it is ready, before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ready {
    Already,
    NotYet,
}

impl Spec {
    /// Its variables, those among them that we add.
    pub(super) fn whole_env(&self) -> Vec<(String, String)> {
        let socket = |notify: &Notify| ("NOTIFY_SOCKET".to_owned(), notify.socket.display().to_string());
        let watchdog = |limit: Duration| ("WATCHDOG_USEC".to_owned(), limit.as_micros().to_string());
        let told = self.notify.iter().map(socket);
        let limit = self.notify.iter().filter_map(|notify| notify.watchdog).map(watchdog);
        self.env.iter().cloned().chain(told).chain(limit).collect()
    }
}

impl Process {
    /// A shim that can do what this service needs. One that is too old to listen, and is idle, makes way.
    pub(super) async fn shim_for_start(&self) -> Result<Shim> {
        let shim = self.place.shim_for_start(&self.shim, self.spec.isolation).await?;
        if self.spec.notify.is_none() || !matches!(shim.said().await, Err(Error::Refused(_))) {
            return Ok(shim);
        }
        shim.quit().await?;
        *self.shim.lock().await = None;
        self.place.shim_for_start(&self.shim, self.spec.isolation).await
    }

    /// To be called before a run begins.
    pub(super) async fn listen(&self, shim: &Shim, cgroup: &Cgroup, ready: Ready) -> Result<()> {
        let Some(notify) = &self.spec.notify else { return Ok(()) };
        let listen = Listen {
            path: notify.socket.clone(),
            owner: self.spec.user.as_ref().map(|user| (user.uid, user.gid)),
            cgroup: cgroup.clone(),
            ready: ready == Ready::Already,
        };
        shim.listen(listen).await
    }

    /// A run that an earlier supervisor left. One that was never told where to say how it is says nothing; that is not held against it.
    pub(super) async fn hear_again(
        &self,
        shim: &Shim,
        handle: &Handle,
    ) -> Result<Option<watch::Receiver<Said>>> {
        if self.spec.notify.is_none() {
            return Ok(None);
        }
        match shim.said().await {
            Ok(Some(_)) => {}
            // Its shim has ended before it, and with that what it had said.
            Ok(None) if self.spec.isolation == Isolation::None && self.was_told(handle) => {
                self.listen(shim, &handle.cgroup, Ready::Already).await?;
            }
            Ok(None) | Err(Error::Refused(_)) => {
                tracing::warn!(
                    service = self.place.service,
                    "it was started before it had a `notify` probe, which finds nothing wrong with it until it is started again"
                );
                return Ok(None);
            }
            Err(error) => return Err(error),
        }
        Ok(Some(shim.follow()))
    }

    fn was_told(&self, handle: &Handle) -> bool {
        let environ = std::fs::read(format!("/proc/{}/environ", handle.pid)).unwrap_or_default();
        let told = |variable: &[u8]| {
            let socket = variable.strip_prefix(b"NOTIFY_SOCKET=");
            let notify = self.spec.notify.as_ref();
            notify.is_some_and(|notify| socket == Some(notify.socket.as_os_str().as_encoded_bytes()))
        };
        environ.split(|byte| *byte == 0).any(told)
    }

    /// Whether it has said so.
    pub(super) async fn is_ready(&self, shim: &Shim) -> Result<bool> {
        if self.spec.notify.is_none() {
            return Ok(false);
        }
        match shim.said().await {
            Ok(said) => Ok(said.is_some_and(|said| said.ready)),
            // It was never told where to.
            Err(Error::Refused(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Once its image is complete: whether the image knows that.
    pub(super) async fn still(&self, ready: bool, shim: &Shim) -> Result<()> {
        if self.is_ready(shim).await? == ready {
            return Ok(());
        }
        let report = Report::new("take an image of a service that says just then whether it is ready");
        Err(Error::Unavailable(report.remedy("nothing is wrong: the next checkpoint takes one")))
    }
}
