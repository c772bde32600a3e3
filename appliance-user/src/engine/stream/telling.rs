//! What is told of a transport stream: changes of its tables, cues, violations; no more than an operator can read.

use core::time::Duration;

use crate::engine::event::StreamChange;
use crate::engine::media::mpegts::stream_type;
use crate::engine::outbox::Outbox;
use crate::engine::report::StreamIdentity;
use crate::engine::time::Timestamp;
use crate::engine::ts::tables::TableEvent;
use crate::engine::ts::{CueEvent, CueFinding, Indicator, TsEvent};

/// How often one indicator is told of one stream, at most.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// Events of one stream within a second; a sender that changes its tables with every packet is told of with the number of
/// what was withheld.
const MAX_TOLD: u32 = 32;

/// What was told of one stream lately.
#[derive(Debug, Default)]
pub(super) struct Telling {
    /// Violations since they were last told, one entry for each indicator that was violated.
    violations: Vec<Violations>,
    began: Timestamp,
    told: u32,
    withheld: u64,
}

#[derive(Debug)]
struct Violations {
    indicator: Indicator,
    count: u64,
    told: Option<Timestamp>,
}

impl Telling {
    /// Tells an event of a stream, if it is to be told and not too much was.
    pub(super) fn tell(&mut self, at: Timestamp, identity: &StreamIdentity, event: TsEvent, outbox: &mut Outbox) {
        if let TsEvent::Tr101290 { indicator, pid } = event {
            if let Some(change) = self.violation(at, indicator, pid) {
                outbox.tell(at, identity, change);
            }
            return;
        }
        let Some(change) = change(event) else { return };
        if at.since(self.began) >= TELL_EVERY {
            (self.began, self.told) = (at, 0);
            let count = core::mem::take(&mut self.withheld);
            if count > 0 {
                outbox.tell(at, identity, StreamChange::EventsWithheld { count });
            }
        }
        if self.told < MAX_TOLD {
            self.told += 1;
            outbox.tell(at, identity, change);
        } else {
            self.withheld += 1;
        }
    }

    fn violation(&mut self, at: Timestamp, indicator: Indicator, pid: Option<u16>) -> Option<StreamChange> {
        let known = self.violations.iter().position(|known| known.indicator == indicator);
        let place = known.unwrap_or_else(|| {
            self.violations.push(Violations {
                indicator,
                count: 0,
                told: None,
            });
            self.violations.len() - 1
        });
        let violations = self.violations.get_mut(place)?;
        violations.count += 1;
        if violations.told.is_some_and(|told| at.since(told) < TELL_EVERY) {
            return None;
        }
        violations.told = Some(at);
        Some(StreamChange::Tr101290 {
            indicator: indicator.number(),
            name: indicator.name(),
            priority: indicator.priority(),
            pid,
            count: core::mem::take(&mut violations.count),
        })
    }
}

/// The event that tells it. Conditions that last are told by the watch when they are raised.
fn change(event: TsEvent) -> Option<StreamChange> {
    Some(match event {
        TsEvent::Table(event) => return table(event),
        TsEvent::Cue(CueEvent::Cue(cue)) => StreamChange::Cue(cue),
        TsEvent::Cue(CueEvent::Finding { pid, finding }) => StreamChange::CueFinding {
            pid,
            finding: finding.name(),
            preroll_ms: match finding {
                CueFinding::ShortPreroll { preroll_ms } => Some(preroll_ms),
                _ => None,
            },
        },
        TsEvent::Scrambling { pid, scrambled } => StreamChange::Scrambling { pid, scrambled },
        _ => return None,
    })
}

fn table(event: TableEvent) -> Option<StreamChange> {
    let kind = stream_type::name;
    Some(match event {
        TableEvent::PatChanged {
            version,
            programmes,
            initial,
        } => StreamChange::PatChanged {
            version,
            programmes,
            initial,
        },
        TableEvent::ProgrammeRemoved { programme } => StreamChange::ProgrammeRemoved { programme },
        TableEvent::ComponentAdded {
            programme,
            pid,
            stream_type,
            initial,
        } => StreamChange::ComponentAdded {
            programme,
            pid,
            stream_type,
            kind: kind(stream_type),
            initial,
        },
        TableEvent::ComponentRemoved {
            programme,
            pid,
            stream_type,
        } => StreamChange::ComponentRemoved {
            programme,
            pid,
            stream_type,
            kind: kind(stream_type),
        },
        TableEvent::PcrPidChanged { programme, from, to } => StreamChange::PcrPidChanged { programme, from, to },
        TableEvent::TableVersion {
            pid,
            table_id,
            extension,
            version,
        } => StreamChange::TableVersion {
            pid,
            table_id,
            extension,
            version,
        },
        TableEvent::Malformed { pid, table_id, error } => StreamChange::SectionMalformed {
            pid,
            table_id,
            error: error.to_string(),
        },
        // Told as violations of TR 101 290 2.2, and as cues.
        TableEvent::CrcError { .. } | TableEvent::Section { .. } | TableEvent::Splice { .. } => return None,
    })
}
