//! `tidegate inspect` as an operator or a script meets it: the report's shape, exit codes, and inputs of every kind of bad.
#![cfg(feature = "appliance")]

mod inspect_support;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use inspect_support::*;
use serde_json::Value;
use tempfile::TempDir;

const STUDIO: &str =
    "[[rule]]\nname = \"studio\"\nprotocol = \"rtp\"\nsource = [\"10.0.0.0/24\"]\ndestination_port = [5000]\n";

fn policy(directory: &TempDir, rules: &str) -> std::path::PathBuf {
    put(
        directory.path(),
        "policy.toml",
        format!("version = 1\ndefault_action = \"drop\"\n{rules}").as_bytes(),
    )
}

/// One second and more of sound RTP, IP packets only.
fn sound_rtp(count: u16) -> Vec<Timed> {
    let (from, to) = (address("10.0.0.1:5004"), address("10.0.0.2:5000"));
    timed(10_000, (0..count).map(|n| udp(from, to, &rtp_ts(n, 7))))
}

fn framed(packets: &[Timed], frame: fn(&[u8]) -> Vec<u8>) -> Vec<Timed> {
    packets.iter().map(|(time, ip)| (*time, frame(ip))).collect()
}

fn sound_ts(packets: u32) -> Vec<u8> {
    (0..packets).flat_map(|n| ts_packet(256, n as u8, n as u8)).collect()
}

#[test]
fn sound_inputs_of_every_protocol_have_every_key_and_exit_0() {
    let dir = TempDir::new().unwrap();
    let (from, to) = (address("10.0.0.1:5004"), address("10.0.0.2:5000"));
    let bare_ts = framed(
        &timed(10_000, (0..50).map(|n| udp(from, to, &ts_datagram(n)))),
        ethernet,
    );
    let other = framed(
        &timed(10_000, (0..50).map(|_| udp(from, to, b"nothing known"))),
        ethernet,
    );
    for (name, file, protocol, ts_packets) in [
        ("rtp.pcap", pcap(&framed(&sound_rtp(50), ethernet)), "rtp", Some(350)),
        ("ts.pcap", pcap(&bare_ts), "ts-udp", Some(350)),
        ("other.pcap", pcap(&other), "other", None),
        ("x.ts", sound_ts(350), "file", Some(350)),
    ] {
        let told = inspect_json(&put(dir.path(), name, &file));
        assert_eq!((told.code, told.err.as_str()), (Some(0), ""), "{name}: {}", told.out);
        let report = told.report();
        assert_eq!(streams(&report), 1, "{name}");
        assert_eq!(text(&report, "/streams/0/protocol"), protocol);
        assert_eq!(
            report.pointer("/streams/0/ts/packets").and_then(Value::as_u64),
            ts_packets,
            "{name}"
        );
        assert_eq!(text(&report, "/streams/0/state"), "healthy");
        let datagrams = if protocol == "file" { 350 } else { 50 };
        assert_eq!(number(&report, "/packets/returned"), datagrams);
        assert_eq!(number(&report, "/streams/0/packets"), datagrams);
    }
}

