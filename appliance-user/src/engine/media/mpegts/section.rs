//! Sections (ISO/IEC 13818-1 2.4.4): put together from the packets of one PID, and read once they are whole.
//!
//! A section that lies within one packet is lent out of it and never copied; only what continues in the next packet takes
//! memory, as much as its length says, until it is whole.

use crc::{CRC_32_MPEG_2, Crc, Table};
use thiserror::Error;

use super::psi::TableSyntaxError;
use super::{Content, PACKET_SIZE, digest_packet};

/// The longest section (2.4.4.11, of private sections). Tables of 13818-1 itself end at 1,024, which is not insisted upon.
pub const MAX_SECTION: usize = 4096;
/// table_id that marks the rest of a packet as stuffing (2.4.4).
const STUFFING: u8 = 0xff;
/// Bytes up to and with section_length.
const SHORT_HEADER: usize = 3;
/// Bytes up to and with last_section_number, where section_syntax_indicator is set.
const LONG_HEADER: usize = 8;
/// Bytes of the CRC-32.
const CRC_BYTES: usize = 4;
/// Tables of the short form that nevertheless end in a CRC-32: TOT (EN 300 468 5.2.6) and splice information (SCTE 35).
const SHORT_WITH_CRC: [u8; 2] = [0x73, 0xfc];

/// Sixteen lanes: four times as fast as one table, for 16 KiB that only streams full of tables touch.
static CRC: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_MPEG_2);

/// What is wrong with a section, or with the packets that carry it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum SectionError {
    /// pointer_field points beyond the packet (2.4.4.1).
    #[error("pointer_field points beyond the packet")]
    Pointer,
    /// The next section began before this one was whole.
    #[error("the section is cut short by the next one")]
    CutShort,
    /// section_length says more than a section may have.
    #[error("section_length exceeds {MAX_SECTION} bytes")]
    TooLong,
    /// section_length says less than its header and CRC need, or other than the bytes there are.
    #[error("section_length does not fit the section")]
    Length,
    /// The memory that may be spent on half-assembled sections is spent.
    #[error("too many half-assembled sections")]
    NoRoom,
    /// The CRC-32 is wrong.
    #[error("the CRC-32 is wrong")]
    Crc,
}

/// Puts the sections of one PID together. At rest it holds no memory on the heap.
#[derive(Debug, Default)]
pub struct Assembler {
    /// What has come of a section that is not whole.
    partial: Vec<u8>,
    /// The bytes it will have; 0 while its length is not known.
    length: usize,
    /// The last packet's continuity_counter and hash, if nothing broke since.
    last: Option<(u8, u32)>,
}

/// How a packet follows the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Succession {
    Next,
    Copy,
    Break,
}

impl Assembler {
    /// Takes the next packet of the PID and hands out, in order, the sections that are whole now and what is wrong.
    ///
    /// `gap`: something is missing before this packet, which the counter alone may not show. A half-assembled section is then
    /// void; nothing is said of that, for whoever knows of the gap has told it. A second copy of a packet (2.4.3.3) does
    /// nothing. `room` is what the section may take of memory.
    ///
    /// Sections handed out have the length that they claim; nothing else of them was checked ([`Section::read`] does).
    pub fn packet(
        &mut self,
        packet: &[u8; PACKET_SIZE],
        gap: bool,
        room: usize,
        out: &mut impl FnMut(Result<&[u8], SectionError>),
    ) {
        let [_, flags, _, control, ..] = *packet;
        let (broken, scrambled) = (flags & 0x80 != 0, control & 0xc0 != 0);
        if broken || scrambled {
            self.clear();
            return;
        }
        let Some(payload) = super::payload(packet) else { return };
        let now = (control & 0x0f, digest_packet(packet, Content::Full).hash);
        match self.succession(packet, now, gap) {
            Succession::Copy => return,
            Succession::Break => self.void(),
            Succession::Next => {}
        }
        self.last = Some(now);
        if flags & 0x40 == 0 {
            self.go_on(payload, room, out);
            return;
        }
        let pointed = payload
            .split_first()
            .and_then(|(pointer, rest)| rest.split_at_checked(usize::from(*pointer)));
        let Some((tail, sections)) = pointed else {
            self.void();
            out(Err(SectionError::Pointer));
            return;
        };
        self.go_on(tail, room, out);
        if !self.is_idle() {
            self.void();
            out(Err(SectionError::CutShort));
        }
        self.begin(sections, room, out);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.void();
        self.last = None;
    }

    /// Whether no section is under way.
    pub fn is_idle(&self) -> bool {
        self.partial.is_empty()
    }

    /// Bytes held on the heap.
    pub fn memory(&self) -> usize {
        self.partial.capacity()
    }

    fn void(&mut self) {
        self.partial = Vec::new();
        self.length = 0;
    }

    fn succession(&self, packet: &[u8; PACKET_SIZE], now: (u8, u32), gap: bool) -> Succession {
        let [_, _, _, control, length, flags, ..] = *packet;
        let discontinuity = control & 0x20 != 0 && length > 0 && flags & 0x80 != 0;
        match self.last.filter(|_| !gap) {
            Some(last) if last == now && !discontinuity => Succession::Copy,
            Some((counter, _)) if now.0 == (counter + 1) & 0x0f => Succession::Next,
            _ => Succession::Break,
        }
    }

