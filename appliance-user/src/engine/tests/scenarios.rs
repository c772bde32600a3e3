//! What happens to a stream in the field, and which state it is in then.

use super::*;
use crate::engine::event::StreamChange;

pub(super) const BLOCK: &str =
    "[rule.ts]\ncontinuity = { max_incidents = 0, window = \"1s\", on_exceed = \"block\", hold = \"2s\" }\n";

/// Seven TS packets, one of each of these PIDs in turn, all with the same counter.
fn rtp_of(sequence: u16, ssrc: u32, counter: u8, pids: [u16; 7]) -> Vec<u8> {
    let mut packet = rtp(sequence, ssrc);
    for (place, pid) in pids.into_iter().enumerate() {
        let fill = counter.wrapping_mul(7).wrapping_add(place as u8);
        packet[12 + place * 188..12 + (place + 1) * 188].copy_from_slice(&ts_packet(pid, counter, fill));
    }
    packet
}

impl Bench {
    /// What was told since it was last asked: changes of state as `from>to cause`, conditions as `+` and `-`.
    fn told(&mut self) -> Vec<(u64, String)> {
        let mut told = Vec::new();
        while let Some(event) = self.engine.next_event() {
            let text = match event.change {
                StreamChange::StateChanged { from, to, cause, .. } => format!("{}>{} {cause}", from.name(), to.name()),
                StreamChange::ConditionRaised { condition, .. } => format!("+{condition}"),
                StreamChange::ConditionCleared { condition, .. } => format!("-{condition}"),
                StreamChange::BlockWithheld { condition, .. } => format!("!{condition}"),
                StreamChange::BlockProlonged { condition, .. } => format!("..{condition}"),
                _ => continue,
            };
            told.push(((event.at.nanos() - 1_000_000_000) / 1_000_000, text));
        }
        told
    }

    fn told_names(&mut self) -> Vec<String> {
        self.told().into_iter().map(|(_, text)| text).collect()
    }

    /// A sound stream of one packet per millisecond, time passing beside it. All of it must be returned.
    fn flow(&mut self, ms: core::ops::Range<u64>, packet: impl Fn(u64) -> Vec<u8>) {
        for ms in ms {
            assert_eq!(self.send(ms, &packet(ms)), Verdict::Return, "at {ms} ms");
            self.engine.tick(at_ms(ms), 16);
        }
    }

    /// Nothing comes, time passes.
    fn wait(&mut self, ms: core::ops::Range<u64>) {
        for ms in ms.step_by(10) {
            self.engine.tick(at_ms(ms), 16);
        }
    }
}

fn sound(ms: u64) -> Vec<u8> {
    rtp(ms as u16, 7)
}

/// The packet of that millisecond with a counter that is wrong by its sender's fault.
fn faulty(ms: u64) -> Vec<u8> {
    let mut packet = sound(ms);
    packet[12 + 3] ^= 8;
    packet
}

#[test]
fn a_source_switch_on_eight_pids_is_one_incident_and_blocks_nothing() {
    let limit = BLOCK.replace("max_incidents = 0", "max_incidents = 1");
    let mut bench = Bench::new(rtp_policy(&limit));
    let pids = |ms: u64| {
        let first = if ms.is_multiple_of(2) { 256 } else { 257 };
        [first, 300, 301, 302, 303, 304, 305]
    };
    // Each PID of the first place comes every other packet, the others in each.
    let packet = |ms: u64, step: u8| {
        let mut packet = rtp_of(ms as u16, 7, (ms as u8).wrapping_add(step), pids(ms));
        packet[12 + 3] = 0x10 | ((ms / 2) as u8).wrapping_add(step) & 0x0f;
        packet
    };
    bench.flow(0..1000, |ms| packet(ms, 0));
    bench.flow(1000..6000, |ms| packet(ms, 5));
    let stream = bench.engine.streams().remove(0);
    assert_eq!(
        (stream.state, stream.worst_state),
        (StreamState::Healthy, StreamState::Healthy)
    );
    assert_eq!(stream.ts.expect("in the clear").continuity_errors.source, 8);
    assert_eq!(bench.told(), []);
    // A second switch half a second later is one too many.
    bench.flow(6000..6600, |ms| packet(ms, 9));
    for ms in 6600..9000 {
        bench.send(ms, &packet(ms, 14));
        bench.engine.tick(at_ms(ms), 16);
    }
    assert_eq!(
        bench.told_names()[..2],
        ["+continuity", "healthy>blocked continuity"].map(str::to_owned)
    );
}

