//! RTP, RTCP and ST 2022-1 FEC: every accessor of what was parsed.

use tidegate::engine::media::{fec, rtcp, rtp};

use super::packets;

/// Reads the input as each of them.
pub fn run(data: &[u8]) {
    if let Ok(packet) = rtp::Packet::parse(data) {
        assert!(12 + packet.payload().len() + packet.csrc().len() * 4 <= data.len());
        assert!(packet.csrc().count() <= 15);
        if let Ok(header) = fec::Header::parse(packet.payload()) {
            assert!(header.protected.numbers().count() <= 1 << 16);
            let _ = (header.is_typical(), header.protected.span());
        }
    }
    let _ = rtp::is_rtcp(data);
    let _ = fec::Header::parse(data);
    if let Ok(compound) = rtcp::Compound::parse(data) {
        let _ = compound.begins_with_report();
        let mut packets = 0;
        for packet in compound.packets() {
            packets += 1;
            // Debug walks every nested block, chunk and request.
            let _ = packet.map(|packet| format!("{packet:?}").len());
        }
        assert!(packets <= data.len() / 4);
    }
}

/// One of each.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut sender_report = vec![0x81, 200, 0, 12];
    sender_report.extend((0..48).map(|n| n as u8));
    let cname = [&[0x81, 202, 0, 3, 0, 0, 0, 7, 1, 4][..], b"cam1", &[0, 0]].concat();
    let mut column = vec![0, 1, 0, 0, 33, 0, 0, 0, 0, 0, 0, 0, 0, 5, 4, 0];
    column.extend([0; 32]);
    vec![
        packets::rtp(33, 1, 7, &packets::ts_packet(256, true, 0, b"")),
        packets::rtp(96, 1, 0, &column),
        [sender_report.clone(), cname].concat(),
        [
            sender_report,
            vec![0x80, 204, 0, 4, 0, 0, 0, 7],
            b"RIST".to_vec(),
            vec![0, 9, 0, 3],
        ]
        .concat(),
        vec![0x81, 205, 0, 3, 0, 0, 0, 7, 0, 0, 0, 7, 0, 9, 0, 3],
    ]
}
