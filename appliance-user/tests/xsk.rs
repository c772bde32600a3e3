//! The AF_XDP socket on a real interface: a veth pair between two private namespaces, with a packet socket of the kernel as
//! the independent peer. Needs root.
#![cfg(feature = "appliance")]

mod xsk_lab;

use std::time::{Duration, Instant};

use tidegate::io::interface;
use tidegate::io::{
    BindMode, Burst, BusyPoll, Fate, Feature, FlushError, OpenError, Opened, Packet, Socket, SocketConfig,
};
use xsk_lab::{Lab, frame, until};

const NOW: Duration = Duration::ZERO;

/// The kernel gives a closed socket's queue free a little later, as it does after a SIGKILL.
const PATIENCE: Duration = Duration::from_secs(5);

fn config() -> SocketConfig {
    SocketConfig {
        frames: 4096,
        ring_size: 2048,
        bind: BindMode::Copy,
        ..SocketConfig::new(Lab::NEAR, 0)
    }
}

fn open(lab: &Lab, config: &SocketConfig) -> (Socket, Opened) {
    lab.near(|| Socket::open(config, PATIENCE)).expect("the socket opens")
}

/// Receives until `count` packets have come, handing each to `each`.
fn receive(socket: &mut Socket, count: usize, mut each: impl FnMut(&mut Socket, Packet)) {
    let mut burst = Burst::with_capacity(64);
    let mut seen = 0;
    until("receive", || {
        socket.wait(Duration::from_millis(20)).expect("poll");
        seen += socket.receive(&mut burst);
        for packet in burst.drain() {
            each(socket, packet);
        }
        socket.flush().expect("flush");
        seen >= count
    });
    assert_eq!(seen, count);
}

/// Flushes until the driver has given every sent frame back.
fn settle(socket: &mut Socket) {
    until("transmit", || {
        socket.flush().expect("flush");
        socket.frames().transmit == 0
    });
}

fn contents(packet: &Packet) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet.copy_into(&mut bytes);
    bytes
}

#[test]
fn what_was_sent_is_received_and_what_is_returned_arrives() {
    let lab = Lab::new(1500);
    let (mut socket, _) = open(&lab, &config());
    let _steering = lab.steer_near(socket.fd());
    let wire = lab.wire();
    let total = socket.frames().total;
    let mut sent = Vec::new();
    for number in 0..2_000 {
        let bytes = frame(number, 64 + (number as usize * 7) % 1_450);
        wire.send(&bytes);
        sent.push(bytes);
    }
    let mut received = Vec::new();
    receive(&mut socket, sent.len(), |socket, mut packet| {
        received.push(contents(&packet));
        packet.head_mut()[0] = 0x06;
        socket.send(packet).expect("the ring has room for a burst");
    });
    assert!(received == sent, "bytes or order differ");
    for bytes in &mut sent {
        bytes[0] = 0x06;
        assert_eq!(wire.receive().as_deref(), Some(bytes.as_slice()));
    }
    settle(&mut socket);
    let account = socket.frames();
    assert!(account.is_balanced(), "{account:?}");
    assert_eq!((account.total, account.receive, account.transmit), (total, 0, 0));
    assert_eq!((socket.lost_and_found(), socket.too_long()), (0, 0));
    let statistics = socket.statistics().expect("statistics");
    assert_eq!(
        (
            statistics.rx_dropped,
            statistics.rx_ring_full,
            statistics.tx_invalid_descs
        ),
        (0, 0, 0)
    );
}

