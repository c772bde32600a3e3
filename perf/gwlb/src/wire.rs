//! The frames of GWLB: building what goes to the appliance, judging what comes back.
//!
//! Outside always Ethernet, IPv4, UDP to port 6081 and GENEVE (RFC 8926) with the three options of class 0x0108; inside
//! the packet from its IP header on. What comes back must have MACs and IPv4 addresses swapped, UDP ports as they were, TTL
//! 64, valid checksums, and the same bytes from the GENEVE header to the end.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// UDP destination port of GENEVE (RFC 8926, 3.3).
pub const GENEVE_PORT: u16 = 6081;
/// GENEVE header with GWLB's options, bytes.
pub const GENEVE_LENGTH: usize = 40;
/// Outer IPv4, UDP and GENEVE with options, bytes.
pub const OVERHEAD: usize = IPV4 + UDP + GENEVE_LENGTH;
/// The TTL that an appliance must set.
pub const RETURN_TTL: u8 = 64;
/// The TTL that goes out: any but [`RETURN_TTL`], so that an appliance that forgets to set it is caught.
pub const SENT_TTL: u8 = 255;

const IPV4: usize = 20;
const UDP: usize = 8;
const UDP_PROTOCOL: u8 = 17;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const OPTION_CLASS: [u8; 2] = [0x01, 0x08];

/// What the outer headers of a flow's packets say.
#[derive(Clone, Copy, Debug)]
pub struct Outer {
    /// Our Ethernet address on the appliance's link.
    pub local_mac: [u8; 6],
    /// The appliance's.
    pub remote_mac: [u8; 6],
    /// Our IPv4 address.
    pub local_ip: Ipv4Addr,
    /// The appliance's.
    pub remote_ip: Ipv4Addr,
    /// UDP source port: entropy, one per flow and direction.
    pub entropy_port: u16,
    /// Option type 1.
    pub endpoint: u64,
    /// Option type 2.
    pub attachment: u64,
    /// Option type 3.
    pub cookie: u32,
    /// Send 0 for the UDP checksum.
    pub zero_udp_checksum: bool,
}

/// Why a packet cannot be wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an IP packet that fits into an outer IPv4 packet")]
pub struct Unwrappable;

impl Outer {
    /// Writes the whole frame around an inner packet into `frame`, replacing what was there.
    ///
    /// # Errors
    /// [`Unwrappable`]: neither IPv4 nor IPv6, or beyond 65,535 bytes with the outer headers.
    pub fn wrap(&self, inner: &[u8], frame: &mut Vec<u8>) -> Result<(), Unwrappable> {
        let inner_type = match inner.first().map(|byte| byte >> 4) {
            Some(4) => ETHERTYPE_IPV4,
            Some(6) => ETHERTYPE_IPV6,
            _ => return Err(Unwrappable),
        };
        let total = u16::try_from(inner.len() + OVERHEAD).map_err(|_| Unwrappable)?;
        frame.clear();
        frame.extend(self.remote_mac);
        frame.extend(self.local_mac);
        frame.extend(ETHERTYPE_IPV4.to_be_bytes());
        frame.extend(self.ipv4_header(total));
        let udp_length = total - IPV4 as u16;
        let mut datagram = Vec::with_capacity(usize::from(udp_length));
        datagram.extend(self.entropy_port.to_be_bytes());
        datagram.extend(GENEVE_PORT.to_be_bytes());
        datagram.extend(udp_length.to_be_bytes());
        datagram.extend([0, 0]);
        datagram.extend(self.geneve_header(inner_type));
        datagram.extend(inner);
        if !self.zero_udp_checksum {
            let sum = udp_sum(self.local_ip.octets(), self.remote_ip.octets(), &datagram);
            // A computed 0 goes out as all ones: 0 means "none" (RFC 768).
            let checksum = if sum == 0xffff { 0xffff } else { !sum };
            if let Some(field) = datagram.get_mut(6..8) {
                field.copy_from_slice(&checksum.to_be_bytes());
            }
        }
        frame.extend(datagram);
        Ok(())
    }

    fn ipv4_header(&self, total: u16) -> [u8; IPV4] {
        let [t0, t1] = total.to_be_bytes();
        let [a, b, c, d] = self.local_ip.octets();
        let [e, f, g, h] = self.remote_ip.octets();
        // No options, don't fragment, identification 0 as RFC 6864 allows for atomic datagrams.
        let header = |c0, c1| {
            [
                0x45,
                0,
                t0,
                t1,
                0,
                0,
                0x40,
                0,
                SENT_TTL,
                UDP_PROTOCOL,
                c0,
                c1,
                a,
                b,
                c,
                d,
                e,
                f,
                g,
                h,
            ]
        };
        let [c0, c1] = (!ones_sum(0, &header(0, 0))).to_be_bytes();
        header(c0, c1)
    }

