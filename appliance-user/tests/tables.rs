//! Tables and time stamps of streams that ffmpeg made, as ffprobe and tshark read them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;
use tidegate::engine::media::mpegts::pes;
use tidegate::engine::media::mpegts::psi::{Pat, Pmt};
use tidegate::engine::media::mpegts::section::{Assembler, MAX_SECTION, Section, SectionError};
use tidegate::engine::media::mpegts::si::Sdt;
use tidegate::engine::media::mpegts::stream_type;

/// What is told of one PMT: programme, version, PCR PID, and stream_type and PID of each component.
type PmtTold = (u16, u8, u16, Vec<(u8, u16)>);

/// What a file's tables say, in its order.
#[derive(Debug, Default)]
struct Tables {
    /// CRC-32 of every sound section with one.
    crcs: Vec<u32>,
    bad_crcs: usize,
    pats: Vec<Vec<(u16, u16)>>,
    pmts: Vec<PmtTold>,
    names: BTreeMap<u16, String>,
    /// PTS and stream_id of each PES packet, by PID.
    pts: BTreeMap<u16, Vec<u64>>,
}

impl Tables {
    fn of(file: &Path) -> Self {
        let bytes = std::fs::read(file).expect("the file that was made");
        let (packets, odd) = bytes.as_chunks::<188>();
        assert_eq!(odd.len(), 0);
        let mut tables = Tables::default();
        let mut assemblers: BTreeMap<u16, Assembler> = [(0, Assembler::default()), (0x11, Assembler::default())].into();
        for packet in packets {
            let pid = u16::from_be_bytes([packet[1], packet[2]]) & 0x1fff;
            let Some(assembler) = assemblers.get_mut(&pid) else {
                if let Ok(pts) = pes::header(packet).map(|header| header.pts) {
                    tables.pts.entry(pid).or_default().extend(pts);
                }
                continue;
            };
            assembler.packet(packet, false, MAX_SECTION, &mut |section| tables.enter(section));
            let pmt_pids = tables.pats.last().into_iter().flatten().map(|(_, pid)| *pid);
            pmt_pids.for_each(|pid| {
                assemblers.entry(pid).or_default();
            });
        }
        tables
    }

    fn enter(&mut self, bytes: Result<&[u8], SectionError>) {
        let section = match Section::read(bytes.expect("ffmpeg carries sections as it should")) {
            Ok(section) => section,
            Err(error) => {
                assert_eq!(error, SectionError::Crc);
                self.bad_crcs += 1;
                return;
            }
        };
        self.crcs.extend(section.crc);
        if let Ok(pat) = Pat::read(&section) {
            self.pats.push(pat.programmes().collect());
        }
        if let Ok(pmt) = Pmt::read(&section) {
            let components = pmt
                .components()
                .map(|stream| (stream.stream_type, stream.pid))
                .collect();
            self.pmts
                .push((pmt.programme, pmt.version, pmt.pcr_pid.unwrap_or(0x1fff), components));
        }
        if let Ok(sdt) = Sdt::read(&section) {
            self.names
                .extend(sdt.services().filter_map(|service| Some((service.id, service.name()?))));
        }
    }
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .expect("the tool is installed");
    assert!(
        output.status.success(),
        "{program}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("text")
}

/// Two programmes: H.264 and AAC, MPEG-2 video and AC-3.
fn two_programmes(directory: &Path) -> PathBuf {
    let file = directory.join("two.ts");
    let inputs = "-v error -f lavfi -i testsrc=s=160x90:r=25 -f lavfi -i sine -f lavfi -i testsrc2=s=160x90:r=25 -f lavfi -i sine=800";
    let output = "-t 4 -map 0 -map 1 -map 2 -map 3 -c:v:0 libx264 -c:v:1 mpeg2video -c:a:0 aac -c:a:1 ac3 \
                  -program title=One:st=0:st=1 -program title=Two:st=2:st=3 -f mpegts";
    ffmpeg(&format!("{inputs} {output}"), &file);
    file
}

/// One programme whose tables have this version.
fn one_programme(file: &Path, version: u8, streams: &str) {
    let inputs = "-v error -f lavfi -i testsrc=s=160x90:r=25 -f lavfi -i sine";
    ffmpeg(
        &format!("{inputs} -t 2 {streams} -tables_version {version} -f mpegts"),
        file,
    );
}

fn ffmpeg(arguments: &str, file: &Path) {
    let name = file.to_string_lossy();
    run(
        "ffmpeg",
        &arguments.split_whitespace().chain([&*name]).collect::<Vec<_>>(),
    );
}

/// The sections in a file as tshark reads them: the named fields, one line each where the first is there.
fn tshark(file: &Path, fields: &[&str]) -> Vec<Vec<String>> {
    let name = file.to_string_lossy();
    let mut arguments = vec!["-r", &*name, "-o", "mpeg_sect.verify_crc:TRUE", "-T", "fields"];
    fields.iter().for_each(|field| arguments.extend(["-e", *field]));
    let lines = run("tshark", &arguments);
    let rows = lines
        .lines()
        .map(|line| line.split('\t').map(str::to_owned).collect::<Vec<_>>());
    rows.filter(|row| !row[0].is_empty()).collect()
}

/// Comma-separated numbers, hexadecimal with 0x.
fn numbers(list: &str) -> Vec<u64> {
    let number = |digits: &str| match digits.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).expect("hexadecimal"),
        None => digits.parse().expect("a number"),
    };
    list.split(',')
        .filter(|digits| !digits.is_empty())
        .map(number)
        .collect()
}

