//! Links between engines that no socket feeds: what meets by them, and what becomes of messages that do not fit.

use std::net::SocketAddr;

use super::*;
use crate::engine::group::GroupBody;
use crate::engine::group::tests::{MISSING, SSRC, at_ms, fec, media, pair_policy, policy, receiver, sender, udp};
use crate::engine::report::{RtpReport, StreamProtocol, StreamReport};
use crate::engine::{Config, Published};
use crate::policy::Policy;

/// Workers without sockets.
struct Workers {
    all: Vec<(Engine, Link)>,
    policy: Policy,
}

impl Workers {
    fn new(count: usize, policy: Policy) -> Workers {
        Workers::of(Link::between(count), policy)
    }

    fn with(count: usize, capacity: usize, seed: u64, policy: Policy) -> Workers {
        Workers::of(Link::with(count, capacity, seed), policy)
    }

    fn of(links: Vec<Link>, policy: Policy) -> Workers {
        let all = links
            .into_iter()
            .map(|link| (Engine::new(link.place(Config::default())), link))
            .collect();
        Workers { all, policy }
    }

    /// A packet reaches a worker, which sends what it has to say of it.
    fn packet(&mut self, worker: usize, ms: u64, from: SocketAddr, to: SocketAddr, payload: &[u8]) {
        let published = Published {
            policy: &self.policy,
            generation: 1,
        };
        let count = self.all.len();
        let (engine, link) = &mut self.all[worker % count];
        engine.process_bare(at_ms(ms), &published, &udp(from, to, payload));
        link.send(engine);
    }

    /// A round of a worker's loop without packets.
    fn round(&mut self, worker: usize, ms: u64) {
        let (engine, link) = &mut self.all[worker];
        while link.receive(at_ms(ms), engine) > 0 {}
        engine.tick(at_ms(ms), 64);
        link.send(engine);
    }

    fn rounds(&mut self, ms: u64) {
        (0..self.all.len()).for_each(|worker| self.round(worker, ms));
    }

    fn settle(&mut self, from: u64) {
        (1..60).for_each(|step| self.rounds(from + step * 25));
    }

    fn reports(&self, protocol: StreamProtocol) -> Vec<(StreamReport, RtpReport)> {
        let streams = self.all.iter().flat_map(|(engine, _)| engine.streams());
        let wanted = streams.filter(|stream| stream.identity.protocol == protocol);
        wanted
            .map(|stream| (stream.clone(), stream.rtp.expect("figures of RTP")))
            .collect()
    }

    fn shed(&self) -> u64 {
        self.all.iter().map(|(_, link)| link.shed()).sum()
    }
}

/// Four matrices of 5 by 4, media at the first worker, columns at the second and rows at the third.
fn protected_stream(workers: &mut Workers) {
    for n in 0..80u16 {
        let ms = u64::from(n) * 5;
        if !MISSING.contains(&n) {
            workers.packet(0, ms, sender(4000), receiver(5000), &media(n, SSRC));
        }
        if n % 5 == 4 {
            workers.packet(2, ms, sender(4004), receiver(5004), &fec(n / 5, n - 4, true, 1, 5));
        }
        if n % 20 == 19 {
            for column in 0..5 {
                let packet = fec(n + column, n - 19 + column, false, 5, 4);
                workers.packet(1, ms, sender(4002), receiver(5002), &packet);
            }
        }
        workers.rounds(ms);
    }
    workers.settle(400);
}

#[test]
fn fec_at_other_workers_counts_as_at_one() {
    for count in [1, 2, 3] {
        let mut workers = Workers::new(count, policy("rtp-fec", ""));
        protected_stream(&mut workers);
        let reports = workers.reports(StreamProtocol::Rtp);
        let [(stream, rtp)] = &reports[..] else {
            panic!("{count} workers: {reports:?}")
        };
        assert_eq!(
            (stream.transport.lost, stream.transport.recoverable, rtp.partial),
            (7, Some(3), false),
            "{count} workers"
        );
        assert_eq!(workers.shed(), 0);
    }
}

