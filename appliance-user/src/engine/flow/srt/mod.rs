//! SRT (draft-sharabayko-srt): sessions by their handshakes, data by destination socket id, keys where the rule has the
//! passphrase.
//!
//! The engine only listens. It never forges an answer: a handshake that the rule does not admit is dropped, and the caller
//! times out. Whatever does not fit an established session changes nothing, for anyone may send it.

mod figures;
mod keys;
mod refusals;
mod session;
mod sessions;
#[cfg(test)]
mod tests;

use tidegate_common::drop_reason::DropReason;
use tidegate_common::flow::Direction;

pub(in crate::engine) use self::figures::SrtFigures;
use self::figures::Tick;
pub use self::figures::{GroupReport, HandshakeReport, KeyState, PartyReport, SrtReport};
pub(in crate::engine) use self::keys::Decryption;
use self::keys::{Deciphered, Unlocked};
use self::session::{CLEAR, Session, TELL_EVERY, UNVERIFIED};
pub(in crate::engine) use self::sessions::Sessions;
use self::sessions::{Refused, Way, admit_key};
use super::{Context, Datagram, Flow, Speaks};
use crate::engine::event::StreamChange;
use crate::engine::judge::Packet as Media;
use crate::engine::media::mpegts;
use crate::engine::media::srt::{self, Control, ControlType, KeyMaterial, Packet};
use crate::engine::report::{StreamIdentity, StreamProtocol};
use crate::engine::stream::{Finding, Stream, rule_name};
use crate::policy::rule::{Encryption, OnUnverified, SrtRule};

/// What tells the copies of a sequence number that were encrypted with the even key from those with the odd one; multiplied
/// by the flag. A sender repeats a packet as it first sent it, key and all.
const KEY_FLAG_HASH: u32 = 0x9e37_79b9;

/// What is to be done with a data packet, by what of it can be seen.
enum Seen {
    /// The payload as it is.
    Plain,
    /// The engine's scratch buffer has the cleartext.
    Deciphered,
    /// It cannot be read.
    Hidden,
    /// Its sender did not send it so: its receiver throws it away, and it is not judged.
    Forged(Finding),
}

impl Flow {
    /// A packet of a flow that carries SRT, either way.
    pub(super) fn srt(&mut self, datagram: &Datagram<'_>, context: &mut Context<'_>) -> Result<(), DropReason> {
        match Packet::parse(datagram.payload).map_err(|_| DropReason::NotSrt)? {
            Packet::Data(data) => self.srt_data(&data, datagram, context),
            Packet::Control(control) if control.handshake().is_some() => {
                self.srt_handshake(&control, datagram, context)
            }
            Packet::Control(control) => self.srt_control(&control, datagram, context),
        }
    }

    fn srt_handshake(
        &mut self,
        control: &Control<'_>,
        datagram: &Datagram<'_>,
        context: &mut Context<'_>,
    ) -> Result<(), DropReason> {
        let (Speaks::Srt(sessions), Some(message)) = (&mut self.speaks, control.handshake()) else {
            return Ok(());
        };
        let way = Way {
            destination: control.destination_socket_id(),
            direction: datagram.direction,
            now: context.now,
        };
        let refused = sessions.handshake(message, way, context.rule);
        sessions.pay(context.allowance);
        if let Some(refused) = refused? {
            let (told, count) = &mut sessions.rejections;
            if told.is_none_or(|told| context.now.since(told) >= TELL_EVERY) {
                *told = Some(context.now);
                tell_refused(refused, *count, datagram, context);
            }
        }
        Ok(())
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
        let (id, direction) = (data.destination_socket_id(), datagram.direction);
        let place = sessions.of_data(id, direction, context.now);
        if place.is_none() {
            sessions.admit_data(id, data.sequence_number(), direction, context.now)?;
        }
        let verified = place
            .and_then(|place| sessions.get_mut(place))
            .is_some_and(|session| session.is_verified(context.now));
        let admitted = admit_data(data, verified, &context.rule.srt);
        if context.rule.enforce {
            admitted?;
        }
        let filters = place
            .and_then(|place| sessions.get_mut(place))
            .is_some_and(|s| s.filters);
        if filters && data.is_filter_control() {
            return admitted.and(self.srt_filter_control(id, direction));
        }
        let Some(at) = self.stream(StreamProtocol::Srt, direction, id, datagram, context) else {
            return admitted;
        };
        let generation = self.admission.generation;
        let (Speaks::Srt(sessions), Some(stream)) = (&mut self.speaks, self.streams.get_mut(at)) else {
            return admitted;
        };
        let place = place.or_else(|| {
            // A second packet shows that the first was no accident.
            let joins = stream.is_confirmed() && context.remembers;
            joins.then(|| sessions.join(id, direction, context.now)).flatten()
        });
        let mut session = place.and_then(|place| sessions.get_mut(place));
        describe(stream, session.as_deref_mut(), data, context);
        let seen = match session {
            Some(session) => look(data, session, (stream, direction), generation, context),
            None if data.is_encrypted() => Seen::Hidden,
            None => Seen::Plain,
        };
        if place
            .and_then(|place| sessions.get_mut(place))
            .is_some_and(|session| session.owes)
        {
            sessions.pay(context.allowance);
        }
        judge(data, seen, stream, datagram, context);
        let blocked = stream.is_blocked();
        admitted?;
        if blocked {
            Err(DropReason::StreamBlocked)
        } else {
            Ok(())
        }
    }

