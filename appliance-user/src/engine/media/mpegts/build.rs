//! Makes sections and the packets that carry them, for tests.

use super::section::crc32;
use super::{PACKET_SIZE, SYNC_BYTE};

/// A section of the long form that applies now, CRC-32 included.
pub(in crate::engine) fn long(table_id: u8, extension: u16, version: u8, numbers: (u8, u8), body: &[u8]) -> Vec<u8> {
    let [e0, e1] = extension.to_be_bytes();
    let head = [e0, e1, 0xc1 | version << 1, numbers.0, numbers.1];
    with_crc(table_id, 0xb0, &[&head, body].concat())
}

/// A section of the short form, with a CRC-32.
pub(in crate::engine) fn short_with_crc(table_id: u8, body: &[u8]) -> Vec<u8> {
    with_crc(table_id, 0x70, body)
}

/// A section of the short form, without one.
pub(in crate::engine) fn short(table_id: u8, body: &[u8]) -> Vec<u8> {
    let length = body.len() as u16;
    [&[table_id, 0x70 | (length >> 8) as u8, length as u8], body].concat()
}

fn with_crc(table_id: u8, syntax: u8, body: &[u8]) -> Vec<u8> {
    let length = body.len() as u16 + 4;
    let mut section = [&[table_id, syntax | (length >> 8) as u8, length as u8], body].concat();
    section.extend(crc32(&section).to_be_bytes());
    section
}

/// A PAT section.
pub(in crate::engine) fn pat(version: u8, numbers: (u8, u8), programmes: &[(u16, u16)]) -> Vec<u8> {
    let entry = |(number, pid): &(u16, u16)| [number.to_be_bytes(), (0xe000 | pid).to_be_bytes()].concat();
    long(
        0x00,
        1,
        version,
        numbers,
        &programmes.iter().flat_map(entry).collect::<Vec<_>>(),
    )
}

/// A PMT: stream_type, PID and descriptors of each component.
pub(in crate::engine) fn pmt(
    programme: u16,
    version: u8,
    pcr_pid: u16,
    descriptors: &[u8],
    components: &[(u8, u16, &[u8])],
) -> Vec<u8> {
    let mut body = (0xe000 | pcr_pid).to_be_bytes().to_vec();
    body.extend((0xf000 | descriptors.len() as u16).to_be_bytes());
    body.extend(descriptors);
    for (stream_type, pid, descriptors) in components {
        body.push(*stream_type);
        body.extend((0xe000 | pid).to_be_bytes());
        body.extend((0xf000 | descriptors.len() as u16).to_be_bytes());
        body.extend(*descriptors);
    }
    long(0x02, programme, version, (0, 0), &body)
}

/// Packets that carry these sections back to back, the rest stuffed.
pub(in crate::engine) fn packets(pid: u16, sections: &[&[u8]], counter: &mut u8) -> Vec<[u8; PACKET_SIZE]> {
    let stream = sections.concat();
    let mut starts: Vec<usize> = sections
        .iter()
        .scan(0, |end, section| {
            let start = *end;
            *end += section.len();
            Some(start)
        })
        .collect();
    starts.retain(|start| *start < stream.len());
    let (mut at, mut packets) = (0, Vec::new());
    while at < stream.len() {
        let [p0, p1] = pid.to_be_bytes();
        // A section that begins within the next 183 bytes is pointed at.
        let next = starts.iter().find(|start| (at..at + 183).contains(*start)).copied();
        let mut packet = vec![
            SYNC_BYTE,
            p0 | if next.is_some() { 0x40 } else { 0 },
            p1,
            0x10 | *counter & 0x0f,
        ];
        packet.extend(next.map(|start| (start - at) as u8));
        // One that would begin in the last byte cannot be pointed at: an empty adaptation field leaves it to the next packet.
        if next.is_none() && starts.contains(&(at + 183)) {
            packet[3] |= 0x20;
            packet.push(0);
        }
        let end = stream.len().min(at + PACKET_SIZE - packet.len());
        packet.extend(&stream[at..end]);
        packet.resize(PACKET_SIZE, 0xff);
        packets.push(packet.try_into().unwrap());
        *counter = (*counter & 0x0f) + 1;
        at = end;
    }
    packets
}