#[test]
fn every_frame_is_accounted_after_100_000_packets_with_a_full_ring() {
    const PACKETS: u64 = 100_000;
    let lab = Lab::new(1500);
    // Rings so small that the worker below, which flushes only now and then and sends two packets for one, finds its
    // transmit ring full.
    let small = SocketConfig {
        ring_size: 64,
        frames: 256,
        frame_size: 2048,
        ..config()
    };
    let (mut worker, _) = open(&lab, &small);
    let generator_config = SocketConfig {
        interface: Lab::FAR.to_owned(),
        ..config()
    };
    let (mut generator, _) = lab
        .far(|| Socket::open(&generator_config, NOW))
        .expect("the generator opens");
    let _near = lab.steer_near(worker.fd());
    let _far = lab.steer_far(generator.fd());

    let (mut burst, mut echoes) = (Burst::with_capacity(48), Burst::with_capacity(64));
    let (mut sent, mut received, mut made, mut returned, mut refused, mut echoed) =
        (0u64, 0u64, 0u64, 0u64, 0u64, 0u64);
    let mut turn = 0;
    until("100,000 packets", || {
        turn += 1;
        let kernel = worker.statistics().expect("statistics");
        let in_flight = sent - received - kernel.rx_dropped - kernel.rx_ring_full;
        // More than the veth's own ring of 256 would be lost where no counter of the socket sees it.
        for _ in 0..if in_flight < 128 { 32 } else { 0 } {
            if let Some(packet) = generator.allocate(&frame(sent as u32, 200)) {
                match generator.send(packet) {
                    Ok(()) => sent += 1,
                    Err(packet) => generator.recycle(packet),
                }
            }
        }
        generator.flush().expect("flush");
        received += worker.receive(&mut burst) as u64;
        for packet in burst.drain() {
            let second = worker.allocate(&frame(turn, 100));
            made += second.iter().len() as u64;
            for packet in std::iter::once(packet).chain(second) {
                match worker.send(packet) {
                    Ok(()) => returned += 1,
                    Err(packet) => {
                        refused += 1;
                        worker.recycle(packet);
                    }
                }
            }
            let account = worker.frames();
            assert!(account.is_balanced(), "{account:?}");
        }
        if turn % 4 == 0 {
            worker.flush().expect("flush");
        }
        echoed += generator.receive(&mut echoes) as u64;
        echoes.drain().for_each(|packet| generator.recycle(packet));
        received >= PACKETS
    });
    assert!(refused > 0, "the transmit ring was never full: the test does not test");
    assert_eq!(received + made, returned + refused);
    settle(&mut worker);
    settle(&mut generator);
    // What the small rings could not take, the kernel has counted; the rest is on its way.
    until("the last packets", || {
        received += worker.receive(&mut burst) as u64;
        burst.drain().for_each(|packet| worker.recycle(packet));
        worker.flush().expect("flush");
        echoed += generator.receive(&mut echoes) as u64;
        echoes.drain().for_each(|packet| generator.recycle(packet));
        let kernel = worker.statistics().expect("statistics");
        sent == received + kernel.rx_dropped + kernel.rx_ring_full
    });
    assert!(echoed > 0 && echoed <= returned);
    for socket in [&worker, &generator] {
        let account = socket.frames();
        assert!(account.is_balanced(), "{account:?}");
        assert_eq!((account.receive, account.transmit, socket.lost_and_found()), (0, 0, 0));
        assert_eq!(socket.statistics().expect("statistics").tx_invalid_descs, 0);
    }
}

#[test]
fn second_socket_waits_and_then_says_that_the_queue_is_taken() {
    let lab = Lab::new(1500);
    let (first, _) = open(&lab, &config());
    let started = Instant::now();
    let error = lab.near(|| Socket::open(&config(), Duration::from_millis(100)).map(|_| ()));
    assert!(
        matches!(error, Err(OpenError::QueueTaken { queue: 0, .. })),
        "{error:?}"
    );
    assert!(started.elapsed() >= Duration::from_millis(100));
    // The queue comes free while the second one waits for it.
    let second = std::thread::scope(|scope| {
        let second = scope.spawn(|| lab.near(|| Socket::open(&config(), Duration::from_secs(5)).map(|_| ())));
        std::thread::sleep(Duration::from_millis(100));
        drop(first);
        second.join().expect("no panic")
    });
    second.expect("the queue is free again");
}

