//! Health checks as GWLB makes them, one thread per target.
//!
//! The state machine is pure; the checker beside it asks over HTTP and publishes the state in an atomic, so that the
//! data path never waits for a check.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::config::HealthConfig;

/// State changes kept for the report.
const MAX_TRANSITIONS: usize = 100;
/// Bytes of an answer that are read: the status line is all that counts.
const MAX_ANSWER: usize = 512;

/// What the load balancer thinks of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum State {
    /// Registered, not judged yet: gets no new flows while others are healthy.
    Initial = 0,
    /// Gets new flows.
    Healthy = 1,
    /// Gets new flows only if no target is healthy.
    Unhealthy = 2,
}

/// Counts checks in a row. A target in its initial state is healthy with its first passed check; later it takes the
/// threshold.
#[derive(Debug)]
pub struct Machine {
    state: State,
    healthy_threshold: u32,
    unhealthy_threshold: u32,
    passed_in_a_row: u32,
    failed_in_a_row: u32,
}

impl Machine {
    /// In the initial state.
    pub fn new(healthy_threshold: u32, unhealthy_threshold: u32) -> Machine {
        let (passed_in_a_row, failed_in_a_row) = (0, 0);
        Machine {
            state: State::Initial,
            healthy_threshold,
            unhealthy_threshold,
            passed_in_a_row,
            failed_in_a_row,
        }
    }

    /// The state now.
    pub fn state(&self) -> State {
        self.state
    }

    /// Takes a check's outcome; the new state if it changed.
    pub fn observe(&mut self, passed: bool) -> Option<State> {
        if passed {
            self.passed_in_a_row = self.passed_in_a_row.saturating_add(1);
            self.failed_in_a_row = 0;
        } else {
            self.failed_in_a_row = self.failed_in_a_row.saturating_add(1);
            self.passed_in_a_row = 0;
        }
        let next = match self.state {
            State::Initial if passed => State::Healthy,
            State::Unhealthy if self.passed_in_a_row >= self.healthy_threshold => State::Healthy,
            State::Initial | State::Healthy if self.failed_in_a_row >= self.unhealthy_threshold => State::Unhealthy,
            same => same,
        };
        let changed = next != self.state;
        self.state = next;
        changed.then_some(next)
    }
}

/// One change of a target's state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Transition {
    /// Seconds since the simulator started.
    pub at_seconds: f64,
    /// The new state.
    pub to: State,
    /// What the deciding check got.
    pub reason: String,
}

/// What the data path and the report see of a target's health.
#[derive(Debug)]
pub struct Health {
    state: AtomicU8,
    passed: AtomicU64,
    failed: AtomicU64,
    transitions: Mutex<Vec<Transition>>,
    stop: AtomicBool,
}

impl Health {
    fn new(state: State) -> Health {
        let count = || AtomicU64::new(0);
        let (state, stop) = (AtomicU8::new(state as u8), AtomicBool::new(false));
        Health {
            state,
            passed: count(),
            failed: count(),
            transitions: Mutex::default(),
            stop,
        }
    }

    /// The state now.
    pub fn state(&self) -> State {
        match self.state.load(Ordering::Relaxed) {
            0 => State::Initial,
            1 => State::Healthy,
            _ => State::Unhealthy,
        }
    }

    /// Checks passed and failed so far.
    pub fn checks(&self) -> (u64, u64) {
        (self.passed.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }

    /// The first hundred changes of state.
    pub fn transitions(&self) -> Vec<Transition> {
        self.transitions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn record(&self, transition: Transition) {
        self.state.store(transition.to as u8, Ordering::Relaxed);
        let mut transitions = self.transitions.lock().unwrap_or_else(PoisonError::into_inner);
        if transitions.len() < MAX_TRANSITIONS {
            transitions.push(transition);
        }
    }
}

/// The thread that checks one target; ends when dropped, at the latest after one check's time-out.
#[derive(Debug)]
pub struct Checker {
    health: Arc<Health>,
    thread: Option<JoinHandle<()>>,
}

impl Checker {
    /// A target that is never checked and always taken for healthy.
    pub fn unchecked() -> Checker {
        Checker {
            health: Arc::new(Health::new(State::Healthy)),
            thread: None,
        }
    }

    /// Starts checking, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start(address: SocketAddr, config: &HealthConfig, start: Instant) -> io::Result<Checker> {
        let health = Arc::new(Health::new(State::Initial));
        let (shared, config) = (Arc::clone(&health), config.clone());
        let name = format!("health-{address}");
        let thread = thread::Builder::new()
            .name(name)
            .spawn(move || check_forever(&shared, address, &config, start))?;
        Ok(Checker {
            health,
            thread: Some(thread),
        })
    }

    /// What it has found out.
    pub fn health(&self) -> &Health {
        &self.health
    }
}

impl Drop for Checker {
    fn drop(&mut self) {
        self.health.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A checker that panicked has nothing left to stop.
            let _ = thread.join();
        }
    }
}

