//! The policy that lists a load's streams and nothing else.

use std::net::Ipv4Addr;

use ipnet::Ipv4Subnets;

use crate::load::{Load, Protocol};

/// A policy with one rule: the load's protocol, from exactly the sources of its listed streams; all else is dropped. `any` in place of
/// the protocol admits the same packets without looking into them.
pub fn policy_toml(load: &Load, any: bool) -> String {
    let protocol = match (any, load.protocol) {
        (true, _) => "any",
        (false, Protocol::RtpTs) => "rtp",
        (false, Protocol::SrtTs) => "srt",
    };
    let first = load.source.to_bits();
    let last = first.saturating_add(load.streams.saturating_sub(1));
    let prefixes: Vec<String> = Ipv4Subnets::new(load.source, Ipv4Addr::from_bits(last), 0)
        .map(|prefix| format!("\"{prefix}\""))
        .collect();
    format!(
        "version = 1\ndefault_action = \"drop\"\n\n[[rule]]\nname = \"load\"\nprotocol = \"{protocol}\"\nsource = [{}]\n",
        prefixes.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_the_streams_are_listed() {
        let load = Load {
            streams: 50,
            ..Load::default()
        };
        let policy = policy_toml(&load, false);
        assert!(
            policy.contains("source = [\"10.64.0.0/27\", \"10.64.0.32/28\", \"10.64.0.48/31\"]"),
            "{policy}"
        );
        assert!(policy.contains("protocol = \"rtp\""));
    }
}
