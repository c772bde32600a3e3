//! Whether the data path works, as the load balancer is told.
//!
//! [`judge`] is pure: it gets what was observed and says what to answer. The [`Board`] holds the last verdict and its
//! time, so that an answer is never older than the observer is alive.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::netlink::LinkState;

/// A verdict older than this is worth nothing: whoever observes has stopped.
pub const VERDICT_LIFE: Duration = Duration::from_secs(1);
/// Frames with the kernel for this long without one completion: transmission has stalled.
pub const TX_STALL: Duration = Duration::from_secs(1);

/// What `/health` answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Everything that the contract asks for holds.
    Ok,
    /// Something does not.
    Unsound(String),
    /// The appliance was asked to stop; new flows go elsewhere.
    Draining,
}

impl Health {
    /// `ok`, `unsound` or `draining`.
    pub const fn status(&self) -> &'static str {
        match self {
            Health::Ok => "ok",
            Health::Unsound(_) => "unsound",
            Health::Draining => "draining",
        }
    }

    /// Why it is not `ok`.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Health::Unsound(reason) => Some(reason),
            Health::Ok | Health::Draining => None,
        }
    }
}

/// One queue at the moment of the judgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueCondition {
    /// The receive queue.
    pub queue: u32,
    /// How old its worker's heartbeat is.
    pub heartbeat_age: Duration,
    /// Its worker's thread runs.
    pub running: bool,
    /// How long frames are with the kernel without a completion; zero when none are.
    pub tx_waiting: Duration,
}

/// What was observed.
#[derive(Clone, Debug)]
pub struct Condition<'a> {
    /// The appliance was asked to stop.
    pub draining: bool,
    /// The interface, or why the kernel could not tell.
    pub link: Result<&'a LinkState, String>,
    /// The interface's index when the program was attached.
    pub attached_to: u32,
    /// The id of the program that this process attached; `None` before.
    pub program: Option<u32>,
    /// How old a heartbeat may be.
    pub heartbeat: Duration,
    /// Every queue served.
    pub queues: &'a [QueueCondition],
}

/// What to answer for a condition. The first fault is told; an operator cures one at a time.
pub fn judge(condition: &Condition<'_>) -> Health {
    if condition.draining {
        return Health::Draining;
    }
    match link_fault(condition).or_else(|| queue_fault(condition)) {
        Some(fault) => Health::Unsound(fault),
        None => Health::Ok,
    }
}

fn link_fault(condition: &Condition<'_>) -> Option<String> {
    let link = match &condition.link {
        Ok(link) => link,
        Err(error) => return Some(format!("the interface cannot be asked: {error}")),
    };
    let Some(program) = condition.program else {
        return Some("the XDP program is not attached yet".to_owned());
    };
    if link.index != condition.attached_to {
        return Some("the interface was replaced by another one of the same name".to_owned());
    }
    match link.xdp {
        None => return Some("the XDP program is not attached any more".to_owned()),
        Some((_, id)) if id != program => return Some(format!("another XDP program (id {id}) is attached")),
        Some(_) => {}
    }
    if !link.up {
        return Some("the interface is down".to_owned());
    }
    (!link.carrier).then(|| "the interface has no carrier".to_owned())
}

fn queue_fault(condition: &Condition<'_>) -> Option<String> {
    if condition.queues.is_empty() {
        return Some("no queue is served".to_owned());
    }
    condition.queues.iter().find_map(|queue| {
        let number = queue.queue;
        if !queue.running {
            return Some(format!("the worker of queue {number} has ended"));
        }
        if queue.heartbeat_age > condition.heartbeat {
            let age = queue.heartbeat_age.as_millis();
            return Some(format!("the worker of queue {number} has not beaten for {age} ms"));
        }
        (queue.tx_waiting >= TX_STALL).then(|| {
            format!(
                "queue {number} transmits nothing for {} ms",
                queue.tx_waiting.as_millis()
            )
        })
    })
}

/// Follows one queue's transmission.
#[derive(Clone, Copy, Debug, Default)]
pub struct TxWatch {
    completed: u64,
    since: u64,
}

impl TxWatch {
    /// How long frames have been with the kernel without one coming back.
    ///
    /// `now` is in nanoseconds, `in_transmit` the frames handed over and not back, `completed` all that ever came back.
    pub fn observe(&mut self, now: u64, in_transmit: u64, completed: u64) -> Duration {
        if in_transmit == 0 || completed != self.completed || self.since == 0 {
            *self = TxWatch { completed, since: now };
            return Duration::ZERO;
        }
        Duration::from_nanos(now.saturating_sub(self.since))
    }
}

/// The last verdict, shared between who observes and who answers.
#[derive(Debug)]
pub struct Board {
    verdict: ArcSwap<(Health, u64)>,
}

impl Board {
    /// A board that says nothing is attached yet.
    pub fn new(now: u64) -> Self {
        Board {
            verdict: ArcSwap::from_pointee((Health::Unsound("starting".to_owned()), now)),
        }
    }

    /// Replaces the verdict; returns the one before if it differs.
    pub fn publish(&self, health: Health, now: u64) -> Option<Health> {
        let before = self.verdict.swap(Arc::new((health.clone(), now)));
        (before.0 != health).then(|| before.0.clone())
    }

