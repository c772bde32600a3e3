//! What only SRT knows of a stream: the terms of its handshake, what its receiver reports, what its sender gives up.
//!
//! Reports come from whoever can send a packet with the right socket id, so each must fit what was seen of the stream: a
//! number outside of [`REACH`] behind the newest packet changes nothing.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::session::Session;
use crate::engine::media::srt::{
    Acknowledgement, DropRequest, FLAG_NAMES, Group, KeyFlag, Latency, LossReport, Measured, SEQUENCE_MASK, stream_id,
};

/// How far behind the newest packet a report may reach: a minute at 17,000 packets a second, and far beyond any buffer.
const REACH: u32 = 1 << 20;

/// What the handshake settled.
#[derive(Clone, Debug, Default)]
pub(super) struct Terms {
    /// Handshake version, 4 or 5.
    pub version: u32,
    /// Both parties called each other.
    pub rendezvous: bool,
    /// What the initiator (the caller) is and can do.
    pub initiator: Option<Latency>,
    /// What the responder (the listener) is and can do.
    pub responder: Option<Latency>,
    /// Bytes of the stream encrypting key.
    pub key_length: Option<usize>,
    /// Congestion controller.
    pub congestion: Option<String>,
    /// Packet filter.
    pub filter: Option<String>,
    /// Group of connections.
    pub group: Option<Group>,
    /// The stream id, where it follows the convention.
    pub stream_id: Option<BTreeMap<String, String>>,
}

impl Terms {
    /// Takes a stream id apart.
    pub(super) fn read_stream_id(&mut self, id: Option<&str>) {
        self.stream_id = id.and_then(stream_id::parts);
    }

    /// Bytes that they take.
    pub(super) fn memory(&self) -> usize {
        let texts = [&self.congestion, &self.filter];
        let parts = self
            .stream_id
            .iter()
            .flatten()
            .map(|(key, value)| key.len() + value.len());
        texts.into_iter().flatten().map(String::capacity).sum::<usize>() + parts.sum::<usize>() + size_of::<Self>()
    }
}

/// How the keys of an encrypted stream stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyState {
    /// Nothing is encrypted, or no passphrase was given.
    #[default]
    None,
    /// The rule has passphrases, but there is no key yet: none has come by since the session was joined, it waits its turn to
    /// be unwrapped, or none of the passphrases is for this stream id.
    Missing,
    /// The rule's passphrase does not unwrap the key.
    WrongPassphrase,
    /// The key is known.
    Known,
}

/// Figures of one stream.
#[derive(Debug, Default)]
pub(in crate::engine) struct SrtFigures {
    terms: Option<Arc<Terms>>,
    verified: bool,
    /// Bytes of the stream encrypting key, which a refresh may say where the handshake was not seen.
    key_length: Option<usize>,
    /// The newest sequence number that was sent.
    newest: Option<u32>,
    /// A number far ahead, which the next consecutive one confirms.
    ahead: Option<u32>,
    key_flag: Option<KeyFlag>,
    pub(super) keys: KeyState,
    /// Numbers up to this one were given up.
    dropped_through: Option<u32>,
    counted: Counted,
    measured: Measured,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    packets: u64,
    retransmitted: u64,
    filter_packets: u64,
    naks: u64,
    nak_packets: u64,
    acks: u64,
    light_acks: u64,
    ackacks: u64,
    drop_requests: u64,
    dropped_by_sender: u64,
    keepalives: u64,
    shutdowns: u64,
    peer_errors: u64,
    congestion_warnings: u64,
    key_refreshes: u64,
    undeciphered: u64,
    misfits: u64,
}

/// A count that only needs a tick.
#[derive(Clone, Copy, Debug)]
pub(super) enum Tick {
    KeepAlive,
    Shutdown,
    PeerError,
    CongestionWarning,
    AckAck,
    FilterPacket,
    Undeciphered,
}

/// How far `to` is after `from`, in the circle of 31 bits.
const fn distance(from: u32, to: u32) -> u32 {
    to.wrapping_sub(from) & SEQUENCE_MASK
}

impl SrtFigures {
    /// Takes over what a stream's session knows. What its handshake settled stays, should the session be joined again.
    pub(super) fn describe(&mut self, session: &Session) {
        self.key_length = session.terms.key_length.or(self.key_length);
        if !session.is_joined() {
            self.terms = Some(Arc::clone(&session.terms));
            self.verified = session.admitted;
        }
    }

