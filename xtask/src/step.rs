//! One step of a task: a command with a progress line, a log of its own under `target/logs/`, a time limit, and on failure
//! the log's last lines with what to do about it.

use std::fs::{self, File};
use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::process;

/// How many of a failed step's last log lines are shown.
const TAIL_LINES: usize = 30;
/// The longest a step may take unless it says otherwise.
const DEFAULT_LIMIT: Duration = Duration::from_secs(15 * 60);
/// Where nothing redraws (a file, a CI log), how often a long step says that it is still alive.
const SIGN_OF_LIFE: Duration = Duration::from_secs(60);

/// A step that is about to run.
pub(crate) struct Step {
    name: String,
    log: PathBuf,
    remedy: String,
    limit: Duration,
    show: fn(&str) -> bool,
}

/// How a step's command ended.
pub(crate) struct Outcome {
    /// Its exit status; `None` when it ran into its limit and was killed.
    pub(crate) status: Option<ExitStatus>,
    /// Everything it printed.
    pub(crate) log: PathBuf,
}

impl Outcome {
    /// Whether the command ended by itself with exit status 0.
    pub(crate) fn ok(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }
}

impl Step {
    /// A step named `name`; its log is `target/logs/NAME.log`.
    pub(crate) fn new(root: &Path, name: &str) -> Self {
        let slug: String = name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .collect();
        Self {
            name: name.to_owned(),
            log: root.join("target/logs").join(format!("{slug}.log")),
            remedy: String::new(),
            limit: DEFAULT_LIMIT,
            show: |_| false,
        }
    }

    /// What to do when it fails; printed after the log's last lines.
    pub(crate) fn remedy(mut self, text: impl Into<String>) -> Self {
        self.remedy = text.into();
        self
    }

    /// The longest it may take; then it is killed with everything it started.
    pub(crate) fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Which of its lines to show while it runs; the others go to the log alone.
    pub(crate) fn show(mut self, wanted: fn(&str) -> bool) -> Self {
        self.show = wanted;
        self
    }

    /// Runs a command that has to succeed.
    ///
    /// # Errors
    /// When it cannot be started, fails or runs into the limit; the log's tail and the remedy are printed before.
    pub(crate) fn run(self, command: &mut Command) -> Result<()> {
        let outcome = self.attempt(command)?;
        if outcome.ok() {
            return Ok(());
        }
        let text = fs::read(&outcome.log).unwrap_or_default();
        eprintln!("{}", tail(&String::from_utf8_lossy(&text), TAIL_LINES));
        if !self.remedy.is_empty() {
            eprintln!("what to do: {}", self.remedy);
        }
        bail!("{} failed; all it printed is in {}", self.name, shown(&outcome.log));
    }

    /// Runs a command whose failure the caller looks into.
    ///
    /// # Errors
    /// When it cannot be started or its log cannot be written.
    pub(crate) fn attempt(&self, command: &mut Command) -> Result<Outcome> {
        let folder = self.log.parent().context("a log without a folder")?;
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let log = File::create(&self.log).with_context(|| format!("cannot write {}", self.log.display()))?;
        command.env("CARGO_TERM_COLOR", "never").stdin(Stdio::null());
        // Both go to one open file, so their order is kept, and no pipe is left open by a forgotten grandchild.
        command.stdout(log.try_clone()?).stderr(log);
        let started = Instant::now();
        let mut line = ProgressLine::start(&self.name);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", process::line(command)))?;
        let status = self.watch(child, started, &mut line)?;
        let verdict = match status {
            Some(status) if status.success() => "ok".to_owned(),
            Some(status) => format!("FAILED ({status})"),
            None => format!("FAILED (killed after its limit of {})", elapsed(self.limit)),
        };
        line.end(&format!(
            "{verdict}, {}, {}",
            elapsed(started.elapsed()),
            shown(&self.log)
        ));
        Ok(Outcome {
            status,
            log: self.log.clone(),
        })
    }

    fn watch(&self, mut child: Child, started: Instant, line: &mut ProgressLine) -> Result<Option<ExitStatus>> {
        let mut log = LogTail::open(&self.log)?;
        let mut pause = Duration::from_millis(2);
        loop {
            let status = child.try_wait()?;
            for text in log.new_lines(status.is_some())? {
                if (self.show)(&text) {
                    line.print(&text);
                }
            }
            if status.is_some() {
                return Ok(status);
            }
            if started.elapsed() > self.limit {
                process::kill_tree(child.id());
                child.wait()?;
                return Ok(None);
            }
            line.running(started.elapsed());
            thread::sleep(pause);
            // Short steps end at once, long ones are not polled for nothing.
            pause = (pause * 2).min(Duration::from_millis(100));
        }
    }
}

/// Reads what was appended to a log since the last look, whole lines only.
struct LogTail {
    file: File,
    rest: Vec<u8>,
}

impl LogTail {
    fn open(path: &Path) -> Result<Self> {
        Ok(Self {
            file: File::open(path)?,
            rest: Vec::new(),
        })
    }