fn check_forever(health: &Health, address: SocketAddr, config: &HealthConfig, start: Instant) {
    let mut machine = Machine::new(config.healthy_threshold, config.unhealthy_threshold);
    while !health.stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let outcome = check(address, &config.path, config.timeout);
        let passed = outcome.as_ref().is_ok_and(|status| (200..400).contains(status));
        if passed { &health.passed } else { &health.failed }.fetch_add(1, Ordering::Relaxed);
        if let Some(to) = machine.observe(passed) {
            let reason = outcome.map_or_else(|error| error.to_string(), |status| format!("HTTP {status}"));
            health.record(Transition {
                at_seconds: start.elapsed().as_secs_f64(),
                to,
                reason,
            });
        }
        while begun.elapsed() < config.interval && !health.stop.load(Ordering::Relaxed) {
            thread::park_timeout(config.interval.saturating_sub(begun.elapsed()));
        }
    }
}

/// One check: the status code of `GET path`.
///
/// # Errors
/// Refused, timed out, or not an HTTP answer.
pub fn check(address: SocketAddr, path: &str, timeout: Duration) -> io::Result<u16> {
    let deadline = Instant::now() + timeout;
    let left = || {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            Err(io::Error::from(io::ErrorKind::TimedOut))
        } else {
            Ok(left)
        }
    };
    let mut stream = TcpStream::connect_timeout(&address, left()?)?;
    stream.set_write_timeout(Some(left()?))?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: ELB-HealthChecker/2.0\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut buffer = [0; MAX_ANSWER];
    while answer.len() < MAX_ANSWER && !answer.contains(&b'\n') {
        stream.set_read_timeout(Some(left()?))?;
        match stream.read(&mut buffer)? {
            0 => break,
            count => answer.extend(buffer.iter().take(count)),
        }
    }
    status_code(&answer).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not an HTTP answer"))
}

/// The code in `HTTP/1.x CODE ...`.
fn status_code(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|byte| *byte == b'\n').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
    words.next().filter(|version| version.starts_with("HTTP/1."))?;
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(machine: &mut Machine, checks: &str) -> Vec<Option<State>> {
        checks.chars().map(|check| machine.observe(check == '+')).collect()
    }

    #[test]
    fn the_first_passed_check_is_enough_at_first() {
        let mut machine = Machine::new(5, 2);
        assert_eq!(machine.state(), State::Initial);
        assert_eq!(run(&mut machine, "-+"), [None, Some(State::Healthy)]);
    }

    #[test]
    fn thresholds_count_checks_in_a_row() {
        let mut machine = Machine::new(3, 2);
        run(&mut machine, "+");
        assert_eq!(run(&mut machine, "-+-+"), [None; 4]);
        assert_eq!(run(&mut machine, "--"), [None, Some(State::Unhealthy)]);
        assert_eq!(run(&mut machine, "++-++"), [None; 5]);
        assert_eq!(run(&mut machine, "-+++"), [None, None, None, Some(State::Healthy)]);
    }

    #[test]
    fn a_target_that_never_answers_becomes_unhealthy() {
        let mut machine = Machine::new(5, 2);
        assert_eq!(run(&mut machine, "---"), [None, Some(State::Unhealthy), None]);
    }

    #[test]
    fn status_lines() {
        assert_eq!(status_code(b"HTTP/1.1 503 Service Unavailable\r\n"), Some(503));
        assert_eq!(status_code(b"HTTP/1.0 200\r\n"), Some(200));
        assert_eq!(status_code(b"SSH-2.0-x\r\n"), None);
        assert_eq!(status_code(b"HTTP/1.1 \xff\r\n"), None);
        assert_eq!(status_code(b""), None);
    }
}
