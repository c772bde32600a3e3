//! veth links between namespaces.

use std::fmt;
use std::time::Duration;

use crate::command::run;
use crate::error::Result;
use crate::namespace::Namespace;
use crate::wait::wait_until;

/// Far more than the link watcher needs.
const CARRIER_TIMEOUT: Duration = Duration::from_secs(5);

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// The locally administered unicast address that carries `number` in its last three bytes.
    pub const fn local(number: u32) -> MacAddr {
        let [_, a, b, c] = number.to_be_bytes();
        MacAddr([0x02, 0x74, 0x67, a, b, c])
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MacAddr([a, b, c, d, e, g]) = self;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// One end of a veth link.
#[derive(Clone, Copy, Debug)]
pub struct VethEnd<'a> {
    /// Where the end lives.
    pub namespace: &'a Namespace,
    /// The interface's name in there, at most 15 characters.
    pub name: &'a str,
    /// Its Ethernet address.
    pub mac: MacAddr,
}

/// Makes a veth link and sets both ends up.
///
/// Both ends get `queues` receive and as many transmit queues: native XDP attaches only where there are at least as many
/// receive queues as the peer has transmit queues. Transmit checksum offload is off on both, since packets from kernel
/// sockets would otherwise cross with partial checksums.
///
/// # Errors
/// A failing `ip` or `ethtool`.
pub fn veth(a: VethEnd<'_>, b: VethEnd<'_>, queues: u32, mtu: u32) -> Result<()> {
    let (queues, mtu) = (queues.to_string(), mtu.to_string());
    let (mac_a, mac_b) = (a.mac.to_string(), b.mac.to_string());
    let end = |name, mac| {
        let queues = queues.as_str();
        [
            "name",
            name,
            "address",
            mac,
            "mtu",
            mtu.as_str(),
            "numrxqueues",
            queues,
            "numtxqueues",
            queues,
        ]
    };
    let mut arguments = vec!["link", "add"];
    arguments.extend(end(a.name, &mac_a));
    arguments.extend(["type", "veth", "peer"]);
    arguments.extend(end(b.name, &mac_b));
    arguments.extend(["netns", b.namespace.name()]);
    a.namespace.ip(&arguments)?;
    for VethEnd { namespace, name, .. } in [a, b] {
        run(namespace.command("ethtool").args(["-K", name, "tx", "off"]))?;
        namespace.ip(&["link", "set", name, "up"])?;
    }
    for VethEnd { namespace, name, .. } in [a, b] {
        wait_for_carrier(namespace, name)?;
    }
    Ok(())
}

/// A link drops what it is given until the kernel's link watcher has noticed the carrier and started its queues.
fn wait_for_carrier(namespace: &Namespace, name: &str) -> Result<()> {
    let what = format!("{name} in {} to run", namespace.name());
    wait_until(&what, CARRIER_TIMEOUT, || {
        namespace
            .ip(&["-o", "link", "show", name])
            .is_ok_and(|line| line.contains("state UP"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_addresses_are_unicast_and_distinct() {
        assert_eq!(MacAddr::local(0x0001_0203).to_string(), "02:74:67:01:02:03");
        assert_ne!(MacAddr::local(1), MacAddr::local(2));
        assert_eq!(MacAddr::local(7).0[0] & 0x03, 0x02);
    }
}
