//! The service's address: it is where the service is.
//!
//! It is taken as soon as the lease is ours, and tried again until it is there: a host whose supervisor has died may still have it. A start does not wait for
//! it; a restore does for a while, since connections in an image are bound to it. It goes before the service ends, so that no client reaches a
//! dying one.

use std::time::Duration;

use config::Failover;
use engine::address::Address;
use policies::id::ServiceName;

use super::Task;
use crate::events::{Events, failed, plain};

/// How long a failed attempt is left alone.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// The address of a service, if it has one that can be.
pub(super) fn of(failover: &Failover, service: &ServiceName, events: &Events) -> Option<Address> {
    let wanted = failover.address?;
    match Address::new(wanted.address, wanted.prefix_length) {
        Ok(address) => Some(match &failover.device {
            Some(device) => address.on(device.clone()),
            None => address,
        }),
        Err(error) => {
            events.record(failed(Some(service.as_str()), "address-failed", &error));
            None
        }
    }
}

impl Task {
    pub(super) fn take_address(&mut self) {
        let Some(address) = self.address.clone().filter(|_| self.taking.is_none()) else { return };
        let (addresses, events) = (self.ground.addresses.clone(), self.ground.events.clone());
        let is_here = self.ground.tenures.address_comes(&self.service);
        let service = self.service.clone();
        let taking = tokio::spawn(async move {
            let mut said = None;
            loop {
                let error = match addresses.take(&address).await {
                    Ok(taken) => {
                        is_here.send_replace(true);
                        let text = format!("{address} is on {}", taken.device);
                        return events.record(plain(Some(service.as_str()), "address-taken", text));
                    }
                    Err(error) => error,
                };
                // Once an obstacle.
                if said != Some(error.to_string()) {
                    events.record(failed(Some(service.as_str()), "address-failed", &error));
                    said = Some(error.to_string());
                }
                tokio::time::sleep(AGAIN_AFTER).await;
            }
        });
        self.taking = Some(taking);
    }

    pub(super) async fn release_address(&mut self) {
        let Some(address) = self.address.clone() else { return };
        if let Some(taking) = self.taking.take() {
            taking.abort();
            // Its end is waited for: the address would come right after it has gone.
            let _ = taking.await;
        }
        if let Err(error) = self.ground.addresses.release(&address).await {
            self.tell("address-failed", format!("{address} may still be on this host: {error}"));
        }
    }
}
