//! Texts and generators that several tests share.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use proptest::prelude::*;
use tidegate_common::flow::Tuple;

use crate::policy::rule::{CLEAR_AFTER, RAISE_AFTER, RtmpRule, RtpRule, SrtRule};
use crate::policy::set::PortSet;
use crate::policy::{FailureAction, Protocol, Rule};

/// The design's policy with every key that the format has.
pub(super) const DESIGN: &str = r##"version = 1
default_action = "drop"                  # required: what no rule admits, "drop" or "return"

[[rule]]
name = "contribution"
protocol = "srt"                         # rtp | rtp-fec | rist | srt | ts-udp | rtmp | any
source = ["203.0.113.0/24", "2001:db8::/32"]
destination = ["10.0.1.10"]
destination_port = [5000, "6000-6010"]
endpoint = []                            # GWLB endpoint ids; empty = any

reorder_window = "auto"
enforce = true                           # false: judge and tell, drop and block nothing (shadow roll-out)
expected = true                          # with silence: a stream that stops or never starts is a finding
silence = "2s"
on_failure = "return"                    # overrides --on-failure for this rule

[rule.srt]
stream_id = ["#!::r=live/*"]             # globs; a handshake with another id is dropped
encryption = "required"                  # required | optional | forbidden
passphrase_file = { "#!::r=live/ch1" = "/etc/tidegate/ch1" }   # or one path for all; judge the decrypted TS
on_unverified = "return"                 # a session joined without its handshake

[rule.rtp]
payload_type = [33]                      # binds media packets; FEC, RTCP and RIST companions are admitted with them
max_ssrc = 1

[rule.rtmp]
application = ["live"]
stream_key_file = "/etc/tidegate/keys"   # globs, one a line

[rule.ts]                                # limits: "more than N incidents within a sliding window"; on_exceed: alert | block
continuity = { max_incidents = 5, window = "1s", on_exceed = "alert", hold = "10s", ignore_pids = [] }
network_loss = { max_packets = 100, window = "1s", on_exceed = "alert" }
tr101290 = { priority = 2, window = "1s", on_exceed = "alert" }
malformed_ts = "alert"                   # alert | drop
stream_types = { allowed = ["h264", "aac"], on_exceed = "alert" }
bitrate = { max = "25Mbps", window = "1s", on_exceed = "alert" }
"##;

/// The design's policy without the lines that begin with one of these words and, for a header, what stands below it.
pub(super) fn design_without(words: &[&str]) -> String {
    let mut skipping = false;
    let mut kept = String::new();
    for line in DESIGN.lines() {
        let unwanted = words.iter().any(|word| line.starts_with(word));
        if line.starts_with('[') || line.is_empty() {
            skipping = unwanted;
        }
        if !skipping && !unwanted {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

/// The design's policy for the protocol that it names: it shows every section in one rule, and two of them are for others.
pub(super) fn design_for_srt() -> String {
    design_without(&["[rule.rtp]", "[rule.rtmp]"])
}

/// A rule that says no more than it must.
pub(super) fn plain_rule(protocol: Protocol, sources: Vec<IpNet>) -> Rule {
    Rule {
        name: "plain".to_owned(),
        protocol,
        sources,
        destinations: Vec::new(),
        ports: PortSet::default(),
        endpoints: Vec::new(),
        reorder_window: None,
        enforce: true,
        expected: false,
        silence: None,
        raise_after: RAISE_AFTER,
        clear_after: CLEAR_AFTER,
        on_failure: None,
        srt: SrtRule::default(),
        rtp: RtpRule::default(),
        rtmp: RtmpRule::default(),
        ts: Arc::default(),
    }
}

/// A tuple of texts, without an endpoint.
pub(super) fn tuple(protocol: u8, source: &str, destination: &str) -> Tuple {
    let socket = |text: &str| text.parse::<SocketAddr>().unwrap();
    Tuple {
        endpoint: None,
        protocol,
        source: socket(source),
        destination: socket(destination),
    }
}

/// Nested and neighbouring prefixes of both families.
const PREFIXES: [&str; 13] = [
    "0.0.0.0/0",
    "10.0.0.0/8",
    "10.1.0.0/16",
    "10.1.2.0/24",
    "10.1.2.128/25",
    "10.1.2.0/25",
    "10.1.2.3/32",
    "192.0.2.0/24",
    "::/0",
    "2001:db8::/32",
    "2001:db8:1::/48",
    "2001:db8:1::7/128",
    "fd00::/8",
];

/// Addresses inside and just outside of `PREFIXES`.
pub(super) const ADDRESSES: [&str; 12] = [
    "10.1.2.3",
    "10.1.2.4",
    "10.1.2.200",
    "10.1.3.1",
    "10.2.0.1",
    "11.0.0.1",
    "192.0.2.9",
    "2001:db8:1::7",
    "2001:db8:1::8",
    "2001:db8:2::1",
    "2001:db9::1",
    "fd00::1",
];

fn any_prefixes(len: std::ops::Range<usize>) -> impl Strategy<Value = Vec<IpNet>> {
    prop::collection::vec(
        prop::sample::select(&PREFIXES[..]).prop_map(|text| text.parse().unwrap()),
        len,
    )
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let action = prop::option::of(prop::sample::select(vec![
        FailureAction::Return,
        FailureAction::Drop,
        FailureAction::Pass,
    ]));
    let ports = prop::collection::vec((4998u16..5008, 0u16..3), 0..3);
    (
        prop::sample::select(&Protocol::ALL[..]),
        any_prefixes(1..4),
        any_prefixes(0..3),
        ports,
        prop::collection::btree_set(1u64..4, 0..3),
        action,
    )
        .prop_map(|(protocol, sources, destinations, ports, endpoints, on_failure)| Rule {
            destinations,
            ports: PortSet::new(ports.into_iter().map(|(low, more)| (low, low + more))),
            endpoints: endpoints.into_iter().collect(),
            on_failure,
            ..plain_rule(protocol, sources)
        })
}

/// Rules that overlap a lot.
pub(super) fn any_rules() -> impl Strategy<Value = Vec<Rule>> {
    prop::collection::vec(any_rule(), 0..10)
}

/// Tuples that such rules are likely to take.
pub(super) fn any_tuple() -> impl Strategy<Value = Tuple> {
    let address = || prop::sample::select(&ADDRESSES[..]).prop_map(|text| text.parse::<IpAddr>().unwrap());
    let port = || prop_oneof![9 => 4996u16..5016, 1 => Just(0u16)];
    let protocol = prop_oneof![6 => Just(17u8), 2 => Just(6u8), 1 => Just(1u8)];
    (
        prop::option::of(1u64..4),
        protocol,
        address(),
        port(),
        address(),
        port(),
    )
        .prop_map(
            |(endpoint, protocol, source, source_port, destination, destination_port)| Tuple {
                endpoint,
                protocol,
                source: SocketAddr::new(source, source_port),
                destination: SocketAddr::new(destination, destination_port),
            },
        )
}
