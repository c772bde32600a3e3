//! Sessions fed with segments in whatever pieces and order: the same bytes, the same verdict.

use proptest::prelude::*;
use tidegate_common::wire::tcp::{ACK, SYN, Tcp, URG};

use super::reassembly::BUDGET;
use super::session::{News, Session};
use super::*;
use crate::engine::media::rtmp::chunk::COMMAND_AMF0;
use crate::engine::media::rtmp::tests::{about, chunked, connect, handshake, publication};
use crate::engine::memory::Allowance;
use crate::policy::glob::Glob;
use crate::policy::rule::{OnUnverified, RtmpRule};

/// Numbers wrap within the handshake.
const ISN: u32 = u32::MAX - 1000;

fn rule(applications: &[&str], keys: &[&str]) -> RtmpRule {
    let globs = |texts: &[&str]| {
        let globs: Vec<Glob> = texts.iter().map(|text| Glob::new(text).unwrap()).collect();
        (!globs.is_empty()).then_some(globs)
    };
    RtmpRule {
        applications: globs(applications),
        stream_keys: globs(keys),
        ..RtmpRule::default()
    }
}

fn studio() -> RtmpRule {
    rule(&["live"], &["none", "cam-*"])
}

fn header(flags: u8, sequence: u32, acknowledgement: u32) -> Tcp {
    Tcp::build(40_000, 1935, 5, flags).with_numbers(sequence, acknowledgement)
}

/// A session and what it said last.
struct Bench {
    session: Session,
    rule: RtmpRule,
    allowance: Allowance,
    news: Vec<News>,
}

/// Memory for any session.
const PLENTY: usize = 1 << 21;

impl Bench {
    fn new(rule: RtmpRule) -> Bench {
        let mut bench = Bench {
            session: Session::default(),
            rule,
            allowance: Allowance::new(PLENTY),
            news: Vec::new(),
        };
        assert_eq!(bench.raw(SYN, ISN, b""), Ok(()));
        bench
    }

    fn raw(&mut self, flags: u8, sequence: u32, payload: &[u8]) -> Result<(), DropReason> {
        let (verdict, news) = self
            .session
            .segment(header(flags, sequence, 1), payload, &self.rule, &self.allowance);
        self.news.extend(news);
        let held = self.session.memory();
        assert!(held <= super::session::MAX_LINES * 4 * BUDGET, "{held}");
        assert_eq!(self.allowance.left(), PLENTY - held, "what is held is paid for");
        verdict
    }

    /// A piece of the client's bytes by its place.
    fn piece(&mut self, at: usize, bytes: &[u8]) -> Result<(), DropReason> {
        self.raw(ACK, ISN.wrapping_add(1).wrapping_add(at as u32), bytes)
    }

    /// All bytes in segments of `size`, to the first that is dropped.
    fn send(&mut self, bytes: &[u8], size: usize) -> Result<(), DropReason> {
        bytes
            .chunks(size)
            .enumerate()
            .try_for_each(|(n, piece)| self.piece(n * size, piece))
    }

    fn report(&self) -> RtmpReport {
        self.session.figures.report()
    }
}

#[test]
fn what_the_rule_lists_may_publish() {
    let mut bench = Bench::new(studio());
    let bytes = publication("live", "cam-1?token=x");
    assert_eq!(bench.send(&bytes, 1400), Ok(()));
    let told = bench.report();
    assert_eq!(
        (told.application.as_deref(), told.client.as_deref()),
        (Some("live"), Some("FMLE/3.0"))
    );
    assert_eq!(
        (told.purpose, told.publish_type, told.key_pattern),
        (Some("publish"), Some("live"), Some(2))
    );
    assert!(told.verified && told.refused.is_none());
    assert_eq!(bench.news, [News::Admitted]);
    // Media passes without being looked at.
    assert_eq!(bench.piece(bytes.len(), &[0xff; 1400]), Ok(()));
    assert_eq!(bench.piece(bytes.len() + 5_000_000, &[0xff; 1400]), Ok(()));
}

