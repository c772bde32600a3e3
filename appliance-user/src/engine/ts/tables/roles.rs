//! What each PID is for, sorted by PID: made anew whenever a table changes, asked by binary search.

use super::{Component, Programme, Role};
use crate::engine::media::mpegts::{NULL_PID, psi};

/// PIDs below this are kept for tables: 0x0000 to 0x000f by 13818-1 (2.4.3.3), the others by EN 300 468 (5.1.3).
const FIRST_FREE_PID: u16 = 0x20;
/// PIDs that no PMT can claim for anything else: PAT and CAT.
const FIRST_CLAIMABLE_PID: u16 = 2;
/// ATSC's PSIP base PID (A/65).
pub(super) const ATSC_BASE_PID: u16 = 0x1ffb;

/// What the tables say of a PID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    pid: u16,
    role: Role,
    /// A programme's PCRs are here.
    pcr: bool,
}

/// Every PID of which a table speaks.
#[derive(Debug, Default)]
pub(super) struct Roles {
    entries: Vec<Entry>,
}

/// What came of making the roles anew.
#[derive(Clone, Copy, Debug)]
pub(super) struct Renewal {
    /// They are other ones.
    pub(super) changed: bool,
    /// Claims on PIDs that were sorted for it: the work that it was.
    pub(super) claims: usize,
}

impl Roles {
    /// What a PID is for.
    pub(super) fn of(&self, pid: u16) -> Role {
        match pid {
            0..FIRST_CLAIMABLE_PID => return Role::Table,
            NULL_PID => return Role::Null,
            _ => {}
        }
        match (pid, self.entry(pid)) {
            (_, Some(entry)) => entry.role,
            (0..FIRST_FREE_PID | ATSC_BASE_PID, None) => Role::Table,
            _ => Role::Unreferenced,
        }
    }

    /// Whether a programme's PCRs are on a PID.
    pub(super) fn has_pcr(&self, pid: u16) -> bool {
        self.entry(pid).is_some_and(|entry| entry.pcr)
    }

    /// Takes over what the tables say now.
    pub(super) fn renew(
        &mut self,
        network_pid: Option<u16>,
        emm_pids: impl Iterator<Item = u16>,
        programmes: &[Programme],
    ) -> Renewal {
        let mut entries = Vec::with_capacity(self.entries.len());
        let mut claim = |pid, role| {
            entries.push(Entry {
                pid,
                role,
                pcr: role == Role::PcrOnly,
            });
        };
        network_pid.into_iter().for_each(|pid| claim(pid, Role::Table));
        emm_pids.for_each(|pid| claim(pid, Role::Ca));
        for programme in programmes {
            claim(programme.pmt_pid, Role::Pmt);
            programme.pcr_pid.into_iter().for_each(|pid| claim(pid, Role::PcrOnly));
            programme.ecm_pids.iter().for_each(|pid| claim(*pid, Role::Ca));
            programme
                .components
                .iter()
                .for_each(|component| claim(component.pid, component.role()));
        }
        let claims = entries.len();
        entries.sort_unstable_by_key(|entry| (entry.pid, rank(entry.role)));
        entries.dedup_by(|later, first| {
            let same = later.pid == first.pid;
            first.pcr |= same && later.pcr;
            same
        });
        entries.shrink_to_fit();
        let changed = entries != self.entries;
        self.entries = entries;
        Renewal { changed, claims }
    }

    /// Bytes held on the heap.
    pub(super) fn memory(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>()
    }

    fn entry(&self, pid: u16) -> Option<&Entry> {
        let place = self.entries.binary_search_by_key(&pid, |entry| entry.pid).ok()?;
        self.entries.get(place)
    }
}

/// Who prevails where tables disagree: the PAT over PMTs, a PMT's components over everything that is only mentioned.
fn rank(role: Role) -> u16 {
    match role {
        Role::Pmt => 0,
        Role::Splice => 1,
        // Two programmes that give one PID two stream_types: the lower, so that the answer does not depend on their order.
        Role::Component(stream_type) => 2 + u16::from(stream_type),
        Role::Table => 300,
        Role::Ca => 301,
        Role::PcrOnly => 302,
        Role::Unreferenced | Role::Null => 303,
    }
}

impl Component {
    /// The role of the component's PID.
    fn role(&self) -> Role {
        if self.splice {
            Role::Splice
        } else {
            Role::Component(self.stream_type)
        }
    }
}

/// Whether splice information is what a PMT announces: the stream_type, and `CUEI` for the programme or the component.
pub(super) fn announces_splice(pmt: &psi::Pmt<'_>, stream: &psi::Stream<'_>) -> bool {
    stream.stream_type == SPLICE_STREAM_TYPE
        && (pmt.descriptors.register_splice_information() || stream.descriptors.register_splice_information())
}

/// stream_type of splice information (SCTE 35 8.1).
pub(super) const SPLICE_STREAM_TYPE: u8 = 0x86;
