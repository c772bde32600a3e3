//! Answers from engines that no socket feeds.

use std::collections::BTreeSet;

use super::*;
use crate::engine::group::tests::{SSRC, at_ms, media, policy, receiver, sender, udp};
use crate::engine::{Config, Published, Verdict};
use crate::policy::Policy;

struct Worker {
    engine: Engine,
    policy: Policy,
    questions: Sender<Question>,
    answers: Answers,
}

impl Worker {
    /// A worker with so many streams, each in a flow of its own.
    fn new(streams: u16) -> Worker {
        let (questions, mailbox) = channel::bounded(2);
        let mut worker = Worker {
            engine: Engine::new(Config::default()),
            policy: policy("rtp", ""),
            questions,
            answers: Answers::new(mailbox),
        };
        for stream in 0..streams {
            (0..8).for_each(|n| worker.packet(stream, n));
        }
        assert_eq!(worker.engine.counters().streams, u64::from(streams));
        worker
    }

    fn packet(&mut self, stream: u16, n: u16) {
        let published = Published {
            policy: &self.policy,
            generation: 1,
        };
        let packet = udp(sender(2000 + stream), receiver(5000), &media(n, SSRC));
        let verdict = self.engine.process_bare(at_ms(u64::from(n)), &published, &packet);
        assert_eq!(verdict, Verdict::Return);
    }

    /// A question, and the asker's ends.
    fn ask(&self) -> Asker {
        let (asked, asker) = question();
        self.questions.send(Question::Streams(asked)).expect("room");
        asker
    }

    fn round(&mut self) -> bool {
        self.answers.go_on(at_ms(0), &self.engine)
    }

    fn look(&mut self) {
        self.answers.look(at_ms(0));
    }

    /// Every round that has something to do, while the asker takes what is there after each.
    fn answer(&mut self, asker: &Asker) -> Taken {
        let mut taken = Taken::default();
        while self.round() {
            taken.rounds += 1;
            taken.fetch(asker);
        }
        taken
    }
}

/// What an asker has so far.
#[derive(Default)]
struct Taken {
    rounds: usize,
    reports: Vec<StreamReport>,
    complete: bool,
    /// Where the pieces lie.
    places: BTreeSet<usize>,
}

impl Taken {
    fn fetch(&mut self, asker: &Asker) {
        while let Ok(mut piece) = asker.pieces.try_recv() {
            assert!(!self.complete, "a piece after the last one");
            assert!(piece.reports.len() <= PIECE);
            assert_eq!(
                piece.reports.capacity(),
                PIECE,
                "the worker has changed the piece's memory"
            );
            self.places.insert(piece.reports.as_ptr().addr());
            self.complete = piece.last;
            self.reports.append(&mut piece.reports);
            let _ = asker.empty.try_send(piece.reports);
        }
    }
}

fn identities(reports: &[StreamReport]) -> BTreeSet<String> {
    reports.iter().map(|report| format!("{:?}", report.identity)).collect()
}

#[test]
fn an_answer_is_complete_and_packets_go_on_meanwhile() {
    let streams = 100;
    let mut worker = Worker::new(streams);
    let asker = worker.ask();
    worker.look();
    let (before, mut rounds) = (worker.engine.counters().returned, 0);
    let mut taken = Taken::default();
    while !taken.complete {
        // As the loop does it: a burst, then a share of the answer.
        (0..streams).for_each(|stream| worker.packet(stream, 8 + rounds));
        assert!(worker.round(), "nothing to do after {rounds} rounds");
        rounds += 1;
        taken.fetch(&asker);
        assert!(rounds < streams, "no answer after {rounds} rounds");
    }
    assert_eq!(taken.reports.len(), usize::from(streams));
    assert_eq!(identities(&taken.reports), identities(&worker.engine.streams()));
    assert_eq!(usize::from(rounds), usize::from(streams).div_ceil(AT_A_TIME));
    assert_eq!(
        worker.engine.counters().returned - before,
        u64::from(rounds) * u64::from(streams)
    );
    assert!(!worker.round(), "there is more to do");
}

#[test]
fn questions_are_answered_one_after_the_other() {
    let mut worker = Worker::new(20);
    let askers = [worker.ask(), worker.ask()];
    for asker in askers {
        worker.look();
        let mut taken = Taken::default();
        while worker.round() {
            // Asked for in vain: one at a time.
            worker.look();
            taken.fetch(&asker);
            if taken.complete {
                assert_eq!(taken.reports.len(), 20);
                break;
            }
        }
        assert!(taken.complete);
    }
    while worker.round() {}
    worker.look();
    assert!(!worker.round(), "a third answer to two questions");
}

