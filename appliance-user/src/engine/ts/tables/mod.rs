//! The tables of one transport stream: what PAT, CAT and PMTs say each PID is for, and what changes in them.
//!
//! A table that repeats itself costs its CRC-32 and one comparison. What a sender can make grow here is bounded, so that a
//! hostile one takes some hundred kilobytes at most ([`Tables::memory`]); how often one can have it all read and sorted anew
//! is bounded too ([`budget`]).

mod budget;
mod event;
mod programme;
mod progress;
pub(in crate::engine) mod report;
mod roles;
mod service;

use self::budget::{Budget, Reading};
use self::progress::Progress;
use self::roles::{Roles, SPLICE_STREAM_TYPE};
use crate::engine::media::mpegts::psi::{self, TableSyntaxError};
use crate::engine::media::mpegts::section::{Assembler, Section, SectionError};
use crate::engine::media::mpegts::si;
use crate::engine::media::mpegts::{self, PACKET_SIZE};
use crate::engine::media::scte35::{self, SpliceInfo};
use crate::engine::time::Timestamp;

pub(in crate::engine) use self::event::{TableError, TableEvent};
pub(in crate::engine) use self::programme::{Component, Programme};

/// PIDs whose sections are put together: every programme's PMT, the SI PIDs and some splice PIDs.
const MAX_ASSEMBLED: usize = programme::MAX_PROGRAMMES + 64;
/// Bytes of half-assembled sections, all PIDs together: sixteen of the longest, far more than interleave in practice.
const MAX_HELD: usize = 64 * 1024;
/// EMM PIDs: one for each conditional access system, of which a multiplex has a handful.
const MAX_EMM_PIDS: usize = 32;
/// Tables whose version is remembered: NIT, BAT and SDT of this and some neighbouring transport streams.
const MAX_VERSIONS: usize = 64;
/// PIDs of service information (EN 300 468 5.1.3).
const SDT_PID: u16 = 0x11;
const EIT_PID: u16 = 0x12;
const TDT_PID: u16 = 0x14;
/// Where a network's NIT is (EN 300 468 5.1.3).
const NIT_PID: u16 = 0x10;

/// What a PID is for, as PAT, CAT and PMTs say now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::engine) enum Role {
    /// No table speaks of it.
    Unreferenced,
    /// PAT, CAT, the network PID, the DVB SI PIDs, and all PIDs that the standards keep for tables (0x0000 to 0x001f, and ATSC's
    /// 0x1ffb).
    Table,
    /// One or more PMTs.
    Pmt,
    /// A component with this stream_type; PES packets unless the stream_type is of sections.
    Component(u8),
    /// PCRs of a programme and nothing else.
    PcrOnly,
    /// Splice information that the PMT announces (stream_type 0x86 and registration `CUEI`).
    Splice,
    /// Conditional access messages: ECMs (from a PMT) or EMMs (from the CAT).
    Ca,
    /// Null packets (0x1fff).
    Null,
}

impl Role {
    /// Whether every packet of such a PID goes to [`Tables::section_packet`]. Of every other PID only those packets do for
    /// which [`starts_splice`] holds.
    #[inline]
    pub(in crate::engine) const fn carries_sections(self) -> bool {
        matches!(
            self,
            Role::Table | Role::Pmt | Role::Splice | Role::Component(SPLICE_STREAM_TYPE)
        )
    }
}

/// Whether a packet begins a splice section (table_id 0xfc) and is so worth a look on whatever PID. A PES packet never does: its
/// first byte, read as pointer_field, points at a zero.
#[inline]
pub(in crate::engine) fn starts_splice(packet: &[u8; PACKET_SIZE]) -> bool {
    let [_, flags, _, control, ..] = *packet;
    // In error or scrambled, nothing of it can be told.
    if flags & 0xc0 != 0x40 || control & 0xc0 != 0 {
        return false;
    }
    let section = mpegts::payload(packet)
        .and_then(|payload| payload.split_first())
        .and_then(|(pointer, rest)| rest.get(usize::from(*pointer)..));
    // The short form of protocol_version 0: what is no splice section seldom begins like that by chance.
    section.is_some_and(|section| matches!(section, [scte35::TABLE_ID, syntax, _, 0, ..] if syntax & 0x80 == 0))
}

