//! Answers to what is asked of a worker, put together a little per round: packets wait while a report is made.
//!
//! An answer goes over in pieces whose memory the asker brings, and takes back empty to bring again. So the worker touches
//! no memory of its own for them: a whole answer is some thirty megabytes, and the kernel's zeroing of so many fresh pages
//! would be time in which packets wait. What a report holds beyond its own size the worker allocates, of [`PIECES`] pieces at
//! most, and gets back as the asker drops it.

use std::time::{Duration, Instant};

use crossbeam::channel::{self, Receiver, RecvTimeoutError, Sender, TryRecvError, TrySendError};

use super::{MAX_REPORTS, Question, warm};
use crate::engine::Engine;
use crate::engine::listing::StreamCursor;
use crate::engine::report::StreamReport;
use crate::engine::time::Timestamp;

/// Reports made in one round. One takes some four microseconds where its stream's memory is not cached, so that all of them
/// take no longer than a burst does.
const AT_A_TIME: usize = 8;
/// Reports in one piece of an answer, at most.
const PIECE: usize = 32;
/// Pieces of one answer that exist at a time. A worker that finds none empty goes to sleep if it may, for some milliseconds:
/// so few that they are two megabytes, and so many that an answer needs few of those naps.
const PIECES: usize = 8;
/// How long a worker waits for an asker to bring an empty piece. An asker on a busy machine may not run for some time; one that
/// takes as long as this is taken for dead, and the next one has its turn.
const PATIENCE: Duration = Duration::from_secs(1);

/// What an asker brings, and takes from.
pub(super) struct Asked {
    empty: Receiver<Vec<StreamReport>>,
    pieces: Sender<Piece>,
}

/// A part of an answer.
struct Piece {
    reports: Vec<StreamReport>,
    /// The answer is complete.
    last: bool,
}

/// The asker's ends.
struct Asker {
    empty: Sender<Vec<StreamReport>>,
    pieces: Receiver<Piece>,
}

/// Both sides of a new question.
fn question() -> (Asked, Asker) {
    let (bring, empty) = channel::bounded(PIECES);
    let (hand_over, pieces) = channel::bounded(PIECES);
    // The asker takes the page faults, not the worker.
    warm::touch(PIECES, PIECE * size_of::<StreamReport>());
    for _ in 0..PIECES {
        // There is room: the channel is as long.
        let _ = bring.try_send(Vec::with_capacity(PIECE));
    }
    let asked = Asked {
        empty,
        pieces: hand_over,
    };
    (asked, Asker { empty: bring, pieces })
}

/// Asks a worker for the reports of its streams and takes them as they come; tells how many there were. `None` where the worker
/// is silent for longer than `silence` or is not done at `until`: what was taken then is not the whole.
pub(super) fn ask(
    worker: &Sender<Question>,
    silence: Duration,
    until: Instant,
    mut take: impl FnMut(&StreamReport),
) -> Option<usize> {
    let (asked, asker) = question();
    worker.try_send(Question::Streams(asked)).ok()?;
    let mut taken = 0;
    loop {
        let deadline = until.min(Instant::now() + silence);
        let Piece { mut reports, last } = match asker.pieces.recv_deadline(deadline) {
            Ok(piece) => piece,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
        };
        reports.iter().for_each(&mut take);
        taken += reports.len();
        if last {
            return Some(taken);
        }
        reports.clear();
        // A worker that is gone meanwhile shows at the next piece.
        let _ = asker.empty.try_send(reports);
    }
}

/// The mailbox from the worker's side, and the answer under way.
pub(super) struct Answers {
    mailbox: Receiver<Question>,
    under_way: Option<Streams>,
}

/// Reports of streams, so far.
struct Streams {
    asked: Asked,
    cursor: StreamCursor,
    /// Reports made, those handed over among them.
    made: usize,
    piece: Option<Vec<StreamReport>>,
    /// When there was a piece to write into for the last time.
    served: Timestamp,
}

/// What a round did for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Round {
    /// It has got on.
    Worked,
    /// The asker has taken nothing since the last round.
    Waited,
    /// Complete, or given up.
    Over,
}

impl Answers {
    pub(super) fn new(mailbox: Receiver<Question>) -> Self {
        Answers {
            mailbox,
            under_way: None,
        }
    }

    /// Takes the next question, if none is being answered.
    pub(super) fn look(&mut self, now: Timestamp) {
        if self.under_way.is_some() {
            return;
        }
        if let Ok(Question::Streams(asked)) = self.mailbox.try_recv() {
            self.under_way = Some(Streams {
                asked,
                cursor: StreamCursor::default(),
                made: 0,
                piece: None,
                served: now,
            });
        }
    }

    /// Goes on with the answer under way by one round's share; tells whether there was anything to do.
    #[inline]
    pub(super) fn go_on(&mut self, now: Timestamp, engine: &Engine) -> bool {
        let Some(streams) = &mut self.under_way else {
            return false;
        };
        let round = streams.go_on(now, engine);
        if round == Round::Over {
            self.under_way = None;
        }
        round != Round::Waited
    }
}

impl Streams {
    fn go_on(&mut self, now: Timestamp, engine: &Engine) -> Round {
        let piece = self.piece.take().map_or_else(|| self.asked.empty.try_recv(), Ok);
        let mut reports = match piece {
            Ok(piece) => piece,
            Err(TryRecvError::Empty) if now.since(self.served) <= PATIENCE => return Round::Waited,
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => return Round::Over,
        };
        self.served = now;
        let before = reports.len();
        let share = AT_A_TIME.min(PIECE.saturating_sub(before)).min(MAX_REPORTS - self.made);
        let next = engine.streams_from(self.cursor, share, &mut reports);
        self.made += reports.len() - before;
        let last = match next {
            Some(cursor) => {
                self.cursor = cursor;
                self.made >= MAX_REPORTS
            }
            None => true,
        };
        if !last && reports.len() < PIECE {
            self.piece = Some(reports);
            return Round::Worked;
        }
        match self.asked.pieces.try_send(Piece { reports, last }) {
            Ok(()) if !last => Round::Worked,
            // An asker that no longer waits for the answer is no concern of the worker. There is room for every piece.
            Ok(()) | Err(TrySendError::Disconnected(_) | TrySendError::Full(_)) => Round::Over,
        }
    }
}

#[cfg(test)]
mod tests;
