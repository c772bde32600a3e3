//! A two-instruction XDP program that passes every packet, attached through a `bpf_link`.
//!
//! veth drops frames that a program on one end sends with XDP_TX or AF_XDP unless the other end carries a program too; this
//! is that program.

use crate::error::{Error, Result};
use crate::interface::interface_index;
use crate::namespace::Namespace;
use crate::xdp::{self, Link, Program};

/// The passing program on one interface; detached when dropped.
#[derive(Debug)]
pub struct XdpPass {
    _link: Link,
}

impl XdpPass {
    /// Attaches the program in native mode.
    ///
    /// # Errors
    /// [`Error::Io`]: no such interface (ENODEV), another program is there (EBUSY), fewer receive queues than the peer
    /// has transmit queues (ENOSPC).
    pub fn attach(namespace: &Namespace, interface: &str) -> Result<XdpPass> {
        let link = namespace.run_in(|| {
            let index = interface_index(interface)?;
            Program::load(&xdp::returning(xdp::PASS))?.attach(index)
        })?;
        let what = format!(
            "attaching the passing XDP program to {interface} in {}",
            namespace.name()
        );
        link.map(|link| XdpPass { _link: link })
            .map_err(|source| Error::io(what, source))
    }
}
