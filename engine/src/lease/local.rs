//! Leases of a host that stands alone: nothing to install. They are in a folder of the host, and expire by its boot-time clock;
//! a reboot ends all of them, for nothing that ran before runs after it.
//!
//! Who it protects from: a second supervisor on the same host. It refuses to protect from another host, which is why the
//! configuration refuses standbys with it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::Keeper;
use super::document::Expires;
use super::folder::Folder;
use super::swap::{Clock, SwapKeeper};
use crate::clock;
use crate::compat::boot_id;
use crate::error::Result;

/// Leases in this folder, made if it is not there. Each call ends within `limit`.
///
/// # Errors
/// `Refused` if the folder cannot be made.
pub fn open(folder: &Path, limit: Duration) -> Result<Arc<dyn Keeper>> {
    let cells = Folder::open(folder.to_owned(), limit)?;
    let clock: Arc<dyn Clock> = Arc::new(BootClock { boot: boot_id()? });
    Ok(Arc::new(SwapKeeper { cells, clock: Some(clock), limit }))
}

/// Time since boot, sleep included; one run of it is one boot.
#[derive(Debug)]
struct BootClock {
    boot: String,
}

impl Clock for BootClock {
    fn now(&self) -> Result<Expires> {
        Ok(Expires { era: self.boot.clone(), at_ns: clock::now()?.boottime.as_nanos() })
    }
}
