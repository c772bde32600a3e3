//! Answers from engines that no socket feeds.

use std::collections::BTreeSet;

use crossbeam::channel::{self, TryRecvError};

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

    fn ask(&self) -> Receiver<Vec<StreamReport>> {
        let (asker, answer) = channel::bounded(1);
        self.questions.send(Question::Streams(asker)).expect("room");
        answer
    }
}

fn identities(reports: &[StreamReport]) -> BTreeSet<String> {
    reports.iter().map(|report| format!("{:?}", report.identity)).collect()
}

#[test]
fn an_answer_is_complete_and_packets_go_on_meanwhile() {
    let streams = 100;
    let mut worker = Worker::new(streams);
    let answer = worker.ask();
    worker.answers.look(&worker.engine);
    let (before, mut rounds) = (worker.engine.counters().returned, 0);
    loop {
        // As the loop does it: a burst, then a share of the answer.
        (0..streams).for_each(|stream| worker.packet(stream, 8 + rounds));
        assert!(
            worker.answers.go_on(&worker.engine),
            "nothing to do after {rounds} rounds"
        );
        rounds += 1;
        match answer.try_recv() {
            Err(TryRecvError::Empty) => assert!(rounds < streams, "no answer after {rounds} rounds"),
            Err(TryRecvError::Disconnected) => panic!("never answered"),
            Ok(reports) => {
                assert_eq!(reports.len(), usize::from(streams));
                assert_eq!(identities(&reports), identities(&worker.engine.streams()));
                break;
            }
        }
    }
    assert_eq!(usize::from(rounds), usize::from(streams).div_ceil(AT_A_TIME));
    assert_eq!(
        worker.engine.counters().returned - before,
        u64::from(rounds) * u64::from(streams)
    );
    assert!(!worker.answers.go_on(&worker.engine), "there is more to do");
}

#[test]
fn questions_are_answered_one_after_the_other() {
    let mut worker = Worker::new(20);
    let (first, second) = (worker.ask(), worker.ask());
    for answer in [first, second] {
        worker.answers.look(&worker.engine);
        while worker.answers.go_on(&worker.engine) {
            // Asked for in vain: one at a time.
            worker.answers.look(&worker.engine);
            if let Ok(reports) = answer.try_recv() {
                assert_eq!(reports.len(), 20);
                break;
            }
        }
    }
    while worker.answers.go_on(&worker.engine) {}
    worker.answers.look(&worker.engine);
    assert!(!worker.answers.go_on(&worker.engine), "a third answer to two questions");
}

#[test]
fn an_asker_that_went_away_stops_nothing() {
    let mut worker = Worker::new(20);
    drop(worker.ask());
    let answer = worker.ask();
    for _ in 0..2 {
        worker.answers.look(&worker.engine);
        while worker.answers.go_on(&worker.engine) {}
    }
    assert_eq!(answer.try_recv().expect("answered").len(), 20);
}

#[test]
fn a_worker_without_streams_answers_in_one_round() {
    let mut worker = Worker::new(0);
    let answer = worker.ask();
    worker.answers.look(&worker.engine);
    assert!(worker.answers.go_on(&worker.engine));
    assert_eq!(answer.try_recv().expect("answered").len(), 0);
}

#[test]
fn an_answer_ends_at_its_limit() {
    let mut worker = Worker::new(MAX_REPORTS as u16 + 20);
    let answer = worker.ask();
    worker.answers.look(&worker.engine);
    let mut rounds = 0;
    while worker.answers.go_on(&worker.engine) {
        rounds += 1;
    }
    assert_eq!(answer.try_recv().expect("answered").len(), MAX_REPORTS);
    assert_eq!(rounds, MAX_REPORTS.div_ceil(AT_A_TIME));
}
