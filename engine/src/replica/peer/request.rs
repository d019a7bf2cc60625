//! What a peer asks, taken apart: an address becomes one of a closed set, or is refused.

use hyper::Method;
use hyper::http::request::Parts;
use policies::id::{Epoch, ImageId, ServiceName};
use policies::image::ImageVerdict;

use super::{EPOCH_HEADER, ROOT};
use crate::error::{Error, Report, Result};

/// One request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    Services,
    List(ServiceName),
    Claim(ServiceName, Epoch),
    Begin(ServiceName, ImageId, Epoch),
    Write { service: ServiceName, id: ImageId, part: String, offset: u64, epoch: Epoch },
    Commit(ServiceName, ImageId, ImageVerdict, Epoch),
    Judge(ServiceName, ImageId, ImageVerdict, Epoch),
    Remove(ServiceName, Epoch),
    Offer(ServiceName, Epoch),
    HandOver(ServiceName, ImageId, ImageVerdict, Epoch),
    Manifest(ServiceName, ImageId),
    Read { service: ServiceName, id: ImageId, part: String, offset: u64 },
}

impl Request {
    /// Names are checked here, so that no address leaves the folders it means.
    pub(super) fn of(parts: &Parts) -> Result<Self> {
        let path = parts.uri.path();
        let unknown = || Error::Invalid(Report::new(format!("no such address: {} {path}", parts.method)));
        let rest = path.strip_prefix(ROOT).and_then(|rest| rest.strip_prefix('/')).ok_or_else(unknown)?;
        let names: Vec<&str> = rest.split('/').collect();
        let epoch = || epoch(parts);
        Ok(match (&parts.method, names.as_slice()) {
            (&Method::GET, [""]) => Self::Services,
            (&Method::GET, [name]) => Self::List(service(name)?),
            (&Method::PUT, [name, "epoch"]) => Self::Claim(service(name)?, epoch()?),
            (&Method::POST, [name, "remove"]) => Self::Remove(service(name)?, epoch()?),
            (&Method::POST, [name, "offer"]) => Self::Offer(service(name)?, epoch()?),
            (&Method::PUT, [name, id, "hot"]) => {
                Self::HandOver(service(name)?, image(id)?, verdict(parts)?, epoch()?)
            }
            (&Method::POST, [name, id, "begin"]) => Self::Begin(service(name)?, image(id)?, epoch()?),
            (&Method::GET, [name, id, "manifest"]) => Self::Manifest(service(name)?, image(id)?),
            (&Method::PUT, [name, id, "manifest"]) => {
                Self::Commit(service(name)?, image(id)?, verdict(parts)?, epoch()?)
            }
            (&Method::PUT, [name, id, "verdict"]) => {
                Self::Judge(service(name)?, image(id)?, verdict(parts)?, epoch()?)
            }
            (&Method::GET, [name, id, "parts", part]) => {
                let (service, id) = (service(name)?, image(id)?);
                Self::Read { service, id, part: (*part).to_owned(), offset: offset(parts)? }
            }
            (&Method::PUT, [name, id, "parts", part]) => {
                let (service, id, epoch) = (service(name)?, image(id)?, epoch()?);
                Self::Write { service, id, part: (*part).to_owned(), offset: offset(parts)?, epoch }
            }
            _ => return Err(unknown()),
        })
    }
}

fn service(name: &str) -> Result<ServiceName> {
    ServiceName::try_from(name)
        .map_err(|e| Error::Invalid(Report::new(format!("no name of a service: {name}")).because(e)))
}

fn image(id: &str) -> Result<ImageId> {
    ImageId::try_from(id)
        .map_err(|e| Error::Invalid(Report::new(format!("no id of an image: {id}")).because(e)))
}

fn epoch(parts: &Parts) -> Result<Epoch> {
    let value = parts.headers.get(EPOCH_HEADER).and_then(|value| value.to_str().ok());
    let epoch = value.and_then(|value| value.parse().ok());
    epoch.map(Epoch).ok_or_else(|| Error::Invalid(Report::new("a write must bear an epoch")))
}

fn offset(parts: &Parts) -> Result<u64> {
    let offset = asked(parts, "offset").and_then(|value| value.parse().ok());
    offset.ok_or_else(|| Error::Invalid(Report::new("there is no offset")))
}

fn verdict(parts: &Parts) -> Result<ImageVerdict> {
    let verdict = asked(parts, "verdict").and_then(|value| value.parse().ok());
    verdict.ok_or_else(|| Error::Invalid(Report::new("there is no verdict")))
}

fn asked<'a>(parts: &'a Parts, wanted: &str) -> Option<&'a str> {
    let pairs = parts.uri.query()?.split('&').filter_map(|pair| pair.split_once('='));
    pairs.into_iter().find(|(name, _)| *name == wanted).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(method: &str, path: &str, epoch: Option<&str>) -> Result<Request> {
        let mut request = hyper::Request::builder().method(method).uri(path);
        if let Some(epoch) = epoch {
            request = request.header(EPOCH_HEADER, epoch);
        }
        Request::of(&request.body(()).expect("a request").into_parts().0)
    }

    #[test]
    fn addresses_are_understood_or_refused() {
        let (web, id) = (service("web").expect("a name"), image("a-1").expect("an id"));
        let write = Request::Write {
            service: web.clone(),
            id: id.clone(),
            part: "state.seg".to_owned(),
            offset: 7,
            epoch: Epoch(2),
        };
        assert_eq!(
            of("PUT", "/v1/replica/web/a-1/parts/state.seg?offset=7", Some("2")).expect("known"),
            write
        );
        let commit = Request::Commit(web, id, ImageVerdict::Good, Epoch(2));
        assert_eq!(of("PUT", "/v1/replica/web/a-1/manifest?verdict=good", Some("2")).expect("known"), commit);
        for (method, path, epoch) in [
            ("PUT", "/v1/replica/web/epoch", None),
            ("PUT", "/v1/replica/web/epoch", Some("-1")),
            ("GET", "/v1/replica/../x", None),
            ("GET", "/v1/replica/web/..%2fx/manifest", None),
            ("GET", "/v1/replica/web/.marks/manifest", None),
            ("GET", "/v1/replica/web/a-1/parts/state.seg", None),
            ("PUT", "/v1/replica/web/a-1/manifest?verdict=fine", Some("2")),
            ("DELETE", "/v1/replica/web", Some("2")),
            ("GET", "/v1/status", None),
        ] {
            assert_eq!(of(method, path, epoch).expect_err(path).kind(), "invalid", "{method} {path}");
        }
    }
}
