//! Addresses, URLs and what http probes need beside them.
//!
//! It refuses passwords and fragments in URLs.

use std::net::Ipv6Addr;
use std::ops::RangeInclusive;

use toml::de::DeValue;

use super::{integer, text};
use crate::read::Cell;
use crate::settings::Address;

/// A URL taken apart.
pub(crate) struct Url {
    pub(crate) address: Address,
    /// As it stood in the URL, for the `Host` header.
    pub(crate) authority: String,
    pub(crate) path: String,
    /// `https`.
    pub(crate) secure: bool,
}

/// `host:port` or `[v6]:port`.
pub(crate) fn address(cell: &Cell<'_>) -> Option<Address> {
    let written = text(cell)?;
    parse_address(&written, None).or_else(|| {
        cell.fault(
            "this is not an address",
            "write host and port, as `\"127.0.0.1:6379\"` or `\"[::1]:6379\"`",
        )
    })
}

/// `http://host[:port][/path]`, or `https`.
pub(crate) fn url(cell: &Cell<'_>) -> Option<Url> {
    let written = text(cell)?;
    parse_url(&written)
        .or_else(|| cell.fault("this is not an http URL", "write it as `\"http://127.0.0.1:8080/healthz\"`"))
}

/// The same, as it stands.
pub(crate) fn web_url(cell: &Cell<'_>) -> Option<String> {
    let written = text(cell)?;
    if parse_url(&written).is_some() {
        return Some(written);
    }
    cell.fault("this is not a URL to post to", "write it as `\"https://host/path\"`")
}

fn parse_url(written: &str) -> Option<Url> {
    let http = written.strip_prefix("http://").map(|rest| (rest, false));
    let (rest, secure) = http.or_else(|| Some((written.strip_prefix("https://")?, true)))?;
    let rest = rest.split('#').next().unwrap_or_default();
    let (authority, path) = match rest.find(['/', '?']) {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let address = parse_address(authority, Some(if secure { 443 } else { 80 }))?;
    is_path(&path).then(|| Url { address, authority: authority.to_owned(), path, secure })
}

/// The path of a request.
pub(crate) fn request_path(cell: &Cell<'_>) -> Option<String> {
    let path = text(cell)?;
    if is_path(&path) {
        return Some(path);
    }
    cell.fault("this is not the path of a request", "begin it with `/`; write spaces and the like as `%20`")
}

/// The value of a header.
pub(crate) fn header_value(cell: &Cell<'_>) -> Option<String> {
    let value = text(cell)?;
    if value.chars().all(|c| c == '\t' || !c.is_control()) {
        return Some(value);
    }
    cell.fault("a header cannot contain control characters", "keep it on one line")
}

/// Whether this can be the name of a header.
pub(crate) fn is_header_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// `200` or `"200-399"`.
pub(crate) fn status_range(cell: &Cell<'_>) -> Option<RangeInclusive<u16>> {
    const FORM: &str = "write a code as `204`, or a range as `\"200-399\"`, from 100 to 599";
    let range = match cell.value() {
        DeValue::Integer(_) => {
            integer(cell.value()).and_then(|code| u16::try_from(code).ok()).map(|code| code..=code)
        }
        DeValue::String(_) => parse_range(&text(cell)?),
        DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_)
        | DeValue::Table(_) => return cell.mistyped("a status code", FORM),
    };
    match range {
        Some(range) if *range.start() >= 100 && *range.end() <= 599 && !range.is_empty() => Some(range),
        Some(_) | None => cell.fault("this is not a status code, nor a range of them", FORM),
    }
}

fn parse_range(written: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = written.split_once('-').unwrap_or((written, written));
    Some(first.trim().parse().ok()?..=last.trim().parse().ok()?)
}

fn is_path(path: &str) -> bool {
    path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Host and port, if that is what it is.
pub(super) fn parse_address(written: &str, default_port: Option<u16>) -> Option<Address> {
    let (host, port) = match written.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            host.parse::<Ipv6Addr>().ok()?;
            (host, port)
        }
        None => {
            let at = written.find(':').unwrap_or(written.len());
            let (host, port) = written.split_at(at);
            let letters = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-' || c == '_';
            if host.is_empty() || !host.chars().all(letters) {
                return None;
            }
            (host, port)
        }
    };
    let port = match port.strip_prefix(':') {
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok()?,
        None if port.is_empty() => default_port?,
        Some(_) | None => return None,
    };
    (port != 0).then(|| Address { host: host.to_owned(), port })
}

#[cfg(test)]
mod tests {
    use super::{parse_address, parse_range};

    #[test]
    fn addresses() {
        for right in ["127.0.0.1:80", "localhost:6379", "[::1]:8080", "my_host.example.org:1"] {
            let address = parse_address(right, None).map(|address| address.to_string());
            assert_eq!(address.as_deref(), Some(right));
        }
        for wrong in [
            "",
            "80",
            "host",
            ":80",
            "host:",
            "host:0",
            "host:65536",
            "::1:80",
            "[::1]",
            "[x]:1",
            "a b:1",
            "h:+1",
        ] {
            assert_eq!(parse_address(wrong, None), None, "{wrong}");
        }
        assert_eq!(parse_address("host", Some(80)).map(|address| address.port), Some(80));
    }

    #[test]
    fn ranges() {
        assert_eq!(parse_range("200-399"), Some(200..=399));
        assert_eq!(parse_range("204"), Some(204..=204));
        for wrong in ["", "-", "200-", "2xx", "200-300-400"] {
            assert_eq!(parse_range(wrong), None, "{wrong}");
        }
    }
}
