//! Blocks of a handshake (3.2.1.1 to 3.2.1.4): what a party is and can do, and texts in little-endian words.

use core::time::Duration;

use super::{Error, words};

/// Names of the SRT flags (3.2.1.1.1, table 6), from the lowest bit on.
pub const FLAG_NAMES: [&str; 8] = [
    "tsbpdsnd",
    "tsbpdrcv",
    "crypt",
    "tlpktdrop",
    "periodicnak",
    "rexmitflg",
    "stream",
    "packet-filter",
];

/// SRT version, flags and delays of an HSREQ or HSRSP block (3.2.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    /// SRT version, as `0x00XXYYZZ`.
    pub version: u32,
    /// SRT flags (table 6).
    pub flags: u32,
    /// Delay that the sender of this message applies to what it receives.
    pub receiver_delay: Duration,
    /// Least delay that it wants its peer to apply.
    pub sender_delay: Duration,
}

impl Latency {
    pub(super) fn parse(kind: u16, content: &[u8]) -> Result<Self, Error> {
        let block = content.first_chunk::<12>().ok_or(Error::ExtensionLength(kind))?;
        let [version, flags, delays] = words(block);
        let delay = |milliseconds: u32| Duration::from_millis(u64::from(milliseconds & 0xffff));
        Ok(Latency {
            version,
            flags,
            receiver_delay: delay(delays >> 16),
            sender_delay: delay(delays),
        })
    }

    /// The longer of the two delays: a bound in whichever direction the media goes.
    pub fn longest(&self) -> Duration {
        self.receiver_delay.max(self.sender_delay)
    }
}

/// Membership of a group of connections (3.2.1.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// The group's id.
    pub id: u32,
    /// 1: broadcast, 2: main/backup.
    pub kind: u8,
    /// Priority among the members.
    pub weight: u16,
}

impl Group {
    pub(super) fn parse(kind: u16, content: &[u8]) -> Result<Self, Error> {
        let block = content.first_chunk::<8>().ok_or(Error::ExtensionLength(kind))?;
        let [id, rest] = words(block);
        Ok(Group {
            id,
            kind: (rest >> 24) as u8,
            weight: rest as u16,
        })
    }
}

/// A text of little-endian words (3.2.1.3): put right, trailing NULs trimmed; bytes that are no UTF-8 become U+FFFD.
pub(super) fn text(content: &[u8]) -> String {
    let (words, _) = content.as_chunks::<4>();
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.iter().rev().copied()).collect();
    bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
    match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    }
}

/// Whether a NUL stands before the last byte that is none, in the order of the text.
pub(super) fn has_inner_nul(content: &[u8]) -> bool {
    let mut ended = false;
    let mut text = content.as_chunks::<4>().0.iter().flat_map(|word| word.iter().rev());
    text.any(|byte| {
        ended |= *byte == 0;
        ended && *byte != 0
    })
}
