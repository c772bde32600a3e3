//! SRT packets: handshakes with their extensions, and key material.

use tidegate::engine::media::srt::Packet;

use super::packets;

/// Reads the input as a packet, and all that is in it.
pub fn run(data: &[u8]) {
    match Packet::parse(data) {
        Ok(Packet::Data(packet)) => {
            assert!(packet.payload().len() + 16 <= data.len());
            let _ = (packet.position(), packet.key_flag(), packet.is_filter_control());
        }
        Ok(Packet::Control(control)) => {
            if let Some(handshake) = control.handshake() {
                let id = handshake.stream_id();
                // A byte that is no UTF-8 becomes three.
                assert!(id.is_none_or(|id| id.len() <= 3 * 512));
                let _ = (
                    handshake.request_latency(),
                    handshake.response_latency(),
                    handshake.key_material(),
                );
            }
            let _ = (control.key_material(), control.drop_request());
            let _ = format!("{control:?}");
        }
        Err(_) => {}
    }
}

/// Data, a conclusion with all extensions, and the control packets without a body.
pub fn seeds() -> Vec<Vec<u8>> {
    let control = |kind: u16, body: &[u8]| {
        let mut packet = (0x8000 | kind).to_be_bytes().to_vec();
        packet.extend_from_slice(&[0; 14]);
        packet.extend_from_slice(body);
        packet
    };
    let conclusion = packets::srt_conclusion();
    vec![
        packets::srt_data(1, 77, &packets::ts_packet(256, true, 0, b"")),
        conclusion.clone(),
        control(1, &[0; 4]),
        control(2, &[0; 28]),
        control(3, &[0x80, 0, 0, 5, 0, 0, 0, 9]),
        control(7, &[0, 0, 0, 5, 0, 0, 0, 9]),
        [&[0xff, 0xff, 0, 3][..], &[0; 12], &conclusion[84..140]].concat(),
    ]
}
