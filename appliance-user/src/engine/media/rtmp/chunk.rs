//! Chunk streams (RTMP 1.0, 5.3): from the bytes behind the handshake to whole messages.
//!
//! The reader is given the bytes from where it stopped and takes one chunk at a time, so it does not matter in which pieces
//! they arrive. It keeps headers and half messages, nothing else, both bounded.

use zeroize::Zeroizing;

use super::Error;

/// The longest message that is put together in bytes; commands before any media are far shorter.
pub const MAX_MESSAGE: u32 = 8192;
/// Chunk streams that a client may use before its media; the usual encoders use four.
pub const MAX_CHUNK_STREAMS: usize = 16;
/// The chunk size until a Set Chunk Size (5.4.1).
const DEFAULT_CHUNK_SIZE: u32 = 128;
/// A timestamp field that says: the timestamp follows in 32 bits (5.3.1.3).
const EXTENDED: u32 = 0x00ff_ffff;

/// Set Chunk Size (5.4.1).
const SET_CHUNK_SIZE: u8 = 1;
/// Abort Message (5.4.2).
const ABORT: u8 = 2;
/// Audio (7.1.4).
pub const AUDIO: u8 = 8;
/// Video (7.1.5).
pub const VIDEO: u8 = 9;
/// A command that begins with one byte of AMF3 (7.1.1).
pub const COMMAND_AMF3: u8 = 17;
/// A command in AMF0 (7.1.1).
pub const COMMAND_AMF0: u8 = 20;
/// Aggregate of messages (7.1.6).
pub const AGGREGATE: u8 = 22;

/// A whole message. [`core::fmt::Debug`] leaves its payload out, which may hold a stream key.
#[derive(Clone)]
pub struct Message {
    /// Message type id (5.3.1.2).
    pub kind: u8,
    /// Message stream id.
    pub stream_id: u32,
    payload: Zeroizing<Vec<u8>>,
}

impl Message {
    /// A message that was made by hand.
    pub fn new(kind: u8, stream_id: u32, payload: Vec<u8>) -> Self {
        Message {
            kind,
            stream_id,
            payload: Zeroizing::new(payload),
        }
    }

    /// Its bytes.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }
}

impl core::fmt::Debug for Message {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Message(type {}, {} bytes)", self.kind, self.payload.len())
    }
}

/// A message header, as far as later headers refer to it.
#[derive(Clone, Copy, Debug)]
struct Header {
    length: u32,
    kind: u8,
    stream_id: u32,
    extended: Option<u32>,
}

#[derive(Debug)]
struct ChunkStream {
    id: u32,
    header: Header,
    /// The message whose chunks are not all here yet.
    partial: Option<Message>,
}

/// Puts messages together out of chunks.
#[derive(Debug)]
pub struct ChunkReader {
    chunk_size: u32,
    streams: Vec<ChunkStream>,
}

impl Default for ChunkReader {
    fn default() -> Self {
        ChunkReader {
            chunk_size: DEFAULT_CHUNK_SIZE,
            streams: Vec::new(),
        }
    }
}

/// What one chunk's header says, and its length.
struct Chunk {
    id: u32,
    /// The header that the message has from now on; `None` in type 3.
    header: Option<Header>,
    /// The extended timestamp of a type 3 header.
    repeated: Option<u32>,
    length: usize,
}

impl ChunkReader {
    /// Takes the first chunk of `input`: how many bytes it has, and the message that it completes. `None` where the chunk is
    /// not all there.
    ///
    /// # Errors
    /// What no sound client sends before its media.
    pub fn read(&mut self, input: &[u8]) -> Result<Option<(usize, Option<Message>)>, Error> {
        let Some(chunk) = self.header(input)? else {
            return Ok(None);
        };
        let header = self.check(&chunk)?;
        let place = self.place(chunk.id);
        let held = place
            .and_then(|place| self.streams.get(place)?.partial.as_ref())
            .map_or(0, |partial| partial.payload.len());
        let missing = (header.length as usize).saturating_sub(held);
        let taken = missing.min(self.chunk_size as usize);
        let Some(body) = input.get(chunk.length..chunk.length.saturating_add(taken)) else {
            return Ok(None);
        };
        let message = self.take(place, chunk.id, header, body)?;
        if let Some(message) = &message {
            self.obey(message)?;
        }
        Ok(Some((chunk.length + taken, message)))
    }

    /// Heap bytes held.
    pub fn memory(&self) -> usize {
        let partial = |stream: &ChunkStream| stream.partial.as_ref().map_or(0, |message| message.payload.capacity());
        self.streams.capacity() * size_of::<ChunkStream>() + self.streams.iter().map(partial).sum::<usize>()
    }

    fn place(&self, id: u32) -> Option<usize> {
        self.streams.iter().position(|stream| stream.id == id)
    }

