//! What the simulator is told: endpoints, targets, stickiness, health checks, impairment, bounds.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Which of the two TUN devices a packet came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// From the source's network to the sink's.
    Forward,
    /// From the sink's network to the source's.
    Reverse,
}

impl Direction {
    /// Both, in the order of [`Direction::index`].
    pub const ALL: [Direction; 2] = [Direction::Forward, Direction::Reverse];

    /// 0 for forward, 1 for reverse.
    pub const fn index(self) -> usize {
        match self {
            Direction::Forward => 0,
            Direction::Reverse => 1,
        }
    }
}

/// What keeps packets on one target (GWLB's target group attribute `stickiness.type`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Stickiness {
    /// Addresses, protocol and ports: the default of GWLB.
    #[default]
    #[value(name = "5-tuple")]
    FiveTuple,
    /// Addresses and protocol.
    #[value(name = "3-tuple")]
    ThreeTuple,
    /// Addresses.
    #[value(name = "2-tuple")]
    TwoTuple,
}

/// One appliance. As text: `if=IFACE,local=IP,ip=IP,mac=MAC`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetConfig {
    /// The interface of the link to it, which no other target may share.
    pub interface: String,
    /// Our address on that link, the outer source.
    pub local_ip: Ipv4Addr,
    /// The appliance's address, the outer destination.
    pub ip: Ipv4Addr,
    /// The appliance's Ethernet address.
    pub mac: [u8; 6],
}

impl FromStr for TargetConfig {
    type Err = Error;

    fn from_str(text: &str) -> Result<TargetConfig> {
        let bad = |what: &str| Error::Config(format!("target `{text}`: {what}; want if=IFACE,local=IP,ip=IP,mac=MAC"));
        let (mut interface, mut local_ip, mut ip, mut mac) = (None, None, None, None);
        for part in text.split(',') {
            let (key, value) = part.split_once('=').ok_or_else(|| bad("a part without `=`"))?;
            match key {
                "if" => interface = Some(value.to_owned()),
                "local" => local_ip = Some(value.parse().map_err(|_| bad("bad `local` address"))?),
                "ip" => ip = Some(value.parse().map_err(|_| bad("bad `ip` address"))?),
                "mac" => mac = Some(parse_mac(value).ok_or_else(|| bad("bad `mac`"))?),
                _ => return Err(bad("unknown key")),
            }
        }
        let interface = interface
            .filter(|name| !name.is_empty())
            .ok_or_else(|| bad("no `if`"))?;
        Ok(TargetConfig {
            interface,
            local_ip: local_ip.ok_or_else(|| bad("no `local`"))?,
            ip: ip.ok_or_else(|| bad("no `ip`"))?,
            mac: mac.ok_or_else(|| bad("no `mac`"))?,
        })
    }
}

fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let bytes: Vec<u8> = text
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16).ok())
        .collect::<Option<_>>()?;
    bytes.try_into().ok()
}

/// Health checks as GWLB makes them: HTTP GET, a status from 200 to 399 passes.
#[derive(Clone, Debug)]
pub struct HealthConfig {
    /// Port of the check; GWLB's default is 80.
    pub port: u16,
    /// Path of the check.
    pub path: String,
    /// Time from one check to the next; GWLB allows 5 to 300 s, tests need less.
    pub interval: Duration,
    /// How long a check may take as a whole.
    pub timeout: Duration,
    /// Checks in a row that must pass before an unhealthy target is healthy again.
    pub healthy_threshold: u32,
    /// Checks in a row that must fail before a target is unhealthy.
    pub unhealthy_threshold: u32,
}

impl Default for HealthConfig {
    fn default() -> Self {
        HealthConfig {
            port: 80,
            path: "/health".to_owned(),
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(5),
            healthy_threshold: 5,
            unhealthy_threshold: 2,
        }
    }
}

/// A lossy network before the load balancer. Percentages are of the packets that reach it.
#[derive(Clone, Debug, PartialEq)]
pub struct ImpairConfig {
    /// Packets dropped, percent.
    pub loss: f64,
    /// Packets held back until later ones of their flow have overtaken them, percent.
    pub reorder: f64,
    /// How many later packets overtake a held one.
    pub reorder_gap: u32,
    /// Packets sent twice, percent.
    pub duplicate: f64,
    /// Added to every packet.
    pub delay: Duration,
    /// The same seed gives a flow the same fate, packet by packet.
    pub seed: u64,
    /// Directions it applies to.
    pub directions: Vec<Direction>,
    /// Inner ports (source or destination) it applies to; empty: all packets.
    pub ports: Vec<u16>,
}

impl Default for ImpairConfig {
    fn default() -> Self {
        ImpairConfig {
            loss: 0.0,
            reorder: 0.0,
            reorder_gap: 1,
            duplicate: 0.0,
            delay: Duration::ZERO,
            seed: 1,
            directions: vec![Direction::Forward],
            ports: Vec::new(),
        }
    }
}

