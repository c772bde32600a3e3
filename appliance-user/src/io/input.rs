//! A file to inspect, whatever it is: told by its content, never by its name.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, Chain, Cursor, Read};
use std::path::Path;

use super::capture::{CaptureError, CaptureReader, Format};
use super::ts_file::{self, TsFileError, TsReader};

/// Bytes looked at to tell what a file is.
const BEGINNING: usize = ts_file::SEARCH + 5 * 204;

/// A reader whose beginning was looked at and put back.
pub type Replayed<R> = Chain<Cursor<Vec<u8>>, R>;

/// A file that can be inspected.
#[derive(Debug)]
pub enum Input<R> {
    /// A pcap or pcapng file.
    Capture(CaptureReader<Replayed<R>>),
    /// A transport stream file.
    TransportStream(TsReader<Replayed<R>>),
}

/// Why a file cannot be inspected.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// There is nothing in it.
    #[error("the file is empty")]
    Empty,
    /// It is neither a capture nor a transport stream.
    #[error("neither a capture (pcap, pcapng) nor a transport stream{hint}")]
    Foreign {
        /// What it seems to be, ready to be put behind the sentence; may be empty.
        hint: &'static str,
    },
    /// A capture that is broken from the start.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// A transport stream that cannot be read.
    #[error(transparent)]
    TransportStream(#[from] TsFileError),
    /// The operating system cannot open or read it.
    #[error("cannot read the file")]
    Read(#[from] io::Error),
}

impl Input<File> {
    /// Opens a file.
    ///
    /// # Errors
    ///
    /// [`InputError`]; nothing of the file can be read then.
    pub fn open(path: &Path) -> Result<Self, InputError> {
        Input::new(File::open(path)?)
    }
}

impl<R: Read> Input<R> {
    /// Looks at the beginning of anything readable, for example a pipe.
    ///
    /// # Errors
    ///
    /// As [`Input::open`].
    pub fn new(mut reader: R) -> Result<Self, InputError> {
        let mut beginning = Vec::new();
        reader.by_ref().take(BEGINNING as u64).read_to_end(&mut beginning)?;
        if beginning.is_empty() {
            return Err(InputError::Empty);
        }
        let whole = beginning.len() < BEGINNING;
        let capture = Format::detect(&beginning).is_some();
        let stream = ts_file::detect(&beginning, whole).is_some();
        let hint = compressed(&beginning);
        let replayed = Cursor::new(beginning).chain(reader);
        match (capture, stream) {
            (true, _) => Ok(Input::Capture(CaptureReader::new(replayed)?)),
            (false, true) => Ok(Input::TransportStream(TsReader::new(replayed)?)),
            (false, false) => Err(InputError::Foreign { hint }),
        }
    }
}

/// The commonest mistake: a file that has to be unpacked first.
fn compressed(beginning: &[u8]) -> &'static str {
    const KNOWN: [(&[u8], &str); 5] = [
        (&[0x1f, 0x8b], ": it is compressed with gzip, unpack it first"),
        (
            &[0x28, 0xb5, 0x2f, 0xfd],
            ": it is compressed with zstd, unpack it first",
        ),
        (
            &[0xfd, b'7', b'z', b'X', b'Z'],
            ": it is compressed with xz, unpack it first",
        ),
        (b"BZh", ": it is compressed with bzip2, unpack it first"),
        (b"PK\x03\x04", ": it is a zip archive, unpack it first"),
    ];
    KNOWN
        .iter()
        .find(|(magic, _)| beginning.starts_with(magic))
        .map_or("", |(_, hint)| hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(bytes: &[u8]) -> Result<&'static str, InputError> {
        Input::new(bytes).map(|input| match input {
            Input::Capture(_) => "capture",
            Input::TransportStream(_) => "transport stream",
        })
    }

    #[test]
    fn content_tells_what_a_file_is() {
        let mut pcap = 0xa1b2_c3d4u32.to_be_bytes().to_vec();
        pcap.resize(24, 0);
        assert_eq!(kind(&pcap).expect("pcap"), "capture");
        let mut packet = vec![0x47];
        packet.resize(188, 0xff);
        assert_eq!(kind(&packet.repeat(100)).expect("ts"), "transport stream");
        assert_eq!(kind(&packet.repeat(2)).expect("a short one"), "transport stream");
    }

    #[test]
    fn anything_else_is_refused_with_a_hint() {
        assert!(matches!(kind(&[]), Err(InputError::Empty)));
        assert!(matches!(kind(&[0x1f, 0x8b, 8, 0]), Err(InputError::Foreign { hint }) if hint.contains("gzip")));
        assert!(matches!(kind(&[0u8; 100_000]), Err(InputError::Foreign { hint: "" })));
        assert!(matches!(kind(b"{\"schema\": 1}"), Err(InputError::Foreign { .. })));
        assert!(matches!(
            kind(&[0xd4, 0xc3, 0xb2, 0xa1, 2]),
            Err(InputError::Capture(CaptureError::Truncated { .. }))
        ));
        let missing = Input::open(Path::new("/no/such/file"));
        assert!(matches!(missing, Err(InputError::Read(e)) if e.kind() == io::ErrorKind::NotFound));
    }

    #[test]
    fn what_was_looked_at_is_read_again() {
        let mut packet = vec![0x47];
        packet.resize(188, 0xff);
        let stream = packet.repeat(5_000);
        let Ok(Input::TransportStream(mut reader)) = Input::new(stream.as_slice()) else {
            panic!("a stream")
        };
        let mut count = 0;
        while let Some(batch) = reader.next_batch() {
            count += batch.expect("a clean file").packets().count();
        }
        assert_eq!(count, 5_000);
    }
}