#[test]
fn another_key_is_dropped_for_the_connections_life() {
    let mut bench = Bench::new(studio());
    let bytes = publication("live", "hijack");
    assert_eq!(bench.send(&bytes, 100), Err(DropReason::RtmpStreamKey));
    let told = bench.report();
    assert_eq!((told.verified, told.refused), (false, Some("rtmp-stream-key")));
    assert_eq!((told.application.as_deref(), told.key_pattern), (Some("live"), None));
    for at in [0, bytes.len() - 10, bytes.len(), 1 << 24] {
        assert_eq!(bench.piece(at, b"again"), Err(DropReason::RtmpStreamKey));
    }
    // Another SYN is the client's word alone; the server's answer makes it a connection.
    assert_eq!(bench.raw(SYN, 77, b""), Err(DropReason::RtmpStreamKey));
    bench.session.reply(header(SYN | ACK, 5, 78));
    assert_eq!(bench.raw(ACK, 78, &publication("live", "cam-2")), Ok(()));
    assert!(bench.report().verified);
}

#[test]
fn another_application_is_dropped_wherever_it_is_named() {
    let refused = |app: &str, url: &str| {
        let command = connect(&[("app", app.as_bytes()), ("tcUrl", url.as_bytes())]);
        let bytes = [handshake(), chunked(3, COMMAND_AMF0, &command, 128)].concat();
        Bench::new(studio()).send(&bytes, 1400)
    };
    assert_eq!(refused("live", "rtmp://h/live"), Ok(()));
    assert_eq!(refused("live", "rtmp://h/live/"), Ok(()));
    assert_eq!(refused("live", ""), Ok(()));
    assert_eq!(refused("vod", "rtmp://h/vod"), Err(DropReason::RtmpApplication));
    assert_eq!(refused("live", "rtmp://h/vod"), Err(DropReason::RtmpApplication));
    assert_eq!(refused("", "rtmp://h/live"), Err(DropReason::RtmpApplication));
}

#[test]
fn neither_report_nor_debug_tells_the_key() {
    for key in ["cam-sesame", "other-sesame"] {
        let mut bench = Bench::new(studio());
        let bytes = publication("live?token=sesame", key);
        for end in [bytes.len() / 2, bytes.len() - 3, bytes.len()] {
            let _ = bench.piece(0, &bytes[..end]);
            let shown = format!("{:?} {:?}", bench.session, bench.report());
            assert!(!shown.contains("sesame"), "{shown}");
            let as_bytes = format!("{:?}", "sesame".as_bytes());
            assert!(!shown.contains(as_bytes.trim_matches(['[', ']'])), "{shown}");
        }
    }
}

#[test]
fn commands_out_of_place_are_not_rtmp() {
    let publish = chunked(4, COMMAND_AMF0, &about("publish", b"cam-1", Some("live")), 128);
    let media = chunked(6, 9, b"video", 128);
    let aggregate = chunked(6, 22, &publish, 128);
    for bytes in [publish, media, aggregate] {
        let bytes = [handshake(), bytes].concat();
        assert_eq!(Bench::new(studio()).send(&bytes, 1400), Err(DropReason::NotRtmp));
    }
    assert_eq!(
        Bench::new(rule(&[], &[])).send(b"POST /open/1 HTTP/1.1\r\n", 1400),
        Err(DropReason::NotRtmp)
    );
}

#[test]
fn encryption_passes_where_the_rule_asks_for_nothing_within() {
    for (hello, name) in [(&b"\x16\x03\x01\x02\x00\x01"[..], "tls"), (&b"\x06\x00"[..], "rtmpe")] {
        assert_eq!(Bench::new(studio()).piece(0, hello), Err(DropReason::NotRtmp));
        let mut bench = Bench::new(rule(&[], &[]));
        assert_eq!(bench.send(hello, 1), Ok(()));
        assert_eq!(
            (bench.session.figures.encryption, bench.report().verified),
            (name, false)
        );
        assert_eq!(bench.piece(6, &[0; 1400]), Ok(()));
    }
}

