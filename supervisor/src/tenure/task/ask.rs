//! What the store, the replicas and the fence command are asked: apart from the task, to which each answer comes back.

use std::sync::Arc;

use engine::clock;
use engine::fence::command::fence_node;
use engine::lease::{Acquisition, Claim, Held, Keeper};
use policies::id::{Epoch, NodeName};
use policies::lease::{Sighting, holder, standby};
use tokio::task::AbortHandle;

use super::{Answer, Task, now};

impl Task {
    pub(super) fn read(&self) {
        let service = self.service.clone();
        self.ask(move |keeper| async move {
            Some(Answer::Standby(match (keeper.read(&service).await, clock::now()) {
                (Ok(sighting), Ok(answered)) => standby::Event::Seen { sighting, answered },
                (Err(_), _) | (_, Err(_)) => standby::Event::Unreachable,
            }))
        });
    }

    pub(super) fn acquire(&self, over: Sighting) {
        let (service, settings) = (self.service.clone(), &self.ground.cluster.settings);
        let claim = Claim { node: self.ground.cluster.node.clone(), ttl: settings.ttl };
        let sent = now();
        self.ask(move |keeper| async move {
            Some(match keeper.acquire(&service, &claim, &over).await {
                Ok(Acquisition::Acquired(held)) => Answer::Acquired(held, sent),
                Ok(Acquisition::Refused) => Answer::Standby(standby::Event::Refused),
                Err(_) => Answer::Standby(standby::Event::AcquisitionFailed),
            })
        });
    }

    /// One renewal at a time: what it says is what is so now.
    pub(super) async fn renew(&mut self, held: Held) {
        if let Some(former) = self.renewing.take() {
            former.abort();
        }
        let legacy = self.legacy().await;
        let (sent, service, tenures) = (now(), self.service.clone(), self.ground.tenures.clone());
        self.renewing = Some(self.ask(move |keeper| async move {
            let renewed = keeper.renew(&held, &legacy).await;
            if let Err(error) = &renewed {
                tracing::warn!(%error, %service, "the lease was not renewed");
            }
            Some(Answer::Holder(match renewed {
                Ok(()) => {
                    let said = legacy.replicated.map(|image| image.image.to_string());
                    tenures.set_status(&service, |status| status.replicated = said);
                    holder::Event::Renewed { sent }
                }
                Err(engine::Error::Fenced(_)) => holder::Event::Superseded,
                Err(_) => holder::Event::RenewalFailed,
            }))
        }));
    }

    pub(super) fn release(&self, held: Held) {
        self.ask(move |keeper| async move {
            keeper.release(&held).await.is_ok().then_some(Answer::Holder(holder::Event::Released))
        });
    }

    pub(super) fn fence_former(&self, node: NodeName) {
        let Some(argv) = self.failover.fence.clone() else { return };
        let (service, limit) = (self.service.clone(), self.failover.fence_timeout);
        let epoch = self.holder.as_ref().map_or(Epoch(0), |(holder, _)| holder.epoch());
        self.tell("fencing", format!("node {node} is fenced from outside"));
        self.ask(move |_| async move {
            let fenced = fence_node(&argv, &node, &service, epoch, limit).await;
            Some(Answer::Standby(match fenced {
                Ok(()) => standby::Event::FormerFenced,
                Err(error) => {
                    tracing::warn!(%error, %service, "the former holder could not be fenced");
                    standby::Event::FormerNotFenced
                }
            }))
        });
    }

    /// What lies ready is as good as anything that could be found, if nothing newer was acknowledged since.
    pub(super) fn find(&self) {
        let (sources, service) = (self.sources.clone(), self.service.clone());
        let (acknowledged, patience) =
            (self.ground.tenures.floor(&service), self.ground.cluster.settings.renew_interval);
        self.ask(move |_| async move {
            let found = match sources.newest(acknowledged.as_ref(), patience).await {
                Ok(found) => {
                    for silent in &found.silent {
                        tracing::warn!(%service, "looking for the newest image: {silent}");
                    }
                    found.image
                }
                Err(error) => {
                    tracing::warn!(%error, %service, "the newest image could not be looked for");
                    None
                }
            };
            Some(Answer::Standby(standby::Event::Found(found.map(|(image, _)| image))))
        });
    }

    /// A standby keeps the newest image ready.
    pub(super) fn prepare(&mut self) {
        let (sources, addresses) = (self.sources.clone(), Arc::clone(&self.ground.addresses));
        let address = self.address.clone();
        let (acknowledged, patience) =
            (self.ground.tenures.floor(&self.service), self.ground.cluster.settings.ttl);
        self.preparing = Some(self.ask(move |_| async move {
            let able = match &address {
                Some(address) => addresses.could_take(address).await.map_err(|e| e.to_string()),
                None => Ok(()),
            };
            let able = able.and(sources.make_ready().await);
            let newest = match sources.newest(acknowledged.as_ref(), patience).await {
                Ok(found) if found.image.is_none() && !found.silent.is_empty() => {
                    Err(found.silent.join("; "))
                }
                Ok(found) => Ok(found.image),
                Err(error) => Err(error.to_string()),
            };
            Some(Answer::Prepared { newest: Box::new(newest), unable: able.err() })
        }));
    }

    /// Asks apart; the answer comes back to this task.
    pub(super) fn ask<F>(&self, question: impl FnOnce(Arc<dyn Keeper>) -> F) -> AbortHandle
    where
        F: Future<Output = Option<Answer>> + Send + 'static,
    {
        let (sender, question) = (self.sender.clone(), question(Arc::clone(&self.ground.cluster.keeper)));
        let asked = tokio::spawn(async move {
            if let Some(answer) = question.await {
                // A task that has ended has no use for it.
                let _ = sender.send(answer).await;
            }
        });
        asked.abort_handle()
    }

    pub(super) fn keeper(&self) -> Arc<dyn Keeper> {
        Arc::clone(&self.ground.cluster.keeper)
    }
}