#[test]
fn what_is_wrong_exits_1_and_what_is_only_untidy_exits_0() {
    let dir = TempDir::new().unwrap();
    let edited = |edit: fn(&mut Vec<Timed>)| {
        let mut packets = framed(&sound_rtp(100), ethernet);
        edit(&mut packets);
        inspect_json(&put(dir.path(), "edited.pcap", &pcap(&packets)))
    };
    // Where the RTP payload begins: Ethernet, IPv4, UDP, RTP.
    const TS: usize = 14 + 20 + 8 + 12;
    let lost = edited(|p| drop(p.remove(50)));
    assert_eq!(
        (lost.code, number(&lost.report(), "/streams/0/transport/lost")),
        (Some(1), 1)
    );
    assert_eq!(number(&lost.report(), "/streams/0/ts/continuity_errors/network"), 1);
    let source = edited(|p| p[50].1[TS + 3] ^= 0x08);
    assert_eq!(
        (
            source.code,
            number(&source.report(), "/streams/0/ts/continuity_errors/source")
        ),
        (Some(1), 2)
    );
    let damaged = edited(|p| p[50].1[TS + 1] |= 0x80);
    assert_eq!(
        (
            damaged.code,
            number(&damaged.report(), "/streams/0/ts/transport_errors")
        ),
        (Some(1), 1)
    );
    let unsynced = edited(|p| p[50].1[TS] = 0x48);
    assert_eq!(
        (
            unsynced.code,
            number(&unsynced.report(), "/streams/0/ts/sync_byte_errors")
        ),
        (Some(1), 1)
    );
    let conflict = edited(|p| {
        let mut forged = p[50].clone();
        forged.1[TS + 20] ^= 1;
        p.insert(51, forged);
    });
    assert_eq!(
        (
            conflict.code,
            number(&conflict.report(), "/streams/0/findings/sequence-conflict")
        ),
        (Some(1), 1)
    );
    let untidy = edited(|p| {
        let swapped = p[20].1.clone();
        p[20].1 = std::mem::replace(&mut p[21].1, swapped);
        let copy = p[60].clone();
        p.insert(61, copy);
    });
    assert_eq!(untidy.code, Some(0), "{}", untidy.out);
    assert_eq!(number(&untidy.report(), "/streams/0/transport/reordered"), 1);
    assert_eq!(number(&untidy.report(), "/streams/0/transport/duplicated"), 1);
}

#[test]
fn a_capture_cut_short_is_reported_as_far_as_it_goes() {
    let dir = TempDir::new().unwrap();
    let whole = pcap(&framed(&sound_rtp(100), ethernet));
    let told = inspect_json(&put(dir.path(), "cut.pcap", &whole[..whole.len() - 700]));
    assert_eq!(told.code, Some(2));
    assert!(
        told.err.contains("cut.pcap: file cut short in packet 100 at byte "),
        "{}",
        told.err
    );
    let offset = 24 + 99 * (16 + 14 + 20 + 8 + 12 + 7 * 188);
    assert!(told.err.contains(&offset.to_string()), "{offset} in {}", told.err);
    let report = told.report();
    assert_eq!(number(&report, "/packets/seen"), 99);
    assert_eq!(number(&report, "/streams/0/packets"), 99);
    assert!(text(&report, "/error").contains("packet 100"));

    let mut damaged = whole;
    damaged[24 + 8..24 + 12].copy_from_slice(&u32::MAX.to_le_bytes());
    let told = inspect_json(&put(dir.path(), "damaged.pcap", &damaged));
    assert_eq!((told.code, number(&told.report(), "/packets/seen")), (Some(2), 0));
    assert!(told.err.contains("damaged before packet 1 at byte 24"), "{}", told.err);
}

#[test]
fn a_ts_file_cut_short_is_reported_as_far_as_it_goes() {
    let dir = TempDir::new().unwrap();
    let told = inspect_json(&put(dir.path(), "cut.ts", &sound_ts(100)[..100 * 188 - 1]));
    assert_eq!(told.code, Some(2));
    assert!(
        told.err
            .contains("file cut short in packet 100 at byte 18612: 187 bytes"),
        "{}",
        told.err
    );
    assert_eq!(number(&told.report(), "/streams/0/ts/packets"), 99);
}

#[test]
fn packets_that_the_capture_cut_are_said_to_be_unreadable() {
    let dir = TempDir::new().unwrap();
    let whole = put(dir.path(), "whole.pcap", &pcap(&framed(&sound_rtp(20), ethernet)));
    let cut = dir.path().join("snap.pcap");
    editcap(&["-F", "pcap", "-s", "96"], &whole, &cut);
    let told = inspect_json(&cut);
    assert_eq!(told.code, Some(2), "{}", told.out);
    assert!(told.err.contains("20 packets, the first is packet 1"), "{}", told.err);
    assert_eq!(number(&told.report(), "/packets/seen"), 20);
}

