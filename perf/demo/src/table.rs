//! The live table: one line per stream, drawn over itself on a terminal, now and then elsewhere.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::scene::Scene;

/// Where nothing can be drawn over, the table is printed this often.
const PLAIN_EVERY: Duration = Duration::from_secs(5);

/// The table and what it needs to tell rates.
pub(crate) struct Table {
    drawn_lines: usize,
    last_plain: Option<Instant>,
    bytes: HashMap<String, (Instant, u64)>,
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
            "{:>4} s  {:<9} {:<13} {:<22} {:<9} {:>6}  {:>11}  {:>15}",
            self.begun.elapsed().as_secs(),
            "protocol",
            "rule",
            "destination",
            "state",
            "Mb/s",
            "continuity",
            "round trip us"
        )?;
        writeln!(text, "{:>64}  {:>18}  {:>15}", "", "source / network", "p50 / p99")?;
        for stream in scene.streams()? {
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
                "        {:<9} {:<13} {destination:<22} {:<9} {:>6.2}  {continuity:>11}  {trip:>15}",
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

    /// Megabits per second since the last time this stream was drawn.
    fn rate(&mut self, destination: &str, stream: &Value) -> f64 {
        let (now, bytes) = (Instant::now(), stream["bytes"].as_u64().unwrap_or(0));
        let (then, before) = self
            .bytes
            .insert(destination.to_owned(), (now, bytes))
            .unwrap_or((self.begun, 0));
        let seconds = now.duration_since(then).as_secs_f64().max(0.001);
        bytes.saturating_sub(before) as f64 * 8.0 / seconds / 1e6
    }
}
