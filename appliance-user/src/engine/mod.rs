//! The inspection engine: pure, single-threaded, given the time.
//!
//! [`Engine::process`] decides about one packet at once: return, drop, or leave to the kernel. What must be judged in
//! sequence order leaves as a digest for the stream's judge, so no packet ever waits for another. One engine serves one
//! worker, one capture file or one test; it does no I/O, asks for no time and allocates only for new flows and streams.

#![forbid(unsafe_code)]

mod admission;
pub mod counters;
pub mod event;
mod exchange;
pub mod expect;
pub mod file;
mod flow;
mod flow_table;
mod foresight;
mod fragments;
pub mod group;
pub mod judge;
pub mod listing;
pub mod media;
pub mod memory;
mod outbox;
pub mod report;
mod stream;
pub mod time;
pub mod ts;
mod usual;
mod watch;

use core::time::Duration;

use tidegate_common::drop_reason::DropReason;
use tidegate_common::hairpin;
use tidegate_common::walk::{self, Fragment, Stop, UserLimits, Walk};

use self::admission::Place;
pub use self::admission::Published;
use self::counters::Counters;
use self::event::StreamEvent;
use self::expect::Activity;
use self::flow::{Context, Datagram, Flow};
use self::flow_table::{FlowTable, Sweep};
use self::foresight::Sighting;
use self::fragments::{FragmentCache, FragmentKey};
use self::group::{Groups, Post};
pub use self::media::mpegts::Content;
use self::memory::Allowance;
pub use self::outbox::Media;
use self::outbox::Outbox;
use self::report::StreamReport;
use self::stream::Stream;
use self::time::Timestamp;
use crate::policy::{DefaultAction, Policy};

/// GWLB forgets a UDP flow after 120 s and a TCP flow after 350 s; so does the appliance.
const IDLE_UDP: Duration = Duration::from_secs(120);
const IDLE_TCP: Duration = Duration::from_secs(350);
/// IP protocol number of TCP.
const TCP: u8 = 6;
/// Reports of streams that are gone, kept at most when a driver asks for them.
const MAX_RETIRED: usize = 65_536;

/// What happens to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Back to the load balancer; [`Engine::process`] has turned it around in place.
    Return,
    /// Not the appliance's business.
    Pass,
    /// Dropped and counted.
    Drop(DropReason),
}

/// How an engine is set up.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// UDP destination port of GENEVE.
    pub geneve_port: u16,
    /// Flows followed at a time.
    pub max_flows: usize,
    /// Key of the hash tables, drawn at random by the driver.
    pub seed: u64,
    /// How much of a TS packet is compared when it may be a duplicate.
    pub content: Content,
    /// Keep the reports of streams that are gone, for a final report.
    pub keep_gone: bool,
    /// Analyse transport streams: tables, clocks, TR 101 290. Else continuity alone is judged.
    pub analyse: bool,
    /// Bytes that senders may make streams hold beyond their first packets, all together.
    pub memory: usize,
    /// Hand on every stream's TS packets in the order in which they were sent ([`Engine::next_media`]).
    pub extract: bool,
    /// Which of the workers it is, from 0.
    pub worker: usize,
    /// How many workers there are. Groups of flows meet at one of them.
    pub workers: usize,
    /// Names the home worker of each group of flows: drawn at random, and the same in all workers.
    pub group_seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            geneve_port: 6081,
            max_flows: 65_536,
            seed: 0,
            content: Content::Sampled,
            keep_gone: false,
            analyse: true,
            memory: 288 << 20,
            extract: false,
            worker: 0,
            workers: 1,
            group_seed: 0,
        }
    }
}

/// The engine. See the module's documentation.
pub struct Engine {
    config: Config,
    flows: FlowTable<Flow>,
    fragments: FragmentCache,
    outbox: Outbox,
    counters: Counters,
    allowance: Allowance,
    blindness: u32,
    /// The blindness that time has passed since, and when it began to.
    sees_since: (u32, Timestamp),
    activity: Activity,
    decryption: flow::srt::Decryption,
    groups: Groups,
    post: Post,
    /// Slots of the flow table whose streams are not told yet that messages for this engine were lost.
    to_tell_of_misses: usize,
    /// The newest time that was given.
    clock: Timestamp,
    /// `None` where nobody wants a final report.
    retired: Option<Vec<StreamReport>>,
    /// Every packet goes the general way.
    #[cfg(test)]
    without_lane: bool,
    /// Packets that did not.
    #[cfg(test)]
    in_lane: u64,
}

