//! What stands in the appliance's place: an XDP program of the lab, the kernel's NAT, the bare forwarder or Tidegate.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tidegate_lab::{Process, XdpPass};

use crate::cpu::{self, Memory};
use crate::http;
use crate::scenario::{SCENARIOS, Scenario, Subject};
use crate::stage::{APPLIANCE_CORE, APPLIANCE_INTERFACE, APPLIANCE_IP, LB_IP, Stage};
use crate::traffic::Program;

/// Longest wait for a program to be ready or to end.
const PATIENCE: Duration = Duration::from_secs(15);
/// Entries of each ring, for both programs alike: what rides out a core that is away for 30 ms at full rate.
const RING: &str = "32768";
/// Packet buffers, for both alike.
const FRAMES: u32 = 65_536;
/// Bytes of a packet buffer.
const FRAME_SIZE: u64 = 4096;
/// Lines of a log that an error quotes.
const QUOTED: usize = 15;

/// Where programs are found and files are left.
#[derive(Clone, Debug)]
pub struct Places {
    /// The folder of `tidegate` and `tidegate-forward`.
    pub programs: PathBuf,
    /// The folder for policies and logs.
    pub out: PathBuf,
}

impl Places {
    /// The log of the process that a scenario measures, which the next stage overwrites; `None` where there is no process.
    fn log(&self, subject: Subject) -> Option<PathBuf> {
        match subject {
            Subject::XdpDrop | Subject::XdpTx | Subject::Iptables => None,
            Subject::Forward => Some(self.out.join("forward.log")),
            Subject::Any | Subject::Inspect | Subject::Flood => Some(self.out.join("tidegate.log")),
        }
    }

    /// Where the log of a scenario's last failed measurement is kept.
    pub fn failed_log(&self, scenario: &Scenario) -> PathBuf {
        self.out.join(format!("failed-{}.log", scenario.name))
    }

    /// Removes the log of the stage before: a measurement that fails before its process starts must not keep another's.
    pub(crate) fn forget_log(&self, scenario: &Scenario) -> Result<()> {
        self.log(scenario.subject).map_or(Ok(()), |log| remove(&log))
    }

    /// Keeps the log of a measurement that failed.
    ///
    /// # Errors
    /// A log that can be read but not copied. That there is none is no error.
    pub(crate) fn keep_log(&self, scenario: &Scenario) -> Result<()> {
        let Some(log) = self.log(scenario.subject).filter(|log| log.is_file()) else {
            return Ok(());
        };
        let kept = self.failed_log(scenario);
        fs::copy(&log, &kept).with_context(|| format!("cannot keep {} as {}", log.display(), kept.display()))?;
        Ok(())
    }

    /// Removes what earlier runs kept of failures.
    ///
    /// # Errors
    /// A file that cannot be removed.
    pub fn forget_failures(&self) -> Result<()> {
        SCENARIOS
            .iter()
            .try_for_each(|scenario| remove(&self.failed_log(scenario)))
    }
}

/// Removes a file, if it is there.
fn remove(file: &Path) -> Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", file.display()))
        }
        _ => Ok(()),
    }
}

/// Something that packets can be sent through; ends when dropped.
pub struct Device {
    subject: Subject,
    process: Option<Process>,
    _program: Option<Program>,
    _pass: Option<XdpPass>,
}

/// Why something cannot be measured on this machine.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Lacking(pub(crate) String);

