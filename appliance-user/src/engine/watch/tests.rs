//! The state machine by itself: what is raised, told, blocked and cleared, and when.

use core::time::Duration;
use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::policy::rule::{BitrateLimit, NullPacketsLimit, OnExceed};

const SECOND: Duration = Duration::from_secs(1);

fn at(ms: u64) -> Timestamp {
    Timestamp::from_nanos(1_000_000_000 + ms * 1_000_000)
}

fn rule(change: impl FnOnce(&mut Rule)) -> Rule {
    let mut rule = Rule::observer();
    change(&mut rule);
    rule
}

fn bitrate(on_exceed: OnExceed) -> Option<BitrateLimit> {
    Some(BitrateLimit {
        min: None,
        max: Some(25_000_000),
        window: SECOND,
        on_exceed,
        hold: 5 * SECOND,
    })
}

fn null_packets() -> Option<NullPacketsLimit> {
    Some(NullPacketsLimit {
        max_percent: 20,
        window: SECOND,
        on_exceed: OnExceed::Alert,
        hold: SECOND,
    })
}

fn media(ms: u64) -> Option<Media> {
    Some(Media {
        last: at(ms),
        quiet_since: at(ms),
    })
}

/// A watch and what it told, in short: `+` raised, `-` cleared, `!` withheld, `..` prolonged, `from>to` with the cause.
struct Bench {
    watch: Watch,
    told: Vec<(u64, String)>,
    changes: Vec<StreamChange>,
}

impl Bench {
    fn new(rule: &Rule) -> Self {
        Bench::of(rule, StreamProtocol::Rtp)
    }

    fn of(rule: &Rule, protocol: StreamProtocol) -> Self {
        Bench {
            watch: Watch::new(rule, protocol),
            told: Vec::new(),
            changes: Vec::new(),
        }
    }

    fn does(&mut self, work: impl FnOnce(&mut Watch, &mut dyn FnMut(Timestamp, StreamChange))) {
        let (told, changes) = (&mut self.told, &mut self.changes);
        work(&mut self.watch, &mut |at, change| {
            let text = match &change {
                StreamChange::ConditionRaised { condition, .. } => format!("+{condition}"),
                StreamChange::ConditionCleared { condition, .. } => format!("-{condition}"),
                StreamChange::BlockWithheld { condition, .. } => format!("!{condition}"),
                StreamChange::BlockProlonged { condition, .. } => format!("..{condition}"),
                StreamChange::StateChanged {
                    from, to, cause, phase, ..
                } => format!("{}>{} {cause} {}", from.name(), to.name(), phase.unwrap_or("-")),
                other => panic!("a watch does not tell {other:?}"),
            };
            told.push(((at.nanos() - 1_000_000_000) / 1_000_000, text));
            changes.push(change);
        });
    }

    fn count(&mut self, ms: u64, cause: Cause, count: u64, tainted: bool) {
        self.does(|watch, mut out| watch.count(at(ms), cause, count, tainted, &mut out));
    }

    fn level(&mut self, ms: u64, cause: Cause, holds: bool, figure: u64) {
        self.does(|watch, mut out| watch.level(at(ms), cause, holds, figure, 25_000_000, &mut out));
    }

    /// Lets time pass in steps of 100 ms, media flowing all the while.
    fn pass(&mut self, ms: core::ops::RangeInclusive<u64>) {
        for ms in ms.step_by(100) {
            self.does(|watch, mut out| watch.advance(at(ms), media(ms), &mut out));
        }
    }

    fn told(&self) -> Vec<(u64, &str)> {
        self.told.iter().map(|(ms, text)| (*ms, text.as_str())).collect()
    }

    fn state(&self) -> StreamState {
        self.watch.state()
    }
}