impl Engine {
    /// An engine that has seen nothing.
    pub fn new(config: Config) -> Self {
        Engine {
            config,
            flows: FlowTable::new(config.max_flows, config.seed),
            fragments: FragmentCache::new(config.seed),
            outbox: if config.extract {
                Outbox::with_media()
            } else {
                Outbox::default()
            },
            counters: Counters::default(),
            allowance: Allowance::new(config.memory),
            blindness: 0,
            sees_since: (0, Timestamp::default()),
            activity: Activity::default(),
            decryption: flow::srt::Decryption::default(),
            groups: Groups::new(config.seed),
            post: Post::new(config.worker, config.workers, config.group_seed),
            to_tell_of_misses: 0,
            clock: Timestamp::default(),
            retired: config.keep_gone.then(Vec::new),
            #[cfg(test)]
            without_lane: false,
            #[cfg(test)]
            in_lane: 0,
        }
    }

    /// Decides about an Ethernet frame from the load balancer and, when it goes back, turns it around in place: MACs and
    /// outer addresses swapped, TTL 64, everything else untouched.
    pub fn process(&mut self, now: Timestamp, policy: &Published<'_>, frame: &mut [u8]) -> Verdict {
        match walk::usual_frame(frame, self.config.geneve_port) {
            Some(walk) => self.process_sighted(now, policy, frame, &Ok(self.sighting(walk))),
            None => self.process_any(now, policy, frame),
        }
    }

    #[inline(never)]
    fn process_any(&mut self, now: Timestamp, policy: &Published<'_>, frame: &mut [u8]) -> Verdict {
        let mut sighting = Err(Stop::NotForUs);
        self.sight_any(frame, &mut sighting);
        self.process_sighted(now, policy, frame, &sighting)
    }

    /// [`Engine::process`] for a frame that was sighted.
    #[inline(always)]
    fn process_sighted(
        &mut self,
        now: Timestamp,
        policy: &Published<'_>,
        frame: &mut [u8],
        sighting: &Result<Sighting, Stop>,
    ) -> Verdict {
        let verdict = match sighting {
            Ok(seen) => {
                let verdict = self.decide(now, policy, seen, frame);
                if verdict == Verdict::Return {
                    hairpin::turn_around(frame, &seen.walk);
                }
                verdict
            }
            Err(stop) => stopped(*stop),
        };
        self.account(verdict, frame.len());
        verdict
    }

    /// Decides about a packet of a capture that was not wrapped, beginning at its IP header.
    pub fn process_bare(&mut self, now: Timestamp, policy: &Published<'_>, packet: &[u8]) -> Verdict {
        let verdict = match walk::ip::<UserLimits>(packet) {
            Ok(walk) => {
                let seen = self.sighting(walk);
                self.decide(now, policy, &seen, packet)
            }
            Err(stop) => stopped(stop),
        };
        self.account(verdict, packet.len());
        verdict
    }

    /// A packet that the driver dropped by itself, for a reason of its own.
    pub fn driver_dropped(&mut self, reason: DropReason, packets: u64) {
        self.counters.seen += packets;
        self.counters.dropped[reason.index()] += packets;
    }

    /// Packets may have gone by unseen: the driver stood still while XDP returned them, or its rings overflowed. What is
    /// missing from any stream since is nobody's loss.
    pub fn blind(&mut self) {
        self.blindness = self.blindness.wrapping_add(1);
    }

    /// Packets that were to be returned, but became stale in the driver's hands.
    pub fn revoke(&mut self, reason: DropReason, packets: u64, bytes: u64) {
        self.counters.returned -= packets;
        self.counters.returned_bytes -= bytes;
        self.counters.dropped[reason.index()] += packets;
    }

