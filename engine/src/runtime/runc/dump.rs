//! The dump of a container that runc runs, whoever asked runc to: CRIU is driven directly, with the options that
//! `runc restore` expects of it.

use std::path::Path;
use std::time::Duration;

use super::super::{Dump, Instance, Place};
use super::state::State;
use crate::checkpoint::{self, Plan};
use crate::criu::{Options, Start, Worker, keep_timers};
use crate::durable;
use crate::error::Result;

/// What runc expects beside CRIU's images.
const DESCRIPTORS: &str = "descriptors.json";

/// Dumps the container whose state runc keeps in the folder. Gives the pause.
pub(in crate::runtime) async fn container(
    place: &Place,
    instance: &Instance,
    state_folder: &Path,
    options: &Options,
    dump: Dump<'_>,
) -> Result<Duration> {
    let state = State::read(state_folder)?;
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
    let plan = Plan {
        target,
        cgroup: &instance.handle.cgroup,
        shim,
        options,
        stay_dead: dump.stay_dead,
        limit: dump.limit,
        pid: instance.handle.pid,
    };
    let pause = checkpoint::dump(plan, worker, dump.while_frozen).await?;
    keep_timers(dump.images)?;
    durable::atomic_write_volatile(&dump.images.join(DESCRIPTORS), &state.descriptors()?, 0o600)?;
    Ok(pause)
}
