//! Programmes and their components, as PAT and PMTs list them.

use super::progress::Step;
use super::roles::announces_splice;
use super::{Place, TableError, TableEvent, Tables};
use crate::engine::media::mpegts::psi::{self, Pat, Pmt, TableSyntaxError};
use crate::engine::media::mpegts::section::Section;
use crate::engine::media::mpegts::si;

/// Programmes followed: one more than a PAT section of 1,024 bytes can list, and several times what a multiplex carries.
pub(super) const MAX_PROGRAMMES: usize = 254;
/// Components of all programmes together; a quarter of all PIDs there are.
pub(super) const MAX_COMPONENTS: usize = 2048;
/// ECM PIDs of a programme: a handful of conditional access systems, each perhaps with one for each component.
const MAX_ECM_PIDS: usize = 16;
/// PCR_PID where a programme has no PCR (2.4.4.9).
const NO_PCR: u16 = 0x1fff;

/// A programme that the PAT lists.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Programme {
    /// program_number, never 0.
    pub(in crate::engine) number: u16,
    /// Where the PAT says that its PMT is.
    pub(in crate::engine) pmt_pid: u16,
    /// PCR_PID; `None` until its PMT was read, or if that names none.
    pub(in crate::engine) pcr_pid: Option<u16>,
    /// The PMT's version_number, once it was read.
    pub(in crate::engine) version: Option<u8>,
    /// Its components in the order of PIDs.
    pub(in crate::engine) components: Vec<Component>,
    /// service_name of the SDT, as far as it is plain text.
    pub(in crate::engine) name: Option<Box<str>>,
    /// free_CA_mode of the SDT: components may be scrambled.
    pub(in crate::engine) may_be_scrambled: bool,
    /// The present event of the EIT.
    pub(in crate::engine) present: Option<si::Event>,
    pub(super) ecm_pids: Vec<u16>,
    pub(super) present_crc: Option<u32>,
    /// CRC-32 of its PMT.
    crc: Option<u32>,
    /// The PAT that listed it last.
    stamp: u32,
}

/// A component of a programme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Component {
    /// Its PID.
    pub(in crate::engine) pid: u16,
    /// stream_type.
    pub(in crate::engine) stream_type: u8,
    /// It is announced as splice information.
    pub(in crate::engine) splice: bool,
    /// What private data is, by its descriptors.
    pub(in crate::engine) format: Option<&'static str>,
    /// ISO 639-2 code.
    pub(in crate::engine) language: Option<[u8; 3]>,
}

impl Programme {
    fn new(number: u16, pmt_pid: u16) -> Self {
        Programme {
            number,
            pmt_pid,
            pcr_pid: None,
            version: None,
            components: Vec::new(),
            name: None,
            may_be_scrambled: false,
            present: None,
            ecm_pids: Vec::new(),
            present_crc: None,
            crc: None,
            stamp: 0,
        }
    }

    /// Whether a PMT section on this PID would tell anything new of it.
    fn awaits(&self, pid: u16, crc: Option<u32>) -> bool {
        self.pmt_pid == pid && (self.crc.is_none() || self.crc != crc)
    }

    /// Bytes held on the heap.
    pub(super) fn memory(&self) -> usize {
        self.components.capacity() * size_of::<Component>()
            + self.ecm_pids.capacity() * size_of::<u16>()
            + self.name.as_deref().map_or(0, str::len)
    }

    /// Takes over a PMT that was not known, and tells what changed.
    fn take(&mut self, pmt: &Pmt<'_>, mut components: Vec<Component>, pid: u16, out: &mut impl FnMut(TableEvent)) {
        let programme = self.number;
        let initial = self.version.is_none();
        if self.version.is_some_and(|version| version != pmt.version) {
            out(TableEvent::TableVersion {
                pid,
                table_id: psi::PMT,
                extension: programme,
                version: pmt.version,
            });
        }
        // The first mention of a PID counts.
        components.sort_by_key(|component| component.pid);
        components.dedup_by_key(|component| component.pid);
        components.shrink_to_fit();
        let key = |component: &Component| (component.pid, component.stream_type);
        let lacks = |list: &[Component], of: &Component| list.binary_search_by_key(&key(of), key).is_err();
        for Component { pid, stream_type, .. } in self.components.iter().filter(|old| lacks(&components, old)).copied()
        {
            out(TableEvent::ComponentRemoved {
                programme,
                pid,
                stream_type,
            });
        }
        for Component { pid, stream_type, .. } in components.iter().filter(|new| lacks(&self.components, new)).copied()
        {
            out(TableEvent::ComponentAdded {
                programme,
                pid,
                stream_type,
                initial,
            });
        }
        if !initial && self.pcr_pid != pmt.pcr_pid {
            let [from, to] = [self.pcr_pid, pmt.pcr_pid].map(|pid| pid.unwrap_or(NO_PCR));
            out(TableEvent::PcrPidChanged { programme, from, to });
        }
        let of_components = pmt.components().flat_map(|stream| stream.descriptors.ca_pids());
        self.ecm_pids = pmt
            .descriptors
            .ca_pids()
            .chain(of_components)
            .take(MAX_ECM_PIDS)
            .collect();
        self.ecm_pids.shrink_to_fit();
        (self.components, self.pcr_pid, self.version) = (components, pmt.pcr_pid, Some(pmt.version));
    }

