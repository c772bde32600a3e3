//! Loads over a veth link in namespaces: what a stand-in returns comes back whole, and what one spoils is noticed as what it is.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use tidegate_lab::{MacAddr, Namespace, VethEnd, veth};
use tidegate_load::{
    Collector, Generator, GeneratorKind, Lane, Load, Part, Peer, PeerProgram, Protocol, Rate, Received, Running, Sent,
    Unlisted,
};

/// Far longer than any of these loads take on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// A load balancer's end and an appliance's.
struct Link {
    near: Namespace,
    far: Namespace,
    lane: Lane,
}

impl Link {
    fn new() -> Link {
        let (near, far) = (
            Namespace::new("load").expect("a namespace"),
            Namespace::new("peer").expect("a namespace"),
        );
        let (near_mac, far_mac) = (MacAddr::local(0x7101), MacAddr::local(0x7102));
        let end = |namespace, mac| VethEnd {
            namespace,
            name: "eth0",
            mac,
        };
        for namespace in [&near, &far] {
            namespace
                .set_sysctl("ipv6/conf/default/disable_ipv6", "1")
                .expect("no neighbour discovery");
        }
        veth(end(&near, near_mac), end(&far, far_mac), 1, 1600).expect("a link");
        let lane = Lane {
            interface: "eth0".to_owned(),
            local_mac: near_mac.0,
            peer_mac: far_mac.0,
            local_ip: Ipv4Addr::new(10, 254, 0, 1),
            peer_ip: Ipv4Addr::new(10, 254, 0, 2),
            core: 0,
        };
        Link { near, far, lane }
    }

    /// Sends a load through a stand-in; returns what was sent and what came back once nothing is on its way any more.
    fn run(&self, load: &Load, program: PeerProgram) -> (Sent, Received) {
        let peer = self.far.run_in(|| Peer::attach("eth0", program));
        let _peer = peer.expect("the namespace").expect("the stand-in");
        let outcome = self.near.run_in(|| {
            let collector = Collector::attach(&self.lane, load)?;
            let running = Generator::start(&self.lane, load)?;
            let start = Instant::now();
            while !running.is_finished() && start.elapsed() < LIMIT {
                std::thread::sleep(Duration::from_millis(5));
            }
            assert!(running.is_finished(), "the load does not end by itself");
            let sent = running.wait()?;
            std::thread::sleep(Duration::from_millis(50));
            tidegate_load::Result::Ok((sent, collector.read()?))
        });
        outcome.expect("the namespace").expect("the load")
    }
}

fn load(packets: u64) -> Load {
    Load {
        streams: 50,
        packets: Some(packets),
        seconds: Some(30.0),
        ..Load::default()
    }
}

/// Nothing lost but what the link refused, nothing wrong.
fn assert_sound(sent: &Sent, received: &Received) {
    assert_eq!(received.altered, 0, "{:?}", named(received));
    assert_eq!((received.reordered, received.duplicated), (0, 0));
    let refused = sent.not_delivered + sent.not_collected;
    assert_eq!(received.packets + refused, sent.packets, "{sent:?}");
    assert_eq!(received.latency.count(), received.listed);
    if refused == 0 {
        assert_eq!((received.listed, received.unlisted), (sent.listed, sent.unlisted));
        assert_eq!((received.lost, received.missing_of(sent.listed)), (0, 0));
        assert_eq!(received.bytes, sent.bytes);
    }
}

fn named(received: &Received) -> Vec<(&'static str, u64)> {
    Part::ALL
        .into_iter()
        .map(|part| (part.name(), received.altered_part(part)))
        .filter(|(_, count)| *count > 0)
        .collect()
}

#[test]
fn all_of_fifty_streams_flat_out_comes_back_whole() {
    let (sent, received) = Link::new().run(&load(300_000), PeerProgram::Reflect);
    assert_eq!((sent.packets, sent.unlisted), (300_000, 0));
    assert_sound(&sent, &received);
    assert!(sent.not_delivered < sent.packets / 10, "{sent:?}");
    assert!(received.latency.quantile(0.5) > 0);
}

