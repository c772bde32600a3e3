//! SRT (draft-sharabayko-srt): sessions by their handshakes, data by destination socket id.
//!
//! The engine only listens. It never forges an answer: a handshake that the rule does not admit is dropped, and the caller
//! times out. Whatever does not fit an established session changes nothing, for anyone may send it.

use core::time::Duration;
use std::sync::Arc;

use tidegate_common::digest::PacketDigest;
use tidegate_common::drop_reason::DropReason;
use tidegate_common::flow::Direction;

use super::{Context, Datagram, Flow, Speaks};
use crate::engine::judge::TsBytes;
use crate::engine::media::mpegts;
use crate::engine::media::srt::{self, Cipher, ControlType, Handshake, HandshakeType, Packet};
use crate::engine::report::StreamProtocol;
use crate::engine::time::Timestamp;
use crate::policy::rule::{Encryption, OnUnverified};

/// Sessions and pending handshakes remembered per flow.
const MAX_SESSIONS: usize = 8;
/// An established session this long without data may make room for another.
const SESSION_SILENCE: Duration = Duration::from_secs(10);
/// A negotiated latency outside of this is not a reorder window, but a mistake or an attack on memory.
const LATENCY: core::ops::RangeInclusive<Duration> = Duration::from_millis(20)..=Duration::from_secs(8);

/// What the handshakes of a flow have established.
#[derive(Debug, Default)]
pub(super) struct Sessions(Vec<Session>);

/// One SRT connection, from its conclusion on.
#[derive(Debug)]
struct Session {
    /// The direction in which the caller sends.
    caller: Direction,
    /// The caller's socket id: destination of what the listener sends.
    caller_id: u32,
    /// The listener's socket id, once it answered.
    listener_id: Option<u32>,
    stream_id: Option<Arc<str>>,
    cipher: &'static str,
    latency: Option<Duration>,
    last_seen: Timestamp,
}

impl Flow {
    /// A packet of a flow that carries SRT, either way.
    pub(super) fn srt(&mut self, datagram: &Datagram<'_>, context: &mut Context<'_>) -> Result<(), DropReason> {
        match Packet::parse(datagram.payload).map_err(|_| DropReason::NotSrt)? {
            Packet::Data(data) => self.srt_data(&data, datagram, context),
            Packet::Control(control) => {
                let Speaks::Srt(sessions) = &mut self.speaks else {
                    return Ok(());
                };
                if let Some(handshake) = control.handshake() {
                    let destination = control.destination_socket_id();
                    return sessions.handshake(handshake, destination, datagram.direction, context);
                }
                if control.control_type() == ControlType::Shutdown {
                    sessions.shutdown(control.destination_socket_id(), datagram.direction);
                }
                Ok(())
            }
        }
    }

    fn srt_data(
        &mut self,
        data: &srt::Data<'_>,
        datagram: &Datagram<'_>,
        context: &mut Context<'_>,
    ) -> Result<(), DropReason> {
        let Speaks::Srt(sessions) = &mut self.speaks else {
            return Ok(());
        };
        if data.is_filter_control() {
            // The packet filter's FEC borrows the numbers of the media packets that it protects.
            return Ok(());
        }
        let id = data.destination_socket_id();
        let session = sessions.of_data(id, datagram.direction, context.now);
        let rule = &context.rule.srt;
        if session.is_none() && rule.on_unverified == OnUnverified::Drop {
            return Err(DropReason::SrtUnverified);
        }
        if matches!(
            (rule.encryption, data.is_encrypted()),
            (Encryption::Required, false) | (Encryption::Forbidden, true)
        ) {
            return Err(DropReason::SrtEncryption);
        }
        let known = self
            .streams
            .iter()
            .any(|stream| stream.is_session(datagram.direction, id));
        let described = match session {
            _ if known => None,
            Some(session) => Some((session.cipher, session.stream_id.clone(), session.latency)),
            None if data.is_encrypted() => Some((UNVERIFIED, None, None)),
            None => Some((CLEAR, None, None)),
        };
        let place = self.stream(StreamProtocol::Srt, datagram.direction, id, datagram, context);
        let Some(stream) = place.and_then(|place| self.streams.get_mut(place)) else {
            return Ok(());
        };
        if let Some((cipher, stream_id, latency)) = described {
            stream.describe_srt(
                cipher,
                stream_id,
                latency.filter(|_| context.rule.reorder_window.is_none()),
            );
        }
        let mut digest = PacketDigest {
            sequence: data.sequence_number(),
            retransmitted: data.is_retransmitted(),
            ..PacketDigest::default()
        };
        if !data.is_encrypted() && mpegts::looks_like_ts(data.payload()) {
            // A wrong length or sync shows in the digest; SRT's sender would only repeat what is dropped for it.
            let _ = mpegts::digest_datagram(data.payload(), context.content, &mut digest);
        } else {
            digest.hash = mpegts::hash_payload(data.payload(), context.content);
        }
        let ts = TsBytes::all(if digest.ts_visible { data.payload() } else { &[] });
        stream.offer(context.now, datagram.payload.len(), &digest, ts, context.outbox);
        if stream.is_blocked() {
            Err(DropReason::StreamBlocked)
        } else {
            Ok(())
        }
    }
}

/// The names of the report's `encryption` that are no ciphers.
const CLEAR: &str = "none";
const UNVERIFIED: &str = "unverified";