    /// A data packet.
    pub(super) fn data(&mut self, sequence: u32, retransmitted: bool, key_flag: KeyFlag) {
        self.counted.packets += 1;
        if retransmitted {
            self.counted.retransmitted += 1;
            return;
        }
        let Some(newest) = self.newest else {
            (self.newest, self.key_flag) = (Some(sequence), Some(key_flag));
            return;
        };
        let steps = distance(newest, sequence);
        if steps > REACH && distance(sequence, newest) > REACH {
            let confirmed = self.ahead == Some(sequence.wrapping_sub(1) & SEQUENCE_MASK);
            self.ahead = Some(sequence);
            if !confirmed {
                return;
            }
        } else if steps == 0 || steps > REACH {
            return;
        }
        self.newest = Some(sequence);
        if self.key_flag.replace(key_flag).is_some_and(|before| {
            matches!(
                (before, key_flag),
                (KeyFlag::Even, KeyFlag::Odd) | (KeyFlag::Odd, KeyFlag::Even)
            )
        }) {
            self.counted.key_refreshes += 1;
        }
    }

    /// Whether a report may speak of this number.
    pub(super) fn fits(&self, sequence: u32) -> bool {
        self.newest.is_some_and(|newest| distance(sequence, newest) <= REACH)
    }

    /// Whether an acknowledgement may be of this stream: it expects at most the number after the newest.
    pub(super) fn fits_acknowledgement(&self, acknowledgement: &Acknowledgement) -> bool {
        self.fits(acknowledgement.next_expected.wrapping_sub(1) & SEQUENCE_MASK)
    }

    /// The receiver acknowledges.
    pub(super) fn acknowledged(&mut self, acknowledgement: &Acknowledgement) {
        if !self.fits_acknowledgement(acknowledgement) {
            self.counted.misfits += 1;
            return;
        }
        let Some(measured) = acknowledgement.measured else {
            self.counted.light_acks += 1;
            return;
        };
        self.counted.acks += 1;
        self.measured = Measured {
            receiving_rate: measured.receiving_rate.or(self.measured.receiving_rate),
            link_capacity: measured.link_capacity.or(self.measured.link_capacity),
            receiving_bytes: measured.receiving_bytes.or(self.measured.receiving_bytes),
            ..measured
        };
    }

    /// The receiver asks for what it misses.
    pub(super) fn missed(&mut self, report: &LossReport<'_>) {
        let mut asked = 0_u64;
        for (first, last) in report.ranges() {
            if !self.fits(first) || !self.fits(last) || distance(first, last) > REACH {
                self.counted.misfits += 1;
                return;
            }
            asked += u64::from(distance(first, last)) + 1;
        }
        if asked > 0 {
            self.counted.naks += 1;
            self.counted.nak_packets += asked;
        }
    }

    /// The sender gives numbers up. Numbers that were given up before are not counted again: requests are repeated.
    pub(super) fn gave_up(&mut self, request: DropRequest) {
        let DropRequest { first, last, .. } = request;
        if !self.fits(first) || !self.fits(last) || distance(first, last) > REACH {
            self.counted.misfits += 1;
            return;
        }
        self.counted.drop_requests += 1;
        let from = match self.dropped_through {
            Some(through) if distance(first, through) <= REACH => through.wrapping_add(1) & SEQUENCE_MASK,
            _ => first,
        };
        if distance(from, last) <= REACH {
            self.counted.dropped_by_sender += u64::from(distance(from, last)) + 1;
            self.dropped_through = Some(last);
        }
    }

    /// Counts one of its kind.
    pub(super) fn tick(&mut self, tick: Tick) {
        let counted = &mut self.counted;
        *match tick {
            Tick::KeepAlive => &mut counted.keepalives,
            Tick::Shutdown => &mut counted.shutdowns,
            Tick::PeerError => &mut counted.peer_errors,
            Tick::CongestionWarning => &mut counted.congestion_warnings,
            Tick::AckAck => &mut counted.ackacks,
            Tick::FilterPacket => &mut counted.filter_packets,
            Tick::Undeciphered => &mut counted.undeciphered,
        } += 1;
    }

    /// Encrypted packets that came while there was no key for them.
    pub(super) fn undeciphered(&self) -> u64 {
        self.counted.undeciphered
    }

    /// Everything that is known.
    pub(in crate::engine) fn report(&self) -> SrtReport {
        let counted = &self.counted;
        let terms = self.terms.as_deref();
        SrtReport {
            handshake: terms.map(HandshakeReport::of),
            stream_id: terms.and_then(|terms| terms.stream_id.clone()),
            verified: self.verified,
            key_length: self.key_length.map(|bytes| bytes * 8),
            keys: self.keys,
            key_refreshes: counted.key_refreshes,
            undeciphered: counted.undeciphered,
            retransmission_percent: percent(counted.retransmitted, counted.packets),
            naks: counted.naks,
            nak_packets: counted.nak_packets,
            acks: counted.acks,
            light_acks: counted.light_acks,
            ackacks: counted.ackacks,
            rtt_us: (counted.acks > 0).then(|| microseconds(self.measured.rtt)),
            rtt_variance_us: (counted.acks > 0).then(|| microseconds(self.measured.rtt_variance)),
            available_buffer: (counted.acks > 0).then_some(self.measured.available_buffer),
            receiving_rate: self.measured.receiving_rate,
            receiving_bytes: self.measured.receiving_bytes,
            link_capacity: self.measured.link_capacity,
            drop_requests: counted.drop_requests,
            dropped_by_sender: counted.dropped_by_sender,
            filter_packets: counted.filter_packets,
            keepalives: counted.keepalives,
            shutdowns: counted.shutdowns,
            peer_errors: counted.peer_errors,
            congestion_warnings: counted.congestion_warnings,
            misfits: counted.misfits,
        }
    }
}