/// The tables of one transport stream. What a table that repeats itself needs lies together.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub(in crate::engine) struct Tables {
    generation: u32,
    /// The tables say something else than when the roles were made.
    stale: bool,
    /// More or less is held than when that was asked last.
    grown: bool,
    /// A PAT was complete.
    has_pat: bool,
    network_pid: Option<u16>,
    roles: Roles,
    /// In the order of PIDs.
    assemblers: Vec<(u16, Assembler)>,
    budget: Budget,
    /// In the order of their numbers.
    programmes: Vec<Programme>,
    pat: Progress,
    /// Bytes that the assemblers hold.
    held: usize,
    transport_stream_id: Option<u16>,
    /// Components of all programmes.
    components: usize,
    /// Heap bytes that the programmes hold.
    described: usize,
    cat: Progress,
    /// The CAT's section and the PID.
    emm_pids: Vec<(u8, u16)>,
    sdt: Progress,
    network: Option<Network>,
    utc: Option<i64>,
    versions: Vec<Version>,
}

/// The network as its NIT names it.
#[derive(Clone, Debug)]
struct Network {
    id: u16,
    name: Option<Box<str>>,
    crc: u32,
}

/// The version of a table of which no more than that is followed.
#[derive(Clone, Copy, Debug)]
struct Version {
    table_id: u8,
    extension: u16,
    version: u8,
}

/// Where a section stands, for those who tell of it.
#[derive(Clone, Copy, Debug)]
struct Place {
    pid: u16,
    table_id: u8,
}

impl Place {
    fn malformed(self, error: impl Into<TableError>) -> TableEvent {
        TableEvent::Malformed {
            pid: self.pid,
            table_id: Some(self.table_id),
            error: error.into(),
        }
    }
}

impl Tables {
    /// Nothing was read yet.
    pub(in crate::engine) fn new() -> Self {
        Tables::default()
    }

    /// What PAT, CAT and PMTs say that the PID is for. See [`Tables::is_behind`].
    pub(in crate::engine) fn role(&self, pid: u16) -> Role {
        self.roles.of(pid)
    }

    /// Whether a PMT names the PID as its programme's PCR PID, whatever else it carries.
    pub(in crate::engine) fn is_pcr_pid(&self, pid: u16) -> bool {
        self.roles.has_pcr(pid)
    }

    /// Grows whenever a role, or which PIDs carry PCRs, may have changed (modulo 2^32).
    pub(in crate::engine) fn generation(&self) -> u32 {
        self.generation
    }

    /// Programmes in the order of their numbers.
    pub(in crate::engine) fn programmes(&self) -> impl Iterator<Item = &Programme> {
        self.programmes.iter()
    }

    /// Packets went by unseen: what is half-assembled is void, what is known stays.
    pub(in crate::engine) fn rebase(&mut self) {
        self.assemblers.clear();
        self.held = 0;
        self.grown = true;
    }

    /// Whether [`Tables::memory`] may be another than when this was asked last.
    pub(in crate::engine) fn has_grown(&mut self) -> bool {
        core::mem::take(&mut self.grown)
    }

    /// Bytes held on the heap.
    pub(in crate::engine) fn memory(&self) -> usize {
        self.programmes.capacity() * size_of::<Programme>()
            + self.described
            + [&self.pat, &self.cat, &self.sdt]
                .map(Progress::memory)
                .iter()
                .sum::<usize>()
            + self.roles.memory()
            + self.emm_pids.capacity() * size_of::<(u8, u16)>()
            + self.versions.capacity() * size_of::<Version>()
            + self.assemblers.capacity() * size_of::<(u16, Assembler)>()
            + self
                .network
                .iter()
                .filter_map(|network| network.name.as_deref())
                .map(str::len)
                .sum::<usize>()
            + self.held
    }

