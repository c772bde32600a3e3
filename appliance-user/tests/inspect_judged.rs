//! `tidegate inspect` with a policy: streams that are waited for, findings that a rule excuses or makes, secrets; continuity
//! alone; and the text report of what there is to say.
#![cfg(feature = "appliance")]

mod inspect_support;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use inspect_support::*;
use serde_json::{Value, json};
use sha1::{Digest, Sha1};
use tempfile::TempDir;

fn policy(directory: &TempDir, rules: &str) -> PathBuf {
    put(
        directory.path(),
        "policy.toml",
        format!("version = 1\ndefault_action = \"drop\"\n{rules}").as_bytes(),
    )
}

fn rule(name: &str, source: &str, more: &str) -> String {
    format!(
        "[[rule]]\nname = \"{name}\"\nprotocol = \"rtp\"\nsource = [\"{source}\"]\ndestination_port = [5000]\n{more}\n"
    )
}

const EXPECTED: &str = "expected = true\nsilence = \"2s\"\nclear_after = \"1s\"";

/// RTP from one sender, every 10 ms, in these milliseconds.
fn sender(source: &str, sending: impl Fn(u64) -> bool) -> Vec<Timed> {
    let (from, to) = (address(source), address("10.0.9.9:5000"));
    let times = (0..10_000).step_by(10).filter(|ms| sending(*ms));
    times
        .enumerate()
        .map(|(n, ms)| (ms * 1000, ethernet(&udp(from, to, &rtp_ts(n as u16, 7)))))
        .collect()
}

fn capture(directory: &TempDir, mut packets: Vec<Timed>) -> PathBuf {
    packets.sort_by_key(|(time, _)| *time);
    put(directory.path(), "x.pcap", &pcap(&packets))
}

fn by(policy: &Path, more: &[&OsStr]) -> Told {
    inspect([&["--policy".as_ref(), policy.as_os_str()], more].concat())
}

fn expected(name: &str, state: &str, ever: bool, times: u64) -> Value {
    json!({"rule": name, "state": state, "ever": ever, "times_missing": times})
}

#[test]
fn a_stream_that_is_expected_and_stays_away_is_a_finding() {
    let dir = TempDir::new().unwrap();
    let rules = [
        rule("filler", "10.0.1.0/24", ""),
        rule("stops", "10.0.2.0/24", EXPECTED),
        rule("never", "10.0.3.0/24", EXPECTED),
        rule("pauses", "10.0.4.0/24", EXPECTED),
        rule("there", "10.0.5.0/24", EXPECTED),
    ];
    let policy = policy(&dir, &rules.concat());
    let packets = [
        sender("10.0.1.1:4000", |_| true),
        sender("10.0.2.1:4000", |ms| ms < 3000),
        sender("10.0.4.1:4000", |ms| !(3000..6000).contains(&ms)),
        sender("10.0.5.1:4000", |_| true),
    ];
    let path = capture(&dir, packets.concat());
    let folder = dir.path().join("evidence");
    let told = by(
        &policy,
        &[
            "--format".as_ref(),
            "json".as_ref(),
            "--extract".as_ref(),
            folder.as_os_str(),
            path.as_os_str(),
        ],
    );
    assert_eq!(told.code, Some(1), "{told:?}");
    let report = told.report();
    assert_eq!(
        report["expectations"],
        json!([
            expected("stops", "missing", true, 1),
            expected("never", "missing", false, 1),
            expected("pauses", "ok", true, 1),
            expected("there", "ok", true, 0),
        ])
    );
    let events = fs::read_to_string(folder.join("x.pcap-events.jsonl")).unwrap();
    let told: Vec<(String, String, String)> = events
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|event| event["event"].as_str().unwrap().starts_with("expected-"))
        .map(|event| ["time", "event", "rule"].map(|key| event[key].as_str().unwrap().to_owned()))
        .map(|[time, event, rule]| (time[17..21].to_owned(), event, rule))
        .collect();
    // The capture begins at 22:13:20. Looked for is every 100 ms, before the packet of that time counts.
    let told: Vec<_> = told
        .iter()
        .map(|(t, e, r)| (t.as_str(), e.as_str(), r.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            ("22.1", "expected-missing", "never"),
            ("25.0", "expected-missing", "stops"),
            ("25.0", "expected-missing", "pauses"),
            ("27.1", "expected-back", "pauses"),
        ]
    );
    let text = by(&policy, &[path.as_os_str()]).out;
    for line in [
        "  expected    rule \"stops\": it stopped\n",
        "  expected    rule \"never\": nothing of it ever came\n",
        "  expected    rule \"pauses\": it was missing for a time\n",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    assert!(!text.contains("\"there\": "), "{text}");
}

