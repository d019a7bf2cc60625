//! A group: several services that are started, frozen, checkpointed, restored and ended as one.
//!
//! ```text
//! Group ─┬─> the runtime of one member ──> its shim, its cgroup, its dump ─┐
//!        └─> the runtime of another    ──> ...                             ├─ one cut (`crate::checkpoint`), one image
//! ```
//!
//! Its image holds the files of all dumps in one folder, each behind its member's name. Whatever ends one member ends the run of the group:
//! its members know of each other, so none can go back in time alone.
//!
//! What it refuses: a fence around a group, and to keep a unix connection between two members (CRIU dumps each by itself).

mod files;
mod keep;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::{join_all, select_all, try_join_all};
use futures_util::stream::FuturesUnordered;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use self::keep::Joint;
use super::{
    Attached, Dump, Dumped, Effect, Ended, Features, Folders, Handle, Instance, Keep, RestoreFrom, Runtime,
};
use crate::checkpoint::{Cut, WhileFrozen};
use crate::criu::close_outer_connections;
use crate::criu::network::{Hold, between};
use crate::error::{Error, Report, Result};
use crate::freeze::Cgroup;
use crate::shim::Said;

/// One member.
#[derive(Debug)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// What runs it.
    pub runtime: Arc<dyn Runtime>,
    /// What asks it to end.
    pub stop_signal: i32,
    /// How long it may take to.
    pub stop_timeout: Duration,
}

/// A member that runs.
#[derive(Debug)]
pub(super) struct Running {
    name: String,
    instance: Instance,
    stop_signal: i32,
    stop_timeout: Duration,
}

/// A group of services.
#[derive(Debug)]
pub struct Group {
    /// In the order of their start.
    members: Vec<Member>,
    /// Where notes and links of ours lie.
    run_folder: PathBuf,
    /// The name for rules of ours.
    mark: String,
    live: tokio::sync::Mutex<Option<Instance>>,
}

/// A connection, one end first.
type Connection = (SocketAddr, SocketAddr);

/// What a restore needs to know.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Noted {
    /// What each member's runtime needs to know, by name.
    members: BTreeMap<String, serde_json::Value>,
    /// Connections from one member to another, in the host's network.
    between: Vec<Connection>,
}

impl Group {
    /// A group that is not running yet, or not known to be. `mark` is a name that no other group of this host has.
    pub fn new(members: Vec<Member>, run_folder: PathBuf, mark: String) -> Self {
        Self { members, run_folder, mark, live: tokio::sync::Mutex::new(None) }
    }

    async fn start_now(&self) -> Result<Instance> {
        self.release().await?;
        let mut instances = Vec::new();
        for member in &self.members {
            instances.push(member.runtime.start().await.map_err(|error| of_member(member, error))?);
        }
        self.runs(instances).await
    }

    async fn attach_now(&self, handle: &Handle) -> Result<Attached> {
        self.release().await?;
        let mut instances = Vec::new();
        for member in &self.members {
            // A group that has another member now is not the one that ran.
            let Some(handle) = handle.member(&member.name) else {
                return Ok(Attached::Gone(Ended::default()));
            };
            match member.runtime.attach(handle).await? {
                Attached::Running(instance) => instances.push(instance),
                Attached::Gone(ended) => return Ok(Attached::Gone(ended)),
            }
        }
        self.runs(instances).await.map(Attached::Running)
    }

    async fn kill_now(&self) -> Result<()> {
        *self.live.lock().await = None;
        // All at once: what one would make of the other's death is nobody's intention.
        let killed = join_all(self.members.iter().map(|member| member.runtime.kill())).await;
        self.release().await?;
        killed.into_iter().collect()
    }

