//! Policies: any text, and what is asked of those that are valid.

use tidegate::policy;
use tidegate_common::flow::Tuple;
use zeroize::Zeroizing;

/// Reads the input as a policy.
pub fn run(data: &[u8]) {
    let read = match policy::parse_bytes("fuzz.toml", data) {
        Ok(read) => read,
        Err(errors) => {
            assert!(!errors.to_string().is_empty(), "an error says what is wrong");
            return;
        }
    };
    assert!(read.rules().len() <= policy::MAX_RULES);
    assert!(!read.describe().to_string().is_empty());
    let _ = read.kernel_prefixes();
    for rule in read.rules() {
        let Some(source) = rule.sources.first() else {
            panic!("a rule without sources")
        };
        let port = rule.ports.ranges().first().map_or(1, |(low, _)| *low);
        let destination = rule.destinations.first().map_or(source.addr(), |to| to.addr());
        let tuple = Tuple {
            endpoint: rule.endpoints.first().copied(),
            protocol: if rule.protocol == policy::Protocol::Rtmp { 6 } else { 17 },
            source: (source.addr(), 40_000).into(),
            destination: (destination, port).into(),
        };
        assert!(read.source_listed(tuple.source.ip()));
        assert!(
            rule.destinations.is_empty() && source.addr() != destination || read.match_forward(&tuple).is_some(),
            "what a rule lists is admitted, by it or by one before it"
        );
        let _ = read.match_reverse(&tuple.reversed());
    }
    let _ = read.with_secrets(&mut |_| Ok(Zeroizing::new(data.to_vec())));
}

/// A policy with a rule of each protocol, its secrets as a file, and the shortest one.
pub fn seeds() -> Vec<Vec<u8>> {
    vec![
        super::engine::POLICY.as_bytes().to_vec(),
        b"version = 1\ndefault_action = \"return\"\n".to_vec(),
        b"version = 1\ndefault_action = \"drop\"\n[[rule]]\nname = \"a\"\nprotocol = \"any\"\nsource = [\"::/0\"]\n"
            .to_vec(),
    ]
}