    /// A packet filter's own packet (FEC), which borrows the number of a media packet that it protects. Where no filter was
    /// negotiated a receiver takes such a packet for data.
    fn srt_filter_control(&mut self, id: u32, direction: Direction) -> Result<(), DropReason> {
        self.tick(direction, id, Tick::FilterPacket);
        match self.srt_stream((direction, Some(id))) {
            Some(stream) if stream.is_blocked() => Err(DropReason::StreamBlocked),
            _ => Ok(()),
        }
    }

    /// A control packet that is no handshake. One that fits no session changes nothing; a refused party's is refused.
    fn srt_control(
        &mut self,
        control: &Control<'_>,
        datagram: &Datagram<'_>,
        context: &mut Context<'_>,
    ) -> Result<(), DropReason> {
        // What shows itself as a joined session's is not refused for a handshake in its name.
        self.find_partner(control, datagram.direction);
        if let Speaks::Srt(sessions) = &mut self.speaks {
            sessions.admit_control(control.destination_socket_id(), datagram.direction, context.now)?;
        }
        let material = control.key_material();
        let admitted = material.map_or(Ok(()), |material| admit_key(material, &context.rule.srt));
        if context.rule.enforce {
            admitted?;
        }
        self.follow_control(control, datagram, context);
        admitted
    }

    /// What a control packet says of the streams of its session.
    fn follow_control(&mut self, control: &Control<'_>, datagram: &Datagram<'_>, context: &mut Context<'_>) {
        let (id, direction) = (control.destination_socket_id(), datagram.direction);
        let Speaks::Srt(sessions) = &mut self.speaks else {
            return;
        };
        let place = sessions.of_control(id, direction);
        let Some(session) = place.and_then(|place| sessions.get_mut(place)) else {
            return;
        };
        // Whom it is about: what goes the same way, to that socket, or what goes back, to its sender.
        let (onward, back) = ((direction, Some(id)), (direction.flipped(), session.id(direction)));
        match control.control_type() {
            ControlType::UserDefined(_) => {
                let request = control.control_type().is_request();
                extend(session, control, direction, request, context);
                let owes = session.owes;
                if let Some(refusal) = control.key_refusal()
                    && session.may_tell(context.now)
                {
                    let change = StreamChange::SrtKeyRefused { state: refusal.name() };
                    self.tell_of(back, change, context);
                } else if owes {
                    sessions.pay(context.allowance);
                }
            }
            ControlType::Ack => self.figures(back, |figures| {
                control
                    .acknowledgement()
                    .iter()
                    .for_each(|ack| figures.acknowledged(ack));
            }),
            ControlType::Nak => self.figures(back, |figures| {
                control.loss_report().iter().for_each(|report| figures.missed(report));
            }),
            ControlType::DropRequest => self.figures(onward, |figures| {
                control
                    .drop_request()
                    .into_iter()
                    .for_each(|request| figures.gave_up(request));
            }),
            ControlType::AckAck => self.figures(onward, |figures| figures.tick(Tick::AckAck)),
            ControlType::PeerError => self.figures(back, |figures| figures.tick(Tick::PeerError)),
            ControlType::CongestionWarning => self.figures(back, |figures| figures.tick(Tick::CongestionWarning)),
            ControlType::KeepAlive => self.both([onward, back], Tick::KeepAlive),
            ControlType::Shutdown => {
                let first = session.close() && session.may_tell(context.now);
                self.both([onward, back], Tick::Shutdown);
                if first {
                    self.tell_of(onward, StreamChange::SrtShutdown { by: "sender" }, context);
                    self.tell_of(back, StreamChange::SrtShutdown { by: "receiver" }, context);
                }
            }
            ControlType::Handshake => {}
        }
    }

