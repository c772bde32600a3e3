//! Splice information (ANSI/SCTE 35) from the packet to the report, the events and the exit code, in files and in captures:
//! what `inspect` tells of each cue is what the crate `scte35-reader` and the Python package `threefive` read of the same
//! file, and how long before its splice point a cue came is what `threefive` and the encoder's own clock say.
#![cfg(feature = "appliance")]
#![allow(missing_docs, reason = "the macros of mpeg2ts-reader make public items")]

mod inspect_support;
mod ts_lab;

use std::cell::RefCell;
use std::path::Path;
use std::process::Command;

use inspect_support::*;
use mpeg2ts_reader::psi::{BufferCompactSyntaxParser, CompactSyntaxSectionProcessor, SectionPacketConsumer};
use mpeg2ts_reader::{demultiplex, demux_context, packet, packet_filter_switch};
use scte35_reader::{Scte35SectionProcessor, SpliceCommand, SpliceDescriptors, SpliceInfoHeader, SpliceInfoProcessor};
use serde_json::{Value, json};
use tempfile::TempDir;
use ts_lab::{CUES, Encoder, Packet, Wire};

const SECOND: u64 = 90_000;
/// Where the programme's clock begins: five seconds before the first of the standard's samples takes effect.
const EPOCH: u64 = 21_383 * SECOND;
/// A PID that no PMT lists.
const STRAY: u16 = 0x1f7;

/// A splice_info_section with this command and these descriptors (9.6).
fn splice(adjustment: u64, kind: u8, command: &[u8], descriptors: &[u8]) -> Vec<u8> {
    let length = command.len() as u16;
    let mut body = vec![0];
    body.extend(&adjustment.to_be_bytes()[3..]);
    body.extend([0xff, 0xff, 0xf0 | (length >> 8) as u8, length as u8, kind]);
    body.extend(command);
    body.extend((descriptors.len() as u16).to_be_bytes());
    body.extend(descriptors);
    let mut section = vec![0xfc];
    section.extend((0x3000 | (body.len() as u16 + 4)).to_be_bytes());
    section.extend(body);
    section.extend(ts_lab::crc32(&section));
    section
}

/// splice_time() with a time (9.8.1).
fn time(pts: u64) -> Vec<u8> {
    let mut bytes = vec![0xfe | (pts >> 32) as u8 & 1];
    bytes.extend((pts as u32).to_be_bytes());
    bytes
}

/// A splice_insert of the whole programme (9.7.3): out of the network with a duration, or back; at once without a time.
fn insert(event: u32, out_of_network: bool, at: Option<u64>, duration: Option<u64>) -> Vec<u8> {
    let mut command = event.to_be_bytes().to_vec();
    let flag = |set: bool, bit: u8| u8::from(set) << bit;
    command.extend([
        0x7f,
        flag(out_of_network, 7) | 0x40 | flag(duration.is_some(), 5) | flag(at.is_none(), 4) | 0x0f,
    ]);
    command.extend(at.map(time).unwrap_or_default());
    if let Some(duration) = duration {
        // auto_return is bit 7, what time() leaves free.
        command.extend(time(duration));
    }
    command.extend([0, 9, 1, 2]);
    splice(0, 5, &command, &[])
}

/// It is taken back.
fn cancel(event: u32) -> Vec<u8> {
    splice(0, 5, &[&event.to_be_bytes()[..], &[0xff]].concat(), &[])
}

/// A segmentation_descriptor with an advertisement's Ad-ID (10.3.3).
fn segmentation(event: u32, kind: u8, duration: Option<u64>) -> Vec<u8> {
    let mut body = b"CUEI".to_vec();
    body.extend(event.to_be_bytes());
    body.extend([0x7f, 0xbf | u8::from(duration.is_some()) << 6]);
    if let Some(duration) = duration {
        body.extend(&duration.to_be_bytes()[3..]);
    }
    body.extend([3, 12]);
    body.extend(b"ABCD01234567");
    body.extend([kind, 1, 2]);
    [&[2, body.len() as u8][..], &body].concat()
}

