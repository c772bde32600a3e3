//! Sessions made by hand: version 4, rendezvous, refusals, refreshes, and what nobody may change.

use std::net::SocketAddr;

use aes_kw::KeyInit;

use tidegate_common::drop_reason::DropReason;

use super::super::KeyState;

use super::bench::{Bench, PASSPHRASE, finding, ip, names, policy, policy_where, with_passphrase};
use crate::engine::media::srt::cipher::{Dialect, KeyEncryptingKey, StreamKey};
use crate::engine::media::srt::{Data, Packet, StoredKeyMaterial};
use crate::engine::report::StreamReport;
use crate::engine::time::Timestamp;
use crate::engine::{Config, Verdict};
use crate::policy::Policy;

/// The caller's and the listener's socket ids.
const CALLER: u32 = 0x0ca1_1e00;
const LISTENER: u32 = 0x0115_7e00;
/// Handshake types.
const WAVE: u32 = 0;
const CONCLUSION: u32 = 0xffff_ffff;
const AGREEMENT: u32 = 0xffff_fffe;
/// Extension types, and subtypes of control packets.
const HSREQ: u16 = 1;
const HSRSP: u16 = 2;
const KMREQ: u16 = 3;
const KMRSP: u16 = 4;

fn at(ms: u64) -> Timestamp {
    Timestamp::from_nanos(1_000_000_000 + ms * 1_000_000)
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

fn control(kind: u16, subtype: u16, destination: u32, content: &[u8]) -> Vec<u8> {
    let first = 0x8000_0000 | u32::from(kind) << 16 | u32::from(subtype);
    [words(&[first, 1, 1000, destination]), content.to_vec()].concat()
}

fn handshake(version: u32, kind: u32, from: u32, to: u32, blocks: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let flags = blocks.iter().fold(0, |flags, (kind, _)| {
        flags
            | match kind {
                1 | 2 => 1,
                3 | 4 => 2,
                _ => 4,
            }
    });
    let mut content = words(&[version, flags, 100, 1500, 8192, kind, from, 7, 1, 0, 0, 0]);
    for (kind, block) in blocks {
        content.extend(words(&[u32::from(*kind) << 16 | (block.len() / 4) as u32]));
        content.extend(block);
    }
    control(0, 0, to, &content)
}

fn latency(ms: u32) -> Vec<u8> {
    words(&[0x0001_0501, 0xbf, ms << 16 | ms])
}

fn stream_id(id: &str) -> (u16, Vec<u8>) {
    let mut text = id.as_bytes().to_vec();
    text.resize(text.len().next_multiple_of(4), 0);
    (5, text.chunks(4).flat_map(|word| word.iter().rev().copied()).collect())
}

/// Keys of 16 bytes under a salt, wrapped with the passphrase.
struct Material {
    block: Vec<u8>,
}

impl Material {
    fn new(passphrase: &str, salt: u8, even: Option<u8>, odd: Option<u8>) -> Material {
        let flags = u8::from(even.is_some()) | u8::from(odd.is_some()) << 1;
        let mut block = vec![0x12, 0x20, 0x29, flags, 0, 0, 0, 0, 2, 0, 2, 0, 0, 0, 4, 4];
        block.extend([salt; 16]);
        let keys: Vec<u8> = [even, odd].into_iter().flatten().flat_map(|key| [key; 16]).collect();
        let mut kek = [0; 16];
        pbkdf2::pbkdf2_hmac::<sha1::Sha1>(passphrase.as_bytes(), &[salt; 8], 2048, &mut kek);
        let mut wrapped = vec![0; keys.len() + 8];
        aes_kw::KwAes128::new(&kek.into())
            .wrap_key(&keys, &mut wrapped)
            .expect("room");
        block.extend(wrapped);
        Material { block }
    }

    fn refresh(&self, subtype: u16, to: u32) -> Vec<u8> {
        control(0x7fff, subtype, to, &self.block)
    }

    fn stored(&self) -> StoredKeyMaterial {
        let packet = self.refresh(KMREQ, 1);
        let Ok(Packet::Control(control)) = Packet::parse(&packet) else {
            panic!("key material")
        };
        control
            .key_material()
            .and_then(|material| material.store())
            .expect("a salt")
    }

    fn keys(&self) -> [Option<StreamKey>; 2] {
        let material = self.stored();
        let kek = KeyEncryptingKey::derive(PASSPHRASE.as_bytes(), &material);
        kek.unwrap(&material).map(<[_; 2]>::from).unwrap_or_default()
    }
}

/// A data packet with one TS packet; ciphered with the key of `flag` (1 even, 2 odd, 0 none). AES-CTR ciphers as it deciphers.
fn data(sequence: u32, to: u32, flag: u32, retransmitted: bool, keys: &[Option<StreamKey>; 2]) -> Vec<u8> {
    let word = 0xc000_0000 | flag << 27 | u32::from(retransmitted) << 26 | (sequence + 1);
    let mut packet = words(&[sequence, word, sequence * 1000, to]);
    let mut ts = vec![sequence as u8; 188];
    ts[..4].copy_from_slice(&[0x47, 1, 0, 0x10 | sequence as u8 & 0x0f]);
    packet.extend(ts);
    let key = keys.get((flag as usize).wrapping_sub(1)).and_then(Option::as_ref);
    if let Some(key) = key {
        let mut ciphered = Vec::new();
        let parsed: Data<'_> = match Packet::parse(&packet) {
            Ok(Packet::Data(data)) => data,
            other => panic!("{other:?}"),
        };
        key.decipher(Dialect::default(), &parsed, &mut ciphered)
            .expect("no tag to fail");
        packet.truncate(16);
        packet.extend(ciphered);
    }
    packet
}

