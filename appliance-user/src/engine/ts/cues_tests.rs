//! Tests of cues: what is told of one, repeats, cancels, pre-roll and findings.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::engine::media::scte35::{
    BreakDuration, ComponentTime, Descriptor, InsertDetail, ScheduleDetail, SegmentationDetail,
};

const SECOND: u64 = 90_000;

fn info(command: Command, descriptors: Vec<Descriptor>) -> SpliceInfo {
    SpliceInfo {
        sap_type: 3,
        encryption: None,
        pts_adjustment: 0,
        cw_index: 0,
        tier: 0xfff,
        command,
        descriptors,
    }
}

fn insert(event_id: u32, out_of_network: bool, time: Option<u64>) -> SpliceInfo {
    let detail = InsertDetail {
        out_of_network,
        whole_programme: true,
        immediate: time.is_none(),
        time,
        components: Vec::new(),
        duration: Some(BreakDuration {
            auto_return: true,
            duration: 30 * SECOND,
        }),
        unique_program_id: 1,
        avail_num: 0,
        avails_expected: 0,
    };
    info(
        Command::Insert(Insert {
            event_id,
            detail: Some(detail),
        }),
        Vec::new(),
    )
}

fn segmentation(event_id: u32, type_id: u8) -> Descriptor {
    let detail = SegmentationDetail {
        delivery: None,
        components: None,
        duration: Some(60 * SECOND),
        upid_type: 8,
        upid: [0, 0, 0, 0, 0x2c, 0xa0, 0xa1, 0x8a].into(),
        type_id,
        segment: 1,
        segments_expected: 2,
        sub_segment: None,
    };
    Descriptor::Segmentation(Box::new(Segmentation {
        event_id,
        detail: Some(detail),
    }))
}

/// Cues that are fed at certain seconds, with the PTS the same.
#[derive(Default)]
struct Feed {
    cues: Cues,
    min_preroll: Option<Duration>,
}

impl Feed {
    fn at(&mut self, second: u64, section: &SpliceInfo) -> (Vec<Cue>, Vec<CueFinding>) {
        self.tell(second, true, Ok(section))
    }

    fn tell(
        &mut self,
        second: u64,
        announced: bool,
        section: Result<&SpliceInfo, Error>,
    ) -> (Vec<Cue>, Vec<CueFinding>) {
        let told = Told {
            at: Timestamp::from_nanos(second * 1_000_000_000),
            pid: 0x102,
            announced,
            section,
            pts: Some(second * SECOND % TIMESTAMP_MODULUS),
            min_preroll: self.min_preroll,
        };
        let (mut cues, mut findings) = (Vec::new(), Vec::new());
        self.cues.section(&told, &mut |event| match event {
            CueEvent::Cue(cue) => cues.push(*cue),
            CueEvent::Finding { finding, .. } => findings.push(finding),
        });
        (cues, findings)
    }

    fn one(&mut self, second: u64, section: &SpliceInfo) -> Cue {
        let (cues, findings) = self.at(second, section);
        assert_eq!(findings, []);
        let [cue] = <[Cue; 1]>::try_from(cues).unwrap();
        cue
    }
}

#[test]
fn a_splice_insert_is_told_with_its_preroll() {
    let cue = Feed::default().one(100, &insert(7, true, Some(104 * SECOND)));
    assert_eq!(
        (cue.command, cue.event_id, cue.out_of_network),
        ("splice-insert", 7, Some(true))
    );
    assert_eq!(
        (cue.pts, cue.preroll_ms, cue.duration_ms),
        (Some(104 * SECOND), Some(4000), Some(30_000))
    );
    assert!(!cue.immediate && !cue.cancels && cue.auto_return == Some(true));
}

#[test]
fn the_preroll_counts_the_adjustment_and_the_wrap() {
    let mut section = insert(7, true, Some(SECOND));
    section.pts_adjustment = TIMESTAMP_MODULUS - 2 * SECOND;
    let last_second = TIMESTAMP_MODULUS / SECOND - 3;
    let cue = Feed::default().one(last_second, &section);
    assert_eq!(cue.pts, Some(TIMESTAMP_MODULUS - SECOND));
    let expected = (TIMESTAMP_MODULUS - SECOND - last_second * SECOND) / 90;
    assert_eq!(cue.preroll_ms, Some(expected as i64));
    assert_eq!(preroll_ms(2 * SECOND, TIMESTAMP_MODULUS - SECOND), 3000);
    assert_eq!(preroll_ms(TIMESTAMP_MODULUS - SECOND, 2 * SECOND), -3000);
}