#[test]
fn messages_keep_their_order_and_a_round_takes_a_bounded_number() {
    let mut workers = Workers::new(2, policy("rtp", ""));
    for n in 0..1000u32 {
        let mut bye = vec![0x80, 201, 0, 1, 0, 0, 0, 9, 0x81, 203, 0, 1];
        bye.extend(n.to_be_bytes());
        (0..2).for_each(|worker| workers.packet(worker, 0, sender(4001), receiver(5001), &bye));
    }
    // The home's own do not travel.
    let home = usize::from(workers.all[0].1.inbox.is_empty());
    let (engine, link) = &mut workers.all[home];
    assert_eq!(link.receive(at_ms(0), engine), AT_A_TIME);
    let rest: Vec<u32> = core::iter::from_fn(|| link.inbox.try_recv().ok())
        .map(|message| match message.body {
            GroupBody::Rtcp { ssrc, .. } => ssrc,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(rest, (AT_A_TIME as u32..1000).collect::<Vec<_>>());
    assert!(workers.all[1 - home].1.inbox.is_empty());
}

/// Both paths of a pair at two workers; the home of the pair stands still for a while, and its inbox is small.
fn pair_with_a_stalled_home(seed: u64, stalled: core::ops::Range<u64>) -> (Workers, usize) {
    let mut workers = Workers::with(3, 16, seed, pair_policy(""));
    let source = |path: u8| SocketAddr::from(([10, 0, path, 1], 4000));
    let mut home = 0;
    for ms in 0..2000u64 {
        let stands = |worker| stalled.contains(&ms) && home == worker;
        for path in [1u8, 2] {
            let worker = usize::from(path) - 1;
            // The first path loses some that the second brings, and one is lost on both.
            if ms < 1000 && ms != 800 && (path == 2 || !ms.is_multiple_of(30)) && !stands(worker) {
                let packet = media(ms as u16, SSRC);
                workers.packet(worker, ms, source(path), receiver(5000), &packet);
            }
        }
        if ms == stalled.end {
            workers.all[home].0.blind();
        }
        (0..3)
            .filter(|worker| !stands(*worker))
            .for_each(|worker| workers.round(worker, ms));
        if ms == 99 {
            // Nothing else that these workers hold is as large.
            home = (0..3)
                .max_by_key(|worker| workers.all[*worker].0.groups_memory())
                .expect("three workers");
        }
    }
    (workers, home)
}

#[test]
fn what_a_full_inbox_shed_is_nobodys_loss_and_is_told() {
    for seed in 0..6 {
        for (stalled, whole) in [(0..0, true), (200..400, false), (100..750, false)] {
            let (workers, home) = pair_with_a_stalled_home(seed, stalled);
            let reports = workers.reports(StreamProtocol::Rtp);
            assert_eq!(reports.len(), 2);
            assert_eq!(workers.shed() == 0, whole, "home {home}");
            for (stream, rtp) in reports {
                let merged = rtp.seamless.expect("a pair");
                assert_eq!(merged.lost, 1, "home {home}, stalled: {}", !whole);
                assert_eq!(rtp.partial, !whole, "{:?}, home {home}", stream.identity.source);
            }
        }
    }
}

#[test]
fn a_worker_that_ended_holds_nobody_up() {
    let mut ended = 0;
    for seed in 0..8 {
        let mut workers = Workers::with(2, 16, seed, policy("rtp-fec", ""));
        workers.all.truncate(1);
        protected_stream(&mut workers);
        let reports = workers.reports(StreamProtocol::Rtp);
        let (stream, rtp) = reports.first().expect("the stream goes on");
        assert_eq!(stream.transport.lost, 7);
        let home_ended = workers.shed() > 0;
        ended += usize::from(home_ended);
        let recoverable = if home_ended { 0 } else { 3 };
        assert_eq!(
            (stream.transport.recoverable, rtp.partial),
            (Some(recoverable), home_ended)
        );
    }
    assert!(
        (1..8).contains(&ended),
        "{ended} of 8 seeds made the ended worker the home"
    );
}

#[test]
fn lost_results_are_told_too() {
    for seed in 0..8 {
        let mut workers = Workers::with(2, 16, seed, policy("rtp-fec", ""));
        protected_stream(&mut workers);
        let (engine, link) = &mut workers.all[0];
        link.inboxes[0].missed.fetch_add(1, Ordering::Release);
        link.receive(at_ms(3000), engine);
        (0..1000).for_each(|_| engine.tick(at_ms(3000), 256));
        let reports = workers.reports(StreamProtocol::Rtp);
        assert!(reports[0].1.partial);
        assert_eq!(reports[0].0.transport.recoverable, Some(3));
    }
}