/// An extension of a handshake: its type and its content.
type Block = (u16, Vec<u8>);

const NO_KEYS: [Option<StreamKey>; 2] = [None, None];

fn caller() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 40_000))
}

fn listener() -> SocketAddr {
    SocketAddr::from(([10, 0, 9, 9], 5000))
}

impl Bench {
    /// A packet of the caller.
    fn up(&mut self, ms: u64, payload: &[u8]) -> Verdict {
        self.offer(at(ms), &ip(caller(), listener(), payload)).0
    }

    /// A packet of the listener.
    fn down(&mut self, ms: u64, payload: &[u8]) -> Verdict {
        self.offer(at(ms), &ip(listener(), caller(), payload)).0
    }

    /// A version 5 session, with these blocks besides the latency's.
    fn connect(&mut self, ask: &[(u16, Vec<u8>)], answer: &[(u16, Vec<u8>)]) {
        let ask = [&[(HSREQ, latency(200))], ask].concat();
        let answer = [&[(HSRSP, latency(300))], answer].concat();
        assert_eq!(self.up(0, &handshake(5, CONCLUSION, CALLER, 0, &ask)), Verdict::Return);
        assert_eq!(
            self.down(1, &handshake(5, CONCLUSION, LISTENER, CALLER, &answer)),
            Verdict::Return
        );
    }

    fn connected(policy: Policy, material: &Material) -> Bench {
        let mut bench = Bench::new(policy);
        bench.connect(&[(KMREQ, material.block.clone())], &[(KMRSP, material.block.clone())]);
        bench
    }

    fn only_stream(&mut self) -> StreamReport {
        let mut streams = self.streams();
        assert_eq!(streams.len(), 1, "{streams:#?}");
        streams.remove(0)
    }
}

#[test]
fn version_4_says_its_terms_and_keys_after_the_handshake() {
    let material = Material::new(PASSPHRASE, 9, Some(1), None);
    let keys = material.keys();
    let mut bench = Bench::new(policy(
        "encryption = \"required\"\npassphrase_file = \"/secret\"",
        PASSPHRASE,
    ));
    assert_eq!(bench.up(0, &handshake(4, CONCLUSION, CALLER, 0, &[])), Verdict::Return);
    assert_eq!(
        bench.down(1, &handshake(4, CONCLUSION, LISTENER, CALLER, &[])),
        Verdict::Return
    );
    bench.up(2, &data(1, LISTENER, 1, false, &keys));
    bench.up(3, &control(0x7fff, HSREQ, LISTENER, &latency(250)));
    bench.down(4, &control(0x7fff, HSRSP, CALLER, &latency(400)));
    bench.up(5, &material.refresh(KMREQ, LISTENER));
    for sequence in 2..40 {
        assert_eq!(
            bench.up(4 + u64::from(sequence), &data(sequence, LISTENER, 1, false, &keys)),
            Verdict::Return
        );
    }
    assert_eq!(
        bench.up(60, &data(40, LISTENER, 0, false, &keys)),
        Verdict::Drop(DropReason::SrtEncryption)
    );
    let stream = bench.only_stream();
    assert_eq!((stream.encryption, stream.decrypted), ("aes-128-ctr", true));
    assert_eq!(
        stream.ts.as_ref().map(|ts| (ts.packets, ts.continuity_errors.source)),
        Some((38, 0))
    );
    let srt = stream.srt.unwrap();
    assert_eq!((srt.undeciphered, srt.key_length), (1, Some(128)));
    let handshake = srt.handshake.unwrap();
    assert_eq!((handshake.version, handshake.mode), (4, "caller-listener"));
    assert_eq!(handshake.caller.map(|party| party.receiver_delay_ms), Some(250));
    assert_eq!(handshake.listener.map(|party| party.receiver_delay_ms), Some(400));
}

#[test]
fn rendezvous_whoever_asks_and_media_both_ways() {
    for responder_agrees in [false, true] {
        let material = Material::new(PASSPHRASE, 3, Some(5), None);
        let keys = material.keys();
        let mut bench = Bench::new(with_passphrase(PASSPHRASE));
        bench.up(0, &handshake(5, WAVE, CALLER, 0, &[]));
        bench.down(1, &handshake(5, WAVE, LISTENER, 0, &[]));
        // The initiator is the party behind the listener's address here.
        let ask = [
            (HSREQ, latency(200)),
            (KMREQ, material.block.clone()),
            stream_id("#!::r=live/1,m=bidirectional"),
        ];
        bench.down(2, &handshake(5, CONCLUSION, LISTENER, CALLER, &ask));
        bench.up(3, &handshake(5, CONCLUSION, CALLER, LISTENER, &[]));
        let answer = [(HSRSP, latency(350)), (KMRSP, material.block.clone())];
        let kind = if responder_agrees { AGREEMENT } else { CONCLUSION };
        bench.up(4, &handshake(5, kind, CALLER, LISTENER, &answer));
        bench.down(5, &handshake(5, AGREEMENT, LISTENER, CALLER, &[]));
        for sequence in 1..20 {
            bench.up(5 + u64::from(sequence), &data(sequence, LISTENER, 1, false, &keys));
            bench.down(5 + u64::from(sequence), &data(sequence, CALLER, 1, false, &keys));
        }
        let streams = bench.streams();
        assert_eq!(streams.len(), 2);
        for stream in streams {
            assert_eq!((stream.encryption, stream.decrypted), ("aes-128-ctr", true));
            assert_eq!(
                stream.identity.stream_id.as_deref(),
                Some("#!::r=live/1,m=bidirectional")
            );
            let srt = stream.srt.unwrap();
            assert_eq!(srt.stream_id.unwrap().len(), 2);
            assert_eq!(srt.undeciphered, 0);
            let handshake = srt.handshake.unwrap();
            assert_eq!(
                (handshake.mode, handshake.listener.map(|party| party.receiver_delay_ms)),
                ("rendezvous", Some(350))
            );
        }
    }
}

