//! What the transport says: datagrams and their order, RTP and its companions, SRT, RTMP.

use std::io::{self, Write};

use super::{line, plural, tally};
use crate::engine::report::{
    KeyState, PartyReport, RtcpReport, RtmpReport, RtpReport, SrtReport, StreamProtocol, StreamReport,
};

pub(super) fn write(out: &mut impl Write, stream: &StreamReport) -> io::Result<()> {
    if stream.identity.protocol != StreamProtocol::File {
        line(out, "packets", &packets(stream))?;
    }
    if let Some(rtp) = &stream.rtp {
        write_rtp(out, rtp)?;
    }
    if let Some(srt) = &stream.srt {
        write_srt(out, srt)?;
    }
    if let Some(rtmp) = &stream.rtmp {
        line(out, "rtmp", &rtmp_line(rtmp))?;
    }
    Ok(())
}

fn packets(stream: &StreamReport) -> String {
    let t = &stream.transport;
    let mut parts = vec![stream.packets.to_string(), format!("{} bytes", stream.bytes)];
    for (count, what) in [
        (t.reordered, "reordered"),
        (t.duplicated, "duplicated"),
        (t.retransmitted, "retransmitted"),
        (t.late, "late"),
    ] {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    }
    tally(&mut parts, t.resets, "reset");
    parts.join(", ")
}

fn write_rtp(out: &mut impl Write, rtp: &RtpReport) -> io::Result<()> {
    let mut parts = Vec::new();
    if let Some(jitter) = rtp.jitter_ms {
        parts.push(format!("jitter {jitter:.3} ms"));
    }
    if !rtp.payload_types.is_empty() {
        let types: Vec<String> = rtp.payload_types.iter().map(u8::to_string).collect();
        parts.push(format!("payload type {}", types.join(" ")));
    }
    tally(&mut parts, rtp.timestamp_jumps, "time stamp jump");
    line(out, "rtp", &parts.join(", "))?;
    if let Some(rtcp) = &rtp.rtcp {
        line(out, "rtcp", &rtcp_line(rtcp))?;
    }
    if let Some(fec) = rtp.fec {
        let mut parts = Vec::new();
        tally(&mut parts, fec.columns, "column packet");
        tally(&mut parts, fec.rows, "row packet");
        if fec.width > 0 {
            parts.push(format!("matrix {} x {}", fec.width, fec.depth));
        }
        if fec.malformed > 0 {
            parts.push(format!("{} malformed", fec.malformed));
        }
        line(out, "fec", &parts.join(", "))?;
    }
    if let Some(pair) = rtp.seamless {
        let [first, second] = pair.path_lost;
        let skew = match pair.skew_ms {
            Some(skew) if skew < 0.0 => format!("; the second is {:.1} ms earlier", -skew),
            Some(skew) => format!("; the second is {skew:.1} ms later"),
            None => String::new(),
        };
        let lost = format!(
            "lost on the first {first}, on the second {second}, on both {}",
            pair.lost
        );
        line(out, "paths", &(lost + &skew))?;
    }
    if rtp.partial {
        line(out, "partial", "a companion was not seen here, or not in full")?;
    }
    Ok(())
}

fn rtcp_line(rtcp: &RtcpReport) -> String {
    let mut parts = Vec::new();
    if rtcp.sender_reports > 0 {
        let (sent, missing) = (rtcp.sent_packets, rtcp.missing);
        let reports = plural(rtcp.sender_reports, "sender report");
        parts.push(format!("{reports} ({missing} of {sent} packets missing)"));
    }
    tally(&mut parts, rtcp.receiver_reports, "receiver report");
    if let Some(percent) = rtcp.fraction_lost_percent {
        parts.push(format!("receiver lost {percent:.1}%"));
    }
    if let Some(round_trip) = rtcp.round_trip_ms {
        parts.push(format!("round trip {round_trip:.1} ms"));
    }
    if rtcp.nacks > 0 {
        parts.push(format!(
            "{} for {}",
            plural(rtcp.nacks, "NACK"),
            plural(rtcp.nacked_packets, "packet")
        ));
    }
    tally(&mut parts, rtcp.byes, "BYE");
    if rtcp.malformed > 0 {
        parts.push(format!("{} malformed", rtcp.malformed));
    }
    if let Some(name) = &rtcp.cname {
        parts.push(format!("from {name:?}"));
    }
    parts.join(", ")
}