/// What SRT knows of a stream. Times are microseconds, rates a second.
#[derive(Clone, Debug, Serialize)]
pub struct SrtReport {
    /// What was settled; `None` where the handshake was not seen.
    pub handshake: Option<HandshakeReport>,
    /// Keys and values of a stream id that follows the `#!::` convention.
    pub stream_id: Option<BTreeMap<String, String>>,
    /// The handshake was seen and the rule admits it. Else stream id and encryption policy are unverified, whatever key was
    /// learnt since.
    pub verified: bool,
    /// Bits of the stream encrypting key, by the handshake or by a refresh; `None` in the clear, or where none was seen.
    pub key_length: Option<usize>,
    /// How the keys stand.
    pub keys: KeyState,
    /// Times that the sender went over to another key.
    pub key_refreshes: u64,
    /// Encrypted packets that came while there was no key for them.
    pub undeciphered: u64,
    /// Share of data packets that were sent again, in percent.
    pub retransmission_percent: f64,
    /// Loss reports.
    pub naks: u64,
    /// Packets that they ask for, counted each time.
    pub nak_packets: u64,
    /// Full and small acknowledgements.
    pub acks: u64,
    /// Light acknowledgements, which carry no figures.
    pub light_acks: u64,
    /// Acknowledgements of acknowledgements.
    pub ackacks: u64,
    /// Round-trip time as the receiver last told it.
    pub rtt_us: Option<u64>,
    /// Its variance.
    pub rtt_variance_us: Option<u64>,
    /// Free room in the receiver's buffer, in packets.
    pub available_buffer: Option<u32>,
    /// Packets that it receives.
    pub receiving_rate: Option<u32>,
    /// Bytes that it receives.
    pub receiving_bytes: Option<u32>,
    /// Capacity of the link as it estimates it, in packets.
    pub link_capacity: Option<u32>,
    /// Drop requests.
    pub drop_requests: u64,
    /// Sequence numbers that the sender gave up.
    pub dropped_by_sender: u64,
    /// Packets of a packet filter (FEC).
    pub filter_packets: u64,
    /// Keepalives, both ways.
    pub keepalives: u64,
    /// Shutdowns, both ways.
    pub shutdowns: u64,
    /// Errors that the receiver told.
    pub peer_errors: u64,
    /// Congestion warnings.
    pub congestion_warnings: u64,
    /// Reports with the right socket id that cannot be of this stream; they changed nothing.
    pub misfits: u64,
}

/// What a handshake settled.
#[derive(Clone, Debug, Serialize)]
pub struct HandshakeReport {
    /// 4 or 5.
    pub version: u32,
    /// `caller-listener` or `rendezvous`.
    pub mode: &'static str,
    /// The caller; in rendezvous, whose request it was.
    pub caller: Option<PartyReport>,
    /// The listener.
    pub listener: Option<PartyReport>,
    /// Congestion controller, where it is named.
    pub congestion: Option<String>,
    /// Packet filter, where one is asked for.
    pub filter: Option<String>,
    /// Group of connections.
    pub group: Option<GroupReport>,
}

/// A party of a handshake.
#[derive(Clone, Debug, Serialize)]
pub struct PartyReport {
    /// SRT version, such as `1.5.1`.
    pub version: String,
    /// What it can do, by the names of the draft's table 6.
    pub flags: Vec<&'static str>,
    /// Delay that it applies to what it receives, in milliseconds.
    pub receiver_delay_ms: u64,
    /// Least delay that it wants its peer to apply.
    pub sender_delay_ms: u64,
}

/// A group of connections.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct GroupReport {
    /// The group's id.
    pub id: u32,
    /// `broadcast`, `backup` or `other`.
    pub kind: &'static str,
    /// Priority among the members.
    pub weight: u16,
}