#[test]
fn rejections_are_told_by_code_and_name_and_end_what_was_pending_only() {
    let mut bench = Bench::new(policy("on_unverified = \"drop\"", PASSPHRASE));
    let ask = [(HSREQ, latency(200)), stream_id("live/ch9")];
    bench.up(0, &handshake(5, CONCLUSION, CALLER, 0, &ask));
    // Another caller's socket.
    bench.down(1, &handshake(5, 1010, LISTENER, 77, &[]));
    assert!(bench.events().is_empty());
    bench.down(2, &handshake(5, 2403, LISTENER, CALLER, &[]));
    let events = bench.events();
    let told = serde_json::to_value(&events).unwrap();
    assert_eq!(told[0]["event"], "srt-rejected");
    assert_eq!(
        (told[0]["code"].as_u64(), told[0]["reason"].as_str()),
        (Some(2403), Some("forbidden"))
    );
    assert_eq!(
        (
            told[0]["stream"]["stream_id"].as_str(),
            told[0]["stream"]["source"].as_str()
        ),
        (Some("live/ch9"), Some("10.0.0.1:40000"))
    );
    assert_eq!(
        bench.up(3, &data(1, LISTENER, 0, false, &NO_KEYS)),
        Verdict::Drop(DropReason::SrtUnverified)
    );
    // A flood of them is told once a second.
    for n in 0..200_u32 {
        bench.up(10, &handshake(5, CONCLUSION, 1000 + n, 0, &ask));
        bench.down(10, &handshake(5, 1002, LISTENER, 1000 + n, &[]));
    }
    assert!(bench.events().is_empty(), "the last was told less than a second ago");
    bench.up(1100, &handshake(5, CONCLUSION, 5, 0, &ask));
    bench.down(1101, &handshake(5, 1002, LISTENER, 5, &[]));
    assert_eq!(
        serde_json::to_value(bench.events()).unwrap()[0]["count"].as_u64(),
        Some(202)
    );
    // A session that stands cannot be rejected.
    bench.connect(&[], &[]);
    bench.down(1200, &handshake(5, 1002, LISTENER, CALLER, &[]));
    assert_eq!(bench.up(1201, &data(1, LISTENER, 0, false, &NO_KEYS)), Verdict::Return);
}

#[test]
fn keys_are_refreshed_both_ways_and_each_party_has_its_own() {
    let first = Material::new(PASSPHRASE, 4, Some(1), None);
    let ups = Material::new(PASSPHRASE, 4, Some(1), Some(2));
    let downs = Material::new(PASSPHRASE, 4, Some(1), Some(3));
    let mut bench = Bench::connected(with_passphrase(PASSPHRASE), &first);
    let (first, up, down) = (first.keys(), ups.keys(), downs.keys());
    for sequence in 1..10 {
        bench.up(sequence.into(), &data(sequence, LISTENER, 1, false, &first));
        bench.down(sequence.into(), &data(sequence, CALLER, 1, false, &first));
    }
    bench.up(10, &ups.refresh(KMREQ, LISTENER));
    // The request was not seen: its answer repeats it, against the way of the media.
    bench.up(11, &downs.refresh(KMRSP, LISTENER));
    for sequence in 10..20 {
        bench.up(2 + u64::from(sequence), &data(sequence, LISTENER, 2, false, &up));
        bench.down(2 + u64::from(sequence), &data(sequence, CALLER, 2, false, &down));
    }
    for stream in bench.streams() {
        let srt = stream.srt.unwrap();
        assert_eq!((srt.key_refreshes, srt.undeciphered), (1, 0));
        assert_eq!(
            stream.ts.as_ref().map(|ts| (ts.packets, ts.continuity_errors.source)),
            Some((19, 0))
        );
        assert!(stream.findings.is_empty());
    }
}

#[test]
fn what_is_sent_again_after_refreshes_keeps_its_key() {
    let first = Material::new(PASSPHRASE, 4, Some(1), None);
    let second = Material::new(PASSPHRASE, 4, Some(1), Some(2));
    let third = Material::new(PASSPHRASE, 4, Some(3), Some(2));
    let mut bench = Bench::connected(with_passphrase(PASSPHRASE), &first);
    bench.up(2, &data(1, LISTENER, 1, false, &first.keys()));
    bench.up(3, &data(3, LISTENER, 1, false, &first.keys()));
    bench.up(4, &second.refresh(KMREQ, LISTENER));
    bench.up(5, &data(4, LISTENER, 2, false, &second.keys()));
    bench.up(6, &third.refresh(KMREQ, LISTENER));
    // The even key was replaced meanwhile; 1 is a copy, 2 was lost.
    bench.up(7, &data(1, LISTENER, 1, true, &first.keys()));
    bench.up(8, &data(2, LISTENER, 1, true, &first.keys()));
    bench.up(9, &data(5, LISTENER, 1, false, &third.keys()));
    let mut other = data(5, LISTENER, 1, false, &third.keys());
    other[4] ^= 0x18;
    bench.up(10, &other);
    let stream = bench.only_stream();
    assert_eq!(
        stream.ts.as_ref().map(|ts| (ts.packets, ts.continuity_errors.source)),
        Some((5, 0))
    );
    assert_eq!((stream.transport.retransmitted, stream.transport.lost), (2, 0));
    assert_eq!(
        finding(&stream, "sequence-conflict"),
        1,
        "the same bytes under another key are another packet"
    );
}

