//! What RTCP says about one media stream, small enough to travel between workers.

use crate::engine::media::rtcp::{Block, Compound, Echo, Packet, SenderInfo};

/// Bytes of a canonical name that are kept; RFC 7022 recommends names far shorter.
const MAX_TEXT: usize = 64;
/// Notes that are taken from one datagram. A report on one stream makes two or three.
const MAX_NOTES: usize = 16;

/// What RTCP says about one media stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RtcpNote {
    /// Its sender reports what it has sent.
    Sender(SenderInfo),
    /// A receiver reports how it receives the stream.
    Receiver(Block),
    /// Its sender's canonical name.
    Cname(Text),
    /// Its sender says that it ends.
    Bye,
    /// A receiver asks for so many of its numbers again.
    Nack(u32),
    /// Sender or receiver measures the round trip (RIST).
    Echo(Echo),
    /// An extended report from its sender.
    Extended,
}

/// Text from the wire: printable, and cut to a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Text {
    bytes: [u8; MAX_TEXT],
    length: u8,
}

impl Text {
    /// Takes ASCII graphics and spaces as they are, and a question mark for every other byte.
    pub fn from_wire(wire: &[u8]) -> Self {
        let mut text = Text {
            bytes: [0; MAX_TEXT],
            length: wire.len().min(MAX_TEXT) as u8,
        };
        for (place, byte) in text.bytes.iter_mut().zip(wire) {
            *place = if byte.is_ascii_graphic() || *byte == b' ' {
                *byte
            } else {
                b'?'
            };
        }
        text
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..self.length.into()).unwrap_or_default();
        str::from_utf8(bytes).unwrap_or_default()
    }
}

/// Hands each thing that a compound packet says about a media stream to `take`, with the stream's SSRC: the first
/// [`MAX_NOTES`] of them. Returns how many of its packets could not be read.
pub(in crate::engine) fn for_each(compound: &Compound<'_>, mut take: impl FnMut(u32, RtcpNote)) -> u64 {
    let mut left = MAX_NOTES;
    let mut malformed = 0;
    let mut tell = |ssrc, note| {
        if left > 0 {
            left -= 1;
            take(ssrc, note);
        }
    };
    for packet in compound.packets() {
        match packet {
            Ok(Packet::SenderReport { ssrc, info, blocks }) => {
                tell(ssrc, RtcpNote::Sender(info));
                blocks
                    .iter()
                    .for_each(|block| tell(block.ssrc, RtcpNote::Receiver(block)));
            }
            Ok(Packet::ReceiverReport { blocks, .. }) => {
                blocks
                    .iter()
                    .for_each(|block| tell(block.ssrc, RtcpNote::Receiver(block)));
            }
            Ok(Packet::SourceDescription(chunks)) => {
                chunks
                    .cnames()
                    .for_each(|(ssrc, name)| tell(ssrc, RtcpNote::Cname(Text::from_wire(name))));
            }
            Ok(Packet::Bye(sources)) => sources.iter().for_each(|ssrc| tell(ssrc, RtcpNote::Bye)),
            Ok(Packet::GenericNack { media, lost }) => tell(media, RtcpNote::Nack(lost.count())),
            Ok(Packet::RangeNack { media, lost }) => tell(media, RtcpNote::Nack(lost.count())),
            Ok(Packet::Echo(echo)) => tell(echo.ssrc, RtcpNote::Echo(echo)),
            Ok(Packet::ExtendedReport { ssrc }) => tell(ssrc, RtcpNote::Extended),
            Ok(Packet::Application { .. } | Packet::Other { .. }) => {}
            Err(_) => malformed += 1,
        }
    }
    malformed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_the_wire_is_bounded_and_printable() {
        assert_eq!(Text::from_wire(b"a b\n\xff<").as_str(), "a b??<");
        assert_eq!(Text::from_wire(&[b'x'; 300]).as_str().len(), MAX_TEXT);
    }

    #[test]
    fn one_datagram_makes_a_bounded_number_of_notes() {
        let mut bytes = vec![0x9f, 203, 0, 31];
        bytes.extend([0; 31 * 4]);
        let mut notes = 0;
        let malformed = for_each(&Compound::parse(&bytes).unwrap(), |_, note| {
            assert_eq!(note, RtcpNote::Bye);
            notes += 1;
        });
        assert_eq!((notes, malformed), (MAX_NOTES, 0));
    }
}