#[test]
fn a_connection_joined_in_mid_stream_is_unverified_and_passes() {
    let mut session = Session::default();
    let (verdict, news) = session.segment(
        header(ACK, 1234, 1),
        &publication("vod", "x"),
        &studio(),
        &Allowance::unlimited(),
    );
    assert_eq!((verdict, news), (Ok(()), None));
    assert!(session.fresh_figures().is_some() && session.fresh_figures().is_none());
    assert_eq!(
        (session.figures.encryption, session.figures.report().verified),
        ("unverified", false)
    );
    assert_eq!(session.memory(), 0);

    let mut bench = Bench::new(studio());
    assert_eq!(bench.piece(0, &handshake()), Ok(()));
    bench.session.blind();
    assert_eq!(bench.piece(4000, b"after a gap of the appliance's own"), Ok(()));
    assert_eq!(bench.session.figures.encryption, "unverified");
}

#[test]
fn where_the_rule_says_so_nothing_passes_unverified() {
    let strict = RtmpRule {
        on_unverified: OnUnverified::Drop,
        ..studio()
    };
    let mut session = Session::default();
    let publishes = publication("live", "cam-1");
    let (verdict, _) = session.segment(header(ACK, 1234, 1), &publishes, &strict, &Allowance::unlimited());
    assert_eq!(verdict, Err(DropReason::RtmpUnverified));
    assert_eq!(session.fragment(&strict), Err(DropReason::RtmpUnverified));

    let mut bench = Bench::new(strict);
    assert_eq!(bench.piece(0, &handshake()), Ok(()));
    bench.session.blind();
    assert_eq!(bench.piece(4000, b"after a gap"), Err(DropReason::RtmpUnverified));
    // A new connection on the same ports is followed from its beginning.
    let mut again = Bench::new(bench.rule.clone());
    assert_eq!(again.send(&publication("live", "cam-1"), 1000), Ok(()));
}

#[test]
fn a_second_copy_may_not_say_something_else() {
    let good = publication("live", "cam-1");
    let bad = publication("live", "cam-2");
    let publish = good.len() - 60;
    let mut bench = Bench::new(studio());
    assert_eq!(bench.piece(0, &good[..publish]), Ok(()));
    assert_eq!(bench.piece(0, &[bad[0] ^ 1]), Err(DropReason::NotRtmp));
    assert_eq!(bench.news, [News::Conflict]);
    assert_eq!(
        bench.piece(publish, &good[publish..]),
        Ok(()),
        "the first copy counts and goes on"
    );
    // After the decision as well, until the server has acknowledged the bytes.
    assert_eq!(bench.piece(publish, &bad[publish..]), Err(DropReason::NotRtmp));
    assert_eq!(
        bench.piece(publish, &good[publish..]),
        Ok(()),
        "an honest retransmission"
    );
    assert_eq!(bench.news, [News::Conflict, News::Admitted, News::Conflict]);
    let end = ISN.wrapping_add(1).wrapping_add(good.len() as u32);
    bench.session.reply(header(ACK, 9, end.wrapping_sub(1)));
    assert!(bench.session.memory() > 0);
    bench.session.reply(header(ACK, 9, end));
    assert_eq!(bench.session.memory(), 0, "acknowledged: nothing is kept");
    assert_eq!(
        bench.piece(publish, &bad[publish..]),
        Ok(()),
        "the server has those bytes and ignores copies"
    );
}

#[test]
fn what_the_server_would_not_read_is_not_read_here() {
    let bytes = publication("live", "cam-1");
    let mut bench = Bench::new(studio());
    let first = ISN.wrapping_add(1);
    assert_eq!(
        bench.raw(ACK | URG, first, &bytes),
        Err(DropReason::NotRtmp),
        "an urgent byte is taken out"
    );
    // A SYN that the server did not answer, and a whole connection made to look like its own.
    bench.session.reply(header(SYN | ACK, 1, first));
    assert_eq!(bench.raw(SYN, 0x7000_0000, b""), Ok(()));
    assert_eq!(bench.raw(ACK, 0x7000_0001, &bytes), Err(DropReason::NotRtmp));
    let hijack = publication("live", "hijack");
    assert_eq!(bench.raw(ACK, first, &hijack), Err(DropReason::RtmpStreamKey));
}