    /// Joined sessions: a report that fits the data shows which socket its sender has.
    fn find_partner(&mut self, control: &Control<'_>, direction: Direction) {
        let Speaks::Srt(sessions) = &mut self.speaks else {
            return;
        };
        let Some(acknowledgement) = control.acknowledgement() else {
            return;
        };
        let fits = |receiver: &u32| {
            self.streams.iter().any(|stream| {
                stream.is_session(direction.flipped(), *receiver)
                    && stream
                        .srt
                        .as_ref()
                        .is_some_and(|srt| srt.fits_acknowledgement(&acknowledgement))
            })
        };
        let mut receivers = sessions.without_partner(direction).filter(fits);
        // Two that it may be of: it says nothing.
        let (Some(receiver), None) = (receivers.next(), receivers.next()) else {
            return;
        };
        drop(receivers);
        sessions.reported(control.destination_socket_id(), direction, receiver);
    }

    fn srt_stream(&mut self, (direction, id): (Direction, Option<u32>)) -> Option<&mut Stream> {
        let id = id?;
        self.streams.iter_mut().find(|stream| stream.is_session(direction, id))
    }

    fn figures(&mut self, whose: (Direction, Option<u32>), work: impl FnOnce(&mut SrtFigures)) {
        if let Some(figures) = self.srt_stream(whose).and_then(|stream| stream.srt.as_deref_mut()) {
            work(figures);
        }
    }

    fn tick(&mut self, direction: Direction, id: u32, tick: Tick) {
        self.figures((direction, Some(id)), |figures| figures.tick(tick));
    }

    fn both(&mut self, whose: [(Direction, Option<u32>); 2], tick: Tick) {
        whose
            .into_iter()
            .for_each(|whose| self.figures(whose, |figures| figures.tick(tick)));
    }

    fn tell_of(&mut self, whose: (Direction, Option<u32>), change: StreamChange, context: &mut Context<'_>) {
        if let Some(stream) = self.srt_stream(whose) {
            stream.tell(context.now, change, context.outbox);
        }
    }
}

/// What the rule says of a data packet.
fn admit_data(data: &srt::Data<'_>, verified: bool, rule: &SrtRule) -> Result<(), DropReason> {
    if !verified && rule.on_unverified == OnUnverified::Drop {
        return Err(DropReason::SrtUnverified);
    }
    match (rule.encryption, data.is_encrypted()) {
        (Encryption::Required, false) | (Encryption::Forbidden, true) => Err(DropReason::SrtEncryption),
        _ => Ok(()),
    }
}

/// What a stream's session says of it, where that is new.
fn describe(stream: &mut Stream, session: Option<&mut Session>, data: &srt::Data<'_>, context: &Context<'_>) {
    let fresh = stream.srt.is_none();
    let Some(session) = session else {
        if fresh {
            stream.srt = Some(Box::default());
            stream.describe_srt(if data.is_encrypted() { UNVERIFIED } else { CLEAR }, None, None);
        }
        return;
    };
    if !fresh && !session.changed {
        return;
    }
    // A session that was joined has nothing to say of a stream that its handshake has described.
    if !(session.is_joined() && !fresh && stream.encryption != UNVERIFIED) {
        let latency = session.latency.filter(|_| context.rule.reorder_window.is_none());
        stream.describe_srt(
            session.encryption(data.is_encrypted()),
            session.stream_id.clone(),
            latency,
        );
    }
    session.changed = false;
    stream.srt.get_or_insert_default().describe(session);
}

/// Deciphers a packet of a session, if it has to be and can be.
fn look(
    data: &srt::Data<'_>,
    session: &mut Session,
    (stream, direction): (&mut Stream, Direction),
    generation: u64,
    context: &mut Context<'_>,
) -> Seen {
    if stream.is_confirmed() {
        session.assume(data.destination_socket_id(), direction);
    }
    let joined = session.is_joined();
    let Some(keys) = &mut session.keys else {
        return if data.is_encrypted() { Seen::Hidden } else { Seen::Plain };
    };
    if !data.is_encrypted() {
        return if keys.authenticates(direction) {
            Seen::Forged(Finding::SrtNotAuthentic)
        } else {
            Seen::Plain
        };
    }
    if keys.waits(direction) {
        let caller = Session::caller(&session.stream_id, joined);
        let policy = (&context.rule.srt, generation);
        let unlocked = keys.unlock(direction, caller, policy, context.now, context.decryption);
        if unlocked == Unlocked::Keys {
            session.owes = true;
            session.prove(direction);
            describe(stream, Some(&mut *session), data, context);
        }
        tell_unlocked(unlocked, stream, context);
    }
    let Some(keys) = &mut session.keys else {
        return Seen::Hidden;
    };
    match keys.decipher(direction, data, &mut context.decryption.clear) {
        Deciphered::Clear => Seen::Deciphered,
        Deciphered::Hidden => Seen::Hidden,
        Deciphered::Forged => Seen::Forged(Finding::SrtNotAuthentic),
    }
}

