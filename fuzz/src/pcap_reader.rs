//! Captures and transport stream files.

use tidegate::io::capture::CaptureReader;
use tidegate::io::input::Input;
use tidegate::io::ts_file::TsReader;

use super::packets;

/// Reads the input as a capture, as a `.ts` file, and as whichever it looks like.
pub fn run(data: &[u8]) {
    if let Ok(mut reader) = CaptureReader::new(data) {
        let mut packets = 0;
        while let Some(Ok(captured)) = reader.next() {
            packets += 1;
            assert!(captured.data.len() <= data.len());
            let _ = captured.link.ip_packet(captured.data);
        }
        assert!(packets <= data.len());
    }
    if let Ok(mut reader) = TsReader::new(data) {
        let mut packets = 0;
        while let Some(Ok(batch)) = reader.next_batch() {
            packets += batch.packets().count();
        }
        assert!(packets <= data.len() / 188);
    }
    let _ = Input::new(data).map(drop);
}

/// A pcap and a pcapng file of one packet, and a file of six TS packets with and without timestamps.
pub fn seeds() -> Vec<Vec<u8>> {
    let frame = packets::wrapped(&packets::ipv4(
        17,
        [10, 0, 0, 1],
        [10, 0, 9, 9],
        &packets::udp(5004, 5000, b"x"),
    ));
    let length = frame.len() as u32;
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let pcap = [
        words(&[0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_536, 1, 1, 2, length, length]),
        frame.clone(),
    ]
    .concat();
    let padding = frame.len().next_multiple_of(4) - frame.len();
    let block = 32 + length + padding as u32;
    let pcapng = [
        words(&[
            0x0a0d_0d0a,
            28,
            0x1a2b_3c4d,
            1,
            u32::MAX,
            u32::MAX,
            28,
            1,
            20,
            1,
            65_536,
            20,
        ]),
        words(&[6, block, 0, 0, 1000, length, length]),
        frame,
        vec![0; padding],
        words(&[block]),
    ]
    .concat();
    let ts = packets::ts_packet(256, false, 0, b"");
    vec![pcap, pcapng, ts.repeat(6), [&[0; 4][..], &ts].concat().repeat(6)]
}