#[test]
fn ports_are_used_again() {
    let mut bench = Bench::new(studio());
    assert_eq!(bench.send(&publication("live", "cam-1"), 1400), Ok(()));
    // Without a word of the server the client's data shows which connection goes on.
    let mut unheard = Bench::new(studio());
    assert_eq!(unheard.piece(0, &handshake()), Ok(()));
    assert_eq!(unheard.raw(SYN, 0x3000_0000, b""), Ok(()));
    assert_eq!(unheard.raw(ACK, 0x3000_0001, &publication("live", "cam-1")), Ok(()));
    assert!(unheard.report().verified);
    // Also after a connection that was not looked into.
    let mut session = Session::default();
    let mut send = |flags, sequence, payload: &[u8]| {
        let (verdict, _) = session.segment(header(flags, sequence, 1), payload, &studio(), &Allowance::unlimited());
        verdict
    };
    assert_eq!(send(ACK, 0x5000_0000, b"joined in mid-stream"), Ok(()));
    assert_eq!(send(SYN, 0x7000_0000, b""), Ok(()));
    let refused = send(ACK, 0x7000_0001, &publication("live", "hijack"));
    assert_eq!(refused, Err(DropReason::RtmpStreamKey));
}

#[test]
fn keep_alives_pass_and_what_is_far_off_does_not() {
    let mut bench = Bench::new(studio());
    assert_eq!(bench.raw(ACK, ISN, b"\0"), Ok(()));
    assert_eq!(
        bench.raw(ACK, ISN.wrapping_sub(5000), b"long ago"),
        Err(DropReason::NotRtmp)
    );
    assert_eq!(bench.piece(1 << 20, b"far ahead"), Err(DropReason::NotRtmp));
    assert_eq!(bench.raw(ACK, ISN, &[b"\0", &handshake()[..]].concat()), Ok(()));
}

#[test]
fn a_client_that_never_asks_is_given_up() {
    let chatter = |rule: RtmpRule| {
        let start = [
            handshake(),
            chunked(3, COMMAND_AMF0, &connect(&[("app", b"live")]), 128),
        ]
        .concat();
        let mut bytes = start;
        while bytes.len() < BUDGET + 3000 {
            bytes.extend(chunked(2, 4, &[0, 7, 0, 0, 0, 1], 128));
        }
        let mut bench = Bench::new(rule);
        (bench.send(&bytes, 1400), bench.report().verified)
    };
    assert_eq!(chatter(studio()), (Err(DropReason::NotRtmp), false));
    assert_eq!(chatter(rule(&["live"], &[])), (Ok(()), true));
    assert_eq!(chatter(rule(&[], &[])), (Ok(()), true));
}

#[test]
fn fragments_hide_nothing() {
    assert_eq!(
        Session::default().fragment(&RtmpRule::default()),
        Err(DropReason::NotRtmp),
        "a SYN in parts would make what follows look like a join in mid-stream"
    );
    let mut bench = Bench::new(studio());
    assert_eq!(bench.session.fragment(&RtmpRule::default()), Err(DropReason::NotRtmp));
    assert_eq!(bench.send(&publication("live", "cam-1"), 1400), Ok(()));
    assert_eq!(bench.session.fragment(&RtmpRule::default()), Ok(()));
    assert_eq!(
        bench.session.fragment(&studio()),
        Err(DropReason::NotRtmp),
        "it may be a SYN, and nobody would tell"
    );
    let _ = bench.raw(SYN, 9, b"");
    bench.session.reply(header(SYN | ACK, 1, 10));
    assert_eq!(bench.raw(ACK, 10, b"HTTP"), Err(DropReason::NotRtmp));
    assert_eq!(bench.session.fragment(&RtmpRule::default()), Err(DropReason::NotRtmp));
}