#[test]
fn forged_packets_change_nothing_of_a_session() {
    let material = Material::new(PASSPHRASE, 4, Some(1), None);
    let keys = material.keys();
    let mut bench = Bench::connected(
        policy("on_unverified = \"drop\"\npassphrase_file = \"/secret\"", PASSPHRASE),
        &material,
    );
    let forged = [
        // The caller's socket again, with another stream id and without keys; answered by another socket.
        handshake(5, CONCLUSION, CALLER, 0, &[(HSREQ, latency(2000)), stream_id("evil")]),
        handshake(5, CONCLUSION, CALLER, LISTENER, &[(HSRSP, latency(2000))]),
        control(5, 0, LISTENER + 1, &[]),
        control(5, 0, CALLER, &[]),
        Material::new("another-passphrase", 4, Some(9), Some(9)).refresh(KMREQ, LISTENER),
        Material::new("another-passphrase", 4, Some(9), Some(9)).refresh(KMRSP, CALLER),
        Material::new("another-passphrase", 77, Some(9), Some(9)).refresh(KMREQ, LISTENER + 1),
        control(3, 0, LISTENER, &words(&[0x8000_0001, 5])),
        control(2, 0, LISTENER, &words(&[3, 1, 1, 1, 1, 1, 1])),
        control(7, 0, CALLER, &words(&[1, 5])),
    ];
    for sequence in 1..100 {
        let packet = data(sequence, LISTENER, 1, false, &keys);
        assert_eq!(bench.up(u64::from(sequence) * 2, &packet), Verdict::Return);
        for packet in &forged {
            bench.up(u64::from(sequence) * 2 + 1, packet);
        }
        bench.down(
            u64::from(sequence) * 2 + 1,
            &handshake(5, CONCLUSION, 99, CALLER, &[(HSRSP, latency(7000))]),
        );
        bench.down(u64::from(sequence) * 2 + 1, &control(5, 0, CALLER + 1, &[]));
        bench.down(
            u64::from(sequence) * 2 + 1,
            &handshake(5, AGREEMENT, LISTENER, CALLER, &[]),
        );
    }
    let stream = bench.only_stream();
    assert_eq!(
        stream.ts.as_ref().map(|ts| (ts.packets, ts.continuity_errors.source)),
        Some((99, 0))
    );
    assert!(
        stream.identity.stream_id.is_none() && stream.findings.is_empty(),
        "{:?}",
        stream.findings
    );
    let srt = stream.srt.unwrap();
    assert_eq!((srt.naks, srt.acks, srt.drop_requests, srt.shutdowns), (0, 0, 0, 0));
    assert_eq!(
        (
            srt.undeciphered,
            srt.handshake.unwrap().listener.unwrap().receiver_delay_ms
        ),
        (0, 300)
    );
    assert_eq!(names(&bench.events()), ["stream-appeared"]);
}

#[test]
fn a_flood_of_key_material_costs_few_derivations_and_no_keys() {
    let material = Material::new(PASSPHRASE, 4, Some(1), None);
    let keys = material.keys();
    let mut bench = Bench::connected(with_passphrase(PASSPHRASE), &material);
    bench.up(2, &data(1, LISTENER, 1, false, &keys));
    let mut block = material.block.clone();
    for n in 0..2000_u32 {
        // Well addressed, each with a salt of its own.
        block[16..20].copy_from_slice(&n.to_be_bytes());
        bench.up(3, &control(0x7fff, KMREQ, LISTENER, &block));
        bench.up(3, &data(2 + n, LISTENER, 1, false, &keys));
    }
    let stream = bench.only_stream();
    assert_eq!(stream.ts.as_ref().map(|ts| ts.packets), Some(2001), "the keys stay");
    assert!(
        finding(&stream, "srt-wrong-passphrase") <= 1,
        "one attempt at one instant: {:?}",
        stream.findings
    );
}

#[test]
fn policy_of_key_lengths_stream_ids_and_encryption() {
    let material = Material::new(PASSPHRASE, 4, Some(1), None);
    let ask =
        |blocks: &[(u16, Vec<u8>)]| handshake(5, CONCLUSION, CALLER, 0, &[&[(HSREQ, latency(200))], blocks].concat());
    let keys = (KMREQ, material.block.clone());
    let cases = [
        (
            "key_length = [192, 256]",
            vec![keys.clone()],
            Some(DropReason::SrtEncryption),
        ),
        ("key_length = [128]", vec![keys.clone()], None),
        ("key_length = [256]", vec![], None),
        ("encryption = \"required\"", vec![], Some(DropReason::SrtEncryption)),
        (
            "encryption = \"forbidden\"",
            vec![keys.clone()],
            Some(DropReason::SrtEncryption),
        ),
        ("stream_id = [\"#!::r=live/*\"]", vec![stream_id("#!::r=live/1")], None),
        (
            "stream_id = [\"#!::r=live/*\"]",
            vec![stream_id("#!::m=publish,r=live/1")],
            Some(DropReason::SrtStreamId),
        ),
        ("stream_id = [\"live\"]", vec![], Some(DropReason::SrtStreamId)),
    ];
    for (lines, blocks, expected) in cases {
        let mut bench = Bench::new(policy(lines, PASSPHRASE));
        let verdict = bench.up(0, &ask(&blocks));
        assert_eq!(
            verdict,
            expected.map_or(Verdict::Return, Verdict::Drop),
            "{lines} {blocks:?}"
        );
    }
    let mut bench = Bench::new(policy("key_length = [256]", PASSPHRASE));
    bench.connect(&[], &[]);
    assert_eq!(
        bench.up(5, &material.refresh(KMREQ, LISTENER)),
        Verdict::Drop(DropReason::SrtEncryption)
    );
}