    /// Basic header, message header and extended timestamp (5.3.1.1 to 5.3.1.3); `None` where they are cut short.
    fn header(&self, input: &[u8]) -> Result<Option<Chunk>, Error> {
        let mut rest = input;
        let Some((format, id)) = basic_header(&mut rest) else {
            return Ok(None);
        };
        let known = self.place(id).and_then(|place| self.streams.get(place));
        let before = known.map(|stream| stream.header);
        let fields = match (format, before) {
            (0, _) => 11,
            (_, None) => return Err(Error::NoHeader(id)),
            (1, _) => 7,
            (2, _) => 3,
            _ => 0,
        };
        let Some(fields) = rest.split_off(..fields) else {
            return Ok(None);
        };
        let mut timestamp = 0;
        let mut header = before.unwrap_or(Header {
            length: 0,
            kind: 0,
            stream_id: 0,
            extended: None,
        });
        if let [t0, t1, t2, further @ ..] = fields {
            timestamp = u32::from_be_bytes([0, *t0, *t1, *t2]);
            if let [l0, l1, l2, kind, further @ ..] = further {
                header.length = u32::from_be_bytes([0, *l0, *l1, *l2]);
                header.kind = *kind;
                if let [s0, s1, s2, s3] = further {
                    header.stream_id = u32::from_le_bytes([*s0, *s1, *s2, *s3]);
                }
            }
        }
        let repeats = format == 3;
        let has_extended = timestamp == EXTENDED || repeats && header.extended.is_some();
        let mut extended = None;
        if has_extended {
            let Some(field) = rest.split_off(..4).and_then(<[u8]>::first_chunk) else {
                return Ok(None);
            };
            extended = Some(u32::from_be_bytes(*field));
        }
        if !repeats {
            header.extended = extended;
        }
        Ok(Some(Chunk {
            id,
            header: (!repeats).then_some(header),
            repeated: extended.filter(|_| repeats),
            length: input.len() - rest.len(),
        }))
    }

    /// The message header that holds for a chunk, or why the chunk may not come now.
    fn check(&self, chunk: &Chunk) -> Result<Header, Error> {
        let known = self.place(chunk.id).and_then(|place| self.streams.get(place));
        let within = known.is_some_and(|stream| stream.partial.is_some());
        let header = match (chunk.header, known) {
            (Some(_), _) if within => return Err(Error::Interrupted(chunk.id)),
            (Some(header), _) => header,
            (None, Some(stream)) if stream.header.extended == chunk.repeated => stream.header,
            (None, Some(_)) => return Err(Error::ExtendedTimestamp(chunk.id)),
            (None, None) => return Err(Error::NoHeader(chunk.id)),
        };
        if header.length > MAX_MESSAGE {
            return Err(Error::MessageLength(header.length));
        }
        if known.is_none() && self.streams.len() >= MAX_CHUNK_STREAMS {
            return Err(Error::ChunkStreams);
        }
        Ok(header)
    }

    /// Adds a chunk's payload to its message, which is returned when it is complete.
    fn take(&mut self, place: Option<usize>, id: u32, header: Header, body: &[u8]) -> Result<Option<Message>, Error> {
        let place = place.unwrap_or_else(|| {
            self.streams.push(ChunkStream {
                id,
                header,
                partial: None,
            });
            self.streams.len() - 1
        });
        let stream = self.streams.get_mut(place).ok_or(Error::NoHeader(id))?;
        stream.header = header;
        let mut message = stream
            .partial
            .take()
            .unwrap_or_else(|| Message::new(header.kind, header.stream_id, Vec::new()));
        message.payload.extend_from_slice(body);
        if message.payload.len() < header.length as usize {
            stream.partial = Some(message);
            return Ok(None);
        }
        Ok(Some(message))
    }

    /// The messages that are about the chunk streams themselves take effect at once, whatever their stream.
    fn obey(&mut self, message: &Message) -> Result<(), Error> {
        let word = || {
            message
                .payload
                .first_chunk()
                .map_or(0, |field| u32::from_be_bytes(*field))
        };
        match message.kind {
            SET_CHUNK_SIZE => match word() {
                size @ 1..=0x7fff_ffff => self.chunk_size = size,
                size => return Err(Error::ChunkSize(size)),
            },
            // Servers differ: some drop the chunk stream's message, some ignore it and read on.
            ABORT => return Err(Error::Abort(word())),
            _ => {}
        }
        Ok(())
    }
}

/// Format and chunk stream id (5.3.1.1), taken off the input.
fn basic_header(rest: &mut &[u8]) -> Option<(u8, u32)> {
    let first = rest.split_off_first()?;
    let id = match first & 0x3f {
        0 => 64 + u32::from(*rest.split_off_first()?),
        1 => {
            let [low, high] = rest.split_off(..2)?.first_chunk()?;
            64 + u32::from(*low) + 256 * u32::from(*high)
        }
        id => u32::from(id),
    };
    Some((first >> 6, id))
}
