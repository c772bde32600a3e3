//! The scenarios: what is measured, under which name, with which traffic.

/// What stands in the appliance's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// An XDP program that drops everything: what arrives at most.
    XdpDrop,
    /// An XDP program that sends everything back: what the link takes at most.
    XdpTx,
    /// A bare AF_XDP forwarder: what the framework allows at most.
    Forward,
    /// The kernel's own forwarding with two NAT rules.
    Iptables,
    /// Tidegate with a rule that takes any protocol and looks at none.
    Any,
    /// Tidegate with everything it can inspect in RTP and MPEG-TS.
    Inspect,
    /// The same beside a flood that no rule lists.
    Flood,
}

/// A scenario by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// Its name in table and JSON, and on the command line; never renamed.
    pub name: &'static str,
    /// What is measured.
    pub subject: Subject,
    /// How many streams the generator makes.
    pub streams: u32,
    /// What it is, for people.
    pub what: &'static str,
}

/// The streams of every scenario that is not about their number.
const STREAMS: u32 = 50;

const fn scenario(name: &'static str, subject: Subject, streams: u32, what: &'static str) -> Scenario {
    Scenario {
        name,
        subject,
        streams,
        what,
    }
}

/// All of them. The bare forward stands between the two that it is compared with, so that each pair is measured back to
/// back.
pub const SCENARIOS: &[Scenario] = &[
    scenario(
        "xdp-drop",
        Subject::XdpDrop,
        STREAMS,
        "XDP drops every packet: what the generator can bring",
    ),
    scenario(
        "xdp-tx",
        Subject::XdpTx,
        STREAMS,
        "XDP sends every packet back: what the link can carry",
    ),
    scenario(
        "iptables",
        Subject::Iptables,
        STREAMS,
        "the kernel's hairpin of two NAT rules, inspecting nothing",
    ),
    scenario(
        "any",
        Subject::Any,
        STREAMS,
        "Tidegate, sources admitted, payload not read",
    ),
    scenario("inspect-1", Subject::Inspect, 1, "Tidegate, everything inspected"),
    scenario("inspect-10", Subject::Inspect, 10, "Tidegate, everything inspected"),
    scenario("inspect-50", Subject::Inspect, 50, "Tidegate, everything inspected"),
    scenario(
        "afxdp-forward",
        Subject::Forward,
        STREAMS,
        "bare AF_XDP: what the framework allows",
    ),
    scenario(
        "inspect-10000",
        Subject::Inspect,
        10_000,
        "Tidegate, everything inspected",
    ),
    scenario("inspect-1000", Subject::Inspect, 1000, "Tidegate, everything inspected"),
    scenario(
        "flood-50",
        Subject::Flood,
        STREAMS,
        "Tidegate, half load beside unlisted sources flat out",
    ),
];

/// In which order they are reported, whatever the order in which they are measured.
pub const REPORTED: &[&str] = &[
    "xdp-drop",
    "xdp-tx",
    "afxdp-forward",
    "iptables",
    "any",
    "inspect-1",
    "inspect-10",
    "inspect-50",
    "inspect-1000",
    "inspect-10000",
    "flood-50",
];

/// The yardstick of the pairs.
pub const BASE: &str = "afxdp-forward";
/// What is compared with it, and the least ratio that is wanted.
pub const PAIRS: &[(&str, f64)] = &[("inspect-50", 0.90), ("inspect-10000", 0.80)];

impl Scenario {
    /// Finds a scenario.
    pub fn named(name: &str) -> Option<Scenario> {
        SCENARIOS.iter().copied().find(|scenario| scenario.name == name)
    }

    /// Whether packets come back: all but the one that drops them.
    pub fn returns(&self) -> bool {
        self.subject != Subject::XdpDrop
    }

    /// Whether it is Tidegate.
    pub fn is_tidegate(&self) -> bool {
        matches!(self.subject, Subject::Any | Subject::Inspect | Subject::Flood)
    }

    /// Whether it is measured in the ordinary rounds; the flood has an order of its own.
    pub fn is_ordinary(&self) -> bool {
        self.subject != Subject::Flood
    }
}

/// A policy that lists the streams' sources, made into the policy of a scenario: everything that can be inspected is
/// inspected, and the rule lists further prefixes that nobody sends from, until it lists `prefixes`.
pub fn extend_policy(policy: &str, subject: Subject, prefixes: u32) -> String {
    let listed = policy
        .lines()
        .find(|line| line.starts_with("source"))
        .map_or(0, |line| line.matches('/').count());
    let lacking = prefixes.saturating_sub(u32::try_from(listed).unwrap_or(u32::MAX));
    let decoys: String = (0..lacking).map(|number| format!("{:?}, ", decoy(number))).collect();
    let mut text = policy.replacen("source = [", &format!("source = [{decoys}"), 1);
    if subject != Subject::Any {
        // Everything on, nothing that blocks: a blocked stream would be cheap to carry.
        text.push_str(
            "\n[rule.ts]\n\
             continuity = { max_incidents = 5, window = \"1s\", on_exceed = \"alert\" }\n\
             network_loss = { max_packets = 100, window = \"1s\", on_exceed = \"alert\" }\n\
             tr101290 = { priority = 2, window = \"1s\", on_exceed = \"alert\" }\n\
             malformed_ts = \"alert\"\n",
        );
    }
    text
}

/// The `number`th /24 of 100.64.0.0/10, which the generator never sends from; there are 16,384.
fn decoy(number: u32) -> String {
    const BASE: u32 = 0x6440_0000;
    format!("{}/24", std::net::Ipv4Addr::from(BASE | (number & 0x3fff) << 8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_promised() {
        let mut names: Vec<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        names.sort_unstable();
        let mut promised = REPORTED.to_vec();
        promised.sort_unstable();
        assert_eq!(names, promised);
        assert!(PAIRS.iter().all(|(name, _)| Scenario::named(name).is_some()) && Scenario::named(BASE).is_some());
    }

    #[test]
    fn each_pair_stands_beside_its_base() {
        let place = |name: &str| SCENARIOS.iter().position(|scenario| scenario.name == name).unwrap();
        for (name, _) in PAIRS {
            assert_eq!(place(name).abs_diff(place(BASE)), 1, "{name}");
        }
    }

    #[test]
    fn decoys_are_distinct_networks() {
        let mut decoys: Vec<String> = (0..10_000).map(decoy).collect();
        assert_eq!(
            (decoys[0].as_str(), decoys[9999].as_str()),
            ("100.64.0.0/24", "100.103.15.0/24")
        );
        decoys.sort_unstable();
        decoys.dedup();
        assert_eq!(decoys.len(), 10_000);
    }

    #[test]
    fn a_policy_lists_as_many_prefixes_as_are_wanted() {
        let plain = "version = 1\n\n[[rule]]\nsource = [\"10.64.0.0/27\", \"10.64.0.32/31\"]\n";
        let text = extend_policy(plain, Subject::Flood, 4);
        let sources = "[\"100.64.0.0/24\", \"100.64.1.0/24\", \"10.64.0.0/27\", \"10.64.0.32/31\"]";
        assert!(text.contains(sources) && text.contains("tr101290"), "{text}");
        assert_eq!(extend_policy(plain, Subject::Any, 2), plain);
    }
}