#[test]
fn six_spoofed_packets_within_the_window_are_findings_and_block_nothing() {
    let mut bench = Bench::new(rtp_policy(BLOCK));
    for ms in 0..6000 {
        assert_eq!(bench.send(ms, &sound(ms)), Verdict::Return);
        if ms.is_multiple_of(300) && (1500..3300).contains(&ms) {
            // Ten numbers ahead of its time, with counters of its own.
            let mut spoofed = rtp(ms as u16 + 10, 7);
            (0..7).for_each(|place| spoofed[12 + place * 188 + 3] ^= 5);
            assert_eq!(bench.send(ms, &spoofed), Verdict::Return);
        }
        bench.engine.tick(at_ms(ms), 16);
    }
    let told = bench.told_names();
    let stream = bench.only_stream();
    assert_eq!(stream.findings.get("sequence-conflict"), Some(&6));
    assert!(stream.worst_state < StreamState::Blocked, "{told:?}");
    assert!(!told.iter().any(|text| text.contains("blocked")), "{told:?}");
}

#[test]
fn outages_of_one_and_of_five_seconds() {
    for (seconds, told) in [(1, &[][..]), (5, &["+silence", "healthy>degraded silence"][..])] {
        let mut bench = Bench::new(rtp_policy(&format!(
            "silence = \"2s\"\n{BLOCK}network_loss = {{ max_packets = 10000, window = \"1s\" }}\n"
        )));
        bench.flow(0..1000, sound);
        let back = 1000 + seconds * 1000;
        bench.wait(1000..back);
        // The sender went on; the network was away.
        bench.flow(back..back + 3000, sound);
        assert_eq!(bench.told_names(), told, "{seconds} s");
        bench.flow(back + 3000..back + 12_000, sound);
        let after: &[&str] = if told.is_empty() {
            &[]
        } else {
            &["-silence", "degraded>healthy clear"]
        };
        assert_eq!(bench.told_names(), after, "{seconds} s");
        let stream = bench.only_stream();
        let errors = stream.ts.expect("in the clear").continuity_errors;
        assert_eq!((errors.source, errors.network, errors.unknown), (0, 0, 0));
        assert_eq!(stream.transport.lost, seconds * 1000);
        assert_eq!(stream.state, StreamState::Healthy);
    }
}

#[test]
fn a_restarted_encoder_and_a_new_ssrc_begin_anew_in_health() {
    let mut bench = Bench::new(rtp_policy(BLOCK));
    bench.flow(0..2000, sound);
    // The encoder begins anew at once, with other numbers and other counters.
    bench.flow(2000..4000, |ms| rtp(40_003 + ms as u16, 7));
    bench.wait(4000..5500);
    bench.flow(5500..9000, |ms| rtp(ms as u16 + 5, 8));
    assert_eq!(bench.told(), []);
    let stream = bench.only_stream();
    assert_eq!((stream.identity.ssrc, stream.transport.resets), (Some(8), 2));
    assert_eq!(stream.worst_state, StreamState::Healthy);
}

#[test]
fn a_block_its_hold_probation_and_health_are_told_in_order() {
    let mut bench = Bench::new(rtp_policy(&format!("clear_after = \"3s\"\n{BLOCK}")));
    bench.flow(0..1000, sound);
    bench.send(1000, &faulty(1000));
    let mut dropped = 0;
    for ms in 1001..9000 {
        match bench.send(ms, &sound(ms)) {
            Verdict::Return => {}
            verdict => {
                assert_eq!(verdict, Verdict::Drop(DropReason::StreamBlocked));
                dropped += 1;
            }
        }
        bench.engine.tick(at_ms(ms), 16);
    }
    let told = bench.told();
    let names: Vec<&str> = told.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(
        names,
        [
            "+continuity",
            "healthy>blocked continuity",
            "blocked>degraded hold-over",
            "-continuity",
            "degraded>healthy clear"
        ]
    );
    let held = told[2].0 - told[1].0;
    // The event bears the time of the fault; what was not dropped is the time for which it settled.
    assert!((1800..=2000).contains(&held), "{told:?}");
    assert!((1700..=2000).contains(&dropped), "{dropped} dropped");
    assert_eq!(told[4].0 - told[2].0, 3000);
}

