//! Live encrypted SRT through a lossy, reordering relay and several key refreshes: what `inspect --extract` writes with the
//! passphrase is what srt-live-transmit received, byte by byte, and the reports that it counts are those that tshark sees.
#![cfg(feature = "appliance")]

mod inspect_support;
mod lossy_lab;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use inspect_support::{Told, inspect, number, put, streams, text};
use lossy_lab::{Lab, continuity_errors, relay, tshark};
use serde_json::{Value, json};
use tidegate_lab::wait_until;

const STREAM_ID: &str = "#!::r=live/demo,m=publish";
const PASSPHRASE: &str = "correct-horse-battery";
/// Packets between two keys: a session of six seconds has four refreshes and more.
const REFRESH: u32 = 300;

/// What one session has shown.
struct Session {
    lab: Lab,
    capture: PathBuf,
    received: Vec<u8>,
    lost: u64,
    /// Datagrams that full sockets lost; those of the relay's are sent again, those of the sender's source are not.
    overflows: u64,
}

fn session(role: &str, key_bytes: u32, seed: u64) -> Session {
    const SOURCE: u16 = 7000;
    const NEAR: u16 = 7001;
    const FAR: u16 = 7002;
    let lab = Lab::new(role);
    let key = format!("&passphrase={PASSPHRASE}&pbkeylen={key_bytes}");
    let refresh = format!("&kmrefreshrate={REFRESH}&kmpreannounce={}", REFRESH / 4);
    let listener = format!("srt://127.0.0.1:{FAR}?mode=listener&latency=500{key}");
    let caller = format!("srt://127.0.0.1:{NEAR}?mode=caller&latency=500&streamid={STREAM_ID}{key}{refresh}");
    let capture = lab.capture(FAR, "srt.pcap");
    let (mut receiver, received) = lab.start_reading("srt-live-transmit", &["-a:no", &listener, "file://con"]);
    let far = relay::socket(&lab.namespace, 0);
    far.connect(("127.0.0.1", FAR)).expect("loopback");
    let relay = relay::srt(relay::socket(&lab.namespace, NEAR), far, seed, &[]);
    // Ten seconds of the stream, or what the machine allows: what the sender's own socket loses while the sender waits for its
    // turn is an error of the source that nothing can repair.
    let source = format!("udp://127.0.0.1:{SOURCE}?rcvbuf=4000000");
    let mut sender = lab.start("srt-live-transmit", &["-a:no", "-q", &source, &caller]);
    wait_until("the SRT session", Duration::from_secs(10), || relay.is_connected()).expect("a session");
    // More than the second after which either side of an idle session says that it is still there.
    std::thread::sleep(Duration::from_millis(1300));
    lab.send_video("mpegts", &format!("udp://127.0.0.1:{SOURCE}?pkt_size=1316"));
    // Twice the latency: retransmissions are over and the receiver has written all.
    std::thread::sleep(Duration::from_secs(1));
    sender.stop(Duration::from_secs(3)).expect("the sender ends");
    std::thread::sleep(Duration::from_millis(300));
    receiver.stop(Duration::from_secs(3)).expect("the receiver ends");
    let capture = lab.end_capture(capture);
    let lost = relay.finish().lost;
    let overflows = lab.namespace.udp_overflows().expect("counted");
    let received = received
        .join()
        .expect("a pipe")
        .unwrap_or_else(|e| panic!("{e}: {} {}", sender.log(), receiver.log()));
    Session {
        lab,
        capture,
        received,
        lost,
        overflows,
    }
}

impl Session {
    /// A policy whose rule has this passphrase for the session's stream id.
    fn policy(&self, passphrase: &str) -> PathBuf {
        let secret = put(&self.lab.path(""), "passphrase", passphrase.as_bytes());
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).expect("a file of our own");
        let rule = format!(
            "version = 1\ndefault_action = \"drop\"\n[[rule]]\nname = \"studio\"\nprotocol = \"srt\"\n\
             source = [\"127.0.0.1\"]\ndestination_port = [7002]\n[rule.srt]\nencryption = \"required\"\n\
             passphrase_file = {{ \"#!::r=live/*\" = \"{}\" }}\n",
            secret.display()
        );
        put(&self.lab.path(""), "policy.toml", rule.as_bytes())
    }

    /// What inspect says of the capture, and the media that it extracts.
    fn extracted(&self, passphrase: &str, folder: &str) -> (Told, Vec<Vec<u8>>) {
        let folder = self.lab.path(folder);
        let told = inspect([
            "--format".as_ref(),
            "json".as_ref(),
            "--policy".as_ref(),
            self.policy(passphrase).as_os_str(),
            "--extract".as_ref(),
            folder.as_os_str(),
            self.capture.as_os_str(),
        ]);
        (told, media(&folder))
    }

    /// One line for each packet that the filter takes, with this field.
    fn in_tshark(&self, filter: &str, field: &str) -> Vec<String> {
        let file = self.capture.display().to_string();
        let arguments = [
            "-r",
            &file,
            "-d",
            "udp.port==7002,srt",
            "-Y",
            filter,
            "-T",
            "fields",
            "-e",
            field,
        ];
        tshark(&arguments).lines().map(str::to_owned).collect()
    }
}