#[test]
fn refusals_name_what_is_missing() {
    let lab = Lab::new(1500);
    let refused = |config: SocketConfig| {
        lab.near(|| Socket::open(&config, NOW).map(|_| ()))
            .expect_err("refused")
    };
    let error = refused(SocketConfig { queue: 7, ..config() });
    assert!(
        matches!(
            error,
            OpenError::MissingQueue {
                queue: 7,
                queues: 1,
                ..
            }
        ),
        "{error:?}"
    );
    let error = refused(SocketConfig {
        queue: 7,
        bind: BindMode::Auto,
        ..config()
    });
    assert!(
        matches!(
            error,
            OpenError::MissingQueue {
                queue: 7,
                queues: 1,
                ..
            }
        ),
        "{error:?}"
    );
    let error = refused(SocketConfig {
        interface: "tg-none".into(),
        ..config()
    });
    assert!(matches!(error, OpenError::NoInterface { .. }), "{error:?}");
    let error = refused(SocketConfig {
        bind: BindMode::ZeroCopy,
        ..config()
    });
    assert!(matches!(error, OpenError::NoZeroCopy { .. }), "{error:?}");
    for wrong in [
        SocketConfig {
            frame_size: 8192,
            ..config()
        },
        SocketConfig {
            ring_size: 1000,
            ..config()
        },
        SocketConfig { frames: 0, ..config() },
    ] {
        assert!(matches!(refused(wrong), OpenError::Config { .. }));
    }
}

#[test]
fn without_the_capability_permission_is_what_is_missing() {
    use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
    let lab = Lab::new(1500);
    // Capabilities belong to the thread, and this one ends with the closure.
    let error = lab.near(|| {
        let none = CapabilitySet::empty();
        let sets = CapabilitySets {
            effective: none,
            permitted: none,
            inheritable: none,
        };
        set_capabilities(None, sets).expect("anyone may give up capabilities");
        Socket::open(&config(), NOW).map(|_| ())
    });
    assert!(matches!(error, Err(OpenError::Permission)), "{error:?}");
}

#[test]
fn fallbacks_are_told_with_their_reason() {
    let lab = Lab::new(1500);
    let wishes = SocketConfig {
        bind: BindMode::Auto,
        huge_pages: true,
        ..config()
    };
    let (socket, opened) = open(&lab, &wishes);
    let reason = |feature| opened.fallbacks.iter().find(|f| f.feature == feature).map(|f| f.errno);
    assert!(!opened.zero_copy, "veth has no zero-copy");
    assert_eq!(reason(Feature::ZeroCopy), Some(libc::EOPNOTSUPP));
    assert_eq!(opened.huge_pages, reason(Feature::HugePages).is_none(), "{opened:?}");
    assert_eq!(
        opened.transmit_budget,
        if reason(Feature::TransmitBudget).is_none() {
            256
        } else {
            32
        }
    );
    assert_eq!(reason(Feature::SendBuffer), None);
    assert_eq!(opened.frames, socket.frames().total);
    drop(socket);
    let (_, opened) = open(&lab, &config());
    assert!(
        !opened.fallbacks.iter().any(|f| f.feature == Feature::ZeroCopy),
        "copy mode was asked for"
    );
}

#[test]
fn a_settled_burst_is_sent_and_recycled_as_it_was_decided() {
    let lab = Lab::new(8_500);
    let (mut socket, _) = open(&lab, &config());
    let _steering = lab.steer_near(socket.fd());
    let wire = lab.wire();
    // Every seventh a jumbo of three frames; every third is dropped.
    let bytes = |number: u32| frame(number, if number.is_multiple_of(7) { 8_514 } else { 300 });
    (0..420).for_each(|number| wire.send(&bytes(number)));
    let mut burst = Burst::with_capacity(32);
    let mut seen = 0;
    until("receive", || {
        socket.wait(Duration::from_millis(20)).expect("poll");
        seen += socket.receive(&mut burst);
        for packet in burst.iter_mut() {
            assert_eq!(packet.fate(), Fate::Recycle, "nobody has decided yet");
            let number = u32::from_be_bytes(packet.head()[14..18].try_into().expect("four bytes"));
            if !number.is_multiple_of(3) {
                packet.decide(Fate::Send);
            }
        }
        socket.settle(&mut burst, |packet| panic!("the ring has room for {packet:?}"));
        assert!(burst.is_empty());
        socket.flush().expect("flush");
        seen == 420
    });
    for number in (0..420_u32).filter(|number| !number.is_multiple_of(3)) {
        assert_eq!(wire.receive(), Some(bytes(number)), "in order, whole, and no other");
    }
    settle(&mut socket);
    assert!(socket.frames().is_balanced());
    assert_eq!((socket.frames().receive, socket.lost_and_found()), (0, 0));
}