#[test]
fn a_stream_that_is_expected_and_there_is_none() {
    let dir = TempDir::new().unwrap();
    let path = capture(&dir, sender("10.0.2.1:4000", |_| true));
    let told = inspect_by(&policy(&dir, &rule("there", "10.0.2.0/24", EXPECTED)), &path);
    assert_eq!(told.code, Some(0), "{told:?}");
    assert_eq!(told.report()["expectations"], json!([expected("there", "ok", true, 0)]));
    // Nobody knows what was before a capture, so one that is shorter than the silence says nothing.
    let early = capture(&dir, sender("10.0.2.1:4000", |ms| ms < 1500));
    let told = inspect_by(&policy(&dir, &rule("never", "10.0.3.0/24", EXPECTED)), &early);
    assert_eq!(
        told.report()["expectations"],
        json!([expected("never", "ok", false, 0)])
    );
    let without = inspect_json(&path);
    assert_eq!((without.code, &without.report()["expectations"]), (Some(0), &json!([])));
}

#[test]
fn what_a_rule_excuses_is_no_finding_and_what_it_forbids_is_one() {
    let dir = TempDir::new().unwrap();
    let mut packets = sender("10.0.2.1:4000", |ms| ms < 2000);
    // Ethernet, IPv4, UDP, RTP; the counter of the datagram's second packet.
    packets[50].1[14 + 20 + 8 + 12 + 188 + 3] ^= 0x08;
    let path = capture(&dir, packets);
    let ts = |more: &str| rule("studio", "10.0.2.0/24", &format!("[rule.ts]\n{more}"));
    let code = |rules: &str| inspect_by(&policy(&dir, rules), &path);
    let wrong = code(&ts(""));
    assert_eq!(wrong.code, Some(1));
    assert_eq!(
        number(&wrong.report(), "/streams/0/ts/continuity_errors/source"),
        2,
        "{}",
        wrong.out
    );
    let pid = 256;
    let excused = code(&ts(&format!("continuity = {{ ignore_pids = [{pid}] }}")));
    assert_eq!(excused.code, Some(0), "{}", excused.out);
    let other = code(&ts("continuity = { ignore_pids = [257] }"));
    assert_eq!(other.code, Some(1));
    // About 1.05 Mb/s.
    let limit =
        format!("continuity = {{ ignore_pids = [{pid}] }}\nbitrate = {{ min = \"5Mbps\", window = \"500ms\" }}");
    let slow = code(&rule(
        "studio",
        "10.0.2.0/24",
        &format!("raise_after = \"500ms\"\n[rule.ts]\n{limit}"),
    ));
    assert_eq!(
        (slow.code, text(&slow.report(), "/streams/0/worst_state")),
        (Some(1), "degraded"),
        "{}",
        slow.out
    );
}

