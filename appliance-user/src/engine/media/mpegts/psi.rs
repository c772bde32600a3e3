//! Program specific information (ISO/IEC 13818-1 2.4.4): program association, conditional access and program map sections.
//!
//! Each view is proven sound when it is made: its loops add up, so that iterating cannot fail.

use thiserror::Error;

use super::descriptor::Descriptors;
use super::section::Section;

/// table_id of a program association section.
pub const PAT: u8 = 0x00;
/// table_id of a conditional access section.
pub const CAT: u8 = 0x01;
/// table_id of a program map section.
pub const PMT: u8 = 0x02;
/// PCR_PID where a programme has no PCR (2.4.4.9).
const NO_PCR: u16 = 0x1fff;

/// Why a section with a right CRC-32 is not the table that its table_id says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum TableSyntaxError {
    /// Another table_id.
    #[error("another table_id")]
    TableId,
    /// section_syntax_indicator is not what the table demands.
    #[error("section_syntax_indicator is not that of the table")]
    Syntax,
    /// section_number exceeds last_section_number, or the table may have one section only.
    #[error("section_number is not that of the table")]
    SectionNumber,
    /// A fixed part is cut short.
    #[error("the section is too short")]
    TooShort,
    /// A loop's length does not add up.
    #[error("the lengths of a loop do not add up")]
    Loop,
    /// A field has a value that it cannot have.
    #[error("a field has an impossible value")]
    Value,
}

/// A program association section (2.4.4.3).
#[derive(Clone, Copy, Debug)]
pub struct Pat<'a> {
    /// transport_stream_id.
    pub transport_stream_id: u16,
    entries: &'a [[u8; 4]],
}

impl<'a> Pat<'a> {
    /// Reads a section of table_id [`PAT`].
    ///
    /// # Errors
    /// [`TableSyntaxError`] where it is none.
    pub fn read(section: &Section<'a>) -> Result<Self, TableSyntaxError> {
        let header = section.long_of(PAT)?;
        let (entries, odd) = section.body().as_chunks();
        if !odd.is_empty() {
            return Err(TableSyntaxError::Loop);
        }
        Ok(Pat {
            transport_stream_id: header.extension,
            entries,
        })
    }

    /// program_number and PID of each PMT.
    pub fn programmes(&self) -> impl Iterator<Item = (u16, u16)> + 'a {
        self.entries().filter(|(number, _)| *number != 0)
    }

    /// network_PID, listed as programme 0.
    pub fn network_pid(&self) -> Option<u16> {
        self.entries().find(|(number, _)| *number == 0).map(|(_, pid)| pid)
    }

    fn entries(&self) -> impl Iterator<Item = (u16, u16)> + 'a {
        self.entries
            .iter()
            .map(|[n0, n1, p0, p1]| (u16::from_be_bytes([*n0, *n1]), u16::from_be_bytes([*p0, *p1]) & 0x1fff))
    }
}

/// A conditional access section (2.4.4.6).
#[derive(Clone, Copy, Debug)]
pub struct Cat<'a> {
    /// Its descriptors; CA descriptors name the EMMs' PIDs.
    pub descriptors: Descriptors<'a>,
}

impl<'a> Cat<'a> {
    /// Reads a section of table_id [`CAT`].
    ///
    /// # Errors
    /// [`TableSyntaxError`] where it is none.
    pub fn read(section: &Section<'a>) -> Result<Self, TableSyntaxError> {
        section.long_of(CAT)?;
        Ok(Cat {
            descriptors: Descriptors::new(section.body()),
        })
    }
}

/// A program map section (2.4.4.9).
#[derive(Clone, Copy, Debug)]
pub struct Pmt<'a> {
    /// program_number.
    pub programme: u16,
    /// version_number.
    pub version: u8,
    /// PCR_PID, if the programme has one.
    pub pcr_pid: Option<u16>,
    /// Descriptors of the programme.
    pub descriptors: Descriptors<'a>,
    components: Streams<'a>,
}

/// A component as a PMT lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream<'a> {
    /// stream_type (Table 2-34).
    pub stream_type: u8,
    /// elementary_PID.
    pub pid: u16,
    /// Descriptors of the component.
    pub descriptors: Descriptors<'a>,
}

impl<'a> Pmt<'a> {
    /// Reads a section of table_id [`PMT`].
    ///
    /// # Errors
    /// [`TableSyntaxError`] where it is none. Descriptors that do not add up are no such error: the components are still plain.
    pub fn read(section: &Section<'a>) -> Result<Self, TableSyntaxError> {
        let header = section.long_of(PMT)?;
        if (header.number, header.last_number) != (0, 0) {
            return Err(TableSyntaxError::SectionNumber);
        }
        let ([p0, p1, rest @ ..], body) = section
            .body()
            .split_first_chunk::<4>()
            .ok_or(TableSyntaxError::TooShort)?;
        let (descriptors, streams) = body.split_at_checked(twelve_bits(rest)).ok_or(TableSyntaxError::Loop)?;
        let components = Streams(streams);
        if !components.is_sound() {
            return Err(TableSyntaxError::Loop);
        }
        Ok(Pmt {
            programme: header.extension,
            version: header.version,
            pcr_pid: Some(u16::from_be_bytes([*p0, *p1]) & 0x1fff).filter(|pid| *pid != NO_PCR),
            descriptors: Descriptors::new(descriptors),
            components,
        })
    }

    /// The components, in the order of the section.
    pub fn components(&self) -> impl Iterator<Item = Stream<'a>> + 'a {
        self.components
    }

    /// Whether all descriptors' lengths add up.
    pub fn has_sound_descriptors(&self) -> bool {
        self.descriptors.is_sound() && self.components().all(|stream| stream.descriptors.is_sound())
    }
}

/// The loop of a PMT's components.
#[derive(Clone, Copy, Debug)]
struct Streams<'a>(&'a [u8]);

impl Streams<'_> {
    fn is_sound(mut self) -> bool {
        while self.next().is_some() {}
        self.0.is_empty()
    }
}

impl<'a> Iterator for Streams<'a> {
    type Item = Stream<'a>;

    fn next(&mut self) -> Option<Stream<'a>> {
        let ([stream_type, p0, p1, length @ ..], rest) = self.0.split_first_chunk::<5>()?;
        let (descriptors, rest) = rest.split_at_checked(twelve_bits(length))?;
        self.0 = rest;
        Some(Stream {
            stream_type: *stream_type,
            pid: u16::from_be_bytes([*p0, *p1]) & 0x1fff,
            descriptors: Descriptors::new(descriptors),
        })
    }
}

/// A length of 12 bits behind four others.
pub(super) fn twelve_bits(field: &[u8; 2]) -> usize {
    usize::from(u16::from_be_bytes(*field) & 0x0fff)
}

#[cfg(test)]
#[path = "psi_tests.rs"]
mod tests;
