//! The few system calls that no crate wraps: socket options of AF_XDP and busy polling, and the interface ioctls.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Sets an integer socket option.
///
/// # Errors
///
/// The kernel's: `ENOPROTOOPT` where it does not know the option.
pub(super) fn set_option(socket: impl AsFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    // SAFETY: holds because the kernel reads exactly `size_of::<i32>()` bytes from `value`, which lives across the call, and
    // the descriptor is open as long as it is borrowed.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// A fresh `ifreq` for the interface; `None` if the name is too long to be one.
pub(super) fn request(interface: &str) -> Option<libc::ifreq> {
    // SAFETY: holds because `ifreq` is plain C data for which all zeroes are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if interface.is_empty() || interface.len() >= request.ifr_name.len() || interface.contains('\0') {
        return None;
    }
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = from as libc::c_char;
    }
    Some(request)
}

/// `ioctl` with an `ifreq` that carries its answer in itself (SIOCGIFMTU, SIOCGIFFLAGS, SIOCGIFHWADDR, SIOCGIFADDR).
pub(super) fn interface_ioctl(socket: impl AsFd, code: libc::c_ulong, request: &mut libc::ifreq) -> io::Result<()> {
    // SAFETY: holds because these requests read and write one `ifreq` and nothing beyond it.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), code as _, &raw mut *request) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The member of an `ifreq`'s union that `SIOCGIFMTU` fills.
pub(super) fn answer_int(request: &libc::ifreq) -> i32 {
    // SAFETY: holds because every member of the union is plain data, zeroed by `request` and then written by the kernel.
    unsafe { request.ifr_ifru.ifru_mtu }
}

/// The member that `SIOCGIFFLAGS` fills.
pub(super) fn answer_flags(request: &libc::ifreq) -> i32 {
    // SAFETY: as in `answer_int`.
    i32::from(unsafe { request.ifr_ifru.ifru_flags })
}

/// The member that `SIOCGIFHWADDR` fills: the first six bytes of the hardware address.
pub(super) fn answer_mac(request: &libc::ifreq) -> [u8; 6] {
    // SAFETY: as in `answer_int`.
    let data = unsafe { request.ifr_ifru.ifru_hwaddr.sa_data };
    std::array::from_fn(|i| data[i] as u8)
}

/// The member that `SIOCGIFADDR` fills: the interface's primary IPv4 address (`sockaddr_in`: port, then address).
pub(super) fn answer_ipv4(request: &libc::ifreq) -> [u8; 4] {
    // SAFETY: as in `answer_int`.
    let data = unsafe { request.ifr_ifru.ifru_addr.sa_data };
    std::array::from_fn(|i| data[i + 2] as u8)
}

/// `SIOCETHTOOL` (linux/sockios.h).
const SIOCETHTOOL: libc::c_ulong = 0x8946;

/// An ethtool request: `command` is one of the C structures of linux/ethtool.h, whose first word is the command number.
pub(super) fn ethtool<T: EthtoolCommand>(socket: impl AsFd, interface: &str, command: &mut T) -> io::Result<()> {
    let mut request = request(interface).ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))?;
    request.ifr_ifru.ifru_data = (&raw mut *command).cast();
    // SAFETY: holds because the pointer in the request leads to a `T`, which lives across the call and is laid out as the
    // kernel writes it for the command it names (contract of `EthtoolCommand`).
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), SIOCETHTOOL as _, &raw mut request) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// A C structure that `SIOCETHTOOL` reads and writes.
///
/// # Safety
///
/// `repr(C)`, the layout of linux/ethtool.h for the command number in its first word, and any bytes are a valid value.
pub(super) unsafe trait EthtoolCommand {}

/// `struct ethtool_channels` with `ETHTOOL_GCHANNELS`.
#[repr(C)]
#[derive(Debug)]
pub(super) struct Channels {
    _command: u32,
    pub(super) max_rx: u32,
    pub(super) max_tx: u32,
    pub(super) max_other: u32,
    pub(super) max_combined: u32,
    pub(super) rx: u32,
    pub(super) tx: u32,
    pub(super) other: u32,
    pub(super) combined: u32,
}

impl Channels {
    pub(super) fn query() -> Self {
        let (max_rx, max_tx, max_other, max_combined) = (0, 0, 0, 0);
        Channels {
            _command: 0x3c,
            max_rx,
            max_tx,
            max_other,
            max_combined,
            rx: 0,
            tx: 0,
            other: 0,
            combined: 0,
        }
    }
}

// SAFETY: holds: nine 32-bit words, as in linux/ethtool.h, and only `query` makes one, with the number of GCHANNELS.
unsafe impl EthtoolCommand for Channels {}

/// `struct ethtool_drvinfo` with `ETHTOOL_GDRVINFO`, of which only the driver's name is used.
#[repr(C)]
pub(super) struct DriverInfo {
    _command: u32,
    pub(super) driver: [u8; 32],
    _rest: [u8; 160],
}

impl DriverInfo {
    pub(super) fn query() -> Self {
        DriverInfo {
            _command: 3,
            driver: [0; 32],
            _rest: [0; 160],
        }
    }
}

// SAFETY: holds: 196 bytes, as in linux/ethtool.h, bytes only after the command; only `query` makes one, with GDRVINFO.
unsafe impl EthtoolCommand for DriverInfo {}

const _: () = assert!(size_of::<Channels>() == 36 && size_of::<DriverInfo>() == 196);