#[test]
fn continuity_alone_leaves_everything_else_out() {
    let dir = TempDir::new().unwrap();
    let mut file = transport_stream();
    // A PAT whose CRC-32 is wrong, and a counter that is.
    file[188 * 8 + 20] ^= 1;
    let errors = |report: &Value| number(report, "/streams/0/ts/continuity_errors/source");
    let path = put(dir.path(), "x.ts", &file);
    let arguments = |more: &[&str]| {
        let more: Vec<&OsStr> = more.iter().map(OsStr::new).collect();
        inspect([&["--format".as_ref(), "json".as_ref(), path.as_os_str()], &more[..]].concat())
    };
    let all = arguments(&[]);
    let alone = arguments(&["--only", "continuity"]);
    assert_eq!((all.code, alone.code), (Some(1), Some(0)), "{} {}", all.out, alone.out);
    let (all, alone) = (all.report(), alone.report());
    assert_eq!(number(&all, "/streams/0/ts/crc_errors"), 1);
    assert_eq!((errors(&all), errors(&alone)), (0, 0));
    assert_eq!(alone["streams"][0]["tr101290"], json!({}));
    assert_eq!(
        (
            &alone["streams"][0]["ts"]["analysed"],
            &all["streams"][0]["ts"]["analysed"]
        ),
        (&json!(false), &json!(true))
    );
    file[188 * 9 + 3] ^= 8;
    put(dir.path(), "x.ts", &file);
    let alone = arguments(&["--only", "continuity"]);
    assert_eq!((alone.code, errors(&alone.report())), (Some(1), 2), "{}", alone.out);
    let refused = arguments(&["--only", "everything"]);
    assert_eq!(refused.code, Some(2));
}

/// Captures of real sessions with their receivers' output, by hash.
const SRT: [(&str, &[u8], &str); 2] = [
    (
        "aes-128-ctr",
        include_bytes!("../src/engine/flow/srt/testdata/ctr128.pcap"),
        "6b839596ed4010e1cf8b6ee330c90f42afbdb881",
    ),
    (
        "aes-128-gcm",
        include_bytes!("../src/engine/flow/srt/testdata/gcm128.pcap"),
        "b21414899c24dc13348aaa3d0519b10385ec3ea4",
    ),
];

/// A classic pcap file without its first packets.
fn without_first(file: &[u8], packets: usize) -> Vec<u8> {
    let length = |at: usize| u32::from_le_bytes(file[at + 8..at + 12].try_into().unwrap()) as usize;
    let start = (0..packets).fold(24, |at, _| at + 16 + length(at));
    [&file[..24], &file[start..]].concat()
}

#[test]
fn a_policys_passphrase_deciphers_a_capture() {
    for (cipher, file, received) in SRT {
        let dir = TempDir::new().unwrap();
        let path = put(dir.path(), "srt.pcap", file);
        let secret = put(dir.path(), "secret", b"correct-horse-battery\n");
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        let rules = "[[rule]]\nname = \"studio\"\nprotocol = \"srt\"\nsource = [\"10.0.0.1\"]\ndestination_port = [5000]\n\
                     [rule.srt]\npassphrase_file = \"secret\"\n";
        let policy = policy(&dir, rules);
        let folder = dir.path().join("evidence");
        let told = by(&policy, &["--extract".as_ref(), folder.as_os_str(), path.as_os_str()]);
        let written: Vec<PathBuf> = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension() == Some("ts".as_ref()))
            .collect();
        assert_eq!(written.len(), 1, "{told:?}");
        let digest: String = Sha1::digest(fs::read(&written[0]).unwrap())
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(digest, received, "{cipher}");
        let lines: Vec<&str> = told.out.lines().collect();
        assert!(
            lines[3].ends_with(&format!("{cipher} decrypted  rule \"studio\"")),
            "{}",
            told.out
        );
        let line = |label: &str| {
            let start = format!("    {label:<12}");
            let found = lines.iter().find_map(|line| line.strip_prefix(&start));
            found.unwrap_or_else(|| panic!("no {label} in {}", told.out))
        };
        let srt = line("srt");
        assert!(
            srt.starts_with("handshake v5, caller-listener, 1.5.7 to 1.5.") && srt.contains("latency 400 ms, RTT "),
            "{srt}"
        );
        assert!(srt.ends_with(" ms, verified"), "{srt}");
        assert_eq!(line("keys"), "3 key refreshes");
        assert!(line("repair").contains("NAK") && line("repair").contains("% retransmitted"));
        assert!(line("stream id").contains("r=\"live/ch1\""), "{}", told.out);
        assert!(!told.out.contains("horse"));
        let late = by(
            &policy,
            &[put(dir.path(), "late.pcap", &without_first(file, 20)).as_os_str()],
        );
        let unverified = |line: &str| line.contains(" handshake not seen, ") && line.ends_with(" ms, unverified");
        assert!(
            late.out.contains(&format!("{cipher} decrypted")) && late.out.lines().any(unverified),
            "{}",
            late.out
        );

        fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
        let refused = by(&policy, &[path.as_os_str()]);
        assert_eq!((refused.code, refused.out.as_str()), (Some(2), ""), "{}", refused.err);
        assert!(refused.err.contains("secret"), "{}", refused.err);
    }
}

