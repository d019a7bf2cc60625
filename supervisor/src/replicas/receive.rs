//! What peers bring: let in where `api.listen` says, told to whoever runs here.

use engine::https;
use engine::images::Store;
use engine::replica::Epochs;
use engine::replica::peer::{Arrived, Holding, Receiver};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::control::Control;
use crate::events::plain;

/// Images that have come and are not told yet.
const ARRIVED_WAITING: usize = 64;

/// The bound address, and what answers on it.
#[derive(Debug)]
pub(crate) struct Reception {
    receiver: Receiver,
    listener: TcpListener,
    arrived: mpsc::Receiver<Arrived>,
}

impl Reception {
    /// Binds; `None` if no peer is to be let in.
    pub(crate) async fn bind(
        api: &config::Api,
        (node, store): (&str, Store),
        known: (Epochs, Holding),
    ) -> engine::Result<Option<Self>> {
        let (Some(listen), Some(tls)) = (&api.listen, &api.tls) else { return Ok(None) };
        let (sender, arrived) = mpsc::channel(ARRIVED_WAITING);
        let receiver = Receiver::new(store, known, crate::assemble::tls(tls), sender)?;
        let receiver = receiver.named(node.to_owned());
        let listener = https::bind(&listen.host, listen.port, "api.listen").await?;
        Ok(Some(Self { receiver, listener, arrived }))
    }

    /// Lets peers in until `stop`.
    pub(crate) async fn serve(self, control: Control, stop: CancellationToken) {
        let Self { receiver, listener, mut arrived } = self;
        let telling = async {
            while let Some(Arrived { service, id, epoch }) = arrived.recv().await {
                let text = format!("image {id} has come from a peer, whole, under epoch {}", epoch.0);
                let mut record = plain(Some(service.as_str()), "image-received", text);
                record.image = Some(id.to_string());
                control.events().record(record);
                control.images_changed(&service).await;
            }
        };
        tokio::select! {
            () = receiver.serve(listener) => {}
            () = telling => {}
            () = stop.cancelled() => {}
        }
    }
}
