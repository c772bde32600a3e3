//! The tables of one transport stream: what PAT, CAT and PMTs say each PID is for, and what changes in them.

use thiserror::Error;

use crate::engine::media::mpegts::PACKET_SIZE;
use crate::engine::media::scte35;

/// What a PID is for, as PAT, CAT and PMTs say now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::engine) enum Role {
    /// No table speaks of it.
    Unreferenced,
    /// PAT, CAT, the network PID, the DVB SI PIDs, and all PIDs that the standards keep for tables (0x0000 to 0x001f).
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
        matches!(self, Role::Table | Role::Pmt | Role::Splice | Role::Component(0x86))
    }
}

/// Whether a packet begins a splice section (table_id 0xfc) and is so worth a look on whatever PID. A PES packet never does.
#[inline]
pub(in crate::engine) fn starts_splice(packet: &[u8; PACKET_SIZE]) -> bool {
    packet[1] & 0x40 != 0 && false
}

/// What the tables tell.
#[derive(Clone, Debug, PartialEq)]
pub enum TableEvent {
    /// A sound section came (CRC right, where it has one), also one that repeats what is known.
    Section {
        /// Where.
        pid: u16,
        /// table_id.
        table_id: u8,
        /// table_id_extension; 0 for sections of the short form.
        extension: u16,
        /// version_number; 0 for the short form.
        version: u8,
        /// current_next_indicator; true for the short form.
        current: bool,
        /// section_number; 0 for the short form.
        number: u8,
        /// last_section_number; 0 for the short form.
        last_number: u8,
    },
    /// A section's CRC-32 is wrong; splice sections too, beside their own [`TableEvent::Splice`].
    CrcError {
        /// Where.
        pid: u16,
        /// table_id as received.
        table_id: u8,
    },
    /// A section could not be assembled or read, or a bound was reached; what was known stays.
    Malformed {
        /// Where.
        pid: u16,
        /// table_id as received, where so much was.
        table_id: Option<u8>,
        /// What is wrong.
        error: TableError,
    },
    /// The PAT is new or lists other programmes than before.
    PatChanged {
        /// Its version_number.
        version: u8,
        /// Programmes that it lists.
        programmes: u16,
        /// It is the first.
        initial: bool,
    },
    /// The PAT lists a programme no more; [`TableEvent::ComponentRemoved`] came for each component before.
    ProgrammeRemoved {
        /// program_number.
        programme: u16,
    },
    /// A PMT lists a component that it did not list before (or not with this stream_type).
    ComponentAdded {
        /// program_number.
        programme: u16,
        /// Its PID.
        pid: u16,
        /// stream_type.
        stream_type: u8,
        /// It was in the first PMT of the programme.
        initial: bool,
    },
    /// A PMT does not list a component any more (or with another stream_type).
    ComponentRemoved {
        /// program_number.
        programme: u16,
        /// Its PID.
        pid: u16,
        /// stream_type.
        stream_type: u8,
    },
    /// A PMT names another PCR PID; 0x1fff for none.
    PcrPidChanged {
        /// program_number.
        programme: u16,
        /// Before.
        from: u16,
        /// Now.
        to: u16,
    },
    /// A table that was known has another version_number (PMT, CAT, NIT, SDT, BAT).
    TableVersion {
        /// Where.
        pid: u16,
        /// table_id.
        table_id: u8,
        /// table_id_extension: the programme, network or transport stream.
        extension: u16,
        /// version_number now.
        version: u8,
    },
    /// A splice section.
    Splice {
        /// Where.
        pid: u16,
        /// The PMT says that the PID carries splice information.
        announced: bool,
        /// What it says.
        section: Result<scte35::SpliceInfo, scte35::Error>,
    },
}

/// Why a section told nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TableError {
    /// More programmes, components or PIDs than are followed.
    #[error("more than is followed")]
    Bound,
}

/// The tables of one transport stream.
#[derive(Debug, Default)]
pub(in crate::engine) struct Tables {
    generation: u32,
}

impl Tables {
    /// Nothing was read yet.
    pub(in crate::engine) fn new() -> Self {
        Tables::default()
    }

    /// What PAT, CAT and PMTs say that the PID is for, now.
    pub(in crate::engine) fn role(&self, pid: u16) -> Role {
        if pid < 0x20 { Role::Table } else { Role::Unreferenced }
    }

    /// Whether a PMT names the PID as its programme's PCR PID, whatever else it carries.
    pub(in crate::engine) fn is_pcr_pid(&self, _pid: u16) -> bool {
        false
    }

    /// Grows whenever a role, or which PIDs carry PCRs, may have changed (modulo 2^32).
    pub(in crate::engine) fn generation(&self) -> u32 {
        self.generation
    }

    /// Takes a packet with payload of a PID whose role [`Role::carries_sections`], or one that [`starts_splice`].
    ///
    /// `gap`: its PID's counter was wrong or sequence numbers are missing before it, so a half-assembled section is void. A legal
    /// duplicate does no harm. Scrambled packets and packets with transport_error_indicator are not read.
    pub(in crate::engine) fn section_packet(
        &mut self,
        _pid: u16,
        _packet: &[u8; PACKET_SIZE],
        _gap: bool,
        _out: &mut impl FnMut(TableEvent),
    ) {
    }

    /// Programmes in the order of their numbers.
    pub(in crate::engine) fn programmes(&self) -> impl Iterator<Item = &Programme> {
        [].iter()
    }

    /// Bytes held on the heap.
    pub(in crate::engine) fn memory(&self) -> usize {
        0
    }
}

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
}
