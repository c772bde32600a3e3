//! What becomes of splice sections: cues, their repeats and cancels, and what is wrong with them.
//!
//! A cue is what one section says of one event: a splice_insert, an event of a splice_schedule, or a segmentation
//! descriptor. Sections that do nothing (splice_null, bandwidth_reservation) are counted and no more.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;

use crate::engine::media::mpegts::pes::TIMESTAMP_MODULUS;
use crate::engine::media::mpegts::section::SectionError;
use crate::engine::media::scte35::{
    Command, Error, Insert, Schedule, ScheduleTime, Segmentation, SpliceInfo, segmentation_name,
};
use crate::engine::time::Timestamp;

/// Cues kept for reports; the number of all is counted beside them.
pub(in crate::engine) const MAX_CUES: usize = 256;
/// Senders repeat a cue within seconds, up to its splice point; the same event later is another use of its number.
const REPEATED_WITHIN: Duration = Duration::from_secs(60);
/// Ticks of a PTS in a millisecond.
const TICKS_PER_MS: u64 = 90;
/// Cues of one section that are looked at; honest ones have a few, a hostile one hundreds. The rest is counted.
const MAX_CUES_PER_SECTION: usize = 32;
/// Cues that are looked at within a second, each of which is compared with all that are kept. Twenty programmes that leave for
/// a break at once, and repeat it thrice, have fewer. The rest is counted.
const MAX_CUES_PER_SECOND: u32 = 64;
const SECOND: Duration = Duration::from_secs(1);
/// Bytes of a UPID that are kept, in hexadecimal: all standard types but the free-form ones fit.
const MAX_UPID: usize = 32;

/// What one section says of one event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cue {
    /// Where it came.
    pub pid: u16,
    /// The PMT says that the PID carries splice information.
    pub announced: bool,
    /// `splice-insert`, `splice-schedule`, `time-signal`, or the name of another command that carries a descriptor.
    pub command: &'static str,
    /// It is of a segmentation descriptor, not of the command.
    pub of_segmentation: bool,
    /// splice_event_id, or segmentation_event_id.
    pub event_id: u32,
    /// The section takes the event back.
    pub cancels: bool,
    /// A later section took the event back.
    pub cancelled: bool,
    /// It said the same before, this many times within the last minute.
    pub repeat: u32,
    /// Away from the network (true) or back to it; of a segmentation the start or the end of what may be replaced.
    pub out_of_network: Option<bool>,
    /// At once, without a time.
    pub immediate: bool,
    /// The splice point, pts_adjustment added: 90 kHz modulo 2^33; of splices by component the first.
    pub pts: Option<u64>,
    /// utc_splice_time of a splice_schedule: seconds since 1980-01-06.
    pub utc: Option<u32>,
    /// Milliseconds from the programme's current PTS to the splice point; negative where that is past.
    pub preroll_ms: Option<i64>,
    /// Duration of the break or of the segment, in milliseconds.
    pub duration_ms: Option<u64>,
    /// auto_return of the break.
    pub auto_return: Option<bool>,
    /// segmentation_type_id by name.
    pub segmentation: Option<&'static str>,
    /// segmentation_type_id.
    pub segmentation_type: Option<u8>,
    /// segment_num and segments_expected.
    pub segment: Option<(u8, u8)>,
    /// segmentation_upid_type.
    pub upid_type: Option<u8>,
    /// The first bytes of segmentation_upid, in hexadecimal.
    pub upid: Option<String>,
    #[serde(skip)]
    seen: Timestamp,
}

impl Cue {
    /// Whether the other tells of the same event in the same way, wherever it stands in time.
    fn is_of_same_event(&self, other: &Cue) -> bool {
        let key = |cue: &Cue| {
            let segmentation = (cue.segmentation_type, cue.segment);
            (
                (cue.pid, cue.command, cue.event_id),
                (cue.cancels, cue.out_of_network),
                (cue.of_segmentation, segmentation),
            )
        };
        key(self) == key(other)
    }

    /// Heap bytes held.
    fn held(&self) -> usize {
        self.upid.as_ref().map_or(0, String::capacity)
    }

    /// Whether this only repeats what the other said. A changed time or duration is news.
    fn repeats(&self, other: &Cue) -> bool {
        let content = |cue: &Cue| (cue.immediate, cue.pts, cue.utc, cue.duration_ms);
        self.is_of_same_event(other)
            && content(self) == content(other)
            && self.seen.since(other.seen) <= REPEATED_WITHIN
    }

