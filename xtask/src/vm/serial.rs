//! Reads a guest's console: which runs began, how each ended, what they counted, and whether the guest came to its end.
//!
//! The guest's lines for this reader begin with `@@ `; everything between a run's beginning and its end is that run's output.

use std::time::Duration;

use crate::summary::{self, Summary};

/// What a console said.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// From the start of the kernel to the first command in the guest, by the guest's clock.
    pub(super) booted: Option<Duration>,
    pub(super) runs: Vec<Run>,
    /// A run that began and did not end.
    hanging: Option<String>,
    /// Whether the guest said that it was done.
    done: bool,
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
        match (&self.hanging, self.booted, self.done) {
            (Some(name), ..) => Some(format!("ended or ran out of time during {name}")),
            (None, None, _) => Some("never reached its first command".to_owned()),
            (None, Some(_), false) => Some("ended before it was done".to_owned()),
            (None, Some(_), true) => None,
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
    let mut run = Run::default();
    for line in console.lines() {
        if let Some(at) = line.find("Kernel panic - ") {
            report
                .panic
                .get_or_insert_with(|| line.get(at..).unwrap_or(line).to_owned());
        }
        let mut words = line.split_whitespace();
        if words.next() != Some("@@") {
            run.output.push_str(line);
            run.output.push('\n');
            continue;
        }
        match (words.next(), words.next()) {
            (Some("up"), Some(time)) => report.booted = time.parse().ok().map(Duration::from_millis),
            (Some("begin"), Some(name)) => {
                run = Run {
                    name: name.to_owned(),
                    ..Run::default()
                };
                report.hanging = Some(name.to_owned());
            }
            (Some("end"), Some(name)) if report.hanging.as_deref() == Some(name) => {
                let mut number = || words.next().and_then(|word| word.parse::<u32>().ok());
                // A status that cannot be read is no success.
                run.status = number().and_then(|status| i32::try_from(status).ok()).unwrap_or(-1);
                run.took = Duration::from_millis(number().unwrap_or(0).into());
                report.runs.push(std::mem::take(&mut run));
                report.hanging = None;
            }
            (Some("done"), None) => report.done = true,
            // A fact, or a line of somebody else's that begins alike.
            _ => {
                run.output.push_str(line);
                run.output.push('\n');
            }
        }
    }
    report
}

/// What a run tells of the kernel under it.
fn fact(line: &str) -> Option<&str> {
    line.strip_prefix("@@ fact ")
        .or_else(|| line.starts_with("verified instructions: ").then_some(line))
}

/// Lines that a waiting reader wants: what begins, what it counted, what failed.
pub(super) fn is_worth_showing(line: &str) -> bool {
    let line = line.trim_end_matches('\r');
    fact(line).is_some()
        || ["@@ up ", "@@ begin ", "ok - ", "not ok - "]
            .iter()
            .any(|mark| line.starts_with(mark))
        || summary::result(line).is_some()
        || line.starts_with("test ") && line.ends_with("FAILED")
        || line.contains("Kernel panic - ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &str = "\
[    0.000000] Linux version 6.1.0-56-amd64
@@ up 5230
@@ begin xdp_program 60000

running 2 tests
test verified_instructions_stay_within_the_budget ... ok
verified instructions: 41377
NOT TESTED: zero-copy: the driver cannot

test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 15 filtered out; finished in 3.21s

@@ end xdp_program 0 4120
@@ begin load 40
ok - sent is seen
ok - seen is returned and dropped
@@ fact 2000 packets sent
@@ end load 0 900
@@ begin sysctl 5
@@ end sysctl 0 10
@@ done
";

    #[test]
    fn a_sound_console_is_counted_run_by_run() {
        let report = parse(SOUND);
        assert_eq!(report.died(), None);
        assert_eq!(report.booted, Some(Duration::from_millis(5230)));
        let names: Vec<_> = report
            .runs
            .iter()
            .map(|run| (run.name.as_str(), run.tests().passed))
            .collect();
        assert_eq!(names, [("xdp_program", 2), ("load", 2), ("sysctl", 1)]);
        assert!(report.runs.iter().all(Run::ok));
        assert_eq!(report.totals(), (5, 0));
        assert_eq!(report.runs[0].took, Duration::from_millis(4120));
        assert_eq!(report.facts(), ["verified instructions: 41377", "2000 packets sent"]);
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
        assert_eq!(report.runs[0].ending(), "FAILED: exit status 101");
        // The script of the load failed a check and exited with success: still a failure.
        assert!(!report.runs[1].ok());
        assert_eq!(report.runs[1].ending(), "FAILED: exit status 0");
    }

    #[test]
    fn a_run_that_dies_without_a_word_is_one_failure() {
        let report = parse("@@ up 1\n@@ begin xsk 60\nrunning 3 tests\n@@ end xsk 137 60000\n@@ done\n");
        assert_eq!(report.totals(), (0, 1));
        assert_eq!(report.runs[0].ending(), "FAILED: out of time");
        let unreadable = parse("@@ up 1\n@@ begin xsk 60\n@@ end xsk\n@@ done\n");
        assert_eq!(unreadable.totals(), (0, 1));
    }

    #[test]
    fn a_guest_that_does_not_come_to_its_end_says_where() {
        let cut = |at: &str| parse(SOUND.split(at).next().unwrap()).died();
        assert_eq!(cut("@@ up").as_deref(), Some("never reached its first command"));
        assert_eq!(
            cut("@@ end load").as_deref(),
            Some("ended or ran out of time during load")
        );
        assert_eq!(cut("@@ done").as_deref(), Some("ended before it was done"));
        assert_eq!(
            parse("").died().as_deref(),
            Some("never reached its first command"),
            "an empty console"
        );
        let panicked = SOUND.replace("@@ done", "[   9.1] Kernel panic - not syncing: Fatal exception");
        assert_eq!(
            parse(&panicked).died().as_deref(),
            Some("panicked: Kernel panic - not syncing: Fatal exception")
        );
    }

    #[test]
    fn a_waiting_reader_sees_progress_and_failures_only() {
        let shown: Vec<&str> = SOUND.lines().filter(|line| is_worth_showing(line)).collect();
        assert_eq!(shown.len(), 1 + 3 + 1 + 1 + 2 + 1, "{shown:#?}");
    }
}
