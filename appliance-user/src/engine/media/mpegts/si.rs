//! Service information (ETSI EN 300 468): which network and services a transport stream is of, what is on, and what time it is.
//!
//! As in [`super::psi`], each view is proven sound when it is made. Descriptor loops are lenient: what is whole is read.

use super::descriptor::Descriptors;
use super::psi::{TableSyntaxError, twelve_bits};
use super::section::Section;

/// table_ids of network information: this network, another.
pub const NIT: [u8; 2] = [0x40, 0x41];
/// table_ids of service descriptions: this transport stream, another.
pub const SDT: [u8; 2] = [0x42, 0x46];
/// table_id of the bouquet association.
pub const BAT: u8 = 0x4a;
/// table_id of event information, present and following, of this transport stream.
pub const EIT_ACTUAL: u8 = 0x4e;
/// table_id of the time and date section.
pub const TDT: u8 = 0x70;
/// table_id of the time offset section.
pub const TOT: u8 = 0x73;

/// service_descriptor (6.2.33).
const SERVICE_DESCRIPTOR: u8 = 0x48;
/// network_name_descriptor (6.2.27).
const NETWORK_NAME_DESCRIPTOR: u8 = 0x40;
/// Days from the Modified Julian Date's origin to 1970-01-01 (Annex C).
const MJD_OF_1970: i64 = 40_587;

/// A network information section (5.2.1).
#[derive(Clone, Copy, Debug)]
pub struct Nit<'a> {
    /// network_id.
    pub network_id: u16,
    /// Descriptors of the network.
    pub descriptors: Descriptors<'a>,
}

impl<'a> Nit<'a> {
    /// Reads a section of one of the table_ids [`NIT`].
    ///
    /// # Errors
    /// [`TableSyntaxError`] where it is none.
    pub fn read(section: &Section<'a>) -> Result<Self, TableSyntaxError> {
        let header = section.long_of(one_of(section, NIT))?;
        let (length, body) = section.body().split_first_chunk().ok_or(TableSyntaxError::TooShort)?;
        let (descriptors, rest) = body
            .split_at_checked(twelve_bits(length))
            .ok_or(TableSyntaxError::Loop)?;
        let (length, streams) = rest.split_first_chunk().ok_or(TableSyntaxError::TooShort)?;
        if twelve_bits(length) != streams.len() {
            return Err(TableSyntaxError::Loop);
        }
        Ok(Nit {
            network_id: header.extension,
            descriptors: Descriptors::new(descriptors),
        })
    }

    /// network_name_descriptor, as far as it is plain text.
    pub fn name(&self) -> Option<String> {
        let mut descriptors = self.descriptors;
        let descriptor = descriptors.find(|descriptor| descriptor.tag == NETWORK_NAME_DESCRIPTOR)?;
        Some(text(descriptor.data))
    }
}

/// A service description section (5.2.3).
#[derive(Clone, Copy, Debug)]
pub struct Sdt<'a> {
    /// transport_stream_id that it describes.
    pub transport_stream_id: u16,
    /// original_network_id.
    pub original_network_id: u16,
    services: Services<'a>,
}

/// A service as the SDT describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service<'a> {
    /// service_id, which is the program_number.
    pub id: u16,
    /// running_status (Table 6).
    pub running_status: u8,
    /// free_CA_mode: at least one component may be scrambled.
    pub scrambled: bool,
    /// EIT_present_following_flag: the EIT of present and following events is transmitted.
    pub present_following: bool,
    /// Its descriptors.
    pub descriptors: Descriptors<'a>,
}

impl Service<'_> {
    /// service_name of the service descriptor, as far as it is plain text.
    pub fn name(&self) -> Option<String> {
        let mut descriptors = self.descriptors;
        let descriptor = descriptors.find(|descriptor| descriptor.tag == SERVICE_DESCRIPTOR)?;
        let (_, provider_and_name) = descriptor.data.split_first()?;
        let (provider_length, rest) = provider_and_name.split_first()?;
        let (length, rest) = rest.get(usize::from(*provider_length)..)?.split_first()?;
        Some(text(rest.get(..usize::from(*length))?))
    }
}