#[test]
fn what_is_no_input_at_all_exits_2_and_says_why() {
    let dir = TempDir::new().unwrap();
    let directory = dir.path().join("directory");
    std::fs::create_dir(&directory).unwrap();
    let cases = [
        (
            put(
                dir.path(),
                "notes.txt",
                "a text, not a capture\n".repeat(1000).as_bytes(),
            ),
            "neither a capture",
        ),
        (
            put(dir.path(), "packed.gz", &[0x1f, 0x8b, 8, 0, 1, 2, 3, 4]),
            "compressed with gzip",
        ),
        (put(dir.path(), "empty.pcap", b""), "empty"),
        (put(dir.path(), "head.pcap", &pcap(&[])[..10]), "cut short"),
        (directory, "cannot read the file"),
        (dir.path().join("missing.ts"), "No such file"),
    ];
    for (path, why) in cases {
        let told = inspect_json(&path);
        assert_eq!(told.code, Some(2), "{path:?}: {}", told.out);
        let (name, line) = (path.display().to_string(), told.err.as_str());
        assert!(
            line.starts_with(&name) && line.contains(why),
            "{why:?} of {name} in {line:?}"
        );
        let report = told.report();
        assert_eq!((number(&report, "/packets/seen"), streams(&report)), (0, 0));
    }
    let nothing = put(dir.path(), "nothing.pcap", &pcap(&[]));
    assert_eq!(inspect_json(&nothing).code, Some(0), "a capture of nothing is whole");
}

#[test]
fn a_policy_that_is_not_there_is_told_once() {
    let dir = TempDir::new().unwrap();
    let missing = dir.path().join("policy.toml");
    let told = inspect_by(&missing, &put(dir.path(), "x.ts", &sound_ts(50)));
    assert_eq!((told.code, told.out.as_str()), (Some(2), ""));
    let wanted = format!(
        "cannot read the policy {}: No such file or directory (os error 2)\n",
        missing.display()
    );
    assert_eq!(told.err, wanted);
}

#[test]
fn one_bad_input_does_not_keep_the_others_from_being_reported() {
    let dir = TempDir::new().unwrap();
    let good = put(dir.path(), "good.pcap", &pcap(&framed(&sound_rtp(50), ethernet)));
    let bad = put(dir.path(), "bad.pcap", b"bad");
    let stream = put(dir.path(), "good.ts", &sound_ts(50));
    let told = inspect([
        "--format".as_ref(),
        "json".as_ref(),
        good.as_os_str(),
        bad.as_os_str(),
        stream.as_os_str(),
    ]);
    assert_eq!(told.code, Some(2));
    let reports = told.reports();
    reports.iter().for_each(check_schema);
    let inputs: Vec<_> = reports.iter().map(|report| text(report, "/input").to_owned()).collect();
    assert_eq!(inputs, [&good, &bad, &stream].map(|path| path.display().to_string()));
    assert_eq!(reports.iter().map(streams).collect::<Vec<_>>(), [1, 0, 1]);
    assert_eq!(told.err.lines().count(), 1, "{}", told.err);
}

/// A report without what must differ between two captures of the same traffic.
fn comparable(report: &Value) -> Value {
    let mut streams = report["streams"].clone();
    for stream in streams.as_array_mut().expect("an array") {
        stream["endpoint"] = Value::Null;
    }
    streams
}

