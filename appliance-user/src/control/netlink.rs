//! What the kernel says of a network interface, asked over rtnetlink.
//!
//! Not read from sysfs: a process that entered a network namespace without a mount namespace of its own still sees the
//! other namespace's `/sys/class/net`. The socket belongs to the caller's network namespace and cannot be wrong.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType};

const NLMSG_HEADER: usize = 16;
const IFINFO: usize = 16;
const NLMSG_ERROR: u16 = 2;
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const NLM_F_REQUEST: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_CARRIER: u16 = 33;
const IFLA_XDP: u16 = 43;
const IFLA_XDP_ATTACHED: u16 = 2;
const IFLA_XDP_PROG_ID: u16 = 4;
const IFLA_XDP_DRV_PROG_ID: u16 = 5;
const IFLA_XDP_SKB_PROG_ID: u16 = 6;
/// The two high bits of an attribute's type are flags (nested, byte order).
const ATTRIBUTE_TYPE: u16 = 0x3fff;
/// `IFF_UP` of `ifi_flags`.
const IFF_UP: u32 = 1;
/// Larger than any answer without virtual functions, which are not asked for.
const ANSWER: usize = 32 * 1024;

/// How an XDP program sits on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpAttachment {
    /// In the driver.
    Native,
    /// In the network stack, after the socket buffer was made.
    Generic,
    /// In the hardware, or in several places at once.
    Other,
}

/// An interface at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkState {
    /// Interface index; a new interface of the same name has another one.
    pub index: u32,
    /// The largest IP packet, in bytes.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// The medium is there (for a veth: its peer is up).
    pub carrier: bool,
    /// The XDP program on it: where, and its kernel-wide id.
    pub xdp: Option<(XdpAttachment, u32)>,
}

/// Asks the kernel for the interface called `name` in this thread's network namespace.
///
/// # Errors
/// `ENODEV` when there is no such interface, `EINVAL` for a name the kernel cannot take; `InvalidData` for an answer that
/// is not one.
pub fn link_state(name: &str) -> io::Result<LinkState> {
    let socket = open()?;
    rustix::io::write(&socket, &request(name)?)?;
    let mut answer = vec![0; ANSWER];
    let read = rustix::io::read(&socket, &mut answer[..])?;
    parse_answer(answer.get(..read).unwrap_or_default())
}

fn open() -> io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    Ok(socket)
}

/// RTM_GETLINK by name.
fn request(name: &str) -> io::Result<Vec<u8>> {
    // IFNAMSIZ is 16 with the terminating zero.
    if name.is_empty() || name.len() > 15 || name.bytes().any(|byte| byte == 0) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let value = name.len() + 1;
    let attribute = 4 + value;
    let total = NLMSG_HEADER + IFINFO + attribute.next_multiple_of(4);
    let mut message = Vec::with_capacity(total);
    message.extend_from_slice(&(total as u32).to_ne_bytes());
    message.extend_from_slice(&RTM_GETLINK.to_ne_bytes());
    message.extend_from_slice(&NLM_F_REQUEST.to_ne_bytes());
    message.extend_from_slice(&[0; 8 + IFINFO]);
    message.extend_from_slice(&(attribute as u16).to_ne_bytes());
    message.extend_from_slice(&IFLA_IFNAME.to_ne_bytes());
    message.extend_from_slice(name.as_bytes());
    message.resize(total, 0);
    Ok(message)
}

fn parse_answer(message: &[u8]) -> io::Result<LinkState> {
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "the kernel's answer is cut short");
    let kind = read_u16(message, 4).ok_or_else(malformed)?;
    let length = read_u32(message, 0).ok_or_else(malformed)? as usize;
    let body = message.get(NLMSG_HEADER..length).ok_or_else(malformed)?;
    match kind {
        NLMSG_ERROR => {
            let code = read_u32(body, 0).ok_or_else(malformed)? as i32;
            Err(io::Error::from_raw_os_error(code.saturating_neg()))
        }
        RTM_NEWLINK => parse_link(body).ok_or_else(malformed),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the kernel answered something else",
        )),
    }
}