impl HandshakeReport {
    fn of(terms: &Terms) -> Self {
        HandshakeReport {
            version: terms.version,
            mode: if terms.rendezvous {
                "rendezvous"
            } else {
                "caller-listener"
            },
            caller: terms.initiator.as_ref().map(PartyReport::of),
            listener: terms.responder.as_ref().map(PartyReport::of),
            congestion: terms.congestion.clone(),
            filter: terms.filter.clone(),
            group: terms.group.map(|group| GroupReport {
                id: group.id,
                kind: match group.kind {
                    1 => "broadcast",
                    2 => "backup",
                    _ => "other",
                },
                weight: group.weight,
            }),
        }
    }
}

impl PartyReport {
    fn of(party: &Latency) -> Self {
        let [_, major, minor, patch] = party.version.to_be_bytes();
        let flags = FLAG_NAMES.iter().enumerate();
        PartyReport {
            version: format!("{major}.{minor}.{patch}"),
            flags: flags
                .filter(|(bit, _)| party.flags >> bit & 1 != 0)
                .map(|(_, name)| *name)
                .collect(),
            receiver_delay_ms: milliseconds(party.receiver_delay),
            sender_delay_ms: milliseconds(party.sender_delay),
        }
    }
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// To a hundredth, so that equal inputs give equal texts.
fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    (part as f64 * 10_000.0 / whole as f64).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::media::srt::Packet;

    fn figures(newest: u32) -> SrtFigures {
        let mut figures = SrtFigures::default();
        figures.data(newest, false, KeyFlag::None);
        figures
    }

    fn nak(words: &[u32]) -> Vec<u8> {
        let header = [0x8003_0000, 0, 0, 7];
        header.iter().chain(words).flat_map(|word| word.to_be_bytes()).collect()
    }

    fn report(figures: &mut SrtFigures, words: &[u32]) {
        let bytes = nak(words);
        let Ok(Packet::Control(control)) = Packet::parse(&bytes) else {
            panic!("a NAK")
        };
        figures.missed(&control.loss_report().unwrap());
    }

    #[test]
    fn loss_reports_are_added_up_over_the_wrap() {
        let mut figures = figures(5);
        report(&mut figures, &[3, 0x8000_0000 | 0x7fff_fffe, 1]);
        assert_eq!((figures.counted.naks, figures.counted.nak_packets), (1, 5));
        report(&mut figures, &[0x8000_0004]);
        assert_eq!(figures.counted.naks, 1, "a range without its end");
    }

    #[test]
    fn reports_that_cannot_be_of_the_stream_change_nothing() {
        let mut figures = figures(1000);
        report(&mut figures, &[1001]);
        report(&mut figures, &[0x8000_0000 | 900, 800]);
        report(&mut figures, &[0x8000_0000 | 1, 0x7fff_ffff]);
        let far = |first, last| DropRequest {
            message_number: 0,
            first,
            last,
        };
        figures.gave_up(far(0, 5000));
        figures.gave_up(far(800, 700));
        figures.acknowledged(&Acknowledgement {
            number: 1,
            next_expected: 5000,
            measured: Some(Measured::default()),
        });
        assert_eq!(figures.counted.misfits, 6);
        let counted = figures.counted;
        assert_eq!(
            (
                counted.naks,
                counted.drop_requests,
                counted.dropped_by_sender,
                counted.acks
            ),
            (0, 0, 0, 0)
        );
    }

    #[test]
    fn numbers_given_up_are_counted_once() {
        let mut figures = figures(4);
        for (first, last, total) in [
            (0x7fff_fff0, 0x7fff_fff3, 4),
            (0x7fff_fff0, 0x7fff_fff3, 4),
            (0x7fff_fff2, 0x7fff_fff5, 6),
            (0, 1, 8),
        ] {
            figures.gave_up(DropRequest {
                message_number: 0,
                first,
                last,
            });
            assert_eq!(figures.counted.dropped_by_sender, total, "{first:#x}");
        }
    }

    #[test]
    fn key_switches_are_counted_in_the_order_of_sending() {
        let mut figures = SrtFigures::default();
        for (sequence, retransmitted, flag) in [
            (10, false, KeyFlag::Even),
            (12, false, KeyFlag::Odd),
            (11, false, KeyFlag::Even),
            (9, true, KeyFlag::Even),
            (13, false, KeyFlag::Odd),
            (14, false, KeyFlag::Even),
        ] {
            figures.data(sequence, retransmitted, flag);
        }
        assert_eq!(figures.counted.key_refreshes, 2);
        assert_eq!(figures.report().retransmission_percent, 16.67);
    }

    #[test]
    fn one_packet_far_away_does_not_move_the_newest() {
        let mut figures = figures(100);
        figures.data(0x4000_0000, false, KeyFlag::None);
        figures.data(101, false, KeyFlag::None);
        assert!(figures.fits(101) && !figures.fits(0x4000_0000));
        figures.data(0x5000_0000, false, KeyFlag::None);
        figures.data(0x5000_0001, false, KeyFlag::None);
        assert!(figures.fits(0x5000_0001) && !figures.fits(101));
    }
}
