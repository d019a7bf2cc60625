//! A service's own network address: taken over by the host that runs the service, so that clients find it wherever it is.
//!
//! ```text
//! take     device found, up -> does anybody answer for it? (ARP or ND probe) -> record -> added -> announced
//! release  announcements stopped -> removed -> record removed
//! sweep    what a supervisor that died has recorded and nobody keeps: removed
//! ```
//!
//! Neighbours keep the former holder's hardware address for minutes, so the new one tells them: by gratuitous ARP, or an unsolicited
//! neighbour advertisement with the override flag; once before [`Addresses::take`] returns, then in the background for another
//! second, since such frames get lost where a switch has just seen a port come up. An IPv6 address skips the kernel's duplicate address
//! detection (a second or more in which it cannot be used): our probe has asked the same question.
//!
//! The record is written before the address is added: whatever we die of, the next supervisor knows what may be on the host. Addresses
//! go with a reboot, hence the record need not survive one.
//!
//! Netlink and not the program `ip`: the answers are codes and not words for people, the hardware address comes from the network
//! namespace that we are in (`/sys` may show another's), and a minimal host need not have iproute2. The frames are ours anyway: `ip`
//! has no probe and no announcement.
//!
//! It refuses to take what another host answers for; to decide who may hold an address (a lease does); and to choose among
//! several devices. One service's address is for one caller at a time.

mod frame;
mod link;
mod record;
mod wire;

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::error::{Error, Report, Result};
use crate::fence::FencedAddress;
use link::{Assigned, Device, Netlink};
use record::{Record, Records};
use wire::{Hearing, Wire};

/// How often it is asked whether somebody has the address, and how long an answer may take each time.
const PROBES: u32 = 3;
const ANSWER_MAX: Duration = Duration::from_millis(100);
/// How long the kernel may take to take an address off.
const RELEASE_MAX: Duration = Duration::from_secs(2);
/// The pauses between the announcements after the first.
const REPEATED_AFTER: [Duration; 4] = [
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(300),
    Duration::from_millis(400),
];
const FORM: &str = "write it with its prefix, as 10.0.0.10/24 or 2001:db8::10/64";

/// An address with the length of its network's prefix, and the device that it belongs on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    ip: IpAddr,
    prefix: u8,
    device: Option<String>,
}

/// What came of taking an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The device that it is on.
    pub device: String,
    /// Whether it was put there just now; else it was there already.
    pub added: bool,
}

/// The addresses that this node takes, with a record of them.
#[derive(Debug)]
pub struct Addresses {
    records: Records,
    announcing: Mutex<HashMap<IpAddr, JoinHandle<()>>>,
}

impl Address {
    /// `10.0.0.10/24` or `2001:db8::10/64`. Without [`Address::on`] it belongs on the device that has another address of that network.
    ///
    /// # Errors
    /// `Invalid` for anything else, and as [`Address::new`].
    pub fn parse(text: &str) -> Result<Self> {
        let (ip, prefix) = text.split_once('/').ok_or_else(|| wrong(text, "it has no prefix"))?;
        let ip: IpAddr = ip.parse().map_err(|_| wrong(text, "it isn't one"))?;
        let digits = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
        let prefix = prefix.parse().ok().filter(|_| digits);
        Self::new(ip, prefix.ok_or_else(|| wrong(text, "its prefix isn't one"))?)
    }

    /// The same from its parts.
    ///
    /// # Errors
    /// `Invalid` for what no single host can have.
    pub fn new(ip: IpAddr, prefix: u8) -> Result<Self> {
        let address = Self { ip, prefix, device: None };
        if prefix == 0 || prefix > bits(ip) {
            return Err(wrong(&address.to_string(), "its prefix isn't one"));
        }
        if !is_a_hosts(ip, prefix) {
            return Err(wrong(&address.to_string(), "no single host can have it"));
        }
        Ok(address)
    }

    /// Names the device that it belongs on.
    #[must_use]
    pub fn on(self, device: impl Into<String>) -> Self {
        Self { device: Some(device.into()), ..self }
    }

    /// The address without its prefix.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        self.ip
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.prefix)
    }
}

impl Addresses {
    /// What a fence needs to take the address off this host, if it is here.
    #[must_use]
    pub fn fenced(&self, address: &Address) -> FencedAddress {
        FencedAddress { records: self.records.folder().to_owned(), ip: address.ip }
    }

    /// With records in this folder, which is made when it is needed.
    pub fn recorded_in(folder: impl Into<PathBuf>) -> Self {
        Self { records: Records::new(folder.into()), announcing: Mutex::default() }
    }

