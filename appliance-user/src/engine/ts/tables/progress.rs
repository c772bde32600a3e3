//! How far a table of several sections has come (ISO/IEC 13818-1 2.4.4, Annex C): which of its sections are known, by CRC-32.

use crate::engine::media::mpegts::section::LongHeader;

/// A table's sections, known by their CRC-32. What is not repeated byte by byte begins the table anew, whether or not
/// its version_number says so.
#[derive(Debug, Default)]
pub(super) struct Progress {
    extension: u16,
    version: u8,
    last: u8,
    /// One bit for each section_number of the table as it is now.
    seen: [u64; 4],
    /// By section_number; 256 at most.
    crcs: Vec<u32>,
    /// Counts the tables that began: entries carry it, so that those which a complete table did not renew can go.
    stamp: u32,
}

/// What a section is to its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It repeats what is known.
    Known,
    /// Its content is to be entered; the table may now be complete.
    Fresh {
        /// Every section of the table is known now.
        complete: bool,
    },
}

impl Progress {
    /// Whether a section repeats what is known.
    pub(super) fn knows(&self, header: &LongHeader, crc: u32) -> bool {
        self.is_of_same_table(header) && self.known(header.number) == Some(crc)
    }

    /// Takes note of a section that applies now.
    pub(super) fn take(&mut self, header: &LongHeader, crc: u32) -> Step {
        let number = usize::from(header.number);
        let same_table = self.is_of_same_table(header);
        let known = self.known(header.number);
        if same_table && known == Some(crc) {
            return Step::Known;
        }
        if !same_table || known.is_some() {
            self.seen = [0; 4];
            self.stamp = self.stamp.wrapping_add(1).max(1);
            self.crcs.truncate(usize::from(header.last_number) + 1);
            (self.extension, self.version, self.last) = (header.extension, header.version, header.last_number);
        }
        if self.crcs.len() <= number {
            self.crcs.resize(number + 1, 0);
        }
        if let Some(place) = self.crcs.get_mut(number) {
            *place = crc;
        }
        if let Some(word) = self.seen.get_mut(number / 64) {
            *word |= 1 << (number % 64);
        }
        let seen: u32 = self.seen.iter().map(|word| word.count_ones()).sum();
        Step::Fresh {
            complete: seen == u32::from(self.last) + 1,
        }
    }

    /// Which table this is: the number that its entries carry.
    pub(super) fn stamp(&self) -> u32 {
        self.stamp
    }

    /// Bytes held on the heap.
    pub(super) fn memory(&self) -> usize {
        self.crcs.capacity() * size_of::<u32>()
    }

    fn is_of_same_table(&self, header: &LongHeader) -> bool {
        self.stamp > 0
            && (self.extension, self.version, self.last) == (header.extension, header.version, header.last_number)
    }

    /// The CRC-32 of a section of the table as it is now, where that was seen.
    fn known(&self, number: u8) -> Option<u32> {
        let crc = self.crcs.get(usize::from(number)).copied();
        crc.filter(|_| self.has(number))
    }

    fn has(&self, number: u8) -> bool {
        let word = self.seen.get(usize::from(number / 64)).copied().unwrap_or(0);
        word >> (number % 64) & 1 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(version: u8, number: u8, last_number: u8) -> LongHeader {
        LongHeader {
            extension: 1,
            version,
            current: true,
            number,
            last_number,
        }
    }

    #[test]
    fn a_table_of_one_section_is_complete_at_once_and_then_known() {
        let mut progress = Progress::default();
        assert_eq!(progress.take(&header(0, 0, 0), 7), Step::Fresh { complete: true });
        assert_eq!(progress.take(&header(0, 0, 0), 7), Step::Known);
        assert_eq!(progress.stamp(), 1);
        assert_eq!(progress.take(&header(1, 0, 0), 8), Step::Fresh { complete: true });
        assert_eq!(progress.stamp(), 2);
    }

    #[test]
    fn sections_may_come_in_any_order() {
        let mut progress = Progress::default();
        for number in [255, 3].into_iter().chain(0..=2).chain(4..=253) {
            assert_eq!(
                progress.take(&header(0, number, 255), u32::from(number)),
                Step::Fresh { complete: false }
            );
        }
        assert_eq!(progress.take(&header(0, 3, 255), 3), Step::Known);
        assert_eq!(progress.take(&header(0, 254, 255), 254), Step::Fresh { complete: true });
        assert_eq!(progress.stamp(), 1);
        assert!(progress.memory() <= 2048);
    }

    #[test]
    fn other_content_under_the_same_version_begins_anew() {
        let mut progress = Progress::default();
        progress.take(&header(0, 0, 1), 1);
        progress.take(&header(0, 1, 1), 2);
        assert_eq!(progress.take(&header(0, 1, 1), 3), Step::Fresh { complete: false });
        assert_eq!(progress.take(&header(0, 0, 1), 1), Step::Fresh { complete: true });
        assert_eq!(progress.stamp(), 2);
    }
}
