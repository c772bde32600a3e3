//! The event log: JSON lines, written by a thread of its own behind bounded channels.
//!
//! Nobody waits for it: what does not fit is shed and counted. Workers send [`StreamEvent`]s, control sends
//! [`ControlEvent`]s; both get a wall-clock time here. Control's events are logged as well, so that they are told even
//! where no file was asked for.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded, select};
use serde::Serialize;
use thiserror::Error;

use super::{clock, priority};
use crate::engine::event::StreamEvent;
use crate::engine::expect::Expectation;

/// Stream events that may wait for the writer; a worker sheds and counts what does not fit. A neighbour's ten thousand streams
/// that all come here at once are two events each within a tenth of a second, and the writer gives way to those who bring them.
pub const STREAM_CAPACITY: usize = 32_768;
/// Control events that may wait for the writer.
const CONTROL_CAPACITY: usize = 1024;

/// Lines are written when they are so many bytes, or when no more events are waiting.
const LINES: usize = 1 << 16;
/// After the first event, others are let come for so long. A writer that sleeps on its channel has to be woken by a worker,
/// which takes the worker as long as some packets; one that is only napping has not.
const GATHER: Duration = Duration::from_millis(2);

/// Where events go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Nowhere but the log.
    None,
    /// Standard output.
    Stdout,
    /// Appended to a file.
    File(PathBuf),
}

/// The event log could not be started.
#[derive(Debug, Error)]
pub enum EventsError {
    /// The file.
    #[error("cannot open the event file {path} for appending: {source}")]
    File {
        /// As given.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// No thread could be had.
    #[error("cannot start the event writer: {0}")]
    Thread(io::Error),
}

/// What happens to the appliance as a whole.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case", rename_all_fields = "snake_case")]
pub enum ControlEvent {
    /// A policy came into force.
    PolicyLoaded {
        /// The file it was read from.
        file: String,
        /// Its generation; grows by one with each.
        generation: u64,
        /// How many rules it has.
        rules: usize,
        /// What `check` would warn of.
        warnings: Vec<String>,
    },
    /// A policy was refused; what was in force stays.
    PolicyRefused {
        /// The file it was read from.
        file: String,
        /// One `file:line:column: message` each.
        errors: Vec<String>,
    },
    /// The program is attached and every worker beats.
    Started {
        /// The interface.
        interface: String,
        /// The receive queues served.
        queues: Vec<u32>,
        /// `native` or `generic`.
        xdp_mode: &'static str,
        /// `zero-copy` or `copy`, per queue.
        bind_mode: Vec<&'static str>,
        /// A pinned program of an earlier process was taken over.
        takeover: bool,
        /// Tidegate's version.
        version: &'static str,
    },
    /// The appliance stops.
    Stopping {
        /// The signal's name, or what failed.
        cause: String,
        /// The pinned program stays for the next process.
        handover: bool,
    },
    /// Packets of a queue take the failure action from now on.
    BypassEntered {
        /// The receive queue.
        queue: u32,
        /// `heartbeat-stale`, `worker-ended`, or `no-process` for what an earlier process left behind.
        cause: &'static str,
        /// How old the worker's last heartbeat is, in milliseconds.
        heartbeat_age_ms: u64,
    },
    /// A queue's worker is back.
    BypassLeft {
        /// The receive queue.
        queue: u32,
        /// How long the worker did not beat, in milliseconds.
        dark_ms: u64,
        /// Packets that took each failure action meanwhile, on all queues: the kernel counts them per processor.
        packets: BypassPackets,
        /// The worker that was silent belonged to an earlier process.
        takeover: bool,
    },
    /// Something asked for is not to be had; it works otherwise.
    Fallback {
        /// What: `xdp-mode`, `bind`, `huge-pages`, `busy-poll`.
        what: &'static str,
        /// What is used instead.
        instead: String,
        /// The reason the machine gave.
        why: String,
    },
    /// What `/health` answers changed.
    HealthChanged {
        /// `ok`, `unsound` or `draining`.
        status: &'static str,
        /// Why it is not `ok`.
        reason: Option<String>,
    },
    /// A rule with `expected = true` waits for its stream, on any queue, or has it back.
    #[serde(untagged)]
    Expected(Expectation),
}

/// Packets that took a failure action.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BypassPackets {
    /// Sent back uninspected.
    pub returned: u64,
    /// Dropped.
    pub dropped: u64,
    /// Left to the kernel's stack.
    pub passed: u64,
}

