//! Answers to what is asked of a worker, put together a little per round: packets wait while a report is made.

use crossbeam::channel::{Receiver, Sender};

use super::{MAX_REPORTS, Question};
use crate::engine::Engine;
use crate::engine::listing::StreamCursor;
use crate::engine::report::StreamReport;

/// Reports made in one round. One takes some four microseconds where its stream's memory is not cached, so that all of them
/// take no longer than a burst does.
const AT_A_TIME: usize = 8;

/// The mailbox from the worker's side, and the answer under way.
pub(super) struct Answers {
    mailbox: Receiver<Question>,
    under_way: Option<Streams>,
}

/// Reports of streams, so far.
struct Streams {
    asker: Sender<Vec<StreamReport>>,
    cursor: StreamCursor,
    reports: Vec<StreamReport>,
}

impl Answers {
    pub(super) fn new(mailbox: Receiver<Question>) -> Self {
        Answers {
            mailbox,
            under_way: None,
        }
    }

    /// Takes the next question, if none is being answered.
    pub(super) fn look(&mut self, engine: &Engine) {
        if self.under_way.is_some() {
            return;
        }
        if let Ok(Question::Streams(asker)) = self.mailbox.try_recv() {
            // All the memory at once: to move what is there already would take longer than the reports of a round.
            let expected = (engine.counters().streams as usize).min(MAX_REPORTS);
            self.under_way = Some(Streams {
                asker,
                cursor: StreamCursor::default(),
                reports: Vec::with_capacity(expected),
            });
        }
    }

    /// Goes on with the answer under way by one round's share; tells whether there was anything to do.
    #[inline]
    pub(super) fn go_on(&mut self, engine: &Engine) -> bool {
        match self.under_way.take() {
            None => false,
            Some(streams) => {
                self.under_way = streams.go_on(engine);
                true
            }
        }
    }
}

impl Streams {
    /// Itself while there is more to come, after which the asker has its answer.
    fn go_on(mut self, engine: &Engine) -> Option<Self> {
        let share = AT_A_TIME.min(MAX_REPORTS - self.reports.len());
        let next = engine.streams_from(self.cursor, share, &mut self.reports);
        match next {
            Some(cursor) if self.reports.len() < MAX_REPORTS => {
                self.cursor = cursor;
                Some(self)
            }
            _ => {
                // An asker that no longer waits for the answer is no concern of the worker.
                let _ = self.asker.try_send(self.reports);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests;