#[test]
fn a_passphrase_that_was_put_right_is_tried_again() {
    let material = Material::new(PASSPHRASE, 4, Some(1), None);
    let keys = material.keys();
    let mut bench = Bench::connected(with_passphrase("another-passphrase"), &material);
    for sequence in 1..10 {
        bench.up(sequence.into(), &data(sequence, LISTENER, 1, false, &keys));
    }
    let report = bench.engine.streams().remove(0);
    assert_eq!((finding(&report, "srt-wrong-passphrase"), report.decrypted), (1, false));
    bench.policy = with_passphrase(PASSPHRASE);
    bench.generation = 2;
    for sequence in 10..20 {
        bench.up(2000 + u64::from(sequence), &data(sequence, LISTENER, 1, false, &keys));
    }
    let stream = bench.only_stream();
    assert_eq!((finding(&stream, "srt-wrong-passphrase"), stream.decrypted), (1, true));
    assert_eq!(stream.ts.as_ref().map(|ts| ts.packets), Some(10));
    assert!(names(&bench.events()).contains(&"srt-key-learnt".to_owned()));
}

#[test]
fn a_responder_that_refuses_the_keys_is_told_of() {
    let material = Material::new(PASSPHRASE, 4, Some(1), None);
    let mut bench = Bench::connected(with_passphrase(PASSPHRASE), &material);
    let keys = material.keys();
    for sequence in 1..5 {
        bench.up(sequence.into(), &data(sequence, LISTENER, 1, false, &keys));
    }
    bench.events();
    bench.down(9, &control(0x7fff, KMRSP, CALLER, &words(&[4])));
    let events = serde_json::to_value(bench.events()).unwrap();
    assert_eq!(
        (events[0]["event"].as_str(), events[0]["state"].as_str()),
        (Some("srt-key-refused"), Some("bad-secret"))
    );
}

#[test]
fn nothing_secret_is_in_a_dump() {
    let material = Material::new(PASSPHRASE, 4, Some(0x5a), None);
    let mut bench = Bench::connected(with_passphrase(PASSPHRASE), &material);
    bench.up(5, &data(1, LISTENER, 1, false, &material.keys()));
    let published = format!("{:?}", bench.policy);
    let flows = bench.engine.flows.iter().map(|(_, flow)| format!("{flow:?}"));
    let dump = flows.collect::<String>();
    assert!(dump.contains("<keys>") && !dump.contains("90, 90, 90") && !published.contains("horse"));
}

#[test]
fn where_memory_is_short_sessions_are_followed_without_their_keys() {
    let material = Material::new(PASSPHRASE, 4, Some(1), None);
    let keys = material.keys();
    let mut bench = Bench::within(with_passphrase(PASSPHRASE), 100);
    bench.connect(&[(KMREQ, material.block.clone())], &[(KMRSP, material.block.clone())]);
    for sequence in 1..20 {
        assert_eq!(
            bench.up(sequence.into(), &data(sequence, LISTENER, 1, false, &keys)),
            Verdict::Return
        );
    }
    let stream = bench.only_stream();
    assert_eq!(
        (stream.encryption, stream.decrypted, stream.packets),
        ("aes-128-ctr", false, 19)
    );
    let plenty = Bench::connected(with_passphrase(PASSPHRASE), &material);
    let held = Config::default().memory as u64 - plenty.engine.counters().memory_left;
    assert!((500..5000).contains(&held), "{held} bytes for a session");
}

/// What a refused party's session is dropped for, and what its caller asks for besides the latency.
fn refused_cases() -> Vec<(Policy, Vec<Block>, DropReason)> {
    let keys = (KMREQ, Material::new(PASSPHRASE, 4, Some(1), None).block);
    vec![
        (
            policy("stream_id = [\"nope\"]", PASSPHRASE),
            vec![stream_id("live/1")],
            DropReason::SrtStreamId,
        ),
        (
            policy("key_length = [256]", PASSPHRASE),
            vec![keys.clone()],
            DropReason::SrtEncryption,
        ),
        (
            policy("encryption = \"required\"", PASSPHRASE),
            vec![],
            DropReason::SrtEncryption,
        ),
        (
            policy("encryption = \"forbidden\"", PASSPHRASE),
            vec![keys],
            DropReason::SrtEncryption,
        ),
    ]
}

fn asks(from: u32, blocks: &[Block]) -> Vec<u8> {
    handshake(5, CONCLUSION, from, 0, &[&[(HSREQ, latency(200))], blocks].concat())
}