    async fn checkpoint_now(&self, dump: Dump<'_>) -> Result<Dumped> {
        let instance = self.live.lock().await.clone();
        let instance = instance.ok_or_else(|| Error::Unavailable(Report::new("the group does not run")))?;
        let cut = Cut::new(self.members.len(), dump.limit);
        let seen: Arc<Mutex<Vec<Connection>>> = Arc::default();
        let mut first = Some(look_between(instance.handle.cgroups(), Arc::clone(&seen), dump.while_frozen));
        let ends = dump.before_end.is_some();
        let joint =
            dump.before_end.map(|keep| Joint::new(self.members.len(), dump.limit, seen.clone(), keep));
        let dumps: FuturesUnordered<_> = self
            .members
            .iter()
            .map(|member| {
                let (while_frozen, joint) = (first.take(), joint.clone());
                let cut = Arc::clone(&cut);
                async move {
                    let folder = files::make(dump.images, &member.name)?;
                    let (flat, name) = (folder.clone(), member.name.clone());
                    let before_end = joint.map(|joint| -> Keep {
                        Box::new(move |state| {
                            files::flatten(&flat, &name).and_then(|()| joint.keep(name, state))
                        })
                    });
                    let own = Dump {
                        images: &folder,
                        limit: dump.limit,
                        before_end,
                        while_frozen,
                        cut: Some(cut.clone()),
                    };
                    let dumped = member.runtime.checkpoint(own).await;
                    if dumped.is_err() {
                        // It may have failed before it came to any line.
                        cut.give_up();
                    }
                    let dumped = dumped.map_err(|error| of_member(member, error))?;
                    Ok((member.name.clone(), dumped))
                }
            })
            .collect();
        // To its end with each: none may be left half-way.
        let dumped = all_of(dumps).await?;
        if !ends {
            self.run_on(dump.images)?;
        }
        let pause = dumped.iter().map(|(_, dumped)| dumped.pause).max().unwrap_or_default();
        let thawed = dumped.iter().map(|(_, dumped)| dumped.thawed).max().unwrap_or_else(Instant::now);
        let members = dumped.into_iter().map(|(name, dumped)| (name, dumped.state)).collect();
        let between = std::mem::take(&mut *lock(&seen));
        Ok(Dumped { pause, thawed, state: Noted { members, between }.written()? })
    }

    /// Finishes the images of members that have gone on: only connections between them are left.
    fn run_on(&self, images: &Path) -> Result<()> {
        let folders: Vec<_> = self.members.iter().map(|member| images.join(&member.name)).collect();
        close_outer_connections(&folders)?;
        self.members.iter().zip(&folders).try_for_each(|(one, folder)| files::flatten(folder, &one.name))
    }

    async fn restore_now(&self, from: RestoreFrom<'_>) -> Result<Instance> {
        self.release().await?;
        let noted: Noted = serde_json::from_value(from.state.clone())
            .map_err(|e| Error::Corrupt(Report::new("read what belongs to a group's image").because(e)))?;
        self.hold(&noted.between).await?;
        let restored = self.restore_all(&from, &noted).await;
        self.release().await?;
        self.runs(restored?).await
    }

    async fn restore_all(&self, from: &RestoreFrom<'_>, noted: &Noted) -> Result<Vec<Instance>> {
        let links = self.run_folder.join("images");
        let nothing = serde_json::Value::Null;
        let restores = self.members.iter().map(|member| {
            let state = noted.members.get(&member.name).unwrap_or(&nothing);
            let links = links.join(&member.name);
            async move {
                files::link(from.images, &member.name, &links)?;
                let own = RestoreFrom { images: &links, limit: from.limit, state };
                member.runtime.restore(own).await.map_err(|error| of_member(member, error))
            }
        });
        // Each to its end: one that is left half-way would be nobody's.
        let restored: Result<Vec<_>> = join_all(restores).await.into_iter().collect();
        crate::durable::remove_tree(&links)?;
        restored
    }

    async fn runs(&self, instances: Vec<Instance>) -> Result<Instance> {
        let running = self.members.iter().zip(instances).map(|(member, instance)| Running {
            name: member.name.clone(),
            instance,
            stop_signal: member.stop_signal,
            stop_timeout: member.stop_timeout,
        });
        let members: Arc<[Running]> = running.collect();
        let first = members.first().ok_or_else(|| Error::Internal(Report::new("run a group of nobody")))?;
        let handles = members.iter().map(|one| (one.name.clone(), one.instance.handle.clone())).collect();
        let instance = Instance {
            handle: Handle { members: handles, ..first.instance.handle.clone() },
            main: Arc::clone(&first.instance.main),
            members: Arc::clone(&members),
            said: None,
        };
        *self.live.lock().await = Some(instance.clone());
        Ok(instance)
    }

    /// Keeps the members' connections still: whoever is back first must not hear that the other is not there.
    async fn hold(&self, between: &[Connection]) -> Result<()> {
        if between.is_empty() {
            return Ok(());
        }
        let hold = Hold::of_table(&self.mark);
        let note = serde_json::to_vec(&hold)
            .map_err(|e| Error::Internal(Report::new("note what holds connections").because(e)))?;
        crate::durable::atomic_write_volatile(&self.note(), &note, 0o600)?;
        hold.take_all(between).await
    }

    async fn release(&self) -> Result<()> {
        super::release_noted(&self.note()).await
    }

    fn note(&self) -> PathBuf {
        self.run_folder.join("held-connections")
    }