fn time_signal(at: u64, descriptors: &[Vec<u8>]) -> Vec<u8> {
    splice(0, 6, &time(at), &descriptors.concat())
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hexadecimal");
    hex.as_bytes().chunks(2).map(digits).collect()
}

/// The samples of ANSI/SCTE 35 2020, section 14: a placement opportunity begins, a splice_insert, and it ends; a programme
/// ends and another begins.
const SAMPLES: [&str; 4] = [
    "fc3034000000000000fffff00506fe72bd0050001e021c435545494800008e7fcf0001a599b00808000000002ca0a18a3402009ac9d17e",
    "fc302f000000000000fffff014054800008f7feffe7369c02efe0052ccf500000000000a0008435545490000013562dba30a",
    "fc302f000000000000fffff00506fe746290a000190217435545494800008e7f9f0808000000002ca0a18a350200a9cc6758",
    "fc3048000000000000fffff00506fe7a4d88b60032021743554549480000187f9f0808000000002ccbc344110000021743554549480000197f\
     9f0808000000002ca4dba01000009972e343",
];

/// A programme and the sections in it, each with the PTS at which it was sent.
struct Programme {
    encoder: Encoder,
    packets: Vec<Packet>,
    sent: Vec<(u64, Vec<u8>)>,
}

impl Programme {
    fn new(epoch: u64) -> Programme {
        let mut encoder = Encoder::with_cues();
        encoder.epoch = epoch;
        let packets = encoder.frames(10);
        Programme {
            encoder,
            packets,
            sent: Vec::new(),
        }
    }

    /// The PTS of the next frame.
    fn now(&self) -> u64 {
        self.encoder.pts() + 3600
    }

    /// Sends a section with the next frame, and nine more frames.
    fn send_on(&mut self, pid: u16, section: &[u8]) {
        self.encoder.send_section(pid, section);
        self.sent.push((self.now(), section.to_vec()));
        self.packets.extend(self.encoder.frames(10));
    }

    fn send(&mut self, section: &[u8]) {
        self.send_on(CUES, section);
    }

    fn file(&self, directory: &Path) -> std::path::PathBuf {
        put(directory, "cues.ts", self.packets.as_flattened())
    }

    /// The programme on the wire, in RTP.
    fn wire(&self) -> Wire {
        let mut wire = Wire::new();
        for packets in self.packets.chunks(7) {
            let packet = wire.rtp_packet(packets.as_flattened());
            wire.put(&packet);
            wire.pass();
        }
        wire
    }
}

/// Everything that is right: announced, repeated, taken back, at once, by segmentation; and the standard's own samples.
fn programme_of_cues() -> Programme {
    let mut programme = Programme::new(EPOCH);
    for sample in SAMPLES {
        programme.send(&bytes(sample));
    }
    let out = insert(1, true, Some(programme.now() + 6 * SECOND), Some(30 * SECOND));
    programme.send(&out);
    programme.send(&splice(0, 0, &[], &[]));
    programme.send(&out);
    programme.send(&out);
    programme.send(&insert(2, true, Some(programme.now() + 8 * SECOND), None));
    programme.send(&cancel(2));
    programme.send(&insert(3, true, None, Some(15 * SECOND)));
    programme.send(&insert(3, false, None, None));
    let at = programme.now() + 5 * SECOND;
    programme.send(&time_signal(at, &[segmentation(10, 0x30, Some(30 * SECOND))]));
    programme.send(&time_signal(at + 30 * SECOND, &[segmentation(10, 0x31, None)]));
    // Moved onto the programme's time line by pts_adjustment.
    let at = programme.now() + 7 * SECOND;
    programme.send(&splice(at - 1000, 6, &time(1000), &segmentation(11, 0x22, None)));
    programme
}

packet_filter_switch! {
    Filter<Demux> {
        Pat: demultiplex::PatPacketFilter<Demux>,
        Pmt: demultiplex::PmtPacketFilter<Demux>,
        Splice: SpliceFilter,
        Null: demultiplex::NullPacketFilter<Demux>,
    }
}
demux_context!(Demux, Filter);

