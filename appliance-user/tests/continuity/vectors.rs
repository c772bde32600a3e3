//! TSDuck's own test streams for its `continuity` plugin: third-party data that is read where it lies and not copied here.
//! The packet numbers that its logs name are the ones that the judge must find.

use std::io::Write;
use std::path::PathBuf;

use tidegate::engine::media::mpegts::Content;

use crate::material::{Packet, judge_file, pid, split};

/// The vectors beside the workspace, or where `TIDEGATE_VECTORS` says; `None`, loudly, where they are not.
fn vectors(test: &str) -> Option<PathBuf> {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors");
    let directory = std::env::var_os("TIDEGATE_VECTORS")
        .map_or_else(beside, PathBuf::from)
        .join("tsduck-test");
    if directory.is_dir() {
        return Some(directory);
    }
    // Past the test harness, which swallows the output of tests that pass.
    let _ = writeln!(
        std::io::stderr(),
        "NOT TESTED: {test}: no third-party vectors at {}",
        directory.display()
    );
    None
}

/// Places of the packets that the judge finds wrong, judged packet by packet.
fn offending(packets: &[Packet]) -> Vec<(usize, u16)> {
    let count = |packets: &[Packet]| judge_file(packets, Content::Full).1.len();
    (0..packets.len())
        .filter(|place| count(&packets[..=*place]) > count(&packets[..*place]))
        .map(|place| (place, pid(&packets[place])))
        .collect()
}

/// Packet numbers and PIDs of a log of TSDuck, of the plugin with this tag.
fn logged(text: &str, tag: &str) -> Vec<(usize, u16)> {
    let number = |line: &str, before: &str, after: char| -> Option<usize> {
        let rest = line.split_once(before)?.1;
        rest.split_once(after)?.0.replace(',', "").parse().ok()
    };
    let of_tag = text
        .lines()
        .filter(|line| line.starts_with(&format!("* continuity: {tag}packet index")));
    of_tag
        .map(|line| {
            let place = number(line, "packet index: ", ',').expect("a packet index");
            (place, number(line, "(", ')').expect("a PID") as u16)
        })
        .collect()
}

#[test]
fn copies_jumps_and_increments_without_payload() {
    let Some(directory) = vectors("TSDuck test 041") else {
        return;
    };
    let packets = split(&std::fs::read(directory.join("test-041.ts")).expect("the stream"));
    let log = std::fs::read_to_string(directory.join("ref-041/test-041.tsp.log")).expect("the log");
    let expected = logged(&log, "first: ");
    assert_eq!(expected.len(), 3, "the log was read");
    assert_eq!(offending(&packets), expected);
    // The second plugin of that run saw what the first one had let pass, repaired it, and had nothing to report but what
    // cannot be repaired: the third copy.
    let repaired = split(&std::fs::read(directory.join("ref-041/test-041.tsp.2.ts")).expect("the repaired stream"));
    assert_eq!(offending(&repaired), [(9, 123)]);
}

#[test]
fn true_and_false_duplicates() {
    let Some(directory) = vectors("TSDuck test 049") else {
        return;
    };
    let packets = split(&std::fs::read(directory.join("ref-049/test-049.in.ts")).expect("the stream"));
    let log = std::fs::read_to_string(directory.join("ref-049/test-049.out.log")).expect("the log");
    let expected = logged(&log, "");
    assert_eq!(expected.len(), 2, "the log was read");
    assert_eq!(offending(&packets), expected);
    let (judge, _) = judge_file(&packets, Content::Full);
    assert_eq!(judge.ts().duplicates, 2, "one plain, one with another PCR");
    let repaired = split(&std::fs::read(directory.join("ref-049/test-049.out.ts")).expect("the repaired stream"));
    assert_eq!(offending(&repaired), []);
}
