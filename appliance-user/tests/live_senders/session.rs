//! One sender, one link, one receiver, and the comparison of the report with the link's account.

use std::collections::BTreeMap;
use std::panic;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::inspect_support::{Told, inspect_by, number, put};
use crate::lossy_lab::link::{Harm, Ledger, Link};
use crate::lossy_lab::{Lab, continuity_errors, tshark, tshark_rtp_lost};
use crate::programs::{Pair, Ports, STREAM_LIMIT};
use crate::truth::Truth;

/// After the sender's end: receivers ask no more for what they lack.
const TAIL: Duration = Duration::from_millis(700);

/// A session that is over.
pub(crate) struct Session {
    name: String,
    harm: Harm,
    protocol: &'static str,
    ledger: Ledger,
    truth: Truth,
    told: Told,
    /// The receiver's port and the capture of what went there and back.
    port: u16,
    capture: PathBuf,
    #[expect(dead_code, reason = "the capture lies in its directory")]
    lab: Arc<Lab>,
}

/// Runs a session over each link, all at once: they are live, and mostly wait.
pub(crate) fn run_all(role: &str, pair: fn(&Lab, Ports) -> Pair, links: &[Harm]) -> Vec<Session> {
    let lab = &Arc::new(Lab::new(role));
    thread::scope(|scope| {
        let running: Vec<_> = (0..)
            .zip(links)
            .map(|(place, harm)| scope.spawn(move || run(lab, role, place, *harm, pair)))
            .collect();
        let ended = running.into_iter().map(thread::ScopedJoinHandle::join);
        ended
            .map(|session| session.unwrap_or_else(|panic| panic::resume_unwind(panic)))
            .collect()
    })
}

fn run(lab: &Arc<Lab>, role: &str, place: u16, harm: Harm, pair: fn(&Lab, Ports) -> Pair) -> Session {
    let ports = Ports::of_session(place);
    let pair = pair(lab, ports);
    let lanes: Vec<(u16, u16)> = (0..pair.lanes)
        .map(|lane| (ports.near + lane, ports.far + lane))
        .collect();
    let link = Link::start(
        &lab.namespace,
        &lanes,
        harm,
        pair.numbered,
        20_240_607 + u64::from(place),
    );
    let sender = pair.sender.map(|start| start(lab));
    let mut source = (pair.source)(lab);
    source
        .wait(STREAM_LIMIT)
        .unwrap_or_else(|e| panic!("{e}: {}", source.log()));
    thread::sleep(TAIL);
    drop(sender);
    drop(pair.receiver);
    let ledger = link.finish();
    let truth = Truth::new(pair.wire, pair.numbered, &ledger.media().collect::<Vec<_>>());
    let name = format!("{role}-{place}");
    let capture = put(&lab.path(""), &format!("{name}.pcap"), &ledger.capture());
    let told = judge(&lab.path(""), &name, pair.protocol, ports.far, &capture);
    Session {
        name,
        harm,
        protocol: pair.protocol,
        ledger,
        truth,
        told,
        port: ports.far,
        capture,
        lab: Arc::clone(lab),
    }
}

/// Under a rule for the stream and nothing else. RTP's window is made longer than any pause of a busy machine.
fn judge(directory: &Path, name: &str, protocol: &str, port: u16, capture: &Path) -> Told {
    let window = if protocol == "rtp" {
        "reorder_window = \"2s\"\n"
    } else {
        ""
    };
    let policy = format!(
        "version = 1\ndefault_action = \"drop\"\n[[rule]]\nname = \"live\"\nprotocol = \"{protocol}\"\n\
         source = [\"127.0.0.1\"]\ndestination_port = [{port}]\n{window}"
    );
    inspect_by(&put(directory, &format!("{name}.toml"), policy.as_bytes()), capture)
}