impl Demux {
    fn do_construct(&mut self, request: demultiplex::FilterRequest<'_, '_>) -> Filter {
        match request {
            demultiplex::FilterRequest::ByPid(packet::Pid::PAT) => Filter::Pat(Default::default()),
            demultiplex::FilterRequest::Pmt { pid, program_number } => {
                Filter::Pmt(demultiplex::PmtPacketFilter::new(pid, program_number))
            }
            demultiplex::FilterRequest::ByStream { stream_type, pmt, .. }
                if stream_type == scte35_reader::SCTE35_STREAM_TYPE && scte35_reader::is_scte35(pmt) =>
            {
                Filter::Splice(SpliceFilter::default())
            }
            _ => Filter::Null(Default::default()),
        }
    }
}

type Sections = CompactSyntaxSectionProcessor<BufferCompactSyntaxParser<Scte35SectionProcessor<Oracle, Demux>>>;

struct SpliceFilter(SectionPacketConsumer<Sections>);

impl Default for SpliceFilter {
    fn default() -> Self {
        let sections = BufferCompactSyntaxParser::new(Scte35SectionProcessor::new(Oracle));
        SpliceFilter(SectionPacketConsumer::new(CompactSyntaxSectionProcessor::new(sections)))
    }
}

impl demultiplex::PacketFilter for SpliceFilter {
    type Ctx = Demux;

    fn consume(&mut self, context: &mut Demux, packet: &packet::Packet<'_>) {
        self.0.consume(context, packet);
    }
}

thread_local! {
    /// What the oracle has read: pts_adjustment, command and descriptors of each section.
    static READ: RefCell<Vec<(u64, Value, Vec<Value>)>> = const { RefCell::new(Vec::new()) };
}

struct Oracle;

impl SpliceInfoProcessor for Oracle {
    fn process(&self, header: SpliceInfoHeader<'_>, command: SpliceCommand, descriptors: SpliceDescriptors<'_>) {
        let value = |descriptor: Result<scte35_reader::SpliceDescriptor, _>| {
            serde_json::to_value(descriptor.expect("a sound descriptor")).expect("JSON")
        };
        let read = (
            header.pts_adjustment(),
            serde_json::to_value(command).expect("JSON"),
            descriptors.into_iter().map(value).collect(),
        );
        READ.with_borrow_mut(|all| all.push(read));
    }
}

/// The announced sections of a file as `scte35-reader` reads them, in the words of the report: a splice_insert is a cue, and
/// each segmentation descriptor is.
fn by_scte35_reader(packets: &[Packet]) -> Vec<Value> {
    let mut demux = Demux::new();
    READ.take();
    demultiplex::Demultiplex::new(&mut demux).push(&mut demux, packets.as_flattened());
    READ.take().iter().flat_map(cues_of_oracle).collect()
}

fn cues_of_oracle((adjustment, command, descriptors): &(u64, Value, Vec<Value>)) -> Vec<Value> {
    let adjusted = |time: &Value| Some((time["Timed"].as_u64()? + adjustment) % (1 << 33));
    let of_insert = |insert: &Value| {
        let detail = &insert["splice_detail"]["Insert"];
        let mode = &detail["splice_mode"]["Program"];
        json!({
            "command": "splice-insert", "of_segmentation": false, "event_id": insert["splice_event_id"],
            "cancels": insert["splice_detail"] == "Cancel",
            "out_of_network": detail["network_indicator"].as_str().map(|indicator| indicator == "Out"),
            "immediate": mode == "Immediate", "pts": adjusted(mode),
            "duration_ms": detail["duration"]["duration"].as_u64().map(|ticks| ticks / 90),
            "auto_return": detail["duration"]["return_mode"].as_str().map(|mode| mode == "Automatic"),
            "segmentation": null, "segment": null,
        })
    };
    let of_segmentation = |descriptor: &Value| {
        let detail = &descriptor["descriptor_detail"]["Insert"];
        let kind = detail["segmentation_type_id"].as_str().expect("a type");
        json!({
            "command": "time-signal", "of_segmentation": true, "event_id": descriptor["segmentation_event_id"],
            "cancels": descriptor["descriptor_detail"] == "Cancel",
            "out_of_network": leaves(kind), "immediate": false,
            "pts": adjusted(&command["TimeSignal"]["splice_time"]),
            "duration_ms": detail["segmentation_duration"].as_u64().map(|ticks| ticks / 90),
            "auto_return": null, "segmentation": kebab(kind),
            "segment": [detail["segment_num"], detail["segments_expected"]],
        })
    };
    let insert = command.get("SpliceInsert").map(of_insert);
    let segmentations = descriptors
        .iter()
        .filter_map(|descriptor| descriptor.get("SegmentationDescriptor"));
    insert.into_iter().chain(segmentations.map(of_segmentation)).collect()
}