#[test]
fn wrapped_and_bare_pcap_and_pcapng_agree() {
    let dir = TempDir::new().unwrap();
    let mut packets = sound_rtp(200);
    packets.remove(77);
    packets.swap(20, 21);
    let (from, to) = (address("10.0.0.9:99"), address("10.0.0.8:98"));
    packets.extend(timed(10_000, (0..9).map(|n| udp(from, to, &ts_datagram(n)))));
    packets.sort_by_key(|(time, _)| *time);
    let bare = put(dir.path(), "bare.pcap", &pcap(&framed(&packets, ethernet)));
    let mut in_geneve = framed(&packets, wrapped);
    // An ARP request and a probe of the load balancer's: nothing for the appliance.
    let mut arp = vec![0xff; 12];
    arp.extend_from_slice(&[0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1]);
    arp.resize(42, 0);
    in_geneve.insert(0, (0, arp));
    in_geneve.insert(
        9,
        (
            0,
            ethernet(&udp(address("192.0.2.1:999"), address("192.0.2.2:80"), b"probe")),
        ),
    );
    let geneve = put(dir.path(), "geneve.pcap", &pcap(&in_geneve));
    let (bare_ng, geneve_ng) = (dir.path().join("bare.pcapng"), dir.path().join("geneve.pcapng"));
    editcap(&["-F", "pcapng"], &bare, &bare_ng);
    editcap(&["-F", "pcapng"], &geneve, &geneve_ng);
    let reports = [&bare, &geneve, &bare_ng, &geneve_ng].map(|path| inspect_json(path).report());
    for (place, report) in reports.iter().enumerate() {
        assert_eq!(comparable(report), comparable(&reports[0]), "capture {place}");
        assert_eq!(number(report, "/streams/0/transport/lost"), 1);
        assert_eq!(number(report, "/packets/returned"), 208);
        let in_geneve = place % 2 == 1;
        assert_eq!(number(report, "/packets/passed"), if in_geneve { 2 } else { 0 });
        let endpoint = report["streams"][0]["endpoint"].as_str();
        assert_eq!(endpoint, in_geneve.then_some("0x0001020304050607"));
    }
}

#[test]
fn packets_without_ip_in_a_bare_capture_are_passed_not_dropped() {
    let dir = TempDir::new().unwrap();
    let mut packets = framed(&sound_rtp(20), ethernet);
    let mut arp = vec![0xff; 12];
    arp.extend_from_slice(&[0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1]);
    arp.resize(60, 0);
    packets.insert(5, (50_000, arp));
    let told = inspect_json(&put(dir.path(), "arp.pcap", &pcap(&packets)));
    let report = told.report();
    assert_eq!(told.code, Some(0), "{report:#}");
    assert_eq!(
        (number(&report, "/packets/returned"), number(&report, "/packets/passed")),
        (20, 1)
    );
}

#[test]
fn a_broken_frame_does_not_make_a_bare_capture_look_wrapped() {
    let dir = TempDir::new().unwrap();
    let mut packets = framed(&sound_rtp(20), ethernet);
    // As segmentation offload leaves it: IPv4 with a total length of zero; and a frame cut in its IPv4 header.
    let mut offloaded = packets[0].1.clone();
    offloaded[16..18].fill(0);
    packets.insert(0, (0, offloaded));
    packets.insert(0, (0, packets[1].1[..20].to_vec()));
    let told = inspect_json(&put(dir.path(), "broken.pcap", &pcap(&packets)));
    let report = told.report();
    assert_eq!(
        (
            number(&report, "/packets/returned"),
            number(&report, "/packets/dropped")
        ),
        (20, 2),
        "{report:#}"
    );
    assert_eq!((streams(&report), told.code), (1, Some(0)));
}

