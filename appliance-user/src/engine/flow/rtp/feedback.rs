//! What RTCP says of one stream, kept.

use core::time::Duration;
use std::collections::VecDeque;

use super::report::RtcpReport;
use crate::engine::group::{RtcpNote, Text};
use crate::engine::media::rtcp::{Block, Echo, SenderInfo};
use crate::engine::time::Timestamp;

/// Questions whose answers may still come: reports are seconds apart, answers milliseconds to seconds.
const MAX_OPEN: usize = 4;
/// No round trip is longer; what says so was made up.
const LONGEST_ROUND_TRIP: Duration = Duration::from_secs(10);

/// What RTCP says of one stream.
#[derive(Debug, Default)]
pub(super) struct Feedback {
    /// Packets that could not be read.
    pub malformed: u64,
    sender_reports: u64,
    first: Option<SenderCount>,
    last: Option<SenderCount>,
    /// The first and the last report at which it is known how many packets had come here.
    compared: Option<[Compared; 2]>,
    /// Counted before the sender's count began anew.
    before: Sent,
    cname: Option<Text>,
    receiver_reports: u64,
    block: Option<Block>,
    /// The middle of the NTP time of the last sender reports, and when they went by.
    reports: VecDeque<(u32, Timestamp)>,
    /// Time stamps of the last echo requests, and when they went by.
    echoes: VecDeque<(u64, Timestamp)>,
    round_trip: Option<Duration>,
    nacks: u64,
    nacked: u64,
    byes: u64,
    extended: u64,
}

/// What a sender counted by a report.
#[derive(Clone, Copy, Debug)]
struct SenderCount {
    packets: u32,
    octets: u32,
}

/// What a sender counted by a report, and what had come here by then.
#[derive(Clone, Copy, Debug)]
struct Compared {
    packets: u32,
    received: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sent {
    packets: u64,
    octets: u64,
    /// Packets between reports at which it is known what had come here, and how many of them did not come.
    compared: Option<(u64, u64)>,
}

impl Feedback {
    /// Takes what was said at `at`, when `received` media packets had come; `None` where that is not known.
    pub(super) fn note(&mut self, at: Timestamp, note: &RtcpNote, received: Option<u64>) {
        match note {
            RtcpNote::Sender(info) => self.sender(at, info, received),
            RtcpNote::Receiver(block) => self.receiver(at, block),
            RtcpNote::Cname(text) => self.cname = Some(*text),
            RtcpNote::Bye => self.byes += 1,
            RtcpNote::Nack(numbers) => {
                self.nacks += 1;
                self.nacked += u64::from(*numbers);
            }
            RtcpNote::Echo(echo) => self.echo(at, echo),
            RtcpNote::Extended => self.extended += 1,
        }
    }

    /// Another SSRC's counts have nothing to do with those before.
    pub(super) fn rebase(&mut self) {
        self.before = self.sent();
        self.first = None;
        self.last = None;
        self.compared = None;
    }

    /// Packets may have gone by unseen: what came before cannot be compared with what comes now.
    pub(super) fn blind(&mut self) {
        self.before.compared = self.compared();
        self.compared = None;
    }

    /// Everything known. `compares`: what the sender counts is what should come.
    pub(super) fn report(&self, compares: bool) -> RtcpReport {
        let sent = self.sent();
        let compared = sent.compared.filter(|_| compares);
        RtcpReport {
            sender_reports: self.sender_reports,
            sent_packets: sent.packets,
            sent_octets: sent.octets,
            compared_packets: compared.map_or(0, |(packets, _)| packets),
            missing: compared.map(|(_, missing)| missing),
            cname: self.cname.map(|text| text.as_str().to_owned()),
            receiver_reports: self.receiver_reports,
            fraction_lost_percent: self.block.map(|block| f64::from(block.fraction_lost) * 100.0 / 256.0),
            cumulative_lost: self.block.map(|block| block.cumulative_lost),
            receiver_jitter: self.block.map(|block| block.jitter),
            round_trip_ms: self.round_trip.map(|time| time.as_secs_f64() * 1000.0),
            nacks: self.nacks,
            nacked_packets: self.nacked,
            byes: self.byes,
            extended_reports: self.extended,
            malformed: self.malformed,
        }
    }