    /// Whether this takes the other's event back.
    fn takes_back(&self, other: &Cue) -> bool {
        let key = |cue: &Cue| (cue.pid, cue.event_id, cue.of_segmentation);
        let same_command = self.of_segmentation || self.command == other.command;
        self.cancels && !other.cancels && same_command && key(self) == key(other)
    }
}

/// What is wrong with a splice section.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "finding", rename_all = "kebab-case")]
pub enum CueFinding {
    /// Its CRC-32 is wrong.
    BadCrc,
    /// It could not be read.
    Malformed,
    /// It is encrypted, so nothing of it can be told.
    Encrypted,
    /// The PMT does not say that the PID carries splice information.
    Unannounced,
    /// A cue came later before its splice point than the limit says.
    ShortPreroll {
        /// Milliseconds to the splice point; negative where it is past, 0 where the splice is immediate.
        preroll_ms: i64,
    },
}

impl CueFinding {
    /// The name in reports and events.
    pub const fn name(self) -> &'static str {
        match self {
            CueFinding::BadCrc => "bad-crc",
            CueFinding::Malformed => "malformed",
            CueFinding::Encrypted => "encrypted",
            CueFinding::Unannounced => "unannounced",
            CueFinding::ShortPreroll { .. } => "short-preroll",
        }
    }
}

/// What a section gives rise to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CueEvent {
    /// A cue; boxed, for it is large and rare.
    Cue(Box<Cue>),
    /// Something is wrong.
    Finding {
        /// Where.
        pid: u16,
        /// What.
        finding: CueFinding,
    },
}

/// A splice section as the tables tell it, and what time it is.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct Told<'a> {
    /// When it came.
    pub(in crate::engine) at: Timestamp,
    /// Where.
    pub(in crate::engine) pid: u16,
    /// The PMT says that the PID carries splice information.
    pub(in crate::engine) announced: bool,
    /// What it says.
    pub(in crate::engine) section: Result<&'a SpliceInfo, Error>,
    /// The programme's current PTS, 90 kHz modulo 2^33; `None` where it is unknown, and with it every pre-roll.
    pub(in crate::engine) pts: Option<u64>,
    /// The least pre-roll that the rule demands.
    pub(in crate::engine) min_preroll: Option<Duration>,
}

/// The splice sections of one transport stream.
#[derive(Debug, Default)]
pub(in crate::engine) struct Cues {
    /// The last [`MAX_CUES`], oldest first.
    last: VecDeque<Cue>,
    /// Heap bytes of their UPIDs.
    upids: usize,
    /// When the current second began, and cues that were looked at since.
    second: Timestamp,
    entered: u32,
    total: u64,
    repeats: u64,
    cancels: u64,
    sections: u64,
    /// By command, sections that could be read.
    commands: BTreeMap<&'static str, u64>,
    findings: BTreeMap<&'static str, u64>,
}

/// Splice information of a transport stream, for reports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CueReport {
    /// Sections, also those that could not be read.
    pub sections: u64,
    /// Sections by command.
    pub commands: BTreeMap<&'static str, u64>,
    /// Cues, repeats included, and those that came too fast to be looked at.
    pub total: u64,
    /// Cues that repeat an earlier one, among those that were looked at.
    pub repeats: u64,
    /// Cues that take an event back, among those that were looked at.
    pub cancels: u64,
    /// What was wrong, and how often.
    pub findings: BTreeMap<&'static str, u64>,
    /// The last cues, oldest first; at most 256.
    #[serde(skip)]
    pub cues: Vec<Cue>,
}