/// The transport streams in a folder of evidence.
fn media(folder: &Path) -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir(folder).expect("a folder of evidence");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "ts"))
        .map(|path| std::fs::read(path).expect("what was extracted"))
        .collect()
}

fn deciphered(role: &str, key_bytes: u32, seed: u64) {
    let session = session(role, key_bytes, seed);
    assert!(session.lost > 5, "{} lost: the link was lossy", session.lost);
    assert!(
        session.received.len() > 1_000_000,
        "{} bytes arrived",
        session.received.len()
    );
    let (told, media) = session.extracted(PASSPHRASE, "evidence");
    let report = told.report();
    assert_eq!((streams(&report), media.len()), (1, 1), "{report:#}");
    let stream = &report["streams"][0];
    assert_eq!(text(stream, "/encryption"), format!("aes-{}-ctr", key_bytes * 8));
    assert_eq!(
        (stream["decrypted"].as_bool(), text(stream, "/stream_id")),
        (Some(true), STREAM_ID)
    );
    assert!(
        media[0] == session.received,
        "{} bytes extracted, {} received",
        media[0].len(),
        session.received.len()
    );
    assert_eq!(number(stream, "/ts/packets"), session.received.len() as u64 / 188);
    assert_eq!(
        stream["ts"]["continuity_errors"],
        json!({"source": 0, "network": 0, "unknown": 0}),
        "{} datagrams were lost at full sockets",
        session.overflows
    );
    assert_eq!(
        (continuity_errors(&media[0]), number(stream, "/transport/lost")),
        (0, 0)
    );
    assert_eq!(stream["findings"], json!({}));
    let refreshes = number(stream, "/srt/key_refreshes");
    assert!(refreshes >= 2, "{refreshes} refreshes");
    assert_eq!(
        (text(stream, "/srt/keys"), number(stream, "/srt/undeciphered")),
        ("known", 0)
    );
    compare_with_tshark(&session, stream);

    let (told, media) = session.extracted("another-passphrase", "nothing");
    let report = told.report();
    let unread = &report["streams"][0];
    assert_eq!(
        (told.code, unread["decrypted"].as_bool()),
        (Some(1), Some(false)),
        "{report:#}"
    );
    assert!(number(unread, "/findings/srt-wrong-passphrase") >= 1 && unread["ts"].is_null());
    assert_eq!(unread["transport"], stream["transport"], "transport figures go on");
    assert!(media.iter().all(Vec::is_empty), "nothing of it can be read");
    assert!(!told.out.contains(PASSPHRASE) && !told.err.contains(PASSPHRASE));
}

/// Reports of the receiver, and the sender's packets, as tshark counts them.
fn compare_with_tshark(session: &Session, stream: &Value) {
    let count = |filter: &str| session.in_tshark(filter, "frame.number").len() as u64;
    let figure = |key: &str| number(stream, &format!("/srt/{key}"));
    assert_eq!(figure("misfits"), 0);
    assert_eq!(figure("naks"), count("srt.type == 3"));
    assert!(figure("nak_packets") >= figure("naks") && figure("naks") > 5);
    assert_eq!(figure("acks"), count("srt.type == 2 && srt.rtt"));
    assert_eq!(figure("light_acks"), count("srt.type == 2 && !srt.rtt"));
    assert_eq!(figure("ackacks"), count("srt.type == 6"));
    // Keepalives are counted with a stream, which begins with its first data packet. Those of a session that has nothing to send
    // yet are nobody's; how many they are depends on how long the source takes to start, on a busy machine for instance.
    let data = session.in_tshark("srt.iscontrol == 0", "frame.number");
    let first = data.first().expect("a data packet");
    let (before, since) = (
        count(&format!("srt.type == 1 && frame.number < {first}")),
        count(&format!("srt.type == 1 && frame.number > {first}")),
    );
    println!("{before} keepalives before the stream, {since} since");
    assert_eq!(figure("keepalives"), since, "beside {before} before the stream");
    assert_eq!(figure("drop_requests"), count("srt.type == 7"));
    let last = |field: &str| -> u64 {
        let values = session.in_tshark("srt.type == 2 && srt.rtt", field);
        values.last().and_then(|value| value.parse().ok()).expect("a number")
    };
    assert_eq!(
        (figure("rtt_us"), figure("rtt_variance_us")),
        (last("srt.rtt"), last("srt.rttvar"))
    );
    assert_eq!(figure("available_buffer"), last("srt.bufavail"));
    let sent = count("srt.iscontrol == 0") as f64;
    let again = count("srt.iscontrol == 0 && srt.msg.rexmit == 1") as f64;
    let percent = stream["srt"]["retransmission_percent"].as_f64().expect("a number");
    assert!(
        (percent - again * 100.0 / sent).abs() < 0.01,
        "{percent}: {again} of {sent}"
    );
    let keys = session.in_tshark("srt.iscontrol == 0 && srt.msg.rexmit == 0", "srt.msg.enc");
    assert!(
        keys.iter().any(|key| key == "1") && keys.iter().any(|key| key == "2"),
        "both keys were in use"
    );
}

#[test]
fn aes_128_through_loss_and_refreshes() {
    deciphered("srtk128", 16, 101);
}

#[test]
fn aes_192_through_loss_and_refreshes() {
    deciphered("srtk192", 24, 202);
}

#[test]
fn aes_256_through_loss_and_refreshes() {
    deciphered("srtk256", 32, 303);
}
