//! After our own restart: what was meant, what is there, and what `policies::reclaim` makes of the two.

use std::time::Duration;

use config::StartFrom;
use engine::capture::{self, Pending};
use engine::freeze::Cgroup;
use engine::journal::Record;
use engine::runtime::{Attached, Instance, Outside};
use policies::id::{ImageId, ServiceName};
use policies::reclaim::{Found, Intent, Plan, Then, plan};
use policies::service::Exit;

use crate::assemble::Parts;
use crate::carry_out::{Node, blocking, exit};
use crate::events::plain;
use crate::service::Beginning;

/// How long ending what ran under another runtime may take.
const KILL_MAX: Duration = Duration::from_secs(10);

/// How a service's task begins.
pub(crate) struct Reclaimed {
    /// With what.
    pub(crate) beginning: Beginning,
    /// What runs already.
    pub(crate) instance: Option<Instance>,
    /// Whether policies were held.
    pub(crate) paused: bool,
}

/// Looks, decides, thaws and kills.
pub(crate) async fn reclaim(node: &Node, name: &ServiceName, parts: &Parts) -> engine::Result<Reclaimed> {
    let record = match node.journal.read(name) {
        Ok(Some(record)) => record,
        Ok(None) => return Ok(fresh(parts)),
        Err(error) => {
            // Not to be guessed at: end what there is, bring back what can be.
            node.events.record(plain(Some(name.as_str()), "journal-damaged", error.to_string()));
            parts.runtime.kill().await?;
            return Ok(Reclaimed { beginning: Beginning::FoundDead(None), instance: None, paused: false });
        }
    };
    let intent: Intent = record.intent.parse().unwrap_or(Intent::Recovering);
    let Seen { found, instance, exit, outside } = look(&record, intent, parts).await?;
    if outside == Some(Outside::Stopped) && matches!(intent, Intent::Running | Intent::Checkpointing) {
        return stopped_outside(node, name, parts).await;
    }
    let plan = plan(intent, found, parts.policy.restart_policy);
    tell(node, name, intent, found, plan);
    settle_files(node, name, plan).await?;
    if plan.thaw
        && let Some(handle) = &record.handle
    {
        handle.cgroups().iter().try_for_each(Cgroup::thaw)?;
    }
    if plan.kill {
        parts.runtime.kill().await?;
    }
    let beginning = match (plan.then, instance.clone()) {
        (Then::Adopt, Some(instance)) => Beginning::Adopted(instance),
        (Then::Adopt | Then::Recover, _) => Beginning::FoundDead(exit),
        (Then::StaySuspended, _) => match suspended_in(node, name, &record).await? {
            Some(image) => Beginning::Suspended(image),
            None => Beginning::FoundDead(exit),
        },
        (Then::StartFresh, _) => Beginning::Start,
        (Then::StartFromImage, _) => Beginning::FromImage,
        (Then::StayStopped, _) => Beginning::Stopped,
    };
    let instance = instance.filter(|_| matches!(beginning, Beginning::Adopted(_)));
    Ok(Reclaimed { beginning, instance, paused: record.paused })
}

/// Whatever is left of it here has no right to run: it begins anew.
pub(crate) async fn anew(
    node: &Node,
    name: &ServiceName,
    parts: &Parts,
    beginning: Beginning,
) -> engine::Result<Reclaimed> {
    parts.runtime.kill().await?;
    parts.runtime.give_up_suspended().await?;
    let aside = node.aside.join(name.as_str());
    blocking(move || capture::undo_pending(&aside)).await?;
    let rests = match &beginning {
        Beginning::Stopped => Some((Intent::Stopped, None)),
        Beginning::Suspended(image) => Some((Intent::Suspended, Some(image.to_string()))),
        _ => None,
    };
    if let Some((intent, image)) = rests {
        // Nothing else says so here.
        let (journal, name) = (node.journal.clone(), name.clone());
        let mut record = Record::new(intent.to_string(), parts.kind().to_owned());
        record.image = image;
        blocking(move || journal.write(&name, &record)).await?;
    }
    Ok(Reclaimed { beginning, instance: None, paused: false })
}

