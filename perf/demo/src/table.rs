//! The live table: one line per stream, drawn over itself on a terminal, now and then elsewhere.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::scene::Scene;

/// Where nothing can be drawn over, the table is printed this often.
const PLAIN_EVERY: Duration = Duration::from_secs(5);

/// A stream's rate is taken over this time.
const RATE_OVER: Duration = Duration::from_secs(4);

/// The table and what it needs to tell rates.
pub(crate) struct Table {
    drawn_lines: usize,
    last_plain: Option<Instant>,
    bytes: HashMap<String, VecDeque<(Instant, u64)>>,
    begun: Instant,
    terminal: bool,
}

impl Table {
    /// Nothing is drawn yet.
    pub(crate) fn new() -> Self {
        let terminal = std::io::stdout().is_terminal();
        Table {
            drawn_lines: 0,
            last_plain: None,
            bytes: HashMap::new(),
            begun: Instant::now(),
            terminal,
        }
    }

    /// Draws the table anew.
    ///
    /// # Errors
    /// When the appliance does not answer.
    pub(crate) fn refresh(&mut self, scene: &Scene) -> anyhow::Result<()> {
        if !self.terminal && self.last_plain.is_some_and(|last| last.elapsed() < PLAIN_EVERY) {
            return Ok(());
        }
        self.last_plain = Some(Instant::now());
        self.draw(scene)
    }

    /// Draws it a last time, to stay.
    ///
    /// # Errors
    /// When the appliance does not answer.
    pub(crate) fn finish(&mut self, scene: &Scene) -> anyhow::Result<()> {
        // Rates since a plain table of just now would be those of senders that are ending.
        if !self.terminal && self.last_plain.is_some_and(|last| last.elapsed() < RATE_OVER) {
            return Ok(());
        }
        self.draw(scene)
    }

    fn draw(&mut self, scene: &Scene) -> anyhow::Result<()> {
        let text = self.render(scene)?;
        let mut out = std::io::stdout().lock();
        if self.terminal && self.drawn_lines > 0 {
            // Up to the table's first line, and clear from there.
            write!(out, "\x1b[{}A\x1b[J", self.drawn_lines)?;
        }
        write!(out, "{text}")?;
        out.flush()?;
        self.drawn_lines = text.lines().count();
        Ok(())
    }

    fn render(&mut self, scene: &Scene) -> anyhow::Result<String> {
        let report = scene.gwlb_report();
        let mut text = String::new();
        writeln!(
            text,
            "{:>4} s  {:<9} {:<13} {:<16} {:<9} {:>5}  {:>16}  {:>17}",
            self.begun.elapsed().as_secs(),
            "protocol",
            "rule",
            "destination",
            "state",
            "Mb/s",
            "continuity",
            "round trip, us"
        )?;
        writeln!(text, "{:>64}  {:>16}  {:>17}", "", "source / network", "p50 / p99")?;
        let mut streams = scene.streams()?;
        // RTCP is a companion, not media.
        streams.retain(|stream| stream["protocol"] != "rtcp");
        streams.sort_by_key(|stream| stream["destination"].as_str().unwrap_or_default().to_owned());
        for stream in streams {
            let name = |key: &str| stream[key].as_str().unwrap_or("-").to_owned();
            let destination = name("destination");
            let continuity = match stream["ts"]["continuity_errors"].as_object() {
                Some(errors) => format!("{} / {}", errors["source"], errors["network"]),
                None => "not visible".to_owned(),
            };
            let flow = report
                .as_ref()
                .and_then(|report| report.flows.iter().find(|f| f.destination == destination));
            let trip = flow.map_or("-".to_owned(), |f| format!("{:.0} / {:.0}", f.rtt_us.p50, f.rtt_us.p99));
            writeln!(
                text,
                "        {:<9} {:<13} {destination:<16} {:<9} {:>5.2}  {continuity:>16}  {trip:>17}",
                name("protocol"),
                name("rule"),
                name("state"),
                self.rate(&destination, &stream),
            )?;
        }
        writeln!(
            text,
            "        from the unlisted source arrived: {} packets",
            scene.unlisted_arrived()
        )?;
        Ok(text)
    }

    /// Megabits per second over the last seconds: encoders send frames, so a shorter look would jump.
    fn rate(&mut self, destination: &str, stream: &Value) -> f64 {
        let (now, bytes) = (Instant::now(), stream["bytes"].as_u64().unwrap_or(0));
        let samples = self.bytes.entry(destination.to_owned()).or_default();
        samples.push_back((now, bytes));
        while samples.len() > 2 && samples.front().is_some_and(|(then, _)| now - *then > RATE_OVER) {
            samples.pop_front();
        }
        let Some((then, before)) = samples.front() else {
            return 0.0;
        };
        let seconds = now.duration_since(*then).as_secs_f64();
        if seconds > 0.0 {
            bytes.saturating_sub(*before) as f64 * 8.0 / seconds / 1e6
        } else {
            0.0
        }
    }
}