    /// The verdict as it stands at `now`, in monotonic nanoseconds.
    pub fn read(&self, now: u64) -> Health {
        let verdict = self.verdict.load();
        let age = Duration::from_nanos(now.saturating_sub(verdict.1));
        if verdict.0 == Health::Ok && age > VERDICT_LIFE {
            return Health::Unsound(format!("nobody has looked for {} ms", age.as_millis()));
        }
        verdict.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::super::netlink::XdpAttachment;
    use super::*;

    const LINK: LinkState = LinkState {
        index: 4,
        mtu: 8568,
        up: true,
        carrier: true,
        xdp: Some((XdpAttachment::Native, 9)),
    };
    const QUEUE: QueueCondition = QueueCondition {
        queue: 2,
        heartbeat_age: Duration::ZERO,
        running: true,
        tx_waiting: Duration::ZERO,
    };

    fn sound<'a>(link: &'a LinkState, queues: &'a [QueueCondition]) -> Condition<'a> {
        Condition {
            draining: false,
            link: Ok(link),
            attached_to: 4,
            program: Some(9),
            heartbeat: Duration::from_millis(80),
            queues,
        }
    }

    fn reason(condition: &Condition<'_>) -> String {
        judge(condition).reason().expect("unsound").to_owned()
    }

    #[test]
    fn ok_only_while_everything_holds() {
        assert_eq!(judge(&sound(&LINK, &[QUEUE])), Health::Ok);
        assert!(reason(&sound(&LINK, &[])).contains("no queue"));
    }

    #[test]
    fn every_fault_of_the_interface_is_told() {
        let faults: [(LinkState, &str); 5] = [
            (LinkState { xdp: None, ..LINK }, "not attached any more"),
            (
                LinkState {
                    xdp: Some((XdpAttachment::Native, 10)),
                    ..LINK
                },
                "another XDP program (id 10)",
            ),
            (LinkState { index: 5, ..LINK }, "replaced"),
            (LinkState { up: false, ..LINK }, "down"),
            (LinkState { carrier: false, ..LINK }, "carrier"),
        ];
        for (link, expected) in &faults {
            assert!(reason(&sound(link, &[QUEUE])).contains(expected), "{expected}");
        }
        let condition = Condition {
            program: None,
            ..sound(&LINK, &[QUEUE])
        };
        assert!(reason(&condition).contains("not attached yet"));
        let condition = Condition {
            link: Err("ENODEV".to_owned()),
            ..sound(&LINK, &[QUEUE])
        };
        assert!(reason(&condition).contains("ENODEV"));
    }

    #[test]
    fn every_fault_of_a_worker_is_told_with_its_queue() {
        let stale = QueueCondition {
            heartbeat_age: Duration::from_millis(81),
            ..QUEUE
        };
        let ended = QueueCondition {
            running: false,
            ..QUEUE
        };
        let stalled = QueueCondition {
            tx_waiting: TX_STALL,
            ..QUEUE
        };
        for (queue, expected) in [(stale, "81 ms"), (ended, "ended"), (stalled, "transmits nothing")] {
            let said = reason(&sound(&LINK, &[QUEUE, queue]));
            assert!(said.contains(expected) && said.contains("queue 2"), "{said}");
        }
        let fresh = QueueCondition {
            heartbeat_age: Duration::from_millis(80),
            ..QUEUE
        };
        assert_eq!(judge(&sound(&LINK, &[fresh])), Health::Ok);
    }

    #[test]
    fn draining_outranks_every_fault() {
        let link = LinkState { xdp: None, ..LINK };
        let condition = Condition {
            draining: true,
            ..sound(&link, &[])
        };
        assert_eq!(judge(&condition), Health::Draining);
    }

    #[test]
    fn transmission_stalls_only_with_frames_out_and_none_coming_back() {
        const SECOND: u64 = 1_000_000_000;
        let mut watch = TxWatch::default();
        assert_eq!(watch.observe(SECOND, 64, 100), Duration::ZERO);
        assert_eq!(watch.observe(2 * SECOND, 64, 100), TX_STALL);
        assert_eq!(watch.observe(3 * SECOND, 64, 101), Duration::ZERO, "one came back");
        assert_eq!(watch.observe(9 * SECOND, 0, 101), Duration::ZERO, "nothing is out");
        assert_eq!(
            watch.observe(10 * SECOND, 1, 101),
            TX_STALL,
            "counted from the last moment with nothing out"
        );
    }

    #[test]
    fn an_old_verdict_is_not_believed() {
        let board = Board::new(0);
        assert_eq!(board.read(0).status(), "unsound");
        assert!(board.publish(Health::Ok, 10).is_some());
        assert!(board.publish(Health::Ok, 20).is_none(), "no change");
        let life = VERDICT_LIFE.as_nanos() as u64;
        assert_eq!(board.read(20 + life), Health::Ok);
        assert_eq!(board.read(21 + life).status(), "unsound");
        board.publish(Health::Draining, 30);
        assert_eq!(board.read(u64::MAX), Health::Draining);
    }
}
