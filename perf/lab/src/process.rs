//! A child process with a log, in a process group of its own, that ends with its owner.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::error::{Error, Result};
use crate::registry;
use crate::wait::POLL;

/// How long `Drop` waits between SIGTERM and SIGKILL.
const DROP_GRACE: Duration = Duration::from_secs(2);
/// How many of a log's last lines an error quotes.
const QUOTED_LINES: usize = 20;

/// A running child and the tree under it. Dropped: the whole group gets SIGTERM, after two seconds SIGKILL.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    pid: Pid,
    log: PathBuf,
    status: Option<ExitStatus>,
}

impl Process {
    /// Starts a command; standard output and error go to the file `log`, which is made anew.
    ///
    /// # Errors
    /// [`Error::Io`] for the log, [`Error::Spawn`], [`Error::TornDown`].
    pub fn spawn(name: &str, mut command: Command, log: &Path) -> Result<Process> {
        let (file, copy) = open_log(log)?;
        command.stdin(Stdio::null()).stdout(file).stderr(copy).process_group(0);
        Process::start(name, &mut command, log)
    }

    /// Starts a command whose standard output the caller reads; standard error goes to the file `log`.
    ///
    /// # Errors
    /// As [`Process::spawn`].
    pub fn spawn_piped(name: &str, mut command: Command, log: &Path) -> Result<(Process, ChildStdout)> {
        let (file, _) = open_log(log)?;
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(file)
            .process_group(0);
        let mut process = Process::start(name, &mut command, log)?;
        match process.child.stdout.take() {
            Some(output) => Ok((process, output)),
            None => Err(Error::io(
                format!("standard output of {name}"),
                std::io::Error::other("was not piped"),
            )),
        }
    }

    fn start(name: &str, command: &mut Command, log: &Path) -> Result<Process> {
        let (child, pid) = registry::spawn(command)?;
        Ok(Process {
            name: name.to_owned(),
            child,
            pid,
            log: log.to_owned(),
            status: None,
        })
    }

    /// The process id, which is also its group's.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The name given at the start.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it still runs.
    pub fn is_running(&self) -> bool {
        self.status.is_none() && !registry::has_exited(self.pid)
    }

    /// All that it has written to its log so far; empty if the log cannot be read.
    pub fn log(&self) -> String {
        fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Sends a signal to the process alone, not to its group (SIGKILL, SIGSTOP and SIGCONT for fault tests).
    ///
    /// # Errors
    /// [`Error::Io`] if it has been waited for already.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let what = || format!("signalling {}", self.name);
        if self.status.is_some() {
            return Err(Error::io(what(), rustix::io::Errno::SRCH));
        }
        kill_process(self.pid, signal).map_err(|source| Error::io(what(), source))
    }

    /// Waits for it to end by itself; whatever its tree left running is killed then.
    ///
    /// # Errors
    /// [`Error::Timeout`]; it goes on running then.
    pub fn wait(&mut self, within: Duration) -> Result<ExitStatus> {
        if self.exits_within(within) {
            return self.finish();
        }
        Err(Error::Timeout {
            what: format!("{} to end", self.name),
            after: within,
        })
    }

    /// Ends it: SIGTERM to the group, SIGKILL after `grace`. How it ended tells whether it obeyed.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be waited for.
    pub fn stop(&mut self, grace: Duration) -> Result<ExitStatus> {
        if self.status.is_none() {
            // Errors here mean that it is gone already, which finish() finds out.
            let _ = kill_process_group(self.pid, Signal::TERM);
            if !self.exits_within(grace) {
                let _ = kill_process_group(self.pid, Signal::KILL);
            }
        }
        self.finish()
    }

    /// Like [`crate::wait_until`], but gives up at once, quoting the log, when the process ends meanwhile.
    ///
    /// # Errors
    /// [`Error::Ended`] or [`Error::Timeout`].
    pub fn wait_until(&self, what: &str, within: Duration, mut condition: impl FnMut() -> bool) -> Result<()> {
        let start = Instant::now();
        loop {
            let running = self.is_running();
            // Looked at after the process: what it did last still counts.
            if condition() {
                return Ok(());
            }
            if !running {
                let (name, what) = (self.name.clone(), what.to_owned());
                return Err(Error::Ended {
                    name,
                    what,
                    log: last_lines(&self.log()),
                });
            }
            if start.elapsed() >= within {
                return Err(Error::Timeout {
                    what: format!("{what} ({})", self.name),
                    after: within,
                });
            }
            thread::sleep(POLL);
        }
    }

    fn exits_within(&self, within: Duration) -> bool {
        let start = Instant::now();
        while self.is_running() {
            if start.elapsed() >= within {
                return false;
            }
            thread::sleep(POLL);
        }
        true
    }

    /// Kills the rest of the group and reaps the leader, in this order: an unreaped leader keeps the group's number.
    fn finish(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.status {
            return Ok(status);
        }
        registry::close_group(self.pid);
        let status = self
            .child
            .wait()
            .map_err(|source| Error::io(format!("waiting for {}", self.name), source))?;
        self.status = Some(status);
        Ok(status)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.stop(DROP_GRACE) {
            eprintln!("lab: {} may still run: {error}", self.name);
        }
    }
}

fn open_log(log: &Path) -> Result<(File, File)> {
    let what = || format!("log {}", log.display());
    if let Some(directory) = log.parent() {
        fs::create_dir_all(directory).map_err(|source| Error::io(what(), source))?;
    }
    let file = File::create(log).map_err(|source| Error::io(what(), source))?;
    let copy = file.try_clone().map_err(|source| Error::io(what(), source))?;
    Ok((file, copy))
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let skip = lines.len().saturating_sub(QUOTED_LINES);
    lines.into_iter().skip(skip).collect::<Vec<_>>().join("\n")
}