/// The image that it was put into, if that is there: it was kept before the service ended, so what is not there was never finished.
async fn suspended_in(node: &Node, name: &ServiceName, record: &Record) -> engine::Result<Option<ImageId>> {
    let Some(image) = record.image.as_deref().and_then(|image| ImageId::try_from(image).ok()) else {
        return Ok(None);
    };
    let (store, name) = (node.store.clone(), name.clone());
    let there = blocking(move || {
        Ok(store.list(&name)?.iter().any(|record| record.facts.id == image).then_some(image))
    });
    there.await
}

fn fresh(parts: &Parts) -> Reclaimed {
    let beginning = match parts.start_from {
        StartFrom::Scratch => Beginning::Start,
        StartFrom::Image => Beginning::FromImage,
    };
    Reclaimed { beginning, instance: None, paused: false }
}

/// Somebody has stopped it while no supervisor ran. That is respected.
async fn stopped_outside(node: &Node, name: &ServiceName, parts: &Parts) -> engine::Result<Reclaimed> {
    let text = "was stopped while no supervisor ran: it stays so until `supervisor start`";
    node.events.record(plain(Some(name.as_str()), "stopped-outside", text));
    anew(node, name, parts, Beginning::Stopped).await
}

/// What is there of a service.
struct Seen {
    found: Found,
    instance: Option<Instance>,
    exit: Option<Exit>,
    outside: Option<Outside>,
}

impl Seen {
    const fn nothing(found: Found) -> Self {
        Self { found, instance: None, exit: None, outside: None }
    }
}

async fn look(record: &Record, intent: Intent, parts: &Parts) -> engine::Result<Seen> {
    let Some(handle) = &record.handle else {
        // Whatever a start or restore that was cut off has left must go; the kill looks for itself.
        let cut_off = matches!(intent, Intent::Starting | Intent::Restoring | Intent::Recovering);
        return Ok(Seen::nothing(if cut_off { Found::HalfRestored } else { Found::Absent }));
    };
    if record.runtime != parts.kind() {
        // Configured otherwise meanwhile: what ran under the former runtime cannot be taken back by this one.
        handle.cgroups().iter().try_for_each(|cgroup| cgroup.kill(KILL_MAX))?;
        return Ok(Seen::nothing(Found::Absent));
    }
    let frozen = handle.cgroups().iter().any(is_frozen);
    Ok(match parts.runtime.attach(handle).await? {
        Attached::Running(instance) => {
            let found = if frozen { Found::Frozen } else { Found::Alive };
            Seen { found, instance: Some(instance), exit: None, outside: None }
        }
        Attached::Gone(ended) => {
            let exit = ended.status.is_some().then(|| exit(ended));
            Seen { found: Found::Dead, instance: None, exit, outside: ended.outside }
        }
    })
}

fn is_frozen(cgroup: &Cgroup) -> bool {
    !cgroup.members().is_empty() && cgroup.is_freezing()
}

/// A restore was cut off before it was judged: files go back with it, unless the service is taken back as it is.
async fn settle_files(node: &Node, name: &ServiceName, plan: Plan) -> engine::Result<()> {
    let aside = node.aside.join(name.as_str());
    let settle = move || match (capture::pending(&aside)?, plan.then) {
        (Pending::Nothing, _) => Ok(()),
        (Pending::Kept, _) | (Pending::Undecided, Then::Adopt) => capture::keep_pending(&aside),
        (
            Pending::Undecided,
            Then::Recover | Then::StartFresh | Then::StartFromImage | Then::StayStopped | Then::StaySuspended,
        ) => capture::undo_pending(&aside),
    };
    tokio::task::spawn_blocking(settle).await.unwrap_or_else(|panic| {
        Err(engine::Error::Internal(engine::error::Report::new("settle files").because(panic)))
    })
}

fn tell(node: &Node, name: &ServiceName, intent: Intent, found: Found, plan: Plan) {
    let mut text = format!("was {intent}, found {found}: {}", plan.then);
    if plan.thaw {
        text.push_str(", thawed");
    }
    if plan.kill {
        text.push_str(", remains killed");
    }
    node.events.record(plain(Some(name.as_str()), "reclaimed", text));
}