    fn new_lines(&mut self, ended: bool) -> Result<Vec<String>> {
        self.file.read_to_end(&mut self.rest)?;
        let whole = match self.rest.iter().rposition(|byte| *byte == b'\n') {
            _ if ended => self.rest.len(),
            Some(at) => at + 1,
            None => 0,
        };
        let taken: Vec<u8> = self.rest.drain(..whole).collect();
        Ok(String::from_utf8_lossy(&taken).lines().map(str::to_owned).collect())
    }
}

/// Runs a step that is no single command and tells of itself while it runs; adds how it ended and how long it took.
///
/// # Errors
/// Those of the step.
pub(crate) fn timed<T>(name: &str, step: impl FnOnce() -> Result<T>) -> Result<T> {
    println!("{name}: running");
    let started = Instant::now();
    let result = step();
    let verdict = if result.is_ok() { "ok" } else { "FAILED" };
    println!("{name}: {verdict}, {}", elapsed(started.elapsed()));
    result
}

/// The step's line on the terminal, redrawn in place; elsewhere one line at its start and one at its end.
struct ProgressLine {
    name: String,
    redraws: bool,
    last: Instant,
}

impl ProgressLine {
    fn start(name: &str) -> Self {
        let redraws = std::io::stdout().is_terminal();
        if !redraws {
            println!("{name}: running");
        }
        Self {
            name: name.to_owned(),
            redraws,
            last: Instant::now(),
        }
    }

    fn running(&mut self, for_time: Duration) {
        let due = if self.redraws {
            Duration::from_millis(200)
        } else {
            SIGN_OF_LIFE
        };
        if self.last.elapsed() < due {
            return;
        }
        self.last = Instant::now();
        if self.redraws {
            print!("\r\x1b[K{}: running, {}", self.name, elapsed(for_time));
            let _ = std::io::stdout().flush();
        } else {
            println!("{}: still running, {}", self.name, elapsed(for_time));
        }
    }

    fn print(&self, text: &str) {
        println!("{}{text}", if self.redraws { "\r\x1b[K" } else { "" });
    }

    fn end(self, verdict: &str) {
        println!("{}{}: {verdict}", if self.redraws { "\r\x1b[K" } else { "" }, self.name);
    }
}

/// A time for people: `0.4 s`, `12 s`, `3 min 05 s`.
pub(crate) fn elapsed(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds >= 60 {
        format!("{} min {:02} s", seconds / 60, seconds % 60)
    } else if seconds >= 10 {
        format!("{seconds} s")
    } else {
        format!("{:.1} s", time.as_secs_f64())
    }
}

/// The last `count` lines of a text.
pub(crate) fn tail(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines
        .get(lines.len().saturating_sub(count)..)
        .unwrap_or_default()
        .join("\n")
}

/// A path as the reader in the workspace would type it.
fn shown(path: &Path) -> String {
    let text = path.to_string_lossy();
    match text.rfind("target/logs/").and_then(|at| text.get(at..)) {
        Some(relative) => relative.to_owned(),
        None => text.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("xtask-step-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn a_step_keeps_both_outputs_in_their_order() {
        let root = folder("order");
        let step = Step::new(&root, "say things");
        let outcome = step
            .attempt(Command::new("sh").args(["-c", "echo a; echo b >&2; echo c; exit 3"]))
            .unwrap();
        assert!(!outcome.ok());
        assert_eq!(outcome.status.and_then(|status| status.code()), Some(3));
        assert_eq!(
            fs::read_to_string(root.join("target/logs/say-things.log")).unwrap(),
            "a\nb\nc\n"
        );
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_step_past_its_limit_is_killed() {
        let root = folder("limit");
        let started = Instant::now();
        let step = Step::new(&root, "hang").limit(Duration::from_millis(50));
        let outcome = step.attempt(Command::new("sh").args(["-c", "sleep 60; true"])).unwrap();
        assert!(outcome.status.is_none() && !outcome.ok());
        assert!(started.elapsed() < Duration::from_secs(20));
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn what_has_to_succeed_and_does_not_is_an_error_that_names_its_log() {
        let root = folder("error");
        let error = Step::new(&root, "fail")
            .run(&mut Command::new("false"))
            .unwrap_err()
            .to_string();
        assert_eq!(error, "fail failed; all it printed is in target/logs/fail.log");
        assert!(
            Step::new(&root, "none")
                .run(&mut Command::new("/nonexistent/tool"))
                .is_err()
        );
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn lines_are_read_once_and_whole() {
        let root = folder("tail");
        let path = root.join("log");
        let mut writer = File::create(&path).unwrap();
        let mut log = LogTail::open(&path).unwrap();
        write!(writer, "one\ntw").unwrap();
        assert_eq!(log.new_lines(false).unwrap(), ["one"]);
        write!(writer, "o\nthr").unwrap();
        assert_eq!(log.new_lines(false).unwrap(), ["two"]);
        assert_eq!(log.new_lines(true).unwrap(), ["thr"]);
        assert!(log.new_lines(true).unwrap().is_empty());
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn times_and_tails() {
        assert_eq!(elapsed(Duration::from_millis(420)), "0.4 s");
        assert_eq!(elapsed(Duration::from_secs(12)), "12 s");
        assert_eq!(elapsed(Duration::from_secs(185)), "3 min 05 s");
        assert_eq!(tail("a\nb\nc", 2), "b\nc");
        assert_eq!(tail("a", 30), "a");
        assert_eq!(tail("", 30), "");
    }
}