fn write_srt(out: &mut impl Write, srt: &SrtReport) -> io::Result<()> {
    let mut parts = Vec::new();
    if let Some(handshake) = &srt.handshake {
        parts.push(format!("handshake v{}", handshake.version));
        parts.push(handshake.mode.to_owned());
        let [caller, listener] = [&handshake.caller, &handshake.listener].map(Option::as_ref);
        if let (Some(caller), Some(listener)) = (caller, listener) {
            parts.push(format!("{} to {}", caller.version, listener.version));
        }
        if let Some(latency) = [caller, listener].into_iter().flatten().map(latency).max() {
            parts.push(format!("latency {latency} ms"));
        }
    } else {
        parts.push("handshake not seen".to_owned());
    }
    if let Some(rtt) = srt.rtt_us {
        parts.push(format!("RTT {:.1} ms", rtt as f64 / 1e3));
    }
    parts.push(if srt.verified { "verified" } else { "unverified" }.to_owned());
    line(out, "srt", &parts.join(", "))?;
    let mut parts = Vec::new();
    match srt.keys {
        KeyState::None | KeyState::Known => {}
        KeyState::Missing => parts.push("no key yet".to_owned()),
        KeyState::WrongPassphrase => parts.push("the rule's passphrase is not the session's".to_owned()),
    }
    if srt.key_refreshes > 0 {
        parts.push(format!(
            "{} key refresh{}",
            srt.key_refreshes,
            if srt.key_refreshes == 1 { "" } else { "es" }
        ));
    }
    if srt.undeciphered > 0 {
        parts.push(format!("{} not deciphered", plural(srt.undeciphered, "packet")));
    }
    line(out, "keys", &parts.join(", "))?;
    let mut parts = Vec::new();
    if srt.naks > 0 {
        parts.push(format!(
            "{} for {}",
            plural(srt.naks, "NAK"),
            plural(srt.nak_packets, "packet")
        ));
    }
    if srt.retransmission_percent > 0.0 {
        parts.push(format!("{:.3}% retransmitted", srt.retransmission_percent));
    }
    if srt.dropped_by_sender > 0 {
        parts.push(format!("{} given up by the sender", srt.dropped_by_sender));
    }
    tally(&mut parts, srt.congestion_warnings, "congestion warning");
    tally(&mut parts, srt.misfits, "report that fits no session");
    line(out, "repair", &parts.join(", "))?;
    if let Some(id) = &srt.stream_id {
        let pairs: Vec<String> = id.iter().map(|(key, value)| format!("{key}={value:?}")).collect();
        line(out, "stream id", &pairs.join(" "))?;
    }
    Ok(())
}

/// The longest delay that a party speaks of: each applies the larger of its own and the one that its peer wants.
fn latency(party: &PartyReport) -> u64 {
    party.receiver_delay_ms.max(party.sender_delay_ms)
}

fn rtmp_line(rtmp: &RtmpReport) -> String {
    let mut parts = Vec::new();
    if let Some(application) = &rtmp.application {
        parts.push(format!("application {application:?}"));
    }
    parts.extend(rtmp.purpose.map(str::to_owned));
    if let Some(pattern) = rtmp.key_pattern {
        parts.push(format!("stream key {pattern} of the rule"));
    }
    match rtmp.refused {
        Some(reason) => parts.push(format!("refused: {reason}")),
        None if rtmp.verified => parts.push("verified".to_owned()),
        None => parts.push("not verified".to_owned()),
    }
    if let Some(client) = &rtmp.client {
        parts.push(format!("client {client:?}"));
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_rtmp_client_calls_itself_cannot_write_to_the_terminal() {
        let report = RtmpReport {
            application: Some("live\x1b[2J".into()),
            client: Some("FMLE/3.0".into()),
            purpose: Some("publish"),
            publish_type: Some("live"),
            key_pattern: Some(2),
            verified: true,
            refused: None,
        };
        assert_eq!(
            rtmp_line(&report),
            r#"application "live\u{1b}[2J", publish, stream key 2 of the rule, verified, client "FMLE/3.0""#
        );
        let refused = RtmpReport {
            verified: false,
            key_pattern: None,
            refused: Some("rtmp-application"),
            ..report
        };
        assert!(rtmp_line(&refused).contains("publish, refused: rtmp-application"));
    }
}