    /// Lets time pass for the next `budget` slots of the flow table: reorder windows, holds, idle flows.
    pub fn tick(&mut self, now: Timestamp, budget: usize) {
        let (outbox, retired, streams) = (&mut self.outbox, &mut self.retired, &mut self.counters.streams);
        if self.sees_since.0 != self.blindness {
            self.sees_since = (self.blindness, now);
        }
        let (sees_since, post) = (self.sees_since, &mut self.post);
        let missed = self.to_tell_of_misses > 0;
        self.to_tell_of_misses = self.to_tell_of_misses.saturating_sub(budget);
        self.flows.sweep(budget, now, missed, |key, last_seen, flow| {
            let protocol = key.protocol();
            let idle = now.since(last_seen) > if protocol == TCP { IDLE_TCP } else { IDLE_UDP };
            for stream in flow.streams_mut() {
                stream.advance(now, sees_since, outbox);
            }
            flow.tell_groups(now, key, post);
            if missed {
                flow.missed_messages();
            }
            if !idle {
                return Sweep::Keep(flow.next_turn());
            }
            *streams -= flow.streams().len() as u64;
            retire(flow, now, "idle", outbox, retired.as_mut());
            Sweep::Remove
        });
        self.flows
            .ask_ahead(budget, now, [Flow::prefetch, Flow::prefetch_figures]);
        self.clock = self.clock.max(now);
        self.groups.tick(now, budget, &mut self.post);
        self.read_own_post(now);
    }

    /// Slots of the flow table that [`Engine::tick`] goes through before it comes to the first one again.
    pub fn slots(&self) -> usize {
        self.flows.slots()
    }

    /// The input ends: everything that still waits is judged.
    pub fn finish(&mut self) {
        self.finish_groups();
    }

    /// The oldest event that was not fetched yet.
    pub fn next_event(&mut self) -> Option<StreamEvent> {
        self.outbox.fetch()
    }

    /// The oldest media that was not fetched yet, where [`Config::extract`] asks for it. To be fetched after every call.
    pub fn next_media(&mut self) -> Option<Media> {
        self.outbox.fetch_media()
    }

    /// When media of each rule came last, for [`expect::Expectations`].
    pub fn activity(&self) -> &Activity {
        &self.activity
    }

    /// What was counted so far.
    pub fn counters(&self) -> Counters {
        Counters {
            flows: self.flows.len() as u64,
            events_shed: self.outbox.shed(),
            memory_left: self.allowance.left() as u64,
            ..self.counters
        }
    }

    #[inline]
    fn account(&mut self, verdict: Verdict, bytes: usize) {
        self.counters.seen += 1;
        match verdict {
            Verdict::Return => {
                self.counters.returned += 1;
                self.counters.returned_bytes += bytes as u64;
            }
            Verdict::Pass => self.counters.passed += 1,
            Verdict::Drop(reason) => self.counters.dropped[reason.index()] += 1,
        }
    }

    #[inline(always)]
    fn decide(&mut self, now: Timestamp, policy: &Published<'_>, seen: &Sighting, packet: &[u8]) -> Verdict {
        match seen.walk.fragment {
            Fragment::None => match self.decide_usual(now, policy, seen, packet) {
                Some(verdict) => verdict,
                // Copies: what the short lane reads need not be in memory.
                None => self.decide_by_flow(now, policy, &seen.clone(), packet),
            },
            _ => self.decide_part(now, policy, &seen.clone(), packet),
        }
    }

    /// Decides about a part of a datagram: all others follow the first one, which has the ports.
    #[cold]
    fn decide_part(&mut self, now: Timestamp, policy: &Published<'_>, seen: &Sighting, packet: &[u8]) -> Verdict {
        match seen.walk.fragment {
            Fragment::None => self.decide_by_flow(now, policy, seen, packet),
            Fragment::First { id } => {
                let verdict = self.decide_by_flow(now, policy, seen, packet);
                self.fragments.remember(fragment_key(&seen.walk, id), now, verdict);
                verdict
            }
            Fragment::Later { id } => {
                let first = self.fragments.recall(&fragment_key(&seen.walk, id), now);
                first.unwrap_or_else(|| by_default(policy.policy, DropReason::FragmentWithoutFirst))
            }
        }
    }

