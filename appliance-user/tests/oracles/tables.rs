//! Programmes and their components by programs that read tables: of ffmpeg's and of GStreamer's multiplexers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use mpeg2ts_reader::demultiplex::{
    Demultiplex, DemuxContext, FilterChangeset, FilterRequest, NullPacketFilter, PatPacketFilter, PmtPacketFilter,
};
use mpeg2ts_reader::{packet_filter_switch, psi};
use serde_json::Value;
use tempfile::TempDir;

use crate::inspect_support::{Timed, address, ethernet, inspect_json, pcap, put, rtp, udp};

/// A programme as every oracle tells it: PMT's PID, PCR's PID, stream_type of each component's PID.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Programme {
    pmt_pid: u16,
    pcr_pid: u16,
    components: BTreeMap<u16, u8>,
}

/// Programmes by their numbers.
type Programmes = BTreeMap<u16, Programme>;

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|e| panic!("{program} is needed by this test (cargo xtask setup): {e}"));
    assert!(
        output.status.success(),
        "{program}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Two programmes with numbers of their own: H.264 and AAC, MPEG-2 video and AC-3.
fn by_ffmpeg(directory: &Path) -> PathBuf {
    let file = directory.join("two.ts");
    let inputs = "-f lavfi -i testsrc2=size=320x240:rate=25 -f lavfi -i sine=frequency=440 \
                  -f lavfi -i testsrc=size=160x120:rate=25 -f lavfi -i sine=frequency=220";
    let coding = "-t 2 -map 0 -map 1 -map 2 -map 3 -c:v:0 libx264 -preset ultrafast -c:a:0 aac -c:v:1 mpeg2video -c:a:1 ac3 \
                  -program title=one:program_num=7:st=0:st=1 -program title=two:program_num=9:st=2:st=3";
    let mut arguments = vec!["-nostdin", "-v", "error"];
    arguments.extend(inputs.split_whitespace().chain(coding.split_whitespace()));
    let path = file.display().to_string();
    arguments.extend(["-muxrate", "4M", "-f", "mpegts", &path]);
    run("ffmpeg", &arguments);
    file
}

/// One programme with PIDs that ffmpeg does not choose.
fn by_gstreamer(directory: &Path) -> PathBuf {
    let file = directory.join("one.ts");
    let pipeline = format!(
        "-q videotestsrc num-buffers=50 ! video/x-raw,format=I420,width=352,height=288,framerate=25/1 ! \
         openh264enc bitrate=1000000 ! h264parse ! mpegtsmux bitrate=2500000 ! filesink location={}",
        file.display()
    );
    run("gst-launch-1.0", &pipeline.split_whitespace().collect::<Vec<_>>());
    file
}

/// The same stream in RTP, 3 ms between datagrams.
fn as_capture(file: &Path) -> PathBuf {
    let bytes = std::fs::read(file).expect("a stream");
    let frames: Vec<Timed> = (0..)
        .zip(bytes.chunks(7 * 188))
        .map(|(n, payload)| {
            let packet = rtp(33, n as u16, 7, payload);
            let frame = ethernet(&udp(address("10.0.0.1:5004"), address("10.0.0.2:5000"), &packet));
            (n * 3000, frame)
        })
        .collect();
    let name = format!("{}.pcap", file.file_stem().expect("a name").to_string_lossy());
    put(file.parent().expect("a directory"), &name, &pcap(&frames))
}

/// The number behind a text, hexadecimal with `0x`.
fn after(line: &str, text: &str) -> u16 {
    let rest = line
        .split_once(text)
        .unwrap_or_else(|| panic!("{text:?} in {line:?}"))
        .1;
    let word = rest.split_whitespace().next().expect("a word");
    match word.strip_prefix("0x") {
        Some(hex) => u16::from_str_radix(hex, 16),
        None => word.parse(),
    }
    .unwrap_or_else(|e| panic!("{e}: {line:?}"))
}

/// What libdvbpsi's `dvbinfo` prints of PAT and PMTs.
fn by_dvbinfo(file: &Path) -> Programmes {
    let text = run("dvbinfo", &["-f", &file.display().to_string(), "--summary=table"]);
    let mut programmes = Programmes::new();
    let mut current = 0;
    for line in text.lines() {
        if line.contains("@ pid: ") {
            let programme = Programme {
                pmt_pid: after(line, "@ pid: "),
                ..Programme::default()
            };
            programmes.insert(after(line, "| "), programme);
            continue;
        }
        if line.contains("Program number :") {
            current = after(line, "Program number : ");
        }
        let Some(programme) = programmes.get_mut(&current) else {
            continue;
        };
        if line.contains("PCR_PID ") {
            programme.pcr_pid = after(line, ": ");
        }
        if line.contains("@ pid 0x") {
            let kind = after(line, "| ") as u8;
            programme.components.insert(after(line, "@ pid "), kind);
        }
    }
    programmes
}

/// What tstools' `tsinfo` prints: the PAT, and the PMT of its first programme.
fn by_tsinfo(file: &Path) -> Programmes {
    let text = run("tsinfo", &[&file.display().to_string()]);
    let bracketed = |line: &str| -> u16 {
        let number = line.rsplit_once('(').expect("a number").1;
        number.trim_matches([' ', ')']).parse().expect("decimal")
    };
    let mut programmes = Programmes::new();
    for line in text.lines().map(str::trim_start) {
        if line.starts_with("Program ") && line.contains("-> PID") {
            let programme = Programme {
                pmt_pid: bracketed(line),
                ..Programme::default()
            };
            programmes.insert(after(line, "Program "), programme);
        } else if line.starts_with("Program ") && line.contains("PCR PID") {
            let number = line["Program ".len()..].split(',').next().expect("a number");
            let programme = programmes.get_mut(&number.parse().expect("decimal"));
            programme.expect("in the PAT").pcr_pid = bracketed(line);
        } else if line.starts_with("PID ") && line.contains("-> Stream type") {
            let (pid, kind) = line.split_once("-> Stream type").expect("an arrow");
            let kind = kind.split_once(')').expect("a bracket").0;
            // Of the first programme only, and of the others nothing.
            let first = programmes.values_mut().next().expect("a PAT");
            first.components.insert(bracketed(pid), bracketed(kind) as u8);
        }
    }
    programmes
}

packet_filter_switch! {
    Filters<Tables> {
        Pat: PatPacketFilter<Tables>,
        Pmt: PmtPacketFilter<Tables>,
        Null: NullPacketFilter<Tables>,
    }
}

/// What `mpeg2ts-reader` asks filters for while it reads PAT and PMTs is what these list.
#[derive(Default)]
#[expect(unreachable_pub, reason = "the macro above makes it part of a public type")]
pub struct Tables {
    changeset: FilterChangeset<Filters>,
    programmes: Programmes,
}

impl DemuxContext for Tables {
    type F = Filters;

    fn filter_changeset(&mut self) -> &mut FilterChangeset<Filters> {
        &mut self.changeset
    }

    fn construct(&mut self, request: FilterRequest<'_, '_>) -> Filters {
        match request {
            FilterRequest::ByPid(psi::pat::PAT_PID) => Filters::Pat(PatPacketFilter::default()),
            FilterRequest::Pmt { pid, program_number } => {
                self.programmes.entry(program_number).or_default().pmt_pid = pid.into();
                Filters::Pmt(PmtPacketFilter::new(pid, program_number))
            }
            FilterRequest::ByStream {
                program_pid,
                stream_type,
                pmt,
                stream_info,
            } => {
                let mut programmes = self.programmes.values_mut();
                let of_pid = programmes.find(|programme| programme.pmt_pid == u16::from(program_pid));
                let programme = of_pid.expect("the PAT came first");
                programme.pcr_pid = pmt.pcr_pid().into();
                let pid = u16::from(stream_info.elementary_pid());
                programme.components.insert(pid, u8::from(stream_type));
                Filters::Null(NullPacketFilter::default())
            }
            FilterRequest::ByPid(_) | FilterRequest::Nit { .. } => Filters::Null(NullPacketFilter::default()),
        }
    }
}

fn by_mpeg2ts_reader(file: &Path) -> Programmes {
    let mut tables = Tables::default();
    let mut demultiplex = Demultiplex::new(&mut tables);
    demultiplex.push(&mut tables, &std::fs::read(file).expect("a stream"));
    tables.programmes
}

/// What the report says, whose PIDs must say the same.
fn by_tidegate(input: &Path) -> Programmes {
    let report = inspect_json(input).report();
    let stream = &report["streams"][0];
    let number = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("{value} in {stream:#}")) as u16;
    let programmes = stream["ts"]["programmes"].as_array();
    let programmes: Programmes = programmes
        .unwrap_or_else(|| panic!("{stream:#}"))
        .iter()
        .map(|programme| {
            let components = programme["components"].as_array().expect("components");
            let components = components
                .iter()
                .map(|component| (number(&component["pid"]), number(&component["stream_type"]) as u8));
            let read = Programme {
                pmt_pid: number(&programme["pmt_pid"]),
                pcr_pid: number(&programme["pcr_pid"]),
                components: components.collect(),
            };
            (number(&programme["number"]), read)
        })
        .collect();
    let all: BTreeMap<u16, u8> = programmes.values().flat_map(|one| one.components.clone()).collect();
    for pid in stream["ts"]["pids"].as_array().expect("PIDs") {
        let expected = all.get(&number(&pid["pid"])).map(|kind| u64::from(*kind));
        assert_eq!(pid["stream_type"].as_u64(), expected, "{pid}");
    }
    programmes
}

#[test]
fn programmes_are_those_that_table_readers_list() {
    let directory = TempDir::new().expect("a directory");
    for (file, count) in [(by_ffmpeg(directory.path()), 2), (by_gstreamer(directory.path()), 1)] {
        let truth = by_dvbinfo(&file);
        assert_eq!(truth.len(), count);
        assert!(
            truth
                .values()
                .all(|one| one.pcr_pid > 0 && one.components.len() == count),
            "{truth:?}"
        );
        assert_eq!(by_mpeg2ts_reader(&file), truth);
        // It reads the PMT of the first programme only.
        let mut first = truth.clone();
        for other in first.values_mut().skip(1) {
            (other.pcr_pid, other.components) = Default::default();
        }
        assert_eq!(by_tsinfo(&file), first);
        assert_eq!(by_tidegate(&file), truth);
        assert_eq!(by_tidegate(&as_capture(&file)), truth);
    }
}