#[test]
fn a_repeat_is_the_same_event_with_the_same_words() {
    let mut feed = Feed::default();
    let section = insert(7, true, Some(108 * SECOND));
    let repeats = [100, 102, 104].map(|second| feed.one(second, &section).repeat);
    assert_eq!(repeats, [0, 1, 2]);
    assert_eq!(
        feed.one(105, &insert(7, true, Some(109 * SECOND))).repeat,
        0,
        "the splice point moved"
    );
    assert_eq!(
        feed.one(105, &insert(8, true, Some(109 * SECOND))).repeat,
        0,
        "another event"
    );
    assert_eq!(
        feed.one(106, &insert(7, false, Some(109 * SECOND))).repeat,
        0,
        "the way back"
    );
    assert_eq!(
        feed.one(200, &insert(7, false, Some(109 * SECOND))).repeat,
        0,
        "the number is used again"
    );
    assert_eq!((feed.cues.report().total, feed.cues.report().repeats), (7, 2));
}

#[test]
fn a_cancel_takes_the_event_back() {
    let mut feed = Feed::default();
    feed.one(100, &insert(7, true, Some(108 * SECOND)));
    feed.one(100, &insert(8, true, Some(108 * SECOND)));
    let cancel = feed.one(
        101,
        &info(
            Command::Insert(Insert {
                event_id: 7,
                detail: None,
            }),
            Vec::new(),
        ),
    );
    assert!(cancel.cancels && cancel.pts.is_none());
    let report = feed.cues.report();
    assert_eq!(
        report.cues.iter().map(|cue| cue.cancelled).collect::<Vec<_>>(),
        [true, false, false]
    );
    assert_eq!(report.cancels, 1);
    let of_segmentation = Descriptor::Segmentation(Box::new(Segmentation {
        event_id: 8,
        detail: None,
    }));
    feed.one(101, &info(Command::TimeSignal(None), vec![of_segmentation]));
    assert!(
        !feed.cues.report().cues[1].cancelled,
        "an event of a segmentation is no splice_insert"
    );
}

#[test]
fn a_segmentation_can_be_taken_back() {
    let mut feed = Feed::default();
    feed.one(
        100,
        &info(Command::TimeSignal(Some(110 * SECOND)), vec![segmentation(5, 0x34)]),
    );
    let back = Descriptor::Segmentation(Box::new(Segmentation {
        event_id: 5,
        detail: None,
    }));
    feed.one(101, &info(Command::Null, vec![back]));
    assert!(feed.cues.report().cues[0].cancelled);
}

#[test]
fn a_time_signal_tells_a_cue_for_each_segmentation() {
    let mut feed = Feed::default();
    let section = info(
        Command::TimeSignal(Some(105 * SECOND)),
        vec![segmentation(1, 0x35), segmentation(2, 0x10)],
    );
    let (cues, _) = feed.at(100, &section);
    let words: Vec<_> = cues
        .iter()
        .map(|cue| (cue.event_id, cue.segmentation, cue.out_of_network))
        .collect();
    assert_eq!(
        words,
        [
            (1, Some("provider-placement-opportunity-end"), Some(false)),
            (2, Some("program-start"), None),
        ]
    );
    assert!(
        cues.iter()
            .all(|cue| cue.preroll_ms == Some(5000) && cue.duration_ms == Some(60_000))
    );
    assert_eq!(
        (cues[0].upid.as_deref(), cues[0].segment),
        (Some("000000002ca0a18a"), Some((1, 2)))
    );
}

#[test]
fn a_schedule_tells_a_cue_for_each_event() {
    let detail = ScheduleDetail {
        out_of_network: true,
        time: ScheduleTime::Programme(1_000_000),
        duration: None,
        unique_program_id: 0,
        avail_num: 0,
        avails_expected: 0,
    };
    let events = vec![
        Schedule {
            event_id: 1,
            detail: Some(detail),
        },
        Schedule {
            event_id: 2,
            detail: None,
        },
    ];
    let (cues, findings) = Feed::default().at(100, &info(Command::Schedule(events), Vec::new()));
    assert_eq!(
        cues.iter().map(|cue| (cue.utc, cue.cancels)).collect::<Vec<_>>(),
        [(Some(1_000_000), false), (None, true)]
    );
    assert_eq!(findings, []);
}

#[test]
fn components_count_by_the_first_that_has_a_time() {
    let mut section = insert(7, true, None);
    if let Command::Insert(Insert {
        detail: Some(detail), ..
    }) = &mut section.command
    {
        (detail.whole_programme, detail.immediate) = (false, false);
        detail.components = vec![
            ComponentTime { tag: 1, time: None },
            ComponentTime {
                tag: 2,
                time: Some(103 * SECOND),
            },
        ];
    }
    let cue = Feed::default().one(100, &section);
    assert_eq!((cue.preroll_ms, cue.immediate), (Some(3000), false));
}

