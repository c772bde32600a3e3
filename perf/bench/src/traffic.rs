//! Traffic as the scenarios wish for it: streams that a rule lists, sources that none lists, a rate. The load generator's
//! crate makes it and checks what comes back; this file is the only one that knows how to ask for it.

use anyhow::{Context as _, Result, ensure};
use tidegate_lab::{MacAddr, Namespace};
use tidegate_load::{self as load, Generator, Lane, Load, Part, PeerProgram, Unlisted};

use crate::scenario::{Scenario, Subject};
use crate::stage::{APPLIANCE_IP, APPLIANCE_MAC, GENERATOR_CORE, LB_IP, LB_MAC, lb_interface};

/// Streams of a wish that says nothing of them.
const STREAMS: u32 = 50;
/// Ethernet, outer IPv4 and UDP, GENEVE with the load balancer's options, inner IPv4 and UDP, RTP.
const HEADERS: u32 = 14 + 20 + 8 + 8 + 32 + 20 + 8 + 12;
/// Bytes of a TS packet.
const TS_PACKET: u32 = 188;

/// How packets are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum GeneratorKind {
    /// By an XDP program in the kernel: millions a second
    Kernel,
    /// By an AF_XDP socket: 0.5 to 1 million a second
    AfXdp,
}

impl GeneratorKind {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            GeneratorKind::Kernel => "kernel",
            GeneratorKind::AfXdp => "af-xdp",
        }
    }
}

/// How fast.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// As fast as one core makes them.
    FlatOut,
    /// Evenly spaced.
    PacketsPerSecond(f64),
}

impl From<Rate> for load::Rate {
    fn from(rate: Rate) -> load::Rate {
        match rate {
            Rate::FlatOut => load::Rate::FlatOut,
            Rate::PacketsPerSecond(rate) => load::Rate::PacketsPerSecond(rate),
        }
    }
}

/// What shall be sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Wish {
    /// Streams from sources that the policy lists.
    pub streams: u32,
    /// Whether they send; if not, unlisted sources send alone.
    pub listed: bool,
    /// Packets of unlisted sources after each one of a listed stream.
    pub unlisted_each: u32,
    /// All packets together.
    pub rate: Rate,
}

impl Default for Wish {
    fn default() -> Self {
        Wish {
            streams: STREAMS,
            listed: true,
            unlisted_each: 0,
            rate: Rate::FlatOut,
        }
    }
}

impl Wish {
    /// A scenario's streams at a rate.
    pub fn of(scenario: &Scenario, rate: Rate) -> Wish {
        Wish {
            streams: scenario.streams,
            rate,
            ..Wish::default()
        }
    }

    /// Whether unlisted sources send.
    pub fn floods(&self) -> bool {
        self.unlisted_each > 0 || !self.listed
    }

    /// Bytes of a frame from its Ethernet header to its last byte, the check sequence not counted.
    pub fn frame_bytes(&self) -> u32 {
        HEADERS + TS_PACKET * self.load(GeneratorKind::Kernel).ts_packets
    }

    /// The policy that lists the streams, reads their payload if the subject does, and lists further prefixes until there are
    /// `prefixes` in all.
    pub fn policy(&self, subject: Subject, prefixes: u32) -> String {
        let text = load::policy_toml(&self.load(GeneratorKind::Kernel), subject == Subject::Any);
        crate::scenario::extend_policy(&text, subject, prefixes)
    }

    /// Begins to send from the load balancer's interface, at `begin` packets a second until [`Running::set_rate`], or at the
    /// wanted rate.
    ///
    /// # Errors
    /// What the generator says.
    pub fn start(&self, lb: &Namespace, kind: GeneratorKind, begin: Option<f64>) -> Result<Running> {
        let load = Load {
            begin_rate: begin,
            ..self.load(kind)
        };
        let lane = lane();
        let generator = lb.run_in(|| Generator::start(&lane, &load))?;
        Ok(Running(generator.context("cannot start the generator")?))
    }

    fn load(&self, kind: GeneratorKind) -> Load {
        Load {
            streams: self.streams,
            unlisted: match (self.listed, self.unlisted_each) {
                (false, _) => Unlisted::Alone,
                (true, 0) => Unlisted::None,
                (true, per_listed) => Unlisted::Beside { per_listed },
            },
            rate: self.rate.into(),
            generator: match kind {
                GeneratorKind::Kernel => load::GeneratorKind::Kernel,
                GeneratorKind::AfXdp => load::GeneratorKind::AfXdp,
            },
            ..Load::default()
        }
    }
}

