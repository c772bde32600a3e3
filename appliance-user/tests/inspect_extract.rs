//! `tidegate inspect --extract`: each stream's TS in the order in which it was sent, and what was told of it.
#![cfg(feature = "appliance")]

mod inspect_support;

use std::fs;
use std::path::Path;

use inspect_support::*;
use serde_json::Value;
use tempfile::TempDir;

/// Runs inspect over an input with its evidence in `folder`.
fn extract(input: &Path, folder: &Path) -> Told {
    inspect([
        "--format".as_ref(),
        "json".as_ref(),
        "--extract".as_ref(),
        folder.as_os_str(),
        input.as_os_str(),
    ])
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn events(folder: &Path, name: &str) -> Vec<Value> {
    let text = fs::read_to_string(folder.join(name)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn media_comes_out_in_the_order_in_which_it_was_sent_without_copies_and_forgeries() {
    let dir = TempDir::new().unwrap();
    let mut order: Vec<u16> = (0..400).filter(|n| ![100, 101].contains(n)).collect();
    order.swap(50, 53);
    order.insert(200, 190);
    let mut packets: Vec<_> = order.iter().map(|n| rtp_ts(*n, 7)).collect();
    packets.insert(300, rtp(33, 9000, 7, &ts_datagram(0)));
    let frames = packets
        .into_iter()
        .map(|payload| ethernet(&udp(address("10.0.0.1:5004"), address("10.0.0.2:5000"), &payload)));
    let capture = put(dir.path(), "x.pcap", &pcap(&timed(2000, frames)));
    let folder = dir.path().join("evidence");
    let told = extract(&capture, &folder);
    assert_eq!((told.code, streams(&told.report())), (Some(1), 1));
    assert_eq!(names(&folder), ["x.pcap-1-rtp-5004.ts", "x.pcap-events.jsonl"]);
    let sent: Vec<u8> = (0..400)
        .filter(|n| ![100, 101].contains(n))
        .flat_map(|n: u16| rtp_ts(n, 7)[12..].to_vec())
        .collect();
    assert!(fs::read(folder.join("x.pcap-1-rtp-5004.ts")).unwrap() == sent);
    let told = events(&folder, "x.pcap-events.jsonl");
    let named = |name: &str| told.iter().find(|event| event["event"] == name);
    assert_eq!(named("stream-appeared").unwrap()["stream"]["source"], "10.0.0.1:5004");
    assert_eq!(named("finding").unwrap()["finding"], "out-of-window");
    assert!(told.iter().all(|event| event["time"].is_string()));

    let again = extract(&capture, &folder);
    assert_eq!(again.code, Some(2));
    assert!(
        again.report()["error"].as_str().unwrap().contains("never overwritten"),
        "{:#}",
        again.report()
    );
}

#[test]
fn events_come_in_the_order_of_time_whoever_waited_for_his_verdict() {
    let dir = TempDir::new().unwrap();
    let frame = |source: &str, payload: &[u8]| ethernet(&udp(address(source), address("10.0.0.2:5000"), payload));
    // A sender whose losses are judged when its window is over, and others that appear meanwhile.
    let numbers = (0..600_u16).filter(|n| n % 100 != 50);
    let mut packets: Vec<Timed> = numbers
        .map(|n| (u64::from(n) * 10_000, frame("10.0.0.1:5004", &rtp_ts(n, 7))))
        .collect();
    packets.extend((0..600_u32).map(|n| {
        let source = format!("10.0.1.{}:5004", n / 10 + 1);
        (u64::from(n) * 10_000 + 5000, frame(&source, &ts_datagram(n % 10)))
    }));
    packets.sort_by_key(|(time, _)| *time);
    let capture = put(dir.path(), "x.pcap", &pcap(&packets));
    let folder = dir.path().join("evidence");
    extract(&capture, &folder);
    let times: Vec<String> = events(&folder, "x.pcap-events.jsonl")
        .iter()
        .map(|event| event["time"].as_str().unwrap().to_owned())
        .collect();
    assert!(times.len() > 60 && times.is_sorted(), "{times:#?}");
}

#[test]
fn inputs_of_the_same_name_are_numbered() {
    let dir = TempDir::new().unwrap();
    let inputs = ["a", "b", "c"].map(|folder| {
        fs::create_dir(dir.path().join(folder)).unwrap();
        put(
            &dir.path().join(folder),
            "x.ts",
            ts_packet(0x100, 0, 0).repeat(20).as_slice(),
        )
    });
    let folder = dir.path().join("evidence");
    let mut arguments = vec!["--extract".as_ref(), folder.as_os_str()];
    arguments.extend(inputs.iter().map(|input| input.as_os_str()));
    let told = inspect(arguments);
    assert_eq!(told.code, Some(1), "{told:?}");
    let wanted = ["x.ts", "x.ts-2", "x.ts-3"].map(|name| [format!("{name}-1-file.ts"), format!("{name}-events.jsonl")]);
    let mut wanted = wanted.concat();
    wanted.sort();
    assert_eq!(names(&folder), wanted);
}

#[test]
fn packets_of_a_file_come_out_without_time_stamps_parity_and_what_lies_between() {
    let packets: Vec<[u8; 188]> = (0..500_u32).map(|n| ts_packet(0x100, n as u8, n as u8)).collect();
    let plain = packets.as_flattened();
    for (name, before, after) in [("plain.ts", 0, 0), ("blue.m2ts", 4, 0), ("parity.ts", 0, 16)] {
        let dir = TempDir::new().unwrap();
        let file: Vec<u8> = packets
            .iter()
            .flat_map(|packet| [vec![1; before], packet.to_vec(), vec![2; after]].concat())
            .collect();
        let input = put(dir.path(), name, &file);
        let folder = dir.path().join("evidence");
        extract(&input, &folder);
        assert!(
            fs::read(folder.join(format!("{name}-1-file.ts"))).unwrap() == plain,
            "{name}"
        );
    }
}
