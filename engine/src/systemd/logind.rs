//! systemd-logind: knowing that the host is about to stop, and holding that up for a while.
//!
//! A delay lock is taken beforehand; who holds one is waited for, at most `InhibitDelayMaxSec=` of logind.conf(5). It refuses to
//! forbid a shutdown.

use std::os::fd::OwnedFd;
use std::time::Duration;

use futures_util::StreamExt;
use zbus::proxy::CacheProperties;

use super::proxies::{LoginProxy, PrepareForShutdownStream};
use super::{Bus, CALL_MAX, failed, within};
use crate::error::{Error, Report, Result};

/// Whoever is told that the host stops.
pub struct Watch {
    login: LoginProxy<'static>,
    begins: PrepareForShutdownStream,
}

/// A lock that holds up the host's end as long as it lives.
#[derive(Debug)]
pub struct Lock {
    _descriptor: OwnedFd,
}

impl Watch {
    /// Listens from now on.
    ///
    /// # Errors
    /// `Unavailable` if there is no logind.
    pub async fn start() -> Result<Self> {
        let connection = Bus::default().connection().await?;
        let listening = async {
            let login =
                LoginProxy::builder(&connection).cache_properties(CacheProperties::No).build().await?;
            let begins = login.receive_prepare_for_shutdown().await?;
            Ok(Self { login, begins })
        };
        within(CALL_MAX, listening).await.map_err(|e| failed("listen to systemd-logind", &e))
    }

    /// Takes a lock. `why` is shown by `systemd-inhibit --list`.
    ///
    /// # Errors
    /// `Unavailable` if logind gives none: the host is stopping already, or there is no logind.
    pub async fn lock(&self, why: &str) -> Result<Lock> {
        let taken = within(CALL_MAX, self.login.inhibit("shutdown", "supervisor", why, "delay")).await;
        let taken = taken.map_err(|e| failed("take a delay lock of systemd-logind", &e))?;
        Ok(Lock { _descriptor: taken.into() })
    }

    /// How long a lock can hold up the host's end.
    ///
    /// # Errors
    /// `Unavailable` if there is no logind.
    pub async fn delay_max(&self) -> Result<Duration> {
        let told = within(CALL_MAX, self.login.inhibit_delay_max()).await;
        told.map(Duration::from_micros).map_err(|e| failed("ask systemd-logind how long it waits", &e))
    }

    /// Waits until the host begins to stop (true), or goes on after all (false).
    ///
    /// # Errors
    /// `Unavailable` when logind cannot be heard any more.
    pub async fn next(&mut self) -> Result<bool> {
        let lost = || Error::Unavailable(Report::new("listen to systemd-logind: the connection was lost"));
        let told = self.begins.next().await.ok_or_else(lost)?;
        told.args().map(|told| *told.begins()).map_err(|e| failed("understand systemd-logind", &e))
    }
}
