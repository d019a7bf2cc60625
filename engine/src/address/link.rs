//! Devices and their addresses, by netlink.
//!
//! It refuses to keep what it has read: each act asks the kernel anew, in the network namespace of its thread.

use std::net::IpAddr;

use futures_util::{StreamExt, TryStreamExt};
use rtnetlink::Handle;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};

use super::frame::Hardware;
use super::{Address, bits};
use crate::error::{Error, Report, Result};

/// A connection to the kernel.
pub(super) struct Netlink {
    handle: Handle,
}

/// A network device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Device {
    pub(super) name: String,
    pub(super) index: u32,
    /// `None` where there are no neighbours to ask and tell.
    pub(super) hardware: Option<Hardware>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Down,
    WithoutCarrier,
    Works,
}

/// An address on a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Assigned {
    pub(super) index: u32,
    pub(super) ip: IpAddr,
    /// Not one that the kernel still asks about, or has found on another host.
    pub(super) usable: bool,
    prefix: u8,
    message: AddressMessage,
}

impl Device {
    /// Nobody would hear of the address otherwise.
    pub(super) fn must_work(&self, address: &Address) -> Result<()> {
        let name = &self.name;
        match self.state {
            State::Works => Ok(()),
            State::Down => {
                let report = Report::new(format!("take {address} on {name}: the device is down"));
                Err(Error::Refused(report.remedy(format!("set it up: ip link set {name} up"))))
            }
            State::WithoutCarrier => {
                let report = Report::new(format!("take {address} on {name}: the device has no carrier"));
                Err(Error::Unavailable(
                    report.remedy("look at its cable, or at what it is a bridge or bond of"),
                ))
            }
        }
    }

    fn from(message: &LinkMessage) -> Self {
        let (mut name, mut hardware) = (String::new(), None);
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(found) => name.clone_from(found),
                LinkAttribute::Address(found) => hardware = found.as_slice().try_into().ok().map(Hardware),
                _ => {}
            }
        }
        let flags = message.header.flags;
        let state = match (flags.contains(LinkFlags::Up), flags.contains(LinkFlags::Running)) {
            (false, _) => State::Down,
            (true, false) => State::WithoutCarrier,
            (true, true) => State::Works,
        };
        let alone = flags.intersects(LinkFlags::Noarp | LinkFlags::Loopback);
        Self { name, index: message.header.index, hardware: hardware.filter(|_| !alone), state }
    }
}

impl Netlink {
    pub(super) fn open() -> Result<Self> {
        let opened = rtnetlink::new_connection();
        let (connection, handle, _) =
            opened.map_err(|e| Error::Unavailable(Report::new("open a netlink socket").because(e)))?;
        // It ends when the handle is dropped.
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// The device of this name, if there is one.
    pub(super) async fn device(&self, name: &str) -> Result<Option<Device>> {
        let mut found = Box::pin(self.handle.link().get().match_name(name).execute());
        match found.next().await {
            None => Ok(None),
            Some(Ok(message)) => Ok(Some(Device::from(&message))),
            // ERANGE: no name is that long.
            Some(Err(e)) if matches!(errno(&e), Some(libc::ENODEV | libc::ERANGE | libc::EINVAL)) => Ok(None),
            Some(Err(e)) => Err(failed(format!("look at the device {name}"), &e)),
        }
    }

    /// The device that an address belongs on.
    pub(super) async fn device_for(&self, address: &Address, assigned: &[Assigned]) -> Result<Device> {
        if let Some(name) = &address.device {
            let absent = || {
                let report = Report::new(format!("take {address} on {name}: there is no such device"));
                Error::Refused(report.remedy("name one of this host's: ip -brief link"))
            };
            return self.device(name).await?.ok_or_else(absent);
        }
        let index = suggested(address, assigned).map_err(|why| {
            let report = Report::new(format!("take {address}: no device is named, and {why}"));
            Error::Invalid(report.remedy("name the device that it belongs on"))
        })?;
        let mut found = Box::pin(self.handle.link().get().match_index(index).execute());
        let message = found.try_next().await.map_err(|e| failed(format!("look at device {index}"), &e))?;
        let gone = || Error::Unavailable(Report::new(format!("look at device {index}: it is gone")));
        message.as_ref().map(Device::from).ok_or_else(gone)
    }

    /// All addresses of this host.
    pub(super) async fn assigned(&self) -> Result<Vec<Assigned>> {
        let listed: Result<Vec<_>, _> = self.handle.address().get().execute().try_collect().await;
        let listed = listed.map_err(|e| failed("list this host's addresses".to_owned(), &e))?;
        Ok(listed.into_iter().filter_map(Assigned::from).collect())
    }

    /// Adds an address that can be used at once. One that is there already is as good.
    pub(super) async fn add(&self, device: &Device, address: &Address) -> Result<()> {
        let mut adding = self.handle.address().add(device.index, address.ip, address.prefix);
        if address.ip.is_ipv6() {
            adding.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        }
        match adding.execute().await {
            Ok(()) => Ok(()),
            Err(e) if errno(&e) == Some(libc::EEXIST) => Ok(()),
            Err(e) => Err(failed(format!("add {address} to {}", device.name), &e)),
        }
    }

    /// Removes an address. One that is gone already is as good.
    pub(super) async fn remove(&self, assigned: &Assigned) -> Result<()> {
        match self.handle.address().del(assigned.message.clone()).execute().await {
            Ok(()) => Ok(()),
            Err(e) if matches!(errno(&e), Some(libc::EADDRNOTAVAIL | libc::ENODEV)) => Ok(()),
            Err(e) => Err(failed(format!("remove {} from device {}", assigned.ip, assigned.index), &e)),
        }
    }
}

impl Assigned {
    fn from(message: AddressMessage) -> Option<Self> {
        let (mut address, mut local, mut flags) = (None, None, AddressFlags::empty());
        for attribute in &message.attributes {
            match attribute {
                AddressAttribute::Address(found) => address = Some(*found),
                AddressAttribute::Local(found) => local = Some(*found),
                AddressAttribute::Flags(found) => flags = *found,
                _ => {}
            }
        }
        Some(Self {
            index: message.header.index,
            // On a link between two hosts the first is the other's.
            ip: local.or(address)?,
            usable: !flags.intersects(AddressFlags::Tentative | AddressFlags::Dadfailed),
            prefix: message.header.prefix_len,
            message,
        })
    }
}

/// The index of the device that has the address, or else another one of its network; or why there is none.
fn suggested(address: &Address, assigned: &[Assigned]) -> Result<u32, &'static str> {
    if let Some(present) = assigned.iter().find(|found| found.ip == address.ip) {
        return Ok(present.index);
    }
    let neighbours = || assigned.iter().filter(|found| shares_network(address.ip, found));
    let longest = neighbours().map(|found| found.prefix).max();
    let mut indices: Vec<u32> =
        neighbours().filter(|found| Some(found.prefix) == longest).map(|found| found.index).collect();
    indices.sort_unstable();
    indices.dedup();
    match indices.as_slice() {
        [] => Err("none has an address of that network"),
        [index] => Ok(*index),
        _ => Err("several have an address of that network"),
    }
}