    fn sender(&mut self, at: Timestamp, info: &SenderInfo, received: Option<u64>) {
        self.sender_reports += 1;
        remember(&mut self.reports, ((info.ntp >> 16) as u32, at));
        let count = SenderCount {
            packets: info.packets,
            octets: info.octets,
        };
        // Counts only grow. One that is less, by the shorter way round, is of a sender that began anew.
        let grew = |last: SenderCount| count.packets.wrapping_sub(last.packets) < 1 << 31;
        if !self.last.is_none_or(grew) {
            self.rebase();
        }
        self.first.get_or_insert(count);
        self.last = Some(count);
        if let Some(received) = received {
            let here = Compared {
                packets: info.packets,
                received,
            };
            let [first, _] = self.compared.unwrap_or([here; 2]);
            self.compared = Some([first, here]);
        }
    }

    /// Between the first report and the last. Less than 2^32 packets, or nothing could be said: at 10,000 packets a second
    /// that is five days, so longer streams show what was counted since the wrap.
    fn sent(&self) -> Sent {
        let (Some(first), Some(last)) = (self.first, self.last) else {
            return self.before;
        };
        let packets = u64::from(last.packets.wrapping_sub(first.packets));
        let octets = u64::from(last.octets.wrapping_sub(first.octets));
        Sent {
            packets: self.before.packets + packets,
            octets: self.before.octets + octets,
            compared: self.compared(),
        }
    }

    /// The packets between the first and the last report at which it is known what had come here, and how many of them did
    /// not. One report alone says nothing: what was sent before is not known.
    fn compared(&self) -> Option<(u64, u64)> {
        let Some([first, last]) = self.compared.filter(|[first, last]| first.packets != last.packets) else {
            return self.before.compared;
        };
        let packets = u64::from(last.packets.wrapping_sub(first.packets));
        let missing = packets.saturating_sub(last.received.saturating_sub(first.received));
        let (before, missing_before) = self.before.compared.unwrap_or_default();
        Some((before + packets, missing_before + missing))
    }

    /// RFC 3550 6.4.1: from the report that the receiver names to its own, less the time that it waited. Both were seen
    /// here, so it is the round trip from here.
    fn receiver(&mut self, at: Timestamp, block: &Block) {
        self.receiver_reports += 1;
        self.block = Some(*block);
        let asked = self.reports.iter().rev().find(|(ntp, _)| *ntp == block.last_sr);
        if let Some((_, seen)) = asked.filter(|_| block.last_sr != 0) {
            let waited = (u64::from(block.delay_since_last_sr) * 1_000_000_000) >> 16;
            self.measured(at.since(*seen), Duration::from_nanos(waited));
        }
    }

    fn echo(&mut self, at: Timestamp, echo: &Echo) {
        if !echo.response {
            return remember(&mut self.echoes, (echo.timestamp, at));
        }
        let asked = self
            .echoes
            .iter()
            .position(|(timestamp, _)| *timestamp == echo.timestamp);
        if let Some((_, seen)) = asked.and_then(|place| self.echoes.remove(place)) {
            self.measured(at.since(seen), Duration::from_micros(echo.delay_us.into()));
        }
    }