#[test]
fn a_settled_burst_shows_what_the_ring_has_no_room_for() {
    let lab = Lab::new(1_500);
    let small = SocketConfig {
        ring_size: 64,
        frames: 512,
        ..config()
    };
    let (mut socket, _) = open(&lab, &small);
    let _steering = lab.steer_near(socket.fd());
    let wire = lab.wire();
    // Nothing is flushed, so that 60 of the 64 places stay taken.
    for number in 0..60 {
        let packet = socket.allocate(&frame(1_000 + number, 100)).expect("free frames");
        socket.send(packet).expect("room");
    }
    (0..20).for_each(|number| wire.send(&frame(number, 100)));
    let mut burst = Burst::with_capacity(20);
    until("receive", || {
        socket.wait(Duration::from_millis(20)).expect("poll");
        socket.receive(&mut burst);
        burst.room() == 0
    });
    burst.iter_mut().for_each(|packet| packet.decide(Fate::Send));
    let mut refused = Vec::new();
    socket.settle(&mut burst, |packet| refused.push(packet.head()[17]));
    assert_eq!(refused, (4..20).collect::<Vec<u8>>(), "the first four took the room");
    settle(&mut socket);
    let account = socket.frames();
    assert!(account.is_balanced() && account.receive == 0, "{account:?}");
    let arrived = std::iter::from_fn(|| wire.receive()).count();
    assert_eq!(arrived, 64);
}

#[test]
fn one_flush_sends_more_than_one_kick_can() {
    const PACKETS: u32 = 1_000;
    let lab = Lab::new(1_500);
    let (mut socket, opened) = open(&lab, &config());
    let wire = lab.wire();
    for number in 0..PACKETS {
        let packet = socket.allocate(&frame(number, 100)).expect("free frames");
        socket.send(packet).expect("room");
    }
    let flushed = socket.flush().expect("flush");
    assert_eq!((flushed.submitted, flushed.unsent), (PACKETS, 0), "{flushed:?}");
    // As few kicks as the budget allows, but for those the kernel refuses or ends early.
    assert!(flushed.kicks >= PACKETS / opened.transmit_budget, "{flushed:?}");
    for number in 0..PACKETS {
        assert_eq!(wire.receive(), Some(frame(number, 100)));
    }
    settle(&mut socket);
    let idle = socket.flush().expect("flush");
    assert_eq!((idle.kicks, idle.submitted), (0, 0), "nothing to do, no system call");
}

#[test]
fn a_worker_that_stands_still_loses_nothing_until_a_whole_ring_has_come() {
    const RING: u32 = 2_048;
    let lab = Lab::new(1_500);
    let (mut socket, _) = open(&lab, &config());
    let _steering = lab.steer_near(socket.fd());
    let wire = lab.wire();
    // Twice, so that the second time begins in the middle of the rings.
    for turn in 0..2 {
        assert!(socket.frames().fill > RING - 64, "{:?}", socket.frames());
        let come = RING - 64;
        (0..come).for_each(|number| wire.send(&frame(number, 100)));
        receive(&mut socket, come as usize, |socket, packet| socket.recycle(packet));
        let statistics = socket.statistics().expect("statistics");
        assert_eq!(
            (statistics.received_lost(), statistics.rx_fill_ring_empty_descs),
            (0, 0),
            "turn {turn}"
        );
        assert!(socket.frames().is_balanced());
    }
}

#[test]
fn jumbos_arrive_in_several_frames_and_return_intact() {
    // The frames of a jumbo: 8,514 bytes over 4,096 or 2,048 less 256 each.
    jumbos(4096, 3);
    jumbos(2048, 5);
}