#[test]
fn what_is_counted_is_raised_at_once_and_cleared_when_it_stays_away() {
    let rule = rule(|rule| Arc::make_mut(&mut rule.ts).network_loss.max_packets = 2);
    let mut bench = Bench::new(&rule);
    bench.count(0, Cause::NetworkLoss, 2, false);
    assert_eq!(bench.told(), []);
    bench.count(500, Cause::NetworkLoss, 1, false);
    bench.count(900, Cause::NetworkLoss, 1, false);
    bench.pass(1000..=20_000);
    assert_eq!(
        bench.told(),
        [
            (500, "+network-loss"),
            (500, "healthy>degraded network_loss -"),
            (10_900, "-network-loss"),
            (10_900, "degraded>healthy clear -"),
        ]
    );
    assert_eq!(bench.watch.worst(), StreamState::Degraded);
    let StreamChange::ConditionRaised {
        figure,
        limit,
        window_ms,
        on_exceed,
        ..
    } = bench.changes[0]
    else {
        panic!("{:?}", bench.changes[0]);
    };
    assert_eq!((figure, limit, window_ms, on_exceed), (3, 2, Some(1000), "alert"));
}

#[test]
fn a_limit_whose_window_still_holds_too_much_is_not_cleared() {
    let rule = rule(|rule| Arc::make_mut(&mut rule.ts).network_loss.window = 30 * SECOND);
    let mut bench = Bench::new(&rule);
    bench.count(0, Cause::NetworkLoss, 101, false);
    bench.pass(100..=40_000);
    assert_eq!(
        bench.told()[2..],
        [(30_000, "-network-loss"), (30_000, "degraded>healthy clear -")]
    );
}

#[test]
fn a_source_switch_on_eight_pids_is_one_incident_and_blocks_nothing() {
    let rule = rule(|rule| {
        Arc::make_mut(&mut rule.ts).continuity.max_incidents = 1;
        Arc::make_mut(&mut rule.ts).continuity.on_exceed = OnExceed::Block;
        Arc::make_mut(&mut rule.ts).tr101290.max_violations = 1;
        Arc::make_mut(&mut rule.ts).tr101290.on_exceed = OnExceed::Block;
    });
    let mut bench = Bench::new(&rule);
    for n in 0..8 {
        bench.does(|watch, mut out| watch.continuity_error(at(n * 5), 256 + n as u16, false, &mut out));
        bench.count(n * 5, Cause::Tr101290, 1, false);
    }
    bench.pass(100..=1000);
    // TR 101 290 counts violations for its alert, but incidents for its block.
    assert_eq!(bench.told(), [(5, "+tr101290"), (5, "healthy>degraded tr101290 -")]);
    bench.does(|watch, mut out| watch.continuity_error(at(1200), 256, false, &mut out));
    assert_eq!(
        bench.told()[2..],
        [(1200, "+continuity"), (1200, "degraded>blocked continuity -")]
    );
}

#[test]
fn ignored_pids_count_nothing() {
    let rule = rule(|rule| Arc::make_mut(&mut rule.ts).continuity.ignore_pids = [300].into_iter().collect());
    let mut bench = Bench::new(&rule);
    bench.does(|watch, mut out| watch.continuity_error(at(0), 300, false, &mut out));
    assert_eq!(bench.told(), []);
    bench.does(|watch, mut out| watch.continuity_error(at(0), 301, false, &mut out));
    assert_eq!(bench.told()[0], (0, "+continuity"));
}

#[test]
fn what_may_have_been_injected_alerts_and_never_blocks() {
    let rule = rule(|rule| {
        Arc::make_mut(&mut rule.ts).continuity.on_exceed = OnExceed::Block;
        Arc::make_mut(&mut rule.ts).scte35.on_exceed = OnExceed::Block;
    });
    let mut bench = Bench::new(&rule);
    for n in 0..50 {
        bench.count(n * 600, Cause::Continuity, 1, true);
        bench.count(n * 600, Cause::Scte35, 1, true);
        assert_eq!(bench.state(), StreamState::Degraded);
    }
    assert_eq!(
        bench.told(),
        [(0, "+continuity"), (0, "healthy>degraded continuity -"), (0, "+scte35")]
    );
    bench.count(30_000, Cause::Scte35, 1, false);
    assert_eq!(bench.state(), StreamState::Blocked);
}

