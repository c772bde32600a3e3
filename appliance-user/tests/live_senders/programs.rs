//! The senders and receivers, each as it is called by people who use it.

use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use tempfile::TempDir;
use tidegate_lab::{Process, wait_until};

use crate::lossy_lab::link::Numbered;
use crate::lossy_lab::relay::{self, Running};
use crate::lossy_lab::{Lab, PATIENCE};
use crate::truth;

/// How long each stream is.
const SECONDS: u32 = 5;
/// SRT's latency: many round trips of the longest link.
const SRT_LATENCY_MS: u32 = 1500;
/// RIST's buffer: below the second for which the judge waits.
const RIST_BUFFER_MS: &str = "500";

/// The ports of one session; the two behind `near` and `far` are free for RTCP.
#[derive(Clone, Copy)]
pub(crate) struct Ports {
    /// To which the sender sends.
    pub(crate) near: u16,
    /// At which the receiver listens.
    pub(crate) far: u16,
    /// At which a sender gets its stream from another program.
    feed: u16,
    /// To which a receiver writes what it has received.
    sink: u16,
}

impl Ports {
    pub(crate) fn of_session(number: u16) -> Self {
        let first = 20_000 + 10 * number;
        Ports {
            near: first,
            far: first + 2,
            feed: first + 4,
            sink: first + 5,
        }
    }
}

/// Starts a program in a lab.
type Start = Box<dyn FnOnce(&Lab) -> Process + Send>;

/// Everything about a sender and its receiver that a session needs.
pub(crate) struct Pair {
    pub(crate) protocol: &'static str,
    /// How many ports from the first one on are used.
    pub(crate) lanes: u16,
    pub(crate) wire: truth::Wire,
    pub(crate) numbered: Numbered,
    pub(crate) receiver: Receiver,
    /// The program that ends with the stream.
    pub(crate) source: Start,
    /// One between the source and the link, which goes on.
    pub(crate) sender: Option<Start>,
}

/// What runs at the far end.
#[expect(dead_code, reason = "they end when they are dropped")]
pub(crate) enum Receiver {
    Sink(Running<()>),
    Program(Process),
    ProgramAndSink(Process, Running<()>),
}

/// MPEG-2 video and audio at a constant 3 Mb/s, made once.
fn media() -> &'static str {
    static MEDIA: OnceLock<(TempDir, String)> = OnceLock::new();
    let (_, path) = MEDIA.get_or_init(|| {
        let directory = TempDir::new().expect("a directory");
        let path = directory.path().join("media.ts").display().to_string();
        let video = "testsrc2=size=320x240:rate=25";
        let audio = "sine=frequency=440:sample_rate=48000";
        let encode = "-c:v mpeg2video -b:v 2M -maxrate 2M -bufsize 500k -g 12 -c:a mp2 -b:a 128k -muxrate 3M -f mpegts";
        let made = Command::new("ffmpeg")
            .args([
                "-nostdin", "-v", "error", "-f", "lavfi", "-i", video, "-f", "lavfi", "-i", audio,
            ])
            .args(["-t", &SECONDS.to_string()])
            .args(encode.split(' '))
            .arg(&path)
            .output()
            .expect("ffmpeg is needed by this test");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        (directory, path)
    });
    path
}

/// ffmpeg sends the media at its own pace.
fn ffmpeg(lab: &Lab, options: &[&str]) -> Process {
    let mut arguments = vec![
        "-nostdin",
        "-v",
        "error",
        "-re",
        "-i",
        media(),
        "-map",
        "0",
        "-c",
        "copy",
        "-muxrate",
        "3M",
    ];
    arguments.extend_from_slice(options);
    lab.start("ffmpeg", &arguments)
}

/// GStreamer encodes a picture and sends it: H.264 in a transport stream of 2.5 Mb/s, seven packets at a time.
fn gstreamer(lab: &Lab, then: &str) -> Process {
    let pictures = SECONDS * 25;
    let pipeline = format!(
        "-q videotestsrc is-live=true num-buffers={pictures} ! video/x-raw,format=I420,width=352,height=288,framerate=25/1 ! \
         openh264enc bitrate=2000000 ! h264parse ! mpegtsmux alignment=7 bitrate=2500000 ! {then}"
    );
    lab.start("gst-launch-1.0", &pipeline.split_whitespace().collect::<Vec<_>>())
}

fn listens(lab: &Lab, port: u16) {
    wait_until("a receiver", PATIENCE, || lab.is_bound(port)).expect("it listens");
}

fn rtp(lab: &Lab, ports: Ports, source: impl FnOnce(&Lab) -> Process + Send + 'static) -> Pair {
    Pair {
        protocol: "rtp",
        lanes: 1,
        wire: truth::RTP,
        numbered: truth::rtp_number,
        receiver: Receiver::Sink(relay::sink(relay::socket(&lab.namespace, ports.far))),
        source: Box::new(source),
        sender: None,
    }
}

pub(crate) fn rtp_by_ffmpeg(lab: &Lab, ports: Ports) -> Pair {
    let url = format!("rtp://127.0.0.1:{}?pkt_size=1328", ports.near);
    rtp(lab, ports, move |lab| ffmpeg(lab, &["-f", "rtp_mpegts", &url]))
}

pub(crate) fn rtp_by_gstreamer(lab: &Lab, ports: Ports) -> Pair {
    let then = format!("rtpmp2tpay ! udpsink host=127.0.0.1 port={}", ports.near);
    rtp(lab, ports, move |lab| gstreamer(lab, &then))
}

