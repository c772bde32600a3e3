//! A packet is judged from its bytes or from its digest, and it never shows which: the same datagrams through both ways.

use core::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::engine::media::mpegts::{self, Content, build};

const PIDS: [u16; 6] = [0x100, 0x101, 0, 0x1fff, 0x1ff, 0x20];
/// Datagrams remembered, to be sent again.
const REMEMBERED: usize = 40;

/// A TS packet: its PID's place, what is odd about it (mostly nothing), and some bits of that.
type Wish = (usize, u8, u8);

/// What happens to a datagram on its way: mostly nothing; and some bits of that.
type Fate = (u8, u16);

/// Makes TS packets with right counters, but for those that are to be odd.
#[derive(Default)]
struct Multiplexer {
    counters: [u8; PIDS.len()],
    /// The last packet of each PID.
    last: [Option<[u8; PACKET_SIZE]>; PIDS.len()],
    sent: u8,
}

impl Multiplexer {
    fn next(&mut self, (place, odd, bits): Wish) -> [u8; PACKET_SIZE] {
        self.sent = self.sent.wrapping_add(1);
        let pid = PIDS[place];
        let mut packet = [self.sent; PACKET_SIZE];
        if odd == 10 {
            return self.last[place].unwrap_or(packet);
        }
        let table = match pid {
            0 => Some(build::pat(bits & 1, (0, 0), &[(1, 0x20)])),
            0x20 => Some(build::pmt(
                1,
                bits & 1,
                0x100,
                &[],
                &[(0x1b, 0x100, &[]), (0x06, 0x101, &[])],
            )),
            _ => None,
        };
        if let Some(section) = &table {
            packet = build::packets(pid, &[section], &mut 0)[0];
        }
        let [high, low] = (u16::from(table.is_some()) << 14 | pid).to_be_bytes();
        packet[..3].copy_from_slice(&[0x47, high, low]);
        let control = match odd {
            0 => 0x20,
            1 | 2 => 0x30,
            3 => 0x10 | bits & 0xc0,
            _ => 0x10,
        };
        match odd {
            // A PCR, a discontinuity, or whatever flags.
            1 => packet[4..12].copy_from_slice(&[7, 0x10, 0, self.sent, bits, 0, 0x7e, 0]),
            2 => packet[4..6].copy_from_slice(&[7, bits]),
            4 => packet[0] = bits,
            5 => packet[1] |= bits & 0xe0,
            6 => self.counters[place] = bits & 0x0f,
            7 => self.counters[place] = self.counters[place].wrapping_sub(1),
            _ => {}
        }
        let payload = u8::from(control & 0x10 != 0);
        self.counters[place] = self.counters[place].wrapping_add(payload) & 0x0f;
        packet[3] = control | self.counters[place];
        self.last[place] = Some(packet);
        packet
    }
}

/// A datagram on its way.
#[derive(Clone, Debug)]
struct Sent {
    sequence: u32,
    payload: Vec<u8>,
    is_ts: bool,
    retransmitted: bool,
    hash: Option<u32>,
}

/// Two judges that must agree.
struct Both {
    judges: [Judge; 2],
    told: [Vec<Event>; 2],
    now: Timestamp,
    content: Content,
}

impl Both {
    fn new(ordering: Ordering, content: Content, analyse: bool) -> Self {
        let made = || {
            let mut judge = Judge::new(ordering, Duration::from_millis(50), UnsequencedFault::Unknown);
            if analyse {
                judge.analyse(Axis::Live, Arc::new(TsRule::default()));
            }
            judge
        };
        Both {
            judges: [made(), made()],
            told: Default::default(),
            now: Timestamp::from_nanos(1_000_000_000),
            content,
        }
    }

    fn offer(&mut self, sent: &Sent) {
        let packet = Packet {
            sequence: sent.sequence,
            retransmitted: sent.retransmitted,
            payload: &sent.payload,
            ts: if sent.is_ts {
                mpegts::visible(&sent.payload)
            } else {
                &[]
            },
            hash: sent.hash,
            content: self.content,
        };
        let [bytes, digests] = &mut self.judges;
        let [by_bytes, by_digests] = &mut self.told;
        let fresh = bytes.offer(self.now, &packet, &mut |event| by_bytes.push(event));
        let digest = packet.digest();
        let also = digests.offer_digest(self.now, &digest, packet.bytes(), &mut |event| by_digests.push(event));
        assert_eq!(fresh, also, "{sent:?}");
        assert_eq!(by_bytes.len(), by_digests.len(), "{sent:?}");
    }