impl Device {
    /// Starts it and waits until it is ready. `policy` is Tidegate's, ignored by all others.
    ///
    /// # Errors
    /// [`Lacking`] inside, if this machine can never run it; else whatever failed, with the end of its log.
    pub fn start(subject: Subject, stage: &Stage, places: &Places, policy: &str) -> Result<Device> {
        let mut device = Device {
            subject,
            process: None,
            _program: None,
            _pass: None,
        };
        match subject {
            Subject::XdpDrop => device._program = Some(Program::drop_all(&stage.appliance, APPLIANCE_INTERFACE)?),
            Subject::XdpTx => device._program = Some(Program::reflect(&stage.appliance, APPLIANCE_INTERFACE)?),
            Subject::Forward => device.process = Some(forward(stage, places)?),
            Subject::Iptables => {
                // Frames that a program sends arrive only where a program receives them.
                device._pass = Some(XdpPass::attach(&stage.appliance, APPLIANCE_INTERFACE)?);
                hairpin(stage)?;
            }
            Subject::Any | Subject::Inspect | Subject::Flood => device.process = Some(tidegate(stage, places, policy)?),
        }
        Ok(device)
    }

    /// The process to account for, if the work is a process'.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// The process' memory, and what of it is packet buffers; `None` if there is no process.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn memory(&self) -> Result<Option<(Memory, u64)>> {
        let buffers = u64::from(FRAMES) * FRAME_SIZE;
        let memory = self.pid().map(cpu::memory).transpose()?;
        Ok(memory.map(|memory| (memory, buffers)))
    }

    /// Stops it.
    ///
    /// # Errors
    /// When it ended before it should, or does not end well: Tidegate exits with 1 if a packet or a frame is not accounted
    /// for.
    pub fn stop(mut self) -> Result<()> {
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        ensure!(
            process.is_running(),
            "{} ended by itself:\n{}",
            process.name(),
            tail(&process.log())
        );
        let status = process.stop(PATIENCE)?;
        if !status.success() {
            let name = process.name();
            let books = if self.subject == Subject::Forward {
                ""
            } else {
                " (not everything is accounted for)"
            };
            bail!("{name} ended with {status}{books}:\n{}", tail(&process.log()));
        }
        Ok(())
    }
}

fn forward(stage: &Stage, places: &Places) -> Result<Process> {
    let mut command = stage.appliance.command(places.programs.join("tidegate-forward"));
    command
        .args([
            "--interface",
            APPLIANCE_INTERFACE,
            "--wait",
            "spin",
            "--core",
            &APPLIANCE_CORE.to_string(),
        ])
        .args(["--ring-size", RING, "--frames", &FRAMES.to_string()]);
    let process = Process::spawn("tidegate-forward", command, &places.out.join("forward.log"))?;
    process.wait_until("the forwarder is ready", PATIENCE, || {
        process.log().starts_with("ready")
    })?;
    Ok(process)
}

fn tidegate(stage: &Stage, places: &Places, policy: &str) -> Result<Process> {
    let file = places.out.join("policy.toml");
    fs::write(&file, policy).with_context(|| format!("cannot write {}", file.display()))?;
    let mut command = stage.appliance.command(places.programs.join("tidegate"));
    command
        .args(["run", "--interface", APPLIANCE_INTERFACE, "--wait", "spin", "--policy"])
        .arg(&file);
    command.args([
        "--cores",
        &APPLIANCE_CORE.to_string(),
        "--ring-size",
        RING,
        "--frames",
        &FRAMES.to_string(),
    ]);
    command.args([
        "--health",
        &http::HEALTH.to_string(),
        "--admin",
        &http::ADMIN.to_string(),
    ]);
    command
        .arg("--pins")
        .arg(format!("/sys/fs/bpf/{}", stage.appliance.name()));
    let process = Process::spawn("tidegate", command, &places.out.join("tidegate.log"))?;
    let healthy = || http::get(&stage.appliance, http::HEALTH, "/health").is_ok_and(|(status, _)| status == 200);
    process.wait_until("Tidegate is healthy", PATIENCE, healthy)?;
    Ok(process)
}