impl<'a> Sdt<'a> {
    /// Reads a section of one of the table_ids [`SDT`].
    ///
    /// # Errors
    /// [`TableSyntaxError`] where it is none.
    pub fn read(section: &Section<'a>) -> Result<Self, TableSyntaxError> {
        let header = section.long_of(one_of(section, SDT))?;
        let (&[n0, n1, _], loop_bytes) = section.body().split_first_chunk().ok_or(TableSyntaxError::TooShort)?;
        let services = Services(loop_bytes);
        let mut rest = services;
        while rest.next().is_some() {}
        if !rest.0.is_empty() {
            return Err(TableSyntaxError::Loop);
        }
        Ok(Sdt {
            transport_stream_id: header.extension,
            original_network_id: u16::from_be_bytes([n0, n1]),
            services,
        })
    }

    /// The services, in the order of the section.
    pub fn services(&self) -> impl Iterator<Item = Service<'a>> + 'a {
        self.services
    }
}

#[derive(Clone, Copy, Debug)]
struct Services<'a>(&'a [u8]);

impl<'a> Iterator for Services<'a> {
    type Item = Service<'a>;

    fn next(&mut self) -> Option<Service<'a>> {
        let (&[i0, i1, flags, l0, l1], rest) = self.0.split_first_chunk()?;
        let (descriptors, rest) = rest.split_at_checked(twelve_bits(&[l0, l1]))?;
        self.0 = rest;
        Some(Service {
            id: u16::from_be_bytes([i0, i1]),
            running_status: l0 >> 5,
            scrambled: l0 & 0x10 != 0,
            present_following: flags & 1 != 0,
            descriptors: Descriptors::new(descriptors),
        })
    }
}

/// An event information section (5.2.4).
#[derive(Clone, Copy, Debug)]
pub struct Eit<'a> {
    /// service_id, which is the program_number.
    pub service_id: u16,
    /// transport_stream_id of the service.
    pub transport_stream_id: u16,
    /// original_network_id of the service.
    pub original_network_id: u16,
    events: Events<'a>,
}

/// An event of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// event_id.
    pub id: u16,
    /// start_time in seconds since 1970-01-01 UTC; `None` where it is undefined or no time.
    pub start: Option<i64>,
    /// duration in seconds; `None` where it is undefined.
    pub duration: Option<u32>,
    /// running_status (Table 6).
    pub running_status: u8,
    /// free_CA_mode: at least one component may be scrambled.
    pub scrambled: bool,
}

impl<'a> Eit<'a> {
    /// Reads a section of table_id [`EIT_ACTUAL`].
    ///
    /// # Errors
    /// [`TableSyntaxError`] where it is none.
    pub fn read(section: &Section<'a>) -> Result<Self, TableSyntaxError> {
        let header = section.long_of(EIT_ACTUAL)?;
        let (&[t0, t1, n0, n1, _, _], loop_bytes) =
            section.body().split_first_chunk().ok_or(TableSyntaxError::TooShort)?;
        let events = Events(loop_bytes);
        let mut rest = events;
        while rest.next().is_some() {}
        if !rest.0.is_empty() {
            return Err(TableSyntaxError::Loop);
        }
        Ok(Eit {
            service_id: header.extension,
            transport_stream_id: u16::from_be_bytes([t0, t1]),
            original_network_id: u16::from_be_bytes([n0, n1]),
            events,
        })
    }

    /// The events, in the order of the section.
    pub fn events(&self) -> impl Iterator<Item = Event> + 'a {
        self.events
    }
}

#[derive(Clone, Copy, Debug)]
struct Events<'a>(&'a [u8]);

