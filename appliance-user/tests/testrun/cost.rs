//! What the program costs by itself, in the kernel's test run: how much longer a packet takes than in a program that drops
//! at once. It asserts nothing of time; run it by name on a quiet machine.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use ipnet::IpNet;
use tidegate_common::wire::protocol;

use crate::fixtures::*;
use crate::testrun::{BareDrop, Bench, now};
use crate::{DROP, REDIRECT, TX, settings};

/// Runs of a packet in one measurement; the kernel refuses more than a million at a time on some versions.
const REPEAT: u32 = 1_000_000;
/// Measurements, each with the bare program's right before it.
const ROUNDS: usize = 9;

/// The middle of the differences between this program and the bare one, and of the bare one alone.
fn cost(bench: &Bench, bare: &BareDrop, packet: &[u8], action: u32) -> (i64, i64) {
    let mut rounds: Vec<(i64, i64)> = (0..ROUNDS)
        .map(|_| {
            let floor = i64::from(bare.run(packet, REPEAT).nanoseconds);
            let run = bench
                .try_run(packet, packet.len(), REPEAT)
                .expect("the kernel runs the program");
            assert_eq!(run.action, action);
            (i64::from(run.nanoseconds) - floor, floor)
        })
        .collect();
    rounds.sort_unstable();
    rounds[ROUNDS / 2]
}

/// Host prefixes from 10.0.0.0 on, in steps that spread them over several /16.
fn list(bench: &mut Bench, count: u32) {
    let prefix = |number| IpNet::from(IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + number * 38)));
    let prefixes: Vec<_> = (0..count).map(|number| (prefix(number), None)).collect();
    bench.list_all(0, &prefixes);
}

fn media(source: Ipv4Addr) -> Vec<u8> {
    wrapped(v4(source, DESTINATION, protocol::UDP, &udp(5004, 5000, 1316))).bytes()
}

#[test]
#[ignore = "measures"]
fn nanoseconds_of_a_packet() {
    let bare = BareDrop::load();
    println!("prefixes | flood, far | flood, near | admitted | stale beat (ns above a bare XDP_DROP)");
    for count in [0, 10, 100, 1_000, 10_000] {
        let mut bench = Bench::load();
        bench.configure(&settings());
        let began = Instant::now();
        list(&mut bench, count);
        let filled = began.elapsed();
        bench.open_socket();
        let far = media(Ipv4Addr::new(198, 51, 100, 9));
        // An unlisted neighbour of a listed address.
        let near = media(Ipv4Addr::from_bits(0x0a00_0000 + count / 2 * 38 + 1));
        let listed = media(Ipv4Addr::from_bits(0x0a00_0000 + count / 2 * 38));
        bench.list(
            0,
            IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + count / 2 * 38)),
            32,
            None,
        );
        let (far, floor) = cost(&bench, &bare, &far, DROP);
        let (near, _) = cost(&bench, &bare, &near, DROP);
        bench.beat(now() + 3_600_000_000_000);
        let (admitted, _) = cost(&bench, &bare, &listed, REDIRECT);
        bench.beat(0);
        let (stale, _) = cost(&bench, &bare, &listed, TX);
        println!("{count:8} | {far:10} | {near:11} | {admitted:8} | {stale:10}   floor {floor}, listed in {filled:?}");
    }
}
