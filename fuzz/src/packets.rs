//! Packets around what is fuzzed: IP, UDP, TCP and GENEVE as they should be, so that the input reaches what is behind them.

use tidegate::engine::media::mpegts::section::crc32;

/// An IPv4 packet.
pub fn ipv4(protocol: u8, source: [u8; 4], destination: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let length = (20 + payload.len()).min(usize::from(u16::MAX)) as u16;
    let mut packet = vec![0x45, 0, 0, 0, 0, 1, 0x40, 0, 61, protocol, 0, 0];
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    packet.extend_from_slice(&source);
    packet.extend_from_slice(&destination);
    packet.extend_from_slice(payload);
    packet
}

/// A UDP datagram from its header on, without a checksum.
pub fn udp(source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::with_capacity(8 + payload.len());
    for field in [source, destination, (8 + payload.len()) as u16, 0] {
        datagram.extend_from_slice(&field.to_be_bytes());
    }
    datagram.extend_from_slice(payload);
    datagram
}

/// A TCP segment from its header on, without a checksum.
pub fn tcp(ports: [u16; 2], flags: u8, sequence: u32, acknowledgement: u32, payload: &[u8]) -> Vec<u8> {
    let header = tidegate_common::wire::tcp::Tcp::build(ports[0], ports[1], 5, flags);
    let mut segment = header.with_numbers(sequence, acknowledgement).bytes().to_vec();
    segment.extend_from_slice(payload);
    segment
}

/// An inner packet wrapped as GWLB wraps it, in Ethernet.
pub fn wrapped(inner: &[u8]) -> Vec<u8> {
    let mut geneve = vec![8, 0, 0x08, 0x00, 0, 0, 0, 0, 0x01, 0x08, 1, 2, 0, 1, 2, 3, 4, 5, 6, 7];
    geneve.extend_from_slice(&[0x01, 0x08, 2, 2, 0, 0, 0, 0, 0, 0, 0, 9, 0x01, 0x08, 3, 1, 0, 0, 0, 7]);
    geneve.extend_from_slice(inner);
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    frame.extend_from_slice(&ipv4(17, [192, 0, 2, 1], [192, 0, 2, 2], &udp(50_001, 6081, &geneve)));
    frame
}

/// A TS packet that fills up with `0xff`.
pub fn ts_packet(pid: u16, unit_start: bool, counter: u8, payload: &[u8]) -> [u8; 188] {
    let mut packet = [0xff; 188];
    let [high, low] = (pid & 0x1fff).to_be_bytes();
    packet[..4].copy_from_slice(&[0x47, high | u8::from(unit_start) << 6, low, 0x10 | counter & 0x0f]);
    for (place, byte) in packet[4..].iter_mut().zip(payload) {
        *place = *byte;
    }
    packet
}

/// A whole section of the long form: length and CRC-32 are right, whatever it says. A PAT section takes this for its
/// transport_stream_id, a PMT section for its program_number.
pub fn section(table_id: u8, extension: u16, version: u8, body: &[u8]) -> Vec<u8> {
    let body = body.get(..1000).unwrap_or(body);
    let [length_high, length_low] = (5 + body.len() as u16 + 4).to_be_bytes();
    let [high, low] = extension.to_be_bytes();
    let version = 0xc1 | version << 1 & 0x3e;
    let mut section = vec![table_id, 0xb0 | length_high, length_low, high, low, version, 0, 0];
    section.extend_from_slice(body);
    section.extend_from_slice(&crc32(&section).to_be_bytes());
    section
}

/// The TS packets of a section; the counter goes on.
pub fn ts_section(pid: u16, counter: &mut u8, section: &[u8]) -> Vec<[u8; 188]> {
    let bytes = [&[0], section].concat();
    let packets = bytes.chunks(184).enumerate().map(|(place, part)| {
        *counter = counter.wrapping_add(1);
        ts_packet(pid, place == 0, *counter, part)
    });
    packets.collect()
}

/// RTP around a payload.
pub fn rtp(payload_type: u8, sequence: u16, ssrc: u32, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, payload_type & 0x7f];
    packet.extend_from_slice(&sequence.to_be_bytes());
    packet.extend_from_slice(&(u32::from(sequence) * 300).to_be_bytes());
    packet.extend_from_slice(&ssrc.to_be_bytes());
    packet.extend_from_slice(payload);
    packet
}

/// An SRT data packet in the clear.
pub fn srt_data(sequence: u32, destination: u32, payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    for word in [sequence & 0x7fff_ffff, 0xe000_0001, sequence, destination] {
        packet.extend_from_slice(&word.to_be_bytes());
    }
    packet.extend_from_slice(payload);
    packet
}

/// An SRT handshake of version 5: a conclusion that asks for a latency, brings key material and names a stream.
pub fn srt_conclusion() -> Vec<u8> {
    let mut packet = Vec::new();
    let handshake = [
        0x8000_0000,
        0,
        0,
        0,
        5,
        0x0002_0007,
        1,
        1500,
        8192,
        0xffff_ffff,
        77,
        0,
        1,
        0,
        0,
        0,
    ];
    let hsreq = [0x0001_0003, 0x0001_0503, 0xbf, 0x0078_0078];
    let key_material = [
        0x0003_000e,
        0x1220_2901,
        0,
        0x0200_0200,
        0x0000_0404,
        1,
        2,
        3,
        4,
        5,
        6,
        7,
        8,
        9,
        10,
    ];
    let stream_id = [0x0005_0002, u32::from_le_bytes(*b"#!::"), u32::from_le_bytes(*b"r=ch")];
    for word in handshake.into_iter().chain(hsreq).chain(key_material).chain(stream_id) {
        packet.extend_from_slice(&word.to_be_bytes());
    }
    packet
}