fn lane() -> Lane {
    let MacAddr(local_mac) = LB_MAC;
    let MacAddr(peer_mac) = APPLIANCE_MAC;
    Lane {
        interface: lb_interface(),
        local_mac,
        peer_mac,
        local_ip: LB_IP,
        peer_ip: APPLIANCE_IP,
        core: GENERATOR_CORE,
    }
}

/// What was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Packets of listed streams.
    pub listed: u64,
    /// Packets of unlisted sources.
    pub unlisted: u64,
    /// Of both: what the link refused before it reached the appliance's interface.
    pub not_delivered: u64,
    /// What the appliance sent back and the link refused.
    pub not_collected: u64,
    /// Packets that were due and not sent, for the generator was held up.
    pub left_out: u64,
}

impl Sent {
    /// What was sent since an earlier look.
    #[must_use]
    pub fn since(&self, earlier: &Sent) -> Sent {
        Sent {
            listed: self.listed.saturating_sub(earlier.listed),
            unlisted: self.unlisted.saturating_sub(earlier.unlisted),
            not_delivered: self.not_delivered.saturating_sub(earlier.not_delivered),
            not_collected: self.not_collected.saturating_sub(earlier.not_collected),
            left_out: self.left_out.saturating_sub(earlier.left_out),
        }
    }

    /// Share of what was due that was not sent.
    pub fn left_out_share(&self) -> f64 {
        let due = self.listed + self.unlisted + self.left_out;
        if due == 0 {
            0.0
        } else {
            self.left_out as f64 / due as f64
        }
    }

    /// What the link refused on either way.
    pub fn link_lost(&self) -> u64 {
        self.not_delivered + self.not_collected
    }
}

impl From<load::Sent> for Sent {
    fn from(sent: load::Sent) -> Sent {
        Sent {
            listed: sent.listed,
            unlisted: sent.unlisted,
            not_delivered: sent.not_delivered,
            not_collected: sent.not_collected,
            left_out: sent.left_out,
        }
    }
}

/// A generator at work; stops when dropped.
pub struct Running(load::Running);

impl Running {
    /// What was sent so far.
    ///
    /// # Errors
    /// State that cannot be read.
    pub fn sent(&self) -> Result<Sent> {
        Ok(self.0.sent()?.into())
    }

    /// Sends nothing until [`Running::set_rate`]. On return what was sent is final, though not all of it may be back.
    ///
    /// # Errors
    /// What the generator says.
    pub fn hold(&self) -> Result<()> {
        self.0.hold().context("cannot hold the generator")
    }

    /// Goes on at this rate, with a schedule that begins now.
    ///
    /// # Errors
    /// What the generator says.
    pub fn set_rate(&self, rate: Rate) -> Result<()> {
        self.0
            .set_rate(rate.into())
            .context("cannot change the generator's rate")
    }

    /// Stops and returns what was sent in all.
    ///
    /// # Errors
    /// Why the generator failed, also if it ended before it should.
    pub fn stop(self) -> Result<Sent> {
        let early = self.0.is_finished();
        let sent = self.0.stop().context("the generator failed")?;
        ensure!(!early, "the generator ended before it should");
        Ok(sent.into())
    }
}

/// What the collector counted since it was attached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// GENEVE packets.
    pub packets: u64,
    /// Of them: of listed streams.
    pub listed: u64,
    /// Of them: of unlisted sources.
    pub unlisted: u64,
    /// Altered packets.
    pub altered: u64,
    /// Packets that came twice.
    pub duplicated: u64,
    /// Packets behind a later one of their stream.
    pub reordered: u64,
    /// Altered packets by what was altered.
    parts: Vec<(&'static str, u64)>,
    /// Round trips in nanoseconds and how many there were of each, rising.
    round_trips: RoundTripCounts,
}

/// Round trips in nanoseconds and how many there were of each, rising; none of them is 0.
pub type RoundTripCounts = Vec<(u64, u64)>;

impl Tally {
    /// What came since an earlier look.
    #[must_use]
    pub fn since(&self, earlier: &Tally) -> Tally {
        Tally {
            packets: self.packets.saturating_sub(earlier.packets),
            listed: self.listed.saturating_sub(earlier.listed),
            unlisted: self.unlisted.saturating_sub(earlier.unlisted),
            altered: self.altered.saturating_sub(earlier.altered),
            duplicated: self.duplicated.saturating_sub(earlier.duplicated),
            reordered: self.reordered.saturating_sub(earlier.reordered),
            parts: self.parts.clone(),
            round_trips: less(&self.round_trips, &earlier.round_trips),
        }
    }

    /// The round trips.
    pub fn round_trips(self) -> RoundTripCounts {
        self.round_trips
    }