fn answers(from: u32, to: u32) -> Vec<u8> {
    handshake(5, CONCLUSION, from, to, &[(HSRSP, latency(300))])
}

#[test]
fn a_refused_session_stays_refused_whoever_answers_it() {
    for answer_is_seen in [true, false] {
        for (policy, blocks, reason) in refused_cases() {
            // Whether this packet's encryption is against the rule by itself is not the question.
            let flag = u32::from(!blocks.is_empty() && reason == DropReason::SrtEncryption);
            let refused = Verdict::Drop(reason);
            let mut bench = Bench::new(policy);
            assert_eq!(bench.up(0, &asks(CALLER, &blocks)), refused);
            if answer_is_seen {
                assert_eq!(bench.down(1, &answers(LISTENER, CALLER)), refused, "{reason:?}");
            }
            // The handshake says that data begins with 100.
            for sequence in 100..120 {
                let ms = u64::from(sequence - 100) * 1000 + 2;
                assert_eq!(bench.up(ms, &data(sequence, LISTENER, flag, false, &NO_KEYS)), refused);
                assert_eq!(bench.down(ms, &data(sequence, CALLER, flag, false, &NO_KEYS)), refused);
                assert_eq!(bench.up(ms, &control(1, 0, LISTENER, &[])), refused);
                assert_eq!(bench.down(ms, &control(1, 0, CALLER, &[])), refused);
            }
            assert!(bench.streams().is_empty(), "{reason:?}");
        }
    }
}

#[test]
fn a_refused_handshake_in_anothers_name_refuses_nobody() {
    let evil = [stream_id("evil")];
    let live = [stream_id("live/1")];
    let refused = Verdict::Drop(DropReason::SrtStreamId);
    let passes = |bench: &mut Bench, ms: u64| {
        for sequence in 100..110 {
            let ms = ms + u64::from(sequence);
            assert_eq!(
                bench.up(ms, &data(sequence, LISTENER, 0, false, &NO_KEYS)),
                Verdict::Return
            );
            assert_eq!(bench.up(ms, &control(1, 0, LISTENER, &[])), Verdict::Return);
        }
    };
    // Of whom the answer comes by another path, of whom it is seen, and of a session that was joined on the way.
    for (asked, answered) in [(true, false), (true, true), (false, false)] {
        let mut bench = Bench::new(policy("stream_id = [\"live/*\"]", PASSPHRASE));
        assert_eq!(bench.up(0, &asks(CALLER, &evil)), refused, "it comes first");
        if asked {
            assert_eq!(bench.up(1, &asks(CALLER, &live)), Verdict::Return);
        }
        if answered {
            assert_eq!(bench.down(2, &answers(LISTENER, CALLER)), Verdict::Return);
        }
        if !asked {
            // Its numbers are others than those that the forger could know.
            for sequence in 50_000..50_003 {
                let packet = data(sequence, LISTENER, 0, false, &NO_KEYS);
                assert_eq!(bench.up(3, &packet), Verdict::Return);
            }
        }
        // In the caller's name, and in one whom the listener seems to answer.
        assert_eq!(bench.up(4, &asks(CALLER, &evil)), refused);
        assert_eq!(bench.up(5, &asks(99, &evil)), refused);
        assert_eq!(bench.down(6, &answers(LISTENER, 99)), refused);
        passes(&mut bench, 10);
        // Of a joined session's reports the second one shows whose they are.
        let report = control(
            2,
            1,
            CALLER,
            &words(&[if asked { 110 } else { 50_003 }, 1000, 100, 8000]),
        );
        let reports = [1, 2, 3].map(|ms| bench.down(200 + ms, &report));
        assert_eq!(reports[1..], [Verdict::Return; 2], "{asked} {answered}");
        let stream = bench.only_stream();
        assert_eq!(stream.identity.stream_id.is_some(), asked);
        // Also of a session in the clear that was joined on the way.
        assert_eq!(
            (stream.srt.map(|srt| srt.verified), stream.encryption),
            (Some(asked), "none")
        );
    }
}

#[test]
fn without_enforcement_a_refused_session_is_followed() {
    let mut bench = Bench::new(policy_where("enforce = false", "stream_id = [\"nope\"]", PASSPHRASE));
    bench.connect(&[stream_id("live/1")], &[]);
    for sequence in 100..110 {
        assert_eq!(
            bench.up(sequence.into(), &data(sequence, LISTENER, 0, false, &NO_KEYS)),
            Verdict::Return
        );
    }
    let stream = bench.only_stream();
    assert_eq!(
        stream.srt.as_ref().map(|srt| srt.verified),
        Some(false),
        "its handshake was not admitted"
    );
    assert_eq!(
        (stream.packets, stream.identity.stream_id.as_deref()),
        (10, Some("live/1"))
    );
}

#[test]
fn refusals_are_few_and_end_with_silence() {
    let mut bench = Bench::new(policy("stream_id = [\"nope\"]", PASSPHRASE));
    let refused = Verdict::Drop(DropReason::SrtStreamId);
    let left = bench.engine.counters().memory_left;
    bench.up(0, &asks(CALLER, &[]));
    bench.down(1, &answers(LISTENER, CALLER));
    for id in 1000..3000 {
        bench.up(2, &asks(id, &[]));
    }
    assert!(left - bench.engine.counters().memory_left < 1000, "they are bounded");
    let packet = data(90_000, LISTENER, 0, false, &NO_KEYS);
    assert_eq!(
        bench.up(59_000, &packet),
        refused,
        "what was answered is not forgotten for a flood"
    );
    assert_eq!(bench.up(118_000, &packet), refused, "it goes on");
    assert_eq!(bench.up(180_000, &packet), Verdict::Return, "an id may come again");
}