impl Session {
    /// Compares the report with the truth.
    pub(crate) fn check(&self) {
        let Session {
            name,
            harm,
            truth,
            told,
            ..
        } = self;
        let network = continuity_errors(&truth.delivered);
        println!(
            "{name} ({harm:?}): {} delivered, {} lost, {} reordered, {} sent again, {network} continuity errors",
            truth.packets, truth.lost, truth.reordered, truth.retransmitted
        );
        assert_eq!(
            continuity_errors(&truth.sent),
            0,
            "{name}: the sender made a sound stream"
        );
        self.check_premises();

        let report = told.report();
        assert_eq!(
            number(&report, "/packets/seen"),
            self.ledger.delivered() as u64,
            "{name}"
        );
        assert_eq!(report["drop_reasons"], json!({}), "{name}: {report:#}");
        let stream = self.stream(&report);
        let figures = ["lost", "reordered", "duplicated", "retransmitted", "late", "resets"]
            .map(|figure| number(stream, &format!("/transport/{figure}")));
        let counted = [truth.lost, truth.reordered, truth.duplicated, truth.retransmitted, 0, 0];
        assert_eq!(figures, counted, "{name}: {stream:#}");
        assert_eq!(number(stream, "/packets"), truth.packets, "{name}");
        assert_eq!(
            number(stream, "/ts/packets"),
            truth.delivered.len() as u64 / 188,
            "{name}"
        );
        let errors = json!({"source": 0, "network": network, "unknown": 0});
        assert_eq!(stream["ts"]["continuity_errors"], errors, "{name}");
        for finding in ["sequence-conflict", "out-of-window", "ssrc-conflict"] {
            assert!(stream["findings"].get(finding).is_none(), "{name}: {stream:#}");
        }
        if truth.lost > 0 {
            assert_eq!(told.code, Some(1), "{name}: loss is a finding");
        }
    }

    pub(crate) fn is_lossy(&self) -> bool {
        self.harm.lost > 0
    }

    /// The link did what it was made for, and the sender repeated what was lost where its protocol can.
    fn check_premises(&self) {
        let (name, truth) = (&self.name, &self.truth);
        assert!(truth.packets > 500, "{name}: {} packets", truth.packets);
        assert_eq!(truth.lost > 0, self.harm.lost > 0, "{name}: {} lost", truth.lost);
        if self.harm.overtaken > 0 {
            assert!(truth.reordered > 5, "{name}: {} reordered", truth.reordered);
        }
        if self.harm.lost > 0 && self.protocol != "rtp" {
            assert!(truth.retransmitted > 5, "{name}: {} sent again", truth.retransmitted);
        }
    }

    /// The one stream of the rule's protocol.
    fn stream<'r>(&self, report: &'r Value) -> &'r Value {
        let streams = report["streams"].as_array().expect("an array");
        let mut media = streams.iter().filter(|stream| stream["protocol"] == self.protocol);
        let stream = media.next().unwrap_or_else(|| panic!("{}: {report:#}", self.name));
        assert!(media.next().is_none(), "{}: {report:#}", self.name);
        stream
    }

    /// Compares the report with what tshark finds in the capture.
    pub(crate) fn check_with_tshark(&self) {
        let report = self.told.report();
        let stream = self.stream(&report);
        if self.protocol == "rtp" {
            let lost = tshark_rtp_lost(&self.capture, self.port);
            assert_eq!(lost, number(stream, "/transport/lost") as i64, "{}", self.name);
        }
        if self.protocol == "srt" {
            self.check_srt_with_tshark(stream);
        }
    }

    fn check_srt_with_tshark(&self, stream: &Value) {
        let file = self.capture.display().to_string();
        let decode = format!("udp.port=={},srt", self.port);
        let fields = ["-e", "srt.iscontrol", "-e", "srt.type", "-e", "srt.msg.rexmit"];
        let arguments = [&["-r", &file, "-d", &decode, "-Y", "srt", "-T", "fields"][..], &fields].concat();
        // A line for each packet: whether it is control, its type if so, whether it is sent again if not.
        let mut seen = BTreeMap::<String, u64>::new();
        for line in tshark(&arguments).lines() {
            *seen.entry(line.to_owned()).or_default() += 1;
        }
        let count = |line: &str| seen.get(line).copied().unwrap_or_default();
        let figure = |name: &str| number(stream, &format!("/srt/{name}"));
        let told = [
            number(stream, "/transport/retransmitted"),
            figure("acks") + figure("light_acks"),
            figure("naks"),
            figure("shutdowns"),
            figure("ackacks"),
            figure("drop_requests"),
        ];
        let by_tshark = [
            count("0\t\t1"),
            count("1\t0x0002\t"),
            count("1\t0x0003\t"),
            count("1\t0x0005\t"),
            count("1\t0x0006\t"),
            count("1\t0x0007\t"),
        ];
        assert_eq!(told, by_tshark, "{}: {seen:?} {stream:#}", self.name);
        assert!(by_tshark[..3].iter().all(|count| *count > 5), "{seen:?}");
        // Twice the delay at least, as the receiver measures it.
        let round_trip = 2 * self.harm.delay.as_micros() as u64;
        assert!(figure("rtt_us") >= round_trip, "{}: {stream:#}", self.name);
    }
}