#[test]
fn a_condition_is_raised_and_cleared_with_debounce_and_each_is_told_once() {
    let rule = rule(|rule| Arc::make_mut(&mut rule.ts).bitrate = bitrate(OnExceed::Alert));
    let mut bench = Bench::new(&rule);
    bench.level(0, Cause::BitrateHigh, true, 26_000_000);
    bench.pass(100..=1900);
    bench.level(1950, Cause::BitrateHigh, false, 0);
    bench.pass(2000..=2900);
    assert_eq!(bench.told(), [], "less than raise_after is nothing");
    for ms in (3000..=8000).step_by(100) {
        bench.level(ms, Cause::BitrateHigh, true, 26_000_000 + ms);
        bench.pass(ms..=ms);
    }
    bench.level(8050, Cause::BitrateHigh, false, 0);
    bench.pass(8100..=12_000);
    bench.level(12_050, Cause::BitrateHigh, true, 27_000_000);
    bench.level(13_000, Cause::BitrateHigh, false, 0);
    bench.pass(13_100..=30_000);
    assert_eq!(
        bench.told(),
        [
            (5000, "+bitrate-high"),
            (5000, "healthy>degraded bitrate -"),
            (23_000, "-bitrate-high"),
            (23_000, "degraded>healthy clear -"),
        ]
    );
}

#[test]
fn what_is_raised_beside_another_is_told_by_itself() {
    let rule = rule(|rule| {
        Arc::make_mut(&mut rule.ts).bitrate = bitrate(OnExceed::Alert);
        Arc::make_mut(&mut rule.ts).null_packets = null_packets();
    });
    let mut bench = Bench::new(&rule);
    bench.level(0, Cause::BitrateHigh, true, 26_000_000);
    bench.level(1000, Cause::NullPackets, true, 35);
    bench.pass(100..=4000);
    let standing: Vec<_> = bench.watch.standing().map(Cause::name).collect();
    assert_eq!(standing, ["bitrate-high", "null-packets"]);
    bench.level(4000, Cause::BitrateHigh, false, 0);
    bench.pass(4100..=16_000);
    bench.level(16_000, Cause::NullPackets, false, 0);
    bench.pass(16_000..=30_000);
    assert_eq!(
        bench.told(),
        [
            (2000, "+bitrate-high"),
            (2000, "healthy>degraded bitrate -"),
            (3000, "+null-packets"),
            (14_000, "-bitrate-high"),
            (26_000, "-null-packets"),
            (26_000, "degraded>healthy clear -"),
        ]
    );
}

#[test]
fn a_limit_that_the_rule_does_not_set_is_never_exceeded() {
    let mut bench = Bench::new(&Rule::observer());
    for cause in [
        Cause::BitrateHigh,
        Cause::NullPackets,
        Cause::StreamType,
        Cause::PidMissing,
    ] {
        bench.level(0, cause, true, 1);
    }
    bench.pass(0..=10_000);
    bench.does(|watch, mut out| watch.silent(at(99_000), at(0), &mut out));
    assert_eq!(bench.told(), []);
    assert_eq!(bench.watch.memory(), 0);
}

