//! Reads a guest's console: which runs began, how each ended, what they counted, and whether the guest came to its end.
//!
//! The guest's lines for this reader begin with `@@ `. What a run prints has `NAME| ` before it, for two run at a time.

use std::time::Duration;

use crate::summary::{self, Summary};

/// What a console said.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// From the start of the kernel to the guest's first process, by the guest's clock, as all times here.
    pub(super) started: Option<Duration>,
    /// To the first run: the modules are loaded.
    pub(super) booted: Option<Duration>,
    /// In the order in which they ended.
    pub(super) runs: Vec<Run>,
    /// Runs that began and did not end.
    hanging: Vec<Run>,
    /// To the guest's end, when it came to it.
    pub(super) done: Option<Duration>,
    /// The kernel's last words, if it panicked.
    panic: Option<String>,
}

/// One command in the guest.
#[derive(Debug, Default)]
pub(super) struct Run {
    pub(super) name: String,
    pub(super) output: String,
    /// Its exit status.
    status: i32,
    pub(super) took: Duration,
}

/// How many of what a run checked held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) passed: u64,
    pub(super) failed: u64,
}

/// What busybox's `timeout -s KILL` exits with when it had to act, and a shell for what was killed under it.
const KILLED: [i32; 2] = [124, 137];

impl Report {
    /// Why the guest did not come to its end, for a sentence that begins with "the guest"; `None` when it did.
    pub(super) fn died(&self) -> Option<String> {
        if let Some(panic) = &self.panic {
            return Some(format!("panicked: {panic}"));
        }
        let hanging: Vec<&str> = self.hanging.iter().map(|run| run.name.as_str()).collect();
        match (hanging.is_empty(), self.booted, self.done) {
            (false, ..) => Some(format!("ended or ran out of time during {}", hanging.join(" and "))),
            (true, None, _) => Some("never reached its first command".to_owned()),
            (true, Some(_), None) => Some("ended before it was done".to_owned()),
            (true, Some(_), Some(_)) => None,
        }
    }

    /// Passed and failed over all runs.
    pub(super) fn totals(&self) -> (u64, u64) {
        let counts = self.runs.iter().map(Run::tests);
        counts.fold((0, 0), |(passed, failed), run| {
            (passed + run.passed, failed + run.failed)
        })
    }

    /// What the runs told of the kernel under them, in their order.
    pub(super) fn facts(&self) -> Vec<String> {
        let lines = self.runs.iter().flat_map(|run| run.output.lines());
        lines.filter_map(fact).map(str::to_owned).collect()
    }

    /// What the tests say they could not prove there, each once.
    pub(super) fn unproven(&self) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        for what in self.runs.iter().flat_map(|run| run.summary().unproven) {
            if !all.contains(&what) {
                all.push(what);
            }
        }
        all
    }
}

impl Run {
    /// Whether it ended by itself with success and nothing it checked failed.
    pub(super) fn ok(&self) -> bool {
        self.tests().failed == 0
    }

    /// How it ended, in a word or two.
    pub(super) fn ending(&self) -> String {
        match self.status {
            0 if self.ok() => "ok".to_owned(),
            status if KILLED.contains(&status) => "FAILED: out of time".to_owned(),
            status => format!("FAILED: exit status {status}"),
        }
    }

    fn summary(&self) -> Summary {
        summary::parse(&self.output)
    }

    /// What it checked: tests as the harness sums them up, or checks a line each. A run that reports neither is itself one
    /// check, and one that fails without saying of what is one failure.
    pub(super) fn tests(&self) -> Counts {
        let harness = self.summary();
        let lines = |mark: &str| self.output.lines().filter(|line| line.starts_with(mark)).count() as u64;
        let mut counts = Counts {
            passed: harness.passed + lines("ok - "),
            failed: harness.failed + lines("not ok - "),
        };
        if self.status != 0 && counts.failed == 0 {
            counts.failed = 1;
        } else if counts == Counts::default() {
            counts.passed = 1;
        }
        counts
    }
}

/// Reads a whole console, carriage returns removed.
pub(super) fn parse(console: &str) -> Report {
    let mut report = Report::default();
    for line in console.lines() {
        if let Some(at) = line.find("Kernel panic - ") {
            report
                .panic
                .get_or_insert_with(|| line.get(at..).unwrap_or(line).to_owned());
        }
        match line.strip_prefix("@@ ") {
            Some(told) => report.hear(told),
            None => report.keep(line),
        }
    }
    report
}

impl Report {
    /// Takes what the guest tells of itself.
    fn hear(&mut self, told: &str) {
        let mut words = told.split_whitespace();
        let (Some(what), Some(value)) = (words.next(), words.next()) else {
            return;
        };
        let time = || value.parse().ok().map(Duration::from_millis);
        match what {
            "kernel" => self.started = time(),
            "up" => self.booted = time(),
            "done" => self.done = time(),
            "begin" => self.hanging.push(Run {
                name: value.to_owned(),
                ..Run::default()
            }),
            "end" => {
                let Some(at) = self.hanging.iter().position(|run| run.name == value) else {
                    return;
                };
                let mut run = self.hanging.remove(at);
                let mut number = || words.next().and_then(|word| word.parse::<u32>().ok());
                // A status that cannot be read is no success.
                run.status = number().and_then(|status| i32::try_from(status).ok()).unwrap_or(-1);
                run.took = Duration::from_millis(number().unwrap_or(0).into());
                self.runs.push(run);
            }
            _ => {}
        }
    }