    fn geneve_header(&self, inner_type: u16) -> [u8; GENEVE_LENGTH] {
        // Version 0 with 8 words of options; no flags; protocol; network identifier 0.
        let [p0, p1] = inner_type.to_be_bytes();
        let mut header = Vec::with_capacity(GENEVE_LENGTH);
        header.extend([0x08, 0, p0, p1, 0, 0, 0, 0]);
        for (kind, words, value) in [
            (1u8, 2u8, self.endpoint.to_be_bytes().as_slice()),
            (2, 2, self.attachment.to_be_bytes().as_slice()),
            (3, 1, self.cookie.to_be_bytes().as_slice()),
        ] {
            header.extend(OPTION_CLASS);
            header.extend([kind, words]);
            header.extend(value);
        }
        let mut fixed = [0; GENEVE_LENGTH];
        // 8 + 12 + 12 + 8 bytes: as long as the array by construction.
        fixed.iter_mut().zip(header).for_each(|(to, from)| *to = from);
        fixed
    }
}

/// One thing that is wrong with what an appliance sent back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// Source and destination MAC are not those sent, swapped.
    MacsNotSwapped,
    /// Source and destination IPv4 address are not those sent, swapped.
    OuterAddressesNotSwapped,
    /// The UDP ports came back swapped.
    UdpPortsSwapped,
    /// The UDP ports came back as others.
    UdpPortsChanged,
    /// The outer TTL is not 64.
    TtlNot64,
    /// The outer IPv4 header checksum does not fit.
    Ipv4ChecksumInvalid,
    /// The outer UDP checksum is neither zero nor fits.
    UdpChecksumInvalid,
    /// The lengths of frame, IPv4 and UDP contradict each other.
    LengthsInconsistent,
    /// A byte of the GENEVE header or its options differs.
    GeneveHeaderChanged,
    /// A byte of the inner packet differs, or its length.
    InnerChanged,
    /// Nothing like it is in flight: never sent, sent back a second time, or long given up.
    NotSent,
}

/// A returned frame's parts; every field comes from the wire and nothing about it is trusted.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    destination_mac: [u8; 6],
    source_mac: [u8; 6],
    ip_header: &'a [u8],
    source_ip: [u8; 4],
    destination_ip: [u8; 4],
    ttl: u8,
    datagram: &'a [u8],
    /// UDP source port.
    pub source_port: u16,
    /// UDP destination port.
    pub destination_port: u16,
    udp_checksum: u16,
    lengths_agree: bool,
    /// From the GENEVE header to the end of the packet.
    pub payload: &'a [u8],
}

impl<'a> View<'a> {
    /// Reads a frame; none if it is not UDP over IPv4 with one of its ports 6081, and therefore not ours to judge.
    pub fn parse(frame: &'a [u8]) -> Option<View<'a>> {
        let (destination_mac, rest) = frame.split_first_chunk::<6>()?;
        let (source_mac, rest) = rest.split_first_chunk::<6>()?;
        let (ethertype, ip) = rest.split_first_chunk::<2>()?;
        let header_length = usize::from(ip.first()? & 0x0f) * 4;
        let is_udp =
            u16::from_be_bytes(*ethertype) == ETHERTYPE_IPV4 && ip.first()? >> 4 == 4 && *ip.get(9)? == UDP_PROTOCOL;
        if !is_udp || header_length < IPV4 {
            return None;
        }
        let ip_header = ip.get(..header_length)?;
        let total = usize::from(u16::from_be_bytes(*ip.get(2..)?.first_chunk()?));
        // Short frames are padded by Ethernet, so more bytes than the packet has are only suspicious, not wrong.
        let datagram = ip.get(header_length..total.min(ip.len()))?;
        let (header, payload) = datagram.split_first_chunk::<UDP>()?;
        let [s0, s1, d0, d1, l0, l1, c0, c1] = *header;
        let (source_port, destination_port) = (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1]));
        if source_port != GENEVE_PORT && destination_port != GENEVE_PORT {
            return None;
        }
        Some(View {
            destination_mac: *destination_mac,
            source_mac: *source_mac,
            ip_header,
            source_ip: *ip.get(12..)?.first_chunk()?,
            destination_ip: *ip.get(16..)?.first_chunk()?,
            ttl: *ip.get(8)?,
            datagram,
            source_port,
            destination_port,
            udp_checksum: u16::from_be_bytes([c0, c1]),
            lengths_agree: total == ip.len() && usize::from(u16::from_be_bytes([l0, l1])) == datagram.len(),
            payload,
        })
    }

    /// The inner packet, if there is anything behind a header as long as the one sent.
    pub fn inner(&self) -> Option<&'a [u8]> {
        self.payload.get(GENEVE_LENGTH..)
    }

    /// Everything that is wrong with this frame as the return of `sent`.
    pub fn faults(&self, sent: &View<'_>) -> Vec<Fault> {
        let ports = (self.source_port, self.destination_port);
        let swapped = ports == (sent.destination_port, sent.source_port);
        let unchanged = ports == (sent.source_port, sent.destination_port);
        let checksum_valid =
            self.udp_checksum == 0 || udp_sum(self.source_ip, self.destination_ip, self.datagram) == 0xffff;
        let geneve = |view: &View<'a>| view.payload.get(..GENEVE_LENGTH).map(<[u8]>::to_vec);
        let sent_geneve = sent.payload.get(..GENEVE_LENGTH).map(<[u8]>::to_vec);
        [
            (
                (self.source_mac, self.destination_mac) != (sent.destination_mac, sent.source_mac),
                Fault::MacsNotSwapped,
            ),
            (
                (self.source_ip, self.destination_ip) != (sent.destination_ip, sent.source_ip),
                Fault::OuterAddressesNotSwapped,
            ),
            (swapped && !unchanged, Fault::UdpPortsSwapped),
            (!swapped && !unchanged, Fault::UdpPortsChanged),
            (self.ttl != RETURN_TTL, Fault::TtlNot64),
            (ones_sum(0, self.ip_header) != 0xffff, Fault::Ipv4ChecksumInvalid),
            (!checksum_valid, Fault::UdpChecksumInvalid),
            (!self.lengths_agree, Fault::LengthsInconsistent),
            (geneve(self) != sent_geneve, Fault::GeneveHeaderChanged),
            (self.inner() != sent.payload.get(GENEVE_LENGTH..), Fault::InnerChanged),
        ]
        .into_iter()
        .filter_map(|(wrong, fault)| wrong.then_some(fault))
        .collect()
    }
}

