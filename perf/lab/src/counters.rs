//! What the kernel counts of a namespace's devices and sockets: what a lab's own network has lost must not be charged to the
//! appliance that is tested on it.

use std::fs;

use crate::error::{Error, Result};
use crate::namespace::Namespace;

/// Columns of `/proc/net/dev` behind the name: eight of receiving, then those of transmitting.
const RECEIVED: usize = 1;
const RECEIVE_DROPPED: usize = 3;
const SENT: usize = 9;
const TRANSMIT_DROPPED: usize = 11;

/// One device's packets since it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceCounters {
    /// Its name.
    pub interface: String,
    /// Packets that arrived; on veth with an XDP program, those that the program was shown.
    pub received: u64,
    /// Packets that arrived and were dropped. On a TUN device also what was written to it while the kernel's backlog was full.
    pub receive_dropped: u64,
    /// Packets that left.
    pub sent: u64,
    /// Packets that it was given and the far end did not take: on veth its ring of 256 packets or the processor's backlog was
    /// full, on a TUN device its queue. A frame that an XDP program returns into a full ring is here too.
    pub transmit_dropped: u64,
}

impl Namespace {
    /// The counters of every device in the namespace.
    ///
    /// # Errors
    /// [`Error::Io`] if the kernel's table cannot be read.
    pub fn devices(&self) -> Result<Vec<DeviceCounters>> {
        let table = self.table("dev")?;
        Ok(table.lines().filter_map(device).collect())
    }

    /// Datagrams that UDP sockets in the namespace lost because their receive buffers were full.
    ///
    /// # Errors
    /// [`Error::Io`] if the kernel's table cannot be read.
    pub fn udp_overflows(&self) -> Result<u64> {
        Ok(udp_counter(&self.table("snmp")?, "RcvbufErrors").unwrap_or(0))
    }

    /// A file of `/proc/net` as it is inside.
    fn table(&self, name: &str) -> Result<String> {
        let path = format!("/proc/thread-self/net/{name}");
        self.run_in(|| fs::read_to_string(&path))?
            .map_err(|source| Error::io(format!("{path} in {}", self.name()), source))
    }
}

/// A line of `/proc/net/dev`; `None` for its headings.
fn device(line: &str) -> Option<DeviceCounters> {
    let (name, columns) = line.split_once(':')?;
    let columns: Vec<u64> = columns
        .split_whitespace()
        .map(|column| column.parse().ok())
        .collect::<Option<_>>()?;
    let column = |number: usize| columns.get(number).copied();
    Some(DeviceCounters {
        interface: name.trim().to_owned(),
        received: column(RECEIVED)?,
        receive_dropped: column(RECEIVE_DROPPED)?,
        sent: column(SENT)?,
        transmit_dropped: column(TRANSMIT_DROPPED)?,
    })
}

/// A counter of `/proc/net/snmp`, where a line of names stands above one of values.
fn udp_counter(table: &str, name: &str) -> Option<u64> {
    let mut lines = table.lines().filter_map(|line| line.strip_prefix("Udp:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let mut pairs = names.split_whitespace().zip(values.split_whitespace());
    pairs.find(|(known, _)| *known == name)?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernels_tables_are_read() {
        let line = "  app0: 1382   11    0    3    0     0          0         0     2764      22    0    4    0     0       0          0";
        let expected = DeviceCounters {
            interface: "app0".to_owned(),
            received: 11,
            receive_dropped: 3,
            sent: 22,
            transmit_dropped: 4,
        };
        assert_eq!(device(line), Some(expected));
        assert_eq!(device(" face |bytes    packets errs drop"), None);
        assert_eq!(device("Inter-|   Receive  |  Transmit: odd"), None);
        let table = "Ip: Forwarding\nIp: 1\nUdp: InDatagrams NoPorts RcvbufErrors\nUdp: 7 0 5\nUdpLite: RcvbufErrors\nUdpLite: 9\n";
        assert_eq!(udp_counter(table, "RcvbufErrors"), Some(5));
        assert_eq!(udp_counter(table, "None"), None);
    }
}