/// A packet with one section (ISO/IEC 13818-1 2.4.4), its CRC-32 added where it has none.
fn table(pid: u16, counter: u8, mut section: Vec<u8>, add_crc: bool) -> [u8; 188] {
    if add_crc {
        let crc = crc::Crc::<u32>::new(&crc::CRC_32_MPEG_2).checksum(&section);
        section.extend(crc.to_be_bytes());
    }
    let mut packet = [0xff; 188];
    packet[..5].copy_from_slice(&[0x47, 0x40 | (pid >> 8) as u8, pid as u8, 0x10 | counter & 0x0f, 0]);
    packet[5..5 + section.len()].copy_from_slice(&section);
    packet
}

/// A picture's first packet with PCR and PTS.
fn picture(counter: u8, pts: u64) -> [u8; 188] {
    let mut packet = [0xff; 188];
    packet[..6].copy_from_slice(&[0x47, 0x41, 0x00, 0x30 | counter & 0x0f, 7, 0x10]);
    let pcr = (pts - 9000) << 15 | 0x7e00;
    packet[6..12].copy_from_slice(&pcr.to_be_bytes()[2..]);
    packet[12..21].copy_from_slice(&[0, 0, 1, 0xe0, 0, 0, 0x80, 0x80, 5]);
    packet[21] = 0x21 | (pts >> 29) as u8 & 0x0e;
    packet[22..24].copy_from_slice(&((pts >> 14) as u16 | 1).to_be_bytes());
    packet[24..26].copy_from_slice(&((pts << 1) as u16 | 1).to_be_bytes());
    packet
}

/// One programme of a picture every 40 ms with splice information: the splice_insert of SCTE 35's own example, 4 s ahead.
fn transport_stream() -> Vec<u8> {
    const INSERT: &str =
        "fc302f000000000000fffff014054800008f7feffe7369c02efe0052ccf500000000000a0008435545490000013562dba30a";
    const SPLICE_TIME: u64 = 0x0_7369_c02e;
    let insert: Vec<u8> = (0..INSERT.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&INSERT[at..at + 2], 16).unwrap())
        .collect();
    let pat = vec![0x00, 0xb0, 13, 0, 1, 0xc1, 0, 0, 0, 1, 0xf0, 0];
    let mut pmt = vec![0x02, 0xb0, 29, 0, 1, 0xc1, 0, 0, 0xe1, 0, 0xf0, 6];
    pmt.extend([5, 4, b'C', b'U', b'E', b'I']);
    pmt.extend([0x1b, 0xe1, 0, 0xf0, 0, 0x86, 0xe1, 0xf0, 0xf0, 0]);
    let mut packets = Vec::new();
    for n in 0..100u64 {
        let counter = n as u8;
        packets.push(table(0, counter, pat.clone(), true));
        packets.push(table(0x1000, counter, pmt.clone(), true));
        packets.push(picture(counter, SPLICE_TIME - 50 * 3600 - 360_000 + n * 3600));
        packets.push(match n {
            50 | 60 => table(0x1f0, (n == 60).into(), insert.clone(), false),
            _ => ts_packet(0x1fff, 0, 0),
        });
    }
    packets.concat()
}