#[test]
fn a_block_is_held_then_on_probation_then_healthy() {
    let rule = rule(|rule| {
        Arc::make_mut(&mut rule.ts).continuity.on_exceed = OnExceed::Block;
        Arc::make_mut(&mut rule.ts).continuity.window = SECOND;
        Arc::make_mut(&mut rule.ts).continuity.hold = 3 * SECOND;
        rule.clear_after = 4 * SECOND;
    });
    let mut bench = Bench::new(&rule);
    bench.count(0, Cause::Continuity, 1, false);
    // What happens while it is blocked prolongs the hold.
    bench.count(2000, Cause::Continuity, 1, false);
    bench.pass(100..=6000);
    bench.count(6050, Cause::Continuity, 1, false);
    bench.pass(6100..=20_000);
    assert_eq!(
        bench.told(),
        [
            (0, "+continuity"),
            (0, "healthy>blocked continuity -"),
            (3000, "..continuity"),
            (5000, "blocked>degraded hold-over probation"),
            (6000, "-continuity"),
            (6050, "+continuity"),
            (6050, "degraded>blocked continuity probation"),
            (9100, "blocked>degraded hold-over probation"),
            (10_100, "-continuity"),
            (13_100, "degraded>healthy clear probation"),
        ]
    );
    let holds: Vec<_> = bench
        .changes
        .iter()
        .filter_map(|change| match change {
            StreamChange::StateChanged { hold_ms, note, .. } => Some((*hold_ms, *note)),
            _ => None,
        })
        .collect();
    assert_eq!(holds[0], (Some(3000), None));
    assert_eq!(holds[2], (Some(3000), None), "a block does not grow by itself");
    assert_eq!(bench.watch.worst(), StreamState::Blocked);
}

#[test]
fn a_condition_blocks_as_long_as_it_holds_and_packets_come() {
    let rule = rule(|rule| Arc::make_mut(&mut rule.ts).bitrate = bitrate(OnExceed::Block));
    let mut bench = Bench::new(&rule);
    bench.level(0, Cause::BitrateHigh, true, 40_000_000);
    bench.pass(100..=20_000);
    assert_eq!(
        bench.told(),
        [
            (2000, "+bitrate-high"),
            (2000, "healthy>blocked bitrate -"),
            (7000, "..bitrate-high"),
            (12_000, "..bitrate-high"),
            (17_000, "..bitrate-high"),
        ],
        "a hold that goes on is told once per hold"
    );
    bench.level(20_000, Cause::BitrateHigh, false, 0);
    bench.pass(20_100..=40_000);
    assert_eq!(bench.told()[5], (22_000, "blocked>degraded hold-over probation"));
    // The sender gave up: what it sent before says nothing any more.
    let mut bench = Bench::new(&rule);
    bench.level(0, Cause::BitrateHigh, true, 40_000_000);
    bench.pass(100..=3000);
    for ms in (3100..=8000).step_by(100) {
        bench.does(|watch, mut out| watch.advance(at(ms), media(3000), &mut out));
    }
    assert_eq!(
        bench.told().last(),
        Some(&(7000, "blocked>degraded hold-over probation"))
    );
}

#[test]
fn a_block_that_others_prolong_is_told_once_per_hold_with_the_last_of_them() {
    let rule = rule(|rule| {
        let ts = Arc::make_mut(&mut rule.ts);
        ts.continuity.on_exceed = OnExceed::Block;
        ts.continuity.hold = 3 * SECOND;
        ts.scte35.on_exceed = OnExceed::Block;
        ts.scte35.hold = 4 * SECOND;
    });
    let mut bench = Bench::new(&rule);
    bench.count(0, Cause::Continuity, 1, false);
    for ms in (100..=8000).step_by(100) {
        bench.count(ms, Cause::Scte35, 1, false);
        bench.pass(ms..=ms);
    }
    bench.pass(8100..=13_000);
    let told: Vec<_> = bench
        .told()
        .into_iter()
        .filter(|(_, text)| !text.starts_with(['+', '-']))
        .collect();
    assert_eq!(
        told,
        [
            (0, "healthy>blocked continuity -"),
            (3000, "..scte35"),
            (7000, "..scte35"),
            (11_000, "..scte35"),
            (12_000, "blocked>degraded hold-over probation"),
        ]
    );
    let mut prolonged = bench
        .changes
        .iter()
        .filter(|change| matches!(change, StreamChange::BlockProlonged { .. }));
    let last = prolonged
        .next_back()
        .map(|change| serde_json::to_value(change).expect("serialises"));
    let whole =
        serde_json::json!({"event": "block-prolonged", "condition": "scte35", "cause": "scte35", "hold_ms": 1000});
    assert_eq!(last, Some(whole));
}

