//! The frames with which hosts on one Ethernet segment ask and tell who has an address: ARP (RFC 826, 5227) and neighbour discovery
//! (RFC 4861), whole from the Ethernet header on.
//!
//! It refuses anything but Ethernet's hardware addresses of six bytes, and does no I/O.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const BROADCAST: Hardware = Hardware([0xff; 6]);
const UNKNOWN: Hardware = Hardware([0; 6]);
const ARP: [u8; 2] = [0x08, 0x06];
const IPV6: [u8; 2] = [0x86, 0xdd];
const REQUEST: u16 = 1;
const REPLY: u16 = 2;
const ICMPV6: u8 = 58;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// What the neighbours knew until now gives way.
const OVERRIDE: u32 = 0x2000_0000;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// Where things stand in a frame.
const ETHERNET: usize = 14;
const ARP_LENGTH: usize = 28;
const IPV6_HEADER: usize = 40;
const NEIGHBOUR_LENGTH: usize = 24;
/// The next header's number, and the type of the ICMPv6 message: what a filter of the kernel's looks at.
pub(super) const NEXT_HEADER_AT: u32 = 20;
pub(super) const TYPE_AT: u32 = 54;

/// A hardware address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hardware(pub(super) [u8; 6]);

impl fmt::Display for Hardware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// What tells everybody that `ip` is at `own` now. Some equipment heeds requests only and some replies only, so IPv4 has both.
pub(super) fn announcements(ip: IpAddr, own: Hardware) -> Vec<Vec<u8>> {
    match ip {
        IpAddr::V4(ip) => {
            vec![arp(REQUEST, (own, ip), (UNKNOWN, ip)), arp(REPLY, (own, ip), (own, ip))]
        }
        IpAddr::V6(ip) => vec![advertisement(ip, own)],
    }
}

/// Asks who has `ip`, without saying that we do: nobody's knowledge changes.
pub(super) fn probe(ip: IpAddr, own: Hardware) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => arp(REQUEST, (own, Ipv4Addr::UNSPECIFIED), (UNKNOWN, ip)),
        IpAddr::V6(ip) => solicitation(ip, own),
    }
}

/// Who says in this frame that `ip` is theirs.
pub(super) fn holder(ip: IpAddr, frame: &[u8]) -> Option<Hardware> {
    match ip {
        IpAddr::V4(ip) => {
            let arp = frame.get(ETHERNET..ETHERNET + ARP_LENGTH)?;
            let sender = arp.get(14..18)? == ip.octets();
            sender.then(|| hardware(&arp[8..14])).flatten()
        }
        IpAddr::V6(ip) => {
            let message = frame.get(ETHERNET + IPV6_HEADER..)?.get(..NEIGHBOUR_LENGTH)?;
            let advertised = message[0] == ADVERTISEMENT && message[8..24] == ip.octets();
            advertised.then(|| hardware(&frame[6..12])).flatten()
        }
    }
}

/// The number of an advertisement, for the kernel's filter.
pub(super) const fn advertisement_numbers() -> (u8, u8) {
    (ICMPV6, ADVERTISEMENT)
}

fn hardware(bytes: &[u8]) -> Option<Hardware> {
    bytes.try_into().ok().map(Hardware)
}

fn ethernet(to: Hardware, from: Hardware, kind: [u8; 2]) -> Vec<u8> {
    [to.0.as_slice(), &from.0, &kind].concat()
}

fn arp(operation: u16, sender: (Hardware, Ipv4Addr), target: (Hardware, Ipv4Addr)) -> Vec<u8> {
    let mut frame = ethernet(BROADCAST, sender.0, ARP);
    // Ethernet, IPv4, and the lengths of their addresses.
    frame.extend([0, 1, 8, 0, 6, 4]);
    frame.extend(operation.to_be_bytes());
    for (hardware, ip) in [sender, target] {
        frame.extend(hardware.0);
        frame.extend(ip.octets());
    }
    frame
}

fn solicitation(ip: Ipv6Addr, own: Hardware) -> Vec<u8> {
    let [.., a, b, c] = ip.octets();
    let group = Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c]);
    neighbour(own, Ipv6Addr::UNSPECIFIED, group, message(SOLICITATION, 0, ip))
}

fn advertisement(ip: Ipv6Addr, own: Hardware) -> Vec<u8> {
    let mut message = message(ADVERTISEMENT, OVERRIDE, ip);
    // The option "target link-layer address", in units of eight bytes.
    message.extend([2, 1]);
    message.extend(own.0);
    neighbour(own, ip, ALL_NODES, message)
}

/// The checksum is still to be filled in.
fn message(kind: u8, flags: u32, target: Ipv6Addr) -> Vec<u8> {
    [[kind, 0, 0, 0].as_slice(), &flags.to_be_bytes(), &target.octets()].concat()
}

fn neighbour(own: Hardware, from: Ipv6Addr, group: Ipv6Addr, mut message: Vec<u8>) -> Vec<u8> {
    let length = u8::try_from(message.len()).expect("a neighbour's message has at most 32 bytes");
    let sum = checksum(from, group, length, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let [.., a, b, c, d] = group.octets();
    let mut frame = ethernet(Hardware([0x33, 0x33, a, b, c, d]), own, IPV6);
    // Version 6; the length; the hop limit of 255 shows that it comes from this segment.
    frame.extend([0x60, 0, 0, 0, 0, length, ICMPV6, 255]);
    frame.extend(from.octets());
    frame.extend(group.octets());
    frame.extend(message);
    frame
}

/// The internet checksum over pseudo header and message (RFC 8200, 8.1).
fn checksum(from: Ipv6Addr, to: Ipv6Addr, length: u8, message: &[u8]) -> u16 {
    let tail = [0, 0, 0, length, 0, 0, 0, ICMPV6];
    let all = [from.octets().as_slice(), &to.octets(), &tail, message].concat();
    let sum: u32 = all.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !u16::try_from((folded & 0xffff) + (folded >> 16)).expect("a sum of few words is folded by two steps")
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Hardware = Hardware([2, 0, 0, 0, 0, 1]);
    const V4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 10));
    const V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0x12, 0x3456));

    #[test]
    fn an_announcement_names_its_holder() {
        for ip in [V4, V6] {
            for frame in announcements(ip, OWN) {
                assert_eq!(holder(ip, &frame), Some(OWN), "{frame:02x?}");
                for length in 0..frame.len().min(ETHERNET + ARP_LENGTH) {
                    assert_eq!(holder(ip, &frame[..length]), None);
                }
            }
        }
    }

    #[test]
    fn a_probe_claims_nothing() {
        for ip in [V4, V6] {
            assert_eq!(holder(ip, &probe(ip, OWN)), None);
        }
        assert_eq!(probe(V6, OWN)[..6], [0x33, 0x33, 0xff, 0x12, 0x34, 0x56]);
    }

    #[test]
    fn a_whole_frame_sums_up_to_nothing() {
        for frame in [probe(V6, OWN), advertisement("fd00::1".parse().expect("address"), OWN)] {
            let octets = |at: usize| <[u8; 16]>::try_from(&frame[at..at + 16]).expect("sixteen bytes");
            let message = &frame[ETHERNET + IPV6_HEADER..];
            let length = u8::try_from(message.len()).expect("short");
            assert_eq!(checksum(octets(22).into(), octets(38).into(), length, message), 0);
            assert_eq!((frame[NEXT_HEADER_AT as usize], frame[18], frame[19]), (ICMPV6, 0, length));
            assert_eq!(frame[TYPE_AT as usize], message[0]);
        }
    }
}