fn jumbos(frame_size: u32, frames: usize) {
    let lab = Lab::new(8_500);
    let (mut socket, opened) = open(&lab, &SocketConfig { frame_size, ..config() });
    if !opened.multi_buffer {
        println!(
            "NOT TESTED: this kernel has no multi-buffer AF_XDP ({:?})",
            opened.fallbacks
        );
        return;
    }
    let _steering = lab.steer_near(socket.fd());
    let wire = lab.wire();
    let sent: Vec<_> = (0..64)
        .map(|number| frame(number, if number % 3 == 0 { 100 } else { 8_514 }))
        .collect();
    sent.iter().for_each(|bytes| wire.send(bytes));
    // A burst of two reads two descriptors at a time: every jumbo straddles two of them or more.
    let mut burst = Burst::with_capacity(2);
    let mut received = Vec::new();
    until("jumbos", || {
        socket.receive(&mut burst);
        for packet in burst.drain() {
            let bytes = contents(&packet);
            assert_eq!(packet.len(), bytes.len());
            assert_eq!(packet.is_multi_buffer(), bytes.len() > 4096);
            assert_eq!(packet.frames(), if bytes.len() > 4096 { frames } else { 1 });
            received.push(bytes);
            socket.send(packet).expect("room");
        }
        socket.flush().expect("flush");
        received.len() == sent.len()
    });
    assert!(received == sent, "bytes or order differ");
    for bytes in &sent {
        assert_eq!(wire.receive().as_ref(), Some(bytes));
    }
    settle(&mut socket);
    // One made here goes out in one piece, too.
    let made = frame(99, 8_514);
    let packet = socket.allocate(&made).expect("the pool has free frames");
    assert!(packet.is_multi_buffer());
    socket.send(packet).expect("room");
    socket.flush().expect("flush");
    assert_eq!(wire.receive(), Some(made));
    settle(&mut socket);
    assert!(socket.frames().is_balanced());
    assert_eq!(socket.frames().receive, 0);
}

#[test]
fn without_multi_buffer_the_kernel_counts_the_jumbos_it_drops() {
    let lab = Lab::new(8_500);
    let (mut socket, opened) = open(
        &lab,
        &SocketConfig {
            multi_buffer: false,
            ..config()
        },
    );
    assert!(!opened.multi_buffer);
    let _steering = lab.steer_near(socket.fd());
    let wire = lab.wire();
    (0..10).for_each(|number| wire.send(&frame(number, 8_514)));
    wire.send(&frame(10, 100));
    receive(&mut socket, 1, |socket, packet| socket.recycle(packet));
    assert_eq!(socket.statistics().expect("statistics").rx_dropped, 10);
}

#[test]
fn a_backlog_is_discarded_and_counted() {
    let lab = Lab::new(8_500);
    let (mut socket, opened) = open(&lab, &config());
    assert!(opened.multi_buffer || cfg!(not(target_os = "linux")), "{opened:?}");
    let _steering = lab.steer_near(socket.fd());
    let wire = lab.wire();
    for number in 0..300 {
        wire.send(&frame(number, if number % 10 == 0 { 8_514 } else { 200 }));
    }
    // The first read ends in the middle of the first jumbo, number 0; then three packets are staged.
    let mut first = Burst::with_capacity(1);
    until("arrival", || socket.wait(Duration::from_millis(50)).expect("poll"));
    assert_eq!(socket.receive(&mut first), 0);
    assert_eq!(socket.frames().receive, 1);
    for number in 0..3 {
        let packet = socket.allocate(&frame(1_000 + number, 100)).expect("free frames");
        socket.send(packet).expect("room");
    }
    let discarded = socket.discard_backlog();
    assert_eq!(
        (discarded.received, discarded.staged, discarded.unrecallable),
        (300, 3, 0)
    );
    let account = socket.frames();
    assert!(account.is_balanced(), "{account:?}");
    assert_eq!((account.receive, account.transmit), (0, 0));
    assert_eq!(wire.receive(), None, "what was staged was not sent");
    // Then all is as before.
    let fresh = frame(2_000, 8_514);
    wire.send(&fresh);
    receive(&mut socket, 1, |socket, packet| {
        assert_eq!(contents(&packet), fresh);
        socket.recycle(packet);
    });
    assert_eq!(socket.discard_backlog().received, 0);
}

#[test]
fn a_dropped_packet_finds_its_way_home_and_is_counted() {
    let lab = Lab::new(1500);
    let (mut socket, _) = open(&lab, &config());
    let _steering = lab.steer_near(socket.fd());
    let wire = lab.wire();
    (0..10).for_each(|number| wire.send(&frame(number, 100)));
    receive(&mut socket, 10, |_, packet| drop(packet));
    socket.flush().expect("flush");
    assert_eq!(socket.lost_and_found(), 10);
    assert!(socket.frames().is_balanced());
    assert_eq!(socket.frames().receive, 0);
}

