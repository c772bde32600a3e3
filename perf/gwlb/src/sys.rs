//! The system underneath: AF_PACKET sockets, TUN devices, the clock. The `unsafe` of this crate lives here.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek};
use std::mem::{size_of, zeroed};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::ptr::from_mut;
use std::thread;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Room for some 50 ms of a fast sender's packets while this process is not scheduled.
const RECEIVE_BUFFER: libc::c_int = 64 << 20;
const TUNSETIFF: libc::Ioctl = 0x4004_54ca;
const TUNGETIFF: libc::Ioctl = 0x8004_54d2;
/// The link watcher acts at once for a carrier that appears; a second is far more than it needs.
const CARRIER_TIMEOUT: Duration = Duration::from_secs(2);
const CARRIER_POLL: Duration = Duration::from_millis(2);
/// Room for the one control message that is asked for.
const CONTROL_LENGTH: usize = 128;

/// Nanoseconds since 1970, on the clock of the kernel's receive time stamps.
pub fn realtime_nanos() -> u64 {
    let now = clock_gettime(ClockId::Realtime);
    nanos(now.tv_sec, now.tv_nsec)
}

fn nanos(seconds: i64, fraction: i64) -> u64 {
    let seconds = u64::try_from(seconds).unwrap_or(0);
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(u64::try_from(fraction).unwrap_or(0))
}

/// A raw socket on one interface that sends whole frames and receives IPv4 frames that arrive there.
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
    mac: [u8; 6],
}

/// A received frame's length and the kernel's time stamp, nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Bytes of the frame; more than the buffer has if it was cut.
    pub length: usize,
    /// When the kernel received it.
    pub nanos: u64,
}

impl PacketSocket {
    /// Opens a non-blocking socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// No such interface, or no right to.
    pub fn open(interface: &str) -> io::Result<PacketSocket> {
        let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: no pointers are involved. Protocol 0 receives nothing until bind() below names interface and protocol.
        let fd = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made this descriptor for us and nobody else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        set_option(&fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, RECEIVE_BUFFER)?;
        set_option(&fd, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1)?;
        let mac = bind(&fd, interface)?;
        Ok(PacketSocket { fd, mac })
    }

    /// The interface's Ethernet address.
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// Sends one frame.
    ///
    /// # Errors
    /// Whatever the kernel says, WouldBlock included.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        // SAFETY: pointer and length are those of `frame`, which the kernel only reads.
        let sent = unsafe { libc::send(self.fd.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        if sent < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }

    /// Receives one frame if there is one.
    ///
    /// # Errors
    /// WouldBlock if there is none; whatever else the kernel says.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Received> {
        #[repr(align(8))]
        struct Control([u8; CONTROL_LENGTH]);
        let mut control = Control([0; CONTROL_LENGTH]);
        let mut vector = libc::iovec {
            iov_base: buffer.as_mut_ptr().cast(),
            iov_len: buffer.len(),
        };
        // SAFETY: `msghdr` is plain data for which all zeroes is a valid value.
        let mut message: libc::msghdr = unsafe { zeroed() };
        message.msg_iov = from_mut(&mut vector);
        message.msg_iovlen = 1;
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = CONTROL_LENGTH;
        // SAFETY: the message names one vector over `buffer` and one control buffer, both with their true lengths, both
        // exclusively borrowed and alive through the call.
        let length = unsafe { libc::recvmsg(self.fd.as_raw_fd(), from_mut(&mut message), libc::MSG_TRUNC) };
        let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
        Ok(Received {
            length,
            nanos: time_stamp(&message).unwrap_or_else(realtime_nanos),
        })
    }

    /// Frames lost since the last call because the socket's buffer was full.
    ///
    /// # Errors
    /// Whatever the kernel says.
    pub fn take_drops(&self) -> io::Result<u64> {
        // SAFETY: plain integers, for which all zeroes is a valid value.
        let mut statistics: libc::tpacket_stats = unsafe { zeroed() };
        let mut length = size_of::<libc::tpacket_stats>() as libc::socklen_t;
        // SAFETY: value and length point to live locals, and the length says how large the value is.
        let outcome = unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                from_mut(&mut statistics).cast(),
                from_mut(&mut length),
            )
        };
        if outcome < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(u64::from(statistics.tp_drops))
        }
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The time stamp among a received message's control messages.
fn time_stamp(message: &libc::msghdr) -> Option<u64> {
    // SAFETY: the kernel has filled in `message`; its control buffer lives in the caller, which still holds it.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR give null or a header that lies whole within the control buffer, which is
    // aligned for one.
    while let Some(found) = unsafe { header.as_ref() } {
        if found.cmsg_level == libc::SOL_SOCKET && found.cmsg_type == libc::SCM_TIMESTAMPNS {
            // SAFETY: a message of this type carries a timespec, whose bytes the kernel has written; read without
            // assuming its alignment.
            let time = unsafe { libc::CMSG_DATA(header).cast::<libc::timespec>().read_unaligned() };
            return Some(nanos(time.tv_sec, time.tv_nsec));
        }
        // SAFETY: `header` came from this very message.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    None
}

fn set_option(fd: &OwnedFd, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the option's value is an int, `value` is one and lives through the call, which only reads it.
    let outcome = unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, std::ptr::from_ref(&value).cast(), length) };
    if outcome < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Binds to an interface's IPv4 frames and returns its Ethernet address.
