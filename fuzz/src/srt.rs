//! SRT packets: handshakes with their extensions, control packets, key material and its unwrapping, deciphering.

use std::sync::OnceLock;

use tidegate::engine::media::srt::cipher::{Dialect, KeyEncryptingKey, StreamKey};
use tidegate::engine::media::srt::{Control, Data, Packet, stream_id};

use super::packets;

/// The passphrase of every key material of the seeds.
pub const PASSPHRASE: &str = "correct-horse-battery";
/// Key material and data packets made with OpenSSL.
const VECTORS: &str = include_str!("../../appliance-user/src/engine/media/srt/testdata/openssl.txt");

/// Reads the input as a packet, and all that is in it.
pub fn run(data: &[u8]) {
    match Packet::parse(data) {
        Ok(Packet::Data(packet)) => deciphered(&packet, data.len()),
        Ok(Packet::Control(control)) => understood(&control, data.len()),
        Err(_) => {}
    }
    let _ = std::str::from_utf8(data).map(stream_id::parts);
}

fn deciphered(packet: &Data<'_>, length: usize) {
    assert!(packet.payload().len() + 16 <= length);
    let _ = (packet.position(), packet.key_flag(), packet.is_filter_control());
    let keys = keys();
    let key = &keys[packet.sequence_number() as usize % keys.len()];
    let mut clear = Vec::new();
    for dialect in Dialect::all(key.cipher()) {
        if key.decipher(dialect, packet, &mut clear).is_ok() {
            assert!(clear.len() <= packet.payload().len());
        }
    }
}

fn understood(control: &Control<'_>, length: usize) {
    if let Some(handshake) = control.handshake() {
        // A byte that is no UTF-8 becomes three.
        let short = |text: Option<String>| text.is_none_or(|text| text.len() <= 3 * length);
        assert!(short(handshake.stream_id()) && short(handshake.congestion()) && short(handshake.filter()));
        let _ = handshake.stream_id().and_then(|id| stream_id::parts(&id));
        let _ = (
            handshake.request_latency(),
            handshake.response_latency(),
            handshake.group(),
        );
    }
    let inside = control.handshake().and_then(|handshake| handshake.key_material());
    for material in inside.into_iter().chain(control.key_material()) {
        // A key derived from bytes that somebody made up unwraps nothing, so an unchanging one will do and costs nothing.
        let _ = material.store().map(|stored| kek().unwrap(&stored).is_ok());
    }
    if let Some(report) = control.loss_report() {
        assert!(report.ranges().count() <= length / 4);
    }
    let _ = (
        control.latency(),
        control.acknowledgement(),
        control.drop_request(),
        control.key_refusal(),
    );
    let _ = format!("{control:?}");
}

/// The key encrypting key of the first vector.
fn kek() -> &'static KeyEncryptingKey {
    static KEK: OnceLock<KeyEncryptingKey> = OnceLock::new();
    KEK.get_or_init(|| derived(&vectors()[0][0]).expect("key material").0)
}

/// Stream keys of every cipher and length.
fn keys() -> &'static [StreamKey] {
    static KEYS: OnceLock<Vec<StreamKey>> = OnceLock::new();
    KEYS.get_or_init(|| {
        let of_message = |vector: &[Vec<u8>; 2]| derived(&vector[0]).map(|(_, key)| key);
        vectors().iter().filter_map(of_message).collect()
    })
}

/// What a key material message is wrapped with, and its even key.
fn derived(message: &[u8]) -> Option<(KeyEncryptingKey, StreamKey)> {
    let Ok(Packet::Control(control)) = Packet::parse(message) else {
        return None;
    };
    let material = control.key_material()?.store()?;
    let kek = KeyEncryptingKey::derive(PASSPHRASE.as_bytes(), &material);
    let (even, _) = kek.unwrap(&material).ok()?;
    Some((kek, even?))
}

/// A key material message and a data packet of each kind.
pub fn vectors() -> Vec<[Vec<u8>; 2]> {
    let bytes = |hex: &str| -> Vec<u8> {
        let digits: Vec<u8> = hex
            .chars()
            .filter_map(|digit| digit.to_digit(16))
            .map(|digit| digit as u8)
            .collect();
        digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    };
    let lines = VECTORS.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            Some([bytes(fields.get(3)?), bytes(fields.get(4)?)])
        })
        .collect()
}

/// Data clear and ciphered, key material of each cipher, a conclusion with all extensions, and the other control packets.
pub fn seeds() -> Vec<Vec<u8>> {
    let control = |kind: u16, body: &[u8]| {
        let mut packet = (0x8000 | kind).to_be_bytes().to_vec();
        packet.extend_from_slice(&[0; 14]);
        packet.extend_from_slice(body);
        packet
    };
    let mut seeds = vec![
        packets::srt_data(1, 77, &packets::ts_packet(256, true, 0, b"")),
        packets::srt_conclusion(),
        control(1, &[0; 4]),
        control(2, &[0; 28]),
        control(3, &[0x80, 0, 0, 5, 0, 0, 0, 9]),
        control(5, &[0; 4]),
        control(7, &[0, 0, 0, 5, 0, 0, 0, 9]),
        b"#!::r=live/ch1,m=publish,u=me".to_vec(),
    ];
    seeds.extend(vectors().into_iter().step_by(4).flatten());
    seeds
}