/// How unlike two payloads are: differing bytes, plus the difference in length; gives up beyond `limit`.
pub fn distance(a: &[u8], b: &[u8], limit: usize) -> usize {
    let mut differing = a.len().abs_diff(b.len());
    // In blocks: equal ones are skipped at memory speed.
    for (left, right) in a.chunks(64).zip(b.chunks(64)) {
        if differing > limit {
            break;
        }
        if left != right {
            differing += left.iter().zip(right).filter(|(x, y)| x != y).count();
        }
    }
    differing
}

/// Where two payloads first differ, if they do.
pub fn first_difference(a: &[u8], b: &[u8]) -> Option<usize> {
    let common = a.iter().zip(b).position(|(x, y)| x != y);
    common.or_else(|| (a.len() != b.len()).then_some(a.len().min(b.len())))
}

/// The ones' complement sum of RFC 1071, not inverted, added to `sum`.
fn ones_sum(sum: u32, bytes: &[u8]) -> u16 {
    let mut sum = u64::from(sum);
    for pair in bytes.chunks(2) {
        let high = pair.first().copied().unwrap_or(0);
        let low = pair.get(1).copied().unwrap_or(0);
        sum += u64::from(u16::from_be_bytes([high, low]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The sum over pseudo-header and datagram: 0xffff if the checksum in it fits.
fn udp_sum(source: [u8; 4], destination: [u8; 4], datagram: &[u8]) -> u16 {
    let mut sum = u32::from(ones_sum(0, &source)) + u32::from(ones_sum(0, &destination));
    sum += u32::from(UDP_PROTOCOL) + u32::try_from(datagram.len()).unwrap_or(u32::MAX >> 8);
    ones_sum(sum, datagram)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The smallest inner packet that has a tuple.
    const INNER: [u8; 28] = [
        0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0x13, 0x88, 0x13, 0x89, 0, 8, 0, 0,
    ];

    fn outer() -> Outer {
        Outer {
            local_mac: [2, 0, 0, 0, 0, 1],
            remote_mac: [2, 0, 0, 0, 0, 2],
            local_ip: Ipv4Addr::new(10, 254, 0, 1),
            remote_ip: Ipv4Addr::new(10, 254, 0, 2),
            entropy_port: 50_000,
            endpoint: 0x0001_0203_0405_0607,
            attachment: 8,
            cookie: 0xcafe_f00d,
            zero_udp_checksum: false,
        }
    }

    fn sent() -> Vec<u8> {
        let mut frame = Vec::new();
        outer().wrap(&INNER, &mut frame).expect("fits");
        frame
    }

    /// What a correct appliance returns: swaps, TTL 64 with a recomputed checksum.
    fn returned() -> Vec<u8> {
        let mut frame = sent();
        let (first, second) = frame.split_at_mut(6);
        first.swap_with_slice(&mut second[..6]);
        let (first, second) = frame[26..34].split_at_mut(4);
        first.swap_with_slice(second);
        frame[22] = 64;
        fix_ipv4(&mut frame);
        frame
    }

    fn fix_ipv4(frame: &mut [u8]) {
        frame[24..26].fill(0);
        let checksum = !ones_sum(0, &frame[14..34]);
        frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    }

    fn faults(frame: &[u8]) -> Vec<Fault> {
        let sent = sent();
        View::parse(frame)
            .expect("a view")
            .faults(&View::parse(&sent).expect("a view"))
    }

    #[test]
    fn frames_are_laid_out_as_gwlb_does() {
        let frame = sent();
        assert_eq!(OVERHEAD, 68);
        assert_eq!(frame.len(), 14 + 68 + INNER.len());
        assert_eq!(frame[42..50], [0x08, 0, 0x08, 0, 0, 0, 0, 0]);
        assert_eq!(frame[50..62], [1, 8, 1, 2, 0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(frame[62..74], [1, 8, 2, 2, 0, 0, 0, 0, 0, 0, 0, 8]);
        assert_eq!(frame[74..82], [1, 8, 3, 1, 0xca, 0xfe, 0xf0, 0x0d]);
        assert_eq!(frame[82..], INNER);
        assert_eq!(ones_sum(0, &frame[14..34]), 0xffff);
        assert_eq!(udp_sum([10, 254, 0, 1], [10, 254, 0, 2], &frame[34..]), 0xffff);
        assert_ne!(frame[40..42], [0, 0]);
    }

    #[test]
    fn ipv6_inside_has_its_own_protocol_type_and_junk_is_refused() {
        let mut inner = [0u8; 40];
        inner[0] = 0x60;
        let mut frame = Vec::new();
        outer().wrap(&inner, &mut frame).expect("fits");
        assert_eq!(frame[44..46], [0x86, 0xdd]);
        assert_eq!(outer().wrap(&[0x10], &mut frame), Err(Unwrappable));
        assert_eq!(outer().wrap(&[], &mut frame), Err(Unwrappable));
        let mut huge = vec![0; 65_468];
        huge[0] = 0x45;
        assert_eq!(outer().wrap(&huge, &mut frame), Err(Unwrappable));
    }

    #[test]
    fn a_correct_return_has_no_fault_also_with_zero_udp_checksum() {
        assert_eq!(faults(&returned()), []);
        let mut frame = returned();
        frame[40..42].fill(0);
        assert_eq!(faults(&frame), []);
    }

    #[test]
    fn each_fault_is_named() {
        type Edit = fn(&mut Vec<u8>);
        let cases: [(Edit, &[Fault]); 10] = [
            (|f| f[0] ^= 1, &[Fault::MacsNotSwapped]),
            (|f| f[22] = 63, &[Fault::TtlNot64, Fault::Ipv4ChecksumInvalid]),
            (|f| f[25] ^= 1, &[Fault::Ipv4ChecksumInvalid]),
            (|f| f[41] ^= 1, &[Fault::UdpChecksumInvalid]),
            (|f| f[34..38].rotate_left(2), &[Fault::UdpPortsSwapped]),
            (|f| f[35] ^= 1, &[Fault::UdpPortsChanged, Fault::UdpChecksumInvalid]),
            (|f| f[81] ^= 1, &[Fault::UdpChecksumInvalid, Fault::GeneveHeaderChanged]),
            (|f| f[82 + 27] ^= 1, &[Fault::UdpChecksumInvalid, Fault::InnerChanged]),
            (|f| f.push(0), &[Fault::LengthsInconsistent]),
            (
                |f| {
                    f[26..34].rotate_left(4);
                    f[38] = 0;
                },
                &[Fault::OuterAddressesNotSwapped],
            ),
        ];
        for (number, (edit, expected)) in cases.into_iter().enumerate() {
            let mut frame = returned();
            edit(&mut frame);
            assert_eq!(faults(&frame), expected, "case {number}");
        }
    }

    #[test]
    fn foreign_and_cut_frames_are_not_judged() {
        let frame = returned();
        assert!((0..42).all(|length| View::parse(&frame[..length]).is_none()));
        let mut tcp = frame.clone();
        tcp[23] = 6;
        assert!(View::parse(&tcp).is_none());
        let mut other = frame;
        other[36..38].copy_from_slice(&53u16.to_be_bytes());
        assert!(View::parse(&other).is_none());
    }

    #[test]
    fn distances_count_bytes() {
        assert_eq!(distance(b"abcd", b"abXd", 10), 1);
        assert_eq!(distance(b"abcd", b"ab", 10), 2);
        assert_eq!(first_difference(b"abcd", b"abXd"), Some(2));
        assert_eq!(first_difference(b"abcd", b"abc"), Some(3));
        assert_eq!(first_difference(b"abcd", b"abcd"), None);
    }
}