fn srt(lab: &Lab, ports: Ports, source: impl FnOnce(&Lab) -> Process + Send + 'static) -> Pair {
    let url = format!("srt://127.0.0.1:{}?mode=listener&latency={SRT_LATENCY_MS}", ports.far);
    let receiver = lab.start("srt-live-transmit", &["-a:no", "-q", &url, "file://con"]);
    listens(lab, ports.far);
    Pair {
        protocol: "srt",
        lanes: 1,
        wire: truth::SRT,
        numbered: relay::data_number,
        receiver: Receiver::Program(receiver),
        source: Box::new(source),
        sender: None,
    }
}

pub(crate) fn srt_by_ffmpeg(lab: &Lab, ports: Ports) -> Pair {
    // ffmpeg counts in microseconds.
    let latency = u64::from(SRT_LATENCY_MS) * 1000;
    let url = format!(
        "srt://127.0.0.1:{}?mode=caller&latency={latency}&pkt_size=1316",
        ports.near
    );
    srt(lab, ports, move |lab| ffmpeg(lab, &["-f", "mpegts", &url]))
}

pub(crate) fn srt_by_srt_live_transmit(lab: &Lab, ports: Ports) -> Pair {
    let url = format!("srt://127.0.0.1:{}?mode=caller&latency={SRT_LATENCY_MS}", ports.near);
    srt(lab, ports, move |lab| {
        // A pipe loses nothing, however busy the machine is. srt-live-transmit sends what one read brings, so whole
        // datagrams are written; and it does not end with its input.
        let line = format!(
            "(ffmpeg -nostdin -v error -re -i '{}' -map 0 -c copy -muxrate 3M -f mpegts pipe:1 | \
             dd bs=1316 iflag=fullblock status=none; sleep 1; kill 0) | \
             srt-live-transmit -a:no -q -chunk:1316 file://con '{url}'",
            media()
        );
        lab.start("sh", &["-c", &line])
    })
}

pub(crate) fn srt_by_gstreamer(lab: &Lab, ports: Ports) -> Pair {
    let then = format!(
        "srtsink uri=srt://127.0.0.1:{}?mode=caller latency={SRT_LATENCY_MS}",
        ports.near
    );
    srt(lab, ports, move |lab| gstreamer(lab, &then))
}

fn rist(ports: Ports, receiver: Receiver, source: impl FnOnce(&Lab) -> Process + Send + 'static) -> Pair {
    debug_assert!(ports.near.is_multiple_of(2), "RTCP has the odd port");
    Pair {
        protocol: "rist",
        lanes: 2,
        wire: truth::RIST,
        numbered: truth::rtp_number,
        receiver,
        source: Box::new(source),
        sender: None,
    }
}

fn ristreceiver(lab: &Lab, ports: Ports) -> Receiver {
    let input = format!("rist://@127.0.0.1:{}", ports.far);
    let output = format!("udp://127.0.0.1:{}", ports.sink);
    let sink = relay::sink(relay::socket(&lab.namespace, ports.sink));
    let arguments = ["-p", "0", "-b", RIST_BUFFER_MS, "-i", &input, "-o", &output];
    let program = lab.start("ristreceiver", &arguments);
    listens(lab, ports.far + 1);
    Receiver::ProgramAndSink(program, sink)
}

pub(crate) fn rist_by_ffmpeg(lab: &Lab, ports: Ports) -> Pair {
    let url = format!("rist://127.0.0.1:{}", ports.near);
    rist(ports, ristreceiver(lab, ports), move |lab| {
        ffmpeg(
            lab,
            &["-f", "mpegts", "-rist_profile", "simple", "-pkt_size", "1316", &url],
        )
    })
}

pub(crate) fn rist_by_ristsender(lab: &Lab, ports: Ports) -> Pair {
    let feed = format!("udp://127.0.0.1:{}?pkt_size=1316", ports.feed);
    let mut pair = rist(ports, ristreceiver(lab, ports), move |lab| {
        ffmpeg(lab, &["-f", "mpegts", &feed])
    });
    pair.sender = Some(Box::new(move |lab| {
        let input = format!("udp://@127.0.0.1:{}", ports.feed);
        let output = format!("rist://127.0.0.1:{}", ports.near);
        let sender = lab.start(
            "ristsender",
            &["-p", "0", "-b", RIST_BUFFER_MS, "-i", &input, "-o", &output],
        );
        listens(lab, ports.feed);
        sender
    }));
    pair
}

/// With GStreamer's own receiver: librist's answers under the sender's SSRC, which GStreamer takes for a collision.
pub(crate) fn rist_by_gstreamer(lab: &Lab, ports: Ports) -> Pair {
    let receiver = format!(
        "-q ristsrc address=127.0.0.1 port={} receiver-buffer={RIST_BUFFER_MS} ! rtpmp2tdepay ! fakesink",
        ports.far
    );
    let receiver = lab.start("gst-launch-1.0", &receiver.split_whitespace().collect::<Vec<_>>());
    listens(lab, ports.far + 1);
    let then = format!("rtpmp2tpay ! ristsink address=127.0.0.1 port={}", ports.near);
    // It does not end with its stream.
    let mut pair = rist(ports, Receiver::Program(receiver), |lab| {
        lab.start("sleep", &[&(SECONDS + 1).to_string()])
    });
    pair.sender = Some(Box::new(move |lab| gstreamer(lab, &then)));
    pair
}

/// How long a sender may take for its stream.
pub(crate) const STREAM_LIMIT: Duration = Duration::from_secs(SECONDS as u64 + 15);