    /// Admission by flow and policy, then inspection: of the whole datagram, or of its first part.
    #[inline(never)]
    fn decide_by_flow(&mut self, now: Timestamp, published: &Published<'_>, seen: &Sighting, packet: &[u8]) -> Verdict {
        let walk = &seen.walk;
        if let Some(quoted) = walk.quoted::<UserLimits>(packet)
            && self.is_admitted_flow_of(published.policy, &quoted, walk.tuple().destination.ip())
        {
            return Verdict::Return;
        }
        let (rule, place) = match self.admitted(now, published, seen) {
            Ok(admitted) => admitted,
            Err(reason) => return by_default(published.policy, reason),
        };
        let datagram = Datagram {
            walk,
            packet,
            direction: walk.direction,
            payload: walk.payload(packet).unwrap_or_default(),
        };
        let mut context = Context {
            now,
            rule,
            blindness: self.blindness,
            remembers: matches!(place, Place::InTable(_)),
            content: self.config.content,
            analyse: self.config.analyse,
            allowance: &self.allowance,
            outbox: &mut self.outbox,
            counters: &mut self.counters,
            decryption: &mut self.decryption,
            post: &mut self.post,
        };
        let (mut forgotten, index);
        let flow = match place {
            Place::InTable(found) => {
                index = Some(found);
                self.flows.get_mut(found)
            }
            Place::Nowhere(flow) => {
                index = None;
                forgotten = flow;
                Some(&mut *forgotten)
            }
        };
        let Some(flow) = flow else { return Verdict::Return };
        let before = flow.streams().len() as u64;
        let inspected = match walk.fragment {
            Fragment::None => flow.inspect(datagram, &mut context),
            _ => flow.inspect_first_part(datagram, &mut context),
        };
        self.counters.streams = self.counters.streams + flow.streams().len() as u64 - before;
        let admission = flow.admission;
        let stirred = flow.is_stirred();
        if !flow.marked_established && flow.is_established() {
            flow.marked_established = true;
            index.into_iter().for_each(|index| self.flows.establish(index));
        }
        if stirred {
            index.into_iter().for_each(|index| self.flows.wake(index));
        }
        self.note_media(now, published, admission);
        self.read_own_post(now);
        match inspected {
            Ok(()) => Verdict::Return,
            Err(reason) => self.refused(published, admission, reason),
        }
    }
}

/// Whether an Ethernet frame is GENEVE to this port, sound or not. A frame that is broken before its GENEVE header begins
/// (cut short, or with the zero length that segmentation offload leaves in captures) says nothing.
pub fn is_geneve(frame: &[u8], geneve_port: u16) -> bool {
    use DropReason::{OuterFragment, OuterIpv4, OuterUdpLength, Truncated};
    match walk::frame::<UserLimits>(frame, geneve_port) {
        Ok(_) | Err(Stop::BeyondLimits) => true,
        Err(Stop::Malformed(reason)) => !matches!(reason, Truncated | OuterIpv4 | OuterFragment | OuterUdpLength),
        Err(Stop::NotForUs) => false,
    }
}

/// What happens to a packet that no rule admits.
fn by_default(policy: &Policy, reason: DropReason) -> Verdict {
    match policy.default_action() {
        DefaultAction::Drop => Verdict::Drop(reason),
        DefaultAction::Return => Verdict::Return,
    }
}

fn stopped(stop: Stop) -> Verdict {
    match stop {
        Stop::NotForUs => Verdict::Pass,
        Stop::Malformed(reason) => Verdict::Drop(reason),
        Stop::BeyondLimits => Verdict::Drop(DropReason::TooManyHeaders),
    }
}

fn fragment_key(walk: &Walk, id: u32) -> FragmentKey {
    let tuple = walk.tuple();
    FragmentKey {
        endpoint: tuple.endpoint,
        source: tuple.source.ip(),
        destination: tuple.destination.ip(),
        protocol: tuple.protocol,
        id,
    }
}

/// Tells that a flow's streams are gone and keeps their reports where a final report wants them.
fn retire(
    flow: &mut Flow,
    now: Timestamp,
    cause: &'static str,
    outbox: &mut Outbox,
    retired: Option<&mut Vec<StreamReport>>,
) {
    for stream in flow.streams_mut() {
        stream.flush(outbox);
        stream.tell_gone(now, cause, outbox);
    }
    if let Some(retired) = retired {
        let room = MAX_RETIRED.saturating_sub(retired.len());
        retired.extend(flow.streams().iter().take(room).map(Stream::report));
    }
}

#[cfg(test)]
mod tests;
