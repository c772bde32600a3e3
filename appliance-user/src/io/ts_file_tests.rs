//! Transport stream files of every layout, whole and damaged; those that ffmpeg writes are the independent ones.

use std::process::Command;

use proptest::prelude::*;

use super::*;

/// A packet whose bytes depend on its number and hold no further sync byte.
fn packet(number: usize) -> [u8; PACKET_SIZE] {
    let mut packet = [0u8; PACKET_SIZE];
    for (i, byte) in packet.iter_mut().enumerate() {
        *byte = ((number * 13 + i * 5) % 64) as u8;
    }
    packet[0] = SYNC;
    packet[1..5].copy_from_slice(&(number as u32).to_be_bytes().map(|b| if b == SYNC { 0 } else { b }));
    packet
}

fn file(count: usize, stride: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in 0..count {
        bytes.extend(std::iter::repeat_n(0xa5, if stride == 192 { 4 } else { 0 }));
        bytes.extend(packet(number));
        bytes.extend(std::iter::repeat_n(0xb6, if stride == 204 { 16 } else { 0 }));
    }
    bytes
}

struct Read {
    packets: Vec<(u64, [u8; PACKET_SIZE])>,
    gaps: Vec<u64>,
    counts: TsCounts,
    error: Option<TsFileError>,
}

fn read(bytes: &[u8]) -> Read {
    let mut reader = TsReader::new(bytes).expect("a transport stream");
    let mut read = Read {
        packets: Vec::new(),
        gaps: Vec::new(),
        counts: TsCounts::default(),
        error: None,
    };
    while let Some(batch) = reader.next_batch() {
        match batch {
            Ok(batch) => {
                read.packets
                    .extend(batch.packets().map(|(offset, packet)| (offset, *packet)));
                read.gaps.extend(Some(batch.skipped()).filter(|&gap| gap > 0));
            }
            Err(e) => read.error = Some(e),
        }
    }
    read.counts = reader.counts();
    assert_eq!(read.counts.packets, read.packets.len() as u64);
    read
}

#[test]
fn every_layout_reads_as_written_across_batches() {
    for stride in STRIDES {
        let lead = if stride == 192 { 4 } else { 0 };
        // More than two batches.
        let bytes = file(12_000, stride);
        assert_eq!(detect(&bytes, false), Some(Layout { stride, start: lead }));
        let read = read(&bytes);
        assert!(read.error.is_none(), "{:?}", read.error);
        assert_eq!(read.packets.len(), 12_000);
        for (number, (offset, bytes)) in read.packets.iter().enumerate() {
            assert_eq!((*offset, *bytes), ((number * stride + lead) as u64, packet(number)));
        }
        assert_eq!(
            read.counts,
            TsCounts {
                packets: 12_000,
                skipped: 0,
                sync_losses: 0
            }
        );
    }
}

#[test]
fn a_packet_whose_parity_is_not_there_yet_waits_for_it() {
    let window = &file(6, 204)[..5 * 204 + 190];
    assert_eq!(good_packets(window, 204, false).packets, 5);
    assert_eq!(
        good_packets(window, 204, true).packets,
        6,
        "unless it is the file's last"
    );
}

#[test]
fn a_few_packets_are_a_file_too_but_only_whole_ones() {
    for stride in STRIDES {
        for count in 1..5 {
            let bytes = file(count, stride);
            assert_eq!(read(&bytes).packets.len(), count, "{count} packets of {stride}");
            assert!(TsReader::new(&bytes[..bytes.len() - 1]).is_err());
        }
    }
    assert!(matches!(
        TsReader::new(&b""[..]),
        Err(TsFileError::Foreign { searched: 0 })
    ));
    assert!(matches!(
        TsReader::new(&vec![0u8; 200_000][..]),
        Err(TsFileError::Foreign { searched: SEARCH })
    ));
}

#[test]
fn bytes_before_the_first_packet_are_skipped_and_counted() {
    let mut bytes = vec![0x11; 1_000];
    bytes.extend(file(50, 188));
    let read = read(&bytes);
    assert_eq!(read.packets.len(), 50);
    assert_eq!(read.packets[0].0, 1_000);
    assert_eq!(
        (read.counts.skipped, read.counts.sync_losses, read.gaps),
        (1_000, 0, vec![1_000])
    );
}