    fn measured(&mut self, passed: Duration, waited: Duration) {
        // The receiver's clock is coarse (1/65536 s) and may be off by a little: never less than nothing.
        let round_trip = passed.saturating_sub(waited);
        if passed >= waited && round_trip <= LONGEST_ROUND_TRIP {
            self.round_trip = Some(round_trip);
        }
    }
}

fn remember<T>(open: &mut VecDeque<T>, question: T) {
    if open.len() >= MAX_OPEN {
        open.pop_front();
    }
    open.push_back(question);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_ms(ms: u64) -> Timestamp {
        Timestamp::from_nanos(ms * 1_000_000)
    }

    fn sender(packets: u32, ntp: u64) -> RtcpNote {
        RtcpNote::Sender(SenderInfo {
            ntp,
            rtp: 0,
            packets,
            octets: packets.wrapping_mul(100),
        })
    }

    #[test]
    fn what_the_sender_counts_and_what_came_is_compared_past_a_wrap() {
        let mut feedback = Feedback::default();
        feedback.note(at_ms(0), &sender(u32::MAX - 9, 1), Some(50));
        assert_eq!(feedback.report(true).missing, None, "what was sent before is not known");
        feedback.note(at_ms(5000), &sender(90, 2), Some(145));
        let report = feedback.report(true);
        assert_eq!(
            (report.sent_packets, report.sent_octets, report.missing),
            (100, 10_000, Some(5))
        );
        feedback.note(at_ms(9000), &sender(10, 3), Some(150));
        feedback.note(at_ms(9500), &sender(20, 4), Some(159));
        let report = feedback.report(true);
        assert_eq!(
            (report.sent_packets, report.missing),
            (110, Some(6)),
            "the sender began anew"
        );
    }

    #[test]
    fn only_reports_at_which_it_is_known_what_came_are_compared() {
        let mut feedback = Feedback::default();
        feedback.note(at_ms(0), &sender(100, 1), None);
        feedback.note(at_ms(1000), &sender(200, 2), None);
        let report = feedback.report(true);
        assert_eq!((report.sent_packets, report.missing), (100, None));
        feedback.note(at_ms(2000), &sender(300, 3), Some(7));
        assert_eq!(feedback.report(true).missing, None);
        feedback.note(at_ms(3000), &sender(400, 4), Some(105));
        feedback.blind();
        feedback.note(at_ms(4000), &sender(500, 5), Some(105));
        feedback.note(at_ms(5000), &sender(600, 6), Some(204));
        let report = feedback.report(true);
        assert_eq!(
            (report.sent_packets, report.compared_packets, report.missing),
            (500, 200, Some(3)),
            "what was not seen is not compared"
        );
    }

    #[test]
    fn the_round_trip_leaves_the_receivers_wait_out() {
        let mut feedback = Feedback::default();
        feedback.note(at_ms(1000), &sender(1, 0x0000_1234_5678_0000), Some(1));
        let block = |last_sr, delay| {
            RtcpNote::Receiver(Block {
                ssrc: 1,
                fraction_lost: 64,
                cumulative_lost: -3,
                highest_sequence: 9,
                jitter: 7,
                last_sr,
                delay_since_last_sr: delay,
            })
        };
        feedback.note(at_ms(3040), &block(0x1234_5678, 2 << 16), Some(1));
        let report = feedback.report(true);
        assert_eq!(report.round_trip_ms, Some(40.0));
        assert_eq!(
            (
                report.fraction_lost_percent,
                report.cumulative_lost,
                report.receiver_jitter
            ),
            (Some(25.0), Some(-3), Some(7))
        );
        feedback.note(at_ms(4000), &block(0x1234_5678, u32::MAX), Some(1));
        feedback.note(at_ms(4000), &block(0x9999_9999, 0), Some(1));
        assert_eq!(
            feedback.report(true).round_trip_ms,
            Some(40.0),
            "an impossible wait, an unknown report"
        );
    }

    #[test]
    fn an_echo_measures_the_round_trip() {
        let mut feedback = Feedback::default();
        let echo = |response, timestamp, delay_us| {
            RtcpNote::Echo(Echo {
                ssrc: 1,
                response,
                timestamp,
                delay_us,
            })
        };
        for n in 0..10 {
            feedback.note(at_ms(n * 100), &echo(false, n, 0), Some(0));
        }
        feedback.note(at_ms(930), &echo(true, 9, 5000), Some(0));
        assert_eq!(feedback.report(true).round_trip_ms, Some(25.0));
        feedback.note(at_ms(950), &echo(true, 9, 0), Some(0));
        feedback.note(at_ms(950), &echo(true, 1, 0), Some(0));
        assert_eq!(
            feedback.report(true).round_trip_ms,
            Some(25.0),
            "answered already, forgotten already"
        );
    }
}