#[test]
fn in_shadow_mode_a_block_is_told_and_every_packet_returned() {
    let mut bench = Bench::new(rtp_policy(&format!("enforce = false\nclear_after = \"3s\"\n{BLOCK}")));
    bench.flow(0..1000, sound);
    bench.flow(1000..1001, faulty);
    bench.flow(1001..9000, sound);
    let expected = [
        "+continuity",
        "!continuity",
        "healthy>degraded continuity",
        "-continuity",
        "degraded>healthy clear",
    ];
    assert_eq!(bench.told_names(), expected);
    assert_eq!(bench.engine.counters().shadow_dropped_total(), 0);
    assert_eq!(bench.only_stream().worst_state, StreamState::Degraded);
}

#[test]
fn a_report_names_what_stands() {
    let mut bench = Bench::new(rtp_policy(
        "[rule.ts]\nnetwork_loss = { max_packets = 2, window = \"1s\" }\n",
    ));
    bench.flow(0..1000, sound);
    bench.flow(1005..2000, sound);
    bench.flow(2000..2001, faulty);
    bench.flow(2001..4000, sound);
    let stream = bench.engine.streams().remove(0);
    assert_eq!(stream.conditions, ["network-loss", "continuity"]);
    let value = serde_json::to_value(&stream).expect("serialises");
    assert_eq!(value["conditions"], serde_json::json!(["network-loss", "continuity"]));
}

#[test]
fn silence_is_not_claimed_of_a_time_in_which_the_engine_was_blind_nor_of_companions() {
    let mut bench = Bench::new(rtp_policy("silence = \"2s\"\n"));
    bench.flow(0..1000, sound);
    // Receiver reports beside it, five seconds apart.
    let rtcp = SocketAddr::from(([10, 0, 9, 9], 5001));
    let report = [0x80, 201, 0, 1, 0, 0, 0, 7];
    for ms in [0, 5000] {
        bench.offer(ms, wrapped(sender(), rtcp, &report));
    }
    // Three seconds in which XDP forwarded what nobody saw.
    bench.engine.blind();
    bench.wait(4000..5900);
    assert_eq!(bench.told(), []);
    bench.wait(5900..7000);
    let told = bench.told();
    assert_eq!(told[0], (6010, "+silence".to_owned()));
    assert_eq!(
        told.len(),
        2,
        "one stream is silent, its reports are not media: {told:?}"
    );
    // A packet after a blind time ends no silence that anybody knows of.
    let mut bench = Bench::new(rtp_policy("silence = \"2s\"\n"));
    bench.flow(0..1000, sound);
    bench.engine.blind();
    bench.flow(5000..6000, sound);
    assert_eq!(bench.told(), []);
}

#[test]
fn a_sender_that_repeats_its_last_second_is_silent() {
    use crate::policy::RuleId;
    let mut bench = Bench::new(rtp_policy("silence = \"2s\"\n"));
    bench.flow(0..2000, sound);
    bench.flow(2000..22_000, |ms| sound(1000 + ms % 1000));
    let told = bench.told();
    let raised = told.iter().find(|(_, text)| text == "+silence").map(|(ms, _)| *ms);
    assert_eq!(raised, Some(4000), "{told:?}");
    assert!(!told.iter().any(|(_, text)| text == "-silence"), "{told:?}");
    assert_eq!(bench.engine.activity().last(RuleId(0)), Some(at_ms(1999)));
    // It thaws.
    bench.flow(22_000..34_000, |ms| sound(ms - 20_000));
    assert!(bench.told_names().contains(&"-silence".to_owned()));
    let stream = bench.only_stream();
    assert_eq!((stream.transport.duplicated, stream.packets), (20_000, 34_000));
}

#[test]
fn media_of_confirmed_streams_is_what_a_rule_is_waited_for() {
    use crate::policy::RuleId;
    let mut bench = Bench::new(rtp_policy(""));
    let last = |bench: &Bench| bench.engine.activity().last(RuleId(0));
    bench.send(0, &sound(0));
    assert_eq!(last(&bench), None, "one packet may be anybody's");
    bench.send(1, &sound(1));
    assert_eq!(last(&bench), Some(at_ms(1)));
    let rtcp = SocketAddr::from(([10, 0, 9, 9], 5001));
    for ms in 2..10 {
        bench.offer(ms, wrapped(sender(), rtcp, &[0x80, 201, 0, 1, 0, 0, 0, 7]));
    }
    assert_eq!(last(&bench), Some(at_ms(1)), "reports are no media");
}