/// Everything the simulator is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// TUN devices by direction: packets are read from it, and written back to it when they have returned.
    pub tun: [String; 2],
    /// GWLB endpoint id by direction (GENEVE option type 1).
    pub endpoint: [u64; 2],
    /// Attachment id (GENEVE option type 2).
    pub attachment: u64,
    /// The appliances, at least one.
    pub targets: Vec<TargetConfig>,
    /// What keeps packets on one target.
    pub stickiness: Stickiness,
    /// Whether flows leave a target that turned unhealthy; GWLB's default is that they stay.
    pub rebalance: bool,
    /// Health checks; none: every target is taken for healthy.
    pub health: Option<HealthConfig>,
    /// A lossy network in front.
    pub impair: ImpairConfig,
    /// Leave the outer UDP checksum at zero, which GENEVE over IPv4 allows.
    pub zero_udp_checksum: bool,
    /// After this time without return a packet is missing.
    pub return_timeout: Duration,
    /// Flows kept at most; packets of further flows are counted and dropped.
    pub max_flows: usize,
    /// Capture of the frames sent.
    pub pcap: Option<PathBuf>,
    /// Frames written to the capture at most.
    pub pcap_limit: u64,
    /// How often a report is handed out while running; none: only at the end.
    pub interval: Option<Duration>,
}

impl Config {
    /// The defaults of GWLB for these devices and targets, without health checks.
    pub fn new(tun_forward: &str, tun_reverse: &str, targets: Vec<TargetConfig>) -> Config {
        Config {
            tun: [tun_forward.to_owned(), tun_reverse.to_owned()],
            endpoint: [0x0a00_0000_0000_0001, 0x0a00_0000_0000_0002],
            attachment: 0x0b00_0000_0000_0001,
            targets,
            stickiness: Stickiness::default(),
            rebalance: false,
            health: None,
            impair: ImpairConfig::default(),
            zero_udp_checksum: false,
            return_timeout: Duration::from_secs(1),
            max_flows: 4096,
            pcap: None,
            pcap_limit: 100_000,
            interval: None,
        }
    }

    /// Checks what the types cannot say.
    ///
    /// # Errors
    /// [`Error::Config`] with the first contradiction.
    pub fn validate(&self) -> Result<()> {
        let fail = |text: String| Err(Error::Config(text));
        if self.targets.is_empty() {
            return fail("at least one target is needed".to_owned());
        }
        for (index, target) in self.targets.iter().enumerate() {
            if self
                .targets
                .iter()
                .take(index)
                .any(|other| other.interface == target.interface)
            {
                return fail(format!("two targets share the interface {}", target.interface));
            }
        }
        let impair = &self.impair;
        for (name, percent) in [
            ("loss", impair.loss),
            ("reorder", impair.reorder),
            ("duplicate", impair.duplicate),
        ] {
            if !(0.0..=100.0).contains(&percent) {
                return fail(format!("{name} {percent} is not a percentage"));
            }
        }
        if impair.reorder > 0.0 && impair.reorder_gap == 0 {
            return fail("a reorder gap of 0 reorders nothing".to_owned());
        }
        if let Some(health) = &self.health
            && (health.healthy_threshold == 0 || health.unhealthy_threshold == 0 || health.interval.is_zero())
        {
            return fail("health thresholds and interval must be at least 1".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> Result<TargetConfig> {
        text.parse()
    }

    #[test]
    fn targets_parse_and_say_what_is_wrong() {
        let parsed = target("if=app0,local=10.254.0.1,ip=10.254.0.2,mac=02:74:67:00:30:02").expect("target");
        assert_eq!(parsed.interface, "app0");
        assert_eq!(parsed.mac, [2, 0x74, 0x67, 0, 0x30, 2]);
        for (text, complaint) in [
            ("if=a,local=10.0.0.1,ip=10.0.0.2", "no `mac`"),
            ("if=a,local=10.0.0.1,ip=::1,mac=02:00:00:00:00:01", "bad `ip`"),
            ("if=a,colour=red", "unknown key"),
            ("app0", "without `=`"),
            ("if=,local=10.0.0.1,ip=10.0.0.2,mac=02:00:00:00:00:01", "no `if`"),
            ("if=a,local=10.0.0.1,ip=10.0.0.2,mac=02:00:00:00:01", "bad `mac`"),
        ] {
            let error = target(text).expect_err(text).to_string();
            assert!(error.contains(complaint), "{text}: {error}");
        }
    }

    #[test]
    fn contradictions_are_refused() {
        let one = target("if=app0,local=10.254.0.1,ip=10.254.0.2,mac=02:74:67:00:30:02").expect("target");
        let good = Config::new("f", "r", vec![one.clone()]);
        good.validate().expect("valid");
        assert!(
            Config {
                targets: Vec::new(),
                ..good.clone()
            }
            .validate()
            .is_err()
        );
        assert!(
            Config {
                targets: vec![one.clone(), one],
                ..good.clone()
            }
            .validate()
            .is_err()
        );
        let impair = ImpairConfig {
            loss: 100.5,
            ..ImpairConfig::default()
        };
        assert!(Config { impair, ..good.clone() }.validate().is_err());
        let health = HealthConfig {
            healthy_threshold: 0,
            ..HealthConfig::default()
        };
        assert!(
            Config {
                health: Some(health),
                ..good
            }
            .validate()
            .is_err()
        );
    }
}