#[test]
fn a_paced_load_takes_its_time_and_loses_nothing() {
    let paced = Load {
        rate: Rate::PacketsPerSecond(50_000.0),
        ..load(100_000)
    };
    let start = Instant::now();
    let (sent, received) = Link::new().run(&paced, PeerProgram::Reflect);
    assert!(
        start.elapsed() >= Duration::from_millis(1900),
        "paced: {:?}",
        start.elapsed()
    );
    assert_eq!(sent.packets, 100_000);
    assert_sound(&sent, &received);
}

#[test]
fn srt_every_size_and_every_byte_come_back_whole() {
    let link = Link::new();
    for ts_packets in 1..=7 {
        for protocol in [Protocol::RtpTs, Protocol::SrtTs] {
            let sized = Load {
                protocol,
                ts_packets,
                whole: true,
                rate: Rate::PacketsPerSecond(100_000.0),
                ..load(10_000)
            };
            let (sent, received) = link.run(&sized, PeerProgram::Reflect);
            assert_eq!(sent.packets, 10_000);
            assert_sound(&sent, &received);
        }
    }
}

#[test]
fn unlisted_sources_are_counted_apart() {
    let link = Link::new();
    let beside = Load {
        unlisted: Unlisted::Beside { per_listed: 3 },
        ..load(100_000)
    };
    let (sent, received) = link.run(&beside, PeerProgram::Reflect);
    assert_eq!((sent.listed, sent.unlisted), (25_000, 75_000));
    assert_sound(&sent, &received);
    let alone = Load {
        unlisted: Unlisted::Alone,
        ..load(100_000)
    };
    let (sent, received) = link.run(&alone, PeerProgram::Reflect);
    assert_eq!((sent.listed, sent.unlisted), (0, 100_000));
    assert_sound(&sent, &received);
}

#[test]
fn a_load_over_af_xdp_is_the_same_load() {
    let user = Load {
        generator: GeneratorKind::AfXdp,
        rate: Rate::PacketsPerSecond(50_000.0),
        whole: true,
        ..load(50_000)
    };
    let (sent, received) = Link::new().run(&user, PeerProgram::Reflect);
    assert_eq!(sent.packets, 50_000);
    assert_sound(&sent, &received);
}

#[test]
fn a_load_that_goes_on_continues_its_streams() {
    let link = Link::new();
    let peer = link.far.run_in(|| Peer::attach("eth0", PeerProgram::Reflect));
    let _peer = peer.expect("the namespace").expect("the stand-in");
    let outcome = link.near.run_in(|| {
        let mut paced = Load {
            rate: Rate::PacketsPerSecond(20_000.0),
            ..load(10_007)
        };
        let mut collector = Collector::attach(&link.lane, &paced)?;
        let first = Generator::start(&link.lane, &paced)?.wait()?;
        assert_eq!((first.next.round, first.next.stream), (200, 7));
        std::thread::sleep(Duration::from_millis(20));
        collector.reset()?;
        paced.from = first.next;
        let second = Generator::start(&link.lane, &paced)?.wait()?;
        std::thread::sleep(Duration::from_millis(20));
        tidegate_load::Result::Ok((second, collector.read()?))
    });
    let (sent, received) = outcome.expect("the namespace").expect("the load");
    assert_sound(&sent, &received);
}

/// Frames a second that are due within a while: those that a busy machine has no time for are among them.
fn due_in_a_while(running: &Running) -> tidegate_load::Result<f64> {
    let due = || running.sent().map(|sent| sent.packets + sent.left_out);
    let (begin, before) = (Instant::now(), due()?);
    std::thread::sleep(Duration::from_millis(500));
    Ok((due()? - before) as f64 / begin.elapsed().as_secs_f64())
}

