//! What the kernel's generator really sends, captured on the other end of the link and read by tools that know nothing of it:
//! tshark finds no gap in continuity or in RTP, and the engine, at the capture's own times, finds nothing at all.

use std::fs::File;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use pcap_file::pcap::PcapReader;
use tidegate::engine::time::Timestamp;
use tidegate::engine::{Config, Engine, Published, Verdict};
use tidegate::policy;
use tidegate_lab::{MacAddr, Namespace, Process, VethEnd, XdpPass, run, veth, wait_until};
use tidegate_load::{Collector, Generator, Lane, Load, Rate, policy_toml};

const STREAMS: u32 = 5;
const RATE: f64 = 5_000.0;
/// Frames that are captured; more are sent, for the capture may begin late.
const CAPTURED: &str = "15000";
const SENT: u64 = 20_000;

/// Sends a load from one namespace to another and captures it there.
fn capture(load: &Load, file: &Path, log: &Path) {
    let (near, far) = (
        Namespace::new("load").expect("root"),
        Namespace::new("peer").expect("root"),
    );
    let (near_mac, far_mac) = (MacAddr::local(0x7201), MacAddr::local(0x7202));
    let end = |namespace, mac| VethEnd {
        namespace,
        name: "eth0",
        mac,
    };
    veth(end(&near, near_mac), end(&far, far_mac), 1, 1600).expect("a link");
    let _pass = XdpPass::attach(&far, "eth0").expect("a passing program");
    let lane = Lane {
        interface: "eth0".to_owned(),
        local_mac: near_mac.0,
        peer_mac: far_mac.0,
        local_ip: Ipv4Addr::new(10, 254, 0, 1),
        peer_ip: Ipv4Addr::new(10, 254, 0, 2),
        core: 0,
    };
    let mut tshark = far.command("tshark");
    tshark.args([
        "-q",
        "-i",
        "eth0",
        "-f",
        "udp port 6081",
        "-c",
        CAPTURED,
        "-F",
        "pcap",
        "-w",
    ]);
    tshark.arg(file);
    let mut tshark = Process::spawn("tshark", tshark, log).expect("tshark is installed");
    wait_until("tshark to capture", Duration::from_secs(30), || {
        file.metadata().is_ok_and(|file| file.len() >= 24)
    })
    .expect("tshark captures");
    near.run_in(|| {
        let _collector = Collector::attach(&lane, load).expect("a collector");
        let sent = Generator::start(&lane, load)
            .expect("a generator")
            .wait()
            .expect("a load");
        assert_eq!((sent.packets, sent.not_delivered), (SENT, 0));
    })
    .expect("the namespace");
    tshark.wait(Duration::from_secs(30)).expect("tshark has seen enough");
}

fn tshark(file: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("tshark");
    command
        .arg("-r")
        .arg(file)
        .args(["-d", "udp.port==5000,rtp"])
        .args(arguments);
    run(&mut command).expect("tshark reads it")
}

#[test]
fn tshark_and_the_engine_find_nothing_in_what_is_really_sent() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("sent.pcap");
    let load = Load {
        streams: STREAMS,
        rate: Rate::PacketsPerSecond(RATE),
        packets: Some(SENT),
        seconds: Some(30.0),
        ..Load::default()
    };
    capture(&load, &file, &folder.path().join("tshark.log"));

    let media = tshark(&file, &["-Y", "rtp && mp2t", "-T", "fields", "-e", "frame.number"]);
    assert_eq!(
        media.lines().count().to_string(),
        CAPTURED,
        "tshark sees MPEG-TS in RTP in every frame"
    );
    let tables = tshark(
        &file,
        &[
            "-o",
            "mpeg_sect.verify_crc:TRUE",
            "-Y",
            "mpeg_pat",
            "-T",
            "fields",
            "-e",
            "frame.number",
        ],
    );
    assert!(tables.lines().count() > 50, "and tables: {tables}");
    let bad = tshark(
        &file,
        &[
            "-o",
            "mpeg_sect.verify_crc:TRUE",
            "-Y",
            "mpeg_sect.crc.status == 0 || ip.checksum.status == 0",
            "-o",
            "ip.check_checksum:TRUE",
            "-T",
            "fields",
            "-e",
            "frame.number",
        ],
    );
    assert_eq!(bad, "", "no table and no header with a bad checksum");
    // One stream at a time: tshark takes the streams of one tunnel for one another.
    for stream in 0..STREAMS {
        let one = folder.path().join("one.pcap");
        let source = format!("ip.src == 10.64.0.{stream}");
        tshark(&file, &["-Y", &source, "-F", "pcap", "-w", &one.to_string_lossy()]);
        assert_eq!(gaps(&one), 0, "stream {stream}");
        // The same without one frame: the query can fail.
        let less = folder.path().join("less.pcap");
        tshark(
            &one,
            &[
                "-Y",
                "frame.number != 1500",
                "-F",
                "pcap",
                "-w",
                &less.to_string_lossy(),
            ],
        );
        assert!(gaps(&less) > 0, "stream {stream}");
    }
    let streams = tshark(&file, &["-q", "-z", "rtp,streams"]);
    let rows: Vec<&str> = streams.lines().filter(|line| line.contains("10.64.0.")).collect();
    assert_eq!(rows.len(), STREAMS as usize, "{streams}");
    assert!(rows.iter().all(|row| row.contains(" 0 (0.0%)")), "{streams}");

    inspect(&file, &load);
}

/// Frames in which tshark misses a TS packet.
fn gaps(file: &Path) -> usize {
    tshark(file, &["-Y", "mp2t.cc.drop", "-T", "fields", "-e", "frame.number"])
        .lines()
        .count()
}

/// The engine, by the load's own policy and at the capture's times.
fn inspect(file: &Path, load: &Load) {
    let policy = policy::parse("load.toml", &policy_toml(load, false)).expect("the load's policy");
    let published = Published {
        policy: &policy,
        generation: 1,
    };
    let mut engine = Engine::new(Config::default());
    let mut reader = PcapReader::new(File::open(file).expect("the capture")).expect("a capture");
    while let Some(packet) = reader.next_packet() {
        let packet = packet.expect("a packet");
        let now = Timestamp::from_nanos(packet.timestamp.as_nanos() as u64);
        let mut frame = packet.data.to_vec();
        assert_eq!(engine.process(now, &published, &mut frame), Verdict::Return);
        engine.tick(now, 256);
        while engine.next_event().is_some() {}
    }
    engine.finish();
    let reports = engine.streams();
    assert_eq!(reports.len(), STREAMS as usize);
    for report in reports {
        let errors = report.ts.as_ref().expect("a transport stream").continuity_errors;
        assert_eq!((errors.source, errors.network, errors.unknown), (0, 0, 0));
        // Wall clock: a machine that stalls may send a table late, which is its truth.
        let count = |number| report.tr101290.get(number).copied().unwrap_or(0);
        for number in ["1.1", "1.2", "1.4", "1.6", "2.1", "2.2", "2.3.b", "2.6"] {
            assert_eq!(count(number), 0, "{number}: {:?}", report.tr101290);
        }
        assert_eq!((report.transport.lost, report.transport.reordered), (0, 0));
    }
}