#[test]
fn too_short_a_preroll_is_found_once() {
    let mut feed = Feed {
        min_preroll: Some(Duration::from_secs(4)),
        ..Feed::default()
    };
    assert_eq!(feed.at(100, &insert(1, true, Some(104 * SECOND))).1, []);
    let late = insert(2, true, Some(104 * SECOND));
    assert_eq!(feed.at(101, &late).1, [CueFinding::ShortPreroll { preroll_ms: 3000 }]);
    assert_eq!(feed.at(102, &late).1, [], "a repeat comes later by nature");
    assert_eq!(
        feed.at(105, &insert(3, false, Some(104 * SECOND))).1,
        [CueFinding::ShortPreroll { preroll_ms: -1000 }]
    );
    assert_eq!(
        feed.at(106, &insert(4, true, None)).1,
        [CueFinding::ShortPreroll { preroll_ms: 0 }]
    );
    assert_eq!(
        feed.at(107, &insert(4, false, None)).1,
        [],
        "a break may be ended at once"
    );
    assert_eq!(feed.cues.report().findings["short-preroll"], 3);
}

#[test]
fn without_a_limit_or_a_pts_no_preroll_is_too_short() {
    let mut feed = Feed::default();
    assert_eq!(feed.at(105, &insert(3, true, Some(104 * SECOND))).1, []);
    let section = insert(4, true, Some(1));
    let told = Told {
        at: Timestamp::default(),
        pid: 1,
        announced: true,
        section: Ok(&section),
        pts: None,
        min_preroll: Some(Duration::from_secs(4)),
    };
    feed.cues.section(&told, &mut |event| {
        assert!(matches!(event, CueEvent::Cue(cue) if cue.preroll_ms.is_none()))
    });
}

#[test]
fn what_is_wrong_is_found() {
    let mut feed = Feed::default();
    let crc = Error::Section(SectionError::Crc);
    assert_eq!(feed.tell(1, true, Err(crc)).1, [CueFinding::BadCrc]);
    assert_eq!(
        feed.tell(1, true, Err(Error::ProtocolVersion(1))).1,
        [CueFinding::Malformed]
    );
    let null = info(Command::Null, Vec::new());
    assert_eq!(feed.tell(1, false, Ok(&null)), (vec![], vec![CueFinding::Unannounced]));
    let mut encrypted = info(Command::Encrypted, Vec::new());
    encrypted.encryption = Some(1);
    assert_eq!(feed.tell(1, true, Ok(&encrypted)).1, [CueFinding::Encrypted]);
    let report = feed.cues.report();
    assert_eq!((report.sections, report.total), (4, 0));
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(
        json["findings"],
        serde_json::json!({ "bad-crc": 1, "encrypted": 1, "malformed": 1, "unannounced": 1 })
    );
    assert_eq!(
        json["commands"],
        serde_json::json!({ "encrypted": 1, "splice-null": 1 })
    );
}

#[test]
fn a_hostile_section_costs_no_more_than_its_share() {
    let mut feed = Feed::default();
    let events: Vec<_> = (0..255).map(|event_id| Schedule { event_id, detail: None }).collect();
    let (cues, _) = feed.at(1, &info(Command::Schedule(events), Vec::new()));
    assert_eq!((cues.len(), feed.cues.report().total), (MAX_CUES_PER_SECTION, 255));
}

#[test]
fn cues_by_the_hundred_are_counted_and_no_more() {
    let mut feed = Feed::default();
    let signal = |id: u32| info(Command::TimeSignal(Some(7)), vec![segmentation(id, 0x34)]);
    for second in 1..8_u32 {
        let looked_at: usize = (0..490)
            .map(|n| feed.at(second.into(), &signal(second * 1000 + n)).0.len())
            .sum();
        assert_eq!(looked_at, 64);
        assert_eq!(feed.cues.report().total, u64::from(second) * 490);
    }
    assert_eq!(feed.cues.last.len(), MAX_CUES, "some have made room");
    let held: usize = feed
        .cues
        .last
        .iter()
        .map(|cue| cue.upid.as_ref().map_or(0, String::capacity))
        .sum();
    assert_eq!(feed.cues.upids, held);
    assert!(held >= MAX_CUES * 16);
}

proptest! {
    #[test]
    fn the_books_are_bounded_and_add_up(sections in vec((0_u32..4, any::<bool>(), 0_u64..3, 0_u64..300), 0..600)) {
        let mut feed = Feed::default();
        let (mut told, mut repeats) = (0, 0);
        for (event, out, time, second) in sections {
            let (cues, _) = feed.at(second, &insert(event, out, Some(time * SECOND)));
            told += cues.len() as u64;
            repeats += cues.iter().filter(|cue| cue.repeat > 0).count() as u64;
        }
        let report = feed.cues.report();
        prop_assert_eq!((report.total, report.repeats), (told, repeats));
        prop_assert_eq!(report.cues.len(), MAX_CUES.min(told as usize));
        prop_assert!(feed.cues.memory() < 128 * 1024);
    }
}