    /// Puts the address on its device and tells the neighbours. One that is there already is told of again. If it is dropped half-way, or
    /// fails after the record was made, [`Addresses::release`] or a sweep clears up.
    ///
    /// # Errors
    /// `Refused` if the device is absent or down, or another one of this host has the address; `Invalid` if none is named and none suggests
    /// itself; `Unavailable` if another host answers for the address, which may be about to release it.
    pub async fn take(&self, address: &Address) -> Result<Taken> {
        let netlink = Netlink::open()?;
        let assigned = netlink.assigned().await?;
        let device = netlink.device_for(address, &assigned).await?;
        device.must_work(address)?;
        self.quieten(address.ip).await;
        let present = on_device(&assigned, address, &device)?;
        let record = Record::of(address, &device.name)?;
        let added = !present.is_some_and(|found| found.usable);
        if added {
            if let Some(unusable) = present {
                netlink.remove(unusable).await?;
            }
            nobody_else_has(address, &device).await?;
            self.records.write(&record)?;
            crate::failpoint::fail_point("address-recorded");
            netlink.add(&device, address).await?;
        } else {
            self.records.write(&record)?;
        }
        self.announce(address, &device)?;
        Ok(Taken { device: device.name, added })
    }

    /// Whether this host could take the address: the device that it belongs on is there and works.
    ///
    /// # Errors
    /// As [`Addresses::take`] before it looks at other hosts.
    pub async fn could_take(&self, address: &Address) -> Result<()> {
        let netlink = Netlink::open()?;
        let assigned = netlink.assigned().await?;
        netlink.device_for(address, &assigned).await?.must_work(address)
    }

    /// Takes the address off this host. One that is not there needs nothing.
    ///
    /// # Errors
    /// What the kernel says; the record then stays.
    pub async fn release(&self, address: &Address) -> Result<()> {
        self.quieten(address.ip).await;
        let recorded = self.records.read(address.ip)?.map(|record| record.device);
        remove(address.ip, recorded.as_ref().or(address.device.as_ref())).await?;
        self.records.remove(address.ip)
    }

    /// Whether the address is on its device and can be used.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn holds(&self, address: &Address) -> Result<bool> {
        let netlink = Netlink::open()?;
        let found = netlink.assigned().await?;
        let mut found = found.iter().filter(|found| found.ip == address.ip && found.usable);
        let Some(name) = &address.device else { return Ok(found.next().is_some()) };
        let device = netlink.device(name).await?;
        Ok(device.is_some_and(|device| found.any(|found| found.index == device.index)))
    }

    /// Removes what is recorded and not among the `kept` ones (of services that run on): what a supervisor that died has left. Says
    /// what it has removed.
    ///
    /// # Errors
    /// The first one, after all that can be removed is.
    pub async fn sweep(&self, kept: &[Address]) -> Result<Vec<IpAddr>> {
        let (mut swept, mut failure) = (Vec::new(), None);
        for ip in self.records.list()?.into_iter().filter(|ip| kept.iter().all(|kept| kept.ip != *ip)) {
            match self.sweep_one(ip).await {
                Ok(()) => swept.push(ip),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or(Ok(swept), Err)
    }

    async fn sweep_one(&self, ip: IpAddr) -> Result<()> {
        // A record of another boot says nothing of this one.
        if let Some(record) = self.records.read(ip)?.filter(Record::is_of_this_boot) {
            remove(ip, Some(&record.device)).await?;
        }
        self.records.remove(ip)
    }

    /// Announces the address once, and goes on with that in the background.
    fn announce(&self, address: &Address, device: &Device) -> Result<()> {
        let Some(hardware) = device.hardware else { return Ok(()) };
        let wire = Wire::open(device, Hearing::Nothing)?;
        let frames = frame::announcements(address.ip, hardware);
        wire.send_all(&frames)?;
        let shown = format!("{address} on {}", device.name);
        let repeating = tokio::spawn(async move {
            for pause in REPEATED_AFTER {
                tokio::time::sleep(pause).await;
                if let Err(error) = wire.send_all(&frames) {
                    tracing::warn!(%error, "{shown} could not be announced again");
                }
            }
        });
        self.announcing().insert(address.ip, repeating);
        Ok(())
    }

    /// Returns when no announcement can follow.
    async fn quieten(&self, ip: IpAddr) {
        let repeating = self.announcing().remove(&ip);
        if let Some(repeating) = repeating {
            repeating.abort();
            let _ = repeating.await;
        }
    }

    fn announcing(&self) -> std::sync::MutexGuard<'_, HashMap<IpAddr, JoinHandle<()>>> {
        // It holds only handles: whoever panicked with it in hand has not torn anything.
        self.announcing.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Takes an address off this host, if there is a record of it. For a process of one thread and without a runtime.
pub(crate) fn release_recorded(records: PathBuf, ip: IpAddr) -> Result<()> {
    let failed = |e: std::io::Error| Error::Unavailable(Report::new(format!("release {ip}")).because(e));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let address = Address { ip, prefix: bits(ip), device: None };
    let addresses = Addresses::recorded_in(records);
    if addresses.records.read(ip)?.is_none() {
        return Ok(());
    }
    let released = runtime.block_on(async {
        tokio::time::timeout(RELEASE_MAX, addresses.release(&address)).await.map_err(|e| failed(e.into()))
    });
    released?
}

/// The address as it is on its device; it must not be on another one.
fn on_device<'a>(
    assigned: &'a [Assigned],
    address: &Address,
    device: &Device,
) -> Result<Option<&'a Assigned>> {
    let found = assigned.iter().filter(|found| found.ip == address.ip);
    let (here, elsewhere): (Vec<_>, Vec<_>) = found.partition(|found| found.index == device.index);
    match elsewhere.first() {
        Some(other) if here.is_empty() => {
            let report = Report::new(format!(
                "take {address} on {}: the device with index {} of this host has it",
                device.name, other.index
            ));
            let remedy = format!(
                "name that device, or remove the address from it (ip address show to {})",
                address.ip
            );
            Err(Error::Refused(report.remedy(remedy)))
        }
        _ => Ok(here.first().copied()),
    }
}