    fn both(&mut self, work: impl Fn(&mut Judge, &mut Vec<Event>)) {
        self.judges
            .iter_mut()
            .zip(&mut self.told)
            .for_each(|(judge, told)| work(judge, told));
    }

    /// Everything that is known, of each.
    fn finish(mut self) -> [String; 2] {
        self.both(|judge, told| judge.flush(&mut |event| told.push(event)));
        let mut told = self.told.into_iter();
        self.judges.map(|judge| {
            let pids: Vec<_> = judge.pids().collect();
            let report = judge.analyser().map(Analyser::report);
            let counted = (judge.ts(), judge.transport(), judge.settling());
            format!("{counted:?} {pids:?} {report:#?} {:#?}", told.next())
        })
    }
}

/// Sends a datagram as its fate wants it, with all that happens beside it.
fn send(both: &mut Both, sent: &mut Sent, before: &[Sent], held: &mut Vec<Sent>, (fate, bits): Fate) {
    let pick = |sent: &Sent| {
        before
            .get(usize::from(bits) % before.len().max(1))
            .unwrap_or(sent)
            .clone()
    };
    match fate {
        // Lost, reordered, twice.
        0 => return,
        1 | 2 => return held.push(sent.clone()),
        3 => both.offer(sent),
        // One from before, as it was or with another content, or sent again.
        4 => both.offer(&pick(sent)),
        5 => {
            let mut other = pick(sent);
            let place = usize::from(bits) % other.payload.len().max(1);
            other.payload.get_mut(place).into_iter().for_each(|byte| *byte ^= 0x55);
            both.offer(&other);
        }
        6 => both.offer(&Sent {
            retransmitted: true,
            ..pick(sent)
        }),
        // One from nowhere.
        7 => both.offer(&Sent {
            sequence: sent.sequence.wrapping_add(bits.into()),
            ..sent.clone()
        }),
        8 => sent.is_ts = false,
        9 => sent.payload.truncate(usize::from(bits) % 1316),
        10 => sent.payload = sent.payload.repeat(2),
        11 => sent.hash = Some(bits.into()),
        12 => sent.retransmitted = true,
        13 => both.both(|judge, told| judge.rebase(&mut |event| told.push(event))),
        14 => both.both(|judge, told| judge.blind(&mut |event| told.push(event))),
        15 => both.now = both.now.after(Duration::from_millis((bits % 2000).into())),
        16 => {
            let now = both.now;
            both.both(|judge, told| judge.advance(now, &mut |event| told.push(event)));
        }
        17 => both.both(|judge, _| judge.set_window(Duration::from_millis((bits % 500).into()))),
        18 => {
            let now = both.now;
            both.both(|judge, _| judge.taint(now));
        }
        _ => {}
    }
    both.offer(sent);
}

fn through_both_ways(
    (ordering, content, analyse): (Ordering, Content, bool),
    wishes: &[Wish],
    size: usize,
    fates: &[Fate],
) -> [String; 2] {
    let mut both = Both::new(ordering, content, analyse);
    let mut multiplexer = Multiplexer::default();
    let (mut before, mut held) = (Vec::<Sent>::new(), Vec::<Sent>::new());
    let mut sequence = 0xfff0_u32;
    for (nth, wishes) in wishes.chunks(size).enumerate() {
        let payload = wishes.iter().flat_map(|wish| multiplexer.next(*wish)).collect();
        sequence = sequence.wrapping_add(1);
        let mut sent = Sent {
            sequence,
            payload,
            is_ts: true,
            retransmitted: false,
            hash: None,
        };
        both.now = both.now.after(Duration::from_millis(3));
        let (fate, bits) = fates[nth % fates.len()];
        if fate == 19 && bits % 8 == 0 {
            sequence = sequence.wrapping_add(bits.into());
        }
        send(&mut both, &mut sent, &before, &mut held, (fate, bits));
        before.push(sent);
        if before.len() > REMEMBERED {
            before.remove(0);
        }
        if nth % 5 == 4 {
            held.drain(..).rev().for_each(|late| both.offer(&late));
        }
    }
    both.finish()
}