/// Whether a segmentation by the oracle's name begins or ends what may be replaced.
fn leaves(kind: &str) -> Option<bool> {
    let replaceable = ["Break", "Advertisement", "PlacementOpportunity", "AdBlock"];
    if !replaceable.iter().any(|word| kind.contains(word)) {
        return None;
    }
    Some(kind.ends_with("Start"))
}

fn kebab(name: &str) -> String {
    let mut words = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !words.is_empty() {
            words.push('-');
        }
        words.extend(letter.to_lowercase());
    }
    words
}

/// The part of a report's cue that an oracle knows.
fn known(cue: &Value, keys: &Value) -> Value {
    let keys = keys.as_object().expect("an object").keys();
    keys.map(|key| (key.clone(), cue[key].clone()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn cues(report: &Value) -> Vec<Value> {
    report["streams"][0]["scte35"].as_array().expect("an array").clone()
}

#[test]
fn cues_are_what_scte35_reader_reads() {
    let programme = programme_of_cues();
    let directory = TempDir::new().unwrap();
    let told = inspect_json(&programme.file(directory.path()));
    let report = told.report();
    let (cues, expected) = (cues(&report), by_scte35_reader(&programme.packets));
    let of_oracle: Vec<Value> = cues.iter().zip(&expected).map(|(cue, keys)| known(cue, keys)).collect();
    assert_eq!(of_oracle, expected);
    // A splice_null is none, one sample has two segmentations.
    assert_eq!((cues.len(), programme.sent.len()), (15, 15));
    assert_eq!(told.code, Some(0), "{report:#}");
    assert!(cues.iter().all(|cue| cue["announced"] == true && cue["pid"] == CUES));
    let splice = &report["streams"][0]["splice"];
    assert_eq!(
        splice["commands"],
        json!({"splice-insert": 8, "splice-null": 1, "time-signal": 6})
    );
    assert_eq!(splice["findings"], json!({}));
    let repeats: Vec<_> = cues
        .iter()
        .filter(|cue| cue["event_id"] == 1)
        .map(|cue| &cue["repeat"])
        .collect();
    assert_eq!(repeats, [0, 1, 2]);
    let taken_back: Vec<_> = cues
        .iter()
        .filter(|cue| cue["cancelled"] == true)
        .map(|cue| &cue["event_id"])
        .collect();
    assert_eq!(
        (taken_back, number(splice, "/repeats"), number(splice, "/cancels")),
        (vec![&json!(2)], 2, 1)
    );
}

#[test]
fn a_capture_tells_the_cues_of_its_file() {
    let programme = programme_of_cues();
    let directory = TempDir::new().unwrap();
    let file = inspect_json(&programme.file(directory.path())).report();
    let (told, events) = programme.wire().events_by("");
    let capture = told.report();
    assert_eq!((cues(&capture), told.code), (cues(&file), Some(0)), "{capture:#}");
    assert_eq!(capture["streams"][0]["splice"], file["streams"][0]["splice"]);
    let told: Vec<_> = events
        .iter()
        .filter(|event| event["event"] == "cue")
        .map(|event| &event["event_id"])
        .collect();
    assert_eq!(
        told,
        cues(&capture).iter().map(|cue| &cue["event_id"]).collect::<Vec<_>>(),
        "each is told"
    );
}

/// Where the test puts `threefive` if the machine has none, beside the project's other tools.
const PACKAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/tools/python");

fn python(arguments: &[&str]) -> std::io::Result<std::process::Output> {
    Command::new("python3")
        .env("PYTHONPATH", PACKAGES)
        .args(arguments)
        .output()
}

/// Whether `threefive` is there, or can be had.
fn has_threefive() -> bool {
    let works = |arguments: &[&str]| python(arguments).is_ok_and(|output| output.status.success());
    let pip = "-m pip install --quiet --disable-pip-version-check --retries 1 --timeout 10 threefive==3.1.5 --target";
    let pip: Vec<&str> = pip.split(' ').chain([PACKAGES]).collect();
    works(&["-c", "import threefive"]) || works(&pip) && works(&["-c", "import threefive"])
}

/// The cues of a file as `threefive` reads them; `None` where it is not there.
fn by_threefive(file: &Path) -> Option<Vec<Value>> {
    const SCRIPT: &str = "import sys, json, threefive\n\
        threefive.Stream(sys.argv[1]).decode(func=lambda cue: print(json.dumps(cue.get())))\n";
    if !has_threefive() {
        eprintln!(
            "SKIPPED: the Python package threefive is not there and cannot be had; scte35-reader alone was asked"
        );
        return None;
    }
    let output = python(&["-c", SCRIPT, &file.display().to_string()]).expect("python3");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).expect("UTF-8");
    Some(
        lines
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect(),
    )
}

/// Milliseconds of a number of seconds.
fn ms(seconds: &Value) -> Option<i64> {
    seconds.as_f64().map(|seconds| (seconds * 1000.0).round() as i64)
}

#[test]
fn cues_and_their_pre_rolls_are_what_threefive_reads() {
    let programme = programme_of_cues();
    let directory = TempDir::new().unwrap();
    let file = programme.file(directory.path());
    let Some(read) = by_threefive(&file) else { return };
    let cues = cues(&inspect_json(&file).report());
    let mut ours = cues.iter();
    for cue in &read {
        let (command, adjustment) = (&cue["command"], &cue["info_section"]["pts_adjustment"]);
        let preroll = |time: &Value| Some(ms(time)? + ms(adjustment)? - ms(&cue["packet_data"]["pts"])?);
        if command["name"] == "Splice Insert" {
            let told = ours.next().expect("as many");
            assert_eq!(told["event_id"], command["splice_event_id"]);
            assert_eq!(told["cancels"], command["splice_event_cancel_indicator"]);
            assert_near(&told["preroll_ms"], preroll(&command["pts_time"]));
            assert_near(&told["duration_ms"], ms(&command["break_duration"]));
        }
        for descriptor in cue["descriptors"].as_array().expect("an array") {
            if descriptor["name"] != "Segmentation Descriptor" {
                continue;
            }
            let told = ours.next().expect("as many");
            let hex = format!("{:#04x}", told["event_id"].as_u64().expect("a number"));
            assert_eq!(json!(hex), descriptor["segmentation_event_id"]);
            assert_eq!(told["segmentation_type"], descriptor["segmentation_type_id"]);
            let name = descriptor["segmentation_message"]
                .as_str()
                .expect("a name")
                .to_lowercase();
            assert_eq!(told["segmentation"], json!(name.replace(' ', "-")));
            assert_eq!(told["upid_type"], descriptor["segmentation_upid_type"]);
            assert_near(&told["preroll_ms"], preroll(&command["pts_time"]));
            assert_near(&told["duration_ms"], ms(&descriptor["segmentation_duration"]));
        }
    }
    assert!(ours.next().is_none() && read.len() >= 14, "{} sections", read.len());
}

/// Equal but for the rounding of a millisecond.
fn assert_near(told: &Value, expected: Option<i64>) {
    match (told.as_i64(), expected) {
        (Some(told), Some(expected)) => assert!((told - expected).abs() <= 1, "{told} {expected}"),
        (told, expected) => assert_eq!(told, expected),
    }
}

#[test]
fn pre_rolls_are_counted_from_the_pts_of_the_moment_over_the_wrap_too() {
    for epoch in [EPOCH, (1 << 33) - 3 * SECOND] {
        let mut programme = Programme::new(epoch);
        for ahead in [6 * SECOND, 4 * SECOND, 90, 0] {
            let at = (programme.now() + ahead) % (1 << 33);
            programme.send(&insert(ahead as u32, true, Some(at), None));
        }
        let past = (programme.now() + (1 << 33) - 2 * SECOND) % (1 << 33);
        programme.send(&time_signal(past, &[segmentation(5, 0x30, None)]));
        let directory = TempDir::new().unwrap();
        let report = inspect_json(&programme.file(directory.path())).report();
        let told: Vec<_> = cues(&report).iter().map(|cue| cue["preroll_ms"].clone()).collect();
        assert_eq!(told, [6000, 4000, 1, 0, -2000], "{epoch}");
    }
}

#[test]
fn a_section_of_several_packets_is_put_together() {
    let mut programme = Programme::new(EPOCH);
    let descriptors: Vec<_> = (0..12).map(|event| segmentation(event, 0x30, Some(SECOND))).collect();
    let at = programme.now() + 5 * SECOND;
    programme.send(&time_signal(at, &descriptors));
    assert!(programme.sent[0].1.len() > 2 * 184);
    let directory = TempDir::new().unwrap();
    let cues = cues(&inspect_json(&programme.file(directory.path())).report());
    let expected = by_scte35_reader(&programme.packets);
    assert_eq!((cues.len(), expected.len()), (12, 12));
    let of_oracle: Vec<_> = cues.iter().zip(&expected).map(|(cue, keys)| known(cue, keys)).collect();
    assert_eq!(of_oracle, expected);
}

/// What is made of a section that is sent alone, under a rule: code, worst state, conditions raised, findings told.
fn consequence(send: impl Fn(&mut Programme), scte35: &str) -> (Option<i32>, String, Vec<String>, Value) {
    let mut programme = Programme::new(EPOCH);
    send(&mut programme);
    programme.packets.extend(programme.encoder.frames(50));
    let (told, events) = programme
        .wire()
        .events_by(&format!("[rule.ts]\nscte35 = {{ {scte35} }}\n"));
    let report = told.report();
    assert_eq!(streams(&report), 1, "{report:#}");
    let raised = events.iter().filter(|event| event["event"] == "condition-raised");
    let raised: Vec<_> = raised
        .map(|event| event["condition"].as_str().expect("a name").to_owned())
        .collect();
    let told_of = events.iter().filter(|event| event["event"] == "cue-finding").count() as u64;
    let findings = report["streams"][0]["splice"]["findings"].clone();
    let found: u64 = findings
        .as_object()
        .expect("an object")
        .values()
        .filter_map(Value::as_u64)
        .sum();
    assert_eq!(told_of, found, "each is an event");
    let worst = text(&report, "/streams/0/worst_state").to_owned();
    (told.code, worst, raised, findings)
}

fn ahead(seconds: u64) -> impl Fn(&mut Programme) {
    move |programme| {
        let at = programme.now() + seconds * SECOND;
        programme.send(&insert(1, true, Some(at), Some(30 * SECOND)));
    }
}

#[test]
fn a_pre_roll_is_too_short_where_the_rule_sets_a_least_one() {
    let clean = (Some(0), "healthy".to_owned(), vec![], json!({}));
    assert_eq!(consequence(ahead(6), "min_preroll = \"4s\""), clean);
    assert_eq!(consequence(ahead(4), "min_preroll = \"4s\""), clean);
    assert_eq!(consequence(ahead(1), ""), clean, "nothing is asked for");
    let short = |worst: &str| {
        (
            Some(1),
            worst.to_owned(),
            vec!["scte35".to_owned()],
            json!({"short-preroll": 1}),
        )
    };
    assert_eq!(consequence(ahead(3), "min_preroll = \"4s\""), short("degraded"));
    assert_eq!(
        consequence(ahead(3), "min_preroll = \"4s\", on_exceed = \"block\""),
        short("blocked")
    );
    let immediate = |programme: &mut Programme| programme.send(&insert(1, true, None, None));
    assert_eq!(consequence(immediate, "min_preroll = \"4s\""), short("degraded"));
    let signal = |programme: &mut Programme| {
        let at = programme.now() + 3 * SECOND;
        programme.send(&time_signal(at, &[segmentation(1, 0x30, None)]));
    };
    assert_eq!(consequence(signal, "min_preroll = \"4s\""), short("degraded"));
    // A repetition comes nearer to the splice point than the first, as it should.
    let repeated = |programme: &mut Programme| {
        let section = insert(1, true, Some(programme.now() + 4 * SECOND + 45_000), None);
        (0..5).for_each(|_| programme.send(&section));
    };
    assert_eq!(consequence(repeated, "min_preroll = \"4s\""), clean);
}

#[test]
fn a_bad_crc_is_found_and_what_it_guards_is_not_believed() {
    let damaged = |programme: &mut Programme| {
        let mut section = insert(1, true, Some(programme.now() + 6 * SECOND), None);
        section[20] ^= 1;
        programme.send(&section);
        assert_eq!(by_scte35_reader(&programme.packets).len(), 0);
    };
    let found = json!({"bad-crc": 1});
    let (code, worst, raised, findings) = consequence(damaged, "");
    assert_eq!((code, worst.as_str(), findings), (Some(1), "degraded", found.clone()));
    assert!(raised.contains(&"scte35".to_owned()), "{raised:?}");
    let (code, _, raised, findings) = consequence(damaged, "bad_crc = false");
    assert_eq!(
        (code, findings),
        (Some(1), found),
        "a bad CRC is one, whatever it guards"
    );
    assert!(!raised.contains(&"scte35".to_owned()), "{raised:?}");
    let mut programme = Programme::new(EPOCH);
    damaged(&mut programme);
    let report = programme.wire().observed().report();
    assert_eq!(
        (cues(&report).len(), number(&report, "/streams/0/ts/crc_errors")),
        (0, 1)
    );
}

#[test]
fn a_cue_on_a_pid_that_no_pmt_announces_is_found() {
    let stray = |programme: &mut Programme| {
        let section = insert(1, true, Some(programme.now() + 6 * SECOND), None);
        programme.send_on(STRAY, &section);
        assert_eq!(by_scte35_reader(&programme.packets).len(), 0);
    };
    let found = json!({"unannounced": 1});
    let raised = vec!["scte35".to_owned()];
    assert_eq!(
        consequence(stray, ""),
        (Some(1), "degraded".to_owned(), raised, found.clone())
    );
    assert_eq!(
        consequence(stray, "unannounced = false"),
        (Some(0), "healthy".to_owned(), vec![], found)
    );
    let mut programme = Programme::new(EPOCH);
    stray(&mut programme);
    let cue = &cues(&programme.wire().observed().report())[0];
    assert_eq!(
        (&cue["announced"], &cue["pid"], &cue["event_id"]),
        (&json!(false), &json!(STRAY), &json!(1))
    );
}

#[test]
fn an_encrypted_section_is_told_and_no_fault() {
    let encrypted = |programme: &mut Programme| {
        let mut section = splice(0, 5, &[0xaa; 20], &[]);
        section.truncate(section.len() - 4);
        section[4] = 0x80 | 2 << 1;
        section.extend(ts_lab::crc32(&section));
        programme.send(&section);
    };
    let told = consequence(encrypted, "min_preroll = \"4s\"");
    assert_eq!(told, (Some(0), "healthy".to_owned(), vec![], json!({"encrypted": 1})));
}