fn bind(fd: &OwnedFd, interface: &str) -> io::Result<[u8; 6]> {
    let index = rustix::net::netdevice::name_to_index(fd, interface)?;
    // SAFETY: `sockaddr_ll` is plain data for which all zeroes is a valid value.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    let mut length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    address.sll_family = libc::AF_PACKET as libc::c_ushort;
    // IPv4 alone, not "all": a socket for one protocol does not see what we send ourselves.
    address.sll_protocol = (libc::ETH_P_IP as u16).to_be();
    address.sll_ifindex = index.cast_signed();
    // SAFETY: the address is a live `sockaddr_ll` and the length is its size.
    if unsafe { libc::bind(fd.as_raw_fd(), std::ptr::from_ref(&address).cast(), length) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel writes at most `length` bytes to the address, which has as many.
    if unsafe { libc::getsockname(fd.as_raw_fd(), from_mut(&mut address).cast(), from_mut(&mut length)) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let [a, b, c, d, e, f, _, _] = address.sll_addr;
    Ok([a, b, c, d, e, f])
}

/// Opens an existing TUN device by name, without the packet information header, non-blocking, and waits until it carries
/// packets: a device gets its carrier with its first opener, and drops everything until the kernel's link watcher
/// has noticed.
///
/// # Errors
/// No such device or it is not set up (NotFound, TimedOut), no right to, or another process holds it (EBUSY).
pub fn open_tun(name: &str) -> io::Result<File> {
    let mut request = interface_request(name)?;
    // Asked first, since TUNSETIFF would make the device.
    interface_flags(&mut request)?;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/net/tun")?;
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: TUNSETIFF takes a pointer to an `ifreq` with name and flags set; the kernel writes back no more than that.
    if unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF, from_mut(&mut request)) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let deadline = Instant::now() + CARRIER_TIMEOUT;
    while interface_flags(&mut request)? & libc::IFF_RUNNING == 0 {
        if Instant::now() >= deadline {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "it does not run: set it up first",
            ));
        }
        thread::sleep(CARRIER_POLL);
    }
    // The link watcher raises the flag a moment before it starts the queue, under the lock that this takes and gives back.
    // SAFETY: TUNGETIFF takes a pointer to an `ifreq`, into which the kernel writes no more than that.
    if unsafe { libc::ioctl(file.as_raw_fd(), TUNGETIFF, from_mut(&mut request)) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(file)
}

/// An `ifreq` that names an interface.
fn interface_request(name: &str) -> io::Result<libc::ifreq> {
    // SAFETY: `ifreq` is plain data for which all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { zeroed() };
    // One less than there is room for: the name must stay NUL-terminated.
    if name.is_empty() || name.len() >= request.ifr_name.len() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("bad interface name `{name}`"),
        ));
    }
    request
        .ifr_name
        .iter_mut()
        .zip(name.bytes())
        .for_each(|(to, from)| *to = from.cast_signed());
    Ok(request)
}

/// The flags of the interface that `request` names, in the calling thread's network namespace.
fn interface_flags(request: &mut libc::ifreq) -> io::Result<libc::c_int> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    // SAFETY: SIOCGIFFLAGS takes a pointer to an `ifreq` with a name; the kernel writes back no more than that.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS as libc::Ioctl, from_mut(request)) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just written the flags, and any bytes are a valid integer.
    Ok(libc::c_int::from(unsafe { request.ifr_ifru.ifru_flags }))
}

/// The kernel's table of device counters, of the network namespace in which it was opened.
#[derive(Debug)]
pub struct DeviceTable(File);

impl DeviceTable {
    /// Opens the table of the calling thread's namespace.
    ///
    /// # Errors
    /// Whatever the kernel says.
    pub fn open() -> io::Result<DeviceTable> {
        File::open("/proc/thread-self/net/dev").map(DeviceTable)
    }

    /// Packets to a device that were dropped before anyone took them; none if the device is unknown.
    pub fn transmit_drops(&self, interface: &str) -> Option<u64> {
        let mut table = String::new();
        let mut file = &self.0;
        file.seek(io::SeekFrom::Start(0)).ok()?;
        file.read_to_string(&mut table).ok()?;
        // Columns behind the name: 8 for receiving, then bytes, packets, errors and drops of transmitting.
        let columns = table
            .lines()
            .find_map(|line| line.trim_start().strip_prefix(interface)?.strip_prefix(':'))?;
        columns.split_whitespace().nth(11)?.parse().ok()
    }
}
