//! The dump of a container that runc runs, whoever asked runc to: CRIU is driven directly, with the options that
//! `runc restore` expects of it.

use std::path::Path;

use super::super::{Dump, Dumped, Effect, Instance, Place};
use super::state::State;
use crate::checkpoint::{self, Plan};
use crate::criu::{Options, Start, Worker, keep_timers};
use crate::durable;
use crate::error::Result;

/// What runc expects beside CRIU's images.
const DESCRIPTORS: &str = "descriptors.json";

/// Dumps the container whose state runc keeps in the folder. `complete` finishes CRIU's images; what is noted is what the restore needs
/// to know.
pub(in crate::runtime) async fn container(
    place: &Place,
    instance: &Instance,
    state_folder: &Path,
    options: &Options,
    dump: Dump<'_>,
    complete: Effect<'_, ()>,
    noted: serde_json::Value,
) -> Result<Dumped> {
    let state = State::read(state_folder)?;
    let (images, pid) = (dump.images, instance.handle.pid);
    let (path, descriptors) = (dump.images.join(DESCRIPTORS), state.descriptors()?);
    let complete = async move {
        keep_timers(images)?;
        durable::atomic_write_volatile(&path, &descriptors, 0o600)?;
        complete.await
    };
    let target = state.dump_target(instance.handle.pid)?;
    let shim = &instance.main.shim;
    let work = place.criu_folder()?;
    let start = Start {
        images: dump.images,
        work: &work,
        cgroups: Vec::new(),
        own_mounts: true,
        feature_cache: place.criu.feature_cache(),
        inherited: Vec::new(),
        packer: Some(&place.program),
        pids_above: 0,
    };
    let worker = Worker::start(&place.criu, shim, start).await?;
    let (before_end, afterwards) =
        place.finishing(dump.before_end, dump.cut.as_ref(), complete, images, pid, noted.clone());
    let plan = Plan {
        target,
        cgroup: &instance.handle.cgroup,
        shim,
        options,
        before_end,
        limit: dump.limit,
        pid: instance.handle.pid,
        cut: dump.cut,
    };
    let still = checkpoint::dump(plan, worker, dump.while_frozen).await?;
    afterwards.await?;
    Ok(Dumped { pause: still.pause, thawed: still.until, state: noted })
}
