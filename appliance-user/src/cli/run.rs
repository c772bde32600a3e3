//! `tidegate run`: flags, defaults and what they mean.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, ValueEnum};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use thiserror::Error;

use super::EXIT_REFUSED;
use crate::control::appliance::Appliance;
use crate::control::events::Destination;
use crate::control::options::{CoreChoice, Options, QueueChoice};
use crate::control::pins;
use crate::control::program::XdpChoice;
use crate::io::BindMode;
use crate::policy::FailureAction;
use crate::worker;

/// Inspect and return the load balancer's traffic on one interface until told to stop.
///
/// Ends on SIGTERM and SIGINT: the program is detached, or left in place with --handover. Exits with 2, having changed nothing,
/// if something has to be put right first.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// The interface that the load balancer's packets arrive on
    #[arg(long, value_name = "IF")]
    pub interface: String,
    /// The policy file (TOML); `tidegate check FILE` shows what it compiles to
    #[arg(long, value_name = "FILE")]
    pub policy: PathBuf,
    /// Receive queues to serve: `all`, a count (the first N), or a list such as `0,2` or `4-7`
    #[arg(long, value_name = "QUEUES", default_value = "all")]
    pub queues: QueueChoice,
    /// Cores to pin the workers to, in the order of the queues: `auto` (those this process may use), `none`, or a list
    #[arg(long, value_name = "CORES", default_value = "auto")]
    pub cores: CoreChoice,
    /// Where the XDP program runs; `auto` tries the driver and falls back to the network stack
    #[arg(long, value_enum, default_value_t = XdpMode::Auto)]
    pub xdp_mode: XdpMode,
    /// How packets reach the rings; `auto` avoids the copy where the driver can and the link does not reset for it
    #[arg(long, value_enum, default_value_t = Bind::Auto)]
    pub bind: Bind,
    /// Bytes of a packet buffer
    #[arg(long, value_name = "BYTES", default_value_t = 4096, value_parser = parse_frame_size)]
    pub frame_size: u32,
    /// Packet buffers per queue: a ring's worth to receive into and half as many under way; by default 192 MiB of locked memory
    #[arg(long, value_name = "N", default_value_t = 49_152, value_parser = clap::value_parser!(u32).range(64..=1 << 20))]
    pub frames: u32,
    /// Entries of each ring; a power of two. Rings must ride out the moments in which a virtual processor is taken away: by
    /// default nearly 60 ms at 0.55 million packets a second
    #[arg(long, value_name = "N", default_value_t = 32_768, value_parser = parse_ring_size)]
    pub ring_size: u32,
    /// Packets a worker takes from its ring at once
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub batch: u32,
    /// What a worker does when its ring is empty: burn the core, burn it for a moment and then sleep, or sleep
    #[arg(long, value_enum, default_value_t = Wait::Adaptive)]
    pub wait: Wait,
    /// Let the kernel poll the driver on the worker's core, for this long at a time
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub busy_poll: Option<Duration>,
    /// Put the packet buffers on huge pages
    #[arg(long)]
    pub huge_pages: bool,
    /// What the kernel does with admitted packets while no worker is alive, unless their rule says otherwise
    #[arg(long, value_enum, default_value_t = OnFailure::Return)]
    pub on_failure: OnFailure,
    /// How long a worker may be silent before the kernel acts without it
    #[arg(long, value_name = "TIME", default_value = "80ms", value_parser = parse_heartbeat)]
    pub heartbeat: Duration,
    /// Address of /health, for the load balancer
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:80")]
    pub health: SocketAddr,
    /// Address of /metrics and /api/v1, for the operator
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9090")]
    pub admin: SocketAddr,
    /// Append events to this file as JSON lines; `-` is standard output
    #[arg(long, value_name = "FILE")]
    pub events: Option<PathBuf>,
    /// UDP port of GENEVE
    #[arg(long, value_name = "PORT", default_value_t = 6081, value_parser = clap::value_parser!(u16).range(1..))]
    pub geneve_port: u16,
    /// On stop leave program and maps in place for the next process; packets take the failure action meanwhile
    #[arg(long)]
    pub handover: bool,
    /// Directory on a bpffs for the pinned program and maps
    #[arg(long, value_name = "DIR", default_value = pins::DEFAULT_BASE)]
    pub pins: PathBuf,
}