#[test]
fn without_memory_a_bound_connection_waits_and_another_passes_unverified() {
    let bytes = publication("live", "cam-1");
    for (rule, verdict, encryption) in [
        (studio(), Err(DropReason::NotRtmp), "none"),
        (rule(&[], &[]), Ok(()), "unverified"),
    ] {
        let mut session = Session::default();
        let allowance = Allowance::new(1000);
        let mut send = |bytes: &[u8], flags, allowance: &Allowance| {
            let sequence = ISN.wrapping_add(u32::from(flags == ACK));
            session.segment(header(flags, sequence, 1), bytes, &rule, allowance).0
        };
        assert_eq!(send(b"", SYN, &allowance), Ok(()));
        assert_eq!(send(&bytes, ACK, &allowance), verdict);
        assert_eq!((session.figures.encryption, allowance.left()), (encryption, 1000));
    }
}

/// A publication that the rule refuses, in segments from a number on: whether it was ever complete.
fn hijacks(bench: &mut Bench, first: u32) -> bool {
    let bytes = publication("vod", "hijack");
    let pieces = bytes.chunks(1400).enumerate();
    pieces
        .map(|(n, piece)| bench.raw(ACK, first.wrapping_add(n as u32 * 1400), piece))
        .filter(Result::is_err)
        .count()
        == 0
}

fn unopened() -> Bench {
    Bench {
        session: Session::default(),
        rule: studio(),
        allowance: Allowance::new(PLENTY),
        news: Vec::new(),
    }
}

#[test]
fn a_stray_segment_before_the_syn_hides_no_connection() {
    for (isn, heard) in [
        (u32::MAX, true),
        (u32::MAX, false),
        (1000, true),
        (1000, false),
        (0x5000_0000, false),
    ] {
        let mut bench = unopened();
        let _ = bench.raw(ACK, 5, b"");
        assert_eq!(bench.raw(SYN, isn, b""), Ok(()));
        let first = isn.wrapping_add(1);
        if heard {
            bench.session.reply(header(SYN | ACK, 9, first));
        }
        assert!(!hijacks(&mut bench, first), "{isn} {heard}");
    }
}

#[test]
fn a_decoy_connection_vouches_for_no_other() {
    let good = publication("live", "cam-1");
    for (decoy, heard) in [
        (0x4000_0001, false),
        (0x4000_0001, true),
        (1501, false),
        (1501, true),
        (1001, false),
    ] {
        for real_first in [true, false] {
            let mut bench = unopened();
            for isn in if real_first {
                [1000, decoy - 1]
            } else {
                [decoy - 1, 1000]
            } {
                assert_eq!(bench.raw(SYN, isn, b""), Ok(()));
            }
            if heard {
                bench.session.reply(header(SYN | ACK, 9, 1001));
            }
            for (n, piece) in good.chunks(1400).enumerate() {
                let _ = bench.raw(ACK, decoy + n as u32 * 1400, piece);
            }
            // What was sent to the decoy does not arrive at the real one's server, which therefore acknowledges nothing of it.
            assert!(!hijacks(&mut bench, 1001), "{decoy:#x} {heard} {real_first}");
        }
    }
}

#[test]
fn a_number_used_again_is_another_connection() {
    for heard in [false, true] {
        let mut bench = Bench::new(studio());
        let first = ISN.wrapping_add(1);
        let good = publication("live", "cam-1");
        if heard {
            bench.session.reply(header(SYN | ACK, 9, first));
        }
        assert_eq!(bench.send(&good, 1400), Ok(()));
        if heard {
            bench
                .session
                .reply(header(ACK, 9, first.wrapping_add(good.len() as u32)));
        }
        assert_eq!(bench.raw(SYN, ISN, b""), Ok(()));
        if heard {
            bench.session.reply(header(SYN | ACK, 9, first));
        }
        assert!(!hijacks(&mut bench, first));
    }
}

#[test]
fn many_syns_push_out_none_that_is_undecided() {
    for heard in [false, true] {
        let mut bench = unopened();
        let _ = bench.raw(ACK, 5, b"");
        assert_eq!(bench.raw(SYN, 1000, b""), Ok(()));
        let decoys = (1..20u32).filter(|n| bench.raw(SYN, n << 27, b"").is_ok()).count();
        assert_eq!(decoys, super::session::MAX_LINES - 1);
        if heard {
            bench.session.reply(header(SYN | ACK, 9, 1001));
        }
        assert!(!hijacks(&mut bench, 1001));
        assert!(!heard || bench.session.memory() == 0);
    }
}