#[test]
fn one_bad_sync_byte_loses_nothing_two_lose_synchronisation() {
    let mut bytes = file(100, 188);
    bytes[40 * 188] = 0;
    let lone = read(&bytes);
    assert_eq!((lone.packets.len(), lone.counts.sync_losses), (100, 0));
    assert_eq!(lone.packets[40].1[0], 0, "handed out as it is");

    bytes[41 * 188] = 0;
    let lost = read(&bytes);
    assert_eq!(
        lost.counts,
        TsCounts {
            packets: 98,
            skipped: 2 * 188,
            sync_losses: 1
        }
    );
    assert_eq!(lost.packets[40], (42 * 188, packet(42)));
    assert_eq!(lost.gaps, [2 * 188]);
}

#[test]
fn packets_go_on_after_bytes_were_inserted_or_removed() {
    for (layout, lead) in [(188, 0u64), (204, 0), (192, 4)] {
        let mut bytes = file(100, layout);
        bytes.splice(50 * layout..50 * layout, [0u8; 77]);
        let read = read(&bytes);
        // Packet 50 begins 77 bytes later; nothing but the inserted bytes is lost.
        let (offset, found) = read.packets[50];
        assert_eq!(
            (offset, found),
            ((50 * layout) as u64 + 77 + lead, packet(50)),
            "{layout}"
        );
        assert_eq!((read.packets.len(), read.counts.sync_losses), (100, 1));
        assert_eq!(read.counts.skipped, 77, "{layout}");
    }
}

#[test]
fn an_unfinished_packet_is_one_error_at_the_end() {
    let bytes = file(30, 188);
    let read = read(&bytes[..bytes.len() - 10]);
    assert_eq!(read.packets.len(), 29);
    let error = read.error.expect("the last packet is cut");
    assert!(
        matches!(error, TsFileError::Truncated { packet: 30, offset, available: 178 } if offset == 29 * 188),
        "{error:?}"
    );
}

#[test]
fn an_end_without_synchronisation_is_skipped_and_counted() {
    let mut bytes = file(30, 188);
    bytes.extend([0u8; 2_000]);
    let read = read(&bytes);
    assert_eq!(
        read.counts,
        TsCounts {
            packets: 30,
            skipped: 2_000,
            sync_losses: 1
        }
    );
}

proptest! {
    #[test]
    fn every_byte_is_in_a_packet_or_skipped_or_in_the_cut_one(
        damage in proptest::collection::vec((0usize..40 * 188, any::<u8>()), 0..60),
        cut in 0usize..2_000,
    ) {
        let mut bytes = file(40, 188);
        for (at, value) in damage {
            bytes[at] = value;
        }
        bytes.truncate(bytes.len() - cut);
        let Ok(_) = TsReader::new(bytes.as_slice()) else { return Ok(()) };
        let read = read(&bytes);
        let cut = match read.error {
            Some(TsFileError::Truncated { available, .. }) => available as u64,
            _ => 0,
        };
        prop_assert_eq!(read.counts.packets * 188 + read.counts.skipped + cut, bytes.len() as u64);
        for (offset, packet) in read.packets {
            prop_assert_eq!(&packet[..], &bytes[offset as usize..offset as usize + 188]);
        }
    }
}

#[test]
fn files_that_ffmpeg_writes_are_read_whole() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut payloads = Vec::new();
    for (mode, stride) in [("0", 188), ("1", 192)] {
        let path = directory.path().join(format!("{stride}.ts"));
        let path = path.to_str().expect("UTF-8");
        let source = [
            "-f",
            "lavfi",
            "-i",
            "testsrc=duration=2:size=320x240",
            "-c:v",
            "mpeg2video",
        ];
        let flags = [
            "-y",
            "-loglevel",
            "error",
            "-fflags",
            "+bitexact",
            "-flags:v",
            "+bitexact",
        ];
        let sink = ["-f", "mpegts", "-mpegts_m2ts_mode", mode, "-muxrate", "5M", path];
        let status = Command::new("ffmpeg").args(flags).args(source).args(sink).status();
        let status = status.expect("this test compares with ffmpeg, which cannot be run: install it");
        assert!(status.success());
        let bytes = std::fs::read(path).expect("read");
        let read = read(&bytes);
        assert!(read.error.is_none(), "{:?}", read.error);
        assert_eq!(read.packets.len(), bytes.len() / stride);
        assert_eq!((bytes.len() % stride, read.counts.skipped), (0, 0));
        payloads.push(read.packets.len());
    }
    assert!(payloads[0] > 1_000, "{payloads:?}");
}
