//! RTMP as a client speaks it before its media flows (Adobe RTMP 1.0): handshake, chunk streams, and the AMF0 commands
//! that name the application and the stream key.
//!
//! Everything is read as servers read it, for what they believe is what will be served: where servers could disagree (a
//! property twice, a message begun anew within another, a timestamp repeated with another value) the input is refused.
//! Only what an honest client sends before its media is understood; the rest of a connection is nobody's business here.

pub mod amf0;
pub mod chunk;
pub mod handshake;

use self::amf0::{Amf0, Value};
use self::chunk::Message;

/// Why bytes are not the beginning of an RTMP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// C0 asks for a version other than 3 (5.2.2).
    #[error("version {0} of the handshake")]
    Version(u8),
    /// A header of type 1, 2 or 3 on a chunk stream that has had no full one (5.3.1.2).
    #[error("chunk stream {0} begins without a full header")]
    NoHeader(u32),
    /// A new message on a chunk stream whose last one is not complete (5.3.1).
    #[error("a message begins within another one of chunk stream {0}")]
    Interrupted(u32),
    /// An extended timestamp that is not repeated as it was (5.3.1.3).
    #[error("the extended timestamp of chunk stream {0} changes within a message")]
    ExtendedTimestamp(u32),
    /// Set Chunk Size outside of 1 to 0x7FFFFFFF, or cut short (5.4.1).
    #[error("a chunk size of {0}")]
    ChunkSize(u32),
    /// Abort Message (5.4.2), which servers do not agree about, and no encoder sends before its media.
    #[error("chunk stream {0} is aborted")]
    Abort(u32),
    /// A message longer than [`chunk::MAX_MESSAGE`].
    #[error("a message of {0} bytes before any media")]
    MessageLength(u32),
    /// More chunk streams than [`chunk::MAX_CHUNK_STREAMS`].
    #[error("too many chunk streams")]
    ChunkStreams,
    /// AMF0 that ends early.
    #[error("AMF0 is cut short")]
    Truncated,
    /// An AMF0 marker that is reserved or not understood.
    #[error("AMF0 marker {0:#04x}")]
    Marker(u8),
    /// AMF0 nested deeper than [`amf0::MAX_DEPTH`].
    #[error("AMF0 nested too deep")]
    Depth,
    /// A command without a name.
    #[error("a command without a name")]
    NoName,
    /// `app` or `tcUrl` twice, or of another type than a string.
    #[error("connect has {0} twice or not as a string")]
    Property(&'static str),
    /// The stream's name is missing or no string.
    #[error("a command without the stream name it is about")]
    StreamName,
    /// A name longer than [`MAX_NAME`].
    #[error("a name of {0} bytes")]
    NameLength(usize),
}

/// The longest application, URL or stream key in bytes; encoders' fields hold far less.
pub const MAX_NAME: usize = 1024;

/// A command message, as far as admission needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// `connect` (7.2.1.1).
    Connect(Connect<'a>),
    /// A command about a stream by its name.
    Stream(StreamCommand<'a>),
    /// Any other.
    Other,
}

/// What `connect` says of the client (7.2.1.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connect<'a> {
    /// `app`: the application to connect to.
    pub application: Option<&'a [u8]>,
    /// `tcUrl`: where the client believes to be connected, the application included.
    pub url: Option<&'a [u8]>,
    /// `flashVer`: the client's own name and version.
    pub client: Option<&'a [u8]>,
}

impl<'a> Connect<'a> {
    /// The application as the URL has it: what follows the host, without slashes at its ends. Servers differ in whether
    /// they go by this or by `app`. `None` where there is no URL or it has no path.
    pub fn application_of_url(&self) -> Option<&'a [u8]> {
        let url = self.url?;
        let scheme = url.windows(3).position(|part| part == b"://")?;
        let rest = url.get(scheme + 3..)?;
        let slash = rest.iter().position(|byte| *byte == b'/')?;
        Some(trim_slashes(rest.get(slash..)?)).filter(|path| !path.is_empty())
    }
}

