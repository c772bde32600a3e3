//! Splice information (ANSI/SCTE 35): what a splice_info_section says, every length and the CRC checked.

use thiserror::Error;

/// Why a splice section could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// Its CRC-32 is wrong.
    #[error("the CRC is wrong")]
    Crc,
}

/// A splice_info_section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpliceInfo {
    /// The authorisation tier; 0xfff for none.
    pub tier: u16,
}
