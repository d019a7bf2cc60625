//! Names of nodes, places of leases, addresses that move.

use std::net::IpAddr;

use policies::id::NodeName;

use super::network::parse_address;
use super::{text, word};
use crate::read::Cell;
use crate::settings::NetworkAddress;

/// The longest name of a network device that Linux allows.
const DEVICE_MAX: usize = 15;

/// The name of a node.
pub(crate) fn node_name(cell: &Cell<'_>) -> Option<NodeName> {
    let written = text(cell)?;
    match NodeName::try_from(written.as_str()) {
        Ok(name) => Some(name),
        Err(_) => cell.fault(
            "this cannot be the name of a node",
            "names are made of `A-Z a-z 0-9 . _ -`, and begin with a letter or digit",
        ),
    }
}

/// `http://host:port` or `https://host:port`.
pub(crate) fn endpoint(cell: &Cell<'_>) -> Option<String> {
    let written = text(cell)?;
    let place = written.strip_prefix("http://").or_else(|| written.strip_prefix("https://"));
    let place = place.map(|place| place.strip_suffix('/').unwrap_or(place));
    match place.filter(|place| parse_address(place, Some(2379)).is_some()) {
        Some(_) => Some(written.trim_end_matches('/').to_owned()),
        None => cell.fault("this is not an endpoint", "write it as `\"https://10.0.0.1:2379\"`"),
    }
}

/// `s3://bucket/prefix` or `file:///folder`.
pub(crate) fn bucket(cell: &Cell<'_>) -> Option<String> {
    let written = word(cell)?;
    let in_s3 = written.strip_prefix("s3://").is_some_and(|place| {
        let name = place.split('/').next().unwrap_or_default();
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    });
    let in_folder = written.strip_prefix("file://").is_some_and(|folder| folder.starts_with('/'));
    if in_s3 || in_folder {
        return Some(written);
    }
    cell.fault(
        "this is not a bucket that leases can be kept in",
        "write `\"s3://bucket/prefix\"` or `\"file:///folder\"`",
    )
}

/// `10.0.0.10/24`.
pub(crate) fn network_address(cell: &Cell<'_>) -> Option<NetworkAddress> {
    let written = text(cell)?;
    parse_network(&written).or_else(|| {
        let hint = "write the address with its prefix length, as `\"10.0.0.10/24\"` or `\"fd00::10/64\"`";
        cell.fault("this is not an address of a network", hint)
    })
}

/// The name of a network device.
pub(crate) fn device(cell: &Cell<'_>) -> Option<String> {
    let written = word(cell)?;
    let fits = written.len() <= DEVICE_MAX && written != "." && written != "..";
    if fits && written.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b':') {
        return Some(written);
    }
    cell.fault("this cannot be the name of a network device", "write it as `ip link` shows it, as `\"eth0\"`")
}

fn parse_network(written: &str) -> Option<NetworkAddress> {
    let (address, length) = written.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let length_max = if address.is_ipv4() { 32 } else { 128 };
    let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
    let prefix_length = length.parse().ok().filter(|length| digits && (1..=length_max).contains(length))?;
    let usable = !address.is_unspecified() && !address.is_multicast() && !address.is_loopback();
    usable.then_some(NetworkAddress { address, prefix_length })
}

#[cfg(test)]
mod tests {
    use super::parse_network;

    #[test]
    fn addresses_that_move() {
        for right in ["10.0.0.10/24", "fd00::10/64", "10.0.0.10/32"] {
            assert_eq!(parse_network(right).map(|address| address.to_string()).as_deref(), Some(right));
        }
        for wrong in
            ["", "10.0.0.10", "10.0.0.10/", "10.0.0.10/33", "10.0.0.10/0", "x/24", "::/64", "127.0.0.1/8"]
        {
            assert_eq!(parse_network(wrong), None, "{wrong}");
        }
    }
}
