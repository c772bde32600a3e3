//! Reading a client's first bytes: what they ask for, and what the rule says to it.

use std::sync::Arc;

use tidegate_common::drop_reason::DropReason;

use super::RtmpFigures;
use super::reassembly::{BUDGET, Reassembly, Refused};
use crate::engine::media::rtmp::chunk::{AGGREGATE, AUDIO, ChunkReader, Message, VIDEO};
use crate::engine::media::rtmp::handshake::{self, Opening};
use crate::engine::media::rtmp::{Command, Connect, Error, Purpose, StreamCommand, trim_slashes};
use crate::policy::glob::Glob;
use crate::policy::rule::RtmpRule;

/// Commands before the one that starts the media; the usual encoders send five.
const MAX_COMMANDS: u8 = 32;
/// Heap bytes of the lists that are kept beside the bytes, all at their bounds.
const ROOM: usize = 4096;
/// The longest application or client name of a report in characters.
const MAX_SHOWN: usize = 128;

/// The report's words for what is and what hides the connection.
pub(super) const CLEAR: &str = "none";
const TLS: &str = "tls";
const RTMPE: &str = "rtmpe";

/// A connection whose first bytes are being read.
#[derive(Debug, Default)]
pub(super) struct Following {
    pub(super) stream: Reassembly,
    chunks: ChunkReader,
    /// Bytes read.
    at: usize,
    /// `connect` was seen and admitted.
    pub(super) connected: bool,
    commands: u8,
}

/// What the bytes so far lead to.
pub(super) enum Decision {
    /// The rule admits what the client asked for.
    Admit,
    /// There is nothing to look into, by the report's word for the encryption.
    Pass(&'static str),
    /// The rule does not admit it.
    Refuse(DropReason),
}

impl Following {
    /// Heap bytes that its bytes take.
    pub(super) fn memory(&self) -> usize {
        self.stream.memory() + self.chunks.memory()
    }

    /// Heap bytes held at most after a segment was read: the stream's buffer is as long as its last byte needs, and every
    /// byte that can be read now may be in a message that is being put together, whose buffer has room to grow.
    pub(super) fn memory_with(&self, from: i32, payload: &[u8]) -> usize {
        let end = usize::try_from(from)
            .unwrap_or_default()
            .saturating_add(payload.len())
            .min(BUDGET);
        let longest = end.max(self.stream.reach());
        self.memory() + ROOM + 2 * longest.next_power_of_two() + 2 * longest.saturating_sub(self.at)
    }

    /// Takes a segment's bytes for their place.
    ///
    /// # Errors
    /// As [`Reassembly::insert`].
    pub(super) fn insert(&mut self, at: usize, data: &[u8]) -> Result<(), Refused> {
        self.stream.insert(at, data)
    }

    /// Whether the whole handshake has come.
    pub(super) fn is_open(&self) -> bool {
        self.stream.in_order().len() >= handshake::LENGTH
    }

    /// Reads what is in order and not read yet, until something is decided.
    pub(super) fn read(&mut self, rule: &RtmpRule, figures: &mut RtmpFigures) -> Result<Option<Decision>, Error> {
        let Some(first) = self.stream.in_order().first().copied() else {
            return Ok(None);
        };
        let hidden = match Opening::of(first)? {
            Opening::Clear => None,
            Opening::Tls => Some(TLS),
            Opening::Rtmpe => Some(RTMPE),
        };
        if let Some(hidden) = hidden {
            figures.encryption = hidden;
            return Ok(Some(if rule.applications.is_some() || rule.stream_keys.is_some() {
                Decision::Refuse(DropReason::NotRtmp)
            } else {
                Decision::Pass(hidden)
            }));
        }
        self.at = self.at.max(handshake::LENGTH);
        loop {
            let unread = self.stream.in_order().get(self.at..).unwrap_or_default();
            let Some((taken, message)) = self.chunks.read(unread)? else {
                break;
            };
            self.at += taken;
            if let Some(decision) = message
                .map(|message| self.judge(&message, rule, figures))
                .transpose()?
                .flatten()
            {
                return Ok(Some(decision));
            }
            if self.commands > MAX_COMMANDS {
                return Ok(Some(self.give_up(rule)));
            }
        }
        Ok((self.stream.in_order().len() >= BUDGET).then(|| self.give_up(rule)))
    }

    /// The client talks, and asks for nothing that starts media. Where the rule binds what it may still ask for, it ends here.
    fn give_up(&self, rule: &RtmpRule) -> Decision {
        if rule.stream_keys.is_some() || rule.applications.is_some() && !self.connected {
            Decision::Refuse(DropReason::NotRtmp)
        } else {
            Decision::Pass(CLEAR)
        }
    }

    fn judge(
        &mut self,
        message: &Message,
        rule: &RtmpRule,
        figures: &mut RtmpFigures,
    ) -> Result<Option<Decision>, Error> {
        // Media that nobody asked to publish, or commands wrapped in an aggregate.
        if matches!(message.kind, AUDIO | VIDEO | AGGREGATE) {
            return Ok(Some(Decision::Refuse(DropReason::NotRtmp)));
        }
        let Some(command) = Command::parse(message)? else {
            return Ok(None);
        };
        self.commands += 1;
        Ok(match command {
            Command::Connect(connect) => self.connect(&connect, rule, figures),
            _ if !self.connected => Some(Decision::Refuse(DropReason::NotRtmp)),
            Command::Stream(command) => about_stream(&command, rule, figures),
            Command::Other => None,
        })
    }

    fn connect(&mut self, connect: &Connect<'_>, rule: &RtmpRule, figures: &mut RtmpFigures) -> Option<Decision> {
        let application = connect.application.unwrap_or_default();
        figures.application = Some(shown(application));
        figures.client = connect.client.map(shown);
        let admits = |name: &[u8]| {
            let globs = rule.applications.as_ref();
            globs.is_none_or(|globs| matching(globs, name).is_some())
        };
        // Some servers go by the URL, so it may not name what `app` could not.
        let in_url = connect.application_of_url();
        let same = in_url.is_none_or(|in_url| in_url == trim_slashes(application) || admits(in_url));
        if !admits(application) || !same {
            return Some(Decision::Refuse(DropReason::RtmpApplication));
        }
        self.connected = true;
        None
    }
}

fn about_stream(command: &StreamCommand<'_>, rule: &RtmpRule, figures: &mut RtmpFigures) -> Option<Decision> {
    figures.purpose = match command.purpose {
        Purpose::Announce => None,
        Purpose::Publish => Some("publish"),
        Purpose::Play => Some("play"),
    };
    figures.publish_type = command.kind.map(|kind| match kind {
        b"live" => "live",
        b"record" => "record",
        b"append" => "append",
        _ => "other",
    });
    if let Some(keys) = &rule.stream_keys {
        let Some(place) = matching(keys, command.name) else {
            return Some(Decision::Refuse(DropReason::RtmpStreamKey));
        };
        figures.key_pattern = u32::try_from(place + 1).ok();
    }
    (command.purpose != Purpose::Announce).then_some(Decision::Admit)
}

/// The first pattern that matches.
fn matching(globs: &[Glob], name: &[u8]) -> Option<usize> {
    globs.iter().position(|glob| glob.matches(name))
}

/// A name for people: without a query, which may hold a token, without control characters, and not endless.
fn shown(name: &[u8]) -> Arc<str> {
    let plain = name.split(|byte| *byte == b'?').next().unwrap_or_default();
    let text = String::from_utf8_lossy(plain);
    let printable = text
        .chars()
        .take(MAX_SHOWN)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c });
    printable.collect::<String>().into()
}