#[test]
fn a_running_load_changes_its_rate_and_is_held_and_loses_nothing() {
    for generator in [GeneratorKind::Kernel, GeneratorKind::AfXdp] {
        let link = Link::new();
        let peer = link.far.run_in(|| Peer::attach("eth0", PeerProgram::Reflect));
        let _peer = peer.expect("the namespace").expect("the stand-in");
        let outcome = link.near.run_in(|| {
            let endless = Load {
                streams: 50,
                rate: Rate::PacketsPerSecond(40_000.0),
                begin_rate: Some(5_000.0),
                generator,
                ..Load::default()
            };
            let collector = Collector::attach(&link.lane, &endless)?;
            let running = Generator::start(&link.lane, &endless)?;
            let begin = Instant::now();
            while running.sent()?.packets == 0 && begin.elapsed() < LIMIT {
                std::thread::sleep(Duration::from_millis(5));
            }
            let slow = due_in_a_while(&running)?;
            running.hold()?;
            let held = running.sent()?;
            std::thread::sleep(Duration::from_millis(50));
            let (still, back) = (running.sent()?, collector.read()?);
            assert_eq!(still.packets, held.packets, "held");
            assert_eq!(back.listed + held.not_delivered + held.not_collected, held.listed);
            running.set_rate(endless.rate)?;
            let fast = due_in_a_while(&running)?;
            assert!(
                running.set_rate(Rate::PacketsPerSecond(0.0)).is_err(),
                "no rate at all is a hold"
            );
            let begin = Instant::now();
            let sent = running.stop()?;
            assert!(
                begin.elapsed() < Duration::from_secs(2),
                "a changed load can be stopped"
            );
            std::thread::sleep(Duration::from_millis(50));
            // Eight times as many, give or take when a busy machine last let the generator count.
            assert!(fast > slow * 3.0 && fast < slow * 20.0, "{slow} and {fast} a second");
            tidegate_load::Result::Ok((sent, collector.read()?))
        });
        let (sent, received) = outcome.expect("the namespace").expect("the load");
        assert_sound(&sent, &received);
    }
}

#[test]
fn a_run_without_an_end_is_stopped_at_once() {
    let link = Link::new();
    let peer = link.far.run_in(|| Peer::attach("eth0", PeerProgram::Drop));
    let _peer = peer.expect("the namespace").expect("the stand-in");
    let outcome = link.near.run_in(|| {
        let endless = Load::default();
        let collector = Collector::attach(&link.lane, &endless)?;
        let running = Generator::start(&link.lane, &endless)?;
        std::thread::sleep(Duration::from_millis(300));
        let start = Instant::now();
        let sent = running.stop()?;
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        assert!(sent.packets > 0);
        assert_eq!(collector.read()?.packets, 0, "the stand-in drops");
        tidegate_load::Result::Ok(())
    });
    outcome.expect("the namespace").expect("the load");
}

#[test]
fn what_is_spoilt_is_noticed_as_what_it_is() {
    let link = Link::new();
    let cases = [
        (3, Part::Ethernet),
        (22, Part::OuterIp),
        (35, Part::OuterUdp),
        (55, Part::Geneve),
        (79, Part::Geneve),
        (97, Part::Inner),
        (113, Part::Transport),
        (122, Part::Ts),
        (122 + 188 * 3 + 3, Part::Ts),
        (122 + 188 * 5 + 77, Part::Media),
    ];
    for (offset, part) in cases {
        let whole = Load {
            whole: true,
            rate: Rate::PacketsPerSecond(50_000.0),
            ..load(10_000)
        };
        let (sent, received) = link.run(&whole, PeerProgram::Spoil { every: 100, offset });
        assert_eq!(sent.not_delivered, 0);
        // The marker's hash covers the TS headers too.
        let noticed = received.altered_part(part);
        assert!((98..=100).contains(&noticed), "byte {offset}: {:?}", named(&received));
        assert_eq!(received.altered, noticed, "byte {offset}: {:?}", named(&received));
        assert_eq!(received.lost, 0);
    }
}

#[test]
fn what_is_dropped_is_missed() {
    let paced = Load {
        rate: Rate::PacketsPerSecond(50_000.0),
        ..load(100_000)
    };
    let (sent, received) = Link::new().run(&paced, PeerProgram::Lose { every: 1000 });
    assert_eq!((sent.packets, sent.not_delivered), (100_000, 0));
    assert_eq!((received.packets, received.altered), (99_900, 0));
    assert_eq!(received.missing_of(sent.listed), 100);
    // The last of a stream is missed only by whoever knows what was sent.
    assert!((98..=100).contains(&received.lost), "{}", received.lost);
}