#[test]
fn a_condition_does_not_block_while_somebody_injects() {
    let rule = rule(|rule| {
        Arc::make_mut(&mut rule.ts).bitrate = bitrate(OnExceed::Block);
        rule.raise_after = Duration::ZERO;
    });
    let mut bench = Bench::new(&rule);
    bench.watch.taint(at(0));
    bench.level(0, Cause::BitrateHigh, true, 40_000_000);
    for second in 0..60 {
        bench.watch.taint(at(second * 1000));
        bench.pass(second * 1000..=second * 1000 + 900);
        assert_eq!(bench.state(), StreamState::Degraded);
    }
    bench.pass(60_000..=80_000);
    // Ten seconds after the last finding, and the second that the rate is averaged over.
    assert_eq!(bench.told()[2], (70_000, "degraded>blocked bitrate -"));
    // Without a finding it blocks when findings have had time to show.
    let mut bench = Bench::new(&rule);
    bench.level(0, Cause::BitrateHigh, true, 40_000_000);
    bench.pass(0..=3000);
    assert_eq!(
        bench.told(),
        [
            (0, "+bitrate-high"),
            (0, "healthy>degraded bitrate -"),
            (2000, "degraded>blocked bitrate -")
        ]
    );
}

#[test]
fn without_enforcement_a_block_is_only_told() {
    let rule = rule(|rule| {
        rule.enforce = false;
        Arc::make_mut(&mut rule.ts).continuity.on_exceed = OnExceed::Block;
        Arc::make_mut(&mut rule.ts).continuity.window = SECOND;
        Arc::make_mut(&mut rule.ts).continuity.hold = 3 * SECOND;
    });
    let mut bench = Bench::new(&rule);
    for ms in [0, 1000, 2000] {
        bench.count(ms, Cause::Continuity, 1, false);
        bench.pass(ms..=ms + 900);
    }
    bench.pass(3000..=7000);
    bench.count(8000, Cause::Continuity, 1, false);
    bench.pass(8000..=30_000);
    assert_eq!(
        bench.told(),
        [
            (0, "+continuity"),
            (0, "!continuity"),
            (0, "healthy>degraded continuity -"),
            (8000, "!continuity"),
            (18_000, "-continuity"),
            (18_000, "degraded>healthy clear -"),
        ]
    );
    assert_eq!(bench.watch.worst(), StreamState::Degraded);
    let told = serde_json::to_value(&bench.changes[1]).expect("serialises");
    assert_eq!(
        told,
        serde_json::json!({"event": "block-withheld", "condition": "continuity", "cause": "continuity", "figure": 1,
            "limit": 0, "window_ms": 1000, "hold_ms": 3000, "enforced": false})
    );
}

#[test]
fn the_block_of_an_srt_stream_says_what_it_does_to_the_session() {
    let rule = rule(|rule| Arc::make_mut(&mut rule.ts).continuity.on_exceed = OnExceed::Block);
    let mut bench = Bench::of(&rule, StreamProtocol::Srt);
    bench.count(0, Cause::Continuity, 1, false);
    let told = serde_json::to_value(&bench.changes[1]).expect("serialises");
    assert_eq!(told["to"], "blocked");
    assert_eq!(told["hold_ms"], 10_000);
    assert!(told["note"].as_str().is_some_and(|note| note.contains("5 s")), "{told}");
}

#[test]
fn silence_is_raised_by_its_own_time_and_cleared_after_flow() {
    let rule = rule(|rule| rule.silence = Some(2 * SECOND));
    let mut bench = Bench::new(&rule);
    bench.pass(0..=1000);
    for ms in (1100..=5000).step_by(100) {
        bench.does(|watch, mut out| watch.advance(at(ms), media(1000), &mut out));
    }
    // It comes back, falls silent once more before it is cleared, and comes back for good.
    bench.pass(5000..=9000);
    for ms in (9100..=12_000).step_by(100) {
        bench.does(|watch, mut out| watch.advance(at(ms), media(9000), &mut out));
    }
    bench.pass(12_100..=30_000);
    assert_eq!(
        bench.told(),
        [
            (3100, "+silence"),
            (3100, "healthy>degraded silence -"),
            (22_000, "-silence"),
            (22_000, "degraded>healthy clear -"),
        ]
    );
}

