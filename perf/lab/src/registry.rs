//! What exists right now, for the whole process: so that a signal handler's thread can tear everything down.
//!
//! A process group is listed from before anyone can know its number until before its leader is reaped; as long as it is
//! listed the number cannot have been given to a stranger.

use std::process::{Child, Command};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{io, thread};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use crate::command;
use crate::error::{Error, Result};
use crate::wait::POLL;

/// How long processes get between SIGTERM and SIGKILL when all is torn down.
const GRACE: Duration = Duration::from_secs(2);

struct Registry {
    closed: bool,
    groups: Vec<Pid>,
    namespaces: Vec<String>,
}

static REGISTRY: Mutex<Registry> = Mutex::new(Registry {
    closed: false,
    groups: Vec::new(),
    namespaces: Vec::new(),
});

fn registry() -> MutexGuard<'static, Registry> {
    // A panic elsewhere must not keep the lab from being torn down; the lists are valid at every point.
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends every process and removes every namespace that this process's labs have made, and forbids new ones.
///
/// For the thread that waits for SIGINT or SIGTERM: it may run while other threads still hold [`crate::Process`] and
/// [`crate::Namespace`] values; their `Drop` then finds nothing left to do. Takes about two seconds at most when processes
/// ignore SIGTERM. The caller exits afterwards.
pub fn teardown_all() {
    let namespaces = {
        let mut registry = registry();
        registry.closed = true;
        for group in &registry.groups {
            let _ = kill_process_group(*group, Signal::TERM);
        }
        registry.namespaces.clone()
    };
    let deadline = Instant::now() + GRACE;
    while Instant::now() < deadline {
        if registry().groups.iter().all(|group| has_exited(*group)) {
            break;
        }
        thread::sleep(POLL);
    }
    for group in &registry().groups {
        let _ = kill_process_group(*group, Signal::KILL);
    }
    for name in namespaces {
        // Its owner may have been faster: a missing namespace is what is wanted.
        let _ = command::run(Command::new("ip").args(["netns", "del", &name]));
    }
}

/// Whether a child has ended; does not reap it.
pub(crate) fn has_exited(pid: Pid) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    match waitid(WaitId::Pid(pid), options) {
        Ok(status) => status.is_some(),
        // ECHILD: already reaped.
        Err(_) => true,
    }
}

/// Starts a child that leads a process group of its own and lists the group.
pub(crate) fn spawn(command: &mut Command) -> Result<(Child, Pid)> {
    let line = command::describe(command);
    // Under the lock, so that a teardown either sees the child or prevents it.
    let mut registry = registry();
    if registry.closed {
        return Err(Error::TornDown);
    }
    let child = command.spawn().map_err(|source| Error::Spawn {
        command: line.clone(),
        source,
    })?;
    let pid = i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| Error::Spawn {
            command: line,
            source: io::Error::other("the kernel gave an impossible process id"),
        })?;
    registry.groups.push(pid);
    Ok((child, pid))
}

/// Kills what is left of a group whose leader has ended, and takes it off the list; the caller reaps the leader next.
pub(crate) fn close_group(pid: Pid) {
    let mut registry = registry();
    let _ = kill_process_group(pid, Signal::KILL);
    registry.groups.retain(|group| *group != pid);
}

/// Makes a namespace and lists it.
pub(crate) fn add_namespace(name: &str) -> Result<()> {
    let mut registry = registry();
    if registry.closed {
        return Err(Error::TornDown);
    }
    command::run(Command::new("ip").args(["netns", "add", name]))?;
    registry.namespaces.push(name.to_owned());
    Ok(())
}

/// Removes a namespace and takes it off the list.
pub(crate) fn remove_namespace(name: &str) {
    let removed = command::run(Command::new("ip").args(["netns", "del", name]));
    let mut registry = registry();
    if let (Err(error), false) = (removed, registry.closed) {
        eprintln!("lab: namespace {name} stays behind: {error}");
    }
    registry.namespaces.retain(|listed| listed != name);
}