/// Asks all neighbours.
async fn nobody_else_has(address: &Address, device: &Device) -> Result<()> {
    let Some(hardware) = device.hardware else { return Ok(()) };
    let wire = Wire::open(device, Hearing::of(address.ip))?;
    for _ in 0..PROBES {
        wire.send_all(&[frame::probe(address.ip, hardware)])?;
        let answer = tokio::time::timeout(ANSWER_MAX, wire.holder(address.ip, hardware)).await;
        if let Ok(holder) = answer {
            return Err(in_use(address, device, holder?));
        }
    }
    Ok(())
}

fn in_use(address: &Address, device: &Device, holder: frame::Hardware) -> Error {
    let report = Report::new(format!(
        "take {address} on {}: the host with the hardware address {holder} has it",
        device.name
    ));
    Error::Unavailable(report.remedy(format!(
        "remove {} there (its supervisor does so when it releases the service or is started again), or see that no router answers \
         for others (proxy ARP)",
        address.ip
    )))
}

/// Takes an address off the device, or off all of this host's.
async fn remove(ip: IpAddr, device: Option<&String>) -> Result<()> {
    let netlink = Netlink::open()?;
    let index = match device {
        Some(name) => match netlink.device(name).await? {
            Some(device) => Some(device.index),
            // Its addresses went with it.
            None => return Ok(()),
        },
        None => None,
    };
    for found in netlink.assigned().await? {
        if found.ip == ip && index.is_none_or(|index| index == found.index) {
            netlink.remove(&found).await?;
        }
    }
    Ok(())
}

fn bits(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

fn wrong(text: &str, why: &str) -> Error {
    Error::Invalid(Report::new(format!("use as a service's address ({why}): {text}")).remedy(FORM))
}

/// Whether one host can have it: not a group's, not everybody's, not the network's own.
fn is_a_hosts(ip: IpAddr, prefix: u8) -> bool {
    if ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() {
        return false;
    }
    match ip {
        IpAddr::V4(ip) => {
            let host = !u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            let own = ip.to_bits() & host;
            !ip.is_broadcast() && (prefix >= 31 || (own != 0 && own != host))
        }
        IpAddr::V6(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_as_people_write_them() {
        for right in
            ["10.0.0.10/24", "10.0.0.10/32", "10.0.0.0/31", "10.0.1.0/16", "2001:db8::10/64", "fd00::1/128"]
        {
            assert_eq!(Address::parse(right).expect(right).to_string(), right);
        }
    }

    #[test]
    fn what_no_single_host_can_have() {
        let wrong = [
            "",
            "/",
            "10.0.0.10",
            "10.0.0.10/",
            "10.0.0.10/0",
            "10.0.0.10/33",
            "10.0.0.10/+8",
            "10.0.0/24",
            "eth0/24",
            "10.0.0.0/24",
            "10.0.0.255/24",
            "0.0.0.0/8",
            "127.0.0.1/8",
            "224.0.0.5/24",
            "255.255.255.255/32",
            "::/64",
            "::1/128",
            "ff02::1/64",
            "fd00::1/129",
            "fd00::1%eth0/64",
        ];
        for wrong in wrong {
            let error = Address::parse(wrong).expect_err(wrong);
            assert_eq!((error.kind(), error.report().remedy_text()), ("invalid", Some(FORM)), "{wrong}");
        }
    }
}