fn shares_network(ip: IpAddr, found: &Assigned) -> bool {
    let alone = found.prefix == bits(found.ip);
    let (ours, theirs) = match (ip, found.ip) {
        (IpAddr::V4(ours), IpAddr::V4(theirs)) => (u128::from(ours.to_bits()), u128::from(theirs.to_bits())),
        (IpAddr::V6(ours), IpAddr::V6(theirs)) => (ours.to_bits(), theirs.to_bits()),
        _ => return false,
    };
    !alone && (ours ^ theirs).checked_shr(u32::from(bits(ip) - found.prefix)).unwrap_or(0) == 0
}

fn errno(error: &rtnetlink::Error) -> Option<i32> {
    match error {
        rtnetlink::Error::NetlinkError(message) => Some(message.raw_code().abs()),
        _ => None,
    }
}

fn failed(tried: String, error: &rtnetlink::Error) -> Error {
    let report = Report::new(tried);
    let report = match errno(error) {
        Some(code) => report.because(std::io::Error::from_raw_os_error(code)),
        None => report.because(error),
    };
    match errno(error) {
        Some(libc::EPERM) => {
            Error::Refused(report.remedy("run as root, or give the supervisor CAP_NET_ADMIN"))
        }
        Some(libc::EACCES) => Error::Refused(
            report.remedy("IPv6 is switched off on the device: set net.ipv6.conf.DEVICE.disable_ipv6 to 0"),
        ),
        _ => Error::Unavailable(report),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assigned(index: u32, text: &str) -> Assigned {
        let Address { ip, prefix, .. } = Address::parse(text).expect("address");
        Assigned { index, ip, usable: true, prefix, message: AddressMessage::default() }
    }

    #[test]
    fn a_device_suggests_itself_by_its_network() {
        let wanted = |text| Address::parse(text).expect("address");
        let host = [
            assigned(2, "10.0.0.1/24"),
            assigned(2, "fd00::1/64"),
            assigned(3, "10.0.1.1/16"),
            assigned(4, "10.9.0.1/24"),
            assigned(5, "10.9.0.2/24"),
            assigned(6, "192.0.2.1/32"),
        ];
        assert_eq!(suggested(&wanted("10.0.0.10/24"), &host), Ok(2));
        assert_eq!(suggested(&wanted("10.0.2.10/24"), &host), Ok(3));
        assert_eq!(suggested(&wanted("fd00::10/64"), &host), Ok(2));
        assert_eq!(suggested(&wanted("10.9.0.2/24"), &host), Ok(5));
        assert!(suggested(&wanted("10.9.0.3/24"), &host).is_err());
        assert!(suggested(&wanted("192.0.2.2/32"), &host).is_err());
        assert!(suggested(&wanted("fd01::10/64"), &host).is_err());
    }
}