/// What AWS's samples set up on a plain instance: destination and source NAT send GENEVE back to where it came from. Both
/// rules act on a connection's first packet; all others are translated by connection tracking alone.
fn hairpin(stage: &Stage) -> Result<()> {
    let (lb, own) = (LB_IP.to_string(), APPLIANCE_IP.to_string());
    for (key, value) in [
        ("ipv4/ip_forward", "1"),
        ("ipv4/conf/all/send_redirects", "0"),
        ("ipv4/conf/eth0/send_redirects", "0"),
        ("ipv4/conf/all/rp_filter", "0"),
        ("ipv4/conf/eth0/rp_filter", "0"),
    ] {
        stage.appliance.set_sysctl(key, value)?;
    }
    let there = format!("{lb}:6081");
    for rule in [
        [
            "PREROUTING",
            "-s",
            &lb,
            "-d",
            &own,
            "-i",
            APPLIANCE_INTERFACE,
            "-j",
            "DNAT",
            "--to-destination",
            &there,
        ]
        .as_slice(),
        [
            "POSTROUTING",
            "--dport",
            "6081",
            "-s",
            &lb,
            "-d",
            &lb,
            "-o",
            APPLIANCE_INTERFACE,
            "-j",
            "MASQUERADE",
        ]
        .as_slice(),
    ] {
        let mut command = stage.appliance.command("iptables");
        command.args(["-t", "nat", "-p", "udp", "-A"]).args(rule);
        run_or_lack(command)?;
    }
    Ok(())
}

/// Runs a tool that a machine may lack, or lack the kernel for.
fn run_or_lack(mut command: Command) -> Result<()> {
    match tidegate_lab::run(&mut command) {
        Ok(_) => Ok(()),
        Err(tidegate_lab::Error::Command { output, .. }) => {
            let first = output.lines().next().unwrap_or("no reason given");
            Err(Lacking(format!("iptables cannot make a NAT rule here: {first}")).into())
        }
        Err(error) => Err(error.into()),
    }
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines
        .get(lines.len().saturating_sub(QUOTED)..)
        .unwrap_or_default()
        .join("\n")
}

/// Whether the programs that these scenarios need are there.
///
/// # Errors
/// The name of one that is not.
pub fn programs_are_there(programs: &Path, scenarios: &[Scenario]) -> Result<()> {
    for scenario in scenarios {
        let name = match scenario.subject {
            Subject::XdpDrop | Subject::XdpTx | Subject::Iptables => continue,
            Subject::Forward => "tidegate-forward",
            Subject::Any | Subject::Inspect | Subject::Flood => "tidegate",
        };
        let program = programs.join(name);
        ensure!(
            program.is_file(),
            "no program {}: `cargo xtask bench` builds it",
            program.display()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_of_a_failure_outlives_the_stages_after_it() {
        let out = tempfile::tempdir().unwrap();
        let places = Places {
            programs: out.path().to_owned(),
            out: out.path().to_owned(),
        };
        let [inspect, any, drop_all] = ["inspect-50", "any", "xdp-drop"].map(|name| Scenario::named(name).unwrap());
        let kept = |scenario: &Scenario| fs::read_to_string(places.failed_log(scenario)).ok();
        fs::write(out.path().join("tidegate.log"), "why").unwrap();
        places.keep_log(&inspect).unwrap();
        // The next stage fails too, but before there is a log.
        places.forget_log(&any).unwrap();
        places.keep_log(&any).unwrap();
        places.keep_log(&drop_all).unwrap();
        assert_eq!(
            (kept(&inspect).as_deref(), kept(&any), kept(&drop_all)),
            (Some("why"), None, None)
        );
        places.forget_failures().unwrap();
        assert_eq!(kept(&inspect), None);
    }

    #[test]
    fn a_tail_is_the_end_and_no_more() {
        let log = (0..30).map(|number| number.to_string()).collect::<Vec<_>>().join("\n");
        assert!(tail(&log).starts_with("15\n") && tail(&log).ends_with("\n29"));
        assert_eq!(tail("one"), "one");
        assert_eq!(tail(""), "");
    }
}
