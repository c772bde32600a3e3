//! A capture through the engine: every packet as the appliance would have received it, at the time of its capture.

use std::io::Read;
use std::time::Duration;

use tidegate_common::drop_reason::DropReason;

use super::How;
use super::extract::Evidence;
use crate::engine::expect::Expectations;
use crate::engine::report::{InputReport, PacketTotals};
use crate::engine::time::Timestamp;
use crate::engine::{self, Content, Engine, Published};
use crate::io::capture::{CaptureReader, Captured, LinkType};

/// Slots of the flow table that get time to pass per packet, beside the steps in which it passes for all of them.
const TICK_BUDGET: usize = 4;

/// In which steps time passes for every flow and for the streams that are waited for, in the capture's time. Live it passes
/// whether or not packets come, so here it must not depend on what else a capture holds.
const STEP: Duration = Duration::from_millis(100);
/// Such steps between one packet and the next (2000 s): longer than any flow is kept without a packet. What remains of a
/// longer gap, whose length is the capture's to claim, passes in as many parts as [`COARSE_STEPS`].
const FINE_STEPS: u32 = 20_000;
const COARSE_STEPS: u32 = 1000;

/// Packets looked at, and kept meanwhile, to tell whether a capture is of GENEVE; and their bytes.
const PACKETS_TO_TELL: usize = 10_000;
const BYTES_TO_TELL: usize = 32 << 20;

/// Judges a capture. Whatever was read before an error is in the report.
pub(super) fn inspect<R: Read>(
    mut reader: CaptureReader<R>,
    how: &How<'_>,
    evidence: Option<&mut Evidence>,
    report: &mut InputReport,
) -> anyhow::Result<()> {
    let mut inspection = Inspection::new(how, evidence);
    let mut outcome = Ok(());
    while let Some(next) = reader.next() {
        match next {
            Ok(captured) => inspection.packet(&captured)?,
            Err(error) => {
                outcome = Err(error.into());
                break;
            }
        }
    }
    let cut = inspection.cut;
    inspection.finish(report)?;
    if let (Ok(()), Some((first, count))) = (&outcome, cut) {
        anyhow::bail!("captured without their ends (snap length): {count} packets, the first is packet {first}");
    }
    outcome
}

/// A packet that waits until it is known what kind of capture it is from.
struct Early {
    timestamp: u64,
    link: LinkType,
    data: Vec<u8>,
}

/// Where a capture was made.
enum Place {
    /// Not known yet: no packet so far was GENEVE. Kept in memory, for a pipe cannot be read twice.
    Unknown(Vec<Early>, usize),
    /// Between load balancer and appliance: only GENEVE is for the appliance, all else was left to the kernel.
    Wrapped,
    /// Somewhere else: judged as if every packet had come wrapped.
    Bare,
}

struct Inspection<'p> {
    evidence: Option<&'p mut Evidence>,
    engine: Engine,
    published: Published<'p>,
    geneve_port: u16,
    place: Place,
    frame: Vec<u8>,
    /// Packets without IP, which no appliance is given.
    no_ip: u64,
    /// Number of the first packet that the capture cut, and how many it cut.
    cut: Option<(u64, u64)>,
    /// The streams that are waited for and the time until which all was let pass, from the first packet on.
    passing: Option<Passing>,
    /// The newest time of a packet.
    now: Timestamp,
}

/// How time passes.
struct Passing {
    /// The streams of rules that say `expected = true`.
    expectations: Expectations,
    /// The last step.
    until: Timestamp,
}

impl<'p> Inspection<'p> {
    fn new(how: &How<'p>, evidence: Option<&'p mut Evidence>) -> Self {
        let config = engine::Config {
            geneve_port: how.geneve_port,
            analyse: how.analyse,
            content: Content::Full,
            keep_gone: true,
            extract: evidence.is_some(),
            ..Default::default()
        };
        Inspection {
            evidence,
            engine: Engine::new(config),
            published: Published {
                policy: how.policy,
                generation: 1,
            },
            geneve_port: how.geneve_port,
            passing: None,
            place: Place::Unknown(Vec::new(), 0),
            frame: Vec::new(),
            no_ip: 0,
            cut: None,
            now: Timestamp::default(),
        }
    }

    fn packet(&mut self, captured: &Captured<'_>) -> anyhow::Result<()> {
        if captured.data.len() < captured.original_len as usize {
            let (first, count) = self.cut.unwrap_or((captured.number, 0));
            self.cut = Some((first, count + 1));
        }
        let &Captured {
            timestamp, link, data, ..
        } = captured;
        let Place::Unknown(early, bytes) = &mut self.place else {
            return self.judge(timestamp, link, data);
        };
        early.push(Early {
            timestamp,
            link,
            data: data.to_vec(),
        });
        *bytes += data.len();
        let enough = early.len() >= PACKETS_TO_TELL || *bytes >= BYTES_TO_TELL;
        if as_ethernet(link, data, &mut self.frame) && engine::is_geneve(&self.frame, self.geneve_port) {
            return self.decide(Place::Wrapped);
        }
        if enough {
            return self.decide(Place::Bare);
        }
        Ok(())
    }

    fn decide(&mut self, place: Place) -> anyhow::Result<()> {
        if let Place::Unknown(early, _) = core::mem::replace(&mut self.place, place) {
            for packet in early {
                self.judge(packet.timestamp, packet.link, &packet.data)?;
            }
        }
        Ok(())
    }