impl Iterator for Events<'_> {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        let (fixed, rest) = self.0.split_first_chunk::<12>()?;
        let [i0, i1, time @ .., _, _, _, l0, l1] = *fixed;
        let [_, _, _, _, _, _, _, d0, d1, d2, ..] = *fixed;
        let (_, rest) = rest.split_at_checked(twelve_bits(&[l0, l1]))?;
        self.0 = rest;
        Some(Event {
            id: u16::from_be_bytes([i0, i1]),
            start: utc(time),
            duration: seconds([d0, d1, d2]),
            running_status: l0 >> 5,
            scrambled: l0 & 0x10 != 0,
        })
    }
}

/// UTC of a time and date section or of a time offset section (5.2.5, 5.2.6), in seconds since 1970-01-01.
///
/// # Errors
/// [`TableSyntaxError`] where it is neither, or where the digits are no time.
pub fn time(section: &Section<'_>) -> Result<i64, TableSyntaxError> {
    if !matches!(section.table_id, TDT | TOT) {
        return Err(TableSyntaxError::TableId);
    }
    if section.long.is_some() {
        return Err(TableSyntaxError::Syntax);
    }
    let (time, rest) = section.body().split_first_chunk().ok_or(TableSyntaxError::TooShort)?;
    let complete = match section.table_id {
        TDT => rest.is_empty(),
        _ => rest
            .split_first_chunk()
            .is_some_and(|(length, rest)| twelve_bits(length) == rest.len()),
    };
    if !complete {
        return Err(TableSyntaxError::Loop);
    }
    utc(*time).ok_or(TableSyntaxError::Value)
}

/// Modified Julian Date and six BCD digits (Annex C).
fn utc([m0, m1, time @ ..]: [u8; 5]) -> Option<i64> {
    let day = i64::from(u16::from_be_bytes([m0, m1])) - MJD_OF_1970;
    let seconds = seconds(time).filter(|seconds| *seconds < 86_400)?;
    Some(day * 86_400 + i64::from(seconds))
}

/// Hours, minutes and seconds as six BCD digits; `None` where they are none, as in 0xffffff for undefined.
fn seconds(digits: [u8; 3]) -> Option<u32> {
    let [hours, minutes, seconds] = digits.map(|byte| {
        let (tens, units) = (byte >> 4, byte & 0x0f);
        (tens < 10 && units < 10).then_some(u32::from(tens) * 10 + u32::from(units))
    });
    let (minutes, seconds) = (minutes.filter(|m| *m < 60)?, seconds.filter(|s| *s < 60)?);
    Some(hours? * 3600 + minutes * 60 + seconds)
}

/// The first of the two table_ids unless it is the second.
fn one_of(section: &Section<'_>, table_ids: [u8; 2]) -> u8 {
    let [actual, other] = table_ids;
    if section.table_id == other { other } else { actual }
}

/// A text field (Annex A). UTF-8 where it says so; else the part that all its character tables share, with `?` for
/// every other character, and without control codes.
fn text(bytes: &[u8]) -> String {
    const UTF_8: u8 = 0x15;
    let (utf_8, bytes) = match bytes {
        [UTF_8, rest @ ..] => (true, rest),
        // A table selected by two more bytes, or by this one.
        [0x10, _, _, rest @ ..] | [0x01..=0x1f, rest @ ..] => (false, rest),
        _ => (false, bytes),
    };
    if utf_8 {
        return String::from_utf8_lossy(bytes)
            .chars()
            .filter(|c| !c.is_control())
            .collect();
    }
    let printable = bytes.iter().filter(|byte| !matches!(byte, 0x00..=0x1f | 0x7f..=0x9f));
    printable
        .map(|byte| if byte.is_ascii() { char::from(*byte) } else { '?' })
        .collect()
}

#[cfg(test)]
#[path = "si_tests.rs"]
mod tests;