/// Counts what the log lost.
#[derive(Debug, Default)]
pub struct EventCounters {
    /// Events written.
    pub written: AtomicU64,
    /// Control events that did not fit the channel.
    pub shed: AtomicU64,
    /// Events that the file or pipe did not take.
    pub failed: AtomicU64,
}

/// Control's end of the event log. Cheap to clone.
#[derive(Clone, Debug)]
pub struct EventSender {
    control: Sender<ControlEvent>,
    counters: Arc<EventCounters>,
}

impl EventSender {
    /// Tells an event; never waits. Shed and counted if the writer is behind.
    pub fn send(&self, event: ControlEvent) {
        log(&event);
        if self.control.try_send(event).is_err() {
            self.counters.shed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What the log lost so far.
    pub fn counters(&self) -> &EventCounters {
        &self.counters
    }
}

/// The writer's thread. It ends when every sender is gone.
#[derive(Debug)]
pub struct EventLog {
    sender: EventSender,
    streams: Sender<StreamEvent>,
    thread: JoinHandle<()>,
    /// Nothing is ever sent on it: it disconnects when the thread ends.
    ended: Receiver<()>,
}

impl EventLog {
    /// Opens the destination and starts the writer.
    ///
    /// # Errors
    /// [`EventsError`] if the file cannot be opened for appending.
    pub fn start(destination: &Destination) -> Result<Self, EventsError> {
        Self::start_with(open(destination)?)
    }

    fn start_with(output: Option<Box<dyn Write + Send>>) -> Result<Self, EventsError> {
        let counters = Arc::new(EventCounters::default());
        let (control, control_events) = bounded(CONTROL_CAPACITY);
        let (streams, stream_events) = bounded(STREAM_CAPACITY);
        let (alive, ended) = bounded(0);
        let writer = Writer {
            output,
            counters: Arc::clone(&counters),
            failing: false,
            lines: Vec::with_capacity(2 * LINES),
            begun: false,
            _alive: alive,
        };
        let thread = std::thread::Builder::new()
            .name("tg-events".to_owned())
            .spawn(move || {
                priority::give_way();
                writer.run(&control_events, &stream_events);
            })
            .map_err(EventsError::Thread)?;
        Ok(EventLog {
            sender: EventSender { control, counters },
            streams,
            thread,
            ended,
        })
    }

    /// Control's end.
    pub fn sender(&self) -> EventSender {
        self.sender.clone()
    }

    /// The workers' end.
    pub fn streams(&self) -> Sender<StreamEvent> {
        self.streams.clone()
    }

    /// Writes what is queued and ends. Every other sender must be gone; whoever keeps one, or a reader of the pipe that
    /// takes nothing, is waited for no longer than `within`. Returns whether everything was written.
    pub fn finish(self, within: Duration) -> bool {
        drop(self.streams);
        drop(self.sender);
        match self.ended.recv_timeout(within) {
            Err(RecvTimeoutError::Timeout) => false,
            _ => self.thread.join().is_ok(),
        }
    }
}

fn open(destination: &Destination) -> Result<Option<Box<dyn Write + Send>>, EventsError> {
    Ok(match destination {
        Destination::None => None,
        Destination::Stdout => Some(Box::new(io::stdout())),
        Destination::File(path) => Some(Box::new(open_file(path)?)),
    })
}

fn open_file(path: &Path) -> Result<std::fs::File, EventsError> {
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.map_err(|source| EventsError::File {
        path: path.to_owned(),
        source,
    })
}

struct Writer {
    output: Option<Box<dyn Write + Send>>,
    counters: Arc<EventCounters>,
    failing: bool,
    /// Lines that are not written yet; the memory is used again and again.
    lines: Vec<u8>,
    /// They begin in the middle of one.
    begun: bool,
    _alive: Sender<()>,
}

impl Writer {
    fn run(mut self, control: &Receiver<ControlEvent>, streams: &Receiver<StreamEvent>) {
        let (mut control_open, mut streams_open) = (true, true);
        let (never_control, never_streams) = (crossbeam::channel::never(), crossbeam::channel::never());
        while control_open || streams_open {
            let control = if control_open { control } else { &never_control };
            let streams = if streams_open { streams } else { &never_streams };
            select! {
                recv(control) -> event => match event {
                    Ok(event) => self.control(&event),
                    Err(_) => control_open = false,
                },
                recv(streams) -> event => match event {
                    Ok(event) => {
                        self.stream(&event);
                        std::thread::sleep(GATHER);
                    }
                    Err(_) => streams_open = false,
                },
            }
            self.take_waiting(control, streams);
            self.write_out();
        }
    }

    /// Everything that is waiting, up to both channels' capacity, so that a write covers many lines.
    fn take_waiting(&mut self, control: &Receiver<ControlEvent>, streams: &Receiver<StreamEvent>) {
        for _ in 0..STREAM_CAPACITY {
            match (control.try_recv(), streams.try_recv()) {
                (Err(TryRecvError::Empty | TryRecvError::Disconnected), Err(_)) => break,
                (first, second) => {
                    first.iter().for_each(|event| self.control(event));
                    second.iter().for_each(|event| self.stream(event));
                }
            }
        }
    }

    fn control(&mut self, event: &ControlEvent) {
        self.take(SystemTime::now(), event);
    }

    fn stream(&mut self, event: &StreamEvent) {
        let at = clock::wall_at(event.at.nanos(), clock::monotonic_nanos(), SystemTime::now());
        self.take(at, event);
    }

    fn take(&mut self, time: SystemTime, event: &impl Serialize) {
        if self.output.is_none() {
            return;
        }
        if let Err(error) = append_line(&mut self.lines, time, event) {
            self.failed(1, &error.into());
        }
        if self.lines.len() >= LINES {
            self.write_out();
        }
    }

    /// Writes the lines that there are. Of those that cannot be written only the rest of one that was begun is kept, so that
    /// the next one begins a line of its own.
    fn write_out(&mut self) {
        let Some(output) = &mut self.output else { return };
        let (done, result) = write_some(output, &self.lines);
        let (written, rest) = self.lines.split_at(done);
        let (ended, left) = (newlines(written), newlines(rest));
        self.counters.written.fetch_add(ended, Ordering::Relaxed);
        self.failing &= ended == 0;
        self.begun = written.last().map_or(self.begun, |last| *last != b'\n');
        let end = rest.iter().position(|byte| *byte == b'\n');
        let kept = end.filter(|_| self.begun).map_or(0, |end| end + 1);
        self.lines.drain(..done);
        self.lines.truncate(kept);
        if let Err(error) = result {
            self.failed(left - newlines(&self.lines), &error);
        }
    }

    /// A full disk is told once, not once per event; the next success ends it.
    fn failed(&mut self, events: u64, error: &io::Error) {
        self.counters.failed.fetch_add(events, Ordering::Relaxed);
        if !self.failing {
            tracing::error!(%error, "events cannot be written; what is lost is counted");
        }
        self.failing = true;
    }
}

/// Writes and flushes as much as the output takes, and tells how much that was.
fn write_some(output: &mut impl Write, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut done = 0;
    while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
        match output.write(rest) {
            Ok(0) => return (done, Err(io::ErrorKind::WriteZero.into())),
            Ok(written) => done += written,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (done, Err(error)),
        }
    }
    (done, output.flush())
}

fn newlines(lines: &[u8]) -> u64 {
    lines.iter().filter(|byte| **byte == b'\n').count() as u64
}

/// One event as a line: its time first, then what it is.
pub(crate) fn line(time: SystemTime, event: &impl Serialize) -> serde_json::Result<String> {
    let mut line = Vec::new();
    append_line(&mut line, time, event)?;
    String::from_utf8(line).map_err(serde::ser::Error::custom)
}

/// Appends the event's line, or nothing where it cannot be written as an object.
fn append_line(lines: &mut Vec<u8>, time: SystemTime, event: &impl Serialize) -> serde_json::Result<()> {
    let before = lines.len();
    let appended = append_object(lines, time, event);
    match &appended {
        Ok(()) => lines.push(b'\n'),
        Err(_) => lines.truncate(before),
    }
    appended
}

/// Serialised into the lines themselves, without a copy or a structure around it: ten thousand events may come at once.
fn append_object(lines: &mut Vec<u8>, time: SystemTime, event: &impl Serialize) -> serde_json::Result<()> {
    write!(lines, "{{\"time\":\"{}\"", clock::Rfc3339(time)).map_err(serde_json::Error::io)?;
    let begin = lines.len();
    serde_json::to_writer(&mut *lines, event)?;
    // The time has opened the object, so the event's own first brace becomes the comma between them.
    match lines.get_mut(begin..) {
        Some([brace @ b'{', b'"', ..]) => {
            *brace = b',';
            Ok(())
        }
        _ => Err(serde::ser::Error::custom("an event is an object")),
    }
}

fn log(event: &ControlEvent) {
    let text = serde_json::to_string(event).unwrap_or_default();
    match event {
        ControlEvent::BypassEntered {
            queue,
            cause,
            heartbeat_age_ms,
        } => tracing::error!(
            "BYPASS ACTIVE on queue {queue}: packets take the failure action uninspected ({cause}, last heartbeat \
             {heartbeat_age_ms} ms ago)"
        ),
        ControlEvent::BypassLeft { queue, dark_ms, .. } => {
            tracing::warn!("bypass left on queue {queue} after {dark_ms} ms: {text}");
        }
        ControlEvent::PolicyRefused { .. } => tracing::error!("{text}"),
        ControlEvent::Fallback { what, instead, why } => tracing::warn!("{what}: using {instead} instead: {why}"),
        ControlEvent::Expected(Expectation::ExpectedMissing {
            rule, ever, silent_ms, ..
        }) => tracing::warn!(
            "rule {rule}: {} for {silent_ms} ms",
            if *ever {
                "its stream has stopped"
            } else {
                "no stream has come"
            }
        ),
        ControlEvent::Expected(Expectation::ExpectedBack { rule, missing_ms }) => {
            tracing::info!("rule {rule}: its stream is back after {missing_ms} ms");
        }
        ControlEvent::HealthChanged { status: "ok", .. } => tracing::info!("health: ok"),
        ControlEvent::HealthChanged { status, reason } => {
            tracing::warn!("health: {}", reason.as_deref().unwrap_or(status));
        }
        _ => tracing::info!("{text}"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::UNIX_EPOCH;

    use serde_json::{Value, json};

    use super::*;
    use crate::engine::event::StreamChange;
    use crate::engine::report::{StreamIdentity, StreamProtocol, StreamState};
    use crate::engine::time::Timestamp;

    fn stream_event() -> StreamEvent {
        StreamEvent {
            at: Timestamp::from_nanos(clock::monotonic_nanos()),
            stream: StreamIdentity {
                protocol: StreamProtocol::Rtp,
                rule: Some("contribution".into()),
                source: Some("10.0.0.1:5004".parse().expect("an address")),
                destination: Some("[::1]:5000".parse().expect("an address")),
                endpoint: Some(1),
                ssrc: Some(7),
                stream_id: None,
            },
            change: StreamChange::StateChanged {
                from: StreamState::Healthy,
                to: StreamState::Degraded,
                cause: "continuity",
                count: 6,
                limit: 5,
                window_ms: 1000,
                hold_ms: None,
                phase: None,
                note: None,
            },
        }
    }

    #[test]
    fn a_control_event_is_one_line_with_time_and_name() {
        let event = ControlEvent::BypassLeft {
            queue: 3,
            dark_ms: 120,
            packets: BypassPackets {
                returned: 5,
                dropped: 0,
                passed: 0,
            },
            takeover: true,
        };
        let text = line(UNIX_EPOCH + Duration::from_millis(1500), &event).expect("serialises");
        assert!(text.ends_with("}\n") && text.matches('\n').count() == 1);
        let value: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(
            value,
            json!({"time": "1970-01-01T00:00:01.500Z", "event": "bypass-left", "queue": 3, "dark_ms": 120,
                   "packets": {"returned": 5, "dropped": 0, "passed": 0}, "takeover": true})
        );
    }

    #[test]
    fn what_is_waited_for_is_told_as_any_control_event() {
        let missing = ControlEvent::Expected(Expectation::ExpectedMissing {
            rule: "studio".into(),
            ever: true,
            silent_ms: 1100,
            limit_ms: 1000,
        });
        let text = line(UNIX_EPOCH, &missing).expect("serialises");
        let value: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(
            value,
            json!({"time": "1970-01-01T00:00:00.000Z", "event": "expected-missing", "rule": "studio", "ever": true,
                   "silent_ms": 1100, "limit_ms": 1000})
        );
    }

    #[test]
    fn a_stream_event_carries_its_identity_and_cause() {
        let text = line(UNIX_EPOCH, &stream_event()).expect("serialises");
        let value: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(value["event"], "state-changed");
        assert_eq!(value["stream"]["source"], "10.0.0.1:5004");
        assert_eq!(value["stream"]["destination"], "[::1]:5000");
        assert_eq!((&value["from"], &value["to"]), (&json!("healthy"), &json!("degraded")));
    }

    #[test]
    fn a_file_is_appended_to_and_everything_sent_is_in_it_at_the_end() {
        let scratch = tempfile::tempdir().expect("a directory");
        let path = scratch.path().join("events.jsonl");
        std::fs::write(&path, "{\"event\":\"earlier\"}\n").expect("written");
        let log = EventLog::start(&Destination::File(path.clone())).expect("opened");
        log.sender().send(ControlEvent::Stopping {
            cause: "SIGTERM".to_owned(),
            handover: false,
        });
        for _ in 0..100 {
            log.streams().send(stream_event()).expect("the writer lives");
        }
        let counters = Arc::clone(&log.sender.counters);
        assert!(log.finish(Duration::from_secs(5)));
        let names: Vec<String> = std::fs::read_to_string(&path)
            .expect("readable")
            .lines()
            .map(|line| {
                serde_json::from_str::<Value>(line).expect("JSON")["event"]
                    .as_str()
                    .expect("a name")
                    .to_owned()
            })
            .collect();
        assert_eq!(names.len(), 102);
        assert_eq!(names[0], "earlier");
        assert!(names.contains(&"stopping".to_owned()));
        assert_eq!(counters.written.load(Ordering::Relaxed), 101);
    }

    #[test]
    fn a_directory_that_is_not_there_is_an_error_that_names_it() {
        let error = EventLog::start(&Destination::File("/nonexistent/events".into())).expect_err("no such directory");
        assert!(error.to_string().contains("/nonexistent/events"));
    }

    /// A pipe that takes nothing until it is told to.
    struct Blocked(Arc<Mutex<()>>);

    impl Write for Blocked {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _open = self.0.lock();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_does_not_fit_is_shed_and_counted_without_waiting() {
        let gate = Arc::new(Mutex::new(()));
        let closed = gate.lock().expect("not poisoned");
        let counters = Arc::new(EventCounters::default());
        let (control, events) = bounded(4);
        let (_streams, stream_events) = bounded::<StreamEvent>(1);
        let sender = EventSender {
            control,
            counters: Arc::clone(&counters),
        };
        let output: Option<Box<dyn Write + Send>> = Some(Box::new(Blocked(Arc::clone(&gate))));
        let writer = writer(output, &counters);
        std::thread::spawn(move || writer.run(&events, &stream_events));
        for _ in 0..10_000 {
            sender.send(ControlEvent::Stopping {
                cause: "test".to_owned(),
                handover: false,
            });
        }
        // Four in the channel, and in the writer's hands what it writes at a time.
        let held = 5 + LINES / br#"{"event":"stopping","cause":"test"}"#.len();
        let shed = counters.shed.load(Ordering::Relaxed);
        assert!(shed >= 10_000 - held as u64, "{shed}");
        drop(closed);
    }

    fn writer(output: Option<Box<dyn Write + Send>>, counters: &Arc<EventCounters>) -> Writer {
        Writer {
            output,
            counters: Arc::clone(counters),
            failing: false,
            lines: Vec::new(),
            begun: false,
            _alive: bounded(0).0,
        }
    }

    /// A disk with so much room.
    #[derive(Clone, Default)]
    struct Disk(Arc<Mutex<(usize, Vec<u8>)>>);

    impl Disk {
        fn room(&self, bytes: usize) {
            self.0.lock().expect("not poisoned").0 = bytes;
        }
        fn lines(&self) -> Vec<String> {
            let text = String::from_utf8(self.0.lock().expect("not poisoned").1.clone()).expect("text");
            text.lines().map(str::to_owned).collect()
        }
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut disk = self.0.lock().expect("not poisoned");
            let taken = bytes.len().min(disk.0);
            if taken == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            disk.0 -= taken;
            disk.1.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_disk_that_was_full_gets_whole_lines_and_every_event_is_counted() {
        let (disk, counters) = (Disk::default(), Arc::new(EventCounters::default()));
        let mut writer = writer(Some(Box::new(disk.clone())), &counters);
        let count = || {
            (
                counters.written.load(Ordering::Relaxed),
                counters.failed.load(Ordering::Relaxed),
            )
        };
        let length = line(UNIX_EPOCH, &stream_event()).expect("serialises").len();
        // Two lines and a half.
        disk.room(2 * length + length / 2);
        (0..6).for_each(|_| writer.stream(&stream_event()));
        assert_eq!(count(), (0, 0), "not a write for each");
        writer.write_out();
        assert_eq!(count(), (2, 3), "the third is on its way");
        (0..2).for_each(|_| writer.stream(&stream_event()));
        writer.write_out();
        assert_eq!(count(), (2, 5), "nothing got on");
        disk.room(usize::MAX);
        (0..2).for_each(|_| writer.stream(&stream_event()));
        writer.write_out();
        assert_eq!(count(), (5, 5));
        let lines = disk.lines();
        assert_eq!(lines.len(), 5);
        for line in lines {
            serde_json::from_str::<Value>(&line).expect("each line is whole");
        }
    }

    /// The line as serde would flatten the event into it.
    #[test]
    fn a_line_is_what_a_structure_around_the_event_would_be() {
        #[derive(Serialize)]
        struct Around<'a, T> {
            time: &'static str,
            #[serde(flatten)]
            event: &'a T,
        }
        fn check(event: &impl Serialize) {
            let time = "1970-01-01T00:00:00.007Z";
            let expected = serde_json::to_string(&Around { time, event }).expect("serialises") + "\n";
            let written = line(UNIX_EPOCH + Duration::from_millis(7), event).expect("serialises");
            assert_eq!(written, expected);
        }
        check(&stream_event());
        check(&ControlEvent::Stopping {
            cause: "a \"quoted\" cause".to_owned(),
            handover: true,
        });
        check(&ControlEvent::Expected(Expectation::ExpectedBack {
            rule: "studio".into(),
            missing_ms: 3,
        }));
        let mut lines = b"before".to_vec();
        assert!(append_line(&mut lines, UNIX_EPOCH, &7).is_err());
        assert_eq!(lines, b"before", "what is no object leaves nothing behind");
    }

    #[test]
    fn the_writers_thread_gives_way() {
        struct Told(Sender<i32>);
        impl Write for Told {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                let _ = self.0.try_send(priority::tests::nice());
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (tell, told) = bounded(1);
        let log = EventLog::start_with(Some(Box::new(Told(tell)))).expect("started");
        log.streams().send(stream_event()).expect("the writer lives");
        let nice = told.recv_timeout(Duration::from_secs(5)).expect("written");
        assert!(nice >= 10, "{nice}");
        assert!(log.finish(Duration::from_secs(5)));
    }
}
