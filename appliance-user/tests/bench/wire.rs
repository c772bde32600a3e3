//! The load balancer's end of a link: whole Ethernet frames in and out, as they are on the wire.
//!
//! The kernel takes the first 802.1Q tag off before a packet socket sees the frame and tells it beside the data; it is put
//! back here. This file has `unsafe`: the calls to the packet socket that have no safe wrapper.

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Large enough for every frame here.
const LARGEST: usize = 10_000;
/// What the socket may hold back for a test that is not scheduled for a while, in bytes.
const BUFFER: libc::c_int = 64 << 20;
/// `PACKET_IGNORE_OUTGOING` (linux/if_packet.h): what this end sends is not what it receives.
const IGNORE_OUTGOING: libc::c_int = 23;

/// A packet socket on one interface.
pub struct Wire(OwnedFd);

impl Wire {
    /// Opens it in the calling thread's network namespace.
    pub fn open(interface: &str) -> io::Result<Wire> {
        let everything = (libc::ETH_P_ALL as u16).to_be();
        // SAFETY: holds because the call takes no pointers; the descriptor it returns is new and nobody else's.
        let fd = unsafe {
            let fd = libc::socket(
                libc::AF_PACKET,
                libc::SOCK_RAW | libc::SOCK_CLOEXEC,
                i32::from(everything),
            );
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        for (level, option, value) in [
            (libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, BUFFER),
            (libc::SOL_PACKET, libc::PACKET_AUXDATA, 1),
            (libc::SOL_PACKET, IGNORE_OUTGOING, 1),
        ] {
            let length = size_of::<libc::c_int>() as libc::socklen_t;
            // SAFETY: holds because the option's value is a live integer of the length given, which the kernel only reads.
            let set =
                unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, std::ptr::from_ref(&value).cast(), length) };
            if set < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        let name = std::ffi::CString::new(interface)?;
        // SAFETY: holds because `name` is NUL-terminated and lives through the call, and all zeroes are a valid `sockaddr_ll`.
        let (index, mut address) = unsafe { (libc::if_nametoindex(name.as_ptr()), zeroed::<libc::sockaddr_ll>()) };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = everything;
        address.sll_ifindex = index as i32;
        let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: holds because the address is a live `sockaddr_ll` and the length is its size.
        match unsafe { libc::bind(fd.as_raw_fd(), std::ptr::from_ref(&address).cast(), length) } {
            0 => Ok(Wire(fd)),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Puts a frame on the wire.
    pub fn send(&self, frame: &[u8]) {
        let sent = rustix::net::send(&self.0, frame, rustix::net::SendFlags::empty()).expect("a frame is sent");
        assert_eq!(sent, frame.len());
    }

    /// The next frame, if one comes in time.
    pub fn receive(&self, within: Duration) -> Option<Vec<u8>> {
        let mut ready = [PollFd::new(&self.0, PollFlags::IN)];
        let timeout = Timespec::try_from(within).expect("a time");
        match poll(&mut ready, Some(&timeout)) {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(self.take().expect("a frame")),
        }
    }

    /// Frames that satisfy `wanted`: as many as `enough`, or what came until `within` was over.
    pub fn collect(&self, enough: usize, within: Duration, wanted: impl Fn(&[u8]) -> bool) -> Vec<Vec<u8>> {
        let deadline = Instant::now() + within;
        let mut frames = Vec::new();
        while frames.len() < enough {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.receive(left) {
                Some(frame) if wanted(&frame) => frames.push(frame),
                Some(_) => {}
                None if left.is_zero() => break,
                None => {}
            }
        }
        frames
    }

    fn take(&self) -> io::Result<Vec<u8>> {
        let mut frame = vec![0; LARGEST];
        // Eight-byte words, so that control messages are aligned.
        let mut control = [0u64; 16];
        let mut part = libc::iovec {
            iov_base: frame.as_mut_ptr().cast(),
            iov_len: frame.len(),
        };
        // SAFETY: holds because all zeroes are a valid `msghdr`: no buffers at all.
        let mut message: libc::msghdr = unsafe { zeroed() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control);
        // SAFETY: holds because the message names two live buffers with their lengths, which the kernel does not exceed.
        let length = unsafe { libc::recvmsg(self.0.as_raw_fd(), &raw mut message, libc::MSG_TRUNC) };
        let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
        assert!(length <= LARGEST, "a frame of {length} bytes");
        frame.truncate(length);
        if let Some(tag) = stripped_tag(&message) {
            frame.splice(12..12, tag);
        }
        Ok(frame)
    }
}

/// The tag that the kernel took off, as it was on the wire.
fn stripped_tag(message: &libc::msghdr) -> Option<[u8; 4]> {
    // SAFETY: holds because the kernel has just filled the message's control buffer, which is still alive; the macros walk it
    // within the length that it wrote, and the data of a PACKET_AUXDATA message is a `tpacket_auxdata`, read unaligned.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_PACKET && (*header).cmsg_type == libc::PACKET_AUXDATA {
                let auxiliary = libc::CMSG_DATA(header).cast::<libc::tpacket_auxdata>().read_unaligned();
                if auxiliary.tp_status & libc::TP_STATUS_VLAN_VALID != 0 {
                    let [a, b] = auxiliary.tp_vlan_tci.to_be_bytes();
                    return Some([0x81, 0x00, a, b]);
                }
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
    None
}