    /// More of the section under way; bytes after its end are stuffing.
    fn go_on(&mut self, mut bytes: &[u8], room: usize, out: &mut impl FnMut(Result<&[u8], SectionError>)) {
        if self.is_idle() {
            return;
        }
        if self.length == 0 {
            let missing = SHORT_HEADER.saturating_sub(self.partial.len()).min(bytes.len());
            let (head, rest) = bytes.split_at(missing);
            self.partial.extend_from_slice(head);
            bytes = rest;
            let Some(header) = self.partial.first_chunk() else {
                return;
            };
            match whole_length(header).and_then(|length| fits(length, room)) {
                Ok(length) => self.length = length,
                Err(error) => {
                    self.void();
                    out(Err(error));
                    return;
                }
            }
            self.partial.reserve_exact(self.length - SHORT_HEADER);
        }
        let missing = self.length.saturating_sub(self.partial.len()).min(bytes.len());
        self.partial.extend(bytes.iter().take(missing));
        if self.partial.len() == self.length {
            let whole = std::mem::take(&mut self.partial);
            self.length = 0;
            out(Ok(&whole));
        }
    }

    /// The sections that begin in a packet: at most 61, as many headers as it has room for.
    fn begin(&mut self, mut bytes: &[u8], room: usize, out: &mut impl FnMut(Result<&[u8], SectionError>)) {
        while let Some(first) = bytes.first()
            && *first != STUFFING
        {
            let Some(header) = bytes.first_chunk() else {
                self.partial.extend_from_slice(bytes);
                return;
            };
            let length = match whole_length(header) {
                Ok(length) => length,
                Err(error) => return out(Err(error)),
            };
            match bytes.split_at_checked(length) {
                Some((whole, rest)) => {
                    out(Ok(whole));
                    bytes = rest;
                }
                None => match fits(length, room) {
                    Ok(length) => {
                        self.partial.reserve_exact(length);
                        self.partial.extend_from_slice(bytes);
                        self.length = length;
                        return;
                    }
                    Err(error) => return out(Err(error)),
                },
            }
        }
    }
}

/// A section's bytes, header included, as its header says.
fn whole_length(header: &[u8; SHORT_HEADER]) -> Result<usize, SectionError> {
    let [_, high, low] = *header;
    let length = SHORT_HEADER + (usize::from(high & 0x0f) << 8 | usize::from(low));
    if length > MAX_SECTION {
        return Err(SectionError::TooLong);
    }
    Ok(length)
}

fn fits(length: usize, room: usize) -> Result<usize, SectionError> {
    if length > room {
        return Err(SectionError::NoRoom);
    }
    Ok(length)
}

/// The CRC-32 of a section or of its beginning (ISO/IEC 13818-1 Annex A); 0 over a section that ends in its own.
pub fn crc32(bytes: &[u8]) -> u32 {
    CRC.checksum(bytes)
}

/// A whole section: its length and, where it has one, its CRC-32 were checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section<'a> {
    bytes: &'a [u8],
    body: &'a [u8],
    /// table_id.
    pub table_id: u8,
    /// The fields of the long form, where section_syntax_indicator is set.
    pub long: Option<LongHeader>,
    /// The CRC-32 that it ends in; `None` for tables without one.
    pub crc: Option<u32>,
}

/// What the long form adds to a section's header (2.4.4.11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongHeader {
    /// table_id_extension: transport stream, programme, network or service.
    pub extension: u16,
    /// version_number, 0 to 31.
    pub version: u8,
    /// current_next_indicator: it applies now, not later.
    pub current: bool,
    /// section_number.
    pub number: u8,
    /// last_section_number.
    pub last_number: u8,
}

impl<'a> Section<'a> {
    /// Checks a section's length and CRC-32. `bytes` is the section and nothing more.
    ///
    /// # Errors
    /// [`SectionError::Length`], [`SectionError::TooLong`] or [`SectionError::Crc`].
    pub fn read(bytes: &'a [u8]) -> Result<Self, SectionError> {
        let header = bytes.first_chunk().ok_or(SectionError::Length)?;
        if whole_length(header)? != bytes.len() {
            return Err(SectionError::Length);
        }
        let [table_id, syntax, _] = *header;
        let is_long = syntax & 0x80 != 0;
        let body_at = if is_long { LONG_HEADER } else { SHORT_HEADER };
        let mut body = bytes.get(body_at..).ok_or(SectionError::Length)?;
        let mut crc = None;
        if is_long || SHORT_WITH_CRC.contains(&table_id) {
            let (front, last) = body.split_last_chunk::<CRC_BYTES>().ok_or(SectionError::Length)?;
            if crc32(bytes) != 0 {
                return Err(SectionError::Crc);
            }
            body = front;
            crc = Some(u32::from_be_bytes(*last));
        }
        Ok(Section {
            bytes,
            body,
            table_id,
            long: if is_long { LongHeader::read(bytes) } else { None },
            crc,
        })
    }

    /// What is between header and CRC-32.
    pub fn body(&self) -> &'a [u8] {
        self.body
    }

    /// The long form's fields, if this is a section of that table.
    ///
    /// # Errors
    /// [`TableSyntaxError`] for another table_id, the short form or a section_number beyond the last.
    pub fn long_of(&self, table_id: u8) -> Result<LongHeader, TableSyntaxError> {
        if self.table_id != table_id {
            return Err(TableSyntaxError::TableId);
        }
        let header = self.long.ok_or(TableSyntaxError::Syntax)?;
        if header.number > header.last_number {
            return Err(TableSyntaxError::SectionNumber);
        }
        Ok(header)
    }

    /// The whole section.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

impl LongHeader {
    fn read(bytes: &[u8]) -> Option<Self> {
        let [_, _, _, e0, e1, version, number, last_number] = *bytes.first_chunk::<LONG_HEADER>()?;
        Some(LongHeader {
            extension: u16::from_be_bytes([e0, e1]),
            version: version >> 1 & 0x1f,
            current: version & 1 != 0,
            number,
            last_number,
        })
    }
}

#[cfg(test)]
#[path = "section_tests.rs"]
mod tests;
