//! One contract for every store of leases, the fake included; and what each does when its store is away, stands still, or
//! loses answers. The stores are real: folders, an S3 server in this process, Debian's etcd.

mod contract;
mod etcd;
mod faults;
mod proxy;
mod s3;
mod stores;

use std::sync::Arc;
use std::time::Duration;

use policies::id::{Epoch, ImageId, NodeName, ServiceName};
use policies::lease::{Legacy, Replicated, Sighting};

use super::{Acquisition, Claim, Held, Keeper};

/// Longer than anything here takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

/// A store as two nodes see it.
struct Stage {
    alpha: Arc<dyn Keeper>,
    beta: Arc<dyn Keeper>,
    ttl: Duration,
    /// Lets the store's own time go on, where a test can; elsewhere it goes on by itself.
    pass: Box<dyn Fn(Duration) + Send + Sync>,
}

impl Stage {
    fn claim(&self, node: &str) -> Claim {
        Claim { node: NodeName::try_from(node).unwrap(), ttl: self.ttl }
    }

    async fn acquire(&self, service: &ServiceName, node: &str, over: &Sighting) -> Option<Held> {
        let keeper = if node == "alpha" { &self.alpha } else { &self.beta };
        match keeper.acquire(service, &self.claim(node), over).await.unwrap() {
            Acquisition::Acquired(held) => Some(held),
            Acquisition::Refused => None,
        }
    }

    /// Acquires what is free.
    async fn acquired(&self, service: &ServiceName, node: &str) -> Held {
        let over = self.alpha.read(service).await.unwrap();
        self.acquire(service, node, &over).await.unwrap()
    }
}

fn service(name: &str) -> ServiceName {
    ServiceName::try_from(name).unwrap()
}

fn image(epoch: u64, id: &str) -> Replicated {
    Replicated { epoch: Epoch(epoch), image: ImageId::try_from(id).unwrap() }
}

fn replicated(image: Replicated) -> Legacy {
    Legacy { replicated: Some(image), ..Legacy::default() }
}

/// Looks again and again until something is so.
async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        let mut pause = tokio::time::interval(Duration::from_millis(20));
        loop {
            if let Some(found) = look().await {
                return found;
            }
            pause.tick().await;
        }
    };
    tokio::time::timeout(LIMIT, looking).await.unwrap_or_else(|_| panic!("waited for {what} in vain"))
}