impl Sessions {
    /// A handshake with `destination` as its destination socket id, which is 0 in a caller's and the caller's id in what
    /// answers it.
    fn handshake(
        &mut self,
        handshake: &Handshake<'_>,
        destination: u32,
        direction: Direction,
        context: &Context<'_>,
    ) -> Result<(), DropReason> {
        if handshake.kind() != HandshakeType::Conclusion {
            return Ok(());
        }
        // In rendezvous a request has a destination too; an answer repeats no request.
        if destination != 0 && handshake.request().is_none() {
            self.answered(handshake, destination, direction);
            return Ok(());
        }
        let rule = &context.rule.srt;
        let stream_id = handshake.stream_id();
        if !rule.admits_stream_id(stream_id.as_deref().unwrap_or_default().as_bytes()) {
            return Err(DropReason::SrtStreamId);
        }
        let cipher = cipher_name(handshake);
        if matches!(
            (rule.encryption, cipher == CLEAR),
            (Encryption::Required, true) | (Encryption::Forbidden, false)
        ) {
            return Err(DropReason::SrtEncryption);
        }
        let id = handshake.socket_id();
        let repeated = |session: &Session| session.caller == direction && session.caller_id == id;
        if !self.0.iter().any(repeated) && self.make_room(context.now) {
            self.0.push(Session {
                caller: direction,
                caller_id: id,
                listener_id: None,
                stream_id: stream_id.map(Arc::from),
                cipher,
                latency: handshake.request_latency().map(clamp),
                last_seen: context.now,
            });
        }
        Ok(())
    }

    /// The listener's conclusion, addressed to the caller's socket.
    fn answered(&mut self, answer: &Handshake<'_>, caller_id: u32, direction: Direction) {
        let pending = |session: &&mut Session| {
            session.caller != direction && session.caller_id == caller_id && session.listener_id.is_none()
        };
        if let Some(session) = self.0.iter_mut().find(pending) {
            session.listener_id = Some(answer.socket_id());
            session.latency = answer.response_latency().map(clamp).or(session.latency);
        }
    }

    /// Room for one more session: a pending one goes first, then an established one that fell silent. Live sessions stay,
    /// or whoever sends handshakes could make them unverified.
    fn make_room(&mut self, now: Timestamp) -> bool {
        if self.0.len() < MAX_SESSIONS {
            return true;
        }
        let silent = |session: &Session| now.since(session.last_seen) >= SESSION_SILENCE;
        let pending = self.0.iter().position(|session| session.listener_id.is_none());
        let victim = pending.or_else(|| self.0.iter().position(silent));
        victim.map(|place| self.0.remove(place)).is_some()
    }

    /// The session that a data packet belongs to. Where the listener's answer was not seen (it may take another way), the
    /// caller's data is of the session that waits for it; what names the listener's socket id is its answer alone, for
    /// anyone may send data.
    fn of_data(&mut self, id: u32, direction: Direction, now: Timestamp) -> Option<&Session> {
        let known = self.0.iter().position(|session| session.receives(id, direction));
        let place = known.or_else(|| {
            let pending = |session: &Session| session.caller == direction && session.listener_id.is_none();
            self.0.iter().rposition(pending)
        })?;
        let session = self.0.get_mut(place)?;
        session.last_seen = now;
        Some(session)
    }

    fn shutdown(&mut self, id: u32, direction: Direction) {
        self.0.retain(|session| !session.receives(id, direction));
    }
}

impl Session {
    /// Whether a packet with this destination socket id, going this way, is of this session.
    fn receives(&self, id: u32, direction: Direction) -> bool {
        if self.caller == direction {
            self.listener_id == Some(id)
        } else {
            self.caller_id == id
        }
    }
}

fn clamp(latency: Duration) -> Duration {
    latency.clamp(*LATENCY.start(), *LATENCY.end())
}

fn cipher_name(handshake: &Handshake<'_>) -> &'static str {
    let Some(key_material) = handshake.key_material() else {
        return CLEAR;
    };
    match (key_material.cipher, key_material.key_length) {
        (Cipher::AesCtr, 16) => "aes-128-ctr",
        (Cipher::AesCtr, 24) => "aes-192-ctr",
        (Cipher::AesCtr, 32) => "aes-256-ctr",
        (Cipher::AesGcm, 16) => "aes-128-gcm",
        (Cipher::AesGcm, 24) => "aes-192-gcm",
        (Cipher::AesGcm, 32) => "aes-256-gcm",
        _ => UNVERIFIED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(caller_id: u32, listener_id: Option<u32>, last_seen: Timestamp) -> Session {
        Session {
            caller: Direction::Forward,
            caller_id,
            listener_id,
            stream_id: None,
            cipher: CLEAR,
            latency: None,
            last_seen,
        }
    }

    #[test]
    fn a_flood_of_handshakes_leaves_live_sessions_alone() {
        let at = |seconds: u64| Timestamp::from_nanos(seconds * 1_000_000_000);
        let mut sessions = Sessions::default();
        sessions.0.push(session(1, Some(100), at(0)));
        for id in 2..100 {
            assert!(sessions.make_room(at(1)));
            sessions.0.push(session(id, None, at(1)));
            assert!(sessions.0.len() <= MAX_SESSIONS);
        }
        assert!(
            sessions
                .of_data(100, Direction::Forward, at(2))
                .is_some_and(|found| found.caller_id == 1)
        );
        assert!(
            sessions
                .of_data(1, Direction::Reverse, at(2))
                .is_some_and(|found| found.caller_id == 1)
        );
    }

    #[test]
    fn a_table_of_live_sessions_takes_no_more_until_one_is_silent() {
        let at = |seconds: u64| Timestamp::from_nanos(seconds * 1_000_000_000);
        let mut sessions = Sessions(
            (0..8)
                .map(|id| session(id, Some(100 + id), at(u64::from(id))))
                .collect(),
        );
        assert!(!sessions.make_room(at(9)));
        assert!(sessions.make_room(at(10)));
        assert!(sessions.0.iter().all(|left| left.caller_id != 0));
    }
}
