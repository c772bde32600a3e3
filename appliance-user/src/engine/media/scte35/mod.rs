//! Splice information (ANSI/SCTE 35): what a splice_info_section says, every length and the CRC checked.
//!
//! Times are 90 kHz modulo 2^33 as they stand in the section; [`SpliceInfo::adjusted`] moves them onto the programme's own
//! time line. What is encrypted is told as such, never guessed.

mod command;
mod descriptor;
mod reader;

use thiserror::Error;

use self::reader::Reader;
use super::mpegts::pes::TIMESTAMP_MODULUS;
use super::mpegts::section::{Section, SectionError};

pub use self::command::{
    BreakDuration, Command, ComponentTime, Insert, InsertDetail, Schedule, ScheduleDetail, ScheduleTime, SpliceTime,
};
pub use self::descriptor::{AudioComponent, Delivery, Descriptor, Segmentation, SegmentationDetail, segmentation_name};

/// table_id of a splice_info_section (9.6.1 in the edition of 2022).
pub const TABLE_ID: u8 = 0xfc;
/// splice_command_length of old senders that did not tell it.
const LENGTH_UNKNOWN: u16 = 0xfff;

/// Why a splice section could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum Error {
    /// The section itself: its length or its CRC-32.
    #[error(transparent)]
    Section(#[from] SectionError),
    /// It is of another table, or of the long form.
    #[error("no splice section of the short form")]
    NotSplice,
    /// A protocol_version other than 0, of which nothing further is known.
    #[error("protocol_version {0}")]
    ProtocolVersion(u8),
    /// A field does not end within what holds it.
    #[error("{0} is cut short")]
    CutShort(&'static str),
    /// The command is shorter than splice_command_length says.
    #[error("splice_command_length is {said}, the command has {read} bytes")]
    CommandLength {
        /// splice_command_length.
        said: u16,
        /// Bytes that the command's fields take.
        read: u16,
    },
    /// It goes on in another packet of a PID on which sections are not put together.
    #[error("it is longer than one packet of a PID that no PMT announces")]
    NotFollowed,
}

/// A splice_info_section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpliceInfo {
    /// sap_type (3 where it is not specified).
    pub sap_type: u8,
    /// encryption_algorithm, where encrypted_packet is set: command and descriptors are then not to be read.
    pub encryption: Option<u8>,
    /// pts_adjustment, 90 kHz: to be added to every time in command and descriptors.
    pub pts_adjustment: u64,
    /// cw_index: the key of an encrypted section.
    pub cw_index: u8,
    /// The authorisation tier; 0xfff for none.
    pub tier: u16,
    /// What is to be done.
    pub command: Command,
    /// What is said beside it.
    pub descriptors: Vec<Descriptor>,
}

impl SpliceInfo {
    /// Reads a whole section, CRC-32 included.
    ///
    /// # Errors
    /// [`Error`]; a section is read as a whole or not at all.
    pub fn read(bytes: &[u8]) -> Result<Self, Error> {
        let section = Section::read(bytes)?;
        if section.table_id != TABLE_ID || section.long.is_some() {
            return Err(Error::NotSplice);
        }
        let mut body = Reader::new(section.body());
        let version = body.u8("protocol_version")?;
        if version != 0 {
            return Err(Error::ProtocolVersion(version));
        }
        let (flags, pts_adjustment) = body.time("pts_adjustment")?;
        let cw_index = body.u8("cw_index")?;
        let [t0, t1, l1] = body.array("splice_command_length")?;
        let length = u16::from_be_bytes([t1 & 0x0f, l1]);
        let mut info = SpliceInfo {
            sap_type: bytes.get(1).map_or(3, |byte| byte >> 4 & 3),
            encryption: (flags & 0x40 != 0).then_some(flags & 0x3f),
            pts_adjustment,
            cw_index,
            tier: u16::from(t0) << 4 | u16::from(t1 >> 4),
            command: Command::Encrypted,
            descriptors: Vec::new(),
        };
        if info.encryption.is_none() {
            info.read_clear(&mut body, length)?;
        }
        Ok(info)
    }

    /// Command and descriptors, where they are not encrypted.
    fn read_clear(&mut self, body: &mut Reader<'_>, length: u16) -> Result<(), Error> {
        let kind = body.u8("splice_command_type")?;
        if length == LENGTH_UNKNOWN {
            self.command = command::read(kind, body)?;
        } else {
            let mut bytes = Reader::new(body.slice(length.into(), "splice_command")?);
            self.command = command::read(kind, &mut bytes)?;
            let left = bytes.left() as u16;
            if left > 0 {
                return Err(Error::CommandLength {
                    said: length,
                    read: length - left,
                });
            }
        }
        let length = body.u16("descriptor_loop_length")?;
        let mut descriptors = Reader::new(body.slice(length.into(), "descriptor_loop")?);
        while descriptors.left() > 0 {
            self.descriptors.push(descriptor::read(&mut descriptors)?);
        }
        // What is left before the CRC-32 is alignment stuffing.
        Ok(())
    }

    /// A time of this section on the programme's own time line: pts_adjustment added, modulo 2^33.
    pub fn adjusted(&self, time: u64) -> u64 {
        time.wrapping_add(self.pts_adjustment) % TIMESTAMP_MODULUS
    }

    /// The segmentation descriptors.
    pub fn segmentations(&self) -> impl Iterator<Item = &Segmentation> {
        self.descriptors.iter().filter_map(|descriptor| match descriptor {
            Descriptor::Segmentation(segmentation) => Some(&**segmentation),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests;
