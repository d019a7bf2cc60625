//! What makes a last image safe while its service still stands still: another node that has it hot, or the disk.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use engine::Error;
use engine::failpoint::fail_point;
use engine::images::{Hot, Manifest, Store};

use crate::tenure::Handing;

/// Where an image is safe.
#[derive(Debug)]
pub(super) enum Safe {
    /// On our disk.
    OnDisk(Box<Manifest>),
    /// At the node that is to have the service.
    Elsewhere(Arc<Handing>),
}

/// Hands it over if that was agreed on; what is refused goes to the disk.
pub(super) fn keep(store: &Store, hot: &Hot, handing: Option<Arc<Handing>>) -> engine::Result<Safe> {
    if let Some(handing) = handing {
        match handing.give(store, hot) {
            Ok(()) => return Ok(Safe::Elsewhere(handing)),
            // It may be there or not; or somebody else has the service. No disk would help.
            Err(error @ (Error::Unavailable(_) | Error::Fenced(_))) => return Err(error),
            Err(error) => tracing::warn!(%error, image = %hot.id, "a hot hand-over was refused"),
        }
    }
    let manifest = store.commit(&hot.id, &AtomicBool::new(false))?;
    fail_point("suspend.kept");
    Ok(Safe::OnDisk(Box::new(manifest)))
}