/// Packets of one PID in rows, each of its own length, so that runs are broken at every place.
fn wishes() -> impl Strategy<Value = Vec<Wish>> {
    let row = (0..PIDS.len(), prop::collection::vec((0_u8..70, any::<u8>()), 1..20));
    prop::collection::vec(row, 1..60).prop_map(|rows| {
        let of_row = |(pid, row): (usize, Vec<(u8, u8)>)| row.into_iter().map(move |(odd, bits)| (pid, odd, bits));
        rows.into_iter().flat_map(of_row).collect()
    })
}

fn kinds() -> impl Strategy<Value = (Ordering, Content, bool)> {
    let orderings = prop_oneof![Just(Ordering::Rtp), Just(Ordering::Srt), Just(Ordering::Arrival)];
    let contents = prop_oneof![Just(Content::Sampled), Just(Content::Full)];
    (orderings, contents, any::<bool>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn bytes_and_digests_are_judged_alike(
        kind in kinds(),
        wishes in wishes(),
        size in 1_usize..8,
        fates in prop::collection::vec((0_u8..120, any::<u16>()), 1..200),
    ) {
        let [bytes, digests] = through_both_ways(kind, &wishes, size, &fates);
        prop_assert_eq!(bytes, digests);
    }
}

/// A run of each length up to a datagram's, broken at each place by each kind of odd packet, in each kind of judge.
#[test]
fn a_run_may_be_broken_anywhere() {
    for place in 0..28 {
        for odd in (0..=10).chain([99]) {
            for bits in [0_u8, 0x10, 0x40, 0x80, 0x90, 0xff] {
                for other in [0, 1, 3] {
                    let wishes: Vec<Wish> = (0..35)
                        .map(|n| if n == place { (other, odd, bits) } else { (0, 99, 0) })
                        .collect();
                    let kind = (Ordering::Rtp, Content::Sampled, true);
                    let [bytes, digests] = through_both_ways(kind, &wishes, 7, &[(99, 0)]);
                    assert_eq!(bytes, digests, "place {place}, odd {odd}, bits {bits:x}, PID {other}");
                }
            }
        }
    }
}

/// A PID goes on behind a gap in which it sent nothing, and then sends a packet twice: which a whole datagram of its packets
/// must not hide, nor null packets before it.
#[test]
fn a_gap_is_seen_behind_null_packets() {
    for analyse in [false, true] {
        let mut both = Both::new(Ordering::Rtp, Content::Sampled, analyse);
        let mut multiplexer = Multiplexer::default();
        let rows: [[usize; 7]; 8] = [
            [2, 5, 0, 0, 0, 0, 0],
            [0; 7],
            [0; 7],
            [1; 7],
            [3; 7],
            [0; 7],
            [0; 7],
            [0; 7],
        ];
        for (sequence, row) in rows.iter().enumerate() {
            let odd = |place| if (sequence, place) == (6, 0) { 10 } else { 99 };
            let payload = (0..7).flat_map(|n| multiplexer.next((row[n], odd(n), 0))).collect();
            let sent = Sent {
                sequence: sequence as u32,
                payload,
                is_ts: true,
                retransmitted: false,
                hash: None,
            };
            both.now = both.now.after(Duration::from_millis(3));
            match sequence {
                3 => {}
                4 => {
                    both.offer(&sent);
                    let later = both.now.after(Duration::from_millis(80));
                    both.now = later;
                    both.both(|judge, told| judge.advance(later, &mut |event| told.push(event)));
                }
                _ => both.offer(&sent),
            }
        }
        let counted = both.judges[0].ts();
        assert_eq!((counted.duplicates, counted.continuity_errors.network), (1, 0));
        let [bytes, digests] = both.finish();
        assert_eq!(bytes, digests);
    }
}

#[test]
fn most_packets_go_the_short_way() {
    let mut both = Both::new(Ordering::Rtp, Content::Sampled, true);
    let mut multiplexer = Multiplexer::default();
    let mut took = 0;
    for sequence in 0..100 {
        let payload: Vec<u8> = (0..7).flat_map(|n| multiplexer.next((n / 4, 99, 0))).collect();
        let packet = Packet {
            sequence,
            retransmitted: false,
            payload: &payload,
            ts: payload.as_chunks().0,
            hash: None,
            content: Content::Sampled,
        };
        took += u32::from(both.judges[0].take(both.now, &packet));
        if sequence == 0 {
            both.judges[0].offer(both.now, &packet, &mut |_| ());
        }
    }
    assert_eq!(took, 99, "all but the first");
    assert_eq!(both.judges[0].ts().packets, 700);
}