#[test]
fn after_the_decision_far_numbers_are_of_another_connection() {
    let mut bench = Bench::new(studio());
    let good = publication("live", "cam-1");
    assert_eq!(bench.send(&good, 1400), Ok(()));
    for n in 1..100 {
        assert_eq!(bench.piece(good.len() + n * 50_000_000, b"media"), Ok(()), "it goes on");
    }
    assert_eq!(bench.piece(0, b"far behind by now"), Err(DropReason::NotRtmp));
}

/// Cuts bytes at some places, repeats some pieces, and shuffles what lies within a few pieces of each other.
fn pieces(
    bytes: &[u8],
    cuts: &[prop::sample::Index],
    again: &[prop::sample::Index],
    keys: &[u8],
) -> Vec<(usize, Vec<u8>)> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    places.dedup();
    let mut pieces: Vec<_> = places
        .windows(2)
        .map(|pair| (pair[0], bytes[pair[0]..pair[1]].to_vec()))
        .collect();
    let repeated: Vec<_> = again
        .iter()
        .map(|index| pieces[index.index(pieces.len())].clone())
        .collect();
    pieces.extend(repeated);
    let mut order: Vec<(usize, _)> = pieces.into_iter().enumerate().collect();
    order.sort_by_key(|(n, (at, _))| at / 600 + usize::from(keys[n % keys.len()] % 3) * 2);
    order.into_iter().map(|(_, piece)| piece).collect()
}

proptest! {
    #[test]
    fn any_split_order_and_repetition_gives_the_same_verdict(
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..14),
        again in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        keys in prop::collection::vec(any::<u8>(), 1..9),
        key in prop::sample::select(vec!["cam-1", "hijack"]),
        application in prop::sample::select(vec!["live", "vod"]),
    ) {
        let bytes = publication(application, key);
        let mut whole = Bench::new(studio());
        let verdict = whole.piece(0, &bytes);
        let mut cut = Bench::new(studio());
        let mut last = Ok(());
        for (at, piece) in pieces(&bytes, &cuts, &again, &keys) {
            last = cut.piece(at, &piece);
        }
        prop_assert_eq!(last, verdict);
        prop_assert_eq!(cut.session.figures, whole.session.figures);
    }

    #[test]
    fn arbitrary_segments_stay_within_bounds(
        segments in prop::collection::vec((any::<u8>(), 0u32..20_000, prop::collection::vec(any::<u8>(), 0..200), any::<bool>()), 0..60),
        constrained in any::<bool>(),
    ) {
        let mut bench = Bench::new(if constrained { studio() } else { rule(&[], &[]) });
        let _ = bench.piece(0, &handshake());
        for (flags, at, payload, reply) in segments {
            if reply {
                bench.session.reply(header(flags, at, ISN.wrapping_add(at)));
            } else {
                let _ = bench.raw(flags, ISN.wrapping_add(at), &payload);
            }
        }
    }
}

/// The client's packet from its IP header on.
fn packet(flags: u8, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 0, 0, 1, 0x40, 0, 61, 6, 0, 0, 10, 0, 0, 1, 10, 9, 9, 9];
    packet.extend_from_slice(&header(flags, sequence, 1).bytes());
    packet.extend_from_slice(payload);
    let length = packet.len() as u16;
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    packet
}