/// The PMTs in a file as tshark reads them.
fn pmts_of_tshark(file: &Path) -> Vec<PmtTold> {
    let fields = [
        "mpeg_pmt.pg_num",
        "mpeg_pmt.version",
        "mpeg_pmt.pcr_pid",
        "mpeg_pmt.stream.type",
        "mpeg_pmt.stream.elementary_pid",
    ];
    let rows = tshark(file, &fields);
    let told = rows.iter().map(|row| {
        let [programme, version, pcr] = [0, 1, 2].map(|field| numbers(&row[field])[0]);
        let pids = numbers(&row[4]).into_iter().map(|pid| pid as u16);
        let components = numbers(&row[3]).into_iter().map(|kind| kind as u8).zip(pids);
        (programme as u16, version as u8, pcr as u16, components.collect())
    });
    told.collect()
}

#[test]
fn two_programmes_are_what_ffprobe_says() {
    let directory = TempDir::new().unwrap();
    let file = two_programmes(directory.path());
    let told = Tables::of(&file);
    let name = file.to_string_lossy();
    let probed: Value = serde_json::from_str(&run(
        "ffprobe",
        &["-v", "error", "-show_programs", "-of", "json", &*name],
    ))
    .unwrap();
    let programmes = probed["programs"].as_array().unwrap();
    assert_eq!(programmes.len(), 2);
    let (pat, number) = (told.pats.last().unwrap(), |value: &Value| {
        value.as_u64().unwrap() as u16
    });
    for (probed, (listed, pmt_pid)) in programmes.iter().zip(pat) {
        assert_eq!(
            (number(&probed["program_id"]), number(&probed["pmt_pid"])),
            (*listed, *pmt_pid)
        );
        assert_eq!(
            probed["tags"]["service_name"].as_str(),
            told.names.get(listed).map(String::as_str)
        );
        let (_, _, pcr_pid, components) = told.pmts.iter().rfind(|pmt| pmt.0 == *listed).unwrap();
        assert_eq!(number(&probed["pcr_pid"]), *pcr_pid);
        let streams = probed["streams"].as_array().unwrap().iter().map(|stream| {
            let codec = match stream["codec_name"].as_str().unwrap() {
                "mpeg2video" => "mpeg2-video",
                other => other,
            };
            (codec.to_owned(), numbers(stream["id"].as_str().unwrap())[0] as u16)
        });
        let ours = components
            .iter()
            .map(|(kind, pid)| (stream_type::name(*kind).to_owned(), *pid));
        assert_eq!(ours.collect::<Vec<_>>(), streams.collect::<Vec<_>>());
    }
}

