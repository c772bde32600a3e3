//! Descriptors (ISO/IEC 13818-1 2.6, ETSI EN 300 468 6): the loop, and the few whose content the appliance needs.

/// registration_descriptor (2.6.8).
const REGISTRATION: u8 = 0x05;
/// CA_descriptor (2.6.16).
const CA: u8 = 0x09;
/// ISO_639_language_descriptor (2.6.18).
const LANGUAGE: u8 = 0x0a;
/// format_identifier of splice information (SCTE 35).
const CUEI: [u8; 4] = *b"CUEI";

/// One descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor<'a> {
    /// descriptor_tag.
    pub tag: u8,
    /// What follows descriptor_length.
    pub data: &'a [u8],
}

/// A descriptor loop. Iterating yields the descriptors that are whole and ends before one that is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Descriptors<'a>(&'a [u8]);

impl<'a> Descriptors<'a> {
    /// The descriptors of these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Descriptors(bytes)
    }

    /// Whether the descriptors' lengths add up to the loop's.
    pub fn is_sound(self) -> bool {
        let mut rest = self;
        while rest.next().is_some() {}
        rest.0.is_empty()
    }

    /// The format_identifiers of the registration descriptors.
    pub fn registrations(self) -> impl Iterator<Item = [u8; 4]> {
        self.filter(|descriptor| descriptor.tag == REGISTRATION)
            .filter_map(|descriptor| descriptor.data.first_chunk().copied())
    }

    /// Whether a registration descriptor names splice information (SCTE 35, `CUEI`).
    pub fn register_splice_information(self) -> bool {
        self.registrations().any(|format| format == CUEI)
    }

    /// The CA_PIDs of the CA descriptors: ECMs in a PMT, EMMs in the CAT.
    pub fn ca_pids(self) -> impl Iterator<Item = u16> {
        self.filter(|descriptor| descriptor.tag == CA)
            .filter_map(|descriptor| descriptor.data.first_chunk())
            .map(|[_, _, high, low]| u16::from_be_bytes([*high, *low]) & 0x1fff)
    }

    /// ISO 639-2 code of the first language descriptor's first language.
    pub fn language(mut self) -> Option<[u8; 3]> {
        let descriptor = self.find(|descriptor| descriptor.tag == LANGUAGE)?;
        descriptor.data.first_chunk().copied()
    }

    /// What a component of private data (stream_type 0x06) carries, as its descriptors say (EN 300 468 6.1, registrations);
    /// `None` where they name nothing known.
    pub fn private_format(self) -> Option<&'static str> {
        let by_tag = { self }.find_map(|descriptor| match descriptor.tag {
            0x56 => Some("teletext"),
            0x59 => Some("dvb-subtitles"),
            0x6a => Some("ac3"),
            0x7a => Some("eac3"),
            0x7b => Some("dts"),
            0x7c => Some("aac"),
            _ => None,
        });
        by_tag.or_else(|| self.registrations().find_map(registered_format))
    }
}

/// The format behind a registered format_identifier.
fn registered_format(format: [u8; 4]) -> Option<&'static str> {
    Some(match &format {
        b"AC-3" => "ac3",
        b"EAC3" => "eac3",
        b"AC-4" => "ac4",
        b"BSSD" => "s302m",
        b"HEVC" => "h265",
        b"Opus" => "opus",
        b"KLVA" => "klv",
        b"VANC" => "smpte2038",
        b"ID3 " => "id3",
        b"AV01" => "av1",
        b"drac" => "dirac",
        _ => return None,
    })
}

impl<'a> Iterator for Descriptors<'a> {
    type Item = Descriptor<'a>;

    fn next(&mut self) -> Option<Descriptor<'a>> {
        let ([tag, length], rest) = self.0.split_first_chunk()?;
        let (data, rest) = rest.split_at_checked(usize::from(*length))?;
        self.0 = rest;
        Some(Descriptor { tag: *tag, data })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_descriptors_of_a_scrambled_programme_are_read() {
        let bytes = [
            &[0x05, 4][..],
            b"CUEI",
            &[0x09, 5, 0x0b, 0x00, 0xe1, 0x23, 0x77],
            &[0x0a, 4, b'd', b'e', b'u', 0],
        ]
        .concat();
        let descriptors = Descriptors::new(&bytes);
        assert!(descriptors.is_sound() && descriptors.register_splice_information());
        assert_eq!(descriptors.ca_pids().collect::<Vec<_>>(), [0x123]);
        assert_eq!(descriptors.language(), Some(*b"deu"));
        assert_eq!(descriptors.private_format(), None);
    }

    #[test]
    fn a_descriptor_that_runs_over_ends_the_loop() {
        let bytes = [0x52, 1, 7, 0x05, 5, b'C', b'U', b'E', b'I'];
        let descriptors = Descriptors::new(&bytes);
        assert!(!descriptors.is_sound());
        assert_eq!(descriptors.count(), 1);
        assert!(!descriptors.register_splice_information());
    }

    #[test]
    fn descriptors_too_short_for_their_content_say_nothing() {
        let bytes = [0x05, 3, b'C', b'U', b'E', 0x09, 3, 0, 0, 0, 0x0a, 2, b'd', b'e'];
        let descriptors = Descriptors::new(&bytes);
        assert!(descriptors.is_sound());
        assert_eq!(descriptors.registrations().count(), 0);
        assert_eq!(descriptors.ca_pids().count(), 0);
        assert_eq!(descriptors.language(), None);
    }

    #[test]
    fn private_data_is_named_by_its_descriptors() {
        assert_eq!(Descriptors::new(&[0x6a, 1, 0]).private_format(), Some("ac3"));
        assert_eq!(Descriptors::new(b"\x05\x04Opus").private_format(), Some("opus"));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_harmless(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let descriptors = Descriptors::new(&bytes);
            let read: usize = descriptors.map(|descriptor| 2 + descriptor.data.len()).sum();
            prop_assert!(read <= bytes.len());
            prop_assert_eq!(descriptors.is_sound(), read == bytes.len());
            let _ = (descriptors.private_format(), descriptors.language(), descriptors.ca_pids().count());
        }
    }
}