#[test]
fn one_packet_does_not_end_a_silence_and_blindness_does_not_either() {
    let rule = rule(|rule| rule.silence = Some(30 * SECOND));
    let mut bench = Bench::new(&rule);
    let seen = |last, quiet_since| {
        Some(Media {
            last: at(last),
            quiet_since: at(quiet_since),
        })
    };
    for ms in (0..=31_000).step_by(100) {
        bench.does(|watch, mut out| watch.advance(at(ms), media(0), &mut out));
    }
    assert_eq!(bench.told()[0], (30_100, "+silence"));
    for ms in (31_100..=60_000).step_by(100) {
        bench.does(|watch, mut out| watch.advance(at(ms), seen(31_100, ms), &mut out));
    }
    assert_eq!(bench.told().len(), 2);
    bench.pass(60_000..=70_000);
    assert_eq!(
        bench.told()[2],
        (60_000, "-silence"),
        "ten seconds and more lie between two packets"
    );
}

#[test]
fn a_new_policy_lets_go_what_it_does_not_block_for() {
    let blocking = rule(|rule| {
        Arc::make_mut(&mut rule.ts).continuity.on_exceed = OnExceed::Block;
        Arc::make_mut(&mut rule.ts).continuity.hold = 60 * SECOND;
        Arc::make_mut(&mut rule.ts).bitrate = bitrate(OnExceed::Alert);
    });
    let blocked = || {
        let mut bench = Bench::new(&blocking);
        bench.count(0, Cause::Continuity, 1, false);
        bench.level(0, Cause::BitrateHigh, true, 40_000_000);
        bench.pass(0..=3000);
        bench.told.clear();
        bench
    };
    let mut bench = blocked();
    bench.watch.readmit(&blocking);
    bench.pass(3100..=5000);
    assert_eq!((bench.told(), bench.state()), (Vec::new(), StreamState::Blocked));
    bench.watch.readmit(&Rule::observer());
    bench.pass(5100..=5100);
    assert_eq!(
        bench.told(),
        [(5100, "-bitrate-high"), (5100, "blocked>degraded policy probation")]
    );
    let mut bench = blocked();
    bench.watch.readmit(&Rule {
        enforce: false,
        ..blocking.clone()
    });
    bench.pass(3100..=3100);
    assert_eq!(bench.told(), [(3100, "blocked>degraded policy probation")]);
}

#[test]
fn counts_go_on_under_a_policy_that_changes_something_else() {
    let before = rule(|rule| Arc::make_mut(&mut rule.ts).network_loss.max_packets = 9);
    let mut bench = Bench::new(&before);
    bench.count(0, Cause::NetworkLoss, 9, false);
    let mut after = before.clone();
    Arc::make_mut(&mut after.ts).continuity.max_incidents = 5;
    bench.watch.readmit(&after);
    bench.count(500, Cause::NetworkLoss, 1, false);
    assert_eq!(bench.told()[0], (500, "+network-loss"));
}

#[test]
fn memory_is_taken_for_what_happens_and_given_back() {
    let rule = rule(|rule| Arc::make_mut(&mut rule.ts).network_loss.on_exceed = OnExceed::Block);
    let mut bench = Bench::new(&rule);
    bench.pass(0..=1000);
    assert_eq!(bench.watch.memory(), 0);
    for ms in (1000..60_000).step_by(7) {
        for cause in [Cause::Continuity, Cause::NetworkLoss, Cause::Tr101290, Cause::Scte35] {
            bench.count(ms, cause, 3, false);
        }
    }
    // Four accounts; only the one that may block counts twice, and no window keeps more than 65 parts.
    let most = bench.watch.memory();
    assert!((1..=12 * 1024).contains(&most), "{most} bytes");
    bench.pass(60_000..=100_000);
    assert_eq!(bench.state(), StreamState::Healthy);
    assert!(bench.watch.memory() <= 512, "{} bytes", bench.watch.memory());
}

