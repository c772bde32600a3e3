//! What the tables tell.

use thiserror::Error;

use crate::engine::media::mpegts::psi::TableSyntaxError;
use crate::engine::media::mpegts::section::SectionError;
use crate::engine::media::scte35;

/// What the tables tell.
#[derive(Clone, Debug, PartialEq)]
pub enum TableEvent {
    /// A sound section came (CRC right, where it has one), also one that repeats what is known; of PIDs that a table or
    /// a standard says to carry sections.
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
    /// A section's CRC-32 is wrong, on the same PIDs; announced splice sections too, beside their [`TableEvent::Splice`].
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
    /// A PAT that was not known is complete: the first, or one with other content.
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

/// Why a section told nothing, or not all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum TableError {
    /// It could not be put together.
    #[error(transparent)]
    Section(#[from] SectionError),
    /// It is not the table that its table_id says.
    #[error(transparent)]
    Syntax(#[from] TableSyntaxError),
    /// Descriptors whose lengths do not add up; everything else was read.
    #[error("the lengths of descriptors do not add up")]
    Descriptors,
    /// More programmes, components or PIDs than are followed; those within the bound are.
    #[error("more than is followed")]
    Bound,
    /// Tables change more often than they are read; told once a second.
    #[error("more changes within a second than are read")]
    TooMany,
}
