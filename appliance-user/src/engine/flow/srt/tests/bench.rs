//! An engine that says of each packet what it deciphered.

use std::net::SocketAddr;

use zeroize::Zeroizing;

use crate::engine::event::StreamEvent;
use crate::engine::report::StreamReport;
use crate::engine::time::Timestamp;
use crate::engine::{Config, Engine, Published, Verdict};
use crate::policy::{self, Policy};

/// Every test's passphrase.
pub(super) const PASSPHRASE: &str = "correct-horse-battery";

/// A policy of one SRT rule with these lines in `[rule.srt]`; where they name a file, it holds `passphrase`.
pub(super) fn policy(lines: &str, passphrase: &str) -> Policy {
    policy_where("", lines, passphrase)
}

/// The same, with `more` in the rule itself.
pub(super) fn policy_where(more: &str, lines: &str, passphrase: &str) -> Policy {
    let rule = "version = 1\ndefault_action = \"drop\"\n[[rule]]\nname = \"studio\"\nprotocol = \"srt\"\n\
                source = [\"10.0.0.1\"]\ndestination = [\"10.0.9.9\"]\ndestination_port = [5000]\n";
    let text = format!("{rule}{more}\n[rule.srt]\n{lines}\n");
    let policy = policy::parse("test.toml", &text).expect("a valid policy");
    policy
        .with_secrets(&mut |_| Ok(Zeroizing::new(passphrase.as_bytes().to_vec())))
        .expect("a passphrase")
}

/// The policy of most tests: one passphrase for every session.
pub(super) fn with_passphrase(passphrase: &str) -> Policy {
    policy("passphrase_file = \"/secret\"", passphrase)
}

/// An engine under a policy.
pub(super) struct Bench {
    pub(super) engine: Engine,
    pub(super) policy: Policy,
    pub(super) generation: u64,
}

impl Bench {
    pub(super) fn new(policy: Policy) -> Self {
        Bench::within(policy, Config::default().memory)
    }

    /// With so much memory for all that streams grow by.
    pub(super) fn within(policy: Policy, memory: usize) -> Self {
        let config = Config {
            memory,
            ..Config::default()
        };
        Bench {
            engine: Engine::new(config),
            policy,
            generation: 1,
        }
    }

    /// Offers an IP packet; the verdict, and what was deciphered of it.
    pub(super) fn offer(&mut self, at: Timestamp, packet: &[u8]) -> (Verdict, Vec<u8>) {
        let published = Published {
            policy: &self.policy,
            generation: self.generation,
        };
        self.engine.decryption.clear.clear();
        let verdict = self.engine.process_bare(at, &published, packet);
        (verdict, self.engine.decryption.clear.clone())
    }

    /// What was told since it was last asked.
    pub(super) fn events(&mut self) -> Vec<StreamEvent> {
        core::iter::from_fn(|| self.engine.next_event()).collect()
    }

    /// The streams, the input being over.
    pub(super) fn streams(&mut self) -> Vec<StreamReport> {
        self.engine.finish();
        self.engine.streams()
    }
}

/// UDP over IPv4; no checksum of UDP, which is allowed there.
pub(super) fn ip(source: SocketAddr, destination: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let (SocketAddr::V4(source), SocketAddr::V4(destination)) = (source, destination) else {
        panic!("IPv4 here")
    };
    let length = (28 + payload.len()) as u16;
    let mut packet = vec![0x45, 0, 0, 0, 0, 1, 0x40, 0, 61, 17, 0, 0];
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    packet.extend(source.ip().octets());
    packet.extend(destination.ip().octets());
    let words = packet
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    packet[10..12].copy_from_slice(&(!((folded & 0xffff) + (folded >> 16)) as u16).to_be_bytes());
    for field in [source.port(), destination.port(), length - 20, 0] {
        packet.extend(field.to_be_bytes());
    }
    packet.extend(payload);
    packet
}

/// Names of events, in their order.
pub(super) fn names(events: &[StreamEvent]) -> Vec<String> {
    let name = |event: &StreamEvent| {
        serde_json::to_value(event).expect("it is JSON")["event"]
            .as_str()
            .map(str::to_owned)
    };
    events.iter().filter_map(name).collect()
}

/// How often a stream had a finding.
pub(super) fn finding(stream: &StreamReport, name: &str) -> u64 {
    stream.findings.get(name).copied().unwrap_or_default()
}
