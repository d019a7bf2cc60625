//! Restoring a unit: the supervisor's side of it ([`super::restorer`] is the other).
//!
//! ```text
//! order, drop-in, reload ── systemd starts the unit ──> our program restores ── pid file ──> active ── the drop-in goes, reload
//! ```

use std::time::Duration;

use super::super::{Instance, RestoreFrom};
use super::restorer::Order;
use super::{Left, SystemdUnit, drop_in, fitness};
use crate::criu::Criu;
use crate::error::{Error, Report, Result};
use crate::shim::{Isolation, raise_pids};
use crate::systemd::Unit;

/// How much longer than CRIU's own limit systemd waits for a restore, and we for systemd.
const GRACE: Duration = Duration::from_secs(10);

impl SystemdUnit {
    pub(super) async fn restore_now(&self, from: RestoreFrom<'_>) -> Result<Instance> {
        self.take_drop_in_away().await?;
        let (name, unit) = (&self.spec.unit, self.found().await?);
        if unit.main.is_some() {
            return Err(Error::Unavailable(Report::new(format!("restore {name}: it runs already"))));
        }
        let left: Left = serde_json::from_value(from.state.clone()).unwrap_or_default();
        if left.command != unit.command {
            let text = format!(
                "restore {name}: it runs `{}`, and ran `{}` when the image was taken",
                unit.command.join(" "),
                left.command.join(" ")
            );
            return Err(Error::Refused(Report::new(text)));
        }
        fitness::are_free(name, &left.pids)?;
        if let Some(last) = left.pids.iter().max() {
            // Whoever starts now, our own programs among them, is not to take them.
            let _ = raise_pids(*last);
        }
        self.place.shim_for_start(&self.shim, Isolation::None).await?;
        self.spec.systemd.forgive(name).await?;
        let order = self.order(&from, left)?;
        let restored = self.start_from(&order, log_name(&unit)).await;
        // Whatever came of it, nothing is to be started by it again.
        self.drop_in().remove()?;
        let (pid, unit) = restored?;
        self.reload_soon();
        if unit.main != Some(pid) {
            let text =
                format!("restore {name}: systemd takes {:?} for its main process, not {pid}", unit.main);
            return Err(Error::Internal(Report::new(text)));
        }
        self.place.release_connections().await?;
        self.instance(&unit).await
    }

    /// What our program in the unit is to do.
    fn order(&self, from: &RestoreFrom<'_>, left: Left) -> Result<Order> {
        Ok(Order {
            criu: Criu::clone(&self.place.criu),
            images: from.images.to_owned(),
            work: self.place.criu_folder()?,
            options: self.options(),
            streams: left.streams,
            limit: from.limit,
            pid_file: self.place.run_folder.join("main.pid"),
            report: self.place.run_folder.join("restore-report.json"),
        })
    }

    /// The restored main process, and the unit that has it.
    async fn start_from(&self, order: &Order, log_name: &str) -> Result<(i32, Unit)> {
        let path = self.place.run_folder.join("restore-order.json");
        order.write(&path)?;
        let limit = order.limit + GRACE;
        self.drop_in().write(&drop_in::Start {
            program: &self.place.program,
            order: &path,
            pid_file: &order.pid_file,
            limit,
            log_name,
        })?;
        self.spec.systemd.reload().await?;
        let started = self.spec.systemd.start(&self.spec.unit, limit + GRACE).await;
        match (order.reported(), started) {
            (Some(Err(error)), _) | (None, Err(error)) => Err(error),
            (Some(Ok(pid)), Ok(unit)) => Ok((pid, unit)),
            (Some(Ok(pid)), Err(error)) => {
                tracing::warn!(pid, service = self.place.service, "restored, but systemd did not take it");
                Err(error)
            }
            (None, Ok(unit)) => {
                let (name, main) = (&self.spec.unit, unit.main);
                let text = format!(
                    "restore {name}: systemd has started {main:?} instead of what was to be restored"
                );
                Err(Error::Unavailable(Report::new(text).remedy(format!("look at `systemctl cat {name}`"))))
            }
        }
    }

    /// It has gone from the folder already; that systemd forgets it as well has time until after the recovery.
    fn reload_soon(&self) {
        let systemd = self.spec.systemd.clone();
        tokio::spawn(async move {
            if let Err(error) = systemd.reload().await {
                tracing::warn!(%error, "a drop-in of a restore is still known to systemd; `systemctl daemon-reload`");
            }
        });
    }
}

/// What systemd would mark the lines of the unit's own program with.
fn log_name(unit: &Unit) -> &str {
    let program = unit.command.first().and_then(|program| program.rsplit('/').next()).unwrap_or_default();
    if unit.log_name.is_empty() { program } else { &unit.log_name }
}