#[test]
fn a_packet_outlives_its_socket_and_cannot_enter_another() {
    let lab = Lab::new(1500);
    let (mut old, _) = open(&lab, &config());
    let steering = lab.steer_near(old.fd());
    lab.wire().send(&frame(5, 100));
    let mut burst = Burst::with_capacity(1);
    until("arrival", || old.receive(&mut burst) == 1);
    let packet = burst.drain().next().expect("one packet");
    drop(steering);
    drop(old);
    assert_eq!(contents(&packet), frame(5, 100), "its memory is still there");
    let taken = lab.near(|| Socket::open(&config(), NOW).map(|_| ()));
    assert!(
        matches!(taken, Err(OpenError::QueueTaken { .. })),
        "and so is the binding: {taken:?}"
    );
    let far = SocketConfig {
        interface: Lab::FAR.to_owned(),
        ..config()
    };
    let (mut other, _) = lab.far(|| Socket::open(&far, NOW)).expect("the other end is free");
    let packet = other.send(packet).expect_err("a foreign packet is given back");
    other.recycle(packet);
    assert_eq!(other.frames().transmit + other.frames().receive, 0);
    open(&lab, &config());
}

#[test]
fn a_link_that_is_down_is_reported_and_comes_back() {
    let lab = Lab::new(1500);
    let (mut socket, _) = open(&lab, &config());
    let _steering = lab.steer_near(socket.fd());
    let wire = lab.wire();
    lab.set_near("down");
    let packet = socket.allocate(&frame(1, 100)).expect("free frames");
    socket.send(packet).expect("room");
    let error = socket.flush().expect_err("a kick on an interface that is down");
    assert!(matches!(error, FlushError::LinkDown), "{error:?}");
    assert!(socket.frames().is_balanced());
    // What is in the ring already cannot be recalled, and that is said.
    assert_eq!(socket.discard_backlog().unrecallable, 1);
    assert_eq!(socket.frames().transmit, 1);
    assert!(matches!(socket.check(), Err(FlushError::LinkDown)));
    lab.set_near("up");
    socket.check().expect("the link is back");
    settle(&mut socket);
    assert_eq!(wire.receive(), Some(frame(1, 100)));
    lab.remove();
    assert!(matches!(socket.check(), Err(FlushError::Gone)));
    assert!(!socket.wait(Duration::from_millis(1)).expect("poll"));
}

#[test]
fn a_busy_polling_socket_receives_like_any_other() {
    let lab = Lab::new(1500);
    let busy_poll = Some(BusyPoll { micros: 20, budget: 64 });
    let (mut socket, opened) = open(&lab, &SocketConfig { busy_poll, ..config() });
    if let Some(fallback) = opened.fallbacks.iter().find(|f| f.feature == Feature::BusyPoll) {
        println!("NOT TESTED: {fallback}");
    }
    let _steering = lab.steer_near(socket.fd());
    let wire = lab.wire();
    (0..100).for_each(|number| wire.send(&frame(number, 300)));
    let (mut burst, mut seen) = (Burst::with_capacity(32), 0);
    until("busy polling", || {
        socket.receive(&mut burst);
        for packet in burst.drain() {
            assert_eq!(contents(&packet), frame(seen, 300));
            seen += 1;
            socket.recycle(packet);
        }
        socket.flush().expect("flush");
        seen == 100
    });
}

#[test]
fn facts_of_a_veth_in_its_namespace() {
    let lab = Lab::new(8_500);
    let facts = lab.near(|| interface::query(Lab::NEAR)).expect("facts");
    assert_eq!((facts.mtu, facts.driver.as_str()), (8_500, "veth"));
    assert_eq!(
        (facts.rx_queues, facts.tx_queues, facts.up, facts.carrier),
        (1, 1, true, true)
    );
    assert_eq!(facts.ipv4, None);
    assert_ne!(facts.mac, [0; 6]);
    assert!(
        lab.far(|| interface::query(Lab::NEAR)).is_err(),
        "another namespace does not see it"
    );
    lab.set_near("down");
    let facts = lab.near(|| interface::query(Lab::NEAR)).expect("facts");
    assert_eq!((facts.up, facts.carrier), (false, false));
}
