//! What an interface is called by those who want a number.

use std::io;

use rustix::net::{AddressFamily, SocketFlags, SocketType};

/// The index of an interface of the caller's network namespace.
///
/// # Errors
/// The kernel's: no such interface (ENODEV).
pub fn interface_index(interface: &str) -> io::Result<u32> {
    // Any socket will do, but not every kind knows interface ioctls.
    let any = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    Ok(rustix::net::netdevice::name_to_index(any, interface)?)
}
