//! Somebody who is posted messages to by HTTP or HTTPS. It has been told if and only if it answers 2xx within the limit.
//!
//! It refuses redirects: a message may hold more than its receiver's receiver is meant to see. A URL may hold a token in its
//! path, so only its host is ever shown.

use std::path::PathBuf;
use std::time::Duration;

use hyper::body::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, StatusCode, Url};
use tokio::sync::OnceCell;

use crate::durable::read_limited;
use crate::error::{Error, Report, Result};

/// Certificates are some thousand bytes.
const CA_LENGTH_MAX: u64 = 1 << 20;

/// A receiver of messages of one type.
#[derive(Debug)]
pub struct Recipient {
    url: Url,
    /// Of the messages, as in `Content-Type`.
    media_type: &'static str,
    headers: HeaderMap,
    ca: Option<PathBuf>,
    limit: Duration,
    /// Made at the first use, so that a file that is missing now may be there then.
    client: OnceCell<Client>,
}

impl Recipient {
    /// Connects to nothing yet. `ca`: who may have signed the receiver's certificate instead of those whom the host trusts;
    /// `limit`: how long one attempt may take.
    ///
    /// # Errors
    /// `Invalid` for what is no URL or no header.
    pub fn new(
        url: &str,
        media_type: &'static str,
        headers: impl IntoIterator<Item = (String, String)>,
        ca: Option<PathBuf>,
        limit: Duration,
    ) -> Result<Self> {
        let url =
            Url::parse(url).map_err(|e| Error::Invalid(Report::new("use as a URL to post to").because(e)))?;
        let headers =
            headers.into_iter().map(|(name, value)| header(&name, &value)).collect::<Result<_>>()?;
        Ok(Self { url, media_type, headers, ca, limit, client: OnceCell::new() })
    }

    /// Where it is, for people.
    pub fn place(&self) -> String {
        self.url.origin().ascii_serialization()
    }

    /// Posts one message.
    ///
    /// # Errors
    /// `Unavailable` if trying again may help, `Refused` if the receiver does not want it, `Invalid` if it cannot be reached as
    /// configured.
    pub async fn tell(&self, message: Bytes) -> Result<()> {
        let client = self.client.get_or_try_init(async || self.client()).await?;
        let request = client.post(self.url.clone()).header(CONTENT_TYPE, self.media_type).body(message);
        let what = || Report::new(format!("post to {}", self.place()));
        let answer = request.send().await.map_err(|e| Error::Unavailable(what().because(e.without_url())))?;
        let status = answer.status();
        let report = || Report::new(format!("post to {}: it answered {status}", self.place()));
        match status {
            told if told.is_success() => Ok(()),
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Err(Error::Unavailable(report())),
            broken if broken.is_server_error() => Err(Error::Unavailable(report())),
            _ => Err(Error::Refused(report())),
        }
    }

    fn client(&self) -> Result<Client> {
        crate::replica::tls::use_ring();
        let mut builder = Client::builder()
            .timeout(self.limit)
            .redirect(Policy::none())
            .user_agent(concat!("supervisor/", env!("CARGO_PKG_VERSION")))
            .default_headers(self.headers.clone());
        if let Some(ca) = &self.ca {
            let unusable = |e| {
                Error::Invalid(
                    Report::new(format!("use the certificate authority {}", ca.display())).because(e),
                )
            };
            let certificates = Certificate::from_pem_bundle(&read_limited(ca, CA_LENGTH_MAX)?);
            builder = builder.tls_certs_only(certificates.map_err(unusable)?);
        }
        let what = || Report::new(format!("make ready to post to {}", self.place()));
        builder.build().map_err(|e| Error::Invalid(what().because(e)))
    }
}

fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue)> {
    // The value may be a secret.
    let wrong = || Error::Invalid(Report::new(format!("use as a header: {name}")));
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
    let mut value = HeaderValue::from_str(value).map_err(|_| wrong())?;
    value.set_sensitive(true);
    Ok((name, value))
}
