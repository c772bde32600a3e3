//! Captures of real sessions over a lossy link: what the engine deciphers is what the receiver wrote, byte by byte.
//!
//! Each holds one second of video from ffmpeg with libsrt 1.5.7 through a relay that lost five data packets and made others
//! overtake each other, with a key refresh every 32 packets. AES-CTR was received by srt-live-transmit of libsrt 1.5.1,
//! AES-GCM by ffmpeg with libsrt 1.5.7 (no released program offers AES-GCM to its user: the caller's default was changed).
//! The hashes are of what the receivers wrote.

use std::collections::BTreeMap;

use sha1::{Digest, Sha1};

use tidegate_common::drop_reason::DropReason;

use super::bench::{Bench, PASSPHRASE, finding, names, policy, with_passphrase};
use crate::engine::Verdict;
use crate::engine::media::srt::Packet;
use crate::engine::report::{KeyState, StreamReport};
use crate::engine::time::Timestamp;
use crate::policy::Policy;

struct Capture {
    encryption: &'static str,
    file: &'static [u8],
    received: &'static str,
}

const CAPTURES: [Capture; 5] = [
    Capture {
        encryption: "aes-128-ctr",
        file: include_bytes!("../testdata/ctr128.pcap"),
        received: "6b839596ed4010e1cf8b6ee330c90f42afbdb881",
    },
    Capture {
        encryption: "aes-192-ctr",
        file: include_bytes!("../testdata/ctr192.pcap"),
        received: "6b839596ed4010e1cf8b6ee330c90f42afbdb881",
    },
    Capture {
        encryption: "aes-256-ctr",
        file: include_bytes!("../testdata/ctr256.pcap"),
        received: "6b839596ed4010e1cf8b6ee330c90f42afbdb881",
    },
    Capture {
        encryption: "aes-128-gcm",
        file: include_bytes!("../testdata/gcm128.pcap"),
        received: "b21414899c24dc13348aaa3d0519b10385ec3ea4",
    },
    Capture {
        encryption: "aes-256-gcm",
        file: include_bytes!("../testdata/gcm256.pcap"),
        received: "6b839596ed4010e1cf8b6ee330c90f42afbdb881",
    },
];

/// Packets of a classic pcap file with raw IP, and their times.
fn packets(file: &[u8]) -> Vec<(Timestamp, &[u8])> {
    let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
    let (mut at, mut packets) = (24, Vec::new());
    while at < file.len() {
        let length = word(at + 8) as usize;
        let time = u64::from(word(at)) * 1_000_000_000 + u64::from(word(at + 4)) * 1000;
        packets.push((Timestamp::from_nanos(time), &file[at + 16..at + 16 + length]));
        at += 16 + length;
    }
    packets
}

/// What was deciphered of the caller's data by sequence number, each number once.
fn deciphered<'a>(bench: &mut Bench, packets: impl Iterator<Item = (Timestamp, &'a [u8])>) -> BTreeMap<u32, Vec<u8>> {
    let mut payloads = BTreeMap::new();
    for (at, packet) in packets {
        let (_, clear) = bench.offer(at, packet);
        if let Ok(Packet::Data(data)) = Packet::parse(&packet[28..]) {
            payloads.entry(data.sequence_number()).or_insert(clear);
        }
    }
    payloads
}

fn joined(payloads: BTreeMap<u32, Vec<u8>>) -> Vec<u8> {
    payloads.into_values().flatten().collect()
}

fn run(capture: &Capture, policy: Policy) -> (Vec<u8>, StreamReport, Bench) {
    let mut bench = Bench::new(policy);
    let clear = joined(deciphered(&mut bench, packets(capture.file).into_iter()));
    let mut streams = bench.streams();
    assert_eq!(streams.len(), 1);
    (clear, streams.remove(0), bench)
}