impl Cues {
    /// Takes a section and tells what it gives rise to.
    pub(in crate::engine) fn section(&mut self, told: &Told<'_>, out: &mut impl FnMut(CueEvent)) {
        self.sections += 1;
        if !told.announced {
            self.find(told.pid, CueFinding::Unannounced, out);
        }
        let info = match told.section {
            Ok(info) => info,
            Err(Error::Section(SectionError::Crc)) => return self.find(told.pid, CueFinding::BadCrc, out),
            Err(_) => return self.find(told.pid, CueFinding::Malformed, out),
        };
        *self.commands.entry(info.command.name()).or_default() += 1;
        if info.encryption.is_some() {
            return self.find(told.pid, CueFinding::Encrypted, out);
        }
        let scheduled = match &info.command {
            Command::Schedule(events) => events.as_slice(),
            _ => &[],
        };
        let inserted = match &info.command {
            Command::Insert(insert) => Some(of_insert(told, info, insert)),
            _ => None,
        };
        let all = usize::from(inserted.is_some()) + scheduled.len() + info.segmentations().count();
        let cues = inserted
            .into_iter()
            .chain(scheduled.iter().map(|event| of_schedule(told, info, event)))
            .chain(
                info.segmentations()
                    .map(|segmentation| of_segmentation(told, info, segmentation)),
            );
        // The total counts all, also those of which nothing else is done.
        self.total += all as u64;
        for cue in cues.take(self.room(told.at)) {
            self.enter(cue, told, out);
        }
    }

    /// Cues of a section that there is time for.
    fn room(&mut self, now: Timestamp) -> usize {
        if now < self.second || now.since(self.second) >= SECOND {
            (self.second, self.entered) = (now, 0);
        }
        let left = MAX_CUES_PER_SECOND.saturating_sub(self.entered);
        MAX_CUES_PER_SECTION.min(left as usize)
    }

    /// What is known, for reports.
    pub(in crate::engine) fn report(&self) -> CueReport {
        CueReport {
            sections: self.sections,
            commands: self.commands.clone(),
            total: self.total,
            repeats: self.repeats,
            cancels: self.cancels,
            findings: self.findings.clone(),
            cues: self.last.iter().cloned().collect(),
        }
    }

    /// Bytes held on the heap, nearly: the two small maps by what their entries take.
    pub(in crate::engine) fn memory(&self) -> usize {
        self.last.capacity() * size_of::<Cue>()
            + self.upids
            + (self.commands.len() + self.findings.len()) * size_of::<(&str, u64)>()
    }

    /// Enters a cue: counts its repeats, marks what it takes back, and judges its pre-roll when it is news.
    fn enter(&mut self, mut cue: Cue, told: &Told<'_>, out: &mut impl FnMut(CueEvent)) {
        self.entered += 1;
        self.cancels += u64::from(cue.cancels);
        let before = self.last.iter().rev().find(|before| cue.is_of_same_event(before));
        cue.repeat = before
            .filter(|before| cue.repeats(before))
            .map_or(0, |before| before.repeat.saturating_add(1));
        self.repeats += u64::from(cue.repeat > 0);
        for other in self.last.iter_mut().filter(|other| cue.takes_back(other)) {
            other.cancelled = true;
        }
        let judged = match (cue.immediate, cue.out_of_network) {
            // The way back may come at once (a break ended early); the way out has no pre-roll at all.
            (true, Some(true)) => Some(0),
            (true, _) => None,
            (false, _) => cue.preroll_ms,
        };
        if let (Some(preroll_ms), Some(limit)) = (judged.filter(|_| cue.repeat == 0 && !cue.cancels), told.min_preroll)
            && i128::from(preroll_ms) < limit.as_millis() as i128
        {
            self.find(told.pid, CueFinding::ShortPreroll { preroll_ms }, out);
        }
        out(CueEvent::Cue(Box::new(cue.clone())));
        if self.last.len() >= MAX_CUES {
            let gone = self.last.pop_front();
            self.upids -= gone.map_or(0, |cue| cue.held());
        }
        self.upids += cue.held();
        self.last.push_back(cue);
    }

    fn find(&mut self, pid: u16, finding: CueFinding, out: &mut impl FnMut(CueEvent)) {
        *self.findings.entry(finding.name()).or_default() += 1;
        out(CueEvent::Finding { pid, finding });
    }
}

/// A cue of which no more is known than its section says.
fn blank(told: &Told<'_>, info: &SpliceInfo, event_id: u32, cancels: bool) -> Cue {
    Cue {
        pid: told.pid,
        announced: told.announced,
        command: info.command.name(),
        of_segmentation: false,
        event_id,
        cancels,
        cancelled: false,
        repeat: 0,
        out_of_network: None,
        immediate: false,
        pts: None,
        utc: None,
        preroll_ms: None,
        duration_ms: None,
        auto_return: None,
        segmentation: None,
        segmentation_type: None,
        segment: None,
        upid_type: None,
        upid: None,
        seen: told.at,
    }
}