/// Takes slashes from both ends.
pub fn trim_slashes(mut text: &[u8]) -> &[u8] {
    while let Some(rest) = text.strip_prefix(b"/") {
        text = rest;
    }
    while let Some(rest) = text.strip_suffix(b"/") {
        text = rest;
    }
    text
}

/// What a command wants of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// `releaseStream` or `FCPublish`: announces a `publish`; not in the specification, sent by every encoder.
    Announce,
    /// `publish` (7.2.2.6).
    Publish,
    /// `play` (7.2.2.1).
    Play,
}

/// A command about a stream. Its name is the stream key, a secret: [`core::fmt::Debug`] leaves it out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct StreamCommand<'a> {
    /// What is wanted.
    pub purpose: Purpose,
    /// The stream's name, or key.
    pub name: &'a [u8],
    /// `publish`'s type: `live`, `record` or `append`.
    pub kind: Option<&'a [u8]>,
}

impl core::fmt::Debug for StreamCommand<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { purpose, kind, .. } = self;
        f.debug_struct("StreamCommand")
            .field("purpose", purpose)
            .field("kind", kind)
            .finish_non_exhaustive()
    }
}

impl<'a> Command<'a> {
    /// Reads a command message (type 20, or 17 whose AMF0 follows one byte). `None` for a message of another type.
    ///
    /// # Errors
    /// What keeps it from being read to where its meaning is certain.
    pub fn parse(message: &'a Message) -> Result<Option<Self>, Error> {
        let body = match (message.kind, message.payload()) {
            (chunk::COMMAND_AMF0, body) => body,
            (chunk::COMMAND_AMF3, body) => body.get(1..).ok_or(Error::Truncated)?,
            _ => return Ok(None),
        };
        let mut values = Amf0::new(body);
        let Value::String(name) = values.value()? else {
            return Err(Error::NoName);
        };
        let purpose = match name {
            b"connect" => return connect(&mut values).map(|connect| Some(Command::Connect(connect))),
            b"releaseStream" | b"FCPublish" => Purpose::Announce,
            b"publish" => Purpose::Publish,
            b"play" | b"play2" => Purpose::Play,
            _ => return Ok(Some(Command::Other)),
        };
        // Transaction id, then the command object, which is null for these.
        values.value()?;
        values.value()?;
        let Value::String(name) = values.value().map_err(|_| Error::StreamName)? else {
            return Err(Error::StreamName);
        };
        let kind = match purpose {
            Purpose::Publish if !values.is_empty() => values.value()?.text(),
            _ => None,
        };
        Ok(Some(Command::Stream(StreamCommand {
            purpose,
            name: bounded(name)?,
            kind,
        })))
    }
}

fn connect<'a>(values: &mut Amf0<'a>) -> Result<Connect<'a>, Error> {
    values.value()?;
    let mut connect = Connect::default();
    let mut wrong = None;
    values.object(|key, value| {
        let (field, name, is_text) = match key {
            b"app" => (&mut connect.application, "app", true),
            b"tcUrl" => (&mut connect.url, "tcUrl", true),
            b"flashVer" => (&mut connect.client, "flashVer", false),
            _ => return,
        };
        let text = value.text();
        let twice = text.is_some() && field.is_some();
        if is_text && (twice || text.is_none()) {
            wrong = Some(Error::Property(name));
        }
        *field = text.or(*field);
    })?;
    if let Some(wrong) = wrong {
        return Err(wrong);
    }
    for text in [connect.application, connect.url].into_iter().flatten() {
        bounded(text)?;
    }
    Ok(connect)
}

fn bounded(name: &[u8]) -> Result<&[u8], Error> {
    if name.len() > MAX_NAME {
        return Err(Error::NameLength(name.len()));
    }
    Ok(name)
}

#[cfg(test)]
pub(in crate::engine) mod tests;