#[test]
fn an_asker_that_went_away_stops_nothing() {
    let mut worker = Worker::new(200);
    drop(worker.ask());
    let asker = worker.ask();
    worker.look();
    let rounds = std::iter::from_fn(|| worker.round().then_some(())).count();
    assert_eq!(rounds, PIECE / AT_A_TIME, "given up at the first piece");
    worker.look();
    // This one goes in the middle.
    assert!((0..5).all(|_| worker.round()));
    drop(asker);
    let asker = worker.ask();
    while worker.round() {}
    worker.look();
    let taken = worker.answer(&asker);
    assert!(taken.complete);
    assert_eq!(taken.reports.len(), 200);
}

#[test]
fn an_asker_that_does_not_fetch_costs_neither_time_nor_memory_and_is_given_up() {
    let mut worker = Worker::new((PIECES * PIECE) as u16 + 20);
    let (slow, next) = (worker.ask(), worker.ask());
    worker.look();
    let mut rounds = 0;
    while worker.round() {
        rounds += 1;
    }
    assert_eq!(
        rounds,
        PIECES * PIECE / AT_A_TIME,
        "as many pieces as the asker brought"
    );
    let patience = PATIENCE.as_millis() as u64;
    assert!(!worker.answers.go_on(at_ms(patience), &worker.engine));
    assert!(worker.answers.under_way.is_some(), "given up too early");
    worker.answers.go_on(at_ms(patience + 1), &worker.engine);
    assert!(worker.answers.under_way.is_none(), "not given up");
    let mut taken = Taken::default();
    taken.fetch(&slow);
    assert_eq!((taken.reports.len(), taken.complete), (PIECES * PIECE, false));
    worker.look();
    assert!(worker.answer(&next).complete, "the next one has its turn");
}

#[test]
fn an_asker_that_comes_back_in_time_gets_the_rest() {
    let streams = 2 * PIECES * PIECE + 20;
    let mut worker = Worker::new(streams as u16);
    let asker = worker.ask();
    worker.look();
    let mut taken = Taken::default();
    while !taken.complete {
        assert!(taken.rounds < streams, "no end");
        while worker.round() {
            taken.rounds += 1;
        }
        taken.fetch(&asker);
    }
    assert_eq!(identities(&taken.reports).len(), streams);
    assert_eq!(taken.rounds, streams.div_ceil(AT_A_TIME));
}

#[test]
fn a_worker_without_streams_answers_in_one_round() {
    let mut worker = Worker::new(0);
    let asker = worker.ask();
    worker.look();
    let taken = worker.answer(&asker);
    assert_eq!((taken.rounds, taken.reports.len(), taken.complete), (1, 0, true));
}

#[test]
fn an_answer_ends_at_its_limit_and_lies_in_the_memory_that_was_brought() {
    let mut worker = Worker::new(MAX_REPORTS as u16 + 20);
    let asker = worker.ask();
    worker.look();
    let taken = worker.answer(&asker);
    assert_eq!((taken.reports.len(), taken.complete), (MAX_REPORTS, true));
    assert_eq!(taken.rounds, MAX_REPORTS.div_ceil(AT_A_TIME));
    assert_eq!(taken.places.len(), PIECES);
}

#[test]
fn what_is_asked_across_threads_is_told_whole() {
    let streams = PIECES * PIECE + 20;
    let mut worker = Worker::new(streams as u16);
    let questions = worker.questions.clone();
    let asker = std::thread::spawn(move || {
        let (mut told, long) = (Vec::new(), Duration::from_secs(20));
        let take = |report: &StreamReport| told.push(report.clone());
        let count = ask(&questions, long, Instant::now() + 2 * long, take);
        (count, told)
    });
    while !asker.is_finished() {
        worker.look();
        if !worker.round() {
            std::thread::yield_now();
        }
    }
    let (count, told) = asker.join().expect("it ends");
    assert_eq!(count, Some(streams));
    assert_eq!(identities(&told), identities(&worker.engine.streams()));
}

#[test]
fn a_worker_that_is_silent_or_ends_is_told_from_one_without_streams() {
    let worker = Worker::new(0);
    let moment = Duration::from_millis(1);
    let none = |_: &StreamReport| panic!("a report of nothing");
    assert_eq!(ask(&worker.questions, moment, Instant::now() + PATIENCE, none), None);
    assert_eq!(ask(&worker.questions, PATIENCE, Instant::now() + moment, none), None);
    let questions = worker.questions.clone();
    drop(worker);
    assert_eq!(ask(&questions, PATIENCE, Instant::now() + PATIENCE, none), None);
}