    fn judge(&mut self, timestamp: u64, link: LinkType, data: &[u8]) -> anyhow::Result<()> {
        let now = Timestamp::from_nanos(timestamp);
        // Before the packet counts: whoever was silent until now was missing, though it ends the silence itself.
        self.let_pass(now)?;
        self.now = self.now.max(now);
        if matches!(self.place, Place::Wrapped) {
            if as_ethernet(link, data, &mut self.frame) {
                self.engine.process(now, &self.published, &mut self.frame);
            } else {
                self.no_ip += 1;
            }
        } else {
            match link.ip_packet(data) {
                [] => self.no_ip += 1,
                packet => {
                    self.engine.process_bare(now, &self.published, packet);
                }
            }
        }
        self.engine.tick(now, TICK_BUDGET);
        self.collect()
    }

    /// Lets the time until `now` pass, in steps as it does live.
    fn let_pass(&mut self, now: Timestamp) -> anyhow::Result<()> {
        let rules = self.published.policy.rules();
        let passing = self.passing.get_or_insert_with(|| Passing {
            expectations: Expectations::new(rules, now),
            until: now,
        });
        let mut until = passing.until;
        let (mut step, mut steps) = (STEP, 0_u32);
        while now.since(until) >= step {
            // Where nobody is followed and everybody missing, nothing changes any more.
            until = match self.is_idle() {
                true => until.after(whole_steps(now.since(until), step)),
                false => until.after(step),
            };
            self.engine.tick(until, usize::MAX);
            self.collect()?;
            self.look_for_expected(until)?;
            steps += 1;
            if steps == FINE_STEPS {
                step = STEP.max(now.since(until) / COARSE_STEPS);
            }
        }
        if let Some(passing) = &mut self.passing {
            passing.until = until;
        }
        Ok(())
    }

    /// Whether the passing of time means nothing to anybody until the next packet comes.
    fn is_idle(&self) -> bool {
        let mut expected = self.passing.iter().flat_map(|passing| passing.expectations.iter());
        self.engine.counters().flows == 0 && expected.all(|(_, missing)| missing)
    }

    /// Looks for streams that are waited for.
    fn look_for_expected(&mut self, now: Timestamp) -> anyhow::Result<()> {
        let Some(passing) = &mut self.passing else {
            return Ok(());
        };
        let mut told = Vec::new();
        let activity = self.engine.activity();
        passing.expectations.check(now, activity, |change| told.push(change));
        let mut evidence = self.evidence.as_mut();
        told.iter()
            .try_for_each(|change| evidence.as_mut().map_or(Ok(()), |evidence| evidence.event(now, change)))
    }

    /// What the engine tells and hands on is evidence where that is wanted; else it would only fill the outbox.
    fn collect(&mut self) -> anyhow::Result<()> {
        while let Some(event) = self.engine.next_event() {
            self.evidence
                .as_mut()
                .map_or(Ok(()), |evidence| evidence.event(event.at, &event))?;
        }
        while let Some(media) = self.engine.next_media() {
            self.evidence
                .as_mut()
                .map_or(Ok(()), |evidence| evidence.media(&media))?;
        }
        Ok(())
    }

    fn finish(mut self, report: &mut InputReport) -> anyhow::Result<()> {
        if matches!(self.place, Place::Unknown(..)) {
            self.decide(Place::Bare)?;
        }
        self.engine.tick(self.now, usize::MAX);
        self.engine.finish();
        self.collect()?;
        self.look_for_expected(self.now)?;
        let counters = self.engine.counters();
        report.packets = PacketTotals {
            seen: counters.seen + self.no_ip,
            returned: counters.returned,
            dropped: counters.dropped_total(),
            passed: counters.passed + self.no_ip,
        };
        let by_name = |(reason, count): (DropReason, u64)| (reason.name(), count);
        report.drop_reasons = counters.drops().map(by_name).collect();
        report.shadow_drops = counters.shadow_dropped_total();
        report.shadow_drop_reasons = counters.shadow_drops().map(by_name).collect();
        report.flows_refused = counters.flows_refused;
        let expectations = self.passing.as_ref().map(|passing| passing.expectations.report());
        report.expectations = expectations.unwrap_or_default();
        report.streams = self.engine.streams();
        report.streams.sort_by_key(|stream| stream.ordinal);
        Ok(())
    }
}

/// The longest time of whole steps within `time`.
fn whole_steps(time: Duration, step: Duration) -> Duration {
    let rest = time.as_nanos() % step.as_nanos().max(1);
    time.saturating_sub(Duration::from_nanos(u64::try_from(rest).unwrap_or(u64::MAX)))
}

/// Puts a captured packet into `frame` as the appliance's interface would have received it: captures of other link types
/// get an Ethernet header. `false` for what cannot be such a frame.
fn as_ethernet(link: LinkType, data: &[u8], frame: &mut Vec<u8>) -> bool {
    frame.clear();
    if link == LinkType::Ethernet {
        frame.extend_from_slice(data);
        return true;
    }
    let ip = link.ip_packet(data);
    let ether_type: [u8; 2] = match ip.first() {
        None => return false,
        Some(first) if first >> 4 == 6 => [0x86, 0xdd],
        Some(_) => [0x08, 0x00],
    };
    frame.extend_from_slice(&[0x02; 12]);
    frame.extend_from_slice(&ether_type);
    frame.extend_from_slice(ip);
    true
}