/// Where the XDP program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum XdpMode {
    /// In the driver if it can, else in the network stack
    Auto,
    /// In the driver, or not at all
    Native,
    /// In the network stack
    Generic,
}

/// How packets get from the driver into the rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Bind {
    /// Without a copy where the driver can, except on ENA, whose link resets for it; else copy
    Auto,
    /// Without a copy, or not at all; ENA's link resets at start and stop
    ZeroCopy,
    /// Copy
    Copy,
}

/// What a worker does when there is nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Wait {
    /// Burn the core: lowest latency
    Spin,
    /// Burn the core for a moment, then sleep
    Adaptive,
    /// Sleep at once
    Sleep,
}

/// What happens to admitted packets while no worker is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnFailure {
    /// Back to the load balancer, uninspected
    Return,
    /// Dropped
    Drop,
    /// To the kernel's own stack
    Pass,
}

/// A flag's value that means nothing.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum FlagError {
    /// Not a number or a range.
    #[error("`{0}` is neither a number nor a range such as 4-7")]
    Item(String),
    /// Twice the same.
    #[error("{0} is listed twice")]
    Twice(u32),
    /// Nothing at all, or too much.
    #[error("a list has 1 to {MOST} entries")]
    Size,
    /// Not a length of time.
    #[error("`{0}` is not a time: write a number and its unit, such as 50us, 80ms or 2s")]
    Duration(String),
    /// Out of bounds.
    #[error("{0}")]
    Bounds(&'static str),
}

/// Entries a list may have.
const MOST: usize = 256;

impl RunArgs {
    fn options(self) -> Options {
        Options {
            interface: self.interface,
            policy: self.policy,
            queues: self.queues,
            cores: self.cores,
            xdp: match self.xdp_mode {
                XdpMode::Auto => XdpChoice::Auto,
                XdpMode::Native => XdpChoice::Native,
                XdpMode::Generic => XdpChoice::Generic,
            },
            bind: match self.bind {
                Bind::Auto => BindMode::Auto,
                Bind::ZeroCopy => BindMode::ZeroCopy,
                Bind::Copy => BindMode::Copy,
            },
            frame_size: self.frame_size,
            frames: self.frames,
            ring_size: self.ring_size,
            batch: self.batch as usize,
            wait: match self.wait {
                Wait::Spin => worker::Wait::Spin,
                Wait::Adaptive => worker::Wait::Adaptive,
                Wait::Sleep => worker::Wait::Sleep,
            },
            busy_poll: self.busy_poll,
            huge_pages: self.huge_pages,
            on_failure: match self.on_failure {
                OnFailure::Return => FailureAction::Return,
                OnFailure::Drop => FailureAction::Drop,
                OnFailure::Pass => FailureAction::Pass,
            },
            heartbeat: self.heartbeat,
            health: self.health,
            admin: self.admin,
            events: match self.events {
                None => Destination::None,
                Some(path) if path == Path::new("-") => Destination::Stdout,
                Some(path) => Destination::File(path),
            },
            geneve_port: self.geneve_port,
            handover: self.handover,
            pins: self.pins,
        }
    }
}