fn parse_link(body: &[u8]) -> Option<LinkState> {
    let mut state = LinkState {
        index: read_u32(body, 4)?,
        mtu: 0,
        up: read_u32(body, 8)? & IFF_UP != 0,
        carrier: false,
        xdp: None,
    };
    for (kind, value) in attributes(body.get(IFINFO..)?) {
        match kind {
            IFLA_MTU => state.mtu = read_u32(value, 0)?,
            IFLA_CARRIER => state.carrier = *value.first()? != 0,
            IFLA_XDP => state.xdp = parse_xdp(value),
            _ => {}
        }
    }
    Some(state)
}

fn parse_xdp(nested: &[u8]) -> Option<(XdpAttachment, u32)> {
    let find = |wanted| {
        attributes(nested)
            .find(|(kind, _)| *kind == wanted)
            .map(|(_, value)| value)
    };
    let id = |kind| find(kind).and_then(|value| read_u32(value, 0));
    match *find(IFLA_XDP_ATTACHED)?.first()? {
        0 => None,
        1 => Some((
            XdpAttachment::Native,
            id(IFLA_XDP_DRV_PROG_ID).or(id(IFLA_XDP_PROG_ID))?,
        )),
        2 => Some((
            XdpAttachment::Generic,
            id(IFLA_XDP_SKB_PROG_ID).or(id(IFLA_XDP_PROG_ID))?,
        )),
        _ => Some((XdpAttachment::Other, id(IFLA_XDP_PROG_ID).unwrap_or(0))),
    }
}

/// Attributes of a message: type and value; ends at the first that does not fit.
fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(read_u16(rest, 0)?);
        let kind = read_u16(rest, 2)? & ATTRIBUTE_TYPE;
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|chunk| u16::from_ne_bytes(*chunk))
}

fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|chunk| u32::from_ne_bytes(*chunk))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut out = ((4 + value.len()) as u16).to_ne_bytes().to_vec();
        out.extend_from_slice(&kind.to_ne_bytes());
        out.extend_from_slice(value);
        out.resize(out.len().next_multiple_of(4), 0);
        out
    }

    fn link_message(attributes: &[Vec<u8>]) -> Vec<u8> {
        let mut body = vec![0, 0, 0, 0];
        body.extend_from_slice(&7_u32.to_ne_bytes());
        body.extend_from_slice(&IFF_UP.to_ne_bytes());
        body.extend_from_slice(&[0; 4]);
        body.extend(attributes.iter().flatten());
        let mut message = ((NLMSG_HEADER + body.len()) as u32).to_ne_bytes().to_vec();
        message.extend_from_slice(&RTM_NEWLINK.to_ne_bytes());
        message.extend_from_slice(&[0; 10]);
        message.extend(body);
        message
    }

    #[test]
    fn loopback_exists_and_has_no_program() {
        let state = link_state("lo").expect("every namespace has a loopback");
        assert!(state.index >= 1);
        assert_eq!(state.xdp, None);
        assert!(state.mtu >= 1280);
    }

    #[test]
    fn a_missing_interface_is_enodev_and_a_bad_name_einval() {
        assert_eq!(
            link_state("tg-not-there").unwrap_err().raw_os_error(),
            Some(libc::ENODEV)
        );
        assert_eq!(link_state("").unwrap_err().raw_os_error(), Some(libc::EINVAL));
        assert_eq!(
            link_state("a-name-that-is-too-long").unwrap_err().raw_os_error(),
            Some(libc::EINVAL)
        );
    }

    #[test]
    fn program_mode_and_id_are_read_from_the_nested_attribute() {
        let xdp = [
            attribute(IFLA_XDP_ATTACHED, &[1]),
            attribute(IFLA_XDP_DRV_PROG_ID, &42_u32.to_ne_bytes()),
        ]
        .concat();
        let message = link_message(&[
            attribute(IFLA_MTU, &8568_u32.to_ne_bytes()),
            attribute(IFLA_CARRIER, &[1]),
            attribute(IFLA_XDP | 0x8000, &xdp),
        ]);
        let state = parse_answer(&message).expect("well formed");
        assert_eq!(
            state,
            LinkState {
                index: 7,
                mtu: 8568,
                up: true,
                carrier: true,
                xdp: Some((XdpAttachment::Native, 42))
            }
        );
    }

    proptest! {
        #[test]
        fn arbitrary_answers_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_answer(&bytes);
        }

        #[test]
        fn cut_answers_do_not_panic(cut in 0_usize..64) {
            let mut message = link_message(&[attribute(IFLA_MTU, &1500_u32.to_ne_bytes())]);
            message.truncate(cut);
            let _ = parse_answer(&message);
        }
    }
}