#[derive(Clone, Debug)]
enum Step {
    Count(usize, u64, bool),
    Level(usize, bool),
    Silent,
    Taint,
    Pass,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..4_usize, 1..4_u64, any::<bool>()).prop_map(|(cause, count, tainted)| Step::Count(cause, count, tainted)),
        (0..3_usize, any::<bool>()).prop_map(|(cause, holds)| Step::Level(cause, holds)),
        Just(Step::Silent),
        Just(Step::Taint),
        Just(Step::Pass),
    ]
}

proptest! {
    /// Whatever happens: raises and clears of a condition alternate, state changes join on to each other and agree with
    /// the state, `standing` is what was raised and not cleared, and a blocked stream is not blocked for ever.
    #[test]
    fn what_is_told_is_consistent(
        steps in prop::collection::vec((0_u64..3000, step()), 1..200),
        enforce: bool,
        blocks: [bool; 5],
    ) {
        let on_exceed = |blocks| if blocks { OnExceed::Block } else { OnExceed::Alert };
        let rule = rule(|rule| {
            rule.enforce = enforce;
            rule.silence = Some(SECOND);
            Arc::make_mut(&mut rule.ts).continuity.on_exceed = on_exceed(blocks[0]);
            Arc::make_mut(&mut rule.ts).network_loss.on_exceed = on_exceed(blocks[1]);
            Arc::make_mut(&mut rule.ts).tr101290.on_exceed = on_exceed(blocks[2]);
            Arc::make_mut(&mut rule.ts).scte35.on_exceed = on_exceed(blocks[3]);
            Arc::make_mut(&mut rule.ts).bitrate = bitrate(on_exceed(blocks[4]));
            Arc::make_mut(&mut rule.ts).null_packets = null_packets();
        });
        let counted = [Cause::Continuity, Cause::NetworkLoss, Cause::Tr101290, Cause::Scte35];
        let levels = [Cause::BitrateLow, Cause::BitrateHigh, Cause::NullPackets];
        let mut bench = Bench::new(&rule);
        let (mut now, mut untainted) = (0, false);
        for (pause, step) in steps {
            now += pause;
            match step {
                Step::Count(cause, count, tainted) => {
                    untainted |= !tainted;
                    bench.count(now, counted[cause], count, tainted);
                }
                Step::Level(cause, holds) => {
                    untainted = true;
                    bench.level(now, levels[cause], holds, 1);
                }
                Step::Silent => {
                    bench.does(|watch, mut out| watch.advance(at(now), media(now.saturating_sub(1001)), &mut out));
                }
                Step::Taint => bench.watch.taint(at(now)),
                Step::Pass => bench.pass(now..=now),
            }
            let degraded = bench.watch.standing().next().is_some();
            prop_assert!(!degraded || bench.state() > StreamState::Healthy);
            prop_assert!(bench.watch.worst() < StreamState::Blocked || enforce && untainted);
        }
        for cause in levels {
            bench.level(now, cause, false, 0);
        }
        bench.pass(now..=now + 60_000);
        let mut state = StreamState::Healthy;
        let mut standing = BTreeSet::new();
        for change in &bench.changes {
            match change {
                StreamChange::ConditionRaised { condition, .. } => prop_assert!(standing.insert(*condition)),
                StreamChange::ConditionCleared { condition, .. } => prop_assert!(standing.remove(condition)),
                StreamChange::StateChanged { from, to, .. } => {
                    prop_assert_eq!(*from, state);
                    state = *to;
                }
                StreamChange::BlockWithheld { .. } => prop_assert!(!enforce),
                StreamChange::BlockProlonged { .. } => prop_assert!(enforce && state == StreamState::Blocked),
                other => prop_assert!(false, "{:?}", other),
            }
        }
        prop_assert_eq!((state, bench.state()), (StreamState::Healthy, StreamState::Healthy));
        prop_assert!(standing.is_empty());
    }
}
