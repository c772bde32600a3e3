//! Facts about a network interface in the network namespace of the calling thread.
//!
//! Asked through sockets, not through `/sys`, which shows the namespace that mounted it.
#![forbid(unsafe_code)]

use std::io;
use std::net::Ipv4Addr;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::sys;

/// linux/rtnetlink.h and linux/if_link.h.
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const NLM_F_REQUEST: u16 = 1;
const IFLA_NUM_TX_QUEUES: u16 = 31;
const IFLA_NUM_RX_QUEUES: u16 = 32;
/// `struct nlmsghdr` and `struct ifinfomsg`.
const HEADER: usize = 16;
const INFO: usize = 16;

/// What is known about an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its name.
    pub name: String,
    /// Its index in this namespace.
    pub index: u32,
    /// Largest IP packet it carries, in bytes (the Ethernet header comes on top).
    pub mtu: u32,
    /// It was set up (`IFF_UP`).
    pub up: bool,
    /// It has a link (`IFF_LOWER_UP`): cable, or peer.
    pub carrier: bool,
    /// Kernel driver; empty where ethtool does not tell.
    pub driver: String,
    /// Receive queues, to which AF_XDP sockets can be bound.
    pub rx_queues: u32,
    /// Transmit queues.
    pub tx_queues: u32,
    /// Ethernet address.
    pub mac: [u8; 6],
    /// Primary IPv4 address, if there is one.
    pub ipv4: Option<Ipv4Addr>,
}

/// Asks the kernel about an interface.
///
/// # Errors
///
/// `ENODEV` when there is no such interface in this namespace, else what the kernel answers to the first question it refuses.
/// The driver, the address and the queues are not worth an error: they may be unknown (one queue is then assumed).
pub fn query(interface: &str) -> io::Result<Facts> {
    let missing = || io::Error::from_raw_os_error(libc::ENODEV);
    let fresh = || sys::request(interface).ok_or_else(missing);
    fresh()?;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    let index = rustix::net::netdevice::name_to_index(&socket, interface)?;
    let ask = |code| {
        let mut request = fresh()?;
        sys::interface_ioctl(&socket, code, &mut request).map(|()| request)
    };
    let mtu = sys::answer_int(&ask(libc::SIOCGIFMTU)?);
    let up = sys::answer_flags(&ask(libc::SIOCGIFFLAGS)?) & libc::IFF_UP != 0;
    let mac = sys::answer_mac(&ask(libc::SIOCGIFHWADDR)?);
    let ipv4 = ask(libc::SIOCGIFADDR)
        .ok()
        .map(|request| Ipv4Addr::from(sys::answer_ipv4(&request)));

    let mut driver_info = sys::DriverInfo::query();
    let driver = match sys::ethtool(&socket, interface, &mut driver_info) {
        Ok(()) => text(&driver_info.driver),
        Err(_) => String::new(),
    };
    let link = query_link(index)?;
    let mut channels = sys::Channels::query();
    let (rx_queues, tx_queues) = match sys::ethtool(&socket, interface, &mut channels) {
        // A combined channel is one queue of each kind.
        Ok(()) => (
            channels.rx.saturating_add(channels.combined),
            channels.tx.saturating_add(channels.combined),
        ),
        Err(_) => (link.rx_queues.unwrap_or(1), link.tx_queues.unwrap_or(1)),
    };
    Ok(Facts {
        name: interface.to_owned(),
        index,
        mtu: u32::try_from(mtu).unwrap_or(0),
        up,
        carrier: up && link.flags & (libc::IFF_LOWER_UP as u32) != 0,
        driver,
        rx_queues,
        tx_queues,
        mac,
        ipv4,
    })
}

/// A C string in a fixed field.
fn text(field: &[u8]) -> String {
    let end = field.iter().position(|&b| b == 0).unwrap_or(field.len());
    String::from_utf8_lossy(&field[..end]).into_owned()
}