/// Hands what is seen of a packet to the stream's judge.
fn judge(data: &srt::Data<'_>, seen: Seen, stream: &mut Stream, datagram: &Datagram<'_>, context: &mut Context<'_>) {
    let (sequence, retransmitted) = (data.sequence_number(), data.is_retransmitted());
    let clear = match seen {
        Seen::Plain => data.payload(),
        Seen::Deciphered => &context.decryption.clear,
        Seen::Hidden => &[],
        Seen::Forged(finding) => {
            stream.count(context.now, datagram.payload.len(), context.outbox);
            return stream.find(context.now, finding, context.outbox);
        }
    };
    let visible = mpegts::looks_like_ts(clear);
    // Copies are told apart by what was sent: the key may have been learnt between them.
    let sent = (!visible || data.is_encrypted()).then(|| {
        let flag = data.key_flag() as u32;
        mpegts::hash_payload(data.payload(), context.content) ^ flag.wrapping_mul(KEY_FLAG_HASH)
    });
    if let Some(figures) = stream.srt.as_deref_mut() {
        figures.data(sequence, retransmitted, data.key_flag());
        if matches!(seen, Seen::Hidden) {
            figures.tick(Tick::Undeciphered);
            if figures.keys == KeyState::None && !context.rule.srt.passphrases.is_empty() {
                figures.keys = KeyState::Missing;
            }
        }
    }
    stream.decrypted |= visible && matches!(seen, Seen::Deciphered);
    let packet = Media {
        sequence,
        retransmitted,
        payload: if visible { clear } else { &[] },
        ts: if visible { mpegts::visible(clear) } else { &[] },
        hash: sent,
        content: context.content,
    };
    stream.offer(context.now, datagram.payload.len(), &packet, context.outbox);
}

/// A control packet of an extension: the terms of version 4, new keys.
fn extend(session: &mut Session, control: &Control<'_>, direction: Direction, request: bool, context: &Context<'_>) {
    if let Some(latency) = control.latency() {
        session.negotiate(latency, request);
    }
    if let Some(material) = control.key_material().and_then(KeyMaterial::store) {
        // A response repeats what the peer sends with.
        let sends = if request { direction } else { direction.flipped() };
        session.learn(sends, material, !context.rule.srt.passphrases.is_empty());
    }
}

fn tell_unlocked(unlocked: Unlocked, stream: &mut Stream, context: &mut Context<'_>) {
    let Some(figures) = stream.srt.as_deref_mut() else {
        return;
    };
    match unlocked {
        Unlocked::Nothing => {}
        Unlocked::Keys => {
            let late = figures.undeciphered() > 0;
            figures.keys = KeyState::Known;
            if late {
                let change = StreamChange::SrtKeyLearnt {
                    encryption: stream.encryption,
                };
                stream.tell(context.now, change, context.outbox);
            }
        }
        Unlocked::WrongPassphrase => {
            figures.keys = KeyState::WrongPassphrase;
            stream.remark(context.now, Finding::SrtWrongPassphrase, context.outbox);
        }
    }
}

/// Tells that a party was refused, which is no stream yet: its addresses are those of who asked.
fn tell_refused(refused: Refused, count: u64, datagram: &Datagram<'_>, context: &mut Context<'_>) {
    let tuple = datagram.tuple();
    let identity = StreamIdentity {
        protocol: StreamProtocol::Srt,
        rule: rule_name(context.rule),
        source: Some(tuple.destination),
        destination: Some(tuple.source),
        endpoint: tuple.endpoint,
        ssrc: None,
        stream_id: refused.stream_id,
    };
    let change = StreamChange::SrtRejected {
        code: refused.code,
        reason: refused.name.unwrap_or("other"),
        count,
    };
    context.outbox.tell(context.now, &identity, change);
}