    /// Takes a packet with payload of a PID whose role [`Role::carries_sections`], or one that [`starts_splice`].
    ///
    /// `gap`: its PID's counter was wrong or sequence numbers are missing before it, so a half-assembled section is void. A legal
    /// duplicate does no harm. Scrambled packets and packets with transport_error_indicator are not read.
    pub(in crate::engine) fn section_packet(
        &mut self,
        now: Timestamp,
        pid: u16,
        packet: &[u8; PACKET_SIZE],
        gap: bool,
        out: &mut impl FnMut(TableEvent),
    ) {
        let role = self.role(pid);
        if !role.carries_sections() {
            if starts_splice(packet) {
                lone_splice(pid, packet, out);
            }
            return;
        }
        if role == Role::Table && !self.is_read(pid) {
            return;
        }
        self.budget.advance(now);
        let Some(mut assembler) = self.take_assembler(pid) else {
            let error = TableError::Bound;
            out(TableEvent::Malformed {
                pid,
                table_id: None,
                error,
            });
            return;
        };
        let before = assembler.memory();
        let room = MAX_HELD.saturating_sub(self.held - before);
        assembler.packet(packet, gap, room, &mut |section| self.section(pid, role, section, out));
        let after = assembler.memory();
        if after != before {
            self.held = self.held - before + after;
            self.grown = true;
        }
        self.put_back(pid, assembler);
        self.renew(now);
    }

    /// Whether tables were read that the roles do not show yet, because too much has changed of late.
    pub(in crate::engine) fn is_behind(&self) -> bool {
        self.stale
    }

    /// Makes the roles anew from what the tables say, where that has changed and it is time for it.
    pub(in crate::engine) fn renew(&mut self, now: Timestamp) {
        if !self.stale {
            return;
        }
        self.budget.advance(now);
        if !self.budget.may_renew() {
            return;
        }
        (self.stale, self.grown) = (false, true);
        let emm_pids = self.emm_pids.iter().map(|(_, pid)| *pid);
        let renewal = self.roles.renew(self.network_pid, emm_pids, &self.programmes);
        self.budget.renewed(renewal.claims);
        if !renewal.changed {
            return;
        }
        self.generation = self.generation.wrapping_add(1);
        let (roles, held) = (&self.roles, &mut self.held);
        self.assemblers.retain(|(pid, assembler)| {
            let stays = roles.of(*pid).carries_sections();
            *held -= if stays { 0 } else { assembler.memory() };
            stays
        });
    }

    /// Whether there is time to read a section with new content. If not, it is as if it had not come, and read when it
    /// comes again.
    fn may_change(&mut self, place: Place, out: &mut impl FnMut(TableEvent)) -> bool {
        let reading = self.budget.change();
        if reading == Reading::Exhausted {
            out(place.malformed(TableError::TooMany));
        }
        self.grown |= reading == Reading::Granted;
        reading == Reading::Granted
    }

    /// Whether sections are known to be on a PID kept for tables: in streams of other standards anything may be on the rest.
    fn is_read(&self, pid: u16) -> bool {
        matches!(pid, 0..=2 | NIT_PID..=TDT_PID | roles::ATSC_BASE_PID) || self.network_pid == Some(pid)
    }

    /// A PID's assembler, for as long as a packet takes; `None` where there are too many.
    fn take_assembler(&mut self, pid: u16) -> Option<Assembler> {
        match self.assemblers.binary_search_by_key(&pid, |(pid, _)| *pid) {
            Ok(place) => self
                .assemblers
                .get_mut(place)
                .map(|(_, assembler)| std::mem::take(assembler)),
            Err(_) if self.assemblers.len() >= MAX_ASSEMBLED => None,
            Err(place) => {
                self.grown = true;
                self.assemblers.insert(place, (pid, Assembler::default()));
                Some(Assembler::default())
            }
        }
    }

    fn put_back(&mut self, pid: u16, assembler: Assembler) {
        let place = self.assemblers.binary_search_by_key(&pid, |(pid, _)| *pid);
        if let Some((_, empty)) = place.ok().and_then(|place| self.assemblers.get_mut(place)) {
            *empty = assembler;
        }
    }