/// Runs until a signal: 0 after a clean stop, 1 if something could not be taken down or a packet or frame is not accounted
/// for, 2 if it could not start.
///
/// # Errors
/// Signals cannot be caught, or the summary cannot be written.
pub fn run(args: RunArgs) -> anyhow::Result<ExitCode> {
    super::log_to_stderr();
    // Caught before anything is attached, so that an early signal is not one that leaves things behind.
    let mut signals = Signals::new([SIGTERM, SIGINT]).context("cannot catch signals")?;
    let options = args.options();
    let stdout_is_taken = options.events == Destination::Stdout;
    let appliance = match Appliance::start(&options) {
        Ok(appliance) => appliance,
        Err(error) => {
            eprintln!("tidegate: {error}");
            return Ok(ExitCode::from(EXIT_REFUSED));
        }
    };
    tracing::info!(
        "serving {}; health on {}, metrics on {}",
        appliance.describe(),
        options.health,
        options.admin
    );
    let signal = signals.forever().next().unwrap_or(SIGTERM);
    let stopped = appliance.stop(signal_hook::low_level::signal_name(signal).unwrap_or("signal"));
    for fault in &stopped.faults {
        tracing::error!("{fault}");
    }
    // Lines of JSON and a table do not mix.
    if stdout_is_taken {
        eprint!("{}", stopped.summary);
    } else {
        use std::io::Write;
        let mut out = std::io::stdout().lock();
        write!(out, "{}", stopped.summary)
            .and_then(|()| out.flush())
            .context("cannot write the summary")?;
    }
    let accounted = stopped.summary.accounts_for_everything();
    if !accounted {
        eprintln!("tidegate: not every packet and every frame is accounted for; see the summary");
    }
    Ok(if stopped.faults.is_empty() && accounted {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

impl FromStr for QueueChoice {
    type Err = FlagError;

    fn from_str(text: &str) -> Result<Self, FlagError> {
        match (text, text.parse::<u32>()) {
            ("all", _) => Ok(QueueChoice::All),
            (_, Ok(count)) if count == 0 || count as usize > MOST => Err(FlagError::Size),
            (_, Ok(count)) => Ok(QueueChoice::First(count)),
            (list, Err(_)) => parse_list(list).map(QueueChoice::List),
        }
    }
}

impl FromStr for CoreChoice {
    type Err = FlagError;

    fn from_str(text: &str) -> Result<Self, FlagError> {
        match text {
            "auto" => Ok(CoreChoice::Auto),
            "none" => Ok(CoreChoice::None),
            list => Ok(CoreChoice::List(
                parse_list(list)?.into_iter().map(|core| core as usize).collect(),
            )),
        }
    }
}

/// Numbers and ranges, separated by commas; each number once.
fn parse_list(text: &str) -> Result<Vec<u32>, FlagError> {
    let mut list = Vec::new();
    for item in text.split(',') {
        let bad = || FlagError::Item(item.to_owned());
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        let first: u32 = first.trim().parse().map_err(|_| bad())?;
        let last: u32 = last.trim().parse().map_err(|_| bad())?;
        if last < first {
            return Err(bad());
        }
        for number in first..=last {
            if list.len() == MOST {
                return Err(FlagError::Size);
            }
            if list.contains(&number) {
                return Err(FlagError::Twice(number));
            }
            list.push(number);
        }
    }
    Ok(list)
}

fn parse_duration(text: &str) -> Result<Duration, FlagError> {
    let bad = || FlagError::Duration(text.to_owned());
    let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
    let (number, unit) = text.split_at(split);
    let number: u32 = number.parse().map_err(|_| bad())?;
    match unit {
        "us" => Ok(Duration::from_micros(number.into())),
        "ms" => Ok(Duration::from_millis(number.into())),
        "s" => Ok(Duration::from_secs(number.into())),
        _ => Err(bad()),
    }
}

fn parse_heartbeat(text: &str) -> Result<Duration, FlagError> {
    let heartbeat = parse_duration(text)?;
    if (Duration::from_millis(5)..=Duration::from_secs(10)).contains(&heartbeat) {
        return Ok(heartbeat);
    }
    Err(FlagError::Bounds(
        "a heartbeat is between 5ms, below which every hiccup of a virtual processor counts, and 10s",
    ))
}

fn parse_frame_size(text: &str) -> Result<u32, FlagError> {
    match text {
        "2048" => Ok(2048),
        "4096" => Ok(4096),
        _ => Err(FlagError::Bounds("the kernel takes buffers of 2048 or 4096 bytes")),
    }
}

fn parse_ring_size(text: &str) -> Result<u32, FlagError> {
    match text.parse::<u32>() {
        Ok(size) if size.is_power_of_two() && (64..=65_536).contains(&size) => Ok(size),
        _ => Err(FlagError::Bounds("a ring has a power of two of entries, 64 to 65536")),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        run: RunArgs,
    }

    fn parse(more: &[&str]) -> Result<RunArgs, clap::Error> {
        let base = ["tidegate", "--interface", "ens5", "--policy", "p.toml"];
        Command::try_parse_from(base.iter().chain(more)).map(|command| command.run)
    }

    #[test]
    fn defaults_are_the_contracts() {
        let run = parse(&[]).expect("enough");
        assert_eq!(run.queues, QueueChoice::All);
        assert_eq!(run.heartbeat, Duration::from_millis(80));
        assert_eq!(run.health.to_string(), "0.0.0.0:80");
        assert_eq!(run.admin.to_string(), "127.0.0.1:9090");
        assert_eq!(
            (run.on_failure, run.geneve_port, run.handover),
            (OnFailure::Return, 6081, false)
        );
        assert_eq!(run.pins, PathBuf::from("/sys/fs/bpf/tidegate"));
        // A ring holds what comes in 50 ms at 0.55 million packets a second, and the buffers of a queue take 192 MiB.
        assert!(run.ring_size >= 550_000 / 20 && run.frames > run.ring_size);
        assert_eq!(u64::from(run.frames) * u64::from(run.frame_size), 192 << 20);
    }

    #[test]
    fn queues_are_a_count_or_a_list() {
        assert_eq!("all".parse(), Ok(QueueChoice::All));
        assert_eq!("4".parse(), Ok(QueueChoice::First(4)));
        assert_eq!("0,2,4-6".parse(), Ok(QueueChoice::List(vec![0, 2, 4, 5, 6])));
        assert_eq!("3-3".parse(), Ok(QueueChoice::List(vec![3])));
        assert_eq!("0".parse::<QueueChoice>(), Err(FlagError::Size));
        assert_eq!("1,1".parse::<QueueChoice>(), Err(FlagError::Twice(1)));
        assert_eq!("0-4294967295".parse::<QueueChoice>(), Err(FlagError::Size));
        for bad in ["", "a", "5-2", "1,", "-1"] {
            assert!(bad.parse::<QueueChoice>().is_err(), "{bad}");
        }
    }

    #[test]
    fn times_need_a_unit_and_heartbeats_sane_bounds() {
        assert_eq!(parse_duration("50us"), Ok(Duration::from_micros(50)));
        assert_eq!(parse_duration("2s"), Ok(Duration::from_secs(2)));
        for bad in ["80", "ms", "1.5s", "-1s", "80 ms", "99999999999s"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
        assert!(parse_heartbeat("80ms").is_ok() && parse_heartbeat("4ms").is_err() && parse_heartbeat("11s").is_err());
    }

    #[test]
    fn what_the_kernel_cannot_take_is_refused_at_the_flag() {
        for bad in [
            ["--frame-size", "8192"],
            ["--ring-size", "1000"],
            ["--geneve-port", "0"],
            ["--wait", "often"],
            ["--budget", "5ms"],
        ] {
            assert!(parse(&bad).is_err(), "{bad:?}");
        }
        let run = parse(&["--cores", "2,3", "--xdp-mode", "generic", "--events", "-"]).expect("meaningful");
        assert_eq!(run.cores, CoreChoice::List(vec![2, 3]));
        assert_eq!(run.xdp_mode, XdpMode::Generic);
    }
}
