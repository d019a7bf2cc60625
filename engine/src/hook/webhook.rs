//! A receiver of events, as JSON.

use std::path::PathBuf;
use std::time::Duration;

use hyper::body::Bytes;

use crate::error::Result;
use crate::recipient::Recipient;

/// A receiver of messages.
#[derive(Debug)]
pub struct Webhook(Recipient);

impl Webhook {
    /// As [`Recipient::new`].
    ///
    /// # Errors
    /// As there.
    pub fn new(
        url: &str,
        headers: impl IntoIterator<Item = (String, String)>,
        ca: Option<PathBuf>,
        limit: Duration,
    ) -> Result<Self> {
        Recipient::new(url, "application/json", headers, ca, limit).map(Self)
    }

    /// Where it is, for people.
    pub fn place(&self) -> String {
        self.0.place()
    }

    /// Posts one message.
    ///
    /// # Errors
    /// As [`Recipient::tell`].
    pub async fn tell(&self, json: Bytes) -> Result<()> {
        self.0.tell(json).await
    }
}