/// Makes a packet one of a packet filter: message number 0.
fn filter_control(mut packet: Vec<u8>) -> Vec<u8> {
    packet[4] &= 0xfc;
    packet[5..8].fill(0);
    packet
}

#[test]
fn message_number_0_is_data_where_no_filter_was_negotiated() {
    let mut bench = Bench::new(policy("on_unverified = \"drop\"", PASSPHRASE));
    assert_eq!(
        bench.up(0, &filter_control(data(1, LISTENER, 0, false, &NO_KEYS))),
        Verdict::Drop(DropReason::SrtUnverified)
    );
    let mut bench = Bench::connected(
        policy("encryption = \"required\"\npassphrase_file = \"/secret\"", PASSPHRASE),
        &Material::new(PASSPHRASE, 4, Some(1), None),
    );
    assert_eq!(
        bench.up(5, &filter_control(data(1, LISTENER, 0, false, &NO_KEYS))),
        Verdict::Drop(DropReason::SrtEncryption)
    );
    let mut bench = Bench::new(policy("", PASSPHRASE));
    bench.connect(&[], &[]);
    for sequence in 1..20 {
        bench.up(
            sequence.into(),
            &filter_control(data(sequence, LISTENER, 0, false, &NO_KEYS)),
        );
    }
    let stream = bench.only_stream();
    assert_eq!((stream.packets, stream.srt.unwrap().filter_packets), (19, 0));
}

#[test]
fn a_negotiated_filter_s_packets_are_counted_and_obey_the_rule() {
    let config = b"cefslco,0:1:s".chunks(4).flat_map(|word| word.iter().copied());
    let filter = (7, config.chain([0; 3]).collect::<Vec<u8>>());
    // Either party may ask for it; the response says what is used.
    for ask in [vec![filter.clone()], vec![]] {
        let mut bench = Bench::new(policy(
            "encryption = \"forbidden\"\n[rule.ts]\ncontinuity = { max_incidents = 0, on_exceed = \"block\" }",
            PASSPHRASE,
        ));
        bench.connect(&ask, std::slice::from_ref(&filter));
        for sequence in 1..100 {
            let packet = data(sequence, LISTENER, 0, false, &NO_KEYS);
            bench.up(sequence.into(), &packet);
            assert_eq!(bench.up(sequence.into(), &filter_control(packet)), Verdict::Return);
        }
        let encrypted = filter_control(data(100, LISTENER, 1, false, &NO_KEYS));
        assert_eq!(bench.up(100, &encrypted), Verdict::Drop(DropReason::SrtEncryption));
        let mut wrong = data(100, LISTENER, 0, false, &NO_KEYS);
        wrong[16 + 3] ^= 5;
        bench.up(100, &wrong);
        for sequence in 101..4000 {
            bench.up(sequence.into(), &data(sequence, LISTENER, 0, false, &NO_KEYS));
            bench.engine.tick(at(sequence.into()), 16);
        }
        let late = data(4000, LISTENER, 0, false, &NO_KEYS);
        for packet in [filter_control(late.clone()), late] {
            assert_eq!(bench.up(4000, &packet), Verdict::Drop(DropReason::StreamBlocked));
        }
        let srt = bench.only_stream().srt.unwrap();
        assert_eq!(srt.filter_packets, 100, "one of them blocked");
        assert!(finding(&bench.streams()[0], "sequence-conflict") == 0);
    }
}

#[test]
fn a_forged_shutdown_and_handshakes_do_not_end_a_live_session() {
    let material = Material::new(PASSPHRASE, 9, Some(1), None);
    let keys = material.keys();
    let lines = "on_unverified = \"drop\"\nencryption = \"required\"\npassphrase_file = \"/secret\"";
    let mut bench = Bench::connected(policy(lines, PASSPHRASE), &material);
    let other = Material::new("another-passphrase", 1, Some(3), None).block;
    for sequence in 1..20_u32 {
        let packet = data(sequence, LISTENER, 1, false, &keys);
        assert_eq!(bench.up(10 + u64::from(sequence), &packet), Verdict::Return);
    }
    bench.up(40, &control(5, 0, LISTENER, &[0; 4]));
    for n in 0..50 {
        let ask = [(HSREQ, latency(200)), (KMREQ, other.clone()), stream_id("evil")];
        bench.up(41, &handshake(5, CONCLUSION, 0x6666_0000 + n, 0, &ask));
    }
    for sequence in 20..40_u32 {
        let packet = data(sequence, LISTENER, 1, false, &keys);
        assert_eq!(bench.up(3000 + u64::from(sequence), &packet), Verdict::Return);
    }
    let stream = bench.only_stream();
    assert_eq!((stream.decrypted, stream.identity.stream_id), (true, None));
    assert_eq!(stream.srt.unwrap().undeciphered, 0);
}

