//! What was really on a wire: a capture made by dumpcap beside the senders and receivers, read back packet by packet.
//!
//! The proof that a stream arrived byte for byte compares what left the source's interface with what the receiver wrote;
//! neither side passes through code of the appliance.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Write};
use std::path::Path;

use anyhow::Context as _;
use pcap_file::pcapng::{Block, PcapNgReader};

/// UDP payloads to one destination port, in the order in which they were captured.
///
/// # Errors
/// When the capture cannot be read.
pub(crate) fn udp_payloads(capture: &Path, port: u16) -> anyhow::Result<Vec<Vec<u8>>> {
    let file = File::open(capture).with_context(|| format!("cannot open {}", capture.display()))?;
    let mut reader = PcapNgReader::new(BufReader::new(file))?;
    let mut payloads = Vec::new();
    while let Some(block) = reader.next_block() {
        let Block::EnhancedPacket(packet) = block? else {
            continue;
        };
        if let Some((destination, payload)) = udp_of_ethernet(&packet.data)
            && destination == port
        {
            payloads.push(payload.to_vec());
        }
    }
    Ok(payloads)
}

/// Destination port and payload of an unfragmented IPv4 UDP packet in an Ethernet frame.
fn udp_of_ethernet(frame: &[u8]) -> Option<(u16, &[u8])> {
    let ip = frame.get(14..)?;
    let header = usize::from(ip.first()? & 0x0f) * 4;
    if ip.get(9) != Some(&17) {
        return None;
    }
    let udp = ip.get(header..)?;
    let length = usize::from(u16::from_be_bytes([*udp.get(4)?, *udp.get(5)?]));
    Some((u16::from_be_bytes([*udp.get(2)?, *udp.get(3)?]), udp.get(8..length)?))
}

/// The TS of RTP packets by sequence number, beginning with the first one captured; the sequence may wrap.
pub(crate) fn rtp_payloads(packets: &[Vec<u8>]) -> BTreeMap<u64, &[u8]> {
    let mut ordered = BTreeMap::new();
    let mut last: Option<u64> = None;
    for packet in packets {
        let (Some(sequence), Some(payload)) = (packet.get(2..4), packet.get(12..)) else {
            continue;
        };
        if packet[0] >> 6 != 2 || packet[1] & 0x7f != 33 {
            continue;
        }
        let sequence = u16::from_be_bytes([sequence[0], sequence[1]]);
        let extended = match last {
            None => 0x1_0000 + u64::from(sequence),
            Some(last) => last.wrapping_add_signed(i64::from(sequence.wrapping_sub(last as u16) as i16)),
        };
        last = Some(extended);
        ordered.insert(extended, payload);
    }
    ordered
}

/// Writes payloads one after the other.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn write_stream<'a>(path: &Path, payloads: impl IntoIterator<Item = &'a [u8]>) -> anyhow::Result<()> {
    let mut file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    for payload in payloads {
        file.write_all(payload)?;
    }
    Ok(())
}