#[test]
fn the_text_report_tells_programmes_clocks_and_cues() {
    let dir = TempDir::new().unwrap();
    let told = inspect([put(dir.path(), "x.ts", &transport_stream()).as_os_str()]);
    // Bit rates by themselves: a short stream's mean depends on what counts as its end.
    let (mut lines, mut rates) = (Vec::new(), Vec::new());
    for line in told.out.lines().skip(1) {
        let words: Vec<&str> = line.split(' ').collect();
        let unit = words
            .iter()
            .position(|word| ["b/s", "b/s,", "kb/s", "kb/s,"].contains(word));
        rates.extend(unit.map(|unit| words[unit - 1].parse::<f64>().unwrap()));
        let left_out = |place: &usize| unit.is_none_or(|unit| *place != unit && *place != unit - 1);
        let kept = (0..words.len()).filter(left_out).map(|place| words[place]);
        lines.push(kept.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" "));
    }
    assert_eq!(
        lines,
        [
            "healthy no continuity errors",
            "ts 400 packets, 24.5% null packets",
            "programme 1: PMT 0x1000, PCR 0x0100 every 40 ms (at most 40 ms)",
            "0x0100 h264 100 packets",
            "0x01f0 scte35 2 packets",
            "pids 0x0000 100 0x1000 100 0x1fff 98",
            "cues 2 sections, 2 splice-insert, 1 repeat",
            "0x01f0 splice-insert, event 0x4800008f, out, pre-roll 4.0 s, for 60.3 s",
        ],
        "{}",
        told.out
    );
    // Four packets in 40 ms, one of them video; two cues in 4 s.
    for (told, wanted) in rates.iter().zip([150.4, 37.6, 752.0]) {
        assert!((told / wanted - 1.0).abs() < 0.015, "{told} for {wanted}");
    }
    assert_eq!((told.code, rates.len()), (Some(0), 3));
}

/// An FEC packet (SMPTE ST 2022-1 clause 8.4) over a row of five numbers.
fn fec_row(sequence: u16, base: u16) -> Vec<u8> {
    let mut header = [0; 16 + 1316];
    header[..2].copy_from_slice(&base.to_be_bytes());
    header[4] = 0x80;
    header[12..15].copy_from_slice(&[0x40, 1, 5]);
    rtp(96, sequence, 0, &header)
}

#[test]
fn the_text_report_tells_what_companions_say() {
    let dir = TempDir::new().unwrap();
    let (from, to) = (address("10.0.0.1:4000"), address("10.0.9.9:5000"));
    let mut packets = Vec::new();
    let mut at = |ms: u64, port: u16, payload: Vec<u8>| {
        let (mut from, mut to) = (from, to);
        from.set_port(from.port() + port);
        to.set_port(to.port() + port);
        packets.push((ms * 1000, ethernet(&udp(from, to, &payload))));
    };
    for n in 0..200u16 {
        let ms = u64::from(n) * 10;
        // One of a row can be rebuilt, two cannot.
        if ![53, 101, 102].contains(&n) {
            at(ms, 0, rtp_ts(n, 7));
        }
        if n % 5 == 4 {
            at(ms + 1, 4, fec_row(n / 5, n - 4));
        }
        if n % 50 == 20 {
            let words = [7, 0x1111_2222, 0x3333_4444, 0, u32::from(n), u32::from(n) * 1316];
            let mut report = vec![0x80, 200, 0, 6];
            report.extend(words.iter().flat_map(|word: &u32| word.to_be_bytes()));
            at(ms + 2, 1, report);
        }
    }
    let path = put(dir.path(), "fec.pcap", &pcap(&packets));
    let rules =
        "[[rule]]\nname = \"studio\"\nprotocol = \"rtp-fec\"\nsource = [\"10.0.0.0/24\"]\ndestination_port = [5000]\n";
    let told = by(&policy(&dir, rules), &[path.as_os_str()]);
    assert_eq!(told.code, Some(1));
    for line in [
        "    healthy     3 packets lost (1.500%), 1 of them recoverable; continuity errors: 2 by the network",
        "    rtcp        4 sender reports (3 of 150 packets missing)",
        "    fec         40 row packets, matrix 5 x 0",
    ] {
        assert!(told.out.lines().any(|told| told == line), "{line} in {}", told.out);
    }
    assert!(told.out.contains("    rtp         jitter 6."), "{}", told.out);
    assert!(!told.out.contains("partial"), "{}", told.out);
}