    /// A whole section, or why there is none.
    fn section(
        &mut self,
        pid: u16,
        role: Role,
        section: Result<&[u8], SectionError>,
        out: &mut impl FnMut(TableEvent),
    ) {
        let announced = role == Role::Splice;
        // On a PID that nobody announces as sections, only what is splice information beyond doubt counts.
        let is_table = !matches!(role, Role::Component(_));
        let bytes = match section {
            Ok(bytes) => bytes,
            Err(_) if !is_table => return,
            Err(error) => {
                out(TableEvent::Malformed {
                    pid,
                    table_id: None,
                    error: error.into(),
                });
                if announced {
                    out(splice_error(pid, announced, error));
                }
                return;
            }
        };
        let table_id = bytes.first().copied().unwrap_or_default();
        let is_splice = table_id == scte35::TABLE_ID;
        if !is_splice && !is_table {
            return;
        }
        let place = Place { pid, table_id };
        match Section::read(bytes) {
            Ok(section) => {
                if is_table {
                    out(told(pid, &section));
                }
                if is_splice {
                    let section = SpliceInfo::read(bytes);
                    out(TableEvent::Splice {
                        pid,
                        announced,
                        section,
                    });
                } else if let Err(error) = self.table(place, role, &section, out) {
                    out(place.malformed(error));
                }
            }
            Err(error) => {
                if is_table {
                    out(match error {
                        SectionError::Crc => TableEvent::CrcError { pid, table_id },
                        error => place.malformed(error),
                    });
                }
                if is_splice {
                    out(splice_error(pid, announced, error));
                }
            }
        }
    }

    /// Reads a table where it belongs.
    fn table(
        &mut self,
        place: Place,
        role: Role,
        section: &Section<'_>,
        out: &mut impl FnMut(TableEvent),
    ) -> Result<(), TableSyntaxError> {
        let network_pid = self.network_pid.unwrap_or(NIT_PID);
        match (place.pid, place.table_id) {
            (0, psi::PAT) => self.pat(place, section, out),
            (1, psi::CAT) => self.cat(place, section, out),
            (_, psi::PMT) if role == Role::Pmt => self.pmt(place, section, out),
            (TDT_PID, si::TDT | si::TOT) => {
                self.utc = Some(si::time(section)?);
                Ok(())
            }
            (pid, 0x40 | 0x41) if pid == network_pid => self.nit(place, section, out),
            (SDT_PID, 0x42 | 0x46) => self.sdt(place, section, out),
            (SDT_PID, si::BAT) => {
                let header = section.long_of(si::BAT)?;
                self.version(place, header, out);
                Ok(())
            }
            (EIT_PID, si::EIT_ACTUAL) => self.eit(section),
            _ => Ok(()),
        }
    }
}

/// The event of a sound section.
fn told(pid: u16, section: &Section<'_>) -> TableEvent {
    let long = section.long;
    TableEvent::Section {
        pid,
        table_id: section.table_id,
        extension: long.map_or(0, |header| header.extension),
        version: long.map_or(0, |header| header.version),
        current: long.is_none_or(|header| header.current),
        number: long.map_or(0, |header| header.number),
        last_number: long.map_or(0, |header| header.last_number),
    }
}

fn splice_error(pid: u16, announced: bool, error: SectionError) -> TableEvent {
    TableEvent::Splice {
        pid,
        announced,
        section: Err(error.into()),
    }
}

/// Splice sections on a PID on which nothing is put together: those that lie within the one packet.
fn lone_splice(pid: u16, packet: &[u8; PACKET_SIZE], out: &mut impl FnMut(TableEvent)) {
    let announced = false;
    let mut found = false;
    let mut alone = Assembler::default();
    alone.packet(packet, true, MAX_HELD, &mut |section| {
        let Ok(bytes @ [scte35::TABLE_ID, ..]) = section else {
            return;
        };
        found = true;
        let section = SpliceInfo::read(bytes);
        out(TableEvent::Splice {
            pid,
            announced,
            section,
        });
    });
    if !found {
        let section = Err(scte35::Error::NotFollowed);
        out(TableEvent::Splice {
            pid,
            announced,
            section,
        });
    }
}

#[cfg(test)]
mod tests;