#[test]
fn the_engine_tells_and_drops_by_the_rule() {
    for (enforce, key, dropped, shadow) in [(true, "cam-1", 0, 0), (true, "hijack", 2, 0), (false, "hijack", 0, 2)] {
        let text = format!(
            "version = 1\ndefault_action = \"drop\"\n[[rule]]\nname = \"a\"\nprotocol = \"rtmp\"\nenforce = {enforce}\n\
             source = [\"10.0.0.1\"]\ndestination_port = [1935]\n[rule.rtmp]\napplication = [\"live\"]\nstream_key_file = \"k\"\n"
        );
        let policy = crate::policy::parse("a.toml", &text).unwrap();
        let policy = policy.with_secrets(&mut |_| Ok(b"cam-*".to_vec().into())).unwrap();
        let published = crate::engine::Published {
            policy: &policy,
            generation: 1,
        };
        let mut engine = crate::engine::Engine::new(crate::engine::Config::default());
        let now = crate::engine::time::Timestamp::from_nanos(1);
        let bytes = publication("live", key);
        let (first, last) = bytes.split_at(bytes.len() - 10);
        let at = |place: usize| ISN.wrapping_add(1).wrapping_add(place as u32);
        for packet in [
            packet(SYN, ISN, b""),
            packet(ACK, at(0), &first[..1400]),
            packet(ACK, at(1400), &first[1400..]),
            packet(ACK, at(first.len()), last),
        ] {
            engine.process_bare(now, &published, &packet);
        }
        let counters = engine.counters();
        let reason = DropReason::RtmpStreamKey.index();
        assert_eq!((counters.dropped[reason], counters.dropped_total()), (dropped, dropped));
        assert_eq!(counters.shadow_dropped_total(), shadow);
        let told: Vec<StreamChange> = std::iter::from_fn(|| engine.next_event())
            .map(|event| event.change)
            .collect();
        let expected = |change: &StreamChange| match change {
            StreamChange::RtmpAdmitted { key_pattern, .. } => dropped + shadow == 0 && *key_pattern == Some(1),
            StreamChange::RtmpRefused { reason, .. } => dropped + shadow > 0 && *reason == "rtmp-stream-key",
            _ => false,
        };
        assert_eq!(told.iter().filter(|change| expected(change)).count(), 1, "{told:?}");
        assert!(!format!("{told:?} {:?}", engine.streams()).contains(key));
    }
}

#[test]
fn where_no_connection_can_be_remembered_none_that_a_rule_binds_passes() {
    for (bound, dropped) in [("application = [\"live\"]\n", 4), ("", 0)] {
        let text = format!(
            "version = 1\ndefault_action = \"drop\"\n[[rule]]\nname = \"a\"\nprotocol = \"rtmp\"\n\
             source = [\"10.0.0.1\"]\ndestination_port = [1935]\n[rule.rtmp]\n{bound}[[rule]]\nname = \"b\"\n\
             protocol = \"rtp\"\nsource = [\"10.0.0.2\"]\ndestination_port = [5000]\n"
        );
        let policy = crate::policy::parse("a.toml", &text).unwrap();
        let published = crate::engine::Published {
            policy: &policy,
            generation: 1,
        };
        let config = crate::engine::Config {
            max_flows: 4,
            ..crate::engine::Config::default()
        };
        let mut engine = crate::engine::Engine::new(config);
        let now = crate::engine::time::Timestamp::from_nanos(1);
        for port in 0..4u16 {
            for number in 0..4u16 {
                let mut datagram = vec![0x45, 0, 0, 0, 0, 1, 0x40, 0, 61, 17, 0, 0, 10, 0, 0, 2, 10, 9, 9, 9];
                for word in [
                    2000 + port,
                    5000,
                    208,
                    0,
                    0x8021,
                    number,
                    0,
                    0,
                    0,
                    7,
                    0x4701,
                    0x0010 | number,
                ] {
                    datagram.extend_from_slice(&word.to_be_bytes());
                }
                datagram.resize(228, 0);
                datagram[2..4].copy_from_slice(&228u16.to_be_bytes());
                engine.process_bare(now, &published, &datagram);
            }
        }
        let bytes = publication("vod", "hijack");
        engine.process_bare(now, &published, &packet(SYN, ISN, b""));
        for (n, piece) in bytes.chunks(1400).enumerate() {
            let sequence = ISN.wrapping_add(1 + n as u32 * 1400);
            engine.process_bare(now, &published, &packet(ACK, sequence, piece));
        }
        let counters = engine.counters();
        assert_eq!(bytes.chunks(1400).count(), 3);
        assert_eq!(
            (counters.flows_refused, counters.dropped_total()),
            (4, dropped),
            "{bound}"
        );
    }
}