    /// Tells that the programme is gone.
    fn tell_gone(&self, out: &mut impl FnMut(TableEvent)) {
        let programme = self.number;
        for Component { pid, stream_type, .. } in self.components.iter().copied() {
            out(TableEvent::ComponentRemoved {
                programme,
                pid,
                stream_type,
            });
        }
        out(TableEvent::ProgrammeRemoved { programme });
    }
}

impl Tables {
    pub(super) fn programme_mut(&mut self, number: u16) -> Option<&mut Programme> {
        let place = self
            .programmes
            .binary_search_by_key(&number, |programme| programme.number)
            .ok()?;
        self.programmes.get_mut(place)
    }

    pub(super) fn pat(
        &mut self,
        place: Place,
        section: &Section<'_>,
        out: &mut impl FnMut(TableEvent),
    ) -> Result<(), TableSyntaxError> {
        let pat = Pat::read(section)?;
        let header = section.long_of(psi::PAT)?;
        let Some(crc) = section.crc.filter(|_| header.current) else {
            return Ok(());
        };
        if self.pat.knows(&header, crc) || !self.may_change(place, out) {
            return Ok(());
        }
        let complete = self.pat.take(&header, crc) == Step::Fresh { complete: true };
        let mut refused = false;
        for (number, pid) in pat.programmes() {
            refused |= !self.list(number, pid);
        }
        if refused {
            out(place.malformed(TableError::Bound));
        }
        // It is listed in one section of the table; where no section has it, the next complete table shows.
        if pat.network_pid().is_some() || header.last_number == 0 {
            self.network_pid = pat.network_pid();
        }
        self.transport_stream_id = Some(pat.transport_stream_id);
        if complete {
            let stamp = self.pat.stamp();
            self.programmes.retain(|programme| {
                let stays = programme.stamp == stamp;
                if !stays {
                    self.components -= programme.components.len();
                    self.described -= programme.memory();
                    programme.tell_gone(out);
                }
                stays
            });
            let initial = !std::mem::replace(&mut self.has_pat, true);
            let programmes = self.programmes.len() as u16;
            out(TableEvent::PatChanged {
                version: header.version,
                programmes,
                initial,
            });
        }
        self.stale = true;
        Ok(())
    }

    /// A programme is listed in the PAT as it is now; false where there are too many.
    fn list(&mut self, number: u16, pmt_pid: u16) -> bool {
        let stamp = self.pat.stamp();
        match self
            .programmes
            .binary_search_by_key(&number, |programme| programme.number)
        {
            Ok(place) => {
                let Some(programme) = self.programmes.get_mut(place) else {
                    return false;
                };
                if programme.pmt_pid != pmt_pid {
                    (programme.pmt_pid, programme.crc) = (pmt_pid, None);
                }
                programme.stamp = stamp;
            }
            Err(_) if self.programmes.len() >= MAX_PROGRAMMES => return false,
            Err(place) => {
                self.programmes.insert(
                    place,
                    Programme {
                        stamp,
                        ..Programme::new(number, pmt_pid)
                    },
                );
                // Its name may be in an SDT that was read already.
                self.sdt = Default::default();
            }
        }
        true
    }

    pub(super) fn pmt(
        &mut self,
        place: Place,
        section: &Section<'_>,
        out: &mut impl FnMut(TableEvent),
    ) -> Result<(), TableSyntaxError> {
        let header = section.long_of(psi::PMT)?;
        // Several programmes may share a PID; one that the PAT does not list there is nobody's.
        let listed = self.programme_mut(header.extension);
        if !header.current || !listed.is_some_and(|programme| programme.awaits(place.pid, section.crc)) {
            return Ok(());
        }
        let pmt = Pmt::read(section)?;
        if !self.may_change(place, out) {
            return Ok(());
        }
        let total = self.components;
        let Some(programme) = self.programme_mut(header.extension) else {
            return Ok(());
        };
        let before = (programme.components.len(), programme.memory());
        let room = (MAX_COMPONENTS + before.0).saturating_sub(total);
        let components = pmt.components().take(room).map(|stream| Component {
            pid: stream.pid,
            stream_type: stream.stream_type,
            splice: announces_splice(&pmt, &stream),
            format: stream.descriptors.private_format(),
            language: stream.descriptors.language(),
        });
        programme.take(&pmt, components.collect(), place.pid, out);
        programme.crc = section.crc;
        let after = (programme.components.len(), programme.memory());
        self.components = self.components - before.0 + after.0;
        self.described = self.described - before.1 + after.1;
        if pmt.components().nth(room).is_some() {
            out(place.malformed(TableError::Bound));
        }
        if !pmt.has_sound_descriptors() {
            out(place.malformed(TableError::Descriptors));
        }
        self.stale = true;
        Ok(())
    }
}