    async fn folders_now(&self) -> Result<Folders> {
        let folders = self.members.iter().map(|member| async move {
            member.runtime.folders().await.map(|folders| (member.name.clone(), folders))
        });
        Ok(Folders { members: try_join_all(folders).await?, ..Folders::default() })
    }

    async fn all<'a>(&'a self, act: impl Fn(&'a Member) -> Effect<'a, ()>) -> Result<()> {
        join_all(self.members.iter().map(act)).await.into_iter().collect()
    }
}

impl Runtime for Group {
    fn features(&self) -> Features {
        let all: Vec<_> =
            self.members.iter().map(|member| (&member.name, member.runtime.features())).collect();
        let programs: Vec<_> = all.iter().map(|(name, features)| (name, &features.program)).collect();
        let text = serde_json::to_vec(&programs).unwrap_or_default();
        let mut versions: Vec<_> = all.iter().flat_map(|(_, features)| features.versions.clone()).collect();
        versions.sort();
        versions.dedup();
        Features { kind: "group", program: blake3::hash(&text).to_hex().to_string(), versions }
    }

    fn start(&self) -> Effect<'_, Instance> {
        Box::pin(self.start_now())
    }

    fn attach<'a>(&'a self, handle: &'a Handle) -> Effect<'a, Attached> {
        Box::pin(self.attach_now(handle))
    }

    fn kill(&self) -> Effect<'_, ()> {
        Box::pin(self.kill_now())
    }

    fn checkpoint<'a>(&'a self, dump: Dump<'a>) -> Effect<'a, Dumped> {
        Box::pin(self.checkpoint_now(dump))
    }

    fn make_ready(&self) -> Effect<'_, ()> {
        Box::pin(self.all(|member| member.runtime.make_ready()))
    }

    fn restore<'a>(&'a self, from: RestoreFrom<'a>) -> Effect<'a, Instance> {
        Box::pin(self.restore_now(from))
    }

    fn folders(&self) -> Effect<'_, Folders> {
        Box::pin(self.folders_now())
    }

    fn give_up_suspended(&self) -> Effect<'_, ()> {
        Box::pin(self.all(|member| member.runtime.give_up_suspended()))
    }

    fn remove(&self) -> Effect<'_, ()> {
        Box::pin(self.all(|member| member.runtime.remove()))
    }
}

impl Noted {
    fn written(&self) -> Result<serde_json::Value> {
        serde_json::to_value(self)
            .map_err(|e| Error::Internal(Report::new("note what belongs to an image").because(e)))
    }
}

/// One of them.
pub(super) fn member<'a>(members: &'a [Running], name: &str) -> Option<&'a Instance> {
    members.iter().find(|one| one.name == name).map(|one| &one.instance)
}

/// Those that say something of themselves.
pub(super) fn said(members: &[Running]) -> Vec<(String, watch::Receiver<Said>)> {
    members.iter().filter_map(|one| Some((one.name.clone(), one.instance.said()?))).collect()
}

/// How the first member that ends has ended.
pub(super) async fn first_end(members: &[Running]) -> Result<Ended> {
    let (ended, which, _) = select_all(members.iter().map(|one| Box::pin(one.instance.ended()))).await;
    tracing::info!(member = members[which].name, ?ended, "a member of the group has ended");
    ended
}

/// The last one first: each may need those before it to its end.
pub(super) async fn stop(members: &[Running]) -> Result<()> {
    for one in members.iter().rev() {
        // What has ended already cannot be asked to.
        if one.instance.handle.is_alive() {
            Box::pin(one.instance.stop(one.stop_signal, one.stop_timeout)).await?;
        }
    }
    Ok(())
}

/// Which connections are between members, beside whatever else is captured under the freeze.
fn look_between(
    members: Vec<Cgroup>,
    seen: Arc<Mutex<Vec<Connection>>>,
    capture: WhileFrozen,
) -> Box<dyn FnOnce() -> Result<()> + Send> {
    Box::new(move || {
        let pids: Vec<_> = members.iter().flat_map(Cgroup::members).collect();
        *lock(&seen) = between(&pids);
        capture.map_or(Ok(()), |capture| capture())
    })
}

/// All to their ends; what the first one that failed says is why the others did.
async fn all_of<T>(mut running: FuturesUnordered<impl Future<Output = Result<T>>>) -> Result<Vec<T>> {
    let (mut good, mut cause) = (Vec::new(), None);
    while let Some(one) = running.next().await {
        match one {
            Ok(one) => good.push(one),
            Err(error) => cause = cause.or(Some(error)),
        }
    }
    cause.map_or(Ok(good), Err)
}

fn of_member(member: &Member, error: Error) -> Error {
    error.within(&format!("member {}", member.name))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