fn sha1(bytes: &[u8]) -> String {
    Sha1::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn what_is_deciphered_is_what_the_receiver_wrote() {
    for capture in &CAPTURES {
        let (clear, stream, mut bench) = run(capture, with_passphrase(PASSPHRASE));
        let name = capture.encryption;
        assert_eq!(sha1(&clear), capture.received, "{name}");
        assert_eq!((stream.encryption, stream.decrypted), (name, true));
        let ts = stream.ts.expect("the TS is visible");
        assert_eq!(ts.packets, clear.len() as u64 / 188);
        assert_eq!(
            (ts.continuity_errors.source, ts.continuity_errors.network),
            (0, 0),
            "{name}"
        );
        assert_eq!(
            (stream.transport.lost, stream.transport.retransmitted),
            (0, 11),
            "{name}"
        );
        assert!(stream.transport.reordered > 0 && stream.findings.is_empty(), "{name}");
        let srt = stream.srt.expect("it is SRT");
        assert_eq!((srt.key_refreshes, srt.undeciphered, srt.misfits), (3, 0, 0), "{name}");
        assert!(srt.nak_packets >= 5 && srt.acks > 5 && srt.ackacks > 5, "{srt:?}");
        assert!(srt.rtt_us.is_some_and(|rtt| rtt < 1_000_000), "{srt:?}");
        let handshake = srt.handshake.expect("it was seen");
        assert_eq!((handshake.version, handshake.mode), (5, "caller-listener"));
        let caller = handshake.caller.expect("it asked");
        assert_eq!((caller.version.as_str(), caller.receiver_delay_ms), ("1.5.7", 400));
        assert!(caller.flags.contains(&"tlpktdrop") && caller.flags.contains(&"rexmitflg"));
        let parts = srt.stream_id.expect("the convention");
        assert_eq!(parts.get("r").map(String::as_str), Some("live/ch1"));
        let events = names(&bench.events());
        assert!(
            events.starts_with(&["stream-appeared".to_owned(), "srt-shutdown".to_owned()]),
            "{events:?}"
        );
    }
}

#[test]
fn without_the_passphrase_and_with_a_wrong_one_transport_figures_go_on() {
    for capture in &CAPTURES {
        let (_, known, _) = run(capture, with_passphrase(PASSPHRASE));
        let (clear, stream, _) = run(capture, policy("", PASSPHRASE));
        assert_eq!((clear.len(), stream.decrypted, stream.ts.is_none()), (0, false, true));
        assert_eq!(
            (stream.encryption, stream.transport),
            (known.encryption, known.transport)
        );
        assert!(stream.findings.is_empty());
        let (clear, stream, mut bench) = run(capture, with_passphrase("another-passphrase"));
        assert_eq!((clear.len(), stream.decrypted, stream.ts.is_none()), (0, false, true));
        assert_eq!(
            (stream.encryption, stream.transport),
            (known.encryption, known.transport)
        );
        assert!(finding(&stream, "srt-wrong-passphrase") >= 1, "{:?}", stream.findings);
        assert_eq!(stream.findings.len(), 1);
        assert!(names(&bench.events()).contains(&"finding".to_owned()));
    }
}

#[test]
fn joined_on_the_way_the_key_comes_with_the_next_refresh() {
    for capture in &CAPTURES {
        let all = packets(capture.file);
        let mut first = Bench::new(with_passphrase(PASSPHRASE));
        let whole = deciphered(&mut first, all.iter().copied());
        let known = first.streams().remove(0).srt.expect("it is SRT");
        let known_bits = capture.encryption.split('-').nth(1).and_then(|bits| bits.parse().ok());
        assert_eq!((known.verified, known.key_length), (true, known_bits));
        // Past the handshake, before the first refresh.
        let mut bench = Bench::new(with_passphrase(PASSPHRASE));
        let late = deciphered(&mut bench, all.iter().copied().skip(20));
        let hidden = late.values().filter(|clear| clear.is_empty()).count();
        assert!((3..80).contains(&hidden), "{hidden} of {}", late.len());
        for (number, clear) in late.iter().filter(|(_, clear)| !clear.is_empty()) {
            assert_eq!(whole.get(number), Some(clear), "{number}");
        }
        let stream = bench.streams().remove(0);
        assert_eq!((stream.encryption, stream.decrypted), (capture.encryption, true));
        assert!(stream.identity.stream_id.is_none(), "nobody said it");
        let srt = stream.srt.expect("it is SRT");
        assert!(srt.handshake.is_none() && srt.undeciphered > 0);
        assert_eq!(
            (srt.verified, srt.key_length),
            (false, known_bits),
            "the key alone verifies nothing"
        );
        assert!(srt.acks > 3, "the sender's socket shows itself by its reports: {srt:?}");
        assert_eq!(stream.ts.map(|ts| ts.continuity_errors.source), Some(0));
        assert!(names(&bench.events()).contains(&"srt-key-learnt".to_owned()));
        let mut bench = Bench::new(policy("", PASSPHRASE));
        deciphered(&mut bench, all.iter().copied().skip(20));
        let without = bench.streams().remove(0);
        assert_eq!((without.encryption, without.decrypted), (capture.encryption, false));
        assert_eq!(
            without.srt.map(|srt| srt.keys),
            Some(KeyState::None),
            "no passphrase is given"
        );
        let before_refresh = |policy: Policy| {
            let mut bench = Bench::new(policy);
            deciphered(&mut bench, all.iter().copied().skip(20).take(4));
            bench.streams().remove(0)
        };
        let stream = before_refresh(with_passphrase(PASSPHRASE));
        let srt = stream.srt.expect("it is SRT");
        assert_eq!(
            (stream.encryption, srt.keys, srt.key_length),
            ("unverified", KeyState::Missing, None)
        );
    }
}

#[test]
fn either_direction_alone_gives_the_first_keys() {
    for capture in &CAPTURES {
        let from_caller = |(_, packet): &(Timestamp, &[u8])| packet[12..16] == [10, 0, 0, 1];
        let one_way = packets(capture.file).into_iter().filter(from_caller);
        let clear = joined(deciphered(&mut Bench::new(with_passphrase(PASSPHRASE)), one_way));
        // Two packets come before the stream is believed without its listener's answer.
        let whole = joined(deciphered(
            &mut Bench::new(with_passphrase(PASSPHRASE)),
            packets(capture.file).into_iter(),
        ));
        assert!(
            whole.ends_with(&clear) && whole.len() - clear.len() == 2 * 188,
            "{}",
            clear.len()
        );
    }
}

#[test]
fn nothing_of_a_refused_session_passes_whichever_way_its_answer_took() {
    for capture in &CAPTURES {
        for answers in [true, false] {
            let mut bench = Bench::new(policy("stream_id = [\"nope\"]", PASSPHRASE));
            let seen = |(_, packet): &(Timestamp, &[u8])| answers || packet[12..16] == [10, 0, 0, 1];
            let (mut returned, mut dropped) = (0, 0);
            for (at, packet) in packets(capture.file).into_iter().filter(seen) {
                let verdict = bench.offer(at, packet).0;
                if let Ok(Packet::Data(_)) = Packet::parse(&packet[28..]) {
                    assert_eq!(verdict, Verdict::Drop(DropReason::SrtStreamId));
                }
                returned += u32::from(verdict == Verdict::Return);
                dropped += u32::from(verdict != Verdict::Return);
            }
            // Inductions, and what the caller says to the listener's socket before its first data.
            assert!(returned <= 4 && dropped > 100, "{returned} returned, {dropped} dropped");
            assert!(bench.streams().is_empty());
        }
    }
}

#[test]
fn a_changed_packet_is_found_where_the_cipher_authenticates_and_is_judged_nowhere() {
    for capture in &CAPTURES[3..] {
        let mut bench = Bench::new(with_passphrase(PASSPHRASE));
        let mut data = 0;
        for (at, packet) in packets(capture.file) {
            data += u32::from(packet[28] & 0x80 == 0);
            if packet[28] & 0x80 == 0 && data == 60 {
                let mut forged = packet.to_vec();
                *forged.last_mut().unwrap() ^= 1;
                bench.offer(at, &forged);
            }
            bench.offer(at, packet);
        }
        let stream = bench.streams().remove(0);
        assert_eq!(finding(&stream, "srt-not-authentic"), 1, "{:?}", stream.findings);
        assert_eq!(stream.findings.len(), 1);
        let ts = stream.ts.expect("visible");
        assert_eq!((stream.transport.lost, ts.continuity_errors.source), (0, 0));
    }
}
