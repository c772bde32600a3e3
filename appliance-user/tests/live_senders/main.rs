//! Live senders of other makers over links that lose, reorder and delay: ffmpeg, GStreamer, srt-live-transmit and ristsender,
//! as RTP, SRT and RIST. Nothing is charged to a source that is sound, what is lost is what the link dropped for good, and
//! what the network broke is what the `dvb-conformance` crate finds broken in the datagrams in the order of their numbers.
#![cfg(feature = "appliance")]

#[path = "../inspect_support/mod.rs"]
mod inspect_support;
#[path = "../lossy_lab/mod.rs"]
mod lossy_lab;

mod programs;
mod session;
mod truth;

use std::time::Duration;

use lossy_lab::link::Harm;
use session::{Session, run_all};

/// One way of a round trip of 100 ms.
const FAR: Duration = Duration::from_millis(50);

const fn harm(lost: u64, overtaken: u64, delay: Duration) -> Harm {
    Harm { lost, overtaken, delay }
}

/// A link that harms nothing, two that lose 1% and 5%, one that reorders 5%.
const NEAR_LINKS: &[Harm] = &[
    harm(0, 0, Duration::ZERO),
    harm(10, 0, Duration::ZERO),
    harm(50, 0, Duration::ZERO),
    harm(0, 50, Duration::ZERO),
];

/// The same, and 100 ms there and back with 1% and with 5% of both harms.
const NEAR_AND_FAR_LINKS: &[Harm] = &[
    NEAR_LINKS[0],
    NEAR_LINKS[1],
    NEAR_LINKS[2],
    NEAR_LINKS[3],
    harm(10, 0, FAR),
    harm(50, 50, FAR),
];

#[test]
fn rtp_by_ffmpeg() {
    check(&run_all("rtp-ff", programs::rtp_by_ffmpeg, NEAR_LINKS));
}

#[test]
fn rtp_by_gstreamer() {
    check(&run_all("rtp-gst", programs::rtp_by_gstreamer, NEAR_LINKS));
}

#[test]
fn srt_by_ffmpeg() {
    check(&run_all("srt-ff", programs::srt_by_ffmpeg, NEAR_AND_FAR_LINKS));
}

#[test]
fn srt_by_srt_live_transmit() {
    check(&run_all(
        "srt-slt",
        programs::srt_by_srt_live_transmit,
        NEAR_AND_FAR_LINKS,
    ));
}

#[test]
fn srt_by_gstreamer() {
    check(&run_all("srt-gst", programs::srt_by_gstreamer, NEAR_AND_FAR_LINKS));
}

#[test]
fn rist_by_ffmpeg() {
    check(&run_all("rist-ff", programs::rist_by_ffmpeg, NEAR_LINKS));
}

#[test]
fn rist_by_ristsender() {
    check(&run_all("rist-own", programs::rist_by_ristsender, NEAR_LINKS));
}

#[test]
fn rist_by_gstreamer() {
    check(&run_all("rist-gst", programs::rist_by_gstreamer, NEAR_LINKS));
}

fn check(sessions: &[Session]) {
    for session in sessions {
        session.check();
    }
    // The last one that loses is the harshest.
    let harshest = sessions.iter().rfind(|session| session.is_lossy());
    harshest.expect("a lossy link").check_with_tshark();
}