#[test]
fn ipv6_addresses_stand_in_brackets_and_streams_in_order_of_appearance() {
    let dir = TempDir::new().unwrap();
    let to = address("[::1]:5000");
    let sources: Vec<String> = (0..40)
        .map(|n| format!("[2001:db8::{:x}]:{}", 40 - n, 6000 + n * 7 % 40))
        .collect();
    let packets = sources.iter().flat_map(|from| {
        let from = address(from);
        (0..3).map(move |n| ethernet(&udp(from, to, &rtp_ts(n, 1))))
    });
    let told = inspect_json(&put(dir.path(), "six.pcap", &pcap(&timed(1000, packets))));
    let report = told.report();
    let of = |key: &str| -> Vec<String> {
        let streams = report["streams"].as_array().unwrap();
        streams
            .iter()
            .map(|stream| stream[key].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(of("source"), sources);
    assert!(of("destination").iter().all(|destination| destination == "[::1]:5000"));
}

#[test]
fn what_the_policy_refuses_is_dropped_told_and_no_stream() {
    let dir = TempDir::new().unwrap();
    let policy = policy(&dir, STUDIO);
    let (stranger, to) = (address("10.66.0.1:5004"), address("10.0.0.2:5000"));
    let mut packets = sound_rtp(50);
    packets.extend(timed(10_000, (0..30).map(|n| udp(stranger, to, &rtp_ts(n, 9)))));
    packets.sort_by_key(|(time, _)| *time);
    for (name, frame) in [
        ("bare.pcap", ethernet as fn(&[u8]) -> Vec<u8>),
        ("geneve.pcap", wrapped),
    ] {
        let told = inspect_by(&policy, &put(dir.path(), name, &pcap(&framed(&packets, frame))));
        let report = told.report();
        assert_eq!(told.code, Some(1), "a refusal is a policy finding");
        assert_eq!(report["drop_reasons"], serde_json::json!({"source-not-listed": 30}));
        assert_eq!(
            (number(&report, "/packets/seen"), number(&report, "/packets/dropped")),
            (80, 30)
        );
        assert_eq!(streams(&report), 1);
        assert_eq!(text(&report, "/streams/0/rule"), "studio");
        assert_eq!(text(&report, "/streams/0/source"), "10.0.0.1:5004");
    }
    let admitted = put(dir.path(), "admitted.pcap", &pcap(&framed(&sound_rtp(50), ethernet)));
    assert_eq!(inspect_by(&policy, &admitted).code, Some(0));
}

#[test]
fn a_rule_that_does_not_enforce_tells_what_it_would_drop() {
    let dir = TempDir::new().unwrap();
    let policy = policy(&dir, &format!("{STUDIO}enforce = false\n"));
    let mut packets = sound_rtp(50);
    packets.push((
        600_000,
        udp(address("10.0.0.1:5004"), address("10.0.0.2:5000"), b"no RTP"),
    ));
    let told = inspect_by(
        &policy,
        &put(dir.path(), "shadow.pcap", &pcap(&framed(&packets, ethernet))),
    );
    let report = told.report();
    assert_eq!((told.code, number(&report, "/shadow_drops")), (Some(1), 1));
    assert_eq!(report["shadow_drop_reasons"], serde_json::json!({"not-rtp": 1}));
    assert_eq!(
        (
            number(&report, "/packets/dropped"),
            number(&report, "/packets/returned")
        ),
        (0, 51)
    );
}

#[test]
fn continuity_errors_of_ignored_pids_are_excused() {
    let dir = TempDir::new().unwrap();
    let mut packets = framed(&sound_rtp(100), ethernet);
    packets[50].1[14 + 20 + 8 + 12 + 3] ^= 0x08;
    let capture = put(dir.path(), "faulty.pcap", &pcap(&packets));
    let lenient = policy(
        &dir,
        &format!("{STUDIO}[rule.ts]\ncontinuity = {{ max_incidents = 0, ignore_pids = [256] }}\n"),
    );
    let told = inspect_by(&lenient, &capture);
    assert_eq!(told.code, Some(0), "{} {}", told.err, told.out);
    assert_eq!(
        number(&told.report(), "/streams/0/ts/continuity_errors/source"),
        2,
        "still counted"
    );
    let strict = policy(
        &dir,
        &format!("{STUDIO}[rule.ts]\ncontinuity = {{ max_incidents = 0 }}\n"),
    );
    let told = inspect_by(&strict, &capture);
    assert_eq!(
        (told.code, text(&told.report(), "/streams/0/worst_state")),
        (Some(1), "degraded")
    );
}

#[test]
fn a_bad_policy_exits_2_with_its_place_on_standard_error() {
    let dir = TempDir::new().unwrap();
    let capture = put(dir.path(), "x.pcap", &pcap(&framed(&sound_rtp(5), ethernet)));
    let bad = policy(
        &dir,
        "[[rule]]\nname = \"x\"\nprotocol = \"smtp\"\nsource = [\"10.0.0.0/24\"]\n",
    );
    let told = inspect_by(&bad, &capture);
    assert_eq!((told.code, told.out.as_str()), (Some(2), ""));
    assert!(told.err.contains(&format!("{}:5:12: ", bad.display())), "{}", told.err);
    let missing = inspect_by(Path::new("/no/such/policy.toml"), &capture);
    assert_eq!(missing.code, Some(2));
    assert!(missing.err.contains("/no/such/policy.toml"), "{}", missing.err);
    assert_eq!(inspect(["--format", "json"]).code, Some(2), "no input at all");
}

#[test]
fn a_pipe_is_read_once_and_judged_like_a_file() {
    let dir = TempDir::new().unwrap();
    for frame in [ethernet as fn(&[u8]) -> Vec<u8>, wrapped] {
        let file = pcap(&framed(&sound_rtp(200), frame));
        let expected = inspect_json(&put(dir.path(), "x.pcap", &file)).report();
        let mut child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .args(["inspect", "--format", "json", "/dev/stdin"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&file).unwrap();
        let output = child.wait_with_output().unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(
            (&report["packets"], &report["streams"]),
            (&expected["packets"], &expected["streams"])
        );
    }
}

#[test]
fn the_text_report_says_first_what_matters() {
    let dir = TempDir::new().unwrap();
    let mut packets = framed(&sound_rtp(200), wrapped);
    packets.remove(100);
    let capture = put(dir.path(), "lossy.pcap", &pcap(&packets));
    let told = inspect([capture.as_os_str()]);
    assert_eq!(told.code, Some(1));
    let lines: Vec<&str> = told.out.lines().collect();
    assert_eq!(lines[0], format!("{}: FINDINGS", capture.display()));
    assert_eq!(lines[1], "  199 packets: 199 returned");
    assert_eq!(
        lines[3],
        "  rtp  10.0.0.1:5004 -> 10.0.0.2:5000  ssrc 0x00000007  endpoint 0x0001020304050607"
    );
    assert_eq!(
        lines[4],
        "    healthy     1 packet lost (0.500%); continuity errors: 1 by the network"
    );
    assert_eq!(lines[5], "    packets     199, 264272 bytes");
    let is = |line: usize, begins: &str, ends: &str| lines[line].starts_with(begins) && lines[line].ends_with(ends);
    assert!(
        is(6, "    rtp         jitter 6.", " ms, payload type 33"),
        "{}",
        told.out
    );
    assert!(is(7, "    ts          1393 packets, 1.0", " Mb/s"), "{}", told.out);
    assert_eq!(lines[8], "    programme   1: PMT 0x1000");
    assert!(
        is(9, "                0x0100  private", " Mb/s  1367 packets, 1 error"),
        "{}",
        told.out
    );
    assert_eq!(
        lines[10..],
        [
            "    pids        0x0000 13  0x1000 13",
            "    tr 101 290  1.4 Continuity_count_error: 1"
        ]
    );

    let mut ts = sound_ts(100);
    ts[50 * 188 + 3] ^= 8;
    let told = inspect([put(dir.path(), "x.ts", &ts).as_os_str()]);
    let lines: Vec<&str> = told.out.lines().skip(1).collect();
    assert_eq!(
        lines,
        [
            "    degraded    continuity errors: 2 made by the source",
            "    exceeded    continuity",
            "    ts          100 packets",
            "    pids        0x0100 100 (2 errors)",
            "    tr 101 290  1.4 Continuity_count_error: 2",
        ]
    );

    let missing = inspect(["/no/such/file.ts"]);
    assert_eq!(
        missing.out,
        "/no/such/file.ts: INCOMPLETE\n  cannot read the file: No such file or directory (os error 2)\n"
    );
}

fn editcap(options: &[&str], from: &Path, to: &Path) {
    let output = Command::new("editcap").args(options).args([from, to]).output();
    let output = output.expect("editcap (Debian package wireshark-common) is needed by this test");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