    /// Keeps a line that a run printed. Others are the kernel's, which the log has.
    fn keep(&mut self, line: &str) {
        let Some((name, text)) = owned(line) else { return };
        if let Some(run) = self.hanging.iter_mut().find(|run| run.name == name) {
            run.output.push_str(text);
            run.output.push('\n');
        }
    }
}

/// Whose line this is, and what was printed. Anything may look like one; only a run that is under way has lines.
fn owned(line: &str) -> Option<(&str, &str)> {
    let (name, text) = line.split_once('|')?;
    Some((name, text.strip_prefix(' ').unwrap_or(text)))
}

/// What a run tells of the kernel under it.
fn fact(line: &str) -> Option<&str> {
    line.strip_prefix("@@ fact ")
        .or_else(|| line.starts_with("verified instructions: ").then_some(line))
}

/// Lines that a waiting reader wants: what begins, what it counted, what failed.
pub(super) fn is_worth_showing(line: &str) -> bool {
    let line = line.trim_end_matches('\r');
    if ["@@ up ", "@@ begin ", "@@ end "]
        .iter()
        .any(|mark| line.starts_with(mark))
        || line.contains("Kernel panic - ")
    {
        return true;
    }
    let text = owned(line).map_or(line, |(_, text)| text);
    fact(text).is_some()
        || ["ok - ", "not ok - "].iter().any(|mark| text.starts_with(mark))
        || summary::result(text).is_some()
        || text.starts_with("test ") && text.ends_with("FAILED")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &str = "\
[    0.000000] Linux version 6.1.0-56-amd64
@@ kernel 3810
@@ up 5230
@@ begin xdp_program 60
xdp_program|
xdp_program| running 2 tests
@@ begin load 40
xdp_program| test verified_instructions_stay_within_the_budget ... ok
load| ok - sent is seen
xdp_program| verified instructions: 41377
xdp_program| NOT TESTED: zero-copy: the driver cannot
load| ok - seen is returned and dropped
load| @@ fact 2000 packets sent
xdp_program|
xdp_program| test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 15 filtered out; finished in 3.21s

@@ end load 0 900

@@ end xdp_program 0 4120
@@ begin sysctl 5
@@ end sysctl 0 10
@@ done 12000
";

    #[test]
    fn a_sound_console_is_counted_run_by_run() {
        let report = parse(SOUND);
        assert_eq!(report.died(), None);
        let times = [report.started, report.booted, report.done];
        assert_eq!(
            times,
            [3810, 5230, 12_000].map(|time| Some(Duration::from_millis(time)))
        );
        let names: Vec<_> = report
            .runs
            .iter()
            .map(|run| (run.name.as_str(), run.tests().passed))
            .collect();
        assert_eq!(names, [("load", 2), ("xdp_program", 2), ("sysctl", 1)]);
        assert!(report.runs.iter().all(Run::ok));
        assert_eq!(report.totals(), (5, 0));
        assert_eq!(report.runs[1].took, Duration::from_millis(4120));
        assert_eq!(report.facts(), ["2000 packets sent", "verified instructions: 41377"]);
        assert_eq!(report.unproven(), ["zero-copy: the driver cannot"]);
    }

    #[test]
    fn failures_are_counted_however_they_are_told() {
        let console = SOUND
            .replace("ok. 2 passed; 0 failed", "FAILED. 1 passed; 1 failed")
            .replace("@@ end xdp_program 0", "@@ end xdp_program 101")
            .replace("ok - seen is", "not ok - seen is");
        let report = parse(&console);
        assert_eq!(report.totals(), (3, 2));
        assert_eq!(report.runs[1].ending(), "FAILED: exit status 101");
        // The script of the load failed a check and exited with success: still a failure.
        assert!(!report.runs[0].ok());
        assert_eq!(report.runs[0].ending(), "FAILED: exit status 0");
    }

    #[test]
    fn a_run_that_dies_without_a_word_is_one_failure() {
        let report = parse("@@ up 1\n@@ begin xsk 60\nxsk| running 3 tests\n@@ end xsk 137 60000\n@@ done 60001\n");
        assert_eq!(report.totals(), (0, 1));
        assert_eq!(report.runs[0].ending(), "FAILED: out of time");
        let unreadable = parse("@@ up 1\n@@ begin xsk 60\n@@ end xsk\n@@ done 9\n");
        assert_eq!(unreadable.totals(), (0, 1));
    }

    #[test]
    fn a_guest_that_does_not_come_to_its_end_says_where() {
        let cut = |at: &str| parse(SOUND.split(at).next().unwrap()).died();
        assert_eq!(cut("@@ up").as_deref(), Some("never reached its first command"));
        assert_eq!(
            cut("@@ end load").as_deref(),
            Some("ended or ran out of time during xdp_program and load")
        );
        assert_eq!(
            cut("@@ end xdp_program").as_deref(),
            Some("ended or ran out of time during xdp_program")
        );
        assert_eq!(cut("@@ done").as_deref(), Some("ended before it was done"));
        assert_eq!(
            parse("").died().as_deref(),
            Some("never reached its first command"),
            "an empty console"
        );
        let panicked = SOUND.replace("@@ done 12000", "[   9.1] Kernel panic - not syncing: Fatal exception");
        assert_eq!(
            parse(&panicked).died().as_deref(),
            Some("panicked: Kernel panic - not syncing: Fatal exception")
        );
    }

    #[test]
    fn a_waiting_reader_sees_progress_and_failures_only() {
        let shown: Vec<&str> = SOUND.lines().filter(|line| is_worth_showing(line)).collect();
        assert_eq!(shown.len(), 1 + 3 + 3 + 1 + 1 + 2 + 1, "{shown:#?}");
    }
}