/// What only netlink tells.
#[derive(Debug, Default, PartialEq, Eq)]
struct Link {
    /// All 32 bits of the interface flags; the ioctl shows the lower 16.
    flags: u32,
    rx_queues: Option<u32>,
    tx_queues: Option<u32>,
}

fn query_link(index: u32) -> io::Result<Link> {
    // Without a protocol: NETLINK_ROUTE, which is 0.
    let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    let mut request = [0u8; HEADER + INFO];
    request[0..4].copy_from_slice(&((HEADER + INFO) as u32).to_ne_bytes());
    request[4..6].copy_from_slice(&RTM_GETLINK.to_ne_bytes());
    request[6..8].copy_from_slice(&NLM_F_REQUEST.to_ne_bytes());
    request[HEADER + 4..HEADER + 8].copy_from_slice(&index.to_ne_bytes());
    rustix::net::send(&socket, &request, SendFlags::empty())?;
    // One link's answer is about 2 KiB; the kernel cuts what does not fit.
    let mut answer = vec![0u8; 32 * 1024];
    let (length, _) = rustix::net::recv(&socket, &mut answer[..], RecvFlags::empty())?;
    parse_link(&answer[..length]).ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))
}

/// Reads an `RTM_NEWLINK` message; `None` for anything else (an error message).
fn parse_link(message: &[u8]) -> Option<Link> {
    let kind = u16::from_ne_bytes(message.get(4..6)?.try_into().ok()?);
    if kind != RTM_NEWLINK {
        return None;
    }
    let word = |at: usize| {
        Some(u32::from_ne_bytes(
            message.get(at..at.checked_add(4)?)?.try_into().ok()?,
        ))
    };
    let mut link = Link {
        flags: word(HEADER + 8)?,
        ..Link::default()
    };
    let mut at = HEADER + INFO;
    while let Some(header) = message.get(at..at + 4) {
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        match u16::from_ne_bytes([header[2], header[3]]) {
            IFLA_NUM_RX_QUEUES => link.rx_queues = word(at + 4),
            IFLA_NUM_TX_QUEUES => link.tx_queues = word(at + 4),
            _ => {}
        }
        if length < 4 {
            break;
        }
        at += length.next_multiple_of(4);
    }
    Some(link)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_described() {
        let facts = query("lo").expect("every namespace has a loopback interface");
        assert_eq!((facts.index, facts.mtu), (1, 65_536));
        assert_eq!(facts.mac, [0; 6]);
        assert!(facts.rx_queues >= 1 && facts.tx_queues >= 1);
    }

    #[test]
    fn missing_interface_is_enodev() {
        for name in ["tg-none", "", "a-name-far-too-long-to-be-one"] {
            let error = query(name).expect_err("there is no such interface");
            assert_eq!(error.raw_os_error(), Some(libc::ENODEV), "{name}");
        }
    }

    #[test]
    fn broken_netlink_messages_are_refused_or_cut() {
        assert_eq!(parse_link(&[]), None);
        assert_eq!(parse_link(&[0; 64]), None);
        let mut message = vec![0u8; HEADER + INFO];
        message[4..6].copy_from_slice(&RTM_NEWLINK.to_ne_bytes());
        message[HEADER + 8..HEADER + 12].copy_from_slice(&0x10043u32.to_ne_bytes());
        message.extend_from_slice(&8u16.to_ne_bytes());
        message.extend_from_slice(&IFLA_NUM_RX_QUEUES.to_ne_bytes());
        message.extend_from_slice(&5u32.to_ne_bytes());
        let expected = Link {
            flags: 0x10043,
            rx_queues: Some(5),
            tx_queues: None,
        };
        assert_eq!(parse_link(&message), Some(expected));
        // An attribute of length zero must not loop for ever, one cut short must not be read.
        message.extend_from_slice(&[0, 0, 31, 0]);
        assert_eq!(parse_link(&message).and_then(|l| l.tx_queues), None);
    }
}