/// Sets the splice point: a time of the section, moved onto the programme's time line.
fn place_at(cue: &mut Cue, told: &Told<'_>, info: &SpliceInfo, time: Option<u64>) {
    cue.pts = time.map(|time| info.adjusted(time));
    cue.preroll_ms = cue.pts.zip(told.pts).map(|(splice, now)| preroll_ms(splice, now));
}

fn of_insert(told: &Told<'_>, info: &SpliceInfo, insert: &Insert) -> Cue {
    let mut cue = blank(told, info, insert.event_id, insert.detail.is_none());
    if let Some(detail) = &insert.detail {
        let first_component = detail.components.iter().find_map(|component| component.time);
        place_at(&mut cue, told, info, detail.time.or(first_component));
        cue.out_of_network = Some(detail.out_of_network);
        // Without a time a splice_insert is to be carried out at the nearest opportunity too.
        cue.immediate = cue.pts.is_none();
        cue.duration_ms = detail.duration.map(|duration| duration.duration / TICKS_PER_MS);
        cue.auto_return = detail.duration.map(|duration| duration.auto_return);
    }
    cue
}

fn of_schedule(told: &Told<'_>, info: &SpliceInfo, event: &Schedule) -> Cue {
    let mut cue = blank(told, info, event.event_id, event.detail.is_none());
    if let Some(detail) = &event.detail {
        cue.out_of_network = Some(detail.out_of_network);
        cue.utc = match &detail.time {
            ScheduleTime::Programme(utc) => Some(*utc),
            ScheduleTime::Components(components) => components.first().map(|(_, utc)| *utc),
        };
        cue.duration_ms = detail.duration.map(|duration| duration.duration / TICKS_PER_MS);
        cue.auto_return = detail.duration.map(|duration| duration.auto_return);
    }
    cue
}

fn of_segmentation(told: &Told<'_>, info: &SpliceInfo, segmentation: &Segmentation) -> Cue {
    let mut cue = blank(told, info, segmentation.event_id, segmentation.detail.is_none());
    let time = match &info.command {
        Command::TimeSignal(time) => *time,
        Command::Insert(insert) => insert.detail.as_ref().and_then(|detail| detail.time),
        _ => None,
    };
    cue.of_segmentation = true;
    if let Some(detail) = &segmentation.detail {
        place_at(&mut cue, told, info, time);
        cue.immediate = cue.pts.is_none() && matches!(info.command, Command::TimeSignal(_) | Command::Insert(_));
        cue.out_of_network = leaves_network(detail.type_id);
        cue.duration_ms = detail.duration.map(|duration| duration / TICKS_PER_MS);
        cue.segmentation = Some(segmentation_name(detail.type_id));
        cue.segmentation_type = Some(detail.type_id);
        cue.segment = Some((detail.segment, detail.segments_expected));
        cue.upid_type = Some(detail.upid_type);
        let hex = |bytes: &[u8]| bytes.iter().take(MAX_UPID).map(|byte| format!("{byte:02x}")).collect();
        cue.upid = Some(&*detail.upid).filter(|upid| !upid.is_empty()).map(hex);
    }
    cue
}

/// Whether a segmentation begins or ends something that may be replaced: breaks, advertisements, placement opportunities
/// and advertisement blocks.
const fn leaves_network(type_id: u8) -> Option<bool> {
    match type_id {
        0x22 | 0x30 | 0x32 | 0x34 | 0x36 | 0x38 | 0x3a | 0x44 | 0x46 => Some(true),
        0x23 | 0x31 | 0x33 | 0x35 | 0x37 | 0x39 | 0x3b | 0x45 | 0x47 => Some(false),
        _ => None,
    }
}

/// Milliseconds from one PTS to another, the shorter way round; towards zero.
fn preroll_ms(splice: u64, now: u64) -> i64 {
    let ahead = splice.wrapping_sub(now) % TIMESTAMP_MODULUS;
    let milliseconds = |ticks: u64| (ticks / TICKS_PER_MS) as i64;
    if ahead < TIMESTAMP_MODULUS / 2 {
        milliseconds(ahead)
    } else {
        -milliseconds(TIMESTAMP_MODULUS - ahead)
    }
}

#[cfg(test)]
#[path = "cues_tests.rs"]
mod tests;