    /// What was altered, for messages.
    pub fn alterations(&self) -> String {
        let altered = self.parts.iter().filter(|(_, count)| *count > 0);
        altered
            .map(|(part, count)| format!("{part} {count}"))
            .collect::<Vec<_>>()
            .join(", ")
    }
}

/// Two rising rows of counts, the second taken off the first.
fn less(now: &[(u64, u64)], then: &[(u64, u64)]) -> RoundTripCounts {
    let mut earlier = then.iter().copied().peekable();
    let mut rest = Vec::new();
    for (nanos, count) in now.iter().copied() {
        while earlier.next_if(|(before, _)| *before < nanos).is_some() {}
        let had = earlier
            .next_if(|(before, _)| *before == nanos)
            .map_or(0, |(_, count)| count);
        if count > had {
            rest.push((nanos, count - had));
        }
    }
    rest
}

impl From<load::Received> for Tally {
    fn from(received: load::Received) -> Tally {
        let mut below = 0;
        let round_trips = received.latency.distribution().map(|(nanos, reached)| {
            let count = reached - below;
            below = reached;
            (nanos, count)
        });
        Tally {
            round_trips: round_trips.collect(),
            packets: received.packets,
            listed: received.listed,
            unlisted: received.unlisted,
            altered: received.altered,
            duplicated: received.duplicated,
            reordered: received.reordered,
            parts: Part::ALL
                .iter()
                .map(|part| (part.name(), received.altered_part(*part)))
                .collect(),
        }
    }
}

/// The collector on the load balancer's interface; gone when dropped.
pub struct Collector(load::Collector);

impl Collector {
    /// Attaches it, to check what comes back of a wish.
    ///
    /// # Errors
    /// What the collector says.
    pub fn attach(lb: &Namespace, wish: &Wish) -> Result<Collector> {
        let (lane, load) = (lane(), wish.load(GeneratorKind::Kernel));
        let collector = lb.run_in(|| load::Collector::attach(&lane, &load))?;
        Ok(Collector(collector.context("cannot attach the collector")?))
    }

    /// What it counted so far.
    ///
    /// # Errors
    /// A map that cannot be read.
    pub fn read(&self) -> Result<Tally> {
        Ok(self.0.read()?.into())
    }
}

/// An XDP program of the lab in the appliance's place; gone when dropped.
pub struct Program(#[expect(dead_code, reason = "holds the attachment")] load::Peer);

impl Program {
    /// Drops every packet.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn drop_all(namespace: &Namespace, interface: &str) -> Result<Program> {
        Program::attach(namespace, interface, PeerProgram::Drop)
    }

    /// Sends every packet back.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn reflect(namespace: &Namespace, interface: &str) -> Result<Program> {
        Program::attach(namespace, interface, PeerProgram::Reflect)
    }

    fn attach(namespace: &Namespace, interface: &str, program: PeerProgram) -> Result<Program> {
        let peer = namespace.run_in(|| load::Peer::attach(interface, program))?;
        Ok(Program(peer.context("cannot attach the lab's program")?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_taken_off_each_other() {
        let now = [(10, 5), (20, 7), (40, 1)];
        assert_eq!(less(&now, &[]), now);
        assert_eq!(less(&now, &[(10, 5), (20, 4)]), [(20, 3), (40, 1)]);
        assert_eq!(less(&now, &now), []);
    }

    #[test]
    fn what_is_left_out_is_a_share_of_what_was_due() {
        let sent = |listed, left_out| Sent {
            listed,
            left_out,
            ..Sent::default()
        };
        assert_eq!(sent(60, 20).since(&sent(0, 0)).left_out_share(), 0.25);
        assert_eq!(sent(60, 20).since(&sent(30, 20)).left_out_share(), 0.0);
        assert_eq!(Sent::default().left_out_share(), 0.0);
    }

    #[test]
    fn a_frame_is_as_large_as_a_load_balancers() {
        // 1,316 bytes of TS in RTP in IPv4, behind 14 + 68 bytes of the load balancer's.
        assert_eq!(Wish::default().frame_bytes(), 1316 + 12 + 28 + 68 + 14);
    }

    #[test]
    fn wishes_become_loads() {
        let flood = Wish {
            listed: false,
            unlisted_each: 1,
            ..Wish::default()
        };
        assert_eq!(flood.load(GeneratorKind::Kernel).unlisted, Unlisted::Alone);
        assert!(flood.floods() && !Wish::default().floods());
        let beside = Wish {
            unlisted_each: 3,
            ..Wish::default()
        };
        assert_eq!(
            beside.load(GeneratorKind::Kernel).unlisted,
            Unlisted::Beside { per_listed: 3 }
        );
    }
}