#[test]
fn key_material_that_does_not_unwrap_neither_describes_nor_blames() {
    let material = Material::new(PASSPHRASE, 9, Some(1), None);
    let keys = material.keys();
    let mut forged = Material::new("another-passphrase", 77, Some(1), None).block;
    forged[8] = 4; // AES-GCM
    for lines in ["passphrase_file = \"/secret\"", ""] {
        let mut bench = Bench::connected(policy(lines, PASSPHRASE), &material);
        for sequence in 1..3000_u32 {
            let ms = 10 + u64::from(sequence);
            if sequence % 500 == 20 {
                bench.up(ms, &control(0x7fff, KMREQ, LISTENER, &forged));
            }
            bench.up(ms, &data(sequence, LISTENER, 1, false, &keys));
        }
        let known = !lines.is_empty();
        let stream = bench.only_stream();
        assert_eq!((stream.encryption, stream.decrypted), ("aes-128-ctr", known));
        assert!(stream.findings.is_empty(), "{:?}", stream.findings);
        let srt = stream.srt.unwrap();
        let state = if known { KeyState::Known } else { KeyState::None };
        assert_eq!((srt.keys, srt.key_length), (state, Some(128)));
        assert_eq!(srt.undeciphered, if known { 0 } else { 2999 });
        let told = names(&bench.events());
        assert!(!told.contains(&"stream-degraded".to_owned()), "{told:?}");
    }
}

#[test]
fn what_is_refused_but_not_dropped_is_judged_under_its_reason() {
    let rule = "version = 1\ndefault_action = \"drop\"\n[[rule]]\nname = \"studio\"\nprotocol = \"srt\"\nenforce = ENFORCE\n\
                source = [\"10.0.0.1\"]\ndestination = [\"10.0.9.9\"]\ndestination_port = [5000]\n[rule.srt]\n";
    let ts: Vec<u8> = (0..7_u8)
        .flat_map(|n| [&[0x47, 1, 0, 0x10 | n], &[n; 184][..]].concat())
        .collect();
    for (lines, reason) in [
        ("encryption = \"required\"\n", DropReason::SrtEncryption),
        ("on_unverified = \"drop\"\n", DropReason::SrtUnverified),
    ] {
        for enforce in [true, false] {
            let text = format!("{}{lines}", rule.replace("ENFORCE", &enforce.to_string()));
            let mut bench = Bench::new(crate::policy::parse("test.toml", &text).expect("a valid policy"));
            for n in (0..50).filter(|n| *n != 20) {
                let data = [words(&[n, 0xe000_0001 + n, n * 1000, LISTENER]), ts.clone()].concat();
                let packet = ip(
                    "10.0.0.1:4000".parse().unwrap(),
                    "10.0.9.9:5000".parse().unwrap(),
                    &data,
                );
                let (verdict, _) = bench.offer(at(n.into()), &packet);
                let expected = if enforce {
                    Verdict::Drop(reason)
                } else {
                    Verdict::Return
                };
                assert_eq!(verdict, expected);
            }
            let reasons: Vec<_> = bench.engine.counters().shadow_drops().collect();
            let streams = bench.streams();
            if enforce {
                assert!(reasons.is_empty() && streams.is_empty());
            } else {
                assert_eq!(reasons, [(reason, 49)]);
                assert_eq!((streams[0].packets, streams[0].transport.lost), (49, 1));
            }
        }
    }
}

#[test]
fn an_unanswered_handshake_excuses_the_data_that_follows_it_and_only_for_a_while() {
    let unverified = Verdict::Drop(DropReason::SrtUnverified);
    let lines = "on_unverified = \"drop\"\nstream_id = [\"good\"]";
    let decoy = |id: u32| asks(id, &[stream_id("good")]);
    let stray = |sequence: u32, id: u32| data(sequence, id, 0, false, &NO_KEYS);
    let mut bench = Bench::new(policy(lines, PASSPHRASE));
    bench.up(0, &decoy(77));
    assert_eq!(bench.up(1, &stray(50_001, LISTENER)), Verdict::Return);
    assert_eq!(bench.up(2, &stray(50_001, 5)), unverified, "the first id is its own");
    assert_eq!(bench.up(2999, &stray(50_002, LISTENER)), Verdict::Return);
    assert_eq!(bench.up(3000, &stray(50_003, LISTENER)), unverified);
    // No other handshake excuses it, nor does a flood that makes the first one forgotten.
    for n in 0..20 {
        bench.up(3001, &decoy(100 + n));
        assert_eq!(bench.up(3002, &stray(50_004 + n, LISTENER)), unverified);
    }
    // Data that began before the handshake.
    let mut bench = Bench::new(policy(lines, PASSPHRASE));
    for n in 0..40 {
        let ms = u64::from(n) * 200;
        assert_eq!(bench.up(ms, &stray(50_000 + n, LISTENER)), unverified);
        bench.up(ms + 1, &decoy(100 + n));
        assert_eq!(bench.up(ms + 2, &stray(90_000 + n, 5)), unverified, "by another id");
    }
    // A flood of them before the time is over.
    let mut bench = Bench::new(policy(lines, PASSPHRASE));
    bench.up(0, &decoy(77));
    assert_eq!(bench.up(1, &stray(50_001, LISTENER)), Verdict::Return);
    for n in 0..20 {
        bench.up(1000, &decoy(100 + n));
    }
    assert_eq!(bench.up(1001, &stray(50_002, LISTENER)), unverified);
    // The answer counts whenever it comes.
    let mut bench = Bench::new(policy(lines, PASSPHRASE));
    bench.up(0, &decoy(CALLER));
    assert_eq!(bench.up(1, &stray(50_001, 5)), Verdict::Return);
    bench.down(3500, &answers(LISTENER, CALLER));
    assert_eq!(bench.up(3600, &stray(50_002, 5)), unverified);
    assert_eq!(bench.up(3601, &stray(50_002, LISTENER)), Verdict::Return);
}
