//! `gwlb`: the simulator as a program. One JSON report a line on standard output, the final one also to a file.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use clap::Parser;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::pipe;
use tidegate_gwlb::{Config, Direction, HealthConfig, ImpairConfig, Report, Simulator, Stickiness, Stop, TargetConfig};

/// A Gateway Load Balancer simulator: wraps what comes from the TUN devices in GENEVE, sends it to the targets, judges
/// what comes back, delivers it. SIGTERM or SIGINT: drains and reports. Exit 0 whatever the report says.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// TUN device with packets from source to sink
    #[arg(long, value_name = "NAME")]
    tun_forward: String,
    /// TUN device with packets from sink to source
    #[arg(long, value_name = "NAME")]
    tun_reverse: String,
    /// An appliance: if=IFACE,local=IP,ip=IP,mac=MAC (repeat for more)
    #[arg(long = "target", value_name = "TARGET", required = true)]
    targets: Vec<TargetConfig>,
    /// GWLB endpoint id of source to sink
    #[arg(long, value_name = "ID", value_parser = number)]
    endpoint: Option<u64>,
    /// GWLB endpoint id of sink to source
    #[arg(long, value_name = "ID", value_parser = number)]
    endpoint_reverse: Option<u64>,
    /// What keeps packets on one target
    #[arg(long, value_enum, default_value_t)]
    stickiness: Stickiness,
    /// Move flows away from a target that becomes unhealthy
    #[arg(long)]
    rebalance: bool,
    /// Poll this port over HTTP; without it every target counts as healthy
    #[arg(long, value_name = "PORT")]
    health_port: Option<u16>,
    /// Path of the health check
    #[arg(long, default_value = "/health")]
    health_path: String,
    /// From one health check to the next
    #[arg(long, default_value = "10s", value_parser = duration)]
    health_interval: Duration,
    /// A health check's time-out
    #[arg(long, default_value = "5s", value_parser = duration)]
    health_timeout: Duration,
    /// Passed checks in a row until healthy again
    #[arg(long, default_value_t = 5)]
    healthy_threshold: u32,
    /// Failed checks in a row until unhealthy
    #[arg(long, default_value_t = 2)]
    unhealthy_threshold: u32,
    /// Packets dropped before the load balancer, percent
    #[arg(long, default_value_t = 0.0, value_name = "PERCENT")]
    loss: f64,
    /// Packets overtaken by later ones, percent
    #[arg(long, default_value_t = 0.0, value_name = "PERCENT")]
    reorder: f64,
    /// How many packets overtake each of those
    #[arg(long, default_value_t = 1)]
    reorder_gap: u32,
    /// Packets sent twice, percent
    #[arg(long, default_value_t = 0.0, value_name = "PERCENT")]
    duplicate: f64,
    /// Delay of every packet, milliseconds
    #[arg(long, default_value_t = 0, value_name = "MS")]
    delay: u64,
    /// The same seed gives each flow the same fate
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Impair packets from sink to source too
    #[arg(long)]
    impair_both: bool,
    /// Impair only packets with this inner port (repeat for more)
    #[arg(long = "impair-port", value_name = "PORT")]
    impair_ports: Vec<u16>,
    /// Send no outer UDP checksum
    #[arg(long)]
    zero_udp_checksum: bool,
    /// After this time a packet that has not come back is missing
    #[arg(long, default_value = "1s", value_parser = duration)]
    timeout: Duration,
    /// Flows kept at most
    #[arg(long, default_value_t = 4096)]
    max_flows: usize,
    /// Capture the frames sent
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
    /// Frames captured at most
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    pcap_limit: u64,
    /// Print a report as one line of JSON at this interval
    #[arg(long, value_parser = duration)]
    interval: Option<Duration>,
    /// Write the final report here
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

impl Arguments {
    fn config(&self) -> Config {
        let mut config = Config::new(&self.tun_forward, &self.tun_reverse, self.targets.clone());
        let [forward, reverse] = config.endpoint;
        config.endpoint = [
            self.endpoint.unwrap_or(forward),
            self.endpoint_reverse.unwrap_or(reverse),
        ];
        config.stickiness = self.stickiness;
        config.rebalance = self.rebalance;
        config.health = self.health_port.map(|port| HealthConfig {
            port,
            path: self.health_path.clone(),
            interval: self.health_interval,
            timeout: self.health_timeout,
            healthy_threshold: self.healthy_threshold,
            unhealthy_threshold: self.unhealthy_threshold,
        });
        config.impair = ImpairConfig {
            loss: self.loss,
            reorder: self.reorder,
            reorder_gap: self.reorder_gap,
            duplicate: self.duplicate,
            delay: Duration::from_millis(self.delay),
            seed: self.seed,
            directions: if self.impair_both {
                Direction::ALL.to_vec()
            } else {
                vec![Direction::Forward]
            },
            ports: self.impair_ports.clone(),
        };
        config.zero_udp_checksum = self.zero_udp_checksum;
        config.return_timeout = self.timeout;
        config.max_flows = self.max_flows;
        config.pcap.clone_from(&self.pcap);
        config.pcap_limit = self.pcap_limit;
        config.interval = self.interval;
        config
    }
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gwlb: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("needs root: it opens TUN devices and packet sockets");
    }
    let stop = Stop::new().context("stop pipe")?;
    for signal in [SIGTERM, SIGINT] {
        pipe::register(signal, stop.writer().try_clone()?).context("signal handler")?;
    }
    let simulator = Simulator::new(arguments.config())?;
    eprintln!("gwlb: ready");
    let report = simulator.run(&stop, print)?;
    if arguments.interval.is_some() {
        print(&report);
    }
    let text = serde_json::to_string_pretty(&report)?;
    match &arguments.report {
        Some(path) => fs::write(path, text).with_context(|| format!("report {}", path.display())),
        None if arguments.interval.is_none() => {
            println!("{text}");
            Ok(())
        }
        None => Ok(()),
    }
}

/// One line. A reader that has gone away is no reason to end before the final report is written.
fn print(report: &Report) {
    if let Ok(line) = serde_json::to_string(report) {
        let _ = writeln!(io::stdout(), "{line}");
    }
}

/// Decimal, or hexadecimal with `0x`.
fn number(text: &str) -> anyhow::Result<u64> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| anyhow!("want a number, or 0x and hexadecimal digits"))
}

/// A number with `ms` or `s`.
fn duration(text: &str) -> anyhow::Result<Duration> {
    let (digits, unit) = match text.strip_suffix("ms") {
        Some(digits) => (digits, 1),
        None => (text.strip_suffix('s').unwrap_or(""), 1000),
    };
    let count: u64 = digits
        .parse()
        .map_err(|_| anyhow!("want a whole number with ms or s, such as 500ms"))?;
    Ok(Duration::from_millis(count.saturating_mul(unit)))
}