#[test]
fn every_section_is_what_tshark_says() {
    let directory = TempDir::new().unwrap();
    let file = two_programmes(directory.path());
    let told = Tables::of(&file);
    let crcs: Vec<_> = tshark(&file, &["mpeg_sect.crc"])
        .iter()
        .flat_map(|row| numbers(&row[0]))
        .collect();
    assert!(crcs.len() > 50, "{}", crcs.len());
    assert_eq!(told.crcs.iter().map(|crc| u64::from(*crc)).collect::<Vec<_>>(), crcs);
    assert_eq!(told.pmts, pmts_of_tshark(&file));
    let pats = tshark(&file, &["mpeg_pat.prog_num", "mpeg_pat.prog_map_pid"]);
    let pats = pats.iter().map(|row| {
        numbers(&row[0])
            .into_iter()
            .zip(numbers(&row[1]))
            .map(|(n, p)| (n as u16, p as u16))
            .collect()
    });
    assert_eq!(told.pats, pats.collect::<Vec<Vec<_>>>());
}

#[test]
fn damaged_sections_are_those_that_tshark_finds() {
    let directory = TempDir::new().unwrap();
    let file = two_programmes(directory.path());
    let mut bytes = std::fs::read(&file).unwrap();
    let (packets, _) = bytes.as_chunks_mut::<188>();
    let mut damaged = 0;
    for (place, packet) in packets.iter_mut().enumerate() {
        // Every third packet of the first programme's PMT, in its last component's stream_type.
        if u16::from_be_bytes([packet[1], packet[2]]) & 0x1fff == 0x1000 && place % 3 == 0 {
            packet[17] ^= 0x40;
            damaged += 1;
        }
    }
    let broken = directory.path().join("broken.ts");
    std::fs::write(&broken, bytes).unwrap();
    assert!(damaged > 3);
    let found = tshark(&broken, &["mpeg_sect.crc.status"])
        .iter()
        .filter(|row| row[0] == "0" || row[0] == "Bad")
        .count();
    assert_eq!((Tables::of(&broken).bad_crcs, found), (damaged, damaged));
}

#[test]
fn a_version_change_in_the_middle_of_a_file_is_seen() {
    let directory = TempDir::new().unwrap();
    let [first, second, both] = ["first.ts", "second.ts", "both.ts"].map(|name| directory.path().join(name));
    one_programme(&first, 3, "-map 0 -map 1 -c:v libx264 -c:a aac");
    one_programme(&second, 4, "-map 0 -map 1 -map 1 -c:v mpeg2video -c:a:0 mp2 -c:a:1 ac3");
    std::fs::write(
        &both,
        [std::fs::read(&first).unwrap(), std::fs::read(&second).unwrap()].concat(),
    )
    .unwrap();
    let told = Tables::of(&both);
    assert_eq!(told.pmts, pmts_of_tshark(&both));
    let mut versions: Vec<_> = told
        .pmts
        .iter()
        .map(|(_, version, _, components)| (*version, components.clone()))
        .collect();
    versions.dedup();
    let before = vec![(0x1b, 0x100), (0x0f, 0x101)];
    let after = vec![(0x02, 0x100), (0x03, 0x101), (0x81, 0x102)];
    assert_eq!(versions, [(3, before), (4, after)]);
}

#[test]
fn time_stamps_of_every_pes_packet_are_what_ffprobe_says() {
    let directory = TempDir::new().unwrap();
    let file = two_programmes(directory.path());
    let told = Tables::of(&file);
    let name = file.to_string_lossy();
    for (pid, stream) in [(0x100, "i:0x100"), (0x102, "i:0x102")] {
        let arguments = [
            "-v",
            "error",
            "-select_streams",
            stream,
            "-show_entries",
            "packet=pts",
            "-of",
            "csv=p=0",
            &*name,
        ];
        let lines = run("ffprobe", &arguments);
        // Side data of a packet makes lines without one.
        let stamps = lines
            .lines()
            .map(|line| line.trim_end_matches(','))
            .filter(|line| !line.is_empty());
        let probed: Vec<u64> = stamps.map(|stamp| stamp.parse().expect("a PTS")).collect();
        // ffmpeg sends video one access unit to a PES packet, in the order of decoding.
        assert!(probed.len() >= 99);
        assert_eq!(told.pts[&pid], probed, "{stream}");
    }
}
